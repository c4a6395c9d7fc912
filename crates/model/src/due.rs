//! What is due afterwards: within an hour of a rollback, within a day, within a week; and when an incident is over, its review. What was
//! promised goes on record with its time, and is ticked off by a person, or by what somebody has done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    id::OperationId,
    time::{Duration, Timestamp, show_age, since},
};

const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

/// Something that is due after something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its key.
    pub key: &'static str,
    /// What it says.
    pub title: &'static str,
    /// Within how many seconds, where the settings say nothing else.
    pub within_s: u64,
    /// Whether it is due after rollbacks.
    pub of_rollback: bool,
    /// Whether it is due after incidents.
    pub of_incident: bool,
}

const fn item(key: &'static str, within_s: u64, title: &'static str, (of_rollback, of_incident): (bool, bool)) -> Item {
    Item { key, title, within_s, of_rollback, of_incident }
}

/// What ends an incident for good; due after incidents alone.
pub const REVIEW: &str = "review";
/// What the collection of evidence ticks off.
pub const EVIDENCE: &str = "evidence";
/// What needs a category.
pub const ROOT_CAUSE: &str = "root-cause";
/// What a review ticks off as well.
pub const POST_MORTEM: &str = "post-mortem";

/// All of them, by their times.
pub const ITEMS: [Item; 11] = [
    item(
        "stability",
        HOUR,
        "it is stable: error rate, performance, what people say, nothing new is wrong",
        (true, true),
    ),
    item(EVIDENCE, HOUR, "the evidence is kept", (true, true)),
    item("document", HOUR, "the incident is written down: trigger, timeline, impact, root cause", (true, true)),
    item(REVIEW, DAY, "the incident is reviewed: timeline, root cause, actions, lessons", (false, true)),
    item(ROOT_CAUSE, DAY, "the root cause is found", (true, true)),
    item("fix", DAY, "the fix is there: a branch, tests against its coming back, tried in staging", (true, false)),
    item("report", DAY, "stakeholders have a report", (true, true)),
    item("redeploy-date", DAY, "it is known when it is deployed again", (true, false)),
    item(POST_MORTEM, 7 * DAY, "the post-mortem was held", (true, true)),
    item("prevention", 7 * DAY, "what prevents it from coming back is decided, and by whom it is done", (true, true)),
    item(
        "redeploy",
        7 * DAY,
        "the next deploy is planned: its window, tested fixes, checklist, rehearsal",
        (true, false),
    ),
];

/// What a root cause may be.
pub const CATEGORIES: [&str; 5] =
    ["Code bug", "Migration error", "Configuration issue", "Environment problem", "User error"];

/// A deadline as it goes on record: from when the step is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// Its key.
    pub key: String,
    /// What it says.
    pub title: String,
    /// Within how many seconds.
    pub within_s: u64,
}

/// Other times than those of [`ITEMS`], by their keys; nothing: it is not due at all.
pub type Times = BTreeMap<String, Option<Duration>>;

/// What is due, of those that are meant.
pub fn due(times: &Times, is_meant: impl Fn(&Item) -> bool) -> Vec<Due> {
    let meant = ITEMS.iter().filter(|item| is_meant(item));
    let timed = meant.filter_map(|item| {
        let within_s = match times.get(item.key) {
            Some(said) => said.as_ref()?.as_secs(),
            None => item.within_s,
        };
        Some(Due { key: item.key.to_owned(), title: item.title.to_owned(), within_s })
    });
    timed.collect()
}

/// That something was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ticked {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// What they said.
    pub note: String,
}

/// A deadline as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deadline {
    /// Its key.
    pub key: String,
    /// What it says.
    pub title: String,
    /// The operation after which it is due: a rollback, or the closing of an incident.
    pub of: OperationId,
    /// The incident that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<OperationId>,
    /// Until when.
    pub due: Timestamp,
    /// That it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<Ticked>,
    /// Its time is over, and it is not done.
    pub overdue: bool,
}

impl Deadline {
    /// What is still to be done, in a line.
    pub fn sentence(&self, now: Timestamp) -> String {
        let at = self.due.strftime("%Y-%m-%d %H:%M UTC");
        let done = match self.key.as_str() {
            REVIEW => "lifeboat incident review".to_owned(),
            EVIDENCE => format!("lifeboat evidence collect {}", self.of),
            key => format!("lifeboat incident done {key} --of {}", self.of),
        };
        match self.overdue {
            true => format!("OVERDUE since {} ({at}): {}; {done}", show_age(since(self.due, now)), self.title),
            false => format!("due in {} ({at}): {}; {done}", show_age(since(now, self.due)), self.title),
        }
    }
}

/// Overdue ones first, the oldest of them first; then what is due next; what is done last.
pub fn sort(deadlines: &mut [Deadline]) {
    deadlines.sort_by(|one, other| {
        let key = |deadline: &Deadline| (deadline.done.is_some(), !deadline.overdue, deadline.due);
        key(one).cmp(&key(other)).then_with(|| one.key.cmp(&other.key))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pir_02_three_apps_have_three_due_dates() {
        let within = |times: &Times, key: &str| {
            due(times, |item| item.of_rollback).iter().find(|due| due.key == key).map(|due| due.within_s)
        };
        let atomic = Times::from([(POST_MORTEM.to_owned(), Some(Duration::from_secs(48 * HOUR)))]);
        let none = Times::from([(POST_MORTEM.to_owned(), None)]);
        assert_eq!(within(&Times::new(), POST_MORTEM), Some(7 * DAY));
        assert_eq!(within(&atomic, POST_MORTEM), Some(2 * DAY));
        assert_eq!(within(&none, POST_MORTEM), None);
        assert_eq!(within(&atomic, ROOT_CAUSE), Some(DAY));
        assert_eq!(within(&atomic, REVIEW), None, "of incidents alone");
    }

    #[test]
    fn what_is_overdue_comes_first() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let one = |key: &str, due, overdue, done: bool| Deadline {
            key: key.to_owned(),
            title: String::new(),
            of: OperationId::from_random(1),
            incident: None,
            due: at(due),
            done: done.then(|| Ticked { at: at(0), by: String::new(), note: String::new() }),
            overdue,
        };
        let mut all =
            [one("a", 1, false, true), one("b", 9, false, false), one("c", 3, true, false), one("d", 2, true, false)];
        sort(&mut all);
        assert_eq!(all.map(|one| one.key), ["d", "c", "b", "a"]);
    }
}
