//! Snapshots: one small JSON file each, written last of all. Whoever reads restic's reads ours.

use bytes::Bytes;
use lifeboat_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Core, Id, SnapshotId, Vault, VaultError, file, parallel};

/// The folder they lie in.
pub(crate) const FOLDER: &str = "snapshots";

/// A backup as the vault knows it: a moment, a tree, and what was written beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name: the digest of its file.
    #[serde(skip, default = "no_id")]
    pub id: SnapshotId,
    /// The moment it stands for.
    pub time: Timestamp,
    /// An older snapshot that restic compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// Its root folder.
    pub tree: Id,
    /// What was backed up, as `restic snapshots` shows and groups it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub paths: Vec<String>,
    /// Where it was made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub tags: Vec<String>,
    /// The snapshot this one is a rewritten copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// The program that made it, when it said so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// What Lifeboat keeps beside; restic does not look at it, and loses it when it rewrites a snapshot.
    #[serde(default, rename = "lifeboat", skip_serializing_if = "serde_json::Value::is_null")]
    pub extra: serde_json::Value,
}

fn no_id() -> Id {
    Id([0; 32])
}

/// Go writes an empty list as null.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What the caller says about a backup when all its streams have ended.
#[derive(Clone, Debug)]
pub struct SnapshotMeta {
    /// The moment it stands for.
    pub time: Timestamp,
    /// Where it was made.
    pub hostname: String,
    /// Who made it.
    pub username: String,
    /// What was backed up; absolute paths, as restic shows and groups them.
    pub paths: Vec<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Kept under the key `lifeboat`; null for nothing.
    pub extra: serde_json::Value,
}

/// All snapshots that could be read, and those that could not.
#[derive(Debug)]
pub struct SnapshotSurvey {
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Names of files that are damaged, and how.
    pub damaged: Vec<(SnapshotId, VaultError)>,
}

/// A snapshot's file as it was stored; [`Vault::unforget`] puts it back.
#[derive(Clone, Debug)]
pub struct ForgottenSnapshot {
    /// Its name.
    pub id: SnapshotId,
    /// Its sealed bytes.
    pub raw: Bytes,
}

impl Vault {
    /// Every snapshot, restic's too, oldest first. A damaged one is an error; [`Vault::survey_snapshots`] goes on.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, VaultError> {
        let survey = self.survey_snapshots()?;
        match survey.damaged.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(survey.snapshots),
        }
    }

    /// Every snapshot that can be read, oldest first, and what is wrong with the others.
    pub fn survey_snapshots(&self) -> Result<SnapshotSurvey, VaultError> {
        let ids = self.core.list(FOLDER)?;
        let read = parallel::map(&ids, |&id| Ok((id, self.core.read_snapshot(id))))?;
        let mut survey = SnapshotSurvey { snapshots: Vec::new(), damaged: Vec::new() };
        for (id, result) in read {
            match result {
                Ok(snapshot) => survey.snapshots.push(snapshot),
                // Somebody forgot it between the listing and the look.
                Err(VaultError::Object { source, .. }) if source.kind == lifeboat_io::ObjectErrorKind::Missing => {}
                Err(error @ VaultError::Damaged { .. }) => survey.damaged.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        survey.snapshots.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
        Ok(survey)
    }

    /// The snapshot of this name.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot, VaultError> {
        self.core.read_snapshot(id)
    }

    /// A snapshot's file as it is stored: what [`Vault::unforget`] puts back.
    pub fn raw_snapshot(&self, id: SnapshotId) -> Result<ForgottenSnapshot, VaultError> {
        Ok(ForgottenSnapshot { id, raw: self.core.read_raw(FOLDER, id)? })
    }

    /// Deletes snapshot files, nothing else: the data stays until a prune. What is given back undoes it. All are read
    /// before the first is deleted.
    pub fn forget(&self, ids: &[SnapshotId]) -> Result<Vec<ForgottenSnapshot>, VaultError> {
        let forgotten = parallel::map(ids, |&id| Ok(ForgottenSnapshot { id, raw: self.core.read_raw(FOLDER, id)? }))?;
        for &id in ids {
            self.core.delete(FOLDER, id)?;
        }
        Ok(forgotten)
    }

    /// Puts forgotten snapshots back. Good as long as no prune came between: check with [`Vault::verify_snapshot`].
    pub fn unforget(&self, forgotten: &[ForgottenSnapshot]) -> Result<(), VaultError> {
        for ForgottenSnapshot { id, raw } in forgotten {
            let key = file::object_key(FOLDER, *id);
            if Id::of(raw) != *id {
                return Err(VaultError::damaged(key, "the bytes to put back are not what its name says"));
            }
            self.core.store.put(&key, raw.clone()).map_err(VaultError::object("put a snapshot back"))?;
        }
        Ok(())
    }
}

impl Core {
    fn read_snapshot(&self, id: SnapshotId) -> Result<Snapshot, VaultError> {
        let snapshot: Snapshot = self.read_json(FOLDER, id)?;
        Ok(Snapshot { id, ..snapshot })
    }
}
