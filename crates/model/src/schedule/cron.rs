//! Points in time as `cron` writes them: minute, hour, day of the month, month, day of the week.
//!
//! Twice a year a zone's clock jumps. A time that a day does not have (02:30 when the clock goes from 02:00 to 03:00) happens
//! as much later as the clock jumps; one that a day has twice happens once, the first time. What happens every hour goes by
//! the time that passes, and so it happens in both of two equal hours.

use std::fmt;

use jiff::{
    civil::{Date, Time},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How far ahead and back is looked for a day that fits: every leap day is within it.
const DAYS_MAX: u32 = 8 * 366 + 2;

/// Points in time that come again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// A `*` in both of them, or in one: both must fit. Otherwise either will do, as `cron` has it.
    both_days: bool,
}

/// What somebody wrote and we cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no time such as \"0 2 * * *\" (02:00 each day), \"30 4 * * sun\" or \"@hourly\"")]
pub struct BadCron {
    text: String,
}

impl TryFrom<String> for Cron {
    type Error = BadCron;
    fn try_from(text: String) -> Result<Cron, BadCron> {
        Cron::parse(&text)
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> String {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Cron {
    /// Reads five fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    ///
    /// # Errors
    /// Anything else, and a day that no year has.
    pub fn parse(text: &str) -> Result<Cron, BadCron> {
        let bad = || BadCron { text: text.to_owned() };
        let written = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other => other,
        };
        let fields: Vec<&str> = written.split_whitespace().collect();
        let &[minutes, hours, days, months, weekdays] = fields.as_slice() else { return Err(bad()) };
        let read = |field: &str, least, most, names: &[&str]| set_of(field, least, most, names).ok_or_else(bad);
        let weekday_set = read(weekdays, 0, 7, WEEKDAYS)?;
        let cron = Cron {
            text: text.trim().to_owned(),
            minutes: read(minutes, 0, 59, &[])?,
            hours: read(hours, 0, 23, &[])?,
            days: read(days, 1, 31, &[])?,
            months: read(months, 1, 12, MONTHS)?,
            // Sunday is 0 and 7.
            weekdays: (weekday_set | weekday_set >> 7) & 0x7f,
            both_days: days.starts_with('*') || weekdays.starts_with('*'),
        };
        let any = Timestamp::UNIX_EPOCH;
        if cron.next_after(any, &TimeZone::UTC).is_some() { Ok(cron) } else { Err(bad()) }
    }

    /// The first of them after an instant.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = zone.to_datetime(after).date();
        for _ in 0..DAYS_MAX {
            let found = self.times_on(date, zone).into_iter().find(|at| *at > after);
            if found.is_some() {
                return found;
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The last of them that is not after an instant.
    pub fn last_until(&self, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = zone.to_datetime(until).date();
        for _ in 0..DAYS_MAX {
            let found = self.times_on(date, zone).into_iter().rev().find(|at| *at <= until);
            if found.is_some() {
                return found;
            }
            date = date.yesterday().ok()?;
        }
        None
    }

    /// The minute and hour of one that comes at one time of each day, for schedulers that want it in other words.
    pub fn daily_at(&self) -> Option<(u8, u8)> {
        let one = |set: u64| (set.count_ones() == 1).then(|| set.trailing_zeros() as u8);
        let fields: Vec<&str> = self.text.split_whitespace().collect();
        match fields.as_slice() {
            [_, _, "*", "*", "*"] => Some((one(self.minutes)?, one(self.hours)?)),
            _ => None,
        }
    }

    /// All of them on a day of the zone, in order.
    fn times_on(&self, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        if !self.fits(date) {
            return Vec::new();
        }
        let every_hour = self.hours == (1 << 24) - 1;
        let mut times = if every_hour { self.by_passing_time(date, zone) } else { self.by_the_clock(date, zone) };
        times.sort_unstable();
        times.dedup(); // a time that the clock skips may fall on another
        times
    }

    fn fits(&self, date: Date) -> bool {
        let has = |set: u64, number: i8| set >> number & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month()) && if self.both_days { day && weekday } else { day || weekday }
    }

    fn by_the_clock(&self, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let mut times = Vec::new();
        for hour in bits(self.hours) {
            for minute in bits(self.minutes) {
                let Ok(time) = Time::new(hour, minute, 0, 0) else { continue };
                times.extend(zone.to_timestamp(date.to_datetime(time)).ok());
            }
        }
        times
    }

    fn by_passing_time(&self, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let start = |date: Date| zone.to_timestamp(date.to_datetime(Time::midnight())).ok();
        let Some((begin, end)) = start(date).zip(date.tomorrow().ok().and_then(start)) else { return Vec::new() };
        let minutes = (begin.as_second()..end.as_second()).step_by(60);
        let fits = |at: &Timestamp| self.minutes >> zone.to_datetime(*at).minute() & 1 == 1;
        minutes.filter_map(|second| Timestamp::from_second(second).ok()).filter(fits).collect()
    }
}

fn bits(set: u64) -> impl Iterator<Item = i8> {
    (0..64).filter(move |bit| set >> bit & 1 == 1)
}

/// `*`, `5`, `1-5`, `*/15`, `10-40/10`, `mon-fri`, and lists of them.
fn set_of(field: &str, least: u32, most: u32, names: &[&str]) -> Option<u64> {
    let number = |word: &str| {
        let named = names.iter().position(|name| word.eq_ignore_ascii_case(name));
        let plain = || word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok()).flatten();
        let number: u32 = named.map(|at| at as u32 + least.min(1)).or_else(plain)?;
        (least..=most).contains(&number).then_some(number)
    };
    let mut set = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((first, last)) => (number(first)?, number(last)?),
            None if part.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if first > last {
            return None;
        }
        (first..=last).step_by(step as usize).for_each(|bit| set |= 1_u64 << bit);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[track_caller]
    fn check(cron: &str, zone: &TimeZone, after: &str, expected: &[&str]) {
        let cron = Cron::parse(cron).unwrap_or_else(|error| panic!("{error}"));
        let mut at: Timestamp = after.parse().unwrap();
        for expected in expected {
            let next = cron.next_after(at, zone).unwrap();
            assert_eq!(next.to_string(), *expected, "{cron} after {at}");
            assert_eq!(cron.last_until(next, zone), Some(next), "{cron}");
            let before = next - jiff::SignedDuration::from_nanos(1);
            assert!(cron.last_until(before, zone).is_none_or(|last| last <= at), "{cron}: {next} comes after {at}");
            at = next;
        }
    }

    #[test]
    fn fields_mean_what_cron_means() {
        let utc = TimeZone::UTC;
        check("0 2 * * *", &utc, "2026-01-01T02:00:00Z", &["2026-01-02T02:00:00Z", "2026-01-03T02:00:00Z"]);
        check("*/20 5-6 * * *", &utc, "2026-01-01T05:30:00Z", &["2026-01-01T05:40:00Z", "2026-01-01T06:00:00Z"]);
        check("30 4 * * sun", &utc, "2026-01-01T00:00:00Z", &["2026-01-04T04:30:00Z", "2026-01-11T04:30:00Z"]);
        check("30 4 * * 7", &utc, "2026-01-01T00:00:00Z", &["2026-01-04T04:30:00Z"]);
        check("0 0 29 feb *", &utc, "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
        // Either of two days that are said; both where one begins with a star.
        check("0 0 13 * fri", &utc, "2026-01-01T00:00:00Z", &["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z"]);
        check("0 0 1 jan,jul *", &utc, "2026-01-01T00:00:00Z", &["2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z"]);
        check("@hourly", &utc, "2026-01-01T00:00:00Z", &["2026-01-01T01:00:00Z"]);
        check("59 23 31 12 *", &utc, "2026-12-31T23:58:59Z", &["2026-12-31T23:59:00Z"]);
        for bad in ["", "0 2 * *", "60 2 * * *", "0 24 * * *", "0 0 0 * *", "0 0 31 2 *", "5-1 * * * *", "*/0 * * * *"]
        {
            assert!(Cron::parse(bad).is_err(), "{bad}");
        }
        for bad in ["a * * * *", "0 0 * 13 *", "0 0 * * 8", "1- * * * *", "+1 * * * *", "0 2 * * * *", "@often"] {
            assert!(Cron::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bkp_24_a_clock_that_jumps_skips_nothing_and_doubles_nothing() {
        // In Berlin 02:00 to 03:00 of 2026-03-29 does not exist, and that of 2026-10-25 exists twice.
        let day = &["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"];
        check("30 2 * * *", &berlin(), "2026-03-27T12:00:00Z", day);
        check("0 2 * * *", &berlin(), "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]);
        check("30 2 * * *", &berlin(), "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        // A skipped time falls on another: once.
        check("30 2,3 * * *", &berlin(), "2026-03-28T12:00:00Z", &["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]);
        // What comes every hour goes by the time that passes.
        let hours = &["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"];
        check("0 * * * *", &berlin(), "2026-10-24T23:00:00Z", hours);
        check("0 * * * *", &berlin(), "2026-03-29T00:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]);
    }
}
