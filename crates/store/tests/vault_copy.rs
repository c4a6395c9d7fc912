//! Copies of snapshots in a second vault: whole, readable by the real restic, made of what is missing only, and never
//! taken for whole when something was damaged on its way.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

mod support;

use std::sync::Arc;

use lifeboat_io::{
    ObjectStore, Stop, SystemClock,
    objects::folder::Folder,
    testing::{Crash, Fault, Faults, FaultyObjects},
};
use lifeboat_store::vault::{CheckOptions, Copied, ReadData, Snapshot, Vault, VaultError};
use secrecy::SecretString;
use support::*;

const OTHER_PASSWORD: &str = "another password for the copy";

fn back_up(vault: &Vault, files: &[(&str, Vec<u8>)]) -> Snapshot {
    let writer = begin(vault);
    files.iter().for_each(|(path, bytes)| put(&writer, path, bytes));
    writer.link("files/link", "elsewhere", &meta(0o777)).unwrap();
    writer.commit(snapshot_meta()).unwrap().snapshot
}

fn shop(seed: u64) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("sqlite/shop.db", rows(seed, 9 << 20)),
        ("files/noise", noise(2, 20 << 20)), // more than one pack
        ("files/deep/er/größe 🛟", rows(3, 70_000)),
        ("files/empty", Vec::new()),
    ]
}

fn copy(vault: &Vault, snapshot: &Snapshot, to: &Vault) -> Result<Copied, VaultError> {
    vault.copy_snapshot(snapshot, to, snapshot.extra.clone(), &|_, _| (), &Stop::default())
}

fn must_be_whole(vault: &Vault, snapshots: usize) {
    let options = CheckOptions { read_data: ReadData::All, stop: Stop::default() };
    let report = vault.check(&options, &|_, _| ()).unwrap();
    assert!(report.is_clean(), "{:?}", report.damage);
    assert_eq!(report.snapshots, snapshots as u64);
}

/// A world for the copy; its vault lies beside it like the first one's.
fn second(world: &World, vault: &Vault) -> (World, Vault) {
    let there = World::new();
    let copy = vault.create_like(there.store(), &SecretString::from(PASSWORD), &world.io).unwrap();
    (there, copy)
}

#[test]
fn a_copy_holds_the_same_and_only_what_is_missing_goes_over() {
    let world = World::new();
    let vault = world.create();
    let first = back_up(&vault, &shop(1));
    let (there, to) = second(&world, &vault);
    assert_ne!(to.id(), vault.id());
    let copied = copy(&vault, &first, &to).unwrap();
    assert!(!copied.was_there && copied.bytes_added > 20 << 20, "{copied:?}");
    assert_eq!((copied.snapshot.original, copied.snapshot.tree), (Some(first.id), first.tree));
    assert_eq!(copied.snapshot.extra, first.extra);
    for (path, bytes) in shop(1) {
        assert!(read(&to, &copied.snapshot, path) == bytes, "{path} differs");
    }
    // A second time there is nothing to do, and nothing is written.
    let objects = there.objects("");
    let again = copy(&vault, &first, &to).unwrap();
    assert!(again.was_there && again.snapshot.id == copied.snapshot.id, "{again:?}");
    assert_eq!(there.objects(""), objects);
    // Of a second backup only what differs goes over.
    let second = back_up(&vault, &shop(7));
    let copied = copy(&vault, &second, &to).unwrap();
    assert!(copied.blobs_known > 100 && copied.bytes_added < 9 << 20, "{copied:?}");
    must_be_whole(&to, 2);
    // Copies can be copied: they are known by what they were first.
    let (_home, third) = self::second(&world, &vault);
    let of_copy = copy(&to, &copied.snapshot, &third).unwrap();
    assert_eq!(of_copy.snapshot.original, Some(second.id));
    assert!(copy(&vault, &second, &third).unwrap().was_there);
}

#[test]
fn restic_checks_and_restores_a_copy() {
    let world = World::new();
    let vault = world.create();
    let snapshot = back_up(&vault, &shop(1));
    let (there, to) = second(&world, &vault);
    copy(&vault, &snapshot, &to).unwrap();
    there.restic_checks();
    let target = there.path("restored");
    there.restic_ok(&["restore", "latest", "--target", target.to_str().unwrap()]);
    for (path, bytes) in shop(1) {
        assert!(std::fs::read(target.join(path)).unwrap() == bytes, "{path} differs");
    }
    // restic knows where it comes from: its own copy command finds nothing to do.
    let source = world.path("vault");
    std::fs::write(there.path("first"), PASSWORD).unwrap();
    let first = there.path("first");
    let said = there.restic_ok(&[
        "copy",
        "--from-repo",
        source.to_str().unwrap(),
        "--from-password-file",
        first.to_str().unwrap(),
    ]);
    assert!(said.contains("skipping source snapshot") || said.contains("already"), "{said}");
}

#[test]
fn what_restic_wrote_is_copied_too_under_another_password() {
    let world = World::new();
    world.restic_ok(&["init"]);
    std::fs::create_dir(world.path("data")).unwrap();
    std::fs::write(world.path("data/table"), rows(5, 3 << 20)).unwrap();
    world.restic_ok(&["backup", "data"]);
    let vault = world.open();
    let snapshot = vault.snapshots().unwrap().remove(0);
    let there = World::new();
    let to = vault.create_like(there.store(), &SecretString::from(OTHER_PASSWORD), &world.io).unwrap();
    let copied = copy(&vault, &snapshot, &to).unwrap();
    let table =
        to.entries(&copied.snapshot).unwrap().into_iter().find(|entry| entry.path.ends_with("data/table")).unwrap();
    assert!(read(&to, &copied.snapshot, table.path) == rows(5, 3 << 20));
    assert!(Vault::open(there.store(), &password(), &world.io).is_err(), "the first vault's password opens nothing");
    must_be_whole(&to, 1);
}

/// A copy's place that can be made to fail.
fn faulty(there: &World, seed: u64, faults: Faults) -> Arc<FaultyObjects> {
    let inner: Arc<dyn ObjectStore> = Arc::new(Folder::new(there.path("vault")));
    Arc::new(FaultyObjects::new(inner, Arc::new(SystemClock::default()), seed, faults))
}

#[test]
fn bkp_23_an_upload_damaged_on_its_way_is_detected_and_the_source_is_kept() {
    let world = World::new();
    let vault = world.create();
    let snapshot = back_up(&vault, &[("sqlite/shop.db", rows(1, 4 << 20)), ("files/noise", noise(2, 17 << 20))]);
    let before = world.objects("");
    let mut detected = 0;
    for seed in 0..8 {
        let there = World::new();
        let store = faulty(&there, seed, Faults::default());
        let to = vault.create_like(store.clone(), &password(), &world.io).unwrap();
        store.set(Faults { damaged_put: 300, ..Faults::default() });
        let copied = copy(&vault, &snapshot, &to);
        let hit = store.fired().get(&Fault::DamagedPut).copied().unwrap_or(0);
        store.set(Faults::default());
        for lock in there.objects("locks") {
            std::fs::remove_file(lock).unwrap(); // one that arrived damaged is nobody's, and hurts no data
        }
        match copied {
            Ok(_) => must_be_whole(&to, 1),
            Err(error) => {
                assert!(hit > 0, "seed {seed}: {error}");
                detected += 1;
                assert!(to.snapshots().unwrap().is_empty(), "seed {seed}: a snapshot of something that is not whole");
            }
        }
        // The next attempt makes it whole, on what the first one got there.
        copy(&vault, &snapshot, &to).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        must_be_whole(&to, 1);
    }
    assert!(detected >= 2, "only {detected} of 8 were damaged: the test shows nothing");
    assert_eq!(world.objects(""), before, "the source was changed");
    must_be_whole(&vault, 1);
}

#[test]
fn killed_at_every_change_a_copy_is_no_snapshot_or_a_whole_one_and_the_next_attempt_finishes_it() {
    let world = World::new();
    let vault = world.create();
    let files = vec![("sqlite/shop.db", rows(1, 1 << 20)), ("files/noise", noise(2, 17 << 20))];
    let snapshot = back_up(&vault, &files);
    let mut number = 0;
    loop {
        let there = World::new();
        let store = faulty(&there, 1, Faults::default());
        let to = vault.create_like(store.clone(), &password(), &world.io).unwrap();
        let at = store.mutations() + number;
        store.set(Faults { crash: Some(Crash::After(at)), ..Faults::default() });
        let ended = copy(&vault, &snapshot, &to);
        let (died, store) = (store.fired().contains_key(&Fault::Crash), there.store());
        let to = Vault::open(store, &password(), &world.io).unwrap();
        let found = to.snapshots().unwrap();
        assert!(found.len() <= 1);
        found.iter().for_each(|one| {
            to.verify_snapshot(one).unwrap();
        });
        copy(&vault, &snapshot, &to).unwrap();
        must_be_whole(&to, 1);
        if !died {
            ended.unwrap();
            break;
        }
        number += 1;
    }
    assert!(number >= 5, "packs, index, snapshot, locks: {number}");
}
