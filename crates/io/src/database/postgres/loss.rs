//! What a rollback would drop, as a count, and whether rows can tell by themselves how old they are. Which rows they are is
//! found in `salvage.rs`.

use lifeboat_model::postgres::Horizon;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

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
    let fields: Vec<&[u8]> = match key {
        [first] => row.split(|byte| *byte == b'\t').skip(*first).take(1).collect(),
        many => {
            let all: Vec<&[u8]> = row.split(|byte| *byte == b'\t').collect();
            many.iter().filter_map(|&place| all.get(place).copied()).collect()
        }
    };
    xxh3_64(&fields.join(&b'\t'))
}
