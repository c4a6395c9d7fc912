//! `monitor`: the document's alerting script, with an answer also when nothing answers.

use lifeboat_model::{
    ExitCode,
    sync::{SyncStatus, Tier},
    time::{show_duration, since},
};
use serde_json::json;

use super::{App, sync::link_named};
use crate::{cli::sync::MonitorCommand, error::Done, wire};

/// More waiting changes than this are an alert.
const QUEUE_MAX: u64 = 100;
/// More rows set aside than this are an alert.
const FAILED_MAX: u64 = 10;
/// A last delivery that is older than this is an alert.
const LAST_SYNC_MAX_S: u64 = 300;

pub fn run(app: &App, what: &MonitorCommand) -> Done {
    let MonitorCommand::Sync { link, daemon } = what;
    let session = app.open(&[])?;
    let name = link_named(&session, link.as_deref())?;
    let status = session.engine.mirror(Some(&name))?.status()?;
    let mut alerts = alerts(&status, app.io.clock.now());
    if let Err(why) = wire::daemon_answers(*daemon) {
        alerts.push(format!("No daemon answers on {daemon}: {why}"));
    }
    let code = if alerts.is_empty() { ExitCode::Ok } else { ExitCode::ActionAdvised };
    if app.ui.json.is_some() {
        let fields = json!({ "alerts": alerts, "status": status, "exit_code": code as u8 });
        app.ui.document("lifeboat/monitor@1", fields)?;
        return Ok(code);
    }
    for alert in &alerts {
        app.ui.out(&format!("ALERT: {alert}\n"))?;
    }
    Ok(code)
}

/// What somebody has to know. A mirror that is switched off on purpose is late on purpose.
fn alerts(status: &SyncStatus, now: lifeboat_model::Timestamp) -> Vec<String> {
    let mut alerts = Vec::new();
    let (waiting, failed) = (status.queue.queue_size, status.queue.total_failed);
    if waiting > QUEUE_MAX {
        let more = match Tier::of(waiting) {
            Tier::Urge => "; more than 10,000: act now, lifeboat level 2 clears it",
            Tier::Advise => "; more than 1,000: lifeboat level 2 would clear it",
            Tier::Watch | Tier::Normal => "",
        };
        alerts.push(format!("Sync queue size is {waiting} (threshold: {QUEUE_MAX}){more}"));
    }
    if failed > FAILED_MAX {
        alerts.push(format!("Failed syncs: {failed} (threshold: {FAILED_MAX}); lifeboat sync queue list"));
    }
    if status.queue.rls_violations > 0 {
        alerts.push(format!(
            "Policies of the cloud refuse {} rows; lifeboat sync queue list",
            status.queue.rls_violations
        ));
    }
    for (table, rows) in &status.held_deletes {
        alerts.push(format!("{rows} deletes of {table} are held; lifeboat sync confirm {table}"));
    }
    if !status.attached {
        alerts.push("The file has no triggers: changes are not noted; lifeboat sync attach".to_owned());
    } else if status.enabled {
        match status.last_sync {
            None => alerts.push("Nothing was ever delivered".to_owned()),
            Some(at) => {
                let age = since(at, now);
                if age.as_secs() > LAST_SYNC_MAX_S {
                    let because = status.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
                    alerts.push(format!("Last sync was {} ago (threshold: 5 minutes){because}", show_duration(age)));
                }
            }
        }
    }
    alerts
}
