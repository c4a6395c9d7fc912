//! `escalation`: who is to be called when, and whose turn it is in the incident that is open.

use lifeboat_model::{
    ExitCode,
    escalation::{TIERS, Turn, turns},
    time::{Duration, show_duration},
};
use serde_json::json;

use super::App;
use crate::{
    error::Done,
    ui::{table::Table, words},
};

pub fn run(app: &App) -> Done {
    let session = app.open_vault()?;
    let contacts = &session.engine.setup().contacts;
    let incidents = session.engine.incidents()?;
    // The one that has lasted longest decides.
    let open = incidents.iter().filter(|one| one.state() == "open").min_by_key(|one| one.since);
    let turns = open.map(|incident| turns(incident.since, app.io.clock.now()));
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
        let fields = json!({ "incident": open, "tiers": tiers, "exit_code": 0 });
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
