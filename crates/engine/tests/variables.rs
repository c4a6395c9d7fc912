//! Former values of variables: set in their place, by name, taken back when asked, and never those that got into wrong hands.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::os::unix::fs::PermissionsExt;

use lifeboat_model::{BackupChoice, EnvAsk, FailureKind, OperationState, Profile, Request, Timestamp, VersionAsk};
use lifeboat_testkit::{
    World,
    delivered::{back, good, seal, with_releases},
    prove::{Case, prove_plan, prove_ways_out},
};

/// As it is in the backup; the last line has no end.
const THEN: &str =
    "# keys of the shop\nSTRIPE_KEY='sk_live_canary # 1'\nDEBUG=1\n\n# flags\nexport FEATURE=old\nPORT=3000";
/// As it is now: changed, gone, come, and in another order.
const NOW: &str = "# rewritten\nFEATURE=new\nPHASE_2=on\nSTRIPE_KEY=sk_live_new\nPORT=3000";

fn ask(keys: &[&str]) -> EnvAsk {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    EnvAsk { resource: None, from: BackupChoice::Latest, keys, keep_new: false, why: String::new() }
}

fn restore(ask: EnvAsk) -> Request {
    Request::Version { about: VersionAsk::Env(Box::new(ask)) }
}

fn changed(world: World) -> World {
    std::fs::write(world.app(".env"), THEN).unwrap();
    std::fs::set_permissions(world.app(".env"), PermissionsExt::from_mode(0o600)).unwrap();
    world.backup();
    std::fs::write(world.app(".env"), NOW).unwrap();
    world
}

fn text(world: &World) -> String {
    std::fs::read_to_string(world.app(".env")).unwrap()
}

/// ENV-01, ENV-05: a value is set where it stands, quotes and all; what is gone comes back at the end; what came since goes; all else stays byte by
/// byte. Twice is once, and undone it is as before.
#[test]
fn env_05_values_are_set_in_their_place_and_taken_back() {
    let world = changed(World::shop());
    let tried = prove_plan(&Case { world: &world, request: restore(ask(&[])), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let plan = world.engine().plan(&restore(ask(&[]))).unwrap();
    let told = serde_json::to_string(&plan).unwrap();
    for secret in ["sk_live", "canary"] {
        assert!(!told.contains(secret), "the plan holds a value");
    }
    let done = world.must(&restore(ask(&[])));
    assert_eq!(text(&world), "# rewritten\nFEATURE=old\nSTRIPE_KEY='sk_live_canary # 1'\nPORT=3000\nDEBUG=1\n");
    assert_eq!(std::fs::metadata(world.app(".env")).unwrap().permissions().mode() & 0o777, 0o600);
    let journal = std::fs::read_to_string(world.state().journal(&done.id)).unwrap();
    assert!(!journal.contains("canary") && !journal.contains("sk_live"), "the journal holds a value");
    assert_eq!(world.engine().plan(&restore(ask(&[]))).unwrap().steps().count(), 0, "there is nothing more to do");
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(text(&world), NOW);
    // One by its name; those that came since stay.
    world.must(&restore(ask(&["FEATURE"])));
    assert_eq!(text(&world), NOW.replace("FEATURE=new", "FEATURE=old"));
    let kept = EnvAsk { keep_new: true, ..ask(&[]) };
    world.must(&restore(kept));
    assert!(text(&world).contains("PHASE_2=on") && text(&world).contains("DEBUG=1\n"));
    let unknown = world.engine().plan(&restore(ask(&["NOBODY"]))).unwrap_err();
    assert_eq!(unknown.kind, FailureKind::Refused);
    // A file that somebody changes meanwhile is not written over.
    let engine = world.engine();
    std::fs::write(world.app(".env"), NOW).unwrap();
    let plan = engine.plan(&restore(ask(&[]))).unwrap();
    std::fs::write(world.app(".env"), "BY_HAND=1\n").unwrap();
    let stale = engine.run(&plan, "tester", &lifeboat_engine::Unwatched, &lifeboat_io::Stop::default()).unwrap_err();
    assert_eq!(stale.failure.kind, FailureKind::Stale);
}

/// ENV-12: a value that got into wrong hands does not come back, neither by its name nor with the others, nor by a rollback.
#[test]
fn env_12_a_rotated_secret_never_comes_back() {
    let world = changed(with_releases(World::shop()));
    world.must(&seal(&world, "v1"));
    world.must(&good("v1"));
    let before: Timestamp = lifeboat_io::Clock::now(&*world.clock) + lifeboat_model::Duration::from_secs(3_600);
    world.must(&Request::Compromise {
        secret: "STRIPE_KEY".into(),
        since: None,
        before,
        why: "it was in a log".into(),
        withdrawn: false,
    });
    let refused = world.engine().plan(&restore(ask(&["STRIPE_KEY"]))).unwrap_err();
    assert!(refused.to_string().contains("got into wrong hands"), "{refused}");
    let plan = world.engine().plan(&restore(ask(&[]))).unwrap();
    assert!(plan.notes.join("\n").contains("STRIPE_KEY stays as it is"), "{:?}", plan.notes);
    world.must(&back(Some("v1"), Some(Profile::EnvOnly)));
    assert_eq!(text(&world), "# rewritten\nFEATURE=old\nSTRIPE_KEY=sk_live_new\nPORT=3000\nDEBUG=1\n");
}

/// PHS-11, ENV-03: variables alone go back to those of a release, and the app is started with them; no flag of a later phase stays.
#[test]
fn phs_11_variables_alone_go_back_and_the_app_is_started_with_them() {
    let world = changed(with_releases(World::shop()));
    world.must(&seal(&world, "v1"));
    let unasked = world.engine().plan(&back(Some("v1"), None)).unwrap_err();
    assert!(unasked.causes.join("\n").contains("env-only: it is taken only when asked for"), "{unasked:?}");
    world.must(&good("v1"));
    let request = back(None, Some(Profile::EnvOnly));
    let tried = prove_ways_out(&Case { world: &world, request: request.clone(), undo: false }, |_step| true);
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let calls = || std::fs::read_to_string(world.app("calls")).unwrap();
    let before = calls();
    let done = world.must(&request);
    assert_eq!(calls().strip_prefix(&before), Some("stop\nstart\n"));
    assert!(!text(&world).contains("PHASE_2") && text(&world).contains("FEATURE=old"));
    assert_eq!(Profile::of(&done.plan), Some(Profile::EnvOnly));
    let again = world.engine().plan(&request).unwrap_err();
    assert!(again.causes.join("\n").contains("variables are as they were"), "{again:?}");
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(text(&world), NOW);
    prove_ways_out(&Case { world: &world.copy(), request: request.clone(), undo: true }, |_step| false);
    // An app that does not come up with them: as before.
    std::fs::write(world.app("releases/one/broken"), "").unwrap();
    std::fs::write(
        world.app("control"),
        std::fs::read_to_string(world.app("control"))
            .unwrap()
            .replace("test -e current/broken", "grep -q FEATURE=old .env"),
    )
    .unwrap();
    let failed = world.run(&request).unwrap();
    assert!(matches!(failed.state, OperationState::PutBack { .. }), "{:?}", failed.state);
    assert_eq!(text(&world), NOW);
}

/// ENV-16: a copy beside that says otherwise than the backup is refused by its names, never its values; one that says the same is none.
#[test]
fn env_16_two_former_truths_are_refused() {
    let world = changed(World::shop());
    std::fs::write(world.app(".env.backup"), THEN.replace("DEBUG=1", "DEBUG=canary_2").replace("PORT=3000", ""))
        .unwrap();
    let refused = world.engine().plan(&restore(ask(&[]))).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    let told = format!("{refused} {:?} {:?}", refused.causes, refused.hint);
    assert!(told.contains(".env.backup says otherwise than b-") && told.contains("of DEBUG, PORT"), "{told}");
    assert!(!told.contains("canary"), "{told}");
    assert_eq!(text(&world), NOW);
    // Who names what comes back means the backup's.
    world.must(&restore(ask(&["DEBUG"])));
    assert!(text(&world).contains("DEBUG=1"));
    // The same in other words, or in another order, is the same.
    std::fs::write(world.app(".env.backup"), "PORT=3000\nFEATURE=old\nDEBUG=1\nSTRIPE_KEY='sk_live_canary # 1'\n")
        .unwrap();
    world.must(&restore(ask(&[])));
    assert!(text(&world).contains("FEATURE=old"));
}
