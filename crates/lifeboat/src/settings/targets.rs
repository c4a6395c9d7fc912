//! Targets: what runs an app's code, as settings say it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lifeboat_model::{
    Driver, Failure, FailureKind, Resource, ResourceKind, ResourceName, Target, Tells, Trial,
    target::{Asked, Question, tcp_place},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::drivers::{self, BringsSettings, DriverSettings, EnvBindingSettings};
use crate::outside;

/// What runs the app's code: a folder under git, and the commands that stop and start it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSettings {
    /// The folder; commands run in it. Default: this file's folder.
    #[schemars(extend("x-kind" = "path"))]
    pub folder: Option<PathBuf>,
    /// The command that stops it, as a list of words. Drivers that know how need none.
    #[schemars(extend("x-kind" = "command"))]
    pub stop: Option<Vec<String>>,
    /// The command that starts it and comes back. Drivers that know how need none.
    #[schemars(extend("x-kind" = "command"))]
    pub start: Option<Vec<String>>,
    /// How a rollback puts another version in use: `release-dir`, `git`, `command`, `pm2`, `systemd`, `docker`, `compose`, `fly`,
    /// `vercel` or `supabase-functions`.
    #[schemars(extend("x-kind" = "choice"))]
    pub driver: Option<DriverSettings>,
    /// Versions in folders of their own: the folder in which they are.
    #[schemars(extend("x-kind" = "path"))]
    pub releases: Option<PathBuf>,
    /// Versions in folders of their own: the link to the one in use, from which the app is started.
    #[schemars(extend("x-kind" = "path"))]
    pub current: Option<PathBuf>,
    /// `pm2`, `systemd`: how versions come into their folders, `git` or `folder`. Default: `git`.
    #[schemars(extend("x-kind" = "choice"))]
    pub versions: Option<BringsSettings>,
    /// `command`: prints the version in use.
    #[schemars(extend("x-kind" = "command"))]
    pub running: Option<Vec<String>>,
    /// `command`: brings a version; `{version}` stands for it.
    #[schemars(extend("x-kind" = "command"))]
    pub stage: Option<Vec<String>>,
    /// `command`: puts a version in use; `{version}` stands for it.
    #[schemars(extend("x-kind" = "command"))]
    pub switch: Option<Vec<String>>,
    /// `fly`: the app's name there.
    pub app: Option<String>,
    /// `pm2`: the name of the process.
    pub process: Option<String>,
    /// `pm2`: the script or the ecosystem file, in the folder of a version.
    pub script: Option<String>,
    /// `systemd`: the unit.
    pub unit: Option<String>,
    /// `systemd`: whether it is a unit of this user's own manager. Default: no.
    pub user: Option<bool>,
    /// `docker`: the container's name.
    pub container: Option<String>,
    /// `docker`: options of `docker create`: ports, volumes, `--env-file`.
    #[schemars(extend("x-kind" = "command"))]
    pub options: Option<Vec<String>>,
    /// `docker`: what stands behind the image.
    #[schemars(extend("x-kind" = "command"))]
    pub command: Option<Vec<String>>,
    /// `compose`: its file.
    #[schemars(extend("x-kind" = "path"))]
    pub file: Option<PathBuf>,
    /// `compose`: the service.
    pub service: Option<String>,
    /// `compose`: the tag of the image that the file names for it.
    pub image: Option<String>,
    /// `vercel`: the project; `supabase-functions`: its reference.
    pub project: Option<String>,
    /// `vercel`: the domain that production answers at.
    pub domain: Option<String>,
    /// `vercel`: the team.
    pub scope: Option<String>,
    /// `supabase-functions`: the functions, in the order in which they are deployed.
    pub functions: Option<Vec<String>>,
    /// Variables of the environment that its programs get, by name: tokens of the platform.
    #[serde(default)]
    pub pass: Vec<String>,
    /// When it gets the values of its variables: at each `start`, or at its `build`, so that a restart changes none. Default: as
    /// the driver has it.
    #[schemars(extend("x-kind" = "choice"))]
    pub env_binding: Option<EnvBindingSettings>,
    /// `git`: the command that builds a fresh checkout, after `install`.
    #[schemars(extend("x-kind" = "command"))]
    pub build: Option<Vec<String>>,
    /// The command that tries the running app after a deploy; it fails when the app does not do what it is for.
    #[schemars(extend("x-kind" = "command"))]
    pub smoke: Option<Vec<String>>,
    /// How long it may take to answer after a start. Default: one minute.
    pub answer_within: Option<super::Span>,
    /// How long a program that is called for it may take - `fly deploy`, `install`, `build`, `smoke` - before it is ended with all that it
    /// has started. Default: 15 minutes.
    pub command_within: Option<super::Span>,
    /// How the running app tells its version, so that a new instance can be told from the former one.
    pub tells: Option<TellsSettings>,
    /// The command that brings what the code needs, after each change of its version.
    #[schemars(extend("x-kind" = "command"))]
    pub install: Option<Vec<String>>,
    /// The command that brings the database to the code's schema, after a restore.
    #[schemars(extend("x-kind" = "command"))]
    pub migrate: Option<Vec<String>>,
    /// The command that tries a fresh checkout with the restored data before it goes live; it fails when the app does not
    /// start.
    #[schemars(extend("x-kind" = "command"))]
    pub rehearse: Option<Vec<String>>,
    /// The version that is known to be good: a tag, a branch or a commit.
    pub stable: Option<String>,
    /// The git repository that others take the code from. Default: `origin`.
    pub remote: Option<String>,
    /// The branch there that is built and deployed when somebody pushes to it. Default: the repository's own.
    pub branch: Option<String>,
    /// The app's file of variables, in which level 3 sets `ENABLE_SUPABASE=false`; with `fly`, `vercel` and `supabase-functions`, what the
    /// platform is to have.
    #[schemars(extend("x-kind" = "path"))]
    pub env_file: Option<PathBuf>,
    /// Where it answers: `http://127.0.0.1:3002`.
    pub url: Option<String>,
    /// Paths that must answer with 2xx after a start, and places that must accept connections: `tcp://127.0.0.1:6379`.
    #[serde(default)]
    pub probes: Vec<String>,
    /// Questions to databases that must be answered as expected, wherever the probes are asked.
    #[serde(default)]
    #[schemars(extend("x-names" = "a question"))]
    pub sql_probes: BTreeMap<String, SqlProbeSettings>,
    /// Its log, in which new lines are looked for errors.
    #[schemars(extend("x-kind" = "path"))]
    pub log: Option<PathBuf>,
    /// A record that level 5 makes through the app and takes away again.
    pub trial: Option<TrialSettings>,
}

/// A question to a database that only reads; its first value has to be true, or what is expected.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlProbeSettings {
    /// The question: one statement.
    pub sql: String,
    /// Which resource it asks. Default: the only database.
    pub resource: Option<String>,
    /// What the first value has to be. Default: true.
    pub equals: Option<String>,
    /// How long the answer may take. Default: 5 seconds.
    pub within: Option<super::Span>,
}

/// How the running app tells which version and which instance it is: an answer in JSON.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TellsSettings {
    /// The path that answers.
    pub path: String,
    /// A command that prints the answer instead: `curl`, where it is only to be had over https.
    #[schemars(extend("x-kind" = "command"))]
    pub command: Option<Vec<String>>,
    /// Where the version stands in the answer, as a JSON pointer: `/version`.
    pub version: String,
    /// Where something stands that differs from start to start: `/started_at`.
    pub instance: Option<String>,
    /// A file in the folder of each version that holds the version it tells: `VERSION`.
    pub file: Option<String>,
}

/// A record that is made through the app and taken away again.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialSettings {
    /// Where somebody logs in; the answer holds a token.
    pub login: String,
    /// The variable, in the environment or in `env_file`, that holds the address to log in with.
    #[schemars(extend("x-kind" = "variable"))]
    pub email_env: String,
    /// The variable that holds the password.
    #[schemars(extend("x-kind" = "variable"))]
    pub password_env: String,
    /// Where a record is made with POST and, with its id behind it, taken away with DELETE.
    pub create: String,
    /// The record, as JSON.
    pub body: String,
    /// The table it lands in.
    pub table: String,
}

/// A target as it is in effect, and its values for people.
pub type Found = (Target, Vec<(String, String)>);

/// Decides what is in effect for a target.
///
/// # Errors
/// Its name or its address cannot be one; it asks what is no database.
pub fn resolve(name: &str, what: &TargetSettings, folder: &Path, resources: &[Resource]) -> Result<Found, Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let path = |path: &PathBuf| outside::plain_path(&folder.join(path));
    let own = what.folder.as_ref().map_or_else(|| outside::plain_path(folder), path);
    if let Some(url) = what.url.as_ref().filter(|url| !url.starts_with("http://")) {
        let failure = usage(format!("targets.{name}.url is {url:?}, and is asked on this host over http://"));
        return Err(failure.hint("url = \"http://127.0.0.1:3002\", for example"));
    }
    if let Some(path) = what.probes.iter().find(|path| !path.starts_with('/') && tcp_place(path).is_none()) {
        let failure = usage(format!("targets.{name}.probes names {path:?}, which is neither a path nor a place"));
        return Err(failure.hint("probes = [\"/api/health\", \"tcp://127.0.0.1:6379\"], for example"));
    }
    let driver = drivers::resolve(name, what, &path)?;
    let needs_commands = !driver.as_ref().is_some_and(Driver::is_by_itself);
    let command = |said: &Option<Vec<String>>, word: &str| match said {
        Some(argv) => Ok(argv.clone()),
        None if needs_commands => {
            let failure = usage(format!("targets.{name} has no {word}"));
            Err(failure.hint(format!("{word} = [\"systemctl\", \"{word}\", \"shop\"], for example")))
        }
        None => Ok(Vec::new()),
    };
    let tells = match &what.tells {
        Some(tells) if what.url.is_none() && tells.command.is_none() => {
            let failure = usage(format!("targets.{name}.tells needs to know where {name} answers"));
            return Err(failure.hint("url = \"http://127.0.0.1:3002\", for example"));
        }
        Some(tells) => {
            let pointers = [Some(&tells.version), tells.instance.as_ref()];
            if let Some(wrong) = pointers.into_iter().flatten().find(|pointer| !pointer.starts_with('/')) {
                let failure = usage(format!("targets.{name}.tells says {wrong:?}, which is no JSON pointer"));
                return Err(failure.hint("version = \"/version\", for example"));
            }
            let (path, version, instance) = (tells.path.clone(), tells.version.clone(), tells.instance.clone());
            Some(Tells { path, command: tells.command.clone(), version, instance, file: tells.file.clone() })
        }
        None => None,
    };
    let trial = what.trial.as_ref().map(|trial| Trial {
        login: trial.login.clone(),
        email_env: trial.email_env.clone(),
        password_env: trial.password_env.clone(),
        create: trial.create.clone(),
        body: trial.body.clone(),
        table: trial.table.clone(),
    });
    if let Some(wrong) = what.pass.iter().find(|name| name.is_empty() || name.contains(['=', ' '])) {
        // Its value would be a secret in the settings.
        let shown = wrong.split('=').next().unwrap_or_default();
        let failure = usage(format!("targets.{name}.pass names {shown:?} with more than a name"));
        return Err(failure.hint("pass = [\"FLY_API_TOKEN\"], for example; its value comes from the environment"));
    }
    let target = Target {
        name: ResourceName::new(name).map_err(|error| usage(error.to_string()))?,
        folder: own,
        env_file: what.env_file.as_ref().map(path),
        stable: what.stable.clone(),
        remote: what.remote.clone().unwrap_or_else(|| "origin".to_owned()),
        branch: what.branch.clone(),
        install: what.install.clone(),
        migrate: what.migrate.clone(),
        rehearse: what.rehearse.clone(),
        stop: command(&what.stop, "stop")?,
        start: command(&what.start, "start")?,
        url: what.url.clone(),
        probes: what.probes.clone(),
        questions: questions(name, what, resources)?,
        log: what.log.as_ref().map(path),
        trial,
        driver,
        tells,
        build: what.build.clone(),
        smoke: what.smoke.clone(),
        pass: what.pass.clone(),
        env_binding: what.env_binding.map(Into::into),
        answer_ms: what.answer_within.as_ref().map(|span| span.length.as_millis() as u64),
        command_ms: what.command_within.as_ref().map(|span| span.length.as_millis() as u64),
    };
    let said = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut shown = vec![
        said("folder", &target.folder.display().to_string()),
        said("stop", &target.stop_call().unwrap_or_default().join(" ")),
        said("start", &target.start_call().unwrap_or_default().join(" ")),
        said("remote", &target.remote),
    ];
    shown.extend(target.driver.as_ref().map(|driver| said("driver", driver.word())));
    shown.extend(target.stable.as_deref().map(|stable| said("stable", stable)));
    shown.extend(target.url.as_deref().map(|url| said("url", url)));
    Ok((target, shown))
}

/// How long an answer may take, when nobody said.
const ANSWER_MS: u64 = 5_000;

fn questions(target: &str, what: &TargetSettings, resources: &[Resource]) -> Result<Vec<Question>, Failure> {
    let question = |(name, said): (&String, &SqlProbeSettings)| {
        let usage = |why: String| {
            let failure = Failure::new(FailureKind::Usage, format!("targets.{target}.sql_probes.{name} {why}"));
            failure.hint("sql = \"select count(*) > 0 from orders\" and resource = \"NAME\", for example")
        };
        let sql = said.sql.trim().trim_end_matches(';').trim();
        if sql.is_empty() || sql.contains(';') {
            // A second statement would not be held to reading alone.
            return Err(usage("has to be one question, without a semicolon inside".to_owned()));
        }
        let (resource, place) = database(said.resource.as_deref(), resources).map_err(usage)?;
        let limit_ms = said.within.as_ref().map_or(ANSWER_MS, |span| span.length.as_millis() as u64);
        if limit_ms == 0 {
            return Err(usage("has within = \"0s\", in which nobody can answer".to_owned()));
        }
        let (name, sql, equals) = (name.clone(), sql.to_owned(), said.equals.clone());
        Ok(Question { name, resource, place, sql, equals, limit_ms })
    };
    what.sql_probes.iter().map(question).collect()
}

/// The database that a question goes to.
fn database(wanted: Option<&str>, resources: &[Resource]) -> Result<(ResourceName, Asked), String> {
    let databases = resources.iter().filter_map(|known| match &known.kind {
        ResourceKind::Postgres { url, .. } => Some((known.name.clone(), Asked::Postgres(url.clone()))),
        ResourceKind::Sqlite { path } => Some((known.name.clone(), Asked::Sqlite(path.clone()))),
        ResourceKind::Files { .. } | ResourceKind::Env { .. } => None,
    });
    let mut fits = databases.filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name.as_str()));
    match (fits.next(), fits.next(), wanted) {
        (Some(only), None, _) => Ok(only),
        (Some(_), Some(_), _) => Err("does not say which database it asks: resource = \"NAME\"".to_owned()),
        (None, _, Some(name)) => Err(format!("asks {name}, which is no database of this environment")),
        (None, _, None) => Err("asks a database, and this environment has none".to_owned()),
    }
}
