//! `monitor`: the document's alerting script, with an answer also when nothing answers.

use lifeboat_model::{
    ExitCode,
    advice::{FAILED_MAX, LAST_SYNC_MAX_S, QUEUE_MAX},
    sync::{Reach, SyncStatus, Tier},
    time::{Duration, show_age, show_duration, since},
};
use serde_json::json;

use super::{App, sync::link_named};
use crate::{cli::sync::MonitorCommand, error::Done, ui::words, wire};

pub fn run(app: &App, what: &MonitorCommand) -> Done {
    let MonitorCommand::Sync { link, daemon, remind_after } = what;
    let session = app.open(&[])?;
    let name = link_named(&session, link.as_deref())?;
    let mirror = session.engine.mirror(Some(&name));
    let looked = mirror.and_then(|mirror| mirror.status().map(|status| (mirror, status)));
    let (mut alerts, status, reach) = match looked {
        Ok((mirror, status)) => {
            let mut alerts = alerts(&status, app.io.clock.now(), *remind_after);
            // What is held on purpose opens no connection.
            let reach = if status.enabled { mirror.reach() } else { None };
            if let Some(Reach::Down { why }) = &reach {
                alerts.push(format!("The cloud does not answer over HTTP: {why}"));
            }
            (alerts, Some(status), reach)
        }
        // Whoever only reads the lines has to hear of it, too.
        Err(failure) => (vec![format!("No data about the mirror {name}: {failure}")], None, None),
    };
    match session.engine.late_snapshots() {
        Ok(late) => alerts.extend(late),
        Err(failure) => alerts.push(format!("No data about snapshots of the cloud: {failure}")),
    }
    if let Err(why) = wire::daemon_answers(*daemon) {
        alerts.push(format!("No daemon answers on {daemon}: {why}"));
    }
    let code = if alerts.is_empty() { ExitCode::Ok } else { ExitCode::ActionAdvised };
    if app.ui.json.is_some() {
        let fields = json!({ "alerts": alerts, "status": status, "reach": reach, "exit_code": code as u8 });
        app.ui.document("lifeboat/monitor@1", fields)?;
        return Ok(code);
    }
    if let Some(held) = status.filter(|status| !status.enabled) {
        let since = held.paused_since.map_or_else(String::new, |at| format!(" since {}", words::short_instant(at)));
        app.ui.talk(&format!("Paused{since}, which is no failure: {}\n", words::sentence(&held.reason)));
    }
    for alert in &alerts {
        app.ui.out(&format!("ALERT: {alert}\n"))?;
    }
    Ok(code)
}

/// What somebody has to know. A mirror that is switched off on purpose is late on purpose; after a while somebody is reminded.
fn alerts(status: &SyncStatus, now: lifeboat_model::Timestamp, remind_after: Duration) -> Vec<String> {
    let mut alerts = Vec::new();
    let (waiting, failed) = (status.queue.queue_size, status.queue.total_failed);
    if waiting > QUEUE_MAX {
        alerts.push(format!("Sync queue size is {waiting} (threshold: {QUEUE_MAX})"));
        match Tier::of(waiting) {
            Tier::Urge => {
                alerts.push("More than 10,000 changes wait: act now, lifeboat level 2 clears them".to_owned())
            }
            Tier::Advise => alerts.push("More than 1,000 changes wait: lifeboat level 2 would clear them".to_owned()),
            Tier::Watch | Tier::Normal => {}
        }
    }
    if failed > FAILED_MAX {
        alerts.push(format!("Failed syncs: {failed} (threshold: {FAILED_MAX})"));
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
    } else if let Some(at) = status.paused_since.filter(|_| !status.enabled) {
        let paused = since(at, now);
        if paused > remind_after {
            alerts.push(format!("Sync has been switched off for {}; lifeboat sync enable", show_age(paused)));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_model::{
        ResourceName, Timestamp,
        sync::{BreakerState, Mode, QueueStatus},
    };

    fn at(text: &str) -> Timestamp {
        format!("2026-01-{text}:00Z").parse().unwrap()
    }

    /// A mirror that delivers, with nothing to complain of at noon of the first.
    fn well() -> SyncStatus {
        SyncStatus {
            link: ResourceName::new("cloud").unwrap(),
            enabled: true,
            reason: "enabled".into(),
            paused_since: None,
            mode: Mode::Hybrid,
            attached: true,
            queue: QueueStatus::default(),
            last_sync: Some(at("01T12:00")),
            last_error: None,
            breaker: BreakerState::Closed,
            held_deletes: Default::default(),
            unverified: vec![],
            resync: None,
        }
    }

    fn told(status: &SyncStatus, now: &str) -> Vec<String> {
        alerts(status, at(now), Duration::from_secs(86_400))
    }

    #[test]
    fn mon_02_the_limits_are_the_document_s() {
        let mut status = well();
        assert_eq!(told(&status, "01T12:05"), Vec::<String>::new(), "five minutes are not more than five");
        (status.queue.queue_size, status.queue.total_failed) = (100, 10);
        assert_eq!(told(&status, "01T12:00"), Vec::<String>::new());
        (status.queue.queue_size, status.queue.total_failed) = (101, 11);
        let alerts = told(&status, "01T12:00");
        assert_eq!(alerts[0], "Sync queue size is 101 (threshold: 100)");
        assert_eq!(alerts[1], "Failed syncs: 11 (threshold: 10)");
        assert!(told(&status, "01T12:06")[2].starts_with("Last sync was 6:00 ago"));
        status.last_sync = None;
        assert_eq!(told(&status, "01T12:00")[2], "Nothing was ever delivered");
    }

    #[test]
    fn mon_05_what_is_paused_on_purpose_is_no_failure_until_somebody_is_reminded() {
        let mut status = SyncStatus { enabled: false, paused_since: Some(at("01T12:00")), ..well() };
        assert_eq!(told(&status, "01T13:00"), Vec::<String>::new());
        assert_eq!(told(&status, "02T12:01"), ["Sync has been switched off for 24 h; lifeboat sync enable"]);
        status.queue.queue_size = 1_001;
        assert!(told(&status, "01T13:00")[1].contains("lifeboat level 2"), "the queue is watched all the same");
    }
}
