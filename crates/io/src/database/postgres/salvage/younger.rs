//! Rows that say by themselves that they are younger than a backup, where the server still counts transactions as it did then.

use std::collections::HashMap;

use super::{
    super::{PgError, RowChanges, Session, catalog::Table},
    Baseline, Horizon, Pair, Shape, read_live, read_then,
};

/// What the server's own counting tells of a table: rows now, and how many of them are younger than the backup.
pub(in super::super) struct Seen {
    pub rows: u64,
    pub touched: u64,
}

/// The condition for them, as SQL.
pub(in super::super) fn younger(horizon: &Horizon) -> String {
    let xmin = horizon.xmin & 0xffff_ffff;
    format!("pg_catalog.age(xmin) <= pg_catalog.age('{xmin}'::pg_catalog.xid)")
}

/// Counts them.
pub(in super::super) fn seen(session: &mut Session, now: &Table, horizon: &Horizon) -> Result<Seen, PgError> {
    let title = now.title();
    let condition = now.condition.as_deref().unwrap_or_default();
    let row = session.one(&format!(
        "SELECT count(*), count(*) FILTER (WHERE {}) FROM (SELECT xmin FROM ONLY {title} {condition}) x",
        younger(horizon)
    ))?;
    Ok(Seen { rows: row.count(0), touched: row.count(1) })
}

/// Counts what was done to a table where rows say by themselves that they are younger: of what is live only those are read. All that
/// is not among them is as it was captured; so what the backup has more than that was changed, or went.
pub(super) fn counted(
    session: &mut Session,
    baseline: &Baseline<'_>,
    pair: &Pair<'_>,
    shape: &Shape,
    (seen, horizon): (&Seen, &Horizon),
) -> Result<RowChanges, PgError> {
    let (Some(then), Some(now)) = (pair.then, pair.now) else { return Ok(RowChanges::default()) };
    let mut younger_rows: HashMap<u64, u64> = HashMap::with_capacity(seen.touched as usize);
    read_live(session, now, &shape.common, &younger(horizon), |row| {
        let (key, whole) = shape.mark(row);
        younger_rows.insert(key, whole);
        Ok(())
    })?;
    let (mut again, mut updated, mut room) = (0_u64, 0_u64, Vec::new());
    read_then(baseline.sources, then, |row| {
        let row = shape.of_then(row, &mut room);
        if let Some(whole) = younger_rows.get(&shape.key_of(row)) {
            again += 1;
            updated += u64::from(*whole != shape.mark(row).1);
        }
        Ok(())
    })?;
    let outdated = then.rows.rows.saturating_sub(seen.rows - seen.touched);
    let inserted = (younger_rows.len() as u64).saturating_sub(again);
    Ok(RowChanges { inserted, updated, deleted: outdated.saturating_sub(again) })
}
