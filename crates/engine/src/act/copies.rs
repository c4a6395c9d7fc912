//! Bringing a second vault up to date.

use lifeboat_model::{BackupId, Failure, FailureKind};
use lifeboat_store::vault::{Snapshot, Vault, VaultError};
use serde_json::{Value, json};

use super::{Hands, errors::vault_failure, mirror::is_journals, summary};
use crate::perform::Context;

/// Copies a backup that is not there yet, and looks that it is whole. What came before it stays, whatever happens to
/// this one: each is whole by itself.
pub fn copy_backup(
    hands: &Hands,
    from: &str,
    to: &str,
    backup: &BackupId,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let (source, target) = (hands.vaults.open(from)?, hands.vaults.open(to)?);
    let snapshot = summary::snapshot_of(&source, backup)?;
    if let Some(there) = summary::find_snapshot(&target, backup)? {
        return Ok(json!({ "snapshot": there.id.to_string(), "was_there": true, "bytes_added": 0 }));
    }
    let mut extra = snapshot.extra.clone();
    if let Value::Object(fields) = &mut extra {
        fields.insert("env_key".to_owned(), hex::encode(summary::env_key(&source, &snapshot)).into());
    }
    let mut bytes = 0;
    let copied = copy(&source, &snapshot, &target, extra, context, &mut bytes)
        .map_err(|failure| failure.while_doing(format!("{backup} could not be copied to {to}; {from} is as it was")))?;
    if let Err(error) = target.verify_snapshot(&copied.snapshot) {
        // What is not whole must not be on the list there.
        target.forget(&[copied.snapshot.id]).map_err(|error| vault_failure(&error))?;
        return Err(vault_failure(&error).while_doing(format!("{backup} did not arrive whole in {to}")));
    }
    Ok(json!({
        "snapshot": copied.snapshot.id.to_string(), "was_there": copied.was_there, "bytes": bytes,
        "bytes_added": copied.bytes_added, "blobs_added": copied.blobs_added, "blobs_known": copied.blobs_known,
    }))
}

fn copy(
    source: &Vault,
    snapshot: &Snapshot,
    target: &Vault,
    extra: Value,
    context: &Context<'_>,
    bytes: &mut u64,
) -> Result<lifeboat_store::vault::Copied, Failure> {
    let moved = std::cell::Cell::new(0);
    let progress = |done, total| {
        moved.set(done);
        context.watch.progress(done, Some(total));
    };
    let copied = source.copy_snapshot(snapshot, target, extra, &progress, context.stop);
    *bytes = moved.get();
    copied.map_err(|error| damaged_there(&error))
}

/// What is damaged on its way is no damage of what we have.
fn damaged_there(error: &VaultError) -> Failure {
    let failure = vault_failure(error);
    match failure.message.contains("damaged on its way") {
        true => Failure { kind: FailureKind::Outside, hint: None, ..failure }
            .hint("run it again; when it happens again, look for failing memory, a failing disk, or a proxy"),
        false => failure,
    }
}

/// Renews the copies of journals, so that the second vault alone tells the history too.
pub fn copy_journals(hands: &Hands, from: &str, to: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let (source, target) = (hands.vaults.open(from)?, hands.vaults.open(to)?);
    let scope = context.operation.plan.scope.to_string();
    let journals = |vault: &Vault| -> Result<Vec<Snapshot>, Failure> {
        let all = vault.snapshots().map_err(|error| vault_failure(&error))?;
        Ok(all.into_iter().filter(|snapshot| is_journals(&snapshot.tags, &scope)).collect())
    };
    let mut copied = 0;
    for snapshot in journals(&source)? {
        let old = journals(&target)?.into_iter().filter(|old| old.hostname == snapshot.hostname);
        let new = copy(&source, &snapshot, &target, snapshot.extra.clone(), context, &mut 0)?;
        copied += u64::from(!new.was_there);
        let old: Vec<_> = old.map(|old| old.id).filter(|id| *id != new.snapshot.id).collect();
        target.forget(&old).map_err(|error| vault_failure(&error))?;
    }
    Ok(json!({ "copied": copied }))
}
