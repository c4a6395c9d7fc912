//! Rows that leave, written into the folder of their operation: for people as CSV, for us as the server gave them.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    path::{Path, PathBuf},
};

use lifeboat_io::{
    database::postgres::{Ahead, ChangedTable, KeepRows, decoded, key_number, key_places, table_file},
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

/// What was found while clients waited, and is not in the files of its tables yet: all of it, and its rows. The folder does
/// not count until it is ([`super::settling`]).
pub(super) const LATE: &str = "late.json";
/// Its rows: for each table a line `T`, then lines `K` with a key and `R` with a row.
pub(super) const LATE_ROWS: &str = "late.copy";

/// What a first look has handed over, by table: rows by the number of their key.
pub type Kinds = HashMap<String, HashMap<u64, RowKind>>;

/// Whose rows they are: table, column, owner, and rows by kind.
type Owner = (String, String, String, [u64; 3]);

/// A first look, in the folder.
#[derive(Serialize, Deserialize)]
struct Paused {
    ahead: Ahead,
    tables: Vec<SalvagedTable>,
    owners: Vec<Owner>,
}

/// What is kept but for rows that were written to in the last moment.
#[derive(Serialize, Deserialize)]
pub(super) struct Late {
    pub salvage: Salvage,
    /// All that was not as in the backup.
    pub changed: Vec<ChangedTable>,
    /// Those of which there are rows in the file, in its order.
    pub late: Vec<ChangedTable>,
    pub tables: Vec<SalvagedTable>,
    owners: Vec<Owner>,
}

/// Writes what is handed over into a folder.
pub struct Keeping {
    pub(super) folder: PathBuf,
    owner_columns: Vec<String>,
    pub(super) tables: Vec<SalvagedTable>,
    open: Option<Open>,
    /// Rows by table, column, owner and kind.
    owners: BTreeMap<(String, String, String), [u64; 3]>,
    /// What a first look of this process has found.
    kinds: Kinds,
    late: Option<NewFile>,
    late_tables: Vec<ChangedTable>,
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
    /// Where the key is.
    key: [Vec<usize>; 2],
}

impl Keeping {
    fn empty(folder: &Path, owner_columns: &[String]) -> Keeping {
        Keeping {
            folder: folder.to_owned(),
            owner_columns: owner_columns.to_vec(),
            tables: Vec::new(),
            open: None,
            owners: BTreeMap::new(),
            kinds: Kinds::new(),
            late: None,
            late_tables: Vec::new(),
        }
    }

    /// Begins with an empty folder; what an earlier try left in it goes.
    pub fn begin(folder: &Path, owner_columns: &[String]) -> Result<Keeping, Failure> {
        files::remove_any(folder).map_err(|error| path_failure(&error))?;
        files::create_private_folder(folder).map_err(|error| path_failure(&error))?;
        Ok(Keeping::empty(folder, owner_columns))
    }

    /// Goes on with what a first look has found, when there was one. `kinds`: which rows, when that was in this process.
    pub fn go_on(
        folder: &Path,
        owner_columns: &[String],
        kinds: Option<&Kinds>,
    ) -> Result<(Keeping, Option<Ahead>), Failure> {
        let path = folder.join(AHEAD);
        if !files::exists(&path) {
            return Ok((Keeping::begin(folder, owner_columns)?, None));
        }
        let paused: Paused = understood(&path)?;
        for name in [MANIFEST, LATE] {
            files::remove_any(&folder.join(name)).map_err(|error| path_failure(&error))?;
        }
        let mut keeping = Keeping { tables: paused.tables, ..Keeping::empty(folder, owner_columns) };
        keeping.take_owners(paused.owners);
        keeping.kinds = kinds.cloned().unwrap_or_default();
        Ok((keeping, Some(paused.ahead)))
    }

    /// Has on disk what this look has found, for another one to go on with. What it found of tables that are not among
    /// it does not count any more, and goes.
    pub fn pause(&mut self, ahead: &Ahead) -> Result<(), Failure> {
        let (stay, go): (Vec<SalvagedTable>, Vec<SalvagedTable>) =
            std::mem::take(&mut self.tables).into_iter().partition(|table| ahead.has(&table.table));
        self.tables = stay;
        self.owners.retain(|(table, _, _), _| ahead.has(table));
        let paused = Paused { ahead: ahead.clone(), tables: self.tables.clone(), owners: self.owners_told() };
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

    fn owners_told(&self) -> Vec<Owner> {
        let told = |((table, column, owner), rows): (&(String, String, String), &[u64; 3])| {
            let [table, column, owner] = [table, column, owner].map(Clone::clone);
            (table, column, owner, *rows)
        };
        self.owners.iter().map(told).collect()
    }

    fn take_owners(&mut self, owners: Vec<Owner>) {
        self.owners = owners.into_iter().map(|(table, column, owner, rows)| ((table, column, owner), rows)).collect();
    }

    /// Which rows were handed over, for a second look in this process.
    pub fn kinds(&mut self) -> Kinds {
        std::mem::take(&mut self.kinds)
    }

    /// Goes on with what was found in the last moment.
    pub(super) fn of_late(folder: &Path, owner_columns: &[String], late: &mut Late) -> Keeping {
        let mut keeping = Keeping { tables: std::mem::take(&mut late.tables), ..Keeping::empty(folder, owner_columns) };
        keeping.take_owners(std::mem::take(&mut late.owners));
        keeping
    }

    /// What was said of a table does not count any more.
    pub(super) fn drop_table(&mut self, title: &str) {
        self.tables.retain(|table| table.table != title);
        self.owners.retain(|(table, _, _), _| table != title);
    }

    /// Writes down what was found. What came in the last moment is put into the files of its tables later, since somebody waits.
    pub fn end(mut self, salvage: Salvage, changed: &[ChangedTable]) -> Result<(), Failure> {
        let Some(file) = self.late.take() else { return self.finish(salvage, changed).map(drop) };
        file.finish().map_err(|error| path_failure(&error))?;
        let late = Late {
            salvage,
            changed: changed.to_vec(),
            late: std::mem::take(&mut self.late_tables),
            owners: self.owners_told(),
            tables: std::mem::take(&mut self.tables),
        };
        let body = serde_json::to_vec(&late).map_err(|error| {
            Failure::new(FailureKind::Bug, "what was found cannot be written down").because(error.to_string())
        })?;
        files::write_with_mode(&self.folder.join(LATE), &body, 0o600).map_err(|error| path_failure(&error))
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
        Ok(salvage)
    }
}

/// A document of ours.
pub(super) fn understood<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let body = files::read(path).map_err(|error| path_failure(&error))?;
    serde_json::from_slice(&body).map_err(|error| {
        let message = format!("{} cannot be understood", path.display());
        Failure::new(FailureKind::Damaged, message).because(error.to_string())
    })
}

/// What is only needed until the rows are kept in the end.
pub(super) fn tidy_up(folder: &Path) -> Result<(), Failure> {
    [LATE, LATE_ROWS, AHEAD]
        .into_iter()
        .try_for_each(|name| files::remove_any(&folder.join(name)).map_err(|error| path_failure(&error)))
}

/// A line of a file of rows: kind, copy, row.
pub(super) fn kept_row(line: &[u8]) -> Option<(RowKind, u64, &[u8])> {
    let mut fields = line.splitn(3, |byte| *byte == b'\t');
    let (kind, copy, row) = (fields.next()?, fields.next()?, fields.next()?);
    let all = [RowKind::Inserted, RowKind::Updated, RowKind::Before, RowKind::Deleted];
    let kind = all.into_iter().find(|one| one.word().as_bytes() == kind)?;
    Some((kind, std::str::from_utf8(copy).ok()?.parse().ok()?, row))
}

/// The lines of a file in a folder; none where there is no such file.
pub(super) fn each_line(
    folder: &Path,
    name: Option<&String>,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let Some(name) = name.filter(|name| files::exists(&folder.join(name))) else { return Ok(()) };
    let mut file = io::BufReader::with_capacity(256 << 10, files::open(&folder.join(name)).map_err(other)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if io::BufRead::read_until(&mut file, b'\n', &mut line)? == 0 {
            return Ok(());
        }
        each(line.strip_suffix(b"\n").unwrap_or(&line))?;
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
        // What an earlier try has left goes.
        let create = |end: &str| {
            let path = self.folder.join(format!("{name}{end}"));
            files::remove_any(&path).and_then(|()| NewFile::create(&path)).map_err(other)
        };
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
            key: [key_places(&table.columns, &table.key), key_places(&table.columns_then, &table.key)],
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
        if kind != RowKind::Before && !open.key[side].is_empty() {
            self.kinds.entry(open.table.table.clone()).or_default().insert(key_number(row, &open.key[side]), kind);
        }
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

    fn kept(&mut self, table: &ChangedTable) -> io::Result<HashMap<u64, RowKind>> {
        if let Some(known) = self.kinds.get(&table.title) {
            return Ok(known.clone());
        }
        let Some(kept) = self.tables.iter().find(|kept| kept.table == table.title) else { return Ok(HashMap::new()) };
        let mut kinds = HashMap::new();
        for (name, columns) in [(&kept.now, &kept.columns), (&kept.then, &kept.columns_then)] {
            let places = key_places(columns, &kept.key);
            each_line(&self.folder, name.as_ref(), |line| {
                if let Some((kind, _, row)) = kept_row(line).filter(|(kind, _, _)| *kind != RowKind::Before) {
                    kinds.insert(key_number(row, &places), kind);
                }
                Ok(())
            })?;
        }
        Ok(kinds)
    }

    fn late(&mut self, table: &ChangedTable) -> io::Result<()> {
        let file = match &mut self.late {
            Some(file) => file,
            None => {
                let path = self.folder.join(LATE_ROWS);
                let file = files::remove_any(&path).and_then(|()| NewFile::create(&path)).map_err(other)?;
                self.late.insert(file)
            }
        };
        self.late_tables.push(table.clone());
        file.write_all(b"T\n")
    }

    fn late_key(&mut self, key: &[u8]) -> io::Result<()> {
        self.late_line(b"K\t", key)
    }

    fn late_row(&mut self, row: &[u8]) -> io::Result<()> {
        self.late_line(b"R\t", row)
    }
}

impl Keeping {
    fn late_line(&mut self, begin: &[u8], rest: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.late else { return Err(io::Error::other("a row without its table")) };
        file.write_all(begin)?;
        file.write_all(rest)?;
        file.write_all(b"\n")
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
