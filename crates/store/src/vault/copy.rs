//! Copying a snapshot into another vault: blobs go over by their content, sealed anew with the other vault's key.
//!
//! The order is that of a backup: packs, then their index, then the snapshot. What a broken-off copy has stored is found
//! again by the next one. Every pack is read back after it was stored: what was damaged on its way is taken away again,
//! and the source is only ever read.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use bytes::BytesMut;
use lifeboat_io::{Io, ObjectStore, Stop};
use secrecy::SecretString;

use super::{
    BlobKind, Core, EntryKind, Id, LockKind, Snapshot, SnapshotId, Vault, VaultError,
    config::Config,
    index::{self, Index, IndexFile, Location},
    pack::{self, Mark, OpenPack, PackedBlob, Packer, Scratch, Unsealer},
    parallel,
    read::BlobReader,
    seal::{NONCE, OVERHEAD},
    snapshot,
};

/// Bytes of a pack that are read at once, where blobs lie side by side.
const READ_BYTES: u64 = 2 << 20;
/// Blobs that lie side by side and are read at once; a bound on what they can grow to when they are small.
const READ_BLOBS: usize = 128;
/// A gap between two wanted blobs that is read over rather than left out.
const GAP_BYTES: u64 = 128 << 10;
/// Reads that are worked on at once: the bound on memory.
const READS_AT_ONCE: usize = 4;
/// An index file is written when so many blobs wait for one,
const INDEX_BLOBS: usize = 40_000;
/// or when the last one was so long ago: what is not in an index is copied again by a retry.
const INDEX_SECONDS: u64 = 60;

/// A snapshot that is in the other vault now.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Its snapshot there; `original` names the one it was copied from.
    pub snapshot: Snapshot,
    /// Whether it was there before.
    pub was_there: bool,
    /// Bytes of the packs that had to be stored.
    pub bytes_added: u64,
    /// Blobs that had to be stored.
    pub blobs_added: u64,
    /// Blobs that were there already.
    pub blobs_known: u64,
}

impl Vault {
    /// Makes an empty vault whose chunks are cut as this one's are, so that what is copied from here and what is backed up
    /// there share their blobs. It has a key and an id of its own.
    ///
    /// # Errors
    /// [`VaultError::AlreadyThere`] when there is one.
    pub fn create_like(
        &self,
        store: Arc<dyn ObjectStore>,
        password: &SecretString,
        io: &Io,
    ) -> Result<Vault, VaultError> {
        let chunker_polynomial = self.core.config.chunker_polynomial.clone();
        Vault::create_with(store, password, io, Config { chunker_polynomial, ..Config::random(&*io.random) })
    }

    /// The snapshot in this vault that was copied from `from`, or from what that one was copied from.
    ///
    /// # Errors
    /// When the snapshots cannot be read.
    pub fn copy_of(&self, from: &Snapshot) -> Result<Option<Snapshot>, VaultError> {
        let origin = from.original.unwrap_or(from.id);
        Ok(self.snapshots()?.into_iter().find(|known| known.original == Some(origin)))
    }

    /// Copies a snapshot into another vault. One that is there already stays as it is. `extra` is kept with the copy under
    /// the key `lifeboat`; `progress` hears how many sealed bytes have been worked on, and of how many.
    ///
    /// # Errors
    /// [`VaultError::Missing`] and [`VaultError::Damaged`] when a blob cannot be read here, or a pack could not be read
    /// back there; [`VaultError::LockLost`]; [`VaultError::Stopped`]. There is no snapshot there then.
    pub fn copy_snapshot(
        &self,
        from: &Snapshot,
        to: &Vault,
        extra: serde_json::Value,
        progress: &dyn Fn(u64, u64),
        stop: &Stop,
    ) -> Result<Copied, VaultError> {
        let here = self.lock(LockKind::Shared, stop)?;
        let there = to.lock(LockKind::Shared, stop)?;
        if let Some(snapshot) = to.copy_of(from)? {
            return Ok(Copied { snapshot, was_there: true, bytes_added: 0, blobs_added: 0, blobs_known: 0 });
        }
        let known = to.core.index_of_what_is_there()?;
        let index = self.core.index()?;
        let (missing, blobs_known) = self.core.missing(&index, from.tree, &known)?;
        let mut copying = Copying::new(&self.core, &index, &to.core, stop)?;
        let copied = copying.all(&missing, progress);
        // What is stored saves the next attempt its bytes; so it is named also when this one has failed.
        let named = copying.write_index();
        copied?;
        named?;
        here.check()?;
        there.check()?;
        let origin = from.original.unwrap_or(from.id);
        let mut snapshot = Snapshot { parent: None, original: Some(origin), extra, ..from.clone() };
        snapshot.id = to.core.write_json(snapshot::FOLDER, &snapshot)?;
        to.must_be_readable(snapshot.id)?;
        let (bytes_added, blobs_added) = (copying.bytes_added, copying.blobs_added);
        Ok(Copied { snapshot, was_there: false, bytes_added, blobs_added, blobs_known })
    }

    /// Reads a new snapshot's file back; one that was damaged on its way is taken away again.
    fn must_be_readable(&self, id: SnapshotId) -> Result<(), VaultError> {
        self.snapshot(id).map(|_| ()).inspect_err(|_damaged| {
            let _ = self.core.delete(snapshot::FOLDER, id); // it says nothing that anybody could read
        })
    }
}

impl Core {
    /// The index without packs that were lost: their blobs do not count as being there.
    fn index_of_what_is_there(&self) -> Result<Arc<Index>, VaultError> {
        let mut known = self.index()?;
        let sizes = self.pack_sizes()?;
        if known.packs.iter().any(|pack| sizes.get(&pack.id) != Some(&pack.bytes)) {
            Arc::make_mut(&mut known).without_packs(|pack| sizes.get(&pack.id) != Some(&pack.bytes));
        }
        Ok(known)
    }

    /// Blobs below a tree that are not in `known`, data before trees and as they lie in this vault's packs; and how many
    /// others there are.
    fn missing(&self, index: &Index, root: Id, known: &Index) -> Result<(Vec<Wanted>, u64), VaultError> {
        let mut wanted = BTreeSet::from([(BlobKind::Tree.word(), root)]);
        self.walk(index, root, &mut |entry| {
            match &entry.kind {
                EntryKind::File { content, .. } => {
                    wanted.extend(content.iter().map(|id| (BlobKind::Data.word(), *id)));
                }
                EntryKind::Folder { tree } => {
                    wanted.insert((BlobKind::Tree.word(), *tree));
                }
                EntryKind::Link { .. } | EntryKind::Other(_) => {}
            }
            Ok(())
        })?;
        let all = wanted.len();
        let mut missing = Vec::new();
        for (word, id) in wanted {
            let kind = if word == BlobKind::Tree.word() { BlobKind::Tree } else { BlobKind::Data };
            if known.contains(kind, id) {
                continue;
            }
            let nowhere = || VaultError::Missing { object: format!("{word} blob {id}") };
            missing.push(Wanted { kind, place: *index.find(kind, id).first().ok_or_else(nowhere)? });
        }
        missing.sort_by_key(|blob| (blob.kind == BlobKind::Tree, blob.place.pack, blob.place.offset));
        let known = all - missing.len();
        Ok((missing, known as u64))
    }
}

/// A blob that is to be copied, and where it lies here.
#[derive(Clone, Copy)]
struct Wanted {
    kind: BlobKind,
    place: Location,
}

/// A copy on its way.
struct Copying<'a> {
    from: &'a Core,
    index: &'a Index,
    to: &'a Core,
    stop: &'a Stop,
    data: OpenPack,
    trees: OpenPack,
    unsealer: Unsealer,
    noted: Vec<(Id, Vec<PackedBlob>)>,
    noted_blobs: usize,
    index_at_seconds: u64,
    bytes_added: u64,
    blobs_added: u64,
}

impl<'a> Copying<'a> {
    fn new(from: &'a Core, index: &'a Index, to: &'a Core, stop: &'a Stop) -> Result<Copying<'a>, VaultError> {
        Ok(Copying {
            from,
            index,
            to,
            stop,
            data: OpenPack::default(),
            trees: OpenPack::default(),
            unsealer: Unsealer::new()?,
            noted: Vec::new(),
            noted_blobs: 0,
            index_at_seconds: pack::elapsed_seconds(&to.io),
            bytes_added: 0,
            blobs_added: 0,
        })
    }

    /// Copies blobs: a few reads at once, each opened, checked and sealed anew on a thread, then packed in order.
    fn all(&mut self, missing: &[Wanted], progress: &dyn Fn(u64, u64)) -> Result<(), VaultError> {
        let total = missing.iter().map(|blob| u64::from(blob.place.length)).sum();
        let reads = side_by_side(missing);
        let mut done = 0;
        for some in reads.chunks(READS_AT_ONCE) {
            self.stop.check()?;
            let (from, index, to) = (self.from, self.index, self.to);
            let batches = parallel::map(some, |read| sealed_anew(from, index, to, &missing[read.clone()]))?;
            for (batch, read) in batches.iter().zip(some) {
                self.take(batch, missing[read.start].kind)?;
                done += missing[read.clone()].iter().map(|blob| u64::from(blob.place.length)).sum::<u64>();
                progress(done, total);
            }
        }
        for last in [std::mem::take(&mut self.data), std::mem::take(&mut self.trees)] {
            if !last.blobs.is_empty() {
                self.store(last)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, batch: &Packer, kind: BlobKind) -> Result<(), VaultError> {
        let open = match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        };
        open.append(batch);
        self.blobs_added += batch.blobs.len() as u64;
        if open.is_full() {
            let full = std::mem::take(open);
            self.store(full)?;
        }
        Ok(())
    }

    /// Stores a pack and reads it back. One that came out different is taken away: no index names it, and none will.
    fn store(&mut self, mut full: OpenPack) -> Result<(), VaultError> {
        pack::append_list(&mut full.bytes, &full.blobs, &self.to.sealer);
        let (sealer, mut scratch) = (&self.to.sealer, Scratch::default());
        pack::verify(&full.bytes, &full.blobs, &full.marks, sealer, &mut self.unsealer, &mut scratch)?;
        let id = Id::of(&full.bytes);
        let (key, bytes) = (pack::object_key(id), full.bytes.len() as u64);
        self.to.store.put(&key, full.bytes.into()).map_err(VaultError::object("store a pack"))?;
        let back = self.to.store.get(&key).map_err(VaultError::object("read a pack back"))?;
        if Id::of(&back) != id {
            let _ = self.to.store.delete(&key); // no index names it: it stands in nobody's way
            return Err(VaultError::damaged(key, "it was damaged on its way there, and has been taken away again"));
        }
        self.bytes_added += bytes;
        self.noted_blobs += full.blobs.len();
        self.noted.push((id, full.blobs));
        let waited = pack::elapsed_seconds(&self.to.io).saturating_sub(self.index_at_seconds);
        if self.noted_blobs >= INDEX_BLOBS || waited >= INDEX_SECONDS { self.write_index() } else { Ok(()) }
    }

    /// Names the stored packs in an index file, and reads that back: what it says is relied on.
    fn write_index(&mut self) -> Result<(), VaultError> {
        let noted = std::mem::take(&mut self.noted);
        self.noted_blobs = 0;
        self.index_at_seconds = pack::elapsed_seconds(&self.to.io);
        if noted.is_empty() {
            return Ok(());
        }
        let id = self.to.write_json(index::FOLDER, &IndexFile::new(&noted))?;
        self.to.read_json::<IndexFile>(index::FOLDER, id).map(|_| ()).inspect_err(|_damaged| {
            let _ = self.to.delete(index::FOLDER, id); // one that cannot be read would be in everybody's way
        })
    }
}

/// Ranges of `missing` that lie side by side in one pack, each read at once.
fn side_by_side(missing: &[Wanted]) -> Vec<Range<usize>> {
    let mut reads: Vec<Range<usize>> = Vec::new();
    let mut begins = 0;
    let mut ends = 0;
    for (number, Wanted { kind, place }) in missing.iter().enumerate() {
        let (offset, end) = (u64::from(place.offset), u64::from(place.offset) + u64::from(place.length));
        let goes_on = reads.last().is_some_and(|read| {
            let first = &missing[read.start];
            let near =
                first.place.pack == place.pack && first.kind == *kind && offset.saturating_sub(ends) <= GAP_BYTES;
            near && end - begins <= READ_BYTES && read.len() < READ_BLOBS
        });
        match reads.last_mut() {
            Some(read) if goes_on => read.end = number + 1,
            Some(_) | None => {
                begins = offset;
                reads.push(number..number + 1);
            }
        }
        ends = end;
    }
    reads
}

/// Reads blobs that lie side by side, checks each against its name, and seals it with the other vault's key. What is
/// compressed stays so.
fn sealed_anew(from: &Core, index: &Index, to: &Core, wanted: &[Wanted]) -> Result<Packer, VaultError> {
    let compress = to.config.compresses();
    let mut packer = Packer::new(compress.then_some((1, 1)))?;
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(packer) };
    let begin = u64::from(first.place.offset);
    let end = u64::from(last.place.offset) + u64::from(last.place.length);
    let key = pack::object_key(index.packs[first.place.pack as usize].id);
    // Whatever goes wrong with reading all at once: one by one, each may lie in another pack as well.
    let mut sealed = from.store.get_range(&key, begin..end).map(|bytes| BytesMut::from(&bytes[..])).unwrap_or_default();
    let mut unsealer = Unsealer::new()?;
    let mut plain = Vec::new();
    for Wanted { kind, place } in wanted {
        plain.clear();
        let start = (u64::from(place.offset) - begin) as usize;
        let opened = sealed.get_mut(start..start + place.length as usize).and_then(|part| {
            unsealer.open(&from.sealer, part, place.plain_length, place.id, &mut plain).ok()?;
            Some(&part[NONCE..part.len() - (OVERHEAD - NONCE)])
        });
        match opened {
            Some(body) if compress && place.plain_length != 0 => {
                packer.marks.push(Mark::of(&plain));
                add_compressed(&mut packer, *kind, place, body, to);
            }
            Some(_) => packer.add((*kind, place.id), Mark::of(&plain), &plain, false, &to.sealer),
            None => {
                BlobReader::new(from, index)?.blob(*kind, place.id, &mut plain)?;
                packer.add((*kind, place.id), Mark::of(&plain), &plain, false, &to.sealer);
            }
        }
    }
    Ok(packer)
}

/// Seals a blob that has been opened and checked, as compressed as it was.
fn add_compressed(packer: &mut Packer, kind: BlobKind, place: &Location, body: &[u8], to: &Core) {
    let start = packer.bytes.len();
    packer.bytes.resize(start + NONCE, 0);
    packer.bytes.extend_from_slice(body);
    to.sealer.seal_in_place(&mut packer.bytes, start);
    let length = (packer.bytes.len() - start) as u32;
    let plain_length = place.plain_length;
    packer.blobs.push(PackedBlob { kind, id: place.id, offset: start as u32, length, plain_length });
}
