//! Mirroring beside plain `COPY` of the same rows, in one run: the first copy, drains of a backlog, a comparison, a re-sync,
//! and what the triggers cost the app. Prints seconds and ratios; never a test. Before each of them the server has written
//! down what it had to, so that none pays for another; COPY is measured three times, and its median counts.
//!
//! `cargo run --release -p lifeboat-testkit --example sync_side_by_side -- LIFEBOAT FOLDER [ROWS]`; `./bench` does it all.
//!
//! They do not do the same: COPY may be repeated by nobody, and asks nothing of the rows that are there.
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
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use lifeboat_testkit::postgres::{Server, ServerOptions};
use rusqlite::Connection;

/// Transactions of the measurement of what triggers cost.
const TRANSACTIONS: u32 = 5_000;
const ROUNDS: usize = 9;
/// How long a byte is on its way to the server, and back: half of a round trip each.
const WAY: Duration = Duration::from_millis(15);

fn main() {
    let mut args = std::env::args().skip(1);
    let usage = "usage: sync_side_by_side LIFEBOAT FOLDER [ROWS]";
    let lifeboat = fs::canonicalize(args.next().expect(usage)).unwrap();
    let folder = PathBuf::from(args.next().expect(usage)).join("sync-side-by-side");
    let rows: u64 = args.next().map_or(1_000_000, |text| text.parse().unwrap());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let options = ServerOptions::default().set("shared_buffers", "512MB").set("max_wal_size", "4GB");
    let bench = Bench { lifeboat, folder, server: Server::with(15, options), rows };
    bench.run();
    fs::remove_dir_all(&bench.folder).unwrap();
}

struct Bench {
    lifeboat: PathBuf,
    folder: PathBuf,
    server: Server,
    rows: u64,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn run(&self) {
        make(&self.path("shop.db"), self.rows);
        self.server.sql("postgres", "CREATE DATABASE cloud");
        fs::write(
            self.path("lifeboat.toml"),
            format!(
                "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n\
                 [environments.local.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\n\
                 [environments.local.links.cloud]\nfrom = \"db\"\nurl = \"{}\"\n",
                self.server.url("cloud")
            ),
        )
        .unwrap();
        println!("{} rows of about 250 bytes, PostgreSQL 15 on the same host\n", self.rows);
        let mut copies: Vec<Duration> = (0..3).map(|_| self.copy()).collect();
        copies.sort();
        let copied = copies[1];
        self.told("COPY of the same rows", copied, copied, 0);
        let (attached, memory) = self.sync(&["attach", "--yes"]);
        self.told("first copy (sync attach)", attached, copied, memory);
        let (checked, memory) = self.sync(&["check"]);
        self.told("comparison (sync check)", checked, copied, memory);
        let (resynced, memory) = self.sync(&["resync", "--yes"]);
        self.told("re-sync, nothing differs", resynced, copied, memory);
        self.server.sql("cloud", "UPDATE mirror.orders SET note = '' WHERE id % 10 = 0");
        let (resynced, memory) = self.sync(&["resync", "--yes"]);
        self.told("re-sync, a tenth differs", resynced, copied, memory);
        self.server.sql("cloud", "TRUNCATE mirror.orders");
        let (resynced, memory) = self.sync(&["resync", "--yes"]);
        self.told("re-sync into a table that was emptied", resynced, copied, memory);
        self.backlog("drain: every row changed", "UPDATE orders SET note = note || '!'", copied);
        let count = self.server.sql("cloud", "SELECT count(*) FROM mirror.orders WHERE note LIKE '%!'");
        assert_eq!(count.trim(), self.rows.to_string(), "the drain delivered something else");
        let more = |place: u32| {
            format!(
                "INSERT INTO orders SELECT id + {}, customer, cents, price, state, note, address, created_at, updated_at, flags
                 FROM orders WHERE id <= {}",
                u64::from(place) * self.rows,
                self.rows
            )
        };
        self.backlog("drain: as many new rows", &more(1), copied);
        self.backlog("drain: half new, 0.4 changed, 0.1 deleted", &mixed(self.rows), copied);
        let distance = Distance::before(&self.server);
        let config = fs::read_to_string(self.path("lifeboat.toml")).unwrap();
        fs::write(self.path("lifeboat.toml"), config.replace(&self.server.url("cloud"), &distance.url("cloud")))
            .unwrap();
        self.backlog("drain: new rows, 30 ms a round trip", &more(3), copied);
        self.backlog("drain: changed rows, 30 ms a round trip", &changed(self.rows), copied);
        fs::write(self.path("lifeboat.toml"), config).unwrap();
        let count = self.server.sql("cloud", "SELECT count(*) FROM mirror.orders");
        let there = 3 * self.rows + self.rows / 2 - self.rows / 10;
        assert_eq!(count.trim(), there.to_string(), "the drain delivered something else");
        let (held, _) = self.sync(&["disable"]);
        println!("{:<44} {:>8.0} ms", "disable, as a command", held.as_secs_f64() * 1_000.0);

        println!("\nwhat triggers cost the app: throughput with them, of that without (WAL, synchronous=NORMAL)");
        for app in [&APP, &NARROW] {
            let [plain, noted] = self.writes(app);
            println!("  {}", app.what);
            for (name, plain, noted, wanted) in [
                ("one-row inserts", plain.0, noted.0, 0.92),
                ("one-row updates", plain.1, noted.1, 0.75),
                ("inserts, 100 in a transaction", plain.2, noted.2, 0.92),
            ] {
                println!(
                    "    {name:<32} {:>8.2}   (wanted: at least {wanted}){:>8.1} µs a row, {:.1} without",
                    plain / noted,
                    micros(noted),
                    micros(plain)
                );
            }
        }
    }

    /// Lets changes wait, and measures how long they take once they may go.
    fn backlog(&self, name: &str, statement: &str, copied: Duration) {
        self.sync(&["disable"]);
        let db = Connection::open(self.path("shop.db")).unwrap();
        db.execute_batch(statement).unwrap();
        drop(db);
        self.sync(&["enable"]);
        self.server.sql("cloud", "CHECKPOINT");
        let (drained, memory) = self.sync(&["trigger"]);
        self.told(name, drained, copied, memory);
    }

    fn told(&self, name: &str, took: Duration, copied: Duration, memory: u64) {
        let rate = self.rows as f64 / took.as_secs_f64();
        let ratio = copied.as_secs_f64() / took.as_secs_f64();
        println!("{name:<44} {:>8.2} s {rate:>10.0} rows/s {ratio:>6.2} of COPY {memory:>6} MiB", took.as_secs_f64());
    }

    /// The rows as CSV, and COPY of that into a table like the mirror's.
    fn copy(&self) -> Duration {
        let csv = self.path("orders.csv");
        let written = Command::new("sqlite3")
            .args(["-csv", self.path("shop.db").to_str().unwrap(), "SELECT * FROM orders"])
            .stdout(fs::File::create(&csv).unwrap())
            .status();
        assert!(written.unwrap().success());
        self.server.sql(
            "cloud",
            "CREATE TABLE plain (id bigint PRIMARY KEY, customer bigint, cents bigint, price double precision, state text,
             note text, address text, created_at text, updated_at text, flags bigint)",
        );
        self.server.sql("cloud", "CHECKPOINT");
        let began = Instant::now();
        self.server.sql("cloud", &format!("\\copy plain FROM '{}' CSV", csv.display()));
        let took = began.elapsed();
        self.server.sql("cloud", "DROP TABLE plain");
        fs::remove_file(csv).unwrap();
        took
    }

    /// Runs a command, and gives its time and its peak of memory in MiB.
    fn sync(&self, words: &[&str]) -> (Duration, u64) {
        let log = self.path("time");
        let began = Instant::now();
        let status = Command::new("/usr/bin/time")
            .args(["-f", "%M", "-o", log.to_str().unwrap()])
            .arg(&self.lifeboat)
            .args(["--quiet", "--state", "state", "sync"])
            .args(words)
            .current_dir(&self.folder)
            .stdout(std::process::Stdio::null())
            .status();
        let took = began.elapsed();
        assert!(status.unwrap().success(), "{words:?}");
        let peak: u64 = fs::read_to_string(log).unwrap().trim().parse().unwrap();
        (took, peak / 1_024)
    }
}

/// As many operations as there were rows at first, of all kinds.
fn mixed(rows: u64) -> String {
    format!(
        "INSERT INTO orders SELECT id + {}, customer, cents, price, state, note, address, created_at, updated_at, flags
           FROM orders WHERE id <= {};
         UPDATE orders SET note = note || '?' WHERE id <= {};
         DELETE FROM orders WHERE id > {rows} AND id <= {}",
        2 * rows,
        rows / 2,
        rows * 2 / 5,
        rows + rows / 10
    )
}

fn changed(rows: u64) -> String {
    format!("UPDATE orders SET note = note || '?' WHERE id <= {rows}")
}

/// A server that is far away: everything arrives, and takes its time. Nothing is slower for being much.
struct Distance {
    port: u16,
}

impl Distance {
    fn before(server: &Server) -> Distance {
        let sockets = fs::read_dir(server.socket_folder()).unwrap().map(|entry| entry.unwrap().path());
        let socket = sockets
            .into_iter()
            .find(|path| {
                path.file_name().unwrap().to_string_lossy().starts_with(".s.PGSQL.")
                    && path.extension().is_some_and(|end| end != "lock")
            })
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
                client.set_nodelay(true).unwrap();
                let (client_again, server_again): (TcpStream, UnixStream) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                carry(client, server);
                carry(server_again, client_again);
            }
        });
        Distance { port }
    }

    fn url(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname={database} sslmode=disable", self.port)
    }
}

/// Carries bytes one way.
fn carry(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) {
    let (sent, arriving) = mpsc::sync_channel::<(Instant, Vec<u8>)>(1_024);
    std::thread::spawn(move || {
        let mut piece = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut piece) {
            if sent.send((Instant::now() + WAY, piece[..read].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, piece) in arriving {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                return;
            }
        }
    });
}

fn make(path: &Path, rows: u64) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!(
        "PRAGMA journal_mode = wal;
         CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, cents INTEGER, price REAL, state TEXT, note TEXT,
                              address TEXT, created_at TEXT, updated_at TEXT, flags INTEGER);
         CREATE INDEX orders_by_customer ON orders (customer);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO orders SELECT i, abs(random() % 10000), i % 9999, i / 7.0, 'open', hex(randomblob(40)),
             'street ' || i || ', ' || hex(randomblob(12)), '2026-11-01 10:00:00', '2026-11-02 11:00:00', i % 16 FROM n;"
    ))
    .unwrap();
}

/// Seconds of one-row inserts, one-row updates, and inserts of 100 in a transaction.
type Cost = (f64, f64, f64);

/// An app, as it writes.
struct App {
    what: &'static str,
    /// What its table has besides its key and one index.
    indexes: &'static str,
    update: &'static str,
    /// Whether what it writes lies here and there in its indexes.
    scattered: bool,
}

/// The app of the wanted figures: two secondary indexes, values here and there in them, and an update changes one of them, as
/// that of every framework does that keeps a time of the last change.
const APP: App = App {
    what: "two indexes, of which an update changes one",
    indexes: "CREATE INDEX orders_by_time ON orders (state, updated_at)",
    update: "UPDATE orders SET cents = cents + 1, updated_at = ?2 WHERE id = ?1",
    scattered: true,
};

/// As little as an app can write: rows side by side, and updates that touch no index. Whatever is noted is much beside it.
const NARROW: App = App {
    what: "one index, written side by side, updates that touch none",
    indexes: "",
    update: "UPDATE orders SET cents = cents + 1 + (?2 IS NULL) WHERE id = ?1",
    scattered: false,
};

impl Bench {
    /// What the writes of an app cost without triggers and with those of a mirror: by turns, the least of all rounds.
    fn writes(&self, app: &App) -> [Cost; 2] {
        let [plain, noted] = ["plain.db", "noted.db"].map(|name| {
            let _ = fs::remove_file(self.path(name));
            make(&self.path(name), 20_000);
            let db = Connection::open(self.path(name)).unwrap();
            db.execute_batch("PRAGMA synchronous = normal").unwrap();
            db.execute_batch(app.indexes).unwrap();
            db
        });
        let settings = fs::read_to_string(self.path("lifeboat.toml")).unwrap();
        let settings = settings.replace("./shop.db", "./noted.db").replace("name = \"shop\"", "name = \"noted\"");
        fs::write(self.path("noted.toml"), settings).unwrap();
        self.server.sql("cloud", "DROP SCHEMA mirror CASCADE; DROP SCHEMA lifeboat CASCADE");
        let _ = fs::remove_dir_all(self.path("state"));
        self.sync(&["attach", "--yes", "--config", "noted.toml"]);
        let mut costs = [(f64::MAX, f64::MAX, f64::MAX); 2];
        for round in 0..ROUNDS {
            for (cost, db) in costs.iter_mut().zip([&plain, &noted]) {
                let found = measured(db, app, round as u32);
                *cost = (cost.0.min(found.0), cost.1.min(found.1), cost.2.min(found.2));
            }
        }
        let count: i64 = noted.query_row("SELECT count(*) FROM _lifeboat_outbox", [], |row| row.get(0)).unwrap();
        assert!(count >= i64::from(TRANSACTIONS), "nothing was noted: {count}");
        costs
    }
}

fn micros(cost: f64) -> f64 {
    cost / f64::from(TRANSACTIONS) * 1e6
}

fn measured(db: &Connection, app: &App, round: u32) -> Cost {
    const STATES: [&str; 5] = ["open", "paid", "sent", "done", "late"];
    let scatter = |at: u32| at.wrapping_add(round * TRANSACTIONS).wrapping_mul(2_654_435_761) >> 8;
    let customer = |at: u32| if app.scattered { scatter(at) % 10_007 } else { at };
    let state = |at: u32| if app.scattered { STATES[scatter(at) as usize % STATES.len()] } else { "open" };
    let when = |at: u32| match app.scattered {
        true => {
            format!("2026-11-{:02} {:02}:{:02}:00", scatter(at) % 28 + 1, scatter(at) / 28 % 24, scatter(at) / 672 % 60)
        }
        false => "2026-11-02 11:00:00".to_owned(),
    };
    let insert = "INSERT INTO orders (customer, cents, price, state, note, address, created_at, updated_at, flags)
                  VALUES (?1, 5, 1.5, ?3, 'a note of some length that stands for what people write', 'street', 'a', ?2, 1)";
    let one_by_one = seconds(|| {
        let mut statement = db.prepare_cached(insert).unwrap();
        for at in 0..TRANSACTIONS {
            statement.execute((customer(at), when(at), state(at))).unwrap();
        }
    });
    let updates = seconds(|| {
        let mut statement = db.prepare_cached(app.update).unwrap();
        for at in 0..TRANSACTIONS {
            let id = if app.scattered { 1 + scatter(at) % 20_000 } else { 1 + at * 3 };
            statement.execute((id, when(at))).unwrap();
        }
    });
    let together = seconds(|| {
        for batch in 0..TRANSACTIONS / 100 {
            db.execute_batch("BEGIN").unwrap();
            let mut statement = db.prepare_cached(insert).unwrap();
            for at in batch * 100..batch * 100 + 100 {
                statement.execute((customer(at), when(at), state(at))).unwrap();
            }
            drop(statement);
            db.execute_batch("COMMIT").unwrap();
        }
    });
    (one_by_one, updates, together)
}

fn seconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}
