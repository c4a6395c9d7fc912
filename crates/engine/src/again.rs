//! Whether something was tried before and failed: the same once more needs a person who has read why.

use lifeboat_model::{
    Action, BackupId, Failure, FailureKind, OperationId, OperationState, PgAction, Plan, Request, ResourceName,
    SwapStrategy,
};

use crate::Engine;

/// So many operations are looked at for what was tried.
const LOOK_BACK: usize = 100;

/// The backup that a restore into a server works with.
pub(crate) fn filled_from(plan: &Plan) -> Option<&BackupId> {
    plan.steps().find_map(|step| match &step.action {
        Action::Postgres(PgAction::Fill { backup, .. }) => Some(backup),
        Action::Postgres(PgAction::SwapSchemas { from, .. }) => Some(&from.backup),
        _other => None,
    })
}

/// How what was restored takes its place.
pub(crate) fn strategy(plan: &Plan) -> SwapStrategy {
    let is_schema =
        |step: &lifeboat_model::Step| matches!(&step.action, Action::Postgres(PgAction::SwapSchemas { .. }));
    if plan.steps().any(is_schema) { SwapStrategy::Schema } else { SwapStrategy::Rename }
}

impl Engine {
    /// Refuses a restore into a server whose last try, from the same backup, failed: unless its request names the class of
    /// that failure. What was interrupted has not failed.
    ///
    /// # Errors
    /// [`FailureKind::NeedsPerson`] with the class, and what to do about it first.
    pub fn must_be_acknowledged(&self, plan: &Plan) -> Result<(), Failure> {
        let (Request::Restore { resource, ack, into, .. }, Some(backup)) = (&plan.request, filled_from(plan)) else {
            return Ok(());
        };
        let Some((operation, why)) = self.last_restore_failed(plan, resource, into.is_some())? else { return Ok(()) };
        let class = why.class_word();
        if ack.as_deref() == Some(class) {
            return Ok(());
        }
        let message = format!("{operation} tried the same and failed: {}", why.message);
        let failure = Failure { causes: why.causes.clone(), ..Failure::new(FailureKind::NeedsPerson, message) };
        let first = why.hint.as_deref().map(|hint| format!("first: {hint}; then ")).unwrap_or_default();
        Err(failure.hint(format!(
            "{first}lifeboat restore {resource} --from {backup} --ack {class}; or take another backup: --from BACKUP; or leave the \
             live one alone: --into NEW-DATABASE"
        )))
    }

    /// Why a restore of this resource was put back, when it was of the same backup, in the same way, and none was done since. Other
    /// ways that were tried after it make it no other one.
    fn last_restore_failed(
        &self,
        plan: &Plan,
        resource: &ResourceName,
        beside: bool,
    ) -> Result<Option<(OperationId, Failure)>, Failure> {
        let tried = self.restores_tried(resource, LOOK_BACK)?;
        let same = |tried: &Tried| {
            let is_way = tried.beside == beside && tried.strategy == strategy(plan);
            is_way && tried.backup.as_ref() == filled_from(plan)
        };
        Ok(tried.into_iter().find(same).map(|tried| (tried.operation, tried.why)))
    }

    /// Restores of this resource that failed and were put back since one was done, newest first. What was interrupted has not
    /// failed.
    pub(crate) fn restores_tried(&self, resource: &ResourceName, most: usize) -> Result<Vec<Tried>, Failure> {
        let scope = self.setup.scope.to_string();
        let mut tried = Vec::new();
        for row in self.look().operations(LOOK_BACK)?.into_iter().filter(|row| row.scope == scope) {
            // A journal that cannot be read says nothing; `status` reports it.
            let Ok(operation) = self.look().operation(&row.id) else { continue };
            let beside = match &operation.plan.request {
                Request::Restore { resource: name, into, .. } if name == resource => into.is_some(),
                _another => continue,
            };
            match &operation.state {
                OperationState::PutBack { why: Some(why) } if why.kind != FailureKind::Interrupted => {
                    let backup = filled_from(&operation.plan).cloned();
                    let strategy = strategy(&operation.plan);
                    tried.push(Tried { operation: operation.id.clone(), backup, beside, strategy, why: why.clone() });
                }
                // The live one is as it was: what failed there is not settled by it.
                OperationState::Done if beside => continue,
                _ended_otherwise => break,
            }
            if tried.len() == most {
                break;
            }
        }
        Ok(tried)
    }
}

/// A restore that failed and was put back.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    /// The operation.
    pub operation: OperationId,
    /// The backup it worked with.
    pub backup: Option<BackupId>,
    /// Whether it was to come into a database beside the live one: another way, which needs nobody's word about the first.
    pub beside: bool,
    /// How it was to take its place.
    pub strategy: SwapStrategy,
    /// Why it failed.
    pub why: Failure,
}

impl Tried {
    /// One sentence.
    pub fn told(&self) -> String {
        let backup = self.backup.as_ref().map(|id| format!(" from {id}")).unwrap_or_default();
        let way = match (self.beside, self.strategy) {
            (true, _) => "into a new database",
            (false, SwapStrategy::Rename) => "by rename",
            (false, SwapStrategy::Schema) => "by schema",
        };
        format!(
            "Tried before: {}{backup} failed and was put back ({way}; {}): {}.",
            self.operation,
            self.why.class_word(),
            self.why
        )
    }
}
