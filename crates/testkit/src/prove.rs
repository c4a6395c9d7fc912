//! `prove_plan`: every plan is run clean, then failed, killed and repeated at every step, then undone and done again.
//! The world must end as it was, or as it was meant - compared by content.

use std::sync::Arc;

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::{OnFailure, Operation, OperationState, Request};

use crate::{
    trouble::{InTrouble, Trouble, unless_it_dies},
    world::{Look, World},
};

/// How a plan is to be proven.
pub struct Case<'a> {
    /// A world in which the request makes sense.
    pub world: &'a World,
    /// The request.
    pub request: Request,
    /// Whether `undo` must bring the former content back.
    pub undo: bool,
}

/// What was tried, for the test's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Steps of the plan.
    pub steps: usize,
    /// Runs in all.
    pub runs: usize,
    /// Runs that ended as before.
    pub as_before: usize,
    /// Runs that ended as meant.
    pub as_meant: usize,
}

/// Proves a plan. Panics with the trouble and the difference when the world ends as it should not.
pub fn prove_plan(case: &Case<'_>) -> Tried {
    prove_steps(case, |_step| true)
}

/// The same, where only some of its steps get into trouble: others of them are proven elsewhere.
pub fn prove_steps(case: &Case<'_>, is_meant: impl Fn(&str) -> bool) -> Tried {
    prove(case, is_meant, false)
}

/// The same, and each way out leads where it is said to lead: before the point of no return an abort ends as before, after it as meant, and
/// who resumes, or does a step twice, ends as meant wherever it was.
pub fn prove_ways_out(case: &Case<'_>, is_meant: impl Fn(&str) -> bool) -> Tried {
    prove(case, is_meant, true)
}

fn prove(case: &Case<'_>, is_meant: impl Fn(&str) -> bool, each_way: bool) -> Tried {
    let before = case.world.look();
    let clean = case.world.copy();
    let done = clean.must(&clean.request_here(&case.request, case.world));
    let meant = clean.look();
    assert!(meant.debris.is_empty(), "a clean run leaves debris: {:?}", meant.debris);
    let mut tried = Tried { steps: done.steps.len(), runs: 1, ..Tried::default() };
    let ids: Vec<String> = done.plan.steps().map(|step| step.id.to_string()).collect();
    for step in (0..done.steps.len()).filter(|step| is_meant(&ids[*step])) {
        for trouble in [Trouble::Fail(step), Trouble::DieBefore(step), Trouble::DieAfter(step), Trouble::Repeat(step)] {
            for afterwards in afterwards(trouble) {
                let world = case.world.copy();
                let end = run_in(&world, &world.request_here(&case.request, case.world), trouble, *afterwards);
                let look = world.look();
                tried.runs += 1;
                let what = format!("{trouble:?} ({}), then {afterwards:?}", ids[step]);
                judge(&end, &look, &before, &meant, &what, &mut tried);
                if each_way {
                    led_there(&end, &done, step, trouble, *afterwards, &what);
                }
            }
        }
    }
    if case.undo {
        undo_and_redo(&clean, &done, &before, &meant);
    }
    tried
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    Resume,
    Abort,
}

/// After a death a person may want either; a failure past the point of no return can only be resumed.
fn afterwards(trouble: Trouble) -> &'static [Afterwards] {
    match trouble {
        Trouble::DieBefore(_) | Trouble::DieAfter(_) => &[Afterwards::Resume, Afterwards::Abort],
        Trouble::None | Trouble::Fail(_) | Trouble::Repeat(_) => &[Afterwards::Resume],
    }
}

fn run_in(world: &World, request: &Request, trouble: Trouble, afterwards: Afterwards) -> Operation {
    let engine = world.engine_with(|hands| Arc::new(InTrouble::new(hands, trouble)));
    let plan = engine.plan(request).unwrap();
    let run = unless_it_dies(|| engine.run(&plan, "tester", &Unwatched, &Stop::default()));
    let id = match run {
        Some(Ok(operation)) if operation.is_closed() => return operation,
        Some(Ok(operation)) => operation.id,
        Some(Err(error)) => panic!("{trouble:?}: {error}"),
        None => world.engine().unfinished_one(None).unwrap(),
    };
    drop(engine);
    let engine = world.engine();
    let aborted = match afterwards {
        Afterwards::Abort => engine.abort(&id, "tester", &Unwatched),
        Afterwards::Resume => engine.resume(&id, "tester", &Unwatched, &Stop::default()),
    };
    match aborted {
        Ok(operation) => operation,
        // Past its point of no return an operation can only be finished.
        Err(_refused) if afterwards == Afterwards::Abort => engine
            .resume(&id, "tester", &Unwatched, &Stop::default())
            .unwrap_or_else(|error| panic!("{trouble:?}: {error}")),
        Err(error) => panic!("{trouble:?}: {error}"),
    }
}

fn judge(end: &Operation, look: &Look, before: &Look, meant: &Look, what: &str, tried: &mut Tried) {
    match end.state {
        OperationState::Done => {
            assert_eq!(look, meant, "{what}: done, and the world is not as it was meant");
            tried.as_meant += 1;
        }
        OperationState::PutBack { .. } => {
            assert_eq!(look, before, "{what}: put back, and the world is not as it was");
            tried.as_before += 1;
        }
        OperationState::Running
        | OperationState::TurningBack { .. }
        | OperationState::Paused { .. }
        | OperationState::HandedOver { .. } => {
            panic!("{what}: it ended as {:?}", end.state)
        }
    }
}

/// A step of which the plan says that its failure is only noted does not turn the plan back.
fn led_there(end: &Operation, clean: &Operation, step: usize, trouble: Trouble, afterwards: Afterwards, what: &str) {
    let pivot = clean.plan.pivot().unwrap_or(usize::MAX);
    let is_noted = clean.plan.steps().nth(step).is_some_and(|step| step.on_failure == OnFailure::Note);
    let is_past = step > pivot || (step == pivot && matches!(trouble, Trouble::DieAfter(_)));
    let goes_on = match trouble {
        Trouble::None | Trouble::Repeat(_) => true,
        Trouble::Fail(_) => is_past || is_noted,
        Trouble::DieBefore(_) | Trouble::DieAfter(_) => is_past || afterwards == Afterwards::Resume,
    };
    assert_eq!(end.state == OperationState::Done, goes_on, "{what}: it ended as {:?}", end.state);
}

fn undo_and_redo(world: &World, done: &Operation, before: &Look, meant: &Look) {
    let undone = world.must(&Request::Undo { operation: done.id.clone() });
    assert_eq!(world.look().live, before.live, "undone, and the content is not as it was");
    let redone = world.must(&Request::Undo { operation: undone.id.clone() });
    assert_eq!(world.look().live, meant.live, "done again, and the content is not as it was meant");
    world.must(&Request::Undo { operation: redone.id });
    assert_eq!(world.look().live, before.live, "undone a second time, and the content is not as it was");
    assert!(world.look().debris.is_empty(), "undoing leaves debris: {:?}", world.look().debris);
}
