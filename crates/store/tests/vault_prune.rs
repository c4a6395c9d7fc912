//! Pruning gives space back and never takes anything that is needed, wherever it is killed.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

mod support;

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use lifeboat_io::{
    Io, ObjectError, ObjectErrorKind, ObjectInfo, ObjectStore, Stop,
    testing::{Crash, Fault, Faults, FaultyObjects, ManualClock, MemoryObjects},
};
use lifeboat_store::vault::{ForgottenSnapshot, LockKind, PruneOptions, PruneReport, ReadData, Vault, VaultError};
use support::{memory::*, *};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A vault in which some of everything is not needed any more.
struct Scene {
    io: Io,
    clock: Arc<ManualClock>,
    objects: BTreeMap<String, Bytes>,
    contents: Contents,
    forgotten: Vec<ForgottenSnapshot>,
}

impl Scene {
    fn new() -> Scene {
        let (io, clock) = doors();
        let store = Arc::new(MemoryObjects::new());
        let vault = Vault::create(store.clone(), &password(), &io).unwrap();
        let mut contents = Contents::new();
        let [x, y, z, w, v] = [1, 2, 3, 4, 5].map(|seed| rows(seed, 300_000));
        // One pack of which a half will be needed; one of which all, and one of which nothing.
        let first = back_up(&vault, &[("x", &x), ("y", &y)], &mut contents);
        back_up(&vault, &[("x", &x), ("deep/z", &z)], &mut contents);
        let third = back_up(&vault, &[("w", &w)], &mut contents);
        // And packs in no index, as a backup leaves them that was killed before it could write one.
        let before = store.all();
        let killed = back_up(&vault, &[("v", &v)], &mut contents);
        for key in store.all().keys().filter(|key| !before.contains_key(*key) && key.starts_with("index/")) {
            store.delete(key).unwrap();
        }
        store.delete(&format!("snapshots/{}", killed.id)).unwrap();
        let vault = open(store.clone(), &io).unwrap();
        let forgotten = vault.forget(&[first.id, third.id]).unwrap();
        Scene { io, clock, objects: store.all(), contents, forgotten }
    }

    fn store(&self) -> Arc<MemoryObjects> {
        memory(&self.objects)
    }

    fn open(&self, store: &Arc<MemoryObjects>) -> Vault {
        open(store.clone(), &self.io).unwrap()
    }

    /// What a prune leaves behind.
    fn pruned(&self, objects: &BTreeMap<String, Bytes>) -> (BTreeMap<String, Bytes>, PruneReport) {
        let store = memory(objects);
        let report = self.open(&store).prune(&PruneOptions::default()).unwrap();
        (store.all(), report)
    }
}

fn bytes_of(objects: &BTreeMap<String, Bytes>, folder: &str) -> usize {
    objects.iter().filter(|(key, _)| key.starts_with(folder)).map(|(_, body)| body.len()).sum()
}

fn count_of(objects: &BTreeMap<String, Bytes>, folder: &str) -> usize {
    objects.keys().filter(|key| key.starts_with(folder)).count()
}

#[test]
fn first_it_marks_and_after_the_grace_period_it_deletes() {
    let scene = Scene::new();
    let vault = scene.open(&scene.store());
    let planned = vault.plan_prune(&PruneOptions::default()).unwrap();
    let (marked, report) = scene.pruned(&scene.objects);
    assert_eq!(report, planned, "what is planned is what is done");
    assert_eq!((report.snapshots, report.repacked.count, report.deleted.count), (1, 2, 0));
    // Data and trees of the first, third and killed backup; what is needed of the first - half of its data, and the
    // empty folder's tree that all share - is copied.
    assert_eq!((report.kept.count, report.marked.count), (2, 6), "{report:?}");
    assert!(scene.objects.keys().filter(|key| key.starts_with("data/")).all(|key| marked.contains_key(key)));
    assert_eq!(count_of(&marked, "index/"), 1);
    let store = memory(&marked);
    let checked = assert_clean(&scene.open(&store), "after marking");
    assert_eq!((checked.marked_packs, checked.unindexed_packs.count), (report.marked, 0));
    assert_eq!(checked.unused_blobs.count, 0);
    restic_checks(&marked, "after marking");

    // Soon after, nothing changes; and a plan changes nothing ever.
    let (again, report) = scene.pruned(&marked);
    assert_eq!((report.waiting.count, report.deleted.count), (6, 0));
    assert_eq!(again, marked);

    scene.clock.advance(DAY);
    let (deleted, report) = scene.pruned(&marked);
    assert_eq!((report.deleted, report.waiting.count), (checked.marked_packs, 0));
    assert_eq!(count_of(&deleted, "data/"), 4);
    assert!(bytes_of(&deleted, "data/") < bytes_of(&scene.objects, "data/") / 2);
    let vault = scene.open(&memory(&deleted));
    let checked = assert_clean(&vault, "after deleting");
    assert_eq!((checked.marked_packs.count, checked.unused_packs.count), (0, 0));
    assert_eq!(assert_restores(&vault, &scene.contents, "after deleting").len(), 1);
    restic_checks(&deleted, "after deleting");
    assert_eq!(scene.pruned(&deleted).0, deleted, "there is nothing left to do");
}

#[test]
fn what_a_late_snapshot_needs_comes_back_within_the_grace_period() {
    let scene = Scene::new();
    let (marked, _) = scene.pruned(&scene.objects);
    let store = memory(&marked);
    let vault = scene.open(&store);
    vault.unforget(&scene.forgotten[1..]).unwrap();
    let report = check(&vault, ReadData::None).unwrap();
    assert!(report.damage.iter().any(|damage| damage.affects == [scene.forgotten[1].id]), "{:?}", report.damage);

    scene.clock.advance(DAY * 2);
    let report = vault.prune(&PruneOptions::default()).unwrap();
    assert_eq!((report.revived.count, report.deleted.count), (2, 4), "{report:?}");
    let vault = scene.open(&store);
    assert_clean(&vault, "after reviving");
    assert_eq!(assert_restores(&vault, &scene.contents, "after reviving").len(), 2);
    restic_checks(&without_locks(store.all()), "after reviving");
}

/// Kills a prune before and after each of its puts and deletes.
fn kill_everywhere(scene: &Scene, objects: &BTreeMap<String, Bytes>) -> u64 {
    let mut fired = 0;
    for number in 0.. {
        let mut died = false;
        for crash in [Crash::Before(number), Crash::After(number)] {
            let context = format!("killed {crash:?}");
            let store = memory(objects);
            let faults = Faults { crash: Some(crash), ..Faults::default() };
            let faulty = Arc::new(FaultyObjects::new(store.clone(), scene.io.clock.clone(), 0, faults));
            let vault = open(faulty.clone(), &scene.io).unwrap();
            let pruned = vault.prune(&PruneOptions::default());
            drop(vault);
            let crashes = faulty.fired().get(&Fault::Crash).copied().unwrap_or_default();
            fired += crashes;
            died |= crashes > 0;

            let left = without_locks(store.all());
            let store = memory(&left);
            let vault = scene.open(&store);
            assert_whole(scene, &vault, &context);
            if matches!(crash, Crash::After(_)) {
                restic_checks(&left, &context);
            }
            // The next one finishes what this one began.
            vault.prune(&PruneOptions::default()).unwrap_or_else(|error| panic!("{context}: {error:?}"));
            assert_whole(scene, &vault, &format!("{context}, then pruned"));
            if pruned.is_ok() {
                // It died when it gave its lock back, or not at all.
                assert_eq!(store.all(), left, "{context}");
            }
        }
        if !died {
            return fired;
        }
    }
    fired
}

fn assert_whole(scene: &Scene, vault: &Vault, context: &str) {
    assert_clean(vault, context);
    assert_eq!(assert_restores(vault, &scene.contents, context).len(), 1);
}

#[test]
fn killed_anywhere_while_marking_it_leaves_a_whole_vault() {
    let scene = Scene::new();
    // Lock, a pack of data, one index, four old ones that were, the lock again: before and after each.
    let fired = kill_everywhere(&scene, &scene.objects);
    assert!(fired >= 12, "{fired}");
}

#[test]
fn killed_anywhere_while_deleting_it_leaves_a_whole_vault() {
    let scene = Scene::new();
    let (marked, _) = scene.pruned(&scene.objects);
    scene.clock.advance(DAY);
    // Lock, six packs, one index, the old one, the lock again.
    let fired = kill_everywhere(&scene, &marked);
    assert!(fired >= 18, "{fired}");
}

#[test]
fn a_bad_line_makes_it_fail_and_never_lose() {
    let scene = Scene::new();
    let mut failures = 0;
    for seed in 0..16 {
        let store = scene.store();
        // From a good line to one that is broken most of the time: both ends are tried whatever the objects are called.
        let often = seed as u32 * 12;
        let faults = Faults {
            fail_before: often,
            answer_lost: often,
            flipped_bit: often,
            short_list: often,
            ..Faults::default()
        };
        let faulty = Arc::new(FaultyObjects::new(store.clone(), scene.io.clock.clone(), seed, faults));
        let pruned = open(faulty, &scene.io).and_then(|vault| vault.prune(&PruneOptions::default()));
        failures += u32::from(pruned.is_err());
        assert!(seed > 0 || pruned.is_ok(), "over a good line it works: {pruned:?}");
        let left = memory(&without_locks(store.all()));
        assert_whole(&scene, &scene.open(&left), &format!("seed {seed}, {pruned:?}"));
    }
    assert!(failures >= 3, "{failures} of 16: a bad line must show");
}

/// A store that cannot list one folder.
#[derive(Debug)]
struct CannotList {
    inner: Arc<MemoryObjects>,
    folder: &'static str,
}

impl ObjectStore for CannotList {
    fn place(&self) -> String {
        self.inner.place()
    }
    fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.inner.put(key, body)
    }
    fn put_new(&self, key: &str, body: Bytes) -> Result<bool, ObjectError> {
        self.inner.put_new(key, body)
    }
    fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        self.inner.get(key)
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.inner.get_range(key, range)
    }
    fn size(&self, key: &str) -> Result<u64, ObjectError> {
        self.inner.size(key)
    }
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        if prefix != self.folder {
            return self.inner.list(prefix);
        }
        let (place, key) = (self.place(), prefix.to_owned());
        Err(ObjectError { kind: ObjectErrorKind::Other, place, key, doing: "list", source: "no".into() })
    }
    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.inner.delete(key)
    }
}

/// A prune that must fail and leave everything as it was.
fn check_refused(scene: &Scene, store: Arc<dyn ObjectStore>, memory: &MemoryObjects, context: &str) -> VaultError {
    let before = memory.all();
    let pruned = open(store, &scene.io).unwrap().prune(&PruneOptions::default());
    assert_eq!(memory.all(), before, "{context}");
    pruned.expect_err(context)
}

#[test]
fn without_a_whole_listing_nothing_is_touched() {
    let scene = Scene::new();
    for folder in ["snapshots", "index", "data"] {
        let memory = scene.store();
        let store = Arc::new(CannotList { inner: memory.clone(), folder });
        let error = check_refused(&scene, store, &memory, folder);
        assert!(matches!(error, VaultError::Object { .. }), "{folder}: {error:?}");
    }
}

/// Damage in the vault that some snapshot feels.
fn felt(vault: &Vault) -> usize {
    check(vault, ReadData::All).unwrap().damage.iter().filter(|damage| !damage.affects.is_empty()).count()
}

#[test]
fn while_anything_cannot_be_read_nothing_is_touched() {
    let scene = Scene::new();
    let store = scene.store();
    let vault = scene.open(&store);
    let mut refused = BTreeMap::new();
    type Change = fn(&mut Vec<u8>);
    let damages: [(&str, Change); 3] = [
        ("emptied", |body| body.clear()),
        ("flipped", |body| body[20] ^= 1),
        ("cut", |body| body.truncate(body.len() - 1)),
    ];
    for key in scene.objects.keys() {
        let folder = key.split('/').next().unwrap();
        for (how, damage) in damages {
            store.damage(key, damage);
            let (before, felt_before) = (store.all(), felt(&vault));
            if vault.prune(&PruneOptions::default()).is_err() {
                assert_eq!(store.all(), before, "{key} {how}");
                *refused.entry((folder, how)).or_insert(0) += 1;
            } else {
                // What it did not need to look into was not needed, or is no worse than it was.
                assert!(["data", "keys", "config"].contains(&folder), "{key} {how}: it went on");
                assert!(felt(&vault) <= felt_before, "{key} {how}");
            }
            for added in store.all().keys().filter(|key| !scene.objects.contains_key(*key)) {
                store.delete(added).unwrap();
            }
            scene.objects.iter().for_each(|(key, body)| store.put(key, body.clone()).unwrap());
        }
    }
    for folder in ["snapshots", "index"] {
        for how in ["emptied", "flipped", "cut"] {
            let count = refused.get(&(folder, how)).copied().unwrap_or_default();
            assert_eq!(count, count_of(&scene.objects, &format!("{folder}/")), "{folder} {how}");
        }
    }
    assert!(refused[&("data", "emptied")] >= 3, "its own tree, its own data, and the half that it shares: {refused:?}");
}

#[test]
fn a_vault_without_snapshots_is_taken_for_an_accident() {
    let scene = Scene::new();
    let store = scene.store();
    let vault = scene.open(&store);
    let last = vault.snapshots().unwrap()[0].id;
    vault.forget(&[last]).unwrap();
    let error = check_refused(&scene, store.clone(), &store, "no snapshots");
    assert_eq!(error.to_string(), "every snapshot is missing from the vault");
    let options = PruneOptions { even_without_snapshots: true, ..PruneOptions::default() };
    vault.prune(&options).unwrap();
    scene.clock.advance(DAY);
    vault.prune(&options).unwrap();
    assert_eq!(count_of(&store.all(), "data/") + count_of(&store.all(), "index/"), 0);
    assert_clean(&scene.open(&store), "empty");
}

#[test]
fn it_wants_the_vault_for_itself() {
    let scene = Scene::new();
    let store = scene.store();
    let vault = scene.open(&store);
    let reading = vault.lock(LockKind::Shared, &Stop::default()).unwrap();
    let error = vault.prune(&PruneOptions::default()).unwrap_err();
    assert!(matches!(error, VaultError::Locked { .. }), "{error:?}");
    assert!(vault.plan_prune(&PruneOptions::default()).is_ok(), "a plan does not need it");
    drop(reading);
    vault.prune(&PruneOptions::default()).unwrap();
}

#[test]
fn backups_go_on_in_the_same_open_vault() {
    let mut scene = Scene::new();
    let store = scene.store();
    let vault = scene.open(&store);
    vault.prune(&PruneOptions::default()).unwrap();
    // What is only marked is not relied on: it is stored again.
    let w = rows(4, 300_000);
    back_up(&vault, &[("w", &w)], &mut scene.contents);
    scene.clock.advance(DAY);
    vault.prune(&PruneOptions::default()).unwrap();
    assert_clean(&vault, "after the second prune");
    assert_eq!(assert_restores(&vault, &scene.contents, "after the second prune").len(), 2);
}

#[test]
fn restic_and_we_prune_one_vault_in_turn() {
    let scene = Scene::new();
    let (marked, _) = scene.pruned(&scene.objects);
    let world = World::new();
    write_out(&marked, &world.path("vault"));
    world.restic_ok(&["prune"]);
    world.restic_checks();
    let vault = world.open();
    let report = vault.prune(&PruneOptions::default()).unwrap();
    assert_eq!(report.deleted.count + report.marked.count + report.waiting.count, 0, "restic has done it: {report:?}");
    assert_restores(&vault, &scene.contents, "after restic's prune");
    assert_clean(&vault, "after restic's prune");
}
