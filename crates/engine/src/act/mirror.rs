//! Copies of journals in the vault, so that losing this host loses no history.
//!
//! One snapshot per host and scope holds all of them, by month; it is written anew after each operation (what has not
//! changed is stored once) and replaces the one before it.

use lifeboat_io::{ObjectErrorKind, files};
use lifeboat_model::{Failure, Operation};
use lifeboat_store::vault::{BackupOptions, EntryMeta, SnapshotMeta, Vault, VaultError};
use serde_json::Value;

use super::{
    Hands,
    errors::{path_failure, vault_failure},
    pour::pour,
    summary::JOURNALS_TAG,
};

pub fn copy_journals(hands: &Hands, operation: &Operation) -> Result<(), Failure> {
    let location = &hands.setup.vault;
    if !hands.vaults.exists(location)? {
        return Ok(());
    }
    let vault = hands.vaults.open(location)?;
    let old = vault.snapshots().map_err(|error| vault_failure(&error))?;
    let scope = operation.plan.scope.to_string();
    let host = hands.io.env.host();
    let old: Vec<_> = old
        .into_iter()
        .filter(|snapshot| is_journals(&snapshot.tags, &scope) && snapshot.hostname == host)
        .map(|snapshot| snapshot.id)
        .collect();
    write(hands, &vault, &scope, &host)?;
    old.into_iter().try_for_each(|id| match vault.forget(&[id]) {
        // A rehearsal that ended at the same moment has taken it away already.
        Err(VaultError::Missing { .. }) => Ok(()),
        Err(error) if error.object_kind() == Some(ObjectErrorKind::Missing) => Ok(()),
        forgotten => forgotten.map(|_raw| ()).map_err(|error| vault_failure(&error)),
    })
}

/// Whether a snapshot with these tags holds journals of a scope.
pub fn is_journals(tags: &[String], scope: &str) -> bool {
    tags.iter().any(|tag| tag == JOURNALS_TAG) && tags.iter().any(|tag| tag.strip_prefix("scope=") == Some(scope))
}

fn write(hands: &Hands, vault: &Vault, scope: &str, host: &str) -> Result<(), Failure> {
    let writer = vault.begin(BackupOptions::default()).map_err(|error| vault_failure(&error))?;
    for path in files::list_folder(&hands.state.operations()).map_err(|error| path_failure(&error))? {
        if path.extension().is_none_or(|end| end != "ndjson") {
            continue;
        }
        let modified = files::modified(&path).map_err(|error| path_failure(&error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let month = modified.strftime("%Y-%m");
        let mut file = files::open(&path).map_err(|error| path_failure(&error))?;
        pour(&writer, &format!("journals/{month}/{name}"), &EntryMeta::new(0o600, modified), &mut file, &|_| ())?;
    }
    let meta = SnapshotMeta {
        time: hands.io.clock.now(),
        hostname: host.to_owned(),
        username: hands.io.env.user(),
        paths: vec![format!("/lifeboat/journals/{scope}")],
        tags: vec![JOURNALS_TAG.to_owned(), format!("scope={scope}")],
        extra: Value::Null,
    };
    writer.commit(meta).map_err(|error| vault_failure(&error))?;
    Ok(())
}
