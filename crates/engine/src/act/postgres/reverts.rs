//! Applying migrations, and taking them back by their DOWN scripts: all of them or none, and never without what leaves.

use std::io;

use lifeboat_io::{
    Stop,
    database::postgres::{
        Address, ChangedTable, KeepLeaving, KeepRows, PgError, Session, applied_migrations, apply_migrations,
        rehearse_migrations, revert_migrations, values_in,
    },
};
use lifeboat_model::{
    Failure, FailureKind, Found, KeptFor, LossLine, Migration, PgAction, RowKind, Salvage, salvage::SALVAGE_SCHEMA,
};
use serde_json::{Value, json};

use super::{Hands, keeping::Keeping};
use crate::{act::errors::postgres_failure, perform::Context};

pub(super) fn perform(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<Value, Failure> {
    match action {
        PgAction::Rehearse { url, database, pending, statement_timeout_ms, at_least } => {
            let address = hands.vaults.database(url)?.with_database(database);
            let found = Session::open(&address, context.stop)
                .and_then(|mut session| rehearse_migrations(&mut session, pending, *statement_timeout_ms));
            let found = found.map_err(|error| postgres_failure(&error))?;
            if let Some(at_least) = at_least.filter(|at_least| !found.applies || found.class > *at_least) {
                let message = match found.applies {
                    false => "the migrations cannot be applied".to_owned(),
                    true => format!("the rehearsal says {}, and {} is wanted", found.class.word(), at_least.word()),
                };
                let failure = Failure::new(FailureKind::Refused, message);
                let failure = found.found.into_iter().fold(failure, Failure::because);
                return Err(failure.hint("mend the scripts, then: lifeboat migrate rehearse"));
            }
            Ok(json!({ "class": found.class, "found": found.found }))
        }
        PgAction::Migrate { url, ledger, pending, lock_timeout_ms, statement_timeout_ms } => {
            let limits = (*lock_timeout_ms, *statement_timeout_ms);
            let applied = Session::open(&hands.vaults.database(url)?, context.stop)
                .and_then(|mut session| apply_migrations(&mut session, ledger, pending, limits));
            let applied = applied.map_err(|error| {
                let names: Vec<&str> = pending.iter().map(|one| one.migration.name.as_str()).collect();
                postgres_failure(&error).while_doing(format!("{} were not applied, none of them", names.join(", ")))
            })?;
            Ok(json!({ "applied": applied, "ledger": ledger.to_string() }))
        }
        PgAction::Revert { url, ledger, migrations, lock_timeout_ms, statement_timeout_ms, keep } => {
            let address = hands.vaults.database(url)?;
            let limits = (*lock_timeout_ms, *statement_timeout_ms);
            let mut kept = keep.as_ref().map(|keep| Kept { hands, context, keep, keeping: None, whole: None });
            let reverted = Session::open(&address, context.stop).and_then(|mut session| {
                let keep = kept.as_mut().map(|kept| kept as &mut dyn KeepLeaving);
                revert_migrations(&mut session, ledger, migrations, limits, keep)
            });
            let reverted = reverted.map_err(|error| not_reverted(&error, migrations))?;
            let rows = kept.and_then(|kept| kept.whole).map(|salvage| told(&salvage, context));
            Ok(json!({ "reverted": reverted, "ledger": ledger.to_string(), "kept": rows }))
        }
        _other => Err(Failure::new(FailureKind::Bug, "this is about no migration")),
    }
}

fn not_reverted(error: &PgError, migrations: &[Migration]) -> Failure {
    let names: Vec<&str> = migrations.iter().map(|one| one.name.as_str()).collect();
    let failure = postgres_failure(error);
    failure.while_doing(format!("the DOWN scripts of {} were not run, none of them", names.join(", ")))
}

fn told(salvage: &Salvage, context: &Context<'_>) -> Value {
    let (created, changed, _) = salvage.counts();
    if created + changed > 0 {
        context.watch.note(&format!(
            "{created} rows left with the DOWN scripts, and values in {changed} more; they are kept: lifeboat salvage show {}",
            context.operation.id
        ));
    }
    json!({ "rows": created, "values": changed, "tables": salvage.tables.len() })
}

/// What leaves, in the folder of the operation. It is begun only when something does: what an earlier try has kept, whose
/// transaction went through, stays.
struct Kept<'a> {
    hands: &'a Hands,
    context: &'a Context<'a>,
    keep: &'a KeptFor,
    keeping: Option<Keeping>,
    whole: Option<Salvage>,
}

impl Kept<'_> {
    fn keeping(&mut self) -> io::Result<&mut Keeping> {
        if self.keeping.is_none() {
            let folder = self.hands.state.salvage(&self.context.operation.id);
            let begun = Keeping::begin(&folder, &self.keep.resource.owner_columns);
            self.keeping = Some(begun.map_err(io::Error::other)?);
        }
        self.keeping.as_mut().ok_or_else(|| io::Error::other("nothing was begun"))
    }
}

impl KeepRows for Kept<'_> {
    fn begin(&mut self, table: &ChangedTable) -> io::Result<()> {
        self.keeping()?.begin(table)
    }

    fn row(&mut self, kind: RowKind, copy: u64, row: &[u8]) -> io::Result<()> {
        self.keeping()?.row(kind, copy, row)
    }

    fn end(&mut self) -> io::Result<()> {
        self.keeping()?.end()
    }
}

impl KeepLeaving for Kept<'_> {
    fn whole(&mut self, left: &[ChangedTable]) -> io::Result<()> {
        self.keeping()?;
        let Some(keeping) = self.keeping.take() else { return Ok(()) };
        let salvage = Salvage {
            schema: SALVAGE_SCHEMA.to_owned(),
            operation: self.context.operation.id.clone(),
            resource: self.keep.resource.name.clone(),
            backup: self.keep.backup.clone(),
            since: self.context.operation.started_at,
            at: self.hands.io.clock.now(),
            tables: Vec::new(),
            affected: None,
        };
        self.whole = Some(keeping.finish(salvage, left).map_err(io::Error::other)?);
        Ok(())
    }
}

/// It happened when the ledger says so: all of it is one transaction.
///
/// # Errors
/// The database cannot be asked.
pub(super) fn probe(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<(Found, Value), Failure> {
    let (url, ledger, names, applied) = match action {
        PgAction::Revert { url, ledger, migrations, .. } => {
            let names: Vec<&str> = migrations.iter().map(|one| one.version.as_str()).collect();
            (url, ledger, names, false)
        }
        PgAction::Migrate { url, ledger, pending, .. } => {
            let names: Vec<&str> = pending.iter().map(|one| one.migration.version.as_str()).collect();
            (url, ledger, names, true)
        }
        // A rehearsal leaves nothing behind.
        _other => return Ok((Found::NotStarted, Value::Null)),
    };
    let address = hands.vaults.database(url)?;
    let asked = Session::open(&address, context.stop).and_then(|mut session| applied_migrations(&mut session));
    let Some(now) = asked.map_err(|error| postgres_failure(&error))? else { return Ok((Found::Unknown, Value::Null)) };
    let word = if applied { "applied" } else { "reverted" };
    Ok(match names.iter().any(|name| now.versions.iter().any(|version| version == name)) == applied {
        false => (Found::NotStarted, Value::Null),
        true => (Found::Done, json!({ word: names, "ledger": ledger.to_string() })),
    })
}

/// The values in these columns, named as a script names them; a line for each table.
///
/// # Errors
/// The database cannot be asked.
pub(crate) fn values_leaving(address: &Address, columns: &[(String, String)]) -> Result<Vec<LossLine>, Failure> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let asked = Session::open(address, &Stop::default()).and_then(|mut session| {
        // Names are looked for where the app's own tool would.
        session.run("RESET search_path")?;
        let mut lines: Vec<LossLine> = Vec::new();
        for (table, column, count) in values_in(&mut session, columns)?.into_iter().filter(|(_, _, count)| *count > 0) {
            if !lines.iter().any(|line| line.table == table) {
                let rows = session.one(&format!("SELECT count(*) FROM {table}"))?.count(0);
                let (table, rows_now, rows_backup, created) = (table.clone(), Some(rows), Some(rows), Some(0));
                lines.push(LossLine { table, rows_now, rows_backup, created, differs: true, ..LossLine::default() });
            }
            for line in lines.iter_mut().filter(|line| line.table == table) {
                line.columns_leaving.push(column.clone());
                // A row may lose two values: so many rows at least.
                line.changed = line.changed.max(Some(count));
            }
        }
        Ok(lines)
    });
    asked.map_err(|error| postgres_failure(&error))
}

/// The rows in these tables, named as a script names them; what is no table is left out.
///
/// # Errors
/// The database cannot be asked.
pub(crate) fn rows_in(address: &Address, tables: &[String]) -> Result<Vec<LossLine>, Failure> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let asked = Session::open(address, &Stop::default()).and_then(|mut session| {
        // Names are looked for where the app's own tool would.
        session.run("RESET search_path")?;
        let mut lines = Vec::new();
        for table in tables {
            let named = format!("to_regclass('{}')", table.replace('\'', "''"));
            let title = session.ask(&format!(
                "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.oid = {named} AND c.relkind IN ('r', 'p')"
            ))?;
            let Some(title) = title.first().map(|row| row.text(0).to_owned()) else { continue };
            let rows = session.one(&format!("SELECT count(*) FROM {title}"))?.count(0);
            let (rows_now, created, changed) = (Some(rows), Some(rows), Some(0));
            lines.push(LossLine { table: title, rows_now, differs: true, created, changed, ..LossLine::default() });
        }
        Ok(lines)
    });
    asked.map_err(|error| postgres_failure(&error))
}
