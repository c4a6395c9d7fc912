//! Rows that leave with a swap of schemas or its undo: shown, found behind the last lock, kept, brought back.

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::{AcceptLoss, Action, FailureKind, OperationState, PgAction, Request, ResourceName, SwapStrategy};
use lifeboat_testkit::{
    World,
    trouble::written_before,
    world::{SINCE, restore_of},
};

/// A shop whose settings ask for a swap of schemas, with a backup and what happened since. Another schema is not the
/// shop's to lose.
fn shop_since() -> World {
    let mut world = World::on_server(15);
    world.setup.swaps.insert(ResourceName::new("db").unwrap(), SwapStrategy::Schema);
    let lifeboat_model::ResourceKind::Postgres { schemas, .. } = &mut world.setup.resources[0].kind else { panic!() };
    *schemas = vec!["public".to_owned()];
    world.psql("shop", "INSERT INTO log VALUES ('a'); CREATE SCHEMA reports; CREATE TABLE reports.days (day int)");
    world.backup();
    world.psql("shop", SINCE);
    world.psql("shop", "INSERT INTO reports.days VALUES (1)");
    world
}

fn any_restore() -> Request {
    let mut request = restore_of("db");
    if let Request::Restore { accept_loss, .. } = &mut request {
        *accept_loss = AcceptLoss::Any;
    }
    request
}

fn is_swap(action: &Action) -> bool {
    matches!(action, Action::Postgres(PgAction::SwapSchemas { .. }))
}

#[test]
fn slv_01_rows_that_leave_with_schemas_are_shown_before_kept_afterwards_and_brought_back() {
    let world = shop_since();
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    let tables: Vec<&str> = plan.losses[0].what.iter().map(|line| line.table.as_str()).collect();
    assert_eq!(tables, ["public.customers", "public.log", "public.orders"]);
    let done = world.restore("db");
    let salvage = world.kept_rows(&done);
    assert_eq!(salvage.counts(), (6, 2, 1));
    assert_eq!(salvage.tables.iter().map(|table| table.table.as_str()).collect::<Vec<_>>(), tables);
    assert_eq!(world.psql("shop", "SELECT count(*) FROM orders"), "300");
    let brought =
        world.must(&Request::BringBack { operation: done.id, tables: vec![], overwrite: false, deletes: false });
    assert_eq!(world.psql("shop", "SELECT count(*) FROM orders"), "303");
    assert_eq!(world.psql("shop", "SELECT count(*) FROM log WHERE what = 'a'"), "3");
    world.must(&Request::Undo { operation: brought.id });
    assert_eq!(world.psql("shop", "SELECT count(*) FROM orders"), "300");
}

#[test]
fn slv_10_a_row_written_just_before_schemas_are_swapped_is_in_what_is_kept() {
    let world = shop_since();
    let engine = written_before(&world, is_swap, "INSERT INTO orders (customer, cents) VALUES (1, 4242)");
    let plan = engine.plan(&any_restore()).unwrap();
    let done = engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap();
    assert_eq!(done.state, OperationState::Done);
    assert_eq!(world.kept_rows(&done).counts(), (7, 2, 1));
    let folder = world.state().salvage(&done.id);
    let csv = std::fs::read_to_string(folder.join("public.orders.csv")).unwrap();
    assert!(csv.contains(",1,4242\n"), "{csv}");
    assert!(!folder.join("ahead.json").exists(), "what was found first is taken over");
}

#[test]
fn rows_that_nobody_was_shown_stop_a_swap_of_schemas() {
    let world = shop_since();
    let engine = written_before(&world, is_swap, "INSERT INTO orders (customer, cents) VALUES (1, 4242)");
    let plan = engine.plan(&restore_of("db")).unwrap();
    let ended = engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap();
    let OperationState::PutBack { why: Some(failure) } = &ended.state else { panic!("{:?}", ended.state) };
    assert_eq!(failure.kind, FailureKind::Stale);
    assert!(failure.to_string().contains("more would be lost than was agreed to"), "{failure}");
    assert!(!world.state().salvage(&ended.id).exists(), "they have not left");
    assert_eq!(world.psql("shop", "SELECT count(*) FROM orders WHERE cents = 4242"), "1");
    let stale = engine.check_losses(&plan).unwrap_err();
    assert_eq!(stale.kind, FailureKind::Stale, "the same, seen before anything begins: {stale}");
}

#[test]
fn an_undo_of_a_swap_of_schemas_shows_and_keeps_the_rows_written_since() {
    let world = shop_since();
    let done = world.restore("db");
    world.psql("shop", "INSERT INTO orders (customer, cents) VALUES (2, 78); UPDATE orders SET cents = 1 WHERE id = 3");
    let plan = world.engine().plan(&Request::Undo { operation: done.id.clone() }).unwrap();
    let what = &plan.losses[0].what;
    assert_eq!(what.len(), 1, "{what:?}");
    assert_eq!((what[0].created, what[0].changed, what[0].deleted), (Some(1), Some(1), Some(0)));
    let undone = world.must(&Request::Undo { operation: done.id });
    assert_eq!(world.kept_rows(&undone).counts(), (1, 1, 0));
    assert_eq!(world.psql("shop", "SELECT count(*) FROM orders"), "302");
}

/// The numbers of this test are those of `docs/postgres.md`: rows beside, by which the gap must not grow.
fn more_rows(world: &World) -> u64 {
    let rows = std::env::var("LIFEBOAT_TEST_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(20_000);
    world.psql(
        "shop",
        &format!("CREATE TABLE events (id bigserial PRIMARY KEY, at timestamptz, what text); INSERT INTO events (at, what) SELECT '2026-01-01', 'event ' || n FROM generate_series(1, {rows}) n"),
    );
    rows
}

/// A writer that never pauses, and a reader: what is kept is to the row what left, for the swap and for its undo, and clients
/// wait for what was written in the last moment, not for what the tables hold.
#[test]
fn slv_10_whatever_a_writer_does_up_to_the_swap_of_schemas_is_in_what_is_kept() {
    let world = shop_since();
    let rows = more_rows(&world);
    world.psql("shop", "CREATE SCHEMA spare; UPDATE orders SET cents = cents + 1 WHERE id < 20");
    world.backup();
    world.psql(
        "shop",
        "CREATE TABLE spare.orders AS TABLE orders; UPDATE events SET what = 'touched' WHERE id % 1000 = 1",
    );
    let url = world.server().url("shop");
    let mut session = super::writers::session(&url).unwrap();
    let clients = super::writers::Clients::begin(&url);
    let done = world.must(&any_restore());
    let (written, read) = clients.end();
    let swap = done.plan.steps().find(|step| is_swap(&step.action)).unwrap();
    let held = done.output(&swap.id).unwrap()["held_ms"].as_u64().unwrap();
    println!("{rows} rows beside: tables held for {held} ms; a writer waited {written:?}, a reader {read:?}");
    let kept = world.psql("shop", "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'public_before%'");
    super::writers::kept_is_what_left(&world, &done, &mut session, ("spare.orders", &format!("{kept}.orders")));
    assert_eq!(world.psql("shop", "SELECT to_regnamespace('lifeboat_watch') IS NULL"), "t");
    // What was written to the new one since.
    let clients = super::writers::Clients::begin(&url);
    while world.psql("shop", "SELECT count(*) FROM orders WHERE cents > 1000").parse::<u64>().unwrap() < 50 {}
    let undone = world.must(&Request::Undo { operation: done.id });
    let (written, read) = clients.end();
    println!("undone: a writer waited {written:?}, a reader {read:?}");
    let left = world.psql("shop", "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'public_undone%'");
    super::writers::kept_is_what_left(&world, &undone, &mut session, ("spare.orders", &format!("{left}.orders")));
    assert_eq!(world.psql("shop", "SELECT to_regnamespace('lifeboat_watch') IS NULL"), "t");
}
