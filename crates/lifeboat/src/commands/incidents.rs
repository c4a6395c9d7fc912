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
    let plan = session.engine.plan(&Request::Incident { about })?;
    carry_out(app, &session, &plan, dry(dry_run))
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
