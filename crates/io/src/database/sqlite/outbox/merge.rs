//! Rows from elsewhere that the file lacks are inserted into it; a row that is there is never written over.

use lifeboat_model::sync::Value;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params_from_iter, types};

use super::{
    super::{SqliteError, open::quoted},
    Outbox, TableShape,
    read::{Key, bound},
};

/// A row from elsewhere: values by the names of columns.
pub type NamedRow = Vec<(String, Value)>;

/// How a row from elsewhere stands to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The file lacks it.
    New,
    /// The file has it.
    Same,
    /// The file has other values under its key.
    Different,
    /// The file cannot hold it, with the reason.
    Unfit(String),
}

impl Outbox {
    /// How rows stand to a table of the file. It is only read.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn stand(&self, table: &TableShape, rows: &[NamedRow]) -> Result<Vec<Standing>, SqliteError> {
        let stand = |row: &NamedRow| standing(&self.connection, table, row);
        rows.iter().map(stand).collect::<rusqlite::Result<_>>().map_err(self.failed("read rows of"))
    }

    /// Inserts those of these rows that the file lacks, in one transaction, and says how each stood before. What the app has set up
    /// to happen at an insert happens; keys to other tables have to hold at the end.
    ///
    /// # Errors
    /// [`SqliteError`]; then nothing has changed.
    pub fn merge(&self, tables: &[(&TableShape, &[NamedRow])]) -> Result<Vec<Vec<Standing>>, SqliteError> {
        let work = || {
            self.connection.pragma_update(None, "foreign_keys", true)?;
            let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            transaction.pragma_update(None, "defer_foreign_keys", true)?;
            let mut stood = Vec::with_capacity(tables.len());
            for (table, rows) in tables {
                let mut each = Vec::with_capacity(rows.len());
                for row in *rows {
                    let standing = standing(&transaction, table, row)?;
                    if standing == Standing::New {
                        insert(&transaction, table, row)?;
                    }
                    each.push(standing);
                }
                stood.push(each);
            }
            transaction.commit()?;
            Ok(stood)
        };
        let done = work();
        self.connection.pragma_update(None, "foreign_keys", false).map_err(self.failed("read"))?;
        done.map_err(self.failed("insert rows into"))
    }
}

fn standing(connection: &Connection, table: &TableShape, row: &NamedRow) -> rusqlite::Result<Standing> {
    let value_of = |name: &str| row.iter().find(|(its, _)| its == name).map(|(_, value)| value);
    if let Some((name, _)) = row.iter().find(|(name, _)| !table.columns.iter().any(|column| &column.name == name)) {
        return Ok(Standing::Unfit(format!("the file has no column {name}")));
    }
    let key: Option<Key> = table.key_names().iter().map(|name| value_of(name).cloned()).collect();
    let Some(key) = key else { return Ok(Standing::Unfit("it lacks its key".to_owned())) };
    // Compared as the columns hold values, so that a text of digits is the number in a column of numbers.
    let same: Vec<String> =
        row.iter().enumerate().map(|(at, (name, _))| format!("{} IS ?{}", quoted(name), at + 1)).collect();
    let names = table.key_names();
    let which: Vec<String> =
        names.iter().enumerate().map(|(at, name)| format!("{} IS ?{}", quoted(name), row.len() + at + 1)).collect();
    let asked = format!("SELECT {} FROM {} WHERE {}", same.join(" AND "), quoted(&table.name), which.join(" AND "));
    let values: Vec<types::Value> = row.iter().map(|(_, value)| value).chain(&key).map(bound).collect();
    let mut statement = connection.prepare_cached(&asked)?;
    let found: Option<bool> = statement.query_row(params_from_iter(values), |found| found.get(0)).optional()?;
    Ok(match found {
        None => Standing::New,
        Some(true) => Standing::Same,
        Some(false) => Standing::Different,
    })
}

fn insert(connection: &Connection, table: &TableShape, row: &NamedRow) -> rusqlite::Result<()> {
    let is_generated = |name: &str| table.columns.iter().any(|column| column.name == name && column.generated);
    let kept: Vec<&(String, Value)> = row.iter().filter(|(name, _)| !is_generated(name)).collect();
    let names: Vec<String> = kept.iter().map(|(name, _)| quoted(name)).collect();
    let marks: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
    let asked = format!("INSERT INTO {} ({}) VALUES ({})", quoted(&table.name), names.join(", "), marks.join(", "));
    let values = params_from_iter(kept.iter().map(|(_, value)| bound(value)));
    connection.prepare_cached(&asked)?.execute(values).map(drop)
}
