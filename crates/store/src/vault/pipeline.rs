//! How bytes become packs, on a few threads and in bounded memory.
//!
//! ```text
//! streams      cut blocks of about a MiB into blobs              the callers' threads
//!    |  blocks (bounded)
//! workers      hash, leave out what is there, compress, seal     one for each core
//!    |  open pack -> full packs (bounded)
//! storers      verify, name, put, note for the index             two
//! ```
//!
//! The first error stops everything: nobody waits for anybody after that, and nothing more is stored.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use lifeboat_io::Stop;

use super::{
    BlobKind, Core, Id, VaultError,
    index::{self, Index, IndexFile},
    lock_of,
    pack::{self, Mark, OpenPack, PackedBlob, Packer, Scratch, Unsealer},
};

/// An index file is written when so many blobs wait for one,
const INDEX_BLOBS: usize = 40_000;
/// or when the last one was so long ago: what is not in an index is stored again by a retry.
const INDEX_SECONDS: u64 = 60;
/// Threads that store packs. Each holds a pack; while one waits for the disk the other verifies.
const STORERS: usize = 2;

/// A last pack with this many bytes is stored as two.
const SHARED_BYTES: usize = 2 << 20;
/// So often who waits for the workers looks whether the backup has failed.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A piece of a stream, cut.
pub(crate) struct Block {
    /// A buffer; what counts of it ends with the last blob.
    pub bytes: Vec<u8>,
    /// Where its blobs end.
    pub cuts: Vec<usize>,
    /// Which of the stream's blocks it is.
    pub number: u64,
    pub content: Arc<Content>,
}

/// The blobs of a file, as far as they are known; blocks come back in any order.
#[derive(Debug, Default)]
pub(crate) struct Content(Mutex<Blobs>);

#[derive(Debug, Default)]
struct Blobs {
    bytes: u64,
    ids: Vec<Id>,
    next: u64,
    early: HashMap<u64, Vec<Id>>,
}

impl Content {
    fn add(&self, number: u64, bytes: u64, ids: Vec<Id>) {
        let mut blobs = lock_of(&self.0);
        blobs.bytes += bytes;
        blobs.early.insert(number, ids);
        loop {
            let next = blobs.next;
            let Some(ids) = blobs.early.remove(&next) else { return };
            blobs.ids.extend(ids);
            blobs.next += 1;
        }
    }

    /// Takes the size and the blobs out, when all blocks are in.
    pub fn take(&self) -> (u64, Vec<Id>) {
        let mut blobs = lock_of(&self.0);
        (blobs.bytes, std::mem::take(&mut blobs.ids))
    }
}

/// What the parts share.
pub(crate) struct Shared {
    pub core: Arc<Core>,
    pub stop: Stop,
    /// The way to the workers, while it is open. Streams that outlive their backup find it closed.
    blocks: Mutex<Option<Sender<Block>>>,
    /// Blocks on that way, or with a worker.
    on_their_way: Mutex<usize>,
    /// There are none of them any more.
    all_arrived: Condvar,
    known: Arc<Index>,
    fresh: [Mutex<IdSet>; 16],
    fresh_trees: Mutex<IdSet>,
    data_pack: Mutex<OpenPack>,
    tree_pack: Mutex<OpenPack>,
    /// Storers that hand a pack to the place just now.
    putting: AtomicUsize,
    failed: AtomicBool,
    failure: Mutex<Option<Arc<VaultError>>>,
    noted: Mutex<Noted>,
    spare_blocks: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    spare_packs: (Sender<OpenPack>, Receiver<OpenPack>),
    pub tally: Tally,
    #[cfg(test)]
    pub tamper: Option<fn(&mut Vec<u8>)>,
}

/// What has been done so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub bytes_read: AtomicU64,
    pub bytes_added: AtomicU64,
    pub blobs_added: AtomicU64,
    pub blobs_known: AtomicU64,
    pub packs_added: AtomicU64,
}

/// Stored packs that no index file names yet.
#[derive(Default)]
struct Noted {
    packs: Vec<(Id, Vec<PackedBlob>)>,
    blobs: usize,
    written_at_seconds: u64,
}

type IdSet = HashSet<Id, BuildHasherDefault<IdHasher>>;

/// Ids are digests; their first bytes are as good as any hash of them.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        if let Some((first, _)) = bytes.split_first_chunk() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }
    fn write_usize(&mut self, _length: usize) {}
}

impl Shared {
    pub fn new(core: Arc<Core>, known: Arc<Index>, stop: Stop) -> Shared {
        let noted = Noted { written_at_seconds: pack::elapsed_seconds(&core.io), ..Noted::default() };
        Shared {
            core,
            stop,
            blocks: Mutex::default(),
            on_their_way: Mutex::default(),
            all_arrived: Condvar::new(),
            known,
            fresh: Default::default(),
            fresh_trees: Mutex::default(),
            data_pack: Mutex::default(),
            tree_pack: Mutex::default(),
            putting: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
            noted: Mutex::new(noted),
            spare_blocks: bounded(pack::parallelism() * 2 + 2),
            spare_packs: bounded(STORERS),
            tally: Tally::default(),
            #[cfg(test)]
            tamper: None,
        }
    }

    /// Ends the backup with an error; the first one counts.
    pub fn fail(&self, error: VaultError) -> VaultError {
        let mut failure = lock_of(&self.failure);
        let first = failure.get_or_insert_with(|| Arc::new(error)).clone();
        self.failed.store(true, Ordering::SeqCst);
        VaultError::Failed(first)
    }

    /// How the backup failed, if it has.
    pub fn check(&self) -> Result<(), VaultError> {
        if self.failed.load(Ordering::SeqCst)
            && let Some(first) = &*lock_of(&self.failure)
        {
            return Err(VaultError::Failed(first.clone()));
        }
        self.stop.check().map_err(|stopped| self.fail(stopped.into()))
    }

    /// Hands a block to the workers; waits while they have enough.
    pub fn send_block(&self, block: Block) -> Result<(), VaultError> {
        let blocks = lock_of(&self.blocks).clone();
        *lock_of(&self.on_their_way) += 1;
        if blocks.is_some_and(|blocks| blocks.send(block).is_ok()) {
            return Ok(());
        }
        self.arrived();
        let source = std::io::Error::other("its threads have ended");
        Err(self.fail(VaultError::Start { what: "a part of the backup", source }))
    }

    /// A block is in a pack, or will never be.
    fn arrived(&self) {
        let mut blocks = lock_of(&self.on_their_way);
        *blocks -= 1;
        if *blocks == 0 {
            self.all_arrived.notify_all();
        }
    }

    /// Waits until every block that was sent is in a pack.
    fn wait_for_blocks(&self) {
        let mut blocks = lock_of(&self.on_their_way);
        while *blocks > 0 && self.check().is_ok() {
            let waited = self.all_arrived.wait_timeout(blocks, LOOK_AGAIN);
            blocks = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A buffer for a block, used before where there is one: what is in it counts for nothing.
    pub fn block(&self) -> Vec<u8> {
        self.spare_blocks.1.try_recv().unwrap_or_default()
    }

    /// Whether a blob of data was in the vault when the backup began.
    pub fn is_known(&self, id: Id) -> bool {
        self.known.contains(BlobKind::Data, id)
    }

    /// Notes blobs of a stream that are in the vault.
    pub fn take_over(&self, content: &Content, number: u64, bytes: u64, ids: Vec<Id>) {
        self.tally.blobs_known.fetch_add(ids.len() as u64, Ordering::Relaxed);
        self.tally.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        content.add(number, bytes, ids);
    }

    /// Whether the blob must be stored: it is not in the vault, and nobody in this backup was faster.
    fn claim(&self, kind: BlobKind, id: Id) -> bool {
        let fresh = match kind {
            BlobKind::Data => &self.fresh[usize::from(id.0[31] % 16)],
            BlobKind::Tree => &self.fresh_trees,
        };
        let new = !self.known.contains(kind, id) && lock_of(fresh).insert(id);
        let tally = if new { &self.tally.blobs_added } else { &self.tally.blobs_known };
        tally.fetch_add(1, Ordering::Relaxed);
        new
    }

    /// Whether all storers wait for the vault's place: then there is time to make smaller what comes to it.
    fn waits_for_place(&self) -> bool {
        self.putting.load(Ordering::Relaxed) >= STORERS
    }

    fn open_pack(&self, kind: BlobKind) -> &Mutex<OpenPack> {
        match kind {
            BlobKind::Data => &self.data_pack,
            BlobKind::Tree => &self.tree_pack,
        }
    }

    /// Takes the open pack away, for the last time or because it is full.
    pub fn take_pack(&self, kind: BlobKind) -> Option<OpenPack> {
        let mut open = lock_of(self.open_pack(kind));
        (!open.blobs.is_empty()).then(|| std::mem::take(&mut *open))
    }

    /// Stores a pack: ends it, verifies it, puts it, notes it for the index.
    fn store(&self, mut full: OpenPack, unsealer: &mut Unsealer, scratch: &mut Scratch) -> Result<(), VaultError> {
        self.check()?;
        let core = &self.core;
        pack::append_list(&mut full.bytes, &full.blobs, &core.sealer);
        #[cfg(test)]
        if let Some(tamper) = self.tamper {
            tamper(&mut full.bytes);
        }
        pack::verify(&full.bytes, &full.blobs, &full.marks, &core.sealer, unsealer, scratch)?;
        let id = Id::of(&full.bytes);
        let bytes = Bytes::from(full.bytes);
        self.putting.fetch_add(1, Ordering::Relaxed);
        let put = core.store.put(&pack::object_key(id), bytes.clone());
        self.putting.fetch_sub(1, Ordering::Relaxed);
        put.map_err(VaultError::object("store a pack"))?;
        self.tally.bytes_added.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.tally.packs_added.fetch_add(1, Ordering::Relaxed);
        // The store is done with the bytes, so the buffer is ours again without a copy.
        let mut spare = OpenPack { bytes: Vec::from(bytes), ..OpenPack::default() };
        spare.bytes.clear();
        let _ = self.spare_packs.0.try_send(spare);
        self.note(id, full.blobs)
    }

    fn note(&self, id: Id, blobs: Vec<PackedBlob>) -> Result<(), VaultError> {
        let seconds = pack::elapsed_seconds(&self.core.io);
        let mut noted = lock_of(&self.noted);
        noted.blobs += blobs.len();
        noted.packs.push((id, blobs));
        let due = noted.blobs >= INDEX_BLOBS || seconds >= noted.written_at_seconds + INDEX_SECONDS;
        drop(noted);
        if due { self.write_index() } else { Ok(()) }
    }

    /// Writes an index file of the packs that none names yet.
    pub fn write_index(&self) -> Result<(), VaultError> {
        let packs = {
            let mut noted = lock_of(&self.noted);
            noted.blobs = 0;
            noted.written_at_seconds = pack::elapsed_seconds(&self.core.io);
            std::mem::take(&mut noted.packs)
        };
        if packs.is_empty() {
            return Ok(());
        }
        let file = IndexFile::new(&packs);
        drop(packs);
        self.core.write_json(index::FOLDER, &file).map(drop)
    }
}

/// Hashes, compresses and seals; one for each thread.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    packer: Packer,
    full: Sender<OpenPack>,
}

impl Worker {
    fn work(&mut self, blocks: &Receiver<Block>) {
        for block in blocks {
            // After a failure blocks are only taken, so that no stream waits for ever.
            if self.shared.check().is_ok()
                && let Err(error) = self.block(block)
            {
                self.shared.fail(error);
            }
            self.shared.arrived();
        }
    }

    fn block(&mut self, block: Block) -> Result<(), VaultError> {
        let Block { bytes, cuts, number, content } = block;
        let mut ids = Vec::with_capacity(cuts.len());
        let mut start = 0;
        for end in cuts {
            ids.push(self.blob(BlobKind::Data, &bytes[start..end]));
            start = end;
        }
        self.hand_over(BlobKind::Data)?;
        self.shared.tally.bytes_read.fetch_add(start as u64, Ordering::Relaxed);
        content.add(number, start as u64, ids);
        let _ = self.shared.spare_blocks.0.try_send(bytes);
        Ok(())
    }

    /// A blob's id; the blob itself goes into the batch unless it is stored already.
    fn blob(&mut self, kind: BlobKind, plain: &[u8]) -> Id {
        let mark = Mark::of(plain);
        let id = Id::of(plain);
        if self.shared.claim(kind, id) {
            let in_hurry = kind == BlobKind::Data && !self.shared.waits_for_place();
            self.packer.add((kind, id), mark, plain, in_hurry, &self.shared.core.sealer);
        }
        id
    }

    /// Stores a tree.
    pub fn tree(&mut self, json: &[u8]) -> Result<Id, VaultError> {
        let id = self.blob(BlobKind::Tree, json);
        self.hand_over(BlobKind::Tree)?;
        Ok(id)
    }

    /// Moves the batch into the open pack, and that on when it is full. One block's blobs stay together.
    fn hand_over(&mut self, kind: BlobKind) -> Result<(), VaultError> {
        if self.packer.blobs.is_empty() {
            return Ok(());
        }
        let mut open = lock_of(self.shared.open_pack(kind));
        if open.bytes.capacity() == 0
            && kind == BlobKind::Data
            && let Ok(spare) = self.shared.spare_packs.1.try_recv()
        {
            *open = spare;
        }
        open.append(&self.packer);
        self.packer.clear();
        if open.is_full() {
            // The others wait with us: while the storers are busy no further pack is begun, so that there are never many.
            self.send(std::mem::take(&mut *open))?;
        }
        Ok(())
    }

    fn send(&self, full: OpenPack) -> Result<(), VaultError> {
        self.full.send(full).map_err(|_| {
            let source = std::io::Error::other("the threads that store packs are gone");
            self.shared.fail(VaultError::Start { what: "storing a pack", source })
        })
    }

    /// Sends what is left in the open packs.
    pub fn flush(&self) -> Result<(), VaultError> {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            if let Some(last) = self.shared.take_pack(kind) {
                self.send_shared(last)?;
            }
        }
        Ok(())
    }

    /// Stores the data that has come, if it is much, while nothing else comes.
    pub fn settle(&self) -> Result<(), VaultError> {
        self.shared.wait_for_blocks();
        if lock_of(&self.shared.data_pack).bytes.len() < SHARED_BYTES {
            return Ok(());
        }
        self.shared.take_pack(BlobKind::Data).map_or(Ok(()), |pack| self.send_shared(pack))
    }

    /// Sends a pack that no other follows: as two, when it is large, so that no storer has nothing to do.
    fn send_shared(&self, mut last: OpenPack) -> Result<(), VaultError> {
        match last.bytes.len() >= SHARED_BYTES {
            true => {
                let second = last.split();
                self.send(last)?;
                // It may have been one long blob.
                if second.blobs.is_empty() { Ok(()) } else { self.send(second) }
            }
            false => self.send(last),
        }
    }
}

fn store_packs(shared: &Shared, packs: &Receiver<OpenPack>) {
    let mut scratch = Scratch::default();
    let mut unsealer = Unsealer::new().map_err(|error| shared.fail(error)).ok();
    for full in packs {
        // After a failure packs are only taken, so that no worker waits for ever.
        if let Some(unsealer) = &mut unsealer
            && shared.check().is_ok()
            && let Err(error) = shared.store(full, unsealer, &mut scratch)
        {
            shared.fail(error);
        }
    }
}

/// The running threads.
pub(crate) struct Pipeline {
    pub shared: Arc<Shared>,
    /// The worker of the thread that ends the backup.
    pub own: Option<Worker>,
    workers: Vec<JoinHandle<()>>,
    storers: Vec<JoinHandle<()>>,
}

impl Pipeline {
    pub fn start(shared: Arc<Shared>, levels: (i32, i32)) -> Result<Pipeline, VaultError> {
        let levels = shared.core.config.compresses().then_some(levels);
        let threads = pack::parallelism();
        let (blocks, blocks_out) = bounded::<Block>(threads);
        let (full, full_out) = bounded::<OpenPack>(0);
        let worker =
            || Ok::<_, VaultError>(Worker { shared: shared.clone(), packer: Packer::new(levels)?, full: full.clone() });
        let own = Some(worker()?);
        let mut pipeline = Pipeline { shared: shared.clone(), own, workers: Vec::new(), storers: Vec::new() };
        *lock_of(&shared.blocks) = Some(blocks);
        for _ in 0..STORERS {
            let (shared, packs) = (shared.clone(), full_out.clone());
            pipeline.storers.push(spawn("vault storer", move || store_packs(&shared, &packs), &pipeline.shared)?);
        }
        for _ in 0..threads {
            let (mut worker, blocks) = (worker()?, blocks_out.clone());
            pipeline.workers.push(spawn("vault worker", move || worker.work(&blocks), &pipeline.shared)?);
        }
        Ok(pipeline)
    }

    /// Waits until every block is in a pack. No more blocks can come after that.
    pub fn finish_blocks(&mut self) {
        *lock_of(&self.shared.blocks) = None;
        for thread in self.workers.drain(..) {
            let _ = thread.join(); // a panic has been noted as a failure
        }
    }

    /// Waits until every pack is stored.
    pub fn finish_packs(&mut self) {
        self.own = None;
        for thread in self.storers.drain(..) {
            let _ = thread.join(); // a panic has been noted as a failure
        }
    }
}

/// Starts a thread that fails the backup if it panics.
fn spawn(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
    shared: &Arc<Shared>,
) -> Result<JoinHandle<()>, VaultError> {
    struct OnPanic(Arc<Shared>, &'static str);
    impl Drop for OnPanic {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let source = std::io::Error::other(format!("a {} broke down", self.1));
                self.0.fail(VaultError::Start { what: "a part of the backup", source });
            }
        }
    }
    let watch = OnPanic(shared.clone(), name);
    let guarded = move || {
        let _watch = watch;
        work();
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(guarded);
    thread.map_err(|source| VaultError::Start { what: "a thread of the backup", source })
}
