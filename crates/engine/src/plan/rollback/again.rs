//! Taking a full rollback back: the database that it kept has its name again, and the version that it left is in use. What was written since
//! leaves with the database that is live now, which is kept in turn; so this is taken back in the same way.

use lifeboat_model::{
    Action, Artifact, Failure, FailureKind, Operation, OperationState, PgAction, Plan, Profile, ReleaseRecord, Request,
    Step, StepClass, TargetAction, Undo,
};

use super::{App, BUDGETS_MS, databases, environment, level, of_version, running};
use crate::{
    Engine,
    plan::steps::{by, phase, step},
};

/// Whether an operation put a former database and a former version in use together, and kept the database that was there.
pub(in crate::plan) fn took_database(operation: &Operation) -> bool {
    let is_way = match &operation.plan.request {
        Request::Undo { .. } => operation.plan.steps().any(|step| is_record(&step.action)),
        _other => Profile::of(&operation.plan) == Some(Profile::Full),
    };
    let kept = databases::renamed(operation).and_then(|(_, _, kept)| kept);
    operation.state == OperationState::Done && is_way && kept.is_some()
}

fn is_record(action: &Action) -> bool {
    matches!(action, Action::Release(ReleaseRecord::Live { .. }))
}

/// Plans to take it back, or to drop the database that it kept.
///
/// # Errors
/// What it kept is gone; something else was put in use since.
pub(in crate::plan) fn undo(engine: &Engine, operation: &Operation, request: &Request) -> Result<Plan, Failure> {
    let renamed = databases::gather_renamed(engine, operation.clone())?;
    if !matches!(request, Request::Undo { .. }) {
        return databases::release(&renamed, request);
    }
    let apps = apps(engine, operation)?;
    let mut plan = databases::undo(&renamed, request)?;
    plan.title = format!("take back {}", operation.plan.title);
    let common = &renamed.common;
    let mut swap: Vec<Step> = std::mem::take(&mut plan.phases).into_iter().flat_map(|phase| phase.steps).collect();
    if let (false, Some((url, kept))) = (swap.iter().any(|step| step.id.0 == "lift"), kept_by(&swap)) {
        let action = Action::Postgres(PgAction::Unfence { url, database: kept.clone() });
        let title = format!("take the fence out of {kept}, which is kept");
        swap.push(step("lift", title, StepClass::Idempotent, action, Undo::Nothing));
    }
    let url = renamed.url.clone();
    let fenced = |on: bool| {
        let (url, why) = (url.clone(), plan.title.clone());
        Action::Postgres(PgAction::Fence { url, on, why, brief: false, database: None })
    };
    let title = format!("refuse every write to {}, and see that none is left", renamed.live);
    let mut fence: Vec<Step> = apps.iter().map(App::note).collect();
    fence.push(step("fence", title, StepClass::Idempotent, fenced(true), by(fenced(false))));
    fence.extend(apps.iter().flat_map(App::stop));
    let changing = || apps.iter().filter(|app| app.changes());
    plan.phases = vec![
        phase(common, "preflight", vec![], apps.iter().map(App::check).collect()),
        phase(common, "app", vec![], changing().map(App::stage).collect()),
        phase(common, "fence", vec![], fence),
        phase(common, "app-switch", vec![], changing().map(App::switch).collect()),
        phase(common, "swap", vec![], swap),
        phase(common, "variables", vec![], environment::back(operation, common)),
        phase(common, "restart", vec![], apps.iter().flat_map(App::start).collect()),
        phase(common, "report", vec![], recorded(operation).into_iter().collect()),
    ];
    for phase in &mut plan.phases {
        let budget = BUDGETS_MS.iter().find(|(name, _)| *name == phase.name).map(|(_, budget)| *budget);
        phase.budget_ms = phase.budget_ms.or(budget);
    }
    plan.phases.retain(|phase| !phase.steps.is_empty());
    Ok(plan)
}

/// What ran before is wanted; what it put there has to run still.
fn apps(engine: &Engine, operation: &Operation) -> Result<Vec<App>, Failure> {
    let all = engine.releases()?;
    let mut apps = Vec::new();
    for one in running(engine)? {
        let said = |is_it: &dyn Fn(&TargetAction) -> Option<String>| {
            operation.plan.steps().find_map(|step| match &step.action {
                Action::Target { target, action } if target.name == one.target.name => is_it(action),
                _other => None,
            })
        };
        let ran = said(&|action| match action {
            TargetAction::CheckRuns { version } => Some(version.clone()),
            _other => None,
        });
        let Some(ran) = ran else { continue };
        let put = said(&|action| match action {
            TargetAction::Switch { version, .. } => Some(version.clone()),
            _other => None,
        });
        let put = put.unwrap_or_else(|| ran.clone());
        if one.version != put {
            let (is, was) = (level::short(&one.version), level::short(&put));
            let message = format!("{} runs {is}, and {} has put {was} there", one.target.name, operation.id);
            let failure = Failure::new(FailureKind::Refused, message);
            return Err(failure.hint("take back what came after it first; lifeboat releases list"));
        }
        let (target, version) = (one.target.name.clone(), ran.clone());
        let wanted =
            of_version(&all, &one.target, &ran).unwrap_or(Artifact { target, version, served: None, origin: None });
        apps.push(App { target: one.target, running: one.version, log: one.log, wanted });
    }
    Ok(apps)
}

/// Where the swap keeps what is live now.
fn kept_by(swap: &[Step]) -> Option<(String, String)> {
    swap.iter().find_map(|step| match &step.action {
        Action::Postgres(PgAction::Swap { url, kept, .. }) => Some((url.clone(), kept.clone())),
        _other => None,
    })
}

/// What was put on record is taken back, and can be again.
fn recorded(operation: &Operation) -> Option<Step> {
    operation.plan.steps().find_map(|one| match (&one.action, &one.undo) {
        (done, Undo::By(undone)) if is_record(done) => {
            let title = "put on record: what was left is live again, and not held";
            Some(step("report", title, StepClass::Idempotent, (**undone).clone(), by(done.clone())))
        }
        _other => None,
    })
}
