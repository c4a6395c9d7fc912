//! How often somebody may ask: a bucket that fills at a steady rate and from which each request takes one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asks {
    /// Looking, from this host without a token: whoever can do that can do worse.
    LookHere,
    /// Looking.
    Look,
    /// Changing something.
    Change,
    /// Showing a token that is not known.
    Guess,
}

impl Asks {
    /// Requests a second, and how many at once.
    fn rate(self) -> (f64, f64) {
        match self {
            Asks::LookHere => (1_000.0, 5_000.0),
            Asks::Look => (20.0, 200.0),
            Asks::Change => (2.0, 50.0),
            Asks::Guess => (0.2, 10.0),
        }
    }
}

/// Buckets that are remembered; idle ones make room.
const BUCKETS_MAX: usize = 10_000;

/// Who asked how often lately.
#[derive(Debug, Default)]
pub struct Limits {
    buckets: Mutex<HashMap<(String, Asks), Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    holds: f64,
    at: Duration,
}

impl Limits {
    /// Takes one.
    ///
    /// # Errors
    /// Whole seconds until there is one again.
    pub fn take(&self, who: &str, asks: Asks, now: Duration) -> Result<(), u64> {
        let (rate, most) = asks.rate();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX {
            buckets.retain(|(_, asks), bucket| filled(bucket, *asks, now) < asks.rate().1);
            if buckets.len() >= BUCKETS_MAX {
                return Err(1); // so many at once are an attack, whoever this one is
            }
        }
        let bucket = buckets.entry((who.to_owned(), asks)).or_insert(Bucket { holds: most, at: now });
        *bucket = Bucket { holds: filled(bucket, asks, now), at: now };
        if bucket.holds >= 1.0 {
            bucket.holds -= 1.0;
            return Ok(());
        }
        Err(((1.0 - bucket.holds) / rate).ceil().max(1.0) as u64)
    }
}

fn filled(bucket: &Bucket, asks: Asks, now: Duration) -> f64 {
    let (rate, most) = asks.rate();
    (bucket.holds + now.saturating_sub(bucket.at).as_secs_f64() * rate).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills() {
        let limits = Limits::default();
        let take = |who: &str, asks, at| limits.take(who, asks, Duration::from_secs(at));
        for _ in 0..10 {
            assert_eq!(take("10.0.0.1", Asks::Guess, 0), Ok(()));
        }
        assert_eq!(take("10.0.0.1", Asks::Guess, 0), Err(5));
        assert_eq!(take("10.0.0.2", Asks::Guess, 0), Ok(()), "everybody has a bucket of their own");
        assert_eq!(take("10.0.0.1", Asks::Look, 0), Ok(()), "and one for each thing");
        assert_eq!(take("10.0.0.1", Asks::Guess, 3), Err(2));
        assert_eq!(take("10.0.0.1", Asks::Guess, 5), Ok(()));
        assert_eq!(take("10.0.0.1", Asks::Guess, 5), Err(5));
    }

    #[test]
    fn idle_ones_make_room_and_an_attack_is_refused() {
        let limits = Limits::default();
        for one in 0..BUCKETS_MAX {
            assert_eq!(limits.take(&one.to_string(), Asks::Look, Duration::ZERO), Ok(()));
        }
        assert_eq!(limits.take("new", Asks::Look, Duration::ZERO), Err(1));
        assert_eq!(limits.take("new", Asks::Look, Duration::from_secs(60)), Ok(()));
    }
}
