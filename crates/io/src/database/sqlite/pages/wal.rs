//! Which pages of a snapshot lie in the WAL, and where.
//!
//! Formats: <https://www.sqlite.org/walformat.html>. The wal-index is in the machine's own byte order; the WAL is not.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

const HEADER_BYTES: usize = 48;
const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The header of a wal-index (`-shm`): what the newest transaction left. Two that are equal, byte for byte, are of the same
/// instant: each transaction counts on, and each new beginning of the WAL draws other salts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexHeader([u8; HEADER_BYTES]);

impl IndexHeader {
    /// Reads it; nothing while somebody is writing it, or when there is none of a version we know.
    pub fn read(shm: &File) -> io::Result<Option<IndexHeader>> {
        let mut both = [0; HEADER_BYTES * 2];
        match shm.read_exact_at(&mut both, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let (first, second) = both.split_at(HEADER_BYTES);
        let header = IndexHeader(first.try_into().unwrap_or([0; HEADER_BYTES]));
        let good = first == second && header.number(0) == 3_007_000 && header.0[12] == 1;
        Ok(good.then_some(header))
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// Frames of the WAL that are valid.
    pub fn frames(&self) -> u32 {
        self.number(16)
    }

    /// Pages of the database.
    pub fn pages(&self) -> u32 {
        self.number(20)
    }

    fn checksum(&self) -> (u32, u32) {
        (self.number(24), self.number(28))
    }

    fn salts(&self) -> &[u8] {
        &self.0[32..40]
    }
}

/// Frames that a checkpoint has copied into the database.
pub(super) fn backfilled(shm: &File) -> io::Result<u32> {
    let mut number = [0; 4];
    shm.read_exact_at(&mut number, HEADER_BYTES as u64 * 2)?;
    Ok(u32::from_ne_bytes(number))
}

/// The pages that are newer in the WAL than in the database.
pub(super) struct Overlay {
    wal: File,
    /// Where in the WAL each of them begins.
    places: HashMap<u32, u64>,
}

impl Overlay {
    /// Reads the frames of a snapshot and checks their salts and checksums; nothing when they are not what the index says.
    pub fn read(mut wal: File, index: &IndexHeader, page_size: u32) -> io::Result<Option<Overlay>> {
        let mut header = [0; WAL_HEADER_BYTES as usize];
        wal.seek(SeekFrom::Start(0))?;
        let mut reader = io::BufReader::with_capacity(1 << 20, &wal);
        match reader.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let big_endian = match big(&header, 0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return Ok(None),
        };
        let mut sum = Checksum { big_endian, sums: (0, 0) };
        sum.add(&header[..24]);
        let whole = sum.sums == (big(&header, 24), big(&header, 28));
        if !whole || big(&header, 8) != page_size || &header[16..24] != index.salts() {
            return Ok(None);
        }
        let frame_bytes = FRAME_HEADER_BYTES as u64 + u64::from(page_size);
        let mut frame = vec![0; FRAME_HEADER_BYTES + page_size as usize];
        let (mut places, mut pages) = (HashMap::new(), 0);
        for number in 0..u64::from(index.frames()) {
            match reader.read_exact(&mut frame) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                other => other?,
            }
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER_BYTES..]);
            let whole = sum.sums == (big(&frame, 16), big(&frame, 20));
            if !whole || &frame[8..16] != index.salts() {
                return Ok(None);
            }
            places.insert(big(&frame, 0), WAL_HEADER_BYTES + number * frame_bytes + FRAME_HEADER_BYTES as u64);
            pages = big(&frame, 4);
        }
        // The last frame is that of a commit, and says how many pages there are.
        if sum.sums != index.checksum() || pages != index.pages() {
            return Ok(None);
        }
        Ok(Some(Overlay { wal, places }))
    }

    /// Puts a page into `into` if it is here.
    pub fn page(&self, number: u32, into: &mut [u8]) -> io::Result<bool> {
        match self.places.get(&number) {
            Some(at) => self.wal.read_exact_at(into, *at).map(|()| true),
            None => Ok(false),
        }
    }
}

fn big(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The WAL's running checksum, over numbers in the byte order that its header names.
struct Checksum {
    big_endian: bool,
    sums: (u32, u32),
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let (mut one, mut two) = self.sums;
        for pair in bytes.chunks_exact(8) {
            let numbers = [[pair[0], pair[1], pair[2], pair[3]], [pair[4], pair[5], pair[6], pair[7]]];
            let [left, right] = numbers.map(|four| match self.big_endian {
                true => u32::from_be_bytes(four),
                false => u32::from_le_bytes(four),
            });
            one = one.wrapping_add(left).wrapping_add(two);
            two = two.wrapping_add(right).wrapping_add(one);
        }
        self.sums = (one, two);
    }
}
