//! Whether all that a snapshot needs is in the vault: the quick check right after a backup, which reads no data.

use std::collections::{HashMap, HashSet};

use super::{BlobKind, Core, EntryKind, Id, Snapshot, Vault, VaultError, file, index::Index, pack};

/// What a snapshot needs, all of it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedSnapshot {
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Different blobs, trees too.
    pub blobs: u64,
    /// Packs they lie in.
    pub packs: u64,
}

impl Vault {
    /// Reads every tree of a snapshot and makes sure that each blob is in the index, that each file's blobs add up to its
    /// size, and that each pack is there with the size it must have.
    ///
    /// # Errors
    /// [`VaultError::Missing`] or [`VaultError::Damaged`] for the first thing that is not so.
    pub fn verify_snapshot(&self, snapshot: &Snapshot) -> Result<VerifiedSnapshot, VaultError> {
        let core = &self.core;
        let index = core.index()?;
        let sizes = core.pack_sizes()?;
        let mut seen = Seen { index: &index, sizes: &sizes, blobs: HashSet::new(), packs: HashSet::new() };
        let mut verified = VerifiedSnapshot { files: 0, bytes: 0, blobs: 0, packs: 0 };
        seen.need(BlobKind::Tree, snapshot.tree)?;
        core.walk(&index, snapshot.tree, &mut |entry| {
            match &entry.kind {
                EntryKind::File { size, content } => {
                    let mut bytes = 0;
                    for &id in content {
                        bytes += seen.need(BlobKind::Data, id)?;
                    }
                    if bytes != *size {
                        let what = format!("its blobs have {bytes} bytes and it should have {size}");
                        return Err(VaultError::damaged(entry.path.display().to_string(), what));
                    }
                    verified.files += 1;
                    verified.bytes += bytes;
                }
                EntryKind::Folder { tree } => drop(seen.need(BlobKind::Tree, *tree)?),
                EntryKind::Link { .. } | EntryKind::Other(_) => {}
            }
            Ok(())
        })?;
        verified.blobs = seen.blobs.len() as u64;
        verified.packs = seen.packs.len() as u64;
        Ok(verified)
    }
}

impl Core {
    /// Every pack in the vault and its size.
    pub fn pack_sizes(&self) -> Result<HashMap<Id, u64>, VaultError> {
        let listed = self.store.list(pack::FOLDER).map_err(VaultError::object("list the vault's packs"))?;
        Ok(listed.into_iter().filter_map(|object| Some((file::listed_id(&object.key)?, object.size))).collect())
    }
}

/// What has been looked at.
struct Seen<'a> {
    index: &'a Index,
    sizes: &'a HashMap<Id, u64>,
    blobs: HashSet<(BlobKind, Id)>,
    packs: HashSet<u32>,
}

impl Seen<'_> {
    /// Makes sure that a blob is there and gives its size. One good pack is enough.
    fn need(&mut self, kind: BlobKind, id: Id) -> Result<u64, VaultError> {
        let places = self.index.find(kind, id);
        let Some(first) = places.first() else {
            return Err(VaultError::Missing { object: format!("{} blob {id}", kind.word()) });
        };
        if self.blobs.insert((kind, id)) {
            let good = places.iter().find(|place| self.has_pack(place.pack));
            let Some(good) = good else { return Err(self.bad_pack(first.pack)) };
            self.packs.insert(good.pack);
        }
        Ok(first.plain_bytes())
    }

    fn has_pack(&self, number: u32) -> bool {
        let pack = &self.index.packs[number as usize];
        self.sizes.get(&pack.id) == Some(&pack.bytes)
    }

    fn bad_pack(&self, number: u32) -> VaultError {
        let pack = &self.index.packs[number as usize];
        let object = pack::object_key(pack.id);
        match self.sizes.get(&pack.id) {
            None => VaultError::Missing { object },
            Some(size) => VaultError::damaged(object, format!("it has {size} bytes and should have {}", pack.bytes)),
        }
    }
}
