//! The two ways we open a database file, and how long work in SQLite is made to listen to [`Stop`].

use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{Header, SqliteError, sidecar};
use crate::stop::Stop;

/// How often SQLite's machine looks whether it should end: every so many of its instructions, well under a millisecond.
pub(super) const INSTRUCTIONS_BETWEEN_STOPS: i32 = 20_000;

/// Opens a database other programs may be using. Read-only, so that SQLite never rolls a hot journal back in place, and
/// never checkpoints: not even when ours is the last connection to close.
pub(super) fn open_live(path: &Path) -> Result<Connection, SqliteError> {
    let failed = |error| SqliteError::from_sqlite(path, "open", error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    // Short, so that waiting listens to `Stop`; the caller repeats up to its own limit.
    connection.busy_timeout(Duration::from_millis(50)).map_err(failed)?;
    // A map of a file another program may truncate would end us with SIGBUS.
    connection.pragma_update(None, "mmap_size", 0).map_err(failed)?;
    Ok(connection)
}

/// Opens a copy at rest without locks or sidecars; no byte of it changes.
///
/// # Errors
/// [`SqliteError::NotAtRest`] when a `-wal` or `-journal` with content lies beside it, since that would be ignored.
pub(super) fn open_at_rest(path: &Path, stop: &Stop) -> Result<Connection, SqliteError> {
    Header::read(path)?;
    for suffix in ["-wal", "-journal"] {
        let beside = sidecar(path, suffix);
        if std::fs::metadata(&beside).is_ok_and(|facts| facts.len() > 0) {
            return Err(SqliteError::NotAtRest { path: path.to_owned(), beside });
        }
    }
    let failed = |error| SqliteError::from_sqlite(path, "open", error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(uri(path, "immutable=1"), flags).map_err(failed)?;
    listen(&mut connection, stop).map_err(failed)?;
    // Sorters and temporary indexes stay in memory: nothing is written anywhere for a look.
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(failed)?;
    connection.pragma_update(None, "cache_size", -16_384).map_err(failed)?;
    Ok(connection)
}

/// Opens a copy at rest so that SQLite sees its CHECK constraints, which it does not even parse for a database it cannot
/// write (`sqlite3AddCheckConstraint`), so that `integrity_check` would be silent about them. Nothing is written: no
/// byte of the file changes; in WAL mode an empty `-wal` exists while the connection does.
pub(super) fn open_at_rest_with_checks(path: &Path, cache_kib: u32, stop: &Stop) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    if connection.is_readonly("main")? {
        // SQLite falls back to reading when it may not write.
        return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY), None));
    }
    listen(&mut connection, stop)?;
    // Exclusive before the first look: the index of the WAL is then kept in memory, without a -shm.
    connection.execute_batch("PRAGMA locking_mode=EXCLUSIVE; PRAGMA query_only=ON; PRAGMA temp_store=MEMORY;")?;
    connection.pragma_update(None, "cache_size", -i64::from(cache_kib))?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Makes statements of a connection end with SQLITE_INTERRUPT once [`Stop::now`] was called.
pub(super) fn listen(connection: &mut Connection, stop: &Stop) -> rusqlite::Result<()> {
    let stop = stop.clone();
    connection.progress_handler(INSTRUCTIONS_BETWEEN_STOPS, Some(move || stop.check().is_err()))
}

/// Attaches a database that others may be using to a connection of ours, read-only, under the name `live`.
pub(super) fn attach_live(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    connection.execute("ATTACH ?1 AS live", [uri(path, "mode=ro").to_string_lossy()])?;
    // As in `open_live`.
    connection.execute_batch("PRAGMA live.mmap_size = 0")
}

/// `file:/a%20b?immutable=1`; every byte that is not plain is written as `%xx`, so names with `?`, `#` or bytes that
/// are not UTF-8 work.
fn uri(path: &Path, how: &str) -> OsString {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = String::from("file:");
    for &byte in absolute.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(byte)),
            other => uri.push_str(&format!("%{other:02x}")),
        }
    }
    uri.push_str(&format!("?{how}"));
    uri.into()
}

/// A name as SQL wants it: in quotes, quotes doubled.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
