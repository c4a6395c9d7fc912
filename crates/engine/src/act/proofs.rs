//! Writing down what a rehearsal found, and what a person says about a backup.

use lifeboat_model::{
    BackupId, BackupMark, Check, Failure, Proof, ProofId, ProofLevel, ResourceName, StepId, StepState, Tri,
    level_reached,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Hands, captures::output};
use crate::perform::Context;

/// Which proof to record.
pub struct What<'a> {
    pub proof: &'a ProofId,
    pub backup: &'a BackupId,
    pub resource: &'a ResourceName,
    pub fetched_by: &'a StepId,
    pub checked_by: &'a [StepId],
}

/// What a checking step leaves behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckOutput {
    /// Bytes looked at.
    pub bytes: u64,
    /// What was found, and for which level it counts.
    pub checks: Vec<(ProofLevel, Check)>,
}

pub fn record(hands: &Hands, what: &What<'_>, context: &Context<'_>) -> Result<Value, Failure> {
    let mut checks: Vec<(ProofLevel, Check)> = Vec::new();
    for step in what.checked_by {
        checks.extend(findings(step, what.fetched_by, context));
    }
    let (fetch, restore_ms, bytes) = fetched(what.fetched_by, context);
    checks.extend(fetch);
    checks.sort_by_key(|(level, _)| *level);
    let check_ms = what.checked_by.iter().map(|step| took_ms(step, context)).sum();
    let outcome = Tri::worst(checks.iter().map(|(_, check)| check.outcome));
    output(&Proof {
        id: what.proof.clone(),
        backup: what.backup.clone(),
        resource: what.resource.clone(),
        operation: context.operation.id.clone(),
        at: hands.io.clock.now(),
        level: level_reached(&checks),
        outcome,
        restore_ms,
        restore_expected: expected(what.fetched_by, context).filter(|_| restore_ms > 0),
        check_ms,
        bytes,
        checks,
    })
}

fn state<'a>(step: &StepId, context: &'a Context<'_>) -> Option<&'a StepState> {
    let index = context.operation.plan.steps().position(|known| &known.id == step)?;
    context.operation.steps.get(index)
}

/// What was predicted for the phase that this step makes up.
fn expected(step: &StepId, context: &Context<'_>) -> Option<lifeboat_model::Prediction> {
    let phases = &context.operation.plan.phases;
    phases.iter().find(|phase| phase.steps.iter().any(|known| &known.id == step))?.expected
}

fn took_ms(step: &StepId, context: &Context<'_>) -> u64 {
    match state(step, context) {
        Some(StepState::Done { took_ms, .. }) => *took_ms,
        _not_done => 0,
    }
}

/// What a step found; a step that broke off found that something is wrong, one that never ran found nothing.
fn findings(step: &StepId, fetched_by: &StepId, context: &Context<'_>) -> Vec<(ProofLevel, Check)> {
    let level = if step.0 == "stored" { ProofLevel::Stored } else { ProofLevel::Consistent };
    if level != ProofLevel::Stored && !matches!(state(fetched_by, context), Some(StepState::Done { .. })) {
        return vec![(level, Check::new(&step.0, Tri::Unknown, "nothing was brought back to look at"))];
    }
    match state(step, context) {
        Some(StepState::Done { output, .. }) => {
            let found: Option<CheckOutput> = serde_json::from_value(output.clone()).ok();
            // What it found cannot be read: that is no pass.
            let unread = || vec![(level, Check::new(&step.0, Tri::Unknown, "what it found cannot be read"))];
            found.map_or_else(unread, |found| found.checks)
        }
        Some(StepState::Failed { failure, .. }) => vec![(level, failed(step, failure))],
        _never_ran => vec![(level, Check::new(&step.0, Tri::Unknown, "was not looked at"))],
    }
}

fn failed(step: &StepId, failure: &Failure) -> Check {
    use lifeboat_model::FailureKind as K;
    // A place that does not answer, a password that is wrong, a disk without room say nothing about the backup.
    let outcome = match failure.kind {
        K::Damaged => Tri::Fail,
        K::Refused
        | K::Usage
        | K::Stale
        | K::Busy
        | K::Unknown
        | K::NeedsPerson
        | K::Outside
        | K::Interrupted
        | K::Bug => Tri::Unknown,
    };
    Check::new(&step.0, outcome, failure.to_string())
}

fn fetched(step: &StepId, context: &Context<'_>) -> (Vec<(ProofLevel, Check)>, u64, u64) {
    match state(step, context) {
        Some(StepState::Done { took_ms, output }) => {
            let bytes = output.get("bytes").and_then(Value::as_u64).unwrap_or(0);
            let every = Check::new("every blob", Tri::Pass, "decrypted, decompressed, hashed to its name");
            let came = Check::new("fetch", Tri::Pass, lifeboat_model::time::show_bytes(bytes));
            (vec![(ProofLevel::Readable, every), (ProofLevel::Restorable, came)], *took_ms, bytes)
        }
        Some(StepState::Failed { failure, .. }) => (vec![(ProofLevel::Readable, failed(step, failure))], 0, 0),
        _never_ran => (vec![(ProofLevel::Readable, Check::new(&step.0, Tri::Unknown, "was not tried"))], 0, 0),
    }
}

pub fn mark(backup: &BackupId, mark: &BackupMark) -> Result<Value, Failure> {
    // The journal's line is the record; the index reads it from there.
    Ok(serde_json::json!({ "backup": backup, "mark": mark }))
}
