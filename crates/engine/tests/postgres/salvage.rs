//! Rows that leave with a restore or an undo: shown, counted again behind a fence, kept.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::{AcceptLoss, Action, FailureKind, OperationState, PgAction, Request, Salvage, SalvagedTable};
use lifeboat_testkit::{
    World,
    trouble::{with_something_before, written_before},
    world::{SINCE, restore_of},
};

fn is_hold(action: &Action) -> bool {
    matches!(action, Action::Postgres(PgAction::Fence { on: true, .. }))
}

/// A restore that may lose whatever there is.
pub fn any_restore() -> Request {
    let mut request = restore_of("db");
    if let Request::Restore { accept_loss, .. } = &mut request {
        *accept_loss = AcceptLoss::Any;
    }
    request
}

/// A shop with a backup, and what happened since.
pub fn shop_since() -> World {
    let world = World::on_server(15);
    world.psql("shop", "INSERT INTO log VALUES ('a')");
    world.backup();
    world.psql("shop", SINCE);
    world
}

fn table<'a>(salvage: &'a Salvage, name: &str) -> &'a SalvagedTable {
    salvage.tables.iter().find(|table| table.table == name).unwrap()
}

fn has_fence(world: &World, database: &str) -> bool {
    world.psql(database, "SELECT count(*) FROM pg_namespace WHERE nspname = 'lifeboat_fence'") != "0"
}

#[test]
fn slv_01_and_04_rows_that_came_changed_and_went_are_shown_before_and_kept_with_their_owners() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = shop_since();
    world.setup.resources[0].owner_columns = vec!["customer".into(), "email".into()];
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    let line = plan.losses[0].what.iter().find(|line| line.table == "public.orders").unwrap();
    assert_eq!((line.created, line.changed, line.deleted), (Some(3), Some(2), Some(1)));
    assert!(plan.notes.iter().any(|note| note.contains("Changes that will be reverted: 2.")), "{:?}", plan.notes);
    let done = world.restore("db");
    let salvage = world.kept_rows(&done);
    let orders = table(&salvage, "public.orders");
    assert_eq!((orders.inserted, orders.updated, orders.deleted), (3, 2, 1));
    assert_eq!(salvage.counts(), (6, 2, 1));
    let log = table(&salvage, "public.log");
    assert_eq!((log.inserted, log.deleted), (2, 0), "a table without a key");

    // SLV-02: CSV with a header, for its owner's eyes only, here and not on the server.
    let folder = world.state().salvage(&done.id);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    let csv = fs::read_to_string(folder.join(orders.csv.as_ref().unwrap())).unwrap();
    let lines: std::collections::BTreeSet<&str> = csv.lines().collect();
    assert_eq!(csv.lines().next(), Some("change,id,customer,cents"));
    for row in ["inserted,303,3,1003", "updated,7,8,5007", "before,7,8,7", "deleted,9,10,9"] {
        assert!(lines.contains(row), "{row} is not in\n{csv}");
    }
    assert_eq!(lines.len(), 1 + 3 + 2 + 2 + 1);
    // SLV-04: whose rows they are.
    let owners = fs::read_to_string(folder.join(salvage.affected.as_ref().unwrap())).unwrap();
    assert!(owners.contains("customer,21,2,0,0\n") && owners.contains("email,new@example.org,1,0,0\n"), "{owners}");
}

#[test]
fn slv_10_a_row_written_after_the_first_count_is_in_what_is_kept() {
    let world = shop_since();
    let engine = written_before(&world, is_hold, "INSERT INTO orders (customer, cents) VALUES (1, 4242)");
    let plan = engine.plan(&any_restore()).unwrap();
    let done = engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap();
    assert_eq!(done.state, OperationState::Done);
    let salvage = world.kept_rows(&done);
    assert_eq!(table(&salvage, "public.orders").inserted, 4);
    let csv = fs::read_to_string(world.state().salvage(&done.id).join("public.orders.csv")).unwrap();
    assert!(csv.contains(",1,4242\n"), "{csv}");
    let kept = world.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'shop_before%'");
    assert!(!has_fence(&world, "shop"));
    world.psql("postgres", &format!("ALTER DATABASE {kept} WITH ALLOW_CONNECTIONS true"));
    assert!(!has_fence(&world, &kept), "what is kept has no fence");
}

#[test]
fn rows_that_nobody_was_shown_stop_a_restore_and_the_fence_goes() {
    let world = shop_since();
    let engine = written_before(&world, is_hold, "INSERT INTO orders (customer, cents) VALUES (1, 4242)");
    let plan = engine.plan(&restore_of("db")).unwrap();
    let ended = engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap();
    let OperationState::PutBack { why: Some(failure) } = &ended.state else { panic!("{:?}", ended.state) };
    assert_eq!(failure.kind, FailureKind::Stale);
    assert!(failure.to_string().contains("more would be lost than was agreed to"), "{failure}");
    assert!(!has_fence(&world, "shop"));
    assert!(!world.state().salvage(&ended.id).exists());
    assert_eq!(world.psql("shop", "SELECT count(*) FROM orders WHERE cents = 4242"), "1");
    world.psql("shop", "INSERT INTO orders (customer, cents) VALUES (1, 1)");
    // The same, seen before anything begins.
    let stale = engine.check_losses(&plan).unwrap_err();
    assert_eq!(stale.kind, FailureKind::Stale, "{stale}");
    engine.check_losses(&world.engine().plan(&restore_of("db")).unwrap()).unwrap();
}

#[test]
fn writes_are_refused_while_rows_are_found_and_reading_goes_on() {
    let world = shop_since();
    let server = world.server.clone().unwrap();
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let (told, at) = (seen.clone(), server.clone());
    let look = move || {
        let server = at.lock().unwrap();
        let works = |sql: &str| server.try_sql("postgres", "shop", sql).status.success();
        told.lock().unwrap().extend([works("INSERT INTO log VALUES ('late')"), works("SELECT count(*) FROM orders")]);
    };
    let is_salvage = |action: &Action| matches!(action, Action::Postgres(PgAction::Salvage { ahead: false, .. }));
    let engine = with_something_before(&world, is_salvage, look);
    let plan = engine.plan(&restore_of("db")).unwrap();
    assert_eq!(engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap().state, OperationState::Done);
    assert_eq!(*seen.lock().unwrap(), [false, true]);
}

/// POSTGRES.md, section 8: ids that were given out are in mails and invoices.
#[test]
fn no_id_is_given_out_twice_after_a_rollback_and_its_undo() {
    let world = shop_since();
    let done = world.restore("db");
    let next = || world.psql("shop", "INSERT INTO orders (customer, cents) VALUES (1, 5) RETURNING id");
    assert_eq!(next(), "304", "301 to 303 were given out before");
    assert_eq!(world.psql("shop", "SELECT count(*) FROM orders"), "301");
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(next(), "305", "304 was given out in between");
}

#[test]
fn an_undo_shows_and_keeps_the_rows_written_since() {
    let world = shop_since();
    let done = world.restore("db");
    world.psql("shop", "INSERT INTO orders (customer, cents) VALUES (2, 78); UPDATE orders SET cents = 1 WHERE id = 3");
    let plan = world.engine().plan(&Request::Undo { operation: done.id.clone() }).unwrap();
    let what = &plan.losses[0].what;
    assert_eq!(what.len(), 1, "{what:?}");
    assert_eq!((what[0].created, what[0].changed, what[0].deleted), (Some(1), Some(1), Some(0)));
    let undone = world.must(&Request::Undo { operation: done.id });
    assert_eq!(world.kept_rows(&undone).counts(), (1, 1, 0));
    // And the undo of that: what was written to the former database since it came back.
    world.psql("shop", "INSERT INTO log VALUES ('after the undo')");
    let redo = world.engine().plan(&Request::Undo { operation: undone.id }).unwrap();
    assert_eq!(redo.losses[0].what.iter().map(|line| line.created.unwrap()).sum::<u64>(), 1, "{:?}", redo.losses);
}

#[test]
fn a_fence_that_a_person_has_put_up_stays_up_on_both_sides_of_a_swap() {
    let world = shop_since();
    let resource = lifeboat_model::ResourceName::new("db").unwrap();
    world.must(&Request::Fence { resource: resource.clone(), on: true, why: "a bad release".into() });
    world.restore("db");
    let refused = !world.server().try_sql("postgres", "shop", "INSERT INTO log VALUES ('x')").status.success();
    assert!(refused && has_fence(&world, "shop"));
    world.must(&Request::Fence { resource, on: false, why: String::new() });
    world.psql("shop", "INSERT INTO log VALUES ('x')");
}

/// A migration added a column: rows are compared as far as both sides have columns, and the rest is kept too.
#[test]
fn a_column_that_came_since_does_not_make_every_row_another_one() {
    let world = World::on_server(15);
    world.backup();
    world.psql(
        "shop",
        "ALTER TABLE orders ADD COLUMN note text DEFAULT 'none'; ALTER TABLE log ADD COLUMN by text; ALTER TABLE customers DROP COLUMN email CASCADE",
    );
    world.psql("shop", "INSERT INTO orders (customer, cents, note) VALUES (1, 9, 'tab\there'); CREATE TABLE tasks (id int PRIMARY KEY, what text); INSERT INTO tasks VALUES (1, 'x')");
    let plan = world.engine().plan(&restore_of("db")).unwrap();
    let created: Vec<(&str, Option<u64>)> =
        plan.losses[0].what.iter().map(|line| (line.table.as_str(), line.created)).collect();
    let all = [("public.log", Some(0)), ("public.orders", Some(1)), ("public.tasks", Some(1))];
    assert_eq!(created, all, "{:?}", plan.losses);
    assert_eq!(plan.losses[0].what[0].columns_leaving, ["by"]);
    let done = world.restore("db");
    let salvage = world.kept_rows(&done);
    assert_eq!(table(&salvage, "public.orders").only_now, ["note"]);
    let csv = fs::read_to_string(world.state().salvage(&done.id).join("public.orders.csv")).unwrap();
    assert_eq!(csv, "change,id,customer,cents,note\ninserted,301,1,9,tab\there\n");
}

#[test]
fn rows_that_leave_for_a_backup_of_another_name_are_counted_and_kept_too() {
    let mut world = shop_since();
    let (there, here) = ["db", "ledger"].map(|name| lifeboat_model::ResourceName::new(name).unwrap()).into();
    world.setup.resources[0].name = here.clone();
    let mut request = restore_of("ledger");
    if let Request::Restore { from, .. } = &mut request {
        let (scope, which) = (world.setup.scope.clone(), Box::new(lifeboat_model::BackupChoice::Latest));
        *from = lifeboat_model::BackupChoice::Elsewhere { scope, resource: there, which };
    }
    let plan = world.engine().plan(&request).unwrap();
    assert_eq!(plan.losses[0].what.len(), 3, "{:?}", plan.notes);
    let salvage = world.kept_rows(&world.must(&request));
    assert_eq!((salvage.counts(), salvage.resource), ((6, 2, 1), here));
}

/// A writer that never pauses, but is refused for a moment and ended for another: what is kept is to the row what left.
#[test]
fn slv_10_whatever_a_writer_does_up_to_the_rename_is_in_what_is_kept() {
    let world = shop_since();
    world.psql("shop", "UPDATE orders SET cents = cents + 1 WHERE id < 20");
    world.backup();
    let rows = "COPY (SELECT * FROM orders ORDER BY id) TO STDOUT";
    let then = world.psql("shop", rows).replace('\t', ",");
    let url = world.server().url("shop");
    let clients = super::writers::Clients::begin(&url);
    let done = world.must(&any_restore());
    let (written, read) = clients.end();
    println!("a writer waited {written:?}, a reader {read:?}");
    let kept = world.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'shop_before%'");
    world.psql("postgres", &format!("ALTER DATABASE {kept} WITH ALLOW_CONNECTIONS true"));
    let values = then.lines().map(|line| format!("({line})")).collect::<Vec<_>>().join(", ");
    world.psql(&kept, &format!("CREATE TABLE was AS SELECT * FROM (VALUES {values}) v(id, customer, cents)"));
    let mut session = super::writers::session(&world.server().url(&kept)).unwrap();
    super::writers::kept_is_what_left(&world, &done, &mut session, ("public.was", "public.orders"));
    assert_eq!(world.psql(&kept, "SELECT to_regnamespace('lifeboat_watch') IS NULL"), "t");
}

/// A kill while writes are held: nobody has to do anything for them to be let in again, and whoever goes on afterwards does not
/// take for granted that nobody wrote.
#[test]
fn what_holds_writes_for_a_swap_ends_by_itself_and_the_swap_knows() {
    use lifeboat_testkit::trouble::{InTrouble, Trouble, unless_it_dies};
    let world = shop_since();
    let plan = world.engine().plan(&any_restore()).unwrap();
    let ready = plan.steps().position(|step| step.id.0 == "ready").unwrap();
    let engine = world.engine_with(|hands| Arc::new(InTrouble::new(hands, Trouble::DieBefore(ready))));
    assert!(unless_it_dies(|| engine.run(&plan, "tester", &Unwatched, &Stop::default())).is_none());
    drop(engine);
    let write = || world.server().try_sql("postgres", "shop", "INSERT INTO log VALUES ('x')").status.success();
    assert!(!write(), "held");
    // Time passes by itself; a test need not wait for it.
    world.psql("shop", "SELECT setval('lifeboat_fence.until', (extract(epoch FROM clock_timestamp()) * 1000)::bigint)");
    assert!(write(), "nothing was heard of us for too long");
    let engine = world.engine();
    let id = engine.unfinished_one(None).unwrap();
    let ended = engine.resume(&id, "tester", &Unwatched, &Stop::default()).unwrap();
    let OperationState::PutBack { why: Some(failure) } = &ended.state else { panic!("{:?}", ended.state) };
    assert!(failure.to_string().contains("writes were let in again before the swap"), "{failure}");
    assert!(!has_fence(&world, "shop") && write());
    assert_eq!(world.psql("shop", "SELECT to_regnamespace('lifeboat_watch') IS NULL"), "t");
}

/// The same before the rows were looked at: then they are held again, and it goes on.
#[test]
fn a_restore_goes_on_after_what_held_writes_has_ended_when_rows_are_yet_to_be_found() {
    use lifeboat_testkit::trouble::{InTrouble, Trouble, unless_it_dies};
    let world = shop_since();
    let plan = world.engine().plan(&any_restore()).unwrap();
    let at = plan.steps().position(|step| step.id.0 == "salvage").unwrap();
    let engine = world.engine_with(|hands| Arc::new(InTrouble::new(hands, Trouble::DieBefore(at))));
    assert!(unless_it_dies(|| engine.run(&plan, "tester", &Unwatched, &Stop::default())).is_none());
    drop(engine);
    world.psql(
        "shop",
        "SELECT setval('lifeboat_fence.until', 0); INSERT INTO orders (customer, cents) VALUES (1, 4242)",
    );
    let engine = world.engine();
    let id = engine.unfinished_one(None).unwrap();
    let ended = engine.resume(&id, "tester", &Unwatched, &Stop::default()).unwrap();
    assert_eq!(ended.state, OperationState::Done);
    assert_eq!(table(&world.kept_rows(&ended), "public.orders").inserted, 4);
}
