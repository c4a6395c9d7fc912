//! One table of a backup beside the live one: laid there, compared, the rows that are missing written down.

use std::io;

use lifeboat_io::database::postgres::{
    self, ChangedTable, CommonColumns, KeepRows, PgError, RowChanges, Session, Side,
};
use lifeboat_model::{
    BackupId, Failure, FailureKind, OperationId, ResourceName, RowKind, Salvage,
    postgres::PgTableFacts,
    salvage::{SALVAGE_SCHEMA, SideDiff},
};
use serde_json::{Value, json};

use super::{
    super::{Hands, errors::postgres_failure, summary},
    Stored,
    keeping::Keeping,
    streams::OutOfVault,
};
use crate::perform::Context;

/// A table of a backup, and where it is laid.
pub(super) struct What<'a> {
    pub url: &'a str,
    pub vault: &'a str,
    pub backup: &'a BackupId,
    pub resource: &'a ResourceName,
    pub table: &'a str,
    pub schema: &'a str,
    pub condition: Option<&'a str>,
}

impl What<'_> {
    fn stored(&self, hands: &Hands) -> Result<(lifeboat_model::ResourceManifest, PgTableFacts), Failure> {
        let stored = Stored { vault: self.vault, backup: self.backup, resource: self.resource };
        let (part, facts) = stored.manifest(hands)?;
        let table =
            facts.tables.get(self.table).cloned().ok_or_else(|| {
                Failure::new(FailureKind::Bug, format!("{} has no table {}", self.backup, self.table))
            })?;
        Ok((part, table))
    }

    fn side<'a>(&'a self, facts: &'a PgTableFacts) -> Side<'a> {
        Side { schema: self.schema, title: self.table, facts, condition: self.condition }
    }
}

/// Whatever a person's condition is refused for is told as theirs.
fn failed(error: &PgError) -> Failure {
    let failure = postgres_failure(error);
    match error.code() {
        Some(code) if code.starts_with("42") => failure.hint("check the table, and what --where says"),
        _ => failure,
    }
}

pub(super) fn lay(hands: &Hands, what: &What<'_>, context: &Context<'_>) -> Result<Value, Failure> {
    let (part, facts) = what.stored(hands)?;
    let vault = hands.vaults.open(what.vault)?;
    let snapshot = summary::snapshot_of(&vault, what.backup)?;
    let sources = OutOfVault { vault, snapshot, folder: part.path, stop: context.stop.clone() };
    let mut session = Session::open(&hands.vaults.database(what.url)?, context.stop).map_err(|error| failed(&error))?;
    let side = what.side(&facts);
    let rows = postgres::lay_beside(&mut session, &side, &sources).map_err(|error| failed(&error))?;
    context.watch.note(&format!("{rows} rows of {} are in {}.", what.backup, side.beside()));
    Ok(json!({ "table": side.beside(), "rows": rows }))
}

pub(super) fn drop(hands: &Hands, url: &str, schema: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let mut session = Session::open(&hands.vaults.database(url)?, context.stop).map_err(|error| failed(&error))?;
    postgres::drop_beside(&mut session, schema).map_err(|error| failed(&error))?;
    Ok(json!({ "dropped": schema }))
}

/// Compares, and writes down the rows that the live table lacks where they are to be inserted.
pub(super) fn compare(
    hands: &Hands,
    what: &What<'_>,
    keep: Option<&OperationId>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let (part, facts) = what.stored(hands)?;
    let side = what.side(&facts);
    let mut session = Session::open(&hands.vaults.database(what.url)?, context.stop).map_err(|error| failed(&error))?;
    let diff = postgres::compare_beside(&mut session, &side).map_err(|error| failed(&error))?;
    context.watch.note(&told(what.table, &diff));
    if let Some(operation) = keep {
        let folder = hands.state.salvage(operation);
        let mut keeping = Keeping::begin(&folder, &[])?;
        let common = postgres::common_columns(&mut session, &side).map_err(|error| failed(&error))?;
        let Some(CommonColumns { all: columns, key }) = common else {
            let failure =
                Failure::new(FailureKind::Refused, format!("there is no table {} to insert into", what.table));
            return Err(failure.hint("without --apply its rows are laid beside; or restore --into another database"));
        };
        let changes = RowChanges { inserted: diff.missing, ..RowChanges::default() };
        let (title, rows_then) = (what.table.to_owned(), Some(facts.rows.rows));
        let table = ChangedTable { title, rows_then, changes, columns, key, ..ChangedTable::default() };
        let broken = |source: io::Error| postgres_failure(&PgError::Ours { doing: "keep rows".into(), source });
        if diff.missing > 0 {
            keeping.begin(&table).map_err(broken)?;
            let mut take = |copy: u64, row: &[u8]| keeping.row(RowKind::Inserted, copy, row);
            postgres::missing_beside(&mut session, &side, &mut take).map_err(|error| failed(&error))?;
            KeepRows::end(&mut keeping).map_err(broken)?;
        }
        let salvage = Salvage {
            schema: SALVAGE_SCHEMA.to_owned(),
            operation: operation.clone(),
            resource: what.resource.clone(),
            backup: what.backup.clone(),
            since: part.recovery_point,
            at: hands.io.clock.now(),
            tables: Vec::new(),
            affected: None,
        };
        keeping.finish(salvage, &[table])?;
    }
    serde_json::to_value(&diff)
        .map_err(|error| Failure::new(FailureKind::Bug, "the result cannot be written").because(error.to_string()))
}

/// A comparison in a sentence.
fn told(table: &str, diff: &SideDiff) -> String {
    if diff.is_gone {
        return format!("There is no live table {table}; the backup has {} rows.", diff.missing);
    }
    let SideDiff { missing, changed, only_live, same, .. } = diff;
    let left_out = match diff.left_out.as_slice() {
        [] => String::new(),
        columns => format!(" Columns that are not there any more: {}.", columns.join(", ")),
    };
    format!(
        "{table}: {missing} rows are only in the backup, {changed} have other values, {only_live} are only live, {same} are \
         the same.{left_out}"
    )
}
