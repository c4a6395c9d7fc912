//! How the app behind the gateway does: how many requests, how many of them failed, how long they took. Counted since the
//! daemon began for Prometheus, and over the last minutes for people and decisions, always with how many requests it rests on.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;

/// Upper bounds of the buckets, in milliseconds; above the last there is one more.
pub const BOUNDS_MS: [f64; 14] =
    [0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];

/// The window is made of so many slices of such a length.
const SLICES: usize = 10;
const SLICE: Duration = Duration::from_secs(30);

/// What has been counted.
#[derive(Debug, Default)]
pub struct Traffic {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ever: Counts,
    /// Slices of the window by their number since the clock began, oldest first.
    slices: VecDeque<(u64, Counts)>,
}

/// Counted requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// How many.
    pub n: u64,
    /// How many the app answered with a 5xx, or not at all.
    pub errors: u64,
    /// All times together.
    pub sum_ms: f64,
    /// By the first bound that is not below their time.
    pub buckets: [u64; BOUNDS_MS.len() + 1],
}

/// The last minutes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lately {
    /// Over how many seconds.
    pub window_s: u64,
    /// Requests.
    pub n: u64,
    /// Those that failed.
    pub errors: u64,
    /// Their share; nothing when there were no requests.
    pub error_rate: Option<f64>,
    /// Half of them took at most this: the upper bound of the bucket it falls in.
    pub p50_ms: Option<f64>,
    /// Nineteen of twenty.
    pub p95_ms: Option<f64>,
    /// Ninety-nine of a hundred.
    pub p99_ms: Option<f64>,
}

impl Counts {
    fn take(&mut self, took: Duration, failed: bool) {
        let ms = took.as_secs_f64() * 1_000.0;
        let bucket = BOUNDS_MS.iter().position(|bound| ms <= *bound).unwrap_or(BOUNDS_MS.len());
        self.n += 1;
        self.errors += u64::from(failed);
        self.sum_ms += ms;
        self.buckets[bucket] += 1;
    }

    fn add(&mut self, other: &Counts) {
        self.n += other.n;
        self.errors += other.errors;
        self.sum_ms += other.sum_ms;
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// A bound that so many of a hundred do not exceed; infinite above the last.
    fn percentile(&self, of_hundred: u64) -> Option<f64> {
        let wanted = (self.n * of_hundred).div_ceil(100);
        let mut seen = 0;
        let at = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        })?;
        Some(BOUNDS_MS.get(at).copied().unwrap_or(f64::INFINITY))
    }
}

impl Traffic {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request. `now` is a clock that never goes back.
    pub fn take(&self, now: Duration, took: Duration, failed: bool) {
        let mut state = self.state();
        state.ever.take(took, failed);
        let slice = now.as_secs() / SLICE.as_secs();
        if state.slices.back().is_none_or(|(number, _)| *number != slice) {
            state.slices.push_back((slice, Counts::default()));
        }
        if state.slices.len() > SLICES {
            state.slices.pop_front();
        }
        if let Some((_, counts)) = state.slices.back_mut() {
            counts.take(took, failed);
        }
    }

    /// All since the daemon began.
    pub fn ever(&self) -> Counts {
        self.state().ever.clone()
    }

    /// The last minutes.
    pub fn lately(&self, now: Duration) -> Lately {
        let oldest = (now.as_secs() / SLICE.as_secs()).saturating_sub(SLICES as u64 - 1);
        let mut all = Counts::default();
        self.state().slices.iter().filter(|(slice, _)| *slice >= oldest).for_each(|(_, counts)| all.add(counts));
        Lately {
            window_s: SLICE.as_secs() * SLICES as u64,
            n: all.n,
            errors: all.errors,
            error_rate: (all.n > 0).then(|| all.errors as f64 / all.n as f64),
            p50_ms: all.percentile(50),
            p95_ms: all.percentile(95),
            p99_ms: all.percentile(99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_rests_on_the_last_minutes() {
        let traffic = Traffic::default();
        let nothing = traffic.lately(Duration::from_secs(1));
        assert_eq!((nothing.n, nothing.error_rate, nothing.p95_ms), (0, None, None), "nothing is not good");
        for number in 0..100 {
            let took = Duration::from_millis(if number < 95 { 4 } else { 3_000 });
            traffic.take(Duration::from_secs(10), took, number >= 95);
        }
        let told = traffic.lately(Duration::from_secs(200));
        assert_eq!((told.n, told.errors, told.error_rate), (100, 5, Some(0.05)));
        assert_eq!((told.p50_ms, told.p95_ms, told.p99_ms), (Some(5.0), Some(5.0), Some(5_000.0)));
        traffic.take(Duration::from_secs(299), Duration::from_secs(60), true);
        assert_eq!(traffic.lately(Duration::from_secs(300)).n, 1, "the first slice is out of the window");
        assert_eq!(traffic.lately(Duration::from_secs(299)).p99_ms, Some(5_000.0));
        assert_eq!(traffic.lately(Duration::from_secs(300)).p50_ms, Some(f64::INFINITY));
        assert_eq!((traffic.ever().n, traffic.ever().errors), (101, 6));
        assert_eq!(traffic.lately(Duration::from_secs(10_000)).n, 0);
    }
}
