//! The hands of a restore: several connections that take jobs from one board until it is empty, or one of them fails.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use lifeboat_model::{PostgresFacts, postgres::PgTableFacts};

use super::{
    PgError, Session,
    binary::{self, Binary, Form},
    catalog::copy_target,
    digest::RowDigest,
    large_objects,
    restore::{Restore, Sources, about, make, open_writer},
    schedule::{Board, Job, Work},
    sql::literal,
};
use crate::stop::Stop;

/// What the workers share.
struct Pool<'a> {
    board: Mutex<(Board, usize)>,
    changed: Condvar,
    failed: Mutex<Option<PgError>>,
    over: AtomicBool,
    parts: Mutex<BTreeMap<String, (usize, RowDigest)>>,
    rows: &'a AtomicU64,
    done: AtomicU64,
    total: u64,
    what: &'a Restore<'a>,
    sources: &'a dyn Sources,
    progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
}

/// Runs a graph of jobs to its end, on as many connections as asked for.
pub(super) fn run_jobs(
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
    // An index that is sorted by one process costs less than one that several write to tapes and merge; they are only worth
    // it where a core would have nothing else to do.
    let many: u64 = session.value("SHOW max_parallel_maintenance_workers")?.parse().unwrap_or(0);
    let most = build_mb_max(&mut session)?;
    let mut set = (many, most);
    while let Some((at, work, alone)) = next(pool)? {
        if let Some(cost) = builds(pool, &work).then(|| locked(&pool.board).0.cost(at)) {
            let workers = if alone { many } else { 0 };
            let wanted = (workers, build_mb(cost, workers, most));
            if wanted != set {
                let (workers, memory) = wanted;
                session.run(&format!(
                    "SET max_parallel_maintenance_workers = {workers}; SET maintenance_work_mem = '{memory}MB'"
                ))?;
                set = wanted;
            }
        } else if set.1 != most {
            // A foreign key is checked by a join, which wants its smaller side in memory.
            session.run(&format!("SET maintenance_work_mem = '{most}MB'"))?;
            set.1 = most;
        }
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

/// Memory for building an index, in MiB: at the least, and at the most.
const BUILD_MB_MIN: u64 = 16;
/// And however large the server is.
const BUILD_MB_MAX: u64 = 512;

/// How much memory one statement may take that sorts or joins, in MiB: an eighth of what the server has, as far as it tells,
/// or what its owner allows for such work, if that is more. Nobody can ask a server for its memory; `shared_buffers` is a
/// quarter of it where somebody has tuned it, and 128 MB where nobody has.
pub(super) fn build_mb_max(session: &mut Session) -> Result<u64, PgError> {
    let row = session.one(
        "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers')) >> 20,
                (SELECT reset_val::pg_catalog.int8 >> 10 FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem')",
    )?;
    Ok(memory_mb(row.count(0), row.count(1)))
}

fn memory_mb(shared_buffers_mb: u64, allowed_mb: u64) -> u64 {
    (shared_buffers_mb / 2).max(allowed_mb).clamp(BUILD_MB_MIN, BUILD_MB_MAX)
}

/// How much memory an index is built in, in MiB. Little is faster: what is sorted stays in the processor's caches, and merging
/// what was sorted is cheap. Measured, 5 million rows by two columns: 3.5 s of processor time in 16 MiB, 4.1 s in 64, 5.4 s in
/// 512; an inverted index of 400,000 documents: 4.2, 4.4 and 5.0 s. With this share of its table, all of it is merged in one pass.
pub(super) fn build_mb(cost: u64, workers: u64, most: u64) -> u64 {
    /// PostgreSQL starts no more processes than have so much each.
    const EACH_MB: u64 = 32;
    let alone = ((cost / 64) >> 20).max(BUILD_MB_MIN).min(most);
    if workers == 0 { alone } else { alone.max(EACH_MB * (workers + 1)).min(most) }
}

/// Whether a job is one that the server can share among several processes.
fn builds(pool: &Pool<'_>, work: &Work) -> bool {
    match work {
        Work::Entry(at) => matches!(pool.what.entries[*at].kind.as_str(), "INDEX" | "CONSTRAINT"),
        Work::Rows { .. } | Work::LargeObjects | Work::Sequences | Work::Analyze(_) => false,
    }
}

/// Waits for a job that can run, and says whether it runs alone; none when all are done or somebody failed.
fn next(pool: &Pool<'_>) -> Result<Option<(usize, Work, bool)>, PgError> {
    let mut board = locked(&pool.board);
    loop {
        if board.0.is_done() || pool.over.load(Ordering::SeqCst) {
            return Ok(None);
        }
        if let Some((at, work)) = board.0.take() {
            board.1 += 1;
            let alone = board.1 == 1 && board.0.is_idle();
            return Ok(Some((at, work, alone)));
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

/// Loads a table, or one part of it. A large one as a whole is one transaction that begins with TRUNCATE: then its rows are
/// frozen, which saves the server rewriting them later. A small one is a statement, and no more.
fn load(pool: &Pool<'_>, session: &mut Session, title: &str, part: Option<usize>) -> Result<(), PgError> {
    let table = &pool.what.facts.tables[title];
    let text_bytes = table.parts.iter().map(|part| part.bytes).sum();
    let is_worth_it =
        table.disk_bytes >= LARGE_BYTES_MIN && binary::is_worth_it(text_bytes, table.rows.rows, table.columns.len());
    let forms = if is_worth_it { binary::forms(session, title, &table.columns)? } else { None };
    let digest = match load_as(pool, session, (title, part), forms.as_deref()) {
        Err(error) if forms.is_some() && binary::wants_text(&error) => load_as(pool, session, (title, part), None)?,
        other => other?,
    };
    pool.rows.fetch_add(digest.rows(), Ordering::Relaxed);
    compare(pool, title, table, part, digest)
}

/// From this size on, on the disk of the source, a table is worth a few questions more.
const LARGE_BYTES_MIN: u64 = 1 << 20;

/// The same in one of COPY's formats: binary where the forms of all columns are known.
fn load_as(
    pool: &Pool<'_>,
    session: &mut Session,
    (title, part): (&str, Option<usize>),
    forms: Option<&[Form]>,
) -> Result<RowDigest, PgError> {
    let table = &pool.what.facts.tables[title];
    let mut digest = RowDigest::default();
    let parts = match part {
        Some(part) => &table.parts[part..=part],
        None => &table.parts[..],
    };
    let freeze = part.is_none() && table.condition.is_none() && table.disk_bytes >= LARGE_BYTES_MIN;
    let options: Vec<&str> = [(freeze, "FREEZE"), (forms.is_some(), "FORMAT binary")]
        .iter()
        .filter_map(|(on, word)| on.then_some(*word))
        .collect();
    let options = if options.is_empty() { String::new() } else { format!(" ({})", options.join(", ")) };
    let sql = format!("COPY {} FROM STDIN{options}", copy_target(title, &table.columns));
    let mut copy = |session: &mut Session| {
        parts.iter().try_for_each(|part| copy_part(pool, session, &sql, &part.path, &mut digest, forms))
    };
    match (freeze, parts) {
        (true, _) => session.transaction("BEGIN", |session| {
            session.run(&format!("TRUNCATE ONLY {title}"))?;
            copy(session)
        })?,
        (false, [_one]) => copy(session)?,
        // All or nothing, since it may be tried again.
        (false, _) => session.transaction("BEGIN", copy)?,
    }
    Ok(digest)
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
    forms: Option<&[Form]>,
) -> Result<(), PgError> {
    let failed = |source| PgError::Ours { doing: format!("read {path}"), source };
    let source = pool.sources.open(path).map_err(failed)?;
    let mut digested = Digested { source, digest };
    let copied = match forms {
        Some(forms) => session.copy_in(sql, &mut Binary::new(digested, forms), &|_| ()),
        None => session.copy_in(sql, &mut digested, &|_| ()),
    };
    copied.map(drop).map_err(|error| about(error, &format!("load {path}")))
}

/// Digests what passes.
pub(super) struct Digested<'a> {
    pub source: Box<dyn Read + 'a>,
    pub digest: &'a mut RowDigest,
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

#[cfg(test)]
mod tests {
    use super::{build_mb, memory_mb};

    #[test]
    fn an_index_is_built_in_little_memory_and_a_large_one_in_more() {
        const GIB: u64 = 1 << 30;
        let alone = [0, GIB, 8 * GIB, 900 * GIB].map(|cost| build_mb(cost, 0, 512));
        assert_eq!(alone, [16, 16, 128, 512]);
        // Each process that helps needs 32 MiB, else the server starts fewer.
        assert_eq!([build_mb(0, 2, 512), build_mb(64 * GIB, 2, 512), build_mb(0, 40, 512)], [96, 512, 512]);
        assert_eq!([build_mb(900 * GIB, 0, 64), build_mb(0, 7, 64)], [64, 64], "never more than the server bears");
    }

    #[test]
    fn memory_follows_the_servers() {
        // As it comes, a small one, one that somebody tuned, a large one; and what its owner allows.
        assert_eq!([memory_mb(128, 64), memory_mb(32, 4), memory_mb(512, 64), memory_mb(8192, 64)], [64, 16, 256, 512]);
        assert_eq!(memory_mb(128, 300), 300);
    }
}
