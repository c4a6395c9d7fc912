//! Operations that stopped in between: go on, or take back.

use lifeboat_model::{ExitCode, OperationId};

use super::{
    App, Session,
    carry::{Goal, run},
    deploy::put_failure_on_record,
};
use crate::{
    cli::UnfinishedArgs,
    error::Done,
    ui::{plan::Rows, progress::row, report, words},
};

pub fn resume(app: &App, args: &UnfinishedArgs) -> Done {
    let session = app.open(&[])?;
    let id = meant(&session, args)?;
    if args.dry_run {
        return show(app, &session, &id, "resume");
    }
    let done = run(app, &session, Goal::Forward, |watch, stop| session.engine.resume(&id, &app.by(), watch, stop));
    let recorded = put_failure_on_record(app, &session, &id);
    // How it ended is what is asked for.
    let code = done?;
    recorded.map(|()| code)
}

pub fn abort(app: &App, args: &UnfinishedArgs) -> Done {
    let session = app.open(&[])?;
    let id = meant(&session, args)?;
    if args.dry_run {
        return show(app, &session, &id, "abort");
    }
    let done = run(app, &session, Goal::Back, |watch, _stop| session.engine.abort(&id, &app.by(), watch));
    let recorded = put_failure_on_record(app, &session, &id);
    // How it ended is what is asked for.
    let code = done?;
    recorded.map(|()| code)
}

fn meant(session: &Session, args: &UnfinishedArgs) -> Result<OperationId, lifeboat_model::Failure> {
    let named = args.operation.as_deref().map(|start| session.operation_named(start)).transpose()?;
    session.engine.unfinished_one(named.as_ref())
}

/// How an operation stands, and what would be done with it.
fn show(app: &App, session: &Session, id: &OperationId, verb: &str) -> Done {
    let operation = session.engine.look().operation(id)?;
    if app.ui.json.is_some() {
        app.ui.document(report::OPERATION_SCHEMA, report::document(&operation))?;
        return Ok(ExitCode::Ok);
    }
    let rows = Rows::new(&operation.plan);
    let mut text = format!("{}\n\n", app.ui.paint.strong(&format!("Operation {id}: {}", operation.plan.title)));
    for (index, state) in operation.steps.iter().enumerate() {
        if let Some(line) = rows.line_of_no_return(index) {
            text += &format!("{line}\n");
        }
        text += &format!("{}\n", row(&rows, index, state, 0, app.ui.paint));
    }
    text += &match (operation.is_closed(), verb, operation.next_step()) {
        (true, _, _) => format!("\nIt is over; there is nothing to {verb}.\n"),
        (false, "resume", Some(next)) => {
            let next = operation.plan.steps().nth(next).map_or("", |step| &step.title);
            format!("\nIt would go on with: {}\n", words::sentence(next))
        }
        (false, _, _) if operation.past_pivot => {
            "\nIt is past its point of no return: only resume leads on.\n".to_owned()
        }
        (false, _, _) => "\nWhat is done would be taken back, last first.\n".to_owned(),
    };
    app.ui.out(&text)?;
    app.ui.out("Nothing was changed.\n")?;
    Ok(ExitCode::Ok)
}
