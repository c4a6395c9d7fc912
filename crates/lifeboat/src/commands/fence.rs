//! `fence`: all writes to a database on a server stopped, let in again, looked at. `maintenance`: the app closed for everybody.

use lifeboat_model::{ExitCode, Failure, FailureKind, Request, ResourceKind, ResourceName};
use serde_json::json;

use super::{App, Session, carry::carry_out, requests::dry};
use crate::{
    cli::{
        daemon::MaintenanceCommand,
        servers::{FenceArgs, FenceCommand},
    },
    error::Done,
    ui::words,
};

pub fn fence(app: &App, args: &FenceArgs) -> Done {
    let (resource, on) = match &args.command {
        FenceCommand::On { resource, .. } => (resource, true),
        FenceCommand::Off { resource } => (resource, false),
        FenceCommand::Status { resource } => return status(app, resource),
    };
    let session = app.open(std::slice::from_ref(resource))?;
    let resource = named(&session)?;
    let (why, consent) = match &args.command {
        FenceCommand::On { reason, consent, .. } => (reason.clone(), consent.consent()),
        FenceCommand::Off { .. } | FenceCommand::Status { .. } => (String::new(), dry(false)),
    };
    let plan = session.engine.plan(&Request::Fence { resource, on, why })?;
    carry_out(app, &session, &plan, consent)
}

/// `maintenance`: the app closed for everybody, whatever it keeps its data in. Nothing but the gateway looks at it.
pub fn maintenance(app: &App, command: &MaintenanceCommand) -> Done {
    let session = app.open(&[])?;
    let (on, why, eta, dry_run) = match command {
        MaintenanceCommand::On { reason, eta, run } => (true, reason.clone(), *eta, run.dry_run),
        MaintenanceCommand::Off { run } => (false, String::new(), None, run.dry_run),
        MaintenanceCommand::Status => return told(app, &session),
    };
    let until = eta.and_then(|eta| app.io.clock.now().checked_add(eta).ok());
    let plan = session.engine.plan(&Request::Maintenance { on, why, until })?;
    let code = carry_out(app, &session, &plan, dry(dry_run))?;
    if on && session.engine.setup().upstream.is_none() {
        app.ui.talk("Nobody will see it: lifeboat.toml has no [gateway] through which everybody comes.\n");
    }
    Ok(code)
}

fn told(app: &App, session: &Session) -> Done {
    let closed = session.engine.closed()?;
    if app.ui.json.is_some() {
        let closed =
            closed.map(|closed| json!({ "since": closed.since, "why": closed.why, "open_in_s": closed.open_in_s }));
        app.ui.document("lifeboat/maintenance@1", json!({ "closed": closed, "exit_code": 0 }))?;
        return Ok(ExitCode::Ok);
    }
    let text = match closed {
        None => "The app is open.\n".to_owned(),
        Some(closed) => {
            let since = words::instant(closed.since, &session.zone);
            let eta = closed.eta().map(|eta| format!("; it is expected back in {eta}")).unwrap_or_default();
            let why = if closed.why.is_empty() { String::new() } else { format!(": {}", closed.why) };
            format!("The app is closed on purpose since {since}{eta}{why}\n")
        }
    };
    app.ui.out(&text)?;
    Ok(ExitCode::Ok)
}

fn named(session: &Session) -> Result<ResourceName, Failure> {
    session.named.first().cloned().ok_or_else(|| Failure::new(FailureKind::Usage, "name a database"))
}

fn status(app: &App, word: &str) -> Done {
    let session = app.open(&[word.to_owned()])?;
    let name = named(&session)?;
    let ResourceKind::Postgres { url, .. } = &session.engine.setup().resource(&name)?.kind else {
        return Err(Failure::new(FailureKind::Usage, format!("{name} is on no server and has no fence")).into());
    };
    let status = session.engine.fence_status(url)?;
    if app.ui.json.is_some() {
        let fence = json!({
            "resource": name, "on": status.is_on, "note": status.note, "closed": status.closed, "open": status.open,
            "reads_by_default": status.reads_by_default, "ends_in_ms": status.ends_in_ms, "exit_code": 0
        });
        app.ui.document("lifeboat/fence@1", fence)?;
        return Ok(ExitCode::Ok);
    }
    let ends = match status.ends_in_ms {
        Some(left) => format!(
            " It is a restore's, and ends by itself in {} s when nothing is heard of that: lifeboat resume, lifeboat abort.",
            left / 1000 + 1
        ),
        None => String::new(),
    };
    let text = match (status.is_on, status.open.as_slice()) {
        (false, _) if status.ends_in_ms.is_some() => format!(
            "{name} takes writes: the fence of a restore that died has ended by itself. What is left of it goes with: lifeboat resume, or \
             lifeboat fence off {name}\n"
        ),
        (false, _) => format!("{name} has no fence; it takes writes.\n"),
        (true, []) => format!("{name} refuses every write to its {} tables. {}{ends}\n", status.closed, status.note),
        (true, open) => format!(
            "{name} has a fence, and these tables can be written all the same: {}. {}{ends}\n",
            open.join(", "),
            status.note
        ),
    };
    app.ui.out(&text)?;
    Ok(ExitCode::Ok)
}
