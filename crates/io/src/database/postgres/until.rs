//! An end that comes by itself: what is put into somebody's database for a moment says until when it holds, so that a death
//! of ours leaves nothing that works on.
//!
//! The moment is kept in a sequence, the one thing in a database that everybody reads as it is now, whatever snapshot their
//! transaction has: one that began long ago sees it put off, too. It is counted by the server's clock alone, in
//! milliseconds.

use super::{PgError, Session};

/// The server's clock, in SQL.
const NOW_MS: &str = "(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000)::pg_catalog.int8";

/// Statements that make the end of what is in a schema; everybody may read it.
pub(super) fn make(schema: &str, for_ms: u32) -> String {
    format!(
        "CREATE SEQUENCE IF NOT EXISTS {schema}.until MINVALUE 0; GRANT SELECT ON SEQUENCE {schema}.until TO PUBLIC;
         SELECT pg_catalog.setval('{schema}.until', {NOW_MS} + {for_ms})"
    )
}

/// Statements after which what is in a schema has no end of its own.
pub(super) fn none(schema: &str) -> String {
    format!("DROP SEQUENCE IF EXISTS {schema}.until")
}

/// True in SQL when the end has come.
pub(super) fn is_over(schema: &str) -> String {
    format!("(SELECT u.last_value FROM {schema}.until u) <= {NOW_MS}")
}

/// Milliseconds that are left, by the server's clock; nothing when there is no end.
pub(super) fn left_ms(session: &mut Session, schema: &str) -> Result<Option<i64>, PgError> {
    let there = session.value(&format!("SELECT pg_catalog.to_regclass('{schema}.until') IS NOT NULL"))?;
    if there != "t" {
        return Ok(None);
    }
    Ok(Some(session.one(&format!("SELECT last_value - {NOW_MS} FROM {schema}.until"))?.number(0)))
}

/// Puts the end off. Says when it will be; nothing when it has come meanwhile, or there is none: then what it ended has not
/// held all the time.
pub(super) fn put_off(session: &mut Session, schema: &str, for_ms: u32) -> Result<Option<i64>, PgError> {
    match left_ms(session, schema)? {
        Some(left) if left > 0 => {}
        Some(_) | None => return Ok(None),
    }
    let before = session.one(&format!("SELECT last_value FROM {schema}.until"))?.number(0);
    let until = session.one(&format!("SELECT pg_catalog.setval('{schema}.until', {NOW_MS} + {for_ms})"))?.number(0);
    // Between the two somebody may have come through: looked at last, it shows that nobody did.
    let now = session.one(&format!("SELECT {NOW_MS}"))?.number(0);
    Ok((now < before).then_some(until))
}

/// Fails when a moment has passed.
pub(super) fn must_be_before(session: &mut Session, until: i64) -> Result<(), PgError> {
    let now = session.one(&format!("SELECT {NOW_MS}"))?.number(0);
    if now < until {
        return Ok(());
    }
    Err(lapsed())
}

/// What is said when it has ended too early.
pub(super) fn lapsed() -> PgError {
    PgError::Preflight {
        found: "writes were let in again before the swap, since nothing was heard of this program for too long".into(),
        hint: "nothing was changed: run it again".into(),
    }
}
