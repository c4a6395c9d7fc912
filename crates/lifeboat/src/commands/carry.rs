//! From a plan to its end: show it, have it agreed to, carry it out, report.

use std::io::Write;

use lifeboat_engine::{
    RunError, Watch,
    ways::{self, Handover, NextWay, Vendor},
};
use lifeboat_io::Stop;
use lifeboat_model::{
    BackupChoice, Entry, ExitCode, Failure, FailureKind, Operation, OperationState, Plan, Request, VersionAsk,
    choose_backup,
    plan::PLAN_SCHEMA,
    time::{show_age, since},
};
use serde_json::{Value, json};

use super::{App, Session};
use crate::{
    cli::JsonMode,
    error::{self, Done, Ended},
    ui::{ask, plan, progress::Progress, report, words},
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
    if let Some(code) = before(app, session, plan, consent)? {
        return Ok(code);
    }
    run(app, session, Goal::Forward, |watch, stop| session.engine.run(plan, &app.by(), watch, stop))
}

/// Looks, where only that is wished, and says how it ended; else shows the plan and has it agreed to.
fn before(app: &App, session: &Session, plan: &Plan, consent: Consent<'_>) -> Result<Option<ExitCode>, Ended> {
    if consent.dry_run {
        return dry_run(app, session, plan).map(Some);
    }
    if plan.steps().next().is_none() {
        return nothing_to_do(app, session, plan).map(Some);
    }
    if ask::is_open(app, plan, consent.confirm) {
        app.ui.talk(&plan::show(plan, None, &session.zone, app.ui.paint_err));
    } else if ask::consequence(plan) != ask::Consequence::Harmless {
        // The steps follow as they happen; what leaves has to be said before.
        app.ui.talk(&plan::consequences(plan, &session.zone, app.ui.paint_err));
    }
    ask::agree(app, plan, consent.confirm)?;
    Ok(None)
}

/// Carries out a restore or a rollback; when it fails and is put back, goes the next way that loses no more than was agreed to, and so on.
pub fn carry_out_any_way(app: &App, session: &Session, plan: &Plan, consent: Consent<'_>) -> Done {
    if let Some(code) = before(app, session, plan, consent)? {
        return Ok(code);
    }
    let (mut next, mut tried) = (plan.clone(), Vec::new());
    loop {
        let operation = watched(app, session, |watch, stop| session.engine.run(&next, &app.by(), watch, stop))?;
        let Some(why) = ways::put_back(&operation).cloned() else {
            return tell_way(app, session, &operation, &tried, None);
        };
        tried.push(operation);
        match session.engine.next_way(plan, &tried) {
            NextWay::Take { what, plan, passed_over } => {
                if app.ui.json.is_none() {
                    error::tell_person(app, &Failure { hint: None, ..why });
                    let last = tried.last().map(|last| report::show_trouble(last, app.again())).unwrap_or_default();
                    let over = passed_over.iter().map(|way| format!("Not tried: {way}.\n")).collect::<String>();
                    app.ui.err(&format!("{last}{over}Next way: {what}.\n"));
                }
                next = *plan;
            }
            NextWay::Stop { because, handover } => {
                let Some(last) = tried.pop() else { return Ok(ExitCode::FailedUndone) };
                let code = tell_way(app, session, &last, &tried, handover.as_ref())?;
                if app.ui.json.is_none() {
                    app.ui.err(&because.iter().map(|way| format!("Not tried: {way}.\n")).collect::<String>());
                    app.ui.err(&handover.as_ref().map(handed_over).unwrap_or_default());
                }
                return Ok(code);
            }
        }
    }
}

/// Reports how a rollback that is gone step by step ended. One that failed names the next way and its command: nothing begins that
/// nobody was asked about.
pub fn tell_with_next_way(app: &App, session: &Session, confirmed: &Plan, operation: &Operation) -> Done {
    if ways::put_back(operation).is_none() {
        return tell(app, session, operation, Goal::Forward);
    }
    let (because, handover, what) = match session.engine.next_way(confirmed, std::slice::from_ref(operation)) {
        NextWay::Take { what, plan, passed_over } => {
            let next = by_steps_again(&plan.request).into_iter().collect();
            (passed_over, Some(Handover { next, ..Handover::default() }), Some(what))
        }
        NextWay::Stop { because, handover } => (because, handover, None),
    };
    let code = tell_way(app, session, operation, &[], handover.as_ref())?;
    if app.ui.json.is_none() {
        app.ui.err(&because.iter().map(|way| format!("Not tried: {way}.\n")).collect::<String>());
        app.ui.err(&what.map(|what| format!("Next way: {what}.\n")).unwrap_or_default());
        app.ui.err(&handover.as_ref().map(handed_over).unwrap_or_default());
    }
    Ok(code)
}

/// The command for a rollback, step by step.
fn by_steps_again(request: &Request) -> Option<String> {
    let Request::Version { about: VersionAsk::RollBack { to, profile, backup, .. } } = request else { return None };
    let release = to.as_ref().map(|release| format!(" {release}")).unwrap_or_default();
    let how = match (profile, backup) {
        (_, Some(backup)) => format!(" --backup {backup}"), // a backup is named for a full one alone
        (Some(profile), None) => format!(" --profile {}", profile.word()),
        (None, None) => String::new(),
    };
    Some(format!("lifeboat rollback{release}{how} --manual"))
}

/// What a person takes over: where things stand, and what to type.
fn handed_over(handover: &Handover) -> String {
    let stands = handover.stands.iter().map(|line| format!("Stands: {line}.\n"));
    let next = handover.next.iter().map(|command| format!("Next: {command}\n"));
    let vendors = handover.vendors.iter().map(|vendor| {
        let Vendor { name, contact, evidence } = vendor;
        format!("When nothing of it helps: call {name} ({}), with {evidence}\n", words::one_line(contact))
    });
    stands.chain(next).chain(vendors).collect()
}

/// Reports how the last of several ways ended. One beside the live database, which somebody wanted replaced, has not reached its
/// goal.
fn tell_way(
    app: &App,
    session: &Session,
    operation: &Operation,
    tried: &[Operation],
    handover: Option<&Handover>,
) -> Done {
    let beside = match &operation.plan.request {
        Request::Restore { into: Some(name), .. } if !tried.is_empty() => Some(name.display().to_string()),
        _in_place => None,
    };
    let code = match (&beside, report::exit_of(operation)) {
        (Some(_), ExitCode::Ok | ExitCode::OverBudget) => ExitCode::FailedUndone,
        (_, code) => code,
    };
    if app.ui.json == Some(JsonMode::Document) {
        let mut fields = report::document(operation);
        fields["exit_code"] = Value::from(code as u8);
        if !tried.is_empty() {
            fields["tried"] = tried.iter().map(|one| json!({ "id": one.id, "why": report::why(one) })).collect();
        }
        if let Some(handover) = handover {
            fields["handover"] = json!(handover);
        }
        app.ui.document(report::OPERATION_SCHEMA, fields)?;
        return Ok(code);
    }
    let told = tell(app, session, operation, Goal::Forward)?;
    if let (Some(name), ExitCode::FailedUndone, None) = (beside, code, app.ui.json) {
        app.ui.err(&format!(
            "The live database is as it was: {} failed. What was restored is database {name}, where subscriptions, jobs and \
             web calls are switched off; point the app there, or remove the cause and restore again.\n",
            words::count(tried.len() as u64, "way to replace it", "ways to replace it")
        ));
        return Ok(code);
    }
    Ok(told)
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
