//! Backups that take over what an earlier one has of tables that nobody wrote to.

use std::time::Duration;

use lifeboat_model::{Action, BackupChoice, Content, OperationState, Plan, Request, predict::Sample};
use lifeboat_store::Catalog;
use lifeboat_testkit::{World, trouble::with_something_before, world::backup_of};

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

/// Two tables of about 40 and 12 MiB, of a row a page.
const TABLES: &str = "CREATE TABLE larger (id int PRIMARY KEY, body text) WITH (fillfactor = 10);
    INSERT INTO larger SELECT i, repeat(md5(i::text), 24) FROM generate_series(1, 5000) i;
    CREATE TABLE smaller (id int PRIMARY KEY, body text) WITH (fillfactor = 10);
    INSERT INTO smaller SELECT i, repeat(md5(i::text), 24) FROM generate_series(1, 1600) i";

/// A backup that takes so many seconds by the test's clock; its sample.
fn measured(world: &World, seconds: u64) -> Sample {
    let clock = world.clock.clone();
    let is_store = |action: &Action| matches!(action, Action::StoreBackup { .. });
    let slow = with_something_before(world, is_store, move || clock.advance(Duration::from_secs(seconds)));
    let plan = slow.plan(&backup_of(&[])).unwrap();
    let done = slow.run(&plan, "tester", &lifeboat_engine::Unwatched, &lifeboat_io::Stop::default()).unwrap();
    assert_eq!(done.state, OperationState::Done);
    let timings = Catalog::open(&world.state()).unwrap().timings().unwrap();
    let mut stored = timings.into_iter().filter(|((kind, _), _)| kind == "store");
    stored.next().unwrap().1[0]
}

/// What the plan of a backup expects of reading and storing, in seconds, and what it says about that.
fn expected(world: &World) -> (u64, String) {
    let plan: Plan = world.engine().plan(&backup_of(&[])).unwrap();
    let phase = plan.phases.iter().find(|phase| phase.name == "store").unwrap();
    (phase.expected.unwrap().p50_ms / 1_000, phase.steps[0].title.clone())
}

/// What a plan expects follows from what will be read, and a run is measured by what it has read.
#[test]
fn a_backup_is_predicted_by_what_it_has_to_read() {
    let world = World::on_server(15);
    world.psql("shop", TABLES);
    let mib = |bytes: u64| bytes >> 20;
    let (_, says) = expected(&world);
    assert!(says.ends_with("chunk, compress, encrypt"), "nothing is taken over yet: {says}");
    let all = measured(&world, 100);
    assert_eq!(all.ms, 100_000);
    assert!((50..60).contains(&mib(all.bytes)), "{all:?}");
    let (seconds, says) = expected(&world);
    assert_eq!(seconds, 2, "what stays of a run that read everything");
    assert!(says.contains("take over 5") && says.contains("read "), "{says}");
    let none = measured(&world, 4);
    assert!(none.ms == 4_000 && mib(none.bytes) < 1, "{none:?}");
    assert_eq!(expected(&world).0, 4, "as the one before");
    world.psql("shop", "UPDATE smaller SET body = 'other' WHERE id = 800");
    let (seconds, says) = expected(&world);
    assert!((20..30).contains(&seconds), "a quarter of all: {seconds}, {says}");
    assert!(says.contains("read 1") && says.contains("take over 3"), "{says}");
    let one = measured(&world, 27);
    assert!((11..15).contains(&mib(one.bytes)), "{one:?}");
    assert!((3..=5).contains(&expected(&world).0), "the next one takes it all over again");
    world.server().crash_and_restart();
    let (seconds, says) = expected(&world);
    assert!((90..=110).contains(&seconds), "it may have come back as it was earlier: {seconds}, {says}");
    assert!(says.ends_with("chunk, compress, encrypt"), "{says}");
    assert!((50..60).contains(&mib(measured(&world, 100).bytes)));
}
