//! Writes to a database, stopped and shown to be stopped; and let in again, by anybody, after any crash.
//!
//! `default_transaction_read_only`, which documents recommend, is a wish: any role can set it off for itself, and
//! sessions that exist do not notice. It is set too, since it gives friendly errors early; what stops writes is a trigger
//! on each table that fires for everybody, superusers and replicas included. Making a trigger waits for every writer
//! of its table: when it is there, no earlier write is open. Who has the fence's pass - our restore - may write.
//!
//! ```text
//!   held against      all roles, sessions that exist, session_replication_role = replica
//!   not held against  changing the schema, nextval, large objects, REFRESH of a materialized view;
//!                     a table's owner can drop the trigger: `prove_fence` sees that
//! ```
//!
//! All of the fence is in the database itself, in a schema of its own, so that it is known and can be lifted without us. One
//! that we need for a moment ends by itself when nothing is heard of us for [`HOLD_MS`]: a death leaves nobody closed out.
//! Whoever goes on after that is told, since it has not held all the time ([`keep_holding`]).

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{
    PgError, Session,
    sql::{literal, quoted},
    until,
};
use crate::{clock::Clock, stop::Stop};

/// The schema that holds the fence. Backups leave it out.
pub(super) const FENCE_SCHEMA: &str = "lifeboat_fence";
/// The name of the trigger; it sorts last, so that it does not change what other triggers see.
pub(super) const FENCE_TRIGGER: &str = "zz_lifeboat_fence";

/// What the function says of itself when the database was set to reading before the fence came.
const READS_BEFORE: &str = "reading was the default before";

/// For how long a fence of a moment holds without a sign of us.
pub const HOLD_MS: u32 = 30_000;

/// Tables that can be written, and their names in SQL; not ours, not the server's, not temporary ones.
const TABLES: &str = "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
      AND n.nspname NOT IN ('information_schema', 'lifeboat_fence', 'lifeboat_watch')";

/// What the fence is at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FenceStatus {
    /// Whether it is there, and holds.
    pub is_on: bool,
    /// Milliseconds until it ends by itself, for one that holds for a moment only; none are left when it has ended, and what
    /// remains of it refuses nobody.
    pub ends_in_ms: Option<i64>,
    /// What it says of itself: who made it, when, for which operation.
    pub note: String,
    /// Tables with a working trigger.
    pub closed: u64,
    /// Tables that can be written although it is on.
    pub open: Vec<String>,
    /// Whether new sessions are told by default that they may only read.
    pub reads_by_default: bool,
}

/// What shows that nobody writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoWriter {
    /// Other sessions in a transaction that has written.
    pub writing_sessions: u64,
    /// Locks on tables that a writer has, others' only.
    pub write_locks: u64,
    /// Prepared transactions.
    pub prepared: u64,
    /// Tables without a working trigger.
    pub open_tables: u64,
}

impl NoWriter {
    /// Whether it is shown.
    pub fn is_shown(&self) -> bool {
        *self == NoWriter::default()
    }
}

/// Closes a database to all writes but those of sessions that show `pass` ([`enter_fence`]). Sessions that hold a table
/// for longer than `wait_max` are ended. Repeated, it closes what has been opened since.
///
/// # Errors
/// [`PgError::Preflight`] when tables are not ours to close, or prepared transactions could still write; [`PgError::Refused`].
pub fn fence_on(
    session: &mut Session,
    pass: &str,
    note: &str,
    wait_max: Duration,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<FenceStatus, PgError> {
    fence_preflight(session)?;
    let database = quoted(&session.value("SELECT pg_catalog.current_database()")?);
    // Where reading was the default before, it stays so afterwards.
    let before = fence_status(session)?;
    session.transaction("BEGIN", |session| {
        session.run(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on"))?;
        session.run(&make_fence(pass, note, None))?;
        if before.reads_by_default && !before.is_on {
            session.run(&format!("COMMENT ON FUNCTION {FENCE_SCHEMA}.refuse() IS '{READS_BEFORE}'"))?;
        }
        Ok(())
    })?;
    close_all(session, wait_max, clock, stop)?;
    fence_status(session)
}

/// Closes a database to writes for a moment: as [`fence_on`], without making reading the default, which would go along to
/// whatever takes the database's place. It ends by itself after `hold_ms`, unless it is put off: [`keep_holding`].
///
/// # Errors
/// As [`fence_on`].
pub fn hold_writes(
    session: &mut Session,
    (pass, note): (&str, &str),
    wait_max: Duration,
    hold_ms: u32,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<FenceStatus, PgError> {
    fence_preflight(session)?;
    let before = fence_status(session)?;
    session.transaction("BEGIN", |session| {
        session.run(&make_fence(pass, note, Some(hold_ms)))?;
        // What is the default is none of ours, so that nobody takes it back.
        if before.reads_by_default && !before.is_on {
            session.run(&format!("COMMENT ON FUNCTION {FENCE_SCHEMA}.refuse() IS '{READS_BEFORE}'"))?;
        }
        Ok(())
    })?;
    close_all(session, wait_max, clock, stop)?;
    fence_status(session)
}

/// Puts the end of a fence of a moment off. Says when it will be, for [`swap_databases`]; nothing when it has ended, or there is
/// none of that kind: then somebody may have written since it came.
///
/// [`swap_databases`]: super::swap_databases
///
/// # Errors
/// As [`Session::run`].
pub fn keep_holding(session: &mut Session, hold_ms: u32) -> Result<Option<i64>, PgError> {
    until::put_off(session, FENCE_SCHEMA, hold_ms)
}

/// Closes what has come into a database whose fence is on, in the caller's transaction: new tables, and ones that come back.
///
/// # Errors
/// As [`Session::run`].
pub(super) fn close_what_came(session: &mut Session) -> Result<(), PgError> {
    if !fence_status(session)?.is_on {
        return Ok(());
    }
    let open = open_tables(session)?;
    close_in_transaction(session, &open)
}

/// Closes tables until all are; after `wait_max`, whoever holds one is ended.
fn close_all(session: &mut Session, wait_max: Duration, clock: &dyn Clock, stop: &Stop) -> Result<(), PgError> {
    /// How often sessions that come back are ended again.
    const ENDINGS_MAX: u32 = 10;
    let until = clock.elapsed() + wait_max;
    let mut endings = 0;
    loop {
        let open = open_tables(session)?;
        if open.is_empty() {
            return Ok(());
        }
        match close_tables(session, &open) {
            Ok(()) => return Ok(()),
            Err(error) if error.code() == Some("55P03") && clock.elapsed() < until => {}
            // Who holds a table for so long is ended; what they had not committed is rolled back.
            Err(error) if error.code() == Some("55P03") && endings < ENDINGS_MAX => {
                endings += 1;
                end_holders(session, &open)?;
            }
            Err(error) if error.code() == Some("55P03") => {
                let found = format!("tables cannot be closed: {}", open.join(", "));
                let hint = "end the sessions that hold them; lifeboat fence off opens the others again".into();
                return Err(PgError::Preflight { found, hint });
            }
            // Dropped or made meanwhile: the list is read again.
            Err(error) if error.code() == Some("42P01") => {}
            Err(error) => return Err(error),
        }
        clock.sleep(Duration::from_millis(1), stop)?;
    }
}

/// Why a fence could not close everything, as far as that will not change by itself; nothing when it could.
///
/// # Errors
/// As [`Session::run`].
pub fn fence_refused(session: &mut Session) -> Result<Option<String>, PgError> {
    match fence_preflight(session) {
        Ok(()) => Ok(None),
        Err(PgError::Preflight { found, .. }) if found.starts_with("these tables") => Ok(Some(found)),
        Err(PgError::Preflight { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a fence that could not close everything.
///
/// # Errors
/// [`PgError::Preflight`] when tables are not ours to close, or prepared transactions could still write.
fn fence_preflight(session: &mut Session) -> Result<(), PgError> {
    let refused = |found: String, hint: &str| Err(PgError::Preflight { found, hint: hint.into() });
    let foreign = session.ask(&format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM {TABLES} AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')"
    ))?;
    if !foreign.is_empty() {
        let names: Vec<&str> = foreign.iter().map(|row| row.text(0)).collect();
        return refused(
            format!("these tables belong to others: {}", names.join(", ")),
            "fence as their owner or as a superuser",
        );
    }
    let prepared =
        session.ask("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()")?;
    match prepared.first() {
        Some(row) => refused(
            format!("the prepared transaction {} could be committed behind the fence", row.text(0)),
            "COMMIT PREPARED or ROLLBACK PREPARED it first",
        ),
        None => Ok(()),
    }
}

/// The schema, and the function that says no. It knows a hash of the pass, so that reading it opens nothing.
fn make_fence(pass: &str, note: &str, hold_ms: Option<u32>) -> String {
    let hash = hex::encode(Sha256::digest(pass));
    let (end, over) = match hold_ms {
        Some(hold_ms) => {
            let over = format!("IF {} THEN RETURN NULL; END IF;", until::is_over(FENCE_SCHEMA));
            (until::make(FENCE_SCHEMA, hold_ms), over)
        }
        None => (until::none(FENCE_SCHEMA), String::new()),
    };
    format!(
        "CREATE SCHEMA IF NOT EXISTS {FENCE_SCHEMA};
         GRANT USAGE ON SCHEMA {FENCE_SCHEMA} TO PUBLIC;
         {end};
         CREATE OR REPLACE FUNCTION {FENCE_SCHEMA}.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $refuse$
         BEGIN
             {over}
             IF pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
                    COALESCE(pg_catalog.current_setting('lifeboat.pass', true), ''), 'UTF8')), 'hex') = '{hash}' THEN
                 RETURN NULL;
             END IF;
             RAISE EXCEPTION 'this database is read-only for the moment' USING ERRCODE = '25006',
                 HINT = 'A restore is in progress. Try again in a few minutes.';
         END $refuse$;
         COMMENT ON SCHEMA {FENCE_SCHEMA} IS {}",
        literal(note)
    )
}

/// Tables without a trigger that works.
fn open_tables(session: &mut Session) -> Result<Vec<String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM {TABLES}
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
                 JOIN pg_catalog.pg_namespace f ON f.oid = p.pronamespace
                 WHERE t.tgrelid = c.oid AND t.tgname = '{FENCE_TRIGGER}' AND t.tgenabled = 'A'
                   AND f.nspname = '{FENCE_SCHEMA}' AND p.proname = 'refuse')
          ORDER BY 1"
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Closes all in one transaction, waiting for each a short while.
fn close_tables(session: &mut Session, tables: &[String]) -> Result<(), PgError> {
    session.transaction("BEGIN", |session| {
        session.run("SET LOCAL lock_timeout = '300ms'")?;
        close_in_transaction(session, tables)
    })
}

fn close_in_transaction(session: &mut Session, tables: &[String]) -> Result<(), PgError> {
    tables.iter().try_for_each(|table| {
        session.run(&format!(
            "DROP TRIGGER IF EXISTS {FENCE_TRIGGER} ON {table};
             CREATE TRIGGER {FENCE_TRIGGER} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
                 FOR EACH STATEMENT EXECUTE FUNCTION {FENCE_SCHEMA}.refuse();
             ALTER TABLE {table} ENABLE ALWAYS TRIGGER {FENCE_TRIGGER}"
        ))
    })
}

/// Ends the sessions that hold one of these tables for writing or against us.
fn end_holders(session: &mut Session, tables: &[String]) -> Result<(), PgError> {
    let list: Vec<String> = tables.iter().map(|table| literal(table)).collect();
    session.run(&format!(
        "SELECT pg_catalog.pg_terminate_backend(l.pid) FROM (
            SELECT DISTINCT l.pid FROM pg_catalog.pg_locks l
             WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
               AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
               AND l.relation IN (SELECT pg_catalog.to_regclass(t) FROM pg_catalog.unnest(ARRAY[{}]) t)) l",
        list.join(", ")
    ))
}

/// Opens a database to all writes. Repeated, or when there is no fence, it does nothing. Needs no pass.
///
/// # Errors
/// [`PgError::Refused`]; the fence stays then.
pub fn fence_off(session: &mut Session) -> Result<(), PgError> {
    session.transaction("BEGIN", |session| {
        session.run("SET LOCAL lock_timeout = '30s'")?;
        take_fence(session)
    })
}

/// Takes the fence away in the caller's transaction, which writes; when there is none, it does nothing.
///
/// # Errors
/// As [`fence_off`].
pub(super) fn take_fence(session: &mut Session) -> Result<(), PgError> {
    let database = quoted(&session.value("SELECT pg_catalog.current_database()")?);
    let had = session.one(&format!(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = '{FENCE_SCHEMA}'),
                EXISTS (SELECT 1 FROM pg_catalog.pg_description WHERE description = '{READS_BEFORE}'
                           AND objoid = pg_catalog.to_regproc('{FENCE_SCHEMA}.refuse'))"
    ))?;
    if had.is_true(0) && !had.is_true(1) {
        session.run(&format!("ALTER DATABASE {database} RESET default_transaction_read_only"))?;
    }
    session.run(&format!("DROP SCHEMA IF EXISTS {FENCE_SCHEMA} CASCADE"))
}

/// Lets this session write behind the fence.
///
/// # Errors
/// As [`Session::run`].
pub fn enter_fence(session: &mut Session, pass: &str) -> Result<(), PgError> {
    session.run(&format!("SET lifeboat.pass = {}", literal(pass)))
}

/// Whether there is a fence, and what it leaves open; from the database alone.
///
/// # Errors
/// As [`Session::run`].
pub fn fence_status(session: &mut Session) -> Result<FenceStatus, PgError> {
    let row = session.one(&format!(
        "SELECT (SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = '{FENCE_SCHEMA}') = 1,
                (SELECT pg_catalog.obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace WHERE nspname = '{FENCE_SCHEMA}'),
                (SELECT count(*) FROM {TABLES}),
                EXISTS (SELECT 1 FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
                         WHERE d.datname = pg_catalog.current_database() AND s.setrole = 0
                           AND 'default_transaction_read_only=on' = ANY (s.setconfig))"
    ))?;
    let ends_in_ms = if row.is_true(0) { until::left_ms(session, FENCE_SCHEMA)? } else { None };
    let is_on = row.is_true(0) && ends_in_ms.is_none_or(|left| left > 0);
    let open = if is_on { open_tables(session)? } else { Vec::new() };
    let closed = if is_on { row.count(2) - open.len() as u64 } else { 0 };
    Ok(FenceStatus { is_on, ends_in_ms, note: row.text(1).to_owned(), closed, open, reads_by_default: row.is_true(3) })
}

/// Shows that nobody writes: no transaction that has written is open, no lock of a writer is held, every table is
/// closed. Needs to see other sessions: a superuser, or a member of `pg_read_all_stats`.
///
/// # Errors
/// [`PgError::Preflight`] when we may not see them: what cannot be seen is not shown.
pub fn prove_fence(session: &mut Session) -> Result<NoWriter, PgError> {
    if !super::server::privileges(session)?.read_all_stats {
        let found = "this role may not see what other sessions do".into();
        return Err(PgError::Preflight {
            found,
            hint: "GRANT pg_read_all_stats to it, or connect as a superuser".into(),
        });
    }
    let row = session.one(
        "SELECT (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()
                   AND backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()),
                (SELECT count(*) FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
                  WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
                    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                    AND c.relkind IN ('r', 'p') AND c.relnamespace <> 'pg_catalog'::pg_catalog.regnamespace
                    AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')),
                (SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database())",
    )?;
    let open_tables = open_tables(session)?.len() as u64;
    Ok(NoWriter { writing_sessions: row.count(0), write_locks: row.count(1), prepared: row.count(2), open_tables })
}
