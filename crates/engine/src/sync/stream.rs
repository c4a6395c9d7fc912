//! Delivering much: rows go from the file into the form of COPY while they are read, the next batch is read while the cloud
//! works on the last, and a batch is still one message and one transaction.
//!
//! ```text
//!   this thread   send 1 ────────────── send 2 ────────────── send 3 ...
//!   beside it     take 0 out, read 2    take 1 out, read 3    take 2 out, read 4
//! ```
//!
//! What is out of the ordinary - a table that the cloud does not have, deletes that look like an accident, rows that it
//! refuses - goes plainly, as `deliver` does it, which finds out what is wrong: it reads the same changes again.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use lifeboat_io::database::{
    postgres::{Change, PgError, RowWriter, Stream, StreamDelivery, WrittenRows, stream_sql, trouble},
    sqlite::{Key, Outbox, Shapes, Sight, SqliteError, Swept},
};
use lifeboat_model::{
    Failure,
    sync::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, CycleReport, Op, Trouble, Value, next_batch_rows},
};
use lifeboat_store::NewLetter;

use super::{
    Mirror,
    cloud::{Cloud, Mapped},
    deliver::{letter, written_key},
    memory_failure,
};
use crate::act::sqlite_failure;

/// Fewer changes than this go plainly: COPY into a table beside has its price.
const CHANGES_MIN: i64 = 500;
/// How often a transaction that lost against another is sent again at once.
const AGAIN_MAX: u32 = 5;
/// After so many streams in a row that were refused, so many batches go plainly: there may be something on the way that does
/// not know them, or a right that is missing.
const REFUSED_MAX: u32 = 3;
const PLAIN_BATCHES: u32 = 50;

/// How streams went so far.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// How many were refused since the last that was not.
    refused: u32,
    /// So many batches go plainly.
    plainly: u32,
    /// Tables with rows that were noted as new and were there already.
    not_fresh: BTreeSet<String>,
}

/// What is remembered from one batch to the next.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The next batch, read already.
    next: Option<Written>,
    /// Up to here the cloud has everything, and the outbox may hold it still.
    over: Option<i64>,
}

/// How a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// It is there.
    Delivered,
    /// It is read again, and tried otherwise.
    Again,
    /// It has to go plainly.
    Plainly,
}

/// A batch in the form in which it goes.
#[derive(Debug, Default)]
struct Written {
    swept: Swept,
    tables: BTreeMap<String, Load>,
    letters: Vec<NewLetter>,
    /// A table among them has no place in the cloud.
    has_no_place: bool,
}

/// What one table gets.
#[derive(Debug, Default)]
struct Load {
    binary: bool,
    /// Rows that were noted as new, and all others, as COPY reads them; empty when there are none.
    fresh: Vec<u8>,
    changed: Vec<u8>,
    deletes: Vec<Change>,
    /// Of all rows and deletes.
    keys: Vec<Key>,
}

/// What a batch is read with: nothing of the mirror itself, which is busy with the last.
#[derive(Clone, Copy)]
struct Reading<'a> {
    file: &'a Path,
    version: i64,
    shapes: &'a Shapes,
    tables: &'a BTreeMap<String, Mapped>,
    not_fresh: &'a BTreeSet<String>,
    after: i64,
    rows: u32,
    /// Up to here the cloud has everything: it is taken out before.
    over: Option<i64>,
}

impl Mirror {
    /// Sends the next batch, when enough waits for this way.
    pub(super) fn stream(
        &mut self,
        ahead: &mut Ahead,
        deleted: &mut BTreeMap<String, u64>,
        report: &mut CycleReport,
    ) -> Result<Went, Failure> {
        if self.streams.plainly > 0 {
            self.streams.plainly -= 1;
            ahead.next = None;
            return Ok(Went::Plainly);
        }
        let began = self.now_ms();
        self.follow_schema()?;
        let Some(written) = self.take_next(ahead)? else { return Ok(Went::Plainly) };
        if written.has_no_place || self.are_too_many(&written, deleted)? {
            return Ok(Went::Plainly);
        }
        // On disk before the cloud is told that it is over.
        if !written.letters.is_empty() {
            let now = self.io.clock.now();
            self.memory.set_aside(&written.letters, now).map_err(|error| memory_failure(&error))?;
        }
        if let Err(error) = self.send_written(&written, ahead)? {
            ahead.next = None;
            return self.was_refused(&written, &error);
        }
        self.streams.refused = 0;
        for (table, load) in &written.tables {
            *deleted.entry(table.clone()).or_default() += load.deletes.len() as u64;
        }
        let upto = written.swept.upto;
        self.note_delivered(written, report)?;
        ahead.over = Some(upto);
        let took = self.now_ms().saturating_sub(began);
        let waiting = ahead.next.as_ref().map_or(0, |next| u64::try_from(next.swept.newest - upto).unwrap_or(0));
        let rows = next_batch_rows(self.link.batch_rows, self.rows_at_once, waiting, took);
        self.rows_at_once = rows.min(self.link.batch_rows_max);
        Ok(Went::Delivered)
    }

    /// Takes out of the outbox what the cloud has, where nobody has done that yet.
    pub(super) fn take_out(&mut self, ahead: &mut Ahead) -> Result<(), Failure> {
        match ahead.over.take() {
            Some(over) => self.outbox()?.prune(over).map_err(|error| sqlite_failure(&error)),
            None => Ok(()),
        }
    }

    /// What becomes of a batch that did not get there.
    fn was_refused(&mut self, written: &Written, error: &PgError) -> Result<Went, Failure> {
        let fresh: Vec<String> =
            written.tables.iter().filter(|(_, load)| !load.fresh.is_empty()).map(|(name, _)| name.clone()).collect();
        // Rows that are there although they were noted as new, by REPLACE or a queue that was imported, and tables into which
        // nobody may COPY: a table beside will do.
        if !fresh.is_empty() && (may_not_copy(error) || is_there(error)) {
            self.streams.not_fresh.extend(fresh);
            return Ok(Went::Again);
        }
        match trouble(error) {
            Trouble::Position => return Err(self.lost_place(error)),
            Trouble::TooLong if self.rows_at_once > 1 => {
                self.rows_at_once /= 2;
                return Ok(Went::Again);
            }
            Trouble::Down => {
                self.streams.refuse();
                return Err(self.lost_place(error));
            }
            _ => self.streams.refuse(),
        }
        // It is its turn now.
        self.streams.plainly -= 1;
        Ok(Went::Plainly)
    }

    /// The batch that was read ahead, or the next one; nothing when too little waits.
    fn take_next(&mut self, ahead: &mut Ahead) -> Result<Option<Written>, Failure> {
        let failed = |error| sqlite_failure(&error);
        let outbox = self.outbox()?;
        let rows = self.rows_at_once.clamp(1, BATCH_ROWS_MAX);
        if ahead.next.is_none() {
            outbox.note_new_rows(u64::from(rows)).map_err(failed)?;
        }
        // What was cleared is over, too, and the cloud has not heard of it.
        let (over, newest) = (outbox.over().map_err(failed)?, outbox.newest().map_err(failed)?.unwrap_or(0));
        drop(outbox);
        let seq = self.cloud()?.held.seq;
        if let Some(next) = ahead.next.take().filter(|next| over <= seq && !next.swept.is_stale) {
            return Ok(next.is_enough().then_some(next));
        }
        let after = seq.max(over);
        let (Some((version, shapes)), Some(cloud)) = (&self.shapes, &self.cloud) else { return Ok(None) };
        if newest - after < CHANGES_MIN {
            return Ok(None);
        }
        let reading = Reading {
            file: &self.link.file,
            version: *version,
            shapes,
            tables: &cloud.tables,
            not_fresh: &self.streams.not_fresh,
            after,
            rows,
            over: None,
        };
        let written = reading.read().map_err(failed)?;
        Ok(written.is_enough().then_some(written))
    }

    /// Whether a table would lose so many rows that it looks like an accident.
    fn are_too_many(&mut self, written: &Written, deleted: &BTreeMap<String, u64>) -> Result<bool, Failure> {
        for (table, load) in &written.tables {
            let now = load.deletes.len() as u64;
            let so_far = deleted.get(table).copied().unwrap_or(0) + now;
            if self.is_an_accident(table, so_far, now)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends a batch; meanwhile what went before is taken out of the outbox, and the next batch is read.
    fn send_written(&mut self, written: &Written, ahead: &mut Ahead) -> Result<Result<(), PgError>, Failure> {
        let source = self.source();
        let Swept { upto, newest, .. } = written.swept;
        let waiting = u64::try_from(newest - upto).unwrap_or(0);
        let rows = next_batch_rows(self.link.batch_rows, self.rows_at_once, waiting, 0).min(self.link.batch_rows_max);
        let (Some((version, shapes)), Some(cloud)) = (&self.shapes, self.cloud.as_mut()) else {
            return Ok(Err(PgError::Preflight { found: "not connected".to_owned(), hint: String::new() }));
        };
        let Cloud { session, held, tables, order, .. } = cloud;
        let (sql, data) = stream_sql(&StreamDelivery {
            source: &source,
            held,
            upto,
            consistent: written.is_consistent(),
            tables: written.streams(tables, order),
        });
        let reading = Reading {
            file: &self.link.file,
            version: *version,
            shapes,
            tables,
            not_fresh: &self.streams.not_fresh,
            after: upto,
            rows: rows.clamp(1, BATCH_ROWS_MAX),
            over: ahead.over,
        };
        let (sent, read) = std::thread::scope(|scope| {
            let wanted = ahead.over.is_some() || waiting > 0;
            let reader = wanted.then(|| scope.spawn(move || reading.read()));
            let mut sent = session.run_with(&sql, &data);
            for _ in 0..AGAIN_MAX {
                if !sent.as_ref().is_err_and(|error| trouble(error) == Trouble::Again) {
                    break;
                }
                sent = session.run_with(&sql, &data);
            }
            (sent, reader.map(std::thread::ScopedJoinHandle::join))
        });
        match read {
            // What could not be read now is read, or told, when its turn comes: this batch is there or not whatever became of it.
            Some(Ok(Err(_))) | None => {}
            Some(Ok(Ok(next))) => {
                ahead.over = None;
                ahead.next = (next.swept.changes > 0).then_some(next);
            }
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
        Ok(sent)
    }

    /// Notes that a batch is there.
    fn note_delivered(&mut self, written: Written, report: &mut CycleReport) -> Result<(), Failure> {
        let cloud = self.cloud()?;
        cloud.held.seq = written.swept.upto;
        cloud.held.consistent = written.is_consistent();
        report.batches += 1;
        report.changes += written.swept.changes;
        report.set_aside += written.letters.len() as u64;
        let mut gone = BTreeMap::new();
        for (table, load) in written.tables {
            let deletes = load.deletes.len() as u64;
            let upserts = load.keys.len() as u64 - deletes;
            report.upserts += upserts;
            report.deletes += deletes;
            gone.insert(table, (load.keys, upserts > 0));
        }
        self.see_off(&gone)?;
        self.worked()
    }
}

/// Whether nobody may COPY into a table: row level security applies to us.
pub(super) fn may_not_copy(error: &PgError) -> bool {
    /// `feature_not_supported`.
    const NOT_SUPPORTED: &str = "0A000";
    matches!(error, PgError::Refused { said, .. } if said.code == NOT_SUPPORTED)
}

/// Whether a row is there already.
fn is_there(error: &PgError) -> bool {
    /// `unique_violation`.
    const UNIQUE: &str = "23505";
    matches!(error, PgError::Refused { said, .. } if said.code == UNIQUE)
}

impl Streams {
    fn refuse(&mut self) {
        self.refused += 1;
        self.plainly = if self.refused >= REFUSED_MAX { PLAIN_BATCHES } else { 1 };
    }
}

impl Written {
    fn is_enough(&self) -> bool {
        self.swept.changes >= CHANGES_MIN.unsigned_abs()
    }

    fn is_consistent(&self) -> bool {
        self.swept.upto >= self.swept.newest && self.letters.is_empty()
    }

    /// What the tables get, in the order in which they refer to each other.
    fn streams<'a>(&'a self, tables: &'a BTreeMap<String, Mapped>, order: &[String]) -> Vec<Stream<'a>> {
        let some = |rows: &'a Vec<u8>| (!rows.is_empty()).then_some(rows.as_slice());
        let in_order = order.iter().filter_map(|name| Some((tables.get(name)?, self.tables.get(name)?)));
        in_order
            .map(|(mapped, load)| Stream {
                table: &mapped.cloud,
                columns: mapped.columns.clone(),
                key: mapped.key.clone(),
                binary: load.binary,
                fresh: some(&load.fresh),
                changed: some(&load.changed),
                deletes: load.deletes.clone(),
            })
            .collect()
    }
}

/// Rows of a table as they are being written, with their keys.
struct Writing<'a> {
    mapped: &'a Mapped,
    writer: RowWriter,
    fresh: (WrittenRows, Vec<Key>),
    changed: (WrittenRows, Vec<Key>),
    deletes: Vec<(Key, Change)>,
}

impl Reading<'_> {
    fn read(&self) -> Result<Written, SqliteError> {
        let outbox = Outbox::open(self.file)?;
        if let Some(over) = self.over {
            outbox.prune(over)?;
        }
        outbox.note_new_rows(u64::from(self.rows))?;
        let mut tables: BTreeMap<&str, Writing<'_>> = BTreeMap::new();
        let mut written = Written::default();
        let (letters, has_no_place) = (&mut written.letters, &mut written.has_no_place);
        let swept =
            outbox.sweep((self.version, self.shapes), self.after, self.rows, BATCH_BYTES_MAX, &mut |sight| {
                let name = sight.table.name.as_str();
                if !tables.contains_key(name) {
                    let Some((name, mapped)) = self.tables.get_key_value(name) else {
                        *has_no_place = true;
                        return 0;
                    };
                    tables.insert(name, Writing::of(mapped));
                }
                let Some(writing) = tables.get_mut(name) else { return 0 };
                let is_fresh = sight.first == Op::Insert && !self.not_fresh.contains(name);
                writing.add(sight, is_fresh, letters)
            })?;
        written.swept = swept;
        written.tables = tables.into_iter().map(|(name, writing)| (name.to_owned(), writing.ended())).collect();
        Ok(written)
    }
}

impl Writing<'_> {
    fn of(mapped: &Mapped) -> Writing<'_> {
        let writer = RowWriter::of(&mapped.cloud, &mapped.columns);
        Writing { mapped, writer, fresh: Default::default(), changed: Default::default(), deletes: Vec::new() }
    }

    /// Adds a row, or a letter about it; says how many bytes it takes.
    fn add(&mut self, sight: &Sight<'_>, is_fresh: bool, letters: &mut Vec<NewLetter>) -> u64 {
        let mapped = self.mapped;
        let written = if sight.is_gone() {
            written_key(mapped, sight.key).map(|key| {
                let bytes = key.iter().flatten().map(|part| part.len() as u64).sum();
                self.deletes.push((sight.key.clone(), key));
                bytes
            })
        } else if let Some(at) = sight.key.iter().position(|value| *value == Value::Null) {
            Err(format!("its key {} is NULL", mapped.shape.key_names()[at]))
        } else {
            let (rows, keys) = if is_fresh { &mut self.fresh } else { &mut self.changed };
            let before = rows.bytes();
            self.writer.add(|at| sight.value(mapped.local[at]), rows).map(|()| {
                keys.push(sight.key.clone());
                rows.bytes() - before
            })
        };
        written.unwrap_or_else(|why| {
            let hint = "change the value in the file, or make the column wider: lifeboat sync widen";
            letters.push(letter(mapped, sight.key, Trouble::Content.word(), why, hint));
            0
        })
    }

    /// All of it, in the order of keys, which is that of the cloud's index.
    fn ended(mut self) -> Load {
        self.deletes.sort_by(|one, two| one.1.cmp(&two.1));
        let (fresh, changed) = (std::mem::take(&mut self.fresh), std::mem::take(&mut self.changed));
        let rows = |(rows, keys): (WrittenRows, Vec<Key>)| {
            let mut order: Vec<usize> = (0..keys.len()).collect();
            if !keys.is_sorted_by(|one, two| in_order(one, two) != Ordering::Greater) {
                order.sort_by(|one, two| in_order(&keys[*one], &keys[*two]));
            }
            (self.writer.whole(rows, &order), keys)
        };
        let ((fresh, mut keys), (changed, others)) = (rows(fresh), rows(changed));
        keys.extend(others);
        let (gone, deletes): (Vec<Key>, Vec<Change>) = self.deletes.into_iter().unzip();
        keys.extend(gone);
        Load { binary: self.writer.binary, fresh, changed, deletes, keys }
    }
}

/// An order of keys: numbers as numbers, everything else by its bytes.
fn in_order(one: &[Value], two: &[Value]) -> Ordering {
    fn parts(one: &Value, two: &Value) -> Ordering {
        let rank = |value: &Value| match value {
            Value::Null => 0,
            Value::Integer(_) => 1,
            Value::Real(_) => 2,
            Value::Text(_) => 3,
            Value::Blob { .. } => 4,
        };
        match (one, two) {
            (Value::Integer(one), Value::Integer(two)) => one.cmp(two),
            (Value::Real(one), Value::Real(two)) => one.total_cmp(two),
            (Value::Text(one), Value::Text(two)) => one.cmp(two),
            (Value::Blob { blob: one, .. }, Value::Blob { blob: two, .. }) => one.cmp(two),
            (one, two) => rank(one).cmp(&rank(two)),
        }
    }
    one.iter().zip(two).map(|(one, two)| parts(one, two)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}
