//! The two traits between the engine and what surrounds it: hands that act, and eyes that watch.

use lifeboat_io::Stop;
use lifeboat_model::{Action, Fact, Failure, Found, Operation, Step, StepId, StepState};
use serde_json::Value;

/// Carries out actions. It does what it is told and decides nothing.
pub trait Perform: Send + Sync {
    /// Carries out one action. It either happens or leaves everything as it was, and may be repeated.
    /// Returns what was found or made; later steps and reports read it.
    ///
    /// # Errors
    /// What went wrong, for a person.
    fn perform(&self, action: &Action, context: &Context<'_>) -> Result<Value, Failure>;

    /// Looks whether an action that was in flight when a process died has happened.
    ///
    /// # Errors
    /// When the world cannot be asked; the same as [`Found::Unknown`].
    fn probe(&self, action: &Action, context: &Context<'_>) -> Result<(Found, Value), Failure>;

    /// Looks at something a plan rests on.
    ///
    /// # Errors
    /// When it cannot be looked at; the plan is then refused.
    fn look_at(&self, fact: &Fact) -> Result<String, Failure>;

    /// Called when an operation waits for a person, for messages. Nothing depends on it.
    fn after_pause(&self, _operation: &Operation) {}

    /// Called after an operation is over, for copies of its journal. Must not be needed for its success.
    ///
    /// # Errors
    /// What went wrong; it is told, and nothing else happens.
    fn after_close(&self, operation: &Operation) -> Result<(), Failure>;
}

/// What an actor may know beyond its action.
pub struct Context<'a> {
    /// The operation so far; outputs of earlier steps are in it.
    pub operation: &'a Operation,
    /// The step that is running.
    pub step: &'a StepId,
    /// Asks long work to end.
    pub stop: &'a Stop,
    /// Where progress is told.
    pub watch: &'a dyn Watch,
}

impl Context<'_> {
    /// What an earlier step found or made.
    ///
    /// # Errors
    /// When it has not finished, or its output is of another shape: the plan is wrong then.
    pub fn output<T: serde::de::DeserializeOwned>(&self, step: &StepId) -> Result<T, Failure> {
        let bug = |what: String| Failure::new(lifeboat_model::FailureKind::Bug, what);
        let output = self.operation.output(step).ok_or_else(|| bug(format!("step {step} left no result")))?;
        serde_json::from_value(output.clone())
            .map_err(|error| bug(format!("the result of {step} cannot be read: {error}")))
    }
}

/// Somebody who watches an operation: a progress bar, a page, a test.
pub trait Watch: Send + Sync {
    /// An operation was begun or taken up again.
    fn opened(&self, _operation: &Operation) {}
    /// A step begins, forward or (`back`) to be taken back.
    fn step_begins(&self, _index: usize, _step: &Step, _back: bool) {}
    /// So much of the running step is done: bytes or pages, of how many.
    fn progress(&self, _done: u64, _total: Option<u64>) {}
    /// A step has ended.
    fn step_ends(&self, _index: usize, _step: &Step, _state: &StepState) {}
    /// Something a person should know; the operation goes on.
    fn note(&self, _text: &str) {}
    /// Asked before a step begins, by who goes step by step.
    fn consents(&self, _operation: &Operation, _index: usize, _step: &Step) -> Consent {
        Consent::Go
    }
}

/// Whether a step may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// It may.
    Go,
    /// A person has done it by hand, and says this of it; it is looked at as far as that can be done, and put on record.
    ByHand(String),
    /// Not now; why.
    NotNow(String),
}

/// Nobody watches.
pub struct Unwatched;
impl Watch for Unwatched {}
