//! Failing on purpose: the tries hide what passes, and nothing else.

use std::{sync::Arc, time::Duration};

use lifeboat_io::{
    Clock, Io, ObjectErrorKind, ObjectStore, Stop,
    objects::retry::{Retry, RetryPolicy},
    testing::{Crash, Fault, Faults, FaultyObjects, ManualClock, MemoryObjects, conform_objects, twin_io},
};

struct World {
    clock: Arc<ManualClock>,
    io: Io,
    memory: Arc<MemoryObjects>,
    faulty: Arc<FaultyObjects>,
}

fn world(seed: u64, faults: Faults) -> World {
    let clock = Arc::new(ManualClock::default());
    let io = Io { clock: clock.clone(), ..twin_io() };
    let memory = Arc::new(MemoryObjects::new());
    let faulty = Arc::new(FaultyObjects::new(memory.clone(), clock.clone(), seed, faults));
    World { clock, io, memory, faulty }
}

impl World {
    fn retry(&self, tries_max: u32, stop: &Stop) -> Retry {
        let policy = RetryPolicy { tries_max, total_limit: Duration::from_secs(3600), ..RetryPolicy::default() };
        Retry::new(self.faulty.clone(), &self.io, stop, policy)
    }
}

/// The whole suite over a line that fails a quarter of the time and loses a quarter of the answers.
#[test]
fn a_bad_line_is_hidden_by_tries() {
    let fired = std::sync::Mutex::new(Vec::new());
    for seed in 0..3 {
        let faults = Faults { fail_before: 250, answer_lost: 250, short_list: 250, ..Faults::default() };
        conform_objects(&|| {
            let world = world(seed, faults.clone());
            fired.lock().unwrap().push(world.faulty.clone());
            Arc::new(world.retry(40, &Stop::default()))
        });
    }
    let fired = fired.into_inner().unwrap();
    for fault in [Fault::FailBefore, Fault::AnswerLost, Fault::ShortList] {
        let count: u64 = fired.iter().map(|store| store.fired().get(&fault).copied().unwrap_or_default()).sum();
        assert!(count > 0, "{fault:?} never happened");
    }
}

#[test]
fn a_seed_repeats_itself_and_another_differs() {
    let run = |seed| {
        let world = world(seed, Faults { fail_before: 300, answer_lost: 300, flipped_bit: 300, ..Faults::default() });
        let call = |number: u32| {
            let key = format!("data/{}", number % 7);
            let put = world.faulty.put(&key, vec![7; 40].into()).map_err(|error| error.source.to_string());
            (put, world.faulty.get(&key).map_err(|error| error.source.to_string()))
        };
        ((0..100).map(call).collect::<Vec<_>>(), world.faulty.fired())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert_eq!(run(1).1.len(), 3, "each of the three faults happened");
}

#[test]
fn one_bit_is_flipped_on_the_way_and_the_object_stays_as_it_is() {
    let world = world(5, Faults { flipped_bit: 1000, ..Faults::default() });
    let body = vec![0; 100];
    world.faulty.put("data/a", body.clone().into()).unwrap();
    let read = world.faulty.get("data/a").unwrap();
    assert_eq!(read.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(world.memory.get("data/a").unwrap(), body);
    assert_eq!(world.faulty.fired()[&Fault::FlippedBit], 1);
}

#[test]
fn a_full_disk_is_full_and_not_tried_again() {
    let world = world(0, Faults { full_after_bytes: Some(100), ..Faults::default() });
    let retry = world.retry(9, &Stop::default());
    retry.put("data/a", vec![0; 100].into()).unwrap();
    assert_eq!(retry.put("data/b", vec![0; 1].into()).unwrap_err().kind, ObjectErrorKind::Full);
    assert_eq!(world.faulty.mutations(), 2);
    assert!(world.clock.slept().is_empty());
}

#[test]
fn after_a_crash_nothing_works_and_what_was_done_is_there() {
    for (crash, there) in [(Crash::Before(1), vec!["a"]), (Crash::After(1), vec!["a", "b"])] {
        let world = world(0, Faults { crash: Some(crash), ..Faults::default() });
        world.faulty.put("a", "1".into()).unwrap();
        assert!(world.faulty.put("b", "2".into()).is_err());
        assert!(world.faulty.delete("a").is_err() && world.faulty.get("a").is_err());
        assert_eq!(world.memory.all().into_keys().collect::<Vec<_>>(), there, "{crash:?}");
    }
}

#[test]
fn slowness_passes_on_the_clock() {
    let slowness = Duration::from_secs(20);
    let world = world(0, Faults { slow: 1000, slowness, ..Faults::default() });
    world.faulty.put("a", "1".into()).unwrap();
    assert_eq!(world.clock.elapsed(), slowness);
    assert_eq!(world.faulty.fired()[&Fault::Slow], 1);
}

#[test]
fn tries_are_counted_and_their_pauses_grow() {
    let world = world(0, Faults { fail_before: 1000, ..Faults::default() });
    let error = world.retry(4, &Stop::default()).get("data/a").unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Temporary);
    assert_eq!(world.faulty.fired()[&Fault::FailBefore], 4);
    let slept = world.clock.slept();
    assert_eq!(slept.len(), 3);
    for (pause, whole) in slept.iter().zip([200, 400, 800]) {
        let whole = Duration::from_millis(whole);
        assert!((whole / 2..=whole).contains(pause), "{pause:?} of {whole:?}");
    }
}

#[test]
fn no_try_begins_after_the_limit_on_the_whole() {
    let world =
        world(0, Faults { fail_before: 1000, slow: 1000, slowness: Duration::from_secs(3), ..Faults::default() });
    let policy = RetryPolicy { tries_max: 100, ..RetryPolicy::default() };
    let retry = Retry::new(world.faulty.clone(), &world.io, &Stop::default(), policy);
    assert!(retry.size("data/a").is_err());
    assert!(world.clock.elapsed() <= policy.total_limit + Duration::from_secs(3), "{:?}", world.clock.elapsed());
    assert_eq!(world.faulty.fired()[&Fault::FailBefore], 3, "at 0, 3 and 6 seconds");
}

#[test]
fn breaking_off_ends_the_tries() {
    let world = world(0, Faults { fail_before: 1000, ..Faults::default() });
    let stop = Stop::default();
    stop.now();
    let error = world.retry(100, &stop).get("data/a").unwrap_err();
    assert_eq!(error.source.to_string(), "broken off on request");
    assert_eq!(world.faulty.fired()[&Fault::FailBefore], 1);
}

#[test]
fn what_will_not_pass_is_tried_once() {
    let world = world(0, Faults::default());
    assert_eq!(world.retry(9, &Stop::default()).get("nothing").unwrap_err().kind, ObjectErrorKind::Missing);
    assert!(world.clock.slept().is_empty());
}

#[test]
fn a_lost_answer_to_a_conditional_put_is_resolved_by_looking() {
    let mut lost = 0;
    for seed in 0..20 {
        let world = world(seed, Faults { answer_lost: 500, ..Faults::default() });
        let retry = world.retry(40, &Stop::default());
        assert!(retry.put_new("locks/a", "ours".into()).unwrap(), "seed {seed}: our own bytes are there");
        lost += world.faulty.fired().get(&Fault::AnswerLost).copied().unwrap_or_default();
        world.memory.put("locks/b", "theirs".into()).unwrap();
        assert!(!retry.put_new("locks/b", "ours".into()).unwrap(), "seed {seed}: somebody else's bytes are there");
        assert_eq!(world.memory.get("locks/b").unwrap(), "theirs");
    }
    assert!(lost > 5, "{lost}");
}
