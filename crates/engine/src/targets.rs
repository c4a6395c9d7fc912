//! What runs an app's code, as it is at this moment: which version is in use, which instances there are. Asked when a plan is
//! made, and again by the hands just before they change it.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use lifeboat_io::{Exit, HttpRequest, Invocation, Io, Stop, ask_over_http, files, listens};
use lifeboat_model::{
    Driver, Failure, FailureKind, Target, Tells,
    target::{self, Instance, Looked, Question, tcp_place},
};
use serde_json::Value;

use crate::{questions, setup::Vaults};

/// How long a program may take to say what is in use.
const ASK_LIMIT: Duration = Duration::from_secs(60);
/// A passed variable that is shorter is no secret; hiding it would make texts unreadable.
const SECRET_LETTERS_MIN: usize = 6;
/// So many deployments of a list are looked at one by one.
const LOOKED_AT_MAX: usize = 20;

/// A version that a platform has.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// Its name there.
    pub version: String,
    /// What people may know it by.
    pub label: String,
    /// Whether it can be gone back to.
    pub can_run: bool,
}

/// Which version of a target is in use.
///
/// # Errors
/// Nobody said how it is told; nothing is in use; its program does not answer, or something else than expected.
pub(crate) fn running(io: &Io, target: &Target, stop: &Stop) -> Result<String, Failure> {
    let driver = driver(target)?;
    if let Driver::Compose { .. } = driver {
        // What its containers run; the tag may have been led elsewhere since they were made.
        let of: BTreeSet<String> = instances(io, target, stop)?.into_iter().filter_map(|one| one.version).collect();
        let mut of = of.into_iter();
        match (of.next(), of.next()) {
            (Some(only), None) => return Ok(only),
            (Some(one), Some(other)) => {
                let message = format!("containers of {} run {one} and {other}", target.name);
                let failure = Failure::new(FailureKind::Refused, message);
                return Err(failure.hint("bring them to one version first: docker compose up --detach"));
            }
            (None, _) => {}
        }
    }
    selected(io, target, stop)
}

/// Which version the next start will use.
///
/// # Errors
/// As [`running`].
pub(crate) fn selected(io: &Io, target: &Target, stop: &Stop) -> Result<String, Failure> {
    let driver = driver(target)?;
    let Some(argv) = driver.running() else { return linked(target, driver) };
    let said = asked(io, target, &argv, stop)?;
    let unreadable = |why: String| unreadable(&argv, why);
    let version = match driver {
        Driver::Fly { app } => target::fly_current(&fly_list(app, &said.out)?).map(str::to_owned).unwrap_or_default(),
        Driver::Vercel { .. } => target::vercel_deployment(&said).map_err(unreadable)?.id,
        Driver::Docker { .. } => {
            let found = target::docker_fields(&said.out).map_err(unreadable)?;
            found.into_iter().next().and_then(|one| one.version).unwrap_or_default()
        }
        Driver::Compose { .. } => first_word(&said.out),
        Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => first_line(&said.out),
        Driver::Pm2 { .. } | Driver::Systemd { .. } | Driver::SupabaseFunctions { .. } => first_line(&said.out),
    };
    match version.is_empty() {
        false => Ok(version),
        true => {
            let message = format!("`{}` names no version of {} that is in use", argv.join(" "), target.name);
            Err(Failure::new(FailureKind::Refused, message).hint("run it by hand to see what it says"))
        }
    }
}

fn first_line(said: &str) -> String {
    said.lines().next().unwrap_or_default().trim().to_owned()
}

fn first_word(said: &str) -> String {
    said.split_whitespace().next().unwrap_or_default().to_owned()
}

fn unreadable(argv: &[String], why: String) -> Failure {
    let failure = Failure::new(FailureKind::Outside, format!("what `{}` printed cannot be read", argv.join(" ")));
    failure.because(why).hint("run it by hand to see what it says")
}

/// What runs, one by one, where the platform tells it; else nothing.
///
/// # Errors
/// Its program does not answer, or something else than expected.
pub(crate) fn instances(io: &Io, target: &Target, stop: &Stop) -> Result<Vec<Instance>, Failure> {
    let driver = driver(target)?;
    let Some(mut argv) = driver.instances() else { return Ok(Vec::new()) };
    if let Driver::Docker { container, .. } = driver
        && !container_is_there(io, target, container, stop)?
    {
        return Ok(Vec::new());
    }
    let mut said = asked(io, target, &argv, stop)?;
    if let Driver::Compose { .. } = driver {
        let ids: Vec<&str> = said.out.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        argv = target::docker_inspect(&ids);
        said = asked(io, target, &argv, stop)?;
    }
    let found = driver.read_instances(&said).map_err(|why| unreadable(&argv, why))?;
    Ok(found.into_iter().map(|one| with_version(target, one)).collect())
}

/// A process that lies in the folder of a version runs it, whatever the link says by now.
fn with_version(target: &Target, mut one: Instance) -> Instance {
    let places = target.driver.as_ref().and_then(Driver::places);
    if let (None, Some(process), Some((releases, _))) = (&one.version, one.process, places) {
        let at = files::link_target(&PathBuf::from(format!("/proc/{process}/cwd")));
        let inside = at.and_then(|at| Some(at.strip_prefix(files::resolved(releases)).ok()?.to_owned()));
        one.version = inside.and_then(|inside| Some(inside.iter().next()?.to_string_lossy().into_owned()));
    }
    one
}

/// Whether there is a container of that name, running or not.
pub(crate) fn container_is_there(io: &Io, target: &Target, name: &str, stop: &Stop) -> Result<bool, Failure> {
    Ok(!asked(io, target, &target::docker_containers(name), stop)?.out.trim().is_empty())
}

/// Where a version is to be had when it is not on this host any more.
pub(crate) fn origin(io: &Io, target: &Target, version: &str) -> Option<String> {
    let driver @ (Driver::Docker { .. } | Driver::Compose { .. }) = target.driver.as_ref()? else { return None };
    let said = asked(io, target, &driver.stage(version)?, &Stop::default()).ok()?;
    said.out.split_whitespace().nth(1).map(str::to_owned)
}

/// The versions that the platform of a target has, newest first; of folders, those that lie there.
///
/// # Errors
/// Its program does not answer, or something else than expected.
pub(crate) fn listed(io: &Io, target: &Target) -> Result<Vec<Listed>, Failure> {
    let (driver, stop) = (driver(target)?, Stop::default());
    let Some(argv) = driver.list() else { return folders(driver) };
    let said = asked(io, target, &argv, &stop)?;
    let lines = || said.out.lines().map(str::trim).filter(|line| !line.is_empty());
    match driver {
        Driver::Fly { app } => {
            let all = fly_list(app, &said.out)?.into_iter().map(|one| Listed {
                version: one.image,
                label: format!("v{}", one.number),
                can_run: one.is_complete,
            });
            Ok(all.collect())
        }
        Driver::Vercel { scope, .. } => {
            let mut found = Vec::new();
            for url in target::vercel_urls(&said).into_iter().take(LOOKED_AT_MAX) {
                let call = target::vercel_inspect(&url, scope.as_deref());
                // One that went wrong ends with a code of its own, and is shown all the same.
                let shown = looked(&ran(io, target, &call, &stop)?);
                let one = target::vercel_deployment(&shown).map_err(|why| unreadable(&call, why))?;
                found.push(Listed { can_run: one.can_run(), version: one.id, label: url });
            }
            Ok(found)
        }
        Driver::Docker { .. } | Driver::Compose { .. } => Ok(lines()
            .map(|line| {
                let (id, label) = line.split_once(' ').unwrap_or((line, ""));
                Listed { version: id.to_owned(), label: label.to_owned(), can_run: true }
            })
            .collect()),
        Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } | Driver::Pm2 { .. } => Ok(Vec::new()),
        Driver::Systemd { .. } | Driver::SupabaseFunctions { .. } => Ok(Vec::new()),
    }
}

fn folders(driver: &Driver) -> Result<Vec<Listed>, Failure> {
    let Some((releases, _)) = driver.places().filter(|(releases, _)| files::is_folder(releases)) else {
        return Ok(Vec::new());
    };
    let failed = |error: lifeboat_io::PathError| Failure::from_error(FailureKind::Outside, &error);
    let all = files::list_folder(releases).map_err(failed)?.into_iter().filter(|path| files::is_folder(path));
    let name = |path: PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(all.map(|path| Listed { label: path.display().to_string(), version: name(path), can_run: true }).collect())
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
        let hint = format!("write driver = into its table in lifeboat.toml; there are {}", Driver::WORDS.join(", "));
        Failure::new(FailureKind::Usage, message).hint(hint)
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
pub(crate) fn answers(io: &Io, vaults: &dyn Vaults, target: &Target) -> bool {
    let tells = target.tells.as_ref().is_none_or(|tells| told(io, target, tells).is_ok());
    let paths = target.url.as_ref().is_none_or(|url| target.probes.iter().all(|one| probe(url, one).is_ok()));
    let put = |question: &Question| questions::ask(vaults, question, &Stop::default()).is_ok();
    tells && paths && target.questions.iter().all(put)
}

/// How long a port may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Asks one probe of a target that answers at `url`: a path there has to answer with 2xx, a place (`tcp://HOST:PORT`) to accept a
/// connection. Why not, in a few words.
pub(crate) fn probe(url: &str, probe: &str) -> Result<(), String> {
    if let Some((host, port)) = tcp_place(probe) {
        return listens(host, port, CONNECT_LIMIT).map_err(|why| format!("{probe} accepts no connection: {why}"));
    }
    let at = format!("{}{probe}", url.trim_end_matches('/'));
    let answer = ask_over_http(&HttpRequest { method: "GET", url: &at, headers: &[], body: None })?;
    match (200..300).contains(&answer.status) {
        true => Ok(()),
        false => Err(format!("{probe} answers with {}", answer.status)),
    }
}

/// The version and the instance that answer.
pub(crate) fn told(io: &Io, target: &Target, tells: &Tells) -> Result<(String, Option<String>), String> {
    let (from, body) = match &tells.command {
        Some(argv) => {
            let said = asked(io, target, argv, &Stop::default()).map_err(|failure| failure.message)?;
            (argv.join(" "), said.out.into_bytes())
        }
        None => {
            let url = target.url.as_deref().unwrap_or_default().trim_end_matches('/');
            let at = format!("{url}{}", tells.path);
            let answer = ask_over_http(&HttpRequest { method: "GET", url: &at, headers: &[], body: None })?;
            if !(200..300).contains(&answer.status) {
                return Err(format!("{} answers with {}", tells.path, answer.status));
            }
            (tells.path.clone(), answer.body)
        }
    };
    let body: Value = serde_json::from_slice(&body).map_err(|_| format!("{from} answers with no JSON"))?;
    let text = |place: &str| match body.pointer(place)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _other => None,
    };
    let version = text(&tells.version).ok_or_else(|| format!("{from} tells no version at {}", tells.version))?;
    Ok((version, tells.instance.as_deref().and_then(text)))
}

/// A call of a program of this target: in its folder, with the variables that it is given by name.
///
/// # Errors
/// There are no words in it.
pub(crate) fn call(io: &Io, target: &Target, argv: &[String], limit: Duration) -> Result<Invocation, Failure> {
    let Some((program, args)) = argv.split_first() else {
        return Err(Failure::new(FailureKind::Usage, "a configured command has no words"));
    };
    Ok(with_passed(io, target, Invocation::new(program, limit).args(args).folder(&target.folder)))
}

/// A call with the variables that this target's programs are given by name: git needs an agent, or a proxy.
pub(crate) fn with_passed(io: &Io, target: &Target, call: Invocation) -> Invocation {
    passed(io, target).into_iter().fold(call, |call, (name, value)| call.env(name, value))
}

/// What its programs get by name from our own environment.
fn passed(io: &Io, target: &Target) -> Vec<(String, std::ffi::OsString)> {
    target.passes().into_iter().filter_map(|name| Some((name.to_owned(), io.env.var(name)?))).collect()
}

/// A text without the values that its programs were given.
pub(crate) fn hide(io: &Io, target: &Target, text: &str) -> String {
    let values = passed(io, target).into_iter().filter_map(|(name, value)| Some((name, value.into_string().ok()?)));
    let long = values.filter(|(_, value)| value.len() >= SECRET_LETTERS_MIN);
    long.fold(text.to_owned(), |text, (name, value)| text.replace(&value, &format!("<{name}>")))
}

fn ran(io: &Io, target: &Target, argv: &[String], stop: &Stop) -> Result<Exit, Failure> {
    let limit = target.command_ms.map_or(ASK_LIMIT, |limit| ASK_LIMIT.min(Duration::from_millis(limit)));
    let call = call(io, target, argv, limit)?;
    io.exec
        .run(&call, None, stop)
        .map_err(|error| Failure::from_error(FailureKind::Outside, &error).while_doing(format!("`{call}` did not run")))
}

fn looked(exit: &Exit) -> Looked {
    Looked { out: exit.stdout_text(), err: exit.stderr_text() }
}

fn asked(io: &Io, target: &Target, argv: &[String], stop: &Stop) -> Result<Looked, Failure> {
    let exit = ran(io, target, argv, stop)?;
    match exit.ok() {
        true => Ok(looked(&exit)),
        // What it printed may hold secrets of the platform's account, and nobody here knows which.
        false => {
            let call = call(io, target, argv, ASK_LIMIT)?;
            let failure = Failure::new(FailureKind::Outside, format!("`{call}` failed with code {}", exit.code));
            Err(failure.hint("run it by hand to see why"))
        }
    }
}

/// The port of an address on this host.
pub(crate) fn local_port(url: &str) -> Option<u16> {
    let place = url.strip_prefix("http://")?.split('/').next()?;
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (place, 80),
    };
    let host = host.trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    is_here.then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_of_this_host_can_be_looked_at() {
        for (url, wanted) in [
            ("http://127.0.0.1:3002", Some(3002)),
            ("http://localhost:3002/api/", Some(3002)),
            ("http://localhost", Some(80)),
            ("http://[::1]:8080/", Some(8080)),
            ("http://[::1]", Some(80)),
            ("https://localhost:3002", None),
            ("http://app.internal:3002", None),
            ("http://10.0.0.7:3002", None),
            ("http://localhost:many", None),
            ("nonsense", None),
        ] {
            assert_eq!(local_port(url), wanted, "{url}");
        }
    }
}
