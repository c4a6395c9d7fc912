//! Tables that nobody has written to since an earlier capture: what that one has of their rows holds, and is not read again.
//!
//! A row carries the number of the transaction that wrote it, and never changes: an `UPDATE` writes another one. So where the
//! server counts on as it did then, a table holds what it held when
//!
//! ```text
//!   none of its rows is younger          nothing came, nothing was changed
//!   there are as many as there were      nothing went
//!   it is that table, with those columns, whose types write what they wrote
//! ```
//!
//! Its own statistics would be cheaper to ask, and are no proof: a session may turn them off, a crash loses them.
//!
//! That the server counts on is not taken for granted. Numbers are given out twice where it came back as it was earlier, with
//! the disk of an hour ago or without its last commits; so it has to run since before the earlier capture, and either no
//! process of it can have crashed, or what that capture saw was on disk. And once in [`DAYS_MAX`] days everything is read, whatever they say.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use lifeboat_model::{
    PostgresFacts, Timestamp,
    postgres::{Horizon, PgTableFacts},
    time::since,
};

use super::{
    PgError, Session,
    catalog::Table,
    loss::same_lineage,
    rows::{Reading, join, lock_at_once, taken},
    salvage::{seen, younger},
};
use crate::{clock::Clock, stop::Stop};

/// After so many days rows are read again. It bounds how long anything that nobody thought of could go unseen.
pub const DAYS_MAX: u64 = 7;

/// Smaller tables are read at once: to ask first would take as long.
const BYTES_MIN: u64 = 1 << 20;

/// So many of a table's last pages are looked at first: most that is new is there.
const LAST_PAGES: u64 = 16;

/// What tells tables apart, by their numbers.
pub(super) struct Identity {
    /// The table, its columns and their types, with the labels of an enumeration and the version of the extension that one
    /// comes with; not its name.
    pub text: String,
    /// Whether what COPY says of a row depends on nothing but these and the row.
    is_steady: bool,
}

/// The identities of all tables of the database.
pub(super) fn identities(session: &mut Session) -> Result<BTreeMap<u32, Identity>, PgError> {
    // A type is what it is made of: the one below a domain, the elements of an array, the fields of a row. Those of names and
    // numbers of other objects (`regclass`) and those that follow a setting (`money`) may be written otherwise tomorrow.
    let rows = session.ask(
        "WITH RECURSIVE used AS (
           SELECT c.oid AS relation, a.attnum, a.atttypid, a.atttypmod
             FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
            WHERE c.relkind = 'r'),
         part (whole, oid) AS (
           SELECT DISTINCT atttypid, atttypid FROM used
            UNION
           SELECT p.whole, n.oid FROM part p CROSS JOIN LATERAL (
             SELECT t.typbasetype AS oid FROM pg_catalog.pg_type t WHERE t.oid = p.oid AND t.typtype = 'd'
              UNION ALL
             SELECT t.typelem FROM pg_catalog.pg_type t WHERE t.oid = p.oid AND t.typcategory = 'A' AND t.typelem <> 0
              UNION ALL
             SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = p.oid
              UNION ALL
             SELECT f.atttypid FROM pg_catalog.pg_type t
               JOIN pg_catalog.pg_attribute f ON f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
              WHERE t.oid = p.oid AND t.typtype = 'c') n),
         kind AS (
           SELECT t.oid, pg_catalog.concat_ws(':', t.oid, t.typbasetype, t.typtypmod, t.typelem, x.extversion,
                    (SELECT pg_catalog.string_agg(e.oid || '=' || e.enumlabel, ';' ORDER BY e.oid)
                       FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
                    (SELECT pg_catalog.string_agg(f.attnum || '=' || f.atttypid || '.' || f.atttypmod, ';' ORDER BY f.attnum)
                       FROM pg_catalog.pg_attribute f
                      WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped)) AS text,
                  t.typtype IN ('d', 'e', 'r', 'c') OR (t.typtype = 'b' AND t.typname !~ '^_?(reg|money$|aclitem$)'
                    AND (t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace OR x.oid IS NOT NULL
                      OR (t.typcategory = 'A' AND t.typelem <> 0))) AS is_steady
             FROM pg_catalog.pg_type t
             LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid
                   AND d.objsubid = 0 AND d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
             LEFT JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
            WHERE t.oid IN (SELECT oid FROM part)),
         whole AS (
           SELECT p.whole, pg_catalog.string_agg(k.text, '|' ORDER BY k.oid) AS text, pg_catalog.bool_and(k.is_steady) AS is_steady
             FROM part p JOIN kind k ON k.oid = p.oid GROUP BY p.whole)
         SELECT u.relation, pg_catalog.md5(pg_catalog.string_agg(
                  pg_catalog.concat_ws(':', u.attnum, u.atttypid, u.atttypmod, w.text), ',' ORDER BY u.attnum)),
                pg_catalog.bool_and(w.is_steady)
           FROM used u JOIN whole w ON w.whole = u.atttypid
          GROUP BY u.relation",
    )?;
    let identity = |row: &super::Row| {
        let oid = row.text(0).parse().unwrap_or_default();
        (oid, Identity { text: format!("{oid}-{}", row.text(1)), is_steady: row.is_true(2) })
    };
    Ok(rows.iter().map(identity).collect())
}

/// Whether the server's counting goes on from an earlier capture without a break.
fn counts_on(session: &mut Session, then: &Horizon, now: &Horizon) -> Result<bool, PgError> {
    let is_same = then.running_since.is_some() && then.running_since == now.running_since;
    let is_unbroken = then.unbroken_since.is_some() && then.unbroken_since == now.unbroken_since;
    Ok(is_same && (is_unbroken || then.on_disk) && same_lineage(session, then)?.is_ok())
}

/// Until when tables are asked, where whoever asks has no more time.
pub(super) struct Until<'a> {
    pub clock: &'a dyn Clock,
    /// In the clock's [`Clock::elapsed`].
    pub at: Duration,
}

impl Until<'_> {
    /// Has the server end what this transaction asks when time is over; whether there is any left.
    pub(super) fn bound(&self, session: &mut Session) -> Result<bool, PgError> {
        let left = self.at.saturating_sub(self.clock.elapsed()).as_millis();
        if left > 0 {
            session.run(&format!("SET LOCAL statement_timeout = {left}"))?;
        }
        Ok(left > 0)
    }
}

/// What the server says of a statement that it ended for its time.
const OUT_OF_TIME: &str = "57014";

/// The tables, by their places in the list, that hold what an earlier capture has of them, with that; with an end to it,
/// those of which it was found out by then.
pub(super) fn untouched(
    leader: &mut Session,
    identities: &BTreeMap<u32, Identity>,
    now: &PostgresFacts,
    earlier: &PostgresFacts,
    reading: &Reading<'_>,
    (until, stop): (Option<&Until<'_>>, &Stop),
) -> Result<BTreeMap<usize, PgTableFacts>, PgError> {
    if now.server_version != earlier.server_version || !counts_on(leader, &earlier.horizon, &now.horizon)? {
        return Ok(BTreeMap::new());
    }
    let known = |at: &usize| known(&reading.tables[*at], identities, earlier, now.horizon.at).is_some();
    // Workers take from the end: the largest, which the list begins with.
    let asked: VecDeque<usize> = (0..reading.tables.len()).filter(known).rev().collect();
    let asking = Asking { asked: Mutex::new(asked), same: Mutex::default(), failed: Mutex::default(), until };
    std::thread::scope(|scope| {
        for _ in 0..reading.connections.max(1) {
            scope.spawn(|| {
                let asked = asking.ask(earlier, reading, stop);
                if let Err(error) = asked
                    && (until.is_none() || error.code() != Some(OUT_OF_TIME))
                {
                    taken(&asking.failed).get_or_insert(error);
                    taken(&asking.asked).clear();
                }
            });
        }
    });
    if let Some(error) = taken(&asking.failed).take() {
        return Err(error);
    }
    let same = std::mem::take(&mut *taken(&asking.same));
    let facts = same.into_iter().filter_map(|at| Some((at, facts_again(&reading.tables[at], earlier)?)));
    Ok(facts.collect())
}

/// Tables that are asked, by several sessions.
struct Asking<'a> {
    asked: Mutex<VecDeque<usize>>,
    same: Mutex<Vec<usize>>,
    failed: Mutex<Option<PgError>>,
    until: Option<&'a Until<'a>>,
}

impl Asking<'_> {
    fn ask(&self, earlier: &PostgresFacts, reading: &Reading<'_>, stop: &Stop) -> Result<(), PgError> {
        let next = || taken(&self.asked).pop_back();
        let Some(mut at) = next() else { return Ok(()) };
        let mut session = join(reading, stop)?;
        loop {
            if let Some(until) = self.until
                && !until.bound(&mut session)?
            {
                return Ok(());
            }
            let table = &reading.tables[at];
            if let Some(then) = earlier.tables.get(&table.title())
                // Who cannot be asked at once is read, by whoever holds it.
                && lock_at_once(&mut session, table)?
                && is_untouched(&mut session, table, then.rows.rows, &earlier.horizon)?
            {
                taken(&self.same).push(at);
            }
            match next() {
                Some(more) => at = more,
                None => return session.run("COMMIT"),
            }
        }
    }
}

/// What an earlier capture has of a table, if that could still hold.
fn known<'a>(
    table: &Table,
    identities: &BTreeMap<u32, Identity>,
    earlier: &'a PostgresFacts,
    now: Option<Timestamp>,
) -> Option<&'a PgTableFacts> {
    let then = earlier.tables.get(&table.title())?;
    let identity = identities.get(&table.oid)?;
    let is_it = identity.is_steady && identity.text == then.identity && then.columns == table.columns;
    let is_whole = table.condition.is_none() && then.condition.is_none() && !then.parts.is_empty();
    let read_at = then.read_at.or(earlier.horizon.at)?;
    let is_fresh = now.is_some_and(|now| read_at <= now && since(read_at, now).as_secs() < DAYS_MAX * 24 * 60 * 60);
    (is_it && is_whole && is_fresh && table.bytes >= BYTES_MIN).then_some(then)
}

/// The same, as it is noted in the new capture.
fn facts_again(table: &Table, earlier: &PostgresFacts) -> Option<PgTableFacts> {
    let then = earlier.tables.get(&table.title())?.clone();
    Some(PgTableFacts { read_at: then.read_at.or(earlier.horizon.at), disk_bytes: table.bytes, ..then })
}

/// Whether a table has as many rows as then, and none that is younger.
fn is_untouched(session: &mut Session, table: &Table, rows: u64, horizon: &Horizon) -> Result<bool, PgError> {
    if session.major() >= 14 && table.pages > LAST_PAGES * 4 {
        let (title, from) = (table.title(), table.pages - LAST_PAGES);
        let new = session.one(&format!(
            "SELECT EXISTS (SELECT 1 FROM ONLY {title} WHERE ctid >= '({from},0)'::pg_catalog.tid AND {})",
            younger(horizon)
        ))?;
        if new.is_true(0) {
            return Ok(false);
        }
    }
    let seen = seen(session, table, horizon)?;
    Ok(seen.touched == 0 && seen.rows == rows)
}
