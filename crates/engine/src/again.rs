//! Whether something was tried before and failed: the same once more needs a person who has read why.

use lifeboat_model::{Action, Failure, FailureKind, OperationId, OperationState, PgAction, Plan, Request};

use crate::Engine;

/// The backup that a restore into a server works with.
fn filled_from(plan: &Plan) -> Option<&lifeboat_model::BackupId> {
    plan.steps().find_map(|step| match &step.action {
        Action::Postgres(PgAction::Fill { backup, .. }) => Some(backup),
        Action::Postgres(PgAction::SwapSchemas { from, .. }) => Some(&from.backup),
        _other => None,
    })
}

impl Engine {
    /// Refuses a restore into a server whose last try, from the same backup, failed: unless its request names the class of
    /// that failure. What was interrupted has not failed.
    ///
    /// # Errors
    /// [`FailureKind::NeedsPerson`] with the class, and what to do about it first.
    pub fn must_be_acknowledged(&self, plan: &Plan) -> Result<(), Failure> {
        let (Request::Restore { resource, ack, .. }, Some(backup)) = (&plan.request, filled_from(plan)) else {
            return Ok(());
        };
        let Some((operation, why)) = self.last_restore_failed(plan, resource)? else { return Ok(()) };
        let class = why.class_word();
        if ack.as_deref() == Some(class) {
            return Ok(());
        }
        let message = format!("{operation} tried the same and failed: {}", why.message);
        let failure = Failure { causes: why.causes.clone(), ..Failure::new(FailureKind::NeedsPerson, message) };
        let first = why.hint.as_deref().map(|hint| format!("first: {hint}; then ")).unwrap_or_default();
        Err(failure.hint(format!(
            "{first}lifeboat restore {resource} --from {backup} --ack {class}; or take another backup: --from BACKUP"
        )))
    }

    /// Why the newest restore of this resource was put back, when it was of the same backup and that was its last word.
    fn last_restore_failed(
        &self,
        plan: &Plan,
        resource: &lifeboat_model::ResourceName,
    ) -> Result<Option<(OperationId, Failure)>, Failure> {
        const LOOK_BACK: usize = 100;
        let scope = plan.scope.to_string();
        for row in self.look().operations(LOOK_BACK)?.into_iter().filter(|row| row.scope == scope) {
            // A journal that cannot be read says nothing; `status` reports it.
            let Ok(operation) = self.look().operation(&row.id) else { continue };
            let same = matches!(&operation.plan.request, Request::Restore { resource: name, .. } if name == resource);
            if !same {
                continue;
            }
            return Ok(match &operation.state {
                OperationState::PutBack { why: Some(why) }
                    if why.kind != FailureKind::Interrupted && filled_from(&operation.plan) == filled_from(plan) =>
                {
                    Some((operation.id.clone(), why.clone()))
                }
                _ended_otherwise => None,
            });
        }
        Ok(None)
    }
}
