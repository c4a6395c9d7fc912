//! A SQLite database on its way into the vault, looked at as it passes.
//!
//! Its pages are read where they are - in the live file, or in a copy - by two threads: one stores them, the other walks
//! over them and digests the rows. If this host made the previous backup, it knows the digest of each page then: all are
//! read and digested first, and what did not change is neither stored nor walked over again. Where the walk stumbles, nothing of it counts: the database is copied, SQLite itself
//! says what is wrong with the copy, and the copy is stored if nothing is.

use std::{
    io::{self, Read},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use lifeboat_io::{
    database::sqlite::{self, ChangedReader, Looked, NewMap, Pages, PagesReader, Scanned, SqliteError},
    files,
};
use lifeboat_model::{
    Content, Failure, FailureKind, Migrated, Part, ResourceManifest, SqliteFacts, Timestamp, time::show_bytes,
};
use lifeboat_store::vault::{BackupWriter, EntryMeta};

use super::{
    Hands,
    captures::{CaptureOutput, capture_sqlite, inspect_sqlite},
    errors::{path_failure, sqlite_failure},
    page_maps::{Changes, Known, Maps, Noted},
    pour::{Poured, pour_pages, pour_patch},
    stores::Samples,
    vault_failure,
};
use crate::perform::Context;

/// A database that is in the vault as soon as the backup is.
pub(super) struct Stored {
    pub manifest: ResourceManifest,
    pub migrations: Vec<Migrated>,
    pub samples: Samples,
    /// What was seen of its pages.
    pub noted: Option<Noted>,
}

/// Why a database was not stored.
pub(super) enum Trouble {
    /// Its pages could not be read with certainty: SQLite is to be asked, on a copy. Why.
    AskSqlite(String),
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Failed(failure)
    }
}

/// Where a database goes, and who hears about it.
pub(super) struct Way<'a> {
    pub hands: &'a Hands,
    pub writer: &'a BackupWriter,
    pub maps: &'a Maps<'a>,
    pub context: &'a Context<'a>,
    /// Hears how many bytes are stored and looked at.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

impl Way<'_> {
    /// Stores a database by its pages.
    pub fn pages(&self, part: &Part, path: &Path, inside: &str) -> Result<Stored, Trouble> {
        let stop = self.context.stop;
        let captured = self.captured(part)?;
        let opened = match (&captured, &part.staged) {
            (Some(captured), Some(staged)) => Pages::at_rest(staged, captured.recovery_point, stop).map(Some),
            (_, _) => Pages::live(path, &*self.hands.io.clock, stop),
        };
        let pages = match opened {
            Ok(Some(pages)) => pages,
            Ok(None) => return Err(Trouble::AskSqlite("it cannot be read by pages just now".to_owned())),
            Err(error) => return Err(left_to_sqlite(&error)),
        };
        let meta = meta_of(path, pages.recovery_point());
        let (poured, facts, noted) = self.store_and_walk(&pages, part, inside, &meta)?;
        let unchanged = captured.is_none_or(|captured| captured.digest.is_empty() || captured.digest == poured.digest);
        must_be_unchanged(unchanged, part)?;
        let (migrations, samples) = (pages.migrations(), samples(part, &|sql| pages.sample_digest(sql)));
        let manifest = manifest(part, path, inside, (pages.recovery_point(), &poured), facts);
        Ok(Stored { manifest, migrations, samples, noted: Some(noted) })
    }

    /// Stores a copy of a database of which SQLite says that it is sound.
    pub fn asking_sqlite(&self, part: &Part, path: &Path, inside: &str) -> Result<Stored, Failure> {
        let bug =
            || Failure::new(FailureKind::Bug, format!("the plan does not say where {} is copied", part.resource.name));
        let staged = part.staged.as_deref().ok_or_else(bug)?;
        let (captured, _own_copy) = match self.captured(part)? {
            Some(captured) => (captured, None),
            None => {
                room_for(path, files::parent(staged))?;
                let copy = Temporary(staged);
                let told = capture_sqlite(self.hands, path, staged, None, self.context)?;
                let captured = serde_json::from_value(told).map_err(|error| {
                    Failure::new(FailureKind::Bug, "a copy was not told").because(error.to_string())
                })?;
                (captured, Some(copy))
            }
        };
        let meta = meta_of(path, captured.recovery_point);
        let (poured, facts) = self.stream_and_examine(staged, part.accept_unsound, inside, &meta)?;
        must_be_unchanged(captured.digest.is_empty() || captured.digest == poured.digest, part)?;
        let stop = self.context.stop;
        Ok(Stored {
            manifest: manifest(part, path, inside, (captured.recovery_point, &poured), facts),
            // A copy that cannot be asked was told to be damaged before.
            migrations: sqlite::migrations(staged, stop).unwrap_or_default(),
            samples: samples(part, &|sql| sqlite::sample_digest(staged, sql, stop)),
            noted: None,
        })
    }

    /// What an earlier step copied, where the plan has one.
    fn captured(&self, part: &Part) -> Result<Option<CaptureOutput>, Failure> {
        part.captured_by.as_ref().map(|step| self.context.output(step)).transpose()
    }

    fn store_and_walk(
        &self,
        pages: &Pages,
        part: &Part,
        inside: &str,
        meta: &EntryMeta,
    ) -> Result<(Poured, SqliteFacts, Noted), Trouble> {
        // Comparing is the first half where it is done, storing and walking the other.
        let compared = |bytes: u64| (self.progress)(bytes / 2);
        let known = self.maps.compare(pages, part, inside, self.context, &compared);
        let Known { mut new, earlier } = known.map_err(|error| left_to_sqlite(&error))?;
        let halves = |bytes: u64| (self.progress)((pages.bytes() + bytes) / 2);
        let both = Both::new(if earlier.is_some() { &halves } else { self.progress });
        let given_up = AtomicBool::new(false);
        let (streamed, looked) = std::thread::scope(|scope| {
            let known = earlier.as_ref().map(|(map, scanned)| (map, scanned));
            let (both, given_up) = (&both, &given_up);
            let looked = scope.spawn(move || {
                let looked = pages.look(known, self.context.stop, &|bytes| both.second(bytes));
                // What the walk will not vouch for need not be stored to its end.
                given_up.store(!matches!(looked, Ok(Looked::Sound(..))), Ordering::Relaxed);
                looked
            });
            let streamed = match known {
                Some((_, scanned)) => self.patch(pages, scanned, (inside, meta), both, given_up),
                None => {
                    let mut reader = Until { inner: pages.reader(), given_up, map: &mut new };
                    pour_pages(self.writer, inside, meta, &mut reader, &|bytes| both.first(bytes))
                }
            };
            // While the walk goes on.
            let streamed = streamed
                .and_then(|poured| self.writer.settle().map(|()| poured).map_err(|error| vault_failure(&error)));
            (streamed, looked.join())
        });
        match looked.map_err(|_| Failure::new(FailureKind::Bug, "looking at the pages broke off"))? {
            Ok(Looked::Sound(facts, seen)) => {
                let noted = Noted::new(new, seen, &facts, inside);
                Ok((streamed?, *facts, noted))
            }
            Ok(Looked::AskSqlite(why)) => Err(Trouble::AskSqlite(why)),
            Err(error) => Err(left_to_sqlite(&error)),
        }
    }

    /// Stores what changed.
    fn patch(
        &self,
        pages: &Pages,
        scanned: &Scanned,
        (inside, meta): (&str, &EntryMeta),
        both: &Both<'_>,
        given_up: &AtomicBool,
    ) -> Result<Poured, Failure> {
        let go_on = |at| {
            both.first(at);
            must_go_on(given_up)
        };
        let mut changes = Changes { reader: ChangedReader::new(pages, scanned), scanned, go_on: &go_on };
        pour_patch(self.writer, inside, meta, pages.bytes(), &mut changes)?;
        both.first(pages.bytes());
        if !changes.reader.all_as_scanned() {
            let message = format!("{inside} was not twice the same when it was read twice");
            return Err(Failure::new(FailureKind::Damaged, message)
                .hint("look for a failing disk or failing memory, then run it again"));
        }
        Ok(Poured { bytes: pages.bytes(), digest: scanned.digest().to_owned() })
    }

    /// Streams a copy into the vault and lets SQLite look at it meanwhile.
    fn stream_and_examine(
        &self,
        staged: &Path,
        accept_unsound: bool,
        inside: &str,
        meta: &EntryMeta,
    ) -> Result<(Poured, SqliteFacts), Failure> {
        let both = Both::new(self.progress);
        let mut file = files::open(staged).map_err(|error| path_failure(&error))?;
        let (streamed, facts) = std::thread::scope(|scope| {
            let examined = || inspect_sqlite(staged, accept_unsound, &|bytes| both.second(bytes), self.context);
            let facts = scope.spawn(examined);
            let streamed = pour_pages(self.writer, inside, meta, &mut file, &|bytes| both.first(bytes));
            (streamed, facts.join())
        });
        let facts = facts.map_err(|_| Failure::new(FailureKind::Bug, "looking at the copy broke off"))??;
        Ok((streamed?, facts.unwrap_or_default()))
    }
}

/// An error while pages were read: being stopped is one, everything else SQLite tells better.
fn left_to_sqlite(error: &SqliteError) -> Trouble {
    match error {
        SqliteError::Stopped(_) => Trouble::Failed(sqlite_failure(error)),
        other => Trouble::AskSqlite(other.to_string()),
    }
}

fn must_be_unchanged(unchanged: bool, part: &Part) -> Result<(), Failure> {
    if unchanged {
        return Ok(());
    }
    let message = format!("the copy of {} changed while it was stored", part.resource.name);
    Err(Failure::new(FailureKind::Damaged, message).hint("look for a failing disk, then run it again"))
}

/// The plan did not ask for this room: reading in place needs none.
fn room_for(database: &Path, folder: &Path) -> Result<(), Failure> {
    files::create_private_folder(folder).map_err(|error| path_failure(&error))?;
    let bytes = files::size(database).map_err(|error| path_failure(&error))?;
    super::captures::check_space(folder, bytes + bytes / 20 + (1 << 20)).map(drop).map_err(|failure| {
        failure.while_doing(format!("its copy, which SQLite has to look at, needs {}", show_bytes(bytes)))
    })
}

/// A file that goes when it is not needed any more.
struct Temporary<'a>(&'a Path);

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        let _ = files::remove_any(self.0); // the plan's last step clears the folder anyway
    }
}

fn manifest(
    part: &Part,
    path: &Path,
    inside: &str,
    (recovery_point, poured): (Timestamp, &Poured),
    facts: SqliteFacts,
) -> ResourceManifest {
    ResourceManifest {
        name: part.resource.name.clone(),
        origin: path.display().to_string(),
        recovery_point,
        path: inside.to_owned(),
        bytes: poured.bytes,
        content: Content::Sqlite(SqliteFacts { quick_digest: poured.digest.clone(), ..facts }),
    }
}

/// Digests of the rows that questions chose. One that cannot be asked is told when it is checked.
fn samples(part: &Part, digest: &dyn Fn(&str) -> Result<String, SqliteError>) -> Samples {
    let chosen = part.resource.checks.iter().filter(|(_, question)| question.sample);
    chosen.filter_map(|(name, question)| Some((name.clone(), digest(&question.sql).ok()?))).collect()
}

/// What the vault keeps of a live file besides its content. The time is the recovery point: that is how old the content is.
pub(super) fn meta_of(path: &Path, at: Timestamp) -> EntryMeta {
    let mode = files::mode(path).unwrap_or(0o600);
    EntryMeta::new(mode, at)
}

/// Two threads that work on the same bytes: progress is what both have behind them.
struct Both<'a> {
    progress: &'a (dyn Fn(u64) + Sync),
    first: AtomicU64,
    second: AtomicU64,
}

impl<'a> Both<'a> {
    fn new(progress: &'a (dyn Fn(u64) + Sync)) -> Both<'a> {
        Both { progress, first: AtomicU64::new(0), second: AtomicU64::new(0) }
    }

    fn first(&self, bytes: u64) {
        self.tell(&self.first, bytes);
    }

    fn second(&self, bytes: u64) {
        self.tell(&self.second, bytes);
    }

    fn tell(&self, own: &AtomicU64, bytes: u64) {
        own.store(bytes, Ordering::Relaxed);
        (self.progress)(self.first.load(Ordering::Relaxed).min(self.second.load(Ordering::Relaxed)));
    }
}

/// Reads on until the other thread has given up, and notes the pages.
struct Until<'a> {
    inner: PagesReader<'a>,
    given_up: &'a AtomicBool,
    map: &'a mut NewMap,
}

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        must_go_on(self.given_up)?;
        let read = self.inner.read(into)?;
        self.map.add(&into[..read]);
        Ok(read)
    }
}

fn must_go_on(given_up: &AtomicBool) -> io::Result<()> {
    match given_up.load(Ordering::Relaxed) {
        true => Err(io::Error::other("nobody wants the rest")),
        false => Ok(()),
    }
}
