//! The next way of a full rollback whose backup is no good: the newest proven one before it that holds the same schema, where no more is
//! lost by it than was agreed to. Of one of the application alone that the rules decided: the good release before. When there is none,
//! a person takes over, and is told where things stand, what to type and whom to call.

use lifeboat_model::{
    Action, BackupChoice, BackupId, Driver, Failure, FailureKind, KnownRelease, Operation, OperationId, Plan, Profile,
    Release, ReleaseRecord, ReleaseState, Request, ResourceKind, ResourceName, Timestamp, VersionAsk,
    escalation::is_placeholder,
    provider::{provider_of, support_of},
};

use super::{Handover, Vendor, blames_backup, ends_it, loses_no_more, put_back};
use crate::{Engine, again, decide, plan, targets};

/// So many releases are tried without a person, one after the other.
const TRIED_MAX: usize = 3;

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
        let (last, failure) = (tried.last()?, put_back(tried.last()?)?);
        let release = leads_to(confirmed)?;
        let mut hand = self.as_it_stands(&release, restored(confirmed).as_ref());
        let (Some(first), Some(resource)) = (again::filled_from(confirmed), restored(confirmed)) else {
            let found = self.another_release(confirmed, tried, &release, why, (passed_over, &mut hand));
            if found.is_none() {
                hand.next.extend(self.ways_without_backup(confirmed, &release));
                if ends_it(failure).is_none() {
                    hand.vendors = self.vendors(&last.id);
                }
                *handover = Some(hand);
            }
            return found;
        };
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
        if ends_it(failure).is_none() {
            hand.vendors = self.vendors(&last.id);
        }
        *handover = Some(hand);
        None
    }

    /// The good release before the one that did not come back, by the application alone: only where the rules decided, and so only
    /// what they may do without a person. A person who named a release, or agreed to one, is told of the next.
    fn another_release(
        &self,
        confirmed: &Plan,
        tried: &[Operation],
        release: &str,
        why: &str,
        (passed_over, hand): (&mut Vec<String>, &mut Handover),
    ) -> Option<(String, Plan)> {
        let failure = put_back(tried.last()?)?;
        if let Some(ends) = ends_it(failure) {
            passed_over.push(format!("no other way is tried by itself: {ends}"));
            return None;
        }
        if Profile::of(confirmed) != Some(Profile::AppOnly) {
            return None;
        }
        let all = self.releases().unwrap_or_else(|failure| {
            passed_over.push(format!("older releases: {failure}"));
            Vec::new()
        });
        let gone: Vec<String> = tried.iter().filter_map(|one| leads_to(&one.plan)).collect();
        let older = all.iter().take_while(|one| one.release.id.to_string() != release);
        let is_next =
            |one: &&KnownRelease| one.state == ReleaseState::Good && !gone.contains(&one.release.id.to_string());
        let Some(older) = older.filter(is_next).last() else {
            passed_over.push(format!("there is no good release before {release}"));
            return None;
        };
        let what = format!("the good release before it, {}, by the application alone", older.release.shown());
        let planned = self.application_alone(Some(older.release.id.to_string()), why.to_owned());
        match planned {
            Ok(plan) if decide::is_by_itself(why) && tried.len() < TRIED_MAX => return Some((what, plan)),
            Ok(_) if decide::is_by_itself(why) => passed_over.push(format!("{what}: {TRIED_MAX} releases were tried")),
            Ok(_) => passed_over.push(format!("{what}: nobody has agreed to go back that far")),
            Err(failure) => {
                passed_over.push(format!("{what}: {failure}"));
                return None;
            }
        }
        hand.next.push(format!("lifeboat rollback {}", older.release.id));
        None
    }

    /// Ways back of a rollback that needs no backup, and the one that a person goes step by step.
    fn ways_without_backup(&self, confirmed: &Plan, release: &str) -> Vec<String> {
        let full = VersionAsk::RollBack {
            to: Some(release.to_owned()),
            profile: Some(Profile::Full),
            why: String::new(),
            backup: None,
        };
        let mut next = Vec::new();
        // What the application alone fails by, its data does not mend.
        if Profile::of(confirmed) == Some(Profile::AppAndDown) && self.plan(&Request::Version { about: full }).is_ok() {
            next.push(format!("lifeboat rollback {release} --profile {}", Profile::Full.word()));
        }
        next.push(format!("lifeboat rollback {release} --manual"));
        next
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
    fn as_it_stands(&self, release: &str, resource: Option<&ResourceName>) -> Handover {
        let mut stands = Vec::new();
        for target in self.setup.targets.iter().filter(|target| target.driver.is_some()) {
            stands.push(match targets::running(&self.io, target, &lifeboat_io::Stop::default()) {
                Ok(version) => format!("{} runs {version}", target.name),
                Err(failure) => format!("what {} runs cannot be told: {failure}", target.name),
            });
        }
        stands.extend(resource.map(|resource| match self.applied(resource) {
            Ok(applied) => {
                let newest = applied.versions.last().map_or("none", String::as_str);
                format!("{resource} has its migrations up to {newest}, as before the rollback to {release}")
            }
            Err(failure) => format!("how far {resource} is cannot be told: {failure}"),
        }));
        Handover { stands, ..Handover::default() }
    }

    /// ESC-08: who runs what is used here, as far as names of hosts and drivers tell, and whoever the settings name as the vendor; with what
    /// collects what they will ask for.
    fn vendors(&self, failed: &OperationId) -> Vec<Vendor> {
        let evidence = format!("lifeboat evidence collect {failed}");
        let named = self.setup.contacts.vendor.as_ref().filter(|who| !is_placeholder(who));
        let databases = self.setup.resources.iter().filter_map(|resource| match &resource.kind {
            ResourceKind::Postgres { url, .. } => {
                let address = self.vaults.database(url).ok()?;
                provider_of(&address.host).map(|provider| provider.name)
            }
            ResourceKind::Sqlite { .. } | ResourceKind::Files { .. } | ResourceKind::Env { .. } => None,
        });
        let platforms = self.setup.targets.iter().filter_map(|target| match &target.driver {
            Some(Driver::Fly { .. }) => Some("Fly.io"),
            Some(Driver::Vercel { .. }) => Some("Vercel"),
            Some(Driver::SupabaseFunctions { .. }) => Some("Supabase"),
            _other => None,
        });
        let mut names: Vec<&str> = databases.chain(platforms).collect();
        names.sort_unstable();
        names.dedup();
        let known = names.into_iter().filter_map(|name| Some((name, support_of(name)?)));
        let all = named.map(|who| ("the vendor", who.as_str())).into_iter().chain(known);
        all.map(|(name, contact)| Vendor {
            name: name.to_owned(),
            contact: contact.to_owned(),
            evidence: evidence.clone(),
        })
        .collect()
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
pub(crate) fn leads_to(plan: &Plan) -> Option<String> {
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
