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
    if let Some(commit) = &args.revert {
        return take_out(app, &session, args, commit);
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

/// One commit goes, by way of whoever builds the branch.
fn take_out(app: &App, session: &Session, args: &RollbackArgs, commit: &str) -> Done {
    let target = args.target.as_deref().map(ResourceName::new).transpose();
    let target = target.map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
    let ask = PlatformAsk::TakeOut {
        target,
        commit: commit.to_owned(),
        branch: args.branch.clone(),
        wait_ms: args.build_within.as_millis() as u64,
        why: args.reason.clone(),
    };
    let plan = session.engine.plan(&Request::Version { about: VersionAsk::Platform(Box::new(ask)) })?;
    carry_out(app, session, &plan, args.consent.consent())
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
