//! What is noted of an app's changes: whatever it writes, whoever delivers from the outbox has what the file has in the end. The
//! app is another process: the system's `sqlite3`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use lifeboat_io::database::sqlite::{Identity, Outbox};
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

const SHOP: &str = "PRAGMA journal_mode = wal;
    CREATE TABLE orders (id INTEGER PRIMARY KEY, email TEXT UNIQUE, n INTEGER NOT NULL);
    CREATE TABLE bills (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT, n INTEGER NOT NULL);
    CREATE TABLE old (id INTEGER PRIMARY KEY DESC, email TEXT, n INTEGER NOT NULL);
    CREATE TABLE pairs (id INTEGER, email TEXT, n INTEGER NOT NULL, PRIMARY KEY (id)) WITHOUT ROWID;
    INSERT INTO orders VALUES (1, 'a', 1), (5, 'b', 1), (9, 'c', 1);
    INSERT INTO bills SELECT * FROM orders; INSERT INTO old SELECT * FROM orders; INSERT INTO pairs SELECT * FROM orders;";

const TABLES: [&str; 4] = ["orders", "bills", "old", "pairs"];

/// The app, at work as long as it lives.
struct App {
    child: Child,
    into: ChildStdin,
    out: BufReader<ChildStdout>,
}

impl App {
    fn at(file: &Path) -> App {
        let mut child = Command::new("sqlite3")
            .args(["-cmd", ".timeout 10000"])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (into, out) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        App { child, into, out }
    }

    /// Has it written when this returns; a statement that a constraint refuses has done nothing.
    fn write(&mut self, statement: &str) {
        // Each on a line of its own: the shell leaves out what stands behind a statement that failed.
        writeln!(self.into, "{};\n.print written", statement.replace("; ", ";\n")).unwrap();
        let mut line = String::new();
        while line.trim() != "written" {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "the app has ended at {statement}");
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file that is mirrored, its app, and what somebody who delivers has made of the entries.
struct Shop {
    _folder: TempDir,
    file: PathBuf,
    app: App,
    cloud: BTreeMap<(String, String), String>,
    /// Up to here everything is delivered.
    after: i64,
}

impl Shop {
    fn new() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.db");
        let mut app = App::at(&file);
        app.write(SHOP);
        let identity = Identity { database: "d".into(), token: "t".into() };
        Outbox::open(&file).unwrap().attach(&[], &identity).unwrap();
        let mut shop = Shop { _folder: folder, file, app, cloud: BTreeMap::new(), after: 0 };
        shop.cloud = shop.rows();
        shop
    }

    fn outbox(&self) -> Outbox {
        Outbox::open(&self.file).unwrap()
    }

    /// What the file holds.
    fn rows(&self) -> BTreeMap<(String, String), String> {
        let outbox = self.outbox();
        let shapes = outbox.shapes().unwrap();
        let mut rows = BTreeMap::new();
        for table in &shapes.tables {
            for row in outbox.page(table, None, 100_000).unwrap() {
                rows.insert((table.name.clone(), format!("{:?}", [&row[table.key[0]]])), format!("{row:?}"));
            }
        }
        rows
    }

    /// Delivers at most so many entries, and takes them out of the outbox unless it dies before.
    fn deliver(&mut self, entries: u32, dies: bool) -> u64 {
        let outbox = self.outbox();
        let batch = outbox.batch(&outbox.shapes().unwrap(), self.after, entries, 1 << 20).unwrap();
        for (table, changes) in batch.tables {
            for change in changes {
                let key = (table.clone(), format!("{:?}", change.key.iter().collect::<Vec<_>>()));
                match change.row {
                    Some(row) => self.cloud.insert(key, format!("{row:?}")),
                    None => self.cloud.remove(&key),
                };
            }
        }
        self.after = batch.upto;
        if !dies {
            outbox.prune(batch.upto).unwrap();
        }
        batch.changes
    }

    fn deliver_all(&mut self) {
        assert!(self.outbox().note_new_rows(u64::MAX).unwrap());
        while self.deliver(1_000, false) > 0 {}
    }
}

/// What an app may do to numbered rows; `{t}` is the table, `{n}` and `{m}` are numbers.
const WRITES: [&str; 16] = [
    "INSERT INTO {t} (email, n) VALUES ('e{m}', {n})",
    "INSERT INTO {t} (id, email, n) VALUES ({n}, 'e{m}', 1)",
    "INSERT INTO {t} (id, email, n) SELECT max(id) + {n}, 'f{m}', 2 FROM {t}",
    "INSERT OR REPLACE INTO {t} (id, email, n) VALUES ({n}, 'e{m}', 3)",
    "INSERT OR REPLACE INTO {t} (email, n) VALUES ('e{m}', 4)",
    "INSERT OR IGNORE INTO {t} (id, email, n) VALUES ({n}, 'e{m}', 5)",
    "INSERT INTO {t} (id, email, n) VALUES ({n}, 'g{m}', 6) ON CONFLICT (id) DO UPDATE SET n = n + 1",
    "UPDATE {t} SET n = n + 1 WHERE id <= {n}",
    "UPDATE {t} SET n = n + 1 WHERE id = (SELECT max(id) FROM {t})",
    "UPDATE OR REPLACE {t} SET id = {n} WHERE id = (SELECT max(id) FROM {t})",
    "UPDATE OR IGNORE {t} SET id = id + {n} WHERE id = (SELECT min(id) FROM {t})",
    "UPDATE OR REPLACE {t} SET email = 'e{m}' WHERE id = {n}",
    "DELETE FROM {t} WHERE id = (SELECT max(id) FROM {t})",
    "DELETE FROM {t} WHERE id = {n}",
    "DELETE FROM {t} WHERE n > {m}",
    "BEGIN; INSERT INTO {t} (email, n) VALUES ('h{m}', {n}); UPDATE {t} SET n = 9 WHERE id = {m}; ROLLBACK",
];

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize, u8, u8),
    Note(u8),
    Deliver(u8, bool),
    Renew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..WRITES.len(), 0..TABLES.len(), 0_u8..30, 0_u8..6).prop_map(|(w, t, n, m)| Step::Write(w, t, n, m)),
        3 => (1_u8..5).prop_map(Step::Note),
        3 => (1_u8..6, any::<bool>()).prop_map(|(entries, dies)| Step::Deliver(entries, dies)),
        1 => Just(Step::Renew),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Numbers that are used again, keys that change, rows that replace others, entries that are delivered late or twice.
    #[test]
    fn whatever_an_app_writes_arrives(steps in proptest::collection::vec(step(), 1..60)) {
        let mut shop = Shop::new();
        for step in &steps {
            match step {
                Step::Write(what, table, n, m) => {
                    let write = WRITES[*what].replace("{t}", TABLES[*table]);
                    shop.app.write(&write.replace("{n}", &n.to_string()).replace("{m}", &m.to_string()));
                }
                Step::Note(rows) => drop(shop.outbox().note_new_rows(u64::from(*rows)).unwrap()),
                Step::Deliver(entries, dies) => drop(shop.deliver(u32::from(*entries), *dies)),
                Step::Renew => drop(shop.outbox().attach(&[], &Identity { database: String::new(), token: String::new() }).unwrap()),
            }
        }
        let waiting = shop.outbox().waiting().unwrap();
        let (cloud, rows) = (shop.cloud.clone(), shop.rows());
        prop_assert!(waiting.changes() > 0 || cloud == rows, "something differs, and nothing waits");
        shop.deliver_all();
        prop_assert_eq!(&shop.cloud, &rows);
    }
}

#[test]
fn new_rows_cost_the_app_no_entry_and_are_noted_for_it() {
    let mut shop = Shop::new();
    shop.app
        .write("INSERT INTO orders (email, n) VALUES ('x', 1), ('y', 2); UPDATE orders SET n = 3 WHERE email = 'y'");
    shop.app.write("INSERT INTO old (email, n, id) VALUES ('x', 1, 20)");
    let read = |file: &Path| -> i64 {
        let db = Connection::open(file).unwrap();
        db.query_row("SELECT count(*) FROM _lifeboat_outbox", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(read(&shop.file), 1, "of the table whose rows SQLite does not number by its key");
    let waiting = shop.outbox().waiting().unwrap();
    assert_eq!((waiting.changes(), waiting.tables["orders"].insert, waiting.newest), (3, 2, 1), "all of it waits");
    let outbox = shop.outbox();
    let version = outbox.schema_version().unwrap();
    let swept = outbox.sweep((version, &outbox.shapes().unwrap()), 0, 10, 1 << 20, &mut |_| 1).unwrap();
    assert!(swept.newest > swept.upto, "what is delivered now is not all there is: {swept:?}");
    assert!(!outbox.note_new_rows(1).unwrap(), "one is left");
    assert!(outbox.note_new_rows(1).unwrap());
    assert_eq!(outbox.waiting().unwrap(), lifeboat_io::database::sqlite::Waiting { newest: 3, ..waiting });
    drop(outbox);
    shop.app.write("UPDATE orders SET n = 4 WHERE email = 'y'; DELETE FROM orders WHERE email = 'x'");
    assert_eq!(read(&shop.file), 5, "what is noted once is the app's to note again");
}

/// An entry tells of a number, and leads to the row that has it now, noted or not: what becomes of that one has to be told.
#[test]
fn a_new_row_that_got_there_by_an_older_entry_is_taken_back() {
    let mut shop = Shop::new();
    shop.app.write("INSERT INTO orders VALUES (30, 'x', 1); UPDATE orders SET id = 31 WHERE id = 30");
    shop.app.write("INSERT INTO orders VALUES (30, 'y', 2)");
    assert_eq!(shop.deliver(10, false), 1, "of the key that changed");
    let there = ("orders".to_owned(), "[Integer(30)]".to_owned());
    assert!(shop.cloud.contains_key(&there), "it leads to the new row");
    shop.app.write("DELETE FROM orders WHERE id = 30");
    shop.deliver_all();
    assert_eq!(shop.cloud, shop.rows());
    assert!(!shop.cloud.contains_key(&there));
}

/// Many new rows are noted in pieces, each a transaction of its own: an app that writes meanwhile waits for one of them at most.
#[test]
fn many_new_rows_are_noted_in_pieces() {
    let mut shop = Shop::new();
    shop.app.write(
        "INSERT INTO orders (n) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT i FROM n",
    );
    shop.app.write("PRAGMA wal_checkpoint(TRUNCATE)");
    assert!(shop.outbox().note_new_rows(u64::MAX).unwrap());
    let wal = std::fs::read(shop.file.with_extension("db-wal")).unwrap();
    assert_eq!(commits(&wal), 30, "of 2,000 rows each");
    shop.deliver_all();
    assert!(shop.cloud == shop.rows(), "what was noted is what came");
}

/// The transactions of a WAL: frames that say how large the database is after them.
fn commits(wal: &[u8]) -> usize {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let page = u32::from_be_bytes(wal[8..12].try_into().unwrap()) as usize;
    wal[HEADER..].chunks_exact(FRAME_HEADER + page).filter(|frame| frame[4..8] != [0; 4]).count()
}

/// A file that an older version has attached: its entries stay, and nothing has to be compared.
#[test]
fn a_file_of_the_layout_before_goes_on_with_ours() {
    let mut shop = Shop::new();
    let db = Connection::open(&shop.file).unwrap();
    db.execute_batch("DROP TABLE _lifeboat_tail; UPDATE _lifeboat_meta SET v = '1' WHERE k = 'layout'").unwrap();
    for (trigger, when, row) in [("i", "INSERT", "NEW"), ("u", "UPDATE", "NEW")] {
        for (number, table) in ["bills", "old", "orders", "pairs"].iter().enumerate() {
            db.execute_batch(&format!(
                "DROP TRIGGER \"_lifeboat_{table}_{trigger}\";
                 CREATE TRIGGER \"_lifeboat_{table}_{trigger}\" AFTER {when} ON \"{table}\" BEGIN
                     INSERT INTO _lifeboat_outbox(t, o, k1) VALUES ({}, 0, {row}.\"id\"); END",
                number + 1
            ))
            .unwrap();
        }
    }
    drop(db);
    shop.app.write("INSERT INTO orders (email, n) VALUES ('x', 1), ('y', 2)");
    let nobody = Identity { database: String::new(), token: String::new() };
    let done = shop.outbox().attach(&[], &nobody).unwrap();
    assert!(done.renewed.is_empty() && !done.statements.is_empty(), "{done:?}");
    assert_eq!(shop.outbox().foreign_layout().unwrap(), None);
    shop.app.write("INSERT INTO orders (email, n) VALUES ('z', 3); INSERT INTO bills (n) VALUES (4)");
    assert_eq!(shop.outbox().waiting().unwrap().changes(), 4);
    shop.deliver_all();
    assert_eq!(shop.cloud, shop.rows());
    assert!(shop.outbox().plan_attach(&[], &nobody).unwrap().statements.is_empty());

    // One that is to come is left alone.
    Connection::open(&shop.file)
        .unwrap()
        .execute_batch("UPDATE _lifeboat_meta SET v = '3' WHERE k = 'layout'")
        .unwrap();
    shop.app.write("INSERT INTO orders (email, n) VALUES ('w', 3); DROP TRIGGER _lifeboat_orders_d");
    assert!(shop.outbox().plan_attach(&[], &nobody).unwrap().statements.is_empty());
    assert!(shop.outbox().note_new_rows(u64::MAX).unwrap());
    assert_eq!(shop.outbox().waiting().unwrap().newest, 4, "nothing is noted in its name");
}

/// What the app does to its tables, or to ours, is found and mended, and told where something may have been missed.
#[test]
fn marks_follow_the_tables() {
    let mut shop = Shop::new();
    let nobody = Identity { database: String::new(), token: String::new() };
    shop.app.write("INSERT INTO orders (email, n) VALUES ('x', 1); DELETE FROM _lifeboat_tail");
    shop.app.write("INSERT INTO orders (email, n) VALUES ('y', 1)");
    assert_eq!(shop.outbox().waiting().unwrap().changes(), 1, "without a mark, everything is noted");
    let done = shop.outbox().attach(&[], &nobody).unwrap();
    assert_eq!(done.renewed, ["bills", "orders"], "x is known to nobody");
    shop.cloud = shop.rows();
    shop.deliver_all();

    // Made anew with a key of another kind: numbers mean nothing any more.
    shop.app.write(
        "INSERT INTO orders (email, n) VALUES ('z', 1);
         CREATE TABLE new (id TEXT PRIMARY KEY, email TEXT, n INTEGER); INSERT INTO new SELECT 'k' || id, email, n FROM orders;
         DROP TABLE orders; ALTER TABLE new RENAME TO orders",
    );
    assert!(shop.outbox().note_new_rows(u64::MAX).unwrap(), "there is no such number any more, and no error");
    let done = shop.outbox().attach(&[], &nobody).unwrap();
    assert!(done.renewed.contains(&"orders".to_owned()), "{done:?}");
    shop.cloud = shop.rows();
    shop.app.write("INSERT INTO orders VALUES ('k99', 'q', 1)");
    assert_eq!(shop.outbox().waiting().unwrap().changes(), 1);

    // A key with another name.
    shop.app.write("INSERT INTO bills (n) VALUES (7); ALTER TABLE bills RENAME COLUMN id TO number");
    shop.outbox().attach(&[], &nobody).unwrap();
    shop.app.write("INSERT INTO bills (n) VALUES (8)");
    shop.deliver_all();
    assert_eq!(shop.cloud, shop.rows());

    // Only some tables from now on.
    shop.outbox().attach(&["bills".to_owned()], &nobody).unwrap();
    shop.app.write("INSERT INTO pairs VALUES (77, 'x', 1); INSERT INTO orders VALUES ('k100', 'r', 1)");
    assert_eq!(shop.outbox().waiting().unwrap().changes(), 0);
    let mut left = Connection::open(&shop.file).unwrap();
    let marks: i64 = left.query_row("SELECT count(*) FROM _lifeboat_tail", [], |row| row.get(0)).unwrap();
    assert_eq!(marks, 1);
    drop(left.transaction().unwrap());
    drop(left);
    shop.outbox().detach().unwrap();
    let db = Connection::open(&shop.file).unwrap();
    let ours = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%lifeboat%'";
    assert_eq!(db.query_row(ours, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

/// Looking works while others write for long, and where nothing may be written.
#[test]
fn who_only_looks_waits_for_nobody() {
    let mut shop = Shop::new();
    shop.app.write(
        "INSERT INTO orders (email, n) VALUES ('x', 1); BEGIN IMMEDIATE; INSERT INTO orders (email, n) VALUES ('y', 1)",
    );
    shop.outbox().note_new_rows_soon();
    let waiting = shop.outbox().waiting().unwrap();
    assert_eq!((waiting.changes(), waiting.newest), (1, 0), "it waits, noted or not");
    shop.app.write("COMMIT");
    shop.outbox().note_new_rows_soon();
    assert_eq!(shop.outbox().waiting().unwrap().newest, 2);
}
