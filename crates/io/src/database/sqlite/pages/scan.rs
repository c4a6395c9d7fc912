//! Which pages changed since an earlier backup: all are read and digested, on two threads.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use super::{
    Pages, SqliteError,
    map::{NewMap, PageMap, digest_of},
};
use crate::{digest::QuickDigest, stop::Stop};

/// Pages travel together, so many bytes at a time: few enough to stay in a cache.
const RUN_BYTES: usize = 256 << 10;
/// So many runs are on their way.
const RUNS: usize = 4;

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

/// What one thread read for the other.
struct Run {
    bytes: Vec<u8>,
    length: usize,
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
        let (full, runs) = sync_channel::<Run>(RUNS);
        let (spare, spares) = sync_channel::<Run>(RUNS + 2);
        std::thread::scope(|scope| {
            let compared = scope.spawn(move || self.compare(earlier, new, &runs, &spare));
            let read = self.read_runs(&full, &spares, stop, progress);
            drop(full);
            let compared = compared.join();
            read?;
            let broke_down = || failed(io::Error::other("comparing them broke off"));
            compared.map_err(|_| broke_down())?.map(Some).map_err(failed)
        })
    }

    fn read_runs(
        &self,
        full: &SyncSender<Run>,
        spares: &Receiver<Run>,
        stop: &Stop,
        progress: &dyn Fn(u64),
    ) -> Result<(), SqliteError> {
        let size = self.page_size as usize;
        let together = (RUN_BYTES / size).max(1);
        let (mut next, mut made) = (1, 0);
        while next <= self.count {
            stop.check()?;
            let pages = together.min((self.count + 1 - next) as usize);
            let spare = if made < RUNS { None } else { spares.recv().ok() };
            made += usize::from(spare.is_none());
            let mut run = spare.unwrap_or_else(|| Run { bytes: vec![0; together * size], length: 0 });
            run.length = pages * size;
            self.read(next, &mut run.bytes[..run.length])
                .map_err(|error| SqliteError::from_io(&self.path, "read", error))?;
            next += pages as u32;
            if full.send(run).is_err() {
                return Ok(()); // the other thread ended first, and says why
            }
            progress(u64::from(next - 1) * size as u64);
        }
        Ok(())
    }

    fn compare(
        &self,
        earlier: &PageMap,
        new: &mut NewMap,
        runs: &Receiver<Run>,
        spare: &SyncSender<Run>,
    ) -> io::Result<Scanned> {
        let mut digests = earlier.digests()?;
        let mut whole = QuickDigest::default();
        let (mut changed, mut sum, mut number) = (vec![0_u64; self.count as usize / 64 + 1], 0_u128, 0_usize);
        for run in runs {
            let bytes = &run.bytes[..run.length];
            whole.update(bytes);
            for page in bytes.chunks_exact(self.page_size as usize) {
                let digest = digest_of(page, earlier.seed());
                if digests.next()? != Some(digest) {
                    changed[number / 64] |= 1 << (number % 64);
                    sum = sum.wrapping_add(digest);
                }
                new.push(digest);
                number += 1;
            }
            let _ = spare.send(run); // the other thread may have read its last
        }
        let digest = whole.finish();
        Ok(Scanned { changed, page_size: self.page_size, pages: self.count, seed: earlier.seed(), sum, digest })
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
