//! Looking at a whole vault: is everything in it as it must be, and which backups suffer from what is not.

use lifeboat_io::Stop;
use lifeboat_model::Failure;
use lifeboat_store::vault::{CheckOptions, ReadData, Tally};
use serde::Serialize;

use crate::{
    Engine,
    act::{summary, vault_failure},
};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Lists and indexes only: is everything there, and does it fit together?
    Structure,
    /// Every byte.
    All,
    /// Part `n` of `of` of the data, `n` from 1; after `of` checks everything was read once.
    Part {
        /// Which part.
        n: u32,
        /// Of how many.
        of: u32,
    },
}

/// What a check of the vault found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VaultCheck {
    /// Where the vault is.
    pub vault: String,
    /// Everything that is not as it must be.
    pub damage: Vec<VaultDamage>,
    /// Objects that are no part of a vault; they do no harm.
    pub foreign: Vec<String>,
    /// Files that writers who died left half-written; a later prune deletes them.
    pub half_written: Vec<String>,
    /// Snapshots, those of other programs and of journals included.
    pub snapshots: u64,
    /// Files in them.
    pub files: u64,
    /// Packs, and their bytes.
    pub packs: Size,
    /// Packs that no snapshot needs: a prune would free them.
    pub unused: Size,
    /// Packs that a prune has marked for a later one to delete.
    pub marked: Size,
    /// Packs that were read as a whole.
    pub read: Size,
}

/// So many, so large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// How many.
    pub count: u64,
    /// Bytes together.
    pub bytes: u64,
}

impl From<Tally> for Size {
    fn from(tally: Tally) -> Size {
        Size { count: tally.count, bytes: tally.bytes }
    }
}

/// One thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VaultDamage {
    /// Which object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Backups that cannot be restored in full because of it; snapshots that are none of ours by their short names.
    pub affects: Vec<String>,
}

impl Engine {
    /// Checks the whole vault. `progress` hears bytes of packs done, and of all.
    ///
    /// # Errors
    /// When the vault cannot be opened or listed: then nothing is known. Damage is the answer, not an error.
    pub fn check_vault(
        &self,
        depth: Depth,
        stop: &Stop,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<VaultCheck, Failure> {
        let vault = self.vaults.open(&self.setup.vault)?;
        let read_data = match depth {
            Depth::Structure => ReadData::None,
            Depth::All => ReadData::All,
            Depth::Part { n, of } => ReadData::Subset { n, of },
        };
        let options = CheckOptions { read_data, stop: stop.clone() };
        let report = vault.check(&options, progress).map_err(|error| vault_failure(&error))?;
        // A snapshot that cannot be read has no name of ours; what could be read tells the others' names.
        let names = vault.survey_snapshots().map_err(|error| vault_failure(&error))?.snapshots;
        let name = |id: &lifeboat_store::vault::SnapshotId| {
            let known = names.iter().find(|snapshot| &snapshot.id == id).and_then(summary::backup_of);
            known.map_or_else(|| id.short(), |backup| backup.id.to_string())
        };
        let damage = report.damage.iter().map(|damage| VaultDamage {
            object: damage.object.clone(),
            what: damage.what.clone(),
            affects: damage.affects.iter().map(name).collect(),
        });
        Ok(VaultCheck {
            vault: vault.place(),
            damage: damage.collect(),
            foreign: report.foreign,
            half_written: report.half_written,
            snapshots: report.snapshots,
            files: report.files.count,
            packs: report.packs.into(),
            unused: report.unused_packs.into(),
            marked: report.marked_packs.into(),
            read: report.packs_read.into(),
        })
    }

    /// What a prune would do now, in sentences. Changes nothing.
    ///
    /// # Errors
    /// As a prune: when a snapshot cannot be read, for example.
    pub fn preview_prune(&self) -> Result<Vec<String>, Failure> {
        let vault = self.vaults.open(&self.setup.vault)?;
        let options = lifeboat_store::vault::PruneOptions { grace: self.setup.prune_grace, ..Default::default() };
        let report = vault.plan_prune(&options).map_err(|error| vault_failure(&error))?;
        Ok(crate::act::prune_sentences(&report))
    }
}
