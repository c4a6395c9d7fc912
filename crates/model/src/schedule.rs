//! What happens by itself, and when: jobs, what is known of each job's runs, and what is to be done now.
//!
//! Every job has its points in time. The newest of them that has passed and was not served is due; however many were
//! missed, one run makes up for them. A run that failed is tried again, with growing pauses, until the next point in time.

pub mod cron;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub use cron::{BadCron, Cron};

use crate::{
    check::Tri,
    resource::ResourceName,
    time::{Duration, Timestamp, show_age, since},
};

/// A run that has not begun so long after its time is late.
pub const LATE_AFTER: Duration = Duration::from_secs(600);

/// The pause after the first failure; it doubles with each.
const RETRY_FIRST: Duration = Duration::from_secs(300);

/// And the longest.
const RETRY_MAX: Duration = Duration::from_secs(3_600);

/// What a job does, in the order in which jobs of the same instant run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "does", rename_all = "kebab-case")]
pub enum Task {
    /// A backup.
    Backup {
        /// Of these resources; of all when empty.
        resources: Vec<ResourceName>,
    },
    /// Backups that no rule keeps go off the list.
    Retention,
    /// Second vaults are brought up to date, and plain files sent where the settings say.
    Copy,
    /// The newest backup is proven.
    Prove {
        /// Which resources in it; all when empty.
        resources: Vec<ResourceName>,
    },
    /// Space that no backup needs is freed.
    Prune,
}

/// Something that happens by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Its name: `backup`, or `backup.db` for one of a resource's own.
    pub name: String,
    /// What it does.
    pub task: Task,
    /// When.
    pub at: Cron,
}

/// Everything that happens by itself in one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// The zone that their times are meant in.
    pub zone: TimeZone,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule { jobs: Vec::new(), zone: TimeZone::UTC }
    }
}

/// What is known of a job's runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Since when the job has been looked after at these times; what lies before was never due.
    pub since: Timestamp,
    /// Its times then. Others begin anew.
    pub at: Cron,
    /// The newest of its times that was served well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Timestamp>,
    /// Its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Run>,
    /// Runs in a row that failed.
    #[serde(default)]
    pub failures: u32,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The time it was for.
    pub due: Timestamp,
    /// When it began.
    pub began: Timestamp,
    /// When it ended; nothing while it runs, or when its process died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The operations it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<String>,
    /// Why it failed, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What went wrong beside it: it did its work all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Run {
    /// One that begins.
    pub fn begin(due: Timestamp, now: Timestamp) -> Run {
        Run { due, began: now, ended: None, operations: Vec::new(), why: None, notes: Vec::new() }
    }

    /// How long after its time it began.
    pub fn lateness(&self) -> Duration {
        since(self.due, self.began)
    }
}

impl Record {
    /// Of a job that nobody has looked after yet.
    pub fn new(job: &Job, now: Timestamp) -> Record {
        Record { since: now, at: job.at.clone(), served: None, last: None, failures: 0 }
    }

    /// The same for other times: what was due under the former ones is not due any more.
    pub fn at_times_of(self, job: &Job, now: Timestamp) -> Record {
        if self.at == job.at { self } else { Record { since: now, at: job.at.clone(), served: None, ..self } }
    }
}

/// What is to be done about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is to run now, for this time.
    Run(Timestamp),
    /// Nothing before this instant.
    Wait(Timestamp),
    /// Nothing any more.
    Never,
}

/// The time that is due: the newest that has passed since the job is looked after, when it was not served.
fn due(job: &Job, record: &Record, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    let last = job.at.last_until(now, zone)?;
    (last > record.since && record.served.is_none_or(|served| served < last)).then_some(last)
}

/// Decides about a job.
pub fn next(job: &Job, record: &Record, zone: &TimeZone, now: Timestamp) -> Next {
    let later = job.at.next_after(now, zone);
    let Some(due) = due(job, record, zone, now) else { return later.map_or(Next::Never, Next::Wait) };
    let failed_at = record.last.as_ref().filter(|run| run.due == due && run.why.is_some()).and_then(|run| run.ended);
    match failed_at {
        Some(failed_at) => {
            let pause = RETRY_FIRST.saturating_mul(1 << record.failures.saturating_sub(1).min(8)).min(RETRY_MAX);
            let again = jiff::SignedDuration::try_from(pause).ok().and_then(|pause| failed_at.checked_add(pause).ok());
            match again {
                Some(again) if again > now => Next::Wait(later.map_or(again, |later| later.min(again))),
                Some(_) | None => Next::Run(due),
            }
        }
        None => Next::Run(due),
    }
}

/// How a job stands, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// When it runs, as the settings say it.
    pub at: String,
    /// In which zone.
    pub zone: String,
    /// When it runs next; in the past when it is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Its last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Run>,
    /// How long after its time the last run began, in seconds; above [`LATE_AFTER`] it made up for a time that was missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_late_s: Option<u64>,
    /// For how long a run has been due, in seconds; 0 when none is.
    pub late_s: u64,
    /// Whether it does what it should.
    pub good: Tri,
    /// Why not, in words.
    pub why: Vec<String>,
}

/// Tells how a job stands. `record` is missing when no daemon has ever looked after it; `runs`: somebody is at work on some
/// job now.
pub fn status(job: &Job, record: Option<&Record>, zone: &TimeZone, runs: bool, now: Timestamp) -> JobStatus {
    let mut why = Vec::new();
    let mut good = Tri::Pass;
    let due = record.and_then(|record| due(job, record, zone, now));
    let late = due.map_or(Duration::ZERO, |due| since(due, now));
    let last = record.and_then(|record| record.last.clone());
    let runs = runs && last.as_ref().is_some_and(|run| Some(run.due) == due && run.ended.is_none());
    match (record, last.as_ref().and_then(|run| run.why.as_ref())) {
        (None, _) => {
            good = Tri::Unknown;
            why.push("no daemon looks after it: lifeboat serve".to_owned());
        }
        (Some(_), Some(failed)) => {
            good = Tri::Fail;
            why.push(format!("its last run failed: {failed}"));
        }
        (Some(_), None) => {}
    }
    for note in last.iter().flat_map(|run| &run.notes) {
        good = Tri::Fail;
        why.push(note.clone());
    }
    if late > LATE_AFTER && !runs {
        good = Tri::Fail;
        why.push(format!("it has been due for {}; does the daemon run?", show_age(late)));
    }
    JobStatus {
        name: job.name.clone(),
        at: job.at.to_string(),
        zone: zone.iana_name().unwrap_or("UTC").to_owned(),
        next: due.or_else(|| job.at.next_after(now, zone)),
        last_late_s: last.as_ref().map(|run| run.lateness().as_secs()),
        last,
        late_s: late.as_secs(),
        good,
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-{text}:00Z").parse().unwrap()
    }

    fn nightly() -> (Job, Record) {
        let job = Job {
            name: "backup".into(),
            task: Task::Backup { resources: vec![] },
            at: Cron::parse("0 2 * * *").unwrap(),
        };
        let record = Record::new(&job, at("01T12:00"));
        (job, record)
    }

    fn failed(record: &mut Record, due: &str, ended: &str) {
        let (due, ended) = (at(due), at(ended));
        let run = Run { ended: Some(ended), why: Some("the disk is full".into()), ..Run::begin(due, ended) };
        record.failures += 1;
        record.last = Some(run);
    }

    #[test]
    fn bkp_24_what_was_missed_is_made_up_for_once() {
        let (job, mut record) = nightly();
        let next = |record: &Record, now: &str| next(&job, record, &TimeZone::UTC, at(now));
        assert_eq!(next(&record, "01T12:00"), Next::Wait(at("02T02:00")), "what lies before was never due");
        assert_eq!(next(&record, "02T02:00"), Next::Run(at("02T02:00")));
        assert_eq!(next(&record, "05T05:00"), Next::Run(at("05T02:00")), "three were missed, one makes up");
        assert_eq!(status(&job, Some(&record), &TimeZone::UTC, false, at("05T05:00")).late_s, 3 * 3600);
        assert_eq!(status(&job, Some(&record), &TimeZone::UTC, false, at("05T05:00")).good, Tri::Fail);
        record.served = Some(at("05T02:00"));
        assert_eq!(next(&record, "05T05:00"), Next::Wait(at("06T02:00")));
        assert_eq!(status(&job, Some(&record), &TimeZone::UTC, false, at("05T05:00")).good, Tri::Pass);
        assert_eq!(next(&record, "04T05:00"), Next::Wait(at("05T02:00")), "a clock that went back doubles nothing");
        assert_eq!(status(&job, None, &TimeZone::UTC, false, at("05T05:00")).good, Tri::Unknown);
    }

    #[test]
    fn what_failed_is_tried_again_with_growing_pauses_until_its_next_time() {
        let (job, mut record) = nightly();
        let next = |record: &Record, now: &str| next(&job, record, &TimeZone::UTC, at(now));
        failed(&mut record, "02T02:00", "02T02:01");
        assert_eq!(next(&record, "02T02:02"), Next::Wait(at("02T02:06")));
        assert_eq!(next(&record, "02T02:06"), Next::Run(at("02T02:00")));
        failed(&mut record, "02T02:00", "02T02:07");
        assert_eq!(next(&record, "02T02:08"), Next::Wait(at("02T02:17")));
        for _ in 0..20 {
            failed(&mut record, "02T02:00", "02T20:00");
        }
        assert_eq!(next(&record, "02T20:01"), Next::Wait(at("02T21:00")), "an hour at most");
        failed(&mut record, "02T02:00", "03T01:50");
        assert_eq!(next(&record, "03T01:51"), Next::Wait(at("03T02:00")));
        assert_eq!(next(&record, "03T02:00"), Next::Run(at("03T02:00")), "a new time does not wait for the old one");
        let told = status(&job, Some(&record), &TimeZone::UTC, false, at("03T02:00"));
        assert!(told.good == Tri::Fail && told.why[0].contains("the disk is full"), "{told:?}");
    }

    #[test]
    fn other_times_begin_anew() {
        let (mut job, record) = nightly();
        job.at = Cron::parse("0 9 * * *").unwrap();
        let record = record.at_times_of(&job, at("02T10:00"));
        assert_eq!(next(&job, &record, &TimeZone::UTC, at("02T10:00")), Next::Wait(at("03T09:00")));
    }
}
