//! `evidence`: what is to be kept about an operation, and whether it was changed since.

use std::path::{Path, PathBuf};

use lifeboat_io::files;
use lifeboat_model::{BackupMark, ExitCode, Failure, FailureKind, OperationId, OperationState, Request};
use serde_json::json;

use super::{App, Session, carry::watched};
use crate::{
    cli::records::EvidenceCommand,
    error::{Done, Ended},
    ui::words,
};

pub fn run(app: &App, command: &EvidenceCommand) -> Done {
    let session = app.open(&[])?;
    match command {
        EvidenceCommand::Collect { operation, attach, to } => {
            let operation = session.operation(operation.as_deref())?;
            collect(app, &session, &operation, attach, to.as_deref())
        }
        EvidenceCommand::Verify { folder } => verify(app, &session, folder),
    }
}

fn collect(app: &App, session: &Session, operation: &OperationId, attach: &[PathBuf], to: Option<&Path>) -> Done {
    let bad = |error| Failure::from_error(FailureKind::Usage, &error);
    let folder = match to {
        Some(folder) => files::absolute(folder).map_err(bad)?,
        None => session.engine.evidence_folder(operation),
    };
    let collected = session.engine.collect_evidence(operation, attach, &folder)?;
    let report = vec![collected.digest.clone(), folder.display().to_string(), operation.to_string()];
    let note = format!("evidence about {operation}");
    put_on_record(app, session, &Request::Attest { about: "evidence".to_owned(), report, note: note.clone() })?;
    for backup in session.engine.backups()? {
        if collected.evidence.backups.contains(&backup.id) && backup.held.is_none() {
            let mark = BackupMark::Hold { why: note.clone() };
            put_on_record(app, session, &Request::Mark { backup: backup.id, mark })?;
        }
    }
    if app.ui.json.is_some() {
        let fields =
            json!({ "folder": folder, "digest": collected.digest, "evidence": collected.evidence, "exit_code": 0 });
        app.ui.document("lifeboat/evidence-collected@1", fields)?;
        return Ok(ExitCode::Ok);
    }
    let count = words::count(collected.evidence.files.len() as u64, "file", "files");
    app.ui.out(&format!("{count} in {}\n", folder.display()))?;
    app.ui.out(&format!("On record with digest {}\n", collected.digest))?;
    let held: Vec<String> = collected.evidence.backups.iter().map(ToString::to_string).collect();
    if !held.is_empty() {
        app.ui.talk(&format!("Held in the vault: {}.\n", held.join(", ")));
    }
    app.ui.talk("It may hold personal data; only you can read it now.\n");
    Ok(ExitCode::Ok)
}

/// Runs a request whose journal is what matters, without telling of it.
pub fn put_on_record(app: &App, session: &Session, request: &Request) -> Result<(), Ended> {
    let plan = session.engine.plan(request)?;
    let done = watched(app, session, |watch, stop| session.engine.run(&plan, &app.by(), watch, stop))?;
    match &done.state {
        OperationState::Done => Ok(()),
        OperationState::PutBack { why } => {
            let why = why.clone();
            Err(why.unwrap_or_else(|| Failure::new(FailureKind::Unknown, "it was put back")).into())
        }
        OperationState::Paused { why } | OperationState::TurningBack { why } => Err(why.clone().into()),
        OperationState::HandedOver { why } => Err(why.clone().into()),
        OperationState::Running => Err(Failure::new(FailureKind::Unknown, "it did not come to its end").into()),
    }
}

fn verify(app: &App, session: &Session, folder: &Path) -> Done {
    let (evidence, wrong) = session.engine.verify_evidence(folder)?;
    let code = if wrong.is_empty() { ExitCode::Ok } else { ExitCode::Damaged };
    if app.ui.json.is_some() {
        let fields = json!({ "folder": folder, "evidence": evidence, "wrong": wrong, "exit_code": code as u8 });
        app.ui.document("lifeboat/evidence-verified@1", fields)?;
        return Ok(code);
    }
    for what in &wrong {
        app.ui.out(&format!("{} {}\n", app.ui.paint.bad("Changed:"), words::sentence(&words::one_line(what))))?;
    }
    if wrong.is_empty() {
        let count = words::count(evidence.files.len() as u64, "file", "files");
        let at = words::instant(evidence.collected_at, &session.zone);
        app.ui.out(&format!("As collected {at} by {}: {count} about {}.\n", evidence.by, evidence.operation))?;
    }
    Ok(code)
}
