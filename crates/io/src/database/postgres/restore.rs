//! A database from its parts: definitions, rows, and what is built on rows, on several connections.
//!
//! ```text
//!   definitions before the rows     one after the other
//!   rows, indexes, keys, triggers,
//!   and the planner's statistics    one graph of jobs (schedule.rs), longest way first
//!   grants, materialized views      when all of that is there
//!   event triggers                  last
//! ```
//!
//! The first error ends all of it, running statements included. Rows are digested as they pass; a table whose digest is
//! not the manifest's is an error.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::atomic::AtomicU64,
    time::Duration,
};

use lifeboat_model::PostgresFacts;

use super::{
    Address, PgError, Session,
    archive::{SchemaEntry, Section},
    catalog,
    clients::PLATFORM_SCHEMAS,
    globals,
    schedule::{is_grant, is_last, jobs},
    sql::{literal, literals},
    workers::{build_mb_max, run_jobs},
};
use crate::{clock::Clock, stop::Stop};

/// How a restore works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Connections at the same time.
    pub connections: usize,
    /// Whether things get their owners and grants back; else all belongs to us, without grants.
    pub owners_and_grants: bool,
    /// Whether the planner's statistics are made.
    pub analyze: bool,
    /// Whether functions of the platform that triggers call, and that the backup does not have, are stood in for by ones that do
    /// nothing: only in a copy that nobody works with.
    pub stand_ins: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions { connections: 2, owners_and_grants: true, analyze: true, stand_ins: false }
    }
}

/// Where the rows come from: any number of streams at the same time.
pub trait Sources: Sync {
    /// Opens the file that the manifest names.
    ///
    /// # Errors
    /// What lies beneath; it ends the restore.
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>>;
}

/// What a restore works with.
pub struct Restore<'a> {
    /// The database to fill; it exists, and is empty.
    pub address: &'a Address,
    /// What was captured.
    pub facts: &'a PostgresFacts,
    /// Its definitions.
    pub entries: &'a [SchemaEntry],
    /// Measures the phases.
    pub clock: &'a dyn Clock,
    /// How.
    pub options: &'a RestoreOptions,
}

/// A finished restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Rows written; each table's digest was the manifest's.
    pub rows: u64,
    /// How long each phase took, in order.
    pub phases: Vec<(String, Duration)>,
    /// What could not be given back and does not matter for the data, one sentence each.
    pub notes: Vec<String>,
}

/// Fills an empty database. Progress is told in a measure of work whose total is known.
///
/// # Errors
/// [`PgError::Preflight`] when roles or extensions are missing, or it is not empty; else the first error. What was
/// written until then stays: the caller drops the database.
pub fn restore(
    what: &Restore<'_>,
    sources: &dyn Sources,
    stop: &Stop,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<Restored, PgError> {
    let mut restored = Restored::default();
    let mut session = open_writer(what.address, stop)?;
    preflight(&mut session, what)?;
    let superuser = session.value("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")? == "t";
    let mut phase = Phases { clock: what.clock, begun: what.clock.elapsed(), into: &mut restored.phases };

    // Every new database has a schema `public`; where it was asked for by name, `pg_dump` makes it once more.
    let is_there = |entry: &SchemaEntry| entry.kind == "SCHEMA" && entry.tag == "public";
    let first = |entry: &&SchemaEntry| entry.section == Section::PreData && !is_grant(entry) && !is_there(entry);
    let first: Vec<&SchemaEntry> = what.entries.iter().filter(first).collect();
    definitions(&mut session, &first, what, &mut restored.notes)?;
    stand_in(&mut session, what, &mut restored.notes)?;
    // Nothing is kept from a superuser, so that grants may come early, and nothing has to wait for them.
    if superuser {
        grants(&mut session, what)?;
    }
    phase.ends("definitions");

    let rows = AtomicU64::new(0);
    let graph = jobs(what.entries, what.facts, what.options.connections, what.options.analyze);
    run_jobs(graph, what, sources, &rows, stop, progress)?;
    phase.ends("rows, indexes, constraints and statistics");

    match (superuser, what.options.owners_and_grants) {
        (true, _) => {}
        (false, true) => grants(&mut session, what)?,
        (false, false) => restored.notes.extend(grant_what_we_may(&mut session, what)?),
    }
    for entry in what.entries.iter().filter(|entry| is_last(entry) && entry.kind == "MATERIALIZED VIEW DATA") {
        make(&mut session, entry, what)?;
    }
    phase.ends("grants and materialized views");

    for entry in what.entries.iter().filter(|entry| is_last(entry) && entry.kind != "MATERIALIZED VIEW DATA") {
        make(&mut session, entry, what)?;
    }
    restored.rows = rows.into_inner();
    Ok(restored)
}

struct Phases<'a> {
    clock: &'a dyn Clock,
    begun: Duration,
    into: &'a mut Vec<(String, Duration)>,
}

impl Phases<'_> {
    fn ends(&mut self, name: &str) {
        let now = self.clock.elapsed();
        self.into.push((name.to_owned(), now - self.begun));
        self.begun = now;
    }
}

/// A session for writing much at once. A crash of the server loses the whole copy in any case, so that no commit waits
/// for the disk.
pub(super) fn open_writer(address: &Address, stop: &Stop) -> Result<Session, PgError> {
    let mut session = Session::open(address, stop)?;
    let memory_mb = build_mb_max(&mut session)?;
    session.run(&format!(
        "SET synchronous_commit = off; SET maintenance_work_mem = '{memory_mb}MB'; SET check_function_bodies = off; \
         SET xmloption = content; SET lock_timeout = 0"
    ))?;
    Ok(session)
}

/// What would end the restore in the middle is told before it begins.
fn preflight(session: &mut Session, what: &Restore<'_>) -> Result<(), PgError> {
    let refused = |found: String, hint: &str| Err(PgError::Preflight { found, hint: hint.into() });
    let target = super::server::look_at(session)?;
    if !target.is_empty {
        return refused(
            format!("{} is not empty", target.place),
            "restore into a new database and swap it in, or name an empty one",
        );
    }
    if target.version / 10_000 < what.facts.server_version / 10_000 {
        let found = format!(
            "the backup is of PostgreSQL {}, and {} is of {}",
            what.facts.server_version / 10_000,
            target.place,
            target.version / 10_000
        );
        return refused(found, "restore to a server that is not older than the backup");
    }
    let missing =
        if what.options.owners_and_grants { globals::missing_roles(session, &what.facts.roles)? } else { vec![] };
    if !missing.is_empty() {
        let names = missing.join(", ");
        return refused(
            format!("roles are missing on {}: {names}", target.place),
            "create them: globals.sql of the backup has the statements; or restore without owners and grants",
        );
    }
    let wanted = literals(what.facts.extensions.keys().map(String::as_str));
    let there =
        session.ask(&format!("SELECT name FROM pg_catalog.pg_available_extensions WHERE name IN ({wanted})"))?;
    let lacking: Vec<&str> = what
        .facts
        .extensions
        .keys()
        .map(String::as_str)
        .filter(|name| !there.iter().any(|row| row.text(0) == *name))
        .collect();
    if !lacking.is_empty() {
        let found = format!("extensions are missing on {}: {}", target.place, lacking.join(", "));
        return refused(found, "install their packages on the database server, or ask the provider to enable them");
    }
    if !what.facts.schemas.is_empty() && !what.facts.schemas.iter().any(|name| name == "public") {
        session.run("DROP SCHEMA IF EXISTS public")?;
    }
    Ok(())
}

/// Makes definitions in their order, many in one transaction: committing each costs the server as much as making it.
fn definitions(
    session: &mut Session,
    entries: &[&SchemaEntry],
    what: &Restore<'_>,
    notes: &mut Vec<String>,
) -> Result<(), PgError> {
    /// Each new table holds some of the server's locks until the commit.
    const AT_ONCE: usize = 100;
    // What may be refused without ending it all stands alone.
    for some in entries.chunk_by(|one, next| !may_stay(one) && !may_stay(next)) {
        match some {
            [one] if may_stay(one) => notes.extend(comment(session, one, what)?),
            _ => some.chunks(AT_ONCE).try_for_each(|some| {
                session.transaction("BEGIN", |session| some.iter().try_for_each(|entry| make(session, entry, what)))
            })?,
        }
    }
    Ok(())
}

fn may_stay(entry: &SchemaEntry) -> bool {
    entry.kind == "COMMENT" && entry.tag.starts_with("EXTENSION ")
}

/// A comment on an extension that is not ours is worth a note, no more.
fn comment(session: &mut Session, entry: &SchemaEntry, what: &Restore<'_>) -> Result<Option<String>, PgError> {
    match make(session, entry, what) {
        Ok(()) => Ok(None),
        Err(error) if error.code() == Some("42501") => {
            Ok(Some(format!("{} keeps the comment it has: {error}", entry.tag)))
        }
        Err(error) => Err(error),
    }
}

/// The comment of a schema that is in a copy only for what stands in for the platform's: nobody compares it.
pub(super) const STANDS_IN: &str = "lifeboat: stands in for the platform's";

/// Supabase's webhooks are triggers that call a function of the platform, which is in no backup and in no new database. A copy gets
/// one of that name that does nothing, so that it has the triggers; what is to be worked with is refused.
fn stand_in(session: &mut Session, what: &Restore<'_>, notes: &mut Vec<String>) -> Result<(), PgError> {
    let called: BTreeMap<&str, &str> = what
        .entries
        .iter()
        .filter(|entry| entry.kind == "TRIGGER")
        .filter_map(|entry| Some((platform_function(&entry.sql)?, entry.tag.as_str())))
        .collect();
    for (function, trigger) in called {
        let ask = format!("SELECT pg_catalog.to_regproc({}) IS NOT NULL", literal(function));
        if session.value(&ask)? == "t" {
            continue;
        }
        if !what.options.stand_ins {
            return Err(PgError::Preflight {
                found: format!(
                    "the trigger {trigger} calls {function}, which is the platform's, and {} does not have it",
                    what.address
                ),
                hint: "exchange schemas instead, in the settings: swap = \"schema\"; or make that function there first"
                    .into(),
            });
        }
        let schema = function.split('.').next().unwrap_or_default();
        session.run(&format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; COMMENT ON SCHEMA {schema} IS {}; CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SET search_path = ''
                AS $lifeboat$ BEGIN RETURN COALESCE(NEW, OLD); END $lifeboat$",
            literal(STANDS_IN)
        ))?;
        notes.push(format!(
            "{function} is the platform's, and in no backup: in this copy a function that does nothing has its name."
        ));
    }
    Ok(())
}

/// The function in a schema of the platform that a trigger calls.
fn platform_function(trigger: &str) -> Option<&str> {
    let (_, call) = trigger.rsplit_once(" EXECUTE FUNCTION ")?;
    let function = call.split('(').next()?;
    let is_in = |schema: &str| function.strip_prefix(schema).is_some_and(|rest| rest.starts_with('.'));
    PLATFORM_SCHEMAS.into_iter().any(is_in).then_some(function)
}

/// The schema that an extension is to be made in: where it is the platform's, no definition makes it.
fn schema_of_extension(entry: &SchemaEntry) -> Option<&str> {
    if entry.kind != "EXTENSION" {
        return None;
    }
    entry.sql.trim_end().strip_suffix(';')?.rsplit_once(" WITH SCHEMA ").map(|(_, schema)| schema)
}

/// Makes one definition, and gives it to its owner.
pub(super) fn make(session: &mut Session, entry: &SchemaEntry, what: &Restore<'_>) -> Result<(), PgError> {
    make_as(session, entry, what.options.owners_and_grants)
}

/// The same, with or without its owner.
pub(super) fn make_as(session: &mut Session, entry: &SchemaEntry, owner: bool) -> Result<(), PgError> {
    let mut sql = format!("SET default_tablespace = {}; ", literal(&entry.tablespace));
    if !entry.access_method.is_empty() {
        sql += &format!("SET default_table_access_method = {}; ", literal(&entry.access_method));
    }
    if let Some(schema) = schema_of_extension(entry).filter(|schema| *schema != "pg_catalog") {
        sql += &format!("CREATE SCHEMA IF NOT EXISTS {schema}; ");
    }
    sql += &entry.sql;
    // Materialized views' rows, and nothing else, are made in place: their owner is known already.
    if owner {
        sql += &entry.owner_sql;
    }
    session.run(&sql).map_err(|error| about(error, &format!("make {} {}", entry.kind, entry.tag)))
}

/// Says of a refusal what it was about, instead of a statement's first line.
pub(super) fn about(error: PgError, what: &str) -> PgError {
    match error {
        PgError::Refused { said, .. } => PgError::Refused { doing: what.to_owned(), said },
        other => other,
    }
}

fn grants(session: &mut Session, what: &Restore<'_>) -> Result<(), PgError> {
    if !what.options.owners_and_grants {
        return Ok(());
    }
    for schema in &what.facts.schemas {
        catalog::lines_of(&what.facts.public_schema, schema).try_for_each(|line| session.run(line))?;
    }
    what.entries.iter().filter(|entry| is_grant(entry)).try_for_each(|entry| make(session, entry, what))
}

/// Where all belongs to us, grants can still be given: what roles see can be asked then. What we may not give is told.
fn grant_what_we_may(session: &mut Session, what: &Restore<'_>) -> Result<Vec<String>, PgError> {
    let lines = what
        .facts
        .schemas
        .iter()
        .flat_map(|schema| catalog::lines_of(&what.facts.public_schema, schema))
        .filter(|line| !line.starts_with("ALTER SCHEMA"));
    let grants = what.entries.iter().filter(|entry| entry.kind == "ACL").map(|entry| entry.sql.as_str());
    let mut left = 0;
    for sql in lines.chain(grants) {
        match session.run(sql) {
            Ok(()) => {}
            // Not ours to give, or a role that is not here.
            Err(error) if matches!(error.code(), Some("42501" | "42704" | "0LP01" | "2BP01")) => left += 1,
            Err(error) => return Err(error),
        }
    }
    Ok((left > 0).then(|| format!("{left} grants could not be given by this role.")).into_iter().collect())
}
