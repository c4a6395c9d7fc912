//! What follows from incidents: which there are, and that nothing of them is deleted before they are reviewed.

use lifeboat_model::{Failure, FailureKind, Incident, Plan, Request};

use crate::Engine;

impl Engine {
    /// The incidents of this scope as they stand, oldest first.
    ///
    /// # Errors
    /// When the index of the journals cannot be read.
    pub fn incidents(&self) -> Result<Vec<Incident>, Failure> {
        self.catalog()?.incidents(&self.setup.scope).map_err(|error| self.failure(&error))
    }
}

/// Refuses to delete for good what an operation set aside during an incident that is not reviewed: it is evidence, and the
/// way back.
///
/// # Errors
/// [`FailureKind::Refused`], naming the incident.
pub(crate) fn guard(engine: &Engine, plan: &Plan) -> Result<(), Failure> {
    let Request::Release { operation } = &plan.request else { return Ok(()) };
    let kept = engine.look().operation(operation)?;
    let Some(why) = engine.incidents()?.iter().find_map(|incident| incident.holds(kept.last_at)) else {
        return Ok(());
    };
    let failure = Failure::new(FailureKind::Refused, format!("what {operation} set aside is held: {why}"));
    Err(failure.hint("lifeboat incident close, then lifeboat incident review, let it go"))
}
