//! What was done, newest first.

use lifeboat_model::{ExitCode, FailureKind};
use serde_json::{Value, json};

use super::App;
use crate::{
    cli::records::HistoryArgs,
    error::Done,
    ui::{report, table::Table, words},
};

/// The schema tag of the answer.
const SCHEMA: &str = "lifeboat/history@1";

pub fn run(app: &App, args: &HistoryArgs) -> Done {
    let session = app.open(&[])?;
    let rows = session.engine.look().operations(args.limit)?;
    let mut documents: Vec<Value> = Vec::new();
    let mut table = Table::new(&["OPERATION", "BEGUN (UTC)", "TOOK", "HOW", "WHAT"]).right(&[2]);
    for row in rows {
        match session.engine.look().operation(&row.id) {
            Ok(operation) => {
                let took = words::took(report::elapsed_ms(&operation));
                let title = words::one_line(&operation.plan.title);
                let begun = words::short_instant(operation.started_at);
                table.row([row.id.to_string(), begun, took, report::outcome(&operation).to_owned(), title]);
                documents.push(report::document(&operation));
            }
            // One damaged journal does not hide the others.
            Err(failure) if failure.kind == FailureKind::Damaged => {
                let begun = words::short_instant(row.started_at);
                table.row([row.id.to_string(), begun, String::new(), "damaged".to_owned(), failure.to_string()]);
                documents.push(json!({ "id": row.id, "outcome": "damaged", "why": failure }));
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    if app.ui.json.is_some() {
        app.ui.document(SCHEMA, json!({ "operations": documents }))?;
    } else if table.is_empty() {
        app.ui.talk("Nothing has been done yet.\n");
    } else {
        app.ui.out(&table.render(""))?;
    }
    Ok(ExitCode::Ok)
}
