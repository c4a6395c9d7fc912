//! The index: which blob lies where. One sorted table in memory, some 48 bytes for each blob; JSON files in the vault.

use std::collections::{BTreeSet, HashMap};

use lifeboat_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    BlobKind, Core, Id, VaultError,
    pack::{self, PackedBlob},
    parallel,
};

/// The folder they lie in.
pub(crate) const FOLDER: &str = "index";

/// Where a blob lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    pub id: Id,
    /// Number of its pack in [`Index::packs`].
    pub pack: u32,
    pub offset: u32,
    pub length: u32,
    /// Bytes after decompression; 0 when it is not compressed.
    pub plain_length: u32,
}

impl Location {
    /// Bytes of the blob itself.
    pub fn plain_bytes(&self) -> u64 {
        match self.plain_length {
            0 => u64::from(self.length).saturating_sub(super::seal::OVERHEAD as u64),
            length => u64::from(length),
        }
    }
}

/// A pack as the index files describe it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pack {
    pub id: Id,
    /// Bytes it must have, list and all.
    pub bytes: u64,
}

/// Where in a sorted table a blob is, or would be. Ids are digests, spread evenly: where among all of them one lies says about
/// where it is in the table, and a search from there on finds it in two or three steps where halving takes twenty, most of
/// them in memory that is in no cache.
fn first_of(table: &[Location], id: Id) -> usize {
    let share = u128::from(u64::from_be_bytes(id.bits().to_le_bytes()));
    let guess = ((share * table.len() as u128) >> 64) as usize;
    let is_before = |at: usize| table[at].id < id;
    // Steps that double, away from the guess, until the place is between two of them.
    let (mut low, mut high, mut step) = (guess, guess, 8);
    while low > 0 && !is_before(low - 1) {
        high = low;
        low = low.saturating_sub(step);
        step *= 2;
    }
    step = 8;
    while high < table.len() && is_before(high) {
        low = high + 1;
        high = (high + step).min(table.len());
        step *= 2;
    }
    low + table[low..high].partition_point(|location| location.id < id)
}

/// All index files that were there when it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Files it was read from.
    files: BTreeSet<Id>,
    pub packs: Vec<Pack>,
    /// Sorted by id. A blob may lie in several packs.
    data: Vec<Location>,
    trees: Vec<Location>,
}

impl Index {
    /// All places a blob lies in.
    pub fn find(&self, kind: BlobKind, id: Id) -> &[Location] {
        let table = self.blobs(kind);
        let first = first_of(table, id);
        let count = table[first..].iter().take_while(|location| location.id == id).count();
        &table[first..first + count]
    }

    pub fn contains(&self, kind: BlobKind, id: Id) -> bool {
        !self.find(kind, id).is_empty()
    }

    /// Leaves out the packs that are not as the index says: their blobs are not in the vault.
    pub fn without_packs(&mut self, is_missing: impl Fn(&Pack) -> bool) {
        let missing: Vec<bool> = self.packs.iter().map(is_missing).collect();
        if missing.contains(&true) {
            self.data.retain(|location| !missing[location.pack as usize]);
            self.trees.retain(|location| !missing[location.pack as usize]);
        }
    }

    /// Blobs of one kind, sorted by id; those in several packs as often.
    pub fn blobs(&self, kind: BlobKind) -> &[Location] {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// The place of a blob's first location among those of its kind: a number for it, as long as the index stays.
    pub fn place(&self, kind: BlobKind, id: Id) -> Option<usize> {
        let table = self.blobs(kind);
        let first = first_of(table, id);
        table.get(first).is_some_and(|location| location.id == id).then_some(first)
    }

    /// Adds files to the table.
    pub fn add(&mut self, files: Vec<(Id, IndexFile)>) {
        let mut numbers: HashMap<Id, u32> =
            self.packs.iter().enumerate().map(|(number, pack)| (pack.id, number as u32)).collect();
        for (id, file) in files {
            self.files.insert(id);
            for pack in file.packs {
                // A pack that two files describe is described alike.
                if numbers.contains_key(&pack.id) {
                    continue;
                }
                numbers.insert(pack.id, self.packs.len() as u32);
                self.add_pack(pack);
            }
        }
        for table in [&mut self.data, &mut self.trees] {
            table.sort_unstable();
            table.shrink_to_fit();
        }
    }

    fn add_pack(&mut self, file: PackJson) {
        let number = self.packs.len() as u32;
        let (mut end, mut compressed, mut raw) = (0, 0, 0);
        for blob in &file.blobs {
            end = end.max(u64::from(blob.offset) + u64::from(blob.length));
            if blob.uncompressed_length == 0 {
                raw += 1
            } else {
                compressed += 1
            }
            let table = match blob.kind {
                KindJson::Data => &mut self.data,
                KindJson::Tree => &mut self.trees,
            };
            table.push(Location {
                id: blob.id,
                pack: number,
                offset: blob.offset,
                length: blob.length,
                plain_length: blob.uncompressed_length,
            });
        }
        self.packs.push(Pack { id: file.id, bytes: end + pack::list_bytes(compressed, raw) });
    }
}

/// An index file as restic writes it.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct IndexFile {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<Id>,
    pub packs: Vec<PackJson>,
    /// Packs that a prune found unused, and when. They are deleted after a grace period, or come back when somebody relied
    /// on them in the meantime. restic does not look at them; rustic has them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs_to_delete: Vec<PackJson>,
}

/// A pack in an index file.
#[derive(Serialize, Deserialize)]
pub(crate) struct PackJson {
    pub id: Id,
    #[serde(default)]
    pub blobs: Vec<BlobJson>,
    /// When it was found unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// A blob in an index file.
#[derive(Serialize, Deserialize)]
pub(crate) struct BlobJson {
    id: Id,
    #[serde(rename = "type")]
    kind: KindJson,
    offset: u32,
    length: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    uncompressed_length: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindJson {
    Data,
    Tree,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl IndexFile {
    /// A file that describes these packs.
    pub fn new(packs: &[(Id, Vec<PackedBlob>)]) -> IndexFile {
        let packs = packs.iter().map(|(id, blobs)| PackJson::new(*id, blobs));
        IndexFile { packs: packs.collect(), ..IndexFile::default() }
    }
}

impl PackJson {
    pub fn new(id: Id, blobs: &[PackedBlob]) -> PackJson {
        PackJson { id, blobs: blobs.iter().map(BlobJson::new).collect(), time: None }
    }

    pub fn packed(&self) -> Vec<PackedBlob> {
        self.blobs.iter().map(BlobJson::packed).collect()
    }
}

impl BlobJson {
    fn packed(&self) -> PackedBlob {
        PackedBlob {
            kind: match self.kind {
                KindJson::Data => BlobKind::Data,
                KindJson::Tree => BlobKind::Tree,
            },
            id: self.id,
            offset: self.offset,
            length: self.length,
            plain_length: self.uncompressed_length,
        }
    }

    fn new(blob: &PackedBlob) -> BlobJson {
        BlobJson {
            id: blob.id,
            kind: match blob.kind {
                BlobKind::Data => KindJson::Data,
                BlobKind::Tree => KindJson::Tree,
            },
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.plain_length,
        }
    }
}

impl Core {
    /// The index as it is now. Files read before are not read again.
    pub fn index(&self) -> Result<std::sync::Arc<Index>, VaultError> {
        let mut kept = super::lock_of(&self.index);
        let listed: BTreeSet<Id> = self.list(FOLDER)?.into_iter().collect();
        if kept.files == listed {
            return Ok(kept.clone());
        }
        // A file that is gone was replaced: what it said may not hold any more, so all is read anew.
        let known = if kept.files.is_subset(&listed) { (**kept).clone() } else { Index::default() };
        let new: Vec<Id> = listed.difference(&known.files).copied().collect();
        let mut index = known;
        // By the handful: parsed files are larger than the table that is made of them.
        for some in new.chunks(8) {
            let files = parallel::map(some, |&id| Ok((id, self.read_json(FOLDER, id)?)))?;
            index.add(files);
        }
        *kept = std::sync::Arc::new(index);
        Ok(kept.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(id: [u8; 32]) -> Location {
        Location { id: Id(id), pack: 0, offset: 0, length: 1, plain_length: 0 }
    }

    #[test]
    fn a_blob_is_found_where_halving_finds_it_however_ids_are_spread() {
        let digests = |count: u32| (0..count).map(|number| Id::of(&number.to_le_bytes()).0).collect::<Vec<_>>();
        let crowded = |head: u8| {
            let mut ids = digests(300);
            ids.iter_mut().for_each(|id| id[..8].fill(head));
            ids
        };
        let doubled: Vec<_> = digests(50).into_iter().flat_map(|id| [id, id, id]).collect();
        for ids in [vec![], digests(1), digests(2), digests(5_000), crowded(0), crowded(255), crowded(127), doubled] {
            let mut table: Vec<Location> = ids.iter().copied().map(location).collect();
            table.sort_unstable();
            for wanted in ids.into_iter().chain(digests(6_000)).chain([[0; 32], [255; 32]]).map(Id) {
                let halved = table.partition_point(|location| location.id < wanted);
                assert_eq!(first_of(&table, wanted), halved, "{wanted} in {}", table.len());
            }
        }
    }
}
