//! What has been written since a backup, told by its manifest and row by row; and that looking leaves nothing behind.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::path::Path;

use lifeboat_io::{
    Stop, SystemClock,
    database::sqlite::{self, CaptureOptions, TableChange},
};
use lifeboat_model::SqliteFacts;
use rusqlite::Connection;

const SHOP: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT, created_at TEXT, updated_at TEXT);
    CREATE TABLE names (name TEXT COLLATE NOCASE PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE plain (a, b);
    CREATE TABLE codes (code TEXT PRIMARY KEY, stamp INTEGER, created INTEGER);
    CREATE TABLE \"quote\"\"d 🦀\" (\"rowid\" TEXT, x);
    INSERT INTO orders SELECT value, 'x', '2026-01-01', '2026-01-01' FROM generate_series(1, 10);
    INSERT INTO names VALUES ('A', 1), ('b', 2);
    INSERT INTO plain VALUES (1, 2), (1, 2), (NULL, x'00');
    INSERT INTO codes VALUES ('k1', 5, 1700000000), ('k2', 6, 1700000001);
    INSERT INTO \"quote\"\"d 🦀\" VALUES ('r', 1);";

fn shop(path: &Path, wal: bool) -> Connection {
    let db = Connection::open(path).unwrap();
    if wal {
        db.pragma_update(None, "journal_mode", "wal").unwrap();
    }
    // The library inside has no series.
    let rows: Vec<String> = (1..=10).map(|id| format!("({id}, 'x', '2026-01-01', '2026-01-01')")).collect();
    let made = SHOP.replace(
        "SELECT value, 'x', '2026-01-01', '2026-01-01' FROM generate_series(1, 10)",
        &format!("VALUES {}", rows.join(", ")),
    );
    db.execute_batch(&made).unwrap();
    db
}

fn captured(live: &Path, copy: &Path) -> SqliteFacts {
    let clock = SystemClock::default();
    let taken = sqlite::capture(live, copy, CaptureOptions::default(), &clock, &Stop::default(), &|_, _| ()).unwrap();
    sqlite::inspect(&taken.path, &Stop::default(), &|_, _| ()).unwrap()
}

fn change(live: u64, copy: u64, created: u64, changed: u64, deleted: u64) -> TableChange {
    TableChange { rows_live: Some(live), rows_copy: Some(copy), created, changed, deleted }
}

#[test]
fn rows_that_came_changed_or_went_are_counted_by_key() {
    for wal in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (live, copy) = (folder.path().join("shop ?#.db"), folder.path().join("copy.db"));
        let db = shop(&live, wal);
        captured(&live, &copy);
        let compare = || sqlite::compare_live(&live, &copy, &Stop::default()).unwrap();
        assert!(compare().is_empty(), "nothing was written");
        db.execute_batch(
            "DELETE FROM orders WHERE id IN (2, 3); UPDATE orders SET what = 'y' WHERE id = 5;
             INSERT INTO orders VALUES (11, 'x', '2026-01-02', NULL), (12, 'x', '2026-01-02', NULL), (2, 'z', '', '');
             UPDATE names SET name = 'a' WHERE name = 'A'; INSERT INTO names VALUES ('c', NULL);
             UPDATE plain SET b = 3 WHERE rowid = 1; DELETE FROM codes WHERE code = 'k2';
             INSERT INTO codes VALUES ('k3', 6, 1700000009);
             UPDATE \"quote\"\"d 🦀\" SET x = 2;
             CREATE TABLE fresh (a); INSERT INTO fresh VALUES (1), (2);",
        )
        .unwrap();
        let found = compare();
        let of = |table: &str| found.get(table).cloned().unwrap_or_default();
        assert_eq!(of("orders"), change(11, 10, 2, 2, 1));
        assert_eq!(of("names"), change(3, 2, 1, 1, 0), "A and a are the same key, and not the same value");
        assert_eq!(of("plain"), change(3, 3, 0, 1, 0));
        assert_eq!(of("codes"), change(2, 2, 1, 0, 1));
        assert_eq!(of("quote\"d 🦀"), change(1, 1, 0, 1, 0));
        assert_eq!(of("fresh"), TableChange { rows_live: Some(2), created: 2, ..TableChange::default() });
        db.execute_batch("ALTER TABLE plain ADD COLUMN c DEFAULT 7; ALTER TABLE orders DROP COLUMN what").unwrap();
        let found = compare();
        assert_eq!(found["plain"].changed, 3, "what stands in a new column leaves with it");
        assert_eq!(found["orders"], change(11, 10, 2, 1, 1), "what a column held comes back with it");
    }
}

#[test]
fn a_first_look_counts_by_times_and_its_digest_is_the_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let (live, copy) = (folder.path().join("shop.db"), folder.path().join("copy.db"));
    let db = shop(&live, true);
    let facts = captured(&live, &copy);
    let look = || sqlite::look_at_tables(&live, &facts, &Stop::default()).unwrap();
    for (table, found) in look() {
        assert_eq!(found.digest.as_deref(), Some(facts.tables[&table].digest.as_str()), "{table}");
        assert_eq!(found.rows, facts.tables[&table].rows);
        let digest = sqlite::table_digest(&live, &table, &Stop::default()).unwrap();
        assert_eq!(found.digest, Some(digest));
    }
    db.execute_batch(
        "INSERT INTO orders VALUES (11, 'x', '2026-01-02', '2026-01-02'); DELETE FROM orders WHERE id = 1;
         UPDATE orders SET updated_at = '2026-01-03 10:00' WHERE id IN (2, 3);
         INSERT INTO codes VALUES ('k3', 6, 1700000009), ('k4', 6, 1699999999);",
    )
    .unwrap();
    let found = look();
    let orders = &found["orders"];
    assert_eq!((orders.rows, orders.created, orders.changed), (10, Some(1), Some(2)));
    assert_eq!(orders.newest["updated_at"], "2026-01-03 10:00");
    assert_ne!(orders.digest.as_deref(), Some(facts.tables["orders"].digest.as_str()));
    assert_eq!((found["codes"].created, found["codes"].changed), (Some(1), None));
    assert_eq!((found["plain"].created, found["plain"].changed), (None, None));
}

/// The folder's files, by name.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn looking_at_an_idle_database_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let (live, copy) = (folder.path().join("shop.db"), folder.path().join("copy.db"));
    drop(shop(&live, true));
    let facts = captured(&live, &copy);
    let before = (names(folder.path()), std::fs::read(&live).unwrap());
    assert_eq!(before.0, ["copy.db", "shop.db"]);
    let link = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&live, link.path().join("link.db")).unwrap();
    for path in [live.clone(), link.path().join("link.db")] {
        sqlite::peek(&path).unwrap();
        sqlite::count_rows(&path).unwrap();
        sqlite::look_at_tables(&path, &facts, &Stop::default()).unwrap();
        sqlite::compare_live(&path, &copy, &Stop::default()).unwrap();
        assert_eq!(sqlite::quick_check(&path, std::time::Duration::from_secs(60)).sound, lifeboat_model::Tri::Pass);
    }
    assert_eq!((names(folder.path()), std::fs::read(&live).unwrap()), before);
}

/// What an app has there stays: its wal is its data.
#[test]
fn what_lies_beside_a_database_in_use_stays() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("shop.db");
    let db = shop(&live, true);
    let before = names(folder.path());
    assert_eq!(before, ["shop.db", "shop.db-shm", "shop.db-wal"]);
    sqlite::peek(&live).unwrap();
    assert_eq!(names(folder.path()), before);
    db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(db);
    // As a killed app leaves it: with a wal, and here without the shm.
    std::fs::remove_file(folder.path().join("shop.db-shm")).unwrap();
    assert_eq!(sqlite::count_rows(&live).unwrap()["orders"], 10);
    assert_eq!(names(folder.path()), ["shop.db", "shop.db-wal"], "the wal holds all there is");
    assert_eq!(sqlite::count_rows(&live).unwrap()["orders"], 10);
}

#[test]
fn a_damaged_page_is_found_by_a_quick_check() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("shop.db");
    let db = shop(&live, false);
    db.execute_batch("CREATE INDEX by_what ON orders (what)").unwrap();
    let page: i64 =
        db.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'orders'", [], |row| row.get(0)).unwrap();
    drop(db);
    let mut bytes = std::fs::read(&live).unwrap();
    let start = usize::try_from((page - 1) * 4096).unwrap();
    bytes[start + 8..start + 200].fill(0xff);
    std::fs::write(&live, bytes).unwrap();
    sqlite::peek(&live).unwrap();
    let found = sqlite::quick_check(&live, std::time::Duration::from_secs(60));
    assert_eq!(found.sound, lifeboat_model::Tri::Fail, "{found:?}");
    assert!(!found.what.is_empty());
}

/// A database that was set aside has its `-wal` beside it; looking leaves both as they are.
#[test]
fn a_kept_database_is_compared_with_what_lies_in_its_wal() {
    let folder = tempfile::tempdir().unwrap();
    let (live, kept) = (folder.path().join("live.db"), folder.path().join("kept.db"));
    drop(shop(&live, true));
    let db = shop(&kept, true);
    db.execute_batch("UPDATE orders SET what = 'y' WHERE id = 5; DELETE FROM orders WHERE id = 1").unwrap();
    let limit = std::time::Duration::from_secs(60);
    let found = sqlite::compare_kept(&live, &kept, limit).unwrap().unwrap();
    assert_eq!(found["orders"], change(10, 9, 1, 1, 0));
    assert_eq!(found.len(), 1);
}

/// Comparing 300,000 rows takes longer than no time at all; then nothing is said.
#[test]
fn a_comparison_that_takes_too_long_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (live, kept) = (folder.path().join("live.db"), folder.path().join("kept.db"));
    for path in [&live, &kept] {
        Connection::open(path)
            .unwrap()
            .execute_batch(
                "CREATE TABLE t (a INTEGER PRIMARY KEY, b);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
                 INSERT INTO t SELECT i, i FROM n;",
            )
            .unwrap();
    }
    assert_eq!(sqlite::compare_kept(&live, &kept, std::time::Duration::ZERO).unwrap(), None);
    assert_eq!(sqlite::compare_kept(&live, &kept, std::time::Duration::from_secs(600)).unwrap(), Some([].into()));
}
