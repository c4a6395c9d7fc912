//! The door to SQLite databases: a consistent copy of one in use, what is in a copy, whether it is good.
//!
//! Two kinds of files pass through here, and they are opened differently:
//!
//! ```text
//!   live     another program may be using it      read-only connection, never checkpoints, never rolls back in place
//!   at rest  a copy of our own, without -wal      `immutable=1`: no locks, no -wal, no -shm, not a byte of it changes
//! ```
//!
//! [`Pages`] reads either without a second file; [`capture`] goes from the first to the second; [`examine`], [`inspect`], [`check_copy`] and [`ask`] look at the
//! second;
//! [`try_writes`] works on a copy of the copy, and [`damage_copy`] is the negative control that shows that looking helps.

mod audit;
mod capture;
mod changes;
mod check;
mod csv;
mod damage;
mod error;
mod header;
mod indexes;
mod inspect;
mod live;
mod migrations;
mod open;
mod outbox;
mod pages;
mod quiet;
mod row;
mod rules;
pub mod sample;
mod writes;

pub use audit::{AuditLog, audit_log};
pub use capture::{CaptureOptions, Captured, How, capture};
pub use changes::{DIGEST_BYTES_MAX, TableChange, TableLook, compare_kept, compare_live, look_at_tables, table_digest};
pub use check::{ask, check_copy, examine};
pub use csv::{SchemaSql, schema_sql, table_names, write_csv};
pub use damage::{Damage, damage_copy};
pub use error::SqliteError;
pub use header::Header;
pub use inspect::{inspect, quick_digest, sha256};
pub use live::{QuickLook, ask_live, check_live, count_rows, peek, quick_check};
pub use migrations::migrations;
pub use outbox::{
    Attachment, Batch, ColumnShape, Identity, KEY_COLUMNS_MAX, Key, NamedRow, Noted, Outbox, RowChange, Shapes, Sight,
    Standing, Swept, TableShape, Unique, Waiting, Walked,
};
pub use pages::{ChangedReader, Looked, MapOf, NewMap, PageMap, Pages, PagesReader, Scanned, Seen};
pub use rules::{check_rules, sample as sample_digest};
pub use writes::try_writes;

/// The files SQLite keeps beside a database, by what is added to its name. They belong to the database: without its
/// `-wal` or `-journal` it is another, and with somebody else's it is a broken one.
pub const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The name of a database's sidecar: `app.db` and `-wal` make `app.db-wal`.
pub fn sidecar(database: &std::path::Path, suffix: &str) -> std::path::PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The version of the SQLite library inside lifeboat, for the manifest's list of tools.
pub fn library_version() -> &'static str {
    rusqlite::version()
}
