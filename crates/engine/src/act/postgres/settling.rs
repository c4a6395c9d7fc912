//! Rows that were written to in the last moment before a swap, put into the files of their tables when nobody waits any more:
//! now it is read in the backup what they were then, and what the first look had said of them goes.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
};

use lifeboat_io::{
    database::postgres::{self, ChangedTable, KeepRows, RowChanges, Sources},
    files,
};
use lifeboat_model::{Failure, FailureKind, PostgresFacts, RowKind, Salvage, SalvagedTable};

use super::{
    super::errors::{path_failure, postgres_failure},
    keeping::{Keeping, LATE, LATE_ROWS, Late, each_line, kept_row, tidy_up, understood},
};

/// Whether there is something of the last moment.
pub fn is_late(folder: &Path) -> bool {
    files::exists(&folder.join(LATE))
}

/// Puts it where it belongs. Repeated, it comes to the same.
pub fn settle(
    folder: &Path,
    owner_columns: &[String],
    facts: &PostgresFacts,
    sources: &dyn Sources,
) -> Result<Salvage, Failure> {
    let mut late: Late = understood(&folder.join(LATE))?;
    let mut changed = std::mem::take(&mut late.changed);
    let all = read_rows(folder, &late.late).map_err(|error| not_read(&error))?;
    let mut keeping = Keeping::of_late(folder, owner_columns, &mut late);
    for (table, written) in late.late.iter().zip(all) {
        let title = &table.title;
        let then = facts
            .tables
            .get(title)
            .ok_or_else(|| Failure::new(FailureKind::Damaged, format!("the backup has no table {title} any more")))?;
        let keys: HashSet<Vec<u8>> = written.keys().cloned().collect();
        let was = postgres::then_of(sources, then, &keys).map_err(|error| postgres_failure(&error))?;
        let before = keeping.tables.iter().find(|kept| &kept.table == title).cloned().unwrap_or_default();
        set_aside(folder, &before)?;
        let exact = one(&mut keeping, table, &before, &written, &was).map_err(|error| not_read(&error))?;
        changed.retain(|table| &table.title != title);
        changed.extend((exact.changes != RowChanges::default()).then_some(exact));
    }
    changed.sort_by(|one, other| one.title.cmp(&other.title));
    let salvage = keeping.finish(late.salvage, &changed)?;
    for path in files::list_folder(folder).map_err(|error| path_failure(&error))? {
        if path.extension().is_some_and(|end| end == "was") {
            files::remove_any(&path).map_err(|error| path_failure(&error))?;
        }
    }
    tidy_up(folder)?;
    Ok(salvage)
}

/// What the first look has written of a table gets other names, unless an earlier try has done that.
fn set_aside(folder: &Path, table: &SalvagedTable) -> Result<(), Failure> {
    let names = [&table.csv, &table.now, &table.then].into_iter().flatten();
    names.into_iter().try_for_each(|name| {
        let (path, was) = (folder.join(name), folder.join(format!("{name}.was")));
        match files::exists(&was) || !files::exists(&path) {
            true => Ok(()),
            false => files::rename_file(&path, &was).map_err(|error| path_failure(&error)),
        }
    })
}

fn not_read(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Outside, "rows that are kept cannot be put together").because(error.to_string())
}

/// Rows by their keys, as they are now; nothing where there is none any more.
type Written = HashMap<Vec<u8>, Option<Vec<u8>>>;

fn read_rows(folder: &Path, tables: &[ChangedTable]) -> io::Result<Vec<Written>> {
    let mut all: Vec<Written> = Vec::new();
    each_line(folder, Some(&LATE_ROWS.to_owned()), |line| {
        let rest = line.get(2..).unwrap_or_default();
        match (line.first(), all.len().checked_sub(1)) {
            (Some(b'T'), _) => all.push(Written::new()),
            (Some(b'K'), Some(at)) => drop(all[at].entry(rest.to_vec()).or_default()),
            (Some(b'R'), Some(at)) => {
                let places = postgres::key_places(&tables[at].columns, &tables[at].key);
                all[at].insert(postgres::key_of(rest, &places), Some(rest.to_vec()));
            }
            _ => return Err(io::Error::other("a line that is none of ours")),
        }
        Ok(())
    })?;
    Ok(all)
}

/// Rows that the first look has written down and that nobody wrote to since.
struct Others<'a> {
    folder: &'a Path,
    written: &'a Written,
    /// Where the key is in rows as they were last, and as they were in the backup.
    places: [Vec<usize>; 2],
}

/// Takes rows of a file: kind, which of several equal ones, row.
type TakeRow<'a> = &'a mut dyn FnMut(RowKind, u64, &[u8]) -> io::Result<()>;

impl Others<'_> {
    fn each(&self, name: Option<&String>, take: TakeRow<'_>) -> io::Result<()> {
        let was = name.map(|name| format!("{name}.was"));
        each_line(self.folder, was.as_ref(), |line| {
            let Some((kind, copy, row)) = kept_row(line) else { return Ok(()) };
            let key = postgres::key_of(row, &self.places[usize::from(!kind.is_now())]);
            if self.written.contains_key(&key) { Ok(()) } else { take(kind, copy, row) }
        })
    }
}

/// What became of the rows that were written to.
fn told_anew<'a>(written: &'a Written, was: &'a HashMap<Vec<u8>, Vec<u8>>) -> Vec<(RowKind, &'a Vec<u8>)> {
    let mut anew = Vec::new();
    for (key, now) in written {
        match (was.get(key), now) {
            (None, Some(now)) => anew.push((RowKind::Inserted, now)),
            (Some(then), Some(now)) if then != now => anew.extend([(RowKind::Updated, now), (RowKind::Before, then)]),
            (Some(then), None) => anew.push((RowKind::Deleted, then)),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    anew.sort();
    anew
}

fn count(changes: &mut RowChanges, kind: RowKind) {
    match kind {
        RowKind::Inserted => changes.inserted += 1,
        RowKind::Updated => changes.updated += 1,
        RowKind::Deleted => changes.deleted += 1,
        RowKind::Before => {}
    }
}

/// One table: what was found of other rows stays, those that were written to are told anew.
fn one(
    keeping: &mut Keeping,
    table: &ChangedTable,
    before: &SalvagedTable,
    written: &Written,
    was: &HashMap<Vec<u8>, Vec<u8>>,
) -> io::Result<ChangedTable> {
    let folder = keeping.folder.clone();
    let places = [&table.columns, &table.columns_then].map(|columns| postgres::key_places(columns, &table.key));
    let others = Others { folder: &folder, written, places };
    let mut exact = ChangedTable { changes: RowChanges::default(), ..table.clone() };
    for name in [&before.now, &before.then] {
        others.each(name.as_ref(), &mut |kind, _, _| {
            count(&mut exact.changes, kind);
            Ok(())
        })?;
    }
    let anew = told_anew(written, was);
    anew.iter().for_each(|(kind, _)| count(&mut exact.changes, *kind));
    keeping.drop_table(&table.title);
    if exact.changes == RowChanges::default() {
        return Ok(exact);
    }
    keeping.begin(&exact)?;
    for (name, is_now) in [(&before.now, true), (&before.then, false)] {
        others.each(name.as_ref(), &mut |kind, copy, row| keeping.row(kind, copy, row))?;
        let mut mine = anew.iter().filter(|(kind, _)| kind.is_now() == is_now);
        mine.try_for_each(|(kind, row)| keeping.row(*kind, 1, row))?;
    }
    KeepRows::end(keeping)?;
    Ok(exact)
}

/// What a first look needed is not needed any more.
pub fn forget_first_look(folder: &Path) -> Result<(), Failure> {
    match files::exists(folder) {
        true => tidy_up(folder),
        false => Ok(()),
    }
}

/// The number of rows in all, for a sentence.
pub fn told(salvage: &Salvage) -> String {
    let (inserted, updated, deleted) = salvage.counts();
    format!(
        "Rows that leave are kept: {inserted} inserted, {updated} updated, {deleted} deleted; lifeboat salvage list {}",
        salvage.operation
    )
}
