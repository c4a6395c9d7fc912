//! The decision: what becomes of each pack. Values in, a value out.

use std::collections::{HashMap, HashSet};

use lifeboat_model::Timestamp;

use super::{
    PruneOptions, PruneReport,
    facts::{Facts, PackFacts, Standing},
};
use crate::vault::{BlobKind, Id, Tally, VaultError};

/// What becomes of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// In use, and stays.
    Keep,
    /// What is needed of it goes into a new pack; then it is marked.
    Repack,
    /// Nobody needs it: it goes after the grace period.
    Mark,
    /// It is marked, and its grace period has not ended.
    Wait,
    /// It is marked, and needed after all.
    Revive,
    /// It is marked, and its grace period has ended.
    Delete,
    /// It is not there, and nothing is lost with it: the index forgets it.
    Drop,
}

/// What will be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// Of each pack, in the facts' order.
    pub fates: Vec<Fate>,
    /// Where each needed blob is taken from: pack, and place in it.
    needed: HashSet<(usize, usize)>,
    /// The same in numbers.
    pub report: PruneReport,
    several_index_files: bool,
}

impl Plan {
    /// Whether a blob is needed from this very place.
    pub fn is_needed(&self, pack: usize, place: usize) -> bool {
        self.needed.contains(&(pack, place))
    }

    /// Whether there is anything to do. Otherwise nothing is written.
    pub fn changes_something(&self) -> bool {
        let at_rest = |fate: &Fate| matches!(fate, Fate::Keep | Fate::Wait);
        self.several_index_files || !self.fates.iter().all(at_rest)
    }
}

/// What is needed of a pack.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    used: u64,
    unused: Tally,
}

/// Decides. A needed blob that no good pack has is an error.
pub(super) fn plan(facts: &Facts, options: &PruneOptions) -> Result<Plan, VaultError> {
    let needed = choose_places(facts)?;
    let uses: Vec<Use> = (0..facts.packs.len()).map(|number| use_of(facts, &needed, number)).collect();
    let mut fates: Vec<Fate> =
        facts.packs.iter().zip(&uses).map(|(pack, its)| fate(pack, its.used > 0, facts.now, options)).collect();
    choose_repacks(facts, &uses, &mut fates, options);
    let report = count(facts, &uses, &fates);
    // Many small files, as each backup leaves one, are made one; a few are left in peace.
    let several_index_files = facts.index_files.len() > 8 + facts.needed.len() / 5_000;
    Ok(Plan { fates, needed, report, several_index_files })
}

/// For each needed blob one good place: in a pack that is live rather than marked, and the one with most else to keep.
fn choose_places(facts: &Facts) -> Result<HashSet<(usize, usize)>, VaultError> {
    let mut places: HashMap<(BlobKind, Id), Vec<(usize, usize)>> = HashMap::new();
    for (number, pack) in facts.packs.iter().enumerate().filter(|(_, pack)| pack.is_good()) {
        for (place, blob) in pack.blobs.iter().enumerate() {
            if facts.needed.contains(&(blob.kind, blob.id)) {
                places.entry((blob.kind, blob.id)).or_default().push((number, place));
            }
        }
    }
    let absent = facts.needed.iter().filter(|blob| !places.contains_key(blob)).min_by_key(|(_, id)| *id);
    if let Some((kind, id)) = absent {
        return Err(VaultError::Missing { object: format!("{} blob {id}", kind.word()) });
    }
    let mut only_here: Vec<u64> = vec![0; facts.packs.len()];
    for its in places.values().filter(|its| its.len() == 1) {
        only_here[its[0].0] += 1;
    }
    let rank = |&(number, place): &(usize, usize)| {
        let live = facts.packs[number].standing == Standing::Live;
        // Of equals the first, so that the same facts give the same plan.
        (live, only_here[number], std::cmp::Reverse((number, place)))
    };
    Ok(places.into_values().filter_map(|its| its.into_iter().max_by_key(rank)).collect())
}

fn use_of(facts: &Facts, needed: &HashSet<(usize, usize)>, number: usize) -> Use {
    let mut its = Use::default();
    for (place, blob) in facts.packs[number].blobs.iter().enumerate() {
        match needed.contains(&(number, place)) {
            true => its.used += u64::from(blob.length),
            false => its.unused.add(blob.length.into()),
        }
    }
    its
}

fn fate(pack: &PackFacts, is_used: bool, now: Timestamp, options: &PruneOptions) -> Fate {
    match (pack.standing, is_used) {
        _ if pack.size.is_none() => Fate::Drop,
        (Standing::Live, true) => Fate::Keep,
        (Standing::Live | Standing::Unindexed, _) => Fate::Mark,
        (Standing::Marked, true) => Fate::Revive,
        (Standing::Marked, false) => {
            let age = pack.marked_at.map(|marked_at| now.duration_since(marked_at));
            let grace = jiff::SignedDuration::try_from(options.grace).unwrap_or(jiff::SignedDuration::MAX);
            if age.is_some_and(|age| age >= grace) { Fate::Delete } else { Fate::Wait }
        }
    }
}

/// Repacks the packs with the largest share of waste, until what stays is little enough.
fn choose_repacks(facts: &Facts, uses: &[Use], fates: &mut [Fate], options: &PruneOptions) {
    let mut wasteful: Vec<usize> =
        (0..fates.len()).filter(|&number| fates[number] == Fate::Keep && uses[number].unused.bytes > 0).collect();
    // a/b < c/d without fractions; ties by name, so that the same facts give the same plan.
    wasteful.sort_by(|&a, &b| {
        let (left, right) = (uses[a], uses[b]);
        let left_share = u128::from(left.unused.bytes) * u128::from(right.used + right.unused.bytes);
        let right_share = u128::from(right.unused.bytes) * u128::from(left.used + left.unused.bytes);
        right_share.cmp(&left_share).then(facts.packs[a].id.cmp(&facts.packs[b].id))
    });
    let used: u64 = uses.iter().map(|its| its.used).sum();
    let unused_max = used / 100 * u64::from(options.unused_percent_max);
    let mut unused: u64 = wasteful.iter().map(|&number| uses[number].unused.bytes).sum();
    for number in wasteful {
        if unused <= unused_max {
            return;
        }
        unused -= uses[number].unused.bytes;
        fates[number] = Fate::Repack;
    }
}

fn count(facts: &Facts, uses: &[Use], fates: &[Fate]) -> PruneReport {
    let mut report = PruneReport { snapshots: facts.snapshots, ..PruneReport::default() };
    report.used_blobs.count = facts.needed.len() as u64;
    for ((pack, its), fate) in facts.packs.iter().zip(uses).zip(fates) {
        let bytes = pack.size.unwrap_or(0);
        report.used_blobs.bytes += its.used;
        match fate {
            Fate::Keep => report.kept.add(bytes),
            Fate::Repack => {
                report.repacked.add(bytes);
                report.marked.add(bytes);
            }
            Fate::Mark => report.marked.add(bytes),
            Fate::Wait => report.waiting.add(bytes),
            Fate::Revive => report.revived.add(bytes),
            Fate::Delete => report.deleted.add(bytes),
            Fate::Drop => {}
        }
        if matches!(fate, Fate::Keep | Fate::Revive) {
            report.unused_blobs_kept.count += its.unused.count;
            report.unused_blobs_kept.bytes += its.unused.bytes;
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::pack::PackedBlob;

    const NOW: &str = "2026-11-20T12:00:00Z";

    fn id(number: u8) -> Id {
        Id([number; 32])
    }

    /// A pack of data blobs, each of 1000 bytes.
    fn pack(number: u8, standing: Standing, blobs: &[u8]) -> PackFacts {
        let blob = |(place, &number): (usize, &u8)| PackedBlob {
            kind: BlobKind::Data,
            id: id(number),
            offset: place as u32 * 1000,
            length: 1000,
            plain_length: 0,
        };
        let blobs: Vec<PackedBlob> = blobs.iter().enumerate().map(blob).collect();
        let bytes = 1000 * blobs.len() as u64 + 100;
        let expected = (standing != Standing::Unindexed).then_some(bytes);
        PackFacts { id: id(100 + number), standing, marked_at: None, blobs, size: Some(bytes), expected }
    }

    fn marked(number: u8, blobs: &[u8], at: &str) -> PackFacts {
        PackFacts { marked_at: Some(at.parse().unwrap()), ..pack(number, Standing::Marked, blobs) }
    }

    fn facts(packs: Vec<PackFacts>, needed: &[u8]) -> Facts {
        Facts {
            now: NOW.parse().unwrap(),
            snapshots: 1,
            needed: needed.iter().map(|&number| (BlobKind::Data, id(number))).collect(),
            packs,
            index_files: vec![id(200)],
        }
    }

    fn check(packs: Vec<PackFacts>, needed: &[u8], expected: &[Fate]) -> Plan {
        let plan = plan(&facts(packs, needed), &PruneOptions::default()).unwrap();
        assert_eq!(plan.fates, expected);
        plan
    }

    #[test]
    fn packs_in_use_stay_and_others_are_marked() {
        let packs =
            vec![pack(0, Standing::Live, &[1, 2]), pack(1, Standing::Live, &[3]), pack(2, Standing::Unindexed, &[])];
        let plan = check(packs, &[1, 2], &[Fate::Keep, Fate::Mark, Fate::Mark]);
        assert_eq!(plan.report.kept, Tally { count: 1, bytes: 2100 });
        assert_eq!(plan.report.marked, Tally { count: 2, bytes: 1200 });
        assert_eq!(plan.report.used_blobs, Tally { count: 2, bytes: 2000 });
        assert!(plan.changes_something());
        assert!(!check(vec![pack(0, Standing::Live, &[1])], &[1], &[Fate::Keep]).changes_something());
    }

    #[test]
    fn marked_packs_go_after_the_grace_period_and_come_back_when_needed() {
        let packs = vec![
            marked(0, &[1], "2026-11-19T12:00:00Z"),
            marked(1, &[2], "2026-11-19T12:00:01Z"),
            marked(2, &[3], "2026-11-01T00:00:00Z"),
            marked(3, &[4], "2027-01-01T00:00:00Z"), // by a clock that was wrong
            PackFacts { marked_at: None, ..marked(4, &[5], NOW) },
        ];
        check(packs, &[3], &[Fate::Delete, Fate::Wait, Fate::Revive, Fate::Wait, Fate::Wait]);
    }

    #[test]
    fn a_marked_pack_is_not_revived_for_what_a_live_one_has() {
        let packs = vec![marked(0, &[1, 2, 3], "2026-11-01T00:00:00Z"), pack(1, Standing::Live, &[1])];
        check(packs, &[1], &[Fate::Delete, Fate::Keep]);
    }

    #[test]
    fn of_doubles_one_is_kept_where_more_is_kept_anyway() {
        let packs =
            vec![pack(0, Standing::Live, &[1]), pack(1, Standing::Live, &[1, 2]), pack(2, Standing::Live, &[1])];
        let plan = check(packs, &[1, 2], &[Fate::Mark, Fate::Keep, Fate::Mark]);
        assert!(plan.is_needed(1, 0) && plan.is_needed(1, 1) && !plan.is_needed(0, 0));
    }

    #[test]
    fn a_pack_that_is_gone_or_cut_off_holds_nothing() {
        let gone = PackFacts { size: None, ..pack(0, Standing::Live, &[1]) };
        let cut_off = PackFacts { size: Some(7), ..pack(1, Standing::Live, &[1]) };
        let good = pack(2, Standing::Live, &[1]);
        check(vec![gone.clone(), cut_off.clone(), good], &[1], &[Fate::Drop, Fate::Mark, Fate::Keep]);
        let error = plan(&facts(vec![gone, cut_off], &[1]), &PruneOptions::default()).unwrap_err();
        assert!(matches!(&error, VaultError::Missing { object } if object.contains("data blob 0101")), "{error:?}");
    }

    #[test]
    fn the_most_wasteful_packs_are_repacked_until_little_waste_is_left() {
        let packs = || {
            let many: Vec<u8> = (1..=40).collect();
            vec![
                pack(0, Standing::Live, &many),         // no waste
                pack(1, Standing::Live, &[61, 62, 63]), // one third is used
                pack(2, Standing::Live, &[64, 65, 66]), // two thirds are
            ]
        };
        let needed: Vec<u8> = (1..=40).chain([61, 64, 65]).collect();
        let plan = check(packs(), &needed, &[Fate::Keep, Fate::Repack, Fate::Keep]);
        assert_eq!(plan.report.unused_blobs_kept, Tally { count: 1, bytes: 1000 });
        assert_eq!(plan.report.repacked, plan.report.marked);
        let strict = PruneOptions { unused_percent_max: 0, ..PruneOptions::default() };
        let plan = super::plan(&facts(packs(), &needed), &strict).unwrap();
        assert_eq!(plan.fates, [Fate::Keep, Fate::Repack, Fate::Repack]);
    }
}
