//! What somebody asks for. The only way in: command line, schedule and, later, the API and runbooks all make one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    backup::{BackupChoice, BackupReason},
    export::ExportFormat,
    id::{BackupId, OperationId},
    loss::AcceptLoss,
    resource::ResourceName,
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
            Request::Export { .. } => "export",
            Request::Adopt { .. } => "adopt",
            Request::Undo { .. } => "undo",
            Request::Retention => "retention",
            Request::Prune => "prune",
            Request::Mark { .. } => "mark",
            Request::Release { .. } => "release",
        }
    }

    /// Whether an interrupted operation of this kind may be put back by the next one without asking anybody:
    /// it has nothing of its own to lose and stands in nobody's way.
    pub fn may_be_put_back_unasked(&self) -> bool {
        match self {
            Request::Backup { .. } | Request::Prove { .. } | Request::Prune | Request::Mark { .. } => true,
            Request::Export { .. } | Request::Adopt { .. } => true,
            Request::Restore { .. } | Request::Undo { .. } | Request::Retention | Request::Release { .. } => false,
        }
    }
}
