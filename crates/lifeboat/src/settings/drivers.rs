//! Drivers, as settings say them: each wants words of its own, and gets nothing that it has no use for.

use std::path::{Path, PathBuf};

use lifeboat_model::{Brings, Driver, EnvBinding, Failure, FailureKind};
use schemars::JsonSchema;
use serde::Deserialize;

use super::targets::TargetSettings;

/// How another version is put in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DriverSettings {
    /// By commands of yours.
    Command,
    /// A folder of releases and a link to one of them.
    ReleaseDir,
    /// A worktree per commit and a link to one of them.
    Git,
    /// A Fly.io app.
    Fly,
    /// A process of pm2.
    Pm2,
    /// A unit of systemd.
    Systemd,
    /// A container of Docker.
    Docker,
    /// A service of Docker Compose.
    Compose,
    /// A Vercel project.
    Vercel,
    /// Edge functions of a Supabase project.
    SupabaseFunctions,
}

/// How versions come into folders of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BringsSettings {
    /// As worktrees of the repository.
    Git,
    /// By somebody else.
    Folder,
}

/// When a target gets the values of its variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EnvBindingSettings {
    /// When it is built.
    Build,
    /// At each start.
    Start,
}

impl From<EnvBindingSettings> for EnvBinding {
    fn from(said: EnvBindingSettings) -> Self {
        match said {
            EnvBindingSettings::Build => EnvBinding::Build,
            EnvBindingSettings::Start => EnvBinding::Start,
        }
    }
}

/// What is said for a driver.
///
/// # Errors
/// Something is missing that the driver needs, or a secret would be a word of a command.
pub fn resolve(
    name: &str,
    what: &TargetSettings,
    path: &dyn Fn(&PathBuf) -> PathBuf,
) -> Result<Option<Driver>, Failure> {
    let missing = |key: &str, example: &str| {
        let failure = Failure::new(FailureKind::Usage, format!("targets.{name} has a driver and no {key}"));
        failure.hint(format!("write {key} = {example} into its table"))
    };
    let Some(driver) = what.driver else { return Ok(None) };
    let text = |said: &Option<String>, key: &str, example: &str| said.clone().ok_or_else(|| missing(key, example));
    let places = || {
        let releases = what.releases.as_ref().ok_or_else(|| missing("releases", "\"./releases\""))?;
        let current = what.current.as_ref().ok_or_else(|| missing("current", "\"./current\""))?;
        Ok::<_, Failure>((path(releases), path(current)))
    };
    let brings = match what.versions {
        Some(BringsSettings::Folder) => Brings::Folder,
        Some(BringsSettings::Git) | None => Brings::Git,
    };
    Ok(Some(match driver {
        DriverSettings::Command => Driver::Command {
            running: what.running.clone().ok_or_else(|| missing("running", "[\"cat\", \"VERSION\"]"))?,
            stage: what.stage.clone(),
            switch: what.switch.clone().ok_or_else(|| missing("switch", "[\"./deploy\", \"{version}\"]"))?,
        },
        DriverSettings::ReleaseDir => {
            let (releases, current) = places()?;
            Driver::ReleaseDir { releases, current }
        }
        DriverSettings::Git => {
            let (releases, current) = places()?;
            Driver::Git { releases, current }
        }
        DriverSettings::Fly => Driver::Fly { app: text(&what.app, "app", "\"shop-production\"")? },
        DriverSettings::Pm2 => {
            let (releases, current) = places()?;
            let script = text(&what.script, "script", "\"server.js\"")?;
            if Path::new(&script).is_absolute() {
                let message = format!("targets.{name}.script is {script:?}, which lies in no version");
                let failure = Failure::new(FailureKind::Usage, message);
                return Err(failure.hint("name it as it lies in the folder of a version: script = \"server.js\""));
            }
            let process = text(&what.process, "process", "\"shop\"")?;
            Driver::Pm2 { process, script: script.into(), brings, releases, current }
        }
        DriverSettings::Systemd => {
            let (releases, current) = places()?;
            let unit = text(&what.unit, "unit", "\"shop.service\"")?;
            Driver::Systemd { unit, user: what.user.unwrap_or(false), brings, releases, current }
        }
        DriverSettings::Docker => {
            let container = text(&what.container, "container", "\"shop\"")?;
            let options = what.options.clone().unwrap_or_default();
            docker_options(name, what, &options, path)?;
            Driver::Docker { container, options, command: what.command.clone().unwrap_or_default() }
        }
        DriverSettings::Compose => Driver::Compose {
            file: path(what.file.as_ref().ok_or_else(|| missing("file", "\"./compose.yml\""))?),
            service: text(&what.service, "service", "\"web\"")?,
            image: text(&what.image, "image", "\"shop:current\"")?,
        },
        DriverSettings::Vercel => Driver::Vercel {
            project: text(&what.project, "project", "\"shop\"")?,
            domain: text(&what.domain, "domain", "\"shop.example.com\"")?,
            scope: what.scope.clone(),
        },
        DriverSettings::SupabaseFunctions => {
            let (releases, current) = places()?;
            let functions = what.functions.clone().filter(|functions| !functions.is_empty());
            Driver::SupabaseFunctions {
                project: text(&what.project, "project", "\"abcdefghijklmnopqrst\"")?,
                functions: functions.ok_or_else(|| missing("functions", "[\"hello\"]"))?,
                releases,
                current,
            }
        }
    }))
}

/// Options that would show a secret to everybody on the host, take the name away, or read other variables than those that are
/// kept and brought back.
fn docker_options(
    name: &str,
    what: &TargetSettings,
    options: &[String],
    path: &dyn Fn(&PathBuf) -> PathBuf,
) -> Result<(), Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let value = |at: usize, long: &str, short: &str| -> Option<String> {
        let word = options.get(at)?;
        match word == long || word == short {
            true => options.get(at + 1).cloned(),
            false => word.strip_prefix(&format!("{long}=")).map(str::to_owned),
        }
    };
    for (at, word) in options.iter().map(String::as_str).enumerate() {
        if let Some(variable) = value(at, "--env", "-e").filter(|variable| variable.contains('=')) {
            let variable = variable.split('=').next().unwrap_or_default().to_owned();
            let failure =
                usage(format!("targets.{name}.options gives {variable} a value, which everybody on the host can read"));
            return Err(failure.hint("write it into a file: options = [\"--env-file\", \"./.env\"]"));
        }
        if let (Some(file), Some(kept)) = (value(at, "--env-file", "--env-file"), &what.env_file)
            && path(&PathBuf::from(&file)) != path(kept)
        {
            let message = format!("targets.{name} is started with {file}, and its variables are in {}", kept.display());
            return Err(usage(message).hint("name one and the same file in options and in env_file"));
        }
        if word == "--name" || word.starts_with("--name=") || word == "--rm" || word == "--detach" || word == "-d" {
            let failure =
                usage(format!("targets.{name}.options holds {word}, which Lifeboat says by itself or must not"));
            return Err(failure.hint("leave it out; the container's name is container ="));
        }
    }
    Ok(())
}
