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

/// DRL-01: a quarter after the last that passed the next is due, and is said to be.
#[test]
fn drl_01_a_rehearsal_is_due_every_quarter() {
    let world = staging();
    let is_due = || due(&world.engine().rehearsals().unwrap(), world.io.clock.now()).1;
    assert!(is_due(), "there was none yet");
    rehearse(&world);
    assert!(!is_due());
    world.clock.advance(std::time::Duration::from_secs(91 * 86_400));
    assert!(!is_due());
    world.clock.advance(std::time::Duration::from_secs(9 * 86_400));
    assert!(is_due(), "the last was 100 days ago");
}

/// FNC-11: where nobody has said how what runs is stopped, it is not ready.
#[test]
fn fnc_11_a_missing_command_of_the_platform_is_not_ready() {
    let mut world = staging();
    let point = |world: &World| {
        let points = world.engine().ready().unwrap();
        let found = points.into_iter().find(|point| point.key == "platform").unwrap();
        (found.outcome, found.detail, found.can_be_attested)
    };
    assert_eq!(point(&world).0, Tri::Pass);
    world.setup.targets[0].stop = vec![];
    let (outcome, detail, can_be_attested) = point(&world);
    assert_eq!((outcome, can_be_attested), (Tri::Fail, false), "nobody's word makes it stand");
    assert!(detail.contains("stop of web"), "{detail}");
    world.setup.targets = vec![];
    world.setup.scope.environment = "production".into();
    assert!(point(&world).1.contains("nobody has said what runs"), "{:?}", point(&world));
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

    // The same journal, as if it had taken longer.
    for (ms, wanted) in [(LIMIT_MS, Tri::Pass), (901_000, Tri::Fail)] {
        let mut slow = done.clone();
        slow.elapsed_ms = ms;
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

fn stand(world: &World, key: &str) -> Vec<(&'static str, Tri)> {
    let engine = world.engine();
    let checked = engine.checklist(key, &engine.subject(key, None).unwrap()).unwrap();
    checked.items.iter().map(|item| (item.key, item.outcome)).collect()
}

fn attest(world: &World, list: &str, point: &str) {
    let engine = world.engine();
    let about = engine.checklist_about(list, point, &engine.subject(list, None).unwrap()).unwrap();
    world.must(&Request::Attest { about, report: Vec::new(), note: "Ada says so".into() });
}

/// CHK-01, DRL-05: six points of a drill, three by what is seen; the next has to be due later. Those of the rehearsal are the same record.
#[test]
fn drl_05_the_lists_of_a_rehearsal_are_tracked() {
    let mut world = staging();
    assert_eq!(world.engine().subject("drill", None).unwrap_err().kind, FailureKind::Refused);
    let way = lifeboat_model::message::Way::File { path: world.app("told.jsonl") };
    world.setup.channels = vec![lifeboat_model::message::Channel { name: "status".into(), way, occasions: Vec::new() }];
    rehearse(&world);
    let (yes, unknown) = (Tri::Pass, Tri::Unknown);
    assert_eq!(
        stand(&world, "drill"),
        [
            ("announced", yes),
            ("participants", unknown),
            ("timed", yes),
            ("issues", unknown),
            ("procedures", unknown),
            ("next", yes)
        ]
    );
    for point in ["participants", "issues", "procedures"] {
        attest(&world, "drill", point);
    }
    assert!(stand(&world, "drill").iter().all(|(_, outcome)| *outcome == yes));
    let points = stand(&world, "rehearsal");
    assert_eq!(points.iter().filter(|(_, outcome)| *outcome == yes).count(), 4, "{points:?}");
    attest(&world, "rehearsal", "roles");
    assert_eq!(stand(&world, "rehearsal")[4], ("roles", yes));
    let seen = world.engine().rehearsals().unwrap()[0].points.iter().find(|one| one.key == "roles").unwrap().outcome;
    assert_eq!(seen, yes, "it is the same word");
    // Nobody's word makes up for what is measured; and the next is due after a quarter.
    let engine = world.engine();
    let subject = engine.subject("rehearsal", None).unwrap();
    assert_eq!(engine.checklist_about("rehearsal", "time", &subject).unwrap_err().kind, FailureKind::Usage);
    assert_eq!(stand(&world, "quarterly-tests")[1], ("rollback", yes));
    world.clock.advance(std::time::Duration::from_secs(93 * 86_400));
    assert_eq!(stand(&world, "drill")[5], ("next", Tri::Fail));
    assert_eq!(stand(&world, "quarterly-tests")[1], ("rollback", unknown), "more than a quarter ago");
}

/// CHK-01: lists that belong to the app or to an incident: what was done within the quarter, or since it was over; else a person's word, which
/// counts for a quarter where it is about the app.
#[test]
fn chk_01_lists_of_the_app_and_of_an_incident() {
    let world = staging();
    let outcome = |key: &str, point: &str| stand(&world, key).iter().find(|one| one.0 == point).unwrap().1;
    assert!(stand(&world, "quarterly-drill").iter().all(|(_, outcome)| *outcome == Tri::Unknown));
    assert_eq!(outcome("pre-production", "rollback"), Tri::Fail);
    let prove = Request::Prove { backup: lifeboat_model::BackupChoice::Latest, resources: vec![] };
    world.must(&prove);
    rehearse(&world);
    assert_eq!(outcome("quarterly-drill", "database"), Tri::Pass);
    assert_eq!(outcome("quarterly-drill", "pages"), Tri::Pass);
    assert_eq!(outcome("quarterly-drill", "functions"), Tri::Unknown, "nothing at the edge went back");
    assert_eq!(outcome("quarterly-tests", "restore"), Tri::Pass);
    assert_eq!(outcome("pre-production", "rollback"), Tri::Pass);
    attest(&world, "quarterly-drill", "lessons");
    attest(&world, "pre-production", "training");
    assert_eq!(outcome("quarterly-drill", "lessons"), Tri::Pass);
    assert_eq!(outcome("pre-production", "training"), Tri::Pass);
    world.clock.advance(std::time::Duration::from_secs(93 * 86_400));
    assert_eq!(
        (outcome("quarterly-drill", "lessons"), outcome("quarterly-drill", "database")),
        (Tri::Unknown, Tri::Unknown)
    );
    // An incident.
    use lifeboat_model::IncidentStep;
    assert_eq!(world.engine().subject("post-incident", None).unwrap_err().kind, FailureKind::Refused);
    let since = lifeboat_io::Clock::now(&*world.clock);
    let opened = world
        .must(&Request::Incident { about: IncidentStep::Open { title: "payments".into(), since, provider_sla: None } });
    assert_eq!(outcome("post-incident", "tested"), Tri::Fail, "it is not over");
    let incident = opened.id;
    world.must(&Request::Incident {
        about: IncidentStep::Close { incident: incident.clone(), note: "mended".into(), leave_off: false },
    });
    assert_eq!(outcome("post-incident", "tested"), Tri::Unknown, "what was proven before does not count");
    world.clock.advance(std::time::Duration::from_secs(60));
    world.must(&prove);
    assert_eq!(outcome("post-incident", "tested"), Tri::Pass);
    assert_eq!(outcome("post-incident", "meeting"), Tri::Unknown);
    world.must(&Request::Incident { about: IncidentStep::Review { incident, note: "held".into() } });
    assert_eq!(outcome("post-incident", "meeting"), Tri::Pass);
    for point in ["report", "runbooks", "prevention"] {
        attest(&world, "incident-review", point);
    }
    world.clock.advance(std::time::Duration::from_secs(93 * 86_400));
    assert!(stand(&world, "incident-review").iter().all(|(_, outcome)| *outcome == Tri::Pass), "it stays true");
}

/// CHK-04: a command that cannot be run has said nothing: not known, so the gate is closed; what it says decides.
#[test]
fn chk_04_a_command_that_cannot_be_run_is_not_known() {
    let mut world = staging();
    let script = world.app("looks").display().to_string();
    std::fs::write(world.app("looks"), "echo made ticket 4711; exit $1\n").unwrap();
    let sh = |more: &[&str]| [&["/bin/sh"], more].concat().iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    rehearse(&world);
    for (command, wanted, says) in [
        (vec!["/nowhere/probe".to_owned()], Tri::Unknown, "cannot be run"),
        (sh(&["-c", "no-such-probe"]), Tri::Unknown, "exit code 127"),
        (sh(&[&script, "3"]), Tri::Fail, "ends with 3: made ticket 4711"),
        (sh(&[&script, "0"]), Tri::Pass, "made ticket 4711"),
    ] {
        world.setup.checks.insert("smoke.create".into(), command);
        let engine = world.engine();
        let subject = engine.subject("smoke", None).unwrap();
        let checked = engine.checklist("smoke", &subject).unwrap();
        let point = checked.items.iter().find(|one| one.key == "create").unwrap();
        assert_eq!(point.outcome, wanted, "{}", point.detail);
        assert!(point.detail.contains(says), "{}", point.detail);
        assert_ne!(checked.outcome(), Tri::Pass, "the gate is closed: others are not known");
        let word = engine.checklist_about("smoke", "create", &subject);
        assert_eq!(word.is_err(), wanted == Tri::Fail, "nobody's word stands against what was seen");
    }
}
