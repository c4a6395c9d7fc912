//! Planning to give variables former values: by their names, each set in its place, the former file kept beside. Values of secrets
//! that got into wrong hands stay where they are, in the backup.

use std::path::{Path, PathBuf};

use lifeboat_io::files;
use lifeboat_model::{
    Action, Backup, Driver, EnvAction, EnvAsk, ExpectedFact, Fact, Failure, FailureKind, Lease, Plan, Request,
    Resource, ResourceName, Step, StepClass, Target, TargetAction, variables::written_value,
};

use super::{
    level::Acts,
    release::of,
    restore,
    steps::{self, by, phase, read, step},
};
use crate::{
    Engine,
    act::path_failure,
    facts::{self, Common},
    variables::{Changed, Prints, changes},
};

/// What is to be changed in a file.
pub(super) struct Edit {
    pub resource: ResourceName,
    file: PathBuf,
    kept: PathBuf,
    /// The file as it was looked at.
    untouched: String,
    backup: Backup,
    set: Vec<String>,
    remove: Vec<String>,
    /// What differs, by fingerprints.
    changed: Vec<Changed>,
    /// Names whose values in the backup must not come back.
    leaked: Vec<String>,
    /// Names of addresses of databases, which stay.
    addresses: Vec<String>,
}

/// What is to be changed in a file when application and database go back together: addresses of databases stay, since the data is brought
/// back where it is now.
///
/// # Errors
/// As [`edit`].
pub(super) fn edit_beside(
    engine: &Engine,
    common: &Common,
    (resource, backup): (&Resource, &Backup),
) -> Result<Edit, Failure> {
    let mut edit = edit(engine, common, (resource, backup), &[], false)?;
    let now = match files::exists(&edit.file) {
        true => files::read_text(&edit.file).map_err(|error| path_failure(&error))?,
        false => String::new(),
    };
    let is_address = |name: &String| written_value(&now, name).is_some_and(is_address);
    edit.addresses = edit.set.iter().chain(&edit.remove).filter(|name| is_address(name)).cloned().collect();
    edit.set.retain(|name| !edit.addresses.contains(name));
    edit.remove.retain(|name| !edit.addresses.contains(name));
    Ok(edit)
}

/// Whether a value, as it is written in a file, leads to a PostgreSQL database: an address, or libpq's words.
fn is_address(written: &str) -> bool {
    let value = written.trim_start_matches(['"', '\'']);
    ["postgres://", "postgresql://"].iter().any(|scheme| value.starts_with(scheme)) || value.contains("dbname=")
}

/// Compares a file with a backup of it, and decides which variables get former values.
///
/// # Errors
/// A named variable is not in the backup, or its value there must not come back; something cannot be read.
pub(super) fn edit(
    engine: &Engine,
    common: &Common,
    (resource, backup): (&Resource, &Backup),
    keys: &[String],
    keep_new: bool,
) -> Result<Edit, Failure> {
    let path = resource.kind.path().ok_or_else(steps::wrong_planner)?;
    let file = files::resolved(path);
    let then = engine.prints_of(backup, &resource.name)?;
    let now = match files::exists(&file) {
        true => engine.prints(&files::read(&file).map_err(|error| path_failure(&error))?)?,
        false => Prints::new(),
    };
    if keys.is_empty() {
        one_source(engine, &file, backup, &then)?;
    }
    let leaks = engine.leaks()?;
    let manifest = engine.manifest(&backup.id)?;
    let part = manifest.resource(&resource.name).ok_or_else(steps::wrong_planner)?;
    let leaked = |name: &String| leaks.iter().any(|leak| leak.secret == *name && leak.is_in(part));
    for key in keys {
        if !then.contains_key(key) {
            let failure =
                Failure::new(FailureKind::Refused, format!("{} in {} has no {key}", resource.name, backup.id));
            return Err(failure.hint("lifeboat env history shows which backup has it"));
        }
        if leaked(key) {
            let message = format!("{key} got into wrong hands; its value in {} is not brought back", backup.id);
            let failure = Failure::new(FailureKind::Refused, message);
            return Err(failure.hint("set a new value by hand"));
        }
    }
    let mut changed = changes(&then, &now);
    changed.retain(|one| keys.is_empty() || keys.contains(&one.name));
    let is_former = |one: &&Changed| one.then.is_some();
    let (set, stays): (Vec<String>, Vec<String>) =
        changed.iter().filter(is_former).map(|one| one.name.clone()).partition(|name| !leaked(name));
    let came = changed.iter().filter(|one| one.then.is_none() && !keep_new).map(|one| one.name.clone()).collect();
    Ok(Edit {
        resource: resource.name.clone(),
        kept: facts::free_beside(&file, "REPLACED", common.now),
        untouched: files::untouched(&file),
        file,
        backup: backup.clone(),
        set,
        remove: came,
        changed,
        leaked: stays,
        addresses: Vec::new(),
    })
}

/// ENV-16: a copy that somebody keeps beside the file, as documents advise, must not say otherwise than the backup: with two truths nobody knows
/// which is the former one.
fn one_source(engine: &Engine, file: &Path, backup: &Backup, then: &Prints) -> Result<(), Failure> {
    let copy = facts::path_with(file, ".backup");
    if !files::exists(&copy) {
        return Ok(());
    }
    let said = engine.prints(&files::read(&copy).map_err(|error| path_failure(&error))?)?;
    let names: Vec<String> = changes(then, &said).into_iter().map(|one| one.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let message = format!("{} says otherwise than {} of {}", copy.display(), backup.id, names.join(", "));
    let failure =
        Failure::new(FailureKind::Refused, message).because("nobody can tell which values are the former ones");
    Err(failure.hint("take that copy away, or name what is to come back: lifeboat env restore KEY"))
}

impl Edit {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    pub fn check(&self, common: &Common) -> Step {
        let check = Action::CheckBackup { vault: common.vault.clone(), backup: self.backup.id.clone() };
        read(format!("check-backup.{}", self.resource), format!("{} is whole in the vault", self.backup.id), check)
    }

    /// Only whether the file in the backup can be read, whatever else it has lost.
    pub fn look(&self, common: &Common) -> Step {
        let (vault, backup, resource) = (common.vault.clone(), self.backup.id.clone(), self.resource.clone());
        let title = format!("the variables in {backup} can be read");
        read(format!("look.{}", self.resource), title, Action::Env(EnvAction::Look { vault, backup, resource }))
    }

    pub fn step(&self, common: &Common) -> Step {
        let mut says = Vec::new();
        says.extend((!self.set.is_empty()).then(|| format!("set {}", self.set.join(", "))));
        says.extend((!self.remove.is_empty()).then(|| format!("take {} out", self.remove.join(", "))));
        let title = format!(
            "{} in {}; the former file is kept as {}",
            says.join("; "),
            self.file.display(),
            self.kept.display()
        );
        let (file, kept) = (self.file.clone(), self.kept.clone());
        let undo = by(Action::Env(EnvAction::PutBack { file: file.clone(), kept: kept.clone(), aside: None }));
        let action = Action::Env(EnvAction::Restore {
            vault: common.vault.clone(),
            backup: self.backup.id.clone(),
            resource: self.resource.clone(),
            file,
            kept,
            set: self.set.clone(),
            remove: self.remove.clone(),
        });
        step(self.id(), title, StepClass::Idempotent, action, undo)
    }

    fn id(&self) -> String {
        format!("variables.{}", self.resource)
    }

    /// The targets of which this file holds the platform's own variables.
    fn platforms<'a>(&self, engine: &'a Engine) -> impl Iterator<Item = (&'a Target, &'a Driver)> {
        let file = self.file.clone();
        let targets = engine.setup().targets.iter();
        targets.filter_map(move |target| {
            let is_it = target.env_file.as_deref().is_some_and(|own| files::resolved(own) == file);
            let driver = target.driver.as_ref().filter(|driver| is_it && driver.variables().is_some())?;
            Some((target, driver))
        })
    }

    /// The variables that a platform gets: those that are its own nobody can set.
    fn given(&self, driver: &Driver) -> Vec<String> {
        let names = self.set.iter().chain(&self.remove);
        names.filter(|name| !driver.owns_variable(name)).cloned().collect()
    }

    /// What is looked at before: whether the platforms let their variables be changed.
    pub fn check_platforms(&self, engine: &Engine) -> Vec<Step> {
        let one = |(target, driver): (&Target, &Driver)| {
            let call = driver.variables().unwrap_or_default().join(" ");
            let title = format!("{} lets its variables be looked at: {call}", target.name);
            of(Acts { target }.read("access", &title, TargetAction::CheckVariables), target)
        };
        self.platforms(engine).filter(|(_, driver)| !self.given(driver).is_empty()).map(one).collect()
    }

    /// The platforms get them, each in one batch; taken back, they get what the former file has.
    pub fn give(&self, engine: &Engine) -> Vec<Step> {
        let one = |(target, driver): (&Target, &Driver)| {
            let (acts, names) = (Acts { target }, self.given(driver));
            let title = format!("give {} {} in one batch, by standard input", target.name, names.join(", "));
            let give = |file: &Path| TargetAction::GiveVariables { file: file.to_owned(), names: names.clone() };
            let undo = by(acts.action(give(&self.kept)));
            of(acts.step("give", title, give(&self.file), undo), target)
        };
        self.platforms(engine).filter(|(_, driver)| !self.given(driver).is_empty()).map(one).collect()
    }

    /// What stands when a platform does not take its variables past the point of no return, and what goes on from there.
    pub fn left_when_refused(&self, release: &str) -> String {
        format!(
            "data and {} are as in {release}, {} has the former variables, and what was stopped stands still: mend what it says, then \
             lifeboat resume; or set them there by hand, or start it anew there with those that it has, then lifeboat rollback --manual \
             --from 5 --to 5 --by-hand, then lifeboat resume",
            self.file.display(),
            self.kept.display()
        )
    }

    pub fn fact(&self) -> ExpectedFact {
        let fact = Fact::Untouched { path: self.file.clone() };
        ExpectedFact { fact, value: self.untouched.clone(), until: Some(self.id().as_str().into()) }
    }

    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for one in self.changed.iter().filter(|one| self.set.contains(&one.name) || self.remove.contains(&one.name)) {
            let gone = "nothing".to_owned();
            let (then, now) = (one.then.as_ref().unwrap_or(&gone), one.now.as_ref().unwrap_or(&gone));
            notes.push(format!("{}: {now} becomes {then}.", one.name));
        }
        for name in &self.leaked {
            notes.push(format!("{name} stays as it is: its value in {} got into wrong hands.", self.backup.id));
        }
        for name in &self.addresses {
            notes.push(format!(
                "{name} stays as it is: it leads to a database, and the data is brought back where it is."
            ));
        }
        let signs = |name: &&String| name.contains("SESSION") || name.contains("JWT");
        for name in self.set.iter().filter(signs) {
            notes.push(format!("Another value of {name} may end every session: everybody has to log in again."));
        }
        notes
    }
}

/// Plans to bring former values of variables back.
///
/// # Errors
/// There is no such backup; a named variable cannot come back.
pub(crate) fn plan(engine: &Engine, request: &Request, ask: &EnvAsk) -> Result<Plan, Failure> {
    let resource = engine.env_file(ask.resource.as_ref())?;
    let common = engine.common()?;
    if !common.vault_exists {
        return Err(steps::no_vault(&common));
    }
    let (backup, _) = restore::choose(engine, &engine.backups_for(&ask.from)?, resource, &ask.from)?;
    let edit = edit(engine, &common, (resource, &backup), &ask.keys, ask.keep_new)?;
    let title = match ask.why.trim() {
        "" => format!("variables of {} in {} as in {}", edit.resource, common.scope, backup.id),
        why => format!("variables of {} in {} as in {}: {why}", edit.resource, common.scope, backup.id),
    };
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    plan.notes = edit.notes();
    if edit.is_empty() {
        return Ok(plan);
    }
    let mut preflight = vec![edit.check(&common)];
    preflight.extend(edit.check_platforms(engine));
    let given = edit.give(engine);
    let is_given = !given.is_empty();
    plan.phases = vec![
        phase(&common, "preflight", vec![], preflight),
        phase(&common, "variables", vec![], vec![edit.step(&common)]),
        phase(&common, "platform", vec![], given),
    ];
    plan.phases.retain(|phase| !phase.steps.is_empty());
    plan.facts = vec![edit.fact()];
    plan.notes.push(match is_given {
        true => "The platform starts what it runs anew, once for all of them.".to_owned(),
        false => {
            "An app reads its variables when it starts; lifeboat rollback RELEASE --profile env-only starts it anew."
                .to_owned()
        }
    });
    Ok(plan)
}
