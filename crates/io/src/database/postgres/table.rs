//! One table of a backup that the live database does not have any more: made again with its sequences, keys, indexes,
//! triggers, policies and grants, and filled; all in one transaction.

use std::collections::BTreeSet;

use lifeboat_model::{PostgresFacts, postgres::PgTableFacts};

use super::{
    PgError, Session, Sources,
    archive::{SchemaEntry, Section},
    catalog::copy_target,
    digest::RowDigest,
    restore::{about, make_as},
    rows::digest_of,
    schedule::is_grant,
    sql::literal,
    subset::{Catalog, belongs_to_a_table, is_of, title_of},
    workers::Digested,
};

/// A table that is to be made again.
pub struct MakeTable<'a> {
    /// The table, as the manifest calls it.
    pub title: &'a str,
    /// What was captured.
    pub facts: &'a PostgresFacts,
    /// Its definitions.
    pub entries: &'a [SchemaEntry],
    /// Only rows for which this is true; all when there is none.
    pub condition: Option<&'a str>,
}

/// What is in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    /// Its rows.
    pub rows: u64,
    /// Their digest, in whatever order.
    pub digest: String,
}

/// A table that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeTable {
    /// What is in it.
    pub state: TableState,
    /// What could not come along, one sentence each.
    pub notes: Vec<String>,
}

/// Whether there is a table, view, ... of that name.
///
/// # Errors
/// As [`Session::run`].
pub fn table_exists(session: &mut Session, title: &str) -> Result<bool, PgError> {
    let sql = format!("SELECT pg_catalog.to_regclass({}) IS NOT NULL", literal(title));
    Ok(session.value(&sql)? == "t")
}

/// Makes the table again. One that is there already, with the very rows, was made before: nothing happens.
///
/// # Errors
/// [`PgError::Preflight`] when there is another one of that name; [`PgError::Damaged`] when the rows are not those that were
/// captured; the server's refusals. Nothing was made then.
pub fn make_table(session: &mut Session, what: &MakeTable<'_>, sources: &dyn Sources) -> Result<MadeTable, PgError> {
    let refused = |found: String, hint: &str| PgError::Preflight { found, hint: hint.into() };
    let table = what
        .facts
        .tables
        .get(what.title)
        .ok_or_else(|| refused(format!("the backup has no table {}", what.title), "name another one"))?;
    session.transaction("BEGIN", |session| {
        session.run(
            "SET LOCAL check_function_bodies = off; SET LOCAL xmloption = content; SET LOCAL lock_timeout = '10s'",
        )?;
        if table_exists(session, what.title)? {
            let state = state_of(session, what.title, table)?;
            session.run(&format!("CREATE TEMPORARY TABLE lifeboat_again (LIKE {}) ON COMMIT DROP", what.title))?;
            let wanted = fill(session, what, "pg_temp.lifeboat_again", table, sources)?;
            return match state == wanted {
                true => Ok(MadeTable { state, notes: Vec::new() }),
                false => {
                    let found = format!("there is a table {} by now", what.title);
                    Err(refused(found, "plan it again: what it lacks is inserted then"))
                }
            };
        }
        let parts = Parts::of(session, what)?;
        let mut made = MadeTable { notes: parts.notes.clone(), ..MadeTable::default() };
        for entry in parts.of_section(what, Section::PreData) {
            parts.make(session, entry, &mut made.notes)?;
        }
        made.state = fill(session, what, what.title, table, sources)?;
        for title in &parts.sequences {
            stand(session, what, title)?;
        }
        let (last, first): (Vec<&SchemaEntry>, Vec<&SchemaEntry>) =
            parts.of_section(what, Section::PostData).partition(|entry| comes_last(entry));
        for entry in first.into_iter().chain(last) {
            parts.make(session, entry, &mut made.notes)?;
        }
        session.run(&format!("ANALYZE {}", what.title))?;
        Ok(made)
    })
}

/// Grants and comments wait for the end.
fn comes_last(entry: &SchemaEntry) -> bool {
    is_grant(entry) || matches!(entry.kind.as_str(), "COMMENT" | "SECURITY LABEL")
}

/// What belongs to a table, and what it needs.
struct Parts {
    /// Places of definitions that are its own.
    own: BTreeSet<i64>,
    /// Of others that it needs, which may be there.
    support: BTreeSet<i64>,
    sequences: Vec<String>,
    notes: Vec<String>,
}

impl Parts {
    fn of(session: &mut Session, what: &MakeTable<'_>) -> Result<Parts, PgError> {
        let catalog = Catalog::new(what.entries);
        let is_it = |entry: &&SchemaEntry| entry.kind == "TABLE" && title_of(entry) == what.title;
        let chosen: BTreeSet<i64> = what.entries.iter().filter(is_it).map(|entry| entry.id).collect();
        let mut parts =
            Parts { own: chosen.clone(), support: BTreeSet::new(), sequences: Vec::new(), notes: Vec::new() };
        let mut needs = catalog.needed_by(chosen.iter().copied());
        for entry in what.entries.iter().filter(|entry| belongs_to_a_table(&entry.kind)) {
            if !is_of(&catalog, entry, &chosen) {
                continue;
            }
            let needed = catalog.needed_by([entry.id]);
            let others = needed.iter().filter(|id| !chosen.contains(id)).filter_map(|id| catalog.get(*id));
            let mut missing = Vec::new();
            for other in others.filter(|other| other.kind == "TABLE") {
                if !table_exists(session, &title_of(other))? {
                    missing.push(title_of(other));
                }
            }
            if missing.is_empty() {
                parts.own.insert(entry.id);
                needs.extend(needed);
            } else if entry.kind != "INDEX ATTACH" {
                let (kind, tag) = (entry.kind.to_lowercase(), &entry.tag);
                parts
                    .notes
                    .push(format!("The {kind} {tag} needs {}, which is gone too: left out.", missing.join(", ")));
            }
        }
        for entry in what.entries.iter().filter(|entry| comes_last(entry)) {
            if entry.needs.iter().any(|id| parts.own.contains(id)) {
                parts.own.insert(entry.id);
            }
        }
        // What belongs to other tables is there with them.
        let is_others = |id: &i64| {
            let kind = catalog.get(*id).map_or("", |entry| entry.kind.as_str());
            kind == "TABLE" || (belongs_to_a_table(kind) && kind != "SEQUENCE")
        };
        parts.support = needs.into_iter().filter(|id| !parts.own.contains(id) && !is_others(id)).collect();
        parts.tell_who_pointed_to_it(&catalog, &chosen);
        let all = parts.own.iter().chain(&parts.support).filter_map(|id| catalog.get(*id));
        let sequences = all.filter(|entry| entry.kind == "SEQUENCE").map(title_of);
        parts.sequences = sequences.filter(|title| what.facts.sequences.contains_key(title)).collect();
        Ok(parts)
    }

    /// What went along with the table when it was dropped is somebody else's, and a person's to decide.
    fn tell_who_pointed_to_it(&mut self, catalog: &Catalog<'_>, chosen: &BTreeSet<i64>) {
        for entry in catalog.entries {
            let points = entry.needs.iter().any(|id| chosen.contains(id)) && !self.own.contains(&entry.id);
            if points && matches!(entry.kind.as_str(), "FK CONSTRAINT" | "VIEW" | "MATERIALIZED VIEW" | "RULE") {
                let (kind, tag) = (entry.kind.to_lowercase(), &entry.tag);
                self.notes.push(format!("The {kind} {tag} of the backup points to it, and is not made again."));
            }
        }
    }

    fn of_section<'a>(
        &'a self,
        what: &'a MakeTable<'_>,
        section: Section,
    ) -> impl Iterator<Item = &'a SchemaEntry> + 'a {
        let is_meant = |entry: &SchemaEntry| self.own.contains(&entry.id) || self.support.contains(&entry.id);
        let of = move |entry: &&SchemaEntry| match section {
            Section::PreData => entry.section == Section::PreData && !comes_last(entry),
            _after => entry.section != Section::PreData || comes_last(entry),
        };
        what.entries.iter().filter(move |entry| is_meant(entry)).filter(of)
    }

    fn make(&self, session: &mut Session, entry: &SchemaEntry, notes: &mut Vec<String>) -> Result<(), PgError> {
        session.run("SAVEPOINT lifeboat_make")?;
        let error = match make_as(session, entry, true) {
            Ok(()) => return session.run("RELEASE SAVEPOINT lifeboat_make"),
            Err(error) => error,
        };
        session.run("ROLLBACK TO SAVEPOINT lifeboat_make")?;
        let (kind, tag) = (entry.kind.to_lowercase(), &entry.tag);
        match error.code() {
            // What it needs is there.
            Some("42710" | "42P07" | "42723" | "42P06") if self.support.contains(&entry.id) => Ok(()),
            // Not ours to give away, or to grant.
            Some("42501" | "42704") if is_grant(entry) => {
                notes.push(format!("{kind} {tag} could not be given: {error}"));
                Ok(())
            }
            Some("42501" | "42704") => {
                make_as(session, entry, false)?;
                notes.push(format!("{kind} {tag} belongs to this role: {} is not here, or not ours.", entry.owner));
                Ok(())
            }
            // Rows refer to rows that are gone: the key holds for what comes from now on, and says so.
            Some("23503") if entry.kind == "FK CONSTRAINT" => {
                let sql = entry.sql.trim_end().trim_end_matches(';');
                session.run(&format!("{sql} NOT VALID"))?;
                notes.push(format!("The foreign key {tag} is not valid: {error}"));
                Ok(())
            }
            _other => Err(error),
        }
    }
}

/// Its rows; their digest must be the manifest's.
fn fill(
    session: &mut Session,
    what: &MakeTable<'_>,
    title: &str,
    table: &PgTableFacts,
    sources: &dyn Sources,
) -> Result<TableState, PgError> {
    let sql = format!("COPY {} FROM STDIN", copy_target(title, &table.columns));
    let mut digest = RowDigest::default();
    for part in table.parts.iter().filter(|part| part.rows > 0) {
        let path = &part.path;
        let source = sources.open(path).map_err(|source| PgError::Ours { doing: format!("read {path}"), source })?;
        let mut digested = Digested { source, digest: &mut digest };
        session.copy_in(&sql, &mut digested, &|_| ()).map_err(|error| about(error, &format!("load {path}")))?;
    }
    let found = digest.facts();
    if (found.rows, &found.digest) != (table.rows.rows, &table.rows.digest) {
        let found = format!("{} rows, and {} were captured, or not the same", found.rows, table.rows.rows);
        return Err(PgError::Damaged { what: format!("the backup of {title}"), found });
    }
    if let Some(condition) = what.condition {
        // On a line of its own, so that a comment at its end hides nothing.
        session.run(&format!("DELETE FROM ONLY {title} WHERE (({condition}\n)) IS NOT TRUE"))?;
    }
    state_of(session, title, table)
}

fn state_of(session: &mut Session, title: &str, table: &PgTableFacts) -> Result<TableState, PgError> {
    let found = digest_of(session, title, table)?;
    Ok(TableState { rows: found.rows, digest: found.digest })
}

/// A sequence stands where it stood, or further on where it is.
fn stand(session: &mut Session, what: &MakeTable<'_>, title: &str) -> Result<(), PgError> {
    let Some(at) = what.facts.sequences.get(title) else { return Ok(()) };
    session.run(&format!(
        "SELECT pg_catalog.setval({name}, {last}, {called}) FROM {title} q
          WHERE NOT q.is_called OR q.last_value < {last}",
        name = literal(title),
        last = at.last_value,
        called = at.is_called,
    ))
}

/// Drops a table that was made again; only while it holds what it was made with, where that is told, and nothing else
/// depends on it. Nothing happens when there is none.
///
/// # Errors
/// [`PgError::Preflight`] when somebody has written to it; [`PgError::Refused`] when something depends on it.
pub fn drop_table(
    session: &mut Session,
    title: &str,
    facts: &PgTableFacts,
    made: Option<&TableState>,
) -> Result<(), PgError> {
    session.transaction("BEGIN", |session| {
        session.run("SET LOCAL lock_timeout = '10s'")?;
        if !table_exists(session, title)? {
            return Ok(());
        }
        session.run(&format!("LOCK TABLE ONLY {title} IN ACCESS EXCLUSIVE MODE"))?;
        let now = made.map(|_| state_of(session, title, facts)).transpose()?;
        if now.as_ref() != made {
            let found = format!("{title} was written to since it was made, and dropping it would lose that");
            let hint = format!("keep it, or drop it by hand: DROP TABLE {title}");
            return Err(PgError::Preflight { found, hint });
        }
        session.run(&format!("DROP TABLE {title}"))
    })
}
