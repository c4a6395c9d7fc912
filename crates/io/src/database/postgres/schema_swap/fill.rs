//! New schemas, made and filled in the transaction that will put them in their place.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        PgError, Session,
        archive::{SchemaEntry, Section},
        catalog::{self, copy_target},
        digest::RowDigest,
        fingerprint,
        restore::{Sources, about, make_as},
        rows::digest_of,
        schedule::{build_costs, is_grant},
        sql::{literal, literals, plain, quoted},
        workers::{Digested, build_mb, build_mb_max},
    },
    SchemaSwap, SchemasSwapped,
    kept::{Kept, comment_of},
    refused, types,
};

/// What came over from the old schemas.
#[derive(Default)]
pub(super) struct Moved {
    pub types: usize,
    /// The publications that the old tables were in.
    pub publications: Vec<Membership>,
}

/// A table, or a whole schema, in a publication.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    pub publication: String,
    schema: String,
    /// The table, as SQL calls it; nothing for a whole schema.
    table: Option<String>,
    /// The statement that puts it there.
    pub add: String,
}

impl Membership {
    fn remove(&self) -> String {
        match &self.table {
            Some(table) => format!("ALTER PUBLICATION {} DROP TABLE ONLY {table}", quoted(&self.publication)),
            None => format!(
                "ALTER PUBLICATION {} DROP TABLES IN SCHEMA {}",
                quoted(&self.publication),
                quoted(&self.schema)
            ),
        }
    }
}

/// Which publications name tables of these schemas, or the schemas themselves.
pub(super) fn memberships(session: &mut Session, schemas: &[&str]) -> Result<Vec<Membership>, PgError> {
    let names = literals(schemas.iter().copied());
    let details = match session.major() {
        ..15 => "''",
        _ => {
            "COALESCE(' (' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n) FROM unnest(r.prattrs::int2[]) WITH ORDINALITY k(num, n)
                JOIN pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = k.num) || ')', '') || COALESCE(' WHERE ' || pg_get_expr(r.prqual, r.prrelid), '')"
        }
    };
    let mut sql = format!(
        "SELECT p.pubname, n.nspname, quote_ident(n.nspname) || '.' || quote_ident(c.relname), {details}
           FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid
           JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ({names})"
    );
    if session.major() >= 15 {
        sql += &format!(
            " UNION ALL SELECT p.pubname, n.nspname, NULL, '' FROM pg_publication_namespace r JOIN pg_publication p ON p.oid = r.pnpubid
                JOIN pg_namespace n ON n.oid = r.pnnspid WHERE n.nspname IN ({names})"
        );
    }
    let rows = session.ask(&format!("{sql} ORDER BY 1, 2, 3"))?;
    let membership = |row: &super::super::Row| {
        let (publication, schema, table) =
            (row.text(0).to_owned(), row.text(1).to_owned(), row.maybe(2).filter(|text| !text.is_empty()));
        let add = match &table {
            Some(table) => format!("ALTER PUBLICATION {} ADD TABLE ONLY {table}{}", quoted(&publication), row.text(3)),
            None => format!("ALTER PUBLICATION {} ADD TABLES IN SCHEMA {}", quoted(&publication), quoted(&schema)),
        };
        Membership { publication, schema, table, add }
    };
    Ok(rows.iter().map(membership).collect())
}

/// Takes the tables of schemas out of all publications.
pub(super) fn leave_publications(session: &mut Session, schemas: &[&str]) -> Result<(), PgError> {
    memberships(session, schemas)?.iter().try_for_each(|one| session.run(&one.remove()))
}

/// Gives the present schemas their other names, and makes and fills new ones.
pub(super) fn make_and_fill(
    session: &mut Session,
    what: &SchemaSwap<'_>,
    sources: &dyn Sources,
    done: &mut SchemasSwapped,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<Moved, PgError> {
    let live = super::live_names(what.names);
    let mut moved = Moved { types: 0, publications: memberships(session, &live)? };
    let extensions = extensions_in(session, &live)?;
    let mut kept = BTreeMap::new();
    for names in what.names {
        let schema = &names.live;
        if let Some(other) = &names.kept {
            let comment = comment_of(session, schema)?;
            let publications =
                moved.publications.iter().filter(|one| &one.schema == schema).map(|one| one.add.clone()).collect();
            kept.insert(schema.as_str(), Kept { live: schema.clone(), comment, types: Vec::new(), publications });
            session.run(&format!("ALTER SCHEMA {} RENAME TO {}", quoted(schema), quoted(other)))?;
        }
        make_schema(session, what, schema)?;
    }
    move_extensions(session, &extensions)?;
    make_missing_extensions(session, what)?;
    for entry in
        what.entries.iter().filter(|entry| entry.section == Section::PreData && what.takes(entry) && !is_grant(entry))
    {
        let old = what.names.iter().find(|names| names.live == entry.schema).and_then(|names| names.kept.as_deref());
        match (entry.kind.as_str(), types::is_type(entry)) {
            ("SCHEMA" | "EXTENSION", _) => {}
            (_, true) if types::make_or_move(session, entry, old)? => {
                moved.types += 1;
                kept.entry(entry.schema.as_str()).and_modify(|kept| kept.types.push(entry.tag.clone()));
            }
            (_, true) => {}
            (_, false) => make_as(session, entry, true)?,
        }
    }
    refuse_columns_of_changed_types(session, what)?;
    done.rows = fill(session, what, sources, progress)?;
    let costs = build_costs(what.entries, what.facts);
    let most = build_mb_max(session)?;
    let mut memory_mb = most;
    for entry in what.entries.iter().filter(|entry| entry.section == Section::PostData && what.takes(entry)) {
        let later = is_grant(entry) || is_matview_data(entry) || is_late(what, entry);
        if !later {
            // One process sorts: several only help where a core would have nothing else to do.
            let wanted = costs.get(&entry.id).map_or(most, |cost| build_mb(*cost, 0, most));
            if wanted != memory_mb {
                session.run(&format!("SET maintenance_work_mem = '{wanted}MB'"))?;
                memory_mb = wanted;
            }
            make_as(session, entry, true)?;
        }
    }
    session.run(&format!("SET maintenance_work_mem = '{most}MB'"))?;
    grants(session, what, done)?;
    for entry in what.entries.iter().filter(|entry| what.takes(entry) && is_matview_data(entry)) {
        make_as(session, entry, true)?;
    }
    what.tables().try_for_each(|(title, _)| session.run(&format!("ANALYZE {title}")))?;
    for names in what.names {
        if let (Some(other), Some(kept)) = (&names.kept, kept.get(names.live.as_str())) {
            kept.write(session, other)?;
        }
    }
    Ok(moved)
}

fn is_matview_data(entry: &SchemaEntry) -> bool {
    entry.kind == "MATERIALIZED VIEW DATA"
}

/// What must wait for the end: keys to tables elsewhere, which hold back their writers from then on, and publications;
/// and what needs one of these.
fn is_late(what: &SchemaSwap<'_>, entry: &SchemaEntry) -> bool {
    let outside = |entry: &SchemaEntry| {
        let target = entry.sql.rsplit_once(" REFERENCES ").map(|(_, target)| target);
        let inside =
            |target: &str| what.names.iter().any(|names| target.starts_with(&format!("{}.", plain(&names.live))));
        entry.kind == "FK CONSTRAINT" && target.is_none_or(|target| !inside(target))
    };
    let late = |entry: &SchemaEntry| outside(entry) || entry.kind.starts_with("PUBLICATION TABLE");
    let needs_late = |id: &i64| what.entries.iter().any(|other| other.id == *id && what.takes(other) && late(other));
    late(entry) || (entry.section == Section::PostData && entry.kind == "COMMENT" && entry.needs.iter().any(needs_late))
}

/// What waits for the end: keys to elsewhere, and publications. The old tables leave those; the new ones are in those
/// that the backup says, and in those that the backup does not know, as the old ones were.
pub(super) fn late(session: &mut Session, what: &SchemaSwap<'_>, publications: &[Membership]) -> Result<(), PgError> {
    let missing_parent = |error: PgError, entry: &SchemaEntry| match error.code() {
        Some("23503") => PgError::Preflight {
            found: format!("rows of the backup refer to rows elsewhere that are gone: {error}"),
            hint: format!("bring those back, or restore by a rename: {} {}", entry.kind, entry.tag),
        },
        _ => error,
    };
    let kept = super::kept_names(what.names);
    leave_publications(session, &kept)?;
    let there = session.ask("SELECT pubname FROM pg_catalog.pg_publication")?;
    let mut there: BTreeSet<String> = there.iter().map(|row| row.text(0).to_owned()).collect();
    for entry in what
        .entries
        .iter()
        .filter(|entry| entry.section == Section::PostData && what.takes(entry) && is_late(what, entry))
    {
        for publication in
            what.entries.iter().filter(|other| other.kind == "PUBLICATION" && entry.needs.contains(&other.id))
        {
            if there.insert(publication.tag.clone()) {
                make_as(session, publication, true)?;
            }
        }
        make_as(session, entry, true).map_err(|error| missing_parent(error, entry))?;
    }
    let known = |one: &&Membership| {
        what.entries.iter().any(|entry| entry.kind == "PUBLICATION" && entry.tag == one.publication)
    };
    for one in publications.iter().filter(|one| !known(one)) {
        let exists = match &one.table {
            Some(table) => {
                session.value(&format!("SELECT pg_catalog.to_regclass({}) IS NOT NULL", literal(table)))? == "t"
            }
            None => true,
        };
        if exists {
            session.run(&one.add)?;
        }
    }
    Ok(())
}

fn make_schema(session: &mut Session, what: &SchemaSwap<'_>, schema: &str) -> Result<(), PgError> {
    session.run(&format!("CREATE SCHEMA {}", quoted(schema)))?;
    if schema == "public" {
        // All of its grants, PUBLIC's too: `pg_dump` tells only what differs from a new cluster's.
        return catalog::lines_of(&what.facts.public_schema, schema).try_for_each(|line| session.run(line));
    }
    let entry = what.entries.iter().find(|entry| entry.kind == "SCHEMA" && entry.tag == schema);
    entry.map_or(Ok(()), |entry| session.run(&entry.owner_sql))
}

/// Extensions in these schemas: name, schema.
pub(super) fn extensions_in(session: &mut Session, schemas: &[&str]) -> Result<Vec<(String, String)>, PgError> {
    let rows = session.ask(&format!(
        "SELECT e.extname, n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
          WHERE n.nspname IN ({}) ORDER BY 1",
        literals(schemas.iter().copied())
    ))?;
    Ok(rows.iter().map(|row| (row.text(0).to_owned(), row.text(1).to_owned())).collect())
}

/// Moves extensions, whose functions old and new definitions name alike, to the schemas of these names.
pub(super) fn move_extensions(session: &mut Session, extensions: &[(String, String)]) -> Result<(), PgError> {
    extensions
        .iter()
        .try_for_each(|(name, to)| session.run(&format!("ALTER EXTENSION {} SET SCHEMA {}", quoted(name), quoted(to))))
}

/// An extension that was there at the backup and is not now.
fn make_missing_extensions(session: &mut Session, what: &SchemaSwap<'_>) -> Result<(), PgError> {
    let there = session.ask("SELECT extname FROM pg_catalog.pg_extension")?;
    let missing = |entry: &&SchemaEntry| entry.kind == "EXTENSION" && !there.iter().any(|row| row.text(0) == entry.tag);
    what.entries.iter().filter(missing).try_for_each(|entry| make_as(session, entry, false))
}

/// A column elsewhere whose type is another now cannot be pointed to it.
fn refuse_columns_of_changed_types(session: &mut Session, what: &SchemaSwap<'_>) -> Result<(), PgError> {
    let left = super::depends::dependents(session, &super::kept_names(what.names))?;
    match left.iter().find(|one| one.target_class == "pg_type") {
        None => Ok(()),
        Some(one) => refused(
            format!(
                "the backup defines {} otherwise than it is now, and {} would keep the old one",
                one.target, one.what
            ),
            "restore by a rename instead: swap = \"rename\" in lifeboat.toml, or into another database with --into",
        ),
    }
}

/// The rows of all tables; each digest must be the manifest's.
fn fill(
    session: &mut Session,
    what: &SchemaSwap<'_>,
    sources: &dyn Sources,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<u64, PgError> {
    let total = what.tables().map(|(_, table)| table.disk_bytes).sum();
    let (mut rows, mut bytes) = (0, 0);
    for (title, table) in what.tables() {
        let sql = format!("COPY {} FROM STDIN (FREEZE)", copy_target(title, &table.columns));
        let mut digest = RowDigest::default();
        for part in table.parts.iter().filter(|part| part.rows > 0) {
            let path = &part.path;
            let source =
                sources.open(path).map_err(|source| PgError::Ours { doing: format!("read {path}"), source })?;
            let mut digested = Digested { source, digest: &mut digest };
            session.copy_in(&sql, &mut digested, &|_| ()).map_err(|error| about(error, &format!("load {path}")))?;
        }
        let found = digest.facts();
        if (found.rows, &found.digest) != (table.rows.rows, &table.rows.digest) {
            let found = format!(
                "{} rows with digest {}, and {} with {} were captured",
                found.rows, found.digest, table.rows.rows, table.rows.digest
            );
            return Err(PgError::Damaged { what: format!("the backup of {title}"), found });
        }
        rows += found.rows;
        bytes += table.disk_bytes;
        progress(bytes, Some(total));
    }
    let heads: Vec<String> = what.names.iter().map(|names| format!("{}.", plain(&names.live))).collect();
    let mine =
        what.facts.sequences.iter().filter(|(title, _)| heads.iter().any(|head| title.starts_with(head.as_str())));
    let all: Vec<String> = mine
        .map(|(title, at)| format!("pg_catalog.setval({}, {}, {})", literal(title), at.last_value, at.is_called))
        .collect();
    all.chunks(200).try_for_each(|some| session.run(&format!("SELECT {}", some.join(", "))))?;
    Ok(rows)
}

/// Grants. Default privileges of a role that is not ours are told: they were the old schema's, and stay with it.
fn grants(session: &mut Session, what: &SchemaSwap<'_>, done: &mut SchemasSwapped) -> Result<(), PgError> {
    for entry in what.entries.iter().filter(|entry| what.takes(entry) && is_grant(entry)) {
        // Those of schema `public` were given in full.
        if entry.tag == "SCHEMA public" && entry.kind == "ACL" {
            continue;
        }
        session.run("SAVEPOINT lifeboat_grant")?;
        match make_as(session, entry, true) {
            Ok(()) => session.run("RELEASE SAVEPOINT lifeboat_grant")?,
            Err(error) if entry.kind == "DEFAULT ACL" && error.code() == Some("42501") => {
                session.run("ROLLBACK TO SAVEPOINT lifeboat_grant")?;
                done.notes.push(format!("a superuser has to run: {}", entry.sql.trim().replace('\n', " ")));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads back what was made, and compares it with the manifest: rows and digest of each table, and every definition but
/// the keys that are made last.
pub(super) fn compare(session: &mut Session, what: &SchemaSwap<'_>, done: &mut SchemasSwapped) -> Result<(), PgError> {
    for (title, table) in what.tables() {
        let found = digest_of(session, title, table)?;
        if (found.rows, &found.digest) != (table.rows.rows, &table.rows.digest) {
            let found = format!("{} rows, and {} were captured", found.rows, table.rows.rows);
            return Err(PgError::Damaged { what: format!("what came out of the backup of {title}"), found });
        }
    }
    let told_grants = !done.notes.is_empty();
    let takes = |kind: &str| kind != "constraint" && !(told_grants && kind == "default acl");
    if let Some(note) = compare_definitions(session, what, &takes)? {
        done.notes.push(note);
    }
    Ok(())
}

/// The same for constraints, when all are there.
pub(super) fn compare_constraints(session: &mut Session, what: &SchemaSwap<'_>) -> Result<(), PgError> {
    compare_definitions(session, what, &|kind| kind == "constraint").map(drop)
}

fn compare_definitions(
    session: &mut Session,
    what: &SchemaSwap<'_>,
    takes: &dyn Fn(&str) -> bool,
) -> Result<Option<String>, PgError> {
    for names in what.names {
        let Some(captured) = what.facts.by_schema.get(&names.live) else {
            return Ok(Some("Definitions were compared in the scratch database only: the backup is older than their comparison by schema.".into()));
        };
        let found = fingerprint::of_schema(session, &names.live, takes)?;
        let kinds: BTreeSet<&String> = captured.keys().chain(found.keys()).filter(|kind| takes(kind)).collect();
        if let Some(kind) = kinds.into_iter().find(|kind| captured.get(*kind) != found.get(*kind)) {
            let count = |all: &BTreeMap<String, _>| {
                all.get(kind).map_or(0, |facts: &lifeboat_model::postgres::KindFacts| facts.count)
            };
            let found =
                format!("{} of kind {kind}, and {} were captured, or not alike", count(&found), count(captured));
            return Err(PgError::Damaged { what: format!("what was made of schema {}", names.live), found });
        }
    }
    Ok(None)
}
