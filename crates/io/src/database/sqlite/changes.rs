//! What has been written to a live database since a backup of it: first as far as the backup's manifest tells, then row by
//! row against the restored copy.
//!
//! ```text
//!   look_at_tables   manifest    one scan: rows, their digest, and rows whose created_at or updated_at is younger
//!   compare_live     the copy    rows that came, changed or went, by primary key, else by rowid
//!   compare_kept     the same with a database that a restore set aside
//! ```
//! A table that the app rebuilt without a primary key (`VACUUM` may number its rows anew) shows more changes than there
//! were, never fewer.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use lifeboat_model::manifest::{SqliteFacts, TableFacts};
use rusqlite::{Connection, ErrorCode, types::ValueRef};

use super::{
    SqliteError,
    inspect::stored_columns,
    live,
    open::{attach_live, open_at_rest, quoted},
    quiet::Quiet,
    row::RowBytes,
};
use crate::stop::Stop;

/// Above this size of the file, in bytes, a first look counts and asks for times, and does not digest: planning a restore
/// should take seconds.
pub const DIGEST_BYTES_MAX: u64 = 1 << 30;

/// What a first look at a live table found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableLook {
    /// Rows now.
    pub rows: u64,
    /// Their digest, in the form of [`TableFacts::digest`]; nothing when the database is too large for a first look.
    pub digest: Option<String>,
    /// Rows that say that they came after the newest one in the backup did; nothing when the table does not tell.
    pub created: Option<u64>,
    /// Rows that came before and say that they were changed after the newest change in the backup; nothing when the
    /// table does not tell.
    pub changed: Option<u64>,
    /// The greatest values now of columns that tell times.
    pub newest: BTreeMap<String, String>,
}

/// Looks at every table of a live database, in one consistent scan, with what a backup knew of it.
///
/// # Errors
/// [`SqliteError`] when it cannot be read.
pub fn look_at_tables(
    path: &Path,
    known: &SqliteFacts,
    stop: &Stop,
) -> Result<BTreeMap<String, TableLook>, SqliteError> {
    let failed = |error| SqliteError::from_sqlite(path, "read", error);
    let connection = live::open(path)?;
    connection.execute_batch("BEGIN").map_err(failed)?;
    let bytes = std::fs::metadata(path).map(|facts| facts.len()).unwrap_or(0);
    let nothing = TableFacts::default();
    let mut looks = BTreeMap::new();
    for table in own_tables(&connection, "main").map_err(failed)? {
        let then = known.tables.get(&table).unwrap_or(&nothing);
        let mut scan = Scan::new(&connection, &table, then, bytes <= DIGEST_BYTES_MAX).map_err(failed)?;
        scan.run(&connection, stop).map_err(failed)?;
        let look = scan.look();
        looks.insert(table, look);
    }
    Ok(looks)
}

/// The digest of a live table now, in the form of [`TableFacts::digest`].
///
/// # Errors
/// [`SqliteError`] when it cannot be read.
pub fn table_digest(path: &Path, table: &str, stop: &Stop) -> Result<String, SqliteError> {
    let failed = |error| SqliteError::from_sqlite(path, "read", error);
    let connection = live::open(path)?;
    let nothing = TableFacts::default();
    let mut scan = Scan::new(&connection, table, &nothing, true).map_err(failed)?;
    scan.run(&connection, stop).map_err(failed)?;
    Ok(format!("{:032x}", scan.digest))
}

/// One table on the walk.
struct Scan<'a> {
    table: &'a str,
    /// The stored columns that are read, and what the backup knew of those that tell times.
    columns: Vec<(String, Option<(Tells, &'a str)>)>,
    /// The greatest values now of columns that tell times.
    newest: BTreeMap<String, String>,
    digests: bool,
    rows: u64,
    digest: u128,
    created: u64,
    changed: u64,
    buffer: RowBytes,
}

/// What a column tells the time of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    Created,
    Changed,
}

impl<'a> Scan<'a> {
    fn new(connection: &Connection, table: &'a str, then: &'a TableFacts, digests: bool) -> rusqlite::Result<Scan<'a>> {
        let told = |name: &String| {
            let lower = name.to_ascii_lowercase();
            let tells = if lower.contains("upd") || lower.contains("modif") { Tells::Changed } else { Tells::Created };
            then.newest.get(name).map(|at| (tells, at.as_str()))
        };
        let all = stored_columns(connection, table)?.into_iter().map(|name| (told(&name), name));
        let columns = all.map(|(told, name)| (name, told)).filter(|(_, told)| digests || told.is_some()).collect();
        let newest = then.newest.clone();
        Ok(Scan {
            table,
            columns,
            newest,
            digests,
            rows: 0,
            digest: 0,
            created: 0,
            changed: 0,
            buffer: RowBytes::default(),
        })
    }

    fn run(&mut self, connection: &Connection, stop: &Stop) -> rusqlite::Result<()> {
        let table = quoted(self.table);
        if self.columns.is_empty() {
            let rows: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
            self.rows = rows as u64;
            return Ok(());
        }
        let names: Vec<String> = self.columns.iter().map(|(name, _)| quoted(name)).collect();
        let mut statement = connection.prepare(&format!("SELECT {} FROM {table}", names.join(", ")))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            self.row(row)?;
            if self.rows.is_multiple_of(4096) && stop.check().is_err() {
                let interrupted = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT);
                return Err(rusqlite::Error::SqliteFailure(interrupted, None));
            }
        }
        Ok(())
    }

    fn row(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
        let (mut created, mut changed) = (false, false);
        self.buffer.clear();
        for (index, (name, told)) in self.columns.iter().enumerate() {
            let value = row.get_ref(index)?;
            if self.digests {
                self.buffer.push(value);
            }
            let Some((tells, then)) = told else { continue };
            if is_after(value, then) {
                match tells {
                    Tells::Created => created = true,
                    Tells::Changed => changed = true,
                }
                if self.newest.get(name).is_some_and(|newest| is_after(value, newest)) {
                    self.newest.insert(name.clone(), text_of(value));
                }
            }
        }
        self.rows += 1;
        self.created += u64::from(created);
        self.changed += u64::from(changed && !created);
        if self.digests {
            self.digest = self.digest.wrapping_add(self.buffer.hash());
        }
        Ok(())
    }

    fn look(self) -> TableLook {
        let tells = |what: Tells| self.columns.iter().any(|(_, told)| told.is_some_and(|(tells, _)| tells == what));
        TableLook {
            rows: self.rows,
            digest: self.digests.then(|| format!("{:032x}", self.digest)),
            created: tells(Tells::Created).then_some(self.created),
            changed: tells(Tells::Changed).then_some(self.changed),
            newest: self.newest,
        }
    }
}

/// Whether a time is younger than one that a manifest kept as text. Numbers are compared as numbers, text as SQLite does.
fn is_after(value: ValueRef<'_>, then: &str) -> bool {
    match value {
        ValueRef::Integer(number) => match then.parse::<i64>() {
            Ok(then) => number > then,
            Err(_) => then.parse::<f64>().is_ok_and(|then| number as f64 > then),
        },
        ValueRef::Real(number) => then.parse::<f64>().is_ok_and(|then| number > then),
        ValueRef::Text(text) => text > then.as_bytes(),
        ValueRef::Null | ValueRef::Blob(_) => false,
    }
}

/// A time in the words of a manifest.
fn text_of(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Null | ValueRef::Blob(_) => String::new(),
    }
}

/// What differs in one table, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableChange {
    /// Rows in the live database; nothing when the table is not there.
    pub rows_live: Option<u64>,
    /// Rows in the copy; nothing when the table is not there.
    pub rows_copy: Option<u64>,
    /// Rows that only the live one has.
    pub created: u64,
    /// Rows that both have, with other values.
    pub changed: u64,
    /// Rows that only the copy has.
    pub deleted: u64,
}

/// Compares a live database with a copy at rest, table by table, row by row. Tables that hold the same are left out.
///
/// # Errors
/// [`SqliteError`] when one of them cannot be read.
pub fn compare_live(live: &Path, copy: &Path, stop: &Stop) -> Result<BTreeMap<String, TableChange>, SqliteError> {
    let failed = |error| SqliteError::from_sqlite(live, "compare", error);
    super::Header::read(live)?;
    let quiet = Quiet::begin(live)?;
    let connection = open_at_rest(copy, stop)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    attach_live(&connection, live).map_err(failed)?;
    connection.execute_batch("BEGIN").map_err(failed)?;
    let changes = changes(&connection).map_err(failed);
    drop(connection);
    drop(quiet);
    changes
}

/// Compares a live database with one that was kept, with whatever `-wal` lies beside it; nothing when that takes longer
/// than the limit.
///
/// # Errors
/// As [`compare_live`].
pub fn compare_kept(
    live: &Path,
    kept: &Path,
    limit: Duration,
) -> Result<Option<BTreeMap<String, TableChange>>, SqliteError> {
    let failed = |error| SqliteError::from_sqlite(live, "compare", error);
    super::Header::read(live)?;
    let quiet = Quiet::begin(live)?;
    let mut connection = live::open(kept)?;
    attach_live(&connection, live).map_err(failed)?;
    connection.execute_batch("BEGIN").map_err(failed)?;
    connection.end_after(limit).map_err(failed)?;
    let found = changes(&connection);
    drop(connection);
    drop(quiet);
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn changes(connection: &Connection) -> rusqlite::Result<BTreeMap<String, TableChange>> {
    let (here, there) = (own_tables(connection, "live")?, own_tables(connection, "main")?);
    let mut found = BTreeMap::new();
    for table in here.union(&there) {
        let rows = |schema: &str, is_there: bool| -> rusqlite::Result<Option<u64>> {
            let count = format!("SELECT count(*) FROM {schema}.{}", quoted(table));
            let counted = || connection.query_row(&count, [], |row| row.get::<_, i64>(0));
            Ok(if is_there { Some(counted()? as u64) } else { None })
        };
        let mut change = TableChange {
            rows_live: rows("live", here.contains(table))?,
            rows_copy: rows("main", there.contains(table))?,
            ..TableChange::default()
        };
        match (change.rows_live, change.rows_copy) {
            (Some(_), Some(_)) => match Pair::of(connection, table)? {
                Some(pair) => pair.compare(connection, &mut change)?,
                // No way to tell which row is which: all of them count.
                None => all_of(&mut change),
            },
            (Some(_), None) | (None, Some(_)) | (None, None) => all_of(&mut change),
        }
        let whole = change.rows_live.is_some() && change.rows_copy.is_some();
        if !whole || change.created + change.changed + change.deleted > 0 {
            found.insert(table.clone(), change);
        }
    }
    Ok(found)
}

fn all_of(change: &mut TableChange) {
    change.created = change.rows_live.unwrap_or(0);
    change.deleted = change.rows_copy.unwrap_or(0);
}

/// A table that both have: how its rows are told apart, and what is compared.
struct Pair {
    table: String,
    /// `b.x IS a.x AND ...`
    same_row: String,
    /// `a.x IS NOT b.x OR ...`
    differs: String,
}

impl Pair {
    /// Nothing when there is no way to tell which row is which.
    fn of(connection: &Connection, table: &str) -> rusqlite::Result<Option<Pair>> {
        let (live, copy) = (columns(connection, "live", table)?, columns(connection, "main", table)?);
        let (live_key, copy_key) = (key(connection, "live", table)?, key(connection, "main", table)?);
        let row_number = || {
            let taken = |name: &&str| live.iter().chain(&copy).any(|column| column.eq_ignore_ascii_case(name));
            ["rowid", "_rowid_", "oid"].into_iter().find(|name| !taken(name)).map(str::to_owned)
        };
        let key = match (live_key == copy_key, live_key.is_empty()) {
            (true, false) => live_key.iter().map(|name| quoted(name)).collect(),
            (true, true) => row_number().into_iter().collect(),
            (false, _) => Vec::new(),
        };
        if key.is_empty() {
            return Ok(None);
        }
        let same_row: Vec<String> = key.iter().map(|name| format!("b.{name} IS a.{name}")).collect();
        let differs = live.iter().map(|name| (copy.contains(name), quoted(name))).map(|(is_in_both, name)| {
            // Whatever the column's own order says: "A" is not "a" here.
            if is_in_both {
                format!("a.{name} IS NOT b.{name} COLLATE BINARY")
            } else {
                format!("a.{name} IS NOT NULL")
            }
        });
        let differs = differs.collect::<Vec<_>>().join(" OR ");
        Ok(Some(Pair { table: quoted(table), same_row: same_row.join(" AND "), differs }))
    }

    fn compare(&self, connection: &Connection, change: &mut TableChange) -> rusqlite::Result<()> {
        let Pair { table, same_row, differs } = self;
        let count = |question: String| connection.query_row(&question, [], |row| row.get::<_, i64>(0));
        let only = |one: &str, other: &str| {
            count(format!(
                "SELECT count(*) FROM {one}.{table} AS a WHERE NOT EXISTS (SELECT 1 FROM {other}.{table} AS b WHERE {same_row})"
            ))
        };
        change.created = only("live", "main")? as u64;
        change.deleted = only("main", "live")? as u64;
        change.changed = count(format!(
            "SELECT count(*) FROM live.{table} AS a CROSS JOIN main.{table} AS b WHERE {same_row} AND ({differs})"
        ))? as u64;
        Ok(())
    }
}

/// Tables of the app that store rows of their own. What SQLite keeps for itself is no content of theirs.
fn own_tables(connection: &Connection, schema: &str) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = connection.prepare(&format!(
        "SELECT name FROM {schema}.sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ))?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn columns(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Vec<String>> {
    let question = "SELECT name FROM pragma_table_xinfo(?1, ?2) WHERE hidden IN (0, 3) ORDER BY cid";
    connection.prepare(question)?.query_map([table, schema], |row| row.get(0))?.collect()
}

fn key(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Vec<String>> {
    let question = "SELECT name FROM pragma_table_xinfo(?1, ?2) WHERE pk > 0 ORDER BY pk";
    connection.prepare(question)?.query_map([table, schema], |row| row.get(0))?.collect()
}
