//! Planning a restore: keep what is there, bring the backup beside it, look at it, and only then swap.

use std::path::{Path, PathBuf};

use lifeboat_model::{
    AcceptLoss, Action, Backup, BackupChoice, BackupId, BackupReason, Duration, ExpectedFact, Fact, Failure,
    FailureKind, Lease, Loss, LossLine, Plan, Request, Resource, ResourceKind, ResourceManifest, Step, StepClass, Tri,
    Undo, Writer, choose_backup,
};

use super::steps::{self, Taking, by, guess, phase, read, step};
use crate::{
    Engine,
    act::{losses, summary},
    facts::{self, Common, Live},
};

/// What is known when a restore is planned.
pub struct Known {
    /// Common knowledge.
    pub common: Common,
    /// The backup that will be restored.
    pub backup: Backup,
    /// The part of its manifest about the resource.
    pub part: ResourceManifest,
    /// Where it will live: the resource itself, or the place it is restored into.
    pub target: Live,
    /// Whether it replaces what lives there.
    pub in_place: bool,
    /// Where what lives there would be kept: a name that is free.
    pub kept: PathBuf,
    /// What would be gone from there, as far as it can be known.
    pub loss: Option<Loss>,
    /// Why that could not be found out, when it could not.
    pub uncounted: Option<String>,
    /// Why what is there is not sound, when it is not.
    pub unsound: Option<String>,
    /// What a quick check complains about in a database that can be read.
    pub corrupt: Option<String>,
    /// Whether this resource in this backup has passed a proof.
    pub rehearsed: bool,
    /// Whether it must have.
    pub rehearse_first: bool,
    /// The next older good backup, should this one prove damaged.
    pub next_older: Option<BackupId>,
    /// Newer backups that were passed over, with the reason.
    pub passed_over: Vec<(BackupId, String)>,
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Restore { resource, from, into, .. } = request else { return Err(steps::wrong_planner()) };
    let common = engine.common()?;
    if !common.vault_exists {
        return Err(steps::no_vault(&common));
    }
    let resource = engine.setup().resource(resource)?.clone();
    let backups = engine.backups_for(from)?;
    let (backup, part) = choose(engine, &backups, &resource, from)?;
    let passed_over = passed_over(&backups, &backup, from);
    let older = from.instead(BackupChoice::Before(backup.recovery_point));
    let next_older = choose_backup(&backups, &common.scope, &resource.name, &older).ok().map(|older| older.id.clone());
    let target = match into {
        Some(path) => engine.live(&Resource { kind: moved(&resource.kind, path), writer: None, ..resource.clone() })?,
        None => engine.live(&resource)?,
    };
    let unsound = target.unreadable.clone();
    let counted = match into.is_none() && target.exists && unsound.is_none() {
        true => losses::preview(&resource, &part),
        false => Ok(None),
    };
    let (loss, uncounted) = counted.map_or_else(|failure| (None, Some(failure.to_string())), |loss| (loss, None));
    let corrupt = match (&resource.kind, into.is_none() && target.exists && unsound.is_none()) {
        (ResourceKind::Sqlite { path }, true) => corrupt(path),
        (_, _) => None,
    };
    let rehearsed = engine.is_rehearsed(&backup.id, &part.name)?;
    let word = if unsound.is_some() || corrupt.is_some() { "CORRUPTED" } else { "REPLACED" };
    let kept = facts::free_beside(&target.place, word, common.now);
    Ok(Known {
        common,
        backup,
        part,
        target,
        in_place: into.is_none(),
        kept,
        loss,
        uncounted,
        unsound,
        corrupt,
        rehearsed,
        rehearse_first: engine.setup().rehearse_first,
        next_older,
        passed_over,
    })
}

/// A quick look at a database that opens may still find it damaged; in so short a time, or not at all.
fn corrupt(path: &Path) -> Option<String> {
    let found = lifeboat_io::database::sqlite::quick_check(path, QUICK_CHECK);
    (found.sound == Tri::Fail).then_some(found.what)
}

/// How long planning a restore may look for damage in what is there.
const QUICK_CHECK: Duration = Duration::from_secs(2);

/// The backup to take, and its part about the resource. A backup is as old as its oldest part; one whose part about this
/// resource is younger than what was asked for is passed over too.
pub(crate) fn choose(
    engine: &Engine,
    backups: &[Backup],
    resource: &Resource,
    from: &BackupChoice,
) -> Result<(Backup, ResourceManifest), Failure> {
    let (setup, mut left) = (engine.setup(), backups.to_vec());
    let vault = engine.vaults.open(&setup.vault)?;
    loop {
        let backup = choose_backup(&left, &setup.scope, &resource.name, from);
        let backup = backup.map_err(|error| no_backup(&error, resource))?.clone();
        let manifest = summary::manifest(&vault, &backup.id).map_err(|failure| {
            // Never silently another one; but the person should not have to look for it.
            let before = from.instead(BackupChoice::Before(backup.recovery_point));
            match choose_backup(&left, &setup.scope, &resource.name, &before) {
                Ok(older) => failure.hint(format!(
                    "{} is the good one before it, of {}: lifeboat restore {} --from {}",
                    older.id,
                    steps::instant(older.recovery_point),
                    resource.name,
                    older.id
                )),
                Err(_there_is_none) => failure,
            }
        })?;
        let (_, its_name) = from.whose(&setup.scope, &resource.name);
        let part = manifest.resource(its_name).cloned().ok_or_else(|| {
            let message = format!("the manifest of {} says nothing about {its_name}", backup.id);
            Failure::new(FailureKind::Damaged, message)
        })?;
        match from.which() {
            BackupChoice::Before(before) if part.recovery_point >= *before => left.retain(|one| one.id != backup.id),
            BackupChoice::Before(_)
            | BackupChoice::Latest
            | BackupChoice::Exactly(_)
            | BackupChoice::Elsewhere { .. } => return Ok((backup, part)),
        }
    }
}

fn no_backup(error: &lifeboat_model::NoBackup, resource: &Resource) -> Failure {
    let failure = Failure::from_error(FailureKind::Refused, error);
    let without = match resource.kind {
        ResourceKind::Postgres { .. } => format!("; without one: lifeboat provider routes {}", resource.name),
        ResourceKind::Sqlite { .. } | ResourceKind::Files { .. } | ResourceKind::Env { .. } => String::new(),
    };
    failure
        .hint(format!("see what there is: lifeboat backups list; take one: lifeboat backup {}{without}", resource.name))
}

/// Newer ones that `--latest` and `--before` never take by themselves; the person should know.
pub(crate) fn passed_over(all: &[Backup], chosen: &Backup, from: &BackupChoice) -> Vec<(BackupId, String)> {
    let newer = all.iter().filter(|backup| backup.recovery_point > chosen.recovery_point);
    newer
        .filter_map(|backup| {
            let why = match (from.which(), backup.reason, &backup.suspect) {
                (BackupChoice::Exactly(_), _, _) => return None,
                (_, _, Some(why)) => format!("suspect: {why}"),
                (_, BackupReason::Emergency, None) => "an emergency backup, perhaps of the broken state".to_owned(),
                (_, BackupReason::Manual | BackupReason::Scheduled, None) => return None,
                (_, BackupReason::PreDeploy | BackupReason::Adopted, None) => return None,
            };
            Some((backup.id.clone(), why))
        })
        .collect()
}

fn moved(kind: &ResourceKind, path: &Path) -> ResourceKind {
    let path = path.to_owned();
    match kind {
        ResourceKind::Sqlite { .. } => ResourceKind::Sqlite { path },
        ResourceKind::Files { exclude, .. } => ResourceKind::Files { path, exclude: exclude.clone() },
        ResourceKind::Env { .. } => ResourceKind::Env { path },
        ResourceKind::Postgres { .. } => kind.clone(), // planned in databases.rs
    }
}

/// The names a restore uses beside the live one.
pub struct Names {
    /// Where it lives.
    pub live: PathBuf,
    /// Where the copy is made and looked at.
    pub aside: PathBuf,
    /// Where what was there is kept.
    pub kept: PathBuf,
}

impl Names {
    pub(super) fn new(known: &Known) -> Names {
        let live = known.target.place.clone();
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(live.file_name().unwrap_or_default());
        hidden.push(format!(".lifeboat-{}", known.common.ids.plan));
        Names { aside: live.with_file_name(hidden), kept: known.kept.clone(), live }
    }
}

/// Plans a restore.
///
/// # Errors
/// When the place it is restored into is taken, or another process holds the database and no command to stop it is set.
pub fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Restore { without_emergency_backup, accept_loss, urgent, .. } = request else {
        return Err(steps::wrong_planner());
    };
    let (common, target) = (&known.common, &known.target);
    let name = &target.resource.name;
    let names = Names::new(known);
    if !known.in_place && target.exists {
        let failure = Failure::new(FailureKind::Refused, format!("{} exists already", names.live.display()));
        return Err(failure.hint("choose a path that is free, or leave --into out to replace what lives there"));
    }
    refuse_unrehearsed(known, urgent.as_deref())?;
    refuse_loss(known, *accept_loss)?;
    refuse_held(target)?;
    let title = if known.in_place {
        format!("restore {name} of {} from {}", common.scope, known.backup.id)
    } else {
        format!("restore {name} of {} from {} into {}", common.scope, known.backup.id, names.live.display())
    };
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    let replaces = known.in_place && target.exists;
    let keeps = replaces && without_emergency_backup.is_none() && known.unsound.is_none();
    let taking = Taking {
        common,
        prefix: "keep.",
        backup: common.ids.backup.clone(),
        reason: BackupReason::Emergency,
        label: Some(format!("before {}", common.ids.plan)),
        sources: std::slice::from_ref(target),
        instead: None,
    };
    let staged = taking.staged_bytes();
    plan.phases.push(phase(common, "preflight", vec![], preflight(known, &names, keeps.then_some(staged))));
    if keeps {
        let hint = format!(
            "mend that, or go on without an emergency backup: lifeboat restore {name} --without-emergency-backup \"why\"; \
             what is there is kept as a file all the same"
        );
        let steps = [taking.capture(), taking.store()].into_iter().flatten();
        let steps: Vec<Step> = steps.map(|step| Step { hint: Some(hint.clone()), ..step }).collect();
        let expected = [taking.predict_capture(), taking.predict_store()].concat();
        plan.phases.push(phase(common, "keep", expected, steps));
    }
    let losses = replaces.then(|| compare_loss(known, &names, *accept_loss)).flatten();
    plan.phases.extend(bring(known, &names, losses.as_ref()));
    plan.phases.push(phase(common, "swap", vec![], swap(known, &names, replaces, losses.as_ref())));
    if keeps {
        plan.phases.push(phase(common, "clean", vec![], vec![taking.clean()]));
    }
    plan.facts = rests_on(known, &names, replaces);
    plan.losses =
        known.loss.iter().map(|loss| Loss { kept: kept_where(&names, keeps, common), ..loss.clone() }).collect();
    plan.notes = notes(known, &names, replaces, without_emergency_backup.as_deref());
    plan.notes.extend(urgent.iter().map(|why| match known.rehearsed {
        true => format!("Urgent: {why}."),
        false => format!("{} has not been rehearsed, and that is not waited for: {why}.", known.backup.id),
    }));
    Ok(plan)
}

fn kept_where(names: &Names, keeps: bool, common: &Common) -> String {
    let file = names.kept.display();
    if keeps { format!("emergency backup {} and {file}", common.ids.backup) } else { file.to_string() }
}

/// Where it is demanded, only a backup that was restored before, somewhere else, and passed takes the place of what is live.
fn refuse_unrehearsed(known: &Known, urgent: Option<&str>) -> Result<(), Failure> {
    if !known.in_place || !known.rehearse_first || known.rehearsed || urgent.is_some() {
        return Ok(());
    }
    let (id, name, scope) = (&known.backup.id, &known.target.resource.name, &known.common.scope);
    let message =
        format!("{id} has not been rehearsed, and {scope} takes only what was: {name} in it has no passed proof");
    let hint =
        format!("lifeboat prove {id}; without it: lifeboat restore {name} --from {id} --urgent --reason \"why\"");
    Err(Failure::new(FailureKind::Refused, message).hint(hint))
}

/// Less was agreed to than is known to be lost already: nothing is fetched for that.
fn refuse_loss(known: &Known, accepted: AcceptLoss) -> Result<(), Failure> {
    let lost: u64 = known.loss.iter().flat_map(|loss| &loss.what).map(LossLine::rows_lost).sum();
    match accepted {
        AcceptLoss::Rows(most) if lost > most => {
            let message = format!("{lost} rows would be lost, and {most} were agreed to; nothing was changed");
            let hint = format!("lifeboat restore {} --accept-loss {lost}", known.target.resource.name);
            Err(Failure::new(FailureKind::NeedsPerson, message).hint(hint))
        }
        AcceptLoss::Rows(_) | AcceptLoss::Shown | AcceptLoss::Any => Ok(()),
    }
}

/// Without a way to stop the writer, a database that is open elsewhere is not swapped: the program would go on writing
/// to the old file.
fn refuse_held(target: &Live) -> Result<(), Failure> {
    if target.held_by.is_empty() || target.resource.writer.is_some() {
        return Ok(());
    }
    let (name, path) = (&target.resource.name, target.resource.kind.place());
    let message = format!("{path} is open in {}", target.held_by.join(", "));
    let hint = format!(
        "stop it first, or set `stop` and `start` for {name} in lifeboat.toml, or restore beside it with --into"
    );
    Err(Failure::new(FailureKind::Refused, message).hint(hint))
}

/// Room for what comes, and for what is kept of what is there: so many bytes of it are copied first.
fn preflight(known: &Known, names: &Names, kept_copied: Option<u64>) -> Vec<Step> {
    let common = &known.common;
    let folder = lifeboat_io::files::parent(&names.live).to_owned();
    let mut found = vec![steps::space("space.target", folder, super::backup::with_margin(known.part.bytes))];
    if let Some(copied) = kept_copied {
        let bytes = super::backup::with_margin(known.target.bytes);
        if copied > 0 {
            found.push(steps::space("space.staging", common.staging.clone(), bytes));
        }
        if let Some(vault) = &common.vault_folder {
            found.push(steps::space("space.vault", vault.clone(), bytes));
        }
    }
    let check = Action::CheckBackup { vault: common.vault.clone(), backup: known.backup.id.clone() };
    found.push(read("check-backup", format!("{} is whole in the vault", known.backup.id), check));
    found
}

fn bring(known: &Known, names: &Names, losses: Option<&Action>) -> Vec<lifeboat_model::Phase> {
    let common = &known.common;
    let (vault, backup, resource) = (common.vault.clone(), known.backup.id.clone(), known.target.resource.clone());
    let subject = format!("{vault} {}", resource.name);
    let fetch = Action::Fetch {
        vault: vault.clone(),
        backup: backup.clone(),
        resource: known.part.name.clone(),
        into: names.aside.clone(),
    };
    let undo = by(Action::Remove { paths: vec![names.aside.clone()] });
    let as_captured = Resource { name: known.part.name.clone(), ..resource.clone() };
    let check = Action::CheckFetched { vault, backup, resource: as_captured, at: names.aside.clone(), writes: false };
    let mut verify = vec![read("check", "compare it with the manifest: integrity, rows, digests", check)];
    if let Some(action) = losses.filter(|_| resource.writer.is_some()) {
        // Before anything is stopped for nothing.
        verify.push(read("loss.running", "count the rows that would be lost", action.clone()));
    }
    vec![
        phase(
            common,
            "restore",
            vec![common.predict("fetch", &subject, known.part.bytes, guess::FETCH)],
            vec![step("fetch", format!("bring it to {}", names.aside.display()), StepClass::Idempotent, fetch, undo)],
        ),
        phase(
            common,
            "verify",
            vec![common.predict_check(resource.name.as_str(), known.part.bytes, guess::CHECK)],
            verify,
        ),
    ]
}

/// The last look at what is lost: where the live database can be counted at all. One that is not sound is kept as it is.
fn compare_loss(known: &Known, names: &Names, accepted: AcceptLoss) -> Option<Action> {
    let can = is_database(&known.target.resource) && known.unsound.is_none();
    let shown = known.loss.as_ref().map(|loss| loss.what.clone());
    can.then(|| Action::CompareLoss { live: names.live.clone(), restored: names.aside.clone(), shown, accepted })
}

fn swap(known: &Known, names: &Names, replaces: bool, losses: Option<&Action>) -> Vec<Step> {
    let writer = known.target.resource.writer.as_ref().filter(|_| known.in_place);
    let mut steps = Vec::new();
    steps.extend(writer.map(|writer| stop_writer(writer, &known.common)));
    if replaces {
        let mut aside = set_aside(&known.target.resource, names);
        // Between the last look that nobody has it open and the move: from here on nobody writes to it.
        let count = losses.map(|action| read("loss", "count the rows that are lost", action.clone()));
        let last = aside.len().saturating_sub(1);
        aside.splice(last..last, count);
        steps.extend(aside);
    }
    let like = replaces.then(|| names.kept.clone());
    let action = Action::PutInPlace {
        database: is_database(&known.target.resource),
        aside: names.aside.clone(),
        live: names.live.clone(),
        like,
    };
    let title = format!("give it the name {}", names.live.display());
    let because = "the restored data is live from here on; `lifeboat undo` swaps back".to_owned();
    steps.push(step("put-in-place", title, StepClass::Pivot, action, Undo::Impossible { because }));
    steps.extend(writer.map(|writer| start_writer(writer, &known.common)));
    steps
}

/// Whether it moves with sidecars and only while nobody has it open.
pub(crate) fn is_database(resource: &Resource) -> bool {
    match resource.kind {
        ResourceKind::Sqlite { .. } => true,
        ResourceKind::Files { .. } | ResourceKind::Env { .. } | ResourceKind::Postgres { .. } => false,
    }
}

/// Moves the live one aside, after a last look that nobody holds it.
pub(crate) fn set_aside(resource: &Resource, names: &Names) -> Vec<Step> {
    let (live, kept) = (names.live.clone(), names.kept.clone());
    let mut steps = Vec::new();
    let database = is_database(resource);
    if database {
        steps.push(read("unused", "nobody has it open", Action::CheckUnused { path: live.clone() }));
    }
    let undo = by(Action::BringBack { database, live: live.clone(), kept: kept.clone() });
    let title = format!("keep what is there as {}", kept.display());
    steps.push(step("set-aside", title, StepClass::ProbeFirst, Action::SetAside { database, live, kept }, undo));
    steps
}

pub(crate) fn stop_writer(writer: &Writer, common: &Common) -> Step {
    let command = |argv: &Vec<String>| Action::Command { argv: argv.clone(), limit_ms: common.command_limit_ms };
    let title = format!("stop what writes to it: {}", writer.stop.join(" "));
    step("stop-writer", title, StepClass::Idempotent, command(&writer.stop), by(command(&writer.start)))
}

pub(crate) fn start_writer(writer: &Writer, common: &Common) -> Step {
    let action = Action::Command { argv: writer.start.clone(), limit_ms: common.command_limit_ms };
    let title = format!("start it again: {}", writer.start.join(" "));
    step("start-writer", title, StepClass::Idempotent, action, Undo::Nothing)
}

fn rests_on(known: &Known, names: &Names, replaces: bool) -> Vec<ExpectedFact> {
    let (vault, backup) = (known.common.vault.clone(), known.backup.id.clone());
    let changes = if replaces { "set-aside" } else { "put-in-place" };
    let there = ExpectedFact {
        fact: Fact::BackupIsThere { vault, backup },
        value: known.backup.snapshot.clone(),
        until: Some("put-in-place".into()),
    };
    let identity = ExpectedFact {
        fact: Fact::Identity { path: names.live.clone() },
        value: known.target.identity.clone(),
        until: Some(changes.into()),
    };
    let mut facts = vec![there, identity];
    if replaces {
        facts.push(must_be_free(&names.kept));
    }
    if known.in_place {
        facts.push(super::backup::settings_fact(&known.target));
    }
    facts
}

/// The name for what is kept, so that a plan never takes what another one kept for its own.
pub(crate) fn must_be_free(kept: &Path) -> ExpectedFact {
    let fact = Fact::Identity { path: kept.to_owned() };
    ExpectedFact { fact, value: facts::identity(kept), until: Some("set-aside".into()) }
}

fn notes(known: &Known, names: &Names, replaces: bool, without: Option<&str>) -> Vec<String> {
    let mut notes = Vec::new();
    let backup = &known.backup;
    match backup.proven_at {
        Some(at) => notes.push(format!(
            "{} is complete up to {} and was proven {}.",
            backup.id,
            steps::instant(backup.recovery_point),
            steps::instant(at)
        )),
        None => notes.push(format!(
            "{} is complete up to {} and has not been proven yet; it is verified before the swap.",
            backup.id,
            steps::instant(backup.recovery_point)
        )),
    }
    notes.extend(steps::whose(&known.common, backup, &known.part, &known.target.resource));
    if let Some(older) = &known.next_older {
        notes.push(format!("Should it prove damaged, the next older good one is {older}: --from {older}."));
    }
    for (id, why) in &known.passed_over {
        notes.push(format!("{id} is newer and was passed over: {why}. To take it: --from {id}."));
    }
    if let Some(why) = &known.uncounted {
        notes.push(format!("What would be lost could not be counted: {why}."));
    }
    if let Some(why) = &known.unsound {
        notes.push(format!(
            "What is there cannot be backed up ({why}); its files are kept unchanged as {}.",
            names.kept.display()
        ));
    }
    if let Some(what) = &known.corrupt {
        notes.push(format!(
            "What is there is damaged ({what}), and what was counted in it may be wrong; it is kept as {}.",
            names.kept.display()
        ));
    }
    if let Some(why) = without {
        notes.push(format!("No emergency backup is taken: {why}. What is there is kept as {}.", names.kept.display()));
    }
    if replaces {
        notes.push("To take it back afterwards: lifeboat undo.".to_owned());
    }
    notes
}
