//! Rows that a rollback took out of what is live: what is kept of them with the operation, so that they can be looked at
//! and brought back.

use serde::{Deserialize, Serialize};

use crate::{
    id::{BackupId, OperationId},
    resource::ResourceName,
    time::Timestamp,
};

/// The schema tag of a salvage's manifest. Fields are only added within one number.
pub const SALVAGE_SCHEMA: &str = "lifeboat/salvage@1";

/// What became of a row between a backup and the moment it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowKind {
    /// It is new.
    Inserted,
    /// It is other than it was; as it is now.
    Updated,
    /// The same, as it was then.
    Before,
    /// It is gone; as it was then.
    Deleted,
}

impl RowKind {
    /// Its word in files: `inserted`, `updated`, `before`, `deleted`.
    pub fn word(self) -> &'static str {
        match self {
            RowKind::Inserted => "inserted",
            RowKind::Updated => "updated",
            RowKind::Before => "before",
            RowKind::Deleted => "deleted",
        }
    }

    /// Whether it is a row as it is now; else as it was then.
    pub fn is_now(self) -> bool {
        matches!(self, RowKind::Inserted | RowKind::Updated)
    }
}

/// What an operation keeps of rows that left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salvage {
    /// [`SALVAGE_SCHEMA`].
    pub schema: String,
    /// Which operation.
    pub operation: OperationId,
    /// Which resource.
    pub resource: ResourceName,
    /// What it was compared with.
    pub backup: BackupId,
    /// Rows written after this instant.
    pub since: Timestamp,
    /// When they were kept.
    pub at: Timestamp,
    /// Tables that were not as in the backup.
    pub tables: Vec<SalvagedTable>,
    /// The file that tells whose rows they are, when columns for that are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affected: Option<String>,
}

/// What is kept of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalvagedTable {
    /// `schema.name`, quoted where SQL needs it.
    pub table: String,
    /// Rows that are not in the backup.
    pub inserted: u64,
    /// Rows that are other than in the backup.
    pub updated: u64,
    /// Rows of the backup that were gone.
    pub deleted: u64,
    /// Columns of rows as they were last, in order, quoted where SQL needs it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Columns of rows as they were in the backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns_then: Vec<String>,
    /// Columns that tell rows apart; none when nothing does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Columns that the backup does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_now: Vec<String>,
    /// The file for people: CSV with a header, the kind of change in front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<String>,
    /// Rows as they were last, in COPY's text format: kind, copy, then `columns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// Rows as they were in the backup: kind, copy, then `columns_then`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
}

impl Salvage {
    /// Rows in all: inserted, updated, deleted.
    pub fn counts(&self) -> (u64, u64, u64) {
        let add = |sum: (u64, u64, u64), table: &SalvagedTable| {
            (sum.0 + table.inserted, sum.1 + table.updated, sum.2 + table.deleted)
        };
        self.tables.iter().fold((0, 0, 0), add)
    }
}

/// What became of the rows that were to be brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroughtBack {
    /// Table by table, those that others refer to first.
    pub tables: Vec<BroughtBackTable>,
    /// What a person should know, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What became of the rows of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroughtBackTable {
    /// `schema.name`.
    pub table: String,
    /// Rows that were inserted.
    pub inserted: u64,
    /// Rows that were there already, with the same values.
    pub there: u64,
    /// Rows that were not, each with its reason; the first of them when there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedRow>,
    /// How many there are of those.
    #[serde(default)]
    pub refused_in_all: u64,
    /// Why no row of the table can be brought back, when none can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrepresentable: Option<String>,
    /// Columns that are not there any more, and how many values are left out with each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<(String, u64)>,
    /// Rows that had changed: never written over unasked.
    #[serde(default)]
    pub changed: u64,
    /// Rows that had gone: never taken away unasked.
    #[serde(default)]
    pub deleted: u64,
    /// Which rows of the file were inserted, from 1 on: what an undo takes away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<u64>,
    /// Rows that had changed and were written over.
    #[serde(default)]
    pub overwritten: u64,
    /// Rows that had changed and could be: what came back is still what the backup has.
    #[serde(default)]
    pub overwritable: u64,
    /// Rows that had gone and were taken away.
    #[serde(default)]
    pub removed: u64,
    /// Rows that had gone and could be taken away.
    #[serde(default)]
    pub removable: u64,
    /// Rows that had changed or gone and were touched since they came back, each with its reason; the first of them when
    /// there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<RefusedRow>,
    /// How many there are of those.
    #[serde(default)]
    pub conflicts_in_all: u64,
    /// Which rows were written over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overwritten_rows: Vec<u64>,
    /// Which rows were taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_rows: Vec<u64>,
}

/// How a table of a backup, laid beside the live one, differs from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideDiff {
    /// Rows that only the backup has.
    pub missing: u64,
    /// Rows with other values.
    pub changed: u64,
    /// Rows that only the live table has.
    pub only_live: u64,
    /// Rows with the same values.
    pub same: u64,
    /// Whether there is no such live table.
    #[serde(default)]
    pub is_gone: bool,
    /// Columns that only the backup has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// A row that was not brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Its key, or all of it where nothing tells it apart.
    pub row: String,
    /// Why not.
    pub why: String,
}

impl BroughtBack {
    /// Rows in all: inserted, there already, refused.
    pub fn counts(&self) -> (u64, u64, u64) {
        let add = |sum: (u64, u64, u64), table: &BroughtBackTable| {
            (sum.0 + table.inserted, sum.1 + table.there, sum.2 + table.refused_in_all)
        };
        self.tables.iter().fold((0, 0, 0), add)
    }

    /// Rows that had changed or gone, in all: written over, taken away, in conflict.
    pub fn counts_over(&self) -> (u64, u64, u64) {
        let add = |sum: (u64, u64, u64), table: &BroughtBackTable| {
            (sum.0 + table.overwritten, sum.1 + table.removed, sum.2 + table.conflicts_in_all)
        };
        self.tables.iter().fold((0, 0, 0), add)
    }
}
