//! Schemas inside a database on a server: made from a backup and put in others' places, and back.

use std::collections::BTreeMap;

use lifeboat_io::{
    Stop,
    database::postgres::{self, Address, Leaving, PgError, SchemaSwap, SchemasSwapped, Selection, Session, SwapState},
};
use lifeboat_model::{Failure, Found, PgAction, SchemaNames, SchemaReturn, StoredPart};
use serde_json::{Value, json};

use super::{
    Hands, Stored,
    losses::{self, Looking},
    postgres_failure, streams, summary,
};
use crate::perform::Context;

pub(super) fn perform(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<Value, Failure> {
    match action {
        PgAction::ReadySchemas { url, from: Some(from), schemas, .. } => ready(hands, url, from, schemas, context),
        PgAction::ReadySchemas { url, exchange, .. } => {
            let mut session = open(hands, url, context.stop)?;
            let state = postgres::exchange_state(&mut session, exchange).map_err(failed)?;
            let names: Vec<&str> = exchange.iter().map(|one| one.live.as_str()).collect();
            match state {
                SwapState::NotYet => Ok(json!({ "ready": names })),
                SwapState::Done | SwapState::Unknown => {
                    let message =
                        format!("the schemas {} are not as they were when this was planned", names.join(", "));
                    Err(Failure::new(lifeboat_model::FailureKind::Refused, message)
                        .hint("plan it again: lifeboat undo"))
                }
            }
        }
        PgAction::ReturnSchemas { url, schemas, exchange, back } => {
            give_back(hands, url, schemas, exchange, back, context)
        }
        PgAction::SwapSchemas { from, url, schemas, leaving, quiet, tablespaces } => {
            let what = Swap { from, url, names: schemas, quiet: *quiet, tablespaces };
            swap(hands, &what, leaving.as_deref(), context)
        }
        PgAction::ExchangeSchemas { url, schemas, leaving } => {
            exchange(hands, url, schemas, leaving.as_deref(), context)
        }
        PgAction::DropSchemas { url, schemas } => {
            let mut session = open(hands, url, context.stop)?;
            postgres::drop_kept_schemas(&mut session, schemas).map_err(failed)?;
            Ok(json!({ "dropped": schemas }))
        }
        other => Err(Failure::new(lifeboat_model::FailureKind::Bug, format!("{other:?} is not about schemas"))),
    }
}

/// Looks whether an action happened. Each is one transaction; one that is still at work is waited for.
pub(super) fn probe(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<(Found, Value), Failure> {
    let found = |state: SwapState, output: Value| match state {
        SwapState::NotYet => (Found::NotStarted, Value::Null),
        SwapState::Done => (Found::Done, output),
        SwapState::Unknown => (Found::Unknown, Value::Null),
    };
    match action {
        PgAction::SwapSchemas { url, schemas, .. } => {
            let mut session = settled(hands, url, context.stop)?;
            let state = postgres::schemas_state(&mut session, schemas).map_err(failed)?;
            Ok(found(state, json!({ "schemas": schemas })))
        }
        PgAction::ExchangeSchemas { url, schemas, .. } => {
            let mut session = settled(hands, url, context.stop)?;
            let state = postgres::exchange_state(&mut session, schemas).map_err(failed)?;
            Ok(found(state, json!({ "schemas": schemas })))
        }
        PgAction::DropSchemas { url, schemas } => {
            let mut session = open(hands, url, context.stop)?;
            let kept = postgres::kept_schemas(&mut session).map_err(failed)?;
            Ok(match kept.iter().any(|name| schemas.contains(name)) {
                true => (Found::NotStarted, Value::Null),
                false => (Found::Done, json!({ "dropped": schemas })),
            })
        }
        _others_may_be_repeated => Ok((Found::NotStarted, Value::Null)),
    }
}

/// Which schemas have these names.
pub(crate) fn look_at(hands: &Hands, url: &str, schemas: &[String]) -> Result<String, Failure> {
    numbers(&hands.vaults.database(url)?, schemas)
}

/// The same, for a planner.
pub(crate) fn numbers(address: &Address, schemas: &[String]) -> Result<String, Failure> {
    let mut session = Session::open(address, &Stop::default()).map_err(failed)?;
    postgres::schema_numbers(&mut session, schemas).map_err(failed)
}

/// Schemas that the platform of this database makes itself; none on a server of one's own, and when it cannot be asked: then
/// the capture will tell.
pub(crate) fn platform_schemas(address: &Address) -> Vec<String> {
    let looked = Session::open(address, &Stop::default()).and_then(|mut session| {
        let target = postgres::look_at(&mut session)?;
        Ok((target.is_supabase, postgres::schemas_here(&mut session)?))
    });
    match looked {
        Ok((true, here)) => Selection::supabase().except.into_iter().filter(|name| here.contains_key(name)).collect(),
        Ok((false, _)) | Err(_) => Vec::new(),
    }
}

fn failed(error: PgError) -> Failure {
    postgres_failure(&error)
}

fn open(hands: &Hands, url: &str, stop: &Stop) -> Result<Session, Failure> {
    Session::open(&hands.vaults.database(url)?, stop).map_err(failed)
}

/// A session at a moment when no swap is at work.
fn settled(hands: &Hands, url: &str, stop: &Stop) -> Result<Session, Failure> {
    let mut session = open(hands, url, stop)?;
    postgres::schemas_settled(&mut session).map_err(failed)?;
    Ok(session)
}

fn stored(from: &StoredPart) -> Stored<'_> {
    Stored { vault: &from.vault, backup: &from.backup, resource: &from.resource }
}

fn sources(
    hands: &Hands,
    from: &StoredPart,
    folder: String,
    context: &Context<'_>,
) -> Result<streams::OutOfVault, Failure> {
    let vault = hands.vaults.open(&from.vault)?;
    let snapshot = summary::snapshot_of(&vault, &from.backup)?;
    Ok(streams::OutOfVault::new(vault, snapshot, folder, context.stop.clone()))
}

fn ready(
    hands: &Hands,
    url: &str,
    from: &StoredPart,
    names: &[SchemaNames],
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let (part, facts) = stored(from).manifest(hands)?;
    let entries = stored(from).entries(&sources(hands, from, part.path.clone(), context)?)?;
    let clock = &*hands.io.clock;
    let lock_wait_ms = postgres::SCHEMA_LOCK_WAIT_MS;
    let what = SchemaSwap { names, facts: &facts, entries: &entries, clock, lock_wait_ms, quiet: false, leaving: None };
    postgres::schemas_preflight(&mut open(hands, url, context.stop)?, &what).map_err(failed)?;
    Ok(json!({ "ready": names.iter().map(|names| &names.live).collect::<Vec<_>>() }))
}

/// Which schemas, from where.
#[derive(Clone, Copy)]
struct Swap<'a> {
    from: &'a StoredPart,
    url: &'a str,
    names: &'a [SchemaNames],
    quiet: bool,
    tablespaces: &'a BTreeMap<String, String>,
}

fn swap(hands: &Hands, what: &Swap<'_>, leaving: Option<&PgAction>, context: &Context<'_>) -> Result<Value, Failure> {
    let Swap { from, url, names, quiet, tablespaces } = *what;
    let (part, facts) = stored(from).manifest(hands)?;
    let sources = sources(hands, from, part.path.clone(), context)?;
    let mut entries = stored(from).entries(&sources)?;
    let clock = &*hands.io.clock;
    let lock_wait_ms = postgres::SCHEMA_LOCK_WAIT_MS;
    let mut session = open(hands, url, context.stop)?;
    postgres::map_tablespaces(&mut session, &facts, &mut entries, tablespaces).map_err(failed)?;
    super::settle_tablespaces(&mut session, &mut entries, context)?;
    let progress = |done, total| context.watch.progress(done, total);
    let work = |leaving: Option<Leaving<'_>>| {
        let what = SchemaSwap { names, facts: &facts, entries: &entries, clock, lock_wait_ms, quiet, leaving };
        postgres::swap_schemas(&mut session, &what, &sources, context.stop, &progress)
    };
    let state = |session: &mut Session| postgres::schemas_state(session, names);
    let (swapped, found) = looked_at(hands, url, leaving, context, work, state)?;
    Ok(told(swapped, json!(names), found, context))
}

fn exchange(
    hands: &Hands,
    url: &str,
    all: &[SchemaReturn],
    leaving: Option<&PgAction>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let mut session = open(hands, url, context.stop)?;
    let work = |leaving: Option<Leaving<'_>>| {
        postgres::exchange_schemas(&mut session, all, leaving, &*hands.io.clock, context.stop)
    };
    let state = |session: &mut Session| postgres::exchange_state(session, all);
    let (exchanged, found) = looked_at(hands, url, leaving, context, work, state)?;
    Ok(told(exchanged, json!(all), found, context))
}

/// Carries it out, with a look at what leaves. Where it did not happen, nothing of that is kept.
fn looked_at(
    hands: &Hands,
    url: &str,
    leaving: Option<&PgAction>,
    context: &Context<'_>,
    work: impl FnOnce(Option<Leaving<'_>>) -> Result<SchemasSwapped, PgError>,
    state: impl FnOnce(&mut Session) -> Result<SwapState, PgError>,
) -> Result<(SchemasSwapped, Value), Failure> {
    let looking = leaving.map(|action| Looking::new(hands, action, context)).transpose()?;
    let worked = match &looking {
        Some(looking) => work(Some(&|session, when| looking.look(session, when))),
        None => work(None),
    };
    let error = match worked {
        Ok(done) => return Ok((done, looking.map_or(Value::Null, Looking::found))),
        Err(error) => error,
    };
    // The answer may be what was lost: then the schemas themselves tell.
    let state = settled(hands, url, &Stop::default()).and_then(|mut session| state(&mut session).map_err(failed));
    match state {
        Ok(SwapState::Done) => return Ok((SchemasSwapped::default(), looking.map_or(Value::Null, Looking::found))),
        Ok(SwapState::NotYet) if looking.is_some() => drop(losses::forget(hands, None, Some(url), context)?),
        Ok(SwapState::NotYet | SwapState::Unknown) | Err(_) => {}
    }
    Err(looking.and_then(|looking| looking.failure()).unwrap_or_else(|| failed(error)))
}

fn told(done: SchemasSwapped, schemas: Value, found: Value, context: &Context<'_>) -> Value {
    done.notes.iter().for_each(|note| context.watch.note(note));
    let mut told = json!({
        "schemas": schemas, "rows": done.rows, "held_ms": done.held_for.as_millis() as u64,
        "types_moved": done.types_moved, "pointed": done.pointed, "notes": done.notes,
    });
    if let (Some(told), Value::Object(found)) = (told.as_object_mut(), found) {
        told.extend(found);
    }
    told
}

/// After a swap that failed, or whose answer was lost: where it did happen, the former schemas return, and nothing that
/// was written is dropped.
fn give_back(
    hands: &Hands,
    url: &str,
    names: &[SchemaNames],
    forth: &[SchemaReturn],
    back: &[SchemaReturn],
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let mut session = settled(hands, url, context.stop)?;
    let state = match forth.is_empty() {
        true => postgres::schemas_state(&mut session, names),
        false => postgres::exchange_state(&mut session, forth),
    };
    if state.map_err(failed)? == SwapState::Done {
        postgres::exchange_schemas(&mut session, back, None, &*hands.io.clock, context.stop).map_err(failed)?;
        let kept: Vec<&str> = back.iter().filter_map(|one| one.becomes.as_deref()).collect();
        context.watch.note(&format!("The swap had happened; what was live since then is kept as {}.", kept.join(", ")));
    }
    // The rows have not left.
    losses::forget(hands, None, Some(url), context)?;
    Ok(json!({ "live": back.iter().map(|one| &one.live).collect::<Vec<_>>() }))
}
