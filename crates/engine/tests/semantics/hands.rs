//! Hands that a test bends, and small things the tests share.

use std::sync::Arc;

use lifeboat_engine::{Context, Engine, Perform, RunError, Unwatched, act::Hands};
use lifeboat_io::Stop;
use lifeboat_model::{Action, Event, Fact, Failure, FailureKind, Found, Operation, Plan, StepState};
use lifeboat_store::JournalFile;
use lifeboat_testkit::World;
use serde_json::Value;

/// What a test answers in place of the hands; nothing lets them do their work.
pub type Bend = dyn Fn(&Action, &Context<'_>) -> Option<Result<Value, Failure>> + Send + Sync;
/// The same for a look at the world.
pub type BendProbe = dyn Fn(&Action) -> Option<Found> + Send + Sync;

/// Real hands, bent.
pub struct Bent {
    hands: Hands,
    perform: Box<Bend>,
    probe: Box<BendProbe>,
}

impl Perform for Bent {
    fn perform(&self, action: &Action, context: &Context<'_>) -> Result<Value, Failure> {
        (self.perform)(action, context).unwrap_or_else(|| self.hands.perform(action, context))
    }

    fn probe(&self, action: &Action, context: &Context<'_>) -> Result<(Found, Value), Failure> {
        match (self.probe)(action) {
            Some(found) => Ok((found, Value::Null)),
            None => self.hands.probe(action, context),
        }
    }

    fn look_at(&self, fact: &Fact) -> Result<String, Failure> {
        self.hands.look_at(fact)
    }

    fn after_close(&self, operation: &Operation) -> Result<(), Failure> {
        self.hands.after_close(operation)
    }
}

/// An engine whose hands are bent.
pub fn bent(
    world: &World,
    perform: impl Fn(&Action, &Context<'_>) -> Option<Result<Value, Failure>> + Send + Sync + 'static,
) -> Engine {
    bent_with_probe(world, perform, |_action| None)
}

/// An engine whose hands and eyes are bent.
pub fn bent_with_probe(
    world: &World,
    perform: impl Fn(&Action, &Context<'_>) -> Option<Result<Value, Failure>> + Send + Sync + 'static,
    probe: impl Fn(&Action) -> Option<Found> + Send + Sync + 'static,
) -> Engine {
    world.engine_with(|hands| Arc::new(Bent { hands, perform: Box::new(perform), probe: Box::new(probe) }))
}

/// A failure that a test asked for.
pub fn trouble() -> Failure {
    Failure::new(FailureKind::Outside, "trouble was asked for")
}

/// Runs a plan as `tester`.
pub fn run(engine: &Engine, plan: &Plan) -> Result<Operation, RunError> {
    engine.run(plan, "tester", &Unwatched, &Stop::default())
}

/// Takes an operation up again as `tester`.
pub fn resume(world: &World, operation: &Operation) -> Result<Operation, RunError> {
    world.engine().resume(&operation.id, "tester", &Unwatched, &Stop::default())
}

/// The operation's journal as it is on disk.
pub fn events(world: &World, operation: &Operation) -> Vec<Event> {
    let file = JournalFile::read(&world.state().journal(&operation.id)).unwrap();
    file.entries.into_iter().map(|entry| entry.event).collect()
}

/// How a step stands.
pub fn state<'a>(operation: &'a Operation, step: &str) -> &'a StepState {
    let index = operation.plan.steps().position(|known| known.id.0 == step).unwrap();
    &operation.steps[index]
}

/// A small world: only the database.
pub fn only_database() -> World {
    let mut world = World::shop();
    world.setup.resources.truncate(1);
    world
}

/// The same with a rollback journal: it is copied before it is stored, not read where it is.
pub fn only_copied_database() -> World {
    let world = only_database();
    lifeboat_testkit::world::sql(&world.app("shop.db"), "PRAGMA journal_mode = DELETE");
    world
}
