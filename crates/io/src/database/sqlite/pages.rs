//! A database as its pages, of one instant, without a second file: to be stored as they are while they are looked at.
//!
//! ```text
//!   WAL mode     a read transaction keeps the instant; a page comes from the WAL if a frame of the snapshot has it, and
//!                from the database file if not
//!   at rest      a copy of our own: the file alone
//! ```
//!
//! Why that is one instant. While our transaction lasts, nobody begins the WAL anew (its read mark is taken), and no
//! checkpoint goes past it; what a checkpoint writes into the database meanwhile are pages that the WAL's frames have as
//! well, and those we take from there. When all frames were in the database already as we began, SQLite keeps
//! checkpoints out altogether, and the WAL is not looked at. Which frames are ours, the header of the wal-index tells: it
//! was the same before the transaction began and after.
//!
//! Everything else - rollback journals, locks, folders that cannot be written - is left to [`super::capture`].

mod map;
mod page;
mod rows;
mod scan;
mod wal;
mod walk;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lifeboat_model::{
    Migrated, Timestamp,
    manifest::{SqliteFacts, TableFacts},
};
use rusqlite::{Connection, types::Value};

use super::{
    Header, SqliteError,
    error::{is_busy, words},
    inspect,
    open::{listen, open_at_rest, open_live},
    quiet::Quiet,
    sidecar,
};
use crate::{
    clock::{Clock, SystemClock},
    stop::{Stop, Stopped},
};
pub use map::{MapOf, NewMap, PageMap, Seen};
use page::{Odd, long};
use rows::{Shape, Tally};
pub use scan::{ChangedReader, Scanned};
use wal::{IndexHeader, Overlay};
use walk::{Earlier, Tree, Walk};

/// How long a turn at the database, or a moment without a commit, is waited for.
const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// A database's pages as they were at one instant. While it exists nobody can begin the WAL anew, so it should not exist
/// for hours.
pub struct Pages {
    // Closed first, and with it the transaction ends: to close any descriptor of the files before that would drop its locks.
    connection: Mutex<Connection>,
    file: File,
    overlay: Option<Overlay>,
    _shm: Option<File>,
    // Last: takes away what was not beside the database before.
    _quiet: Option<Quiet>,
    path: PathBuf,
    page_size: u32,
    count: u32,
    recovery_point: Timestamp,
}

/// What a look at the pages found.
pub enum Looked {
    /// Every page is where it belongs, and this is what they hold. The file's hashes are left out. What was seen of parts
    /// is for the next backup.
    Sound(Box<SqliteFacts>, Seen),
    /// Something is wrong, or is not read here: SQLite is to be asked, on a copy. Why, for people.
    AskSqlite(String),
}

/// Why a walk ended early.
enum Trouble {
    Odd(Odd),
    Stopped(Stopped),
    Read(io::Error),
}

impl From<Odd> for Trouble {
    fn from(odd: Odd) -> Trouble {
        Trouble::Odd(odd)
    }
}

impl From<Stopped> for Trouble {
    fn from(stopped: Stopped) -> Trouble {
        Trouble::Stopped(stopped)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        // A page that is nowhere is the file's fault.
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Trouble::Odd(Odd("the file is shorter than it should be".to_owned())),
            _ => Trouble::Read(error),
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => Trouble::Stopped(Stopped),
            _ => Trouble::Odd(Odd(words(&error))),
        }
    }
}

impl Pages {
    /// The pages of a live database in WAL mode, as they are now; nothing for a database that has to be copied first.
    ///
    /// # Errors
    /// [`SqliteError`]. Whatever it is, [`super::capture`] tells it better.
    pub fn live(path: &Path, clock: &dyn Clock, stop: &Stop) -> Result<Option<Pages>, SqliteError> {
        if !Header::read(path)?.wal {
            return Ok(None);
        }
        let waits = SystemClock::default();
        let begun = waits.elapsed();
        let late = || waits.elapsed().saturating_sub(begun) > WAIT;
        let mut quiet = Quiet::begin(path)?;
        while !quiet.is_ours() {
            if late() {
                return Ok(None);
            }
            waits.sleep(PAUSE, stop)?;
            quiet = Quiet::begin(path)?;
        }
        let path = quiet.path().to_owned();
        let failed = |error| SqliteError::from_io(&path, "read", error);
        // Read once more, now that it is our turn: its page size may be another by now.
        let header = Header::read(&path)?;
        let mut connection = open_live(&path)?;
        listen(&mut connection, stop).map_err(|error| SqliteError::from_sqlite(&path, "read", error))?;
        // The first look makes the -shm, where there is none.
        let mut files: Option<[File; 2]> = None;
        loop {
            if late() {
                drop(connection);
                return Ok(None);
            }
            let before = match &files {
                Some([_, shm]) => IndexHeader::read(shm).map_err(failed)?,
                None => None,
            };
            let recovery_point = clock.now();
            match connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;") {
                Ok(()) => {}
                Err(error) if is_busy(&error) => {
                    let _ = connection.execute_batch("ROLLBACK"); // there may be none to end
                    waits.sleep(PAUSE, stop)?;
                    continue;
                }
                Err(error) => {
                    let told = SqliteError::from_sqlite(&path, "read", error);
                    drop(connection);
                    return Err(told);
                }
            }
            if let (Some(before), Some([_, shm])) = (before, &files) {
                let backfilled = wal::backfilled(shm).map_err(failed)?;
                // Behind the other: a WAL that was begun anew has another header first, and then nothing backfilled.
                if IndexHeader::read(shm).map_err(failed)? == Some(before) {
                    let overlay = match backfilled >= before.frames() {
                        true => Some(None),
                        false => File::open(sidecar(&path, "-wal"))
                            .and_then(|wal| Overlay::read(wal, &before, header.page_size))
                            .map_err(failed)?
                            .map(Some),
                    };
                    let count: u32 = connection
                        .pragma_query_value(None, "page_count", |row| row.get(0))
                        .map_err(|error| SqliteError::from_sqlite(&path, "read", error))?;
                    let mode: String = connection
                        .pragma_query_value(None, "journal_mode", |row| row.get(0))
                        .map_err(|error| SqliteError::from_sqlite(&path, "read", error))?;
                    let agreed = mode == "wal" && (before.frames() == 0 || before.pages() == count);
                    if let (Some(overlay), true, Some([file, shm])) = (overlay, agreed, files.take()) {
                        let (page_size, _quiet, _shm) = (header.page_size, Some(quiet), Some(shm));
                        let connection = Mutex::new(connection);
                        let pages =
                            Pages { connection, file, overlay, _shm, _quiet, path, page_size, count, recovery_point };
                        return Ok(Some(pages));
                    }
                    drop(connection);
                    return Ok(None); // what cannot be on a sound disk
                }
            }
            if files.is_none() {
                // Opened while the transaction shows that all are there, and closed after the connection is.
                let opened = File::open(&path).and_then(|file| Ok([file, File::open(sidecar(&path, "-shm"))?]));
                let Ok(opened) = opened else {
                    drop(connection);
                    return Ok(None); // no WAL after all
                };
                files = Some(opened);
            }
            connection.execute_batch("ROLLBACK").map_err(|error| SqliteError::from_sqlite(&path, "read", error))?;
        }
    }

    /// The pages of a copy at rest.
    ///
    /// # Errors
    /// [`SqliteError`] when it cannot be opened, or is not as long as its header says.
    pub fn at_rest(file: &Path, recovery_point: Timestamp, stop: &Stop) -> Result<Pages, SqliteError> {
        let header = Header::read(file)?;
        let connection = open_at_rest(file, stop)?;
        let count = u32::try_from(header.bytes / u64::from(header.page_size)).unwrap_or(u32::MAX);
        Ok(Pages {
            connection: Mutex::new(connection),
            file: File::open(file).map_err(|error| SqliteError::from_io(file, "read", error))?,
            overlay: None,
            _shm: None,
            _quiet: None,
            path: file.to_owned(),
            page_size: header.page_size,
            count,
            recovery_point,
        })
    }

    /// Everything committed before this instant is in them.
    pub fn recovery_point(&self) -> Timestamp {
        self.recovery_point
    }

    /// All bytes of them.
    pub fn bytes(&self) -> u64 {
        u64::from(self.count) * u64::from(self.page_size)
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// The bytes of the database, from the first page to the last.
    pub fn reader(&self) -> PagesReader<'_> {
        PagesReader { pages: self, next: 1 }
    }

    /// Walks over all pages and digests all rows. What an earlier backup knows of leaves that are as they were is taken
    /// from there. Progress is told in bytes of pages.
    ///
    /// # Errors
    /// [`SqliteError`] when it cannot be read, or was broken off. Damage is no error here, see [`Looked::AskSqlite`].
    pub fn look(
        &self,
        earlier: Option<(&PageMap, &Scanned)>,
        stop: &Stop,
        progress: &dyn Fn(u64),
    ) -> Result<Looked, SqliteError> {
        match self.facts(earlier, stop, progress) {
            Ok((facts, seen)) => Ok(Looked::Sound(Box::new(facts), seen)),
            Err(Trouble::Odd(Odd(what))) => Ok(Looked::AskSqlite(what)),
            Err(Trouble::Stopped(stopped)) => Err(stopped.into()),
            Err(Trouble::Read(error)) => Err(SqliteError::from_io(&self.path, "read", error)),
        }
    }

    /// What migration tools have written into it, as [`super::migrations`].
    pub fn migrations(&self) -> Vec<Migrated> {
        super::migrations::of(&self.connection())
    }

    /// A digest over all rows of an answer, as [`super::sample_digest`].
    ///
    /// # Errors
    /// When it cannot be asked, or the question would change something.
    pub fn sample_digest(&self, sql: &str) -> Result<String, SqliteError> {
        super::rules::digest(&self.connection(), sql)
            .map_err(|error| SqliteError::from_sqlite(&self.path, "ask", error))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `into` with pages from `first` on.
    fn read(&self, first: u32, into: &mut [u8]) -> io::Result<()> {
        let size = self.page_size as usize;
        let mut done = 0;
        while done < into.len() {
            let at = u64::from(first - 1) * size as u64 + done as u64;
            match self.file.read_at(&mut into[done..], at) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut there = true;
        for (page, number) in into.chunks_exact_mut(size).zip(first..) {
            let newer = match &self.overlay {
                Some(overlay) => overlay.page(number, page)?,
                None => false,
            };
            let end = (number - first + 1) as usize * size;
            there &= newer || end <= done;
        }
        // The last pages of a database may be in the WAL alone.
        if there { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Fills `into` with a part of a page.
    fn read_part(&self, page: u32, at: usize, into: &mut [u8]) -> io::Result<()> {
        if self.overlay.is_none() {
            let place = u64::from(page - 1) * u64::from(self.page_size) + at as u64;
            return self.file.read_exact_at(into, place);
        }
        let mut whole = vec![0; self.page_size as usize];
        self.read(page, &mut whole)?;
        into.copy_from_slice(&whole[at..at + into.len()]);
        Ok(())
    }

    fn page_one(&self) -> Result<Vec<u8>, Trouble> {
        let mut bytes = vec![0; self.page_size as usize];
        self.read(1, &mut bytes)?;
        Ok(bytes)
    }

    fn facts(
        &self,
        earlier: Option<(&PageMap, &Scanned)>,
        stop: &Stop,
        progress: &dyn Fn(u64),
    ) -> Result<(SqliteFacts, Seen), Trouble> {
        let first = self.page_one()?;
        // Without these a file of this length is not the whole database, or was written by a SQLite of long ago.
        if long(&first, 28) != self.count || long(&first, 24) != long(&first, 92) {
            return Err(Odd("its header tells another number of pages".to_owned()).into());
        }
        let wal = first[18] == 2 || first[19] == 2;
        let mut facts = inspect::about(&self.connection(), self.page_size, if wal { "wal" } else { "delete" })?;
        let trees = Trees::of(&self.connection())?;
        let earlier = earlier.map(|(map, scanned)| Earlier { map, scanned });
        let earlier = earlier.filter(|earlier| earlier.map.is_read_by(&map::schema_of(&facts)));
        let mut walk = Walk::new(self, earlier, stop, progress)?;
        let ask = |sql: &str| {
            let asked = self.connection().query_row(sql, [], |row| row.get::<_, Value>(0));
            asked.map_err(|error| Odd(words(&error)))
        };
        walk.tree("sqlite_schema", 1, Tree::Table, &ask)?;
        // UTF-16 is put into UTF-8 by SQLite, which has its own way with halves of letters.
        let plain = facts.encoding == "UTF-8";
        for (table, root) in &trees.tables {
            let shape = if plain { Shape::of(&self.connection(), table)? } else { None };
            let without_rowid = trees.without_rowid.contains(table);
            let content = trees.content.contains(table);
            let tally = match &shape {
                Some(shape) if content => walk.tree(table, *root, Tree::Rows(shape), &ask)?,
                _ if without_rowid => walk.tree(table, *root, Tree::Index, &ask)?,
                _ => walk.tree(table, *root, Tree::Table, &ask)?,
            };
            if !content {
                continue;
            }
            let found = match &shape {
                Some(shape) => table_facts(&tally, shape),
                None => {
                    let known = earlier.and_then(|earlier| earlier.map.table(table, *root));
                    let found = match known.filter(|_| walk.is_untouched()) {
                        Some(facts) => facts.clone(),
                        None => inspect::table(&self.connection(), table, stop)?,
                    };
                    walk.seen.table(table, *root, &found);
                    found
                }
            };
            if found.rows != tally.rows {
                return Err(Odd(format!("table {table} has {} rows and {} cells", found.rows, tally.rows)).into());
            }
            facts.tables.insert(table.clone(), found);
        }
        for index in &trees.indexes {
            let entries = walk.tree(&index.name, index.root, Tree::Index, &ask)?.rows;
            let rows = facts.tables.get(&index.table).map(|table| table.rows);
            if !index.partial && rows.is_some_and(|rows| rows != entries) {
                let rows = rows.unwrap_or_default();
                return Err(Odd(format!("index {} has {entries} entries for {rows} rows", index.name)).into());
            }
        }
        let seen = walk.finish()?;
        progress(self.bytes());
        Ok((facts, seen))
    }
}

fn table_facts(tally: &Tally, shape: &Shape) -> TableFacts {
    TableFacts { rows: tally.rows, digest: format!("{:032x}", tally.digest), newest: tally.newest(shape) }
}

/// The b-trees of a database.
struct Trees {
    /// By name: the root page.
    tables: BTreeMap<String, u32>,
    without_rowid: Vec<String>,
    /// Tables that the facts tell about.
    content: Vec<String>,
    indexes: Vec<IndexTree>,
}

struct IndexTree {
    name: String,
    table: String,
    root: u32,
    /// It holds some of the rows only.
    partial: bool,
}

impl Trees {
    fn of(connection: &Connection) -> rusqlite::Result<Trees> {
        let content = inspect::tables(connection)?;
        let mut trees = Trees { tables: BTreeMap::new(), without_rowid: Vec::new(), content, indexes: Vec::new() };
        let mut statement = connection
            .prepare("SELECT type, name, tbl_name, rootpage FROM sqlite_schema WHERE rootpage > 0 ORDER BY rootpage")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (kind, name, table): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let root = row.get(3)?;
            match kind.as_str() {
                "table" => _ = trees.tables.insert(name, root),
                _index => trees.indexes.push(IndexTree { name, table, root, partial: false }),
            }
        }
        let mut asked = connection.prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND wr")?;
        trees.without_rowid = asked.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut asked = connection.prepare("SELECT partial FROM pragma_index_list(?1) WHERE name = ?2")?;
        for index in &mut trees.indexes {
            index.partial = asked.query_row([&index.table, &index.name], |row| row.get(0))?;
        }
        Ok(trees)
    }
}

/// Reads a database from the first page to the last, whole pages at a time.
pub struct PagesReader<'a> {
    pages: &'a Pages,
    next: u32,
}

impl Read for PagesReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = self.pages.page_size as usize;
        let left = (self.pages.count + 1 - self.next) as usize;
        let pages = (into.len() / size).min(left);
        if pages == 0 && left > 0 {
            return Err(io::Error::other("a buffer for less than a page"));
        }
        self.pages.read(self.next, &mut into[..pages * size])?;
        self.next += pages as u32;
        Ok(pages * size)
    }
}
