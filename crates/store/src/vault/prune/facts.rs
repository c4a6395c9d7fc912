//! What a prune must know before it decides: everything in the vault, or an error.

use std::collections::{BTreeMap, HashMap, HashSet};

use lifeboat_io::Stop;
use lifeboat_model::Timestamp;

use super::empty_file;
use crate::vault::{
    BlobKind, EntryKind, Id, Vault, VaultError, file,
    index::{self, Index, IndexFile, PackJson},
    pack::{self, PackedBlob},
    parallel,
    read::BlobReader,
    snapshot,
};

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// When we looked.
    pub now: Timestamp,
    /// How many snapshots there are, all read.
    pub snapshots: u64,
    /// Blobs that they need, trees too.
    pub needed: HashSet<(BlobKind, Id)>,
    /// Packs in the index, then marked ones, then those in no index.
    pub packs: Vec<PackFacts>,
    /// All index files there were.
    pub index_files: Vec<Id>,
}

/// A pack.
#[derive(Clone, Debug)]
pub(super) struct PackFacts {
    pub id: Id,
    /// Where the index has it.
    pub standing: Standing,
    /// When it was marked; an unreadable time counts as now.
    pub marked_at: Option<Timestamp>,
    /// What is in it, as the index or its mark says.
    pub blobs: Vec<PackedBlob>,
    /// Its size in the listing; none when it is not there.
    pub size: Option<u64>,
    /// The size it must have; none for packs in no index.
    pub expected: Option<u64>,
}

impl PackFacts {
    /// Whether blobs can be had from it.
    pub fn is_good(&self) -> bool {
        self.size.is_some() && self.size == self.expected
    }
}

/// Where the index has a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In use.
    Live,
    /// Marked for deletion, and not in use.
    Marked,
    /// Nowhere.
    Unindexed,
}

/// Looks at everything. Any listing that fails and any file that cannot be read ends it.
pub(super) fn look(vault: &Vault, stop: &Stop) -> Result<Facts, VaultError> {
    let core = &vault.core;
    let mut facts = Facts { now: core.io.clock.now(), ..Facts::default() };

    // In the opposite order of writing. We hold the lock, but a backup that has lost its own may be at work all the
    // same.
    let snapshot_ids = list_all(vault, snapshot::FOLDER)?;
    let snapshots = parallel::map(&snapshot_ids, |&id| vault.snapshot(id))?;
    facts.snapshots = snapshots.len() as u64;
    facts.index_files = list_all(vault, index::FOLDER)?;
    let mut live: BTreeMap<Id, PackJson> = BTreeMap::new();
    let mut marked: BTreeMap<Id, PackJson> = BTreeMap::new();
    for some in facts.index_files.chunks(8) {
        stop.check()?;
        for file in parallel::map(some, |&id| core.read_json::<IndexFile>(index::FOLDER, id))? {
            for pack in file.packs {
                live.entry(pack.id).or_insert(pack);
            }
            for pack in file.packs_to_delete {
                // Of two marks the later one counts.
                match marked.get_mut(&pack.id) {
                    Some(known) => known.time = known.time.max(pack.time),
                    None => drop(marked.insert(pack.id, pack)),
                }
            }
        }
    }
    let mut sizes = core.pack_sizes()?;
    marked.retain(|id, _| !live.contains_key(id));
    let mut index = Index::default();
    for (standing, packs) in [(Standing::Live, live), (Standing::Marked, marked)] {
        let file = IndexFile { packs: packs.into_values().collect(), ..IndexFile::default() };
        facts.packs.extend(file.packs.iter().map(|pack| PackFacts {
            id: pack.id,
            standing,
            marked_at: (standing == Standing::Marked).then(|| pack.time.unwrap_or(facts.now)),
            blobs: pack.packed(),
            size: sizes.remove(&pack.id),
            expected: Some(expected_bytes(pack)),
        }));
        index.add(vec![(Id([standing as u8; 32]), file)]);
    }
    let mut unindexed: Vec<(Id, u64)> = sizes.into_iter().collect();
    unindexed.sort_unstable();
    facts.packs.extend(unindexed.into_iter().map(|(id, size)| PackFacts {
        id,
        standing: Standing::Unindexed,
        marked_at: None,
        blobs: Vec::new(),
        size: Some(size),
        expected: None,
    }));

    // What lies in a pack that is not there cannot be read from it, and must not be looked for there.
    let good: HashMap<Id, bool> = facts.packs.iter().map(|pack| (pack.id, pack.is_good())).collect();
    index.without_packs(|pack| !good.get(&pack.id).copied().unwrap_or(false));
    let mut reader = BlobReader::new(core, &index)?;
    for snapshot in &snapshots {
        need_tree(&mut reader, snapshot.tree, &mut facts.needed, stop)?;
    }
    Ok(facts)
}

/// Everything in a folder of files named by digests. Something empty is not left out: it may have been a snapshot.
fn list_all(vault: &Vault, folder: &'static str) -> Result<Vec<Id>, VaultError> {
    let listed = vault.core.store.list(folder);
    let listed = listed.map_err(VaultError::object(format!("list the vault's {folder}")))?;
    let mut ids = Vec::new();
    for object in listed {
        match file::listed_id(&object.key) {
            Some(id) if object.size == 0 => return Err(empty_file(folder, id)),
            Some(id) => ids.push(id),
            None => {}
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Notes all blobs below a tree.
fn need_tree(
    reader: &mut BlobReader<'_>,
    root: Id,
    needed: &mut HashSet<(BlobKind, Id)>,
    stop: &Stop,
) -> Result<(), VaultError> {
    let mut folders = vec![root];
    while let Some(tree) = folders.pop() {
        if !needed.insert((BlobKind::Tree, tree)) {
            continue;
        }
        stop.check()?;
        for node in reader.tree(tree)? {
            match node.kind {
                EntryKind::Folder { tree } => folders.push(tree),
                EntryKind::File { content, .. } => {
                    needed.extend(content.into_iter().map(|id| (BlobKind::Data, id)));
                }
                EntryKind::Link { .. } | EntryKind::Other(_) => {}
            }
        }
    }
    Ok(())
}

fn expected_bytes(pack: &PackJson) -> u64 {
    let blobs = pack.packed();
    let end = blobs.iter().map(|blob| u64::from(blob.offset) + u64::from(blob.length)).max().unwrap_or(0);
    let compressed = blobs.iter().filter(|blob| blob.plain_length != 0).count() as u64;
    end + pack::list_bytes(compressed, blobs.len() as u64 - compressed)
}
