//! Reading: a snapshot's entries, and files from their blobs - fetched ahead, opened on a few threads, written in order.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::BytesMut;
use crossbeam_channel::{Receiver, Sender, bounded};
use lifeboat_io::Stop;

use super::{
    BlobKind, Core, EntryKind, EntryMeta, Id, Snapshot, Vault, VaultError,
    index::{Index, Location},
    pack::{self, Unsealer, parallelism},
    tree::{self, Node},
};

/// Bytes of a pack that are read at once, where blobs lie side by side.
const FETCH_BYTES: u64 = 1 << 20;
/// Bytes of blobs that are opened at once.
const FETCH_PLAIN_BYTES: u64 = 2 << 20;
/// Jobs that may be on their way, for each thread: while one waits for its turn to be written, the thread does the next.
const WINDOW_JOBS: usize = 4;
/// A gap between two wanted blobs that is read over rather than left out.
const GAP_BYTES: u64 = 128 << 10;
/// Bytes that are given out at once: few enough to be still in the cache when they are digested and written.
const WRITE_BYTES: usize = 128 << 10;

/// Something in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where, relative to the snapshot's root.
    pub path: PathBuf,
    /// What is known of it.
    pub meta: EntryMeta,
    /// What it is.
    pub kind: EntryKind,
}

impl Entry {
    /// Bytes of a file, 0 for everything else.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size, .. } => size,
            EntryKind::Folder { .. } | EntryKind::Link { .. } | EntryKind::Other(_) => 0,
        }
    }
}

impl Vault {
    /// Shows every entry of a snapshot, each folder before what is in it, by name.
    pub fn walk(&self, snapshot: &Snapshot, visit: &mut dyn FnMut(&Entry)) -> Result<(), VaultError> {
        let index = self.core.index()?;
        self.core.walk(&index, snapshot.tree, &mut |entry| {
            visit(entry);
            Ok(())
        })
    }

    /// Every entry of a snapshot, each folder before what is in it, by name.
    pub fn entries(&self, snapshot: &Snapshot) -> Result<Vec<Entry>, VaultError> {
        let mut entries = Vec::new();
        self.walk(snapshot, &mut |entry| entries.push(entry.clone()))?;
        Ok(entries)
    }

    /// The entry at a path of a snapshot.
    ///
    /// # Errors
    /// [`VaultError::Missing`] when there is none.
    pub fn entry(&self, snapshot: &Snapshot, path: impl AsRef<Path>) -> Result<Entry, VaultError> {
        let index = self.core.index()?;
        let path = path.as_ref();
        let missing =
            || VaultError::Missing { object: format!("{} of snapshot {}", path.display(), snapshot.id.short()) };
        let mut reader = BlobReader::new(&self.core, &index)?;
        let mut tree = snapshot.tree;
        let mut names = path.iter().peekable();
        while let Some(name) = names.next() {
            let nodes = reader.tree(tree)?;
            let node = nodes.into_iter().find(|node| node.name.as_os_str() == name).ok_or_else(missing)?;
            match (names.peek().copied(), node) {
                (None::<&OsStr>, Node { meta, kind, .. }) => return Ok(Entry { path: path.to_owned(), meta, kind }),
                (Some(_), Node { kind: EntryKind::Folder { tree: child }, .. }) => tree = child,
                (Some(_), _) => return Err(missing()),
            }
        }
        Err(missing())
    }

    /// What is directly in a folder of a snapshot: one look for many files.
    ///
    /// # Errors
    /// [`VaultError::Missing`] when there is no such folder.
    pub fn folder(&self, snapshot: &Snapshot, path: impl AsRef<Path>) -> Result<Vec<Entry>, VaultError> {
        let folder = self.entry(snapshot, path)?;
        let EntryKind::Folder { tree } = folder.kind else {
            return Err(VaultError::Missing { object: format!("the folder {}", folder.path.display()) });
        };
        let index = self.core.index()?;
        let nodes = BlobReader::new(&self.core, &index)?.tree(tree)?;
        Ok(nodes
            .into_iter()
            .map(|Node { name, meta, kind }| Entry { path: folder.path.join(name), meta, kind })
            .collect())
    }

    /// Writes a file of a snapshot to `to` and gives its size. Every byte is checked against the digest it is stored under
    /// before it is written. `progress` hears how many bytes have been written so far.
    ///
    /// # Errors
    /// [`VaultError::Missing`] and [`VaultError::Damaged`]; what was written until then is right but not all.
    pub fn read_file(
        &self,
        snapshot: &Snapshot,
        path: impl AsRef<Path>,
        to: &mut dyn Write,
        progress: &dyn Fn(u64),
        stop: &Stop,
    ) -> Result<u64, VaultError> {
        self.read_entry(&self.entry(snapshot, path)?, to, progress, stop)
    }

    /// [`Vault::read_file`] for an entry that is known already.
    pub fn read_entry(
        &self,
        entry: &Entry,
        to: &mut dyn Write,
        progress: &dyn Fn(u64),
        stop: &Stop,
    ) -> Result<u64, VaultError> {
        self.read_checked(entry, Checked::ByName, to, progress, stop)
    }

    /// [`Vault::read_entry`] for whoever compares the whole file with a digest of their own, in two thirds of the processor's
    /// time. Each blob's seal is looked at, which says that it is as it was stored; that it is the one that was asked for, and in
    /// its place, only the digest says. When that differs, [`Vault::read_entry`] tells what is wrong.
    pub fn read_entry_by_seals(
        &self,
        entry: &Entry,
        to: &mut dyn Write,
        progress: &dyn Fn(u64),
        stop: &Stop,
    ) -> Result<u64, VaultError> {
        self.read_checked(entry, Checked::BySeal, to, progress, stop)
    }

    fn read_checked(
        &self,
        entry: &Entry,
        checked: Checked,
        to: &mut dyn Write,
        progress: &dyn Fn(u64),
        stop: &Stop,
    ) -> Result<u64, VaultError> {
        let EntryKind::File { size, content } = &entry.kind else {
            return Err(VaultError::Missing { object: format!("the content of {}", entry.path.display()) });
        };
        let index = self.core.index()?;
        let written = self.core.read_blobs(&index, content, checked, to, progress, stop)?;
        if written == *size {
            return Ok(written);
        }
        let what = format!("it has {written} bytes and should have {size}");
        Err(VaultError::damaged(entry.path.display().to_string(), what))
    }
}

impl Core {
    /// Every entry below a tree; an error of the visitor ends the walk.
    pub fn walk(
        &self,
        index: &Index,
        root: Id,
        visit: &mut dyn FnMut(&Entry) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let mut reader = BlobReader::new(self, index)?;
        let mut stack = vec![(PathBuf::new(), reader.tree(root)?.into_iter())];
        while let Some((folder, nodes)) = stack.last_mut() {
            let Some(Node { name, meta, kind }) = nodes.next() else {
                stack.pop();
                continue;
            };
            let entry = Entry { path: folder.join(name), meta, kind };
            visit(&entry)?;
            if let EntryKind::Folder { tree } = entry.kind {
                stack.push((entry.path, reader.tree(tree)?.into_iter()));
            }
        }
        Ok(())
    }

    /// Writes blobs one after the other.
    fn read_blobs(
        &self,
        index: &Index,
        ids: &[Id],
        checked: Checked,
        to: &mut dyn Write,
        progress: &dyn Fn(u64),
        stop: &Stop,
    ) -> Result<u64, VaultError> {
        let threads = parallelism().clamp(2, 4);
        let window = threads * WINDOW_JOBS;
        let (jobs, jobs_out) = bounded(window);
        let (results_in, results) = bounded(window);
        // As many as can be on their way at once.
        let (spare_in, spare) = bounded(window + 1);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (jobs, results, spare) = (jobs_out.clone(), results_in.clone(), spare.clone());
                let fetch = move || fetch_jobs(self, index, ids, checked, &jobs, &results, &spare);
                let started = std::thread::Builder::new().name("vault reader".to_owned()).spawn_scoped(scope, fetch);
                started.map_err(|source| VaultError::Start { what: "a thread that reads the vault", source })?;
            }
            drop((jobs_out, results_in));
            let mut ordered =
                Ordered { jobs: Some(jobs), results, spare: spare_in, window, written: 0, early: BTreeMap::new() };
            ordered.run(index, ids, to, progress, stop)
        })
    }
}

/// What each blob is compared with before it is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    /// Its seal, and its name: the SHA-256 of its content.
    ByName,
    /// Its seal alone.
    BySeal,
}

/// Blobs that are read from their pack at once.
struct Job {
    number: usize,
    /// Of the wanted ids.
    wanted: Range<usize>,
    pack: Id,
    bytes: Range<u64>,
}

/// What a job gave.
type Fetched = (usize, Result<Vec<u8>, VaultError>);

/// Hands out jobs and writes their results in order.
struct Ordered {
    jobs: Option<Sender<Job>>,
    results: Receiver<Fetched>,
    spare: Sender<Vec<u8>>,
    /// So many jobs may be on their way: that is the bound on memory.
    window: usize,
    written: u64,
    early: BTreeMap<usize, Vec<u8>>,
}

impl Ordered {
    fn run(
        &mut self,
        index: &Index,
        ids: &[Id],
        to: &mut dyn Write,
        progress: &dyn Fn(u64),
        stop: &Stop,
    ) -> Result<u64, VaultError> {
        let (mut planned, mut sent, mut done) = (0, 0, 0);
        while planned < ids.len() || done < sent {
            stop.check()?;
            while planned < ids.len() && sent - done < self.window {
                let job = plan(index, ids, planned, sent)?;
                planned = job.wanted.end;
                sent += 1;
                self.send(job)?;
            }
            let (number, fetched) = self.results.recv().map_err(|_| readers_gone())?;
            self.early.insert(number, fetched?);
            while let Some(bytes) = self.early.remove(&done) {
                bytes.chunks(WRITE_BYTES).try_for_each(|piece| to.write_all(piece)).map_err(VaultError::Output)?;
                self.written += bytes.len() as u64;
                progress(self.written);
                done += 1;
                let _ = self.spare.try_send(bytes);
            }
        }
        self.jobs = None; // the readers end
        Ok(self.written)
    }

    fn send(&self, job: Job) -> Result<(), VaultError> {
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(readers_gone)
    }
}

fn readers_gone() -> VaultError {
    VaultError::Start { what: "reading", source: std::io::Error::other("the threads that read the vault are gone") }
}

/// The next job: as many of the wanted blobs as lie one after the other in one pack.
fn plan(index: &Index, ids: &[Id], from: usize, number: usize) -> Result<Job, VaultError> {
    let first = find(index, BlobKind::Data, ids[from])?;
    let start = u64::from(first.offset);
    let mut end = start + u64::from(first.length);
    let mut plain = first.plain_bytes();
    let mut until = from + 1;
    while let Some(next) = ids.get(until).and_then(|&id| index.find(BlobKind::Data, id).first()) {
        let (offset, length) = (u64::from(next.offset), u64::from(next.length));
        plain += next.plain_bytes();
        let near = next.pack == first.pack && offset >= end && offset - end <= GAP_BYTES;
        if !near || offset + length - start > FETCH_BYTES || plain > FETCH_PLAIN_BYTES {
            break;
        }
        end = offset + length;
        until += 1;
    }
    Ok(Job { number, wanted: from..until, pack: index.packs[first.pack as usize].id, bytes: start..end })
}

fn find(index: &Index, kind: BlobKind, id: Id) -> Result<Location, VaultError> {
    let missing = || VaultError::Missing { object: format!("{} blob {id}", kind.word()) };
    index.find(kind, id).first().copied().ok_or_else(missing)
}

fn fetch_jobs(
    core: &Core,
    index: &Index,
    ids: &[Id],
    checked: Checked,
    jobs: &Receiver<Job>,
    results: &Sender<Fetched>,
    spare: &Receiver<Vec<u8>>,
) {
    let mut reader = BlobReader::new(core, index);
    for job in jobs {
        let mut plain = spare.try_recv().unwrap_or_default();
        plain.clear();
        let fetched = match &mut reader {
            Ok(reader) => reader.fetch(&ids[job.wanted.clone()], &job, checked, &mut plain).map(|()| plain),
            Err(_) => Err(VaultError::Start { what: "reading", source: std::io::Error::other("no decompressor") }),
        };
        if results.send((job.number, fetched)).is_err() {
            return; // nobody waits for more
        }
    }
}

/// Reads blobs, one after the other.
pub(crate) struct BlobReader<'a> {
    core: &'a Core,
    index: &'a Index,
    unsealer: Unsealer,
}

impl<'a> BlobReader<'a> {
    pub fn new(core: &'a Core, index: &'a Index) -> Result<BlobReader<'a>, VaultError> {
        Ok(BlobReader { core, index, unsealer: Unsealer::new()? })
    }

    /// A folder's entries.
    pub fn tree(&mut self, id: Id) -> Result<Vec<Node>, VaultError> {
        let mut json = Vec::new();
        self.blob(BlobKind::Tree, id, &mut json)?;
        tree::parse(&json).map_err(|what| VaultError::damaged(format!("tree blob {id}"), what))
    }

    /// Appends a blob, from whichever of its packs still has it right.
    pub fn blob(&mut self, kind: BlobKind, id: Id, plain: &mut Vec<u8>) -> Result<(), VaultError> {
        let locations = self.index.find(kind, id);
        let mut first_error = None;
        for location in locations {
            let pack = self.index.packs[location.pack as usize].id;
            let start = u64::from(location.offset);
            let read = self.range(pack, start..start + u64::from(location.length)).and_then(|mut sealed| {
                self.unsealer
                    .open(&self.core.sealer, &mut sealed, location.plain_length, id, plain)
                    .map_err(|what| damaged_blob(kind, id, pack, &what))
            });
            match read {
                Ok(()) => return Ok(()),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| VaultError::Missing { object: format!("{} blob {id}", kind.word()) }))
    }

    /// Appends the blobs of a job.
    fn fetch(&mut self, wanted: &[Id], job: &Job, checked: Checked, plain: &mut Vec<u8>) -> Result<(), VaultError> {
        if self.fetch_at_once(wanted, job, checked, plain).is_ok() {
            return Ok(());
        }
        // One by one: each may lie in another pack as well, and the error names the one that does not.
        plain.clear();
        wanted.iter().try_for_each(|&id| self.blob(BlobKind::Data, id, plain))
    }

    fn fetch_at_once(
        &mut self,
        wanted: &[Id],
        job: &Job,
        checked: Checked,
        plain: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        let mut sealed = self.range(job.pack, job.bytes.clone())?;
        for &id in wanted {
            let location = find(self.index, BlobKind::Data, id)?;
            let start = (u64::from(location.offset) - job.bytes.start) as usize;
            let part = &mut sealed[start..start + location.length as usize];
            let opened = match checked {
                Checked::ByName => self.unsealer.open(&self.core.sealer, part, location.plain_length, id, plain),
                Checked::BySeal => self.unsealer.open_unchecked(&self.core.sealer, part, location.plain_length, plain),
            };
            opened.map_err(|what| damaged_blob(BlobKind::Data, id, job.pack, &what))?;
        }
        Ok(())
    }

    fn range(&self, pack: Id, range: Range<u64>) -> Result<BytesMut, VaultError> {
        let length = range.end - range.start;
        let bytes = self.core.store.get_range(&pack::object_key(pack), range);
        let bytes = bytes.map_err(VaultError::object("read a pack"))?;
        if bytes.len() as u64 != length {
            return Err(VaultError::damaged(pack::object_key(pack), "less was read of it than was asked for"));
        }
        // Blobs are decrypted where they are; a copy is needed only if the driver keeps the bytes for itself.
        Ok(bytes.try_into_mut().unwrap_or_else(|kept| BytesMut::from(&kept[..])))
    }
}

fn damaged_blob(kind: BlobKind, id: Id, pack: Id, what: &str) -> VaultError {
    VaultError::damaged(format!("{} blob {id} in {}", kind.word(), pack::object_key(pack)), what)
}
