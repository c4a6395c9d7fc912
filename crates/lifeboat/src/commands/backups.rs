//! Backups: listed, looked into, read through, compared, marked.

use std::collections::BTreeMap;

use lifeboat_engine::strays::Stray;
use lifeboat_io::Stop;
use lifeboat_model::{
    Backup, BackupId, BackupMark, Content, ExitCode, Failure, Manifest, Migrated, Proof, Request, ResourceManifest,
    Verdict, decide_keep,
    time::{show_age, show_bytes, since},
};
use serde_json::{Value, json};

use super::{
    App, Session,
    carry::{Consent, carry_out},
    compare, export, leaks,
};
use crate::{
    cli::BackupsCommand,
    error::Done,
    ui::{Paint, progress::Progress, report, table::Table, words},
    wire,
};

pub fn run(app: &App, command: &BackupsCommand) -> Done {
    if let BackupsCommand::Adopt(args) = command {
        return export::adopt(app, args); // `--for` names its resource
    }
    if let BackupsCommand::Compromised(args) = command {
        return leaks::run(app, args);
    }
    let session = app.open(&[])?;
    match command {
        BackupsCommand::List => list(app, &session),
        BackupsCommand::Show(args) => show(app, &session, &args.backup),
        BackupsCommand::Verify(args) => verify(app, &session, &args.backup),
        BackupsCommand::Diff { left, right } => compare::run(app, &session, left, right),
        BackupsCommand::Adopt(args) => export::adopt(app, args),
        BackupsCommand::Compromised(args) => leaks::run(app, args),
        BackupsCommand::Hold(args) => {
            mark(app, &session, &args.backup, BackupMark::Hold { why: args.why.clone() }, args.run.dry_run)
        }
        BackupsCommand::Suspect(args) => {
            mark(app, &session, &args.backup, BackupMark::Suspect { why: args.why.clone() }, args.run.dry_run)
        }
        BackupsCommand::Unhold(args) => mark(app, &session, &args.backup, BackupMark::Unhold, args.run.dry_run),
        BackupsCommand::Trust(args) => mark(app, &session, &args.backup, BackupMark::Trust, args.run.dry_run),
    }
}

fn mark(app: &App, session: &Session, start: &str, mark: BackupMark, dry_run: bool) -> Done {
    let backup = session.engine.find_backup(start)?.id;
    let plan = session.engine.plan(&Request::Mark { backup, mark })?;
    carry_out(app, session, &plan, Consent { dry_run, confirm: None })
}

/// What is to become of each backup.
pub fn verdicts(app: &App, session: &Session, backups: &[Backup]) -> BTreeMap<BackupId, Verdict> {
    decide_keep(backups, &session.engine.setup().keep, app.io.clock.now())
}

fn list(app: &App, session: &Session) -> Done {
    let mut backups = session.engine.backups()?;
    backups.reverse();
    let verdicts = verdicts(app, session, &backups);
    let strays = session.engine.strays(&backups)?;
    let compromised = session.engine.compromised(&backups)?;
    if app.ui.json.is_some() {
        let one = |backup: &Backup| {
            let mut fields = document(app, backup, &verdicts);
            fields["compromised"] = json!(compromised.get(&backup.id));
            fields
        };
        let all = backups.iter().map(one).collect::<Vec<_>>();
        let setup = session.engine.setup();
        app.ui.document(
            "lifeboat/backups@1",
            json!({ "scope": setup.scope.to_string(), "vault": setup.vault, "backups": all, "unmanifested": strays }),
        )?;
        return Ok(ExitCode::Ok);
    }
    if backups.is_empty() {
        let setup = session.engine.setup();
        app.ui.talk(&format!(
            "There is no backup of {} in {} yet: lifeboat backup{}\n",
            setup.scope,
            setup.vault,
            app.again()
        ));
        app.ui.out(&show_strays(app, &strays))?;
        return Ok(ExitCode::Ok);
    }
    let headings = ["BACKUP", "COMPLETE UP TO (UTC)", "LOCAL", "AGE", "SIZE", "ADDED", "HOLDS", "KIND", "STATE"];
    let mut table = Table::new(&headings).right(&[3, 4, 5]);
    for backup in &backups {
        table.row([
            backup.id.to_string(),
            words::short_instant(backup.recovery_point),
            backup.recovery_point.to_zoned(session.zone.clone()).strftime("%H:%M %Z").to_string(),
            show_age(since(backup.recovery_point, app.io.clock.now())),
            show_bytes(backup.bytes),
            added(backup),
            backup.resources.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(","),
            words::reason(backup.reason).to_owned(),
            state(backup) + &leaks::in_backup(compromised.get(&backup.id)),
        ]);
    }
    app.ui.out(&table.render(""))?;
    app.ui.out(&show_strays(app, &strays))?;
    Ok(ExitCode::Ok)
}

/// Files that look like backups, with what to type to take one in.
fn show_strays(app: &App, strays: &[Stray]) -> String {
    if strays.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["UNMANIFESTED", "FROM (UTC)", "AGE", "SIZE", "IS", "TAKE IT IN"]).right(&[2, 3]);
    for stray in strays {
        let path = words::one_line(&stray.path.display().to_string());
        let adopt = stray.adopt_for.as_ref().map(|name| {
            let path = words::quoted(&stray.path.display().to_string());
            format!("lifeboat backups adopt {path} --for {name}{}", app.again())
        });
        let from = words::short_instant(stray.at);
        table.row([
            path,
            if stray.named { from } else { format!("{from} (changed)") },
            show_age(since(stray.at, app.io.clock.now())),
            show_bytes(stray.bytes),
            stray.kind.to_owned(),
            adopt.unwrap_or_else(|| "no database here can take it".to_owned()),
        ]);
    }
    format!("\nFiles without a manifest; nobody has looked into them:\n{}", table.render(""))
}

/// What it added to the vault; a snapshot is written before that is known in full.
fn added(backup: &Backup) -> String {
    if backup.bytes_added == 0 { "?".to_owned() } else { show_bytes(backup.bytes_added) }
}

/// What is known of a backup, in a few words.
fn state(backup: &Backup) -> String {
    let mut says = vec![if backup.proven_at.is_some() { "proven".to_owned() } else { "not proven".to_owned() }];
    says.extend(backup.label.as_ref().map(|label| format!("\"{}\"", words::one_line(label))));
    says.extend(backup.held.as_ref().map(|why| format!("held: {}", words::one_line(why))));
    says.extend(backup.suspect.as_ref().map(|why| format!("suspect: {}", words::one_line(why))));
    says.join(", ")
}

fn document(app: &App, backup: &Backup, verdicts: &BTreeMap<BackupId, Verdict>) -> Value {
    let mut fields = serde_json::to_value(backup).unwrap_or_default();
    fields["age_s"] = Value::from(since(backup.recovery_point, app.io.clock.now()).as_secs());
    fields["retention"] = serde_json::to_value(verdicts.get(&backup.id)).unwrap_or_default();
    fields
}

fn show(app: &App, session: &Session, start: &str) -> Done {
    let backup = session.engine.find_backup(start)?;
    let manifest = session.engine.manifest(&backup.id)?;
    let proofs = session.engine.proofs(&backup.id)?;
    let verdicts = verdicts(app, session, &session.engine.backups()?);
    if app.ui.json.is_some() {
        let fields = json!({ "backup": document(app, &backup, &verdicts), "manifest": manifest, "proofs": proofs });
        app.ui.document("lifeboat/backup@1", fields)?;
        return Ok(ExitCode::Ok);
    }
    let verdict = verdicts.get(&backup.id);
    app.ui.out(&show_text(app, session, &backup, &manifest, &proofs, verdict))?;
    Ok(ExitCode::Ok)
}

fn show_text(
    app: &App,
    session: &Session,
    backup: &Backup,
    manifest: &Manifest,
    proofs: &[Proof],
    verdict: Option<&Verdict>,
) -> String {
    let (paint, zone) = (app.ui.paint, &session.zone);
    let mut text = format!("{} of {}, {}\n", paint.strong(backup.id.as_str()), backup.scope, state(backup));
    let mut line = |name: &str, value: String| text += &format!("  {name:<14} {value}\n");
    line("complete up to", words::instant(backup.recovery_point, zone));
    line("age", show_age(since(backup.recovery_point, app.io.clock.now())));
    line("taken", format!("{} on {} by {}", words::reason(backup.reason), manifest.host, manifest.operator));
    line("size", format!("{}, {} added to the vault", show_bytes(backup.bytes), added(backup)));
    line("snapshot", backup.snapshot.clone());
    line("operation", manifest.operation.to_string());
    let tools = manifest.tools.iter().map(|(name, version)| format!("{name} {version}"));
    line("made with", tools.collect::<Vec<_>>().join(", "));
    if let Some(deploy) = &manifest.deploy {
        line("deployed", words::one_line(&deploy.to_string()));
    }
    for (name, found) in &manifest.migrations {
        for Migrated { tool, applied, newest, unfinished, .. } in found {
            let newest =
                newest.as_ref().map(|newest| format!(", up to {}", words::one_line(newest))).unwrap_or_default();
            let half = if *unfinished > 0 { format!(", {unfinished} NOT FINISHED") } else { String::new() };
            line("migrations", format!("{name}: {tool}, {applied} applied{newest}{half}"));
        }
    }
    line("retention", verdict.map_or_else(|| "no rule says anything".to_owned(), show_verdict));
    for part in &manifest.resources {
        text += &show_part(part, paint);
    }
    for proof in proofs {
        text += &format!("\n{}  {}", words::short_instant(proof.at), report::show_proof(proof, paint));
    }
    text
}

/// A verdict of retention in one sentence.
pub fn show_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Keep { because, until: Some(until) } => {
            format!("stays: {because}; until about {}", until.strftime("%Y-%m-%d"))
        }
        Verdict::Keep { because, until: None } => format!("stays: {because}"),
        Verdict::Forget { because } => format!("may go: {because}"),
    }
}

fn show_part(part: &ResourceManifest, paint: Paint) -> String {
    let origin = words::one_line(&part.origin);
    let mut text = format!("\n  {}   {origin}, {}\n", paint.strong(part.name.as_str()), show_bytes(part.bytes));
    match &part.content {
        Content::Sqlite(facts) => {
            let (version, mode) = (facts.user_version, &facts.journal_mode);
            text += &format!(
                "    user_version {version}, journal mode {mode}, {} pages of {} bytes\n",
                facts.pages, facts.page_size
            );
            let mut table = Table::new(&["TABLE", "ROWS", "NEWEST", "DIGEST"]).right(&[1]);
            for (name, of) in &facts.tables {
                let newest = of.newest.iter().map(|(column, at)| format!("{column} {}", words::one_line(at)));
                let newest = newest.collect::<Vec<_>>().join(", ");
                let digest = of.digest.chars().take(12).collect();
                table.row([words::one_line(name), of.rows.to_string(), newest, digest]);
            }
            text += &table.render("    ");
            for (name, why) in &facts.unread {
                text += &format!("    {} could not be read: {}\n", words::one_line(name), words::sentence(why));
            }
        }
        Content::Files(facts) => {
            let (files, folders, links) = (facts.files, facts.folders, facts.links);
            text += &format!("    {files} files, {folders} folders, {links} links\n");
        }
        Content::Env(facts) => text += &format!("    variables: {}\n", facts.names.join(", ")),
    }
    text
}

fn verify(app: &App, session: &Session, start: &str) -> Done {
    let backup = session.engine.find_backup(start)?;
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let what = format!("reading {}", backup.id);
    let watch = Progress::alone(app.ui, app.io.clock.clone(), &stop, &what);
    let begun = app.io.clock.elapsed();
    let id = &backup.id;
    let bytes = session.engine.verify_backup(id, &watch, &stop);
    watch.finish();
    let bytes = bytes.map_err(|failure: Failure| failure.while_doing(format!("{id} is not whole in the vault")))?;
    let took_ms = app.io.clock.elapsed().saturating_sub(begun).as_millis() as u64;
    if app.ui.json.is_some() {
        app.ui.document(
            "lifeboat/backup-verify@1",
            json!({ "backup": id, "good": true, "bytes": bytes, "took_ms": took_ms }),
        )?;
    } else {
        let text = format!(
            "{id} is whole: {} read, every blob matches its digest, {}.\n",
            show_bytes(bytes),
            words::took(took_ms)
        );
        app.ui.out(&text)?;
        app.ui.talk(&format!("That it can be restored is shown by: lifeboat prove {id}{}\n", app.again()));
    }
    Ok(ExitCode::Ok)
}
