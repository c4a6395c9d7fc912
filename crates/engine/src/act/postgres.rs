//! Databases on a PostgreSQL server: capturing them into a vault, filling, comparing, renaming and dropping them.

mod dumps;
mod exports;
mod holding;
mod keeping;
pub(crate) mod losses;
mod outlook;
mod policies;
pub(crate) mod reverts;
pub(crate) mod salvage;
pub(crate) mod schemas;
mod settling;
mod shadows;
mod side;
mod streams;
mod verifying;

pub(crate) use exports::{definitions, tables_of_files};
pub(crate) use outlook::outlook;
pub(crate) use verifying::verify;
use verifying::{ask, policy};

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lifeboat_io::{
    database::postgres::{self, Address, HOLD_MS, PgError, Selection, Session, SwapNames, SwapState},
    files,
};
use lifeboat_model::{
    Action, BackupId, Check, Content, Failure, FailureClass, FailureKind, Found, Part, PgAction, PostgresFacts,
    ProofLevel, Request, Resource, ResourceManifest, ResourceName, Tri,
};
use lifeboat_store::vault::{BackupWriter, Vault};
use serde_json::{Value, json};

use super::{
    Hands,
    captures::{output, unsound},
    errors::{path_failure, postgres_failure},
    fetches::part,
    pour::pour,
    proofs::CheckOutput,
    summary,
};
use crate::perform::Context;

/// The definitions of a database in its folder of a backup, for us.
pub(crate) const SCHEMA: &str = "schema.json";
/// How long to go on ending sessions that come back, before a swap is given up.
const END_SESSIONS: Duration = Duration::from_secs(30);
/// How long a transaction may hold a table before it is ended for a fence.
const FENCE_WAIT: Duration = Duration::from_secs(10);
/// How long to look whether a fence holds, while clients run into it all the time.
const FENCE_SEEN: Duration = Duration::from_secs(2);

pub fn perform(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<Value, Failure> {
    match action {
        PgAction::CheckSource { url } => check_source(hands, url, context),
        PgAction::Fill { vault, backup, resource, url, database, tablespaces, shadow } => {
            let stored = Stored { vault, backup, resource };
            if let Some(shadow) = shadow
                && let Some(taken) = shadows::take(hands, &stored, (url, database), shadow, context)?
            {
                return Ok(taken);
            }
            fill(hands, &stored, (url, database), tablespaces, context)
        }
        PgAction::GiveBack { vault, backup, resource, url, database, shadow } => {
            shadows::give_back(hands, &Stored { vault, backup, resource }, (url, database), shadow, context)
        }
        PgAction::Check { vault, backup, resource, url, database, writes } => {
            let stored = Stored { vault, backup, resource: &resource.name };
            check(hands, &stored, resource, (url, database), *writes, context)
        }
        PgAction::Control { vault, backup, resource, url, database } => {
            control(hands, &Stored { vault, backup, resource }, url, database, context)
        }
        PgAction::Swap { url, live, aside, kept } => {
            let names = SwapNames { live: live.clone(), aside: aside.clone(), kept: kept.clone() };
            swap(hands, url, &names, context)
        }
        PgAction::Ready { url, live, aside, kept } => {
            let names = SwapNames { live: live.clone(), aside: aside.clone(), kept: kept.clone() };
            let mut session = beside(&hands.vaults.database(url)?, live, context.stop)?;
            postgres::swap_preflight(&mut session, &names).map_err(|error| postgres_failure(&error))?;
            Ok(json!({ "ready": live }))
        }
        PgAction::Reopen { url, live, aside, kept, spare } => {
            let names = SwapNames { live: live.clone(), aside: aside.clone(), kept: kept.clone() };
            reopen(hands, url, &names, spare, context)
        }
        PgAction::Rename { url, from, to } => rename(hands, url, from, to, context),
        PgAction::Fence { url, on, why, brief, database } => {
            let address = hands.vaults.database(url)?;
            let name = database.as_deref().unwrap_or(&address.database).to_owned();
            fence(hands, &address.with_database(&name), (*on, *brief), why, context)
        }
        PgAction::ReplacePolicy { .. } | PgAction::OpenTable { .. } | PgAction::CheckPolicies { .. } => {
            policies::perform(hands, action, context)
        }
        PgAction::Unfence { url, database } => losses::unfence(hands, url, database, context),
        PgAction::Salvage { .. } => losses::salvage(hands, action, context),
        PgAction::ForgetSalvage { of, watched } => losses::forget(hands, of.as_ref(), watched.as_deref(), context),
        PgAction::SettleSalvage { url, database } => losses::settle(hands, url, database, context),
        PgAction::LayBeside { url, vault, backup, resource, table, schema, condition } => {
            let condition = condition.as_deref();
            side::lay(hands, &side::What { url, vault, backup, resource, table, schema, condition }, context)
        }
        PgAction::CompareBeside { url, vault, backup, resource, table, schema, condition, keep } => {
            let what = side::What { url, vault, backup, resource, table, schema, condition: condition.as_deref() };
            side::compare(hands, &what, keep.as_ref(), context)
        }
        PgAction::DropBeside { url, schema } => side::drop(hands, url, schema, context),
        PgAction::MakeTable { url, vault, backup, resource, table, condition, unless_there } => {
            let (schema, condition) = ("", condition.as_deref());
            let what = side::What { url, vault, backup, resource, table, schema, condition };
            side::make(hands, &what, *unless_there, context)
        }
        PgAction::DropTable { url, vault, backup, resource, table, made } => {
            let what = side::What { url, vault, backup, resource, table, schema: "", condition: None };
            side::unmake(hands, &what, made.as_ref(), context)
        }
        PgAction::BringBack { url, from, resource, tables, overwrite, deletes } => {
            let (overwrite, deletes) = (*overwrite, *deletes);
            salvage::bring_back(hands, &salvage::What { url, from, resource, tables, overwrite, deletes }, context)
        }
        PgAction::TakeAway { url, from, resource, tables, by } => {
            let what = salvage::What { url, from, resource, tables, overwrite: false, deletes: false };
            salvage::take_away(hands, &what, by.as_ref(), context)
        }
        PgAction::Sequences { url, from, to } => losses::sequences(hands, url, (from, to), context),
        PgAction::WriteOut { vault, backup, resource, into, format, tables, data_only, gzip } => {
            let form = exports::Form { format: *format, tables, data_only: *data_only, gzip: *gzip };
            exports::write_out(hands, &Stored { vault, backup, resource }, into, &form, context)
        }
        PgAction::LoadDump { file, url, database, like, resource, vault, beside } => {
            let newest = beside.as_ref();
            dumps::load(hands, &dumps::Dump { file, url, database, like, resource, vault, newest }, context)
        }
        PgAction::Archive { url, database, into } => exports::archive(hands, url, database, into, context),
        PgAction::Quarantine { url, database } => {
            let address = hands.vaults.database(url)?.with_database(database);
            let mut session = Session::open(&address, context.stop).map_err(|error| postgres_failure(&error))?;
            let notes = postgres::quarantine(&mut session).map_err(|error| postgres_failure(&error))?;
            notes.iter().for_each(|note| context.watch.note(note));
            Ok(json!({ "switched_off": notes }))
        }
        PgAction::ReadySchemas { .. } | PgAction::ReturnSchemas { .. } => schemas::perform(hands, action, context),
        PgAction::SwapSchemas { .. } | PgAction::ExchangeSchemas { .. } => schemas::perform(hands, action, context),
        PgAction::DropSchemas { .. } => schemas::perform(hands, action, context),
        PgAction::Revert { .. } | PgAction::Migrate { .. } | PgAction::Rehearse { .. } => {
            reverts::perform(hands, action, context)
        }
        PgAction::Drop { url, database } => {
            let mut session = beside(&hands.vaults.database(url)?, database, context.stop)?;
            postgres::drop_database(&mut session, database).map_err(|error| postgres_failure(&error))?;
            Ok(json!({ "dropped": database }))
        }
    }
}

/// Looks whether an action happened. All but the renames and a drop may simply be done again.
pub fn probe(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<(Found, Value), Failure> {
    match action {
        PgAction::Swap { url, live, aside, kept } => {
            let names = SwapNames { live: live.clone(), aside: aside.clone(), kept: kept.clone() };
            let mut session = beside(&hands.vaults.database(url)?, live, context.stop)?;
            let state = postgres::swap_state(&mut session, &names).map_err(|error| postgres_failure(&error))?;
            Ok(match state {
                SwapState::NotYet => {
                    // A death between closing and renaming leaves it closed; not for longer than until somebody looks.
                    postgres::open_database(&mut session, live).map_err(|error| postgres_failure(&error))?;
                    (Found::NotStarted, Value::Null)
                }
                SwapState::Done => {
                    postgres::open_database(&mut session, live).map_err(|error| postgres_failure(&error))?;
                    (Found::Done, json!({ "live": live, "kept": kept }))
                }
                SwapState::Unknown => (Found::Unknown, Value::Null),
            })
        }
        PgAction::Rename { url, from, to } => {
            let mut session = beside(&hands.vaults.database(url)?, from, context.stop)?;
            let mut is_there =
                |name| postgres::database_exists(&mut session, name).map_err(|error| postgres_failure(&error));
            Ok(match (is_there(from)?, is_there(to)?) {
                (true, false) => (Found::NotStarted, Value::Null),
                (false, true) => (Found::Done, json!({ "live": to })),
                (true, true) | (false, false) => (Found::Unknown, Value::Null),
            })
        }
        PgAction::Drop { url, database } => {
            let mut session = beside(&hands.vaults.database(url)?, database, context.stop)?;
            let is_there = postgres::database_exists(&mut session, database);
            Ok(match is_there.map_err(|error| postgres_failure(&error))? {
                true => (Found::NotStarted, Value::Null),
                false => (Found::Done, json!({ "dropped": database })),
            })
        }
        PgAction::SwapSchemas { .. } | PgAction::ExchangeSchemas { .. } | PgAction::DropSchemas { .. } => {
            schemas::probe(hands, action, context)
        }
        PgAction::CheckSource { .. } | PgAction::Fill { .. } | PgAction::GiveBack { .. } | PgAction::Check { .. } => {
            Ok((Found::NotStarted, Value::Null))
        }
        PgAction::ReplacePolicy { .. } | PgAction::OpenTable { .. } | PgAction::CheckPolicies { .. } => {
            Ok((Found::NotStarted, Value::Null))
        }
        PgAction::Unfence { .. }
        | PgAction::Salvage { .. }
        | PgAction::ForgetSalvage { .. }
        | PgAction::SettleSalvage { .. }
        | PgAction::Sequences { .. } => Ok((Found::NotStarted, Value::Null)),
        PgAction::Revert { .. } | PgAction::Migrate { .. } | PgAction::Rehearse { .. } => {
            reverts::probe(hands, action, context)
        }
        PgAction::BringBack { .. } | PgAction::TakeAway { .. } => Ok((Found::NotStarted, Value::Null)),
        PgAction::WriteOut { .. } | PgAction::Archive { .. } | PgAction::LoadDump { .. } => {
            Ok((Found::NotStarted, Value::Null))
        }
        PgAction::LayBeside { .. } | PgAction::CompareBeside { .. } | PgAction::DropBeside { .. } => {
            Ok((Found::NotStarted, Value::Null))
        }
        PgAction::MakeTable { .. } | PgAction::DropTable { .. } => Ok((Found::NotStarted, Value::Null)),
        PgAction::ReadySchemas { .. } | PgAction::ReturnSchemas { .. } | PgAction::Quarantine { .. } => {
            Ok((Found::NotStarted, Value::Null))
        }
        PgAction::Control { .. } | PgAction::Ready { .. } | PgAction::Reopen { .. } | PgAction::Fence { .. } => {
            Ok((Found::NotStarted, Value::Null))
        }
    }
}

/// A session in another database of the same server: none may be connected to one that is renamed or dropped.
pub(crate) fn beside(address: &Address, but: &str, stop: &lifeboat_io::Stop) -> Result<Session, Failure> {
    let mut last = None;
    for name in ["postgres", "template1"].into_iter().filter(|name| *name != but) {
        match postgres::on_full_disk(|| Session::open(&address.with_database(name), stop)) {
            Ok(session) => return Ok(session),
            Err(error) => last = Some(last.unwrap_or(error)),
        }
    }
    Err(last.map_or_else(
        || Failure::new(FailureKind::Bug, "no database to work from"),
        |error| postgres_failure(&error).while_doing(format!("{address} cannot be worked on from beside it")),
    ))
}

/// Whether the database at an address has a table.
pub(crate) fn table_exists(address: &Address, title: &str) -> Result<bool, Failure> {
    let looked = Session::open(address, &lifeboat_io::Stop::default())
        .and_then(|mut session| postgres::table_exists(&mut session, title));
    looked.map_err(|error| postgres_failure(&error))
}

/// Tablespaces of a backup that the server at an address lacks.
///
/// # Errors
/// When it cannot be asked, or the map of those that are to be others cannot be followed.
pub(crate) fn missing_tablespaces(
    address: &Address,
    facts: &PostgresFacts,
    map: &BTreeMap<String, String>,
) -> Result<Vec<String>, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let mut session = beside(address, &address.database, &lifeboat_io::Stop::default())?;
    postgres::check_tablespace_map(&mut session, facts, map).map_err(failed)?;
    let mut missing = postgres::missing_tablespaces(&mut session, facts).map_err(failed)?;
    missing.retain(|name| !map.contains_key(name));
    Ok(missing)
}

/// What is said of a name that no database has.
pub(crate) const NOTHING: &str = "nothing there";

/// Which database the address names - text that changes when another takes its place - and its bytes; nothing when there
/// is none of that name.
pub(crate) fn look(address: &Address) -> Result<Option<(String, u64)>, Failure> {
    let mut session = beside(address, &address.database, &lifeboat_io::Stop::default())?;
    let about = postgres::database_about(&mut session, &address.database).map_err(|error| postgres_failure(&error))?;
    Ok(about.map(|(number, bytes)| (format!("database {number}"), bytes)))
}

/// Databases of the server whose names begin like this.
pub(crate) fn databases_named(address: &Address, head: &str) -> Result<Vec<String>, Failure> {
    let mut session = beside(address, "", &lifeboat_io::Stop::default())?;
    postgres::databases_named(&mut session, head).map_err(|error| postgres_failure(&error))
}

pub(crate) fn look_at(hands: &Hands, url: &str, database: &str) -> Result<String, Failure> {
    let looked = look(&hands.vaults.database(url)?.with_database(database))?;
    Ok(looked.map_or_else(|| NOTHING.to_owned(), |(identity, _bytes)| identity))
}

fn check_source(hands: &Hands, url: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let address = hands.vaults.database(url)?;
    let failed = |error: PgError| postgres_failure(&error);
    postgres::refuse_pooler(&address, context.stop).map_err(failed)?;
    let mut session = Session::open(&address, context.stop).map_err(failed)?;
    let target = postgres::look_at(&mut session).map_err(failed)?;
    let clients = clients(hands, session.major(), context)?;
    Ok(json!({ "server": target.version, "client": clients.version, "bytes": target.database.bytes }))
}

fn clients(hands: &Hands, major: u32, context: &Context<'_>) -> Result<postgres::Clients, Failure> {
    let found = postgres::find_clients(&*hands.io.exec, &*hands.io.env, context.stop);
    let found = found.map_err(|error| postgres_failure(&error))?;
    postgres::choose_clients(&found, major).cloned().map_err(|error| postgres_failure(&error))
}

/// Captures a database into the backup that is being written.
pub(crate) fn store(
    hands: &Hands,
    (vault, writer): (&Arc<Vault>, &BackupWriter),
    part: &Part,
    (url, schemas): (&str, &[String]),
    folder: &str,
    context: &Context<'_>,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<ResourceManifest, Failure> {
    let address = hands.vaults.database(url)?;
    let failed = |error: PgError| postgres_failure(&error);
    let (major, is_supabase) = {
        let mut session = Session::open(&address, context.stop).map_err(failed)?;
        let target = postgres::look_at(&mut session).map_err(failed)?;
        (session.major(), target.is_supabase)
    };
    let clients = clients(hands, major, context)?;
    let selection = match (schemas.is_empty(), &part.leave_out) {
        (false, _) => Selection { only: schemas.to_vec(), except: Vec::new() },
        (true, Some(except)) => Selection { only: Vec::new(), except: except.clone() },
        // A plan from before that was a plan's to decide.
        (true, None) if is_supabase => Selection::supabase(),
        (true, None) => Selection::default(),
    };
    let roles = hands.setup.roles.get(&part.resource.name).cloned().unwrap_or_default();
    let options = postgres::CaptureOptions { selection, roles, ..postgres::CaptureOptions::default() };
    let staging = hands.state.staging(&context.operation.plan.id).join(format!("{}.definitions", part.resource.name));
    files::remove_any(&staging).map_err(|error| path_failure(&error))?;
    files::create_private_folder(&staging).map_err(|error| path_failure(&error))?;
    let begun = hands.io.clock.now();
    // What was adopted is in a database of its own for as long as it takes.
    let earlier = match &part.foreign {
        Some(_) => None,
        None => {
            streams::Earlier::newest(vault, &context.operation.plan.scope, &part.resource.name, begun, context.stop)
        }
    };
    let files = earlier.as_ref().map(|earlier| &earlier.files);
    let sinks = streams::IntoVault { writer, folder, at: begun, earlier: files };
    let what = postgres::Capture {
        address: &address,
        clients: &clients,
        exec: &*hands.io.exec,
        clock: &*hands.io.clock,
        folder: &staging,
        options: &options,
        earlier: earlier.as_ref().map(|earlier| &earlier.facts),
    };
    let captured = postgres::capture(&what, &sinks, context.stop, progress).map_err(failed);
    files::remove_any(&staging).map_err(|error| path_failure(&error))?;
    files::remove_folder_if_empty(files::parent(&staging)).map_err(|error| path_failure(&error))?;
    let mut captured = captured?;
    if let Some(foreign) = &part.foreign {
        captured.facts.database.name.clone_from(&foreign.database);
    }
    let schema = serde_json::to_vec(&captured.entries)
        .map_err(|error| Failure::new(FailureKind::Bug, "definitions cannot be written").because(error.to_string()))?;
    let meta = streams::meta(begun);
    let mut bytes: u64 = captured.facts.tables.values().flat_map(|table| &table.parts).map(|part| part.bytes).sum();
    let data = super::readme::data_sql(&captured.facts);
    // A new database has that schema; `pg_dump` makes it once more where it was asked for by name.
    let pre_data = captured.pre_data.replace("\nCREATE SCHEMA public;\n", "\nCREATE SCHEMA IF NOT EXISTS public;\n");
    for (name, body) in [
        (SCHEMA, schema.as_slice()),
        ("data.sql", data.as_bytes()),
        ("pre-data.sql", pre_data.as_bytes()),
        ("post-data.sql", captured.post_data.as_bytes()),
        ("globals.sql", captured.globals.as_bytes()),
    ] {
        let mut body = body;
        bytes += pour(writer, &format!("{folder}/{name}"), &meta, &mut body, &|_| ())?.bytes;
    }
    Ok(ResourceManifest {
        name: part.resource.name.clone(),
        origin: part.foreign.as_ref().map_or(url, |foreign| &foreign.origin).to_owned(),
        recovery_point: match &part.foreign {
            Some(foreign) => foreign.as_of,
            None => captured.facts.horizon.at.unwrap_or(begun),
        },
        path: folder.to_owned(),
        bytes,
        content: Content::Postgres(Box::new(captured.facts)),
    })
}

/// A database in a backup.
pub(crate) struct Stored<'a> {
    vault: &'a str,
    backup: &'a BackupId,
    resource: &'a ResourceName,
}

impl Stored<'_> {
    fn manifest(&self, hands: &Hands) -> Result<(ResourceManifest, PostgresFacts), Failure> {
        let vault = hands.vaults.open(self.vault)?;
        let manifest = summary::manifest(&vault, self.backup)?;
        let part = part(&manifest, self.backup, self.resource)?.clone();
        let Content::Postgres(facts) = &part.content else {
            return Err(Failure::new(FailureKind::Bug, format!("{} is not a PostgreSQL database", self.resource)));
        };
        let facts = (**facts).clone();
        Ok((part, facts))
    }

    fn entries(&self, sources: &streams::OutOfVault) -> Result<Vec<postgres::SchemaEntry>, Failure> {
        serde_json::from_slice(&sources.small(SCHEMA)?).map_err(|error| {
            let message = format!("the definitions in {} cannot be understood", self.backup);
            Failure::new(FailureKind::Damaged, message).because(error.to_string())
        })
    }
}

impl Stored<'_> {
    /// Whether what comes out of it gets its owners and grants; else why not. Where it goes to another environment, the
    /// roles there are that one's own: those that are missing are no reason to fail.
    fn owners(
        &self,
        hands: &Hands,
        session: &mut Session,
        facts: &PostgresFacts,
        context: &Context<'_>,
    ) -> Result<Result<(), String>, Failure> {
        let failed = |error: PgError| postgres_failure(&error);
        if !gives_owners(session, facts).map_err(failed)? {
            return Ok(Err("this role may not give things to others".to_owned()));
        }
        let from = summary::manifest(&hands.vaults.open(self.vault)?, self.backup)?.scope;
        if from == context.operation.plan.scope {
            return Ok(Ok(()));
        }
        let missing = postgres::missing_roles(session, &facts.roles).map_err(failed)?;
        Ok(match missing.is_empty() {
            true => Ok(()),
            false => Err(format!("these roles of {from} are not on this server: {}", missing.join(", "))),
        })
    }
}

fn fill(
    hands: &Hands,
    stored: &Stored<'_>,
    (url, database): (&str, &str),
    tablespaces: &BTreeMap<String, String>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let (part, mut facts) = stored.manifest(hands)?;
    let vault = hands.vaults.open(stored.vault)?;
    let snapshot = summary::snapshot_of(&vault, stored.backup)?;
    let sources = streams::OutOfVault::new(vault, snapshot, part.path.clone(), context.stop.clone());
    let mut entries = stored.entries(&sources)?;
    let address = hands.vaults.database(url)?;
    let mut session = beside(&address, database, context.stop)?;
    postgres::map_tablespaces(&mut session, &facts, &mut entries, tablespaces).map_err(failed)?;
    if let Some(other) = tablespaces.get(&facts.database.tablespace) {
        facts.database.tablespace.clone_from(other);
    }
    settle_tablespaces(&mut session, &mut entries, context)?;
    postgres::drop_database(&mut session, database).map_err(failed)?;
    postgres::create_database(&mut session, database, &facts.database).map_err(failed)?;
    drop(session);
    let inside = address.with_database(database);
    let stand_ins = !becomes_live(context, database);
    let mut options = postgres::RestoreOptions { stand_ins, ..postgres::RestoreOptions::default() };
    let owners = {
        let mut session = Session::open(&inside, context.stop).map_err(failed)?;
        stored.owners(hands, &mut session, &facts, context)?
    };
    if let Err(why) = owners {
        options.owners_and_grants = false;
        context.watch.note(&format!("Owners and grants are left out: {why}."));
    }
    let what = postgres::Restore {
        address: &inside,
        facts: &facts,
        entries: &entries,
        clock: &*hands.io.clock,
        options: &options,
    };
    let progress = |done, total| context.watch.progress(done, total);
    let restored = postgres::restore(&what, &sources, context.stop, &progress).map_err(|error| {
        if error.class() == Some(FailureClass::Disk) {
            give_back_the_disk(&inside, context);
        }
        failed(error)
    })?;
    restored.notes.iter().for_each(|note| context.watch.note(note));
    let phases: Vec<Value> =
        restored.phases.iter().map(|(name, took)| json!({ "phase": name, "ms": took.as_millis() as u64 })).collect();
    Ok(json!({ "bytes": part.bytes, "rows": restored.rows, "phases": phases, "notes": restored.notes }))
}

/// Whether a database that is filled takes the place of the live one: else it is a copy to look at, and is dropped or stays beside.
fn becomes_live(context: &Context<'_>, database: &str) -> bool {
    let plan = &context.operation.plan;
    // A shadow is there to take that place later.
    if matches!(&plan.request, Request::Shadow { .. }) {
        return true;
    }
    let in_place = matches!(&plan.request, Request::Restore { into: None, .. });
    plan.steps().any(|step| match &step.action {
        Action::Postgres(PgAction::Swap { aside, .. }) => aside == database,
        Action::Postgres(PgAction::Rename { from, .. }) => in_place && from == database,
        _another => false,
    })
}

/// Definitions in tablespaces that are not here go to the default one.
fn settle_tablespaces(
    session: &mut Session,
    entries: &mut [postgres::SchemaEntry],
    context: &Context<'_>,
) -> Result<(), Failure> {
    let missing = postgres::leave_missing_tablespaces(session, entries).map_err(|error| postgres_failure(&error))?;
    postgres::tablespaces_told(&missing).iter().for_each(|note| context.watch.note(note));
    Ok(())
}

/// A database is dropped after a checkpoint, which a full disk refuses: what was loaded goes first, table by table. When
/// that fails too, dropping it will say why.
fn give_back_the_disk(inside: &Address, context: &Context<'_>) {
    let emptied = postgres::on_full_disk(|| postgres::empty_database(&mut Session::open(inside, context.stop)?));
    if let Err(error) = emptied {
        context.watch.note(&format!("What was loaded could not be removed: {error}."));
    }
}

fn found_in(
    hands: &Hands,
    address: &Address,
    expected: &PostgresFacts,
    context: &Context<'_>,
) -> Result<PostgresFacts, Failure> {
    // All that is in a database that was filled from a backup came out of it - but for schema `public`, which is in every one.
    let selection = match expected.schemas.iter().any(|schema| schema == "public") {
        true => {
            // And but for schemas that are there for an extension only: the platform's, which a backup leaves out.
            let mut session = Session::open(address, context.stop).map_err(|error| postgres_failure(&error))?;
            let beside = postgres::extension_schemas(&mut session, &expected.schemas);
            Selection { only: Vec::new(), except: beside.map_err(|error| postgres_failure(&error))? }
        }
        false => Selection { only: expected.schemas.clone(), except: Vec::new() },
    };
    let options = postgres::CaptureOptions { selection, ..postgres::CaptureOptions::default() };
    let progress = |done, total| context.watch.progress(done, total);
    postgres::inspect(address, &options, &*hands.io.clock, context.stop, &progress)
        .map_err(|error| postgres_failure(&error))
}

fn check(
    hands: &Hands,
    stored: &Stored<'_>,
    resource: &Resource,
    (url, database): (&str, &str),
    writes: bool,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let (part, expected) = stored.manifest(hands)?;
    let address = hands.vaults.database(url)?.with_database(database);
    let found = found_in(hands, &address, &expected, context)?;
    let mut session = Session::open(&address, context.stop).map_err(failed)?;
    let with_grants = stored.owners(hands, &mut session, &expected, context)?.is_ok();
    let compared = postgres::compare_facts(&expected, &found, with_grants);
    if !writes {
        if Tri::worst(compared.iter().map(|check| check.outcome)) != Tri::Pass {
            let doing = format!("what came out of {} is not what went in", stored.backup);
            return Err(unsound(&compared).while_doing(doing));
        }
        let checks = compared.into_iter().map(|check| (ProofLevel::Consistent, check)).collect();
        return output(&CheckOutput { bytes: part.bytes, checks });
    }
    let rows = expected.tables.iter().map(|(title, table)| (title.clone(), table.rows.rows)).collect();
    let mut consistent = compared;
    consistent.extend(postgres::compare_seen(&mut session, &expected, &found, with_grants));
    let mut looked = postgres::check_database(&mut session);
    // Where it is not there it is no part of a proof: the indexes of a copy were built a moment ago.
    if let Some(at) = looked.iter().position(|check| check.detail == postgres::NO_AMCHECK) {
        let check = looked.remove(at);
        context.watch.note(&format!("The {} was not looked at: {}.", check.name, check.detail));
    }
    consistent.extend(looked);
    consistent.extend(policy(resource, &rows));
    consistent.extend(resource.checks.iter().map(|(name, question)| ask(&mut session, name, question)));
    let at = |level: ProofLevel, checks: Vec<Check>| checks.into_iter().map(move |check| (level, check));
    // Compared as it was captured; from here on nothing in it reaches out, whatever is written.
    let quiet = postgres::quarantine(&mut session);
    consistent.push(match &quiet {
        Ok(notes) if notes.is_empty() => Check::new("quarantine", Tri::Pass, "nothing in it acts by itself"),
        Ok(notes) => Check::new("quarantine", Tri::Pass, notes.join(" ")),
        Err(error) => Check::new("quarantine", Tri::Unknown, error.to_string()),
    });
    let usable = match quiet {
        Ok(_) => postgres::try_writes(&mut session, &expected),
        Err(_) => vec![Check::new("takes writes", Tri::Unknown, "not tried: something in it could reach out")],
    };
    let checks = at(ProofLevel::Consistent, consistent).chain(at(ProofLevel::Usable, usable)).collect();
    output(&CheckOutput { bytes: part.bytes, checks })
}

/// Whether a copy that this role makes has the owners and grants of what was captured.
fn gives_owners(session: &mut Session, facts: &PostgresFacts) -> Result<bool, PgError> {
    if postgres::look_at(session)?.role.superuser {
        return Ok(true);
    }
    let ours = session.value("SELECT current_user")?;
    Ok(facts.roles.iter().all(|role| *role == ours))
}

/// Takes a row away, looks, and puts it back: the comparison must notice.
fn control(
    hands: &Hands,
    stored: &Stored<'_>,
    url: &str,
    database: &str,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let (part, expected) = stored.manifest(hands)?;
    let address = hands.vaults.database(url)?.with_database(database);
    let mut session = Session::open(&address, context.stop).map_err(|error| postgres_failure(&error))?;
    let check = postgres::negative_control(&mut session, &expected);
    output(&CheckOutput { bytes: part.bytes, checks: vec![(ProofLevel::Consistent, check)] })
}

fn swap(hands: &Hands, url: &str, names: &SwapNames, context: &Context<'_>) -> Result<Value, Failure> {
    let address = hands.vaults.database(url)?;
    let mut session = beside(&address, &names.live, context.stop)?;
    let failed = |error: PgError| postgres_failure(&error);
    let done = postgres::swap_state(&mut session, names).map_err(failed)? == SwapState::Done;
    let held = if done { None } else { holding::until(&address.with_database(&names.live), context)? };
    let swapped = postgres::swap_databases(&mut session, names, held, END_SESSIONS, &*hands.io.clock, context.stop);
    let swapped = match swapped {
        // The answer may be what was lost.
        Err(error) => match session.another().and_then(|mut again| postgres::swap_state(&mut again, names)) {
            Ok(SwapState::Done) => postgres::Swapped::default(),
            Ok(SwapState::NotYet | SwapState::Unknown) | Err(_) => return Err(postgres_failure(&error)),
        },
        Ok(swapped) => swapped,
    };
    swapped.notes.iter().for_each(|note| context.watch.note(note));
    let closed_ms = swapped.closed_for.as_millis() as u64;
    Ok(json!({ "live": names.live, "kept": names.kept, "closed_ms": closed_ms, "ended": swapped.ended }))
}

/// Both ways may be repeated: what is closed stays closed, what is open stays open.
fn fence(
    hands: &Hands,
    address: &Address,
    (on, brief): (bool, bool),
    why: &str,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let mut session = Session::open(address, context.stop).map_err(failed)?;
    if !on {
        postgres::fence_off(&mut session).map_err(failed)?;
        // What an operation that died has left goes along.
        let left = postgres::watch_off(&mut session, &*hands.io.clock, context.stop).map_err(failed)?;
        left.iter().for_each(|note| context.watch.note(note));
        return Ok(json!({ "on": false }));
    }
    let (operation, by) = (&context.operation.id, &context.operation.by);
    let note = format!("{operation} by {by}: {why}");
    let clock = &*hands.io.clock;
    // Whoever knows the pass may write. Nobody has to yet, so it is told to nobody; the note can be read by all.
    let pass = format!("{:032x}{:032x}", hands.io.random.bits(), hands.io.random.bits());
    let closed = match brief {
        true => postgres::hold_writes(&mut session, (&pass, &note), FENCE_WAIT, HOLD_MS, clock, context.stop),
        false => postgres::fence_on(&mut session, &pass, &note, FENCE_WAIT, clock, context.stop),
    };
    let status = closed.map_err(failed)?;
    match seen_to_hold(&mut session, brief, clock, context.stop) {
        Ok(seen) if seen.is_shown() => Ok(json!({ "on": true, "closed": status.closed, "shown": true })),
        Ok(seen) => {
            let message = format!(
                "the fence does not hold: {} sessions still write, {} prepared transactions, {} tables are open",
                seen.writing_sessions.max(seen.write_locks),
                seen.prepared,
                seen.open_tables
            );
            Err(Failure::new(FailureKind::Busy, message).hint("end those sessions, then run it again"))
        }
        Err(error) => {
            let next = error.next_step();
            context
                .watch
                .note(&format!("The fence is there; that nobody writes could not be shown: {error} ({next})."));
            Ok(json!({ "on": true, "closed": status.closed, "shown": false }))
        }
    }
}

/// Looks until nobody writes any more: a client that was refused is at it for a moment longer. What is held for a swap need
/// not wait for those who have written something else than a table: their sessions are ended.
fn seen_to_hold(
    session: &mut Session,
    brief: bool,
    clock: &dyn lifeboat_io::Clock,
    stop: &lifeboat_io::Stop,
) -> Result<postgres::NoWriter, PgError> {
    let until = clock.elapsed() + FENCE_SEEN;
    loop {
        let seen = postgres::prove_fence(session)?;
        let tables = postgres::NoWriter { writing_sessions: 0, write_locks: 0, ..seen.clone() };
        if brief && tables.is_shown() {
            return Ok(tables);
        }
        if seen.is_shown() || clock.elapsed() >= until || stop.wanted() {
            return Ok(seen);
        }
        clock.sleep(Duration::from_millis(5), stop).map_err(PgError::Stopped)?;
    }
}

/// After a swap that failed: the former database has its name and is open, and nothing that was written is dropped.
fn reopen(hands: &Hands, url: &str, names: &SwapNames, spare: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let mut session = beside(&hands.vaults.database(url)?, &names.live, context.stop)?;
    if postgres::swap_state(&mut session, names).map_err(failed)? == SwapState::Done {
        let back = SwapNames { live: names.live.clone(), aside: names.kept.clone(), kept: spare.to_owned() };
        postgres::swap_databases(&mut session, &back, None, END_SESSIONS, &*hands.io.clock, context.stop)
            .map_err(failed)?;
        context.watch.note(&format!("The swap had happened; what was live since then is kept as database {spare}."));
    } else if postgres::database_exists(&mut session, &names.live).map_err(failed)? {
        postgres::open_database(&mut session, &names.live).map_err(failed)?;
    }
    Ok(json!({ "open": names.live }))
}

fn rename(hands: &Hands, url: &str, from: &str, to: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let mut session = beside(&hands.vaults.database(url)?, from, context.stop)?;
    dress(hands, &mut session, from, context)?;
    postgres::rename_database(&mut session, from, to).map_err(|error| postgres_failure(&error))?;
    Ok(json!({ "live": to }))
}

/// Gives a database that this operation has filled owner, settings and grants as they were captured: there is none beside
/// it that could lend its own.
fn dress(hands: &Hands, session: &mut Session, database: &str, context: &Context<'_>) -> Result<(), Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let filled = context.operation.plan.steps().find_map(|step| match &step.action {
        Action::Postgres(PgAction::Fill { vault, backup, resource, database: filled, .. }) if filled == database => {
            Some(Stored { vault, backup, resource })
        }
        _other => None,
    });
    let Some(stored) = filled else { return Ok(()) };
    let (_, facts) = stored.manifest(hands)?;
    let may = stored.owners(hands, session, &facts, context)?;
    if may.is_ok() && postgres::database_exists(session, database).map_err(failed)? {
        let notes = postgres::dress_database(session, database, &facts.database).map_err(failed)?;
        notes.iter().for_each(|note| context.watch.note(note));
    }
    Ok(())
}
