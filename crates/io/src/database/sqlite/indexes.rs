//! Whether indexes hold what their tables do, asked in the order of the index.
//!
//! `integrity_check` looks each row up in each index: as many random searches as there are rows, which is most of its
//! time (of 6.2 s for 1 GiB with 3.8 million indexed rows, 5.3 s). The same is known from two walks: one over the table,
//! which the digests need anyhow, one over the index. When the entries that the rows ask for and those that are there
//! have the same number and the same sum of digests, they are the same; when each entry is greater than the one before
//! it, every search finds what it looks for; and two entries of a unique index that are alike stand beside each other.
//!
//! What a walk cannot see: a damaged entry that SQLite still reads as what it was (a rowid's width that runs over the
//! entry's end, say), so that only searches for it fail. The table is whole then, and `integrity_check`, which every proof
//! asks, tells.
//!
//! This is done for indexes of plain columns under SQLite's own collations in UTF-8 databases. Tables with any other
//! index are left to `integrity_check`; [`Index::left_over`] names them.

use std::cmp::Ordering;

use rusqlite::{Connection, Row, types::ValueRef};

use super::{inspect::interrupted, open::quoted, row::RowBytes};
use crate::stop::Stop;

/// Entries between two looks at `Stop`.
const ENTRIES_BETWEEN_STOPS: u64 = 16_384;

/// An index that can be compared by walking.
pub(super) struct Index {
    name: String,
    table: String,
    unique: bool,
    keys: Vec<Key>,
    /// What the table's rowid is called, where no column took all its names.
    rowid: &'static str,
}

/// A column of an index.
struct Key {
    /// Quoted, or the rowid's name.
    column: String,
    descending: bool,
    collation: Collation,
}

#[derive(Clone, Copy)]
enum Collation {
    Binary,
    NoCase,
    RightTrim,
}

/// How many entries, and the sum of their digests modulo 2^128.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    entries: u64,
    sum: u128,
    /// Where in the walk's rows the entry's columns are.
    positions: Vec<usize>,
}

impl Tally {
    /// Counts the entry that this row asks for.
    pub fn add(&mut self, row: &Row<'_>, bytes: &mut RowBytes) -> rusqlite::Result<()> {
        bytes.clear();
        for position in &self.positions {
            bytes.push(row.get_ref(*position)?);
        }
        self.entries += 1;
        self.sum = self.sum.wrapping_add(bytes.hash());
        Ok(())
    }
}

impl Index {
    /// The indexes of a table that can be compared by walking; none when one of them cannot, since the table is then left
    /// to `integrity_check` as a whole.
    pub fn comparable(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Index>> {
        Ok(Index::all(connection, table)?.unwrap_or_default())
    }

    /// The tables with an index that cannot be compared by walking.
    pub fn left_over(connection: &Connection, tables: &[String]) -> rusqlite::Result<Vec<String>> {
        let mut left = Vec::new();
        for table in tables {
            if Index::all(connection, table)?.is_none() {
                left.push(table.clone());
            }
        }
        Ok(left)
    }

    /// All indexes of a table, if all can be compared by walking.
    fn all(connection: &Connection, table: &str) -> rusqlite::Result<Option<Vec<Index>>> {
        let mut statement =
            connection.prepare_cached("SELECT name, \"unique\", partial FROM pragma_index_list(?1) ORDER BY seq")?;
        let listed = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let listed = listed.collect::<rusqlite::Result<Vec<(String, bool, bool)>>>()?;
        if listed.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let Some(rowid) = rowid_name(connection, table)? else { return Ok(None) };
        let mut indexes = Vec::new();
        for (name, unique, partial) in listed {
            let Some(keys) = keys(connection, &name, rowid)?.filter(|_| !partial) else { return Ok(None) };
            let index = Index { name, table: table.to_owned(), unique, keys, rowid };
            if !index.is_walked_alone(connection)? {
                return Ok(None);
            }
            indexes.push(index);
        }
        Ok(Some(indexes))
    }

    /// Adds what the index is made of to the columns of a walk over the table.
    pub fn tally(&self, list: &mut Vec<String>) -> Tally {
        let wanted = self.keys.iter().map(|key| key.column.clone()).chain([self.rowid.to_owned()]);
        let positions = wanted.map(|column| match list.iter().position(|there| *there == column) {
            Some(position) => position,
            None => {
                list.push(column);
                list.len() - 1
            }
        });
        Tally { positions: positions.collect(), ..Tally::default() }
    }

    fn walk(&self) -> String {
        let columns: Vec<&str> = self.keys.iter().map(|key| key.column.as_str()).chain([self.rowid]).collect();
        format!("SELECT {} FROM {} INDEXED BY {}", columns.join(", "), quoted(&self.table), quoted(&self.name))
    }

    /// Whether SQLite would answer the walk from the index alone, without a look at the table.
    fn is_walked_alone(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let Ok(mut statement) = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", self.walk())) else {
            return Ok(false); // it would use the index for nothing
        };
        let plan = statement.query_map([], |row| row.get::<_, String>(3))?.collect::<rusqlite::Result<Vec<_>>>()?;
        let alone = format!("USING COVERING INDEX {}", self.name);
        Ok(matches!(plan.as_slice(), [only] if only.starts_with("SCAN ") && only.ends_with(&alone)))
    }

    /// Walks the index and compares it with what the table's rows asked for. Says what is wrong, if anything is.
    pub fn complaint(&self, connection: &Connection, asked: &Tally, stop: &Stop) -> rusqlite::Result<Option<String>> {
        let mut there = Tally { positions: (0..=self.keys.len()).collect(), ..Tally::default() };
        let mut statement = connection.prepare(&self.walk())?;
        let mut rows = statement.query([])?;
        let mut bytes = RowBytes::default();
        let mut last: Vec<Held> = Vec::new();
        while let Some(row) = rows.next()? {
            there.add(row, &mut bytes)?;
            if let Some(complaint) = self.order_complaint(&last, row)? {
                return Ok(Some(complaint));
            }
            keep(&mut last, row, self.keys.len() + 1)?;
            if there.entries.is_multiple_of(ENTRIES_BETWEEN_STOPS) {
                stop.check().map_err(|_| interrupted())?;
            }
        }
        if there.entries != asked.entries {
            return Ok(Some(format!("wrong # of entries in index {}", self.name)));
        }
        let differ = there.sum != asked.sum;
        Ok(differ.then(|| format!("index {} does not hold what the rows of {} do", self.name, self.table)))
    }

    fn order_complaint(&self, last: &[Held], row: &Row<'_>) -> rusqlite::Result<Option<String>> {
        if last.is_empty() {
            return Ok(None);
        }
        let mut nulls = false;
        for (position, key) in self.keys.iter().enumerate() {
            let value = row.get_ref(position)?;
            nulls |= matches!(value, ValueRef::Null);
            let order = key.collation.compare(last[position].borrowed(), value);
            match if key.descending { order.reverse() } else { order } {
                Ordering::Less => return Ok(None),
                Ordering::Equal => (),
                Ordering::Greater => return Ok(Some(format!("entries out of order in index {}", self.name))),
            }
        }
        if self.unique && !nulls {
            return Ok(Some(format!("non-unique entry in index {}", self.name)));
        }
        let rowid = self.keys.len();
        let order = Collation::Binary.compare(last[rowid].borrowed(), row.get_ref(rowid)?);
        Ok((order != Ordering::Less).then(|| format!("entries out of order in index {}", self.name)))
    }
}

/// A value of the entry before. Text stays as it is: it need not be UTF-8.
enum Held {
    Number(ValueRef<'static>),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Held {
    fn borrowed(&self) -> ValueRef<'_> {
        match self {
            Held::Number(value) => *value,
            Held::Text(bytes) => ValueRef::Text(bytes),
            Held::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }

    fn hold(&mut self, value: ValueRef<'_>) {
        match (value, &mut *self) {
            (ValueRef::Null, _) => *self = Held::Number(ValueRef::Null),
            (ValueRef::Integer(number), _) => *self = Held::Number(ValueRef::Integer(number)),
            (ValueRef::Real(number), _) => *self = Held::Number(ValueRef::Real(number)),
            (ValueRef::Text(bytes), Held::Text(old)) | (ValueRef::Blob(bytes), Held::Blob(old)) => {
                old.clear();
                old.extend_from_slice(bytes);
            }
            (ValueRef::Text(bytes), _) => *self = Held::Text(bytes.to_vec()),
            (ValueRef::Blob(bytes), _) => *self = Held::Blob(bytes.to_vec()),
        }
    }
}

/// Copies a row into values that are used again.
fn keep(last: &mut Vec<Held>, row: &Row<'_>, columns: usize) -> rusqlite::Result<()> {
    last.resize_with(columns, || Held::Number(ValueRef::Null));
    last.iter_mut().enumerate().try_for_each(|(position, held)| {
        held.hold(row.get_ref(position)?);
        Ok(())
    })
}

/// The name under which a table's rowid can be asked for; none for a table without one, or without a free name.
fn rowid_name(connection: &Connection, table: &str) -> rusqlite::Result<Option<&'static str>> {
    let without: bool =
        connection
            .query_row("SELECT wr FROM pragma_table_list(?1) WHERE schema = 'main'", [table], |row| row.get(0))?;
    let utf8 = connection.pragma_query_value(None, "encoding", |row| row.get::<_, String>(0))? == "UTF-8";
    if without || !utf8 {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached("SELECT lower(name) FROM pragma_table_xinfo(?1)")?;
    let names = statement.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(["rowid", "_rowid_", "oid"].into_iter().find(|name| !names.iter().any(|taken| taken == name)))
}

/// The columns of an index; none when one is an expression or has somebody's own collation.
fn keys(connection: &Connection, index: &str, rowid: &'static str) -> rusqlite::Result<Option<Vec<Key>>> {
    let mut statement = connection
        .prepare_cached("SELECT cid, name, \"desc\", coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno")?;
    let mut rows = statement.query([index])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let (cid, name): (i64, Option<String>) = (row.get(0)?, row.get(1)?);
        let collation = match row.get::<_, String>(3)?.to_ascii_uppercase().as_str() {
            "BINARY" => Collation::Binary,
            "NOCASE" => Collation::NoCase,
            "RTRIM" => Collation::RightTrim,
            _somebodys_own => return Ok(None),
        };
        let column = match (cid, name) {
            (-1, _) => rowid.to_owned(),
            (_, Some(name)) => quoted(&name),
            (_, None) => return Ok(None), // an expression
        };
        keys.push(Key { column, descending: row.get(2)?, collation });
    }
    Ok(Some(keys))
}

impl Collation {
    /// SQLite's order: NULL, numbers by value, text by collation, blobs byte by byte.
    fn compare(self, left: ValueRef<'_>, right: ValueRef<'_>) -> Ordering {
        use ValueRef::{Blob, Integer, Null, Real, Text};
        let class = |value: &ValueRef| match value {
            Null => 0,
            Integer(_) | Real(_) => 1,
            Text(_) => 2,
            Blob(_) => 3,
        };
        match (left, right) {
            (Integer(left), Integer(right)) => left.cmp(&right),
            (Real(left), Real(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
            (Integer(left), Real(right)) => whole_and_real(left, right),
            (Real(left), Integer(right)) => whole_and_real(right, left).reverse(),
            (Text(left), Text(right)) => self.compare_text(left, right),
            (Blob(left), Blob(right)) => left.cmp(right),
            (left, right) => class(&left).cmp(&class(&right)),
        }
    }

    fn compare_text(self, left: &[u8], right: &[u8]) -> Ordering {
        match self {
            Collation::Binary => left.cmp(right),
            Collation::NoCase => {
                let folded = |text: &[u8]| text.iter().map(u8::to_ascii_lowercase).collect::<Vec<u8>>();
                folded(left).cmp(&folded(right))
            }
            Collation::RightTrim => trimmed(left).cmp(trimmed(right)),
        }
    }
}

fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &text[..end]
}

/// Compares without rounding: beyond 2^53 a whole number is no `f64`.
fn whole_and_real(whole: i64, real: f64) -> Ordering {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if real >= TWO_TO_63 {
        return Ordering::Less;
    }
    if real < -TWO_TO_63 {
        return Ordering::Greater;
    }
    let cut_off = real.trunc();
    whole.cmp(&(cut_off as i64)).then_with(|| 0.0_f64.partial_cmp(&(real - cut_off)).unwrap_or(Ordering::Equal))
}
