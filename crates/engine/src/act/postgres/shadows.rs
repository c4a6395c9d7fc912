//! A copy of a backup that was made beforehand, beside the live database: it is compared with what the backup holds once more
//! and gets the name of the database that would be filled.

use lifeboat_io::database::postgres::{self, Address, PgError, Session};
use lifeboat_model::{Failure, FailureKind, Tri};
use serde_json::{Value, json};

use super::{Stored, beside, found_in, postgres_failure};
use crate::{act::Hands, perform::Context};

/// Gives a shadow the name of the database that would be filled. Nothing, with a note why, when it does not do: what can be
/// fetched from the vault needs no shadow.
///
/// # Errors
/// When it was interrupted, or the server does not answer.
pub(super) fn take(
    hands: &Hands,
    stored: &Stored<'_>,
    (url, database): (&str, &str),
    shadow: &str,
    context: &Context<'_>,
) -> Result<Option<Value>, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let address = hands.vaults.database(url)?;
    let mut session = beside(&address, database, context.stop)?;
    let exists = |session: &mut Session, name: &str| postgres::database_exists(session, name).map_err(failed);
    // An earlier try may have renamed it already.
    let name = match (exists(&mut session, shadow)?, exists(&mut session, database)?) {
        (true, _) => shadow,
        (false, true) => database,
        (false, false) => return Ok(without(shadow, "it is gone", context)),
    };
    match differs(hands, stored, &address.with_database(name), context) {
        Ok(None) => {}
        Ok(Some(why)) => return Ok(without(shadow, &why, context)),
        Err(failure) if failure.kind == FailureKind::Interrupted => return Err(failure),
        Err(failure) => return Ok(without(shadow, &failure.to_string(), context)),
    }
    if name == shadow {
        // Left by an earlier try that filled it.
        postgres::drop_database(&mut session, database).map_err(failed)?;
        if let Err(error) = postgres::rename_database(&mut session, shadow, database) {
            return Ok(without(shadow, &error.to_string(), context));
        }
    }
    // No `bytes`: none were fetched in that time, and the next fetch must not be predicted from it.
    Ok(Some(json!({ "shadow": shadow })))
}

/// Gives a database that was taken from a shadow the shadow's name again, and drops whatever else has been filled. One that
/// was made ready for the swap is no shadow any more: its sequences stand where the live ones stood.
///
/// # Errors
/// When it was interrupted, or the server does not answer.
pub(super) fn give_back(
    hands: &Hands,
    stored: &Stored<'_>,
    (url, database): (&str, &str),
    shadow: &str,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let address = hands.vaults.database(url)?;
    let mut session = beside(&address, database, context.stop)?;
    let is_gone = !postgres::database_exists(&mut session, shadow).map_err(failed)?;
    if is_gone && postgres::database_exists(&mut session, database).map_err(failed)? {
        match differs(hands, stored, &address.with_database(database), context) {
            // Also one that was fetched whole, because the shadow was gone: it is what a shadow is.
            Ok(None) => {
                postgres::rename_database(&mut session, database, shadow).map_err(failed)?;
                return Ok(json!({ "shadow": shadow }));
            }
            Err(failure) if failure.kind == FailureKind::Interrupted => return Err(failure),
            Ok(Some(_)) | Err(_) => {}
        }
    }
    postgres::drop_database(&mut session, database).map_err(failed)?;
    Ok(json!({ "dropped": database }))
}

/// In what a database differs from what the backup holds; nothing when in nothing.
fn differs(
    hands: &Hands,
    stored: &Stored<'_>,
    inside: &Address,
    context: &Context<'_>,
) -> Result<Option<String>, Failure> {
    let (_, expected) = stored.manifest(hands)?;
    let found = found_in(hands, inside, &expected, context)?;
    let mut within = Session::open(inside, context.stop).map_err(|error| postgres_failure(&error))?;
    let with_grants = stored.owners(hands, &mut within, &expected, context)?.is_ok();
    let compared = postgres::compare_facts(&expected, &found, with_grants);
    let bad = compared.iter().find(|check| check.outcome != Tri::Pass);
    Ok(bad.map(|check| format!("{}: {}", check.name, check.detail)))
}

fn without(shadow: &str, why: &str, context: &Context<'_>) -> Option<Value> {
    context.watch.note(&format!("The shadow {shadow} is not used, the backup is fetched: {why}."));
    None
}
