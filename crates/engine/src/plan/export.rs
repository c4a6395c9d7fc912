//! Planning an export: bring resources out of backups beside the folder they will lie in, compare them with their
//! manifests as a restore does, write them in the wanted form, and only then give the folder its name.

use std::path::{Path, PathBuf};

use lifeboat_io::files;
use lifeboat_model::{
    Action, Backup, BackupChoice, Content, ExpectedFact, ExportFormat, ExportPart, Fact, Failure, FailureKind, Lease,
    Phase, Plan, Request, Resource, ResourceManifest, ResourceName, Step, StepClass, Undo,
};

use super::{
    backup::with_margin,
    prove::configured,
    restore,
    steps::{self, by, guess, phase, read, step},
    write_out,
};
use crate::{
    Engine,
    act::EXPORT_WARNING,
    facts::{self, Common},
};

/// What is known when an export is planned.
pub struct Known {
    /// Common knowledge.
    pub common: Common,
    /// Each resource: as the settings describe it, the backup it comes out of, and what its manifest says.
    pub parts: Vec<(Resource, Backup, ResourceManifest)>,
    /// Whether there is something at the place already.
    pub taken: bool,
    /// Whether there is a folder for it to lie in.
    pub has_parent: bool,
    /// What single tables of a PostgreSQL database leave out.
    pub left_out: Vec<String>,
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Export { resources, from, to, .. } = request else { return Err(steps::wrong_planner()) };
    let common = engine.common()?;
    if !common.vault_exists {
        let failure = Failure::new(FailureKind::Refused, format!("there is no vault in {}", common.vault));
        return Err(failure.hint("check the vault's location; lifeboat doctor looks for it"));
    }
    let backups = engine.backups_for(from)?;
    let chosen = match (resources.as_slice(), from.which()) {
        ([], BackupChoice::Exactly(id)) => all_of(engine, &backups, id)?,
        ([], BackupChoice::Latest | BackupChoice::Before(_) | BackupChoice::Elsewhere { .. }) => {
            engine.setup().resources.clone()
        }
        (names, _) => names.iter().map(|name| engine.setup().resource(name).cloned()).collect::<Result<_, _>>()?,
    };
    let part = |resource: Resource| {
        let (backup, part) = restore::choose(engine, &backups, &resource, from)?;
        Ok((resource, backup, part))
    };
    let parts = chosen.into_iter().map(part).collect::<Result<Vec<_>, Failure>>()?;
    let has_parent = files::is_folder(files::parent(to));
    let left_out = write_out::gather(engine, request, &parts)?;
    Ok(Known { common, parts, taken: files::exists(to), has_parent, left_out })
}

/// Everything that a backup holds, also what the settings do not know any more.
fn all_of(engine: &Engine, backups: &[Backup], id: &lifeboat_model::BackupId) -> Result<Vec<Resource>, Failure> {
    let known = backups.iter().any(|backup| &backup.id == id);
    if !known {
        let failure = Failure::new(FailureKind::Refused, format!("there is no backup {id}"));
        return Err(failure.hint("lifeboat backups list"));
    }
    Ok(engine.manifest(id)?.resources.iter().map(|part| configured(engine, part)).collect())
}

/// Plans an export.
///
/// # Errors
/// When the folder exists, a table is in none of the databases, or the words do not fit together.
pub fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Export { to, format, tables, encrypt_to, data_only, .. } = request else {
        return Err(steps::wrong_planner());
    };
    lifeboat_io::sealed::check_recipients(encrypt_to).map_err(|error| crate::act::sealed_failure(&error))?;
    let common = &known.common;
    if known.taken {
        let failure = Failure::new(FailureKind::Refused, format!("{} exists already", to.display()));
        return Err(failure.hint("name a folder that does not exist yet; nothing is ever written over"));
    }
    if !known.has_parent {
        let folder = files::parent(to).display();
        let failure = Failure::new(FailureKind::Refused, format!("there is no folder {folder} to put it in"));
        return Err(failure.hint("make it first, or name another one"));
    }
    check_tables(known, *format, tables)?;
    let one_file = write_out::is_one_file(request, &known.parts)?;
    let places = Places { to, format: *format, aside: aside(to, common), encrypt_to };
    let names: Vec<&str> = known.parts.iter().map(|(resource, ..)| resource.name.as_str()).collect();
    let title = format!("export {} of {} to {}", names.join(", "), common.scope, to.display());
    let mut plan = steps::new_plan(common, request, title, Lease::Sandbox);
    plan.phases.push(phase(common, "preflight", vec![], preflight(known, &places)));
    let undo = by(Action::Remove { paths: vec![places.aside.clone()] });
    let make = Action::MakeFolder { path: places.aside.clone() };
    let make = step("make-folder", "make a folder for your eyes only", StepClass::Idempotent, make, undo);
    plan.phases.push(phase(common, "begin", vec![], vec![make]));
    for (resource, backup, part) in &known.parts {
        let folder = places.fetched(common, part);
        let written = write_out::bring(common, request, &folder, (resource, backup, part));
        plan.phases.extend(written.unwrap_or_else(|| bring(common, &places, resource, backup, part)));
    }
    let last = match known.parts.first().filter(|_| one_file) {
        Some((_, _, part)) => put_one(known, &places, write_out::file_of(&places.fetched(common, part), part, request)),
        None => write(known, &places, tables),
    };
    plan.phases.push(phase(common, "write", vec![], last));
    if !encrypt_to.is_empty() {
        let keys = encrypt_to.join(", ");
        plan.notes = vec![format!("Only who has the secret key of {keys} can read it; names of files stay readable.")];
    }
    plan.facts = rests_on(known, to);
    if encrypt_to.is_empty() {
        plan.notes = vec![EXPORT_WARNING.to_owned()];
    }
    plan.notes.extend(known.left_out.iter().cloned());
    if *data_only {
        let how = "It goes into a database that the app's migrations have made and that is empty otherwise; what migration tools write down about themselves is left to them.";
        plan.notes.push(how.to_owned());
    }
    Ok(plan)
}

/// Where things lie on their way.
struct Places<'a> {
    to: &'a Path,
    format: ExportFormat,
    aside: PathBuf,
    encrypt_to: &'a [String],
}

impl Places<'_> {
    /// Where a resource is fetched to: where it stays, or, when only its tables are wanted, into the sandbox.
    fn fetched(&self, common: &Common, part: &ResourceManifest) -> PathBuf {
        match (&part.content, self.format) {
            (Content::Sqlite(_), ExportFormat::Csv) => common.sandbox.join(format!("{}.sqlite", part.name)),
            (Content::Postgres(_), ExportFormat::Sql | ExportFormat::Csv | ExportFormat::Custom) => {
                self.aside.join(part.name.as_str())
            }
            (Content::Sqlite(_), ExportFormat::Sqlite | ExportFormat::Sql | ExportFormat::Custom)
            | (Content::Files(_) | Content::Env(_) | Content::Postgres(_), _) => {
                let name = part.path.rsplit('/').next().unwrap_or(part.name.as_str());
                self.aside.join(part.name.as_str()).join(name)
            }
        }
    }
}

fn aside(to: &Path, common: &Common) -> PathBuf {
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(to.file_name().unwrap_or_default());
    hidden.push(format!(".lifeboat-{}", common.ids.plan));
    to.with_file_name(hidden)
}

fn check_tables(known: &Known, format: ExportFormat, tables: &[String]) -> Result<(), Failure> {
    let is_postgres =
        |(_, _, part): &(Resource, Backup, ResourceManifest)| matches!(part.content, Content::Postgres(_));
    if tables.is_empty() || known.parts.iter().any(is_postgres) {
        return Ok(()); // those of PostgreSQL databases were looked for already
    }
    if format != ExportFormat::Csv {
        let failure = Failure::new(FailureKind::Usage, "single tables come out as CSV only");
        return Err(failure.hint("add --format csv"));
    }
    let mut there: Vec<&String> = Vec::new();
    for (_, _, part) in &known.parts {
        if let Content::Sqlite(facts) = &part.content {
            there.extend(facts.tables.keys().filter(|name| !name.starts_with("sqlite_")));
        }
    }
    match tables.iter().find(|table| !there.iter().any(|name| name.eq_ignore_ascii_case(table))) {
        None => Ok(()),
        Some(table) => {
            let names: Vec<&str> = there.iter().map(|name| name.as_str()).collect();
            let failure = Failure::new(FailureKind::Usage, format!("no table of the backup is called {table:?}"));
            Err(failure.hint(format!("there are: {}", names.join(", "))))
        }
    }
}

fn preflight(known: &Known, places: &Places<'_>) -> Vec<Step> {
    let common = &known.common;
    let folder = files::parent(places.to).to_owned();
    let bytes: u64 = known.parts.iter().map(|(_, _, part)| part.bytes).sum();
    let database = |part: &ResourceManifest| matches!(part.content, Content::Sqlite(_));
    let databases: u64 = known.parts.iter().filter(|(_, _, part)| database(part)).map(|(_, _, part)| part.bytes).sum();
    let mut found = Vec::new();
    match places.format {
        ExportFormat::Sqlite | ExportFormat::Sql | ExportFormat::Custom => {
            found.push(steps::space("space.target", folder, with_margin(bytes)));
        }
        ExportFormat::Csv => {
            // As text a table takes about what it takes in the database; quotes and digits can make it more.
            found.push(steps::space("space.target", folder, with_margin(bytes + databases / 2)));
            found.push(steps::space("space.sandbox", common.sandbox.clone(), with_margin(databases)));
        }
    }
    for backup in backups(known) {
        let check = Action::CheckBackup { vault: common.vault.clone(), backup: backup.id.clone() };
        found.push(read(format!("check-backup.{}", backup.id), format!("{} is whole in the vault", backup.id), check));
    }
    found
}

/// Every backup that something comes out of, once.
fn backups(known: &Known) -> Vec<&Backup> {
    let mut all: Vec<&Backup> = Vec::new();
    for (_, backup, _) in &known.parts {
        if !all.iter().any(|one| one.id == backup.id) {
            all.push(backup);
        }
    }
    all
}

fn bring(
    common: &Common,
    places: &Places<'_>,
    resource: &Resource,
    backup: &Backup,
    part: &ResourceManifest,
) -> Vec<Phase> {
    let (vault, name, into) = (common.vault.clone(), resource.name.clone(), places.fetched(common, part));
    let fetch =
        Action::Fetch { vault: vault.clone(), backup: backup.id.clone(), resource: name.clone(), into: into.clone() };
    let undo = by(Action::Remove { paths: vec![into.clone()] });
    let check = Action::CheckFetched {
        vault: vault.clone(),
        backup: backup.id.clone(),
        resource: resource.clone(),
        at: into,
        writes: false,
    };
    let undo = if is_inside(&undo, &places.aside) { Undo::Nothing } else { undo };
    let fetch = step(format!("fetch.{name}"), format!("bring {name} out"), StepClass::Idempotent, fetch, undo);
    let title = format!("compare {name} with its manifest: integrity, rows, digests");
    let expected = common.predict("fetch", &format!("{vault} {name}"), part.bytes, guess::FETCH);
    let expected_check = common.predict("check", name.as_str(), part.bytes, guess::CHECK);
    vec![
        phase(common, "restore", vec![expected], vec![fetch]),
        phase(common, "verify", vec![expected_check], vec![read(format!("check.{name}"), title, check)]),
    ]
}

/// What lies in the folder goes with the folder.
fn is_inside(undo: &Undo, folder: &Path) -> bool {
    match undo {
        Undo::By(action) => {
            matches!(&**action, Action::Remove { paths } if paths.iter().all(|path| path.starts_with(folder)))
        }
        Undo::Nothing | Undo::Impossible { .. } => false,
    }
}

fn write(known: &Known, places: &Places<'_>, tables: &[String]) -> Vec<Step> {
    let common = &known.common;
    let part = |(resource, backup, part): &(Resource, Backup, ResourceManifest)| ExportPart {
        vault: common.vault.clone(),
        backup: backup.id.clone(),
        resource: ResourceName::clone(&resource.name),
        fetched: places.fetched(common, part),
    };
    let (aside, live) = (places.aside.clone(), places.to.to_owned());
    let action = Action::WriteExport {
        at: aside.clone(),
        format: places.format,
        tables: tables.to_vec(),
        parts: known.parts.iter().map(part).collect(),
    };
    let title = match places.format {
        ExportFormat::Sqlite | ExportFormat::Sql | ExportFormat::Custom => {
            "describe it in export.json: sizes, SHA-256, rows"
        }
        ExportFormat::Csv => "write one CSV file a table, and export.json: sizes, SHA-256, rows",
    };
    let sealed = facts::path_with(&aside, ".sealed");
    let ready = if places.encrypt_to.is_empty() { aside.clone() } else { sealed.clone() };
    let put = Action::PutInPlace { database: false, aside: ready.clone(), live: live.clone(), like: None };
    let named = format!("give it the name {}", live.display());
    let take = by(Action::TakeAway { database: false, aside: ready, live });
    let mut all = vec![step("write", title, StepClass::Idempotent, action, Undo::Nothing)];
    let mut gone = vec![common.sandbox.clone()];
    if !places.encrypt_to.is_empty() {
        let recipients = places.encrypt_to.to_vec();
        let undo = by(Action::Remove { paths: vec![sealed.clone()] });
        let action = Action::EncryptFolder { from: aside.clone(), into: sealed, recipients };
        all.push(step("encrypt", "encrypt every file", StepClass::Idempotent, action, undo));
        gone.push(aside);
    }
    let clean = Action::Remove { paths: gone };
    all.extend([
        step("clean", "remove working copies", StepClass::Idempotent, clean, Undo::Nothing),
        step("put-in-place", named, StepClass::ProbeFirst, put, take),
    ]);
    all
}

/// A single file is moved out of the folder it was made in, which goes; then it gets its name. In this order each step can
/// be taken back when the later ones are done.
fn put_one(known: &Known, places: &Places<'_>, file: PathBuf) -> Vec<Step> {
    let (live, alone) = (places.to.to_owned(), facts::path_with(&places.aside, ".file"));
    let out = Action::PutInPlace { database: false, aside: file, live: alone.clone(), like: None };
    let remove = by(Action::Remove { paths: vec![alone.clone()] });
    let clean = Action::Remove { paths: vec![known.common.sandbox.clone(), places.aside.clone()] };
    let put = Action::PutInPlace { database: false, aside: alone.clone(), live: live.clone(), like: None };
    let named = format!("give it the name {}", live.display());
    let take = by(Action::TakeAway { database: false, aside: alone, live });
    vec![
        step("move-out", "move it out of the working folder", StepClass::ProbeFirst, out, remove),
        step("clean", "remove working copies", StepClass::Idempotent, clean, Undo::Nothing),
        step("put-in-place", named, StepClass::ProbeFirst, put, take),
    ]
}

fn rests_on(known: &Known, to: &Path) -> Vec<ExpectedFact> {
    let until = || Some("put-in-place".into());
    let there = |backup: &&Backup| ExpectedFact {
        fact: Fact::BackupIsThere { vault: known.common.vault.clone(), backup: backup.id.clone() },
        value: backup.snapshot.clone(),
        until: until(),
    };
    let mut all: Vec<ExpectedFact> = backups(known).iter().map(there).collect();
    all.push(ExpectedFact { fact: Fact::Identity { path: to.to_owned() }, value: facts::identity(to), until: until() });
    all
}
