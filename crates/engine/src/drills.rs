//! What came of the quarterly tests, and when the next ones are due. The record of each is its operation's journal.

use lifeboat_model::{
    Drill, Failure, FailureKind, Operation, OperationId, OperationState, Request, ResourceKind, ResourceName, StepId,
    StepState, Timestamp, Tri,
    time::{show_age, since},
};
use serde::Serialize;

use crate::{Engine, ready::COUNTS_FOR};

/// What was done or looked at in the course of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrillPoint {
    /// The step.
    pub step: StepId,
    /// What it is.
    pub title: String,
    /// Whether it went well; not known when it was not come to.
    pub outcome: Tri,
}

/// One test that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrillRecord {
    /// Its operation.
    pub operation: OperationId,
    /// Which test: `switch`, `queue`, `rollback`, `restore`.
    pub test: &'static str,
    /// What was tried.
    pub title: String,
    /// Where.
    pub scope: String,
    /// Who.
    pub by: String,
    /// When it was begun.
    pub at: Timestamp,
    /// How long it took in all, in milliseconds.
    pub took_ms: u64,
    /// Step by step.
    pub points: Vec<DrillPoint>,
    /// Whether all of it went well.
    pub outcome: Tri,
}

/// When a test is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrillDue {
    /// Which test.
    pub test: &'static str,
    /// When the last one was begun that passed.
    pub last: Option<Timestamp>,
    /// When the next one is due; now, when none has passed yet.
    pub next: Option<Timestamp>,
    /// Whether that is past.
    pub is_due: bool,
}

/// The test that an operation was, once it is over.
pub fn of(operation: &Operation) -> Option<DrillRecord> {
    let Request::Drill { about } = &operation.plan.request else { return None };
    if !matches!(operation.state, OperationState::Done | OperationState::PutBack { .. }) {
        return None;
    }
    let points = operation.plan.steps().zip(&operation.steps).map(|(step, state)| {
        let outcome = match state {
            StepState::Done { .. } => Tri::Pass,
            StepState::Failed { .. } | StepState::Stuck { .. } => Tri::Fail,
            StepState::Planned | StepState::Running | StepState::Undoing | StepState::Undone => Tri::Unknown,
        };
        DrillPoint { step: step.id.clone(), title: step.title.clone(), outcome }
    });
    Some(DrillRecord {
        operation: operation.id.clone(),
        test: about.word(),
        title: operation.plan.title.clone(),
        scope: operation.plan.scope.to_string(),
        by: operation.by.clone(),
        at: operation.started_at,
        took_ms: operation.elapsed_ms,
        points: points.collect(),
        outcome: Tri::from_bool(operation.state == OperationState::Done),
    })
}

impl Engine {
    /// Whether this environment mirrors something, and so owes the tests.
    pub fn is_drilled(&self) -> bool {
        !self.setup().links.is_empty()
    }

    /// The database whose backup is tried: the named one, else the one that is mirrored, else the only one.
    ///
    /// # Errors
    /// There is none of that name, or several and none is named.
    pub fn drilled(&self, name: Option<ResourceName>) -> Result<ResourceName, Failure> {
        if let Some(name) = name {
            return self.setup().resource(&name).map(|resource| resource.name.clone());
        }
        let files: Vec<(&ResourceName, &std::path::Path)> = self
            .setup()
            .resources
            .iter()
            .filter_map(|one| {
                let ResourceKind::Sqlite { path } = &one.kind else { return None };
                Some((&one.name, path.as_path()))
            })
            .collect();
        let mirrored = |path: &std::path::Path| self.setup().links.iter().any(|link| link.file == path);
        match (files.iter().find(|(_, path)| mirrored(path)), files.as_slice()) {
            (Some((name, _)), _) | (None, [(name, _)]) => Ok((*name).clone()),
            (None, _) => {
                let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
                let message = format!("{} has {} SQLite databases", self.setup().scope, names.len());
                Err(Failure::new(FailureKind::Usage, message)
                    .hint(format!("say which with --resource: {}", names.join(", "))))
            }
        }
    }

    /// Every test of this app, in whichever environment, newest first.
    ///
    /// # Errors
    /// When a journal cannot be read.
    pub fn drills(&self) -> Result<Vec<DrillRecord>, Failure> {
        let app = &self.setup().scope.app;
        let mut found = Vec::new();
        for row in self.look().operations(usize::MAX)? {
            let is_ours = row.scope.split('/').next() == Some(app.as_str());
            if is_ours && row.closed && row.kind == "drill" {
                found.extend(of(&self.look().operation(&row.id)?));
            }
        }
        Ok(found)
    }
}

/// When each of the four is due: a quarter of a year after the last that passed.
pub fn due(all: &[DrillRecord], now: Timestamp) -> [DrillDue; 4] {
    Drill::WORDS.map(|test| {
        let passed = all.iter().filter(|one| one.test == test && one.outcome == Tri::Pass);
        let last = passed.map(|one| one.at).max();
        let next = last.map(|last| last + COUNTS_FOR);
        DrillDue { test, last, next, is_due: next.is_none_or(|next| next <= now) }
    })
}

impl DrillDue {
    /// As a sentence.
    pub fn sentence(&self, now: Timestamp) -> String {
        match (self.last, self.next) {
            (Some(last), Some(next)) if self.is_due => {
                format!(
                    "{}: passed {} ago; was due {} ago.",
                    self.test,
                    show_age(since(last, now)),
                    show_age(since(next, now))
                )
            }
            (Some(last), Some(next)) => {
                format!(
                    "{}: passed {} ago; due in {}.",
                    self.test,
                    show_age(since(last, now)),
                    show_age(since(now, next))
                )
            }
            (_, _) => format!("{}: never passed; due now.", self.test),
        }
    }
}
