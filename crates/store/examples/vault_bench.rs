//! Measures the vault against the `restic` program on the same files, in the same run: a first backup, a second one after 1 % of
//! the rows changed in clusters, and a restore; each in a process of its own.
//!
//! ```text
//! cargo run --release -p lifeboat-store --example vault_bench -- <folder> [MiB] [rounds]
//! ```
//!
//! The folder should be on the disk in question; what is made in it is removed again.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use lifeboat_io::{Io, Stop, objects::folder::Folder};
use lifeboat_store::vault::{BackupOptions, EntryKind, EntryMeta, SnapshotMeta, Vault};

const PASSWORD: &str = "bench";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["backup", vault, source, level] => backup(vault, Path::new(source), level.parse().unwrap()),
        ["restore", vault, target] => restore(vault, Path::new(target)),
        [folder] => bench(Path::new(folder), 1024, 1),
        [folder, size] => bench(Path::new(folder), size.parse().unwrap(), 1),
        [folder, size, rounds] => bench(Path::new(folder), size.parse().unwrap(), rounds.parse().unwrap()),
        _ => println!("usage: vault_bench <folder> [MiB] [rounds]"),
    }
}

// ---- ours, in a process of its own

fn open(vault: &str) -> Vault {
    Vault::open(std::sync::Arc::new(Folder::new(vault)), &PASSWORD.into(), &Io::system()).unwrap()
}

/// As the engine does it: some streams at once, read in pieces.
fn backup(vault: &str, source: &Path, level: i32) {
    let vault = open(vault);
    let previous = vault.snapshots().unwrap().pop();
    let writer = vault.begin(BackupOptions { level, hurried: level, previous, ..BackupOptions::default() }).unwrap();
    let mut names: Vec<String> = files(source).into_keys().collect();
    names.reverse();
    let names = Mutex::new(names);
    let meta = EntryMeta::new(0o600, Io::system().clock.now());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut piece = vec![0; 256 << 10];
                loop {
                    let Some(name) = names.lock().unwrap().pop() else { return };
                    let mut stream = writer.stream(&name, &meta).unwrap();
                    let mut file = File::open(source.join(&name)).unwrap();
                    loop {
                        let length = file.read(&mut piece).unwrap();
                        if length == 0 {
                            break;
                        }
                        stream.write_all(&piece[..length]).unwrap();
                    }
                    stream.finish().unwrap();
                }
            });
        }
    });
    let meta = SnapshotMeta {
        time: Io::system().clock.now(),
        hostname: "bench".into(),
        username: "bench".into(),
        paths: vec!["/bench".into()],
        tags: vec![],
        extra: serde_json::Value::Null,
    };
    let committed = writer.commit(meta).unwrap();
    let verified = vault.verify_snapshot(&committed.snapshot).unwrap();
    assert_eq!(verified.bytes, committed.bytes_read);
}

fn restore(vault: &str, target: &Path) {
    let vault = open(vault);
    let latest = vault.snapshots().unwrap().pop().unwrap();
    fs::create_dir_all(target).unwrap();
    for entry in vault.entries(&latest).unwrap() {
        if let EntryKind::File { .. } = entry.kind {
            let mut file = File::create(target.join(&entry.path)).unwrap();
            vault.read_entry(&entry, &mut file, &|_| {}, &Stop::default()).unwrap();
        }
    }
}

// ---- the comparison

/// What a process took.
#[derive(Clone, Copy)]
struct Run {
    seconds: f64,
    /// On all cores together: what counts on a machine that others use too.
    cpu_seconds: f64,
    peak_mib: f64,
}

impl Run {
    fn better(self, other: Run) -> Run {
        Run {
            seconds: self.seconds.min(other.seconds),
            cpu_seconds: self.cpu_seconds.min(other.cpu_seconds),
            peak_mib: self.peak_mib.max(other.peak_mib),
        }
    }
}

/// Both vaults, the data, and where restores go.
struct Bench {
    folder: PathBuf,
    ours: PathBuf,
    theirs: PathBuf,
    source: PathBuf,
}

fn bench(folder: &Path, mib: usize, rounds: usize) {
    for round in 1..=rounds {
        let folder = folder.join("vault-bench");
        let _ = fs::remove_dir_all(&folder);
        let bench =
            Bench { ours: folder.join("ours"), theirs: folder.join("theirs"), source: folder.join("source"), folder };
        fs::create_dir_all(&bench.source).unwrap();
        println!("round {round} of {rounds}: making {mib} MiB of rows");
        write_tables(&bench.source, mib << 20, false);
        let store = std::sync::Arc::new(Folder::new(&bench.ours));
        Vault::create(store, &PASSWORD.into(), &Io::system()).unwrap();
        bench.restic(&["init"]);
        println!("{:<28} {:>18} {:>18} {:>9}", "", "ours", "restic", "ratio");
        bench.both_back_up("first backup");
        write_tables(&bench.source, mib << 20, true);
        bench.both_back_up("1 % changed, clustered");
        bench.both_restore();
        if std::env::var_os("KEEP").is_none() {
            fs::remove_dir_all(&bench.folder).unwrap();
        }
    }
}

impl Bench {
    fn both_back_up(&self, what: &str) {
        let (before_ours, before_theirs) = (size_of(&self.ours), size_of(&self.theirs));
        let level = std::env::var("LEVEL").unwrap_or_else(|_| "1".into());
        let ours = self.own(&["backup", self.ours.to_str().unwrap(), self.source.to_str().unwrap(), &level]);
        let theirs = self.restic(&["backup", self.source.to_str().unwrap()]);
        show(what, ours, theirs);
        let added = |now: u64, before: u64| (now - before) as f64 / f64::from(1 << 20);
        let (ours, theirs) = (added(size_of(&self.ours), before_ours), added(size_of(&self.theirs), before_theirs));
        println!("{:<28} {ours:>14.1} MiB {theirs:>14.1} MiB {:>8.2}x", "  stored", ours / theirs);
    }

    /// Twice, by turns, and the better of each: whoever comes first pays for memory that nobody has touched before.
    fn both_restore(&self) {
        let (ours_at, theirs_at) = (self.folder.join("restored-ours"), self.folder.join("restored-theirs"));
        let runs = [(); 2].map(|()| {
            let ours = self.own(&["restore", self.ours.to_str().unwrap(), ours_at.to_str().unwrap()]);
            for (name, size) in files(&self.source) {
                assert_eq!(files(&ours_at).get(&name), Some(&size), "{name} was not restored");
                let same = Command::new("cmp").arg(self.source.join(&name)).arg(ours_at.join(&name)).status().unwrap();
                assert!(same.success(), "{name} differs");
            }
            fs::remove_dir_all(&ours_at).unwrap();
            let theirs = self.restic(&["restore", "latest", "--target", theirs_at.to_str().unwrap()]);
            fs::remove_dir_all(&theirs_at).unwrap();
            (ours, theirs)
        });
        let [(ours, theirs), (ours_again, theirs_again)] = runs;
        show("restore, first", ours, theirs);
        show("restore, again", ours_again, theirs_again);
        show("restore, better of two", ours.better(ours_again), theirs.better(theirs_again));
    }

    fn own(&self, arguments: &[&str]) -> Run {
        run(Command::new(std::env::current_exe().unwrap()).args(arguments))
    }

    fn restic(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new("restic");
        command.arg("--repo").arg(&self.theirs).args(arguments).stdout(Stdio::null());
        run(command.env("RESTIC_PASSWORD", PASSWORD).env("RESTIC_CACHE_DIR", self.folder.join("cache")))
    }
}

fn show(what: &str, ours: Run, theirs: Run) {
    let ratio = theirs.seconds / ours.seconds;
    println!("{what:<28} {:>16.2} s {:>16.2} s {ratio:>8.2}x", ours.seconds, theirs.seconds);
    let ratio = theirs.cpu_seconds / ours.cpu_seconds;
    println!("{:<28} {:>16.2} s {:>16.2} s {ratio:>8.2}x", "  CPU", ours.cpu_seconds, theirs.cpu_seconds);
    println!("{:<28} {:>14.0} MiB {:>14.0} MiB", "  peak memory", ours.peak_mib, theirs.peak_mib);
}

/// Runs a process to its end and watches how large it grows.
fn run(command: &mut Command) -> Run {
    Command::new("sync").status().unwrap(); // nobody pays for what was written before
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let (status_file, stat_file) = (format!("/proc/{}/status", child.id()), format!("/proc/{}/stat", child.id()));
    let (mut peak_mib, mut cpu_seconds) = (0.0_f64, 0.0);
    let status = loop {
        let grown = fs::read_to_string(&status_file).ok().and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        });
        peak_mib = peak_mib.max(grown.unwrap_or(0.0) / 1024.0);
        // Ticks in user and kernel mode, a hundred to the second.
        let stat = fs::read_to_string(&stat_file).unwrap_or_default();
        let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        cpu_seconds = ticks.map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum::<f64>().max(cpu_seconds);
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?} failed");
    Run { seconds, cpu_seconds, peak_mib }
}

fn files(folder: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())).collect()
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| if entry.path().is_dir() { size_of(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

// ---- rows

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Twelve tables of three shapes, like `COPY` writes them. With changes, 1 % of the rows differ, in 20 clusters of each table.
fn write_tables(folder: &Path, bytes: usize, changed: bool) {
    for table in 0..12_u64 {
        let shape = [order, event, user][(table % 3) as usize];
        let name = ["orders", "events", "users"][(table % 3) as usize];
        let path = folder.join(format!("public.{name}_{table}.copy"));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
        let mut left = bytes / 12;
        let rows = left / 180;
        let cluster_every = rows / 20;
        let mut line = String::new();
        for row in 0.. {
            let mut dice = Dice((table << 40 | row) * 2 + 1);
            dice.roll();
            if changed && row as usize % cluster_every < cluster_every / 100 {
                dice.0 ^= 0x5555;
            }
            line.clear();
            shape(&mut line, row, &mut dice);
            if line.len() > left {
                break;
            }
            file.write_all(line.as_bytes()).unwrap();
            left -= line.len();
        }
        file.into_inner().unwrap().sync_all().unwrap();
    }
}

const NAMES: [&str; 8] = ["Ada", "Grace", "Linus", "Edsger", "Barbara", "Dennis", "Radia", "Ken"];
const CITIES: [&str; 8] = ["Bergen", "Porto", "Kiel", "Galway", "Split", "Turku", "Bari", "Brest"];

fn order(line: &mut String, row: u64, dice: &mut Dice) {
    use std::fmt::Write;
    let (a, b) = (dice.roll(), dice.roll());
    let status = ["paid", "open", "shipped", "returned", "cancelled"][(a % 5) as usize];
    let (name, city) = (NAMES[(a >> 8) as usize % 8], CITIES[(a >> 16) as usize % 8]);
    writeln!(
        line,
        "{row}\t{}\t{status}\t{}.{:02}\tEUR\t2026-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00\t{name} {city}strasse {}\t{city}\tleave at the door\t\\N\t{}",
        b % 500_000,
        b % 900,
        a % 100,
        1 + row / 100_000 % 12,
        1 + row / 4000 % 28,
        row / 200 % 24,
        row / 4 % 60,
        a % 60,
        b % 1_000_000,
        a % 200,
        b % 10_000_000,
    )
    .unwrap();
}

fn event(line: &mut String, row: u64, dice: &mut Dice) {
    use std::fmt::Write;
    let (a, b) = (dice.roll(), dice.roll());
    let kind = ["page_view", "add_to_cart", "checkout", "search"][(a % 4) as usize];
    writeln!(
        line,
        "{row}\t{{\"type\": \"{kind}\", \"session\": \"{a:016x}\", \"user_id\": {}, \"path\": \"/products/{}/{}\", \"referrer\": \"https://shop.example/{}\", \"ms\": {}, \"ok\": true}}\t2026-03-{:02} 10:{:02}:{:02}+00",
        b % 500_000,
        CITIES[(b >> 8) as usize % 8].to_lowercase(),
        b % 5000,
        CITIES[(b >> 12) as usize % 8].to_lowercase(),
        b % 3000,
        1 + row / 40_000 % 28,
        row / 700 % 60,
        row / 12 % 60,
    )
    .unwrap();
}

fn user(line: &mut String, row: u64, dice: &mut Dice) {
    use std::fmt::Write;
    let (a, b, c, d) = (dice.roll(), dice.roll(), dice.roll(), dice.roll());
    let name = NAMES[(a >> 8) as usize % 8];
    writeln!(
        line,
        "{row}\t{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}\t{}.{}@example.com\t$2b$12${b:016x}{c:016x}\t{name}\t{}\tt\t2026-02-{:02} 08:{:02}:11+00\t\\N",
        a as u32,
        a >> 48,
        b >> 52,
        c >> 52,
        d >> 16,
        name.to_lowercase(),
        d % 1_000_000,
        CITIES[(d >> 20) as usize % 8],
        1 + row / 30_000 % 28,
        row / 500 % 60,
    )
    .unwrap();
}
