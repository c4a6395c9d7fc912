//! Planning what may be let go, what space may be freed, and what is said about a backup.

use lifeboat_model::{
    Action, Backup, BackupId, ExpectedFact, Fact, Failure, FailureKind, Keep, Lease, Plan, Request, StepClass, Undo,
    Verdict, decide_keep,
};

use std::path::PathBuf;

use super::steps::{self, by, phase, step};
use crate::{Engine, aliases, facts::Common};

/// What is known when backups are to be let go.
pub struct Known {
    /// Common knowledge.
    pub common: Common,
    /// All backups of the scope.
    pub backups: Vec<Backup>,
    /// What is wanted.
    pub keep: Keep,
    /// A digest over names and marks of all backups, for [`Fact::Backups`].
    pub list: String,
    /// How long unneeded bytes stay, in milliseconds.
    pub grace_ms: u64,
    /// Plain copies beside databases that are too old.
    pub dated: Vec<PathBuf>,
}

pub(crate) fn gather(engine: &Engine) -> Result<Known, Failure> {
    let common = engine.common()?;
    if !common.vault_exists {
        return Err(steps::no_vault(&common));
    }
    let mut backups = engine.backups()?;
    let pinned = engine.pinned_backups()?;
    for backup in &mut backups {
        backup.held = backup.held.take().or_else(|| pinned.get(&backup.id).cloned());
    }
    let list = engine.hands.look_at(&Fact::Backups { vault: common.vault.clone() })?;
    let setup = engine.setup();
    let mut dated = Vec::new();
    for (name, days) in &setup.dated {
        let database = setup.resources.iter().find(|resource| resource.name == *name);
        let Some(path) = database.and_then(|database| database.kind.path()) else { continue };
        dated.extend(aliases::too_old(path, *days, common.now)?);
    }
    let grace_ms = setup.prune_grace.as_millis() as u64;
    Ok(Known { common, backups, keep: setup.keep.clone(), list, grace_ms, dated })
}

/// Plans retention, pruning or a mark.
///
/// # Errors
/// An empty policy; a backup that is not there.
pub fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    match request {
        Request::Retention => retention(known, request),
        Request::Prune => Ok(prune(known, request)),
        Request::Mark { backup, mark } => {
            must_exist(known, backup)?;
            let mut plan = start(known, request, format!("mark {backup}"));
            let action = Action::Mark { backup: backup.clone(), mark: mark.clone() };
            let step =
                step("mark", format!("write it down for {backup}"), StepClass::Idempotent, action, Undo::Nothing);
            plan.phases = vec![phase(&known.common, "mark", vec![], vec![step])];
            Ok(plan)
        }
        _other => Err(steps::wrong_planner()),
    }
}

fn start(known: &Known, request: &Request, title: String) -> Plan {
    steps::new_plan(&known.common, request, title, Lease::Environment)
}

fn must_exist(known: &Known, id: &BackupId) -> Result<(), Failure> {
    if known.backups.iter().any(|backup| &backup.id == id) {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Refused, format!("there is no backup {id} of {}", known.common.scope)))
}

fn retention(known: &Known, request: &Request) -> Result<Plan, Failure> {
    if known.keep.is_empty() {
        let failure = Failure::new(FailureKind::Usage, "the retention rules keep nothing, which can only be a mistake");
        return Err(
            failure.hint("set at least one of within, last, hourly, daily, weekly, monthly, yearly under [keep]")
        );
    }
    let verdicts = decide_keep(&known.backups, &known.keep, known.common.now);
    let forget: Vec<BackupId> =
        verdicts.iter().filter(|(_, verdict)| verdict.is_forget()).map(|(id, _)| id.clone()).collect();
    let title = format!("let {} of {} backups of {} go", forget.len(), known.backups.len(), known.common.scope);
    let mut plan = start(known, request, title);
    plan.notes = known.backups.iter().map(|backup| sentence(backup, &verdicts[&backup.id])).collect();
    plan.facts = vec![ExpectedFact {
        fact: Fact::Backups { vault: known.common.vault.clone() },
        value: known.list.clone(),
        until: Some("forget".into()),
    }];
    if !forget.is_empty() {
        let vault = known.common.vault.clone();
        let action = Action::Forget { vault: vault.clone(), backups: forget.clone() };
        let undo = by(Action::Unforget { vault, backups: forget.clone() });
        let title = format!("take {} backups off the list; their bytes go with a later prune", forget.len());
        plan.phases = vec![phase(
            &known.common,
            "forget",
            vec![],
            vec![step("forget", title, StepClass::ProbeFirst, action, undo)],
        )];
    }
    if !known.dated.is_empty() {
        let names = known.dated.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let because = "what is deleted is gone; the backups that they were made of stay as the rules say".to_owned();
        let action = Action::Remove { paths: known.dated.clone() };
        let title = format!("delete copies of past days: {names}");
        let step = step("dated", title, StepClass::Pivot, action, Undo::Impossible { because });
        plan.phases.push(phase(&known.common, "dated", vec![], vec![step]));
    }
    Ok(plan)
}

/// One sentence on one backup.
pub fn sentence(backup: &Backup, verdict: &Verdict) -> String {
    let (id, at) = (&backup.id, backup.recovery_point.strftime("%Y-%m-%d %H:%M"));
    match verdict {
        Verdict::Keep { because, until: Some(until) } => {
            format!("{id} of {at} stays: {because}; goes about {}.", until.strftime("%Y-%m-%d"))
        }
        Verdict::Keep { because, until: None } => format!("{id} of {at} stays: {because}."),
        Verdict::Forget { because } => format!("{id} of {at} goes: {because}."),
    }
}

fn prune(known: &Known, request: &Request) -> Plan {
    let mut plan = start(known, request, format!("free what no backup needs in {}", known.common.vault));
    let action = Action::Prune { vault: known.common.vault.clone(), grace_ms: known.grace_ms };
    let because = "bytes that no backup needed and whose grace period is over are deleted".to_owned();
    let title = "mark what is not needed; delete what was marked before the grace period";
    let step = step("prune", title, StepClass::Pivot, action, Undo::Impossible { because });
    plan.phases = vec![phase(&known.common, "prune", vec![], vec![step])];
    plan
}
