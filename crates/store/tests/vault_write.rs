//! Backups that go well, and all the ways in which they must not become a snapshot.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

mod support;

use std::{
    io::Write,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use lifeboat_io::{ObjectError, ObjectErrorKind, ObjectStore, Stop, objects::ObjectInfo, objects::folder::Folder};
use lifeboat_store::vault::{BackupOptions, Entry, EntryKind, EntryMeta, PruneOptions, Vault, VaultError};
use support::*;

#[test]
fn a_second_backup_stores_only_what_is_new() {
    let world = World::new();
    let vault = world.create();
    let mut table = rows(1, 24 << 20);
    let writer = begin(&vault);
    put(&writer, "table", &table);
    put(&writer, "the same again", &table);
    let first = writer.commit(snapshot_meta()).unwrap();
    assert!(first.bytes_added < 24 << 20, "{first:?}");
    assert_eq!(first.bytes_read, 48 << 20);
    assert!(first.blobs_known >= first.blobs_added - 2, "the second copy costs nothing but a tree: {first:?}");

    let writer = begin(&world.open());
    put(&writer, "table", &table);
    let same = writer.commit(snapshot_meta()).unwrap();
    assert!(same.bytes_added < 20_000, "nothing but a tree: {same:?}");
    assert_eq!(same.blobs_added, 1, "{same:?}");

    // A changed row and a new one, in two places.
    table[5 << 20] ^= 1;
    table.splice((15 << 20)..(15 << 20), b"a new row\n".iter().copied());
    let writer = begin(&vault);
    put(&writer, "table", &table);
    let changed = writer.commit(snapshot_meta()).unwrap();
    assert!((3..=7).contains(&changed.blobs_added), "{changed:?}");
    assert!(read(&vault, &changed.snapshot, "table") == table);
    world.restic_checks();
}

/// Cut with a guide or without one, a stream has the same blobs as far as it is the same; what was put in or taken out
/// changes a few. Every stream comes back as it went in.
#[test]
fn a_previous_snapshot_is_a_guide_and_nothing_else() {
    let world = World::new();
    let vault = world.create();
    let before = rows(1, 20 << 20);
    let writer = begin(&vault);
    put(&writer, "table", &before);
    let previous = writer.commit(snapshot_meta()).unwrap().snapshot;
    let mut changed = before.clone();
    changed[3 << 20..(3 << 20) + 5000].fill(b'x');
    let mut shifted = before.clone();
    shifted.splice((7 << 20)..(7 << 20), b"a new row\n".repeat(300));
    shifted.drain(12 << 20..(12 << 20) + 70_000);
    let zeros = vec![0; 5 << 20];
    let shorter = before[..(9 << 20) + 77].to_vec();
    for (name, bytes, new) in [
        ("the same", &before, 0..=0),
        ("changed in place", &changed, 1..=3),
        ("put in and taken out", &shifted, 2..=8),
        ("shorter", &shorter, 1..=1),
        ("zeros", &zeros, 1..=200),
        ("empty", &Vec::new(), 0..=0),
    ] {
        let options = BackupOptions { previous: Some(previous.clone()), ..BackupOptions::default() };
        let writer = vault.begin(options).unwrap();
        put(&writer, "table", bytes);
        let guided = writer.commit(snapshot_meta()).unwrap();
        assert!(new.contains(&(guided.blobs_added.saturating_sub(1))), "{name}: {guided:?}");
        assert!(read(&vault, &guided.snapshot, "table") == *bytes, "{name}");
        // Without the guide everything is found again, but for what a cut within changed bytes would be.
        let writer = begin(&vault);
        put(&writer, "table", bytes);
        let alone = writer.commit(snapshot_meta()).unwrap();
        assert!(alone.blobs_added <= 4, "{name}: {alone:?}");
    }
    // A guide that cannot be read is none.
    let nowhere = lifeboat_store::vault::Snapshot { tree: lifeboat_store::vault::Id([7; 32]), ..previous };
    let writer = vault.begin(BackupOptions { previous: Some(nowhere), ..BackupOptions::default() }).unwrap();
    put(&writer, "table", &before);
    assert_eq!(writer.commit(snapshot_meta()).unwrap().blobs_added, 0);
    world.restic_checks();
}

/// Files of an earlier snapshot count again without being read; all of them or none.
#[test]
fn files_that_are_taken_over_outlive_where_they_came_from() {
    let world = World::new();
    let vault = world.create();
    let (one, other) = (rows(1, 3 << 20), rows(2, 100));
    let writer = begin(&vault);
    put(&writer, "db/one", &one);
    put(&writer, "db/other", &other);
    let first = writer.commit(snapshot_meta()).unwrap().snapshot;
    let entry = |path: &str| Arc::new(vault.entry(&first, Path::new(path)).unwrap());
    let meta = EntryMeta::new(0o600, snapshot_meta().time);
    let file = |to: &str, from: &str| (to.to_owned(), meta.clone(), entry(from));

    let writer = begin(&vault);
    assert!(writer.again(&[file("db/one", "db/one"), file("elsewhere", "db/other")]).unwrap());
    put(&writer, "new", b"new");
    let committed = writer.commit(snapshot_meta()).unwrap();
    assert_eq!(committed.blobs_added, 1 + 2, "one file, and two folders' trees");
    assert_eq!(committed.bytes_read, (one.len() + other.len() + 3) as u64);
    vault.forget(&[first.id]).unwrap();
    vault.prune(&PruneOptions::default()).unwrap();
    assert!(
        read(&vault, &committed.snapshot, "db/one") == one && read(&vault, &committed.snapshot, "elsewhere") == other
    );
    world.restic_checks();

    // A blob that is not there any more: nothing of them counts, and their paths are free.
    let lost = Arc::new(Entry {
        kind: EntryKind::File { size: 5, content: vec![lifeboat_store::vault::Id([9; 32])] },
        ..vault.entry(&committed.snapshot, Path::new("new")).unwrap()
    });
    let writer = begin(&vault);
    let kept = vault.entry(&committed.snapshot, Path::new("db/one")).unwrap();
    let both = [("db/one".to_owned(), meta.clone(), Arc::new(kept)), ("lost".to_owned(), meta.clone(), lost)];
    assert!(!writer.again(&both).unwrap());
    put(&writer, "db/one", b"read at its source");
    let snapshot = writer.commit(snapshot_meta()).unwrap().snapshot;
    assert_eq!(read(&vault, &snapshot, "db/one"), b"read at its source");
}

#[test]
fn many_streams_at_once() {
    let world = World::new();
    let vault = world.create();
    let writer = begin(&vault);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let writer = &writer;
            scope.spawn(move || {
                for file in 0..20 {
                    put(writer, &format!("{thread}/{file}"), &rows(thread * 100 + file, 50_000 * file as usize));
                }
            });
        }
    });
    let snapshot = writer.commit(snapshot_meta()).unwrap().snapshot;
    for (thread, file) in [(0, 0), (3, 7), (7, 19)] {
        let bytes = read(&vault, &snapshot, format!("{thread}/{file}"));
        assert!(bytes == rows(thread * 100 + file, 50_000 * file as usize), "{thread}/{file}");
    }
    assert_eq!(vault.verify_snapshot(&snapshot).unwrap().files, 160);
    world.restic_checks();
}

#[test]
fn a_folder_lists_what_is_directly_in_it() {
    let world = World::new();
    let vault = world.create();
    let writer = begin(&vault);
    for path in ["shop/data/a", "shop/data/b", "shop/schema"] {
        put(&writer, path, &rows(1, 1000));
    }
    let snapshot = writer.commit(snapshot_meta()).unwrap().snapshot;
    let files = vault.folder(&snapshot, "shop/data").unwrap();
    assert_eq!(files, ["shop/data/a", "shop/data/b"].map(|path| vault.entry(&snapshot, path).unwrap()));
    assert_eq!(vault.folder(&snapshot, "shop").unwrap().len(), 2);
    for path in ["shop/nothing", "shop/schema", "shop/schema/a"] {
        assert!(matches!(vault.folder(&snapshot, path), Err(VaultError::Missing { .. })), "{path}");
    }
}

#[test]
fn a_lost_pack_is_found_out_and_made_up_for_by_the_next_backup() {
    let world = World::new();
    let vault = world.create();
    let backup = || {
        let writer = begin(&vault);
        put(&writer, "table", &rows(1, 2 << 20));
        writer.commit(snapshot_meta()).unwrap().snapshot
    };
    let first = backup();
    let packs = world.objects("data");
    let largest = packs.iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    std::fs::remove_file(largest).unwrap();
    assert!(matches!(vault.verify_snapshot(&first), Err(VaultError::Missing { .. })));
    let lost = vault.read_file(&first, "table", &mut Vec::new(), &|_| {}, &Stop::default());
    assert_eq!(lost.unwrap_err().object_kind(), Some(ObjectErrorKind::Missing));

    let second = backup();
    vault.verify_snapshot(&second).unwrap();
    assert!(read(&vault, &second, "table") == rows(1, 2 << 20));
    assert!(read(&vault, &first, "table") == rows(1, 2 << 20), "the first is whole again too");
}

#[test]
fn a_damaged_pack_is_never_read_as_something_else() {
    let world = World::new();
    let vault = world.create();
    let writer = begin(&vault);
    put(&writer, "table", &rows(1, 1 << 20));
    let snapshot = writer.commit(snapshot_meta()).unwrap().snapshot;
    let pack = world.objects("data").into_iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let good = std::fs::read(&pack).unwrap();
    for place in [0, 17, good.len() / 3, good.len() / 2] {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        std::fs::write(&pack, bad).unwrap();
        let mut read = Vec::new();
        let error = vault.read_file(&snapshot, "table", &mut read, &|_| {}, &Stop::default()).unwrap_err();
        assert!(matches!(error, VaultError::Damaged { .. }), "{error}");
        assert!(rows(1, 1 << 20).starts_with(&read), "what was given is right");
    }
    std::fs::write(&pack, &good[..good.len() - 1]).unwrap();
    assert!(matches!(vault.verify_snapshot(&snapshot), Err(VaultError::Damaged { .. })), "a byte too few");
    std::fs::write(&pack, &good[..good.len() / 2]).unwrap();
    let error = vault.read_file(&snapshot, "table", &mut Vec::new(), &|_| {}, &Stop::default()).unwrap_err();
    assert_eq!(error.object_kind(), Some(ObjectErrorKind::Damaged), "{error}");
}

/// No snapshot came of it, restic finds nothing wrong, and the next backup goes well.
fn assert_nothing_happened(world: &World) {
    let vault = world.open();
    assert_eq!(vault.snapshots().unwrap(), []);
    assert!(vault.lock_holders().unwrap().is_empty(), "the lock was given back");
    let writer = begin(&vault);
    put(&writer, "table", &rows(1, 1 << 20));
    let snapshot = writer.commit(snapshot_meta()).unwrap().snapshot;
    assert!(read(&vault, &snapshot, "table") == rows(1, 1 << 20));
    let said = text(&world.restic(&["check", "--read-data"]).stdout);
    assert!(said.contains("no errors were found"), "{said}");
}

#[test]
fn a_stream_that_is_dropped_fails_the_backup() {
    let world = World::new();
    let vault = world.create();
    let writer = begin(&vault);
    put(&writer, "whole", &rows(1, 1 << 20));
    let mut stream = writer.stream("half", &meta(0o600)).unwrap();
    stream.write_all(&rows(2, 3 << 20)).unwrap();
    drop(stream);
    let error = writer.commit(snapshot_meta()).unwrap_err();
    assert!(matches!(error.root(), VaultError::StreamUnfinished { path } if path == "half"), "{error}");
    assert_nothing_happened(&world);
}

#[test]
fn a_producer_that_panics_fails_the_backup() {
    let world = World::new();
    let vault = world.create();
    let writer = begin(&vault);
    let died = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let mut stream = writer.stream("half", &meta(0o600)).unwrap();
            stream.write_all(b"begun").unwrap();
            panic!("on purpose: the producer breaks down");
        });
        producer.join().is_err()
    });
    assert!(died);
    assert!(matches!(writer.commit(snapshot_meta()).unwrap_err().root(), VaultError::StreamUnfinished { .. }));
    assert_nothing_happened(&world);
}

#[test]
fn a_stream_that_is_open_at_the_end_fails_the_backup() {
    let world = World::new();
    let vault = world.create();
    let writer = begin(&vault);
    let mut stream = writer.stream("late", &meta(0o600)).unwrap();
    stream.write_all(b"begun").unwrap();
    assert!(matches!(writer.commit(snapshot_meta()).unwrap_err().root(), VaultError::StreamUnfinished { .. }));
    assert!(stream.write_all(b"more").is_err());
    assert!(stream.finish().is_err(), "it cannot end well any more");
    assert_nothing_happened(&world);
}

#[test]
fn a_backup_that_is_given_up_leaves_what_helps_the_next_one() {
    let world = World::new();
    let vault = world.create();
    let writer = begin(&vault);
    put(&writer, "table", &noise(1, 40 << 20));
    // What is on its way when a backup is given up is not stored; so wait until something was.
    while writer.bytes_added() == 0 {
        std::thread::yield_now();
    }
    drop(writer);
    assert_eq!(vault.snapshots().unwrap(), []);
    let writer = begin(&vault);
    put(&writer, "table", &noise(1, 40 << 20));
    let again = writer.commit(snapshot_meta()).unwrap();
    assert!(again.bytes_added < 30 << 20, "a pack of 16 MiB at least was found: {again:?}");
    world.restic_checks();
}

#[test]
fn a_backup_can_be_broken_off() {
    let world = World::new();
    let vault = world.create();
    let stop = Stop::default();
    let writer = vault.begin(BackupOptions { stop: stop.clone(), ..BackupOptions::default() }).unwrap();
    let mut stream = writer.stream("table", &meta(0o600)).unwrap();
    stream.write_all(&rows(1, 1 << 20)).unwrap();
    stop.now();
    assert!(stream.write_all(b"more").is_err());
    drop(stream);
    assert!(matches!(writer.commit(snapshot_meta()).unwrap_err().root(), VaultError::Stopped(_)));
    assert_nothing_happened(&world);
}

#[test]
fn paths_that_cannot_be_are_refused() {
    let world = World::new();
    let vault = world.create();
    for (first, second) in [("a", "a"), ("a", "a/b"), ("../a", ""), ("/a", ""), ("a/b", "a")] {
        let writer = begin(&vault);
        let refused = [first, second].iter().any(|path| match writer.stream(path, &meta(0o600)) {
            Ok(stream) => stream.finish().is_err(),
            Err(error) => matches!(error.root(), VaultError::BadPath { .. }),
        });
        assert!(refused, "{first} {second}");
        assert!(writer.commit(snapshot_meta()).is_err());
    }
    assert_eq!(vault.snapshots().unwrap(), []);
}

/// A folder that fails after so many bytes, as a full disk does.
#[derive(Debug)]
struct Full {
    folder: Folder,
    left: AtomicI64,
    /// Which objects it refuses when there is no room left.
    refuses: &'static str,
}

impl Full {
    fn store(&self, key: &str, bytes: usize) -> Result<(), ObjectError> {
        let left = self.left.fetch_sub(bytes as i64, Ordering::SeqCst) - bytes as i64;
        if left >= 0 || !key.starts_with(self.refuses) {
            return Ok(());
        }
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
        Err(ObjectError { kind: ObjectErrorKind::Full, place: self.place(), key: key.into(), doing: "write", source })
    }
}

impl ObjectStore for Full {
    fn place(&self) -> String {
        self.folder.place()
    }
    fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.store(key, body.len()).and_then(|()| self.folder.put(key, body))
    }
    fn put_new(&self, key: &str, body: Bytes) -> Result<bool, ObjectError> {
        self.store(key, body.len()).and_then(|()| self.folder.put_new(key, body))
    }
    fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        self.folder.get(key)
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.folder.get_range(key, range)
    }
    fn size(&self, key: &str) -> Result<u64, ObjectError> {
        self.folder.size(key)
    }
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        self.folder.list(prefix)
    }
    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.folder.delete(key)
    }
}

#[test]
fn a_full_disk_fails_the_backup_wherever_it_strikes() {
    for refuses in ["data", "index", "snapshots"] {
        let world = World::new();
        world.create();
        let full = Full { folder: Folder::new(world.path("vault")), left: AtomicI64::new(3 << 20), refuses };
        let vault = Vault::open(Arc::new(full), &password(), &world.io).unwrap();
        let writer = begin(&vault);
        // The failure may come while bytes are still being written, or at the end.
        let failed = std::thread::scope(|scope| {
            let streams: Vec<_> = (0..3)
                .map(|number| {
                    let writer = &writer;
                    scope.spawn(move || {
                        let mut stream = writer.stream(&format!("table {number}"), &meta(0o600))?;
                        noise(number, 30 << 20).chunks(1 << 16).try_for_each(|piece| stream.write_all(piece)).ok();
                        stream.finish()
                    })
                })
                .collect();
            streams.into_iter().any(|stream| stream.join().unwrap().is_err())
        });
        assert!(failed || refuses != "data", "90 MiB cannot all have been on their way");
        let error = writer.commit(snapshot_meta()).unwrap_err();
        assert_eq!(error.object_kind(), Some(ObjectErrorKind::Full), "{refuses}: {error}");
        assert_nothing_happened(&world);
    }
}

#[test]
fn one_of_many_who_create_a_vault_at_once_succeeds() {
    let world = World::new();
    let store = world.store();
    let results: Vec<_> = std::thread::scope(|scope| {
        let create = || Vault::create(store.clone(), &password(), &world.io);
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let made: Vec<&Vault> = results.iter().flatten().collect();
    assert_eq!(made.len(), 1);
    for error in results.iter().flat_map(|result| result.as_ref().err()) {
        assert!(matches!(error, VaultError::AlreadyThere { .. }), "{error:?}");
    }
    assert_eq!(world.open().id(), made[0].id());
    assert_eq!(world.objects("keys").len(), 1, "the others took their keys back");
    world.restic_ok(&["snapshots"]);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let world = World::new();
    let open = |word: &str| Vault::open(world.store(), &word.into(), &world.io).map(drop).unwrap_err();
    assert!(matches!(open(PASSWORD), VaultError::NoVault { .. }), "there is not even a folder");
    std::fs::create_dir(world.path("vault")).unwrap();
    assert!(matches!(open(PASSWORD), VaultError::NoVault { .. }));
    world.create();
    assert!(matches!(open("wrong"), VaultError::WrongPassword { damaged_keys: 0, .. }));

    // A broken key file beside the good one, first and last in the folder.
    let good_key = world.objects("keys").remove(0);
    for name in ["0".repeat(64), "f".repeat(64)] {
        std::fs::write(world.path("vault/keys").join(name), "{broken").unwrap();
    }
    world.open();
    assert!(matches!(open("wrong"), VaultError::WrongPassword { damaged_keys: 2, .. }));

    // The key of another vault with the same password.
    let other = World::new();
    other.create();
    std::fs::copy(&other.objects("keys")[0], world.path("vault/keys").join("1".repeat(64))).unwrap();
    world.open();

    std::fs::remove_file(good_key).unwrap();
    assert!(matches!(open(PASSWORD), VaultError::Damaged { object, .. } if object == "config"));
    std::fs::copy(other.path("vault/config"), world.path("vault/config")).unwrap();
    world.open();
    std::fs::remove_file(world.path("vault/config")).unwrap();
    assert!(matches!(open(PASSWORD), VaultError::Missing { object } if object == "config"));
}

#[test]
fn snapshots_can_be_forgotten_and_brought_back() {
    let world = World::new();
    let vault = world.create();
    let backup = |seed| {
        let writer = begin(&vault);
        put(&writer, "table", &rows(seed, 100_000));
        writer.commit(snapshot_meta()).unwrap().snapshot
    };
    let (one, two) = (backup(1), backup(2));
    let mut both = vec![one.clone(), two.clone()];
    both.sort_by_key(|snapshot| snapshot.id);
    assert_eq!(vault.snapshots().unwrap(), both);
    let forgotten = vault.forget(&[one.id]).unwrap();
    assert_eq!(vault.snapshots().unwrap(), std::slice::from_ref(&two));
    assert!(vault.forget(&[two.id, one.id]).is_err(), "one is not there");
    assert_eq!(vault.snapshots().unwrap(), std::slice::from_ref(&two), "so the other stayed");
    vault.unforget(&forgotten).unwrap();
    assert_eq!(vault.snapshots().unwrap(), both);
    assert!(read(&vault, &one, "table") == rows(1, 100_000));

    let mut tampered = forgotten.clone();
    tampered[0].raw = Bytes::from_static(b"something else");
    assert!(matches!(vault.unforget(&tampered), Err(VaultError::Damaged { .. })));

    std::fs::write(world.path("vault/snapshots").join(one.id.hex()), "broken").unwrap();
    assert!(matches!(vault.snapshots(), Err(VaultError::Damaged { .. })));
    let survey = vault.survey_snapshots().unwrap();
    assert_eq!((survey.snapshots, survey.damaged.len()), (vec![two], 1));
}
