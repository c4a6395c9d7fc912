//! A schema that takes the place of another inside one database, for servers that let nobody rename databases: all in one
//! transaction, and back the same way.
//!
//! ```text
//!   public ──────► public_before_x     the old tables; everybody reads and writes them until the commit
//!   (new) ───────► public              made, filled and compared while nobody sees it
//!   elsewhere      keys, views, functions, triggers, policies, defaults and publications that point into it: made again
//!                  at the very end, so that they point to the new ones; what cannot be made again refuses it all
//! ```
//!
//! Clients are not ended. Who waits for an old table's lock when the commit comes, finds the new table of that name. That
//! needs the last lock: without it a row could still be written to the old table after the commit. Types that are the same in both are moved and
//! not made again, so that statements which clients have prepared go on working. What is kept says in its comment what
//! it is and how it goes back; backups leave it out.

mod around;
mod depends;
mod exchange;
mod fill;
mod kept;
mod types;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lifeboat_model::{PostgresFacts, SchemaNames};

use super::{
    PgError, Session, SwapState,
    archive::SchemaEntry,
    fence, globals, quarantine,
    restore::{STANDS_IN, Sources},
    server,
    sql::{literal, literals, plain, quoted},
    workers::build_mb_max,
};
use crate::{clock::Clock, stop::Stop};

pub use around::Around;
pub use depends::{Dependent, dependents};
pub use exchange::{exchange_schemas, exchange_state};
pub(super) use kept::KEPT_COMMENT;
pub use kept::{drop_kept_schemas, kept_schemas};

/// How long one lock may take before all is given up, in milliseconds; for the last part, a third of the time for which it is
/// tried again and again.
pub const SCHEMA_LOCK_WAIT_MS: u32 = 3000;
/// How long one lock may take in the last part: clients wait behind us meanwhile, and one that holds what we want may want what
/// we hold. The server would look for that after a second, and end one of us.
const LATE_LOCK_WAIT_MS: u32 = 50;
/// How long clients have for themselves before the last part is tried again.
const LATE_PAUSE_MS: u32 = 30;
/// Only one swap of schemas is at work in a database.
const ONE_AT_A_TIME: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7308895208226188400)";

/// What a swap of schemas works with.
pub struct SchemaSwap<'a> {
    /// Which schemas, and what the present ones will be called.
    pub names: &'a [SchemaNames],
    /// What was captured.
    pub facts: &'a PostgresFacts,
    /// Its definitions.
    pub entries: &'a [SchemaEntry],
    /// Measures, and waits.
    pub clock: &'a dyn Clock,
    /// How long locks may take: [`SCHEMA_LOCK_WAIT_MS`].
    pub lock_wait_ms: u32,
    /// They come from another environment: what would act in them by itself is switched off.
    pub quiet: bool,
    /// Who looks at what leaves.
    pub leaving: Option<Leaving<'a>>,
}

/// Looks at what leaves with the present schemas: before anything is held, and again while nobody else can read or write
/// their tables. By then the session sees them under the names that are told. It may be asked more than once while they are
/// held; an error takes everything back.
pub type Leaving<'a> = &'a dyn Fn(&mut Session, Look<'_>) -> Result<(), PgError>;

/// When somebody looks.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// Everybody reads and writes. The session is in a transaction that has made and filled the new schemas already, so that
    /// another one has to look.
    Free,
    /// The former tables are held by this session, and called so.
    Held(&'a [SchemaNames]),
}

impl SchemaSwap<'_> {
    fn is_meant(&self, schema: &str) -> bool {
        self.names.iter().any(|names| names.live == schema)
    }

    /// Whether a definition is in one of the schemas, or says something about one.
    fn takes(&self, entry: &SchemaEntry) -> bool {
        let about = entry
            .tag
            .strip_prefix("SCHEMA ")
            .is_some_and(|schema| self.names.iter().any(|names| plain(&names.live) == schema));
        self.is_meant(&entry.schema) || (entry.schema.is_empty() && about)
    }

    /// Tables of these schemas, by the names of the manifest.
    fn tables(&self) -> impl Iterator<Item = (&String, &lifeboat_model::postgres::PgTableFacts)> {
        let heads: Vec<String> = self.names.iter().map(|names| format!("{}.", plain(&names.live))).collect();
        // What an extension keeps moves with it.
        let meant = move |title: &String| heads.iter().any(|head| title.starts_with(head.as_str()));
        self.facts.tables.iter().filter(move |(title, table)| meant(title) && table.condition.is_none())
    }
}

/// What a swap of schemas did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemasSwapped {
    /// Rows that were filled in.
    pub rows: u64,
    /// For how long tables were held that clients use.
    pub held_for: Duration,
    /// Types that were moved, so that prepared statements go on.
    pub types_moved: u64,
    /// Things elsewhere that point to the new tables now.
    pub pointed: u64,
    /// What could not be given back, one sentence each.
    pub notes: Vec<String>,
}

/// How far a swap of schemas has come: it is one transaction, so that there is nothing between.
///
/// # Errors
/// As [`Session::run`].
pub fn schemas_state(session: &mut Session, names: &[SchemaNames]) -> Result<SwapState, PgError> {
    let rows = session.ask("SELECT nspname FROM pg_catalog.pg_namespace")?;
    let there: BTreeSet<&str> = rows.iter().map(|row| row.text(0)).collect();
    let has = |name: &str| there.contains(name);
    // Where nothing was in its place, the schema itself tells.
    let done = |names: &SchemaNames| match &names.kept {
        Some(kept) => has(kept) && has(&names.live),
        None => has(&names.live),
    };
    let not_yet = |names: &SchemaNames| match &names.kept {
        Some(kept) => !has(kept) && has(&names.live),
        None => !has(&names.live),
    };
    Ok(match (names.iter().all(done), names.iter().all(not_yet)) {
        (true, false) => SwapState::Done,
        (false, true) => SwapState::NotYet,
        (true, true) | (false, false) => SwapState::Unknown,
    })
}

/// A schema that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchemaHere {
    /// Whether it is ours to rename.
    pub ours: bool,
    /// Its number.
    pub number: u32,
}

/// Says of a name which schema has it.
pub fn schema_told(name: &str, here: Option<&SchemaHere>) -> String {
    here.map_or_else(|| format!("{name} not there"), |here| format!("{name} {}", here.number))
}

/// The name of a schema or table as the manifest writes it: in quotes where SQL needs them.
pub fn plain_name(name: &str) -> String {
    plain(name)
}

/// The schemas of a person's in this database.
///
/// # Errors
/// As [`Session::run`].
pub fn schemas_here(session: &mut Session) -> Result<BTreeMap<String, SchemaHere>, PgError> {
    let rows = session.ask(&format!(
        "SELECT n.nspname, pg_catalog.pg_has_role(n.nspowner, 'USAGE'), n.oid FROM pg_catalog.pg_namespace n WHERE {}",
        super::catalog::schema_condition(&super::Selection::default())
    ))?;
    let here = |row: &super::Row| SchemaHere { ours: row.is_true(1), number: row.text(2).parse().unwrap_or_default() };
    Ok(rows.iter().map(|row| (row.text(0).to_owned(), here(row))).collect())
}

/// Which schemas have these names, as text that changes when another takes its place.
///
/// # Errors
/// As [`Session::run`].
pub fn schema_numbers(session: &mut Session, names: &[String]) -> Result<String, PgError> {
    let rows = session.ask("SELECT nspname, oid FROM pg_catalog.pg_namespace")?;
    let number = |name: &String| {
        let found = rows.iter().find(|row| row.text(0) == name);
        let here = found.map(|row| SchemaHere { ours: false, number: row.text(1).parse().unwrap_or_default() });
        schema_told(name, here.as_ref())
    };
    Ok(names.iter().map(number).collect::<Vec<_>>().join(", "))
}

/// Schemas that hold an extension, or what stands in for the platform's, and are not among these.
///
/// # Errors
/// As [`Session::run`].
pub fn extension_schemas(session: &mut Session, but: &[String]) -> Result<Vec<String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT n.nspname FROM pg_catalog.pg_namespace n
          WHERE n.nspname <> 'pg_catalog' AND n.nspname NOT IN ({})
            AND (EXISTS (SELECT 1 FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid)
                 OR pg_catalog.obj_description(n.oid, 'pg_namespace') = {}) ORDER BY 1",
        literals(but.iter().map(String::as_str).chain([""])),
        literal(STANDS_IN)
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Waits until no swap of schemas is under way: one whose process has died may still be at work at the server.
///
/// # Errors
/// [`PgError::Refused`] when it takes longer than a minute.
pub fn schemas_settled(session: &mut Session) -> Result<(), PgError> {
    session.transaction("BEGIN", |session| session.run(&format!("SET LOCAL lock_timeout = '60s'; {ONE_AT_A_TIME}")))
}

fn refused<T>(found: String, hint: &str) -> Result<T, PgError> {
    Err(PgError::Preflight { found, hint: hint.into() })
}

/// Refuses a swap that would fail at its end: things that point into a schema and cannot be pointed elsewhere, schemas
/// that are not ours, prepared transactions, extensions that cannot move. What can be made again is made again on trial,
/// and rolled back: rights show in no other way on a platform with rules of its own.
///
/// # Errors
/// [`PgError::Preflight`] with what is in the way.
pub fn schemas_preflight(session: &mut Session, what: &SchemaSwap<'_>) -> Result<(), PgError> {
    if schemas_state(session, what.names)? != SwapState::NotYet {
        let all: Vec<&str> = what.names.iter().map(|names| names.live.as_str()).collect();
        let found = format!("the schemas {} are not as they were when this was planned", all.join(", "));
        return refused(found, "look at them with \\dn in psql; a swap may have been made or undone by hand");
    }
    refuse_what_is_not_ours(session, what)?;
    let missing = globals::missing_roles(session, &roles_of(what))?;
    if !missing.is_empty() {
        let found = format!("roles are missing: {}", missing.join(", "));
        return refused(found, "create them: globals.sql of the backup has the statements");
    }
    let live: Vec<&str> = live_names(what.names);
    let prepared = session.ask(&format!(
        "SELECT DISTINCT l.relation::pg_catalog.regclass FROM pg_catalog.pg_locks l
           JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE l.pid IS NULL AND l.locktype = 'relation' AND n.nspname IN ({})
            AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
        literals(live.iter().copied())
    ))?;
    if let Some(row) = prepared.first() {
        let found = format!("a prepared transaction holds {}", row.text(0));
        return refused(found, "COMMIT PREPARED or ROLLBACK PREPARED it: see pg_prepared_xacts");
    }
    let around = Around::look(session, &live, &types::names_in(what))?;
    session.run("BEGIN")?;
    let tried = session.run(&settings(what.lock_wait_ms)).and_then(|()| around.point_again(session, false).map(drop));
    session.run("ROLLBACK")?;
    tried
}

fn settings(lock_wait_ms: u32) -> String {
    format!("SET LOCAL lock_timeout = {lock_wait_ms}; SET LOCAL check_function_bodies = off")
}

/// Roles that the definitions of these schemas give things to.
fn roles_of(what: &SchemaSwap<'_>) -> Vec<String> {
    let owns = |entry: &&SchemaEntry| what.takes(entry) && entry.kind != "DEFAULT ACL";
    let mut roles: Vec<String> = what.entries.iter().filter(owns).map(|entry| entry.owner.clone()).collect();
    roles.retain(|role| !role.is_empty() && role != "pg_database_owner");
    roles.sort();
    roles.dedup();
    roles
}

fn refuse_what_is_not_ours(session: &mut Session, what: &SchemaSwap<'_>) -> Result<(), PgError> {
    let ours = server::privileges(session)?;
    let others = session.ask(&format!(
        "SELECT nspname, pg_catalog.pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace
          WHERE nspname IN ({}) AND NOT pg_catalog.pg_has_role(nspowner, 'USAGE')",
        literals(live_names(what.names))
    ))?;
    if let Some(row) = others.first() {
        let found =
            format!("the schema {} belongs to {}, and {} may not rename it", row.text(0), row.text(1), ours.name);
        return refused(found, "connect as its owner");
    }
    let may = session.value("SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')")?;
    if may != "t" {
        return refused(
            format!("{} may not make schemas in this database", ours.name),
            "GRANT CREATE ON DATABASE ... to it",
        );
    }
    let stuck = session.ask(&format!(
        "SELECT e.extname, n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
          WHERE n.nspname IN ({}) AND (NOT e.extrelocatable OR NOT pg_catalog.pg_has_role(e.extowner, 'USAGE'))",
        literals(live_names(what.names))
    ))?;
    if let Some(row) = stuck.first() {
        let found = format!("the extension {} in schema {} cannot be moved by {}", row.text(0), row.text(1), ours.name);
        return refused(
            found,
            "restore by a rename instead: swap = \"rename\" in lifeboat.toml, or into another database with --into",
        );
    }
    if !ours.superuser {
        for owner in roles_of(what) {
            let sql = format!("SELECT pg_catalog.pg_has_role({}, 'MEMBER')", literal(&owner));
            // A role that is missing is told by its own check.
            if session.value(&sql).is_ok_and(|may| may != "t") {
                let found = format!(
                    "the backup has things in these schemas that belong to {owner}, and {} may not give them to it",
                    ours.name
                );
                return refused(found, "connect as a member of that role");
            }
        }
    }
    Ok(())
}

fn live_names(names: &[SchemaNames]) -> Vec<&str> {
    names.iter().map(|names| names.live.as_str()).collect()
}

fn kept_names(names: &[SchemaNames]) -> Vec<&str> {
    names.iter().filter_map(|names| names.kept.as_deref()).collect()
}

/// Puts schemas as they were captured in the place of the present ones. Nothing is changed until the commit, which is
/// the one moment at which all of it happens. Repeated after it was done, it does nothing.
///
/// # Errors
/// [`PgError`]; the old schemas are in place then. A connection that is lost while committing tells nothing: look at
/// [`schemas_state`].
pub fn swap_schemas(
    session: &mut Session,
    what: &SchemaSwap<'_>,
    sources: &dyn Sources,
    stop: &Stop,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<SchemasSwapped, PgError> {
    if schemas_state(session, what.names)? == SwapState::Done {
        return Ok(SchemasSwapped::default());
    }
    let memory_mb = build_mb_max(session)?;
    session.run(&format!("SET maintenance_work_mem = '{memory_mb}MB'; SET xmloption = content"))?;
    session.transaction("BEGIN", |session| {
        session.run(&settings(what.lock_wait_ms))?;
        session.run(ONE_AT_A_TIME)?;
        let mut done = SchemasSwapped::default();
        let around = Around::look(session, &live_names(what.names), &types::names_in(what))?;
        let moved = fill::make_and_fill(session, what, sources, &mut done, progress)?;
        fill::compare(session, what, &mut done)?;
        // Compared as it was captured; what a person has closed stays closed.
        if what.quiet {
            done.notes.extend(quarantine::quarantine_schemas(session, &live_names(what.names))?);
        }
        fence::close_what_came(session)?;
        done.types_moved = moved.types as u64;
        stop.check()?;
        look(session, what.leaving, Look::Free)?;
        let begun = what.clock.elapsed();
        let kept = kept_names(what.names);
        let mut notes = Vec::new();
        attempts(session, what.clock, (&kept, what.lock_wait_ms), stop, |session| {
            // Before anything elsewhere is held: to look may take a while.
            if what.leaving.is_some() {
                hold(session, &kept)?;
                look(session, what.leaving, Look::Held(what.names))?;
            }
            fill::late(session, what, &moved.publications)?;
            notes = around.point_again(session, true)?;
            fill::compare_constraints(session, what)?;
            depends::refuse_any(session, &kept)?;
            hold(session, &kept)?;
            what.names.iter().try_for_each(|names| match &names.kept {
                Some(kept) => advance_sequences(session, kept, &names.live),
                None => Ok(()),
            })
        })?;
        done.notes.extend(notes);
        done.pointed = around.count();
        stop.check()?;
        done.held_for = what.clock.elapsed() - begun;
        Ok(done)
    })
}

fn look(session: &mut Session, leaving: Option<Leaving<'_>>, when: Look<'_>) -> Result<(), PgError> {
    leaving.map_or(Ok(()), |leaving| leaving(session, when))
}

/// Tries the last part, in which others can be in the way, again and again; in between nothing of it holds.
fn attempts(
    session: &mut Session,
    clock: &dyn Clock,
    (schemas, lock_wait_ms): (&[&str], u32),
    stop: &Stop,
    mut work: impl FnMut(&mut Session) -> Result<(), PgError>,
) -> Result<(), PgError> {
    let attempts_max = (3 * lock_wait_ms / (LATE_LOCK_WAIT_MS + LATE_PAUSE_MS)).max(1);
    for attempt in 1.. {
        session.run(&format!("SAVEPOINT lifeboat_late; SET LOCAL lock_timeout = {LATE_LOCK_WAIT_MS}"))?;
        match work(session) {
            Err(error) if matches!(error.code(), Some("55P03" | "40P01")) => {
                session.run("ROLLBACK TO SAVEPOINT lifeboat_late")?;
                if attempt >= attempts_max {
                    return Err(in_the_way(session, schemas, error));
                }
                clock.sleep(Duration::from_millis(LATE_PAUSE_MS.into()), stop).map_err(PgError::Stopped)?;
            }
            other => return other,
        }
    }
    Ok(())
}

/// Says who holds what a swap waits for.
fn in_the_way(session: &mut Session, schemas: &[&str], error: PgError) -> PgError {
    let holders = session.ask(&format!(
        "SELECT DISTINCT pg_catalog.format('process %s of %s (%s) holds %s', a.pid, a.usename,
                    COALESCE(NULLIF(a.application_name, ''), 'no name'), c.relname)
           FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
           JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid() AND n.nspname IN ({}) AND c.relkind IN ('r', 'p')
            AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
          ORDER BY 1 LIMIT 5",
        literals(schemas.iter().copied())
    ));
    let who: Vec<String> = holders.unwrap_or_default().iter().map(|row| row.text(0).to_owned()).collect();
    if who.is_empty() {
        return error;
    }
    PgError::Preflight {
        found: format!("tables are held by others for too long, and nothing was changed: {}", who.join("; ")),
        hint: "end those transactions (SELECT pg_terminate_backend(PROCESS)), then run it again".into(),
    }
}

/// Takes every table of schemas for ourselves: no row can come into them any more.
fn hold(session: &mut Session, schemas: &[&str]) -> Result<(), PgError> {
    let tables = session.ask(&format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname IN ({}) ORDER BY 1",
        literals(schemas.iter().copied())
    ))?;
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = tables.iter().map(|row| row.text(0)).collect();
    session.run(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.join(", ")))
}

/// Sets the sequences of a schema to where those of another have come, where that is further: numbers that were given
/// out are not given out again.
fn advance_sequences(session: &mut Session, from: &str, to: &str) -> Result<(), PgError> {
    let both = session.ask(&format!(
        "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_class o ON o.relname = c.relname AND o.relkind = 'S'
           JOIN pg_catalog.pg_namespace m ON m.oid = o.relnamespace
           JOIN pg_catalog.pg_sequence s ON s.seqrelid = o.oid
          WHERE c.relkind = 'S' AND n.nspname = {} AND m.nspname = {} AND s.seqincrement > 0 ORDER BY 1",
        literal(from),
        literal(to)
    ))?;
    const AT_ONCE: usize = 200;
    let one = |row: &super::Row| {
        let (from, to) =
            (format!("{}.{}", quoted(from), quoted(row.text(0))), format!("{}.{}", quoted(to), quoted(row.text(0))));
        format!(
            "SELECT pg_catalog.setval({}, a.last_value) FROM {from} a, {to} b
              WHERE a.is_called AND (a.last_value > b.last_value OR (a.last_value = b.last_value AND NOT b.is_called))",
            literal(&to)
        )
    };
    both.chunks(AT_ONCE).try_for_each(|some| session.run(&some.iter().map(one).collect::<Vec<_>>().join("; ")))
}
