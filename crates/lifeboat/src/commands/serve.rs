//! `serve` and `token`: the daemon, and who may use it.

use std::sync::Arc;

use lifeboat_io::Stop;
use lifeboat_model::{ExitCode, Failure, FailureKind};
use lifeboat_web::{Daemon, Worker};
use serde_json::json;

use super::App;
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
    let workers = session.engine.setup().links.iter().map(|link| Arc::new(Worker::new(link.name.clone()))).collect();
    let scope = session.engine.setup().scope.to_string();
    let daemon = Daemon {
        engine: Arc::new(session.engine),
        tokens,
        workers,
        trusts_loopback: !args.require_token,
        version: env!("CARGO_PKG_VERSION"),
    };
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    lifeboat_web::serve(Arc::new(daemon), args.listen, &stop, |listening| {
        app.ui.talk(&format!("Serving {scope} on http://{listening} until it is ended (Ctrl-C).\n"));
    })?;
    app.ui.talk("Ended.\n");
    Ok(ExitCode::Ok)
}

pub fn token(app: &App, args: &TokenArgs) -> Done {
    let session = app.open(&[])?;
    let tokens = wire::tokens(&session.engine);
    let failed = |error: TokenError| token_failure(&error);
    match &args.command {
        TokenCommand::Add { name, role } => {
            let role = Role::of(role).unwrap_or(Role::Viewer);
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
            tokens.revoke(name).map_err(failed)?;
            app.ui.talk(&format!("The token of {name} is worthless from now on.\n"));
        }
    }
    Ok(ExitCode::Ok)
}

fn token_failure(error: &TokenError) -> Failure {
    let kind = match error {
        TokenError::Taken { .. } | TokenError::Unknown { .. } => FailureKind::Usage,
        TokenError::Json { .. } => FailureKind::Damaged,
        TokenError::Path(_) => FailureKind::Refused,
    };
    Failure::from_error(kind, error).hint("lifeboat token list")
}
