//! A mirror in trouble: an app that is another process writes whatever comes to its mind, and meanwhile the writer, the
//! program, the server and the network between them are killed, cut and starved. After any schedule the cloud holds what
//! the file holds, and nothing that was noted is lost.
//!
//! Each schedule comes out of one number, which a failure names: `LIFEBOAT_MIRROR_SEEDS=7,8` tries others.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use lifeboat_io::{Random, testing::SeededRandom};
use lifeboat_testkit::{
    postgres::Server,
    proxy::{Network, Proxy},
    shim::Shim,
};

/// Schedules that are always tried.
const SEEDS: &[u64] = &[1, 2, 3, 4, 5];
/// Events of a schedule.
const EVENTS: usize = 45;

/// What goes wrong on purpose; each of them has to happen.
const FAULTS: &[&str] = &[
    "the program is killed",
    "the writer is killed",
    "the server is killed",
    "lines are cut",
    "answers are lost",
    "the network stands still",
    "nobody answers",
    "the cloud takes no writes",
    "the disk is full",
    "the disk is full for everybody",
    "the clock jumps ahead",
    "the clock jumps back",
];

struct Shop {
    folder: tempfile::TempDir,
    server: Server,
    proxy: Proxy,
    shim: Shim,
    worker: Option<Child>,
}

impl Shop {
    fn attached() -> Shop {
        let server = Server::start(15);
        server.sql("postgres", "CREATE DATABASE cloud");
        let proxy = Proxy::before(&server);
        let folder = tempfile::tempdir().unwrap();
        let shim = Shim::new(&folder.path().join("shim"));
        let shop = Shop { folder, server, proxy, shim, worker: None };
        std::fs::write(
            shop.path("lifeboat.toml"),
            format!(
                "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n\
                 password = {{ env = \"LIFEBOAT_VAULT_PASSWORD\" }}\n\
                 [environments.local.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\n\
                 [environments.local.links.cloud]\nfrom = \"db\"\nurl = \"{}\"\nenv_file = \"./.env\"\n",
                shop.proxy.url("postgres", "cloud")
            ),
        )
        .unwrap();
        std::fs::write(shop.path(".env"), "SYNC_INTERVAL_MS=50\nSYNC_BATCH_SIZE=7\n").unwrap();
        shop.must_write(
            "PRAGMA journal_mode = wal;
             CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT UNIQUE, age INTEGER, note TEXT);
             CREATE TABLE things (owner INTEGER REFERENCES people ON DELETE CASCADE ON UPDATE CASCADE, n INTEGER, v BLOB,
                                  PRIMARY KEY (owner, n)) WITHOUT ROWID;
             CREATE TABLE words (word TEXT PRIMARY KEY, count INTEGER NOT NULL DEFAULT 0);
             INSERT INTO people VALUES (1, 'one', 1, NULL), (2, 'two', 2, '');
             INSERT INTO things VALUES (1, 1, x'01'), (2, 1, NULL);",
        );
        let attached = shop.lifeboat(&["sync", "attach", "--yes"]).output().unwrap();
        assert!(attached.status.success(), "{attached:?}");
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lifeboat(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(words).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("HOME", self.folder.path()).env("XDG_STATE_HOME", self.path("state"));
        command.env("LIFEBOAT_VAULT_PASSWORD", "a password for tests").env("PATH", std::env::var_os("PATH").unwrap());
        self.shim.around(&mut command);
        command
    }

    /// The writer: a program that knows nothing of us.
    fn writer(&self, statements: &str) -> Child {
        let mut command = Command::new("sqlite3");
        self.shim.around(&mut command);
        let mut child = command
            .args(["-cmd", ".timeout 20000", "-cmd", "PRAGMA foreign_keys = on"])
            .arg(self.path("shop.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Whoever is killed meanwhile reads no more.
        let _ = child.stdin.take().unwrap().write_all(statements.as_bytes());
        child
    }

    fn write(&self, statements: &str) -> Output {
        self.writer(statements).wait_with_output().unwrap()
    }

    fn must_write(&self, statements: &str) {
        let told = self.write(statements);
        assert!(told.status.success() && told.stderr.is_empty(), "{statements}: {told:?}");
    }

    fn file(&self, question: &str) -> String {
        let told = self.write(question);
        assert!(told.status.success(), "{told:?}");
        String::from_utf8(told.stdout).unwrap().trim_end().to_owned()
    }

    fn cloud(&self, question: &str) -> String {
        self.server.sql("cloud", question)
    }

    fn start_worker(&mut self) {
        if self.worker.is_none() {
            let mut command = self.lifeboat(&["sync", "run"]);
            self.worker = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        }
    }

    fn kill_worker(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
    }

    fn status(&self) -> serde_json::Value {
        let told = self.lifeboat(&["sync", "status", "--json"]).output().unwrap();
        serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"))
    }

    /// Delivers until nothing waits.
    fn drain(&self) {
        let began = Instant::now();
        loop {
            let told = self.lifeboat(&["sync", "trigger", "--json"]).output().unwrap();
            let report: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
            if report["drained"] == true {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it does not drain: {told:?}");
        }
    }

    /// Tables of the app, with their columns in their order and how many of them are the key.
    fn tables(&self) -> BTreeMap<String, Vec<String>> {
        let asked = "SELECT m.name || '|' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c
                     WHERE m.type = 'table' AND m.name NOT LIKE '\\_lifeboat%' ESCAPE '\\' AND m.name NOT LIKE 'sqlite%' ORDER BY m.name, c.cid;";
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in self.file(asked).lines() {
            let (table, column) = line.split_once('|').unwrap();
            tables.entry(table.to_owned()).or_default().push(column.to_owned());
        }
        tables
    }

    /// What both sides hold of a table, asked without any of our own code.
    fn both(&self, table: &str, columns: &[String]) -> (String, String) {
        let here: Vec<String> = columns
            .iter()
            .map(|name| format!("CASE WHEN {name} IS NULL THEN '-' ELSE hex(CAST({name} AS BLOB)) END"))
            .collect();
        let here = self.file(&format!("SELECT {} FROM {table};", here.join(" || '|' || ")));
        let kinds = self.cloud(&format!(
            "SELECT column_name || '|' || data_type FROM information_schema.columns WHERE table_schema = 'mirror' AND table_name = '{table}'"
        ));
        let is_bytes = |name: &str| kinds.lines().any(|line| line == format!("{name}|bytea"));
        let there: Vec<String> = columns
            .iter()
            .map(|name| match is_bytes(name) {
                true => format!("coalesce(upper(encode({name}, 'hex')), '-')"),
                false => format!("coalesce(upper(encode(convert_to({name}::text, 'UTF8'), 'hex')), '-')"),
            })
            .collect();
        let there = self.cloud(&format!("SELECT {} FROM mirror.{table}", there.join(" || '|' || ")));
        let sorted = |text: &str| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        };
        (sorted(&here), sorted(&there))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.kill_worker();
    }
}

/// Chance, from one number.
struct Chance(SeededRandom);

impl Chance {
    fn below(&self, limit: u64) -> u64 {
        self.0.bits() % limit
    }

    fn id(&self) -> u64 {
        self.below(30)
    }
}

/// Something that an app may do; not all of it succeeds.
fn statement(chance: &Chance, columns: &mut u32) -> String {
    let (id, other, word) = (chance.id(), chance.id(), chance.below(8));
    match chance.below(18) {
        0 => format!("INSERT OR IGNORE INTO people VALUES ({id}, 'n{other}', {other}, NULL);",),
        1 => format!("INSERT OR REPLACE INTO people (id, name, age) VALUES ({id}, 'n{other}', {word});"),
        2 => format!("UPDATE OR REPLACE people SET name = 'n{other}' WHERE id = {id};"),
        3 => format!("UPDATE OR IGNORE people SET id = {other} WHERE id = {id};"),
        4 => format!("DELETE FROM people WHERE id = {id};"),
        5 => format!("INSERT OR REPLACE INTO things SELECT id, {word}, x'0102' FROM people WHERE id = {id};"),
        6 => format!("UPDATE things SET v = NULL WHERE n = {word};"),
        7 => format!("DELETE FROM things WHERE owner = {id};"),
        8 => format!("INSERT INTO words (word) VALUES ('w{word}') ON CONFLICT (word) DO UPDATE SET count = count + 1;"),
        9 => format!("UPDATE words SET word = word || 'x' WHERE word = 'w{word}';"),
        10 => format!("BEGIN; DELETE FROM people; INSERT INTO words VALUES ('never{id}', 1); ROLLBACK;"),
        11 => format!(
            "BEGIN; SAVEPOINT s; DELETE FROM things; ROLLBACK TO s; UPDATE people SET age = {word} WHERE id < {id}; COMMIT;"
        ),
        12 => format!(
            "UPDATE people SET note = '' WHERE id = {id}; UPDATE people SET note = 'ä''\"\\ {other}' WHERE id = {other};"
        ),
        13 => "DELETE FROM words;".to_owned(),
        14 => "VACUUM;".to_owned(),
        15 => {
            *columns += 1;
            format!(
                "ALTER TABLE words ADD COLUMN c{columns} TEXT; UPDATE words SET c{columns} = '{id}' WHERE count > 0;"
            )
        }
        16 => "BEGIN; CREATE TABLE other (owner INTEGER REFERENCES people ON DELETE CASCADE ON UPDATE CASCADE, n INTEGER, v BLOB,
                                         PRIMARY KEY (owner, n)) WITHOUT ROWID;
               INSERT INTO other SELECT * FROM things; DROP TABLE things; ALTER TABLE other RENAME TO things; COMMIT;"
            .to_owned(),
        _ => format!(
            "WITH RECURSIVE n(i) AS (SELECT 100 + {id} UNION ALL SELECT i + 1 FROM n WHERE i < 160 + {word} * 200)
             INSERT OR REPLACE INTO people (id, name, age) SELECT i, 'm' || i, {word} FROM n;"
        ),
    }
}

/// One event of a schedule: mostly the app writes.
fn event(shop: &mut Shop, chance: &Chance, columns: &mut u32) -> String {
    let pause = |most: u64| std::thread::sleep(Duration::from_millis(chance.below(most)));
    match chance.below(31) {
        0 => {
            shop.kill_worker();
            "the program is killed".to_owned()
        }
        1 => {
            let text: String =
                (0..200).map(|_| statement(chance, &mut 900)).filter(|one| !one.contains("ALTER")).collect();
            let mut writer = shop.writer(&text);
            pause(40);
            let _ = writer.kill();
            writer.wait().unwrap();
            "the writer is killed".to_owned()
        }
        2 => {
            shop.server.crash();
            pause(150);
            shop.server.restart();
            "the server is killed".to_owned()
        }
        3 | 4 => {
            shop.proxy.cut();
            "lines are cut".to_owned()
        }
        5 | 6 => {
            shop.proxy.is(Network::NoAnswers);
            pause(200);
            shop.proxy.cut();
            shop.proxy.is(Network::Whole);
            "answers are lost".to_owned()
        }
        7 => {
            shop.proxy.is(Network::Still);
            pause(200);
            shop.proxy.cut();
            shop.proxy.is(Network::Whole);
            "the network stands still".to_owned()
        }
        8 => {
            shop.proxy.is(Network::Refuses);
            shop.proxy.cut();
            pause(200);
            shop.proxy.is(Network::Whole);
            "nobody answers".to_owned()
        }
        9 => {
            shop.cloud("ALTER DATABASE cloud SET default_transaction_read_only = on");
            shop.proxy.cut();
            pause(200);
            shop.server.sql("postgres", "ALTER DATABASE cloud RESET default_transaction_read_only");
            shop.proxy.cut();
            "the cloud takes no writes".to_owned()
        }
        10 => {
            // Files may not grow beyond what they are: a full disk, for the program and for the writer.
            let program = env!("CARGO_BIN_EXE_lifeboat");
            let blocks = 4 + chance.below(64);
            let mut full = shop.lifeboat(&[]);
            let limited = format!("ulimit -f {blocks}; exec {program} sync trigger");
            let mut command = Command::new("bash");
            command.args(["-c", &limited]).current_dir(shop.folder.path()).env_clear();
            command.envs(full.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
            let _ = full.stdout(Stdio::null());
            command.output().unwrap();
            "the disk is full".to_owned()
        }
        11 => {
            // For the program that runs, and for the app that writes meanwhile.
            shop.shim.disk_is_full(true);
            let text = statement(chance, &mut 900);
            let _ = shop.write(&text); // an app that has no room has not written
            pause(300);
            shop.shim.disk_is_full(false);
            "the disk is full for everybody".to_owned()
        }
        12 => {
            shop.shim.clock_is_ahead_by(86_400 + i64::try_from(chance.below(1_000_000)).unwrap());
            "the clock jumps ahead".to_owned()
        }
        13 => {
            shop.shim.clock_is_ahead_by(-86_400 - i64::try_from(chance.below(1_000_000)).unwrap());
            "the clock jumps back".to_owned()
        }
        14 => {
            shop.start_worker();
            "the program is started".to_owned()
        }
        _ => {
            let text = statement(chance, columns);
            shop.write(&text);
            text
        }
    }
}

/// Runs a schedule, and says what went wrong in it on purpose.
fn run_schedule(seed: u64) -> Vec<String> {
    let chance = Chance(SeededRandom::new(seed));
    let mut shop = Shop::attached();
    // Small batches, and ones in which rows go as COPY.
    if seed.is_multiple_of(2) {
        std::fs::write(shop.path(".env"), "SYNC_INTERVAL_MS=50\nSYNC_BATCH_SIZE=2000\n").unwrap();
    }
    let mut columns = 0;
    let mut told = vec![format!("seed {seed}")];
    shop.start_worker();
    for _ in 0..EVENTS {
        told.push(event(&mut shop, &chance, &mut columns));
        if chance.below(4) == 0 {
            shop.start_worker();
        }
    }
    shop.kill_worker();
    let faults: Vec<String> = told.iter().filter(|one| FAULTS.contains(&one.as_str())).cloned().collect();
    let told = told.join("\n");
    shop.drain();
    let status = shop.status();
    assert_eq!(status["queue"]["totalFailed"], 0, "{told}\n{status}");
    assert_eq!(status["queue"]["queueSize"], 0, "{told}\n{status}");
    // What the queue alone has brought there; tables whose schema changed while nobody looked are compared first.
    let doubtful: Vec<&str> =
        status["unverified"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    for (table, columns) in shop.tables() {
        let (here, there) = shop.both(&table, &columns);
        assert!(
            doubtful.contains(&table.as_str()) || here == there,
            "{table} differs\n{told}\nhere:\n{here}\nthere:\n{there}"
        );
    }
    if !doubtful.is_empty() {
        let resynced = shop.lifeboat(&["sync", "resync", "--yes"]).output().unwrap();
        assert!(resynced.status.success(), "{told}\n{resynced:?}");
    }
    for (table, columns) in shop.tables() {
        let (here, there) = shop.both(&table, &columns);
        assert_eq!(here, there, "{table}\n{told}");
    }
    assert!(shop.proxy.lines() > 3, "nothing was delivered through the network\n{told}");
    faults
}

#[test]
fn after_any_schedule_of_faults_the_cloud_holds_what_the_file_holds() {
    let said = std::env::var("LIFEBOAT_MIRROR_SEEDS").ok();
    let seeds: Vec<u64> = match &said {
        Some(said) => said.split(',').map(|seed| seed.trim().parse().unwrap()).collect(),
        None => SEEDS.to_vec(),
    };
    let fired: Vec<String> = seeds.into_iter().flat_map(run_schedule).collect();
    let missing: Vec<&&str> = FAULTS.iter().filter(|fault| !fired.iter().any(|one| one == *fault)).collect();
    assert!(said.is_some() || missing.is_empty(), "these never happened: {missing:?}");
}

/// SYNC-18: 50,000 changes wait, and the program is killed in the middle of delivering them; nothing is lost, nothing is
/// doubled, and it never needs much memory.
#[test]
fn sync_18_fifty_thousand_changes_and_a_kill() {
    let mut shop = Shop::attached();
    shop.cloud(
        "CREATE TABLE public.writes (n int);
         CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.writes VALUES (1); RETURN NEW; END';
         CREATE TRIGGER tell AFTER INSERT OR UPDATE ON mirror.people FOR EACH ROW EXECUTE FUNCTION public.tell();",
    );
    std::fs::write(shop.path(".env"), "SYNC_INTERVAL_MS=50\nSYNC_BATCH_SIZE=500\n").unwrap();
    shop.must_write(
        "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 50999)
         INSERT INTO people (id, name, age) SELECT i, 'name ' || i, i FROM n;",
    );
    assert_eq!(shop.status()["queue"]["queueSize"], 50_000);
    shop.start_worker();
    let count = || shop.cloud("SELECT count(*) FROM mirror.people").parse::<u64>().unwrap();
    let began = Instant::now();
    while count() < 1_000 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is delivered");
    }
    let process = shop.worker.as_ref().unwrap().id();
    let memory = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches("kB").trim().parse().unwrap();
    shop.kill_worker();
    let arrived = shop.cloud("SELECT count(*) FROM mirror.people WHERE id >= 1000").parse::<u64>().unwrap();
    assert!(arrived >= 1_000, "{arrived}");
    shop.drain();
    assert_eq!(shop.status()["queue"]["queueSize"], 0);
    assert_eq!(shop.cloud("SELECT count(*) FROM public.writes"), "50000", "each row was written once");
    let columns = shop.tables().remove("people").unwrap();
    let (here, there) = shop.both("people", &columns);
    assert!(here == there, "people differ");
    assert!(peak_kib < 96 << 10, "{peak_kib} KiB");
}

/// A writer that never pauses is no reason to wait: what it writes arrives, and the file's WAL does not grow for us.
#[test]
fn a_writer_that_never_pauses_is_followed() {
    let mut shop = Shop::attached();
    shop.start_worker();
    let began = Instant::now();
    let arrived = || shop.cloud("SELECT count(*) FROM mirror.words").parse::<u64>().unwrap();
    let (mut written, mut seen_under_way) = (0, 0);
    // It goes on until something arrives while it writes, however fast it is.
    while written < 3_000 || seen_under_way == 0 {
        let lines: String =
            (written..written + 1_000).map(|i| format!("INSERT INTO words VALUES ('busy{i}', {i});\n")).collect();
        let mut writer = shop.writer(&lines);
        while writer.try_wait().unwrap().is_none() {
            seen_under_way = seen_under_way.max(arrived());
        }
        written += 1_000;
        assert!(began.elapsed() < Duration::from_secs(90), "nothing arrived of {written} while they were written");
    }
    while arrived() < written {
        assert!(began.elapsed() < Duration::from_secs(90), "{} of {written} arrived", arrived());
    }
    let columns = shop.tables().remove("words").unwrap();
    let (here, there) = shop.both("words", &columns);
    assert_eq!(here, there);
}

/// Of two programs that would deliver for one file the second refuses.
#[test]
fn a_second_worker_on_one_file_refuses() {
    let mut shop = Shop::attached();
    shop.start_worker();
    let began = Instant::now();
    while shop.status()["lastSync"].is_null() {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is delivered");
    }
    let told = shop.lifeboat(&["sync", "run"]).output().unwrap();
    assert!(!told.status.success() && String::from_utf8_lossy(&told.stderr).contains("another process"), "{told:?}");
    let told = shop.lifeboat(&["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert!(!told.status.success() && String::from_utf8_lossy(&told.stderr).contains("another process"), "{told:?}");
    shop.kill_worker();
    shop.start_worker();
    shop.must_write("INSERT INTO words VALUES ('after the kill', 1);");
    let began = Instant::now();
    while shop.cloud("SELECT count(*) FROM mirror.words") != "1" {
        assert!(began.elapsed() < Duration::from_secs(60), "the place of a dead worker is taken");
    }
}
