//! Planning to take an operation back, and to release what it set aside.

use std::path::{Path, PathBuf};

use lifeboat_io::files;
use lifeboat_model::{
    Action, BackupId, BackupMark, Content, ExpectedFact, Fact, Failure, FailureKind, Lease, Loss, LossLine, Operation,
    OperationState, Plan, Request, Resource, ResourceKind, ResourceName, SqliteFacts, Step, StepClass, StepState,
    Timestamp, Undo, VersionAsk,
};

use super::{
    restore::{self, Names},
    steps::{self, by, phase, step},
};
use crate::{
    Engine,
    act::{losses, summary},
    facts::{self, Common, Live, path_with},
};

/// What is known when an operation is to be taken back.
pub struct Known {
    /// Common knowledge.
    pub common: Common,
    /// The operation.
    pub operation: Operation,
    /// The resource it swapped, when it swapped one, as it stands now.
    pub live: Option<Live>,
    /// Where what lives there now would be kept: a name that is free.
    pub kept_now: Option<PathBuf>,
    /// Which backups of those it stored are held, and why.
    pub held: Vec<(BackupId, String)>,
    /// Tables in which what is live differs from what it kept, by rows.
    pub differs: Vec<LossLine>,
    /// Why that could not be counted, when it could not.
    pub uncounted: Option<String>,
    /// What it kept, and whether that is untouched: size and time of change as text.
    pub kept: Option<(PathBuf, String)>,
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let (Request::Undo { operation } | Request::Release { operation }) = request else {
        return Err(steps::wrong_planner());
    };
    let operation = engine.look().operation(operation)?;
    let live = match swapped(&operation) {
        Some(swapped) => Some(live_of(engine, swapped)?),
        None => None,
    };
    let kept = kept_path(&operation).map(|path| {
        let value = files::untouched(&path);
        (path, value)
    });
    let common = engine.common()?;
    let kept_now = live.as_ref().map(|live| facts::free_beside(&live.place, "UNDONE", common.now));
    let held = match &operation.plan.request {
        Request::Backup { .. } | Request::Adopt { .. } => held(engine, &stored(&operation), operation.last_at)?,
        _keeps_its_backups => Vec::new(),
    };
    let counted = match (&live, &kept) {
        (Some(live), Some((kept, _))) => difference(engine, &operation, live, kept),
        _nothing_to_compare => Ok((Vec::new(), None)),
    };
    let (differs, uncounted) = counted.unwrap_or_else(|error| (Vec::new(), Some(error.to_string())));
    Ok(Known { common, operation, live, kept_now, held, differs, uncounted, kept })
}

/// What leaves if what was kept comes back.
fn difference(
    engine: &Engine,
    operation: &Operation,
    live: &Live,
    kept: &Path,
) -> Result<(Vec<LossLine>, Option<String>), Failure> {
    if !matches!(live.resource.kind, ResourceKind::Sqlite { .. }) || !live.exists || !files::exists(kept) {
        return Ok((Vec::new(), None));
    }
    losses::leaving(&live.place, kept, restored(engine, operation).as_ref())
}

/// What an operation has put there, as far as its backup can still be asked.
fn restored(engine: &Engine, operation: &Operation) -> Option<SqliteFacts> {
    let (vault, backup, resource) = operation.plan.steps().find_map(|step| match &step.action {
        Action::Fetch { vault, backup, resource, .. } => Some((vault, backup, resource)),
        _other => None,
    })?;
    let vault = engine.vaults.open(vault).ok()?;
    let manifest = summary::manifest(&vault, backup).ok()?;
    match &manifest.resource(resource)?.content {
        Content::Sqlite(facts) => Some(facts.clone()),
        Content::Files(_) | Content::Env(_) | Content::Postgres(_) => None,
    }
}

fn held(engine: &Engine, backups: &[BackupId], made_at: Timestamp) -> Result<Vec<(BackupId, String)>, Failure> {
    let catalog = engine.catalog()?;
    let mut held = Vec::new();
    for backup in backups {
        let marks = catalog.marks(backup).map_err(|error| engine.failure(&error))?;
        held.extend(marks.held.map(|why| (backup.clone(), why)));
    }
    for incident in engine.incidents()? {
        held.extend(
            incident.holds(made_at).into_iter().flat_map(|why| backups.iter().map(move |id| (id.clone(), why.clone()))),
        );
    }
    Ok(held)
}

/// The swapped resource, as the settings know it; when they do not any more, as the old plan did.
fn live_of(engine: &Engine, swapped: Swapped) -> Result<Live, Failure> {
    let configured = engine
        .setup()
        .resources
        .iter()
        .find(|one| one.kind.path().is_some_and(|path| files::resolved(path) == swapped.path));
    if let Some(configured) = configured {
        return engine.live(configured);
    }
    let path = swapped.path;
    let kind =
        if swapped.database { ResourceKind::Sqlite { path } } else { ResourceKind::Files { path, exclude: vec![] } };
    engine.live(&Resource::plain(swapped.name, kind))
}

/// What an operation swapped.
struct Swapped {
    name: ResourceName,
    path: PathBuf,
    database: bool,
}

/// What an operation put in place or took away, when it did.
fn swapped(operation: &Operation) -> Option<Swapped> {
    let named = match &operation.plan.request {
        Request::Restore { resource, .. } => Some(resource.clone()),
        Request::Undo { .. } | Request::Level { .. } => None,
        Request::Version { about: VersionAsk::RollBack { .. } } => None,
        Request::Version { .. } => return None,
        Request::Backup { .. } | Request::Prove { .. } | Request::Retention => return None,
        Request::Shadow { .. } | Request::Send { .. } => return None,
        Request::Export { .. } | Request::Adopt { .. } | Request::Copy { .. } => return None,
        Request::Compromise { .. } | Request::Attest { .. } | Request::Fence { .. } | Request::Decide { .. } => {
            return None;
        }
        Request::Incident { .. } | Request::Sync { .. } | Request::Maintenance { .. } => return None,
        Request::Feature { .. } => return None,
        Request::Provider { .. } | Request::Drill { .. } | Request::Policy { .. } => return None,
        Request::Prune | Request::Mark { .. } | Request::Release { .. } => return None,
        Request::BringBack { .. } | Request::RestoreTable { .. } => return None,
    };
    let (path, database) = operation.plan.steps().find_map(|step| match &step.action {
        Action::PutInPlace { live, database, .. } | Action::BringBack { live, database, .. } => {
            Some((live.clone(), *database))
        }
        Action::SetAside { live, database, .. } | Action::TakeAway { live, database, .. } => {
            Some((live.clone(), *database))
        }
        _other => None,
    })?;
    // An undo's plan names no resource; its file is enough to go by.
    let name = named.or_else(|| ResourceName::new("restored").ok())?;
    Some(Swapped { name, path, database })
}

/// Where an operation keeps what was there before it.
pub fn kept_path(operation: &Operation) -> Option<PathBuf> {
    operation.plan.steps().zip(&operation.steps).find_map(|(step, state)| match (&step.action, state) {
        (Action::SetAside { kept, .. }, StepState::Done { .. }) => Some(kept.clone()),
        _other => None,
    })
}

/// Plans to take an operation back, or to release what it kept.
///
/// # Errors
/// When there is nothing to take back, it is not over, or what it kept is gone.
pub fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let operation = &known.operation;
    if operation.plan.scope != known.common.scope {
        let message = format!("{} belongs to {}, not to {}", operation.id, operation.plan.scope, known.common.scope);
        return Err(Failure::new(FailureKind::Refused, message));
    }
    must_be_done(operation)?;
    match request {
        Request::Release { .. } => release(known, request),
        Request::Undo { .. } => match &operation.plan.request {
            Request::Restore { .. } | Request::Undo { .. } | Request::Level { .. } if swapped(operation).is_some() => {
                swap_back(known, request)
            }
            Request::Backup { .. } | Request::Adopt { .. } => drop_backup(known, request),
            Request::Retention => unforget(known, request),
            Request::Undo { .. } => redo_list(known, request),
            Request::Mark { backup, mark } => unmark(known, request, backup, mark),
            Request::Restore { .. } | Request::Prove { .. } | Request::Prune | Request::Release { .. } => {
                Err(nothing_to_undo(operation))
            }
            Request::Export { .. } | Request::Copy { .. } | Request::Shadow { .. } | Request::Send { .. } => {
                Err(nothing_to_undo(operation))
            }
            Request::Compromise { .. } | Request::Attest { .. } | Request::Decide { .. } => {
                Err(nothing_to_undo(operation))
            }
            Request::BringBack { .. } | Request::RestoreTable { .. } => Err(nothing_to_undo(operation)),
            Request::Provider { .. } | Request::Drill { .. } | Request::Policy { .. } | Request::Feature { .. } => {
                Err(nothing_to_undo(operation))
            }
            Request::Incident { .. } | Request::Maintenance { .. } | Request::Level { .. } => {
                Err(nothing_to_undo(operation))
            }
            Request::Version { about } => Err(version_stays(operation, about)),
            Request::Sync { .. } => Err(nothing_to_undo(operation)
                .hint("lifeboat sync enable, disable, attach, detach and queue import say what they do themselves")),
            Request::Fence { .. } => {
                Err(nothing_to_undo(operation).hint("lifeboat fence on, off and status say what they do themselves"))
            }
        },
        _other => Err(steps::wrong_planner()),
    }
}

/// The same for an operation that renamed databases.
pub(crate) fn renamed(known: &super::databases::Renamed, request: &Request) -> Result<Plan, Failure> {
    let operation = &known.operation;
    if operation.plan.scope != known.common.scope {
        let message = format!("{} belongs to {}, not to {}", operation.id, operation.plan.scope, known.common.scope);
        return Err(Failure::new(FailureKind::Refused, message));
    }
    must_be_done(operation)?;
    match request {
        Request::Release { .. } => super::databases::release(known, request),
        _undo => super::databases::undo(known, request),
    }
}

/// Whether an operation that changed something else than places may be taken back by this request.
pub(super) fn may_be_taken_back(operation: &Operation, common: &Common, request: &Request) -> Result<(), Failure> {
    if operation.plan.scope != common.scope {
        let message = format!("{} belongs to {}, not to {}", operation.id, operation.plan.scope, common.scope);
        return Err(Failure::new(FailureKind::Refused, message));
    }
    if matches!(request, Request::Release { .. }) {
        return Err(Failure::new(FailureKind::Refused, format!("{} set nothing aside", operation.id)));
    }
    must_be_done(operation)
}

/// The same for an operation that put schemas in others' places.
pub(crate) fn exchanged(known: &super::schemas::Swapped, request: &Request) -> Result<Plan, Failure> {
    let operation = &known.operation;
    if operation.plan.scope != known.common.scope {
        let message = format!("{} belongs to {}, not to {}", operation.id, operation.plan.scope, known.common.scope);
        return Err(Failure::new(FailureKind::Refused, message));
    }
    must_be_done(operation)?;
    match request {
        Request::Release { .. } => super::schemas::release(known, request),
        _undo => super::schemas::undo(known, request),
    }
}

pub(super) fn must_be_done(operation: &Operation) -> Result<(), Failure> {
    let id = &operation.id;
    match &operation.state {
        OperationState::Done => Ok(()),
        OperationState::PutBack { .. } => {
            Err(Failure::new(FailureKind::Refused, format!("{id} was put back already; there is nothing to undo")))
        }
        OperationState::HandedOver { .. } => {
            let failure = Failure::new(FailureKind::Refused, format!("{id} was left to what came after it"));
            Err(failure.hint("lifeboat undo takes back what came after it, where that can be"))
        }
        OperationState::Running | OperationState::TurningBack { .. } | OperationState::Paused { .. } => {
            let failure = Failure::new(FailureKind::Refused, format!("{id} is not over"));
            Err(failure.hint(format!("lifeboat abort {id} takes back what it has done so far")))
        }
    }
}

fn nothing_to_undo(operation: &Operation) -> Failure {
    let word = operation.plan.request.word();
    Failure::new(FailureKind::Refused, format!("{} ({word}) left nothing that could be taken back", operation.id))
}

fn start(known: &Known, request: &Request, verb: &str) -> Plan {
    let title = format!("{verb} {}: {}", known.operation.id, known.operation.plan.title);
    steps::new_plan(&known.common, request, title, Lease::Environment)
}

/// Swaps what was kept back to where it lived. What lives there now is kept in turn, so this can be undone as well.
fn swap_back(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let live = known.live.as_ref().ok_or_else(|| nothing_to_undo(&known.operation))?;
    let path = live.place.clone();
    if !live.held_by.is_empty() && live.resource.writer.is_none() {
        let failure =
            Failure::new(FailureKind::Refused, format!("{} is open in {}", path.display(), live.held_by.join(", ")));
        return Err(failure.hint("stop it first, or set `stop` and `start` in lifeboat.toml"));
    }
    let mut plan = start(known, request, "undo");
    let kept_now = known.kept_now.clone().ok_or_else(|| nothing_to_undo(&known.operation))?;
    let names = Names { live: path.clone(), aside: PathBuf::new(), kept: kept_now.clone() };
    let mut swap: Vec<Step> = Vec::new();
    swap.extend(live.resource.writer.as_ref().map(|writer| restore::stop_writer(writer, &known.common)));
    let because = "what was there before is live from here on; undo this operation to swap again".to_owned();
    match &known.kept {
        Some((kept, untouched)) => {
            if !files::exists(kept) {
                return Err(kept_is_gone(known, kept));
            }
            plan.facts.push(ExpectedFact {
                fact: Fact::Untouched { path: kept.clone() },
                value: untouched.clone(),
                until: Some("bring-back".into()),
            });
            if live.exists {
                plan.facts.push(restore::must_be_free(&kept_now));
                swap.extend(restore::set_aside(&live.resource, &names));
            }
            let title = format!("give {} its name back", kept.display());
            let action = Action::BringBack {
                database: restore::is_database(&live.resource),
                live: path.clone(),
                kept: kept.clone(),
            };
            swap.push(step("bring-back", title, StepClass::Pivot, action, Undo::Impossible { because }));
        }
        // There was nothing before it: what it put there is moved aside.
        None if !live.exists => return Err(nothing_to_undo(&known.operation)),
        None => {
            plan.facts.push(restore::must_be_free(&kept_now));
            let mut aside = restore::set_aside(&live.resource, &names);
            if let Some(last) = aside.last_mut() {
                (last.class, last.undo) = (StepClass::Pivot, Undo::Impossible { because });
            }
            swap.extend(aside);
        }
    }
    swap.extend(live.resource.writer.as_ref().map(|writer| restore::start_writer(writer, &known.common)));
    let first = if live.exists { "set-aside" } else { "bring-back" };
    let identity = Fact::Identity { path: path.clone() };
    plan.facts.push(ExpectedFact { fact: identity, value: live.identity.clone(), until: Some(first.into()) });
    plan.notes.push(format!("What is there now is kept as {}.", kept_now.display()));
    plan.notes.push(format!(
        "It was put there {}; what was written since then stays in that file.",
        steps::instant(known.operation.last_at)
    ));
    if let Some(why) = &known.uncounted {
        plan.notes.push(format!("How many rows leave could not be counted: {why}. Both files are kept."));
    }
    if !known.differs.is_empty() {
        let kept = known.kept_now.as_ref().map_or_else(String::new, |path| path.display().to_string());
        let (resource, since) = (live.resource.name.clone(), known.operation.last_at);
        plan.losses = vec![Loss { resource, since, what: known.differs.clone(), kept }];
    }
    plan.phases = vec![phase(&known.common, "swap", vec![], swap)];
    Ok(plan)
}

fn kept_is_gone(known: &Known, kept: &std::path::Path) -> Failure {
    let message = format!("what {} kept is not at {} any more", known.operation.id, kept.display());
    let emergency = known.operation.plan.steps().find_map(|step| match &step.action {
        Action::StoreBackup { backup, .. } => Some(backup.clone()),
        _other => None,
    });
    let failure = Failure::new(FailureKind::Refused, message);
    match (emergency, &known.live) {
        (Some(backup), Some(live)) => failure
            .hint(format!("its emergency backup is there: lifeboat restore {} --from {backup}", live.resource.name)),
        _other => failure,
    }
}

fn stored(operation: &Operation) -> Vec<BackupId> {
    let stored = operation.plan.steps().filter_map(|step| match &step.action {
        Action::StoreBackup { backup, .. } => Some(backup.clone()),
        _other => None,
    });
    stored.collect()
}

fn list_step(id: &str, title: String, action: Action, undo: Action) -> Step {
    step(id, title, StepClass::Idempotent, action, by(undo))
}

fn drop_backup(known: &Known, request: &Request) -> Result<Plan, Failure> {
    if let Some((backup, why)) = known.held.first() {
        let failure = Failure::new(FailureKind::Refused, format!("{backup} is held: {why}"));
        return Err(failure.hint(format!("lifeboat backups unhold {backup} lets it go")));
    }
    let (vault, backups) = (known.common.vault.clone(), stored(&known.operation));
    let mut plan = start(known, request, "undo");
    let forget = Action::Forget { vault: vault.clone(), backups: backups.clone() };
    let unforget = Action::Unforget { vault, backups };
    let title = "take the backup off the vault's list; its bytes go with a later prune".to_owned();
    plan.phases = vec![phase(&known.common, "forget", vec![], vec![list_step("forget", title, forget, unforget)])];
    Ok(plan)
}

fn forgotten(operation: &Operation) -> Option<(&String, &Vec<BackupId>, bool)> {
    operation.plan.steps().find_map(|step| match &step.action {
        Action::Forget { vault, backups } => Some((vault, backups, true)),
        Action::Unforget { vault, backups } => Some((vault, backups, false)),
        _other => None,
    })
}

fn unforget(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let (vault, backups, _) = forgotten(&known.operation).ok_or_else(|| nothing_to_undo(&known.operation))?;
    let mut plan = start(known, request, "undo");
    let back = Action::Unforget { vault: vault.clone(), backups: backups.clone() };
    let forth = Action::Forget { vault: vault.clone(), backups: backups.clone() };
    let title = format!("put {} backups back on the vault's list", backups.len());
    plan.phases = vec![phase(&known.common, "list", vec![], vec![list_step("unforget", title, back, forth)])];
    Ok(plan)
}

/// Undo of an undo that only changed the list.
fn redo_list(known: &Known, request: &Request) -> Result<Plan, Failure> {
    match forgotten(&known.operation) {
        Some((_, _, true)) => unforget(known, request),
        Some((vault, backups, false)) => {
            let mut plan = start(known, request, "undo");
            let forth = Action::Forget { vault: vault.clone(), backups: backups.clone() };
            let back = Action::Unforget { vault: vault.clone(), backups: backups.clone() };
            let title = format!("take {} backups off the vault's list again", backups.len());
            plan.phases = vec![phase(&known.common, "list", vec![], vec![list_step("forget", title, forth, back)])];
            Ok(plan)
        }
        None => Err(nothing_to_undo(&known.operation)),
    }
}

fn unmark(known: &Known, request: &Request, backup: &BackupId, mark: &BackupMark) -> Result<Plan, Failure> {
    let inverse = match mark {
        BackupMark::Hold { .. } => BackupMark::Unhold,
        BackupMark::Suspect { .. } => BackupMark::Trust,
        BackupMark::Unhold | BackupMark::Trust => {
            let failure = Failure::new(FailureKind::Refused, "the former reason is not known any more");
            return Err(failure.hint(format!("say it anew: lifeboat backups hold {backup} --why ...")));
        }
    };
    let mut plan = start(known, request, "undo");
    let back = Action::Mark { backup: backup.clone(), mark: inverse };
    let forth = Action::Mark { backup: backup.clone(), mark: mark.clone() };
    let step = list_step("mark", format!("take the mark off {backup}"), back, forth);
    plan.phases = vec![phase(&known.common, "mark", vec![], vec![step])];
    Ok(plan)
}

fn release(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let (kept, untouched) = known
        .kept
        .as_ref()
        .ok_or_else(|| Failure::new(FailureKind::Refused, format!("{} set nothing aside", known.operation.id)))?;
    let mut paths = vec![kept.clone()];
    paths.extend(["-wal", "-shm", "-journal"].map(|end| path_with(kept, end)));
    let mut plan = start(known, request, "release what was kept by");
    plan.facts.push(ExpectedFact {
        fact: Fact::Untouched { path: kept.clone() },
        value: untouched.clone(),
        until: Some("release".into()),
    });
    let title = format!("delete {}", kept.display());
    let because = "what is deleted is gone; an emergency backup may still hold it".to_owned();
    let step = step("release", title, StepClass::Pivot, Action::Remove { paths }, Undo::Impossible { because });
    plan.phases = vec![phase(&known.common, "release", vec![], vec![step])];
    plan.notes.push(format!("After this, {} cannot be undone by a rename.", known.operation.id));
    Ok(plan)
}

/// Whether an operation put something in the place of what was live, or took it away.
pub fn changed_what_is_live(operation: &Operation) -> bool {
    !matches!(operation.plan.request, Request::Restore { into: Some(_), .. })
        && (swapped(operation).is_some()
            || super::databases::renamed(operation).is_some()
            || super::schemas::swapped(operation).is_some())
}

/// Whether an operation that is done can be taken back by `undo` without a name: the newest such one is meant.
pub fn is_undoable(operation: &Operation) -> bool {
    let done = operation.state == OperationState::Done;
    let kind = match &operation.plan.request {
        Request::Restore { .. } | Request::Undo { .. } | Request::Retention | Request::Mark { .. } => true,
        Request::BringBack { .. } | Request::RestoreTable { .. } | Request::Level { .. } | Request::Policy { .. } => {
            true
        }
        Request::Version { about } => {
            let before_pivot =
                matches!(about, VersionAsk::RollBack { .. } | VersionAsk::Env(_)) && !operation.past_pivot;
            let took_out = super::branch::pushed(operation).is_some();
            before_pivot || took_out || super::rollback::took_database(operation)
        }
        Request::Backup { .. } | Request::Prove { .. } | Request::Prune | Request::Release { .. } => false,
        Request::Export { .. } | Request::Adopt { .. } | Request::Copy { .. } | Request::Shadow { .. } => false,
        Request::Send { .. } => false,
        Request::Compromise { .. } | Request::Attest { .. } | Request::Fence { .. } | Request::Decide { .. } => false,
        Request::Incident { .. } | Request::Sync { .. } | Request::Maintenance { .. } => false,
        Request::Provider { .. } | Request::Drill { .. } => false,
        Request::Feature { .. } => true,
    };
    done && kind && !facts_gone(operation)
}

/// Why what an operation did about a release is not taken back, and what leads back instead.
fn version_stays(operation: &Operation, about: &VersionAsk) -> Failure {
    match about {
        VersionAsk::Rehearse { .. } | VersionAsk::Env(_) | VersionAsk::Platform(_) => nothing_to_undo(operation),
        VersionAsk::Seal { .. } | VersionAsk::Mark { .. } => {
            nothing_to_undo(operation).hint("lifeboat releases mark says something else about a release")
        }
        VersionAsk::Deploy(_) => nothing_to_undo(operation).hint("lifeboat rollback --dry-run shows the ways back"),
        VersionAsk::RollBack { .. } | VersionAsk::Revert { .. } => nothing_to_undo(operation).hint(
            "lifeboat deploy VERSION brings the newer one again, migrations included; rows that left: lifeboat salvage list, \
             and the emergency backup",
        ),
    }
}

fn facts_gone(operation: &Operation) -> bool {
    kept_path(operation).is_some_and(|path| facts::identity(&path) == "nothing there")
}
