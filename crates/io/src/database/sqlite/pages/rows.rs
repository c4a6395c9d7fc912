//! A table's rows as they lie in its cells, written down as `row.rs` wants them.
//!
//! What SQLite does when it reads a row is done here too: the rowid stands for the column that is called it, whole numbers
//! in columns of reals are reals, and a row from before a column was added has that column's default. Which default that
//! is, SQLite says: it is asked for the column of one such row.

use std::{collections::BTreeMap, sync::OnceLock};

use rusqlite::{
    Connection,
    types::{Value, ValueRef},
};

use super::page::{Odd, varint};
use crate::database::sqlite::{
    inspect::{Newest, tells_time},
    open::quoted,
    row::RowBytes,
};

/// How a table's rows are read.
pub(super) struct Shape {
    table: String,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    /// It is another name of the rowid.
    rowid: bool,
    real: bool,
    time: bool,
    /// What rows without it hold.
    default: OnceLock<Value>,
}

impl Shape {
    /// Learns it from SQLite; nothing for a table that is to be read through SQLite.
    pub fn of(connection: &Connection, table: &str) -> rusqlite::Result<Option<Shape>> {
        let asked = "SELECT wr FROM pragma_table_list(?1) WHERE schema = 'main'";
        if connection.query_row(asked, [table], |row| row.get::<_, bool>(0))? {
            return Ok(None);
        }
        let asked = "SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk'";
        // `INTEGER PRIMARY KEY DESC` is an ordinary column with an index, for historical reasons.
        let indexed = connection.query_row(asked, [table], |row| row.get::<_, i64>(0))? > 0;
        let mut statement =
            connection.prepare("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
        let told = statement.query_map([table], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
        })?;
        let told = told.collect::<rusqlite::Result<Vec<_>>>()?;
        let keys = told.iter().filter(|(_, _, key, _)| *key > 0).count();
        let stored = told.into_iter().filter(|(_, _, _, hidden)| matches!(hidden, 0 | 3));
        let columns = stored.map(|(name, kind, key, _)| Column {
            rowid: key > 0 && keys == 1 && !indexed && kind.eq_ignore_ascii_case("INTEGER"),
            real: is_real(&kind),
            time: tells_time(&name),
            default: OnceLock::new(),
            name,
        });
        Ok(Some(Shape { table: table.to_owned(), columns: columns.collect() }))
    }

    /// What a row that ends before this column holds in it.
    fn default(&self, column: &Column, rowid: i64, ask: &Ask<'_>) -> Result<Value, Odd> {
        if let Some(known) = column.default.get() {
            return Ok(known.clone());
        }
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let free = |name: &&str| !names.iter().any(|taken| taken.eq_ignore_ascii_case(name));
        let rowid_name = ["rowid", "_rowid_", "oid"].into_iter().find(free);
        let alias = self.columns.iter().find(|column| column.rowid).map(|column| quoted(&column.name));
        let Some(key) = alias.or(rowid_name.map(str::to_owned)) else {
            return Err(Odd(format!("table {}: its rowid has no name", self.table)));
        };
        let (name, table) = (quoted(&column.name), quoted(&self.table));
        let value = ask(&format!("SELECT {name} FROM {table} NOT INDEXED WHERE {key} = {rowid}"))?;
        Ok(column.default.get_or_init(|| value).clone())
    }
}

/// Asks SQLite a question with one value for an answer.
pub(super) type Ask<'a> = dyn Fn(&str) -> Result<Value, Odd> + 'a;

/// Whether whole numbers in a column of this type are read as reals: SQLite's rule for the affinity REAL.
fn is_real(kind: &str) -> bool {
    let kind = kind.to_ascii_uppercase();
    let has = |word: &str| kind.contains(word);
    let other = ["INT", "CHAR", "CLOB", "TEXT", "BLOB"].iter().any(|word| has(word));
    !other && ["REAL", "FLOA", "DOUB"].iter().any(|word| has(word))
}

/// What is known of some rows.
#[derive(Default)]
pub(super) struct Tally {
    pub rows: u64,
    pub digest: u128,
    /// The greatest value of each column that tells a time, by the column's position.
    pub newest: BTreeMap<usize, Option<Newest>>,
}

impl Tally {
    /// Adds what is known of other rows.
    pub fn merge(&mut self, other: Tally) {
        self.rows += other.rows;
        self.digest = self.digest.wrapping_add(other.digest);
        for (at, greatest) in other.newest {
            let own = self.newest.entry(at).or_default();
            if let Some(greatest) = greatest {
                Newest::keep(own, greatest.value());
            }
        }
    }

    pub fn newest(&self, shape: &Shape) -> BTreeMap<String, String> {
        let known = self.newest.iter().filter_map(|(at, greatest)| Some((*at, greatest.as_ref()?.text())));
        known.map(|(at, text)| (shape.columns[at].name.clone(), text)).collect()
    }
}

/// Adds a row to a tally.
pub(super) fn add(
    tally: &mut Tally,
    bytes: &mut RowBytes,
    shape: &Shape,
    (rowid, record): (i64, &[u8]),
    ask: &Ask<'_>,
) -> Result<(), Odd> {
    let cut = || Odd(format!("table {}: row {rowid} is not written as rows are", shape.table));
    let (head, mut at) = varint(record).ok_or_else(cut)?;
    let head = usize::try_from(head).ok().filter(|head| *head <= record.len() && *head >= at).ok_or_else(cut)?;
    let mut body = head;
    bytes.clear();
    for (position, column) in shape.columns.iter().enumerate() {
        let held;
        let mut value = if at < head {
            let (serial, length) = varint(&record[at..head]).ok_or_else(cut)?;
            at += length;
            decode(serial, record, &mut body).ok_or_else(cut)?
        } else if column.rowid {
            ValueRef::Null
        } else {
            held = shape.default(column, rowid, ask)?;
            ValueRef::from(&held)
        };
        if column.rowid {
            value = ValueRef::Integer(rowid);
        } else if let (true, ValueRef::Integer(number)) = (column.real, value) {
            value = ValueRef::Real(number as f64);
        }
        bytes.push(value);
        if column.time {
            Newest::keep(tally.newest.entry(position).or_default(), value);
        }
    }
    if at != head || body != record.len() {
        return Err(cut());
    }
    tally.rows += 1;
    tally.digest = tally.digest.wrapping_add(bytes.hash());
    Ok(())
}

/// A value by its serial type; moves behind it.
#[inline]
fn decode<'a>(serial: u64, record: &'a [u8], body: &mut usize) -> Option<ValueRef<'a>> {
    let mut take = |length: usize| {
        let bytes = record.get(*body..body.checked_add(length)?)?;
        *body += length;
        Some(bytes)
    };
    Some(match serial {
        0 => ValueRef::Null,
        1 => ValueRef::Integer(i64::from(take(1)?[0] as i8)),
        2 => ValueRef::Integer(i64::from(i16::from_be_bytes(take(2)?.try_into().ok()?))),
        4 => ValueRef::Integer(i64::from(i32::from_be_bytes(take(4)?.try_into().ok()?))),
        6 => ValueRef::Integer(i64::from_be_bytes(take(8)?.try_into().ok()?)),
        3 | 5 => {
            let bytes = take(if serial == 3 { 3 } else { 6 })?;
            let sign = if bytes[0] >= 0x80 { -1_i64 } else { 0 };
            ValueRef::Integer(bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte)))
        }
        7 => {
            let real = f64::from_be_bytes(take(8)?.try_into().ok()?);
            if real.is_nan() { ValueRef::Null } else { ValueRef::Real(real) }
        }
        8 => ValueRef::Integer(0),
        9 => ValueRef::Integer(1),
        10 | 11 => return None,
        text if text % 2 == 1 => ValueRef::Text(take(usize::try_from((text - 13) / 2).ok()?)?),
        blob => ValueRef::Blob(take(usize::try_from((blob - 12) / 2).ok()?)?),
    })
}
