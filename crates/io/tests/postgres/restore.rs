//! What comes back is what was there.

use std::{
    io::{self, Read},
    process::Command,
};

use lifeboat_io::{
    Stop, SystemClock,
    database::postgres::{
        CaptureOptions, Captured, PgError, Restore, RestoreOptions, Restored, Selection, Sources, create_database,
        dress_database, fingerprint, inspect, restore,
    },
};

use crate::{
    helpers::{Memory, address, capture_all, clients, open, shop},
    servers::{MAJORS, NEWER, Server},
};

impl Sources for Memory {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        let bytes = self.files.lock().unwrap().get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}

pub fn restore_into(
    server: &Server,
    database: &str,
    captured: &Captured,
    memory: &Memory,
    options: &RestoreOptions,
) -> Result<Restored, PgError> {
    let mut admin = open(server, "postgres");
    create_database(&mut admin, database, &captured.facts.database)?;
    let (address, clock) = (address(&server.url(database)), SystemClock::default());
    let what =
        Restore { address: &address, facts: &captured.facts, entries: &captured.entries, clock: &clock, options };
    let restored = restore(&what, memory, &Stop::default(), &|_, _| ())?;
    if options.owners_and_grants {
        dress_database(&mut admin, database, &captured.facts.database)?;
    }
    Ok(restored)
}

/// All of a database as `pg_dump` tells it, without what differs from run to run.
pub fn dump(server: &Server, database: &str) -> String {
    let output = Command::new(clients(server.major).folder.join("pg_dump"))
        .args([
            "-h",
            server.socket_folder().to_str().unwrap(),
            "-p",
            &server.port.to_string(),
            "-U",
            "postgres",
            database,
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.contains("restrict ")).map(|line| format!("{line}\n")).collect()
}

/// The dump's lines, those of COPY in order: rows may lie elsewhere in the copy.
pub fn sorted_dump(server: &Server, database: &str) -> Vec<String> {
    let mut lines: Vec<String> = dump(server, database).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

pub fn differences(one: &[String], other: &[String]) -> String {
    let only = |a: &[String], b: &[String], sign: &str| -> String {
        a.iter().filter(|line| !b.contains(line)).take(10).map(|line| format!("{sign} {line}\n")).collect()
    };
    only(one, other, "-") + &only(other, one, "+")
}

/// Source and copy: the same text from `pg_dump`, the same digests, the same fingerprint, the same settings around them.
fn check_same(server: &Server, source: &str, copy: &str, captured: &Captured) {
    let (was, is) = (sorted_dump(server, source), sorted_dump(server, copy));
    assert!(was == is, "PostgreSQL {}:\n{}", server.major, differences(&was, &is));
    let look = |database: &str| {
        let address = address(&server.url(database));
        inspect(&address, &CaptureOptions::default(), &SystemClock::default(), &Stop::default(), &|_, _| ()).unwrap()
    };
    let is = look(copy);
    for (name, table) in &captured.facts.tables {
        assert_eq!(is.tables[name].rows, table.rows, "{name}");
    }
    let prints = |database: &str| fingerprint(&mut open(server, database), &Selection::default()).unwrap();
    let (was, now) = (prints(source), prints(copy));
    assert_eq!(was.differences(&now), Vec::<String>::new(), "PostgreSQL {}", server.major);
    assert_eq!(is.fingerprint, captured.facts.fingerprint);
    assert_eq!(is.sequences, captured.facts.sequences);
    let objects = |facts: &lifeboat_model::PostgresFacts| {
        facts.large_objects.clone().map(|all| (all.objects, all.rows, all.statements))
    };
    assert_eq!(objects(&is), objects(&captured.facts));
    let around = |facts: &lifeboat_model::PostgresFacts| {
        let mut database = facts.database.clone();
        (database.name, database.bytes) = (String::new(), 0);
        database
    };
    assert_eq!(around(&is), around(&captured.facts));
}

#[test]
fn everything_comes_back_identically_in_every_version() {
    for major in MAJORS.into_iter().chain(NEWER) {
        let server = shop(major);
        let (captured, memory) = capture_all(&server, "shop");
        let restored = restore_into(&server, "shop copy", &captured, &memory, &RestoreOptions::default()).unwrap();
        assert_eq!(restored.rows, captured.facts.tables.values().map(|table| table.rows.rows).sum::<u64>());
        assert_eq!(restored.notes, Vec::<String>::new());
        check_same(&server, "shop", "shop copy", &captured);
    }
}
