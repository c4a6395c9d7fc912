//! Rows as they pass in COPY's text format: counted, and digested so that their order does not matter.

use lifeboat_model::TableFacts;
use memchr::memchr_iter;
use twox_hash::XxHash3_128;

/// Counts and digests rows. The digest is the sum of a 128-bit hash of each row: unlike an exclusive-or, it sees two
/// equal rows, and the parts of a table can be added.
#[derive(Clone, Debug, Default)]
pub struct RowDigest {
    rows: u64,
    sum: u128,
    /// The beginning of a row whose end has not come yet.
    open: Vec<u8>,
}

impl RowDigest {
    /// Takes the next bytes. Usually that is one row; a proxy in between may cut differently. A newline within a value
    /// is written as `\n`, so each one that is there ends a row.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut begin = 0;
        for end in memchr_iter(b'\n', bytes) {
            let row = &bytes[begin..end];
            if self.open.is_empty() {
                self.add(XxHash3_128::oneshot(row));
            } else {
                self.open.extend_from_slice(row);
                self.add(XxHash3_128::oneshot(&self.open));
                self.open.clear();
            }
            begin = end + 1;
        }
        self.open.extend_from_slice(&bytes[begin..]);
    }

    fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Adds the rows of another part of the same table.
    pub fn join(&mut self, other: &RowDigest) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// The digest of this and of another part of the same table, whose digest is given as in the manifest.
    pub fn added_to(&self, other: &str) -> String {
        let other = u128::from_str_radix(other, 16).unwrap_or_default();
        format!("{:032x}", self.sum.wrapping_add(other))
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the last row had its end: else the stream was cut.
    pub fn is_whole(&self) -> bool {
        self.open.is_empty()
    }

    /// Rows and digest in the manifest's words.
    pub fn facts(&self) -> TableFacts {
        TableFacts { rows: self.rows, digest: format!("{:032x}", self.sum), ..TableFacts::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(pieces: &[&str]) -> TableFacts {
        let mut digest = RowDigest::default();
        pieces.iter().for_each(|piece| digest.take(piece.as_bytes()));
        assert!(digest.is_whole());
        digest.facts()
    }

    #[test]
    fn order_and_cuts_do_not_matter_but_repetition_does() {
        let whole = digest(&["1\ta\n", "2\tb\n", "3\tc\n"]);
        assert_eq!(whole.rows, 3);
        assert_eq!(digest(&["3\tc\n1\ta\n2", "\tb", "\n"]), whole);
        assert_ne!(digest(&["1\ta\n", "1\ta\n", "2\tb\n", "2\tb\n"]).digest, digest(&["3\tc\n", "3\tc\n"]).digest);
        assert_eq!(digest(&["\n", "\n"]).rows, 2);
    }
}
