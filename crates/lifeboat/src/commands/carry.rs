//! From a plan to its end: show it, have it agreed to, carry it out, report.

use std::io::Write;

use lifeboat_engine::{RunError, Watch};
use lifeboat_io::Stop;
use lifeboat_model::{
    BackupChoice, Entry, ExitCode, Failure, FailureKind, Operation, OperationState, Plan, Request, choose_backup,
    plan::PLAN_SCHEMA,
    time::{show_age, since},
};
use serde_json::{Value, json};

use super::{App, Session};
use crate::{
    cli::JsonMode,
    error::{self, Done, Ended},
    ui::{ask, plan, progress::Progress, report},
    wire,
};

/// How far a person wants to go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Consent<'a> {
    /// Only look.
    pub dry_run: bool,
    /// What was typed behind `--confirm`.
    pub confirm: Option<&'a str>,
}

/// Carries out a plan, or only shows what it would do.
pub fn carry_out(app: &App, session: &Session, plan: &Plan, consent: Consent<'_>) -> Done {
    if consent.dry_run {
        return dry_run(app, session, plan);
    }
    if plan.steps().next().is_none() {
        return nothing_to_do(app, session, plan);
    }
    if ask::is_open(app, plan, consent.confirm) {
        app.ui.talk(&plan::show(plan, None, &session.zone, app.ui.paint_err));
    } else if ask::consequence(plan) != ask::Consequence::Harmless {
        // The steps follow as they happen; what leaves has to be said before.
        app.ui.talk(&plan::consequences(plan, &session.zone, app.ui.paint_err));
    }
    ask::agree(app, plan, consent.confirm)?;
    run(app, session, Goal::Forward, |watch, stop| session.engine.run(plan, &app.by(), watch, stop))
}

/// Where a person wants an operation to go. One that was to be put back and was has reached its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To its end.
    Forward,
    /// Back to where it began.
    Back,
}

/// Watches the engine at work and reports how it ended.
pub fn run(
    app: &App,
    session: &Session,
    goal: Goal,
    work: impl FnOnce(&dyn Watch, &Stop) -> Result<Operation, RunError>,
) -> Done {
    tell(app, session, &watched(app, session, work)?, goal)
}

/// Watches the engine at work.
pub fn watched(
    app: &App,
    session: &Session,
    work: impl FnOnce(&dyn Watch, &Stop) -> Result<Operation, RunError>,
) -> Result<Operation, Ended> {
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let watch = Progress::new(app.ui, app.io.clock.clone(), &stop);
    Ok(if app.ui.json == Some(JsonMode::Lines) {
        session.engine.tell_next(Box::new(print_line));
        work(&Lines { session }, &stop)?
    } else {
        work(&watch, &stop)?
    })
}

/// Watches work that is no operation: it changes nothing.
pub fn watched_by<T>(app: &App, work: impl FnOnce(&dyn Watch, &Stop) -> Result<T, Failure>) -> Result<T, Failure> {
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let watch = Progress::new(app.ui, app.io.clock.clone(), &stop);
    work(&watch, &stop)
}

/// A reader who has gone away must not stop an operation.
fn print_line(entry: &Entry) {
    let line = serde_json::to_string(entry).unwrap_or_default();
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Tells the first line of a new journal, which is written before anybody can listen to it.
struct Lines<'a> {
    session: &'a Session,
}

impl Watch for Lines<'_> {
    fn opened(&self, operation: &Operation) {
        if operation.lines == 1
            && let Ok(journal) = self.session.engine.look().journal(&operation.id)
        {
            journal.entries.first().into_iter().for_each(print_line);
        }
    }
}

/// Reports how an operation ended.
pub fn tell(app: &App, session: &Session, operation: &Operation, goal: Goal) -> Done {
    let is_put_back = matches!(operation.state, OperationState::PutBack { .. });
    let reached = goal == Goal::Back && is_put_back;
    let code = if reached { ExitCode::Ok } else { report::exit_of(operation) };
    match app.ui.json {
        Some(JsonMode::Document) => {
            let mut fields = report::document(operation);
            fields["exit_code"] = Value::from(code as u8);
            app.ui.document(report::OPERATION_SCHEMA, fields)?;
        }
        Some(JsonMode::Lines) => {}
        None if reached => {
            let (title, id) = (&operation.plan.title, &operation.id);
            app.ui.out(&format!("{} {title} (operation {id}).\n", app.ui.paint.good("Everything was put back:")))?;
        }
        None => match report::why(operation) {
            None => app.ui.out(&report::show(operation, app.again(), app.ui.paint))?,
            Some(why) => {
                error::tell_person(app, &another_backup(session, operation, why));
                app.ui.err(&report::show_trouble(operation, app.again()));
            }
        },
    }
    Ok(code)
}

/// A restore that found its backup damaged proposes the one before it, and says how much older that is. It never takes it
/// by itself.
fn another_backup(session: &Session, operation: &Operation, why: &Failure) -> Failure {
    let (Request::Restore { resource, .. }, Some(damaged)) = (&operation.plan.request, report::source(operation))
    else {
        return why.clone();
    };
    if why.kind != FailureKind::Damaged {
        return why.clone();
    }
    let backups = session.engine.backups().unwrap_or_default();
    let Some(bad) = backups.iter().find(|backup| &backup.id == damaged) else { return why.clone() };
    let scope = &session.engine.setup().scope;
    match choose_backup(&backups, scope, resource, &BackupChoice::Before(bad.recovery_point)) {
        Ok(older) => {
            let age = show_age(since(older.recovery_point, bad.recovery_point));
            let hint = format!(
                "{} is the good one before it, {age} older: lifeboat restore {resource} --from {}",
                older.id, older.id
            );
            why.clone().hint(hint)
        }
        Err(_none) => why.clone(),
    }
}

fn dry_run(app: &App, session: &Session, plan: &Plan) -> Done {
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let watch = Progress::new(app.ui, app.io.clock.clone(), &stop);
    let looked = session.engine.rehearse(plan, &watch, &stop)?;
    let code = plan::exit_of(&looked);
    if app.ui.json.is_some() {
        let found = plan.steps().zip(&looked).map(|(step, found)| match found {
            lifeboat_engine::Rehearsed::Checked => json!({ "step": step.id, "found": "checked" }),
            lifeboat_engine::Rehearsed::NotTried => json!({ "step": step.id, "found": "not-tried" }),
            lifeboat_engine::Rehearsed::Fails(failure) => {
                json!({ "step": step.id, "found": "would-fail", "failure": failure })
            }
        });
        let extra = json!({ "dry_run": true, "exit_code": code as u8, "found": found.collect::<Vec<_>>() });
        print_plan(app, plan, extra)?;
    } else {
        app.ui.out(&plan::show(plan, Some(&looked), &session.zone, app.ui.paint))?;
        app.ui.out("\nNothing was changed.\n")?;
    }
    Ok(code)
}

fn nothing_to_do(app: &App, session: &Session, plan: &Plan) -> Done {
    if app.ui.json.is_some() {
        print_plan(app, plan, json!({ "nothing_to_do": true, "exit_code": 0 }))?;
    } else {
        app.ui.out(&plan::show(plan, None, &session.zone, app.ui.paint))?;
        app.ui.out("\nThere is nothing to do.\n")?;
    }
    Ok(ExitCode::Ok)
}

/// A plan as a document, with some more fields.
pub fn print_plan(app: &App, plan: &Plan, extra: Value) -> Result<(), Ended> {
    let mut fields = serde_json::to_value(plan).map_err(|error| {
        Failure::new(lifeboat_model::FailureKind::Bug, "a plan cannot be written").because(error.to_string())
    })?;
    if let (Value::Object(fields), Value::Object(extra)) = (&mut fields, extra) {
        fields.extend(extra);
    }
    app.ui.document(PLAN_SCHEMA, fields)?;
    Ok(())
}
