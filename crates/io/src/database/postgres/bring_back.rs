//! Rows that left, inserted again: in one transaction, parents before children, never over a row that is there.
//!
//! ```text
//!   file of COPY text ─► temporary table of texts, each row numbered
//!     look        there already with the same values · its key is taken · new
//!     insert      all at once; when that fails, one after the other, so that each refusal has its row and its reason
//!     cycles      a reference that may be null is set when all of its circle is there
//!   sequences     no lower than what is there
//! ```
//!
//! A value has the type of its column as it is today; one that does not fit is a refusal, never a shorter value. Rows that
//! had changed or gone are another matter, for those who ask for it: `overwrite.rs`.

mod overwrite;
mod take_away;

pub use take_away::take_away;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
};

use lifeboat_model::{
    SalvagedTable,
    salvage::{BroughtBack, BroughtBackTable, RefusedRow},
};

use serde::{Deserialize, Serialize};

use super::{
    PgError, Selection, Session,
    catalog::{self, Table},
    fence::FENCE_TRIGGER,
    sql::{literal, plain, quoted},
    watch::WATCH_TRIGGER,
};

/// Refusals that are told one by one.
const REFUSED_TOLD_MAX: u64 = 1000;

/// What is to be brought back.
pub struct BringBack<'a> {
    /// The tables.
    pub tables: &'a [SalvagedTable],
    /// Opens a file of theirs.
    pub open: &'a dyn Fn(&str) -> io::Result<Box<dyn Read>>,
    /// Where values of columns belong that are not there any more: `schema.table.column` to another column.
    pub moved: &'a BTreeMap<String, String>,
    /// Only look what would become of them; nothing stays.
    pub trial: bool,
    /// Rows that had changed are written over, where what came back is as it was.
    pub overwrite: bool,
    /// Rows that had gone are taken away, likewise.
    pub deletes: bool,
}

/// Which rows of a salvage's files were brought in, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroughtIn {
    /// Rows that were inserted.
    #[serde(default)]
    pub inserted: BTreeMap<String, BTreeSet<u64>>,
    /// Rows that were written over.
    #[serde(default)]
    pub overwritten: BTreeMap<String, BTreeSet<u64>>,
    /// Rows that were taken away; they are numbered in the file of rows as they were in the backup.
    #[serde(default)]
    pub removed: BTreeMap<String, BTreeSet<u64>>,
}

impl BroughtIn {
    /// Adds what was done.
    pub fn add(&mut self, done: &BroughtBack) {
        for table in &done.tables {
            let lists = [
                (&mut self.inserted, &table.rows),
                (&mut self.overwritten, &table.overwritten_rows),
                (&mut self.removed, &table.removed_rows),
            ];
            for (list, rows) in lists {
                list.entry(table.table.clone()).or_default().extend(rows);
            }
        }
    }

    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        [&self.inserted, &self.overwritten, &self.removed].iter().all(|list| list.values().all(BTreeSet::is_empty))
    }
}

/// A table with rows to insert, and where they go.
struct Target<'a> {
    about: &'a SalvagedTable,
    there: Table,
    root: u32,
    /// The temporary table.
    rows: String,
    /// Its columns with those of the table, and how those are written as types: without a limit, and with it.
    pairs: Vec<Pair>,
    /// Indexes of the pairs that tell rows apart.
    key: Vec<usize>,
    /// Indexes of the pairs that are set when all of a circle is there.
    late: Vec<usize>,
    /// Its rows as they were in the backup, where they are kept.
    then: Option<overwrite::Then>,
    done: BroughtBackTable,
}

struct Pair {
    from: String,
    to: String,
    base: String,
    full: String,
}

impl Pair {
    fn value(&self) -> String {
        self.value_in("s")
    }

    fn value_in(&self, alias: &str) -> String {
        format!("{alias}.{}::{}", self.from, self.base)
    }

    fn is_same(&self) -> String {
        self.is_same_in("s")
    }

    fn is_same_in(&self, alias: &str) -> String {
        format!("t.{}::text IS NOT DISTINCT FROM ({}::{})::text", self.to, self.value_in(alias), self.full)
    }
}

impl Target<'_> {
    fn title(&self) -> &str {
        &self.about.table
    }

    /// A row of the table is that of the file.
    fn matches(&self) -> String {
        let key = |place: &usize| format!("t.{} = {}", self.pairs[*place].to, self.pairs[*place].value());
        if self.key.is_empty() { self.is_same() } else { self.key.iter().map(key).collect::<Vec<_>>().join(" AND ") }
    }

    fn is_same(&self) -> String {
        let same: Vec<String> = self.pairs.iter().map(Pair::is_same).collect();
        if same.is_empty() { "true".into() } else { same.join(" AND ") }
    }

    /// What tells a row apart, for people.
    fn name(&self) -> String {
        name_of(&self.pairs, &self.key)
    }
}

fn name_of(pairs: &[Pair], key: &[usize]) -> String {
    let places: Vec<usize> = if key.is_empty() { (0..pairs.len()).collect() } else { key.to_vec() };
    let part = |place: &usize| {
        let pair = &pairs[*place];
        format!("{} || COALESCE(s.{}, 'null')", literal(&format!("{}=", pair.to)), pair.from)
    };
    let parts: Vec<String> = places.iter().map(part).collect();
    if parts.is_empty() { "''".into() } else { parts.join(" || ', ' || ") }
}

/// Brings rows back. `before_commit` is told what was inserted, and ends all of it with an error.
///
/// # Errors
/// [`PgError::Refused`], when it is not about single rows; [`PgError::Ours`]. Nothing was changed then.
pub fn bring_back(
    session: &mut Session,
    what: &BringBack<'_>,
    before_commit: &mut dyn FnMut(&BroughtBack) -> io::Result<()>,
) -> Result<BroughtBack, PgError> {
    // Whoever holds a table for long is not kept waiting behind us for longer than that.
    session.run("BEGIN; SET LOCAL lock_timeout = '10s'")?;
    let worked = in_transaction(session, what).and_then(|done| {
        if what.trial {
            return Ok(done);
        }
        let told = before_commit(&done);
        told.map_err(|source| PgError::Ours { doing: "write down what was inserted".into(), source })?;
        Ok(done)
    });
    match worked {
        Ok(done) if !what.trial => session.run("COMMIT").map(|()| done),
        other => {
            // Nothing of it stays; when the connection is gone, the server sees to that.
            let _ = session.run("ROLLBACK");
            other
        }
    }
}

fn in_transaction(session: &mut Session, what: &BringBack<'_>) -> Result<BroughtBack, PgError> {
    let mut done = BroughtBack::default();
    let mut targets = targets(session, what, &mut done)?;
    let edges = references(session, &targets)?;
    let groups = in_order(targets.len(), &edges.iter().map(|edge| (edge.child, edge.parent)).collect::<Vec<_>>());
    let triggers = silence(session, &targets, &mut done.notes)?;
    for group in &groups {
        let order = within(session, &mut targets, group, &edges)?;
        bring_group(session, &mut targets, &order)?;
    }
    for target in &mut targets {
        overwrite::write_over(session, target, what.overwrite)?;
    }
    for place in groups.iter().rev().flat_map(|group| group.iter().rev()) {
        overwrite::take_out(session, &mut targets[*place], what.deletes)?;
        overwrite::sum_up(session, &mut targets[*place])?;
    }
    for (table, trigger, how) in triggers {
        session.run(&format!("ALTER TABLE {table} {how} TRIGGER {trigger}"))?;
    }
    if !what.trial {
        for target in targets.iter().filter(|target| target.done.inserted > 0) {
            advance_sequences(session, target)?;
        }
    }
    for place in groups.into_iter().flatten() {
        done.tables.push(std::mem::take(&mut targets[place].done));
    }
    Ok(done)
}

/// The order within a circle: references that may be null are set later, those that may wait for the end do, and the
/// others say who comes first.
fn within(
    session: &mut Session,
    targets: &mut [Target<'_>],
    group: &[usize],
    edges: &[Edge],
) -> Result<Vec<usize>, PgError> {
    let mut hard = Vec::new();
    for edge in edges.iter().filter(|edge| group.contains(&edge.child) && group.contains(&edge.parent)) {
        if edge.deferrable {
            session.run(&format!("SET CONSTRAINTS {} DEFERRED", edge.name))?;
            continue;
        }
        let target = &mut targets[edge.child];
        let places = edge.columns.iter().filter_map(|name| target.pairs.iter().position(|pair| &pair.to == name));
        let places: Vec<usize> = places.filter(|place| edge.nullable && !target.key.contains(place)).collect();
        if target.key.is_empty() || places.is_empty() {
            hard.push((edge.child, edge.parent));
        } else {
            target.late.extend(places);
        }
    }
    let order = in_order(targets.len(), &hard).into_iter().flatten();
    Ok(order.filter(|place| group.contains(place)).collect())
}

/// The tables that are there, each with its rows in a temporary table; the others are told.
fn targets<'a>(
    session: &mut Session,
    what: &BringBack<'a>,
    done: &mut BroughtBack,
) -> Result<Vec<Target<'a>>, PgError> {
    let live: BTreeMap<String, Table> =
        catalog::tables(session, &Selection::default())?.into_iter().map(|table| (table.title(), table)).collect();
    let mut targets = Vec::new();
    for about in what.tables {
        let (changed, deleted) = (about.updated, about.deleted);
        let mut told = BroughtBackTable { table: about.table.clone(), changed, deleted, ..BroughtBackTable::default() };
        match (live.get(&about.table), about.now.as_ref().or(about.then.as_ref())) {
            (_, None) => done.tables.push(told),
            (Some(there), Some(_)) => {
                let number = targets.len();
                let target = load(session, what, (about, there.clone(), told), number)?;
                targets.push(target);
            }
            (None, Some(_)) => {
                told.unrepresentable = Some("there is no such table".into());
                told.refused_in_all = about.inserted;
                done.tables.push(told);
            }
        }
    }
    Ok(targets)
}

fn load<'a>(
    session: &mut Session,
    what: &BringBack<'a>,
    (about, there, mut told): (&'a SalvagedTable, Table, BroughtBackTable),
    number: usize,
) -> Result<Target<'a>, PgError> {
    let table = format!("lifeboat_rows_{number}");
    match &about.now {
        Some(file) => load_rows(session, what, &table, about.columns.len(), file)?,
        None => make_rows(session, &table, about.columns.len())?,
    }
    let rows = format!("pg_temp.{table}");
    let (pairs, gone) = pairs_of(session, what, &about.table, &there, &about.columns)?;
    for place in gone {
        let values = format!("SELECT count(c{place}) FROM {rows} WHERE kind = 'inserted'");
        let values = session.one(&values)?.count(0);
        told.left_out.extend((values > 0).then(|| (about.columns[place].clone(), values)));
    }
    let place = |column: &String| pairs.iter().position(|pair| &pair.to == column);
    let key = about.key.iter().map(place).collect::<Option<Vec<usize>>>().unwrap_or_default();
    let root = session.value(&format!("SELECT COALESCE(pg_catalog.pg_partition_root({0})::oid, {0})", there.oid))?;
    let root = root.parse().unwrap_or(there.oid);
    let mut target = Target { about, there, root, rows, pairs, key, late: Vec::new(), then: None, done: told };
    target.then = overwrite::load(session, what, &target, number)?;
    Ok(target)
}

/// A temporary table of texts, each row numbered.
fn make_rows(session: &mut Session, table: &str, columns: usize) -> Result<(), PgError> {
    let typed: String = (0..columns).map(|place| format!(", c{place} text")).collect();
    session.run(&format!(
        "CREATE TEMPORARY TABLE {table} (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text,
             copy bigint, state text, why text{typed}) ON COMMIT DROP"
    ))
}

/// The same with the rows of a file.
fn load_rows(
    session: &mut Session,
    what: &BringBack<'_>,
    table: &str,
    columns: usize,
    file: &str,
) -> Result<(), PgError> {
    make_rows(session, table, columns)?;
    let failed = |source| PgError::Ours { doing: format!("read {file}"), source };
    let mut source = (what.open)(file).map_err(failed)?;
    let names: String = (0..columns).map(|place| format!(", c{place}")).collect();
    session.copy_in(&format!("COPY pg_temp.{table} (kind, copy{names}) FROM STDIN"), &mut source, &|_| ())?;
    session.run(&format!("ANALYZE pg_temp.{table}"))
}

/// Columns of a file with those of the table that they belong to, and the places of those that belong to none.
fn pairs_of(
    session: &mut Session,
    what: &BringBack<'_>,
    title: &str,
    there: &Table,
    columns: &[String],
) -> Result<(Vec<Pair>, Vec<usize>), PgError> {
    let types = types(session, there)?;
    let (mut pairs, mut gone) = (Vec::new(), Vec::new());
    for (place, name) in columns.iter().enumerate() {
        let moved = what.moved.get(&format!("{title}.{name}")).map(|column| plain(column.trim_matches('"')));
        let to = if there.columns.contains(name) { Some(name.clone()) } else { moved };
        match to.filter(|to| there.columns.contains(to)) {
            Some(to) => {
                let (base, full) = types.get(&to).cloned().unwrap_or_default();
                pairs.push(Pair { from: format!("c{place}"), to, base, full });
            }
            None => gone.push(place),
        }
    }
    Ok((pairs, gone))
}

/// The types of a table's columns: without the limit that one may have, and with it.
pub(super) fn types(session: &mut Session, table: &Table) -> Result<BTreeMap<String, (String, String)>, PgError> {
    let rows = session.ask(&format!(
        "SELECT attname, pg_catalog.format_type(atttypid, -1), pg_catalog.format_type(atttypid, atttypmod)
           FROM pg_catalog.pg_attribute WHERE attrelid = {} AND attnum > 0 AND NOT attisdropped",
        table.oid
    ))?;
    let types = |row: &super::Row| (row.text(1).to_owned(), row.text(2).to_owned());
    Ok(rows.iter().map(|row| (plain(row.text(0)), types(row))).collect())
}

/// A reference between two tables that are brought back.
struct Edge {
    child: usize,
    parent: usize,
    name: String,
    columns: Vec<String>,
    nullable: bool,
    deferrable: bool,
}

fn references(session: &mut Session, targets: &[Target<'_>]) -> Result<Vec<Edge>, PgError> {
    let rows = session.ask(
        "SELECT c.conrelid, COALESCE(pg_catalog.pg_partition_root(c.confrelid)::oid, c.confrelid), n.nspname, c.conname,
                c.condeferrable,
                (SELECT pg_catalog.array_to_json(pg_catalog.array_agg(a.attname::pg_catalog.text))
                   FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)),
                (SELECT bool_and(NOT a.attnotnull)
                   FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey))
           FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
          WHERE c.contype = 'f'",
    )?;
    let mut edges = Vec::new();
    for row in &rows {
        let (child, parent) = (row.text(0).parse().unwrap_or(0_u32), row.text(1).parse().unwrap_or(0_u32));
        let columns: Vec<String> = serde_json::from_str(row.text(5)).unwrap_or_default();
        let children = targets.iter().enumerate().filter(|(_, target)| target.there.oid == child);
        for (child, _) in children {
            let parents = targets.iter().enumerate().filter(|(_, target)| target.root == parent);
            edges.extend(parents.map(|(parent, _)| Edge {
                child,
                parent,
                name: format!("{}.{}", quoted(row.text(2)), quoted(row.text(3))),
                columns: columns.iter().map(|name| plain(name)).collect(),
                nullable: row.is_true(6),
                deferrable: row.is_true(4),
            }));
        }
    }
    Ok(edges)
}

/// Groups of tables, parents first; those of one circle are together. `edges` lead from child to parent.
fn in_order(count: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut reaches = vec![vec![false; count]; count];
    for (child, parent) in edges {
        reaches[*child][*parent] = true;
    }
    for middle in 0..count {
        let onward = reaches[middle].clone();
        for row in reaches.iter_mut().filter(|row| row[middle]) {
            row.iter_mut().zip(&onward).for_each(|(mine, theirs)| *mine |= theirs);
        }
    }
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut placed = vec![false; count];
    while let Some(next) = (0..count).find(|&table| {
        let is_ready = |parent: usize| !reaches[table][parent] || reaches[parent][table] || placed[parent];
        !placed[table] && (0..count).all(is_ready)
    }) {
        let group: Vec<usize> =
            (0..count).filter(|&other| other == next || (reaches[next][other] && reaches[other][next])).collect();
        group.iter().for_each(|&table| placed[table] = true);
        groups.push(group);
    }
    groups
}

/// Keeps triggers from firing where we may; gives back how each is set again.
fn silence(
    session: &mut Session,
    targets: &[Target<'_>],
    notes: &mut Vec<String>,
) -> Result<Vec<(String, String, &'static str)>, PgError> {
    let mut silenced = Vec::new();
    for target in targets {
        let title = target.title();
        let triggers = session.ask(&format!(
            "SELECT tgname, tgenabled FROM pg_catalog.pg_trigger
              WHERE tgrelid = {} AND NOT tgisinternal AND tgenabled <> 'D' AND tgname NOT IN ({}, {})",
            target.there.oid,
            literal(FENCE_TRIGGER),
            literal(WATCH_TRIGGER)
        ))?;
        for row in &triggers {
            let name = quoted(row.text(0));
            session.run("SAVEPOINT lifeboat")?;
            match session.run(&format!("ALTER TABLE {title} DISABLE TRIGGER {name}")) {
                Ok(()) => {
                    session.run("RELEASE SAVEPOINT lifeboat")?;
                    let how = match row.text(1) {
                        "A" => "ENABLE ALWAYS",
                        "R" => "ENABLE REPLICA",
                        _ => "ENABLE",
                    };
                    silenced.push((title.to_owned(), name, how));
                }
                Err(error) if error.code() == Some("42501") => {
                    session.run("ROLLBACK TO SAVEPOINT lifeboat")?;
                    notes
                        .push(format!("The trigger {} of {title} fires: only its owner may turn it off.", row.text(0)));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(silenced)
}

/// Tables that do not refer to each other but through a circle.
fn bring_group(session: &mut Session, targets: &mut [Target<'_>], group: &[usize]) -> Result<(), PgError> {
    session.run("SAVEPOINT lifeboat_group")?;
    for &place in group {
        let target = &targets[place];
        classify(session, target)?;
        insert(session, target)?;
    }
    for &place in group {
        complete(session, &targets[place])?;
    }
    let circle = session.run("SET CONSTRAINTS ALL IMMEDIATE");
    if let Err(error) = circle {
        session.run("ROLLBACK TO SAVEPOINT lifeboat_group")?;
        for &place in group {
            let rows = &targets[place].rows;
            let why = literal(&reason(&error));
            session.run(&format!("UPDATE {rows} SET state = 'refused', why = {why} WHERE kind = 'inserted'"))?;
        }
    }
    session.run("RELEASE SAVEPOINT lifeboat_group")?;
    group.iter().try_for_each(|&place| sum_up(session, &mut targets[place]))
}

fn classify(session: &mut Session, target: &Target<'_>) -> Result<(), PgError> {
    let (title, matches, same) = (target.title(), target.matches(), target.is_same());
    // A number with fewer places, an instant with fewer digits: the server would shorten these without a word.
    let shortened: Vec<String> = target
        .pairs
        .iter()
        .filter(|pair| ["numeric", "timestamp", "time", "interval"].iter().any(|kind| pair.base.starts_with(kind)))
        .filter(|pair| pair.full != pair.base)
        .map(|pair| format!("({0}::{1}) IS DISTINCT FROM ({0})", pair.value(), pair.full))
        .collect();
    let shortened = if shortened.is_empty() { "false".to_owned() } else { shortened.join(" OR ") };
    let copies = match target.key.is_empty() {
        true => format!("(SELECT count(*) FROM ONLY {title} t WHERE {same}) >= s.copy"),
        false => format!("EXISTS (SELECT 1 FROM ONLY {title} t WHERE {matches} AND {same})"),
    };
    let taken = match target.key.is_empty() {
        true => "false".to_owned(),
        false => format!("EXISTS (SELECT 1 FROM ONLY {title} t WHERE {matches})"),
    };
    let update = |which: &str| {
        format!(
            "UPDATE {rows} s SET state = CASE WHEN {copies} THEN 'there' WHEN {taken} THEN 'refused'
                     WHEN {shortened} THEN 'refused' ELSE 'new' END,
                 why = CASE WHEN {copies} THEN NULL WHEN {taken} THEN 'its key is taken by a row with other values'
                     WHEN {shortened} THEN 'a value does not fit into its column' END
              WHERE s.kind = 'inserted' AND {which}",
            rows = target.rows
        )
    };
    all_or_each(session, &target.rows, "s.kind = 'inserted' AND s.state IS NULL", &update, None)
}

fn insert(session: &mut Session, target: &Target<'_>) -> Result<(), PgError> {
    let names: Vec<&str> = target.pairs.iter().map(|pair| pair.to.as_str()).collect();
    let values: Vec<String> = (0..target.pairs.len())
        .map(|place| match target.late.contains(&place) {
            true => format!("NULL::{}", target.pairs[place].base),
            false => target.pairs[place].value(),
        })
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let statement = |which: &str| {
        format!(
            "WITH done AS (INSERT INTO {title} ({names}) OVERRIDING SYSTEM VALUE
                 SELECT {values} FROM {rows} s WHERE s.state = 'new' AND {which} ORDER BY s.n RETURNING 1),
                  count AS (SELECT count(*) AS made FROM done)
             UPDATE {rows} s SET state = CASE
                    WHEN (SELECT made FROM count) = (SELECT count(*) FROM {rows} s WHERE s.state = 'new' AND {which})
                    THEN 'inserted' ELSE (1 / (SELECT made - made FROM count))::text END
              WHERE s.state = 'new' AND {which}",
            title = target.title(),
            names = names.join(", "),
            values = values.join(", "),
            rows = target.rows,
        )
    };
    all_or_each(session, &target.rows, "s.state = 'new'", &statement, None)
}

/// Sets references that had to wait.
fn complete(session: &mut Session, target: &Target<'_>) -> Result<(), PgError> {
    if target.late.is_empty() {
        return Ok(());
    }
    let (title, rows, matches) = (target.title(), &target.rows, target.matches());
    let pair = |place: &usize| &target.pairs[*place];
    let set: Vec<String> =
        target.late.iter().map(|place| format!("{} = {}", pair(place).to, pair(place).value())).collect();
    let any: Vec<String> = target.late.iter().map(|place| format!("s.{} IS NOT NULL", pair(place).from)).collect();
    let (set, any) = (set.join(", "), any.join(" OR "));
    let update = |which: &str| {
        format!(
            "UPDATE ONLY {title} t SET {set} FROM {rows} s WHERE s.state = 'inserted' AND ({any}) AND {matches} AND {which}"
        )
    };
    let take_out = |which: &str| format!("DELETE FROM ONLY {title} t USING {rows} s WHERE {matches} AND {which}");
    all_or_each(session, &target.rows, &format!("s.state = 'inserted' AND ({any})"), &update, Some(&take_out))
}

type Statement<'a> = &'a dyn Fn(&str) -> String;

/// Runs a statement for all rows; when it is refused, for each of them alone, and writes down why where it is refused.
fn all_or_each(
    session: &mut Session,
    rows: &str,
    candidates: &str,
    statement: Statement<'_>,
    instead: Option<Statement<'_>>,
) -> Result<(), PgError> {
    session.run("SAVEPOINT lifeboat")?;
    match session.run(&statement("true")) {
        Ok(()) => return session.run("RELEASE SAVEPOINT lifeboat"),
        Err(error) if is_about_a_row(&error) => session.run("ROLLBACK TO SAVEPOINT lifeboat")?,
        Err(error) => return Err(error),
    }
    let numbers = session.ask(&format!("SELECT s.n FROM {rows} s WHERE {candidates} ORDER BY s.n"))?;
    for number in numbers.iter().map(|row| row.count(0)) {
        let which = format!("s.n = {number}");
        session.run("SAVEPOINT lifeboat")?;
        match session.run(&statement(&which)) {
            Ok(()) => session.run("RELEASE SAVEPOINT lifeboat")?,
            Err(error) if is_about_a_row(&error) => {
                session.run("ROLLBACK TO SAVEPOINT lifeboat")?;
                if let Some(instead) = instead {
                    session.run(&instead(&which))?;
                }
                let why = literal(&reason(&error));
                session.run(&format!("UPDATE {rows} s SET state = 'refused', why = {why} WHERE {which}"))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the server refused a value or a row, so that the others may still go in.
fn is_about_a_row(error: &PgError) -> bool {
    error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23") || code == "P0001")
}

fn reason(error: &PgError) -> String {
    /// How the statement itself says that fewer rows went in than it gave: a trigger or a rule kept them out.
    const NOT_TAKEN: &str = "22012";
    let PgError::Refused { said, .. } = error else { return error.to_string() };
    if said.code == NOT_TAKEN {
        return "the table did not take it".into();
    }
    match &said.detail {
        Some(detail) => format!("{}: {detail}", said.message),
        None => said.message.clone(),
    }
}

fn sum_up(session: &mut Session, target: &mut Target<'_>) -> Result<(), PgError> {
    let rows = &target.rows;
    let counts = session.one(&format!(
        "SELECT count(*) FILTER (WHERE state = 'inserted'), count(*) FILTER (WHERE state = 'there'),
                count(*) FILTER (WHERE state IN ('refused', 'new')) FROM {rows} WHERE kind = 'inserted'"
    ))?;
    (target.done.inserted, target.done.there, target.done.refused_in_all) =
        (counts.count(0), counts.count(1), counts.count(2));
    let refused = session.ask(&format!(
        "SELECT {}, COALESCE(why, 'the table did not take it') FROM {rows} s
          WHERE state IN ('refused', 'new') AND kind = 'inserted' ORDER BY n LIMIT {REFUSED_TOLD_MAX}",
        target.name()
    ))?;
    let told = |row: &super::Row| RefusedRow { row: row.text(0).to_owned(), why: row.text(1).to_owned() };
    target.done.refused = refused.iter().map(told).collect();
    let numbers = session.ask(&format!("SELECT n FROM {rows} WHERE state = 'inserted' ORDER BY n"))?;
    target.done.rows = numbers.iter().map(|row| row.count(0)).collect();
    Ok(())
}

/// Sequences that give a table its numbers stand no lower than the greatest number in it.
fn advance_sequences(session: &mut Session, target: &Target<'_>) -> Result<(), PgError> {
    let title = target.title();
    for pair in &target.pairs {
        let name = pair.to.trim_matches('"').replace("\"\"", "\"");
        let sequence = format!("SELECT pg_catalog.pg_get_serial_sequence({}, {})", literal(title), literal(&name));
        let sequence = session.value(&sequence)?;
        if sequence.is_empty() {
            continue;
        }
        session.run(&format!(
            "SELECT pg_catalog.setval({}, m.most) FROM (SELECT max({}) AS most FROM ONLY {title}) m, {sequence} q
              WHERE m.most > q.last_value OR (m.most = q.last_value AND NOT q.is_called)",
            literal(&sequence),
            pair.to
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::in_order;

    #[test]
    fn parents_come_before_children_and_circles_together() {
        assert_eq!(in_order(3, &[(0, 1), (1, 2)]), [vec![2], vec![1], vec![0]]);
        assert_eq!(in_order(2, &[(0, 0)]), [vec![0], vec![1]]);
        assert_eq!(in_order(4, &[(0, 1), (1, 0), (2, 0), (1, 3)]), [vec![3], vec![0, 1], vec![2]]);
        assert_eq!(in_order(0, &[]), Vec::<Vec<usize>>::new());
    }
}
