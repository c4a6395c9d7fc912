//! A vault behind a line that breaks now and then: the tries hide it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

mod support;

use std::{sync::Arc, time::Duration};

use lifeboat_io::{
    Io, ObjectStore, Stop,
    objects::retry::{Retry, RetryPolicy},
    testing::{Fault, Faults, FaultyObjects, MemoryObjects},
};
use lifeboat_store::vault::{PruneOptions, Vault};
use support::{memory::*, *};

fn over_a_bad_line(memory: &Arc<MemoryObjects>, seed: u64, io: &Io) -> (Arc<FaultyObjects>, Arc<dyn ObjectStore>) {
    let faults = Faults { fail_before: 150, answer_lost: 200, short_list: 200, ..Faults::default() };
    let bad_line = Arc::new(FaultyObjects::new(memory.clone(), io.clock.clone(), seed, faults));
    let policy = RetryPolicy { tries_max: 20, total_limit: Duration::from_secs(600), ..RetryPolicy::default() };
    (bad_line.clone(), Arc::new(Retry::new(bad_line, io, &Stop::default(), policy)))
}

#[test]
fn a_line_that_breaks_now_and_then_is_not_noticed() {
    let mut fired = std::collections::BTreeMap::new();
    for seed in 0..3 {
        let context = format!("seed {seed}");
        let (io, _) = doors();
        let memory = Arc::new(MemoryObjects::new());
        let (bad_line, store) = over_a_bad_line(&memory, seed, &io);
        let vault = Vault::create(store, &password(), &io).unwrap();
        let mut contents = Contents::new();
        let snapshots: Vec<_> =
            (0..6).map(|seed| back_up(&vault, &[("x", &rows(seed, 200_000))], &mut contents).id).collect();
        vault.forget(&snapshots[..3]).unwrap();
        assert!(vault.prune(&PruneOptions::default()).unwrap().marked.count > 0, "{context}");
        assert_clean(&vault, &context);
        assert_eq!(assert_restores(&vault, &contents, &context).len(), 3);
        assert_eq!(without_locks(memory.all()), memory.all(), "{context}: every lock was given back");
        for (fault, count) in bad_line.fired() {
            *fired.entry(fault).or_insert(0) += count;
        }
    }
    for fault in [Fault::FailBefore, Fault::AnswerLost, Fault::ShortList] {
        assert!(fired.contains_key(&fault), "{fault:?} never happened: {fired:?}");
    }
}
