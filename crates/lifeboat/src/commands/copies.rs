//! Second vaults, and plain files elsewhere: brought up to date when somebody asks, or after each backup.

use lifeboat_engine::Copy;
use lifeboat_model::{ExitCode, Failure, FailureKind, OperationState, Request, VaultName};

use super::{
    App, Session,
    carry::{carry_out, watched},
    requests::dry,
};
use crate::{
    error::{self, Done},
    ui::{report, words},
};

/// Copies into one, or into all; a place that does not answer does not keep the others from being served. The code is
/// the worst of them.
pub fn run(app: &App, to: Option<&str>, dry_run: bool) -> Done {
    let session = app.open(&[])?;
    let setup = session.engine.setup();
    let requests: Vec<Request> = match to {
        Some(name) => {
            let name = VaultName::new(name).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
            vec![Request::Copy { to: setup.copy(&name)?.name.clone() }]
        }
        None if setup.copies.is_empty() && setup.elsewhere.is_empty() => {
            let failure = Failure::new(FailureKind::Usage, format!("the settings of {} name no copy", setup.scope));
            let hint = "write [vault.copies.offsite] with location and password into lifeboat.toml";
            return Err(failure.hint(hint).into());
        }
        None => {
            let copies = setup.copies.iter().map(|copy| Request::Copy { to: copy.name.clone() });
            copies.chain(setup.elsewhere.keys().map(|name| Request::Send { resource: name.clone() })).collect()
        }
    };
    let mut worst = ExitCode::Ok;
    for request in requests {
        let copied = session.engine.plan(&request).map_err(error::Ended::from);
        let code = match copied.and_then(|plan| carry_out(app, &session, &plan, dry(dry_run))) {
            Ok(code) => code,
            Err(ended) => {
                let failure = if let Request::Copy { to } = &request {
                    about(to, ended.failure)
                } else {
                    ended.failure.while_doing("the plain file could not be sent elsewhere")
                };
                error::tell(app, &error::Ended { failure, ..ended })
            }
        };
        if worst == ExitCode::Ok {
            worst = code;
        }
    }
    Ok(worst)
}

fn about(name: &VaultName, failure: Failure) -> Failure {
    failure.while_doing(format!("the copy {name} could not be brought up to date"))
}

/// Brings those copies up to date that want it after each backup. Whatever goes wrong here is told and does not change that
/// the backup is good; the code says that something needs attention.
pub fn after_backup(app: &App, session: &Session, code: ExitCode) -> ExitCode {
    if code != ExitCode::Ok && code != ExitCode::OverBudget {
        return code;
    }
    let wanted = session.engine.setup().copies.iter().filter(|copy| copy.after_backup);
    let failed: Vec<Failure> = wanted.filter_map(|copy| bring_up_to_date(app, session, copy).err()).collect();
    for failure in &failed {
        error::tell_person(app, failure);
    }
    if failed.is_empty() { code } else { ExitCode::ActionAdvised }
}

fn bring_up_to_date(app: &App, session: &Session, copy: &Copy) -> Result<(), Failure> {
    let failed = |failure: Failure| {
        let failure = about(&copy.name, failure).hint(format!("lifeboat vault copy --to {}", copy.name));
        failure.because("the backup itself is good and in the vault".to_owned())
    };
    let plan = session.engine.plan(&Request::Copy { to: copy.name.clone() }).map_err(failed)?;
    if plan.steps().next().is_none() {
        return Ok(());
    }
    let done = watched(app, session, |watch, stop| session.engine.run(&plan, &app.by(), watch, stop));
    let done = done.map_err(|ended| failed(ended.failure))?;
    if done.state == OperationState::Done {
        let took = words::took(report::elapsed_ms(&done));
        app.ui.talk(&format!("Copied to {} ({}), {took}.\n", copy.name, copy.location));
        return Ok(());
    }
    let why = report::why(&done).cloned();
    Err(failed(why.unwrap_or_else(|| Failure::new(FailureKind::Unknown, "it did not come to its end"))))
}
