//! What a machine sees of the points that belong to a rehearsal, to an incident, or to the app: what was tried, and how long ago.

use lifeboat_model::{
    Action, Driver, Failure, Operation, OperationState, Request, TargetAction, Tri, VersionAsk,
    checklist::{Look, Practice},
    message::Occasion,
    time::{show_age, since},
};

use super::Subject;
use crate::{Engine, ready::COUNTS_FOR, rehearsals};

impl Engine {
    pub(super) fn practised(&self, look: Look, key: &str, subject: &Subject) -> Result<Option<(Tri, String)>, Failure> {
        match (look, subject) {
            (Look::Ready, _) => {
                let points = self.ready()?;
                Ok(points.into_iter().find(|point| point.key == key).map(|point| (point.outcome, point.detail)))
            }
            (Look::Rehearsal(key), Subject::Operation(operation)) => {
                let all = self.rehearsals()?;
                let found = all.into_iter().find(|one| one.operation == operation.id);
                let point = found.and_then(|one| one.points.into_iter().find(|point| point.key == key));
                Ok(point.map(|point| (point.outcome, point.detail)))
            }
            (Look::NextDue, _) => {
                let (says, is_due) = rehearsals::due(&self.rehearsals()?, self.io.clock.now());
                Ok(Some((Tri::from_bool(!is_due), says)))
            }
            (Look::Reviewed, Subject::Incident(incident)) => {
                let reviewed = incident.reviewed.as_ref();
                Ok(reviewed.map(|said| (Tri::Pass, format!("{}, {}", said.note, said.at.strftime("%Y-%m-%d")))))
            }
            (Look::TriedSince, Subject::Incident(incident)) => {
                let Some(over) = &incident.closed else {
                    return Ok(Some((Tri::Fail, "the incident is not over".to_owned())));
                };
                let found = self.newest(&|operation| {
                    operation.started_at > over.at && (is_restore(operation) || is_rehearsal(operation))
                })?;
                Ok(found.map(|(_, says)| (Tri::Pass, says)))
            }
            (Look::Within(Practice::Alert), _) => {
                let now = self.io.clock.now();
                let tests = self.messages()?.into_iter().filter(|one| one.notice.occasion == Occasion::Test);
                let newest = tests.filter_map(|one| one.sent_at).max().filter(|at| since(*at, now) <= COUNTS_FOR);
                Ok(newest.map(|at| (Tri::Pass, format!("a test was delivered {} ago", show_age(since(at, now))))))
            }
            (Look::Within(practice), _) => {
                let now = self.io.clock.now();
                let found = self.newest(&|operation| {
                    since(operation.started_at, now) <= COUNTS_FOR && is_practice(practice, operation)
                })?;
                Ok(found.map(|(_, says)| (Tri::Pass, says)))
            }
            _of_another_list => Ok(None),
        }
    }

    /// The newest operation of this app, in whichever environment, that came to its end and is one of those.
    fn newest(&self, is_it: &dyn Fn(&Operation) -> bool) -> Result<Option<(Operation, String)>, Failure> {
        let (app, now) = (&self.setup().scope.app, self.io.clock.now());
        for row in self.look().operations(usize::MAX)? {
            let is_ours = row.scope.split('/').next() == Some(app.as_str());
            if !is_ours || !row.closed {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            if operation.state == OperationState::Done && is_it(&operation) {
                let says = format!("{} {} ago, in {}", row.id, show_age(since(row.started_at, now)), row.scope);
                return Ok(Some((operation, says)));
            }
        }
        Ok(None)
    }
}

fn is_practice(practice: Practice, operation: &Operation) -> bool {
    match practice {
        Practice::Restore => is_restore(operation),
        Practice::Rows => {
            matches!(operation.plan.request, Request::RestoreTable { .. } | Request::BringBack { .. })
        }
        Practice::Export => matches!(operation.plan.request, Request::Export { .. }),
        Practice::Functions => goes_back(operation, &|driver| matches!(driver, Driver::SupabaseFunctions { .. })),
        Practice::Pages => goes_back(operation, &|driver| !matches!(driver, Driver::SupabaseFunctions { .. })),
        Practice::Rollback => is_rehearsal(operation),
        // Told in the outbox, not by an operation.
        Practice::Alert => false,
    }
}

/// A proof comes to its end also when what it proves is that a backup is bad.
fn is_restore(operation: &Operation) -> bool {
    let proofs = Engine::proofs_of(operation);
    let is_proof = !proofs.is_empty() && proofs.iter().all(|proof| proof.outcome == Tri::Pass);
    is_proof || matches!(operation.plan.request, Request::Restore { .. })
}

fn is_rehearsal(operation: &Operation) -> bool {
    rehearsals::of(operation).is_some_and(|rehearsal| rehearsal.outcome == Tri::Pass)
}

/// Whether it is a rollback in which a target with such a driver was switched.
fn goes_back(operation: &Operation, is_it: &dyn Fn(&Driver) -> bool) -> bool {
    matches!(&operation.plan.request, Request::Version { about: VersionAsk::RollBack { .. } })
        && operation.plan.steps().any(|step| match &step.action {
            Action::Target { target, action: TargetAction::Switch { .. } } => target.driver.as_ref().is_some_and(is_it),
            _other => false,
        })
}
