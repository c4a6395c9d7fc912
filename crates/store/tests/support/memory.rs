//! Vaults in memory, with twins for the doors: quick to make, to damage and to throw away.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use lifeboat_io::{
    Io, ObjectStore, Stop, SystemRandom,
    testing::{ManualClock, MemoryObjects, twin_io},
};
use lifeboat_store::vault::{
    BackupOptions, CheckOptions, CheckReport, EntryKind, ReadData, Snapshot, SnapshotMeta, Vault, VaultError,
};

use super::{PASSWORD, meta, password, put, snapshot_meta};

/// What each snapshot must hold, by its name.
pub type Contents = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Doors that lead nowhere but to real randomness, and the clock.
pub fn doors() -> (Io, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (Io { clock: clock.clone(), random: Arc::new(SystemRandom), ..twin_io() }, clock)
}

pub fn open(store: Arc<dyn ObjectStore>, io: &Io) -> Result<Vault, VaultError> {
    Vault::open(store, &password(), io)
}

/// Makes a backup of these files, and notes what is in it.
pub fn back_up(vault: &Vault, files: &[(&str, &[u8])], contents: &mut Contents) -> Snapshot {
    let options = BackupOptions { average_chunk_bytes: Some(16 << 10), ..BackupOptions::default() };
    let writer = vault.begin(options).unwrap();
    files.iter().for_each(|(path, bytes)| put(&writer, path, bytes));
    writer.folder("empty", &meta(0o700)).unwrap();
    let time = snapshot_meta().time + Duration::from_secs(60 * contents.len() as u64);
    let snapshot = writer.commit(SnapshotMeta { time, ..snapshot_meta() }).unwrap().snapshot;
    let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
    contents.insert(snapshot.id.hex(), files);
    snapshot
}

/// Reads every file of every snapshot that is there, and compares. Returns the names of the snapshots.
pub fn assert_restores(vault: &Vault, contents: &Contents, context: &str) -> Vec<String> {
    let snapshots = vault.snapshots().unwrap_or_else(|error| panic!("{context}: {error:?}"));
    for snapshot in &snapshots {
        let expected = &contents[&snapshot.id.hex()];
        let entries = vault.entries(snapshot).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        let files = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. })).count();
        assert_eq!(files, expected.len(), "{context}");
        for (path, bytes) in expected {
            let read = try_read(vault, snapshot, path).unwrap_or_else(|error| panic!("{context}: {path}: {error:?}"));
            assert!(read == *bytes, "{context}: {path} differs");
        }
    }
    snapshots.iter().map(|snapshot| snapshot.id.hex()).collect()
}

pub fn try_read(vault: &Vault, snapshot: &Snapshot, path: &str) -> Result<Vec<u8>, VaultError> {
    let mut bytes = Vec::new();
    vault.read_file(snapshot, path, &mut bytes, &|_| {}, &Stop::default())?;
    Ok(bytes)
}

pub fn check(vault: &Vault, read_data: ReadData) -> Result<CheckReport, VaultError> {
    vault.check(&CheckOptions { read_data, stop: Stop::default() }, &|_, _| {})
}

pub fn assert_clean(vault: &Vault, context: &str) -> CheckReport {
    let report = check(vault, ReadData::All).unwrap_or_else(|error| panic!("{context}: {error:?}"));
    assert!(report.is_clean(), "{context}: {:#?}", report.damage);
    report
}

/// Everything but the locks: those of a process that died would go stale.
pub fn without_locks(objects: BTreeMap<String, Bytes>) -> BTreeMap<String, Bytes> {
    objects.into_iter().filter(|(key, _)| !key.starts_with("locks/")).collect()
}

/// Puts the objects into a folder, for the real restic.
pub fn write_out(objects: &BTreeMap<String, Bytes>, folder: &Path) {
    for (key, body) in objects {
        let path = folder.join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
    for empty in ["data", "index", "snapshots", "locks", "keys"] {
        std::fs::create_dir_all(folder.join(empty)).unwrap();
    }
}

/// Every byte read and checked by the real restic.
pub fn restic_checks(objects: &BTreeMap<String, Bytes>, context: &str) {
    let folder = tempfile::tempdir().unwrap();
    write_out(objects, folder.path());
    let output = std::process::Command::new("restic")
        .args(["--no-cache", "check", "--read-data", "--repo"])
        .arg(folder.path())
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()
        .expect("restic is installed");
    let said = super::text(&output.stdout) + &super::text(&output.stderr);
    assert!(output.status.success() && said.contains("no errors were found"), "{context}: {said}");
}

/// A store over a copy of these objects.
pub fn memory(objects: &BTreeMap<String, Bytes>) -> Arc<MemoryObjects> {
    Arc::new(MemoryObjects::with(objects.clone()))
}
