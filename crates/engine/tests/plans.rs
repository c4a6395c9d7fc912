//! Every planner's plan, proven: run clean, failed, killed and repeated at every step, undone and done again.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_model::{BackupChoice, ExportFormat, Request, ResourceName};
use lifeboat_testkit::{
    World,
    prove::{Case, prove_plan},
    world::{backup_of, restore_of},
};

#[test]
fn a_backup_is_whole_or_not_there() {
    let world = World::shop();
    world.sell(5);
    let tried = prove_plan(&Case { world: &world, request: backup_of(&[]), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

#[test]
fn a_restored_database_is_wholly_old_or_wholly_new() {
    let world = World::shop();
    world.backup();
    world.sell(9);
    let tried = prove_plan(&Case { world: &world, request: restore_of("db"), undo: true });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

#[test]
fn restored_files_are_wholly_old_or_wholly_new() {
    let world = World::shop();
    world.backup();
    std::fs::write(world.app("uploads/new"), "later").unwrap();
    prove_plan(&Case { world: &world, request: restore_of("uploads"), undo: true });
}

#[test]
fn a_restored_env_file_is_wholly_old_or_wholly_new() {
    let world = World::shop();
    world.backup();
    std::fs::write(world.app(".env"), "STRIPE_KEY=other\n").unwrap();
    prove_plan(&Case { world: &world, request: restore_of("env"), undo: true });
}

#[test]
fn a_database_that_is_gone_comes_back() {
    let world = World::shop();
    world.backup();
    for name in ["shop.db", "shop.db-wal", "shop.db-shm"] {
        let _ = std::fs::remove_file(world.app(name));
    }
    prove_plan(&Case { world: &world, request: restore_of("db"), undo: true });
}

#[test]
fn a_proof_leaves_nothing_behind() {
    let world = World::shop();
    world.backup();
    let request = Request::Prove { backup: BackupChoice::Latest, resources: vec![] };
    prove_plan(&Case { world: &world, request, undo: false });
}

#[test]
fn retention_takes_away_all_or_nothing() {
    let world = World::shop();
    for _ in 0..4 {
        world.backup();
        world.clock.advance(std::time::Duration::from_secs(20 * 86_400));
    }
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    let mut world = world;
    world.setup.keep =
        lifeboat_model::Keep { within: None, last: 1, daily: 0, weekly: 0, monthly: 0, ..Default::default() };
    prove_plan(&Case { world: &world, request: Request::Retention, undo: true });
}

fn an_export_comes_out_whole(format: ExportFormat) {
    let world = World::shop();
    world.backup();
    let to = world.path("exports");
    let from = BackupChoice::Latest;
    let (tables, encrypt_to) = (vec![], vec![]);
    let request = Request::Export {
        resources: vec![],
        from,
        to,
        format,
        tables,
        encrypt_to,
        data_only: false,
        gzip: false,
        server: None,
    };
    let tried = prove_plan(&Case { world: &world, request, undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

#[test]
fn an_export_is_whole_or_not_there() {
    an_export_comes_out_whole(ExportFormat::Sqlite);
}

#[test]
fn an_export_of_tables_is_whole_or_not_there() {
    an_export_comes_out_whole(ExportFormat::Csv);
}

#[test]
fn what_is_put_on_record_is_there_or_not() {
    let world = World::shop();
    world.backup();
    let (secret, why) = ("STRIPE_KEY".to_owned(), "in a log".to_owned());
    let before = lifeboat_io::Clock::now(&*world.clock);
    let leak = Request::Compromise { secret, since: None, before, why, withdrawn: false };
    let attest = Request::Attest { about: "retention".into(), report: vec!["stays".into()], note: "seen".into() };
    let closed = Request::Maintenance { on: true, why: "moving".into(), until: None };
    for request in [leak, attest, closed] {
        prove_plan(&Case { world: &world, request, undo: false });
    }
}

/// Every file is another each time it is encrypted: the look leaves out what is in them, so their names are compared.
#[test]
fn an_encrypted_export_leaves_nothing_in_the_clear_whatever_happens() {
    let world = World::shop();
    world.backup();
    let key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p".to_owned();
    let (from, to) = (BackupChoice::Latest, world.path("exports"));
    let format = ExportFormat::Sqlite;
    let (tables, encrypt_to) = (vec![], vec![key]);
    let request = Request::Export {
        resources: vec![],
        from,
        to,
        format,
        tables,
        encrypt_to,
        data_only: false,
        gzip: false,
        server: None,
    };
    let tried = prove_plan(&Case { world: &world, request, undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

/// The file of a script, made while the shop had nine orders fewer.
/// BKP-07: what was begun twice is there once.
#[test]
fn bkp_07_a_plain_file_elsewhere_is_whole_or_not_there() {
    let world = World::shop().with_elsewhere();
    world.backup();
    world.sell(3);
    let request = Request::Send { resource: world.setup.resources[0].name.clone() };
    let tried = prove_plan(&Case { world: &world, request: request.clone(), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    world.must(&request);
    world.must(&request);
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn an_adopted_file_is_a_whole_backup_or_none() {
    let world = World::shop();
    let file = world.app("database.sqlite.backup.20200102");
    world.copy_database(&file);
    let before = std::fs::read(&file).unwrap();
    world.sell(9);
    let resource = ResourceName::new("db").unwrap();
    let request = Request::Adopt { resource, file: file.clone(), at: None, label: None, server: None };
    let tried = prove_plan(&Case { world: &world, request: request.clone(), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let adopted = world.must(&request);
    let backup = world.backups().remove(0);
    assert_eq!(backup.recovery_point.to_string(), "2020-01-02T00:00:00Z");
    assert_eq!(backup.label.as_deref(), Some("adopted: database.sqlite.backup.20200102"));
    assert_eq!(std::fs::read(&file).unwrap(), before, "the file is left alone");
    world.must(&Request::Undo { operation: adopted.id });
    assert!(world.backups().is_empty());
}
