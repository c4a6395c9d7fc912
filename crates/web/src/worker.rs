//! The one who delivers for a link: looks for changes again and again, and at once when somebody asks.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use lifeboat_engine::{Engine, Mirror};
use lifeboat_io::Stop;
use lifeboat_model::{
    Failure, FailureKind, ResourceName, Tri,
    sync::{BreakerState, CycleReport, Reach},
};

use crate::keeper::Keeper;

/// How long somebody who asked waits for a cycle to end.
const CYCLE_WAIT_MAX: Duration = Duration::from_secs(30);

/// The worker of one link.
pub struct Worker {
    link: ResourceName,
    keeper: Arc<Keeper>,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether the cloud's HTTP side answered, and when that was seen.
    reached: Mutex<Option<(Duration, Option<Reach>)>>,
}

/// How long it is believed whether the cloud's HTTP side answers.
const REACHED_FOR: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    /// Cycles that have been begun, and that are over.
    begun: u64,
    over: u64,
    /// Somebody wants one now.
    wanted: bool,
    ended: bool,
    last: Option<Result<CycleReport, Failure>>,
    breaker: BreakerState,
    cycles_failed: u64,
    delivered: u64,
}

/// What a worker has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Cycles.
    pub cycles: u64,
    /// Of these, how many failed.
    pub failed: u64,
    /// Changes that were delivered.
    pub changes: u64,
}

impl Worker {
    /// A worker that has not begun.
    pub fn new(link: ResourceName) -> Worker {
        Worker {
            link,
            keeper: Arc::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            reached: Mutex::default(),
        }
    }

    /// Whose it is.
    pub fn link(&self) -> &ResourceName {
        &self.link
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the cloud is being tried.
    pub fn breaker(&self) -> BreakerState {
        self.state().breaker
    }

    /// What it has done.
    pub fn done(&self) -> Done {
        let state = self.state();
        Done { cycles: state.over, failed: state.cycles_failed, changes: state.delivered }
    }

    /// Whether it runs, and why not.
    pub fn health(&self) -> (Tri, String) {
        self.keeper.health()
    }

    /// Whether the HTTP side of the cloud answers, or did less than half a minute ago; nothing when there is none to be asked.
    pub fn reach(&self, engine: &Engine) -> Option<Reach> {
        let now = engine.io().clock.elapsed();
        // Held while it is asked: of several who want to know, one asks.
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, reach)) = reached.as_ref().filter(|(at, _)| now.saturating_sub(*at) < REACHED_FOR) {
            return reach.clone();
        }
        let reach = engine.mirror(Some(&self.link)).ok().and_then(|mirror| mirror.reach());
        *reached = Some((now, reach.clone()));
        reach
    }

    /// How often it broke off and was begun again.
    pub fn breaks(&self) -> u64 {
        self.keeper.breaks()
    }

    /// Makes it look up.
    pub fn wake(&self) {
        let _state = self.state(); // whoever is about to rest has not looked yet, or rests already
        self.changed.notify_all();
    }

    /// Has a cycle done now, and waits for it. One that is under way is waited for instead of beginning a second.
    ///
    /// # Errors
    /// Those of the cycle; it takes longer than a request may.
    pub fn trigger(&self) -> Result<CycleReport, Failure> {
        let mut state = self.state();
        let running = state.begun > state.over;
        let awaited = if running { state.begun } else { state.begun + 1 };
        state.wanted |= !running;
        self.changed.notify_all();
        let waited = self
            .changed
            .wait_timeout_while(state, CYCLE_WAIT_MAX, |state| state.over < awaited && !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        match (&waited.0.last, waited.0.over >= awaited) {
            (Some(last), true) => last.clone(),
            _ => {
                let failure = Failure::new(FailureKind::Busy, "the cycle is still under way");
                Err(failure.hint("lifeboat sync status shows how far it is"))
            }
        }
    }

    /// Begins, on a thread of its own.
    pub fn start(self: &Arc<Self>, engine: Arc<Engine>, stop: &Stop) -> JoinHandle<()> {
        let (worker, ends, io) = (self.clone(), stop.clone(), engine.io().clone());
        self.keeper.keep(&io, stop, move || {
            worker.run(&engine, &ends);
            worker.state().ended = true;
            worker.changed.notify_all();
        })
    }

    fn run(&self, engine: &Engine, stop: &Stop) {
        let mut mirror: Option<Mirror> = None;
        while !stop.wanted() {
            let asked = {
                let mut state = self.state();
                state.begun += 1;
                std::mem::take(&mut state.wanted)
            };
            let result = self.cycle(engine, &mut mirror, asked, stop);
            self.keeper.is_well();
            let wait = mirror.as_ref().map_or(1_000, |mirror| mirror.link().interval_ms);
            let mut state = self.state();
            state.over = state.begun;
            state.breaker = mirror.as_ref().map_or(BreakerState::Closed, Mirror::breaker);
            match &result {
                Ok(report) => state.delivered += report.changes,
                // What is switched off has not failed.
                Err(failure) if failure.kind == FailureKind::Refused => {}
                Err(_) => state.cycles_failed += 1,
            }
            state.last = Some(result);
            self.changed.notify_all();
            let wait = Duration::from_millis(wait);
            let _ = self.changed.wait_timeout_while(state, wait, |state| !state.wanted && !stop.wanted());
        }
    }

    fn cycle(
        &self,
        engine: &Engine,
        mirror: &mut Option<Mirror>,
        asked: bool,
        stop: &Stop,
    ) -> Result<CycleReport, Failure> {
        let mirror = match mirror {
            Some(mirror) => mirror,
            None => mirror.insert(engine.mirror(Some(&self.link))?),
        };
        if asked {
            mirror.try_now();
        }
        mirror.look();
        if !mirror.may_try() {
            return Err(Failure::new(FailureKind::Outside, "the cloud is away; it is tried again soon"));
        }
        mirror.drain(stop)
    }
}
