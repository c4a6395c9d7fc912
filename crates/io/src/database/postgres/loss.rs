//! What a rollback would drop, as a count, and whether rows can tell by themselves how old they are. Which rows they are is
//! found in `salvage.rs`.

use lifeboat_model::postgres::Horizon;
use memchr::memchr_iter;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::{PgError, Session, catalog};

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

/// Why they cannot: the counting is another one.
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

/// A hash of the fields of a row that tell rows apart.
/// A tab within a value is written as `\t`, so that each one that is there ends a field.
pub(super) fn key_hash(row: &[u8], key: &[usize]) -> u64 {
    if let (Some(&first), Some(&last)) = (key.first(), key.last())
        && key.windows(2).all(|pair| pair[1] == pair[0] + 1)
    {
        return XxHash3_64::oneshot(fields(row, first, last));
    }
    let all: Vec<&[u8]> = row.split(|byte| *byte == b'\t').collect();
    let fields: Vec<&[u8]> = key.iter().filter_map(|&place| all.get(place).copied()).collect();
    XxHash3_64::oneshot(&fields.join(&b'\t'))
}

/// The fields of a row from one place to another, as they lie beside each other; as many as there are.
fn fields(row: &[u8], first: usize, last: usize) -> &[u8] {
    let mut ends = memchr_iter(b'\t', row);
    let begin = match first {
        0 => 0,
        _ => ends.nth(first - 1).map_or(row.len(), |at| at + 1),
    };
    let end = ends.nth(last - first).unwrap_or(row.len());
    &row[begin..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_fields_wherever_they_are() {
        let row = b"7\tAnna\t\t2026";
        assert_eq!(fields(row, 0, 0), b"7");
        assert_eq!(fields(row, 1, 2), b"Anna\t");
        assert_eq!(fields(row, 3, 3), b"2026");
        assert_eq!(fields(row, 2, 9), b"\t2026");
        assert_eq!(fields(row, 9, 9), b"");
        assert_eq!(key_hash(row, &[0, 1]), XxHash3_64::oneshot(b"7\tAnna"));
        assert_eq!(key_hash(row, &[3, 0]), XxHash3_64::oneshot(b"2026\t7"));
    }
}
