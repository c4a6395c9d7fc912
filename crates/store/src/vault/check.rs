//! Whether the vault is whole: every file of it read, compared with the others, and whatever cannot be read reported.
//!
//! ```text
//! keys, index, snapshots   digest and name, seal, JSON              each file
//! packs                    there, of the right length, their own lists as the index says; on wish every blob
//! trees                    each folder of each snapshot: blobs in the index, sizes as said
//! ```
//! Damage is found first; which snapshots it touches is a second walk that only a damaged vault needs.

mod packs;
mod trees;

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    hash::{DefaultHasher, Hash, Hasher},
};

use lifeboat_io::{ObjectErrorKind, ObjectInfo, Stop};

use super::{
    Core, Id, LockKind, Snapshot, SnapshotId, Vault, VaultError, config, file,
    index::{self, Index, IndexFile, PackJson},
    key, lock, pack, parallel, snapshot,
};

/// How much of the data is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadData {
    /// The lists at the ends of the packs only.
    None,
    /// Every byte.
    All,
    /// One of `of` parts, by the packs' names: number `n` from 1 on. After `of` checks with growing numbers all was
    /// read.
    Subset {
        /// Which part; counts from 1, and goes round.
        n: u32,
        /// How many parts there are.
        of: u32,
    },
}

impl ReadData {
    fn includes(self, pack: Id) -> bool {
        match self {
            ReadData::None => false,
            ReadData::All => true,
            ReadData::Subset { n, of } => {
                let of = u64::from(of.max(1));
                pack.bits() % of == u64::from(n.max(1) - 1) % of
            }
        }
    }
}

/// How a vault is checked.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// How much of the data is read.
    pub read_data: ReadData,
    /// Breaks it off.
    pub stop: Stop,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which object, or which file of which snapshot.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Snapshots that cannot be restored in full because of it, oldest first. None: nothing that a snapshot needs is
    /// lost by it.
    pub affects: Vec<SnapshotId>,
}

/// So many, so large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Bytes together.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Everything that is not as it must be.
    pub damage: Vec<Damage>,
    /// Objects that are no part of a vault. They do no harm.
    pub foreign: Vec<String>,
    /// Files that writers who died left half-written, or that one who lives is writing. They do no harm.
    pub half_written: Vec<String>,
    /// Snapshots that could be read.
    pub snapshots: u64,
    /// Folders looked into, each once however many snapshots have it.
    pub trees: u64,
    /// Files in them, and their sizes.
    pub files: Tally,
    /// Blobs in the index; those in several packs as often. Bytes as stored.
    pub blobs: Tally,
    /// Blobs that no snapshot needs. Not known, and too many, while a snapshot is damaged.
    pub unused_blobs: Tally,
    /// Packs in the index.
    pub packs: Tally,
    /// Of these, packs that no snapshot needs anything of.
    pub unused_packs: Tally,
    /// Packs in no index: of a backup that was broken off or is running.
    pub unindexed_packs: Tally,
    /// Packs that a prune has marked and a later one deletes.
    pub marked_packs: Tally,
    /// Packs that were read as a whole.
    pub packs_read: Tally,
}

impl CheckReport {
    /// Whether there is no damage.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
    }
}

impl Vault {
    /// Looks at everything in the vault, under a shared lock. `progress` hears bytes of packs done, and of all.
    ///
    /// # Errors
    /// The vault cannot be listed or locked, or somebody asked to stop: then nothing is known. Whatever cannot be read
    /// is damage in the report and no error.
    pub fn check(
        &self,
        options: &CheckOptions,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<CheckReport, VaultError> {
        let _lock = self.lock(LockKind::Shared, &options.stop)?;
        let mut check = Check::new(&self.core, options);
        // In the opposite order of writing: what a backup that ends meanwhile adds is never missed, only not looked at.
        let snapshots = check.read_snapshots(self)?;
        check.read_index()?;
        check.look_around()?;
        check.check_packs(progress)?;
        check.walk(&snapshots)?;
        check.find_affected(&snapshots)?;
        Ok(check.report)
    }
}

/// A check under way.
struct Check<'a> {
    core: &'a Core,
    options: &'a CheckOptions,
    index: Index,
    /// Packs that index files have marked for deletion.
    marked: BTreeSet<Id>,
    /// Every pack that is there, and its size.
    sizes: HashMap<Id, u64>,
    /// What each damage means for the snapshots.
    causes: trees::Causes,
    report: CheckReport,
}

impl<'a> Check<'a> {
    fn new(core: &'a Core, options: &'a CheckOptions) -> Check<'a> {
        Check {
            core,
            options,
            index: Index::default(),
            marked: BTreeSet::new(),
            sizes: HashMap::new(),
            causes: trees::Causes::default(),
            report: CheckReport::default(),
        }
    }

    /// Notes damage and gives its number.
    fn damage(&mut self, object: impl Into<String>, what: impl Into<String>) -> usize {
        self.report.damage.push(Damage { object: object.into(), what: what.into(), affects: Vec::new() });
        self.report.damage.len() - 1
    }

    /// Lists a folder of files that are named by their digests. An empty one is damaged, and left out.
    fn list(&mut self, folder: &'static str) -> Result<Vec<Id>, VaultError> {
        let listed = self.core.store.list(folder);
        let listed = listed.map_err(VaultError::object(format!("list the vault's {folder}")))?;
        let mut ids = Vec::new();
        for ObjectInfo { key, size } in listed {
            match file::listed_id(&key) {
                Some(id) if size == 0 => {
                    let number = self.damage(key, "it is empty");
                    if folder == snapshot::FOLDER {
                        self.report.damage[number].affects.push(id);
                    }
                }
                Some(id) => ids.push(id),
                None => {} // named when we look around
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn read_snapshots(&mut self, vault: &Vault) -> Result<Vec<Snapshot>, VaultError> {
        let ids = self.list(snapshot::FOLDER)?;
        let mut snapshots = Vec::new();
        for (id, read) in parallel::map(&ids, |&id| Ok((id, vault.snapshot(id))))? {
            match read {
                Ok(snapshot) => snapshots.push(snapshot),
                // Somebody forgot it between the listing and the look.
                Err(error) if error.object_kind() == Some(ObjectErrorKind::Missing) => {}
                Err(error) => {
                    let number = self.damage(file::object_key(snapshot::FOLDER, id), describe(&error));
                    self.report.damage[number].affects.push(id);
                }
            }
        }
        snapshots.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
        self.report.snapshots = snapshots.len() as u64;
        Ok(snapshots)
    }

    /// Reads the index files that can be read into one index.
    fn read_index(&mut self) -> Result<(), VaultError> {
        let ids = self.list(index::FOLDER)?;
        let mut described: HashMap<Id, u64> = HashMap::new();
        for some in ids.chunks(8) {
            self.options.stop.check()?;
            let mut files = Vec::new();
            for (id, read) in parallel::map(some, |&id| Ok((id, self.core.read_json::<IndexFile>(index::FOLDER, id))))?
            {
                let object = file::object_key(index::FOLDER, id);
                match read {
                    Ok(parsed) => {
                        if !self.describes_alike(&parsed, &mut described) {
                            self.damage(object, "it describes a pack in another way than an earlier file does");
                        }
                        self.marked.extend(parsed.packs_to_delete.iter().map(|pack| pack.id));
                        files.push((id, parsed));
                    }
                    Err(error) => {
                        let number = self.damage(object, describe(&error));
                        self.causes.index_files.push(number);
                    }
                }
            }
            self.index.add(files);
        }
        Ok(())
    }

    fn describes_alike(&self, file: &IndexFile, described: &mut HashMap<Id, u64>) -> bool {
        file.packs.iter().all(|pack| {
            let digest = description(pack);
            *described.entry(pack.id).or_insert(digest) == digest
        })
    }

    /// Lists all that is there: packs with their sizes, keys, and what does not belong there.
    fn look_around(&mut self) -> Result<(), VaultError> {
        let listed = self.core.store.list("").map_err(VaultError::object("list the vault"))?;
        let mut keys = Vec::new();
        for ObjectInfo { key, size } in listed {
            match Kind::of(&key) {
                Kind::Pack(id) => drop(self.sizes.insert(id, size)),
                Kind::Key(id) => keys.push(id),
                Kind::Known => {}
                Kind::Foreign => self.report.foreign.push(key),
            }
        }
        self.report.foreign.sort_unstable();
        let half_written = self.core.store.half_written().map_err(VaultError::object("list the vault"))?;
        self.report.half_written = half_written.into_iter().map(|left| left.key).collect();
        for id in keys {
            if let Err(error) = self.core.read_raw(key::FOLDER, id) {
                self.damage(file::object_key(key::FOLDER, id), describe(&error));
            }
        }
        // It was read when the vault was opened; that may have been a while ago.
        if let Err(error) = self.read_config() {
            self.damage(config::KEY, describe(&error));
        }
        Ok(())
    }

    fn read_config(&self) -> Result<(), VaultError> {
        let stored = self.core.store.get(config::KEY).map_err(VaultError::object("read the vault's config"))?;
        let opened = config::Config::open(&stored, &self.core.sealer, &self.core.store.place());
        let config = opened.unwrap_or_else(|| Err(VaultError::damaged(config::KEY, "its seal is broken")))?;
        if config.id == self.core.config.id {
            return Ok(());
        }
        Err(VaultError::damaged(config::KEY, "it is another vault's"))
    }
}

/// What an object of the vault is, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Pack(Id),
    Key(Id),
    /// The config, an index file, a snapshot, a lock.
    Known,
    Foreign,
}

impl Kind {
    fn of(key: &str) -> Kind {
        let (folder, name) = key.split_once('/').unwrap_or((key, ""));
        let id = Id::from_hex(name.rsplit('/').next().unwrap_or(name));
        match (folder, id) {
            (config::KEY, _) if key == config::KEY => Kind::Known,
            (pack::FOLDER, Some(id)) if key == pack::object_key(id) => Kind::Pack(id),
            (key::FOLDER, Some(id)) if key == file::object_key(folder, id) => Kind::Key(id),
            (index::FOLDER | snapshot::FOLDER | lock::FOLDER, Some(id)) if key == file::object_key(folder, id) => {
                Kind::Known
            }
            _ => Kind::Foreign,
        }
    }
}

/// A digest of what an index file says about a pack.
fn description(pack: &PackJson) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut blobs = pack.packed();
    blobs.sort_unstable_by_key(|blob| blob.offset);
    for blob in blobs {
        (blob.kind, blob.id, blob.offset, blob.length, blob.plain_length).hash(&mut hasher);
    }
    hasher.finish()
}

/// An error as one line: what is wrong, without the name of the object that it is noted for.
fn describe(error: &VaultError) -> String {
    let mut text = match error.root() {
        VaultError::Damaged { what, .. } => return what.clone(),
        VaultError::Object { source, .. } if source.kind == ObjectErrorKind::Missing => return "it is missing".into(),
        VaultError::Object { source, .. } => format!("it cannot be read: {source}"),
        other => other.to_string(),
    };
    let mut cause = error.source().and_then(Error::source);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_apart_by_their_names() {
        let id = Id([0xab; 32]);
        assert_eq!(Kind::of("config"), Kind::Known);
        assert_eq!(Kind::of(&format!("data/ab/{id}")), Kind::Pack(id));
        assert_eq!(Kind::of(&format!("keys/{id}")), Kind::Key(id));
        for folder in ["index", "snapshots", "locks"] {
            assert_eq!(Kind::of(&format!("{folder}/{id}")), Kind::Known);
            assert_eq!(Kind::of(&format!("{folder}/{id}.tmp")), Kind::Foreign);
        }
        for key in ["", "config/x", "data", "data/ab", "README", "other/x"] {
            assert_eq!(Kind::of(key), Kind::Foreign, "{key}");
        }
        assert_eq!(Kind::of(&format!("data/cd/{id}")), Kind::Foreign, "in the wrong folder nobody finds it");
        assert_eq!(Kind::of(&format!("data/{id}")), Kind::Foreign);
    }

    #[test]
    fn subsets_cover_everything_once() {
        for of in [1, 2, 7, 100] {
            for first in 0..=255_u8 {
                let id = Id::of(&[first]);
                let parts = (1..=of).filter(|&n| ReadData::Subset { n, of }.includes(id)).count();
                assert_eq!(parts, 1, "{id} in {of} parts");
                assert_eq!(
                    ReadData::Subset { n: 1, of }.includes(id),
                    ReadData::Subset { n: of + 1, of }.includes(id),
                    "it goes round"
                );
            }
        }
        assert!(ReadData::Subset { n: 0, of: 0 }.includes(Id([0; 32])), "nonsense reads all rather than nothing");
    }
}
