//! Reading a database by its pages finds what SQLite finds in it, of every kind of database; what it cannot vouch for it
//! leaves to SQLite.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at real files and start real programs")]

mod helpers;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use helpers::{Shell, WRITER_SCHEMA, Writer, capture_now, inspect_now, names, rows_of_consistent_state, sql, with};
use lifeboat_io::{
    Stop, SystemClock,
    database::sqlite::{Looked, Pages, check_copy, inspect},
};
use lifeboat_model::{Tri, manifest::SqliteFacts};
use rusqlite::Connection;
use tempfile::tempdir;

/// All kinds of values, in all kinds of tables.
const VALUES: &str = "
    CREATE TABLE plain(id INTEGER PRIMARY KEY, whole INT, real REAL, text TEXT, blob BLOB, any, created_at TEXT);
    CREATE TABLE keyless(a, b DOUBLE PRECISION, updated_at);
    CREATE TABLE descending(id INTEGER PRIMARY KEY DESC, v);
    CREATE TABLE \"od\"\"d\"(\"rowid\" TEXT, \"x y\" INTEGER UNIQUE, PRIMARY KEY(\"rowid\"));
    CREATE TABLE \"names taken\"(rowid, _rowid_, oid);
    CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, v FLOAT);
    CREATE TABLE strictly(id INTEGER PRIMARY KEY, r REAL, i INT, a ANY, t TEXT) STRICT;
    CREATE TABLE without(k TEXT, n INT, v REAL, PRIMARY KEY(n, k)) WITHOUT ROWID;
    CREATE TABLE computed(a REAL, b AS (a + 1), c REAL AS (a * 2) STORED, d);
    CREATE TABLE empty(a);
    CREATE VIRTUAL TABLE words USING fts5(body);
    CREATE INDEX plain_text ON plain(text DESC, whole); CREATE INDEX plain_some ON plain(whole) WHERE whole > 100;
    CREATE INDEX plain_sum ON plain(whole + 1); CREATE UNIQUE INDEX plain_blob ON plain(blob, id);
    CREATE INDEX without_v ON without(v);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) INSERT INTO plain SELECT i * 3 - 1000,
        CASE i % 9 WHEN 0 THEN 0 WHEN 1 THEN 1 WHEN 2 THEN -i WHEN 3 THEN i * 1000 WHEN 4 THEN -i * 100000 WHEN 5 THEN i << 33
                   WHEN 6 THEN -(i << 50) WHEN 7 THEN NULL ELSE 9223372036854775807 - i END,
        CASE i % 4 WHEN 0 THEN i WHEN 1 THEN i / 7.0 WHEN 2 THEN -1e300 ELSE 'no number' END,
        CASE i % 5 WHEN 0 THEN '' WHEN 1 THEN 'größer ' || i ELSE printf('%.*c', i % 300, 'x') END,
        randomblob(i % 40), CASE i % 6 WHEN 0 THEN i WHEN 1 THEN i * 0.5 WHEN 2 THEN 't' || i WHEN 3 THEN x'00ff' END,
        CASE i % 3 WHEN 0 THEN '2026-01-' || i WHEN 1 THEN i ELSE NULL END FROM n;
    INSERT INTO keyless SELECT any, id, CASE id % 2 WHEN 0 THEN whole ELSE real END FROM plain;
    INSERT INTO descending SELECT id, text FROM plain; INSERT INTO \"od\"\"d\" SELECT 'k' || id, id FROM plain;
    INSERT INTO \"names taken\" SELECT id, whole, text FROM plain; INSERT INTO counted(v) SELECT id FROM plain;
    INSERT INTO strictly SELECT id, id, whole, id / 3.0, text FROM plain;
    INSERT INTO without SELECT text || id, id, id FROM plain; INSERT INTO computed(a, d) SELECT id, text FROM plain;
    INSERT INTO words SELECT 'word' || (id % 50) || ' ' || text FROM plain;
    INSERT INTO plain(text, blob) VALUES('long', zeroblob(300000)), (printf('%.*c', 70000, 'y'), randomblob(70000)),
        (printf('%.*c', 9000, 'z'), x''), ('medium', randomblob(5000));
    INSERT INTO without VALUES(printf('%.*c', 20000, 'k'), 7, 8);
    INSERT INTO plain(real) VALUES(-0.0), (0.0), (9e999), (-9e999), (9007199254740993);
    ANALYZE;
";

/// What years do to a database: columns come and go, rows and tables too.
const YEARS: &str = "
    ALTER TABLE keyless ADD COLUMN later TEXT DEFAULT 'none yet'; ALTER TABLE keyless ADD COLUMN number REAL DEFAULT 5;
    ALTER TABLE plain ADD COLUMN flag INT DEFAULT 1; ALTER TABLE plain ADD COLUMN blank; ALTER TABLE plain DROP COLUMN any;
    ALTER TABLE \"od\"\"d\" ADD COLUMN \"de\"\"fault\" DEFAULT x'abcd'; ALTER TABLE strictly ADD COLUMN late REAL DEFAULT 3;
    INSERT INTO keyless SELECT id, whole, real, NULL, id FROM plain; UPDATE plain SET flag = 2, blank = id WHERE id % 5 = 0;
    DELETE FROM plain WHERE id % 4 = 1; DELETE FROM descending WHERE id > 0; DROP TABLE counted; DELETE FROM words WHERE rowid % 3 = 0;
    UPDATE plain SET text = text || text WHERE id % 7 = 0; CREATE TABLE again(id INTEGER PRIMARY KEY, v TEXT);
    INSERT INTO again SELECT id, text FROM plain ORDER BY random(); PRAGMA user_version = 77; PRAGMA application_id = 99;
";

fn make(file: &Path, pragmas: &str, content: &str) {
    let _ = fs::remove_file(file);
    sql(file, &format!("PRAGMA synchronous = OFF;\n{pragmas}{content}"));
}

fn look(file: &Path) -> Looked {
    let pages = Pages::at_rest(file, jiff::Timestamp::UNIX_EPOCH, &Stop::default()).unwrap();
    pages.look(None, &Stop::default(), &|_| ()).unwrap()
}

fn facts(looked: Looked) -> SqliteFacts {
    match looked {
        Looked::Sound(facts, _) => *facts,
        Looked::AskSqlite(why) => panic!("{why}"),
    }
}

fn without_hash(facts: SqliteFacts) -> SqliteFacts {
    SqliteFacts { sha256: String::new(), quick_digest: String::new(), ..facts }
}

#[test]
fn every_kind_of_database_is_read_as_sqlite_reads_it() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("any.db");
    let kinds = [
        "PRAGMA page_size = 512;",
        "PRAGMA page_size = 1024; PRAGMA auto_vacuum = FULL;",
        "PRAGMA page_size = 4096;",
        "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;",
        "PRAGMA page_size = 8192; PRAGMA encoding = 'UTF-16le';",
        "PRAGMA page_size = 65536;",
        "PRAGMA page_size = 2048; PRAGMA encoding = 'UTF-16be'; PRAGMA auto_vacuum = FULL;",
        ".filectrl reserve_bytes 24\nPRAGMA page_size = 1024; VACUUM;",
    ];
    for kind in kinds {
        for content in ["", VALUES, &format!("{VALUES}{YEARS}"), &format!("{VALUES}{YEARS} VACUUM;")] {
            make(&file, kind, &format!("CREATE TABLE first(a);\n{content}"));
            assert_eq!(facts(look(&file)), without_hash(inspect_now(&file)), "{kind} {}", content.len());
        }
    }
}

/// The bytes of the pages, in a file.
fn write_out(pages: &Pages, file: &Path) {
    let (mut reader, mut bytes) = (pages.reader(), Vec::new());
    let mut piece = vec![0; 1 << 20];
    loop {
        match reader.read(&mut piece).unwrap() {
            0 => break,
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
    assert_eq!(bytes.len() as u64, pages.bytes());
    fs::write(file, bytes).unwrap();
}

fn live(file: &Path) -> Option<Pages> {
    Pages::live(file, &SystemClock::default(), &Stop::default()).unwrap()
}

#[test]
fn pages_of_a_live_database_are_those_of_one_instant_wherever_they_lie() {
    let folder = tempdir().unwrap();
    let (file, copy, out) = (folder.path().join("app.db"), folder.path().join("copy.db"), folder.path().join("out.db"));
    let mut app = Shell::open(&file);
    app.run("PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;");
    let steps = [
        "CREATE TABLE first(a);",
        VALUES,
        "PRAGMA wal_checkpoint(PASSIVE);",
        YEARS,
        "PRAGMA wal_checkpoint(TRUNCATE);",
        "DELETE FROM plain WHERE id % 2 = 0; UPDATE again SET v = 'new' WHERE id < 0;",
        "DROP TABLE again; PRAGMA wal_checkpoint(FULL);",
        "INSERT INTO keyless SELECT a, b, 1, 2, 3 FROM keyless LIMIT 20;",
        "BEGIN; INSERT INTO first VALUES(1), (2); DELETE FROM keyless;",
    ];
    for step in steps {
        app.run(step);
        capture_now(&file, &copy).unwrap();
        let pages = live(&file).unwrap();
        // What comes after the instant is not in them, and a checkpoint takes nothing from them.
        if !step.starts_with("BEGIN") {
            sql(&file, "INSERT INTO first SELECT 5; PRAGMA wal_checkpoint(PASSIVE); DELETE FROM first;");
        }
        let looked = facts(pages.look(None, &Stop::default(), &|_| ()).unwrap());
        write_out(&pages, &out);
        assert_eq!(looked.tables, inspect_now(&copy).tables, "{step}");
        assert_eq!(looked, without_hash(inspect_now(&out)), "{step}");
        assert!(check_copy(&out, &Stop::default()).iter().all(|check| check.outcome == Tri::Pass), "{step}");
    }
    app.crash();
}

#[test]
fn beside_a_busy_writer_every_snapshot_is_consistent() {
    let folder = tempdir().unwrap();
    let (file, out) = (folder.path().join("app.db"), folder.path().join("out.db"));
    sql(&file, &format!("PRAGMA journal_mode = WAL; {WRITER_SCHEMA}"));
    let writer = Writer::start(&file);
    let (mut last, mut taken) = (0, 0);
    while taken < 15 {
        let Some(pages) = live(&file) else { panic!("the pages of a busy database can be had") };
        let looked = facts(pages.look(None, &Stop::default(), &|_| ()).unwrap());
        write_out(&pages, &out);
        drop(pages);
        let _ = fs::remove_file(with(&out, "-wal"));
        let rows = rows_of_consistent_state(&out).unwrap();
        assert_eq!(looked.tables["log"].rows, rows);
        assert!(rows >= last, "the state does not go back");
        (last, taken) = (rows, taken + 1);
    }
    writer.finish();
    assert!(last > 0);
}

#[test]
fn nothing_stays_beside_an_idle_database_and_others_are_left_to_be_copied() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("app.db");
    make(&file, "PRAGMA journal_mode = WAL;", VALUES);
    assert_eq!(names(folder.path()), ["app.db"]);
    let pages = live(&file).unwrap();
    assert_eq!(facts(pages.look(None, &Stop::default(), &|_| ()).unwrap()), without_hash(inspect_now(&file)));
    drop(pages);
    assert_eq!(names(folder.path()), ["app.db"]);
    sql(&file, "PRAGMA journal_mode = DELETE;");
    assert!(live(&file).is_none());
}

/// Numbers that look random and are the same every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

#[test]
fn whatever_statements_made_it_it_is_read_as_sqlite_reads_it() {
    let folder = tempdir().unwrap();
    for seed in 1..=12_u64 {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let file: PathBuf = folder.path().join(format!("{seed}.db"));
        let db = Connection::open(&file).unwrap();
        let page_size = 512 << chance.below(4);
        let vacuum = chance.below(3);
        db.execute_batch(&format!(
            "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {vacuum}; PRAGMA synchronous = OFF;
             CREATE TABLE t(id INTEGER PRIMARY KEY, a, b REAL); CREATE INDEX t_a ON t(a); CREATE TABLE u(a TEXT UNIQUE, b);"
        ))
        .unwrap();
        for _step in 0..60 {
            let (key, count, bytes) =
                (chance.below(5000) as i64 - 2500, chance.below(90), chance.below(3) * chance.below(4000));
            let made = match chance.below(6) {
                0 | 1 => format!(
                    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
                     INSERT OR REPLACE INTO t SELECT {key} + i * 3, zeroblob({bytes} * (i % 2)), i FROM n"
                ),
                2 => format!("DELETE FROM t WHERE id BETWEEN {key} AND {key} + {count} * 5"),
                3 => format!("UPDATE t SET a = 'text ' || id, b = b / 2 WHERE id % 11 = {}", count % 11),
                4 => format!("INSERT OR IGNORE INTO u SELECT 'u' || id || a, b FROM t WHERE id > {key} LIMIT {count}"),
                _ => format!("DELETE FROM u WHERE rowid % 3 = {}", count % 3),
            };
            db.execute_batch(&made).unwrap();
        }
        drop(db);
        assert_eq!(facts(look(&file)), without_hash(inspect_now(&file)), "seed {seed}");
    }
}

#[test]
fn whatever_is_broken_is_read_as_sqlite_reads_it_or_left_to_sqlite() {
    let folder = tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole.db"), folder.path().join("broken.db"));
    make(
        &whole,
        "PRAGMA page_size = 512; PRAGMA auto_vacuum = FULL;",
        "
        CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b REAL); CREATE INDEX t_a ON t(a); CREATE TABLE u(a UNIQUE, b);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150)
        INSERT INTO t SELECT i * 2, printf('%.*c', i, 'a'), i FROM n; INSERT INTO u SELECT b, a FROM t;
        INSERT INTO t VALUES(1000, printf('%.*c', 4000, 'b'), 1); DELETE FROM t WHERE id % 6 = 0;",
    );
    let bytes = fs::read(&whole).unwrap();
    let (mut left, mut same) = (0, 0);
    for seed in 1..=800_u64 {
        let mut chance = Chance(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut changed = bytes.clone();
        for _flip in 0..=chance.below(3) {
            // Where structure is rather than content, every other time.
            let at = match chance.below(2) {
                0 => chance.below(bytes.len() as u64) as usize,
                _ => chance.below(bytes.len() as u64 / 512) as usize * 512 + chance.below(40) as usize,
            };
            changed[at] ^= 1 << chance.below(8);
        }
        fs::write(&broken, changed).unwrap();
        let Ok(pages) = Pages::at_rest(&broken, jiff::Timestamp::UNIX_EPOCH, &Stop::default()) else {
            left += 1;
            continue;
        };
        match pages.look(None, &Stop::default(), &|_| ()) {
            Ok(Looked::Sound(facts, _)) => {
                let theirs = inspect(&broken, &Stop::default(), &|_, _| ()).unwrap();
                assert_eq!(*facts, without_hash(theirs), "seed {seed}");
                same += 1;
            }
            Ok(Looked::AskSqlite(_)) | Err(_) => left += 1,
        }
    }
    assert!(left > 200 && same > 50, "{left} left to SQLite, {same} the same");
}
