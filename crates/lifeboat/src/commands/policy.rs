//! `policy`: row-level security of a table on a server, listed, repaired, opened for a while, tried as somebody else.

use lifeboat_model::{
    ExitCode, Failure, FailureKind, Request, ResourceName,
    policy::{Guarded, PolicyAsk, PolicyChange, Seen},
};
use serde_json::{Map, Value, json};

use super::{App, Session, carry::carry_out, requests::dry};
use crate::{
    cli::servers::{PolicyArgs, PolicyCommand},
    error::Done,
    ui::{table::Table, words},
};

pub fn run(app: &App, args: &PolicyArgs) -> Done {
    let session = app.open(&[])?;
    let name = args.database.as_deref().map(ResourceName::new).transpose();
    let name = name.map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    let (database, url) = session.engine.guarded_database(name.as_ref())?;
    let plan = |table: &str, about| {
        let request = Request::Policy { database: database.clone(), table: in_schema(table), about };
        session.engine.plan(&request)
    };
    match &args.command {
        PolicyCommand::List { table } => list(app, &session.engine.policies(&url, &in_schema(table))?),
        PolicyCommand::Replace { table, name, using, check, command, roles, consent } => {
            let (name, using, check) = (name.clone(), using.clone(), check.clone());
            let command = command.as_deref().map(str::to_uppercase);
            let change = PolicyChange { name, command, roles: roles.clone(), using, check };
            carry_out(app, &session, &plan(table, PolicyAsk::Replace { change })?, consent.consent())
        }
        PolicyCommand::Open { table, how_long, roles, reason, consent } => {
            let for_ms = u64::try_from(how_long.as_millis()).unwrap_or(u64::MAX);
            let about = PolicyAsk::Open { roles: roles.clone(), for_ms, why: reason.clone() };
            carry_out(app, &session, &plan(table, about)?, consent.consent())
        }
        PolicyCommand::Close { table } => carry_out(app, &session, &plan(table, PolicyAsk::Close)?, dry(false)),
        PolicyCommand::Test { table, role, claims, own } => {
            let table = in_schema(table);
            test(app, &session, (&url, &table), (role, &claimed(claims)?), own)
        }
    }
}

/// A table without a schema is one of `public`, as in the documents.
fn in_schema(table: &str) -> String {
    if table.contains('.') { table.to_owned() } else { format!("public.{table}") }
}

fn claimed(claims: &[String]) -> Result<Map<String, Value>, Failure> {
    let one = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let value = serde_json::from_str(value).ok().filter(Value::is_number);
            let text = || Value::from(word[name.len() + 1..].to_owned());
            Ok((name.to_owned(), value.unwrap_or_else(text)))
        }
        _none => {
            Err(Failure::new(FailureKind::Usage, format!("{word} is no claim")).hint("write it as --claim NAME=VALUE"))
        }
    };
    claims.iter().map(one).collect()
}

fn list(app: &App, there: &Guarded) -> Done {
    let code = if there.is_on { ExitCode::Ok } else { ExitCode::ActionAdvised };
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/policies@1", json!({ "table": there, "exit_code": code as u8 }))?;
        return Ok(code);
    }
    let mut table = Table::new(&["POLICY", "FOR", "TO", "USING", "WITH CHECK"]);
    for one in &there.policies {
        let kind = if one.is_permissive { one.command.clone() } else { format!("{}, restricts", one.command) };
        let text = |text: &Option<String>| words::one_line(text.as_deref().unwrap_or("-"));
        table.row([words::one_line(&one.name), kind, one.roles.join(", "), text(&one.using), text(&one.check)]);
    }
    if !there.policies.is_empty() {
        app.ui.out(&table.render(""))?;
    }
    let (schema, name) = (&there.schema, &there.table);
    let is = match (there.is_on, there.policies.as_slice()) {
        (false, _) => {
            format!("OFF: every role that may read the table reads all of it: lifeboat policy close {schema}.{name}")
        }
        (true, []) => "on, and no policy lets anybody see a row".to_owned(),
        (true, _) => "on".to_owned(),
    };
    app.ui.out(&format!("Row-level security of {schema}.{name} is {is}.\n"))?;
    Ok(code)
}

fn test(
    app: &App,
    session: &Session,
    (url, table): (&str, &str),
    (role, claims): (&str, &Map<String, Value>),
    own: &str,
) -> Done {
    let seen = session.engine.policy_seen(url, table, role, claims, own)?;
    let (code, what) = match &seen {
        Seen { others_seen: 1.., .. } => (
            ExitCode::ActionAdvised,
            "Rows of others are visible: lifeboat policy list shows what lets them through.\n",
        ),
        // Nothing that could have been seen shows nothing.
        Seen { others: 0, .. } => (ExitCode::Unknown, "There are no rows of others, so that nothing is shown by it.\n"),
        Seen { own, own_seen, .. } if own_seen < own => {
            (ExitCode::ActionAdvised, "Rows of its own are hidden from it.\n")
        }
        _as_meant => (ExitCode::Ok, "It sees no rows but its own.\n"),
    };
    if app.ui.json.is_some() {
        let fields = json!({ "table": table, "role": role, "seen": seen, "exit_code": code as u8 });
        app.ui.document("lifeboat/policy-test@1", fields)?;
        return Ok(code);
    }
    let Seen { own, own_seen, others, others_seen, .. } = seen;
    app.ui.out(&format!(
        "{role} sees {own_seen} of {own} rows of its own, and {others_seen} of {others} of others in {table}.\n"
    ))?;
    app.ui.out(what)?;
    Ok(code)
}
