//! Comparing the file with the cloud, and making the cloud equal: range by range, so that only what differs is sent, in
//! either direction of cause: a queue that was cleared, a file that was restored, an edit in the cloud.
//!
//! The file's rows are read a page at a time, each page in a transaction of its own that is over before the cloud is
//! asked. The app goes on writing meanwhile: a row that differs only for that is delivered by its own entry of the
//! outbox, which is looked at before anything is called different.

use std::collections::{BTreeSet, HashMap};

use lifeboat_io::{
    Stop,
    database::{
        postgres::{
            Change, CloudRow, Delivery, RangeSum, TableDelivery, delivery_sql, key_range, range_images, range_rows,
            range_sum, row_sum,
        },
        sqlite::Key,
    },
};
use lifeboat_model::{
    Failure, FailureKind,
    sync::{CloudType, ResyncProgress, Value, canonical},
};
use serde::Serialize;

use super::{
    Mirror,
    cloud::Mapped,
    deliver::{written_key, written_row},
    memory_failure, stopped,
};
use crate::{act::sqlite_failure, perform::Watch};

/// Rows of a range.
const RANGE_ROWS: u32 = 2_000;
/// Keys that are named of a table that differs.
const NAMED_MAX: usize = 20;

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

/// A page of the file's rows as both sides write them down.
struct Page {
    keys: Vec<Key>,
    rows: Vec<Vec<Value>>,
    /// Canonical key and sum of each; nothing where it does not fit.
    sums: Vec<Option<(Change, i64)>>,
}

impl Mirror {
    /// Looks whether the file is sound and not suddenly empty: what is broken here must not be copied over what is whole
    /// there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check_local(&mut self, emptied: &[String], stop: &Stop) -> Result<(), Failure> {
        let path = self.link.file.clone();
        let look = lifeboat_io::database::sqlite::quick_check(&path, std::time::Duration::from_secs(120));
        if look.sound != lifeboat_model::Tri::Pass {
            let failure = Failure::new(FailureKind::Damaged, format!("{} is not known to be sound", path.display()));
            return Err(failure.because(look.what).hint("lifeboat verify, and lifeboat restore when it is damaged"));
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
        Ok(())
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
        let mut compared = Compared::default();
        let mut orphans: Vec<(String, Vec<Change>)> = Vec::new();
        for name in names {
            let Some(mapped) = self.cloud()?.tables.get(&name).cloned() else {
                let unfit = self.cloud()?.unfit.get(&name).cloned();
                let unfit = unfit.or_else(|| Some("it cannot be mirrored".to_owned()));
                compared.tables.push(TableCompared { table: name, unfit, ..TableCompared::default() });
                continue;
            };
            let (found, only_there) = self.table(&mapped, mend, &mut compared.written, watch, stop)?;
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
        mend: Mend,
        written: &mut u64,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<(TableCompared, Vec<Change>), Failure> {
        let name = mapped.shape.name.clone();
        let total = self.outbox()?.count(&name).map_err(|error| sqlite_failure(&error))?;
        let mut found = TableCompared { table: name.clone(), ..TableCompared::default() };
        let (comparable, left_out) = comparable(mapped);
        found.columns_left_out = left_out;
        // What is written is as it is now: whatever waits of it will find it so.
        let waiting = if mend == Mend::Nothing { self.waiting_keys(mapped)? } else { BTreeSet::new() };
        let mut orphans = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            stopped(stop)?;
            let rows = self.outbox()?.page(&mapped.shape, after.as_ref(), RANGE_ROWS);
            let page = page(mapped, &comparable, rows.map_err(|error| sqlite_failure(&error))?);
            let last = page.rows.len() < RANGE_ROWS as usize;
            let upto = page.keys.last().cloned().filter(|_| !last);
            let range = self.range(mapped, after.as_ref(), upto.as_ref());
            let here = page.sums.iter().flatten().fold(RangeSum::default(), |mut sum, (_, row)| {
                sum.add(*row);
                sum
            });
            let is_whole = page.sums.iter().all(Option::is_some);
            let columns: Vec<usize> = comparable.iter().map(|at| mapped.columns[*at]).collect();
            let session = &mut self.cloud()?.session;
            let there = range_sum(session, &mapped.cloud, &columns, &range);
            let there = there.map_err(|error| self.cloud_failure(&error))?;
            if there != here || !is_whole {
                let rows = match there.rows {
                    0 => Vec::new(),
                    _ => {
                        let session = &mut self.cloud()?.session;
                        let rows = range_rows(session, &mapped.cloud, &mapped.key, &columns, &range);
                        rows.map_err(|error| self.cloud_failure(&error))?
                    }
                };
                let differ = differences(mapped, &page, rows, &waiting, &mut found);
                let only_there = self.really_gone(mapped, differ.only_there)?;
                found.orphans += only_there.len() as u64;
                if self.saving.is_some() {
                    let others: BTreeSet<&Change> = only_there.iter().chain(&differ.others).collect();
                    self.save_rows(mapped, &range, &others)?;
                }
                if mend != Mend::Nothing && !differ.to_write.is_empty() {
                    *written += differ.to_write.len() as u64;
                    self.write_some(&name, differ.to_write, found.rows, total, watch, stop)?;
                }
                orphans.extend(only_there);
            }
            found.rows += page.rows.len() as u64;
            watch.progress(found.rows, Some(total.max(found.rows)));
            if mend != Mend::Nothing {
                let progress = ResyncProgress { table: name.clone(), done: found.rows, total: total.max(found.rows) };
                self.memory.set_resync(Some(&progress)).map_err(|error| memory_failure(&error))?;
            }
            match upto {
                Some(key) => after = Some(key),
                None => break,
            }
        }
        if mend != Mend::Nothing {
            watch.note(&format!("{0}/{0} {name}", found.rows));
        }
        Ok((found, orphans))
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
    fn range(&self, mapped: &Mapped, after: Option<&Key>, upto: Option<&Key>) -> String {
        let bound = |key: Option<&Key>| key.and_then(|key| written_key(mapped, key).ok());
        key_range(&mapped.cloud, &mapped.key, bound(after).as_ref(), bound(upto).as_ref())
    }

    /// Keys of a table that wait in the queue: their rows may differ, and will not for long.
    fn waiting_keys(&self, mapped: &Mapped) -> Result<BTreeSet<String>, Failure> {
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

    /// Writes rows, so many at once as the settings say; where they say so, it is told after each of them how far it is.
    fn write_some(
        &mut self,
        table: &str,
        rows: Vec<Change>,
        before: u64,
        total: u64,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let Some(at_once) = self.link.resync_rows else { return self.write(table, rows, Vec::new()) };
        let mut done = before;
        for some in rows.chunks(at_once.max(1) as usize) {
            stopped(stop)?;
            self.write(table, some.to_vec(), Vec::new())?;
            done += some.len() as u64;
            watch.note(&format!("{done}/{} {table}", total.max(done)));
        }
        Ok(())
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

struct Differences {
    to_write: Vec<Change>,
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

fn page(mapped: &Mapped, comparable: &[usize], rows: Vec<Vec<Value>>) -> Page {
    let keys: Vec<Key> = rows.iter().map(|row| mapped.shape.key.iter().map(|at| row[*at].clone()).collect()).collect();
    let sum = |row: &Vec<Value>, key: &Key| {
        let fields: Option<Vec<Option<String>>> = comparable
            .iter()
            .map(|at| canonical(mapped.cloud.columns[mapped.columns[*at]].kind, &row[mapped.local[*at]]).ok())
            .collect();
        Some((canonical_key(mapped, key)?, row_sum(&fields?)))
    };
    let sums = rows.iter().zip(&keys).map(|(row, key)| sum(row, key)).collect();
    Page { keys, rows, sums }
}

fn canonical_key(mapped: &Mapped, key: &[Value]) -> Option<Change> {
    let fields = key.iter().zip(&mapped.key).map(|(value, there)| {
        canonical(mapped.cloud.columns[*there].kind, value).ok().filter(|_| *value != Value::Null)
    });
    fields.collect()
}

fn differences(
    mapped: &Mapped,
    page: &Page,
    there: Vec<CloudRow>,
    waiting: &BTreeSet<String>,
    found: &mut TableCompared,
) -> Differences {
    let mut known: HashMap<Change, i64> = there.into_iter().map(|row| (row.key, row.sum)).collect();
    let (mut to_write, mut others) = (Vec::new(), Vec::new());
    for (row, sum) in page.rows.iter().zip(&page.sums) {
        let Some((key, sum)) = sum else {
            found.unrepresentable += 1;
            let key = mapped.shape.key.iter().map(|at| serde_json::to_string(&row[*at]).ok()).collect();
            name_key(found, &key);
            continue;
        };
        let other = known.remove(key);
        if other == Some(*sum) {
            continue;
        }
        if waiting.contains(&shown_key(key)) {
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
        name_key(found, key);
        to_write.extend(written_row(mapped, row));
    }
    let left = known.into_keys().filter(|key| !waiting.contains(&shown_key(key)));
    let mut only_there: Vec<Change> = left.collect();
    only_there.sort();
    only_there.iter().for_each(|key| name_key(found, key));
    Differences { to_write, others, only_there }
}

fn name_key(found: &mut TableCompared, key: &Change) {
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
