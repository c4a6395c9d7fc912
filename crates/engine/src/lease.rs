//! One operation at a time per app and environment.

use lifeboat_io::lease::{self, Claim, FileLock, LockError};
use lifeboat_model::{Failure, FailureKind, Lease, OperationId, Plan};
use lifeboat_store::journal::greatest_epoch;

use crate::{Engine, perform::Watch};

/// A lease that is held until it is dropped.
pub(crate) struct Held(FileLock);

impl Held {
    pub fn epoch(&self) -> u64 {
        self.0.epoch()
    }
}

impl Engine {
    /// Takes the lease. When its file was lost or cannot be read any more, its epochs go on from the greatest in the journals:
    /// those that are open must be able to go on under it, and nobody may come after it with a smaller one.
    pub(crate) fn take_lease(
        &self,
        plan: &Plan,
        operation: &OperationId,
        by: &str,
        watch: &dyn Watch,
    ) -> Result<Held, Failure> {
        let path = self.state.lease(&plan.scope, plan.lease);
        let claim = Claim {
            who: by.to_owned(),
            host: self.io.env.host(),
            since: self.io.clock.now(),
            operation: Some(operation.to_string()),
            why: plan.title.clone(),
        };
        let was_damaged = lease::is_damaged(&path).unwrap_or(false);
        // What cannot be read tells no epoch; then a damaged lease stays one, and its own error is told.
        // Without any journal, none can be continued under a wrong one.
        let used = || greatest_epoch(&self.state.operations()).map_or(0, |epoch| epoch.max(u64::from(was_damaged)));
        let lock = lease::take_after(&path, &claim, &used).map_err(|error| match &error {
            LockError::Held(held) => {
                let failure =
                    Failure::new(FailureKind::Busy, format!("another operation is working on {}", plan.scope));
                failure.because(held.to_string()).hint("wait for it, or look at it: lifeboat watch")
            }
            LockError::Path(_) | LockError::Damaged { .. } => {
                Failure::from_error(FailureKind::Outside, &error).while_doing("the lease cannot be taken")
            }
        })?;
        if was_damaged && lock.is_found_anew() {
            let (path, epoch) = (path.display(), lock.epoch());
            watch.note(&format!(
                "The lease {path} could not be read; it goes on from the journals, with epoch {epoch}."
            ));
        }
        Ok(Held(lock))
    }

    /// Lease files of this scope that cannot be read any more. The next operation makes them anew.
    ///
    /// # Errors
    /// When one cannot even be looked at.
    pub fn damaged_leases(&self) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        for lease in Lease::ALL {
            let path = self.state.lease(&self.setup.scope, lease);
            if lease::is_damaged(&path).map_err(|error| self.failure(&error))? {
                found.push(path.display().to_string());
            }
        }
        Ok(found)
    }
}
