//! Reading what waits, and the rows it is about as they are now.

use std::collections::{BTreeMap, HashMap};

use lifeboat_model::sync::{Op, Value};
use rusqlite::{Connection, Row, params_from_iter, types::ValueRef};

use super::{
    super::{SqliteError, open::quoted},
    Outbox, Shapes, TableShape, numbers,
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
    /// The greatest number in the outbox when it was read.
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

impl Outbox {
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
            // The order of bytes, which is the cloud's, whatever collation the column has.
            let names: Vec<String> =
                table.key_names().iter().map(|name| format!("{} COLLATE BINARY", quoted(name))).collect();
            let marks: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
            let beyond = match after {
                Some(_) => format!("WHERE ({}) > ({})", names.join(", "), marks.join(", ")),
                None => String::new(),
            };
            let asked = format!(
                "SELECT {} FROM {} {beyond} ORDER BY {} LIMIT {rows}",
                columns_of(table),
                quoted(&table.name),
                names.join(", ")
            );
            let mut statement = self.connection.prepare_cached(&asked)?;
            let key: Vec<rusqlite::types::Value> = after.into_iter().flatten().map(bound).collect();
            let found = statement.query_map(params_from_iter(key), |row| values(row, table.columns.len()))?;
            found.collect::<rusqlite::Result<Vec<_>>>()
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
    let newest: Option<i64> = connection.query_row("SELECT max(seq) FROM _lifeboat_outbox", [], |row| row.get(0))?;
    let mut batch = Batch { upto: after, newest: newest.unwrap_or(after), ..Batch::default() };
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
    let is: Vec<String> =
        table.key_names().iter().enumerate().map(|(at, name)| format!("{} IS ?{}", quoted(name), at + 1)).collect();
    let asked = format!("SELECT {} FROM {} WHERE {}", columns_of(table), quoted(&table.name), is.join(" AND "));
    let mut statement = connection.prepare_cached(&asked)?;
    let mut rows = statement.query(params_from_iter(key.iter().map(bound)))?;
    while let Some(row) = rows.next()? {
        let found = values(row, table.columns.len())?;
        if table.key.iter().zip(key).all(|(at, wanted)| found[*at].is_same(wanted)) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn values(row: &Row<'_>, columns: usize) -> rusqlite::Result<Vec<Value>> {
    (0..columns).map(|at| row.get_ref(at).map(value)).collect()
}

fn value(found: ValueRef<'_>) -> Value {
    match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Blob { blob: bytes.to_vec(), garbled: true },
        },
        ValueRef::Blob(bytes) => Value::Blob { blob: bytes.to_vec(), garbled: false },
    }
}

fn bound(value: &Value) -> rusqlite::types::Value {
    match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Integer(number) => (*number).into(),
        Value::Real(number) => (*number).into(),
        Value::Text(text) => text.clone().into(),
        Value::Blob { blob, .. } => blob.clone().into(),
    }
}
