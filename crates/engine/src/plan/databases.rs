//! Planning for PostgreSQL: a backup is filled into a new database, compared, and given the name by a rename of both.
//!
//! ```text
//!   shop                       live, until the swap
//!   shop_lifeboat_p1a2b3       filled and compared; then it is `shop`
//!   shop_before_20260501...    what was live, closed to everybody, until it is released
//! ```

use std::collections::BTreeMap;

use lifeboat_model::{
    AcceptLoss, Action, Backup, BackupChoice, BackupId, BackupReason, Content, ExpectedFact, Fact, Failure,
    FailureKind, Lease, Loss, LossLine, Operation, PgAction, Phase, Plan, Request, Resource, ResourceKind,
    ResourceManifest, Step, StepClass, StepState, SwapStrategy, Timestamp, Undo, choose_backup,
};

use super::{
    restore,
    salvage::{self, Leaving, Names},
    schemas::{self, Ground},
    shadow,
    steps::{self, Taking, by, guess, phase, read, step},
};
use crate::{
    Engine,
    act::postgres::{self as hands, losses::Holdable},
    again::Tried,
    facts::{Common, Live},
};

/// So many earlier tries are told.
const TRIES_TOLD: usize = 5;
/// No server takes longer names.
const NAME_BYTES_MAX: usize = 63;

/// What is known when a restore into a server is planned.
pub struct Known {
    pub(super) common: Common,
    pub(super) backup: Backup,
    part: ResourceManifest,
    pub(super) target: Live,
    /// The address of a database of the server, without a password.
    pub(super) url: String,
    /// The name it will have.
    pub(super) live: String,
    in_place: bool,
    /// What would leave; nothing when nothing that can be read is replaced.
    pub(super) leaving: Option<Leaving>,
    /// What decides how it takes its place, where it replaces something that can be looked at.
    ground: Option<Ground>,
    /// Tables of schemas that stay as they are and are not as in the backup; none where they could not be looked at.
    pub(super) stays: Vec<LossLine>,
    /// Newer backups that were passed over, with the reason.
    passed_over: Vec<(BackupId, String)>,
    rehearsed: bool,
    rehearse_first: bool,
    next_older: Option<BackupId>,
    /// Tablespaces of the backup that the server lacks.
    tablespaces: Vec<String>,
    /// Those whose things go into others.
    pub(super) map: BTreeMap<String, String>,
    /// Which database has the name for what is kept: none, if the name is free.
    kept_identity: String,
    /// What was tried before and failed: it is on record with what is tried next.
    tried: Vec<Tried>,
    /// A copy of this backup that lies ready on the server.
    pub(super) shadow: Option<String>,
}

/// A name that says where a database comes from, short enough for a server.
pub(super) fn derived(live: &str, end: &str) -> String {
    let mut cut = live.len().min(NAME_BYTES_MAX.saturating_sub(end.len() + 1));
    while !live.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}_{end}", &live[..cut])
}

pub(super) fn stamped(live: &str, word: &str, now: Timestamp, plan: &lifeboat_model::PlanId) -> String {
    // The plan's name keeps two of one second apart.
    let plan = plan.to_string();
    let tail = plan.rsplit('-').next().unwrap_or_default();
    derived(live, &format!("{word}_{}_{}", now.strftime("%Y%m%d%H%M%S"), tail.get(..4).unwrap_or(tail)))
}

pub(super) fn aside_name(live: &str, common: &Common) -> String {
    derived(live, &format!("lifeboat_{}", common.ids.plan.to_string().replace('-', "")))
}

/// Whether a request is about a database on a server.
pub(crate) fn is_meant(engine: &Engine, request: &Request) -> bool {
    let Request::Restore { resource, .. } = request else { return false };
    let known = engine.setup().resources.iter().find(|one| &one.name == resource);
    known.is_some_and(|one| matches!(one.kind, ResourceKind::Postgres { .. }))
}

/// What is known; it takes its place as it fits, or in this way.
pub(crate) fn gather(engine: &Engine, request: &Request, instead: Option<SwapStrategy>) -> Result<Known, Failure> {
    let Request::Restore { resource, from, into, tablespaces: map, without_emergency_backup, .. } = request else {
        return Err(steps::wrong_planner());
    };
    let common = engine.common()?;
    if !common.vault_exists {
        let hint = format!("check the vault's location; without any backup: lifeboat provider routes {resource}");
        return Err(steps::no_vault(&common).hint(hint));
    }
    let resource = engine.setup().resource(resource)?.clone();
    let ResourceKind::Postgres { url, schemas } = &resource.kind else { return Err(steps::wrong_planner()) };
    let backups = engine.backups_for(from)?;
    let (backup, part) = restore::choose(engine, &backups, &resource, from)?;
    super::reach::must_answer(engine, url, &resource.name, &backup.id)?;
    let older = from.instead(BackupChoice::Before(backup.recovery_point));
    let next_older = choose_backup(&backups, &common.scope, &resource.name, &older).ok().map(|older| older.id.clone());
    let address = engine.vaults.database(url)?;
    let live = match into {
        None => address.database.clone(),
        Some(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let there = Resource {
        kind: ResourceKind::Postgres { url: address.with_database(&live).url(), schemas: schemas.clone() },
        ..resource.clone()
    };
    let target = engine.live(&there)?;
    let replaces = into.is_none() && target.exists && target.unreadable.is_none();
    let target = match replaces && without_emergency_backup.is_none() {
        true => engine.foreseen(target, &common),
        false => target,
    };
    let ground = match replaces {
        // One that cannot be looked into is replaced as a whole.
        true => schemas::ground(&address, engine.setup().swaps.get(&resource.name).copied(), instead).ok(),
        false => None,
    };
    let swapped = match (&ground, &part.content) {
        (Some(ground), Content::Postgres(facts)) if schemas::choose(ground).0 == SwapStrategy::Schema => {
            schemas::split(ground, &facts.schemas).0
        }
        _whole_database => Vec::new(),
    };
    // What is broken must not stand in the way of its own restore: what cannot be counted is told.
    let leaving = replaces.then(|| {
        let from = (common.vault.as_str(), &backup.id, &part.name);
        salvage::leaving(engine, (resource.clone(), url), from, None, swapped)
    });
    let stays = match (&ground, &part.content) {
        (Some(ground), Content::Postgres(facts)) if schemas::choose(ground).0 == SwapStrategy::Schema => {
            let names = schemas::split(ground, &facts.schemas).1;
            schemas::what_stays(engine, (&resource, url), (&common.vault, &backup.id, &part.name), &names)
        }
        _whole_database => Vec::new(),
    };
    let tablespaces = match &part.content {
        Content::Postgres(facts) => hands::missing_tablespaces(&address, facts, map)?,
        Content::Sqlite(_) | Content::Files(_) | Content::Env(_) => Vec::new(),
    };
    let passed_over = restore::passed_over(&backups, &backup, from);
    let rehearsed = engine.is_rehearsed(&backup.id, &part.name)?;
    let kept = stamped(&live, "before", common.now, &common.ids.plan);
    let kept_identity = engine.database_identity(url, &kept)?;
    // A copy beside goes into whatever tablespaces it went into.
    let shadow = match replaces && map.is_empty() {
        true => shadow::ready(engine, url, &live, &backup.id)?,
        false => None,
    };
    Ok(Known {
        shadow,
        backup,
        part,
        target,
        url: url.clone(),
        live,
        in_place: into.is_none(),
        leaving,
        ground,
        stays,
        passed_over,
        rehearsed,
        rehearse_first: engine.setup().rehearse_first,
        next_older,
        tablespaces,
        map: map.clone(),
        kept_identity,
        tried: engine.restores_tried(&resource.name, TRIES_TOLD)?,
        common,
    })
}

/// What would leave, for the plan.
pub(super) fn losses(known: &Known, leaving: Option<&Leaving>, since: Timestamp, kept: String) -> Vec<Loss> {
    let lines = leaving.and_then(|leaving| leaving.lines.clone());
    let resource = known.target.resource.name.clone();
    lines.map(|what| Loss { resource, since, what, kept }).into_iter().collect()
}

pub(super) fn uncounted_note(leaving: &Leaving) -> Option<String> {
    leaving.uncounted.as_ref().map(|why| format!("What would be lost could not be counted: {why}."))
}

/// Plans a restore.
///
/// # Errors
/// When the name is taken, the backup was not rehearsed where it must be, or more would be lost than was agreed to.
pub(crate) fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Restore { without_emergency_backup, accept_loss, urgent, .. } = request else {
        return Err(steps::wrong_planner());
    };
    refuse(known, *accept_loss, urgent.as_deref())?;
    let common = &known.common;
    let (name, live) = (&known.target.resource.name, &known.live);
    let title = match known.in_place {
        true => format!("restore {name} of {} from {}", common.scope, known.backup.id),
        false => format!("restore {name} of {} from {} into database {live}", common.scope, known.backup.id),
    };
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    if let Some(ground) = known.ground.as_ref().filter(|ground| schemas::choose(ground).0 == SwapStrategy::Schema) {
        return schemas::plan(known, ground, request, plan);
    }
    let replaces = known.in_place && known.target.exists;
    let keeps = replaces && without_emergency_backup.is_none() && known.target.unreadable.is_none();
    let aside = aside_name(live, common);
    let kept = stamped(live, "before", common.now, &common.ids.plan);
    let stored = Action::CheckBackup { vault: common.vault.clone(), backup: known.backup.id.clone() };
    let mut preflight = vec![read("check-backup", format!("{} is whole in the vault", known.backup.id), stored)];
    if keeps {
        let source = PgAction::CheckSource { url: known.url.clone() };
        preflight.push(read("check-source", format!("{live} can be captured first"), Action::Postgres(source)));
    }
    plan.phases.push(phase(common, "preflight", vec![], preflight));
    if keeps {
        let hint = format!(
            "mend that, or go on without an emergency backup: lifeboat restore {name} --without-emergency-backup \"why\"; \
             what is there is kept as database {kept} all the same"
        );
        let taking = taking(known);
        let steps = taking.store().into_iter().map(|step| Step { hint: Some(hint.clone()), ..step }).collect();
        plan.phases.push(phase(common, "keep", taking.predict_store(), steps));
    }
    plan.phases.extend(known.bring(&aside));
    let mut swap = vec![take_the_name(known, replaces, &aside, &kept)];
    if known.is_a_copy() {
        let quiet = PgAction::Quarantine { url: known.url.clone(), database: aside.clone() };
        let title = "switch off what would act in a copy: subscriptions, jobs, ways into other servers, web calls";
        let quiet = step("quarantine", title, StepClass::Idempotent, Action::Postgres(quiet), Undo::Nothing);
        match plan.phases.last_mut() {
            // Before writes are held.
            Some(verify) if replaces => verify.steps.push(quiet),
            _nothing_to_replace => swap.insert(0, quiet),
        }
    }
    if replaces {
        let spare = stamped(live, "new", common.now, &common.ids.plan);
        let ready = ready(&known.url, (live, &aside, &kept), &spare);
        let names = Names { url: &known.url, live, aside: &aside, kept: &kept };
        match &known.leaving {
            Some(leaving) => {
                swap.splice(0..0, salvage::before_swap(leaving, &names, *accept_loss, ready, true));
                swap.extend(salvage::after_swap(leaving, &names));
            }
            None => swap.insert(0, ready),
        }
    }
    plan.phases.push(phase(common, "swap", vec![], swap));
    plan.facts = rests_on(known, replaces, &kept);
    let kept_where = match keeps {
        true => format!("emergency backup {} and database {kept}", common.ids.backup),
        false => format!("database {kept}"),
    };
    plan.losses = losses(known, known.leaving.as_ref(), known.part.recovery_point, kept_where);
    plan.notes = notes(known, replaces, &kept, without_emergency_backup.as_deref(), urgent.as_deref());
    if let Some(shadow) = &known.shadow {
        plan.notes.push(format!(
            "{shadow} lies ready: where it is still what {} holds, nothing is fetched.",
            known.backup.id
        ));
    }
    let is_held = |leaving: &Leaving| matches!(leaving.holdable, Holdable::Held(_));
    if known.leaving.as_ref().is_some_and(|leaving| !is_held(leaving)) && *accept_loss == AcceptLoss::Shown {
        plan.notes.push(format!(
            "Rows that are written while this runs stop it before the swap, since nobody has seen them: lifeboat fence on {name} \
             first, or --accept-loss any."
        ));
    }
    Ok(plan)
}

pub(super) fn taking(known: &Known) -> Taking<'_> {
    Taking {
        common: &known.common,
        prefix: "keep.",
        backup: known.common.ids.backup.clone(),
        reason: BackupReason::Emergency,
        label: Some(format!("before {}", known.common.ids.plan)),
        sources: std::slice::from_ref(&known.target),
        instead: None,
    }
}

fn refuse(known: &Known, accepted: AcceptLoss, urgent: Option<&str>) -> Result<(), Failure> {
    let (id, name, scope) = (&known.backup.id, &known.target.resource.name, &known.common.scope);
    if !known.in_place && known.target.exists {
        let failure = Failure::new(FailureKind::Refused, format!("the database {} exists already", known.live));
        return Err(failure.hint("choose a name that is free, or leave --into out to replace what lives there"));
    }
    if known.in_place && known.rehearse_first && !known.rehearsed && urgent.is_none() {
        let message = format!("{id} has not been rehearsed, and {scope} takes only what was");
        let hint =
            format!("lifeboat prove {id}; without it: lifeboat restore {name} --from {id} --urgent --reason \"why\"");
        return Err(Failure::new(FailureKind::Refused, message).hint(hint));
    }
    let lines = known.leaving.iter().filter_map(|leaving| leaving.lines.as_ref()).flatten();
    let lost: u64 = lines.map(LossLine::rows_lost).sum();
    let uncounted = known.leaving.as_ref().and_then(|leaving| leaving.uncounted.clone());
    match accepted {
        AcceptLoss::Rows(_) if uncounted.is_some() => {
            let why = uncounted.unwrap_or_default();
            let message = "a number of rows was agreed to, and what would be lost could not be counted";
            let failure = Failure::new(FailureKind::NeedsPerson, message).because(why);
            Err(failure.hint(format!("lifeboat restore {name} --accept-loss any")))
        }
        AcceptLoss::Rows(most) if lost > most => {
            let message = format!("{lost} rows would be lost, and {most} were agreed to; nothing was changed");
            let failure = Failure::new(FailureKind::NeedsPerson, message);
            Err(failure.hint(format!("lifeboat restore {name} --accept-loss {lost}")))
        }
        AcceptLoss::Rows(_) | AcceptLoss::Shown | AcceptLoss::Any => Ok(()),
    }
}

/// Fills a database beside and compares it with the manifest.
pub(super) fn bring(
    common: &Common,
    backup: &Backup,
    part: &ResourceManifest,
    resource: &Resource,
    url: &str,
    database: &str,
    writes: bool,
) -> Vec<Phase> {
    // In its own backup it may have another name.
    let (vault, name) = (common.vault.clone(), &part.name);
    let undo = by(Action::Postgres(PgAction::Drop { url: url.to_owned(), database: database.to_owned() }));
    let fill = PgAction::Fill {
        vault: vault.clone(),
        backup: backup.id.clone(),
        resource: name.clone(),
        url: url.to_owned(),
        database: database.to_owned(),
        tablespaces: BTreeMap::new(),
        shadow: None,
    };
    let check = PgAction::Check {
        vault: vault.clone(),
        backup: backup.id.clone(),
        resource: Box::new(Resource { name: name.clone(), ..resource.clone() }),
        url: url.to_owned(),
        database: database.to_owned(),
        writes,
    };
    let (fill_id, check_id) = match writes {
        true => (format!("fetch.{name}"), format!("check.{name}")),
        false => ("fill".to_owned(), "check".to_owned()),
    };
    let expected = common.predict("fetch", &format!("{vault} {name}"), part.bytes, guess::FETCH / 5.0);
    let compare = match writes {
        true => common.predict("check-with-writes", name.as_str(), part.bytes, guess::CHECK),
        false => common.predict_check(name.as_str(), part.bytes, guess::CHECK),
    };
    let fill_title = format!("fill database {database}: definitions, rows, indexes");
    let check_title = "compare it with the manifest: rows, digests, definitions";
    vec![
        phase(
            common,
            "restore",
            vec![expected],
            vec![step(fill_id, fill_title, StepClass::Idempotent, Action::Postgres(fill), undo)],
        ),
        phase(common, "verify", vec![compare], vec![read(check_id, check_title, Action::Postgres(check))]),
    ]
}

/// Looks whether a swap can happen; taken back, the live database is open whatever became of it.
fn ready(url: &str, (live, aside, kept): (&str, &str, &str), spare: &str) -> Step {
    let [url, live, aside, kept] = [url, live, aside, kept].map(str::to_owned);
    let spare = spare.to_owned();
    let undo =
        PgAction::Reopen { url: url.clone(), live: live.clone(), aside: aside.clone(), kept: kept.clone(), spare };
    let title = format!("every session of {live} may be ended, nothing holds it");
    let action = Action::Postgres(PgAction::Ready { url, live, aside, kept });
    step("ready", title, StepClass::Idempotent, action, by(Action::Postgres(undo)))
}

fn take_the_name(known: &Known, replaces: bool, aside: &str, kept: &str) -> Step {
    let (url, live) = (known.url.clone(), known.live.clone());
    let because = "the restored data is live from here on; `lifeboat undo` renames back".to_owned();
    let (title, action) = match replaces {
        true => {
            let title = format!("end all sessions; {live} becomes {kept}, {aside} becomes {live}");
            (title, PgAction::Swap { url, live, aside: aside.to_owned(), kept: kept.to_owned() })
        }
        false => (format!("give it the name {live}"), PgAction::Rename { url, from: aside.to_owned(), to: live }),
    };
    step("take-the-name", title, StepClass::Pivot, Action::Postgres(action), Undo::Impossible { because })
}

fn rests_on(known: &Known, replaces: bool, kept: &str) -> Vec<ExpectedFact> {
    let (vault, backup) = (known.common.vault.clone(), known.backup.id.clone());
    let until = Some("take-the-name".into());
    let database = |name: &str, value: &str| ExpectedFact {
        fact: Fact::Database { url: known.url.clone(), database: name.to_owned() },
        value: value.to_owned(),
        until: until.clone(),
    };
    let there = Fact::BackupIsThere { vault, backup };
    let mut facts = vec![
        ExpectedFact { fact: there, value: known.backup.snapshot.clone(), until: until.clone() },
        database(&known.live, &known.target.identity),
    ];
    if replaces {
        facts.push(database(kept, &known.kept_identity));
    }
    facts
}

fn notes(known: &Known, replaces: bool, kept: &str, without: Option<&str>, urgent: Option<&str>) -> Vec<String> {
    let backup = &known.backup;
    let proven = match backup.proven_at {
        Some(at) => format!("was proven {}", steps::instant(at)),
        None => "has not been proven yet; it is compared before the swap".to_owned(),
    };
    let mut notes =
        vec![format!("{} is complete up to {} and {proven}.", backup.id, steps::instant(backup.recovery_point))];
    notes.extend(steps::whose(&known.common, backup, &known.part, &known.target.resource));
    notes.extend(known.tried.iter().rev().map(Tried::told));
    if known.in_place && known.tried.len() > 1 {
        notes.push(format!(
            "{} tries failed. A way that leaves the live one alone: --into NEW-DATABASE, and the app is pointed there.",
            known.tried.len()
        ));
    }
    notes.extend(lifeboat_io::database::postgres::tablespaces_told(&known.tablespaces));
    notes.extend(known.map.iter().map(|(old, new)| format!("What was in tablespace {old} goes into {new}.")));
    if known.in_place && known.is_a_copy() {
        let is_schema = known.ground.as_ref().is_some_and(|ground| schemas::choose(ground).0 == SwapStrategy::Schema);
        let what = match is_schema {
            true => {
                "triggers that call the web; subscriptions, jobs and ways into other servers are this database's own, and stay"
            }
            false => "subscriptions, jobs, ways into other servers, web calls",
        };
        notes.push(format!(
            "It comes from {}: what would act in it by itself is switched off, and told one by one: {what}.",
            backup.scope
        ));
    }
    if let Some(older) = &known.next_older {
        notes.push(format!("Should it prove damaged, the next older good one is {older}: --from {older}."));
    }
    for (id, why) in &known.passed_over {
        notes.push(format!("{id} is newer and was passed over: {why}. To take it: --from {id}."));
    }
    if let Some(leaving) = &known.leaving {
        notes.extend(uncounted_note(leaving));
        if replaces {
            notes.extend(salvage::notes(leaving, &known.live));
        }
    }
    if replaces && known.target.resource.writer.is_some() {
        notes.push("`stop` and `start` are not used for it: every session is ended instead.".to_owned());
    }
    if replaces {
        let why =
            known.ground.as_ref().map(|ground| format!(", since {}", schemas::choose(ground).1)).unwrap_or_default();
        notes.push(format!(
            "Strategy rename{why}: every session of {} is ended for about a tenth of a second.",
            known.live
        ));
        notes.push(format!("What is there now is kept as database {kept}, closed, until: lifeboat release."));
    }
    notes.extend(known.target.unreadable.iter().map(|why| format!("There is no emergency backup: {why}.")));
    notes.extend(without.map(|why| format!("There is no emergency backup, as wished: {why}.")));
    notes.extend(urgent.map(|why| format!("Urgent: {why}.")));
    notes.push("To take it back afterwards: lifeboat undo.".to_owned());
    notes
}

impl Known {
    /// Whether what comes is a copy: beside the original, or in an environment that is not its own.
    pub(super) fn is_a_copy(&self) -> bool {
        !self.in_place || self.backup.scope.environment != self.common.scope.environment
    }

    /// Why exchanging schemas would bring back less than a database that takes the name of the live one, when it would.
    pub(crate) fn less_by_schemas(&self) -> Option<String> {
        let ground = self.ground.as_ref()?;
        let (swapped, stays) = schemas::split(ground, self.schemas());
        match (swapped.is_empty(), stays.is_empty(), self.has_large_objects()) {
            (true, _, _) => Some("no schema of the backup is one of ours".to_owned()),
            (_, false, _) => Some(format!("{} would stay as they are", stays.join(", "))),
            (_, _, true) => Some("large objects would stay as they are".to_owned()),
            (false, true, false) => None,
        }
    }

    /// Up to when the backup is complete.
    pub(super) fn recovery_point(&self) -> Timestamp {
        self.part.recovery_point
    }

    /// What the resource is called in the backup.
    pub(super) fn part_name(&self) -> &lifeboat_model::ResourceName {
        &self.part.name
    }

    /// The schemas in the backup.
    pub(super) fn schemas(&self) -> &[String] {
        match &self.part.content {
            Content::Postgres(facts) => &facts.schemas,
            Content::Sqlite(_) | Content::Files(_) | Content::Env(_) => &[],
        }
    }

    /// Whether the backup has large objects, which are in no schema.
    pub(super) fn has_large_objects(&self) -> bool {
        matches!(&self.part.content, Content::Postgres(facts) if facts.large_objects.is_some())
    }

    /// Fills a database beside and compares it.
    pub(super) fn bring(&self, database: &str) -> Vec<Phase> {
        let mut phases =
            bring(&self.common, &self.backup, &self.part, &self.target.resource, &self.url, database, false);
        for step in phases.iter_mut().flat_map(|phase| &mut phase.steps) {
            if let Action::Postgres(PgAction::Fill { tablespaces, .. }) = &mut step.action {
                tablespaces.clone_from(&self.map);
            }
        }
        if let Some(shadow) = &self.shadow {
            shadow::instead(&mut phases, shadow);
            let compare = self.common.predict_check(self.target.resource.name.as_str(), self.part.bytes, guess::CHECK);
            phases[0].expected = Some(compare);
        }
        phases
    }

    /// What there is to say about any restore.
    pub(super) fn notes(&self, without: Option<&str>, urgent: Option<&str>) -> Vec<String> {
        notes(self, false, "", without, urgent)
    }
}

/// Plans to stop writes, or to let them in again.
pub(crate) fn fence(engine: &Engine, request: &Request) -> Result<Plan, Failure> {
    let Request::Fence { resource, on, why } = request else { return Err(steps::wrong_planner()) };
    let common = engine.common()?;
    let resource = engine.setup().resource(resource)?;
    let ResourceKind::Postgres { url, .. } = &resource.kind else {
        let message = format!("{} is on no server; only PostgreSQL databases have a fence", resource.name);
        return Err(Failure::new(FailureKind::Usage, message));
    };
    let name = &resource.name;
    let (title, done) = match on {
        true => {
            (format!("stop all writes to {name} of {}", common.scope), "refuse every write, and see that none is left")
        }
        false => (format!("let writes to {name} of {} in again", common.scope), "take the fence away"),
    };
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    let action = |on: bool| {
        Action::Postgres(PgAction::Fence { url: url.clone(), on, why: why.clone(), brief: false, database: None })
    };
    // A fence that came half way is taken away again; one that cannot be taken away stays as it was.
    let undo = if *on { by(action(false)) } else { Undo::Nothing };
    let step = step("fence", done, StepClass::Idempotent, action(*on), undo);
    plan.phases = vec![phase(&common, "fence", vec![], vec![step])];
    if *on {
        plan.notes = vec![
            "Every role is refused, superusers too; transactions that hold a table for 10 s are ended.".to_owned(),
            "Not held back: changes of the schema, sequences, large objects, a table's owner who drops the trigger."
                .to_owned(),
            format!(
                "It stays whatever becomes of this program: lifeboat fence status {name}; lifeboat fence off {name}"
            ),
        ];
    }
    Ok(plan)
}

/// The rename that an operation made, when it made one: the server, the name everybody uses, what is kept.
pub(crate) fn renamed(operation: &Operation) -> Option<(String, String, Option<String>)> {
    operation.plan.steps().zip(&operation.steps).find_map(|(step, state)| match (&step.action, state) {
        (Action::Postgres(PgAction::Swap { url, live, kept, .. }), StepState::Done { .. }) => {
            Some((url.clone(), live.clone(), Some(kept.clone())))
        }
        (Action::Postgres(PgAction::Rename { url, to, .. }), StepState::Done { .. }) => {
            Some((url.clone(), to.clone(), None))
        }
        _other => None,
    })
}

/// What is known when a rename is to be taken back, or what it kept is to go.
pub(crate) struct Renamed {
    pub common: Common,
    pub operation: Operation,
    pub url: String,
    pub live: String,
    pub kept: Option<String>,
    /// The name it had before an undo renamed it without putting another in its place.
    pub came_from: Option<String>,
    pub live_identity: String,
    pub kept_identity: String,
    /// What was written since; nothing when that cannot be told.
    pub leaving: Option<Leaving>,
}

pub(crate) fn gather_renamed(engine: &Engine, operation: Operation) -> Result<Renamed, Failure> {
    let (url, live, kept) = renamed(&operation).ok_or_else(steps::wrong_planner)?;
    let live_identity = engine.database_identity(&url, &live)?;
    let kept_identity = match &kept {
        Some(kept) => engine.database_identity(&url, kept)?,
        None => hands::NOTHING.to_owned(),
    };
    let came_from = match &operation.plan.request {
        Request::Undo { .. } => operation.plan.steps().find_map(|step| match &step.action {
            Action::Postgres(PgAction::Rename { from, .. }) => Some(from.clone()),
            _other => None,
        }),
        _other => None,
    };
    let is_read = kept.is_some() && live_identity != hands::NOTHING;
    let common = engine.common()?;
    let leaving = if is_read { written_since(engine, &operation, &url, Some(&live), vec![]) } else { None };
    Ok(Renamed { common, operation, url, live, kept, came_from, live_identity, kept_identity, leaving })
}

/// Rows that were written to what an operation made live, in these schemas or all; they leave when it is taken back.
pub(super) fn written_since(
    engine: &Engine,
    operation: &Operation,
    url: &str,
    live: Option<&str>,
    schemas: Vec<String>,
) -> Option<Leaving> {
    let (vault, backup, name, since) = salvage::origin(engine, operation)?;
    let part = lifeboat_model::ResourceName::new(name).ok()?;
    let address = engine.vaults.database(url).ok()?;
    let is_it = |one: &&Resource| matches!(&one.kind, ResourceKind::Postgres { url: its, .. } if its == url);
    let configured = engine.setup().resources.iter().find(is_it);
    let kind = ResourceKind::Postgres { url: url.to_owned(), schemas: Vec::new() };
    let resource = configured.cloned().unwrap_or_else(|| Resource::plain(part.clone(), kind));
    live.is_none_or(|live| address.database == live)
        .then(|| salvage::leaving(engine, (resource, url), (&vault, &backup, &part), since, schemas))
}

/// Plans to take a rename back. What is live now is kept in turn.
pub(crate) fn undo(known: &Renamed, request: &Request) -> Result<Plan, Failure> {
    let (common, live) = (&known.common, &known.live);
    let undone = match &known.came_from {
        // To take back that a name was taken away is to give it back.
        Some(former) => former.clone(),
        None => stamped(live, "undone", common.now, &common.ids.plan),
    };
    let (mut swap, mut after) = (Vec::new(), Vec::new());
    let because = "what was there before is live from here on; undo this operation to rename again".to_owned();
    let url = known.url.clone();
    let (title, action) = match &known.kept {
        Some(kept) => {
            if known.kept_identity == hands::NOTHING {
                let message = format!("what {} kept, the database {kept}, is not there any more", known.operation.id);
                return Err(Failure::new(FailureKind::Refused, message).hint("lifeboat backups list"));
            }
            let title = format!("end all sessions; {live} becomes {undone}, {kept} becomes {live}");
            let ready = ready(&url, (live, kept, &undone), kept);
            let names = Names { url: &known.url, live, aside: kept, kept: &undone };
            match &known.leaving {
                Some(leaving) => {
                    swap.extend(salvage::before_swap(leaving, &names, AcceptLoss::Any, ready, false));
                    after.extend(salvage::after_swap(leaving, &names));
                }
                None => swap.push(ready),
            }
            after.push(salvage::sequences(&known.url, &undone, live));
            (title, PgAction::Swap { url, live: live.clone(), aside: kept.clone(), kept: undone.clone() })
        }
        None => {
            let title = format!("{live} becomes {undone}");
            (title, PgAction::Rename { url, from: live.clone(), to: undone.clone() })
        }
    };
    let mut plan = begun(known, request, "undo");
    plan.facts = facts(known, "take-the-name");
    let undo = Undo::Impossible { because };
    let step = step("take-the-name", title, StepClass::Pivot, Action::Postgres(action), undo);
    swap.push(step);
    swap.extend(after);
    plan.phases = vec![phase(common, "swap", vec![], swap)];
    plan.notes = vec![
        match &known.came_from {
            Some(_) => format!("The database {live} is called {undone} again."),
            None => format!("What is there now is kept as database {undone}."),
        },
        format!(
            "It was put there {}; what was written since then stays in that database.",
            steps::instant(known.operation.last_at)
        ),
    ];
    if let Some(leaving) = &known.leaving {
        plan.notes.extend(uncounted_note(leaving));
        plan.notes.extend(salvage::notes(leaving, live));
        let (resource, since) = (leaving.resource.name.clone(), known.operation.last_at);
        let what = leaving.lines.clone().unwrap_or_default();
        plan.losses = match what.is_empty() {
            true => Vec::new(),
            false => vec![Loss { resource, since, what, kept: format!("database {undone}") }],
        };
    }
    Ok(plan)
}

/// Plans to drop what an operation kept.
pub(crate) fn release(known: &Renamed, request: &Request) -> Result<Plan, Failure> {
    let Some(kept) = known.kept.clone().filter(|_| known.kept_identity != hands::NOTHING) else {
        return Err(Failure::new(FailureKind::Refused, format!("{} keeps no database", known.operation.id)));
    };
    let mut plan = begun(known, request, "release what was kept by");
    plan.facts = facts(known, "release");
    let because = "what is dropped is gone; an emergency backup may still hold it".to_owned();
    let action = Action::Postgres(PgAction::Drop { url: known.url.clone(), database: kept.clone() });
    let step = step("release", format!("drop database {kept}"), StepClass::Pivot, action, Undo::Impossible { because });
    plan.phases = vec![phase(&known.common, "release", vec![], vec![step])];
    plan.notes.push(format!("After this, {} cannot be undone by a rename.", known.operation.id));
    Ok(plan)
}

fn begun(known: &Renamed, request: &Request, verb: &str) -> Plan {
    let title = format!("{verb} {}: {}", known.operation.id, known.operation.plan.title);
    steps::new_plan(&known.common, request, title, Lease::Environment)
}

fn facts(known: &Renamed, until: &str) -> Vec<ExpectedFact> {
    let names = [(Some(&known.live), &known.live_identity), (known.kept.as_ref(), &known.kept_identity)];
    let known_names = names.into_iter().filter_map(|(name, value)| Some((name?, value)));
    known_names
        .map(|(name, value)| ExpectedFact {
            fact: Fact::Database { url: known.url.clone(), database: name.clone() },
            value: value.clone(),
            until: Some(until.into()),
        })
        .collect()
}

/// The phases that fill a database of its own and compare it, and what it is called: for somebody who looks at it and
/// drops it.
pub(crate) fn fill_for(
    common: &Common,
    backup: &Backup,
    resource: &Resource,
    part: &ResourceManifest,
    url: &str,
    database_of: &str,
) -> (Vec<Phase>, String) {
    let database = aside_name(database_of, common);
    let mut phases = bring(common, backup, part, resource, url, &database, false);
    for step in phases.iter_mut().flat_map(|phase| &mut phase.steps) {
        step.id.0 = format!("{}.{}", step.id.0, resource.name);
    }
    (phases, database)
}

/// The phases of a rehearsal: filled into a database of its own, compared, written to, damaged, dropped.
pub(crate) fn try_one(
    common: &Common,
    backup: &Backup,
    resource: &Resource,
    part: &ResourceManifest,
    url: &str,
    database_of: &str,
) -> (Vec<Phase>, String) {
    let database = aside_name(database_of, common);
    let mut phases = bring(common, backup, part, resource, url, &database, true);
    let control = Action::Postgres(PgAction::Control {
        vault: common.vault.clone(),
        backup: backup.id.clone(),
        resource: resource.name.clone(),
        url: url.to_owned(),
        database: database.clone(),
    });
    if let Some(verify) = phases.last_mut() {
        let title = "damage it on purpose: the comparison must notice";
        verify.steps.push(read(format!("control.{}", resource.name), title, control));
    }
    (phases, database)
}
