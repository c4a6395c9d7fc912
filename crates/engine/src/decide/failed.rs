//! MIG-08: a migration that fails in a deploy is a decision on record: critical, with the way back that was chosen.

use lifeboat_io::Stop;
use lifeboat_model::{
    Action, Event, Failure, Operation, OperationState, PgAction, Profile, Request, VersionAsk,
    decision::{Decision, Fact, Path, Value},
};

use super::Said;
use crate::Engine;

/// The fact that the rules call critical.
const KEY: &str = "migration_failure";

/// Whether nothing of a decision is left to be done.
pub(super) fn is_over(decision: &Decision) -> bool {
    decision.path.as_ref().is_some_and(|path| path.taken)
}

impl Engine {
    /// The decision that follows when a migration has failed in a deploy; nothing when none did. Nothing is put on record here.
    ///
    /// # Errors
    /// When a journal cannot be read.
    pub fn decided_by_failure(&self, deploy: &Operation) -> Result<Option<Decision>, Failure> {
        let migrates = |action: &Action| matches!(action, Action::Postgres(PgAction::Migrate { .. }));
        let Some(step) = deploy.plan.steps().find(|step| migrates(&step.action)) else { return Ok(None) };
        let journal = self.look().journal(&deploy.id)?;
        let failed = journal.entries.iter().find_map(|entry| match &entry.event {
            Event::StepFailed { step: of, failure, .. } if *of == step.id => Some(failure),
            _other => None,
        });
        let Some(failure) = failed else { return Ok(None) };
        let fact = Fact { value: Value::Yes, ..Fact::unknown("") };
        let by = format!("{}: {failure}", deploy.id);
        let said = Said { facts: [(KEY.to_owned(), fact)].into(), by, ..Said::default() };
        let mut decision = self.decide(said, &self.decisions()?, self.io.clock.now(), &Stop::default())?;
        decision.path = Some(match &deploy.state {
            OperationState::PutBack { .. } => Path {
                way: "down".to_owned(),
                why: format!("its own transaction took it back, and {} the rest", deploy.id),
                taken: true,
            },
            _it_stands_in_between => self.way_back_of_migrations(),
        });
        Ok(Some(decision))
    }

    /// Which way leads back to what is live after a migration that failed: the shortest that works.
    pub fn way_back_of_migrations(&self) -> Path {
        let (way, why) = match self.way_back_to_live() {
            Ok(None) => ("down", "nothing is applied that would have to be taken back".to_owned()),
            Ok(Some(Profile::AppAndDown)) => ("down", "every migration since has a script that leads back".to_owned()),
            Ok(Some(_by_backup)) => ("restore", "not every migration since can be taken back by its script".to_owned()),
            Err(failure) => ("restore", failure.to_string()),
        };
        Path { way: way.to_owned(), why, taken: false }
    }

    fn way_back_to_live(&self) -> Result<Option<Profile>, Failure> {
        let live = self.releases()?.into_iter().find(|one| one.is_live).map(|one| one.release.id.to_string());
        if let Some(live) = &live
            && self.stands_at(live)?
        {
            return Ok(None);
        }
        let about = VersionAsk::RollBack { to: live, profile: None, why: String::new(), backup: None };
        Ok(Profile::of(&self.plan(&Request::Version { about })?))
    }
}
