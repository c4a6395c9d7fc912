//! The vault: where backups lie. A valid restic repository (format version 2) on any [`ObjectStore`], written and read by our
//! own code; `restic` is the oracle in our tests and the user's way out.
//!
//! ```text
//! config                     version, id, chunker secret        made last, and only if there is none
//! keys/<digest>              the master key, sealed with a password
//! data/<ab>/<digest>         packs: many sealed blobs            written first
//! index/<digest>             which blob lies where               written when its packs are there
//! snapshots/<digest>         one backup                          written when everything else is there
//! locks/<digest>             who uses the vault
//! ```
//!
//! Objects are never changed. What a crash leaves behind is unreferenced, never half there.

mod check;
mod chunk;
mod config;
mod copy;
mod error;
mod file;
mod folder;
mod id;
mod index;
mod key;
mod lock;
mod pack;
mod parallel;
mod patch;
mod pipeline;
mod prune;
mod read;
mod seal;
mod snapshot;
mod tree;
mod verify;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_io::{Io, ObjectErrorKind, ObjectStore};
use secrecy::SecretString;

use config::Config;
use index::Index;
use key::Opened;
use seal::{RawKey, Sealer};

pub use check::{CheckOptions, CheckReport, Damage, ReadData, Tally};
pub use copy::Copied;
pub use error::VaultError;
pub use id::{Id, SnapshotId};
pub use lock::{LockHolder, LockKind, VaultLock};
pub use pack::BlobKind;
pub use patch::Patched;
pub use prune::{PruneOptions, PruneReport};
pub use read::Entry;
pub use snapshot::{ForgottenSnapshot, Snapshot, SnapshotMeta, SnapshotSurvey};
pub use tree::{EntryKind, EntryMeta};
pub use verify::VerifiedSnapshot;
pub use write::{BackupOptions, BackupWriter, Committed, StoredFile, StreamWriter};

/// An open vault. Clones share it; every method may be called from any thread.
#[derive(Clone, Debug)]
pub struct Vault {
    core: Arc<Core>,
}

/// What every part of an open vault needs.
pub(crate) struct Core {
    store: Arc<dyn ObjectStore>,
    io: Io,
    config: Config,
    sealer: Sealer,
    /// As it was when somebody last asked.
    index: Mutex<Arc<Index>>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Core({})", self.store.place())
    }
}

impl Vault {
    /// Makes a vault. Of several who try at once one succeeds.
    ///
    /// # Errors
    /// [`VaultError::AlreadyThere`] when there is one.
    pub fn create(store: Arc<dyn ObjectStore>, password: &SecretString, io: &Io) -> Result<Vault, VaultError> {
        Vault::create_with(store, password, io, Config::random(&*io.random))
    }

    /// Makes a vault with this config.
    fn create_with(
        store: Arc<dyn ObjectStore>,
        password: &SecretString,
        io: &Io,
        config: Config,
    ) -> Result<Vault, VaultError> {
        let already_there = || VaultError::AlreadyThere { place: store.place() };
        if find_object(&*store, config::KEY)?.is_some() {
            return Err(already_there());
        }
        let foreign_keys = list_keys(&*store)?;
        let master = key::random_master(&*io.random);
        let serialized = |error: serde_json::Error| VaultError::Start { what: "the vault", source: error.into() };
        let key_file = key::write(&master, password, io).map_err(serialized)?;
        let key_name = file::object_key(key::FOLDER, Id::of(&key_file));
        store.put(&key_name, key_file.into()).map_err(VaultError::object("write the vault's key"))?;

        let vault = Vault::assemble(store.clone(), io, master, config);
        let plain = serde_json::to_vec(&vault.core.config).map_err(serialized)?;
        let stored = store.put_new(config::KEY, vault.core.sealer.seal(&plain).into());
        if !stored.map_err(VaultError::object("write the vault's config"))? {
            // Somebody was faster; our key opens nothing.
            store.delete(&key_name).map_err(VaultError::object("take back the key of a vault that was not made"))?;
            return Err(already_there());
        }
        // Keys from an attempt that died open nothing either, and restic would stumble over one with the same password.
        for name in foreign_keys {
            store.delete(&name).map_err(VaultError::object("clear away the key of an earlier attempt"))?;
        }
        Ok(vault)
    }

    /// Opens the vault in a place, with the password of any of its key files. Takes a tenth of a second for each key file.
    ///
    /// # Errors
    /// [`VaultError::NoVault`], [`VaultError::WrongPassword`], [`VaultError::TooNew`]; [`VaultError::Missing`] and
    /// [`VaultError::Damaged`] when a vault has lost its config or its keys.
    pub fn open(store: Arc<dyn ObjectStore>, password: &SecretString, io: &Io) -> Result<Vault, VaultError> {
        let keys = list_keys(&*store)?;
        let Some(stored) = find_object(&*store, config::KEY)? else {
            return Err(match keys.len() {
                0 => VaultError::NoVault { place: store.place() },
                _ => VaultError::Missing { object: config::KEY.to_owned() },
            });
        };
        if keys.is_empty() {
            return Err(VaultError::Missing { object: "every key file".to_owned() });
        }
        let (mut damage, mut damaged_keys, mut wrong, mut foreign) = (None, 0, 0, 0);
        for name in keys {
            let Some(file) = find_object(&*store, &name)? else { continue };
            match key::open(&file, password, &io.random) {
                Opened::Key(master) => {
                    let sealer = Sealer::new(master.clone(), io.random.clone());
                    match Config::open(&stored, &sealer, &store.place()) {
                        Some(config) => return Ok(Vault::assemble(store, io, master, config?)),
                        None => foreign += 1,
                    }
                }
                Opened::WrongPassword => wrong += 1,
                Opened::Damaged(what) => {
                    damaged_keys += 1;
                    damage = Some(VaultError::damaged(name, what));
                }
            }
        }
        Err(match damage {
            // The password is right for a key, so it is the config that does not fit.
            _ if foreign > 0 => VaultError::damaged(config::KEY, "no key of this password opens it"),
            Some(damage) if wrong == 0 => damage,
            _ => VaultError::WrongPassword { place: store.place(), damaged_keys },
        })
    }

    fn assemble(store: Arc<dyn ObjectStore>, io: &Io, master: RawKey, config: Config) -> Vault {
        let sealer = Sealer::new(master, io.random.clone());
        Vault { core: Arc::new(Core { store, io: io.clone(), config, sealer, index: Mutex::default() }) }
    }

    /// The vault's own id, hex: the same wherever it is copied to.
    pub fn id(&self) -> &str {
        &self.core.config.id
    }

    /// Where it lies, for people: a path or a URL without secrets.
    pub fn place(&self) -> String {
        self.core.store.place()
    }

    /// A secret of this vault for some purpose. Whoever does not have the master key cannot compute it, and it tells
    /// nothing about the key.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        self.core.sealer.derive(&[b"lifeboat ", purpose.as_bytes()])
    }
}

/// The whole object, or nothing when there is none.
fn find_object(store: &dyn ObjectStore, key: &str) -> Result<Option<bytes::Bytes>, VaultError> {
    match store.get(key) {
        Ok(body) => Ok(Some(body)),
        Err(error) if error.kind == ObjectErrorKind::Missing => Ok(None),
        Err(error) => Err(VaultError::object(format!("read the vault's {key}"))(error)),
    }
}

/// Names of all key files. A place that is not there has none.
fn list_keys(store: &dyn ObjectStore) -> Result<Vec<String>, VaultError> {
    match store.list(key::FOLDER) {
        Ok(listed) => Ok(listed.into_iter().map(|object| object.key).collect()),
        Err(error) if error.kind == ObjectErrorKind::Missing => Ok(Vec::new()),
        Err(error) => Err(VaultError::object("list the vault's keys")(error)),
    }
}

/// Locks a mutex. A thread that panicked while it held it has failed the backup by other means.
fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
