//! `fence`: all writes to a database on a server stopped, let in again, looked at.

use lifeboat_model::{ExitCode, Failure, FailureKind, Request, ResourceKind, ResourceName};
use serde_json::json;

use super::{App, Session, carry::carry_out, requests::dry};
use crate::{
    cli::servers::{FenceArgs, FenceCommand},
    error::Done,
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
            "reads_by_default": status.reads_by_default, "exit_code": 0
        });
        app.ui.document("lifeboat/fence@1", fence)?;
        return Ok(ExitCode::Ok);
    }
    let text = match (status.is_on, status.open.as_slice()) {
        (false, _) => format!("{name} has no fence; it takes writes.\n"),
        (true, []) => format!("{name} refuses every write to its {} tables. {}\n", status.closed, status.note),
        (true, open) => format!(
            "{name} has a fence, and these tables can be written all the same: {}. {}\n",
            open.join(", "),
            status.note
        ),
    };
    app.ui.out(&text)?;
    Ok(ExitCode::Ok)
}
