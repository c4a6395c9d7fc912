//! `provider`: a restore that the provider of a database carries out, and what there is when no backup of ours is.

use lifeboat_engine::provider::Routes;
use lifeboat_io::files;
use lifeboat_model::{ExitCode, Failure, FailureKind, OperationId, ProviderRestore, ProviderStep, Request};
use serde_json::{Value, json};

use super::{App, Session, carry::carry_out, requests::dry};
use crate::{
    cli::records::{ProviderCommand, ProviderRequestArgs},
    error::Done,
    ui::{table::Table, when, words},
};

pub fn run(app: &App, command: &ProviderCommand) -> Done {
    let named: Vec<String> = match command {
        ProviderCommand::Ask { resource, .. } | ProviderCommand::Routes { resource } => vec![resource.clone()],
        ProviderCommand::List | ProviderCommand::Show { .. } => vec![],
        ProviderCommand::Ticket { .. } | ProviderCommand::Outcome { .. } => vec![],
    };
    let session = app.open(&named)?;
    let resource = || {
        let name = session.named.first().cloned();
        name.ok_or_else(|| Failure::new(FailureKind::Usage, "name a database").hint("lifeboat provider routes db"))
    };
    let (about, run) = match command {
        ProviderCommand::List => return list(app, &session),
        ProviderCommand::Show { request } => return show(app, &session, request.as_deref()),
        ProviderCommand::Routes { .. } => return routes(app, &session.engine.routes(&resource()?)?),
        ProviderCommand::Ask { to, reason, project, file, run, .. } => {
            let to = when::parse(to, app.io.clock.now(), &session.zone)?;
            let about =
                ProviderStep::Ask { resource: resource()?, project: project.clone(), to, reason: reason.clone() };
            return ask(app, &session, &Request::Provider { about }, file.as_deref(), run.dry_run);
        }
        ProviderCommand::Ticket { ticket, args } => {
            let request = find(&session, args)?;
            (ProviderStep::Ticket { request, ticket: ticket.clone() }, &args.run)
        }
        ProviderCommand::Outcome { restored, not_restored: _, note, args } => {
            let request = find(&session, args)?;
            (ProviderStep::Outcome { request, restored: *restored, note: note.clone() }, &args.run)
        }
    };
    let plan = session.engine.plan(&Request::Provider { about })?;
    carry_out(app, &session, &plan, dry(run.dry_run))
}

/// Puts the request on record, and hands its text over.
fn ask(app: &App, session: &Session, request: &Request, file: Option<&std::path::Path>, dry_run: bool) -> Done {
    if let Some(taken) = file.filter(|path| files::exists(path)) {
        let failure = Failure::new(FailureKind::Usage, format!("{} exists already", taken.display()));
        return Err(failure.hint("name a file that is not there yet: --file FILE").into());
    }
    let known: Vec<OperationId> = session.engine.provider_restores()?.into_iter().map(|one| one.id).collect();
    let plan = session.engine.plan(request)?;
    let code = carry_out(app, session, &plan, dry(dry_run))?;
    if dry_run {
        return Ok(code);
    }
    let new = session.engine.provider_restores()?.into_iter().rev().find(|one| !known.contains(&one.id));
    let Some(new) = new else { return Ok(code) };
    let text = session.engine.provider_request(&new.id)?;
    if let Some(path) = file {
        files::write(path, text.as_bytes()).map_err(|error| {
            let failure = Failure::new(FailureKind::Outside, format!("{} cannot be written", path.display()));
            let hint = format!("it is on record all the same: lifeboat provider show {}", new.id);
            failure.because(error.to_string()).hint(hint)
        })?;
    }
    if app.ui.json.is_none() {
        app.ui.out(&format!("\n{text}"))?;
        app.ui.talk(&format!(
            "\nSend it. It is open until its end is on record:\n  lifeboat provider ticket NUMBER --request {0}{1}\n  lifeboat provider \
             outcome --restored --note \"...\" --request {0}{1}\n",
            new.id,
            app.again()
        ));
    }
    Ok(code)
}

/// The named restore; without a name, the only one that is open.
fn find(session: &Session, args: &ProviderRequestArgs) -> Result<OperationId, Failure> {
    named(session, args.request.as_deref(), "open")
}

fn named(session: &Session, start: Option<&str>, state: &str) -> Result<OperationId, Failure> {
    let all = session.engine.provider_restores()?;
    let meant = |one: &&ProviderRestore| match start {
        Some(start) => one.id.as_str().starts_with(start),
        None => one.state() == state,
    };
    let mut found = all.iter().filter(meant);
    let refused = |message: String| Failure::new(FailureKind::Usage, message).hint("lifeboat provider list");
    match (found.next(), found.next(), start) {
        (Some(one), None, _) => Ok(one.id.clone()),
        (Some(_), Some(_), _) => Err(refused("several restores could be meant; name one".to_owned())),
        (None, _, Some(start)) => Err(refused(format!("no restore {start} was asked of a provider"))),
        (None, _, None) => Err(refused(format!("no restore by a provider is {state}"))),
    }
}

fn show(app: &App, session: &Session, start: Option<&str>) -> Done {
    let id = named(session, start, "open")?;
    let text = session.engine.provider_request(&id)?;
    match app.ui.json.is_some() {
        true => app.ui.document("lifeboat/provider-request@1", json!({ "request": id, "text": text }))?,
        false => app.ui.out(&text)?,
    }
    Ok(ExitCode::Ok)
}

fn list(app: &App, session: &Session) -> Done {
    let all = session.engine.provider_restores()?;
    if app.ui.json.is_some() {
        let one = |restore: &ProviderRestore| json!({ "restore": restore, "state": restore.state() });
        let restores: Vec<Value> = all.iter().map(one).collect();
        app.ui.document("lifeboat/provider-restores@1", json!({ "restores": restores }))?;
        return Ok(ExitCode::Ok);
    }
    if all.is_empty() {
        app.ui.talk("Nothing was asked of a provider.\n");
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["REQUEST", "ASKED (UTC)", "RESOURCE", "BACK TO (UTC)", "TICKET", "STATE"]);
    for one in &all {
        table.row([
            one.id.to_string(),
            words::short_instant(one.asked_at),
            one.resource.to_string(),
            words::short_instant(one.to),
            words::one_line(one.ticket.as_deref().unwrap_or("-")),
            one.state().to_owned(),
        ]);
    }
    app.ui.out(&table.render(""))?;
    Ok(ExitCode::Ok)
}

fn routes(app: &App, routes: &Routes) -> Done {
    if app.ui.json.is_some() {
        let fields = serde_json::to_value(routes).map_err(|error| {
            Failure::new(FailureKind::Bug, "what there is cannot be written as JSON").because(error.to_string())
        })?;
        app.ui.document("lifeboat/routes@1", json!({ "routes": fields }))?;
        return Ok(ExitCode::Ok);
    }
    app.ui.out(&routes_told(routes, app.again()))?;
    Ok(ExitCode::Ok)
}

/// Four ways, in the order in which they lose least.
fn routes_told(routes: &Routes, again: &str) -> String {
    let name = &routes.resource;
    let mut text = format!(
        "Without a good backup of {name} ({}) there are four ways. Change nothing in it until you have chosen: lifeboat fence on {name}{again}\n",
        routes.place
    );
    text += "\n1. Backups that the platform makes by itself\n";
    text += &match (routes.provider, routes.way) {
        (Some(provider), Some(way)) => format!("   It runs at {provider}: {way}.\n"),
        _unknown => "   Its host is none that is known here. Ask who runs it for: snapshots of the disk, nightly dumps, a standby that lags.\n"
            .to_owned(),
    };
    text += &match &routes.kept {
        Ok(kept) if kept.is_empty() => "   On its server no database is kept from an earlier restore.\n".to_owned(),
        Ok(kept) => format!("   On its server is kept from earlier restores: {}.\n", kept.join(", ")),
        Err(why) => format!(
            "   Whether its server keeps databases of earlier restores is not known: {}\n",
            words::sentence(why)
        ),
    };
    text += &format!(
        "\n2. A restore by the provider to a point in time, from its WAL\n   lifeboat provider ask {name} --to \"2026-11-20 14:05\" --reason \"what \
         happened\" --file request.txt{again}\n   writes the request, and keeps it open until its end is on record. Ask at once: WAL is not kept for long.\n"
    );
    text += "\n3. Copies that are not this database's own, as a reference or to start from\n";
    let mut copies = Vec::new();
    for backup in &routes.doubtful {
        let why =
            backup.suspect.clone().unwrap_or_else(|| "an emergency backup, perhaps of the broken state".to_owned());
        copies.push(format!(
            "{} of {} ({why}): --from {}",
            backup.id,
            words::short_instant(backup.recovery_point),
            backup.id
        ));
    }
    for backup in &routes.elsewhere {
        let environment = &backup.scope.environment;
        copies.push(format!(
            "{} of {environment}, {}: lifeboat restore {name} --from {environment}{again}",
            backup.id,
            words::short_instant(backup.recovery_point)
        ));
    }
    for stray in &routes.strays {
        let (path, at) = (stray.path.display(), words::short_instant(stray.at));
        copies.push(format!("the dump {path} of {at}: lifeboat backups adopt {path} --resource {name}{again}"));
    }
    copies.extend(
        routes.copies.iter().map(|copy| format!("the second vault {copy}: its backups are in lifeboat status")),
    );
    text += &match copies.is_empty() {
        true => "   None is known here. A developer's database, a staging server, an export that somebody made: lifeboat backups adopt FILE.\n"
            .to_owned(),
        false => copies.iter().map(|copy| format!("   - {copy}\n")).collect::<String>(),
    };
    text += "\n4. Mending by hand what was done, from the app's own audit log\n";
    text += &match &routes.audit {
        Ok(None) => {
            format!("   It has none that is known by its name: lifeboat salvage scope {name} --table TABLE{again}\n")
        }
        Err(why) => format!("   It could not be asked: {}\n", words::sentence(why)),
        Ok(Some(scope)) => {
            let mut told = format!("   {} of the last 24 hours: {} rows\n", scope.table, scope.rows);
            for group in &scope.groups {
                let [what, action] = [&group.what, &group.action].map(|text| words::one_line(text));
                told += &format!("   - {what} {action}: {}\n", group.rows);
            }
            told + &format!("   The rows: lifeboat salvage scope {name}{again}\n")
        }
    };
    text
}
