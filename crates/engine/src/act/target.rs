//! What is done to the application: its variables, the version of its code, its commands, and looks whether it works.

mod branch;
mod delivery;
mod log;
mod platform;
mod probes;
mod redeploy;
mod variables;
mod versions;
mod watch;
mod workflow;

use std::{collections::BTreeMap, path::Path, time::Duration};

use lifeboat_io::{
    exec::{ExecError, Invocation},
    files,
};
use lifeboat_model::{Failure, FailureKind, Found, StepId, Target, TargetAction, variables::with_value};
use serde_json::{Value, json};

pub(super) use probes::until;

use super::{Hands, path_failure};
use crate::{decide, perform::Context, targets};

/// How long a call of git may take.
const GIT_LIMIT: Duration = Duration::from_secs(60);
/// How long a call of git over the network may take.
const GIT_REMOTE_LIMIT: Duration = Duration::from_secs(120);
/// How long an installation, a migration, a deploy of a platform or a try may take, when nobody said.
const COMMAND_LIMIT: Duration = Duration::from_secs(900);

/// Carries out one action.
pub fn perform(hands: &Hands, target: &Target, action: &TargetAction, context: &Context<'_>) -> Result<Value, Failure> {
    match action {
        TargetAction::SetVariable { file, kept, name, value } => set_variable(file, kept, name, value),
        TargetAction::PutFileBack { file, kept } => put_file_back(file, kept),
        TargetAction::Run { folder, argv, env, after } => {
            run(hands, target, folder, argv, env, after.as_ref(), context)
        }
        TargetAction::CopyIn { from, to } => {
            files::create_folder(files::parent(to)).map_err(|error| path_failure(&error))?;
            files::copy_over(from, to).map_err(|error| path_failure(&error))?;
            Ok(json!({}))
        }
        TargetAction::CheckClean
        | TargetAction::KeepBranch { .. }
        | TargetAction::DropBranch { .. }
        | TargetAction::RollBack { .. }
        | TargetAction::MoveBranch { .. }
        | TargetAction::CheckOut { .. }
        | TargetAction::Push { .. }
        | TargetAction::FreshCopy { .. }
        | TargetAction::TakeOver { .. } => versions::perform(hands, target, action, context),
        TargetAction::CheckVariables => variables::check(hands, target, context),
        TargetAction::GiveVariables { file, names } => variables::give(hands, target, file, names, context),
        TargetAction::Branch(action) => branch::perform(hands, target, action, context),
        TargetAction::Redeploy(action) => redeploy::perform(hands, target, action, context),
        TargetAction::Workflow(action) => workflow::perform(hands, target, action, context),
        TargetAction::CheckPort { .. }
        | TargetAction::Probe { .. }
        | TargetAction::ScanLog { .. }
        | TargetAction::Try { .. } => probes::perform(hands, target, action, context),
        TargetAction::CheckRuns { .. }
        | TargetAction::Stage { .. }
        | TargetAction::Switch { .. }
        | TargetAction::NoteInstance
        | TargetAction::Quiet
        | TargetAction::NewInstance { .. } => delivery::perform(hands, target, action, context),
        TargetAction::Watch { paths, for_ms, every_ms, failures_max, measures } => {
            let (how_long, every) = (Duration::from_millis(*for_ms), Duration::from_millis(*every_ms));
            let what = watch::What { paths, how_long, every, failures_max: *failures_max, measures: *measures };
            let mut hands = hands.clone();
            if what.measures {
                hands.setup.matrix = decide::ready(&hands.setup.matrix, &*hands.vaults);
            }
            watch::watch(&hands, target, &what, context)
        }
        TargetAction::Pin { .. } | TargetAction::KeepEvidence | TargetAction::Stop | TargetAction::Start => {
            platform::perform(hands, target, action, context)
        }
    }
}

/// Looks whether an action that was in flight has happened.
pub fn probe(
    hands: &Hands,
    target: &Target,
    action: &TargetAction,
    context: &Context<'_>,
) -> Result<(Found, Value), Failure> {
    match action {
        TargetAction::Workflow(action) => workflow::probe(hands, target, action, context),
        // These may simply be run again: nothing is lost by it.
        _repeatable => Ok((Found::NotStarted, Value::Null)),
    }
}

/// The former file is kept first; one that is kept already is the former one, whatever is there by now.
fn set_variable(file: &Path, kept: &Path, name: &str, value: &str) -> Result<Value, Failure> {
    let failed = |error| path_failure(&error);
    let (before, mode) = match files::exists(file) {
        true => (files::read_text(file).map_err(failed)?, files::mode(file).map_err(failed)? & 0o777),
        false => (String::new(), 0o600),
    };
    if !files::exists(kept) {
        files::write_with_mode(kept, before.as_bytes(), mode).map_err(failed)?;
    }
    files::write_with_mode(file, with_value(&before, name, value).as_bytes(), mode).map_err(failed)?;
    Ok(json!({ "kept": kept }))
}

/// A file of variables as it was, out of what was kept beside; nothing when that is gone.
pub(super) fn put_file_back(file: &Path, kept: &Path) -> Result<Value, Failure> {
    let failed = |error| path_failure(&error);
    if files::exists(kept) {
        let body = files::read(kept).map_err(failed)?;
        files::write_with_mode(file, &body, files::mode(kept).map_err(failed)? & 0o777).map_err(failed)?;
        files::remove_file(kept).map_err(failed)?;
    }
    Ok(json!({}))
}

#[allow(clippy::too_many_arguments, reason = "the parts of one action")]
fn run(
    hands: &Hands,
    target: &Target,
    folder: &Path,
    argv: &[String],
    env: &BTreeMap<String, String>,
    after: Option<&StepId>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let begun = |step: &StepId| {
        let position = context.operation.plan.steps().position(|known| &known.id == step);
        position.is_some_and(|at| context.operation.attempts[at] > 0)
    };
    if after.is_some_and(|step| !begun(step)) {
        return Ok(json!({}));
    }
    let invocation = targets::call(&hands.io, target, argv, command_limit(target))?.folder(folder);
    let invocation = env.iter().fold(invocation, |invocation, (name, value)| invocation.env(name, value));
    called_for(hands, target, &invocation, context)?;
    Ok(json!({}))
}

/// How long a program of a target may take.
fn command_limit(target: &Target) -> Duration {
    target.command_ms.map_or(COMMAND_LIMIT, Duration::from_millis)
}

/// Runs a program of a target; what it printed is told without the values that it was given.
fn called_for(
    hands: &Hands,
    target: &Target,
    invocation: &Invocation,
    context: &Context<'_>,
) -> Result<String, Failure> {
    called(hands, invocation, context).map_err(|mut failure| {
        failure.causes.iter_mut().for_each(|cause| *cause = targets::hide(&hands.io, target, cause));
        failure
    })
}

/// Runs a program that has to end well; what it printed is told without secrets.
fn called(hands: &Hands, invocation: &Invocation, context: &Context<'_>) -> Result<String, Failure> {
    fed(hands, invocation, None, context)
}

/// The same, with something to read.
fn fed(hands: &Hands, invocation: &Invocation, stdin: Option<&[u8]>, context: &Context<'_>) -> Result<String, Failure> {
    let exit = hands.io.exec.run(invocation, stdin, context.stop);
    let exit = exit.map_err(|error| {
        let is_late = matches!(error, ExecError::TimedOut { .. });
        let what = if is_late { "did not come to an end" } else { "did not run" };
        let failure = Failure::from_error(FailureKind::Outside, &error).while_doing(format!("`{invocation}` {what}"));
        match is_late {
            true => failure
                .hint("run it by hand to see what it waits for; command_within in its target's table gives it longer"),
            false => failure,
        }
    })?;
    if exit.ok() {
        return Ok(exit.stdout_text());
    }
    let said = [exit.stderr_text(), exit.stdout_text()].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(8)..].join("\n");
    let failure = Failure::new(FailureKind::Outside, format!("`{invocation}` failed with code {}", exit.code));
    let failure = if tail.is_empty() { failure } else { failure.because(hands.vaults.scrub(&tail)) };
    Err(failure.hint("run it by hand to see why, mend it, then run this again"))
}
