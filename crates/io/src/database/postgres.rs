//! The door to PostgreSQL databases.

mod address;
mod archive;
mod capture;
mod catalog;
mod checks;
mod clients;
mod databases;
mod digest;
mod error;
mod fence;
mod fingerprint;
mod globals;
mod large_objects;
mod loss;
mod migrations;
mod restore;
mod rows;
mod schedule;
mod server;
mod session;
mod sql;
mod swap;
mod tls;
mod wire;

pub use address::{Address, SslMode};
pub use archive::{SchemaEntry, Section, cut_section, portable, read_archive, read_contents};
pub use capture::{Capture, CaptureOptions, Captured, capture, inspect, rewritten};
pub use catalog::{Table, copy_target};
pub use checks::{ask_question, check_database, compare_facts, negative_control, try_writes};
pub use clients::{Clients, Selection, choose_clients, find_clients, find_clients_in};
pub use databases::{create_database, database_exists, dress_database, drop_database};
pub use digest::RowDigest;
pub use error::{ErrorClass, PgError, ServerSaid};
pub use fence::{FenceStatus, NoWriter, enter_fence, fence_off, fence_on, fence_status, prove_fence};
pub use fingerprint::{Fingerprint, fingerprint};
pub use globals::{globals_sql, missing_roles};
pub use loss::{Glance, OtherLineage, RowChanges, RowIndex, glance, same_lineage};
pub use restore::{Restore, RestoreOptions, Restored, Sources, restore};
pub use rows::{Sink, Sinks};
pub use server::{Privileges, Target, look_at, refuse_pooler};
pub use session::{Row, Session};
pub use swap::{
    SwapNames, SwapState, Swapped, close_database, end_sessions, open_database, sessions_of, swap_databases,
    swap_preflight, swap_state,
};
