//! What a server is, what we may do there, and whether what we are about to do can work.

use lifeboat_model::postgres::DatabaseFacts;

use super::{
    Address, PgError, Session,
    catalog::{self, Table},
};
use crate::stop::Stop;

/// A database, as a plan shows it and as decisions need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Host, port and database; nothing secret.
    pub place: String,
    /// The server's version as a number: 150018 for 15.18.
    pub version: u32,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// Whether it is a standby, which cannot be written.
    pub is_standby: bool,
    /// The database and what surrounds it.
    pub database: DatabaseFacts,
    /// Whether it has tables, views or functions of a person's.
    pub is_empty: bool,
    /// The cluster's own number, where we may know it.
    pub system_identifier: Option<String>,
    /// Who we are there, and what we may do.
    pub role: Privileges,
    /// Whether it looks like Supabase: its roles and schemas are there.
    pub is_supabase: bool,
}

/// What our role may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Its name.
    pub name: String,
    /// Everything.
    pub superuser: bool,
    /// Make databases.
    pub create_database: bool,
    /// Make roles.
    pub create_role: bool,
    /// See rows that policies hide.
    pub bypass_rls: bool,
    /// End other roles' sessions, superusers' excepted.
    pub signal_backend: bool,
    /// See what other sessions do.
    pub read_all_stats: bool,
    /// It owns the database, or is a member of the role that does.
    pub owns_database: bool,
}

/// Looks at a database.
///
/// # Errors
/// As [`Session::run`].
pub fn look_at(session: &mut Session) -> Result<Target, PgError> {
    let role = privileges(session)?;
    let row = session.one(
        "SELECT pg_catalog.pg_is_in_recovery(),
                NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                             WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                               AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                             WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                               AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')),
                (SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')) = 3
            AND (SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname IN ('auth', 'storage')) = 2",
    )?;
    Ok(Target {
        place: session.address().to_string(),
        version: session.version(),
        is_encrypted: session.is_encrypted(),
        is_standby: row.is_true(0),
        is_empty: row.is_true(1),
        is_supabase: row.is_true(2),
        database: catalog::database_facts(session)?,
        system_identifier: catalog::horizon(session)?.system_identifier,
        role,
    })
}

pub(super) fn privileges(session: &mut Session) -> Result<Privileges, PgError> {
    let row = session.one(
        "SELECT r.rolname, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolbypassrls,
                pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'), pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
                (SELECT pg_catalog.pg_has_role(d.datdba, 'USAGE') FROM pg_catalog.pg_database d
                  WHERE d.datname = pg_catalog.current_database())
           FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
    )?;
    Ok(Privileges {
        name: row.text(0).to_owned(),
        superuser: row.is_true(1),
        create_database: row.is_true(2) || row.is_true(1),
        create_role: row.is_true(3) || row.is_true(1),
        bypass_rls: row.is_true(4) || row.is_true(1),
        signal_backend: row.is_true(5) || row.is_true(1),
        read_all_stats: row.is_true(6) || row.is_true(1),
        owns_database: row.is_true(7),
    })
}

/// Refuses a pooler that gives each transaction to another session. Two sessions of ours must be two of the server's,
/// and stay the same: while the second is in a transaction, a pooler has to move the first, or lend it the same one.
///
/// # Errors
/// [`PgError::Pooler`].
pub fn refuse_pooler(address: &Address, stop: &Stop) -> Result<(), PgError> {
    let to = || address.to_string();
    let mut first = match Session::open(address, stop) {
        // Some poolers refuse the settings that a session is opened with.
        Err(PgError::NotLetIn { said, .. }) if said.message.contains("unsupported startup parameter") => {
            return Err(PgError::Pooler { to: to() });
        }
        other => other?,
    };
    let pid = "SELECT pg_catalog.pg_backend_pid()";
    first.run("SET lifeboat.probe = 'first'")?;
    let was = first.value(pid)?;
    let mut second = first.another()?;
    second.run("BEGIN")?;
    let between = second.value(pid)?;
    let now = first.one("SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('lifeboat.probe', true)")?;
    second.run("COMMIT")?;
    if between == was || now.text(0) != was || now.text(1) != "first" {
        return Err(PgError::Pooler { to: to() });
    }
    Ok(())
}

/// Refuses what would overflow the server's table of locks, before it does so in the middle.
///
/// # Errors
/// [`PgError::LockTable`], with a setting that is enough.
pub(super) fn refuse_too_many_locks(session: &mut Session, tables: &[Table]) -> Result<(), PgError> {
    // The leader and pg_dump lock each table; a worker locks what it has read so far, and its TOAST table and index.
    let needed = tables.len() as u64 * 5 + 100;
    let row = session.one(
        "SELECT pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8,
                pg_catalog.current_setting('max_connections')::pg_catalog.int8
                + pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int8",
    )?;
    let (each, holders) = (row.count(0), row.count(1).max(1));
    let room = each * holders;
    if needed <= room {
        return Ok(());
    }
    Err(PgError::LockTable { needed, room, suggested: (needed * 5 / 4).div_ceil(holders) })
}
