//! Env files compared with backups of them: which variables came, went, or have another value. Names and fingerprints, never
//! values; a fingerprint is made with a key of the vault's, so that nobody can guess a value by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lifeboat_io::{Stop, files};
use lifeboat_model::{
    Backup, BackupChoice, BackupId, Content, Failure, FailureKind, Resource, ResourceKind, ResourceName, Timestamp,
    choose_backup, variables::assignments,
};
use lifeboat_store::vault::Vault;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Engine,
    act::{path_failure, summary, vault_failure},
};

/// Letters of a fingerprint: enough to tell two values of one variable apart.
const FINGERPRINT_LETTERS: usize = 8;

/// The fingerprint of each variable's value, by its name.
pub(crate) type Prints = BTreeMap<String, String>;

/// A variable that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// The fingerprint of what it was; nothing when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// Of what it is; nothing when it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

/// A live env file beside a backup of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnvDiff {
    /// Which resource.
    pub resource: ResourceName,
    /// Which backup.
    pub backup: BackupId,
    /// How old that is.
    pub recovery_point: Timestamp,
    /// How many variables are as they were.
    pub same: usize,
    /// The others, by name.
    pub changed: Vec<Changed>,
}

/// What an env file was in a backup, and how that differed from the backup before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnvThen {
    /// Which backup.
    pub backup: BackupId,
    /// How old it is.
    pub recovery_point: Timestamp,
    /// How many variables there were.
    pub variables: usize,
    /// What differed from the backup before; everything is new in the first one, which is not told.
    pub changed: Vec<Changed>,
}

impl Engine {
    /// The env file that is meant: the named one, or the only one.
    ///
    /// # Errors
    /// There is none, or there are several and none is named.
    pub fn env_file(&self, name: Option<&ResourceName>) -> Result<&Resource, Failure> {
        let is_env = |resource: &&Resource| matches!(resource.kind, ResourceKind::Env { .. });
        let usage = |message: String| Failure::new(FailureKind::Usage, message);
        if let Some(name) = name {
            let found = self.setup.resource(name)?;
            return Some(found).filter(is_env).ok_or_else(|| usage(format!("{name} is no env file")));
        }
        let mut all = self.setup.resources.iter().filter(is_env);
        match (all.next(), all.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(usage(format!("{} has several env files; name one", self.setup.scope))),
            (None, _) => Err(usage(format!("{} has no env file", self.setup.scope))
                .hint("[environments.production.resources.env] with kind = \"env\" and path = \"./.env\"")),
        }
    }

    /// Compares the live env file with a backup of it.
    ///
    /// # Errors
    /// No such backup; the file or the vault cannot be read.
    pub fn env_diff(&self, resource: &Resource, from: &BackupChoice) -> Result<EnvDiff, Failure> {
        let backups = self.backups()?;
        let chosen = choose_backup(&backups, &self.setup.scope, &resource.name, from);
        let backup =
            chosen.map_err(|error| Failure::from_error(FailureKind::Refused, &error).hint("lifeboat backups list"))?;
        let then = self.prints_of(backup, &resource.name)?;
        let path = resource.kind.path().ok_or_else(|| Failure::new(FailureKind::Bug, "an env file without a path"))?;
        let now = self.prints(&files::read(path).map_err(|error| path_failure(&error))?)?;
        let changed = changes(&then, &now);
        let same = now.iter().filter(|(name, print)| then.get(*name) == Some(*print)).count();
        let (backup, recovery_point) = (backup.id.clone(), backup.recovery_point);
        Ok(EnvDiff { resource: resource.name.clone(), backup, recovery_point, same, changed })
    }

    /// What the backups hold of an env file, the newest first.
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub fn env_history(&self, resource: &Resource) -> Result<Vec<EnvThen>, Failure> {
        let backups = self.backups()?;
        let mut found: Vec<EnvThen> = Vec::new();
        let mut before: Option<Prints> = None;
        for backup in backups.iter().filter(|backup| backup.resources.contains(&resource.name)) {
            let prints = self.prints_of(backup, &resource.name)?;
            let changed = before.as_ref().map(|before| changes(before, &prints)).unwrap_or_default();
            let (variables, recovery_point) = (prints.len(), backup.recovery_point);
            found.push(EnvThen { backup: backup.id.clone(), recovery_point, variables, changed });
            before = Some(prints);
        }
        found.reverse();
        Ok(found)
    }

    pub(crate) fn prints_of(&self, backup: &Backup, resource: &ResourceName) -> Result<Prints, Failure> {
        let vault = self.vaults.open(&self.setup.vault)?;
        self.prints(env_text(&vault, &backup.id, resource, &Stop::default())?.as_bytes())
    }

    pub(crate) fn prints(&self, body: &[u8]) -> Result<Prints, Failure> {
        let key = summary::own_env_key(&*self.vaults.open(&self.setup.vault)?);
        let text = String::from_utf8_lossy(body);
        // Of several assignments the last one counts, as for the programs that read the file.
        Ok(assignments(&text).map(|(name, value)| (name.to_owned(), print(&key, name, &value))).collect())
    }
}

/// An env file as a backup holds it.
///
/// # Errors
/// It holds none; the vault cannot be read.
pub(crate) fn env_text(
    vault: &Arc<Vault>,
    backup: &BackupId,
    resource: &ResourceName,
    stop: &Stop,
) -> Result<String, Failure> {
    let manifest = summary::manifest(vault, backup)?;
    let part = manifest.resource(resource).filter(|part| matches!(part.content, Content::Env(_)));
    let missing =
        || Failure::new(FailureKind::Damaged, format!("the manifest of {backup} says nothing about {resource}"));
    let part = part.ok_or_else(missing)?;
    let snapshot = summary::snapshot_of(vault, backup)?;
    let mut body = Vec::new();
    let read = vault.read_file(&snapshot, &part.path, &mut body, &|_| (), stop);
    read.map_err(|error| vault_failure(&error))?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn print(key: &summary::EnvKey, name: &str, value: &str) -> String {
    let mut hash = Sha256::new_with_prefix(key);
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name);
    hash.update(value);
    let mut digest = hex::encode(hash.finalize());
    digest.truncate(FINGERPRINT_LETTERS);
    digest
}

pub(crate) fn changes(then: &Prints, now: &Prints) -> Vec<Changed> {
    let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let both = names.into_iter().map(|name| (name, then.get(name), now.get(name)));
    let changed = both.filter(|(_, then, now)| then != now);
    changed.map(|(name, then, now)| Changed { name: name.clone(), then: then.cloned(), now: now.cloned() }).collect()
}
