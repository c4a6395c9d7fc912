//! Does what the schedule says, one job after the other, on a thread of its own.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use lifeboat_engine::{Engine, Watch, schedule::Turn};
use lifeboat_io::Stop;
use lifeboat_model::{Failure, Timestamp, Tri, message::Message, time::since};

use crate::{Log, keeper::Keeper};

/// The longest it rests: clocks are set and hosts sleep, and then its time has come all the same.
const REST_MAX: Duration = Duration::from_secs(30);

/// How long it rests when somebody else is at work, or something is wrong.
const REST_BUSY: Duration = Duration::from_secs(15);

/// The one who looks at the clock.
#[derive(Debug, Default)]
pub struct Scheduler {
    keeper: Arc<Keeper>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    trouble: Option<String>,
    runs: u64,
    failed: u64,
}

/// What became of a message that was tried.
fn told(message: &Message) -> String {
    match &message.why_not {
        None => message.notice.subject.clone(),
        Some(why) => format!("not delivered ({why}): {}", message.notice.subject),
    }
}

impl Scheduler {
    /// Whether there is anything that it would do: jobs, or channels that hear of what is due and of what was not delivered.
    pub fn has_work(engine: &Engine) -> bool {
        let setup = engine.setup();
        !setup.schedule.jobs.is_empty() || !setup.channels.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it look up.
    pub fn wake(&self) {
        // With the state in hand: whoever is about to rest has not looked yet, or rests already.
        let _state = self.state();
        self.changed.notify_all();
    }

    /// Runs, and those of them that failed, since the daemon began.
    pub fn runs(&self) -> (u64, u64) {
        let state = self.state();
        (state.runs, state.failed)
    }

    /// How often it broke off and was begun again.
    pub fn breaks(&self) -> u64 {
        self.keeper.breaks()
    }

    /// How it is itself; its jobs are another matter.
    pub fn health(&self) -> (Tri, String) {
        match self.keeper.health() {
            (Tri::Pass, _) => match &self.state().trouble {
                Some(trouble) => (Tri::Fail, trouble.clone()),
                None => (Tri::Pass, String::new()),
            },
            broken => broken,
        }
    }

    /// Begins.
    pub fn start(self: &Arc<Self>, engine: Arc<Engine>, stop: &Stop, log: Log) -> JoinHandle<()> {
        let (scheduler, ends) = (self.clone(), stop.clone());
        let io = engine.io().clone();
        self.keeper.keep(&io, stop, move || scheduler.run(&engine, &ends, &log))
    }

    fn run(&self, engine: &Engine, stop: &Stop, log: &Log) {
        while !stop.wanted() {
            let turn = engine.run_due(&Notes(log), stop);
            self.keeper.is_well();
            let rest = self.take(turn, engine.io().clock.now(), log);
            match engine.tend_messages(stop) {
                Ok(tried) => {
                    tried.iter().for_each(|one| log.say(&format!("message: {}: {}", one.channel.name, told(one))))
                }
                Err(failure) => log.say(&format!("messages: {failure}")),
            }
            let state = self.state();
            let _ = self.changed.wait_timeout_while(state, rest, |_state| !stop.wanted());
        }
    }

    /// Remembers what came of a turn, and says how long to rest.
    fn take(&self, turn: Result<Turn, Failure>, now: Timestamp, log: &Log) -> Duration {
        let mut state = self.state();
        state.trouble = turn.as_ref().err().map(ToString::to_string);
        match turn {
            Ok(Turn::Ran { job, run }) => {
                state.runs += 1;
                let took = since(run.began, run.ended.unwrap_or(run.began)).as_secs();
                match &run.why {
                    None => log.say(&format!("schedule: {job} ran for {took} s ({})", run.operations.join(", "))),
                    Some(why) => {
                        state.failed += 1;
                        log.say(&format!("schedule: {job} failed: {why}"));
                    }
                }
                run.notes.iter().for_each(|note| log.say(&format!("schedule: {job}: {note}")));
                Duration::ZERO
            }
            Ok(Turn::Busy { job, why }) => {
                log.say(&format!("schedule: {job} waits: {why}"));
                REST_BUSY
            }
            Ok(Turn::Waits(until)) => until.map_or(REST_MAX, |until| since(now, until)).min(REST_MAX),
            Err(failure) => {
                log.say(&format!("schedule: {failure}"));
                REST_BUSY
            }
        }
    }
}

/// What the engine notes goes into the daemon's log.
pub(crate) struct Notes<'a>(pub &'a Log);

impl Watch for Notes<'_> {
    fn note(&self, text: &str) {
        self.0.say(text);
    }
}
