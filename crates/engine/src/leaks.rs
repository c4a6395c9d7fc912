//! Secrets that got into wrong hands: what was said about them, and which backups hold their values.
//!
//! What is said is a rule, not a mark on backups that are there: a backup that turns up later, in a copy or after a
//! recovery, is judged by it too.

use std::collections::BTreeMap;

use lifeboat_model::{
    Action, Backup, BackupId, Content, Failure, FailureKind, Manifest, OperationState, Plan, Request, ResourceManifest,
    Timestamp,
};

use crate::{Engine, act::summary};

/// A secret whose values of some time are not to come back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Leak {
    /// The variable that held it.
    pub secret: String,
    /// From when on; from the first backup on when nobody said.
    pub since: Option<Timestamp>,
    /// Until when: it was changed then.
    pub before: Timestamp,
    /// What happened.
    pub why: String,
    /// When it was said.
    pub said_at: Timestamp,
}

impl Leak {
    /// Whether a part of a backup holds a value of that time.
    pub fn is_in(&self, part: &ResourceManifest) -> bool {
        let Content::Env(facts) = &part.content else { return false };
        let in_time = part.recovery_point < self.before && self.since.is_none_or(|since| part.recovery_point >= since);
        in_time && facts.names.contains(&self.secret)
    }
}

impl Engine {
    /// What is known of leaked secrets in this scope, oldest first.
    ///
    /// # Errors
    /// When a journal cannot be read: then nobody knows.
    pub fn leaks(&self) -> Result<Vec<Leak>, Failure> {
        let scope = self.setup.scope.to_string();
        let mut rows = self.look().operations(usize::MAX)?;
        rows.retain(|row| row.kind == "compromise" && row.scope == scope && row.closed);
        let mut leaks: Vec<Leak> = Vec::new();
        for row in rows.iter().rev() {
            let operation = self.look().operation(&row.id)?;
            if operation.state != OperationState::Done {
                continue;
            }
            let Request::Compromise { secret, since, before, why, withdrawn } = operation.plan.request else {
                continue;
            };
            match withdrawn {
                true => leaks.retain(|leak| leak.secret != secret),
                false => leaks.push(Leak { secret, since, before, why, said_at: operation.started_at }),
            }
        }
        Ok(leaks)
    }

    /// When a person last attested what an operation asks for: reviewed retention, for example.
    ///
    /// # Errors
    /// When a journal cannot be read.
    pub fn attested_at(&self, about: &str) -> Result<Option<Timestamp>, Failure> {
        let scope = self.setup.scope.to_string();
        for row in self.look().operations(usize::MAX)? {
            if row.kind != "attest" || row.scope != scope || !row.closed {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            let matches = matches!(&operation.plan.request, Request::Attest { about: said, .. } if said == about);
            if matches && operation.state == OperationState::Done {
                return Ok(Some(operation.started_at));
            }
        }
        Ok(None)
    }

    /// Which leaked secrets each backup holds, by their names. Reads manifests only where a leak may be in them.
    ///
    /// # Errors
    /// When the vault or a journal cannot be read.
    pub fn compromised(&self, backups: &[Backup]) -> Result<BTreeMap<BackupId, Vec<String>>, Failure> {
        let leaks = self.leaks()?;
        let mut found = BTreeMap::new();
        let maybe = |backup: &&Backup| leaks.iter().any(|leak| backup.recovery_point < leak.before);
        for backup in backups.iter().filter(maybe) {
            let manifest = summary::manifest(&self.vaults.open(&self.setup.vault)?, &backup.id)?;
            let names = leaked_names(&leaks, &manifest);
            if !names.is_empty() {
                found.insert(backup.id.clone(), names);
            }
        }
        Ok(found)
    }
}

/// Names of leaked secrets whose values a backup holds.
fn leaked_names(leaks: &[Leak], manifest: &Manifest) -> Vec<String> {
    let is_in = |leak: &&Leak| manifest.resources.iter().any(|part| leak.is_in(part));
    let mut names: Vec<String> = leaks.iter().filter(is_in).map(|leak| leak.secret.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Refuses a plan that would bring values of leaked secrets back into an environment file; with a reason for the urgency it
/// goes on, and the plan says so. Other things out of the same backup are not touched by this.
///
/// # Errors
/// [`FailureKind::Refused`], naming the variables; when a manifest or a journal cannot be read.
pub(crate) fn guard(engine: &Engine, plan: &mut Plan) -> Result<(), Failure> {
    if !matches!(plan.request, Request::Restore { .. } | Request::Export { .. }) {
        return Ok(());
    }
    let fetched: Vec<_> = plan
        .steps()
        .filter_map(|step| match &step.action {
            Action::Fetch { vault, backup, resource, .. } => Some((vault.clone(), backup.clone(), resource.clone())),
            _other => None,
        })
        .collect();
    let leaks = if fetched.is_empty() { Vec::new() } else { engine.leaks()? };
    for (vault, backup, resource) in if leaks.is_empty() { Vec::new() } else { fetched } {
        let mut manifest = summary::manifest(&engine.vaults.open(&vault)?, &backup)?;
        manifest.resources.retain(|part| part.name == resource);
        let names = leaked_names(&leaks, &manifest).join(", ");
        if names.is_empty() {
            continue;
        }
        let holds = format!("{backup} holds compromised values of {names}");
        let urgent = match &plan.request {
            Request::Restore { urgent, .. } => urgent.as_ref(),
            _other => None,
        };
        match (&plan.request, urgent) {
            (Request::Export { .. }, _) => plan.notes.push(format!("{holds}. Do not bring them back into use.")),
            (_, Some(why)) => plan.notes.push(format!("{holds}; it is restored all the same: {why}.")),
            (_, None) => {
                let why = leaks.iter().filter(|leak| names.contains(&leak.secret)).map(|leak| leak.why.clone());
                let failure = Failure::new(FailureKind::Refused, format!("{resource} is not restored: {holds}"));
                let hint = "choose a backup from after they were changed, or set new values by hand; \
                            --urgent --reason WHY restores it all the same";
                return Err(why.fold(failure, |failure, why| failure.because(why)).hint(hint));
            }
        }
    }
    Ok(())
}
