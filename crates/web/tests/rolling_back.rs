//! A rollback over HTTP: a deploy that is not over makes way for it, as for `lifeboat rollback`, and nobody is asked to who need not.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

mod support;

use std::{
    path::PathBuf,
    sync::mpsc,
    time::{Duration, Instant},
};

use lifeboat_engine::{RunError, Unwatched};
use lifeboat_io::{Stop, lease};
use lifeboat_model::{Action, Operation, OperationState, ReleaseState, TargetAction};
use lifeboat_store::Role;
use lifeboat_testkit::{
    World,
    delivered::{deploy, good, run_release, seal, with_releases},
    trouble::with_something_before,
};

use support::House;

const OPERATIONS: &str = "/api/operations";
const WAIT: Duration = Duration::from_secs(60);

/// Release one is sealed, good and in use.
fn house() -> House {
    let world = with_releases(World::shop());
    std::fs::create_dir_all(world.app("releases/three")).unwrap();
    std::fs::write(world.app("releases/three/version"), "three").unwrap();
    world.backup();
    world.must(&seal(&world, "v-one"));
    world.must(&good("v-one"));
    House::new(world)
}

fn runs(house: &House) -> String {
    std::fs::read_to_string(house.world.app("running")).unwrap().trim().to_owned()
}

fn environment(house: &House) -> PathBuf {
    house.world.state().lease(&house.world.setup.scope, lifeboat_model::Lease::Environment)
}

/// Somebody else deploys a version, and stands before its watch until he is asked to make way; meanwhile the daemon works.
fn deploying<T>(house: &House, version: &str, work: impl FnOnce() -> T) -> (Result<Operation, RunError>, T) {
    let (begun, has_begun) = mpsc::channel();
    let path = environment(house);
    let is_watch = |action: &Action| matches!(action, Action::Target { action: TargetAction::Watch { .. }, .. });
    let engine = with_something_before(&house.world, is_watch, move || {
        begun.send(()).unwrap();
        let since = Instant::now();
        while lease::asked(&path).is_none() {
            assert!(since.elapsed() < WAIT, "nobody has asked");
            std::thread::yield_now();
        }
    });
    let plan = engine.plan(&deploy(&house.world, version)).unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| engine.run(&plan, "ann", &Unwatched, &Stop::default()));
        has_begun.recv().unwrap();
        let worked = work();
        (running.join().unwrap(), worked)
    })
}

#[test]
fn a_rollback_over_http_has_a_running_deploy_make_way() {
    let house = house();
    let bearer = house.token("op", Role::Operator);
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k-1")];
    let body = r#"{"ask":"rollback","reason":"it is slow","yes":true}"#;
    let (paused, id) = deploying(&house, "two", || {
        house.post(OPERATIONS, &[], body).is(401);
        let told = house.post(OPERATIONS, &headers[..1], r#"{"ask":"rollback"}"#).is(409).json();
        assert!(told["title"].as_str().unwrap().contains("is not over, and is taken back first"), "{told}");
        house.post(OPERATIONS, &headers[..1], r#"{"ask":"rollback","confirm":"shop/staging"}"#).is(409);
        let looked = house.post(OPERATIONS, &headers[..1], r#"{"ask":"rollback","release":"v-one","dry_run":true}"#);
        assert!(looked.is(200).data()["taken_back_first"].is_string());
        assert_eq!(lease::asked(&environment(&house)), None, "nobody was asked to make way");
        assert_eq!(runs(&house), "two");
        house.post(OPERATIONS, &headers, body).is(202).data()["id"].as_str().unwrap().to_owned()
    });
    let OperationState::Paused { why } = paused.unwrap().state else { panic!() };
    assert!(why.causes.join(" ").contains("op (api@127.0.0.1)"), "who waits is told: {why:?}");
    // Where the deploy began is where it was to lead to, and that is all.
    let ended = house.get(&format!("{OPERATIONS}/{id}")).is(200).data();
    assert_eq!((&ended["kind"], &ended["state"]), (&"deploy".into(), &"put-back".into()), "{ended}");
    assert_eq!(runs(&house), "one");
    let known = house.world.engine().releases().unwrap();
    let two = known.iter().find(|one| one.release.label.as_deref() == Some("v-two")).unwrap();
    assert_eq!(two.state, ReleaseState::Bad);
    assert!(two.why.as_deref().unwrap().contains("it is slow"), "{:?}", two.why);
    assert_eq!(house.post(OPERATIONS, &headers, body).is(202).data()["id"], id, "the same key is the same rollback");
    assert_eq!(lease::asked(&environment(&house)), None);
    // The lease is free again.
    house.does(&[], r#"{"ask":"backup"}"#);
}

/// A deploy that is over asks nobody anything; to an older release it goes on from where a deploy began.
#[test]
fn a_rollback_over_http_goes_on_where_the_deploy_began() {
    let house = house();
    let bearer = house.token("op", Role::Operator);
    let headers = [("authorization", bearer.as_str())];
    house.world.must(&deploy(&house.world, "two"));
    let back = house.does(&headers, r#"{"ask":"rollback","yes":true}"#);
    assert_eq!((&back["kind"], &back["state"]), (&"rollback".into(), &"done".into()), "{back}");
    assert_eq!(runs(&house), "one");
    house.post(OPERATIONS, &headers, r#"{"ask":"rollback","release":"nothing","yes":true}"#).is(400);
    house.world.must(&good("v-two"));
    house.world.must(&deploy(&house.world, "two"));
    let keyed = [headers[0], ("idempotency-key", "k-2")];
    let body = r#"{"ask":"rollback","release":"v-one","reason":"both are slow","yes":true}"#;
    let (paused, id) = deploying(&house, "three", || {
        house.post(OPERATIONS, &keyed, body).is(202).data()["id"].as_str().unwrap().to_owned()
    });
    assert!(matches!(paused.unwrap().state, OperationState::Paused { .. }));
    house.watch(&id);
    let back = house.get(&format!("{OPERATIONS}/{id}")).is(200).data();
    assert_eq!((&back["kind"], &back["state"]), (&"rollback".into(), &"done".into()), "{back}");
    assert_eq!(runs(&house), "one");
    assert_eq!(house.post(OPERATIONS, &keyed, body).is(202).data()["id"], id);
}

/// A deploy that died has nobody who could make way: it is taken back all the same.
#[test]
fn a_rollback_over_http_takes_a_dead_deploy_back() {
    let house = house();
    let bearer = house.token("op", Role::Operator);
    let (paused, _) = deploying(&house, "two", || {
        lease::ask(&environment(&house), "bob", house.world.io.clock.now(), "look").unwrap()
    });
    assert!(!paused.unwrap().is_closed());
    assert_eq!(runs(&house), "two");
    let done = house.does(&[("authorization", &bearer)], r#"{"ask":"rollback","confirm":"shop/production"}"#);
    assert_eq!((&done["kind"], &done["state"]), (&"deploy".into(), &"put-back".into()), "{done}");
    assert_eq!(runs(&house), "one");
}

/// Release one was good and does not start any more, an older one does, and two is in use.
fn with_an_older_one() -> World {
    let world = with_releases(World::shop());
    std::fs::create_dir_all(world.app("releases/three")).unwrap();
    std::fs::write(world.app("releases/three/version"), "three").unwrap();
    world.backup();
    for (version, label) in [("three", "v-old"), ("one", "v-one")] {
        run_release(&world, version);
        world.must(&seal(&world, label));
        world.must(&good(label));
        world.clock.advance(Duration::from_secs(1));
    }
    run_release(&world, "two");
    std::fs::write(world.app("releases/one/broken"), "").unwrap();
    world
}

const BY_THE_RULES: &str = r#"{"ask":"rollback","reason":"decided by the rules: data_loss","yes":true}"#;

/// RST-21: the first answer leads to every way that follows, and to what a person takes over.
#[test]
fn rst_21_over_http_the_first_answer_leads_to_the_ways_that_follow() {
    let house = House::new(with_an_older_one());
    let bearer = house.token("op", Role::Operator);
    let headers = [("authorization", bearer.as_str())];
    let first = house.post(OPERATIONS, &headers, BY_THE_RULES).is(202).data();
    let id = first["id"].as_str().unwrap();
    house.watch(id);
    let ways = over(&house, first["ways"].as_str().unwrap());
    let states: Vec<_> = ways["ways"].as_array().unwrap().iter().map(|way| way["state"].as_str().unwrap()).collect();
    assert_eq!((states.as_slice(), &ways["ways"][0]["id"]), (&["put-back", "done"][..], &first["id"]), "{ways}");
    assert_eq!(runs(&house), "three");
    let second = ways["ways"][1]["id"].as_str().unwrap();
    assert_eq!(house.get(&format!("{OPERATIONS}/{second}/ways")).is(200).data(), ways, "from each of them");
    house.post(&format!("{OPERATIONS}/{id}/abort"), &headers, "").is(409);

    // A person's rollback goes no further than was agreed to, and says what can be typed.
    run_release(&house.world, "two");
    let told = house.post(OPERATIONS, &headers, r#"{"ask":"rollback","release":"v-one","yes":true}"#).is(202).data();
    let ways = over(&house, told["ways"].as_str().unwrap());
    assert_eq!(ways["ways"].as_array().unwrap().len(), 1, "{ways}");
    assert!(ways["not_tried"][0].as_str().unwrap().contains("nobody has agreed"), "{ways}");
    assert!(ways["handover"]["next"][0].as_str().unwrap().starts_with("lifeboat rollback r-"), "{ways}");
    assert_eq!(runs(&house), "two");
}

/// Waits until no way follows any more.
fn over(house: &House, place: &str) -> serde_json::Value {
    let since = Instant::now();
    loop {
        let ways = house.get(place).is(200).data();
        if ways["over"] == true {
            return ways;
        }
        assert!(since.elapsed() < WAIT, "{ways}");
        std::thread::yield_now();
    }
}

/// RST-21: who aborts what was asked for aborts what it has become, and nothing follows.
#[test]
fn rst_21_over_http_an_abort_reaches_the_way_that_runs() {
    let world = with_an_older_one();
    let (begun, has_begun) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let is_next = |action: &Action| matches!(action, Action::Target { action: TargetAction::Switch { version, .. }, .. } if version == "three");
    let engine = with_something_before(&world, is_next, move || {
        begun.send(()).unwrap();
        may_go.recv_timeout(WAIT).unwrap();
    });
    let house = House::with(world, engine);
    let bearer = house.token("op", Role::Operator);
    let headers = [("authorization", bearer.as_str())];
    let first = house.post(OPERATIONS, &headers, BY_THE_RULES).is(202).data();
    has_begun.recv_timeout(WAIT).unwrap();
    let aborted = house.post(&format!("{}/abort", first["href"].as_str().unwrap()), &headers, "").is(202).data();
    assert_ne!(aborted["id"], first["id"], "the way that runs is what is aborted");
    go.send(()).unwrap();
    let ways = over(&house, first["ways"].as_str().unwrap());
    let states: Vec<_> = ways["ways"].as_array().unwrap().iter().map(|way| way["state"].as_str().unwrap()).collect();
    assert_eq!((states.as_slice(), &ways["ways"][1]["id"]), (&["put-back"; 2][..], &aborted["id"]), "{ways}");
    assert_eq!(runs(&house), "two");
}
