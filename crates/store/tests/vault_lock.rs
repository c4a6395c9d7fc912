//! Our locks and restic's: each honours the other's.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

mod support;

use std::{io::Write, path::PathBuf, process::Command};

use lifeboat_io::Stop;
use lifeboat_store::vault::{LockKind, VaultError};
use support::*;

#[test]
fn shared_locks_go_together_and_an_exclusive_one_stands_alone() {
    let world = World::new();
    let vault = world.create();
    let take = |kind| vault.lock(kind, &Stop::default());
    let (one, two) = (take(LockKind::Shared).unwrap(), take(LockKind::Shared).unwrap());
    let Err(VaultError::Locked { holder, place }) = take(LockKind::Exclusive) else { panic!("two are in") };
    assert_eq!((holder.kind, holder.pid), (LockKind::Shared, i64::from(std::process::id())));
    assert_eq!((holder.host, holder.user), (world.io.env.host(), world.io.env.user()));
    assert_eq!(place, vault.place());
    assert_eq!(vault.lock_holders().unwrap().len(), 2);
    drop((one, two));
    assert!(vault.lock_holders().unwrap().is_empty());
    let alone = take(LockKind::Exclusive).unwrap();
    alone.check().unwrap();
    for kind in [LockKind::Shared, LockKind::Exclusive] {
        assert!(matches!(take(kind), Err(VaultError::Locked { holder, .. }) if holder.kind == LockKind::Exclusive));
    }
    assert!(matches!(vault.begin(Default::default()).map(drop), Err(VaultError::Locked { .. })));
    drop(alone);
    assert!(world.objects("locks").is_empty(), "nothing is left behind");
}

#[test]
fn restic_sees_our_locks_and_stays_out() {
    let world = World::new();
    let vault = world.create();
    let writer = begin(&vault);
    put(&writer, "table", &rows(1, 100_000));
    assert_eq!(world.restic_ok(&["list", "locks", "--no-lock"]).lines().count(), 1);
    let refused = world.restic(&["prune"]);
    let complaint = text(&refused.stderr);
    assert!(!refused.status.success());
    assert!(complaint.contains("locked"), "{complaint}");
    assert!(complaint.contains(&format!("PID {}", std::process::id())), "{complaint}");
    // It asks us by SIGHUP whether we live: we do, and nothing of ours goes.
    world.restic_ok(&["unlock"]);
    assert_eq!(world.objects("locks").len(), 1);
    world.restic_ok(&["list", "snapshots"]);
    writer.commit(snapshot_meta()).unwrap();
    world.restic_ok(&["prune"]);
    world.restic_checks();
}

/// Holds restic's own lock for as long as it is there: a backup that waits for its standard input.
struct Waiting {
    child: std::process::Child,
}

impl Waiting {
    fn new(world: &World) -> Waiting {
        let child = Command::new("restic")
            .args(["--no-cache", "--quiet", "--repo"])
            .arg(world.path("vault"))
            .args(["backup", "--stdin"])
            .env("RESTIC_PASSWORD", PASSWORD)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // It writes the file under a longer name first.
        let is_lock = |path: &PathBuf| path.file_name().unwrap().len() == 64;
        while !world.objects("locks").iter().any(is_lock) {
            std::thread::yield_now();
        }
        Waiting { child }
    }
}

#[test]
fn we_see_restics_locks_and_stay_out() {
    let world = World::new();
    let vault = world.create();
    let mut restic = Waiting::new(&world);
    drop(vault.lock(LockKind::Shared, &Stop::default()).unwrap());
    let Err(VaultError::Locked { holder, .. }) = vault.lock(LockKind::Exclusive, &Stop::default()) else {
        panic!("restic is in")
    };
    assert_eq!(holder.pid, i64::from(restic.child.id()));
    assert_eq!(world.objects("locks").len(), 1, "ours was not left behind");
    restic.child.stdin.take().unwrap().write_all(b"bytes").unwrap();
    assert!(restic.child.wait().unwrap().success());
    drop(vault.lock(LockKind::Exclusive, &Stop::default()).unwrap());
}

#[test]
fn the_lock_of_a_process_that_died_is_cleared_away() {
    let world = World::new();
    let vault = world.create();
    let mut restic = Waiting::new(&world);
    restic.child.kill().unwrap();
    restic.child.wait().unwrap();
    assert_eq!(world.objects("locks").len(), 1, "it could not take its lock with it");
    assert!(vault.lock_holders().unwrap().is_empty());
    let lock = vault.lock(LockKind::Exclusive, &Stop::default()).unwrap();
    assert_eq!(world.objects("locks").len(), 1, "only ours is there");
    drop(lock);
    assert!(world.objects("locks").is_empty());
}

#[test]
fn a_lock_that_is_taken_away_is_noticed_before_the_snapshot() {
    let world = World::new();
    let vault = world.create();
    let writer = begin(&vault);
    put(&writer, "table", &rows(1, 100_000));
    world.restic_ok(&["unlock", "--remove-all"]);
    assert!(matches!(writer.commit(snapshot_meta()), Err(VaultError::LockLost { .. })));
    assert_eq!(vault.snapshots().unwrap(), []);
}

#[test]
fn a_lock_that_cannot_be_read_may_be_anybodys() {
    let world = World::new();
    let vault = world.create();
    let lock = vault.lock(LockKind::Shared, &Stop::default()).unwrap();
    std::fs::write(&world.objects("locks")[0], "broken").unwrap();
    drop(lock);
    std::fs::create_dir_all(world.path("vault/locks")).unwrap();
    std::fs::write(world.path("vault/locks").join("ab".repeat(32)), "broken").unwrap();
    assert!(matches!(vault.lock(LockKind::Shared, &Stop::default()), Err(VaultError::Damaged { .. })));
}
