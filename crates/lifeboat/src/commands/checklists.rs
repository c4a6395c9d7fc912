//! `checklist`: the lists of a rollback as they stand, and a person's word for what no machine can see.

use lifeboat_model::{
    ExitCode, Failure, OperationId, Request, Tri,
    checklist::{How, LISTS, Look},
};
use serde_json::json;

use super::{App, Session, carry::carry_out, requests::dry};
use crate::{
    cli::records::ChecklistCommand,
    error::Done,
    ui::{table::Table, words},
};

pub fn run(app: &App, command: &ChecklistCommand) -> Done {
    match command {
        ChecklistCommand::List => list(app),
        ChecklistCommand::Show { list, operation, markdown } => show(app, list, operation.as_deref(), *markdown),
        ChecklistCommand::Attest { list, point, operation, word } => {
            let session = app.open(&[])?;
            let subject = session.engine.subject(list, named(&session, operation.as_deref())?.as_ref())?;
            let about = session.engine.checklist_about(list, point, &subject)?;
            let report = vec![format!("{list}: {point}, of {}", session.engine.checklist(list, &subject)?.of)];
            let plan = session.engine.plan(&Request::Attest { about, report, note: word.note.clone() })?;
            carry_out(app, &session, &plan, dry(word.run.dry_run))
        }
    }
}

fn named(session: &Session, word: Option<&str>) -> Result<Option<OperationId>, Failure> {
    word.map(|word| session.engine.look().find_operation(word)).transpose()
}

fn list(app: &App) -> Done {
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/checklists@1", json!({ "lists": LISTS, "exit_code": 0 }))?;
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["LIST", "POINT", "WHAT", "TICKED BY"]);
    for list in &LISTS {
        for item in list.items {
            let by = match item.how {
                How::Machine(Look::Ready) => "lifeboat ready",
                How::Machine(_) => "what is seen",
                How::Person => "a person",
            };
            table.row([list.key.to_owned(), item.key.to_owned(), item.title.to_owned(), by.to_owned()]);
        }
    }
    app.ui.out(&table.render(""))?;
    Ok(ExitCode::Ok)
}

fn show(app: &App, key: &str, operation: Option<&str>, markdown: bool) -> Done {
    let session = app.open(&[])?;
    let subject = session.engine.subject(key, named(&session, operation)?.as_ref())?;
    let checked = session.engine.checklist(key, &subject)?;
    let code = match checked.outcome() {
        Tri::Pass => ExitCode::Ok,
        Tri::Unknown => ExitCode::Unknown,
        Tri::Fail => ExitCode::ActionAdvised,
    };
    if app.ui.json.is_some() {
        let fields = json!({ "checklist": checked, "outcome": checked.outcome(), "exit_code": code as u8 });
        app.ui.document("lifeboat/checklist@1", fields)?;
        return Ok(code);
    }
    if markdown {
        app.ui.out(&checked.markdown())?;
        return Ok(code);
    }
    let mut table = Table::new(&["POINT", "STANDS", "WHAT", "BY WHAT"]);
    for item in &checked.items {
        let stands = match item.outcome {
            Tri::Pass => "yes",
            Tri::Unknown => "not known",
            Tri::Fail => "no",
        };
        let by = item.by.as_ref().map_or_else(String::new, |by| format!("{by}: "));
        let detail = words::one_line(&format!("{by}{}", item.detail));
        table.row([item.key.to_owned(), stands.to_owned(), item.title.to_owned(), detail]);
    }
    app.ui.out(&table.render(""))?;
    let standing = checked.items.iter().filter(|item| item.outcome == Tri::Pass).count();
    app.ui.out(&format!("{standing} of {} stand, for {}.\n", checked.items.len(), checked.of))?;
    if let Some(why) = &checked.overridden {
        app.ui.out(&format!("It went on all the same: {}\n", words::one_line(why)))?;
    }
    Ok(code)
}
