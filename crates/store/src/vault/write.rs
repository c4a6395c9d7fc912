//! Making a backup: any number of streams at once, of sizes that nobody knows, into one snapshot - or none.

use std::{
    collections::HashMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use lifeboat_io::Stop;

use super::{
    BlobKind, Entry, EntryKind, EntryMeta, Id, LockKind, Snapshot, SnapshotMeta, Vault, VaultError, VaultLock,
    chunk::{Chunker, Cut, Guide},
    folder::{Child, Folder},
    index::Index,
    lock_of,
    patch::Earlier,
    pipeline::{Block, Content, Pipeline, Shared, Worker},
    snapshot,
    tree::TreeWriter,
};

/// Bytes of a stream that travel together.
const BLOCK_BYTES: usize = 1 << 20;

/// The blobs of shorter files are not worth to be remembered.
const EARLIER_BLOBS_MIN: usize = 8;

/// How a backup is written.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// zstd's level while the vault's place is what a backup waits for - a bucket, a slow disk -, and of trees. 1 makes table
    /// data as small as 3 does, in half the time.
    pub level: i32,
    /// The level while the processor is, so that whoever waits for the backup waits a tenth less. What is stored so is a tenth
    /// larger than by level 1: -1 leaves out the coding of what repeats nothing.
    pub hurried: i32,
    /// Average length of blobs, rounded to a power of two, 16 KiB to 1 MiB. By default 64 KiB, and more in streams beyond
    /// 16 GiB and 1 TiB. Another length finds nothing of what is stored with this one.
    pub average_chunk_bytes: Option<usize>,
    /// An earlier snapshot of the same things, if there is one: where its files were cut is tried first. Nothing else
    /// depends on it; every byte is read and hashed all the same.
    pub previous: Option<Snapshot>,
    /// Breaks the backup off.
    pub stop: Stop,
}

impl Default for BackupOptions {
    fn default() -> Self {
        BackupOptions { level: 1, hurried: -1, average_chunk_bytes: None, previous: None, stop: Stop::default() }
    }
}

/// A backup that is being made. It holds a shared lock on the vault.
///
/// Only [`BackupWriter::commit`] makes it a snapshot. Anything else - an error, a stream that was dropped, dropping this -
/// leaves the vault's snapshots as they were; what was stored so far is found again by the next backup.
pub struct BackupWriter {
    pipeline: Pipeline,
    chunker: Arc<Chunker>,
    root: Mutex<Folder>,
    open_streams: Arc<AtomicUsize>,
    lock: VaultLock,
    /// The blobs of the previous snapshot's files, by path.
    earlier: Mutex<HashMap<PathBuf, Earlier>>,
}

/// A file that is in the backup as soon as it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Its size.
    pub bytes: u64,
}

/// A backup that is in the vault.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its snapshot.
    pub snapshot: Snapshot,
    /// Bytes of all its files.
    pub bytes_read: u64,
    /// Bytes of the packs that had to be stored.
    pub bytes_added: u64,
    /// Packs that had to be stored.
    pub packs_added: u64,
    /// Blobs that had to be stored.
    pub blobs_added: u64,
    /// Blobs that were in the vault already.
    pub blobs_known: u64,
}

impl Vault {
    /// Begins a backup.
    ///
    /// # Errors
    /// [`VaultError::Locked`] while somebody else has the vault for himself.
    pub fn begin(&self, options: BackupOptions) -> Result<BackupWriter, VaultError> {
        // The index is read under the lock: nothing it names is pruned while we rely on it.
        let read = || {
            let known = self.known()?;
            let earlier = options.previous.as_ref().map(|previous| self.earlier(previous, &known)).unwrap_or_default();
            Ok::<_, VaultError>((known, earlier))
        };
        let (lock, read) = self.lock_meanwhile(LockKind::Shared, &options.stop, read)?;
        let (known, earlier) = read?;
        let shared = Arc::new(Shared::new(self.core.clone(), known, options.stop));
        let levels = (options.level, options.hurried);
        let writer = self.begin_with(shared, lock, levels, options.average_chunk_bytes)?;
        *lock_of(&writer.earlier) = earlier;
        Ok(writer)
    }

    /// What is in the vault. Of packs that were lost nothing counts as stored, so that the next backup makes up for them.
    fn known(&self) -> Result<Arc<Index>, VaultError> {
        let mut known = self.core.index()?;
        let sizes = self.core.pack_sizes()?;
        if known.packs.iter().any(|pack| sizes.get(&pack.id) != Some(&pack.bytes)) {
            Arc::make_mut(&mut known).without_packs(|pack| sizes.get(&pack.id) != Some(&pack.bytes));
        }
        Ok(known)
    }

    /// The blobs of a snapshot's files. What cannot be read of it is left out: it only saves time.
    fn earlier(&self, snapshot: &Snapshot, known: &Index) -> HashMap<PathBuf, Earlier> {
        let mut earlier = HashMap::new();
        let _unreadable = self.walk(snapshot, &mut |entry| {
            if let EntryKind::File { content, .. } = &entry.kind
                && content.len() >= EARLIER_BLOBS_MIN
            {
                let blobs = content.iter().map_while(|id| {
                    let location = known.find(BlobKind::Data, *id).first().copied()?;
                    Some((*id, u32::try_from(location.plain_bytes()).ok()?))
                });
                earlier.insert(entry.path.clone(), Earlier::new(blobs));
            }
        });
        earlier
    }

    fn begin_with(
        &self,
        shared: Arc<Shared>,
        lock: VaultLock,
        levels: (i32, i32),
        average_chunk_bytes: Option<usize>,
    ) -> Result<BackupWriter, VaultError> {
        Ok(BackupWriter {
            pipeline: Pipeline::start(shared, levels)?,
            chunker: Arc::new(Chunker::new(&self.core.config.chunker_polynomial, average_chunk_bytes)),
            root: Mutex::new(Folder::new()),
            open_streams: Arc::default(),
            lock,
            earlier: Mutex::default(),
        })
    }
}

impl BackupWriter {
    /// Begins a file. Write its bytes and call [`StreamWriter::finish`]; to drop it instead fails the whole backup. Streams may
    /// be written at once from many threads.
    ///
    /// # Errors
    /// [`VaultError::BadPath`] for a path that is taken, absolute, or leads elsewhere.
    pub fn stream(&self, path: &str, meta: &EntryMeta) -> Result<StreamWriter, VaultError> {
        self.begin_stream(path, meta, false)
    }

    /// Begins a file whose bytes stay where they are, as a database's pages do: it is cut at places that are given, at no
    /// cost, and a changed page costs one blob. What moves by a byte is not found again, as it is in [`BackupWriter::stream`].
    ///
    /// # Errors
    /// Those of [`BackupWriter::stream`].
    pub fn stream_of_pages(&self, path: &str, meta: &EntryMeta) -> Result<StreamWriter, VaultError> {
        self.begin_stream(path, meta, true)
    }

    fn begin_stream(&self, path: &str, meta: &EntryMeta, by_place: bool) -> Result<StreamWriter, VaultError> {
        let shared = &self.pipeline.shared;
        shared.check()?;
        let content = Arc::new(Content::default());
        let child = Child::File { meta: meta.clone(), content: content.clone() };
        lock_of(&self.root).insert(path, child).map_err(|error| shared.fail(error))?;
        self.open_streams.fetch_add(1, Ordering::SeqCst);
        let earlier = lock_of(&self.earlier).remove(Path::new(path)).unwrap_or_default();
        Ok(StreamWriter {
            path: path.to_owned(),
            shared: shared.clone(),
            chunker: self.chunker.clone(),
            by_place,
            guide: Guide::new(if by_place { Vec::new() } else { earlier.lengths() }),
            earlier,
            open_streams: self.open_streams.clone(),
            content,
            block: Vec::new(),
            filled: 0,
            cuts: Vec::new(),
            offset: 0,
            number: 0,
            finished: false,
        })
    }

    /// Counts files of earlier snapshots as files of this backup, under new paths: no byte of them is read. `false`, and nothing
    /// has changed, when a blob of them is not in the vault any more.
    ///
    /// That they are what the backup should hold, the caller answers for: nobody looks.
    ///
    /// # Errors
    /// Those of [`BackupWriter::stream`].
    pub fn again(&self, files: &[(String, EntryMeta, Arc<Entry>)]) -> Result<bool, VaultError> {
        let shared = &self.pipeline.shared;
        let blobs = |entry: &Entry| match &entry.kind {
            EntryKind::File { size, content } if content.iter().all(|id| shared.is_known(*id)) => {
                Some((*size, content.clone()))
            }
            _ => None,
        };
        let Some(known) = files.iter().map(|(_, _, entry)| blobs(entry)).collect::<Option<Vec<_>>>() else {
            return Ok(false);
        };
        for ((path, meta, _), (bytes, ids)) in files.iter().zip(known) {
            let content = Arc::new(Content::default());
            self.insert(path, Child::File { meta: meta.clone(), content: content.clone() })?;
            shared.take_over(&content, 0, bytes, ids);
        }
        Ok(true)
    }

    /// Describes a folder. Those that are not described are made all the same, for the owner only.
    pub fn folder(&self, path: &str, meta: &EntryMeta) -> Result<(), VaultError> {
        let folder = Folder { meta: Some(meta.clone()), ..Folder::new() };
        self.insert(path, Child::Folder(folder))
    }

    /// Adds a symbolic link.
    pub fn link(&self, path: &str, target: &str, meta: &EntryMeta) -> Result<(), VaultError> {
        self.insert(path, Child::Link { meta: meta.clone(), target: target.to_owned() })
    }

    fn insert(&self, path: &str, child: Child) -> Result<(), VaultError> {
        let shared = &self.pipeline.shared;
        shared.check()?;
        lock_of(&self.root).insert(path, child).map_err(|error| shared.fail(error))
    }

    /// Says that nothing comes for a while: what was sent is stored now, where it would have waited for a full pack or for the
    /// end. Worth it only where the time until then is to be used.
    ///
    /// # Errors
    /// Whatever failed first.
    pub fn settle(&self) -> Result<(), VaultError> {
        self.pipeline.own.as_ref().map_or(Ok(()), Worker::settle)?;
        self.pipeline.shared.check()
    }

    /// Bytes of all streams that have been worked on so far.
    pub fn bytes_read(&self) -> u64 {
        self.pipeline.shared.tally.bytes_read.load(Ordering::Relaxed)
    }

    /// Bytes that have been stored so far.
    pub fn bytes_added(&self) -> u64 {
        self.pipeline.shared.tally.bytes_added.load(Ordering::Relaxed)
    }

    /// Makes the backup a snapshot, when everything else is in the vault: packs, then their index, then the snapshot.
    ///
    /// # Errors
    /// Whatever failed first, in whichever thread; [`VaultError::StreamUnfinished`] when a stream was dropped or is still
    /// open; [`VaultError::LockLost`]. There is no snapshot then.
    pub fn commit(mut self, meta: SnapshotMeta) -> Result<Committed, VaultError> {
        let shared = self.pipeline.shared.clone();
        if self.open_streams.load(Ordering::SeqCst) != 0 {
            shared.fail(VaultError::StreamUnfinished { path: "a stream that is still open".to_owned() });
        }
        self.pipeline.finish_blocks();
        shared.check()?;
        let root = std::mem::replace(&mut *lock_of(&self.root), Folder::new());
        let tree = match &mut self.pipeline.own {
            Some(worker) => {
                let tree = write_tree(worker, root, &meta)?;
                worker.flush()?;
                tree
            }
            None => Id([0; 32]), // there until `finish_packs`
        };
        self.pipeline.finish_packs();
        shared.check()?;
        shared.write_index()?;
        self.lock.check()?;
        shared.check()?;
        let mut snapshot = new_snapshot(tree, meta);
        snapshot.id = shared.core.write_json(snapshot::FOLDER, &snapshot)?;
        let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::SeqCst);
        Ok(Committed {
            snapshot,
            bytes_read: count(&shared.tally.bytes_read),
            bytes_added: count(&shared.tally.bytes_added),
            packs_added: count(&shared.tally.packs_added),
            blobs_added: count(&shared.tally.blobs_added),
            blobs_known: count(&shared.tally.blobs_known),
        })
    }
}

impl Drop for BackupWriter {
    /// Ends the threads. After a commit they have ended.
    fn drop(&mut self) {
        let shared = &self.pipeline.shared;
        let committed = self.pipeline.own.is_none() && shared.check().is_ok();
        if !committed {
            shared.fail(VaultError::StreamUnfinished { path: "a backup that was given up".to_owned() });
        }
        self.pipeline.finish_blocks();
        self.pipeline.finish_packs();
        if !committed {
            // The packs that are stored save the next attempt their bytes; without this index it is just slower.
            let _ = self.pipeline.shared.write_index();
        }
    }
}

fn new_snapshot(tree: Id, meta: SnapshotMeta) -> Snapshot {
    Snapshot {
        id: tree,
        time: meta.time,
        parent: None,
        tree,
        paths: meta.paths,
        hostname: meta.hostname,
        username: meta.username,
        tags: meta.tags,
        original: None,
        program_version: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
        extra: meta.extra,
    }
}

/// Stores the trees from the leaves up and gives the root's id.
fn write_tree(worker: &mut Worker, folder: Folder, snapshot: &SnapshotMeta) -> Result<Id, VaultError> {
    // A stack of our own: paths may be deeper than a thread's.
    struct Open {
        name: String,
        meta: EntryMeta,
        rest: std::collections::btree_map::IntoIter<String, Child>,
        json: TreeWriter,
    }
    let unnamed = EntryMeta::new(0o700, snapshot.time);
    let open = |name: String, folder: Folder| Open {
        name,
        meta: folder.meta.unwrap_or_else(|| unnamed.clone()),
        rest: folder.children.into_iter(),
        json: TreeWriter::new(),
    };
    let mut stack = vec![];
    let mut now = open(String::new(), folder);
    loop {
        match now.rest.next() {
            Some((name, Child::Folder(child))) => {
                stack.push(std::mem::replace(&mut now, open(name, child)));
            }
            Some((name, Child::File { meta, content })) => {
                let (size, content) = content.take();
                now.json.add(&name, &meta, &EntryKind::File { size, content });
            }
            Some((name, Child::Link { meta, target })) => {
                now.json.add(&name, &meta, &EntryKind::Link { target: target.into() });
            }
            None => {
                let tree = worker.tree(&now.json.finish())?;
                let Some(parent) = stack.pop() else { return Ok(tree) };
                let (name, meta) = (now.name, now.meta);
                now = parent;
                now.json.add(&name, &meta, &EntryKind::Folder { tree });
            }
        }
    }
}

/// A file of a backup that is being written.
pub struct StreamWriter {
    path: String,
    shared: Arc<Shared>,
    chunker: Arc<Chunker>,
    /// Whether it is cut at given places, and not by what is in it.
    by_place: bool,
    guide: Guide,
    pub(super) earlier: Earlier,
    open_streams: Arc<AtomicUsize>,
    content: Arc<Content>,
    /// Bytes that are on no way yet: cut ones, then the beginning of a blob, then room that was initialised before.
    block: Vec<u8>,
    /// How many of them there are.
    filled: usize,
    cuts: Vec<usize>,
    /// Where in the stream the block begins.
    offset: u64,
    number: u64,
    finished: bool,
}

impl StreamWriter {
    /// The stream is complete. Its last bytes are on their way; whether all arrive, `commit` tells.
    pub fn finish(mut self) -> Result<StoredFile, VaultError> {
        self.shared.check()?;
        self.cut(true);
        if self.cuts.last().copied().unwrap_or(0) < self.filled {
            self.cuts.push(self.filled);
        }
        self.send()?;
        self.finished = true;
        Ok(StoredFile { bytes: self.offset })
    }

    /// The producer knows that the stream will not be complete: says why the backup fails. Otherwise like dropping it.
    pub fn fail(self, error: VaultError) {
        self.shared.fail(error);
    }

    /// Bytes a block may have here: enough that at least one blob can be cut from it.
    fn room(&self) -> usize {
        BLOCK_BYTES.max(self.chunker.bytes_max(self.offset))
    }

    /// Finds the cuts in the block; in the `last` one also those that a guide would rather wait for.
    pub(super) fn cut(&mut self, last: bool) {
        let mut start = self.cuts.last().copied().unwrap_or(0);
        while self.by_place {
            let at = self.offset + start as u64;
            start += (self.next_place(at) - at) as usize;
            if start > self.filled {
                return;
            }
            self.cuts.push(start);
        }
        while start < self.filled {
            let (offset, rest) = (self.offset + start as u64, &self.block[start..self.filled]);
            let proposed = self.guide.proposed();
            if let Some(length) = proposed.filter(|length| self.chunker.ends_at(offset, rest, *length)) {
                self.guide.taken();
                start += length;
            } else if !last && proposed.is_some_and(|length| length >= rest.len()) && rest.len() < self.least(offset) {
                return;
            } else if let Cut::At(length) = self.chunker.cut(offset, rest) {
                self.guide.missed(length);
                start += length;
            } else {
                return;
            }
            self.cuts.push(start);
        }
    }

    /// Where a file of pages is cut next behind a place.
    fn next_place(&self, at: u64) -> u64 {
        let length = self.chunker.average(at) as u64;
        (at / length + 1) * length
    }

    /// With so many bytes there is always a cut.
    fn least(&self, offset: u64) -> usize {
        self.chunker.bytes_max(offset)
    }

    /// Where in the stream the first byte is that was not sent.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where blobs end that were cut and not sent, from there on.
    pub(super) fn cuts(&self) -> &[usize] {
        &self.cuts
    }

    /// Forgets what was written behind a cut, or behind what was sent.
    pub(super) fn rewind(&mut self, cut: u64) -> Result<(), VaultError> {
        self.shared.check()?;
        let length = (cut - self.offset) as usize;
        self.filled = length;
        self.cuts.retain(|cut| *cut <= length);
        self.send()
    }

    /// Goes on with blobs of the earlier version, which has `next` of them up to the last one. Everything was sent.
    pub(super) fn append(&mut self, bytes: u64, ids: Vec<Id>, next: usize) {
        self.shared.take_over(&self.content, self.number, bytes, ids);
        self.number += 1;
        self.offset += bytes;
        self.guide.move_to(next);
    }

    /// Lets `read` put at most so many bytes where they are cut and hashed, without a copy between, and gives how many it
    /// put there. 0 is the end of what it reads.
    ///
    /// # Errors
    /// Those of `read`, and those of [`Write`].
    pub fn read_from(
        &mut self,
        most: usize,
        read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.shared.check().map_err(io::Error::other)?;
        let end = self.room().min(self.filled + most);
        if end == self.filled {
            // Nothing would be read, and that would look like the end.
            return Err(io::Error::other("there is no room for a byte more"));
        }
        if self.block.len() < end {
            self.block.resize(end, 0);
        }
        let taken = read(&mut self.block[self.filled..end])?;
        self.took(taken)?;
        Ok(taken)
    }

    /// So many bytes more are in the block.
    fn took(&mut self, bytes: usize) -> io::Result<()> {
        self.filled += bytes;
        if self.filled >= self.room() {
            self.cut(false);
            self.send().map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Sends the cut part of the block to the workers; the beginning of the next blob stays.
    fn send(&mut self) -> Result<(), VaultError> {
        let Some(&end) = self.cuts.last() else { return Ok(()) };
        let mut next = self.shared.block();
        let rest = &self.block[end..self.filled];
        match next.get_mut(..rest.len()) {
            Some(begin) => begin.copy_from_slice(rest),
            None => {
                next.clear();
                next.reserve(self.room().min(self.filled + 1));
                next.extend_from_slice(rest);
            }
        }
        self.filled = rest.len();
        let bytes = std::mem::replace(&mut self.block, next);
        let cuts = std::mem::take(&mut self.cuts);
        let block = Block { bytes, cuts, number: self.number, content: self.content.clone() };
        self.number += 1;
        self.offset += end as u64;
        self.shared.send_block(block)
    }
}

impl Write for StreamWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.shared.check().map_err(io::Error::other)?;
        let taken = bytes.len().min(self.room().saturating_sub(self.filled));
        match self.block.get_mut(self.filled..self.filled + taken) {
            Some(room) => room.copy_from_slice(&bytes[..taken]),
            None => {
                self.block.truncate(self.filled);
                self.block.extend_from_slice(&bytes[..taken]);
            }
        }
        self.took(taken)?;
        Ok(taken)
    }

    /// There is nothing between a stream and its end worth waiting for.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.fail(VaultError::StreamUnfinished { path: std::mem::take(&mut self.path) });
        }
        self.open_streams.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_io::{Io, objects::folder};
    use std::sync::Weak;

    /// A vault in a folder of its own.
    fn vault() -> (tempfile::TempDir, Vault) {
        let place = tempfile::tempdir().unwrap();
        let store = Arc::new(folder::Folder::new(place.path()));
        let vault = Vault::create(store, &"password".into(), &Io::system()).unwrap();
        (place, vault)
    }

    fn meta() -> SnapshotMeta {
        let (time, text) = (jiff::Timestamp::UNIX_EPOCH, String::new);
        SnapshotMeta { time, hostname: text(), username: text(), paths: vec![], tags: vec![], extra: ().into() }
    }

    /// Backs up with packs that are changed between sealing and storing.
    fn back_up_tampered(vault: &Vault, tamper: Option<fn(&mut Vec<u8>)>) -> Result<Committed, VaultError> {
        let lock = vault.lock(LockKind::Shared, &Stop::default()).unwrap();
        let mut shared = Shared::new(vault.core.clone(), vault.core.index().unwrap(), Stop::default());
        shared.tamper = tamper;
        let writer = vault.begin_with(Arc::new(shared), lock, (1, 1), None).unwrap();
        let mut stream = writer.stream("table", &EntryMeta::new(0o600, jiff::Timestamp::UNIX_EPOCH)).unwrap();
        stream.write_all(&b"some words, again and again; ".repeat(10_000)).unwrap();
        stream.finish().unwrap();
        writer.commit(meta())
    }

    #[test]
    fn a_bit_that_flips_before_a_pack_is_stored_fails_the_backup() {
        let (place, vault) = vault();
        let flips: [fn(&mut Vec<u8>); 6] = [
            |pack| pack[0] ^= 1,                   // a nonce
            |pack| pack[100] ^= 0x80,              // a blob
            |pack| *pack.last_mut().unwrap() ^= 1, // the list's length
            |pack| {
                let inside_list = pack.len() - 20;
                pack[inside_list] ^= 1;
            },
            |pack| pack.truncate(pack.len() - 1),
            |pack| pack.push(0),
        ];
        for (number, flip) in flips.into_iter().enumerate() {
            let error = back_up_tampered(&vault, Some(flip)).unwrap_err();
            assert!(matches!(error.root(), VaultError::Damaged { .. }), "{number}: {error}");
            assert!(vault.snapshots().unwrap().is_empty());
            assert!(!place.path().join("data").exists(), "{number}: nothing was stored");
        }
        let committed = back_up_tampered(&vault, None).unwrap();
        assert_eq!(vault.verify_snapshot(&committed.snapshot).unwrap().bytes, 290_000);
    }

    #[test]
    fn what_was_sent_is_stored_when_nothing_comes_for_a_while_and_more_may_come() {
        let (place, vault) = vault();
        let packs = || vault.core.pack_sizes().unwrap().len();
        let writer = vault.begin(BackupOptions::default()).unwrap();
        let noise = |seed: u8| -> Vec<u8> {
            (0..200_000_u32).flat_map(|at| Id::of(&[seed, at as u8, (at >> 8) as u8, (at >> 16) as u8]).0).collect()
        };
        let write = |name: &str, bytes: &[u8]| {
            let mut stream = writer.stream(name, &EntryMeta::new(0o600, jiff::Timestamp::UNIX_EPOCH)).unwrap();
            stream.write_all(bytes).unwrap();
            stream.finish().unwrap();
        };
        write("little", b"waits for more");
        writer.settle().unwrap();
        assert_eq!(packs(), 0, "too little for a pack of its own");
        write("much", &noise(1));
        writer.settle().unwrap();
        let clock = &vault.core.io.clock;
        let begun = clock.elapsed();
        while packs() < 2 {
            assert!((clock.elapsed() - begun).as_secs() < 60, "half of it is stored by each storer");
            clock.sleep(std::time::Duration::from_millis(5), &Stop::default()).unwrap();
        }
        write("more", &noise(2));
        let snapshot = writer.commit(meta()).unwrap().snapshot;
        for (name, bytes) in [("little", b"waits for more".to_vec()), ("much", noise(1)), ("more", noise(2))] {
            let mut read = Vec::new();
            vault.read_file(&snapshot, name, &mut read, &|_| (), &Stop::default()).unwrap();
            assert!(read == bytes, "{name}");
        }
        drop(place);
    }

    #[test]
    fn threads_and_buffers_go_with_the_backup() {
        let (_place, vault) = vault();
        let writer = vault.begin(BackupOptions::default()).unwrap();
        let shared: Weak<Shared> = Arc::downgrade(&writer.pipeline.shared);
        let stream = writer.stream("open", &EntryMeta::new(0o600, jiff::Timestamp::UNIX_EPOCH)).unwrap();
        drop(writer); // does not wait for the stream
        drop(stream);
        assert!(shared.upgrade().is_none());
    }
}
