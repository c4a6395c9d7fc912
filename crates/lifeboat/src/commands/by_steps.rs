//! `rollback --manual`: seven steps, each shown with what a person would type, confirmed, and timed into the journal.

use std::{collections::BTreeMap, sync::Mutex};

use lifeboat_engine::{
    Consent, Unwatched, Watch,
    checklists::{Subject, override_about},
    manual_steps::{STEPS, numbers},
    sheet::Sheet,
};
use lifeboat_io::Stop;
use lifeboat_model::{
    Failure, FailureKind, Operation, OperationId, Plan, Request, Step, StepClass, StepState, Tri, VersionAsk,
};

use super::{
    App, Session, asks,
    carry::{carry_out, tell_with_next_way, watched},
    rollback::{deploy_goes_first, make_way, taken_over},
};
use crate::{
    cli::versions::RollbackArgs,
    error::Done,
    ui::{ask, words},
};

/// The step before which the list has to be ticked.
const GATE: usize = 5;
/// Points of the pre-rollback list that a manual rollback cannot be without; what a person has to say comes with them.
const LIST: &str = "pre-rollback";

pub fn rollback(app: &App, session: &Session, args: &RollbackArgs) -> Done {
    let (from, to) = (usize::from(args.from.unwrap_or(1)), usize::from(args.to.unwrap_or(7)));
    if to < from {
        let failure = Failure::new(FailureKind::Usage, format!("--to {to} comes before --from {from}"));
        return Err(failure.hint("lifeboat rollback --manual --from 4 --to 5").into());
    }
    let open = open_rollback(session)?;
    match (open, from) {
        (Some(id), _) => go_on(app, session, args, &id, from, to),
        (None, 1) => {
            deploy_goes_first(app, session, args.consent.consent())?;
            let dry_run = args.consent.consent().dry_run;
            let _hold = if dry_run { None } else { Some(make_way(app, session, &args.reason, args.wait)?) };
            if !dry_run && let Some(code) = taken_over(app, session, args.release.as_deref(), &args.reason)? {
                return Ok(code);
            }
            let about = VersionAsk::RollBack {
                to: args.release.clone(),
                profile: args.profile.map(Into::into),
                why: args.reason.clone(),
                backup: asks::backup_named(session, args.backup.as_deref())?,
            };
            let plan = session.engine.plan(&Request::Version { about })?;
            if dry_run {
                app.ui.talk(&overview(&session.engine.sheet(&plan)?, &plan));
                return carry_out(app, session, &plan, args.consent.consent());
            }
            ask::agree(app, &plan, args.consent.consent().confirm)?;
            let steps = Steps::new(app, session, &plan, args, to)?;
            let done = watched(app, session, |watch, stop| {
                session.engine.run(&plan, &app.by(), &By { watch, steps: &steps }, stop)
            })?;
            tell_with_next_way(app, session, &plan, &done)
        }
        (None, from) => {
            let failure = Failure::new(
                FailureKind::Refused,
                format!("steps 1 to {} have to be done first, and no rollback is open in which they were", from - 1),
            );
            Err(failure.hint(format!("lifeboat rollback --manual --to {}", from - 1)).into())
        }
    }
}

/// The rollback that waits, if there is one.
fn open_rollback(session: &Session) -> Result<Option<OperationId>, Failure> {
    let scope = session.engine.setup().scope.to_string();
    let rows = session.engine.look().operations(usize::MAX)?;
    Ok(rows.into_iter().find(|row| !row.closed && row.scope == scope && row.kind == "rollback").map(|row| row.id))
}

fn go_on(app: &App, session: &Session, args: &RollbackArgs, id: &OperationId, from: usize, to: usize) -> Done {
    let operation = session.engine.look().operation(id)?;
    let numbers = numbers(&operation.plan);
    let next = operation.next_step().and_then(|next| numbers.get(next).copied()).unwrap_or(7);
    if args.from.is_some() && from > next {
        let failure = Failure::new(FailureKind::Refused, format!("step {next} of {id} has not been done yet"));
        return Err(failure.hint(format!("lifeboat rollback --manual --from {next} --to {}", from - 1)).into());
    }
    if args.from.is_some() && from < next {
        app.ui.talk(&format!("Steps up to {} of {id} are done; it goes on with step {next}.\n", next - 1));
    }
    if to < next {
        let failure = Failure::new(FailureKind::Refused, format!("{id} is at step {next} already"));
        return Err(failure.hint(format!("lifeboat rollback --manual --from {next}")).into());
    }
    let _hold = make_way(app, session, &args.reason, args.wait)?;
    let steps = Steps::new(app, session, &operation.plan, args, to)?;
    let done =
        watched(app, session, |watch, stop| session.engine.resume(id, &app.by(), &By { watch, steps: &steps }, stop))?;
    tell_with_next_way(app, session, &operation.plan, &done)
}

/// The seven steps with what is typed for each.
fn overview(sheet: &Sheet, plan: &Plan) -> String {
    let mut text = String::new();
    let steps: Vec<_> = sheet.phases.iter().flat_map(|phase| &phase.steps).collect();
    let numbers = numbers(plan);
    for (at, name) in STEPS.iter().enumerate() {
        text += &format!("\nStep {}: {name}\n", at + 1);
        for (step, _) in steps.iter().zip(&numbers).filter(|(_, number)| **number == at + 1) {
            text += &shown(step);
        }
    }
    text
}

fn shown(step: &lifeboat_engine::sheet::SheetStep) -> String {
    let mut text = format!("  {}\n", words::sentence(&step.title));
    for command in &step.commands {
        for line in command.lines() {
            text += &format!("      {line}\n");
        }
    }
    text
}

/// What a person has said of a step of the seven.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Lifeboat,
    ByHand,
    NotNow,
}

struct Steps<'a> {
    app: &'a App,
    session: &'a Session,
    sheet: Sheet,
    numbers: Vec<usize>,
    to: usize,
    by_hand: bool,
    although: Option<String>,
    said: Mutex<BTreeMap<usize, Said>>,
}

impl<'a> Steps<'a> {
    fn new(app: &'a App, session: &'a Session, plan: &Plan, args: &RollbackArgs, to: usize) -> Result<Self, Failure> {
        let (sheet, numbers) = (session.engine.sheet(plan)?, numbers(plan));
        let (by_hand, although) = (args.by_hand, args.although_open.clone());
        Ok(Steps { app, session, sheet, numbers, to, by_hand, although, said: Mutex::default() })
    }

    fn say(&self, number: usize) -> Said {
        let steps = self.sheet.phases.iter().flat_map(|phase| &phase.steps);
        let own: String =
            steps.zip(&self.numbers).filter(|(_, of)| **of == number).map(|(step, _)| shown(step)).collect();
        self.app.ui.talk(&format!("\nStep {number} of 7: {}\n{own}", STEPS[number - 1]));
        match (self.by_hand, self.app.ui.can_ask && !self.app.global.yes) {
            (true, _) => Said::ByHand,
            (false, false) => Said::Lifeboat,
            (false, true) => {
                let answer =
                    ask::question(self.app, "Enter: Lifeboat does it; h: it was done by hand; s: stop here > ");
                match answer.as_deref().map(str::trim) {
                    Ok("") => Said::Lifeboat,
                    Ok("h") => Said::ByHand,
                    Ok(_) | Err(_) => Said::NotNow,
                }
            }
        }
    }

    /// CHK-03: before anything is replaced, every point of the list has to stand, or somebody says on record why it goes on.
    fn gate(&self, operation: &Operation) -> Result<(), String> {
        let (engine, subject) = (&self.session.engine, Subject::Operation(Box::new(operation.clone())));
        let checked = engine.checklist(LIST, &subject).map_err(|failure| failure.to_string())?;
        let open: Vec<String> = checked
            .items
            .iter()
            .filter(|item| item.outcome != Tri::Pass)
            .map(|item| format!("{} ({})", item.title, item.detail))
            .collect();
        match &self.although {
            _any if open.is_empty() => Ok(()),
            Some(why) => {
                let (about, note) = (override_about(LIST, &subject), why.clone());
                let plan =
                    engine.plan(&Request::Attest { about, report: open, note }).map_err(|why| why.to_string())?;
                let stop = Stop::default();
                engine.run(&plan, &self.app.by(), &Unwatched, &stop).map_err(|why| why.to_string())?;
                self.app.ui.talk(&format!("The {LIST} checklist is not done; it goes on all the same: {why}\n"));
                Ok(())
            }
            None => Err(format!(
                "the {LIST} checklist is not done: {}; then: lifeboat rollback --manual --from {GATE}; or say why it goes on: \
                 --although-open WHY",
                open.join("; ")
            )),
        }
    }

    fn consents(&self, operation: &Operation, index: usize, step: &Step) -> Consent {
        let number = self.numbers.get(index).copied().unwrap_or(7);
        if number > self.to {
            return Consent::NotNow(format!(
                "steps up to {} of 7 are done; go on with: lifeboat rollback --manual --from {number}",
                self.to
            ));
        }
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_begun = operation
            .steps
            .iter()
            .zip(&self.numbers)
            .any(|(state, of)| *of == number && !matches!(state, StepState::Planned));
        if number == GATE
            && !said.contains_key(&number)
            && !is_begun
            && let Err(why) = self.gate(operation)
        {
            return Consent::NotNow(why);
        }
        let said = said.entry(number).or_insert_with(|| self.say(number));
        match said {
            Said::NotNow => Consent::NotNow(format!("stopped before step {number} of 7, as asked")),
            // A look is made in any case.
            Said::ByHand if step.class != StepClass::Read => Consent::ByHand(format!("by {}", self.app.by())),
            Said::Lifeboat | Said::ByHand => Consent::Go,
        }
    }
}

/// Watches as always, and asks before each of the seven.
struct By<'a> {
    watch: &'a dyn Watch,
    steps: &'a Steps<'a>,
}

impl Watch for By<'_> {
    fn opened(&self, operation: &Operation) {
        self.watch.opened(operation);
    }
    fn step_begins(&self, index: usize, step: &Step, back: bool) {
        self.watch.step_begins(index, step, back);
    }
    fn progress(&self, done: u64, total: Option<u64>) {
        self.watch.progress(done, total);
    }
    fn step_ends(&self, index: usize, step: &Step, state: &StepState) {
        self.watch.step_ends(index, step, state);
    }
    fn note(&self, text: &str) {
        self.watch.note(text);
    }
    fn consents(&self, operation: &Operation, index: usize, step: &Step) -> Consent {
        self.steps.consents(operation, index, step)
    }
}
