//! The clock: instants for records, a monotonic reading for spans.

use std::time::{Duration, Instant};

use lifeboat_model::Timestamp;

use crate::stop::{Stop, Stopped};

/// What time it is. A twin in tests moves only when told to.
pub trait Clock: Send + Sync {
    /// The instant, UTC. May jump.
    fn now(&self) -> Timestamp;
    /// Time since this clock was made. Never goes back; budgets and rates use it.
    fn elapsed(&self) -> Duration;
    /// Waits, at most until somebody asks to stop.
    ///
    /// # Errors
    /// [`Stopped`] when somebody asked to break off.
    fn sleep(&self, duration: Duration, stop: &Stop) -> Result<(), Stopped>;
}

/// The computer's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration, stop: &Stop) -> Result<(), Stopped> {
        const SLICE: Duration = Duration::from_millis(50);
        let end = Instant::now() + duration;
        loop {
            stop.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(SLICE));
        }
    }
}
