//! Whether the app is closed on purpose now: somebody closed it, a database has a fence, or something is being put in place
//! with its writers stopped. Whoever stands in front of the app tells that to everybody instead of letting them run into errors.

use std::collections::BTreeSet;

use lifeboat_model::{Failure, Operation, OperationState, Request, ResourceName, StepState, Timestamp, time::since};

use crate::Engine;

/// When nothing better is known, somebody asks again after so many seconds.
const RETRY_AFTER_S: u64 = 30;

/// Operations that are looked at for fences, newest first.
const LOOK_BACK: usize = 500;

/// That the app is closed, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Since when.
    pub since: Timestamp,
    /// What for, in the words of whoever closed it.
    pub why: String,
    /// In how many seconds it is expected to be open again; nothing when nobody knows, or it should have been already.
    pub open_in_s: Option<u64>,
}

impl Closed {
    /// How much longer, in words, as far as anybody knows.
    pub fn eta(&self) -> Option<String> {
        self.open_in_s.map(in_words)
    }

    /// When to ask again.
    pub fn retry_after_s(&self) -> u64 {
        self.open_in_s.map_or(RETRY_AFTER_S, |seconds| seconds.clamp(5, 300))
    }
}

fn in_words(seconds: u64) -> String {
    match seconds.div_ceil(60) {
        0 | 1 => "1 minute".to_owned(),
        minutes @ 2..=90 => format!("{minutes} minutes"),
        minutes => format!("{} hours", minutes.div_ceil(60)),
    }
}

impl Engine {
    /// Whether the app is closed on purpose, by what this host's journals say.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn closed(&self) -> Result<Option<Closed>, Failure> {
        let scope = self.setup.scope.to_string();
        let now = self.io.clock.now();
        let (mut decided, mut said): (BTreeSet<ResourceName>, bool) = (BTreeSet::new(), false);
        let rows = self.look().operations(LOOK_BACK)?.into_iter().filter(|row| row.scope == scope);
        for row in rows {
            let is_fence = row.state == "done" && ["fence", "maintenance"].contains(&row.kind.as_str());
            let may_be_swapping = !row.closed && ["restore", "undo"].contains(&row.kind.as_str());
            if !is_fence && !may_be_swapping {
                continue;
            }
            // A journal that cannot be read says nothing; `status` reports it.
            let Ok(operation) = self.look().operation(&row.id) else { continue };
            if may_be_swapping && is_swapping(&operation) {
                let open_in_s = open_in(&operation, now);
                return Ok(Some(Closed { since: operation.last_at, why: String::new(), open_in_s }));
            }
            // The newest word about each counts.
            let (counts, on, why, until) = match &operation.plan.request {
                Request::Fence { resource, on, why } => (decided.insert(resource.clone()), *on, why, None),
                Request::Maintenance { on, why, until } => (!std::mem::replace(&mut said, true), *on, why, *until),
                _other => continue,
            };
            if counts && on {
                // What should have been over is never shown as if it were still to come.
                let open_in_s = until.map(|until| since(now, until).as_secs()).filter(|left| *left > 0);
                return Ok(Some(Closed { since: operation.started_at, why: why.clone(), open_in_s }));
            }
        }
        Ok(None)
    }
}

/// Whether its phase "swap" has begun and not ended: writers are stopped then. What comes back beside stops nobody.
fn is_swapping(operation: &Operation) -> bool {
    if matches!(&operation.plan.request, Request::Restore { into: Some(_), .. }) {
        return false;
    }
    let mut states = operation.steps.iter();
    for phase in &operation.plan.phases {
        let own: Vec<&StepState> = states.by_ref().take(phase.steps.len()).collect();
        if phase.name == "swap" {
            let begun = own.iter().any(|state| !matches!(state, StepState::Planned | StepState::Undone));
            let over = own.iter().all(|state| matches!(state, StepState::Done { .. }));
            let back = matches!(operation.state, OperationState::PutBack { .. });
            return begun && !over && !back;
        }
    }
    false
}

/// What is left of the time that the operation was expected to take.
fn open_in(operation: &Operation, now: Timestamp) -> Option<u64> {
    let expected = lifeboat_model::predict::add(operation.plan.phases.iter().filter_map(|phase| phase.expected))?;
    (expected.p95_ms / 1_000).checked_sub(since(operation.started_at, now).as_secs()).filter(|left| *left > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_told_as_much_as_is_known() {
        let closed = |open_in_s| Closed { since: Timestamp::UNIX_EPOCH, why: String::new(), open_in_s };
        let eta = |seconds| closed(Some(seconds)).eta().unwrap();
        assert_eq!((eta(1), eta(61), eta(7_200)), ("1 minute".into(), "2 minutes".into(), "2 hours".into()));
        assert_eq!(closed(None).eta(), None);
        assert_eq!(closed(Some(1)).retry_after_s(), 5);
        assert_eq!(closed(Some(7_200)).retry_after_s(), 300);
        assert_eq!(closed(None).retry_after_s(), 30);
    }
}
