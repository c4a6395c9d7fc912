//! Planning what goes on record about releases: that what runs is sealed, and what somebody says of one.

use std::collections::BTreeMap;

use lifeboat_model::{
    Action, Artifact, Backup, Baseline, Content, Driver, Failure, FailureKind, KnownRelease, Lease, OnFailure, Plan,
    Release, ReleaseId, ReleaseRecord, ReleaseState, Request, ResourceName, SchemaState, Step, StepClass, Target,
    TargetAction, Undo, VersionAsk, baseline, release,
};

use super::{
    level::{self, Acts},
    steps::{self, phase, step},
};
use crate::{Engine, facts::Common, targets};

/// A target and what it runs.
pub(super) struct Running {
    pub target: Target,
    pub version: String,
    pub served: Option<String>,
    /// Where that version is to be had when it is gone from here.
    pub origin: Option<String>,
    pub log: level::Log,
}

/// What is known when what runs is sealed.
pub(crate) struct Known {
    common: Common,
    running: Vec<Running>,
    backup: Option<Backup>,
    env: BTreeMap<ResourceName, lifeboat_model::EnvFacts>,
    databases: BTreeMap<ResourceName, SchemaState>,
    baseline: Baseline,
}

/// What each target runs of which somebody has said how versions of it are put in use.
pub(super) fn running(engine: &Engine) -> Result<Vec<Running>, Failure> {
    let delivered = engine.setup().targets.iter().filter(|target| target.driver.is_some());
    delivered
        .map(|target| {
            let version = targets::running(engine.io(), target, &lifeboat_io::Stop::default())?;
            let served = target.tells.as_ref().and_then(|tells| targets::told(engine.io(), target, tells).ok());
            let (served, log) = (served.map(|(version, _instance)| version), level::Log::of(target));
            let origin = targets::origin(engine.io(), target, &version);
            Ok(Running { target: target.clone(), version, served, origin, log })
        })
        .collect()
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Version { about: VersionAsk::Seal { backup, .. } } = request else {
        return Err(steps::wrong_planner());
    };
    let common = engine.common()?;
    let running = running(engine)?;
    let mut env = BTreeMap::new();
    let backup = match backup {
        None => None,
        Some(id) => {
            let known = engine.backups()?.into_iter().find(|one| one.id == *id).ok_or_else(|| {
                Failure::new(FailureKind::Refused, format!("there is no backup {id}")).hint("lifeboat backups list")
            })?;
            for part in engine.manifest(id)?.resources {
                if let Content::Env(facts) = part.content {
                    env.insert(part.name, facts);
                }
            }
            Some(known)
        }
    };
    let names = engine.setup().migrations.keys();
    let databases = names.map(|name| Ok((name.clone(), engine.schema_state(name)?))).collect::<Result<_, Failure>>()?;
    let matrix = &engine.setup().matrix;
    let baseline = baseline::fit(&matrix.rules, engine.measure_facts(&lifeboat_io::Stop::default()));
    Ok(Known { common, running, backup, env, databases, baseline })
}

/// Plans to seal what runs: it is looked at first, since what does not work is nothing to go back to.
///
/// # Errors
/// There is nothing to seal.
pub(crate) fn seal(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Version { about: VersionAsk::Seal { label, .. } } = request else {
        return Err(steps::wrong_planner());
    };
    let common = &known.common;
    if known.running.is_empty() && known.databases.is_empty() {
        let message = format!("nobody has said what runs the code of {}, nor where its migrations are", common.scope);
        return Err(Failure::new(FailureKind::Usage, message).hint(format!(
            "write driver = into [environments.{}.targets.web] of lifeboat.toml; there are {}",
            common.scope.environment,
            Driver::WORDS.join(", ")
        )));
    }
    let artifacts = known.running.iter().map(|one| Artifact {
        target: one.target.name.clone(),
        version: one.version.clone(),
        served: one.served.clone(),
        origin: one.origin.clone(),
    });
    let release = Release {
        schema: release::RELEASE_SCHEMA.to_owned(),
        id: ReleaseId::from_random(common.ids.seed),
        label: label.clone(),
        sealed_at: common.now,
        artifacts: artifacts.collect(),
        env: known.env.clone(),
        databases: known.databases.clone(),
        backup: known.backup.as_ref().map(|backup| backup.id.clone()),
        baseline: known.baseline.clone(),
    };
    let mut looks = Vec::new();
    for one in &known.running {
        let acts = Acts { target: &one.target };
        let runs = TargetAction::CheckRuns { version: one.version.clone() };
        let title = format!("{} runs {}", one.target.name, level::short(&one.version));
        let mut own = vec![acts.read("runs", &title, runs)];
        own.extend(acts.works(one.log, &one.target.probes));
        looks.extend(own.into_iter().map(|step| of(step, &one.target)));
    }
    // Unknown is not good: a target that nobody can ask is no witness.
    let good = !known.running.is_empty() && known.running.iter().all(|one| one.target.has_probes());
    let mut plan = steps::new_plan(common, request, format!("seal what runs in {}", common.scope), Lease::Environment);
    if !looks.is_empty() {
        plan.phases.push(phase(common, "look", vec![], looks));
    }
    plan.notes = notes(known, &release, good);
    let pins: Vec<Step> = known.running.iter().filter_map(pin).collect();
    if !pins.is_empty() {
        plan.phases.push(phase(common, "pin", vec![], pins));
    }
    let record = ReleaseRecord::Seal { release: Box::new(release), live: true, good };
    plan.phases.push(phase(
        common,
        "record",
        vec![],
        vec![recorded("seal", "put the release on record", record, Undo::Nothing)],
    ));
    Ok(plan)
}

/// Keeps what runs from being cleared away, where its platform lets anybody do so.
fn pin(one: &Running) -> Option<Step> {
    let calls = one.target.driver.as_ref()?.pin(one.target.name.as_str(), &one.version);
    let said = calls.first()?.join(" ");
    let action = TargetAction::Pin { version: one.version.clone() };
    let title = format!("keep that version from being cleared away: {said}");
    let step = Acts { target: &one.target }.step("pin", title, action, Undo::Nothing);
    Some(of(Step { on_failure: OnFailure::Note, ..step }, &one.target))
}

fn notes(known: &Known, release: &Release, good: bool) -> Vec<String> {
    let mut notes = vec![format!("The release is called {}.", release.shown())];
    match &known.backup {
        Some(backup) if backup.proven_at.is_some() => {
            notes.push(format!("Its data is in {}, which is proven.", backup.id))
        }
        Some(backup) => {
            notes.push(format!("Its data is in {}, which is not proven: lifeboat prove {}.", backup.id, backup.id))
        }
        None => notes.push("No backup belongs to it, so the database cannot come back with it.".to_owned()),
    }
    for (name, state) in &release.databases {
        let none: Vec<&str> =
            state.migrations.iter().filter(|one| one.down.is_none()).map(|one| one.version.as_str()).collect();
        if !none.is_empty() {
            notes.push(format!("These migrations of {name} have no DOWN script: {}.", none.join(", ")));
        }
    }
    if !good {
        notes.push(format!(
            "It does not count as good, since no probes could ask it: lifeboat releases mark {} good, when you stand for it.",
            release.id
        ));
    }
    notes
}

/// A step of one target among several.
pub(super) fn of(step: Step, target: &Target) -> Step {
    Step { id: format!("{}.{}", step.id, target.name).as_str().into(), ..step }
}

/// A step that puts something on record.
pub(super) fn recorded(id: &str, title: &str, record: ReleaseRecord, undo: Undo) -> Step {
    step(id, title, StepClass::Idempotent, Action::Release(record), undo)
}

/// Plans to put on record what somebody says of a release.
///
/// # Errors
/// There is no such release; nobody can make a candidate or a live one by saying so; a bad one needs a reason.
pub(crate) fn mark(common: &Common, all: &[KnownRelease], request: &Request) -> Result<Plan, Failure> {
    let Request::Version { about: VersionAsk::Mark { release, state, why } } = request else {
        return Err(steps::wrong_planner());
    };
    let known = release::choose(all, Some(release), &[])?;
    match state {
        ReleaseState::Candidate | ReleaseState::Live => {
            let message = format!("{} is made by what happens, not by saying so", state.word());
            return Err(Failure::new(FailureKind::Usage, message).hint("say good, bad or retired"));
        }
        ReleaseState::Bad | ReleaseState::Retired if why.trim().is_empty() => {
            let failure = Failure::new(FailureKind::Usage, "the reason is missing");
            return Err(failure.hint(format!(
                "lifeboat releases mark {} {} --reason WHY",
                known.release.id,
                state.word()
            )));
        }
        ReleaseState::Good | ReleaseState::Bad | ReleaseState::Retired => {}
    }
    let title = format!("mark {} as {}", known.release.shown(), state.word());
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    let record = ReleaseRecord::Mark { release: known.release.id.clone(), state: *state, why: why.clone() };
    plan.phases =
        vec![phase(common, "record", vec![], vec![recorded("mark", "put it on record", record, Undo::Nothing)])];
    if *state == ReleaseState::Bad && known.is_live {
        plan.notes.push("It is what runs: lifeboat rollback goes back to the last known good release.".to_owned());
    }
    Ok(plan)
}
