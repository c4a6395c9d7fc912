//! The way that brings the data back: a restore's own phases, with the application around them.

use lifeboat_model::{
    AcceptLoss, Action, BackupChoice, BackupId, Failure, FailureKind, Phase, Plan, Request, ResourceName, Step,
    StepClass,
};

use super::{App, Known, changing, environment, fenced, one_base, report};
use crate::{
    Engine,
    plan::{
        databases,
        steps::{self, phase},
    },
};

/// Steps of a restore that find the rows that leave before anybody is held up: whether a swap could happen, which needs what is
/// to be swapped in, and the finding.
const AHEAD: [&str; 2] = ["look", "look-ahead"];

/// A restore's own phases, with the application around them.
pub(super) fn full(engine: &Engine, known: &Known, why: &str, plan: &mut Plan) -> Result<(), Failure> {
    let (common, base) = (&known.common, one_base(known)?);
    let backup = known.source.clone().ok_or_else(steps::wrong_planner)?;
    let restored = restored(engine, &base.name, backup.clone(), why)
        .map_err(|failure| engine.instead_of(&backup, &base.name, &known.to.release, failure))?;
    let has_shadow = restored
        .steps()
        .any(|step| matches!(&step.action, Action::Postgres(lifeboat_model::PgAction::Fill { shadow: Some(_), .. })));
    let mut parts = restored.phases;
    let mut take = |name: &str| {
        let at = parts.iter().position(|phase| phase.name == name);
        at.map(|at| parts.remove(at)).map(|phase| (phase.expected.into_iter().collect::<Vec<_>>(), phase.steps))
    };
    let mut preflight: Vec<Step> = known.apps.iter().map(App::check).collect();
    preflight.extend(take("preflight").map(|(_, steps)| steps).unwrap_or_default());
    preflight.extend(environment::checks(engine, known));
    plan.phases.push(phase(common, "preflight", vec![], preflight));
    let (swapping, mut swap) = take("swap").unwrap_or_default();
    let mut staging: Vec<Step> = changing(known).map(App::stage).collect();
    let is = |step: &mut Step, names: &[&str]| names.contains(&step.id.to_string().as_str());
    if !has_shadow {
        // What leaves is found against the backup itself, so nothing has to be restored for it, and nobody need wait.
        staging.extend(swap.extract_if(.., |step| is(step, &AHEAD[1..])));
    }
    plan.phases.push(phase(common, "app", vec![], staging));
    let fence = |plan: &mut Plan| plan.phases.push(phase(common, "fence", vec![], fenced(known, base, why)));
    let bring = [("keep", "emergency-backup"), ("restore", "restore"), ("verify", "verify")];
    // A copy that lies ready is looked at while the app still answers; then nobody waits for more than what is kept of the
    // present state, and a name. One that has to be fetched is fetched behind the fence, so that no more rows come meanwhile.
    let order = if has_shadow { [bring[1], bring[2], bring[0]] } else { bring };
    for (at, (theirs, ours)) in order.into_iter().enumerate() {
        if at == if has_shadow { 2 } else { 0 } {
            fence(plan);
        }
        let (expected, mut steps) = take(theirs).unwrap_or_default();
        if has_shadow && ours == "verify" {
            // Rows that leave are looked for while everybody writes, as a restore does; behind the fence only what came since.
            steps.extend(swap.extract_if(.., |step| is(step, &AHEAD)));
        }
        plan.phases.push(phase(common, ours, expected, steps));
    }
    plan.phases.push(phase(common, "app-switch", vec![], changing(known).map(App::switch).collect()));
    plan.phases.push(phase(common, "swap", swapping, swap));
    let rest: Vec<Phase> = parts;
    plan.phases.extend(rest);
    plan.phases.push(phase(common, "variables", vec![], environment::steps(engine, known)));
    plan.phases.push(phase(common, "restart", vec![], known.apps.iter().flat_map(App::start).collect()));
    plan.phases.push(phase(common, "report", vec![], vec![report(known)]));
    // Ids of plans and backups are one plan's: those of the restore are what its steps name.
    plan.facts = restored.facts;
    plan.losses = restored.losses;
    plan.notes = restored.notes;
    plan.notes.extend(environment::notes(known));
    plan.id = restored.id;
    let pivots = plan.steps().filter(|step| step.class == StepClass::Pivot).count();
    if pivots != 1 {
        return Err(Failure::new(FailureKind::Bug, format!("a rollback has {pivots} points of no return")));
    }
    Ok(())
}

/// The plan that brings the data of that release back, from behind the fence: all that is written until then is in the
/// emergency backup, so more rows than were counted may leave.
fn restored(engine: &Engine, name: &ResourceName, backup: BackupId, why: &str) -> Result<Plan, Failure> {
    let request = Request::Restore {
        resource: name.clone(),
        from: BackupChoice::Exactly(backup),
        into: None,
        without_emergency_backup: None,
        accept_loss: AcceptLoss::Any,
        urgent: Some(why.to_owned()),
        ack: None,
        tablespaces: Default::default(),
    };
    databases::plan(&databases::gather(engine, &request, None)?, &request)
}
