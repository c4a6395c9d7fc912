//! What happens by itself: at its time, once, also after a time that was missed, and never beside other work.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::{sync::Arc, time::Duration};

use lifeboat_engine::{
    Engine, Unwatched,
    aliases::alias_of,
    schedule::{BY, Turn},
};
use lifeboat_io::{
    Clock, Stop,
    database::sqlite,
    lease::{self, Claim},
    objects::folder::Folder,
    testing::{Faults, FaultyObjects},
};
use lifeboat_model::{
    BackupReason, Elsewhere, FailureKind, Lease, Operation, Request, Timestamp, Tri,
    schedule::{Cron, Job, JobStatus, Run, Task},
};
use lifeboat_testkit::World;

fn job(name: &str, task: Task, at: &str) -> Job {
    Job { name: name.to_owned(), task, at: Cron::parse(at).unwrap() }
}

/// A shop with the document's times: backup at 02:00, retention at 03:00, off-site at 04:00, and a proof after that.
fn world() -> World {
    let mut world = World::shop().with_copy();
    world.setup.schedule.jobs = vec![
        job("backup", Task::Backup { resources: vec![] }, "0 2 * * *"),
        job("retention", Task::Retention, "0 3 * * *"),
        job("copy", Task::Copy, "0 4 * * *"),
        job("prove", Task::Prove { resources: vec![] }, "30 4 * * *"),
    ];
    world
}

fn turn(world: &World) -> Turn {
    world.engine().run_due(&Unwatched, &Stop::default()).unwrap()
}

fn goes_to(world: &World, at: &str) {
    world.clock.jump_to(at.parse().unwrap());
}

#[track_caller]
fn ran(world: &World) -> (String, Run) {
    match turn(world) {
        Turn::Ran { job, run } => (job, run),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn waits(world: &World, until: &str) {
    match turn(world) {
        Turn::Waits(Some(at)) => assert_eq!(at.to_string(), until),
        other => panic!("{other:?}"),
    }
}

fn status(engine: &Engine, name: &str) -> JobStatus {
    engine.jobs().unwrap().into_iter().find(|job| job.name == name).unwrap()
}

#[test]
fn bkp_07_the_documents_times_are_kept_in_their_order() {
    let world = world();
    assert_eq!(status(&world.engine(), "backup").good, Tri::Unknown, "no daemon looks after it");
    waits(&world, "2026-01-01T02:00:00Z");
    for (at, name) in [("02:00", "backup"), ("03:00", "retention"), ("04:00", "copy"), ("04:30", "prove")] {
        goes_to(&world, &format!("2026-01-01T{at}:00Z"));
        let (job, run) = ran(&world);
        assert_eq!((job.as_str(), &run.why, run.notes.len()), (name, &None, 0), "{run:?}");
        assert!(matches!(turn(&world), Turn::Waits(_)), "once");
    }
    let backup = &world.backups()[0];
    assert_eq!(backup.reason, BackupReason::Scheduled);
    assert_eq!(world.copied(), [backup.id.to_string()]);
    let engine = world.engine();
    let rows = engine.look().operations(9).unwrap();
    let kinds: Vec<&str> = rows.iter().rev().map(|row| row.kind.as_str()).collect();
    assert_eq!(kinds, ["backup", "copy", "prove"], "what has nothing to do is no operation");
    for row in rows {
        assert_eq!(engine.look().operation(&row.id).unwrap().by, BY);
    }
    let told = engine.look().status().unwrap();
    assert_eq!((told.good, told.schedule.len()), (Tri::Pass, 4), "{told:#?}");
    assert_eq!(status(&engine, "backup").next, Some("2026-01-02T02:00:00Z".parse::<Timestamp>().unwrap()));
}

/// The names of the document: a plain file a day, verified, that goes when it is too old; never one in the place of another.
#[test]
fn bkp_07_each_day_leaves_a_plain_file_and_the_old_ones_go() {
    let mut world = world();
    world.setup.dated.insert(world.setup.resources[0].name.clone(), 14);
    let named = |name: &str| world.app(name);
    for (name, text) in [
        ("shop.db.backup.20251201", "old"),
        ("shop.db.backup.20251201-2", "old"),
        ("shop.db.backup.20251218", "of the last day that stays"),
        ("shop.db.backup.20251201-wal", "no copy"),
        ("other.db.backup.20251201", "of another"),
    ] {
        std::fs::write(named(name), text).unwrap();
    }
    waits(&world, "2026-01-01T02:00:00Z");
    goes_to(&world, "2026-01-01T02:00:00Z");
    let (job, run) = ran(&world);
    assert_eq!((job.as_str(), run.why, run.notes), ("backup", None, vec![]));
    let today = named("shop.db.backup.20260101");
    assert_eq!(sqlite::quick_check(&today, Duration::from_secs(9)).sound, Tri::Pass);
    assert!(named("shop.db.backup.20251201").exists(), "nothing goes before its time");
    goes_to(&world, "2026-01-01T03:00:00Z");
    let (job, run) = ran(&world);
    assert_eq!((job.as_str(), run.why), ("retention", None));
    for (name, stays) in [
        ("shop.db.backup.20251201", false),
        ("shop.db.backup.20251201-2", false),
        ("shop.db.backup.20251218", true),
        ("shop.db.backup.20251201-wal", true),
        ("other.db.backup.20251201", true),
        ("shop.db.backup.20260101", true),
    ] {
        assert_eq!(named(name).exists(), stays, "{name}");
    }
    // A second backup of the day leaves the first as it is.
    let before = std::fs::read(&today).unwrap();
    world.sell(3);
    world.backup();
    world.engine().after_backup(&[], BY, &Unwatched, &Stop::default());
    assert!(std::fs::read(&today).unwrap() == before && named("shop.db.backup.20260101-2").exists());
    // However old it is, the newest stays.
    for name in ["shop.db.backup.20260101", "shop.db.backup.20260101-2"] {
        std::fs::remove_file(named(name)).unwrap();
    }
    world.must(&Request::Retention);
    assert!(named("shop.db.backup.20251218").exists());
}

/// The document's three lines of cron: a file at two, the old ones away at three, the copy elsewhere at four.
#[test]
fn bkp_07_the_file_of_the_night_goes_to_a_bucket_under_its_name() {
    let mut world = world();
    // What a bucket's own protocol makes of it, crates/io/tests/objects looks at.
    let bucket = world.app("").with_file_name("your-bucket").join("backups");
    let objects = || Arc::new(Folder::new(bucket.clone()));
    let db = world.setup.resources[0].name.clone();
    world.setup.dated.insert(db.clone(), 7);
    let to = Elsewhere::parse("s3://your-bucket/backups/collision-os-YYYYMMDD.sqlite").unwrap();
    world.vaults.add(&to.place, objects());
    world.setup.elsewhere.insert(db.clone(), to.clone());
    std::fs::write(world.app("shop.db.backup.20251201"), "old").unwrap();
    let sent = |name: &str| bucket.join(name);
    let (file, object) = (world.app("shop.db.backup.20260101"), sent("collision-os-20260101.sqlite"));
    let seen = || (file.exists(), world.app("shop.db.backup.20251201").exists(), object.exists());
    waits(&world, "2026-01-01T02:00:00Z");
    for (at, name, then) in [
        ("02:00", "backup", (true, true, false)),
        ("03:00", "retention", (true, false, false)),
        ("04:00", "copy", (true, false, true)),
    ] {
        goes_to(&world, &format!("2026-01-01T{at}:00Z"));
        // What is written meanwhile is in none of them: the copy is of what was backed up, and not of the live file.
        world.sell(1);
        let (job, run) = ran(&world);
        assert_eq!((job.as_str(), &run.why, run.notes.len()), (name, &None, 0), "{run:?}");
        assert_eq!(seen(), then, "{name}");
        assert!(matches!(turn(&world), Turn::Waits(_)), "once");
    }
    let plain = std::fs::read(&file).unwrap();
    assert!(std::fs::read(&object).unwrap() == plain, "the same plain file");
    assert_eq!(sqlite::quick_check(&object, Duration::from_secs(9)).sound, Tri::Pass);
    assert_eq!(
        sqlite::count_rows(&object).unwrap()["orders"] + 2,
        sqlite::count_rows(&world.app("shop.db")).unwrap()["orders"]
    );
    // The same is not sent again; another one of that day takes no other's name.
    let send = Request::Send { resource: db };
    let told = |operation: &Operation| operation.output(&"send".into()).unwrap().clone();
    assert_eq!(told(&world.must(&send))["was_there"], true);
    world.backup();
    let second = told(&world.must(&send));
    assert_eq!((&second["name"], &second["was_there"]), (&"collision-os-20260101-2.sqlite".into(), &false.into()));
    assert!(sent("collision-os-20260101-2.sqlite").exists() && std::fs::read(&object).unwrap() == plain);
    // One that is damaged on its way is told, is not left there, and the next try sends it.
    goes_to(&world, "2026-01-02T02:00:00Z");
    while ran(&world).0 != "backup" {}
    let damaging = Faults { damaged_put: 1000, ..Faults::default() };
    world.vaults.add(&to.place, Arc::new(FaultyObjects::new(objects(), world.clock.clone(), 1, damaging)));
    goes_to(&world, "2026-01-02T04:00:00Z");
    while ran(&world).0 != "retention" {}
    let (_, run) = ran(&world);
    assert!(run.why.as_ref().unwrap().contains("did not arrive"), "{run:?}");
    assert!(!sent("collision-os-20260102.sqlite").exists());
    assert_eq!(status(&world.engine(), "copy").good, Tri::Fail);
    world.vaults.add(&to.place, objects());
    world.clock.advance(Duration::from_secs(300));
    while ran(&world).0 != "copy" {}
    assert!(sent("collision-os-20260102.sqlite").exists());
    assert_eq!(status(&world.engine(), "copy").good, Tri::Pass);
}

#[test]
fn bkp_24_a_missed_time_is_made_up_for_once_and_told() {
    let world = world();
    waits(&world, "2026-01-01T02:00:00Z");
    goes_to(&world, "2026-01-03T05:00:00Z");
    let late = status(&world.engine(), "backup");
    assert!(late.good == Tri::Fail && late.late_s >= 3 * 3600 && late.why[0].contains("due for"), "{late:?}");
    let names: Vec<String> = (0..4).map(|_| ran(&world).0).collect();
    assert_eq!(names, ["backup", "retention", "copy", "prove"]);
    waits(&world, "2026-01-04T02:00:00Z");
    let after = status(&world.engine(), "backup");
    assert!(after.good == Tri::Pass && after.last_late_s.unwrap() >= 3 * 3600, "{after:?}");
    assert_eq!(world.backups().len(), 1);
}

#[test]
fn it_waits_while_somebody_else_is_at_work() {
    let world = world();
    waits(&world, "2026-01-01T02:00:00Z");
    goes_to(&world, "2026-01-01T02:00:00Z");
    let path = world.state().lease(&world.setup.scope, Lease::Environment);
    let claim = Claim {
        who: "ops".into(),
        host: "h".into(),
        since: world.clock.now(),
        operation: None,
        why: "x".into(),
        makes_way: false,
    };
    let held = lease::take_after(&path, &claim, &|| 0).unwrap();
    for _ in 0..3 {
        let Turn::Busy { job, why } = turn(&world) else { panic!("it did not wait") };
        assert_eq!((job.as_str(), why.kind), ("backup", FailureKind::Busy));
    }
    drop(held);
    assert_eq!(ran(&world).0, "backup");
    assert!(status(&world.engine(), "backup").last.unwrap().why.is_none(), "waiting is no failure");
}

#[test]
fn what_fails_is_tried_again_and_told_until_it_works() {
    let world = world();
    waits(&world, "2026-01-01T02:00:00Z");
    goes_to(&world, "2026-01-01T02:00:00Z");
    std::fs::rename(world.app("shop.db"), world.app("away")).unwrap();
    let (_, run) = ran(&world);
    assert!(run.why.unwrap().contains("shop.db"));
    assert!(matches!(turn(&world), Turn::Waits(_)), "not at once");
    assert_eq!(status(&world.engine(), "backup").good, Tri::Fail);
    std::fs::rename(world.app("away"), world.app("shop.db")).unwrap();
    world.clock.advance(Duration::from_secs(300));
    let (job, run) = ran(&world);
    assert_eq!((job.as_str(), run.why), ("backup", None));
    assert_eq!(status(&world.engine(), "backup").good, Tri::Pass);
}

#[test]
fn a_daemon_that_died_in_a_run_begins_it_again() {
    let world = world();
    waits(&world, "2026-01-01T02:00:00Z");
    goes_to(&world, "2026-01-01T02:00:00Z");
    let dying = lifeboat_testkit::trouble::meddled(
        &world,
        Box::new(|turn, _action, act| {
            if turn == 2 {
                std::panic::panic_any(lifeboat_io::failpoint::Death);
            }
            act()
        }),
    );
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dying.run_due(&Unwatched, &Stop::default())));
    assert!(died.is_err());
    drop(dying);
    assert_eq!(world.backups().len(), 0);
    assert!(status(&world.engine(), "backup").last.unwrap().ended.is_none());
    let (job, run) = ran(&world);
    assert_eq!((job.as_str(), run.why), ("backup", None));
    assert_eq!(world.backups().len(), 1);
}

#[test]
fn bkp_22_the_file_beside_the_database_and_the_copy_elsewhere_are_renewed() {
    let mut world = world();
    world.setup.aliases = vec![world.setup.resources[0].name.clone()];
    world.setup.copies[0].after_backup = true;
    waits(&world, "2026-01-01T02:00:00Z");
    goes_to(&world, "2026-01-01T02:00:00Z");
    let (_, run) = ran(&world);
    assert_eq!((run.why, run.notes), (None, vec![]));
    assert_eq!(world.copied().len(), 1);
    let alias = alias_of(&world.app("shop.db"));
    let header = std::fs::read(&alias).unwrap();
    assert!(header.starts_with(b"SQLite format 3\0"));
    // Somebody uses it: the backup is good, and what is missing is told.
    std::fs::write(lifeboat_io::database::sqlite::sidecar(&alias, "-wal"), "x").unwrap();
    goes_to(&world, "2026-01-02T02:00:00Z");
    while ran(&world).0 != "backup" {}
    let told = status(&world.engine(), "backup");
    assert!(told.good == Tri::Fail && told.why[0].contains("was not renewed"), "{told:?}");
    assert_eq!(world.backups().len(), 2);
}

#[test]
fn fnc_10_nothing_begins_by_itself_while_a_fence_stands() {
    let mut world = World::on_server(15);
    world.setup.schedule.jobs = vec![job("backup", Task::Backup { resources: vec![] }, "0 2 * * *")];
    waits(&world, "2026-01-01T02:00:00Z");
    let resource = world.setup.resources[0].name.clone();
    let fence = |on: bool| world.must(&Request::Fence { resource: resource.clone(), on, why: "odd orders".to_owned() });
    fence(true);
    assert_eq!(world.engine().closed().unwrap().unwrap().why, "odd orders");
    goes_to(&world, "2026-01-01T02:00:00Z");
    let Turn::Busy { why, .. } = turn(&world) else { panic!("it began") };
    assert!(why.message.contains("closed on purpose"), "{why}");
    goes_to(&world, "2026-01-01T02:30:00Z");
    assert_eq!(status(&world.engine(), "backup").good, Tri::Fail, "late, and told");
    fence(false);
    assert_eq!(ran(&world).0, "backup");
    assert_eq!(world.engine().closed().unwrap(), None);
}
