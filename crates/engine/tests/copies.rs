//! Second vaults: what goes over, what is told about them, and that a failing copy leaves the backup alone.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::{sync::Arc, time::Duration};

use lifeboat_engine::{Engine, Unwatched};
use lifeboat_io::{
    ObjectStore, Stop,
    objects::folder::Folder,
    testing::{Fault, Faults, FaultyObjects},
};
use lifeboat_model::{BackupChoice, FailureKind, Keep, OperationState, Request, Tri, VaultName};
use lifeboat_testkit::{
    World,
    prove::{Case, prove_plan},
    trouble::{InTrouble, Trouble},
    world::{COPY, backup_of, restore_of},
};

fn copy() -> Request {
    Request::Copy { to: VaultName::new("offsite").unwrap() }
}

/// An engine that works with the copy as its vault, as `--vault offsite` does.
fn from_copy(world: &World) -> World {
    let mut there = world.copy();
    there.vaults.add("the vault", Arc::new(Folder::new(there.path("the-copy"))));
    there.setup.copies.clear();
    there
}

#[test]
fn a_copy_is_whole_or_not_there() {
    let world = World::shop().with_copy();
    world.backup();
    world.sell(5);
    world.backup();
    let tried = prove_plan(&Case { world: &world, request: copy(), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

#[test]
fn a_copy_that_breaks_off_keeps_what_has_gone_over_and_the_next_one_finishes_it() {
    let world = World::shop().with_copy();
    for _ in 0..3 {
        world.backup();
        world.sell(2);
    }
    let engine = world.engine_with(|hands| Arc::new(InTrouble::new(hands, Trouble::Fail(3))));
    let plan = engine.plan(&copy()).unwrap();
    let failed = engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap();
    assert!(matches!(failed.state, OperationState::PutBack { .. }), "{:?}", failed.state);
    assert_eq!(world.copied().len(), 1);
    let done = world.must(&copy());
    assert_eq!(done.plan.steps().filter(|step| step.id.0.starts_with("copy.")).count(), 2);
    assert_eq!(world.copied().len(), 3);
}

#[test]
fn only_what_is_missing_goes_over_and_the_lag_is_told() {
    let world = World::shop().with_copy();
    world.backup();
    let status = |world: &World| {
        let status = world.engine().look().status().unwrap();
        (status.copies[0].good, status.copies[0].lacks, status.copies[0].lag_s)
    };
    assert_eq!(status(&world), (Tri::Fail, 1, 0), "it holds nothing");
    let first = world.must(&copy());
    assert_eq!(first.plan.steps().filter(|step| step.id.0.starts_with("copy.")).count(), 1);
    assert_eq!(status(&world), (Tri::Pass, 0, 0));
    world.clock.advance(Duration::from_secs(3 * 86_400));
    world.backup();
    let (good, lacks, lag) = status(&world);
    assert_eq!((good, lacks), (Tri::Fail, 1));
    assert!(lag >= 3 * 86_400, "{lag}");
    world.must(&copy());
    assert_eq!(status(&world).0, Tri::Pass);
    let nothing = world.engine().plan(&copy()).unwrap();
    assert_eq!(nothing.steps().count(), 0, "a second time there is nothing to do");
}

#[test]
fn every_kind_of_resource_is_restored_from_a_copy() {
    let world = World::shop().with_copy();
    world.backup();
    let meant = world.look().live;
    world.must(&copy());
    world.sell(7);
    std::fs::write(world.app(".env"), "STRIPE_KEY=other\n").unwrap();
    std::fs::write(world.app("uploads/new"), "later").unwrap();
    // The first vault is gone, and with it every journal.
    std::fs::remove_dir_all(world.path("vault")).unwrap();
    std::fs::remove_dir_all(world.path("state")).unwrap();
    let there = from_copy(&world);
    assert_eq!(there.engine().recover().unwrap().journals.len(), 1, "the copy tells the history too");
    for name in ["db", "uploads", "env"] {
        there.must(&restore_of(name));
    }
    for name in ["db", "uploads", "env"] {
        assert_eq!(there.look().live[name], meant[name], "{name}");
    }
    there.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
}

#[test]
fn ret_09_a_copy_has_rules_of_its_own_and_is_not_filled_with_what_they_would_let_go() {
    let mut world = World::shop().with_copy();
    for _ in 0..4 {
        world.backup();
        world.clock.advance(Duration::from_secs(86_400));
    }
    let keep = Keep { within: None, last: 2, daily: 0, weekly: 0, monthly: 0, proven: 1, ..Keep::default() };
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    world.setup.copies[0].keep = keep.clone();
    world.must(&copy());
    let mut there = from_copy(&world);
    assert_eq!(there.backups().len(), 2);
    // Later its own rule lets older ones go, and the next copy does not bring them back.
    for _ in 0..2 {
        world.backup();
        world.clock.advance(Duration::from_secs(86_400));
    }
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    world.must(&copy());
    there = from_copy(&world);
    there.setup.keep = keep;
    assert_eq!(there.backups().len(), 4);
    there.must(&Request::Retention);
    there.must(&Request::Prune);
    assert_eq!(there.backups().len(), 2);
    assert_eq!(world.backups().len(), 6, "the vault itself follows its own rules");
}

#[test]
fn bkp_23_a_copy_damaged_on_its_way_is_told_and_the_backup_is_kept() {
    let world = World::shop().with_copy();
    let inner: Arc<dyn ObjectStore> = Arc::new(Folder::new(world.path("the-copy")));
    let store = Arc::new(FaultyObjects::new(inner, world.io.clock.clone(), 3, Faults::default()));
    world.vaults.add(COPY, store.clone());
    world.backup();
    world.must(&copy());
    std::fs::write(world.app("uploads/new"), vec![7; 200_000]).unwrap();
    let backup = world.must(&backup_of(&[]));
    store.set(Faults { damaged_put: 1000, ..Faults::default() });
    let failed = world.run(&copy()).unwrap();
    store.set(Faults::default());
    let OperationState::PutBack { why: Some(why) } = &failed.state else { panic!("{:?}", failed.state) };
    assert!(store.fired()[&Fault::DamagedPut] > 0);
    assert_eq!(why.kind, FailureKind::Outside, "{why}");
    assert!(why.message.contains("could not be copied to the copy"), "{why}");
    let engine: Engine = world.engine();
    let newest = engine.backups().unwrap().pop().unwrap();
    engine.verify_backup(&newest.id, &Unwatched, &Stop::default()).unwrap();
    assert_eq!(backup.state, OperationState::Done);
    for lock in std::fs::read_dir(world.path("the-copy/locks")).into_iter().flatten() {
        std::fs::remove_file(lock.unwrap().path()).unwrap(); // arrived damaged, belongs to nobody
    }
    world.must(&copy());
    assert_eq!(from_copy(&world).backups().len(), 2);
}

#[test]
fn a_copy_that_is_not_in_the_settings_is_refused() {
    let world = World::shop();
    world.backup();
    let refused = world.run(&copy()).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Usage);
    assert_eq!(refused.message, "shop/production has no copy called offsite");
}
