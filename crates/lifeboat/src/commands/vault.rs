//! The vault itself: checked, pruned, read back from, explained.

use std::path::Path;

use lifeboat_engine::{
    recover::Recovered,
    vaults::{Depth, VaultCheck},
};
use lifeboat_io::{Stop, files};
use lifeboat_model::{ExitCode, Failure, FailureKind, Request, time::show_bytes};
use serde::Serialize;
use serde_json::{Value, json};

use super::{App, Session, carry::carry_out, copies};
use crate::{
    cli::{ConsentArgs, vaults::VaultCommand},
    error::Done,
    ui::{progress::Progress, words},
    wire,
};

pub fn run(app: &App, command: &VaultCommand) -> Done {
    if let VaultCommand::Copy { to, run } = command {
        return copies::run(app, to.as_deref(), run.dry_run); // the settings say which there are
    }
    let session = app.open_vault()?;
    match command {
        VaultCommand::Check { read_data } => check(app, &session, depth(read_data.as_deref())?),
        VaultCommand::Prune(consent) => prune(app, &session, consent),
        VaultCommand::Copy { to, run } => copies::run(app, to.as_deref(), run.dry_run),
        VaultCommand::Recover { dry_run } => recover(app, &session, *dry_run),
        VaultCommand::Kit { folder } => kit(app, &session, folder),
    }
}

/// Reads `n/t`: part n of t, so that t checks on t days have read everything.
fn depth(read_data: Option<&str>) -> Result<Depth, Failure> {
    let Some(text) = read_data else { return Ok(Depth::Structure) };
    let numbers = text.split_once('/').and_then(|(n, of)| Some((n.parse().ok()?, of.parse().ok()?)));
    match numbers {
        Some((1, 1)) => Ok(Depth::All),
        Some((n, of)) if n >= 1 && n <= of => Ok(Depth::Part { n, of }),
        Some(_) | None => {
            let failure = Failure::new(FailureKind::Usage, format!("{text:?} is no part of a whole"));
            Err(failure.hint("lifeboat vault check --read-data=1/7, tomorrow 2/7, and so on"))
        }
    }
}

fn check(app: &App, session: &Session, depth: Depth) -> Done {
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let watch = Progress::alone(app.ui, app.io.clock.clone(), &stop, "checking the vault");
    let found = session.engine.check_vault(depth, &stop, &|done, total| watch.tell(done, total))?;
    watch.finish();
    let code = if found.damage.is_empty() { ExitCode::Ok } else { ExitCode::Damaged };
    if app.ui.json.is_some() {
        let mut fields = as_json(&found)?;
        fields["exit_code"] = Value::from(code as u8);
        app.ui.document("lifeboat/vault-check@1", fields)?;
    } else {
        app.ui.out(&show_check(app, &found, depth))?;
    }
    Ok(code)
}

fn as_json(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value)
        .map_err(|error| Failure::new(FailureKind::Bug, "the answer cannot be written").because(error.to_string()))
}

fn show_check(app: &App, found: &VaultCheck, depth: Depth) -> String {
    let paint = app.ui.paint;
    let (packs, bytes) = (found.packs.count, show_bytes(found.packs.bytes));
    let mut text = format!(
        "{}: {}, {}, {} ({bytes}).\n",
        found.vault,
        words::count(found.snapshots, "snapshot", "snapshots"),
        words::count(found.files, "file", "files"),
        words::count(packs, "pack", "packs"),
    );
    for damage in &found.damage {
        let object = words::one_line(&damage.object);
        text += &format!("{} {object}: {}\n", paint.bad("Damaged:"), words::sentence(&words::one_line(&damage.what)));
        if !damage.affects.is_empty() {
            text += &format!("  concerns {}\n", damage.affects.join(", "));
        }
    }
    for foreign in &found.foreign {
        text += &format!("Not part of a vault, and harmless: {}\n", words::one_line(foreign));
    }
    for left in &found.half_written {
        let left = words::one_line(left);
        text +=
            &format!("Half-written, and harmless: {left}; lifeboat vault prune deletes it when it is old enough.\n");
    }
    if found.damage.is_empty() {
        let read = match depth {
            Depth::Structure => "Everything is there; the data itself was not read (--read-data does that).".to_owned(),
            Depth::All => "Everything is there, and every byte was read and is right.".to_owned(),
            Depth::Part { n, of } => {
                format!(
                    "Everything is there; part {n} of {of} of the data ({}) was read and is right.",
                    show_bytes(found.read.bytes)
                )
            }
        };
        text += &format!("{} {read}\n", paint.good("Whole:"));
    }
    if found.unused.count > 0 {
        text +=
            &format!("No backup needs {} of it; lifeboat vault prune frees that.\n", show_bytes(found.unused.bytes));
    }
    text
}

fn prune(app: &App, session: &Session, consent: &ConsentArgs) -> Done {
    let mut plan = session.engine.plan(&Request::Prune)?;
    // What it comes to is known only by looking; a person who has to agree has to know.
    plan.notes.extend(session.engine.preview_prune()?);
    carry_out(app, session, &plan, consent.consent())
}

fn recover(app: &App, session: &Session, dry_run: bool) -> Done {
    if dry_run {
        let backups = session.engine.backups()?.len();
        if app.ui.json.is_some() {
            app.ui
                .document("lifeboat/vault-recover@1", json!({ "dry_run": true, "backups": backups, "exit_code": 0 }))?;
        } else {
            let found = words::count(backups as u64, "backup", "backups");
            app.ui.out(&format!("The vault can be read and holds {found} of {}.\n", session.engine.setup().scope))?;
            app.ui.out("Journals from it would be put beside those that are here. Nothing was changed.\n")?;
        }
        return Ok(ExitCode::Ok);
    }
    let found = session.engine.recover()?;
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/vault-recover@1", as_json(&found)?)?;
    } else {
        app.ui.out(&show_recovered(session, &found))?;
    }
    Ok(if found.unusable.is_empty() { ExitCode::Ok } else { ExitCode::Damaged })
}

fn show_recovered(session: &Session, found: &Recovered) -> String {
    let scope = &session.engine.setup().scope;
    let mut text = format!(
        "{} of {scope} in the vault; {} brought back, {} here already.\n",
        words::count(found.backups as u64, "backup", "backups"),
        words::count(found.journals.len() as u64, "journal", "journals"),
        found.known,
    );
    for (journal, why) in &found.unusable {
        text += &format!("Not usable: {journal}: {}\n", words::sentence(why));
    }
    if let Some(settings) = &found.settings {
        text += &format!("\nThe newest backup carries these settings; put them into lifeboat.toml:\n\n{settings}\n");
    }
    text
}

fn kit(app: &App, session: &Session, folder: &Path) -> Done {
    if files::exists(folder) {
        let failure = Failure::new(FailureKind::Refused, format!("{} exists already", folder.display()));
        return Err(failure.hint("name a folder that does not exist yet").into());
    }
    let failed = |error: lifeboat_io::PathError| {
        Failure::from_error(FailureKind::Outside, &error).while_doing("the kit cannot be written")
    };
    let kit = session.engine.kit()?;
    files::create_folder(folder).map_err(failed)?;
    for (name, text) in &kit {
        files::write(&folder.join(name), text.as_bytes()).map_err(failed)?;
    }
    let names: Vec<&str> = kit.iter().map(|(name, _)| *name).collect();
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/vault-kit@1", json!({ "folder": folder, "files": names }))?;
    } else {
        app.ui.out(&format!("Wrote {} to {}.\n", names.join(", "), folder.display()))?;
        app.ui.talk("Print recovery.html and keep it where this computer is not.\n");
    }
    Ok(ExitCode::Ok)
}
