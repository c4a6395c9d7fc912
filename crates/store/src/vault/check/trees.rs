//! Trees: every folder of every snapshot, once; and which snapshots some damage reaches.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
};

use super::{Check, describe, packs::Lost};
use crate::vault::{
    BlobKind, EntryKind, Id, Snapshot, VaultError,
    index::{Index, Location},
    read::BlobReader,
    tree::Node,
};

/// What each damage means for the snapshots, by the damage's number.
#[derive(Default)]
pub(super) struct Causes {
    /// Index files that cannot be read: whatever is in no index may be in these.
    pub index_files: Vec<usize>,
    /// Packs, and what is lost of them.
    pub packs: HashMap<u32, (usize, Lost)>,
    /// Folders that cannot be read, or in which a file's blobs are missing or do not add up.
    trees: HashMap<Id, Vec<usize>>,
    /// Whether a blob that some folder names is in no index.
    blobs_are_missing: bool,
}

impl Causes {
    fn touch_snapshots(&self) -> bool {
        !self.packs.is_empty() || !self.trees.is_empty()
    }

    /// Damage that keeps a blob from being had from any of its packs.
    fn of_blob(&self, places: &[Location]) -> Vec<usize> {
        let lost = |place: &Location| match self.packs.get(&place.pack) {
            Some((damage, Lost::All)) => Some(*damage),
            Some((damage, Lost::Some(blobs))) if blobs.contains(&place.id) => Some(*damage),
            Some(_) | None => None,
        };
        places.iter().map(lost).collect::<Option<_>>().unwrap_or_default()
    }
}

/// Which blobs some snapshot needs.
struct Used {
    data: Vec<bool>,
    trees: Vec<bool>,
}

impl Used {
    fn mark(&mut self, index: &Index, kind: BlobKind, id: Id) {
        let table = match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        };
        if let Some(place) = index.place(kind, id) {
            table[place] = true;
        }
    }
}

impl Check<'_> {
    /// Looks into every folder of every snapshot.
    pub(super) fn walk(&mut self, snapshots: &[Snapshot]) -> Result<(), VaultError> {
        let index = std::mem::take(&mut self.index);
        let size_of = |kind| index.blobs(kind).len();
        let mut used = Used { data: vec![false; size_of(BlobKind::Data)], trees: vec![false; size_of(BlobKind::Tree)] };
        let mut reader = BlobReader::new(self.core, &index)?;
        let mut seen = HashSet::new();
        for snapshot in snapshots {
            let mut folders = vec![(PathBuf::new(), snapshot.tree)];
            while let Some((path, tree)) = folders.pop() {
                used.mark(&index, BlobKind::Tree, tree);
                if !seen.insert(tree) {
                    continue;
                }
                self.options.stop.check()?;
                self.report.trees += 1;
                match reader.tree(tree) {
                    Ok(nodes) => {
                        for node in nodes {
                            let path = path.join(&node.name);
                            match &node.kind {
                                EntryKind::Folder { tree } => folders.push((path, *tree)),
                                EntryKind::File { .. } => {
                                    self.check_file(&index, &mut used, snapshot, tree, path, &node)
                                }
                                EntryKind::Link { .. } | EntryKind::Other(_) => {}
                            }
                        }
                    }
                    Err(error) => {
                        self.causes.blobs_are_missing |= index.place(BlobKind::Tree, tree).is_none();
                        // A pack that is known to be damaged says it all.
                        if self.causes.of_blob(index.find(BlobKind::Tree, tree)).is_empty() {
                            self.damage_in_tree(tree, named(snapshot, &path), describe(&error));
                        }
                    }
                }
            }
        }
        self.count_blobs(&index, &used);
        self.index = index;
        Ok(())
    }

    fn check_file(
        &mut self,
        index: &Index,
        used: &mut Used,
        snapshot: &Snapshot,
        tree: Id,
        path: PathBuf,
        node: &Node,
    ) {
        let EntryKind::File { size, content } = &node.kind else { return };
        let (mut bytes, mut missing) = (0, 0);
        for &id in content {
            used.mark(index, BlobKind::Data, id);
            match index.find(BlobKind::Data, id).first() {
                Some(place) => bytes += place.plain_bytes(),
                None => missing += 1,
            }
        }
        self.report.files.add(*size);
        if missing > 0 {
            self.causes.blobs_are_missing = true;
            let what = format!("{missing} of its {} blobs are in no index", content.len());
            self.damage_in_tree(tree, named(snapshot, &path), what);
        } else if bytes != *size {
            let what = format!("its blobs have {bytes} bytes and it should have {size}");
            self.damage_in_tree(tree, named(snapshot, &path), what);
        }
    }

    fn damage_in_tree(&mut self, tree: Id, object: String, what: String) {
        let number = self.damage(object, what);
        self.causes.trees.entry(tree).or_default().push(number);
    }

    fn count_blobs(&mut self, index: &Index, used: &Used) {
        let mut needed_packs = HashSet::new();
        for (kind, used) in [(BlobKind::Data, &used.data), (BlobKind::Tree, &used.trees)] {
            let mut is_used = false;
            let mut last = None;
            for (place, blob) in index.blobs(kind).iter().enumerate() {
                // The marks are at the first of a blob's places.
                is_used = if last == Some(blob.id) { is_used } else { used[place] };
                last = Some(blob.id);
                self.report.blobs.add(blob.length.into());
                if is_used {
                    needed_packs.insert(blob.pack);
                } else {
                    self.report.unused_blobs.add(blob.length.into());
                }
            }
        }
        for (number, pack) in index.packs.iter().enumerate() {
            if !needed_packs.contains(&(number as u32)) {
                self.report.unused_packs.add(pack.bytes);
            }
        }
    }

    /// Notes with each damage the snapshots that it reaches.
    pub(super) fn find_affected(&mut self, snapshots: &[Snapshot]) -> Result<(), VaultError> {
        if !self.causes.touch_snapshots() {
            return Ok(());
        }
        let index = std::mem::take(&mut self.index);
        let mut reader = BlobReader::new(self.core, &index)?;
        for snapshot in snapshots {
            for number in self.damage_below(&index, &mut reader, snapshot.tree)? {
                self.report.damage[number].affects.push(snapshot.id);
            }
        }
        self.index = index;
        Ok(())
    }

    fn damage_below(
        &self,
        index: &Index,
        reader: &mut BlobReader<'_>,
        root: Id,
    ) -> Result<BTreeSet<usize>, VaultError> {
        let mut found = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut folders = vec![root];
        while let Some(tree) = folders.pop() {
            if !seen.insert(tree) {
                continue;
            }
            self.options.stop.check()?;
            found.extend(self.causes.of_blob(index.find(BlobKind::Tree, tree)));
            let of_tree = self.causes.trees.get(&tree);
            found.extend(of_tree.into_iter().flatten());
            if of_tree.is_some() && self.causes.blobs_are_missing {
                found.extend(&self.causes.index_files);
            }
            // One that cannot be read is among the causes.
            for node in reader.tree(tree).unwrap_or_default() {
                match node.kind {
                    EntryKind::Folder { tree } => folders.push(tree),
                    EntryKind::File { content, .. } => {
                        let places = content.iter().map(|&id| index.find(BlobKind::Data, id));
                        found.extend(places.flat_map(|places| self.causes.of_blob(places)));
                    }
                    EntryKind::Link { .. } | EntryKind::Other(_) => {}
                }
            }
        }
        Ok(found)
    }
}

fn named(snapshot: &Snapshot, path: &std::path::Path) -> String {
    match path.as_os_str().is_empty() {
        true => format!("the root of snapshot {}", snapshot.id.short()),
        false => format!("{} in snapshot {}", path.display(), snapshot.id.short()),
    }
}
