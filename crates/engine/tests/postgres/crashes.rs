//! What dies in the middle of a step: our process, between two statements; the server.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lifeboat_engine::Unwatched;
use lifeboat_io::{
    Stop,
    database::postgres::{self, Address, Session},
    failpoint::Death,
    testing::MapEnv,
};
use lifeboat_model::{Action, Failure, FailureKind, Operation, OperationState, PgAction};
use lifeboat_testkit::{
    World,
    postgres::Server,
    trouble::{Around, meddled, unless_it_dies},
    world::restore_of,
};

use super::shop;

fn session(server: &Server, database: &str) -> Session {
    Session::open(&Address::parse(&server.url(database), &MapEnv::default()).unwrap(), &Stop::default()).unwrap()
}

/// What a process leaves that dies inside of an action.
fn half_done(server: &Server, action: &Action) -> bool {
    let mut session = session(server, "postgres");
    match action {
        Action::Postgres(PgAction::Fill { database, .. }) => {
            session.run(&format!("CREATE DATABASE {database}")).unwrap();
            server.sql(database, "CREATE TABLE customers (half text)");
        }
        Action::Postgres(PgAction::Swap { live, aside, .. }) => {
            postgres::close_database(&mut session, live).unwrap();
            postgres::close_database(&mut session, aside).unwrap();
        }
        _other => return false,
    }
    true
}

#[test]
fn a_death_inside_of_a_step_leaves_nothing_half_done() {
    let world = shop(15);
    let (before, meant) = ends(&world);
    for (word, what) in [("fill", "Fill {"), ("swap", "Swap {")] {
        for abort in [true, false] {
            let world = world.copy();
            let server = world.server.clone().unwrap();
            let what = what.to_owned();
            let die: Box<Around> = Box::new(move |_turn, action, act| {
                if format!("{action:?}").contains(&what) && half_done(&server.lock().unwrap(), action) {
                    std::panic::panic_any(Death);
                }
                act()
            });
            let engine = meddled(&world, die);
            let plan = engine.plan(&restore_of("db")).unwrap();
            let died = unless_it_dies(|| engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap());
            assert!(died.is_none(), "it must have died in the {word}");
            drop(engine);
            let engine = world.engine();
            let id = engine.unfinished_one(None).unwrap();
            let ended = match abort {
                true => engine.abort(&id, "tester", &Unwatched).unwrap(),
                false => engine.resume(&id, "tester", &Unwatched, &Stop::default()).unwrap(),
            };
            let expected = if abort { &before } else { &meant };
            assert_eq!(world.look(), *expected, "{word}, abort {abort}: {:?}", ended.state);
        }
    }
}

/// How the world looks before and after a restore.
fn ends(world: &World) -> (lifeboat_testkit::world::Look, lifeboat_testkit::world::Look) {
    let done = world.copy();
    done.restore("db");
    (world.look(), done.look())
}

/// When a server crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    Before,
    Inside,
    After,
}

/// Crashes the server while the action is at work.
fn crash_inside(server: &Arc<Mutex<Server>>, action: &Action) {
    match action {
        Action::Postgres(PgAction::Fill { database, .. }) => {
            let (server, database) = (server.clone(), database.clone());
            std::thread::spawn(move || {
                let mut session = session(&server.lock().unwrap(), "postgres");
                let until = Instant::now() + Duration::from_secs(20);
                while !postgres::database_exists(&mut session, &database).unwrap() && Instant::now() < until {}
                server.lock().unwrap().crash();
            });
        }
        _other => {
            let mut server = server.lock().unwrap();
            half_done(&server, action);
            server.crash();
        }
    }
}

#[test]
fn a_server_that_crashes_at_any_step_is_wholly_old_or_wholly_new_after_resume() {
    let world = shop(15);
    let (before, meant) = ends(&world);
    let steps = world.engine().plan(&restore_of("db")).unwrap().steps().count();
    let (mut old, mut new) = (0, 0);
    for at in 0..steps {
        for when in [Crash::Before, Crash::Inside, Crash::After] {
            let world = world.copy();
            let server = world.server.clone().unwrap();
            let crash: Box<Around> = Box::new(move |turn, action, act| {
                match when {
                    Crash::Inside if turn == at => crash_inside(&server, action),
                    Crash::Before if turn == at => server.lock().unwrap().crash(),
                    _another_time => {}
                }
                let done = act();
                if when == Crash::After && turn == at {
                    server.lock().unwrap().crash();
                }
                done
            });
            let engine = meddled(&world, crash);
            let plan = engine.plan(&restore_of("db")).unwrap();
            let left = engine.run(&plan, "tester", &Unwatched, &Stop::default());
            drop(engine);
            let ended = come_back(&world, left.unwrap());
            let look = world.look();
            match &ended.state {
                OperationState::Done => assert_eq!(look, meant, "step {at}, {when:?}"),
                OperationState::PutBack { .. } => assert_eq!(look, before, "step {at}, {when:?}"),
                open => panic!("step {at}, {when:?}: {open:?}"),
            }
            if ended.state == OperationState::Done { new += 1 } else { old += 1 }
        }
    }
    assert!(old > 0 && new > 0, "{old} {new}");
}

/// The server starts again, and the operation is resumed when it is open.
fn come_back(world: &World, left: Operation) -> Operation {
    {
        let mut server = world.server();
        server.crash(); // one that crashes at a later moment than expected would do so during the resume
        server.restart();
    }
    if left.is_closed() {
        return left;
    }
    world.engine().resume(&left.id, "tester", &Unwatched, &Stop::default()).unwrap()
}

#[test]
fn a_swap_whose_answer_is_lost_with_the_server_drops_nothing_that_was_written_since() {
    let world = shop(15).copy(); // a crash right after the first inserts would let sequences skip some numbers
    let before = world.look();
    let server = world.server.clone().unwrap();
    let lose: Box<Around> = Box::new(move |_turn, action, act| {
        let done = act();
        if matches!(action, Action::Postgres(PgAction::Swap { .. })) {
            server.lock().unwrap().crash();
            return Err(Failure::new(FailureKind::Outside, "the answer was lost"));
        }
        done
    });
    let engine = meddled(&world, lose);
    let plan = engine.plan(&restore_of("db")).unwrap();
    let left = engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap();
    assert!(!left.is_closed(), "{:?}", left.state);
    drop(engine);
    world.server().restart();
    world.psql("shop", "INSERT INTO log VALUES ('somebody was here')");
    let ended = world.engine().resume(&left.id, "tester", &Unwatched, &Stop::default()).unwrap();
    assert!(matches!(ended.state, OperationState::PutBack { .. }), "{:?}", ended.state);
    let look = world.look();
    assert_eq!((&look.live, &look.debris), (&before.live, &before.debris));
    assert!(look.kept["shop_new"].contains("public.log 1 "), "{:?}", look.kept);
}
