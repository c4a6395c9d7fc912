//! Rows that leave, written into the folder of their operation: for people as CSV, for us as the server gave them.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use lifeboat_io::{
    database::postgres::{Ahead, ChangedTable, KeepRows, decoded, table_file},
    files::{self, NewFile},
};
use lifeboat_model::{Failure, FailureKind, RowKind, Salvage, SalvagedTable};
use serde::{Deserialize, Serialize};

use super::super::errors::path_failure;

/// The document in the folder.
pub const MANIFEST: &str = "manifest.json";
/// Whose rows they are.
const AFFECTED: &str = "affected-users.csv";

/// What was found before writes were held; the folder does not count yet.
const AHEAD: &str = "ahead.json";

/// Whose rows they are: table, column, owner, and rows by kind.
type Owner = (String, String, String, [u64; 3]);

/// A first look, in the folder.
#[derive(Serialize, Deserialize)]
struct Paused {
    ahead: Ahead,
    tables: Vec<SalvagedTable>,
    owners: Vec<Owner>,
}

/// Writes what is handed over into a folder.
pub struct Keeping {
    folder: PathBuf,
    owner_columns: Vec<String>,
    tables: Vec<SalvagedTable>,
    open: Option<Open>,
    /// Rows by table, column, owner and kind.
    owners: BTreeMap<(String, String, String), [u64; 3]>,
}

/// The table that is being written.
struct Open {
    table: SalvagedTable,
    csv: NewFile,
    now: Option<NewFile>,
    then: Option<NewFile>,
    /// Where each column of the CSV is in rows as they are now, and as they were then.
    places: [Vec<Option<usize>>; 2],
    /// Where owners are, by column.
    owners: [Vec<(usize, String)>; 2],
}

impl Keeping {
    /// Begins with an empty folder; what an earlier try left in it goes.
    pub fn begin(folder: &Path, owner_columns: &[String]) -> Result<Keeping, Failure> {
        files::remove_any(folder).map_err(|error| path_failure(&error))?;
        files::create_private_folder(folder).map_err(|error| path_failure(&error))?;
        let (folder, owner_columns) = (folder.to_owned(), owner_columns.to_vec());
        Ok(Keeping { folder, owner_columns, tables: Vec::new(), open: None, owners: BTreeMap::new() })
    }

    /// Goes on with what a first look has found, when there was one.
    pub fn go_on(folder: &Path, owner_columns: &[String]) -> Result<(Keeping, Option<Ahead>), Failure> {
        let path = folder.join(AHEAD);
        if !files::exists(&path) {
            return Ok((Keeping::begin(folder, owner_columns)?, None));
        }
        let body = files::read(&path).map_err(|error| path_failure(&error))?;
        let paused: Paused = serde_json::from_slice(&body).map_err(|error| {
            let message = format!("{} cannot be understood", path.display());
            Failure::new(FailureKind::Damaged, message).because(error.to_string())
        })?;
        files::remove_any(&folder.join(MANIFEST)).map_err(|error| path_failure(&error))?;
        let owners = paused.owners.into_iter().map(|(table, column, owner, rows)| ((table, column, owner), rows));
        let keeping = Keeping {
            folder: folder.to_owned(),
            owner_columns: owner_columns.to_vec(),
            tables: paused.tables,
            open: None,
            owners: owners.collect(),
        };
        Ok((keeping, Some(paused.ahead)))
    }

    /// Has on disk what this look has found, for another one to go on with. What it found of tables that are not among
    /// it does not count any more, and goes.
    pub fn pause(&mut self, ahead: &Ahead) -> Result<(), Failure> {
        let (stay, go): (Vec<SalvagedTable>, Vec<SalvagedTable>) =
            std::mem::take(&mut self.tables).into_iter().partition(|table| ahead.has(&table.table));
        self.tables = stay;
        self.owners.retain(|(table, _, _), _| ahead.has(table));
        let owners = self.owners.iter().map(|((table, column, owner), rows)| {
            let [table, column, owner] = [table, column, owner].map(Clone::clone);
            (table, column, owner, *rows)
        });
        let paused = Paused { ahead: ahead.clone(), tables: self.tables.clone(), owners: owners.collect() };
        let body = serde_json::to_vec(&paused).map_err(|error| {
            Failure::new(FailureKind::Bug, "what was found cannot be written down").because(error.to_string())
        })?;
        // First it is told that they do not count, then they may be written again.
        files::write_with_mode(&self.folder.join(AHEAD), &body, 0o600).map_err(|error| path_failure(&error))?;
        let names = go.iter().flat_map(|table| [&table.csv, &table.now, &table.then]).flatten();
        names
            .into_iter()
            .try_for_each(|name| files::remove_any(&self.folder.join(name)).map_err(|error| path_failure(&error)))
    }

    /// Writes the document, last: without it the folder does not count. Tables whose rows need not be kept are in it too.
    pub fn finish(mut self, mut salvage: Salvage, changed: &[ChangedTable]) -> Result<Salvage, Failure> {
        if !self.owner_columns.is_empty() {
            let path = self.folder.join(AFFECTED);
            let mut sums: BTreeMap<(String, String), [u64; 3]> = BTreeMap::new();
            for ((_, column, owner), rows) in std::mem::take(&mut self.owners) {
                let sum = sums.entry((column, owner)).or_default();
                sum.iter_mut().zip(rows).for_each(|(sum, rows)| *sum += rows);
            }
            write_owners(&path, &sums).map_err(|error| path_failure(&error))?;
            salvage.affected = Some(AFFECTED.to_owned());
        }
        for table in changed {
            if !self.tables.iter().any(|kept| kept.table == table.title) {
                self.tables.push(about(table));
            }
        }
        self.tables.sort_by(|one, other| one.table.cmp(&other.table));
        salvage.tables = std::mem::take(&mut self.tables);
        let body = serde_json::to_vec_pretty(&salvage).map_err(|error| {
            Failure::new(FailureKind::Bug, "what is kept cannot be written down").because(error.to_string())
        })?;
        files::write_with_mode(&self.folder.join(MANIFEST), &body, 0o600).map_err(|error| path_failure(&error))?;
        files::remove_any(&self.folder.join(AHEAD)).map_err(|error| path_failure(&error))?;
        Ok(salvage)
    }
}

fn about(table: &ChangedTable) -> SalvagedTable {
    SalvagedTable {
        table: table.title.clone(),
        inserted: table.changes.inserted,
        updated: table.changes.updated,
        deleted: table.changes.deleted,
        columns: table.columns.clone(),
        columns_then: table.columns_then.clone(),
        key: table.key.clone(),
        only_now: table.only_now.clone(),
        ..SalvagedTable::default()
    }
}

/// A column's name without SQL's quotes.
pub fn bare(column: &str) -> String {
    match column.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => column.to_owned(),
    }
}

fn other(error: lifeboat_io::PathError) -> io::Error {
    io::Error::other(error)
}

impl KeepRows for Keeping {
    fn begin(&mut self, table: &ChangedTable) -> io::Result<()> {
        let mut about = about(table);
        let name = table_file(&table.title);
        let create = |end: &str| NewFile::create(&self.folder.join(format!("{name}{end}"))).map_err(other);
        let more = table.columns_then.iter().filter(|column| !table.columns.contains(column));
        let header: Vec<String> = table.columns.iter().chain(more).cloned().collect();
        let place = |columns: &[String]| -> Vec<Option<usize>> {
            header.iter().map(|name| columns.iter().position(|column| column == name)).collect()
        };
        let owners = |columns: &[String]| -> Vec<(usize, String)> {
            let named = columns.iter().map(|column| bare(column)).enumerate();
            named.filter(|(_, name)| self.owner_columns.contains(name)).collect()
        };
        let mut csv = create(".csv")?;
        let mut line = b"change".to_vec();
        for column in &header {
            line.push(b',');
            csv_field(&mut line, Some(bare(column).as_bytes()));
        }
        line.push(b'\n');
        csv.write_all(&line)?;
        about.csv = Some(format!("{name}.csv"));
        let mut open = Open {
            places: [place(&table.columns), place(&table.columns_then)],
            owners: [owners(&table.columns), owners(&table.columns_then)],
            table: about,
            csv,
            now: None,
            then: None,
        };
        if table.changes.inserted + table.changes.updated > 0 {
            (open.now, open.table.now) = (Some(create(".now.copy")?), Some(format!("{name}.now.copy")));
        }
        if !table.columns_then.is_empty() && table.changes.updated + table.changes.deleted > 0 {
            (open.then, open.table.then) = (Some(create(".then.copy")?), Some(format!("{name}.then.copy")));
        }
        self.open = Some(open);
        Ok(())
    }

    fn row(&mut self, kind: RowKind, copy: u64, row: &[u8]) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Err(io::Error::other("a row without its table")) };
        let side = usize::from(!kind.is_now());
        let file = if kind.is_now() { &mut open.now } else { &mut open.then };
        if let Some(file) = file {
            write!(file, "{}\t{copy}\t", kind.word())?;
            file.write_all(row)?;
            file.write_all(b"\n")?;
        }
        let fields: Vec<&[u8]> = row.split(|byte| *byte == b'\t').collect();
        let mut line = kind.word().as_bytes().to_vec();
        for place in &open.places[side] {
            line.push(b',');
            let field = place.and_then(|place| fields.get(place).copied());
            csv_field(&mut line, field.and_then(decoded).as_deref());
        }
        line.push(b'\n');
        open.csv.write_all(&line)?;
        let which = match kind {
            RowKind::Inserted => 0,
            RowKind::Updated => 1,
            RowKind::Deleted => 2,
            RowKind::Before => return Ok(()),
        };
        for (place, column) in &open.owners[side] {
            let owner = fields.get(*place).copied().and_then(decoded);
            let owner = owner.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            if let Some(owner) = owner {
                let whose = (open.table.table.clone(), column.clone(), owner);
                self.owners.entry(whose).or_default()[which] += 1;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.csv.finish().map_err(other)?;
        [open.now, open.then].into_iter().flatten().try_for_each(|file| file.finish().map_err(other))?;
        self.tables.push(open.table);
        Ok(())
    }
}

fn write_owners(path: &Path, owners: &BTreeMap<(String, String), [u64; 3]>) -> Result<(), lifeboat_io::PathError> {
    let mut body = b"column,owner,inserted,updated,deleted\n".to_vec();
    for ((column, owner), [inserted, updated, deleted]) in owners {
        csv_field(&mut body, Some(column.as_bytes()));
        body.push(b',');
        csv_field(&mut body, Some(owner.as_bytes()));
        body.extend_from_slice(format!(",{inserted},{updated},{deleted}\n").as_bytes());
    }
    files::write_with_mode(path, &body, 0o600)
}

/// A field of CSV: nothing for null, quotes where they are needed, also around a text that is empty.
fn csv_field(line: &mut Vec<u8>, field: Option<&[u8]>) {
    let Some(field) = field else { return };
    if !field.is_empty() && !field.iter().any(|byte| b"\",\n\r".contains(byte)) {
        line.extend_from_slice(field);
        return;
    }
    line.push(b'"');
    for &byte in field {
        if byte == b'"' {
            line.push(b'"');
        }
        line.push(byte);
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_csv_say_what_they_are() {
        let field = |value: Option<&str>| {
            let mut line = Vec::new();
            csv_field(&mut line, value.map(str::as_bytes));
            String::from_utf8(line).unwrap()
        };
        assert_eq!(field(None), "");
        assert_eq!(field(Some("")), "\"\"");
        assert_eq!(field(Some("a b")), "a b");
        assert_eq!(field(Some("a,\"b\"\nc")), "\"a,\"\"b\"\"\nc\"");
        assert_eq!(bare("\"a \"\"b\"\"\""), "a \"b\"");
    }
}
