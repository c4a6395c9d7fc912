//! The vault itself: checked, pruned, read back from, explained.

use std::{fmt::Write, path::Path};

use lifeboat_engine::vaults::{Depth, Size, VaultCheck};
use lifeboat_io::{Stop, files};
use lifeboat_model::{ExitCode, Failure, FailureKind, Request, time::show_bytes};
use serde_json::json;

use super::{App, carry::carry_out};
use crate::{
    cli::VaultCommand,
    error::Done,
    ui::words::{count, quoted},
    wire,
};

pub fn run(app: &App, command: &VaultCommand) -> Done {
    match command {
        VaultCommand::Check { read_data } => check(app, read_data.as_deref()),
        VaultCommand::Recover { dry_run } => recover(app, *dry_run),
        VaultCommand::Kit { folder } => kit(app, folder),
        VaultCommand::Prune(consent) => {
            let session = app.open(&[])?;
            let plan = session.engine.plan(&Request::Prune)?;
            for sentence in session.engine.preview_prune()? {
                app.ui.talk(&format!("{sentence}\n"));
            }
            carry_out(app, &session, &plan, consent.consent())
        }
    }
}

fn check(app: &App, read_data: Option<&str>) -> Done {
    let depth = read_data.map_or(Ok(Depth::Structure), depth)?;
    let session = app.open(&[])?;
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let report = session.engine.check_vault(depth, &stop, &|_, _| ())?;
    let code = if report.damage.is_empty() { ExitCode::Ok } else { ExitCode::Damaged };
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/vault-check@1", serde_json::to_value(&report).unwrap_or_default())?;
    } else {
        app.ui.out(&tell(&report))?;
    }
    Ok(code)
}

/// `1/7`: part 1 of 7. `1/1`: all.
fn depth(text: &str) -> Result<Depth, Failure> {
    let bad = || {
        let message = format!("--read-data={text} does not name a part such as 3/7");
        Failure::new(FailureKind::Usage, message)
            .hint("lifeboat vault check --read-data, or --read-data=1/7 today and 2/7 tomorrow")
    };
    let (n, of) = text.split_once('/').ok_or_else(bad)?;
    let (n, of): (u32, u32) = (n.parse().map_err(|_| bad())?, of.parse().map_err(|_| bad())?);
    match (n, of) {
        (1, 1) => Ok(Depth::All),
        (n, of) if n >= 1 && n <= of => Ok(Depth::Part { n, of }),
        _outside => Err(bad()),
    }
}

fn tell(report: &VaultCheck) -> String {
    let size = |size: Size| format!("{}, {}", count(size.count, "pack", "packs"), show_bytes(size.bytes));
    let mut text = format!(
        "{}: {} with {}; {}.\n",
        report.vault,
        count(report.snapshots, "snapshot", "snapshots"),
        count(report.files, "file", "files"),
        size(report.packs)
    );
    // Writing into a String cannot fail.
    let _ = match report.read.count {
        0 => writeln!(text, "No data was read; --read-data reads all of it, --read-data=1/7 a seventh."),
        _ => writeln!(text, "Read: {}.", size(report.read)),
    };
    if report.unused.count > 0 {
        let _ = writeln!(text, "Not needed: {}; lifeboat vault prune frees it.", size(report.unused));
    }
    if report.marked.count > 0 {
        let _ = writeln!(text, "Marked by a prune, deleted by a later one: {}.", size(report.marked));
    }
    for name in &report.foreign {
        let _ = writeln!(text, "No part of a vault: {name}.");
    }
    for damage in &report.damage {
        let _ = writeln!(text, "DAMAGED  {}: {}.", damage.object, damage.what);
        if !damage.affects.is_empty() {
            let _ = writeln!(text, "         Cannot be restored in full: {}.", damage.affects.join(", "));
        }
    }
    let _ = match report.damage.len() {
        0 => writeln!(text, "No damage."),
        some => {
            writeln!(text, "{}. Backups that are not named can be restored.", count(some as u64, "damage", "damages"))
        }
    };
    text
}

fn recover(app: &App, dry_run: bool) -> Done {
    let session = app.open(&[])?;
    if dry_run {
        let backups = session.engine.backups()?;
        let there = count(backups.len() as u64, "backup", "backups");
        app.ui.out(&format!(
            "{there} in the vault; journals that are not here would be brought back. Nothing was changed.\n"
        ))?;
        return Ok(ExitCode::Ok);
    }
    let recovered = session.engine.recover()?;
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/recovered@1", serde_json::to_value(&recovered).unwrap_or_default())?;
    } else {
        let mut text = format!(
            "{} brought back, {} here already. The vault has {} of this environment.\n",
            count(recovered.journals.len() as u64, "journal", "journals"),
            recovered.known,
            count(recovered.backups as u64, "backup", "backups"),
        );
        for (name, why) in &recovered.unusable {
            let _ = writeln!(text, "NOT USABLE  {name}: {why}.");
        }
        if let Some(settings) = &recovered.settings {
            let _ = write!(
                text,
                "\nThe newest backup carries these settings; save them as lifeboat.toml if yours are lost:\n\n{settings}"
            );
        }
        app.ui.out(&text)?;
    }
    Ok(if recovered.unusable.is_empty() { ExitCode::Ok } else { ExitCode::Damaged })
}

fn kit(app: &App, folder: &Path) -> Done {
    let session = app.open(&[])?;
    let kit = session.engine.kit()?;
    let usable = |error: lifeboat_io::PathError| Failure::from_error(FailureKind::Outside, &error);
    if !files::list_folder(folder).map_err(usable)?.is_empty() {
        let failure = Failure::new(FailureKind::Refused, format!("{} is not empty", folder.display()));
        return Err(failure.hint("name a folder that does not exist yet").into());
    }
    files::create_private_folder(folder).map_err(usable)?;
    for (name, text) in &kit {
        files::write(&folder.join(name), text.as_bytes()).map_err(usable)?;
    }
    if app.ui.json.is_some() {
        let names: Vec<_> = kit.iter().map(|(name, _)| *name).collect();
        app.ui.document("lifeboat/kit@1", json!({ "folder": folder, "files": names }))?;
    } else {
        let page = quoted(&folder.join("recovery.html").display().to_string());
        app.ui.out(&format!(
            "The recovery kit is in {}. Print {page}, fill in where the secrets are, and keep it elsewhere.\n",
            folder.display()
        ))?;
    }
    Ok(ExitCode::Ok)
}
