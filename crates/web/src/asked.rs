//! What somebody asks for over HTTP, and whether they may: the same four verbs as on the command line, and the same words
//! of consent.

use std::path::PathBuf;

use lifeboat_engine::{
    Engine,
    consequence::{Consequence, consequence},
    standing::OpenDeploy,
};
use lifeboat_model::{
    AcceptLoss, BackupChoice, BackupReason, Failure, FailureKind, OperationId, Plan, Profile, Request, ResourceName,
    Scope, Timestamp, VersionAsk,
};
use lifeboat_store::Role;
use serde::Deserialize;

use crate::{answer::Problem, guard::Caller};

/// What is asked for, and how far it is to go.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// A backup.
    Backup {
        /// Of these; of all when empty.
        #[serde(default)]
        resources: Vec<String>,
        /// What to call it.
        #[serde(default)]
        label: Option<String>,
        /// Only look.
        #[serde(default)]
        dry_run: bool,
    },
    /// A proof.
    Prove {
        /// Of this backup, by its id or the beginning of it; of the newest when nothing is said.
        #[serde(default)]
        backup: Option<String>,
        /// Of these resources in it; of all when empty.
        #[serde(default)]
        resources: Vec<String>,
        /// Only look.
        #[serde(default)]
        dry_run: bool,
    },
    /// A restore.
    Restore {
        /// Of this resource.
        resource: String,
        /// From this backup.
        #[serde(default)]
        from: Option<String>,
        /// From the newest that is complete before this instant.
        #[serde(default)]
        before: Option<Timestamp>,
        /// Beside, into this path; needs an admin.
        #[serde(default)]
        into: Option<PathBuf>,
        /// How much may be lost.
        #[serde(default)]
        accept_loss: AcceptLoss,
        /// Without a rehearsal where one is demanded, for this reason.
        #[serde(default)]
        urgent: Option<String>,
        /// The same failed with an error of this class, and somebody has read why.
        #[serde(default)]
        ack: Option<String>,
        /// Only look.
        #[serde(default)]
        dry_run: bool,
        /// Consent to what can be taken back.
        #[serde(default)]
        yes: bool,
        /// Consent to all of it: app and environment.
        #[serde(default)]
        confirm: Option<String>,
    },
    /// A rollback to a release. A deploy that is not over makes way for it, and is taken back first.
    Rollback {
        /// Which: its id, the beginning of it, or its label; the last known good one when nothing is said.
        #[serde(default)]
        release: Option<String>,
        /// How; the shortest way that works when nothing is said.
        #[serde(default)]
        profile: Option<Profile>,
        /// With the data of this backup instead of the release's own.
        #[serde(default)]
        backup: Option<String>,
        /// Why.
        #[serde(default)]
        reason: String,
        /// Only look.
        #[serde(default)]
        dry_run: bool,
        /// Consent to what can be taken back.
        #[serde(default)]
        yes: bool,
        /// Consent to all of it: app and environment.
        #[serde(default)]
        confirm: Option<String>,
    },
    /// Taking back what an operation did.
    Undo {
        /// Which; the newest that can be taken back when nothing is said.
        #[serde(default)]
        operation: Option<String>,
        /// Only look.
        #[serde(default)]
        dry_run: bool,
        /// Consent to what can be taken back.
        #[serde(default)]
        yes: bool,
        /// Consent to all of it: app and environment.
        #[serde(default)]
        confirm: Option<String>,
    },
}

impl What {
    /// Reads a body. Unknown fields are refused: a misspelt `dry_run` must not be an operation.
    ///
    /// # Errors
    /// When it is no such request.
    pub fn read(body: &[u8]) -> Result<What, Problem> {
        serde_json::from_slice(body).map_err(|error| {
            let problem = Problem::new(400, "this body asks for nothing that there is").because(error.to_string());
            problem.hint("{\"ask\": \"backup\"}; the others: prove, restore, rollback, undo; see /api/openapi.json")
        })
    }

    /// Whether it is only to be looked at.
    pub fn is_dry_run(&self) -> bool {
        match self {
            What::Backup { dry_run, .. } | What::Prove { dry_run, .. } => *dry_run,
            What::Restore { dry_run, .. } | What::Undo { dry_run, .. } | What::Rollback { dry_run, .. } => *dry_run,
        }
    }

    /// What the engine is asked for.
    ///
    /// # Errors
    /// Names that mean nothing.
    pub fn request(&self, engine: &Engine) -> Result<Request, Failure> {
        let usage = |error: &dyn std::error::Error| Failure::new(FailureKind::Usage, error.to_string());
        let name = |word: &String| {
            let name = ResourceName::new(word.as_str()).map_err(|error| usage(&error))?;
            engine.setup().resource(&name).map(|resource| resource.name.clone())
        };
        let names = |words: &[String]| words.iter().map(name).collect::<Result<Vec<_>, _>>();
        let exactly = |start: &String| engine.find_backup(start).map(|backup| BackupChoice::Exactly(backup.id));
        Ok(match self {
            What::Backup { resources, label, .. } => {
                let (resources, label) = (names(resources)?, label.clone());
                Request::Backup { resources, reason: BackupReason::Manual, label }
            }
            What::Prove { backup, resources, .. } => {
                let backup = backup.as_ref().map_or(Ok(BackupChoice::Latest), exactly)?;
                Request::Prove { backup, resources: names(resources)? }
            }
            What::Restore { resource, from, before, into, accept_loss, urgent, ack, .. } => {
                let from = match (from, before) {
                    (Some(_), Some(_)) => {
                        return Err(Failure::new(FailureKind::Usage, "from and before do not go together"));
                    }
                    (Some(start), None) => exactly(start)?,
                    (None, Some(at)) => BackupChoice::Before(*at),
                    (None, None) => BackupChoice::Latest,
                };
                if into.as_ref().is_some_and(|path| !path.is_absolute()) {
                    return Err(Failure::new(FailureKind::Usage, "into is a whole path, from the root on"));
                }
                Request::Restore {
                    resource: name(resource)?,
                    from,
                    into: into.clone(),
                    tablespaces: std::collections::BTreeMap::new(),
                    without_emergency_backup: None,
                    accept_loss: *accept_loss,
                    urgent: urgent.clone(),
                    ack: ack.clone(),
                }
            }
            What::Rollback { release, profile, reason, backup, .. } => {
                let backup = backup.as_ref().map(|start| engine.find_backup(start)).transpose()?.map(|one| one.id);
                let (to, why) = (release.clone(), reason.clone());
                Request::Version { about: VersionAsk::RollBack { to, profile: *profile, why, backup } }
            }
            What::Undo { operation, .. } => Request::Undo {
                operation: match operation {
                    None => engine.look().last_undoable()?,
                    Some(start) => OperationId::parse(start).or_else(|_short| engine.look().find_operation(start))?,
                },
            },
        })
    }

    /// Whether this caller may have a deploy that is not over taken back, and has agreed to it.
    ///
    /// # Errors
    /// What is missing, and what to send.
    pub fn agree_to_end(&self, deploy: &OpenDeploy, scope: &Scope, caller: &Caller) -> Result<(), Problem> {
        caller.must_have_token()?;
        self.is_meant(scope)?;
        match self.said() {
            (false, None) => {
                let what = format!("{} ({}) is not over, and is taken back first", deploy.operation, deploy.title);
                Err(not_agreed(&what, "\"yes\": true"))
            }
            _agreed => Ok(()),
        }
    }

    /// The two words of consent.
    fn said(&self) -> (bool, Option<&str>) {
        match self {
            What::Backup { .. } | What::Prove { .. } => (false, None),
            What::Restore { yes, confirm, .. } | What::Undo { yes, confirm, .. } => (*yes, confirm.as_deref()),
            What::Rollback { yes, confirm, .. } => (*yes, confirm.as_deref()),
        }
    }

    fn is_meant(&self, scope: &Scope) -> Result<(), Problem> {
        match self.said().1.filter(|said| *said != scope.to_string()) {
            None => Ok(()),
            Some(other) => {
                let problem = Problem::new(409, format!("confirm says {other}, but this plan works on {scope}"));
                Err(problem.hint("make sure which one is meant"))
            }
        }
    }

    /// Whether this caller may have that plan carried out, and has agreed to what it means.
    ///
    /// # Errors
    /// What is missing, and what to send.
    pub fn agree(&self, plan: &Plan, caller: &Caller) -> Result<(), Problem> {
        let (yes, confirm) = self.said();
        let writes_elsewhere = matches!(&plan.request, Request::Restore { into: Some(_), .. });
        let consequence = consequence(plan);
        match consequence {
            Consequence::Harmless if !writes_elsewhere => {}
            Consequence::Reversible => caller.must_have_token()?,
            Consequence::Harmless | Consequence::RowsLeave | Consequence::ForGood => caller.must_be_admin()?,
        }
        let scope = plan.scope.to_string();
        self.is_meant(&plan.scope)?;
        let missing = |word: String| Err(not_agreed(&plan.title, &word));
        match consequence {
            Consequence::Harmless => Ok(()),
            Consequence::Reversible if yes || confirm.is_some() => Ok(()),
            Consequence::Reversible => missing("\"yes\": true".to_owned()),
            Consequence::RowsLeave | Consequence::ForGood if confirm.is_some() => Ok(()),
            Consequence::RowsLeave | Consequence::ForGood => missing(format!("\"confirm\": \"{scope}\"")),
        }
    }
}

fn not_agreed(what: &str, word: &str) -> Problem {
    let problem = Problem::new(409, format!("nobody has agreed to this: {what}; nothing was changed"));
    problem.hint(format!("look at it with \"dry_run\": true, then send it with {word}"))
}

/// Who may take up, or put back, an operation of this kind: whoever could have asked for it.
///
/// # Errors
/// When this caller may not.
pub fn may_touch(request: &Request, caller: &Caller) -> Result<(), Problem> {
    match request {
        Request::Backup { .. } | Request::Prove { .. } => Ok(()),
        _other if caller.has_token && caller.role >= Role::Operator => Ok(()),
        _other => caller.must_have_token(),
    }
}
