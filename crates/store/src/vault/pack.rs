//! Packs: blobs sealed one after the other, then a sealed list of them, then the list's length.

use std::io::{self, Cursor};

use lifeboat_io::Io;

use super::{
    Id, VaultError,
    seal::{NONCE, OVERHEAD, Sealer},
};

/// The folder they lie in, below it one folder for each first byte of their names.
pub(crate) const FOLDER: &str = "data";

/// A pack with this many bytes is full. The blobs of one block may go beyond it.
pub(crate) const BYTES_FULL: usize = 16 << 20;
/// A pack with this many blobs is full.
pub(crate) const BLOBS_FULL: usize = 8_000;

/// Plain blobs longer than this are not believed. restic makes none beyond 8 MiB, but trees of huge folders grow.
const PLAIN_BYTES_MAX: u32 = 1 << 30;

/// A blob of a pack's list takes so many bytes: type, length, (plain length,) id.
const ENTRY: usize = 1 + 4 + 32;
const ENTRY_COMPRESSED: usize = ENTRY + 4;

/// What a blob holds. Packs hold one kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlobKind {
    /// A piece of a file.
    Data,
    /// A folder's list of entries.
    Tree,
}

impl BlobKind {
    /// restic's word.
    pub fn word(self) -> &'static str {
        match self {
            BlobKind::Data => "data",
            BlobKind::Tree => "tree",
        }
    }
}

/// A blob in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedBlob {
    pub kind: BlobKind,
    pub id: Id,
    /// Where its sealed bytes begin.
    pub offset: u32,
    /// How many they are.
    pub length: u32,
    /// Bytes after decompression; 0 when it is not compressed.
    pub plain_length: u32,
}

/// The object's key.
pub(crate) fn object_key(id: Id) -> String {
    let name = id.hex();
    format!("{FOLDER}/{}/{name}", &name[..2])
}

/// Size of a pack that ends with a list of these blobs: so many compressed, so many not.
pub(crate) fn list_bytes(compressed: u64, raw: u64) -> u64 {
    compressed * ENTRY_COMPRESSED as u64 + raw * ENTRY as u64 + OVERHEAD as u64 + 4
}

/// Ends a pack: appends the sealed list of its blobs and the list's length.
pub(crate) fn append_list(pack: &mut Vec<u8>, blobs: &[PackedBlob], sealer: &Sealer) {
    let start = pack.len();
    pack.resize(start + NONCE, 0);
    for blob in blobs {
        let compressed = blob.plain_length != 0;
        let kind = match (blob.kind, compressed) {
            (BlobKind::Data, false) => 0,
            (BlobKind::Tree, false) => 1,
            (BlobKind::Data, true) => 2,
            (BlobKind::Tree, true) => 3,
        };
        pack.push(kind);
        pack.extend_from_slice(&blob.length.to_le_bytes());
        if compressed {
            pack.extend_from_slice(&blob.plain_length.to_le_bytes());
        }
        pack.extend_from_slice(&blob.id.0);
    }
    sealer.seal_in_place(pack, start);
    let length = (pack.len() - start) as u32;
    pack.extend_from_slice(&length.to_le_bytes());
}

/// Bytes of the sealed list, from the pack's last four bytes; nothing when they cannot be right.
pub(crate) fn list_length(last_four: [u8; 4], pack_bytes: u64) -> Option<u64> {
    let length = u64::from(u32::from_le_bytes(last_four));
    (length >= (OVERHEAD + ENTRY) as u64 && length + 4 <= pack_bytes).then_some(length)
}

/// Reads the opened list of a pack whose blobs together take `blob_bytes`.
pub(crate) fn parse_list(list: &[u8], blob_bytes: u64) -> Result<Vec<PackedBlob>, String> {
    let mut blobs = Vec::with_capacity(list.len() / ENTRY);
    let mut rest = list;
    let mut offset: u32 = 0;
    while let Some((&kind, tail)) = rest.split_first() {
        let (kind, compressed) = match kind {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            other => return Err(format!("its list has a blob of the unknown type {other}")),
        };
        let cut_off = || "its list is cut off".to_owned();
        let (length, tail) = tail.split_first_chunk().ok_or_else(cut_off)?;
        let (plain_length, tail) = match compressed {
            true => tail.split_first_chunk().map(|(bytes, tail)| (u32::from_le_bytes(*bytes), tail)),
            false => Some((0, tail)),
        }
        .ok_or_else(cut_off)?;
        let (id, tail) = tail.split_first_chunk().ok_or_else(cut_off)?;
        let length = u32::from_le_bytes(*length);
        blobs.push(PackedBlob { kind, id: Id(*id), offset, length, plain_length });
        offset = offset.checked_add(length).ok_or("its list adds up to more than a pack can hold")?;
        rest = tail;
    }
    if u64::from(offset) != blob_bytes {
        return Err(format!("its list adds up to {offset} bytes of blobs, and it has {blob_bytes}"));
    }
    Ok(blobs)
}

/// Opens sealed blobs, with a decompressor that it keeps.
pub(crate) struct Unsealer {
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl Unsealer {
    pub fn new() -> Result<Unsealer, VaultError> {
        let decompressor =
            zstd::bulk::Decompressor::new().map_err(|source| VaultError::Start { what: "the decompressor", source })?;
        Ok(Unsealer { decompressor })
    }

    /// Opens the blob's sealed bytes (they are decrypted where they are), appends the plain ones to `plain`, and checks them
    /// against the blob's id. On an error `plain` is as before.
    pub fn open(
        &mut self,
        sealer: &Sealer,
        sealed: &mut [u8],
        plain_length: u32,
        id: Id,
        plain: &mut Vec<u8>,
    ) -> Result<(), String> {
        let start = plain.len();
        self.open_unchecked(sealer, sealed, plain_length, plain)?;
        if Id::of(&plain[start..]) != id {
            plain.truncate(start);
            return Err("its content is not what its name says".to_owned());
        }
        Ok(())
    }

    /// [`Unsealer::open`] without the look at the id.
    pub fn open_unchecked(
        &mut self,
        sealer: &Sealer,
        sealed: &mut [u8],
        plain_length: u32,
        plain: &mut Vec<u8>,
    ) -> Result<(), String> {
        let body = sealer.open(sealed).ok_or("it was changed after it was sealed")?;
        let start = plain.len();
        if plain_length == 0 {
            plain.extend_from_slice(body);
        } else {
            if plain_length > PLAIN_BYTES_MAX {
                return Err(format!("it says that it holds {plain_length} bytes"));
            }
            plain.reserve(plain_length as usize);
            // Behind what is there, without clearing the place first.
            let mut behind = Cursor::new(&mut *plain);
            behind.set_position(start as u64);
            let length = self.decompressor.decompress_to_buffer(body, &mut behind);
            if !matches!(length, Ok(length) if length == plain_length as usize) {
                plain.truncate(start);
                return Err("it does not decompress to what it says it holds".to_owned());
            }
        }
        Ok(())
    }
}

/// A quick digest of a blob, against what goes wrong in memory. It is taken before the blob's id is, so that the id, too, is
/// of the bytes that it vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u128);

impl Mark {
    pub fn of(plain: &[u8]) -> Mark {
        Mark(twox_hash::XxHash3_128::oneshot(plain))
    }
}

/// Opens every blob of a finished pack again, from a copy, before it is stored: what went wrong in memory since it was
/// read must not become a backup. Marks are compared and not ids, which would take five times as long and say the same:
/// a mark is older than its id.
pub(crate) fn verify(
    pack: &[u8],
    blobs: &[PackedBlob],
    marks: &[Mark],
    sealer: &Sealer,
    unsealer: &mut Unsealer,
    scratch: &mut Scratch,
) -> Result<(), VaultError> {
    let bad = |what: String| VaultError::damaged("a pack that was about to be stored", what);
    let end = blobs.last().map_or(0, |blob| blob.offset as usize + blob.length as usize);
    if marks.len() != blobs.len() {
        return Err(bad("it does not know what it holds".to_owned()));
    }
    for (blob, mark) in blobs.iter().zip(marks) {
        let range = blob.offset as usize..blob.offset as usize + blob.length as usize;
        let sealed = pack.get(range).ok_or_else(|| bad(format!("blob {} lies outside of it", blob.id)))?;
        scratch.sealed.clear();
        scratch.sealed.extend_from_slice(sealed);
        scratch.plain.clear();
        unsealer
            .open_unchecked(sealer, &mut scratch.sealed, blob.plain_length, &mut scratch.plain)
            .map_err(|what| bad(format!("blob {}: {what}", blob.id)))?;
        if Mark::of(&scratch.plain) != *mark {
            return Err(bad(format!("blob {}: its content is not what was read", blob.id)));
        }
    }
    let mut list = pack.get(end..pack.len().saturating_sub(4)).unwrap_or_default().to_vec();
    let length = pack.last_chunk().map(|last_four| u32::from_le_bytes(*last_four) as usize);
    let right_length = length == Some(list.len());
    let parsed = sealer.open(&mut list).map(|list| parse_list(list, end as u64));
    match parsed {
        Some(Ok(listed)) if right_length && listed == blobs => Ok(()),
        _ => Err(bad("its list of blobs is not the one that was made".to_owned())),
    }
}

/// Buffers that [`verify`] uses again and again.
#[derive(Default)]
pub(crate) struct Scratch {
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

/// Compresses and seals blobs one after the other into a batch, with compressors that it keeps.
pub(crate) struct Packer {
    /// One for what may take its time, and one for who is in a hurry.
    compressors: Option<[zstd::bulk::Compressor<'static>; 2]>,
    /// Sealed blobs.
    pub bytes: Vec<u8>,
    /// What and where they are; offsets count from the batch's start.
    pub blobs: Vec<PackedBlob>,
    /// Their marks.
    pub marks: Vec<Mark>,
}

impl Packer {
    /// With levels for what may take its time and for who is in a hurry; without any, nothing is compressed.
    pub fn new(levels: Option<(i32, i32)>) -> Result<Packer, VaultError> {
        let both = |(level, hurried)| Ok([compressor(level)?, compressor(hurried)?]);
        let compressors = levels.map(both).transpose();
        let compressors = compressors.map_err(|source| VaultError::Start { what: "the compressor", source })?;
        Ok(Packer { compressors, bytes: Vec::new(), blobs: Vec::new(), marks: Vec::new() })
    }

    /// Adds a blob. One that does not become smaller is kept as it is.
    pub fn add(&mut self, (kind, id): (BlobKind, Id), mark: Mark, plain: &[u8], in_hurry: bool, sealer: &Sealer) {
        let start = self.bytes.len();
        let body = start + NONCE;
        self.bytes.resize(body, 0);
        let compressed = self.compressors.as_mut().and_then(|[at_leisure, hurried]| {
            let compressor = if in_hurry { hurried } else { at_leisure };
            // Behind what is there, without clearing the place first. With room for whatever may come out, the compressor need
            // not look after each step whether there is some.
            self.bytes.reserve(zstd::zstd_safe::compress_bound(plain.len()));
            let mut behind = Cursor::new(&mut self.bytes);
            behind.set_position(body as u64);
            compressor.compress_to_buffer(plain, &mut behind).ok().filter(|length| *length < plain.len())
        });
        if compressed.is_none() {
            self.bytes.truncate(body);
            self.bytes.extend_from_slice(plain);
        }
        sealer.seal_in_place(&mut self.bytes, start);
        self.marks.push(mark);
        self.blobs.push(PackedBlob {
            kind,
            id,
            offset: start as u32,
            length: (self.bytes.len() - start) as u32,
            plain_length: if compressed.is_some() { plain.len() as u32 } else { 0 },
        });
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.blobs.clear();
        self.marks.clear();
    }
}

/// The table in which the fastest levels look for what they have seen has so many entries, as a power of two.
///
/// zstd takes 2^13 for a blob of 64 KiB, which is 32 KiB: with what is compressed and what comes out it fills a processor's first
/// cache, and it is cleared for each blob. With 2^11 the pages of a table and the lines of a dump are compressed by a seventh
/// faster and become 0.1 % larger; programs and texts, by a tenth faster and 3.5 % larger.
const TABLE_LOG: u32 = 11;

fn compressor(level: i32) -> io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    if level <= 1 {
        compressor.set_parameter(zstd::zstd_safe::CParameter::HashLog(TABLE_LOG))?;
    }
    Ok(compressor)
}

/// A pack that is being filled.
#[derive(Default)]
pub(crate) struct OpenPack {
    pub bytes: Vec<u8>,
    pub blobs: Vec<PackedBlob>,
    /// The blobs' marks.
    pub marks: Vec<Mark>,
}

impl OpenPack {
    /// Takes over a batch of blobs.
    pub fn append(&mut self, batch: &Packer) {
        let base = self.bytes.len() as u32;
        if self.bytes.capacity() == 0 {
            // A full pack and the block that fills it, so that the buffer need not grow by doubling.
            self.bytes.reserve(BYTES_FULL + (2 << 20));
        }
        self.bytes.extend_from_slice(&batch.bytes);
        self.marks.extend_from_slice(&batch.marks);
        self.blobs.extend(batch.blobs.iter().map(|blob| PackedBlob { offset: base + blob.offset, ..*blob }));
    }

    /// Leaves the first half of its blobs, by their bytes, and gives the others.
    pub fn split(&mut self) -> OpenPack {
        let half = (self.bytes.len() / 2) as u32;
        let first = self.blobs.partition_point(|blob| blob.offset < half);
        let at = self.blobs.get(first).map_or(self.bytes.len(), |blob| blob.offset as usize);
        let (mut blobs, marks, bytes) =
            (self.blobs.split_off(first), self.marks.split_off(first), self.bytes.split_off(at));
        blobs.iter_mut().for_each(|blob| blob.offset -= at as u32);
        OpenPack { bytes, blobs, marks }
    }

    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BYTES_FULL || self.blobs.len() >= BLOBS_FULL
    }
}

/// Threads that share the work of one task.
pub(crate) fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Seconds since the clock was made; partial indexes go by it.
pub(crate) fn elapsed_seconds(io: &Io) -> u64 {
    io.clock.elapsed().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_that_is_split_has_its_blobs_in_two_halves() {
        let io = Io::system();
        let sealer = Sealer::new(super::super::key::random_master(&*io.random), io.random.clone());
        for lengths in [vec![5_000], vec![100, 9_000], vec![700; 40], vec![1, 1, 30_000, 1]] {
            let mut packer = Packer::new(None).unwrap();
            let plain = |at: usize, length: usize| vec![at as u8; length];
            for (at, length) in lengths.iter().enumerate() {
                let bytes = plain(at, *length);
                packer.add((BlobKind::Data, Id::of(&bytes)), Mark::of(&bytes), &bytes, false, &sealer);
            }
            let mut first = OpenPack::default();
            first.append(&packer);
            let whole = first.bytes.len();
            let second = first.split();
            assert!(!first.blobs.is_empty() && first.blobs.len() + second.blobs.len() == lengths.len());
            assert_eq!(first.bytes.len() + second.bytes.len(), whole);
            for half in [first, second].iter_mut().filter(|half| !half.blobs.is_empty()) {
                append_list(&mut half.bytes, &half.blobs, &sealer);
                let (mut unsealer, mut scratch) = (Unsealer::new().unwrap(), Scratch::default());
                verify(&half.bytes, &half.blobs, &half.marks, &sealer, &mut unsealer, &mut scratch).unwrap();
            }
        }
    }
}
