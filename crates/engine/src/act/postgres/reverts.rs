//! Taking migrations back by their DOWN scripts.

use lifeboat_io::{
    Stop,
    database::postgres::{Address, Session, applied_migrations, rehearse_migrations, revert_migrations},
};
use lifeboat_model::{Failure, FailureKind, Found, LossLine, PgAction};
use serde_json::{Value, json};

use super::Hands;
use crate::{act::errors::postgres_failure, perform::Context};

/// All of them or none: a script that fails takes the others back with it.
pub(super) fn perform(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<Value, Failure> {
    if let PgAction::Rehearse { url, database, pending, statement_timeout_ms } = action {
        let address = hands.vaults.database(url)?.with_database(database);
        let found = Session::open(&address, context.stop)
            .and_then(|mut session| rehearse_migrations(&mut session, pending, *statement_timeout_ms));
        let found = found.map_err(|error| postgres_failure(&error))?;
        return Ok(json!({ "class": found.class, "found": found.found }));
    }
    let PgAction::Revert { url, ledger, migrations, lock_timeout_ms, statement_timeout_ms } = action else {
        return Err(Failure::new(FailureKind::Bug, "this takes no migration back"));
    };
    let address = hands.vaults.database(url)?;
    let limits = (*lock_timeout_ms, *statement_timeout_ms);
    let reverted = Session::open(&address, context.stop)
        .and_then(|mut session| revert_migrations(&mut session, ledger, migrations, limits));
    let reverted = reverted.map_err(|error| {
        let names: Vec<&str> = migrations.iter().map(|one| one.name.as_str()).collect();
        let failure = postgres_failure(&error);
        failure.while_doing(format!("the DOWN scripts of {} were not run, none of them", names.join(", ")))
    })?;
    Ok(json!({ "reverted": reverted, "ledger": ledger.to_string() }))
}

/// It happened when the ledger knows none of them any more: all of it is one transaction.
///
/// # Errors
/// The database cannot be asked.
pub(super) fn probe(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<(Found, Value), Failure> {
    // A rehearsal leaves nothing behind.
    let PgAction::Revert { url, ledger, migrations, .. } = action else { return Ok((Found::NotStarted, Value::Null)) };
    let address = hands.vaults.database(url)?;
    let asked = Session::open(&address, context.stop).and_then(|mut session| applied_migrations(&mut session));
    let Some(now) = asked.map_err(|error| postgres_failure(&error))? else { return Ok((Found::Unknown, Value::Null)) };
    let names: Vec<&str> = migrations.iter().map(|one| one.version.as_str()).collect();
    Ok(match names.iter().any(|name| now.versions.iter().any(|version| version == name)) {
        true => (Found::NotStarted, Value::Null),
        false => (Found::Done, json!({ "reverted": names, "ledger": ledger.to_string() })),
    })
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
