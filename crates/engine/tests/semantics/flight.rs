//! Steps that were in flight when the process died: the world is asked first, and what it says is acted on.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use lifeboat_engine::Unwatched;
use lifeboat_io::{Stop, failpoint::Death};
use lifeboat_model::{Action, Event, FailureKind, Found, OperationId, OperationState};
use lifeboat_testkit::{World, trouble::unless_it_dies, world::restore_of};

use crate::hands::{bent, bent_with_probe, events, only_database, run, trouble};

/// Kills a restore just before it carries out the action with this word.
fn die_before(world: &World, word: &'static str) -> OperationId {
    let engine = bent(world, move |action, _context| {
        if serde_json::to_value(action).unwrap()["do"] == word {
            std::panic::panic_any(Death);
        }
        None
    });
    let plan = engine.plan(&restore_of("db")).unwrap();
    assert!(unless_it_dies(|| run(&engine, &plan)).is_none(), "{word} was never reached");
    world.engine().unfinished_one(None).unwrap()
}

fn sold() -> World {
    let world = only_database();
    world.backup();
    world.sell(2);
    world
}

#[test]
fn a_point_of_no_return_that_has_not_happened_can_be_aborted() {
    let world = sold();
    let before = world.look();
    let id = die_before(&world, "put-in-place");
    let end = world.engine().abort(&id, "tester", &Unwatched).unwrap();
    assert!(matches!(end.state, OperationState::PutBack { .. }), "{:?}", end.state);
    assert_eq!(world.look(), before);
}

#[test]
fn one_that_cannot_be_told_can_be_neither_aborted_nor_passed_over() {
    let world = sold();
    let id = die_before(&world, "put-in-place");
    let lost = || bent_with_probe(&world, |_action, _context| None, |_action| Some(Found::Unknown));
    let refused = lost().abort(&id, "tester", &Unwatched).unwrap_err();
    assert_eq!(refused.failure.kind, FailureKind::Refused, "{refused}");
    let asked = lost().resume(&id, "tester", &Unwatched, &Stop::default()).unwrap_err();
    assert_eq!((asked.failure.kind, asked.left_open.as_ref()), (FailureKind::NeedsPerson, Some(&id)), "{asked}");
    let waiting = world.engine().look().operation(&id).unwrap();
    assert!(matches!(waiting.state, OperationState::Paused { .. }), "it says that it waits: {:?}", waiting.state);
    let done = world.engine().resume(&id, "tester", &Unwatched, &Stop::default()).unwrap();
    assert_eq!(done.state, OperationState::Done);
}

#[test]
fn an_app_that_made_a_new_database_meanwhile_loses_neither() {
    for resumed in [true, false] {
        let world = sold();
        let before = world.look();
        let id = die_before(&world, "put-in-place");
        lifeboat_testkit::world::make_shop(&world.app("shop.db"), 1);
        let engine = world.engine();
        let end = match resumed {
            true => engine.resume(&id, "tester", &Unwatched, &Stop::default()),
            false => engine.abort(&id, "tester", &Unwatched),
        };
        let end = end.unwrap();
        assert!(matches!(end.state, OperationState::PutBack { .. }), "{:?}", end.state);
        assert_eq!(world.look().live, before.live);
        assert!(world.app("shop.db.found-1").exists(), "what the app made is kept under another name");
    }
}

#[test]
fn a_step_that_had_finished_is_adopted_and_not_done_again() {
    let world = sold();
    let again = AtomicUsize::new(0);
    let engine = bent(&world, |_action, _context| None);
    let plan = engine.plan(&restore_of("db")).unwrap();
    engine.tell_next(Box::new(|entry| {
        if matches!(&entry.event, Event::StepStarted { step, .. } if step.0 == "set-aside") {
            std::panic::panic_any(Death);
        }
    }));
    assert!(unless_it_dies(|| run(&engine, &plan)).is_none());
    let id = world.engine().unfinished_one(None).unwrap();
    // It had happened, and nothing was written about it.
    let Some(Action::SetAside { live, kept, .. }) =
        plan.steps().map(|step| step.action.clone()).find(|action| matches!(action, Action::SetAside { .. }))
    else {
        panic!("no set-aside")
    };
    lifeboat_io::place::set_aside(lifeboat_io::place::Thing::Database, &live, &kept, &Stop::default()).unwrap();
    let engine = bent(&world, move |action, _context| {
        if matches!(action, Action::SetAside { .. }) {
            again.fetch_add(1, Ordering::SeqCst);
            return Some(Err(trouble()));
        }
        None
    });
    let done = engine.resume(&id, "tester", &Unwatched, &Stop::default()).unwrap();
    assert_eq!(done.state, OperationState::Done);
    let adopted = events(&world, &done).into_iter().filter(|event| matches!(event, Event::Adopted { .. })).count();
    assert_eq!(adopted, 1);
}

#[test]
fn a_half_done_step_is_taken_back_first() {
    let world = sold();
    let before = world.look();
    let id = die_before(&world, "set-aside");
    // The sidecars are moved before the database: between the two it died.
    let plan = world.engine().look().operation(&id).unwrap().plan;
    let Some(Action::SetAside { live, kept, .. }) =
        plan.steps().map(|step| step.action.clone()).find(|action| matches!(action, Action::SetAside { .. }))
    else {
        panic!("no set-aside")
    };
    let beside = |path: &std::path::Path| std::path::PathBuf::from(format!("{}-wal", path.display()));
    fs::rename(beside(&live), beside(&kept)).unwrap();
    let done = world.engine().resume(&id, "tester", &Unwatched, &Stop::default()).unwrap();
    assert_eq!(done.state, OperationState::Done);
    let words: Vec<_> = events(&world, &done)
        .iter()
        .filter_map(|event| match event {
            Event::StepStarted { step, .. } if step.0 == "set-aside" => Some("begun"),
            Event::UndoStarted { .. } => Some("undo"),
            Event::UndoFinished { .. } => Some("undone"),
            _other => None,
        })
        .collect();
    assert_eq!(words, ["begun", "undo", "undone", "begun"]);
    world.must(&lifeboat_model::Request::Undo { operation: done.id });
    assert_eq!(world.look(), before);
}

#[test]
fn a_half_done_step_whose_undo_fails_or_dies_can_be_resumed_again() {
    for dies in [true, false] {
        let world = sold();
        let id = die_before(&world, "set-aside");
        let half = bent_with_probe(
            &world,
            move |action, _context| match action {
                Action::BringBack { .. } if dies => std::panic::panic_any(Death),
                Action::BringBack { .. } => Some(Err(trouble())),
                _other => None,
            },
            |action| matches!(action, Action::SetAside { .. }).then_some(Found::Partial),
        );
        let ended = unless_it_dies(|| half.resume(&id, "tester", &Unwatched, &Stop::default()));
        if let Some(ended) = ended {
            let error = ended.unwrap_err();
            assert_eq!((error.failure, error.left_open), (trouble(), Some(id.clone())));
        }
        let done = world.engine().resume(&id, "tester", &Unwatched, &Stop::default());
        let done = done.unwrap_or_else(|error| panic!("dies: {dies}: {error}"));
        assert_eq!(done.state, OperationState::Done);
    }
}
