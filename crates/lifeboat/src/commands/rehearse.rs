//! `rehearse`: a rollback where nothing is lost by it, timed, and what came of those before.

use lifeboat_engine::rehearsals::{self, Rehearsal};
use lifeboat_model::{ExitCode, Request, Tri};
use serde_json::json;

use super::{App, carry::carry_out, requests::dry};
use crate::{
    cli::versions::RehearseCommand,
    error::Done,
    ui::{report, table::Table, words},
};

pub fn run(app: &App, command: &RehearseCommand) -> Done {
    let session = app.open(&[])?;
    let engine = &session.engine;
    match command {
        RehearseCommand::Rollback { release, profile, consent } => {
            let request = engine.rehearsal_of_rollback(release.clone(), profile.map(Into::into))?;
            carry_out(app, &session, &engine.plan(&request)?, consent.consent())
        }
        RehearseCommand::List => list(app, &engine.rehearsals()?),
        RehearseCommand::Attest { operation, point, word } => {
            let about = engine.rehearsal_about(operation, point)?;
            let plan = engine.plan(&Request::Attest { about, report: Vec::new(), note: word.note.clone() })?;
            carry_out(app, &session, &plan, dry(word.run.dry_run))
        }
    }
}

fn list(app: &App, all: &[Rehearsal]) -> Done {
    let (due, is_due) = rehearsals::due(all, app.io.clock.now());
    let code = if is_due { ExitCode::ActionAdvised } else { ExitCode::Ok };
    if app.ui.json.is_some() {
        let fields = json!({ "rehearsals": all, "due": is_due, "next": due, "exit_code": code as u8 });
        app.ui.document("lifeboat/rehearsals@1", fields)?;
        return Ok(code);
    }
    let mut table = Table::new(&["REHEARSAL", "BEGUN (UTC)", "WHERE", "WAY", "TOOK", "PASSED"]).right(&[4]);
    for one in all {
        let passed = if one.outcome == Tri::Pass { "yes" } else { "no" };
        table.row([
            one.operation.to_string(),
            words::short_instant(one.at),
            one.scope.clone(),
            one.profile.word().to_owned(),
            words::took(one.took_ms),
            passed.to_owned(),
        ]);
    }
    if !all.is_empty() {
        app.ui.out(&table.render(""))?;
    }
    if let Some(newest) = all.first() {
        app.ui.out(&format!("\n{}:\n{}", newest.operation, report::show_rehearsal(newest)))?;
    }
    app.ui.out(&format!("{due}\n"))?;
    Ok(code)
}
