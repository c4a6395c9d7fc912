//! The negative control: damages a copy on purpose, so that a proof can show that its checks would have noticed.

use std::{fs, os::unix::fs::FileExt, path::Path};

use rusqlite::Connection;

use super::{
    Header, SqliteError,
    inspect::{stored_columns, tables},
    open::quoted,
    writes::open_for_writes,
};
use crate::stop::Stop;

/// What was done to a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A page of a table was overwritten. `integrity_check` must complain.
    PageOverwritten {
        /// The table.
        table: String,
        /// Which page, from 1.
        page: u64,
    },
    /// A row was deleted. The file is sound; the comparison with the manifest must notice.
    RowDeleted {
        /// The table.
        table: String,
    },
    /// A value was changed. Row counts agree; the digest must notice.
    ValueChanged {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Damage::PageOverwritten { table, page } => write!(f, "page {page} of table {table} was overwritten"),
            Damage::RowDeleted { table } => write!(f, "a row of table {table} was deleted"),
            Damage::ValueChanged { table, column } => write!(f, "a value of {table}.{column} was changed"),
        }
    }
}

/// Damages the database at `file`, which must be a throw-away copy at rest. What is done depends on `seed` only, and on
/// what is there; a database without rows gets its schema page overwritten.
///
/// # Errors
/// [`SqliteError`] when it cannot even be damaged.
pub fn damage_copy(file: &Path, seed: u64) -> Result<Damage, SqliteError> {
    let header = Header::read(file)?;
    let failed = |error| SqliteError::from_sqlite(file, "damage", error);
    let connection = open_for_writes(file, &Stop::default()).map_err(failed)?;
    // The app's triggers might undo what we do, its CHECKs refuse it.
    let config = rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
    connection.set_db_config(config, false).map_err(failed)?;
    connection.pragma_update(None, "ignore_check_constraints", true).map_err(failed)?;
    let (table, kind) = (pick_table(&connection, seed).map_err(failed)?, seed % 3);
    let in_place = match &table {
        Some(table) if kind == 1 => delete_row(&connection, table, seed).map_err(failed)?,
        Some(table) if kind == 2 => change_value(&connection, table, seed).map_err(failed)?,
        _ => None,
    };
    if let Some(damage) = in_place {
        return Ok(damage);
    }
    let (table, page) = match table {
        Some(table) => (table.clone(), leaf(&connection, &table, seed).map_err(failed)?),
        None => ("sqlite_schema".to_owned(), 1),
    };
    connection.close().map_err(|(_, error)| failed(error))?;
    overwrite(file, header, page).map_err(|error| SqliteError::from_io(file, "damage", error))?;
    Ok(Damage::PageOverwritten { table, page })
}

/// A table with rows of its own, not SQLite's bookkeeping.
fn pick_table(connection: &Connection, seed: u64) -> rusqlite::Result<Option<String>> {
    let mut with_rows = Vec::new();
    for table in tables(connection)?.into_iter().filter(|name| !name.starts_with("sqlite_")) {
        let any = format!("SELECT EXISTS (SELECT 1 FROM {})", quoted(&table));
        if connection.query_row(&any, [], |row| row.get(0))? {
            with_rows.push(table);
        }
    }
    let count = u64::try_from(with_rows.len()).unwrap_or(0);
    Ok((count > 0).then(|| with_rows.swap_remove(usize::try_from((seed / 3) % count).unwrap_or(0))))
}

/// A condition that one row of the table fulfils: by its key, since tables without rowid have nothing else.
fn one_row(connection: &Connection, table: &str, seed: u64) -> rusqlite::Result<String> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE pk > 0 ORDER BY pk")?;
    let keys: Vec<String> = statement.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let without_rowid: bool = connection.query_row(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1",
        [table],
        |row| row.get(0),
    )?;
    let list = match without_rowid {
        true => keys.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(", "),
        false => "rowid".to_owned(),
    };
    let from = quoted(table);
    let offset = seed % 1000;
    Ok(format!(
        "({list}) IN (SELECT {list} FROM {from} LIMIT 1 OFFSET {offset} % (SELECT count(*) FROM (SELECT 1 FROM {from} LIMIT 1000)))"
    ))
}

fn delete_row(connection: &Connection, table: &str, seed: u64) -> rusqlite::Result<Option<Damage>> {
    let sql = format!("DELETE FROM {} WHERE {}", quoted(table), one_row(connection, table, seed)?);
    Ok((connection.execute(&sql, [])? > 0).then(|| Damage::RowDeleted { table: table.to_owned() }))
}

/// Changes the first column that lets itself be changed: unique and typed ones may refuse.
fn change_value(connection: &Connection, table: &str, seed: u64) -> rusqlite::Result<Option<Damage>> {
    let row = one_row(connection, table, seed)?;
    for column in stored_columns(connection, table)?.into_iter().rev() {
        let (from, name) = (quoted(table), quoted(&column));
        let other = format!(
            "CASE typeof({name}) WHEN 'integer' THEN {name} + 1 WHEN 'real' THEN {name} + 1.5 WHEN 'blob' THEN CAST({name} || x'00' AS BLOB)
             WHEN 'null' THEN 1 ELSE {name} || '~' END"
        );
        match connection.execute(&format!("UPDATE {from} SET {name} = {other} WHERE {row}"), []) {
            Ok(changed) if changed > 0 => {
                return Ok(Some(Damage::ValueChanged { table: table.to_owned(), column }));
            }
            _ => {} // generated, or refused by a constraint: the next one
        }
    }
    Ok(None)
}

/// A leaf page of the table's b-tree.
fn leaf(connection: &Connection, table: &str, seed: u64) -> rusqlite::Result<u64> {
    let mut statement = connection
        .prepare("SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' AND ncell > 0 LIMIT 1000")?;
    let pages: Vec<u32> = statement.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let count = pages.len().max(1);
    let chosen = usize::try_from(seed % 1009).unwrap_or(0) % count;
    pages.get(chosen).copied().map(u64::from).ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// Overwrites a page with bytes that are no b-tree page; of page 1 only what comes after the file's header.
fn overwrite(file: &Path, header: Header, page: u64) -> std::io::Result<()> {
    let size = usize::try_from(header.page_size).unwrap_or(4096);
    let skip = if page == 1 { 100 } else { 0 };
    let at = (page - 1) * u64::from(header.page_size) + skip as u64;
    let file = fs::OpenOptions::new().write(true).open(file)?;
    file.write_all_at(&vec![0xA5; size - skip], at)?;
    file.sync_all()
}
