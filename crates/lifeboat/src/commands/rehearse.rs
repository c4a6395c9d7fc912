//! `rehearse`: a rollback where nothing is lost by it, timed, and what came of those before.

use lifeboat_engine::{
    drills::{self, DrillRecord},
    rehearsals::{self, Rehearsal},
};
use lifeboat_model::{Drill, ExitCode, Failure, FailureKind, Request, ResourceName, Tri};
use serde_json::json;

use super::{App, carry::carry_out, requests::dry, sync::link_named};
use crate::{
    cli::versions::{DrillArg, RehearseCommand},
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
        RehearseCommand::Sync { test, link, target, resource, consent } => {
            let named = |name: &Option<String>| {
                name.as_deref()
                    .map(ResourceName::new)
                    .transpose()
                    .map_err(|error| Failure::from_error(FailureKind::Usage, &error))
            };
            let about = match test {
                DrillArg::Switch => Drill::Switch { link: link_named(&session, link.as_deref())? },
                DrillArg::Queue => Drill::Queue { link: link_named(&session, link.as_deref())? },
                DrillArg::Rollback => Drill::Rollback { target: named(target)? },
                DrillArg::Restore => Drill::Restore { resource: engine.drilled(named(resource)?)? },
            };
            carry_out(app, &session, &engine.plan(&Request::Drill { about })?, consent.consent())
        }
        RehearseCommand::List => list(app, &engine.rehearsals()?, &engine.drills()?, engine.is_drilled()),
        RehearseCommand::Attest { operation, point, word } => {
            let about = engine.rehearsal_about(operation, point)?;
            let plan = engine.plan(&Request::Attest { about, report: Vec::new(), note: word.note.clone() })?;
            carry_out(app, &session, &plan, dry(word.run.dry_run))
        }
    }
}

fn list(app: &App, all: &[Rehearsal], tried: &[DrillRecord], is_hybrid: bool) -> Done {
    let now = app.io.clock.now();
    // An app without a mirror owes none of the four tests.
    let owed = if is_hybrid || !tried.is_empty() { drills::due(tried, now).to_vec() } else { Vec::new() };
    let (due, is_due) = rehearsals::due(all, now);
    let advised = is_due || owed.iter().any(|one| one.is_due);
    let code = if advised { ExitCode::ActionAdvised } else { ExitCode::Ok };
    if app.ui.json.is_some() {
        let fields = json!({
            "rehearsals": all, "due": is_due, "next": due, "drills": tried, "drills_due": owed, "exit_code": code as u8,
        });
        app.ui.document("lifeboat/rehearsals@1", fields)?;
        return Ok(code);
    }
    let mut table = Table::new(&["REHEARSAL", "BEGUN (UTC)", "WHERE", "WAY", "TOOK", "PASSED"]).right(&[4]);
    let passed = |outcome| if outcome == Tri::Pass { "yes" } else { "no" }.to_owned();
    let mut rows: Vec<_> = all
        .iter()
        .map(|one| {
            (
                one.at,
                [one.operation.to_string(), one.scope.clone(), one.profile.word().to_owned()],
                one.took_ms,
                one.outcome,
            )
        })
        .collect();
    rows.extend(tried.iter().map(|one| {
        (one.at, [one.operation.to_string(), one.scope.clone(), format!("sync {}", one.test)], one.took_ms, one.outcome)
    }));
    rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    for (at, [operation, scope, way], took_ms, outcome) in rows {
        table.row([operation, words::short_instant(at), scope, way, words::took(took_ms), passed(outcome)]);
    }
    if !all.is_empty() || !tried.is_empty() {
        app.ui.out(&table.render(""))?;
    }
    if let Some(newest) = all.first() {
        app.ui.out(&format!("\n{}:\n{}", newest.operation, report::show_rehearsal(newest)))?;
    }
    app.ui.out(&format!("{due}\n"))?;
    for one in &owed {
        app.ui.out(&format!("Quarterly test {}\n", one.sentence(now)))?;
    }
    Ok(code)
}
