//! Backups that take over what an earlier one has of tables that nobody wrote to.

use lifeboat_model::{BackupChoice, Content, OperationState, Request};
use lifeboat_testkit::World;

use super::shop;

const LARGE: &str = "CREATE TABLE large (id int PRIMARY KEY, body text) WITH (fillfactor = 10);
    INSERT INTO large SELECT i, 'body of ' || i FROM generate_series(1, 3000) i";

/// What the newest backup says of a table: its rows, and whether they were taken over.
fn told(world: &World, table: &str) -> (u64, bool) {
    let newest = world.backups().into_iter().max_by_key(|backup| backup.taken_at).unwrap();
    let manifest = world.engine().manifest(&newest.id).unwrap();
    let facts = manifest.resources.iter().find_map(|part| match &part.content {
        Content::Postgres(facts) => Some(facts.tables[table].clone()),
        _ => None,
    });
    let facts = facts.unwrap();
    (facts.rows.rows, facts.read_at.is_some())
}

#[test]
fn a_table_is_read_once_and_restored_from_each_backup_that_took_it_over() {
    let world = shop(15);
    world.psql("shop", LARGE);
    world.backup();
    assert_eq!(told(&world, "public.large"), (3000, false));
    world.psql("shop", "INSERT INTO orders (customer, cents) VALUES (1, 4)");
    world.backup();
    assert_eq!(told(&world, "public.large"), (3000, true));
    let digest = "SELECT md5(string_agg(l::text, ',' ORDER BY id)) FROM large l";
    let whole = world.psql("shop", digest);
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    world.psql("shop", "DELETE FROM large");
    assert_eq!(world.restore("db").state, OperationState::Done);
    assert_eq!(world.psql("shop", digest), whole);
    // It is another database now, whose counting is another: all is read.
    world.backup();
    assert_eq!(told(&world, "public.large"), (3000, false));
    world.backup();
    world.psql("shop", "DELETE FROM large WHERE id = 1; INSERT INTO large VALUES (1, 'another')");
    world.backup();
    assert_eq!(told(&world, "public.large"), (3000, false), "as many as before, and not the same");
}
