//! Backups as they are listed, and the choice among them.

use serde::{Deserialize, Serialize};

use crate::{
    id::BackupId,
    resource::{ResourceName, Scope},
    time::Timestamp,
};

/// One backup: a snapshot in the vault plus its manifest, as far as listing and choosing need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Its name.
    pub id: BackupId,
    /// Name of the snapshot in the vault, hex. `restic` knows it by this.
    pub snapshot: String,
    /// App and environment.
    pub scope: Scope,
    /// What it holds.
    pub resources: Vec<ResourceName>,
    /// The instant up to which it is complete. Ages and choices use this, never a file time.
    pub recovery_point: Timestamp,
    /// When it was finished and in the vault.
    pub taken_at: Timestamp,
    /// Why it was made.
    pub reason: BackupReason,
    /// What the person called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Bytes of the data it holds.
    pub bytes: u64,
    /// Bytes it added to the vault.
    pub bytes_added: u64,
    /// The best proof so far: when it was restored and passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_at: Option<Timestamp>,
    /// Why nobody may delete it: a person's hold, or an open incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Why it must not be chosen by itself: taken after the damage may have begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<String>,
}

/// Why a backup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupReason {
    /// Somebody asked.
    Manual,
    /// The clock asked.
    Scheduled,
    /// Before a deploy.
    PreDeploy,
    /// A file or a dump that others had made was taken in.
    Adopted,
    /// What was there before a restore overwrote it. Perhaps the broken state: never chosen by itself.
    Emergency,
}

/// Which backup somebody means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupChoice {
    /// The newest good one.
    Latest,
    /// The newest good one that is complete strictly before this instant.
    Before(Timestamp),
    /// This one, whatever it is.
    Exactly(BackupId),
    /// One of another environment, or of another resource: only ever taken when somebody asked for it.
    Elsewhere {
        /// App and environment it is of.
        scope: Scope,
        /// What it is a backup of there.
        resource: ResourceName,
        /// Which of those.
        which: Box<BackupChoice>,
    },
}

impl BackupChoice {
    /// Which one is meant, wherever it is from.
    pub fn which(&self) -> &BackupChoice {
        match self {
            BackupChoice::Elsewhere { which, .. } => which.which(),
            BackupChoice::Latest | BackupChoice::Before(_) | BackupChoice::Exactly(_) => self,
        }
    }

    /// Whose backup is meant, when nothing else is said.
    pub fn whose<'a>(&'a self, scope: &'a Scope, resource: &'a ResourceName) -> (&'a Scope, &'a ResourceName) {
        match self {
            BackupChoice::Elsewhere { scope, resource, which } => which.whose(scope, resource),
            BackupChoice::Latest | BackupChoice::Before(_) | BackupChoice::Exactly(_) => (scope, resource),
        }
    }

    /// The same source, another one of its backups.
    #[must_use]
    pub fn instead(&self, other: BackupChoice) -> BackupChoice {
        match self {
            BackupChoice::Elsewhere { scope, resource, .. } => {
                BackupChoice::Elsewhere { scope: scope.clone(), resource: resource.clone(), which: Box::new(other) }
            }
            BackupChoice::Latest | BackupChoice::Before(_) | BackupChoice::Exactly(_) => other,
        }
    }
}

/// Why there is no backup to take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum NoBackup {
    #[error("there is no backup of {resource} in {scope}")]
    None { resource: ResourceName, scope: Scope },
    #[error("there is no backup of {resource} from before {before}; the oldest is from {oldest}")]
    TooYoung { resource: ResourceName, before: Timestamp, oldest: Timestamp },
    #[error("the only backups of {resource} are emergency or suspect ones, the newest is {newest}")]
    OnlyDoubtful { resource: ResourceName, newest: BackupId },
    #[error("backup {id} holds no {resource}")]
    NotInIt { id: BackupId, resource: ResourceName },
    #[error("there is no backup {id} of {scope}")]
    Unknown { id: BackupId, scope: Scope },
}

/// Chooses among backups by recovery point. Emergency and suspect ones are taken only when named; a file's time never counts.
pub fn choose_backup<'a>(
    backups: &'a [Backup],
    scope: &Scope,
    resource: &ResourceName,
    choice: &BackupChoice,
) -> Result<&'a Backup, NoBackup> {
    let ((scope, resource), choice) = (choice.whose(scope, resource), choice.which());
    let (scope, resource) = (scope.clone(), resource.clone());
    if let BackupChoice::Exactly(id) = choice {
        let found = backups.iter().find(|backup| &backup.id == id && backup.scope == scope);
        let found = found.ok_or_else(|| NoBackup::Unknown { id: id.clone(), scope })?;
        let holds = found.resources.contains(&resource);
        return if holds { Ok(found) } else { Err(NoBackup::NotInIt { id: id.clone(), resource }) };
    }
    let mine: Vec<&Backup> =
        backups.iter().filter(|backup| backup.scope == scope && backup.resources.contains(&resource)).collect();
    let newest = mine.iter().max_by_key(|backup| backup.recovery_point);
    let newest = newest.ok_or_else(|| NoBackup::None { resource: resource.clone(), scope })?;
    let good = || mine.iter().filter(|backup| backup.reason != BackupReason::Emergency && backup.suspect.is_none());
    let oldest = good().min_by_key(|backup| backup.recovery_point);
    let oldest =
        oldest.ok_or_else(|| NoBackup::OnlyDoubtful { resource: resource.clone(), newest: newest.id.clone() })?;
    let in_time = |backup: &&&Backup| match choice {
        BackupChoice::Before(before) => backup.recovery_point < *before,
        BackupChoice::Latest | BackupChoice::Exactly(_) | BackupChoice::Elsewhere { .. } => true,
    };
    let chosen = good().filter(in_time).max_by_key(|backup| backup.recovery_point);
    match (chosen, choice) {
        (Some(chosen), _) => Ok(chosen),
        (None, BackupChoice::Before(before)) => {
            Err(NoBackup::TooYoung { resource, before: *before, oldest: oldest.recovery_point })
        }
        (None, _) => Err(NoBackup::OnlyDoubtful { resource, newest: newest.id.clone() }),
    }
}
