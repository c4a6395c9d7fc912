//! Writes stopped, shown to be stopped, and let in again.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use lifeboat_io::{
    Stop, SystemClock,
    database::postgres::{
        FenceStatus, NoWriter, PgError, Session, enter_fence, fence_off, fence_on, fence_status, prove_fence,
    },
};

use crate::{
    helpers::{address, capture_all, open, shop},
    restore::sorted_dump,
    servers::{MAJORS, Server},
};

fn shop_with_app(major: u32) -> Server {
    let server = Server::start(major);
    server.sql(
        "postgres",
        "CREATE ROLE app LOGIN; CREATE DATABASE shop; CREATE DATABASE other; \\connect shop\nCREATE TABLE t(id bigserial PRIMARY KEY, x text);
         CREATE TABLE parts(id int, k int) PARTITION BY RANGE (k); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
         GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app",
    );
    server
}

fn fence(session: &mut Session) -> Result<FenceStatus, PgError> {
    fence_on(
        session,
        "open sesame",
        "operation 7",
        Duration::from_millis(200),
        &SystemClock::default(),
        &Stop::default(),
    )
}

fn app(server: &Server) -> Session {
    Session::open(&address(&server.url_as("app", "shop")), &Stop::default()).unwrap()
}

const INSERT: &str = "INSERT INTO public.t(x) VALUES ('x')";

/// FNC-03: (a) the right database, and only it; (b) sessions that exist are stopped; (c) our own session writes;
/// (d) it can be lifted. And each way around `default_transaction_read_only` is closed.
#[test]
fn fnc_03_the_fence_holds_lets_us_in_and_can_be_lifted() {
    for major in MAJORS {
        let server = shop_with_app(major);
        let mut existing = app(&server);
        existing.run(INSERT).unwrap();
        let mut ours = open(&server, "shop");
        let status = fence(&mut ours).unwrap();
        assert_eq!((status.is_on, status.closed, status.open.len(), status.note.as_str()), (true, 3, 0, "operation 7"));
        assert!(prove_fence(&mut ours).unwrap().is_shown());
        // (a)
        server.sql("other", "CREATE TABLE free(i int); INSERT INTO free VALUES (1)");
        // (b), and the leaks
        let refused = |session: &mut Session, sql: &str| {
            let error = session.run(sql).expect_err(sql);
            assert_eq!(error.code(), Some("25006"), "{sql}: {error}");
            let _ = session.run("ROLLBACK"); // where it was in a transaction
        };
        refused(&mut existing, INSERT);
        for around in [
            INSERT,
            "SET default_transaction_read_only = off; INSERT INTO public.t(x) VALUES ('x')",
            "BEGIN READ WRITE; INSERT INTO public.t(x) VALUES ('x'); COMMIT",
            "BEGIN; SET TRANSACTION READ WRITE; UPDATE public.t SET x = 'y'; COMMIT",
            "DELETE FROM public.t",
            "INSERT INTO public.parts VALUES (1, 1)",
            "INSERT INTO public.parts_1 VALUES (1, 1)",
            "COPY public.t(x) FROM STDIN",
            "SET lifeboat.pass = 'guessed'; INSERT INTO public.t(x) VALUES ('x')",
        ] {
            refused(&mut app(&server), around);
        }
        server.sql("postgres", "ALTER ROLE app IN DATABASE shop SET default_transaction_read_only = off");
        refused(&mut app(&server), INSERT);
        refused(
            &mut open(&server, "shop"),
            "SET session_replication_role = replica; INSERT INTO public.t(x) VALUES ('x')",
        );
        refused(&mut open(&server, "shop"), "TRUNCATE public.t");
        assert_eq!(app(&server).value("SELECT count(*) FROM public.t").unwrap(), "1", "reads go on");
        // (c)
        enter_fence(&mut ours, "open sesame").unwrap();
        ours.run(INSERT).unwrap();
        ours.run("INSERT INTO public.parts VALUES (1, 1)").unwrap();
        // (d), by somebody who does not know the pass
        fence_off(&mut open(&server, "shop")).unwrap();
        existing.run(INSERT).unwrap();
        assert_eq!(fence_status(&mut ours).unwrap(), FenceStatus::default());
        fence_off(&mut ours).unwrap();
    }
}

/// Sessions write as fast as they can while the fence goes up: from its return on not one more row.
#[test]
fn no_row_comes_after_the_fence() {
    let server = shop_with_app(15);
    let over = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    let mut ours = open(&server, "shop");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut session = app(&server);
                while !over.load(Ordering::SeqCst) {
                    if session.run(INSERT).is_ok() {
                        written.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        while written.load(Ordering::SeqCst) < 100 {}
        fence(&mut ours).unwrap();
        let rows = ours.value("SELECT count(*) FROM public.t").unwrap();
        let then = written.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(200)); // they try all the time
        assert_eq!(ours.value("SELECT count(*) FROM public.t").unwrap(), rows);
        assert!(written.load(Ordering::SeqCst) - then <= 3, "each may have had one answer under way");
        fence_off(&mut ours).unwrap();
        let then = written.load(Ordering::SeqCst);
        while written.load(Ordering::SeqCst) < then + 50 {}
        over.store(true, Ordering::SeqCst);
    });
}

/// A transaction that is open across the fence is waited for, then ended: its rows never come.
#[test]
fn an_open_transaction_does_not_outlive_the_fence() {
    let server = shop_with_app(16);
    let mut long = app(&server);
    long.run("BEGIN; INSERT INTO public.t(x) VALUES ('late')").unwrap();
    let mut ours = open(&server, "shop");
    assert!(!prove_fence(&mut ours).unwrap().is_shown());
    fence(&mut ours).unwrap();
    assert!(long.run("COMMIT").is_err());
    assert_eq!(ours.value("SELECT count(*) FROM public.t").unwrap(), "0");
    assert!(prove_fence(&mut ours).unwrap().is_shown());
}

/// It is in the database, not in us: after our death and the server's it is still there, and can be lifted.
#[test]
fn the_fence_survives_crashes_and_tells_what_is_open() {
    let mut server = shop_with_app(15);
    fence(&mut open(&server, "shop")).unwrap();
    server.crash_and_restart();
    let mut ours = open(&server, "shop");
    let status = fence_status(&mut ours).unwrap();
    assert!(status.is_on && status.open.is_empty() && status.reads_by_default);
    // A table made since, a trigger that its owner dropped: told, and closed by the next run.
    server.sql(
        "shop",
        "SET default_transaction_read_only = off; CREATE TABLE fresh(i int); DROP TRIGGER zz_lifeboat_fence ON t",
    );
    assert_eq!(fence_status(&mut ours).unwrap().open, ["public.fresh", "public.t"]);
    assert_eq!(prove_fence(&mut ours).unwrap(), NoWriter { open_tables: 2, ..NoWriter::default() });
    assert_eq!(fence(&mut ours).unwrap().closed, 4);
    fence_off(&mut ours).unwrap();
    app(&server).run(INSERT).unwrap();
    // Where reading is the default by a person's own wish, it stays so.
    server.sql("postgres", "ALTER DATABASE shop SET default_transaction_read_only = on");
    fence(&mut ours).unwrap();
    fence_off(&mut ours).unwrap();
    assert!(fence_status(&mut ours).unwrap().reads_by_default);
}

#[test]
fn what_cannot_be_closed_or_seen_is_refused() {
    let server = shop_with_app(15);
    let mut app = app(&server);
    let error = fence(&mut app).unwrap_err();
    assert!(matches!(&error, PgError::Preflight { found, .. } if found.contains("public.t")), "{error}");
    assert!(matches!(prove_fence(&mut app), Err(PgError::Preflight { .. })));
    server.sql("shop", "BEGIN; INSERT INTO t(x) VALUES ('2pc'); PREPARE TRANSACTION 'half'");
    let error = fence(&mut open(&server, "shop")).unwrap_err();
    assert!(matches!(&error, PgError::Preflight { found, .. } if found.contains("half")), "{error}");
    assert!(!fence_status(&mut open(&server, "shop")).unwrap().is_on);
}

/// A backup that is made behind the fence is one of the database, without the fence.
#[test]
fn a_backup_does_not_contain_the_fence() {
    let server = shop(16);
    let before = sorted_dump(&server, "shop");
    let (open_capture, _) = capture_all(&server, "shop");
    fence(&mut open(&server, "shop")).unwrap();
    let (captured, _) = capture_all(&server, "shop");
    assert!(!captured.pre_data.contains("lifeboat_fence") && !captured.post_data.contains("lifeboat_fence"));
    assert_eq!(captured.entries.len(), open_capture.entries.len());
    assert_eq!(captured.facts.fingerprint, open_capture.facts.fingerprint);
    assert_eq!(captured.facts.database.statements, open_capture.facts.database.statements);
    fence_off(&mut open(&server, "shop")).unwrap();
    assert_eq!(sorted_dump(&server, "shop"), before);
}
