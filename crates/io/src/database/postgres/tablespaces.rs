//! Tablespaces: which a database uses, and what becomes of those that another server lacks - what was in them goes to the
//! default one of the database.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::PostgresFacts;

use super::{
    PgError, Selection, Session,
    archive::SchemaEntry,
    catalog::schema_condition,
    sql::{literal, literals},
};

/// The one that every server has.
const DEFAULT: &str = "pg_default";

/// Tablespaces that tables and indexes of these schemas are in, the default one of the database excepted.
pub(super) fn in_use(session: &mut Session, selection: &Selection) -> Result<Vec<String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT DISTINCT t.spcname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace WHERE {} ORDER BY 1",
        schema_condition(selection)
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Whether the server has a tablespace, and we may make something in it.
pub(super) fn is_usable(session: &mut Session, name: &str) -> Result<bool, PgError> {
    let sql = format!(
        "SELECT pg_catalog.has_tablespace_privilege(oid, 'CREATE') FROM pg_catalog.pg_tablespace WHERE spcname = {}",
        literal(name)
    );
    Ok(session.ask(&sql)?.first().is_some_and(|row| row.is_true(0)))
}

/// Tablespaces that the backup's database or something in it is in and that this server lacks, or does not let us use.
///
/// # Errors
/// As [`Session::run`].
pub fn missing_tablespaces(session: &mut Session, facts: &PostgresFacts) -> Result<Vec<String>, PgError> {
    let own = Some(&facts.database.tablespace).filter(|name| !name.is_empty());
    lacking(session, facts.tablespaces.iter().chain(own).map(String::as_str))
}

fn lacking<'a>(session: &mut Session, names: impl Iterator<Item = &'a str>) -> Result<Vec<String>, PgError> {
    let names: BTreeSet<&str> = names.filter(|name| !matches!(*name, "" | DEFAULT)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.ask(&format!(
        "SELECT spcname FROM pg_catalog.pg_tablespace
          WHERE spcname IN ({}) AND pg_catalog.has_tablespace_privilege(oid, 'CREATE')",
        literals(names.iter().copied())
    ))?;
    let there: BTreeSet<&str> = rows.iter().map(|row| row.text(0)).collect();
    Ok(names.difference(&there).map(|name| (*name).to_owned()).collect())
}

/// Puts definitions into other tablespaces. All that are named must be in the backup, and there.
///
/// # Errors
/// [`PgError::Preflight`] naming one that is not; as [`Session::run`].
pub fn map_tablespaces(
    session: &mut Session,
    facts: &PostgresFacts,
    entries: &mut [SchemaEntry],
    map: &BTreeMap<String, String>,
) -> Result<(), PgError> {
    check_tablespace_map(session, facts, map)?;
    for entry in entries {
        if let Some(other) = map.get(&entry.tablespace) {
            entry.tablespace.clone_from(other);
        }
    }
    Ok(())
}

/// Looks whether a map can be followed.
///
/// # Errors
/// As [`map_tablespaces`].
pub fn check_tablespace_map(
    session: &mut Session,
    facts: &PostgresFacts,
    map: &BTreeMap<String, String>,
) -> Result<(), PgError> {
    let refused = |found: String, hint: String| Err(PgError::Preflight { found, hint });
    let known: BTreeSet<&String> = facts.tablespaces.iter().chain([&facts.database.tablespace]).collect();
    if let Some(old) = map.keys().find(|old| !known.contains(old)) {
        let names: Vec<&str> = facts.tablespaces.iter().map(String::as_str).collect();
        let hint = match names.is_empty() {
            true => "leave --tablespace out".to_owned(),
            false => format!("it has: {}", names.join(", ")),
        };
        return refused(format!("nothing in the backup is in a tablespace {old}"), hint);
    }
    let missing = lacking(session, map.values().map(String::as_str))?;
    match missing.first() {
        None => Ok(()),
        Some(new) => refused(
            format!("the server has no tablespace {new}, or does not let this role use it"),
            format!("CREATE TABLESPACE {new} LOCATION '...', or GRANT CREATE ON TABLESPACE {new} TO the role"),
        ),
    }
}

/// Takes definitions out of tablespaces that this server lacks: they are made in the database's default one. Says which.
///
/// # Errors
/// As [`Session::run`].
pub fn leave_missing_tablespaces(session: &mut Session, entries: &mut [SchemaEntry]) -> Result<Vec<String>, PgError> {
    let missing = lacking(session, entries.iter().map(|entry| entry.tablespace.as_str()))?;
    entries.iter_mut().filter(|entry| missing.contains(&entry.tablespace)).for_each(|entry| entry.tablespace.clear());
    Ok(missing)
}

/// The sentence about them; nothing when there are none.
pub fn tablespaces_told(missing: &[String]) -> Option<String> {
    (!missing.is_empty()).then(|| {
        format!(
            "Tablespaces that this server lacks: {}. What was in them is made in the database's default one.",
            missing.join(", ")
        )
    })
}
