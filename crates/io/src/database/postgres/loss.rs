//! What a rollback would drop: counted in a glance from the server's own counting of transactions, or row by row.

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
};

use lifeboat_model::{
    PostgresFacts,
    postgres::{Horizon, PgTableFacts},
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{PgError, Session, catalog, catalog::copy_target};

/// What became of a table's rows since a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowChanges {
    /// Rows that are new.
    pub inserted: u64,
    /// Rows that are other than they were.
    pub updated: u64,
    /// Rows that are gone.
    pub deleted: u64,
}

/// What a glance tells of a table: never less than there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// Rows that were inserted or updated since.
    pub touched: u64,
    /// Rows of the backup that are no longer as they were: updated or deleted since.
    pub outdated: u64,
}

/// Why a glance is not possible: the counting is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherLineage(pub String);

/// Whether the transactions of a database are still counted as when the backup was made: same cluster, same database,
/// same timeline, and not so far on that the numbers came round again.
///
/// # Errors
/// As [`Session::run`].
pub fn same_lineage(session: &mut Session, then: &Horizon) -> Result<Result<(), OtherLineage>, PgError> {
    const TRANSACTIONS_MAX: u64 = (1 << 31) - (1 << 20);
    let now = catalog::horizon(session)?;
    let other = |reason: &str| Ok(Err(OtherLineage(reason.to_owned())));
    if then.system_identifier.is_none() || now.system_identifier.is_none() {
        return other("the cluster's number is not known to this role");
    }
    if now.system_identifier != then.system_identifier {
        return other("it is another cluster");
    }
    if now.database_oid != then.database_oid {
        return other("the database was restored since");
    }
    if now.timeline != then.timeline {
        return other("the cluster was recovered or failed over since");
    }
    if now.xmin < then.xmin || now.xmin - then.xmin > TRANSACTIONS_MAX {
        return other("too many transactions have passed since");
    }
    Ok(Ok(()))
}

/// Counts, table by table, what was written since the backup, by one scan of the live database alone. Where a table was
/// loaded again since, all of its rows count. Call [`same_lineage`] first.
///
/// # Errors
/// As [`Session::run`].
pub fn glance(session: &mut Session, captured: &PostgresFacts) -> Result<BTreeMap<String, Glance>, PgError> {
    let xmin = captured.horizon.xmin & 0xffff_ffff;
    let mut all = BTreeMap::new();
    for (name, table) in &captured.tables {
        let there =
            session.value(&format!("SELECT pg_catalog.to_regclass({}) IS NOT NULL", super::sql::literal(name)))?;
        if there != "t" {
            all.insert(name.clone(), Glance { touched: 0, outdated: table.rows.rows });
            continue;
        }
        let condition = table.condition.as_deref().unwrap_or_default();
        let row = session.one(&format!(
            "SELECT count(*), count(*) FILTER (WHERE pg_catalog.age(x.w) <= pg_catalog.age('{xmin}'::pg_catalog.xid))
               FROM (SELECT xmin AS w FROM ONLY {name} {condition}) x"
        ))?;
        let (rows, touched) = (row.count(0), row.count(1));
        all.insert(name.clone(), Glance { touched, outdated: table.rows.rows.saturating_sub(rows - touched) });
    }
    Ok(all)
}

/// The rows of a table as 16 bytes each: a hash of the key, and one of all of it. Two of them are compared without
/// either table being there. Tables without a key are compared by whole rows, so that nothing counts as updated.
#[derive(Clone, Debug, Default)]
pub struct RowIndex {
    rows: Vec<(u64, u64)>,
    key: Vec<usize>,
    open: Vec<u8>,
}

impl RowIndex {
    /// An empty one for a table.
    pub fn new(table: &PgTableFacts) -> RowIndex {
        let place = |column: &String| table.columns.iter().position(|other| other == column);
        let key = table.key.iter().map(place).collect::<Option<Vec<usize>>>().unwrap_or_default();
        RowIndex { rows: Vec::with_capacity(table.rows.rows as usize), key, open: Vec::new() }
    }

    /// Takes the next bytes in COPY's text format.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if self.open.is_empty() {
                self.add(&rest[..end]);
            } else {
                let mut open = std::mem::take(&mut self.open);
                open.extend_from_slice(&rest[..end]);
                self.add(&open);
            }
            rest = &rest[end + 1..];
        }
        self.open.extend_from_slice(rest);
    }

    fn add(&mut self, row: &[u8]) {
        let whole = xxh3_128(row);
        let key = if self.key.is_empty() { (whole >> 64) as u64 } else { key_hash(row, &self.key) };
        self.rows.push((key, whole as u64));
    }

    /// Reads all of a table as a session sees it.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn read(session: &mut Session, title: &str, table: &PgTableFacts) -> Result<RowIndex, PgError> {
        let mut index = RowIndex::new(table);
        let source = match &table.condition {
            Some(condition) => format!("(SELECT {} FROM ONLY {title} {condition})", table.columns.join(", ")),
            None => copy_target(title, &table.columns),
        };
        session.copy_out(&format!("COPY {source} TO STDOUT"), |row| {
            index.take(row);
            Ok(())
        })?;
        Ok(index)
    }

    /// Reads a file of a backup.
    ///
    /// # Errors
    /// What lies beneath.
    pub fn read_part(&mut self, mut source: impl BufRead) -> io::Result<()> {
        loop {
            let bytes = source.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let length = bytes.len();
            self.take(bytes);
            source.consume(length);
        }
    }

    /// What was done to `self` to make it `now`. Both are sorted.
    pub fn changes(&mut self, now: &mut RowIndex) -> RowChanges {
        self.rows.sort_unstable();
        now.rows.sort_unstable();
        let mut changes = RowChanges::default();
        let (mut was, mut is) = (self.rows.iter().peekable(), now.rows.iter().peekable());
        loop {
            match (was.peek(), is.peek()) {
                (None, None) => return changes,
                (Some(a), Some(b)) if a == b => {
                    was.next();
                    is.next();
                }
                (Some(a), Some(b)) if a.0 == b.0 && !self.key.is_empty() => {
                    changes.updated += 1;
                    was.next();
                    is.next();
                }
                (Some(a), Some(b)) if a < b => {
                    changes.deleted += 1;
                    was.next();
                }
                (Some(_), None) => {
                    changes.deleted += 1;
                    was.next();
                }
                (_, Some(_)) => {
                    changes.inserted += 1;
                    is.next();
                }
            }
        }
    }

    /// Whether a row, without its newline, has no equal in this index, which [`RowIndex::changes`] has sorted: how the
    /// rows themselves are found in a second pass.
    pub fn lacks(&self, row: &[u8]) -> bool {
        let whole = xxh3_128(row);
        let key = if self.key.is_empty() { (whole >> 64) as u64 } else { key_hash(row, &self.key) };
        self.rows.binary_search(&(key, whole as u64)).is_err()
    }
}

/// A tab within a value is written as `\t`, so that each one that is there ends a field.
pub(super) fn key_hash(row: &[u8], key: &[usize]) -> u64 {
    let fields: Vec<&[u8]> = match key {
        [first] => row.split(|byte| *byte == b'\t').skip(*first).take(1).collect(),
        many => {
            let all: Vec<&[u8]> = row.split(|byte| *byte == b'\t').collect();
            many.iter().filter_map(|&place| all.get(place).copied()).collect()
        }
    };
    xxh3_64(&fields.join(&b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(key: &[&str], rows: &str) -> RowIndex {
        let table = PgTableFacts {
            columns: vec!["a".into(), "b".into()],
            key: key.iter().map(|column| (*column).to_owned()).collect(),
            ..PgTableFacts::default()
        };
        let mut index = RowIndex::new(&table);
        index.take(rows.as_bytes());
        index
    }

    #[test]
    fn rows_are_compared() {
        let changes = |key: &[&str], was: &str, is: &str| {
            let RowChanges { inserted, updated, deleted } = index(key, was).changes(&mut index(key, is));
            (inserted, updated, deleted)
        };
        assert_eq!(changes(&["a"], "1\tx\n2\ty\n3\tz\n", "4\tw\n2\tY\n1\tx\n"), (1, 1, 1));
        assert_eq!(changes(&[], "1\tx\n1\tx\n", "1\tx\n"), (0, 0, 1));
        assert_eq!(changes(&[], "1\tx\n", "1\ty\n"), (1, 0, 1));
        assert_eq!(changes(&["b", "a"], "1\tx\n", "1\tx\n"), (0, 0, 0));
        let mut was = index(&["a"], "1\tx\n2\ty\n");
        was.changes(&mut index(&["a"], ""));
        assert!(was.lacks(b"2\tz") && !was.lacks(b"2\ty"));
    }
}
