//! Whatever happens to the bytes of a vault, it is said: opening fails, or the check reports. Never silence, never a
//! panic.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

mod support;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use lifeboat_io::{
    Io, ObjectStore, Random, Stop,
    testing::{MemoryObjects, SeededRandom},
};
use lifeboat_store::vault::{CheckReport, Id, ReadData, Snapshot, Vault, VaultError};
use support::{memory::*, *};

/// A whole vault with two snapshots that share some of their files.
struct Scene {
    io: Io,
    objects: BTreeMap<String, Bytes>,
    contents: Contents,
    snapshots: [Snapshot; 2],
}

impl Scene {
    fn new() -> Scene {
        let (io, _) = doors();
        let store = Arc::new(MemoryObjects::new());
        let vault = Vault::create(store.clone(), &password(), &io).unwrap();
        let mut contents = Contents::new();
        let [shared, first, second] = [1, 2, 3].map(|seed| rows(seed, 150_000));
        let packed = noise(4, 50_000);
        let older = back_up(&vault, &[("shared", &shared), ("deep/er/first", &first)], &mut contents);
        let newer =
            back_up(&vault, &[("shared", &shared), ("deep/second", &second), ("noise", &packed)], &mut contents);
        Scene { io, objects: store.all(), contents, snapshots: [older, newer] }
    }

    fn keys(&self, folder: &str) -> Vec<String> {
        let begin = format!("{folder}/");
        self.objects.keys().filter(|key| key.starts_with(&begin)).cloned().collect()
    }

    /// The pack whose loss only one snapshot would feel, found by trying.
    fn affected_by_loss(&self, key: &str) -> Vec<Id> {
        let memory = memory(&self.objects);
        memory.delete(key).unwrap();
        let report = check(&open(memory, &self.io).unwrap(), ReadData::None).unwrap();
        assert_eq!(report.damage.len(), 1, "{:#?}", report.damage);
        assert_eq!((report.damage[0].object.as_str(), report.damage[0].what.as_str()), (key, "it is missing"));
        report.damage[0].affects.clone()
    }
}

/// One vault that stays open while its bytes are changed and put back, so that the password is stretched only once.
struct Opened<'a> {
    scene: &'a Scene,
    memory: Arc<MemoryObjects>,
    vault: Vault,
}

impl<'a> Opened<'a> {
    fn new(scene: &'a Scene) -> Opened<'a> {
        let memory = memory(&scene.objects);
        let vault = open(memory.clone(), &scene.io).unwrap();
        Opened { scene, memory, vault }
    }

    /// Damages the vault, sees what is said about it, and makes it whole again.
    fn with<T>(&self, damage: impl FnOnce(&MemoryObjects), look: impl FnOnce(&Opened<'_>) -> T) -> T {
        damage(&self.memory);
        let seen = look(self);
        for key in self.memory.all().keys().filter(|key| !self.scene.objects.contains_key(*key)) {
            self.memory.delete(key).unwrap();
        }
        for (key, body) in &self.scene.objects {
            self.memory.put(key, body.clone()).unwrap();
        }
        seen
    }

    fn check(&self, read_data: ReadData) -> Result<CheckReport, VaultError> {
        check(&self.vault, read_data)
    }

    /// The check reports it, and no file is restored wrong without an error.
    fn assert_reported(&self, context: &str) {
        match self.check(ReadData::All) {
            Ok(report) => assert!(!report.is_clean(), "{context}: nothing is reported"),
            Err(error) => panic!("{context}: damage is a report, not an error: {error:?}"),
        }
        for snapshot in &self.scene.snapshots {
            for (path, bytes) in &self.scene.contents[&snapshot.id.hex()] {
                if let Ok(read) = try_read(&self.vault, snapshot, path) {
                    assert!(read == *bytes, "{context}: {path} was restored wrong");
                }
            }
        }
    }
}

/// Bits to flip: the first and the last, around the ends of the parts, and some anywhere.
fn sampled_bits(body: &[u8], random: &SeededRandom) -> Vec<usize> {
    let bits = body.len() * 8;
    let ends = [0, 8, 15 * 8, 16 * 8, 32 * 8, bits - 1, bits - 8, bits - 4 * 8, bits - 5 * 8, bits - 24 * 8];
    let anywhere = (0..14).map(|_| random.below(bits as u64) as usize);
    ends.into_iter().filter(|&bit| bit < bits).chain(anywhere).collect()
}

#[test]
fn the_vault_is_whole_before_anything_happens_to_it() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    let report = assert_clean(&opened.vault, "whole");
    assert_eq!((report.snapshots, report.packs.count, report.packs_read), (2, 4, report.packs));
    // The roots, deep and er; the empty folder is the same in both.
    assert_eq!((report.trees, report.files.count), (6, 5));
    assert_eq!((report.unused_blobs.count, report.unused_packs.count, report.unindexed_packs.count), (0, 0, 0));
    assert_eq!(report.foreign, [""; 0]);
    assert_restores(&opened.vault, &scene.contents, "whole");
    restic_checks(&scene.objects, "whole");
}

#[test]
fn every_flipped_bit_is_reported() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    let seed = lifeboat_io::SystemRandom.bits();
    let random = SeededRandom::new(seed);
    for (key, body) in &scene.objects {
        for bit in sampled_bits(body, &random) {
            let context = format!("seed {seed}: bit {bit} of {key}");
            opened.with(
                |memory| memory.damage(key, |body| body[bit / 8] ^= 1 << (bit % 8)),
                |opened| opened.assert_reported(&context),
            );
        }
    }
}

#[test]
fn a_flipped_bit_in_the_key_or_the_config_opens_nothing_wrong() {
    let scene = Scene::new();
    let random = SeededRandom::new(7);
    let mut refused = 0;
    for key in ["config".to_owned(), scene.keys("keys")[0].clone()] {
        for bit in sampled_bits(&scene.objects[&key], &random) {
            let memory = memory(&scene.objects);
            memory.damage(&key, |body| body[bit / 8] ^= 1 << (bit % 8));
            match open(memory, &scene.io) {
                Ok(vault) => {
                    assert!(key.starts_with("keys/"), "bit {bit} of {key}: a config is sealed");
                    let report = check(&vault, ReadData::None).unwrap();
                    assert_eq!(report.damage.len(), 1, "bit {bit} of {key}: {:?}", report.damage);
                    assert!(report.damage[0].object == key && report.damage[0].affects.is_empty());
                }
                Err(VaultError::WrongPassword { .. } | VaultError::Damaged { .. }) => refused += 1,
                Err(other) => panic!("bit {bit} of {key}: {other:?}"),
            }
        }
    }
    assert!(refused > 24, "{refused}");
}

#[test]
fn what_is_cut_off_emptied_or_grown_is_reported() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    for (key, body) in &scene.objects {
        for length in [0, 1, 3, 4, body.len() / 2, body.len() - 4, body.len() - 1, body.len() + 1] {
            let context = format!("{key} cut to {length} of {}", body.len());
            opened.with(
                |memory| memory.damage(key, |body| body.resize(length, 0)),
                |opened| opened.assert_reported(&context),
            );
        }
    }
}

#[test]
fn what_is_swapped_is_reported() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    for folder in ["data", "index", "snapshots"] {
        let keys = scene.keys(folder);
        for (number, one) in keys.iter().enumerate() {
            for other in &keys[number + 1..] {
                let swap = |memory: &MemoryObjects| {
                    memory.put(one, scene.objects[other].clone()).unwrap();
                    memory.put(other, scene.objects[one].clone()).unwrap();
                };
                opened.with(swap, |opened| opened.assert_reported(&format!("{one} and {other} swapped")));
            }
        }
    }
}

/// A file of a snapshot, read by the seals of its blobs alone.
fn try_read_by_seals(vault: &Vault, snapshot: &Snapshot, path: &str) -> Result<Vec<u8>, VaultError> {
    let mut bytes = Vec::new();
    let entry = vault.entry(snapshot, path)?;
    vault.read_entry_by_seals(&entry, &mut bytes, &|_| (), &Stop::default()).map(|_| bytes)
}

#[test]
fn a_flipped_bit_breaks_a_seal() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    let mut refused = 0;
    for key in scene.keys("data") {
        for place in (0..scene.objects[&key].len()).step_by(10_007) {
            let flip = |memory: &MemoryObjects| memory.damage(&key, |body| body[place] ^= 4);
            opened.with(flip, |opened| {
                for snapshot in &scene.snapshots {
                    for (path, bytes) in &scene.contents[&snapshot.id.hex()] {
                        match try_read_by_seals(&opened.vault, snapshot, path) {
                            Ok(read) => assert!(read == *bytes, "{key} at {place}: {path} was read wrong"),
                            Err(_) => refused += 1,
                        }
                    }
                }
            });
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_blob_in_another_ones_place_is_told_by_its_name_and_not_by_its_seal() {
    let (io, _) = doors();
    let store = Arc::new(MemoryObjects::new());
    let vault = Vault::create(store.clone(), &password(), &io).unwrap();
    let mut contents = Contents::new();
    let (one, other) = (noise(1, 5_000), noise(2, 5_000));
    let snapshot = back_up(&vault, &[("file", &one)], &mut contents);
    let first_packs = store.all();
    back_up(&vault, &[("file", &other)], &mut contents);
    // Packs of one blob that does not compress, so that they are laid out alike; the trees' packs are smaller.
    let packs: Vec<_> =
        store.all().into_iter().filter(|(key, body)| key.starts_with("data") && body.len() > 5_000).collect();
    let [(a, of_a), (b, of_b)] = &packs[..] else { panic!("{} packs", packs.len()) };
    assert_eq!(of_a.len(), of_b.len());
    assert_ne!(first_packs.contains_key(a), first_packs.contains_key(b));
    store.put(a, of_b.clone()).unwrap();
    store.put(b, of_a.clone()).unwrap();

    let vault = open(store, &io).unwrap();
    let error = try_read(&vault, &snapshot, "file").unwrap_err().to_string();
    assert!(error.contains("its content is not what its name says"), "{error}");
    // Whoever reads by seals compares the whole file, and finds it here.
    assert!(try_read_by_seals(&vault, &snapshot, "file").unwrap() == other);
}

#[test]
fn what_is_gone_is_reported() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    for key in ["data", "index"].into_iter().flat_map(|folder| scene.keys(folder)) {
        let gone = |memory: &MemoryObjects| memory.delete(&key).unwrap();
        opened.with(gone, |opened| opened.assert_reported(&format!("{key} gone")));
    }
    // A snapshot that is gone looks like one that was forgotten; what it needed is counted.
    for key in scene.keys("snapshots") {
        let gone = |memory: &MemoryObjects| memory.delete(&key).unwrap();
        let report = opened.with(gone, |opened| opened.check(ReadData::None)).unwrap();
        assert!(report.is_clean() && report.snapshots == 1);
        assert!(report.unused_blobs.count > 0 && report.unused_blobs.bytes > 10_000, "{report:?}");
    }
}

#[test]
fn a_vault_that_has_lost_its_key_or_config_says_so() {
    let scene = Scene::new();
    for (key, missing) in [("config".to_owned(), "config"), (scene.keys("keys")[0].clone(), "every key file")] {
        let memory = memory(&scene.objects);
        memory.delete(&key).unwrap();
        let error = open(memory, &scene.io).unwrap_err();
        assert!(matches!(&error, VaultError::Missing { object } if object == missing), "{error:?}");
    }
    let nothing = open(Arc::new(MemoryObjects::new()), &scene.io).unwrap_err();
    assert!(matches!(nothing, VaultError::NoVault { .. }), "{nothing:?}");
}

#[test]
fn the_snapshots_that_a_loss_reaches_are_named() {
    let scene = Scene::new();
    let [older, newer] = [scene.snapshots[0].id, scene.snapshots[1].id];
    let mut reached: Vec<Vec<Id>> = scene.keys("data").iter().map(|key| scene.affected_by_loss(key)).collect();
    reached.sort();
    // The older backup's packs hold what both share: a file, and the empty folder's tree.
    let mut expected = vec![vec![newer], vec![newer], vec![older, newer], vec![older, newer]];
    expected.sort();
    assert_eq!(reached, expected);
}

#[test]
fn a_damaged_blob_reaches_only_those_who_need_it() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    let mut reached = std::collections::BTreeSet::new();
    for key in scene.keys("data") {
        for place in (0..scene.objects[&key].len()).step_by(10_007) {
            let flip = |memory: &MemoryObjects| memory.damage(&key, |body| body[place] ^= 4);
            let report = opened.with(flip, |opened| opened.check(ReadData::All)).unwrap();
            assert_eq!(report.damage.len(), 1, "{key} at {place}: {:#?}", report.damage);
            assert_eq!(report.damage[0].object, key);
            reached.insert(report.damage[0].affects.clone());
        }
    }
    let [older, newer] = [scene.snapshots[0].id, scene.snapshots[1].id];
    for expected in [vec![older], vec![newer], vec![older, newer]] {
        assert!(reached.contains(&expected), "some blob reaches {expected:?} only: {reached:?}");
    }
}

#[test]
fn a_lost_index_file_reaches_those_whose_blobs_were_in_it() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    for key in scene.keys("index") {
        let flip = |memory: &MemoryObjects| memory.damage(&key, |body| body[40] ^= 1);
        let report = opened.with(flip, |opened| opened.check(ReadData::None)).unwrap();
        let its = report.damage.iter().find(|damage| damage.object == key).unwrap();
        assert!(!its.affects.is_empty(), "{:#?}", report.damage);
        assert!(report.damage.len() > 1, "the files that miss their blobs are named: {:#?}", report.damage);
        assert_eq!(report.unindexed_packs.count, 2);
    }
}

#[test]
fn without_reading_data_the_packs_ends_are_read_and_with_subsets_all_comes_round() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    for key in scene.keys("data") {
        let size = scene.objects[&key].len();
        let in_list = |memory: &MemoryObjects| memory.damage(&key, |body| body[size - 20] ^= 1);
        let report = opened.with(in_list, |opened| opened.check(ReadData::None)).unwrap();
        assert_eq!(report.damage.len(), 1, "{key}: {:#?}", report.damage);

        let in_blob = |memory: &MemoryObjects| memory.damage(&key, |body| body[50] ^= 1);
        let found = opened.with(in_blob, |opened| {
            let subset = |n| opened.check(ReadData::Subset { n, of: 3 }).unwrap();
            (1..=3).map(subset).filter(|report| report.damage.iter().any(|damage| damage.object == key)).count()
        });
        assert!(found >= 1, "{key}: one of the three parts has it; a tree is read in each");
    }
    let packs_read: u64 = (1..=3).map(|n| opened.check(ReadData::Subset { n, of: 3 }).unwrap().packs_read.count).sum();
    assert_eq!(packs_read, 4);
}

#[test]
fn what_does_not_belong_there_is_named_and_no_damage() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    let stray =
        ["README", "data/00/notes.txt", "snapshots/old.tmp", "index/Thumbs.db", "locks/x", "keys/backup-of-key"];
    let litter = |memory: &MemoryObjects| {
        stray.iter().for_each(|key| memory.put(key, Bytes::from_static(b"x")).unwrap());
        let pack = scene.keys("data").remove(0);
        memory.put("data/zz/copy", scene.objects[&pack].clone()).unwrap();
    };
    let report = opened.with(litter, |opened| opened.check(ReadData::All)).unwrap();
    assert!(report.is_clean(), "{:#?}", report.damage);
    let mut expected: Vec<&str> = stray.iter().copied().chain(["data/zz/copy"]).collect();
    expected.sort_unstable();
    assert_eq!(report.foreign, expected);
}

#[test]
fn another_vaults_index_is_reported() {
    let scene = Scene::new();
    let (io, _) = doors();
    let other = Arc::new(MemoryObjects::new());
    back_up(&Vault::create(other.clone(), &password(), &io).unwrap(), &[("x", b"x")], &mut Contents::new());
    let foreign = other.all().into_iter().find(|(key, _)| key.starts_with("index/")).unwrap();
    let opened = Opened::new(&scene);
    let planted = |memory: &MemoryObjects| memory.put(&foreign.0, foreign.1.clone()).unwrap();
    let report = opened.with(planted, |opened| opened.check(ReadData::None)).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].what, "it was not sealed with this vault's key, or has changed");
    assert!(report.damage[0].affects.is_empty(), "nothing is missing");
}

#[test]
fn breaking_off_is_no_report() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    let stop = Stop::default();
    let options = lifeboat_store::vault::CheckOptions { read_data: ReadData::All, stop: stop.clone() };
    let broken_off = opened.vault.check(&options, &|_, _| stop.now());
    assert!(matches!(broken_off, Err(VaultError::Stopped(_))), "{broken_off:?}");
    stop.now();
    assert!(opened.vault.check(&options, &|_, _| {}).is_err());
}

#[test]
fn progress_adds_up() {
    let scene = Scene::new();
    let opened = Opened::new(&scene);
    let heard = std::sync::Mutex::new(Vec::new());
    let options = lifeboat_store::vault::CheckOptions { read_data: ReadData::All, stop: Stop::default() };
    let report = opened.vault.check(&options, &|done, all| heard.lock().unwrap().push((done, all))).unwrap();
    let heard = heard.into_inner().unwrap();
    assert_eq!(heard.len() as u64, report.packs.count);
    assert_eq!(heard.iter().max(), Some(&(report.packs.bytes, report.packs.bytes)));
}
