//! `env`: an env file beside backups of it. Names and fingerprints, never values.

use lifeboat_engine::variables::Changed;
use lifeboat_model::{BackupChoice, EnvAsk, ExitCode, Request, ResourceName, VersionAsk};
use serde_json::json;

use super::{App, Session, asks::choice, carry::carry_out};
use crate::{
    cli::records::EnvCommand,
    error::Done,
    ui::{when, words},
};

pub fn run(app: &App, command: &EnvCommand) -> Done {
    let resource = match command {
        EnvCommand::Diff { resource, .. } | EnvCommand::History { resource } => resource,
        EnvCommand::Restore { resource, .. } => resource,
    };
    let named: Vec<String> = resource.iter().cloned().collect();
    let session = app.open(&named)?;
    let name = session.named.first();
    match command {
        EnvCommand::Diff { from, before, .. } => {
            let choice = match (from, before) {
                (Some(start), _) => BackupChoice::Exactly(session.engine.find_backup(start)?.id),
                (None, Some(text)) => BackupChoice::Before(when::parse(text, app.io.clock.now(), &session.zone)?),
                (None, None) => BackupChoice::Latest,
            };
            diff(app, &session, name, &choice)
        }
        EnvCommand::Restore { keys, from, before, keep_new, reason, consent, .. } => {
            let ask = EnvAsk {
                resource: name.cloned(),
                from: choice(app, &session, from.as_deref(), before.as_deref())?,
                keys: keys.clone(),
                keep_new: *keep_new,
                why: reason.clone(),
            };
            let plan = session.engine.plan(&Request::Version { about: VersionAsk::Env(Box::new(ask)) })?;
            carry_out(app, &session, &plan, consent.consent())
        }
        EnvCommand::History { .. } => history(app, &session, name),
    }
}

fn diff(app: &App, session: &Session, name: Option<&ResourceName>, from: &BackupChoice) -> Done {
    let resource = session.engine.env_file(name)?;
    let diff = session.engine.env_diff(resource, from)?;
    let code = if diff.changed.is_empty() { ExitCode::Ok } else { ExitCode::ActionAdvised };
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/env-diff@1", json!({ "diff": diff, "exit_code": code as u8 }))?;
        return Ok(code);
    }
    let mut out = format!(
        "{} beside {} ({}): {} as then, {} not\n",
        diff.resource,
        diff.backup,
        words::instant(diff.recovery_point, &session.zone),
        diff.same,
        diff.changed.len()
    );
    diff.changed.iter().for_each(|changed| out += &line(changed));
    app.ui.out(&out)?;
    Ok(code)
}

fn line(changed: &Changed) -> String {
    let name = words::one_line(&changed.name);
    match (&changed.then, &changed.now) {
        (Some(then), Some(now)) => format!("  ~ {name}  {then} -> {now}\n"),
        (None, Some(now)) => format!("  + {name}  {now}\n"),
        (Some(then), None) => format!("  - {name}  {then}\n"),
        (None, None) => String::new(),
    }
}

fn history(app: &App, session: &Session, name: Option<&ResourceName>) -> Done {
    let resource = session.engine.env_file(name)?;
    let history = session.engine.env_history(resource)?;
    if app.ui.json.is_some() {
        let fields = json!({ "resource": resource.name, "backups": history, "exit_code": 0 });
        app.ui.document("lifeboat/env-history@1", fields)?;
        return Ok(ExitCode::Ok);
    }
    let mut out = String::new();
    for then in &history {
        let variables = words::count(then.variables as u64, "variable", "variables");
        out += &format!("{}  {}  {variables}\n", then.backup, words::instant(then.recovery_point, &session.zone));
        then.changed.iter().for_each(|changed| out += &line(changed));
    }
    match out.is_empty() {
        true => app.ui.talk(&format!("No backup holds {}: lifeboat backup.\n", resource.name)),
        false => app.ui.out(&out)?,
    }
    Ok(ExitCode::Ok)
}
