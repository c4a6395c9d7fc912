//! How long clients are refused while `examples/service-center` is rolled back beside two gigabytes of other tables, with a client that
//! writes all the time; and how near the product's own predictions come over ten rehearsals. Prints seconds; never a test.
//!
//! `cargo run --release -p lifeboat-testkit --example rollback_rehearsed -- LIFEBOAT FOLDER [SCALE]`; `./bench` does it all.
//! SCALE 1.0 is 2.3 GB of other tables; with 0.01 the run takes a minute, and its figures say little.
//!
//! No other program does this, so there is no ratio to one: what is wanted is said beside what came out.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints and ends on errors"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use lifeboat_testkit::postgres::{Server, ServerOptions, client_programs};
use serde_json::Value;

const MAJOR: u32 = 15;
const DATABASE: &str = include_str!("realistic_database.sql");
const SCOPE: &str = "service-center/staging";
const REHEARSALS: usize = 10;

fn main() {
    let mut args = std::env::args().skip(1);
    let usage = "usage: rollback_rehearsed LIFEBOAT FOLDER [SCALE]";
    let lifeboat = fs::canonicalize(args.next().expect(usage)).unwrap();
    let folder = PathBuf::from(args.next().expect(usage)).join("rollback-rehearsed");
    let scale: f64 = args.next().map_or(1.0, |text| text.parse().unwrap());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("app")).unwrap();
    let options = ServerOptions::default().set("shared_buffers", "512MB").set("max_wal_size", "4GB");
    let server = Server::with(MAJOR, options);
    server.sql("postgres", "CREATE DATABASE center");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bench = Bench { lifeboat, folder, server, port };
    bench.run(scale);
    bench.shell("python3 app.py stop");
    fs::remove_dir_all(&bench.folder).unwrap();
}

struct Bench {
    lifeboat: PathBuf,
    folder: PathBuf,
    server: Server,
    port: u16,
}

impl Bench {
    fn app(&self) -> PathBuf {
        self.folder.join("app")
    }

    fn run(&self, scale: f64) {
        self.set_up(scale);
        let bytes: u64 = self.server.sql("center", "SELECT pg_database_size('center')").trim().parse().unwrap();
        println!("one database, {} MB, PostgreSQL {MAJOR}, and a client that writes all the time\n", bytes / 1_000_000);
        println!("{:<34} {:>8} {:>10}   by phases", "", "whole s", "refused s");

        self.use_version("app-2");
        self.rolled_back("app-only", "app-1", "app-only", "wanted: at most 5");
        self.use_version("main");
        let bare = self.rolled_back("full", "phase-1", "full, nothing lies ready", "");
        self.lifeboat(&["checkpoint", "--unproven", "--shadow", "--label", "ready"]);
        self.use_version("main");
        self.rolled_back("full", "ready", "full, with a shadow", "wanted: at most 10");
        let fetched = bare.iter().filter(|(name, _)| ["restore", "verify"].contains(&name.as_str()));
        let fetched: f64 = fetched.map(|(_, seconds)| seconds).sum();
        println!(
            "{:<34} {:>19.1}   wanted of the one without: at most restore and comparison, {fetched:.1} s, + 10",
            "",
            fetched + 10.0
        );
        self.rehearse();
        let begun = Instant::now();
        self.try_lifeboat(&["decide", "--rest-is-fine"]);
        println!("{:<34} {:>8.2} {:>10}   wanted: less than 1", "decide", begun.elapsed().as_secs_f64(), "");
    }

    /// Version 1.0 of the example runs, with its data beside other tables; two more of the same schema, and 2.0, are committed.
    fn set_up(&self, scale: f64) {
        self.server.sql("center", &format!("\\set scale {scale}\n{DATABASE}"));
        // The example has a table and a function of these names too.
        self.server.sql("center", "ALTER TABLE customers RENAME TO buyers; ALTER FUNCTION touch() RENAME TO touched");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/service-center");
        self.shell(&format!("cp -R {}/. .", example.display()));
        fs::write(
            self.app().join(".env"),
            format!("PORT={}\nSUPABASE_DB_URL={}\n", self.port, self.server.url("center")),
        )
        .unwrap();
        let settings = fs::read_to_string(self.app().join("lifeboat.toml")).unwrap();
        let settings = settings
            .replace("environments.production", "environments.staging")
            .replace("127.0.0.1:3025", &format!("127.0.0.1:{}", self.port));
        fs::write(self.app().join("lifeboat.toml"), settings).unwrap();
        self.shell(
            "git init --quiet --initial-branch=main . && mkdir ../later && mv supabase/migrations/20251020* ../later",
        );
        for (version, tag) in [("1.0", "phase-1"), ("1.1", "app-1"), ("1.2", "app-2")] {
            self.shell(&format!(
                "echo {version} > VERSION && git add . && git commit --quiet -m {version} && git tag {tag}"
            ));
        }
        self.shell("mv ../later/* supabase/migrations && echo 2.0 > VERSION && git add . && git commit --quiet -m 2.0");
        for label in ["app-1", "phase-1"] {
            self.use_version(label);
            self.lifeboat(&["checkpoint", "--unproven", "--label", label]);
        }
    }

    /// Puts a version in use as somebody would by hand, migrations and all.
    fn use_version(&self, name: &str) {
        self.shell(&format!(
            "set -e; commit=$(git rev-parse {name}); [ -d releases/$commit ] || git worktree add --quiet --detach releases/$commit $commit
             python3 app.py stop; ln -sfn releases/$commit current; python3 current/app.py migrate; python3 current/app.py start"
        ));
    }

    /// Goes back, while a client writes; gives each phase and its seconds.
    fn rolled_back(&self, profile: &str, to: &str, what: &str, wanted: &str) -> Vec<(String, f64)> {
        let client = Client::start(self.port);
        let words =
            ["rollback", to, "--profile", profile, "--reason", "measured", "--confirm", SCOPE, "--yes", "--json"];
        let begun = Instant::now();
        let done = self.lifeboat(&words);
        let whole = begun.elapsed().as_secs_f64();
        // Whoever was refused longest may be served only now.
        std::thread::sleep(Duration::from_secs(1));
        let refused = client.end();
        let phases = phases(&done);
        let told: Vec<String> =
            phases.iter().filter(|(_, took)| *took >= 0.1).map(|(name, took)| format!("{name} {took:.1}")).collect();
        println!("{what:<34} {whole:>8.1} {refused:>10.1}   {} {wanted}", told.join(", "));
        phases
    }

    /// The same rollback again and again: what was expected beside what it took.
    fn rehearse(&self) {
        let mut near = 0;
        let mut judged = 0;
        for number in 1..=REHEARSALS {
            self.use_version("main");
            let shown = self.lifeboat(&["rehearse", "rollback", "phase-1", "--dry-run", "--json"]);
            let notes = shown["notes"].as_array().cloned().unwrap_or_default();
            let expected = notes.iter().filter_map(Value::as_str).find_map(seconds_expected);
            let done = self.lifeboat(&["rehearse", "rollback", "phase-1", "--confirm", SCOPE, "--json"]);
            let took = done["rehearsal"]["took_ms"].as_f64().unwrap() / 1e3;
            match expected {
                None => println!("  rehearsal {number:>2}: nothing was expected, {took:.1} s"),
                Some(expected) => {
                    judged += 1;
                    let off = (took / expected - 1.0) * 100.0;
                    near += usize::from(off.abs() <= 25.0);
                    println!("  rehearsal {number:>2}: {expected:.1} s expected, {took:.1} s, {off:+.0} %");
                }
            }
        }
        println!("  {near} of {judged} predictions came within 25 %");
    }

    fn lifeboat(&self, words: &[&str]) -> Value {
        let output = self.try_lifeboat(words);
        let said = [&output.stdout[..], &output.stderr].concat();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn try_lifeboat(&self, words: &[&str]) -> Output {
        self.command(Command::new(&self.lifeboat).args(words)).output().unwrap()
    }

    fn shell(&self, text: &str) {
        let output = self.command(Command::new("bash").args(["-c", text])).output().unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let mut programs = vec![client_programs(MAJOR)];
        programs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "center").env(format!("GIT_{who}_EMAIL"), "center@localhost");
        }
        command
            .env("PATH", std::env::join_paths(programs).unwrap())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("LIFEBOAT_VAULT_PASSWORD", "bench")
            .env("XDG_STATE_HOME", self.folder.join("state"))
            .current_dir(self.app())
            .stdin(std::process::Stdio::null())
    }
}

/// What a plan says that it will take.
fn seconds_expected(note: &str) -> Option<f64> {
    let time = note.strip_prefix("Expected: ")?.split(',').next()?;
    match time.strip_suffix(" s") {
        Some(seconds) => seconds.parse().ok(),
        None => time.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?)),
    }
}

fn phases(done: &Value) -> Vec<(String, f64)> {
    let of = |phase: &Value| Some((phase["name"].as_str()?.to_owned(), phase["took_ms"].as_f64()? / 1e3));
    done["phases"].as_array().into_iter().flatten().filter_map(of).collect()
}

/// A client that makes tickets as fast as it is let.
struct Client {
    over: Arc<AtomicBool>,
    longest: Arc<Mutex<Duration>>,
    thread: JoinHandle<()>,
}

impl Client {
    fn start(port: u16) -> Client {
        let (over, longest) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Duration::ZERO)));
        let (ends, noted) = (over.clone(), longest.clone());
        let thread = std::thread::spawn(move || {
            let mut served = Instant::now();
            while !ends.load(Ordering::SeqCst) {
                match makes_a_ticket(port) {
                    true => {
                        let mut longest = noted.lock().unwrap();
                        *longest = longest.max(served.elapsed());
                        served = Instant::now();
                    }
                    false => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        });
        Client { over, longest, thread }
    }

    /// The longest time between two tickets that were made, in seconds.
    fn end(self) -> f64 {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        self.longest.lock().unwrap().as_secs_f64()
    }
}

fn makes_a_ticket(port: u16) -> bool {
    let body = "{\"title\":\"from the client\"}";
    let ask = || -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "POST /api/tickets HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1).map(str::to_owned)
    };
    ask().as_deref() == Some("201")
}
