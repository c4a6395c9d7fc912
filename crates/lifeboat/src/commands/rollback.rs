//! `rollback`: whoever works here makes way, a deploy that is not over is taken back, and then application, database and environment go back.

use std::time::Duration;

use lifeboat_engine::Hold;
use lifeboat_model::{ExitCode, Failure, FailureKind, OperationState, PlatformAsk, Request, ResourceName, VersionAsk};

use super::{
    App, Session, asks, by_steps,
    carry::{Consent, Goal, carry_out, carry_out_any_way, tell, watched, watched_by},
    deploy::put_failure_on_record,
};
use crate::{
    cli::versions::RollbackArgs,
    error::{Done, Ended},
    ui::{ask, words},
};

/// How long whoever works here may take to its next safe point, where nobody says otherwise.
pub const WAIT: Duration = Duration::from_secs(60);

pub fn run(app: &App, args: &RollbackArgs) -> Done {
    let session = app.open(&[])?;
    if let Some(ask) = by_platform(args)? {
        let plan = session.engine.plan(&Request::Version { about: VersionAsk::Platform(Box::new(ask)) })?;
        return carry_out(app, &session, &plan, args.consent.consent());
    }
    let consent = args.consent.consent();
    if args.manual {
        return by_steps::rollback(app, &session, args);
    }
    deploy_goes_first(app, &session, consent)?;
    let planned = || {
        let (to, profile, why) = (args.release.clone(), args.profile.map(Into::into), args.reason.clone());
        let backup = asks::backup_named(&session, args.backup.as_deref())?;
        session.engine.plan(&Request::Version { about: VersionAsk::RollBack { to, profile, why, backup } })
    };
    if consent.dry_run {
        return carry_out(app, &session, &planned()?, consent);
    }
    let _hold = make_way(app, &session, &args.reason, args.wait)?;
    if let Some(code) = taken_over(app, &session, args.release.as_deref(), &args.reason)? {
        return Ok(code);
    }
    carry_out_any_way(app, &session, &planned()?, consent)
}

/// What is asked of somebody else's platform, when that is what was asked for.
fn by_platform(args: &RollbackArgs) -> Result<Option<PlatformAsk>, Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let target = args.target.as_deref().map(ResourceName::new).transpose();
    let target = target.map_err(|error| usage(error.to_string()))?;
    let (wait_ms, why) = (args.within.as_millis() as u64, args.reason.clone());
    match (&args.revert, &args.workflow) {
        (Some(commit), _) => {
            let (commit, branch) = (commit.clone(), args.branch.clone());
            Ok(Some(PlatformAsk::TakeOut { target, commit, branch, wait_ms, why }))
        }
        (None, Some(file)) => {
            let (file, reference) = (file.clone(), args.branch.clone());
            Ok(Some(PlatformAsk::Workflow { target, file, reference, wait_ms, why }))
        }
        (None, None) if args.target.is_some() || args.branch.is_some() => {
            let message = "--target and --branch say where --revert and --workflow go back".to_owned();
            Err(usage(message).hint("a rollback to a release is of all targets: lifeboat rollback --help"))
        }
        (None, None) => Ok(None),
    }
}

/// A deploy that is not over is taken back before anything else: it is told, and has to be agreed to.
pub fn deploy_goes_first(app: &App, session: &Session, consent: Consent<'_>) -> Result<(), Failure> {
    let Some(open) = session.engine.standing()?.deploy else { return Ok(()) };
    let says = format!("{} ({}) is not over, and is taken back first", open.operation, open.title);
    match consent.dry_run {
        true => {
            app.ui.talk(&format!("{}.\n", words::sentence(&says)));
            Ok(())
        }
        false => ask::agree_to(app, &session.engine.setup().scope, &says, consent.confirm),
    }
}

/// Has whoever works here make way, and keeps the place until the rollback is over.
pub fn make_way<'a>(app: &App, session: &'a Session, reason: &str, wait: Duration) -> Result<Hold<'a>, Failure> {
    let scope = &session.engine.setup().scope;
    let why = match reason.trim() {
        "" => format!("roll {scope} back"),
        reason => format!("roll {scope} back: {reason}"),
    };
    watched_by(app, |watch, stop| session.engine.make_way(&app.by(), &why, wait, watch, stop))
}

/// Takes back a deploy that is not over; how it ended, when that was all that was asked for.
pub fn taken_over(app: &App, session: &Session, to: Option<&str>, reason: &str) -> Result<Option<ExitCode>, Ended> {
    let engine = &session.engine;
    let Some(open) = engine.standing()?.deploy else { return Ok(None) };
    let done = watched(app, session, |watch, _stop| engine.take_over(&open.operation, &app.by(), reason, watch))?;
    put_failure_on_record(app, session, &open.operation)?;
    let is_put_back = matches!(done.state, OperationState::PutBack { .. });
    // Who names no release wanted to be rid of that one.
    match is_put_back && to.map_or(Ok(true), |release| engine.stands_at(release))? {
        true => Ok(Some(tell(app, session, &done, Goal::Back)?)),
        false => Ok(None),
    }
}
