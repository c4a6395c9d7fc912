//! What can be asked of a mirror, and what is done for it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Widening;

/// What can be asked of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum SyncAsk {
    /// Deliver changes again.
    Enable,
    /// Hold changes.
    Disable {
        /// Why.
        why: String,
    },
    /// Save what waits, and take it out of the queue.
    Clear {
        /// Why.
        why: String,
    },
    /// Put a saved queue back.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Insert rows into the file that only the cloud had when they were saved; what the file has is never written over.
    Merge {
        /// The file of saved rows.
        file: PathBuf,
    },
    /// Put triggers into the file, make the cloud's tables, and copy everything there.
    Attach,
    /// Take the triggers out.
    Detach,
    /// Copy tables to the cloud, row by row where they differ, and take away what is only there.
    Resync {
        /// Which; all when empty.
        tables: Vec<String>,
        /// Rows that are only in the cloud stay there.
        keep_orphans: bool,
        /// Tables that are meant to be empty although the cloud has rows of them.
        emptied: Vec<String>,
    },
    /// Leave one of each row that the cloud has more than once, make that impossible, and make the cloud equal.
    Repair {
        /// Which tables; all when empty.
        tables: Vec<String>,
    },
    /// Make columns of the cloud wider that cannot hold what the file has, and try the rows again.
    Widen {
        /// Which tables; those with rows that were set aside for it when empty.
        tables: Vec<String>,
    },
    /// Hold changes, save and clear the queue, make the cloud equal, compare, and deliver again: level 4 of the emergency
    /// levels.
    StartOver {
        /// Why.
        why: String,
        /// Tables that are meant to be empty although the cloud has rows of them.
        emptied: Vec<String>,
    },
    /// Let deletes go on that were held.
    ConfirmDeletes {
        /// Of which tables; all when empty.
        tables: Vec<String>,
    },
    /// Try rows again that were set aside, or leave them be.
    Letters {
        /// Which of the two.
        choice: LetterChoice,
        /// Which rows, by their numbers; all when empty.
        ids: Vec<i64>,
    },
}

/// What becomes of rows that were set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LetterChoice {
    /// They are tried again.
    Retry,
    /// They are forgotten: the cloud keeps differing there until they change again.
    Drop,
}

/// What is done to a mirror. Each is all-or-nothing and may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sync", rename_all = "kebab-case")]
pub enum SyncAction {
    /// Delivers changes, or holds them.
    Switch {
        /// Which of the two.
        on: bool,
        /// Why.
        why: String,
    },
    /// Saves what waits into this file, and takes it out of the queue, in one transaction.
    Clear {
        /// The file.
        saved: PathBuf,
    },
    /// Puts a saved queue back.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Inserts saved rows that the file lacks.
    Merge {
        /// The file of saved rows.
        file: PathBuf,
    },
    /// Fails unless the file is sound and not suddenly empty.
    CheckLocal {
        /// Tables that may be empty although the cloud has rows of them.
        emptied: Vec<String>,
    },
    /// Puts the triggers into the file.
    Attach,
    /// Takes them out.
    Detach,
    /// Makes the cloud's tables where they are missing; fails when those that are there cannot hold what the file has.
    PrepareCloud,
    /// Copies tables to the cloud where they differ.
    Resync {
        /// Which; all when empty.
        tables: Vec<String>,
        /// Rows that are only in the cloud stay there.
        keep_orphans: bool,
    },
    /// Compares both sides; fails when they differ.
    Compare {
        /// Which; all when empty.
        tables: Vec<String>,
    },
    /// Leaves one of each row in tables that have no key, keeps the others, and makes the key unique.
    Dedupe {
        /// Which tables; all when empty.
        tables: Vec<String>,
    },
    /// Makes columns of the cloud wider, all or none, and tries rows again that were set aside in their tables.
    Widen {
        /// The columns.
        columns: Vec<Widening>,
    },
    /// Writes a row of each mirrored table over itself, at most so many tables; fails unless that is noted.
    TryChanges {
        /// How many tables.
        tables_max: u32,
    },
    /// Fails unless the saved queue holds something, and nothing of it waits any more.
    CheckCleared {
        /// The file.
        saved: PathBuf,
    },
    /// Delivers; fails unless what waited when it began has arrived in time.
    CheckDelivers {
        /// How long that may take, in milliseconds.
        limit_ms: u64,
    },
    /// Fails unless no connection to the cloud is opened any more.
    CheckLocalOnly,
    /// Fails unless changes are held.
    CheckHeld,
    /// Writes rows of the cloud that the file lacks, or has with other values, into a file.
    Salvage {
        /// The file.
        into: PathBuf,
    },
    /// Delivers, and looks again and again whether the queue drains.
    Watch {
        /// How long, in milliseconds.
        for_ms: u64,
    },
    /// Lets deletes go on that were held.
    ConfirmDeletes {
        /// Of which tables; all when empty.
        tables: Vec<String>,
    },
    /// Tries rows again that were set aside, or forgets them.
    Letters {
        /// Which of the two.
        choice: LetterChoice,
        /// Which rows; all when empty.
        ids: Vec<i64>,
    },
}
