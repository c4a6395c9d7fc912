//! Rehearsals of a rollback: what passes, what does not, and where none is done.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_engine::rehearsals::{LIMIT_MS, due, of};
use lifeboat_model::{FailureKind, Operation, OperationState, Profile, ReleaseState, Request, Tri};
use lifeboat_testkit::{
    World,
    delivered::{good, run_release, seal, with_releases},
};

/// Staging runs its second release; the first is good.
fn staging() -> World {
    let mut world = World::shop();
    world.setup.scope.environment = "staging".into();
    let mut world = with_releases(world);
    std::fs::write(world.app("app.log"), "started\n").unwrap();
    world.setup.targets[0].log = Some(world.app("app.log"));
    world.backup();
    world.must(&seal(&world, "one"));
    world.must(&good("one"));
    run_release(&world, "two");
    world.must(&seal(&world, "two"));
    world
}

fn rehearse(world: &World) -> Operation {
    world.must(&world.engine().rehearsal_of_rollback(None, Some(Profile::AppOnly)).unwrap())
}

fn outcome(operation: &Operation, key: &str) -> Tri {
    of(operation).unwrap().points.iter().find(|point| point.key == key).unwrap().outcome
}

/// DRL-04: four of the six points are measured, two attested; 901 s are too long; what was left is not bad.
#[test]
fn drl_04_a_rehearsal_is_timed_and_held_against_fifteen_minutes() {
    let world = staging();
    let ready = |world: &World| world.engine().ready().unwrap().into_iter().find(|one| one.key == "rollback").unwrap();
    assert_eq!(ready(&world).outcome, Tri::Fail);
    assert!(due(&world.engine().rehearsals().unwrap(), world.io.clock.now()).1);

    let done = rehearse(&world);
    assert!(done.plan.title.contains("[DRILL]"), "{}", done.plan.title);
    assert_eq!(std::fs::read_to_string(world.app("running")).unwrap().trim(), "one");
    let states = |label: &str| {
        let all = world.engine().releases().unwrap();
        all.into_iter().find(|one| one.release.label.as_deref() == Some(label)).unwrap()
    };
    assert!(states("one").is_live);
    assert_ne!(states("two").state, ReleaseState::Bad);

    let all = world.engine().rehearsals().unwrap();
    let [rehearsal] = &all[..] else { panic!("{all:?}") };
    assert_eq!((rehearsal.outcome, rehearsal.profile, rehearsal.points.len()), (Tri::Pass, Profile::AppOnly, 6));
    assert_eq!(rehearsal.phases.len(), done.plan.phases.len());
    assert!(rehearsal.phases.iter().any(|phase| phase.phase == "restart" && phase.budget_ms == Some(180_000)));
    assert_eq!(ready(&world).outcome, Tri::Pass);
    assert!(!due(&all, world.io.clock.now()).1);

    // What only people can say is not known until they do; what is measured is nobody's word.
    assert_eq!(outcome(&done, "roles"), Tri::Unknown);
    let about = world.engine().rehearsal_about(done.id.as_str(), "roles").unwrap();
    world.must(&Request::Attest { about, report: Vec::new(), note: "Ada and Ben".into() });
    let point = world.engine().rehearsals().unwrap()[0].points.iter().find(|one| one.key == "roles").unwrap().clone();
    assert_eq!(point.outcome, Tri::Pass);
    assert!(point.detail.contains("Ada and Ben"), "{}", point.detail);
    for key in ["time", "weather"] {
        assert_eq!(world.engine().rehearsal_about(done.id.as_str(), key).unwrap_err().kind, FailureKind::Usage);
    }

    // The same journal, with its last line later.
    for (ms, wanted) in [(LIMIT_MS, Tri::Pass), (901_000, Tri::Fail)] {
        let mut slow = done.clone();
        slow.last_at = slow.started_at + std::time::Duration::from_millis(ms);
        assert_eq!((outcome(&slow, "time"), of(&slow).unwrap().outcome), (wanted, wanted), "{ms} ms");
    }
    // A step that was begun twice is an error that somebody has to look at.
    let mut again = done.clone();
    again.attempts[0] = 2;
    assert_eq!((outcome(&again, "errors"), of(&again).unwrap().outcome), (Tri::Fail, Tri::Fail));
    // One that was too slow is no rehearsal that counts.
    let quarter = std::time::Duration::from_secs(93 * 86_400);
    assert!(due(&all, world.io.clock.now() + quarter).1);
}

/// DRL-04: where nobody looks at what runs, nobody knows whether it is stable.
#[test]
fn drl_04_what_nobody_looked_at_is_not_known() {
    let mut world = staging();
    world.setup.targets[0].log = None;
    let done = rehearse(&world);
    assert_eq!((outcome(&done, "stable"), of(&done).unwrap().outcome), (Tri::Unknown, Tri::Unknown));
    assert_eq!(outcome(&done, "followed"), Tri::Pass);
}

/// DRL-04: one that does not come to its end is on record, and did not pass.
#[test]
fn one_that_fails_is_on_record() {
    let world = staging();
    std::fs::write(world.app("releases/one/broken"), "").unwrap();
    let request = world.engine().rehearsal_of_rollback(None, Some(Profile::AppOnly)).unwrap();
    let ended = world.run(&request).unwrap();
    assert!(matches!(ended.state, OperationState::PutBack { .. }), "{:?}", ended.state);
    let all = world.engine().rehearsals().unwrap();
    assert_eq!((all.len(), all[0].outcome), (1, Tri::Fail));
    assert_eq!(std::fs::read_to_string(world.app("running")).unwrap().trim(), "two");
}

/// DRL-08: nothing is rehearsed where real users are.
#[test]
fn drl_08_production_is_refused() {
    let world = with_releases(World::shop());
    let refused = world.engine().rehearsal_of_rollback(None, None).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.to_string().contains("real users"), "{refused}");
}
