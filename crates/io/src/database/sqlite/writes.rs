//! Whether a copy takes writes: one row into every table, on a throw-away copy, rolled back.
//!
//! What counts as an answer. The question is whether the *file* takes writes, not whether our row makes sense, hence
//! each table gets three attempts, from the most natural to the most forced, and the first that works is told:
//!
//! ```text
//!   a table with rows                                   an empty table
//!   1  a copy of a row with new keys                    1  DEFAULT VALUES
//!   2  a row put back over itself (INSERT OR REPLACE):  2  a made-up row of the declared types
//!      every index is written, all constraints hold
//!   3  the same without triggers and CHECKs             3  the same without triggers and CHECKs
//! ```
//!
//! A new key is only made for columns in a unique index or a primary key; an INTEGER PRIMARY KEY is left to SQLite, as
//! apps do, which is where an exhausted AUTOINCREMENT shows. Foreign keys are not enforced here: the rows are copies,
//! and `foreign_key_check` has looked at all of them. A table that refuses all three by a constraint is unknown, as is
//! one that needs a function, collation or module of the app; damage and a full sequence are failures.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use lifeboat_model::{Check, Tri};
use rusqlite::{Connection, ErrorCode, config::DbConfig, types::Type};

use super::{
    Header, SqliteError,
    check::{outcome_of, sentence},
    error::words,
    inspect::tables,
    open::{listen, quoted},
    sidecar,
};
use crate::stop::Stop;

/// Tries to write to every ordinary table of a copy at rest, and looks whether sequences are behind. Works on
/// `<file>.writes-trial`, which needs as much space again and is removed. Never fails itself: what could not be tried is
/// unknown, with the reason.
pub fn try_writes(file: &Path, stop: &Stop) -> Vec<Check> {
    match trial_of(file, stop) {
        Ok(checks) if checks.is_empty() => {
            vec![Check::new("writes", Tri::Unknown, "there is no table to write to")]
        }
        Ok(checks) => checks,
        Err(error) => vec![Check::new("writes", outcome_of(&error), sentence(&error))],
    }
}

/// The throw-away copy; gone when dropped.
struct ThrowAway(PathBuf);

impl Drop for ThrowAway {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(sidecar(&self.0, suffix)); // a left-over is overwritten next time
        }
    }
}

fn trial_of(file: &Path, stop: &Stop) -> Result<Vec<Check>, SqliteError> {
    Header::read(file)?;
    let copy = ThrowAway(sidecar(file, ".writes-trial"));
    // In the kernel, sharing blocks where the file system can.
    let _ = fs::remove_file(&copy.0); // a left-over may have other permissions
    fs::copy(file, &copy.0)
        .and_then(|_| fs::set_permissions(&copy.0, fs::Permissions::from_mode(0o600)))
        .map_err(|error| SqliteError::from_io(&copy.0, "write", error))?;
    stop.check()?;
    let mut connection = open_for_writes(&copy.0, stop).map_err(|error| failed(&copy.0, error))?;
    let names = tables(&connection).map_err(|error| failed(&copy.0, error))?;
    let mut checks = Vec::new();
    for table in names.iter().filter(|name| !name.starts_with("sqlite_")) {
        stop.check()?;
        checks.push(try_table(&mut connection, table));
        if let Some(check) = sequence(&connection, table) {
            checks.push(check);
        }
    }
    stop.check()?; // the last one may have been interrupted, which is no answer
    Ok(checks)
}

fn failed(path: &Path, error: rusqlite::Error) -> SqliteError {
    SqliteError::from_sqlite(path, "open", error)
}

/// For writing, with everything that would only cost time turned off.
pub(super) fn open_for_writes(path: &Path, stop: &Stop) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    listen(&mut connection, stop)?;
    connection.execute_batch(
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA foreign_keys=OFF;
         PRAGMA temp_store=MEMORY;",
    )?;
    Ok(connection)
}

/// One attempt: what it is called, the statement, and whether triggers and CHECKs are left out.
struct Attempt {
    name: &'static str,
    sql: String,
    bare: bool,
}

fn try_table(connection: &mut Connection, table: &str) -> Check {
    let name = format!("write to {table}");
    let attempts = match attempts(connection, table) {
        Ok(attempts) => attempts,
        Err(error) => return refused(name, &error),
    };
    let mut first_refusal = None;
    for attempt in attempts {
        match make(connection, &attempt) {
            Ok(()) => {
                let why =
                    first_refusal.map_or_else(String::new, |error: rusqlite::Error| format!(" ({})", words(&error)));
                return Check::new(name, Tri::Pass, format!("{}{why}", attempt.name));
            }
            // Its own rules refuse this row; a plainer one may do.
            Err(error) if may_be_the_row(&error) => _ = first_refusal.get_or_insert(error),
            Err(error) => return refused(name, &error),
        }
    }
    first_refusal
        .map_or_else(|| Check::new(name.clone(), Tri::Unknown, "nothing to try"), |error| refused(name.clone(), &error))
}

/// Inserts and takes back.
fn make(connection: &mut Connection, attempt: &Attempt) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, !attempt.bare)?;
    connection.pragma_update(None, "ignore_check_constraints", attempt.bare)?;
    let trial = connection.transaction()?;
    let changed = trial.execute(&attempt.sql, []);
    trial.rollback()?;
    match changed? {
        // A trigger may swallow a row with RAISE(IGNORE); then nothing was written.
        0 => Err(rusqlite::Error::StatementChangedRows(0)),
        _ => Ok(()),
    }
}

/// Whether a plainer row, or one without the table's triggers, may succeed where this one did not. Functions and
/// collations of the app are called by its triggers and CHECKs, too.
fn may_be_the_row(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::Unknown | ErrorCode::TooBig) => true,
        Some(_) => false,
        None => matches!(error, rusqlite::Error::StatementChangedRows(_)),
    }
}

fn refused(name: String, error: &rusqlite::Error) -> Check {
    let outcome = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Tri::Fail,
        // On a copy with space around it, this is SQLite's word for an AUTOINCREMENT at its end.
        Some(ErrorCode::DiskFull) => Tri::Fail,
        _ => Tri::Unknown,
    };
    Check::new(name, outcome, words(error))
}

/// A column as far as building a row needs it.
struct Column {
    name: String,
    declared: String,
    rowid: bool,
    unique: bool,
}

fn attempts(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Attempt>> {
    let columns = columns(connection, table)?;
    let from = quoted(table);
    let list: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let list = list.join(", ");
    let types = first_row_types(connection, &from, &list)?;
    let attempt = |name, sql: String, bare| Attempt { name, sql, bare };
    let Some(types) = types else {
        let values: Vec<&str> = columns.iter().map(made_up).collect();
        let row = format!("INSERT INTO {from} ({list}) VALUES ({})", values.join(", "));
        return Ok(vec![
            attempt("took a row of defaults", format!("INSERT INTO {from} DEFAULT VALUES"), false),
            attempt("took a made-up row", row.clone(), false),
            attempt("took a made-up row without triggers and CHECKs", row, true),
        ]);
    };
    let fresh: Vec<String> = columns.iter().zip(types).map(|(column, kind)| new_value(column, kind)).collect();
    let copy = format!("INSERT INTO {from} ({list}) SELECT {} FROM {from} LIMIT 1", fresh.join(", "));
    let again = format!("INSERT OR REPLACE INTO {from} ({list}) SELECT {list} FROM {from} LIMIT 1");
    Ok(vec![
        attempt("took a copy of a row with new keys", copy, false),
        attempt("took a row back over itself", again.clone(), false),
        attempt("took a row back over itself without triggers and CHECKs", again, true),
    ])
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut unique = connection.prepare(
        "SELECT DISTINCT c.name FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS c WHERE i.\"unique\"",
    )?;
    let unique = unique.query_map([table], |row| row.get::<_, Option<String>>(0))?;
    let unique: Vec<Option<String>> = unique.collect::<rusqlite::Result<_>>()?;
    // hidden 3, a stored generated column, is computed by SQLite and may not be given.
    let mut statement =
        connection.prepare("SELECT name, upper(type), pk FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid")?;
    let keys: i64 =
        connection.query_row("SELECT count(*) FROM pragma_table_xinfo(?1) WHERE pk > 0", [table], |row| row.get(0))?;
    let without_rowid: bool = connection.query_row(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1",
        [table],
        |row| row.get(0),
    )?;
    let found = statement.query_map([table], |row| {
        let (name, declared, key) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?);
        let rowid = key > 0 && keys == 1 && declared == "INTEGER" && !without_rowid;
        let unique = !rowid && (key > 0 || unique.contains(&Some(name.clone())));
        Ok(Column { name, declared, rowid, unique })
    })?;
    found.collect()
}

/// The storage classes of the first row, or nothing when there is none.
fn first_row_types(connection: &Connection, from: &str, list: &str) -> rusqlite::Result<Option<Vec<Type>>> {
    let mut statement = connection.prepare(&format!("SELECT {list} FROM {from} LIMIT 1"))?;
    let count = statement.column_count();
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    (0..count).map(|column| Ok(row.get_ref(column)?.data_type())).collect::<rusqlite::Result<Vec<Type>>>().map(Some)
}

/// The expression for a column of the copied row: as it is, or changed so that it is not there yet.
fn new_value(column: &Column, kind: Type) -> String {
    let name = quoted(&column.name);
    match kind {
        _ if column.rowid => "NULL".to_owned(),
        _ if !column.unique => name,
        Type::Null => name,
        Type::Integer => "4503599627370497".to_owned(),
        Type::Real => "4503599627370497.5".to_owned(),
        Type::Text => format!("{name} || '~trial~' || hex(randomblob(8))"),
        Type::Blob => "randomblob(16)".to_owned(),
    }
}

/// A value of the declared type, by SQLite's affinity rules.
fn made_up(column: &Column) -> &'static str {
    let has = |word: &str| column.declared.contains(word);
    match () {
        () if column.rowid => "NULL",
        () if has("INT") => "1",
        () if has("CHAR") || has("CLOB") || has("TEXT") => "'x'",
        () if has("BLOB") => "x'00'",
        () if has("REAL") || has("FLOA") || has("DOUB") => "1.5",
        () => "1",
    }
}

/// Whether the AUTOINCREMENT sequence of a table is behind its greatest id; nothing for a table without one. SQLite
/// itself would still not collide, but ids of deleted rows would come back, and the copy is not what was saved.
fn sequence(connection: &Connection, table: &str) -> Option<Check> {
    let name = format!("sequence of {table}");
    let look = || -> rusqlite::Result<Option<(i64, i64)>> {
        let statement: Option<String> = connection.query_row(
            "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1",
            [table],
            |row| row.get(0),
        )?;
        let Some(key) = columns(connection, table)?.into_iter().find(|column| column.rowid) else { return Ok(None) };
        if !statement.is_some_and(|sql| sql.to_ascii_uppercase().contains("AUTOINCREMENT"))
            || !connection.column_metadata(Some("main"), table, &key.name)?.4
        {
            return Ok(None);
        }
        let greatest = format!("SELECT coalesce(max({}), 0) FROM {}", quoted(&key.name), quoted(table));
        let greatest = connection.query_row(&greatest, [], |row| row.get(0))?;
        let last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1";
        Ok(Some((connection.query_row(last, [table], |row| row.get(0))?, greatest)))
    };
    match look() {
        Ok(None) => None,
        Ok(Some((last, greatest))) if last < greatest => {
            Some(Check::new(name, Tri::Fail, format!("it stands at {last}, but there is a row {greatest}")))
        }
        Ok(Some((last, greatest))) => {
            Some(Check::new(name, Tri::Pass, format!("it stands at {last}, the greatest row is {greatest}")))
        }
        Err(error) => Some(refused(name, &error)),
    }
}
