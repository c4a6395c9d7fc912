//! A backup is judged by what comes out of it, never by its size or by what a file looks like.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::{fs, path::PathBuf};

use lifeboat_model::{BackupChoice, FailureKind, OperationState, ProofLevel, Request, Tri};
use lifeboat_testkit::{
    World,
    world::{backup_of, restore_of, sql},
};

fn prove(world: &World) -> lifeboat_model::Proof {
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    world.engine().catalog().unwrap().proofs(None).unwrap().remove(0)
}

fn largest_pack(world: &World) -> PathBuf {
    let folders = fs::read_dir(world.path("vault/data")).unwrap().map(|entry| entry.unwrap().path());
    let packs =
        folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>());
    packs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

/// A world whose only backup holds the database alone, so that most of its bytes are the database's.
fn protected() -> World {
    let mut world = World::shop();
    world.setup.resources.truncate(1);
    world.sell(400);
    world.must(&backup_of(&["db"]));
    world
}

#[test]
fn bkp_05_a_whole_backup_is_restored_and_counted_before_it_is_called_good() {
    let proof = prove(&protected());
    assert_eq!((proof.outcome, proof.level), (Tri::Pass, Some(ProofLevel::Usable)));
    let names: Vec<&str> = proof.checks.iter().map(|(_, check)| check.name.as_str()).collect();
    for name in ["integrity", "foreign keys", "a damaged copy fails"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(names.iter().any(|name| name.contains("orders")), "rows are compared table by table: {names:?}");
}

#[test]
fn bkp_05_a_backup_whose_bytes_were_cut_fails_although_it_is_still_there() {
    let world = protected();
    let pack = largest_pack(&world);
    let body = fs::read(&pack).unwrap();
    fs::write(&pack, &body[..body.len() / 2]).unwrap();
    let refused = world.run(&restore_of("db"));
    match refused {
        Err(failure) => assert_eq!(failure.kind, FailureKind::Damaged, "{failure}"),
        Ok(operation) => assert!(matches!(operation.state, OperationState::PutBack { .. }), "{:?}", operation.state),
    }
    // Its manifest may lie in the half that is gone: then not even a proof can be begun, which is no pass either.
    if let Ok(operation) = world.run(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] }) {
        assert_eq!(operation.state, OperationState::Done);
        let proof = world.engine().catalog().unwrap().proofs(None).unwrap().remove(0);
        assert_ne!(proof.outcome, Tri::Pass);
        assert_eq!(proof.level, None);
    }
}

#[test]
fn bkp_05_a_database_that_is_not_sound_does_not_become_a_backup() {
    let world = protected();
    let before = world.backups();
    // A page in the middle of the file, overwritten behind SQLite's back.
    sql(&world.app("shop.db"), "PRAGMA wal_checkpoint(TRUNCATE)");
    let mut body = fs::read(world.app("shop.db")).unwrap();
    let middle = body.len() / 2 / 4096 * 4096;
    body[middle..middle + 4096].fill(0x5a);
    fs::write(world.app("shop.db"), body).unwrap();
    let operation = world.run(&backup_of(&["db"])).unwrap();
    let OperationState::PutBack { why: Some(why) } = operation.state else { panic!("{:?}", operation.state) };
    assert_eq!(why.kind, FailureKind::Damaged, "{why}");
    assert_eq!(world.backups(), before);
}

#[test]
fn rows_without_their_parents_are_told_and_backed_up_all_the_same() {
    let mut world = World::shop();
    world.setup.resources.truncate(1);
    sql(
        &world.app("shop.db"),
        "PRAGMA foreign_keys = off; INSERT INTO orders (customer, cents, created_at) VALUES (9999, 1, 'x')",
    );
    let meant = world.look().live;
    world.must(&backup_of(&["db"]));
    assert_eq!(prove(&world).outcome, Tri::Fail, "a proof says what is wrong with the data");
    world.sell(3);
    world.must(&restore_of("db"));
    assert_eq!(world.look().live, meant, "and it comes back as it was");
}

#[test]
fn bkp_06_a_source_that_is_much_smaller_than_before_is_pointed_out() {
    let world = protected();
    let engine = world.engine();
    assert_eq!(engine.plan(&backup_of(&["db"])).unwrap().notes, Vec::<String>::new());
    fs::remove_file(world.app("shop.db-wal")).unwrap();
    fs::remove_file(world.app("shop.db")).unwrap();
    sql(&world.app("shop.db"), "CREATE TABLE orders (id)");
    let notes = engine.plan(&backup_of(&["db"])).unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("less than half"), "{notes:?}");
}
