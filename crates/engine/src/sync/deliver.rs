//! Delivering: what waits is read, written in the cloud in one transaction with the watermark, and taken out of the queue.

use std::collections::BTreeMap;

use lifeboat_io::{
    Stop,
    database::{
        postgres::{Change, Delivery, PgError, TableDelivery, delivery_sql, touch_watermark, trouble},
        sqlite::{Batch, Identity, Key, RowChange, TableShape},
    },
};
use lifeboat_model::{
    Failure, FailureKind,
    sync::{
        BATCH_BYTES_MAX, BATCH_ROWS_MAX, CycleReport, LetterChoice, Trouble, Value, literal, next_batch_rows,
        too_many_deletes, wider,
    },
};
use lifeboat_store::NewLetter;

use super::{
    Mirror,
    cloud::{Cloud, Mapped},
    memory_failure, named, not_attached,
    parents::lacks_parent,
    stopped,
    stream::{Ahead, Went},
};
use crate::act::sqlite_failure;

/// Why a row is set aside while a row is missing that it refers to.
pub(super) const PARENT: &str = "parent";

/// How often a transaction that lost against another is sent again at once.
const AGAIN_MAX: u32 = 5;

/// Rows of one table on their way, each with its key in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    pub upserts: Vec<(Key, Change)>,
    pub deletes: Vec<(Key, Change)>,
}

/// A batch as the cloud will get it.
#[derive(Clone, Debug, Default)]
pub(super) struct Prepared {
    pub tables: BTreeMap<String, Load>,
    pub letters: Vec<NewLetter>,
}

impl Prepared {
    fn rows(&self) -> (u64, u64) {
        let upserts = self.tables.values().map(|load| load.upserts.len() as u64).sum();
        (upserts, self.tables.values().map(|load| load.deletes.len() as u64).sum())
    }
}

impl Mirror {
    /// Delivers what waits, until nothing does. A switch that is turned off is noticed between two batches.
    ///
    /// # Errors
    /// It may not deliver; the cloud is away; somebody else delivers. What waits goes on waiting.
    pub fn drain(&mut self, stop: &Stop) -> Result<CycleReport, Failure> {
        if let Some(refusal) = self.refusal()? {
            return Err(refusal);
        }
        let _turn = self.turn()?;
        let began = self.now_ms();
        let mut drained = self.try_drain(stop);
        if let Ok(report) = &mut drained {
            report.took_ms = self.now_ms().saturating_sub(began);
        }
        if let Err(failure) = &drained {
            if failure.kind != FailureKind::Interrupted {
                self.memory.set_last_error(&failure.message).map_err(|error| memory_failure(&error))?;
            }
            if matches!(failure.kind, FailureKind::Outside | FailureKind::Busy) {
                let newest = self.outbox()?.waiting().map_err(|error| sqlite_failure(&error))?.newest;
                self.memory.tried(newest).map_err(|error| memory_failure(&error))?;
                self.cloud = None;
                let chance = self.io.random.bits();
                self.breaker.failed(self.now_ms(), chance);
            }
        }
        drained
    }

    fn try_drain(&mut self, stop: &Stop) -> Result<CycleReport, Failure> {
        self.follow_schema()?;
        // Another process of this host may have been at it since, for a re-sync: its place is ours, too.
        let token = self.memory.tokens().map_err(|error| memory_failure(&error))?.0;
        if self.cloud.as_ref().is_some_and(|cloud| token.as_ref() != Some(&cloud.held.token)) {
            self.cloud = None;
        }
        self.connect(stop)?;
        self.look_whether_it_fits()?;
        let mut report = CycleReport::default();
        let mut ahead = Ahead::default();
        let drained = self.drain_batches(&mut report, &mut ahead, stop);
        let taken_out = self.take_out(&mut ahead);
        drained.and(taken_out).map(|()| report)
    }

    fn drain_batches(&mut self, report: &mut CycleReport, ahead: &mut Ahead, stop: &Stop) -> Result<(), Failure> {
        let mut deleted: BTreeMap<String, u64> = BTreeMap::new();
        loop {
            stopped(stop)?;
            // Between two batches is a safe point.
            if stop.wanted() || !self.is_enabled()? {
                return Ok(());
            }
            match self.stream(ahead, &mut deleted, report)? {
                Went::Delivered | Went::Again => continue,
                Went::Plainly => self.take_out(ahead)?,
            }
            let began = self.now_ms();
            let Some(batch) = self.next_batch()? else {
                self.heartbeat()?;
                self.memory.end_confirmations().map_err(|error| memory_failure(&error))?;
                report.drained = true;
                return Ok(());
            };
            let mut prepared = self.prepare(&batch)?;
            report.held += self.guard_deletes(&mut prepared, &mut deleted)?;
            if !self.send(&batch, prepared, report, stop)? {
                continue; // in smaller pieces
            }
            let took = self.now_ms().saturating_sub(began);
            let waiting = u64::try_from(batch.newest - batch.upto).unwrap_or(0);
            self.rows_at_once = next_batch_rows(self.link.batch_rows, self.rows_at_once, waiting, took);
            self.rows_at_once = self.rows_at_once.min(self.link.batch_rows_max);
        }
    }

    /// When the app has changed its schema, triggers that are missing are made again, and what may have been missed
    /// meanwhile is to be compared.
    pub(super) fn follow_schema(&mut self) -> Result<(), Failure> {
        let version = self.outbox()?.schema_version().map_err(|error| sqlite_failure(&error))?;
        if self.shapes.as_ref().is_some_and(|(known, _)| *known == version) {
            return Ok(());
        }
        if !self.outbox()?.is_attached().map_err(|error| sqlite_failure(&error))? {
            return Err(not_attached(&self.link));
        }
        self.make_triggers()?;
        let had_shapes = self.shapes.take().is_some();
        self.shapes()?;
        if had_shapes {
            self.look_again()?;
        }
        Ok(())
    }

    /// Makes what is missing of what notes changes in a file that is attached, or is of the layout before.
    pub(super) fn make_triggers(&mut self) -> Result<(), Failure> {
        let nobody = Identity { database: String::new(), token: String::new() };
        let wanted = self.link.tables.clone();
        let plan = self.outbox()?.plan_attach(&wanted, &nobody).map_err(|error| sqlite_failure(&error))?;
        if !plan.statements.is_empty() {
            let known = self.outbox()?.numbers().map_err(|error| sqlite_failure(&error))?;
            let done = self.outbox()?.attach(&wanted, &nobody).map_err(|error| sqlite_failure(&error))?;
            let new = done.tables.iter().filter(|name| !known.values().any(|one| one == *name));
            let doubtful: Vec<String> = done.renewed.iter().chain(new).cloned().collect();
            self.memory.set_verified(&doubtful, false).map_err(|error| memory_failure(&error))?;
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<Batch>, Failure> {
        // What was cleared is over, too, and the cloud has not heard of it.
        let outbox = self.outbox()?;
        let after = self.cloud()?.held.seq.max(outbox.over().map_err(|error| sqlite_failure(&error))?);
        drop(outbox);
        let rows = self.rows_at_once.clamp(1, BATCH_ROWS_MAX);
        loop {
            self.follow_schema()?;
            let Some((version, shapes)) = &self.shapes else { return Ok(None) };
            let outbox = self.outbox()?;
            outbox.note_new_rows(u64::from(rows)).map_err(|error| sqlite_failure(&error))?;
            let batch = outbox.batch(shapes, after, rows, BATCH_BYTES_MAX).map_err(|error| sqlite_failure(&error))?;
            // What was read while the app changed its tables is read again.
            if outbox.schema_version().map_err(|error| sqlite_failure(&error))? == *version {
                return Ok((batch.changes > 0).then_some(batch));
            }
        }
    }

    pub(super) fn cloud(&mut self) -> Result<&mut Cloud, Failure> {
        self.cloud.as_mut().ok_or_else(not_connected)
    }

    /// Nothing waits: the cloud is asked whether it takes writes, and our place there is still ours.
    fn heartbeat(&mut self) -> Result<(), Failure> {
        let source = self.source();
        let over = self.outbox()?.over().map_err(|error| sqlite_failure(&error))?;
        let cloud = self.cloud()?;
        let seq = cloud.held.seq.max(over);
        if let Err(error) = touch_watermark(&mut cloud.session, &source, &cloud.held, seq) {
            return Err(self.lost_place(&error));
        }
        cloud.held.seq = seq;
        self.worked()
    }

    pub(super) fn worked(&mut self) -> Result<(), Failure> {
        self.breaker.worked();
        self.memory.synced(self.io.clock.now()).map_err(|error| memory_failure(&error))
    }

    pub(super) fn lost_place(&mut self, error: &PgError) -> Failure {
        self.cloud = None;
        match trouble(error) {
            Trouble::Position => {
                let message = format!("somebody else has taken the place of {} in the cloud", self.source());
                Failure::new(FailureKind::Busy, message)
                    .hint("look for a second Lifeboat that works on a copy of this file")
            }
            _ => self.cloud_failure(error),
        }
    }

    /// Writes rows down as the cloud reads them; what cannot be is set aside.
    fn prepare(&mut self, batch: &Batch) -> Result<Prepared, Failure> {
        let cloud = self.cloud.as_ref().ok_or_else(not_connected)?;
        let mut prepared = Prepared::default();
        for (table, changes) in &batch.tables {
            match cloud.tables.get(table) {
                Some(mapped) => prepare_table(mapped, changes, &mut prepared),
                None => {
                    let why = cloud.unfit.get(table).cloned();
                    let why = why.unwrap_or_else(|| "the cloud has no such table".to_owned());
                    let shape = self.shapes.as_ref().and_then(|(_, shapes)| shapes.table(table));
                    let names = shape.map(TableShape::key_names).unwrap_or_default();
                    prepared.letters.extend(changes.iter().map(|change| unfit(table, &names, change, &why)));
                }
            }
        }
        Ok(prepared)
    }

    /// Holds deletes that look like an accident.
    fn guard_deletes(&mut self, prepared: &mut Prepared, deleted: &mut BTreeMap<String, u64>) -> Result<u64, Failure> {
        let mut held = 0;
        for (table, load) in &mut prepared.tables {
            let now = load.deletes.len() as u64;
            let so_far = deleted.entry(table.clone()).or_default();
            *so_far += now;
            if self.is_an_accident(table, *so_far, now)? {
                let keys: Vec<Key> = load.deletes.drain(..).map(|(key, _)| key).collect();
                held += keys.len() as u64;
                self.memory.hold(table, &keys).map_err(|error| memory_failure(&error))?;
            }
        }
        Ok(held)
    }

    /// Whether deletes of a table look like an accident: so many in this drain, so many of them now.
    pub(super) fn is_an_accident(&mut self, table: &str, so_far: u64, now: u64) -> Result<bool, Failure> {
        let share = self.link.delete_share_percent;
        // Whether it is a large part of the table is only asked when it may be.
        let agreed = || self.memory.is_confirmed(table).map_err(|error| memory_failure(&error));
        if now == 0 || !too_many_deletes(so_far, 0, share) || agreed()? {
            return Ok(false);
        }
        let cloud = self.cloud.as_mut().ok_or_else(not_connected)?;
        let Some(mapped) = cloud.tables.get(table) else { return Ok(false) };
        let counted = cloud.session.one(&format!("SELECT count(*) FROM {}", mapped.cloud.sql_name()));
        let rows = match counted {
            Ok(row) => row.count(0),
            Err(error) => return Err(self.cloud_failure(&error)),
        };
        // Those of this drain that went before were there when it began.
        Ok(too_many_deletes(so_far, rows + so_far - now, share))
    }

    /// Sends a batch; `false` when it took too long and has to be read again.
    fn send(
        &mut self,
        batch: &Batch,
        mut prepared: Prepared,
        report: &mut CycleReport,
        stop: &Stop,
    ) -> Result<bool, Failure> {
        let consistent = batch.upto >= batch.newest && prepared.letters.is_empty();
        let mut again = 0;
        let mut isolated = false;
        loop {
            stopped(stop)?;
            // On disk before the cloud is told that it is over.
            if !prepared.letters.is_empty() {
                let now = self.io.clock.now();
                self.memory.set_aside(&prepared.letters, now).map_err(|error| memory_failure(&error))?;
                report.set_aside += prepared.letters.len() as u64;
                prepared.letters.clear();
            }
            let Err(error) = self.send_once(&prepared, batch.upto, consistent && !isolated) else { break };
            match trouble(&error) {
                Trouble::Again if again < AGAIN_MAX => again += 1,
                Trouble::TooLong if self.rows_at_once > 1 => {
                    self.rows_at_once /= 2;
                    return Ok(false); // nothing was written; it is read again
                }
                Trouble::Schema if again == 0 => {
                    again += 1;
                    self.look_again()?;
                    prepared = self.prepare(batch)?;
                }
                Trouble::Content if !isolated && lacks_parent(&error) && self.pull_parents(&mut prepared)? => {}
                Trouble::Policy | Trouble::Content | Trouble::Schema if !isolated => {
                    isolated = true;
                    self.set_aside_the_bad(&mut prepared)?;
                }
                _ => return Err(self.lost_place(&error)),
            }
        }
        let (upserts, deletes) = prepared.rows();
        let cloud = self.cloud()?;
        cloud.held.seq = batch.upto;
        cloud.held.consistent = consistent && !isolated;
        report.batches += 1;
        report.changes += batch.changes;
        report.upserts += upserts;
        report.deletes += deletes;
        self.outbox()?.prune(batch.upto).map_err(|error| sqlite_failure(&error))?;
        let rows = prepared.tables.into_iter().map(|(table, load)| {
            let came = !load.upserts.is_empty();
            (table, (load.upserts.into_iter().chain(load.deletes).map(|(key, _)| key).collect(), came))
        });
        self.see_off(&rows.collect())?;
        self.worked()?;
        Ok(true)
    }

    fn send_once(&mut self, prepared: &Prepared, upto: i64, consistent: bool) -> Result<(), PgError> {
        let source = self.source();
        let Some(cloud) = self.cloud.as_mut() else {
            return Err(PgError::Preflight { found: "not connected".to_owned(), hint: String::new() });
        };
        let sql = delivery_sql(&Delivery {
            source: &source,
            held: &cloud.held,
            upto,
            consistent,
            tables: deliveries(&cloud.tables, &cloud.order, prepared),
        });
        cloud.session.run(&sql)
    }

    /// Rows that were set aside before and have got there now are set aside no more; those that waited for rows of these
    /// tables are tried again, once some have come. For each table: keys that went, and whether rows came.
    pub(super) fn see_off(&mut self, gone: &BTreeMap<String, (Vec<Key>, bool)>) -> Result<(), Failure> {
        let failed = |error| memory_failure(&error);
        if self.memory.letter_counts().map_err(failed)?.0 == 0 {
            return Ok(());
        }
        let Some(cloud) = &self.cloud else { return Ok(()) };
        let mut rows = Vec::new();
        for (table, (keys, _)) in gone {
            let Some(mapped) = cloud.tables.get(table) else { continue };
            let names = mapped.shape.key_names();
            rows.extend(keys.iter().map(|key| (table.clone(), named(&names, key))));
        }
        self.memory.forget_letters(&rows).map_err(failed)?;
        let came = |table: &String| gone.get(table).is_some_and(|(_, came)| *came);
        let is_child =
            |table: &str| cloud.tables.get(table).is_some_and(|mapped| mapped.cloud.parents.iter().any(came));
        let letters = self.memory.letters().map_err(failed)?;
        let again: Vec<i64> =
            letters.iter().filter(|one| one.class == PARENT && is_child(&one.table)).map(|one| one.id).collect();
        if !again.is_empty() {
            self.letters(LetterChoice::Retry, &again)?;
        }
        Ok(())
    }
}

impl Mirror {
    /// Tables that did not fit are looked at again; when one does now, its rows are tried again.
    fn look_whether_it_fits(&mut self) -> Result<(), Failure> {
        let failed = |error| memory_failure(&error);
        if !self.cloud()?.unfit.is_empty() {
            self.look_again()?;
        }
        if self.memory.letter_counts().map_err(failed)?.0 == 0 {
            return Ok(());
        }
        let letters = self.memory.letters().map_err(failed)?;
        let cloud = self.cloud()?;
        let fits = |table: &str| cloud.tables.contains_key(table) && !cloud.unfit.contains_key(table);
        let class = Trouble::Schema.word();
        let again: Vec<i64> =
            letters.iter().filter(|one| one.class == class && fits(&one.table)).map(|one| one.id).collect();
        if !again.is_empty() {
            self.letters(LetterChoice::Retry, &again)?;
        }
        Ok(())
    }
}

fn not_connected() -> Failure {
    Failure::new(FailureKind::Bug, "nobody has connected to the cloud")
}

/// The parts of a batch in the order in which tables refer to each other.
pub(super) fn deliveries<'a>(
    tables: &'a BTreeMap<String, Mapped>,
    order: &[String],
    prepared: &Prepared,
) -> Vec<TableDelivery<'a>> {
    let in_order = order.iter().filter_map(|name| Some((tables.get(name)?, prepared.tables.get(name)?)));
    in_order
        .map(|(mapped, load)| TableDelivery {
            table: &mapped.cloud,
            columns: mapped.columns.clone(),
            key: mapped.key.clone(),
            upserts: load.upserts.iter().map(|(_, row)| row.clone()).collect(),
            deletes: load.deletes.iter().map(|(_, key)| key.clone()).collect(),
        })
        .collect()
}

fn prepare_table(mapped: &Mapped, changes: &[RowChange], prepared: &mut Prepared) {
    let mut load = Load::default();
    for change in changes {
        let written = match &change.row {
            Some(row) => written_row(mapped, row).map(|row| load.upserts.push((change.key.clone(), row))),
            None => written_key(mapped, &change.key).map(|key| load.deletes.push((change.key.clone(), key))),
        };
        if let Err(why) = written {
            prepared.letters.push(letter(
                mapped,
                &change.key,
                "content",
                why,
                "change the value in the file, or make the column wider: lifeboat sync widen",
            ));
        }
    }
    // Always in the order of keys, so that two transactions never wait for each other in a circle.
    load.upserts.sort_by(|one, two| one.1.cmp(&two.1));
    load.deletes.sort_by(|one, two| one.1.cmp(&two.1));
    prepared.tables.insert(mapped.shape.name.clone(), load);
}

/// A row as the cloud reads it.
pub(super) fn written_row(mapped: &Mapped, row: &[Value]) -> Result<Change, String> {
    let key = mapped.shape.key.iter().find(|at| row[**at] == Value::Null);
    if let Some(at) = key {
        return Err(format!("its key {} is NULL", mapped.shape.columns[*at].name));
    }
    let fields = mapped.local.iter().zip(&mapped.columns).map(|(local, there)| {
        let column = &mapped.cloud.columns[*there];
        let value = &row[*local];
        // The server would cut or round without a word what `varchar(5)` or `numeric(6,2)` cannot hold.
        if column.limited && wider(&column.type_name, value).is_some() {
            return Err(no_fit(&column.name, &column.type_name, "more than that"));
        }
        literal(column.kind, value).map_err(|misfit| no_fit(&column.name, &column.type_name, &misfit.0))
    });
    fields.collect()
}

/// A key as the cloud reads it.
pub(super) fn written_key(mapped: &Mapped, key: &[Value]) -> Result<Change, String> {
    let fields = key.iter().zip(&mapped.key).map(|(value, there)| {
        let column = &mapped.cloud.columns[*there];
        match value {
            Value::Null => Err(format!("its key {} is NULL", column.name)),
            value => literal(column.kind, value).map_err(|misfit| no_fit(&column.name, &column.type_name, &misfit.0)),
        }
    });
    fields.collect()
}

fn no_fit(column: &str, type_name: &str, what: &str) -> String {
    format!("{column} is {type_name} in the cloud, and the file has {what}")
}

pub(super) fn letter(mapped: &Mapped, key: &[Value], class: &str, error: String, hint: &str) -> NewLetter {
    NewLetter {
        table: mapped.shape.name.clone(),
        key: named(&mapped.shape.key_names(), key),
        class: class.to_owned(),
        error,
        hint: hint.to_owned(),
    }
}

fn unfit(table: &str, names: &[&str], change: &RowChange, why: &str) -> NewLetter {
    NewLetter {
        table: table.to_owned(),
        key: named(names, &change.key),
        class: Trouble::Schema.word().to_owned(),
        error: why.to_owned(),
        hint: "make the cloud's table fit; its rows are tried again by themselves then".to_owned(),
    }
}
