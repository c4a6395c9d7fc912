//! A plan rests on facts: what matters is looked at again, what does not matter does not.

use std::{collections::BTreeMap, fs, path::Path};

use lifeboat_engine::{Unwatched, plan::undo::is_undoable};
use lifeboat_io::{Stop, failpoint::Death};
use lifeboat_model::{
    Action, BackupChoice, BackupMark, FailureKind, IncidentStep, Keep, OperationState, Plan, Request, ResourceName,
};
use lifeboat_testkit::{
    World,
    trouble::unless_it_dies,
    world::{backup_of, restore_of},
};

use crate::hands::{bent, only_database, run};

/// A world with a backup, later sales, and the plan of a restore.
fn planned() -> (World, Plan) {
    let world = only_database();
    world.backup();
    world.sell(2);
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    (world, plan)
}

fn refused(world: &World, plan: &Plan, fact: &str) {
    let before = world.look();
    let operations = world.engine().look().operations(100).unwrap().len();
    let stale = run(&world.engine(), plan).unwrap_err();
    assert_eq!((stale.failure.kind, &stale.left_open), (FailureKind::Stale, &None), "{stale}");
    assert!(stale.to_string().contains(fact), "it names the fact: {stale}");
    assert!(stale.failure.hint.is_some());
    assert_eq!(world.look(), before, "nothing was touched");
    assert_eq!(world.engine().look().operations(100).unwrap().len(), operations, "and nothing was begun");
}

#[test]
fn a_plan_is_refused_when_another_file_is_live() {
    let (world, plan) = planned();
    fs::copy(world.app("shop.db"), world.app("copy")).unwrap();
    fs::rename(world.app("copy"), world.app("shop.db")).unwrap();
    refused(&world, &plan, "which file is at");
}

#[test]
fn a_plan_is_refused_when_its_backup_is_gone() {
    let (world, plan) = planned();
    let operation = world.engine().look().operations(9).unwrap().pop().unwrap().id;
    world.must(&Request::Undo { operation });
    let Request::Restore { .. } = plan.request else { panic!("not a restore") };
    refused(&world, &plan, "backup b-");
}

#[test]
fn a_plan_is_refused_when_the_settings_of_its_resource_changed() {
    let (mut world, plan) = planned();
    world.setup.resources[0].critical_tables.push("orders".into());
    refused(&world, &plan, "the settings of db");
}

#[test]
fn a_plan_is_refused_when_the_name_for_what_is_kept_is_taken() {
    let (world, plan) = planned();
    let kept = plan.steps().find_map(|step| match &step.action {
        Action::SetAside { kept, .. } => Some(kept.clone()),
        _other => None,
    });
    fs::write(kept.unwrap(), "somebody else's").unwrap();
    refused(&world, &plan, "shop.db.REPLACED.");
}

#[test]
fn a_plan_runs_after_a_change_that_does_not_matter() {
    let (mut world, plan) = planned();
    fs::write(world.app("notes.txt"), "x").unwrap();
    world.setup.budgets_ms.insert("restore".into(), 1);
    assert_eq!(run(&world.engine(), &plan).unwrap().state, OperationState::Done);
}

#[test]
fn two_restores_within_a_second_keep_both_former_states() {
    let world = only_database();
    world.backup();
    world.sell(2);
    let (older, newer) = (world.engine(), world.engine());
    let now = lifeboat_io::Clock::now(&*world.clock);
    let first = run(&older, &older.plan(&restore_of("db")).unwrap()).unwrap();
    let between = world.look().live;
    world.clock.jump_to(now);
    let second = run(&newer, &newer.plan(&restore_of("db")).unwrap()).unwrap();
    assert_eq!((first.state, second.state), (OperationState::Done, OperationState::Done));
    world.must(&Request::Undo { operation: second.id });
    assert_eq!(world.look().live, between, "the state between the two came back, and not the one before both");
}

#[test]
fn resuming_is_refused_when_a_fact_changed_and_aborting_is_not() {
    let (world, _) = planned();
    let before = world.look();
    let engine = bent(&world, |action, _context| match action {
        Action::Fetch { .. } => std::panic::panic_any(Death),
        _other => None,
    });
    let plan = engine.plan(&restore_of("db")).unwrap();
    assert!(unless_it_dies(|| run(&engine, &plan)).is_none());
    let id = world.engine().unfinished_one(None).unwrap();
    let mut changed = world.copy();
    changed.setup.resources[0].may_be_empty.push("carts".into());
    // The copy of the world has other paths: the settings of db, its file and its backup differ all the same.
    let stale = changed.engine().resume(&id, "tester", &Unwatched, &Stop::default()).unwrap_err();
    assert_eq!((stale.failure.kind, stale.left_open.as_ref()), (FailureKind::Stale, Some(&id)));
    assert_eq!(stale.failure.hint.as_deref(), Some(&*format!("put it back instead: lifeboat abort {id}")));
    let aborted = world.engine().abort(&id, "tester", &Unwatched).unwrap();
    assert!(matches!(aborted.state, OperationState::PutBack { .. }));
    assert_eq!(world.look(), before);
}

/// Three old backups of which the newest is proven, and a plan to let two of them go.
fn outlived() -> (World, Plan) {
    let mut world = only_database();
    for _ in 0..3 {
        world.backup();
        world.clock.advance(std::time::Duration::from_secs(100 * 86_400));
    }
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    world.setup.keep = Keep { within: None, last: 1, daily: 0, weekly: 0, monthly: 0, ..Keep::default() };
    let plan = world.engine().plan(&Request::Retention).unwrap();
    assert_eq!(plan.title, "let 2 of 3 backups of shop/production go");
    (world, plan)
}

#[test]
fn a_backup_that_is_held_after_the_plan_was_made_does_not_go() {
    let (world, plan) = outlived();
    let backup = world.backups()[0].id.clone();
    world.must(&Request::Mark { backup, mark: BackupMark::Hold { why: "the audit".into() } });
    refused(&world, &plan, "the list of backups");
    assert_eq!(world.engine().plan(&Request::Retention).unwrap().title, "let 1 of 3 backups of shop/production go");
}

#[test]
fn nor_does_any_when_the_proof_they_rely_on_fails_meanwhile() {
    let (world, plan) = outlived();
    let spoil = bent(&world, |action, _context| match action {
        Action::CheckFetched { .. } => {
            Some(Err(lifeboat_model::Failure::new(FailureKind::Damaged, "it is not what went in")))
        }
        _other => None,
    });
    let failing = spoil.plan(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] }).unwrap();
    assert_eq!(run(&spoil, &failing).unwrap().state, OperationState::Done);
    assert_eq!(world.backups()[2].proven_at, None);
    refused(&world, &plan, "the list of backups");
    assert_eq!(world.engine().plan(&Request::Retention).unwrap().title, "let 0 of 3 backups of shop/production go");
}

#[test]
fn undoing_a_backup_that_is_held_is_refused() {
    let world = only_database();
    let operation = world.backup();
    let backup = world.backups()[0].id.clone();
    let undo = Request::Undo { operation: operation.id };
    world.must(&Request::Mark { backup: backup.clone(), mark: BackupMark::Hold { why: "the audit".into() } });
    let refused = world.engine().plan(&undo).unwrap_err();
    assert_eq!((refused.kind, refused.message), (FailureKind::Refused, format!("{backup} is held: the audit")));
    world.must(&Request::Mark { backup, mark: BackupMark::Unhold });
    world.must(&undo);
    assert!(world.backups().is_empty());
}

#[test]
fn a_part_that_is_younger_than_asked_for_is_passed_over() {
    let world = World::shop();
    lifeboat_testkit::world::sql(&world.app("shop.db"), "PRAGMA journal_mode = DELETE"); // copied first, in a step of its own
    world.backup();
    let first = world.backups()[0].clone();
    world.clock.advance(std::time::Duration::from_secs(3600));
    // The database is captured first; the files are read an hour later.
    let clock = world.clock.clone();
    let slow = bent(&world, move |action, _context| {
        if matches!(action, Action::StoreBackup { .. }) {
            clock.advance(std::time::Duration::from_secs(3600));
        }
        None
    });
    run(&slow, &slow.plan(&backup_of(&[])).unwrap()).unwrap();
    let second = world.backups()[1].clone();
    let damage = second.recovery_point + jiff::SignedDuration::from_secs(60);
    let from = |resource: &str| {
        let resource = ResourceName::new(resource).unwrap();
        let from = BackupChoice::Before(damage);
        let request = Request::Restore {
            resource,
            from,
            into: None,
            tablespaces: std::collections::BTreeMap::new(),
            without_emergency_backup: None,
            accept_loss: lifeboat_model::AcceptLoss::Shown,
            urgent: None,
            ack: None,
        };
        let plan = world.engine().plan(&request).unwrap();
        plan.steps().find_map(|step| match &step.action {
            Action::Fetch { backup, .. } => Some(backup.clone()),
            _other => None,
        })
    };
    assert_eq!(from("db"), Some(second.id), "its part is from before the damage");
    assert_eq!(from("uploads"), Some(first.id), "its part was read after the damage");
}

/// Every file of the world with its content. Left out: the index, which looking brings up to date; and what SQLite lays
/// beside a database that anybody reads, a `-shm` and an empty `-wal`.
fn everything(folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            everything(&path, found);
            continue;
        }
        let (name, body) = (path.display().to_string(), fs::read(&path).unwrap());
        let of_readers = name.ends_with("-shm") || (name.ends_with("-wal") && body.is_empty());
        if !of_readers && !name.contains("/state/lifeboat.db") {
            found.insert(name, body);
        }
    }
}

#[test]
fn a_plan_of_every_request_changes_nothing() {
    let world = World::shop();
    let backup = world.backup();
    world.sell(2);
    let restored = world.restore("db");
    assert!(is_undoable(&restored));
    let id = world.backups()[0].id.clone();
    let look = || {
        let mut found = BTreeMap::new();
        everything(&world.path(""), &mut found);
        found
    };
    let before = look();
    assert!(before.len() > 10);
    let requests = [
        backup_of(&[]),
        restore_of("db"),
        restore_of("uploads"),
        Request::Prove { backup: BackupChoice::Latest, resources: vec![] },
        Request::Undo { operation: restored.id.clone() },
        Request::Undo { operation: backup.id },
        Request::Release { operation: restored.id },
        Request::Retention,
        Request::Prune,
        Request::Mark { backup: id, mark: BackupMark::Suspect { why: "x".into() } },
        Request::Incident {
            about: IncidentStep::Open {
                title: "x".into(),
                since: lifeboat_model::Timestamp::UNIX_EPOCH,
                provider_sla: None,
            },
        },
    ];
    for request in requests {
        let plan = world.engine().plan(&request).unwrap();
        assert!(plan.flaws().is_empty());
        let after = look();
        let changed: Vec<_> = after.iter().filter(|(path, body)| before.get(*path) != Some(body)).collect();
        let names: Vec<_> = changed.iter().map(|(path, _)| path).collect();
        assert!(names.is_empty() && after.len() == before.len(), "planning {request:?} changed {names:?}");
    }
}

#[test]
fn only_the_runner_calls_the_hands() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut callers = Vec::new();
    let mut folders = vec![sources.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read_to_string(&path).unwrap().contains("hands.perform(") {
                callers.push(path.strip_prefix(&sources).unwrap().display().to_string());
            }
        }
    }
    callers.sort();
    // `examine` lets them look: only actions that change nothing.
    assert_eq!(callers, ["examine.rs", "run.rs"]);
}
