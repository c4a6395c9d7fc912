//! Much at once: rows go as COPY, and whatever is against that is found out, told, and gone around.

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::sync::SyncAsk;

use super::{drain, shop::Shop};

const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 3999)";

fn customers() -> String {
    format!("{ROWS} INSERT INTO customers SELECT i, 'customer ' || i, 'today' FROM n;")
}

/// Every kind of value, in both forms that COPY has, new, changed and gone in one drain.
#[test]
fn much_arrives_as_it_is() {
    let shop = Shop::attached();
    let mut mirror = shop.mirror();
    drain(&mut mirror);
    shop.write(&format!(
        "CREATE TABLE plain (id INTEGER PRIMARY KEY, t TEXT, r REAL, b BLOB, yes BOOLEAN, v VARCHAR(9));
         CREATE TABLE decimal (id TEXT PRIMARY KEY, price DECIMAL(10,2), d DATETIME, j JSON) WITHOUT ROWID;
         {}
         {ROWS} INSERT INTO pairs SELECT 'p' || (i % 7), i, CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN i / 3.0 ELSE 'x' || i END FROM n;",
        customers()
    ));
    // The worker sees the new tables first: what is written without triggers has to be compared.
    drain(&mut mirror);
    shop.write(&format!(
        "{ROWS} INSERT INTO plain SELECT i, CASE i % 4 WHEN 0 THEN 'a' || char(9) || '\\b''\"' || char(10) || char(13) WHEN 1 THEN '' WHEN 2 THEN 'ä😀\\N' END,
             CASE i % 3 WHEN 0 THEN i / 7.0 WHEN 1 THEN 9e999 ELSE i END, CASE i % 2 WHEN 0 THEN randomblob(i % 50) END, i % 2, 'v' FROM n;
         {ROWS} INSERT INTO decimal SELECT 'k' || i, CASE i % 3 WHEN 0 THEN i / 8.0 WHEN 1 THEN i ELSE '12.50' END, '2026-11-27', '{{\"a\": ' || i || '}}' FROM n;
         UPDATE customers SET name = 'changed' || char(9) || id WHERE id % 5 = 0 AND id > 1000;
         DELETE FROM customers WHERE id BETWEEN 3900 AND 3950;
         UPDATE pairs SET n = n + 100000 WHERE n < 1500;
         DELETE FROM decimal WHERE id = 'k1001';"
    ));
    let report = drain(&mut mirror);
    assert!(report.drained && report.set_aside == 0 && report.upserts > 6_000, "{report:?}");
    assert!(report.batches < 20, "{report:?}");
    shop.is_equal(&mut mirror);
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.plain WHERE t = E'a\\t\\\\b''\"\\n\\r'"), "750");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.plain WHERE t = E'ä😀\\\\N' AND r = 'Infinity'"), "250");
    assert_eq!(
        shop.cloud("SELECT price, d, j FROM mirror.decimal WHERE id = 'k1002'"),
        "125.25|2026-11-27|{\"a\": 1002}"
    );
    assert_eq!(shop.cloud("SELECT consistent FROM lifeboat.watermark"), "t");
    assert_eq!(shop.read("SELECT count(*) FROM _lifeboat_outbox"), "1", "what is over is taken out");
    assert_eq!(drain(&mut mirror).changes, 0);
}

/// What was noted as new may be there already: REPLACE says so, and so does a queue that was put back.
#[test]
fn rows_that_are_there_although_they_are_noted_as_new() {
    let shop = Shop::attached();
    let mut mirror = shop.mirror();
    shop.write(&customers());
    drain(&mut mirror);
    shop.write(&format!("{ROWS} INSERT OR REPLACE INTO customers SELECT i, 'customer ' || i, CASE WHEN i < 1010 THEN 'new' ELSE 'today' END FROM n;"));
    shop.cloud(
        "CREATE TABLE public.writes (n int);
         CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.writes VALUES (1); RETURN NEW; END';
         CREATE TRIGGER tell AFTER INSERT OR UPDATE ON mirror.customers FOR EACH ROW EXECUTE FUNCTION public.tell();",
    );
    let report = drain(&mut mirror);
    assert!(report.drained && report.set_aside == 0, "{report:?}");
    assert_eq!(shop.cloud("SELECT count(*) FROM public.writes"), "10", "what is as it should be is not written again");
    shop.is_equal(&mut mirror);
}

#[test]
fn sync_22_bad_rows_among_many_are_set_aside_and_the_others_arrive() {
    let shop = Shop::attached();
    shop.cloud("ALTER TABLE mirror.orders ADD CONSTRAINT small CHECK (cents < 1000000)");
    shop.write(&format!(
        "{ROWS} INSERT INTO orders (customer, cents, created_at) SELECT CASE i WHEN 2500 THEN 'nobody' ELSE 1 END,
             CASE i % 1000 WHEN 7 THEN 2000000 ELSE i END, '' FROM n;
         {}",
        customers()
    ));
    let mut mirror = shop.mirror();
    let report = drain(&mut mirror);
    assert_eq!((report.set_aside, report.drained), (4, true), "{report:?}");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.orders"), "3036");
    let (_, letters) = mirror.queue(10).unwrap();
    assert_eq!(letters.iter().filter(|letter| letter.error.contains("small")).count(), 3, "{letters:?}");
    assert_eq!(letters.iter().filter(|letter| letter.error.contains("customer is bigint")).count(), 1, "{letters:?}");
    // Mended by many: each letter goes with its row.
    shop.write("UPDATE orders SET cents = 1, customer = 1;");
    let report = drain(&mut mirror);
    assert!(report.drained && mirror.status().unwrap().queue.total_failed == 0, "{report:?}");
    shop.is_equal(&mut mirror);
}

/// A role that row level security applies to may not COPY, and one without the right to temporary tables has no place for rows
/// beside: both deliver.
#[test]
fn where_nobody_may_copy_rows_arrive_all_the_same() {
    let mut shop = Shop::attached();
    shop.cloud(
        "CREATE ROLE till LOGIN; GRANT USAGE ON SCHEMA mirror, lifeboat TO till;
         GRANT ALL ON ALL TABLES IN SCHEMA mirror, lifeboat TO till;
         CREATE POLICY w ON lifeboat.watermark TO till USING (true) WITH CHECK (true);
         CREATE POLICY d ON lifeboat.deleted TO till USING (true) WITH CHECK (true);
         CREATE POLICY c ON mirror.customers TO till USING (true) WITH CHECK (name <> 'customer 2000');",
    );
    shop.link(|link| link.cloud = lifeboat_testkit::databases::url("till", "shop"));
    shop.write(&customers());
    let mut mirror = shop.mirror();
    let report = drain(&mut mirror);
    assert_eq!((report.set_aside, report.drained), (1, true), "{report:?}");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.customers WHERE id >= 1000"), "2999");
    shop.cloud("REVOKE TEMPORARY ON DATABASE shop FROM PUBLIC");
    shop.write("UPDATE customers SET name = name || '!' WHERE id >= 1000;");
    let report = drain(&mut mirror);
    assert!(report.drained, "{report:?}");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.customers WHERE name LIKE '%!'"), "3000");
}

/// Several ranges, keys of several columns and of other orders: what differs is found wherever it is, and mended.
#[test]
fn much_that_differs_is_found_and_mended() {
    let shop = Shop::alone();
    shop.write(
        "CREATE TABLE words (word TEXT COLLATE NOCASE PRIMARY KEY, n INTEGER);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 45000)
         INSERT INTO customers SELECT i + 1000, 'buyer ' || i, 'today' FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 21000)
         INSERT INTO pairs SELECT CASE i % 3 WHEN 0 THEN 'B' WHEN 1 THEN 'a' ELSE 'ä' END, i, i FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 21000)
         INSERT INTO words SELECT CASE i % 2 WHEN 0 THEN 'w' ELSE 'W' END || i, i FROM n;",
    );
    shop.ask(SyncAsk::Attach);
    let mut mirror = shop.mirror();
    shop.is_equal(&mut mirror);
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.words"), "21000");
    shop.cloud(
        "UPDATE mirror.customers SET name = 'other' WHERE id IN (1001, 20999, 21000, 21001, 41000, 46000) OR id BETWEEN 25000 AND 26000;
         DELETE FROM mirror.customers WHERE id IN (1, 22000);
         INSERT INTO mirror.customers VALUES (0, 'only there', ''), (50000, 'only there', '');
         DELETE FROM mirror.pairs WHERE name > 'a'; DELETE FROM mirror.words WHERE word > 'W5' COLLATE \"C\";
         UPDATE mirror.pairs SET v = NULL WHERE n = 4",
    );
    let compared = mirror.compare(&[], &Unwatched, &Stop::default()).unwrap();
    let of = |name: &str| compared.tables.iter().find(|table| table.table == name).unwrap();
    let counts = |name: &str| (of(name).missing, of(name).different, of(name).orphans);
    assert_eq!(counts("customers"), (2, 1_007, 2), "{compared:?}");
    assert_eq!(counts("pairs").1, 1, "{compared:?}");
    drop(mirror);
    shop.ask(SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec![] });
    let mut mirror = shop.mirror();
    shop.is_equal(&mut mirror);
    // A cloud that lost everything, and one that a re-sync had half filled.
    shop.cloud("TRUNCATE mirror.customers; DELETE FROM mirror.orders WHERE id > 20");
    drop(mirror);
    shop.ask(SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec![] });
    let mut mirror = shop.mirror();
    shop.is_equal(&mut mirror);
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.orders"), "40");
}
