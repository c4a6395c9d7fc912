//! Planning a rollback that GitHub runs: it is asked once, with a reason, and looked at until it is over. What it does there
//! nobody here can take back, so asking is the point of no return.

use lifeboat_model::{
    Failure, FailureKind, Lease, OnFailure, Plan, PlatformAsk, Request, Step, StepClass, StepId, TargetAction, Undo,
    WorkflowAction,
};

use super::{
    level::{self, Acts},
    release::of,
    steps::{self, phase, step},
};
use crate::Engine;

/// What is said when nobody gave a reason.
const EXAMPLE: &str = "Emergency rollback - production down";

/// Plans to have GitHub run a workflow.
///
/// # Errors
/// The reason is missing; there is no target; the file's name is none.
pub(super) fn plan(engine: &Engine, request: &Request, ask: &PlatformAsk) -> Result<Plan, Failure> {
    let PlatformAsk::Workflow { target, file, reference, wait_ms, why } = ask else {
        return Err(steps::wrong_planner());
    };
    let usage = |message: &str| Failure::new(FailureKind::Usage, message);
    let reason = why.trim().to_owned();
    if reason.is_empty() {
        return Err(usage("the reason is missing, and the workflow wants one").hint(format!("--reason '{EXAMPLE}'")));
    }
    let target = engine.target(target.as_ref())?;
    let common = engine.common()?;
    let file = file.clone().unwrap_or_else(|| format!("rollback-{}.yml", common.scope.environment));
    if file.is_empty() || file.starts_with('-') || file.contains('/') {
        return Err(usage("a workflow is named by its file below .github/workflows")
            .hint("lifeboat rollback --workflow rollback-production.yml --reason WHY"));
    }
    let acts = Acts { target };
    let id = |step: &str| -> StepId { format!("{step}.{}", target.name).as_str().into() };
    let look = WorkflowAction::Look { file: file.clone() };
    let look = acts.read("runs", &format!("note which runs of {file} there are"), TargetAction::Workflow(look));
    let dispatch = WorkflowAction::Dispatch {
        file: file.clone(),
        reference: reference.clone().or_else(|| target.branch.clone()),
        reason: reason.clone(),
        before: id("runs"),
    };
    let because = "GitHub runs it, and what it has done is not taken back from here".to_owned();
    let title = format!("have GitHub run {file}: {reason}");
    let dispatch = acts.action(TargetAction::Workflow(dispatch));
    let dispatch = step("dispatch", title, StepClass::Pivot, dispatch, Undo::Impossible { because });
    let ends = WorkflowAction::Ends {
        file: file.clone(),
        reason: reason.clone(),
        before: id("runs"),
        asked_by: id("dispatch"),
        limit_ms: *wait_ms,
    };
    let ends = acts.read("ends", "the run is over, as a success", TargetAction::Workflow(ends));
    // How it ended is told and not waited for: nobody here could mend it.
    let told = |step: Step| Step { on_failure: OnFailure::Note, ..of(step, target) };
    let title = format!("roll {} back by {file}: {reason}", common.scope);
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    plan.phases = vec![
        phase(&common, "preflight", vec![], vec![of(look, target)]),
        phase(&common, "dispatch", vec![], vec![of(dispatch, target)]),
        phase(&common, "run", vec![], vec![told(ends)]),
    ];
    let works = acts.works(level::Log::default(), &target.probes);
    if !works.is_empty() {
        plan.phases.push(phase(&common, "verify", vec![], works.into_iter().map(told).collect()));
    }
    plan.notes =
        vec![format!("gh is run in {}; the repository is the one that it finds there.", target.folder.display())];
    Ok(plan)
}
