//! A database takes another's place, and gives it back.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use lifeboat_io::{
    Stop, SystemClock,
    database::postgres::{
        PgError, Session, SwapNames, SwapState, Swapped, fence_on, open_database, swap_databases, swap_preflight,
        swap_state,
    },
};

use crate::{
    helpers::{address, open, wait_for},
    servers::{MAJORS, Server},
};

fn names() -> SwapNames {
    SwapNames { live: "shop".into(), aside: "shop new".into(), kept: "shop_before".into() }
}

fn prepared(major: u32) -> Server {
    let server = Server::start(major);
    server.sql(
        "postgres",
        "CREATE ROLE app LOGIN; CREATE ROLE boss LOGIN CREATEDB; CREATE DATABASE shop OWNER boss CONNECTION LIMIT 40; CREATE DATABASE \"shop new\" OWNER boss;
         ALTER DATABASE shop SET work_mem = '9MB'; ALTER ROLE app IN DATABASE shop SET lock_timeout = '3s'; COMMENT ON DATABASE shop IS 'it''s live';
         REVOKE CONNECT ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON DATABASE shop TO app",
    );
    for database in ["shop", "shop new"] {
        server.sql(database, "CREATE TABLE probe(id bigserial, x text); GRANT ALL ON probe, probe_id_seq TO app");
    }
    server
}

fn swap(session: &mut Session, names: &SwapNames) -> Result<Swapped, PgError> {
    swap_databases(session, names, None, Duration::from_secs(3), &SystemClock::default(), &Stop::default())
}

/// Owner, limit, settings, grants, comment, and who may connect.
fn around(server: &Server, database: &str) -> String {
    server.sql(
        "postgres",
        &format!(
            "SELECT pg_get_userbyid(datdba), datconnlimit, datallowconn, (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(datacl) x), shobj_description(d.oid, 'pg_database'),
               (SELECT array_agg(setrole::regrole::text || setconfig::text ORDER BY 1) FROM pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = '{database}'"
        ),
    )
}

/// Clients connect and write all the time, some sessions idle, one holds a transaction: the gap is short, nobody's
/// acknowledged row is lost, and all that surrounds the database is as it was. Then the same back.
#[test]
fn swapped_under_load_and_back_without_losing_a_row() {
    for major in MAJORS {
        let server = prepared(major);
        let before = around(&server, "shop");
        let over = AtomicBool::new(false);
        let (acknowledged, gap) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut idle: Vec<Session> = (0..5).map(|_| open(&server, "shop")).collect();
        idle[0].run("BEGIN; INSERT INTO public.probe(x) VALUES ('never committed')").unwrap();
        let mut admin = open(&server, "postgres");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let (mut session, mut last) = (None, Instant::now());
                    while !over.load(Ordering::SeqCst) {
                        let app = address(&server.url_as("app", "shop"));
                        if session.is_none() {
                            session = Session::open(&app, &Stop::default()).ok();
                        }
                        let Some(connected) = &mut session else { continue };
                        match connected.run("INSERT INTO public.probe(x) VALUES ('app')") {
                            Ok(()) => {
                                acknowledged.fetch_add(1, Ordering::SeqCst);
                                gap.fetch_max(last.elapsed().as_millis() as u64, Ordering::SeqCst);
                                last = Instant::now();
                            }
                            Err(_) => session = None,
                        }
                    }
                });
            }
            while acknowledged.load(Ordering::SeqCst) < 200 {}
            let swapped = swap(&mut admin, &names()).unwrap();
            assert!(swapped.ended >= 5, "{swapped:?}");
            let then = acknowledged.load(Ordering::SeqCst);
            while acknowledged.load(Ordering::SeqCst) < then + 200 {}
            let undone = swap(&mut admin, &names().undone()).unwrap();
            let then = acknowledged.load(Ordering::SeqCst);
            while acknowledged.load(Ordering::SeqCst) < then + 200 {}
            over.store(true, Ordering::SeqCst);
            println!(
                "PostgreSQL {major}: closed for {:?} and {:?}, the clients' longest gap {gap:?} ms",
                swapped.closed_for, undone.closed_for
            );
        });
        let count = |database: &str| -> u64 {
            server.sql(database, "SELECT count(*) FROM probe WHERE x = 'app'").parse().unwrap()
        };
        open_database(&mut admin, "shop new").unwrap();
        assert_eq!(count("shop") + count("shop new"), acknowledged.load(Ordering::SeqCst));
        assert!(count("shop new") >= 200);
        assert_eq!(server.sql("shop", "SELECT count(*) FROM probe WHERE x LIKE 'never%'"), "0");
        assert_eq!(around(&server, "shop"), before, "PostgreSQL {major}");
    }
}

/// Database-level settings, grants, comment, owner and limit are no part of a database's content.
#[test]
fn trap_settings_and_grants_are_carried_over() {
    let server = prepared(15);
    let before = around(&server, "shop");
    let mut admin = open(&server, "postgres");
    swap(&mut admin, &names()).unwrap();
    assert_eq!(around(&server, "shop"), before);
    assert_eq!(swap_state(&mut admin, &names()).unwrap(), SwapState::Done);
    // The kept one is closed to everybody: nothing can be written there unseen.
    assert!(Session::open(&address(&server.url("shop_before")), &Stop::default()).is_err());
    // Again: nothing more to do.
    assert_eq!(swap(&mut admin, &names()).unwrap().ended, 0);
}

#[test]
fn trap_prepared_transactions_are_refused_before_anything_is_closed() {
    let server = prepared(16);
    server.sql("shop", "BEGIN; INSERT INTO probe(x) VALUES ('2pc'); PREPARE TRANSACTION 'half'");
    let before = around(&server, "shop");
    let error = swap(&mut open(&server, "postgres"), &names()).unwrap_err();
    assert!(matches!(&error, PgError::Preflight { found, .. } if found.contains("half")), "{error}");
    assert_eq!(around(&server, "shop"), before);
}

#[test]
fn trap_sessions_that_we_may_not_end_are_refused_before_anything_is_closed() {
    let server = prepared(13);
    let _superuser = open(&server, "shop");
    let mut boss = Session::open(&address(&server.url_as("boss", "postgres")), &Stop::default()).unwrap();
    let error = swap_preflight(&mut boss, &names()).unwrap_err();
    assert!(matches!(&error, PgError::Preflight { found, .. } if found.contains("postgres (lifeboat)")), "{error}");
    drop(_superuser);
    wait_for(&server, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'", "0");
    // As a role that owns both and may make databases, without being a superuser.
    let swapped = swap(&mut boss, &names()).unwrap();
    let wanted = "a superuser has to run: ALTER ROLE app IN DATABASE \"shop new\" SET lock_timeout TO '3s'";
    assert_eq!(swapped.notes, [wanted]);
    let app = open(&server, "shop");
    drop(app);
    assert_eq!(swap_state(&mut boss, &names()).unwrap(), SwapState::Done);
}

/// A name that somebody took between plan and swap, a rename that fails: the old state holds, open as before.
#[test]
fn a_swap_that_fails_leaves_the_database_open() {
    let server = prepared(15);
    let mut admin = open(&server, "postgres");
    let taken = SwapNames { kept: "postgres".into(), ..names() };
    assert!(matches!(swap(&mut admin, &taken).unwrap_err(), PgError::Preflight { .. }));
    let stop = Stop::default();
    stop.now();
    let mut idle = open(&server, "shop");
    let stopped = swap_databases(&mut admin, &names(), None, Duration::from_secs(3), &SystemClock::default(), &stop);
    assert!(matches!(stopped, Err(PgError::Stopped(_))), "{stopped:?}");
    assert_eq!(swap_state(&mut admin, &names()).unwrap(), SwapState::NotYet);
    idle.run("SELECT 1").unwrap();
    open(&server, "shop").run("SELECT 1").unwrap();
}

/// A session that does not hear is waited for, and named; those who want to come meanwhile wait, and are let in after.
#[test]
fn a_session_that_does_not_end_stops_a_swap_and_nobody_is_kept_out() {
    for major in MAJORS {
        let server = prepared(major);
        let mut admin = open(&server, "postgres");
        let deaf = open(&server, "shop");
        let signal = |name: &str| {
            let process = deaf.process().to_string();
            assert!(std::process::Command::new("kill").args([name, &process]).status().unwrap().success());
        };
        signal("-STOP");
        let comes = std::thread::spawn({
            let url = server.url("shop");
            move || {
                let mut tries = 0;
                while Session::open(&address(&url), &Stop::default()).is_err() {
                    tries += 1;
                }
                tries
            }
        });
        let error = swap(&mut admin, &names()).unwrap_err();
        signal("-CONT");
        assert!(error.to_string().contains(&format!("process {}", deaf.process())), "{error}");
        assert_eq!(comes.join().unwrap(), 0, "PostgreSQL {major}: nobody was turned away");
        assert_eq!(swap_state(&mut admin, &names()).unwrap(), SwapState::NotYet);
        open(&server, "shop").run("SELECT 1").unwrap();
        swap(&mut admin, &names()).unwrap();
    }
}

/// The server dies anywhere in a swap: wholly old or wholly new, and open; the next run makes it.
#[test]
fn a_server_that_dies_during_a_swap_leaves_old_or_new() {
    for delay_us in [0, 500, 2000, 4000, 8000, 15_000] {
        let mut server = prepared(16);
        server.sql("shop", "INSERT INTO probe(x) VALUES ('old')");
        server.sql("shop new", "INSERT INTO probe(x) VALUES ('new')");
        let mut admin = open(&server, "postgres");
        let swapping = std::thread::spawn(move || swap(&mut admin, &names()).map(|_| ()));
        std::thread::sleep(Duration::from_micros(delay_us));
        server.crash_and_restart();
        let _ = swapping.join().unwrap(); // whichever: the state tells
        let mut admin = open(&server, "postgres");
        let state = swap_state(&mut admin, &names()).unwrap();
        assert_ne!(state, SwapState::Unknown, "after {delay_us} us");
        let wanted = if state == SwapState::Done { "new" } else { "old" };
        assert_eq!(server.sql("shop", "SELECT x FROM probe"), wanted);
        swap(&mut admin, &names()).unwrap();
        assert_eq!(server.sql("shop", "SELECT x FROM probe"), "new");
    }
}

/// What a fence made the default stays behind with it: whatever takes the place of a fenced database can be written to, and keeps
/// the settings that are the database's own.
#[test]
fn a_fence_does_not_go_along_to_what_takes_the_place() {
    let server = prepared(15);
    let before = around(&server, "shop");
    let wait = Duration::from_millis(200);
    let (clock, stop) = (SystemClock::default(), Stop::default());
    fence_on(&mut open(&server, "shop"), "pass", "a test", wait, &clock, &stop).unwrap();
    assert!(around(&server, "shop").contains("default_transaction_read_only"));
    swap(&mut open(&server, "postgres"), &names()).unwrap();
    assert_eq!(around(&server, "shop"), before);
    server.sql("shop", "INSERT INTO probe(x) VALUES ('written')");
    assert!(around(&server, "shop_before").contains("default_transaction_read_only"), "what is kept stays as it was");
}
