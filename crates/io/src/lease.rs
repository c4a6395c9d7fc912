//! A lock between processes of one host: one file that is never deleted, locked while somebody works, with a note of
//! who that is and an epoch that grows with each grant.
//!
//! ```text
//! offset 0      slot of even epochs   one JSON line, spaces, a line feed
//! offset 4096   slot of odd epochs    the same
//! ```
//! A grant writes the slot of its own epoch and leaves the other alone, so that a crash in the middle of it costs no
//! epoch that was ever in use. The lock itself is the kernel's (`flock`): it is free when the last descriptor is
//! closed, which is ours, or that of a program that works under it ([`crate::exec::Invocation::under_lock`]).

mod holder;
mod slots;
mod wish;

pub use holder::Process;
pub use wish::{Asked, Patience, Wish, ask, asked};

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use lifeboat_model::{Timestamp, Tri};
use serde::{Deserialize, Serialize};

use crate::files::{self, AtPath, PathError};

/// Who wants the lock, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The person or service.
    pub who: String,
    /// The host, as [`crate::Env::host`] names it.
    pub host: String,
    /// Now.
    pub since: Timestamp,
    /// The operation's id, when there is one.
    pub operation: Option<String>,
    /// What is being done, in a few words: `restore shop/production`.
    pub why: String,
    /// Whether the work stops at its next safe point when somebody asks for the lock.
    pub makes_way: bool,
}

/// What the lock file says about its holder, or about the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockNote {
    /// The grant's number; the next is one more.
    pub epoch: u64,
    /// The person or service.
    pub who: String,
    /// The host.
    pub host: String,
    /// The process.
    pub process: Process,
    /// When the lock was granted.
    pub since: Timestamp,
    /// The operation's id, when there is one.
    pub operation: Option<String>,
    /// What is being done.
    pub why: String,
    /// Whether the work stops at its next safe point when somebody asks for the lock.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub makes_way: bool,
}

/// A lock that is held. Dropping it frees it, unless a program that was started under it is still running.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    note: LockNote,
    file: Arc<File>,
    found_anew: bool,
}

impl FileLock {
    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says about us.
    pub fn note(&self) -> &LockNote {
        &self.note
    }

    /// The grant's number. An effect that carries a smaller one than the place has seen must be refused there.
    pub fn epoch(&self) -> u64 {
        self.note.epoch
    }

    /// Another grant to who has it already: for the next of several pieces of work that nobody may come between.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn grant_again(&mut self, claim: &Claim) -> Result<(), PathError> {
        let note = note_of(claim, self.note.epoch + 1);
        slots::write(&self.file, &note).at(&self.path)?;
        self.note = note;
        Ok(())
    }

    /// Whether the file had no epoch in it that could be read, so that this one was taken from elsewhere.
    pub fn is_found_anew(&self) -> bool {
        self.found_anew
    }

    /// Whether the lock's file is the one at its path; not so when somebody deleted or replaced it.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn is_in_place(&self) -> Result<bool, PathError> {
        is_at(&self.file, &self.path)
    }
}

/// Somebody has the lock.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Held {
    /// The lock file.
    pub path: PathBuf,
    /// Who, as far as the file tells.
    pub note: Option<LockNote>,
    /// Whether the process in the note lives: pass when it does, fail when it has ended (then a program that it started
    /// still works under its lock), unknown when it cannot be told from here.
    pub alive: Tri,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(note) = &self.note else {
            return write!(f, "{} is locked by somebody who left no note", self.path.display());
        };
        write!(f, "{} is locked by {} on {} since {}", self.path.display(), note.who, note.host, note.since)?;
        write!(f, " for \"{}\"", note.why)?;
        if let Some(operation) = &note.operation {
            write!(f, " (operation {operation})")?;
        }
        match self.alive {
            Tri::Pass => write!(f, "; process {} is running", note.process.id),
            Tri::Unknown => write!(f, "; whether process {} is running cannot be told from here", note.process.id),
            Tri::Fail => write!(f, "; process {} has ended, but a program it started is running", note.process.id),
        }
    }
}

/// Why the lock was not granted.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(transparent)]
    Held(Box<Held>),
    /// The lock file cannot be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The file holds something, but no epoch that can be trusted. Guessing one could let an older holder's effects
    /// through.
    #[error("{} is damaged: no epoch can be read from it", path.display())]
    Damaged {
        /// The lock file.
        path: PathBuf,
    },
}

/// Takes the lock, or says who has it. Does not wait.
///
/// # Errors
/// It is held; the file cannot be opened, locked or written; no epoch can be read from it.
pub fn take(path: &Path, claim: &Claim) -> Result<FileLock, LockError> {
    take_after(path, claim, &|| 0)
}

/// [`take`] where epochs can be learned elsewhere too: `used` gives the greatest that is known to have been in use, 0 when
/// none is. It is asked only when the file itself tells nothing: it is new, was deleted, or both its slots are damaged.
///
/// # Errors
/// As [`take`]; a damaged file only when nothing is known elsewhere.
pub fn take_after(path: &Path, claim: &Claim, used: &dyn Fn() -> u64) -> Result<FileLock, LockError> {
    files::create_folder(files::parent(path))?;
    let file = loop {
        let file = open(path).at(path)?;
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(Box::new(look(path)?))),
            Err(TryLockError::Error(source)) => return Err(PathError { path: path.to_owned(), source }.into()),
        }
        // Between opening and locking, somebody may have put another file there: a lock on the old one is worth
        // nothing.
        if is_at(&file, path)? {
            break file;
        }
    };
    let slots = slots::read(&file).at(path)?;
    let known = if slots.newest.is_none() { used() } else { 0 };
    let epoch = match (slots.next_epoch(), known) {
        (None, 0) => return Err(LockError::Damaged { path: path.to_owned() }),
        (next, known) => next.unwrap_or(0).max(known + 1),
    };
    let note = note_of(claim, epoch);
    slots::write(&file, &note).at(path)?;
    files::sync_folder(files::parent(path)).at(path)?;
    let lock = FileLock { path: path.to_owned(), note, file: Arc::new(file), found_anew: known > 0 };
    remember(&lock);
    Ok(lock)
}

fn note_of(claim: &Claim, epoch: u64) -> LockNote {
    LockNote {
        epoch,
        who: claim.who.clone(),
        host: claim.host.clone(),
        process: Process::this(),
        since: claim.since,
        operation: claim.operation.clone(),
        why: claim.why.clone(),
        makes_way: claim.makes_way,
    }
}

/// What the lock file says now, without taking the lock: the holder, or the last one. None when there never was one.
///
/// # Errors
/// The file cannot be read.
pub fn read_note(path: &Path) -> Result<Option<LockNote>, PathError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at(path),
        Ok(file) => Ok(slots::read(&file).at(path)?.newest),
    }
}

/// Whether the lock file holds something, and nothing in it can be read.
///
/// # Errors
/// The file cannot be read.
pub fn is_damaged(path: &Path) -> Result<bool, PathError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at(path),
        Ok(file) => Ok(slots::read(&file).at(path)?.next_epoch().is_none()),
    }
}

fn look(path: &Path) -> Result<Held, PathError> {
    let note = read_note(path)?;
    let alive = note.as_ref().map_or(Tri::Unknown, |note| note.process.is_alive());
    Ok(Held { path: path.to_owned(), note, alive })
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)
}

/// Tries for a moment: a program that is being started holds copies of all our descriptors until it is, so a lock that
/// was freed just now may look busy for about a millisecond.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..5 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            done => return done,
        }
    }
    file.try_lock()
}

fn is_at(file: &File, path: &Path) -> Result<bool, PathError> {
    let ours = file.metadata().at(path)?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at(path),
    }
}

/// The locks of this process, by path, so that a program can be started under one that its invocation only names.
static HELD: Mutex<Vec<(PathBuf, Weak<File>)>> = Mutex::new(Vec::new());

fn remember(lock: &FileLock) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.retain(|(_, file)| file.strong_count() > 0);
    held.push((lock.path.clone(), Arc::downgrade(&lock.file)));
}

/// Another descriptor of a lock this process holds; while it is open anywhere, the lock is busy.
pub(crate) fn held_descriptor(path: &Path) -> Option<OwnedFd> {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let file = held.iter().rev().find(|(known, _)| known == path).and_then(|(_, file)| file.upgrade())?;
    file.try_clone().ok().map(OwnedFd::from)
}
