//! A database that takes the place of another by its name: both renamed in one transaction, and back the same way.
//!
//! ```text
//!   shop ──────────► shop_before_x     the old one, kept, closed to everybody
//!   shop_new_x ────► shop              the new one, dressed as the old one was: owner, settings, grants, limits
//! ```
//!
//! Renaming needs that nobody is connected. From the first rename on, whoever wants to connect waits at the server's door,
//! which is not seen from outside: the rename holds the database's own lock. Those who are in are ended by another session
//! of ours meanwhile. Nothing is closed by a statement of its own, so that a death at any moment takes all of it back: the
//! server rolls the one transaction back, and the next client is let in.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lifeboat_model::postgres::DatabaseFacts;

use super::{
    PgError, Session, catalog,
    databases::{database_exists, dress_database},
    server,
    sql::{literal, literals, quoted},
    until,
};
use crate::{clock::Clock, stop::Stop};

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
/// the present one; then both are renamed in one transaction, while the sessions of the present one are ended. What is
/// kept lets nobody in. Repeated after it was done, it does nothing. `session` is in another database of the cluster.
///
/// # Errors
/// [`PgError::Preflight`] when sessions do not end within `end_sessions_max`, or writes have not been held up to the rename:
/// `held_until` is when the fence of the present one ends ([`super::keep_holding`]), when there is one. The server's refusals.
/// The old state holds then, open as before, and so it does when we die.
pub fn swap_databases(
    session: &mut Session,
    names: &SwapNames,
    held_until: Option<i64>,
    end_sessions_max: Duration,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<Swapped, PgError> {
    if swap_state(session, names)? == SwapState::Done {
        open_database(session, &names.live)?;
        return Ok(Swapped::default());
    }
    swap_preflight(session, names)?;
    // Asked inside of it where it lets us in: what a fence there has made the default stays behind with the fence.
    let inside = Session::open(&session.address().with_database(&names.live), stop);
    let present: DatabaseFacts = match inside {
        Ok(mut inside) => catalog::database_facts_of(&mut inside, &names.live)?,
        Err(_closed) => catalog::database_facts_of(session, &names.live)?,
    };
    let notes = dress_database(session, &names.aside, &present)?;
    let (closed_for, ended) = rename_both(session, (names, held_until), end_sessions_max, clock, stop)?;
    Ok(Swapped { closed_for, ended, notes })
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

/// The server waits for so long for the last session to end, and then refuses to rename.
const STILL_USED: &str = "55006";

fn rename_both(
    session: &mut Session,
    (names, held_until): (&SwapNames, Option<i64>),
    end_sessions_max: Duration,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<(Duration, u64), PgError> {
    let number = format!("SELECT oid FROM pg_catalog.pg_database WHERE datname = {}", literal(&names.live));
    let number = session.value(&number)?;
    let mut other = session.another()?;
    let until = clock.elapsed() + end_sessions_max;
    let mut ended = BTreeSet::new();
    loop {
        stop.check()?;
        // Nobody knows this one: whoever is there looks around, and is not waited for.
        ended.extend(end_once(session, &format!("a.datname = {}", literal(&names.aside)))?);
        let (begun, over) = (clock.elapsed(), AtomicBool::new(false));
        let (renamed, gone) = std::thread::scope(|scope| {
            let ending = scope.spawn(|| keep_ending(&mut other, &number, &over, clock));
            let renamed = in_one_transaction(session, names, held_until);
            over.store(true, Ordering::SeqCst);
            (renamed, ending.join())
        });
        ended.extend(gone.into_iter().flatten());
        match renamed {
            Ok(()) => return Ok((clock.elapsed() - begun, ended.len() as u64)),
            Err(error) if error.code() == Some(STILL_USED) && clock.elapsed() < until => {}
            Err(error) if error.code() == Some(STILL_USED) => return Err(they_stay(session, names)?.unwrap_or(error)),
            Err(error) => return Err(error),
        }
    }
}

fn in_one_transaction(session: &mut Session, names: &SwapNames, held_until: Option<i64>) -> Result<(), PgError> {
    let [live, aside, kept] = [&names.live, &names.aside, &names.kept].map(|name| quoted(name));
    session.transaction("BEGIN", |session| {
        session.run(&format!("ALTER DATABASE {live} RENAME TO {kept}"))?;
        // Nobody is in there any more, and nobody comes: whoever wrote, did so before this moment.
        held_until.map_or(Ok(()), |until| until::must_be_before(session, until))?;
        session.run(&format!("ALTER DATABASE {aside} RENAME TO {live}"))?;
        session.run(&format!("ALTER DATABASE {kept} WITH ALLOW_CONNECTIONS false"))?;
        session.run(&format!("ALTER DATABASE {live} WITH ALLOW_CONNECTIONS true"))
    })
}

/// Ends the sessions of a database, by its number - its name will be another one's - until it is over.
fn keep_ending(session: &mut Session, number: &str, over: &AtomicBool, clock: &dyn Clock) -> BTreeSet<String> {
    let mut ended = BTreeSet::new();
    while !over.load(Ordering::SeqCst) {
        // Who may not be ended is told by the rename, which is refused then.
        let Ok(gone) = end_once(session, &format!("a.datid = {number}")) else { break };
        ended.extend(gone);
        if clock.sleep(Duration::from_millis(2), &Stop::default()).is_err() {
            break;
        }
    }
    ended
}

/// Ends sessions for which this is true; `a` is their row of `pg_stat_activity`.
fn end_once(session: &mut Session, which: &str) -> Result<Vec<String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT a.pid, pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a
          WHERE {which} AND a.pid <> pg_catalog.pg_backend_pid()"
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Says who stays, when somebody does.
fn they_stay(session: &mut Session, names: &SwapNames) -> Result<Option<PgError>, PgError> {
    let rows = session.ask(&format!(
        "SELECT pg_catalog.format('%s (%s, process %s)', a.usename, a.backend_type, a.pid)
           FROM pg_catalog.pg_stat_activity a WHERE a.datname IN ({}) AND a.pid <> pg_catalog.pg_backend_pid()",
        literals([names.live.as_str(), &names.aside])
    ))?;
    let who: Vec<&str> = rows.iter().map(|row| row.text(0)).collect();
    let found = format!("sessions do not end: {}", who.join(", "));
    let hint = "end them at the server, then run it again".into();
    Ok((!who.is_empty()).then_some(PgError::Preflight { found, hint }))
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
