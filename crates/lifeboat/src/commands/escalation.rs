//! `escalation`: who is to be called when, and whose turn it is in the incident that is open.

use lifeboat_model::{
    ExitCode,
    escalation::{Answered, Contacts, ROLES, TIERS, Turn, turns},
    time::{Duration, show_duration},
};
use serde_json::json;

use super::{App, carry::carry_out, requests::dry};
use crate::{
    cli::people::{EscalationArgs, EscalationCommand},
    error::Done,
    ui::{table::Table, words},
};

pub fn run(app: &App, args: &EscalationArgs) -> Done {
    let Some(EscalationCommand::Ack { role, note, run }) = &args.command else { return show(app) };
    let session = app.open(&[])?;
    let request = session.engine.answer(role.as_deref(), note.as_deref())?;
    carry_out(app, &session, &session.engine.plan(&request)?, dry(run.dry_run))
}

fn show(app: &App) -> Done {
    let session = app.open_vault()?;
    let contacts = &session.engine.setup().contacts;
    let incidents = session.engine.incidents()?;
    // The one that has lasted longest decides.
    let open = incidents.iter().filter(|one| one.state() == "open").min_by_key(|one| one.since);
    let turns = open.map(|incident| turns(incident.since, app.io.clock.now()));
    let answered = open.map(|one| session.engine.answered(&one.id)).transpose()?.unwrap_or_default();
    let due = |minutes: u64| open.and_then(|one| one.since.checked_add(Duration::from_secs(minutes * 60)).ok());
    if app.ui.json.is_some() {
        let tiers: Vec<_> = TIERS
            .iter()
            .enumerate()
            .map(|(at, tier)| {
                json!({
                    "tier": tier.tier, "name": tier.name, "minutes": tier.minutes, "who": contacts.of(tier),
                    "steps": tier.steps, "turn": turns.map(|turns| turns[at]), "until": due(tier.minutes),
                })
            })
            .collect();
        let fields = json!({
            "incident": open, "tiers": tiers, "roles": contacts.roles, "executive": contacts.executive, "answered": answered,
            "exit_code": 0,
        });
        app.ui.document("lifeboat/escalation@1", fields)?;
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["TIER", "WHO", "WITHIN", "TURN", "CALL", "DO"]).right(&[0]);
    for (at, tier) in TIERS.iter().enumerate() {
        let turn = turns.map_or("", |turns| match turns[at] {
            Turn::Now => "now",
            Turn::Over => "over",
            Turn::Later => "later",
            Turn::AtOnce => "when it cannot wait",
        });
        let call = contacts.of(tier).map_or_else(
            || tier.key.map_or_else(String::new, |key| format!("escalation.{key} is not set")),
            words::one_line,
        );
        let within = show_duration(Duration::from_secs(tier.minutes * 60));
        let steps = tier.steps.join(", ");
        table.row([tier.tier.to_string(), tier.name.to_owned(), within, turn.to_owned(), call, steps]);
    }
    app.ui.out(&table.render(""))?;
    if !contacts.roles.is_empty() {
        app.ui.out(&roles(contacts, &answered))?;
    }
    match open {
        Some(incident) => app.ui.talk(&format!(
            "{}: open since {}. When it is over: lifeboat incident close\n",
            words::one_line(&incident.title),
            words::instant(incident.since, &session.zone)
        )),
        None => app.ui.talk("No incident is open; the times run from lifeboat incident open 'WHAT'.\n"),
    }
    Ok(ExitCode::Ok)
}

/// Who has which role, and who has answered.
fn roles(contacts: &Contacts, answered: &[Answered]) -> String {
    let mut table = Table::new(&["ROLE", "PRIMARY", "BACKUP (5 MIN)", "PHONE", "ANSWERED"]);
    let named = |who: &Option<String>| who.as_deref().map_or_else(|| "nobody".to_owned(), words::one_line);
    for role in &ROLES {
        let duty = contacts.roles.get(role.key).cloned().unwrap_or_default();
        let has = answered.iter().find(|one| one.role.as_deref().is_none_or(|key| key == role.key));
        let has = has.map(|one| format!("{} at {}", one.by, words::short_instant(one.at))).unwrap_or_default();
        table.row([role.title.to_owned(), named(&duty.primary), named(&duty.backup), named(&duty.phone), has]);
    }
    format!("\n{}Not over after 30 minutes: {}\n", table.render(""), named(&contacts.executive))
}
