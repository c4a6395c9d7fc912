//! Decisions of a mirror: when to wait, how much to send, what a refusal means, when deletes look wrong.

use serde::{Deserialize, Serialize};

/// No batch has more keys than this: at 30 ms a round trip the measured best is near.
pub const BATCH_ROWS_MAX: u32 = 20_000;

/// Bytes of rows in one batch, unless a single row is larger.
pub const BATCH_BYTES_MAX: u64 = 8 << 20;

/// So many deletes of a table are always let through.
pub const DELETES_ALWAYS_ALLOWED: u64 = 1_000;

/// What a number of waiting changes means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Up to 100.
    #[default]
    Normal,
    /// More than 100: an alert.
    Watch,
    /// More than 1,000: looking into it is advised; the queue may be cleared.
    Advise,
    /// More than 10,000: urgent.
    Urge,
}

impl Tier {
    /// The tier of a number of waiting changes.
    pub fn of(waiting: u64) -> Tier {
        match waiting {
            0..=100 => Tier::Normal,
            101..=1_000 => Tier::Watch,
            1_001..=10_000 => Tier::Advise,
            _ => Tier::Urge,
        }
    }
}

/// What a refusal of the cloud is about, by what has to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Nobody is there, or it cannot take writes now: hold everything, try again later.
    Down,
    /// The transaction lost against another: the same again, at once.
    Again,
    /// It took too long: the same in smaller pieces.
    TooLong,
    /// Somebody else delivers from this file, or the cloud is not where it was: stop and look.
    Position,
    /// A table or column is not as it was: look at the cloud's tables again.
    Schema,
    /// A policy or a missing grant refuses it; trying again changes nothing.
    Policy,
    /// A row that this table cannot hold.
    Content,
}

impl Trouble {
    /// Its word in a dead letter.
    pub fn word(self) -> &'static str {
        match self {
            Trouble::Down => "down",
            Trouble::Again => "again",
            Trouble::TooLong => "too-long",
            Trouble::Position => "position",
            Trouble::Schema => "schema",
            Trouble::Policy => "policy",
            Trouble::Content => "content",
        }
    }

    /// Whether it is about single rows, so that the others need not wait.
    pub fn is_about_rows(self) -> bool {
        matches!(self, Trouble::Policy | Trouble::Content)
    }
}

/// What an SQLSTATE means for a mirror. Passwords that are refused mean "down": a project that was paused answers so.
/// Source: the appendix of PostgreSQL's manual on error codes, and the measurements in the design of the mirror.
pub fn trouble_of(state: &str) -> Trouble {
    match state {
        "40001" | "40P01" | "55P03" => Trouble::Again,
        "57014" => Trouble::TooLong,
        "22012" => Trouble::Position, // the watermark's own division by zero
        "42501" => Trouble::Policy,
        "42P01" | "42703" | "42804" | "42P10" | "3F000" | "428C9" => Trouble::Schema,
        _ => match state.get(..2).unwrap_or_default() {
            "22" | "23" => Trouble::Content,
            "42" => Trouble::Schema,
            "44" => Trouble::Policy, // a view's CHECK OPTION
            _ => Trouble::Down,
        },
    }
}

/// How long to wait before the next try: doubling from one second to a minute, and a random part of that, so that many
/// shops do not come back in the same second. `chance` is any number.
pub fn backoff_ms(failures: u32, chance: u64) -> u64 {
    let ceiling = (1_000_u64 << failures.saturating_sub(1).min(6)).min(60_000);
    let floor = ceiling / 4;
    floor + chance % (ceiling - floor + 1)
}

/// How many rows the next batch should have: twice as many while more waits than one batch holds and the cloud keeps up,
/// back to what was asked for when little waits.
pub fn next_batch_rows(asked: u32, last: u32, waiting: u64, last_ms: u64) -> u32 {
    /// A transaction should not hold locks for longer than this.
    const LONG_MS: u64 = 5_000;
    let asked = asked.clamp(1, BATCH_ROWS_MAX);
    if last_ms > LONG_MS {
        return (last / 2).max(1);
    }
    if waiting <= u64::from(asked) {
        return asked;
    }
    last.max(asked).saturating_mul(2).min(BATCH_ROWS_MAX)
}

/// Whether so many deletes out of a table look like an accident: more than 1,000, and more than this share of it.
pub fn too_many_deletes(deletes: u64, rows_in_cloud: u64, share_percent: u32) -> bool {
    let share = rows_in_cloud.saturating_mul(u64::from(share_percent)) / 100;
    deletes > DELETES_ALWAYS_ALLOWED.max(share)
}

/// What the delete guard decided about a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The table.
    pub table: String,
    /// Deletes that are held.
    pub deletes: u64,
}

/// Whether deliveries are being tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// They are.
    #[default]
    Closed,
    /// Not before some time has passed.
    Open,
    /// One is tried; it decides.
    HalfOpen,
}

/// Stops trying a cloud that is down, and tries again later. Times are milliseconds of a clock that never goes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    retry_at_ms: Option<u64>,
}

impl Breaker {
    /// Failures in a row after which it counts as down.
    pub const FAILURES_MAX: u32 = 5;

    /// Whether something may be tried now.
    pub fn may_try(&self, now_ms: u64) -> bool {
        self.retry_at_ms.is_none_or(|at| now_ms >= at)
    }

    /// When something may be tried again; nothing when it may now, whatever the time.
    pub fn retry_at_ms(&self) -> Option<u64> {
        self.retry_at_ms
    }

    /// It worked.
    pub fn worked(&mut self) {
        *self = Breaker::default();
    }

    /// It did not; each failure sets its own time of the next try.
    pub fn failed(&mut self, now_ms: u64, chance: u64) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at_ms = Some(now_ms + backoff_ms(self.failures, chance));
    }

    /// Somebody wants it tried now.
    pub fn try_now(&mut self) {
        self.retry_at_ms = None;
    }

    /// What to show.
    pub fn state(&self, now_ms: u64) -> BreakerState {
        match (self.failures >= Breaker::FAILURES_MAX, self.may_try(now_ms)) {
            (false, _) => BreakerState::Closed,
            (true, false) => BreakerState::Open,
            (true, true) => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_begin_where_the_document_says() {
        let of = |waiting| Tier::of(waiting);
        assert_eq!([of(100), of(101), of(1_000), of(1_001)], [Tier::Normal, Tier::Watch, Tier::Watch, Tier::Advise]);
        assert_eq!([of(10_000), of(10_001)], [Tier::Advise, Tier::Urge]);
    }

    #[test]
    fn a_paused_project_is_down_and_a_policy_is_for_ever() {
        assert_eq!(trouble_of("28P01"), Trouble::Down);
        assert_eq!(trouble_of("25006"), Trouble::Down);
        assert_eq!(trouble_of("53100"), Trouble::Down);
        assert_eq!(trouble_of("42501"), Trouble::Policy);
        assert_eq!(trouble_of("23505"), Trouble::Content);
        assert_eq!(trouble_of("22012"), Trouble::Position);
        assert_eq!(trouble_of("42703"), Trouble::Schema);
    }

    #[test]
    fn waiting_doubles_to_a_minute_and_never_ends() {
        for failures in 1..100 {
            for chance in [0, 1, 17, u64::MAX] {
                let wait = backoff_ms(failures, chance);
                assert!((250..=60_000).contains(&wait), "{failures} {chance} {wait}");
            }
        }
        assert!(backoff_ms(1, u64::MAX) <= 1_000);
        assert!(backoff_ms(20, 45_000) >= 15_000);
    }

    #[test]
    fn the_breaker_opens_after_five_and_each_failure_sets_the_next_try() {
        let mut breaker = Breaker::default();
        let mut now = 0;
        for _ in 0..5 {
            assert!(breaker.may_try(now));
            breaker.failed(now, 3);
            assert!(!breaker.may_try(now));
            now = breaker.retry_at_ms().unwrap();
        }
        assert_eq!(breaker.state(now - 1), BreakerState::Open);
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);
        breaker.worked();
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn batches_grow_with_the_backlog_and_shrink_with_time() {
        assert_eq!(next_batch_rows(500, 500, 10, 30), 500);
        assert_eq!(next_batch_rows(500, 500, 100_000, 30), 1_000);
        assert_eq!(next_batch_rows(500, 16_000, 100_000, 30), BATCH_ROWS_MAX);
        assert_eq!(next_batch_rows(500, 16_000, 100_000, 9_000), 8_000);
        assert_eq!(next_batch_rows(500, 16_000, 400, 30), 500);
    }

    #[test]
    fn a_wiped_table_is_an_accident_and_a_few_rows_are_not() {
        assert!(!too_many_deletes(1_000, 1_000, 20));
        assert!(too_many_deletes(1_001, 1_001, 20));
        assert!(!too_many_deletes(20_000, 100_000, 20));
        assert!(too_many_deletes(20_001, 100_000, 20));
    }
}
