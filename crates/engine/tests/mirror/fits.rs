//! What the cloud's own tables demand: parents that come with their children, columns that are missing or too narrow, how
//! many rows go at once.

use lifeboat_engine::Watch;
use lifeboat_io::Stop;
use lifeboat_model::sync::{SyncAction, SyncAsk};
use std::sync::Mutex;

use super::{drain, shop::Shop};

/// SYNC-26: whatever the order in the queue and however it is cut into batches, no foreign key of the cloud is violated.
#[test]
fn sync_26_parents_come_with_their_children() {
    let mut shop = Shop::attached();
    shop.link(|link| (link.batch_rows, link.batch_rows_max) = (1, 1));
    shop.write(
        "CREATE TABLE shelves (id INTEGER PRIMARY KEY, above INTEGER REFERENCES shelves);
         CREATE TABLE boxes (shelf INTEGER REFERENCES shelves, n TEXT, PRIMARY KEY (shelf, n)) WITHOUT ROWID;
         CREATE TABLE things (id INTEGER PRIMARY KEY, shelf INTEGER, n TEXT, FOREIGN KEY (shelf, n) REFERENCES boxes);",
    );
    drain(&mut shop.mirror());
    shop.cloud(
        "ALTER TABLE mirror.orders ADD FOREIGN KEY (customer) REFERENCES mirror.customers (id);
         ALTER TABLE mirror.shelves ADD FOREIGN KEY (above) REFERENCES mirror.shelves (id);
         ALTER TABLE mirror.boxes ADD FOREIGN KEY (shelf) REFERENCES mirror.shelves (id);
         ALTER TABLE mirror.things ADD FOREIGN KEY (n, shelf) REFERENCES mirror.boxes (n, shelf);",
    );
    let mut mirror = shop.mirror();
    // Children first, three generations, one row in a batch.
    shop.write(
        "INSERT INTO things VALUES (1, 7, 'a'), (2, 7, 'b'), (3, NULL, NULL);
         INSERT INTO boxes VALUES (7, 'a'), (7, 'b');
         INSERT INTO shelves VALUES (7, 8); INSERT INTO shelves VALUES (8, 9); INSERT INTO shelves VALUES (9, NULL);
         INSERT INTO orders (customer, cents, created_at) VALUES (77, 1, '');
         INSERT INTO customers VALUES (77, 'late', '');",
    );
    let report = drain(&mut mirror);
    assert!(report.drained && report.set_aside == 0 && report.batches > 5, "{report:?}");
    let status = mirror.status().unwrap();
    assert_eq!((status.queue.total_failed, status.queue.failed_ever), (0, 0));
    shop.is_equal(&mut mirror);
    // Deletes go the other way round.
    shop.write("DELETE FROM things; DELETE FROM boxes; DELETE FROM shelves WHERE id = 7; DELETE FROM shelves;");
    assert_eq!(drain(&mut mirror).set_aside, 0);
    // A parent that the cloud has lost comes back with the next child.
    shop.cloud("DELETE FROM mirror.orders WHERE customer = 77; DELETE FROM mirror.customers WHERE id = 77");
    shop.write("UPDATE orders SET cents = 2 WHERE customer = 77;");
    assert_eq!(drain(&mut mirror).set_aside, 0);
    shop.is_equal(&mut mirror);
    // What is not in the file either cannot come: the row waits for it, and the others flow.
    shop.write("INSERT INTO orders (customer, cents, created_at) VALUES (99, 3, ''), (1, 4, '');");
    let report = drain(&mut mirror);
    assert_eq!((report.set_aside, report.drained), (1, true), "{report:?}");
}

/// SYNC-33: rows with a column that the cloud does not know are held, the others flow, and they follow by themselves.
#[test]
fn sync_33_what_the_cloud_does_not_know_is_held_and_the_others_flow() {
    let mut shop = Shop::attached();
    shop.link(|link| link.makes_tables = false);
    let mut mirror = shop.mirror();
    drain(&mut mirror);
    shop.write(
        "ALTER TABLE customers ADD COLUMN mood TEXT;
         INSERT INTO customers VALUES (81, 'new', '', 'good'), (82, 'newer', '', 'bad');
         INSERT INTO orders (customer, cents, created_at) VALUES (1, 5, '');",
    );
    let report = drain(&mut mirror);
    assert_eq!((report.set_aside, report.upserts, report.drained), (2, 1, true), "{report:?}");
    let (_, letters) = mirror.queue(10).unwrap();
    assert!(letters.iter().all(|letter| letter.class == "schema" && letter.error.contains("mood")), "{letters:?}");
    assert_eq!(serde_json::to_value(&letters[0].key).unwrap(), serde_json::json!({ "id": 81 }));
    assert_eq!(drain(&mut mirror).set_aside, 0, "they are not tried in vain again and again");
    shop.cloud("ALTER TABLE mirror.customers ADD COLUMN mood text");
    let report = drain(&mut mirror);
    assert!(report.drained && report.upserts == 2, "{report:?}");
    assert_eq!(mirror.status().unwrap().queue.total_failed, 0);
    shop.is_equal(&mut mirror);
    // What a later version has noted in its own way is not read by this one.
    shop.write("UPDATE _lifeboat_meta SET v = '9' WHERE k = 'layout'; INSERT INTO customers VALUES (83, 'x', '', '');");
    let refused = shop.mirror().drain(&Stop::default()).unwrap_err();
    assert!(refused.to_string().contains("layout 9"), "{refused}");
    assert_eq!(shop.mirror().status().unwrap().queue.queue_size, 1, "it goes on waiting");
}

/// A restore brings back a file that an older version has attached; whoever re-syncs it is the first to open it.
#[test]
fn a_file_of_the_layout_before_can_be_re_synced_at_once() {
    let shop = Shop::attached();
    shop.write("DROP TABLE _lifeboat_tail; UPDATE _lifeboat_meta SET v = '1' WHERE k = 'layout';");
    shop.ask(SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec![] });
    assert_eq!(shop.read("SELECT v FROM _lifeboat_meta WHERE k = 'layout'"), "2");
    shop.write("INSERT INTO customers VALUES (84, 'x', '');");
    drain(&mut shop.mirror());
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.customers WHERE id = 84"), "1");
    shop.is_equal(&mut shop.mirror());
}

/// A column that is too narrow is told, and made wider when somebody asks for it.
#[test]
fn a_column_that_is_too_narrow_is_made_wider_when_asked() {
    let shop = Shop::attached();
    shop.write(
        "CREATE TABLE goods (id INTEGER PRIMARY KEY, name VARCHAR(5), kept BOOLEAN, n INT, price DECIMAL(6,2));",
    );
    drain(&mut shop.mirror());
    shop.cloud(
        "ALTER TABLE mirror.goods ALTER name TYPE varchar(5), ALTER n TYPE smallint, ALTER price TYPE numeric(6,2)",
    );
    shop.write(
        "INSERT INTO goods VALUES (1, 'short', 1, 1, 1.25), (2, 'much longer', 0, 2, 1), (3, 'x', 7, 3, 1),
             (4, 'x', 1, 70000, 1), (5, 'x', 1, 5, 123456.789), (6, 'x', 1, 'many', 1);",
    );
    let mut mirror = shop.mirror();
    let report = drain(&mut mirror);
    assert_eq!(report.set_aside, 5, "{report:?}");
    let (_, letters) = mirror.queue(10).unwrap();
    assert!(letters.iter().all(|letter| letter.hint.contains("lifeboat sync widen")), "{letters:?}");
    let plan = shop.world.engine().plan(&shop.request(SyncAsk::Widen { tables: vec![] })).unwrap();
    let told = plan.notes.join("\n");
    for wanted in [
        "goods.name becomes text; it is character varying(5), and 1 rows",
        "goods.kept becomes bigint; it is boolean, and 1 rows",
        "goods.n becomes text; it is smallint, and 2 rows",
        "goods.price becomes numeric; it is numeric(6,2), and 1 rows",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.goods"), "1", "a plan changes nothing");
    shop.ask(SyncAsk::Widen { tables: vec![] });
    let mut mirror = shop.mirror();
    assert_eq!(drain(&mut mirror).set_aside, 0);
    assert_eq!(shop.cloud("SELECT kept FROM mirror.goods ORDER BY id"), "1\n0\n7\n1\n1\n1");
    shop.is_equal(&mut mirror);
    let plan = shop.world.engine().plan(&shop.request(SyncAsk::Widen { tables: vec!["goods".into()] })).unwrap();
    assert_eq!(plan.steps().count(), 0, "{plan:?}");
    let unknown = shop.world.engine().plan(&shop.request(SyncAsk::Widen { tables: vec!["nothing".into()] }));
    assert!(unknown.unwrap_err().to_string().contains("nothing is not mirrored"));
}

/// Counts rows of each statement that inserts into a table of the cloud.
const COUNTED: &str = "CREATE TABLE seen (id serial, rows bigint);
    CREATE FUNCTION count_rows() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        'BEGIN INSERT INTO public.seen (rows) SELECT count(*) FROM new_rows; RETURN NULL; END';
    CREATE TRIGGER counted AFTER INSERT ON mirror.customers REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION count_rows()";

fn seen(shop: &Shop) -> Vec<u64> {
    let counts = shop.cloud("SELECT rows FROM seen ORDER BY id");
    counts.lines().filter_map(|line| line.parse().ok()).filter(|rows| *rows > 0).collect()
}

fn customers(count: u32) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (SELECT 1001 UNION ALL SELECT i + 1 FROM n WHERE i < {})
         INSERT INTO customers SELECT i, 'c' || i, '' FROM n;",
        1000 + count
    )
}

/// SYNC-19: what `SYNC_BATCH_SIZE` says is never more than that, and without it batches grow with what waits.
#[test]
fn sync_19_a_batch_is_as_large_as_is_said() {
    for (batch, max, largest) in [(10, 10, 10), (10, 20_000, 640)] {
        let mut shop = Shop::attached();
        shop.link(|link| (link.batch_rows, link.batch_rows_max) = (batch, max));
        shop.cloud(COUNTED);
        shop.write(&customers(1_500));
        let report = drain(&mut shop.mirror());
        let seen = seen(&shop);
        assert_eq!(seen.iter().sum::<u64>(), 1_500);
        assert_eq!((*seen.iter().max().unwrap(), report.changes), (largest, 1_500), "{seen:?}");
        assert_eq!(report.batches, seen.len() as u64);
    }
}

/// Who watches a re-sync.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Watch for Lines {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// SYNC-30: 120 rows go in 50, 50 and 20, each of them is told, and the last line is the whole.
#[test]
fn sync_30_a_re_sync_goes_in_the_document_s_steps() {
    let mut shop = Shop::alone();
    shop.link(|link| link.resync_rows = Some(50));
    shop.write("DELETE FROM orders; DELETE FROM customers;");
    shop.write(&customers(120));
    shop.ask(SyncAsk::Attach);
    shop.cloud("TRUNCATE mirror.customers");
    shop.cloud(COUNTED);
    let plan = shop
        .world
        .engine()
        .plan(&shop.request(SyncAsk::Resync { tables: vec!["customers".into()], keep_orphans: false, emptied: vec![] }))
        .unwrap();
    assert!(plan.steps().any(|step| {
        matches!(&step.action, lifeboat_model::Action::Sync { action: SyncAction::Resync { .. }, .. })
    }));
    let lines = Lines::default();
    shop.world.engine().run(&plan, "test", &lines, &Stop::default()).unwrap();
    assert_eq!(seen(&shop), [50, 50, 20]);
    let told = lines.0.lock().unwrap().clone();
    let of_table: Vec<&String> = told.iter().filter(|line| line.ends_with(" customers")).collect();
    assert_eq!(of_table, ["50/120 customers", "100/120 customers", "120/120 customers", "120/120 customers"]);
}

/// EMRG-13: a batch that fails ends the re-sync with the name of its table, and the status says how far it came.
#[test]
fn emrg_13_a_batch_that_fails_ends_the_re_sync_and_names_its_table() {
    let mut shop = Shop::alone();
    shop.link(|link| link.resync_rows = Some(50));
    shop.write("DELETE FROM orders; DELETE FROM customers;");
    shop.write(&customers(170));
    shop.ask(SyncAsk::Attach);
    shop.cloud(
        "TRUNCATE mirror.customers;
         CREATE FUNCTION third() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF (SELECT count(*) FROM mirror.customers) >= 100 THEN RAISE EXCEPTION ''not the third''; END IF; RETURN NULL; END';
         CREATE TRIGGER third BEFORE INSERT ON mirror.customers FOR EACH STATEMENT EXECUTE FUNCTION third()",
    );
    let again = SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec![] };
    let failed = format!("{:?}", shop.world.run(&shop.request(again.clone())).unwrap().state);
    assert!(failed.contains("customers cannot be re-synced") && failed.contains("not the third"), "{failed}");
    assert_eq!(shop.cloud("SELECT count(*) FROM mirror.customers"), "100");
    let came = shop.mirror().status().unwrap().resync.unwrap();
    assert!(came.table == "customers" && came.total == 170 && (50..=100).contains(&came.done), "{came:?}");
    shop.cloud("DROP TRIGGER third ON mirror.customers");
    shop.ask(again);
    assert_eq!(shop.mirror().status().unwrap().resync, None, "it is over");
    shop.is_equal(&mut shop.mirror());
}

/// EMRG-18: a new project that has tables is filled; one that lacks them is told which, and nothing is made there.
#[test]
fn emrg_18_a_new_project_is_filled_or_told_what_it_lacks() {
    let mut shop = Shop::attached();
    drain(&mut shop.mirror());
    shop.link(|link| (link.schema, link.makes_tables) = ("project".into(), false));
    shop.cloud("CREATE SCHEMA project");
    let copy = SyncAsk::Resync { tables: vec![], keep_orphans: false, emptied: vec![] };
    let lacks = format!("{:?}", shop.world.run(&shop.request(copy.clone())).unwrap().state);
    for table in ["customers", "orders", "settings", "pairs"] {
        assert!(lacks.contains(table), "{table}: {lacks}");
    }
    assert_eq!(shop.cloud("SELECT count(*) FROM pg_tables WHERE schemaname = 'project'"), "0");
    shop.cloud(
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'mirror' LOOP
             EXECUTE format('CREATE TABLE project.%I (LIKE mirror.%I INCLUDING ALL)', t, t); END LOOP; END $$",
    );
    shop.ask(copy);
    assert_eq!(shop.cloud("SELECT count(*) FROM project.orders"), "40");
    shop.is_equal(&mut shop.mirror());
}
