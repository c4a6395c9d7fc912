//! `deploy`: a checkpoint, then the version - and back by itself when it does not do. One lease over all of it.

use lifeboat_model::{
    DeployAsk, ExitCode, Failure, FailureKind, OperationId, Plan, PlatformAsk, Request, ResourceName, Reversibility,
    VersionAsk, decision::DecisionRecord,
};
use serde_json::json;

use super::{
    App, Session,
    carry::{Goal, carry_out, run as run_watched, watched_by},
    evidence::put_on_record,
    versions::{backed_up, did_not_end},
};
use crate::{
    cli::versions::{AcceptArg, DeployArgs, RedeployArgs},
    error::{Done, Ended},
    ui::{ask, plan},
};

/// Backup, proof, seal and deploy: four operations under one lease, each of which can be resumed by itself.
pub fn run(app: &App, args: &DeployArgs) -> Done {
    let session = app.open(&[])?;
    let engine = &session.engine;
    let mut asked = DeployAsk {
        version: args.version.clone(),
        label: args.label.clone().or_else(|| args.version.clone()).or_else(|| engine.checked_out()),
        backup: None,
        at_least: match args.accept {
            None => Reversibility::DownLossless,
            Some(AcceptArg::Lossy) => Reversibility::Lossy,
            Some(AcceptArg::OneWay) => Reversibility::OneWay,
        },
        hold: args.hold,
        although_bad: args.although_bad.clone(),
        watch_ms: args.watch.as_millis() as u64,
        tells: args.tells.clone(),
        why: args.reason.clone(),
    };
    // What cannot be deployed is told before anything is backed up.
    if !engine.check_deploy(&asked)? {
        return nothing_to_do(app, &session);
    }
    if args.consent.dry_run {
        return carry_out(app, &session, &planned(&session, &asked)?, args.consent.consent());
    }
    // Somebody agrees before the backup, where there is an older one to plan with; else afterwards.
    let before = planned(&session, &asked).ok();
    if let Some(before) = &before {
        let confirm = args.consent.confirm.as_deref();
        if ask::is_open(app, before, confirm) {
            app.ui.talk(&plan::show(before, None, &session.zone, app.ui.paint_err));
        }
        ask::agree(app, before, confirm)?;
    }
    // Nobody comes between its operations; a rollback may end it.
    let title = format!("deploy {} to {}", asked.label.as_deref().unwrap_or("a version"), engine.setup().scope);
    let _hold = watched_by(app, |watch, _stop| engine.hold_lease(&app.by(), &title, watch))?;
    if !engine.setup().resources.is_empty() {
        let label = asked.label.as_ref().map(|label| format!("before {label}"));
        match backed_up(app, &session, label.clone(), (args.unproven, args.shadow))? {
            Ok(backup) => asked.backup = Some(backup),
            Err(code) => return Ok(code),
        }
        let seal = VersionAsk::Seal { label, backup: asked.backup.clone() };
        if let Some(code) = did_not_end(app, &session, &engine.plan(&Request::Version { about: seal })?)? {
            return Ok(code);
        }
    }
    let plan = planned(&session, &asked)?;
    let done = match before.is_some() {
        true => run_watched(app, &session, Goal::Forward, |watch, stop| engine.run(&plan, &app.by(), watch, stop)),
        false => carry_out(app, &session, &plan, args.consent.consent()),
    };
    let recorded = operation_of(&session, &plan).map_err(Ended::from).and_then(|id| match id {
        Some(id) => put_failure_on_record(app, &session, &id),
        None => Ok(()),
    });
    // How it ended is what is asked for.
    let code = done?;
    recorded.map(|()| code)
}

/// Everything once more, as it is.
pub fn once_more(app: &App, args: &RedeployArgs) -> Done {
    let session = app.open(&[])?;
    let named = args.targets.iter().map(|name| ResourceName::new(name.as_str())).collect::<Result<_, _>>();
    let targets = named.map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
    let ask = PlatformAsk::Redeploy { targets, why: args.reason.clone() };
    let plan = session.engine.plan(&Request::Version { about: VersionAsk::Platform(Box::new(ask)) })?;
    carry_out(app, &session, &plan, args.consent.consent())
}

/// MIG-08: a migration that failed is a decision on record, whoever brought its deploy to an end.
pub fn put_failure_on_record(app: &App, session: &Session, id: &OperationId) -> Result<(), Ended> {
    let engine = &session.engine;
    if let Some(decision) = engine.decided_by_failure(&engine.look().operation(id)?)? {
        let about = DecisionRecord::Decision(Box::new(decision));
        put_on_record(app, session, &Request::Decide { about })?;
    }
    Ok(())
}

/// The operation that was this plan, if it was begun.
fn operation_of(session: &Session, plan: &Plan) -> Result<Option<OperationId>, Failure> {
    for row in session.engine.look().operations(1)? {
        if session.engine.look().operation(&row.id)?.plan.id == plan.id {
            return Ok(Some(row.id));
        }
    }
    Ok(None)
}

fn planned(session: &Session, asked: &DeployAsk) -> Result<Plan, Failure> {
    session.engine.plan(&Request::Version { about: VersionAsk::Deploy(Box::new(asked.clone())) })
}

fn nothing_to_do(app: &App, session: &Session) -> Done {
    let scope = &session.engine.setup().scope;
    if app.ui.json.is_some() {
        let fields = json!({ "nothing_to_do": true, "scope": scope.to_string(), "exit_code": 0 });
        app.ui.document("lifeboat/deploy@1", fields)?;
        return Ok(ExitCode::Ok);
    }
    app.ui.out(&format!("That is what runs in {scope}, and no migration waits: there is nothing to do.\n"))?;
    Ok(ExitCode::Ok)
}
