//! The comparison in two looks, so that writers are held for a short one: the first while everybody writes, the second, when
//! nobody does, only at tables that were written to since.
//!
//! ```text
//!   watch_tables      every write from now on leaves its key in a log (`watch.rs`), where that can be
//!   compare_ahead     everything, in one snapshot
//!   ── writes are held ──
//!   still_holds       of watched tables: what is in their logs; of the others one scan, of the headers of their rows: none is
//!                     younger, none is gone
//!   compare_rest      rows whose keys are in a log; the others of which the first look does not hold, in full
//! ```
//!
//! Whatever is done to a table either makes a row that is younger than the snapshot, or takes one away that was there. So
//! a table all of whose rows were older, and that has as many today, none of them younger, is to the byte what it was. A
//! watched one need not even be scanned: what was done to it since is in its log, unless its mark is another one.
//!
//! Rows of logs are handed over as they are, for they are few, and clients wait: what they were in the backup is read when
//! nobody waits any more ([`then_of`]). Until then such a row counts as changed although it may be as it was.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    time::Duration,
};

use lifeboat_model::{
    RowKind, SchemaNames,
    postgres::{Horizon, PgTableFacts},
};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::{
    super::{loss::key_hash, watch},
    Baseline, ChangedTable, KeepRows, Lines, ONE_INSTANT, Pair, PgError, RowChanges, Session, Sources, catalog,
    catalog::Table,
    compare_table, not_kept, read_then, seen,
};
use crate::{clock::Clock, stop::Stop};

/// No counting of transactions can be trusted over a longer distance.
const TRANSACTIONS_MAX: u64 = (1 << 31) - (1 << 20);

/// What a first look has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    horizon: Horizon,
    /// Since when the server runs: another one, or one that was started again, is not asked by this.
    server: String,
    tables: BTreeMap<String, Known>,
    /// Those of them in whose log is something by now.
    #[serde(default)]
    late: BTreeSet<String>,
}

/// A table that nobody was writing to, or that is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    oid: u32,
    columns: Vec<String>,
    /// How many rows it had, when it was at rest.
    rows: Option<u64>,
    /// How it differs from the backup, when it does.
    changed: Option<ChangedTable>,
    /// What its log is good for.
    #[serde(default)]
    watched: Option<Watched>,
}

/// A table whose writers leave the keys of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Watched {
    /// Nothing was done to it that its log does not tell, as long as it has this mark.
    mark: String,
    /// What is told of it when it changes.
    about: ChangedTable,
}

impl Watched {
    /// A table that both sides have with the same columns and key.
    fn of(pair: &Pair<'_>, marks: &BTreeMap<u32, String>, changed: Option<&ChangedTable>) -> Option<Watched> {
        let (then, now) = (pair.then?, pair.now?);
        let mark = marks.get(&now.oid)?.clone();
        let alike = then.columns == now.columns && then.key == now.key && !then.key.is_empty();
        if !alike || now.condition.is_some() || changed.is_some_and(|changed| changed.key != then.key) {
            return None;
        }
        let rows = Some(then.rows.rows);
        let unchanged = ChangedTable {
            title: pair.title.clone(),
            rows_then: rows,
            rows_now: rows,
            columns: now.columns.clone(),
            columns_then: then.columns.clone(),
            key: then.key.clone(),
            ..ChangedTable::default()
        };
        Some(Watched { mark, about: changed.cloned().unwrap_or(unchanged) })
    }
}

impl Ahead {
    /// Whether what was found of a table is among it.
    pub fn has(&self, title: &str) -> bool {
        self.tables.contains_key(title)
    }

    fn begin(session: &mut Session) -> Result<Ahead, PgError> {
        let server = server(session)?;
        Ok(Ahead { horizon: catalog::horizon(session)?, server, ..Ahead::default() })
    }

    fn is_of(&self, session: &mut Session) -> Result<bool, PgError> {
        let now = catalog::horizon(session)?;
        let near = now.xmin.checked_sub(self.horizon.xmin).is_some_and(|passed| passed < TRANSACTIONS_MAX);
        Ok(near && now.database_oid == self.horizon.database_oid && server(session)? == self.server)
    }
}

fn server(session: &mut Session) -> Result<String, PgError> {
    session.value("SELECT pg_catalog.pg_postmaster_start_time()")
}

/// Watches the tables that are compared, as far as that can be. Says how many they are, and how many are watched.
///
/// # Errors
/// As [`Session::run`]; nothing is watched then.
pub fn watch_tables(
    session: &mut Session,
    baseline: &Baseline<'_>,
    wait_max: Duration,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<(u64, u64), PgError> {
    let live = baseline.live(session)?;
    let tables: Vec<&Table> = live.values().collect();
    let watched = watch::watch_on(session, &tables, wait_max, clock, stop)?;
    Ok((tables.len() as u64, watched))
}

/// Tables that cannot be watched, or whose log would not do, with their bytes, the largest first.
///
/// # Errors
/// As [`Session::run`].
pub fn unwatched(session: &mut Session, baseline: &Baseline<'_>) -> Result<Vec<(String, u64)>, PgError> {
    let live = baseline.live(session)?;
    let tables: Vec<&Table> = live.values().collect();
    let watchable = watch::watchable(session, &tables)?;
    let marks: BTreeMap<u32, String> = watchable.into_iter().map(|oid| (oid, String::new())).collect();
    let is_open = |pair: &Pair<'_>| pair.now.is_some() && Watched::of(pair, &marks, None).is_none();
    let pairs = baseline.pairs(&live).filter(is_open);
    let mut all: Vec<(String, u64)> = pairs.filter_map(|pair| Some((pair.title.clone(), pair.now?.bytes))).collect();
    all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    Ok(all)
}

/// Compares all tables as [`super::compare_rows`] does, while others write; what differs is handed over. `each` is called
/// before each table.
///
/// # Errors
/// As [`super::compare_rows`].
pub fn compare_ahead(
    session: &mut Session,
    baseline: &Baseline<'_>,
    keep: &mut dyn KeepRows,
    each: &mut dyn FnMut() -> Result<(), PgError>,
) -> Result<(Vec<ChangedTable>, Ahead), PgError> {
    session.transaction(ONE_INSTANT, |session| {
        let mut ahead = Ahead::begin(session)?;
        let marks = if watch::holds(session)? { watch::marks(session)? } else { BTreeMap::new() };
        let live = baseline.live(session)?;
        let mut keep: Option<&mut dyn KeepRows> = Some(keep);
        let mut all = Vec::new();
        for pair in baseline.pairs(&live) {
            each()?;
            let changed = compare_table(session, baseline, &pair, &mut keep)?;
            if let Some(now) = pair.now {
                let seen = seen(session, now, &ahead.horizon)?;
                let rows = (seen.touched == 0).then_some(seen.rows);
                let watched = Watched::of(&pair, &marks, changed.as_ref());
                if rows.is_some() || watched.is_some() {
                    let (oid, columns, changed) = (now.oid, now.columns.clone(), changed.clone());
                    ahead.tables.insert(pair.title.clone(), Known { oid, columns, rows, changed, watched });
                }
            }
            all.extend(changed);
        }
        Ok((all, ahead))
    })
}

/// The part of a first look that still is true. Writes are held, by a fence or by locks of this session; where schemas have
/// other names at this moment, `names` tells which.
///
/// # Errors
/// As [`Session::run`].
pub fn still_holds(
    session: &mut Session,
    baseline: &Baseline<'_>,
    ahead: &Ahead,
    names: Option<&[SchemaNames]>,
) -> Result<Ahead, PgError> {
    let mut holds = Ahead { tables: BTreeMap::new(), late: BTreeSet::new(), ..ahead.clone() };
    if !ahead.is_of(session)? {
        return Ok(holds);
    }
    with_live(session, baseline, names, |session, live| {
        let marks = if watch::holds(session)? { watch::marks(session)? } else { BTreeMap::new() };
        let mut logs = BTreeMap::new();
        for (title, now) in live {
            let Some(then) = ahead.tables.get(&title) else { continue };
            if (then.oid, &then.columns) != (now.oid, &now.columns) {
                continue;
            }
            if then.watched.as_ref().is_some_and(|watched| marks.get(&now.oid) == Some(&watched.mark)) {
                logs.insert(now.oid, title.clone());
                holds.tables.insert(title, then.clone());
                continue;
            }
            let Some(rows) = then.rows else { continue };
            let seen = seen(session, &now, &ahead.horizon)?;
            if seen.touched == 0 && seen.rows == rows {
                holds.tables.insert(title, then.clone());
            }
        }
        let oids: Vec<u32> = logs.keys().copied().collect();
        let written = watch::written(session, &oids, &ahead.horizon.snapshot)?;
        holds.late.extend(written.iter().filter_map(|oid| logs.get(oid).cloned()));
        Ok(holds)
    })
}

/// Works with the live tables: in the caller's transaction, where schemas have other names in it, else at one moment.
fn with_live<T>(
    session: &mut Session,
    baseline: &Baseline<'_>,
    names: Option<&[SchemaNames]>,
    work: impl FnOnce(&mut Session, BTreeMap<String, Table>) -> Result<T, PgError>,
) -> Result<T, PgError> {
    if let Some(names) = names {
        let live = baseline.live_as(session, names)?;
        return work(session, live);
    }
    session.transaction(ONE_INSTANT, |session| {
        let live = baseline.live(session)?;
        work(session, live)
    })
}

/// Compares the tables of which a first look does not hold any more; says what differs in all of them. Writes are held, as
/// for [`still_holds`].
///
/// # Errors
/// As [`super::compare_rows`].
pub fn compare_rest(
    session: &mut Session,
    baseline: &Baseline<'_>,
    holds: &Ahead,
    names: Option<&[SchemaNames]>,
    keep: &mut dyn KeepRows,
) -> Result<Vec<ChangedTable>, PgError> {
    with_live(session, baseline, names, |session, live| {
        let mut keep: Option<&mut dyn KeepRows> = Some(keep);
        let mut all = Vec::new();
        for pair in baseline.pairs(&live) {
            match holds.tables.get(pair.title) {
                Some(known) if holds.late.contains(pair.title) => {
                    if let (Some(now), Some(watched), Some(keep)) = (pair.now, &known.watched, &mut keep) {
                        let changed = late(session, now, watched, &holds.horizon.snapshot, &mut **keep)?;
                        all.extend((changed.changes != RowChanges::default()).then_some(changed));
                    }
                }
                Some(known) => all.extend(known.changed.clone()),
                None => all.extend(compare_table(session, baseline, &pair, &mut keep)?),
            }
        }
        Ok(all)
    })
}

/// Rows whose keys are in the log of a table: handed over as they are now, and counted as far as that can be without the
/// backup.
fn late(
    session: &mut Session,
    now: &Table,
    watched: &Watched,
    snapshot: &str,
    keep: &mut dyn KeepRows,
) -> Result<ChangedTable, PgError> {
    let mut changed = watched.about.clone();
    let places = key_places(&changed.columns, &changed.key);
    let kinds = keep.kept(&changed).map_err(not_kept)?;
    keep.late(&changed).map_err(not_kept)?;
    // What follows is found by its key, however little the planner knows of a log.
    session.run("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")?;
    let mut keys: HashMap<u64, (bool, bool)> = HashMap::new();
    let mut lines = Lines::default();
    let mut each = |line: &[u8]| {
        let (came, key) = line.split_at(line.iter().position(|byte| *byte == b'\t').unwrap_or(line.len()));
        let key = key.strip_prefix(b"\t").unwrap_or_default();
        keys.insert(XxHash3_64::oneshot(key), (came == b"t", false));
        keep.late_key(key)
    };
    session.copy_out(&format!("COPY ({}) TO STDOUT", watch::keys_sql(now, snapshot)), |bytes| {
        lines.take(bytes, &mut each)
    })?;
    let mut lines = Lines::default();
    let mut each = |row: &[u8]| {
        if let Some(found) = keys.get_mut(&key_hash(row, &places)) {
            found.1 = true;
        }
        keep.late_row(row)
    };
    let rows = watch::rows_sql(session, now, &changed.columns, snapshot)?;
    session.copy_out(&format!("COPY ({rows}) TO STDOUT"), |bytes| lines.take(bytes, &mut each))?;
    session.run("RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin")?;
    for (key, (came, is_there)) in keys {
        count_late(&mut changed, kinds.get(&key).copied(), came, is_there);
    }
    Ok(changed)
}

/// Counts a row anew: `kind` is what the first look found it to be, `came` that it was not there then.
fn count_late(changed: &mut ChangedTable, kind: Option<RowKind>, came: bool, is_there: bool) {
    let changes = &mut changed.changes;
    let was_then = match kind {
        Some(RowKind::Inserted) => false,
        Some(RowKind::Updated | RowKind::Before | RowKind::Deleted) => true,
        None => !came,
    };
    match kind {
        Some(RowKind::Inserted) => changes.inserted = changes.inserted.saturating_sub(1),
        Some(RowKind::Updated | RowKind::Before) => changes.updated = changes.updated.saturating_sub(1),
        Some(RowKind::Deleted) => changes.deleted = changes.deleted.saturating_sub(1),
        None => {}
    }
    match (was_then, is_there) {
        (false, true) => changes.inserted += 1,
        (true, true) => changes.updated += 1,
        (true, false) => changes.deleted += 1,
        (false, false) => {}
    }
    changed.rows_now = changed.rows_now.map(|rows| match (came, is_there) {
        (true, true) => rows + 1,
        (false, false) => rows.saturating_sub(1),
        (true, false) | (false, true) => rows,
    });
}

/// Where the columns of a key are among these columns.
pub fn key_places(columns: &[String], key: &[String]) -> Vec<usize> {
    key.iter().filter_map(|name| columns.iter().position(|column| column == name)).collect()
}

/// The key of a row in COPY's text format, its fields as they are written.
pub fn key_of(row: &[u8], places: &[usize]) -> Vec<u8> {
    let fields: Vec<&[u8]> = row.split(|byte| *byte == b'\t').collect();
    places.iter().filter_map(|place| fields.get(*place).copied()).collect::<Vec<_>>().join(&b'\t')
}

/// The same as a hash, as it is asked for by [`KeepRows::kept`].
pub fn key_number(row: &[u8], places: &[usize]) -> u64 {
    key_hash(row, places)
}

/// What rows with these keys are in a backup.
///
/// # Errors
/// [`PgError::Ours`] when it cannot be read.
pub fn then_of(
    sources: &dyn Sources,
    table: &PgTableFacts,
    keys: &HashSet<Vec<u8>>,
) -> Result<HashMap<Vec<u8>, Vec<u8>>, PgError> {
    let places = key_places(&table.columns, &table.key);
    let mut found = HashMap::new();
    let each = |row: &[u8]| -> io::Result<()> {
        let key = key_of(row, &places);
        if keys.contains(&key) {
            found.insert(key, row.to_vec());
        }
        Ok(())
    };
    read_then(sources, table, each)?;
    Ok(found)
}
