//! The time in a backup file's name, as scripts write it.
//!
//! ```text
//!   database.sqlite.backup.20251104                 a day
//!   database-pre-change-20251104-143000.sqlite      an instant
//!   emergency_20251104_143000.sql                   the same with the other spelling
//!   cloud_backup_20251104143000.sql                 without anything between
//!   2025-11-04T14-30-00.db, 2025-11-04.db           with the parts of date and time apart
//! ```
//!
//! A name says no zone; it is read as UTC. A day means its first instant: all that was written before it is certainly in.

use jiff::{civil, tz::TimeZone};

use crate::time::Timestamp;

/// What a name says about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameStamp {
    /// The instant, UTC; of a day alone its first.
    pub at: Timestamp,
    /// Whether the name tells the day only.
    pub day_only: bool,
}

/// The last stamp in a file's name.
pub fn stamp_in(name: &str) -> Option<NameStamp> {
    let runs = digit_runs(name);
    (0..runs.len()).rev().find_map(|first| stamp_at(name, &runs[first..]))
}

/// A run of digits: where it begins, and its digits.
type Run<'a> = (usize, &'a str);

fn digit_runs(name: &str) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut begin = None;
    for (at, byte) in name.bytes().chain([b' ']).enumerate() {
        match (byte.is_ascii_digit(), begin) {
            (true, None) => begin = Some(at),
            (false, Some(from)) => {
                runs.push((from, &name[from..at]));
                begin = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    runs
}

fn stamp_at(name: &str, runs: &[Run<'_>]) -> Option<NameStamp> {
    let (date, rest, whole_time) = match runs {
        [(_, digits), ..] if digits.len() == 14 => (date(&digits[..8])?, &runs[1..], Some(&digits[8..])),
        [(_, digits), ..] if digits.len() == 8 => (date(digits)?, &runs[1..], None),
        [year, month, day, ..] if lengths(&[year, month, day], &[4, 2, 2]) && apart(name, &runs[..3], "-_") => {
            (date(&format!("{}{}{}", year.1, month.1, day.1))?, &runs[3..], None)
        }
        _ => return None,
    };
    let used = runs.len() - rest.len();
    let after = |count: usize| apart(name, &runs[used - 1..used + count], "-_T .:");
    let time = match (whole_time, rest) {
        (Some(digits), _) => time(digits),
        (None, [(_, digits), ..]) if digits.len() == 6 && after(1) => time(digits),
        (None, [hour, minute, second, ..]) if lengths(&[hour, minute, second], &[2, 2, 2]) && after(3) => {
            time(&format!("{}{}{}", hour.1, minute.1, second.1))
        }
        (None, _) => None,
    };
    let at = date.to_datetime(time.unwrap_or(civil::Time::midnight())).to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(NameStamp { at, day_only: time.is_none() })
}

fn lengths(runs: &[&Run<'_>], expected: &[usize]) -> bool {
    runs.iter().map(|run| run.1.len()).eq(expected.iter().copied())
}

/// Whether one of these letters, and nothing else, stands between each run and the next.
fn apart(name: &str, runs: &[Run<'_>], letters: &str) -> bool {
    runs.windows(2).all(|pair| {
        let between = &name[pair[0].0 + pair[0].1.len()..pair[1].0];
        let mut found = between.chars();
        matches!((found.next(), found.next()), (Some(letter), None) if letters.contains(letter))
    })
}

fn date(digits: &str) -> Option<civil::Date> {
    let year = digits[..4].parse().ok().filter(|year| (1990..2200).contains(year))?;
    civil::Date::new(year, digits[4..6].parse().ok()?, digits[6..8].parse().ok()?).ok()
}

fn time(digits: &str) -> Option<civil::Time> {
    let part = |at: usize| digits[at..at + 2].parse().ok();
    civil::Time::new(part(0)?, part(2)?, part(4)?, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<(&str, bool)>) {
        let found = stamp_in(name).map(|stamp| (stamp.at.to_string(), stamp.day_only));
        assert_eq!(found, expected.map(|(at, day_only)| (at.to_owned(), day_only)), "{name}");
    }

    /// C-23: both spellings give the same time.
    #[test]
    fn dashes_and_underscores_mean_the_same() {
        for name in [
            "emergency-20251104-143000",
            "emergency_20251104_143000.sql",
            "backups/migrations/emergency_20251104_143000.sql",
            "cloud_backup_20251104_143000.sql",
            "cloud-backup-20251104-143000.sql",
            "database-pre-change-20251104-143000.sqlite",
            "database-pre-change-20251104-143000-2.sqlite",
            "shop.20251104143000.db",
            "shop-20251104T143000Z.db",
            "2025-11-04T14-30-00.db",
            "2025_11_04_14_30_00.db",
            "2025-11-04 14:30:00.db",
            "v2-20240101-000000-copied-20251104-143000.db",
        ] {
            check(name, Some(("2025-11-04T14:30:00Z", false)));
        }
    }

    /// The names of the five documents, new or old.
    #[test]
    fn cmp_05_the_names_that_documents_have_tell_their_time() {
        for name in [
            "database.sqlite.CORRUPTED.20251104-143000",
            "backups/database-pre-change-20251104-143000.sqlite",
            "queue-backup-20251104-143000.json",
            "backup-20251104-143000.sql",
            "backup-pre-rollback-20251104-143000.sql",
            "cloud_backup_20251104_143000.sql",
            "emergency_20251104_143000.sql",
        ] {
            check(name, Some(("2025-11-04T14:30:00Z", false)));
        }
        for name in [
            "database.sqlite.backup.20251104",
            "my-shop-20251104.sqlite",
            "my_production_20251104.sql.gz",
            "backup/database-20251104.sql",
            "backup/multi-tenant-20251104.sql",
        ] {
            check(name, Some(("2025-11-04T00:00:00Z", true)));
        }
        for name in ["database.sqlite.backup", "supabase-backup.sql", "data-only.sql", "database-test.sqlite"] {
            check(name, None);
        }
    }

    #[test]
    fn a_day_means_its_first_instant() {
        for name in ["database.sqlite.backup.20251104", "database-20251104.sql", "shop-2025-11-04.db", "20251104"] {
            check(name, Some(("2025-11-04T00:00:00Z", true)));
        }
        // What follows is no time of day, so only the day is known.
        check("shop-20251104-993000.db", Some(("2025-11-04T00:00:00Z", true)));
        check("shop-20251104-rev-143000.db", Some(("2025-11-04T00:00:00Z", true)));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for name in [
            "",
            "database.sqlite",
            "shop-12345678.db",
            "shop-20251304.db",
            "shop-20250230.db",
            "00000000",
            "port-8080-1234.db",
            "order-202511041.db",
            "YYYYMMDD",
            "ü🦀",
        ] {
            check(name, None);
        }
    }
}
