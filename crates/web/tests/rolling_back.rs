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
    delivered::{deploy, good, seal, with_releases},
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
