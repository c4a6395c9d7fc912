//! `salvage`: rows that left with a restore or an undo, looked at, written out, brought back.

use std::path::Path;

use lifeboat_engine::{act::is_meant_table, scope::AuditAsk};
use lifeboat_io::files;
use lifeboat_model::{
    ExitCode, Failure, FailureKind, Request, Salvage, SalvagedTable,
    salvage::{BroughtBack, SALVAGE_SCHEMA},
};
use serde_json::{Value, json};

use super::{App, Session, carry::carry_out, requests::dry};
use crate::{
    cli::servers::{SalvageArgs, SalvageCommand},
    error::Done,
    ui::{table::Table, when, words},
};

/// Rows of a table that are shown.
const ROWS_SHOWN: usize = 20;
/// Refusals that are shown.
const REFUSED_SHOWN: usize = 20;

pub fn run(app: &App, args: &SalvageArgs) -> Done {
    if let SalvageCommand::Scope { resource, since, condition, table } = &args.command {
        return scope(app, resource, since.as_deref().unwrap_or("24h ago"), (condition.as_deref(), table.as_deref()));
    }
    let session = app.open(&[])?;
    match &args.command {
        SalvageCommand::Scope { .. } => Ok(ExitCode::Ok),
        SalvageCommand::List { operation: None } => list(app, &session),
        SalvageCommand::List { operation: Some(start) } => tables(app, &session, start),
        SalvageCommand::Show { operation, tables } => show(app, &session, operation, tables),
        SalvageCommand::Export { operation, tables, to } => export(app, &session, operation, tables, to),
        SalvageCommand::Apply { operation, tables, overwrite, deletes, run } => {
            apply(app, &session, (operation, tables), (*overwrite, *deletes), run.dry_run)
        }
    }
}

/// Rows of an audit log that are shown.
const NEWEST_SHOWN: u32 = 100;

fn scope(app: &App, word: &str, since: &str, (condition, table): (Option<&str>, Option<&str>)) -> Done {
    let session = app.open(&[word.to_owned()])?;
    let name = session.named.first().cloned().ok_or_else(|| Failure::new(FailureKind::Usage, "name a database"))?;
    let since = when::parse(since, app.io.clock.now(), &session.zone)?;
    let ask = AuditAsk { table, since: Some(since), condition, newest_max: NEWEST_SHOWN };
    let found = session.engine.audit_scope(&name, &ask)?;
    if app.ui.json.is_some() {
        let (scope, before) = found.map_or((None, None), |(scope, before)| (Some(scope), before.map(|one| one.id)));
        app.ui.document(
            "lifeboat/audit-scope@1",
            json!({ "resource": name, "since": since, "scope": scope, "before": before }),
        )?;
        return Ok(ExitCode::Ok);
    }
    let Some((scope, before)) = found else {
        app.ui.talk(&format!("{name} has no audit log that is known by its name; --table names it.\n"));
        return Ok(ExitCode::Ok);
    };
    let instant = |at: Option<lifeboat_model::Timestamp>| at.map(words::short_instant).unwrap_or_default();
    let mut all = Table::new(&["WHAT", "DONE", "ROWS", "FIRST (UTC)", "LAST (UTC)"]).right(&[2]);
    for group in &scope.groups {
        let [what, action] = [&group.what, &group.action].map(|text| words::one_line(text));
        all.row([what, action, group.rows.to_string(), instant(group.first), instant(group.last)]);
    }
    let mut text = format!(
        "{} of {name} since {}: {} rows\n{}",
        scope.table,
        words::short_instant(since),
        scope.rows,
        all.render("")
    );
    let newest = scope.newest.iter().map(|row| format!("  {}\n", words::one_line(&row.to_string())));
    if !scope.newest.is_empty() {
        text += &format!("The newest {}:\n{}", scope.newest.len(), newest.collect::<String>());
    }
    match (&before, scope.first) {
        (Some(backup), Some(first)) => {
            text += &format!(
                "Before the first of them ({}) the newest good backup is {}: lifeboat restore {name} --from {} --dry-run{}\n",
                words::short_instant(first),
                backup.id,
                backup.id,
                app.again()
            )
        }
        (None, Some(first)) => {
            text +=
                &format!("There is no good backup from before the first of them ({}).\n", words::short_instant(first))
        }
        (_, None) => {}
    }
    app.ui.out(&text)?;
    Ok(ExitCode::Ok)
}

fn find(session: &Session, start: &str) -> Result<(Salvage, std::path::PathBuf), Failure> {
    session.engine.salvage(&session.operation_named(start)?)
}

fn list(app: &App, session: &Session) -> Done {
    let all = session.engine.salvages()?;
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/salvages@1", json!({ "salvages": all }))?;
        return Ok(ExitCode::Ok);
    }
    let mut table =
        Table::new(&["OPERATION", "KEPT (UTC)", "RESOURCE", "INSERTED", "UPDATED", "DELETED"]).right(&[3, 4, 5]);
    for one in &all {
        let (inserted, updated, deleted) = one.counts();
        table.row([
            one.operation.to_string(),
            words::short_instant(one.at),
            one.resource.to_string(),
            inserted.to_string(),
            updated.to_string(),
            deleted.to_string(),
        ]);
    }
    match table.is_empty() {
        true => app.ui.talk("No operation keeps rows that left.\n"),
        false => app.ui.out(&table.render(""))?,
    }
    Ok(ExitCode::Ok)
}

fn document(salvage: &Salvage, folder: &Path) -> Result<Value, Failure> {
    let mut fields = serde_json::to_value(salvage).map_err(|error| {
        Failure::new(FailureKind::Bug, "what is kept cannot be written as JSON").because(error.to_string())
    })?;
    fields["folder"] = Value::from(folder.display().to_string());
    Ok(fields)
}

fn tables(app: &App, session: &Session, start: &str) -> Done {
    let (salvage, folder) = find(session, start)?;
    if app.ui.json.is_some() {
        app.ui.document(SALVAGE_SCHEMA, document(&salvage, &folder)?)?;
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["TABLE", "INSERTED", "UPDATED", "DELETED", "ONLY THERE"]).right(&[1, 2, 3]);
    for one in &salvage.tables {
        let only = match one.columns_then.is_empty() {
            true => "the table".to_owned(),
            false => one.only_now.join(", "),
        };
        let counts = [one.inserted, one.updated, one.deleted].map(|rows| rows.to_string());
        table.row(std::iter::once(one.table.clone()).chain(counts).chain([only]));
    }
    app.ui.out(&table.render(""))?;
    app.ui.talk(&format!(
        "Rows of {} written after {}, compared with {}; kept in {}.\n",
        salvage.resource,
        words::instant(salvage.since, &session.zone),
        salvage.backup,
        folder.display()
    ));
    Ok(ExitCode::Ok)
}

/// The tables that are meant; a word that means none is an error.
fn chosen<'a>(salvage: &'a Salvage, words: &[String]) -> Result<Vec<&'a SalvagedTable>, Failure> {
    if let Some(word) = words.iter().find(|word| !salvage.tables.iter().any(|one| is_meant_table(&one.table, word))) {
        let known: Vec<&str> = salvage.tables.iter().map(|one| one.table.as_str()).collect();
        let failure = Failure::new(FailureKind::Usage, format!("no rows of a table {word} are kept"));
        return Err(failure.hint(format!("there are: {}", known.join(", "))));
    }
    let is_meant = |one: &&SalvagedTable| words.is_empty() || words.iter().any(|word| is_meant_table(&one.table, word));
    Ok(salvage.tables.iter().filter(is_meant).collect())
}

fn show(app: &App, session: &Session, start: &str, tables: &[String]) -> Done {
    let (salvage, folder) = find(session, start)?;
    let mut documents = Vec::new();
    for one in chosen(&salvage, tables)? {
        let body = match &one.csv {
            Some(name) => files::read_text(&folder.join(name))
                .map_err(|error| Failure::from_error(FailureKind::Outside, &error))?,
            None => String::new(),
        };
        if app.ui.json.is_some() {
            documents.push(json!({ "table": one.table, "csv": body }));
            continue;
        }
        let counts = format!("{} inserted, {} updated, {} deleted", one.inserted, one.updated, one.deleted);
        app.ui.out(&format!("{}: {counts}\n", app.ui.paint.strong(&one.table)))?;
        let lines: Vec<&str> = body.lines().collect();
        for line in lines.iter().take(ROWS_SHOWN + 1) {
            app.ui.out(&format!("  {}\n", words::one_line(line)))?;
        }
        if lines.len() > ROWS_SHOWN + 1 {
            app.ui
                .out(&format!("  ... and more: {}\n", folder.join(one.csv.as_deref().unwrap_or_default()).display()))?;
        }
        if body.is_empty() && one.deleted > 0 {
            app.ui.out("  The rows that went are in the backup, and came back with it.\n")?;
        }
    }
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/salvaged-rows@1", json!({ "operation": salvage.operation, "tables": documents }))?;
    }
    Ok(ExitCode::Ok)
}

fn export(app: &App, session: &Session, start: &str, tables: &[String], to: &Path) -> Done {
    let (salvage, folder) = find(session, start)?;
    let chosen = chosen(&salvage, tables)?;
    let failed = |error: lifeboat_io::PathError| Failure::from_error(FailureKind::Refused, &error);
    files::create_new_private_folder(to).map_err(failed)?;
    let affected = salvage.affected.iter().filter(|_| tables.is_empty());
    let names: Vec<&String> = chosen.iter().filter_map(|one| one.csv.as_ref()).chain(affected).collect();
    for name in &names {
        files::copy(&folder.join(name), &to.join(name)).map_err(failed)?;
        files::set_mode(&to.join(name), 0o600).map_err(failed)?;
    }
    if app.ui.json.is_some() {
        let fields = json!({ "operation": salvage.operation, "to": to.display().to_string(), "files": names });
        app.ui.document("lifeboat/salvage-export@1", fields)?;
    } else {
        app.ui.out(&format!("{} in {}.\n", words::count(names.len() as u64, "file", "files"), to.display()))?;
    }
    app.ui.talk("It is what people wrote: keep it as the database is kept, and delete it when it is not needed.\n");
    Ok(ExitCode::Ok)
}

fn apply(
    app: &App,
    session: &Session,
    (start, tables): (&str, &[String]),
    (overwrite, deletes): (bool, bool),
    dry_run: bool,
) -> Done {
    let operation = session.operation_named(start)?;
    let request = Request::BringBack { operation: operation.clone(), tables: tables.to_vec(), overwrite, deletes };
    let plan = session.engine.plan(&request)?;
    let tried = session.engine.try_bring_back(&operation, tables, (overwrite, deletes))?;
    if dry_run {
        if app.ui.json.is_some() {
            let ((inserted, there, refused), (overwritten, removed, conflicts)) = (tried.counts(), tried.counts_over());
            let fields = json!({
                "dry_run": true, "operation": operation, "tables": tried.tables, "notes": tried.notes,
                "inserted": inserted, "there": there, "refused": refused, "overwritten": overwritten,
                "removed": removed, "conflicts": conflicts, "exit_code": 0
            });
            app.ui.document("lifeboat/brought-back@1", fields)?;
            return Ok(ExitCode::Ok);
        }
        app.ui.out(&shown(&tried))?;
        app.ui.out("\nNothing was changed.\n")?;
        return Ok(ExitCode::Ok);
    }
    if app.ui.json.is_none() {
        app.ui.talk(&shown(&tried));
    }
    carry_out(app, session, &plan, dry(false))
}

/// What would become of the rows, table by table.
fn shown(tried: &BroughtBack) -> String {
    let heads = ["TABLE", "INSERTED", "THERE", "REFUSED", "CHANGED", "OVERWRITTEN", "DELETED", "REMOVED", "CONFLICTS"];
    let mut table = Table::new(&heads).right(&[1, 2, 3, 4, 5, 6, 7, 8]);
    for one in &tried.tables {
        let came = [one.inserted, one.there, one.refused_in_all];
        let counts = [one.changed, one.overwritten, one.deleted, one.removed, one.conflicts_in_all];
        let counts = came.into_iter().chain(counts);
        table.row(std::iter::once(one.table.clone()).chain(counts.map(|rows: u64| rows.to_string())));
    }
    let mut text = table.render("");
    for one in &tried.tables {
        if let Some(why) = &one.unrepresentable {
            text += &format!("{}: not representable, {why}.\n", one.table);
        }
        for (column, values) in &one.left_out {
            text += &format!("{}: there is no column {column}; {values} values are left out.\n", one.table);
        }
        for row in one.refused.iter().take(REFUSED_SHOWN) {
            text +=
                &format!("{}: {} is refused: {}.\n", one.table, words::one_line(&row.row), words::one_line(&row.why));
        }
        if one.refused_in_all > REFUSED_SHOWN as u64 && one.unrepresentable.is_none() {
            text += &format!("{}: {} rows are refused in all.\n", one.table, one.refused_in_all);
        }
        for row in one.conflicts.iter().take(REFUSED_SHOWN) {
            let (row, why) = (words::one_line(&row.row), words::one_line(&row.why));
            text += &format!("{}: {row} is a conflict, and left as it is: {why}.\n", one.table);
        }
        if one.conflicts_in_all > REFUSED_SHOWN as u64 {
            text += &format!("{}: {} rows are in conflict in all.\n", one.table, one.conflicts_in_all);
        }
        let left = [
            (one.overwritable, "had changed", "--overwrite writes them over"),
            (one.removable, "had gone", "--deletes takes them away again"),
        ];
        for (rows, which, how) in left.iter().filter(|(rows, _, _)| *rows > 0) {
            text += &format!("{}: {rows} rows that {which} are left as they are; {how}.\n", one.table);
        }
    }
    tried.notes.iter().for_each(|note| text += &format!("{note}\n"));
    text
}
