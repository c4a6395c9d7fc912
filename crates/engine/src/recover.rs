//! Recovering what this host knew from the vault alone: journals, and with them history, proofs, marks and timings; and
//! the settings that the newest backup carries.

use lifeboat_io::{Stop, files};
use lifeboat_model::{Failure, OperationId};
use lifeboat_store::{
    JournalFile,
    vault::{Entry, EntryKind, Snapshot, Vault},
};
use serde::Serialize;

use crate::{
    Engine,
    act::{is_journals, path_failure, summary, vault_failure},
};

/// What a recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// Journals that were brought back.
    pub journals: Vec<String>,
    /// Journals that are here already, as long or longer.
    pub known: usize,
    /// Journals in the vault that could not be used, with the reason.
    pub unusable: Vec<(String, String)>,
    /// Backups of this scope in the vault.
    pub backups: usize,
    /// The settings file that the newest backup carries, when one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
}

impl Engine {
    /// Brings back what the vault knows of this scope. What is here already is never overwritten by less.
    ///
    /// # Errors
    /// When the vault cannot be read or the state folder cannot be written.
    pub fn recover(&self) -> Result<Recovered, Failure> {
        let vault = self.vaults.open(&self.setup.vault)?;
        let snapshots = vault.snapshots().map_err(|error| vault_failure(&error))?;
        let mut recovered = Recovered::default();
        let scope = self.setup.scope.to_string();
        for snapshot in snapshots.iter().filter(|snapshot| is_journals(&snapshot.tags, &scope)) {
            self.recover_journals(&vault, snapshot, &mut recovered)?;
        }
        let mut backups: Vec<_> = snapshots
            .iter()
            .filter_map(|snapshot| Some((snapshot, summary::backup_of(snapshot)?)))
            .filter(|(_, backup)| backup.scope == self.setup.scope)
            .collect();
        backups.sort_by_key(|(_, backup)| backup.recovery_point);
        recovered.backups = backups.len();
        recovered.settings = match backups.last() {
            Some((newest, _)) => settings_in(&vault, newest)?,
            None => None,
        };
        self.catalog()?; // fills itself from the journals
        Ok(recovered)
    }

    fn recover_journals(&self, vault: &Vault, snapshot: &Snapshot, recovered: &mut Recovered) -> Result<(), Failure> {
        for entry in vault.entries(snapshot).map_err(|error| vault_failure(&error))? {
            let name = entry.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let (EntryKind::File { .. }, Ok(id)) = (&entry.kind, OperationId::parse(&name)) else { continue };
            match self.recover_journal(vault, &entry, &id) {
                Ok(true) => recovered.journals.push(name),
                Ok(false) => recovered.known += 1,
                Err(failure) => recovered.unusable.push((name, failure.to_string())),
            }
        }
        Ok(())
    }

    /// Whether it was brought back; not when what is here is as long.
    fn recover_journal(&self, vault: &Vault, entry: &Entry, id: &OperationId) -> Result<bool, Failure> {
        let mut body = Vec::new();
        vault.read_entry(entry, &mut body, &|_| (), &Stop::default()).map_err(|error| vault_failure(&error))?;
        let path = self.state.journal(id);
        let found = JournalFile::parse(&path, &body).map_err(|error| self.journal_failure(id, &error))?;
        found.operation(&path).map_err(|error| self.journal_failure(id, &error))?;
        if files::exists(&path) && files::size(&path).map_err(|error| path_failure(&error))? >= body.len() as u64 {
            return Ok(false);
        }
        files::write_with_mode(&path, &body, 0o600).map_err(|error| path_failure(&error))?;
        Ok(true)
    }
}

/// The settings file that a backup carries.
fn settings_in(vault: &Vault, snapshot: &Snapshot) -> Result<Option<String>, Failure> {
    let Ok(entry) = vault.entry(snapshot, summary::SETTINGS) else { return Ok(None) };
    let mut body = Vec::new();
    vault.read_entry(&entry, &mut body, &|_| (), &Stop::default()).map_err(|error| vault_failure(&error))?;
    Ok(Some(String::from_utf8_lossy(&body).into_owned()))
}
