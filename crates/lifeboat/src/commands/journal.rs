//! Journals: shown, verified, exported.

use lifeboat_model::{Entry, Event, ExitCode, Failure, FailureKind, OperationId, Outcome};
use serde_json::{Value, json};

use super::{App, Session};
use crate::{cli::JournalCommand, error::Done, ui::words};

pub fn run(app: &App, command: &JournalCommand) -> Done {
    let session = app.open(&[])?;
    match command {
        JournalCommand::Show(args) => show(app, &session, &session.operation(args.operation.as_deref())?),
        JournalCommand::Export(args) => export(app, &session, &session.operation(args.operation.as_deref())?),
        JournalCommand::Verify(args) => verify(app, &session, args.operation.as_deref()),
    }
}

fn show(app: &App, session: &Session, id: &OperationId) -> Done {
    let journal = session.engine.look().journal(id)?;
    if app.ui.json.is_some() {
        app.ui.document(
            "lifeboat/journal@1",
            json!({ "operation": id, "entries": journal.entries, "head": journal.head }),
        )?;
        return Ok(ExitCode::Ok);
    }
    let mut text = String::new();
    for entry in &journal.entries {
        let at = entry.at.strftime("%Y-%m-%d %H:%M:%S%.3f");
        text += &format!("{:>4}  {at}  {}\n", entry.seq, words::one_line(&says(entry)));
    }
    if journal.torn_bytes > 0 {
        text +=
            &format!("      A crash left a half line of {} bytes behind; it counts for nothing.\n", journal.torn_bytes);
    }
    app.ui.out(&text)?;
    Ok(ExitCode::Ok)
}

/// One line of a journal in words.
fn says(entry: &Entry) -> String {
    match &entry.event {
        Event::Opened { plan, by, host, pid, version, .. } => {
            format!("opened by {by} on {host}, process {pid}, version {version}: {} ({})", plan.title, plan.id)
        }
        Event::StepStarted { step, attempt: 1 } => format!("{step} begins"),
        Event::StepStarted { step, attempt } => format!("{step} begins, attempt {attempt}"),
        Event::StepFinished { step, took_ms, .. } => format!("{step} is done, {}", words::took(*took_ms)),
        Event::Adopted { step, .. } => format!("{step} turned out to be done"),
        Event::StepFailed { step, took_ms, failure, noted } => {
            let how = if *noted { "found something" } else { "failed" };
            format!("{step} {how}, {}: {failure}", words::took(*took_ms))
        }
        Event::PivotCrossed { step } => format!("point of no return crossed by {step}"),
        Event::TurnedBack { why } => format!("turns back: {why}"),
        Event::UndoStarted { step } => format!("{step} is being taken back"),
        Event::UndoFinished { step, took_ms } => format!("{step} is taken back, {}", words::took(*took_ms)),
        Event::UndoFailed { step, failure } => format!("{step} could not be taken back: {failure}"),
        Event::Paused { why } => format!("paused: {why}"),
        Event::Resumed { by, pid, gap_ms } => format!("resumed by {by}, process {pid}, after {}", words::took(*gap_ms)),
        Event::OverBudget { phase, over_ms } => format!("phase {phase} is {} over its budget", words::took(*over_ms)),
        Event::Closed { state: Outcome::Done } => "closed: done".to_owned(),
        Event::Closed { state: Outcome::PutBack } => "closed: everything was put back".to_owned(),
        Event::Closed { state: Outcome::HandedOver } => "closed: left where it stands to what comes next".to_owned(),
    }
}

fn export(app: &App, session: &Session, id: &OperationId) -> Done {
    // Its chain is checked first: what is exported is evidence.
    session.engine.look().journal(id)?;
    let path = session.engine.state().journal(id);
    let text =
        lifeboat_io::files::read_text(&path).map_err(|error| Failure::from_error(FailureKind::Outside, &error))?;
    app.ui.out(&text)?;
    Ok(ExitCode::Ok)
}

fn verify(app: &App, session: &Session, start: Option<&str>) -> Done {
    let ids = match start {
        Some(start) => vec![session.operation_named(start)?],
        None => all(session)?,
    };
    let mut documents: Vec<Value> = Vec::new();
    let (mut text, mut code) = (String::new(), ExitCode::Ok);
    for id in &ids {
        // Reading the operation, too: lines that belong together may still tell an impossible story.
        let looked = session.engine.look().journal(id).and_then(|journal| {
            session.engine.look().operation(id)?;
            Ok(journal)
        });
        match looked {
            Ok(journal) => {
                let lines = journal.entries.len();
                text += &format!("{id}: good, {lines} lines, the last is {}\n", journal.head);
                documents.push(json!({ "operation": id, "good": true, "lines": lines, "head": journal.head, "torn_bytes": journal.torn_bytes }));
            }
            Err(failure) if failure.kind == FailureKind::Damaged => {
                code = ExitCode::Damaged;
                text += &format!("{id}: {} {}\n", app.ui.paint.bad("DAMAGED:"), words::sentence(&failure.to_string()));
                documents.push(json!({ "operation": id, "good": false, "failure": failure }));
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/journal-verify@1", json!({ "journals": documents, "exit_code": code as u8 }))?;
    } else {
        app.ui.out(&text)?;
        app.ui.talk(&format!("{} looked at.\n", words::count(ids.len() as u64, "journal", "journals")));
    }
    Ok(code)
}

/// Every journal there is, also those that are damaged and on no list.
fn all(session: &Session) -> Result<Vec<OperationId>, Failure> {
    let folder = session.engine.state().operations();
    let files = lifeboat_io::files::list_folder(&folder);
    let files = files.map_err(|error| Failure::from_error(FailureKind::Outside, &error))?;
    let journals = files.iter().filter(|path| path.extension().is_some_and(|end| end == "ndjson"));
    Ok(journals.filter_map(|path| OperationId::parse(path.file_stem()?.to_str()?).ok()).collect())
}
