//! Death right after every journal line: resumed, the operation ends as the undisturbed one; aborted before its point of
//! no return, the world is as it was.

use lifeboat_engine::{RunError, Unwatched};
use lifeboat_io::{Stop, failpoint::Death};
use lifeboat_model::{Operation, OperationId, OperationState, Request};
use lifeboat_store::JournalFile;
use lifeboat_testkit::{
    World,
    trouble::unless_it_dies,
    world::{Look, backup_of, restore_of},
};

use crate::hands::only_database;

/// Runs the request and dies right after the journal's line `line` is on disk; gives the operation that is left.
fn die_after_line(world: &World, request: &Request, line: u64) -> OperationId {
    let engine = world.engine();
    let plan = engine.plan(request).unwrap();
    // Line 0 is on disk before anybody can listen: die after line 1, which announces and does nothing, and take it away.
    let told = line.max(1);
    engine.tell_next(Box::new(move |entry| {
        if entry.seq == told {
            std::panic::panic_any(Death);
        }
    }));
    let run = unless_it_dies(|| engine.run(&plan, "tester", &Unwatched, &Stop::default()));
    assert!(run.is_none(), "line {line} was never written");
    let id = world.engine().look().operations(1).unwrap()[0].id.clone();
    if line == 0 {
        let path = world.state().journal(&id);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.split_inclusive('\n').next().unwrap()).unwrap();
    }
    id
}

fn lines(world: &World, id: &OperationId) -> Vec<lifeboat_model::Entry> {
    JournalFile::read(&world.state().journal(id)).unwrap().entries
}

/// A world, what is asked for in it, how it looks before, and how it is meant to look afterwards.
struct Case {
    world: World,
    request: Request,
    before: Look,
    meant: Look,
}

/// Tries every line of the request's journal, each time in a new world.
fn check(make: impl Fn() -> Case) {
    let clean = make();
    let done = clean.world.must(&clean.request);
    assert_eq!(clean.world.look(), clean.meant, "the undisturbed run");
    let pivot = done.plan.pivot().map(|pivot| done.plan.steps().nth(pivot).unwrap().id.clone());
    let finished = lines(&clean.world, &done.id).iter().position(|entry| match &entry.event {
        lifeboat_model::Event::StepFinished { step, .. } => Some(step) == pivot.as_ref(),
        _other => false,
    });
    let no_return = finished.map_or(u64::MAX, |line| line as u64);
    for line in 0..done.lines - 1 {
        resumed(&make(), line);
        aborted(&make(), line, line >= no_return);
    }
}

/// Copies of a world in which the request makes sense.
fn check_copies(world: &World, request: &Request) {
    let clean = world.copy();
    clean.must(request);
    let (before, meant) = (world.look(), clean.look());
    check(|| Case { world: world.copy(), request: request.clone(), before: before.clone(), meant: meant.clone() });
}

fn resumed(case: &Case, line: u64) {
    let Case { world, request, meant, .. } = case;
    let id = die_after_line(world, request, line);
    let end = world.engine().resume(&id, "tester", &Unwatched, &Stop::default());
    must_be_done(end, world, meant, &format!("died after line {line}, resumed"));
    let again = world.engine().resume(&id, "tester", &Unwatched, &Stop::default()).unwrap_err();
    assert!(again.failure.message.ends_with("is over; there is nothing to continue"), "{again}");
}

fn aborted(case: &Case, line: u64, past: bool) {
    let Case { world, request, before, meant } = case;
    let id = die_after_line(world, request, line);
    let what = format!("died after line {line}, aborted");
    let lines_before = lines(world, &id).len();
    match world.engine().abort(&id, "tester", &Unwatched) {
        Ok(end) => {
            assert!(!past, "{what}: it was past its point of no return");
            assert!(matches!(end.state, OperationState::PutBack { .. }), "{what}: {:?}", end.state);
            assert_eq!(&world.look(), before, "{what}: the world is not as it was");
        }
        Err(refused) => {
            assert!(past, "{what}: {refused}");
            assert!(refused.failure.message.ends_with("may be past its point of no return"), "{what}: {refused}");
            assert_eq!(lines(world, &id).len(), lines_before, "{what}: what is refused leaves no line");
            let end = world.engine().resume(&id, "tester", &Unwatched, &Stop::default());
            must_be_done(end, world, meant, &what);
        }
    }
}

fn must_be_done(end: Result<Operation, RunError>, world: &World, meant: &Look, what: &str) {
    let end = end.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(end.state, OperationState::Done, "{what}");
    assert_eq!(&world.look(), meant, "{what}: the world is not as it was meant");
}

#[test]
fn killed_at_every_journal_line_a_backup_resumes_to_the_same_end() {
    let world = only_database();
    world.sell(3);
    check_copies(&world, &backup_of(&[]));
}

#[test]
fn killed_at_every_journal_line_a_restore_resumes_to_the_same_end() {
    let world = only_database();
    world.backup();
    world.sell(3);
    check_copies(&world, &restore_of("db"));
}

#[test]
fn killed_at_every_journal_line_an_undo_resumes_to_the_same_end() {
    check(|| {
        let world = only_database();
        world.backup();
        world.sell(3);
        let meant = world.look();
        let operation = world.restore("db").id;
        let before = world.look();
        Case { world, request: Request::Undo { operation }, before, meant }
    });
}
