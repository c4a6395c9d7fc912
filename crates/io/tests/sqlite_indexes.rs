//! Comparing indexes by walking finds what SQLite's `integrity_check` finds, and complains about nothing else.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at real files and start real programs")]

mod helpers;

use std::{fs, path::Path};

use helpers::{inspect_now, sql};
use lifeboat_io::{
    Stop,
    database::sqlite::{check_copy, examine},
};
use lifeboat_model::{Check, Tri};
use tempfile::tempdir;

/// All kinds of indexes that are walked, over all kinds of values.
const WALKED: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY, a, b TEXT COLLATE NOCASE, c REAL, d BLOB UNIQUE, e TEXT COLLATE RTRIM);
    CREATE INDEX t_a ON t(a); CREATE INDEX t_b_a ON t(b DESC, a); CREATE UNIQUE INDEX t_c ON t(c, id);
    CREATE INDEX t_e ON t(e); CREATE INDEX t_id ON t(id DESC, c);
    CREATE INDEX t_b_binary ON t(b COLLATE BINARY DESC, e COLLATE NOCASE);
    CREATE TABLE \"or\"\"der\"(\"rowid\" TEXT, \"x y\" INTEGER UNIQUE, PRIMARY KEY(\"rowid\"));
    CREATE INDEX \"by\"\"x\" ON \"or\"\"der\"(\"x y\", \"rowid\");
    CREATE TABLE empty(a UNIQUE, b); CREATE INDEX empty_b ON empty(b);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700)
    INSERT INTO t(a, b, c, d, e) SELECT
        CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN i WHEN 2 THEN i + 0.5 WHEN 3 THEN 'text ' || i WHEN 4 THEN zeroblob(i % 50)
                   WHEN 5 THEN 9007199254740993 + i ELSE -i * 1e15 END,
        CASE i % 3 WHEN 0 THEN 'Alpha' ELSE 'alpha ' || (i % 9) END, i * (CASE i % 2 WHEN 0 THEN 1 ELSE 0.1 END),
        randomblob(8), 'x' || substr('     ', 1, i % 5) FROM n;
    INSERT INTO \"or\"\"der\" SELECT 'k' || id, CASE id % 5 WHEN 0 THEN NULL ELSE id END FROM t;
    INSERT INTO t(a) VALUES(9223372036854775807), (-9223372036854775808), (9.3e18), (-9.3e18), (0.0), (-0.0), ('');
";

/// What is left to `integrity_check`, since walking would have to know more than the order of values.
const LEFT_OVER: &str = "
    CREATE TABLE partial(a, b); CREATE INDEX partial_a ON partial(a) WHERE b > 5;
    CREATE TABLE expression(a, b); CREATE INDEX expression_a ON expression(a + b);
    CREATE TABLE without(k TEXT PRIMARY KEY, v) WITHOUT ROWID; CREATE INDEX without_v ON without(v);
    CREATE TABLE computed(a, g AS (a + 1)); CREATE INDEX computed_g ON computed(g);
    CREATE TABLE hidden(rowid, _rowid_, oid); CREATE INDEX hidden_oid ON hidden(oid);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO partial SELECT i, i % 10 FROM n;
    INSERT INTO expression SELECT a, b FROM partial; INSERT INTO without SELECT 'k' || a, b FROM partial;
    INSERT INTO hidden SELECT a, b, a + b FROM partial; INSERT INTO computed(a) SELECT a FROM partial;
";

fn verdict(checks: &[Check], names: &[&str]) -> Tri {
    Tri::worst(checks.iter().filter(|check| names.contains(&check.name.as_str())).map(|check| check.outcome))
}

/// What SQLite says, and what we say, about the whole file.
fn both(file: &Path) -> (Tri, Tri, Vec<Check>) {
    let (theirs, ours) = (check_copy(file, &Stop::default()), examine(file, &Stop::default(), &|_, _| ()));
    let mut told = ours.1;
    // Facts that cannot be read count as a complaint: the backup fails on them.
    if let Err(error) = &ours.0 {
        told.push(Check::new("indexes", Tri::Fail, error.to_string()));
    }
    (verdict(&theirs, &["file", "integrity"]), verdict(&told, &["file", "integrity", "indexes"]), told)
}

#[test]
fn sound_indexes_of_every_kind_pass_and_the_facts_are_those_of_inspect() {
    let folder = tempdir().unwrap();
    for (schema, walked) in [(WALKED, "12 "), (LEFT_OVER, "0 "), (&format!("{WALKED}{LEFT_OVER}"), "12 ")] {
        let file = folder.path().join(format!("{}.db", schema.len()));
        sql(&file, schema);
        let (facts, checks) = examine(&file, &Stop::default(), &|_, _| ());
        let bad: Vec<_> = checks.iter().filter(|check| check.outcome != Tri::Pass).collect();
        assert!(bad.is_empty(), "{bad:?}");
        let indexes = checks.iter().find(|check| check.name == "indexes").unwrap();
        assert!(indexes.detail.starts_with(walked), "{}", indexes.detail);
        let mut wanted = inspect_now(&file);
        wanted.sha256.clear();
        wanted.quick_digest.clear();
        assert_eq!(facts.unwrap(), wanted);
    }
}

#[test]
fn a_utf_16_database_is_left_to_sqlite() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.db");
    sql(
        &file,
        "PRAGMA encoding='UTF-16le'; CREATE TABLE t(a); CREATE INDEX i ON t(a); INSERT INTO t VALUES('ü'), ('a');",
    );
    let (theirs, ours, told) = both(&file);
    assert_eq!((theirs, ours), (Tri::Pass, Tri::Pass), "{told:?}");
    assert!(told.iter().any(|check| check.detail.starts_with("0 compared")));
}

/// Each way an index and its table can fall apart, made with `writable_schema`, which lets one index lie about another.
#[test]
fn vfy_an_index_that_differs_from_its_table_is_told_as_integrity_check_tells_it() {
    let make = "CREATE TABLE t(a, b); INSERT INTO t VALUES(1, 10), (2, 20), (3, 30), (4, 40); CREATE INDEX i ON t(a);";
    let lies = [
        // A row that is not in the index, one too many, another value, another order, a row twice.
        (
            "missing",
            "PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(a) WHERE a<4' WHERE name='i';",
            "INSERT INTO t VALUES(9, 90);",
            "UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(a)' WHERE name='i';",
        ),
        (
            "value",
            "PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(b)' WHERE name='i';",
            "INSERT INTO t VALUES(5, 50);",
            "UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(a)' WHERE name='i';",
        ),
        (
            "order",
            "PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(a DESC)' WHERE name='i';",
            "INSERT INTO t VALUES(5, 50);",
            "UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(a)' WHERE name='i';",
        ),
        (
            "unique",
            "INSERT INTO t VALUES(4, 41);",
            "SELECT 1;",
            "PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql='CREATE UNIQUE INDEX i ON t(a)' WHERE name='i';",
        ),
        (
            "collation",
            "INSERT INTO t VALUES('a', 0), ('B', 0), ('b', 0), ('C', 0);",
            "SELECT 1;",
            "PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(a COLLATE NOCASE)' WHERE name='i';",
        ),
    ];
    for (name, first, between, last) in lies {
        let folder = tempdir().unwrap();
        let file = folder.path().join("a.db");
        // A shell for each: a changed schema counts from the next opening on.
        for statements in [make, first, between, &format!("PRAGMA writable_schema=1; {last}")] {
            sql(&file, &format!(".dbconfig defensive off\n{statements}"));
        }
        let (theirs, ours, told) = both(&file);
        assert_eq!(theirs, Tri::Fail, "{name}: the damage is real");
        assert_eq!(ours, Tri::Fail, "{name}: {told:?}");
    }
}

/// One kind of damage is left to proofs: an entry of an index that is still read as what it was, and only not found any
/// more when it is searched for. Tables are whole then.
#[test]
fn flipped_bytes_that_integrity_check_finds_are_found() {
    let folder = tempdir().unwrap();
    let good = folder.path().join("good.db");
    sql(&good, &format!("{WALKED}{LEFT_OVER}"));
    let bytes = fs::read(&good).unwrap();
    let file = folder.path().join("bad.db");
    let (mut found, mut only_searches, mut state) = (0, 0, 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..300 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let mut damaged = bytes.clone();
        let at = 100 + usize::try_from(state % (bytes.len() as u64 - 100)).unwrap();
        damaged[at] ^= 1 << (state >> 61);
        fs::write(&file, &damaged).unwrap();
        match both(&file) {
            (Tri::Fail, Tri::Pass, _) => {
                only_searches += 1;
                assert_eq!(inspect_now(&file).tables, inspect_now(&good).tables, "byte {at}");
                let theirs = check_copy(&file, &Stop::default());
                assert!(
                    theirs.iter().any(|check| check.detail.contains("missing from index")),
                    "byte {at}: {theirs:?}"
                );
            }
            (Tri::Fail, _, _) => found += 1,
            (Tri::Pass | Tri::Unknown, _, _) => (),
        }
    }
    assert!(found > 30 && only_searches * 20 <= found, "{found} flips were found, {only_searches} left to proofs");
}
