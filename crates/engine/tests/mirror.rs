//! Mirrors of SQLite files on real servers, written to by another program's SQLite.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

#[path = "mirror/fits.rs"]
mod fits;
#[path = "mirror/much.rs"]
mod much;
#[path = "mirror/named.rs"]
mod named;
#[path = "mirror/refused.rs"]
mod refused;
#[path = "mirror/replaced.rs"]
mod replaced;
#[path = "mirror/shop.rs"]
mod shop;

use lifeboat_engine::{Mirror, Unwatched};
use lifeboat_io::Stop;
use lifeboat_model::sync::{CycleReport, SyncAsk};
use shop::Shop;

fn drain(mirror: &mut Mirror) -> CycleReport {
    mirror.drain(&Stop::default()).unwrap()
}

#[test]
fn everything_that_changes_a_row_reaches_the_cloud() {
    let shop = Shop::attached();
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.orders"), "40", "attaching copies what is there");
    shop.write(
        "INSERT INTO customers VALUES (11, 'new', 'today');
         UPDATE customers SET name = 'O''Brien \"x\" {},\\' WHERE id = 2;
         INSERT OR REPLACE INTO customers VALUES (12, 'customer 3', 'displaces 3');
         INSERT INTO settings VALUES ('tax', 0.2) ON CONFLICT (key) DO UPDATE SET value = excluded.value;
         UPDATE settings SET key = 'currency2' WHERE key = 'currency';
         DELETE FROM orders WHERE id <= 10;
         BEGIN; DELETE FROM orders; ROLLBACK;
         INSERT INTO orders (customer, cents, note, created_at) VALUES (1, 5, NULL, ''), (1, 6, x'00ff', 'NULL');
         INSERT OR IGNORE INTO customers VALUES (11, 'ignored', '');
         INSERT INTO pairs VALUES ('a', 1, 1e300), ('b', 2, -9223372036854775808), ('A', 1, 'text');
         UPDATE pairs SET name = 'B' WHERE name = 'b';",
    );
    let mut mirror = shop.mirror();
    let report = drain(&mut mirror);
    assert!(report.drained && report.set_aside == 0, "{report:?}");
    shop.is_equal(&mut mirror);
    assert_eq!(
        shop.cloud("SELECT count(*) FROM mirror.customers WHERE id = 3"),
        "0",
        "REPLACE tells no delete trigger"
    );
    assert_eq!(shop.cloud("SELECT count(*) FROM lifeboat.deleted WHERE \"table\" = 'orders'"), "10");
    assert_eq!(shop.cloud("SELECT consistent FROM lifeboat.watermark"), "t");
    assert_eq!(drain(&mut mirror).changes, 0);
}

#[test]
fn sync_03_switched_off_it_holds_everything_and_opens_no_connection() {
    let shop = Shop::attached();
    shop.ask(SyncAsk::Disable { why: "trouble".into() });
    let before = shop.connections();
    shop.write("INSERT INTO customers VALUES (21, 'held', ''); DELETE FROM orders WHERE id = 1;");
    let mut mirror = shop.mirror();
    let refused = mirror.drain(&Stop::default()).unwrap_err();
    assert!(refused.to_string().contains("switched off"), "{refused}");
    let status = mirror.status().unwrap();
    assert_eq!((status.enabled, status.queue.queue_size), (false, 2));
    assert_eq!(shop.connections(), before, "no connection was opened");
    shop.ask(SyncAsk::Enable);
    assert!(drain(&mut mirror).drained);
    assert_eq!(mirror.status().unwrap().queue.queue_size, 0);
    shop.is_equal(&mut mirror);
}

#[test]
fn sync_07_and_08_what_the_environment_says_wins() {
    let mut shop = Shop::attached();
    shop.link(|link| link.said.disabled = true);
    let mirror = shop.mirror();
    assert!(!mirror.status().unwrap().enabled);
    let refused = shop.world.run(&shop.request(SyncAsk::Enable)).unwrap_err();
    assert!(refused.message.contains("SYNC_ENABLED=false"), "{refused}");
    shop.link(|link| link.said.local_only = true);
    let before = shop.connections();
    let mut mirror = shop.mirror();
    assert_eq!(mirror.status().unwrap().mode, lifeboat_model::sync::Mode::LocalOnly);
    assert!(mirror.drain(&Stop::default()).is_err());
    assert!(mirror.compare(&[], &Unwatched, &Stop::default()).is_err());
    assert_eq!(shop.connections(), before);
}

#[test]
fn sync_25_a_batch_that_was_applied_without_an_answer_is_not_applied_again() {
    let shop = Shop::attached();
    shop.cloud(
        "CREATE TABLE public.writes (n int);
         CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.writes VALUES (1); RETURN NEW; END';
         CREATE TRIGGER tell AFTER INSERT OR UPDATE ON mirror.customers FOR EACH ROW EXECUTE FUNCTION public.tell();",
    );
    shop.write("INSERT INTO customers VALUES (31, 'once', '');");
    drain(&mut shop.mirror());
    // As if we had died before the file heard of it: the row of the outbox is there again.
    shop.write("UPDATE _lifeboat_meta SET v = v - 1 WHERE k = 'over';");
    let mut mirror = shop.mirror();
    assert_eq!(mirror.status().unwrap().queue.queue_size, 1);
    drain(&mut mirror);
    assert_eq!(mirror.status().unwrap().queue.queue_size, 0);
    assert_eq!(shop.cloud("SELECT count(*) FROM public.writes"), "1");
}

#[test]
fn of_two_workers_one_loses_its_place_and_nothing_is_doubled() {
    let shop = Shop::attached();
    let mut two = shop.mirror_of_another_host();
    let mut one = shop.mirror();
    drain(&mut one);
    drain(&mut two);
    shop.write("INSERT INTO customers VALUES (41, 'late', '');");
    let lost = one.drain(&Stop::default()).unwrap_err();
    assert!(lost.to_string().contains("taken the place"), "{lost}");
    assert_eq!(drain(&mut two).upserts, 1);
    // Later it takes its place back, and finds nothing to do.
    one.try_now();
    assert_eq!(drain(&mut one).changes, 0);
    shop.is_equal(&mut one);
}

#[test]
fn sync_20_and_21_a_cloud_that_is_away_changes_nothing_and_is_left_alone_for_a_while() {
    let shop = Shop::attached();
    let mut mirror = shop.mirror();
    drain(&mut mirror);
    shop.write("INSERT INTO customers VALUES (51, 'patient', '');");
    shop.world.server().crash();
    let away = mirror.drain(&Stop::default()).unwrap_err();
    assert!(!mirror.may_try(), "{away}");
    let status = mirror.status().unwrap();
    assert!(status.enabled && status.queue.queue_size == 1 && status.last_error.is_some(), "{status:?}");
    shop.world.server().restart();
    mirror.try_now();
    assert!(drain(&mut mirror).drained);
    assert_eq!(mirror.status().unwrap().last_error, None);
    shop.is_equal(&mut mirror);
}

#[test]
fn a_schema_that_changes_is_followed() {
    let shop = Shop::attached();
    let mut mirror = shop.mirror();
    drain(&mut mirror);
    shop.write(
        "ALTER TABLE customers ADD COLUMN phone TEXT;
         UPDATE customers SET phone = '555-1234' WHERE id = 1;
         CREATE TABLE parts (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO parts VALUES (1, 'bumper');",
    );
    drain(&mut mirror);
    assert_eq!(shop.cloud("SELECT phone FROM mirror.customers WHERE id = 1"), "555-1234");
    // What was written before the new table had its triggers is found by comparing.
    assert_eq!(mirror.status().unwrap().unverified, ["parts"]);
    shop.ask(SyncAsk::Resync { tables: vec!["parts".into()], keep_orphans: false, emptied: vec![] });
    assert_eq!(shop.cloud("SELECT name FROM mirror.parts"), "bumper");
    // A rebuilt table, as ORMs do it, has lost its triggers silently.
    shop.write(
        "CREATE TABLE customers2 (id INTEGER PRIMARY KEY, name TEXT NOT NULL, created_at TEXT, phone TEXT);
         INSERT INTO customers2 SELECT * FROM customers; DROP VIEW turnover; DROP TABLE orders; DROP TABLE customers;
         ALTER TABLE customers2 RENAME TO customers;
         UPDATE customers SET name = 'after the rebuild' WHERE id = 2;",
    );
    drain(&mut mirror);
    shop.write("UPDATE customers SET name = 'noted again' WHERE id = 4;");
    drain(&mut mirror);
    assert_eq!(shop.cloud("SELECT name FROM mirror.customers WHERE id = 4"), "noted again");
    assert!(mirror.status().unwrap().unverified.contains(&"customers".to_owned()));
    shop.ask(SyncAsk::Resync { tables: vec!["customers".into()], keep_orphans: false, emptied: vec![] });
    assert_eq!(shop.cloud("SELECT name FROM mirror.customers WHERE id = 2"), "after the rebuild");
}

#[test]
fn sync_15_a_queue_that_is_cleared_is_saved_and_counted_and_can_be_put_back() {
    let shop = Shop::attached();
    shop.ask(SyncAsk::Disable { why: String::new() });
    shop.write(
        "INSERT INTO customers VALUES (61, 'a', ''), (62, 'b', ''), (63, 'c', '');
         DELETE FROM orders WHERE id IN (1, 2);",
    );
    let refused = shop.world.run(&shop.request(SyncAsk::Clear { why: String::new() })).unwrap_err();
    assert!(refused.to_string().contains("no reason"), "{refused}");
    let done = shop.ask(SyncAsk::Clear { why: "a test".into() });
    let output = done.output(&lifeboat_model::StepId("clear".into())).unwrap().clone();
    assert_eq!(output["dropped"]["customers"]["insert"], 3, "{output}");
    assert_eq!(output["dropped"]["orders"]["delete"], 2, "{output}");
    let mut mirror = shop.mirror();
    assert_eq!(mirror.status().unwrap().queue.queue_size, 0);
    shop.ask(SyncAsk::Enable);
    drain(&mut mirror);
    assert_eq!(
        shop.cloud("SELECT count(*) FROM mirror.orders"),
        "40",
        "not even the newest, which stays for its number"
    );
    shop.write("INSERT INTO customers VALUES (64, 'd', '');");
    drain(&mut mirror);
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.customers WHERE id > 60"), "1");
    let saved = std::path::PathBuf::from(output["saved"].as_str().unwrap());
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&saved).unwrap().permissions()) & 0o777,
        0o600
    );
    let imported = shop.ask(SyncAsk::Import { file: saved });
    assert_eq!(imported.output(&lifeboat_model::StepId("import".into())).unwrap()["entries"], 5);
    drain(&mut mirror);
    shop.is_equal(&mut mirror);
}

/// SLV-12: what was cleared comes back in its order, is delivered, and what cannot come back is told.
#[test]
fn sync_12_and_slv_12_a_cleared_queue_is_imported_in_its_order() {
    let shop = Shop::attached();
    shop.ask(SyncAsk::Disable { why: String::new() });
    shop.write(
        "CREATE TABLE passing (id INTEGER PRIMARY KEY, n); INSERT INTO customers VALUES (64, 'a', '');
         INSERT INTO orders (id, customer, cents, created_at) VALUES (901, 64, 5, ''); UPDATE customers SET name = 'b' WHERE id = 64;
         DELETE FROM orders WHERE id = 7; INSERT INTO pairs VALUES ('x', 1, 2); DELETE FROM pairs WHERE name = 'x';
         INSERT INTO customers VALUES (63, 'c', '');",
    );
    // As many as the document's shop may have: no page of a list is the whole of it.
    let many: String = (0..1_500).map(|n| format!("UPDATE orders SET cents = {n} WHERE id = {};", n % 5 + 1)).collect();
    shop.write(&format!("BEGIN; {many} COMMIT;"));
    let list = |mut mirror: Mirror| -> Vec<String> {
        let (waiting, _) = mirror.queue(2_000).unwrap();
        waiting.iter().map(|one| format!("{} {:?} {:?}", one.table, one.op, one.key)).collect()
    };
    let was = list(shop.mirror());
    // Customer 64 came, and changed before anybody had looked: one entry.
    assert_eq!(was.len(), 1_506);
    let cleared = shop.ask(SyncAsk::Clear { why: "a test".into() });
    let saved = cleared.output(&lifeboat_model::StepId("clear".into())).unwrap()["saved"].as_str().unwrap().to_owned();
    assert_eq!(list(shop.mirror()), Vec::<String>::new());
    // A table that nobody mirrors: told, and no reason to lose the others.
    let text = std::fs::read_to_string(&saved).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut of_nobody = document["entries"][0].clone();
    of_nobody["table"] = "passing".into();
    document["entries"].as_array_mut().unwrap().insert(3, of_nobody);
    let file = shop.world.path("kept.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let imported = shop.ask(SyncAsk::Import { file });
    let told = imported.output(&lifeboat_model::StepId("import".into())).unwrap().clone();
    assert_eq!(told, serde_json::json!({ "entries": 1_506, "left_out": { "passing": 1 } }));
    assert_eq!(list(shop.mirror()), was, "in their order");
    shop.ask(SyncAsk::Enable);
    drain(&mut shop.mirror());
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.orders WHERE id IN (7, 901)"), "1");
    shop.is_equal(&mut shop.mirror());
}

/// Whoever compares sees that they wait, whether somebody has noted them or not.
#[test]
fn new_rows_that_wait_are_no_difference() {
    let shop = Shop::attached();
    shop.ask(SyncAsk::Disable { why: String::new() });
    shop.write("INSERT INTO customers VALUES (91, 'a', ''); UPDATE customers SET name = 'b' WHERE id = 91;");
    assert_eq!(shop.read("SELECT count(*) FROM _lifeboat_outbox"), "0", "the app has paid for nothing");
    assert_eq!(shop.mirror().status().unwrap().queue.queue_size, 1);
    assert_eq!(shop.read("SELECT count(*) FROM _lifeboat_outbox"), "0", "plans ask for the status, and change nothing");
    shop.is_equal(&mut shop.mirror());
    shop.ask(SyncAsk::Enable);
    drain(&mut shop.mirror());
    assert_eq!(shop.cloud("SELECT name FROM mirror.customers WHERE id = 91"), "b");
}

#[test]
fn detached_nothing_of_ours_is_left_in_the_file() {
    let shop = Shop::attached();
    shop.write("INSERT INTO customers VALUES (71, 'x', '');");
    shop.ask(SyncAsk::Detach);
    assert_eq!(shop.read("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%lifeboat%'"), "0");
    shop.write("DELETE FROM customers WHERE id = 71;");
}

#[test]
fn a_clear_that_is_repeated_after_a_crash_keeps_what_it_saved() {
    let shop = Shop::attached();
    shop.ask(SyncAsk::Disable { why: String::new() });
    shop.write("INSERT INTO customers VALUES (75, 'a', ''), (76, 'b', '');");
    let plan = shop.world.engine().plan(&shop.request(SyncAsk::Clear { why: "a test".into() })).unwrap();
    let saved =
        |body: &str| serde_json::from_str::<serde_json::Value>(body).unwrap()["entries"].as_array().unwrap().len();
    for _ in 0..2 {
        // The second run of the same plan is the step done once more, after its process died before it could say so.
        shop.world.engine().run(&plan, "tester", &Unwatched, &Stop::default()).unwrap();
        let folder = shop.world.state().queues(&shop.world.setup.scope, &shop.world.setup.links[0].name);
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(saved(&std::fs::read_to_string(&files[0]).unwrap()), 2);
    }
}
