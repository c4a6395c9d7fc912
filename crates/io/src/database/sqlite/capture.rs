//! A consistent copy of a database while other programs write to it.
//!
//! ```text
//!   WAL mode            one read transaction from the first page to the last; writers go on, nobody waits
//!   rollback journal    first in steps, letting writers in between; a write makes SQLite begin again. After a few
//!                       restarts one pass in one read transaction: writers wait for it on their busy timeout
//!   hot journal         a program died while writing: database and journal are copied, the *copy* is rolled back
//!   unwritable folder   SQLite needs `-shm` to read a WAL; nobody at it: database and WAL are copied, then put together
//! ```
//!
//! Measured with 1 GiB on two busy cores (`examples/sqlite_bench.rs`): 1.6 s of one core, copy, sync and hash together.
//! In WAL mode the median commit of another process stays where it was; the WAL grows meanwhile, since nobody can
//! reset it past our snapshot. In a rollback journal one commit waits for the last pass: 0.6 to 3 s.
//!
//! The source is never changed: our connection is read-only, never checkpoints and never rolls back. What SQLite may
//! create beside an idle WAL database (an empty `-wal`, a `-shm`) is removed again, under a lock that shows that nobody
//! uses it. The source's own `-shm` may be rewritten, as every reader of a WAL does; it holds no data.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use lifeboat_model::Timestamp;
use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};
use rustix::fs::{FlockOperation, fcntl_lock};

use super::{
    Header, SqliteError,
    error::{extended_code, is_busy},
    open::open_live,
    sidecar,
};
use crate::{
    clock::{Clock, SystemClock},
    files::{parent, sync_folder},
    holders::{Holders, OwnUse, holders, locked_by},
    stop::Stop,
};

/// Bytes copied between two looks at `Stop`, and, in steps, under one lock: about 20 ms.
const STEP_BYTES: u64 = 16 << 20;

/// How long writers are let in between two steps. Longer is not needed: a writer that waits keeps new readers out.
const PAUSE: Duration = Duration::from_millis(2);

/// Limits of [`capture`].
#[derive(Clone, Copy, Debug)]
pub struct CaptureOptions {
    /// How long to wait for others' locks before giving up, in milliseconds, each time.
    pub busy_ms_max: u64,
    /// Rollback journal only: how often copying in steps may be made to begin again before writers have to wait.
    pub restarts_max: u32,
    /// Whether the copy is on disk, and not only in memory, when it is there. A copy that is hashed again before it is
    /// used can do without: writing a large one to a slow disk takes longer than making it.
    pub durable: bool,
    /// The copy may not become larger than this, in bytes. `None`: as large as the disk allows.
    pub bytes_max: Option<u64>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        CaptureOptions { busy_ms_max: 10_000, restarts_max: 3, durable: true, bytes_max: None }
    }
}

/// How a copy was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// WAL mode: one pass beside the writers.
    BesideWriters,
    /// Rollback journal: in steps, after so many restarts.
    InSteps {
        /// How often a write made it begin again.
        restarts: u32,
    },
    /// Rollback journal: one pass while writers waited, since steps were restarted too often.
    WritersWaited,
    /// Database and journal (or WAL) were copied as files, and put together in the copy.
    PutTogether,
}

/// A finished copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// The copy; a database at rest, complete without sidecars.
    pub path: PathBuf,
    /// Everything committed before this instant is in it.
    pub recovery_point: Timestamp,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its [`crate::digest::QuickDigest`]: tells whether the copy is still what it was when it was made.
    pub digest: String,
    /// How it was made.
    pub how: How,
}

/// Copies the database at `source` to the file `into`, complete and consistent, whoever writes to it meanwhile. `into`
/// is written as `<into>.partial`, synced and renamed, replacing an older file of that name; on any error nothing of it
/// stays. Progress is told in bytes.
///
/// The copy has every committed page, whatever is in it: page size, encoding, virtual tables' shadow tables. It still
/// says `wal` in its header when the source does; opened with `immutable=1` it needs no `-wal`. Two fields of its header
/// are its own: SQLite writes a fresh schema cookie and change counter.
///
/// # Errors
/// [`SqliteError`]; `Busy` names who kept it locked, `Full` when the disk or [`CaptureOptions::bytes_max`] is reached.
pub fn capture(
    source: &Path,
    into: &Path,
    options: CaptureOptions,
    clock: &dyn Clock,
    stop: &Stop,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<Captured, SqliteError> {
    // SQLite looks for the -wal beside the real file, not beside a link to it.
    let source = fs::canonicalize(source).map_err(|error| SqliteError::from_io(source, "find", error))?;
    let partial = Partial::begin(into)?;
    let run = Run { source, partial: &partial.path, options, clock, stop, progress, waits: SystemClock::default() };
    let taken = run.take()?;
    let (digest, bytes) = finish(&partial.path, options.durable, stop)?;
    partial.keep(into)?;
    Ok(Captured { path: into.to_owned(), recovery_point: taken.recovery_point, bytes, digest, how: taken.how })
}

/// Checks that the copy is whole, brings it to disk and hashes it.
fn finish(partial: &Path, durable: bool, stop: &Stop) -> Result<(String, u64), SqliteError> {
    let header = Header::read(partial)?;
    if header.bytes != u64::from(header.pages) * u64::from(header.page_size) {
        let found = format!("its header says {} pages of {} bytes", header.pages, header.page_size);
        return Err(SqliteError::Damaged { path: partial.to_owned(), found });
    }
    let failed = |error| SqliteError::from_io(partial, "sync", error);
    if durable {
        fs::File::open(partial).and_then(|file| file.sync_all()).map_err(failed)?;
    }
    super::inspect::digest_and_length(partial, stop, &|_| ())
}

/// `<into>.partial`, with whatever SQLite puts beside it; gone when dropped.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn begin(into: &Path) -> Result<Partial, SqliteError> {
        let partial = Partial { path: sidecar(into, ".partial") };
        partial.remove().map_err(|error| SqliteError::from_io(&partial.path, "remove the left-over", error))?;
        // Created here, so that an unwritable folder is told as such, with the system's words; only we may read it.
        use std::os::unix::fs::OpenOptionsExt;
        let mut created = fs::OpenOptions::new();
        created.write(true).create_new(true).mode(0o600);
        created.open(&partial.path).map_err(|error| SqliteError::from_io(&partial.path, "write", error))?;
        Ok(partial)
    }

    fn remove(&self) -> io::Result<()> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            match fs::remove_file(sidecar(&self.path, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn keep(self, into: &Path) -> Result<(), SqliteError> {
        fs::rename(&self.path, into)
            .and_then(|()| sync_folder(parent(into)))
            .map_err(|error| SqliteError::from_io(into, "put the copy at", error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = self.remove(); // after a rename there is nothing; after an error, that error is the one to tell
    }
}

struct Taken {
    recovery_point: Timestamp,
    how: How,
}

/// One capture: its source, where to, and who wants to know.
struct Run<'a> {
    source: PathBuf,
    partial: &'a Path,
    options: CaptureOptions,
    clock: &'a dyn Clock,
    stop: &'a Stop,
    progress: &'a dyn Fn(u64, Option<u64>),
    /// Waits and their limits are in real time, also under a clock that tests move.
    waits: SystemClock,
}

/// What a connection to the source ran into.
enum Obstacle {
    /// A rollback journal that has to be played back first.
    HotJournal,
    /// The `-shm` of a WAL database can neither be opened nor created.
    NoSharedMemory,
}

impl Run<'_> {
    fn take(&self) -> Result<Taken, SqliteError> {
        let mut wait = self.waiting();
        let _own = loop {
            match OwnUse::enter(&self.source).map_err(|error| self.source_failed("find", error))? {
                Some(own) => break own,
                None => wait.again()?,
            }
        };
        let mut wait = self.waiting();
        loop {
            let header = Header::read(&self.source)?;
            match self.online(header)? {
                Ok(taken) => return Ok(taken),
                Err(Obstacle::HotJournal) => match self.put_together("-journal", &mut wait)? {
                    Some(taken) => return Ok(taken),
                    None => continue, // somebody else rolled it back meanwhile
                },
                Err(Obstacle::NoSharedMemory) => match self.put_together("-wal", &mut wait)? {
                    Some(taken) => return Ok(taken),
                    None => continue,
                },
            }
        }
    }

    /// Through SQLite, beside whoever uses it.
    fn online(&self, header: Header) -> Result<Result<Taken, Obstacle>, SqliteError> {
        let before = ["-wal", "-shm"].map(|suffix| sidecar(&self.source, suffix).exists());
        let connection = open_live(&self.source)?;
        let taken = self.through(&connection, header);
        drop(connection);
        self.tidy(before);
        taken
    }

    fn through(&self, connection: &Connection, header: Header) -> Result<Result<Taken, Obstacle>, SqliteError> {
        if let Some(obstacle) = self.begin_read(connection)? {
            return Ok(Err(obstacle));
        }
        // SQLite has looked by now: the journal mode and page count are those of this transaction.
        let wal = connection
            .pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))
            .map_err(|error| SqliteError::from_sqlite(&self.source, "read", error))?
            == "wal";
        self.end_read(connection)?;
        if !wal && let Some(taken) = self.in_steps(connection, header)? {
            return Ok(Ok(taken));
        }
        let how = if wal { How::BesideWriters } else { How::WritersWaited };
        let recovery_point = self.clock.now();
        if let Some(obstacle) = self.begin_read(connection)? {
            return Ok(Err(obstacle));
        }
        let mut copy = self.destination(header)?;
        let backup = self.backup(connection, &mut copy)?;
        let mut wait = self.waiting();
        while self.step(&backup, header, &mut wait)? != StepResult::Done {}
        drop(backup);
        self.end_read(connection)?;
        self.close(copy)?;
        Ok(Ok(Taken { recovery_point, how }))
    }

    /// In steps with a lock for each; nothing when writers made it begin again too often.
    fn in_steps(&self, connection: &Connection, header: Header) -> Result<Option<Taken>, SqliteError> {
        let mut recovery_point = self.clock.now();
        let mut restarts = 0;
        let mut copy = self.destination(header)?;
        let backup = self.backup(connection, &mut copy)?;
        let mut wait = self.waiting();
        let mut left_before = i32::MAX;
        loop {
            let now = self.clock.now();
            let step = self.step(&backup, header, &mut wait)?;
            let left = backup.progress().remaining;
            let pages = i32::try_from(step_pages(header)).unwrap_or(i32::MAX);
            if left > left_before.saturating_sub(pages).max(0) && step != StepResult::Busy {
                restarts += 1;
                recovery_point = now;
            }
            if step == StepResult::Done {
                break;
            }
            if restarts > self.options.restarts_max {
                return Ok(None);
            }
            if step == StepResult::More {
                left_before = left;
                self.waits.sleep(PAUSE, self.stop)?;
            }
        }
        drop(backup);
        self.close(copy)?;
        Ok(Some(Taken { recovery_point, how: How::InSteps { restarts } }))
    }

    /// Copies the next pages. `Busy` has waited already.
    fn step(&self, backup: &Backup, header: Header, wait: &mut Wait) -> Result<StepResult, SqliteError> {
        self.stop.check()?;
        let pages = i32::try_from(step_pages(header)).unwrap_or(i32::MAX);
        let step = backup.step(pages).map_err(|error| {
            let written = matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
            SqliteError::from_sqlite(if written { self.partial } else { &self.source }, "copy", error)
        })?;
        let step = match step {
            StepResult::Busy | StepResult::Locked => {
                wait.again()?;
                StepResult::Busy
            }
            other => {
                wait.since = self.waits.elapsed();
                other
            }
        };
        let at = backup.progress();
        let bytes = |pages: i32| u64::try_from(pages).unwrap_or(0) * u64::from(header.page_size);
        (self.progress)(bytes(at.pagecount - at.remaining), Some(bytes(at.pagecount)));
        Ok(step)
    }

    /// Opens a read transaction: from here to its end the connection sees one state.
    fn begin_read(&self, connection: &Connection) -> Result<Option<Obstacle>, SqliteError> {
        let mut wait = self.waiting();
        loop {
            let error = match connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;") {
                Ok(()) => return Ok(None),
                Err(error) => error,
            };
            let _ = connection.execute_batch("ROLLBACK"); // there may be none to end
            if is_busy(&error) {
                wait.again()?;
                continue;
            }
            return match extended_code(&error) {
                rusqlite::ffi::SQLITE_READONLY_ROLLBACK => Ok(Some(Obstacle::HotJournal)),
                code if code & 0xff == rusqlite::ffi::SQLITE_CANTOPEN
                    || code & 0xff == rusqlite::ffi::SQLITE_READONLY =>
                {
                    Ok(Some(Obstacle::NoSharedMemory))
                }
                _ => Err(SqliteError::from_sqlite(&self.source, "read", error)),
            };
        }
    }

    fn end_read(&self, connection: &Connection) -> Result<(), SqliteError> {
        connection.execute_batch("ROLLBACK").map_err(|error| SqliteError::from_sqlite(&self.source, "read", error))
    }

    /// An empty database for the copy. Speed comes from not journaling it: it is thrown away when anything fails.
    fn destination(&self, header: Header) -> Result<Connection, SqliteError> {
        let failed = |error| SqliteError::from_sqlite(self.partial, "write", error);
        fs::File::create(self.partial).map_err(|error| SqliteError::from_io(self.partial, "write", error))?;
        let copy = Connection::open(self.partial).map_err(failed)?;
        copy.execute_batch(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-8192;",
        )
        .map_err(failed)?;
        if let Some(bytes) = self.options.bytes_max {
            let pages = (bytes / u64::from(header.page_size)).max(1);
            copy.pragma_update(None, "max_page_count", i64::try_from(pages).unwrap_or(i64::MAX)).map_err(failed)?;
        }
        Ok(copy)
    }

    fn backup<'c, 'd>(&self, from: &'c Connection, to: &'d mut Connection) -> Result<Backup<'c, 'd>, SqliteError> {
        Backup::new(from, to).map_err(|error| SqliteError::from_sqlite(&self.source, "copy", error))
    }

    fn close(&self, copy: Connection) -> Result<(), SqliteError> {
        copy.close().map_err(|(_, error)| SqliteError::from_sqlite(self.partial, "write", error))
    }

    /// Removes the empty `-wal` and the `-shm` that were not there `before` we read an idle WAL database, as the last
    /// closing program would. The lock shows that nobody uses it; when somebody does, or we may not, they stay.
    fn tidy(&self, [had_wal, had_shm]: [bool; 2]) {
        let (wal, shm) = (sidecar(&self.source, "-wal"), sidecar(&self.source, "-shm"));
        if had_shm || !shm.exists() {
            return;
        }
        // The turn is ours already, hence not `WholeLock`.
        let Ok(file) = fs::OpenOptions::new().read(true).write(true).open(&self.source) else { return };
        if fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        let _ = fs::remove_file(shm); // it holds nothing that is not in the -wal; left over it would be litter
        if !had_wal && fs::metadata(&wal).is_ok_and(|facts| facts.len() == 0) {
            let _ = fs::remove_file(wal);
        }
    }

    /// Copies the database and its `-journal` or `-wal` as files, and lets SQLite put the *copy* in order. Nothing when
    /// the sidecar is gone by now: then it can be read in the ordinary way.
    fn put_together(&self, suffix: &str, wait: &mut Wait) -> Result<Option<Taken>, SqliteError> {
        let beside = sidecar(&self.source, suffix);
        let recovery_point = self.clock.now();
        let file = fs::File::open(&self.source).map_err(|error| self.source_failed("read", error))?;
        // A read lock over all of it keeps others from rolling back or committing in a rollback journal meanwhile.
        while fcntl_lock(&file, FlockOperation::NonBlockingLockShared).is_err() {
            wait.again()?;
        }
        let before = stamps(&self.source, &beside);
        if suffix == "-journal" && !beside.exists() {
            wait.again()?;
            return Ok(None);
        }
        if suffix == "-wal" && locked_by(&file).is_some() {
            let denied = io::Error::other("it is in use in WAL mode, and its folder cannot be written for the -shm");
            return Err(SqliteError::Denied { path: self.source.clone(), doing: "read", source: Box::new(denied) });
        }
        self.copy_file(&self.source, &file, self.partial)?;
        if beside.exists() {
            let opened = fs::File::open(&beside).map_err(|error| SqliteError::from_io(&beside, "read", error))?;
            self.copy_file(&beside, &opened, &sidecar(self.partial, suffix))?;
        }
        // In WAL mode a read lock stops nobody: the files must be as they were.
        if stamps(&self.source, &beside) != before || (suffix == "-wal" && locked_by(&file).is_some()) {
            wait.again()?;
            return Ok(None);
        }
        drop(file);
        self.recover_partial()?;
        Ok(Some(Taken { recovery_point, how: How::PutTogether }))
    }

    fn recover_partial(&self) -> Result<(), SqliteError> {
        let failed = |error| SqliteError::from_sqlite(self.partial, "recover", error);
        let copy = Connection::open(self.partial).map_err(failed)?;
        copy.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(failed)?;
        copy.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
        self.close(copy)?;
        match ["-wal", "-journal"].map(|suffix| sidecar(self.partial, suffix)).into_iter().find(|path| path.exists()) {
            Some(beside) => Err(SqliteError::NotAtRest { path: self.partial.to_owned(), beside }),
            None => Ok(()),
        }
    }

    /// Copies an opened file. Opening it once more would drop the lock on it when that descriptor is closed.
    fn copy_file(&self, from: &Path, opened: &fs::File, to: &Path) -> Result<(), SqliteError> {
        let mut reader = opened;
        let mut writer = fs::File::create(to).map_err(|error| SqliteError::from_io(to, "write", error))?;
        let all = reader.metadata().map_err(|error| SqliteError::from_io(from, "read", error))?.len();
        if self.options.bytes_max.is_some_and(|max| all > max) {
            return Err(SqliteError::Full { path: to.to_owned() });
        }
        let mut done = 0;
        loop {
            self.stop.check()?;
            let mut piece = io::Read::take(&mut reader, STEP_BYTES);
            let copied = io::copy(&mut piece, &mut writer).map_err(|error| SqliteError::from_io(to, "write", error))?;
            done += copied;
            (self.progress)(done, Some(all.max(done)));
            if copied == 0 {
                return Ok(());
            }
        }
    }

    fn source_failed(&self, doing: &'static str, error: io::Error) -> SqliteError {
        SqliteError::from_io(&self.source, doing, error)
    }

    fn waiting(&self) -> Wait<'_> {
        Wait { run: self, since: self.waits.elapsed() }
    }
}

fn step_pages(header: Header) -> u64 {
    (STEP_BYTES / u64::from(header.page_size)).max(1)
}

/// Size and time of change of a database and its sidecar.
fn stamps(database: &Path, beside: &Path) -> Vec<Option<(u64, Option<std::time::SystemTime>)>> {
    let stamp = |path: &Path| fs::metadata(path).ok().map(|facts| (facts.len(), facts.modified().ok()));
    vec![stamp(database), stamp(beside)]
}

/// A bounded wait for somebody else's lock.
struct Wait<'a> {
    run: &'a Run<'a>,
    since: Duration,
}

impl Wait<'_> {
    /// Waits a moment, or gives up and says who is in the way.
    fn again(&mut self) -> Result<(), SqliteError> {
        let waited = self.run.waits.elapsed().saturating_sub(self.since);
        if waited >= Duration::from_millis(self.run.options.busy_ms_max) {
            return Err(SqliteError::Busy {
                path: self.run.source.clone(),
                waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
                holders: holders(&self.run.source).unwrap_or_else(|_| Holders::default()),
            });
        }
        Ok(self.run.waits.sleep(Duration::from_millis(10), self.run.stop)?)
    }
}
