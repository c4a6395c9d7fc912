//! `backups compromised`: secrets that got into wrong hands.

use lifeboat_model::{ExitCode, Failure, FailureKind, Request};
use serde_json::json;

use super::{App, Session, carry::carry_out, requests::dry};
use crate::{
    cli::records::CompromisedArgs,
    error::Done,
    ui::{table::Table, when, words},
};

pub fn run(app: &App, args: &CompromisedArgs) -> Done {
    let session = app.open(&[])?;
    let Some(secret) = args.secret.clone() else { return list(app, &session) };
    let now = app.io.clock.now();
    let time = |text: &Option<String>| text.as_deref().map(|text| when::parse(text, now, &session.zone)).transpose();
    let (since, before) = (time(&args.since)?, time(&args.before)?.unwrap_or(now));
    if since.is_some_and(|since| since >= before) {
        let failure = Failure::new(FailureKind::Usage, "there is no time between --since and --before");
        return Err(failure.hint("--since comes before --before").into());
    }
    let why = args.reason.clone().unwrap_or_default();
    let request = Request::Compromise { secret, since, before, why, withdrawn: args.withdraw };
    let plan = session.engine.plan(&request)?;
    let code = carry_out(app, &session, &plan, dry(args.run.dry_run))?;
    if !args.run.dry_run && app.ui.json.is_none() {
        let backups = session.engine.backups()?;
        let held = session.engine.compromised(&backups)?.len();
        let told = words::count(held as u64, "backup holds", "backups hold");
        app.ui.talk(&format!("{told} compromised values; env files are not restored from them.\n"));
    }
    Ok(code)
}

fn list(app: &App, session: &Session) -> Done {
    let leaks = session.engine.leaks()?;
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/compromised@1", json!({ "secrets": leaks, "exit_code": 0 }))?;
        return Ok(ExitCode::Ok);
    }
    if leaks.is_empty() {
        app.ui.talk("Nothing was said about any secret.\n");
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["SECRET", "FROM (UTC)", "UNTIL (UTC)", "WHY"]);
    for leak in &leaks {
        let since = leak.since.map_or_else(|| "the first backup".to_owned(), words::short_instant);
        table.row([leak.secret.clone(), since, words::short_instant(leak.before), words::one_line(&leak.why)]);
    }
    app.ui.out(&table.render(""))?;
    Ok(ExitCode::Ok)
}

/// What is said in a list about a backup that holds such values.
pub fn in_backup(names: Option<&Vec<String>>) -> String {
    names.map(|names| format!(", holds compromised {}", names.join(", "))).unwrap_or_default()
}
