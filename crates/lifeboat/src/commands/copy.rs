//! `lifeboat backup --copy-to`: a backup, and the database out of it as a plain file where people and scripts look for
//! one. The file comes out of the vault, compared with its manifest, so that it shows what a restore would bring.

use std::path::{Path, PathBuf};

use lifeboat_engine::aliases::{alias_of, free, no_stray, renew};
use lifeboat_io::files;
use lifeboat_model::{
    BackupChoice, BackupId, ExitCode, Failure, FailureKind, Operation, OperationState, Request, Resource, ResourceKind,
    Timestamp,
};
use serde_json::json;

use super::{
    App, Session, asks,
    carry::{Goal, tell, watched, watched_by},
};
use crate::{
    cli::BackupAsk,
    error::{self, Done},
};

/// Which copy.
pub struct Wanted<'a> {
    /// Where; `YYYYMMDD` and `HHMMSS` stand for the backup's time.
    pub pattern: &'a Path,
    /// Whether the file beside the database is renewed too.
    pub alias: bool,
}

/// Takes a backup and copies its database.
pub fn backup(app: &App, session: &Session, ask: &BackupAsk, wanted: &Wanted<'_>) -> Done {
    let database = database(session)?;
    let bad = |error| Failure::from_error(FailureKind::Refused, &error).while_doing("the copy has no place");
    // Before anything else: a folder that cannot be made is known now, not after an hour.
    files::create_folder(files::parent(wanted.pattern)).map_err(bad)?;
    let alias = database.kind.path().filter(|_| wanted.alias).map(alias_of);
    alias.as_deref().map_or(Ok(()), no_stray)?;
    let plan = session.engine.plan(&asks::backup(session, ask))?;
    let taken = watched(app, session, |watch, stop| session.engine.run(&plan, &app.by(), watch, stop))?;
    if taken.state != OperationState::Done {
        return tell(app, session, &taken, Goal::Forward);
    }
    let backup = session.engine.backups()?.into_iter().find(|backup| Some(&backup.id) == stored(&taken));
    let backup = backup.ok_or_else(|| Failure::new(FailureKind::Unknown, "the new backup is not on the list"))?;
    let path = free(&filled_in(wanted.pattern, backup.recovery_point));
    let request = Request::Restore {
        resource: database.name.clone(),
        from: BackupChoice::Exactly(backup.id.clone()),
        into: Some(files::absolute(&path).map_err(bad)?),
        tablespaces: std::collections::BTreeMap::new(),
        without_emergency_backup: None,
        accept_loss: lifeboat_model::AcceptLoss::Shown,
        urgent: None,
        ack: None,
    };
    let plan = session.engine.plan(&request)?;
    let copied = watched(app, session, |watch, stop| session.engine.run(&plan, &app.by(), watch, stop))?;
    if copied.state != OperationState::Done {
        return tell(app, session, &copied, Goal::Forward);
    }
    if let Some(alias) = &alias {
        renew(&path, alias)?;
    }
    report(app, &backup.id, &path, alias.as_deref())
}

/// Renews the file beside each database that the settings want one for, and makes the plain copy of the day, out of its newest
/// good backup.
pub fn make_files_beside(app: &App, session: &Session) -> Result<(), error::Ended> {
    let setup = session.engine.setup();
    let meant = |resource: &&Resource| session.named.is_empty() || session.named.contains(&resource.name);
    let wanted = setup.resources.iter().filter(|resource| setup.aliases.contains(&resource.name)).filter(meant);
    for database in wanted {
        let renewed = watched_by(app, |watch, stop| session.engine.renew_alias(database, &app.by(), watch, stop))?;
        app.ui.talk(&format!("{} is the newest verified copy.\n", renewed.display()));
    }
    for database in setup.resources.iter().filter(|one| setup.dated.contains_key(&one.name)).filter(meant) {
        let copy = watched_by(app, |watch, stop| session.engine.dated_copy(database, &app.by(), watch, stop))?;
        app.ui.talk(&format!("{} is the copy of the day.\n", copy.display()));
    }
    Ok(())
}

fn report(app: &App, backup: &BackupId, path: &Path, alias: Option<&Path>) -> Done {
    if app.ui.json.is_some() {
        let fields = json!({ "backup": backup, "path": path, "alias": alias, "exit_code": 0 });
        app.ui.document("lifeboat/backup-copy@1", fields)?;
        return Ok(ExitCode::Ok);
    }
    app.ui.out(&format!("Backup created: {}\n", path.display()))?;
    app.ui.talk(&format!("It is {backup} in the vault; prove it: lifeboat prove {backup}{}\n", app.again()));
    Ok(ExitCode::Ok)
}

/// The one database among what is backed up.
fn database(session: &Session) -> Result<Resource, Failure> {
    let meant = |resource: &&Resource| session.named.is_empty() || session.named.contains(&resource.name);
    let is_database = |resource: &&Resource| matches!(resource.kind, ResourceKind::Sqlite { .. });
    let mut found = session.engine.setup().resources.iter().filter(meant).filter(is_database);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(one), Some(other)) => {
            let message = format!("one database is copied at a time, and there are {} and {}", one.name, other.name);
            Err(Failure::new(FailureKind::Usage, message).hint(format!("name one: lifeboat backup {}", one.name)))
        }
        (None, _) => {
            Err(Failure::new(FailureKind::Usage, "only a database can be copied to a file, and none is named"))
        }
    }
}

fn stored(operation: &Operation) -> Option<&BackupId> {
    operation.plan.steps().find_map(|step| match &step.action {
        lifeboat_model::Action::StoreBackup { backup, .. } => Some(backup),
        _other => None,
    })
}

fn filled_in(pattern: &Path, at: Timestamp) -> PathBuf {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    let (day, time) = (at.strftime("%Y%m%d").to_string(), at.strftime("%H%M%S").to_string());
    pattern.with_file_name(name.replace("YYYYMMDD", &day).replace("HHMMSS", &time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_the_time_in_utc() {
        let at: Timestamp = "2025-11-04T14:30:00.9Z".parse().unwrap();
        for (pattern, expected) in [
            (
                "backups/database-pre-change-YYYYMMDD-HHMMSS.sqlite",
                "backups/database-pre-change-20251104-143000.sqlite",
            ),
            ("YYYYMMDD/plain.db", "YYYYMMDD/plain.db"),
            ("x_YYYYMMDD_HHMMSS", "x_20251104_143000"),
        ] {
            let path = filled_in(Path::new(pattern), at);
            assert_eq!(path, Path::new(expected));
            // What was written can be read again, and never claims more than the backup does.
            if let Some(stamp) = lifeboat_model::stamp_in(&path.file_name().unwrap().to_string_lossy()) {
                assert!(stamp.at <= at && !stamp.day_only);
            }
        }
    }
}
