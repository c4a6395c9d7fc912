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

    fn average(&self, offset: u64) -> usize {
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
