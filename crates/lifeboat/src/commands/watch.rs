//! Following an operation by its journal: of this process or another, until it is over.

use std::time::Duration;

use lifeboat_engine::Watch;
use lifeboat_io::Stop;
use lifeboat_model::{Entry, Event, Failure, FailureKind, Operation, OperationId, Tri};

use super::{App, Session};
use crate::{
    cli::{JsonMode, OperationArg},
    error::Done,
    ui::{progress::Progress, report, words},
    wire,
};

/// How often the journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub fn run(app: &App, args: &OperationArg) -> Done {
    let session = app.open(&[])?;
    let id = session.operation(args.operation.as_deref())?;
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let operation = follow(app, &session, &id, &stop)?;
    let code = report::exit_of(&operation);
    match app.ui.json {
        Some(JsonMode::Document) => app.ui.document(report::OPERATION_SCHEMA, report::document(&operation))?,
        Some(JsonMode::Lines) => {}
        None if operation.is_closed() && report::why(&operation).is_none() => {
            app.ui.out(&report::show(&operation, app.again(), app.ui.paint))?;
        }
        None => {
            if let Some(why) = report::why(&operation) {
                app.ui.out(&format!("{}\n", words::sentence(&why.to_string())))?;
            }
            app.ui.out(&report::show_trouble(&operation, app.again()))?;
        }
    }
    Ok(code)
}

/// Reads on until the operation is over, waits for a person, or nobody works on it any more.
fn follow(app: &App, session: &Session, id: &OperationId, stop: &Stop) -> Result<Operation, Failure> {
    let teller = Teller { app, watch: Progress::new(app.ui, app.io.clock.clone(), &Stop::default()) };
    let mut known: Option<Operation> = None;
    loop {
        // Asked before reading: lines that were written before the process ended are then read below.
        let alive = match &known {
            Some(operation) => session.engine.is_worked_on(operation)?,
            None => Tri::Unknown,
        };
        let seen = known.as_ref().map_or(0, |operation| operation.lines as usize);
        let journal = session.engine.look().journal(id)?;
        let first = known.is_none();
        for entry in journal.entries.iter().skip(seen) {
            teller.take(&mut known, entry)?;
        }
        let Some(operation) = &known else {
            return Err(
                Failure::new(FailureKind::Refused, format!("the journal of {id} has no line yet")).hint("try again")
            );
        };
        if operation.is_closed() || (alive == Tri::Fail && !first) {
            return Ok(operation.clone());
        }
        if stop.wanted() || app.io.clock.sleep(LOOK_EVERY, stop).is_err() {
            return Err(Failure::new(FailureKind::Interrupted, format!("no longer watching {id}; it goes on")));
        }
    }
}

struct Teller<'a> {
    app: &'a App,
    watch: Progress,
}

impl Teller<'_> {
    /// Takes in a line of the journal and shows what it says, as if it happened here.
    fn take(&self, known: &mut Option<Operation>, entry: &Entry) -> Result<(), Failure> {
        if self.app.ui.json == Some(JsonMode::Lines) {
            self.app.ui.out(&format!("{}\n", serde_json::to_string(entry).unwrap_or_default()))?;
        }
        let impossible = |error| Failure::from_error(FailureKind::Damaged, &error);
        let Some(operation) = known else {
            let operation = Operation::open(entry).map_err(impossible)?;
            self.watch.opened(&operation);
            *known = Some(operation);
            return Ok(());
        };
        operation.take(entry).map_err(impossible)?;
        let (step, ends) = match &entry.event {
            Event::StepStarted { step, .. } | Event::UndoStarted { step } => (step, false),
            Event::StepFinished { step, .. } | Event::Adopted { step, .. } | Event::StepFailed { step, .. } => {
                (step, true)
            }
            Event::UndoFinished { step, .. } | Event::UndoFailed { step, .. } => (step, true),
            Event::Opened { .. } | Event::PivotCrossed { .. } | Event::Closed { .. } => return Ok(()),
            Event::TurnedBack { why } => return self.note(&format!("Turning back: {why}")),
            Event::Paused { why } => return self.note(&format!("Paused: {why}")),
            Event::Resumed { by, .. } => return self.note(&format!("Taken up again by {by}")),
            Event::OverBudget { phase, .. } => return self.note(&format!("Phase {phase} is over its budget")),
        };
        let Some(index) = operation.plan.steps().position(|one| &one.id == step) else { return Ok(()) };
        let back = matches!(entry.event, Event::UndoStarted { .. });
        let Some(step) = operation.plan.steps().nth(index) else { return Ok(()) };
        if ends {
            self.watch.step_ends(index, step, &operation.steps[index]);
        } else {
            self.watch.step_begins(index, step, back);
        }
        Ok(())
    }

    fn note(&self, text: &str) -> Result<(), Failure> {
        self.watch.note(text);
        Ok(())
    }
}
