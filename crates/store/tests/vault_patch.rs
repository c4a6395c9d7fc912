//! Files written as patches of their earlier versions.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

mod support;

use std::io;

use lifeboat_store::vault::{BackupOptions, Committed, Patched, Snapshot, Vault};
use support::*;

const PAGE: usize = 4096;

/// A file in memory, and which of its pages are not as they were.
struct Pages<'a> {
    bytes: &'a [u8],
    changed: Vec<bool>,
    read: u64,
    /// Up to where it was read.
    behind: u64,
}

impl<'a> Pages<'a> {
    fn new(before: &[u8], bytes: &'a [u8]) -> Pages<'a> {
        let pages = bytes.chunks(PAGE).enumerate();
        let changed = pages.map(|(at, page)| before.get(at * PAGE..at * PAGE + page.len()) != Some(page));
        Pages { bytes, changed: changed.collect(), read: 0, behind: 0 }
    }
}

impl Patched for Pages<'_> {
    fn run(&self, at: u64) -> (bool, u64) {
        let first = at as usize / PAGE;
        let changed = self.changed[first];
        let alike = self.changed[first..].iter().take_while(|other| **other == changed).count();
        (!changed, ((first + alike) * PAGE) as u64)
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        assert!(at >= self.behind, "{at} is asked for behind {}", self.behind);
        self.behind = at + into.len() as u64;
        self.read += into.len() as u64;
        into.copy_from_slice(&self.bytes[at as usize..at as usize + into.len()]);
        Ok(())
    }
}

/// Backs up one file as a patch; gives what was committed and how much was read.
fn patch(vault: &Vault, previous: &Snapshot, before: &[u8], now: &[u8]) -> (Committed, u64) {
    let options = BackupOptions { previous: Some(previous.clone()), ..BackupOptions::default() };
    let writer = vault.begin(options).unwrap();
    let mut stream = writer.stream("table", &meta(0o600)).unwrap();
    let mut pages = Pages::new(before, now);
    stream.patch(now.len() as u64, &mut pages).unwrap();
    assert_eq!(stream.finish().unwrap().bytes, now.len() as u64);
    (writer.commit(snapshot_meta()).unwrap(), pages.read)
}

/// A first backup of a file that is cut by what is in it.
fn first(vault: &Vault, bytes: &[u8]) -> Snapshot {
    let writer = begin(vault);
    put(&writer, "table", bytes);
    writer.commit(snapshot_meta()).unwrap().snapshot
}

#[test]
fn a_patch_reads_and_stores_what_is_around_changes_and_nothing_else() {
    let world = World::new();
    let vault = world.create();
    let before = rows(1, 24 << 20);
    let snapshot = first(&vault, &before);
    let one = |at: usize| {
        let mut now = before.clone();
        now[at..at + 100].fill(b'x');
        now
    };
    let mut scattered = before.clone();
    (0..20).for_each(|at| scattered[(at << 20) + at * 5000] ^= 1);
    let mut shorter = before.clone();
    shorter.truncate(9 << 20);
    let mut longer = before.clone();
    longer.extend(rows(2, 1 << 20));
    let mut shifted = before.clone();
    shifted.splice((7 << 20)..(7 << 20), std::iter::repeat_n(b'y', PAGE));
    let other = rows(3, 24 << 20);
    let blob = 64 << 10_u64;
    for (name, now, read, added) in [
        ("the same", &before, 0..1, 0..1),
        ("the first byte", &one(0), 1..20 * blob, 1..6),
        ("one place", &one(5 << 20), 1..20 * blob, 1..6),
        ("the last page", &one((24 << 20) - 100), 1..20 * blob, 1..6),
        ("twenty places", &scattered, 20..200 * blob, 20..60),
        ("shorter", &shorter, 0..20 * blob, 0..6),
        ("longer", &longer, 1 << 20..(1 << 20) + 20 * blob, 8..40),
        ("moved by a page", &shifted, 17 << 20..18 << 20, 1..6),
        ("something else", &other, 24 << 20..(24 << 20) + 1, 200..600),
        ("nothing", &Vec::new(), 0..1, 0..1),
    ] {
        let (patched, was_read) = patch(&vault, &snapshot, &before, now);
        assert!(read.contains(&was_read), "{name}: {was_read} bytes were read");
        assert!(added.contains(&(patched.blobs_added.saturating_sub(1))), "{name}: {patched:?}");
        assert!(content(&vault, &patched) == *now, "{name}");
        assert_eq!(patched.bytes_read, now.len() as u64, "{name}");
        // Most blobs are those that a backup from the beginning makes: nothing is stored twice for being patched.
        let writer = begin(&vault);
        put(&writer, "table", now);
        let alone = writer.commit(snapshot_meta()).unwrap();
        assert!(alone.blobs_added <= 4, "{name}: {alone:?}");
    }
    world.restic_checks();
}

fn content(vault: &Vault, committed: &Committed) -> Vec<u8> {
    read(vault, &committed.snapshot, "table")
}

/// Patch upon patch, in places that chance chose, and always what went in comes out.
#[test]
fn patches_of_patches_come_back_as_they_went_in() {
    let world = World::new();
    let vault = world.create();
    let mut now = rows(1, 6 << 20);
    let mut snapshot = first(&vault, &now);
    let mut chance = 7_u64;
    let mut next = |below: usize| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) as usize % below
    };
    for round in 0..25 {
        let before = now.clone();
        for _ in 0..next(12) {
            let (at, length) = (next(now.len() / PAGE) * PAGE, PAGE * (1 + next(40)));
            let end = now.len().min(at + length);
            match next(5) {
                0 => now.extend(rows(round, length)),
                1 => now.truncate(now.len().max(2 << 20) - PAGE * next(100)),
                2 => now[at..end].fill(b'z'),
                _ => now[at..end].copy_from_slice(&noise(round, end - at)),
            }
        }
        let (patched, _read) = patch(&vault, &snapshot, &before, &now);
        assert!(content(&vault, &patched) == now, "round {round}");
        snapshot = patched.snapshot;
    }
    world.restic_checks();
}

#[test]
fn without_the_earlier_blobs_a_patch_is_written_whole() {
    let world = World::new();
    let vault = world.create();
    let before = rows(1, 4 << 20);
    let snapshot = first(&vault, &before);
    let packs = world.objects("data");
    let largest = packs.iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    std::fs::remove_file(largest).unwrap();
    let (patched, read) = patch(&vault, &snapshot, &before, &before);
    assert!(read >= 3 << 20, "{read}");
    assert!(content(&vault, &patched) == before);
    // And with none at all.
    let nowhere = Snapshot { tree: lifeboat_store::vault::Id([7; 32]), ..snapshot };
    let (patched, read) = patch(&vault, &nowhere, &before, &before);
    assert_eq!(read, 4 << 20);
    assert!(content(&vault, &patched) == before);
}

/// A file of pages is cut at given places: a changed page costs one blob, and reading it back needs nothing to know of that.
#[test]
fn pages_are_cut_where_they_are() {
    let world = World::new();
    let vault = world.create();
    let whole = |bytes: &[u8]| {
        let writer = begin(&vault);
        let mut stream = writer.stream_of_pages("table", &meta(0o600)).unwrap();
        io::Write::write_all(&mut stream, bytes).unwrap();
        stream.finish().unwrap();
        writer.commit(snapshot_meta()).unwrap()
    };
    let before = rows(1, (8 << 20) + 5 * PAGE);
    let snapshot = whole(&before).snapshot;
    assert!(read(&vault, &snapshot, "table") == before);
    let mut now = before.clone();
    now[(3 << 20) + 7 * PAGE] ^= 1;
    now[(5 << 20) - 1] ^= 1;
    now.extend(rows(2, 3 * PAGE));
    let options = BackupOptions { previous: Some(snapshot), ..BackupOptions::default() };
    let writer = vault.begin(options).unwrap();
    let mut stream = writer.stream_of_pages("table", &meta(0o600)).unwrap();
    let mut pages = Pages::new(&before, &now);
    stream.patch(now.len() as u64, &mut pages).unwrap();
    stream.finish().unwrap();
    assert!(pages.read <= 3 * (64 << 10) + (8 << 10), "{}", pages.read);
    let patched = writer.commit(snapshot_meta()).unwrap();
    assert_eq!(patched.blobs_added, 3 + 1, "two, the last, and the tree: {patched:?}");
    assert!(content(&vault, &patched) == now);
    assert_eq!(whole(&now).blobs_added, 0, "written whole it is the same");
    world.restic_checks();
}
