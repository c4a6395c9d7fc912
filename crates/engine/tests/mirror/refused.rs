//! Rows that the cloud refuses, deletes that look like an accident.

use lifeboat_io::Stop;
use lifeboat_model::sync::{LetterChoice, SyncAsk};

use super::{drain, shop::Shop};

#[test]
fn sync_11_and_22_bad_rows_are_set_aside_and_the_others_arrive() {
    let shop = Shop::attached();
    shop.cloud("ALTER TABLE mirror.orders ADD CONSTRAINT small CHECK (cents < 1000000)");
    shop.write(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
         INSERT INTO orders (customer, cents, created_at) SELECT 1, CASE i % 100 WHEN 7 THEN 2000000 ELSE i END, '' FROM n;
         INSERT INTO customers VALUES (81, 'after them', '');",
    );
    let mut mirror = shop.mirror();
    let report = drain(&mut mirror);
    assert_eq!((report.set_aside, report.drained), (3, true), "{report:?}");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.orders"), "337");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.customers WHERE id = 81"), "1");
    let (_, letters) = mirror.queue(10).unwrap();
    assert!(letters.iter().all(|letter| letter.class == "content" && letter.error.contains("small")), "{letters:?}");
    let status = mirror.status().unwrap();
    assert_eq!((status.queue.total_failed, status.queue.failed_ever, status.queue.queue_size), (3, 3, 0));
    // One is mended in the file, one in the cloud.
    shop.write("UPDATE orders SET cents = 1 WHERE id = (SELECT min(id) FROM orders WHERE cents = 2000000);");
    drain(&mut mirror);
    assert_eq!(mirror.status().unwrap().queue.total_failed, 2);
    shop.cloud("ALTER TABLE mirror.orders DROP CONSTRAINT small");
    shop.ask(SyncAsk::Letters { choice: LetterChoice::Retry, ids: vec![] });
    drain(&mut mirror);
    let status = mirror.status().unwrap();
    assert_eq!((status.queue.total_failed, status.queue.failed_ever), (0, 3));
    shop.is_equal(&mut mirror);
}

#[test]
fn sync_23_a_policy_is_named_and_counted_apart() {
    let mut shop = Shop::attached();
    shop.cloud(
        "CREATE ROLE till LOGIN; GRANT USAGE ON SCHEMA mirror, lifeboat TO till;
         GRANT ALL ON ALL TABLES IN SCHEMA mirror, lifeboat TO till;
         CREATE POLICY w ON lifeboat.watermark TO till USING (true) WITH CHECK (true);
         CREATE POLICY d ON lifeboat.deleted TO till USING (true) WITH CHECK (true);
         CREATE POLICY c ON mirror.customers TO till USING (true) WITH CHECK (name <> 'forbidden');",
    );
    shop.link(|link| link.cloud = lifeboat_testkit::databases::url("till", "shop"));
    shop.write("INSERT INTO customers VALUES (91, 'forbidden', ''), (92, 'allowed', '');");
    let mut mirror = shop.mirror();
    let report = drain(&mut mirror);
    assert_eq!((report.set_aside, report.upserts), (1, 1), "{report:?}");
    let (_, letters) = mirror.queue(10).unwrap();
    assert!(letters[0].class == "policy" && letters[0].hint.contains("pg_policies"), "{letters:?}");
    assert_eq!(mirror.status().unwrap().queue.rls_violations, 1);
}

#[test]
fn a_value_that_does_not_fit_is_set_aside_before_it_is_sent() {
    let shop = Shop::attached();
    shop.write("INSERT INTO orders (customer, cents, created_at) VALUES ('not a number', 5, ''), (1, 5, 'fits');");
    let mut mirror = shop.mirror();
    assert_eq!(drain(&mut mirror).set_aside, 1);
    let (_, letters) = mirror.queue(10).unwrap();
    assert!(letters[0].error.contains("customer is bigint"), "{letters:?}");
    // A row that is not there is not called equal.
    let compared = mirror.compare(&[], &lifeboat_engine::Unwatched, &Stop::default()).unwrap();
    assert!(!compared.is_equal(), "{compared:?}");
}

#[test]
fn a_wiped_table_is_held_until_somebody_agrees() {
    let shop = Shop::attached();
    shop.write(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO orders (customer, cents, created_at) SELECT 1, i, '' FROM n;",
    );
    let mut mirror = shop.mirror();
    drain(&mut mirror);
    shop.write("DELETE FROM orders; INSERT INTO customers VALUES (95, 'goes on', '');");
    let report = drain(&mut mirror);
    assert!(report.held > 1_000 && report.drained, "{report:?}");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.customers WHERE id = 95"), "1");
    let held = mirror.status().unwrap().held_deletes["orders"];
    assert_eq!(held, report.held);
    let there: u64 = shop.cloud("SELECT count(*) FROM mirror.orders").parse().unwrap();
    assert_eq!(there, held);
    shop.ask(SyncAsk::ConfirmDeletes { tables: vec![] });
    drain(&mut mirror);
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.orders"), "0");
    assert!(mirror.status().unwrap().held_deletes.is_empty());
}

/// EMRG-11: an index that lacks a row is seen by `integrity_check` only; a reference without its row is told.
#[test]
fn emrg_11_a_damaged_file_is_not_copied_over_the_cloud() {
    let shop = Shop::attached();
    shop.ask(SyncAsk::Disable { why: String::new() });
    shop.write(
        "CREATE INDEX by_name ON customers (name);
         CREATE TEMP TABLE kept AS SELECT * FROM sqlite_schema WHERE name = 'by_name';
         PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'by_name'; PRAGMA writable_schema = RESET;
         INSERT INTO customers VALUES (95, 'in no index', '');
         PRAGMA writable_schema = ON; INSERT INTO sqlite_schema SELECT * FROM kept; PRAGMA writable_schema = RESET;",
    );
    let again = SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec![] };
    let said = format!("{:?}", shop.world.run(&shop.request(again.clone())).unwrap().state);
    assert!(said.contains("is not known to be sound") && said.contains("missing from index by_name"), "{said}");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.customers WHERE id = 95"), "0");
    shop.write("REINDEX; INSERT INTO orders (customer, cents, created_at) VALUES (999, 1, '');");
    let done = shop.ask(again);
    let told = done.output(&"check-local".into()).unwrap()["doubts"][0].as_str().unwrap().to_owned();
    assert!(told.contains("refers to a missing row of customers"), "{told}");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.customers WHERE id = 95"), "1");
}

#[test]
fn emrg_11_a_file_that_is_suddenly_empty_is_not_copied_over_the_cloud() {
    let shop = Shop::attached();
    shop.ask(SyncAsk::Disable { why: String::new() });
    shop.write("DELETE FROM orders;");
    let request = shop.request(SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec![] });
    let done = shop.world.run(&request).unwrap();
    let said = format!("{:?}", done.state);
    assert!(said.contains("orders is empty in the file"), "{said}");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.orders"), "40");
    shop.ask(SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec!["orders".into()] });
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.orders"), "0");
}

/// A user-made cloud with foreign keys: a row whose parent comes later is set aside, and tried again by itself.
#[test]
fn a_row_is_tried_again_once_what_it_refers_to_has_come() {
    let shop = Shop::attached();
    let mut mirror = shop.mirror();
    drain(&mut mirror);
    shop.cloud("ALTER TABLE mirror.orders ADD FOREIGN KEY (customer) REFERENCES mirror.customers (id)");
    drop(mirror);
    let mut mirror = shop.mirror();
    shop.write("INSERT INTO orders (customer, cents, created_at) VALUES (77, 1, ''), (1, 2, '');");
    let report = drain(&mut mirror);
    assert_eq!((report.set_aside, report.upserts), (1, 1), "{report:?}");
    let (_, letters) = mirror.queue(10).unwrap();
    assert!(letters[0].class == "parent" && letters[0].hint.contains("by itself"), "{letters:?}");
    shop.write("INSERT INTO customers VALUES (77, 'late', '');");
    let report = drain(&mut mirror);
    assert!(report.drained && report.upserts == 2, "{report:?}");
    assert_eq!(mirror.status().unwrap().queue.total_failed, 0);
    shop.is_equal(&mut mirror);
    // Deletes go the other way round: children first.
    shop.write("DELETE FROM customers WHERE id = 77; DELETE FROM orders WHERE customer = 77;");
    assert_eq!(drain(&mut mirror).set_aside, 0);
    shop.is_equal(&mut mirror);
}

/// SYNC-12: what waits says how often it was tried, and what the cloud said.
#[test]
fn sync_12_tries_in_vain_are_counted() {
    let shop = Shop::attached();
    let mut mirror = shop.mirror();
    drain(&mut mirror);
    shop.write("INSERT INTO customers VALUES (81, 'waits', '');");
    shop.world.server().crash();
    for _ in 0..3 {
        mirror.try_now();
        mirror.drain(&Stop::default()).unwrap_err();
    }
    shop.write("INSERT INTO customers VALUES (82, 'later', '');");
    let (entries, _) = mirror.queue(10).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.attempts).collect::<Vec<_>>(), [3, 0]);
    assert!(entries[0].last_error.is_some());
    shop.world.server().restart();
    mirror.try_now();
    assert!(drain(&mut mirror).drained);
}

/// RBD-14: ties and missing times, too; what goes is kept, and the key is unique from then on.
#[test]
fn rbd_14_rows_that_are_there_twice_are_made_one() {
    let mut shop = Shop::alone();
    shop.cloud(
        "CREATE SCHEMA shop; CREATE TABLE shop.customers (id bigint, name text, created_at text);
         INSERT INTO shop.customers VALUES (1, 'old', '2026'), (1, 'customer 1', '2027'), (2, 'a', NULL), (2, 'b', NULL), (3, 'c', '1'), (3, 'd', '1'), (3, 'e', NULL);",
    );
    shop.link(|link| {
        link.schema = "shop".into();
        link.makes_tables = false;
        link.tables = vec!["customers".into()];
    });
    let refused = shop.world.run(&shop.request(SyncAsk::Attach)).unwrap();
    assert!(
        format!("{:?}", refused.state).contains("no primary key or unique constraint over id"),
        "{:?}",
        refused.state
    );
    let done = shop.ask(SyncAsk::Repair { tables: vec![] });
    let output = done.output(&lifeboat_model::StepId("dedupe".into())).unwrap();
    assert_eq!(output["removed"]["customers"], 4, "{output}");
    assert_eq!(shop.cloud("SELECT count(*) FROM lifeboat.deleted WHERE \"table\" = 'customers'"), "4");
    assert_eq!(
        shop.cloud("SELECT \"row\"->>'name' FROM lifeboat.deleted WHERE \"row\"->>'id' = '1'"),
        "old",
        "the newest stays"
    );
    assert_eq!(shop.cloud("SELECT count(*), count(DISTINCT id) FROM shop.customers"), "3|3");
    shop.ask(SyncAsk::Attach);
    shop.is_equal(&mut shop.mirror());
}
