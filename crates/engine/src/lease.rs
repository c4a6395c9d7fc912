//! One operation at a time per app and environment.

use lifeboat_io::lease::{self, Claim, FileLock, LockError};
use lifeboat_model::{Failure, FailureKind, Lease, OperationId, Plan};

use crate::Engine;

/// A lease that is held until it is dropped.
pub(crate) struct Held(FileLock);

impl Held {
    pub fn epoch(&self) -> u64 {
        self.0.epoch()
    }
}

impl Engine {
    pub(crate) fn take_lease(&self, plan: &Plan, operation: &OperationId, by: &str) -> Result<Held, Failure> {
        let path = self.state.lease(&plan.scope, plan.lease == Lease::Sandbox);
        let claim = Claim {
            who: by.to_owned(),
            host: self.io.env.host(),
            since: self.io.clock.now(),
            operation: Some(operation.to_string()),
            why: plan.title.clone(),
        };
        lease::take(&path, &claim).map(Held).map_err(|error| match &error {
            LockError::Held(held) => {
                let failure =
                    Failure::new(FailureKind::Busy, format!("another operation is working on {}", plan.scope));
                failure.because(held.to_string()).hint("wait for it, or look at it: lifeboat watch")
            }
            LockError::Path(_) | LockError::Damaged { .. } => {
                Failure::from_error(FailureKind::Outside, &error).while_doing("the lease cannot be taken")
            }
        })
    }
}
