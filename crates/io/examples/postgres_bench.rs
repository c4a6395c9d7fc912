//! How long a capture and a restore of a PostgreSQL database take, without a vault: rows go to plain files.
//!
//! Usage: `postgres_bench CONNECTION_STRING FOLDER [CONNECTIONS]`; makes and drops the database `lifeboat_bench` beside
//! it. FOLDER must not exist; it is removed afterwards. With `null` for FOLDER rows go nowhere, and nothing is restored.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout, reason = "a program for a person")]

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::PathBuf,
    time::Instant,
};

use lifeboat_io::{
    Clock, Stop, SystemClock, SystemEnv, SystemExec,
    database::postgres::{
        Address, Baseline, Capture, CaptureOptions, Restore, RestoreOptions, Selection, Session, Sink, Sinks, Sources,
        capture, choose_clients, compare_rows, create_database, drop_database, find_clients, fingerprint, inspect,
        restore,
    },
};

struct Files(Option<PathBuf>);

struct FileSink(Option<File>);

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(bytes.len()), |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for FileSink {
    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

impl Sinks for Files {
    fn begin(&self, path: &str) -> io::Result<Box<dyn Sink + '_>> {
        let Some(folder) = &self.0 else { return Ok(Box::new(FileSink(None))) };
        Ok(Box::new(FileSink(Some(File::create(folder.join(path.replace('/', "_")))?))))
    }
}

impl Sources for Files {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        let folder = self.0.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(File::open(folder.join(path.replace('/', "_")))?))
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let address = Address::parse(&args[1], &SystemEnv).unwrap();
    let folder = (args[2] != "null").then(|| PathBuf::from(&args[2]));
    let connections = args.get(3).map_or(2, |text| text.parse().unwrap());
    let (stop, clock) = (Stop::default(), SystemClock::default());
    let mut session = Session::open(&address, &stop).unwrap();
    let clients = find_clients(&SystemExec, &SystemEnv, &stop).unwrap();
    let clients = choose_clients(&clients, session.major()).unwrap().clone();
    let work = std::env::temp_dir().join(format!("lifeboat-bench-{}", std::process::id()));
    fs::create_dir(&work).unwrap();
    folder.iter().for_each(|folder| fs::create_dir(folder).unwrap());

    let files = Files(folder.clone());
    let options = CaptureOptions { connections, ..CaptureOptions::default() };
    let what = Capture {
        address: &address,
        clients: &clients,
        exec: &SystemExec,
        clock: &clock,
        folder: &work,
        options: &options,
        earlier: None,
    };
    let begun = Instant::now();
    let captured = capture(&what, &files, &stop, &|_, _| ()).unwrap();
    let bytes: u64 = captured.facts.tables.values().flat_map(|table| &table.parts).map(|part| part.bytes).sum();
    println!("capture      {:>8.2} s  {} MB of rows", begun.elapsed().as_secs_f64(), bytes >> 20);
    let begun = Instant::now();
    fingerprint(&mut session, &Selection::default()).unwrap();
    println!("fingerprint  {:>8.3} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let (selection, moved) = (Selection::default(), std::collections::BTreeMap::new());
    let (facts, horizon) = (&captured.facts, Some(&captured.facts.horizon));
    let baseline = Baseline { facts, sources: &files, horizon, moved: &moved, selection: &selection, schemas: &[] };
    compare_rows(&mut session, &baseline, None).unwrap();
    println!("loss         {:>8.2} s", begun.elapsed().as_secs_f64());

    if folder.is_some() {
        let name = "lifeboat_bench";
        drop_database(&mut session, name).unwrap();
        create_database(&mut session, name, &captured.facts.database).unwrap();
        let copy = address.with_database(name);
        let restore_options = RestoreOptions { connections, ..RestoreOptions::default() };
        let what = Restore {
            address: &copy,
            facts: &captured.facts,
            entries: &captured.entries,
            clock: &clock,
            options: &restore_options,
        };
        let begun = clock.elapsed();
        let restored = restore(&what, &files, &stop, &|_, _| ()).unwrap();
        println!("restore      {:>8.2} s", (clock.elapsed() - begun).as_secs_f64());
        restored.phases.iter().for_each(|(phase, took)| println!("  {:>8.2} s  {phase}", took.as_secs_f64()));
        let begun = Instant::now();
        let found = inspect(&copy, &options, &clock, &stop, &|_, _| ()).unwrap();
        println!("inspect      {:>8.2} s", begun.elapsed().as_secs_f64());
        let same = captured.facts.tables.iter().all(|(name, table)| found.tables[name].rows == table.rows);
        println!("same rows: {same}; same definitions: {}", found.fingerprint == captured.facts.fingerprint);
        drop_database(&mut session, name).unwrap();
    }
    fs::remove_dir_all(&work).unwrap();
    folder.iter().for_each(|folder| fs::remove_dir_all(folder).unwrap());
}
