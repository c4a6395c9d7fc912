//! What to do in an emergency of a mirrored app: from a symptom in words, or from what was measured. The table is the quick
//! reference of the document that the emergency levels come from; the limits are that document's alerts.

use serde::{Deserialize, Serialize};

use crate::{
    sync::{Reach, SyncStatus, Tier},
    time::{Duration, Timestamp, show_age, since},
};

/// More waiting changes than this are an alert.
pub const QUEUE_MAX: u64 = 100;
/// More rows set aside than this are an alert.
pub const FAILED_MAX: u64 = 10;
/// A last delivery that is older than this, in seconds, is an alert: one is made every few seconds, also when nothing waits.
pub const LAST_SYNC_MAX_S: u64 = 300;

/// How long each emergency level may take, in seconds, the first one first.
pub const LEVEL_BUDGETS_S: [u64; 5] = [60, 120, 300, 1_800, 7_200];

/// How long an emergency level may take, in milliseconds; levels are 1 to 5.
pub fn budget_ms(level: u8) -> u64 {
    LEVEL_BUDGETS_S[usize::from(level.clamp(1, 5)) - 1] * 1_000
}

/// What somebody sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symptom {
    /// The log tells of errors of the mirror, or rows are refused.
    SyncErrors,
    /// Changes wait, and do not get fewer.
    QueueGrowing,
    /// The app does not work since it was changed.
    BadDeployment,
    /// The cloud does not answer.
    CloudDown,
    /// The cloud holds something else than the file.
    DataCorruption,
    /// The file, the host or everything is gone.
    CompleteFailure,
}

/// What it may cost to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Nothing is lost.
    None,
    /// Something may have to be brought back.
    Low,
    /// What was written since the last backup may be lost.
    Medium,
}

/// How soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// Have an eye on it.
    Watch,
    /// It is advised.
    Advise,
    /// Now.
    Urge,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// For what.
    pub symptom: Symptom,
    /// How soon.
    pub urgency: Urgency,
    /// What was seen, or said.
    pub because: String,
    /// The emergency level; nothing where nothing has to be done, or less than a level does.
    pub level: Option<u8>,
    /// What it does.
    pub action: String,
    /// What to type.
    pub command: String,
    /// How long it may take, in seconds; nothing where it happens by itself.
    pub budget_s: Option<u64>,
    /// What it may cost.
    pub risk: Risk,
    /// What loses less and should be tried first.
    pub safer: Option<String>,
}

impl Symptom {
    /// All of them, in the order of the document.
    pub const ALL: [Symptom; 6] = [
        Symptom::SyncErrors,
        Symptom::QueueGrowing,
        Symptom::BadDeployment,
        Symptom::CloudDown,
        Symptom::DataCorruption,
        Symptom::CompleteFailure,
    ];

    /// The document's words for it.
    pub fn words(self) -> &'static str {
        match self {
            Symptom::SyncErrors => "sync errors",
            Symptom::QueueGrowing => "queue growing",
            Symptom::BadDeployment => "bad deployment",
            Symptom::CloudDown => "supabase down",
            Symptom::DataCorruption => "data corruption",
            Symptom::CompleteFailure => "complete failure",
        }
    }

    /// Words by which people mean it, most telling first.
    fn signs(self) -> &'static [&'static str] {
        match self {
            Symptom::CompleteFailure => {
                &["complete", "everything", "total", "ransom", "hardware", "disk", "host", "lost", "gone", "malformed"]
            }
            Symptom::QueueGrowing => &["queue", "growing", "backlog", "waiting", "memory"],
            Symptom::BadDeployment => {
                &["deploy", "release", "version", "code", "rollback", "roll back", "500", "crash"]
            }
            Symptom::CloudDown => &["down", "outage", "unreachable", "supabase", "cloud", "offline", "network"],
            Symptom::DataCorruption => {
                &["corrupt", "wrong data", "differ", "missing", "duplicate", "inconsistent", "drift"]
            }
            Symptom::SyncErrors => &["sync", "error", "policy", "rls", "403", "suspicious"],
        }
    }

    /// What somebody means; nothing when the words mean none of them. The most serious of several wins, except that an
    /// error of the mirror is meant only when nothing else is.
    pub fn of(words: &str) -> Option<Symptom> {
        let words = words.to_lowercase();
        let named = Symptom::ALL.into_iter().find(|symptom| words.contains(symptom.words()));
        let by_sign = [
            Symptom::CompleteFailure,
            Symptom::DataCorruption,
            Symptom::BadDeployment,
            Symptom::QueueGrowing,
            Symptom::CloudDown,
            Symptom::SyncErrors,
        ];
        let has_sign = |symptom: &Symptom| symptom.signs().iter().any(|sign| words.contains(sign));
        named.or_else(|| by_sign.into_iter().find(has_sign))
    }

    /// What to do about it: a row of the quick reference.
    pub fn advice(self, urgency: Urgency, because: impl Into<String>) -> Advice {
        let (level, action, command, risk, safer) = match self {
            Symptom::SyncErrors => (
                Some(1),
                "hold changes: the app works on, and nothing is lost",
                "lifeboat level 1 --reason 'sync errors'",
                Risk::None,
                None,
            ),
            Symptom::QueueGrowing => (
                Some(2),
                "save the queue and clear it; level 4 makes the cloud equal afterwards",
                "lifeboat level 2",
                Risk::Low,
                Some(
                    "hold it (lifeboat level 1), mend what lifeboat sync status tells, and let it drain: nothing is lost",
                ),
            ),
            Symptom::BadDeployment => (
                Some(3),
                "bring the application back to what worked",
                "lifeboat level 3 --stable",
                Risk::Low,
                Some("lifeboat level 3 --stable --dry-run shows every step first"),
            ),
            Symptom::CloudDown => (
                None,
                "nothing: the app works on with its file, changes are held and delivered when the cloud is back",
                "lifeboat sync status",
                Risk::None,
                None,
            ),
            Symptom::DataCorruption => (
                Some(4),
                "make the cloud equal to the file; what only the cloud has is saved first",
                "lifeboat level 4",
                Risk::Low,
                Some("lifeboat sync check tells what differs and changes nothing"),
            ),
            Symptom::CompleteFailure => (
                Some(5),
                "bring database, application and cloud back from the newest proven backup",
                "lifeboat level 5",
                Risk::Medium,
                Some(
                    "lifeboat level 5 --dry-run shows what would be lost; lifeboat verify looks whether the file is damaged",
                ),
            ),
        };
        let budget_s = level.map(|level| budget_ms(level) / 1_000);
        let (action, command, safer) = (action.to_owned(), command.to_owned(), safer.map(str::to_owned));
        Advice { symptom: self, urgency, because: because.into(), level, action, command, budget_s, risk, safer }
    }
}

/// What is known of a mirrored app.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The mirror, or why it cannot be looked at.
    pub mirror: Option<Result<SyncStatus, String>>,
    /// Whether the cloud's HTTP side answers, when there is one that may be asked.
    pub reach: Option<Reach>,
    /// What of the app does not answer as it should; nothing when nobody has said where it answers.
    pub app: Option<Vec<String>>,
}

/// What to do, by what was measured; what is most urgent first. Empty: nothing has to be done.
pub fn advise(measured: &Measured, now: Timestamp) -> Vec<Advice> {
    let mut all = Vec::new();
    match &measured.mirror {
        Some(Ok(status)) => of_mirror(status, measured.reach.as_ref(), now, &mut all),
        Some(Err(why)) => all.push(Symptom::CompleteFailure.advice(Urgency::Urge, why)),
        None => {}
    }
    if let Some(failing) = measured.app.as_ref().filter(|failing| !failing.is_empty()) {
        all.push(Symptom::BadDeployment.advice(Urgency::Advise, failing.join("; ")));
    }
    all.sort_by_key(|advice| std::cmp::Reverse(advice.urgency));
    all
}

fn of_mirror(status: &SyncStatus, reach: Option<&Reach>, now: Timestamp, all: &mut Vec<Advice>) {
    let waiting = status.queue.queue_size;
    let grows = |urgency| Symptom::QueueGrowing.advice(urgency, format!("{waiting} changes wait"));
    match status.queue.tier {
        Tier::Normal => {}
        // Too few to clear: look why they wait.
        Tier::Watch => all.push(look(grows(Urgency::Watch))),
        Tier::Advise => all.push(grows(Urgency::Advise)),
        Tier::Urge => all.push(grows(Urgency::Urge)),
    }
    let failed = status.queue.total_failed;
    if failed > FAILED_MAX {
        let by_policy = match status.queue.rls_violations {
            0 => String::new(),
            rows => format!(", {rows} of them by a policy"),
        };
        let because = format!("{failed} rows are set aside{by_policy}; lifeboat sync queue list says why");
        all.push(Symptom::SyncErrors.advice(Urgency::Advise, because));
    }
    // What is held on purpose is late on purpose.
    let is_late = status.last_sync.is_none_or(|at| since(at, now) > Duration::from_secs(LAST_SYNC_MAX_S));
    if status.enabled && is_late {
        let last = status.last_sync.map_or_else(
            || "nothing was ever delivered".to_owned(),
            |at| format!("the last delivery was {} ago", show_age(since(at, now))),
        );
        all.push(match (reach, &status.last_error) {
            (Some(Reach::Down { why }), _) => {
                Symptom::CloudDown.advice(Urgency::Watch, format!("{last}; the cloud does not answer: {why}"))
            }
            (_, Some(error)) => Symptom::SyncErrors.advice(Urgency::Advise, format!("{last}: {error}")),
            (_, None) => look(Symptom::SyncErrors.advice(Urgency::Advise, format!("{last}, and no error is known"))),
        });
    }
    if !status.unverified.is_empty() {
        let because = format!("{} may differ from the cloud", status.unverified.join(", "));
        let mut advice = Symptom::DataCorruption.advice(Urgency::Watch, because);
        (advice.level, advice.budget_s, advice.safer) = (None, None, None);
        advice.action = "compare both sides; only then decide about level 4".to_owned();
        advice.command = "lifeboat sync check".to_owned();
        all.push(advice);
    }
    if !status.attached {
        let mut advice = Symptom::SyncErrors.advice(Urgency::Urge, "the file has no triggers: changes are not noted");
        (advice.level, advice.budget_s) = (None, None);
        advice.action = "note changes again, and copy what differs".to_owned();
        advice.command = "lifeboat sync attach".to_owned();
        all.push(advice);
    }
}

/// Less than a level: somebody should look first.
fn look(advice: Advice) -> Advice {
    Advice {
        level: None,
        budget_s: None,
        risk: Risk::None,
        action: "look why".to_owned(),
        command: "lifeboat sync status".to_owned(),
        safer: None,
        ..advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ResourceName,
        sync::{BreakerState, Mode, QueueStatus},
    };

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}:00Z").parse().unwrap()
    }

    fn status(waiting: u64) -> SyncStatus {
        SyncStatus {
            link: ResourceName::new("cloud").unwrap(),
            enabled: true,
            reason: "enabled".into(),
            paused_since: None,
            mode: Mode::Hybrid,
            attached: true,
            queue: QueueStatus { queue_size: waiting, tier: Tier::of(waiting), ..QueueStatus::default() },
            last_sync: Some(at("12:00")),
            last_error: None,
            breaker: BreakerState::Closed,
            held_deletes: Default::default(),
            unverified: vec![],
            resync: None,
        }
    }

    fn told(status: SyncStatus, reach: Option<Reach>) -> Vec<(Symptom, Urgency, Option<u8>)> {
        let measured = Measured { mirror: Some(Ok(status)), reach, app: Some(vec![]) };
        advise(&measured, at("12:05")).into_iter().map(|one| (one.symptom, one.urgency, one.level)).collect()
    }

    /// Each row of the document's table, by its own words and by those of somebody in a hurry.
    #[test]
    fn emrg_02_the_quick_reference_is_the_document_s() {
        let check = |words: &str, level: Option<u8>, budget_s: Option<u64>, risk: Risk| {
            let advice = Symptom::of(words).unwrap_or_else(|| panic!("{words}")).advice(Urgency::Advise, words);
            assert_eq!((advice.level, advice.budget_s, advice.risk), (level, budget_s, risk), "{words}");
            advice
        };
        check("Sync errors", Some(1), Some(60), Risk::None);
        check("403 from RLS", Some(1), Some(60), Risk::None);
        let grows = check("queue growing", Some(2), Some(120), Risk::Low);
        assert!(grows.safer.unwrap().contains("level 1"), "holding loses nothing");
        check("out of memory, the backlog is huge", Some(2), Some(120), Risk::Low);
        check("bad deployment", Some(3), Some(300), Risk::Low);
        check("the new release crashes", Some(3), Some(300), Risk::Low);
        check("Supabase down", None, None, Risk::None);
        check("data corruption", Some(4), Some(1_800), Risk::Low);
        check("complete failure", Some(5), Some(7_200), Risk::Medium);
        check("the disk is gone", Some(5), Some(7_200), Risk::Medium);
        assert_eq!(Symptom::of("coffee"), None);
    }

    /// DEC-13: 100, 1,000, 10,000 and five minutes; what equals a limit is not over it.
    #[test]
    fn emrg_02_05_and_dec_13_what_was_measured_gives_the_level() {
        use Symptom::{CloudDown, QueueGrowing, SyncErrors};
        use Urgency::{Advise, Urge, Watch};
        for (waiting, wanted) in [
            (100, None),
            (101, Some((QueueGrowing, Watch, None))),
            (1_000, Some((QueueGrowing, Watch, None))),
            (1_001, Some((QueueGrowing, Advise, Some(2)))),
            (10_000, Some((QueueGrowing, Advise, Some(2)))),
            (10_001, Some((QueueGrowing, Urge, Some(2)))),
        ] {
            assert_eq!(told(status(waiting), None), Vec::from_iter(wanted), "{waiting}");
        }
        let failed = |total_failed| {
            let mut status = status(0);
            status.queue.total_failed = total_failed;
            status
        };
        assert_eq!(told(failed(10), None), []);
        assert_eq!(told(failed(11), None), [(SyncErrors, Advise, Some(1))]);
        let late = || SyncStatus { last_sync: Some(at("11:59")), last_error: Some("no route".into()), ..status(0) };
        assert_eq!(told(late(), Some(Reach::Reachable)), [(SyncErrors, Advise, Some(1))]);
        assert_eq!(told(late(), Some(Reach::Down { why: "no route".into() })), [(CloudDown, Watch, None)]);
        // What is held on purpose is late on purpose; what grows meanwhile is told all the same.
        assert_eq!(told(SyncStatus { enabled: false, ..late() }, None), []);
        let held = SyncStatus { enabled: false, queue: status(10_001).queue, ..late() };
        assert_eq!(told(held, None), [(QueueGrowing, Urge, Some(2))]);
        // What is most urgent comes first.
        let both = SyncStatus { queue: status(10_001).queue, ..late() };
        assert_eq!(told(both, None)[0], (QueueGrowing, Urge, Some(2)));
        let measured = Measured {
            mirror: Some(Err("it is no database".into())),
            reach: None,
            app: Some(vec!["/api/health answers with 500".into()]),
        };
        let all = advise(&measured, at("12:00"));
        assert_eq!(all.iter().map(|one| one.level).collect::<Vec<_>>(), [Some(5), Some(3)]);
    }
}
