//! What the vault's tests share: a throwaway vault, bytes that look like a database's, and the real restic beside it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod memory;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use lifeboat_io::{Io, objects::folder::Folder};
use lifeboat_store::vault::{BackupOptions, BackupWriter, EntryMeta, SnapshotMeta, Vault};
use secrecy::SecretString;

pub const PASSWORD: &str = "correct horse battery staple";

/// A folder that goes away with it; the vault lies in `vault` below it.
pub struct World {
    pub folder: tempfile::TempDir,
    pub io: Io,
}

impl World {
    pub fn new() -> World {
        World { folder: tempfile::tempdir().unwrap(), io: Io::system() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn store(&self) -> Arc<Folder> {
        Arc::new(Folder::new(self.path("vault")))
    }

    pub fn create(&self) -> Vault {
        Vault::create(self.store(), &password(), &self.io).unwrap()
    }

    pub fn open(&self) -> Vault {
        Vault::open(self.store(), &password(), &self.io).unwrap()
    }

    /// Runs restic on the vault.
    pub fn restic(&self, arguments: &[&str]) -> Output {
        Command::new("restic")
            .args(["--no-cache", "--repo"])
            .arg(self.path("vault"))
            .args(arguments)
            .env("RESTIC_PASSWORD", PASSWORD)
            .current_dir(self.folder.path())
            .output()
            .expect("restic is installed")
    }

    /// Runs restic on the vault, gives what it says, and fails the test when restic fails.
    pub fn restic_ok(&self, arguments: &[&str]) -> String {
        let output = self.restic(arguments);
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "restic {arguments:?}: {said}{complained}");
        said + &complained
    }

    /// Every byte of the vault read and checked by restic.
    pub fn restic_checks(&self) {
        let said = self.restic_ok(&["check", "--read-data"]);
        assert!(said.contains("no errors were found"), "{said}");
        assert!(!said.to_lowercase().contains("warning"), "{said}");
    }

    /// Files below a folder of the vault.
    pub fn objects(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("vault").join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }
}

pub fn password() -> SecretString {
    SecretString::from(PASSWORD)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Entries of this age and mode.
pub fn meta(mode: u32) -> EntryMeta {
    EntryMeta::new(mode, "2026-03-04T05:06:07.891234567Z".parse().unwrap())
}

pub fn snapshot_meta() -> SnapshotMeta {
    SnapshotMeta {
        time: "2026-03-05T00:00:00.5Z".parse().unwrap(),
        hostname: "harbour".into(),
        username: "keeper".into(),
        paths: vec!["/shop/production".into()],
        tags: vec!["nightly".into(), "app:shop".into()],
        extra: serde_json::json!({"recovery_point": "2026-03-04T23:59:59Z"}),
    }
}

/// Puts one whole file into a backup.
pub fn put(writer: &BackupWriter, path: &str, bytes: &[u8]) {
    let mut stream = writer.stream(path, &meta(0o640)).unwrap();
    // In pieces of an odd size, as a network gives them.
    bytes.chunks(33_333).for_each(|piece| stream.write_all(piece).unwrap());
    assert_eq!(stream.finish().unwrap().bytes, bytes.len() as u64);
}

pub fn begin(vault: &Vault) -> BackupWriter {
    vault.begin(BackupOptions::default()).unwrap()
}

/// Lines like a table's `COPY`: they compress, and no two blobs are alike.
pub fn rows(seed: u64, bytes: usize) -> Vec<u8> {
    let mut table = Vec::with_capacity(bytes + 200);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut id = 0_u64;
    while table.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        id += 1;
        let status = ["paid", "open", "shipped", "returned"][(state % 4) as usize];
        writeln!(table, "{id}\t2026-01-01 00:00:00+00\t{status}\t{:x}\t{}.{:02}", state, state % 9999, state % 100)
            .unwrap();
    }
    table.truncate(bytes);
    table
}

/// Bytes that do not compress.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

/// A file of a snapshot.
pub fn read(vault: &Vault, snapshot: &lifeboat_store::vault::Snapshot, path: impl AsRef<Path>) -> Vec<u8> {
    let mut bytes = Vec::new();
    vault.read_file(snapshot, path, &mut bytes, &|_| {}, &lifeboat_io::Stop::default()).unwrap();
    bytes
}
