//! Measures capture, inspect and check on a database of about 1 GiB, and how much a capture slows a writer.
//!
//! `cargo run --release -p lifeboat-io --example sqlite_bench [FOLDER] [MIB]`
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, reason = "a measurement, run by hand")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lifeboat_io::{
    Stop, SystemClock,
    database::sqlite::{CaptureOptions, Captured, capture, check_copy, examine, try_writes},
};
use lifeboat_model::Tri;
use rusqlite::Connection;

fn main() {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("--write").is_some() {
        return write(&words.next().unwrap());
    }
    let folder = words.next().map_or_else(std::env::temp_dir, PathBuf::from).join("lifeboat-sqlite-bench");
    let mib: u64 = words.next().map_or(1024, |word| word.parse().unwrap());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for mode in ["WAL", "DELETE"] {
        let live = folder.join("live.db");
        build(&live, mode, mib);
        let bytes = fs::metadata(&live).unwrap().len();
        println!("{mode}: {} MiB", bytes >> 20);
        let copy = folder.join("copy.db");
        let captured = timed("  capture, idle", bytes, || take(&live, &copy));
        assert_eq!(captured.bytes, bytes);
        let (facts, checks) = timed("  examine", bytes, || examine(&copy, &Stop::default(), &|_, _| ()));
        let facts = facts.unwrap();
        for check in &checks {
            assert_eq!(check.outcome, Tri::Pass, "{check:?}");
        }
        for (name, table) in &facts.tables {
            println!("    {name}: {} rows", table.rows);
        }
        let checks = timed("  check_copy", bytes, || check_copy(&copy, &Stop::default()));
        let writes = timed("  try_writes", bytes, || try_writes(&copy, &Stop::default()));
        for check in checks.iter().chain(&writes) {
            assert_eq!(check.outcome, Tri::Pass, "{check:?}");
        }
        beside_writer(&live, &copy, bytes);
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir_all(&folder).unwrap();
    }
    fs::remove_dir_all(&folder).unwrap();
}

fn take(live: &Path, copy: &Path) -> Captured {
    capture(live, copy, CaptureOptions::default(), &SystemClock::default(), &Stop::default(), &|_, _| ()).unwrap()
}

fn timed<T>(what: &str, bytes: u64, work: impl FnOnce() -> T) -> T {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let result = work();
    let (took, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let rate = |seconds: f64| bytes as f64 / seconds / 1e6;
    println!("{what}: {took:.2} s, {:.0} MB/s; {cpu:.2} s of one core, {:.0} MB/s", rate(took), rate(cpu));
    result
}

/// Time this thread has had a core: on a busy machine the honest number.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// A third each: short rows of numbers, rows of about 400 bytes of text, blobs of 100 kB.
fn build(path: &Path, mode: &str, mib: u64) {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", mode).unwrap();
    db.pragma_update(None, "synchronous", "OFF").unwrap();
    let third = mib * 1024 * 1024 / 3;
    let fill = |sql: &str, row_bytes: u64| {
        let rows = format!("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT {})", third / row_bytes);
        db.execute_batch(&sql.replace("ROWS", &rows)).unwrap();
    };
    fill(
        "CREATE TABLE points(id INTEGER PRIMARY KEY, a INTEGER, b REAL, c INTEGER, created_at TEXT);
         ROWS INSERT INTO points SELECT n, n * 7919, n * 1.7, n % 100, '2026-01-01 00:00:' || (n % 60) FROM c;",
        50,
    );
    fill(
        "CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, email TEXT, note TEXT, created_at TEXT);
         ROWS INSERT INTO people SELECT n, 'name of ' || n, n || '@example.org', hex(randomblob(160)), '2026-01-01' FROM c;",
        400,
    );
    fill(
        "CREATE TABLE files(id INTEGER PRIMARY KEY, body BLOB); ROWS INSERT INTO files SELECT n, randomblob(100000) FROM c;",
        101_000,
    );
    db.execute_batch("CREATE TABLE log(n INTEGER PRIMARY KEY, v TEXT);").unwrap();
}

/// Compares the commits of another process with and without a capture.
fn beside_writer(live: &Path, copy: &Path, bytes: u64) {
    let program = std::env::current_exe().unwrap();
    let mut writer =
        Command::new(program).arg("--write").arg(live).stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(writer.stdout.take().unwrap());
    let (during, quiet) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let listener = {
        let (during, quiet) = (Arc::clone(&during), Arc::clone(&quiet));
        std::thread::spawn(move || {
            let (mut before, mut beside) = (Vec::new(), Vec::new());
            for line in output.lines() {
                let took = Duration::from_micros(line.unwrap().parse().unwrap());
                let list = if during.load(Ordering::SeqCst) { &mut beside } else { &mut before };
                list.push(took);
                quiet.fetch_add(1, Ordering::SeqCst);
            }
            (before, beside)
        })
    };
    while quiet.load(Ordering::SeqCst) < 200 {
        std::thread::sleep(Duration::from_millis(5));
    }
    during.store(true, Ordering::SeqCst);
    let captured = timed("  capture beside a writer", bytes, || take(live, copy));
    drop(writer.stdin.take()); // the sign to end
    let (mut before, mut beside) = listener.join().unwrap();
    assert!(writer.wait().unwrap().success());
    println!("    {:?}", captured.how);
    for (name, times) in [("quiet", &mut before), ("beside the capture", &mut beside)] {
        times.sort();
        let at =
            |part: f64| times.get((times.len() as f64 * part) as usize).or(times.last()).copied().unwrap_or_default();
        println!(
            "    commits {name}: {} median {:?}, 99 % {:?}, longest {:?}",
            times.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
}

/// Commits a small transaction every 5 ms, as an app does, and prints how long each took, in microseconds, until its
/// input ends.
fn write(live: &str) {
    let ended = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        asked.store(true, Ordering::SeqCst);
    });
    let db = Connection::open(live).unwrap();
    db.busy_timeout(Duration::from_secs(60)).unwrap();
    while !ended.load(Ordering::SeqCst) {
        let start = Instant::now();
        db.execute("INSERT INTO log(v) VALUES(hex(randomblob(100)))", []).unwrap();
        println!("{}", start.elapsed().as_micros());
        std::thread::sleep(Duration::from_millis(5));
    }
}
