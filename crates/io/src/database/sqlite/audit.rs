//! Reading the log that a guarded app keeps about itself, in a table of its own.

use std::{collections::BTreeMap, path::Path};

use lifeboat_model::Timestamp;
use rusqlite::{Connection, types::ValueRef};

use super::{
    SqliteError,
    open::{open_live, quoted},
};

/// Columns that say when something happened, in the order of trust.
const TIMES: &[&str] =
    &["created_at", "occurred_at", "logged_at", "changed_at", "happened_at", "timestamp", "at", "time"];
/// Columns that say what happened.
const ACTIONS: &[&str] = &["action", "operation", "event", "event_type", "op", "type"];
/// Columns that say to what.
const SUBJECTS: &[&str] = &["table_name", "entity_type", "entity", "resource_type", "resource", "target", "model"];

/// What an app's own log says of a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct AuditLog {
    /// The column that tells the time.
    pub time_column: String,
    /// Entries in the span.
    pub entries: u64,
    /// How many of each kind: what happened, to what, as far as columns tell.
    pub counts: BTreeMap<String, u64>,
    /// The first entries, as columns and values.
    pub first: Vec<BTreeMap<String, String>>,
}

/// Reads entries of a live database's log from `since` on and before `until`; nothing when there is no such table, or none
/// of its columns tells a time.
///
/// # Errors
/// When the database cannot be read.
pub fn audit_log(
    path: &Path,
    table: &str,
    since: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Result<Option<AuditLog>, SqliteError> {
    let connection = open_live(path)?;
    read(&connection, table, [since.as_second(), until.as_second()], limit)
        .map_err(|error| SqliteError::from_sqlite(path, "read the log in", error))
}

fn read(db: &Connection, table: &str, span: [i64; 2], limit: usize) -> rusqlite::Result<Option<AuditLog>> {
    let mut names = db.prepare("SELECT lower(name), name FROM pragma_table_info(?1)")?;
    let names = names.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let names: BTreeMap<String, String> = names.collect::<rusqlite::Result<_>>()?;
    let pick = |wanted: &[&str]| wanted.iter().find_map(|name| names.get(*name)).cloned();
    let Some(time) = pick(TIMES) else { return Ok(None) };
    let column = quoted(&time);
    // Text as SQLite reads times (UTC unless it says otherwise), seconds, or milliseconds.
    let seconds = format!(
        "CASE typeof({column}) WHEN 'integer' THEN iif({column} > 100000000000, {column} / 1000, {column})
         WHEN 'real' THEN {column} ELSE CAST(strftime('%s', {column}) AS INTEGER) END"
    );
    let within = format!("FROM {} WHERE {seconds} >= ?1 AND {seconds} < ?2", quoted(table));
    let parts: Vec<String> = [pick(ACTIONS), pick(SUBJECTS)].into_iter().flatten().map(|name| quoted(&name)).collect();
    let kind = match parts.as_slice() {
        [] => "'entries'".to_owned(),
        parts => parts.iter().map(|part| format!("coalesce({part}, '?')")).collect::<Vec<_>>().join(" || ' ' || "),
    };
    let mut log = AuditLog { time_column: time, ..AuditLog::default() };
    let mut counts = db.prepare(&format!("SELECT CAST({kind} AS TEXT), count(*) {within} GROUP BY 1"))?;
    let mut rows = counts.query(span)?;
    while let Some(row) = rows.next()? {
        let count: i64 = row.get(1)?;
        log.entries += count as u64;
        log.counts.insert(row.get(0)?, count as u64);
    }
    let mut first = db.prepare(&format!("SELECT * {within} ORDER BY {seconds} LIMIT {limit}"))?;
    let names: Vec<String> = first.column_names().map(str::to_owned).collect();
    let mut rows = first.query(span)?;
    while let Some(row) = rows.next()? {
        let value = |(at, name): (usize, &String)| Ok((name.clone(), shown(row.get_ref(at)?)));
        log.first.push(names.iter().enumerate().map(value).collect::<rusqlite::Result<_>>()?);
    }
    Ok(Some(log))
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).chars().take(200).collect(),
        ValueRef::Blob(blob) => format!("{} bytes", blob.len()),
    }
}
