//! Whether a database is good, and whether it is the one that was captured. What could not be looked at is unknown,
//! which is no pass.

use std::{collections::BTreeMap, time::Duration};

use lifeboat_model::{Check, PostgresFacts, Tri, postgres::KindFacts};

use super::{PgError, Session, sql::plain};

/// Compares what is in a database with what was captured: rows and digests of each table, definitions of each kind,
/// sequences, large objects, migrations. Owners and grants are left out where a copy was made without them.
pub fn compare_facts(captured: &PostgresFacts, found: &PostgresFacts, with_grants: bool) -> Vec<Check> {
    let mut checks: Vec<Check> = captured
        .tables
        .iter()
        .map(|(name, was)| {
            let (outcome, detail) = match found.tables.get(name) {
                None => (Tri::Fail, "it is missing".to_owned()),
                Some(is) if is.rows.rows != was.rows.rows => {
                    (Tri::Fail, format!("{} rows, and {} were captured", is.rows.rows, was.rows.rows))
                }
                Some(is) if is.rows.digest != was.rows.digest => {
                    (Tri::Fail, format!("{} rows, as captured, but not the same ones", is.rows.rows))
                }
                Some(is) => (Tri::Pass, format!("{} rows, as captured", is.rows.rows)),
            };
            Check::new(format!("rows of {name}"), outcome, detail)
        })
        .collect();
    let more: Vec<&String> = found.tables.keys().filter(|name| !captured.tables.contains_key(*name)).collect();
    if !more.is_empty() {
        let names: Vec<&str> = more.iter().map(|name| name.as_str()).collect();
        checks.push(Check::new("tables", Tri::Fail, format!("not in the backup: {}", names.join(", "))));
    }
    checks.extend(compare_kinds(&captured.fingerprint, &found.fingerprint, with_grants));
    checks.push(same("sequences", captured.sequences == found.sequences, captured.sequences.len()));
    let objects = |facts: &PostgresFacts| facts.large_objects.as_ref().map(|all| (all.objects, all.rows.clone()));
    let count = captured.large_objects.as_ref().map_or(0, |all| all.objects as usize);
    checks.push(same("large objects", objects(captured) == objects(found), count));
    checks.push(same("migrations", captured.migrations == found.migrations, captured.migrations.len()));
    checks
}

fn same(name: &str, good: bool, count: usize) -> Check {
    let detail = if good { format!("{count}, as captured") } else { "not as captured".to_owned() };
    Check::new(name, Tri::from_bool(good), detail)
}

fn compare_kinds(
    captured: &BTreeMap<String, KindFacts>,
    found: &BTreeMap<String, KindFacts>,
    with_grants: bool,
) -> Vec<Check> {
    let mut kinds: Vec<&String> = captured.keys().chain(found.keys()).collect();
    kinds.sort();
    kinds.dedup();
    kinds.retain(|kind| with_grants || !matches!(kind.as_str(), "owner" | "acl" | "default acl"));
    let check = |kind: &String| {
        let count = |all: &BTreeMap<String, KindFacts>| all.get(kind).map_or(0, |facts| facts.count);
        let (was, is) = (count(captured), count(found));
        let good = captured.get(kind) == found.get(kind);
        let detail = match good {
            true => format!("{is}, as captured"),
            false if was == is => format!("{is}, as captured, but not defined alike"),
            false => format!("{is}, and {was} were captured"),
        };
        Check::new(format!("definitions: {kind}"), Tri::from_bool(good), detail)
    };
    kinds.into_iter().map(check).collect()
}

/// Looks at a database by itself: constraints valid and without orphans, indexes valid and sound, materialized views
/// filled, sequences not behind their columns, collations of the version they were made with.
pub fn check_database(session: &mut Session) -> Vec<Check> {
    type Look = fn(&mut Session) -> Result<(Tri, String), PgError>;
    let looks: [(&str, Look); 7] = [
        ("constraints valid", not_valid),
        ("foreign keys", orphans),
        ("indexes valid", invalid_indexes),
        ("index structure", index_structure),
        ("materialized views filled", unpopulated),
        ("sequences ahead of their columns", sequences_behind),
        ("collation versions", collations),
    ];
    let check = |(name, look): (&str, Look)| match look(session) {
        Ok((outcome, detail)) => Check::new(name, outcome, detail),
        Err(error) => Check::new(name, Tri::Unknown, format!("it could not be looked at: {error}")),
    };
    looks.into_iter().map(check).collect()
}

/// Passes when nothing was found, else names what.
fn none_of(found: &[String], good: &str) -> (Tri, String) {
    if found.is_empty() { (Tri::Pass, good.to_owned()) } else { (Tri::Fail, found.join(", ")) }
}

fn names(session: &mut Session, sql: &str) -> Result<Vec<String>, PgError> {
    Ok(session.ask(sql)?.iter().map(|row| row.text(0).to_owned()).collect())
}

const OWN: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// A constraint that was never checked is the app's choice, and told: it is no failure of the copy.
fn not_valid(session: &mut Session) -> Result<(Tri, String), PgError> {
    let found = names(
        session,
        &format!(
            "SELECT pg_catalog.format('%s on %s', k.conname, k.conrelid::pg_catalog.regclass) FROM pg_catalog.pg_constraint k
               JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace WHERE NOT k.convalidated AND {OWN} ORDER BY 1"
        ),
    )?;
    Ok((Tri::Pass, if found.is_empty() { "all".into() } else { format!("never checked: {}", found.join(", ")) }))
}

/// Rows whose parent is missing, looked for in the rows themselves: a valid constraint says only that somebody looked.
fn orphans(session: &mut Session) -> Result<(Tri, String), PgError> {
    let keys = session.ask(&format!(
        "SELECT k.conname, k.conrelid::pg_catalog.regclass, k.confrelid::pg_catalog.regclass,
                (SELECT pg_catalog.string_agg(pg_catalog.format('p.%I = c.%I', p.attname, c.attname), ' AND ')
                   FROM unnest(k.conkey, k.confkey) AS u(child, parent)
                   JOIN pg_catalog.pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = u.child
                   JOIN pg_catalog.pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.parent),
                (SELECT pg_catalog.string_agg(pg_catalog.format('c.%I IS NOT NULL', c.attname), ' AND ')
                   FROM pg_catalog.unnest(k.conkey) AS u(child)
                   JOIN pg_catalog.pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = u.child)
           FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace
          WHERE k.contype = 'f' AND k.conparentid = 0 AND {OWN} ORDER BY 1"
    ))?;
    let mut found = Vec::new();
    for key in &keys {
        let (name, child, parent) = (key.text(0), key.text(1), key.text(2));
        let count = session.value(&format!(
            "SELECT count(*) FROM {child} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {})",
            key.text(4),
            key.text(3)
        ))?;
        if count != "0" {
            found.push(format!("{count} rows of {child} have no row in {parent} ({name})"));
        }
    }
    Ok(none_of(&found, &format!("{} keys, no orphans", keys.len())))
}

fn invalid_indexes(session: &mut Session) -> Result<(Tri, String), PgError> {
    let found = names(
        session,
        &format!(
            "SELECT i.indexrelid::pg_catalog.regclass FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT (i.indisvalid AND i.indisready) AND {OWN}"
        ),
    )?;
    Ok(none_of(&found, "all"))
}

/// What is said where nobody can look into an index.
pub const NO_AMCHECK: &str = "amcheck is not there for this role";

/// `amcheck` looks at each B-tree. It is made for the look and taken back, since it belongs to nobody's database.
fn index_structure(session: &mut Session) -> Result<(Tri, String), PgError> {
    let there = session.value("SELECT count(*) FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck'")?;
    if there == "0" {
        return Ok((Tri::Unknown, NO_AMCHECK.into()));
    }
    session.run("BEGIN")?;
    let looked = session.run("CREATE SCHEMA lifeboat_amcheck; CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA lifeboat_amcheck").and_then(|()| {
        let schema = session.value(
            "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'",
        )?;
        session.value(&format!(
            "SELECT count({}.bt_index_check(c.oid)) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam
               JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisvalid AND {OWN}",
            plain(&schema)
        ))
    });
    session.run("ROLLBACK")?;
    match looked {
        Ok(_) => Ok((Tri::Pass, "every B-tree is sound".into())),
        // XX002 is "index corrupted"; XX001, "data corrupted".
        Err(error) if error.code().is_some_and(|code| code.starts_with("XX")) => Ok((Tri::Fail, error.to_string())),
        Err(error) if error.code() == Some("42501") => Ok((Tri::Unknown, NO_AMCHECK.into())),
        Err(error) => Err(error),
    }
}

/// A view that was never filled is as its owner left it; the manifest says which.
fn unpopulated(session: &mut Session) -> Result<(Tri, String), PgError> {
    let found = names(
        session,
        &format!(
            "SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind = 'm' AND NOT c.relispopulated AND {OWN} ORDER BY 1"
        ),
    )?;
    Ok((Tri::Pass, if found.is_empty() { "all".into() } else { format!("not filled: {}", found.join(", ")) }))
}

/// A sequence behind its column gives out a number that is taken.
fn sequences_behind(session: &mut Session) -> Result<(Tri, String), PgError> {
    let owned = session.ask(&format!(
        "SELECT d.objid::pg_catalog.regclass, d.refobjid::pg_catalog.regclass, pg_catalog.quote_ident(a.attname),
                s.seqincrement > 0
           FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid
           JOIN pg_catalog.pg_class c ON c.oid = d.objid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
          WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0
            AND d.deptype IN ('a', 'i') AND a.atttypid IN (20, 21, 23) AND {OWN}"
    ))?;
    let mut found = Vec::new();
    for row in owned.iter().filter(|row| row.is_true(3)) {
        let (sequence, table, column) = (row.text(0), row.text(1), row.text(2));
        let behind = session.one(&format!(
            "SELECT (SELECT pg_catalog.max({column}) FROM {table}) > (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence})"
        ))?;
        if behind.is_true(0) {
            found.push(format!("{sequence} is behind {table}.{column}"));
        }
    }
    Ok(none_of(&found, &format!("{}", owned.len())))
}

/// Another version of the operating system's collation sorts differently: indexes on text may be wrong.
fn collations(session: &mut Session) -> Result<(Tri, String), PgError> {
    let mut sql = "SELECT c.collname FROM pg_catalog.pg_collation c WHERE c.collversion IS NOT NULL
         AND c.collversion IS DISTINCT FROM pg_catalog.pg_collation_actual_version(c.oid)"
        .to_owned();
    if session.major() >= 15 {
        sql += " UNION ALL SELECT 'the database' FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
             AND d.datcollversion IS DISTINCT FROM pg_catalog.pg_database_collation_actual_version(d.oid)";
    }
    Ok(none_of(&names(session, &sql)?, "all"))
}

/// Writes to each table and takes it back: one row is updated to itself, an empty table is asked for a row. What a
/// constraint refuses shows that the table takes writes. Only for copies: triggers run, unless we are a superuser.
pub fn try_writes(session: &mut Session, facts: &PostgresFacts) -> Vec<Check> {
    let wrote = session.transaction("BEGIN", |session| {
        let superuser = super::server::privileges(session)?.superuser;
        let mut bad = Vec::new();
        for (name, table) in &facts.tables {
            let columns = table.columns.iter().find(|column| !table.key.contains(column)).or(table.columns.first());
            let sql = match columns {
                Some(column) if table.rows.rows > 0 => format!(
                    "UPDATE ONLY {name} SET {column} = {column} WHERE ctid = (SELECT ctid FROM ONLY {name} LIMIT 1)"
                ),
                _ => format!("INSERT INTO {name} DEFAULT VALUES"),
            };
            let role = if superuser { "SET LOCAL session_replication_role = replica; " } else { "" };
            session.run("SAVEPOINT lifeboat")?;
            let tried = session.run(&format!("{role}{sql}"));
            session.run("ROLLBACK TO SAVEPOINT lifeboat")?;
            match tried {
                Ok(()) => {}
                // An identity column or a check that refuses our value has been asked: the table takes writes.
                Err(error) if error.code().is_some_and(|code| code.starts_with("23") || code == "428C9") => {}
                Err(error) => bad.push(format!("{name}: {error}")),
            }
        }
        session.run("SAVEPOINT lifeboat")?;
        Ok(bad)
    });
    let check = |outcome, detail| vec![Check::new("takes writes", outcome, detail)];
    match wrote {
        Ok(bad) if bad.is_empty() => check(Tri::Pass, format!("{} tables", facts.tables.len())),
        Ok(bad) => check(Tri::Fail, bad.join("; ")),
        Err(error) => check(Tri::Unknown, error.to_string()),
    }
}

/// The negative control: takes a row out of the smallest table that has one, looks, and puts it back. A look that does
/// not see it would see nothing else either.
pub fn negative_control(session: &mut Session, facts: &PostgresFacts) -> Check {
    let mut candidates: Vec<_> = facts.tables.iter().filter(|(_, table)| table.rows.rows > 0).collect();
    candidates.sort_by_key(|(_, table)| table.rows.rows);
    for (name, table) in candidates {
        match seen_without_a_row(session, name, table) {
            Ok(true) => return Check::new("negative control", Tri::Pass, format!("a row less in {name} was seen")),
            Ok(false) => {
                return Check::new("negative control", Tri::Fail, format!("a row less in {name} was not seen"));
            }
            Err(error) if error.code().is_some_and(|code| code.starts_with("23")) => {} // others refer to it: the next
            Err(error) => return Check::new("negative control", Tri::Unknown, error.to_string()),
        }
    }
    Check::new("negative control", Tri::Unknown, "no table has a row that can be taken out")
}

fn seen_without_a_row(
    session: &mut Session,
    name: &str,
    table: &lifeboat_model::postgres::PgTableFacts,
) -> Result<bool, PgError> {
    session.run("BEGIN")?;
    let looked = session
        .run(&format!("DELETE FROM ONLY {name} WHERE ctid = (SELECT ctid FROM ONLY {name} LIMIT 1)"))
        .and_then(|()| super::rows::digest_of(session, name, table));
    session.run("ROLLBACK")?;
    Ok(looked?.digest != table.rows.digest)
}

/// Where unqualified names are looked for in sessions of a person: by the settings of role and database, else as PostgreSQL
/// does. Ours look nowhere.
pub(super) const SEARCH_PATH: &str = "SELECT COALESCE((
    SELECT pg_catalog.substr(c, 13) FROM pg_catalog.pg_db_role_setting s, LATERAL pg_catalog.unnest(s.setconfig) AS c
     WHERE c LIKE 'search_path=%'
       AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
       AND s.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user))
     ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1), '\"$user\", public')";

/// The SQL questions of a person: one row, one column, as text. Names are looked for where a person's session would.
///
/// # Errors
/// As [`Session::run`].
pub fn ask_question(session: &mut Session, sql: &str) -> Result<Option<String>, PgError> {
    ask_rows(session, sql).map(|(_, first)| first)
}

/// The same, with the number of rows.
///
/// # Errors
/// As [`ask_question`].
pub fn ask_rows(session: &mut Session, sql: &str) -> Result<(usize, Option<String>), PgError> {
    ask_rows_within(session, sql, Duration::from_secs(600))
}

/// The same, given up by the server after so long.
///
/// # Errors
/// As [`ask_question`].
pub fn ask_rows_within(session: &mut Session, sql: &str, limit: Duration) -> Result<(usize, Option<String>), PgError> {
    let path = session.value(SEARCH_PATH)?;
    session.run("BEGIN READ ONLY")?;
    session.run(&format!("SET LOCAL search_path TO {path}"))?;
    let answer =
        session.run(&format!("SET LOCAL statement_timeout = {}", limit.as_millis())).and_then(|()| session.ask(sql));
    session.run("ROLLBACK")?;
    let rows = answer?;
    Ok((rows.len(), rows.first().and_then(|row| row.maybe(0))))
}
