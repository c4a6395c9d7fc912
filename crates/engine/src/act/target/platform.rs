//! What a driver does by itself around a switch: stopping and starting, keeping what tells of the former instance, and keeping
//! versions from being cleared away.

use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use lifeboat_io::files;
use lifeboat_model::{Driver, Failure, FailureKind, Target, TargetAction, target};
use serde_json::{Value, json};

use super::{Hands, called_for, command_limit};
use crate::{act::path_failure, perform::Context, targets};

/// So much of the end of what a program printed is kept as evidence, in each file.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// So much of the end of the app's own log.
const LOG_BYTES_MAX: u64 = 32 << 20;

pub(super) fn perform(
    hands: &Hands,
    target: &Target,
    action: &TargetAction,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    match action {
        TargetAction::Pin { version } => pin(hands, target, version, context),
        TargetAction::KeepEvidence => keep_evidence(hands, target, context),
        TargetAction::Stop => stop(hands, target, context),
        TargetAction::Start => start(hands, target, context),
        _other => Err(Failure::new(FailureKind::Bug, "no driver does this by itself")),
    }
}

fn pin(hands: &Hands, target: &Target, version: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let calls = targets::driver(target)?.pin(target.name.as_str(), version);
    calls.iter().try_for_each(|argv| say(hands, target, argv, context).map(drop))?;
    let said: Vec<String> = calls.iter().map(|argv| argv.join(" ")).collect();
    Ok(json!({ "by": said }))
}

fn say(hands: &Hands, target: &Target, argv: &[String], context: &Context<'_>) -> Result<String, Failure> {
    called_for(hands, target, &targets::call(&hands.io, target, argv, command_limit(target))?, context)
}

/// Files for people: they may hold what the app logs, so they are for their owner alone, and nothing of them is journaled.
fn keep_evidence(hands: &Hands, target: &Target, context: &Context<'_>) -> Result<Value, Failure> {
    let (calls, log) = (targets::driver(target)?.evidence(), target.log.as_ref().filter(|log| files::is_file(log)));
    if calls.is_empty() && log.is_none() {
        return Ok(json!({}));
    }
    let folder = hands.state.root().join("evidence").join(context.operation.id.to_string()).join(target.name.as_str());
    files::create_private_folder(&folder).map_err(|error| path_failure(&error))?;
    let (mut kept, mut missing) = (Vec::new(), Vec::new());
    for (name, argv) in calls {
        let call = targets::call(&hands.io, target, &argv, command_limit(target))?;
        match hands.io.exec.run(&call, None, context.stop) {
            // Programs write logs to either stream.
            Ok(exit) => {
                let text = format!("{}\n{}", exit.stdout_text(), exit.stderr_text());
                let text = hands.vaults.scrub(&targets::hide(&hands.io, target, text.trim()));
                let from = text.len().saturating_sub(KEPT_BYTES_MAX);
                let body = &text.as_bytes()[from..];
                let path = folder.join(name);
                files::write_with_mode(&path, body, 0o600).map_err(|error| path_failure(&error))?;
                kept.push(path);
                missing.extend((!exit.ok()).then(|| format!("`{call}` failed with code {}", exit.code)));
            }
            Err(error) => missing.push(format!("`{call}` did not run: {error}")),
        }
    }
    if let Some(log) = log {
        let path = folder.join("app.log");
        files::write_with_mode(&path, &end_of(log)?, 0o600).map_err(|error| path_failure(&error))?;
        kept.push(path);
    }
    match missing.is_empty() {
        true => Ok(json!({ "kept": kept })),
        false => {
            let failure =
                Failure::new(FailureKind::Outside, format!("not all that tells of {} could be kept", target.name));
            Err(missing.into_iter().fold(failure, Failure::because))
        }
    }
}

/// The end of a log: all of a large one would fill the disk in an emergency.
fn end_of(log: &Path) -> Result<Vec<u8>, Failure> {
    let size = files::size(log).map_err(|error| path_failure(&error))?;
    let mut file = files::open(log).map_err(|error| path_failure(&error))?;
    let mut body = Vec::new();
    let read = file
        .seek(SeekFrom::Start(size.saturating_sub(LOG_BYTES_MAX)))
        .and_then(|_at| file.take(LOG_BYTES_MAX).read_to_end(&mut body));
    match read {
        Ok(_) => Ok(body),
        Err(error) => {
            let message = format!("{} cannot be kept", log.display());
            Err(Failure::new(FailureKind::Outside, message).because(error.to_string()))
        }
    }
}

fn stop(hands: &Hands, target: &Target, context: &Context<'_>) -> Result<Value, Failure> {
    let driver = targets::driver(target)?;
    let Some(argv) = driver.stop() else { return Ok(json!({})) };
    let is_there = match driver {
        Driver::Pm2 { process, .. } => entries(hands, target, process, context)? > 0,
        Driver::Docker { container, .. } => targets::container_is_there(&hands.io, target, container, context.stop)?,
        Driver::Systemd { .. } | Driver::Compose { .. } => true,
        Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } | Driver::Fly { .. } => true,
        Driver::Vercel { .. } | Driver::SupabaseFunctions { .. } => true,
    };
    if is_there {
        say(hands, target, &argv, context)?;
    }
    Ok(json!({ "was_there": is_there }))
}

fn start(hands: &Hands, target: &Target, context: &Context<'_>) -> Result<Value, Failure> {
    let driver = targets::driver(target)?;
    let Some(argv) = driver.start() else { return Ok(json!({})) };
    match driver {
        // Another entry of that name would run beside it.
        Driver::Pm2 { process, .. } if entries(hands, target, process, context)? > 0 => {
            let delete = driver.stop().unwrap_or_default();
            say(hands, target, &delete, context)?;
        }
        // It gave up on the unit, and refuses to start it for a while.
        Driver::Systemd { unit, user, .. } => {
            let shown = say(hands, target, &driver.instances().unwrap_or_default(), context)?;
            if target::systemd_has_failed(&shown) {
                let mut reset = vec!["systemctl".to_owned()];
                reset.extend(user.then(|| "--user".to_owned()));
                reset.extend(["reset-failed".to_owned(), unit.clone()]);
                say(hands, target, &reset, context)?;
            }
        }
        Driver::Pm2 { .. } | Driver::Docker { .. } | Driver::Compose { .. } | Driver::Command { .. } => {}
        Driver::ReleaseDir { .. } | Driver::Git { .. } | Driver::Fly { .. } => {}
        Driver::Vercel { .. } | Driver::SupabaseFunctions { .. } => {}
    }
    say(hands, target, &argv, context)?;
    Ok(json!({}))
}

fn entries(hands: &Hands, target: &Target, process: &str, context: &Context<'_>) -> Result<usize, Failure> {
    let argv = targets::driver(target)?.instances().unwrap_or_default();
    let said = say(hands, target, &argv, context)?;
    target::pm2_entries(process, &said).map_err(|why| {
        let failure = Failure::new(FailureKind::Outside, format!("what `{}` printed cannot be read", argv.join(" ")));
        failure.because(why).hint("run it by hand to see what it says")
    })
}
