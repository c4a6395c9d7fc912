//! People interrupt, actors fail, budgets run out: what is told, and what is left.

use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::{
    Action, BackupChoice, Event, Failure, FailureKind, OperationState, ProofLevel, Request, StepState, Tri,
};
use lifeboat_testkit::world::restore_of;

use crate::hands::{bent, events, only_copied_database, only_database, resume, run, state, trouble};

#[test]
fn interrupted_once_it_stops_at_a_safe_point_and_goes_on_later() {
    let world = only_database();
    world.backup();
    world.sell(2);
    let before = world.look();
    let stop = Stop::default();
    let asked = stop.clone();
    let engine = bent(&world, move |action, _context| {
        if matches!(action, Action::Fetch { .. }) {
            asked.at_safe_point();
        }
        None
    });
    let plan = engine.plan(&restore_of("db")).unwrap();
    let paused = engine.run(&plan, "tester", &Unwatched, &stop).unwrap();
    let OperationState::Paused { why } = &paused.state else { panic!("{:?}", paused.state) };
    assert_eq!(why.kind, FailureKind::Interrupted);
    assert!(matches!(state(&paused, "fetch"), StepState::Done { .. }), "the running step was finished");
    assert_eq!(state(&paused, "check"), &StepState::Planned);
    assert_eq!(world.look().live, before.live);
    let done = resume(&world, &paused).unwrap();
    assert_eq!(done.state, OperationState::Done);
    assert_ne!(world.look().live, before.live);
}

#[test]
fn interrupted_once_past_the_point_of_no_return_it_goes_to_its_end() {
    let world = only_database();
    world.backup();
    let stop = Stop::default();
    let asked = stop.clone();
    let engine = bent(&world, move |action, _context| {
        if matches!(action, Action::PutInPlace { .. }) {
            asked.at_safe_point();
        }
        None
    });
    let plan = engine.plan(&restore_of("db")).unwrap();
    assert_eq!(engine.run(&plan, "tester", &Unwatched, &stop).unwrap().state, OperationState::Done);
}

#[test]
fn interrupted_twice_it_is_put_back() {
    let world = only_copied_database();
    world.backup();
    world.sell(2);
    let before = world.look();
    for broken_off in ["capture-sqlite", "store-backup", "fetch", "check-fetched", "set-aside"] {
        let world = world.copy();
        let stop = Stop::default();
        let asked = stop.clone();
        let engine = bent(&world, move |action, _context| {
            if serde_json::to_value(action).unwrap()["do"] == broken_off {
                asked.now();
            }
            None
        });
        let plan = engine.plan(&restore_of("db")).unwrap();
        let end = engine.run(&plan, "tester", &Unwatched, &stop).unwrap();
        let OperationState::PutBack { why: Some(why) } = &end.state else { panic!("{broken_off}: {:?}", end.state) };
        assert_eq!(why.kind, FailureKind::Interrupted, "{broken_off}: {why}");
        assert_eq!(world.look(), before, "{broken_off}");
    }
}

#[test]
fn a_rehearsal_that_is_interrupted_twice_waits_instead_of_taking_it_for_a_finding() {
    let world = only_database();
    world.backup();
    let stop = Stop::default();
    let asked = stop.clone();
    let engine = bent(&world, move |action, _context| {
        if matches!(action, Action::Fetch { .. }) {
            asked.now();
        }
        None
    });
    let request = Request::Prove { backup: lifeboat_model::BackupChoice::Latest, resources: vec![] };
    let plan = engine.plan(&request).unwrap();
    let paused = engine.run(&plan, "tester", &Unwatched, &stop).unwrap();
    assert!(matches!(paused.state, OperationState::Paused { .. }), "{:?}", paused.state);
    assert_eq!(world.engine().catalog().unwrap().proofs(None).unwrap(), []);
    assert_eq!(resume(&world, &paused).unwrap().state, OperationState::Done);
    assert!(world.backups()[0].proven_at.is_some());
}

#[test]
fn a_phase_over_its_budget_is_told_once_and_goes_on() {
    let mut world = only_database();
    world.backup();
    world.setup.budgets_ms.insert("preflight".into(), 3_000);
    world.setup.budgets_ms.insert("restore".into(), 60_000);
    let clock = world.clock.clone();
    let engine = bent(&world, move |action, _context| {
        if matches!(action, Action::CheckSpace { .. } | Action::Fetch { .. }) {
            clock.advance(std::time::Duration::from_secs(2));
        }
        None
    });
    let plan = engine.plan(&restore_of("db")).unwrap();
    let done = run(&engine, &plan).unwrap();
    assert_eq!(done.state, OperationState::Done);
    let told: Vec<_> =
        events(&world, &done).into_iter().filter(|event| matches!(event, Event::OverBudget { .. })).collect();
    // Three looks for space take two seconds each: it is told at the second, and not again at the third.
    assert_eq!(told, [Event::OverBudget { phase: "preflight".into(), over_ms: 1_000 }]);
    assert_eq!(done.over_budget, [("preflight".to_owned(), 1_000)]);
}

#[test]
fn an_actor_that_panics_is_unwound() {
    let world = only_database();
    world.backup();
    world.sell(1);
    let before = world.look();
    let engine = bent(&world, |action, _context| match action {
        Action::CheckFetched { .. } => panic!("an index out of bounds"),
        _other => None,
    });
    let plan = engine.plan(&restore_of("db")).unwrap();
    let end = run(&engine, &plan).unwrap();
    let OperationState::PutBack { why: Some(why) } = &end.state else { panic!("{:?}", end.state) };
    assert_eq!((why.kind, why.causes.as_slice()), (FailureKind::Bug, &["an index out of bounds".to_owned()][..]));
    assert_eq!(world.look(), before);
}

#[test]
fn an_undo_that_fails_stops_in_between_and_is_tried_again_later() {
    let world = only_database();
    world.backup();
    world.sell(1);
    let before = world.look();
    let engine = bent(&world, |action, _context| match action {
        Action::PutInPlace { .. } | Action::BringBack { .. } => Some(Err(trouble())),
        _other => None,
    });
    let plan = engine.plan(&restore_of("db")).unwrap();
    let between = run(&engine, &plan).unwrap();
    assert!(matches!(between.state, OperationState::TurningBack { .. }), "{:?}", between.state);
    assert!(matches!(state(&between, "set-aside"), StepState::Stuck { .. }));
    assert!(matches!(state(&between, "fetch"), StepState::Done { .. }), "nothing behind the stuck one is taken back");
    assert!(matches!(events(&world, &between).last(), Some(Event::Paused { .. })));
    assert_eq!(world.run(&restore_of("db")).unwrap_err().kind, FailureKind::Busy);
    let end = resume(&world, &between).unwrap();
    assert!(matches!(end.state, OperationState::PutBack { .. }), "{:?}", end.state);
    assert_eq!(world.look(), before);
}

#[test]
fn a_failure_past_the_point_of_no_return_waits_for_a_person() {
    let mut world = only_database();
    world.setup.resources[0].writer =
        Some(lifeboat_model::Writer { stop: vec!["true".into()], start: vec!["start-the-shop".into()] });
    world.backup();
    world.sell(1);
    let mended = AtomicBool::new(false);
    let engine = bent(&world, move |action, _context| match action {
        Action::Command { argv, .. } if argv[0] == "start-the-shop" => Some(match mended.load(Ordering::SeqCst) {
            true => Ok(serde_json::Value::Null),
            false => {
                mended.store(true, Ordering::SeqCst);
                Err(trouble())
            }
        }),
        _other => None,
    });
    let plan = engine.plan(&restore_of("db")).unwrap();
    let waiting = run(&engine, &plan).unwrap();
    assert!(waiting.past_pivot && matches!(waiting.state, OperationState::Paused { .. }), "{:?}", waiting.state);
    let refused = engine.abort(&waiting.id, "tester", &Unwatched).unwrap_err();
    assert_eq!(refused.failure.kind, FailureKind::Refused, "{refused}");
    let hint = format!("lifeboat resume {0}; afterwards lifeboat undo {0} takes it back", waiting.id);
    assert_eq!(refused.failure.hint, Some(hint));
    let still = world.engine().look().operation(&waiting.id).unwrap();
    assert_eq!(still, waiting, "a refused abort changes nothing, not even that it waits");
    let done = engine.resume(&waiting.id, "tester", &Unwatched, &Stop::default()).unwrap();
    assert_eq!(done.state, OperationState::Done);
}

#[test]
fn what_is_not_known_never_crosses_the_point_of_no_return() {
    let world = only_database();
    world.backup();
    world.sell(1);
    let before = world.look();
    for cannot_look in ["check-fetched", "check-unused", "check-backup"] {
        let world = world.copy();
        let engine = bent(&world, move |action, _context| {
            let word = serde_json::to_value(action).unwrap()["do"].clone();
            (word == cannot_look).then(|| Err(Failure::new(FailureKind::Unknown, "it could not be looked at")))
        });
        let plan = engine.plan(&restore_of("db")).unwrap();
        let end = run(&engine, &plan).unwrap();
        let OperationState::PutBack { why: Some(why) } = &end.state else { panic!("{cannot_look}: {:?}", end.state) };
        assert_eq!(why.kind, FailureKind::Unknown, "{cannot_look}");
        assert!(!events(&world, &end).iter().any(|event| matches!(event, Event::PivotCrossed { .. })));
        assert_eq!(world.look(), before, "{cannot_look}");
    }
}

/// What keeps a rehearsal from looking - a password, a full disk - says nothing about the backup.
#[test]
fn a_proof_that_could_not_look_is_unknown_and_takes_no_former_proof_away() {
    let world = only_database();
    world.backup();
    let rehearsal = Request::Prove { backup: BackupChoice::Latest, resources: vec![] };
    world.must(&rehearsal);
    let proven = world.backups()[0].proven_at;
    assert!(proven.is_some());
    for kind in [FailureKind::Refused, FailureKind::Outside] {
        let engine = bent(&world, move |action, _context| match action {
            Action::Fetch { .. } => Some(Err(Failure::new(kind, "the vault does not open"))),
            _other => None,
        });
        let tried = run(&engine, &engine.plan(&rehearsal).unwrap()).unwrap();
        let proofs = lifeboat_engine::Engine::proofs_of(&tried);
        assert_eq!((proofs[0].outcome, proofs[0].level), (Tri::Unknown, Some(ProofLevel::Stored)), "{:?}", proofs[0]);
        assert_eq!(world.backups()[0].proven_at, proven);
    }
    let engine = bent(&world, |action, _context| match action {
        Action::Fetch { .. } => Some(Err(Failure::new(FailureKind::Damaged, "a pack is not what it was"))),
        _other => None,
    });
    run(&engine, &engine.plan(&rehearsal).unwrap()).unwrap();
    assert_eq!(world.backups()[0].proven_at, None, "what was found out counts");
}
