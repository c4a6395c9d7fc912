//! Keeps a worker at work: one that breaks off is started again, after a pause that grows, and everybody may know it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use lifeboat_io::{Io, Stop};
use lifeboat_model::Tri;

/// The pause after the first time; it doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// And the longest.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How often a pausing worker looks whether it should end.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Somebody who looks after one worker.
#[derive(Debug, Default)]
pub struct Keeper {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How often it broke off since it last came through a round.
    breaks: u32,
    /// How often it ever broke off.
    breaks_ever: u64,
    why: String,
    runs: bool,
}

impl Keeper {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker says that it came through a round: what was before is forgiven.
    pub fn is_well(&self) {
        self.state().breaks = 0;
    }

    /// How often it ever broke off.
    pub fn breaks(&self) -> u64 {
        self.state().breaks_ever
    }

    /// How it is, and why not well.
    pub fn health(&self) -> (Tri, String) {
        let state = self.state();
        match (state.breaks, state.runs) {
            (0, true) => (Tri::Pass, String::new()),
            (0, false) => (Tri::Fail, "it does not run".to_owned()),
            (breaks, _) => (Tri::Fail, format!("it broke off {breaks} times in a row, last: {}", state.why)),
        }
    }

    /// Runs `work` on a thread of its own until it returns by itself; begun again whenever it breaks off.
    pub fn keep(self: &Arc<Self>, io: &Io, stop: &Stop, work: impl Fn() + Send + 'static) -> JoinHandle<()> {
        let (keeper, io, stop) = (self.clone(), io.clone(), stop.clone());
        std::thread::spawn(move || keeper.run(&io, &stop, &work))
    }

    fn run(&self, io: &Io, stop: &Stop, work: &dyn Fn()) {
        while !stop.wanted() {
            self.state().runs = true;
            let ended = catch_unwind(AssertUnwindSafe(work));
            self.state().runs = false;
            let Err(panic) = ended else { return };
            let pause = {
                let mut state = self.state();
                state.breaks += 1;
                state.breaks_ever += 1;
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                state.why = text.unwrap_or_else(|| "nobody knows why".to_owned());
                PAUSE_FIRST.saturating_mul(1 << (state.breaks - 1).min(10)).min(PAUSE_MAX)
            };
            let until = io.clock.elapsed() + pause;
            while !stop.wanted() && io.clock.elapsed() < until {
                let _ = io.clock.sleep(LOOK_UP, stop); // broken off is wanted, which ends both loops
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_io::testing::twin_io;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_worker_that_breaks_off_is_begun_again_and_it_is_told() {
        let (io, stop, keeper) = (twin_io(), Stop::default(), Arc::new(Keeper::default()));
        assert_eq!(keeper.health().0, Tri::Fail, "not begun");
        let rounds = Arc::new(AtomicU32::new(0));
        let (seen, counted) = (keeper.clone(), rounds.clone());
        let thread = keeper.keep(&io, &stop, move || match counted.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("first"),
            1 => {
                let (outcome, why) = seen.health();
                assert!(outcome == Tri::Fail && why.contains("first"), "begun again, and not well yet: {why}");
                panic!("{}", String::from("second"))
            }
            _ => {
                assert!(seen.health().1.contains("2 times in a row, last: second"));
                seen.is_well();
                assert_eq!(seen.health(), (Tri::Pass, String::new()));
            }
        });
        thread.join().unwrap();
        assert_eq!((rounds.load(Ordering::SeqCst), keeper.breaks()), (3, 2));
        assert_eq!(io.clock.elapsed(), Duration::from_secs(1 + 2), "the pause doubles");
    }

    #[test]
    fn nobody_is_begun_again_when_the_daemon_ends() {
        let (io, stop, keeper) = (twin_io(), Stop::default(), Arc::new(Keeper::default()));
        let ends = stop.clone();
        let thread = keeper.keep(&io, &stop, move || {
            ends.at_safe_point();
            panic!("at the end")
        });
        thread.join().unwrap();
        assert_eq!(io.clock.elapsed(), Duration::ZERO);
    }
}
