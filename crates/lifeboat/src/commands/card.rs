//! `lifeboat docs card`: a page for the wall. What has happened, what to type, how long it takes, what it risks - with this
//! app's names and this host's measurements.

use std::path::Path;

use lifeboat_engine::look::ResourceStatus;
use lifeboat_io::files;
use lifeboat_model::{
    BackupReason, ExitCode, Failure, FailureKind, Prediction, Request, Resource, ResourceKind, predict::add,
    time::show_duration,
};

use serde_json::json;

use super::{App, Session};
use crate::{cli::exports::DocsCommand, error::Done, ui::words};

/// A line of the card.
struct Row {
    scenario: String,
    /// One after the other.
    commands: Vec<String>,
    time: String,
    risk: &'static str,
}

pub fn run(app: &App, command: &DocsCommand) -> Done {
    match command {
        DocsCommand::Card => {
            let session = app.open(&[])?;
            let text = card(app, &session)?;
            app.ui.out(&text)?;
            Ok(ExitCode::Ok)
        }
        DocsCommand::Export { to } => manual(app, to.as_deref()),
    }
}

/// Writes the procedure for going back by hand. A file of somebody else's stays as it is.
fn manual(app: &App, to: Option<&Path>) -> Done {
    let session = app.open(&[])?;
    let beside = session.engine.setup().settings_file.as_deref().map(files::parent);
    let path = to.map_or_else(|| beside.unwrap_or(Path::new(".")).join(lifeboat_engine::manual::PATH), Path::to_owned);
    let failed =
        |error| Failure::from_error(FailureKind::Outside, &error).while_doing("the document cannot be written");
    if files::exists(&path) && !files::read_text(&path).map_err(failed)?.starts_with(lifeboat_engine::manual::MADE_BY) {
        let message = format!("{} is there already and was written by somebody else", path.display());
        return Err(Failure::new(FailureKind::Refused, message).hint("name another file: --to FILE").into());
    }
    // Links lead over `..`, which is looked up only in a folder that is there.
    files::create_folder(files::parent(&path)).map_err(failed)?;
    let text = session.engine.manual(&path)?;
    files::write_with_mode(&path, text.as_bytes(), 0o644).map_err(failed)?;
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/docs-export@1", json!({ "file": path, "exit_code": 0 }))?;
    } else {
        app.ui.out(&format!("Wrote {}.\n", path.display()))?;
    }
    Ok(ExitCode::Ok)
}

fn card(app: &App, session: &Session) -> Result<String, lifeboat_model::Failure> {
    let (setup, status) = (session.engine.setup(), session.engine.look().status()?);
    let now = words::instant(app.io.clock.now(), &session.zone);
    let mut text = format!(
        "# {}: what to do when\n\nMade {now}. Times are predictions from runs on this host; \"guess\" means that nothing was \
         measured yet.\nVault: `{}`. Where its password is: ______________________  Who to call: ______________________\n",
        setup.scope, setup.vault
    );
    text += "\n| What has happened | Type | Time | Risk |\n|---|---|---|---|\n";
    for row in rows(app, session, &status.resources) {
        let commands: Vec<String> = row.commands.iter().map(|command| format!("`{command}`")).collect();
        text += &format!("| {} | {} | {} | {} |\n", row.scenario, commands.join(", then "), row.time, row.risk);
    }
    text += &format!(
        "\n- A restore shows which rows would leave, keeps what is there, and asks you to type `{}`.\n\
         - Something broke off: `lifeboat status`{again} names what to do; nothing is lost by waiting.\n",
        setup.scope,
        again = suffix(app),
    );
    if setup.resources.iter().any(|one| is_database(one) && one.writer.is_none()) {
        text += "- Stop the app before a restore, and start it afterwards: the settings name no command for that.\n";
    }
    Ok(text)
}

fn suffix(app: &App) -> String {
    if app.again().is_empty() { String::new() } else { format!(" (with{})", app.again()) }
}

fn rows(app: &App, session: &Session, status: &[ResourceStatus]) -> Vec<Row> {
    let again = app.again();
    let command = |words: &str| format!("lifeboat {words}{again}");
    let restore = |resource: &Resource| {
        let of = status.iter().find(|one| one.name == resource.name.as_str());
        of.and_then(|one| one.restore.as_ref()).map_or_else(|| "no backup yet".to_owned(), shown)
    };
    let resources = &session.engine.setup().resources;
    let backup = Request::Backup { resources: vec![], reason: BackupReason::Manual, label: None };
    let mut rows = vec![Row {
        scenario: "A change is coming: take a backup".to_owned(),
        commands: vec![command("backup")],
        time: planned(session, &backup),
        risk: "none; the app runs on",
    }];
    for resource in resources.iter().filter(|one| is_database(one)) {
        let name = &resource.name;
        rows.push(Row {
            scenario: format!("Data in {name} is wrong or damaged"),
            commands: vec![command(&format!("restore {name} --dry-run")), command(&format!("restore {name}"))],
            time: restore(resource),
            risk: "what was written since the backup leaves; it is kept, `lifeboat undo` swaps back",
        });
    }
    for resource in resources {
        let name = &resource.name;
        rows.push(Row {
            scenario: format!("{name} is gone ({})", resource.kind.word()),
            commands: vec![command(&format!("restore {name}"))],
            time: restore(resource),
            risk: "none; nothing is there to be replaced",
        });
    }
    for resource in resources.iter().filter(|one| is_database(one)) {
        let name = &resource.name;
        rows.push(Row {
            scenario: format!("A migration of {name} went wrong (say when it began)"),
            commands: vec![command(&format!("restore {name} --before '1h ago'"))],
            time: restore(resource),
            risk: "as above; put the code back to its version from before as well",
        });
    }
    rows.push(Row {
        scenario: "The whole host is lost: on a new one, with lifeboat.toml and the vault's password".to_owned(),
        commands: std::iter::once(command("vault recover"))
            .chain(resources.iter().map(|one| command(&format!("restore {}", one.name))))
            .collect(),
        time: all(status),
        risk: "what was written since the newest backup is lost; without the password everything is",
    });
    let prove = Request::Prove { backup: lifeboat_model::BackupChoice::Latest, resources: vec![] };
    rows.push(Row {
        scenario: "Are the backups good?".to_owned(),
        commands: vec![command("status"), command("prove")],
        time: planned(session, &prove),
        risk: "none; a copy is restored apart from the app",
    });
    rows
}

fn is_database(resource: &Resource) -> bool {
    match resource.kind {
        ResourceKind::Sqlite { .. } | ResourceKind::Postgres { .. } => true,
        ResourceKind::Files { .. } | ResourceKind::Env { .. } => false,
    }
}

/// How long a request would take now, from its plan.
fn planned(session: &Session, request: &Request) -> String {
    let expected = session.engine.plan(request).ok().map(|plan| plan.phases.into_iter().filter_map(|one| one.expected));
    expected.and_then(add).map_or_else(|| "not known yet".to_owned(), |expected| shown(&expected))
}

fn all(status: &[ResourceStatus]) -> String {
    let every: Option<Vec<Prediction>> = status.iter().map(|one| one.restore).collect();
    every.and_then(add).map_or_else(|| "no backup of everything yet".to_owned(), |expected| shown(&expected))
}

fn shown(prediction: &Prediction) -> String {
    let late = show_duration(lifeboat_model::Duration::from_millis(prediction.p95_ms));
    format!("{}, at most {late}", words::expected(prediction))
}
