//! Secrets that got into wrong hands: what was said about them, and which backups hold their values.
//!
//! What is said is a rule, not a mark on backups that are there: a backup that turns up later, in a copy or after a
//! recovery, is judged by it too.

use std::collections::BTreeMap;

use lifeboat_model::{
    Backup, BackupId, Content, Failure, Manifest, OperationState, Request, ResourceManifest, Timestamp,
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
