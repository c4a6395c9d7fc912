//! Whether a server answers at all. One that does not is no damaged database: nothing is restored onto it.

use lifeboat_io::{Stop, database::postgres::Session};
use lifeboat_model::{BackupId, Failure, FailureClass, FailureKind, ResourceName};

use crate::{Engine, act::postgres_failure};

/// Refuses when nobody answers at the server.
///
/// # Errors
/// [`FailureKind::Refused`] with what to do, and the way to another server.
pub(crate) fn must_answer(engine: &Engine, url: &str, name: &ResourceName, backup: &BackupId) -> Result<(), Failure> {
    let address = engine.vaults.database(url)?;
    let beside = if address.database == "postgres" { "template1" } else { "postgres" };
    match Session::open(&address.with_database(beside), &Stop::default()) {
        Err(error) if error.class() == Some(FailureClass::Connection) => {
            let message = format!(
                "the server of {name} is unreachable: nothing can be restored onto it, and its data may be unharmed"
            );
            let failure = postgres_failure(&error).while_doing(message);
            let failure = Failure { kind: FailureKind::Refused, ..failure };
            Err(failure.hint(format!(
                "start it, or ask its provider; onto another server: lifeboat restore postgres://ROLE@HOST/{} --vault {} --from {backup}",
                address.database,
                engine.setup().vault
            )))
        }
        _answers => Ok(()),
    }
}
