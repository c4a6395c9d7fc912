//! `objectives`: what was promised beside what was measured.

use lifeboat_engine::objectives::Objective;
use lifeboat_model::{ExitCode, Tri};
use serde_json::json;

use super::App;
use crate::{
    error::Done,
    ui::{table::Table, words},
};

/// The schema tag of the answer.
const SCHEMA: &str = "lifeboat/objectives@1";

pub fn run(app: &App) -> Done {
    let session = app.open(&[])?;
    let rows = session.engine.objectives()?;
    let code = if rows.iter().any(is_urgent) { ExitCode::ActionAdvised } else { ExitCode::Ok };
    if app.ui.json.is_some() {
        app.ui.document(SCHEMA, json!({ "objectives": rows, "exit_code": code as u8 }))?;
        return Ok(code);
    }
    let mut table = Table::new(&["OBJECTIVE", "TARGET", "NEWEST", "MEDIAN", "LONGEST", "RUNS", "KEPT", "WHY"]);
    for row in &rows {
        table.row(cells(row));
    }
    app.ui.out(&table.render(""))?;
    Ok(code)
}

/// Broken, or a backup that is about to be too old. What was never measured is no reason to wake anybody.
fn is_urgent(row: &Objective) -> bool {
    let near = row.key.starts_with("rpo.") && row.target_ms.is_some() && row.outcome != Tri::Pass;
    row.rated && (row.outcome == Tri::Fail || near)
}

fn cells(row: &Objective) -> [String; 8] {
    let shown = |ms: Option<u64>| ms.map_or("-".to_owned(), words::took);
    let target = match row.max_ms {
        Some(max) => format!("{}, at most {}", shown(row.target_ms), words::took(max)),
        None => shown(row.target_ms),
    };
    let newest = match row.runs.first() {
        Some(run) if run.rehearsed => format!("{} (rehearsed)", words::took(run.took_ms)),
        Some(run) => words::took(run.took_ms),
        None => shown(row.now_ms),
    };
    let since = row.runs.first().and_then(|run| run.from_incident_ms);
    let since = since.map(|ms| format!("; {} from the beginning of the incident", words::took(ms)));
    let expected = row.expected.map(|expected| format!("; expected now: {}", words::expected(&expected)));
    let why = format!("{}{}{}", row.why, since.unwrap_or_default(), expected.unwrap_or_default());
    let kept = match (row.rated, row.outcome) {
        (false, _) => "not rated",
        (true, Tri::Pass) => "yes",
        (true, Tri::Fail) => "no",
        (true, Tri::Unknown) => "?",
    };
    let runs = row.runs.len().to_string();
    [
        row.title.clone(),
        target,
        newest,
        shown(row.median_ms),
        shown(row.worst_ms),
        runs,
        kept.to_owned(),
        words::one_line(&why),
    ]
}
