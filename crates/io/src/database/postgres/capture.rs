//! A consistent copy of a database while others write to it.
//!
//! ```text
//!   leader    locks every table (ACCESS SHARE), then takes a snapshot and exports it
//!             nothing can be truncated, rewritten or dropped from here on
//!   pg_dump   definitions, under the same snapshot
//!   workers   rows, by COPY, under the same snapshot; the largest first, each row digested as it passes
//!   leader    sequences and large objects' metadata at the end
//! ```
//!
//! A table that was truncated or rewritten between snapshot and lock gives no rows, and no error. So the locks come
//! first: `LOCK TABLE` takes no snapshot. What was changed while we locked is seen afterwards, in two ways: the list of
//! tables under the snapshot must be the list that was locked, and the file of each relation must be the one that the
//! snapshot knows. Else all is released and done again.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Write},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lifeboat_model::postgres::{LargeObjectFacts, PartFacts, PgTableFacts, PostgresFacts};

use super::{
    Address, Clients, PgError, Selection, Session, archive,
    archive::{SchemaEntry, Section},
    catalog::{self, Table},
    clients,
    digest::RowDigest,
    fingerprint, globals, large_objects, server,
    sql::file_name,
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
}

impl Default for CaptureOptions {
    fn default() -> Self {
        CaptureOptions { connections: 2, selection: Selection::default(), attempts_max: 5, lock_wait_ms_max: 10_000 }
    }
}

/// Where the rows go: any number of streams at the same time.
pub trait Sinks: Sync {
    /// Begins a stream; `path` is below the resource's folder, with `/` between its parts.
    ///
    /// # Errors
    /// What lies beneath; it ends the capture.
    fn begin(&self, path: &str) -> io::Result<Box<dyn Sink + '_>>;
}

/// One stream. Dropped without its end, it must not count.
pub trait Sink: Write {
    /// Says that all of it came.
    ///
    /// # Errors
    /// What lies beneath; it ends the capture.
    fn finish(self: Box<Self>) -> io::Result<()>;
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
    server::refuse_pooler(what.address, stop)?;
    let mut changed = Vec::new();
    for attempt in 0..what.options.attempts_max.max(1) {
        let mut leader = Session::open(what.address, stop)?;
        match hold(&mut leader, what)? {
            Hold::Held(held) => {
                let captured = capture_held(leader, *held, what, sinks, stop, progress)?;
                return Ok(Captured { restarts: attempt, ..captured });
            }
            Hold::Changed(tables) => changed = tables,
        }
    }
    Err(PgError::Changed { tables: changed, attempts: what.options.attempts_max })
}

/// Everything locked, and a snapshot of it.
struct Held {
    facts: PostgresFacts,
    tables: Vec<Table>,
    snapshot: String,
}

enum Hold {
    Held(Box<Held>),
    Changed(Vec<String>),
}

/// Locks all tables, takes the snapshot, and looks whether it is of the tables that were locked.
fn hold(leader: &mut Session, what: &Capture<'_>) -> Result<Hold, PgError> {
    let selection = &what.options.selection;
    let expected = catalog::tables(leader, selection)?;
    let unreadable = catalog::unreadable(leader, &expected)?;
    if !unreadable.is_empty() {
        let found = format!("this role may not read {}", unreadable.join(", "));
        let hint =
            "back up as the owner of the tables, or GRANT pg_read_all_data to the role (PostgreSQL 14 and later)";
        return Err(PgError::Preflight { found, hint: hint.into() });
    }
    server::refuse_too_many_locks(leader, &expected)?;
    let at = what.clock.now();
    leader.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    leader.run(&format!("SET LOCAL lock_timeout = {}", what.options.lock_wait_ms_max))?;
    if let Err(error) = lock(leader, &expected) {
        // Dropped meanwhile, with its schema or alone: the list is read again.
        return match error.code() {
            Some("42P01" | "3F000") => Ok(Hold::Changed(vec!["a table that was dropped".into()])),
            _ => Err(error),
        };
    }
    let snapshot = leader.value("SELECT pg_catalog.pg_export_snapshot()")?;
    let mut horizon = catalog::horizon(leader)?;
    horizon.at = Some(at);
    let tables = catalog::tables(leader, selection)?;
    let changed = changed_tables(leader, &expected, &tables)?;
    if !changed.is_empty() {
        return Ok(Hold::Changed(changed));
    }
    let facts = PostgresFacts {
        server_version: leader.version(),
        client_version: what.clients.version.clone(),
        database: catalog::database_facts(leader)?,
        horizon,
        ..PostgresFacts::default()
    };
    Ok(Hold::Held(Box::new(Held { facts, tables, snapshot })))
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

/// One thing a worker reads at a time.
struct Job {
    /// The table's place in the list; none for large objects.
    table: Option<usize>,
    /// Its pages from and to; all of it when none.
    pages: Option<(u64, Option<u64>)>,
    path: String,
    bytes: u64,
}

/// What a worker has read.
struct Done {
    table: Option<usize>,
    digest: RowDigest,
    part: PartFacts,
}

fn capture_held(
    mut leader: Session,
    held: Held,
    what: &Capture<'_>,
    sinks: &dyn Sinks,
    stop: &Stop,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<Captured, PgError> {
    let Held { mut facts, tables, snapshot } = held;
    let schema = dump_definitions(what, &snapshot, stop)?;
    let selection = &what.options.selection;
    let objects = large_objects::list(&mut leader, selection)?;
    let jobs = plan_jobs(&tables, leader.major(), what.options.connections, objects.as_ref().map(|all| all.bytes));
    let done = read_rows(&mut leader, &tables, jobs, what, &snapshot, sinks, stop, progress)?;

    facts.tables = tables.iter().map(|table| (table.title(), table_facts(table))).collect();
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
    facts.sequences = catalog::sequences(&mut leader, selection)?;
    facts.fingerprint = fingerprint::fingerprint(&mut leader, selection)?.kinds();
    facts.migrations = catalog_migrations(&mut leader)?;
    facts.roles = catalog::roles_used(&mut leader)?;
    facts.extensions = catalog::extensions(&mut leader)?;
    let globals = globals::globals_sql(&mut leader)?;
    leader.run("COMMIT")?;
    let (entries, pre_data, post_data) = schema;
    Ok(Captured { facts, entries, pre_data, post_data, globals, restarts: 0 })
}

fn catalog_migrations(leader: &mut Session) -> Result<BTreeMap<String, String>, PgError> {
    super::migrations::heads(leader)
}

fn table_facts(table: &Table) -> PgTableFacts {
    PgTableFacts {
        rows: RowDigest::default().facts(),
        columns: table.columns.clone(),
        key: table.key.clone(),
        parts: Vec::new(),
        disk_bytes: table.bytes,
        condition: table.condition.clone(),
    }
}

/// Adds what one part gave. Digests are sums, so parts are added in any order; files are listed in theirs.
fn add_part(all: &mut BTreeMap<String, PgTableFacts>, table: &Table, digest: &RowDigest, part: PartFacts) {
    let Some(facts) = all.get_mut(&table.title()) else { return };
    facts.rows.digest = digest.added_to(&facts.rows.digest);
    facts.rows.rows += digest.rows();
    facts.parts.push(part);
    facts.parts.sort_by(|a, b| a.path.cmp(&b.path));
}

/// The definitions, under the snapshot: statements, and the two files of SQL.
fn dump_definitions(
    what: &Capture<'_>,
    snapshot: &str,
    stop: &Stop,
) -> Result<(Vec<SchemaEntry>, String, String), PgError> {
    let ours =
        |doing: &str, error: files::PathError| PgError::Ours { doing: doing.into(), source: io::Error::other(error) };
    let archive_file = what.folder.join("schema.dump");
    let selection = &what.options.selection;
    let dump = clients::dump_schema(what.clients, what.address, Some(snapshot), selection, &archive_file);
    clients::run_client(what.exec, &dump, stop)?;
    let contents = archive::read_archive(&archive_file)?;
    let mut entries = Vec::new();
    let mut section_text = |section: Section, word: &str| -> Result<String, PgError> {
        let file = what.folder.join(format!("{word}.sql"));
        clients::run_client(what.exec, &clients::section_as_sql(what.clients, &archive_file, word, &file), stop)?;
        let text = files::read_text(&file).map_err(|error| ours("read the definitions", error))?;
        entries.extend(archive::cut_section(&contents, section, &text)?);
        Ok(archive::portable(&text))
    };
    let pre_data = section_text(Section::PreData, "pre-data")?;
    let post_data = section_text(Section::PostData, "post-data")?;
    Ok((entries, pre_data, post_data))
}

/// What to read, the largest last: workers take from the end. Only a table larger than a worker's share is split, by
/// its pages, and only where the server can look at a range of pages without reading all (14 and later).
fn plan_jobs(tables: &[Table], major: u32, connections: usize, objects: Option<u64>) -> VecDeque<Job> {
    let total: u64 = tables.iter().map(|table| table.bytes).sum::<u64>() + objects.unwrap_or(0);
    let share = (total / connections.max(1) as u64).max(SPLIT_BYTES_MIN);
    let mut jobs = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let folder = format!("data/{}.{}.copy", file_name(&table.schema), file_name(&table.name));
        let splits = major >= 14
            && connections > 1
            && table.bytes > share
            && table.condition.is_none()
            && !table.columns.is_empty();
        let parts = if splits { (table.bytes * 2).div_ceil(share).clamp(1, table.pages.max(1)) } else { 1 };
        for part in 0..parts {
            let from = table.pages * part / parts;
            // The last range has no end: rows may be on pages that came after the count.
            let to = (part + 1 < parts).then(|| table.pages * (part + 1) / parts);
            let path = if parts == 1 { folder.clone() } else { format!("{folder}.{part:04}") };
            let pages = (parts > 1).then_some((from, to));
            jobs.push(Job { table: Some(at), pages, path, bytes: table.bytes / parts });
        }
    }
    jobs.extend(objects.map(|bytes| Job { table: None, pages: None, path: LARGE_OBJECTS_PATH.into(), bytes }));
    jobs.sort_by_key(|job| job.bytes);
    jobs.into()
}

/// Tables below this size are never split.
const SPLIT_BYTES_MIN: u64 = 8 << 20;
/// Where the pieces of all large objects go.
const LARGE_OBJECTS_PATH: &str = "largeobjects/objects.copy";

/// What the workers share.
struct Pool<'a> {
    jobs: Mutex<VecDeque<Job>>,
    /// Tables somebody waits to change: only the leader, who holds them already, can read them.
    left: Mutex<Vec<Job>>,
    done: Mutex<Vec<Done>>,
    failed: Mutex<Option<PgError>>,
    bytes_done: AtomicU64,
    bytes: u64,
    tables: &'a [Table],
    sinks: &'a dyn Sinks,
    progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
}

#[expect(clippy::too_many_arguments, reason = "one call, by one caller, of the two halves of one story")]
fn read_rows(
    leader: &mut Session,
    tables: &[Table],
    jobs: VecDeque<Job>,
    what: &Capture<'_>,
    snapshot: &str,
    sinks: &dyn Sinks,
    stop: &Stop,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<Vec<Done>, PgError> {
    let bytes = jobs.iter().map(|job| job.bytes).sum();
    let workers = what.options.connections.clamp(1, jobs.len().max(1));
    let pool = Pool {
        jobs: Mutex::new(jobs),
        left: Mutex::default(),
        done: Mutex::default(),
        failed: Mutex::default(),
        bytes_done: AtomicU64::new(0),
        bytes,
        tables,
        sinks,
        progress,
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                if let Err(error) = work(&pool, what.address, snapshot, stop) {
                    taken(&pool.failed).get_or_insert(error);
                    taken(&pool.jobs).clear();
                }
            });
        }
    });
    if let Some(error) = taken(&pool.failed).take() {
        return Err(error);
    }
    for job in std::mem::take(&mut *taken(&pool.left)) {
        read_one(&pool, leader, &job)?;
    }
    Ok(std::mem::take(&mut *taken(&pool.done)))
}

/// A worker that panicked has left nothing half in these lists.
fn taken<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(pool: &Pool<'_>, address: &Address, snapshot: &str, stop: &Stop) -> Result<(), PgError> {
    let mut session = Session::open(address, stop)?;
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    session.run(&format!("SET TRANSACTION SNAPSHOT {}", super::sql::literal(snapshot)))?;
    loop {
        let Some(job) = taken(&pool.jobs).pop_back() else { break };
        if let Some(at) = job.table {
            session.run("SAVEPOINT lifeboat")?;
            let lock = format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE NOWAIT", pool.tables[at].title());
            match session.run(&lock) {
                Ok(()) => session.run("RELEASE SAVEPOINT lifeboat")?,
                // Somebody waits behind the leader's lock: waiting behind them would be for ever.
                Err(error) if error.code() == Some("55P03") => {
                    session.run("ROLLBACK TO SAVEPOINT lifeboat")?;
                    taken(&pool.left).push(job);
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        read_one(pool, &mut session, &job)?;
    }
    session.run("COMMIT")
}

/// Reads one table, part or all large objects into a stream of its own.
fn read_one(pool: &Pool<'_>, session: &mut Session, job: &Job) -> Result<(), PgError> {
    const BUFFER_BYTES: usize = 256 << 10;
    let failed = |source| PgError::Ours { doing: format!("write {}", job.path), source };
    let source = match job.table {
        Some(at) => pool.tables[at].copy_source(job.pages),
        None => large_objects::COPY_SOURCE.to_owned(),
    };
    let mut sink = pool.sinks.begin(&job.path).map_err(failed)?;
    let mut digest = RowDigest::default();
    let (mut bytes, mut told) = (0_u64, 0_u64);
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    session.copy_out(&format!("COPY {source} TO STDOUT"), |row| {
        digest.take(row);
        bytes += row.len() as u64;
        buffer.extend_from_slice(row);
        if buffer.len() >= BUFFER_BYTES {
            sink.write_all(&buffer)?;
            buffer.clear();
            // The size on disk is a guess at the size of the text; never more of it is told than there is.
            let more = bytes.min(job.bytes).saturating_sub(told);
            told += more;
            (pool.progress)(pool.bytes_done.fetch_add(more, Ordering::Relaxed) + more, Some(pool.bytes));
        }
        Ok(())
    })?;
    sink.write_all(&buffer).map_err(failed)?;
    if !digest.is_whole() {
        return Err(PgError::Damaged { what: job.path.clone(), found: "the server's last row has no end".into() });
    }
    sink.finish().map_err(failed)?;
    let more = job.bytes - told;
    (pool.progress)(pool.bytes_done.fetch_add(more, Ordering::Relaxed) + more, Some(pool.bytes));
    let part = PartFacts { path: job.path.clone(), rows: digest.rows(), bytes };
    taken(&pool.done).push(Done { table: job.table, digest, part });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, megabytes: u64) -> Table {
        Table {
            oid: 1,
            schema: "public".into(),
            name: name.into(),
            columns: vec!["id".into()],
            key: vec![],
            pages: megabytes * 128,
            bytes: megabytes << 20,
            condition: None,
        }
    }

    #[test]
    fn only_a_table_that_dominates_is_split_and_not_before_14() {
        let paths = |major, tables: &[Table]| -> Vec<String> {
            plan_jobs(tables, major, 2, None).into_iter().rev().map(|job| job.path).collect()
        };
        let even = [table("a", 100), table("b", 90), table("c", 80)];
        assert_eq!(paths(15, &even), ["data/public.a.copy", "data/public.b.copy", "data/public.c.copy"]);
        let one = [table("a", 300), table("b", 10)];
        assert_eq!(paths(15, &one).len(), 5);
        assert_eq!(paths(13, &one), ["data/public.a.copy", "data/public.b.copy"]);
        // Small ones are not worth it, however uneven.
        assert_eq!(paths(15, &[table("a", 4)]).len(), 1);
    }

    #[test]
    fn ranges_of_pages_leave_nothing_out() {
        let jobs = plan_jobs(&[table("a", 300)], 16, 2, None);
        let mut ranges: Vec<_> = jobs.iter().filter_map(|job| job.pages).collect();
        ranges.sort_unstable();
        assert_eq!(ranges.first().map(|range| range.0), Some(0));
        assert!(ranges.windows(2).all(|pair| pair[0].1 == Some(pair[1].0)));
        assert_eq!(ranges.last().map(|range| range.1), Some(None));
    }
}
