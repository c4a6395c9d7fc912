//! One at a time, with a number that only grows and a note that others can read.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests watch the outside from outside")]

use std::time::Duration;

use lifeboat_io::{
    Stop,
    lease::{self, Claim, LockError},
    signals,
};
use lifeboat_model::Tri;

fn claim(why: &str) -> Claim {
    Claim {
        who: "ann".into(),
        host: "a1".into(),
        since: "2026-11-20T02:11:07Z".parse().unwrap(),
        operation: None,
        why: why.into(),
        makes_way: false,
    }
}

#[test]
fn the_second_is_told_about_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/inside/lock");
    assert_eq!(lease::read_note(&path).unwrap(), None);
    let lock = lease::take(&path, &claim("restore shop/production")).unwrap();
    let LockError::Held(held) = lease::take(&path, &claim("deploy")).unwrap_err() else { panic!("not held") };
    assert_eq!(held.note.as_ref(), Some(lock.note()));
    assert_eq!(held.alive, Tri::Pass);
    assert!(held.to_string().contains("for \"restore shop/production\"; process"), "{held}");
    assert_eq!(lease::read_note(&path).unwrap().as_ref(), Some(lock.note()));
}

#[test]
fn the_epoch_grows_by_one_with_each_grant_and_not_with_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    for epoch in 1..20 {
        let lock = lease::take(&path, &claim("work")).unwrap();
        assert_eq!(lock.epoch(), epoch);
        assert!(lease::take(&path, &claim("work")).is_err());
        assert_eq!(lease::read_note(&path).unwrap().unwrap().epoch, epoch, "on disk before it is used");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * 4096, "the file does not grow");
}

#[test]
fn of_many_that_want_it_at_once_one_gets_it_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let inside = std::sync::atomic::AtomicU32::new(0);
    let mut epochs: Vec<u64> = std::thread::scope(|scope| {
        let work = || {
            let mut epochs = Vec::new();
            while epochs.len() < 20 {
                let Ok(lock) = lease::take(&path, &claim("work")) else { continue };
                assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two at once");
                epochs.push(lock.epoch());
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            }
            epochs
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=80).collect::<Vec<u64>>());
}

#[test]
fn a_lock_on_a_deleted_file_is_known_to_be_worth_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let lock = lease::take(&path, &claim("work")).unwrap();
    assert!(lock.is_in_place().unwrap());
    std::fs::remove_file(&path).unwrap();
    assert!(!lock.is_in_place().unwrap());
}

#[test]
fn a_file_without_a_readable_epoch_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    std::fs::write(&path, vec![b'?'; 8192]).unwrap();
    let error = lease::take(&path, &claim("work")).unwrap_err();
    assert!(matches!(error, LockError::Damaged { .. }), "{error:?}");
}

#[test]
fn what_is_known_elsewhere_counts_only_when_the_file_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    std::fs::write(&path, vec![b'?'; 8192]).unwrap();
    assert!(lease::is_damaged(&path).unwrap());
    let lock = lease::take_after(&path, &claim("work"), &|| 41).unwrap();
    assert_eq!((lock.epoch(), lock.is_found_anew()), (42, true));
    drop(lock);
    assert!(!lease::is_damaged(&path).unwrap(), "one slot is whole again");
    let mut last = 42;
    for _ in 0..3 {
        let lock = lease::take_after(&path, &claim("work"), &|| panic!("asked elsewhere")).unwrap();
        assert!(lock.epoch() > last && !lock.is_found_anew());
        last = lock.epoch();
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(lease::take_after(&path, &claim("work"), &|| last).unwrap().epoch(), last + 1);
}

#[test]
fn a_folder_in_the_locks_place_is_an_error_not_a_lock() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(lease::take(folder.path(), &claim("work")), Err(LockError::Path(_))));
}

#[test]
fn the_first_signal_asks_politely_and_the_second_breaks_off() {
    let stop = Stop::default();
    let guard = signals::install(&stop).unwrap();
    let signal = |signal| rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
    let send = || signal(rustix::process::Signal::TERM);
    let until = |so: &dyn Fn() -> bool| {
        for _ in 0..2000 {
            if so() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    };
    signal(rustix::process::Signal::HUP); // restic asks whether we live
    send();
    assert!(until(&|| stop.wanted()));
    std::thread::sleep(Duration::from_millis(50)); // both have been seen by now, so the question counted for nothing
    assert!(stop.check().is_ok(), "once is no reason to break off");
    send();
    assert!(until(&|| stop.check().is_err()));
    drop(guard);
}
