//! Planning a rollback: application, database and environment go back together, by the shortest way that works.
//!
//! ```text
//!   env-only       preflight · stop · variables · restart
//!   app-only       preflight · app · restart · report
//!   app-and-down   preflight · app · fence · emergency-backup · app-switch · down (no return) · variables · restart · report
//!   full           preflight · app · fence · emergency-backup · restore · verify · app-switch · swap (no return) · variables · restart · report
//!                  with a copy that lies ready: ... app · restore · verify · fence · emergency-backup · app-switch · swap ...
//! ```
//!
//! Writes are refused before the application is stopped, and the former version starts only once the database is what it
//! knows: old code never meets a new schema, and up to the point of no return everything can be put back.

mod again;
mod environment;
mod former;
mod full;

pub(super) use again::{took_database, undo};
pub(super) use environment::back as variables_back;
use lifeboat_model::{
    Action, Artifact, BackupId, Content, Driver, EnvBinding, Failure, FailureKind, KnownRelease, Lease, OnFailure,
    OperationState, Plan, Profile, Release, ReleaseId, ReleaseRecord, ReleaseState, Request, ResourceName, Step,
    StepClass, StepId, Target, TargetAction, Undo, VersionAsk,
    message::{self, Notice},
    release::{self, RELEASE_SCHEMA},
};

use super::{
    databases,
    level::{self, Acts},
    release::{Running, of, recorded, running},
    revert::{Base, base},
    steps::{self, Taking, by, phase},
    variables::Edit,
};
use crate::{Engine, facts::Common, targets};

/// Budgets of the phases in milliseconds, as the documents give them; `[budgets]` in the settings wins.
const BUDGETS_MS: [(&str, u64); 12] = [
    ("preflight", 30_000),
    ("notify", 60_000),
    ("app", 300_000),
    ("fence", 30_000),
    ("emergency-backup", 120_000),
    ("restore", 300_000),
    ("verify", 120_000),
    ("app-switch", 60_000),
    ("down", 120_000),
    ("variables", 120_000),
    ("restart", 180_000),
    ("report", 60_000),
];
/// A target, what it runs, and what it ran in the release.
pub(super) struct App {
    pub target: Target,
    pub running: String,
    pub log: level::Log,
    pub wanted: Artifact,
}

/// What is known when a rollback is planned.
pub(crate) struct Known {
    common: Common,
    to: KnownRelease,
    /// Whether that was ever sealed, and is not only what the platform lists.
    is_sealed: bool,
    from: Option<KnownRelease>,
    apps: Vec<App>,
    /// Databases with migrations; not looked at when the application alone was asked for.
    bases: Option<Vec<Base>>,
    /// The backup that its data come from: that of the release, or the one that was named.
    source: Option<BackupId>,
    /// Whether that is there.
    has_backup: bool,
    /// Why the one that was named does not go with the release.
    unfit: Option<String>,
    /// What differs in files of variables; only looked at when they alone are to come back.
    edits: Option<Vec<Edit>>,
    /// What differs there and comes back with application and database; or why that cannot be told, which holds nothing up.
    beside: Result<Vec<Edit>, Failure>,
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Version { about: VersionAsk::RollBack { to, profile, backup, .. } } = request else {
        return Err(steps::wrong_planner());
    };
    let common = engine.common()?;
    let all = engine.releases()?;
    let running = running(engine)?;
    let runs: Vec<_> = running.iter().map(|one| (one.target.name.clone(), one.version.clone())).collect();
    let newest_good = || all.iter().rev().find(|one| one.state == ReleaseState::Good && one.release.backup.is_some());
    let half_way = match (to, profile) {
        (None, Some(Profile::AppOnly | Profile::EnvOnly)) | (Some(_), _) => None,
        (None, _) => half_way(engine, &all, &runs)?,
    };
    let chosen = match release::choose(&all, to.as_deref(), &runs) {
        _any if half_way.is_some() => half_way.ok_or_else(steps::wrong_planner)?,
        // Variables alone go back to the newest good one, whatever runs.
        _any if to.is_none() && *profile == Some(Profile::EnvOnly) && newest_good().is_some() => {
            newest_good().cloned().ok_or_else(steps::wrong_planner)?
        }
        Ok(known) => known.clone(),
        Err(failure) if to.is_none() => of_platform(engine, &all, &running, &common)?.ok_or(failure)?,
        Err(failure) => return Err(failure),
    };
    let apps = running.into_iter().filter_map(|one| {
        let wanted = chosen.release.artifact(&one.target.name)?.clone();
        Some(App { target: one.target, running: one.version, log: one.log, wanted })
    });
    let apps: Vec<App> = apps.collect();
    let bases = match profile {
        // No database is even connected to.
        Some(Profile::AppOnly | Profile::EnvOnly) => None,
        _any => Some(bases(engine, &chosen.release, &all)?),
    };
    let source = backup.clone().or_else(|| chosen.release.backup.clone());
    let unfit = match (backup, &bases) {
        (Some(other), Some(bases)) => unfit(engine, &chosen.release, other, bases),
        _its_own => None,
    };
    let has_backup = match (&source, &bases) {
        (Some(id), Some(_)) => engine.backups()?.iter().any(|one| one.id == *id),
        _none_needed => false,
    };
    let from = all.iter().find(|one| one.is_live).cloned();
    let is_sealed = all.iter().any(|one| one.release.id == chosen.release.id);
    let edits = match profile {
        Some(Profile::EnvOnly) => Some(environment::alone(engine, &common, &chosen.release)?),
        _any => None,
    };
    let beside = match profile {
        Some(Profile::EnvOnly | Profile::AppOnly) => Ok(Vec::new()),
        _any => environment::beside(engine, &common, &chosen.release),
    };
    Ok(Known { common, to: chosen, is_sealed, from, apps, bases, source, has_backup, unfit, edits, beside })
}

impl Engine {
    /// Whether application and databases are already what they were in a release.
    ///
    /// # Errors
    /// When there is no such release, or something cannot be asked.
    pub fn stands_at(&self, release: &str) -> Result<bool, Failure> {
        let (to, why) = (Some(release.to_owned()), String::new());
        let known =
            gather(self, &Request::Version { about: VersionAsk::RollBack { to, profile: None, why, backup: None } })?;
        let is_same = |base: &Base| base.extra.is_empty() && base.missing.is_empty();
        Ok(known.apps.iter().all(|app| app.running == app.wanted.version) && known.bases.iter().flatten().all(is_same))
    }
}

/// Why another backup than its own does not go with a release, when it does not: it holds another schema, or none that can be told.
fn unfit(engine: &Engine, release: &Release, backup: &BackupId, bases: &[Base]) -> Option<String> {
    let [base] = bases else { return None };
    let schema = |id: &BackupId| match &engine.manifest(id).ok()?.resource(&base.name)?.content {
        Content::Postgres(facts) => Some((facts.migrations.clone(), facts.fingerprint.clone())),
        Content::Sqlite(_) | Content::Files(_) | Content::Env(_) => None,
    };
    let Some(other) = schema(backup) else {
        return Some(format!("what {backup} holds of {} cannot be told", base.name));
    };
    let is_same = match release.backup.as_ref().and_then(schema) {
        Some(own) => own == other,
        // Its own is not there, or cannot be read: what was put on record of the release has to do.
        None => {
            let newest = release.databases.get(&base.name).and_then(|state| state.applied.last());
            newest.is_some() && other.0.get(&base.ledger.to_string()) == newest
        }
    };
    (!is_same).then(|| format!("{backup} holds another schema of {} than {}", base.name, release.shown()))
}

/// The databases of a release that have migrations.
fn bases(engine: &Engine, release: &Release, all: &[KnownRelease]) -> Result<Vec<Base>, Failure> {
    let known = release.databases.iter().filter(|(name, _)| engine.setup().migrations.contains_key(*name));
    known.map(|(name, state)| base(engine, name, all, &|_| Ok(state.applied.clone()))).collect()
}

/// The newest good release when its code runs already and its databases are not what it knows: somebody took the application back by
/// itself, or migrations were applied in part. To go further back would be to go too far.
fn half_way(
    engine: &Engine,
    all: &[KnownRelease],
    runs: &[(ResourceName, String)],
) -> Result<Option<KnownRelease>, Failure> {
    let Some(good) = all.iter().rev().find(|one| one.state == ReleaseState::Good) else { return Ok(None) };
    let is_there = |(target, version): &(ResourceName, String)| {
        good.release.artifact(target).is_none_or(|artifact| artifact.version == *version)
    };
    if !runs.iter().all(is_there) {
        return Ok(None);
    }
    let differs = |base: &Base| !base.extra.is_empty() || !base.missing.is_empty();
    Ok(bases(engine, &good.release, all)?.iter().any(differs).then(|| good.clone()))
}

/// What the platform itself knows as the release before, where nothing was sealed: it is stateless, and its registry keeps it.
fn of_platform(
    engine: &Engine,
    all: &[KnownRelease],
    running: &[Running],
    common: &Common,
) -> Result<Option<KnownRelease>, Failure> {
    let [one] = running else { return Ok(None) };
    if !matches!(one.target.driver, Some(Driver::Fly { .. } | Driver::Vercel { .. })) {
        return Ok(None);
    }
    let listed = targets::listed(engine.io(), &one.target)?;
    let bad = all.iter().filter(|one| one.state == ReleaseState::Bad).flat_map(|one| &one.release.artifacts);
    let mut bad: Vec<String> = bad.map(|artifact| artifact.version.clone()).collect();
    bad.extend(left(engine, &one.target)?);
    // Newest first: those behind the one in use came before it. Releases of secrets and scale repeat an image.
    let older = listed.iter().skip_while(|listed| listed.version != one.version);
    let Some(before) = older.into_iter().find(|listed| {
        let is_other = listed.version != one.version && !listed.version.is_empty();
        listed.can_run && is_other && !bad.contains(&listed.version)
    }) else {
        return Ok(None);
    };
    let (version, label) = (before.version.clone(), before.label.clone());
    let artifact = Artifact { target: one.target.name.clone(), version, served: None, origin: None };
    let release = Release {
        schema: RELEASE_SCHEMA.to_owned(),
        id: ReleaseId::from_random(common.ids.seed),
        label: Some(label),
        sealed_at: common.now,
        artifacts: vec![artifact],
        env: Default::default(),
        databases: Default::default(),
        backup: None,
        baseline: Default::default(),
    };
    Ok(Some(KnownRelease { release, state: ReleaseState::Candidate, is_live: false, why: None }))
}

/// Versions of a target that a rollback has left: nothing puts them back by itself, sealed or not.
pub(super) fn left(engine: &Engine, target: &Target) -> Result<Vec<String>, Failure> {
    let scope = engine.setup().scope.to_string();
    let rows = engine.look().operations(usize::MAX)?;
    let mut found = Vec::new();
    for row in rows.iter().filter(|row| row.closed && row.scope == scope && row.kind == "rollback") {
        let operation = engine.look().operation(&row.id)?;
        let is_done = operation.state == OperationState::Done && !release::is_rehearsal(&operation.plan);
        found.extend(operation.plan.steps().filter(|_| is_done).filter_map(|step| match &step.action {
            Action::Target { target: of, action: TargetAction::CheckRuns { version } } if of.name == target.name => {
                Some(version.clone())
            }
            _other => None,
        }));
    }
    Ok(found)
}

/// A way back: whether it works, and why not when it does not.
struct Way {
    profile: Profile,
    why_not: Option<String>,
}

/// Every way back, the shortest first. A rollback without a word takes the first that works.
fn ways(known: &Known) -> Vec<Way> {
    let why_not = |profile: Profile| match profile {
        Profile::EnvOnly => env_only_fails(known),
        Profile::AppOnly => app_only_fails(known),
        Profile::AppAndDown => down_fails(known),
        Profile::Full => full_fails(known),
    };
    Profile::ALL.into_iter().map(|profile| Way { profile, why_not: why_not(profile) }).collect()
}

fn env_only_fails(known: &Known) -> Option<String> {
    let Some(edits) = &known.edits else { return Some("it is taken only when asked for by its name".to_owned()) };
    if known.to.release.backup.is_none() {
        return Some(format!("no backup was made when {} was sealed", known.to.release.shown()));
    }
    match edits.is_empty() {
        true => Some(format!("its backup is not there, or holds no env file of {}", known.common.scope)),
        false if edits.iter().all(Edit::is_empty) => {
            Some(format!("variables are as they were in {}", known.to.release.shown()))
        }
        false => None,
    }
}

fn app_only_fails(known: &Known) -> Option<String> {
    if known.apps.iter().all(|app| app.running == app.wanted.version) {
        return Some(format!("what {} ran is what runs", known.to.release.shown()));
    }
    let bases = known.bases.as_ref()?;
    let differs = bases.iter().find(|base| !base.extra.is_empty() || !base.missing.is_empty())?;
    let mut versions: Vec<&str> = differs.extra.iter().map(|(version, _)| version.as_str()).collect();
    versions.extend(differs.missing.iter().map(String::as_str));
    Some(format!(
        "{} differs by {}: old code would meet a schema that it does not know",
        differs.name,
        versions.join(", ")
    ))
}

fn down_fails(known: &Known) -> Option<String> {
    let bases = known.bases.as_ref()?;
    let [base] = bases.as_slice() else {
        return Some(match bases.len() {
            0 => format!("{} has no database with migrations", known.to.release.shown()),
            _several => {
                "several databases have migrations: lifeboat migrate revert takes them back one by one".to_owned()
            }
        });
    };
    match base.extra.is_empty() {
        true => Some(format!("nothing was applied to {} since", base.name)),
        false => base.why_not(),
    }
}

fn full_fails(known: &Known) -> Option<String> {
    let Some(backup) = &known.source else {
        return Some(format!("no backup was made when {} was sealed", known.to.release.shown()));
    };
    if !known.has_backup {
        return Some(format!("{backup} is not in the vault any more"));
    }
    if let Some(unfit) = &known.unfit {
        return Some(unfit.clone());
    }
    match known.bases.as_deref() {
        Some([_one]) => None,
        Some([]) | None => Some(format!("{} has no database with migrations", known.to.release.shown())),
        Some(_several) => Some("several databases go back one by one: lifeboat restore".to_owned()),
    }
}

/// Plans a rollback.
///
/// # Errors
/// The way that was asked for does not work, or none does; every reason is named.
pub(crate) fn plan(engine: &Engine, known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Version { about: VersionAsk::RollBack { profile, why, backup, .. } } = request else {
        return Err(steps::wrong_planner());
    };
    let (common, to) = (&known.common, &known.to.release);
    if known.apps.is_empty() && to.databases.is_empty() {
        let message = format!("{} says nothing of what runs in {}", to.shown(), common.scope);
        return Err(Failure::new(FailureKind::Refused, message).hint("lifeboat releases show tells what it holds"));
    }
    let profile = &match (profile, backup) {
        (None, Some(_)) => Some(Profile::Full),
        (Some(other), Some(_)) if *other != Profile::Full => {
            let message = format!("{} brings no data back, and so from no backup", other.word());
            return Err(Failure::new(FailureKind::Usage, message).hint("--backup goes with --profile full"));
        }
        (profile, _) => *profile,
    };
    let ways = ways(known);
    let works = |way: &&Way| way.why_not.is_none();
    let chosen = match profile {
        Some(profile) => ways.iter().filter(works).find(|way| way.profile == *profile),
        None => ways.iter().find(works),
    };
    let Some(chosen) = chosen else { return Err(no_way(known, &ways, *profile)) };
    let title = match why.trim() {
        "" => format!("roll {} back to {}", common.scope, to.shown()),
        why => format!("roll {} back to {}: {why}", common.scope, to.shown()),
    };
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    let why = if why.trim().is_empty() { "a rollback" } else { why.trim() };
    match chosen.profile {
        Profile::EnvOnly => env_only(engine, known, &mut plan),
        Profile::AppOnly => app_only(known, &mut plan),
        Profile::AppAndDown => app_and_down(engine, known, why, &mut plan)?,
        Profile::Full => full::full(engine, known, why, &mut plan)?,
    }
    tell(engine, known, chosen.profile, why, &mut plan)?;
    for phase in &mut plan.phases {
        let budget = BUDGETS_MS.iter().find(|(name, _)| *name == phase.name).map(|(_, budget)| *budget);
        phase.budget_ms = phase.budget_ms.or(budget);
    }
    plan.phases.retain(|phase| !phase.steps.is_empty());
    if let Some(other) = ways.iter().filter(works).find(|way| way.profile > chosen.profile) {
        let down = plan.phases.iter_mut().flat_map(|phase| &mut phase.steps).find(|step| step.id.to_string() == "down");
        let hint = format!(
            "mend what the server names, or take the other way: lifeboat rollback {} --profile {}",
            to.label.as_deref().unwrap_or(to.id.as_str()),
            other.profile.word()
        );
        down.into_iter().for_each(|step| step.hint = Some(hint.clone()));
    }
    plan.notes.splice(0..0, notes(known, &ways, chosen.profile));
    if release::is_rehearsal(&plan) {
        leave_good(&mut plan, &known.to.release);
    }
    Ok(plan)
}

/// What a rehearsal leaves is not bad.
fn leave_good(plan: &mut Plan, to: &Release) {
    for step in plan.phases.iter_mut().flat_map(|phase| &mut phase.steps) {
        if let Action::Release(ReleaseRecord::Live { bad, .. }) = &mut step.action {
            *bad = None;
            step.title = format!("put on record: {} is live", to.shown());
        }
    }
}

fn no_way(known: &Known, ways: &[Way], asked: Option<Profile>) -> Failure {
    let to = known.to.release.shown();
    let message = match asked {
        Some(profile) => format!("{} does not lead back to {to}", profile.word()),
        None => format!("no way leads back to {to}"),
    };
    let meant = ways.iter().filter(|way| asked.is_none_or(|asked| way.profile == asked));
    let reasons = meant.filter_map(|way| Some(format!("{}: {}", way.profile.word(), way.why_not.as_ref()?)));
    let failure = reasons.fold(Failure::new(FailureKind::Refused, message), Failure::because);
    match ways.iter().find(|way| way.why_not.is_none()) {
        Some(other) => {
            failure.hint(format!("lifeboat rollback {} --profile {}", known.to.release.id, other.profile.word()))
        }
        None => {
            failure.hint("lifeboat restore RESOURCE brings the data back, lifeboat releases list shows other releases")
        }
    }
}

fn notes(known: &Known, ways: &[Way], chosen: Profile) -> Vec<String> {
    let mut notes = Vec::new();
    for way in ways {
        let word = way.profile.word();
        notes.push(match &way.why_not {
            Some(why) => format!("Way {word}: does not work, since {why}."),
            None if way.profile == chosen => format!("Way {word}: this one."),
            None => format!("Way {word}: would work: lifeboat rollback --profile {word}."),
        });
    }
    if known.to.state != ReleaseState::Good {
        notes.push(format!("{} is not known to be good; it is {}.", known.to.release.shown(), known.to.state.word()));
    }
    for app in &known.apps {
        notes.extend(variables_note(app, known));
    }
    for app in known.apps.iter().filter(|app| !app.target.tells_instances()) {
        notes.push(format!(
            "Nobody said how {} tells its version, so that a new instance answers cannot be shown: [targets.{}.tells].",
            app.target.name, app.target.name
        ));
    }
    if known.bases.is_none() && known.from.as_ref().is_some_and(|from| differ(&from.release, &known.to.release)) {
        notes.push("Migrations were applied between the two; the database is not looked at, as asked for.".to_owned());
    }
    if let Some(backup) = known.source.as_ref().filter(|source| known.to.release.backup.as_ref() != Some(source)) {
        notes.push(format!("Its data come from {backup}, and not from the backup of {}.", known.to.release.shown()));
    }
    let (target, max) = chosen.limits_s();
    let shown = |s: u64| lifeboat_model::time::show_duration(lifeboat_model::Duration::from_secs(s));
    let measured: Vec<&str> = known.to.release.baseline.keys().map(String::as_str).collect();
    if !measured.is_empty() {
        notes.push(format!(
            "When it has run for some minutes, lifeboat releases baseline {} says whether it does as it did then: {}.",
            known.to.release.id,
            measured.join(", ")
        ));
    }
    notes.push(format!("It should be over within {}, and has to be within {}.", shown(target), shown(max)));
    notes
}

/// What a restart does not change, where variables are part of what was built.
fn variables_note(app: &App, known: &Known) -> Option<String> {
    if app.target.env_binding() != EnvBinding::Build {
        return None;
    }
    let name = &app.target.name;
    let since = match known.from.as_ref().is_some_and(|from| from.release.env != known.to.release.env) {
        true => " They differ from those of what runs; a secret that was changed since is the former one again.",
        false => "",
    };
    Some(format!(
        "{name} has its variables from when it was built: what comes back has those of its own build, and a restart does not change them.{since}"
    ))
}

fn differ(one: &Release, other: &Release) -> bool {
    let applied =
        |release: &Release, name: &ResourceName| release.databases.get(name).map(|state| state.applied.clone());
    one.databases.keys().chain(other.databases.keys()).any(|name| applied(one, name) != applied(other, name))
}

impl App {
    fn acts(&self) -> Acts<'_> {
        Acts { target: &self.target }
    }

    /// Whether it has to change at all.
    fn changes(&self) -> bool {
        self.running != self.wanted.version
    }

    pub fn check(&self) -> Step {
        let action = TargetAction::CheckRuns { version: self.running.clone() };
        of(
            self.acts().read("runs", &format!("{} runs {}", self.target.name, level::short(&self.running)), action),
            &self.target,
        )
    }

    /// Brings the version; nothing that runs notices.
    pub fn stage(&self) -> Step {
        let title =
            format!("bring {} of {}, without starting it", level::short(&self.wanted.version), self.target.name);
        let (version, origin) = (self.wanted.version.clone(), self.wanted.origin.clone());
        let action = TargetAction::Stage { version, origin };
        of(self.acts().step("stage", title, action, Undo::Nothing), &self.target)
    }

    pub fn note(&self) -> Step {
        of(self.acts().read("instance", "note which instance answers", TargetAction::NoteInstance), &self.target)
    }

    /// Keeps what tells of the former instance, stops it, and looks whether it is gone.
    pub fn stop(&self) -> Vec<Step> {
        let acts = self.acts();
        let mut steps = vec![self.evidence()];
        if self.target.stop_call().is_some() {
            steps.push(acts.stop());
            if self.target.tells.is_some() {
                steps.push(acts.read("quiet", "nobody answers in its place", TargetAction::Quiet));
            }
        }
        steps.into_iter().map(|step| of(step, &self.target)).collect()
    }

    /// What cannot be kept is told, and holds nothing up.
    fn evidence(&self) -> Step {
        let title = format!("keep the log and the state of {} as evidence", self.target.name);
        let step = self.acts().step("evidence", title, TargetAction::KeepEvidence, Undo::Nothing);
        Step { on_failure: OnFailure::Note, ..step }
    }

    fn switch(&self) -> Step {
        let (from, to) = (self.running.clone(), self.wanted.version.clone());
        let title = format!("{}: {} in the place of {}", self.target.name, level::short(&to), level::short(&from));
        let undo = by(self.acts().action(TargetAction::Switch { version: from, back: true }));
        let action = TargetAction::Switch { version: to, back: false };
        of(self.acts().step("switch", title, action, undo), &self.target)
    }

    /// Starts it, and shows that what answers is a new instance of the wanted version.
    pub fn start(&self) -> Vec<Step> {
        self.started(self.wanted.served.clone(), &self.wanted.version, self.changes())
    }

    /// The same of what was running, with whatever version it tells. Vercel builds another deployment of it; functions read their
    /// variables at each call, and nothing is started.
    fn start_again(&self) -> Vec<Step> {
        match &self.target.driver {
            Some(Driver::Vercel { .. }) => self.started(None, "", false),
            Some(Driver::SupabaseFunctions { .. }) => {
                let steps = self.acts().works(self.log, &self.target.probes);
                steps.into_iter().map(|step| of(step, &self.target)).collect()
            }
            _any => self.started(None, &self.running, false),
        }
    }

    fn started(&self, version: Option<String>, artifact: &str, switched: bool) -> Vec<Step> {
        let acts = self.acts();
        let mut steps: Vec<Step> = self.target.start_call().map(|_| acts.start()).into_iter().collect();
        if self.target.tells_instances() {
            let wanted = version.as_deref().unwrap_or(level::short(artifact));
            let title = match wanted {
                "" => "a new instance answers".to_owned(),
                wanted => format!("a new instance answers with {wanted}"),
            };
            let id = |step: &str| -> StepId { format!("{step}.{}", self.target.name).as_str().into() };
            let action = TargetAction::NewInstance {
                version,
                before: id("instance"),
                limit_ms: acts.answer_ms(),
                artifact: Some(artifact.to_owned()),
                quiet: (self.target.tells.is_some() && self.target.stop_call().is_some()).then(|| id("quiet")),
                switched: switched.then(|| id("switch")),
                file: None,
            };
            steps.push(acts.read("answers", &title, action));
        }
        steps.extend(acts.works(self.log, &self.target.probes));
        steps.into_iter().map(|step| of(step, &self.target)).collect()
    }
}

/// A version of a target as it was sealed last.
fn of_version(all: &[KnownRelease], target: &Target, version: &str) -> Option<Artifact> {
    let sealed = all.iter().rev().filter_map(|one| one.release.artifact(&target.name));
    sealed.into_iter().find(|one| one.version == version).cloned()
}

fn report(known: &Known) -> Step {
    let (to, from) = (&known.to, known.from.as_ref().map(|from| from.release.id.clone()));
    let release = known.is_sealed.then(|| to.release.id.clone());
    let bad = from.clone().filter(|from| Some(from) != release.as_ref());
    let undo = by(Action::Release(ReleaseRecord::Live { release: from.clone(), bad: None, not_bad: from }));
    let title = match &bad {
        Some(bad) => format!("put on record: {} is live, {bad} is bad and held", to.release.shown()),
        None => format!("put on record: {} is live", to.release.shown()),
    };
    recorded("report", &title, ReleaseRecord::Live { release, bad, not_bad: None }, undo)
}

/// The app stands still while its variables change, and is started with them; its version stays.
fn env_only(engine: &Engine, known: &Known, plan: &mut Plan) {
    let common = &known.common;
    let edits: Vec<&Edit> = known.edits.iter().flatten().filter(|edit| !edit.is_empty()).collect();
    let mut preflight: Vec<Step> = known.apps.iter().map(App::check).collect();
    preflight.extend(edits.iter().map(|edit| edit.check(common)));
    preflight.extend(edits.iter().flat_map(|edit| edit.check_platforms(engine)));
    let mut stop: Vec<Step> = known.apps.iter().map(App::note).collect();
    stop.extend(known.apps.iter().flat_map(App::stop));
    plan.phases = vec![
        phase(common, "preflight", vec![], preflight),
        phase(common, "stop", vec![], stop),
        phase(common, "variables", vec![], edits.iter().map(|edit| edit.step(common)).collect()),
        phase(common, "platform", vec![], edits.iter().flat_map(|edit| edit.give(engine)).collect()),
        phase(common, "restart", vec![], known.apps.iter().flat_map(App::start_again).collect()),
    ];
    plan.facts = edits.iter().map(|edit| edit.fact()).collect();
    plan.notes = edits.iter().flat_map(|edit| edit.notes()).collect();
}

/// Tells everybody that it begins, once it is known that it can, and that it is over, once what runs was looked at.
fn tell(engine: &Engine, known: &Known, profile: Profile, why: &str, plan: &mut Plan) -> Result<(), Failure> {
    let former = former::expected_ms(plan, &former::of(engine, profile)?);
    let shown = |ms: &u64| lifeboat_model::time::show_duration(lifeboat_model::Duration::from_millis(*ms));
    let expected = former.get(former.len() / 2).map(shown);
    if let Some((median, longest)) = expected.as_ref().zip(former.last().map(shown)) {
        plan.notes.insert(0, format!("Expected: {median}, at most {longest}, of {} so far.", former.len()));
    }
    let channels = &engine.setup().channels;
    if channels.is_empty() {
        return Ok(());
    }
    let (scope, to, common) = (&known.common.scope, known.to.release.shown(), &known.common);
    let is_drill = release::is_rehearsal(plan);
    let step = |id: &str, title: &str, notice: Notice| {
        let notice = notice.marked(is_drill);
        let action = Action::Notify { channels: channels.clone(), notice };
        steps::step(id, title, StepClass::Idempotent, action, Undo::Nothing)
    };
    let begun = step("notify", "tell that it begins", message::begun(scope, &to, why, expected.as_deref()));
    let behind_preflight = plan.phases.iter().position(|phase| phase.name == "preflight").map_or(0, |at| at + 1);
    plan.phases.insert(behind_preflight, phase(common, "notify", vec![], vec![begun]));
    let looks = |app: &App| app.target.tells.is_some() || app.target.has_probes();
    let was_verified = !known.apps.is_empty() && known.apps.iter().all(looks);
    let over = step("notify-over", "tell that it is over", message::over(scope, &to, was_verified));
    if let Some(report) = plan.phases.iter_mut().rev().find(|phase| phase.name == "report") {
        report.steps.push(over);
    }
    Ok(())
}

fn changing(known: &Known) -> impl Iterator<Item = &App> {
    known.apps.iter().filter(|app| app.changes())
}

fn app_only(known: &Known, plan: &mut Plan) {
    let common = &known.common;
    let each = |make: &dyn Fn(&App) -> Vec<Step>| changing(known).flat_map(make).collect::<Vec<_>>();
    plan.phases = vec![
        phase(common, "preflight", vec![], each(&|app| vec![app.check()])),
        phase(common, "app", vec![], each(&|app| vec![app.stage()])),
        phase(
            common,
            "restart",
            vec![],
            each(&|app| {
                let mut steps = vec![app.note()];
                steps.extend(app.stop());
                steps.push(app.switch());
                steps.extend(app.start());
                steps
            }),
        ),
        phase(common, "report", vec![], vec![report(known)]),
    ];
}

/// What stops everything, in this order: writes first, then whoever writes.
fn fenced(known: &Known, base: &Base, why: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = known.apps.iter().map(App::note).collect();
    steps.push(base.fence(why));
    steps.extend(known.apps.iter().flat_map(App::stop));
    steps
}

fn one_base(known: &Known) -> Result<&Base, Failure> {
    match known.bases.as_deref() {
        Some([base]) => Ok(base),
        _other => Err(Failure::new(FailureKind::Bug, "a way back was chosen that does not work")),
    }
}

fn app_and_down(engine: &Engine, known: &Known, why: &str, plan: &mut Plan) -> Result<(), Failure> {
    let (common, base) = (&known.common, one_base(known)?);
    let live = engine.foreseen(base.live.clone(), common);
    let taking = Taking { sources: std::slice::from_ref(&live), ..base.taking(common) };
    let source = lifeboat_model::PgAction::CheckSource { url: base.url.clone() };
    let mut preflight: Vec<Step> = known.apps.iter().map(App::check).collect();
    preflight.extend(environment::checks(engine, known));
    preflight.push(steps::read(
        "check-source",
        format!("{} can be captured first", base.name),
        Action::Postgres(source),
    ));
    plan.phases = vec![
        phase(common, "preflight", vec![], preflight),
        phase(common, "app", vec![], changing(known).map(App::stage).collect()),
        phase(common, "fence", vec![], fenced(known, base, why)),
        phase(common, "emergency-backup", taking.predict_store(), taking.store()),
        phase(common, "app-switch", vec![], changing(known).map(App::switch).collect()),
        phase(common, "down", vec![], vec![base.down(common)]),
        phase(common, "variables", vec![], environment::steps(engine, known)),
        phase(common, "restart", vec![], known.apps.iter().flat_map(App::start).collect()),
        phase(common, "report", vec![], vec![report(known)]),
    ];
    plan.losses = base.loss(common).into_iter().collect();
    plan.notes = environment::notes(known);
    Ok(())
}
