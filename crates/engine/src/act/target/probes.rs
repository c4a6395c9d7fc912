//! Looking whether the application works: paths that must answer, new lines of its log, a record made and taken away.

use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
    time::Duration,
};

use lifeboat_io::{HttpAnswer, HttpRequest, ask_over_http, database::sqlite::Outbox, files};
use lifeboat_model::{Failure, FailureKind, Target, TargetAction, Trial, variables::value_of};
use serde_json::{Value, json};

use super::Hands;
use crate::{
    act::{path_failure, sqlite_failure},
    perform::Context,
};

/// How long is waited between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// So much of a log's new end is read.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// So many lines of it are told.
const LINES_MAX: usize = 5;
/// Words that a line of trouble has.
const TROUBLE: [&str; 6] = ["error", "fatal", "panic", "unhandled", "uncaught", "traceback"];

pub(super) fn perform(
    hands: &Hands,
    target: &Target,
    action: &TargetAction,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    match action {
        TargetAction::Probe { paths, limit_ms } => {
            let url = url_of(target)?;
            for path in paths {
                until(hands, *limit_ms, context, &|| {
                    let answer = get(&format!("{url}{path}"))?;
                    match (200..300).contains(&answer.status) {
                        true => Ok(()),
                        false => Err(format!("{path} answers with {}", answer.status)),
                    }
                })
                .map_err(|why| not_working(target, why))?;
            }
            Ok(json!({ "probes": paths }))
        }
        TargetAction::ScanLog { file, from } => scan(target, file, *from),
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

fn get(url: &str) -> Result<HttpAnswer, String> {
    ask_over_http(&HttpRequest { method: "GET", url, headers: &[], body: None })
}

/// Looks again and again until it is well, or the time is over; then why it was not.
fn until(
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

fn not_working(target: &Target, why: String) -> Failure {
    let failure = Failure::new(FailureKind::Refused, format!("{} does not work", target.name)).because(why);
    match &target.log {
        Some(log) => failure.hint(format!("look into {}", log.display())),
        None => failure.hint("look into its log"),
    }
}

/// Only lines that are new: what stood there before is another story.
fn scan(target: &Target, file: &Path, from: u64) -> Result<Value, Failure> {
    if !files::exists(file) {
        return Ok(json!({ "lines": 0 }));
    }
    let size = files::size(file).map_err(|error| path_failure(&error))?;
    // A log that is shorter than before was begun anew.
    let begin = if size < from { 0 } else { from }.max(size.saturating_sub(LOG_BYTES_MAX));
    let mut opened = files::open(file).map_err(|error| path_failure(&error))?;
    let mut read = Vec::new();
    let got = opened.seek(SeekFrom::Start(begin)).and_then(|_| opened.take(LOG_BYTES_MAX).read_to_end(&mut read));
    got.map_err(|error| {
        Failure::from_error(FailureKind::Outside, &error).while_doing(format!("cannot read {}", file.display()))
    })?;
    let text = String::from_utf8_lossy(&read);
    let is_trouble = |line: &&str| {
        let line = line.to_ascii_lowercase();
        TROUBLE.iter().any(|word| line.contains(word))
    };
    let found: Vec<&str> = text.lines().filter(is_trouble).collect();
    if found.is_empty() {
        return Ok(json!({ "lines": text.lines().count() }));
    }
    // How many there are; what they say may hold anything, and stays in the log.
    let message = format!("{} new lines of {} tell of errors", found.len(), file.display());
    let at: Vec<String> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| is_trouble(line))
        .take(LINES_MAX)
        .map(|(at, _)| format!("{}", at + 1))
        .collect();
    let failure = Failure::new(FailureKind::Refused, message);
    Err(failure.because(format!("new lines {} since {} was changed", at.join(", "), target.name)))
}

/// Logs in, makes a record through the app, finds it in the file, and takes it away again.
fn try_out(hands: &Hands, target: &Target, file: &Path) -> Result<Value, Failure> {
    let Some(trial) = &target.trial else { return Ok(json!({})) };
    let url = url_of(target)?;
    let count = || -> Result<u64, Failure> {
        let outbox = Outbox::open(file).map_err(|error| sqlite_failure(&error))?;
        outbox.count(&trial.table).map_err(|error| sqlite_failure(&error))
    };
    let before = count()?;
    let token = login(hands, target, trial, url)?;
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let create = format!("{url}{}", trial.create);
    let made =
        asked(&HttpRequest { method: "POST", url: &create, headers: &headers, body: Some(&trial.body) }, target)?;
    let id = first(&made, &["/data/id", "/id"])
        .ok_or_else(|| not_working(target, format!("{} made a record and does not say its id", trial.create)))?;
    let found = count()?;
    let remove = format!("{create}/{id}");
    asked(&HttpRequest { method: "DELETE", url: &remove, headers: &headers, body: None }, target)?;
    let after = count()?;
    match (found == before + 1, after == before) {
        (true, true) => Ok(json!({ "created": id, "rows": after })),
        (false, _) => {
            Err(not_working(target, format!("a record was made and {} has {found} rows after {before}", trial.table)))
        }
        (true, false) => {
            let why = format!("the record {id} of the try is still in {}", trial.table);
            Err(not_working(target, why).hint(format!("take record {id} out of {} by hand", trial.table)))
        }
    }
}

fn login(hands: &Hands, target: &Target, trial: &Trial, url: &str) -> Result<String, Failure> {
    let file = target.env_file.as_ref().map(|file| files::read_text(file).unwrap_or_default()).unwrap_or_default();
    let variable = |name: &str| {
        let set = hands.io.env.var(name).and_then(|value| value.into_string().ok());
        set.or_else(|| value_of(&file, name)).ok_or_else(|| {
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
