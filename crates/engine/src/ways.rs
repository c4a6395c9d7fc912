//! The next way, when a restore into a server, or a rollback that restores, failed and was put back.
//!
//! ```text
//!   as planned          by rename or by schema, as it fits
//!   by schema           the same backup, exchanged inside the live database; only where nothing less would come back
//!   an older backup     the newest proven one before it; only when the one that was chosen is no good
//!   a fresh database    beside the live one, which stays as it is; the app is pointed there by a person
//! ```
//!
//! A full rollback has one other way, an older backup of the same schema ([`rolling`]).
//!
//! Nobody is asked again: so a way that would lose more than was agreed to is passed over, and told. The last one loses nothing.

pub(crate) mod rolling;

use std::path::PathBuf;

use lifeboat_model::{
    AcceptLoss, Backup, BackupChoice, BackupId, BackupReason, Failure, FailureClass, FailureKind, Operation,
    OperationState, Plan, Request, ResourceKind, ResourceName, SwapStrategy, Timestamp, VersionAsk,
};

use crate::{Engine, again, consequence, plan};

/// What follows a restore that failed.
#[derive(Clone, Debug, PartialEq)]
pub enum NextWay {
    /// This is tried next.
    Take {
        /// What it is, in a few words.
        what: String,
        /// The plan; nobody needs to agree to it again.
        plan: Box<Plan>,
        /// Ways that come before it and are not taken, each with the reason.
        passed_over: Vec<String>,
    },
    /// Nothing is tried by itself.
    Stop {
        /// Why, and which ways were passed over.
        because: Vec<String>,
        /// Where things stand, and what a person can type next; only of a rollback.
        handover: Option<Handover>,
    },
}

/// What a person takes over when no way is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Handover {
    /// What runs, and how far each database is.
    pub stands: Vec<String>,
    /// Commands, the best first.
    pub next: Vec<String>,
    /// Whom to call when none of them leads anywhere: who runs what is used, and whoever the settings name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vendors: Vec<Vendor>,
}

/// Who can be called when nothing here leads anywhere.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Vendor {
    /// Who it is.
    pub name: String,
    /// Where they are called.
    pub contact: String,
    /// What collects what they will ask for.
    pub evidence: String,
}

/// Why a restore failed, when it did and everything was put back.
pub fn put_back(operation: &Operation) -> Option<&Failure> {
    match &operation.state {
        OperationState::PutBack { why } => why.as_ref(),
        OperationState::Running | OperationState::Done => None,
        OperationState::TurningBack { .. } | OperationState::Paused { .. } | OperationState::HandedOver { .. } => None,
    }
}

/// Why no other way is tried after this failure, when none is.
fn ends_it(why: &Failure) -> Option<&'static str> {
    match (why.kind, why.class) {
        (FailureKind::Interrupted, _) | (_, Some(FailureClass::Stopped)) => Some("somebody asked to stop"),
        (FailureKind::NeedsPerson, _) => Some("a person has to decide"),
        (FailureKind::Stale, _) => Some("what is there has changed since it was agreed to"),
        (FailureKind::Busy, _) => Some("somebody else is at work"),
        (FailureKind::Unknown | FailureKind::Bug | FailureKind::Usage, _) => Some("what happened is not understood"),
        // Each way needs that much room, and what is live needs it too.
        (_, Some(FailureClass::Disk)) => Some("every way needs room on the same disk"),
        (_, Some(FailureClass::Connection)) => Some("every way needs the same server"),
        (FailureKind::Damaged | FailureKind::Refused | FailureKind::Outside, _) => None,
    }
}

/// Whether it was the backup: damaged, or nothing that can be filled in.
fn blames_backup(why: &Failure) -> bool {
    match why.class {
        Some(FailureClass::Damage | FailureClass::Content | FailureClass::Syntax) => true,
        Some(FailureClass::DuplicateKey | FailureClass::MissingRelation) => true,
        Some(_) | None => why.kind == FailureKind::Damaged,
    }
}

/// Whether a plan lets no more go than another that somebody agreed to.
fn loses_no_more(plan: &Plan, confirmed: &Plan) -> bool {
    let (rows, tables, changed) = (consequence::rows_leaving, consequence::tables_leaving, consequence::tables_changed);
    let not_counted = plan.losses.is_empty() && !confirmed.losses.is_empty();
    let each: [fn(&Plan) -> u64; 3] = [rows, tables, changed];
    !not_counted && each.iter().all(|count| count(plan) <= count(confirmed))
}

/// What was asked for, from another backup.
fn from_another(request: &Request, backup: &BackupId) -> Request {
    let mut another = request.clone();
    if let Request::Restore { from, ack, .. } = &mut another {
        (*from, *ack) = (from.instead(BackupChoice::Exactly(backup.clone())), None);
    }
    another
}

fn into_fresh(request: &Request, name: &str) -> Request {
    let mut beside = request.clone();
    if let Request::Restore { into, accept_loss, without_emergency_backup, ack, .. } = &mut beside {
        (*into, *accept_loss, *ack) = (Some(PathBuf::from(name)), AcceptLoss::default(), None);
        *without_emergency_backup = None;
    }
    beside
}

impl Engine {
    /// What follows when a restore into a server or a rollback, that somebody agreed to, failed and was put back; with all that was tried so far,
    /// the newest last. Emergency and suspect backups are never taken, nor ones without a passed proof, nor any but the named one
    /// where one was named.
    pub fn next_way(&self, confirmed: &Plan, tried: &[Operation]) -> NextWay {
        let (mut passed_over, mut handover) = (Vec::new(), None);
        let found = match &confirmed.request {
            Request::Version { about: VersionAsk::RollBack { .. } } => {
                self.another_rollback(confirmed, tried, &mut passed_over, &mut handover)
            }
            _restore => self.another_way(confirmed, tried, &mut passed_over),
        };
        match found {
            Some((what, mut plan)) => {
                // On record with what is done instead.
                let notes = passed_over.iter().map(|way| format!("Not tried by itself: {way}."));
                plan.notes.splice(0..0, notes);
                NextWay::Take { what, plan: Box::new(plan), passed_over }
            }
            None => NextWay::Stop { because: passed_over, handover },
        }
    }

    fn another_way(
        &self,
        confirmed: &Plan,
        tried: &[Operation],
        passed_over: &mut Vec<String>,
    ) -> Option<(String, Plan)> {
        let Request::Restore { resource, from, into: None, accept_loss, .. } = &confirmed.request else { return None };
        let (backup, why) = (again::filled_from(confirmed)?, put_back(tried.last()?)?);
        if let Some(ends) = ends_it(why) {
            passed_over.push(format!("no other way is tried by itself: {ends}"));
            return None;
        }
        let bad: Vec<&BackupId> = tried
            .iter()
            .filter(|operation| put_back(operation).is_some_and(blames_backup))
            .filter_map(|operation| again::filled_from(&operation.plan))
            .collect();
        let is_bad = bad.contains(&backup);
        let was = |way: SwapStrategy| tried.iter().any(|operation| again::strategy(&operation.plan) == way);
        if !is_bad && again::strategy(confirmed) == SwapStrategy::Rename && !was(SwapStrategy::Schema) {
            let what = format!("the same backup, {backup}, by an exchange of schemas");
            let same = from_another(&confirmed.request, backup);
            let planned = match self.setup.swaps.contains_key(resource) {
                true => Err(Failure::new(FailureKind::Refused, "the settings say how it takes its place (swap)")),
                false => plan::by_schemas(self, &same),
            };
            match planned.and_then(|plan| self.allowed(plan, confirmed, *accept_loss)) {
                Ok(plan) => return Some((what, plan)),
                Err(failure) => passed_over.push(format!("{what}: {failure}")),
            }
        }
        let older = match is_bad {
            true => self.older_proven(resource, from, backup, &bad),
            false => Ok(None),
        };
        let older = older.unwrap_or_else(|failure| {
            passed_over.push(format!("older backups: {failure}"));
            None
        });
        let of_older = |id: &BackupId| tried.iter().any(|one| again::filled_from(&one.plan) == Some(id));
        if let Some((id, at)) = older.as_ref().filter(|(id, _)| !of_older(id)) {
            let what = format!("the newest proven backup before it, {id} of {}", plan::steps::instant(*at));
            let planned = self.plan(&from_another(&confirmed.request, id));
            match planned.and_then(|plan| self.allowed(plan, confirmed, *accept_loss)) {
                Ok(plan) => return Some((what, plan)),
                Err(failure) => passed_over.push(format!("{what}: {failure}")),
            }
        }
        if is_bad && older.is_none() {
            passed_over.push(format!("{backup} is no good, and no proven backup before it may be taken by itself"));
            return None;
        }
        let source = older.map_or_else(|| backup.clone(), |(id, _at)| id);
        let is_fresh = |one: &Operation| matches!(&one.plan.request, Request::Restore { into: Some(_), .. });
        let of_source = |one: &&Operation| again::filled_from(&one.plan) == Some(&source);
        if tried.iter().filter(of_source).any(is_fresh) {
            return None;
        }
        match self.fresh(&confirmed.request, resource, &source) {
            Ok((name, plan)) => Some((format!("{source} into a fresh database, {name}, beside the live one"), plan)),
            Err(failure) => {
                passed_over.push(format!("{source} into a fresh database: {failure}"));
                None
            }
        }
    }

    /// Only what a person would not have to be asked about again.
    fn allowed(&self, plan: Plan, confirmed: &Plan, accepted: AcceptLoss) -> Result<Plan, Failure> {
        self.must_be_acknowledged(&plan)?;
        // A number of rows is held against what is lost by the planner itself.
        if accepted == AcceptLoss::Shown && !loses_no_more(&plan, confirmed) {
            let message = "it would lose more than was agreed to (with --accept-loss any it is taken)";
            return Err(Failure::new(FailureKind::NeedsPerson, message));
        }
        Ok(plan)
    }

    /// The newest backup before this one that was restored in a proof and passed.
    fn older_proven(
        &self,
        resource: &ResourceName,
        from: &BackupChoice,
        than: &BackupId,
        bad: &[&BackupId],
    ) -> Result<Option<(BackupId, Timestamp)>, Failure> {
        if matches!(from.which(), BackupChoice::Exactly(_)) {
            return Ok(None);
        }
        Ok(self.all_older_proven(resource, from, than, bad)?.into_iter().next())
    }

    /// All of them, the newest first.
    fn all_older_proven(
        &self,
        resource: &ResourceName,
        from: &BackupChoice,
        than: &BackupId,
        bad: &[&BackupId],
    ) -> Result<Vec<(BackupId, Timestamp)>, Failure> {
        let (scope, its_name) = from.whose(&self.setup.scope, resource);
        let backups = self.backups_for(from)?;
        let Some(than) = backups.iter().find(|backup| &backup.id == than) else { return Ok(Vec::new()) };
        let is_older = |backup: &&Backup| {
            let is_good = backup.reason != BackupReason::Emergency && backup.suspect.is_none();
            let is_its = &backup.scope == scope && backup.resources.contains(its_name);
            is_good && is_its && backup.recovery_point < than.recovery_point && !bad.contains(&&backup.id)
        };
        let mut older: Vec<&Backup> = backups.iter().filter(is_older).collect();
        older.sort_by_key(|backup| std::cmp::Reverse(backup.recovery_point));
        let mut proven = Vec::new();
        for backup in older {
            if self.is_rehearsed(&backup.id, its_name)? {
                proven.push((backup.id.clone(), backup.recovery_point));
            }
        }
        Ok(proven)
    }

    fn fresh(&self, request: &Request, resource: &ResourceName, source: &BackupId) -> Result<(String, Plan), Failure> {
        let ResourceKind::Postgres { url, .. } = &self.setup.resource(resource)?.kind else {
            return Err(Failure::new(FailureKind::Bug, format!("{resource} is on no server")));
        };
        let name = plan::fresh_name(self, &self.vaults.database(url)?.database)?;
        let plan = self.plan(&into_fresh(&from_another(request, source), &name))?;
        Ok((name, plan))
    }
}
