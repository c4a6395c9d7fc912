//! Targets: what runs an app's code, as settings say it.

use std::path::{Path, PathBuf};

use lifeboat_model::{Failure, FailureKind, ResourceName, Target, Trial};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::outside;

/// What runs the app's code: a folder under git, and the commands that stop and start it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSettings {
    /// The folder; commands run in it. Default: this file's folder.
    #[schemars(extend("x-kind" = "path"))]
    pub folder: Option<PathBuf>,
    /// The command that stops it, as a list of words.
    #[schemars(extend("x-kind" = "command"))]
    pub stop: Vec<String>,
    /// The command that starts it and comes back.
    #[schemars(extend("x-kind" = "command"))]
    pub start: Vec<String>,
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
    /// The app's file of variables, in which level 3 sets `ENABLE_SUPABASE=false`.
    #[schemars(extend("x-kind" = "path"))]
    pub env_file: Option<PathBuf>,
    /// Where it answers: `http://127.0.0.1:3002`.
    pub url: Option<String>,
    /// Paths that must answer with 2xx after a start.
    #[serde(default)]
    pub probes: Vec<String>,
    /// Its log, in which new lines are looked for errors.
    #[schemars(extend("x-kind" = "path"))]
    pub log: Option<PathBuf>,
    /// A record that level 5 makes through the app and takes away again.
    pub trial: Option<TrialSettings>,
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
/// Its name or its address cannot be one.
pub fn resolve(name: &str, what: &TargetSettings, folder: &Path) -> Result<Found, Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let path = |path: &PathBuf| outside::plain_path(&folder.join(path));
    let own = what.folder.as_ref().map_or_else(|| outside::plain_path(folder), path);
    if let Some(url) = what.url.as_ref().filter(|url| !url.starts_with("http://")) {
        let failure = usage(format!("targets.{name}.url is {url:?}, and is asked on this host over http://"));
        return Err(failure.hint("url = \"http://127.0.0.1:3002\", for example"));
    }
    if let Some(path) = what.probes.iter().find(|path| !path.starts_with('/')) {
        let failure = usage(format!("targets.{name}.probes names {path:?}, which is no path"));
        return Err(failure.hint("probes = [\"/api/health\"], for example"));
    }
    let trial = what.trial.as_ref().map(|trial| Trial {
        login: trial.login.clone(),
        email_env: trial.email_env.clone(),
        password_env: trial.password_env.clone(),
        create: trial.create.clone(),
        body: trial.body.clone(),
        table: trial.table.clone(),
    });
    let target = Target {
        name: ResourceName::new(name).map_err(|error| usage(error.to_string()))?,
        folder: own,
        env_file: what.env_file.as_ref().map(path),
        stable: what.stable.clone(),
        remote: what.remote.clone().unwrap_or_else(|| "origin".to_owned()),
        install: what.install.clone(),
        migrate: what.migrate.clone(),
        rehearse: what.rehearse.clone(),
        stop: what.stop.clone(),
        start: what.start.clone(),
        url: what.url.clone(),
        probes: what.probes.clone(),
        log: what.log.as_ref().map(path),
        trial,
    };
    let said = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut shown = vec![
        said("folder", &target.folder.display().to_string()),
        said("stop", &target.stop.join(" ")),
        said("start", &target.start.join(" ")),
        said("remote", &target.remote),
    ];
    shown.extend(target.stable.as_deref().map(|stable| said("stable", stable)));
    shown.extend(target.url.as_deref().map(|url| said("url", url)));
    Ok((target, shown))
}
