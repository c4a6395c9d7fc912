//! Planning a deploy: a version is brought and put in use, watched, and good - or taken back by itself.
//!
//! ```text
//!   preflight · app · [restore · verify · rehearse] · fence or stop · migrate or app-switch · start · smoke · watch · record
//! ```
//!
//! Going back by itself is nothing but the engine turning back: each step here carries what takes it back, and taken back
//! in reverse order they are a rollback. Writes are refused, the new version is stopped, DOWN scripts run - what leaves
//! with them is kept first -, the former version is switched to and started, and has to answer. So there is no point of no return, as
//! long as a rehearsal on a copy of the backup has shown that the migrations lead back without loss. Where somebody agreed to less,
//! the migrations are the point of no return: then what does not do stays, held, and a person decides.
//!
//! Old code never meets the new schema: the app stands still between the two.

mod again;

use std::collections::BTreeMap;

pub(super) use again::{took_back, undo};
use lifeboat_model::{
    Action, Artifact, Backup, BackupChoice, Baseline, Brings, Content, DeployAsk, EnvFacts, Failure, FailureKind,
    KeptFor, KnownRelease, Lease, Migrations, OnFailure, PgAction, Plan, Release, ReleaseId, ReleaseRecord,
    ReleaseState, Request, Resource, ResourceManifest, ResourceName, Reversibility, SchemaState, Step, StepClass,
    StepId, Target, TargetAction, Undo, migration,
    release::RELEASE_SCHEMA,
    time::{Duration, show_duration},
};

use super::{
    databases,
    level::{self, Acts},
    release::{Running, of, recorded, running},
    restore,
    rollback::left,
    steps::{self, by, phase, read, step},
};
use crate::{Engine, facts::Common, releases::is_by_file, targets};

/// Budgets of the phases in milliseconds; `[budgets]` in the settings wins. A watch takes as long as it takes.
const BUDGETS_MS: [(&str, u64); 10] = [
    ("preflight", 30_000),
    ("app", 300_000),
    ("restore", 300_000),
    ("verify", 120_000),
    ("rehearse", 120_000),
    ("fence", 30_000),
    ("migrate", 120_000),
    ("app-switch", 60_000),
    ("start", 180_000),
    ("smoke", 120_000),
];
/// How long between two looks while it is watched.
const LOOK_EVERY_MS: u64 = 2_000;
/// So many looks in a row may fail before it counts.
const FAILURES_MAX: u32 = 3;

/// A target, what it runs, and what it is to run.
struct App {
    target: Target,
    running: String,
    served: Option<String>,
    log: level::Log,
    wanted: String,
    /// Where that can be fetched again.
    origin: Option<String>,
    /// Whether it answers as it is; what does not cannot be asked to answer again.
    answers: bool,
}

/// A database whose migrations are about to be applied.
struct Base {
    name: ResourceName,
    resource: Resource,
    url: String,
    said: Migrations,
    schema: SchemaState,
    pending: Vec<migration::Pending>,
}

/// The backup that was made before, and the part of it that is rehearsed on.
struct Before {
    backup: Backup,
    part: Option<ResourceManifest>,
}

/// What is known when a deploy is planned.
pub(crate) struct Known {
    common: Common,
    apps: Vec<App>,
    bases: Vec<Base>,
    before: Option<Before>,
    env: BTreeMap<ResourceName, EnvFacts>,
    /// All databases with migrations, as they are.
    schemas: BTreeMap<ResourceName, SchemaState>,
    all: Vec<KnownRelease>,
}

impl Engine {
    /// Whether there is anything to deploy; what keeps it from being deployed is told before a backup is made for it.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check_deploy(&self, ask: &DeployAsk) -> Result<bool, Failure> {
        if let Some(open) = self.standing()?.deploy {
            let failure = Failure::new(FailureKind::Busy, format!("{} ({}) is not over", open.operation, open.title));
            return Err(failure.hint(format!("lifeboat resume {0}, or lifeboat abort {0}", open.operation)));
        }
        let apps = apps(self, ask)?;
        let bases = bases(self, &apps)?;
        let all = self.releases()?;
        refuse(&self.setup().scope.to_string(), &apps, &bases, &all, ask)?;
        for app in apps.iter().filter(|app| ask.although_bad.is_none() && !is_known(app, &all)) {
            if left(self, &app.target)?.contains(&app.wanted) {
                let message = format!("a rollback has left {} of {}, so it is held", app.wanted, app.target.name);
                let failure = Failure::new(FailureKind::Refused, message);
                return Err(failure.hint("deploy a newer version; --although-bad WHY when it was not its fault"));
            }
        }
        Ok(apps.iter().any(App::changes) || !bases.is_empty())
    }
}

pub(crate) fn gather(engine: &Engine, ask: &DeployAsk) -> Result<Known, Failure> {
    let common = engine.common()?;
    let apps = apps(engine, ask)?;
    let bases = bases(engine, &apps)?;
    let mut env = BTreeMap::new();
    let before = match bases.first() {
        Some(base) => {
            if !common.vault_exists {
                return Err(steps::no_vault(&common));
            }
            let choice = ask.backup.clone().map_or(BackupChoice::Latest, BackupChoice::Exactly);
            let (backup, part) = restore::choose(engine, &engine.backups_for(&choice)?, &base.resource, &choice)?;
            Some(Before { backup, part: Some(part) })
        }
        None => {
            let backups = if ask.backup.is_some() { engine.backups()? } else { Vec::new() };
            let found = backups.into_iter().find(|one| Some(&one.id) == ask.backup.as_ref());
            found.map(|backup| Before { backup, part: None })
        }
    };
    if let Some(before) = &before {
        for part in engine.manifest(&before.backup.id)?.resources {
            if let Content::Env(facts) = part.content {
                env.insert(part.name, facts);
            }
        }
    }
    let names = engine.setup().migrations.keys();
    let schemas = names.map(|name| Ok((name.clone(), engine.schema_state(name)?))).collect::<Result<_, Failure>>()?;
    Ok(Known { common, apps, bases, before, env, schemas, all: engine.releases()? })
}

fn apps(engine: &Engine, ask: &DeployAsk) -> Result<Vec<App>, Failure> {
    apps_with(engine, &|target| wanted(engine, target, ask.version.as_deref()))
}

fn apps_with(engine: &Engine, wanted: &dyn Fn(&Target) -> Result<String, Failure>) -> Result<Vec<App>, Failure> {
    running(engine)?
        .into_iter()
        .map(|Running { target, version, served, log, .. }| {
            let (wanted, answers) = (wanted(&target)?, targets::answers(engine.io(), &*engine.vaults, &target));
            let origin = targets::origin(engine.io(), &target, &wanted);
            Ok(App { target, running: version, served, log, wanted, origin, answers })
        })
        .collect()
}

/// What a word means as a version of a target.
fn wanted(engine: &Engine, target: &Target, word: Option<&str>) -> Result<String, Failure> {
    let driver = targets::driver(target)?;
    if driver.brings() == Some(Brings::Git) {
        return Ok(engine.folder(target, word.unwrap_or("HEAD"))?.commit);
    }
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let Some(word) = word else {
        let message = format!("nobody has said which version of {} is to be deployed", target.name);
        return Err(usage(message).hint("lifeboat deploy VERSION"));
    };
    if let Some(place) = targets::place(target, word) {
        if word.contains('/') || word.starts_with('.') {
            return Err(usage(format!("{word:?} is no name of a folder in the releases of {}", target.name)));
        }
        if !lifeboat_io::files::is_folder(&place) {
            let failure = Failure::new(FailureKind::Refused, format!("{} is not there", place.display()));
            return Err(failure.hint("bring that version into its folder first"));
        }
    }
    Ok(word.to_owned())
}

/// Databases to which something is about to be applied.
fn bases(engine: &Engine, apps: &[App]) -> Result<Vec<Base>, Failure> {
    let mut bases = Vec::new();
    for name in engine.setup().migrations.keys() {
        let (resource, url, said) = engine.migrations_of(name)?;
        let applied = engine.applied(name)?;
        let files = scripts_of(engine, said, name, apps)?;
        let whole = migration::pair(&files, is_by_file(&applied));
        // Older ones may have been put together into one; newer ones are not known to this code.
        let newest = whole.iter().map(|one| &one.version).max();
        let is_ahead = |version: &&String| newest.is_none_or(|newest| *version > newest);
        let ahead: Vec<&str> = applied.versions.iter().filter(is_ahead).map(String::as_str).collect();
        if !ahead.is_empty() {
            let message = format!("{name} has migrations that this version does not know: {}", ahead.join(", "));
            let failure = Failure::new(FailureKind::Refused, message);
            return Err(failure.hint("lifeboat rollback takes application and database back together"));
        }
        let pending = migration::pending(&files, is_by_file(&applied), &applied.versions);
        if pending.is_empty() {
            continue;
        }
        let refused = |why: String| {
            Failure::new(FailureKind::Refused, format!("migrations of {name} wait, and cannot be applied here"))
                .because(why)
        };
        if !applied.failed.is_empty() {
            let failed = applied.failed.join(", ");
            return Err(refused(format!("{failed} was begun and did not come to its end"))
                .hint("its tool has to settle that first: lifeboat migrate status"));
        }
        lifeboat_io::database::postgres::ledger_takes_rows(&applied)
            .map_err(|why| refused(why).hint("apply them with their own tool, then: lifeboat deploy"))?;
        for one in &pending {
            if let Some(why) = migration::outside_transaction(&one.up.text) {
                return Err(refused(format!("{}: {why}", one.migration.name))
                    .hint("apply it with its own tool before, then: lifeboat deploy"));
            }
        }
        bases.push(Base {
            name: name.clone(),
            resource: resource.clone(),
            url: url.to_owned(),
            said: said.clone(),
            schema: SchemaState { ledger: applied.ledger, applied: applied.versions, migrations: whole },
            pending,
        });
    }
    Ok(bases)
}

/// The scripts that come with the version: out of its commit, or its folder; else those that lie where the settings say.
fn scripts_of(
    engine: &Engine,
    said: &Migrations,
    name: &ResourceName,
    apps: &[App],
) -> Result<Vec<(String, String)>, Failure> {
    for app in apps {
        let Some((_, current)) = targets::driver(&app.target)?.places() else { continue };
        if let Ok(inside) = said.folder.strip_prefix(current)
            && let Some(place) = targets::place(&app.target, &app.wanted)
            && lifeboat_io::files::is_folder(&place)
        {
            return engine.script_files_in(&place.join(inside), name);
        }
        let is_git = targets::driver(&app.target)?.brings() == Some(Brings::Git);
        if let (true, Ok(inside)) =
            (is_git, said.folder.strip_prefix(current).or(said.folder.strip_prefix(&app.target.folder)))
        {
            return engine.scripts_at(&app.target, &app.wanted, inside, name);
        }
    }
    engine.script_files_in(&said.folder, name)
}

/// Why it is not deployed, when it is not.
fn refuse(scope: &str, apps: &[App], bases: &[Base], all: &[KnownRelease], ask: &DeployAsk) -> Result<(), Failure> {
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    if apps.is_empty() {
        let failure =
            Failure::new(FailureKind::Usage, format!("nobody has said how versions are put in use in {scope}"));
        return Err(failure.hint("write driver = \"git\", for example, into the table of its target in lifeboat.toml"));
    }
    if let [_, _, ..] = bases {
        let names: Vec<&str> = bases.iter().map(|base| base.name.as_str()).collect();
        let failure = refused(format!("migrations of several databases wait: {}", names.join(", ")));
        return Err(failure.hint("apply those of all but one with their own tool first"));
    }
    if let (Some(bad), None) = (held(apps, all), &ask.although_bad) {
        let why = bad.why.clone().unwrap_or_default();
        let failure = refused(format!("{} is held for bad: {why}", bad.release.shown()));
        return Err(failure.hint(format!(
            "deploy a newer version; lifeboat releases mark {} good --reason WHY, or --although-bad WHY, when it was not its fault",
            bad.release.id
        )));
    }
    refuse_scripts(bases, ask)
}

/// Without a script that leads back nothing is begun, unless somebody agreed to that.
fn refuse_scripts(bases: &[Base], ask: &DeployAsk) -> Result<(), Failure> {
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    for one in bases.iter().flat_map(|base| &base.pending) {
        let why = match &one.migration.down {
            None => Some("it has no DOWN script".to_owned()),
            Some(down) => migration::outside_transaction(&down.text),
        };
        if let Some(why) = why.filter(|_| ask.at_least != Reversibility::OneWay) {
            let failure = refused(format!("{} could not be taken back: {why}", one.migration.name));
            return Err(failure.hint(
                "write that script beside it; --accept one-way deploys it all the same, and holds it when it fails",
            ));
        }
    }
    Ok(())
}

/// Whether its version was ever sealed; then what is said of that counts.
fn is_known(app: &App, all: &[KnownRelease]) -> bool {
    let mut artifacts = all.iter().filter_map(|one| one.release.artifact(&app.target.name));
    artifacts.any(|one| one.version == app.wanted)
}

/// The release that is held for bad and is what is wanted: a late run of a pipeline may not put it back.
fn held<'a>(apps: &[App], all: &'a [KnownRelease]) -> Option<&'a KnownRelease> {
    let is_it = |known: &&KnownRelease| {
        let mut artifacts = known.release.artifacts.iter();
        artifacts.any(|one| apps.iter().any(|app| app.target.name == one.target && app.wanted == one.version))
    };
    // What was said last of that version counts.
    let told = |known: &&KnownRelease| matches!(known.state, ReleaseState::Bad | ReleaseState::Good);
    all.iter().rev().filter(is_it).find(told).filter(|known| known.state == ReleaseState::Bad)
}

/// Plans a deploy.
///
/// # Errors
/// Why it is refused.
pub(crate) fn plan(known: &Known, request: &Request, ask: &DeployAsk) -> Result<Plan, Failure> {
    let common = &known.common;
    refuse(&common.scope.to_string(), &known.apps, &known.bases, &known.all, ask)?;
    let release = release(known, ask);
    let title = match ask.why.trim() {
        "" => format!("deploy {} to {}", shown(known, ask), common.scope),
        why => format!("deploy {} to {}: {why}", shown(known, ask), common.scope),
    };
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    let base = known.bases.first();
    let apps: Vec<&App> = known.apps.iter().filter(|app| app.changes() || base.is_some()).collect();
    if apps.is_empty() {
        return Ok(plan);
    }
    let going = Going { known, ask, base, is_pivot: base.is_some() && ask.at_least != Reversibility::DownLossless };
    plan.phases.push(phase(common, "preflight", vec![], apps.iter().map(|app| app.check()).collect()));
    plan.phases.push(phase(common, "app", vec![], apps.iter().filter_map(|app| app.stage()).collect()));
    going.rehearsal(&mut plan)?;
    let mut fence: Vec<Step> = apps.iter().flat_map(|app| app.note()).collect();
    fence.extend(base.map(|base| base.fence(&plan.title)));
    fence.extend(apps.iter().flat_map(|app| app.stop()));
    plan.phases.push(phase(common, if base.is_some() { "fence" } else { "stop" }, vec![], fence));
    // Who is started by a command can be switched while nobody runs; who is not, is started by the switch.
    let (stands, runs): (Vec<&App>, Vec<&App>) = apps.iter().partition(|app| app.target.start_call().is_some());
    let mut migrate: Vec<Step> = stands.iter().filter_map(|app| app.switch()).collect();
    migrate.extend(base.map(|base| going.migrate(base)));
    plan.phases.push(phase(common, if base.is_some() { "migrate" } else { "app-switch" }, vec![], migrate));
    let mut start: Vec<Step> = runs.iter().filter_map(|app| app.switch()).collect();
    start.extend(stands.iter().map(|app| of(app.acts().start(), &app.target)));
    start.extend(base.map(|base| base.let_in(&plan.title)));
    start.extend(apps.iter().filter_map(|app| app.answered(ask)));
    plan.phases.push(phase(common, "start", vec![], going.judged(start)));
    let smoke: Vec<Step> = apps.iter().flat_map(|app| app.smoke()).collect();
    plan.phases.push(phase(common, "smoke", vec![], going.judged(smoke)));
    let watch: Vec<Step> = going.watch(&apps);
    let checked_by: Vec<StepId> = watch.iter().map(|step| step.id.clone()).collect();
    plan.phases.push(phase(common, "watch", vec![], going.judged(watch)));
    let witnessed = apps.iter().all(|app| app.is_witnessed()) && ask.watch_ms > 0;
    let record = ReleaseRecord::Deploy { release: Box::new(release), witnessed, checked_by };
    plan.phases.push(phase(
        common,
        "record",
        vec![],
        vec![recorded("release", "put on record how it does", record, Undo::Nothing)],
    ));
    for phase in &mut plan.phases {
        let budget = BUDGETS_MS.iter().find(|(name, _)| *name == phase.name).map(|(_, budget)| *budget);
        phase.budget_ms = phase.budget_ms.or(budget);
    }
    plan.phases.retain(|phase| !phase.steps.is_empty());
    plan.notes = going.notes(&apps);
    Ok(plan)
}

fn shown(known: &Known, ask: &DeployAsk) -> String {
    let short = known.apps.first().map(|app| level::short(&app.wanted).to_owned()).unwrap_or_default();
    match ask.label.as_ref().or(ask.version.as_ref()) {
        Some(word) if *word != short => format!("{word} ({short})"),
        _same => short,
    }
}

/// What will be sealed.
fn release(known: &Known, ask: &DeployAsk) -> Release {
    let sealed = |app: &App| {
        let before = known.all.iter().rev().filter_map(|one| one.release.artifact(&app.target.name));
        before.filter(|one| one.version == app.wanted).find_map(|one| one.served.clone())
    };
    let artifacts = known.apps.iter().map(|app| Artifact {
        target: app.target.name.clone(),
        origin: app.origin.clone(),
        version: app.wanted.clone(),
        served: ask.tells.clone().or_else(|| sealed(app)),
    });
    let mut databases = known.schemas.clone();
    for base in &known.bases {
        let mut schema = base.schema.clone();
        schema.applied.extend(base.pending.iter().map(|one| one.migration.version.clone()));
        let applied = schema.applied.clone();
        schema.migrations.retain(|one| applied.contains(&one.version));
        databases.insert(base.name.clone(), schema);
    }
    Release {
        schema: RELEASE_SCHEMA.to_owned(),
        id: ReleaseId::from_random(known.common.ids.seed),
        label: ask.label.clone().or_else(|| ask.version.clone()),
        sealed_at: known.common.now,
        artifacts: artifacts.collect(),
        env: known.env.clone(),
        databases,
        // The one before holds the data of the version before.
        backup: None,
        // Nothing can be measured of what does not run yet.
        baseline: Baseline::new(),
    }
}

impl App {
    fn acts(&self) -> Acts<'_> {
        Acts { target: &self.target }
    }

    fn changes(&self) -> bool {
        self.running != self.wanted
    }

    /// Whether there is somebody to ask how it does.
    fn is_witnessed(&self) -> bool {
        self.target.smoke.is_some() || self.target.has_probes()
    }

    fn check(&self) -> Step {
        let action = TargetAction::CheckRuns { version: self.running.clone() };
        let title = format!("{} runs {}", self.target.name, level::short(&self.running));
        of(self.acts().read("runs", &title, action), &self.target)
    }

    /// Brings the version; nothing that runs notices. A platform that takes it from a registry brings it when it is put in use.
    fn stage(&self) -> Option<Step> {
        let driver = self.target.driver.as_ref()?;
        let is_brought = driver.places().is_some() || driver.stage(&self.wanted).is_some();
        let title = format!("bring {} of {}, without starting it", level::short(&self.wanted), self.target.name);
        let action = TargetAction::Stage { version: self.wanted.clone(), origin: None };
        (self.changes() && is_brought)
            .then(|| of(self.acts().step("stage", title, action, Undo::Nothing), &self.target))
    }

    /// Notes which instance answers; taken back, the former version has to answer again.
    fn note(&self) -> Vec<Step> {
        let acts = self.acts();
        let note = TargetAction::NoteInstance;
        if !self.answers {
            return vec![of(acts.read("instance", "note which instance answers", note), &self.target)];
        }
        let before = StepId("nobody-before".to_owned());
        let (version, limit_ms) = (self.served.clone(), acts.answer_ms());
        let again = acts.action(TargetAction::NewInstance {
            version,
            before,
            limit_ms,
            artifact: Some(self.running.clone()),
            quiet: None,
            switched: None,
            file: None,
        });
        let tells =
            Step { undo: by(again), ..of(acts.read("instance", "note which instance answers", note), &self.target) };
        let mut steps = vec![tells];
        if self.target.has_probes() {
            let paths = self.target.asked_paths();
            let lines = vec![format!("When it is taken back, {} have to answer again.", self.target.shown_probes())];
            let probe = by(acts.action(TargetAction::Probe { paths, limit_ms }));
            let title = "what runs answers, and has to when it is taken back";
            steps.insert(
                0,
                of(step("answers-again", title, StepClass::Read, Action::Say { lines }, probe), &self.target),
            );
        }
        steps
    }

    /// Stops it, and looks whether it is gone.
    fn stop(&self) -> Vec<Step> {
        let acts = self.acts();
        let mut steps = Vec::new();
        if self.target.stop_call().is_some() {
            steps.push(acts.stop());
            if self.target.tells.is_some() {
                steps.push(acts.read("quiet", "nobody answers in its place", TargetAction::Quiet));
            }
        }
        steps.into_iter().map(|step| of(step, &self.target)).collect()
    }

    fn switch(&self) -> Option<Step> {
        let (from, to) = (self.running.clone(), self.wanted.clone());
        let title = format!("{}: {} in the place of {}", self.target.name, level::short(&to), level::short(&from));
        let undo = by(self.acts().action(TargetAction::Switch { version: from, back: true }));
        let switch = self.acts().step("switch", title, TargetAction::Switch { version: to, back: false }, undo);
        self.changes().then(|| of(switch, &self.target))
    }

    /// Shows that what answers is a new instance, and of the wanted version where somebody says what that tells.
    fn answered(&self, ask: &DeployAsk) -> Option<Step> {
        let tells = self.target.tells.as_ref()?;
        let place = targets::place(&self.target, &self.wanted);
        let file = tells.file.as_ref().and_then(|name| Some(place?.join(name)));
        let title = match (&ask.tells, &file) {
            (Some(version), _) => format!("a new instance answers with {version}"),
            (None, Some(file)) => format!("a new instance answers with what {} says", file.display()),
            (None, None) => "a new instance answers".to_owned(),
        };
        let (version, limit_ms) = (ask.tells.clone(), self.acts().answer_ms());
        let id = |step: &str| StepId(format!("{step}.{}", self.target.name));
        let action = TargetAction::NewInstance {
            version,
            before: id("instance"),
            limit_ms,
            artifact: Some(self.wanted.clone()),
            quiet: self.target.stop_call().map(|_| id("quiet")),
            switched: self.changes().then(|| id("switch")),
            file,
        };
        Some(of(self.acts().read("answers", &title, action), &self.target))
    }

    fn smoke(&self) -> Vec<Step> {
        let acts = self.acts();
        let mut steps = acts.works(self.log, &self.target.probes);
        if let Some(argv) = &self.target.smoke {
            let (folder, argv) = (self.target.folder.clone(), argv.clone());
            let title = format!("it does what it is for: {}", argv.join(" "));
            let run = TargetAction::Run { folder, argv, env: Default::default(), after: None };
            steps.push(acts.step("smoke", title, run, Undo::Nothing));
        }
        steps.into_iter().map(|step| of(step, &self.target)).collect()
    }
}

impl Base {
    fn fenced(&self, on: bool, why: &str) -> Action {
        let (url, why) = (self.url.clone(), why.to_owned());
        Action::Postgres(PgAction::Fence { url, on, why, brief: false, database: None })
    }

    fn fence(&self, why: &str) -> Step {
        let title = format!("refuse every write to {}, and see that none is left", self.name);
        let undo = by(self.fenced(false, why));
        step(format!("fence.{}", self.name), title, StepClass::Idempotent, self.fenced(true, why), undo)
    }

    /// The migrations' own transaction lets writes in; taken back, it refuses them before anything else goes back.
    fn let_in(&self, why: &str) -> Step {
        let title = format!("writes to {} are let in", self.name);
        let undo = by(self.fenced(true, why));
        step(format!("let-in.{}", self.name), title, StepClass::Idempotent, self.fenced(false, why), undo)
    }
}

/// A deploy that is being planned.
struct Going<'a> {
    known: &'a Known,
    ask: &'a DeployAsk,
    base: Option<&'a Base>,
    /// Whether the migrations are the point of no return.
    is_pivot: bool,
}

impl Going<'_> {
    /// Whether it stays when it does not do.
    fn is_held(&self) -> bool {
        // Once for each release is enough: what was rolled back before is a person's to decide.
        self.is_pivot || self.ask.hold || self.ask.although_bad.is_some()
    }

    fn judged(&self, steps: Vec<Step>) -> Vec<Step> {
        let is_held = self.is_held();
        let judged = |step: Step| {
            // Writes are let in whatever the app does.
            let on_failure = match (is_held, &step.action) {
                (_, Action::Postgres(_)) => OnFailure::Unwind,
                (true, _) => OnFailure::Note,
                (false, _) => OnFailure::Hold,
            };
            Step { on_failure, ..step }
        };
        steps.into_iter().map(judged).collect()
    }

    /// Up, down, up on a copy of the backup that was made before.
    fn rehearsal(&self, plan: &mut Plan) -> Result<(), Failure> {
        let (Some(base), Some(before)) = (self.base, &self.known.before) else { return Ok(()) };
        let Some(part) = &before.part else { return Ok(()) };
        let Content::Postgres(facts) = &part.content else { return Err(steps::wrong_planner()) };
        let (common, backup) = (&self.known.common, &before.backup);
        let stored = Action::CheckBackup { vault: common.vault.clone(), backup: backup.id.clone() };
        let look = read("check-backup", format!("{} is whole in the vault", backup.id), stored);
        if let Some(preflight) = plan.phases.first_mut() {
            preflight.steps.push(look);
        }
        let (phases, database) =
            databases::fill_for(common, backup, &base.resource, part, &base.url, &facts.database.name);
        plan.phases.extend(phases);
        let rehearse = PgAction::Rehearse {
            url: base.url.clone(),
            database: database.clone(),
            pending: base.pending.clone(),
            statement_timeout_ms: base.said.statement_timeout_ms,
            at_least: Some(self.ask.at_least),
        };
        let up = "apply the migrations there, take them back, apply them again, and compare";
        let drop = Action::Postgres(PgAction::Drop { url: base.url.clone(), database: database.clone() });
        let tried = vec![
            step("rehearse", up, StepClass::Idempotent, Action::Postgres(rehearse), Undo::Nothing),
            step("clean", format!("drop {database}"), StepClass::Idempotent, drop, Undo::Nothing),
        ];
        plan.phases.push(phase(common, "rehearse", vec![], tried));
        Ok(())
    }

    fn migrate(&self, base: &Base) -> Step {
        let names: Vec<&str> = base.pending.iter().map(|one| one.migration.version.as_str()).collect();
        let title = format!("apply {} to {}, in one transaction", names.join(", "), base.name);
        let (lock_timeout_ms, statement_timeout_ms) = (base.said.lock_timeout_ms, base.said.statement_timeout_ms);
        let action = Action::Postgres(PgAction::Migrate {
            url: base.url.clone(),
            ledger: base.schema.ledger.clone(),
            pending: base.pending.clone(),
            lock_timeout_ms,
            statement_timeout_ms,
        });
        if self.is_pivot {
            let because = "nothing has shown that these migrations lead back without loss".to_owned();
            return step("migrate", title, StepClass::Pivot, action, Undo::Impossible { because });
        }
        let keep = self
            .known
            .before
            .as_ref()
            .map(|before| Box::new(KeptFor { resource: base.resource.clone(), backup: before.backup.id.clone() }));
        let back = Action::Postgres(PgAction::Revert {
            url: base.url.clone(),
            ledger: base.schema.ledger.clone(),
            migrations: base.pending.iter().rev().map(|one| one.migration.clone()).collect(),
            lock_timeout_ms,
            statement_timeout_ms,
            keep,
        });
        step("migrate", title, StepClass::ProbeFirst, action, by(back))
    }

    /// Each target is watched; what the rules speak of is measured beside the last one.
    fn watch(&self, apps: &[&App]) -> Vec<Step> {
        if self.ask.watch_ms == 0 {
            return Vec::new();
        }
        let share = self.ask.watch_ms / apps.len().max(1) as u64;
        let one = |(at, app): (usize, &&App)| {
            let title = format!("watch {} for {}", app.target.name, show_duration(Duration::from_millis(share)));
            let action = TargetAction::Watch {
                paths: app.target.probes.clone(),
                for_ms: share,
                every_ms: LOOK_EVERY_MS,
                failures_max: FAILURES_MAX,
                measures: at + 1 == apps.len(),
            };
            of(app.acts().read("watch", &title, action), &app.target)
        };
        apps.iter().enumerate().map(one).collect()
    }

    fn notes(&self, apps: &[&App]) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(base) = self.base {
            let names: Vec<&str> = base.pending.iter().map(|one| one.migration.name.as_str()).collect();
            notes.push(format!("Migrations of {}: {}.", base.name, names.join(", ")));
        }
        notes.push(match (self.is_pivot, self.is_held(), self.base.is_some()) {
            (true, _, _) => "Its migrations are the point of no return; when it does not do it stays, held, and a person decides.".to_owned(),
            (false, true, _) => "When it does not do it stays, held, and a person decides.".to_owned(),
            (false, false, true) => "When it does not do, application and database go back by themselves; rows and values that leave with the DOWN scripts are kept: lifeboat salvage list.".to_owned(),
            (false, false, false) => "When it does not do, the application goes back by itself.".to_owned(),
        });
        for app in apps {
            let name = &app.target.name;
            if app.target.tells.is_none() {
                notes.push(format!(
                    "Nobody said how {name} tells its version, so that a new instance answers cannot be shown: [targets.{name}.tells]."
                ));
            }
            if !app.is_witnessed() {
                notes.push(format!(
                    "Nobody can be asked how {name} does, so the release will not count as good: probes, smoke."
                ));
            }
            if !app.answers {
                notes.push(format!(
                    "{name} does not answer as it is, so whether the former version works again is not looked at."
                ));
            }
            if self.base.is_some() && app.target.start_call().is_none() {
                notes.push(format!(
                    "{name} cannot be stopped, so the former version meets the new schema until the new one answers."
                ));
            }
        }
        notes
    }
}
