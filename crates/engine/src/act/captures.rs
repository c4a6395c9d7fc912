//! Copying what is live, and looking at the copy.

use std::path::{Path, PathBuf};

use lifeboat_io::{database::sqlite, files};
use lifeboat_model::{Check, Failure, FailureKind, SqliteFacts, Timestamp, Tri, time::show_bytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Hands,
    errors::{path_failure, sqlite_failure},
};
use crate::perform::Context;

/// What a capture leaves behind for later steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaptureOutput {
    /// Bytes of the copy.
    pub bytes: u64,
    /// `QuickDigest` of the copy; empty in journals of 0.1.
    #[serde(default)]
    pub digest: String,
    /// Everything committed before this instant is in it.
    pub recovery_point: Timestamp,
    /// When copying began.
    pub started_at: Timestamp,
    /// How it was copied.
    pub how: String,
}

/// Turns an output into JSON.
pub(crate) fn output(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value)
        .map_err(|error| Failure::new(FailureKind::Bug, "a result cannot be written").because(error.to_string()))
}

pub fn check_space(path: &Path, bytes: u64) -> Result<Value, Failure> {
    let free = files::free_bytes(path).map_err(|error| path_failure(&error))?;
    if free < bytes {
        let message =
            format!("{} are free on {}, and {} are needed", show_bytes(free), path.display(), show_bytes(bytes));
        return Err(Failure::new(FailureKind::Refused, message).hint("make room on that disk, or use another one"));
    }
    Ok(serde_json::json!({ "free": free }))
}

pub fn capture_sqlite(
    hands: &Hands,
    source: &Path,
    into: &Path,
    as_of: Option<Timestamp>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    files::create_private_folder(files::parent(into)).map_err(|error| path_failure(&error))?;
    let progress = |done, total| context.watch.progress(done, total);
    // The digest taken now is compared again when the copy is stored: what a power cut left of it is never stored.
    let options = sqlite::CaptureOptions { durable: false, ..sqlite::CaptureOptions::default() };
    let clock = &*hands.io.clock;
    let captured = sqlite::capture(source, into, options, clock, context.stop, &progress);
    let captured = captured.map_err(|error| sqlite_failure(&error))?;
    output(&CaptureOutput {
        bytes: captured.bytes,
        digest: captured.digest,
        recovery_point: as_of.unwrap_or(captured.recovery_point),
        started_at: captured.recovery_point,
        how: format!("{:?}", captured.how),
    })
}

/// What is in a copy. Fails on one that is not sound; with `accept_unsound` it may even be unreadable.
pub(crate) fn inspect_sqlite(
    file: &Path,
    accept_unsound: bool,
    progress: &dyn Fn(u64),
    context: &Context<'_>,
) -> Result<Option<SqliteFacts>, Failure> {
    let (facts, checks) = sqlite::examine(file, context.stop, &|done, _total| progress(done));
    not_stopped(context)?;
    // What the app itself put there - a row without its parent, a value that a later rule refuses - is told, and is no
    // reason to have no backup. A proof will say it again; `verify` too.
    let (values, structure): (Vec<Check>, Vec<Check>) = checks.iter().cloned().partition(is_about_values);
    for check in values.iter().filter(|check| check.outcome != Tri::Pass) {
        context
            .watch
            .note(&format!("The database holds what its own rules refuse ({}): {}.", check.name, check.detail));
    }
    let worst = Tri::worst(structure.iter().map(|check| check.outcome));
    if worst != Tri::Pass && !accept_unsound {
        return Err(unsound(&structure));
    }
    match facts {
        Ok(facts) => Ok(Some(facts)),
        Err(_) if accept_unsound => Ok(None),
        Err(error) => Err(sqlite_failure(&error)),
    }
}

/// Whether a check is about what the app put into the file, and not about the file.
pub(crate) fn is_about_values(check: &Check) -> bool {
    check.name == "foreign keys" || check.name == "constraints"
}

/// Integrity on one thread, content on another: a copy at rest can be read by both.
pub(crate) fn look_at_copy(
    file: &Path,
    context: &Context<'_>,
) -> Result<(Result<SqliteFacts, Failure>, Vec<Check>), Failure> {
    let copy: PathBuf = file.to_owned();
    let stop = context.stop.clone();
    let (facts, checks) = std::thread::scope(|scope| {
        let integrity = scope.spawn(|| sqlite::check_copy(&copy, &stop));
        let progress = |done, total| context.watch.progress(done, total);
        let facts = sqlite::inspect(&copy, &stop, &progress).map_err(|error| sqlite_failure(&error));
        (facts, integrity.join())
    });
    let checks = checks.map_err(|_| Failure::new(FailureKind::Bug, "looking at the copy broke off"))?;
    not_stopped(context)?;
    Ok((facts, checks))
}

fn not_stopped(context: &Context<'_>) -> Result<(), Failure> {
    context.stop.check().map_err(|_| Failure::new(FailureKind::Interrupted, "broken off on request"))
}

/// Says in one sentence which checks did not pass.
pub(crate) fn unsound(checks: &[Check]) -> Failure {
    let bad = checks.iter().filter(|check| check.outcome != Tri::Pass);
    let worst = Tri::worst(checks.iter().map(|check| check.outcome));
    let kind = if worst == Tri::Fail { FailureKind::Damaged } else { FailureKind::Unknown };
    let failure = Failure::new(kind, "the database is not sound");
    bad.fold(failure, |failure, check| failure.because(format!("{}: {}", check.name, check.detail)))
}
