//! What every object store must do. Run for each driver, the twin included.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::objects::{ObjectErrorKind, ObjectInfo, ObjectStore};

/// Runs the suite; `make` gives a new, empty store each time. Panics at the first thing that is not as it must be.
pub fn conform_objects(make: &dyn Fn() -> Arc<dyn ObjectStore>) {
    what_was_put_is_there(&*make());
    a_part_is_exactly_that_part(&*make());
    what_is_not_there_is_missing(&*make());
    the_first_of_a_name_stays(&*make());
    a_listing_is_whole(&*make());
    a_folder_is_no_beginning_of_a_name(&*make());
    deleted_is_gone(&*make());
    many_at_once_do_not_mix(&*make());
}

/// For stores whose conditional put is atomic: of many writers of one name exactly one wins, and its body is there.
pub fn conform_put_new_race(store: &dyn ObjectStore) {
    for round in 0..20 {
        let key = format!("locks/{round}");
        let write = |writer: u8| put_new(store, &key, &[writer; 1000]);
        let won: Vec<u8> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8).map(|writer| (writer, scope.spawn(move || write(writer)))).collect();
            writers.into_iter().filter_map(|(writer, thread)| thread.join().ok()?.then_some(writer)).collect()
        });
        assert_eq!(won.len(), 1, "round {round}: these all believe that they were first: {won:?}");
        assert_eq!(get(store, &key), vec![won[0]; 1000]);
    }
}

fn put(store: &dyn ObjectStore, key: &str, body: &[u8]) {
    store.put(key, Bytes::copy_from_slice(body)).unwrap_or_else(|error| panic!("put {key}: {error:?}"));
}

fn put_new(store: &dyn ObjectStore, key: &str, body: &[u8]) -> bool {
    store.put_new(key, Bytes::copy_from_slice(body)).unwrap_or_else(|error| panic!("put_new {key}: {error:?}"))
}

fn get(store: &dyn ObjectStore, key: &str) -> Bytes {
    store.get(key).unwrap_or_else(|error| panic!("get {key}: {error:?}"))
}

fn list(store: &dyn ObjectStore, prefix: &str) -> BTreeMap<String, u64> {
    let found = store.list(prefix).unwrap_or_else(|error| panic!("list {prefix:?}: {error:?}"));
    let count = found.len();
    let found: BTreeMap<_, _> = found.into_iter().map(|ObjectInfo { key, size }| (key, size)).collect();
    assert_eq!(found.len(), count, "an object is listed twice under {prefix:?}");
    found
}

fn keys(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    list(store, prefix).into_keys().collect()
}

/// Bytes without a pattern, so that a mixed-up piece is noticed.
fn body(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn what_was_put_is_there(store: &dyn ObjectStore) {
    for length in [0, 1, 4096, 5 << 20] {
        let key = format!("data/ab/{length}");
        put(store, &key, &body(length));
        assert!(get(store, &key) == body(length), "{length} bytes come back");
        assert_eq!(store.size(&key).unwrap_or_else(|error| panic!("{error:?}")), length as u64);
    }
    put(store, "config", b"one");
    put(store, "config", b"another");
    assert_eq!(get(store, "config"), "another", "a second put replaces the first");
}

fn a_part_is_exactly_that_part(store: &dyn ObjectStore) {
    let whole = body(100_000);
    put(store, "data/part", &whole);
    for range in [0..1, 0..100_000, 99_999..100_000, 5..5, 100_000..100_000, 17..70_001] {
        let part = store.get_range("data/part", range.clone()).unwrap_or_else(|error| panic!("{range:?}: {error:?}"));
        assert!(part == whole[range.start as usize..range.end as usize], "{range:?}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "damaged numbers give such ranges")]
    for range in
        [0..100_001, 99_999..100_001, 100_000..100_001, 100_001..100_001, 9..8, 1 << 50..(1 << 50) + 1, 0..u64::MAX]
    {
        match store.get_range("data/part", range.clone()) {
            Ok(part) => panic!("{range:?} of 100000 bytes gave {}", part.len()),
            Err(error) => assert_eq!(error.kind, ObjectErrorKind::Damaged, "{range:?}: {error:?}"),
        }
    }
}

fn what_is_not_there_is_missing(store: &dyn ObjectStore) {
    put(store, "data/there", b"x");
    let kind = |error: crate::ObjectError| error.kind;
    for key in ["data/other", "other", "data/there/deeper"] {
        let kinds = [store.get(key).map(drop), store.get_range(key, 0..1).map(drop), store.size(key).map(drop)];
        let kinds = kinds.map(|found| found.map_err(kind));
        assert_eq!(kinds, [Err(ObjectErrorKind::Missing); 3], "{key}");
        assert_eq!(store.get_range(key, 0..0).map(drop).map_err(kind), Err(ObjectErrorKind::Missing), "{key}");
    }
    assert_eq!(keys(store, "nothing/here"), [""; 0], "an empty folder is an empty listing");
}

fn the_first_of_a_name_stays(store: &dyn ObjectStore) {
    assert!(put_new(store, "locks/one", b"first"));
    assert!(!put_new(store, "locks/one", b"second"));
    assert_eq!(get(store, "locks/one"), "first");
    store.delete("locks/one").unwrap_or_else(|error| panic!("{error:?}"));
    assert!(put_new(store, "locks/one", b"third"), "a freed name can be taken again");
    assert_eq!(keys(store, ""), ["locks/one"], "nothing is left behind");
}

fn a_listing_is_whole(store: &dyn ObjectStore) {
    // More than the thousand that an S3 server puts on one page.
    let names: Vec<String> = (0..1050).map(|number| format!("index/{number:04}")).collect();
    std::thread::scope(|scope| {
        for part in names.chunks(300) {
            scope.spawn(move || part.iter().for_each(|name| put(store, name, name.as_bytes())));
        }
    });
    put(store, "snapshots/one", b"12345");
    let found = list(store, "index");
    assert!(found.keys().eq(&names), "{} of {} are listed", found.len(), names.len());
    assert!(found.values().all(|size| *size == 10));
    assert_eq!(list(store, "snapshots"), BTreeMap::from([("snapshots/one".to_owned(), 5)]));
    assert_eq!(list(store, "").len(), names.len() + 1);
}

fn a_folder_is_no_beginning_of_a_name(store: &dyn ObjectStore) {
    for key in ["data/a", "data/b/c", "database/x", "dat"] {
        put(store, key, b"x");
    }
    assert_eq!(keys(store, "data"), ["data/a", "data/b/c"]);
    assert_eq!(keys(store, "data/b"), ["data/b/c"]);
    assert_eq!(keys(store, "da"), [""; 0]);
}

fn deleted_is_gone(store: &dyn ObjectStore) {
    put(store, "data/a", b"x");
    put(store, "data/b", b"x");
    for _ in 0..2 {
        store.delete("data/a").unwrap_or_else(|error| panic!("deleting twice is fine: {error:?}"));
    }
    store.delete("never/was").unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(keys(store, ""), ["data/b"]);
}

fn many_at_once_do_not_mix(store: &dyn ObjectStore) {
    std::thread::scope(|scope| {
        for worker in 0..4_u8 {
            scope.spawn(move || {
                for number in 0..10 {
                    let key = format!("data/{worker}/{number}");
                    let body = vec![worker * 16 + number; 50_000 + usize::from(number)];
                    put(store, &key, &body);
                    assert!(get(store, &key) == body, "{key}");
                }
            });
        }
    });
    assert_eq!(list(store, "data").len(), 40);
}
