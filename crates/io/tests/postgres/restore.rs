//! What comes back is what was there.

use std::{
    io::{self, Read},
    process::Command,
};

use lifeboat_io::{
    Stop, SystemClock,
    database::postgres::{
        CaptureOptions, Captured, PgError, Restore, RestoreOptions, Restored, RowDigest, Selection, Session, Sources,
        copy_target, create_database, dress_database, drop_database, fingerprint, inspect, restore,
    },
};
use lifeboat_model::FailureClass;

use crate::{
    helpers::{Memory, address, capture_all, clients, open, shop, try_capture, wait_for},
    servers::{MAJORS, NEWER, Server, ServerOptions},
};

impl Sources for Memory {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        let bytes = self.files.lock().unwrap().get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}

pub fn restore_into(
    server: &Server,
    database: &str,
    captured: &Captured,
    memory: &Memory,
    options: &RestoreOptions,
) -> Result<Restored, PgError> {
    let mut admin = open(server, "postgres");
    create_database(&mut admin, database, &captured.facts.database)?;
    let (address, clock) = (address(&server.url(database)), SystemClock::default());
    let what =
        Restore { address: &address, facts: &captured.facts, entries: &captured.entries, clock: &clock, options };
    let restored = restore(&what, memory, &Stop::default(), &|_, _| ())?;
    if options.owners_and_grants {
        dress_database(&mut admin, database, &captured.facts.database)?;
    }
    Ok(restored)
}

/// All of a database as `pg_dump` tells it, without what differs from run to run.
pub fn dump(server: &Server, database: &str) -> String {
    let output = Command::new(clients(server.major).folder.join("pg_dump"))
        .args([
            "-h",
            server.socket_folder().to_str().unwrap(),
            "-p",
            &server.port.to_string(),
            "-U",
            "postgres",
            database,
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.contains("restrict ")).map(|line| format!("{line}\n")).collect()
}

/// The dump's lines, those of COPY in order: rows may lie elsewhere in the copy.
pub fn sorted_dump(server: &Server, database: &str) -> Vec<String> {
    let mut lines: Vec<String> = dump(server, database).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

pub fn differences(one: &[String], other: &[String]) -> String {
    let only = |a: &[String], b: &[String], sign: &str| -> String {
        a.iter().filter(|line| !b.contains(line)).take(10).map(|line| format!("{sign} {line}\n")).collect()
    };
    only(one, other, "-") + &only(other, one, "+")
}

/// Source and copy: the same text from `pg_dump`, the same digests, the same fingerprint, the same settings around them.
pub fn check_same(server: &Server, source: &str, copy: &str, captured: &Captured) {
    let (was, is) = (sorted_dump(server, source), sorted_dump(server, copy));
    assert!(was == is, "PostgreSQL {}:\n{}", server.major, differences(&was, &is));
    let prints = |database: &str| fingerprint(&mut open(server, database), &Selection::default()).unwrap();
    let (was, now) = (prints(source), prints(copy));
    assert_eq!(was.differences(&now), Vec::<String>::new(), "PostgreSQL {}", server.major);
    check_captured(server, copy, captured);
}

/// The copy is what was captured, by digests and fingerprints.
pub fn check_captured(server: &Server, copy: &str, captured: &Captured) {
    let address = address(&server.url(copy));
    let is =
        inspect(&address, &CaptureOptions::default(), &SystemClock::default(), &Stop::default(), &|_, _| ()).unwrap();
    for (name, table) in &captured.facts.tables {
        assert_eq!(is.tables[name].rows, table.rows, "{name}");
    }
    assert_eq!(is.fingerprint, captured.facts.fingerprint);
    assert_eq!(is.sequences, captured.facts.sequences);
    let objects = |facts: &lifeboat_model::PostgresFacts| {
        facts.large_objects.clone().map(|all| (all.objects, all.rows, all.statements))
    };
    assert_eq!(objects(&is), objects(&captured.facts));
    let around = |facts: &lifeboat_model::PostgresFacts| {
        let mut database = facts.database.clone();
        (database.name, database.bytes) = (String::new(), 0);
        database
    };
    assert_eq!(around(&is), around(&captured.facts));
}

#[test]
fn everything_comes_back_identically_in_every_version() {
    for major in MAJORS.into_iter().chain(NEWER) {
        let server = shop(major);
        let (captured, memory) = capture_all(&server, "shop");
        let restored = restore_into(&server, "shop copy", &captured, &memory, &RestoreOptions::default()).unwrap();
        assert_eq!(restored.rows, captured.facts.tables.values().map(|table| table.rows.rows).sum::<u64>());
        assert_eq!(restored.notes, Vec::<String>::new());
        check_same(&server, "shop", "shop copy", &captured);
    }
}

/// `public` with another name, and a new one in its place, as tools that reset a database leave it: what the first one had from the
/// beginning, `pg_dump` leaves out.
#[test]
fn a_public_schema_of_another_name_keeps_its_grants() {
    for major in MAJORS {
        let server = Server::start(major);
        server.sql("postgres", "CREATE DATABASE shop");
        server.sql(
            "shop",
            "CREATE TABLE sold(i int PRIMARY KEY); ALTER SCHEMA public RENAME TO \"Last Year\"; CREATE SCHEMA public; \
             CREATE TABLE sold(i int PRIMARY KEY); INSERT INTO sold VALUES (1); REVOKE CREATE ON SCHEMA \"Last Year\" FROM PUBLIC",
        );
        let (captured, memory) = capture_all(&server, "shop");
        restore_into(&server, "copy", &captured, &memory, &RestoreOptions::default()).unwrap();
        check_captured(&server, "copy", &captured);
        let may = "CREATE ROLE anybody; SELECT has_schema_privilege('anybody', 'Last Year', 'USAGE'), has_schema_privilege('anybody', 'public', 'USAGE')";
        assert_eq!(server.sql("copy", may).trim(), "t|f", "PostgreSQL {major}");
    }
}

fn error_class(error: &PgError) -> Option<FailureClass> {
    error.class()
}

/// A flipped byte, a missing end, a missing file: each is an error that names the part, and none is a restored database.
#[test]
fn a_damaged_backup_is_refused() {
    let server = shop(15);
    let (captured, memory) = capture_all(&server, "shop");
    let path = "data/public.orders.copy";
    let good = memory.files.lock().unwrap()[path].clone();
    let with = |bytes: Option<Vec<u8>>| {
        let mut files = memory.files.lock().unwrap();
        match bytes {
            Some(bytes) => files.insert(path.into(), bytes),
            None => files.remove(path),
        };
    };
    let flipped: Vec<u8> = String::from_utf8(good.clone()).unwrap().replacen("\tshipped\t", "\tnew\t", 1).into_bytes();
    let cut = good[..good.iter().position(|byte| *byte == b'\n').unwrap() + 1].to_vec();
    for (number, bytes) in [Some(flipped), Some(cut), None].into_iter().enumerate() {
        with(bytes);
        let error = restore_into(&server, &format!("copy {number}"), &captured, &memory, &RestoreOptions::default())
            .unwrap_err();
        let named = error.to_string();
        assert!(named.contains("public.orders"), "{named}");
    }
    with(Some(good));
    restore_into(&server, "copy", &captured, &memory, &RestoreOptions::default()).unwrap();
}

/// RST-15 to RST-19: what goes wrong is told by its class, with the next step, before rows are written where possible.
#[test]
fn rst_15_errors_have_a_class_and_a_next_step() {
    let server = shop(16);
    let (captured, memory) = capture_all(&server, "shop");
    let into = |server: &Server, name: &str, captured: &Captured| {
        restore_into(server, name, captured, &memory, &RestoreOptions::default()).unwrap_err()
    };
    // RST-18: something is there already: refused before loading.
    let what = |database: &str| {
        let (address, clock, options) =
            (address(&server.url(database)), SystemClock::default(), RestoreOptions::default());
        let what = Restore {
            address: &address,
            facts: &captured.facts,
            entries: &captured.entries,
            clock: &clock,
            options: &options,
        };
        restore(&what, &memory, &Stop::default(), &|_, _| ()).unwrap_err()
    };
    assert!(matches!(what("shop"), PgError::Preflight { found, .. } if found.contains("is not empty")));
    assert_eq!(error_class(&what("nowhere")), Some(FailureClass::MissingDatabase));
    // Roles that are not there, by name.
    let other = Server::start(16);
    let error = into(&other, "copy", &captured);
    assert!(
        matches!(&error, PgError::Preflight { found, hint } if found.contains("shop_owner") && hint.contains("globals.sql")),
        "{error}"
    );
    // With the roles of the backup it works: globals.sql makes them, and may be run again.
    other.sql("postgres", &captured.globals);
    other.sql("postgres", &captured.globals);
    restore_into(&other, "with roles", &captured, &memory, &RestoreOptions::default()).unwrap();
    assert_eq!(
        other.sql("postgres", "SELECT rolconfig FROM pg_roles WHERE rolname = 'shop_app'"),
        "{statement_timeout=30s}"
    );
    // An extension that is not installed there.
    let mut more = captured.clone();
    more.facts.extensions.insert("postgis".into(), "3".into());
    assert!(into(&other, "copy 2", &more).to_string().contains("postgis"));
    // An older server.
    let older = Server::start(15);
    assert!(into(&older, "copy", &captured).to_string().contains("the backup is of PostgreSQL 16"));
    // A statement that is wrong, RST-03: it ends there, with its name.
    let mut bad = captured.clone();
    let at = bad.entries.iter().position(|entry| entry.kind == "INDEX" && entry.tag == "docs_meta").unwrap();
    bad.entries[at].sql = bad.entries[at].sql.replace("USING gin", "USING nonsense");
    let error = into(&other, "copy 3", &bad);
    assert!(error.to_string().contains("make INDEX docs_meta"), "{error}");
    // Rows that break a rule.
    let mut files = memory.files.lock().unwrap();
    let orders = files["data/public.orders.copy"].clone();
    let doubled = [&orders[..], &orders[..]].concat();
    files.insert("data/public.orders.copy".into(), doubled);
    drop(files);
    let mut twice = captured.clone();
    let mut digest = RowDigest::default();
    digest.take(&memory.files.lock().unwrap()["data/public.orders.copy"]);
    twice.facts.tables.get_mut("public.orders").unwrap().rows = digest.facts();
    let error = into(&other, "copy 4", &twice);
    assert_eq!(error_class(&error), Some(FailureClass::DuplicateKey), "{error}");
    assert!(error.next_step().contains("empty database"));
}

/// RST-17: a role that may do little more than make databases: everything is its own, without foreign owners.
#[test]
fn rst_17_without_superuser_it_is_restored_without_owners() {
    for major in [13, 16] {
        let server = Server::start(major);
        server.sql(
            "postgres",
            "CREATE ROLE team LOGIN CREATEDB; CREATE ROLE reader; CREATE DATABASE source OWNER team; \\connect source\nCREATE TABLE foreign_owned(i int PRIMARY KEY);
             INSERT INTO foreign_owned VALUES (1), (2); CREATE TABLE refers(i int REFERENCES foreign_owned); INSERT INTO refers VALUES (1); GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader, team",
        );
        // The backup too is made by the limited role.
        let (memory, team) = (Memory::default(), address(&server.url_as("team", "source")));
        let captured = try_capture(&server, &team, &CaptureOptions::default(), &memory, &Stop::default()).unwrap();
        let mut session = Session::open(&team.with_database("postgres"), &Stop::default()).unwrap();
        create_database(&mut session, "copy", &captured.facts.database).unwrap();
        let (copy, clock) = (team.with_database("copy"), SystemClock::default());
        let run = |options: &RestoreOptions| {
            let what =
                Restore { address: &copy, facts: &captured.facts, entries: &captured.entries, clock: &clock, options };
            restore(&what, &memory, &Stop::default(), &|_, _| ())
        };
        // RST-17: "permission denied" is told as such, and the way out works.
        let error = run(&RestoreOptions::default()).unwrap_err();
        assert_eq!(error_class(&error), Some(FailureClass::Permission), "{error}");
        assert!(error.next_step().contains("without owners"));
        drop_database(&mut session, "copy").unwrap();
        create_database(&mut session, "copy", &captured.facts.database).unwrap();
        run(&RestoreOptions { owners_and_grants: false, ..RestoreOptions::default() }).unwrap();
        assert_eq!(server.sql("copy", "SELECT relowner::regrole FROM pg_class WHERE relname = 'refers'"), "team");
        let look = inspect(&copy, &CaptureOptions::default(), &clock, &Stop::default(), &|_, _| ()).unwrap();
        assert_eq!(look.tables["public.foreign_owned"].rows, captured.facts.tables["public.foreign_owned"].rows);
        let mut kinds = captured.facts.fingerprint.clone();
        let mut now = look.fingerprint;
        for privileges in ["owner", "acl"] {
            kinds.remove(privileges);
            now.remove(privileges);
        }
        assert_eq!(now, kinds);
    }
}

/// Older to newer: what a version changes by default (who may create in `public`) is as it was.
#[test]
fn a_backup_goes_to_a_newer_server() {
    let old = shop(13);
    let (captured, memory) = capture_all(&old, "shop");
    let new = Server::start(16);
    new.sql("postgres", &captured.globals);
    restore_into(&new, "shop", &captured, &memory, &RestoreOptions::default()).unwrap();
    let may = "SELECT has_schema_privilege('shop_app', 'public', 'CREATE')";
    assert_eq!((old.sql("shop", may), new.sql("shop", may)), ("t".into(), "t".into()));
    let address = address(&new.url("shop"));
    let look =
        inspect(&address, &CaptureOptions::default(), &SystemClock::default(), &Stop::default(), &|_, _| ()).unwrap();
    for (name, table) in &captured.facts.tables {
        assert_eq!(look.tables[name].rows, table.rows, "{name}");
    }
}

/// The server dies at any moment of a restore: an error, and the copy can be dropped and made again.
#[test]
fn a_server_that_dies_during_a_restore_can_be_restored_again() {
    let mut server = shop(16);
    let (captured, memory) = capture_all(&server, "shop");
    let opened = std::sync::atomic::AtomicUsize::new(0);
    struct Deadly<'a>(&'a Memory, &'a std::sync::atomic::AtomicUsize, usize, String);
    impl Sources for Deadly<'_> {
        fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
            if self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == self.2 {
                let kill = Command::new("kill").args(["-QUIT", &self.3]).status().unwrap();
                assert!(kill.success());
            }
            self.0.open(path)
        }
    }
    for at in [0, 7, 14] {
        opened.store(0, std::sync::atomic::Ordering::SeqCst);
        let mut admin = open(&server, "postgres");
        create_database(&mut admin, "copy", &captured.facts.database).unwrap();
        let (copy, clock, options) = (address(&server.url("copy")), SystemClock::default(), RestoreOptions::default());
        let what = Restore {
            address: &copy,
            facts: &captured.facts,
            entries: &captured.entries,
            clock: &clock,
            options: &options,
        };
        let sources = Deadly(&memory, &opened, at, server.pid().to_string());
        let error = restore(&what, &sources, &Stop::default(), &|_, _| ()).unwrap_err();
        assert_eq!(error_class(&error), Some(FailureClass::Connection), "{error}");
        server.crash_and_restart();
        drop_database(&mut open(&server, "postgres"), "copy").unwrap();
    }
    restore_into(&server, "copy", &captured, &memory, &RestoreOptions::default()).unwrap();
    check_captured(&server, "copy", &captured);
}

/// Asked to stop in the middle: it ends soon, at the server too.
#[test]
fn stopping_a_restore_ends_it() {
    let server = shop(15);
    let (captured, memory) = capture_all(&server, "shop");
    let stop = Stop::default();
    struct Stopping<'a>(&'a Memory, &'a Stop);
    impl Sources for Stopping<'_> {
        fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
            self.1.now();
            self.0.open(path)
        }
    }
    create_database(&mut open(&server, "postgres"), "copy", &captured.facts.database).unwrap();
    let (copy, clock, options) = (address(&server.url("copy")), SystemClock::default(), RestoreOptions::default());
    let what = Restore {
        address: &copy,
        facts: &captured.facts,
        entries: &captured.entries,
        clock: &clock,
        options: &options,
    };
    let error = restore(&what, &Stopping(&memory, &stop), &stop, &|_, _| ()).unwrap_err();
    assert!(matches!(error, PgError::Stopped(_)), "{error}");
    wait_for(&server, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'copy'", "0");
}

/// No lock-in: with `psql` alone, from the files of a backup, comes the same database.
#[test]
fn psql_alone_restores_it() {
    let server = shop(13);
    let (captured, memory) = capture_all(&server, "shop");
    create_database(&mut open(&server, "postgres"), "by hand", &captured.facts.database).unwrap();
    server.sql("by hand", &captured.pre_data);
    for (name, table) in &captured.facts.tables {
        for part in &table.parts {
            let rows = String::from_utf8(memory.files.lock().unwrap()[&part.path].clone()).unwrap();
            let target = copy_target(name, &table.columns);
            server.sql("by hand", &format!("SET search_path = '';\nCOPY {target} FROM STDIN;\n{rows}\\.\n"));
        }
    }
    server.sql("by hand", &captured.post_data);
    let address = address(&server.url("by hand"));
    let look =
        inspect(&address, &CaptureOptions::default(), &SystemClock::default(), &Stop::default(), &|_, _| ()).unwrap();
    assert_eq!(look.fingerprint, captured.facts.fingerprint);
    assert!(captured.facts.tables.iter().all(|(name, table)| look.tables[name].rows == table.rows));
}

/// Rows of a large table come in as binary; one value that has no such form, and the table comes in as text. Either way it is
/// what was there, to the last letter.
#[test]
fn rows_of_large_tables_come_in_as_binary_and_are_the_same() {
    for major in MAJORS.into_iter().chain(NEWER) {
        let server = Server::with(major, ServerOptions::default().set("log_statement", "all"));
        server.sql("postgres", "CREATE DATABASE shop");
        server.sql("shop", MANY_TYPES);
        let (captured, memory) = capture_all(&server, "shop");
        restore_into(&server, "copy", &captured, &memory, &RestoreOptions::default()).unwrap();
        check_same(&server, "shop", "copy", &captured);
        let log = server.log();
        let copies = |table: &str, ending: &str| {
            log.lines()
                .filter(|line| line.contains(&format!("LOG:  statement: COPY public.{table} (")))
                .filter(|line| line.contains("FROM STDIN") && line.ends_with(ending))
                .count()
        };
        let both = |table: &str| (copies(table, "(FREEZE, FORMAT binary)"), copies(table, "(FREEZE)"));
        assert_eq!(both("known"), (1, 0), "PostgreSQL {major}: {log}");
        assert_eq!(both("odd"), (1, 1), "begun as binary, then text");
        assert_eq!(both("other"), (0, 1), "a type that is not known");
        assert_eq!(both("numbers"), (0, 1), "short values are shorter as text");
        assert_eq!((both("small"), copies("small", "FROM STDIN")), ((0, 0), 1));
    }
}

/// `known` has all types that are written in binary, with their limits; `odd` a day that is not.
const MANY_TYPES: &str = r#"
    CREATE TYPE mood AS ENUM ('glad', 'so, so', 'say "no"');
    CREATE DOMAIN mail AS text CHECK (VALUE LIKE '%@%');
    CREATE TYPE place AS (street text, number int, since date);
    CREATE TABLE known (id int PRIMARY KEY, small int2, large int8, yes bool, f4 float4, f8 float8, t text, v varchar(500), c char(7), j json,
        b jsonb, raw bytea, u uuid, d date, tm time, ts timestamp(3), tz timestamptz, n numeric, n2 numeric(30, 4), m mood, mail mail,
        p place, words text[], moments timestamptz[], ids uuid[], numbers numeric[], gone int, made text GENERATED ALWAYS AS (t || '!') STORED);
    ALTER TABLE known DROP COLUMN gone;
    INSERT INTO known SELECT i, (i % 65536 - 32768)::int2, i * 4611686018427 - 9223372036854775807, i % 2 = 0, (i - 2000)::float4 / 7, (i - 2000)::float8 / 7 * 10 ^ (i % 600 - 300),
        E'tab\t line\n return\r back\\slash \\N \\. \b\f\v "quoted" ' || repeat('ä€🦀', i % 9), NULLIF(repeat('v', i % 50), ''), 'c' || i, ('{"a":  ' || i || '}')::json,
        jsonb_build_object('k', i, 's', E'x\\y"z'), decode(repeat(lpad(to_hex(i % 256), 2, '0'), i % 90), 'hex'), gen_random_uuid(), '0001-01-01'::date + i * 880,
        '00:00:00'::time + i * interval '21.000001 s', '9999-12-31 23:59:59.999'::timestamp - i * interval '2 years 3.5 s', '1969-12-31 23:59:59.999999+00'::timestamptz + i * interval '7 days 1 microsecond',
        (i - 2000)::numeric * 10::numeric ^ (i % 60 - 30), ((i - 2000)::numeric / 3)::numeric(30, 4), (enum_range(NULL::mood))[1 + i % 3], i || '@example.org',
        ROW(CASE i % 4 WHEN 0 THEN 'a "b" \c, (d)' WHEN 1 THEN '' WHEN 2 THEN NULL ELSE 'plain' END, NULLIF(i % 5, 0), '2024-02-29')::place,
        ARRAY['a', NULL, 'NULL', '', 'x,y', E'q"\\', '{}', i::text], ARRAY['2000-01-01'::timestamptz - i * interval '1 hour'], '{}', ARRAY[i, 0.10, -i / 3.0]
    FROM generate_series(1, 4000) AS i;
    INSERT INTO known (id, f4, f8, n, large, small) VALUES (0, '-Infinity', 'NaN', '0.000', '-9223372036854775808', 32767), (-1, '-0', '-0', -0.5, 0, 0);
    CREATE TABLE odd (id int PRIMARY KEY, at timestamptz, what text);
    INSERT INTO odd SELECT i, '2024-01-01'::timestamptz + i * interval '1 s', repeat('o', 100) FROM generate_series(1, 9000) AS i;
    INSERT INTO odd VALUES (0, 'infinity', ''), (-1, '0044-03-15 12:00+00 BC', 'Caesar'), (-2, '12024-01-01', 'later');
    CREATE TABLE other (id int PRIMARY KEY, wide interval, what text);
    INSERT INTO other SELECT i, i * interval '1 day 2 hours', repeat('o', 100) FROM generate_series(1, 9000) AS i;
    CREATE TABLE numbers (a int, b int, c int); INSERT INTO numbers SELECT i, i % 9, i % 7 FROM generate_series(1, 40000) AS i;
    CREATE TABLE small (id int PRIMARY KEY); INSERT INTO small VALUES (1), (2);"#;
