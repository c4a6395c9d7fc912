//! Going on after a death: ask the world first, then continue, or take back.

use lifeboat_io::Stop;
use lifeboat_model::{
    Event, Failure, FailureKind, Found, Operation, OperationId, OperationState, Outcome, StepClass, StepState, Undo,
};
use lifeboat_store::{Journal, JournalError, JournalFile};

use crate::{
    Engine,
    perform::{Context, Watch},
    run::{Course, RunError, left_open},
};

impl Engine {
    /// Goes on with an operation that stopped: interrupted, killed, or waiting for a person.
    ///
    /// # Errors
    /// When it is over, somebody else works in its scope, its facts have changed, or its journal cannot be used.
    pub fn resume(&self, id: &OperationId, by: &str, watch: &dyn Watch, stop: &Stop) -> Result<Operation, RunError> {
        let heard;
        let (mut course, _lease) = self.take_up(id, by, watch, stop, true)?;
        let operation = course.journal.operation().clone();
        heard = self.heard(&operation.plan, stop)?;
        course.stop = &heard;
        let broken = |error: JournalError| left_open(&operation, &error);
        if !operation.past_pivot && !matches!(operation.state, OperationState::TurningBack { .. }) {
            // A step in flight may have changed already what it was going to change.
            let begun = |index: usize| usize::from(is_in_flight(&operation.steps[index]));
            let first = operation.next_step().map_or(usize::MAX, |next| next + begun(next));
            self.check_facts(&operation.plan, first).map_err(|failure| RunError {
                failure: failure.hint(format!("put it back instead: lifeboat abort {id}")),
                left_open: Some(id.clone()),
            })?;
        }
        course.resumed(by).map_err(broken)?;
        if let Err(failure) = course.settle_flight().map_err(broken)? {
            course.journal.append(Event::Paused { why: failure.clone() }).map_err(broken)?;
            return Err(RunError { failure, left_open: Some(id.clone()) });
        }
        course.go_on()
    }

    /// Takes back what an unfinished operation has done so far.
    ///
    /// # Errors
    /// As [`Engine::resume`]; and past the point of no return, where `undo` after the end is the way back.
    pub fn abort(&self, id: &OperationId, by: &str, watch: &dyn Watch) -> Result<Operation, RunError> {
        self.take_back(id, by, watch, Failure::new(FailureKind::Interrupted, format!("{by} asked to take it back")))
    }

    fn take_back(&self, id: &OperationId, by: &str, watch: &dyn Watch, why: Failure) -> Result<Operation, RunError> {
        let stop = Stop::default();
        let (mut course, _lease) = self.take_up(id, by, watch, &stop, false)?;
        let operation = course.journal.operation().clone();
        let broken = |error: JournalError| left_open(&operation, &error);
        if let Some(failure) = course.no_way_back() {
            return Err(RunError { failure, left_open: Some(id.clone()) });
        }
        course.resumed(by).map_err(broken)?;
        if !matches!(operation.state, OperationState::TurningBack { .. }) {
            course.journal.append(Event::TurnedBack { why }).map_err(broken)?;
        }
        course.go_on()
    }

    /// Ends a deploy that is not over, so that a rollback can go on from where things stand: what it did is taken back. Where that cannot
    /// be, or fails, its journal is closed as it is; what it left is found by looking.
    ///
    /// # Errors
    /// As [`Engine::resume`].
    pub fn take_over(
        &self,
        id: &OperationId,
        by: &str,
        reason: &str,
        watch: &dyn Watch,
    ) -> Result<Operation, RunError> {
        let stop = Stop::default();
        let (course, lease) = self.take_up(id, by, watch, &stop, false)?;
        let why = course.no_way_back();
        drop((course, lease));
        let why = match why {
            Some(why) => why,
            None => {
                // A person's verdict on the version, unlike an abort: it is held.
                let why = Failure::new(FailureKind::NeedsPerson, format!("{by} rolled back while it was deployed"));
                let reason = Some(reason.trim()).filter(|reason| !reason.is_empty());
                let ended = self.take_back(id, by, watch, reason.into_iter().fold(why, Failure::because))?;
                if ended.is_closed() {
                    return Ok(ended);
                }
                Failure::new(FailureKind::NeedsPerson, format!("{id} could not be taken back"))
            }
        };
        watch.note(&format!("{why}; a rollback goes on from where it stands."));
        let (mut course, _lease) = self.take_up(id, by, watch, &stop, false)?;
        let operation = course.journal.operation().clone();
        let broken = |error: JournalError| left_open(&operation, &error);
        course.resumed(by).map_err(broken)?;
        let failure = why.because(format!("{by} rolls back from where it stands"));
        course.journal.append(Event::Paused { why: failure }).map_err(broken)?;
        course.journal.append(Event::Closed { state: Outcome::HandedOver }).map_err(broken)?;
        course.go_on()
    }

    /// The unfinished operation a person means: the named one, or the only one there is.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn unfinished_one(&self, named: Option<&OperationId>) -> Result<OperationId, Failure> {
        if let Some(id) = named {
            return Ok(id.clone());
        }
        let open = self.catalog()?.unfinished().map_err(|error| self.failure(&error))?;
        let scope = self.setup.scope.to_string();
        let mine: Vec<_> = open.into_iter().filter(|row| row.scope == scope).collect();
        match mine.as_slice() {
            [] => Err(Failure::new(FailureKind::Refused, format!("nothing in {scope} is waiting to be continued"))),
            [only] => Ok(only.id.clone()),
            several => {
                let names: Vec<&str> = several.iter().map(|row| row.id.as_str()).collect();
                let hint = format!("name one of: {}", names.join(", "));
                Err(Failure::new(FailureKind::Refused, "more than one operation is waiting").hint(hint))
            }
        }
    }

    fn take_up<'a>(
        &'a self,
        id: &OperationId,
        by: &str,
        watch: &'a dyn Watch,
        stop: &'a Stop,
        forward: bool,
    ) -> Result<(Course<'a>, crate::lease::Held), RunError> {
        let path = self.state.journal(id);
        let known = JournalFile::read(&path).and_then(|file| file.operation(&path));
        let known = known.map_err(|error| self.journal_failure(id, &error))?;
        if known.is_closed() {
            return Err(
                Failure::new(FailureKind::Refused, format!("{id} is over; there is nothing to continue")).into()
            );
        }
        let makes_way = forward && known.plan.request.makes_way();
        let lease = self.take_lease(&known.plan, id, by, watch, makes_way)?;
        // Only now nobody else writes it: read again.
        let mut journal =
            Journal::reopen(&path, lease.epoch(), &self.io).map_err(|error| self.journal_failure(id, &error))?;
        if journal.operation().is_closed() {
            return Err(
                Failure::new(FailureKind::Refused, format!("{id} has just been finished by somebody else")).into()
            );
        }
        self.listen(&mut journal);
        Ok((Course { engine: self, journal, watch, stop }, lease))
    }

    pub(crate) fn journal_failure(&self, id: &OperationId, error: &JournalError) -> Failure {
        let kind = match error {
            JournalError::Path(_) | JournalError::Unwritable(_) => FailureKind::Refused,
            JournalError::NotAnEntry { .. } | JournalError::BrokenChain { .. } => FailureKind::Damaged,
            JournalError::Empty { .. } | JournalError::Impossible { .. } => FailureKind::Damaged,
        };
        Failure::from_error(kind, error).while_doing(format!("cannot read the journal of {id}"))
    }
}

/// Whether a step was begun, or was being taken back, when its process died.
fn is_in_flight(state: &StepState) -> bool {
    match state {
        StepState::Running | StepState::Undoing | StepState::Stuck { .. } => true,
        StepState::Planned | StepState::Done { .. } | StepState::Failed { .. } | StepState::Undone => false,
    }
}

impl Course<'_> {
    /// Writes down that this process goes on with it.
    fn resumed(&mut self, by: &str) -> Result<(), JournalError> {
        let gap = lifeboat_model::time::since(self.journal.operation().last_at, self.engine.io.clock.now());
        let (by, pid, gap_ms) = (by.to_owned(), std::process::id(), gap.as_millis() as u64);
        self.journal.append(Event::Resumed { by, pid, gap_ms })?;
        self.watch.opened(self.journal.operation());
        Ok(())
    }

    /// Ends an operation whose process died and that may be put back unasked; one that is past its point of no return is
    /// finished instead.
    pub fn settle(mut self, by: &str) -> Result<Operation, RunError> {
        let left = self.journal.operation().clone();
        let broken = |error: JournalError| left_open(&left, &error);
        self.resumed(by).map_err(broken)?;
        if !matches!(left.state, OperationState::TurningBack { .. }) {
            self.note_crossed_pivot(&left).map_err(broken)?;
            if !self.journal.operation().past_pivot {
                let why = Failure::new(FailureKind::Interrupted, "its process was interrupted");
                self.journal.append(Event::TurnedBack { why }).map_err(broken)?;
            }
        }
        self.go_on()
    }

    /// Why the operation cannot be taken back any more, when it cannot. A point of no return that was in flight is looked
    /// at: only what certainly has not happened may be passed over.
    fn no_way_back(&self) -> Option<Failure> {
        let operation = self.journal.operation();
        let id = &operation.id;
        let pivot = operation.plan.pivot()?;
        let step = operation.plan.steps().nth(pivot)?;
        let past = match operation.steps[pivot] {
            StepState::Done { .. } => true,
            StepState::Running => {
                let context = Context { operation, step: &step.id, stop: self.stop, watch: self.watch };
                !matches!(self.engine.hands.probe(&step.action, &context), Ok((Found::NotStarted, _)))
            }
            StepState::Planned | StepState::Failed { .. } => false,
            StepState::Undoing | StepState::Undone | StepState::Stuck { .. } => false,
        };
        (past || operation.past_pivot).then(|| {
            Failure::new(FailureKind::Refused, format!("{id} may be past its point of no return"))
                .hint(format!("lifeboat resume {id}; afterwards lifeboat undo {id} takes it back"))
        })
    }

    /// Finds out about the step that was in flight when the process died, and makes the journal say so.
    /// The outer result is the journal's; the inner one is what only a person can decide.
    fn settle_flight(&mut self) -> Result<Result<(), Failure>, JournalError> {
        let operation = self.journal.operation().clone();
        let Some(index) = operation.steps.iter().position(is_in_flight) else {
            return self.note_crossed_pivot(&operation).map(Ok);
        };
        if matches!(operation.state, OperationState::TurningBack { .. }) {
            return Ok(Ok(())); // it is taken back, whatever became of it
        }
        let step = operation.plan.steps().nth(index).expect("a step of the plan").clone();
        if operation.steps[index] != StepState::Running {
            return self.take_back_half(&step); // begun before, and not come to its end
        }
        match step.class {
            StepClass::Read | StepClass::Idempotent => return Ok(Ok(())), // `forward` runs it again
            StepClass::ProbeFirst | StepClass::Pivot => {}
        }
        let context = Context { operation: &operation, step: &step.id, stop: self.stop, watch: self.watch };
        let found = self.engine.hands.probe(&step.action, &context);
        match found {
            Ok((Found::NotStarted, _)) => Ok(Ok(())),
            Ok((Found::Done, output)) => {
                self.watch.note(&format!("{} had finished before the interruption.", step.title));
                self.journal.append(Event::Adopted { step: step.id.clone(), output })?;
                if step.class == StepClass::Pivot {
                    self.journal.append(Event::PivotCrossed { step: step.id })?;
                }
                Ok(Ok(()))
            }
            Ok((Found::Partial, _)) => self.take_back_half(&step),
            Ok((Found::Unknown, _)) => Ok(Err(cannot_tell(&step.title, None))),
            Err(failure) => Ok(Err(cannot_tell(&step.title, Some(failure)))),
        }
    }

    /// A pivot may be done and the line that says so missing.
    fn note_crossed_pivot(&mut self, operation: &Operation) -> Result<(), JournalError> {
        let Some(pivot) = operation.plan.pivot() else { return Ok(()) };
        let done = matches!(operation.steps[pivot], StepState::Done { .. });
        if done && !operation.past_pivot {
            let step = operation.plan.steps().nth(pivot).expect("a step of the plan").id.clone();
            self.journal.append(Event::PivotCrossed { step })?;
        }
        Ok(())
    }

    /// A half-done step is taken back, so that it can be run from its beginning.
    fn take_back_half(&mut self, step: &lifeboat_model::Step) -> Result<Result<(), Failure>, JournalError> {
        let Undo::By(undo) = &step.undo else {
            // The pivot: its action is repeatable and goes on from where it stopped.
            return Ok(Ok(()));
        };
        self.journal.append(Event::UndoStarted { step: step.id.clone() })?;
        match self.perform(step, undo, &Stop::default()) {
            Ok(_) => {
                self.journal.append(Event::UndoFinished { step: step.id.clone(), took_ms: 0 })?;
                Ok(Ok(()))
            }
            Err(failure) => {
                self.journal.append(Event::UndoFailed { step: step.id.clone(), failure: failure.clone() })?;
                Ok(Err(failure))
            }
        }
    }
}

fn cannot_tell(title: &str, cause: Option<Failure>) -> Failure {
    let failure = Failure::new(FailureKind::NeedsPerson, format!("it cannot be told whether \"{title}\" had finished"));
    let failure = match cause {
        Some(cause) => failure.because(cause.to_string()),
        None => failure,
    };
    failure.hint("make the vault and the files reachable and resume again, or abort")
}
