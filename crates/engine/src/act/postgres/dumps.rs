//! Loading dumps that others made into a database of their own.

use std::{collections::BTreeMap, path::Path};

use lifeboat_io::{
    database::postgres::{self, DumpForm, PgError, Session},
    files,
};
use lifeboat_model::{BackupId, Content, Failure, FailureKind, Resource, Tri};
use serde_json::{Value, json};

use super::{beside, policy};
use crate::{
    act::{
        Hands,
        errors::{path_failure, postgres_failure},
        fetches, summary,
    },
    perform::Context,
};

/// Which dump, and into what.
pub(super) struct Dump<'a> {
    pub file: &'a Path,
    pub url: &'a str,
    pub database: &'a str,
    pub like: &'a str,
    pub resource: &'a Resource,
    pub vault: &'a str,
    pub newest: Option<&'a BackupId>,
}

/// Loads it, and refuses what holds no data where data should be.
pub(super) fn load(hands: &Hands, dump: &Dump<'_>, context: &Context<'_>) -> Result<Value, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let address = hands.vaults.database(dump.url)?;
    let form = postgres::dump_form(dump.file).map_err(failed)?;
    let staging = hands.state.staging(&context.operation.plan.id);
    let (text, form) = match form {
        DumpForm::Archive => {
            files::create_private_folder(&staging).map_err(|error| path_failure(&error))?;
            let text = staging.join("dump.sql");
            files::write_with_mode(&text, b"", 0o600).map_err(|error| path_failure(&error))?;
            let found = postgres::find_clients(&*hands.io.exec, &*hands.io.env, context.stop).map_err(failed)?;
            let newest = found.iter().max_by_key(|one| one.major).ok_or_else(|| {
                let failure =
                    Failure::new(FailureKind::Refused, "no pg_restore is installed here, and the dump is an archive");
                failure.hint("install the PostgreSQL clients, postgresql-client-16 for example")
            })?;
            postgres::archive_as_sql(newest, &*hands.io.exec, dump.file, &text, context.stop).map_err(failed)?;
            (text, DumpForm::Sql)
        }
        other => (dump.file.to_owned(), other),
    };
    let mut session = beside(&address, dump.database, context.stop)?;
    postgres::drop_database(&mut session, dump.database).map_err(failed)?;
    postgres::create_database_beside(&mut session, dump.database, dump.like).map_err(failed)?;
    drop(session);
    let inside = address.with_database(dump.database);
    let total = files::size(&text).ok().filter(|_| form == DumpForm::Sql);
    let progress = |done| context.watch.progress(done, total);
    let loaded = postgres::load_sql(&inside, &text, form, context.stop, &progress);
    files::remove_any(&staging).map_err(|error| path_failure(&error))?;
    let loaded = loaded
        .map_err(|error| postgres_failure(&error).while_doing(format!("{} cannot be adopted", dump.file.display())))?;
    loaded.notes.iter().for_each(|note| context.watch.note(note));

    let mut session = Session::open(&inside, context.stop).map_err(failed)?;
    let rows = postgres::count_rows(&mut session).map_err(failed)?;
    must_hold_data(hands, dump, &loaded, &rows, context)?;
    for check in postgres::check_database(&mut session).into_iter().filter(|check| check.outcome != Tri::Pass) {
        context.watch.note(&format!("{}: {}.", check.name, check.detail));
    }
    Ok(json!({
        "statements": loaded.statements, "tables": rows.len(), "rows": rows.values().sum::<u64>(), "notes": loaded.notes,
    }))
}

/// D-26: what is called a dump may hold the schema alone.
fn must_hold_data(
    hands: &Hands,
    dump: &Dump<'_>,
    loaded: &postgres::Loaded,
    rows: &BTreeMap<String, u64>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let file = dump.file.display();
    if rows.is_empty() {
        let failure = Failure::new(FailureKind::Refused, format!("{file} makes no table"));
        return Err(failure.hint("it is rows alone, or no dump of a database; make one with pg_dump DATABASE"));
    }
    let may_be_empty = dump.resource.may_be_empty.iter().any(|name| name == "*");
    if rows.values().all(|rows| *rows == 0) && !may_be_empty {
        let why = match loaded.brought_rows {
            0 => "it holds the definitions of tables and no rows: a dump of the schema alone",
            _ => "all of its tables are empty",
        };
        let failure = Failure::new(FailureKind::Refused, format!("{file} cannot be adopted: {why}"));
        return Err(failure.hint(
            "`supabase db dump` leaves rows out without --data-only; pg_dump DATABASE takes both; may_be_empty = [\"*\"] says that it is right so",
        ));
    }
    let lacking = policy(dump.resource, rows).into_iter().filter(|check| check.outcome == Tri::Fail);
    let lacking: Vec<String> = lacking.map(|check| format!("{}: {}", check.name, check.detail)).collect();
    if !lacking.is_empty() {
        let failure = Failure::new(FailureKind::Refused, format!("{file} cannot be adopted: {}", lacking.join("; ")));
        return Err(failure.hint("look for a dump that has it; critical_tables in lifeboat.toml says what is critical"));
    }
    let Some(newest) = dump.newest else { return Ok(()) };
    let manifest = summary::manifest(&hands.vaults.open(dump.vault)?, newest)?;
    let Content::Postgres(facts) = &fetches::part(&manifest, newest, &dump.resource.name)?.content else {
        return Ok(());
    };
    let had_rows = facts.tables.iter().filter(|(_, table)| table.rows.rows > 0).map(|(title, _)| title);
    let empty: Vec<&str> =
        had_rows.filter(|title| rows.get(*title).is_none_or(|rows| *rows == 0)).map(String::as_str).collect();
    if !empty.is_empty() {
        let list: Vec<&str> = empty.iter().take(10).copied().collect();
        let more = if empty.len() > list.len() { ", ..." } else { "" };
        context.watch.note(&format!(
            "{} tables have rows in {newest} and none in this dump: {}{more}.",
            empty.len(),
            list.join(", ")
        ));
    }
    Ok(())
}
