//! Who has a file open. Before a database is swapped, nobody may be using the old one: a program that keeps writing to
//! a renamed file loses every write, and its `-wal` lands beside the new one.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{FlockOperation, fcntl_lock},
    process::{Flock, FlockType, fcntl_getlk},
};

use crate::database::sqlite::sidecar;

/// Who uses a file, as far as we may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Those we saw, by process id.
    pub found: Vec<Holder>,
    /// Processes whose open files we may not look at: they may or may not hold it. Empty when we are root.
    pub unseen: Vec<Process>,
}

/// A process that uses the file, and how we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which process.
    pub process: Process,
    /// What it holds.
    pub how: Hold,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id; 0 when it is in another container and has no id in ours.
    pub pid: u32,
    /// Its name, 15 bytes at most.
    pub name: String,
}

/// How a process holds a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A descriptor of this file: the database itself or one of its sidecars.
    Open(PathBuf),
    /// A lock on this file, through a descriptor we did not see.
    Lock(PathBuf),
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => write!(f, "a process outside this container"),
            pid => write!(f, "{} (process {pid})", self.name),
        }
    }
}

/// The names of those found, for a sentence; nothing when there are none.
impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processes: BTreeSet<&Process> = self.found.iter().map(|holder| &holder.process).collect();
        for (index, process) in processes.iter().enumerate() {
            write!(f, "{}{process}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Finds every other process that has the file, its `-wal`, `-shm` or `-journal` open or locked. Never opens the file,
/// hence drops no lock of ours. Sees neither other hosts (NFS) nor containers whose processes are not in our `/proc`.
///
/// # Errors
/// When `/proc` or the file itself cannot be looked at. A file that is not there has no holders.
pub fn holders(path: &Path) -> io::Result<Holders> {
    let mut wanted: Vec<(u64, u64, PathBuf)> = Vec::new();
    for name in [path.to_owned(), sidecar(path, "-wal"), sidecar(path, "-shm"), sidecar(path, "-journal")] {
        match fs::metadata(&name) {
            Ok(facts) => wanted.push((facts.dev(), facts.ino(), name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut holders = Holders::default();
    if wanted.is_empty() {
        return Ok(holders);
    }
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid != std::process::id() {
            look_at(pid, &entry.path(), &wanted, &mut holders);
        }
    }
    add_locks(&wanted, &mut holders);
    holders.found.sort_by(|a, b| a.process.cmp(&b.process));
    holders.unseen.sort();
    Ok(holders)
}

fn look_at(pid: u32, folder: &Path, wanted: &[(u64, u64, PathBuf)], holders: &mut Holders) {
    let process = || Process { pid, name: name_of(pid) };
    let descriptors = match fs::read_dir(folder.join("fd")) {
        Ok(descriptors) => descriptors,
        // Kernel threads have no command line and hold no database.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            if fs::read(folder.join("cmdline")).is_ok_and(|line| !line.is_empty()) {
                holders.unseen.push(process());
            }
            return;
        }
        Err(_) => return, // it has ended in the meantime
    };
    for descriptor in descriptors.flatten() {
        // Sockets and pipes are not asked: `stat` through a descriptor on a lost network mount may hang.
        let points_to_file = fs::read_link(descriptor.path()).is_ok_and(|target| target.is_absolute());
        let Some(facts) = points_to_file.then(|| fs::metadata(descriptor.path()).ok()).flatten() else { continue };
        if let Some((_, _, name)) = wanted.iter().find(|(dev, ino, _)| (*dev, *ino) == (facts.dev(), facts.ino())) {
            let holder = Holder { process: process(), how: Hold::Open(name.clone()) };
            if !holders.found.contains(&holder) {
                holders.found.push(holder);
            }
        }
    }
}

/// Adds locks of processes whose descriptors we could not see. `1: POSIX  ADVISORY  WRITE 708 00:2f:13 0 EOF`
fn add_locks(wanted: &[(u64, u64, PathBuf)], holders: &mut Holders) {
    let Ok(table) = fs::read_to_string("/proc/locks") else { return };
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "->").collect();
        let [_, _, _, _, pid, file, ..] = words[..] else { continue };
        let Some((dev, ino)) = device_and_inode(file) else { continue };
        let Some((_, _, name)) = wanted.iter().find(|(d, i, _)| (*d, *i) == (dev, ino)) else { continue };
        let pid = pid.parse::<u32>().unwrap_or(0); // -1: the lock belongs to a description, not to a process
        let known = holders.found.iter().any(|holder| holder.process.pid == pid);
        if pid != std::process::id() && !known && (pid != 0 || holders.found.is_empty()) {
            let process = Process { pid, name: name_of(pid) };
            holders.unseen.retain(|unseen| unseen.pid != pid);
            holders.found.push(Holder { process, how: Hold::Lock(name.clone()) });
        }
    }
}

fn device_and_inode(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.split(':');
    let major = u32::from_str_radix(parts.next()?, 16).ok()?;
    let minor = u32::from_str_radix(parts.next()?, 16).ok()?;
    Some((rustix::fs::makedev(major, minor), parts.next()?.parse().ok()?))
}

pub(crate) fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim().is_empty() { "?".to_owned() } else { name.trim().to_owned() }
}

/// A write lock over all bytes of a file, the way SQLite locks: as long as it is held, no SQLite connection of another
/// process can read or write the database (they get SQLITE_BUSY), in WAL mode as well as with a rollback journal.
///
/// Such locks belong to the process: they vanish when *any* descriptor of the file is closed in it. [`OwnUse`] keeps
/// other threads of ours away meanwhile.
#[derive(Debug)]
pub struct WholeLock {
    // Closed, and thereby unlocked, before the turn is given up.
    _file: fs::File,
    _own: OwnUse,
}

/// Why a file could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process is reading or writing it.
    #[error("{} is locked by {process}", path.display())]
    Held {
        /// The file.
        path: PathBuf,
        /// By whom.
        process: Process,
    },
    /// Another thread of ours is copying or swapping it.
    #[error("{} is being copied or swapped by another task of lifeboat", path.display())]
    OwnUse {
        /// The file.
        path: PathBuf,
    },
    /// It could not be opened for writing, or the file system has no locks.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl WholeLock {
    /// Takes the lock at once or says who is in the way.
    ///
    /// # Errors
    /// [`LockError`]
    pub fn take(path: &Path) -> Result<WholeLock, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let Some(own) = OwnUse::enter(path).map_err(failed)? else {
            return Err(LockError::OwnUse { path: path.to_owned() });
        };
        let file = fs::OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(WholeLock { _file: file, _own: own }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                let pid = locked_by(&file).unwrap_or(0);
                Err(LockError::Held { path: path.to_owned(), process: Process { pid, name: name_of(pid) } })
            }
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

/// The process that has any lock on the file; 0 when it has no id here. Asks through a descriptor that the caller
/// already has.
pub(crate) fn locked_by(file: &fs::File) -> Option<u32> {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock)).ok().flatten()?;
    Some(lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs()))
}

/// The process that has any lock on a file, also when we may not look at it, or it is in another container: nothing when
/// nobody has. In WAL mode every SQLite connection holds one for as long as it is open; with a rollback journal only one
/// that reads or writes just now. Takes no lock itself, so that nobody is held up by the question.
///
/// # Errors
/// When the file cannot be opened, or is in use by another task of ours, whose locks closing it would free.
pub fn lock_holder(path: &Path) -> Result<Option<Process>, LockError> {
    let failed = |source| LockError::Io { path: path.to_owned(), source };
    let Some(_own) = OwnUse::enter(path).map_err(failed)? else {
        return Err(LockError::OwnUse { path: path.to_owned() });
    };
    let file = fs::OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    Ok(locked_by(&file).map(|pid| Process { pid, name: name_of(pid) }))
}

/// This process's turn at a live database file, by device and inode. POSIX locks are dropped as soon as any thread
/// closes any descriptor of the file, so that two of our tasks at the same file would silently unlock each other.
#[derive(Debug)]
pub struct OwnUse {
    file: (u64, u64),
}

static IN_USE: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

impl OwnUse {
    /// Takes the turn, or nothing while another task has it.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn enter(path: &Path) -> io::Result<Option<OwnUse>> {
        let facts = fs::metadata(path)?;
        let file = (facts.dev(), facts.ino());
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        // Not `then_some`: an `OwnUse` that is made and dropped at once would give the other's turn back.
        Ok(in_use.insert(file).then(|| OwnUse { file }))
    }
}

impl Drop for OwnUse {
    fn drop(&mut self) {
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.file);
    }
}
