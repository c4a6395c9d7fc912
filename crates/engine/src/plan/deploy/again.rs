//! Taking a rollback back that took migrations back: its version is deployed again.

use std::collections::BTreeMap;

use lifeboat_model::{
    Action, Backup, BackupChoice, DeployAsk, Failure, FailureKind, Operation, OperationState, PgAction, Plan, Profile,
    ReleaseRecord, Request, Reversibility, Step, StepClass, Target, TargetAction, Undo,
};

use super::{
    super::{
        restore,
        rollback::variables_back,
        steps::{self, by, phase, step},
    },
    Base, Before, Known, apps_with, bases, plan,
};
use crate::Engine;

/// Whether an operation was a rollback that took migrations back.
pub(in crate::plan) fn took_back(operation: &Operation) -> bool {
    operation.state == OperationState::Done && Profile::of(&operation.plan) == Some(Profile::AppAndDown)
}

/// Plans to take such a rollback back: its version is deployed again, migrations and all, and what left with the DOWN scripts comes
/// back. When it does not do, it goes back by itself.
///
/// # Errors
/// Why it is refused: the scripts are gone, or nothing was backed up since.
pub(in crate::plan) fn undo(engine: &Engine, operation: &Operation, request: &Request) -> Result<Plan, Failure> {
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    if !matches!(request, Request::Undo { .. }) {
        return Err(refused(format!("{} set nothing aside", operation.id)));
    }
    let ran = |target: &Target| {
        let found = operation.plan.steps().find_map(|step| match &step.action {
            Action::Target { target: of, action: TargetAction::CheckRuns { version } } if of.name == target.name => {
                Some(version.clone())
            }
            _other => None,
        });
        found.ok_or_else(|| refused(format!("{} does not say what {} ran before", operation.id, target.name)))
    };
    let common = engine.common()?;
    let apps = apps_with(engine, &ran)?;
    let mut bases = bases(engine, &apps)?;
    let reverted = operation.plan.steps().find_map(|step| match &step.action {
        Action::Postgres(PgAction::Revert { migrations, .. }) => Some(migrations),
        _other => None,
    });
    let reverted: Vec<&str> = reverted.into_iter().flatten().rev().map(|one| one.version.as_str()).collect();
    // What waited before waits again.
    for base in &mut bases {
        base.pending.retain(|one| reverted.contains(&one.migration.version.as_str()));
    }
    let pending = bases.iter().flat_map(|base| &base.pending).map(|one| one.migration.version.as_str());
    if pending.collect::<Vec<_>>() != reverted {
        let failure = refused(format!("the migrations that wait are not those that {} took back", operation.id));
        return Err(failure
            .hint("lifeboat migrate status; lifeboat deploy VERSION --although-bad WHY, then lifeboat salvage apply"));
    }
    // A copy from before would have the tables still.
    let is_since = |backup: &Backup| backup.recovery_point >= operation.last_at;
    let names = bases.first().map(|base| (base.resource.clone(), base.name.clone()));
    let Some((resource, name)) = names else { return Err(steps::wrong_planner()) };
    let chosen = restore::choose(engine, &engine.backups_for(&BackupChoice::Latest)?, &resource, &BackupChoice::Latest);
    let Some((backup, part)) = chosen.ok().filter(|(backup, _)| is_since(backup)) else {
        let failure = refused(format!("nothing was backed up since {} took migrations of {name} back", operation.id));
        return Err(failure.hint(format!("lifeboat backup, then: lifeboat undo {}", operation.id)));
    };
    let ask = DeployAsk {
        version: None,
        label: None,
        backup: Some(backup.id.clone()),
        at_least: Reversibility::DownLossless,
        hold: false,
        although_bad: None,
        watch_ms: 0,
        tells: None,
        why: String::new(),
    };
    let names = engine.setup().migrations.keys();
    let schemas = names.map(|name| Ok((name.clone(), engine.schema_state(name)?))).collect::<Result<_, Failure>>()?;
    let before = Some(Before { backup, part: Some(part) });
    // What is held is what is wanted here.
    let known = Known { common, apps, bases, before, env: BTreeMap::new(), schemas, all: Vec::new() };
    let mut plan = plan(&known, request, &ask)?;
    plan.title = format!("take back {}", operation.plan.title);
    // As it had them: once its schema is there, and before it is started.
    let variables = variables_back(operation, &known.common);
    if let (false, Some(start)) = (variables.is_empty(), plan.phases.iter().position(|phase| phase.name == "start")) {
        plan.phases.insert(start, phase(&known.common, "variables", vec![], variables));
    }
    let undone = operation.plan.steps().find_map(|step| match (&step.action, &step.undo) {
        (Action::Release(ReleaseRecord::Live { .. }), Undo::By(action)) => {
            Some((step.action.clone(), (**action).clone()))
        }
        _other => None,
    });
    for phase in &mut plan.phases {
        if phase.name == "migrate" {
            phase.steps.extend(brought_back(engine, operation, &known.bases));
        }
        if let ("record", Some((done, undone))) = (phase.name.as_str(), &undone) {
            let title = "put on record: it is live again, and not held";
            phase.steps = vec![step("release", title, StepClass::Idempotent, undone.clone(), by(done.clone()))];
        }
    }
    Ok(plan)
}

/// What left with the DOWN scripts comes back to where it was; when that is taken back, it leaves as before and is kept again.
fn brought_back(engine: &Engine, operation: &Operation, bases: &[Base]) -> Option<Step> {
    let base = bases.first().filter(|_| engine.salvage(&operation.id).is_ok())?;
    let action = PgAction::BringBack {
        url: base.url.clone(),
        from: operation.id.clone(),
        resource: Box::new(base.resource.clone()),
        tables: Vec::new(),
        overwrite: true,
        deletes: false,
    };
    let title = format!("bring back what left with {}", operation.id);
    Some(step("bring-back", title, StepClass::Idempotent, Action::Postgres(action), Undo::Nothing))
}
