//! Plans for PostgreSQL, proven: failed, killed and repeated at every step, with servers that crash and clients that
//! never stop writing.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_model::{BackupChoice, Request};
use lifeboat_testkit::{
    World,
    prove::{Case, prove_plan},
    world::{backup_of, restore_of},
};

#[path = "postgres/again.rs"]
mod again;
#[path = "postgres/bring_back.rs"]
mod bring_back;
#[path = "postgres/clients.rs"]
mod clients;
#[path = "postgres/crashes.rs"]
mod crashes;
#[path = "postgres/salvage.rs"]
mod salvage;
#[path = "writers.rs"]
mod writers;

/// A shop on a server with one backup, and what happened since then.
fn shop(major: u32) -> World {
    let world = World::on_server(major);
    world.backup();
    world.psql(
        "shop",
        "INSERT INTO orders (customer, cents) VALUES (1, 77); UPDATE orders SET cents = 1; DROP VIEW turnover",
    );
    world
}

#[test]
fn a_backup_leaves_the_database_alone() {
    let world = World::on_server(13);
    let tried = prove_plan(&Case { world: &world, request: backup_of(&[]), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

#[test]
fn a_restored_database_on_a_server_is_wholly_old_or_wholly_new() {
    let world = shop(15);
    let tried = prove_plan(&Case { world: &world, request: restore_of("db"), undo: true });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

#[test]
fn a_database_that_is_gone_from_its_server_comes_back() {
    let world = shop(15);
    world.psql("postgres", "DROP DATABASE shop");
    let tried = prove_plan(&Case { world: &world, request: restore_of("db"), undo: true });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

#[test]
fn an_undo_and_a_release_of_a_rename_happen_or_do_not() {
    let world = shop(15);
    let restored = world.restore("db");
    world.psql("shop", "INSERT INTO orders (customer, cents) VALUES (2, 78)");
    let undo = Request::Undo { operation: restored.id.clone() };
    let release = Request::Release { operation: restored.id };
    for request in [undo, release] {
        let tried = prove_plan(&Case { world: &world, request, undo: false });
        assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    }
}

#[test]
fn a_proof_on_a_server_leaves_no_database_behind() {
    let world = shop(15);
    let request = Request::Prove { backup: BackupChoice::Latest, resources: vec![] };
    prove_plan(&Case { world: &world, request, undo: false });
}

#[test]
fn an_adopted_dump_is_a_backup_or_leaves_nothing() {
    let world = shop(15);
    let file = world.path("cloud_backup_20240101_020000.sql");
    std::fs::write(&file, "CREATE TABLE orders (id int);\nCOPY orders (id) FROM stdin;\n1\n2\n\\.\n").unwrap();
    let resource = lifeboat_model::ResourceName::new("db").unwrap();
    let request = Request::Adopt { resource, file, at: None, label: None, server: None };
    let tried = prove_plan(&Case { world: &world, request, undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}

#[test]
fn an_archive_is_whole_or_not_there_and_leaves_no_database_behind() {
    let world = shop(15);
    let (from, format) = (BackupChoice::Latest, lifeboat_model::ExportFormat::Custom);
    let (resources, tables, encrypt_to) = (vec![], vec![], vec![]);
    let to = world.path("shop.dump");
    let request = Request::Export {
        resources,
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

/// A server without the tablespaces of the one that was backed up: told before, and made in the default one.
#[test]
fn what_was_in_a_tablespace_that_is_not_here_goes_to_the_default_one() {
    let world = World::on_server(15);
    let fast = "SET allow_in_place_tablespaces = on; CREATE TABLESPACE fast LOCATION ''";
    world.psql("postgres", fast);
    world.psql(
        "shop",
        "ALTER TABLE orders SET TABLESPACE fast; CREATE INDEX orders_by_cents ON orders (cents) TABLESPACE fast",
    );
    let there =
        "SELECT count(*) FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE spcname = 'fast'";
    world.backup();
    world.restore("db");
    assert_eq!(world.psql("shop", there), "2", "where it is there, it is used");
    for database in world.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'shop_%'").lines() {
        world.psql("postgres", &format!("DROP DATABASE \"{database}\""));
    }
    world.psql(
        "shop",
        "ALTER TABLE orders SET TABLESPACE pg_default; ALTER INDEX orders_by_cents SET TABLESPACE pg_default",
    );
    world.psql("postgres", "DROP TABLESPACE fast");
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    let told = "Tablespaces that this server lacks: fast. What was in them is made in the database's default one.";
    assert!(plan.notes.iter().any(|note| note == told), "{:?}", plan.notes);
    world.restore("db");
    assert_eq!(world.psql("shop", "SELECT count(*) FROM orders"), "300");
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    // And where somebody says so, it goes into another one.
    world.psql("postgres", "SET allow_in_place_tablespaces = on; CREATE TABLESPACE other LOCATION ''");
    let into = |old: &str, new: &str| {
        let mut request = salvage::any_restore();
        if let Request::Restore { tablespaces, .. } = &mut request {
            tablespaces.insert(old.to_owned(), new.to_owned());
        }
        request
    };
    let refused = |request: &Request| world.engine().plan(request).unwrap_err().to_string();
    assert!(refused(&into("slow", "other")).contains("nothing in the backup is in a tablespace slow"));
    assert!(refused(&into("fast", "nowhere")).contains("the server has no tablespace nowhere"));
    let request = into("fast", "other");
    let plan = world.engine().plan(&request).unwrap();
    assert!(plan.notes.iter().any(|note| note == "What was in tablespace fast goes into other."), "{:?}", plan.notes);
    assert!(!plan.notes.iter().any(|note| note.starts_with("Tablespaces that")), "{:?}", plan.notes);
    world.must(&request);
    assert_eq!(world.psql("shop", &there.replace("'fast'", "'other'")), "2");
}
