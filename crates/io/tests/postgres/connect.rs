//! Getting in: versions, passwords, TLS, poolers, refusals.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lifeboat_io::{
    Stop, SystemExec,
    database::postgres::{
        Address, PgError, RowDigest, Session, choose_clients, find_clients_in, look_at, refuse_pooler,
    },
    testing::MapEnv,
};
use lifeboat_model::FailureClass;

use crate::{
    helpers::{address, open},
    servers::{MAJORS, NEWER, Server, ServerOptions, client_programs},
};

fn error_of(address: &Address) -> PgError {
    Session::open(address, &Stop::default()).err().unwrap()
}

#[test]
fn every_version_answers_and_is_described() {
    for major in MAJORS.into_iter().chain(NEWER) {
        let server = Server::start(major);
        let mut session = open(&server, "postgres");
        assert_eq!(session.major(), major);
        let target = look_at(&mut session).unwrap();
        assert_eq!((target.version / 10_000, target.role.superuser, target.is_empty), (major, true, true));
        assert!(target.system_identifier.is_some_and(|id| id.len() > 10));
        assert_eq!(session.value("SHOW row_security").unwrap(), "off");
        assert_eq!(session.ask("SELECT 1, NULL, 'ü' UNION ALL SELECT 2, 'x', ''").unwrap().len(), 2);
        let error = session.run("SELECT 1; SELECT * FROM nowhere").unwrap_err();
        assert_eq!(error.class(), Some(FailureClass::MissingRelation), "{error}");
        session.run("SELECT 1").unwrap();
    }
}

/// 17 and 18 without their client: the sentence names the package; with a newer one, that is taken.
#[test]
fn a_newer_server_is_refused_with_the_package_to_install() {
    for major in NEWER {
        let server = Server::start(major);
        let older = [client_programs(15), client_programs(16)];
        let found = find_clients_in(&older, &SystemExec, &Stop::default()).unwrap();
        assert_eq!(found.iter().map(|one| one.major).collect::<Vec<_>>(), [15, 16]);
        let told = choose_clients(&found, open(&server, "postgres").major()).unwrap_err().to_string();
        let wanted = format!(
            "the server is PostgreSQL {major}, and the newest pg_dump here is of version 16; install postgresql-client-{major}"
        );
        assert_eq!(told, wanted);
        let all = find_clients_in(&[client_programs(16), client_programs(18)], &SystemExec, &Stop::default()).unwrap();
        assert_eq!(choose_clients(&all, major).unwrap().major, 18);
    }
}

fn with_passwords() -> Server {
    let hba = ["local all postgres trust", "host all sam 127.0.0.1/32 scram-sha-256", "host all mia 127.0.0.1/32 md5"];
    let options = ServerOptions { hba: hba.map(str::to_owned).to_vec(), tcp: true, ..ServerOptions::default() };
    let server = Server::with(15, options);
    server.sql(
        "postgres",
        "CREATE ROLE sam LOGIN PASSWORD 'pass w/ord@?'; SET password_encryption = 'md5'; CREATE ROLE mia LOGIN PASSWORD 'old';",
    );
    server
}

#[test]
fn passwords_open_the_door_and_are_never_told() {
    let server = with_passwords();
    let port = server.port;
    let at = |user: &str, password: &str| {
        address(&format!("host=127.0.0.1 port={port} user={user} dbname=postgres password='{password}'"))
    };
    for (user, password) in [("sam", "pass w/ord@?"), ("mia", "old")] {
        let mut session = Session::open(&at(user, password), &Stop::default()).unwrap();
        assert_eq!(session.value("SELECT current_user").unwrap(), user);
        let wrong = error_of(&at(user, "wrong-s3cret"));
        assert_eq!(wrong.class(), Some(FailureClass::Permission), "{wrong}");
        assert!(!format!("{wrong} {wrong:?}").contains("s3cret"));
    }
    let none = error_of(&address(&format!("host=127.0.0.1 port={port} user=sam dbname=postgres")));
    assert!(none.to_string().contains("asks for a password"), "{none}");
    let unknown =
        error_of(&address(&format!("host=127.0.0.1 port={port} user=sam dbname=none password='pass w/ord@?'")));
    assert_eq!(unknown.class(), Some(FailureClass::MissingDatabase), "{unknown}");
}

#[test]
fn the_password_file_is_read_unless_others_can_read_it() {
    let server = with_passwords();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pass");
    fs::write(&file, format!("other:*:*:*:no\n127.0.0.1:{}:*:sam:pass w/ord@?\n", server.port)).unwrap();
    let service = folder.path().join("services");
    fs::write(&service, format!("[shop]\nhost=127.0.0.1\nport={}\nuser=sam\ndbname=postgres\n", server.port)).unwrap();
    let env = MapEnv::new([("PGPASSFILE", file.as_os_str()), ("PGSERVICEFILE", service.as_os_str())]);
    let parse = || Address::parse("service=shop", &env).unwrap();
    let mode = |mode: u32| fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o600);
    assert!(Session::open(&parse(), &Stop::default()).is_ok());
    mode(0o644);
    assert!(parse().password.is_none());
}

#[test]
fn tls_is_as_strict_as_asked_for() {
    let options = ServerOptions { tcp: true, tls: true, ..ServerOptions::default() };
    let server = Server::with(15, options.clone());
    let other = Server::with(15, options);
    let try_mode = |host: &str, words: &str| {
        let text = format!("host={host} port={} user=postgres dbname=postgres {words}", server.port);
        Session::open(&address(&text), &Stop::default()).map(|session| session.is_encrypted())
    };
    let root = format!("sslrootcert={}", server.certificate().display());
    assert!(!try_mode("127.0.0.1", "sslmode=disable").unwrap());
    assert!(try_mode("127.0.0.1", "sslmode=prefer").unwrap());
    assert!(try_mode("127.0.0.1", "sslmode=require").unwrap());
    assert!(try_mode("127.0.0.1", &format!("sslmode=verify-ca {root}")).unwrap());
    assert!(try_mode("localhost", &format!("sslmode=verify-full {root}")).unwrap());
    let strange = format!("sslrootcert={}", other.certificate().display());
    for words in [
        format!("sslmode=verify-full {root}"),
        format!("sslmode=verify-ca {strange}"),
        format!("sslmode=require {strange}"),
    ] {
        let error = try_mode("127.0.0.1", &words).unwrap_err();
        assert!(matches!(error, PgError::Tls { .. }), "{words}: {error}");
    }
    let plain = Server::with(15, ServerOptions { tcp: true, ..ServerOptions::default() });
    let text = format!("host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=require", plain.port);
    assert!(matches!(error_of(&address(&text)), PgError::Tls { .. }));
    // A lot of data passes TLS unchanged.
    let text = format!("host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=require", server.port);
    let mut session = Session::open(&address(&text), &Stop::default()).unwrap();
    session.run("CREATE TABLE public.t(i int, x text)").unwrap();
    let rows: String = (0..50_000).map(|i| format!("{i}\t{}\n", "x".repeat(i % 200))).collect();
    session.copy_in("COPY public.t FROM STDIN", &mut rows.as_bytes(), &|_| ()).unwrap();
    let mut back = Vec::new();
    session
        .copy_out("COPY public.t TO STDOUT", |row| {
            back.extend_from_slice(row);
            Ok(())
        })
        .unwrap();
    let digest = |bytes: &[u8]| {
        let mut digest = RowDigest::default();
        digest.take(bytes);
        digest.facts()
    };
    assert_eq!(digest(&back), digest(rows.as_bytes()));
}

#[test]
fn nobody_there_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let error = error_of(&address(&format!("host={} user=x", folder.path().display())));
    assert!(matches!(error, PgError::Unreachable { .. }), "{error}");
    assert_eq!(error.class(), Some(FailureClass::Connection));
}

#[test]
fn stopping_ends_the_statement_at_the_server_too() {
    let server = Server::start(15);
    let stop = Stop::default();
    let mut session = Session::open(&address(&server.url("postgres")), &stop).unwrap();
    let asked = stop.clone();
    let mut watcher = open(&server, "postgres");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()";
    let until = Instant::now() + Duration::from_secs(30);
    let sleeper = std::thread::spawn(move || session.run("SELECT pg_sleep(600)").err().unwrap());
    while watcher.value(running).unwrap() != "1" {
        assert!(Instant::now() < until, "the statement never began");
    }
    asked.now();
    assert!(matches!(sleeper.join().unwrap(), PgError::Stopped(_)));
    while watcher.value(running).unwrap() != "0" {
        assert!(Instant::now() < until, "the statement runs on without us");
    }
}

#[test]
fn a_server_that_dies_is_noticed() {
    let mut server = Server::start(16);
    let mut session = open(&server, "postgres");
    server.crash_and_restart();
    let error = session.run("SELECT 1").unwrap_err();
    assert_eq!(error.class(), Some(FailureClass::Connection), "{error}");
    assert!(session.run("SELECT 1").is_err());
}

/// A pooler in front of a server, in one of its modes.
fn pooler(server: &Server, mode: &str) -> (tempfile::TempDir, std::process::Child) {
    let folder = tempfile::Builder::new().prefix("lbpb").tempdir().unwrap();
    let show = folder.path().display();
    fs::write(
        folder.path().join("pooler.ini"),
        format!(
            "[databases]\n* = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {show}\n\
             auth_type = any\npool_mode = {mode}\nignore_startup_parameters = extra_float_digits,options\n",
            server.socket_folder().display(),
            server.port
        ),
    )
    .unwrap();
    let open_up =
        |mode| fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    open_up(0o777);
    let child = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "--pdeathsig", "KILL", "--", "pgbouncer", "-q"])
        .arg(folder.path().join("pooler.ini"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(folder.path().join(".s.PGSQL.6432")).is_err() {
        assert!(Instant::now() < until, "the pooler does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    (folder, child)
}

/// Transaction poolers break snapshots: they are seen, and what to use instead is said.
#[test]
fn trap_transaction_poolers_break_snapshots() {
    let server = Server::start(15);
    for (mode, good) in [("transaction", false), ("session", true)] {
        let (folder, mut child) = pooler(&server, mode);
        let through = address(&format!("host={} port=6432 user=postgres dbname=postgres", folder.path().display()));
        let answer = refuse_pooler(&through, &Stop::default());
        child.kill().unwrap();
        child.wait().unwrap();
        match answer {
            Ok(()) => assert!(good, "{mode}"),
            Err(error) => assert!(!good && error.to_string().contains("pooler in session mode"), "{mode}: {error:?}"),
        }
    }
    refuse_pooler(&address(&server.url("postgres")), &Stop::default()).unwrap();
}

/// Rows that go within a message of several statements, in front of a server and through poolers of either mode: all or nothing,
/// and when a statement fails, wherever it is, what was sent for nothing harms nobody.
#[test]
fn rows_go_within_a_message_through_poolers_too() {
    let server = Server::start(15);
    let rows: Vec<u8> =
        (0..60_000).flat_map(|at| format!("{at}\tsome text that takes a little room\n").into_bytes()).collect();
    let beside = "CREATE TEMP TABLE beside ON COMMIT DROP AS SELECT * FROM public.t WITH NO DATA; COPY pg_temp.beside FROM STDIN;
                  INSERT INTO public.t SELECT n + 100000, v FROM pg_temp.beside";
    let mut session = Session::open(&address(&server.url("postgres")), &Stop::default()).unwrap();
    session.run("CREATE TABLE public.t (n int PRIMARY KEY, v text)").unwrap();
    for mode in ["none", "transaction", "session"] {
        let behind = (mode != "none").then(|| pooler(&server, mode));
        let way = match &behind {
            None => server.url("postgres"),
            Some((folder, _)) => format!("host={} port=6432 user=postgres dbname=postgres", folder.path().display()),
        };
        let mut session = Session::open(&address(&way), &Stop::default()).unwrap();
        let both = format!("COPY public.t FROM STDIN; {beside}");
        for (sql, said) in [
            (format!("SELECT 1 / 0; {both}"), "22012"),
            (format!("COPY public.t FROM STDIN; SELECT 1 / 0; {beside}"), "22012"),
            (format!("{both}; SELECT 1 / 0"), "22012"),
            (format!("{both}; INSERT INTO public.t SELECT n, v FROM public.t"), "23505"),
        ] {
            match session.run_with(&sql, &[&rows, &rows]) {
                Err(PgError::Refused { said: told, .. }) => assert_eq!(told.code, said, "{mode}: {sql}"),
                other => panic!("{mode}: {sql}: {other:?}"),
            }
            assert_eq!(session.value("SELECT count(*) FROM public.t").unwrap(), "0", "{mode}: {sql}");
        }
        session.run_with(&both, &[&rows, &rows]).unwrap();
        assert_eq!(session.value("SELECT count(*) FROM public.t").unwrap(), "120000", "{mode}");
        assert_eq!(session.value("SELECT to_regclass('pg_temp.beside') IS NULL").unwrap(), "t", "{mode}");
        session.run("TRUNCATE public.t").unwrap();
        drop(session);
        if let Some((_, mut child)) = behind {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
