//! One table of a backup beside the live one: laid there, compared, the rows that are missing written down.

use std::io;

use lifeboat_io::database::postgres::{
    self, ChangedTable, CommonColumns, KeepRows, MakeTable, PgError, RowChanges, Session, Side, TableState,
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
    let sources = OutOfVault::new(vault, snapshot, part.path, context.stop.clone());
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

/// Makes a table again that is gone.
pub(super) fn make(
    hands: &Hands,
    what: &What<'_>,
    unless_there: bool,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let stored = Stored { vault: what.vault, backup: what.backup, resource: what.resource };
    let (part, facts) = stored.manifest(hands)?;
    let vault = hands.vaults.open(what.vault)?;
    let snapshot = summary::snapshot_of(&vault, what.backup)?;
    let sources = OutOfVault::new(vault, snapshot, part.path, context.stop.clone());
    let mut entries = stored.entries(&sources)?;
    let mut session = Session::open(&hands.vaults.database(what.url)?, context.stop).map_err(|error| failed(&error))?;
    super::settle_tablespaces(&mut session, &mut entries, context)?;
    if unless_there && postgres::table_exists(&mut session, what.table).map_err(|error| failed(&error))? {
        return Ok(json!({ "table": what.table, "there": true }));
    }
    let ask = MakeTable { title: what.table, facts: &facts, entries: &entries, condition: what.condition };
    let made = postgres::make_table(&mut session, &ask, &sources).map_err(|error| failed(&error))?;
    made.notes.iter().for_each(|note| context.watch.note(note));
    context.watch.note(&format!("{} was made, with {} rows.", what.table, made.state.rows));
    Ok(json!({ "table": what.table, "rows": made.state.rows, "digest": made.state.digest, "notes": made.notes }))
}

/// Drops a table that was made so, while it holds what it was made with.
pub(super) fn unmake(
    hands: &Hands,
    what: &What<'_>,
    made: Option<&(u64, String)>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let (_part, facts) = what.stored(hands)?;
    let mut session = Session::open(&hands.vaults.database(what.url)?, context.stop).map_err(|error| failed(&error))?;
    let made = made.map(|(rows, digest)| TableState { rows: *rows, digest: digest.clone() });
    postgres::drop_table(&mut session, what.table, &facts, made.as_ref()).map_err(|error| postgres_failure(&error))?;
    Ok(json!({ "dropped": what.table }))
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
        let changes = RowChanges { inserted: diff.missing, updated: diff.changed, deleted: 0 };
        let (title, rows_then, columns_then) = (what.table.to_owned(), Some(facts.rows.rows), columns.clone());
        let table = ChangedTable { title, rows_then, changes, columns, columns_then, key, ..ChangedTable::default() };
        let broken = |source: io::Error| postgres_failure(&PgError::Ours { doing: "keep rows".into(), source });
        if diff.missing + diff.changed > 0 {
            keeping.begin(&table).map_err(broken)?;
            let mut take = |copy: u64, row: &[u8]| keeping.row(RowKind::Inserted, copy, row);
            postgres::missing_beside(&mut session, &side, &mut take).map_err(|error| failed(&error))?;
            // What is wanted, and what is there now.
            let mut take = |is_wanted: bool, row: &[u8]| {
                keeping.row(if is_wanted { RowKind::Updated } else { RowKind::Before }, 1, row)
            };
            postgres::changed_beside(&mut session, &side, &mut take).map_err(|error| failed(&error))?;
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
