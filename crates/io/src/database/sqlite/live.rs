//! Short looks at a database that is in use: whether it opens, how many rows its tables have. Read-only, and brief.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    Header, SqliteError,
    open::{open_live, quoted},
};

/// How long a short look waits for others' locks.
const WAIT: Duration = Duration::from_secs(5);

/// Whether this is a database that SQLite opens and whose schema it can read.
///
/// # Errors
/// [`SqliteError`], saying what it is instead.
pub fn peek(path: &Path) -> Result<(), SqliteError> {
    Header::read(path)?;
    let connection = open_live(path)?;
    let failed = |error| SqliteError::from_sqlite(path, "read", error);
    connection.busy_timeout(WAIT).map_err(failed)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).map_err(failed)?;
    Ok(())
}

/// Rows of every ordinary table, in one consistent look. Virtual tables are left out: their rows lie in others.
///
/// # Errors
/// [`SqliteError`] when it cannot be read.
pub fn count_rows(path: &Path) -> Result<BTreeMap<String, u64>, SqliteError> {
    let connection = open_live(path)?;
    let failed = |error| SqliteError::from_sqlite(path, "read", error);
    connection.busy_timeout(WAIT).map_err(failed)?;
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
