//! Schemas that come back from where they were kept, while the present ones are kept in turn.

use std::collections::BTreeSet;

use lifeboat_model::{SchemaNames, SchemaReturn};

use super::{
    super::{
        PgError, Session, fence,
        sql::{literal, quoted},
    },
    Around, Leaving, Look, SCHEMA_LOCK_WAIT_MS, SchemasSwapped, advance_sequences, attempts, depends,
    fill::{extensions_in, leave_publications, memberships, move_extensions},
    hold,
    kept::{Kept, comment_of},
    refused, types,
};
use crate::{clock::Clock, stop::Stop};

/// Whether an exchange has been made, not yet, or something else has happened.
fn state(session: &mut Session, all: &[SchemaReturn]) -> Result<super::SwapState, PgError> {
    let rows = session.ask("SELECT nspname FROM pg_catalog.pg_namespace")?;
    let there: BTreeSet<&str> = rows.iter().map(|row| row.text(0)).collect();
    let has = |name: &Option<String>| name.as_deref().map(|name| there.contains(name));
    let done = |one: &SchemaReturn| has(&one.returns) != Some(true) && has(&one.becomes) != Some(false);
    let not_yet = |one: &SchemaReturn| has(&one.returns) != Some(false) && has(&one.becomes) != Some(true);
    Ok(match (all.iter().all(done), all.iter().all(not_yet)) {
        (true, false) => super::SwapState::Done,
        (false, true) => super::SwapState::NotYet,
        (true, true) | (false, false) => super::SwapState::Unknown,
    })
}

/// How far an exchange has come.
///
/// # Errors
/// As [`Session::run`].
pub fn exchange_state(session: &mut Session, all: &[SchemaReturn]) -> Result<super::SwapState, PgError> {
    state(session, all)
}

/// Exchanges schemas: what is live gets the name it is to become, what was kept returns, with the types and extensions
/// that both use, and with all that points into it from elsewhere. One transaction; repeated after it was done, it does
/// nothing.
///
/// # Errors
/// [`PgError`]; everything is as before then. A connection that is lost while committing tells nothing: see
/// [`exchange_state`].
pub fn exchange_schemas(
    session: &mut Session,
    all: &[SchemaReturn],
    looking: Option<Leaving<'_>>,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<SchemasSwapped, PgError> {
    match state(session, all)? {
        super::SwapState::Done => return Ok(SchemasSwapped::default()),
        super::SwapState::NotYet => {}
        super::SwapState::Unknown => {
            let names: Vec<&str> = all.iter().map(|one| one.live.as_str()).collect();
            let found = format!("the schemas {} are not as they were when this was planned", names.join(", "));
            return refused(found, "look at them with \\dn in psql; a swap may have been made or undone by hand");
        }
    }
    session.transaction("BEGIN", |session| {
        session.run(&super::settings(SCHEMA_LOCK_WAIT_MS))?;
        session.run(super::ONE_AT_A_TIME)?;
        let mut done = SchemasSwapped::default();
        super::look(session, looking, Look::Free)?;
        let begun = clock.elapsed();
        let leaving: Vec<&str> = all.iter().filter_map(|one| one.becomes.as_deref()).collect();
        attempts(session, clock, (&leaving, SCHEMA_LOCK_WAIT_MS), stop, |session| {
            once(session, all, &leaving, looking, &mut done)
        })?;
        stop.check()?;
        done.held_for = clock.elapsed() - begun;
        Ok(done)
    })
}

fn once(
    session: &mut Session,
    all: &[SchemaReturn],
    leaving: &[&str],
    looking: Option<Leaving<'_>>,
    done: &mut SchemasSwapped,
) -> Result<(), PgError> {
    let live: Vec<&str> = all.iter().filter(|one| one.becomes.is_some()).map(|one| one.live.as_str()).collect();
    let mut returning = Vec::new();
    for one in all {
        let kept = one.returns.as_deref().map(|name| Kept::read(session, name)).transpose()?;
        returning.push(kept.unwrap_or_else(|| Kept { live: one.live.clone(), ..Kept::default() }));
    }
    let movable: BTreeSet<String> =
        returning.iter().flat_map(|kept| kept.types.iter().map(|name| format!("{}.{name}", kept.live))).collect();
    let around = Around::look(session, &live, &movable)?;
    let extensions = extensions_in(session, &live)?;
    let mut left = Vec::new();
    for (one, kept) in all.iter().zip(&returning) {
        let publications = memberships(session, &[one.live.as_str()])?.into_iter().map(|member| member.add).collect();
        left.push(Kept {
            live: one.live.clone(),
            comment: comment_of(session, &one.live)?,
            types: kept.types.clone(),
            publications,
        });
    }
    for ((one, leaves), kept) in all.iter().zip(&left).zip(&returning) {
        let schema = quoted(&one.live);
        if let Some(becomes) = &one.becomes {
            session.run(&format!("ALTER SCHEMA {schema} RENAME TO {}", quoted(becomes)))?;
            leaves.write(session, becomes)?;
        }
        if let Some(returns) = &one.returns {
            session.run(&format!("ALTER SCHEMA {} RENAME TO {schema}", quoted(returns)))?;
            let comment = kept.comment.as_deref().map_or_else(|| "NULL".to_owned(), literal);
            session.run(&format!("COMMENT ON SCHEMA {schema} IS {comment}"))?;
        }
    }
    if looking.is_some() {
        let names = |one: &SchemaReturn| SchemaNames { live: one.live.clone(), kept: one.becomes.clone() };
        let names: Vec<SchemaNames> = all.iter().map(names).collect();
        hold(session, leaving)?;
        super::look(session, looking, Look::Held(&names))?;
    }
    move_extensions(session, &extensions)?;
    for (one, kept) in all.iter().zip(&returning) {
        let (Some(from), Some(_)) = (&one.becomes, &one.returns) else { continue };
        kept.types.iter().try_for_each(|name| types::move_one(session, from, name, &one.live))?;
    }
    // What came back stood outside of a fence that was put up since.
    fence::close_what_came(session)?;
    leave_publications(session, leaving)?;
    returning.iter().flat_map(|kept| &kept.publications).try_for_each(|statement| session.run(statement))?;
    let notes = around.point_again(session, true)?;
    depends::refuse_any(session, leaving)?;
    hold(session, leaving)?;
    for one in all {
        if let (Some(from), Some(_)) = (&one.becomes, &one.returns) {
            advance_sequences(session, from, &one.live)?;
        }
    }
    done.types_moved = movable.len() as u64;
    done.pointed = around.count();
    done.notes = notes;
    Ok(())
}
