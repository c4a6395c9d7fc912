//! What is in a copy, whether it is good, whether it takes writes, and whether damage is noticed.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at real files and start real programs")]

mod helpers;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use helpers::{hash, inspect_now, names, sql, with};
use lifeboat_io::{
    Stop,
    database::sqlite::{Damage, SqliteError, ask, check_copy, damage_copy, inspect, try_writes},
};
use lifeboat_model::{
    Check, Tri,
    compare::{TablePolicy, compare_sqlite},
    resource::SqlCheck,
};
use proptest::prelude::*;
use tempfile::tempdir;

fn digest_of(statements: &str) -> String {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.db");
    sql(&file, statements);
    inspect_now(&file).tables["t"].digest.clone()
}

fn bad(checks: &[Check]) -> Vec<&Check> {
    checks.iter().filter(|check| check.outcome != Tri::Pass).collect()
}

/// The same content, written anew by the dump of another program.
fn rebuilt(from: &Path, to: &Path) {
    let dump = Command::new("sqlite3").arg(from).arg(".dump").output().unwrap();
    let mut shell = Command::new("sqlite3").arg("-bail").arg(to).stdin(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(&dump.stdout).unwrap();
    assert!(shell.wait().unwrap().success());
}

#[test]
fn a_digest_tells_storage_classes_and_values_apart() {
    let values = [
        "NULL",
        "1",
        "1.0",
        "'1'",
        "x'31'",
        "''",
        "x''",
        "0",
        "0.0",
        "-0.0",
        "'a'",
        "'A'",
        "'a '",
        "2",
        "-1",
        "9223372036854775807",
        "9.2233720368547758e18",
        "'NULL'",
        "x'00'",
        "zeroblob(2)",
        "zeroblob(100000)",
        "zeroblob(100001)",
        "1e999",
        "-1e999",
    ];
    let digests: BTreeSet<String> =
        values.iter().map(|value| digest_of(&format!("CREATE TABLE t(a); INSERT INTO t VALUES({value});"))).collect();
    // SQLite itself stores -0.0 of a literal as 0.0, or not, depending on its version; either is one of ours.
    assert!(digests.len() >= values.len() - 1, "{} of {} differ", digests.len(), values.len());
}

#[test]
fn a_digest_counts_duplicates_and_keeps_columns_and_rows_apart() {
    let table = |rows: &str| digest_of(&format!("CREATE TABLE t(a, b); INSERT INTO t VALUES {rows};"));
    assert_eq!(table("(1,2),(3,4)"), table("(3,4),(1,2)"));
    let all =
        ["(1,2)", "(1,2),(1,2)", "(1,2),(1,2),(1,2)", "(2,1)", "(12,NULL)", "('a','bc')", "('ab','c')", "(NULL,NULL)"];
    let digests: BTreeSet<String> = all.iter().map(|rows| table(rows)).collect();
    assert_eq!(digests.len(), all.len());
    assert_eq!(digest_of("CREATE TABLE t(a);"), "0".repeat(32));
    // A rowid nobody declared is not content; one that is a column is.
    let plain = "CREATE TABLE t(a); INSERT INTO t(rowid, a) VALUES";
    assert_eq!(digest_of(&format!("{plain} (1, 'x');")), digest_of(&format!("{plain} (9, 'x');")));
    let key = "CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES";
    assert_ne!(digest_of(&format!("{key} (1, 'x');")), digest_of(&format!("{key} (9, 'x');")));
}

#[test]
fn a_digest_is_the_same_in_every_encoding_and_page_size() {
    let table = "CREATE TABLE t(a); INSERT INTO t VALUES('grün'), ('\u{1f600}'), (1.5);";
    let digests: BTreeSet<String> = [
        "",
        "PRAGMA encoding='UTF-16le';",
        "PRAGMA encoding='UTF-16be';",
        "PRAGMA page_size=512;",
        "PRAGMA journal_mode=WAL;",
    ]
    .iter()
    .map(|pragma| digest_of(&format!("{pragma} {table}")))
    .collect();
    assert_eq!(digests.len(), 1);
}

/// A value as SQL, from a small seed; few different ones, so that duplicates happen.
fn value(seed: u8) -> String {
    match seed % 7 {
        0 => "NULL".to_owned(),
        1 => format!("{}", i64::from(seed) - 100),
        2 => format!("{}.25", seed),
        3 => format!("'text {seed}'"),
        4 => format!("x'{seed:02x}00'"),
        5 => format!("'it''s \u{1f600} {seed}'"),
        _ => format!("{}", i64::from(seed) << 40),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_digest_does_not_depend_on_order_or_layout_and_notices_any_other_row(
        rows in prop::collection::vec((any::<u8>(), any::<u8>()), 1..60),
        turn in any::<usize>(),
        changed in any::<usize>(),
    ) {
        let insert = |rows: &[(u8, u8)]| {
            let rows: Vec<String> = rows.iter().map(|(a, b)| format!("({}, {})", value(*a), value(*b))).collect();
            format!("INSERT INTO t VALUES {};", rows.join(", "))
        };
        let base = digest_of(&format!("CREATE TABLE t(a, b); {}", insert(&rows)));
        let mut turned = rows.clone();
        turned.rotate_left(turn % rows.len());
        turned.reverse();
        // Other page size, freed pages in between, an index.
        let layout = format!(
            "PRAGMA page_size=1024; CREATE TABLE junk(x); INSERT INTO junk VALUES(zeroblob(9000)); CREATE TABLE t(a, b);
             CREATE INDEX i ON t(b); {} DROP TABLE junk;", insert(&turned));
        prop_assert_eq!(&base, &digest_of(&layout));
        let mut other = rows.clone();
        let at = changed % rows.len();
        other[at].0 = other[at].0.wrapping_add(1);
        prop_assert_ne!(&base, &digest_of(&format!("CREATE TABLE t(a, b); {}", insert(&other))));
        other.remove(at);
        let fewer = if other.is_empty() { String::new() } else { insert(&other) };
        prop_assert_ne!(&base, &digest_of(&format!("CREATE TABLE t(a, b); {fewer}")));
    }
}

/// A database with most of what SQLite has.
const RICH: &str = "PRAGMA user_version=12; PRAGMA application_id=99; PRAGMA foreign_keys=ON;
    CREATE TABLE people(id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT NOT NULL UNIQUE CHECK(email LIKE '%@%'),
                        role TEXT NOT NULL DEFAULT 'user' CHECK(role IN ('user','admin')), created_at TEXT NOT NULL);
    CREATE TABLE orders(id TEXT PRIMARY KEY, person INTEGER NOT NULL REFERENCES people(id), amount REAL NOT NULL CHECK(amount > 0),
                        updatedAt INTEGER, total AS (amount * 2), stored AS (amount * 3) STORED);
    CREATE TABLE settings(k TEXT PRIMARY KEY, v ANY) STRICT, WITHOUT ROWID;
    CREATE TABLE one(id INTEGER PRIMARY KEY CHECK(id = 1), v INTEGER);
    CREATE TABLE audit(at TEXT, what TEXT);
    CREATE TABLE sealed(a INTEGER UNIQUE);
    CREATE TABLE empty_strict(a INTEGER NOT NULL, b BLOB NOT NULL, c TEXT NOT NULL CHECK(length(c) = 26)) STRICT;
    CREATE TABLE \"odd \"\"name\"\"\u{1f600}\"(\"col\"\"umn\", PRIMARY KEY(\"col\"\"umn\"));
    CREATE UNIQUE INDEX orders_once ON orders(person, updatedAt) WHERE amount > 5;
    CREATE INDEX orders_lower ON orders(lower(id));
    CREATE VIEW rich AS SELECT * FROM orders WHERE amount > 100;
    CREATE TRIGGER people_log AFTER INSERT ON people BEGIN INSERT INTO audit VALUES('now', new.email); END;
    CREATE VIRTUAL TABLE notes USING fts5(body); INSERT INTO notes VALUES('a lifeboat'), ('a rope');
    INSERT INTO people(email, role, created_at) VALUES('a@x', 'admin', '2026-01-02'), ('b@x', 'user', '2026-03-04');
    INSERT INTO orders(id, person, amount, updatedAt) VALUES('o1', 1, 9.5, 1700000000), ('o2', 2, 1e3, 1800000000), ('o3', 2, 1, NULL);
    INSERT INTO settings VALUES('theme', 'dark'), ('limit', 5); INSERT INTO one VALUES(1, 7); INSERT INTO sealed VALUES(1), (NULL);
    CREATE TRIGGER sealed_no BEFORE INSERT ON sealed BEGIN SELECT RAISE(ABORT, 'sealed since 2020'); END;
    INSERT INTO \"odd \"\"name\"\"\u{1f600}\" VALUES('x'); ANALYZE;";

#[test]
fn facts_tell_what_is_there_and_agree_with_a_copy_rebuilt_from_a_dump() {
    let folder = tempdir().unwrap();
    let (file, again) = (folder.path().join("a.db"), folder.path().join("b.db"));
    sql(&file, RICH);
    let facts = inspect_now(&file);
    assert_eq!((facts.user_version, facts.application_id, facts.encoding.as_str()), (12, 99, "UTF-8"));
    assert_eq!(
        (facts.page_size, facts.journal_mode.as_str(), facts.pages * 4096),
        (4096, "delete", fs::metadata(&file).unwrap().len())
    );
    assert_eq!(facts.sha256, hash(&file).unwrap());
    assert_eq!((facts.objects["view"], facts.objects["trigger"]), (1, 2));
    assert!(facts.unread.is_empty());
    assert_eq!(facts.tables["people"].newest["created_at"], "2026-03-04");
    assert_eq!(facts.tables["orders"].newest["updatedAt"], "1800000000");
    let tables: Vec<&str> = facts.tables.keys().map(String::as_str).collect();
    let wanted = [
        "audit",
        "empty_strict",
        "notes_config",
        "notes_content",
        "notes_data",
        "notes_docsize",
        "notes_idx",
        "odd \"name\"\u{1f600}",
        "one",
        "orders",
        "people",
        "sealed",
        "settings",
        "sqlite_sequence",
    ];
    assert_eq!(tables, wanted);
    // The shell's dump keeps neither of these numbers.
    rebuilt(&file, &again);
    sql(&again, "PRAGMA user_version=12; PRAGMA application_id=99;");
    let found = inspect_now(&again);
    assert_eq!(bad(&compare_sqlite(&facts, &found, TablePolicy::default())), Vec::<&Check>::new());
    assert_ne!(facts.sha256, found.sha256);
}

#[test]
fn looking_changes_no_byte_and_leaves_nothing_beside() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("odd ?#% \u{1f600}.db");
    sql(&file, &format!("PRAGMA journal_mode=WAL; {RICH}"));
    let before = (hash(&file), names(folder.path()));
    inspect_now(&file);
    assert_eq!(bad(&check_copy(&file, &Stop::default())), Vec::<&Check>::new());
    assert_eq!(bad(&try_writes(&file, &Stop::default())), Vec::<&Check>::new());
    let question = SqlCheck { sql: "SELECT count(*) FROM people".to_owned(), min: Some(2), ..SqlCheck::default() };
    assert_eq!(ask(&file, "people", &question, &Stop::default()).outcome, Tri::Pass);
    assert_eq!((hash(&file), names(folder.path())), before);
}

#[test]
fn a_copy_with_a_wal_beside_it_is_not_judged_without_it() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.db");
    helpers::crashed_with_wal(&file);
    assert!(matches!(inspect(&file, &Stop::default(), &|_, _| ()), Err(SqliteError::NotAtRest { .. })));
    let checks = check_copy(&file, &Stop::default());
    assert!(checks.iter().all(|check| check.name == "file" || check.outcome != Tri::Pass), "{checks:?}");
}

#[test]
fn vfy_16_a_broken_reference_fails_although_integrity_is_ok() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.db");
    sql(
        &file,
        "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id)); INSERT INTO c VALUES(5), (6);",
    );
    let checks = check_copy(&file, &Stop::default());
    let outcome = |name: &str| checks.iter().find(|check| check.name == name).map(|check| check.outcome);
    assert_eq!((outcome("integrity"), outcome("foreign keys")), (Some(Tri::Pass), Some(Tri::Fail)));
    assert_eq!(checks[2].detail, "row 1 of c refers to a missing row of p; row 2 of c refers to a missing row of p");
}

#[test]
fn complaints_are_quoted_and_bounded() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.db");
    sql(&file, "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id), n CHECK(n > 0));
                PRAGMA ignore_check_constraints=ON;
                WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 500) INSERT INTO c SELECT n, -1 FROM r;");
    let checks = check_copy(&file, &Stop::default());
    assert!(checks[1].outcome == Tri::Fail && checks[1].detail.ends_with("and at least 95 more"), "{checks:?}");
    assert!(checks[2].outcome == Tri::Fail && checks[2].detail.ends_with("and at least 95 more"), "{checks:?}");
}

#[test]
fn a_question_passes_fails_or_is_unknown() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.db");
    sql(&file, "CREATE TABLE t(a); INSERT INTO t VALUES(1), (2), (3);");
    let cases: &[(&str, Option<i64>, Option<&str>, Tri)] = &[
        ("SELECT count(*) FROM t", Some(3), None, Tri::Pass),
        ("SELECT count(*) FROM t", Some(4), None, Tri::Fail),
        ("SELECT 'ready'", None, Some("ready"), Tri::Pass),
        ("SELECT 'Ready'", None, Some("ready"), Tri::Fail),
        ("SELECT 2.5", Some(2), None, Tri::Pass),
        ("SELECT NULL", Some(0), None, Tri::Fail),
        ("SELECT count(*) FROM t", None, None, Tri::Unknown),
        ("SELECT a FROM t", Some(1), None, Tri::Unknown),
        ("SELECT a FROM t WHERE 0", Some(1), None, Tri::Unknown),
        ("SELECT a FROM nothing", Some(1), None, Tri::Unknown),
        ("DELETE FROM t RETURNING 1", Some(1), None, Tri::Unknown),
        ("not sql", Some(1), None, Tri::Unknown),
    ];
    let before = hash(&file);
    for (sql, min, equals, wanted) in cases {
        let equals = equals.map(str::to_owned);
        let question = SqlCheck { sql: (*sql).to_owned(), min: *min, equals, ..SqlCheck::default() };
        let check = ask(&file, "question", &question, &Stop::default());
        assert_eq!(check.outcome, *wanted, "{sql}: {check:?}");
    }
    assert_eq!(hash(&file), before);
}

#[test]
fn every_table_of_a_healthy_database_takes_writes_and_says_how() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.db");
    sql(&file, RICH);
    let checks = try_writes(&file, &Stop::default());
    assert_eq!(bad(&checks), Vec::<&Check>::new());
    let detail = |name: &str| checks.iter().find(|check| check.name == name).unwrap().detail.clone();
    assert_eq!(detail("write to people"), "took a copy of a row with new keys");
    assert_eq!(detail("write to settings"), "took a copy of a row with new keys");
    assert_eq!(detail("write to one"), "took a row back over itself (CHECK constraint failed: id = 1)");
    assert!(
        detail("write to sealed").starts_with("took a row back over itself without triggers and CHECKs (sealed since")
    );
    assert!(detail("write to empty_strict").starts_with("took a made-up row without triggers and CHECKs"));
    assert_eq!(detail("write to audit"), "took a copy of a row with new keys");
    assert_eq!(detail("sequence of people"), "it stands at 2, the greatest row is 2");
}

#[test]
fn a_sequence_that_is_behind_or_at_its_end_fails() {
    let table = "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a); INSERT INTO t(a) VALUES(1), (2), (3);";
    let cases = [
        ("UPDATE sqlite_sequence SET seq = 1;", "sequence of t", "it stands at 1, but there is a row 3"),
        ("DELETE FROM sqlite_sequence;", "sequence of t", "it stands at 0, but there is a row 3"),
        ("UPDATE sqlite_sequence SET seq = 9223372036854775807;", "write to t", "database or disk is full"),
    ];
    for (statement, name, detail) in cases {
        let folder = tempdir().unwrap();
        let file = folder.path().join("a.db");
        sql(&file, &format!("{table} {statement}"));
        let checks = try_writes(&file, &Stop::default());
        assert_eq!(bad(&checks), [&Check::new(name, Tri::Fail, detail)], "{statement}");
    }
}

#[test]
fn an_index_that_lost_its_way_is_found_by_writing_or_by_looking() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.db");
    sql(&file, "CREATE TABLE t(a INTEGER); CREATE UNIQUE INDEX i ON t(a);
                WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 3000) INSERT INTO t SELECT n FROM r;");
    let page: usize = sql(&file, "SELECT rootpage FROM sqlite_schema WHERE name = 'i';")[0].parse().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[(page - 1) * 4096..page * 4096].fill(0);
    fs::write(&file, bytes).unwrap();
    assert_eq!(check_copy(&file, &Stop::default())[1].outcome, Tri::Fail);
    assert_eq!(try_writes(&file, &Stop::default())[0].outcome, Tri::Fail);
}

/// Everything a proof looks at, on one file.
fn all_checks(expected: &lifeboat_model::manifest::SqliteFacts, file: &Path) -> Vec<Check> {
    let mut checks = check_copy(file, &Stop::default());
    match inspect(file, &Stop::default(), &|_, _| ()) {
        Ok(found) => checks.extend(compare_sqlite(expected, &found, TablePolicy::default())),
        Err(error) => checks.push(Check::new("content", Tri::Fail, error.to_string())),
    }
    checks
}

#[test]
fn whatever_is_damaged_on_purpose_is_noticed() {
    let many = "CREATE TABLE big(id INTEGER PRIMARY KEY, v TEXT); WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 4000)
                INSERT INTO big SELECT n, 'value ' || n FROM r;";
    for (name, content) in [
        ("rich", RICH),
        ("big", many),
        ("wal", &format!("PRAGMA journal_mode=WAL; {many}")),
        ("bare", "CREATE TABLE t(a);"),
    ] {
        let folder = tempdir().unwrap();
        let (file, copy) = (folder.path().join("a.db"), folder.path().join("copy.db"));
        sql(&file, content);
        let expected = inspect_now(&file);
        let sound = all_checks(&expected, &file);
        // The bare one is refused for being empty, and for nothing else.
        assert_eq!(bad(&sound).len(), usize::from(name == "bare"), "{name}: {sound:?}");
        let mut kinds = BTreeSet::new();
        for seed in 0..30 {
            fs::copy(&file, &copy).unwrap();
            let damage = damage_copy(&copy, seed).unwrap_or_else(|error| panic!("{name} {seed}: {error}"));
            let checks = all_checks(&expected, &copy);
            let failed = checks.iter().filter(|check| check.outcome == Tri::Fail && check.name != "not empty").count();
            assert!(failed > 0, "{name} {seed}: {damage} went unnoticed: {checks:?}");
            kinds.insert(match damage {
                Damage::PageOverwritten { .. } => "page",
                Damage::RowDeleted { .. } => "row",
                Damage::ValueChanged { .. } => "value",
            });
            assert_eq!(names(folder.path()), ["a.db", "copy.db"], "{name} {seed}");
        }
        assert_eq!(kinds.len(), if name == "bare" { 1 } else { 3 }, "{name}");
    }
}

#[test]
fn what_only_the_app_has_is_worked_around_or_unknown_never_good_by_silence() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.db");
    // As an app would have written it that registers its own function and collation.
    sql(
        &file,
        "CREATE TABLE t(a); INSERT INTO t VALUES(1); CREATE TABLE u(b UNIQUE); INSERT INTO u VALUES('x');
         CREATE TRIGGER t_app BEFORE INSERT ON t BEGIN SELECT app_function(new.a); END;
         PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE u(b COLLATE app_order UNIQUE)' WHERE name = 'u';",
    );
    let facts = inspect_now(&file);
    assert_eq!((facts.tables["t"].rows, facts.tables["u"].rows), (1, 1));
    let writes = try_writes(&file, &Stop::default());
    let without = "took a row back over itself without triggers and CHECKs (no such function: app_function)";
    assert_eq!(writes[0], Check::new("write to t", Tri::Pass, without));
    assert_eq!((writes[1].name.as_str(), writes[1].outcome), ("write to u", Tri::Unknown), "{writes:?}");
    assert_eq!(check_copy(&file, &Stop::default())[1].outcome, Tri::Unknown);
    assert!(!with(&file, ".writes-trial").exists());
}

#[test]
fn stopping_ends_a_long_look() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.db");
    sql(
        &file,
        "CREATE TABLE t(a); WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 200000) INSERT INTO t SELECT n FROM r;",
    );
    let stop = Stop::default();
    let stopped = inspect(&file, &stop, &|_, _| stop.now());
    assert!(matches!(stopped, Err(SqliteError::Stopped(_))), "{stopped:?}");
    assert_eq!(check_copy(&file, &stop)[1].outcome, Tri::Unknown);
    assert!(try_writes(&file, &stop).iter().all(|check| check.outcome == Tri::Unknown));
}
