//! What a snapshot says about itself: enough to list and choose backups without reading their data.

use std::sync::Arc;

use lifeboat_io::Stop;
use lifeboat_model::{
    Backup, BackupId, BackupReason, Failure, FailureKind, Manifest, Part, ResourceName, Scope, Timestamp,
};
use lifeboat_store::vault::{Snapshot, Vault};
use serde::{Deserialize, Serialize};

use super::errors::vault_failure;

/// The tag on every snapshot of ours.
pub const TAG: &str = "lifeboat";
/// The tag on the snapshot that holds copies of journals.
pub const JOURNALS_TAG: &str = "lifeboat-journals";
/// Where the manifest lies inside a snapshot.
pub const MANIFEST: &str = "manifest.json";
/// Where the settings lie inside a snapshot.
pub const SETTINGS: &str = "config/lifeboat.toml";

/// What is kept inside the snapshot, beside restic's own fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// `lifeboat/summary@1`.
    pub schema: String,
    /// The backup's name.
    pub backup: BackupId,
    /// App and environment.
    pub scope: Scope,
    /// What it holds.
    pub resources: Vec<ResourceName>,
    /// The instant up to which it is complete.
    pub recovery_point: Timestamp,
    /// When it was stored.
    pub taken_at: Timestamp,
    /// Why.
    pub reason: BackupReason,
    /// What the person called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Bytes of the data it holds.
    pub bytes: u64,
    /// Bytes it added to the vault, as far as they were known when this was written.
    pub bytes_added: u64,
    /// In a copy: the key, hex, under which digests of environment files were made in the vault it comes from. Whoever can
    /// read this can read those files too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_key: Option<String>,
}

/// What digests of environment files are keyed with, so that they cannot be guessed.
pub type EnvKey = [u8; 32];

/// The key of digests in a snapshot: that of the vault it was made in.
pub fn env_key(vault: &Vault, snapshot: &Snapshot) -> EnvKey {
    let brought = snapshot.extra.get("env_key").and_then(serde_json::Value::as_str);
    let brought = brought.and_then(|text| hex::decode(text).ok()).and_then(|key| EnvKey::try_from(key).ok());
    brought.unwrap_or_else(|| own_env_key(vault))
}

/// The key of digests that are made in this vault.
pub fn own_env_key(vault: &Vault) -> EnvKey {
    vault.derive("digest of an environment file")
}

/// All backups of ours in a vault. Snapshots of other programs are none of our business.
///
/// # Errors
/// When a snapshot cannot be read: a list with a gap would be a lie.
pub fn backups(vault: &Vault) -> Result<Vec<Backup>, Failure> {
    let snapshots = vault.snapshots().map_err(|error| vault_failure(&error))?;
    Ok(snapshots.iter().filter_map(backup_of).collect())
}

/// The backup that a snapshot is, when it is one of ours.
pub fn backup_of(snapshot: &Snapshot) -> Option<Backup> {
    let summary: Summary = match serde_json::from_value(snapshot.extra.clone()) {
        Ok(summary) => summary,
        // restic drops our field when it rewrites a snapshot (`restic tag`); the tags still say what it is.
        Err(_no_summary) => summary_from_tags(snapshot)?,
    };
    Some(Backup {
        id: summary.backup,
        snapshot: snapshot.id.to_string(),
        scope: summary.scope,
        resources: summary.resources,
        recovery_point: summary.recovery_point,
        taken_at: summary.taken_at,
        reason: summary.reason,
        label: summary.label,
        bytes: summary.bytes,
        bytes_added: summary.bytes_added,
        proven_at: None,
        held: None,
        suspect: None,
    })
}

/// The tags of a backup's snapshot.
pub fn tags(summary: &Summary) -> Vec<String> {
    let mut tags = vec![
        TAG.to_owned(),
        format!("id={}", summary.backup),
        format!("scope={}", summary.scope),
        format!("reason={}", reason_word(summary.reason)),
    ];
    tags.extend(summary.resources.iter().map(|name| format!("resource={name}")));
    tags
}

/// The reason's word.
pub fn reason_word(reason: BackupReason) -> &'static str {
    match reason {
        BackupReason::Manual => "manual",
        BackupReason::Scheduled => "scheduled",
        BackupReason::PreDeploy => "pre-deploy",
        BackupReason::Adopted => "adopted",
        BackupReason::Emergency => "emergency",
    }
}

fn summary_from_tags(snapshot: &Snapshot) -> Option<Summary> {
    if !snapshot.tags.iter().any(|tag| tag == TAG) {
        return None;
    }
    let value = |key: &str| snapshot.tags.iter().find_map(|tag| tag.strip_prefix(key)?.strip_prefix('='));
    let (app, environment) = value("scope")?.split_once('/')?;
    let reasons = [
        BackupReason::Manual,
        BackupReason::Scheduled,
        BackupReason::PreDeploy,
        BackupReason::Adopted,
        BackupReason::Emergency,
    ];
    let names = snapshot.tags.iter().filter_map(|tag| ResourceName::new(tag.strip_prefix("resource=")?).ok());
    Some(Summary {
        schema: "lifeboat/summary@1".to_owned(),
        backup: BackupId::parse(value("id")?).ok()?,
        scope: Scope { app: app.to_owned(), environment: environment.to_owned() },
        resources: names.collect(),
        recovery_point: snapshot.time,
        taken_at: snapshot.time,
        // Without a reason it is treated as the most doubtful: never chosen by itself.
        reason: value("reason")
            .and_then(|word| reasons.into_iter().find(|reason| reason_word(*reason) == word))
            .unwrap_or(BackupReason::Emergency),
        label: None,
        bytes: 0,
        bytes_added: 0,
        env_key: None,
    })
}

/// The snapshot of a backup.
///
/// # Errors
/// When there is none.
pub fn snapshot_of(vault: &Vault, backup: &BackupId) -> Result<Snapshot, Failure> {
    find_snapshot(vault, backup)?.ok_or_else(|| {
        let failure = Failure::new(FailureKind::Refused, format!("there is no backup {backup} in {}", vault.place()));
        failure.hint("lifeboat backups list")
    })
}

/// The snapshot of a backup, when there is one.
///
/// # Errors
/// When the vault cannot be read.
pub fn find_snapshot(vault: &Vault, backup: &BackupId) -> Result<Option<Snapshot>, Failure> {
    let snapshots = vault.snapshots().map_err(|error| vault_failure(&error))?;
    Ok(snapshots.into_iter().find(|snapshot| backup_of(snapshot).is_some_and(|known| &known.id == backup)))
}

/// The newest snapshot of the same resources: most of what is in it will be in the next one.
pub fn newest_alike(vault: &Vault, scope: &Scope, parts: &[Part]) -> Result<Option<Snapshot>, Failure> {
    let snapshots = vault.snapshots().map_err(|error| vault_failure(&error))?;
    let alike = snapshots.into_iter().filter_map(|snapshot| {
        let backup = backup_of(&snapshot)?;
        let same = parts.iter().map(|part| &part.resource.name).eq(&backup.resources);
        (backup.scope == *scope && same).then_some((backup.taken_at, snapshot))
    });
    Ok(alike.max_by_key(|(taken_at, _)| *taken_at).map(|(_, snapshot)| snapshot))
}

/// The manifest of a backup.
///
/// # Errors
/// When it is missing, damaged, or of a newer kind.
pub fn manifest(vault: &Arc<Vault>, backup: &BackupId) -> Result<Manifest, Failure> {
    let snapshot = snapshot_of(vault, backup)?;
    let mut json = Vec::new();
    vault
        .read_file(&snapshot, MANIFEST, &mut json, &|_| (), &Stop::default())
        .map_err(|error| vault_failure(&error).while_doing(format!("the manifest of {backup} cannot be read")))?;
    serde_json::from_slice(&json).map_err(|error| {
        let failure = Failure::new(FailureKind::Damaged, format!("the manifest of {backup} cannot be understood"));
        failure.because(error.to_string()).hint("a newer Lifeboat may have written it")
    })
}
