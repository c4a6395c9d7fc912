//! Mirroring a SQLite file to a PostgreSQL database: values, what became of them, and the decisions that need nothing
//! but numbers. What runs is in the engine; what reads and writes is in `io`.

mod ask;
mod decide;
mod value;
mod widen;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ResourceName, Timestamp};

pub use ask::{LetterChoice, SyncAction, SyncAsk};
pub use decide::{
    BATCH_BYTES_MAX, BATCH_ROWS_MAX, Breaker, BreakerState, DELETES_ALWAYS_ALLOWED, Hold, Tier, Trouble, backoff_ms,
    next_batch_rows, too_many_deletes, trouble_of,
};
pub use value::{CloudType, Misfit, Value, ValueRef, canonical, cloud_type_for, literal};
pub use widen::{Widening, wider, widest};

/// A SQLite file that is mirrored to a PostgreSQL database. The file is always right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What the settings call it.
    pub name: ResourceName,
    /// The SQLite file.
    pub file: std::path::PathBuf,
    /// The database, without a password.
    pub cloud: String,
    /// The schema of the mirror's tables.
    pub schema: String,
    /// Which tables; empty: all.
    pub tables: Vec<String>,
    /// How many rows go in one transaction as long as little waits.
    pub batch_rows: u32,
    /// No transaction of a delivery has more rows: what `SYNC_BATCH_SIZE` says, else what is measured to be the best.
    #[serde(default = "Link::default_batch_rows_max")]
    pub batch_rows_max: u32,
    /// How many rows a re-sync writes at once; nothing: as many as it reads at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_rows: Option<u32>,
    /// How long the worker waits between two looks, in milliseconds.
    pub interval_ms: u64,
    /// Whether tables that are missing in the cloud, and columns of them, are made. Only with a schema of our own.
    pub makes_tables: bool,
    /// The greatest part of a table that one drain may delete, in percent.
    pub delete_share_percent: u32,
    /// What the environment says, which wins over every switch.
    pub said: Said,
    /// The app's file of variables: what it says now wins, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<std::path::PathBuf>,
}

impl Link {
    fn default_batch_rows_max() -> u32 {
        BATCH_ROWS_MAX
    }
}

/// What variables of the environment, or the app's `.env`, say about mirroring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// `SYNC_ENABLED=false`.
    pub disabled: bool,
    /// `ENABLE_SUPABASE=false`: no connection is ever opened.
    pub local_only: bool,
    /// The app's file of variables cannot be read: nobody knows what it says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

impl Said {
    /// What variables say.
    pub fn of(get: impl Fn(&str) -> Option<String>) -> Said {
        let is_off = |name: &str| {
            let words = ["false", "0", "no", "off"];
            get(name).is_some_and(|value| words.iter().any(|word| value.trim().eq_ignore_ascii_case(word)))
        };
        Said { disabled: is_off("SYNC_ENABLED"), local_only: is_off("ENABLE_SUPABASE"), unknown: false }
    }

    /// The setting that keeps mirroring off, when there is one.
    pub fn refusal(&self) -> Option<&'static str> {
        match (self.local_only, self.disabled, self.unknown) {
            (true, _, _) => Some("ENABLE_SUPABASE=false"),
            (false, true, _) => Some("SYNC_ENABLED=false"),
            (false, false, true) => Some("a file of variables that cannot be read"),
            (false, false, false) => None,
        }
    }
}

/// Whether the cloud's HTTP side answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Reach {
    /// It answers.
    Reachable,
    /// It answers that nobody may ask without a key: it is there.
    Unauthorised,
    /// It answers that something is wrong with it, or nobody answers.
    Down {
        /// What is wrong.
        why: String,
    },
}

impl Reach {
    /// What an answer means.
    pub fn of(answer: Result<u16, String>) -> Reach {
        match answer {
            Ok(401 | 403) => Reach::Unauthorised,
            Ok(status @ 500..) => Reach::Down { why: format!("it answers with {status}") },
            Ok(_) => Reach::Reachable,
            Err(why) => Reach::Down { why },
        }
    }
}

/// Whether changes are delivered, or only held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Whether they are delivered.
    pub enabled: bool,
    /// Since when.
    pub since: Timestamp,
    /// Who said so.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub why: String,
}

/// The two words of the document for where data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Local first, then to the cloud.
    Hybrid,
    /// Local, and no connection is ever opened.
    LocalOnly,
}

/// What kind of change waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// A new row.
    Insert,
    /// A changed one, or one that may have been displaced by another.
    Update,
    /// One that is gone.
    Delete,
}

impl Op {
    /// What the outbox calls it. 0 and 1 take no bytes of their own in SQLite's records.
    pub fn code(self) -> i64 {
        match self {
            Op::Insert => 0,
            Op::Update => 1,
            Op::Delete => 2,
        }
    }

    /// The kind of that number; what a later version may write is an update: the row is read again anyway.
    pub fn of_code(code: i64) -> Op {
        match code {
            0 => Op::Insert,
            2 => Op::Delete,
            _ => Op::Update,
        }
    }
}

/// What waits, as `/api/sync/queue` tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueEntry {
    /// Its number; the order in which changes were committed.
    pub id: i64,
    /// The table.
    pub table: String,
    /// What happened to the row.
    pub op: Op,
    /// The row's key, by column.
    pub key: BTreeMap<String, Value>,
    /// The row as it is now, by column; nothing when it is gone.
    pub payload: Option<BTreeMap<String, Value>>,
    /// How often it was tried.
    pub attempts: u32,
    /// What the cloud said at the last try.
    pub last_error: Option<String>,
    /// When it was first seen waiting.
    pub enqueued_at: Option<Timestamp>,
}

/// The format of a saved queue.
pub const QUEUE_SCHEMA: &str = "lifeboat/sync-queue@1";

/// A saved queue: good enough to be put back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedQueue {
    /// [`QUEUE_SCHEMA`].
    pub schema: String,
    /// Whose it is.
    pub link: ResourceName,
    /// The database it was taken from, by the name it was given when mirroring began.
    pub database: String,
    /// When it was saved.
    pub saved_at: Timestamp,
    /// What waited, in order.
    pub entries: Vec<QueueEntry>,
}

/// What waited, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpCounts {
    /// New rows.
    pub insert: u64,
    /// Changed rows.
    pub update: u64,
    /// Rows that are gone.
    pub delete: u64,
}

impl OpCounts {
    /// Counts one more.
    pub fn add(&mut self, op: Op) {
        match op {
            Op::Insert => self.insert += 1,
            Op::Update => self.update += 1,
            Op::Delete => self.delete += 1,
        }
    }

    /// All of them.
    pub fn total(self) -> u64 {
        self.insert + self.update + self.delete
    }
}

/// A row that the cloud refuses, set aside so that it does not hold up the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The table.
    pub table: String,
    /// The row's key, by column.
    pub key: BTreeMap<String, Value>,
    /// Why: `policy`, `content`, `schema`; `parent` while a row is missing that it refers to.
    pub class: String,
    /// What the cloud said.
    pub error: String,
    /// What to do about it.
    pub hint: String,
    /// When it was refused first.
    pub first_at: Timestamp,
    /// When it was refused last.
    pub last_at: Timestamp,
    /// How often.
    pub attempts: u32,
}

/// What waits and what failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Changes that wait.
    pub queue_size: u64,
    /// Rows that are set aside now.
    pub total_failed: u64,
    /// Rows that were ever set aside.
    pub failed_ever: u64,
    /// Of those set aside now, how many a policy of the cloud refuses.
    pub rls_violations: u64,
    /// What the number means: `normal`, `watch`, `advise`, `urge`.
    pub tier: Tier,
    /// How long the oldest has waited, in milliseconds, as far as it was seen.
    pub oldest_ms: Option<u64>,
    /// What waits, by table.
    pub tables: BTreeMap<String, OpCounts>,
}

/// The document of `/api/sync/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// Which link.
    pub link: ResourceName,
    /// Whether changes are delivered.
    pub enabled: bool,
    /// Who switched it, when and why, or which setting decides.
    pub reason: String,
    /// Since when changes are held because somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<Timestamp>,
    /// Where data goes.
    pub mode: Mode,
    /// Whether the file has its triggers.
    pub attached: bool,
    /// What waits and what failed.
    pub queue: QueueStatus,
    /// When the cloud was last seen to hold everything that was delivered.
    pub last_sync: Option<Timestamp>,
    /// What went wrong last, while it is still wrong.
    pub last_error: Option<String>,
    /// Whether deliveries are being tried: `closed`, `open` or `half-open`.
    pub breaker: BreakerState,
    /// Tables whose deletes are held until somebody confirms them, with how many there are.
    pub held_deletes: BTreeMap<String, u64>,
    /// Tables that may differ from the cloud until they are compared.
    pub unverified: Vec<String>,
    /// How far a re-sync has come, while one is under way or has failed.
    pub resync: Option<ResyncProgress>,
}

/// How far a re-sync has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResyncProgress {
    /// The table it is at.
    pub table: String,
    /// Rows of it that are over.
    pub done: u64,
    /// Rows it has.
    pub total: u64,
}

/// What one drain did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CycleReport {
    /// Transactions that the cloud took.
    pub batches: u64,
    /// Changes that are over with them.
    pub changes: u64,
    /// Rows written.
    pub upserts: u64,
    /// Rows deleted.
    pub deletes: u64,
    /// Rows set aside.
    pub set_aside: u64,
    /// Rows whose deletion is held.
    pub held: u64,
    /// Whether nothing waits any more.
    pub drained: bool,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
}
