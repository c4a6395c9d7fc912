//! A database from its parts: definitions, rows, and what is built on rows, on several connections.
//!
//! ```text
//!   definitions before the rows     one after the other
//!   rows, indexes, keys, triggers   one graph of jobs (schedule.rs), longest way first
//!   grants, materialized views      when all of that is there
//!   statistics, event triggers      last
//! ```
//!
//! The first error ends all of it, running statements included. Rows are digested as they pass; a table whose digest is
//! not the manifest's is an error.

use std::{
    io::{self, Read},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use lifeboat_model::{PostgresFacts, postgres::PgTableFacts};

use super::{
    Address, PgError, Session,
    archive::{SchemaEntry, Section},
    catalog::copy_target,
    digest::RowDigest,
    globals, large_objects,
    schedule::{Board, Job, Work, is_grant, is_last, jobs},
    sql::{literal, literals},
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
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions { connections: 2, owners_and_grants: true, analyze: true }
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

    for entry in what.entries.iter().filter(|entry| entry.section == Section::PreData && !is_grant(entry)) {
        notes_of(&mut session, entry, what, &mut restored.notes)?;
    }
    // Nothing is kept from a superuser, so that grants may come early, and nothing has to wait for them.
    if superuser {
        grants(&mut session, what)?;
    }
    phase.ends("definitions");

    let rows = AtomicU64::new(0);
    let pool = |jobs: Vec<Job>| run_jobs(jobs, what, sources, &rows, stop, progress);
    pool(jobs(what.entries, what.facts, what.options.connections))?;
    phase.ends("rows, indexes and constraints");

    if !superuser {
        grants(&mut session, what)?;
    }
    for entry in what.entries.iter().filter(|entry| is_last(entry) && entry.kind == "MATERIALIZED VIEW DATA") {
        make(&mut session, entry, what)?;
    }
    phase.ends("grants and materialized views");

    if what.options.analyze {
        pool(analyze_jobs(what.facts))?;
        phase.ends("statistics");
    }
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
fn open_writer(address: &Address, stop: &Stop) -> Result<Session, PgError> {
    let mut session = Session::open(address, stop)?;
    session.run(
        "SET synchronous_commit = off; SET maintenance_work_mem = '512MB'; SET check_function_bodies = off; \
         SET xmloption = content; SET lock_timeout = 0",
    )?;
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

/// Makes one definition; a comment on an extension that is not ours is worth a note, no more.
fn notes_of(
    session: &mut Session,
    entry: &SchemaEntry,
    what: &Restore<'_>,
    notes: &mut Vec<String>,
) -> Result<(), PgError> {
    match make(session, entry, what) {
        Err(error)
            if entry.kind == "COMMENT" && entry.tag.starts_with("EXTENSION ") && error.code() == Some("42501") =>
        {
            notes.push(format!("{} keeps the comment it has: {error}", entry.tag));
            Ok(())
        }
        other => other,
    }
}

/// Makes one definition, and gives it to its owner.
fn make(session: &mut Session, entry: &SchemaEntry, what: &Restore<'_>) -> Result<(), PgError> {
    let mut sql = format!("SET default_tablespace = {}; ", literal(&entry.tablespace));
    if !entry.access_method.is_empty() {
        sql += &format!("SET default_table_access_method = {}; ", literal(&entry.access_method));
    }
    sql += &entry.sql;
    // Materialized views' rows, and nothing else, are made in place: their owner is known already.
    if what.options.owners_and_grants {
        sql += &entry.owner_sql;
    }
    session.run(&sql).map_err(|error| about(error, &format!("make {} {}", entry.kind, entry.tag)))
}

/// Says of a refusal what it was about, instead of a statement's first line.
fn about(error: PgError, what: &str) -> PgError {
    match error {
        PgError::Refused { said, .. } => PgError::Refused { doing: what.to_owned(), said },
        other => other,
    }
}

fn grants(session: &mut Session, what: &Restore<'_>) -> Result<(), PgError> {
    if !what.options.owners_and_grants {
        return Ok(());
    }
    if what.facts.schemas.iter().any(|name| name == "public") {
        what.facts.public_schema.iter().try_for_each(|line| session.run(line))?;
    }
    what.entries.iter().filter(|entry| is_grant(entry)).try_for_each(|entry| make(session, entry, what))
}

fn analyze_jobs(facts: &PostgresFacts) -> Vec<Job> {
    let job = |(title, table): (&String, &PgTableFacts)| Job {
        work: Work::Analyze(title.clone()),
        needs: vec![],
        locks: vec![],
        cost: table.disk_bytes / 50,
    };
    facts.tables.iter().map(job).collect()
}

/// What the workers share.
struct Pool<'a> {
    board: Mutex<(Board, usize)>,
    changed: Condvar,
    failed: Mutex<Option<PgError>>,
    over: AtomicBool,
    parts: Mutex<std::collections::BTreeMap<String, (usize, RowDigest)>>,
    rows: &'a AtomicU64,
    done: AtomicU64,
    total: u64,
    what: &'a Restore<'a>,
    sources: &'a dyn Sources,
    progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
}

/// Runs a graph of jobs to its end, on as many connections as asked for.
fn run_jobs(
    jobs: Vec<Job>,
    what: &Restore<'_>,
    sources: &dyn Sources,
    rows: &AtomicU64,
    stop: &Stop,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<(), PgError> {
    let workers = what.options.connections.clamp(1, jobs.len().max(1));
    let board = Board::new(jobs);
    let total = board.total();
    let pool = Pool {
        board: Mutex::new((board, 0)),
        changed: Condvar::new(),
        failed: Mutex::default(),
        over: AtomicBool::new(false),
        parts: Mutex::default(),
        rows,
        done: AtomicU64::new(0),
        total,
        what,
        sources,
        progress,
    };
    // The first failure, or the person, ends the statements of all workers.
    let all_stop = Stop::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    if let Err(error) = work(&pool, &all_stop) {
                        locked(&pool.failed).get_or_insert(error);
                        pool.over.store(true, Ordering::SeqCst);
                        all_stop.now();
                    }
                    pool.changed.notify_all();
                })
            })
            .collect();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            if stop.check().is_err() {
                all_stop.now();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    stop.check()?;
    match locked(&pool.failed).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// A worker that panicked has left nothing half in what is shared.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(pool: &Pool<'_>, stop: &Stop) -> Result<(), PgError> {
    let mut session = open_writer(pool.what.address, stop)?;
    while let Some((at, work)) = next(pool)? {
        let ended = retried(&mut session, |session| run_one(pool, session, &work));
        let mut board = locked(&pool.board);
        board.1 -= 1;
        ended?;
        board.0.done(at);
        let done = pool.done.fetch_add(board.0.cost(at), Ordering::Relaxed) + board.0.cost(at);
        drop(board);
        (pool.progress)(done, Some(pool.total));
        pool.changed.notify_all();
    }
    Ok(())
}

/// Waits for a job that can run; none when all are done or somebody failed.
fn next(pool: &Pool<'_>) -> Result<Option<(usize, Work)>, PgError> {
    let mut board = locked(&pool.board);
    loop {
        if board.0.is_done() || pool.over.load(Ordering::SeqCst) {
            return Ok(None);
        }
        if let Some(job) = board.0.take() {
            board.1 += 1;
            return Ok(Some(job));
        }
        if board.0.is_stuck(board.1) {
            let found = "its definitions wait for each other in a circle".into();
            return Err(PgError::Damaged { what: "the list of definitions".into(), found });
        }
        let waited = pool.changed.wait_timeout(board, Duration::from_millis(200));
        board = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Two jobs that wait for each other's locks are a matter of chance; the one that was chosen to end tries again.
fn retried(session: &mut Session, mut run: impl FnMut(&mut Session) -> Result<(), PgError>) -> Result<(), PgError> {
    const ATTEMPTS_MAX: u32 = 5;
    for _ in 1..ATTEMPTS_MAX {
        match run(session) {
            Err(error) if error.code() == Some("40P01") => {}
            other => return other,
        }
    }
    run(session)
}

fn run_one(pool: &Pool<'_>, session: &mut Session, work: &Work) -> Result<(), PgError> {
    match work {
        Work::Rows { table, part } => load(pool, session, table, *part),
        Work::LargeObjects => load_objects(pool, session),
        Work::Sequences => set_sequences(session, pool.what.facts),
        Work::Entry(at) => make(session, &pool.what.entries[*at], pool.what),
        Work::Analyze(title) => session.run(&format!("ANALYZE {title}")),
    }
}

/// Loads a table, or one part of it. As a whole it is one transaction that begins with TRUNCATE: repeated, it is still
/// the same, and the rows are frozen, which saves the server rewriting them later.
fn load(pool: &Pool<'_>, session: &mut Session, title: &str, part: Option<usize>) -> Result<(), PgError> {
    let table = &pool.what.facts.tables[title];
    let target = copy_target(title, &table.columns);
    let mut digest = RowDigest::default();
    match part {
        Some(part) => {
            copy_part(pool, session, &format!("COPY {target} FROM STDIN"), &table.parts[part].path, &mut digest)?;
        }
        // Some of its rows came with the extension.
        None if table.condition.is_some() => session.transaction("BEGIN", |session| {
            table.parts.iter().try_for_each(|part| {
                copy_part(pool, session, &format!("COPY {target} FROM STDIN"), &part.path, &mut digest)
            })
        })?,
        None => session.transaction("BEGIN", |session| {
            session.run(&format!("TRUNCATE ONLY {title}"))?;
            table.parts.iter().try_for_each(|part| {
                copy_part(pool, session, &format!("COPY {target} FROM STDIN (FREEZE)"), &part.path, &mut digest)
            })
        })?,
    }
    pool.rows.fetch_add(digest.rows(), Ordering::Relaxed);
    compare(pool, title, table, part, digest)
}

/// Compares what was read with what was captured, when all parts of a table have passed.
fn compare(
    pool: &Pool<'_>,
    title: &str,
    table: &PgTableFacts,
    part: Option<usize>,
    digest: RowDigest,
) -> Result<(), PgError> {
    let whole = match part {
        None => digest,
        Some(_) => {
            let mut parts = locked(&pool.parts);
            let (passed, sum) = parts.entry(title.to_owned()).or_default();
            *passed += 1;
            sum.join(&digest);
            if *passed < table.parts.len() {
                return Ok(());
            }
            sum.clone()
        }
    };
    let found = whole.facts();
    if found.rows == table.rows.rows && found.digest == table.rows.digest {
        return Ok(());
    }
    let found = format!(
        "{} rows with digest {}, and {} with {} were captured",
        found.rows, found.digest, table.rows.rows, table.rows.digest
    );
    Err(PgError::Damaged { what: format!("the backup of {title}"), found })
}

fn copy_part(
    pool: &Pool<'_>,
    session: &mut Session,
    sql: &str,
    path: &str,
    digest: &mut RowDigest,
) -> Result<(), PgError> {
    let failed = |source| PgError::Ours { doing: format!("read {path}"), source };
    let source = pool.sources.open(path).map_err(failed)?;
    let mut digested = Digested { source, digest };
    session.copy_in(sql, &mut digested, &|_| ()).map_err(|error| about(error, &format!("load {path}")))?;
    Ok(())
}

/// Digests what passes.
struct Digested<'a> {
    source: Box<dyn Read + 'a>,
    digest: &'a mut RowDigest,
}

impl Read for Digested<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        self.digest.take(&into[..read]);
        Ok(read)
    }
}

fn load_objects(pool: &Pool<'_>, session: &mut Session) -> Result<(), PgError> {
    let Some(objects) = &pool.what.facts.large_objects else { return Ok(()) };
    let all = pool.what.options.owners_and_grants;
    let mut digest = RowDigest::default();
    session.transaction("BEGIN", |session| {
        let makes = |line: &&String| line.starts_with("SELECT ");
        objects.statements.iter().filter(makes).try_for_each(|line| session.run(line))?;
        let path = &objects.part.path;
        let source =
            pool.sources.open(path).map_err(|source| PgError::Ours { doing: format!("read {path}"), source })?;
        large_objects::fill(session, &mut Digested { source, digest: &mut digest }, &|_| ())?;
        // Owners last: after that they may be no longer ours to fill.
        objects.statements.iter().filter(|line| all && !makes(line)).try_for_each(|line| session.run(line))
    })?;
    let found = digest.facts();
    if found.rows == objects.rows.rows && found.digest == objects.rows.digest {
        return Ok(());
    }
    Err(PgError::Damaged { what: "the backup of the large objects".into(), found: "its digest is another".into() })
}

fn set_sequences(session: &mut Session, facts: &PostgresFacts) -> Result<(), PgError> {
    const AT_ONCE: usize = 200;
    let all: Vec<String> = facts
        .sequences
        .iter()
        .map(|(title, at)| format!("pg_catalog.setval({}, {}, {})", literal(title), at.last_value, at.is_called))
        .collect();
    all.chunks(AT_ONCE).try_for_each(|some| session.run(&format!("SELECT {}", some.join(", "))))
}
