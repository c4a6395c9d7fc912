//! What an actor can be asked to do with a PostgreSQL database.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    export::ExportFormat,
    id::{BackupId, OperationId},
    loss::{AcceptLoss, LossLine},
    policy::Policy,
    postgres::Horizon,
    resource::{Resource, ResourceName},
};

/// A database in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPart {
    /// Where the backup is.
    pub vault: String,
    /// Which.
    pub backup: BackupId,
    /// Which of its parts.
    pub resource: ResourceName,
}

/// A schema that another one takes the place of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaNames {
    /// The name that everybody uses.
    pub live: String,
    /// What the present one will be called; nothing when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// A schema that comes back from another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaReturn {
    /// The name that everybody uses.
    pub live: String,
    /// What it is called until then; nothing when none comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns: Option<String>,
    /// What the present one will be called; nothing when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub becomes: Option<String>,
}

/// For whom rows are kept that leave with DOWN scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFor {
    /// The resource as the settings describe it.
    pub resource: Resource,
    /// A backup of the time when those rows were there, or of before.
    pub backup: BackupId,
}

/// What an actor can be asked to do with a PostgreSQL database. `url` is the address of a database, without a password;
/// where another database of the same server is meant, it is named beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum PgAction {
    /// Fails when the database cannot be backed up: no connection, a pooler, missing rights, no fitting `pg_dump`.
    CheckSource {
        /// The database.
        url: String,
    },
    /// Makes an empty database and fills it from a backup. One of that name, left by an earlier try, goes first.
    Fill {
        /// Where the backup is.
        vault: String,
        /// Which.
        backup: BackupId,
        /// Which of its parts.
        resource: ResourceName,
        /// The server.
        url: String,
        /// The new database.
        database: String,
        /// What was in one tablespace goes into another.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        tablespaces: BTreeMap<String, String>,
        /// A shadow: a database of that server that was filled from this very backup beforehand. Where it still is what the
        /// backup holds, it gets the new name, and nothing is fetched.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shadow: Option<String>,
    },
    /// Compares a database that was filled with the manifest. With `writes` everything found is the result, and every
    /// table takes a row that is rolled back; else the first difference is a failure.
    Check {
        /// Where the manifest is.
        vault: String,
        /// Of which backup.
        backup: BackupId,
        /// The resource as the settings describe it.
        resource: Box<Resource>,
        /// The server.
        url: String,
        /// The database.
        database: String,
        /// Whether this is a rehearsal.
        writes: bool,
    },
    /// Takes a row out of a database of a rehearsal, looks, and puts it back; fails when that is not noticed.
    Control {
        /// Where the manifest is.
        vault: String,
        /// Of which backup.
        backup: BackupId,
        /// Which of its parts.
        resource: ResourceName,
        /// The server.
        url: String,
        /// The database.
        database: String,
    },
    /// Fails when a swap of these would fail: a prepared transaction, sessions that may not be ended, missing rights.
    Ready {
        /// The server.
        url: String,
        /// The name that everybody uses.
        live: String,
        /// The database that is to have it.
        aside: String,
        /// What the present one will be called.
        kept: String,
    },
    /// Takes back what a swap that failed has left: opens the live database. Where the swap did happen and its answer was
    /// lost, the names are exchanged again, and the other one is called `spare`: somebody may have written to it.
    Reopen {
        /// The server.
        url: String,
        /// The name that everybody uses.
        live: String,
        /// The database that was to have it.
        aside: String,
        /// What the former one is called if the swap did happen.
        kept: String,
        /// What the other one will be called then.
        spare: String,
    },
    /// Renames two databases in one transaction, while nobody is connected: `aside` becomes `live`, `live` becomes `kept`.
    Swap {
        /// The server.
        url: String,
        /// The name that everybody uses.
        live: String,
        /// The database that is to have it.
        aside: String,
        /// What the present one will be called.
        kept: String,
    },
    /// Gives a database another name, which is free.
    Rename {
        /// The server.
        url: String,
        /// What it is called.
        from: String,
        /// What it will be called.
        to: String,
    },
    /// Stops all writes to the database, and sees that they have stopped; or lets them in again. Either may be repeated.
    Fence {
        /// The database.
        url: String,
        /// Stop them.
        on: bool,
        /// Why.
        why: String,
        /// For a moment within a plan: reading is not made the default, which would go along to what takes its place.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        brief: bool,
        /// Another database of the same server than that of the address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        database: Option<String>,
    },
    /// Puts a policy in the place of the one of its name, or takes that one away, in one transaction; row-level security is on
    /// afterwards. Fails, and changes nothing, when the one that is there is neither `before` nor `wanted`.
    ReplacePolicy {
        /// The database.
        url: String,
        /// The table, as SQL names it.
        table: String,
        /// The policy's name.
        name: String,
        /// The new one; nothing when it goes.
        wanted: Option<Policy>,
        /// The one that was there.
        before: Option<Policy>,
        /// Leave another one that is there by now as it is, where that is what undoing a step means that did nothing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        or_leave: bool,
    },
    /// Opens a table for a while by a policy that ends by itself, or takes away all such policies.
    OpenTable {
        /// The database.
        url: String,
        /// The table, as SQL names it.
        table: String,
        /// For which roles.
        roles: Vec<String>,
        /// For how long, in milliseconds; nothing when it is closed.
        for_ms: Option<u64>,
    },
    /// Fails unless row-level security of a table is on; gives its policies.
    CheckPolicies {
        /// The database.
        url: String,
        /// The table, as SQL names it.
        table: String,
    },
    /// Takes the fence out of a database that may be closed, and leaves it as open or closed as it was.
    Unfence {
        /// The server.
        url: String,
        /// The database.
        database: String,
    },
    /// Finds row by row what leaves when the live database is replaced, and keeps those rows with the operation. Fails,
    /// and keeps nothing, when that is more than somebody has agreed to.
    Salvage {
        /// The live database.
        url: String,
        /// Where what it is compared with is.
        vault: String,
        /// Which backup.
        backup: BackupId,
        /// The resource as the settings describe it.
        resource: Box<Resource>,
        /// What it is called in that backup, when that is another name than the resource's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<ResourceName>,
        /// The database that takes its place, where that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        successor: Option<String>,
        /// The moment from which on rows are younger than that; the backup's own when there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Horizon>,
        /// What was shown when the plan was made; nothing when it could not be counted, which was told.
        shown: Option<Vec<LossLine>>,
        /// What somebody has agreed to.
        accepted: AcceptLoss,
        /// Only tables in these schemas leave; all when there are none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        schemas: Vec<String>,
        /// Done before writes are held: what is found is taken over by the one that follows, which looks only at tables
        /// that were written to since.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ahead: bool,
    },
    /// Removes what this operation keeps of rows that leave: they stay.
    ForgetSalvage {
        /// The name under which they are kept, when that is not the operation's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<OperationId>,
        /// The database whose writers were watched for that, when there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        watched: Option<String>,
    },
    /// Writes into what this operation keeps of rows that left what was found of them in the last moment, when there was no
    /// time for it; and ends the watch over the writers of a database that may be closed.
    SettleSalvage {
        /// The server.
        url: String,
        /// The database.
        database: String,
    },
    /// Lays a table of a backup beside the live one, in a schema of its own. The live table is only read.
    LayBeside {
        /// The database.
        url: String,
        /// Where the backup is.
        vault: String,
        /// Which.
        backup: BackupId,
        /// Which of its parts.
        resource: ResourceName,
        /// The table, as the manifest calls it.
        table: String,
        /// The schema; it is ours.
        schema: String,
        /// Only rows for which this SQL is true.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<String>,
    },
    /// Compares a table that was laid beside with the live one, and writes down the rows that the live one lacks.
    CompareBeside {
        /// The database.
        url: String,
        /// Where the backup is.
        vault: String,
        /// Which.
        backup: BackupId,
        /// Which of its parts.
        resource: ResourceName,
        /// The table, as the manifest calls it.
        table: String,
        /// The schema.
        schema: String,
        /// Only rows for which this SQL is true.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<String>,
        /// Under which name the missing rows are kept; they are only counted when there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep: Option<OperationId>,
    },
    /// Makes a table of a backup again that the live database does not have, with all that belongs to it, and fills it. One
    /// that is there with the very rows was made before.
    MakeTable {
        /// The database.
        url: String,
        /// Where the backup is.
        vault: String,
        /// Which.
        backup: BackupId,
        /// Which of its parts.
        resource: ResourceName,
        /// The table, as the manifest calls it.
        table: String,
        /// Only rows for which this SQL is true.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<String>,
        /// One that is there, with whatever rows, is left as it is: it was not dropped.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unless_there: bool,
    },
    /// Drops a table that was made so; refused when it holds something else by now, or anything depends on it.
    DropTable {
        /// The database.
        url: String,
        /// Where the backup is.
        vault: String,
        /// Which.
        backup: BackupId,
        /// Which of its parts.
        resource: ResourceName,
        /// The table, as the manifest calls it.
        table: String,
        /// What it was filled with: rows, and their digest; not looked at when there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made: Option<(u64, String)>,
    },
    /// Drops a schema that was laid beside.
    DropBeside {
        /// The database.
        url: String,
        /// The schema.
        schema: String,
    },
    /// Inserts rows again that left with an operation; over a row that is there only where that is asked for.
    BringBack {
        /// The database.
        url: String,
        /// The operation that keeps them.
        from: OperationId,
        /// The resource as the settings describe it.
        resource: Box<Resource>,
        /// Of which tables; all when empty.
        tables: Vec<String>,
        /// Rows that had changed are written over, where what came back is still what the backup has.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        overwrite: bool,
        /// Rows that had gone are taken away, likewise.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        deletes: bool,
    },
    /// Takes back what was brought back, as long as nobody has changed it since: rows that were inserted go, others get their
    /// former values.
    TakeAway {
        /// The database.
        url: String,
        /// The operation that keeps them.
        from: OperationId,
        /// The resource as the settings describe it.
        resource: Box<Resource>,
        /// Of which tables; all when empty.
        tables: Vec<String>,
        /// The operation that brought them back, when it is another than this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<OperationId>,
    },
    /// Raises sequences of one database to where those of another stand: no number is given out a second time.
    Sequences {
        /// The server.
        url: String,
        /// Where they stood; it may be closed.
        from: String,
        /// Where they are raised.
        to: String,
    },
    /// Writes a database of a backup out as text, rows compared with the manifest as they pass. No server takes part.
    WriteOut {
        /// Where the backup is.
        vault: String,
        /// Which.
        backup: BackupId,
        /// Which of its parts.
        resource: ResourceName,
        /// The folder to write into; it is ours, and replaced.
        into: PathBuf,
        /// As SQL or CSV.
        format: ExportFormat,
        /// Which tables; all when empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tables: Vec<String>,
        /// Rows alone.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        data_only: bool,
        /// Whether SQL is compressed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        gzip: bool,
    },
    /// Writes a database that was filled from a backup as an archive, by `pg_dump`.
    Archive {
        /// The server.
        url: String,
        /// The database.
        database: String,
        /// The file; it is ours, and replaced.
        into: PathBuf,
    },
    /// Loads a dump that others made into a database of its own; fails at the first error, and when it holds no rows. A
    /// database of that name, left by an earlier try, goes first.
    LoadDump {
        /// The dump: a file, or a folder.
        file: PathBuf,
        /// The server.
        url: String,
        /// The new database.
        database: String,
        /// The database whose encoding and locale it takes on, when there is one of that name.
        like: String,
        /// The resource as the settings describe it.
        resource: Box<Resource>,
        /// Where backups are.
        vault: String,
        /// The newest good one, whose rows it is compared with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        beside: Option<BackupId>,
    },
    /// Takes migrations back by their DOWN scripts, newest first, with their rows in the ledger, in one transaction. A fence goes
    /// in it too.
    Revert {
        /// The database.
        url: String,
        /// Where the tool notes what it applied.
        ledger: crate::migration::Ledger,
        /// What is taken back, newest first; each has its DOWN script.
        migrations: Vec<crate::migration::Migration>,
        /// How long a statement waits for a lock, in milliseconds.
        lock_timeout_ms: u64,
        /// How long a statement may run, in milliseconds.
        statement_timeout_ms: u64,
        /// For whom what leaves is kept with the operation before; plans from before that was there keep nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep: Option<Box<KeptFor>>,
    },
    /// Applies migrations, with their rows in the ledger, in one transaction. A fence goes in it too.
    Migrate {
        /// The database.
        url: String,
        /// Where the tool notes what it applied.
        ledger: crate::migration::Ledger,
        /// What is applied, oldest first.
        pending: Vec<crate::migration::Pending>,
        /// How long a statement waits for a lock, in milliseconds.
        lock_timeout_ms: u64,
        /// How long a statement may run, in milliseconds.
        statement_timeout_ms: u64,
    },
    /// Applies migrations to a copy, takes them back, applies them again, and tells what differs; nothing of it stays.
    Rehearse {
        /// The server.
        url: String,
        /// The copy.
        database: String,
        /// What is about to be applied, oldest first.
        pending: Vec<crate::migration::Pending>,
        /// How long a statement may run, in milliseconds.
        statement_timeout_ms: u64,
        /// Fails when it cannot be applied, or cannot be taken back so far; nothing: what was found is only told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_least: Option<crate::migration::Reversibility>,
    },
    /// The way back of a [`PgAction::Fill`] that may have taken a shadow: it has its own name again. Whatever else is there is
    /// dropped.
    GiveBack {
        /// Where the backup is.
        vault: String,
        /// Which.
        backup: BackupId,
        /// Which of its parts.
        resource: ResourceName,
        /// The server.
        url: String,
        /// The database that was filled.
        database: String,
        /// The shadow's name.
        shadow: String,
    },
    /// Removes a database. Only ones that we made, or that a person released.
    Drop {
        /// The server.
        url: String,
        /// The database.
        database: String,
    },
    /// Fails when a swap of schemas would fail: things elsewhere that point into them and cannot be pointed elsewhere,
    /// missing rights, a prepared transaction. Of an exchange only that it was not made yet is known before.
    ReadySchemas {
        /// The database.
        url: String,
        /// The backup that fills the new ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<StoredPart>,
        /// The swap; none when it is an exchange.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        schemas: Vec<SchemaNames>,
        /// The exchange; none when it is a swap.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exchange: Vec<SchemaReturn>,
    },
    /// Takes back a swap of schemas whose answer was lost, when it did happen: the former ones return, and the others get
    /// names of their own, since somebody may have written to them.
    ReturnSchemas {
        /// The database.
        url: String,
        /// The swap; none when it was an exchange.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        schemas: Vec<SchemaNames>,
        /// The exchange; none when it was a swap.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exchange: Vec<SchemaReturn>,
        /// What happens when it was done.
        back: Vec<SchemaReturn>,
    },
    /// Fills new schemas from a backup and puts them in the place of the present ones, all in one transaction.
    SwapSchemas {
        /// The backup that fills them.
        from: StoredPart,
        /// The database.
        url: String,
        /// The schemas.
        schemas: Vec<SchemaNames>,
        /// How what leaves is found and kept, a [`PgAction::Salvage`]: just before, and again while the former tables are
        /// held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leaving: Option<Box<PgAction>>,
        /// They come from another environment: what would act in them by itself is switched off.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        quiet: bool,
        /// As for [`PgAction::Fill`].
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        tablespaces: BTreeMap<String, String>,
    },
    /// Exchanges schemas with ones that were kept, in one transaction.
    ExchangeSchemas {
        /// The database.
        url: String,
        /// The schemas.
        schemas: Vec<SchemaReturn>,
        /// As for [`PgAction::SwapSchemas`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leaving: Option<Box<PgAction>>,
    },
    /// Drops schemas that were kept; refused while anything outside depends on them.
    DropSchemas {
        /// The database.
        url: String,
        /// Their names.
        schemas: Vec<String>,
    },
    /// Switches off what would act in a copy as it does in the original: subscriptions, jobs, ways into other servers,
    /// triggers that call the web.
    Quarantine {
        /// The server.
        url: String,
        /// The copy.
        database: String,
    },
}
