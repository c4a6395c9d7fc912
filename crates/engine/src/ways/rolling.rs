//! The next way of a full rollback whose backup is no good: the newest proven one before it that holds the same schema, where no more is
//! lost by it than was agreed to. When there is none, a person takes over, and is told where things stand and what to type.

use lifeboat_model::{
    Action, BackupChoice, BackupId, Failure, FailureKind, Operation, Plan, Profile, Release, ReleaseRecord, Request,
    ResourceName, Timestamp, VersionAsk,
};

use super::{Handover, blames_backup, ends_it, loses_no_more, put_back};
use crate::{Engine, again, plan, targets};

impl Engine {
    /// The same rollback from an older backup, when it was the backup that failed.
    pub(super) fn another_rollback(
        &self,
        confirmed: &Plan,
        tried: &[Operation],
        passed_over: &mut Vec<String>,
        handover: &mut Option<Handover>,
    ) -> Option<(String, Plan)> {
        let Request::Version { about: VersionAsk::RollBack { why, backup: named, .. } } = &confirmed.request else {
            return None;
        };
        let (first, failure) = (again::filled_from(confirmed)?, put_back(tried.last()?)?);
        let (release, resource) = (leads_to(confirmed)?, restored(confirmed)?);
        let mut hand = self.as_it_stands(&release, &resource);
        if let Some(ends) = ends_it(failure) {
            passed_over.push(format!("no other way is tried by itself: {ends}"));
        } else if named.is_some() {
            passed_over.push(format!("older backups: {first} was asked for by its name"));
        } else if blames_backup(failure) {
            let bad: Vec<&BackupId> = tried.iter().filter_map(|one| again::filled_from(&one.plan)).collect();
            let older =
                self.all_older_proven(&resource, &BackupChoice::Latest, first, &bad).unwrap_or_else(|failure| {
                    passed_over.push(format!("older backups: {failure}"));
                    Vec::new()
                });
            if older.is_empty() {
                passed_over.push(format!("{first} is no good, and no proven backup before it may be taken by itself"));
            }
            for (id, at) in older {
                match self.planned_from_older(confirmed, &release, why, &id) {
                    Ok(plan) => return Some((what(&id, at), plan)),
                    Err((failure, is_fit)) => {
                        passed_over.push(format!("{}: {failure}", what(&id, at)));
                        if is_fit {
                            // Those before it lose more still.
                            hand.next.push(format!("lifeboat rollback {release} --backup {id}"));
                            hand.next.push(format!("lifeboat restore {resource} --from {id} --into NEW-DATABASE"));
                            break;
                        }
                    }
                }
            }
        }
        hand.next.extend(self.other_ways(&release));
        *handover = Some(hand);
        None
    }

    /// The plan; else why not, and whether the backup would do if somebody agreed to what it loses.
    fn planned_from_older(
        &self,
        confirmed: &Plan,
        release: &str,
        why: &str,
        id: &BackupId,
    ) -> Result<Plan, (Failure, bool)> {
        let (to, why, backup) = (Some(release.to_owned()), why.to_owned(), Some(id.clone()));
        let about = VersionAsk::RollBack { to, profile: Some(Profile::Full), why, backup };
        let plan = self.plan(&Request::Version { about }).map_err(|failure| (failure, false))?;
        if loses_no_more(&plan, confirmed) {
            return Ok(plan);
        }
        let message = "it would lose more than was agreed to";
        Err((Failure::new(FailureKind::NeedsPerson, message), true))
    }

    /// A rollback that cannot even be planned, since its backup is damaged, names the proven one before it.
    pub(crate) fn instead_of(&self, bad: &BackupId, of: &ResourceName, release: &Release, failure: Failure) -> Failure {
        if failure.kind != FailureKind::Damaged {
            return failure;
        }
        let older = self.all_older_proven(of, &BackupChoice::Latest, bad, &[bad]).unwrap_or_default();
        match older.first() {
            Some((id, at)) => failure.hint(format!(
                "{id} is the newest proven one before it, of {}: lifeboat rollback {} --backup {id}",
                plan::steps::instant(*at),
                release.id
            )),
            None => failure,
        }
    }

    /// Where application and database stand now, by asking them.
    fn as_it_stands(&self, release: &str, resource: &ResourceName) -> Handover {
        let mut stands = Vec::new();
        for target in self.setup.targets.iter().filter(|target| target.driver.is_some()) {
            stands.push(match targets::running(&self.io, target, &lifeboat_io::Stop::default()) {
                Ok(version) => format!("{} runs {version}", target.name),
                Err(failure) => format!("what {} runs cannot be told: {failure}", target.name),
            });
        }
        stands.push(match self.applied(resource) {
            Ok(applied) => {
                let newest = applied.versions.last().map_or("none", String::as_str);
                format!("{resource} has its migrations up to {newest}, as before the rollback to {release}")
            }
            Err(failure) => format!("how far {resource} is cannot be told: {failure}"),
        });
        Handover { stands, next: Vec::new() }
    }

    /// Ways that go without any backup, and the one that a person goes step by step.
    fn other_ways(&self, release: &str) -> Vec<String> {
        let down = VersionAsk::RollBack {
            to: Some(release.to_owned()),
            profile: Some(Profile::AppAndDown),
            why: String::new(),
            backup: None,
        };
        let mut next = Vec::new();
        if self.plan(&Request::Version { about: down }).is_ok() {
            next.push(format!("lifeboat rollback {release} --profile {}", Profile::AppAndDown.word()));
        }
        next.push("lifeboat backups list".to_owned());
        next.push(format!("lifeboat rollback {release} --manual"));
        next
    }
}

fn what(id: &BackupId, at: Timestamp) -> String {
    format!("the newest proven backup before it, {id} of {}", plan::steps::instant(at))
}

/// Which release a rollback says is live at its end.
fn leads_to(plan: &Plan) -> Option<String> {
    plan.steps().find_map(|step| match &step.action {
        Action::Release(ReleaseRecord::Live { release, .. }) => release.as_ref().map(ToString::to_string),
        _other => None,
    })
}

/// The database that it brings back.
fn restored(plan: &Plan) -> Option<ResourceName> {
    plan.losses.first().map(|loss| loss.resource.clone()).or_else(|| {
        plan.steps().find_map(|step| match &step.action {
            Action::Postgres(lifeboat_model::PgAction::Fill { resource, .. }) => Some(resource.clone()),
            _other => None,
        })
    })
}
