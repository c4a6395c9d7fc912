//! Looking at what is live: is it sound, are its tables there, do the questions of the settings have the right answers?
//!
//! A database is looked at through a consistent copy in the state folder, so that the app is not held up and the live
//! file is not touched; the copy goes afterwards - or, when we are killed meanwhile, with the next operation.

use lifeboat_io::{Stop, database::sqlite, files, lease::Process};
use lifeboat_model::{
    Check, Duration, Failure, PlanId, Resource, ResourceKind, ResourceName, Tri,
    compare::{TablePolicy, check_policy},
    time::since,
};
use serde::Serialize;

use crate::{
    Engine,
    act::{path_failure, sqlite_failure},
};

/// The note in a working folder that says which process works there.
const OWNER: &str = "owner.json";

/// Longer than this no look at live data takes.
const LOOK_MAX: Duration = Duration::from_secs(86_400);

/// What a look at a live resource found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The resource.
    pub resource: ResourceName,
    /// Everything that was looked at.
    pub checks: Vec<Check>,
    /// The worst of it; unknown is not good.
    pub outcome: Tri,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Engine {
    /// Looks at live resources; at all of them when none is named.
    ///
    /// # Errors
    /// A name that is not known; a state folder that cannot be written. What is wrong with a resource is its answer.
    pub fn verify(&self, names: &[ResourceName], stop: &Stop) -> Result<Vec<Verified>, Failure> {
        let chosen: Vec<&Resource> = match names {
            [] => self.setup.resources.iter().collect(),
            names => names.iter().map(|name| self.setup.resource(name)).collect::<Result<_, _>>()?,
        };
        chosen.into_iter().map(|resource| self.verify_one(resource, stop)).collect()
    }

    fn verify_one(&self, resource: &Resource, stop: &Stop) -> Result<Verified, Failure> {
        let begin = self.io.clock.elapsed();
        let checks = match &resource.kind {
            ResourceKind::Sqlite { path } => self.verify_sqlite(resource, path, stop)?,
            ResourceKind::Files { path, .. } | ResourceKind::Env { path } => {
                let readable = files::can_read(path);
                let detail = readable.as_ref().err().map_or("can be read".to_owned(), |error| error.source.to_string());
                vec![Check::new("readable", Tri::from_bool(readable.is_ok()), detail)]
            }
        };
        let outcome = Tri::worst(checks.iter().map(|check| check.outcome));
        let took_ms = self.io.clock.elapsed().saturating_sub(begin).as_millis() as u64;
        Ok(Verified { resource: resource.name.clone(), checks, outcome, took_ms })
    }

    fn verify_sqlite(&self, resource: &Resource, path: &std::path::Path, stop: &Stop) -> Result<Vec<Check>, Failure> {
        self.sweep_staging()?;
        let folder = self.state.staging(&PlanId::from_random(self.io.random.bits()));
        files::create_private_folder(&folder).map_err(|error| path_failure(&error))?;
        // It has no journal: whoever finds the folder later has to know whose it was.
        let owner = serde_json::to_vec(&Process::this()).unwrap_or_default();
        files::write(&folder.join(OWNER), &owner).map_err(|error| path_failure(&error))?;
        let checks = self.look_through_copy(resource, path, &folder.join("live.sqlite"), stop);
        files::remove_any(&folder).map_err(|error| path_failure(&error))?;
        Ok(checks)
    }

    /// Takes away what a look at live data left behind whose process is gone. Working copies of operations have no such
    /// note: their journals know them.
    pub(crate) fn sweep_staging(&self) -> Result<(), Failure> {
        let staging = self.state.root().join("staging");
        for folder in files::list_folder(&staging).map_err(|error| path_failure(&error))? {
            let Ok(note) = files::read(&folder.join(OWNER)) else { continue };
            let Ok(owner) = serde_json::from_slice::<Process>(&note) else { continue };
            let is_old = files::modified(&folder).is_ok_and(|at| since(at, self.io.clock.now()) > LOOK_MAX);
            let is_gone = match owner.is_alive() {
                Tri::Pass => false,
                Tri::Fail => true,
                // Before a restart of this host, or in a container: no look takes that long.
                Tri::Unknown => is_old,
            };
            if is_gone && self.state.may_remove(&folder) {
                files::remove_any(&folder).map_err(|error| path_failure(&error))?;
            }
        }
        Ok(())
    }

    fn look_through_copy(
        &self,
        resource: &Resource,
        path: &std::path::Path,
        copy: &std::path::Path,
        stop: &Stop,
    ) -> Vec<Check> {
        let failed = |name: &str, failure: Failure| {
            // A place that does not answer says nothing about the data; a file that is no database does.
            let outcome = match failure.kind {
                lifeboat_model::FailureKind::Refused | lifeboat_model::FailureKind::Damaged => Tri::Fail,
                _cannot_tell => Tri::Unknown,
            };
            vec![Check::new(name, outcome, failure.to_string())]
        };
        let options = sqlite::CaptureOptions::default();
        if let Err(error) = sqlite::capture(path, copy, options, &*self.io.clock, stop, &|_, _| ()) {
            return failed("copy", sqlite_failure(&error));
        }
        let mut checks = sqlite::check_copy(copy, stop);
        match sqlite::inspect(copy, stop, &|_, _| ()) {
            Ok(facts) => checks.extend(check_policy(&facts, TablePolicy::of(resource))),
            Err(error) => checks.extend(failed("content", sqlite_failure(&error))),
        }
        checks.extend(resource.checks.iter().map(|(name, question)| sqlite::ask(copy, name, question, stop)));
        checks
    }
}
