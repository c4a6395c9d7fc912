//! Planning for PostgreSQL where nobody may rename databases: schemas are exchanged inside the live one.
//!
//! ```text
//!   public                         live, until the swap
//!   shop_lifeboat_p1a2b3           a scratch database, where the role may make one: filled and compared first
//!   public_before_20260501...      what was live, in the same database, until it is released
//! ```

use std::collections::BTreeMap;

use lifeboat_io::{
    Stop,
    database::postgres::{self, Address, Privileges, SchemaHere, Session},
};
use lifeboat_model::{
    AcceptLoss, Action, BackupId, ExpectedFact, Fact, Failure, FailureKind, Lease, Loss, LossLine, Operation, PgAction,
    Phase, Plan, Request, Resource, ResourceName, SchemaNames, SchemaReturn, Step, StepClass, StepState, StoredPart,
    SwapStrategy, Undo,
};

use super::{
    databases::{self, Known},
    salvage::{self, Leaving},
    steps::{self, by, phase, read, step},
};
use crate::{
    Engine,
    act::{
        postgres::{
            losses::{self, Against},
            schemas as hands,
        },
        postgres_failure,
    },
    facts::Common,
};

/// What decides how a restored database takes its place.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ground {
    /// What the settings say.
    pub said: Option<SwapStrategy>,
    /// Which way is tried after another failed.
    pub instead: Option<SwapStrategy>,
    /// Who we are there, and what we may do.
    pub role: Privileges,
    /// Whether it is a Supabase project.
    pub is_supabase: bool,
    /// The schemas there are.
    pub schemas: BTreeMap<String, SchemaHere>,
}

impl Ground {
    /// Which schemas have these names, as the hands tell it.
    fn numbers(&self, names: &[String]) -> String {
        let told = |name: &String| postgres::schema_told(name, self.schemas.get(name));
        names.iter().map(told).collect::<Vec<_>>().join(", ")
    }
}

/// Looks at a live database.
pub(super) fn ground(
    address: &Address,
    said: Option<SwapStrategy>,
    instead: Option<SwapStrategy>,
) -> Result<Ground, Failure> {
    let looked = Session::open(address, &Stop::default()).and_then(|mut session| {
        let target = postgres::look_at(&mut session)?;
        let schemas = postgres::schemas_here(&mut session)?;
        Ok(Ground { said, instead, role: target.role, is_supabase: target.is_supabase, schemas })
    });
    looked.map_err(|error| postgres_failure(&error))
}

/// How a restored database takes its place, and why so.
pub(crate) fn choose(ground: &Ground) -> (SwapStrategy, String) {
    let role = &ground.role.name;
    if let Some(instead) = ground.instead {
        return (instead, "another way failed".to_owned());
    }
    match ground.said {
        Some(said) => (said, "the settings say so".to_owned()),
        None if ground.is_supabase => {
            let why = "this is Supabase, whose services hold sessions that nobody else may end";
            (SwapStrategy::Schema, why.to_owned())
        }
        None if !ground.role.create_database => (SwapStrategy::Schema, format!("{role} may not rename databases")),
        None if !ground.role.owns_database => {
            (SwapStrategy::Schema, format!("the database does not belong to {role}, who may not rename it"))
        }
        None => (SwapStrategy::Rename, format!("{role} owns the database and may make others")),
    }
}

/// Which of the captured schemas are put in place, and which stay as they are, since they are not ours to rename.
pub(crate) fn split(ground: &Ground, captured: &[String]) -> (Vec<String>, Vec<String>) {
    // One that is not there is made.
    captured.iter().cloned().partition(|schema| ground.schemas.get(schema).is_none_or(|here| here.ours))
}

fn stamped(common: &Common, schema: &str, word: &str) -> String {
    databases::stamped(schema, word, common.now, &common.ids.plan)
}

/// Plans a restore into the schemas of the live database.
pub(super) fn plan(known: &Known, ground: &Ground, request: &Request, mut plan: Plan) -> Result<Plan, Failure> {
    let Request::Restore { without_emergency_backup, accept_loss, urgent, .. } = request else {
        return Err(steps::wrong_planner());
    };
    let common = &known.common;
    let (swapped, stays) = split(ground, known.schemas());
    if swapped.is_empty() {
        let message = format!("no schema of {} belongs to {}", known.backup.id, ground.role.name);
        return Err(Failure::new(FailureKind::Refused, message).hint("connect as the owner of the app's schemas"));
    }
    let names: Vec<SchemaNames> = swapped
        .iter()
        .map(|live| {
            let kept = ground.schemas.contains_key(live).then(|| stamped(common, live, "before"));
            SchemaNames { live: live.clone(), kept }
        })
        .collect();
    // Where none of them is there, there is nothing to keep.
    let is_there = names.iter().any(|names| names.kept.is_some());
    let keeps = is_there && without_emergency_backup.is_none() && known.target.unreadable.is_none();
    plan.phases = known.before(keeps, &format!("{} stay in the database all the same", kept_list(&names)));
    let scratch = ground.role.create_database.then(|| databases::aside_name(&known.live, common));
    if let Some(scratch) = &scratch {
        plan.phases.extend(known.bring(scratch));
    }
    let here = &known.live;
    let settle = known.leaving.as_ref().map(|_| salvage::settle(&known.url, here));
    plan.phases.push(phase(
        common,
        "swap",
        vec![],
        [ready(known, &names), take_the_names(known, &names, *accept_loss)].into_iter().chain(settle).collect(),
    ));
    if let Some(scratch) = scratch {
        let drop = Action::Postgres(PgAction::Drop { url: known.url.clone(), database: scratch.clone() });
        let title = format!("drop the scratch database {scratch}");
        let clear = step("clear", title, StepClass::Idempotent, drop, Undo::Nothing);
        plan.phases.push(phase(common, "clear", vec![], vec![clear]));
    }
    plan.facts = rests_on(known, ground, &names);
    let kept_where = match keeps {
        true => format!("emergency backup {} and {}", common.ids.backup, kept_list(&names)),
        false => kept_list(&names),
    };
    plan.losses = databases::losses(known, known.leaving.as_ref(), known.recovery_point(), kept_where);
    plan.notes = known.notes(without_emergency_backup.as_deref(), urgent.as_deref());
    let told = notes(known, ground, &names, &stays);
    let last = plan.notes.len().saturating_sub(1); // how to take it back is told last
    plan.notes.splice(last..last, told);
    Ok(plan)
}

fn kept_list(names: &[SchemaNames]) -> String {
    let kept: Vec<&str> = names.iter().filter_map(|names| names.kept.as_deref()).collect();
    match kept.len() {
        0 => "nothing, since the schemas were not there".to_owned(),
        1 => format!("schema {}", kept[0]),
        _ => format!("schemas {}", kept.join(", ")),
    }
}

fn notes(known: &Known, ground: &Ground, names: &[SchemaNames], stays: &[String]) -> Vec<String> {
    let (_, why) = choose(ground);
    let live: Vec<&str> = names.iter().map(|names| names.live.as_str()).collect();
    let mut notes = vec![format!(
        "Strategy schema, since {why}: {} are made anew inside of {} and put in place in one transaction. No session is ended; \
         clients wait for about a tenth of a second.",
        live.join(", "),
        known.live
    )];
    if !stays.is_empty() {
        notes.push(format!(
            "{} stay as they are, since they do not belong to {}: rows there that were made since the backup stay, and those that \
             are gone do not come back.",
            stays.join(", "),
            ground.role.name
        ));
    }
    if !ground.role.create_database {
        notes.push(format!(
            "{} may not make databases: the backup is not tried beside first, and is compared in the transaction itself.",
            ground.role.name
        ));
    }
    notes.extend(stays_told(known));
    if let Some(leaving) = &known.leaving {
        notes.push(HELD.to_owned());
        notes.extend(salvage::unwatched(leaving));
        notes.extend(salvage::counted(leaving));
    }
    if known.has_large_objects() {
        notes.push("Large objects are in no schema, and stay as they are.".to_owned());
    }
    match names.iter().any(|names| names.kept.is_some()) {
        true => notes.push(format!("What is there now is kept in {}, until: lifeboat release.", kept_list(names))),
        false => {
            notes.push("None of them is there now: there is nothing to back up first, and nothing to keep.".to_owned())
        }
    }
    notes
}

fn from(known: &Known) -> StoredPart {
    let (vault, backup) = (known.common.vault.clone(), known.backup.id.clone());
    StoredPart { vault, backup, resource: known.part_name().clone() }
}

/// Looks whether the swap can happen; taken back, the former schemas are in their places whatever became of it.
fn ready(known: &Known, names: &[SchemaNames]) -> Step {
    let url = known.url.clone();
    let back = names.iter().map(|names| SchemaReturn {
        live: names.live.clone(),
        returns: names.kept.clone(),
        becomes: Some(stamped(&known.common, &names.live, "new")),
    });
    let undo =
        PgAction::ReturnSchemas { url: url.clone(), schemas: names.to_vec(), exchange: vec![], back: back.collect() };
    let action = PgAction::ReadySchemas { url, from: Some(from(known)), schemas: names.to_vec(), exchange: vec![] };
    let title = "all that points into them from elsewhere can be pointed to new ones";
    step("ready", title, StepClass::Idempotent, Action::Postgres(action), by(Action::Postgres(undo)))
}

/// How tables of schemas that are not exchanged differ from the backup: accounts, records of files. What cannot be looked at is
/// found when keys to it are made.
pub(super) fn what_stays(
    engine: &Engine,
    (resource, url): (&Resource, &str),
    (vault, backup, part): (&str, &BackupId, &ResourceName),
    schemas: &[String],
) -> Vec<LossLine> {
    if schemas.is_empty() {
        return Vec::new();
    }
    let part = (*part != resource.name).then_some(part);
    losses::count(engine, url, &Against { vault, backup, resource, part, since: None, schemas }).unwrap_or_default()
}

/// What a person should know of rows that stay.
fn stays_told(known: &Known) -> Vec<String> {
    let (name, backup) = (&known.target.resource.name, &known.backup.id);
    let mut told = Vec::new();
    for line in &known.stays {
        let (came, gone) = (line.created.unwrap_or(0), line.deleted.unwrap_or(0));
        if gone > 0 {
            told.push(format!(
                "{gone} rows of {table} that the backup has are gone, and do not come back with it; rows that refer to them stop the \
                 restore. Bring them back first: lifeboat restore {name} --from {backup} --table {table} --apply",
                table = line.table
            ));
        }
        if came > 0 {
            told.push(format!(
                "{came} rows of {} are newer than the backup and stay, without what leaves with the schemas.",
                line.table
            ));
        }
    }
    told
}

/// How no row falls between.
const HELD: &str = "Rows that leave are found while everybody writes; then the tables are taken for a moment, clients wait, and \
                    those that were written to meanwhile are looked at again.";

fn take_the_names(known: &Known, names: &[SchemaNames], accepted: AcceptLoss) -> Step {
    let live: Vec<&str> = names.iter().map(|names| names.live.as_str()).collect();
    let keeps = if known.leaving.is_some() { ", keep the rows that leave" } else { "" };
    let title = format!("fill new {}, compare them{keeps}, and put them in place, in one transaction", live.join(", "));
    let leaving = known.leaving.as_ref().map(|leaving| Box::new(leaving.action(&known.url, None, accepted)));
    let (url, quiet) = (known.url.clone(), known.is_a_copy());
    let action = PgAction::SwapSchemas {
        from: from(known),
        url,
        schemas: names.to_vec(),
        leaving,
        quiet,
        tablespaces: known.map.clone(),
    };
    let because = "the restored data is live from here on; `lifeboat undo` puts the former schemas back".to_owned();
    step("take-the-name", title, StepClass::Pivot, Action::Postgres(action), Undo::Impossible { because })
}

fn rests_on(known: &Known, ground: &Ground, names: &[SchemaNames]) -> Vec<ExpectedFact> {
    let until = Some("take-the-name".into());
    let there = Fact::BackupIsThere { vault: known.common.vault.clone(), backup: known.backup.id.clone() };
    let mut schemas: Vec<String> = names.iter().map(|names| names.live.clone()).collect();
    schemas.extend(names.iter().filter_map(|names| names.kept.clone()));
    let value = ground.numbers(&schemas);
    vec![
        ExpectedFact { fact: there, value: known.backup.snapshot.clone(), until: until.clone() },
        ExpectedFact { fact: Fact::Schemas { url: known.url.clone(), schemas }, value, until },
    ]
}

/// The exchange that takes back what an operation did to schemas, when it did anything to them; the new names are to be
/// given yet.
pub(crate) fn swapped(operation: &Operation) -> Option<(String, Vec<Way>)> {
    operation.plan.steps().zip(&operation.steps).find_map(|(step, state)| match (&step.action, state) {
        (Action::Postgres(PgAction::SwapSchemas { url, schemas, .. }), StepState::Done { .. }) => {
            let way = |names: &SchemaNames| Way { live: names.live.clone(), kept: names.kept.clone(), is_there: true };
            Some((url.clone(), schemas.iter().map(way).collect()))
        }
        (Action::Postgres(PgAction::ExchangeSchemas { url, schemas, .. }), StepState::Done { .. }) => {
            let way = |one: &SchemaReturn| Way {
                live: one.live.clone(),
                kept: one.becomes.clone(),
                is_there: one.returns.is_some(),
            };
            Some((url.clone(), schemas.iter().map(way).collect()))
        }
        _other => None,
    })
}

/// A schema that an operation has put in another's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The name that everybody uses.
    live: String,
    /// What was there before, by its present name.
    kept: Option<String>,
    /// Whether there is one of that name now.
    is_there: bool,
}

/// What is known when schemas are to go back, or what was kept is to go.
pub(crate) struct Swapped {
    pub common: Common,
    pub operation: Operation,
    url: String,
    database: String,
    ways: Vec<Way>,
    /// What the schemas are now.
    numbers: String,
    /// What was written since; nothing when that cannot be told, or need not.
    leaving: Option<Leaving>,
}

impl Swapped {
    fn names(ways: &[Way]) -> Vec<String> {
        let kept = ways.iter().filter_map(|way| way.kept.clone());
        ways.iter().map(|way| way.live.clone()).chain(kept).collect()
    }

    fn kept(&self) -> Vec<String> {
        self.ways.iter().filter_map(|way| way.kept.clone()).collect()
    }
}

/// `goes_back`: what is live is to leave, and is counted.
pub(crate) fn gather_swapped(engine: &Engine, operation: Operation, goes_back: bool) -> Result<Swapped, Failure> {
    let (url, ways) = swapped(&operation).ok_or_else(steps::wrong_planner)?;
    let address = engine.vaults.database(&url)?;
    let numbers = hands::numbers(&address, &Swapped::names(&ways))?;
    let live: Vec<String> = ways.iter().filter(|way| way.is_there).map(|way| way.live.clone()).collect();
    let is_counted = goes_back && !live.is_empty();
    let leaving = is_counted.then(|| databases::written_since(engine, &operation, &url, None, live)).flatten();
    Ok(Swapped { common: engine.common()?, operation, url, database: address.database, ways, numbers, leaving })
}

/// Plans to put former schemas back; what is live now is kept in turn.
pub(crate) fn undo(known: &Swapped, request: &Request) -> Result<Plan, Failure> {
    let (common, url) = (&known.common, known.url.clone());
    refuse_what_is_gone(known)?;
    let exchange: Vec<SchemaReturn> = known
        .ways
        .iter()
        .map(|way| SchemaReturn {
            live: way.live.clone(),
            returns: way.kept.clone(),
            becomes: way.is_there.then(|| stamped(common, &way.live, "undone")),
        })
        .collect();
    let back = exchange.iter().map(|one| SchemaReturn {
        live: one.live.clone(),
        returns: one.becomes.clone(),
        becomes: one.returns.as_ref().map(|_| stamped(common, &one.live, "new")),
    });
    let guard =
        PgAction::ReturnSchemas { url: url.clone(), schemas: vec![], exchange: exchange.clone(), back: back.collect() };
    let look = PgAction::ReadySchemas { url: url.clone(), from: None, schemas: vec![], exchange: exchange.clone() };
    let title = "what was kept is there, and the names are free";
    let ready = step("ready", title, StepClass::Idempotent, Action::Postgres(look), by(Action::Postgres(guard)));
    let told: Vec<String> = exchange.iter().map(told).collect();
    let because = "what was there before is live from here on; undo this operation to exchange them again".to_owned();
    let leaving = known.leaving.as_ref();
    let looks = leaving.map(|leaving| Box::new(leaving.action(&url, None, AcceptLoss::Any)));
    let settle = known.leaving.as_ref().map(|_| salvage::settle(&url, &known.database));
    let action = Action::Postgres(PgAction::ExchangeSchemas { url, schemas: exchange.clone(), leaving: looks });
    let take = step("take-the-name", told.join("; "), StepClass::Pivot, action, Undo::Impossible { because });
    let mut plan = begun(known, request, "undo");
    plan.facts = vec![fact(known, "take-the-name")];
    plan.phases = vec![phase(common, "swap", vec![], [ready, take].into_iter().chain(settle).collect())];
    let kept: Vec<&str> = exchange.iter().filter_map(|one| one.becomes.as_deref()).collect();
    plan.notes = vec![
        "Strategy schema: one transaction; no session is ended.".to_owned(),
        format!("What is there now is kept in the same database: {}.", kept.join(", ")),
        format!(
            "It was put there {}; what was written since then stays there.",
            steps::instant(known.operation.last_at)
        ),
    ];
    if let Some(leaving) = leaving {
        plan.notes.extend(databases::uncounted_note(leaving));
        plan.notes.push(HELD.to_owned());
        plan.notes.extend(salvage::unwatched(leaving));
        plan.notes.extend(salvage::counted(leaving));
        let (resource, since) = (leaving.resource.name.clone(), known.operation.last_at);
        let what = leaving.lines.clone().filter(|what| !what.is_empty());
        plan.losses.extend(what.map(|what| Loss { resource, since, what, kept: kept.join(", ") }));
    }
    Ok(plan)
}

fn told(one: &SchemaReturn) -> String {
    match (&one.becomes, &one.returns) {
        (Some(becomes), Some(returns)) => format!("{0} becomes {becomes}, {returns} becomes {0}", one.live),
        (Some(becomes), None) => format!("{} becomes {becomes}", one.live),
        (None, Some(returns)) => format!("{returns} becomes {}", one.live),
        (None, None) => format!("{} stays away", one.live),
    }
}

fn refuse_what_is_gone(known: &Swapped) -> Result<(), Failure> {
    let gone: Vec<String> =
        known.kept().into_iter().filter(|name| known.numbers.contains(&format!("{name} not there"))).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let message = format!("what {} kept, {}, is not there any more", known.operation.id, gone.join(", "));
    Err(Failure::new(FailureKind::Refused, message).hint("lifeboat backups list"))
}

/// Plans to drop what an operation kept.
pub(crate) fn release(known: &Swapped, request: &Request) -> Result<Plan, Failure> {
    let kept = known.kept();
    if kept.is_empty() || refuse_what_is_gone(known).is_err() {
        return Err(Failure::new(FailureKind::Refused, format!("{} keeps no schema", known.operation.id)));
    }
    let mut plan = begun(known, request, "release what was kept by");
    plan.facts = vec![fact(known, "release")];
    let because = "what is dropped is gone; an emergency backup may still hold it".to_owned();
    let action = Action::Postgres(PgAction::DropSchemas { url: known.url.clone(), schemas: kept.clone() });
    let title = format!("drop {}, unless anything depends on them", kept.join(", "));
    let step = step("release", title, StepClass::Pivot, action, Undo::Impossible { because });
    plan.phases = vec![phase(&known.common, "release", vec![], vec![step])];
    plan.notes.push(format!("After this, {} cannot be undone by an exchange.", known.operation.id));
    Ok(plan)
}

fn begun(known: &Swapped, request: &Request, verb: &str) -> Plan {
    let title = format!("{verb} {}: {}", known.operation.id, known.operation.plan.title);
    steps::new_plan(&known.common, request, title, Lease::Environment)
}

fn fact(known: &Swapped, until: &str) -> ExpectedFact {
    let fact = Fact::Schemas { url: known.url.clone(), schemas: Swapped::names(&known.ways) };
    ExpectedFact { fact, value: known.numbers.clone(), until: Some(until.into()) }
}

impl Known {
    /// What comes before anything is changed: the backup is whole, and what is there is kept.
    fn before(&self, keeps: bool, kept_all_the_same: &str) -> Vec<Phase> {
        let (common, name) = (&self.common, &self.target.resource.name);
        let stored = Action::CheckBackup { vault: common.vault.clone(), backup: self.backup.id.clone() };
        let mut preflight = vec![read("check-backup", format!("{} is whole in the vault", self.backup.id), stored)];
        let mut phases = Vec::new();
        if keeps {
            let source = PgAction::CheckSource { url: self.url.clone() };
            preflight.push(read(
                "check-source",
                format!("{} can be captured first", self.live),
                Action::Postgres(source),
            ));
            let hint = format!(
                "mend that, or go on without an emergency backup: lifeboat restore {name} --without-emergency-backup \"why\"; \
                 {kept_all_the_same}"
            );
            let taking = databases::taking(self);
            let steps = taking.store().into_iter().map(|step| Step { hint: Some(hint.clone()), ..step }).collect();
            phases.push(phase(common, "keep", taking.predict_store(), steps));
        }
        phases.insert(0, phase(common, "preflight", vec![], preflight));
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ground(create_database: bool, owns_database: bool) -> Ground {
        let role = Privileges { name: "app".into(), create_database, owns_database, ..Privileges::default() };
        let schemas = [("public", true), ("auth", false)]
            .map(|(name, ours)| (name.to_owned(), SchemaHere { ours, number: 1 }))
            .into();
        Ground { role, schemas, ..Ground::default() }
    }

    #[test]
    fn the_strategy_follows_from_what_the_role_may_do_and_is_told_with_its_reason() {
        let word = |ground: &Ground| {
            let (strategy, why) = choose(ground);
            format!("{strategy:?}: {why}")
        };
        assert_eq!(word(&ground(true, true)), "Rename: app owns the database and may make others");
        assert_eq!(word(&ground(false, true)), "Schema: app may not rename databases");
        assert!(word(&ground(true, false)).starts_with("Schema: the database does not belong to app"));
        let supabase = Ground { is_supabase: true, ..ground(true, true) };
        assert!(word(&supabase).starts_with("Schema: this is Supabase"));
        let said = Ground { said: Some(SwapStrategy::Rename), ..supabase };
        assert_eq!(word(&said), "Rename: the settings say so");
        let instead = Ground { instead: Some(SwapStrategy::Schema), ..said };
        assert_eq!(word(&instead), "Schema: another way failed");
    }

    #[test]
    fn only_schemas_of_ones_own_are_put_in_place_and_missing_ones_are_made() {
        let captured = ["auth", "public", "supabase_migrations"].map(str::to_owned);
        let (swapped, stays) = split(&ground(true, true), &captured);
        assert_eq!((swapped.join(" "), stays.join(" ")), ("public supabase_migrations".to_owned(), "auth".to_owned()));
    }
}
