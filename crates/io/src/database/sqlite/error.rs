//! What can go wrong with a SQLite database, by what the caller does about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

use crate::{holders::Holders, stop::Stopped};

/// Something about a SQLite database that did not work.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// Nothing is there.
    #[error("there is no database at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is not a SQLite database: {found}", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What it is, or how it begins.
        found: String,
    },
    /// It does not begin like a SQLite database, and its bytes look like chance.
    #[error("{} is encrypted or not a SQLite database: its first bytes look random", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// Zero bytes. SQLite would take it for a new database; for us it is a loss.
    #[error("{} has zero bytes: there is no database in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Truncated, overwritten, or otherwise not what SQLite wrote.
    #[error("{} is damaged: {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// Others kept it locked for as long as we were willing to wait.
    #[error("{} stayed locked for {waited_ms} ms{}", path.display(), by(holders))]
    Busy {
        /// The database.
        path: PathBuf,
        /// How long we waited, in milliseconds.
        waited_ms: u64,
        /// Who has it open, as far as we may see.
        holders: Holders,
    },
    /// We may not read it, or not write where we have to.
    #[error("cannot {doing} {}: permission is missing", path.display())]
    Denied {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk filled up, or the copy outgrew its limit. What was written of it is removed.
    #[error("no space left while writing {}", path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
    },
    /// A copy that should be at rest has frames or pages beside it that belong to it.
    #[error("{} is not a copy at rest: {} lies beside it", path.display(), beside.display())]
    NotAtRest {
        /// The file.
        path: PathBuf,
        /// Its `-wal` or `-journal`.
        beside: PathBuf,
    },
    /// Broken off on request.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Everything else.
    #[error("cannot {doing} {}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What lay beneath.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn by(holders: &Holders) -> String {
    match holders.to_string() {
        names if names.is_empty() => String::new(),
        names => format!(" by {names}"),
    }
}

impl SqliteError {
    /// Says in our words what the operating system said about `path`.
    pub(super) fn from_io(path: &Path, doing: &'static str, error: io::Error) -> SqliteError {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => SqliteError::Missing { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                SqliteError::Denied { path, doing, source: Box::new(error) }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SqliteError::Full { path },
            _ => SqliteError::Other { path, doing, source: Box::new(error) },
        }
    }

    /// Says in our words what SQLite said about `path`.
    pub(super) fn from_sqlite(path: &Path, doing: &'static str, error: rusqlite::Error) -> SqliteError {
        let source = error;
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => SqliteError::Stopped(Stopped),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                SqliteError::Damaged { path, found: words(&source) }
            }
            Some(ErrorCode::DiskFull) => SqliteError::Full { path },
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                SqliteError::Denied { path, doing, source: Box::new(source) }
            }
            _ => SqliteError::Other { path, doing, source: Box::new(source) },
        }
    }
}

/// SQLite's own sentence, without the library's number around it.
pub(super) fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether SQLite said that somebody else is at it and that trying again may help.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// SQLite's extended result code; zero when the error is not SQLite's.
pub(super) fn extended_code(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(0, |inner| inner.extended_code)
}
