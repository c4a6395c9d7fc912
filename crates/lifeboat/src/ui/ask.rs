//! Confirmation by consequence: what a plan would do decides what a person is asked, not which command it came from.

use std::io::BufRead;

use lifeboat_engine::consequence as plan;
pub use lifeboat_engine::consequence::{Consequence, consequence};
use lifeboat_model::{Failure, FailureKind, Plan, Request};

use super::words;
use crate::app::App;

/// Whether a person will be asked, or told what is missing; then the whole plan should be seen first.
pub fn is_open(app: &App, plan: &Plan, confirm: Option<&str>) -> bool {
    match consequence(plan) {
        Consequence::Harmless => false,
        Consequence::Reversible => !app.global.yes && confirm.is_none(),
        Consequence::RowsLeave | Consequence::ForGood => confirm.is_none(),
    }
}

/// Makes sure that somebody agrees to the plan, which has been shown already where a person is asked.
///
/// # Errors
/// [`FailureKind::NeedsPerson`] with what to type, when nobody does.
pub fn agree(app: &App, plan: &Plan, confirm: Option<&str>) -> Result<(), Failure> {
    let scope = plan.scope.to_string();
    if let Some(other) = confirm.filter(|said| *said != scope) {
        let message = format!("--confirm says {other}, but this plan works on {scope}");
        return Err(Failure::new(FailureKind::NeedsPerson, message).hint("make sure which one is meant"));
    }
    let says = what_it_does(plan);
    match consequence(plan) {
        Consequence::Harmless => Ok(()),
        Consequence::Reversible if app.global.yes || confirm.is_some() => Ok(()),
        Consequence::Reversible => {
            if app.ui.can_ask && question(app, &format!("{says}. Go on? [y/N] "))?.eq_ignore_ascii_case("y") {
                return Ok(());
            }
            Err(missing(&says, &format!("{} --yes", app.typed)))
        }
        Consequence::RowsLeave | Consequence::ForGood => {
            if confirm.is_some() {
                return Ok(());
            }
            if app.ui.can_ask && question(app, &format!("{says}.\nType {scope} to go on: "))? == scope {
                return Ok(());
            }
            Err(missing(&says, &format!("{} --confirm {}", app.typed, words::quoted(&scope))))
        }
    }
}

/// Makes sure that somebody agrees to what can be taken back, where there is no plan yet.
///
/// # Errors
/// As [`agree`].
pub fn agree_to(app: &App, scope: &lifeboat_model::Scope, says: &str, confirm: Option<&str>) -> Result<(), Failure> {
    if app.global.yes || confirm == Some(&scope.to_string()) {
        return Ok(());
    }
    if app.ui.can_ask && question(app, &format!("{says}. Go on? [y/N] "))?.eq_ignore_ascii_case("y") {
        return Ok(());
    }
    Err(missing(says, &format!("{} --yes", app.typed)))
}

fn missing(says: &str, command: &str) -> Failure {
    Failure::new(FailureKind::NeedsPerson, format!("{says}, and nobody has agreed to that; nothing was changed"))
        .hint(command)
}

fn what_it_does(plan: &Plan) -> String {
    let scope = &plan.scope;
    match &plan.request {
        Request::Restore { resource, .. } => {
            let (rows, tables) = (plan::rows_leaving(plan), plan::tables_leaving(plan));
            let mut leave = Vec::new();
            leave.extend((rows > 0).then(|| words::count(rows, "row", "rows")));
            leave.extend((tables > 0).then(|| words::count(tables, "table", "tables")));
            let changed = plan::tables_changed(plan);
            if leave.is_empty() && changed > 0 {
                let tables = words::count(changed, "table", "tables");
                return format!("this replaces {resource} of {scope}, and changed values in {tables} leave it");
            }
            if leave.is_empty() {
                return format!("this replaces {resource} of {scope}");
            }
            let verb = if rows + tables == 1 { "leaves" } else { "leave" };
            format!("this replaces {resource} of {scope}, and {} {verb} it", leave.join(" and "))
        }
        Request::Undo { operation } => format!("this takes back {operation} in {scope}"),
        Request::Retention => format!("this takes backups of {scope} off the list"),
        Request::Prune => format!("this deletes for good what no backup of {scope} needs"),
        Request::Release { operation } => format!("this deletes for good what {operation} set aside in {scope}"),
        Request::Backup { .. } | Request::Prove { .. } | Request::Mark { .. } => plan.title.clone(),
        Request::Shadow { .. } | Request::Send { .. } => plan.title.clone(),
        Request::Export { .. } | Request::Adopt { .. } | Request::Copy { .. } => plan.title.clone(),
        Request::Compromise { .. } | Request::Attest { .. } | Request::Incident { .. } => plan.title.clone(),
        Request::Decide { .. } | Request::Provider { .. } => plan.title.clone(),
        Request::Sync { .. } => format!("this changes the mirror of {scope}: {}", plan.title),
        Request::Version { .. } => {
            let rows = plan::rows_leaving(plan);
            let leave = (rows > 0).then(|| format!(", and {} leave", words::count(rows, "row", "rows")));
            format!("this changes what runs in {scope}: {}{}", plan.title, leave.unwrap_or_default())
        }
        Request::Policy { table, .. } => format!("this changes who sees what of {table} in {scope}: {}", plan.title),
        Request::Drill { .. } => format!("this tries something in {scope}, and puts it back: {}", plan.title),
        Request::Feature { .. } => format!("this changes what {scope} does for everybody: {}", plan.title),
        Request::Level { .. } => format!("this changes what runs in {scope}: {}", plan.title),
        Request::RestoreTable { table, .. } => format!("this inserts rows of a backup into {table} of {scope}"),
        Request::BringBack { operation, .. } => format!("this inserts rows of {operation} into {scope}"),
        Request::Maintenance { .. } => format!("this closes {scope} for everybody who comes through the gateway"),
        Request::Fence { resource, .. } => format!("this refuses every write to {resource} of {scope}"),
    }
}

/// Asks a person, and gives the answer.
///
/// # Errors
/// The answer cannot be read.
pub fn question(app: &App, text: &str) -> Result<String, Failure> {
    let mut first = text.chars();
    let text: String = first.next().into_iter().flat_map(char::to_uppercase).chain(first).collect();
    app.ui.err(&format!("\n{text}"));
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(_) => Ok(answer.trim().to_owned()),
        Err(error) => {
            Err(Failure::from_error(FailureKind::NeedsPerson, &error).while_doing("the answer cannot be read"))
        }
    }
}
