//! Retention: which backups stay, which may go, and one sentence why.
//!
//! The rules have an order. First the floors, which no setting can lower: nothing is let go that somebody holds, that is
//! newer than the newest proven one, or that is among the last `proven` proven ones. Then the wishes: `within`, `last`,
//! `hourly`, `daily`, `weekly`, `monthly`, `yearly`. Emergency and suspect backups never fill a place that a good one
//! needs; they stay for `emergency` and then go. Time is the recovery point, never a file's time.
//!
//! Backups that hold the same resources compete for places. A proof counts for every group it covers: an emergency
//! backup of the database alone may go when newer proven backups of the whole environment hold that database too.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{ToSpan, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::{
    backup::{Backup, BackupReason},
    id::BackupId,
    resource::{ResourceName, Scope},
    time::Timestamp,
};

/// What a person wants kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// Everything younger than this.
    pub within: Option<Duration>,
    /// The newest so many.
    pub last: u32,
    /// The newest of each of so many hours that have one.
    pub hourly: u32,
    /// The newest of each of so many days (UTC) that have one.
    pub daily: u32,
    /// The newest of each of so many weeks (Monday to Sunday, UTC) that have one.
    pub weekly: u32,
    /// The newest of each of so many months (UTC) that have one.
    pub monthly: u32,
    /// The newest of each of so many years (UTC) that have one.
    pub yearly: u32,
    /// A floor: the newest so many proven ones stay whatever the rest says. At least 1.
    pub proven: u32,
    /// How long emergency and suspect backups stay.
    pub emergency: Duration,
}

impl Default for Keep {
    /// Two days of everything, then 7 daily, 4 weekly, 12 monthly; 3 proven at least; emergency backups for 30 days.
    fn default() -> Self {
        Keep {
            within: Some(Duration::from_secs(2 * 86_400)),
            last: 3,
            hourly: 0,
            daily: 7,
            weekly: 4,
            monthly: 12,
            yearly: 0,
            proven: 3,
            emergency: Duration::from_secs(30 * 86_400),
        }
    }
}

impl Keep {
    /// Whether it wishes for nothing at all; such a policy is refused, since it can only be a mistake.
    pub fn is_empty(&self) -> bool {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        self.within.is_none() && counts.iter().all(|count| *count == 0)
    }
}

/// What is to become of a backup, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It stays.
    Keep {
        /// One sentence.
        because: String,
        /// When it will go if backups go on as they do; nothing when that depends on something else.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// It may go.
    Forget {
        /// One sentence.
        because: String,
    },
}

impl Verdict {
    /// Whether it may go.
    pub fn is_forget(&self) -> bool {
        matches!(self, Verdict::Forget { .. })
    }
}

/// Decides for every backup. Groups are formed by what a backup holds, never by paths or host names.
pub fn decide_keep(backups: &[Backup], keep: &Keep, now: Timestamp) -> BTreeMap<BackupId, Verdict> {
    let mut groups: BTreeMap<(Scope, BTreeSet<ResourceName>), Vec<&Backup>> = BTreeMap::new();
    for backup in backups {
        let holds = backup.resources.iter().cloned().collect();
        groups.entry((backup.scope.clone(), holds)).or_default().push(backup);
    }
    let mut verdicts = BTreeMap::new();
    for ((scope, holds), group) in groups {
        let covers =
            |backup: &&Backup| backup.scope == scope && holds.iter().all(|name| backup.resources.contains(name));
        let proven = backups.iter().filter(covers).filter(|backup| is_good(backup) && backup.proven_at.is_some());
        verdicts.extend(decide_group(newest_first(group), &newest_first(proven.collect()), keep, now));
    }
    verdicts
}

/// Whether it may fill a place.
fn is_good(backup: &Backup) -> bool {
    backup.reason != BackupReason::Emergency && backup.suspect.is_none()
}

fn newest_first(mut backups: Vec<&Backup>) -> Vec<&Backup> {
    backups.sort_by(|left, right| (right.recovery_point, &right.id).cmp(&(left.recovery_point, &left.id)));
    backups
}

/// `proven`: the good ones that are proven and hold at least what this group holds, newest first.
fn decide_group(group: Vec<&Backup>, proven: &[&Backup], keep: &Keep, now: Timestamp) -> Vec<(BackupId, Verdict)> {
    let wishes = wishes(group.iter().copied().filter(|backup| is_good(backup)), keep, now);
    let decide = |backup: &Backup| {
        if let Some(floor) = floor(backup, proven, keep) {
            return floor;
        }
        if is_good(backup) {
            return wishes.get(&backup.id).cloned().unwrap_or_else(|| Verdict::Forget {
                because: "no rule keeps it, and newer proven backups are there".to_owned(),
            });
        }
        let until = later(backup.recovery_point, keep.emergency);
        let what = if backup.suspect.is_some() { "suspect" } else { "emergency" };
        if now < until {
            Verdict::Keep { because: format!("{what} backups stay for a while"), until: Some(until) }
        } else {
            Verdict::Forget { because: format!("{what} backups have stayed long enough") }
        }
    };
    group.iter().map(|backup| (backup.id.clone(), decide(backup))).collect()
}

/// What no wish can lower.
fn floor(backup: &Backup, proven: &[&Backup], keep: &Keep) -> Option<Verdict> {
    let stays = |because: String| Some(Verdict::Keep { because, until: None });
    if let Some(why) = &backup.held {
        return stays(format!("held: {why}"));
    }
    let Some(newest_proven) = proven.first() else {
        return stays("no backup has been proven yet, so none may go".to_owned());
    };
    let floor = keep.proven.max(1) as usize;
    if let Some(place) = proven.iter().take(floor).position(|known| known.id == backup.id) {
        return stays(format!("proven, number {} of the newest {floor}", place + 1));
    }
    if backup.recovery_point > newest_proven.recovery_point {
        return stays(format!("newer than the newest proven one, {}", newest_proven.id));
    }
    None
}

/// The wishes, for good backups, newest first.
fn wishes<'a>(good: impl Iterator<Item = &'a Backup>, keep: &Keep, now: Timestamp) -> BTreeMap<BackupId, Verdict> {
    let good: Vec<&Backup> = good.collect();
    let mut kept: BTreeMap<BackupId, Verdict> = BTreeMap::new();
    let mut wish = |backup: &Backup, because: String, until: Option<Timestamp>| {
        let verdict = Verdict::Keep { because, until };
        kept.entry(backup.id.clone()).and_modify(|old| *old = longer(old.clone(), verdict.clone())).or_insert(verdict);
    };
    for (index, backup) in good.iter().take(keep.last as usize).enumerate() {
        wish(backup, format!("number {} of the newest {}", index + 1, keep.last), None);
    }
    if let Some(within) = keep.within {
        for backup in good.iter().filter(|backup| later(backup.recovery_point, within) > now) {
            let until = later(backup.recovery_point, within);
            wish(backup, format!("younger than {}", crate::time::show_age(within)), Some(until));
        }
    }
    for (count, period) in PERIODS.map(|period| (period.count(keep), period)) {
        let mut seen: BTreeSet<civil::DateTime> = BTreeSet::new();
        for backup in &good {
            let begin = period.begin(backup.recovery_point);
            if seen.len() < count as usize && seen.insert(begin) {
                let because = format!("newest of its {}, {} of {count}", period.word(), seen.len());
                wish(backup, because, period.end_after(begin, count));
            }
        }
    }
    kept
}

/// Of two reasons to stay, the one that lasts longer.
fn longer(left: Verdict, right: Verdict) -> Verdict {
    let until = |verdict: &Verdict| match verdict {
        Verdict::Keep { until: Some(until), .. } => *until,
        Verdict::Keep { until: None, .. } => Timestamp::MIN, // a place in a queue: it may end with the next backup
        Verdict::Forget { .. } => Timestamp::MIN,
    };
    if until(&right) > until(&left) { right } else { left }
}

#[derive(Clone, Copy)]
enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

const PERIODS: [Period; 5] = [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];

impl Period {
    fn word(self) -> &'static str {
        match self {
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Year => "year",
        }
    }

    fn count(self, keep: &Keep) -> u32 {
        match self {
            Period::Hour => keep.hourly,
            Period::Day => keep.daily,
            Period::Week => keep.weekly,
            Period::Month => keep.monthly,
            Period::Year => keep.yearly,
        }
    }

    /// The beginning of the period an instant lies in, UTC.
    fn begin(self, at: Timestamp) -> civil::DateTime {
        let at = at.to_zoned(TimeZone::UTC).datetime();
        let day = at.date();
        match self {
            Period::Hour => day.at(at.hour(), 0, 0, 0),
            Period::Day => day.at(0, 0, 0, 0),
            Period::Week => {
                let back = i64::from(day.weekday().to_monday_zero_offset());
                day.checked_sub(back.days()).unwrap_or(day).at(0, 0, 0, 0)
            }
            Period::Month => day.first_of_month().at(0, 0, 0, 0),
            Period::Year => day.first_of_year().at(0, 0, 0, 0),
        }
    }

    /// When `count` later periods have begun, so that this one is pushed out.
    fn end_after(self, begin: civil::DateTime, count: u32) -> Option<Timestamp> {
        let count = i64::from(count);
        let span = match self {
            Period::Hour => count.hours(),
            Period::Day => count.days(),
            Period::Week => count.weeks(),
            Period::Month => count.months(),
            Period::Year => count.years(),
        };
        let end = begin.checked_add(span).ok()?;
        end.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
