//! Which rows of a live database a backup does not have, and the other way round: found row by row, and handed over.
//!
//! ```text
//!   the backup's files ──► 16 bytes a row ─┐
//!                                          ├─► counts; then only rows that differ are read a second time
//!   the live tables ─────► 16 bytes a row ─┘
//! ```
//!
//! Where the server still counts transactions as it did when the backup was made, each row says by itself whether it is
//! younger: a table nobody touched is not read at all, and one that only grew is read once, those rows alone. Columns are
//! compared as far as both sides have them, so that a migration in between does not make every row another one.

mod ahead;
mod sequences;
mod younger;

pub use ahead::{
    Ahead, compare_ahead, compare_rest, key_number, key_of, key_places, still_holds, then_of, unwatched, watch_tables,
};
pub use sequences::raise_sequences;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, BufRead, BufReader},
};

use lifeboat_model::{
    PostgresFacts, RowKind, SchemaNames,
    postgres::{Horizon, PgTableFacts},
};
use memchr::memchr_iter;
use serde::{Deserialize, Serialize};
use twox_hash::{XxHash3_64, XxHash3_128};

use younger::counted;
pub(super) use younger::{seen, younger};

use super::{
    PgError, RowChanges, Selection, Session, Sources,
    catalog::{self, Table},
    loss::key_hash,
    sql::{literals, plain},
};

/// What is compared with what is live.
pub struct Baseline<'a> {
    /// What was captured.
    pub facts: &'a PostgresFacts,
    /// Its files.
    pub sources: &'a dyn Sources,
    /// Rows older than this are as they were captured; nothing when the counting is another one.
    pub horizon: Option<&'a Horizon>,
    /// Columns that have another name now: `schema.table.column`, and what it is called in the backup.
    pub moved: &'a BTreeMap<String, String>,
    /// Which live tables are meant; those that were captured are in any case.
    pub selection: &'a Selection,
    /// Only tables in these schemas; all when there are none. What an extension keeps in them stays with it.
    pub schemas: &'a [String],
}

impl Baseline<'_> {
    fn takes(&self, title: &str, condition: Option<&String>) -> bool {
        let is_in = |schema: &String| title.strip_prefix(&plain(schema)).is_some_and(|rest| rest.starts_with('.'));
        self.schemas.is_empty() || (condition.is_none() && self.schemas.iter().any(is_in))
    }

    /// The live tables that are compared, by their names.
    fn live(&self, session: &mut Session) -> Result<BTreeMap<String, Table>, PgError> {
        let mut live = catalog::tables(session, self.selection)?;
        let everything = Selection::default();
        let known: BTreeSet<String> = live.iter().map(Table::title).collect();
        let captured = catalog::tables(session, &everything)?.into_iter();
        let is_more = |table: &Table| self.facts.tables.contains_key(&table.title()) && !known.contains(&table.title());
        live.extend(captured.filter(is_more));
        live.retain(|table| self.takes(&table.title(), table.condition.as_ref()));
        Ok(live.into_iter().map(|table| (table.title(), table)).collect())
    }

    /// The same, of schemas that have other names at this moment, by the names that everybody uses.
    fn live_as(&self, session: &mut Session, names: &[SchemaNames]) -> Result<BTreeMap<String, Table>, PgError> {
        let kept = literals(names.iter().filter_map(|names| names.kept.as_deref()).chain([""]));
        let tables = catalog::tables_where(session, &format!("n.nspname IN ({kept})"))?;
        let named = tables.into_iter().filter_map(|table| {
            let names = names.iter().find(|names| names.kept.as_ref() == Some(&table.schema))?;
            let title = format!("{}.{}", plain(&names.live), plain(&table.name));
            self.takes(&title, table.condition.as_ref()).then_some((title, table))
        });
        Ok(named.collect())
    }

    /// All pairs of a table then and now.
    fn pairs<'a>(&'a self, live: &'a BTreeMap<String, Table>) -> impl Iterator<Item = Pair<'a>> {
        let captured = self.facts.tables.iter().filter(|(title, then)| self.takes(title, then.condition.as_ref()));
        let titles: BTreeSet<&String> = captured.map(|(title, _)| title).chain(live.keys()).collect();
        titles.into_iter().map(|title| Pair { title, then: self.facts.tables.get(title), now: live.get(title) })
    }
}

/// A table that is not as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedTable {
    /// `schema.name`, quoted where SQL needs it.
    pub title: String,
    /// Rows in the backup; nothing when the table is not in it.
    pub rows_then: Option<u64>,
    /// Rows now; nothing when the table is gone.
    pub rows_now: Option<u64>,
    /// What was done to it.
    pub changes: RowChanges,
    /// Columns of rows as they are now, in order, quoted where SQL needs it.
    pub columns: Vec<String>,
    /// Columns of rows as they were then.
    pub columns_then: Vec<String>,
    /// The columns among them that tell rows apart; none when nothing does.
    pub key: Vec<String>,
    /// Columns that the backup does not have.
    pub only_now: Vec<String>,
}

/// Takes the rows that differ, table after table.
pub trait KeepRows {
    /// A table begins.
    ///
    /// # Errors
    /// What lies beneath; it ends the comparison.
    fn begin(&mut self, table: &ChangedTable) -> io::Result<()>;

    /// A row in COPY's text format, without its end. `copy` tells equal rows of a table without a key apart: it is the
    /// second, third, ... of its kind.
    ///
    /// # Errors
    /// As [`KeepRows::begin`].
    fn row(&mut self, kind: RowKind, copy: u64, row: &[u8]) -> io::Result<()>;

    /// The table has ended.
    ///
    /// # Errors
    /// As [`KeepRows::begin`].
    fn end(&mut self) -> io::Result<()>;

    /// What a first look has handed over of a table: which rows, by [`key_number`], and of what kind.
    ///
    /// # Errors
    /// As [`KeepRows::begin`].
    fn kept(&mut self, _table: &ChangedTable) -> io::Result<HashMap<u64, RowKind>> {
        Ok(HashMap::new())
    }

    /// A table begins that was written to since the first look; what that has found holds but for the keys that follow.
    ///
    /// # Errors
    /// As [`KeepRows::begin`].
    fn late(&mut self, _table: &ChangedTable) -> io::Result<()> {
        Ok(())
    }

    /// A key that was written to: fields in COPY's text format.
    ///
    /// # Errors
    /// As [`KeepRows::begin`].
    fn late_key(&mut self, _key: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// A row with such a key as it is now; a key without one has no row any more.
    ///
    /// # Errors
    /// As [`KeepRows::begin`].
    fn late_row(&mut self, _row: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// The present instant in the server's counting: what is written from now on is told by [`Horizon::xmin`].
///
/// # Errors
/// As [`Session::run`].
pub fn horizon_now(session: &mut Session) -> Result<Horizon, PgError> {
    catalog::horizon(session)
}

/// Compares all tables, in one snapshot of what is live. With `keep` the rows themselves are handed over too.
///
/// # Errors
/// As [`Session::run`]; [`PgError::Ours`] when the backup cannot be read or the rows cannot be kept.
pub fn compare_rows(
    session: &mut Session,
    baseline: &Baseline<'_>,
    mut keep: Option<&mut dyn KeepRows>,
) -> Result<Vec<ChangedTable>, PgError> {
    session.transaction(ONE_INSTANT, |session| {
        let live = baseline.live(session)?;
        let mut changed = Vec::new();
        for pair in baseline.pairs(&live) {
            changed.extend(compare_table(session, baseline, &pair, &mut keep)?);
        }
        Ok(changed)
    })
}

/// All of it is seen as it is at one moment.
const ONE_INSTANT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// One table on both sides.
struct Pair<'a> {
    title: &'a String,
    then: Option<&'a PgTableFacts>,
    now: Option<&'a Table>,
}

fn compare_table(
    session: &mut Session,
    baseline: &Baseline<'_>,
    pair: &Pair<'_>,
    keep: &mut Option<&mut dyn KeepRows>,
) -> Result<Option<ChangedTable>, PgError> {
    match (pair.then, pair.now) {
        (Some(then), Some(now)) => {
            let shape = Shape::of(then, now, baseline.moved);
            if shape.common.is_empty() {
                replaced(session, pair, then, now, keep)
            } else {
                both(session, baseline, pair, &shape, keep)
            }
        }
        (None, Some(now)) => only_now(session, pair, now, keep),
        // What the backup has stays in it: it is told, and need not be kept a second time.
        (Some(then), None) => Ok(Some(ChangedTable {
            title: pair.title.clone(),
            rows_then: Some(then.rows.rows),
            changes: RowChanges { deleted: then.rows.rows, ..RowChanges::default() },
            columns_then: then.columns.clone(),
            key: then.key.clone(),
            ..ChangedTable::default()
        })),
        (None, None) => Ok(None),
    }
}

/// A table that came since: all of its rows did.
fn only_now(
    session: &mut Session,
    pair: &Pair<'_>,
    now: &Table,
    keep: &mut Option<&mut dyn KeepRows>,
) -> Result<Option<ChangedTable>, PgError> {
    let rows = session.one(&format!("SELECT count(*) FROM ONLY {}", now.title()))?.count(0);
    let changed = ChangedTable {
        title: pair.title.clone(),
        rows_now: Some(rows),
        changes: RowChanges { inserted: rows, ..RowChanges::default() },
        columns: now.columns.clone(),
        key: now.key.clone(),
        only_now: now.columns.clone(),
        ..ChangedTable::default()
    };
    if let Some(keep) = keep.as_mut().filter(|_| !now.columns.is_empty()) {
        let kept = &mut **keep;
        kept.begin(&changed).map_err(not_kept)?;
        let mut copies = Copies::default();
        read_live(session, now, &now.columns, "", |row| {
            kept.row(RowKind::Inserted, if now.key.is_empty() { copies.next(row) } else { 1 }, row)
        })?;
        kept.end().map_err(not_kept)?;
    }
    Ok(Some(changed))
}

/// No column is left of what it was: its rows went, and others came.
fn replaced(
    session: &mut Session,
    pair: &Pair<'_>,
    then: &PgTableFacts,
    now: &Table,
    keep: &mut Option<&mut dyn KeepRows>,
) -> Result<Option<ChangedTable>, PgError> {
    if then.columns.is_empty() && now.columns.is_empty() {
        let rows = session.one(&format!("SELECT count(*) FROM ONLY {}", now.title()))?.count(0);
        let changes = RowChanges {
            inserted: rows.saturating_sub(then.rows.rows),
            deleted: then.rows.rows.saturating_sub(rows),
            updated: 0,
        };
        let (rows_then, rows_now) = (Some(then.rows.rows), Some(rows));
        let changed =
            ChangedTable { title: pair.title.clone(), rows_then, rows_now, changes, ..ChangedTable::default() };
        return Ok((changes != RowChanges::default()).then_some(changed));
    }
    let changed = only_now(session, pair, now, keep)?;
    Ok(changed.map(|changed| ChangedTable {
        rows_then: Some(then.rows.rows),
        changes: RowChanges { deleted: then.rows.rows, ..changed.changes },
        columns_then: then.columns.clone(),
        ..changed
    }))
}

/// How rows of both sides are made comparable.
struct Shape {
    /// Columns that both have, in the backup's order, as they are called now.
    common: Vec<String>,
    /// Columns that only the live table has.
    extra: Vec<String>,
    /// Places of the common columns in a row of the backup; nothing when they are all of it.
    places: Option<Vec<usize>>,
    /// Places of the key among the common columns.
    key: Vec<usize>,
}

impl Shape {
    fn of(then: &PgTableFacts, now: &Table, moved: &BTreeMap<String, String>) -> Shape {
        let title = now.title();
        let is_now = |column: &String| -> Option<String> {
            let renamed = || now.columns.iter().find(|name| moved.get(&format!("{title}.{name}")) == Some(column));
            now.columns.iter().find(|name| *name == column).or_else(renamed).cloned()
        };
        let pairs: Vec<(usize, String)> =
            then.columns.iter().enumerate().filter_map(|(place, column)| Some((place, is_now(column)?))).collect();
        let common: Vec<String> = pairs.iter().map(|(_, name)| name.clone()).collect();
        let extra = now.columns.iter().filter(|column| !common.contains(column)).cloned().collect();
        let places = (common.len() < then.columns.len()).then(|| pairs.iter().map(|(place, _)| *place).collect());
        let key = |column: &String| common.iter().position(|name| Some(name) == is_now(column).as_ref());
        let key = then.key.iter().map(key).collect::<Option<Vec<usize>>>().unwrap_or_default();
        Shape { common, extra, places, key }
    }

    /// The columns as they are read from what is live: the common ones first.
    fn columns(&self) -> Vec<String> {
        self.common.iter().chain(&self.extra).cloned().collect()
    }

    /// The common columns of a live row.
    fn of_live<'a>(&self, row: &'a [u8]) -> &'a [u8] {
        if self.extra.is_empty() {
            return row;
        }
        let end = memchr_iter(b'\t', row).nth(self.common.len() - 1);
        end.map_or(row, |at| &row[..at])
    }

    /// The common columns of a row of the backup.
    fn of_then<'a>(&self, row: &'a [u8], room: &'a mut Vec<u8>) -> &'a [u8] {
        let Some(places) = &self.places else { return row };
        let fields: Vec<&[u8]> = row.split(|byte| *byte == b'\t').collect();
        room.clear();
        for (index, place) in places.iter().enumerate() {
            if index > 0 {
                room.push(b'\t');
            }
            room.extend_from_slice(fields.get(*place).copied().unwrap_or_default());
        }
        room
    }

    fn key_of(&self, row: &[u8]) -> u64 {
        key_hash(row, &self.key)
    }

    fn mark(&self, row: &[u8]) -> Mark {
        let whole = XxHash3_128::oneshot(row);
        let key = if self.key.is_empty() { (whole >> 64) as u64 } else { key_hash(row, &self.key) };
        (key, whole as u64)
    }
}

/// A row in 16 bytes: a hash of its key, and one of all of it; without a key, two halves of the latter.
type Mark = (u64, u64);

/// The marks of all rows of one side, sorted.
struct Marks(Vec<Mark>);

impl Marks {
    fn sorted(mut marks: Vec<Mark>) -> Marks {
        marks.sort_unstable();
        Marks(marks)
    }

    fn count(&self, mark: &Mark) -> u64 {
        let from = self.0.partition_point(|other| other < mark);
        self.0[from..].iter().take_while(|other| *other == mark).count() as u64
    }

    fn has(&self, mark: &Mark) -> bool {
        self.0.binary_search(mark).is_ok()
    }

    fn has_key(&self, key: u64) -> bool {
        self.0.get(self.0.partition_point(|other| other.0 < key)).is_some_and(|found| found.0 == key)
    }

    /// What was done to `self` to make it `now`.
    fn changes(&self, now: &Marks, keyed: bool) -> RowChanges {
        let mut changes = RowChanges::default();
        let (mut was, mut is) = (self.0.iter().peekable(), now.0.iter().peekable());
        loop {
            match (was.peek(), is.peek()) {
                (None, None) => return changes,
                (Some(a), Some(b)) if a == b => {
                    was.next();
                    is.next();
                }
                (Some(a), Some(b)) if a.0 == b.0 && keyed => {
                    changes.updated += 1;
                    was.next();
                    is.next();
                }
                (Some(a), Some(b)) if a < b => {
                    changes.deleted += 1;
                    was.next();
                }
                (Some(_), None) => {
                    changes.deleted += 1;
                    was.next();
                }
                (_, Some(_)) => {
                    changes.inserted += 1;
                    is.next();
                }
            }
        }
    }
}

/// Which of several equal rows one is.
#[derive(Default)]
struct Copies(HashMap<u128, u64>);

impl Copies {
    fn next(&mut self, row: &[u8]) -> u64 {
        let seen = self.0.entry(XxHash3_128::oneshot(row)).or_default();
        *seen += 1;
        *seen
    }
}

fn both(
    session: &mut Session,
    baseline: &Baseline<'_>,
    pair: &Pair<'_>,
    shape: &Shape,
    keep: &mut Option<&mut dyn KeepRows>,
) -> Result<Option<ChangedTable>, PgError> {
    let (Some(then), Some(now)) = (pair.then, pair.now) else { return Ok(None) };
    let glanced = baseline.horizon.map(|horizon| seen(session, now, horizon)).transpose()?;
    let mut changed = ChangedTable {
        title: pair.title.clone(),
        rows_then: Some(then.rows.rows),
        columns: shape.columns(),
        columns_then: then.columns.clone(),
        key: shape.key.iter().map(|place| shape.common[*place].clone()).collect(),
        only_now: shape.extra.clone(),
        ..ChangedTable::default()
    };
    if let Some(seen) = &glanced {
        let outdated = then.rows.rows.saturating_sub(seen.rows - seen.touched);
        changed.rows_now = Some(seen.rows);
        if seen.touched == 0 && outdated == 0 {
            return Ok((!shape.extra.is_empty()).then_some(changed));
        }
        // All that was captured is there as it was: what is younger came.
        if outdated == 0 && (keep.is_none() || !shape.key.is_empty()) {
            changed.changes.inserted = seen.touched;
            let filter = baseline.horizon.map(younger).unwrap_or_default();
            if let Some(keep) = keep {
                let kept = &mut **keep;
                kept.begin(&changed).map_err(not_kept)?;
                read_live(session, now, &changed.columns, &filter, |row| kept.row(RowKind::Inserted, 1, row))?;
                kept.end().map_err(not_kept)?;
            }
            return Ok(Some(changed));
        }
    }
    if let (Some(seen), Some(horizon), None) = (&glanced, baseline.horizon, &keep)
        && !shape.key.is_empty()
        && seen.touched < seen.rows / 2
    {
        changed.changes = counted(session, baseline, pair, shape, (seen, horizon))?;
        return Ok((changed.changes != RowChanges::default() || !shape.extra.is_empty()).then_some(changed));
    }
    let (was, is) = marks_of_both(session, baseline, pair, shape)?;
    changed.rows_now = Some(is.0.len() as u64);
    changed.changes = was.changes(&is, !shape.key.is_empty());
    if changed.changes == RowChanges::default() {
        return Ok((!shape.extra.is_empty()).then_some(changed));
    }
    if let Some(keep) = keep {
        let kept = &mut **keep;
        kept.begin(&changed).map_err(not_kept)?;
        let filter = baseline.horizon.map(younger).filter(|_| !shape.key.is_empty()).unwrap_or_default();
        keep_now(session, pair, shape, (&was, &is), &filter, kept)?;
        if changed.changes.updated + changed.changes.deleted > 0 {
            keep_then(baseline, then, shape, (&was, &is), kept)?;
        }
        kept.end().map_err(not_kept)?;
    }
    Ok(Some(changed))
}

/// Reads both sides at the same time.
fn marks_of_both(
    session: &mut Session,
    baseline: &Baseline<'_>,
    pair: &Pair<'_>,
    shape: &Shape,
) -> Result<(Marks, Marks), PgError> {
    let (Some(then), Some(now)) = (pair.then, pair.now) else { return Ok((Marks(vec![]), Marks(vec![]))) };
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut marks, mut room) = (Vec::with_capacity(then.rows.rows as usize), Vec::new());
            read_then(baseline.sources, then, |row| {
                marks.push(shape.mark(shape.of_then(row, &mut room)));
                Ok(())
            })?;
            Ok::<Marks, PgError>(Marks::sorted(marks))
        });
        let mut marks = Vec::with_capacity(then.rows.rows as usize);
        let read = read_live(session, now, &shape.common, "", |row| {
            marks.push(shape.mark(row));
            Ok(())
        });
        let was = reading.join().unwrap_or_else(|_panic| {
            let doing = format!("read {} out of the backup", pair.title);
            Err(PgError::Ours { doing, source: io::Error::other("it broke off") })
        });
        read?;
        Ok((was?, Marks::sorted(marks)))
    })
}

/// Hands over rows as they are now that are not as they were.
fn keep_now(
    session: &mut Session,
    pair: &Pair<'_>,
    shape: &Shape,
    (was, is): (&Marks, &Marks),
    filter: &str,
    kept: &mut dyn KeepRows,
) -> Result<(), PgError> {
    let Some(now) = pair.now else { return Ok(()) };
    let mut more = Excess::default();
    read_live(session, now, &shape.columns(), filter, |row| {
        let mark = shape.mark(shape.of_live(row));
        if !shape.key.is_empty() {
            return match (was.has(&mark), was.has_key(mark.0)) {
                (true, _) => Ok(()),
                (false, true) => kept.row(RowKind::Updated, 1, row),
                (false, false) => kept.row(RowKind::Inserted, 1, row),
            };
        }
        match more.next(&mark, is, was) {
            Some(copy) => kept.row(RowKind::Inserted, copy, row),
            None => Ok(()),
        }
    })
}

/// Hands over rows of the backup that are not as they were any more.
fn keep_then(
    baseline: &Baseline<'_>,
    then: &PgTableFacts,
    shape: &Shape,
    (was, is): (&Marks, &Marks),
    kept: &mut dyn KeepRows,
) -> Result<(), PgError> {
    let (mut fewer, mut room) = (Excess::default(), Vec::new());
    read_then(baseline.sources, then, |row| {
        let mark = shape.mark(shape.of_then(row, &mut room));
        if !shape.key.is_empty() {
            return match (is.has(&mark), is.has_key(mark.0)) {
                (true, _) => Ok(()),
                (false, true) => kept.row(RowKind::Before, 1, row),
                (false, false) => kept.row(RowKind::Deleted, 1, row),
            };
        }
        match fewer.next(&mark, was, is) {
            Some(copy) => kept.row(RowKind::Deleted, copy, row),
            None => Ok(()),
        }
    })
}

/// Of equal rows without a key, those that one side has more than the other.
#[derive(Default)]
struct Excess(HashMap<Mark, u64>);

impl Excess {
    /// Which copy this one is, when the other side does not have as many.
    fn next(&mut self, mark: &Mark, mine: &Marks, others: &Marks) -> Option<u64> {
        let theirs = others.count(mark);
        if mine.count(mark) <= theirs {
            return None;
        }
        let seen = self.0.entry(*mark).or_default();
        *seen += 1;
        (*seen > theirs).then_some(*seen)
    }
}

fn not_kept(source: io::Error) -> PgError {
    PgError::Ours { doing: "keep the rows that differ".into(), source }
}

/// Reads rows of a live table as this session sees them, each without its end.
fn read_live(
    session: &mut Session,
    table: &Table,
    columns: &[String],
    filter: &str,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), PgError> {
    let (names, title) = (columns.join(", "), table.title());
    let condition = table.condition.as_deref().unwrap_or_default();
    let source = match (filter, condition) {
        ("", "") => format!("{title} ({names})"),
        ("", condition) => format!("(SELECT {names} FROM ONLY {title} {condition})"),
        (filter, "") => format!("(SELECT {names} FROM ONLY {title} WHERE {filter})"),
        (filter, condition) => format!("(SELECT {names} FROM ONLY {title} {condition} AND {filter})"),
    };
    let mut lines = Lines::default();
    session.copy_out(&format!("COPY {source} TO STDOUT"), |bytes| lines.take(bytes, &mut each))
}

/// Reads rows of a backup.
fn read_then(
    sources: &dyn Sources,
    table: &PgTableFacts,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), PgError> {
    const BUFFER_BYTES: usize = 256 << 10;
    for part in &table.parts {
        let failed = |source| PgError::Ours { doing: format!("read {} out of the backup", part.path), source };
        let mut source = BufReader::with_capacity(BUFFER_BYTES, sources.open(&part.path).map_err(failed)?);
        let mut lines = Lines::default();
        loop {
            let bytes = source.fill_buf().map_err(failed)?;
            if bytes.is_empty() {
                break;
            }
            lines.take(bytes, &mut each).map_err(failed)?;
            let length = bytes.len();
            source.consume(length);
        }
    }
    Ok(())
}

/// Cuts bytes into lines.
#[derive(Default)]
pub(super) struct Lines {
    open: Vec<u8>,
}

impl Lines {
    pub(super) fn take(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut begin = 0;
        for end in memchr_iter(b'\n', bytes) {
            let row = &bytes[begin..end];
            begin = end + 1;
            if self.open.is_empty() {
                each(row)?;
            } else {
                self.open.extend_from_slice(row);
                let line = std::mem::take(&mut self.open);
                each(&line)?;
            }
        }
        self.open.extend_from_slice(&bytes[begin..]);
        Ok(())
    }
}

/// A field of COPY's text format as what it means; nothing for null.
pub fn decoded(field: &[u8]) -> Option<Vec<u8>> {
    if field == b"\\N" {
        return None;
    }
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, if byte == b'\\' { bytes.next() } else { None }) {
            (b'\\', Some(b'b')) => out.push(8),
            (b'\\', Some(b'f')) => out.push(12),
            (b'\\', Some(b'n')) => out.push(b'\n'),
            (b'\\', Some(b'r')) => out.push(b'\r'),
            (b'\\', Some(b't')) => out.push(b'\t'),
            (b'\\', Some(b'v')) => out.push(11),
            (b'\\', Some(&other)) => out.push(other),
            (other, _) => out.push(other),
        }
    }
    Some(out)
}

/// A name for a place in the state folder that differs for any two tables: what is plain in it, and a hash.
pub fn table_file(title: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-' || letter == '.';
    if title.chars().all(plain) && !title.starts_with('.') && title.len() < 100 {
        return title.to_owned();
    }
    let simple: String = title.chars().filter(|letter| plain(*letter)).take(60).collect();
    format!("{}-{:016x}", simple.trim_start_matches('.'), XxHash3_64::oneshot(title.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(columns: &[&str], key: &[&str]) -> PgTableFacts {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        PgTableFacts { columns: names(columns), key: names(key), ..PgTableFacts::default() }
    }

    fn table(columns: &[&str]) -> Table {
        Table {
            oid: 1,
            schema: "public".into(),
            name: "t".into(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            key: vec![],
            pages: 1,
            bytes: 1,
            condition: None,
        }
    }

    #[test]
    fn columns_are_compared_as_far_as_both_have_them() {
        let moved = BTreeMap::from([("public.t.title".to_owned(), "name".to_owned())]);
        let shape = Shape::of(&facts(&["id", "name"], &["id"]), &table(&["title", "id"]), &moved);
        assert_eq!(shape.columns(), ["id", "title"], "a column may have another name now");
        let shape = Shape::of(&facts(&["id", "gone", "name"], &["id"]), &table(&["id", "name", "came"]), &moved);
        assert_eq!(shape.columns(), ["id", "name", "came"]);
        let mut room = Vec::new();
        let then = shape.mark(shape.of_then(b"1\tx\tAnna", &mut room));
        assert_eq!(then, shape.mark(shape.of_live(b"1\tAnna\tnew")));
        assert_ne!(then, shape.mark(shape.of_live(b"1\tBerta\tnew")));
        assert_eq!(then.0, shape.mark(shape.of_live(b"1\tBerta\t")).0, "the key is the same");
    }

    #[test]
    fn equal_rows_without_a_key_are_told_apart_by_their_number() {
        let shape = Shape::of(&facts(&["what"], &[]), &table(&["what"]), &BTreeMap::new());
        let marks = |rows: &[&str]| Marks::sorted(rows.iter().map(|row| shape.mark(row.as_bytes())).collect());
        let (was, is) = (marks(&["a", "b"]), marks(&["a", "a", "a"]));
        assert_eq!(was.changes(&is, false), RowChanges { inserted: 2, updated: 0, deleted: 1 });
        let mut more = Excess::default();
        let copies: Vec<Option<u64>> = (0..3).map(|_| more.next(&shape.mark(b"a"), &is, &was)).collect();
        assert_eq!(copies, [None, Some(2), Some(3)]);
    }

    #[test]
    fn fields_are_decoded() {
        assert_eq!(decoded(b"\\N"), None);
        assert_eq!(decoded(b"a\\tb\\\\c\\n"), Some(b"a\tb\\c\n".to_vec()));
        assert_eq!(decoded(b""), Some(vec![]));
    }

    #[test]
    fn every_table_has_a_file_of_its_own() {
        assert_eq!(table_file("public.orders"), "public.orders");
        let names: BTreeSet<String> =
            ["public.\"a b\"", "public.\"ab\"", "\"../x\".y", "public.ab"].map(table_file).into();
        assert_eq!(names.len(), 4);
        assert!(names.iter().all(|name| !name.contains('/') && !name.starts_with('.')));
    }
}
