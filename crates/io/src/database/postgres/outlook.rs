//! What a capture would read at this moment, and what it would take over: asked beforehand, of the code that decides it then.

use std::{collections::BTreeMap, time::Duration};

use lifeboat_model::PostgresFacts;

use super::{
    Address, PgError, Selection, Session,
    capture::Nowhere,
    catalog, large_objects,
    rows::Reading,
    untouched::{Until, identities, untouched},
};
use crate::{clock::Clock, stop::Stop};

/// Connections that ask at the same time: as many as a capture has.
const CONNECTIONS: usize = 2;

/// What a capture would do with the tables of a database and its large objects, in bytes on the server's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// It would read so many.
    pub read_bytes: u64,
    /// It would take over so many from an earlier capture.
    pub again_bytes: u64,
}

/// What a capture would read now, after an earlier one. Only looks, for so long at most: a table that was not asked by then
/// counts as one that is read.
///
/// # Errors
/// As [`Session::run`]. Whoever predicts something from it takes it as all being read.
pub fn outlook(
    address: &Address,
    selection: &Selection,
    earlier: Option<&PostgresFacts>,
    clock: &dyn Clock,
    limit: Duration,
    stop: &Stop,
) -> Result<Outlook, PgError> {
    let until = Until { clock, at: clock.elapsed() + limit };
    let mut leader = Session::open(address, stop)?;
    leader.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    until.bound(&mut leader)?;
    let snapshot = leader.value("SELECT pg_catalog.pg_export_snapshot()")?;
    let tables = catalog::tables(&mut leader, selection)?;
    let objects = large_objects::list(&mut leader, selection)?.map_or(0, |objects| objects.bytes);
    let again = match earlier {
        Some(earlier) => {
            let mut horizon = catalog::horizon(&mut leader)?;
            horizon.at = Some(clock.now());
            let now = PostgresFacts { server_version: leader.version(), horizon, ..PostgresFacts::default() };
            let reading = Reading {
                address,
                snapshot: &snapshot,
                connections: CONNECTIONS,
                tables: &tables,
                sinks: &Nowhere,
                progress: &|_, _| (),
            };
            let identities = identities(&mut leader)?;
            untouched(&mut leader, &identities, &now, earlier, &reading, (Some(&until), stop))?
        }
        None => BTreeMap::new(),
    };
    leader.run("COMMIT")?;
    let all: u64 = tables.iter().map(|table| table.bytes).sum();
    let again_bytes = again.keys().map(|at| tables[*at].bytes).sum();
    Ok(Outlook { read_bytes: all - again_bytes + objects, again_bytes })
}
