//! The program is really killed (`SIGKILL`) right after every line of the journal of a backup and of a restore; what it
//! left is resumed or aborted by another process. The shop is wholly old or wholly new, and the vault is whole. The same
//! for a shop on a PostgreSQL server.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use lifeboat_model::ResourceKind;
use lifeboat_testkit::{
    postgres::{Server, client_programs},
    world::{content, make_shop, sell},
};

const BACKUP: [&str; 2] = ["backup", "sqlite:./shop.db"];
const RESTORE: [&str; 4] = ["restore", "shop", "--confirm", "shop/local"];

/// A folder with a shop, a vault and a state folder; for a shop on a server, with its address.
struct Place(tempfile::TempDir, String);

impl Place {
    fn with_shop() -> Place {
        let place = Place(tempfile::tempdir().unwrap(), BACKUP[1].to_owned());
        make_shop(&place.path("shop.db"), 30);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn copy(&self) -> Place {
        let copy = Place(tempfile::tempdir().unwrap(), self.1.clone());
        let done = Command::new("cp").arg("-a").arg(self.path(".")).arg(copy.path("")).status().unwrap();
        assert!(done.success());
        copy
    }

    fn lifeboat(&self, args: &[&str], failpoint: Option<usize>) -> Output {
        self.command(args, failpoint).output().unwrap()
    }

    fn command(&self, args: &[&str], failpoint: Option<usize>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.current_dir(self.0.path()).args(args);
        if !args.contains(&self.1.as_str()) {
            command.args(["--for", &self.1]);
        }
        command.args(["--vault", "./vault", "--state", "./state", "--yes"]);
        command.env_clear().env("LIFEBOAT_VAULT_PASSWORD", "secret").env("PATH", path());
        command.env("HOME", self.0.path()).env("NO_COLOR", "1");
        if let Some(line) = failpoint {
            command.env("LIFEBOAT_FAILPOINT", format!("journal:{line}"));
        }
        command
    }

    fn must(&self, args: &[&str]) -> Output {
        let output = self.lifeboat(args, None);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        output
    }

    fn killed_at(&self, args: &[&str], line: usize) {
        let killed = self.lifeboat(args, Some(line));
        assert_eq!(killed.status.signal(), Some(9), "line {line}: {}", said(&killed));
    }

    fn shop(&self) -> String {
        content(&ResourceKind::Sqlite { path: self.path("shop.db") })
    }

    /// Lines of the newest journal.
    fn journal_lines(&self) -> usize {
        let entries = fs::read_dir(self.path("state/operations")).unwrap().map(|entry| entry.unwrap().path());
        let newest = entries.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap();
        fs::read_to_string(newest).unwrap().lines().count()
    }

    /// Nothing half-done lies about, and the vault is whole.
    fn is_tidy(&self, what: &str) {
        for folder in ["state/staging", "state/sandbox"] {
            let left = names_in(&self.path(folder));
            assert!(left.is_empty(), "{what}: {left:?}");
        }
        let mut left = names_in(self.0.path());
        left.retain(|name| name.contains(".lifeboat-") || name.contains(".partial"));
        assert!(left.is_empty(), "{what}: {left:?}");
        self.must(&["vault", "check"]);
    }
}

/// Where programs are found, a `pg_dump` for servers up to 16 among them.
fn path() -> String {
    format!("{}:{}", client_programs(16).display(), std::env::var("PATH").unwrap())
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{:?}\n{out}{err}", output.status)
}

#[test]
fn a_backup_killed_at_every_journal_line_is_resumed_aborted_or_taken_again() {
    let template = Place::with_shop();
    let shop = template.shop();
    let clean = template.copy();
    clean.must(&BACKUP);
    let lines = clean.journal_lines();
    assert!(lines > 10, "{lines} lines");
    for line in 0..lines {
        let place = template.copy();
        place.killed_at(&BACKUP, line);
        // The last line closes the operation: then there is nothing to continue.
        if line + 1 < lines {
            match line % 3 {
                0 => {
                    place.must(&["resume"]);
                }
                1 => {
                    let aborted = place.lifeboat(&["abort"], None);
                    assert!(matches!(aborted.status.code(), Some(0 | 1)), "line {line}: {}", said(&aborted));
                }
                _ => {} // the next backup puts the killed one back by itself
            }
        }
        place.must(&BACKUP);
        place.must(&["restore", "shop", "--into", "./out.db"]);
        assert_eq!(content(&ResourceKind::Sqlite { path: place.path("out.db") }), shop, "line {line}");
        place.is_tidy(&format!("line {line}"));
    }
}

#[test]
fn a_restore_killed_at_every_journal_line_ends_wholly_old_or_wholly_new() {
    let template = Place::with_shop();
    let new = template.shop();
    template.must(&BACKUP);
    sell(&rusqlite::Connection::open(template.path("shop.db")).unwrap(), 11);
    let old = template.shop();
    assert_ne!(old, new);
    let clean = template.copy();
    clean.must(&RESTORE);
    assert_eq!(clean.shop(), new);
    let lines = clean.journal_lines();
    for line in 0..lines {
        for verb in ["resume", "abort"] {
            let place = template.copy();
            place.killed_at(&RESTORE, line);
            if line + 1 == lines {
                assert_eq!(place.shop(), new, "killed after the last line");
                continue;
            }
            let ended = place.lifeboat(&[verb], None);
            let what = format!("line {line}, {verb}: {}", said(&ended));
            match (verb, ended.status.code()) {
                ("resume", Some(0)) => assert_eq!(place.shop(), new, "{what}"),
                ("abort", Some(0 | 1)) => assert_eq!(place.shop(), old, "{what}"),
                // Past the point of no return abort is refused, and resume finishes.
                ("abort", Some(3)) => {
                    place.must(&["resume"]);
                    assert_eq!(place.shop(), new, "{what}");
                }
                _ => panic!("{what}"),
            }
            place.is_tidy(&what);
        }
    }
}

/// A server with a database `pristine`, from which each round makes its shop anew.
fn server_with_shop() -> Server {
    let server = Server::start(15);
    server.sql("postgres", "CREATE DATABASE pristine");
    server.sql(
        "pristine",
        "CREATE TABLE customers (id bigserial PRIMARY KEY, email text UNIQUE);
         CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint REFERENCES customers, cents int);
         INSERT INTO customers (email) SELECT 'c' || n FROM generate_series(1, 20) AS n;
         INSERT INTO orders (customer, cents) SELECT 1 + n % 20, n FROM generate_series(1, 300) AS n",
    );
    server
}

/// Takes away every database of a former round, and makes a shop in which things were sold since the backup.
fn make_anew(server: &Server) {
    let list = "SELECT datname FROM pg_database WHERE datname LIKE 'shop%'";
    for name in server.sql("postgres", list).lines() {
        server.sql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
    }
    server.sql("postgres", "CREATE DATABASE shop TEMPLATE pristine");
    server.sql("shop", "INSERT INTO orders (customer, cents) SELECT 1, 1000 FROM generate_series(1, 11)");
}

fn orders(server: &Server) -> String {
    // Writes too: neither a fence nor a closed database is left.
    server.sql("shop", "UPDATE customers SET email = email");
    server.sql("shop", "SELECT count(*) || ' ' || sum(cents) FROM orders")
}

#[test]
fn a_restore_on_a_server_killed_at_every_journal_line_is_resumed() {
    kill_a_restore_on_a_server_and("resume");
}

#[test]
fn a_restore_on_a_server_killed_at_every_journal_line_is_aborted() {
    kill_a_restore_on_a_server_and("abort");
}

/// At every line; it ends wholly old or wholly new.
fn kill_a_restore_on_a_server_and(verb: &str) {
    let server = server_with_shop();
    let template = Place(tempfile::tempdir().unwrap(), format!("postgres:{}", server.url("shop")));
    server.sql("postgres", "CREATE DATABASE shop TEMPLATE pristine");
    let new = orders(&server);
    template.must(&["backup", &template.1]);
    make_anew(&server);
    let old = orders(&server);
    assert_ne!(old, new);
    let clean = template.copy();
    clean.must(&RESTORE);
    assert_eq!(orders(&server), new);
    let lines = clean.journal_lines();
    assert!(lines > 10, "{lines} lines");
    for line in 0..lines {
        make_anew(&server);
        let place = template.copy();
        place.killed_at(&RESTORE, line);
        if line + 1 == lines {
            assert_eq!(orders(&server), new, "killed after the last line");
            continue;
        }
        let ended = place.lifeboat(&[verb], None);
        let what = format!("line {line}, {verb}: {}", said(&ended));
        match (verb, ended.status.code()) {
            ("resume", Some(0)) => assert_eq!(orders(&server), new, "{what}"),
            ("abort", Some(0 | 1)) => assert_eq!(orders(&server), old, "{what}"),
            // Past the point of no return abort is refused, and resume finishes.
            ("abort", Some(3)) => {
                place.must(&["resume"]);
                assert_eq!(orders(&server), new, "{what}");
            }
            _ => panic!("{what}"),
        }
        let aside = "SELECT count(*) FROM pg_database WHERE datname LIKE 'shop_lifeboat_%'";
        assert_eq!(server.sql("postgres", aside), "0", "{what}");
        place.is_tidy(&what);
    }
}

/// Sends a signal to a process of the server.
fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").args([name, process]).status().unwrap().success());
}

/// A session that does not hear holds the swap up right between ending sessions and renaming. There the program is killed:
/// the server takes all of it back, and clients are let in with nobody having typed anything.
#[test]
fn a_program_killed_in_the_middle_of_a_swap_leaves_the_database_open() {
    let server = server_with_shop();
    let place = Place(tempfile::tempdir().unwrap(), format!("postgres:{}", server.url("shop")));
    server.sql("postgres", "CREATE DATABASE shop TEMPLATE pristine");
    let new = orders(&server);
    place.must(&["backup", &place.1]);
    make_anew(&server);
    let mut deaf = server.psql("postgres", "shop");
    let deaf = deaf.args(["-c", "SELECT pg_sleep(600)"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut deaf = deaf.spawn().unwrap();
    let find = "SELECT pid FROM pg_stat_activity WHERE datname = 'shop' AND query LIKE 'SELECT pg_sleep%'";
    let process = loop {
        let found = server.sql("postgres", find);
        if !found.is_empty() {
            break found;
        }
    };
    signal("-STOP", &process);
    let mut restoring = place.command(&RESTORE, None).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let renames = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'ALTER DATABASE%RENAME%' AND state = 'active'
                      AND pid <> pg_backend_pid()";
    while server.sql("postgres", renames) != "1" {
        assert!(restoring.try_wait().unwrap().is_none(), "it must come to the swap");
    }
    restoring.kill().unwrap();
    restoring.wait().unwrap();
    signal("-CONT", &process);
    deaf.wait().unwrap();
    assert_eq!(server.sql("shop", "SELECT count(*) FROM orders"), "311");
    let open = "SELECT datallowconn FROM pg_database WHERE datname = 'shop'";
    assert_eq!(server.sql("postgres", open), "t");
    place.must(&["resume"]);
    assert_eq!(orders(&server), new);
    place.is_tidy("killed in the swap");
}
