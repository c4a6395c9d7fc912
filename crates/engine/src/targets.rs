//! What runs an app's code, as it is at this moment: which version is in use. Asked when a plan is made, and again by the
//! hands just before they change it.

use std::{path::PathBuf, time::Duration};

use lifeboat_io::{Exec, HttpRequest, Invocation, Stop, ask_over_http, files};
use lifeboat_model::{Driver, Failure, FailureKind, Target, Tells, target};
use serde_json::Value;

/// How long a program may take to say what is in use.
const ASK_LIMIT: Duration = Duration::from_secs(60);

/// Which version of a target is in use.
///
/// # Errors
/// Nobody said how it is told; nothing is in use; its program does not answer, or something else than expected.
pub(crate) fn running(exec: &dyn Exec, target: &Target, stop: &Stop) -> Result<String, Failure> {
    let driver = driver(target)?;
    let Some(argv) = driver.running() else { return linked(target, driver) };
    let said = asked(exec, target, &argv, stop)?;
    let version = match driver {
        Driver::Fly { app } => target::fly_current(&fly_list(app, &said)?).map(str::to_owned).unwrap_or_default(),
        Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => {
            said.lines().next().unwrap_or_default().trim().to_owned()
        }
    };
    match version.is_empty() {
        false => Ok(version),
        true => {
            let message = format!("`{}` names no version of {} that is in use", argv.join(" "), target.name);
            Err(Failure::new(FailureKind::Refused, message).hint("run it by hand to see what it says"))
        }
    }
}

/// The releases that Fly.io lists, newest first.
pub(crate) fn fly_releases(exec: &dyn Exec, target: &Target) -> Result<Vec<target::FlyRelease>, Failure> {
    let (Driver::Fly { app }, Some(argv)) = (driver(target)?, driver(target)?.running()) else { return Ok(Vec::new()) };
    fly_list(app, &asked(exec, target, &argv, &Stop::default())?)
}

fn fly_list(app: &str, said: &str) -> Result<Vec<target::FlyRelease>, Failure> {
    target::fly_releases(said).map_err(|why| {
        let failure = Failure::new(FailureKind::Outside, format!("the list of releases of {app} cannot be read"));
        failure.because(why).hint(format!("look by hand: fly releases --app {app} --image"))
    })
}

/// How versions of a target are brought and put in use.
///
/// # Errors
/// Nobody said it.
pub(crate) fn driver(target: &Target) -> Result<&Driver, Failure> {
    target.driver.as_ref().ok_or_else(|| {
        let message = format!("nobody has said how versions of {} are put in use", target.name);
        Failure::new(FailureKind::Usage, message)
            .hint("write driver = \"release-dir\", \"git\", \"command\" or \"fly\" into its table in lifeboat.toml")
    })
}

/// Where a version of a target lies, when it has a folder of its own.
pub(crate) fn place(target: &Target, version: &str) -> Option<PathBuf> {
    let (releases, _current) = target.driver.as_ref()?.places()?;
    Some(releases.join(version))
}

/// The version that the link leads to.
fn linked(target: &Target, driver: &Driver) -> Result<String, Failure> {
    let Some((releases, current)) = driver.places() else {
        return Err(Failure::new(FailureKind::Bug, "this driver has no link"));
    };
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    let Some(to) = files::link_target(current) else {
        let failure = refused(format!("{} is no link, so nothing tells which version is in use", current.display()));
        let example = releases.join("VERSION");
        return Err(failure.hint(format!("ln -s {} {}", example.display(), current.display())));
    };
    let to = files::parent(current).join(to);
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned());
    match (name, files::resolved(files::parent(&to)) == files::resolved(releases)) {
        (Some(name), true) => Ok(name),
        _elsewhere => {
            let message =
                format!("{} leads to {}, which is not in {}", current.display(), to.display(), releases.display());
            Err(refused(message).hint(format!("say in lifeboat.toml where the releases of {} are", target.name)))
        }
    }
}

/// Whether a target answers as it is: all that somebody could ask.
pub(crate) fn answers(target: &Target) -> bool {
    let tells = target.tells.as_ref().is_none_or(|tells| told(target, tells).is_ok());
    let Some(url) = &target.url else { return tells };
    let url = url.trim_end_matches('/');
    let is_well = |path: &String| {
        let at = format!("{url}{path}");
        let answer = ask_over_http(&HttpRequest { method: "GET", url: &at, headers: &[], body: None });
        answer.is_ok_and(|answer| (200..300).contains(&answer.status))
    };
    tells && target.probes.iter().all(is_well)
}

/// The version and the instance that answer.
pub(crate) fn told(target: &Target, tells: &Tells) -> Result<(String, Option<String>), String> {
    let url = target.url.as_deref().unwrap_or_default().trim_end_matches('/');
    let at = format!("{url}{}", tells.path);
    let answer = ask_over_http(&HttpRequest { method: "GET", url: &at, headers: &[], body: None })?;
    if !(200..300).contains(&answer.status) {
        return Err(format!("{} answers with {}", tells.path, answer.status));
    }
    let body: Value =
        serde_json::from_slice(&answer.body).map_err(|_| format!("{} answers with no JSON", tells.path))?;
    let text = |place: &str| match body.pointer(place)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _other => None,
    };
    let version =
        text(&tells.version).ok_or_else(|| format!("{} tells no version at {}", tells.path, tells.version))?;
    Ok((version, tells.instance.as_deref().and_then(text)))
}

fn asked(exec: &dyn Exec, target: &Target, argv: &[String], stop: &Stop) -> Result<String, Failure> {
    let Some((program, args)) = argv.split_first() else {
        return Err(Failure::new(FailureKind::Usage, "a configured command has no words"));
    };
    let call = Invocation::new(program, ASK_LIMIT).args(args).folder(&target.folder);
    let exit = exec.run(&call, None, stop).map_err(|error| {
        Failure::from_error(FailureKind::Outside, &error).while_doing(format!("`{call}` did not run"))
    })?;
    match exit.ok() {
        true => Ok(exit.stdout_text()),
        // What it printed may hold secrets of the platform's account, and nobody here knows which.
        false => {
            let failure = Failure::new(FailureKind::Outside, format!("`{call}` failed with code {}", exit.code));
            Err(failure.hint("run it by hand to see why"))
        }
    }
}
