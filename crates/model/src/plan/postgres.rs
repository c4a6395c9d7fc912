//! What an actor can be asked to do with a PostgreSQL database.

use serde::{Deserialize, Serialize};

use crate::{
    id::BackupId,
    resource::{Resource, ResourceName},
};

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
    },
    /// Removes a database. Only ones that we made, or that a person released.
    Drop {
        /// The server.
        url: String,
        /// The database.
        database: String,
    },
}
