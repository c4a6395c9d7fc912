//! Copies of databases in use, against real other processes.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at real files and start real programs")]

mod helpers;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use helpers::{
    Shell, WRITER_SCHEMA, Writer, capture_now, crashed_with_wal, hash, inspect_now, names, rows_of_consistent_state,
    sql, with,
};
use lifeboat_io::{
    Clock, Stop, SystemClock,
    database::sqlite::{CaptureOptions, How, SqliteError, capture, check_copy},
};
use lifeboat_model::Tri;
use tempfile::tempdir;

fn sound(copy: &Path) -> bool {
    check_copy(copy, &Stop::default()).iter().all(|check| check.outcome == Tri::Pass)
}

/// Continuous writer, several copies: each has everything committed before it began, and nothing half.
fn check_beside_writer(mode: &str, rows_before: u64) {
    let folder = tempdir().unwrap();
    let live = folder.path().join("app.db");
    sql(&live, &format!("PRAGMA journal_mode={mode}; {WRITER_SCHEMA}"));
    // Large enough that copying takes several steps, and a writer comes in between.
    sql(
        &live,
        &format!(
            "BEGIN; WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT {rows_before})
             INSERT INTO log SELECT n, hex(randomblob(500)) FROM c;
             UPDATE plus SET amount = 7 * {rows_before}; UPDATE minus SET amount = -7 * {rows_before}; COMMIT;"
        ),
    );
    let writer = Writer::start(&live);
    let mut asker = Shell::open(&live);
    asker.run(".timeout 20000");
    let mut last = 0;
    for round in 0..5 {
        // The writer has to have moved since: otherwise the next copy would prove nothing.
        let committed = loop {
            let rows: u64 = asker.run("SELECT count(*) FROM log;")[0].parse().unwrap();
            if rows > last.max(rows_before) {
                break rows;
            }
        };
        let copy = folder.path().join(format!("copy-{round}.db"));
        let captured = capture_now(&live, &copy).unwrap();
        assert!(sound(&copy), "{mode} {round}: {:?}", check_copy(&copy, &Stop::default()));
        let found = rows_of_consistent_state(&copy).unwrap_or_else(|state| panic!("{mode} {round}: {state}"));
        assert!(found >= committed, "{mode} {round}: {committed} rows were committed, {found} are in the copy");
        match mode {
            "WAL" => assert_eq!(captured.how, How::BesideWriters),
            _ => assert!(matches!(captured.how, How::InSteps { .. } | How::WritersWaited), "{:?}", captured.how),
        }
        last = found;
    }
    asker.close();
    writer.finish();
    assert!(rows_of_consistent_state(&live).unwrap() > last, "the writer stood still");
}

#[test]
fn bkp_02_a_copy_beside_a_writer_in_wal_mode_has_every_committed_row_and_nothing_half() {
    check_beside_writer("WAL", 1000);
}

#[test]
fn bkp_02_a_copy_beside_a_writer_with_a_rollback_journal_has_every_committed_row_and_nothing_half() {
    check_beside_writer("DELETE", 1000);
}

#[test]
fn bkp_02_a_copy_in_many_steps_beside_a_writer_with_a_rollback_journal_is_consistent() {
    check_beside_writer("TRUNCATE", 60_000);
}

#[test]
fn bkp_02_rows_that_are_only_in_the_wal_are_in_the_copy_and_the_source_does_not_change() {
    let folder = tempdir().unwrap();
    let live = folder.path().join("app.db");
    crashed_with_wal(&live);
    let before = (hash(&live), hash(&with(&live, "-wal")));
    let copy = folder.path().join("copy.db");
    let captured = capture_now(&live, &copy).unwrap();
    // Ours was the only connection, and the last to close: it must not have checkpointed.
    assert_eq!((hash(&live), hash(&with(&live, "-wal"))), before);
    assert_eq!(captured.bytes, fs::metadata(&copy).unwrap().len());
    let facts = inspect_now(&captured.path);
    assert_eq!((facts.tables["t"].rows, facts.journal_mode.as_str()), (600, "wal"));
    assert!(sound(&copy));
    // Looking at it left nothing beside it and not a byte of it different.
    assert_eq!(names(folder.path()), ["app.db", "app.db-shm", "app.db-wal", "copy.db"]);
    assert_eq!(hash(&copy), Some(facts.sha256));
    // What a plain copy of the file would have had, which is why all this is done.
    fs::copy(&live, folder.path().join("plain.db")).unwrap();
    assert_eq!(sql(&folder.path().join("plain.db"), "SELECT count(*) FROM t;"), ["0"]);
}

#[test]
fn an_idle_database_is_left_exactly_as_it_was() {
    for mode in ["WAL", "DELETE", "PERSIST"] {
        let folder = tempdir().unwrap();
        let live = folder.path().join("app.db");
        sql(&live, &format!("PRAGMA journal_mode={mode}; CREATE TABLE t(a); INSERT INTO t VALUES(1);"));
        let listed = names(folder.path());
        let before = hash(&live);
        let out = tempdir().unwrap();
        let captured = capture_now(&live, &out.path().join("copy.db")).unwrap();
        assert_eq!((names(folder.path()), hash(&live)), (listed, before), "{mode}");
        assert_eq!(names(out.path()), ["copy.db"]);
        let expected = if mode == "WAL" { How::BesideWriters } else { How::InSteps { restarts: 0 } };
        assert_eq!(captured.how, expected, "{mode}");
    }
}

#[test]
fn an_app_that_has_the_wal_open_keeps_it() {
    let folder = tempdir().unwrap();
    let live = folder.path().join("app.db");
    let mut app = Shell::open(&live);
    app.run("PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1);");
    let before = (hash(&live), hash(&with(&live, "-wal")));
    capture_now(&live, &folder.path().join("copy.db")).unwrap();
    assert_eq!((hash(&live), hash(&with(&live, "-wal"))), before);
    app.run("INSERT INTO t VALUES(2);");
    assert_eq!(app.run("SELECT count(*) FROM t;"), ["2"]);
    assert_eq!(sql(&live, "SELECT count(*) FROM t;"), ["2"]);
}

#[test]
fn a_hot_journal_is_rolled_back_in_the_copy_only() {
    let folder = tempdir().unwrap();
    let live = folder.path().join("app.db");
    sql(
        &live,
        "CREATE TABLE t(n INTEGER PRIMARY KEY, v TEXT);
         WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 5000) INSERT INTO t SELECT n, 'good' FROM c;",
    );
    let mut app = Shell::open(&live);
    app.run("PRAGMA cache_size=5; BEGIN; UPDATE t SET v = 'half done';");
    app.crash();
    let before = (hash(&live), hash(&with(&live, "-journal")));
    assert!(fs::metadata(with(&live, "-journal")).unwrap().len() > 512);
    let copy = folder.path().join("copy.db");
    let captured = capture_now(&live, &copy).unwrap();
    assert_eq!(captured.how, How::PutTogether);
    assert_eq!((hash(&live), hash(&with(&live, "-journal"))), before);
    assert!(sound(&copy));
    assert_eq!(names(folder.path()), ["app.db", "app.db-journal", "copy.db"]);
    assert_eq!(sql(&copy, "SELECT v, count(*) FROM t GROUP BY v;"), ["good|5000"]);
}

#[test]
fn every_kind_of_content_survives() {
    let cases = [
        "PRAGMA page_size=512; PRAGMA journal_mode=WAL; CREATE TABLE t(a);",
        "PRAGMA page_size=65536; CREATE TABLE t(a);",
        ".filectrl reserve_bytes 16\nCREATE TABLE t(a);",
        "PRAGMA encoding='UTF-16be'; PRAGMA auto_vacuum=INCREMENTAL; CREATE TABLE t(a);",
        "CREATE TABLE t(a); CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f VALUES('lifeboat'), ('rope');
         CREATE VIRTUAL TABLE r USING rtree(id, x0, x1); INSERT INTO r VALUES(1, 0, 2);",
        "CREATE TABLE t(a, b AS (a || '!'), c AS (a || '?') STORED); CREATE INDEX i ON t(c) WHERE a > 0;",
        "CREATE TABLE t(a); CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO w VALUES('x', 1);
         CREATE TABLE s(a INTEGER NOT NULL, b ANY) STRICT; INSERT INTO s VALUES(1, x'00');",
        "CREATE TABLE t(a); CREATE TABLE \"odd \"\"name\"\"\u{a}\u{1f600}\"(\"col\"\"umn\"); PRAGMA user_version=42; PRAGMA application_id=7;",
    ];
    for schema in cases {
        let folder = tempdir().unwrap();
        let (live, copy) = (folder.path().join("a b?#%.db"), folder.path().join("c d?#%.db"));
        sql(
            &live,
            &format!("{schema} INSERT INTO t(a) VALUES(1), ('zwei'), (3.5), (x'04'), (NULL), (zeroblob(200000));"),
        );
        let dump = sql(&live, ".dump");
        let captured = capture_now(&live, &copy).unwrap();
        let checks = check_copy(&copy, &Stop::default());
        assert!(sound(&copy), "{schema}: {checks:?}");
        let facts = inspect_now(&copy);
        assert_eq!(facts.tables["t"].rows, 6, "{schema}");
        assert!(facts.unread.is_empty(), "{schema}: {:?}", facts.unread);
        let mut digest = lifeboat_io::digest::QuickDigest::default();
        digest.update(&fs::read(&copy).unwrap());
        assert_eq!(digest.finish(), captured.digest);
        // Page size, reserved bytes, encoding, auto_vacuum: the whole header but counters and the schema's cookie.
        let header = |path: &Path| fs::read(path).unwrap()[..100].to_vec();
        let (source, copied) = (header(&live), header(&copy));
        for at in [0..24, 28..40, 44..92] {
            assert_eq!(source[at.clone()], copied[at], "{schema}");
        }
        assert_eq!(sql(&copy, ".dump"), dump, "{schema}");
    }
}

#[test]
fn a_locked_database_is_told_with_the_name_of_who_holds_it() {
    let folder = tempdir().unwrap();
    let live = folder.path().join("app.db");
    let mut app = Shell::open(&live);
    app.run("CREATE TABLE t(a); BEGIN EXCLUSIVE;");
    let options = CaptureOptions { busy_ms_max: 100, ..CaptureOptions::default() };
    let copy = folder.path().join("copy.db");
    let error = capture(&live, &copy, options, &SystemClock::default(), &Stop::default(), &|_, _| ()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, SqliteError::Busy { .. }), "{text}");
    assert!(text.contains(&format!("sqlite3 (process {})", app.pid())), "{text}");
    app.run("COMMIT;");
    assert!(capture_now(&live, &copy).is_ok());
    assert_eq!(names(folder.path()), ["app.db", "copy.db"]);
}

/// What is not a database is told as what it is, and nothing stays.
#[test]
fn bad_sources_are_told_apart_in_one_sentence() {
    let folder = tempdir().unwrap();
    let good = folder.path().join("good.db");
    sql(
        &good,
        "CREATE TABLE t(a); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 9000) INSERT INTO t SELECT n FROM c;",
    );
    let whole = fs::read(&good).unwrap();
    // Bytes that look like chance and are the same each time.
    let noise: Vec<u8> =
        (0_u64..256).flat_map(|n| <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(n.to_le_bytes()))).collect();
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("empty", Vec::new(), "has zero bytes"),
        (
            "text",
            b"hello world, this is no database".to_vec(),
            "is not a SQLite database: it begins with \"hello world, thi\"",
        ),
        ("noise", noise, "is encrypted or not a SQLite database"),
        ("short", whole[..60].to_vec(), "is damaged: it ends inside its header, after 60 bytes"),
        ("half", whole[..whole.len() / 2].to_vec(), "is damaged: database disk image is malformed"),
        (
            "odd page size",
            {
                let mut bytes = whole.clone();
                bytes[16] = 7;
                bytes
            },
            "is damaged: its header says 1792 bytes a page",
        ),
    ];
    for (name, bytes, wanted) in cases {
        let bad = folder.path().join("bad.db");
        fs::write(&bad, bytes).unwrap();
        let text = capture_now(&bad, &folder.path().join("copy.db")).unwrap_err().to_string();
        assert!(text.contains(wanted), "{name}: {text}");
        assert_eq!(hash(&bad), Some(hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes))), "{name}");
        assert!(check_copy(&bad, &Stop::default()).iter().any(|check| check.outcome == Tri::Fail), "{name}");
        fs::remove_file(&bad).unwrap();
        assert_eq!(names(folder.path()), ["good.db"], "{name}");
    }
    let missing = capture_now(&folder.path().join("nowhere.db"), &folder.path().join("copy.db")).unwrap_err();
    assert!(matches!(missing, SqliteError::Missing { .. }), "{missing}");
    let a_folder = capture_now(folder.path(), &folder.path().join("copy.db")).unwrap_err();
    assert!(a_folder.to_string().ends_with("it is a folder"), "{a_folder}");
}

#[test]
fn a_copy_that_outgrows_its_limit_or_is_stopped_leaves_nothing() {
    let folder = tempdir().unwrap();
    let live = folder.path().join("app.db");
    for mode in ["WAL", "DELETE"] {
        sql(
            &live,
            &format!(
                "PRAGMA journal_mode={mode}; CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES(zeroblob(40000000));"
            ),
        );
        let out = tempdir().unwrap();
        let copy = out.path().join("copy.db");
        let take = |options, stop: &Stop, progress: &dyn Fn(u64, Option<u64>)| {
            capture(&live, &copy, options, &SystemClock::default(), stop, progress).unwrap_err()
        };
        let options = CaptureOptions { bytes_max: Some(1_000_000), ..CaptureOptions::default() };
        let full = take(options, &Stop::default(), &|_, _| ());
        assert!(matches!(&full, SqliteError::Full { path } if path.ends_with("copy.db.partial")), "{mode}: {full}");
        let stop = Stop::default();
        let told = AtomicU64::new(0);
        let stopped = take(CaptureOptions::default(), &stop, &|done, total| {
            assert!(done > 0 && total.is_some_and(|total| total >= done));
            told.fetch_add(1, Ordering::SeqCst);
            stop.now();
        });
        assert!(matches!(stopped, SqliteError::Stopped(_)), "{mode}: {stopped}");
        assert_eq!((told.load(Ordering::SeqCst), names(out.path())), (1, Vec::new()), "{mode}");
    }
}

#[test]
fn the_recovery_point_is_before_the_copy_and_a_link_leads_to_the_real_wal() {
    let folder = tempdir().unwrap();
    let real = folder.path().join("real");
    fs::create_dir(&real).unwrap();
    crashed_with_wal(&real.join("app.db"));
    std::os::unix::fs::symlink("real/app.db", folder.path().join("link.db")).unwrap();
    let clock = SystemClock::default();
    let before = clock.now();
    let captured = capture_now(&folder.path().join("link.db"), &folder.path().join("copy.db")).unwrap();
    assert!(before <= captured.recovery_point && captured.recovery_point <= clock.now());
    assert_eq!(inspect_now(&captured.path).tables["t"].rows, 600);
}

/// Runs in a thread that has no rights over root's files, so that this can be tested by root, too.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let run = || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap(); // of this thread only
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[test]
fn a_wal_database_in_a_folder_we_may_not_write_to_is_captured_all_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let out = tempdir().unwrap();
    allow(out.path(), 0o777);
    for case in ["closed", "crashed", "crashed, without -shm", "open"] {
        let folder = tempdir().unwrap();
        let live = folder.path().join("app.db");
        crashed_with_wal(&live);
        let app = match case {
            "closed" => {
                sql(&live, "SELECT count(*) FROM t;"); // the last to close puts the WAL into the database
                None
            }
            "open" => {
                let mut app = Shell::open(&live);
                app.run("INSERT INTO t(v) VALUES('more');");
                Some(app)
            }
            "crashed" => None,
            _ => {
                fs::remove_file(with(&live, "-shm")).unwrap();
                None
            }
        };
        let before = (names(folder.path()), hash(&live), hash(&with(&live, "-wal")));
        allow(folder.path(), 0o555);
        let copy = out.path().join(format!("{case}.db"));
        let captured = as_nobody(|| capture_now(&live, &copy));
        allow(folder.path(), 0o755);
        let captured = captured.unwrap_or_else(|error| panic!("{case}: {error}"));
        let rows = if case == "open" { 601 } else { 600 };
        assert_eq!(inspect_now(&copy).tables["t"].rows, rows, "{case}");
        assert!(sound(&copy), "{case}");
        assert_eq!((names(folder.path()), hash(&live), hash(&with(&live, "-wal"))), before, "{case}");
        if case == "closed" {
            assert_eq!(captured.how, How::PutTogether);
        }
        drop(app);
    }
}

#[test]
fn a_file_we_may_not_read_or_a_folder_we_may_not_write_is_told_as_such() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    let live = folder.path().join("app.db");
    sql(&live, "CREATE TABLE t(a);");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(out.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let error = as_nobody(|| capture_now(&live, &out.path().join("copy.db"))).unwrap_err();
    assert!(matches!(&error, SqliteError::Denied { path, .. } if path.ends_with("copy.db.partial")), "{error}");
    fs::set_permissions(out.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(&live, fs::Permissions::from_mode(0o000)).unwrap();
    let error = as_nobody(|| capture_now(&live, &out.path().join("copy.db"))).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}: permission is missing", live.display()));
    assert_eq!(names(out.path()), Vec::<String>::new());
}

#[test]
fn two_captures_of_one_database_in_this_process_take_turns() {
    let folder = tempdir().unwrap();
    let live = folder.path().join("app.db");
    sql(&live, &format!("{WRITER_SCHEMA} INSERT INTO log SELECT 1, hex(zeroblob(30000000));"));
    let captured = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..3)
            .map(|task| {
                let (live, copy) = (live.clone(), folder.path().join(format!("{task}.db")));
                scope.spawn(move || capture_now(&live, &copy).unwrap())
            })
            .collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(captured.iter().all(|copy| copy.digest == captured[0].digest && sound(&copy.path)));
    // A turn that is not given back is told, in bounded time.
    let _turn = lifeboat_io::holders::OwnUse::enter(&live).unwrap().unwrap();
    let options = CaptureOptions { busy_ms_max: 50, ..CaptureOptions::default() };
    let clock = SystemClock::default();
    let error = capture(&live, &folder.path().join("9.db"), options, &clock, &Stop::default(), &|_, _| ()).unwrap_err();
    assert!(matches!(error, SqliteError::Busy { .. }) && clock.elapsed() < Duration::from_secs(10), "{error}");
}
