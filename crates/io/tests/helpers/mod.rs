//! A second program at the same database: the `sqlite3` shell, driven over its pipes.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use lifeboat_io::{
    Stop, SystemClock,
    database::sqlite::{CaptureOptions, Captured, SqliteError, capture},
};
use lifeboat_model::manifest::SqliteFacts;
use sha2::{Digest, Sha256};

/// One running shell. Killed when dropped.
pub struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// Opens a database in another process and keeps it open.
    pub fn open(database: &Path) -> Shell {
        let mut child = Command::new("sqlite3")
            .args(["-batch", "-bail"])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sqlite3 shell is installed");
        let output = BufReader::new(child.stdout.take().unwrap());
        Shell { input: child.stdin.take(), child, output }
    }

    /// Runs statements and waits until they are done; gives back the lines they print.
    pub fn run(&mut self, sql: &str) -> Vec<String> {
        const END: &str = "--end of answer--";
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{sql}\nSELECT '{END}';").unwrap();
        input.flush().unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert!(read > 0, "the shell ended while running {sql}; it had said {lines:?}");
            if line.trim_end() == END {
                return lines;
            }
            lines.push(line.trim_end().to_owned());
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would: SIGKILL.
    pub fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it properly, so that it checkpoints if it is the last.
    pub fn close(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs statements in a shell of their own.
pub fn sql(database: &Path, statements: &str) -> Vec<String> {
    let mut shell = Shell::open(database);
    let lines = shell.run(statements);
    shell.close();
    lines
}

/// A program that never stops writing. Each transaction adds a numbered row and moves money between two tables, so that
/// any consistent state has no gap in the numbers, and a sum of zero.
pub struct Writer {
    stop: Arc<AtomicBool>,
    feeder: JoinHandle<()>,
    child: Child,
}

pub const WRITER_SCHEMA: &str = "CREATE TABLE log(n INTEGER PRIMARY KEY, pad TEXT);
    CREATE TABLE plus(amount INTEGER); CREATE TABLE minus(amount INTEGER);
    INSERT INTO plus VALUES(0); INSERT INTO minus VALUES(0);";

impl Writer {
    pub fn start(database: &Path) -> Writer {
        let mut child = Command::new("sqlite3")
            .args(["-batch", "-bail", "-cmd", ".timeout 20000", "-cmd", "PRAGMA synchronous=OFF"])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the sqlite3 shell is installed");
        let mut input = child.stdin.take().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let feeder = std::thread::spawn(move || {
            while !asked.load(Ordering::SeqCst) {
                let transaction = "BEGIN IMMEDIATE; INSERT INTO log(pad) VALUES(hex(randomblob(200)));
                    UPDATE plus SET amount = amount + 7; UPDATE minus SET amount = amount - 7; COMMIT;\n";
                if input.write_all(transaction.as_bytes()).is_err() {
                    return; // it ended by itself: `finish` tells
                }
            }
        });
        Writer { stop, feeder, child }
    }

    /// Ends it in the middle of its work; it must not have failed at any statement until then.
    pub fn finish(self) {
        let Writer { stop, feeder, mut child } = self;
        assert!(child.try_wait().unwrap().is_none(), "a statement of the writer failed");
        stop.store(true, Ordering::SeqCst);
        child.kill().unwrap();
        child.wait().unwrap();
        feeder.join().unwrap();
    }
}

/// What a consistent state of the writer's tables looks like: the number of rows, or what is wrong.
pub fn rows_of_consistent_state(database: &Path) -> Result<u64, String> {
    let lines = sql(
        database,
        "SELECT count(*), coalesce(max(n), 0), (SELECT sum(amount) FROM plus), (SELECT sum(amount) FROM minus) FROM log;",
    );
    let numbers: Vec<i64> = lines[0].split('|').map(|number| number.parse().unwrap()).collect();
    match numbers[..] {
        [count, max, plus, minus] if count == max && plus == -minus && plus == 7 * count => Ok(count.unsigned_abs()),
        _ => Err(lines[0].clone()),
    }
}

pub fn capture_now(source: &Path, into: &Path) -> Result<Captured, SqliteError> {
    capture(source, into, CaptureOptions::default(), &SystemClock::default(), &Stop::default(), &|_, _| ())
}

pub fn inspect_now(file: &Path) -> SqliteFacts {
    lifeboat_io::database::sqlite::inspect(file, &Stop::default(), &|_, _| ()).unwrap()
}

pub fn with(path: &Path, suffix: &str) -> PathBuf {
    lifeboat_io::database::sqlite::sidecar(path, suffix)
}

/// SHA-256 of a file; nothing when it is not there.
pub fn hash(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| hex::encode(Sha256::digest(bytes)))
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A database whose program died with 600 rows that are only in its `-wal`.
pub fn crashed_with_wal(database: &Path) {
    let mut app = Shell::open(database);
    app.run(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(n INTEGER PRIMARY KEY, v TEXT);
             PRAGMA wal_checkpoint(TRUNCATE);",
    );
    app.run(
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 600) INSERT INTO t SELECT n, 'bad' FROM c;",
    );
    app.crash();
    assert!(fs::metadata(with(database, "-wal")).unwrap().len() > 0);
}
