//! The two-step form: make a plan and keep it; carry out exactly that one, or refuse.

use std::path::{Path, PathBuf};

use lifeboat_io::files;
use lifeboat_model::{
    Action, ExitCode, Failure, FailureKind, Plan, PlanId, ReleaseRecord, Request, VersionAsk, id::find_by_start,
    plan::PLAN_SCHEMA,
};
use serde_json::json;

use super::{
    App, Session, asks,
    carry::{carry_out, carry_out_any_way, print_plan},
    rollback::{WAIT, deploy_goes_first, make_way, taken_over},
};
use crate::{
    cli::{ApplyArgs, PlanCommand},
    error::{Done, Ended},
    ui::plan,
};

pub fn plan(app: &App, what: &PlanCommand) -> Done {
    let named = match what {
        PlanCommand::Backup(ask) => ask.resources.clone(),
        PlanCommand::Restore(ask) => vec![ask.resource.clone()],
        PlanCommand::Prove(_) | PlanCommand::Retention | PlanCommand::Prune => vec![],
        PlanCommand::Undo(_) | PlanCommand::Release { .. } | PlanCommand::Rollback(_) => vec![],
    };
    let session = app.open(&named)?;
    let request = match what {
        PlanCommand::Backup(ask) => asks::backup(&session, ask),
        PlanCommand::Restore(ask) => asks::restore(app, &session, ask)?,
        PlanCommand::Prove(ask) => asks::prove(&session, ask)?,
        PlanCommand::Retention => Request::Retention,
        PlanCommand::Rollback(ask) => {
            let (to, profile, why) = (ask.release.clone(), ask.profile.map(Into::into), ask.reason.clone());
            let backup = asks::backup_named(&session, ask.backup.as_deref())?;
            Request::Version { about: VersionAsk::RollBack { to, profile, why, backup } }
        }
        PlanCommand::Prune => Request::Prune,
        PlanCommand::Undo(args) => asks::undo(&session, args.operation.as_deref())?,
        PlanCommand::Release { operation } => Request::Release { operation: session.operation_named(operation)? },
    };
    make(app, &session, &request)
}

/// Makes a plan, keeps it and shows it.
pub fn make(app: &App, session: &Session, request: &Request) -> Done {
    let plan = session.engine.plan(request)?;
    let path = keep(session, &plan)?;
    let apply = format!("lifeboat apply {}{}", plan.id, app.again());
    if app.ui.json.is_some() {
        print_plan(app, &plan, json!({ "digest": plan.digest(), "file": path.display().to_string(), "apply": apply }))?;
        return Ok(ExitCode::Ok);
    }
    app.ui.out(&plan::show(&plan, None, &session.zone, app.ui.paint))?;
    let facts = plan.facts.len();
    let text = format!("\nTo run exactly this plan: {}", app.ui.paint.strong(&apply));
    app.ui.out(&format!("{text}\n"))?;
    app.ui.talk(&format!("Nothing was changed. The plan is good as long as the {facts} facts it rests on hold.\n"));
    Ok(ExitCode::Ok)
}

fn keep(session: &Session, plan: &Plan) -> Result<PathBuf, Failure> {
    let path = session.engine.state().plan(&plan.id);
    let json = serde_json::to_vec_pretty(plan)
        .map_err(|error| Failure::new(FailureKind::Bug, "a plan cannot be written").because(error.to_string()))?;
    files::write_with_mode(&path, &json, 0o600)
        .map_err(|error| Failure::from_error(FailureKind::Outside, &error).while_doing("the plan cannot be kept"))?;
    Ok(path)
}

pub fn apply(app: &App, args: &ApplyArgs) -> Done {
    let session = app.open(&[])?;
    let path = find(&session, &args.plan)?;
    let plan = read(&path)?;
    if plan.scope != session.engine.setup().scope {
        let (planned, here) = (&plan.scope, &session.engine.setup().scope);
        let failure = Failure::new(FailureKind::Usage, format!("plan {} is for {planned}, not for {here}", plan.id));
        return Err(failure.hint(format!("name the environment it is for: --env {}", planned.environment)).into());
    }
    session.engine.must_be_acknowledged(&plan)?;
    let (consent, reason) = (args.consent.consent(), rolls_back(&plan));
    if reason.is_some() {
        deploy_goes_first(app, &session, consent)?;
    }
    let _hold = match &reason {
        Some(reason) if !consent.dry_run => {
            let hold = make_way(app, &session, reason, WAIT)?;
            // Where a deploy began may be where this plan leads to; if not, its facts tell whether it still holds.
            let to = leads_to(&plan);
            if let Some(code) = to.map_or(Ok(None), |to| taken_over(app, &session, Some(&to), reason))? {
                return Ok(code);
            }
            Some(hold)
        }
        _other => None,
    };
    session.engine.check_losses(&plan)?;
    let done = match reason {
        Some(_rolls_back) => carry_out_any_way(app, &session, &plan, consent),
        None => carry_out(app, &session, &plan, consent),
    };
    done.map_err(name_a_new_plan)
}

/// Why it rolls back, where a plan does.
fn rolls_back(plan: &Plan) -> Option<String> {
    match &plan.request {
        Request::Version { about: VersionAsk::RollBack { why, .. } } => Some(why.clone()),
        _other => None,
    }
}

/// Which release a rollback says is live at its end; of one that was never sealed, the name that was asked for.
fn leads_to(plan: &Plan) -> Option<String> {
    let live = plan.steps().find_map(|step| match &step.action {
        Action::Release(ReleaseRecord::Live { release, .. }) => release.as_ref().map(ToString::to_string),
        _other => None,
    });
    live.or_else(|| match &plan.request {
        Request::Version { about: VersionAsk::RollBack { to, .. } } => to.clone(),
        _other => None,
    })
}

fn name_a_new_plan(mut ended: Ended) -> Ended {
    if ended.failure.kind == FailureKind::Stale {
        ended.failure.hint = Some("make a new plan, look at it, and apply that one: lifeboat plan".to_owned());
    }
    ended
}

/// The file of the plan that a word means: a file, an id, or the beginning of one.
fn find(session: &Session, word: &str) -> Result<PathBuf, Failure> {
    let as_path = Path::new(word);
    if word.contains('/') || word.ends_with(".json") {
        if !files::exists(as_path) {
            return Err(
                Failure::new(FailureKind::Refused, format!("there is no plan file {word}")).hint("lifeboat plan")
            );
        }
        return Ok(as_path.to_owned());
    }
    let folder = session.engine.state().root().join("plans");
    let kept = files::list_folder(&folder).map_err(|error| Failure::from_error(FailureKind::Outside, &error))?;
    let stems = kept.iter().filter_map(|path| path.file_stem()?.to_str());
    let ids: Vec<PlanId> = stems.filter_map(|stem| PlanId::parse(stem).ok()).collect();
    match find_by_start(&ids, word, PlanId::PREFIX) {
        Ok(id) => Ok(session.engine.state().plan(id)),
        Err(error) => {
            let failure = Failure::from_error(FailureKind::Refused, &error).while_doing("there is no one such plan");
            Err(failure.hint("make one: lifeboat plan"))
        }
    }
}

fn read(path: &Path) -> Result<Plan, Failure> {
    let name = path.display();
    let body = files::read(path).map_err(|error| Failure::from_error(FailureKind::Refused, &error))?;
    let plan: Plan = serde_json::from_slice(&body).map_err(|error| {
        Failure::new(FailureKind::Usage, format!("{name} is not a plan"))
            .because(error.to_string())
            .hint("lifeboat plan")
    })?;
    if plan.schema != PLAN_SCHEMA {
        let message = format!("{name} is a plan of the kind {}, and this version reads {PLAN_SCHEMA}", plan.schema);
        return Err(Failure::new(FailureKind::Usage, message).hint("make a new plan: lifeboat plan"));
    }
    Ok(plan)
}
