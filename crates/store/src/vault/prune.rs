//! Giving back the space of what no snapshot needs any more, in two phases, so that somebody who still relies on it
//! loses nothing.
//!
//! ```text
//! look       every snapshot, every tree, every index file, every pack    any of them unreadable: nothing is done
//! plan       facts -> what is kept, repacked, marked, deleted            a pure function, see plan.rs
//! delete     packs that an earlier run marked longer ago than the grace period, and that nobody needs
//! repack     what is needed of packs that are mostly waste goes into new packs
//! mark       a new index: packs in use, and beside them those no longer needed, with the time; restic ignores these
//! forget     the old index files
//! ```
//! At every point between two of these the vault is whole: what is marked or repacked is still in the old index until
//! the new one is there, and still in its pack until a later run. A marked pack that turns out to be needed - by a
//! backup that lost its lock on the way - goes back into the index.

mod facts;
mod plan;

use std::time::Duration;

use lifeboat_io::{HalfWritten, Stop};
use lifeboat_model::Timestamp;

use super::{
    BlobKind, Core, Id, LockKind, Tally, Vault, VaultError, VaultLock, file,
    index::{self, IndexFile, PackJson},
    lock_of,
    pack::{self, Mark, OpenPack, PackedBlob, Unsealer},
};
use facts::Facts;
use plan::{Fate, Plan};

/// Blobs that an index file holds at most.
const INDEX_BLOBS: usize = 40_000;
/// What is half-written stays at least so long: its writer may live.
const HALF_WRITTEN_AGE_MIN: Duration = Duration::from_secs(3600);
/// After so many deletions the lock is looked at again.
const DELETIONS_PER_LOOK: usize = 64;

/// How a vault is pruned.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// How long a pack that nobody needs stays, so that a backup that began before it was marked can still rely on it.
    pub grace: Duration,
    /// Waste that may stay in packs that are partly used, in percent of what is used.
    pub unused_percent_max: u32,
    /// Also prune when there is no snapshot at all, which deletes everything. Otherwise that is taken for an accident.
    pub even_without_snapshots: bool,
    /// Breaks it off.
    pub stop: Stop,
}

impl Default for PruneOptions {
    fn default() -> Self {
        PruneOptions {
            grace: Duration::from_secs(24 * 3600),
            unused_percent_max: 5,
            even_without_snapshots: false,
            stop: Stop::default(),
        }
    }
}

/// What a prune does, or has done. Bytes are those of whole packs, except where it says blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Snapshots that were read.
    pub snapshots: u64,
    /// Blobs that they need.
    pub used_blobs: Tally,
    /// Blobs that they do not need, in packs that stay.
    pub unused_blobs_kept: Tally,
    /// Packs that stay as they are.
    pub kept: Tally,
    /// Packs whose needed blobs are copied into new ones; they are marked too.
    pub repacked: Tally,
    /// Packs that are marked now, the repacked ones among them.
    pub marked: Tally,
    /// Packs that were marked before, and wait for the end of their grace period.
    pub waiting: Tally,
    /// Packs that were marked before, and turned out to be needed.
    pub revived: Tally,
    /// Packs that are deleted: marked longer ago than the grace period.
    pub deleted: Tally,
    /// Files that a writer of ours left half-written longer ago than the grace period, and that are deleted. Never a file of
    /// anybody else.
    pub half_written: Tally,
}

impl Vault {
    /// What [`Vault::prune`] would do now. Changes nothing.
    ///
    /// # Errors
    /// As [`Vault::prune`].
    pub fn plan_prune(&self, options: &PruneOptions) -> Result<PruneReport, VaultError> {
        let _lock = self.lock(LockKind::Shared, &options.stop)?;
        Ok(self.look_and_plan(options)?.1.report)
    }

    /// Marks packs that no snapshot needs, and deletes those that were marked long enough ago. Holds the vault alone.
    ///
    /// It may be killed at any point: the vault is whole, and the next prune goes on.
    ///
    /// # Errors
    /// [`VaultError::Locked`]; [`VaultError::Damaged`] or [`VaultError::Missing`] when a snapshot, a tree, an index
    /// file or a needed blob cannot be read: then nothing is deleted. [`VaultError::LockLost`].
    pub fn prune(&self, options: &PruneOptions) -> Result<PruneReport, VaultError> {
        let lock = self.lock(LockKind::Exclusive, &options.stop)?;
        let (facts, plan) = self.look_and_plan(options)?;
        self.sweep_half_written(options, &lock)?;
        if !plan.changes_something() {
            return Ok(plan.report);
        }
        let work = Work { core: &self.core, lock: &lock, stop: &options.stop, facts: &facts, plan: &plan };
        work.delete_expired()?;
        let repacked = work.repack()?;
        let written = work.write_index(&repacked)?;
        work.delete_old_index(&written)?;
        // What is in memory names packs that are marked by now.
        *lock_of(&self.core.index) = std::sync::Arc::default();
        Ok(plan.report)
    }

    fn look_and_plan(&self, options: &PruneOptions) -> Result<(Facts, Plan), VaultError> {
        let facts = facts::look(self, &options.stop)?;
        if facts.snapshots == 0 && !facts.packs.is_empty() && !options.even_without_snapshots {
            return Err(VaultError::Missing { object: "every snapshot".to_owned() });
        }
        let mut plan = plan::plan(&facts, options)?;
        self.old_half_written(options)?.iter().for_each(|left| plan.report.half_written.add(left.size));
        Ok((facts, plan))
    }

    fn old_half_written(&self, options: &PruneOptions) -> Result<Vec<HalfWritten>, VaultError> {
        let mut left = self.core.store.half_written().map_err(VaultError::object("list the vault"))?;
        left.retain(|left| left.age >= options.grace.max(HALF_WRITTEN_AGE_MIN));
        Ok(left)
    }

    /// Nobody reads these: they have no name of a vault's yet. While the vault is ours alone, nobody writes either; what a
    /// writer without a lock might be at is younger.
    fn sweep_half_written(&self, options: &PruneOptions, lock: &VaultLock) -> Result<(), VaultError> {
        for (count, left) in self.old_half_written(options)?.iter().enumerate() {
            options.stop.check()?;
            if count.is_multiple_of(DELETIONS_PER_LOOK) {
                lock.check()?;
            }
            self.core.store.delete(&left.key).map_err(VaultError::object("delete a half-written file"))?;
        }
        Ok(())
    }
}

/// The hands: carries a plan out.
struct Work<'a> {
    core: &'a Core,
    lock: &'a VaultLock,
    stop: &'a Stop,
    facts: &'a Facts,
    plan: &'a Plan,
}

impl Work<'_> {
    fn packs(&self, fate: Fate) -> impl Iterator<Item = (usize, &facts::PackFacts)> {
        let fates = self.facts.packs.iter().enumerate().zip(&self.plan.fates);
        fates.filter(move |(_, its)| **its == fate).map(|(numbered, _)| numbered)
    }

    /// Deletes packs whose grace period has ended. No index names them; if we die here the marks of those that are gone
    /// are dropped next time.
    fn delete_expired(&self) -> Result<(), VaultError> {
        for (count, (_, pack)) in self.packs(Fate::Delete).enumerate() {
            self.before_deleting(count)?;
            let deleted = self.core.store.delete(&pack::object_key(pack.id));
            deleted.map_err(VaultError::object("delete a pack that nobody needs"))?;
        }
        Ok(())
    }

    /// The lock keeps backups from relying on what goes; so it must be there.
    fn before_deleting(&self, count: usize) -> Result<(), VaultError> {
        self.stop.check()?;
        if count.is_multiple_of(DELETIONS_PER_LOOK) { self.lock.check() } else { Ok(()) }
    }

    /// Copies what is needed out of packs that are mostly waste. Sealed bytes are copied as they are, after a look
    /// inside.
    fn repack(&self) -> Result<Vec<PackJson>, VaultError> {
        let mut repacker = Repacker {
            core: self.core,
            unsealer: Unsealer::new()?,
            data: OpenPack::default(),
            trees: OpenPack::default(),
            done: Vec::new(),
        };
        for (number, pack) in self.packs(Fate::Repack) {
            let body = self.core.store.get(&pack::object_key(pack.id)).map_err(VaultError::object("read a pack"))?;
            for (place, blob) in pack.blobs.iter().enumerate() {
                self.stop.check()?;
                if self.plan.is_needed(number, place) {
                    repacker.copy(pack.id, &body, blob)?;
                }
            }
        }
        repacker.finish()
    }

    /// Writes a whole new index: packs in use, and those marked. Gives the names of its files.
    fn write_index(&self, repacked: &[PackJson]) -> Result<Vec<Id>, VaultError> {
        let now = self.facts.now;
        let mut files = vec![IndexFile::default()];
        let mut blobs = 0;
        let mut next = |count: usize, put: &mut dyn FnMut(&mut IndexFile)| {
            if blobs >= INDEX_BLOBS {
                files.push(IndexFile::default());
                blobs = 0;
            }
            blobs += count.max(1);
            files.last_mut().into_iter().for_each(put);
        };
        let describe =
            |pack: &facts::PackFacts, time: Option<Timestamp>| PackJson { time, ..PackJson::new(pack.id, &pack.blobs) };
        for (pack, fate) in self.facts.packs.iter().zip(&self.plan.fates) {
            let count = pack.blobs.len();
            match fate {
                Fate::Keep | Fate::Revive => next(count, &mut |file| file.packs.push(describe(pack, None))),
                Fate::Mark | Fate::Repack => {
                    next(count, &mut |file| file.packs_to_delete.push(describe(pack, Some(now))));
                }
                Fate::Wait => next(count, &mut |file| file.packs_to_delete.push(describe(pack, pack.marked_at))),
                Fate::Delete | Fate::Drop => {}
            }
        }
        for pack in repacked {
            next(pack.blobs.len(), &mut |file| file.packs.push(PackJson::new(pack.id, &pack.packed())));
        }
        let mut written = Vec::new();
        for file in files.iter().filter(|file| !file.packs.is_empty() || !file.packs_to_delete.is_empty()) {
            self.stop.check()?;
            let id = self.core.write_json(index::FOLDER, file)?;
            // The old files go after this, so this one is read back first.
            self.core.read_json::<IndexFile>(index::FOLDER, id)?;
            written.push(id);
        }
        Ok(written)
    }

    fn delete_old_index(&self, written: &[Id]) -> Result<(), VaultError> {
        for (count, &id) in self.facts.index_files.iter().filter(|id| !written.contains(id)).enumerate() {
            self.before_deleting(count)?;
            self.core.delete(index::FOLDER, id)?;
        }
        Ok(())
    }
}

/// Fills new packs with blobs from old ones.
struct Repacker<'a> {
    core: &'a Core,
    unsealer: Unsealer,
    data: OpenPack,
    trees: OpenPack,
    done: Vec<PackJson>,
}

impl Repacker<'_> {
    fn copy(&mut self, from: Id, body: &[u8], blob: &PackedBlob) -> Result<(), VaultError> {
        let bad = |what: String| {
            VaultError::damaged(format!("{} blob {} in {}", blob.kind.word(), blob.id, pack::object_key(from)), what)
        };
        let range = blob.offset as usize..blob.offset as usize + blob.length as usize;
        let sealed = body.get(range).ok_or_else(|| bad("it lies outside of its pack".to_owned()))?;
        let mut plain = Vec::new();
        let opened =
            self.unsealer.open(&self.core.sealer, &mut sealed.to_vec(), blob.plain_length, blob.id, &mut plain);
        opened.map_err(bad)?;
        let open = match blob.kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        };
        let offset = open.bytes.len() as u32;
        open.bytes.extend_from_slice(sealed);
        open.blobs.push(PackedBlob { offset, ..*blob });
        open.marks.push(Mark::of(&plain));
        if open.is_full() {
            let full = std::mem::take(open);
            self.store(full)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<PackJson>, VaultError> {
        for last in [std::mem::take(&mut self.data), std::mem::take(&mut self.trees)] {
            if !last.blobs.is_empty() {
                self.store(last)?;
            }
        }
        Ok(self.done)
    }

    fn store(&mut self, mut full: OpenPack) -> Result<(), VaultError> {
        pack::append_list(&mut full.bytes, &full.blobs, &self.core.sealer);
        let mut scratch = pack::Scratch::default();
        let sealer = &self.core.sealer;
        pack::verify(&full.bytes, &full.blobs, &full.marks, sealer, &mut self.unsealer, &mut scratch)?;
        let id = Id::of(&full.bytes);
        let stored = self.core.store.put(&pack::object_key(id), full.bytes.into());
        stored.map_err(VaultError::object("store a pack"))?;
        self.done.push(PackJson::new(id, &full.blobs));
        Ok(())
    }
}

/// A file that cannot be a whole one: what a broken upload leaves.
fn empty_file(folder: &'static str, id: Id) -> VaultError {
    VaultError::damaged(file::object_key(folder, id), "it is empty")
}
