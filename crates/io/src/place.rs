//! The hands of a swap: a live database or file goes aside, another takes its place, and back.
//!
//! Every move is one `rename` that never replaces anything, so that after a crash at any point the names alone say how
//! far it came, and doing it again, or its opposite, goes on from there:
//!
//! ```text
//!   set_aside     live-wal -> kept-wal     live-shm -> ...     live-journal -> ...     live -> kept      put_in_place
//!   bring_back    kept-wal -> live-wal     kept-shm -> ...     kept-journal -> ...     kept -> live      take_away
//!                 <-------------------------------- undone from the right to the left
//!   NotStarted    live is there, nothing is kept
//!   Partial       live is there, some sidecars are kept
//!   Done          kept is there
//! ```
//!
//! A database without its `-wal` is another database, therefore nobody may open it between two of these renames: the
//! moves refuse while another process has it open, and hold a lock that keeps SQLite out. Should a crash end that lock
//! in between *and* a program start on the half, that is noticed by its writes being younger than the move, and left to
//! a person.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Gid, RenameFlags, Uid, renameat_with};

use crate::{
    database::sqlite::{SIDECARS, sidecar},
    files::{parent, sync_folder},
    holders::{Holders, LockError, Process, WholeLock, holders},
    stop::{Stop, Stopped},
};

/// What is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A SQLite database: moves with its sidecars, and only while nobody has it open.
    Database,
    /// A file or a folder: one name, open or not.
    Plain,
}

impl Thing {
    fn sidecars(self) -> &'static [&'static str] {
        match self {
            Thing::Database => &SIDECARS,
            Thing::Plain => &[],
        }
    }
}

/// How far a move came, as the names tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceState {
    /// Everything is where it was.
    NotStarted,
    /// Everything is where it should go.
    Done,
    /// Some of it was moved.
    Partial,
    /// The names fit none of these: a person has to look.
    Unknown,
}

/// What a move did, beyond what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Files that were moved now, by their new names; none when it was done before.
    pub files: Vec<PathBuf>,
    /// Something a program had created meanwhile where ours belongs, and where it was put.
    pub moved_away: Vec<(PathBuf, PathBuf)>,
    /// Processes whose open files could not be looked at. The lock shows that none of them was using a database.
    pub unseen: Vec<Process>,
    /// What could not be kept of owner and permissions, as a sentence.
    pub note: Option<String>,
}

/// Why a move was not made. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Nothing is there to be moved.
    #[error("there is nothing at {}", path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// Other processes use it.
    #[error("{} is in use by {holders}; stop it first", path.display())]
    Held {
        /// The database.
        path: PathBuf,
        /// By whom.
        holders: Holders,
    },
    /// The lock that keeps others out could not be taken.
    #[error("{} cannot be kept from being used", path.display())]
    NotLocked {
        /// The database.
        path: PathBuf,
        /// Why.
        source: LockError,
    },
    /// The name something should get is taken.
    #[error("{} is there already; it was not overwritten", path.display())]
    Occupied {
        /// The name.
        path: PathBuf,
    },
    /// A left-over would be taken for a part of the database that is put there, and be replayed into it.
    #[error("{} lies where a database should go; it belongs to another one and would be replayed into it", path.display())]
    Stray {
        /// The sidecar.
        path: PathBuf,
    },
    /// Somebody wrote to one half while the other was moved away.
    #[error("{} was written to after {} was moved away from it; they no longer belong together", path.display(), beside.display())]
    Parted {
        /// The database.
        path: PathBuf,
        /// Its sidecar, under the name it has now.
        beside: PathBuf,
    },
    /// A link: the sidecars lie beside what it points to.
    #[error("{} is a symbolic link; name the file it points to", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// Aside must be in the same folder, where a rename is one step.
    #[error("{} and {} are not in the same folder", live.display(), kept.display())]
    NotTogether {
        /// The first.
        live: PathBuf,
        /// The second.
        kept: PathBuf,
    },
    /// Broken off on request, before anything was moved.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The system refused; what had been moved is told by the state.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// How far [`set_aside`] came. `kept` present means done, whatever is at `live` by now.
pub fn set_aside_state(thing: Thing, live: &Path, kept: &Path) -> PlaceState {
    let any_kept = thing.sidecars().iter().any(|suffix| exists(&sidecar(kept, suffix)));
    match (exists(live), exists(kept)) {
        (_, true) => PlaceState::Done,
        (true, false) if any_kept => PlaceState::Partial,
        (true, false) => PlaceState::NotStarted,
        (false, false) => PlaceState::Unknown,
    }
}

/// How far [`put_in_place`] came.
pub fn put_in_place_state(aside: &Path, live: &Path) -> PlaceState {
    match (exists(aside), exists(live)) {
        (true, false) => PlaceState::NotStarted,
        (false, true) => PlaceState::Done,
        (true, true) | (false, false) => PlaceState::Unknown,
    }
}

/// Moves what is at `live` to `kept`, in the same folder, sidecars first. Done again after a crash, it goes on; done
/// again after it was done, it does nothing.
///
/// # Errors
/// [`PlaceError`]: `Held` names who uses it; `Occupied` when `kept` is there *and* there is again something at `live`.
pub fn set_aside(thing: Thing, live: &Path, kept: &Path, stop: &Stop) -> Result<Moved, PlaceError> {
    same_folder(live, kept)?;
    stop.check()?;
    match set_aside_state(thing, live, kept) {
        PlaceState::Done if exists(live) => return Err(PlaceError::Occupied { path: kept.to_owned() }),
        PlaceState::Done => return Ok(Moved::default()),
        PlaceState::Unknown => return Err(PlaceError::Missing { path: live.to_owned() }),
        PlaceState::NotStarted | PlaceState::Partial => {}
    }
    move_whole(thing, live, kept)
}

/// Moves what is at `kept` back to `live`: the opposite of [`set_aside`], from whatever point it came to. Something a
/// program created at `live` meanwhile is not overwritten, but moved to `<live>.found-1` (or 2, ...) and told.
///
/// # Errors
/// [`PlaceError`]; nothing kept and nothing at `live` is `Missing`.
pub fn bring_back(thing: Thing, live: &Path, kept: &Path, stop: &Stop) -> Result<Moved, PlaceError> {
    same_folder(live, kept)?;
    stop.check()?;
    let mut moved = Moved::default();
    match set_aside_state(thing, live, kept) {
        PlaceState::NotStarted => Ok(moved),
        PlaceState::Unknown => Err(PlaceError::Missing { path: kept.to_owned() }),
        PlaceState::Partial => {
            let guard = Guard::keep_out(thing, live)?;
            moved.unseen = guard.unseen.clone();
            not_parted(thing, live, kept)?;
            sidecars_back(thing, live, kept, moved, guard)
        }
        PlaceState::Done => {
            moved.moved_away = move_found(thing, live)?;
            let guard = Guard::keep_out(thing, kept)?;
            moved.unseen = guard.unseen.clone();
            step(kept, live, &mut moved)?;
            sidecars_back(thing, live, kept, moved, guard)
        }
    }
}

/// The sidecars follow the database that is at `live` again; nobody gets in before the last of them.
fn sidecars_back(thing: Thing, live: &Path, kept: &Path, mut moved: Moved, guard: Guard) -> Result<Moved, PlaceError> {
    for suffix in thing.sidecars().iter().rev() {
        if exists(&sidecar(kept, suffix)) {
            step(&sidecar(kept, suffix), &sidecar(live, suffix), &mut moved)?;
        }
    }
    drop(guard);
    Ok(moved)
}

/// Moves a finished file from `aside` to `live`, which must be free, and brings it to disk. With `like`, it first gets
/// that file's permissions and owner: those of the live file that was set aside, so that the app may use it.
///
/// # Errors
/// [`PlaceError`]: `Stray` for a left-over `-wal` or `-journal` beside `live`, `Occupied` when something is there.
pub fn put_in_place(
    thing: Thing,
    aside: &Path,
    live: &Path,
    like: Option<&Path>,
    stop: &Stop,
) -> Result<Moved, PlaceError> {
    stop.check()?;
    match put_in_place_state(aside, live) {
        PlaceState::Done => return Ok(Moved::default()),
        PlaceState::Unknown if exists(live) => return Err(PlaceError::Occupied { path: live.to_owned() }),
        PlaceState::Unknown => return Err(PlaceError::Missing { path: aside.to_owned() }),
        PlaceState::NotStarted | PlaceState::Partial => {}
    }
    // An old -shm is harmless: the first to open the database makes it anew. The others are replayed.
    for suffix in thing.sidecars().iter().filter(|suffix| **suffix != "-shm") {
        let own = sidecar(aside, suffix);
        // An empty one of the copy's own is what a broken-off look at it leaves, and says nothing.
        let filled = fs::metadata(&own).is_ok_and(|facts| facts.len() > 0);
        if let Some(path) = exists(&sidecar(live, suffix)).then(|| sidecar(live, suffix)).or(filled.then_some(own)) {
            return Err(PlaceError::Stray { path });
        }
    }
    let mut moved = Moved::default();
    if let Some(like) = like {
        moved.note = dress(aside, like)?;
    }
    let synced = fs::File::open(aside).and_then(|file| file.sync_all());
    synced.map_err(|source| PlaceError::Io { path: aside.to_owned(), doing: "sync", source })?;
    step(aside, live, &mut moved)?;
    Ok(moved)
}

/// Moves what is at `live` back to `aside`: the opposite of [`put_in_place`]. Sidecars a program created since go with
/// it, so that nothing stays for the next one.
///
/// # Errors
/// [`PlaceError`]; `Held` names who uses it.
pub fn take_away(thing: Thing, live: &Path, aside: &Path, stop: &Stop) -> Result<Moved, PlaceError> {
    stop.check()?;
    match set_aside_state(thing, live, aside) {
        PlaceState::Done if exists(live) => Err(PlaceError::Occupied { path: aside.to_owned() }),
        PlaceState::Done => Ok(Moved::default()),
        PlaceState::Unknown => Err(PlaceError::Missing { path: live.to_owned() }),
        PlaceState::NotStarted | PlaceState::Partial => move_whole(thing, live, aside),
    }
}

/// Moves sidecars, then the file; all from a start or from the middle.
fn move_whole(thing: Thing, from: &Path, to: &Path) -> Result<Moved, PlaceError> {
    let guard = Guard::keep_out(thing, from)?;
    not_parted(thing, from, to)?;
    let mut moved = Moved { unseen: guard.unseen.clone(), ..Moved::default() };
    for suffix in thing.sidecars() {
        if exists(&sidecar(from, suffix)) {
            step(&sidecar(from, suffix), &sidecar(to, suffix), &mut moved)?;
        }
    }
    step(from, to, &mut moved)?;
    // A program that opened the file just before the rename still has it, and would put a new -wal at the old name.
    if thing == Thing::Database {
        let late = look(to)?;
        if !late.found.is_empty() {
            step(to, from, &mut Moved::default())?;
            sidecars_back(thing, from, to, Moved::default(), guard)?;
            return Err(PlaceError::Held { path: from.to_owned(), holders: late });
        }
    }
    Ok(moved)
}

/// Moves whatever a program put at `live` out of the way; sidecars first, like everything.
fn move_found(thing: Thing, live: &Path) -> Result<Vec<(PathBuf, PathBuf)>, PlaceError> {
    let taken = |number: &u32| exists(&sidecar(live, &format!(".found-{number}")));
    let number = (1..).find(|number| !taken(number)).unwrap_or(u32::MAX);
    let found = sidecar(live, &format!(".found-{number}"));
    if exists(live) {
        let moved = move_whole(thing, live, &found)?;
        return Ok(if moved.files.is_empty() { Vec::new() } else { vec![(live.to_owned(), found)] });
    }
    // A sidecar without its database: of no use, but not ours to delete.
    let mut moved = Vec::new();
    for suffix in thing.sidecars() {
        let (from, to) = (sidecar(live, suffix), sidecar(&found, suffix));
        if exists(&from) {
            step(&from, &to, &mut Moved::default())?;
            moved.push((from, to));
        }
    }
    Ok(moved)
}

/// One rename that replaces nothing, and is on disk when it returns.
fn step(from: &Path, to: &Path, moved: &mut Moved) -> Result<(), PlaceError> {
    let failed = |source: io::Error| PlaceError::Io { path: from.to_owned(), doing: "move", source };
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(PlaceError::Occupied { path: to.to_owned() }),
        // File systems without this flag (some network ones): look, then rename. Nobody else may be at it by now.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !exists(to) => {
            fs::rename(from, to).map_err(failed)?;
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    sync_folder(parent(to)).map_err(failed)?;
    if parent(from) != parent(to) {
        sync_folder(parent(from)).map_err(failed)?;
    }
    moved.files.push(to.to_owned());
    Ok(())
}

/// Keeps other SQLite programs out while it lives.
struct Guard {
    _lock: Option<WholeLock>,
    unseen: Vec<Process>,
}

impl Guard {
    fn keep_out(thing: Thing, path: &Path) -> Result<Guard, PlaceError> {
        let facts = fs::symlink_metadata(path).map_err(|error| not_there(path, error))?;
        if facts.is_symlink() {
            return Err(PlaceError::Link { path: path.to_owned() });
        }
        if thing == Thing::Plain {
            return Ok(Guard { _lock: None, unseen: Vec::new() });
        }
        // First who it is, since a lock only knows one name; then the lock; then those who came in between.
        free(path)?;
        let lock = WholeLock::take(path).map_err(|source| PlaceError::NotLocked { path: path.to_owned(), source })?;
        let unseen = free(path)?.unseen;
        Ok(Guard { _lock: Some(lock), unseen })
    }
}

fn free(path: &Path) -> Result<Holders, PlaceError> {
    let holders = look(path)?;
    match holders.found.is_empty() {
        true => Ok(holders),
        false => Err(PlaceError::Held { path: path.to_owned(), holders }),
    }
}

fn look(path: &Path) -> Result<Holders, PlaceError> {
    holders(path).map_err(|source| PlaceError::Io { path: path.to_owned(), doing: "find out who uses", source })
}

/// Refuses to bring a database and its sidecar together, or to go on parting them, when the database was written to
/// after its sidecar was moved: a rename sets the moved file's time of change.
fn not_parted(thing: Thing, live: &Path, kept: &Path) -> Result<(), PlaceError> {
    let Ok(main) = fs::symlink_metadata(live) else { return Ok(()) };
    for suffix in thing.sidecars().iter().filter(|suffix| **suffix != "-shm") {
        let beside = sidecar(kept, suffix);
        let Ok(side) = fs::symlink_metadata(&beside) else { continue };
        if (main.mtime(), main.mtime_nsec()) > (side.ctime(), side.ctime_nsec()) {
            return Err(PlaceError::Parted { path: live.to_owned(), beside });
        }
    }
    Ok(())
}

/// Gives a file the permissions and the owner of another; tells what was not allowed.
fn dress(file: &Path, like: &Path) -> Result<Option<String>, PlaceError> {
    let failed = |source| PlaceError::Io { path: file.to_owned(), doing: "set the owner of", source };
    let wanted = fs::metadata(like).map_err(|error| not_there(like, error))?;
    let own = fs::metadata(file).map_err(|error| not_there(file, error))?;
    let mut note = None;
    if (own.uid(), own.gid()) != (wanted.uid(), wanted.gid()) {
        let (user, group) = (Uid::from_raw(wanted.uid()), Gid::from_raw(wanted.gid()));
        match rustix::fs::chown(file, Some(user), Some(group)) {
            Ok(()) => {}
            Err(rustix::io::Errno::PERM) => {
                // The group at least, which is allowed to its members.
                let _ = rustix::fs::chown(file, None, Some(group));
                note = Some(format!(
                    "{} belongs to user {} instead of {}, which only root may change",
                    file.display(),
                    own.uid(),
                    wanted.uid()
                ));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    // After the owner: changing that clears set-id bits.
    fs::set_permissions(file, wanted.permissions()).map_err(failed)?;
    Ok(note)
}

fn same_folder(live: &Path, kept: &Path) -> Result<(), PlaceError> {
    match parent(live) == parent(kept) && live != kept {
        true => Ok(()),
        false => Err(PlaceError::NotTogether { live: live.to_owned(), kept: kept.to_owned() }),
    }
}

fn not_there(path: &Path, error: io::Error) -> PlaceError {
    match error.kind() {
        io::ErrorKind::NotFound => PlaceError::Missing { path: path.to_owned() },
        _ => PlaceError::Io { path: path.to_owned(), doing: "look at", source: error },
    }
}

/// Whether there is anything by this name, a dangling link included.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
