//! From the words of a command to what it asks the engine for.

use lifeboat_model::{BackupChoice, BackupId, BackupReason, Failure, FailureKind, Request, ResourceName};

use super::{App, Session, elsewhere};
use crate::{
    cli::{BackupAsk, ProveAsk, ReasonArg, RestoreArgs, RestoreAsk},
    ui::when,
};

/// What `backup` asks for.
pub fn backup(session: &Session, ask: &BackupAsk) -> Request {
    let reason = match ask.reason {
        ReasonArg::Manual => BackupReason::Manual,
        ReasonArg::Scheduled => BackupReason::Scheduled,
        ReasonArg::PreDeploy => BackupReason::PreDeploy,
    };
    Request::Backup { resources: session.named.clone(), reason, label: ask.label.clone() }
}

/// What `restore` asks for.
pub fn restore(app: &App, session: &Session, ask: &RestoreAsk) -> Result<Request, Failure> {
    let resource = session.named.first().cloned().ok_or_else(|| Failure::new(FailureKind::Usage, "name a resource"))?;
    let from = elsewhere::choice(app, session, &resource, ask)?;
    let into = ask.into.as_deref().map(lifeboat_io::files::absolute).transpose();
    let into = into.map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    Ok(Request::Restore {
        resource,
        from,
        into,
        tablespaces: ask.tablespace.iter().cloned().collect(),
        without_emergency_backup: ask.without_emergency_backup.clone(),
        accept_loss: ask.accept_loss.unwrap_or_default(),
        urgent: ask.reason.clone().filter(|_| ask.urgent),
        ack: ask.ack.clone(),
    })
}

/// What `restore --table` asks for.
pub fn table(app: &App, session: &Session, args: &RestoreArgs, table: &str) -> Result<Request, Failure> {
    let resource = session.named.first().cloned().ok_or_else(|| Failure::new(FailureKind::Usage, "name a resource"))?;
    Ok(Request::RestoreTable {
        resource,
        from: choice(app, session, args.ask.from.as_deref(), args.ask.before.as_deref())?,
        table: table.to_owned(),
        condition: args.rows.condition.clone(),
        insert: args.rows.apply,
        overwrite: args.rows.overwrite,
    })
}

/// Which backup is meant by `--from` and `--before`.
pub fn choice(app: &App, session: &Session, from: Option<&str>, before: Option<&str>) -> Result<BackupChoice, Failure> {
    Ok(match (from, before) {
        (Some(start), _) => BackupChoice::Exactly(session.engine.find_backup(start)?.id),
        (None, Some(text)) => BackupChoice::Before(when::parse(text, app.io.clock.now(), &session.zone)?),
        (None, None) => BackupChoice::Latest,
    })
}

/// What `prove` asks for.
pub fn prove(session: &Session, ask: &ProveAsk) -> Result<Request, Failure> {
    let backup = match &ask.backup {
        Some(start) => BackupChoice::Exactly(session.engine.find_backup(start)?.id),
        None => BackupChoice::Latest,
    };
    let name = |word: &String| ResourceName::new(word).map_err(|error| Failure::from_error(FailureKind::Usage, &error));
    let resources = ask.resources.iter().map(name).collect::<Result<_, _>>()?;
    Ok(Request::Prove { backup, resources })
}

/// What `undo` asks for: the named operation, or the newest that can be taken back.
pub fn undo(session: &Session, start: Option<&str>) -> Result<Request, Failure> {
    let operation = match start {
        Some(start) => session.operation_named(start)?,
        None => session.engine.look().last_undoable()?,
    };
    Ok(Request::Undo { operation })
}

/// A backup by its id or the beginning of it.
pub fn backup_named(session: &Session, start: Option<&str>) -> Result<Option<BackupId>, Failure> {
    start.map(|start| session.engine.find_backup(start).map(|backup| backup.id)).transpose()
}
