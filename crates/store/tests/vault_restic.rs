//! The vault and the real restic: each reads what the other wrote, byte for byte.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

mod support;

use std::{
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::Command,
};

use lifeboat_store::vault::{EntryKind, Vault};
use support::*;

/// Paths that have broken somebody's backup before, and what is in them.
fn odd_files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("postgres/main/data/public.orders.copy", rows(1, 9 << 20)),
        ("postgres/main/data/public.blobs.copy", noise(2, 40 << 20)), // more than two packs
        ("postgres/main/data/public.empty.copy", Vec::new()),
        ("postgres/main/pre-data.sql", b"create table orders ();\n".to_vec()),
        ("sqlite/one byte", b"x".to_vec()),
        ("files/quote\"s and 'apostrophes' and \\ back", rows(3, 70_000)),
        ("files/new\nline\tand\u{7}bell", rows(4, 1000)),
        ("files/größe 🛟 👩\u{200d}🚀", rows(5, 1000)),
        ("files/<html>&amp;\u{2028}", rows(6, 1000)),
        ("files/zeros", vec![0; 3 << 20]),
        // Sorts before "files/" by bytes of the whole path, and after "files" by name.
        ("files.txt", b"sorted by name\n".to_vec()),
        ("files-and-more", b"sorted by name\n".to_vec()),
    ]
}

#[test]
fn restic_restores_what_we_wrote() {
    let world = World::new();
    let vault = world.create();
    let writer = begin(&vault);
    let files = odd_files();
    files.iter().for_each(|(path, bytes)| put(&writer, path, bytes));
    writer.folder("files", &meta(0o1755)).unwrap();
    writer.folder("bucket/empty folder", &meta(0o700)).unwrap();
    writer.link("files/link", "../sqlite/one byte", &meta(0o777)).unwrap();
    let committed = writer.commit(snapshot_meta()).unwrap();

    world.restic_checks();
    let listed = world.restic_ok(&["snapshots", "--json", "--host", "harbour", "--tag", "nightly,app:shop"]);
    assert!(listed.contains(&committed.snapshot.id.hex()), "{listed}");
    let target = world.path("restored");
    world.restic_ok(&["restore", "latest", "--path", "/shop/production", "--target", target.to_str().unwrap()]);

    for (path, bytes) in &files {
        let restored = target.join(path);
        assert!(std::fs::read(&restored).unwrap() == *bytes, "{path:?} differs");
        let stat = std::fs::metadata(&restored).unwrap();
        assert_eq!(stat.mode() & 0o7777, 0o640, "{path:?}");
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_772_600_767, 891_234_567), "{path:?}");
    }
    assert_eq!(std::fs::read_dir(target.join("bucket/empty folder")).unwrap().count(), 0);
    assert_eq!(std::fs::metadata(target.join("files")).unwrap().mode() & 0o7777, 0o1755);
    assert_eq!(std::fs::read_link(target.join("files/link")).unwrap(), Path::new("../sqlite/one byte"));
    let count = Command::new("find").arg(&target).args(["-type", "f", "-printf", "x"]).output().unwrap();
    assert_eq!(count.stdout.len(), files.len(), "nothing but what we put there");
}

#[test]
fn we_read_what_we_wrote() {
    let world = World::new();
    world.create();
    let writer = begin(&world.open());
    let files = odd_files();
    files.iter().for_each(|(path, bytes)| put(&writer, path, bytes));
    let committed = writer.commit(snapshot_meta()).unwrap();
    assert_eq!(committed.bytes_read, files.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    assert!(committed.packs_added >= 4, "{committed:?}");

    let vault = world.open();
    let snapshots = vault.snapshots().unwrap();
    assert_eq!(snapshots, [committed.snapshot]);
    assert_eq!(snapshots[0].extra["recovery_point"], "2026-03-04T23:59:59Z");
    for (path, bytes) in &files {
        assert!(read(&vault, &snapshots[0], path) == *bytes, "{path:?} differs");
    }
    let entries = vault.entries(&snapshots[0]).unwrap();
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry.path.to_str()).collect();
    assert_eq!(&names[..3], ["files", "files/<html>&amp;\u{2028}", "files/größe 🛟 👩\u{200d}🚀"]);
    assert_eq!(entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. })).count(), files.len());
    let verified = vault.verify_snapshot(&snapshots[0]).unwrap();
    assert_eq!((verified.files, verified.bytes), (files.len() as u64, committed.bytes_read));
}

/// What restic backs up in its tests of ours.
fn source(world: &World) -> std::path::PathBuf {
    let source = world.path("source");
    std::fs::create_dir_all(source.join("deep/er")).unwrap();
    std::fs::create_dir_all(source.join("empty")).unwrap();
    for (name, bytes) in [
        ("big.copy", rows(7, 12 << 20)),
        ("random", noise(8, 5 << 20)),
        ("deep/er/small", b"small".to_vec()),
        ("deep/nothing", Vec::new()),
        ("deep/quote\" \\ new\nline 🛟", b"named oddly".to_vec()),
    ] {
        std::fs::write(source.join(name), bytes).unwrap();
    }
    use std::os::unix::ffi::OsStrExt;
    std::fs::write(source.join(std::ffi::OsStr::from_bytes(b"not \xff utf-8")), b"bytes").unwrap();
    symlink("deep/er/small", source.join("link")).unwrap();
    source
}

fn assert_we_read(world: &World, vault: &Vault) {
    let source = world.path("source");
    let snapshots = vault.snapshots().unwrap();
    let latest = snapshots.last().unwrap();
    assert_eq!(latest.paths, [source.to_str().unwrap()]);
    let mut files = 0;
    for entry in vault.entries(latest).unwrap() {
        // restic puts the whole path into the snapshot.
        let original = Path::new("/").join(&entry.path);
        let stat = std::fs::symlink_metadata(&original).unwrap();
        match &entry.kind {
            EntryKind::File { size, .. } => {
                assert_eq!(*size, stat.len());
                assert!(read(vault, latest, &entry.path) == std::fs::read(&original).unwrap(), "{original:?} differs");
                assert_eq!(
                    entry.meta.mtime.as_nanosecond(),
                    i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec())
                );
                files += 1;
            }
            EntryKind::Folder { .. } => assert!(stat.is_dir()),
            EntryKind::Link { target } => assert_eq!(std::fs::read_link(&original).unwrap(), Path::new(target)),
            EntryKind::Other(word) => panic!("{word} {original:?}"),
        }
        assert_eq!(entry.meta.mode, if stat.is_symlink() { 0o777 } else { stat.mode() & 0o7777 }, "{original:?}");
    }
    assert_eq!(files, 6);
    vault.verify_snapshot(latest).unwrap();
}

#[test]
fn we_read_what_restic_wrote() {
    for (init, backup) in [
        (&["init", "--repository-version", "2"], &["backup", "--compression", "auto"]),
        (&["init", "--repository-version", "2"], &["backup", "--compression", "max"]),
        (&["init", "--repository-version", "2"], &["backup", "--compression", "off"]),
        (&["init", "--repository-version", "1"], &["backup", "--compression", "auto"]),
    ] {
        let world = World::new();
        let source = source(&world);
        world.restic_ok(init);
        world.restic_ok(&[&backup[..], &[source.to_str().unwrap()]].concat());
        assert_we_read(&world, &world.open());
    }
}

#[test]
fn both_write_into_one_vault() {
    for version in ["1", "2"] {
        let world = World::new();
        let source = source(&world);
        world.restic_ok(&["init", "--repository-version", version]);
        world.restic_ok(&["backup", source.to_str().unwrap()]);
        let vault = world.open();
        let writer = begin(&vault);
        put(&writer, "ours.copy", &rows(9, 3 << 20));
        let ours = writer.commit(snapshot_meta()).unwrap().snapshot;
        std::fs::write(source.join("later"), b"later").unwrap();
        world.restic_ok(&["backup", source.to_str().unwrap()]);
        world.restic_checks();
        assert_eq!(vault.snapshots().unwrap().len(), 3);
        assert!(read(&vault, &ours, "ours.copy") == rows(9, 3 << 20));
        // restic may do with ours what it does with its own.
        world.restic_ok(&["tag", "--add", "seen", &ours.id.hex()]);
        world.restic_ok(&["forget", "--keep-last", "1", "--prune", "--group-by", "host"]);
        world.restic_checks();
        let kept = vault.snapshots().unwrap();
        assert_eq!(kept.len(), 2);
        let tagged = kept.iter().find(|snapshot| snapshot.original == Some(ours.id)).unwrap();
        assert!(read(&vault, tagged, "ours.copy") == rows(9, 3 << 20));
    }
}

#[test]
fn several_passwords_open_one_vault() {
    let world = World::new();
    let vault = world.create();
    let second = world.path("second-password");
    std::fs::write(&second, "another word").unwrap();
    world.restic_ok(&["key", "add", "--new-password-file", second.to_str().unwrap()]);
    assert_eq!(world.objects("keys").len(), 2);
    let other = Vault::open(world.store(), &"another word".into(), &world.io).unwrap();
    assert_eq!(other.id(), vault.id());
    assert_eq!(other.derive("env"), vault.derive("env"));
    assert_eq!(world.open().id(), vault.id());
    let config = world.restic_ok(&["cat", "config"]);
    assert!(config.contains(vault.id()), "{config}");
}
