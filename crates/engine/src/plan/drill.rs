//! Planning the four quarterly tests. Each is tried where nothing is lost by it, ends as it began, and leaves its journal as the
//! record.

use lifeboat_model::{
    Action, BackupChoice, Drill, Failure, FailureKind, LevelAsk, Phase, Plan, Request, ResourceKind, ResourceName,
    Step, StepClass, TargetAction, Undo, advice,
    release::DRILL,
    sync::{Link, SyncAction},
};

use super::{
    level, restore,
    steps::{self, by, guess, phase, read, step},
    sync,
};
use crate::{Engine, act::summary, facts::Common};

/// So many tables are written to.
const TABLES_MAX: u32 = 3;

/// How long changes may take to arrive.
const DELIVERED_MS: u64 = 60_000;

/// Plans one of the tests.
///
/// # Errors
/// Real users are in this environment; what is to be tried is not there, or switched off for good.
pub(crate) fn plan(engine: &Engine, request: &Request, about: &Drill) -> Result<Plan, Failure> {
    let again = format!("lifeboat rehearse sync {} --env staging", about.word());
    engine.refuse_production(&again)?;
    let common = engine.common()?;
    let lease = match about {
        Drill::Switch { .. } | Drill::Queue { .. } => lifeboat_model::Lease::Mirror,
        Drill::Rollback { .. } | Drill::Restore { .. } => lifeboat_model::Lease::Environment,
    };
    let (title, phases, notes) = match about {
        Drill::Switch { link } => switch(engine, &common, link)?,
        Drill::Queue { link } => queue(engine, &common, link)?,
        Drill::Rollback { target } => roll_back(engine, &common, target.as_ref())?,
        Drill::Restore { resource } => restored(engine, &common, resource)?,
    };
    let mut plan = steps::new_plan(&common, request, format!("{DRILL} {title}"), lease);
    plan.phases = phases;
    plan.notes = notes;
    Ok(plan)
}

type Planned = (String, Vec<Phase>, Vec<String>);

/// The mirror's steps, whether it is switched on now, and a phase with a budget for them.
fn of_mirror(engine: &Engine, name: &ResourceName) -> Result<(Link, bool), Failure> {
    let link = engine.link(Some(name))?.clone();
    let mirror = engine.mirror(Some(name))?;
    if let Some(setting) = mirror.said().refusal() {
        let failure = Failure::new(FailureKind::Refused, format!("{setting} keeps the mirror {name} off"));
        return Err(failure.hint("take it out of the environment or the app's .env, and start Lifeboat again"));
    }
    if !mirror.status()?.attached {
        let message = format!("{} has no triggers of a mirror", link.file.display());
        return Err(Failure::new(FailureKind::Refused, message).hint("lifeboat sync attach"));
    }
    let was_on = mirror.switch()?.is_some_and(|switch| switch.enabled);
    Ok((link, was_on))
}

fn in_phase(common: &Common, level: u8, steps: Vec<Step>) -> Vec<Phase> {
    let mut phase = phase(common, "sync", vec![], steps);
    phase.budget_ms = phase.budget_ms.or(Some(advice::budget_ms(level)));
    vec![phase]
}

/// Writes over rows what they hold; the app's own triggers may note when.
fn changes(acts: &sync::Acts<'_>) -> Step {
    let title = format!("write a row over itself in up to {TABLES_MAX} tables: it is noted");
    acts.step("changes", title, SyncAction::TryChanges { tables_max: TABLES_MAX }, Undo::Nothing)
}

/// Delivers again, sees it, and holds again where changes were held before.
fn resumes(acts: &sync::Acts<'_>, was_on: bool) -> Vec<Step> {
    let mut steps = vec![
        acts.switch("enable", true, DRILL, was_on),
        acts.read("resumes", "what waited arrives", SyncAction::CheckDelivers { limit_ms: DELIVERED_MS }),
    ];
    if !was_on {
        let mut as_before = acts.switch("as-before", false, DRILL, was_on);
        as_before.title = "hold changes again, as before".to_owned();
        steps.push(as_before);
    }
    steps
}

fn notes(was_on: bool) -> Vec<String> {
    let mut notes = vec!["No value changes; triggers of the app run as for any write.".to_owned()];
    if !was_on {
        notes.push("Changes are held now: what waits is delivered in the course of it, and held again.".to_owned());
    }
    notes
}

fn switch(engine: &Engine, common: &Common, name: &ResourceName) -> Result<Planned, Failure> {
    let (link, was_on) = of_mirror(engine, name)?;
    let acts = sync::Acts { link: &link };
    let mut steps = vec![
        acts.switch("disable", false, DRILL, was_on),
        acts.read("held", "the mirror says that it holds changes", SyncAction::CheckHeld),
        changes(&acts),
    ];
    steps.extend(resumes(&acts, was_on));
    Ok((format!("hold changes of {name} and deliver them again"), in_phase(common, 1, steps), notes(was_on)))
}

fn queue(engine: &Engine, common: &Common, name: &ResourceName) -> Result<Planned, Failure> {
    let (link, was_on) = of_mirror(engine, name)?;
    let acts = sync::Acts { link: &link };
    let saved = engine.mirror(Some(name))?.queue_file();
    let back = by(acts.action(SyncAction::Import { file: saved.clone() }));
    let clear = SyncAction::Clear { saved: saved.clone() };
    let cleared = SyncAction::CheckCleared { saved: saved.clone() };
    let compare = SyncAction::Compare { tables: Vec::new() };
    let mut steps = vec![
        acts.switch("disable", false, DRILL, was_on),
        changes(&acts),
        acts.step("clear", "save what waits and clear it".to_owned(), clear, back),
        acts.read("cleared", "all of it is saved, and none of it waits", cleared),
        acts.step("import", "put it back".to_owned(), SyncAction::Import { file: saved.clone() }, Undo::Nothing),
    ];
    let mut ends = resumes(&acts, was_on);
    ends.insert(2, acts.read("compare", "both sides hold the same", compare));
    steps.extend(ends);
    let mut notes = notes(was_on);
    notes.push(format!("What waits is saved in {}, and waits again afterwards.", saved.display()));
    Ok((format!("clear the queue of {name} and put it back"), in_phase(common, 2, steps), notes))
}

/// Level 3 there and back: its steps, then the same for the version that runs now.
fn roll_back(engine: &Engine, common: &Common, name: Option<&ResourceName>) -> Result<Planned, Failure> {
    let target = engine.target(name)?.name.clone();
    let about = LevelAsk::RollBack { to: "HEAD~1".to_owned(), hard: false, why: DRILL.to_owned() };
    let known = level::gather(engine, &Request::Level { target: Some(target.clone()), link: None, about })?;
    let folder = known.folder.as_ref().ok_or_else(steps::wrong_planner)?;
    let acts = level::Acts { target: &known.target };
    let (change, _nothing_is_pushed) = level::roll_back(&known, folder, false, &acts)?;
    let mut there = vec![acts.read("clean", "nothing under git was changed by hand", TargetAction::CheckClean)];
    there.push(acts.stop());
    there.extend(acts.port_is_free());
    there.extend(change);
    there.push(acts.start());
    there.extend(acts.works(known.log, &known.target.probes));
    let to = folder.head.commit.clone();
    let title = format!("put the branch back to {}", level::short(&to));
    let mut back = vec![acts.stop()];
    back.push(acts.step("version", title, TargetAction::MoveBranch { to }, Undo::Nothing));
    back.extend(acts.install());
    back.push(acts.start());
    back.extend(acts.works(known.log, &known.target.probes));
    for step in &mut back {
        step.id.0 = format!("back.{}", step.id.0);
    }
    let mut phases = vec![phase(common, "rollback", vec![], there), phase(common, "return", vec![], back)];
    for phase in &mut phases {
        phase.budget_ms = phase.budget_ms.or(Some(advice::budget_ms(3)));
    }
    let mut notes = vec![
        "The app stands still twice; when it does not work, the version that runs now is put back.".to_owned(),
        "The database stays as it is, and nothing is pushed.".to_owned(),
    ];
    notes.extend(known.log.note(&known.target));
    Ok((format!("run the version before this one of {target}, and this one again"), phases, notes))
}

fn restored(engine: &Engine, common: &Common, name: &ResourceName) -> Result<Planned, Failure> {
    let resource = engine.setup().resource(name)?.clone();
    let ResourceKind::Sqlite { path } = &resource.kind else {
        let failure = Failure::new(FailureKind::Usage, format!("{name} is no SQLite database"));
        return Err(failure.hint("lifeboat prove tries a backup of any kind"));
    };
    if !common.vault_exists {
        return Err(steps::no_vault(common));
    }
    let at = beside(path);
    if lifeboat_io::files::exists(&at) {
        let failure = Failure::new(FailureKind::Refused, format!("{} exists already", at.display()));
        return Err(failure.hint("move it away: the test makes it, and takes it away at its end"));
    }
    let (backup, part) = restore::choose(engine, &engine.backups()?, &resource, &BackupChoice::Latest)?;
    summary::manifest(&engine.vaults.open(&common.vault)?, &backup.id)?;
    let (vault, id) = (common.vault.clone(), backup.id.clone());
    let room = super::backup::with_margin(part.bytes * 2);
    let whole = Action::CheckBackup { vault: vault.clone(), backup: id.clone() };
    let aside = lifeboat_io::files::parent(&at).join(hidden(&at, common));
    let remove = || Action::Remove { paths: vec![aside.clone()] };
    let fetch = Action::Fetch { vault: vault.clone(), backup: id.clone(), resource: name.clone(), into: aside.clone() };
    let place = Action::PutInPlace { database: true, aside: aside.clone(), live: at.clone(), like: None };
    let away = Action::TakeAway { database: true, aside: aside.clone(), live: at.clone() };
    let over = Undo::Impossible { because: "the test is over, and nothing of it stays".to_owned() };
    let check =
        Action::CheckFetched { vault: vault.clone(), backup: id.clone(), resource, at: at.clone(), writes: true };
    let preflight = vec![
        steps::space("space", lifeboat_io::files::parent(&at).to_owned(), room),
        read("check-backup", format!("{id} is whole in the vault"), whole),
    ];
    let title = format!("restore {name} of {id} into {}", at.display());
    let expected = common.predict("fetch", &format!("{vault} {name}"), part.bytes, guess::FETCH);
    let phases = vec![
        phase(common, "preflight", vec![], preflight),
        phase(
            common,
            "restore",
            vec![expected],
            vec![
                step("fetch", "bring it beside the database", StepClass::Idempotent, fetch, by(remove())),
                step(
                    "place",
                    format!("give it the name {}", at.display()),
                    StepClass::ProbeFirst,
                    place,
                    by(away.clone()),
                ),
            ],
        ),
        phase(common, "verify", vec![], vec![read("check", "it is sound, and every table of it takes a write", check)]),
        phase(
            common,
            "clean",
            vec![],
            vec![
                step("take-away", format!("take {} away", at.display()), StepClass::Pivot, away, over),
                step("clean", "remove it", StepClass::Idempotent, remove(), Undo::Nothing),
            ],
        ),
    ];
    Ok((title, phases, vec!["The live database is not touched.".to_owned()]))
}

/// `database.sqlite` is tried as `database-test.sqlite`.
fn beside(path: &std::path::Path) -> std::path::PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-test");
    if let Some(end) = path.extension() {
        name.push(".");
        name.push(end);
    }
    path.with_file_name(name)
}

/// The name of a working copy of this plan alone.
fn hidden(path: &std::path::Path, common: &Common) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.lifeboat-{}", common.ids.plan)
}
