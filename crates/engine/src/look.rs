//! Looking: answers ready to be shown, shared by the command line and, later, the API and the console.

use lifeboat_model::{
    Backup, Failure, FailureKind, LevelAsk, Operation, OperationId, Prediction, Proof, Request, Resource, ResourceKind,
    Timestamp, Tri, decision::Verdict, id::find_by_start, schedule::JobStatus, time::since,
};
use lifeboat_store::{JournalFile, catalog::OperationRow};
use serde::Serialize;

use crate::{Engine, copies::CopyStatus, facts, features::sentence, plan, standing::Standing};

/// Read-only answers.
pub struct Answers<'a> {
    engine: &'a Engine,
}

/// Where everything stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// App and environment.
    pub scope: String,
    /// Where the vault is, and whether there is one.
    pub vault: String,
    /// Why the vault cannot be read, when it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_trouble: Option<Failure>,
    /// Each resource.
    pub resources: Vec<ResourceStatus>,
    /// Second vaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyStatus>,
    /// What the daemon does by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<JobStatus>,
    /// How releases stand.
    #[serde(skip_serializing_if = "Standing::is_empty")]
    pub releases: Standing,
    /// Operations that are not over.
    pub unfinished: Vec<String>,
    /// What of them somebody is carrying out at this moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_work: Vec<String>,
    /// What is due after rollbacks and incidents, overdue ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deadlines: Vec<lifeboat_model::Deadline>,
    /// What a person is still to look at and attest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_items: Vec<String>,
    /// Journals that could not be read, and why.
    pub damaged_journals: Vec<(String, String)>,
    /// Whether all is well; unknown is not.
    pub good: Tri,
}

/// Where one resource stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResourceStatus {
    /// Its name.
    pub name: String,
    /// Its kind's word.
    pub kind: String,
    /// Where it lives.
    pub path: String,
    /// Its newest good backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Backup>,
    /// How old that is, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// Its newest proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// How long a restore will take, until the data is live, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<Prediction>,
    /// Whether it is protected: a good backup, not too old, proven.
    pub good: Tri,
    /// Why not, in words.
    pub why: Vec<String>,
}

impl Engine {
    /// Read-only answers, ready to be shown.
    pub fn look(&self) -> Answers<'_> {
        Answers { engine: self }
    }
}

impl Answers<'_> {
    /// The operation of this id, from its journal.
    ///
    /// # Errors
    /// When there is none, or its journal is damaged.
    pub fn operation(&self, id: &OperationId) -> Result<Operation, Failure> {
        self.journal(id).and_then(|journal| {
            let path = self.engine.state.journal(id);
            journal.operation(&path).map_err(|error| self.engine.journal_failure(id, &error))
        })
    }

    /// The journal of an operation, its chain of digests checked.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn journal(&self, id: &OperationId) -> Result<JournalFile, Failure> {
        let path = self.engine.state.journal(id);
        if !lifeboat_io::files::exists(&path) {
            let failure = Failure::new(FailureKind::Refused, format!("there is no operation {id}"));
            return Err(failure.hint("lifeboat history"));
        }
        JournalFile::read(&path).map_err(|error| self.engine.journal_failure(id, &error))
    }

    /// Operations, newest first.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn operations(&self, limit: usize) -> Result<Vec<OperationRow>, Failure> {
        self.engine.catalog()?.operations(limit).map_err(|error| self.engine.failure(&error))
    }

    /// The operation that a shortened id means.
    ///
    /// # Errors
    /// When it means none, or several.
    pub fn find_operation(&self, start: &str) -> Result<OperationId, Failure> {
        let ids: Vec<OperationId> = self.operations(usize::MAX)?.into_iter().map(|row| row.id).collect();
        let found = find_by_start(&ids, start, OperationId::PREFIX).cloned();
        found.map_err(|error| Failure::from_error(FailureKind::Usage, &error).hint("lifeboat history"))
    }

    /// The newest operation of this scope that `undo` without a name means.
    ///
    /// # Errors
    /// When there is none.
    pub fn last_undoable(&self) -> Result<OperationId, Failure> {
        let scope = self.engine.setup.scope.to_string();
        for row in self.operations(usize::MAX)?.into_iter().filter(|row| row.closed && row.scope == scope) {
            if plan::undo::is_undoable(&self.operation(&row.id)?) {
                return Ok(row.id);
            }
        }
        Err(Failure::new(FailureKind::Refused, format!("nothing in {scope} can be undone")).hint("lifeboat history"))
    }

    /// Where everything stands.
    ///
    /// # Errors
    /// When the state folder cannot be read. A vault that cannot be read is part of the answer.
    pub fn status(&self) -> Result<Status, Failure> {
        let engine = self.engine;
        let catalog = engine.catalog()?;
        let (backups, vault_trouble) = match engine.backups() {
            Ok(backups) => (Some(backups), None),
            Err(failure) => (None, Some(failure)),
        };
        let proofs = catalog.proofs(None).map_err(|error| engine.failure(&error))?;
        let common = engine.common().ok();
        let now = engine.io.clock.now();
        let resources: Vec<ResourceStatus> = engine
            .setup
            .resources
            .iter()
            .map(|resource| resource_status(engine, resource, backups.as_deref(), &proofs, common.as_ref(), now))
            .collect();
        let unfinished = catalog.unfinished().map_err(|error| engine.failure(&error))?;
        let damaged_journals = catalog.damaged_journals().map_err(|error| engine.failure(&error))?;
        // What waits for a person has a process no more, or one that does something else by now.
        let begun = unfinished.iter().filter(|row| row.state != "paused").map(|row| row.id.clone());
        let at_work = engine.at_work(&begun.collect::<Vec<_>>());
        let journals = Tri::from_bool(damaged_journals.is_empty() && unfinished.is_empty());
        let copies = engine.copies(backups.as_deref().unwrap_or_default());
        let schedule = engine.jobs()?;
        let looked_at = resources.iter().map(|resource| resource.good).chain(copies.iter().map(|copy| copy.good));
        let releases = engine.standing()?;
        let looked_at = looked_at.chain(schedule.iter().map(|job| job.good)).chain([releases.good()]);
        let deadlines = engine.open_deadlines()?;
        let in_time = Tri::from_bool(deadlines.iter().all(|one| !one.overdue));
        Ok(Status {
            good: Tri::worst(looked_at.chain([journals, in_time])),
            scope: engine.setup.scope.to_string(),
            vault: engine.setup.vault.clone(),
            vault_trouble,
            resources,
            copies,
            schedule,
            releases,
            unfinished: unfinished.iter().map(|row| format!("{} ({}, {})", row.id, row.kind, row.state)).collect(),
            at_work,
            deadlines,
            open_items: self
                .open_items()?
                .into_iter()
                .chain(self.started_otherwise()?)
                .chain(self.engine.features_off()?.iter().map(sentence))
                .collect(),
            damaged_journals,
        })
    }

    /// The app was started otherwise for a while, and nobody has started it as before.
    fn started_otherwise(&self) -> Result<Option<String>, Failure> {
        let scope = self.engine.setup.scope.to_string();
        let mut undone = Vec::new();
        for row in self.operations(usize::MAX)?.into_iter().filter(|row| row.scope == scope && row.state == "done") {
            if !["level", "undo"].contains(&row.kind.as_str()) {
                continue;
            }
            match self.operation(&row.id)?.plan.request {
                Request::Undo { operation } => undone.push(operation),
                Request::Level { about: LevelAsk::Memory { mib, .. }, .. } if !undone.contains(&row.id) => {
                    let since = row.started_at.strftime("%Y-%m-%d %H:%M UTC");
                    return Ok(Some(format!(
                        "the app runs with {mib} MiB for Node since {since}: lifeboat undo {}",
                        row.id
                    )));
                }
                // It was started since, as always.
                _other => return Ok(None),
            }
        }
        Ok(None)
    }

    /// What waits for a person although no operation does.
    fn open_items(&self) -> Result<Vec<String>, Failure> {
        let asked = self.engine.provider_restores()?.into_iter().filter(|one| one.outcome.is_none());
        let open = asked.map(|one| {
            let ticket =
                one.ticket.map_or_else(|| "without a number yet".to_owned(), |ticket| format!("number {ticket}"));
            let id = one.id;
            format!(
                "a restore of {} by the provider ({ticket}): lifeboat provider outcome --request {id}",
                one.resource
            )
        });
        Ok(open.chain(self.undecided()?).chain(self.not_reviewed()?).collect())
    }

    /// A decision that was made in the last hours and has not led to anything yet.
    fn undecided(&self) -> Result<Option<String>, Failure> {
        let now = self.engine.io.clock.now();
        let Some((last, decision)) = self.engine.last_decision(now)? else { return Ok(None) };
        let until = decision.decided.deadline.map(|at| at.strftime("%H:%M UTC").to_string()).unwrap_or_default();
        Ok(match decision.verdict() {
            Verdict::TryFix => {
                Some(format!("the quick fix has its time until {until}, then: lifeboat decide ({last})"))
            }
            Verdict::RollBack => Some(format!("a rollback was decided ({last})")),
            Verdict::Undecided => Some(format!("whether to roll back is undecided ({last}): lifeboat decide")),
            Verdict::Stay => None,
        })
    }

    /// After each restore and undo somebody looks at what is kept until when, and attests it.
    fn not_reviewed(&self) -> Result<Option<String>, Failure> {
        let scope = self.engine.setup.scope.to_string();
        let reviewed = self.engine.attested_at("retention")?;
        let rolled_back = |row: &OperationRow| {
            row.scope == scope && row.state == "done" && ["restore", "undo"].contains(&row.kind.as_str())
        };
        for row in self.operations(usize::MAX)?.iter().filter(|row| rolled_back(row)) {
            if reviewed.is_some_and(|at| at >= row.started_at) {
                break;
            }
            if plan::undo::changed_what_is_live(&self.operation(&row.id)?) {
                let item = format!("retention was not reviewed since {}: lifeboat retention attest", row.id);
                return Ok(Some(item));
            }
        }
        Ok(None)
    }
}

fn resource_status(
    engine: &Engine,
    resource: &Resource,
    backups: Option<&[Backup]>,
    proofs: &[Proof],
    common: Option<&facts::Common>,
    now: Timestamp,
) -> ResourceStatus {
    let scope = &engine.setup.scope;
    let choice = lifeboat_model::BackupChoice::Latest;
    let newest =
        backups.and_then(|all| lifeboat_model::choose_backup(all, scope, &resource.name, &choice).ok().cloned());
    // A proof of a backup that is gone protects nobody.
    let is_there = |proof: &Proof| backups.is_none_or(|all| all.iter().any(|backup| backup.id == proof.backup));
    let proof = proofs.iter().find(|proof| proof.resource == resource.name && is_there(proof)).cloned();
    let age = newest.as_ref().map(|backup| since(backup.recovery_point, now));
    let mut why = Vec::new();
    let mut good = Tri::Pass;
    let mut find = |outcome: Tri, text: String| {
        good = Tri::worst([good, outcome]);
        why.push(text);
    };
    match (&newest, backups) {
        (_, None) => find(Tri::Unknown, "the vault cannot be read".to_owned()),
        (None, Some(_)) => find(Tri::Fail, "there is no good backup".to_owned()),
        (Some(_), Some(_)) => {}
    }
    if let (Some(age), Some(rpo)) = (age, engine.setup.rpo)
        && age > rpo
    {
        find(Tri::Fail, format!("the newest backup is older than {}", lifeboat_model::time::show_age(rpo)));
    }
    match &proof {
        None => find(Tri::Unknown, "no backup has been proven: lifeboat prove".to_owned()),
        Some(proof) if proof.outcome != Tri::Pass => {
            find(proof.outcome, format!("the newest proof, of {}, did not pass", proof.backup))
        }
        Some(proof) => {
            let too_old = engine.setup.proof_max_age.is_some_and(|max| since(proof.at, now) > max);
            if too_old {
                find(Tri::Unknown, "the newest proof is too old".to_owned());
            }
        }
    }
    let restore = common.zip(newest.as_ref()).map(|(common, backup)| predict_restore(common, resource, backup));
    ResourceStatus {
        name: resource.name.to_string(),
        kind: resource.kind.word().to_owned(),
        path: resource.kind.place(),
        age_s: age.map(|age| age.as_secs()),
        newest,
        proof,
        restore,
        good,
        why,
    }
}

/// How long until the data is live: fetch and check; for a database also the copy that is kept first.
fn predict_restore(common: &facts::Common, resource: &Resource, backup: &Backup) -> Prediction {
    use plan::steps::guess;
    let subject = format!("{} {}", common.vault, resource.name);
    // How much of a backup of several resources is this one, its manifest would say, which lies in the vault.
    let bytes = match backup.resources.as_slice() {
        [_only] => backup.bytes,
        _several => common.last_bytes("fetch", &subject).unwrap_or(backup.bytes).min(backup.bytes),
    };
    let fetch = common.predict("fetch", &subject, bytes, guess::FETCH);
    let check = common.predict_check(resource.name.as_str(), bytes, guess::CHECK);
    let keep = match &resource.kind {
        ResourceKind::Sqlite { path } => vec![
            common.predict("capture", &path.display().to_string(), bytes, guess::CAPTURE),
            common.predict("store", &common.vault, bytes, guess::STORE),
        ],
        ResourceKind::Files { .. } | ResourceKind::Env { .. } | ResourceKind::Postgres { .. } => {
            vec![common.predict("store", &common.vault, bytes, guess::STORE)]
        }
    };
    let all = keep.into_iter().chain([fetch, check]);
    lifeboat_model::predict::add(all).unwrap_or(fetch)
}
