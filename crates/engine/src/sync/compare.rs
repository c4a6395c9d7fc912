//! Comparing the file with the cloud, and making the cloud equal: range by range, so that only what differs is sent, in
//! either direction of cause: a queue that was cleared, a file that was restored, an edit in the cloud.
//!
//! The file's rows are summed up a range at a time while the cloud sums up the range before; each is read in a transaction of
//! its own. From where the cloud has nothing more, rows go over as COPY. The app goes on writing meanwhile: a row that differs only for that is delivered by its own entry of the
//! outbox, which is looked at before anything is called different.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
    path::Path,
};

use lifeboat_io::{
    Stop,
    database::{
        postgres::{
            Change, CloudRow, Delivery, RangeSum, RowSummer, Sums, TableDelivery, delivery_sql, key_range,
            range_images, range_rows, range_sum, sums_of,
        },
        sqlite::{Key, Outbox, Sight, SqliteError},
    },
};
use lifeboat_model::{
    Failure, FailureKind, Tri,
    sync::{CloudType, ResyncProgress, Value, canonical},
};
use serde::Serialize;

use super::{
    Mirror,
    cloud::Mapped,
    copy::Copied,
    deliver::{written_key, written_row},
    memory_failure, stopped,
};
use crate::{act::sqlite_failure, perform::Watch};

/// Rows of a range.
const RANGE_ROWS: u32 = 20_000;
/// How long it may take to look whether the file is sound.
const CHECK_LIMIT: std::time::Duration = std::time::Duration::from_secs(600);
/// How often it is noted how far it is.
const NOTED_EVERY_MS: u64 = 500;
/// So many rows are written as COPY; fewer, as text in the statement.
const STREAM_ROWS_MIN: usize = 500;
/// Keys that are named of a table that differs.
pub(super) const NAMED_MAX: usize = 20;

/// What a comparison found about a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableCompared {
    /// The table.
    pub table: String,
    /// Rows in the file.
    pub rows: u64,
    /// Rows that the cloud lacks.
    pub missing: u64,
    /// Rows that are others there.
    pub different: u64,
    /// Rows that are only there.
    pub orphans: u64,
    /// Rows that wait in the queue: not compared.
    pub not_compared: u64,
    /// Rows whose values the cloud's columns cannot hold: they are not there.
    pub unrepresentable: u64,
    /// Columns that cannot be compared, by name and type.
    pub columns_left_out: Vec<String>,
    /// Some of the keys.
    pub keys: Vec<String>,
    /// Why it could not be compared at all.
    pub unfit: Option<String>,
}

impl TableCompared {
    /// What differs, in one sentence.
    pub fn sentence(&self) -> String {
        match &self.unfit {
            Some(why) => format!("{}: {why}", self.table),
            None => format!(
                "{}: {} rows missing, {} different, {} only in the cloud, {} that its columns cannot hold: {}",
                self.table,
                self.missing,
                self.different,
                self.orphans,
                self.unrepresentable,
                self.keys.join("; ")
            ),
        }
    }

    /// Whether the cloud has what the file has.
    pub fn is_equal(&self) -> bool {
        self.unfit.is_none() && self.missing + self.different + self.orphans + self.unrepresentable == 0
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Compared {
    /// By table.
    pub tables: Vec<TableCompared>,
    /// Rows that were written.
    pub written: u64,
    /// Rows that were taken away.
    pub removed: u64,
}

impl Compared {
    /// Whether the cloud has what the file has.
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(TableCompared::is_equal)
    }
}

/// What is done about differences.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mend {
    /// Nothing.
    Nothing,
    /// The cloud is made equal; with `true`, rows that are only there go.
    Write(bool),
}

/// What a walk through the tables does.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    mend: Mend,
    sums: Sums,
    watch: &'a dyn Watch,
    pub stop: &'a Stop,
    /// When it was last noted how far it is in this table.
    noted_ms: &'a Cell<Option<u64>>,
}

/// A range of the file's rows: their keys and sums, nothing where a value does not fit.
#[derive(Debug, Default)]
struct Range {
    rows: Vec<(Key, Option<i64>)>,
    /// Whether there is no row behind it.
    is_end: bool,
}

impl Range {
    fn sum(&self) -> RangeSum {
        let mut sum = RangeSum::default();
        self.rows.iter().filter_map(|(_, row)| *row).for_each(|row| sum.add(row));
        sum
    }

    fn is_whole(&self) -> bool {
        self.rows.iter().all(|(_, row)| row.is_some())
    }
}

impl Mirror {
    /// Looks whether the file is sound and not suddenly empty: what is broken here must not be copied over what is whole
    /// there. Values and references that its own rules would not take are no damage of the file: they are given back, to be told.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check_local(&mut self, emptied: &[String], stop: &Stop) -> Result<Vec<String>, Failure> {
        let path = self.link.file.clone();
        let (mut unsound, mut doubts) = (None, Vec::new());
        for check in lifeboat_io::database::sqlite::check_live(&path, CHECK_LIMIT) {
            match (check.name.as_str(), check.outcome) {
                (_, Tri::Pass) => {}
                ("integrity", _) => unsound = Some(check.detail),
                _ => doubts.push(check.detail),
            }
        }
        if let Some(what) = unsound {
            let failure = Failure::new(FailureKind::Damaged, format!("{} is not known to be sound", path.display()));
            return Err(failure.because(what).hint("lifeboat verify, and lifeboat restore when it is damaged"));
        }
        let _turn = self.turn_soon(stop)?;
        self.local_only_refuses()?;
        self.connect(stop)?;
        let shapes = self.shapes()?.clone();
        for shape in &shapes.tables {
            let cloud = self.cloud()?;
            let Some(mapped) = cloud.tables.get(&shape.name).cloned() else { continue };
            let rows = self.outbox()?.count(&shape.name).map_err(|error| sqlite_failure(&error))?;
            if rows > 0 || emptied.contains(&shape.name) {
                continue;
            }
            let counted = self.cloud()?.session.one(&format!("SELECT count(*) FROM {}", mapped.cloud.sql_name()));
            let there = match counted {
                Ok(row) => row.count(0),
                Err(error) => return Err(self.cloud_failure(&error)),
            };
            if there > 0 {
                let message = format!("{} is empty in the file, and has {there} rows in the cloud", shape.name);
                let failure = Failure::new(FailureKind::Refused, message);
                return Err(failure
                    .hint(format!("when it is meant to be empty: lifeboat sync resync --emptied {}", shape.name)));
            }
        }
        Ok(doubts)
    }

    /// Compares tables, all when none is named.
    ///
    /// # Errors
    /// When either side cannot be read; another process delivers.
    pub fn compare(&mut self, tables: &[String], watch: &dyn Watch, stop: &Stop) -> Result<Compared, Failure> {
        let _turn = self.turn_soon(stop)?;
        self.local_only_refuses()?;
        self.connect(stop)?;
        let compared = self.walk(tables, Mend::Nothing, watch, stop)?;
        let equal: Vec<String> =
            compared.tables.iter().filter(|table| table.is_equal()).map(|table| table.table.clone()).collect();
        self.memory.set_verified(&equal, true).map_err(|error| memory_failure(&error))?;
        Ok(compared)
    }

    /// Makes tables of the cloud equal to the file's, whether the mirror is switched on or not.
    ///
    /// # Errors
    /// When either side cannot be read or written; another process delivers.
    pub(crate) fn resync(
        &mut self,
        tables: &[String],
        keep_orphans: bool,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<Compared, Failure> {
        let _turn = self.turn_soon(stop)?;
        self.local_only_refuses()?;
        self.connect(stop)?;
        self.walk(tables, Mend::Write(!keep_orphans), watch, stop)
    }

    pub(super) fn local_only_refuses(&self) -> Result<(), Failure> {
        match self.said().local_only {
            false => Ok(()),
            true => {
                let failure = Failure::new(FailureKind::Refused, "ENABLE_SUPABASE=false: no connection is opened");
                Err(failure.hint("take it out of the environment or the app's .env"))
            }
        }
    }

    pub(super) fn walk(
        &mut self,
        wanted: &[String],
        mend: Mend,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<Compared, Failure> {
        self.see_all("off")?;
        let compared = self.walk_tables(wanted, mend, watch, stop)?;
        self.see_all("on")?;
        Ok(compared)
    }

    /// Whether policies hide rows from us; with `off`, they make questions fail instead.
    fn see_all(&mut self, row_security: &str) -> Result<(), Failure> {
        let set = self.cloud()?.session.run(&format!("SET row_security = {row_security}"));
        set.map_err(|error| self.cloud_failure(&error))
    }

    fn walk_tables(
        &mut self,
        wanted: &[String],
        mend: Mend,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<Compared, Failure> {
        let shapes = self.shapes()?.clone();
        let cloud = self.cloud()?;
        // Parents first, so that a row finds what it refers to; what is only in the cloud goes the other way round.
        let order: Vec<String> = cloud.order.clone();
        let mut names: Vec<String> = order.into_iter().filter(|name| shapes.table(name).is_some()).collect();
        names.extend(cloud.unfit.keys().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
        let unknown = wanted.iter().find(|name| !names.contains(name));
        if let Some(name) = unknown {
            let failure = Failure::new(FailureKind::Usage, format!("{name} is not mirrored"));
            return Err(failure.hint(format!("mirrored are: {}", names.join(", "))));
        }
        names.retain(|name| wanted.is_empty() || wanted.contains(name));
        let sums = sums_of(&mut self.cloud()?.session).map_err(|error| self.cloud_failure(&error))?;
        let noted_ms = Cell::new(None);
        let walk = Walk { mend, sums, watch, stop, noted_ms: &noted_ms };
        let mut compared = Compared::default();
        let mut orphans: Vec<(String, Vec<Change>)> = Vec::new();
        for name in names {
            let Some(mapped) = self.cloud()?.tables.get(&name).cloned() else {
                let unfit = self.cloud()?.unfit.get(&name).cloned();
                let unfit = unfit.or_else(|| Some("it cannot be mirrored".to_owned()));
                compared.tables.push(TableCompared { table: name, unfit, ..TableCompared::default() });
                continue;
            };
            noted_ms.set(None); // whoever looks sees at once which table it is
            let (found, only_there) = self.table(&mapped, walk, &mut compared.written)?;
            compared.tables.push(found);
            orphans.push((name, only_there));
        }
        if mend == Mend::Write(true) {
            for (name, keys) in orphans.into_iter().rev() {
                for some in keys.chunks(RANGE_ROWS as usize) {
                    stopped(stop)?;
                    compared.removed += some.len() as u64;
                    self.write(&name, Vec::new(), some.to_vec())?;
                }
            }
        }
        self.memory.set_resync(None).map_err(|error| memory_failure(&error))?;
        Ok(compared)
    }

    fn table(
        &mut self,
        mapped: &Mapped,
        walk: Walk<'_>,
        written: &mut u64,
    ) -> Result<(TableCompared, Vec<Change>), Failure> {
        let name = mapped.shape.name.clone();
        let total = self.outbox()?.count(&name).map_err(|error| sqlite_failure(&error))?;
        let mut found = TableCompared { table: name.clone(), ..TableCompared::default() };
        let (comparable, left_out) = comparable(mapped);
        found.columns_left_out = left_out;
        // What is written is as it is now: whatever waits of it will find it so.
        let waiting = if walk.mend == Mend::Nothing { self.waiting_keys(mapped)? } else { BTreeSet::new() };
        let mut orphans = Vec::new();
        let mut after: Option<Key> = None;
        let mut range = Some(self.read_range(mapped, &comparable, walk.sums, None)?);
        let mut may_copy = walk.mend != Mend::Nothing && self.saving.is_none() && self.link.resync_rows.is_none();
        // Whether the range before had no row there: there may be none at all any more.
        let mut was_empty = true;
        while let Some(here) = range.take() {
            stopped(walk.stop)?;
            if may_copy && was_empty && !here.rows.is_empty() && self.has_nothing_after(mapped, after.as_ref())? {
                match self.copy_rest(mapped, after.as_ref(), &mut found, total, walk)? {
                    Copied::All(rows) => {
                        *written += rows;
                        break;
                    }
                    // From there on row by row, which says what is wrong.
                    Copied::UpTo(rows, key) => {
                        *written += rows;
                        may_copy = false;
                        after = key.or(after);
                        range = Some(self.read_range(mapped, &comparable, walk.sums, after.as_ref())?);
                        continue;
                    }
                }
            }
            let upto = here.rows.last().map(|(key, _)| key.clone()).filter(|_| !here.is_end);
            let condition = self.range(mapped, after.as_ref(), upto.as_ref());
            let (there, next) = self.sum_there(mapped, &comparable, walk.sums, &condition, upto.as_ref())?;
            was_empty = there.rows == 0;
            if there != here.sum() || !here.is_whole() {
                let columns: Vec<usize> = comparable.iter().map(|at| mapped.columns[*at]).collect();
                let rows = match there.rows {
                    0 => Vec::new(),
                    _ => {
                        let session = &mut self.cloud()?.session;
                        let rows = range_rows(session, walk.sums, &mapped.cloud, (&mapped.key, &columns), &condition);
                        rows.map_err(|error| self.cloud_failure(&error))?
                    }
                };
                let differ = differences(mapped, &here, rows, &waiting, &mut found);
                let only_there = self.really_gone(mapped, differ.only_there)?;
                found.orphans += only_there.len() as u64;
                if self.saving.is_some() {
                    let others: BTreeSet<&Change> = only_there.iter().chain(&differ.others).collect();
                    self.save_rows(mapped, &condition, &others)?;
                }
                if walk.mend != Mend::Nothing && !differ.to_write.is_empty() {
                    *written += self.write_some(mapped, &differ.to_write, found.rows, total, walk)?;
                }
                orphans.extend(only_there);
            }
            found.rows += here.rows.len() as u64;
            self.tell(&found, total, walk)?;
            (after, range) = (upto, next);
        }
        if walk.mend != Mend::Nothing {
            walk.watch.note(&format!("{0}/{0} {name}", found.rows));
        }
        Ok((found, orphans))
    }

    pub(super) fn tell(&self, found: &TableCompared, total: u64, walk: Walk<'_>) -> Result<(), Failure> {
        let total = total.max(found.rows);
        walk.watch.progress(found.rows, Some(total));
        if walk.mend == Mend::Nothing {
            return Ok(());
        }
        // The disk is waited for twice a second at most.
        let now = self.now_ms();
        let is_fresh = |noted: u64| now.saturating_sub(noted) < NOTED_EVERY_MS;
        if walk.noted_ms.get().is_some_and(is_fresh) && found.rows < total {
            return Ok(());
        }
        walk.noted_ms.set(Some(now));
        let progress = ResyncProgress { table: found.table.clone(), done: found.rows, total };
        self.memory.set_resync(Some(&progress)).map_err(|error| memory_failure(&error))
    }

    fn read_range(
        &self,
        mapped: &Mapped,
        comparable: &[usize],
        sums: Sums,
        after: Option<&Key>,
    ) -> Result<Range, Failure> {
        read_range(&self.link.file, mapped, comparable, sums, after).map_err(|error| sqlite_failure(&error))
    }

    /// What a range adds up to in the cloud; meanwhile the next one of the file is read, when there is one.
    fn sum_there(
        &mut self,
        mapped: &Mapped,
        comparable: &[usize],
        sums: Sums,
        condition: &str,
        upto: Option<&Key>,
    ) -> Result<(RangeSum, Option<Range>), Failure> {
        let columns: Vec<usize> = comparable.iter().map(|at| mapped.columns[*at]).collect();
        let file = self.link.file.clone();
        let session = &mut self.cloud()?.session;
        let (there, next) = std::thread::scope(|scope| {
            let next = upto.map(|upto| scope.spawn(move || read_range(&file, mapped, comparable, sums, Some(upto))));
            let there = range_sum(session, sums, &mapped.cloud, &columns, condition);
            (there, next.map(std::thread::ScopedJoinHandle::join))
        });
        let there = there.map_err(|error| self.cloud_failure(&error))?;
        let next = next.map(|next| next.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        Ok((there, next.transpose().map_err(|error| sqlite_failure(&error))?))
    }

    /// Writes rows as the cloud has them into the file that is being written.
    fn save_rows(&mut self, mapped: &Mapped, range: &str, others: &BTreeSet<&Change>) -> Result<(), Failure> {
        if others.is_empty() {
            return Ok(());
        }
        let session = &mut self.cloud()?.session;
        let images = range_images(session, &mapped.cloud, &mapped.key, range);
        let images = images.map_err(|error| self.cloud_failure(&error))?;
        let table = serde_json::Value::from(mapped.shape.name.as_str());
        let lines: String = images
            .into_iter()
            .filter(|(key, _)| others.contains(key))
            .map(|(_, row)| format!("{{\"table\":{table},\"row\":{row}}}\n"))
            .collect();
        let Some(file) = &mut self.saving else { return Ok(()) };
        file.append(lines.as_bytes()).map_err(|error| crate::act::path_failure(&error))
    }

    /// A range as a condition of the cloud. Where keys cannot be put in order on both sides alike, all of the table is one.
    pub(super) fn range(&self, mapped: &Mapped, after: Option<&Key>, upto: Option<&Key>) -> String {
        let bound = |key: Option<&Key>| key.and_then(|key| written_key(mapped, key).ok());
        key_range(&mapped.cloud, &mapped.key, bound(after).as_ref(), bound(upto).as_ref())
    }

    /// Keys of a table that wait in the queue: their rows may differ, and will not for long.
    fn waiting_keys(&self, mapped: &Mapped) -> Result<BTreeSet<String>, Failure> {
        self.note_new_rows()?;
        let over = self.outbox()?.over().map_err(|error| sqlite_failure(&error))?;
        let noted = self.outbox()?.entries(over, u32::MAX).map_err(|error| sqlite_failure(&error))?;
        let of_table = noted.into_iter().filter(|entry| entry.table == mapped.shape.name);
        Ok(of_table.map(|entry| shown_key(&canonical_key(mapped, &entry.key).unwrap_or_default())).collect())
    }

    /// Of rows that the cloud has and a page of the file did not: those that the file really lacks.
    fn really_gone(&self, mapped: &Mapped, candidates: Vec<Change>) -> Result<Vec<Change>, Failure> {
        let mut gone = Vec::new();
        let outbox = self.outbox()?;
        for key in candidates {
            let values = file_key(mapped, &key);
            let there = outbox.rows(&mapped.shape, &values).map_err(|error| sqlite_failure(&error))?;
            if there.iter().all(|change| change.row.is_none()) {
                gone.push(key);
            }
        }
        Ok(gone)
    }

    /// Writes the rows of these keys as they are now, so many at once as the settings say; where they say so, it is told after
    /// each of them how far it is. What is gone meanwhile waits in the queue.
    fn write_some(
        &mut self,
        mapped: &Mapped,
        keys: &[Key],
        before: u64,
        total: u64,
        walk: Walk<'_>,
    ) -> Result<u64, Failure> {
        let table = &mapped.shape.name;
        if self.link.resync_rows.is_none() && keys.len() >= STREAM_ROWS_MIN && self.stream_some(mapped, keys)? {
            return Ok(keys.len() as u64);
        }
        let found = self.outbox()?.rows(&mapped.shape, keys).map_err(|error| sqlite_failure(&error))?;
        let rows: Vec<Change> = found.into_iter().filter_map(|change| written_row(mapped, &change.row?).ok()).collect();
        let written = rows.len() as u64;
        let Some(at_once) = self.link.resync_rows else {
            return self.write(table, rows, Vec::new()).map(|()| written);
        };
        let mut done = before;
        for some in rows.chunks(at_once.max(1) as usize) {
            stopped(walk.stop)?;
            self.write(table, some.to_vec(), Vec::new())?;
            done += some.len() as u64;
            walk.watch.note(&format!("{done}/{} {table}", total.max(done)));
            self.tell(&TableCompared { table: table.clone(), rows: done, ..TableCompared::default() }, total, walk)?;
        }
        Ok(written)
    }

    /// Writes and removes rows of one table; the watermark stays, and has to be ours.
    fn write(&mut self, table: &str, upserts: Vec<Change>, deletes: Vec<Change>) -> Result<(), Failure> {
        let source = self.source();
        let cloud = self.cloud()?;
        let Some(mapped) = cloud.tables.get(table) else { return Ok(()) };
        let sql = delivery_sql(&Delivery {
            source: &source,
            held: &cloud.held,
            upto: cloud.held.seq,
            consistent: false,
            tables: vec![TableDelivery {
                table: &mapped.cloud,
                columns: mapped.columns.clone(),
                key: mapped.key.clone(),
                upserts,
                deletes,
            }],
        });
        let done = cloud.session.run(&sql);
        done.map_err(|error| self.cloud_failure(&error).while_doing(format!("{table} cannot be re-synced")))
    }
}

fn read_range(
    file: &Path,
    mapped: &Mapped,
    comparable: &[usize],
    sums: Sums,
    after: Option<&Key>,
) -> Result<Range, SqliteError> {
    let columns: Vec<usize> = comparable.iter().map(|at| mapped.columns[*at]).collect();
    let summer = RowSummer::of(sums, &mapped.cloud, &columns);
    let mut range = Range::default();
    let mut each = |sight: &Sight<'_>| {
        let has_key = sight.key.iter().all(|value| *value != Value::Null);
        let sum = summer.sum(|at| sight.value(mapped.local[comparable[at]])).ok().filter(|_| has_key);
        range.rows.push((sight.key.clone(), sum));
        0
    };
    let walked = Outbox::open(file)?.walk(&mapped.shape, after, RANGE_ROWS, u64::MAX, &mut each)?;
    range.is_end = walked.is_end;
    Ok(range)
}

/// A key for people.
pub(super) fn as_it_is(key: &Key) -> Change {
    key.iter()
        .map(|value| match value {
            Value::Null => None,
            Value::Text(text) => Some(text.clone()),
            other => serde_json::to_string(other).ok(),
        })
        .collect()
}

struct Differences {
    /// Keys of rows that are to be written.
    to_write: Vec<Key>,
    /// Keys of rows that are others there.
    others: Vec<Change>,
    only_there: Vec<Change>,
}

/// Which columns both sides write down in the same way, by their place among those that are written.
fn comparable(mapped: &Mapped) -> (Vec<usize>, Vec<String>) {
    let (mut places, mut left_out) = (Vec::new(), Vec::new());
    for (at, there) in mapped.columns.iter().enumerate() {
        let column = &mapped.cloud.columns[*there];
        match column.kind {
            // The server writes these in its own way.
            CloudType::TimestampTz | CloudType::Timestamp | CloudType::Date | CloudType::Other => {
                left_out.push(format!("{} {}", column.name, column.type_name));
            }
            _ => places.push(at),
        }
    }
    (places, left_out)
}

fn canonical_key(mapped: &Mapped, key: &[Value]) -> Option<Change> {
    let fields = key.iter().zip(&mapped.key).map(|(value, there)| {
        canonical(mapped.cloud.columns[*there].kind, value).ok().filter(|_| *value != Value::Null)
    });
    fields.collect()
}

fn differences(
    mapped: &Mapped,
    here: &Range,
    there: Vec<CloudRow>,
    waiting: &BTreeSet<String>,
    found: &mut TableCompared,
) -> Differences {
    let mut known: HashMap<Change, i64> = there.into_iter().map(|row| (row.key, row.sum)).collect();
    let (mut to_write, mut others) = (Vec::new(), Vec::new());
    for (own, sum) in &here.rows {
        let (Some(key), Some(sum)) = (canonical_key(mapped, own), sum) else {
            found.unrepresentable += 1;
            name_key(found, &as_it_is(own));
            continue;
        };
        let other = known.remove(&key);
        if other == Some(*sum) {
            continue;
        }
        if waiting.contains(&shown_key(&key)) {
            found.not_compared += 1;
            continue;
        }
        match other {
            None => found.missing += 1,
            Some(_) => {
                found.different += 1;
                others.push(key.clone());
            }
        }
        name_key(found, &key);
        to_write.push(own.clone());
    }
    let left = known.into_keys().filter(|key| !waiting.contains(&shown_key(key)));
    let mut only_there: Vec<Change> = left.collect();
    only_there.sort();
    only_there.iter().for_each(|key| name_key(found, key));
    Differences { to_write, others, only_there }
}

pub(super) fn name_key(found: &mut TableCompared, key: &Change) {
    if found.keys.len() < NAMED_MAX {
        found.keys.push(shown_key(key));
    }
}

fn shown_key(key: &Change) -> String {
    let parts: Vec<&str> = key.iter().map(|part| part.as_deref().unwrap_or("NULL")).collect();
    parts.join(", ")
}

/// A key of the cloud as the file may hold it: the same number may be an integer or a text there.
fn file_key(mapped: &Mapped, key: &Change) -> Vec<Key> {
    let text: Key = key.iter().map(|part| part.clone().map_or(Value::Null, Value::Text)).collect();
    let number = |(part, there): (&Option<String>, &usize)| {
        let column = &mapped.cloud.columns[*there];
        let text = part.clone().unwrap_or_default();
        match column.kind {
            CloudType::Double => u64::from_str_radix(&text, 16).map(|bits| Value::Real(f64::from_bits(bits))).ok(),
            CloudType::Bytea => None,
            _ => text.parse::<i64>().map(Value::Integer).or_else(|_| text.parse::<f64>().map(Value::Real)).ok(),
        }
    };
    let numbers: Key = key
        .iter()
        .zip(&mapped.key)
        .zip(&text)
        .map(|(pair, text)| number(pair).unwrap_or_else(|| text.clone()))
        .collect();
    vec![text, numbers]
}
