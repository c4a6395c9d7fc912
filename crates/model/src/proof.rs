//! Proofs: recorded restore tests. A backup is good when it has been restored somewhere and looked at.

use serde::{Deserialize, Serialize};

use crate::{
    check::{Check, Tri},
    id::{BackupId, OperationId, ProofId},
    predict::Prediction,
    resource::ResourceName,
    time::Timestamp,
};

/// How far a backup has been proven. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofLevel {
    /// Its bytes are in the vault.
    Stored,
    /// They decrypt, decompress and hash to their names.
    Readable,
    /// They came back as a file or a database.
    Restorable,
    /// The copy equals the manifest: structure, rows, digests.
    Consistent,
    /// The copy takes writes.
    Usable,
    /// The app starts on it.
    Boots,
}

impl ProofLevel {
    /// The level's word.
    pub fn word(self) -> &'static str {
        match self {
            ProofLevel::Stored => "stored",
            ProofLevel::Readable => "readable",
            ProofLevel::Restorable => "restorable",
            ProofLevel::Consistent => "consistent",
            ProofLevel::Usable => "usable",
            ProofLevel::Boots => "boots",
        }
    }
}

/// A recorded restore test of one resource in one backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Its name.
    pub id: ProofId,
    /// The backup that was tested.
    pub backup: BackupId,
    /// The resource that was tested.
    pub resource: ResourceName,
    /// The operation that did it.
    pub operation: OperationId,
    /// When it was done.
    pub at: Timestamp,
    /// The highest level at which every check passed.
    pub level: Option<ProofLevel>,
    /// The worst of all checks.
    pub outcome: Tri,
    /// How long bringing the data back took, in milliseconds. Predictions come from this.
    pub restore_ms: u64,
    /// How long that was said to take, before it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_expected: Option<Prediction>,
    /// How long looking at it took, in milliseconds.
    pub check_ms: u64,
    /// Bytes that were restored.
    pub bytes: u64,
    /// Everything that was looked at, with the level it counts for.
    pub checks: Vec<(ProofLevel, Check)>,
}

/// The highest level up to which every check passed, without a gap; nothing when not even the first did.
pub fn level_reached(checks: &[(ProofLevel, Check)]) -> Option<ProofLevel> {
    use ProofLevel as L;
    let mut reached = None;
    for level in [L::Stored, L::Readable, L::Restorable, L::Consistent, L::Usable, L::Boots] {
        let mine = checks.iter().filter(|(of, _)| *of == level).map(|(_, check)| check.outcome);
        if Tri::worst(mine) != Tri::Pass {
            break;
        }
        reached = Some(level);
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_reached_only_when_all_below_it_are_and_unknown_stops_it() {
        let check = |level, outcome| (level, Check::new("x", outcome, ""));
        use ProofLevel as L;
        let cases: Vec<(Vec<_>, Option<L>)> = vec![
            (vec![], None),
            (vec![check(L::Stored, Tri::Pass)], Some(L::Stored)),
            (vec![check(L::Stored, Tri::Pass), check(L::Restorable, Tri::Pass)], Some(L::Stored)),
            (vec![check(L::Stored, Tri::Pass), check(L::Readable, Tri::Unknown)], Some(L::Stored)),
            (
                vec![check(L::Stored, Tri::Pass), check(L::Readable, Tri::Pass), check(L::Readable, Tri::Fail)],
                Some(L::Stored),
            ),
        ];
        for (checks, reached) in cases {
            assert_eq!(level_reached(&checks), reached);
        }
    }
}
