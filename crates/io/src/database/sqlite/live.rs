//! Short looks at a database that is in use: whether it opens, how many rows its tables have. Read-only, brief, and
//! without leaving anything beside it.

use std::{collections::BTreeMap, path::Path, time::Duration};

use lifeboat_model::{Check, Tri};

use super::{
    Header, SqliteError,
    check::outcome_of_sqlite,
    error::words,
    open::quoted,
    quiet::{QuietConnection, open_quietly},
};

/// How long a short look waits for others' locks.
const WAIT: Duration = Duration::from_secs(5);

/// Opens it for a look that waits a little for others.
pub(super) fn open(path: &Path) -> Result<QuietConnection, SqliteError> {
    let connection = open_quietly(path)?;
    connection.busy_timeout(WAIT).map_err(|error| SqliteError::from_sqlite(path, "read", error))?;
    Ok(connection)
}

/// Whether this is a database that SQLite opens and whose schema it can read.
///
/// # Errors
/// [`SqliteError`], saying what it is instead.
pub fn peek(path: &Path) -> Result<(), SqliteError> {
    Header::read(path)?;
    let connection = open(path)?;
    let failed = |error| SqliteError::from_sqlite(path, "read", error);
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).map_err(failed)?;
    Ok(())
}

/// What a quick check of a live database found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuickLook {
    /// Whether it is sound; unknown when the time was too short, or it could not be looked at.
    pub sound: Tri,
    /// What is wrong, in a few words; empty when nothing is.
    pub what: String,
}

/// Runs `integrity_check` and `foreign_key_check` on a live database for at most so long. Never fails itself: what could not be looked
/// at is unknown.
pub fn check_live(path: &Path, limit: Duration) -> Vec<Check> {
    match open_for(path, limit) {
        Ok(connection) => super::check::check_open(&connection),
        Err(error) => vec![Check::new("integrity", super::check::outcome_of(&error), error.to_string())],
    }
}

fn open_for(path: &Path, limit: Duration) -> Result<QuietConnection, SqliteError> {
    let mut connection = open(path)?;
    connection.end_after(limit).map_err(|error| SqliteError::from_sqlite(path, "read", error))?;
    Ok(connection)
}

/// Asks a live database one question that only reads, for at most so long: how many rows there are, and the first value of the
/// first one.
///
/// # Errors
/// [`SqliteError`] when it cannot be read, is no question, would change something, or takes too long.
pub fn ask_live(path: &Path, sql: &str, limit: Duration) -> Result<(usize, Option<String>), SqliteError> {
    let failed = |error| SqliteError::from_sqlite(path, "ask", error);
    Header::read(path)?; // an empty file would be an empty database
    let connection = open_for(path, limit)?;
    connection.busy_timeout(limit.min(WAIT)).map_err(failed)?;
    let mut statement = connection.prepare(sql).map_err(failed)?;
    if !statement.readonly() {
        let refused = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
        let why = "the question would change the database".to_owned();
        return Err(failed(rusqlite::Error::SqliteFailure(refused, Some(why))));
    }
    let mut rows = statement.query([]).map_err(failed)?;
    let (mut count, mut first) = (0, None);
    while let Some(row) = rows.next().map_err(failed)? {
        if count == 0 {
            first = super::check::as_text(row.get_ref(0).map_err(failed)?);
        }
        count += 1;
    }
    Ok((count, first))
}

/// Runs `quick_check` on a live database for at most so long.
pub fn quick_check(path: &Path, limit: Duration) -> QuickLook {
    let connection = match open_for(path, limit) {
        Ok(connection) => connection,
        Err(error) => return QuickLook { sound: super::check::outcome_of(&error), what: error.to_string() },
    };
    let asked = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match asked {
        Ok(answer) if answer == "ok" => QuickLook { sound: Tri::Pass, what: String::new() },
        Ok(complaint) => QuickLook { sound: Tri::Fail, what: complaint },
        Err(error) => match outcome_of_sqlite(&error) {
            Tri::Fail => QuickLook { sound: Tri::Fail, what: words(&error) },
            Tri::Pass | Tri::Unknown => QuickLook { sound: Tri::Unknown, what: words(&error) },
        },
    }
}

/// Rows of every ordinary table, in one consistent look. Virtual tables are left out: their rows lie in others.
///
/// # Errors
/// [`SqliteError`] when it cannot be read.
pub fn count_rows(path: &Path) -> Result<BTreeMap<String, u64>, SqliteError> {
    let connection = open(path)?;
    let failed = |error| SqliteError::from_sqlite(path, "read", error);
    connection.execute_batch("BEGIN").map_err(failed)?;
    let listed = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'
                  AND (name NOT LIKE 'sqlite\\_%' ESCAPE '\\' OR name = 'sqlite_sequence')";
    let mut names = connection.prepare(listed).map_err(failed)?;
    let names =
        names.query_map([], |row| row.get::<_, String>(0)).and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>);
    let mut counts = BTreeMap::new();
    for name in names.map_err(failed)? {
        let rows: i64 = connection
            .query_row(&format!("SELECT count(*) FROM {}", quoted(&name)), [], |row| row.get(0))
            .map_err(failed)?;
        counts.insert(name, rows as u64);
    }
    Ok(counts)
}
