//! `serve` and `token`: the daemon, and who may use it.

use std::{
    io::Write,
    sync::{Arc, mpsc::sync_channel},
};

use lifeboat_io::Stop;
use lifeboat_model::{ExitCode, Failure, FailureKind};
use lifeboat_web::{Daemon, Gateway, Log};
use serde_json::json;

use super::{App, Session};
use crate::{
    cli::daemon::{ServeArgs, TokenArgs, TokenCommand},
    error::Done,
    ui::{table::Table, words},
    wire::{self, Role, TokenError},
};

pub fn serve(app: &App, args: &ServeArgs) -> Done {
    let session = app.open(&[])?;
    let tokens = wire::tokens(&session.engine);
    let has_tokens = !tokens.list().map_err(|error| token_failure(&error))?.is_empty();
    if !args.listen.ip().is_loopback() && !has_tokens {
        let message = format!("{} can be reached from other hosts, and there is no token yet", args.listen);
        let failure = Failure::new(FailureKind::Refused, message);
        return Err(failure.hint("lifeboat token add NAME --role operator, or listen on 127.0.0.1").into());
    }
    let mirrors = session.engine.setup().links.iter().map(|link| session.engine.mirror(Some(&link.name))?.be_worker());
    let _places = mirrors.collect::<Result<Vec<_>, Failure>>()?;
    let scope = session.engine.setup().scope.to_string();
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let gateway =
        session.engine.setup().upstream.as_ref().map(|app| Gateway::new(&app.url, app.patience)).transpose()?;
    let log = log(app);
    let mut daemon = Daemon::new(session.engine, tokens, env!("CARGO_PKG_VERSION"), &stop, log);
    daemon.gateway = gateway;
    daemon.trusts_loopback = !args.require_token;
    let behind =
        daemon.gateway.as_ref().map_or_else(String::new, |gateway| format!(", in front of {}", gateway.upstream()));
    lifeboat_web::serve(Arc::new(daemon), args.listen, |listening| {
        app.ui.talk(&format!("Serving {scope} on http://{listening}{behind} until it is ended (Ctrl-C).\n"));
    })?;
    app.ui.talk("Ended.\n");
    Ok(ExitCode::Ok)
}

/// Lines that may wait for somebody who reads standard error; more are dropped.
const LINES_MAX: usize = 1_024;

/// Standard error, which a service's supervisor keeps. Whoever does not read it holds nothing up.
fn log(app: &App) -> Log {
    let (lines, read) = sync_channel::<String>(LINES_MAX);
    if !app.global.quiet {
        std::thread::spawn(move || read.iter().for_each(|line| drop(writeln!(std::io::stderr(), "{line}"))));
    }
    let clock = app.io.clock.clone();
    Log::to(move |line| {
        let _ = lines.try_send(format!("{} {line}", clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")));
    })
}

pub fn token(app: &App, args: &TokenArgs) -> Done {
    let session = app.open(&[])?;
    let tokens = wire::tokens(&session.engine);
    let failed = |error: TokenError| token_failure(&error);
    match &args.command {
        TokenCommand::Add { name, role } => {
            let role = Role::of(role).unwrap_or(Role::Viewer);
            record(app, &session, "token-add", name, Some(role))?;
            let token = tokens.add(name, role, &*app.io.random, app.io.clock.now()).map_err(failed)?;
            if app.ui.json.is_some() {
                let fields = json!({ "name": name, "role": role, "token": token, "exit_code": 0 });
                app.ui.document("lifeboat/token@1", fields)?;
                return Ok(ExitCode::Ok);
            }
            app.ui.out(&format!("{token}\n"))?;
            app.ui.talk("It is kept nowhere and cannot be shown again.\n");
        }
        TokenCommand::List => {
            let all = tokens.list().map_err(failed)?;
            if app.ui.json.is_some() {
                let shown: Vec<_> = all
                    .iter()
                    .map(|one| json!({ "name": one.name, "role": one.role, "created_at": one.created_at }))
                    .collect();
                app.ui.document("lifeboat/tokens@1", json!({ "tokens": shown, "exit_code": 0 }))?;
                return Ok(ExitCode::Ok);
            }
            let mut table = Table::new(&["NAME", "ROLE", "SINCE (UTC)"]);
            for one in &all {
                let role = format!("{:?}", one.role).to_lowercase();
                table.row([one.name.clone(), role, words::short_instant(one.created_at)]);
            }
            match table.is_empty() {
                true => app.ui.talk("There is no token.\n"),
                false => app.ui.out(&table.render(""))?,
            }
        }
        TokenCommand::Revoke { name } => {
            record(app, &session, "token-revoke", name, None)?;
            tokens.revoke(name).map_err(failed)?;
            app.ui.talk(&format!("The token of {name} is worthless from now on.\n"));
        }
    }
    Ok(ExitCode::Ok)
}

/// Puts on record who is about to make or revoke whose token, in `audit.ndjson` of the state folder.
fn record(app: &App, session: &Session, what: &str, name: &str, role: Option<Role>) -> Result<(), Failure> {
    let line = json!({
        "schema": "lifeboat/audit@1", "at": app.io.clock.now(), "by": app.by(), "host": app.io.env.host(),
        "what": what, "name": name, "role": role,
    });
    let path = session.engine.state().root().join("audit.ndjson");
    let written = lifeboat_io::files::append_text(&path, &format!("{line}\n"));
    written
        .map_err(|error| Failure::from_error(FailureKind::Outside, &error).while_doing("nothing can be put on record"))
}

fn token_failure(error: &TokenError) -> Failure {
    let kind = match error {
        TokenError::Taken { .. } | TokenError::Unknown { .. } => FailureKind::Usage,
        TokenError::Json { .. } => FailureKind::Damaged,
        TokenError::Path(_) => FailureKind::Refused,
    };
    Failure::from_error(kind, error).hint("lifeboat token list")
}
