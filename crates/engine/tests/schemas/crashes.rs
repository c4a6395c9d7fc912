//! A server that crashes, at each step and inside of the swap.

use lifeboat_engine::{Engine, Unwatched};
use lifeboat_io::Stop;
use lifeboat_model::{Action, Failure, FailureKind, Operation, OperationState, PgAction};
use lifeboat_testkit::{
    World,
    trouble::{Around, meddled},
};

use super::{restore, shop};

/// When a server crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    Before,
    Inside,
    After,
}

/// An engine whose server crashes around one action. After it, the answer is lost as well.
fn crashing(world: &World, at: usize, when: Crash) -> Engine {
    let server = world.server.clone().unwrap();
    let around: Box<Around> = Box::new(move |turn, _action, act| {
        if turn != at {
            return act();
        }
        if when == Crash::Before {
            server.lock().unwrap().crash();
        }
        let done = std::thread::scope(|scope| {
            let crashing = (when == Crash::Inside).then(|| {
                scope.spawn(|| {
                    let until = std::time::Instant::now() + std::time::Duration::from_millis(150);
                    while std::time::Instant::now() < until {
                        std::thread::yield_now();
                    }
                    server.lock().unwrap().crash();
                })
            });
            let done = act();
            crashing.into_iter().for_each(|crashing| crashing.join().unwrap());
            done
        });
        if when == Crash::After {
            server.lock().unwrap().crash();
            return Err(Failure::new(FailureKind::Outside, "the answer was lost"));
        }
        done
    });
    meddled(world, around)
}

/// The server starts again, and the operation is resumed when it is open.
fn come_back(world: &World, left: Operation) -> Operation {
    {
        let mut server = world.server();
        server.crash();
        server.restart();
    }
    if left.is_closed() {
        return left;
    }
    world.engine().resume(&left.id, "tester", &Unwatched, &Stop::default()).unwrap()
}

#[test]
fn a_server_that_crashes_at_any_step_leaves_schemas_wholly_old_or_wholly_new() {
    let world = shop(15).copy(); // a crash right after the first inserts would let sequences skip some numbers
    let done = world.copy();
    done.must(&restore());
    let (before, meant) = (world.look(), done.look());
    let steps = world.engine().plan(&restore()).unwrap().steps().count();
    let (mut old, mut new) = (0, 0);
    for at in 0..steps {
        for when in [Crash::Before, Crash::Inside, Crash::After] {
            let world = world.copy();
            let engine = crashing(&world, at, when);
            let plan = engine.plan(&restore()).unwrap();
            let left = engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap();
            drop(engine);
            let ended = come_back(&world, left);
            let mut look = world.look();
            match &ended.state {
                OperationState::Done => {
                    assert_eq!(look, meant, "step {at}, {when:?}");
                    new += 1;
                }
                OperationState::PutBack { .. } => {
                    // A swap that had happened is exchanged back; what was live for that moment is kept.
                    look.kept.remove("schema public_new");
                    assert_eq!(look, before, "step {at}, {when:?}");
                    old += 1;
                }
                open => panic!("step {at}, {when:?}: {open:?}"),
            }
        }
    }
    assert!(old > 0 && new > 0, "{old} {new}");
}

#[test]
fn a_swap_whose_answer_is_lost_with_the_server_drops_nothing_that_was_written_since() {
    let world = shop(15).copy();
    let before = world.look();
    let plan = world.engine().plan(&restore()).unwrap();
    let swap =
        plan.steps().position(|step| matches!(step.action, Action::Postgres(PgAction::SwapSchemas { .. }))).unwrap();
    let engine = crashing(&world, swap, Crash::After);
    let plan = engine.plan(&restore()).unwrap();
    let left = engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap();
    assert!(!left.is_closed(), "{:?}", left.state);
    drop(engine);
    world.server().restart();
    world.psql("shop", "INSERT INTO log VALUES ('somebody was here')");
    let ended = world.engine().resume(&left.id, "tester", &Unwatched, &Stop::default()).unwrap();
    assert!(matches!(ended.state, OperationState::PutBack { .. }), "{:?}", ended.state);
    let look = world.look();
    assert_eq!((&look.live, &look.debris), (&before.live, &before.debris));
    assert!(look.kept["schema public_new"].contains("public_new.log 1 "), "{:?}", look.kept);
}
