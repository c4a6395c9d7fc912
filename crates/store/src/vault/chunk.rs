//! Where streams are cut into blobs: FastCDC, with a gear table of the vault's own.
//!
//! A table that everybody knows would let who sees the lengths of sealed blobs tell whether a known file is among them.
//! restic keys its chunker by a secret polynomial for the same reason; our table is derived from that secret.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use sha2::{Digest, Sha256};

const KIB: usize = 1 << 10;

/// No blob is longer. restic itself makes blobs of up to 8 MiB.
const BYTES_MAX: usize = 8192 * KIB - 64 * KIB;

/// Below `until` bytes of a stream, blobs have `average` bytes. Small ones find more that is already there; large ones
/// keep the index of a large vault small. The boundaries are part of how a stream is cut: moving one costs one
/// full backup of what lies behind it.
const STAGES: [Stage; 3] = [
    Stage { until: 16 << 30, average: 64 * KIB },
    Stage { until: 1 << 40, average: 256 * KIB },
    Stage { until: u64::MAX, average: 1024 * KIB },
];

struct Stage {
    until: u64,
    average: usize,
}

/// Average lengths that a caller may choose.
pub(crate) const AVERAGE_BYTES_MIN: usize = 16 * KIB;
/// The longest of them.
pub(crate) const AVERAGE_BYTES_MAX: usize = 1024 * KIB;

/// Cuts streams. One per backup, shared by all of them.
#[derive(Debug)]
pub(crate) struct Chunker {
    gear: Box<[u64; 256]>,
    /// The same, shifted by one bit: the algorithm takes two bytes at a time.
    gear_shifted: Box<[u64; 256]>,
    /// A fixed average length, or the stages.
    average: Option<usize>,
}

/// A cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The blob has so many bytes.
    At(usize),
    /// More bytes are needed to know.
    Undecided,
}

impl Chunker {
    /// A vault's chunker. The secret is its config's polynomial; an average length is rounded to a power of two.
    pub fn new(secret: &str, average: Option<usize>) -> Chunker {
        let mut gear = Box::new([0; 256]);
        for (byte, value) in gear.iter_mut().enumerate() {
            let mut digest = Sha256::new_with_prefix(b"lifeboat gear table");
            digest.update(secret.as_bytes());
            digest.update([0, byte as u8]);
            *value = super::Id(digest.finalize().into()).bits();
        }
        let mut gear_shifted = gear.clone();
        gear_shifted.iter_mut().for_each(|value| *value <<= 1);
        let average = average.map(|bytes| bytes.clamp(AVERAGE_BYTES_MIN, AVERAGE_BYTES_MAX).next_power_of_two());
        Chunker { gear, gear_shifted, average }
    }

    /// The average length of blobs that begin at this offset of a stream; a power of two that divides the offset where all
    /// before it have their average length.
    pub fn average(&self, offset: u64) -> usize {
        self.average.unwrap_or_else(|| {
            STAGES.iter().find(|stage| offset < stage.until).map_or(AVERAGE_BYTES_MAX, |stage| stage.average)
        })
    }

    /// The longest blob that may begin at this offset of a stream.
    pub fn bytes_max(&self, offset: u64) -> usize {
        (self.average(offset) * 8).min(BYTES_MAX)
    }

    /// Where the blob ends that begins at `offset` of its stream with `bytes`.
    pub fn cut(&self, offset: u64, bytes: &[u8]) -> Cut {
        let average = self.average(offset);
        let bytes_max = self.bytes_max(offset);
        let (strict, loose) = select_masks(average, Normalization::Level1);
        let (_, length) = cut_gear(
            bytes,
            average / 4,
            average,
            bytes_max,
            strict,
            loose,
            strict << 1,
            loose << 1,
            &*self.gear,
            &*self.gear_shifted,
        );
        // Its answer "at the end of what I was given" means that it found no cut.
        if length < bytes.len() || length >= bytes_max { Cut::At(length) } else { Cut::Undecided }
    }

    /// Whether the blob that begins at `offset` of its stream with `bytes` may end at `length`: what stands before that
    /// place says "cut here". Whether something before says so already is not looked at.
    pub fn ends_at(&self, offset: u64, bytes: &[u8], length: usize) -> bool {
        let average = self.average(offset);
        // The hash knows 64 bytes, the byte behind the cut among them, and begins at the shortest length.
        let seen = length.checked_sub(HASHED - 1).filter(|begin| *begin >= average / 4);
        let (Some(begin), true) = (seen, length < self.bytes_max(offset)) else { return false };
        let Some(window) = bytes.get(begin..=length) else { return false };
        let hash = window.iter().fold(0_u64, |hash, byte| (hash << 1).wrapping_add(self.gear[usize::from(*byte)]));
        let (strict, loose) = select_masks(average, Normalization::Level1);
        hash & if length < average { strict } else { loose } == 0
    }
}

/// Bytes that a gear hash of 64 bits remembers.
const HASHED: usize = 64;

/// Where an earlier stream of the same name was cut. A stream that is the same for the most part is cut at the same
/// places; to look whether one of them is a cut takes 64 bytes in place of all.
#[derive(Debug, Default)]
pub(crate) struct Guide {
    lengths: Vec<u32>,
    next: usize,
}

/// So many blobs ahead a guide is taken up again after what was inserted or removed.
const NEAR: usize = 64;

impl Guide {
    /// Lengths of the earlier stream's blobs, in order.
    pub fn new(lengths: Vec<u32>) -> Guide {
        Guide { lengths, next: 0 }
    }

    /// How long the next blob is if it is as before.
    pub fn proposed(&self) -> Option<usize> {
        self.lengths.get(self.next).map(|length| *length as usize)
    }

    /// It was.
    pub fn taken(&mut self) {
        self.next += 1;
    }

    /// The stream goes on where the earlier one had so many blobs.
    pub fn move_to(&mut self, next: usize) {
        self.next = next;
    }

    /// It was not, and has this length. If one nearby had, that is where the streams may have met again.
    pub fn missed(&mut self, length: usize) {
        let ahead = self.lengths.iter().skip(self.next).take(NEAR);
        if let Some(met) = ahead.map(|known| *known as usize).position(|known| known == length) {
            self.next += met + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that look random and are the same every time.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let step = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        std::iter::repeat_with(step).take(length).collect()
    }

    fn lengths(chunker: &Chunker, mut bytes: &[u8]) -> Vec<usize> {
        let (mut found, mut offset) = (Vec::new(), 0);
        while let Cut::At(length) = chunker.cut(offset, bytes) {
            found.push(length);
            offset += length as u64;
            bytes = &bytes[length..];
        }
        found
    }

    #[test]
    fn lengths_keep_their_limits_and_their_average() {
        for average in [16 * KIB, 64 * KIB, 1024 * KIB] {
            let chunker = Chunker::new("25b468838dcb75", Some(average));
            let bytes = noise(1, average * 64);
            let found = lengths(&chunker, &bytes);
            assert!(found.iter().all(|&length| (average / 4..=chunker.bytes_max(0)).contains(&length)));
            let mean = found.iter().sum::<usize>() / found.len();
            assert!((average / 2..average * 2).contains(&mean), "{average}: {mean}");
            let same = lengths(&chunker, &vec![7; average * 17]);
            assert!(same.iter().all(|&length| length == chunker.bytes_max(0)), "bytes all alike are cut at the most");
        }
    }

    #[test]
    fn a_cut_does_not_depend_on_how_much_comes_after_it() {
        let chunker = Chunker::new("25b468838dcb75", None);
        let bytes = noise(2, 1 << 20);
        let Cut::At(first) = chunker.cut(0, &bytes) else { panic!("a MiB has a cut") };
        for more in [2, 3, 1000, 1001] {
            assert_eq!(chunker.cut(0, &bytes[..first + more]), Cut::At(first), "{more}");
        }
        for less in [0, 1, 2, 999, 1000] {
            assert_eq!(chunker.cut(0, &bytes[..first - less]), Cut::Undecided, "{less} less");
        }
    }

    #[test]
    fn a_cut_is_known_by_what_stands_before_it() {
        let chunker = Chunker::new("25b468838dcb75", Some(16 * KIB));
        let bytes = noise(5, 4 << 20);
        let (mut start, mut known, mut others) = (0, 0, 0);
        for length in lengths(&chunker, &bytes) {
            let blob = &bytes[start..];
            if length < chunker.bytes_max(0) && length >= 4 * KIB + HASHED {
                assert!(chunker.ends_at(0, blob, length), "{length}");
                known += 1;
            }
            others += (1..500).filter(|less| chunker.ends_at(0, blob, length - less)).count();
            start += length;
        }
        assert!(known > 100 && others == 0, "{known} cuts, {others} false ones");
    }

    #[test]
    fn vaults_cut_differently() {
        let bytes = noise(3, 4 << 20);
        let [one, two] =
            ["25b468838dcb75", "25b468838dcb77"].map(|secret| lengths(&Chunker::new(secret, None), &bytes));
        assert_ne!(one, two);
    }

    #[test]
    fn an_inserted_byte_changes_few_cuts_even_across_stages() {
        let chunker = Chunker::new("25b468838dcb75", None);
        let bytes = noise(4, 8 << 20);
        let before = lengths(&chunker, &bytes);
        let mut changed = bytes.clone();
        changed.insert(1 << 20, b'!');
        let after = lengths(&chunker, &changed);
        let same_at_end = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(same_at_end > before.len() / 2, "{same_at_end} of {}", before.len());
        assert_eq!(chunker.bytes_max((16 << 30) - 1), 512 * KIB);
        assert_eq!(chunker.bytes_max(16 << 30), 2048 * KIB);
        assert_eq!(chunker.bytes_max(2 << 40), BYTES_MAX);
    }
}
