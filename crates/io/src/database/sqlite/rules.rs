//! Whether rows keep the rules that their own schema states, looked at row by row; and digests of rows that somebody chose.

use std::path::Path;

use lifeboat_model::{Check, Tri};
use rusqlite::{Connection, types::ValueRef};
use sha2::{Digest, Sha256};

use super::{
    SqliteError,
    check::{outcome_of, outcome_of_sqlite, sentence},
    error::words,
    open::{open_at_rest, quoted},
};
use crate::stop::Stop;

/// So many complaints are quoted.
const QUOTED_MAX: usize = 5;

/// Two checks of a copy at rest: that no column is empty which must not be, and that nothing is there twice which may be
/// there once. SQLite trusts its own rules; a file that was damaged or written with them off does not keep them.
pub fn check_rules(file: &Path, stop: &Stop) -> [Check; 2] {
    let names = ["required fields", "unique constraints"];
    match open_at_rest(file, stop) {
        Ok(connection) => [
            told(names[0], "no required column is empty", required(&connection)),
            told(names[1], "nothing is there twice that may be there once", unique(&connection)),
        ],
        Err(error) => names.map(|name| Check::new(name, outcome_of(&error), sentence(&error))),
    }
}

fn told(name: &str, good: &str, found: rusqlite::Result<Vec<String>>) -> Check {
    match found {
        Ok(wrong) if wrong.is_empty() => Check::new(name, Tri::Pass, good),
        Ok(wrong) => {
            let more = wrong.len().saturating_sub(QUOTED_MAX);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            let shown: Vec<&str> = wrong.iter().take(QUOTED_MAX).map(String::as_str).collect();
            Check::new(name, Tri::Fail, shown.join("; ") + &more)
        }
        Err(error) => Check::new(name, outcome_of_sqlite(&error), words(&error)),
    }
}

/// Ordinary tables; what virtual ones hold is their module's business.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let ordinary = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    connection.prepare(ordinary)?.query_map([], |row| row.get(0))?.collect()
}

fn names(connection: &Connection, question: &str, of: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare(question)?.query_map([of], |row| row.get(0))?.collect()
}

fn required(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for table in tables(connection)? {
        let columns = names(connection, "SELECT name FROM pragma_table_info(?1) WHERE \"notnull\" = 1", &table)?;
        if columns.is_empty() {
            continue;
        }
        // SQLite takes `IS NULL` for false where it trusts the rule; the type of the value it has to look at.
        let sums = columns.iter().map(|column| format!("coalesce(sum(typeof({}) = 'null'), 0)", quoted(column)));
        let sql = format!("SELECT {} FROM {}", sums.collect::<Vec<_>>().join(", "), quoted(&table));
        let counts: Vec<i64> =
            connection.query_row(&sql, [], |row| (0..columns.len()).map(|at| row.get(at)).collect())?;
        let empty = columns.iter().zip(counts).filter(|(_, count)| *count > 0);
        wrong.extend(empty.map(|(column, count)| format!("{table}.{column} is empty in {count} rows")));
    }
    Ok(wrong)
}

fn unique(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for table in tables(connection)? {
        // Those over a part of the table or over expressions are `integrity_check`'s alone.
        let whole = "SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0";
        for index in names(connection, whole, &table)? {
            let columns: Vec<Option<String>> = connection
                .prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?
                .query_map([&index], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let Some(columns) = columns.into_iter().collect::<Option<Vec<String>>>() else { continue };
            wrong.extend(twice(connection, &table, &columns)?);
        }
    }
    Ok(wrong)
}

fn twice(connection: &Connection, table: &str, columns: &[String]) -> rusqlite::Result<Option<String>> {
    let list: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let some: Vec<String> = list.iter().map(|column| format!("{column} IS NOT NULL")).collect();
    // The index is what may be wrong, so the rows are asked.
    let without_rowid: bool = connection.query_row(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1",
        [table],
        |row| row.get(0),
    )?;
    let not_indexed = if without_rowid { "" } else { " NOT INDEXED" };
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {}{not_indexed} WHERE {} GROUP BY {} HAVING count(*) > 1)",
        quoted(table),
        some.join(" AND "),
        list.join(", ")
    );
    let count: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    Ok((count > 0).then(|| format!("{count} values of {table} ({}) are there more than once", columns.join(", "))))
}

/// A digest over all rows of an answer in their order, hex.
///
/// # Errors
/// When the copy cannot be opened or asked, or the question would change something.
pub fn sample(file: &Path, sql: &str, stop: &Stop) -> Result<String, SqliteError> {
    let connection = open_at_rest(file, stop)?;
    digest(&connection, sql).map_err(|error| SqliteError::from_sqlite(file, "ask", error))
}

pub(super) fn digest(connection: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut hash = Sha256::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            let (kind, bytes) = match row.get_ref(column)? {
                ValueRef::Null => (0_u8, Vec::new()),
                ValueRef::Integer(number) => (1, number.to_le_bytes().to_vec()),
                ValueRef::Real(number) => (2, number.to_bits().to_le_bytes().to_vec()),
                ValueRef::Text(text) => (3, text.to_vec()),
                ValueRef::Blob(blob) => (4, blob.to_vec()),
            };
            hash.update([kind]);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hash.update([255]); // the end of a row
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_break_the_rules_of_their_schema_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, mail TEXT);
             CREATE TABLE tags (tag TEXT PRIMARY KEY) WITHOUT ROWID;
             CREATE INDEX by_mail ON people (mail);
             INSERT INTO people VALUES (1, NULL, 'a'), (2, 'x', 'a'), (3, 'y', NULL), (4, 'z', NULL);",
        )
        .unwrap();
        let before = check_rules(&path, &Stop::default());
        assert!(before.iter().all(|check| check.outcome == Tri::Pass), "{before:?}");
        // The rules come later, behind SQLite's back: the rows do not keep them.
        db.execute_batch(
            "PRAGMA writable_schema = on;
             UPDATE sqlite_schema SET sql = 'CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, mail TEXT)' WHERE name = 'people';
             UPDATE sqlite_schema SET sql = 'CREATE UNIQUE INDEX by_mail ON people (mail)' WHERE name = 'by_mail';",
        )
        .unwrap();
        drop(db);
        let [required, unique] = check_rules(&path, &Stop::default());
        assert_eq!((required.outcome, required.detail.as_str()), (Tri::Fail, "people.name is empty in 1 rows"));
        assert_eq!(
            (unique.outcome, unique.detail.as_str()),
            (Tri::Fail, "1 values of people (mail) are there more than once")
        );
    }
}
