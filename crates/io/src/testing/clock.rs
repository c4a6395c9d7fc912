//! A clock that stands still until it is moved.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::SignedDuration;
use lifeboat_model::Timestamp;

use crate::{
    Clock,
    stop::{Stop, Stopped},
};

/// A clock that moves only when told to, and by sleeping: a sleep takes no time but the clock's own.
#[derive(Debug)]
pub struct ManualClock {
    hands: Mutex<Hands>,
}

#[derive(Debug)]
struct Hands {
    now: Timestamp,
    elapsed: Duration,
    slept: Vec<Duration>,
}

impl Default for ManualClock {
    /// Stands at the beginning of 2026.
    fn default() -> ManualClock {
        ManualClock::at(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_767_225_600))
    }
}

impl ManualClock {
    /// Stands at an instant.
    pub fn at(now: Timestamp) -> ManualClock {
        ManualClock { hands: Mutex::new(Hands { now, elapsed: Duration::ZERO, slept: Vec::new() }) }
    }

    /// Moves both hands on.
    pub fn advance(&self, duration: Duration) {
        self.with(|hands| hands.advance(duration));
    }

    /// Sets the instant and leaves the monotonic hand: what a corrected or broken system clock does.
    pub fn jump_to(&self, now: Timestamp) {
        self.with(|hands| hands.now = now);
    }

    /// All sleeps so far, in order.
    pub fn slept(&self) -> Vec<Duration> {
        self.with(|hands| hands.slept.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Hands) -> T) -> T {
        act(&mut self.hands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Hands {
    fn advance(&mut self, duration: Duration) {
        self.elapsed += duration;
        self.now += SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.with(|hands| hands.now)
    }

    fn elapsed(&self) -> Duration {
        self.with(|hands| hands.elapsed)
    }

    fn sleep(&self, duration: Duration, stop: &Stop) -> Result<(), Stopped> {
        stop.check()?;
        self.with(|hands| {
            hands.slept.push(duration);
            hands.advance(duration);
        });
        Ok(())
    }
}
