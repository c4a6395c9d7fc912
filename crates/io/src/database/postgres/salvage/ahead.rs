//! The comparison in two looks, so that writers are held for a short one: the first while everybody writes, the second, when
//! nobody does, only at tables that were written to since.
//!
//! ```text
//!   compare_ahead     everything, in one snapshot; of each table at rest: how many rows it had
//!   ── writes are held ──
//!   still_holds       one scan a table, of the headers of its rows: none is younger, none is gone
//!   compare_rest      the others again
//! ```
//!
//! Whatever is done to a table either makes a row that is younger than the snapshot, or takes one away that was there. So
//! a table all of whose rows were older, and that has as many today, none of them younger, is to the byte what it was.

use std::collections::BTreeMap;

use lifeboat_model::{SchemaNames, postgres::Horizon};
use serde::{Deserialize, Serialize};

use super::{
    Baseline, ChangedTable, KeepRows, ONE_INSTANT, PgError, Session, catalog, catalog::Table, compare_table, seen,
};

/// No counting of transactions can be trusted over a longer distance.
const TRANSACTIONS_MAX: u64 = (1 << 31) - (1 << 20);

/// What a first look has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    horizon: Horizon,
    /// Since when the server runs: another one, or one that was started again, is not asked by this.
    server: String,
    tables: BTreeMap<String, AtRest>,
}

/// A table that nobody was writing to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct AtRest {
    oid: u32,
    columns: Vec<String>,
    rows: u64,
    /// How it differs from the backup, when it does.
    changed: Option<ChangedTable>,
}

impl Ahead {
    /// Whether what was found of a table is among it.
    pub fn has(&self, title: &str) -> bool {
        self.tables.contains_key(title)
    }

    fn begin(session: &mut Session) -> Result<Ahead, PgError> {
        let server = server(session)?;
        Ok(Ahead { horizon: catalog::horizon(session)?, server, tables: BTreeMap::new() })
    }

    fn is_of(&self, session: &mut Session) -> Result<bool, PgError> {
        let now = catalog::horizon(session)?;
        let near = now.xmin.checked_sub(self.horizon.xmin).is_some_and(|passed| passed < TRANSACTIONS_MAX);
        Ok(near && now.database_oid == self.horizon.database_oid && server(session)? == self.server)
    }
}

fn server(session: &mut Session) -> Result<String, PgError> {
    session.value("SELECT pg_catalog.pg_postmaster_start_time()")
}

/// Compares all tables as [`super::compare_rows`] does, while others write; what differs is handed over.
///
/// # Errors
/// As [`super::compare_rows`].
pub fn compare_ahead(
    session: &mut Session,
    baseline: &Baseline<'_>,
    keep: &mut dyn KeepRows,
) -> Result<(Vec<ChangedTable>, Ahead), PgError> {
    session.transaction(ONE_INSTANT, |session| {
        let mut ahead = Ahead::begin(session)?;
        let live = baseline.live(session)?;
        let mut keep: Option<&mut dyn KeepRows> = Some(keep);
        let mut all = Vec::new();
        for pair in baseline.pairs(&live) {
            let changed = compare_table(session, baseline, &pair, &mut keep)?;
            if let Some(now) = pair.now {
                let seen = seen(session, now, &ahead.horizon)?;
                if seen.touched == 0 {
                    let (oid, columns, changed) = (now.oid, now.columns.clone(), changed.clone());
                    ahead.tables.insert(pair.title.clone(), AtRest { oid, columns, rows: seen.rows, changed });
                }
            }
            all.extend(changed);
        }
        Ok((all, ahead))
    })
}

/// The part of a first look that still is true. Writes are held, by a fence or by locks of this session; where schemas have
/// other names at this moment, `names` tells which.
///
/// # Errors
/// As [`Session::run`].
pub fn still_holds(
    session: &mut Session,
    baseline: &Baseline<'_>,
    ahead: &Ahead,
    names: Option<&[SchemaNames]>,
) -> Result<Ahead, PgError> {
    let mut holds = Ahead { tables: BTreeMap::new(), ..ahead.clone() };
    if !ahead.is_of(session)? {
        return Ok(holds);
    }
    with_live(session, baseline, names, |session, live| {
        for (title, now) in live {
            let Some(then) = ahead.tables.get(&title) else { continue };
            if (then.oid, &then.columns) != (now.oid, &now.columns) {
                continue;
            }
            let seen = seen(session, &now, &ahead.horizon)?;
            if seen.touched == 0 && seen.rows == then.rows {
                holds.tables.insert(title, then.clone());
            }
        }
        Ok(holds)
    })
}

/// Works with the live tables: in the caller's transaction, where schemas have other names in it, else at one moment.
fn with_live<T>(
    session: &mut Session,
    baseline: &Baseline<'_>,
    names: Option<&[SchemaNames]>,
    work: impl FnOnce(&mut Session, BTreeMap<String, Table>) -> Result<T, PgError>,
) -> Result<T, PgError> {
    if let Some(names) = names {
        let live = baseline.live_as(session, names)?;
        return work(session, live);
    }
    session.transaction(ONE_INSTANT, |session| {
        let live = baseline.live(session)?;
        work(session, live)
    })
}

/// Compares the tables of which a first look does not hold any more; says what differs in all of them. Writes are held, as
/// for [`still_holds`].
///
/// # Errors
/// As [`super::compare_rows`].
pub fn compare_rest(
    session: &mut Session,
    baseline: &Baseline<'_>,
    holds: &Ahead,
    names: Option<&[SchemaNames]>,
    keep: &mut dyn KeepRows,
) -> Result<Vec<ChangedTable>, PgError> {
    with_live(session, baseline, names, |session, live| {
        let mut keep: Option<&mut dyn KeepRows> = Some(keep);
        let mut all = Vec::new();
        for pair in baseline.pairs(&live) {
            match holds.tables.get(pair.title) {
                Some(at_rest) => all.extend(at_rest.changed.clone()),
                None => all.extend(compare_table(session, baseline, &pair, &mut keep)?),
            }
        }
        Ok(all)
    })
}
