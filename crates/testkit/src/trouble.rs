//! Hands that get into trouble at a chosen moment.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use lifeboat_engine::{Context, Engine, Perform, act::Hands};
use lifeboat_io::failpoint::Death;
use lifeboat_model::{Action, Fact, Failure, FailureKind, Found, Operation};
use serde_json::Value;

/// What goes wrong, and at which action, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// The action fails and has done nothing.
    Fail(usize),
    /// The process dies just before the action.
    DieBefore(usize),
    /// The process dies just after the action, before anything is written about it.
    DieAfter(usize),
    /// The action is carried out twice.
    Repeat(usize),
}

/// What somebody makes of an action: its number from 0 on, what it is, and how it is carried out.
pub type Around = dyn Fn(usize, &Action, &dyn Fn() -> Result<Value, Failure>) -> Result<Value, Failure> + Send + Sync;

/// Real hands, and somebody around each of their actions.
struct Meddled {
    hands: Hands,
    turn: AtomicUsize,
    around: Box<Around>,
}

/// An engine whose hands are meddled with.
pub fn meddled(world: &crate::World, around: Box<Around>) -> Engine {
    world.engine_with(|hands| Arc::new(Meddled { hands, turn: AtomicUsize::new(0), around }))
}

/// An engine in whose world something happens just before the first action of a kind.
pub fn with_something_before(
    world: &crate::World,
    is_it: fn(&Action) -> bool,
    what: impl FnOnce() + Send + 'static,
) -> Engine {
    let what = Mutex::new(Some(what));
    let before = move |_turn: usize, action: &Action, act: &dyn Fn() -> Result<Value, Failure>| {
        if is_it(action)
            && let Some(what) = what.lock().unwrap().take()
        {
            what();
        }
        act()
    };
    meddled(world, Box::new(before))
}

/// The same, where it is a statement in the shop.
pub fn written_before(world: &crate::World, is_it: fn(&Action) -> bool, sql: &str) -> Engine {
    let (server, sql) = (world.server.clone().unwrap(), sql.to_owned());
    with_something_before(world, is_it, move || {
        server.lock().unwrap().sql("shop", &sql);
    })
}

impl Perform for Meddled {
    fn perform(&self, action: &Action, context: &Context<'_>) -> Result<Value, Failure> {
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        (self.around)(turn, action, &|| self.hands.perform(action, context))
    }

    fn probe(&self, action: &Action, context: &Context<'_>) -> Result<(Found, Value), Failure> {
        self.hands.probe(action, context)
    }

    fn look_at(&self, fact: &Fact) -> Result<String, Failure> {
        self.hands.look_at(fact)
    }

    fn after_close(&self, operation: &Operation) -> Result<(), Failure> {
        self.hands.after_close(operation)
    }
}

/// Real hands, in trouble.
pub struct InTrouble {
    hands: Hands,
    trouble: Trouble,
    turn: Arc<AtomicUsize>,
}

impl InTrouble {
    /// Wraps hands.
    pub fn new(hands: Hands, trouble: Trouble) -> InTrouble {
        InTrouble { hands, trouble, turn: Arc::default() }
    }
}

impl Perform for InTrouble {
    fn perform(&self, action: &Action, context: &Context<'_>) -> Result<Value, Failure> {
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        match self.trouble {
            Trouble::Fail(at) if at == turn => {
                return Err(Failure::new(FailureKind::Outside, "trouble was asked for"));
            }
            Trouble::DieBefore(at) if at == turn => std::panic::panic_any(Death),
            Trouble::Repeat(at) if at == turn => {
                self.hands.perform(action, context)?;
            }
            Trouble::None | Trouble::Fail(_) | Trouble::DieBefore(_) | Trouble::DieAfter(_) | Trouble::Repeat(_) => {}
        }
        let done = self.hands.perform(action, context);
        if self.trouble == Trouble::DieAfter(turn) {
            std::panic::panic_any(Death);
        }
        done
    }

    fn probe(&self, action: &Action, context: &Context<'_>) -> Result<(Found, Value), Failure> {
        self.hands.probe(action, context)
    }

    fn look_at(&self, fact: &Fact) -> Result<String, Failure> {
        self.hands.look_at(fact)
    }

    fn after_close(&self, operation: &Operation) -> Result<(), Failure> {
        self.hands.after_close(operation)
    }
}

/// Runs something that may die; nothing when it did.
pub fn unless_it_dies<T>(work: impl FnOnce() -> T) -> Option<T> {
    deaths_are_quiet();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    match result {
        Ok(value) => Some(value),
        Err(panic) if panic.is::<Death>() => None,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Deaths are expected here; their panic message is not printed, every other one is.
fn deaths_are_quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Death>() {
                usual(info);
            }
        }));
    });
}
