//! `feature`: what of the app is off, switched off, switched on again.

use lifeboat_model::{ExitCode, Failure, FailureKind, FeatureState, Request, ResourceName, feature};
use serde_json::json;

use super::{App, Session, carry::carry_out, requests::dry};
use crate::{
    cli::people::{FeatureArgs, FeatureCommand},
    error::Done,
    ui::{table::Table, words},
};

pub fn run(app: &App, args: &FeatureArgs) -> Done {
    let session = app.open(&[])?;
    let (name, on, why, dry_run) = match &args.command {
        FeatureCommand::List => return list(app, &session),
        FeatureCommand::Off { name, reason, run } => (name, false, reason.clone(), run.dry_run),
        FeatureCommand::On { name, reason, run } => (name, true, reason.clone().unwrap_or_default(), run.dry_run),
    };
    let feature = ResourceName::new(name.as_str())
        .map_err(|error| Failure::new(FailureKind::Usage, error.to_string()).hint("lifeboat feature list"))?;
    let incident = if on { None } else { session.engine.open_incident()? };
    let plan = session.engine.plan(&Request::Feature { feature, on, why, incident })?;
    carry_out(app, &session, &plan, dry(dry_run))
}

fn list(app: &App, session: &Session) -> Done {
    let states = session.engine.features()?;
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/features@1", json!({ "features": states, "exit_code": 0 }))?;
        return Ok(ExitCode::Ok);
    }
    if states.is_empty() {
        app.ui.talk("There is no feature that could be switched: write [features.NAME] into lifeboat.toml.\n");
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["FEATURE", "IS", "SINCE (UTC)", "BY", "WHY"]);
    for state in &states {
        let FeatureState { feature, on, since, by, why, .. } = state;
        table.row([
            feature.to_string(),
            feature::word(*on).to_owned(),
            since.map_or_else(|| "never switched".to_owned(), words::short_instant),
            by.clone().unwrap_or_default(),
            why.as_deref().map(words::one_line).unwrap_or_default(),
        ]);
    }
    app.ui.out(&table.render(""))?;
    Ok(ExitCode::Ok)
}
