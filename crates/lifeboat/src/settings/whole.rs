//! Checking a settings file as a whole: what every other command would refuse when it decides what is in effect.

use lifeboat_io::{Io, files};
use lifeboat_model::{Failure, FailureKind, Resource, ResourceKind, ResourceName};

use super::{EnvironmentSettings, Loaded, matrix, problem::Problem, resolve, targets};
use crate::cli::GlobalArgs;

/// Stands for an address that is not to be had here: where a file is checked, secrets need not be.
const NOT_HERE: &str = "postgres://not-to-be-had-here";

/// Every problem that shows only when it is decided what is in effect, in the order of their lines; and what could not be looked at here,
/// since it lies outside of the file.
pub fn check(loaded: &Loaded, global: &GlobalArgs, io: &Io) -> (Vec<Problem>, Vec<String>) {
    let (mut problems, mut unseen) = (Vec::new(), Vec::new());
    for (name, own) in &loaded.settings.environments {
        let failure = match resolve::environment_of(loaded, name, global, io) {
            Ok(_) => continue,
            Err(failure) if failure.kind == FailureKind::Usage => failure,
            Err(elsewhere) => {
                unseen.push(format!("{name}: {elsewhere}"));
                match without_addresses(loaded, own, io) {
                    Ok(()) => continue,
                    Err(failure) => failure,
                }
            }
        };
        problems.push(problem(loaded, name, failure));
    }
    problems.sort_by_key(|problem| problem.line);
    (problems, unseen)
}

/// What can be decided without knowing where databases are.
fn without_addresses(loaded: &Loaded, own: &EnvironmentSettings, io: &Io) -> Result<(), Failure> {
    let folder = files::parent(&loaded.path);
    let mut resources = Vec::new();
    for (name, what) in &own.resources {
        resources.push(match resolve::resource_of(name, what, folder, io) {
            Ok((resource, _)) => resource,
            Err(failure) if failure.kind == FailureKind::Usage => return Err(failure),
            Err(_not_here) => {
                let of_name = ResourceName::new(name.as_str());
                let of_name = of_name.map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
                let kind = ResourceKind::Postgres { url: NOT_HERE.to_owned(), schemas: what.schemas.clone() };
                Resource::plain(of_name, kind)
            }
        });
    }
    for (name, what) in &own.targets {
        targets::resolve(name, what, folder, &resources)?;
    }
    matrix::resolve(&own.decide, folder, &resources).map(drop)
}

/// A failure as a problem of the file, at the line of the setting with which its sentence begins.
fn problem(loaded: &Loaded, environment: &str, failure: Failure) -> Problem {
    let first = failure.message.split_whitespace().next().unwrap_or_default();
    let keys: Vec<&str> = first.split('.').collect();
    let line = (0..=keys.len()).rev().find_map(|many| {
        let own = [&["environments", environment], &keys[..many]].concat();
        let found = loaded.document.find(&own).or_else(|| loaded.document.find(&keys[..many.max(1)]));
        found.map(|node| node.line)
    });
    let said = [vec![failure.message], failure.causes].concat().join(": ");
    let problem = Problem::new(line.unwrap_or(1), said);
    failure.hint.into_iter().fold(problem, Problem::instead)
}
