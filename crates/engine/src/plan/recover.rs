//! Planning level 5 of the emergency levels: database, application, functions, cloud - in this order, and the mirror is off
//! before anything else happens. What the cloud has and the backup lacks is saved before the cloud is touched.

use std::path::{Path, PathBuf};

use lifeboat_model::{
    AcceptLoss, Action, BackupChoice, Failure, FailureKind, LevelAsk, OnFailure, Phase, Plan, Request, ResourceName,
    Step, StepClass, Target, TargetAction, Undo,
    sync::{Link, SyncAction},
};

use super::{
    level::{self, Acts, Folder},
    restore,
    steps::{self, by, phase, step},
    sync,
};
use crate::Engine;

/// How long its parts may take: database and application 15 minutes each, functions 30, the cloud 60.
const BUDGETS_MS: [(&str, u64); 4] =
    [("database", 900_000), ("application", 900_000), ("functions", 1_800_000), ("cloud", 3_600_000)];
/// Words for what may be missing.
pub const MAY_BE_MISSING: [&str; 2] = ["application", "cloud"];

/// What is known when level 5 is planned.
pub(super) struct Known {
    restore: restore::Known,
    restore_request: Request,
    application: Option<(Target, Folder)>,
    log: level::Log,
    cloud: Option<Cloud>,
    newer_unproven: Option<String>,
}

struct Cloud {
    link: Link,
    was_on: bool,
    last_sync: Option<lifeboat_model::Timestamp>,
    saved: PathBuf,
}

pub(super) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Level { target, link, about: LevelAsk::Recover { from, to, without, why, .. } } = request else {
        return Err(steps::wrong_planner());
    };
    if let Some(word) = without.iter().find(|word| !MAY_BE_MISSING.contains(&word.as_str())) {
        let failure = Failure::new(FailureKind::Usage, format!("{word} is nothing that can be gone on without"));
        return Err(failure.hint(format!("one of: {}", MAY_BE_MISSING.join(", "))));
    }
    let resource = database(engine, link.as_ref())?;
    let (from, newer_unproven) = proven(engine, &resource, from)?;
    let restore_request = Request::Restore {
        resource,
        from,
        into: None,
        tablespaces: std::collections::BTreeMap::new(),
        without_emergency_backup: None,
        accept_loss: AcceptLoss::Shown,
        urgent: Some(if why.trim().is_empty() { "level 5".to_owned() } else { why.clone() }),
        ack: None,
    };
    let mut restore = restore::gather(engine, &restore_request).map_err(|failure| missing("backup", None, failure))?;
    let application = match without.iter().any(|word| word == "application") {
        true => None,
        false => Some(
            application(engine, target.as_ref(), to.as_deref())
                .map_err(|failure| missing("application", Some("application"), failure))?,
        ),
    };
    if let Some((target, _)) = &application {
        // The target's own commands stop and start it; the plan only has to know that it can be stopped.
        let writer = lifeboat_model::Writer { stop: target.stop.clone(), start: target.start.clone() };
        restore.target.resource.writer.get_or_insert(writer);
    }
    let log = application.as_ref().map(|(target, _)| level::Log::of(target)).unwrap_or_default();
    let cloud = match without.iter().any(|word| word == "cloud") || engine.setup().links.is_empty() {
        true => None,
        false => Some(cloud(engine, link.as_ref()).map_err(|failure| missing("cloud", Some("cloud"), failure))?),
    };
    Ok(Known { restore, restore_request, application, log, cloud, newer_unproven })
}

/// What level 5 needs and does not find.
fn missing(what: &str, word: Option<&str>, failure: Failure) -> Failure {
    let hint = word.map(|word| format!("mend that, or go on without it: --without {word}"));
    let failure = failure.while_doing(format!("level 5 needs a {what}"));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn database(engine: &Engine, link: Option<&ResourceName>) -> Result<ResourceName, Failure> {
    let setup = engine.setup();
    let is_file = |path: &Path| setup.resources.iter().find(|resource| resource.kind.path() == Some(path));
    if !setup.links.is_empty() {
        let link = engine.link(link)?;
        if let Some(resource) = is_file(&link.file) {
            return Ok(resource.name.clone());
        }
    }
    let databases: Vec<_> = setup.resources.iter().filter(|resource| restore::is_database(resource)).collect();
    match databases.as_slice() {
        [one] => Ok(one.name.clone()),
        _ => {
            let failure = Failure::new(FailureKind::Usage, format!("{} has no one SQLite database", setup.scope));
            Err(failure.hint("lifeboat restore brings one back by its name"))
        }
    }
}

/// Of the good backups the newest that was proven; the newest of all when none was. A newer one that was not is named.
fn proven(
    engine: &Engine,
    resource: &ResourceName,
    from: &BackupChoice,
) -> Result<(BackupChoice, Option<String>), Failure> {
    if !matches!(from, BackupChoice::Latest) {
        return Ok((from.clone(), None));
    }
    let scope = &engine.setup().scope;
    let all = engine.backups()?;
    let newest = lifeboat_model::choose_backup(&all, scope, resource, from).ok();
    let proven: Vec<_> = all.iter().filter(|backup| backup.proven_at.is_some()).cloned().collect();
    let Ok(best) = lifeboat_model::choose_backup(&proven, scope, resource, from) else {
        return Ok((from.clone(), None));
    };
    let newer = newest.filter(|newest| newest.id != best.id).map(|newest| {
        format!(
            "{} is newer, of {}, and has not been proven: --from {}.",
            newest.id,
            steps::instant(newest.recovery_point),
            newest.id
        )
    });
    Ok((BackupChoice::Exactly(best.id.clone()), newer))
}

fn application(engine: &Engine, name: Option<&ResourceName>, to: Option<&str>) -> Result<(Target, Folder), Failure> {
    let target = engine.target(name)?.clone();
    let Some(version) = to.map(str::to_owned).or_else(|| target.stable.clone()) else {
        let message = format!("nobody has said which version of {} is known to be good", target.name);
        return Err(Failure::new(FailureKind::Usage, message)
            .because("stable = \"v1.4\" in its table in lifeboat.toml says it"));
    };
    let folder = engine.folder_or_remote(&target, &version)?;
    Ok((target, folder))
}

fn cloud(engine: &Engine, name: Option<&ResourceName>) -> Result<Cloud, Failure> {
    let mirror = engine.mirror(name)?;
    if let Some(setting) = mirror.said().refusal() {
        return Err(Failure::new(FailureKind::Refused, format!("{setting} keeps the mirror off")));
    }
    let link = mirror.link().clone();
    mirror.must_answer(&lifeboat_io::Stop::default())?;
    let was_on = mirror.switch()?.is_some_and(|switch| switch.enabled);
    let last_sync = mirror.status().ok().and_then(|status| status.last_sync);
    let saved = mirror.salvage_file();
    Ok(Cloud { link, was_on, last_sync, saved })
}

/// Plans level 5.
///
/// # Errors
/// As the plan of a restore.
pub(super) fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Level { about: LevelAsk::Recover { without, watch_ms, .. }, .. } = request else {
        return Err(steps::wrong_planner());
    };
    let common = &known.restore.common;
    let restored = restore::plan(&known.restore, &known.restore_request)?;
    let title = format!("recover {} from {}", common.scope, known.restore.backup.id);
    let mut plan = steps::new_plan(common, request, title, lifeboat_model::Lease::Environment);
    plan.facts = restored.facts;
    plan.losses = restored.losses;
    plan.notes = notes(known, without, restored.notes);
    let mut taken = Parts::of(restored.phases);
    let off = known.cloud.as_ref().map(|cloud| {
        let acts = sync::Acts { link: &cloud.link };
        acts.switch("sync-off", false, "level 5", cloud.was_on)
    });
    plan.phases.push(phase(common, "preflight", vec![], taken.take("preflight")));
    plan.phases.extend(off.map(|off| phase(common, "mirror", vec![], vec![off])));
    let keep = taken.take("keep");
    if !keep.is_empty() {
        plan.phases.push(phase(common, "keep", vec![], keep));
    }
    let mut database = [taken.take("restore"), taken.take("verify")].concat();
    let swap = taken.take("swap");
    let stop = |step: &Step| step.id.0 == "stop-writer";
    let start = |step: &Step| step.id.0 == "start-writer";
    let mut swap: Vec<Step> = swap.into_iter().filter(|step| !start(step)).collect();
    let own_start = known.restore.target.resource.writer.as_ref().filter(|_| known.application.is_none());
    let (mut staging, mut functions) = (Vec::new(), Vec::new());
    let mut after = Vec::new();
    if let Some((target, folder)) = &known.application {
        let acts = Acts { target };
        staging = rehearsal(known, target, folder, &acts)?;
        swap.retain(|step| !stop(step));
        let mut begin = vec![acts.stop()];
        begin.extend(acts.port_is_free());
        begin.extend(acts.installs_again());
        begin.push(acts.keep_branch(&format!("lifeboat-{}", common.ids.plan), &folder.head.commit));
        if folder.is_elsewhere {
            let (commit, from) = (folder.commit.clone(), fresh_folder(common));
            let take = TargetAction::TakeOver { commit, from };
            let title = format!("bring {} into its repository, from beside", level::short(&folder.commit));
            begin.push(acts.step("take-over", title, take, Undo::Nothing));
        }
        begin.push(acts.check_out(folder));
        begin.extend(acts.install());
        swap = [begin, swap].concat();
        after.extend(acts.migrate());
        after.push(acts.start());
        functions.extend(acts.works(known.log, &target.probes));
        if target.trial.is_some() && target.url.is_some() {
            let try_out = TargetAction::Try { file: known.restore.target.place.clone() };
            functions.push(acts.step(
                "try",
                "log in, make a record and take it away again".to_owned(),
                try_out,
                Undo::Nothing,
            ));
        }
    }
    after.extend(own_start.map(|writer| restore::start_writer(writer, common)));
    database.extend(staging);
    plan.phases.push(phase(common, "database", vec![], database));
    plan.phases.push(phase(common, "application", vec![], [swap, after].concat()));
    if !functions.is_empty() {
        plan.phases.push(phase(common, "functions", vec![], functions));
    }
    plan.phases.extend(known.cloud.as_ref().map(|cloud| phase(common, "cloud", vec![], to_cloud(cloud, *watch_ms))));
    let mut clean = taken.take("clean");
    if known.application.is_some() {
        clean.retain(|step| step.id.0 != "keep.clean");
        let action = Action::Remove { paths: vec![common.staging.clone()] };
        clean.push(step("clean", "remove working copies", StepClass::Idempotent, action, Undo::Nothing));
    }
    if !clean.is_empty() {
        plan.phases.push(phase(common, "clean", vec![], clean));
    }
    for phase in &mut plan.phases {
        let budget = BUDGETS_MS.iter().find(|(name, _)| *name == phase.name).map(|(_, budget)| *budget);
        phase.budget_ms = phase.budget_ms.or(budget);
    }
    Ok(plan)
}

/// The phases of a restore, one by one.
struct Parts(Vec<Phase>);

impl Parts {
    fn of(phases: Vec<Phase>) -> Parts {
        Parts(phases)
    }

    fn take(&mut self, name: &str) -> Vec<Step> {
        let at = self.0.iter().position(|phase| phase.name == name);
        at.map(|at| self.0.remove(at).steps).unwrap_or_default()
    }
}

/// The version that is known to be good, with the restored data, beside the live one: it is tried before anything live is
/// touched.
fn rehearsal(known: &Known, target: &Target, folder: &Folder, acts: &Acts<'_>) -> Result<Vec<Step>, Failure> {
    let common = &known.restore.common;
    // In a folder of its own, which goes as a whole, whatever the app's commands write beside it.
    let fresh = fresh_folder(common);
    let own = lifeboat_io::files::parent(&fresh).to_owned();
    let remove = || by(Action::Remove { paths: vec![own.clone()] });
    let remote = folder.has_remote.then(|| target.remote.clone());
    let from = remote.as_ref().map(|remote| format!(", from {remote}")).unwrap_or_default();
    let (commit, into) = (folder.commit.clone(), fresh.clone());
    let copy = TargetAction::FreshCopy { commit, into, remote, only_there: folder.is_elsewhere };
    let title = format!("check {} out beside the live one{from}", level::short(&folder.commit));
    let mut all = vec![acts.step("fresh", title, copy, remove())];
    // Where the app looks for them: as far inside its folder as the live ones are.
    let inside = |live: &Path| live.strip_prefix(&target.folder).ok().map(|place| fresh.join(place));
    let mut copy_in = |id: &str, what: &str, from: PathBuf, live: &Path| {
        all.extend(inside(live).map(|to| {
            let title = format!("copy {what} there");
            acts.step(id, title, TargetAction::CopyIn { from, to }, Undo::Nothing)
        }));
    };
    let names = restore::Names::new(&known.restore);
    copy_in("fresh.database", "the restored database", names.aside.clone(), &names.live);
    if let Some(env) = target.env_file.as_ref().filter(|file| lifeboat_io::files::exists(file)) {
        copy_in("fresh.env", "the variables", env.clone(), env);
    }
    let run = |argv: &Vec<String>| {
        let (folder, argv, env) = (fresh.clone(), argv.clone(), std::collections::BTreeMap::new());
        TargetAction::Run { folder, argv, env, after: None }
    };
    for (id, argv) in
        [("fresh.install", &target.install), ("fresh.migrate", &target.migrate), ("fresh.try", &target.rehearse)]
    {
        all.extend(
            argv.iter().map(|argv| acts.step(id, format!("there: {}", argv.join(" ")), run(argv), Undo::Nothing)),
        );
    }
    Ok(all)
}

/// Where that version is checked out.
fn fresh_folder(common: &crate::facts::Common) -> PathBuf {
    common.staging.join("fresh").join("application")
}

/// Saved, then made equal, compared, and only then switched on again.
fn to_cloud(cloud: &Cloud, watch_ms: u64) -> Vec<Step> {
    let acts = sync::Acts { link: &cloud.link };
    let saved = cloud.saved.clone();
    let title = format!("save rows that only the cloud has, or has otherwise, in {}", saved.display());
    let mut all = vec![acts.step("attach", "see that changes are noted".to_owned(), SyncAction::Attach, Undo::Nothing)];
    all.push(acts.step("salvage", title, SyncAction::Salvage { into: saved }, Undo::Nothing));
    let resync = SyncAction::Resync { tables: Vec::new(), keep_orphans: false };
    all.push(acts.step("resync", "copy rows that differ".to_owned(), resync, Undo::Nothing));
    all.push(acts.read("compare", "both sides hold the same", SyncAction::Compare { tables: Vec::new() }));
    let on = SyncAction::Switch { on: true, why: "level 5 is over".to_owned() };
    all.push(acts.step("sync-on", "deliver changes".to_owned(), on, Undo::Nothing));
    if watch_ms > 0 {
        let title = format!(
            "watch the queue for {}",
            lifeboat_model::time::show_duration(lifeboat_model::Duration::from_millis(watch_ms))
        );
        let watch = acts.read("watch", &title, SyncAction::Watch { for_ms: watch_ms });
        all.push(Step { on_failure: OnFailure::Note, ..watch });
    }
    all
}

fn notes(known: &Known, without: &[String], restored: Vec<String>) -> Vec<String> {
    let mut notes = Vec::new();
    match &known.application {
        Some((target, folder)) => notes.push(format!(
            "{} runs {} afterwards; what is checked out now stays in a branch.",
            target.name,
            folder.branch.as_deref().unwrap_or(level::short(&folder.commit))
        )),
        None => notes.push("The application is left as it is.".to_owned()),
    }
    match &known.cloud {
        Some(cloud) => {
            let last = cloud.last_sync.map_or_else(|| "never".to_owned(), steps::instant);
            notes.push(format!(
                "The cloud answers; it last had everything: {last}. The app starts with the mirror off."
            ));
            notes.push(
                "Nothing is truncated: what only the cloud has is saved first, then taken away row by row.".to_owned(),
            );
            notes.push(format!(
                "Afterwards, to bring what the file lacks of it back into the file: lifeboat sync merge {} --dry-run",
                cloud.saved.display()
            ));
        }
        None => notes.push("The cloud is left as it is, and may hold other rows than the restored file.".to_owned()),
    }
    notes.extend(known.application.as_ref().and_then(|(target, _)| known.log.note(target)));
    if !without.is_empty() {
        notes.push(format!("It is gone on without: {}.", without.join(", ")));
    }
    notes.extend(known.newer_unproven.clone());
    notes.extend(restored);
    notes
}
