//! The product beside its peers on one PostgreSQL database, in one run: `lifeboat` (the release binary) beside `pg_dump` in
//! its formats, `pgbackrest` where it is installed, `pg_restore -j2` and `psql`. Prints seconds, CPU seconds, bytes and ratios; never a test.
//!
//! `cargo run --release -p lifeboat-testkit --example postgres_side_by_side -- LIFEBOAT FOLDER [SCALE]`; `./bench` does it all.
//! SCALE 1.0 is a database of 2.3 GB; with 0.01 the run takes a minute and its figures say nothing.
//!
//! They do not do the same: `lifeboat backup` encrypts, deduplicates, digests every row and reads back what it stored;
//! `lifeboat restore` compares every row with what was captured, makes the planner's statistics, keeps what was there.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints and ends on errors"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use lifeboat_io::{
    Stop, SystemEnv,
    database::postgres::{Address, Selection, Session, fingerprint},
};
use lifeboat_testkit::postgres::{Server, ServerOptions, client_programs};
use serde_json::Value;

const PASSWORD: &str = "bench";
const MAJOR: u32 = 15;
const DATABASE: &str = include_str!("realistic_database.sql");

/// What one program took.
#[derive(Clone, Copy)]
struct Took {
    seconds: f64,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let usage = "usage: postgres_side_by_side LIFEBOAT FOLDER [SCALE]";
    let lifeboat = fs::canonicalize(args.next().expect(usage)).unwrap();
    let folder = PathBuf::from(args.next().expect(usage)).join("postgres-side-by-side");
    let scale: f64 = args.next().map_or(1.0, |text| text.parse().unwrap());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    // As a small server that somebody has tuned a little; what tests set for speed alone (fsync) holds for all alike.
    let options = ServerOptions::default().set("shared_buffers", "512MB").set("max_wal_size", "4GB");
    let server = Server::with(MAJOR, options);
    let bench = Bench { lifeboat, folder, server };
    bench.run(scale);
    fs::remove_dir_all(&bench.folder).unwrap();
}

struct Bench {
    lifeboat: PathBuf,
    folder: PathBuf,
    server: Server,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn run(&self, scale: f64) {
        self.server.sql("postgres", "CREATE DATABASE shop");
        self.server.sql("shop", &format!("\\set scale {scale}\n{DATABASE}"));
        let bytes: u64 = self.server.sql("shop", "SELECT pg_database_size('shop')").parse().unwrap();
        println!("one database, {} MB, PostgreSQL {MAJOR}\n", bytes / 1_000_000);
        println!("{:<44} {:>8} {:>8} {:>8} {:>9} {:>8}", "", "wall s", "own cpu", "server", "peak MiB", "MiB");

        let name = format!("postgres:{}", self.server.url("shop"));
        let ours = self.lifeboat("lifeboat backup", &["backup", &name], Some("vault"));
        let stored = size(&self.path("vault"));
        let custom = self.dump("pg_dump -Fc", &["-Fc", "-f", "custom"], "custom");
        let folder = self.dump("pg_dump -Fd -j2", &["-Fd", "-j2", "-f", "folder"], "folder");
        let plain_folder = self.dump("pg_dump -Fd -j2 -Z0", &["-Fd", "-j2", "-Z0", "-f", "raw"], "raw");
        self.dump("pg_dump (plain)", &["-f", "plain.sql"], "plain.sql");
        let physical = self.pgbackrest();
        let custom_bytes = size(&self.path("custom"));

        self.server.sql("shop", CHANGES);
        let second = self.lifeboat("lifeboat backup, 1 % changed in clusters", &["backup", &name], Some("vault"));
        let added = size(&self.path("vault")) - stored;
        let second_custom = self.dump("pg_dump -Fc", &["-Fc", "-f", "custom"], "custom");

        let preview =
            self.lifeboat("loss preview: restore --dry-run", &["restore", "shop", "--dry-run", "--for"], None);
        let printed = self.fingerprint();
        let restored =
            self.lifeboat("lifeboat restore", &["restore", "shop", "--confirm", "shop/local", "--for"], None);
        let steps = self.last_operation();
        let step =
            |name: &str| steps.iter().find(|(step, ..)| step.ends_with(name)).map_or(0.0, |(_, seconds, _)| *seconds);
        let gap = steps.iter().find_map(|(_, _, output)| output["closed_ms"].as_u64());
        for (name, seconds, _) in steps.iter().filter(|(_, seconds, _)| *seconds >= 0.05) {
            println!("    {name:<42} {seconds:>8.2}");
        }
        let (fill, check) = (step("fill"), step("check"));
        let (peer, analyzed) =
            self.restore("pg_restore -j2 (from -Fc)", "pg_restore", &["-j2", "-d", "copy", "custom"]);
        let (peer_folder, _) =
            self.restore("pg_restore -j2 (from -Fd)", "pg_restore", &["-j2", "-d", "copy", "folder"]);
        let (psql, _) =
            self.restore("psql (plain)", "psql", &["-qX", "-o", "/dev/null", "-d", "copy", "-f", "plain.sql"]);

        println!("\nratios (less is better for lifeboat)");
        let says = |what: &str, ratio: f64, wanted: &str| println!("  {what:<52} {ratio:>6.2}   {wanted}");
        says("backup: lifeboat / pg_dump -Fc", ours.seconds / custom.seconds, "(wanted: at most 0.2)");
        says("backup: lifeboat / pg_dump -Fd -j2", ours.seconds / folder.seconds, "(wanted: at most 0.35)");
        says("backup: lifeboat / pg_dump -Fd -j2 -Z0", ours.seconds / plain_folder.seconds, "");
        if let Some(physical) = physical {
            says("backup: lifeboat / pgBackRest full, lz4", ours.seconds / physical.seconds, "(wanted: at most 1)");
        }
        says("second backup: lifeboat / pg_dump -Fc", second.seconds / second_custom.seconds, "");
        says("stored bytes: lifeboat / pg_dump -Fc", stored as f64 / custom_bytes as f64, "");
        says("second backup: bytes added / first", added as f64 / stored as f64, "(wanted: at most 0.05)");
        says("fill: lifeboat / pg_restore -j2", fill / peer.seconds, "(wanted: at most 0.85)");
        let ready = peer.seconds + analyzed.seconds;
        says("fill: lifeboat / pg_restore -j2 with statistics", fill / ready, "(a fill makes them too)");
        says("fill and compare: lifeboat / pg_restore -j2", (fill + check) / peer.seconds, "");
        says("fill: lifeboat / pg_restore -j2 from a folder", fill / peer_folder.seconds, "");
        says("whole restore: lifeboat / pg_restore -j2", restored.seconds / peer.seconds, "");
        says("fill: lifeboat / psql", fill / psql.seconds, "(wanted: at most 0.65)");
        says("whole restore: lifeboat / psql", restored.seconds / psql.seconds, "");
        println!("  {:<52} {:>6.2} s", "loss preview with its plan", preview.seconds);
        println!("  {:<52} {printed:>6.3} s", "fingerprint");
        println!("  {:<52} {:>6} ms", "swap: the database was closed for", gap.map_or("?".into(), |ms| ms.to_string()));
    }

    /// Runs the program on the database; with the name of a folder its size is shown.
    fn lifeboat(&self, what: &str, words: &[&str], made: Option<&str>) -> Took {
        let name = format!("postgres:{}", self.server.url("shop"));
        let mut command = self.timed(&self.lifeboat, words);
        if words.last() == Some(&"--for") {
            command.arg(name);
        }
        command.args(["--vault", "./vault", "--state", "./state", "-q"]).env("LIFEBOAT_VAULT_PASSWORD", PASSWORD);
        if words[0] == "backup" || words.contains(&"--confirm") {
            command.arg("--yes");
        }
        self.run_timed(what, command, made)
    }

    fn dump(&self, what: &str, words: &[&str], made: &str) -> Took {
        let made_at = self.path(made);
        let _ = if made_at.is_dir() { fs::remove_dir_all(&made_at) } else { fs::remove_file(&made_at) };
        let mut command = self.timed(&client_programs(MAJOR).join("pg_dump"), words);
        command.arg("shop");
        self.run_timed(what, command, Some(made))
    }

    /// A full copy of the whole cluster with two processes, without the archive that it would need to be used.
    fn pgbackrest(&self) -> Option<Took> {
        let program = Path::new("/usr/bin/pgbackrest");
        if !program.exists() {
            println!("  pgBackRest is not installed: apt-get install pgbackrest");
            return None;
        }
        let folder = self.path("pgbackrest");
        let words = [
            "--no-config".to_owned(),
            "--stanza=bench".to_owned(),
            format!("--pg1-path={}", self.server.data_folder().display()),
            format!("--pg1-socket-path={}", self.server.socket_folder().display()),
            format!("--pg1-port={}", self.server.port),
            "--pg1-user=postgres".to_owned(),
            format!("--repo1-path={}", folder.join("repo").display()),
            format!("--lock-path={}", folder.join("lock").display()),
            "--log-level-file=off".to_owned(),
            "--log-level-console=off".to_owned(),
        ];
        let output = Command::new(program).args(&words).arg("stanza-create").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.extend(["--type=full", "--compress-type=lz4", "--process-max=2", "--no-archive-check", "--start-fast"]);
        words.extend(["--repo1-retention-full=2", "backup"]);
        Some(self.run_timed("pgBackRest full, lz4", self.timed(program, &words), Some("pgbackrest/repo")))
    }

    /// Fills a new database; and then makes the planner's statistics, as `lifeboat restore` does.
    fn restore(&self, what: &str, program: &str, words: &[&str]) -> (Took, Took) {
        self.server.sql("postgres", "DROP DATABASE IF EXISTS copy WITH (FORCE)");
        self.server.sql("postgres", "CREATE DATABASE copy TEMPLATE template0");
        let took = self.run_timed(what, self.timed(&client_programs(MAJOR).join(program), words), None);
        let statistics = ["--analyze-only", "-q", "-j2", "copy"];
        let vacuumdb = self.timed(&client_programs(MAJOR).join("vacuumdb"), &statistics);
        let analyzed = self.run_timed("  and vacuumdb --analyze-only -j2", vacuumdb, None);
        self.server.sql("postgres", "DROP DATABASE copy WITH (FORCE)");
        (took, analyzed)
    }

    fn fingerprint(&self) -> f64 {
        let address = Address::parse(&self.server.url("shop"), &SystemEnv).unwrap();
        let mut session = Session::open(&address, &Stop::default()).unwrap();
        let begun = Instant::now();
        fingerprint(&mut session, &Selection::default()).unwrap();
        begun.elapsed().as_secs_f64()
    }

    fn timed(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/time");
        command.args(["-q", "-o", "time.txt", "-f", "%e %U %S %M"]).arg(program).args(words).current_dir(&self.folder);
        let port = self.server.port.to_string();
        command.env("PGHOST", self.server.socket_folder()).env("PGPORT", port).env("PGUSER", "postgres");
        command
    }

    fn run_timed(&self, what: &str, mut command: Command, made: Option<&str>) -> Took {
        // Nobody pays for what was written before.
        self.server.sql("postgres", "CHECKPOINT");
        Command::new("sync").status().unwrap();
        let server_before = self.server_cpu();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        let numbers = fs::read_to_string(self.path("time.txt")).unwrap();
        let numbers: Vec<f64> = numbers.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let (seconds, cpu, peak) = (numbers[0].max(0.01), numbers[1] + numbers[2], numbers[3] / 1024.0);
        // Sessions that have just ended are counted when the server has seen it.
        self.server.sql("postgres", "SELECT pg_sleep(0.3)");
        let server = self.server_cpu() - server_before;
        let mib = made.map_or(String::new(), |made| (size(&self.path(made)) >> 20).to_string());
        println!("  {what:<42} {seconds:>8.2} {cpu:>8.2} {server:>8.2} {peak:>9.0} {mib:>8}");
        Took { seconds }
    }

    /// CPU seconds of the server's processes that have ended, and of its first one.
    fn server_cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.server.pid())).unwrap();
        let numbers = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(4);
        numbers.map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
    }

    /// The steps of the newest operation: name, seconds, result.
    fn last_operation(&self) -> Vec<(String, f64, Value)> {
        let journals = fs::read_dir(self.path("state/operations")).unwrap().map(|entry| entry.unwrap().path());
        let journals = journals.filter(|path| path.extension().is_some_and(|end| end == "ndjson"));
        let newest = journals.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap();
        let text = fs::read_to_string(newest).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let finished = lines.filter_map(|line| {
            let event = if line["event"].is_object() { line["event"].clone() } else { line };
            let took = event["took_ms"].as_u64()?;
            Some((event["step"].as_str()?.to_owned(), took as f64 / 1000.0, event["output"].clone()))
        });
        finished.collect()
    }
}

/// Changes 1 % of the rows of the large tables, in twenty clusters each.
const CHANGES: &str = "
    UPDATE narrow SET abalance = abalance + 1 WHERE aid % (SELECT max(aid) / 20 FROM narrow) < (SELECT max(aid) / 2000 FROM narrow);
    UPDATE docs SET body = body || '!' WHERE id % (SELECT max(id) / 20 FROM docs) < (SELECT max(id) / 2000 FROM docs);
    UPDATE blobs SET name = name || '!' WHERE id % (SELECT max(id) / 20 FROM blobs) < (SELECT max(id) / 2000 FROM blobs);
    UPDATE orders SET total = total + 1 WHERE id % (SELECT max(id) / 20 FROM orders) < (SELECT max(id) / 2000 FROM orders);
    UPDATE order_items SET qty = qty + 1
        WHERE order_id % (SELECT max(order_id) / 20 FROM order_items) < (SELECT max(order_id) / 2000 FROM order_items);
    UPDATE events SET kind = kind || '!' WHERE id % (SELECT max(id) / 20 FROM events) < (SELECT max(id) / 2000 FROM events);";

fn size(path: &Path) -> u64 {
    let meta = fs::symlink_metadata(path).unwrap();
    if !meta.is_dir() {
        return meta.len();
    }
    fs::read_dir(path).unwrap().map(|entry| size(&entry.unwrap().path())).sum()
}
