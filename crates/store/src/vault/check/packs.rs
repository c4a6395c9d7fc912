//! Packs: there, of the right length, with a list that is the index's; on wish every blob opened.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Check, describe};
use crate::vault::{
    BlobKind, Core, Id, VaultError,
    index::{Index, Pack},
    pack::{self, PackedBlob, Unsealer},
    parallel,
};

/// Which blobs of a pack cannot be had from it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    All,
    Some(HashSet<Id>),
}

/// What a look at a pack found.
struct Look {
    number: u32,
    /// Sentences; none when all is well.
    faults: Vec<String>,
    lost: Lost,
    /// Bytes when it was read as a whole.
    read: Option<u64>,
}

impl Check<'_> {
    pub(super) fn check_packs(&mut self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<(), VaultError> {
        let mut there = Vec::new();
        for number in 0..self.index.packs.len() as u32 {
            let Pack { id, bytes } = self.index.packs[number as usize];
            self.report.packs.add(bytes);
            let what = match self.sizes.get(&id) {
                Some(&size) if size == bytes => {
                    there.push(number);
                    continue;
                }
                Some(size) => format!("it has {size} bytes and should have {bytes}"),
                None => "it is missing".to_owned(),
            };
            let damage = self.damage(pack::object_key(id), what);
            self.causes.packs.insert(number, (damage, Lost::All));
        }
        self.count_unindexed();
        let blobs = BlobsByPack::new(&self.index);
        let wanted = |number: &u32| self.options.read_data.includes(self.index.packs[*number as usize].id);
        let all: u64 = there.iter().filter(|number| wanted(number)).map(|&n| self.index.packs[n as usize].bytes).sum();
        let done = AtomicU64::new(0);
        let looks = parallel::map(&there, |&number| {
            self.options.stop.check()?;
            let pack = self.index.packs[number as usize];
            let expected = blobs.of(&self.index, number);
            let look = if self.options.read_data.includes(pack.id) {
                let look = read_whole(self.core, number, pack, &expected)?;
                progress(done.fetch_add(pack.bytes, Ordering::Relaxed) + pack.bytes, all);
                look
            } else {
                read_list(self.core, number, pack, &expected)
            };
            Ok(look)
        })?;
        for Look { number, faults, lost, read } in looks {
            read.into_iter().for_each(|bytes| self.report.packs_read.add(bytes));
            if !faults.is_empty() {
                let id = self.index.packs[number as usize].id;
                let damage = self.damage(pack::object_key(id), faults.join("; "));
                self.causes.packs.insert(number, (damage, lost));
            }
        }
        Ok(())
    }

    fn count_unindexed(&mut self) {
        let indexed: HashSet<Id> = self.index.packs.iter().map(|pack| pack.id).collect();
        for (id, &size) in &self.sizes {
            match (indexed.contains(id), self.marked.contains(id)) {
                (true, _) => {}
                (false, true) => self.report.marked_packs.add(size),
                (false, false) => self.report.unindexed_packs.add(size),
            }
        }
    }
}

/// The index's blobs, pack by pack.
struct BlobsByPack {
    /// Pack, kind, place in the kind's table; sorted.
    places: Vec<(u32, bool, u32)>,
}

impl BlobsByPack {
    fn new(index: &Index) -> BlobsByPack {
        let of_kind = |kind| {
            let numbered = index.blobs(kind).iter().enumerate();
            numbered.map(move |(place, blob)| (blob.pack, kind == BlobKind::Tree, place as u32))
        };
        let mut places: Vec<_> = of_kind(BlobKind::Data).chain(of_kind(BlobKind::Tree)).collect();
        places.sort_unstable();
        BlobsByPack { places }
    }

    /// What the index says is in a pack, in the order of the pack.
    fn of(&self, index: &Index, pack: u32) -> Vec<PackedBlob> {
        let first = self.places.partition_point(|(number, ..)| *number < pack);
        let here = self.places[first..].iter().take_while(|(number, ..)| *number == pack);
        let mut blobs: Vec<PackedBlob> = here
            .map(|&(_, is_tree, place)| {
                let kind = if is_tree { BlobKind::Tree } else { BlobKind::Data };
                let blob = index.blobs(kind)[place as usize];
                let (id, offset, length, plain_length) = (blob.id, blob.offset, blob.length, blob.plain_length);
                PackedBlob { kind, id, offset, length, plain_length }
            })
            .collect();
        blobs.sort_unstable_by_key(|blob| blob.offset);
        blobs
    }
}

/// Reads the list at the end of a pack only. When it is not as it should be, nothing is known about the blobs.
fn read_list(core: &Core, number: u32, pack: Pack, expected: &[PackedBlob]) -> Look {
    let key = pack::object_key(pack.id);
    let tail = core.store.get_range(&key, blobs_end(expected)..pack.bytes);
    let fault = match tail.map_err(VaultError::object("read the end of a pack")) {
        Ok(tail) => list_fault(core, &tail, pack, expected),
        Err(error) => Some(describe(&error)),
    };
    Look { number, faults: fault.into_iter().collect(), lost: Lost::All, read: None }
}

/// Reads a whole pack and opens each blob.
fn read_whole(core: &Core, number: u32, pack: Pack, expected: &[PackedBlob]) -> Result<Look, VaultError> {
    let body = match core.store.get(&pack::object_key(pack.id)).map_err(VaultError::object("read a pack")) {
        Ok(body) => body,
        Err(error) => return Ok(Look { number, faults: vec![describe(&error)], lost: Lost::All, read: None }),
    };
    let mut faults = Vec::new();
    if Id::of(&body) != pack.id {
        faults.push("its content is not what its name says".to_owned());
    }
    let tail = body.get(blobs_end(expected) as usize..).unwrap_or_default();
    faults.extend(list_fault(core, tail, pack, expected));
    let mut unsealer = Unsealer::new()?;
    let mut lost = HashSet::new();
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    for blob in expected {
        sealed.clear();
        let range = blob.offset as usize..blob.offset as usize + blob.length as usize;
        sealed.extend_from_slice(body.get(range).unwrap_or_default());
        plain.clear();
        if unsealer.open(&core.sealer, &mut sealed, blob.plain_length, blob.id, &mut plain).is_err() {
            lost.insert(blob.id);
        }
    }
    if !lost.is_empty() {
        faults.push(format!("{} of its {} blobs cannot be opened", lost.len(), expected.len()));
    }
    Ok(Look { number, faults, lost: Lost::Some(lost), read: Some(body.len() as u64) })
}

/// Where the list begins: right after the last blob.
fn blobs_end(blobs: &[PackedBlob]) -> u64 {
    blobs.iter().map(|blob| u64::from(blob.offset) + u64::from(blob.length)).max().unwrap_or(0)
}

/// What is wrong with a pack's sealed list and its length.
fn list_fault(core: &Core, tail: &[u8], pack: Pack, expected: &[PackedBlob]) -> Option<String> {
    let Some((list, length)) = tail.split_last_chunk::<4>() else { return Some("it ends before its list".to_owned()) };
    if pack::list_length(*length, pack.bytes) != Some(list.len() as u64) {
        return Some("the length of its list is wrong".to_owned());
    }
    let mut list = list.to_vec();
    let Some(opened) = core.sealer.open(&mut list) else {
        return Some("its list was changed after it was sealed".to_owned());
    };
    match pack::parse_list(opened, blobs_end(expected)) {
        Err(what) => Some(what),
        Ok(listed) if listed == expected => None,
        Ok(_) => Some("its list is not what the index says".to_owned()),
    }
}
