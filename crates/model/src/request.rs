//! What somebody asks for. The only way in: command line, schedule and, later, the API and runbooks all make one.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    backup::{BackupChoice, BackupReason},
    decision::DecisionRecord,
    drill::Drill,
    export::ExportFormat,
    id::{BackupId, OperationId},
    incident::IncidentStep,
    loss::AcceptLoss,
    policy::PolicyAsk,
    provider::ProviderStep,
    release::VersionAsk,
    resource::{ResourceName, VaultName},
    sync::SyncAsk,
    target::LevelAsk,
    time::Timestamp,
};

/// Everything one can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Take a backup.
    Backup {
        /// Which resources; all of them when empty.
        resources: Vec<ResourceName>,
        /// Why.
        reason: BackupReason,
        /// What to call it.
        label: Option<String>,
    },
    /// Bring a resource back.
    Restore {
        /// Which resource.
        resource: ResourceName,
        /// From which backup.
        from: BackupChoice,
        /// Somewhere else instead of where it lives; that place must not exist yet.
        into: Option<PathBuf>,
        /// Go on without an emergency backup of what is there now, for this reason.
        without_emergency_backup: Option<String>,
        /// How much may be lost by it.
        #[serde(default, skip_serializing_if = "AcceptLoss::is_shown")]
        accept_loss: AcceptLoss,
        /// Go on without a rehearsal of that backup where one is demanded, for this reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        urgent: Option<String>,
        /// The same was tried and failed with an error of this class, and somebody has read why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ack: Option<String>,
        /// PostgreSQL: what was in one tablespace goes into another.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        tablespaces: BTreeMap<String, String>,
    },
    /// Keep a copy of a backup beside the live database, ready to take its place; the one before it goes.
    Shadow {
        /// Which resource.
        resource: ResourceName,
        /// Of which backup; nothing: none any more.
        of: Option<BackupChoice>,
    },
    /// Restore a backup into a sandbox, look at it, record the proof.
    Prove {
        /// Which backup.
        backup: BackupChoice,
        /// Which resources in it; all when empty.
        resources: Vec<ResourceName>,
    },
    /// Bring resources out of backups into a new folder, for people and other programs.
    Export {
        /// Which resources; all of them when empty.
        resources: Vec<ResourceName>,
        /// From which backup.
        from: BackupChoice,
        /// The folder; it must not exist yet.
        to: PathBuf,
        /// In which form databases come out.
        format: ExportFormat,
        /// Which tables; all when empty.
        tables: Vec<String>,
        /// For which public keys of age everything is encrypted; in the clear when empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        encrypt_to: Vec<String>,
        /// Rows alone, for a database that the app's migrations have made.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        data_only: bool,
        /// Whether SQL is compressed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        gzip: bool,
        /// The server on which an archive is made, without a password; the resource's own when there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    /// Take a file that some script made into the vault, as a backup of a resource. The file is left alone.
    Adopt {
        /// The resource that it is a backup of.
        resource: ResourceName,
        /// The file.
        file: PathBuf,
        /// Up to when it is complete; what its name says, else its time of change, when nobody says it.
        at: Option<Timestamp>,
        /// What to call it.
        label: Option<String>,
        /// The server on which a dump is loaded, without a password; the resource's own when there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    /// Take back what an operation did.
    Undo {
        /// Which operation.
        operation: OperationId,
    },
    /// Let backups go that the retention rules do not keep.
    Retention,
    /// Free the space that forgotten backups held.
    Prune,
    /// Say something about a backup.
    Mark {
        /// Which backup.
        backup: BackupId,
        /// What.
        mark: BackupMark,
    },
    /// Delete what a restore set aside.
    Release {
        /// The operation that set it aside.
        operation: OperationId,
    },
    /// Stop all writes to a database on a server, and see that they have stopped; or let them in again.
    Fence {
        /// Which database.
        resource: ResourceName,
        /// Stop them.
        on: bool,
        /// Why; it is written into the database, where whoever is refused can read it.
        why: String,
    },
    /// Insert rows again that left with a restore or an undo.
    BringBack {
        /// The operation that keeps them.
        operation: OperationId,
        /// Of which tables; all when empty.
        tables: Vec<String>,
        /// Write rows over that had changed, where what came back is still what the backup has.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        overwrite: bool,
        /// Take rows away that had gone, likewise.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        deletes: bool,
    },
    /// Lay a table of a backup beside the live one, compare the two, and insert the rows that are missing when asked to.
    RestoreTable {
        /// Which resource.
        resource: ResourceName,
        /// From which backup.
        from: BackupChoice,
        /// Which table.
        table: String,
        /// Only rows for which this SQL is true.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<String>,
        /// Insert what is missing.
        #[serde(default)]
        insert: bool,
        /// And write over rows that have other values than in the backup.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        overwrite: bool,
    },
    /// Bring a second vault up to date: copy the backups it lacks and its own rules would keep.
    Copy {
        /// Which copy, by its name in the settings.
        to: VaultName,
    },
    /// Send a plain file of a database to the place that the settings name for it.
    Send {
        /// Which database.
        resource: ResourceName,
    },
    /// Say that a secret got into wrong hands: values of it in backups of that time are not to come back.
    Compromise {
        /// The variable that held it.
        secret: String,
        /// Backups that are complete at this instant or later; from the first on when nobody says.
        since: Option<Timestamp>,
        /// Backups that are complete before this instant: when it was changed.
        before: Timestamp,
        /// What happened.
        why: String,
        /// It was a mistake: what was said about this variable before does not count any more.
        withdrawn: bool,
    },
    /// Put on record that a person has looked at something and stands for it.
    Attest {
        /// What was looked at: `retention`.
        about: String,
        /// What it said then.
        report: Vec<String>,
        /// What the person says to it.
        note: String,
    },
    /// Close the app for everybody who comes through the gateway, or open it again.
    Maintenance {
        /// Close it.
        on: bool,
        /// Why; it stays among ourselves.
        why: String,
        /// Until when, as far as anybody knows; everybody is told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// Switch a feature of the app off, or on again.
    Feature {
        /// Which.
        feature: ResourceName,
        /// Whether it shall be on.
        on: bool,
        /// Why.
        why: String,
        /// The incident during which it is off: whose closing switches it on again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incident: Option<OperationId>,
    },
    /// Say that an incident has begun, is over, or was reviewed.
    Incident {
        /// Which of these.
        about: IncidentStep,
    },
    /// Put on record whether a release is rolled back, or how far something reaches.
    Decide {
        /// What.
        about: DecisionRecord,
    },
    /// Say something about a restore that a provider carries out.
    Provider {
        /// What.
        about: ProviderStep,
    },
    /// Change something about the mirror of a SQLite file.
    Sync {
        /// Which link.
        link: ResourceName,
        /// What.
        about: SyncAsk,
    },
    /// Bring the application to a state that works: the emergency levels that concern more than the mirror.
    Level {
        /// Which target; nothing when there is none.
        target: Option<ResourceName>,
        /// Which link; nothing when there is none.
        link: Option<ResourceName>,
        /// What.
        about: LevelAsk,
    },
    /// Change which rows of a table a server shows to whom.
    Policy {
        /// Which database: a resource on a server, or a link, whose cloud is meant.
        database: ResourceName,
        /// Which table, as SQL names it.
        table: String,
        /// What.
        about: PolicyAsk,
    },
    /// Try one of the quarterly tests, where nothing is lost by it.
    Drill {
        /// Which.
        about: Drill,
    },
    /// Something about releases and migrations: seal, judge, go back.
    Version {
        /// What.
        about: VersionAsk,
    },
}

/// What a person can say about a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mark", rename_all = "kebab-case")]
pub enum BackupMark {
    /// Nobody may delete it, for this reason.
    Hold {
        /// The reason.
        why: String,
    },
    /// The rules apply again.
    Unhold,
    /// It must not be chosen by itself, for this reason.
    Suspect {
        /// The reason.
        why: String,
    },
    /// It may be chosen again.
    Trust,
}

impl Request {
    /// One word for lists: `backup`, `restore`, ...
    pub fn word(&self) -> &'static str {
        match self {
            Request::Backup { .. } => "backup",
            Request::Restore { .. } => "restore",
            Request::Prove { .. } => "prove",
            Request::Shadow { .. } => "shadow",
            Request::Export { .. } => "export",
            Request::Adopt { .. } => "adopt",
            Request::Undo { .. } => "undo",
            Request::Retention => "retention",
            Request::Prune => "prune",
            Request::Mark { .. } => "mark",
            Request::Release { .. } => "release",
            Request::Copy { .. } => "copy",
            Request::Send { .. } => "send",
            Request::Compromise { .. } => "compromise",
            Request::Attest { .. } => "attest",
            Request::Fence { .. } => "fence",
            Request::BringBack { .. } => "salvage",
            Request::RestoreTable { .. } => "restore",
            Request::Maintenance { .. } => "maintenance",
            Request::Feature { .. } => "feature",
            Request::Incident { .. } => "incident",
            Request::Decide { .. } => "decide",
            Request::Provider { .. } => "provider",
            Request::Sync { .. } => "sync",
            Request::Level { .. } => "level",
            Request::Drill { .. } => "drill",
            Request::Policy { .. } => "policy",
            Request::Version { about } => match about {
                VersionAsk::Seal { .. } => "checkpoint",
                VersionAsk::Mark { .. } => "release-mark",
                VersionAsk::Deploy(_) => "deploy",
                VersionAsk::Env(_) => "env-restore",
                VersionAsk::Platform(ask) => ask.kind(),
                VersionAsk::RollBack { .. } => "rollback",
                VersionAsk::Rehearse { .. } => "rehearse",
                VersionAsk::Revert { .. } => "revert",
            },
        }
    }

    /// Whether a running operation of this kind stops at its next safe point when a rollback waits for it. Who brings something back is
    /// not stopped by anybody.
    pub fn makes_way(&self) -> bool {
        match self {
            Request::Backup { .. } | Request::Prove { .. } | Request::Export { .. } | Request::Copy { .. } => true,
            Request::Shadow { .. } | Request::Send { .. } => true,
            Request::Restore { .. } | Request::Undo { .. } | Request::Retention | Request::Release { .. } => false,
            Request::Prune | Request::Mark { .. } | Request::Adopt { .. } | Request::Sync { .. } => false,
            Request::Compromise { .. } | Request::Attest { .. } | Request::Incident { .. } => false,
            Request::Maintenance { .. } | Request::Decide { .. } | Request::Provider { .. } => false,
            Request::Fence { .. } | Request::BringBack { .. } | Request::RestoreTable { .. } => false,
            Request::Level { .. } | Request::Policy { .. } => false,
            Request::Feature { .. } => false,
            Request::Drill { .. } => true,
            Request::Version { about } => match about {
                VersionAsk::Deploy(_) | VersionAsk::Seal { .. } | VersionAsk::Rehearse { .. } => true,
                VersionAsk::Mark { .. } | VersionAsk::Env(_) | VersionAsk::Platform(_) => false,
                VersionAsk::RollBack { .. } | VersionAsk::Revert { .. } => false,
            },
        }
    }

    /// Whether an interrupted operation of this kind may be put back by the next one without asking anybody:
    /// it has nothing of its own to lose and stands in nobody's way.
    pub fn may_be_put_back_unasked(&self) -> bool {
        match self {
            Request::Backup { .. } | Request::Prove { .. } | Request::Prune | Request::Mark { .. } => true,
            Request::Shadow { .. } | Request::Send { .. } => true,
            Request::Export { .. } | Request::Adopt { .. } | Request::Copy { .. } => true,
            Request::Compromise { .. } | Request::Attest { .. } | Request::Incident { .. } => true,
            Request::Maintenance { .. } | Request::Decide { .. } | Request::Provider { .. } => true,
            // Its steps are switches and copies: what was begun may be put back, or begun again.
            Request::Sync { .. } => true,
            Request::Restore { .. } | Request::Undo { .. } | Request::Retention | Request::Release { .. } => false,
            Request::Fence { .. } | Request::BringBack { .. } | Request::RestoreTable { .. } => false,
            Request::Level { .. } | Request::Drill { .. } | Request::Policy { .. } => false,
            Request::Feature { .. } => false,
            Request::Version { about } => match about {
                VersionAsk::Seal { .. } | VersionAsk::Mark { .. } | VersionAsk::Rehearse { .. } => true,
                VersionAsk::Deploy(_) | VersionAsk::Env(_) | VersionAsk::Platform(_) => false,
                VersionAsk::RollBack { .. } | VersionAsk::Revert { .. } => false,
            },
        }
    }
}
