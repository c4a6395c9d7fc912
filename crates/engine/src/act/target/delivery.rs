//! Versions that stand beside each other: one is brought, put in use, and shown to be what answers.

use std::path::Path;

use lifeboat_io::{Invocation, files, git};
use lifeboat_model::{Driver, Failure, FailureKind, StepId, Target, TargetAction};
use serde_json::{Value, json};

use super::{COMMAND_LIMIT, Hands, called, probes};
use crate::{
    act::path_failure,
    perform::Context,
    targets::{self, driver, place},
};

pub(super) fn perform(
    hands: &Hands,
    target: &Target,
    action: &TargetAction,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    match action {
        TargetAction::CheckRuns { version } => check_runs(hands, target, version, context),
        TargetAction::Stage { version } => stage(hands, target, version, context),
        TargetAction::Switch { version } => switch(hands, target, version, context),
        TargetAction::NoteInstance => Ok(note(target).unwrap_or(Value::Null)),
        TargetAction::NewInstance { version, before, limit_ms, file } => {
            let version = match (version, file) {
                (None, Some(file)) => Some(first_line(file)?),
                (version, _) => version.clone(),
            };
            new_instance(hands, target, version.as_deref(), before, *limit_ms, context)
        }
        _other => Err(Failure::new(FailureKind::Bug, "this is about no version")),
    }
}

fn check_runs(hands: &Hands, target: &Target, version: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let now = targets::running(&*hands.io.exec, target, context.stop)?;
    if now == version {
        return Ok(json!({ "version": version }));
    }
    let message = format!("{} runs {now} by now, and the plan was made for {version}", target.name);
    Err(Failure::new(FailureKind::Stale, message).hint("make a new plan and look at it again"))
}

fn stage(hands: &Hands, target: &Target, version: &str, context: &Context<'_>) -> Result<Value, Failure> {
    match driver(target)? {
        Driver::ReleaseDir { releases, .. } => {
            let there = releases.join(version);
            let is_full = files::is_folder(&there) && files::list_folder(&there).is_ok_and(|inside| !inside.is_empty());
            match is_full {
                true => Ok(json!({ "at": there })),
                false => {
                    let message = format!("{} is not there any more, or empty", there.display());
                    let failure = Failure::new(FailureKind::Refused, message);
                    Err(failure
                        .hint("bring that release back into its folder, or choose another: lifeboat releases list"))
                }
            }
        }
        Driver::Git { .. } => worktree(hands, target, version, context),
        Driver::Fly { app } => {
            let known = targets::fly_releases(&*hands.io.exec, target)?;
            match known.iter().any(|one| one.is_complete && one.image == version) {
                true => Ok(json!({ "image": version })),
                false => {
                    let failure =
                        Failure::new(FailureKind::Refused, format!("{app} has no release with the image {version}"));
                    Err(failure.hint(format!("fly releases --app {app} --image")))
                }
            }
        }
        driver @ Driver::Command { .. } => {
            if let Some(argv) = driver.stage(version) {
                run(hands, &target.folder, &argv, context)?;
            }
            Ok(json!({ "version": version }))
        }
    }
}

fn run(hands: &Hands, folder: &Path, argv: &[String], context: &Context<'_>) -> Result<(), Failure> {
    let Some((program, args)) = argv.split_first() else {
        return Err(Failure::new(FailureKind::Usage, "a configured command has no words"));
    };
    called(hands, &Invocation::new(program, COMMAND_LIMIT).args(args).folder(folder), context).map(drop)
}

/// A checkout of its own for a commit, with what it needs, built. A file beside says that it is whole: one without it is
/// begun anew.
fn worktree(hands: &Hands, target: &Target, commit: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let Some(at) = place(target, commit) else {
        return Err(Failure::new(FailureKind::Bug, "there is no place for it"));
    };
    let failed = |error: lifeboat_io::PathError| path_failure(&error);
    let whole = at.with_file_name(format!("{commit}.whole"));
    if files::exists(&whole) && files::is_folder(&at) {
        return Ok(json!({ "at": at }));
    }
    let git = |words: &[&str]| called(hands, &git::call(&target.folder, words, COMMAND_LIMIT), context);
    files::remove_file(&whole).map_err(failed)?;
    files::create_folder(files::parent(&at)).map_err(failed)?;
    let shown = at.display().to_string();
    let made = files::remove_any(&at).map_err(failed).and_then(|()| {
        git(&["worktree", "prune"])?;
        git(&["worktree", "add", "--quiet", "--force", "--detach", &shown, commit])?;
        // Variables are read at the start, from where they are.
        let env = target.env_file.as_ref().filter(|file| files::exists(file));
        if let Some((file, inside)) = env.and_then(|file| Some((file, file.strip_prefix(&target.folder).ok()?)))
            && !files::exists(&at.join(inside))
        {
            files::create_folder(files::parent(&at.join(inside))).map_err(failed)?;
            files::link(file, &at.join(inside)).map_err(failed)?;
        }
        target.install.iter().chain(&target.build).try_for_each(|argv| run(hands, &at, argv, context))?;
        files::write(&whole, format!("{commit}\n").as_bytes()).map_err(failed)
    });
    if let Err(failure) = made {
        // Half a checkout helps nobody; that it cannot be taken away either is told by the next try.
        let _ = files::remove_any(&at);
        let _ = git(&["worktree", "prune"]);
        return Err(failure);
    }
    Ok(json!({ "at": at }))
}

fn switch(hands: &Hands, target: &Target, version: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let driver = driver(target)?;
    if let Some(argv) = driver.switch(version) {
        // A deploy that is repeated makes another instance of the same.
        if targets::running(&*hands.io.exec, target, context.stop).ok().as_deref() != Some(version) {
            run(hands, &target.folder, &argv, context)?;
        }
    } else if let (Some((_, current)), Some(at)) = (driver.places(), place(target, version)) {
        if !files::is_folder(&at) {
            return Err(Failure::new(FailureKind::Refused, format!("{} is not there", at.display())));
        }
        files::lead_link_to(&at, current).map_err(|error| path_failure(&error))?;
    }
    let now = targets::running(&*hands.io.exec, target, context.stop)?;
    match now == version {
        true => Ok(json!({ "version": version })),
        false => {
            let message = format!("{} was told to use {version} and uses {now}", target.name);
            Err(Failure::new(FailureKind::Outside, message).hint("look into what its switch command prints"))
        }
    }
}

/// What the running app tells of itself; nothing when it does not answer.
fn note(target: &Target) -> Option<Value> {
    let tells = target.tells.as_ref()?;
    let (version, instance) = targets::told(target, tells).ok()?;
    Some(json!({ "version": version, "instance": instance }))
}

/// What a file in the folder of a version says of it.
fn first_line(file: &Path) -> Result<String, Failure> {
    let text = files::read_text(file).map_err(|error| path_failure(&error))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn new_instance(
    hands: &Hands,
    target: &Target,
    version: Option<&str>,
    before: &StepId,
    limit_ms: u64,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let Some(tells) = &target.tells else { return Ok(json!({})) };
    let former = context.operation.output(before).and_then(|noted| noted.get("instance")?.as_str().map(str::to_owned));
    let look = || {
        let (found, instance) = targets::told(target, tells)?;
        if let Some(version) = version.filter(|version| *version != found) {
            return Err(format!("{} answers with version {found}, and {version} is wanted", tells.path));
        }
        match (&former, instance) {
            (Some(former), Some(now)) if *former == now => {
                Err(format!("the instance that answers ({now}) is the one from before: it was not started anew"))
            }
            _another => Ok(()),
        }
    };
    probes::until(hands, limit_ms, context, &look).map_err(|why| probes::not_working(target, why))?;
    Ok(note(target).unwrap_or(Value::Null))
}
