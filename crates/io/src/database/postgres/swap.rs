//! A database that takes the place of another by its name: both renamed in one transaction, and back the same way.
//!
//! ```text
//!   shop ──────────► shop_before_x     the old one, kept, closed to everybody
//!   shop_new_x ────► shop              the new one, dressed as the old one was: owner, settings, grants, limits
//! ```
//!
//! Renaming needs that nobody is connected to either. So the old one is closed first (`ALLOW_CONNECTIONS false`), then
//! sessions are ended until there are none. Whatever fails, the old one is opened again.

use std::time::Duration;

use lifeboat_model::postgres::DatabaseFacts;

use super::{
    PgError, Session, catalog,
    databases::{database_exists, dress_database},
    server,
    sql::{literal, literals, quoted},
};
use crate::{
    clock::Clock,
    stop::{Stop, Stopped},
};

/// Three names of databases of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapNames {
    /// The name that everybody uses.
    pub live: String,
    /// The database that is to have it.
    pub aside: String,
    /// What the present one will be called.
    pub kept: String,
}

impl SwapNames {
    /// The swap that takes this one back: the kept database returns, the other is called as it was before.
    #[must_use]
    pub fn undone(&self) -> SwapNames {
        SwapNames { live: self.live.clone(), aside: self.kept.clone(), kept: self.aside.clone() }
    }
}

/// Which databases there are: how far a swap has come. There is nothing between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapState {
    /// Live and aside are there, kept is not.
    NotYet,
    /// Live and kept are there, aside is not.
    Done,
    /// Neither: somebody else has renamed or dropped something.
    Unknown,
}

/// How far a swap has come.
///
/// # Errors
/// As [`Session::run`].
pub fn swap_state(session: &mut Session, names: &SwapNames) -> Result<SwapState, PgError> {
    let mut is_there = |name: &str| database_exists(session, name);
    let (live, aside, kept) = (is_there(&names.live)?, is_there(&names.aside)?, is_there(&names.kept)?);
    Ok(match (live, aside, kept) {
        (true, true, false) => SwapState::NotYet,
        (true, false, true) => SwapState::Done,
        _ => SwapState::Unknown,
    })
}

/// Refuses a swap that would fail in the middle: prepared transactions, sessions that we may not end, rights that are
/// missing, names that are taken or too long. `session` is in another database of the cluster.
///
/// # Errors
/// [`PgError::Preflight`] with what is in the way.
pub fn swap_preflight(session: &mut Session, names: &SwapNames) -> Result<(), PgError> {
    let refused = |found: String, hint: &str| Err(PgError::Preflight { found, hint: hint.into() });
    const NAME_BYTES_MAX: usize = 63;
    if let Some(long) = [&names.live, &names.aside, &names.kept].into_iter().find(|name| name.len() > NAME_BYTES_MAX) {
        return refused(format!("the name {long} has more than {NAME_BYTES_MAX} bytes"), "choose shorter names");
    }
    if swap_state(session, names)? != SwapState::NotYet {
        let found = format!("{} and {} must exist, and {} must not", names.live, names.aside, names.kept);
        return refused(found, "look at the databases with psql -l; a swap may have been made or undone by hand");
    }
    let both = literals([names.live.as_str(), &names.aside]);
    let prepared =
        session.ask(&format!("SELECT gid, database FROM pg_catalog.pg_prepared_xacts WHERE database IN ({both})"))?;
    if let Some(row) = prepared.first() {
        let found = format!("the prepared transaction {} holds {}", row.text(0), row.text(1));
        return refused(found, "COMMIT PREPARED or ROLLBACK PREPARED it; a database with one cannot be renamed");
    }
    let target = server::privileges(session)?;
    let owner = session.ask(&format!(
        "SELECT datname FROM pg_catalog.pg_database WHERE datname IN ({both}) AND NOT pg_catalog.pg_has_role(datdba, 'USAGE')"
    ))?;
    if let Some(row) = owner.first() {
        return refused(format!("{} does not belong to {}", row.text(0), target.name), "connect as its owner");
    }
    if !target.create_database {
        return refused(
            format!("{} may not rename databases", target.name),
            "ALTER ROLE ... CREATEDB, or connect as another role",
        );
    }
    let subscriptions = session.ask(&format!(
        "SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
          WHERE d.datname IN ({both}) AND s.subenabled"
    ))?;
    if let Some(row) = subscriptions.first() {
        return refused(
            format!("the subscription {} is at work", row.text(0)),
            "ALTER SUBSCRIPTION ... DISABLE it first",
        );
    }
    let unkillable = unkillable(session, &target, &both)?;
    if !unkillable.is_empty() {
        let found = format!("{} may not end the sessions of {}", target.name, unkillable.join(", "));
        return refused(found, "end them, GRANT pg_signal_backend, or connect as a superuser");
    }
    Ok(())
}

/// Sessions that we may not end: a superuser's, and others' without `pg_signal_backend`.
fn unkillable(session: &mut Session, ours: &server::Privileges, names: &str) -> Result<Vec<String>, PgError> {
    if ours.superuser {
        return Ok(Vec::new());
    }
    let allowed = if ours.signal_backend {
        "NOT r.rolsuper"
    } else {
        "pg_catalog.pg_has_role(r.oid, 'USAGE') AND NOT r.rolsuper"
    };
    let rows = session.ask(&format!(
        "SELECT DISTINCT pg_catalog.format('%s (%s)', a.usename, COALESCE(NULLIF(a.application_name, ''), 'process ' || a.pid))
           FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
          WHERE a.datname IN ({names}) AND a.pid <> pg_catalog.pg_backend_pid() AND NOT ({allowed})"
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// What a swap did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swapped {
    /// How long nobody could connect.
    pub closed_for: Duration,
    /// Sessions that were ended.
    pub ended: u64,
    /// Settings that could not be carried over, a sentence each; none for a superuser.
    pub notes: Vec<String>,
}

/// Makes `aside` the live database. Before anybody notices, it is given owner, settings, grants, limit and comment of
/// the present one; then the present one is closed, its sessions are ended, and both are renamed in one transaction.
/// Repeated after it was done, it does nothing. `session` is in another database of the cluster.
///
/// # Errors
/// [`PgError::Preflight`] when sessions come back faster than they are ended within `end_sessions_max`; the server's
/// refusals. The old state holds then, open as before.
pub fn swap_databases(
    session: &mut Session,
    names: &SwapNames,
    end_sessions_max: Duration,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<Swapped, PgError> {
    if swap_state(session, names)? == SwapState::Done {
        open_database(session, &names.live)?;
        return Ok(Swapped::default());
    }
    swap_preflight(session, names)?;
    let present: DatabaseFacts = catalog::database_facts_of(session, &names.live)?;
    let notes = dress_database(session, &names.aside, &present)?;
    let begun = clock.elapsed();
    let renamed = close_and_rename(session, names, end_sessions_max, clock, stop);
    match renamed {
        Ok(ended) => Ok(Swapped { closed_for: clock.elapsed() - begun, ended, notes }),
        Err(error) => {
            // Whatever happened, `live` is the name of one of them, and it must be open. When that fails as well (the
            // server is gone), the next run or `open_database` does it.
            let mut rescue = session.another();
            let reopened = rescue.as_mut().map(|rescue| open_database(rescue, &names.live));
            match reopened {
                Ok(Ok(())) => Err(error),
                Ok(Err(second)) => Err(also(error, names, &second)),
                Err(second) => Err(also(error, names, second)),
            }
        }
    }
}

/// Both errors: why the swap failed, and why the database could not be opened again.
fn also(error: PgError, names: &SwapNames, second: &PgError) -> PgError {
    PgError::Preflight {
        found: format!("the swap failed ({error}), and {} could not be opened again ({second})", names.live),
        hint: format!(
            "ALTER DATABASE {} WITH ALLOW_CONNECTIONS true, when the server is there again",
            quoted(&names.live)
        ),
    }
}

/// Gives a database that nobody is connected to another name, and lets everybody connect to it.
///
/// # Errors
/// As [`Session::run`]; `session` is in another database of the cluster.
pub fn rename_database(session: &mut Session, from: &str, to: &str) -> Result<(), PgError> {
    if database_exists(session, from)? || !database_exists(session, to)? {
        session.run(&format!("ALTER DATABASE {} RENAME TO {}", quoted(from), quoted(to)))?;
    }
    open_database(session, to)
}

/// Whether anybody may connect to a database; one that is not there is closed.
///
/// # Errors
/// As [`Session::run`].
pub fn is_open(session: &mut Session, name: &str) -> Result<bool, PgError> {
    let sql = format!("SELECT datallowconn FROM pg_catalog.pg_database WHERE datname = {}", literal(name));
    Ok(session.ask(&sql)?.first().is_some_and(|row| row.is_true(0)))
}

/// Lets everybody connect again.
///
/// # Errors
/// As [`Session::run`].
pub fn open_database(session: &mut Session, name: &str) -> Result<(), PgError> {
    session.run(&format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true", quoted(name)))
}

/// Lets nobody connect any more; sessions that are there stay.
///
/// # Errors
/// As [`Session::run`].
pub fn close_database(session: &mut Session, name: &str) -> Result<(), PgError> {
    session.run(&format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", quoted(name)))
}

fn close_and_rename(
    session: &mut Session,
    names: &SwapNames,
    end_sessions_max: Duration,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<u64, PgError> {
    let SwapNames { live, aside, kept } = names;
    close_database(session, live)?;
    close_database(session, aside)?;
    let ended = end_sessions(session, &[live, aside], end_sessions_max, clock, stop)?;
    let (live, aside, kept) = (quoted(live), quoted(aside), quoted(kept));
    session.transaction("BEGIN", |session| {
        session.run(&format!("ALTER DATABASE {live} RENAME TO {kept}"))?;
        session.run(&format!("ALTER DATABASE {aside} RENAME TO {live}"))?;
        session.run(&format!("ALTER DATABASE {live} WITH ALLOW_CONNECTIONS true"))
    })?;
    Ok(ended)
}

/// Ends all sessions of databases, until there are none.
///
/// # Errors
/// [`PgError::Preflight`], naming those that stay.
pub fn end_sessions(
    session: &mut Session,
    databases: &[&String],
    wait_max: Duration,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<u64, PgError> {
    let names = literals(databases.iter().map(|name| name.as_str()));
    let until = clock.elapsed() + wait_max;
    let mut ended = std::collections::BTreeSet::new();
    loop {
        let rows = session.ask(&format!(
            "SELECT a.pid, pg_catalog.pg_terminate_backend(a.pid), a.usename, a.backend_type FROM pg_catalog.pg_stat_activity a
              WHERE a.datname IN ({names}) AND a.pid <> pg_catalog.pg_backend_pid()"
        ))?;
        if rows.is_empty() {
            return Ok(ended.len() as u64);
        }
        ended.extend(rows.iter().map(|row| row.text(0).to_owned()));
        if clock.elapsed() >= until {
            let who: Vec<String> =
                rows.iter().map(|row| format!("{} ({}, process {})", row.text(2), row.text(3), row.text(0))).collect();
            let found = format!("sessions do not end: {}", who.join(", "));
            return Err(PgError::Preflight { found, hint: "end them at the server, then run it again".into() });
        }
        clock.sleep(Duration::from_millis(2), stop).map_err(|Stopped| PgError::Stopped(Stopped))?;
    }
}

/// The sessions of a database, ours excepted: who would be ended by a swap.
///
/// # Errors
/// As [`Session::run`].
pub fn sessions_of(session: &mut Session, database: &str) -> Result<Vec<String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT pg_catalog.format('%s from %s, %s', a.usename, COALESCE(pg_catalog.host(a.client_addr), 'here'), a.state)
           FROM pg_catalog.pg_stat_activity a
          WHERE a.datname = {} AND a.pid <> pg_catalog.pg_backend_pid() AND a.usename IS NOT NULL",
        literal(database)
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}
