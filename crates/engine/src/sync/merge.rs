//! Rows that were saved out of the cloud, back into the file: after a restore of an older file they were the newest there were.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use lifeboat_io::{
    database::sqlite::{NamedRow, Shapes, Standing, TableShape},
    files,
};
use lifeboat_model::{Failure, FailureKind, sync::Value};
use serde::{Deserialize, Serialize};

use super::Mirror;
use crate::act::{path_failure, sqlite_failure};

/// So many rows of a table are named.
const NAMED: usize = 10;

/// How saved rows of a table stand to the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Standings {
    /// The table.
    pub table: String,
    /// Rows that the file lacks: they are inserted.
    pub new: u64,
    /// Rows that the file has already.
    pub same: u64,
    /// Rows of which the file has other values: they stay as they are there.
    pub different: u64,
    /// Rows that the file cannot hold.
    pub unfit: u64,
    /// Columns that the file does not have: their values stay in the saved file.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub columns_left_out: BTreeSet<String>,
    /// Keys of some of the new and the different ones, and why rows are unfit.
    pub named: Vec<String>,
}

impl Standings {
    /// One sentence.
    pub fn sentence(&self) -> String {
        let left_out = self.columns_left_out.iter().cloned().collect::<Vec<_>>().join(", ");
        let left_out =
            if left_out.is_empty() { left_out } else { format!("; without {left_out}, which the file does not have") };
        format!(
            "{}: {} rows that the file lacks, {} with other values there, which stay, {} that it has, {} that it cannot hold: {}{left_out}",
            self.table,
            self.new,
            self.different,
            self.same,
            self.unfit,
            self.named.join("; ")
        )
    }

    fn count(&mut self, table: Option<&TableShape>, row: &NamedRow, standing: &Standing) {
        let key = table.map(|table| shown(table, row)).unwrap_or_default();
        let named = match standing {
            Standing::New => {
                self.new += 1;
                Some(format!("new {key}"))
            }
            Standing::Same => {
                self.same += 1;
                None
            }
            Standing::Different => {
                self.different += 1;
                Some(format!("other values {key}"))
            }
            Standing::Unfit(why) => {
                self.unfit += 1;
                Some(why.clone())
            }
        };
        if self.named.len() < NAMED {
            self.named.extend(named.filter(|named| !self.named.contains(named)));
        }
    }
}

fn shown(table: &TableShape, row: &NamedRow) -> String {
    let value = |name: &str| row.iter().find(|(its, _)| its == name).map(|(_, value)| value);
    let parts = table.key_names().into_iter().map(|name| match value(name) {
        Some(Value::Text(text)) => format!("{name}={text}"),
        Some(value) => format!("{name}={}", serde_json::to_string(value).unwrap_or_default()),
        None => format!("{name}=?"),
    });
    parts.collect::<Vec<_>>().join(",")
}

/// A line of a file of saved rows.
#[derive(Deserialize)]
struct Line {
    table: String,
    row: serde_json::Map<String, serde_json::Value>,
}

/// What the cloud calls a value, as the file may hold it; its column turns text of digits into a number where it holds numbers.
fn value(declared: &str, value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(is) => Value::Integer(i64::from(is)),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Integer(whole),
            (None, Some(real)) => Value::Real(real),
            (None, None) => Value::Text(number.to_string()),
        },
        serde_json::Value::String(text) => {
            let is_blob = declared.is_empty() || declared.to_ascii_uppercase().contains("BLOB");
            match text.strip_prefix("\\x").filter(|_| is_blob).and_then(bytes) {
                Some(blob) => Value::Blob { blob, garbled: false },
                None => Value::Text(text),
            }
        }
        other @ (serde_json::Value::Array(_) | serde_json::Value::Object(_)) => Value::Text(other.to_string()),
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// Rows of a table, without what the file has no column for.
#[derive(Default)]
struct Saved {
    rows: Vec<NamedRow>,
    left_out: BTreeSet<String>,
}

impl Saved {
    fn counted(&self, name: &str, table: Option<&TableShape>, stood: &[Standing]) -> Standings {
        let columns_left_out = self.left_out.clone();
        let mut standings = Standings { table: name.to_owned(), columns_left_out, ..Standings::default() };
        self.rows.iter().zip(stood).for_each(|(row, standing)| standings.count(table, row, standing));
        standings
    }

    fn without_table(&self, name: &str) -> Standings {
        self.counted(name, None, &vec![Standing::Unfit("the file has no such table".to_owned()); self.rows.len()])
    }
}

impl Mirror {
    /// How rows that were saved out of the cloud stand to the file. Nothing is changed.
    pub(crate) fn look_at_saved(&mut self, file: &Path) -> Result<Vec<Standings>, Failure> {
        let shapes = self.shapes()?.clone();
        let outbox = self.outbox()?;
        let stand = |(name, saved): (String, Saved)| {
            let table = shapes.table(&name);
            let stood = match table {
                Some(table) => outbox.stand(table, &saved.rows).map_err(|error| sqlite_failure(&error))?,
                None => return Ok(saved.without_table(&name)),
            };
            Ok(saved.counted(&name, table, &stood))
        };
        read(file, &shapes)?.into_iter().map(stand).collect()
    }

    /// Inserts rows that were saved out of the cloud and that the file lacks: all or none.
    pub(crate) fn merge(&mut self, file: &Path) -> Result<Vec<Standings>, Failure> {
        let shapes = self.shapes()?.clone();
        let saved = read(file, &shapes)?;
        let known: Vec<(&TableShape, &Saved)> =
            saved.iter().filter_map(|(name, saved)| Some((shapes.table(name)?, saved))).collect();
        let rows: Vec<(&TableShape, &[NamedRow])> =
            known.iter().map(|(table, saved)| (*table, saved.rows.as_slice())).collect();
        let stood = self.outbox()?.merge(&rows).map_err(|error| {
            let failure = sqlite_failure(&error);
            failure
                .hint("nothing was changed; lifeboat sync merge FILE --dry-run lists the rows, the file can be edited")
        })?;
        let each =
            known.iter().zip(&stood).map(|((table, saved), stood)| saved.counted(&table.name, Some(table), stood));
        // What stays outside is told as well.
        let others = saved.iter().filter(|(name, _)| shapes.table(name).is_none());
        Ok(each.chain(others.map(|(name, saved)| saved.without_table(name))).collect())
    }
}

/// The rows of a file, by table.
fn read(file: &Path, shapes: &Shapes) -> Result<BTreeMap<String, Saved>, Failure> {
    let body = files::read(file).map_err(|error| path_failure(&error))?;
    let mut tables: BTreeMap<String, Saved> = BTreeMap::new();
    for (at, line) in body.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let line: Line = serde_json::from_slice(line).map_err(|error| {
            let message = format!("line {} of {} is no row that was saved out of a cloud", at + 1, file.display());
            let failure = Failure::new(FailureKind::Usage, message).because(error.to_string());
            failure.hint("level 5 writes such files, and says where; lifeboat journal show names them")
        })?;
        let shape = shapes.table(&line.table);
        let saved = tables.entry(line.table).or_default();
        let mut row = NamedRow::new();
        for (name, its) in line.row {
            let column = shape.map(|shape| shape.columns.iter().find(|column| column.name == name));
            match column {
                Some(Some(column)) => row.push((name, value(&column.declared, its))),
                Some(None) => drop(saved.left_out.insert(name)),
                None => {}
            }
        }
        saved.rows.push(row);
    }
    Ok(tables)
}
