//! What a restore does in which order: one graph of jobs, no phases. A table's indexes begin when its rows are there, a
//! foreign key when both tables and the other's key are, and always the job goes first from which the longest path
//! leads to the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lifeboat_model::PostgresFacts;

use super::{
    archive::{SchemaEntry, Section},
    sql::plain,
};

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// The rows of a table, or one part of them.
    Rows {
        /// The table's name in the manifest.
        table: String,
        /// One of its parts; all, when none.
        part: Option<usize>,
    },
    /// All large objects.
    LargeObjects,
    /// Where sequences stand.
    Sequences,
    /// A definition, by its place in the list.
    Entry(usize),
    /// The planner's statistics of a table.
    Analyze(String),
}

/// A piece of work with what it waits for.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub work: Work,
    /// Jobs that must be done before, by their place.
    pub needs: Vec<usize>,
    /// Tables it locks, and whether against everybody else.
    pub locks: Vec<(String, bool)>,
    /// How long it takes, in bytes of a table's disk.
    pub cost: u64,
}

/// Which jobs are open, running and done.
#[derive(Debug)]
pub(super) struct Board {
    jobs: Vec<Job>,
    /// The longest way from here to the end.
    rank: Vec<u64>,
    waits_for: Vec<usize>,
    then: Vec<Vec<usize>>,
    ready: BTreeSet<(u64, usize)>,
    /// How many running jobs hold each table: shared ones, and whether one holds it alone.
    held: HashMap<String, (u32, bool)>,
    left: usize,
}

impl Board {
    pub fn new(jobs: Vec<Job>) -> Board {
        let mut then = vec![Vec::new(); jobs.len()];
        for (at, job) in jobs.iter().enumerate() {
            job.needs.iter().for_each(|&need| then[need].push(at));
        }
        let waits_for: Vec<usize> = jobs.iter().map(|job| job.needs.len()).collect();
        let rank = ranks(&jobs, &then);
        let ready = (0..jobs.len()).filter(|&at| waits_for[at] == 0).map(|at| (rank[at], at)).collect();
        Board { rank, waits_for, then, ready, held: HashMap::new(), left: jobs.len(), jobs }
    }

    /// The next job that can run beside the running ones; the one with the longest way to the end.
    pub fn take(&mut self) -> Option<(usize, Work)> {
        let free = |job: &Job| {
            job.locks.iter().all(|(table, alone)| match self.held.get(table) {
                None | Some((0, false)) => true,
                Some((_, held_alone)) => !held_alone && !alone,
            })
        };
        let &(rank, at) = self.ready.iter().rev().find(|(_, at)| free(&self.jobs[*at]))?;
        self.ready.remove(&(rank, at));
        for (table, alone) in &self.jobs[at].locks {
            let held = self.held.entry(table.clone()).or_default();
            if *alone { held.1 = true } else { held.0 += 1 }
        }
        Some((at, self.jobs[at].work.clone()))
    }

    pub fn done(&mut self, at: usize) {
        self.left -= 1;
        for (table, alone) in &self.jobs[at].locks {
            let held = self.held.entry(table.clone()).or_default();
            if *alone { held.1 = false } else { held.0 -= 1 }
        }
        for next in std::mem::take(&mut self.then[at]) {
            self.waits_for[next] -= 1;
            if self.waits_for[next] == 0 {
                self.ready.insert((self.rank[next], next));
            }
        }
    }

    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Whether jobs are left that wait for each other: a circle, which no dump has.
    pub fn is_stuck(&self, running: usize) -> bool {
        self.left > 0 && running == 0 && self.ready.is_empty()
    }

    /// Whether nothing can run beside the jobs that run now.
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }

    pub fn cost(&self, at: usize) -> u64 {
        self.jobs[at].cost
    }

    pub fn total(&self) -> u64 {
        self.jobs.iter().map(|job| job.cost).sum()
    }
}

/// The longest way from each job to the end, itself included.
fn ranks(jobs: &[Job], then: &[Vec<usize>]) -> Vec<u64> {
    let mut open: Vec<usize> = then.iter().map(Vec::len).collect();
    let mut rank: Vec<u64> = jobs.iter().map(|job| job.cost.max(1)).collect();
    let mut last: Vec<usize> = (0..jobs.len()).filter(|&at| open[at] == 0).collect();
    while let Some(at) = last.pop() {
        for &need in &jobs[at].needs {
            rank[need] = rank[need].max(rank[at] + jobs[need].cost.max(1));
            open[need] -= 1;
            if open[need] == 0 {
                last.push(need);
            }
        }
    }
    rank
}

/// Which table an entry of the archive is, and which tables are its partitions or heirs.
struct Tables<'a> {
    by_id: HashMap<i64, String>,
    children: HashMap<i64, Vec<i64>>,
    facts: &'a PostgresFacts,
}

impl<'a> Tables<'a> {
    fn new(entries: &[SchemaEntry], facts: &'a PostgresFacts) -> Tables<'a> {
        let of_kind = |kind: &'static str| entries.iter().filter(move |entry| entry.kind == kind);
        let by_id: HashMap<i64, String> = of_kind("TABLE")
            .map(|entry| (entry.id, format!("{}.{}", plain(&entry.schema), plain(&entry.tag))))
            .collect();
        let mut children: HashMap<i64, Vec<i64>> = HashMap::new();
        // An heir needs its parents; an ATTACH needs both, and is called as the partition.
        for heir in of_kind("TABLE") {
            for parent in heir.needs.iter().filter(|id| by_id.contains_key(id)) {
                children.entry(*parent).or_default().push(heir.id);
            }
        }
        for attach in of_kind("TABLE ATTACH") {
            let child_title = format!("{}.{}", plain(&attach.schema), plain(&attach.tag));
            let (child, parent): (Vec<i64>, Vec<i64>) = attach
                .needs
                .iter()
                .filter(|id| by_id.contains_key(id))
                .partition(|id| by_id.get(id) == Some(&child_title));
            for parent in parent {
                children.entry(parent).or_default().extend(&child);
            }
        }
        Tables { by_id, children, facts }
    }

    /// The tables an entry needs; with their partitions and heirs where it looks into those too.
    fn needed_by(&self, entry: &SchemaEntry) -> BTreeSet<String> {
        let alone = matches!(entry.kind.as_str(), "INDEX" | "CONSTRAINT" | "INDEX ATTACH");
        let mut open: Vec<i64> = entry.needs.iter().copied().filter(|id| self.by_id.contains_key(id)).collect();
        let mut seen: BTreeSet<i64> = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) && !alone {
                open.extend(self.children.get(&id).into_iter().flatten());
            }
        }
        seen.iter().filter_map(|id| self.by_id.get(id).cloned()).collect()
    }

    fn bytes(&self, title: &str) -> u64 {
        self.facts.tables.get(title).map_or(0, |table| table.disk_bytes)
    }
}

/// The jobs of a restore after the definitions before the rows: rows, large objects, sequences, all definitions after the
/// rows but those that must see grants, and the planner's statistics where they are asked for.
pub(super) fn jobs(entries: &[SchemaEntry], facts: &PostgresFacts, connections: usize, analyze: bool) -> Vec<Job> {
    let tables = Tables::new(entries, facts);
    let mut jobs: Vec<Job> = Vec::new();
    let rows = row_jobs(&mut jobs, facts, connections);
    if let Some(objects) = &facts.large_objects {
        jobs.push(Job { work: Work::LargeObjects, needs: vec![], locks: vec![], cost: objects.part.bytes });
    }
    jobs.push(Job { work: Work::Sequences, needs: vec![], locks: vec![], cost: 0 });
    let first_entry = jobs.len();
    let after: Vec<usize> = (0..entries.len()).filter(|&at| is_after_rows(&entries[at])).collect();
    let place: HashMap<i64, usize> =
        after.iter().enumerate().map(|(n, &at)| (entries[at].id, first_entry + n)).collect();
    for &at in &after {
        let entry = &entries[at];
        let needed = tables.needed_by(entry);
        let mut needs: Vec<usize> = entry.needs.iter().filter_map(|id| place.get(id).copied()).collect();
        if needed.is_empty() && needs.is_empty() {
            // Nothing tells what it looks into: after all rows.
            needs.extend(0..first_entry);
        }
        needs.extend(needed.iter().filter_map(|title| rows.get(title)).flatten());
        needs.sort_unstable();
        needs.dedup();
        let bytes = needed.iter().map(|title| tables.bytes(title)).max().unwrap_or(0);
        let shared = entry.kind == "INDEX";
        let locks = needed.into_iter().map(|title| (title, !shared)).collect();
        jobs.push(Job { work: Work::Entry(at), needs, locks, cost: cost_of(entry, bytes) });
    }
    if analyze {
        analyze_jobs(&mut jobs, &rows, facts);
    }
    jobs
}

/// A table's statistics are made beside the last indexes of others: when its rows are there and all that locks it is made,
/// for some of it (indexes of expressions) has statistics too.
fn analyze_jobs(jobs: &mut Vec<Job>, rows: &BTreeMap<String, Vec<usize>>, facts: &PostgresFacts) {
    let mut needs: BTreeMap<String, Vec<usize>> = rows.clone();
    for (at, job) in jobs.iter().enumerate() {
        for (title, _alone) in &job.locks {
            needs.entry(title.clone()).or_default().push(at);
        }
    }
    for (title, table) in &facts.tables {
        let mut needs = needs.remove(title).unwrap_or_default();
        needs.sort_unstable();
        needs.dedup();
        let locks = vec![(title.clone(), true)];
        jobs.push(Job { work: Work::Analyze(title.clone()), needs, locks, cost: table.disk_bytes / 50 });
    }
}

/// What building each index and key costs, by the number of its definition.
pub(super) fn build_costs(entries: &[SchemaEntry], facts: &PostgresFacts) -> HashMap<i64, u64> {
    let tables = Tables::new(entries, facts);
    let builds = entries.iter().filter(|entry| matches!(entry.kind.as_str(), "INDEX" | "CONSTRAINT"));
    let cost = |entry: &SchemaEntry| {
        let bytes = tables.needed_by(entry).iter().map(|title| tables.bytes(title)).max().unwrap_or(0);
        (entry.id, cost_of(entry, bytes))
    };
    builds.map(cost).collect()
}

fn is_after_rows(entry: &SchemaEntry) -> bool {
    entry.section == Section::PostData && !is_grant(entry) && !is_last(entry)
}

/// Grants come after the rows, unless nothing can be kept from us.
pub(super) fn is_grant(entry: &SchemaEntry) -> bool {
    matches!(entry.kind.as_str(), "ACL" | "ACL LANGUAGE" | "DEFAULT ACL")
}

/// What is made when all else is there: it must see grants and rows, or would watch us.
pub(super) fn is_last(entry: &SchemaEntry) -> bool {
    let comment =
        matches!(entry.kind.as_str(), "COMMENT" | "SECURITY LABEL") && entry.tag.starts_with("EVENT TRIGGER ");
    comment || matches!(entry.kind.as_str(), "MATERIALIZED VIEW DATA" | "EVENT TRIGGER" | "SUBSCRIPTION")
}

/// One job for a table, or for each of its parts when it dominates. Parts go in beside each other: then no other job may
/// hold the table alone.
fn row_jobs(jobs: &mut Vec<Job>, facts: &PostgresFacts, connections: usize) -> BTreeMap<String, Vec<usize>> {
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let total: u64 = facts.tables.values().map(|table| table.disk_bytes).sum();
    for (title, table) in facts.tables.iter().filter(|(_, table)| table.rows.rows > 0) {
        let split = connections > 1 && table.parts.len() > 1 && table.disk_bytes > total / connections as u64;
        let parts: Vec<Option<usize>> = if split { (0..table.parts.len()).map(Some).collect() } else { vec![None] };
        let cost = table.disk_bytes / parts.len().max(1) as u64;
        for part in parts {
            places.entry(title.clone()).or_default().push(jobs.len());
            let work = Work::Rows { table: title.clone(), part };
            jobs.push(Job { work, needs: vec![], locks: vec![(title.clone(), part.is_none())], cost });
        }
    }
    places
}

/// What it costs to build an index or a key of a table with so many bytes.
pub(super) fn build_cost(sql: &str, bytes: u64) -> u64 {
    if sql.contains(" USING gin ") || sql.contains(" USING gist ") { bytes * 2 } else { bytes * 2 / 3 }
}

/// Measured with the realistic database: loading a byte costs about as much as sorting it for an index; an inverted
/// index twice that.
fn cost_of(entry: &SchemaEntry, bytes: u64) -> u64 {
    match entry.kind.as_str() {
        "INDEX" | "CONSTRAINT" => build_cost(&entry.sql, bytes),
        "FK CONSTRAINT" => bytes / 3,
        "MATERIALIZED VIEW DATA" => bytes,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(cost: u64, needs: &[usize], locks: &[(&str, bool)]) -> Job {
        let locks = locks.iter().map(|(table, alone)| ((*table).to_owned(), *alone)).collect();
        Job { work: Work::Sequences, needs: needs.to_vec(), locks, cost }
    }

    #[test]
    fn the_longest_way_goes_first_and_locks_are_kept_apart() {
        // 0 is small, but a large index (2) waits for it; 1 is larger alone.
        let mut board = Board::new(vec![
            job(10, &[], &[("a", true)]),
            job(50, &[], &[("b", true)]),
            job(100, &[0], &[("a", false)]),
            job(90, &[0], &[("a", false)]),
            job(5, &[0], &[("a", true)]),
        ]);
        let mut next = || board.take().map(|(at, _)| at);
        assert_eq!((next(), next(), next()), (Some(0), Some(1), None));
        board.done(0);
        // Two indexes of one table beside each other; a constraint of it only alone.
        let mut next = || board.take().map(|(at, _)| at);
        assert_eq!((next(), next(), next()), (Some(2), Some(3), None));
        board.done(2);
        assert_eq!(board.take().map(|(at, _)| at), None);
        board.done(3);
        assert_eq!(board.take().map(|(at, _)| at), Some(4));
        board.done(1);
        board.done(4);
        assert!(board.is_done() && !board.is_stuck(0));
    }

    #[test]
    fn a_circle_is_seen() {
        let board = Board::new(vec![job(1, &[1], &[]), job(1, &[0], &[])]);
        assert!(board.is_stuck(0));
    }
}
