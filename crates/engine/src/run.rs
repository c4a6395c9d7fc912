//! Record, act, unwind: how anything happens at all.
//!
//! A step is written into the journal before it begins and after it ends. Going forward, the first failure before the
//! point of no return turns the operation back: what was done is taken back in reverse order. After that point there is
//! only forward: the operation waits and is resumed. Wherever the process dies, the journal tells the next one where.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lifeboat_io::Stop;
use lifeboat_model::{
    Action, Event, Failure, FailureKind, OnFailure, Operation, OperationId, OperationState, Outcome, Step, StepState,
    TargetAction, Undo,
};
use lifeboat_store::{Journal, JournalError};
use serde_json::Value;

use crate::{
    Engine,
    perform::{Consent, Context, Watch},
};

/// What could not even be written down, or not be begun.
#[derive(Debug)]
pub struct RunError {
    /// What went wrong.
    pub failure: Failure,
    /// The operation that is left open, when one was begun: `resume` or `abort` continues it.
    pub left_open: Option<OperationId>,
}

impl From<Failure> for RunError {
    fn from(failure: Failure) -> RunError {
        RunError { failure, left_open: None }
    }
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for RunError {}

/// An operation being carried out.
pub(crate) struct Course<'a> {
    pub engine: &'a Engine,
    pub journal: Journal,
    pub watch: &'a dyn Watch,
    pub stop: &'a Stop,
}

impl Course<'_> {
    /// Carries the operation on in the direction it was going, to its end or to a pause.
    pub fn go_on(mut self) -> Result<Operation, RunError> {
        let gone = match self.operation().state {
            OperationState::TurningBack { .. } => self.back(),
            OperationState::Running | OperationState::Paused { .. } => self.forward(),
            OperationState::Done | OperationState::PutBack { .. } | OperationState::HandedOver { .. } => Ok(()),
        };
        let operation = self.journal.operation().clone();
        gone.map_err(|error| left_open(&operation, &error))?;
        if !operation.is_closed() {
            self.engine.hands.after_pause(&operation);
        } else if let Err(failure) = self.engine.hands.after_close(&operation) {
            self.watch.note(&format!("The journal could not be copied into the vault: {failure}."));
        }
        Ok(operation)
    }

    fn operation(&self) -> &Operation {
        self.journal.operation()
    }

    fn forward(&mut self) -> Result<(), JournalError> {
        while let Some(index) = self.operation().next_step() {
            // Past the point of no return the shortest way to safety is to the end.
            if self.stop.wanted() && !self.operation().past_pivot {
                let why = Failure::new(FailureKind::Interrupted, "stopped at a safe point on request");
                return self.pause(why);
            }
            let step = self.step(index);
            let acted = match self.watch.consents(self.operation(), index, &step) {
                Consent::Go => self.act(index, &step)?,
                Consent::ByHand(note) => self.by_hand(index, &step, &note)?,
                Consent::NotNow(why) => {
                    return self.pause(Failure::new(FailureKind::Interrupted, why));
                }
            };
            let Err(failure) = acted else { continue };
            match step.on_failure {
                OnFailure::Note if failure.kind != FailureKind::Interrupted => continue,
                OnFailure::Note => return self.pause(failure),
                OnFailure::Wait => return self.pause(failure),
                OnFailure::Unwind | OnFailure::Hold if self.operation().past_pivot => return self.pause(failure),
                OnFailure::Hold if failure.kind == FailureKind::Interrupted => return self.pause(failure),
                OnFailure::Unwind | OnFailure::Hold => return self.turn_back(failure),
            }
        }
        self.journal.append(Event::Closed { state: Outcome::Done })
    }

    /// Waits; where somebody asked for it to make way, with who that was.
    fn pause(&mut self, why: Failure) -> Result<(), JournalError> {
        let is_asked = why.kind == FailureKind::Interrupted;
        let waiting = self.engine.waiting(&self.operation().plan).filter(|_| is_asked);
        self.journal.append(Event::Paused { why: waiting.into_iter().fold(why, Failure::because) })
    }

    /// Runs one step between its two lines. The outer result is the journal's, the inner one the step's.
    fn act(&mut self, index: usize, step: &Step) -> Result<Result<(), Failure>, JournalError> {
        let attempt = self.operation().attempts[index] + 1;
        self.journal.append(Event::StepStarted { step: step.id.clone(), attempt })?;
        self.watch.step_begins(index, step, false);
        let (result, took_ms) = self.timed(|course| course.perform(step, &step.action, course.stop));
        let done = match result {
            Ok(output) => {
                self.journal.append(Event::StepFinished { step: step.id.clone(), took_ms, output })?;
                if self.operation().is_pivot(index) {
                    self.journal.append(Event::PivotCrossed { step: step.id.clone() })?;
                }
                Ok(())
            }
            Err(mut failure) => {
                failure.hint = step.hint.clone().or(failure.hint);
                let noted = step.on_failure == OnFailure::Note && failure.kind != FailureKind::Interrupted;
                let (step, why) = (step.id.clone(), failure.clone());
                self.journal.append(Event::StepFailed { step, took_ms, failure: why, noted })?;
                Err(failure)
            }
        };
        self.watch.step_ends(index, step, &self.operation().steps[index]);
        self.tell_budget(index)?;
        Ok(done)
    }

    /// A person has done the step. What can be seen of it is looked at; it is on record with its time, and with who did it.
    fn by_hand(&mut self, index: usize, step: &Step, note: &str) -> Result<Result<(), Failure>, JournalError> {
        let attempt = self.operation().attempts[index] + 1;
        self.journal.append(Event::StepStarted { step: step.id.clone(), attempt })?;
        self.watch.step_begins(index, step, false);
        let seen = match seen_by_hand(&step.action) {
            Some(look) => self.perform(step, &look, self.stop),
            None => Ok(Value::Null),
        };
        let done = match seen {
            Ok(_) => {
                let output = serde_json::json!({ "by_hand": note });
                self.journal.append(Event::Adopted { step: step.id.clone(), output })?;
                if self.operation().is_pivot(index) {
                    self.journal.append(Event::PivotCrossed { step: step.id.clone() })?;
                }
                Ok(())
            }
            Err(failure) => {
                let failure = failure.while_doing("it was said to be done by hand, and that is not what is seen");
                let (step, why) = (step.id.clone(), failure.clone());
                self.journal.append(Event::StepFailed { step, took_ms: 0, failure: why, noted: false })?;
                Err(failure)
            }
        };
        self.watch.step_ends(index, step, &self.operation().steps[index]);
        Ok(done)
    }

    /// Calls the hands. A panic in them is a failure like any other: what was done is still taken back.
    pub fn perform(&self, step: &Step, action: &lifeboat_model::Action, stop: &Stop) -> Result<Value, Failure> {
        let context = Context { operation: self.operation(), step: &step.id, stop, watch: self.watch };
        let hands = &self.engine.hands;
        catch_unwind(AssertUnwindSafe(|| hands.perform(action, &context))).unwrap_or_else(|panic| {
            if panic.is::<lifeboat_io::failpoint::Death>() {
                std::panic::resume_unwind(panic); // a test's stand-in for `kill -9`: nothing more is written
            }
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let failure = Failure::new(FailureKind::Bug, format!("step {} broke off by a defect in Lifeboat", step.id));
            Err(failure.because(what.unwrap_or_default()))
        })
    }

    pub fn turn_back(&mut self, why: Failure) -> Result<(), JournalError> {
        self.journal.append(Event::TurnedBack { why })?;
        self.back()
    }

    /// Takes back what was done, last first. An undo that fails stops here and is never skipped.
    fn back(&mut self) -> Result<(), JournalError> {
        for index in (0..self.operation().steps.len()).rev() {
            let step = self.step(index);
            let Undo::By(action) = &step.undo else { continue };
            match self.operation().steps[index] {
                StepState::Planned | StepState::Undone => continue,
                StepState::Running | StepState::Done { .. } | StepState::Failed { .. } => {}
                StepState::Undoing | StepState::Stuck { .. } => {}
            }
            self.journal.append(Event::UndoStarted { step: step.id.clone() })?;
            self.watch.step_begins(index, &step, true);
            // Taking back is not broken off: it is the way to safety.
            let (result, took_ms) = self.timed(|course| course.perform(&step, action, &Stop::default()));
            if let Err(failure) = result {
                self.journal.append(Event::UndoFailed { step: step.id.clone(), failure: failure.clone() })?;
                self.watch.step_ends(index, &step, &self.operation().steps[index]);
                return self.journal.append(Event::Paused { why: failure });
            }
            self.journal.append(Event::UndoFinished { step: step.id.clone(), took_ms })?;
            self.watch.step_ends(index, &step, &self.operation().steps[index]);
        }
        self.journal.append(Event::Closed { state: Outcome::PutBack })
    }

    fn step(&self, index: usize) -> Step {
        // Indexes come from the operation's own list of steps, which is as long as the plan's.
        self.operation().plan.steps().nth(index).expect("a step of the plan").clone()
    }

    fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, u64) {
        let begin = self.engine.io.clock.elapsed();
        let result = work(self);
        (result, self.engine.io.clock.elapsed().saturating_sub(begin).as_millis() as u64)
    }

    /// Says when the phase of this step has taken longer than its budget. Reported, never killed.
    fn tell_budget(&mut self, index: usize) -> Result<(), JournalError> {
        let operation = self.operation();
        let mut first = 0;
        for phase in &operation.plan.phases {
            let steps = first..first + phase.steps.len();
            first = steps.end;
            let (true, Some(budget)) = (steps.contains(&index), phase.budget_ms) else { continue };
            let took: u64 = operation.steps[steps].iter().map(took_ms).sum();
            let told = operation.over_budget.iter().any(|(name, _)| name == &phase.name);
            if took > budget && !told {
                let over = Event::OverBudget { phase: phase.name.clone(), over_ms: took - budget };
                self.watch.note(&format!("Phase {} is over its budget.", phase.name));
                return self.journal.append(over);
            }
        }
        Ok(())
    }
}

/// What can be looked at when a person says that they have done a step.
fn seen_by_hand(action: &Action) -> Option<Action> {
    match action {
        Action::Target { target, action: TargetAction::Switch { version, .. } } => Some(Action::Target {
            target: target.clone(),
            action: TargetAction::CheckRuns { version: version.clone() },
        }),
        _other => None,
    }
}

fn took_ms(state: &StepState) -> u64 {
    match state {
        StepState::Done { took_ms, .. } => *took_ms,
        StepState::Planned | StepState::Running | StepState::Failed { .. } => 0,
        StepState::Undoing | StepState::Undone | StepState::Stuck { .. } => 0,
    }
}

pub(crate) fn left_open(operation: &Operation, error: &(dyn std::error::Error + 'static)) -> RunError {
    let failure = Failure::from_error(FailureKind::Outside, error)
        .while_doing(format!("operation {} stopped because its journal cannot be written", operation.id))
        .hint(format!("make room or repair the disk, then: lifeboat resume {}", operation.id));
    RunError { failure, left_open: Some(operation.id.clone()) }
}
