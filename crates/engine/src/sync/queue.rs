//! The queue as people see it: listed, saved, cleared, put back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use lifeboat_io::{
    database::sqlite::{Key, Noted, Outbox, SqliteError, TableShape, Waiting},
    files,
};
use lifeboat_model::{
    Failure, FailureKind,
    sync::{DeadLetter, LetterChoice, Op, QUEUE_SCHEMA, QueueEntry, SavedQueue, Value},
};
use serde::Serialize;

use super::{Mirror, memory_failure, named};
use crate::act::{path_failure, sqlite_failure};

/// Rows of a saved queue are read so many at a time.
const READ_AT_ONCE: usize = 1_000;

/// What `clear` may fail with: its own write, or the database's.
struct ClearFailure(Failure);

impl From<SqliteError> for ClearFailure {
    fn from(error: SqliteError) -> Self {
        ClearFailure(sqlite_failure(&error))
    }
}

/// What came of a saved queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Imported {
    /// Entries that wait again.
    pub entries: u64,
    /// Entries of tables that are not mirrored, or have another key by now.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
}

impl Mirror {
    /// What waits, oldest first, at most so many; and rows that are set aside.
    ///
    /// # Errors
    /// When the file or the memory cannot be read.
    pub fn queue(&mut self, max: u32) -> Result<(Vec<QueueEntry>, Vec<DeadLetter>), Failure> {
        let letters = self.memory.letters().map_err(|error| memory_failure(&error))?;
        if !self.outbox()?.is_attached().map_err(|error| sqlite_failure(&error))? {
            return Ok((Vec::new(), letters));
        }
        self.look();
        let over = self.outbox()?.over().map_err(|error| sqlite_failure(&error))?;
        let noted = self.outbox()?.entries(over, max).map_err(|error| sqlite_failure(&error))?;
        Ok((self.told(&noted)?, letters))
    }

    /// Entries with the rows that they are about, as these are now.
    fn told(&mut self, noted: &[Noted]) -> Result<Vec<QueueEntry>, Failure> {
        self.shapes()?;
        let outbox = self.outbox()?;
        let last_error = self.memory.last_error().map_err(|error| memory_failure(&error))?;
        let mut told = Vec::with_capacity(noted.len());
        for entries in noted.chunks(READ_AT_ONCE) {
            for entry in entries {
                let shape = self.shapes.as_ref().and_then(|(_, shapes)| shapes.table(&entry.table));
                let (key, payload) = match shape {
                    Some(shape) => {
                        let row = outbox.rows(shape, std::slice::from_ref(&entry.key));
                        let row = row.map_err(|error| sqlite_failure(&error))?.pop().and_then(|change| change.row);
                        let names: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
                        (named(&shape.key_names(), &entry.key), row.map(|row| named(&names, &row)))
                    }
                    None => (named(&["key"], &entry.key), None),
                };
                told.push(QueueEntry {
                    id: entry.seq,
                    table: entry.table.clone(),
                    op: entry.op,
                    key,
                    payload,
                    attempts: self.memory.attempts(entry.seq).map_err(|error| memory_failure(&error))?,
                    last_error: last_error.clone(),
                    enqueued_at: self.memory.seen_at(entry.seq).map_err(|error| memory_failure(&error))?,
                });
            }
        }
        Ok(told)
    }

    /// The name of a file for a queue that is saved now.
    pub(crate) fn queue_name(&self) -> String {
        format!("queue-backup-{}.json", self.io.clock.now().strftime("%Y%m%d-%H%M%S"))
    }

    /// A free name for it in the folder of this mirror.
    pub(crate) fn queue_file(&self) -> std::path::PathBuf {
        let first = self.queues().join(self.queue_name());
        let mut path = first.clone();
        let mut again = 1;
        while files::exists(&path) {
            again += 1;
            path = first.with_extension(format!("{again}.json"));
        }
        path
    }

    /// Saves what waits into a file of its own; it goes on waiting.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn save_queue(&mut self, into: &Path) -> Result<u64, Failure> {
        self.note_new_rows()?;
        let (entries, _) = self.queue(u32::MAX)?;
        self.write_queue(&self.outbox()?, into, &entries)?;
        Ok(entries.len() as u64)
    }

    fn write_queue(&self, outbox: &Outbox, into: &Path, entries: &[QueueEntry]) -> Result<(), Failure> {
        let identity = outbox.identity().map_err(|error| sqlite_failure(&error))?;
        let saved = SavedQueue {
            schema: QUEUE_SCHEMA.to_owned(),
            link: self.link.name.clone(),
            database: identity.map(|identity| identity.database).unwrap_or_default(),
            saved_at: self.io.clock.now(),
            entries: entries.to_vec(),
        };
        let body = serde_json::to_vec_pretty(&saved).map_err(|error| {
            Failure::new(FailureKind::Bug, "a queue cannot be written as JSON").because(error.to_string())
        })?;
        files::create_private_folder(files::parent(into)).map_err(|error| path_failure(&error))?;
        // It holds what people wrote: for its owner's eyes, like the database.
        files::write_with_mode(into, &body, 0o600).map_err(|error| path_failure(&error))
    }

    /// Saves what waits and takes it out of the queue, in one transaction of the file. What is over with it has never
    /// reached the cloud: its tables are to be compared.
    pub(crate) fn clear_into(&mut self, saved: &Path) -> Result<Waiting, Failure> {
        self.shapes()?;
        let outbox = self.outbox()?;
        let mirror: &Mirror = self;
        let last_error = self.memory.last_error().map_err(|error| memory_failure(&error))?;
        let save = |noted: &[Noted]| -> Result<(), ClearFailure> {
            let shapes = mirror.shapes.as_ref().map(|(_, shapes)| shapes);
            let mut entries = Vec::with_capacity(noted.len());
            for entry in noted {
                let shape = shapes.and_then(|shapes| shapes.table(&entry.table));
                let row = match shape {
                    Some(shape) => outbox.row_inside(shape, &entry.key).map_err(ClearFailure::from)?,
                    None => None,
                };
                let names: Vec<&str> =
                    shape.map(|shape| shape.columns.iter().map(|one| one.name.as_str()).collect()).unwrap_or_default();
                let keys = shape.map_or_else(|| vec!["key"], |shape| shape.key_names());
                entries.push(QueueEntry {
                    id: entry.seq,
                    table: entry.table.clone(),
                    op: entry.op,
                    key: named(&keys, &entry.key),
                    payload: row.map(|row| named(&names, &row)),
                    attempts: mirror
                        .memory
                        .attempts(entry.seq)
                        .map_err(|error| ClearFailure(memory_failure(&error)))?,
                    last_error: last_error.clone(),
                    enqueued_at: mirror
                        .memory
                        .seen_at(entry.seq)
                        .map_err(|error| ClearFailure(memory_failure(&error)))?,
                });
            }
            // Repeated after a crash: what was saved then has left the queue, and stays in the file.
            let mut all = mirror.saved_before(saved, &entries).map_err(ClearFailure)?;
            all.append(&mut entries);
            mirror.write_queue(&outbox, saved, &all).map_err(ClearFailure)
        };
        let cleared = outbox.clear(save).map_err(|failure: ClearFailure| failure.0)?;
        let tables: Vec<String> = cleared.tables.keys().cloned().collect();
        self.memory.set_verified(&tables, false).map_err(|error| memory_failure(&error))?;
        Ok(cleared)
    }

    /// What a saved queue holds besides these entries; nothing when there is no such file yet.
    fn saved_before(&self, saved: &Path, entries: &[QueueEntry]) -> Result<Vec<QueueEntry>, Failure> {
        if !files::exists(saved) {
            return Ok(Vec::new());
        }
        let first = entries.first().map_or(i64::MAX, |entry| entry.id);
        Ok(read_queue(saved)?.entries.into_iter().filter(|entry| entry.id < first).collect())
    }

    /// Puts a saved queue back, in its order; every row is read again when it is delivered. Says how many entries there were, and of
    /// which tables there were some that are not mirrored any more: nothing is left out without a word.
    pub(crate) fn import(&mut self, file: &Path) -> Result<Imported, Failure> {
        let saved = read_queue(file)?;
        let shapes = self.shapes()?.clone();
        let known: BTreeSet<String> =
            self.outbox()?.numbers().map_err(|error| sqlite_failure(&error))?.into_values().collect();
        let mut imported = Imported::default();
        let mut entries: Vec<(String, Op, Key)> = Vec::with_capacity(saved.entries.len());
        for entry in saved.entries {
            let shape = shapes.table(&entry.table).filter(|_| known.contains(&entry.table));
            let named =
                |shape: &TableShape| shape.key_names().iter().map(|name| entry.key.get(*name).cloned()).collect();
            let key: Option<Option<Vec<Value>>> = shape.map(named);
            match key.flatten() {
                Some(key) => entries.push((entry.table, entry.op, key)),
                None => *imported.left_out.entry(entry.table).or_default() += 1,
            }
        }
        imported.entries = self.outbox()?.note(&entries).map_err(|error| sqlite_failure(&error))?;
        Ok(imported)
    }

    /// Tries rows again that were set aside, or forgets them; says how many.
    pub(crate) fn letters(&mut self, choice: LetterChoice, ids: &[i64]) -> Result<u64, Failure> {
        let failed = |error| memory_failure(&error);
        let letters = self.memory.letters().map_err(failed)?;
        if let Some(id) = ids.iter().find(|id| !letters.iter().any(|letter| letter.id == **id)) {
            let failure = Failure::new(FailureKind::Usage, format!("no row is set aside under number {id}"));
            return Err(failure.hint("lifeboat sync queue list"));
        }
        let mut meant: Vec<&DeadLetter> =
            letters.iter().filter(|letter| ids.is_empty() || ids.contains(&letter.id)).collect();
        if choice == LetterChoice::Retry {
            let shapes = self.shapes()?.clone();
            let mut again = Vec::new();
            let is_known = |letter: &&DeadLetter| shapes.table(&letter.table).is_some();
            // Of a table that is not in the file any more there is nothing to deliver: it stays on the list.
            meant.retain(is_known);
            for letter in &meant {
                let Some(shape) = shapes.table(&letter.table) else { continue };
                let by_name =
                    shape.key_names().iter().map(|name| letter.key.get(*name).cloned()).collect::<Option<Vec<_>>>();
                let by_place = || {
                    Some(letter.key.values().cloned().collect::<Vec<_>>()).filter(|key| key.len() == shape.key.len())
                };
                again.extend(by_name.or_else(by_place).map(|key| (letter.table.clone(), Op::Update, key)));
            }
            self.outbox()?.note(&again).map_err(|error| sqlite_failure(&error))?;
        }
        let rows: Vec<_> = meant.iter().map(|letter| (letter.table.clone(), letter.key.clone())).collect();
        if choice == LetterChoice::Drop {
            let tables: Vec<String> = rows.iter().map(|(table, _)| table.clone()).collect();
            self.memory.set_verified(&tables, false).map_err(failed)?;
        }
        self.memory.forget_letters(&rows).map_err(failed)?;
        Ok(rows.len() as u64)
    }

    /// Puts deletes back into the queue that were held; says how many.
    pub(crate) fn confirm_deletes(&mut self, tables: &[String]) -> Result<u64, Failure> {
        let failed = |error| memory_failure(&error);
        let mut confirmed = 0;
        for table in self.memory.held().map_err(failed)?.into_keys() {
            if !tables.is_empty() && !tables.contains(&table) {
                continue;
            }
            self.memory.confirm(&table).map_err(failed)?;
            let keys = self.memory.held_keys(&table).map_err(failed)?;
            let entries: Vec<(String, Op, Key)> =
                keys.into_iter().map(|key| (table.clone(), Op::Delete, key)).collect();
            confirmed += self.outbox()?.note(&entries).map_err(|error| sqlite_failure(&error))?;
            self.memory.let_go(&table).map_err(failed)?;
        }
        Ok(confirmed)
    }
}

/// Reads a saved queue.
pub(super) fn read_queue(file: &Path) -> Result<SavedQueue, Failure> {
    let body = files::read(file).map_err(|error| path_failure(&error))?;
    let saved: SavedQueue = serde_json::from_slice(&body).map_err(|error| {
        let failure = Failure::new(FailureKind::Usage, format!("{} is no saved queue", file.display()));
        failure.because(error.to_string()).hint("lifeboat sync clear and lifeboat sync queue save write such files")
    })?;
    if saved.schema != QUEUE_SCHEMA {
        let message =
            format!("{} was written in a format that this program does not know: {}", file.display(), saved.schema);
        return Err(Failure::new(FailureKind::Usage, message));
    }
    Ok(saved)
}
