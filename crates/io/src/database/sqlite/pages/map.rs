//! What a backup saw of a database's pages, kept for the next one: a digest of each, and what whole groups of leaves held.
//! It saves time and nothing else. Every page is read and digested each time; one that has the digest of before need not be
//! cut, hashed, sealed or walked over again.
//!
//! ```text
//!   digests     16 bytes a page: XXH3-128, seeded
//!   tail        JSON: of which snapshot it tells, and the groups
//!   its length  8 bytes, little endian
//!   checksum    16 bytes: XXH3-128 of all before
//! ```
//!
//! The seed is drawn for each file, so that nobody who fills rows can make two pages with one digest. A file that is
//! broken, or tells of another snapshot, or has another format, or was written by another version of the program, counts as
//! none.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use lifeboat_model::manifest::{SqliteFacts, TableFacts};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::rows::Tally;
use crate::{database::sqlite::inspect::Newest, random::Random};

/// The format of a map, and of all that its digests and counts mean. Whoever changes what stands in a map, how a page or a
/// row is digested, or what a group of leaves is, adds one; a test here notices the first two.
const FORMAT: u32 = 1;
const DIGEST_BYTES: usize = 16;
/// What stands behind the tail.
const END_BYTES: u64 = 8 + DIGEST_BYTES as u64;
/// Chains of overflow pages lie in so many places at most; a group with more is walked over each time.
const CHAIN_RUNS_MAX: usize = 4096;

/// Of which backup a map tells: which snapshot of which vault, and which of its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapOf {
    /// The vault's own id.
    pub vault: String,
    /// The snapshot's id.
    pub snapshot: String,
    /// The database's path inside the snapshot.
    pub inside: String,
}

/// What an earlier backup saw.
pub struct PageMap {
    file: File,
    tail: Tail,
    /// By the parent's page: which of the trees it is in, and the group.
    groups: HashMap<u32, (usize, Group)>,
    trees: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Tail {
    format: u32,
    version: String,
    of: MapOf,
    seed: u64,
    page_size: u32,
    pages: u32,
    /// The schema's fingerprint and the encoding: what rows are read by.
    schema: String,
    seen: Seen,
}

/// What a walk found out about parts of trees that may be alike next time.
#[derive(Default, Serialize, Deserialize)]
pub struct Seen {
    /// By the tree's name: leaves that have one parent.
    groups: BTreeMap<String, Vec<Group>>,
    /// Tables that SQLite read.
    tables: BTreeMap<String, ReadTable>,
}

/// The leaves below one page, and the chains that begin there.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Group {
    /// Their parent.
    page: u32,
    rows: u64,
    digest: [u64; 2],
    /// The first rowid and the last.
    pub span: Option<(i64, i64)>,
    newest: BTreeMap<usize, Newest>,
    /// Their overflow pages: the first of a run, and how many.
    pub chains: Vec<(u32, u32)>,
}

#[derive(Clone, Serialize, Deserialize)]
struct ReadTable {
    root: u32,
    facts: TableFacts,
}

impl Group {
    pub fn new(page: u32, tally: &Tally, span: Option<(i64, i64)>, chains: &[(u32, u32)]) -> Group {
        let newest = tally.newest.iter().filter_map(|(at, greatest)| Some((*at, greatest.clone()?)));
        Group {
            page,
            rows: tally.rows,
            digest: [tally.digest as u64, (tally.digest >> 64) as u64],
            span,
            newest: newest.collect(),
            chains: chains.to_vec(),
        }
    }

    pub fn tally(&self) -> Tally {
        Tally {
            rows: self.rows,
            digest: u128::from(self.digest[0]) | u128::from(self.digest[1]) << 64,
            newest: self.newest.iter().map(|(at, greatest)| (*at, Some(greatest.clone()))).collect(),
        }
    }
}

impl Seen {
    pub(super) fn group(&mut self, tree: &str, group: Group) {
        if group.chains.len() > CHAIN_RUNS_MAX {
            return;
        }
        match self.groups.get_mut(tree) {
            Some(groups) => groups.push(group),
            None => _ = self.groups.insert(tree.to_owned(), vec![group]),
        }
    }

    pub(super) fn table(&mut self, table: &str, root: u32, facts: &TableFacts) {
        self.tables.insert(table.to_owned(), ReadTable { root, facts: facts.clone() });
    }
}

/// What rows are read by: while it is the same, the same bytes are the same rows.
pub(super) fn schema_of(facts: &SqliteFacts) -> String {
    format!("{} {}", facts.schema_fingerprint, facts.encoding)
}

impl PageMap {
    /// Opens the map of a backup; nothing when there is none, or it cannot be relied upon.
    pub fn open(path: &Path, of: &MapOf) -> Option<PageMap> {
        let file = File::open(path).ok()?;
        let bytes = file.metadata().ok()?.len();
        let mut end = [0; END_BYTES as usize];
        file.read_exact_at(&mut end, bytes.checked_sub(END_BYTES)?).ok()?;
        let (length, checksum) = end.split_first_chunk::<8>()?;
        let begin = bytes.checked_sub(END_BYTES)?.checked_sub(u64::from_le_bytes(*length))?;
        if checksum_of(&file, bytes - DIGEST_BYTES as u64).ok()? != checksum {
            return None;
        }
        let mut tail = vec![0; (bytes - END_BYTES - begin) as usize];
        file.read_exact_at(&mut tail, begin).ok()?;
        let mut tail: Tail = serde_json::from_slice(&tail).ok()?;
        let fits = tail.format == FORMAT
            && tail.version == env!("CARGO_PKG_VERSION")
            && tail.of == *of
            && begin == u64::from(tail.pages) * DIGEST_BYTES as u64;
        let (mut trees, mut groups) = (Vec::new(), HashMap::new());
        for (tree, (name, its)) in std::mem::take(&mut tail.seen.groups).into_iter().enumerate() {
            trees.push(name);
            groups.extend(its.into_iter().map(|group| (group.page, (tree, group))));
        }
        fits.then_some(PageMap { file, tail, groups, trees })
    }

    /// The group below a page of a tree.
    pub(super) fn group(&self, tree: &str, page: u32) -> Option<&Group> {
        self.groups.get(&page).filter(|(at, _)| self.trees[*at] == tree).map(|(_, group)| group)
    }

    /// What SQLite read of a table whose root is there.
    pub(super) fn table(&self, table: &str, root: u32) -> Option<&TableFacts> {
        self.tail.seen.tables.get(table).filter(|read| read.root == root).map(|read| &read.facts)
    }

    /// Whether rows are read as they were.
    pub(super) fn is_read_by(&self, schema: &str) -> bool {
        self.tail.schema == schema
    }

    pub(super) fn page_size(&self) -> u32 {
        self.tail.page_size
    }

    pub(super) fn seed(&self) -> u64 {
        self.tail.seed
    }

    /// The digests, from the first page on.
    pub(super) fn digests(&self) -> io::Result<Digests<'_>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        Ok(Digests { reader: BufReader::with_capacity(64 << 10, file), left: self.tail.pages })
    }
}

fn checksum_of(file: &File, bytes: u64) -> io::Result<[u8; DIGEST_BYTES]> {
    let (mut hash, mut piece, mut at) = (XxHash3_128::new(), vec![0; 256 << 10], 0);
    while at < bytes {
        let length = (bytes - at).min(piece.len() as u64) as usize;
        file.read_exact_at(&mut piece[..length], at)?;
        hash.write(&piece[..length]);
        at += length as u64;
    }
    Ok(hash.finish_128().to_le_bytes())
}

/// Digests of pages, one by one.
pub(super) struct Digests<'a> {
    reader: BufReader<&'a File>,
    left: u32,
}

impl Digests<'_> {
    /// The next page's; nothing for those behind the last.
    pub fn next(&mut self) -> io::Result<Option<u128>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let mut bytes = [0; DIGEST_BYTES];
        self.reader.read_exact(&mut bytes)?;
        Ok(Some(u128::from_le_bytes(bytes)))
    }
}

/// A page's digest.
pub(super) fn digest_of(page: &[u8], seed: u64) -> u128 {
    XxHash3_128::oneshot_with_seed(seed, page)
}

/// The map of a backup that is being made. Whatever happens to it - a full disk - is no matter of the backup.
pub struct NewMap {
    writer: Option<BufWriter<File>>,
    hash: XxHash3_128,
    temporary: PathBuf,
    path: PathBuf,
    seed: u64,
    page_size: u32,
    pages: u32,
}

impl NewMap {
    /// Begins the map that will be at `path`, with the earlier one's seed if there is one, so that digests compare.
    pub fn create(path: &Path, page_size: u32, earlier: Option<&PageMap>, random: &dyn Random) -> NewMap {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
        NewMap {
            writer: file.ok().map(|file| BufWriter::with_capacity(256 << 10, file)),
            hash: XxHash3_128::new(),
            temporary,
            path: path.to_owned(),
            seed: earlier.map_or_else(|| random.bits(), PageMap::seed),
            page_size,
            pages: 0,
        }
    }

    /// Takes the next pages.
    pub fn add(&mut self, pages: &[u8]) {
        if self.writer.is_none() {
            return;
        }
        for page in pages.chunks_exact(self.page_size as usize) {
            self.push(digest_of(page, self.seed));
        }
    }

    pub(super) fn push(&mut self, digest: u128) {
        self.pages += 1;
        self.put(&digest.to_le_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(writer) = &mut self.writer {
            self.hash.write(bytes);
            if writer.write_all(bytes).is_err() {
                self.writer = None;
            }
        }
    }

    /// The backup is in the vault: the next one may rely on this. Not before the power goes, as it is not synced: then its
    /// checksum is wrong.
    pub fn finish(mut self, of: MapOf, facts: &SqliteFacts, seen: Seen) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let schema = schema_of(facts);
        let (seed, page_size, pages) = (self.seed, self.page_size, self.pages);
        let tail = Tail { format: FORMAT, version, of, seed, page_size, pages, schema, seen };
        let Ok(tail) = serde_json::to_vec(&tail) else { return };
        self.put(&tail);
        self.put(&(tail.len() as u64).to_le_bytes());
        let checksum = self.hash.finish_128().to_le_bytes();
        self.put(&checksum);
        if let Some(mut writer) = self.writer.take()
            && writer.flush().is_ok()
        {
            let _ = fs::rename(&self.temporary, &self.path); // without it the next backup reads everything
        }
    }
}

impl Drop for NewMap {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary); // gone already, when it was finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a map of this format looks like, every field filled. When this fails, give [`FORMAT`] its next number, and put
    /// that and the new shape here.
    #[test]
    fn the_shape_of_a_map_is_that_of_its_format() {
        let newest = BTreeMap::from([
            (0, Newest::Integer(7)),
            (1, Newest::Real(f64::INFINITY)),
            (2, Newest::Text("2026-01-01".to_owned())),
        ]);
        let group = Group { page: 5, rows: 3, digest: [1, 2], span: Some((-4, 9)), newest, chains: vec![(10, 2)] };
        let facts = TableFacts {
            rows: 1,
            digest: "ab".to_owned(),
            newest: BTreeMap::from([("at".to_owned(), "now".to_owned())]),
        };
        let mut seen = Seen::default();
        seen.group("customers", group);
        seen.table("settings", 6, &facts);
        let of = MapOf { vault: "v".to_owned(), snapshot: "s".to_owned(), inside: "i".to_owned() };
        let (version, schema) = ("0.1.0".to_owned(), "fingerprint UTF-8".to_owned());
        let tail = Tail { format: FORMAT, version, of, seed: 8, page_size: 4096, pages: 12, schema, seen };
        let shape = concat!(
            r#"{"format":1,"version":"0.1.0","of":{"vault":"v","snapshot":"s","inside":"i"},"seed":8,"page_size":4096,"#,
            r#""pages":12,"schema":"fingerprint UTF-8","seen":{"groups":{"customers":[{"page":5,"rows":3,"digest":[1,2],"#,
            r#""span":[-4,9],"newest":{"0":{"Integer":7},"1":{"Real":9218868437227405312},"2":{"Text":"2026-01-01"}},"#,
            r#""chains":[[10,2]]}]},"tables":{"settings":{"root":6,"facts":{"rows":1,"digest":"ab","newest":{"at":"now"}}}}}}"#,
        );
        assert_eq!(serde_json::to_string(&tail).unwrap(), shape);
        assert_eq!(format!("{:032x}", digest_of(&[7; 4096], 8)), "be128cbb5fe54a536dff4643a82f9de7");
    }
}
