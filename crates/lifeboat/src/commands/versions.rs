//! `checkpoint`, `rollback`, `releases`, `migrate`: releases and migrations, and the way back to them.

use lifeboat_model::{
    Action, BackupChoice, BackupId, BackupReason, ExitCode, Failure, FailureKind, KnownRelease, OperationState, Plan,
    Request, ResourceKind, ResourceName, Reversibility, RevertTo, Tri, VersionAsk, release,
};
use serde_json::json;

use super::{
    App, Session,
    asks::choice,
    carry::{Goal, carry_out, tell, watched},
    requests::dry,
};
use crate::{
    cli::versions::{CheckpointArgs, MigrateCommand, ReleasesCommand, ShadowCommand},
    error::Done,
    ui::{table::Table, words},
};

/// How many of the newest migrations are listed.
const NEWEST: usize = 5;

/// Backup, proof and seal: three operations, each of which can be resumed by itself.
pub fn checkpoint(app: &App, args: &CheckpointArgs) -> Done {
    let session = app.open(&[])?;
    let engine = &session.engine;
    let seal = |backup: Option<BackupId>| {
        let label = args.label.clone().or_else(|| engine.checked_out());
        engine.plan(&Request::Version { about: VersionAsk::Seal { label, backup } })
    };
    // What cannot be sealed is told before anything is backed up.
    let plan = seal(None)?;
    if args.run.dry_run {
        return carry_out(app, &session, &plan, dry(true));
    }
    let label = args.label.as_ref().map(|label| format!("checkpoint {label}"));
    match backed_up(app, &session, label, (args.unproven, args.shadow))? {
        Ok(backup) => carry_out(app, &session, &seal(Some(backup))?, dry(false)),
        Err(code) => Ok(code),
    }
}

/// `shadow`.
pub fn shadow(app: &App, command: &ShadowCommand) -> Done {
    let session = app.open(&[])?;
    let named = |name: &str| ResourceName::new(name).map_err(|error| Failure::from_error(FailureKind::Usage, &error));
    let (request, run) = match command {
        ShadowCommand::Make { resource, from, run } => {
            let of = Some(choice(app, &session, from.as_deref(), None)?);
            (Request::Shadow { resource: named(resource)?, of }, run)
        }
        ShadowCommand::Drop { resource, run } => (Request::Shadow { resource: named(resource)?, of: None }, run),
    };
    carry_out(app, &session, &session.engine.plan(&request)?, dry(run.dry_run))
}

/// A backup of everything, its proof, and where they are wanted copies that lie ready; or how it ended, when it did not end
/// well.
pub(super) fn backed_up(
    app: &App,
    session: &Session,
    label: Option<String>,
    (unproven, with_shadows): (bool, bool),
) -> Result<Result<BackupId, ExitCode>, crate::error::Ended> {
    let engine = &session.engine;
    let reason = BackupReason::PreDeploy;
    let plan = engine.plan(&Request::Backup { resources: Vec::new(), reason, label })?;
    let backup = stored(&plan)?;
    if let Some(code) = did_not_end(app, session, &plan)? {
        return Ok(Err(code));
    }
    if !unproven {
        let choice = BackupChoice::Exactly(backup.clone());
        let plan = engine.plan(&Request::Prove { backup: choice, resources: Vec::new() })?;
        if let Some(code) = did_not_end(app, session, &plan)? {
            return Ok(Err(code));
        }
    }
    let databases = engine.setup().resources.iter().filter(|one| matches!(one.kind, ResourceKind::Postgres { .. }));
    for database in databases.filter(|_| with_shadows) {
        let of = Some(BackupChoice::Exactly(backup.clone()));
        let plan = engine.plan(&Request::Shadow { resource: database.name.clone(), of })?;
        if let Some(code) = did_not_end(app, session, &plan)? {
            return Ok(Err(code));
        }
    }
    Ok(Ok(backup))
}

fn stored(plan: &Plan) -> Result<BackupId, Failure> {
    let found = plan.steps().find_map(|step| match &step.action {
        Action::StoreBackup { backup, .. } => Some(backup.clone()),
        _other => None,
    });
    found.ok_or_else(|| Failure::new(FailureKind::Bug, "a backup's plan stores no backup"))
}

/// Carries a part out; how it ended, when it did not end well.
pub(super) fn did_not_end(app: &App, session: &Session, plan: &Plan) -> Result<Option<ExitCode>, crate::error::Ended> {
    let done = watched(app, session, |watch, stop| session.engine.run(plan, &app.by(), watch, stop))?;
    let findings = lifeboat_engine::Engine::proofs_of(&done);
    let is_bad = findings.iter().any(|proof| proof.outcome != lifeboat_model::Tri::Pass);
    match done.state == OperationState::Done && !is_bad {
        true => Ok(None),
        false => Ok(Some(tell(app, session, &done, Goal::Forward)?)),
    }
}

pub fn releases(app: &App, command: &ReleasesCommand) -> Done {
    let session = app.open(&[])?;
    match command {
        ReleasesCommand::List => list(app, &session),
        ReleasesCommand::Platform { target } => platform(app, &session, target.as_deref()),
        ReleasesCommand::Show { release } => show(app, &session, release),
        ReleasesCommand::Baseline { release } => baseline(app, &session, release.as_deref()),
        ReleasesCommand::Mark { release, verdict, reason, run } => {
            let (release, state, why) = (release.clone(), (*verdict).into(), reason.clone());
            let plan = session.engine.plan(&Request::Version { about: VersionAsk::Mark { release, state, why } })?;
            carry_out(app, &session, &plan, dry(run.dry_run))
        }
    }
}

fn state(known: &KnownRelease) -> String {
    match known.is_live && known.state.word() != "live" {
        true => format!("live, {}", known.state.word()),
        false if known.state.word() == "live" && !known.is_live => "was live".to_owned(),
        false => known.state.word().to_owned(),
    }
}

fn list(app: &App, session: &Session) -> Done {
    let all = session.engine.releases()?;
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/releases@1", json!({ "releases": all, "exit_code": 0 }))?;
        return Ok(ExitCode::Ok);
    }
    if all.is_empty() {
        app.ui.talk("No release was sealed yet: lifeboat checkpoint.\n");
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["RELEASE", "LABEL", "SEALED (UTC)", "STATE", "BACKUP", "RUNS"]);
    for known in all.iter().rev() {
        let release = &known.release;
        let runs = release.artifacts.iter().map(|one| format!("{} {}", one.target, words::shortened(&one.version, 24)));
        table.row([
            release.id.to_string(),
            words::one_line(release.label.as_deref().unwrap_or("-")),
            words::short_instant(release.sealed_at),
            state(known),
            release.backup.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            runs.collect::<Vec<_>>().join(", "),
        ]);
    }
    app.ui.out(&table.render(""))?;
    Ok(ExitCode::Ok)
}

/// What a platform has, whether or not it was ever sealed here.
fn platform(app: &App, session: &Session, name: Option<&str>) -> Done {
    let name =
        name.map(ResourceName::new).transpose().map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    let versions = session.engine.platform_versions(session.engine.target(name.as_ref())?)?;
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/platform@1", json!({ "versions": versions, "exit_code": 0 }))?;
        return Ok(ExitCode::Ok);
    }
    if versions.is_empty() {
        app.ui.talk("Its driver has no list of its own.\n");
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["VERSION", "LABEL", "CAN RUN"]);
    for one in &versions {
        let can = if one.can_run { "yes" } else { "no" };
        table.row([words::one_line(&one.version), words::one_line(&one.label), can.to_owned()]);
    }
    app.ui.out(&table.render(""))?;
    Ok(ExitCode::Ok)
}

fn show(app: &App, session: &Session, wanted: &str) -> Done {
    let all = session.engine.releases()?;
    let known = release::choose(&all, Some(wanted), &[])?;
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/release@1", json!({ "release": known, "exit_code": 0 }))?;
        return Ok(ExitCode::Ok);
    }
    let release = &known.release;
    let mut text = format!("{}\n", release.shown());
    let mut line = |what: &str, value: String| text += &format!("  {what:<11} {value}\n");
    line("State", state(known));
    line("Sealed", words::instant(release.sealed_at, &session.zone));
    if let Some(why) = &known.why {
        line("Why", words::one_line(why));
    }
    line("Backup", release.backup.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string));
    for one in &release.artifacts {
        let served = one.served.as_ref().map(|served| format!(", tells {}", words::one_line(served)));
        line("Target", format!("{} runs {}{}", one.target, one.version, served.unwrap_or_default()));
    }
    for (name, facts) in &release.env {
        line("Variables", format!("{name}: {}", facts.names.join(", ")));
    }
    for (name, schema) in &release.databases {
        let head = schema.applied.last().map_or("nothing", String::as_str);
        let none = schema.migrations.iter().filter(|one| one.down.is_none()).count();
        let missing = (none > 0).then(|| format!(", {} without a DOWN script", none));
        let count = words::count(schema.applied.len() as u64, "migration", "migrations");
        line("Database", format!("{name}: {count} up to {head}{}", missing.unwrap_or_default()));
    }
    for (key, fact) in &release.baseline {
        line("Measured", format!("{key} {fact}"));
    }
    app.ui.out(&text)?;
    Ok(ExitCode::Ok)
}

/// What was measured then, beside what is measured now.
fn baseline(app: &App, session: &Session, wanted: Option<&str>) -> Done {
    let (known, compared) = session.engine.against_baseline(wanted, &lifeboat_io::Stop::default())?;
    let release = &known.release;
    let code = match Tri::worst(compared.iter().map(|one| one.back)) {
        Tri::Pass => ExitCode::Ok,
        Tri::Unknown => ExitCode::Unknown,
        Tri::Fail => ExitCode::ActionAdvised,
    };
    if app.ui.json.is_some() {
        let fields = json!({ "release": release.id, "sealed_at": release.sealed_at, "compared": compared, "exit_code": code as u8 });
        app.ui.document("lifeboat/baseline@1", fields)?;
        return Ok(code);
    }
    let mut table = Table::new(&["MEASURED", "THEN", "NOW", "BACK"]);
    for one in &compared {
        let back = match one.back {
            Tri::Pass => "yes".to_owned(),
            Tri::Unknown => format!("unknown: {}", one.why),
            Tri::Fail => format!("NO: {}", one.why),
        };
        table.row([&one.key, &one.before.to_string(), &one.now.to_string(), &back].map(|text| words::one_line(text)));
    }
    let sealed = words::instant(release.sealed_at, &session.zone);
    app.ui.out(&format!("{}, as it was when it was sealed, {sealed}\n{}", release.shown(), table.render("  ")))?;
    Ok(code)
}

pub fn migrate(app: &App, command: &MigrateCommand) -> Done {
    let session = app.open(&[])?;
    match command {
        MigrateCommand::Status { resource } => migrations(app, &session, &database(&session, resource.as_deref())?),
        MigrateCommand::Rehearse { resource, from, run } => {
            let resource = database(&session, resource.as_deref())?;
            let from = choice(app, &session, from.as_deref(), None)?;
            let plan = session.engine.plan(&Request::Version { about: VersionAsk::Rehearse { resource, from } })?;
            if run.dry_run {
                return carry_out(app, &session, &plan, dry(true));
            }
            rehearsed(app, &session, &plan)
        }
        MigrateCommand::Revert { resource, to, steps, release, reason, consent } => {
            let resource = database(&session, resource.as_deref())?;
            let to = match (to, steps, release) {
                (Some(version), _, _) => RevertTo::Version(version.clone()),
                (None, Some(steps), _) => RevertTo::Steps(*steps),
                (None, None, Some(release)) => RevertTo::Release(release.clone()),
                (None, None, None) => return Err(Failure::new(FailureKind::Usage, "say how far").into()),
            };
            let about = VersionAsk::Revert { resource, to, why: reason.clone() };
            let plan = session.engine.plan(&Request::Version { about })?;
            carry_out(app, &session, &plan, consent.consent())
        }
    }
}

/// What came out of a rehearsal; all but lossless advises to look again.
fn rehearsed(app: &App, session: &Session, plan: &Plan) -> Done {
    let done = watched(app, session, |watch, stop| session.engine.run(plan, &app.by(), watch, stop))?;
    let Some(output) = done.output(&"rehearse".into()).filter(|_| done.state == OperationState::Done) else {
        return tell(app, session, &done, Goal::Forward);
    };
    let (class, found) = (output["class"].as_str().unwrap_or("unknown"), output["found"].as_array());
    let code = if class == Reversibility::DownLossless.word() { ExitCode::Ok } else { ExitCode::ActionAdvised };
    if app.ui.json.is_some() {
        let fields = json!({ "operation": done.id, "class": class, "found": found, "exit_code": code as u8 });
        app.ui.document("lifeboat/rehearsal@1", fields)?;
        return Ok(code);
    }
    let mut text = format!("{class} (operation {})\n", done.id);
    for line in found.into_iter().flatten().filter_map(|line| line.as_str()) {
        text += &format!("  {}\n", words::one_line(line));
    }
    app.ui.out(&text)?;
    Ok(code)
}

/// The database that is meant: the only one with migrations when nobody says.
fn database(session: &Session, word: Option<&str>) -> Result<ResourceName, Failure> {
    if let Some(word) = word {
        return ResourceName::new(word).map_err(|error| Failure::from_error(FailureKind::Usage, &error));
    }
    let known: Vec<&ResourceName> = session.engine.setup().migrations.keys().collect();
    match known.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(Failure::new(FailureKind::Usage, "nobody has said where the migrations of a database are")
            .hint("write migrations = \"./migrations\" into the table of a PostgreSQL resource in lifeboat.toml")),
        several => {
            let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            Err(Failure::new(FailureKind::Usage, "several databases have migrations")
                .hint(format!("say which: {}", names.join(", "))))
        }
    }
}

/// What was applied, what waits, what failed: the same words whatever tool noted it.
fn migrations(app: &App, session: &Session, name: &ResourceName) -> Done {
    let applied = session.engine.applied(name)?;
    let scripts = session.engine.scripts(name, lifeboat_engine::releases::is_by_file(&applied))?;
    let is_applied = |version: &String| applied.versions.contains(version);
    let pending: Vec<&str> = scripts
        .iter()
        .filter(|one| one.up.is_some() && !is_applied(&one.version) && !applied.failed.contains(&one.version))
        .map(|one| one.name.as_str())
        .collect();
    let no_way_back: Vec<&str> = scripts
        .iter()
        .filter(|one| is_applied(&one.version) && one.down.is_none())
        .map(|one| one.name.as_str())
        .collect();
    let newest: Vec<&String> = applied.versions.iter().rev().take(NEWEST).collect();
    let code = if applied.failed.is_empty() { ExitCode::Ok } else { ExitCode::ActionAdvised };
    if app.ui.json.is_some() {
        let fields = json!({
            "resource": name, "ledger": applied.ledger.to_string(), "applied": applied.versions, "newest": newest,
            "pending": pending, "failed": applied.failed, "without_down": no_way_back, "exit_code": code as u8,
        });
        app.ui.document("lifeboat/migrations@1", fields)?;
        return Ok(code);
    }
    let list = |all: &[&str]| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    let failed: Vec<&str> = applied.failed.iter().map(String::as_str).collect();
    let newest: Vec<&str> = newest.into_iter().map(String::as_str).collect();
    app.ui.out(&format!(
        "{name}: {} in {}\n  Newest   {}\n  Pending  {}\n  Failed   {}\n  No DOWN  {}\n",
        words::count(applied.versions.len() as u64, "migration", "migrations"),
        applied.ledger,
        list(&newest),
        list(&pending),
        list(&failed),
        list(&no_way_back),
    ))?;
    Ok(code)
}
