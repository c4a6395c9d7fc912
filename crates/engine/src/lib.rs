//! What we do. Four verbs: plan, run, resume, look.

pub mod act;
mod advise;
mod again;
pub mod aliases;
pub mod assertions;
pub mod by_hand;
pub mod checklists;
pub mod closed;
pub mod consequence;
pub mod copies;
pub mod decide;
mod diagnose;
pub mod drills;
mod dues;
pub mod evidence;
pub mod examine;
pub mod facts;
pub mod features;
pub mod incidents;
pub mod kit;
pub mod leaks;
mod lease;
pub mod logs;
pub mod look;
pub mod manual;
pub mod manual_steps;
pub mod messages;
pub mod objectives;
pub mod perform;
pub mod plan;
pub mod provider;
mod questions;
pub mod ready;
pub mod recover;
pub mod rehearsals;
pub mod releases;
mod resume;
mod run;
pub mod schedule;
pub mod scope;
pub mod setup;
pub mod sheet;
pub mod standing;
pub mod strays;
pub mod sync;
mod targets;
pub mod variables;
pub mod vaults;
pub mod verify;
pub mod ways;

use std::sync::{Arc, Mutex};

use lifeboat_io::{Io, Stop};
use lifeboat_model::{Event, ExpectedFact, Failure, FailureKind, Operation, OperationId, Plan, Request, StepId};
use lifeboat_store::{Catalog, Journal, JournalFile, StateFolder, journal::Listener};

pub use examine::Rehearsed;
pub use lease::Hold;
pub use perform::{Consent, Context, Perform, Unwatched, Watch};
pub use run::RunError;
pub use setup::{Copy, Setup, Upstream, Vaults};
pub use sync::Mirror;
pub use targets::Listed;

use crate::run::Course;

/// The engine of one app in one environment.
pub struct Engine {
    io: Io,
    state: StateFolder,
    setup: Setup,
    vaults: Arc<dyn Vaults>,
    hands: Arc<dyn Perform>,
    listener: Mutex<Option<Listener>>,
    /// The lease over several operations.
    hold: Mutex<Option<lease::Holding>>,
}

impl Engine {
    /// An engine with real hands.
    pub fn new(io: Io, state: StateFolder, setup: Setup, vaults: Arc<dyn Vaults>) -> Engine {
        let hands = act::Hands::new(io.clone(), state.clone(), setup.clone(), vaults.clone());
        Engine::with_hands(io, state, setup, vaults, Arc::new(hands))
    }

    /// An engine with other hands: tests give it ones that fail, die, or play with a toy world.
    pub fn with_hands(
        io: Io,
        state: StateFolder,
        setup: Setup,
        vaults: Arc<dyn Vaults>,
        hands: Arc<dyn Perform>,
    ) -> Engine {
        Engine { io, state, setup, vaults, hands, listener: Mutex::default(), hold: Mutex::default() }
    }

    /// Tells every journal line of the next operation to somebody.
    pub fn tell_next(&self, listener: Listener) {
        *self.listener.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(listener);
    }

    /// Makes a plan: reads, decides, changes nothing.
    ///
    /// # Errors
    /// Why what was asked for is not possible, and what to do instead.
    pub fn plan(&self, request: &Request) -> Result<Plan, Failure> {
        let plan = plan::make(self, request)?;
        match plan.flaws().as_slice() {
            [] => Ok(plan),
            flaws => Err(Failure::new(
                FailureKind::Bug,
                format!("the plan for {} is flawed: {}", plan.title, flaws.join("; ")),
            )),
        }
    }

    /// Carries out a plan. The only way anything changes.
    ///
    /// # Errors
    /// When it could not be begun (nothing was touched), or the journal could not be written (the operation is left
    /// open). A step that fails is no error here: the operation that is returned says so.
    pub fn run(&self, plan: &Plan, by: &str, watch: &dyn Watch, stop: &Stop) -> Result<Operation, RunError> {
        if let Some(flaw) = plan.flaws().first() {
            return Err(Failure::new(FailureKind::Refused, format!("this plan cannot be run: {flaw}")).into());
        }
        let id = OperationId::from_random(self.io.random.bits());
        let lease = self.take_lease(plan, &id, by, watch, plan.request.makes_way())?;
        let stop = &self.heard(plan, stop)?;
        self.settle_leftovers(plan, by, watch, &lease)?;
        if let Err(failure) = self.sweep_staging() {
            watch.note(&format!("A left-over working copy could not be taken away: {failure}."));
        }
        self.check_facts(plan, 0)?;
        let opened = Event::Opened {
            plan: Box::new(plan.clone()),
            digest: plan.digest(),
            by: by.to_owned(),
            host: self.io.env.host(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let path = self.state.journal(&id);
        let mut journal = Journal::create(&path, &id, lease.epoch(), opened, &self.io).map_err(|error| {
            Failure::from_error(FailureKind::Outside, &error).while_doing("the operation cannot be begun")
        })?;
        self.listen(&mut journal);
        watch.opened(journal.operation());
        Course { engine: self, journal, watch, stop }.go_on()
    }

    fn listen(&self, journal: &mut Journal) {
        if let Some(listener) = self.listener.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            journal.tell(listener);
        }
    }

    /// Looks again at what the plan rests on, as far as its steps before `first` cannot have changed it themselves.
    fn check_facts(&self, plan: &Plan, first: usize) -> Result<(), Failure> {
        let position = |step: &StepId| plan.steps().position(|known| &known.id == step);
        let holds =
            |expected: &&ExpectedFact| expected.until.as_ref().and_then(position).is_none_or(|until| first <= until);
        let mut differ = Vec::new();
        for expected in plan.facts.iter().filter(holds) {
            let now = self.hands.look_at(&expected.fact)?;
            if now != expected.value {
                differ.push(format!("{}: was {}, is {now}", expected.fact, expected.value));
            }
        }
        if differ.is_empty() {
            return Ok(());
        }
        let failure =
            Failure::new(FailureKind::Stale, format!("plan {} is stale: what it rests on has changed", plan.id));
        Err(differ.into_iter().fold(failure, Failure::because).hint("make a new plan and look at it again"))
    }

    /// Deals with operations of this scope whose process died. We hold the lease, so nobody works on them.
    fn settle_leftovers(&self, plan: &Plan, by: &str, watch: &dyn Watch, lease: &lease::Held) -> Result<(), RunError> {
        let catalog = self.catalog()?;
        for (path, what) in catalog.damaged_journals().map_err(|error| self.failure(&error))? {
            watch.note(&format!("What {path} tells cannot be taken into account: {what}."));
        }
        for row in catalog.unfinished().map_err(|error| self.failure(&error))? {
            if row.scope != plan.scope.to_string() {
                continue;
            }
            let path = self.state.journal(&row.id);
            // Only looked at: as long as it belongs to another lease, another process may be writing it.
            let left = JournalFile::read(&path).and_then(|file| file.operation(&path));
            let left = left.map_err(|error| self.journal_failure(&row.id, &error))?;
            if left.plan.lease != plan.lease || left.is_closed() {
                continue;
            }
            if !left.plan.request.may_be_put_back_unasked() {
                return Err(not_over(&left).into());
            }
            watch.note(&format!("{} ({}) was interrupted; putting it back first.", left.id, left.plan.title));
            let journal = Journal::reopen(&path, lease.epoch(), &self.io);
            let journal = journal.map_err(|error| self.journal_failure(&row.id, &error))?;
            let stop = Stop::default();
            let ended = Course { engine: self, journal, watch, stop: &stop }.settle(by)?;
            if !ended.is_closed() {
                return Err(not_over(&ended).into());
            }
        }
        Ok(())
    }

    /// The index over all operations.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn catalog(&self) -> Result<Catalog, Failure> {
        Catalog::open(&self.state).map_err(|error| self.failure(&error))
    }

    /// Its doors.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// Where this engine keeps its state.
    pub fn state(&self) -> &StateFolder {
        &self.state
    }

    /// What it works on.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn failure(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        Failure::from_error(FailureKind::Outside, error)
    }
}

/// Something else stands in the way until a person has decided about it.
fn not_over(left: &Operation) -> Failure {
    let message = format!("{} ({}) was begun {} and is not over", left.id, left.plan.title, left.started_at);
    let hint = format!("lifeboat resume {0}, or lifeboat abort {0}", left.id);
    Failure::new(FailureKind::Busy, message).hint(hint)
}
