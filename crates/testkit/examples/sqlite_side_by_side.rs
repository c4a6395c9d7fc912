//! The product beside its peers on one SQLite database, in one run and one folder: `lifeboat` (the release binary), `restic`
//! on the same file, `sqlite3 .backup` with `zstd -1`, and `cp`. Prints seconds, peak memory, bytes stored, and ratios.
//!
//! `cargo run --release -p lifeboat-testkit --example sqlite_side_by_side -- LIFEBOAT FOLDER [MIB]`; `./bench` does it all.
//!
//! They do not do the same: `lifeboat backup` reads one instant while others write, checks that each page is in its place,
//! counts and digests every table, and reads back what it stored; `restic` and `cp` read a file that may be changing.
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
    time::Duration,
};

use rusqlite::Connection;

const PASSWORD: &str = "bench";

/// What one program took.
#[derive(Clone, Copy)]
struct Took {
    seconds: f64,
    cpu: f64,
    peak_mib: f64,
}

/// How often everything is done. A shared host is not equally loud all the time; one run says little.
const ROUNDS: u32 = 3;

/// What one round measured: ours and restic's.
struct Round {
    init: Took,
    /// Ours into a vault that is there already, as restic's is after `restic init`.
    there: Took,
    first: (Took, Took),
    stored: (u64, u64),
    second: (Took, Took),
    restore: (Took, Took),
}

fn main() {
    let mut args = std::env::args().skip(1);
    let usage = "usage: sqlite_side_by_side LIFEBOAT FOLDER [MIB]";
    let lifeboat = fs::canonicalize(args.next().expect(usage)).unwrap();
    let folder = PathBuf::from(args.next().expect(usage)).join("sqlite-side-by-side");
    let mib: u64 = args.next().map_or(1024, |text| text.parse().unwrap());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let bench = Bench { lifeboat, folder };
    bench.run(mib);
    fs::remove_dir_all(&bench.folder).unwrap();
}

struct Bench {
    lifeboat: PathBuf,
    folder: PathBuf,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn run(&self, mib: u64) {
        make(&self.path("shop.db"), mib);
        println!("one database, {} MiB, WAL mode\n", fs::metadata(self.path("shop.db")).unwrap().len() >> 20);
        let rounds: Vec<Round> = (1..=ROUNDS).map(|number| self.round(number)).collect();
        println!(
            "\nratios, restic / lifeboat: median of {ROUNDS} rounds, and the least and the most (more is better for lifeboat)"
        );
        let ratio = |what: &str, wanted: &str, of: &dyn Fn(&Round) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            let (least, median, most) = (all[0], all[all.len() / 2], all[all.len() - 1]);
            println!("  {what:<42} {median:>5.2}   {least:.2} to {most:.2}   (wanted: {wanted})");
        };
        // `lifeboat backup` makes its vault when there is none; that is `restic init` and `restic backup`.
        let seconds = |pair: &(Took, Took)| pair.1.seconds / pair.0.seconds;
        ratio("new vault and first backup", "2", &|one| (one.init.seconds + one.first.1.seconds) / one.first.0.seconds);
        ratio("  into vaults that are there already", "2", &|one| one.first.1.seconds / one.there.seconds);
        ratio("second backup", "5", &|one| seconds(&one.second));
        ratio("restore", "2", &|one| seconds(&one.restore));
        ratio("stored bytes: lifeboat / restic", "at most 1.05", &|one| one.stored.0 as f64 / one.stored.1 as f64);
        ratio("peak memory of lifeboat, MiB", "at most 128", &|one| {
            [one.first.0, one.second.0, one.restore.0].iter().map(|took| took.peak_mib).fold(0.0, f64::max)
        });
        self.slowdown();
    }

    /// From nothing: a first backup, a second one after a change, a restore; by turns. The other peers run in the first round.
    fn round(&self, number: u32) -> Round {
        for made in ["vault", "state", "there", "there-state", "restic", "restic-cache", "out.db", "restored"] {
            let path = self.path(made);
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        println!("round {number}\n{:<44} {:>8} {:>8} {:>9}", "", "wall s", "cpu s", "peak MiB");
        let there = self.backup_into_made_vault();
        let init = self.time("restic init", &["restic", "init", "-q"]);
        let first = self.backups("first backup", number == 1);
        let stored = (size(&self.path("vault")), size(&self.path("restic")));
        change(&self.path("shop.db"));
        let second = self.backups("second backup, 1 % changed in clusters", number == 1);
        Round { init, there, first, stored, second, restore: self.restores() }
    }

    /// A first backup of the database into a vault that holds something small already.
    fn backup_into_made_vault(&self) -> Took {
        let (vault, state) = (self.path("there"), self.path("there-state"));
        let into = ["--vault", vault.to_str().unwrap(), "--state", state.to_str().unwrap(), "--yes", "-q"];
        let backup = |what: &str, url: &str| self.time(what, &[&["LIFEBOAT", "backup", url][..], &into].concat());
        Connection::open(self.path("small.db")).unwrap().execute_batch("CREATE TABLE IF NOT EXISTS t (a)").unwrap();
        backup("lifeboat backup of a small file", "sqlite:./small.db");
        backup("lifeboat backup into the same vault", "sqlite:./shop.db")
    }

    /// A backup of ours and one of restic's, and of the others when they are wanted.
    fn backups(&self, what: &str, others: bool) -> (Took, Took) {
        println!("{what}");
        let ours = self.time("lifeboat backup", &["LIFEBOAT", "backup", "sqlite:./shop.db", "-q"]);
        let theirs = self.time("restic backup", &["restic", "backup", "-q", "./shop.db"]);
        if others {
            let copy = self.time("sqlite3 .backup", &["sqlite3", "./shop.db", ".backup ./copy.db"]);
            let zstd = self.time("  then zstd -1", &["zstd", "-q", "-f", "-1", "./copy.db"]);
            self.time("cp", &["cp", "./shop.db", "./cp.db"]);
            println!("  {:<42} {:>8.2}", "sqlite3 .backup and zstd -1 together", copy.seconds + zstd.seconds);
        }
        (ours, theirs)
    }

    fn restores(&self) -> (Took, Took) {
        println!("restore of the newest backup");
        let ours = self.time(
            "lifeboat restore --into",
            &["LIFEBOAT", "restore", "shop", "--into", "./out.db", "-q", "--for", "sqlite:./shop.db"],
        );
        let theirs = self.time("restic restore", &["restic", "restore", "-q", "latest", "--target", "./restored"]);
        (ours, theirs)
    }

    fn time(&self, what: &str, words: &[&str]) -> Took {
        let program = if words[0] == "LIFEBOAT" { self.lifeboat.as_path() } else { Path::new(words[0]) };
        let mut command = Command::new("/usr/bin/time");
        command
            .args(["-q", "-o", "time.txt", "-f", "%e %U %S %M"])
            .arg(program)
            .args(&words[1..])
            .current_dir(&self.folder);
        command.envs([
            ("LIFEBOAT_VAULT_PASSWORD", PASSWORD),
            ("RESTIC_PASSWORD", PASSWORD),
            ("RESTIC_REPOSITORY", "./restic"),
        ]);
        command.env("RESTIC_CACHE_DIR", self.path("restic-cache"));
        if words[0] == "LIFEBOAT" && !words.contains(&"--vault") {
            command.args(["--vault", "./vault", "--state", "./state", "--yes"]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let numbers = fs::read_to_string(self.path("time.txt")).unwrap();
        let numbers: Vec<f64> = numbers.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let took = Took { seconds: numbers[0].max(0.01), cpu: numbers[1] + numbers[2], peak_mib: numbers[3] / 1024.0 };
        println!("  {what:<42} {:>8.2} {:>8.2} {:>9.0}", took.seconds, took.cpu, took.peak_mib);
        took
    }

    /// How much slower a writer is while a backup is taken: transactions a second beside nothing, and beside backups.
    fn slowdown(&self) {
        let alone = self.sales(None);
        let beside = self.sales(Some(&self.lifeboat));
        println!(
            "\nwriter: {alone:.0} transactions/s alone, {beside:.0} while backups run, {:.1} % slower (wanted: at most 10)",
            (1.0 - beside / alone) * 100.0
        );
    }

    fn sales(&self, backups: Option<&Path>) -> f64 {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            if backups.is_some() {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                        Command::new(&self.lifeboat)
                            .args(["backup", "sqlite:./shop.db", "-q", "--vault", "./vault", "--state", "./state"])
                            .current_dir(&self.folder)
                            .env("LIFEBOAT_VAULT_PASSWORD", PASSWORD)
                            .output()
                            .unwrap();
                    }
                });
            }
            let rate = sell_for(&self.path("shop.db"), Duration::from_secs(8));
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            rate
        })
    }
}

/// A shop at its usual pace: a sale each 5 ms, in its own connection. Gives sales a second.
fn sell_for(path: &Path, time: Duration) -> f64 {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(30)).unwrap();
    db.pragma_update(None, "synchronous", "normal").unwrap();
    let begun = std::time::Instant::now();
    let mut sales = 0_u32;
    while begun.elapsed() < time {
        db.execute(
            "INSERT INTO orders (customer, state, cents, note, created_at) VALUES (1, 'new', 100, 'x', '2026-11-20')",
            [],
        )
        .unwrap();
        sales += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    f64::from(sales) / begun.elapsed().as_secs_f64()
}

/// Makes tables of the usual shapes until the file has the size: orders, JSON events, users with random hashes.
fn make(path: &Path, mib: u64) {
    let mut db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    db.pragma_update(None, "synchronous", "off").unwrap();
    db.execute_batch(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, state TEXT, cents INTEGER, note TEXT, created_at TEXT);
         CREATE INDEX orders_by_customer ON orders (customer);
         CREATE TABLE events (id INTEGER PRIMARY KEY, body TEXT);
         CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT, hash BLOB);",
    )
    .unwrap();
    let mut from = 0_i64;
    while fs::metadata(path).unwrap().len() >> 20 < mib {
        let batch = db.transaction().unwrap();
        let range = "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + 59999)";
        batch
            .execute(&format!("{range} INSERT INTO orders SELECT i, (i * 7919) % 100003, CASE i % 4 WHEN 0 THEN 'paid' WHEN 1 THEN 'shipped' ELSE 'new' END,
                (i * 104729) % 500000, 'order number ' || i || ' of customer ' || ((i * 7919) % 100003) || ', delivered to the usual place',
                '2026-01-01T' || (i % 24) || ':00:00Z' FROM n"), [from])
            .unwrap();
        batch
            .execute(&format!("{range} INSERT INTO events SELECT i, '{{\"event\":\"page_view\",\"user\":' || (i % 50021) || ',\"path\":\"/products/' || (i % 997)
                || '\",\"referrer\":\"https://example.com/' || (i % 89) || '\",\"took_ms\":' || (i * 31 % 4001) || '}}' FROM n"), [from])
            .unwrap();
        batch
            .execute(&format!("{range} INSERT INTO users SELECT i, 'user' || i || '@example.com', randomblob(32) FROM n WHERE i % 2 = 0"), [from])
            .unwrap();
        batch.commit().unwrap();
        from += 60_000;
        db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
}

/// Changes 1 % of the rows in twenty clusters a table.
fn change(path: &Path) {
    let db = Connection::open(path).unwrap();
    for (table, set) in
        [("orders", "note = note || '!'"), ("events", "body = body || ' '"), ("users", "email = upper(email)")]
    {
        let most: i64 = db.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get(0)).unwrap();
        for cluster in 0..20 {
            let begin = most * cluster / 20;
            db.execute(&format!("UPDATE {table} SET {set} WHERE id BETWEEN ?1 AND ?1 + ?2"), [begin, most / 2000])
                .unwrap();
        }
    }
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
}

fn size(folder: &Path) -> u64 {
    let meta = fs::symlink_metadata(folder).unwrap();
    if !meta.is_dir() {
        return meta.len();
    }
    fs::read_dir(folder).unwrap().map(|entry| size(&entry.unwrap().path())).sum()
}
