//! Versions that stand beside each other: one is brought, put in use, and shown to be what answers.

use std::{cell::RefCell, path::Path};

use lifeboat_io::{files, git, listeners};
use lifeboat_model::{
    Brings, Driver, Failure, FailureKind, Instance, StepId, Target, TargetAction, Timestamp, is_new, target,
};
use serde_json::{Value, json};

use super::{Hands, called_for, command_limit, probes};
use crate::{
    act::path_failure,
    perform::Context,
    targets::{self, driver, place},
};

/// How long an app that was stopped may take until nobody answers any more.
const QUIET_LIMIT_MS: u64 = 5_000;

pub(super) fn perform(
    hands: &Hands,
    target: &Target,
    action: &TargetAction,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    match action {
        TargetAction::CheckRuns { version } => check_runs(hands, target, version, context),
        TargetAction::Stage { version, origin } => stage(hands, target, version, origin.as_deref(), context),
        TargetAction::Switch { version, back } => switch(hands, target, version, *back, context),
        TargetAction::NoteInstance => note(hands, target, context),
        TargetAction::Quiet => Ok(quiet(hands, target, context)),
        TargetAction::NewInstance { version, before, limit_ms, artifact, quiet, switched, file } => {
            let version = match (version, file) {
                (None, Some(file)) => Some(first_line(file)?),
                (version, _) => version.clone(),
            };
            let wanted = Wanted {
                version: version.as_deref(),
                artifact: artifact.as_deref(),
                before,
                quiet: quiet.as_ref(),
                switched: switched.as_ref(),
            };
            new_instance(hands, target, &wanted, *limit_ms, context)
        }
        _other => Err(Failure::new(FailureKind::Bug, "this is about no version")),
    }
}

fn check_runs(hands: &Hands, target: &Target, version: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let now = targets::running(&hands.io, target, context.stop)?;
    if now == version {
        return Ok(json!({ "version": version }));
    }
    let message = format!("{} runs {now} by now, and the plan was made for {version}", target.name);
    Err(Failure::new(FailureKind::Stale, message).hint("make a new plan and look at it again"))
}

fn stage(
    hands: &Hands,
    target: &Target,
    version: &str,
    origin: Option<&str>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let driver = driver(target)?;
    match driver.brings() {
        Some(Brings::Git) => return worktree(hands, target, version, context),
        Some(Brings::Folder) => return folder(target, version),
        None => {}
    }
    match driver {
        Driver::Fly { app } => {
            let known = targets::listed(&hands.io, target)?;
            match known.iter().any(|one| one.can_run && one.version == version) {
                true => Ok(json!({ "image": version })),
                false => {
                    let failure =
                        Failure::new(FailureKind::Refused, format!("{app} has no release with the image {version}"));
                    Err(failure.hint(format!("fly releases --app {app} --image")))
                }
            }
        }
        Driver::Docker { .. } | Driver::Compose { .. } => image(hands, target, version, origin, context),
        Driver::Vercel { scope, .. } => {
            let argv = target::vercel_inspect(version, scope.as_deref());
            let call = targets::call(&hands.io, target, &argv, command_limit(target))?;
            let exit = hands.io.exec.run(&call, None, context.stop).map_err(|error| {
                Failure::from_error(FailureKind::Outside, &error).while_doing(format!("`{call}` did not run"))
            })?;
            let said = target::Looked { out: exit.stdout_text(), err: exit.stderr_text() };
            let gone = |why: String| {
                let message = format!("{version} is no deployment that production can go back to");
                Failure::new(FailureKind::Refused, message).because(why).hint(format!("`{call}`"))
            };
            let found = target::vercel_deployment(&said).map_err(gone)?;
            match found.can_run() {
                true => Ok(json!({ "deployment": found.id })),
                false => Err(gone(format!("it is {}, and not built for production or not ready", found.state))),
            }
        }
        driver => {
            if let Some(argv) = driver.stage(version) {
                run(hands, target, &target.folder, &argv, context)?;
            }
            Ok(json!({ "version": version }))
        }
    }
}

/// A version that somebody else has put into its folder.
fn folder(target: &Target, version: &str) -> Result<Value, Failure> {
    let Some(there) = place(target, version) else {
        return Err(Failure::new(FailureKind::Bug, "there is no place for it"));
    };
    let is_full = files::is_folder(&there) && files::list_folder(&there).is_ok_and(|inside| !inside.is_empty());
    match is_full {
        true => Ok(json!({ "at": there })),
        false => {
            let message = format!("{} is not there any more, or empty", there.display());
            let failure = Failure::new(FailureKind::Refused, message);
            Err(failure.hint("bring that release back into its folder, or choose another: lifeboat releases list"))
        }
    }
}

/// An image that is on this host by its id, or is brought by its digest in a registry; then it has to be the same.
fn image(
    hands: &Hands,
    target: &Target,
    version: &str,
    origin: Option<&str>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let look = driver(target)?.stage(version).unwrap_or_default();
    let call = targets::call(&hands.io, target, &look, command_limit(target))?;
    let is_there = || {
        let exit = hands.io.exec.run(&call, None, context.stop).map_err(|error| {
            Failure::from_error(FailureKind::Outside, &error).while_doing(format!("`{call}` did not run"))
        })?;
        Ok::<_, Failure>(exit.ok() && exit.stdout_text().split_whitespace().next() == Some(version))
    };
    if is_there()? {
        return Ok(json!({ "image": version }));
    }
    if let Some(digest) = origin {
        run(hands, target, &target.folder, &target::docker_pull(digest), context)?;
        if is_there()? {
            return Ok(json!({ "image": version, "pulled": digest }));
        }
    }
    let message = format!("the image {version} of {} is not on this host any more", target.name);
    let failure = Failure::new(FailureKind::Refused, message);
    Err(match origin {
        Some(digest) => failure.because(format!("and what {digest} brings is another one")),
        None => failure.because("it was never pushed to a registry, so it cannot be fetched again"),
    }
    .hint("choose another release: lifeboat releases list; or load it: docker image load"))
}

pub(super) fn run(
    hands: &Hands,
    target: &Target,
    folder: &Path,
    argv: &[String],
    context: &Context<'_>,
) -> Result<String, Failure> {
    let call = targets::call(&hands.io, target, argv, command_limit(target))?.folder(folder);
    called_for(hands, target, &call, context)
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
    let git = |words: &[&str]| super::called(hands, &git::call(&target.folder, words, command_limit(target)), context);
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
        target
            .install
            .iter()
            .chain(&target.build)
            .try_for_each(|argv| run(hands, target, &at, argv, context).map(drop))?;
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

fn switch(hands: &Hands, target: &Target, version: &str, back: bool, context: &Context<'_>) -> Result<Value, Failure> {
    let driver = driver(target)?;
    let mut output = json!({ "version": version });
    match driver {
        Driver::Docker { container, options, command } => {
            let what = Container { name: container, options, command };
            switch_container(hands, target, &what, version, context)?;
        }
        Driver::SupabaseFunctions { project, functions, .. } => {
            let at = checked_out(target, version)?;
            let mut unchanged = Vec::new();
            for function in functions {
                let said = run(hands, target, &at, &target::supabase_deploy(project, function, &at), context)?;
                unchanged.extend(said.contains("No change found").then_some(function));
            }
            output["unchanged"] = json!(unchanged);
            lead_to(target, version)?;
        }
        driver => match driver.switch(version, back) {
            // A deploy that is repeated makes another instance of the same.
            Some(argv) => {
                if targets::selected(&hands.io, target, context.stop).ok().as_deref() != Some(version) {
                    run(hands, target, &target.folder, &argv, context)?;
                }
            }
            None => lead_to(target, version)?,
        },
    }
    let now = targets::selected(&hands.io, target, context.stop)?;
    match now == version {
        true => Ok(output),
        false => {
            let message = format!("{} was told to use {version} and uses {now}", target.name);
            Err(Failure::new(FailureKind::Outside, message).hint("look into what its switch command prints"))
        }
    }
}

pub(super) fn checked_out(target: &Target, version: &str) -> Result<std::path::PathBuf, Failure> {
    let at = place(target, version).filter(|at| files::is_folder(at));
    at.ok_or_else(|| Failure::new(FailureKind::Refused, format!("{version} of {} is not there", target.name)))
}

pub(super) fn lead_to(target: &Target, version: &str) -> Result<(), Failure> {
    let Some((_, current)) = driver(target)?.places() else { return Ok(()) };
    files::lead_link_to(&checked_out(target, version)?, current).map_err(|error| path_failure(&error))
}

/// A container as it is to be made.
struct Container<'a> {
    name: &'a str,
    options: &'a [String],
    command: &'a [String],
}

/// Frees the name and makes a container of the wanted image, which is not started yet. What was there keeps everything under
/// another name; what this very plan set aside comes back instead of being made anew.
fn switch_container(
    hands: &Hands,
    target: &Target,
    what: &Container<'_>,
    version: &str,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let say = |argv: &[String]| run(hands, target, &target.folder, argv, context);
    let is_there = |name: &str| targets::container_is_there(&hands.io, target, name, context.stop);
    let image = |name: &str| -> Result<Option<String>, Failure> {
        if !is_there(name)? {
            return Ok(None);
        }
        let said = say(&target::docker_inspect(&[name]))?;
        let found = target::docker_fields(&said).unwrap_or_default();
        Ok(found.into_iter().next().and_then(|one| one.version))
    };
    let plan = &context.operation.plan.id;
    let aside = |of: &str| format!("{}-{}-{plan}", what.name, of.trim_start_matches("sha256:").get(..12).unwrap_or(of));
    match image(what.name)? {
        Some(now) if now == version => return Ok(()),
        Some(now) => {
            let kept = aside(&now);
            say(&["docker", "update", "--restart", "no", what.name].map(str::to_owned))?;
            say(&target::docker_rename(what.name, &kept))?;
        }
        None => {}
    }
    let former = aside(version);
    if image(&former)?.as_deref() == Some(version) {
        say(&target::docker_rename(&former, what.name))?;
        let restart = restart_of(what.options);
        say(&["docker", "update", "--restart", &restart, what.name].map(str::to_owned))?;
    } else {
        say(&target::docker_create(what.name, what.options, version, what.command))?;
    }
    Ok(())
}

/// The restart policy among options of `docker create`.
fn restart_of(options: &[String]) -> String {
    let behind = options.windows(2).find(|pair| pair[0] == "--restart").map(|pair| pair[1].clone());
    behind
        .or_else(|| options.iter().find_map(|word| word.strip_prefix("--restart=").map(str::to_owned)))
        .unwrap_or_else(|| "no".to_owned())
}

/// What the running app and its platform tell of it; of an app that does not answer, nothing.
fn note(hands: &Hands, target: &Target, context: &Context<'_>) -> Result<Value, Failure> {
    let told = target.tells.as_ref().and_then(|tells| targets::told(&hands.io, target, tells).ok());
    let (version, instance) = told.map_or((None, None), |(version, instance)| (Some(version), instance));
    let runs = match target.driver {
        Some(_) => targets::instances(&hands.io, target, context.stop)?,
        None => Vec::new(),
    };
    Ok(json!({ "version": version, "instance": instance, "runs": runs, "at": hands.io.clock.now() }))
}

/// Whether nobody answers any more: nobody listens at its port of this host, or asking for it fails.
fn quiet(hands: &Hands, target: &Target, context: &Context<'_>) -> Value {
    let Some(tells) = &target.tells else { return json!({}) };
    let port = target.url.as_deref().and_then(targets::local_port);
    let look = || match port {
        Some(port) => match listeners::listeners(port) {
            Ok(found) if found.found.is_empty() && !found.unseen => Ok(()),
            Ok(_) => Err("somebody listens".to_owned()),
            Err(error) => Err(error.to_string()),
        },
        // Elsewhere a look cannot tell one that hangs from one that is gone.
        None => Err("it is not on this host".to_owned()),
    };
    let is_quiet = match (port, &tells.command) {
        (Some(_), None) => probes::until(hands, QUIET_LIMIT_MS, context, &look).is_ok(),
        _elsewhere => false,
    };
    json!({ "quiet": is_quiet })
}

/// What a new instance has to be.
struct Wanted<'a> {
    /// What it tells.
    version: Option<&'a str>,
    /// What its platform calls that version.
    artifact: Option<&'a str>,
    before: &'a StepId,
    quiet: Option<&'a StepId>,
    switched: Option<&'a StepId>,
}

/// What was noted before anything changed.
#[derive(Default)]
struct Before {
    instance: Option<String>,
    runs: Vec<Instance>,
    /// Whether its platform tells which instances there are.
    knows_instances: bool,
    at: Option<Timestamp>,
    /// Whether it was seen that nobody answered between the stop and the start.
    was_quiet: bool,
    /// Whether nothing was to be noted: what is taken back may never have been stopped, so its version is all that is asked.
    is_unasked: bool,
}

impl Before {
    fn read(wanted: &Wanted<'_>, knows_instances: bool, context: &Context<'_>) -> Before {
        let output = |step: &StepId| context.operation.output(step).cloned().unwrap_or(Value::Null);
        let noted = output(wanted.before);
        let unchanged: Vec<String> = wanted
            .switched
            .and_then(|step| serde_json::from_value(output(step)["unchanged"].clone()).ok())
            .unwrap_or_default();
        // A function that is the same in both versions is not deployed again.
        let is_same = |one: &Instance| unchanged.iter().any(|name| one.id.starts_with(&format!("{name}@")));
        let runs: Vec<Instance> = serde_json::from_value(noted["runs"].clone()).unwrap_or_default();
        Before {
            instance: noted["instance"].as_str().map(str::to_owned),
            runs: runs.into_iter().filter(|one| !is_same(one)).collect(),
            at: noted["at"].as_str().and_then(|at| at.parse().ok()),
            knows_instances,
            is_unasked: !context.operation.plan.steps().any(|step| step.id == *wanted.before),
            was_quiet: wanted.quiet.is_some_and(|step| output(step)["quiet"].as_bool() == Some(true)),
        }
    }

    /// Whether what answers was started since. Where nothing answered before, silence is no proof: what hung may answer again.
    fn is_over(&self, now: Option<&str>) -> Result<(), String> {
        match (&self.instance, now) {
            _any if self.is_unasked => Ok(()),
            (Some(former), Some(now)) if former == now => {
                Err(format!("the instance that answers ({now}) is the one from before: it was not started anew"))
            }
            (Some(_), Some(_)) => Ok(()),
            // Its platform has told that other instances run.
            _unknown if self.knows_instances || self.was_quiet => Ok(()),
            (_, Some(now)) => match (now.parse::<Timestamp>().ok(), self.at) {
                (Some(started), Some(noted)) if started > noted => Ok(()),
                (Some(started), Some(_)) => {
                    Err(format!("what answers was started at {started}, before this began: it was not started anew"))
                }
                _not_known => {
                    Err("it cannot be told whether what answers was started anew: nothing answered before".to_owned())
                }
            },
            // Nobody said where an instance is told: the version is all there is.
            (_, None) => Ok(()),
        }
    }
}

/// What a file in the folder of a version says of it.
fn first_line(file: &Path) -> Result<String, Failure> {
    let text = files::read_text(file).map_err(|error| path_failure(&error))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn new_instance(
    hands: &Hands,
    target: &Target,
    wanted: &Wanted<'_>,
    limit_ms: u64,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let knows_instances = driver(target)?.instances().is_some();
    let before = Before::read(wanted, knows_instances, context);
    let steady: RefCell<Option<Vec<Instance>>> = RefCell::new(None);
    let look = || {
        if knows_instances {
            let now = targets::instances(&hands.io, target, context.stop).map_err(|failure| failure.to_string())?;
            is_new(&before.runs, &now, wanted.artifact.unwrap_or_default())?;
            // What crashes at once is up for a moment, again and again.
            if steady.replace(Some(now.clone())).is_none_or(|former| former != now) {
                return Err("it has only just come up".to_owned());
            }
        }
        let Some(tells) = &target.tells else { return Ok(()) };
        let (found, instance) = targets::told(&hands.io, target, tells)?;
        if let Some(version) = wanted.version.filter(|version| *version != found) {
            return Err(format!("{} answers with version {found}, and {version} is wanted", tells.path));
        }
        before.is_over(instance.as_deref())
    };
    probes::until(hands, limit_ms, context, &look).map_err(|why| probes::not_working(target, why))?;
    note(hands, target, context)
}
