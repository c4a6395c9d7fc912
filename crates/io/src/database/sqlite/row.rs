//! A row as bytes, for its digest. This form never changes within one manifest schema.
//!
//! A row is written down as its stored columns in the table's order, each one by its storage class:
//!
//! ```text
//!   NULL      00
//!   integer   01  8 bytes, little endian
//!   real      02  8 bytes, little endian; bit by bit, so that -0.0 differs from 0.0 where SQLite keeps them apart
//!   text      03  length in 8 bytes, UTF-8 bytes (also in a UTF-16 database)
//!   blob      04  length in 8 bytes, bytes
//! ```
//!
//! of text and blobs longer than [`INLINE_MAX`] the XXH3-128 of the bytes stands for the bytes. Plain rowids and virtual
//! generated columns are not content and left out.

use rusqlite::types::ValueRef;
use twox_hash::XxHash3_128;

/// Longer values are hashed where they are instead of being copied into the row.
const INLINE_MAX: usize = 64 << 10;

/// A row that is being written down; used again for the next one.
#[derive(Default)]
pub(super) struct RowBytes {
    row: Vec<u8>,
    /// Bytes of long values, which are not in `row`.
    elsewhere: u64,
}

impl RowBytes {
    pub fn clear(&mut self) {
        self.row.clear();
        self.elsewhere = 0;
    }

    #[inline]
    pub fn push(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.row.push(0),
            ValueRef::Integer(number) => self.fixed(1, number.to_le_bytes()),
            ValueRef::Real(number) => self.fixed(2, number.to_bits().to_le_bytes()),
            ValueRef::Text(bytes) => self.long(3, bytes),
            ValueRef::Blob(bytes) => self.long(4, bytes),
        }
    }

    /// XXH3-128 of what was written down.
    #[inline]
    pub fn hash(&self) -> u128 {
        XxHash3_128::oneshot(&self.row)
    }

    /// Bytes written down, those of long values included.
    pub fn bytes(&self) -> u64 {
        self.row.len() as u64 + self.elsewhere
    }

    #[inline]
    fn fixed(&mut self, tag: u8, bytes: [u8; 8]) {
        let [a, b, c, d, e, f, g, h] = bytes;
        self.row.extend_from_slice(&[tag, a, b, c, d, e, f, g, h]);
    }

    #[inline]
    fn long(&mut self, tag: u8, bytes: &[u8]) {
        self.fixed(tag, (bytes.len() as u64).to_le_bytes());
        if bytes.len() <= INLINE_MAX {
            self.row.extend_from_slice(bytes);
        } else {
            self.row.extend_from_slice(&XxHash3_128::oneshot(bytes).to_le_bytes());
            self.elsewhere += bytes.len() as u64;
        }
    }
}
