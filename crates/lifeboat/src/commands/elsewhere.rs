//! Backups of another environment, or of another resource: taken only when somebody says so.

use std::collections::BTreeSet;

use lifeboat_model::{
    Backup, BackupChoice, BackupId, Content, Failure, FailureKind, ResourceKind, ResourceName, Scope, choose_backup,
    id::find_by_start,
};

use super::{App, Session, asks};
use crate::cli::RestoreAsk;

/// Which backup `restore` means: one of its own; with `--from`, the newest good one of an environment, or one by its id,
/// wherever it is from; without settings and without a backup of its own, that of the only PostgreSQL database in the vault.
pub fn choice(
    app: &App,
    session: &Session,
    resource: &ResourceName,
    ask: &RestoreAsk,
) -> Result<BackupChoice, Failure> {
    let scope = &session.engine.setup().scope;
    let all = session.engine.backups_of_all()?;
    if let Some(word) = &ask.from {
        return named(session, &all, resource, word);
    }
    let own = asks::choice(app, session, None, ask.before.as_deref())?;
    let has_own = all.iter().any(|backup| backup.scope == *scope && backup.resources.contains(resource));
    let is_server = matches!(session.engine.setup().resource(resource)?.kind, ResourceKind::Postgres { .. });
    if has_own || !is_server || session.engine.setup().settings_file.is_some() {
        return Ok(own);
    }
    match databases(session, &all)?.as_slice() {
        [] => Ok(own),
        [(scope, resource)] => Ok(of(scope, resource, own)),
        several => {
            let names: Vec<String> = several.iter().map(|(scope, resource)| format!("{resource} of {scope}")).collect();
            let message = format!("the vault holds several PostgreSQL databases: {}", names.join(", "));
            Err(Failure::new(FailureKind::Usage, message).hint("say which backup: --from BACKUP"))
        }
    }
}

fn of(scope: &Scope, resource: &ResourceName, which: BackupChoice) -> BackupChoice {
    BackupChoice::Elsewhere { scope: scope.clone(), resource: resource.clone(), which: Box::new(which) }
}

fn named(session: &Session, all: &[Backup], resource: &ResourceName, word: &str) -> Result<BackupChoice, Failure> {
    let own = &session.engine.setup().scope;
    let with_settings = session.engine.setup().settings_file.is_some();
    let same_app = |backup: &&Backup| !with_settings || backup.scope.app == own.app;
    let environment = all.iter().filter(same_app).map(|backup| &backup.scope).find(|scope| scope.environment == word);
    match environment {
        Some(scope) if scope == own => return Ok(BackupChoice::Latest),
        Some(scope) if with_settings => return Ok(of(scope, resource, BackupChoice::Latest)),
        Some(_) | None => {}
    }
    let ids: Vec<BackupId> = all.iter().filter(same_app).map(|backup| backup.id.clone()).collect();
    let found = match find_by_start(&ids, word, BackupId::PREFIX) {
        Ok(id) => all.iter().find(|backup| &backup.id == id),
        // What is its own is told as before.
        Err(_nobody) => return Ok(BackupChoice::Exactly(session.engine.find_backup(word)?.id)),
    };
    let Some(backup) = found else { return Ok(BackupChoice::Exactly(session.engine.find_backup(word)?.id)) };
    let exactly = BackupChoice::Exactly(backup.id.clone());
    if backup.scope == *own {
        return Ok(exactly);
    }
    if backup.resources.contains(resource) {
        return Ok(of(&backup.scope, resource, exactly));
    }
    match databases_in(session, backup)?.as_slice() {
        [one] if !with_settings => Ok(of(&backup.scope, one, exactly)),
        _ => Ok(of(&backup.scope, resource, exactly)),
    }
}

/// All PostgreSQL databases that a vault has good backups of.
fn databases(session: &Session, all: &[Backup]) -> Result<Vec<(Scope, ResourceName)>, Failure> {
    let pairs: BTreeSet<(String, String)> = all
        .iter()
        .flat_map(|backup| backup.resources.iter().map(|name| (backup.scope.to_string(), name.to_string())))
        .collect();
    let mut found = Vec::new();
    for (scope, name) in pairs {
        let Some(backup) = all.iter().find(|backup| backup.scope.to_string() == scope) else { continue };
        let (scope, name) = (
            backup.scope.clone(),
            ResourceName::new(name).map_err(|error| Failure::from_error(FailureKind::Bug, &error))?,
        );
        let Ok(newest) = choose_backup(all, &scope, &name, &BackupChoice::Latest) else { continue };
        if databases_in(session, newest)?.contains(&name) {
            found.push((scope, name));
        }
    }
    Ok(found)
}

fn databases_in(session: &Session, backup: &Backup) -> Result<Vec<ResourceName>, Failure> {
    let manifest = session.engine.manifest(&backup.id)?;
    let is_database = |content: &Content| matches!(content, Content::Postgres(_));
    Ok(manifest.resources.iter().filter(|part| is_database(&part.content)).map(|part| part.name.clone()).collect())
}
