//! The door to PostgreSQL databases: a consistent copy of one in use, the way back, whether a copy is good, how it takes
//! the place of the live one, and how writes are stopped meanwhile.
//!
//! ```text
//!   get in      Address::parse → Session::open → look_at: version, size, what we may do
//!               find_clients, choose_clients: the pg_dump that fits, or the package to install
//!   copy        capture(Capture, sinks)  → Captured: facts for the manifest, entries, pre_data, post_data, globals;
//!               rows go to `Sinks`, many streams at once, `data/<schema>.<table>.copy` and `largeobjects/objects.copy`
//!   way back    create_database → restore(Restore, sources) → dress_database; sources are the files of the manifest
//!   look        inspect → facts; compare_facts, check_database, try_writes, negative_control → checks
//!               fingerprint, Fingerprint::differences: which definitions differ
//!   ways out    write_sql, write_data_sql, write_csv: text that needs no Lifeboat; subset: some tables of it
//!   ways in     dump_form, archive_as_sql, load_sql: dumps that others made, into an empty database
//!               seen_by → what each role can see; compare_seen
//!   quiet       quarantine: a copy that calls, mails and fetches nothing
//!   loss        same_lineage: whether rows can tell by themselves what was written since
//!   salvage     compare_rows: which rows a backup does not have, and the rows themselves; raise_sequences
//!               watch_tables → compare_ahead → still_holds → compare_rest: the same in two looks, the second while writes are
//!               held, and only at rows that were written to since; watch_off
//!               bring_back: such rows inserted again, in the order of their references; take_away: its undo
//!   rows        lay_beside: a table of a backup in a schema beside; compare_beside, missing_beside; drop_beside
//!               make_table: one that is gone, with all that belongs to it; drop_table: its undo
//!   take place  swap_preflight → swap_databases; the same with SwapNames::undone is the way back; swap_state tells
//!               inside one database: schemas_preflight → swap_schemas, exchange_schemas, schemas_state, drop_kept_schemas
//!   migrations  applied_migrations: what tools note; revert_migrations: DOWN scripts and those notes in one transaction
//!   stop writes fence_on → prove_fence; enter_fence for our own session; fence_off needs nothing; fence_status
//! ```
//!
//! What belongs into a backup besides the files of `Sinks`: `pre-data.sql`, `post-data.sql`, `globals.sql` (for people
//! and `psql`), and the entries as JSON, from which [`restore`] works, without any program. All calls block, take a
//! [`crate::Stop`] and tell progress as `(done, total)`. [`PgError::class`] and [`PgError::next_step`] say what to do.
//!
//! The connection is our own, blocking and of few words ([`Session`]): text in, text out, COPY both ways.

mod address;
mod archive;
mod audit;
mod binary;
mod bring_back;
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
mod leaving;
mod ledger;
mod load;
mod loss;
mod message;
mod migrations;
mod mirror;
mod outlook;
mod plain;
mod policies;
mod quarantine;
mod restore;
mod roles;
mod rows;
mod salvage;
mod schedule;
mod schema_swap;
mod script;
mod server;
mod session;
mod side;
mod sql;
mod subset;
mod swap;
mod table;
mod tablespaces;
mod tls;
mod until;
mod untouched;
mod watch;
mod wire;
mod workers;

pub use address::{Address, SslMode};
pub use archive::{SchemaEntry, Section, cut_section, portable, read_archive, read_contents};
pub use audit::{AuditAsk, AuditGroup, AuditScope, audit_scope};
pub use bring_back::{BringBack, BroughtIn, bring_back, take_away};
pub use capture::{Capture, CaptureOptions, Captured, capture, inspect, rewritten};
pub use catalog::{Table, copy_target};
pub use checks::{
    NO_AMCHECK, ask_question, ask_rows, ask_rows_within, check_database, compare_facts, negative_control, try_writes,
};
pub use clients::{Clients, Selection, choose_clients, dump_archive, find_clients, find_clients_in, run_client};
pub use databases::{
    count_rows, create_database, database_about, database_exists, databases_named, dress_database, drop_database,
    empty_database, kept_beside, on_full_disk,
};
pub use digest::RowDigest;
pub use error::{PgError, ServerSaid};
pub use fence::{
    FenceStatus, HOLD_MS, NoWriter, enter_fence, fence_off, fence_on, fence_refused, fence_status, hold_writes,
    keep_holding, prove_fence,
};
pub use fingerprint::{Fingerprint, fingerprint};
pub use globals::{globals_sql, missing_roles};
pub use leaving::{KeepLeaving, values_in};
pub use ledger::{
    Applied, RehearsedMigrations, applied_migrations, apply_migrations, is_ledger, ledger_takes_rows,
    rehearse_migrations, revert_migrations,
};
pub use load::{DumpForm, Loaded, archive_as_sql, create_database_beside, dump_form, load_sql};
pub use loss::{OtherLineage, RowChanges, same_lineage};
pub use message::Row;
pub use mirror::{
    Change, CloudColumn, CloudRow, CloudTable, Delivery, RangeSum, Reference, RowSummer, RowWriter, Stream,
    StreamDelivery, Sums, TableDelivery, Watermark, WrittenRows, cloud_tables, delivery_sql, doubled_sql, key_range,
    lacking_sql, mirror_table_sql, parents_first, prepare_mirror, range_images, range_rows, range_sum, set_watermark,
    single_sql, stream_sql, sums_of, table_delivery_sql, touch_watermark, trouble, watermark, widen_sql,
};
pub use outlook::{Outlook, outlook};
pub use plain::{Plain, sequences_sql, write_csv, write_data_sql, write_sql};
pub use policies::{close, guarded, open_for, replace_policy, seen_as};
pub use quarantine::quarantine;
pub use restore::{Restore, RestoreOptions, Restored, Sources, restore};
pub use roles::{compare_seen, named_roles, seen_by};
pub use rows::{Sink, Sinks};
pub use salvage::{
    Ahead, Baseline, ChangedTable, KeepRows, compare_ahead, compare_rest, compare_rows, decoded, horizon_now,
    key_number, key_of, key_places, raise_sequences, still_holds, table_file, then_of, unwatched, watch_tables,
};
pub use schema_swap::{
    Around, Dependent, Leaving, Look, SCHEMA_LOCK_WAIT_MS, SchemaHere, SchemaSwap, SchemasSwapped, dependents,
    drop_kept_schemas, exchange_schemas, exchange_state, extension_schemas, kept_schemas, plain_name, schema_numbers,
    schema_told, schemas_here, schemas_preflight, schemas_settled, schemas_state, swap_schemas,
};
pub use server::{Privileges, Target, look_at, refuse_pooler};
pub use session::Session;
pub use side::{
    CommonColumns, Side, changed_beside, common_columns, compare_beside, drop_beside, lay_beside, missing_beside,
    schema_exists,
};
pub use sql::quoted;
pub use subset::{Subset, subset};
pub use swap::{
    SwapNames, SwapState, Swapped, close_database, is_open, open_database, rename_database, sessions_of,
    swap_databases, swap_preflight, swap_state,
};
pub use table::{MadeTable, MakeTable, TableState, drop_table, make_table, table_exists};
pub use tablespaces::{
    check_tablespace_map, leave_missing_tablespaces, map_tablespaces, missing_tablespaces, tablespaces_told,
};
pub use untouched::DAYS_MAX;
pub use watch::{keep_watching, watch_off};
