//! Looking at a live database without leaving anything beside it.
//!
//! SQLite makes an empty `-wal` and a `-shm` when even a reader opens an idle database in WAL mode, and a read-only
//! connection does not take them away again. `immutable=1` would leave nothing, but then a program that starts to write
//! meanwhile makes what we read a mixture. So the database is opened in the ordinary way, and what was not there before is
//! taken away as the last program that closes it would: under a lock over the whole file. In WAL mode every connection
//! holds a read lock on the file for as long as it lives; while the lock is ours, nobody uses these files, and nobody new
//! gets in. Where it cannot be had they stay: they belong to somebody by now, or we may not write the file.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use rustix::fs::{FlockOperation, fcntl_lock};

use super::{
    SqliteError,
    open::{INSTRUCTIONS_BETWEEN_STOPS, open_live},
    sidecar,
};
use crate::holders::OwnUse;

/// The turn at a live database, and what lay beside it when the turn began. What came since goes when it is dropped,
/// which must be after every connection of ours is closed.
pub(super) struct Quiet {
    path: PathBuf,
    had_wal: bool,
    had_shm: bool,
    own: Option<OwnUse>,
}

impl Quiet {
    /// Begins to look at `path`. While another task of ours is at the same file, nothing will be taken away: closing our
    /// descriptor would free that task's locks.
    pub(super) fn begin(path: &Path) -> Result<Quiet, SqliteError> {
        let failed = |error| SqliteError::from_io(path, "find", error);
        // SQLite looks for the -wal beside the real file, not beside a link to it.
        let path = fs::canonicalize(path).map_err(failed)?;
        let own = OwnUse::enter(&path).map_err(failed)?;
        let [had_wal, had_shm] = ["-wal", "-shm"].map(|suffix| sidecar(&path, suffix).exists());
        Ok(Quiet { path, had_wal, had_shm, own })
    }

    /// Whether it is our turn, and not another task's.
    pub(super) fn is_ours(&self) -> bool {
        self.own.is_some()
    }

    /// The database itself, links followed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let (wal, shm) = (sidecar(&self.path, "-wal"), sidecar(&self.path, "-shm"));
        if self.own.is_none() || self.had_shm || !shm.exists() {
            return;
        }
        let Ok(file) = fs::OpenOptions::new().read(true).write(true).open(&self.path) else { return };
        if fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        // It holds nothing that is not in the -wal, and the next one to open the database makes it anew.
        let _ = fs::remove_file(shm);
        if !self.had_wal && fs::metadata(&wal).is_ok_and(|facts| facts.len() == 0) {
            let _ = fs::remove_file(wal);
        }
    }
}

/// A connection to a live database that leaves nothing beside it.
pub(super) struct QuietConnection {
    // Closed before the turn ends.
    connection: Connection,
    _quiet: Quiet,
}

/// Opens a live database as [`open_live`] does, for a short look.
pub(super) fn open_quietly(path: &Path) -> Result<QuietConnection, SqliteError> {
    let quiet = Quiet::begin(path)?;
    Ok(QuietConnection { connection: open_live(path)?, _quiet: quiet })
}

impl QuietConnection {
    /// Makes statements end with SQLITE_INTERRUPT once so much time has passed. An interrupt sent from elsewhere would be
    /// lost between two statements.
    pub(super) fn end_after(&mut self, limit: Duration) -> rusqlite::Result<()> {
        let begun = Instant::now();
        self.connection.progress_handler(INSTRUCTIONS_BETWEEN_STOPS, Some(move || begun.elapsed() >= limit))
    }
}

impl Deref for QuietConnection {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}
