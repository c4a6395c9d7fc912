//! The quarterly tests of a hybrid app: each is tried for real, ends as it began, and is on record.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_engine::drills::{due, of};
use lifeboat_model::{
    Drill, FailureKind, Operation, OperationState, Request, ResourceName, Tri,
    sync::{CycleReport, SyncAsk},
};
use lifeboat_testkit::{
    World,
    code::{git, with_code},
    prove::{Case, prove_plan, prove_steps},
    world::sql,
};

fn named(name: &str) -> ResourceName {
    ResourceName::new(name).unwrap()
}

fn drill(test: &str) -> Request {
    let about = match test {
        "switch" => Drill::Switch { link: named("cloud") },
        "queue" => Drill::Queue { link: named("cloud") },
        "rollback" => Drill::Rollback { target: None },
        _restore => Drill::Restore { resource: named("db") },
    };
    Request::Drill { about }
}

/// Staging of a shop with code, a mirror that delivers, and a backup.
fn staging() -> World {
    let mut world = with_code(World::shop().with_mirror(15));
    world.setup.scope.environment = "staging".into();
    world.must(&Request::Sync { link: named("cloud"), about: SyncAsk::Attach });
    world.backup();
    world
}

fn waiting(world: &World) -> u64 {
    world.engine().mirror(None).unwrap().status().unwrap().queue.queue_size
}

fn drain(world: &World) -> CycleReport {
    world.engine().mirror(None).unwrap().drain(&lifeboat_io::Stop::default()).unwrap()
}

fn output(operation: &Operation, step: &str) -> serde_json::Value {
    operation.output(&step.into()).unwrap().clone()
}

/// DRL-02: four runs leave four records, and each is due again after a quarter.
#[test]
fn drl_02_the_four_tests_leave_four_records() {
    let world = staging();
    let tests = Drill::WORDS;
    assert!(due(&world.engine().drills().unwrap(), world.io.clock.now()).iter().all(|one| one.is_due));
    let rows = || world.psql("shop", "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY id)) FROM mirror.orders t");
    drain(&world);
    let (before, head) = (rows(), git(&world.app("code"), &["rev-parse", "HEAD"]));

    let held = world.must(&drill("switch"));
    assert_eq!(output(&held, "held")["enabled"], false);
    assert!(output(&held, "changes")["noted"].as_u64().unwrap() > 0, "{held:?}");
    let cleared = world.must(&drill("queue"));
    assert!(output(&cleared, "cleared")["saved"].as_u64().unwrap() > 0);
    let rolled = world.must(&drill("rollback"));
    assert_eq!(git(&world.app("code"), &["rev-parse", "HEAD"]), head);
    assert!(std::fs::read_to_string(world.app("running")).unwrap().starts_with("three"));
    assert_eq!(std::fs::read_to_string(world.app("installed")).unwrap(), "three");
    let restored = world.must(&drill("restore"));
    assert!(!world.app("shop-test.db").exists(), "the test takes away what it made");

    assert_eq!((rows(), waiting(&world)), (before, 0));
    assert!(world.engine().mirror(None).unwrap().status().unwrap().enabled);
    let all = world.engine().drills().unwrap();
    let found: Vec<_> = all.iter().rev().map(|one| (one.test, one.operation.clone(), one.outcome)).collect();
    let wanted = [held, cleared, rolled, restored];
    let wanted: Vec<_> = tests.iter().zip(&wanted).map(|(test, ran)| (*test, ran.id.clone(), Tri::Pass)).collect();
    assert_eq!(found, wanted);
    assert!(all.iter().all(|one| one.scope.ends_with("/staging") && one.title.starts_with("[DRILL]")), "{all:?}");

    let now = world.io.clock.now();
    assert!(due(&all, now).iter().all(|one| !one.is_due));
    let quarter = std::time::Duration::from_secs(93 * 86_400);
    assert!(due(&all, now + quarter).iter().all(|one| one.is_due));
}

/// DRL-02: wherever one is broken off, what was switched off is on again, and nothing that waited is lost.
#[test]
fn drl_02_broken_off_anywhere_each_ends_as_it_began() {
    let mut world = with_code(World::shop());
    world.setup.scope.environment = "staging".into();
    world.backup();
    let tried = prove_plan(&Case { world: &world, request: drill("restore"), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    // The steps before are those of level 3, which is proven whole.
    let chosen = |step: &str| ["start", "back.version", "back.start"].contains(&step);
    let tried = prove_steps(&Case { world: &world, request: drill("rollback"), undo: false }, chosen);
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

/// DRL-02: a cloud that is away fails the test, and changes are delivered afterwards as before.
#[test]
fn drl_02_a_cloud_that_does_not_answer_is_on_record() {
    let world = staging();
    drain(&world);
    sql(&world.app("shop.db"), "UPDATE orders SET id = id WHERE id = 1");
    let before = waiting(&world);
    assert!(before > 0);
    let plan = world.engine().plan(&drill("queue")).unwrap();
    world.server().crash();
    let ended =
        world.engine().run(&plan, "a test", &lifeboat_engine::Unwatched, &lifeboat_io::Stop::default()).unwrap();
    assert!(matches!(ended.state, OperationState::PutBack { .. }), "{:?}", ended.state);
    let record = of(&ended).unwrap();
    assert_eq!((record.test, record.outcome), ("queue", Tri::Fail));
    assert!(waiting(&world) >= before, "what waited waits again");
    assert!(world.engine().mirror(None).unwrap().status().unwrap().enabled);
    world.server().restart();
    assert!(drain(&world).drained);
    assert!(due(&world.engine().drills().unwrap(), world.io.clock.now()).iter().all(|one| one.is_due));
}

/// DRL-02: held changes are held again; a file that is in the way is left alone; nothing is tried where real users are.
#[test]
fn drl_02_it_leaves_what_it_found() {
    let mut world = staging();
    world.must(&Request::Sync { link: named("cloud"), about: SyncAsk::Disable { why: "a test".into() } });
    world.must(&drill("switch"));
    assert!(!world.engine().mirror(None).unwrap().status().unwrap().enabled);
    std::fs::write(world.app("shop-test.db"), "somebody's").unwrap();
    let refused = world.run(&drill("restore")).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused, "{refused}");
    assert_eq!(std::fs::read_to_string(world.app("shop-test.db")).unwrap(), "somebody's");
    world.setup.scope.environment = "production".into();
    for test in Drill::WORDS {
        let refused = world.run(&drill(test)).unwrap_err();
        assert!(refused.to_string().contains("real users"), "{refused}");
    }
}
