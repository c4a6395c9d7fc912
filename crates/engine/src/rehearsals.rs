//! Rehearsals of a rollback: the same plan, carried out where nothing is lost by it, each phase timed and held against what the
//! documents allow. The record is the operation's own journal; here it is read as the list of six points that they ask for.

use lifeboat_model::{
    Action, Failure, FailureKind, Operation, OperationId, OperationState, Profile, Request, StepState, TargetAction,
    Timestamp, Tri, VersionAsk,
    release::{DRILL, is_rehearsal},
    time::{Duration, show_age, show_duration, since},
};
use serde::Serialize;

use crate::{Engine, ready::COUNTS_FOR};

/// How long the whole may take: the documents' 15 minutes, whichever way it goes.
pub const LIMIT_MS: u64 = 900_000;

/// The environment that real users are in: nothing is rehearsed there.
pub(crate) const PRODUCTION: &str = "production";

/// A phase of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PhaseTook {
    /// Its name.
    pub phase: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How long it may take, in milliseconds, where somebody said so.
    pub budget_ms: Option<u64>,
}

/// A point of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RehearsalPoint {
    /// Its key, for attesting.
    pub key: &'static str,
    /// What it says.
    pub title: &'static str,
    /// Whether it stands. What only a person can say is not known until somebody does.
    pub outcome: Tri,
    /// By what, or why not.
    pub detail: String,
}

/// One rehearsal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rehearsal {
    /// Its operation.
    pub operation: OperationId,
    /// Where.
    pub scope: String,
    /// Who.
    pub by: String,
    /// When it was begun.
    pub at: Timestamp,
    /// Which way it went.
    pub profile: Profile,
    /// How long it took in all, in milliseconds.
    pub took_ms: u64,
    /// How long that may be, in milliseconds.
    pub limit_ms: u64,
    /// Each phase.
    pub phases: Vec<PhaseTook>,
    /// The points that are measured, and those that people attest.
    pub points: Vec<RehearsalPoint>,
    /// Whether what is measured stands, all of it.
    pub outcome: Tri,
}

/// What only people can say.
const ATTESTED: [(&str, &str); 2] =
    [("roles", "team members know their roles"), ("documents", "documentation accurate and complete")];

/// The rehearsal that an operation was, once it is over.
pub fn of(operation: &Operation) -> Option<Rehearsal> {
    let over = matches!(operation.state, OperationState::Done | OperationState::PutBack { .. });
    if !over || !is_rehearsal(&operation.plan) {
        return None;
    }
    let took_ms = operation.elapsed_ms;
    let mut states = operation.steps.iter();
    let phases = operation.plan.phases.iter().map(|phase| PhaseTook {
        phase: phase.name.clone(),
        took_ms: states.by_ref().take(phase.steps.len()).map(step_ms).sum(),
        budget_ms: phase.budget_ms,
    });
    let phases: Vec<PhaseTook> = phases.collect();
    let mut points = measured(operation, took_ms).to_vec();
    let outcome = Tri::worst(points.iter().map(|point| point.outcome));
    points.extend(ATTESTED.map(|(key, title)| RehearsalPoint {
        key,
        title,
        outcome: Tri::Unknown,
        detail: format!("lifeboat rehearse attest {} {key} --note 'WHO SAYS SO'", operation.id),
    }));
    Some(Rehearsal {
        operation: operation.id.clone(),
        scope: operation.plan.scope.to_string(),
        by: operation.by.clone(),
        at: operation.started_at,
        profile: Profile::of(&operation.plan)?,
        took_ms,
        limit_ms: LIMIT_MS,
        phases,
        points,
        outcome,
    })
}

/// What a step took that is done, in milliseconds.
pub(crate) fn step_ms(state: &StepState) -> u64 {
    match state {
        StepState::Done { took_ms, .. } => *took_ms,
        _not_done => 0,
    }
}

/// The four points that the journal answers.
fn measured(operation: &Operation, took_ms: u64) -> [RehearsalPoint; 4] {
    let done = operation.state == OperationState::Done;
    let failed = operation.steps.iter().filter(|state| matches!(state, StepState::Failed { .. })).count();
    let again = operation.attempts.iter().filter(|times| **times > 1).count();
    let looked = operation.plan.steps().zip(&operation.steps).any(|(step, state)| {
        let looks = matches!(&step.action, Action::Target { action, .. } if is_look(action));
        looks && matches!(state, StepState::Done { .. })
    });
    let point = |key, title, is: bool, detail| RehearsalPoint { key, title, outcome: Tri::from_bool(is), detail };
    let ended = || match done {
        true => "it came to its end".to_owned(),
        false => "it did not come to its end, and was put back".to_owned(),
    };
    let errors = match (failed, again) {
        (0, 0) => "no step failed, none was begun twice".to_owned(),
        (failed, again) => format!("{failed} steps failed, {again} were begun more than once"),
    };
    let shown = |ms: u64| show_duration(Duration::from_secs(ms.div_ceil(1_000)));
    let took = format!("{} of {}", shown(took_ms), shown(LIMIT_MS));
    // What nobody looked at is not known, and so has not passed.
    let (is_stable, stable) = match (done, looked) {
        (true, true) => (Tri::Pass, "what answers afterwards was looked at, as the plan says"),
        (true, false) => (Tri::Unknown, "nothing was looked at afterwards: write tells, probes or log into its target"),
        (false, _) => (Tri::Fail, "it did not come to its end"),
    };
    [
        point("followed", "rollback procedure followed successfully", done, ended()),
        point("errors", "all commands executed without errors", done && failed + again == 0, errors),
        point("time", "rollback completed within 15 minutes", done && took_ms <= LIMIT_MS, took),
        RehearsalPoint {
            key: "stable",
            title: "system stable after the rollback",
            outcome: is_stable,
            detail: stable.to_owned(),
        },
    ]
}

/// Whether a step looks at what runs afterwards.
fn is_look(action: &TargetAction) -> bool {
    use TargetAction as T;
    matches!(action, T::NewInstance { .. } | T::Probe { .. } | T::ScanLog { .. })
}

impl Engine {
    /// What is asked for when a rollback is rehearsed.
    ///
    /// # Errors
    /// This environment is the one that real users are in.
    pub fn rehearsal_of_rollback(&self, to: Option<String>, profile: Option<Profile>) -> Result<Request, Failure> {
        self.refuse_production("lifeboat rehearse rollback --env staging")?;
        let why = format!("{DRILL} a rehearsal");
        Ok(Request::Version { about: VersionAsk::RollBack { to, profile, why, backup: None } })
    }

    /// Refuses to rehearse anything where real users are.
    pub(crate) fn refuse_production(&self, instead: &str) -> Result<(), Failure> {
        let scope = &self.setup().scope;
        if scope.environment != PRODUCTION {
            return Ok(());
        }
        let message = format!("a rehearsal changes what runs and its data, and {scope} is what real users are in");
        let hint = format!("{instead}; without one, describe it under [environments.staging]");
        Err(Failure::new(FailureKind::Refused, message).hint(hint))
    }

    /// Every rehearsal of a rollback of this app, in whichever environment, newest first, with what people attested.
    ///
    /// # Errors
    /// When a journal cannot be read.
    pub fn rehearsals(&self) -> Result<Vec<Rehearsal>, Failure> {
        let app = &self.setup().scope.app;
        let mut found = Vec::new();
        let mut attested = Vec::new();
        for row in self.look().operations(usize::MAX)? {
            let is_ours = row.scope.split('/').next() == Some(app.as_str());
            if !is_ours || !row.closed || !["rollback", "attest"].contains(&row.kind.as_str()) {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            if let (Request::Attest { about, note, .. }, OperationState::Done) =
                (&operation.plan.request, &operation.state)
            {
                attested.push((about.clone(), format!("{}: {note}", operation.by)));
            }
            found.extend(of(&operation));
        }
        for rehearsal in &mut found {
            for point in &mut rehearsal.points {
                let about = about(&rehearsal.operation, point.key);
                if let Some((_, said)) = attested.iter().find(|(what, _)| *what == about) {
                    (point.outcome, point.detail) = (Tri::Pass, said.clone());
                }
            }
        }
        Ok(found)
    }

    /// What is attested of a rehearsal, as an attestation calls it.
    ///
    /// # Errors
    /// There is no such rehearsal or point, or it is measured.
    pub fn rehearsal_about(&self, operation: &str, key: &str) -> Result<String, Failure> {
        let usage = |message: String| Failure::new(FailureKind::Usage, message).hint("lifeboat rehearse list");
        let all = self.rehearsals()?;
        let Some(rehearsal) = all.iter().find(|one| one.operation.as_str() == operation) else {
            return Err(usage(format!("{operation} is no rehearsal")));
        };
        match rehearsal.points.iter().find(|point| point.key == key) {
            None => Err(usage(format!("no point of the list is called {key}: roles, documents"))),
            Some(_) if !ATTESTED.iter().any(|(attested, _)| *attested == key) => {
                Err(usage(format!("{key} is measured; nobody's word makes it stand")))
            }
            Some(point) => Ok(about(&rehearsal.operation, point.key)),
        }
    }
}

fn about(operation: &OperationId, key: &str) -> String {
    format!("rehearsal.{operation}.{key}")
}

/// When the next one is due, as a sentence, and whether that is past: a quarter of a year after the last that passed; now, when none has.
pub fn due(all: &[Rehearsal], now: Timestamp) -> (String, bool) {
    let Some(last) = all.iter().filter(|one| one.outcome == Tri::Pass).map(|one| one.at).max() else {
        return ("No rehearsal has passed yet: one is due now.".to_owned(), true);
    };
    let age = since(last, now);
    match COUNTS_FOR.checked_sub(age) {
        Some(left) => {
            (format!("The last that passed was {} ago; the next is due in {}.", show_age(age), show_age(left)), false)
        }
        None => (
            format!("The last that passed was {} ago, which is more than a quarter: one is due now.", show_age(age)),
            true,
        ),
    }
}
