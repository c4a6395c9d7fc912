//! `rollback`: whoever works here makes way, a deploy that is not over is taken back, and then application, database and environment go back.

use lifeboat_model::{ExitCode, Failure, FailureKind, OperationState, PlatformAsk, Request, ResourceName, VersionAsk};

use super::{
    App, Session, by_steps,
    carry::{Goal, carry_out, tell, watched, watched_by},
};
use crate::{
    cli::versions::RollbackArgs,
    error::{Done, Ended},
    ui::{ask, words},
};

pub fn run(app: &App, args: &RollbackArgs) -> Done {
    let session = app.open(&[])?;
    if let Some(ask) = by_platform(args)? {
        let plan = session.engine.plan(&Request::Version { about: VersionAsk::Platform(Box::new(ask)) })?;
        return carry_out(app, &session, &plan, args.consent.consent());
    }
    if args.manual {
        return by_steps::rollback(app, &session, args);
    }
    let engine = &session.engine;
    let (scope, consent) = (&engine.setup().scope, args.consent.consent());
    let open = engine.standing()?.deploy;
    if let Some(open) = &open {
        let says = format!("{} ({}) is not over, and is taken back first", open.operation, open.title);
        match consent.dry_run {
            true => app.ui.talk(&format!("{}.\n", words::sentence(&says))),
            false => ask::agree_to(app, scope, &says, consent.confirm)?,
        }
    }
    let planned = || {
        let (to, profile, why) = (args.release.clone(), args.profile.map(Into::into), args.reason.clone());
        engine.plan(&Request::Version { about: VersionAsk::RollBack { to, profile, why } })
    };
    if consent.dry_run {
        return carry_out(app, &session, &planned()?, consent);
    }
    let why = match args.reason.trim() {
        "" => format!("roll {scope} back"),
        why => format!("roll {scope} back: {why}"),
    };
    let _hold = watched_by(app, |watch, stop| engine.make_way(&app.by(), &why, args.wait, watch, stop))?;
    if let Some(code) = taken_over(app, &session, args)? {
        return Ok(code);
    }
    carry_out(app, &session, &planned()?, consent)
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

/// Takes back a deploy that is not over; how it ended, when that was all that was asked for.
fn taken_over(app: &App, session: &Session, args: &RollbackArgs) -> Result<Option<ExitCode>, Ended> {
    let engine = &session.engine;
    let Some(open) = engine.standing()?.deploy else { return Ok(None) };
    let done = watched(app, session, |watch, _stop| engine.take_over(&open.operation, &app.by(), &args.reason, watch))?;
    let is_put_back = matches!(done.state, OperationState::PutBack { .. });
    // Who names no release wanted to be rid of that one.
    let is_there = |release: &String| engine.stands_at(release);
    match is_put_back && args.release.as_ref().map_or(Ok(true), is_there)? {
        true => Ok(Some(tell(app, session, &done, Goal::Back)?)),
        false => Ok(None),
    }
}
