//! Planning a copy: which backups a second vault lacks, and which of these its own rules would keep.

use lifeboat_model::{
    Action, Backup, BackupId, ExpectedFact, Fact, Failure, Lease, Plan, Request, Step, StepClass, Undo, decide_keep,
};

use super::steps::{self, guess, phase, step};
use crate::{Engine, facts::Common, setup::Copy};

/// What is known when a second vault is brought up to date.
pub struct Known {
    /// Common knowledge; its vault is where backups come from.
    pub common: Common,
    /// The second vault.
    pub copy: Copy,
    /// Whether it is there yet.
    pub is_there: bool,
    /// Its folder, when it is one.
    pub folder: Option<std::path::PathBuf>,
    /// Backups it lacks and would keep, oldest first.
    pub lacks: Vec<Backup>,
    /// A digest over the list of backups, for [`Fact::Backups`].
    pub list: String,
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Copy { to } = request else { return Err(steps::wrong_planner()) };
    let copy = engine.setup().copy(to)?.clone();
    let common = engine.common()?;
    if !common.vault_exists {
        return Err(steps::no_vault(&common));
    }
    let is_there = engine.vaults.exists(&copy.location)?;
    let theirs = if is_there { engine.backups_in(&copy.location)? } else { Vec::new() };
    let lacks = lacking(engine.backups()?, theirs, &copy, &common);
    let list = engine.hands.look_at(&Fact::Backups { vault: common.vault.clone() })?;
    let folder = engine.vaults.folder(&copy.location);
    Ok(Known { common, copy, is_there, folder, lacks, list })
}

/// What the copy lacks of ours and its own rules would keep: copying the rest would only be to let it go again.
pub(crate) fn lacking(ours: Vec<Backup>, theirs: Vec<Backup>, copy: &Copy, common: &Common) -> Vec<Backup> {
    let has = |id: &BackupId| theirs.iter().any(|backup| &backup.id == id);
    let lacks: Vec<Backup> = ours.into_iter().filter(|backup| !has(&backup.id)).collect();
    let all: Vec<Backup> = theirs.iter().chain(&lacks).cloned().collect();
    let verdicts = decide_keep(&all, &copy.keep, common.now);
    let stays = |backup: &Backup| verdicts.get(&backup.id).is_some_and(|verdict| !verdict.is_forget());
    lacks.into_iter().filter(stays).collect()
}

/// Plans a copy. What has been copied stays when a later one fails: each is whole by itself.
///
/// # Errors
/// When a request of another kind came here.
pub fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let (common, copy) = (&known.common, &known.copy);
    let title = format!("copy {} backups of {} to {}", known.lacks.len(), common.scope, copy.name);
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    if known.lacks.is_empty() {
        return Ok(plan);
    }
    let mut preflight = Vec::new();
    if let Some(folder) = &known.folder {
        let bytes = super::backup::with_margin(known.lacks.iter().map(new_bytes).sum());
        preflight.push(steps::space("space.copy", folder.clone(), bytes));
    }
    if !known.is_there {
        let action = Action::CreateVault { vault: copy.location.clone() };
        let title = format!("make a new vault in {}", copy.location);
        preflight.push(step("create-vault", title, StepClass::Idempotent, action, Undo::Nothing));
    }
    let first = format!("copy.{}", known.lacks[0].id);
    plan.facts = vec![ExpectedFact {
        fact: Fact::Backups { vault: common.vault.clone() },
        value: known.list.clone(),
        until: Some(first.as_str().into()),
    }];
    let bytes = known.lacks.iter().map(new_bytes).sum();
    let expected = vec![common.predict("copy", &copy.location, bytes, guess::STORE)];
    let mut copies: Vec<Step> = known.lacks.iter().map(|backup| one(known, backup)).collect();
    let action = Action::CopyJournals { from: common.vault.clone(), to: copy.location.clone() };
    let title = "copy the journals, which tell the history";
    copies.push(step("copy-journals", title, StepClass::Idempotent, action, Undo::Nothing));
    plan.phases = vec![phase(common, "preflight", vec![], preflight), phase(common, "copy", expected, copies)];
    plan.phases.retain(|phase| !phase.steps.is_empty());
    Ok(plan)
}

/// Copies a backup and looks that it is whole there.
fn one(known: &Known, backup: &Backup) -> Step {
    let (from, to, id) = (known.common.vault.clone(), known.copy.location.clone(), backup.id.clone());
    let title = format!("copy {id} of {}, and look that it is whole there", steps::instant(backup.recovery_point));
    let action = Action::CopyBackup { from, to, backup: id.clone() };
    step(format!("copy.{id}"), title, StepClass::Idempotent, action, Undo::Nothing)
}

/// Bytes that a backup will probably add; all of it when nobody knows.
fn new_bytes(backup: &Backup) -> u64 {
    if backup.bytes_added > 0 { backup.bytes_added } else { backup.bytes }
}
