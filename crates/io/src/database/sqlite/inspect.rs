//! What is in a copy: its schema, every table's rows and a digest of them.
//!
//! A table's digest is the sum, modulo 2^128, of XXH3-128 over each row. A sum does not care about order, so that a
//! copy rebuilt from a dump has the same digest, and it counts duplicates, which XOR would not. It notices accidents: a
//! lost, doubled or changed row goes unseen with a chance of about 2^-128. It is no seal against somebody who constructs
//! rows on purpose; for that the file's SHA-256 and the vault's seals are there.
//!
//! How a row is written down is told in `row.rs`.

use std::{cmp::Ordering, collections::BTreeMap, fs::File, io::Read, path::Path};

use lifeboat_model::manifest::{SqliteFacts, TableFacts};
use rusqlite::{Connection, types::ValueRef};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Header, SqliteError,
    error::words,
    indexes::{Index, Tally},
    open::{open_at_rest, quoted},
    row::RowBytes,
};
use crate::{digest::QuickDigest, stop::Stop};

/// Rows and bytes between two looks at `Stop`.
const ROWS_BETWEEN_STOPS: u64 = 4096;
const BYTES_BETWEEN_STOPS: u64 = 4 << 20;

/// Looks at a copy at rest, without changing it: page facts, schema, rows and digests of all ordinary tables, shadow
/// tables of virtual ones and `sqlite_sequence` included; the planner's notes (`sqlite_stat1`, ...) are not content.
/// Progress is told in bytes of rows against bytes of the file, hence roughly.
///
/// # Errors
/// [`SqliteError`]. A table that cannot be read for another reason than damage is told in [`SqliteFacts::unread`].
pub fn inspect(file: &Path, stop: &Stop, progress: &dyn Fn(u64, Option<u64>)) -> Result<SqliteFacts, SqliteError> {
    Header::read(file)?;
    let (mut sha256, mut quick) = (Sha256::new(), QuickDigest::default());
    read_through(file, stop, &mut |piece, _read| {
        sha256.update(piece);
        quick.update(piece);
    })?;
    let (facts, _agreements) = content(file, false, stop, progress)?;
    Ok(SqliteFacts { sha256: hex::encode(sha256.finalize()), quick_digest: quick.finish(), ..facts })
}

/// What a table's entries should be in an index, and the index.
pub(super) type Agreement = (Index, Tally);

/// [`inspect`] without the file's hash. With `indexes`, what the rows say that the indexes must hold is told beside it.
pub(super) fn content(
    file: &Path,
    indexes: bool,
    stop: &Stop,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<(SqliteFacts, Vec<Agreement>), SqliteError> {
    let header = Header::read(file)?;
    let connection = open_at_rest(file, stop)?;
    let failed = |error| SqliteError::from_sqlite(file, "read", error);
    let mut facts = about(&connection, header.page_size, header.journal_mode()).map_err(failed)?;
    let (total, row) = (header.bytes, RowBytes::default());
    let mut scan = Scan { stop, progress, bytes: 0, total, row, agreements: Vec::new() };
    for table in tables(&connection).map_err(failed)? {
        let indexes = if indexes { Index::comparable(&connection, &table).map_err(failed)? } else { Vec::new() };
        match scan.table(&connection, &table, indexes) {
            Ok(found) => _ = facts.tables.insert(table, found),
            Err(error) => match SqliteError::from_sqlite(file, "read", error) {
                stopped @ SqliteError::Stopped(_) => return Err(stopped),
                SqliteError::Damaged { path, found } => {
                    return Err(SqliteError::Damaged { path, found: format!("table {table}: {found}") });
                }
                SqliteError::Other { source, .. } => {
                    let reason = source.downcast_ref::<rusqlite::Error>().map_or_else(|| source.to_string(), words);
                    facts.unread.insert(table, reason);
                }
                other => return Err(other),
            },
        }
    }
    progress(header.bytes, Some(header.bytes));
    Ok((facts, scan.agreements))
}

/// What there is to know before any row was read.
pub(super) fn about(connection: &Connection, page_size: u32, journal_mode: &str) -> rusqlite::Result<SqliteFacts> {
    Ok(SqliteFacts {
        page_size,
        pages: pragma::<u32>(connection, "page_count")?.into(),
        journal_mode: journal_mode.to_owned(),
        encoding: pragma(connection, "encoding")?,
        user_version: pragma(connection, "user_version")?,
        application_id: pragma(connection, "application_id")?,
        schema_fingerprint: fingerprint(connection)?,
        objects: objects(connection)?,
        ..SqliteFacts::default()
    })
}

/// What there is to know about one table, read through SQLite.
pub(super) fn table(connection: &Connection, table: &str, stop: &Stop) -> rusqlite::Result<TableFacts> {
    let (row, agreements) = (RowBytes::default(), Vec::new());
    let mut scan = Scan { stop, progress: &|_, _| (), bytes: 0, total: 0, row, agreements };
    scan.table(connection, table, Vec::new())
}

/// SHA-256 of a file, hex, for comparing with [`SqliteFacts::sha256`].
///
/// # Errors
/// [`SqliteError`] when it cannot be read.
pub fn sha256(file: &Path, stop: &Stop, progress: &dyn Fn(u64)) -> Result<String, SqliteError> {
    let mut hash = Sha256::new();
    read_through(file, stop, &mut |piece, read| {
        hash.update(piece);
        progress(read);
    })?;
    Ok(hex::encode(hash.finalize()))
}

/// A file's [`QuickDigest`], hex, for comparing with [`SqliteFacts::quick_digest`].
///
/// # Errors
/// [`SqliteError`] when it cannot be read.
pub fn quick_digest(file: &Path, stop: &Stop, progress: &dyn Fn(u64)) -> Result<String, SqliteError> {
    digest_and_length(file, stop, progress).map(|(digest, _bytes)| digest)
}

/// A file's [`QuickDigest`] and its length.
pub(super) fn digest_and_length(
    file: &Path,
    stop: &Stop,
    progress: &dyn Fn(u64),
) -> Result<(String, u64), SqliteError> {
    let mut hash = QuickDigest::default();
    let bytes = read_through(file, stop, &mut |piece, read| {
        hash.update(piece);
        progress(read);
    })?;
    Ok((hash.finish(), bytes))
}

/// Reads a file to its end; gives its length.
fn read_through(file: &Path, stop: &Stop, hear: &mut dyn FnMut(&[u8], u64)) -> Result<u64, SqliteError> {
    let failed = |error| SqliteError::from_io(file, "read", error);
    let mut reader = File::open(file).map_err(failed)?;
    let mut piece = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        stop.check()?;
        let read = reader.read(&mut piece).map_err(failed)?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes += read as u64;
        hear(&piece[..read], bytes);
    }
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Every table that stores rows of its own. Virtual tables have no root page; what they store is in their shadow tables.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\'
         ORDER BY name",
    )?;
    let names = statement.query_map([], |row| row.get(0))?;
    names.collect()
}

/// SHA-256 over every object's type, name, table and statement, each with its length in front, ordered by these.
fn fingerprint(connection: &Connection) -> rusqlite::Result<String> {
    let mut statement = connection.prepare(
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema
         WHERE tbl_name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\' ORDER BY 1, 2, 3, 4",
    )?;
    let mut rows = statement.query([])?;
    let mut hash = Sha256::new();
    while let Some(row) = rows.next()? {
        for column in 0..4 {
            let text = row.get_ref(column)?.as_bytes().unwrap_or_default();
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    }
    Ok(hex::encode(hash.finalize()))
}

fn objects(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut statement =
        connection.prepare("SELECT type, count(*) FROM sqlite_schema WHERE type <> 'table' GROUP BY type")?;
    let counts = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, u32>(1)?.into())))?;
    counts.collect()
}

/// The stored columns of a table, in its order. `hidden` 2 is a generated column that is computed when read.
pub(super) fn stored_columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        connection.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden IN (0, 3) ORDER BY cid")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    names.collect()
}

/// A walk over all rows of all tables.
struct Scan<'a> {
    stop: &'a Stop,
    progress: &'a dyn Fn(u64, Option<u64>),
    bytes: u64,
    total: u64,
    row: RowBytes,
    agreements: Vec<Agreement>,
}

impl Scan<'_> {
    fn table(&mut self, connection: &Connection, table: &str, indexes: Vec<Index>) -> rusqlite::Result<TableFacts> {
        let columns = stored_columns(connection, table)?;
        let mut list: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
        let stored = list.len();
        // What indexes are made of comes behind: columns again, computed ones, the rowid.
        let mut tallies: Vec<Tally> = indexes.iter().map(|index| index.tally(&mut list)).collect();
        // The table itself: an index that holds all of a narrow table's columns would be read in its place otherwise.
        let walk = format!("SELECT {} FROM {} NOT INDEXED", list.join(", "), quoted(table));
        let mut statement = connection.prepare(&walk)?;
        let mut columns: Vec<Column> = columns.into_iter().map(Column::new).collect();
        let mut rows = statement.query([])?;
        let (mut count, mut digest, mut told) = (0_u64, 0_u128, self.bytes);
        while let Some(row) = rows.next()? {
            self.row.clear();
            for (position, column) in columns[..stored].iter_mut().enumerate() {
                let value = row.get_ref(position)?;
                self.row.push(value);
                if column.tells_time {
                    Newest::keep(&mut column.greatest, value);
                }
            }
            digest = digest.wrapping_add(self.row.hash());
            self.bytes += self.row.bytes();
            for tally in &mut tallies {
                tally.add(row, &mut self.row)?;
            }
            count += 1;
            if count.is_multiple_of(ROWS_BETWEEN_STOPS) || self.bytes - told > BYTES_BETWEEN_STOPS {
                told = self.bytes;
                self.stop.check().map_err(|_| interrupted())?;
                (self.progress)(self.bytes.min(self.total), Some(self.total));
            }
        }
        self.agreements.extend(indexes.into_iter().zip(tallies));
        let newest = columns.into_iter().filter_map(|column| Some((column.name, column.greatest?.text())));
        Ok(TableFacts { rows: count, digest: format!("{digest:032x}"), newest: newest.collect() })
    }
}

/// A column on the walk.
struct Column {
    name: String,
    tells_time: bool,
    greatest: Option<Newest>,
}

impl Column {
    fn new(name: String) -> Column {
        Column { tells_time: tells_time(&name), name, greatest: None }
    }
}

pub(super) fn interrupted() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT), None)
}

/// Whether a column's name says that it tells when a row came or changed: `created_at`, `updatedAt`, `last_modified`.
pub(super) fn tells_time(name: &str) -> bool {
    const WORDS: &[&str] = &[
        "created",
        "createdat",
        "createdon",
        "createdtime",
        "datecreated",
        "updated",
        "updatedat",
        "updatedon",
        "modified",
        "modifiedat",
        "modifiedon",
        "lastmodified",
        "lastupdated",
        "insertedat",
        "timestamp",
        "occurredat",
    ];
    let plain: String =
        name.chars().filter(|letter| *letter != '_').map(|letter| letter.to_ascii_lowercase()).collect();
    WORDS.contains(&plain.as_str())
}

/// The greatest value so far, by SQLite's order: numbers before text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Newest {
    Integer(i64),
    #[serde(with = "bits")]
    Real(f64),
    Text(String),
}

/// Reals as the numbers of their bits: JSON has no infinities, and rounds.
mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(real: &f64, to: S) -> Result<S::Ok, S::Error> {
        real.to_bits().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

/// Times are short; a longer text is no time.
const NEWEST_BYTES_MAX: usize = 64;

impl Newest {
    pub fn keep(greatest: &mut Option<Newest>, value: ValueRef) {
        let order = match (&*greatest, value) {
            (_, ValueRef::Null | ValueRef::Blob(_)) => return,
            (_, ValueRef::Text(text)) if text.len() > NEWEST_BYTES_MAX => return,
            (None, _) => Ordering::Less,
            (Some(Newest::Integer(old)), ValueRef::Integer(new)) => old.cmp(&new),
            (Some(Newest::Integer(old)), ValueRef::Real(new)) => (*old as f64).total_cmp(&new),
            (Some(Newest::Real(old)), ValueRef::Integer(new)) => old.total_cmp(&(new as f64)),
            (Some(Newest::Real(old)), ValueRef::Real(new)) => old.total_cmp(&new),
            (Some(Newest::Integer(_) | Newest::Real(_)), ValueRef::Text(_)) => Ordering::Less,
            (Some(Newest::Text(_)), ValueRef::Integer(_) | ValueRef::Real(_)) => Ordering::Greater,
            (Some(Newest::Text(old)), ValueRef::Text(new)) => old.as_bytes().cmp(new),
        };
        if order == Ordering::Less {
            *greatest = match value {
                ValueRef::Integer(number) => Some(Newest::Integer(number)),
                ValueRef::Real(number) => Some(Newest::Real(number)),
                ValueRef::Text(text) => Some(Newest::Text(String::from_utf8_lossy(text).into_owned())),
                ValueRef::Null | ValueRef::Blob(_) => return,
            };
        }
    }

    pub fn value(&self) -> ValueRef<'_> {
        match self {
            Newest::Integer(number) => ValueRef::Integer(*number),
            Newest::Real(number) => ValueRef::Real(*number),
            Newest::Text(text) => ValueRef::Text(text.as_bytes()),
        }
    }

    pub fn text(&self) -> String {
        match self {
            Newest::Integer(number) => number.to_string(),
            Newest::Real(number) => number.to_string(),
            Newest::Text(text) => text.clone(),
        }
    }
}
