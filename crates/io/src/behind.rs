//! A file on its way to disk while it is still being written. What is large goes past the system's cache: copying it there,
//! finding memory for it, and writing it from there later cost as much as taking it out of a vault does.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Scope, ScopedJoinHandle},
};

/// Bytes that are written at once where the system's cache is used. For larger pieces it looks for larger stretches of
/// memory; in a virtual machine that has not used all of its memory yet, those cost several times as much (Linux 6.18, ext4).
pub(crate) const AT_ONCE_BYTES: usize = 128 << 10;

/// A file that grows larger than this is sent past the cache from there on. A multiple of [`BLOCK_BYTES`].
pub(crate) const CACHED_BYTES: u64 = 32 << 20;

/// Bytes that are written at once past the cache.
const BLOCK_BYTES: usize = 1 << 20;

/// Where memory and places in a file must begin for a disk to take them directly: no disk in use asks for more.
const ALIGNED_BYTES: usize = 4096;

/// Blocks on their way: one that is being filled, one that is being written, and some that wait, so that neither who fills nor
/// who writes stands still when the other is not given a processor for a moment.
const BLOCKS: usize = 8;

/// Bytes that are written through the cache before the disk is set to work on them, where it cannot be gone past.
const NUDGE_BYTES: u64 = 64 << 20;

/// A new file that is being written from its beginning to its end.
pub(crate) struct Behind<'scope, 'env> {
    file: &'env fs::File,
    path: &'env Path,
    scope: &'scope Scope<'scope, 'env>,
    written: u64,
    way: Way<'scope>,
}

/// How the next bytes go.
enum Way<'scope> {
    /// Through the cache: the file may still end soon.
    Cached,
    /// Past the cache.
    Direct { block: Block, to: Worker<'scope, Block>, spare: Receiver<Block> },
    /// Through the cache, the disk working beside: it cannot be gone past, on a file system that does not know how to.
    Nudged { waiting: u64, worker: Option<Worker<'scope, ()>> },
}

/// A thread beside, and what it is sent.
struct Worker<'scope, T> {
    work: SyncSender<T>,
    thread: ScopedJoinHandle<'scope, io::Result<()>>,
}

impl<T> Worker<'_, T> {
    /// Waits for it; the error is its own.
    fn finish(self) -> io::Result<()> {
        drop(self.work);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes broke down")))
    }
}

impl<'scope, 'env> Behind<'scope, 'env> {
    /// For a file that is empty.
    pub fn new(file: &'env fs::File, path: &'env Path, scope: &'scope Scope<'scope, 'env>) -> Behind<'scope, 'env> {
        Behind { file, path, scope, written: 0, way: Way::Cached }
    }

    /// Everything written is with the system; what it has not told of a failure until now, it tells here.
    pub fn finish(mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.way, Way::Cached) {
            Way::Cached => Ok(()),
            Way::Direct { block, to, .. } => {
                to.finish()?;
                // The end is no whole block, and the disk takes only whole ones.
                self.file.write_all_at(block.filled(), block.at)
            }
            Way::Nudged { worker, .. } => worker.map_or(Ok(()), Worker::finish),
        }
    }

    /// What is written from here on goes past the cache, if that can be.
    fn turn(&mut self) {
        self.way = self.direct().unwrap_or(Way::Nudged { waiting: self.written, worker: None });
    }

    fn direct(&self) -> Option<Way<'scope>> {
        let mut past = Some(open_past_cache(self.path)?);
        let (work, blocks) = sync_channel::<Block>(BLOCKS);
        let (back, spare) = sync_channel(BLOCKS);
        for _ in 1..BLOCKS {
            let _ = back.try_send(Block::new(self.written)); // there is room for all
        }
        let file = self.file;
        let write = move || {
            for block in blocks {
                block.write(file, &mut past)?;
                let _ = back.send(block);
            }
            Ok(())
        };
        let thread =
            std::thread::Builder::new().name("write behind".to_owned()).spawn_scoped(self.scope, write).ok()?;
        Some(Way::Direct { block: Block::new(self.written), to: Worker { work, thread }, spare })
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if matches!(self.way, Way::Cached) && self.written == CACHED_BYTES {
            self.turn();
        }
        match &mut self.way {
            Way::Cached => {
                let until = usize::try_from(CACHED_BYTES - self.written).unwrap_or(usize::MAX);
                (&mut &*self.file).write(&bytes[..bytes.len().min(until).min(AT_ONCE_BYTES)])
            }
            Way::Direct { block, to, spare } => {
                let taken = block.fill(bytes);
                if block.is_full() {
                    let Ok(fresh) = spare.recv() else { return Err(self.broken()) };
                    let fresh = fresh.again(block.at + BLOCK_BYTES as u64);
                    if to.work.send(std::mem::replace(block, fresh)).is_err() {
                        return Err(self.broken());
                    }
                }
                Ok(taken)
            }
            Way::Nudged { waiting, worker } => {
                let written = (&mut &*self.file).write(&bytes[..bytes.len().min(AT_ONCE_BYTES)])?;
                *waiting += written as u64;
                if *waiting >= NUDGE_BYTES {
                    if worker.is_none() {
                        *worker = syncing(self.file, self.scope);
                    }
                    if let Some(worker) = worker {
                        let _ = worker.work.try_send(()); // one that is busy finds these bytes too
                    }
                    *waiting = 0;
                }
                Ok(written)
            }
        }
    }

    /// The thread ended early: its error.
    fn broken(&mut self) -> io::Error {
        let ended = match std::mem::replace(&mut self.way, Way::Cached) {
            Way::Direct { to, .. } => to.finish(),
            Way::Cached | Way::Nudged { .. } => Ok(()),
        };
        ended.err().unwrap_or_else(|| io::Error::other("the thread that writes ended"))
    }
}

/// A thread that syncs each time it is told to. Without it everything is synced at the end.
fn syncing<'scope, 'env>(file: &'env fs::File, scope: &'scope Scope<'scope, 'env>) -> Option<Worker<'scope, ()>> {
    let (work, nudges) = sync_channel::<()>(1);
    let sync = move || nudges.iter().try_for_each(|()| file.sync_data());
    let thread = std::thread::Builder::new().name("write behind".to_owned()).spawn_scoped(scope, sync).ok()?;
    Some(Worker { work, thread })
}

impl Write for Behind<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.write_some(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // on disk it is only at the end
    }
}

/// Writes a whole file, a large one past the cache. On disk it is only after a sync.
pub(crate) fn write_whole(file: &fs::File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let whole_blocks = bytes.len() / BLOCK_BYTES * BLOCK_BYTES;
    let mut past = if whole_blocks == 0 { None } else { open_past_cache(path) };
    if past.is_none() {
        return bytes.chunks(AT_ONCE_BYTES).try_for_each(|piece| (&mut &*file).write_all(piece));
    }
    let mut block = Block::new(0);
    for piece in bytes[..whole_blocks].chunks(BLOCK_BYTES) {
        block.fill(piece);
        block.write(file, &mut past)?;
        let next = block.at + BLOCK_BYTES as u64;
        block = block.again(next);
    }
    // The end is no whole block, and the disk takes only whole ones.
    file.write_all_at(&bytes[whole_blocks..], whole_blocks as u64)
}

/// The same file, to be written past the cache. A file system that cannot do it says so now, or when the first block comes.
fn open_past_cache(path: &Path) -> Option<fs::File> {
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    fs::OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
}

/// Bytes on their way past the cache, in memory that begins where a disk wants it to.
struct Block {
    /// Where in the file they go.
    at: u64,
    memory: Vec<u8>,
    /// Where in the memory they begin.
    begin: usize,
    length: usize,
}

impl Block {
    fn new(at: u64) -> Block {
        let memory = vec![0; BLOCK_BYTES + ALIGNED_BYTES];
        let begin = memory.as_ptr().align_offset(ALIGNED_BYTES).min(ALIGNED_BYTES);
        Block { at, memory, begin, length: 0 }
    }

    fn again(self, at: u64) -> Block {
        Block { at, length: 0, ..self }
    }

    /// Takes as many as there is room for.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(BLOCK_BYTES - self.length);
        let end = self.begin + self.length;
        self.memory[end..end + taken].copy_from_slice(&bytes[..taken]);
        self.length += taken;
        taken
    }

    /// Writes it past the cache, and from the first time on that this does not work, through it, where it goes everywhere; if
    /// it does not, that error is the one to tell.
    fn write(&self, file: &fs::File, past: &mut Option<fs::File>) -> io::Result<()> {
        if past.as_ref().is_some_and(|past| past.write_all_at(self.filled(), self.at).is_ok()) {
            return Ok(());
        }
        *past = None;
        file.write_all_at(self.filled(), self.at)
    }

    fn is_full(&self) -> bool {
        self.length == BLOCK_BYTES
    }

    fn filled(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + self.length]
    }
}
