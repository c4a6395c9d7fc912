//! Which pages changed since an earlier backup: all are read and digested, on two threads.
//!
//! Each thread reads runs of pages and digests them; most of that is the kernel's copying, which two do in half the time.
//! What has an order - the digest of the whole, the comparison with the earlier map - one of them does for both.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Pages, SqliteError,
    map::{Digests, NewMap, PageMap, digest_of},
};
use crate::{digest::QuickDigest, stop::Stop};

/// Pages travel together, so many bytes at a time: few enough to stay in a cache.
const RUN_BYTES: usize = 256 << 10;

/// What a scan found: which pages are not as they were.
pub struct Scanned {
    changed: Vec<u64>,
    page_size: u32,
    pages: u32,
    seed: u64,
    /// The sum of the digests of the changed ones: who reads them again looks whether it comes to the same.
    sum: u128,
    digest: String,
}

impl Scanned {
    /// The [`QuickDigest`] of all bytes.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How many bytes the changed pages have.
    pub fn changed_bytes(&self) -> u64 {
        let pages: u64 = self.changed.iter().map(|word| u64::from(word.count_ones())).sum();
        pages * u64::from(self.page_size)
    }

    /// Whether a page is another than it was.
    pub(super) fn is_changed(&self, page: u32) -> bool {
        let at = page - 1;
        self.changed[at as usize / 64] >> (at % 64) & 1 == 1
    }

    /// How far from a byte on all pages are alike, and whether they are as they were.
    pub fn run(&self, at: u64) -> (bool, u64) {
        let size = u64::from(self.page_size);
        let first = (at / size) as u32 + 1;
        let changed = self.is_changed(first);
        let alike = (first..=self.pages).find(|page| self.is_changed(*page) != changed);
        (!changed, u64::from(alike.unwrap_or(self.pages + 1) - 1) * size)
    }
}

/// Runs that are read and not compared yet: so many may wait while another is late.
const WAITING_RUNS: usize = 4;

/// Runs of pages, shared by two threads: each reads and digests whichever comes next, and one of them at a time compares, in
/// the order of the runs, what is there.
struct Turns<'a> {
    /// The next run that nobody has taken.
    taken: AtomicU64,
    now: Mutex<Turn<'a>>,
    moved: Condvar,
}

struct Turn<'a> {
    /// The run whose turn it is.
    run: u64,
    /// Runs behind it.
    waiting: BTreeMap<u64, Run>,
    /// Runs that are done with; their memory is used again.
    spare: Vec<Run>,
    /// Somebody has ended early: nobody waits for him.
    broken: bool,
    /// Not here while somebody compares.
    comparison: Option<Comparison<'a>>,
}

/// Pages that were read together.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    digests: Vec<u128>,
}

/// What is compared in the order of the pages.
struct Comparison<'a> {
    earlier: Digests<'a>,
    new: &'a mut NewMap,
    whole: QuickDigest,
    changed: Vec<u64>,
    sum: u128,
    /// Pages so far.
    pages: usize,
}

impl Comparison<'_> {
    fn add(&mut self, bytes: &[u8], digests: &[u128]) -> io::Result<()> {
        self.whole.update(bytes);
        for digest in digests {
            if self.earlier.next()? != Some(*digest) {
                self.changed[self.pages / 64] |= 1 << (self.pages % 64);
                self.sum = self.sum.wrapping_add(*digest);
            }
            self.new.push(*digest);
            self.pages += 1;
        }
        Ok(())
    }
}

impl<'a> Turns<'a> {
    fn lock(&self) -> MutexGuard<'_, Turn<'a>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'b>(&self, turn: MutexGuard<'b, Turn<'a>>) -> MutexGuard<'b, Turn<'a>> {
        self.moved.wait(turn).unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a run, compares what can be, and gives memory for another; nothing when the other thread has ended early.
    fn add(&self, number: u64, run: Run) -> io::Result<Option<Run>> {
        let mut turn = self.lock();
        while turn.run != number && turn.waiting.len() >= WAITING_RUNS && !turn.broken {
            turn = self.wait(turn);
        }
        turn.waiting.insert(number, run);
        // Who compares finds this one too; nobody needs to wait for it.
        if let Some(mut comparison) = turn.comparison.take() {
            let mut compared = Ok(());
            while compared.is_ok()
                && let next = turn.run
                && let Some(run) = turn.waiting.remove(&next)
            {
                drop(turn);
                compared = comparison.add(&run.bytes, &run.digests);
                turn = self.lock();
                turn.run += 1;
                turn.spare.push(run);
                self.moved.notify_all();
            }
            turn.comparison = Some(comparison);
            compared?;
        }
        match turn.broken {
            true => Ok(None),
            false => Ok(Some(turn.spare.pop().unwrap_or_default())),
        }
    }
}

/// Held while a thread works. However it ends before all runs are taken, the other does not wait for it.
struct Working<'a, 'b> {
    turns: &'a Turns<'b>,
    done: bool,
}

impl Drop for Working<'_, '_> {
    fn drop(&mut self) {
        if !self.done {
            self.turns.lock().broken = true;
            self.turns.moved.notify_all();
        }
    }
}

impl Pages {
    /// Reads all pages and compares them with what an earlier backup saw; nothing when that had pages of another size.
    /// Notes what it sees for the next one. Progress is told in bytes.
    ///
    /// # Errors
    /// [`SqliteError`] when they cannot be read, or it was broken off.
    pub fn scan(
        &self,
        earlier: &PageMap,
        new: &mut NewMap,
        stop: &Stop,
        progress: &dyn Fn(u64),
    ) -> Result<Option<Scanned>, SqliteError> {
        if earlier.page_size() != self.page_size {
            return Ok(None);
        }
        let failed = |error| SqliteError::from_io(&self.path, "read", error);
        let seed = earlier.seed();
        let comparison = Comparison {
            earlier: earlier.digests().map_err(failed)?,
            new,
            whole: QuickDigest::default(),
            changed: vec![0; self.count as usize / 64 + 1],
            sum: 0,
            pages: 0,
        };
        let turns = Turns {
            taken: AtomicU64::new(0),
            now: Mutex::new(Turn {
                run: 0,
                waiting: BTreeMap::new(),
                spare: Vec::new(),
                broken: false,
                comparison: Some(comparison),
            }),
            moved: Condvar::new(),
        };
        let (own, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| self.scan_runs(seed, &turns, stop, &|_| ()));
            (self.scan_runs(seed, &turns, stop, progress), other.join())
        });
        own?;
        other.map_err(|_| failed(io::Error::other("comparing them broke off")))??;
        let compared = turns.now.into_inner().unwrap_or_else(PoisonError::into_inner).comparison;
        let Some(Comparison { whole, changed, sum, .. }) = compared else {
            return Err(failed(io::Error::other("comparing them broke off")));
        };
        let digest = whole.finish();
        Ok(Some(Scanned { changed, page_size: self.page_size, pages: self.count, seed, sum, digest }))
    }

    /// Reads and digests runs until there are no more.
    fn scan_runs(&self, seed: u64, turns: &Turns<'_>, stop: &Stop, progress: &dyn Fn(u64)) -> Result<(), SqliteError> {
        let failed = |error| SqliteError::from_io(&self.path, "read", error);
        let size = self.page_size as usize;
        let together = (RUN_BYTES / size).max(1);
        let mut working = Working { turns, done: false };
        let mut run = Run::default();
        loop {
            let number = turns.taken.fetch_add(1, Ordering::Relaxed);
            let before = number * together as u64;
            let pages = u64::from(self.count).saturating_sub(before).min(together as u64);
            if pages == 0 {
                working.done = true;
                return Ok(());
            }
            stop.check()?;
            run.bytes.resize(pages as usize * size, 0);
            self.read(before as u32 + 1, &mut run.bytes).map_err(failed)?;
            run.digests.clear();
            run.digests.extend(run.bytes.chunks_exact(size).map(|page| digest_of(page, seed)));
            let Some(next) = turns.add(number, run).map_err(failed)? else {
                working.done = true; // the other says why
                return Ok(());
            };
            run = next;
            progress((before + pages) * size as u64);
        }
    }
}

/// Reads a database where a scan found changes, and looks whether each changed page is read once, and still is what it was.
pub struct ChangedReader<'a> {
    pages: &'a Pages,
    scanned: &'a Scanned,
    sum: u128,
    whole: Vec<u8>,
}

impl<'a> ChangedReader<'a> {
    /// Of the pages that were scanned.
    pub fn new(pages: &'a Pages, scanned: &'a Scanned) -> ChangedReader<'a> {
        ChangedReader { pages, scanned, sum: 0, whole: Vec::new() }
    }

    /// Fills `into` with bytes from `at` on. Changed pages are to be read whole.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let size = u64::from(self.pages.page_size);
        let (first, behind) = (at / size, (at + into.len() as u64).div_ceil(size));
        self.whole.resize(((behind - first) * size) as usize, 0);
        self.pages.read(first as u32 + 1, &mut self.whole)?;
        for (page, number) in self.whole.chunks_exact(size as usize).zip(first as u32 + 1..) {
            if self.scanned.is_changed(number) {
                self.sum = self.sum.wrapping_add(digest_of(page, self.scanned.seed));
            }
        }
        let skip = (at - first * size) as usize;
        into.copy_from_slice(&self.whole[skip..skip + into.len()]);
        Ok(())
    }

    /// Whether all changed pages were read, as the scan saw them.
    pub fn all_as_scanned(&self) -> bool {
        self.sum == self.scanned.sum
    }
}
