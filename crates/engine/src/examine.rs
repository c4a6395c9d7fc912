//! Looking closely: at one backup, at a plan before it runs, at who works on an operation. Changes nothing.

use lifeboat_io::{Stop, lease};
use lifeboat_model::{
    Action, Backup, BackupId, Failure, FailureKind, Manifest, Operation, OperationId, OperationState, Plan, Proof,
    StepId, StepState, Tri, id::find_by_start,
};

use crate::{
    Engine,
    act::{read_all, summary},
    perform::{Context, Watch},
};

/// What a look at a plan before its run says about one step.
#[derive(Clone, Debug, PartialEq)]
pub enum Rehearsed {
    /// It only looks; it has been carried out and found nothing wrong.
    Checked,
    /// It only looks, and would fail.
    Fails(Failure),
    /// It changes something, or needs what an earlier step makes; it was not tried.
    NotTried,
}

impl Engine {
    /// The backup of this scope that an id, or the beginning of one, means.
    ///
    /// # Errors
    /// When it means none, or several; when the vault cannot be read.
    pub fn find_backup(&self, start: &str) -> Result<Backup, Failure> {
        let backups = self.backups()?;
        let ids: Vec<BackupId> = backups.iter().map(|backup| backup.id.clone()).collect();
        let found = find_by_start(&ids, start, BackupId::PREFIX);
        let id = found.map_err(|error| {
            let failure = Failure::from_error(FailureKind::Refused, &error);
            failure
                .while_doing(format!("there is no one such backup of {}", self.setup.scope))
                .hint("lifeboat backups list")
        })?;
        // The id came out of this very list.
        backups
            .iter()
            .find(|backup| &backup.id == id)
            .cloned()
            .ok_or_else(|| Failure::new(FailureKind::Bug, format!("backup {id} vanished from a list")))
    }

    /// What a backup says it holds.
    ///
    /// # Errors
    /// When there is none, or its manifest cannot be read.
    pub fn manifest(&self, backup: &BackupId) -> Result<Manifest, Failure> {
        summary::manifest(&self.vaults.open(&self.setup.vault)?, backup)
    }

    /// The proofs of a backup, newest first.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn proofs(&self, backup: &BackupId) -> Result<Vec<Proof>, Failure> {
        self.catalog()?.proofs(Some(backup)).map_err(|error| self.failure(&error))
    }

    /// Reads every byte of a backup, each blob checked against its name; returns how many bytes.
    ///
    /// # Errors
    /// The first damage found, or why it could not be read.
    pub fn verify_backup(&self, backup: &BackupId, watch: &dyn Watch, stop: &Stop) -> Result<u64, Failure> {
        let total = self.find_backup(backup.as_str())?.bytes;
        read_all(&*self.vaults, &self.setup.vault, backup, stop, &|done| watch.progress(done, Some(total)))
    }

    /// Looks whether what a plan rests on still holds, and carries out those of its steps that only look at what is there
    /// already. Changes nothing.
    ///
    /// # Errors
    /// [`FailureKind::Stale`] when a fact has changed. What a step would fail on is part of the answer.
    pub fn rehearse(&self, plan: &Plan, watch: &dyn Watch, stop: &Stop) -> Result<Vec<Rehearsed>, Failure> {
        self.check_facts(plan, 0)?;
        let operation = self.imagined(plan);
        let look = |step: &lifeboat_model::Step| {
            if !looks_only(&step.action) {
                return Rehearsed::NotTried;
            }
            let context = Context { operation: &operation, step: &step.id, stop, watch };
            match self.hands.perform(&step.action, &context) {
                Ok(_) => Rehearsed::Checked,
                Err(failure) => Rehearsed::Fails(failure),
            }
        };
        Ok(plan.steps().map(look).collect())
    }

    /// The operation a plan would become. It has no journal, and nobody can take it up.
    fn imagined(&self, plan: &Plan) -> Operation {
        let (now, steps) = (self.io.clock.now(), plan.steps().count());
        Operation {
            id: OperationId::from_random(0),
            plan: plan.clone(),
            by: self.io.env.user(),
            host: self.io.env.host(),
            started_at: now,
            last_at: now,
            elapsed_ms: 0,
            mono_ms: 0,
            epoch: 0,
            steps: vec![StepState::Planned; steps],
            attempts: vec![0; steps],
            past_pivot: false,
            over_budget: Vec::new(),
            began_epoch: 0,
            state: OperationState::Running,
            lines: 0,
        }
    }

    /// Whether a process works on this operation right now: fail when it has ended, unknown when it cannot be told.
    ///
    /// # Errors
    /// When the lease cannot be read.
    pub fn is_worked_on(&self, operation: &Operation) -> Result<Tri, Failure> {
        let path = self.state.lease(&operation.plan.scope, operation.plan.lease);
        let note = lease::read_note(&path).map_err(|error| self.failure(&error))?;
        Ok(match note {
            Some(note) if note.operation.as_deref() == Some(operation.id.as_str()) => note.process.is_alive(),
            Some(_) | None => Tri::Fail,
        })
    }

    /// The steps of a plan whose outputs are proofs, with what they left behind.
    pub fn proofs_of(operation: &Operation) -> Vec<Proof> {
        let records = operation.plan.steps().filter(|step| matches!(step.action, Action::RecordProof { .. }));
        let output = |id: &StepId| operation.output(id).cloned();
        records.filter_map(|step| serde_json::from_value(output(&step.id)?).ok()).collect()
    }
}

/// Whether an action looks at what is there before a plan begins, and at nothing that the plan makes.
fn looks_only(action: &Action) -> bool {
    match action {
        Action::CheckSpace { .. } | Action::CheckBackup { .. } | Action::CheckUnused { .. } => true,
        Action::CreateVault { .. } | Action::CaptureSqlite { .. } | Action::InspectSqlite { .. } => false,
        Action::StoreBackup { .. } | Action::DropBackup { .. } | Action::VerifyStored { .. } => false,
        Action::Fetch { .. } | Action::CheckFetched { .. } | Action::CheckTheChecks { .. } => false,
        Action::CompareLoss { .. } => false,
        Action::RecordProof { .. } | Action::SetAside { .. } | Action::BringBack { .. } => false,
        Action::PutInPlace { .. } | Action::TakeAway { .. } | Action::Command { .. } => false,
        Action::Remove { .. } | Action::Forget { .. } | Action::Unforget { .. } => false,
        Action::Prune { .. } | Action::Mark { .. } => false,
        Action::MakeFolder { .. } | Action::WriteExport { .. } | Action::EncryptFolder { .. } => false,
        Action::CopyBackup { .. } | Action::CopyJournals { .. } | Action::Say { .. } => false,
        Action::Send { .. } => false,
        Action::Sync { .. } => false,
        Action::Target { action, .. } => {
            use lifeboat_model::TargetAction as T;
            use lifeboat_model::{BranchAction, WorkflowAction};
            let tip = matches!(action, T::Branch(BranchAction::CheckTip { .. }));
            let runs = matches!(action, T::Workflow(WorkflowAction::Look { .. }));
            tip || runs
                || matches!(action, T::CheckVariables)
                || matches!(action, T::CheckClean | T::CheckRuns { .. } | T::NoteInstance)
        }
        Action::Release(_) | Action::Env(_) | Action::Feature(_) | Action::Due { .. } | Action::Notify { .. } => false,
        Action::Postgres(action) => matches!(action, lifeboat_model::PgAction::CheckSource { .. }),
    }
}
