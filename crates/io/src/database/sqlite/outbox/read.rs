//! Reading what waits, and the rows it is about as they are now.

use std::collections::{BTreeMap, HashMap, HashSet};

use lifeboat_model::sync::{self, Op, Value};
use rusqlite::{CachedStatement, Connection, Row, params_from_iter, types::ValueRef};

use super::{
    super::{SqliteError, open::quoted},
    Outbox, Shapes, TableShape, numbers, tail,
};

/// A key: a value for each of its columns.
pub type Key = Vec<Value>;

/// One entry of the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted {
    /// Its number.
    pub seq: i64,
    /// The table.
    pub table: String,
    /// What happened.
    pub op: Op,
    /// Which row.
    pub key: Key,
}

/// A row that changed, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// Its key.
    pub key: Key,
    /// Its values, for all columns; nothing when it is gone.
    pub row: Option<Vec<Value>>,
}

/// Changes that can be delivered together: every row once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The number of the first entry in it.
    pub first: i64,
    /// Everything up to this number is in it, or was before it.
    pub upto: i64,
    /// The greatest number in the outbox when it was read, and about what new rows that are not noted yet will get.
    pub newest: i64,
    /// Entries that are over with it.
    pub changes: u64,
    /// Bytes of rows.
    pub bytes: u64,
    /// Changed rows by table.
    pub tables: BTreeMap<String, Vec<RowChange>>,
    /// Entries of tables that are not there any more.
    pub of_nothing: u64,
}

/// A row that changed, while it is read.
pub struct Sight<'a> {
    /// Its table.
    pub table: &'a TableShape,
    /// Its key.
    pub key: &'a Key,
    /// What was noted of it first.
    pub first: Op,
    row: Option<&'a Row<'a>>,
}

impl Sight<'_> {
    /// Whether it is gone.
    pub fn is_gone(&self) -> bool {
        self.row.is_none()
    }

    /// The value of one of its columns.
    pub fn value(&self, at: usize) -> sync::ValueRef<'_> {
        self.row.and_then(|row| row.get_ref(at).ok()).map_or(sync::ValueRef::Null, seen)
    }
}

/// How far [`Outbox::walk`] came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Walked {
    /// The key of the last row.
    pub last: Option<Key>,
    /// How many rows.
    pub rows: u64,
    /// Whether there is none behind it.
    pub is_end: bool,
}

/// How far [`Outbox::sweep`] came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Everything up to this number was looked at, or was before it.
    pub upto: i64,
    /// The greatest number in the outbox, and about what new rows that are not noted yet will get.
    pub newest: i64,
    /// Entries that were looked at.
    pub changes: u64,
    /// The schema is another one than was said: nothing was looked at.
    pub is_stale: bool,
}

impl Outbox {
    /// As [`Outbox::batch`], each changed row handed over while it is read: `each` says how many bytes it took. All is read
    /// in one transaction that is over when this returns. The tables are those at that number of the schema.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn sweep(
        &self,
        (version, shapes): (i64, &Shapes),
        after: i64,
        entries_max: u32,
        bytes_max: u64,
        each: &mut dyn FnMut(&Sight<'_>) -> u64,
    ) -> Result<Swept, SqliteError> {
        let mut read = || {
            let transaction = self.connection.unchecked_transaction()?;
            let found: i64 = transaction.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
            if found != version {
                return Ok(Swept { upto: after, newest: after, changes: 0, is_stale: true });
            }
            sweep(&transaction, shapes, (after, entries_max, bytes_max), each)
        };
        read().map_err(|error| SqliteError::from_sqlite(&self.path, "read changed rows of", error))
    }

    /// The next changes after `after`: at most so many entries, and about so many bytes of rows. All is read in one
    /// transaction that is over when this returns.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn batch(&self, shapes: &Shapes, after: i64, entries_max: u32, bytes_max: u64) -> Result<Batch, SqliteError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            batch(&transaction, shapes, after, entries_max, bytes_max)
        };
        read().map_err(|error| SqliteError::from_sqlite(&self.path, "read changed rows of", error))
    }

    /// Entries after `after`, at most so many.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn entries(&self, after: i64, max: u32) -> Result<Vec<Noted>, SqliteError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            noted(&transaction, after, i64::from(max))
        };
        read().map_err(|error| SqliteError::from_sqlite(&self.path, "read the outbox of", error))
    }

    /// Rows by their keys, as they are now, in one transaction.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn rows(&self, table: &TableShape, keys: &[Key]) -> Result<Vec<RowChange>, SqliteError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            let mut changes = Vec::with_capacity(keys.len());
            for key in keys {
                changes.push(RowChange { key: key.clone(), row: row_of(&transaction, table, key)? });
            }
            Ok(changes)
        };
        read().map_err(|error| SqliteError::from_sqlite(&self.path, "read rows of", error))
    }

    /// One row by its key, inside the transaction that is open.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn row_inside(&self, table: &TableShape, key: &Key) -> Result<Option<Vec<Value>>, SqliteError> {
        row_of(&self.connection, table, key)
            .map_err(|error| SqliteError::from_sqlite(&self.path, "read rows of", error))
    }

    /// The next rows of a table after a key, in the order of its key; from the first when there is none.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn page(&self, table: &TableShape, after: Option<&Key>, rows: u32) -> Result<Vec<Vec<Value>>, SqliteError> {
        let read = || {
            let asked = after_key(table, after.is_some(), rows);
            let mut statement = self.connection.prepare_cached(&asked)?;
            let key: Vec<rusqlite::types::Value> = after.into_iter().flatten().map(bound).collect();
            let found = statement.query_map(params_from_iter(key), |row| values(row, table.columns.len()))?;
            found.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|error: rusqlite::Error| SqliteError::from_sqlite(&self.path, "read rows of", error))
    }

    /// As [`Outbox::rows`], each row handed over while it is read.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn look_up<'k>(
        &self,
        table: &TableShape,
        keys: impl Iterator<Item = &'k Key>,
        each: &mut dyn FnMut(&Sight<'_>) -> u64,
    ) -> Result<(), SqliteError> {
        let read = |keys: &mut dyn Iterator<Item = &'k Key>, each: &mut dyn FnMut(&Sight<'_>) -> u64| {
            let transaction = self.connection.unchecked_transaction()?;
            let mut by_key = transaction.prepare_cached(&by_key(table))?;
            for key in keys {
                see(table, &mut by_key, key, Op::Update, each)?;
            }
            Ok(())
        };
        let mut keys = keys;
        read(&mut keys, each).map_err(|error| SqliteError::from_sqlite(&self.path, "read rows of", error))
    }

    /// As [`Outbox::page`], at most about so many bytes, and each row handed over while it is read: `each` says how many bytes
    /// it took.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn walk(
        &self,
        table: &TableShape,
        after: Option<&Key>,
        rows: u32,
        bytes_max: u64,
        each: &mut dyn FnMut(&Sight<'_>) -> u64,
    ) -> Result<Walked, SqliteError> {
        let mut read = || {
            let mut statement = self.connection.prepare_cached(&after_key(table, after.is_some(), rows))?;
            let bounds: Vec<rusqlite::types::Value> = after.into_iter().flatten().map(bound).collect();
            let mut found = statement.query(params_from_iter(bounds))?;
            let (mut walked, mut bytes) = (Walked::default(), 0);
            while let Some(row) = found.next()? {
                let key: Key =
                    table.key.iter().map(|at| row.get_ref(*at).map(value)).collect::<rusqlite::Result<_>>()?;
                bytes += each(&Sight { table, key: &key, first: Op::Update, row: Some(row) });
                walked.last = Some(key);
                walked.rows += 1;
                if bytes >= bytes_max {
                    return Ok(walked);
                }
            }
            walked.is_end = walked.rows < u64::from(rows);
            Ok(walked)
        };
        read().map_err(|error: rusqlite::Error| SqliteError::from_sqlite(&self.path, "read rows of", error))
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn count(&self, table: &str) -> Result<u64, SqliteError> {
        let asked = format!("SELECT count(*) FROM {}", quoted(table));
        let counted = self.connection.query_row(&asked, [], |row| row.get::<_, i64>(0));
        let counted = counted.map_err(|error| SqliteError::from_sqlite(&self.path, "count rows of", error))?;
        Ok(u64::try_from(counted).unwrap_or(0))
    }
}

/// A key as something that can be looked up: SQLite's own `=` is no equality of bytes.
#[derive(PartialEq, Eq, Hash)]
enum Part {
    Null,
    Integer(i64),
    Real(u64),
    Text(String),
    Blob(Vec<u8>),
}

fn part(value: &Value) -> Part {
    match value {
        Value::Null => Part::Null,
        Value::Integer(number) => Part::Integer(*number),
        Value::Real(number) => Part::Real(number.to_bits()),
        Value::Text(text) => Part::Text(text.clone()),
        Value::Blob { blob, .. } => Part::Blob(blob.clone()),
    }
}

/// The greatest number of the outbox, `after` when it is empty, and so many more as new rows will get about.
fn newest(connection: &Connection, after: i64) -> rusqlite::Result<i64> {
    let noted: Option<i64> = connection.query_row("SELECT max(seq) FROM _lifeboat_outbox", [], |row| row.get(0))?;
    Ok(noted.unwrap_or(after).saturating_add(tail::about(connection)?))
}

fn batch(
    connection: &Connection,
    shapes: &Shapes,
    after: i64,
    entries_max: u32,
    bytes_max: u64,
) -> rusqlite::Result<Batch> {
    let numbers = numbers(connection)?;
    let mut asked = connection.prepare_cached(
        "SELECT seq, t, o, k1, k2, k3, k4 FROM _lifeboat_outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = asked.query([after, i64::from(entries_max)])?;
    let newest = newest(connection, after)?;
    let mut batch = Batch { upto: after, newest, ..Batch::default() };
    let mut seen: HashMap<(i64, Vec<Part>), ()> = HashMap::new();
    while let Some(row) = rows.next()? {
        let (seq, number): (i64, i64) = (row.get(0)?, row.get(1)?);
        let table = numbers.get(&number).and_then(|name| shapes.table(name));
        if let Some(table) = table {
            let key = key_of(row, table.key.len())?;
            if seen.insert((number, key.iter().map(part).collect()), ()).is_none() {
                let found = row_of(connection, table, &key)?;
                let bytes: u64 = found.iter().flatten().chain(&key).map(Value::bytes).sum();
                if batch.changes > 0 && batch.bytes + bytes > bytes_max {
                    break;
                }
                batch.bytes += bytes;
                batch.tables.entry(table.name.clone()).or_default().push(RowChange { key, row: found });
            }
        } else {
            batch.of_nothing += 1;
        }
        if batch.changes == 0 {
            batch.first = seq;
        }
        batch.changes += 1;
        batch.upto = seq;
    }
    Ok(batch)
}

fn sweep(
    connection: &Connection,
    shapes: &Shapes,
    (after, entries_max, bytes_max): (i64, u32, u64),
    each: &mut dyn FnMut(&Sight<'_>) -> u64,
) -> rusqlite::Result<Swept> {
    let numbers = numbers(connection)?;
    let newest = newest(connection, after)?;
    let mut swept = Swept { upto: after, newest, changes: 0, is_stale: false };
    let mut tables: HashMap<i64, Option<(&TableShape, CachedStatement<'_>)>> = HashMap::new();
    let mut asked = connection.prepare_cached(
        "SELECT seq, t, o, k1, k2, k3, k4 FROM _lifeboat_outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = asked.query([after, i64::from(entries_max)])?;
    // Most keys are one whole number: those need no memory of their own.
    let mut numbered: HashSet<(i64, i64)> = HashSet::new();
    let mut others: HashSet<(i64, Vec<Part>)> = HashSet::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let (seq, number): (i64, i64) = (row.get(0)?, row.get(1)?);
        let known = match tables.entry(number) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let table = numbers.get(&number).and_then(|name| shapes.table(name));
                let asked = table.map(|table| connection.prepare_cached(&by_key(table)).map(|asked| (table, asked)));
                entry.insert(asked.transpose()?)
            }
        };
        if let Some((table, by_key)) = known {
            let key = key_of(row, table.key.len())?;
            let is_new = match key.as_slice() {
                [Value::Integer(only)] => numbered.insert((number, *only)),
                key => others.insert((number, key.iter().map(part).collect())),
            };
            if is_new {
                let first = Op::of_code(row.get(2)?);
                bytes += see(table, by_key, &key, first, each)?;
            }
        }
        swept.changes += 1;
        swept.upto = seq;
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(swept)
}

/// Hands over the row of a key, as it is now.
fn see(
    table: &TableShape,
    by_key: &mut CachedStatement<'_>,
    key: &Key,
    first: Op,
    each: &mut dyn FnMut(&Sight<'_>) -> u64,
) -> rusqlite::Result<u64> {
    for (at, value) in key.iter().enumerate() {
        match value {
            Value::Integer(number) => by_key.raw_bind_parameter(at + 1, number)?,
            other => by_key.raw_bind_parameter(at + 1, bound(other))?,
        }
    }
    let mut rows = by_key.raw_query();
    while let Some(row) = rows.next()? {
        let mut is_same = true;
        for (at, wanted) in table.key.iter().zip(key) {
            is_same &= seen(row.get_ref(*at)?).is_same(wanted);
        }
        if is_same {
            return Ok(each(&Sight { table, key, first, row: Some(row) }));
        }
    }
    drop(rows);
    Ok(each(&Sight { table, key, first, row: None }))
}

pub(super) fn noted(connection: &Connection, after: i64, max: i64) -> rusqlite::Result<Vec<Noted>> {
    let numbers = numbers(connection)?;
    let shapes = super::shape::read(connection)?;
    let mut asked = connection.prepare_cached(
        "SELECT seq, t, o, k1, k2, k3, k4 FROM _lifeboat_outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = asked.query([after, max])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(1)?;
        let table = numbers.get(&number).cloned().unwrap_or_else(|| format!("table {number}"));
        let columns = shapes.table(&table).map_or(1, |shape| shape.key.len());
        let op = Op::of_code(row.get(2)?);
        found.push(Noted { seq: row.get(0)?, table, op, key: key_of(row, columns)? });
    }
    Ok(found)
}

pub(super) fn note(connection: &Connection, number: i64, op: Op, key: &[Value]) -> rusqlite::Result<()> {
    let mut fields: Vec<rusqlite::types::Value> = vec![number.into(), op.code().into()];
    fields.extend(key.iter().map(bound));
    fields.resize(6, rusqlite::types::Value::Null);
    let insert = "INSERT INTO _lifeboat_outbox(t, o, k1, k2, k3, k4) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(insert)?.execute(params_from_iter(fields)).map(drop)
}

fn key_of(row: &Row<'_>, columns: usize) -> rusqlite::Result<Key> {
    (0..columns).map(|at| row.get_ref(3 + at).map(value)).collect()
}

fn columns_of(table: &TableShape) -> String {
    table.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
}

/// The row of a key; nothing when there is none whose key has exactly these bytes.
fn row_of(connection: &Connection, table: &TableShape, key: &[Value]) -> rusqlite::Result<Option<Vec<Value>>> {
    let mut statement = connection.prepare_cached(&by_key(table))?;
    let mut rows = statement.query(params_from_iter(key.iter().map(bound)))?;
    while let Some(row) = rows.next()? {
        let found = values(row, table.columns.len())?;
        if table.key.iter().zip(key).all(|(at, wanted)| found[*at].is_same(wanted)) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Asks for the next rows of a table in the order of bytes of its key, which is the cloud's.
fn after_key(table: &TableShape, has_after: bool, rows: u32) -> String {
    let collation = if table.is_collated { " COLLATE BINARY" } else { "" };
    let names: Vec<String> = table.key_names().iter().map(|name| format!("{}{collation}", quoted(name))).collect();
    let marks: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
    let beyond = match has_after {
        true => format!("WHERE ({}) > ({})", names.join(", "), marks.join(", ")),
        false => String::new(),
    };
    let (columns, name, order) = (columns_of(table), quoted(&table.name), names.join(", "));
    format!("SELECT {columns} FROM {name} {beyond} ORDER BY {order} LIMIT {rows}")
}

/// Asks for the rows of a key; by SQLite's own equality, which is none of bytes.
fn by_key(table: &TableShape) -> String {
    let is: Vec<String> =
        table.key_names().iter().enumerate().map(|(at, name)| format!("{} IS ?{}", quoted(name), at + 1)).collect();
    format!("SELECT {} FROM {} WHERE {}", columns_of(table), quoted(&table.name), is.join(" AND "))
}

fn values(row: &Row<'_>, columns: usize) -> rusqlite::Result<Vec<Value>> {
    (0..columns).map(|at| row.get_ref(at).map(value)).collect()
}

fn value(found: ValueRef<'_>) -> Value {
    seen(found).to_value()
}

fn seen(found: ValueRef<'_>) -> sync::ValueRef<'_> {
    match found {
        ValueRef::Null => sync::ValueRef::Null,
        ValueRef::Integer(number) => sync::ValueRef::Integer(number),
        ValueRef::Real(number) => sync::ValueRef::Real(number),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => sync::ValueRef::Text(text),
            Err(_) => sync::ValueRef::Blob(bytes, true),
        },
        ValueRef::Blob(bytes) => sync::ValueRef::Blob(bytes, false),
    }
}

pub(super) fn bound(value: &Value) -> rusqlite::types::Value {
    match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Integer(number) => (*number).into(),
        Value::Real(number) => (*number).into(),
        Value::Text(text) => text.clone().into(),
        Value::Blob { blob, .. } => blob.clone().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without it each page of a walk would read the whole table.
    #[test]
    fn pages_are_found_by_the_index_of_the_key() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE numbered (id INTEGER PRIMARY KEY, v);
             CREATE TABLE worded (word TEXT PRIMARY KEY, v);
             CREATE TABLE paired (a INTEGER, b TEXT, v, PRIMARY KEY (a, b)) WITHOUT ROWID;
             CREATE TABLE folded (word TEXT COLLATE NOCASE PRIMARY KEY, v);",
        )
        .unwrap();
        let shapes = super::super::shape::read(&db).unwrap();
        for (name, by_index) in [("numbered", true), ("worded", true), ("paired", true), ("folded", false)] {
            let asked = format!("EXPLAIN QUERY PLAN {}", after_key(shapes.table(name).unwrap(), true, 10));
            let mut asked = db.prepare(&asked).unwrap();
            let key = vec![rusqlite::types::Value::Integer(1); asked.parameter_count()];
            let steps = asked.query_map(params_from_iter(key), |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.map(Result::unwrap).collect();
            let sorts = steps.iter().any(|step| step.contains("TEMP B-TREE"));
            assert_eq!((steps[0].starts_with("SEARCH"), sorts), (by_index, !by_index), "{name}: {steps:?}");
        }
    }
}
