//! How releases stand, for one screen: what is live, what somebody could go back to, what is held, and a deploy that is not over.

use std::collections::BTreeMap;

use lifeboat_model::{
    BackupId, Failure, KnownRelease, Operation, OperationId, OperationState, ReleaseId, ReleaseState, Request,
    StepState, Timestamp, Tri, VersionAsk,
};
use serde::Serialize;

use crate::Engine;

/// So many of those that are held are named; others are in the list of releases.
const HELD_MAX: usize = 3;
/// Of so many good releases the backup stays, whatever the rules say.
const PINNED_MAX: usize = 5;

/// How releases stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Standing {
    /// What runs, as far as the journals know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Named>,
    /// The newest good one that is not what runs: a rollback goes there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Named>,
    /// Those that are held for bad and are not older than what runs, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Named>,
    /// A deploy that is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<OpenDeploy>,
}

/// A release in a few words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    /// Its name.
    pub id: ReleaseId,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How well it does.
    pub state: ReleaseState,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// Why somebody said so, when somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A deploy that is not over: where it stands, and the backup that was made for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenDeploy {
    /// Which operation.
    pub operation: OperationId,
    /// What it does.
    pub title: String,
    /// The release that is on its way.
    pub release: Named,
    /// `running`, `turning-back` or `paused`.
    pub state: &'static str,
    /// The last step that is done, and not taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// The step that is next, or was in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Why it waits or turns back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The backup of right before, by its journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupId>,
    /// Whether it can only be finished.
    pub past_point_of_no_return: bool,
}

impl From<&KnownRelease> for Named {
    fn from(known: &KnownRelease) -> Named {
        let release = &known.release;
        let (id, label, sealed_at) = (release.id.clone(), release.label.clone(), release.sealed_at);
        Named { id, label, state: known.state, sealed_at, why: known.why.clone() }
    }
}

impl Standing {
    /// Whether nothing is known of releases.
    pub fn is_empty(&self) -> bool {
        *self == Standing::default()
    }

    /// Whether all is well with what runs: nothing that is held, and no deploy that waits.
    pub fn good(&self) -> Tri {
        match &self.live {
            Some(live) if live.state == ReleaseState::Bad => Tri::Fail,
            _other if self.deploy.is_some() => Tri::Fail,
            _other => Tri::Pass,
        }
    }
}

impl Engine {
    /// Backups that somebody could have to go back to, and why: those of what is live, of the newest good releases, and of a deploy that is
    /// not over. No rule lets them go.
    ///
    /// # Errors
    /// When a journal cannot be read.
    pub fn pinned_backups(&self) -> Result<BTreeMap<BackupId, String>, Failure> {
        let all = self.releases()?;
        let mut pinned = BTreeMap::new();
        if let Some(open) = self.standing()?.deploy {
            pinned.extend(open.backup.map(|backup| (backup, format!("the deploy {} is not over", open.operation))));
        }
        let good = all.iter().rev().filter(|one| one.state == ReleaseState::Good).take(PINNED_MAX);
        for one in all.iter().filter(|one| one.is_live).chain(good) {
            let why = format!("release {} goes back to it", one.release.shown());
            if let Some(backup) = &one.release.backup {
                pinned.entry(backup.clone()).or_insert(why);
            }
        }
        Ok(pinned)
    }

    /// How releases stand.
    ///
    /// # Errors
    /// When a journal cannot be read.
    pub fn standing(&self) -> Result<Standing, Failure> {
        let all = self.releases()?;
        let live = all.iter().rposition(|one| one.is_live);
        let good = all.iter().rev().find(|one| one.state == ReleaseState::Good && !one.is_live);
        let since = all.get(live.unwrap_or(0)..).unwrap_or_default();
        let held = since.iter().rev().filter(|one| one.state == ReleaseState::Bad && !one.is_live).take(HELD_MAX);
        let scope = self.setup().scope.to_string();
        let open = self.catalog()?.unfinished().map_err(|error| self.failure(&error))?;
        let open = open.into_iter().find(|row| row.scope == scope && row.kind == "deploy");
        let deploy = match open {
            Some(row) => open_deploy(&self.look().operation(&row.id)?, &all),
            None => None,
        };
        Ok(Standing {
            live: live.map(|at| Named::from(&all[at])),
            last_good: good.map(Named::from),
            held: held.map(Named::from).collect(),
            deploy,
        })
    }
}

fn open_deploy(operation: &Operation, all: &[KnownRelease]) -> Option<OpenDeploy> {
    let Request::Version { about: VersionAsk::Deploy(ask) } = &operation.plan.request else { return None };
    let sealed = crate::releases::deployed(operation);
    let known = all.iter().rev().find(|one| {
        sealed.iter().any(|record| {
            matches!(record, lifeboat_model::ReleaseRecord::Seal { release, .. } if release.id == one.release.id)
        })
    })?;
    let steps = || operation.plan.steps().zip(&operation.steps);
    let done = steps().filter(|(_, state)| matches!(state, StepState::Done { .. })).last();
    let is_next = |state: &StepState| match state {
        StepState::Planned | StepState::Running | StepState::Undoing | StepState::Stuck { .. } => true,
        StepState::Done { .. } | StepState::Failed { .. } | StepState::Undone => false,
    };
    // Going back, what was in flight is what matters; what was not begun will not be.
    let in_flight = |state: &StepState| is_next(state) && *state != StepState::Planned;
    let at = steps().find(|(_, state)| in_flight(state)).or_else(|| match &operation.state {
        OperationState::TurningBack { .. } => None,
        _forward => steps().find(|(_, state)| is_next(state)),
    });
    let (state, why) = match &operation.state {
        OperationState::TurningBack { why } => ("turning-back", Some(why.to_string())),
        OperationState::Paused { why } => ("paused", Some(why.to_string())),
        OperationState::HandedOver { why } => ("handed-over", Some(why.to_string())),
        OperationState::Running | OperationState::Done | OperationState::PutBack { .. } => ("running", None),
    };
    Some(OpenDeploy {
        operation: operation.id.clone(),
        title: operation.plan.title.clone(),
        release: Named::from(known),
        state,
        done: done.map(|(step, _)| step.title.clone()),
        at: at.map(|(step, _)| step.title.clone()),
        why,
        backup: ask.backup.clone(),
        past_point_of_no_return: operation.past_pivot,
    })
}
