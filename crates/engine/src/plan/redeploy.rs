//! Planning to bring everything that runs the app's code to where it runs once more: after a platform has lost it, or when
//! nobody knows any more what is there. Nothing is a new version: what runs is brought again, and what is built from a branch is built
//! from its newest commit.
//!
//! ```text
//!   preflight · bring · one phase per target, edge functions last · verify · clean
//! ```
//!
//! What was deployed is good as it is, so one that fails takes nothing back: the operation waits, and goes on with that one.

use std::path::PathBuf;

use lifeboat_model::{
    Action, Artifact, Brings, Driver, Failure, FailureKind, KnownRelease, Lease, OnFailure, Phase, Plan, PlatformAsk,
    RedeployAction, Request, ResourceName, Step, StepClass, Target, TargetAction, Undo,
};

use super::{
    branch::tip,
    level::{self, Acts, short},
    release::of,
    rollback::App,
    steps::{self, by, phase, step},
};
use crate::{Engine, facts::Common, targets};

/// A target that is deployed once more.
struct One {
    app: App,
    /// Whether what runs is known; of what is gone nothing can be noted.
    is_there: bool,
    /// What its platform builds it from: the branch, the commit, and where it is copied to.
    source: Option<Source>,
}

struct Source {
    branch: String,
    commit: String,
    into: PathBuf,
}

/// Plans to deploy once more.
///
/// # Errors
/// There is nothing to deploy; of a target nothing tells which version it is to be.
pub(super) fn plan(engine: &Engine, request: &Request, ask: &PlatformAsk) -> Result<Plan, Failure> {
    let PlatformAsk::Redeploy { targets, why } = ask else { return Err(steps::wrong_planner()) };
    let common = engine.common()?;
    let all = gather(engine, &common, targets)?;
    let names: Vec<&str> = all.iter().map(|one| one.app.target.name.as_str()).collect();
    let title = format!("deploy {} of {} once more", names.join(", "), common.scope);
    let title = if why.trim().is_empty() { title } else { format!("{title}: {}", why.trim()) };
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    let there = || all.iter().filter(|one| one.is_there && one.source.is_none());
    plan.phases.push(phase(&common, "preflight", vec![], there().map(|one| one.app.check()).collect()));
    let own = own_folder(&common);
    plan.phases.push(phase(&common, "bring", vec![], all.iter().filter_map(|one| one.brought(&own)).collect()));
    for one in &all {
        plan.phases.push(phase(&common, one.app.target.name.as_str(), vec![], one.deployed()));
    }
    plan.phases.push(phase(&common, "verify", vec![], all.iter().flat_map(One::verified).collect()));
    for step in plan.phases.iter_mut().skip(1).flat_map(|phase: &mut Phase| &mut phase.steps) {
        if step.on_failure == OnFailure::Unwind {
            step.on_failure = OnFailure::Wait;
        }
    }
    if all.iter().any(|one| one.source.is_some()) {
        let action = Action::Remove { paths: vec![own] };
        let clean = step("clean", "take the fresh copies away", StepClass::Idempotent, action, Undo::Nothing);
        let clean = Step { on_failure: OnFailure::Note, ..clean };
        plan.phases.push(phase(&common, "clean", vec![], vec![clean]));
    }
    plan.phases.retain(|phase| !phase.steps.is_empty());
    plan.notes = all.iter().map(One::note).collect();
    plan.notes.push("One that fails takes nothing back: it waits, and goes on with that one.".to_owned());
    Ok(plan)
}

/// The folder in which fresh copies are, and which goes as a whole.
fn own_folder(common: &Common) -> PathBuf {
    common.staging.join("redeploy")
}

/// Edge functions come last: what calls them is there by then.
fn gather(engine: &Engine, common: &Common, named: &[ResourceName]) -> Result<Vec<One>, Failure> {
    let mut targets: Vec<&Target> = match named {
        [] => engine.setup().targets.iter().filter(|target| target.driver.is_some()).collect(),
        named => named.iter().map(|name| engine.target(Some(name))).collect::<Result<_, _>>()?,
    };
    if targets.is_empty() {
        let message = format!("nobody has said how versions are put in use in {}", common.scope);
        return Err(Failure::new(FailureKind::Usage, message)
            .hint("write driver = \"vercel\", for example, into the table of its target in lifeboat.toml"));
    }
    targets.sort_by_key(|target| matches!(target.driver, Some(Driver::SupabaseFunctions { .. })));
    targets.dedup_by_key(|target| &target.name);
    let releases = engine.releases()?;
    targets.into_iter().map(|target| one(engine, common, target, &releases)).collect()
}

fn one(engine: &Engine, common: &Common, target: &Target, releases: &[KnownRelease]) -> Result<One, Failure> {
    let driver = targets::driver(target)?;
    let running = targets::running(engine.io(), target, &lifeboat_io::Stop::default());
    let is_there = running.is_ok();
    let source = match driver {
        Driver::Vercel { .. } => {
            let (branch, commit) = tip(engine, target, None)?;
            Some(Source { branch, commit, into: own_folder(common).join(target.name.as_str()) })
        }
        _other => None,
    };
    let live = || releases.iter().rev().find(|one| one.is_live)?.release.artifact(&target.name).cloned();
    let version = match (running, live()) {
        (Ok(version), _) => version,
        (Err(_), _) if source.is_some() => String::new(),
        // It is gone: what the records know to be live.
        (Err(_), Some(live)) => live.version,
        (Err(_), None) if driver.brings() == Some(Brings::Git) => {
            let (branch, commit) = tip(engine, target, None)?;
            engine.git(target, &["cat-file", "-e", &format!("{commit}^{{commit}}")]).map_err(|_| {
                let folder = target.folder.display();
                let message = format!("{folder} does not know {}, the newest of {branch}", short(&commit));
                let hint = format!("git -C {folder} fetch {}; then this again", target.remote);
                Failure::new(FailureKind::Refused, message).hint(hint)
            })?;
            commit
        }
        (Err(failure), None) => return Err(failure),
    };
    let sealed = releases.iter().rev().filter_map(|one| one.release.artifact(&target.name));
    let sealed = sealed.into_iter().find(|one| one.version == version).cloned();
    let fresh = Artifact { target: target.name.clone(), version: version.clone(), served: None, origin: None };
    let (wanted, log) = (sealed.unwrap_or(fresh), level::Log::of(target));
    let app = App { target: target.clone(), running: version, log, wanted };
    Ok(One { app, is_there, source })
}

impl One {
    fn acts(&self) -> Acts<'_> {
        Acts { target: &self.app.target }
    }

    fn step(&self, id: &str, title: String, action: RedeployAction, undo: Undo) -> Step {
        of(self.acts().step(id, title, TargetAction::Redeploy(action), undo), &self.app.target)
    }

    /// What is needed lies beside, and nothing that runs notices.
    fn brought(&self, own: &std::path::Path) -> Option<Step> {
        let target = &self.app.target;
        let Some(source) = &self.source else { return Some(self.app.stage()) };
        let copy = TargetAction::FreshCopy {
            commit: source.commit.clone(),
            into: source.into.clone(),
            remote: Some(target.remote.clone()),
            only_there: true,
        };
        let title = format!("copy {} of {} for {}", short(&source.commit), target.remote, target.name);
        let undo = by(Action::Remove { paths: vec![own.to_owned()] });
        Some(of(self.acts().step("copy", title, copy, undo), target))
    }

    fn deployed(&self) -> Vec<Step> {
        let target = &self.app.target;
        match (&self.source, &target.driver) {
            (Some(source), _) => self.built(source),
            (None, Some(Driver::SupabaseFunctions { functions, .. })) => functions
                .iter()
                .map(|function| {
                    let (version, function) = (self.app.wanted.version.clone(), function.clone());
                    let title = format!("deploy the function {function}, and see that it is active");
                    let id = format!("function.{function}");
                    self.step(&id, title, RedeployAction::Function { version, function }, Undo::Nothing)
                })
                .collect(),
            (None, _) => {
                let version = self.app.wanted.version.clone();
                let title = format!("{}: {} once more", target.name, short(&version));
                let mut steps: Vec<Step> = self.is_there.then(|| self.app.note()).into_iter().collect();
                if self.is_there {
                    steps.extend(self.app.stop());
                }
                steps.push(self.step("again", title, RedeployAction::Again { version }, Undo::Nothing));
                steps.extend(self.app.start());
                steps
            }
        }
    }

    fn built(&self, source: &Source) -> Vec<Step> {
        let (target, former) = (&self.app.target, self.app.running.clone());
        let title = format!("build {} for production out of {}", target.name, short(&source.commit));
        let undo = match self.is_there {
            true => by(self.acts().action(TargetAction::Switch { version: former, back: true })),
            false => Undo::Nothing,
        };
        let build = RedeployAction::Build { from: source.into.clone() };
        let answers = TargetAction::NewInstance {
            version: None,
            before: format!("instance.{}", target.name).as_str().into(),
            limit_ms: self.acts().answer_ms(),
            artifact: None,
            quiet: None,
            switched: None,
            file: None,
        };
        let mut steps: Vec<Step> = self.is_there.then(|| self.app.note()).into_iter().collect();
        steps.push(self.step("build", title, build, undo));
        steps.push(of(self.acts().read("answers", "the new deployment is what answers", answers), target));
        steps
    }

    /// It answers, and does what it is for.
    fn verified(&self) -> Vec<Step> {
        let (target, acts) = (&self.app.target, self.acts());
        let is_started = self.source.is_none() && !matches!(target.driver, Some(Driver::SupabaseFunctions { .. }));
        // What was started was looked at right behind it.
        let mut steps = if is_started { Vec::new() } else { acts.works(level::Log::default(), &target.probes) };
        steps.extend(target.smoke.as_ref().map(|argv| {
            let (folder, argv) = (target.folder.clone(), argv.clone());
            let title = format!("it does what it is for: {}", argv.join(" "));
            acts.step(
                "smoke",
                title,
                TargetAction::Run { folder, argv, env: Default::default(), after: None },
                Undo::Nothing,
            )
        }));
        steps.into_iter().map(|step| of(step, target)).collect()
    }

    fn note(&self) -> String {
        let (name, version) = (&self.app.target.name, short(&self.app.wanted.version));
        match (&self.source, self.is_there) {
            (Some(source), _) => format!(
                "{name} is built out of {}, the newest of {} at {}.",
                short(&source.commit),
                source.branch,
                self.app.target.remote
            ),
            (None, true) => format!("{name} gets {version} once more, which is what it runs."),
            (None, false) => format!("{name} gets {version}; nothing tells what runs there now."),
        }
    }
}
