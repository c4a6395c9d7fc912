//! Copies of a database in use.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use lifeboat_io::{
    Stop,
    database::postgres::{CaptureOptions, PgError, RowDigest, Selection, Session, rewritten},
};
use lifeboat_model::FailureClass;

use crate::{
    helpers::{Memory, address, capture_all, open, shop, try_capture, wait_for},
    servers::{MAJORS, Server, ServerOptions},
};

#[test]
fn a_capture_has_everything_and_its_digests_are_of_what_was_written() {
    for major in MAJORS {
        let server = shop(major);
        let (captured, memory) = capture_all(&server, "shop");
        let facts = &captured.facts;
        let counted: BTreeMap<&str, u64> =
            facts.tables.iter().map(|(name, table)| (name.as_str(), table.rows.rows)).collect();
        assert_eq!(counted["public.orders"], 2000);
        assert_eq!(counted["public.nothing"], 2);
        assert_eq!(counted["public.parent"], 1);
        assert_eq!(counted["\"Odd schema.x\".\"Table with \"\"quotes\"\" and.dot\""], 2);
        assert_eq!(counted.len(), 17, "{counted:?}");
        assert_eq!(facts.sequences["public.order_no"].last_value, 99_999);
        assert!(!facts.sequences["public.order_no"].is_called);
        assert_eq!(facts.large_objects.as_ref().unwrap().objects, 3);
        assert_eq!(facts.migrations["public.schema_migrations"], "20260202");
        assert!(facts.roles.contains(&"odd Role".to_owned()), "{:?}", facts.roles);
        let files = memory.files.lock().unwrap();
        for (name, table) in &facts.tables {
            let mut digest = RowDigest::default();
            table.parts.iter().for_each(|part| digest.take(&files[&part.path]));
            assert_eq!(digest.facts(), table.rows, "{name}");
        }
        assert!(captured.globals.contains("CREATE ROLE \"odd Role\""), "{}", captured.globals);
        assert!(captured.entries.iter().any(|entry| entry.kind == "FK CONSTRAINT"));
    }
}

/// Schema-only post-data omits REFRESH MATERIALIZED VIEW; `\restrict` lines stop older programs.
#[test]
fn trap_refresh_is_kept_and_restrict_lines_are_not() {
    let server = shop(16);
    let (captured, _) = capture_all(&server, "shop");
    assert!(captured.post_data.contains("REFRESH MATERIALIZED VIEW public.sales;"));
    assert!(!captured.post_data.contains("REFRESH MATERIALIZED VIEW public.unpopulated;"));
    for sql in [&captured.pre_data, &captured.post_data] {
        assert!(!sql.lines().any(|line| line.starts_with('\\')), "{sql}");
    }
    assert!(captured.pre_data.contains("CREATE TABLE public.orders"));
}

/// A newer pg_dump writes settings that an older server does not know.
#[test]
fn trap_settings_of_newer_clients_are_left_out() {
    let server = Server::start(17);
    server.sql("postgres", "CREATE TABLE t(i int)");
    let (captured, _) = capture_all(&server, "postgres");
    assert!(captured.facts.client_version.starts_with("18."));
    assert!(!captured.pre_data.contains("transaction_timeout"));
    assert!(captured.pre_data.contains("CREATE TABLE public.t"));
}

/// Sequences and large objects belong to the data section, which pg_dump does not write for us.
#[test]
fn trap_sequences_and_large_objects_are_captured() {
    let server = shop(15);
    let (captured, memory) = capture_all(&server, "shop");
    let objects = captured.facts.large_objects.unwrap();
    assert_eq!((objects.objects, objects.rows.rows), (3, 4), "150 000 bytes in three pieces, none, five bytes in one");
    assert!(memory.files.lock().unwrap()[&objects.part.path].starts_with(b"70001\t0\t"));
    assert!(objects.statements.contains(&"ALTER LARGE OBJECT 70001 OWNER TO shop_owner".to_owned()));
    assert_eq!(captured.facts.sequences["public.docs_id_seq"].last_value, 2003);
    assert!(!captured.post_data.contains("setval") && !captured.pre_data.contains("lo_create"));
}

/// TRUNCATE or a rewriting ALTER after the snapshot makes COPY return no rows, without an error. The detector sees each.
#[test]
fn trap_truncate_after_the_snapshot_is_seen() {
    for major in MAJORS {
        let server = Server::start(major);
        server.sql(
            "postgres",
            "CREATE TABLE tr AS SELECT generate_series(1, 1000) i; CREATE TABLE rw AS TABLE tr; CREATE TABLE dr AS TABLE tr; CREATE TABLE ok AS TABLE tr",
        );
        let mut leader = open(&server, "postgres");
        leader.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").unwrap();
        leader.value("SELECT pg_catalog.pg_export_snapshot()").unwrap();
        assert_eq!(rewritten(&mut leader).unwrap(), Vec::<String>::new());
        server.sql(
            "postgres",
            "TRUNCATE tr; ALTER TABLE rw ALTER i TYPE bigint; DROP TABLE dr; INSERT INTO ok VALUES (0)",
        );
        assert_eq!(leader.value("SELECT count(*) FROM public.tr").unwrap(), "0", "this is the trap");
        let mut seen = rewritten(&mut leader).unwrap();
        seen.sort();
        assert_eq!(seen, ["public.dr", "public.rw", "public.tr"]);
    }
}

/// While somebody truncates and fills again all the time, each capture has a state that was committed.
#[test]
fn trap_truncate_during_the_backup_loses_nothing() {
    let server = Server::start(16);
    server.sql("postgres", "CREATE TABLE a(i int); CREATE TABLE b(i int); INSERT INTO a SELECT generate_series(1, 500); INSERT INTO b TABLE a");
    // Set at the end, however that comes, so that the writer ends too.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let over = AtomicBool::new(false);
    let mut restarts = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut app = open(&server, "postgres");
            while !over.load(Ordering::SeqCst) {
                let refill = "BEGIN; TRUNCATE public.a, public.b; INSERT INTO public.a SELECT generate_series(1, 500); INSERT INTO public.b TABLE public.a; COMMIT";
                app.run(refill).unwrap();
            }
        });
        let _over = Over(&over);
        for round in 0..5 {
            let (captured, _) = capture_all(&server, "postgres");
            let rows = |name: &str| captured.facts.tables[name].rows.rows;
            assert_eq!((rows("public.a"), rows("public.b")), (500, 500), "round {round}");
            restarts += captured.restarts;
        }
    });
    println!("{restarts} restarts");
}

/// A worker cannot get behind somebody who waits for the leader's lock: the leader reads that table itself.
#[test]
fn somebody_waiting_to_change_a_table_stops_nothing() {
    let server = shop(15);
    let ddl = Arc::new(Mutex::new(None));
    let begun = ddl.clone();
    let mut waiter = open(&server, "shop");
    let memory = Memory::default();
    // Large enough that reading has not ended when the waiter has begun to wait.
    server.sql("shop", "CREATE TABLE huge AS SELECT i, repeat('x', 500) AS pad FROM generate_series(1, 100000) i");
    let url = server.url("postgres");
    *memory.at_first_bytes.lock().unwrap() = Some(Box::new(move || {
        let waiting = std::thread::spawn(move || waiter.run("ALTER TABLE auth.users ADD COLUMN more int"));
        let mut look = Session::open(&address(&url), &Stop::default()).unwrap();
        while look.value("SELECT count(*) FROM pg_locks WHERE NOT granted").unwrap() == "0" {}
        *begun.lock().unwrap() = Some(waiting);
    }));
    let shop = address(&server.url("shop"));
    let options = CaptureOptions { connections: 1, ..CaptureOptions::default() };
    let captured = try_capture(&server, &shop, &options, &memory, &Stop::default()).unwrap();
    assert_eq!(captured.facts.tables["auth.users"].rows.rows, 500);
    let waiting = ddl.lock().unwrap().take().unwrap();
    waiting.join().unwrap().unwrap();
}

/// RLS without `row_security=off` copies none of 2,000 rows and "succeeds".
#[test]
fn trap_rls_never_makes_a_backup_partial() {
    let server = Server::start(15);
    server.sql(
        "postgres",
        "CREATE ROLE limited LOGIN; CREATE TABLE docs AS SELECT generate_series(1, 2000) i; CREATE TABLE other(i int);
         ALTER TABLE docs ENABLE ROW LEVEL SECURITY; GRANT SELECT ON docs, other TO limited; GRANT CREATE ON SCHEMA public TO limited",
    );
    let hidden = server.try_sql("limited", "postgres", "COPY docs TO STDOUT");
    assert!(hidden.status.success() && hidden.stdout.is_empty(), "this is the trap");
    let limited = address(&server.url_as("limited", "postgres"));
    let run = || try_capture(&server, &limited, &CaptureOptions::default(), &Memory::default(), &Stop::default());
    let error = run().unwrap_err();
    assert_eq!(error.class(), Some(FailureClass::Permission), "{error}");
    assert!(error.to_string().contains("row-level security"), "{error}");
    // And a table that it may not read at all is named before anything begins.
    server.sql("postgres", "REVOKE SELECT ON other FROM limited");
    let error = run().unwrap_err();
    assert!(matches!(&error, PgError::Preflight { found, .. } if found.contains("public.other")), "{error}");
}

#[test]
fn trap_thousands_of_relations_are_refused_before_they_overflow_the_lock_table() {
    let small = ServerOptions::default().set("max_locks_per_transaction", "10").set("max_connections", "20");
    let server = Server::with(15, small.set("max_prepared_transactions", "0"));
    server.sql(
        "postgres",
        "DO $$ BEGIN FOR i IN 1..60 LOOP EXECUTE 'CREATE TABLE t' || i || '(i int)'; COMMIT; END LOOP; END $$",
    );
    let address = address(&server.url("postgres"));
    let error =
        try_capture(&server, &address, &CaptureOptions::default(), &Memory::default(), &Stop::default()).unwrap_err();
    let PgError::LockTable { needed, room, suggested } = error else { panic!("{error}") };
    assert!(needed > room && suggested > 10 && suggested < 100, "{needed} {room} {suggested}");
}

/// One table dominates: from 14 on it is read in parts by several connections; the digest is the same.
#[test]
fn the_dominating_table_is_split_from_14_on() {
    for (major, parts) in [(13, 1), (15, 4)] {
        let server = Server::start(major);
        server.sql(
            "postgres",
            "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 20) AS pad FROM generate_series(1, 60000) i",
        );
        server.sql("postgres", "DELETE FROM big WHERE i % 3 = 0; UPDATE big SET pad = pad || 'x' WHERE i % 5 = 0");
        let (captured, memory) = capture_all(&server, "postgres");
        let table = &captured.facts.tables["public.big"];
        assert_eq!((table.parts.len(), table.rows.rows), (parts, 40_000), "PostgreSQL {major}");
        let one = CaptureOptions { connections: 1, ..CaptureOptions::default() };
        let again = try_capture(&server, &address(&server.url("postgres")), &one, &Memory::default(), &Stop::default())
            .unwrap();
        assert_eq!(again.facts.tables["public.big"].parts.len(), 1);
        assert_eq!(again.facts.tables["public.big"].rows, table.rows);
        assert!(table.parts.iter().all(|part| memory.files.lock().unwrap()[&part.path].len() as u64 == part.bytes));
    }
}

/// Only the chosen schemas, and on Supabase those that matter.
#[test]
fn schemas_are_chosen() {
    let server = shop(15);
    let address = address(&server.url("shop"));
    let run = |selection: Selection| {
        let options = CaptureOptions { selection, ..CaptureOptions::default() };
        try_capture(&server, &address, &options, &Memory::default(), &Stop::default()).unwrap()
    };
    let only = run(Selection { only: vec!["private".into(), "Odd schema.x".into()], except: vec![] });
    assert_eq!(only.facts.tables.len(), 2);
    assert!(only.facts.large_objects.is_none() && !only.pre_data.contains("public.orders ("));
    server.sql("shop", "CREATE SCHEMA realtime; CREATE TABLE realtime.messages(i int); CREATE SCHEMA storage; CREATE TABLE storage.objects(i int)");
    let supabase = run(Selection::supabase());
    assert!(supabase.facts.tables.contains_key("auth.users") && supabase.facts.tables.contains_key("storage.objects"));
    assert!(!supabase.facts.tables.contains_key("realtime.messages") && !supabase.pre_data.contains("realtime"));
}

const OURS_LEFT: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('lifeboat', 'pg_dump') AND pid <> pg_backend_pid()";

#[test]
fn a_full_disk_on_our_side_ends_it_and_leaves_nothing_at_the_server() {
    let server = shop(16);
    let address = address(&server.url("shop"));
    let memory = Memory { bytes_max: Some(1000), ..Memory::default() };
    let error = try_capture(&server, &address, &CaptureOptions::default(), &memory, &Stop::default()).unwrap_err();
    assert_eq!(error.class(), Some(FailureClass::Disk), "{error}");
    wait_for(&server, OURS_LEFT, "0");
}

#[test]
fn stopping_leaves_nothing_at_the_server() {
    let server = shop(16);
    let stop = Stop::default();
    let memory = Memory::default();
    let asked = stop.clone();
    *memory.at_first_bytes.lock().unwrap() = Some(Box::new(move || asked.now()));
    let address = address(&server.url("shop"));
    let error = try_capture(&server, &address, &CaptureOptions::default(), &memory, &stop).unwrap_err();
    assert!(matches!(error, PgError::Stopped(_)), "{error}");
    wait_for(&server, OURS_LEFT, "0");
}

/// The server dies while rows are read: an error, and no table that looks complete.
#[test]
fn a_server_that_dies_ends_the_capture() {
    let server = Arc::new(Mutex::new(shop(15)));
    server
        .lock()
        .unwrap()
        .sql("shop", "CREATE TABLE huge AS SELECT i, repeat('x', 500) AS pad FROM generate_series(1, 100000) i");
    let text = server.lock().unwrap().url("shop");
    let memory = Memory::default();
    let victim = server.clone();
    *memory.at_first_bytes.lock().unwrap() = Some(Box::new(move || victim.lock().unwrap().crash()));
    let folder = tempfile::tempdir().unwrap();
    let error = {
        let clients = crate::helpers::clients(15);
        let (options, address) = (CaptureOptions::default(), address(&text));
        let what = lifeboat_io::database::postgres::Capture {
            address: &address,
            clients: &clients,
            exec: &lifeboat_io::SystemExec,
            clock: &lifeboat_io::SystemClock::default(),
            folder: folder.path(),
            options: &options,
            earlier: None,
        };
        lifeboat_io::database::postgres::capture(&what, &memory, &Stop::default(), &|_, _| ()).unwrap_err()
    };
    assert_eq!(error.class(), Some(FailureClass::Connection), "{error}");
    assert!(!memory.files.lock().unwrap().contains_key("data/public.huge.copy"));
}

/// BKP-16: data and schema. What has a table's definition and not its rows is told apart from an empty table.
#[test]
fn bkp_16_a_capture_has_data_and_schema() {
    let server = shop(13);
    let (captured, memory) = capture_all(&server, "shop");
    let files = memory.files.lock().unwrap();
    for (name, table) in &captured.facts.tables {
        let lines: usize =
            table.parts.iter().map(|part| files[&part.path].iter().filter(|byte| **byte == b'\n').count()).sum();
        assert_eq!(lines as u64, table.rows.rows, "{name}");
        assert!(
            captured.pre_data.contains(&format!("CREATE TABLE {name}"))
                || captured.pre_data.contains(&format!("CREATE UNLOGGED TABLE {name}")),
            "{name}"
        );
    }
    assert!(captured.facts.tables["auth.users"].rows.rows > 0);
}
