//! New rows, found by their numbers.
//!
//! A page of the outbox for every row that an app inserts would cost it a fifth of what it can write, measured. Where SQLite
//! numbers the rows of a table, none is needed: new rows get the greatest numbers. `_lifeboat_tail` says up to which number the
//! rows of a table are noted; what lies behind is its *tail*. The triggers let inserts and updates in the tail be, and note
//! everything else. Before anything is read from the outbox, we note what lies in the tail, many rows at once, in a transaction
//! that also moves the mark. From then on they are entries like all others.
//!
//! What holds at any moment: a row that may differ from the cloud's is noted behind what is over, or lies in the tail.
//!
//! - A row that is inserted or changed in front of the mark is noted by its trigger; behind the mark, it lies in the tail.
//! - A delete is always noted, and so is the former key of a row that gets another: an entry may have led to a row of the tail,
//!   and the cloud has it already.
//! - Noting moves the mark in the same transaction, and SQLite has one writer.
//!
//! An entry of the tail comes after changes of other rows that were made later. That is no other order than before: what a row is
//! gets read when it is delivered.

use std::{collections::BTreeSet, time::Duration};

use lifeboat_model::sync::Op;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::{
    super::{SqliteError, open::quoted},
    Outbox, WAIT, has, shape,
};

/// Rows of the tail that are noted under one lock: a millisecond, measured.
const NOTED_AT_ONCE: u64 = 2_000;

/// How long somebody who only looks waits for others' writes, and how many rows are noted for him.
const SOON: Duration = Duration::from_millis(100);
const NOTED_SOON: u64 = 200_000;

/// So many at most are said to lie in a tail: numbers may have gaps of any size.
const ABOUT_MAX: i64 = 1_000_000;

/// The new rows of one table.
pub(super) struct Tail {
    /// The table's number in the outbox.
    number: i64,
    pub(super) table: String,
    column: String,
    /// Rows up to this number are noted.
    upto: i64,
}

impl Outbox {
    /// Notes new rows, at most so many; says whether none is left. What came up to this moment can be read from the outbox then.
    /// In a file that is attached.
    ///
    /// # Errors
    /// [`SqliteError`], also when the app writes for longer than we wait.
    pub fn note_new_rows(&self, rows_max: u64) -> Result<bool, SqliteError> {
        if self.foreign_layout()?.is_some() {
            return Ok(true); // a version that is to come may mean something else by its marks
        }
        let work = || {
            let mut left = rows_max;
            for tail in all(&self.connection)? {
                while tail.is_there(&self.connection)? {
                    if left == 0 {
                        return Ok(false);
                    }
                    let piece = left.min(NOTED_AT_ONCE);
                    let noted = self.note_piece(tail.number, piece)?;
                    left -= noted.min(left);
                    if noted < piece {
                        break;
                    }
                }
            }
            Ok(true)
        };
        work().map_err(self.failed("write to the outbox of"))
    }

    /// As [`Outbox::note_new_rows`], as far as it goes at once: for somebody who only looks, and sees what he can while the app
    /// writes for long, the disk is full, or the file may not be written. What is not noted is counted all the same.
    pub fn note_new_rows_soon(&self) {
        let _ = self.connection.busy_timeout(SOON);
        let _ = self.note_new_rows(NOTED_SOON);
        let _ = self.connection.busy_timeout(WAIT);
    }

    /// Of which table, and how far, is asked again under the lock: another may have noted meanwhile, or the app has made
    /// its table anew.
    fn note_piece(&self, number: i64, rows: u64) -> rusqlite::Result<u64> {
        // What is lost of this with the host's power lies in the tail again.
        self.without_waiting_for_the_disk(|| {
            let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            let tail = listed(&transaction, Some(number))?.pop();
            let noted = tail.map_or(Ok(0), |tail| tail.note(&transaction, rows))?;
            transaction.commit().map(|()| noted)
        })
    }
}

impl Tail {
    fn is_there(&self, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(self.beyond(connection)? > 0)
    }

    /// By how much the greatest number exceeds what is noted: no fewer than there are rows.
    fn beyond(&self, connection: &Connection) -> rusqlite::Result<i64> {
        let asked = format!("SELECT max({}) FROM {}", quoted(&self.column), quoted(&self.table));
        let greatest: Option<i64> = connection.prepare_cached(&asked)?.query_row([], |row| row.get(0))?;
        // It is what the mark says now that counts, not what it said when the tails were listed.
        let asked = "SELECT upto FROM _lifeboat_tail WHERE t = ?1";
        let upto = connection.prepare_cached(asked)?.query_row([self.number], |row| row.get(0)).optional()?;
        let upto: i64 = upto.unwrap_or(self.upto);
        Ok(greatest.map_or(0, |greatest| greatest.saturating_sub(upto)).max(0))
    }

    /// How many rows there are.
    pub(super) fn count(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let asked = format!("SELECT count(*) FROM {} WHERE {} > ?1", quoted(&self.table), quoted(&self.column));
        let counted: i64 = connection.prepare_cached(&asked)?.query_row([self.upto], |row| row.get(0))?;
        Ok(u64::try_from(counted).unwrap_or(0))
    }

    /// Notes the first of them, inside a transaction; says how many.
    fn note(&self, connection: &Connection, rows: u64) -> rusqlite::Result<u64> {
        let (table, column) = (quoted(&self.table), quoted(&self.column));
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        let note = format!(
            "INSERT INTO _lifeboat_outbox(t, o, k1) SELECT ?1, {}, {column} FROM {table}
             WHERE {column} > ?2 ORDER BY {column} LIMIT ?3",
            Op::Insert.code()
        );
        let noted = connection.prepare_cached(&note)?.execute([self.number, self.upto, rows])?;
        if noted > 0 {
            // The entry that was made last is about the greatest of them.
            let mark = "UPDATE _lifeboat_tail SET upto = (SELECT k1 FROM _lifeboat_outbox ORDER BY seq DESC LIMIT 1)
                        WHERE t = ?1";
            connection.prepare_cached(mark)?.execute([self.number])?;
        }
        Ok(noted as u64)
    }
}

/// The tails of all tables that have one; none where the file has been attached by an older version.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Tail>> {
    listed(connection, None)
}

/// That of one table, or all.
fn listed(connection: &Connection, only: Option<i64>) -> rusqlite::Result<Vec<Tail>> {
    if !has(connection, "_lifeboat_tail")? {
        return Ok(Vec::new());
    }
    let mut asked = connection.prepare_cached(
        "SELECT tail.t, tail.upto, substr(meta.k, 7) FROM _lifeboat_tail tail
         JOIN _lifeboat_meta meta ON meta.v = tail.t AND meta.k LIKE 'table.%'
         WHERE ?1 IS NULL OR tail.t = ?1 ORDER BY tail.t",
    )?;
    let listed = asked.query_map([only], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut tails = Vec::new();
    for found in listed {
        let (number, upto, table): (i64, i64, String) = found?;
        // A table that was dropped, or has another key by now, has none.
        if let Some(column) = shape::number_column(connection, &table)? {
            tails.push(Tail { number, table, column, upto });
        }
    }
    Ok(tails)
}

/// Notes all new rows, inside a transaction.
pub(super) fn note_all(connection: &Connection) -> rusqlite::Result<()> {
    all(connection)?.iter().try_for_each(|tail| tail.note(connection, u64::MAX).map(drop))
}

/// About how many rows are new: none only where there is none.
pub(super) fn about(connection: &Connection) -> rusqlite::Result<i64> {
    let beyond = |tail: &Tail| tail.beyond(connection).map(|rows| rows.min(ABOUT_MAX));
    all(connection)?.iter().map(beyond).sum()
}

/// The numbers of tables that have a mark.
pub(super) fn numbers(connection: &Connection) -> rusqlite::Result<BTreeSet<i64>> {
    let mut asked = connection.prepare("SELECT t FROM _lifeboat_tail")?;
    let rows = asked.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// The statement that sets the mark of a table: what it has is noted, or copied otherwise.
pub(super) fn begin(number: i64, table: &str, column: &str) -> String {
    format!("INSERT INTO _lifeboat_tail SELECT {number}, ifnull(max({}), 0) FROM {}", quoted(column), quoted(table))
}
