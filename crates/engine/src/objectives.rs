//! What was promised beside what was measured: how old the data may be that a restore gives back, and how long restores,
//! rollbacks and emergency levels may take. Measured are operations as their journals tell them, and rehearsals.

use std::collections::BTreeMap;

use lifeboat_model::{
    Failure, FailureKind, Incident, Operation, OperationId, OperationState, Prediction, Profile, Proof, Request,
    ResourceName, Timestamp, Tri, advice,
    release::is_rehearsal,
    sync::SyncAsk,
    time::{Duration, show_age, show_duration, since},
};
use serde::Serialize;

use crate::{Engine, look::ResourceStatus};

/// Runs that a row remembers, the newest ones.
const RUNS_SHOWN: usize = 20;

/// From this share of the allowed age on, in percent, it is said that a limit comes near.
const NEAR_PERCENT: u128 = 80;

/// Something that was done once and took a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The operation.
    pub operation: OperationId,
    /// When it was begun.
    pub at: Timestamp,
    /// How long it took, in milliseconds, from the moment somebody began it.
    pub took_ms: u64,
    /// How long it was from when the incident that was open then began, in milliseconds, to the operation's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_incident_ms: Option<u64>,
    /// Nothing that is live was changed by it: a proof, a rehearsal.
    pub rehearsed: bool,
}

/// One promise and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Objective {
    /// Its key: `rpo.db`, `restore.db`, `rollback.full`, `level.3`, `provider.db`, `response`.
    pub key: String,
    /// What it is about, for people.
    pub title: String,
    /// What was promised, in milliseconds; nothing where nobody promised.
    pub target_ms: Option<u64>,
    /// What is still borne, in milliseconds, where that is more than the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<u64>,
    /// How it stands this moment, in milliseconds: how much would be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
    /// How long it will probably take; nothing where that cannot be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Prediction>,
    /// The newest runs, newest first.
    pub runs: Vec<Run>,
    /// The middle one of them, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_ms: Option<u64>,
    /// The longest of them, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_ms: Option<u64>,
    /// Whether the promise is kept. Unknown: never measured, or about to be broken.
    pub outcome: Tri,
    /// Whether it counts: what a provider takes is measured and not rated.
    pub rated: bool,
    /// Why it stands so.
    pub why: String,
}

impl Objective {
    fn new(key: String, title: String, target_ms: Option<u64>, mut runs: Vec<Run>) -> Objective {
        runs.sort_by_key(|run| std::cmp::Reverse(run.at));
        runs.truncate(RUNS_SHOWN);
        let mut took: Vec<u64> = runs.iter().map(|run| run.took_ms).collect();
        took.sort_unstable();
        Objective {
            key,
            title,
            target_ms,
            max_ms: None,
            now_ms: None,
            expected: None,
            median_ms: took.get(took.len().saturating_sub(1) / 2).copied(),
            worst_ms: took.last().copied(),
            runs,
            outcome: Tri::Unknown,
            rated: true,
            why: String::new(),
        }
    }

    /// Judged by its newest run.
    fn judged(mut self, how_to_measure: &str) -> Objective {
        (self.outcome, self.why) = match (self.runs.first(), self.target_ms) {
            (None, _) => (Tri::Unknown, format!("never measured: {how_to_measure}")),
            (Some(_), None) => (Tri::Unknown, "nobody said how long it may take".to_owned()),
            (Some(run), Some(target)) if run.took_ms <= target => (Tri::Pass, "the newest run kept it".to_owned()),
            (Some(run), Some(target)) => {
                let over = show_duration(Duration::from_millis(run.took_ms - target));
                match self.max_ms.is_some_and(|max| run.took_ms <= max) {
                    true => (Tri::Unknown, format!("the newest run was {over} over the target, within what is borne")),
                    false => (Tri::Fail, format!("the newest run was {over} over it")),
                }
            }
        };
        self
    }
}

impl Engine {
    /// All promises of this app and environment.
    ///
    /// # Errors
    /// When what was done cannot be read.
    pub fn objectives(&self) -> Result<Vec<Objective>, Failure> {
        let now = self.io.clock.now();
        let measured = Measured::gather(self)?;
        let mut rows = Vec::new();
        let looked = self.look().status()?;
        for status in &looked.resources {
            let mut row = self.recovery_point(status, now);
            if let Some(trouble) = &looked.vault_trouble {
                // Whether there is one cannot be told; that is no reason to say that there is none.
                (row.outcome, row.why) = (Tri::Unknown, format!("the vault cannot be read: {trouble}"));
            }
            rows.push(row);
            rows.push(self.restoring(status, &measured));
        }
        for (resource, runs) in &measured.by_provider {
            let title = format!("restore of {resource} by the provider");
            let mut row = Objective::new(format!("provider.{resource}"), title, None, runs.clone());
            row.rated = false;
            row.why = "depends on the provider: measured, not rated".to_owned();
            rows.push(row);
        }
        if !self.setup().targets.is_empty() {
            rows.extend(
                [Profile::EnvOnly, Profile::AppOnly, Profile::AppAndDown, Profile::Full]
                    .map(|profile| measured.rollback(profile)),
            );
        }
        if !self.setup().links.is_empty() {
            rows.extend((1..=5).map(|level| measured.level(level)));
        }
        if let Some(response) = self.setup().response {
            let title = "from the beginning of an incident to the first that is done about it".to_owned();
            let target = Some(response.as_millis() as u64);
            rows.push(
                Objective::new("response".to_owned(), title, target, measured.responses)
                    .judged("lifeboat incident open"),
            );
        }
        Ok(rows)
    }

    /// How much would be lost if everything were lost now.
    fn recovery_point(&self, status: &ResourceStatus, now: Timestamp) -> Objective {
        let rpo = self.setup().rpo;
        let title = format!("age of the newest good backup of {}", status.name);
        let target = rpo.map(|rpo| rpo.as_millis() as u64);
        let mut row = Objective::new(format!("rpo.{}", status.name), title, target, Vec::new());
        let age = status.newest.as_ref().map(|backup| since(backup.recovery_point, now));
        row.now_ms = age.map(|age| age.as_millis() as u64);
        (row.outcome, row.why) = old_enough(age, rpo);
        row
    }

    /// How long until the data is back.
    fn restoring(&self, status: &ResourceStatus, measured: &Measured) -> Objective {
        let runs = measured.restores.get(&status.name).cloned().unwrap_or_default();
        let target = self.setup().rto.map(|rto| rto.as_millis() as u64);
        let title = format!("restore of {}", status.name);
        let mut row = Objective::new(format!("restore.{}", status.name), title, target, runs).judged("lifeboat prove");
        row.expected = status.restore;
        // What took short when there was little may take long now.
        if let (Some(said), Some(target), Tri::Pass) =
            (row.expected.filter(|said| said.samples > 0), target, row.outcome)
            && said.p50_ms > target
        {
            row.outcome = Tri::Fail;
            row.why = "with what there is now it will probably take longer".to_owned();
        }
        row
    }
}

/// What was done, sorted by what it was.
struct Measured {
    restores: BTreeMap<String, Vec<Run>>,
    rollbacks: Vec<(Profile, Run)>,
    levels: Vec<(u8, Run)>,
    by_provider: BTreeMap<ResourceName, Vec<Run>>,
    responses: Vec<Run>,
}

impl Measured {
    fn gather(engine: &Engine) -> Result<Measured, Failure> {
        let (mut restores, mut rollbacks, mut levels) = (BTreeMap::<String, Vec<Run>>::new(), Vec::new(), Vec::new());
        let scope = &engine.setup().scope;
        let incidents = engine.incidents()?;
        for row in engine.look().operations(usize::MAX)? {
            let is_ours = row.scope.split('/').next() == Some(scope.app.as_str());
            let counts = ["restore", "rollback", "level", "sync"].contains(&row.kind.as_str()) && row.state == "done";
            if !is_ours || !counts {
                continue;
            }
            let operation = match engine.look().operation(&row.id) {
                // `journal verify` tells of it; it hides no other.
                Err(failure) if failure.kind == FailureKind::Damaged => continue,
                other => other?,
            };
            let here = row.scope == scope.to_string();
            let run = run_of(&operation, &incidents);
            match &operation.plan.request {
                Request::Restore { resource, into: None, .. } if here => {
                    restores.entry(resource.to_string()).or_default().push(run);
                }
                // A rollback is rehearsed elsewhere.
                Request::Version { .. } if here || is_rehearsal(&operation.plan) => {
                    rollbacks.extend(Profile::of(&operation.plan).map(|profile| (profile, run)));
                }
                request if here => levels.extend(level_of(request).map(|level| (level, run))),
                _elsewhere => {}
            }
        }
        for proof in engine.catalog()?.proofs(None).map_err(|error| engine.failure(&error))? {
            if proof.outcome == Tri::Pass && engine.setup().resource(&proof.resource).is_ok() {
                restores.entry(proof.resource.to_string()).or_default().push(rehearsed(&proof));
            }
        }
        let mut by_provider = BTreeMap::<ResourceName, Vec<Run>>::new();
        for asked in engine.provider_restores()? {
            let Some(outcome) = asked.outcome.filter(|outcome| outcome.restored) else { continue };
            let took_ms = since(asked.asked_at, outcome.at).as_millis() as u64;
            let run = Run {
                operation: asked.id,
                at: asked.asked_at,
                took_ms,
                from_incident_ms: since_incident(&incidents, asked.asked_at, outcome.at),
                rehearsed: false,
            };
            by_provider.entry(asked.resource).or_default().push(run);
        }
        let responses = responses(engine, &incidents)?;
        Ok(Measured { restores, rollbacks, levels, by_provider, responses })
    }

    fn rollback(&self, profile: Profile) -> Objective {
        let runs = self.rollbacks.iter().filter(|(of, _)| *of == profile).map(|(_, run)| run.clone()).collect();
        let (target, max) = profile.limits_s();
        let title = format!("rollback, {}", profile.word());
        let mut row = Objective::new(format!("rollback.{}", profile.word()), title, Some(target * 1_000), runs);
        row.max_ms = (max > target).then_some(max * 1_000);
        row.judged("lifeboat rehearse rollback")
    }

    fn level(&self, level: u8) -> Objective {
        let runs = self.levels.iter().filter(|(of, _)| *of == level).map(|(_, run)| run.clone()).collect();
        let title = format!("emergency level {level}");
        Objective::new(format!("level.{level}"), title, Some(advice::budget_ms(level)), runs)
            .judged("lifeboat rehearse sync, or an emergency")
    }
}

/// Kinds of operations by which somebody does something about an incident: brings back, takes back, closes, decides.
const RESPONSES: [&str; 14] = [
    "restore",
    "rollback",
    "revert",
    "undo",
    "deploy",
    "env-restore",
    "salvage",
    "level",
    "sync",
    "fence",
    "maintenance",
    "decide",
    "provider",
    "compromise",
];

/// How long it took from the beginning of each incident until somebody began to do something about it. One that nobody has done anything
/// about is none yet, while it is open.
fn responses(engine: &Engine, incidents: &[Incident]) -> Result<Vec<Run>, Failure> {
    let scope = engine.setup().scope.to_string();
    let rows = engine.look().operations(usize::MAX)?;
    let first = |incident: &Incident| {
        let over = |at: Timestamp| incident.closed.as_ref().is_some_and(|closed| at > closed.at);
        let meant = rows.iter().filter(|row| row.scope == scope && RESPONSES.contains(&row.kind.as_str()));
        let row = meant
            .filter(|row| row.started_at >= incident.since && !over(row.started_at))
            .min_by_key(|row| row.started_at)?;
        let took_ms = since(incident.since, row.started_at).as_millis() as u64;
        let (operation, at) = (row.id.clone(), row.started_at);
        Some(Run { operation, at, took_ms, from_incident_ms: Some(took_ms), rehearsed: false })
    };
    Ok(incidents.iter().filter_map(first).collect())
}

/// The emergency level that this is. Levels 2 and 4 are operations of the mirror.
fn level_of(request: &Request) -> Option<u8> {
    match request {
        Request::Level { about, .. } => about.level(),
        Request::Sync { about: SyncAsk::Disable { .. }, .. } => Some(1),
        Request::Sync { about: SyncAsk::Clear { .. }, .. } => Some(2),
        Request::Sync { about: SyncAsk::Resync { .. }, .. } => Some(4),
        _other => None,
    }
}

fn run_of(operation: &Operation, incidents: &[Incident]) -> Run {
    debug_assert!(matches!(operation.state, OperationState::Done));
    Run {
        operation: operation.id.clone(),
        at: operation.started_at,
        took_ms: operation.elapsed_ms,
        from_incident_ms: since_incident(incidents, operation.started_at, operation.last_at),
        rehearsed: is_rehearsal(&operation.plan),
    }
}

/// A proof brings everything back and looks at it, as a restore does before it swaps.
fn rehearsed(proof: &Proof) -> Run {
    Run {
        operation: proof.operation.clone(),
        at: proof.at,
        took_ms: proof.restore_ms + proof.check_ms,
        from_incident_ms: None,
        rehearsed: true,
    }
}

/// From when the incident began that was open at `begun`, the latest one, to `ended`.
fn since_incident(incidents: &[Incident], begun: Timestamp, ended: Timestamp) -> Option<u64> {
    let open = |one: &&Incident| one.since <= begun && one.closed.as_ref().is_none_or(|closed| closed.at >= begun);
    let incident = incidents.iter().filter(open).max_by_key(|one| one.since)?;
    Some(since(incident.since, ended).as_millis() as u64)
}

/// Whether the newest backup is young enough.
fn old_enough(age: Option<Duration>, rpo: Option<Duration>) -> (Tri, String) {
    match (age, rpo) {
        (None, _) => (Tri::Fail, "there is no good backup: lifeboat backup".to_owned()),
        (Some(_), None) => (Tri::Unknown, "nobody said how old it may be: rpo in [objectives]".to_owned()),
        (Some(age), Some(rpo)) if age > rpo => {
            (Tri::Fail, format!("it is {} older than it may be: lifeboat backup", show_age(age - rpo)))
        }
        (Some(age), Some(rpo)) if age.as_millis() * 100 >= rpo.as_millis() * NEAR_PERCENT => {
            (Tri::Unknown, format!("it becomes too old in {}", show_age(rpo - age)))
        }
        (Some(_), Some(_)) => (Tri::Pass, "young enough".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obj_03_a_limit_is_told_before_it_is_reached() {
        let judged = |age_s: Option<u64>, rpo_s: Option<u64>| {
            old_enough(age_s.map(Duration::from_secs), rpo_s.map(Duration::from_secs))
        };
        let outcome = |age_s, rpo_s| judged(Some(age_s), Some(rpo_s)).0;
        assert_eq!((outcome(0, 100), outcome(79, 100)), (Tri::Pass, Tri::Pass));
        assert_eq!((outcome(80, 100), outcome(100, 100)), (Tri::Unknown, Tri::Unknown));
        assert_eq!(judged(Some(86_400), Some(90_000)), (Tri::Unknown, "it becomes too old in 60 min".to_owned()));
        assert_eq!(
            judged(Some(90_000), Some(86_400)),
            (Tri::Fail, "it is 60 min older than it may be: lifeboat backup".to_owned())
        );
        assert_eq!((judged(None, Some(1)).0, judged(Some(1), None).0), (Tri::Fail, Tri::Unknown));
    }

    #[test]
    fn obj_02_an_incident_counts_from_its_beginning_while_it_is_open() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let said = |seconds| lifeboat_model::Said { at: at(seconds), note: "over".into() };
        let incident = |since, closed: Option<i64>| Incident {
            id: OperationId::from_random(1),
            title: "down".into(),
            since: at(since),
            provider_sla: None,
            closed: closed.map(said),
            reviewed: None,
        };
        let all = [incident(100, Some(200)), incident(150, None)];
        assert_eq!(since_incident(&all, at(120), at(130)), Some(30_000));
        assert_eq!(since_incident(&all, at(160), at(260)), Some(110_000), "the latest one");
        assert_eq!(since_incident(&all[..1], at(201), at(260)), None);
        assert_eq!(since_incident(&all, at(99), at(260)), None);
    }
}
