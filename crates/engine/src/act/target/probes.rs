//! Looking whether the application works: paths that must answer, new lines of its log, a record made and taken away.

use std::{cell::Cell, path::Path, time::Duration};

use lifeboat_io::{HttpRequest, ask_over_http, database::sqlite::Outbox, files, holders::Process, listeners};
use lifeboat_model::{Failure, FailureKind, Target, TargetAction, Trial, target::Question, variables::value_of};
use serde_json::{Value, json};

use super::{Hands, log};
use crate::{
    act::{path_failure, sqlite_failure},
    perform::Context,
    questions, targets,
};

/// So many looks at all paths, one after the other, have to be well.
const STEADY: u32 = 2;
/// How long is waited between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an app that has been started may take to begin its log.
const LOG_LIMIT_MS: u64 = 10_000;
/// How long an app that has been stopped may take to leave its port.
const PORT_LIMIT_MS: u64 = 10_000;

pub(super) fn perform(
    hands: &Hands,
    target: &Target,
    action: &TargetAction,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    match action {
        TargetAction::CheckPort { port } => {
            until(hands, PORT_LIMIT_MS, context, &|| is_free(*port)).map_err(|why| {
                let message = format!("{} was stopped, and its port {port} is not free", target.name);
                let failure = Failure::new(FailureKind::Busy, message).because(why);
                failure.hint("look what that is; end it by hand if it may end, or correct stop of the target")
            })?;
            Ok(json!({ "free": port }))
        }
        TargetAction::Probe { paths, limit_ms } => {
            let url = if paths.is_empty() { "" } else { url_of(target)? };
            let look = |path: &String| targets::probe(url, path);
            let put = |question: &Question| questions::ask(&*hands.vaults, question, context.stop);
            for path in paths {
                until(hands, *limit_ms, context, &|| look(path)).map_err(|why| not_working(target, why))?;
            }
            for question in &target.questions {
                until(hands, *limit_ms, context, &|| put(question)).map_err(|why| not_working(target, why))?;
            }
            // Once is no proof: an app that falls over at its first request has answered it.
            let stopped = |_stopped| not_working(target, "broken off on request".to_owned());
            hands.io.clock.sleep(PAUSE, context.stop).map_err(stopped)?;
            let in_a_row = Cell::new(1);
            let again = || {
                let looked = paths.iter().try_for_each(look).and_then(|()| target.questions.iter().try_for_each(put));
                in_a_row.set(if looked.is_ok() { in_a_row.get() + 1 } else { 0 });
                match (looked, in_a_row.get() >= STEADY) {
                    (Ok(()), false) => Err(format!("it does not answer {STEADY} times in a row")),
                    (looked, _) => looked,
                }
            };
            until(hands, *limit_ms, context, &again).map_err(|why| not_working(target, why))?;
            Ok(json!({ "probes": paths }))
        }
        TargetAction::ScanLog { file, from, identity } => {
            let there = until(hands, LOG_LIMIT_MS, context, &|| match files::is_file(file) {
                true => Ok(()),
                false => Err(format!("{} is no file", file.display())),
            });
            there.map_err(|why| log::cannot_tell(target, file, why))?;
            log::scan(target, file, *from, *identity, context.stop)
        }
        TargetAction::Try { file } => try_out(hands, target, file),
        _other => Err(Failure::new(FailureKind::Bug, "this is no look")),
    }
}

fn url_of(target: &Target) -> Result<&str, Failure> {
    target.url.as_deref().map(|url| url.trim_end_matches('/')).ok_or_else(|| {
        let failure = Failure::new(FailureKind::Usage, format!("nobody has said where {} answers", target.name));
        failure.hint("write url = \"http://127.0.0.1:3002\" into its table in lifeboat.toml")
    })
}

/// A stranger there would answer in the app's place and pass for it. We ourselves may be the gateway before it.
fn is_free(port: u16) -> Result<(), String> {
    let listeners = listeners::listeners(port).map_err(|error| format!("it cannot be told who has it: {error}"))?;
    let ours = |process: &&Process| process.pid != std::process::id() && process.name != "lifeboat";
    let others: Vec<String> = listeners.found.iter().filter(ours).map(ToString::to_string).collect();
    match (others.as_slice(), listeners.unseen) {
        ([], false) => Ok(()),
        ([], true) => Err("a process of another user has it".to_owned()),
        (others, _) => Err(format!("{} has it", others.join(", "))),
    }
}

/// Looks again and again until it is well, or the time is over; then why it was not.
pub(in crate::act) fn until(
    hands: &Hands,
    limit_ms: u64,
    context: &Context<'_>,
    look: &dyn Fn() -> Result<(), String>,
) -> Result<(), String> {
    let began = hands.io.clock.elapsed();
    loop {
        let Err(why) = look() else { return Ok(()) };
        if hands.io.clock.elapsed().saturating_sub(began) >= Duration::from_millis(limit_ms) {
            return Err(why);
        }
        hands.io.clock.sleep(PAUSE, context.stop).map_err(|_stopped| "broken off on request".to_owned())?;
    }
}

pub(super) fn not_working(target: &Target, why: String) -> Failure {
    let failure = Failure::new(FailureKind::Refused, format!("{} does not work", target.name)).because(why);
    match &target.log {
        Some(log) => failure.hint(format!("look into {}", log.display())),
        None => failure.hint("look into its log"),
    }
}

/// Logs in, makes a record through the app, finds it in the file, and takes it away again.
fn try_out(hands: &Hands, target: &Target, file: &Path) -> Result<Value, Failure> {
    let Some(trial) = &target.trial else { return Ok(json!({})) };
    let url = url_of(target)?;
    let outbox = Outbox::open(file).map_err(|error| sqlite_failure(&error))?;
    let count = || outbox.count(&trial.table).map_err(|error| sqlite_failure(&error));
    let before = count()?;
    let token = login(hands, target, trial, url)?;
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let create = format!("{url}{}", trial.create);
    let made = asked(&HttpRequest { method: "POST", url: &create, headers: &headers, body: Some(&trial.body) }, target);
    let made = made.and_then(|made| {
        let id = first(&made, &["/data/id", "/id"]);
        id.ok_or_else(|| not_working(target, format!("{} made a record and does not say its id", trial.create)))
    });
    let id = made.map_err(|failure| match count() {
        Ok(found) if found == before => failure,
        // It may have been made all the same.
        _ => failure.hint(format!("look whether a record of the try is left: {}", trial.body)),
    })?;
    // From here on there is a record that has to go again, whatever happens.
    let by_hand = |failure: Failure| {
        let key = key_of(&outbox, &trial.table).unwrap_or_else(|| "id".to_owned());
        failure.hint(format!(
            "take the record of the try out by hand, unless the whole level is taken back: sqlite3 {} 'DELETE FROM {} WHERE {key} = {}'",
            file.display(),
            trial.table,
            literal(&id),
        ))
    };
    let found = count().map_err(by_hand)?;
    let remove = format!("{create}/{id}");
    asked(&HttpRequest { method: "DELETE", url: &remove, headers: &headers, body: None }, target).map_err(
        |failure| {
            by_hand(failure)
                .while_doing(format!("the record {id} that was made to try {} is not taken out", target.name))
        },
    )?;
    let after = count().map_err(by_hand)?;
    match (found == before + 1, after == before) {
        (true, true) => Ok(json!({ "created": id, "rows": after })),
        (false, _) => {
            Err(not_working(target, format!("a record was made and {} has {found} rows after {before}", trial.table)))
        }
        (true, false) => {
            Err(by_hand(not_working(target, format!("the record {id} of the try is still in {}", trial.table))))
        }
    }
}

/// The column by which a record is found, when there is one such.
fn key_of(outbox: &Outbox, table: &str) -> Option<String> {
    let shapes = outbox.shapes().ok()?;
    match shapes.table(table)?.key_names().as_slice() {
        [only] => Some((*only).to_owned()),
        _ => None,
    }
}

/// An id as it stands in a statement inside of single quotes of a shell.
fn literal(id: &str) -> String {
    match id.bytes().all(|byte| byte.is_ascii_digit()) {
        true => id.to_owned(),
        false => format!("\"{}\"", id.replace('"', "")),
    }
}

fn login(hands: &Hands, target: &Target, trial: &Trial, url: &str) -> Result<String, Failure> {
    let variable = |name: &str| -> Result<String, Failure> {
        if let Some(value) = hands.io.env.var(name).and_then(|value| value.into_string().ok()) {
            return Ok(value);
        }
        let file = match &target.env_file {
            Some(file) if files::exists(file) => files::read_text(file).map_err(|error| {
                path_failure(&error).while_doing(format!("the try needs {name} to log in, and its file cannot be read"))
            })?,
            _ => String::new(),
        };
        value_of(&file, name).ok_or_else(|| {
            let failure =
                Failure::new(FailureKind::Usage, format!("{name} is not set, and the try needs it to log in"));
            failure.hint(format!("set {name}, or take trial out of the target in lifeboat.toml"))
        })
    };
    let body = json!({ "email": variable(&trial.email_env)?, "password": variable(&trial.password_env)? }).to_string();
    let at = format!("{url}{}", trial.login);
    let answer = asked(&HttpRequest { method: "POST", url: &at, headers: &[], body: Some(&body) }, target)?;
    let token = first(&answer, &["/data/token", "/token", "/data/accessToken", "/accessToken"]);
    token.ok_or_else(|| not_working(target, format!("{} gives no token", trial.login)))
}

fn asked(request: &HttpRequest<'_>, target: &Target) -> Result<Value, Failure> {
    let answer = ask_over_http(request).map_err(|why| not_working(target, why))?;
    match (200..300).contains(&answer.status) {
        true => Ok(serde_json::from_slice(&answer.body).unwrap_or_default()),
        false => Err(not_working(target, format!("{} {} answers with {}", request.method, request.url, answer.status))),
    }
}

fn first(answer: &Value, places: &[&str]) -> Option<String> {
    let found = places.iter().find_map(|place| answer.pointer(place))?;
    found.as_str().map(str::to_owned).or_else(|| found.as_i64().map(|number| number.to_string()))
}
