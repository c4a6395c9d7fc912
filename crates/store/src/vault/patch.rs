//! A file that differs from its earlier version in known places: what is the same is not read, cut or hashed again.
//!
//! The earlier version's blobs that lie wholly in what did not change are taken over by their names. Around a change, cutting
//! begins where the earlier blob did, and goes on until a cut falls on an earlier one: from there on all is as before.
//!
//! ```text
//!   earlier   |----a----|---b---|------c------|--d--|----e----|
//!   changed                 ##
//!   now       |----a----|----b'---|-----c'----|--d--|----e----|
//!              taken     read and cut          taken
//! ```

use std::{
    io::{self, Write},
    ops::Range,
};

use super::{Id, write::StreamWriter};

/// Bytes that are read at once.
const PIECE_BYTES: u64 = 256 << 10;
/// So far behind an earlier cut is read, for the chunker to know whether it is one still.
const BEHIND_CUT_BYTES: u64 = 4 << 10;

/// What a patched file is made of.
pub trait Patched {
    /// How far from `at` on it is alike, and whether that is as in the earlier version, at the same place. The end is
    /// behind `at`.
    fn run(&self, at: u64) -> (bool, u64);

    /// Fills `into` with its bytes from `at` on. Places are asked for in order, none twice.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

/// A file's blobs in the earlier snapshot, as far as they are in the vault.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    ids: Vec<Id>,
    /// Where each ends.
    ends: Vec<u64>,
}

impl Earlier {
    pub fn new(blobs: impl Iterator<Item = (Id, u32)>) -> Earlier {
        let mut earlier = Earlier::default();
        let mut end = 0;
        for (id, bytes) in blobs {
            end += u64::from(bytes);
            earlier.ids.push(id);
            earlier.ends.push(end);
        }
        earlier
    }

    /// How long the blobs are.
    pub fn lengths(&self) -> Vec<u32> {
        let begins = [0].iter().chain(&self.ends);
        self.ends.iter().zip(begins).map(|(end, begin)| (end - begin) as u32).collect()
    }

    /// The blobs from a place on that end at another, or before; nothing when none begins there.
    fn within(&self, from: u64, until: u64) -> Option<Range<usize>> {
        let first = match from {
            0 => 0,
            _ => self.ends.binary_search(&from).ok()? + 1,
        };
        let behind = self.ends.partition_point(|end| *end <= until);
        (behind > first).then_some(first..behind)
    }

    /// The first end behind a place.
    fn next_end(&self, at: u64) -> Option<u64> {
        self.ends.get(self.ends.partition_point(|end| *end <= at)).copied()
    }
}

impl StreamWriter {
    /// Writes a file of `bytes` as a patch of its earlier version; call [`StreamWriter::finish`] then. Without an earlier
    /// version in the vault, or where its blobs are gone, it is read and written whole.
    ///
    /// That what is said to be the same is the same, the caller answers for: nobody looks.
    ///
    /// # Errors
    /// When it cannot be read; those of [`Write`].
    pub fn patch(&mut self, bytes: u64, patched: &mut dyn Patched) -> io::Result<()> {
        let mut at = 0;
        // Since where everything is as before.
        let mut same_from = 0;
        let mut piece = Vec::new();
        while at < bytes {
            let (same, end) = patched.run(at);
            let end = end.min(bytes);
            if same && let Some(next) = self.take_over(same_from..end, at, bytes)? {
                at = next;
                continue;
            }
            let mut until = end.min(at + PIECE_BYTES);
            if same && let Some(cut) = self.earlier.next_end(at) {
                until = until.min(cut + BEHIND_CUT_BYTES);
            }
            piece.resize((until - at) as usize, 0);
            patched.read(at, &mut piece)?;
            self.write_all(&piece)?;
            at = until;
            if !same {
                same_from = at;
            }
        }
        Ok(())
    }

    /// Takes over earlier blobs that lie in `same`, of which all is known to be as before, if a cut that was made falls on
    /// an earlier one there. Gives the place behind them, when that is behind `at`, up to where the stream was written.
    fn take_over(&mut self, same: Range<u64>, at: u64, bytes: u64) -> io::Result<Option<u64>> {
        self.cut(false);
        let begin = self.offset();
        let cuts = [begin].into_iter().chain(self.cuts().iter().map(|cut| begin + *cut as u64));
        let earlier = &self.earlier;
        let mut known =
            cuts.filter(|cut| *cut >= same.start).filter_map(|cut| Some((cut, earlier.within(cut, same.end)?)));
        let Some((cut, blobs)) = known.next() else { return Ok(None) };
        // The last one ended where the file did; of a file that has grown it is a beginning.
        let is_whole = blobs.end < earlier.ids.len() || earlier.ends[blobs.end - 1] == bytes;
        let blobs = blobs.start..blobs.end - usize::from(!is_whole);
        let Some(next) = blobs.clone().last().map(|blob| earlier.ends[blob]) else { return Ok(None) };
        if next <= at {
            return Ok(None);
        }
        let ids = earlier.ids[blobs.clone()].to_vec();
        self.rewind(cut).map_err(io::Error::other)?;
        self.append(next - cut, ids, blobs.end);
        Ok(Some(next))
    }
}
