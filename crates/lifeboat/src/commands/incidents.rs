//! `incident`: that something is wrong, that it is over, that it was reviewed.

use lifeboat_model::{ExitCode, Failure, FailureKind, Incident, IncidentStep, OperationId, Request};
use serde_json::json;

use super::{App, Session, carry::carry_out, requests::dry};
use crate::{
    cli::records::{IncidentCommand, IncidentStepArgs},
    error::Done,
    ui::{table::Table, when, words},
};

pub fn run(app: &App, command: &IncidentCommand) -> Done {
    let session = app.open(&[])?;
    let (about, dry_run) = match command {
        IncidentCommand::List => return list(app, &session),
        IncidentCommand::Show { incident } => return show(app, &session, incident.as_deref()),
        IncidentCommand::Done { item, note, category, of, run } => {
            let of = of.as_deref().map(|word| session.engine.look().find_operation(word)).transpose()?;
            let request = session.engine.tick_off(item, of.as_ref(), category.as_deref(), note)?;
            return carry_out(app, &session, &session.engine.plan(&request)?, dry(run.dry_run));
        }
        IncidentCommand::Open { title, since, provider_sla, run } => {
            let now = app.io.clock.now();
            let since = since.as_deref().map(|text| when::parse(text, now, &session.zone)).transpose()?;
            let (title, provider_sla) = (title.clone(), provider_sla.clone());
            (IncidentStep::Open { title, since: since.unwrap_or(now), provider_sla }, run.dry_run)
        }
        IncidentCommand::Close { step: args, leave_off } => {
            let incident = find(&session, args, "open")?;
            let (note, leave_off) = (args.note.clone(), *leave_off);
            (IncidentStep::Close { incident, note, leave_off }, args.run.dry_run)
        }
        IncidentCommand::Review(args) => {
            let incident = find(&session, args, "closed")?;
            (IncidentStep::Review { incident, note: args.note.clone() }, args.run.dry_run)
        }
    };
    let is_review = matches!(about, IncidentStep::Review { .. });
    let plan = session.engine.plan(&Request::Incident { about })?;
    let code = carry_out(app, &session, &plan, dry(dry_run))?;
    if is_review {
        let now = app.io.clock.now();
        for one in session.engine.open_deadlines()? {
            app.ui.talk(&format!("Still {}\n", words::one_line(&one.sentence(now))));
        }
    }
    Ok(code)
}

/// An incident, and what is due after it and the rollbacks in it; of all, when nobody says which.
fn show(app: &App, session: &Session, named: Option<&str>) -> Done {
    let incidents = session.engine.incidents()?;
    let incident = match named {
        None => incidents.last(),
        Some(start) => Some(incidents.iter().find(|one| one.id.as_str().starts_with(start)).ok_or_else(|| {
            Failure::new(FailureKind::Usage, format!("there is no incident {start}")).hint("lifeboat incident list")
        })?),
    };
    let mut due = session.engine.deadlines()?;
    due.retain(|one| named.is_none() || one.incident.as_ref() == incident.map(|incident| &incident.id));
    let code = if due.iter().any(|one| one.overdue) { ExitCode::ActionAdvised } else { ExitCode::Ok };
    if app.ui.json.is_some() {
        let state = incident.map(Incident::state);
        let fields = json!({ "incident": incident, "state": state, "due": due, "exit_code": code as u8 });
        app.ui.document("lifeboat/incident-shown@1", fields)?;
        return Ok(code);
    }
    if let Some(incident) = incident {
        let since = words::instant(incident.since, &session.zone);
        let (title, state) = (words::one_line(&incident.title), incident.state());
        app.ui.out(&format!("{}: {title}, since {since}: {state}\n", incident.id))?;
    }
    if due.is_empty() {
        app.ui.talk("Nothing is due.\n");
        return Ok(code);
    }
    let mut table = Table::new(&["DUE (UTC)", "STANDS", "ITEM", "WHAT", "AFTER"]);
    for one in &due {
        let stands = match &one.done {
            Some(done) => {
                let note = words::one_line(&done.note);
                format!("done {} by {}: {note}", words::short_instant(done.at), done.by)
            }
            None if one.overdue => "OVERDUE".to_owned(),
            None => "open".to_owned(),
        };
        table.row([words::short_instant(one.due), stands, one.key.clone(), one.title.clone(), one.of.to_string()]);
    }
    app.ui.out(&table.render(""))?;
    Ok(code)
}

/// The named incident; without a name, the only one in that state.
fn find(session: &Session, args: &IncidentStepArgs, state: &str) -> Result<OperationId, Failure> {
    let incidents = session.engine.incidents()?;
    let meant = |incident: &&Incident| match &args.incident {
        Some(start) => incident.id.as_str().starts_with(start.as_str()),
        None => incident.state() == state,
    };
    let mut found = incidents.iter().filter(meant);
    let refused = |message: String| Failure::new(FailureKind::Usage, message).hint("lifeboat incident list");
    match (found.next(), found.next(), &args.incident) {
        (Some(one), None, _) => Ok(one.id.clone()),
        (Some(_), Some(_), _) => Err(refused("several incidents could be meant; name one".to_owned())),
        (None, _, Some(start)) => Err(refused(format!("there is no incident {start}"))),
        (None, _, None) => Err(refused(format!("no incident is {state}"))),
    }
}

fn list(app: &App, session: &Session) -> Done {
    let incidents = session.engine.incidents()?;
    let backups = session.engine.backups()?;
    let held = |incident: &Incident| {
        backups.iter().filter(|backup| incident.holds(backup.taken_at.max(backup.recovery_point)).is_some()).count()
    };
    if app.ui.json.is_some() {
        let one = |incident: &Incident| json!({ "incident": incident, "state": incident.state(), "holds_backups": held(incident) });
        let all: Vec<_> = incidents.iter().map(one).collect();
        app.ui.document("lifeboat/incidents@1", json!({ "incidents": all, "exit_code": 0 }))?;
        return Ok(ExitCode::Ok);
    }
    if incidents.is_empty() {
        app.ui.talk("There is no incident.\n");
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["INCIDENT", "SINCE (UTC)", "STATE", "HOLDS", "WHAT"]);
    for incident in &incidents {
        table.row([
            incident.id.to_string(),
            words::short_instant(incident.since),
            incident.state().to_owned(),
            words::count(held(incident) as u64, "backup", "backups"),
            match &incident.provider_sla {
                Some(sla) => {
                    format!("{} (the provider promises {})", words::one_line(&incident.title), words::one_line(sla))
                }
                None => words::one_line(&incident.title),
            },
        ]);
    }
    app.ui.out(&table.render(""))?;
    Ok(ExitCode::Ok)
}
