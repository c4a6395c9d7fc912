//! What the settings ask of a database on a server: critical tables, questions of their own.

use std::collections::BTreeMap;

use lifeboat_io::database::postgres::{self, Address, Session};
use lifeboat_model::{Check, FailureClass, Resource, Tri};

/// What the settings say about tables: critical ones are there and have rows, and not everything is empty.
pub(super) fn policy(resource: &Resource, rows: &BTreeMap<String, u64>) -> Vec<Check> {
    let mut checks: Vec<Check> = resource.critical_tables.iter().map(|table| critical(table, rows)).collect();
    let empty = !rows.is_empty() && rows.values().all(|rows| *rows == 0);
    if empty && !resource.may_be_empty.iter().any(|name| name == "*") {
        checks.push(Check::new("emptiness", Tri::Fail, "every table is empty"));
    }
    checks
}

/// Looks at a live database: constraints and indexes that the server knows to be unfit, critical tables, the questions of
/// the settings. Nothing is written. How many rows each table has is told as well, when it could be counted.
pub(crate) fn verify(
    address: &Address,
    resource: &Resource,
    stop: &lifeboat_io::Stop,
    counted: &mut BTreeMap<String, u64>,
) -> Vec<Check> {
    let mut session = match Session::open(address, stop) {
        Ok(session) => session,
        Err(error) => {
            // A server that does not answer says nothing about its data; one that says its disk lost some does.
            let (outcome, what) = match error.class() {
                Some(FailureClass::Connection) => (Tri::Unknown, "unreachable, which says nothing about the data: "),
                Some(FailureClass::Damage) => (Tri::Fail, "damaged: "),
                _ => (Tri::Unknown, ""),
            };
            return vec![Check::new("connection", outcome, format!("{what}{error}; {}", error.next_step()))];
        }
    };
    let mut checks = vec![Check::new("connection", Tri::Pass, address.to_string())];
    checks.extend(postgres::check_database(&mut session));
    match postgres::count_rows(&mut session) {
        Ok(rows) => {
            checks.extend(policy(resource, &rows));
            *counted = rows;
        }
        Err(error) => {
            let damaged = error.class() == Some(FailureClass::Damage);
            let outcome = if damaged { Tri::Fail } else { Tri::Unknown };
            checks.push(Check::new("rows", outcome, format!("{error}; {}", error.next_step())));
        }
    }
    checks.extend(resource.checks.iter().map(|(name, question)| ask(&mut session, name, question)));
    checks
}

fn critical(table: &str, rows: &BTreeMap<String, u64>) -> Check {
    let name = format!("table {table}");
    match rows.get(table).or_else(|| rows.get(&format!("public.{table}"))) {
        Some(0) => Check::new(name, Tri::Fail, "it is critical, and empty"),
        Some(count) => Check::new(name, Tri::Pass, format!("{count} rows")),
        None => Check::new(name, Tri::Fail, "it is critical, and not there"),
    }
}

/// A person's question, in a transaction that cannot write.
pub(super) fn ask(session: &mut Session, name: &str, question: &lifeboat_model::SqlCheck) -> Check {
    let answer = match postgres::ask_question(session, &question.sql) {
        Ok(Some(answer)) => answer,
        Ok(None) => return Check::new(name, Tri::Unknown, "the question has no answer"),
        Err(error) => return Check::new(name, Tri::Unknown, error.to_string()),
    };
    let number = answer.trim().parse::<f64>().ok();
    let enough = question.min.is_none_or(|min| number.is_some_and(|number| number >= min as f64));
    let ratio = question.percent.is_none_or(|least| number.is_some_and(|number| number >= f64::from(least)));
    let equal = question.equals.as_ref().is_none_or(|wanted| *wanted == answer);
    let mut wrong = Vec::new();
    wrong.extend(question.min.filter(|_| !enough).map(|min| format!("at least {min}")));
    wrong.extend(question.equals.as_ref().filter(|_| !equal).map(|wanted| format!("exactly {wanted}")));
    wrong.extend(question.percent.filter(|_| !ratio).map(|least| format!("at least {least} %")));
    let silent = question.min.is_none() && question.equals.is_none() && question.percent.is_none();
    match (silent, wrong.is_empty()) {
        (true, _) => Check::new(name, Tri::Unknown, format!("{answer}; it has none of `min`, `equals` and `percent`")),
        (false, true) => Check::new(name, Tri::Pass, answer),
        (false, false) => Check::new(name, Tri::Fail, format!("{answer}; it must be {}", wrong.join(" and "))),
    }
}
