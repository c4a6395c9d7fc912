//! Reading the rows of many tables at the same time, under one snapshot.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lifeboat_model::{
    TableFacts,
    postgres::{PartFacts, PgTableFacts},
};

use super::{
    Address, PgError, Session,
    catalog::{Table, copy_target},
    digest::RowDigest,
    large_objects,
    sql::{file_name, literal},
};
use crate::stop::Stop;

/// Where the rows go: any number of streams at the same time.
pub trait Sinks: Sync {
    /// Begins a stream; `path` is below the resource's folder, with `/` between its parts.
    ///
    /// # Errors
    /// What lies beneath; it ends the capture.
    fn begin(&self, path: &str) -> io::Result<Box<dyn Sink + '_>>;

    /// Files of an earlier capture count as files of this one, under the same paths; or none of them, where one is not there
    /// any more as it was.
    ///
    /// # Errors
    /// What lies beneath; it ends the capture.
    fn again(&self, _parts: &[PartFacts]) -> io::Result<bool> {
        Ok(false)
    }
}

/// One stream. Dropped without its end, it must not count.
pub trait Sink: Write {
    /// Says that all of it came.
    ///
    /// # Errors
    /// What lies beneath; it ends the capture.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// One thing a worker reads at a time.
pub(super) struct Job {
    /// The table's place in the list; none for large objects.
    table: Option<usize>,
    /// Its pages from and to; all of it when none.
    pages: Option<(u64, Option<u64>)>,
    path: String,
    bytes: u64,
}

/// What a worker has read.
pub(super) struct Done {
    pub table: Option<usize>,
    pub digest: RowDigest,
    pub part: PartFacts,
}

pub(super) fn table_facts(table: &Table) -> PgTableFacts {
    PgTableFacts {
        rows: RowDigest::default().facts(),
        columns: table.columns.clone(),
        key: table.key.clone(),
        parts: Vec::new(),
        disk_bytes: table.bytes,
        condition: table.condition.clone(),
        ..PgTableFacts::default()
    }
}

/// Adds what one part gave. Digests are sums, so parts are added in any order; files are listed in theirs.
pub(super) fn add_part(all: &mut BTreeMap<String, PgTableFacts>, table: &Table, digest: &RowDigest, part: PartFacts) {
    let Some(facts) = all.get_mut(&table.title()) else { return };
    facts.rows.digest = digest.added_to(&facts.rows.digest);
    facts.rows.rows += digest.rows();
    facts.parts.push(part);
    facts.parts.sort_by(|a, b| a.path.cmp(&b.path));
}

/// What to read, the largest last: workers take from the end. Only a table larger than a worker's share is split, by
/// its pages, and only where the server can look at a range of pages without reading all (14 and later).
pub(super) fn plan_jobs(
    tables: &[Table],
    is_read: &dyn Fn(usize) -> bool,
    major: u32,
    connections: usize,
    objects: Option<u64>,
) -> VecDeque<Job> {
    let read = || tables.iter().enumerate().filter(|(at, _)| is_read(*at));
    let total: u64 = read().map(|(_, table)| table.bytes).sum::<u64>() + objects.unwrap_or(0);
    let share = (total / connections.max(1) as u64).max(SPLIT_BYTES_MIN);
    let mut jobs = Vec::new();
    for (at, table) in read() {
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
    what: &'a Reading<'a>,
}

/// What reading works with.
pub(super) struct Reading<'a> {
    pub address: &'a Address,
    pub snapshot: &'a str,
    pub connections: usize,
    pub tables: &'a [Table],
    pub sinks: &'a dyn Sinks,
    pub progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
}

/// Does all jobs; those that nobody else can do, with the leader's session.
pub(super) fn read_rows(
    leader: &mut Session,
    jobs: VecDeque<Job>,
    what: &Reading<'_>,
    stop: &Stop,
) -> Result<Vec<Done>, PgError> {
    let bytes = jobs.iter().map(|job| job.bytes).sum();
    let workers = what.connections.clamp(1, jobs.len().max(1));
    let pool = Pool {
        jobs: Mutex::new(jobs),
        left: Mutex::default(),
        done: Mutex::default(),
        failed: Mutex::default(),
        bytes_done: AtomicU64::new(0),
        bytes,
        what,
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                if let Err(error) = work(&pool, stop) {
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
pub(super) fn taken<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(pool: &Pool<'_>, stop: &Stop) -> Result<(), PgError> {
    let mut session = join(pool.what, stop)?;
    loop {
        let Some(job) = taken(&pool.jobs).pop_back() else { break };
        if let Some(at) = job.table
            && !lock_at_once(&mut session, &pool.what.tables[at])?
        {
            taken(&pool.left).push(job);
            continue;
        }
        read_one(pool, &mut session, &job)?;
    }
    session.run("COMMIT")
}

/// A session that sees what the leader sees.
pub(super) fn join(what: &Reading<'_>, stop: &Stop) -> Result<Session, PgError> {
    let mut session = Session::open(what.address, stop)?;
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    session.run(&format!("SET TRANSACTION SNAPSHOT {}", literal(what.snapshot)))?;
    Ok(session)
}

/// Whether a table can be read without waiting for anybody. Behind somebody who waits for the leader's lock, that would be
/// for ever.
pub(super) fn lock_at_once(session: &mut Session, table: &Table) -> Result<bool, PgError> {
    session.run("SAVEPOINT lifeboat")?;
    match session.run(&format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE NOWAIT", table.title())) {
        Ok(()) => session.run("RELEASE SAVEPOINT lifeboat").map(|()| true),
        Err(error) if error.code() == Some("55P03") => session.run("ROLLBACK TO SAVEPOINT lifeboat").map(|()| false),
        Err(error) => Err(error),
    }
}

/// Reads one table, part or all large objects into a stream of its own.
fn read_one(pool: &Pool<'_>, session: &mut Session, job: &Job) -> Result<(), PgError> {
    const BUFFER_BYTES: usize = 256 << 10;
    let failed = |source| PgError::Ours { doing: format!("write {}", job.path), source };
    let source = match job.table {
        Some(at) => pool.what.tables[at].copy_source(job.pages),
        None => large_objects::COPY_SOURCE.to_owned(),
    };
    let mut sink = pool.what.sinks.begin(&job.path).map_err(failed)?;
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
            (pool.what.progress)(pool.bytes_done.fetch_add(more, Ordering::Relaxed) + more, Some(pool.bytes));
        }
        Ok(())
    })?;
    sink.write_all(&buffer).map_err(failed)?;
    if !digest.is_whole() {
        return Err(PgError::Damaged { what: job.path.clone(), found: "the server's last row has no end".into() });
    }
    sink.finish().map_err(failed)?;
    let more = job.bytes - told;
    (pool.what.progress)(pool.bytes_done.fetch_add(more, Ordering::Relaxed) + more, Some(pool.bytes));
    let part = PartFacts { path: job.path.clone(), rows: digest.rows(), bytes };
    taken(&pool.done).push(Done { table: job.table, digest, part });
    Ok(())
}

/// Digests one table as a session sees it, what it has not committed included.
pub(super) fn digest_of(session: &mut Session, title: &str, table: &PgTableFacts) -> Result<TableFacts, PgError> {
    let mut digest = RowDigest::default();
    let source = match &table.condition {
        Some(condition) => format!("(SELECT {} FROM ONLY {title} {condition})", table.columns.join(", ")),
        None => copy_target(title, &table.columns),
    };
    session.copy_out(&format!("COPY {source} TO STDOUT"), |row| {
        digest.take(row);
        Ok(())
    })?;
    Ok(digest.facts())
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
            plan_jobs(tables, &|_| true, major, 2, None).into_iter().rev().map(|job| job.path).collect()
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
        let jobs = plan_jobs(&[table("a", 300)], &|_| true, 16, 2, None);
        let mut ranges: Vec<_> = jobs.iter().filter_map(|job| job.pages).collect();
        ranges.sort_unstable();
        assert_eq!(ranges.first().map(|range| range.0), Some(0));
        assert!(ranges.windows(2).all(|pair| pair[0].1 == Some(pair[1].0)));
        assert_eq!(ranges.last().map(|range| range.1), Some(None));
    }
}
