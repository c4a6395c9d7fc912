//! What a backup of a database would read now, for whoever predicts how long it takes.

use lifeboat_io::{
    Stop,
    database::postgres::{self, Outlook, Selection},
};
use lifeboat_model::{ResourceKind, time::Duration};

use super::streams::Earlier;
use crate::{Engine, facts::Live};

/// So long it is looked at most: it is for a prediction, and somebody waits for the plan.
const LIMIT: Duration = Duration::from_millis(1_500);

/// What a backup of a database would read at this moment, and take over from the newest one in the vault. Nothing where that
/// cannot be known: then it may be all of it.
pub(crate) fn outlook(engine: &Engine, live: &Live, vault_exists: bool) -> Option<Outlook> {
    let ResourceKind::Postgres { url, schemas } = &live.resource.kind else { return None };
    if !live.exists || live.unreadable.is_some() {
        return None;
    }
    let (io, stop) = (engine.io(), Stop::default());
    let vault = engine.vaults.open(&engine.setup().vault).ok().filter(|_| vault_exists);
    let earlier = vault
        .and_then(|vault| Earlier::newest(&vault, &engine.setup().scope, &live.resource.name, io.clock.now(), &stop));
    let selection = match schemas.is_empty() {
        true => Selection { only: Vec::new(), except: live.leave_out.clone() },
        false => Selection { only: schemas.clone(), except: Vec::new() },
    };
    let address = engine.vaults.database(url).ok()?;
    let facts = earlier.as_ref().map(|earlier| &earlier.facts);
    postgres::outlook(&address, &selection, facts, &*io.clock, LIMIT, &stop).ok()
}
