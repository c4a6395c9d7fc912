//! An operation: the execution of a plan, as its journal tells it.
//!
//! The journal is a list of entries, one JSON line each, every line holding the digest of the line before. What an
//! operation's state is, is nothing but those entries folded together by [`Operation::take`].

use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    id::{OperationId, StepId},
    plan::{Plan, StepClass, Undo},
    time::{Duration, Timestamp, since},
};

/// The schema tag of a journal line. Fields and events are only added within one number.
pub const ENTRY_SCHEMA: &str = "lifeboat/entry@1";

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`ENTRY_SCHEMA`].
    pub schema: String,
    /// Number of the line, from 0.
    pub seq: u64,
    /// The operation.
    pub op: OperationId,
    /// Which grant of the lease it was written under; grows with each.
    pub epoch: u64,
    /// When, by the wall clock, UTC.
    pub at: Timestamp,
    /// Milliseconds since this process took the lease, by a clock that never goes back.
    pub mono_ms: u64,
    /// What happened.
    pub event: Event,
    /// `sha256:` and the digest of the line before, without its line feed; of nothing for the first.
    pub prev: String,
    /// The first 16 hex digits of the SHA-256 of this very line as it would be without this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<String>,
}

/// What can happen to an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// It was begun; nothing has been done yet.
    Opened {
        /// Everything that will happen.
        plan: Box<Plan>,
        /// SHA-256 of the plan: what was agreed to.
        digest: String,
        /// Who asked.
        by: String,
        /// On which host.
        host: String,
        /// In which process.
        pid: u32,
        /// By which version.
        version: String,
    },
    /// A step is about to begin.
    StepStarted {
        /// Which.
        step: StepId,
        /// The how-many-th time, from 1.
        attempt: u32,
    },
    /// A step is done.
    StepFinished {
        /// Which.
        step: StepId,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// What it found or made.
        output: serde_json::Value,
    },
    /// A step that was in flight when a process died turned out to be done.
    Adopted {
        /// Which.
        step: StepId,
        /// What it found or made, as far as it can still be told.
        output: serde_json::Value,
    },
    /// A step failed. What it had begun it took back itself.
    StepFailed {
        /// Which.
        step: StepId,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// Why.
        failure: Failure,
        /// It is a finding and the operation goes on.
        noted: bool,
    },
    /// From here on only forward.
    PivotCrossed {
        /// By which step.
        step: StepId,
    },
    /// The operation turns back.
    TurnedBack {
        /// Why.
        why: Failure,
    },
    /// A step is about to be taken back.
    UndoStarted {
        /// Which.
        step: StepId,
    },
    /// A step has been taken back.
    UndoFinished {
        /// Which.
        step: StepId,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// A step could not be taken back.
    UndoFailed {
        /// Which.
        step: StepId,
        /// Why not.
        failure: Failure,
    },
    /// It waits: at a safe point because somebody asked, or for a person.
    Paused {
        /// Why.
        why: Failure,
    },
    /// Another process goes on with it.
    Resumed {
        /// Who asked.
        by: String,
        /// In which process.
        pid: u32,
        /// Milliseconds since the line before, by the wall clock. They count against the budget.
        gap_ms: u64,
    },
    /// A phase took longer than its budget.
    OverBudget {
        /// Which phase.
        phase: String,
        /// By how much, in milliseconds.
        over_ms: u64,
    },
    /// It is over.
    Closed {
        /// How.
        state: Outcome,
    },
}

/// How an operation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every step is done.
    Done,
    /// Everything that had been done was taken back.
    PutBack,
    /// It is left where it stands: what comes next goes on from what its journal tells.
    HandedOver,
}

/// How things stand with an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum OperationState {
    /// Going forward; or its process died while it was.
    Running,
    /// Going back; or its process died while it was.
    TurningBack {
        /// Why.
        why: Failure,
    },
    /// Waiting at a safe point, or for a person.
    Paused {
        /// Why.
        why: Failure,
    },
    /// Done.
    Done,
    /// Everything was taken back.
    PutBack {
        /// Why.
        why: Option<Failure>,
    },
    /// Left where it stands: what comes next goes on from what its journal tells.
    HandedOver {
        /// Why it was not brought to its own end.
        why: Failure,
    },
}

/// How things stand with a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum StepState {
    /// Not begun.
    Planned,
    /// Begun and not ended; or its process died.
    Running,
    /// Done.
    Done {
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// What it found or made.
        output: serde_json::Value,
    },
    /// Failed.
    Failed {
        /// Why.
        failure: Failure,
        /// It is a finding and the operation went on.
        noted: bool,
    },
    /// Being taken back; or the process died while it was.
    Undoing,
    /// Taken back.
    Undone,
    /// Could not be taken back.
    Stuck {
        /// Why not.
        failure: Failure,
    },
}

/// What a look at the world says about a step that was in flight when its process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// It left no trace.
    NotStarted,
    /// It is done.
    Done,
    /// It is half done.
    Partial,
    /// It cannot be told.
    Unknown,
}

/// An operation as its journal tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its name.
    pub id: OperationId,
    /// Its plan.
    pub plan: Plan,
    /// Who asked for it.
    pub by: String,
    /// Where it was begun.
    pub host: String,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When the last line was written.
    pub last_at: Timestamp,
    /// From its first line to its last, in milliseconds: by a clock that never goes back as long as one process held the
    /// lease, by the wall's from one such process to the next.
    #[serde(default)]
    pub elapsed_ms: u64,
    /// The last line's place on the clock that never goes back; what comes next under the same lease is measured from it.
    #[serde(default)]
    pub mono_ms: u64,
    /// Under which grant of the lease it was written last.
    pub epoch: u64,
    /// Under which grant of the lease it was begun: of two under one lease, the later one has the greater, whatever clocks say.
    #[serde(default)]
    pub began_epoch: u64,
    /// How its steps stand, in the plan's order.
    pub steps: Vec<StepState>,
    /// How often each step was begun.
    pub attempts: Vec<u32>,
    /// Whether the point of no return lies behind.
    pub past_pivot: bool,
    /// Phases that took longer than their budget, with the excess in milliseconds.
    pub over_budget: Vec<(String, u64)>,
    /// How it stands.
    pub state: OperationState,
    /// Number of lines so far.
    pub lines: u64,
}

/// A journal that does not tell a possible story.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the journal of {op} cannot follow the lines before it: {what}")]
pub struct ImpossibleEntry {
    /// The operation.
    pub op: OperationId,
    /// The line's number, from 0.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

impl Operation {
    /// Reads a whole journal.
    pub fn from_entries(entries: &[Entry]) -> Result<Operation, ImpossibleEntry> {
        let (first, rest) = entries.split_first().ok_or_else(|| ImpossibleEntry {
            op: OperationId::from_random(0),
            line: 0,
            what: "there is no line at all".to_owned(),
        })?;
        let mut operation = Operation::open(first)?;
        rest.iter().try_for_each(|entry| operation.take(entry))?;
        Ok(operation)
    }

    /// Begins with a journal's first line.
    pub fn open(first: &Entry) -> Result<Operation, ImpossibleEntry> {
        let Event::Opened { plan, digest, by, host, .. } = &first.event else {
            return Err(impossible(first, "a journal begins with \"opened\""));
        };
        if plan.digest() != *digest {
            return Err(impossible(first, "the plan is not the one that was agreed to"));
        }
        let steps = plan.steps().count();
        Ok(Operation {
            id: first.op.clone(),
            plan: (**plan).clone(),
            by: by.clone(),
            host: host.clone(),
            started_at: first.at,
            last_at: first.at,
            elapsed_ms: 0,
            mono_ms: first.mono_ms,
            epoch: first.epoch,
            began_epoch: first.epoch,
            steps: vec![StepState::Planned; steps],
            attempts: vec![0; steps],
            past_pivot: false,
            over_budget: Vec::new(),
            state: OperationState::Running,
            lines: 1,
        })
    }

    /// Takes in the next line.
    pub fn take(&mut self, entry: &Entry) -> Result<(), ImpossibleEntry> {
        if entry.op != self.id || entry.seq != self.lines {
            return Err(impossible(entry, "a line is missing, or belongs to another operation"));
        }
        if entry.epoch < self.epoch {
            return Err(impossible(entry, "it was written under an older lease"));
        }
        if self.is_closed() {
            return Err(impossible(entry, "the operation was closed"));
        }
        self.apply(entry)?;
        self.lines += 1;
        self.elapsed_ms += match entry.epoch == self.epoch {
            true => entry.mono_ms.saturating_sub(self.mono_ms),
            false => u64::try_from(since(self.last_at, entry.at).as_millis()).unwrap_or(u64::MAX),
        };
        self.mono_ms = entry.mono_ms;
        self.last_at = entry.at;
        self.epoch = entry.epoch;
        Ok(())
    }

    /// From its first line to its last; see [`Operation::elapsed_ms`].
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms)
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ImpossibleEntry> {
        match &entry.event {
            Event::Opened { .. } => return Err(impossible(entry, "it was opened before")),
            Event::StepStarted { step, attempt } => {
                self.must_go_forward(entry)?;
                let index = self.index(entry, step)?;
                if self.next_step() != Some(index) {
                    return Err(impossible(entry, "another step is next"));
                }
                self.step(entry, index, |state| match state {
                    StepState::Planned | StepState::Running | StepState::Undone => Some(StepState::Running),
                    StepState::Failed { noted: false, .. } => Some(StepState::Running),
                    StepState::Failed { noted: true, .. } | StepState::Done { .. } => None,
                    StepState::Undoing | StepState::Stuck { .. } => None,
                })?;
                self.attempts[index] = *attempt;
            }
            Event::StepFinished { step, took_ms, output } => {
                let done = StepState::Done { took_ms: *took_ms, output: output.clone() };
                self.only_running(entry, step, done)?;
            }
            Event::Adopted { step, output } => {
                self.only_running(entry, step, StepState::Done { took_ms: 0, output: output.clone() })?;
            }
            Event::StepFailed { step, failure, noted, .. } => {
                self.only_running(entry, step, StepState::Failed { failure: failure.clone(), noted: *noted })?;
            }
            Event::PivotCrossed { step } => {
                self.must_go_forward(entry)?;
                let index = self.index(entry, step)?;
                if !self.is_pivot(index) || !matches!(self.steps[index], StepState::Done { .. }) {
                    return Err(impossible(entry, "only a point of no return that is done can be crossed"));
                }
                self.past_pivot = true;
            }
            Event::TurnedBack { why } => {
                let pivot_is_done =
                    self.plan.pivot().is_some_and(|pivot| matches!(self.steps[pivot], StepState::Done { .. }));
                if self.past_pivot || pivot_is_done {
                    return Err(impossible(entry, "past the point of no return there is no way back"));
                }
                self.state = OperationState::TurningBack { why: why.clone() };
            }
            Event::UndoStarted { step } => {
                let index = self.index(entry, step)?;
                if self.past_pivot && self.plan.pivot().is_some_and(|pivot| index <= pivot) {
                    return Err(impossible(entry, "past the point of no return there is no way back"));
                }
                self.step(entry, index, |state| match state {
                    StepState::Planned | StepState::Undone => None,
                    StepState::Running | StepState::Done { .. } | StepState::Failed { .. } => Some(StepState::Undoing),
                    StepState::Undoing | StepState::Stuck { .. } => Some(StepState::Undoing),
                })?;
            }
            Event::UndoFinished { step, .. } => {
                let index = self.index(entry, step)?;
                self.step(entry, index, |state| matches!(state, StepState::Undoing).then_some(StepState::Undone))?;
            }
            Event::UndoFailed { step, failure } => {
                let index = self.index(entry, step)?;
                let stuck = StepState::Stuck { failure: failure.clone() };
                self.step(entry, index, |state| matches!(state, StepState::Undoing).then_some(stuck))?;
            }
            Event::Paused { why } => self.pause(why),
            Event::Resumed { .. } => self.unpause(),
            Event::OverBudget { phase, over_ms } => {
                self.over_budget.retain(|(name, _)| name != phase);
                self.over_budget.push((phase.clone(), *over_ms));
            }
            Event::Closed { state } => self.close(entry, *state)?,
        }
        Ok(())
    }

    fn must_go_forward(&self, entry: &Entry) -> Result<(), ImpossibleEntry> {
        match self.state {
            OperationState::Running => Ok(()),
            OperationState::TurningBack { .. } => Err(impossible(entry, "the operation is turning back")),
            OperationState::Paused { .. } => Err(impossible(entry, "the operation waits and nobody has resumed it")),
            OperationState::Done | OperationState::PutBack { .. } | OperationState::HandedOver { .. } => {
                Err(impossible(entry, "the operation was closed"))
            }
        }
    }

    fn pause(&mut self, why: &Failure) {
        // A pause on the way back keeps the direction: whoever resumes goes on going back.
        if !matches!(self.state, OperationState::TurningBack { .. }) {
            self.state = OperationState::Paused { why: why.clone() };
        }
    }

    fn unpause(&mut self) {
        if matches!(self.state, OperationState::Paused { .. }) {
            self.state = OperationState::Running;
        }
    }

    fn close(&mut self, entry: &Entry, outcome: Outcome) -> Result<(), ImpossibleEntry> {
        self.state = match (outcome, &self.state) {
            (Outcome::Done, OperationState::Running) if self.next_step().is_none() => OperationState::Done,
            (Outcome::Done, _) => return Err(impossible(entry, "it is not done: steps are left")),
            (Outcome::PutBack, OperationState::TurningBack { why }) if self.is_taken_back() => {
                OperationState::PutBack { why: Some(why.clone()) }
            }
            (Outcome::PutBack, _) => return Err(impossible(entry, "it is not put back: steps are left to be undone")),
            (Outcome::HandedOver, OperationState::Paused { why } | OperationState::TurningBack { why }) => {
                OperationState::HandedOver { why: why.clone() }
            }
            (Outcome::HandedOver, _) => return Err(impossible(entry, "only what waits, or goes back, is handed over")),
        };
        Ok(())
    }

    /// Whether every step that can be taken back was, or was never begun.
    fn is_taken_back(&self) -> bool {
        self.plan.steps().zip(&self.steps).all(|(step, state)| match (&step.undo, state) {
            (Undo::Nothing | Undo::Impossible { .. }, _) => true,
            (Undo::By(_), StepState::Planned | StepState::Undone) => true,
            (Undo::By(_), StepState::Running | StepState::Done { .. } | StepState::Failed { .. }) => false,
            (Undo::By(_), StepState::Undoing | StepState::Stuck { .. }) => false,
        })
    }

    fn index(&self, entry: &Entry, step: &StepId) -> Result<usize, ImpossibleEntry> {
        let found = self.plan.steps().position(|known| &known.id == step);
        found.ok_or_else(|| impossible(entry, &format!("the plan has no step {step}")))
    }

    fn step(
        &mut self,
        entry: &Entry,
        index: usize,
        next: impl FnOnce(&StepState) -> Option<StepState>,
    ) -> Result<(), ImpossibleEntry> {
        let state = next(&self.steps[index]);
        self.steps[index] = state.ok_or_else(|| impossible(entry, "the step is in no state for that"))?;
        Ok(())
    }

    fn only_running(&mut self, entry: &Entry, step: &StepId, to: StepState) -> Result<(), ImpossibleEntry> {
        self.must_go_forward(entry)?;
        let index = self.index(entry, step)?;
        self.step(entry, index, |state| matches!(state, StepState::Running).then_some(to))
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        match self.state {
            OperationState::Done | OperationState::PutBack { .. } | OperationState::HandedOver { .. } => true,
            OperationState::Running | OperationState::TurningBack { .. } | OperationState::Paused { .. } => false,
        }
    }

    /// The step that would run next, going forward.
    pub fn next_step(&self) -> Option<usize> {
        self.steps.iter().position(|state| match state {
            StepState::Done { .. } | StepState::Failed { noted: true, .. } => false,
            StepState::Planned | StepState::Running | StepState::Failed { noted: false, .. } => true,
            StepState::Undoing | StepState::Undone | StepState::Stuck { .. } => true,
        })
    }

    /// What a finished step found or made.
    pub fn output(&self, step: &StepId) -> Option<&serde_json::Value> {
        let index = self.plan.steps().position(|known| &known.id == step)?;
        match &self.steps[index] {
            StepState::Done { output, .. } => Some(output),
            StepState::Planned | StepState::Running | StepState::Failed { .. } => None,
            StepState::Undoing | StepState::Undone | StepState::Stuck { .. } => None,
        }
    }

    /// Whether the step with this index is the point of no return.
    pub fn is_pivot(&self, index: usize) -> bool {
        self.plan.steps().nth(index).is_some_and(|step| step.class == StepClass::Pivot)
    }
}

fn impossible(entry: &Entry, what: &str) -> ImpossibleEntry {
    ImpossibleEntry { op: entry.op.clone(), line: entry.seq, what: what.to_owned() }
}
