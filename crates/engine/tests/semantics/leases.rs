//! One operation at a time; what a dead one left is dealt with before the next.

use std::sync::{Mutex, mpsc};

use lifeboat_engine::{Unwatched, Watch};
use lifeboat_io::{Stop, files};
use lifeboat_model::{Action, BackupChoice, FailureKind, OperationState, Request};
use lifeboat_testkit::{
    World,
    trouble::{Trouble, unless_it_dies},
    world::{backup_of, restore_of},
};

use crate::hands::{bent, only_copied_database, only_database, run, trouble};

/// Runs `work` while another engine stands in the middle of the request's first step; gives that one's end.
fn while_another_works(world: &World, request: &Request, work: impl FnOnce()) -> lifeboat_model::Operation {
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let gate = Mutex::new(Some((begun, may_go_on)));
    let first = bent(world, move |_action, _context| {
        if let Some((begun, may_go_on)) = gate.lock().unwrap().take() {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
        }
        None
    });
    let plan = first.plan(request).unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| first.run(&plan, "ann", &Unwatched, &Stop::default()).unwrap());
        has_begun.recv().unwrap();
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        go_on.send(()).unwrap();
        let end = running.join().unwrap();
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        end
    })
}

#[test]
fn of_two_engines_with_the_same_plan_one_is_told_who_works() {
    let world = only_database();
    world.backup();
    world.sell(2);
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    let first = while_another_works(&world, &restore_of("db"), || {
        let id = world.engine().look().operations(1).unwrap()[0].id.clone();
        let busy = run(&world.engine(), &plan).unwrap_err();
        assert_eq!((busy.failure.kind, &busy.left_open), (FailureKind::Busy, &None));
        let told = busy.to_string();
        assert!(told.contains("ann on twin") && told.contains(id.as_str()), "{told}");
        let busy = world.engine().resume(&id, "bob", &Unwatched, &Stop::default()).unwrap_err();
        assert_eq!(busy.failure.kind, FailureKind::Busy, "nor is it taken out of somebody's hands: {busy}");
        let busy = world.engine().abort(&id, "bob", &Unwatched).unwrap_err();
        assert_eq!(busy.failure.kind, FailureKind::Busy, "{busy}");
    });
    assert_eq!(first.state, OperationState::Done);
    let late = run(&world.engine(), &plan).unwrap_err();
    assert_eq!(late.failure.kind, FailureKind::Stale, "and afterwards its plan is stale: {late}");
    assert_eq!(world.look().debris.len(), 0);
}

#[test]
fn a_rehearsal_and_a_backup_do_not_touch_each_other() {
    let world = only_database();
    world.backup();
    let rehearsal = Request::Prove { backup: BackupChoice::Latest, resources: vec![] };
    let proven = while_another_works(&world, &rehearsal, || {
        let id = world.engine().look().operations(1).unwrap()[0].id.clone();
        let journal = world.state().journal(&id);
        let before = files::untouched(&journal);
        world.backup();
        assert_eq!(files::untouched(&journal), before, "the journal of a living process was opened for writing");
    });
    assert_eq!(proven.state, OperationState::Done);
    assert!(world.backups()[0].proven_at.is_some());
}

/// Notes what a person is told.
#[derive(Default)]
struct Ears(Mutex<Vec<String>>);

impl Watch for Ears {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

fn die_at(world: &World, request: &Request, step: usize) {
    let engine = world.engine_with(|hands| {
        std::sync::Arc::new(lifeboat_testkit::trouble::InTrouble::new(hands, Trouble::DieAfter(step)))
    });
    let plan = engine.plan(request).unwrap();
    assert!(unless_it_dies(|| run(&engine, &plan)).is_none(), "step {step} was never reached");
}

#[test]
fn what_a_killed_backup_left_is_put_back_by_the_next_operation() {
    let world = only_copied_database();
    die_at(&world, &backup_of(&[]), 3);
    assert!(!world.look().debris.is_empty(), "a copy lies in staging");
    let left = world.engine().unfinished_one(None).unwrap();
    let ears = Ears::default();
    let engine = world.engine();
    let plan = engine.plan(&backup_of(&[])).unwrap();
    let next = engine.run(&plan, "tester", &ears, &Stop::default()).unwrap();
    assert_eq!(next.state, OperationState::Done);
    assert!(matches!(world.engine().look().operation(&left).unwrap().state, OperationState::PutBack { .. }));
    assert_eq!(world.look().debris.len(), 0);
    assert_eq!(world.backups().len(), 1);
    let told = ears.0.lock().unwrap().join("\n");
    assert!(told.contains(left.as_str()) && told.contains("putting it back first"), "{told}");
}

#[test]
fn what_a_killed_restore_left_is_a_persons_decision() {
    let world = only_database();
    world.backup();
    world.sell(1);
    die_at(&world, &restore_of("db"), 4);
    let left = world.engine().unfinished_one(None).unwrap();
    for request in [backup_of(&[]), restore_of("db")] {
        let refused = world.run(&request).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Busy, "{refused}");
        assert_eq!(refused.hint.as_deref(), Some(&*format!("lifeboat resume {left}, or lifeboat abort {left}")));
    }
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    world.engine().abort(&left, "tester", &Unwatched).unwrap();
    world.restore("db");
}

#[test]
fn a_leftover_that_cannot_be_put_back_stops_the_next_operation() {
    let world = only_copied_database();
    die_at(&world, &backup_of(&[]), 3);
    let left = world.engine().unfinished_one(None).unwrap();
    let engine = bent(&world, |action, _context| match action {
        Action::Remove { .. } => Some(Err(trouble())),
        _other => None,
    });
    let plan = engine.plan(&backup_of(&[])).unwrap();
    let refused = run(&engine, &plan).unwrap_err();
    assert_eq!(refused.failure.kind, FailureKind::Busy, "{refused}");
    assert!(refused.to_string().contains(left.as_str()), "{refused}");
    assert_eq!(world.backups().len(), 0, "the new backup was not begun");
    world.backup();
    assert_eq!(world.look().debris.len(), 0);
}

#[test]
fn a_killed_prune_is_over_for_the_next_operation() {
    let world = only_database();
    world.backup();
    let engine = world.engine();
    let plan = engine.plan(&Request::Prune).unwrap();
    // Dead between the line that says the prune is done and the one that says there is no way back.
    engine.tell_next(Box::new(|entry| {
        if matches!(entry.event, lifeboat_model::Event::StepFinished { .. }) {
            std::panic::panic_any(lifeboat_io::failpoint::Death);
        }
    }));
    assert!(unless_it_dies(|| run(&engine, &plan)).is_none());
    let left = world.engine().unfinished_one(None).unwrap();
    world.backup();
    let ended = world.engine().look().operation(&left).unwrap();
    assert_eq!(ended.state, OperationState::Done, "what was pruned cannot be said to have been put back");
}

#[test]
fn a_damaged_journal_is_told_and_does_not_stop_a_backup() {
    let world = only_database();
    die_at(&world, &backup_of(&[]), 3);
    let left = world.engine().unfinished_one(None).unwrap();
    let path = world.state().journal(&left);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("tester", "Tester", 1)).unwrap();
    let (ears, engine) = (Ears::default(), world.engine());
    let plan = engine.plan(&backup_of(&[])).unwrap();
    let next = engine.run(&plan, "tester", &ears, &Stop::default()).unwrap();
    assert_eq!(next.state, OperationState::Done);
    let told = ears.0.lock().unwrap().join("\n");
    assert!(told.contains("cannot be taken into account") && told.contains("the chain of digests breaks"), "{told}");
    let status = world.engine().look().status().unwrap();
    assert_eq!((status.damaged_journals.len(), status.good), (1, lifeboat_model::Tri::Fail));
}

/// Both of its slots are gone, and an operation is open that was written under them.
#[test]
fn a_lease_that_cannot_be_read_goes_on_from_the_journals() {
    for lost in [false, true] {
        let world = only_database();
        for _ in 0..4 {
            world.backup();
        }
        world.sell(2);
        let meant = world.look().live;
        die_at(&world, &restore_of("db"), 5);
        let id = world.engine().unfinished_one(None).unwrap();
        let before = world.engine().look().operation(&id).unwrap().epoch;
        let lease = world.state().lease(&world.setup.scope, lifeboat_model::Lease::Environment);
        match lost {
            true => std::fs::remove_file(&lease).unwrap(),
            false => std::fs::write(&lease, vec![b'?'; 8192]).unwrap(),
        }
        assert_eq!(world.engine().damaged_leases().unwrap().len(), usize::from(!lost));
        let ears = Ears::default();
        let aborted = world.engine().abort(&id, "tester", &ears).unwrap();
        assert!(matches!(aborted.state, OperationState::PutBack { .. }) && aborted.epoch > before, "{aborted:?}");
        let told = ears.0.lock().unwrap().iter().filter(|note| note.contains("could not be read; it goes on")).count();
        assert_eq!(told, usize::from(!lost), "{:?}", ears.0.lock().unwrap());
        assert_eq!(world.look().live, meant);
        assert!(world.engine().damaged_leases().unwrap().is_empty());
        world.backup();
    }
}

/// `verify` has no journal; a note says whose its working copy is.
#[test]
fn what_a_killed_look_left_goes_with_the_next_operation_and_nothing_else_does() {
    let world = only_database();
    let staging = world.path("state/staging");
    let this = lifeboat_io::lease::Process::this();
    let dead = lifeboat_io::lease::Process { id: u32::MAX, ..this.clone() };
    let restarted = lifeboat_io::lease::Process { boot: Some("before the restart".into()), ..this.clone() };
    world.state();
    for (name, owner) in
        [("p-dead", Some(&dead)), ("p-alive", Some(&this)), ("p-young", Some(&restarted)), ("p-none", None)]
    {
        std::fs::create_dir(staging.join(name)).unwrap();
        std::fs::write(staging.join(name).join("live.sqlite"), "a copy").unwrap();
        if let Some(owner) = owner {
            std::fs::write(staging.join(name).join("owner.json"), serde_json::to_vec(owner).unwrap()).unwrap();
        }
    }
    // The world's clock is a test's; the young folder is younger than it by all accounts.
    world.clock.jump_to(lifeboat_io::Clock::now(&lifeboat_io::SystemClock::default()));
    world.backup();
    let left = |name: &str| staging.join(name).exists();
    assert_eq!(["p-dead", "p-alive", "p-young", "p-none"].map(left), [false, true, true, true]);
    world.clock.advance(std::time::Duration::from_secs(2 * 86_400));
    world.engine().verify(&[], &lifeboat_engine::verify::Look::default(), &Stop::default()).unwrap();
    assert_eq!(["p-alive", "p-young", "p-none"].map(left), [true, false, true]);
    assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 2, "and its own copy is gone");
}
