//! The first hundred bytes of a database file, and what a file is that does not have them.
//!
//! Layout: <https://www.sqlite.org/fileformat2.html#the_database_header>

use std::{fs::File, io::Read, path::Path};

use super::SqliteError;

/// What the header of a database file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes a page: a power of two between 512 and 65 536.
    pub page_size: u32,
    /// Pages, as the header says. While the database is in use in WAL mode this is behind.
    pub pages: u32,
    /// Whether `pages` was written by a program that keeps it (SQLite 3.7.0 and later).
    pub pages_known: bool,
    /// Whether it is in WAL mode. Else some kind of rollback journal is used.
    pub wal: bool,
    /// Bytes of the whole file at that moment.
    pub bytes: u64,
}

impl Header {
    /// Reads it. The file is opened and closed once: for a file other threads of this process have open through SQLite,
    /// that drops their locks, therefore capture and swap take turns (see [`crate::holders::OwnUse`]).
    ///
    /// # Errors
    /// Missing, Denied, Empty, NotADatabase, Encrypted, Damaged (shorter than its header).
    pub fn read(path: &Path) -> Result<Header, SqliteError> {
        let failed = |error| SqliteError::from_io(path, "read", error);
        let facts = std::fs::metadata(path).map_err(failed)?;
        if !facts.is_file() {
            let found = if facts.is_dir() { "it is a folder" } else { "it is not a regular file" };
            return Err(SqliteError::NotADatabase { path: path.to_owned(), found: found.to_owned() });
        }
        let mut start = Vec::new();
        File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start)).map_err(failed)?;
        Header::parse(path, &start, facts.len())
    }

    fn parse(path: &Path, start: &[u8], bytes: u64) -> Result<Header, SqliteError> {
        let path = || path.to_owned();
        if start.is_empty() {
            return Err(SqliteError::Empty { path: path() });
        }
        if !start.starts_with(b"SQLite format 3\0") {
            return Err(match bits_per_byte(start) {
                // 4096 random bytes have about 7.95; text, images' headers and zeros are far below.
                bits if start.len() >= 512 && bits > 7.0 => SqliteError::Encrypted { path: path() },
                _ => SqliteError::NotADatabase { path: path(), found: format!("it begins with {}", begin(start)) },
            });
        }
        let Some(header) = start.get(..100) else {
            let found = format!("it ends inside its header, after {} bytes", start.len());
            return Err(SqliteError::Damaged { path: path(), found });
        };
        let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let page_size = match u32::from(header[16]) << 8 | u32::from(header[17]) {
            1 => 65_536,
            size if size >= 512 && size.is_power_of_two() => size,
            size => {
                return Err(SqliteError::Damaged {
                    path: path(),
                    found: format!("its header says {size} bytes a page"),
                });
            }
        };
        let pages_known = number(24) == number(92) && number(28) > 0;
        Ok(Header { page_size, pages: number(28), pages_known, wal: header[18] == 2 || header[19] == 2, bytes })
    }

    /// `wal` or `delete`: the word `PRAGMA journal_mode` has for it. Which kind of rollback journal is not in the file.
    pub fn journal_mode(&self) -> &'static str {
        if self.wal { "wal" } else { "delete" }
    }
}

/// How the file begins, for a person: printable letters as they are.
fn begin(start: &[u8]) -> String {
    let shown: Vec<u8> = start.iter().copied().take(16).collect();
    format!("{:?}", shown.escape_ascii().to_string())
}

/// Shannon entropy of the bytes, in bits.
fn bits_per_byte(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    let all = bytes.len() as f64;
    counts.iter().filter(|&&count| count > 0).map(|&count| f64::from(count) / all).map(|part| -part * part.log2()).sum()
}
