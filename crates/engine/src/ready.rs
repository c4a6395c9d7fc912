//! What has to stand before an app goes to production: the ten points of the document's list. What can be measured is
//! measured, and nobody's word stands against it; the rest a person attests, and that counts for a quarter of a year.

use lifeboat_model::{
    Backup, Driver, Failure, LevelAsk, Operation, OperationState, Request, ResourceKind, ResourceName, Target,
    Timestamp, Tri, VersionAsk,
    escalation::is_placeholder,
    sync::SyncAsk,
    time::{Duration, show_age, since},
};
use serde::Serialize;

use crate::{
    Engine, Setup,
    rehearsals::{self, PRODUCTION},
    releases::is_by_file,
};

/// How long a person's word counts, and how long ago a test may be: 92 days, a quarter of a year.
pub const COUNTS_FOR: Duration = Duration::from_secs(92 * 86_400);
/// The oldest a daily backup may be: a day, and what the backup itself may take.
const DAILY: Duration = Duration::from_secs(26 * 3_600);
/// The oldest a weekly copy of the cloud may be.
const WEEKLY: Duration = Duration::from_secs(7 * 86_400);
/// At the end of a week the next snapshot is only just being taken.
const BEING_TAKEN: Duration = Duration::from_secs(3_600);

/// A point of the list: its key, what it says, and how it becomes true.
struct Point {
    key: &'static str,
    title: &'static str,
    how: How,
}

/// How a point becomes true.
#[derive(Clone, Copy)]
enum How {
    /// It is measured.
    Measured(fn(&Seen<'_>) -> (Tri, String)),
    /// It was done here within the quarter, or a person attests that it was done elsewhere.
    Done(fn(&Operation) -> bool, &'static str),
    /// A person attests it.
    Attested,
}

const POINTS: [Point; 10] = [
    Point {
        key: "backups",
        title: "backups automated: the database daily, the cloud weekly",
        how: How::Measured(backups),
    },
    Point { key: "alerts", title: "monitoring alerts configured", how: How::Attested },
    Point {
        key: "procedures",
        title: "recovery procedures tested in staging",
        how: How::Done(is_recovery, "lifeboat prove, or lifeboat level 5 in staging"),
    },
    Point { key: "training", title: "team trained on level 1 and 2", how: How::Attested },
    Point { key: "rotation", title: "on-call rotation established", how: How::Measured(rotation) },
    Point { key: "contacts", title: "escalation contacts documented", how: How::Measured(contacts) },
    Point {
        key: "rollback",
        title: "rollback tested successfully",
        how: How::Done(is_rollback, "lifeboat rehearse rollback, or lifeboat level 3 --stable, where it may be tried"),
    },
    Point { key: "resync", title: "re-sync tested successfully", how: How::Done(is_resync, "lifeboat sync resync") },
    Point { key: "billing", title: "billing alerts of the cloud set up", how: How::Attested },
    Point { key: "review", title: "disaster recovery plan reviewed", how: How::Attested },
];

/// FNC-11: what the document leaves open as "[Platform-specific command]" has to be said where something runs, and where real users are.
const PLATFORM: Point = Point {
    key: "platform",
    title: "commands of the platform: how what runs is stopped and started",
    how: How::Measured(platform),
};

/// A point as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadyPoint {
    /// Its key, for attesting.
    pub key: &'static str,
    /// What it says.
    pub title: &'static str,
    /// Whether it stands.
    pub outcome: Tri,
    /// By what, or why not.
    pub detail: String,
    /// Whether a person's word can make it stand.
    pub can_be_attested: bool,
}

/// What the measured points look at.
struct Seen<'a> {
    engine: &'a Engine,
    backups: Result<Vec<Backup>, Failure>,
    now: Timestamp,
}

impl Engine {
    /// The ten points as they stand, and the commands of the platform where something runs.
    ///
    /// # Errors
    /// When what was done before cannot be read.
    pub fn ready(&self) -> Result<Vec<ReadyPoint>, Failure> {
        let seen = Seen { engine: self, backups: self.backups(), now: self.io().clock.now() };
        let setup = self.setup();
        let runs = !setup.targets.is_empty() || setup.scope.environment == PRODUCTION;
        POINTS.iter().chain(runs.then_some(&PLATFORM)).map(|point| self.stands(point, &seen)).collect()
    }

    /// Which snapshots of the cloud are missing, or older than a week: databases on servers beside a mirrored file. Nothing when the
    /// settings want none.
    ///
    /// # Errors
    /// The backups there are cannot be read.
    pub fn late_snapshots(&self) -> Result<Vec<String>, Failure> {
        let setup = self.setup();
        let of_cloud = setup.resources.iter().filter(|one| matches!(one.kind, ResourceKind::Postgres { .. }));
        let of_cloud: Vec<_> = of_cloud.map(|one| &one.name).filter(|_| !setup.links.is_empty()).collect();
        if of_cloud.is_empty() {
            return Ok(Vec::new());
        }
        let (all, now) = (self.backups()?, self.io().clock.now());
        let late = of_cloud.into_iter().filter_map(|name| match newest(&all, setup, name).map(|at| since(at, now)) {
            None => Some(format!("There is no snapshot of the cloud, {name}; lifeboat backup {name}")),
            Some(age) if age > WEEKLY + BEING_TAKEN => {
                let age = show_age(age);
                Some(format!(
                    "The newest snapshot of the cloud, {name}, is {age} old (threshold: 7 days); lifeboat backup {name}"
                ))
            }
            Some(_) => None,
        });
        Ok(late.collect())
    }

    /// What is attested under a key, as an attestation calls it.
    ///
    /// # Errors
    /// No point has that key, or it is measured.
    pub fn ready_about(&self, key: &str) -> Result<String, Failure> {
        let usage = |message: String| Failure::new(lifeboat_model::FailureKind::Usage, message).hint("lifeboat ready");
        match POINTS.iter().chain([&PLATFORM]).find(|point| point.key == key).map(|point| point.how) {
            None => Err(usage(format!("no point of the list is called {key}"))),
            Some(How::Measured(_)) => Err(usage(format!("{key} is measured; nobody's word makes it stand"))),
            Some(How::Done(..) | How::Attested) => Ok(format!("ready.{key}")),
        }
    }

    fn stands(&self, point: &Point, seen: &Seen<'_>) -> Result<ReadyPoint, Failure> {
        let (outcome, detail) = match point.how {
            How::Done(..) if point.key == "rollback" && !self.setup().migrations.is_empty() => {
                match self.without_way_back() {
                    Ok(missing) if missing.is_empty() => self.done_or_said(point, seen.now)?,
                    Ok(missing) => (
                        Tri::Fail,
                        format!("no DOWN script leads back from {}: write it beside it", missing.join(", ")),
                    ),
                    Err(failure) => (Tri::Unknown, failure.to_string()),
                }
            }
            How::Measured(look) => look(seen),
            How::Attested => self.attested(point, seen.now)?.unwrap_or_else(|| (Tri::Fail, never(point, None))),
            How::Done(..) => self.done_or_said(point, seen.now)?,
        };
        let can_be_attested = !matches!(point.how, How::Measured(_));
        Ok(ReadyPoint { key: point.key, title: point.title, outcome, detail, can_be_attested })
    }

    fn done_or_said(&self, point: &Point, now: Timestamp) -> Result<(Tri, String), Failure> {
        let How::Done(is_it, what) = point.how else { return Ok((Tri::Unknown, never(point, None))) };
        Ok(match self.done(is_it, now)? {
            Some(when) => (Tri::Pass, when),
            None => self.attested(point, now)?.unwrap_or_else(|| (Tri::Fail, never(point, Some(what)))),
        })
    }

    /// MIG-03: migrations that wait to be applied and have no way back. It has to be there before, not to be written at night.
    fn without_way_back(&self) -> Result<Vec<String>, Failure> {
        let mut missing = Vec::new();
        for name in self.setup().migrations.keys() {
            let applied = self.applied(name)?;
            let scripts = self.scripts(name, is_by_file(&applied))?;
            let waits = |version: &String| !applied.versions.contains(version);
            let found = scripts.into_iter().filter(|one| one.up.is_some() && one.down.is_none() && waits(&one.version));
            missing.extend(found.map(|one| one.name));
        }
        Ok(missing)
    }

    /// What a person's word says of a point; nothing when nobody has ever given it.
    fn attested(&self, point: &Point, now: Timestamp) -> Result<Option<(Tri, String)>, Failure> {
        let at = self.attested_at(&format!("ready.{}", point.key))?;
        Ok(at.map(|at| {
            let age = since(at, now);
            match age <= COUNTS_FOR {
                true => (Tri::Pass, format!("attested {} ago", show_age(age))),
                false => (Tri::Fail, format!("attested {} ago, which is more than a quarter", show_age(age))),
            }
        }))
    }

    /// The newest operation of that kind that came to its end within the quarter, in words.
    fn done(&self, is_it: fn(&Operation) -> bool, now: Timestamp) -> Result<Option<String>, Failure> {
        let app = &self.setup().scope.app;
        for row in self.look().operations(usize::MAX)? {
            let age = since(row.started_at, now);
            // In whichever environment of the app it was tried.
            let is_ours = row.scope.split('/').next() == Some(app.as_str());
            if age > COUNTS_FOR || !is_ours || !row.closed {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            if operation.state == OperationState::Done && is_it(&operation) {
                return Ok(Some(format!("{} {} ago, in {}", row.id, show_age(age), row.scope)));
            }
        }
        Ok(None)
    }
}

fn never(point: &Point, what: Option<&str>) -> String {
    let attest = format!("lifeboat ready attest {} --note 'WHO SAW IT'", point.key);
    what.map_or_else(
        || format!("nobody has attested it: {attest}"),
        |what| format!("not in this quarter: {what}; {attest}"),
    )
}

fn is_recovery(operation: &Operation) -> bool {
    match &operation.plan.request {
        // A proof comes to its end also when what it proves is that the backup is bad.
        Request::Prove { .. } => {
            let proofs = Engine::proofs_of(operation);
            !proofs.is_empty() && proofs.iter().all(|proof| proof.outcome == Tri::Pass)
        }
        request => matches!(request, Request::Level { about: LevelAsk::Recover { .. }, .. }),
    }
}

fn is_rollback(operation: &Operation) -> bool {
    // One that was rehearsed has to have passed: a way back that takes longer than it may is none.
    if let Some(rehearsal) = rehearsals::of(operation) {
        return rehearsal.outcome == Tri::Pass;
    }
    matches!(
        &operation.plan.request,
        Request::Level { about: LevelAsk::RollBack { .. } | LevelAsk::Stable { .. }, .. }
            | Request::Version { about: VersionAsk::RollBack { .. } }
    )
}

fn is_resync(operation: &Operation) -> bool {
    matches!(&operation.plan.request, Request::Sync { about: SyncAsk::Resync { .. } | SyncAsk::StartOver { .. }, .. })
}

fn contacts(seen: &Seen<'_>) -> (Tri, String) {
    let contacts = &seen.engine.setup().contacts;
    let missing = lifeboat_model::escalation::missing(contacts);
    if !missing.is_empty() {
        return (Tri::Fail, format!("not filled in under [escalation] of lifeboat.toml: {}", missing.join(", ")));
    }
    match (&contacts.team, &contacts.vendor) {
        (Some(_), Some(_)) => (Tri::Pass, "the team and the vendor are named".to_owned()),
        _ => (Tri::Fail, "write team and vendor into [escalation] of lifeboat.toml".to_owned()),
    }
}

fn platform(seen: &Seen<'_>) -> (Tri, String) {
    let setup = seen.engine.setup();
    let environment = &setup.scope.environment;
    if setup.targets.is_empty() {
        let says =
            format!("nobody has said what runs: write [environments.{environment}.targets.NAME] into lifeboat.toml");
        return (Tri::Fail, says);
    }
    // A platform that restarts by itself what it is given has nothing to be stopped.
    let serves_itself = |target: &&Target| {
        matches!(target.driver, Some(Driver::Fly { .. } | Driver::Vercel { .. } | Driver::SupabaseFunctions { .. }))
    };
    let mut missing = Vec::new();
    for target in setup.targets.iter().filter(|target| !serves_itself(target)) {
        let commands = [("stop", target.stop_call()), ("start", target.start_call())];
        missing.extend(
            commands.iter().filter(|(_, call)| call.is_none()).map(|(word, _)| format!("{word} of {}", target.name)),
        );
    }
    match missing.is_empty() {
        true => (Tri::Pass, "every target says how it is stopped and started".to_owned()),
        false => (
            Tri::Fail,
            format!(
                "missing: {}; write it into its table under [environments.{environment}.targets]",
                missing.join(", ")
            ),
        ),
    }
}

fn rotation(seen: &Seen<'_>) -> (Tri, String) {
    match &seen.engine.setup().contacts.on_call {
        Some(who) if is_placeholder(who) => (Tri::Fail, format!("on_call under [escalation] is not filled in: {who}")),
        Some(who) => (Tri::Pass, format!("on call: {who}")),
        None => (Tri::Fail, "write on_call into [escalation] of lifeboat.toml".to_owned()),
    }
}

/// Up to when the newest backup of a resource is complete.
fn newest(all: &[Backup], setup: &Setup, name: &ResourceName) -> Option<Timestamp> {
    let of_it = all.iter().filter(|backup| backup.scope == setup.scope && backup.resources.contains(name));
    of_it.map(|backup| backup.recovery_point).max()
}

/// Something does it by itself, it was done within a day, and where there is a cloud, that is backed up within a week, too.
fn backups(seen: &Seen<'_>) -> (Tri, String) {
    let setup = seen.engine.setup();
    if !setup.schedule.jobs.iter().any(|job| job.name.starts_with("backup")) {
        return (
            Tri::Fail,
            "write backup = \"0 2 * * *\" into [schedule] of lifeboat.toml, and let lifeboat serve run".to_owned(),
        );
    }
    let all = match &seen.backups {
        Ok(all) => all,
        Err(failure) => return (Tri::Unknown, failure.to_string()),
    };
    let mut late = Vec::new();
    let mut has_cloud = setup.links.is_empty();
    for resource in &setup.resources {
        let is_server = matches!(resource.kind, ResourceKind::Postgres { .. });
        has_cloud |= is_server;
        let limit = if is_server { WEEKLY } else { DAILY };
        match newest(all, setup, &resource.name).map(|at| since(at, seen.now)) {
            None => late.push(format!("{} has no backup", resource.name)),
            Some(age) if age > limit => late.push(format!("the newest of {} is {} old", resource.name, show_age(age))),
            Some(_) => {}
        }
    }
    if !has_cloud {
        late.push("the cloud is not backed up: make its database a resource of kind postgres".to_owned());
    }
    match late.is_empty() {
        true => (Tri::Pass, "each resource has one that is young enough".to_owned()),
        false => (Tri::Fail, late.join("; ")),
    }
}
