//! A consistent copy of a database while others write to it.
//!
//! ```text
//!   pg_dump   definitions
//!   leader    locks every table (ACCESS SHARE), then takes a snapshot, sees that the definitions in it are those that
//!             pg_dump read, and exports it; nothing can be truncated, rewritten or dropped from here on
//!   workers   rows, by COPY, under the snapshot; the largest table first, each row digested as it passes; not those of
//!             tables that nobody has written to since an earlier capture (`untouched.rs`)
//!   leader    sequences, roles and all else that is small
//! ```
//!
//! `pg_dump` does not run under the snapshot: it would lock the tables a second time, and behind somebody who waits for
//! the leader's locks that is for ever.
//!
//! A table that was truncated or rewritten between snapshot and lock gives no rows, and no error. So the locks come
//! first: `LOCK TABLE` takes no snapshot. What was changed while we locked is seen afterwards, in two ways: the list of
//! tables under the snapshot must be the list that was locked, and the file of each relation must be the one that the
//! snapshot knows. Else all is released and done again.

use std::{collections::BTreeMap, io, path::Path};

use lifeboat_model::postgres::{LargeObjectFacts, PostgresFacts};

use super::{
    Address, Clients, PgError, Selection, Session,
    archive::{self, SchemaEntry, Section},
    catalog::{self, Table},
    clients,
    fence::FENCE_TRIGGER,
    fingerprint, globals, large_objects, migrations, roles,
    rows::{Done, Reading, Sink, Sinks, add_part, plan_jobs, read_rows, table_facts},
    schema_swap::kept_schemas,
    server, tablespaces,
    untouched::{identities, untouched},
    watch::WATCH_TRIGGER,
};
use crate::{clock::Clock, exec::Exec, files, stop::Stop};

/// How a capture works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Connections that read rows at the same time, besides the leader's.
    pub connections: usize,
    /// Which schemas.
    pub selection: Selection,
    /// How often to begin again when tables changed while they were being locked.
    pub attempts_max: u32,
    /// How long to wait for a table that somebody is changing, in milliseconds.
    pub lock_wait_ms_max: u64,
    /// Roles that are asked what they can see; those that policies and grants name when none is said.
    pub roles: Vec<String>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        let (selection, roles) = (Selection::default(), Vec::new());
        CaptureOptions { connections: 2, selection, attempts_max: 5, lock_wait_ms_max: 10_000, roles }
    }
}

/// A finished capture.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// What was captured.
    pub facts: PostgresFacts,
    /// All definitions, cut into statements; what a restore works from.
    pub entries: Vec<SchemaEntry>,
    /// The definitions before the rows, as SQL.
    pub pre_data: String,
    /// The definitions after the rows, as SQL.
    pub post_data: String,
    /// Roles, as SQL.
    pub globals: String,
    /// How often tables changed while they were being locked, so that it began again.
    pub restarts: u32,
}

/// What a capture works with.
pub struct Capture<'a> {
    /// Where the database is.
    pub address: &'a Address,
    /// The programs for the definitions.
    pub clients: &'a Clients,
    /// Runs them.
    pub exec: &'a dyn Exec,
    /// What time it is.
    pub clock: &'a dyn Clock,
    /// An empty folder for them, private; the caller removes it.
    pub folder: &'a Path,
    /// How.
    pub options: &'a CaptureOptions,
    /// An earlier capture, whose files `sinks` can count again: tables that nobody has written to since are not read.
    pub earlier: Option<&'a PostgresFacts>,
}

/// Captures a database. Rows go to `sinks` under `data/` and `largeobjects/`; all else is given back. Progress is told
/// in bytes on the server's disk.
///
/// # Errors
/// [`PgError`]. Nothing is left behind at the server; streams that were not finished must be thrown away.
pub fn capture(
    what: &Capture<'_>,
    sinks: &dyn Sinks,
    stop: &Stop,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<Captured, PgError> {
    let (mut leader, mut held, definitions, restarts) = define_and_hold(what, stop)?;
    held.facts.client_version = what.clients.version.clone();
    let written = held.written.clone();
    let mut facts = read_held(&mut leader, held, what.address, what.options, (sinks, what.earlier), stop, progress)?;
    for schema in &facts.schemas {
        facts.by_schema.insert(schema.clone(), fingerprint::of_schema(&mut leader, schema, &|_| true)?);
    }
    facts.seen = seen(&mut leader, what.options, &facts)?;
    let globals = globals::globals_sql(&mut leader)?;
    facts.horizon.on_disk = is_on_disk(&mut leader, written.as_deref())?;
    leader.run("COMMIT")?;
    let Definitions { entries, pre_data, post_data } = definitions;
    Ok(Captured { facts, entries, pre_data, post_data, globals, restarts })
}

/// What is in a database now, without keeping any of it: rows are counted and digested, definitions fingerprinted.
/// No program takes part.
///
/// # Errors
/// As [`capture`].
pub fn inspect(
    address: &Address,
    options: &CaptureOptions,
    clock: &dyn Clock,
    stop: &Stop,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<PostgresFacts, PgError> {
    server::refuse_pooler(address, stop)?;
    let (mut leader, held, _) = hold_all(address, options, clock, stop)?;
    let facts = read_held(&mut leader, held, address, options, (&Nowhere, None), stop, progress)?;
    leader.run("COMMIT")?;
    Ok(facts)
}

/// Takes rows and keeps none.
pub(super) struct Nowhere;

impl Sinks for Nowhere {
    fn begin(&self, _: &str) -> io::Result<Box<dyn Sink + '_>> {
        Ok(Box::new(Nowhere))
    }
}

impl io::Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Nowhere {
    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// Definitions, as statements and as two files of SQL.
struct Definitions {
    entries: Vec<SchemaEntry>,
    pre_data: String,
    post_data: String,
}

/// Reads the definitions, then holds everything, until the snapshot's definitions are those that were read.
fn define_and_hold(what: &Capture<'_>, stop: &Stop) -> Result<(Session, Held, Definitions, u32), PgError> {
    let Capture { address, options, .. } = what;
    server::refuse_pooler(address, stop)?;
    for attempt in 0..options.attempts_max.max(1) {
        let mut session = Session::open(address, stop)?;
        readable_tables(&mut session, &options.selection)?;
        let before = fingerprint::fingerprint(&mut session, &options.selection)?.kinds();
        let definitions = dump_definitions(what, stop)?;
        let (leader, held, restarts) = hold_all(address, options, what.clock, stop)?;
        if held.facts.fingerprint == before {
            return Ok((leader, held, definitions, attempt + restarts));
        }
    }
    Err(PgError::Changed { tables: vec!["the definitions".into()], attempts: options.attempts_max })
}

/// Holds everything, as often as it takes; says how often it began again.
fn hold_all(
    address: &Address,
    options: &CaptureOptions,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<(Session, Held, u32), PgError> {
    let mut changed = Vec::new();
    for attempt in 0..options.attempts_max.max(1) {
        let mut leader = Session::open(address, stop)?;
        match hold(&mut leader, options, clock)? {
            Hold::Held(held) => return Ok((leader, *held, attempt)),
            Hold::Changed(tables) => changed = tables,
        }
    }
    Err(PgError::Changed { tables: changed, attempts: options.attempts_max })
}

/// Everything locked, and a snapshot of it.
struct Held {
    facts: PostgresFacts,
    tables: Vec<Table>,
    snapshot: String,
    /// The place in the log up to which everything is written that the snapshot sees; nothing on a server that follows another.
    written: Option<String>,
}

enum Hold {
    Held(Box<Held>),
    Changed(Vec<String>),
}

/// The tables to lock. What cannot work is refused here, before anything is held.
fn readable_tables(session: &mut Session, selection: &Selection) -> Result<Vec<Table>, PgError> {
    let tables = catalog::tables(session, selection)?;
    let unreadable = catalog::unreadable(session, &tables)?;
    if !unreadable.is_empty() {
        let found = format!("this role may not read {}", unreadable.join(", "));
        let hint =
            "back up as the owner of the tables, or GRANT pg_read_all_data to the role (PostgreSQL 14 and later)";
        return Err(PgError::Preflight { found, hint: hint.into() });
    }
    server::refuse_too_many_locks(session, &tables)?;
    Ok(tables)
}

/// Locks all tables, takes the snapshot, and looks whether it is of the tables that were locked.
fn hold(leader: &mut Session, options: &CaptureOptions, clock: &dyn Clock) -> Result<Hold, PgError> {
    let selection = &options.selection;
    let expected = readable_tables(leader, selection)?;
    let at = clock.now();
    leader.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    leader.run(&format!("SET LOCAL lock_timeout = {}", options.lock_wait_ms_max))?;
    if let Err(error) = lock(leader, &expected) {
        // Dropped meanwhile, with its schema or alone: the list is read again.
        return match error.code() {
            Some("42P01" | "3F000") => Ok(Hold::Changed(vec!["a table that was dropped".into()])),
            _ => Err(error),
        };
    }
    let snapshot = leader.value("SELECT pg_catalog.pg_export_snapshot()")?;
    let written = leader
        .one("SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END")?;
    let mut horizon = catalog::horizon(leader)?;
    horizon.at = Some(at);
    let tables = catalog::tables(leader, selection)?;
    let changed = changed_tables(leader, &expected, &tables)?;
    if !changed.is_empty() {
        return Ok(Hold::Changed(changed));
    }
    let facts = PostgresFacts {
        server_version: leader.version(),
        database: catalog::database_facts(leader)?,
        horizon,
        fingerprint: fingerprint::fingerprint(leader, selection)?.kinds(),
        tablespaces: tablespaces::in_use(leader, selection)?,
        ..PostgresFacts::default()
    };
    Ok(Hold::Held(Box::new(Held { facts, tables, snapshot, written: written.maybe(0) })))
}

/// Whether the log is on the server's disk up to a place.
fn is_on_disk(leader: &mut Session, written: Option<&str>) -> Result<bool, PgError> {
    let Some(written) = written else { return Ok(false) };
    let flushed = leader.value("SELECT pg_catalog.pg_current_wal_flush_lsn()")?;
    Ok(reaches(&flushed, written))
}

/// Whether all that was written up to a place lies before another one. What cannot be read does not.
fn reaches(flushed: &str, written: &str) -> bool {
    /// A page of the log, and the longest head of one: a place behind a head is the page's begin, of which nothing is written.
    const PAGE: u64 = 8192;
    const HEAD: u64 = 40;
    let (Some(flushed), Some(written)) = (place(flushed), place(written)) else { return false };
    flushed >= if written % PAGE <= HEAD { written - written % PAGE } else { written }
}

/// A place in the log as a number: `1/A2000028`.
fn place(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
}

fn lock(leader: &mut Session, tables: &[Table]) -> Result<(), PgError> {
    const AT_ONCE: usize = 500;
    for some in tables.chunks(AT_ONCE) {
        let names: Vec<String> = some.iter().map(|table| format!("ONLY {}", table.title())).collect();
        leader.run(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", ")))?;
    }
    Ok(())
}

/// Tables that came, went or were rewritten between their lock and the snapshot.
fn changed_tables(leader: &mut Session, locked: &[Table], seen: &[Table]) -> Result<Vec<String>, PgError> {
    let listed =
        |list: &[Table], one: &Table| list.iter().any(|table| table.oid == one.oid && table.title() == one.title());
    let came = seen.iter().filter(|table| !listed(locked, table));
    let went = locked.iter().filter(|table| !listed(seen, table));
    let mut changed: Vec<String> = came.chain(went).map(Table::title).collect();
    changed.extend(rewritten(leader)?);
    Ok(changed)
}

/// The detector: relations whose file is another than the snapshot knows. The catalog's number comes from the snapshot,
/// the function's from the present: TRUNCATE, a rewriting ALTER and DROP differ, and nothing else does.
///
/// # Errors
/// As [`Session::run`].
pub fn rewritten(session: &mut Session) -> Result<Vec<String>, PgError> {
    let rows = session.ask(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 't') AND c.relpersistence <> 't' AND c.relfilenode <> 0
            AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_temp_' AND n.nspname !~ '^pg_toast_temp_'
            AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)",
    )?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Reads rows and all else that is asked for, while everything is held.
fn read_held(
    leader: &mut Session,
    held: Held,
    address: &Address,
    options: &CaptureOptions,
    (sinks, earlier): (&dyn Sinks, Option<&PostgresFacts>),
    stop: &Stop,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<PostgresFacts, PgError> {
    let Held { mut facts, tables, snapshot, .. } = held;
    let selection = &options.selection;
    let objects = large_objects::list(leader, selection)?;
    let connections = options.connections;
    let reading = Reading { address, snapshot: &snapshot, connections, tables: &tables, sinks, progress };
    let identities = identities(leader)?;
    let mut again = match earlier {
        Some(earlier) => untouched(leader, &identities, &facts, earlier, &reading, (None, stop))?,
        None => BTreeMap::new(),
    };
    let failed = |source| PgError::Ours { doing: "take over rows of an earlier backup".into(), source };
    for at in again.keys().copied().collect::<Vec<_>>() {
        if !sinks.again(&again[&at].parts).map_err(failed)? {
            again.remove(&at);
        }
    }
    let is_read = |at| !again.contains_key(&at);
    let objects_bytes = objects.as_ref().map(|all| all.bytes);
    let jobs = plan_jobs(&tables, &is_read, leader.major(), connections, objects_bytes);
    let done = read_rows(leader, jobs, &reading, stop)?;

    facts.tables = tables.iter().map(|table| (table.title(), table_facts(table))).collect();
    for table in &tables {
        if let (Some(facts), Some(identity)) = (facts.tables.get_mut(&table.title()), identities.get(&table.oid)) {
            facts.identity.clone_from(&identity.text);
        }
    }
    facts.tables.extend(again.into_iter().map(|(at, facts)| (tables[at].title(), facts)));
    for Done { table, digest, part } in done {
        match table {
            Some(at) => add_part(&mut facts.tables, &tables[at], &digest, part),
            None => {
                let statements = objects.as_ref().map(|all| all.statements.clone()).unwrap_or_default();
                let count = objects.as_ref().map_or(0, |all| all.count);
                facts.large_objects = Some(LargeObjectFacts { objects: count, rows: digest.facts(), part, statements });
            }
        }
    }
    facts.schemas = catalog::schemas(leader, selection)?;
    facts.public_schema = catalog::public_schema(leader)?;
    facts.sequences = catalog::sequences(leader, selection)?;
    facts.migrations = migrations::heads(leader)?;
    facts.roles = catalog::roles_used(leader)?;
    facts.extensions = catalog::extensions(leader)?;
    Ok(facts)
}

/// What each role can see, under the snapshot.
fn seen(leader: &mut Session, options: &CaptureOptions, facts: &PostgresFacts) -> Result<roles::Seen, PgError> {
    let asked = match options.roles.as_slice() {
        [] => roles::named_roles(leader)?,
        said => said.to_vec(),
    };
    roles::seen_by(leader, &asked, &roles::rows_of(facts))
}

fn is_fence(entry: &SchemaEntry) -> bool {
    let ours = |name: &&str| entry.tag.ends_with(&format!(" {name}"));
    entry.kind == "TRIGGER" && [FENCE_TRIGGER, WATCH_TRIGGER].iter().any(ours)
}

/// The definitions: statements, and the two files of SQL.
fn dump_definitions(what: &Capture<'_>, stop: &Stop) -> Result<Definitions, PgError> {
    let ours =
        |doing: &str, error: files::PathError| PgError::Ours { doing: doing.into(), source: io::Error::other(error) };
    let archive_file = what.folder.join("schema.dump");
    // What a restore has kept is left out; `pg_dump` wants it said by name.
    let mut selection = what.options.selection.clone();
    selection.except.extend(kept_schemas(&mut Session::open(what.address, stop)?)?);
    let selection = &selection;
    let dump = clients::dump_schema(what.clients, what.address, None, selection, &archive_file);
    clients::run_client(what.exec, &dump, stop)?;
    let contents = archive::read_archive(&archive_file)?;
    let mut entries = Vec::new();
    let mut section_text = |section: Section, word: &str| -> Result<String, PgError> {
        let file = what.folder.join(format!("{word}.sql"));
        clients::run_client(what.exec, &clients::section_as_sql(what.clients, &archive_file, word, &file), stop)?;
        let text = files::read_text(&file).map_err(|error| ours("read the definitions", error))?;
        let cut = archive::cut_section(&contents, section, &text)?;
        // The triggers of our own fence are on the tables, and not of the database.
        let (fences, own): (Vec<_>, Vec<_>) = cut.into_iter().partition(is_fence);
        entries.extend(own);
        Ok(fences.iter().fold(archive::portable(&text), |text, fence| archive::without(&text, fence)))
    };
    let pre_data = section_text(Section::PreData, "pre-data")?;
    let post_data = section_text(Section::PostData, "post-data")?;
    Ok(Definitions { entries, pre_data, post_data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_reached_when_all_before_it_is_on_disk() {
        for (flushed, written, is_reached) in [
            ("0/1BE2100", "0/1BE2100", true),
            ("0/1BE20FF", "0/1BE2100", false),
            ("1/0", "0/FFFFFFFF", true),
            ("0/FFFFFFFF", "1/2000100", false),
            ("0/1BE2000", "0/1BE2018", true),
            ("0/1BE2000", "0/1BE2028", true),
            ("0/1BE2000", "0/1BE2029", false),
            ("0/1BE1FFF", "0/1BE2018", false),
            ("", "0/1", false),
            ("0/1BE2100", "no place", false),
        ] {
            assert_eq!(reaches(flushed, written), is_reached, "{flushed} {written}");
        }
    }
}
