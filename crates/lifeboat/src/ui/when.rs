//! Instants as a tired person writes them: `14:05`, `2026-11-20 14:05`, `2h ago`, or RFC 3339.

use jiff::{civil, tz::TimeZone};
use lifeboat_model::{Failure, FailureKind, Timestamp, time::parse_duration};

/// Reads an instant. What has no zone is meant in `zone`.
///
/// # Errors
/// What cannot be read, and what lies in the future: no backup is complete before that in a way that matters.
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, Failure> {
    let at = read(text.trim(), now, zone).ok_or_else(|| {
        let failure = Failure::new(FailureKind::Usage, format!("{text:?} is not a time"));
        failure.hint("write 14:05, '2026-11-20 14:05', '2h ago', or 2026-11-20T13:05:00Z")
    })?;
    if at > now {
        let shown = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string();
        let failure = Failure::new(FailureKind::Usage, format!("{text:?} is in the future: {shown}"));
        return Err(failure.hint("write the day too when another day is meant: '2026-11-19 14:05'"));
    }
    Ok(at)
}

fn read(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Some(span) = text.strip_suffix("ago") {
        return now.checked_sub(parse_duration(span.trim()).ok()?).ok();
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let today = now.to_zoned(zone.clone()).date();
    // The reader of times also takes a whole date with a time, and forgets the date.
    let is_time_of_day = !text.contains('-');
    let civil =
        if is_time_of_day { today.to_datetime(text.parse().ok()?) } else { text.parse::<civil::DateTime>().ok()? };
    // An hour that a change of clocks repeats is meant as its first time: the earlier instant is the safer one.
    zone.to_ambiguous_zoned(civil).earlier().ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let now: Timestamp = "2026-11-20T17:30:00Z".parse().unwrap();
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let found = parse(text, now, &berlin).ok().map(|at| at.to_string());
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        check("14:05", Some("2026-11-20T13:05:00Z"));
        check("2026-11-20 14:05", Some("2026-11-20T13:05:00Z"));
        check("2026-11-20 14:05:30", Some("2026-11-20T13:05:30Z"));
        check("2026-11-18 14:05", Some("2026-11-18T13:05:00Z"));
        check("2026-11-20T14:05:00Z", Some("2026-11-20T14:05:00Z"));
        check("2026-11-20T14:05:00+02:00", Some("2026-11-20T12:05:00Z"));
        check("2h ago", Some("2026-11-20T15:30:00Z"));
        check("1d 2h ago", Some("2026-11-19T15:30:00Z"));
        check("2026-11-19", Some("2026-11-18T23:00:00Z"));
    }

    #[test]
    fn what_is_no_time_or_in_the_future_is_refused() {
        for text in ["", "noon", "25:00", "ago", "2 ago", "-2h ago", "2026-13-01", "23:59", "2027-01-01"] {
            check(text, None);
        }
    }

    #[test]
    fn an_hour_that_comes_twice_is_meant_the_first_time() {
        check("2026-10-25 02:30", Some("2026-10-25T00:30:00Z"));
    }
}
