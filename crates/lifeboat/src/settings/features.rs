//! Features of the app that can be switched off, as settings say it.

use std::{collections::BTreeMap, path::Path};

use lifeboat_model::{Driver, Failure, FailureKind, Feature, Resource, ResourceKind, ResourceName, Switch, Target};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{EnvironmentSettings, absolute};
use crate::outside;

/// A feature: `off` and `on`, or `variable`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureSettings {
    /// The command that switches it off, as a list of words. It may be repeated. Only together with `on`.
    #[schemars(extend("x-kind" = "command"))]
    pub off: Option<Vec<String>>,
    /// The command that switches it on again.
    #[schemars(extend("x-kind" = "command"))]
    pub on: Option<Vec<String>>,
    /// The variable that switches it, in place of commands.
    pub variable: Option<FeatureVariable>,
    /// What runs it, by its name in the environment: below its address `probe` is asked, and it reads the variable.
    #[schemars(extend("x-kind" = "name"))]
    pub target: Option<String>,
    /// Whether the target is started anew after it was switched. Default: yes with `variable`, no with commands.
    pub restart: Option<bool>,
    /// What answers with 404 or 503 while it is off, and not while it is on: a path of the target, or a whole address.
    pub probe: Option<String>,
}

/// The variable that switches a feature.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureVariable {
    /// In which file: a resource of kind env, by its name.
    #[schemars(extend("x-kind" = "name"))]
    pub resource: String,
    /// Its name.
    pub name: String,
    /// What it holds while the feature is off.
    pub off: String,
    /// What it holds while it is on.
    pub on: String,
}

/// Decides what is in effect in an environment with these resources and targets. What names those of another one is not there.
///
/// # Errors
/// Both ways of switching are said, or none; a resource or target that is not there; a value that cannot stand in such a file.
pub fn resolve(
    all: &BTreeMap<String, FeatureSettings>,
    environments: &BTreeMap<String, EnvironmentSettings>,
    (resources, targets): (&[Resource], &[Target]),
    folder: &Path,
) -> Result<Vec<Feature>, Failure> {
    let is_here = |what: &FeatureSettings| {
        let elsewhere = |has: &dyn Fn(&EnvironmentSettings) -> bool| environments.values().any(has);
        let target = what.target.as_ref().is_none_or(|name| {
            targets.iter().any(|one| one.name.as_str() == name) || !elsewhere(&|one| one.targets.contains_key(name))
        });
        let file = what.variable.as_ref().map(|variable| &variable.resource);
        target
            && file.is_none_or(|name| {
                resources.iter().any(|one| one.name.as_str() == name)
                    || !elsewhere(&|one| one.resources.contains_key(name))
            })
    };
    let meant = all.iter().filter(|(_, what)| is_here(what));
    meant.map(|(name, what)| one(name, what, (resources, targets), folder)).collect()
}

/// For people: by what it is switched.
pub fn shown(feature: &Feature) -> String {
    match &feature.switch {
        Switch::Command { off, on } => format!("{} / {}", off.join(" "), on.join(" ")),
        Switch::Variable { file, name, off, on } => format!("{name}={off} / {on} in {}", file.display()),
    }
}

fn usage(message: String, hint: &str) -> Failure {
    Failure::new(FailureKind::Usage, message).hint(hint)
}

fn one(
    name: &str,
    what: &FeatureSettings,
    (resources, targets): (&[Resource], &[Target]),
    folder: &Path,
) -> Result<Feature, Failure> {
    let target = match &what.target {
        None => None,
        Some(named) => Some(targets.iter().find(|target| target.name.as_str() == named).cloned().ok_or_else(|| {
            let message = format!("features.{name}.target is {named}, and this environment has no such target");
            usage(message, "write [environments.NAME.targets.TARGET], or take target out")
        })?),
    };
    let switch = match (&what.off, &what.on, &what.variable) {
        (Some(off), Some(on), None) if !off.is_empty() && !on.is_empty() => {
            Switch::Command { off: in_folder(off, folder)?, on: in_folder(on, folder)? }
        }
        (None, None, Some(variable)) => of_variable(name, variable, resources, target.as_ref())?,
        _else => {
            let message = format!("features.{name} has to say off and on, or variable");
            return Err(usage(message, "off = [\"./ops/flag.sh\", \"imports\", \"off\"] and on, for example"));
        }
    };
    let restart = what.restart.unwrap_or(matches!(switch, Switch::Variable { .. }) && target.is_some());
    if restart && target.is_none() {
        return Err(usage(format!("features.{name}.restart names no target"), "target = \"app\", for example"));
    }
    let probe = what.probe.as_deref().map(|probe| address(name, probe, target.as_ref())).transpose()?;
    let name = ResourceName::new(name).map_err(|error| usage(error.to_string(), "[features.imports], for example"))?;
    Ok(Feature { name, switch, target, restart, probe })
}

/// A program that is named by its path lies where the settings do, from wherever it is called.
fn in_folder(words: &[String], folder: &Path) -> Result<Vec<String>, Failure> {
    let mut words = words.to_vec();
    if let Some(program) = words.first_mut().filter(|program| program.contains('/')) {
        *program = outside::plain_path(&absolute(&folder.join(&*program))?).display().to_string();
    }
    Ok(words)
}

fn of_variable(
    name: &str,
    variable: &FeatureVariable,
    resources: &[Resource],
    target: Option<&Target>,
) -> Result<Switch, Failure> {
    let named = resources.iter().find(|resource| resource.name.as_str() == variable.resource);
    let Some(ResourceKind::Env { path }) = named.map(|resource| &resource.kind) else {
        let message = format!("features.{name}.variable is in {}, which is no env file here", variable.resource);
        return Err(usage(message, "resource names a resource of kind env of this environment"));
    };
    let by_platform = target.and_then(|target| target.driver.as_ref()).is_some_and(|driver| {
        matches!(driver, Driver::Fly { .. } | Driver::Vercel { .. } | Driver::SupabaseFunctions { .. })
    });
    if by_platform {
        let message = format!("features.{name} is a variable of a platform, which does not read the file");
        return Err(usage(message, "off = [\"fly\", \"secrets\", \"set\", \"IMPORTS=off\"] and on, for example"));
    }
    let plain = |text: &str| {
        !text.is_empty() && !text.contains(|letter: char| letter.is_whitespace() || "#'\"=\\".contains(letter))
    };
    if ![&variable.name, &variable.off, &variable.on].into_iter().all(|text| plain(text)) || variable.off == variable.on
    {
        let message = format!("features.{name}.variable needs a name and two different values of plain letters");
        return Err(usage(message, "name = \"IMPORTS\", off = \"false\", on = \"true\", for example"));
    }
    let (off, on) = (variable.off.clone(), variable.on.clone());
    Ok(Switch::Variable { file: path.clone(), name: variable.name.clone(), off, on })
}

fn address(name: &str, probe: &str, target: Option<&Target>) -> Result<String, Failure> {
    match (probe, target.and_then(|target| target.url.as_deref())) {
        (probe, _) if probe.starts_with("http://") => Ok(probe.to_owned()),
        (path, Some(url)) if path.starts_with('/') => Ok(format!("{}{path}", url.trim_end_matches('/'))),
        _else => Err(usage(
            format!("features.{name}.probe is {probe:?}, which is no path of a target and no address with http://"),
            "probe = \"/imports\" beside target = \"app\", or \"http://127.0.0.1:3000/imports\", for example",
        )),
    }
}
