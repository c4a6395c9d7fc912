//! Archived vaults, good and broken: they open, or are reported on, in the same words for ever.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

mod support;

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use lifeboat_io::{Stop, testing::MemoryObjects};
use lifeboat_store::vault::{CheckReport, EntryKind, Id, PruneOptions, ReadData, Snapshot, Vault, VaultError};
use support::memory::{check, doors};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A copy of an archived vault, in memory, so that no lock is left beside the original.
fn objects(name: &str) -> BTreeMap<String, Bytes> {
    let root = folder(name);
    let mut objects = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                objects.insert(key, std::fs::read(&path).unwrap().into());
            }
        }
    }
    objects
}

fn open(name: &str) -> Result<Vault, VaultError> {
    Vault::open(Arc::new(MemoryObjects::with(objects(name))), &"fixture".into(), &doors().0)
}

/// What is in a vault: path, size and digest of each file, targets of links.
fn contents(vault: &Vault) -> String {
    let mut text = String::new();
    for snapshot in vault.snapshots().unwrap() {
        let Snapshot { id, time, hostname, paths, tags, .. } = &snapshot;
        writeln!(text, "snapshot {id} {time} {hostname} {paths:?} {tags:?}").unwrap();
        for entry in vault.entries(&snapshot).unwrap() {
            let (path, mode, mtime) = (entry.path.display(), entry.meta.mode, entry.meta.mtime);
            match &entry.kind {
                EntryKind::File { size, .. } => {
                    let mut bytes = Vec::new();
                    vault.read_entry(&entry, &mut bytes, &|_| {}, &Stop::default()).unwrap();
                    writeln!(text, "  file {path} {mode:o} {mtime} {size} {}", Id::of(&bytes)).unwrap();
                }
                EntryKind::Folder { .. } => writeln!(text, "  folder {path} {mode:o} {mtime}").unwrap(),
                EntryKind::Link { target } => writeln!(text, "  link {path} -> {}", target.display()).unwrap(),
                EntryKind::Other(word) => writeln!(text, "  {word} {path}").unwrap(),
            }
        }
    }
    text
}

/// What is wrong with a vault.
fn damage(report: &CheckReport) -> String {
    let mut text = String::new();
    for damage in &report.damage {
        let affects: Vec<String> = damage.affects.iter().map(Id::short).collect();
        writeln!(text, "{}: {} (affects {})", damage.object, damage.what, affects.join(", ")).unwrap();
    }
    text
}

fn expected(name: &str) -> String {
    std::fs::read_to_string(folder(&format!("{name}.txt"))).unwrap()
}

fn check_good(name: &str) {
    let vault = open(name).unwrap();
    let report = check(&vault, ReadData::All).unwrap();
    assert!(report.is_clean() && report.foreign.is_empty(), "{name}: {report:#?}");
    assert_eq!(contents(&vault), expected(name), "{name}");
}

fn check_damaged(name: &str, read_data: ReadData) {
    let report = check(&open(name).unwrap(), read_data).unwrap();
    assert_eq!(damage(&report), expected(name), "{name}");
}

#[test]
fn good_ones_are_read() {
    check_good("lifeboat");
    check_good("restic-v1");
    check_good("restic-v2");
}

#[test]
fn broken_ones_are_reported() {
    check_damaged("damaged-flipped-blob", ReadData::All);
    check_damaged("damaged-missing-pack", ReadData::None);
    check_damaged("damaged-cut-index", ReadData::None);
    check_damaged("damaged-empty-snapshot", ReadData::None);
    let error = open("damaged-lost-key").unwrap_err();
    assert_eq!(error.to_string(), "every key file is missing from the vault");
}

#[test]
fn marks_of_an_earlier_prune_are_understood() {
    let vault = open("lifeboat").unwrap();
    let marked = check(&vault, ReadData::None).unwrap().marked_packs;
    assert!(marked.count > 0);
    // The twins' clock stands before the marks were made: nothing is old enough.
    let waiting = vault.plan_prune(&PruneOptions::default()).unwrap();
    assert_eq!((waiting.waiting, waiting.deleted.count), (marked, 0));
    let (io, clock) = doors();
    clock.jump_to("2026-11-21T12:00:01Z".parse().unwrap());
    let store = Arc::new(MemoryObjects::with(objects("lifeboat")));
    let vault = Vault::open(store, &"fixture".into(), &io).unwrap();
    assert_eq!(vault.prune(&PruneOptions::default()).unwrap().deleted, marked);
    assert_eq!(contents(&vault), expected("lifeboat"));
}

#[test]
fn damaged_ones_are_not_pruned() {
    for name in ["damaged-missing-pack", "damaged-cut-index", "damaged-empty-snapshot"] {
        let store = Arc::new(MemoryObjects::with(objects(name)));
        let vault = Vault::open(store.clone(), &"fixture".into(), &doors().0).unwrap();
        let error = vault.prune(&PruneOptions::default()).unwrap_err();
        assert!(matches!(error, VaultError::Damaged { .. } | VaultError::Missing { .. }), "{name}: {error:?}");
        assert_eq!(store.all(), objects(name), "{name}: nothing is touched");
    }
}
