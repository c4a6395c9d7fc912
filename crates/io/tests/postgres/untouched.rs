//! Captures that take over what nobody has written to since an earlier one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use lifeboat_io::{
    Clock, Random, Stop, Stopped, SystemClock,
    database::postgres::{CaptureOptions, Captured, DAYS_MAX, Outlook, Selection, inspect, outlook},
    testing::SeededRandom,
};
use lifeboat_model::{PostgresFacts, Timestamp};

use crate::{
    helpers::{Memory, address, capture_since, open},
    servers::{MAJORS, Server},
};

const DATABASE: &str = "postgres";

/// A table of more than a MiB, most of it room, whose rows depend on its name.
fn table(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (id int PRIMARY KEY, body text, extra int) WITH (fillfactor = 10);
         INSERT INTO {name} SELECT i, '{name} ' || i || repeat('.', 60), i FROM generate_series(1, 1500) i;"
    )
}

/// A capture to build upon.
fn first(server: &Server) -> (Captured, Memory) {
    let memory = Memory::default();
    let captured = take(server, &memory, None);
    (captured, memory)
}

fn take(server: &Server, memory: &Memory, earlier: Option<&PostgresFacts>) -> Captured {
    let address = address(&server.url(DATABASE));
    capture_since(server, &address, &CaptureOptions::default(), memory, earlier, &Stop::default()).unwrap()
}

/// What a capture would read, asked for so long at most.
fn asked(server: &Server, earlier: Option<&PostgresFacts>, limit: Duration) -> Outlook {
    let (address, clock) = (address(&server.url(DATABASE)), SystemClock::default());
    outlook(&address, &Selection::default(), earlier, &clock, limit, &Stop::default()).unwrap()
}

/// What a capture has read and taken over.
fn done(facts: &PostgresFacts) -> Outlook {
    let bytes = |is_again: bool| {
        let tables = facts.tables.values().filter(|table| table.read_at.is_some() == is_again);
        tables.map(|table| table.disk_bytes).sum()
    };
    Outlook { read_bytes: bytes(false), again_bytes: bytes(true) }
}

/// But for what the server notes of a table's pages meanwhile, by itself. Tables have more than a MiB.
fn about_the_same(foreseen: Outlook, done: Outlook) {
    let is_same = |one: u64, other: u64| one.abs_diff(other) < 512 << 10;
    let same = is_same(foreseen.read_bytes, done.read_bytes) && is_same(foreseen.again_bytes, done.again_bytes);
    assert!(same, "{foreseen:?}, and {done:?}");
}

/// A second capture: it has to hold what is there, and to do what was said beforehand. Gives the tables that were not read.
fn second(server: &Server, earlier: &PostgresFacts, files: &Memory) -> (Captured, Memory, BTreeSet<String>) {
    let memory = Memory { earlier: files.files.lock().unwrap().clone(), ..Memory::default() };
    let foreseen = asked(server, Some(earlier), Duration::from_secs(600));
    let captured = take(server, &memory, Some(earlier));
    // That its files are gone is only seen when they are wanted.
    if !memory.earlier.is_empty() {
        about_the_same(foreseen, done(&captured.facts));
    }
    same_as_read(server, &captured, &memory);
    let facts = &captured.facts;
    let again = facts.tables.iter().filter(|(_, table)| table.read_at.is_some()).map(|(title, _)| title.clone());
    let again = again.collect();
    (captured, memory, again)
}

fn same_as_read(server: &Server, captured: &Captured, memory: &Memory) {
    let address = address(&server.url(DATABASE));
    let clock = SystemClock::default();
    let read = inspect(&address, &CaptureOptions::default(), &clock, &Stop::default(), &|_, _| ()).unwrap();
    let rows = |facts: &PostgresFacts| -> BTreeMap<String, _> {
        facts.tables.iter().map(|(title, table)| (title.clone(), table.rows.clone())).collect()
    };
    assert_eq!(rows(&captured.facts), rows(&read));
    let files = memory.files.lock().unwrap();
    for (title, table) in &captured.facts.tables {
        let lines = table.parts.iter().map(|part| files[&part.path].iter().filter(|byte| **byte == b'\n').count());
        assert_eq!(lines.sum::<usize>() as u64, table.rows.rows, "{title}");
    }
}

#[test]
fn what_was_not_found_out_in_time_counts_as_read() {
    let server = Server::start(15);
    server.sql(DATABASE, &table("large"));
    let (earlier, _) = first(&server);
    let all = done(&earlier.facts);
    let none = asked(&server, None, Duration::from_secs(600));
    about_the_same(none, Outlook { again_bytes: 0, ..all });
    let known = asked(&server, Some(&earlier.facts), Duration::from_secs(600));
    about_the_same(known, Outlook { read_bytes: 0, again_bytes: all.read_bytes });
    about_the_same(asked(&server, Some(&earlier.facts), Duration::ZERO), all);
    // A millisecond before the end the server is asked still. It ends the statement then, and nothing fails.
    let wide = "CREATE TABLE wide (body text) WITH (fillfactor = 10);
        INSERT INTO wide SELECT repeat(md5(i::text), 24) FROM generate_series(1, 20000) i";
    server.sql(DATABASE, wide);
    let (earlier, _) = first(&server);
    let (address, clock) = (address(&server.url(DATABASE)), SoonOver::default());
    let (selection, limit) = (Selection::default(), Duration::from_secs(600));
    let short = outlook(&address, &selection, Some(&earlier.facts), &clock, limit, &Stop::default()).unwrap();
    let all = done(&earlier.facts);
    assert!(short.read_bytes >= all.read_bytes / 2, "{short:?} of {all:?}: most of it is in that table");
}

/// Ten minutes but for a millisecond are over when it is asked for the third time: by those who look at tables.
#[derive(Default)]
struct SoonOver {
    clock: SystemClock,
    asked: AtomicUsize,
}

impl Clock for SoonOver {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn elapsed(&self) -> Duration {
        match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Duration::ZERO,
            _later => Duration::from_millis(599_999),
        }
    }

    fn sleep(&self, duration: Duration, stop: &Stop) -> Result<(), Stopped> {
        self.clock.sleep(duration, stop)
    }
}

fn titles(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| format!("public.{name}")).collect()
}

#[test]
fn a_table_that_nobody_wrote_to_is_taken_over_and_every_other_is_read() {
    for major in MAJORS {
        let server = Server::start(major);
        let names = [
            "same",
            "inserted",
            "updated",
            "deleted",
            "exchanged",
            "refilled",
            "one",
            "other",
            "lost_a_column",
            "undone",
            "rewritten",
            "frozen",
            "held",
            "widened",
        ];
        names.iter().for_each(|name| drop(server.sql(DATABASE, &table(name))));
        server.sql(
            DATABASE,
            "CREATE TYPE mood AS ENUM ('well', 'ill'); CREATE DOMAIN small AS int; CREATE TYPE place AS (street text, number small);
             CREATE TABLE typed (id int PRIMARY KEY, mood mood, moods mood[], small small, at timestamptz, b bytea, n numeric[], place place, span int4range) WITH (fillfactor = 10);
             INSERT INTO typed SELECT i, 'well', '{well,ill}', i, now(), repeat('x', 40)::bytea, '{1,2}', ('Quay', i)::place, int4range(i, i + 5) FROM generate_series(1, 1500) i;
             CREATE TABLE named (id int PRIMARY KEY, what regclass, body text) WITH (fillfactor = 10);
             INSERT INTO named SELECT i, 'typed', repeat('x', 90) FROM generate_series(1, 1500) i;
             CREATE TABLE placed (id int PRIMARY KEY, place place) WITH (fillfactor = 10);
             INSERT INTO placed SELECT i, ('Harbour', i)::place FROM generate_series(1, 3000) i;
             CREATE TABLE tiny AS SELECT 1 AS one;
             CREATE TABLE parted (id int, body text) PARTITION BY RANGE (id);
             CREATE TABLE part_a PARTITION OF parted FOR VALUES FROM (0) TO (2000) WITH (fillfactor = 10);
             CREATE TABLE part_b PARTITION OF parted FOR VALUES FROM (2000) TO (4000) WITH (fillfactor = 10);
             INSERT INTO parted SELECT i, repeat('x', 90) FROM generate_series(1, 3999) i",
        );
        // Somebody is at it while the first capture is made; what he does is committed after it.
        let mut somebody = open(&server, DATABASE);
        somebody.run("BEGIN").unwrap();
        somebody.run("UPDATE public.held SET body = 'held' WHERE id = 700").unwrap();
        let (earlier, files) = first(&server);
        somebody.run("COMMIT").unwrap();

        server.sql(
            DATABASE,
            "INSERT INTO inserted VALUES (0, 'new', 0);
             UPDATE updated SET extra = 0 WHERE id = 471;
             DELETE FROM deleted WHERE id = 1500;
             DELETE FROM exchanged WHERE id = 5; INSERT INTO exchanged VALUES (5, 'another', 5);
             TRUNCATE refilled; INSERT INTO refilled SELECT i, 'refilled ' || i || repeat('.', 60), i FROM generate_series(1, 1500) i;
             ALTER TABLE one RENAME TO third; ALTER TABLE other RENAME TO one; ALTER TABLE third RENAME TO other;
             BEGIN; UPDATE undone SET extra = 0; ROLLBACK;
             VACUUM FULL rewritten; VACUUM (FREEZE) frozen;
             INSERT INTO part_b VALUES (2000, 'late')",
        );
        let (next, _, mut again) = second(&server, &earlier.facts, &files);
        assert_eq!(
            again,
            titles(&["same", "undone", "rewritten", "frozen", "typed", "placed", "part_a", "lost_a_column", "widened"]),
            "PostgreSQL {major}"
        );
        let read_at = next.facts.tables["public.same"].read_at;
        assert_eq!(read_at, earlier.facts.horizon.at, "and it is told when they were read");

        // Other definitions: each of these would have been wrong, and no other table is read for it.
        for (change, table) in [
            ("ALTER TYPE mood RENAME VALUE 'well' TO 'fine'", "typed"),
            (
                "ALTER TABLE lost_a_column DROP COLUMN extra; ALTER TABLE lost_a_column ADD COLUMN extra int",
                "lost_a_column",
            ),
            ("ALTER TABLE widened ALTER COLUMN extra TYPE bigint", "widened"),
        ] {
            server.sql(DATABASE, change);
            let (_, _, now) = second(&server, &earlier.facts, &files);
            assert!(again.remove(&format!("public.{table}")));
            assert_eq!(now, again, "{change}");
        }
    }
}

/// A third one builds on the second, as long as that was read not long ago.
#[test]
fn what_is_taken_over_is_read_again_after_a_week() {
    let server = Server::start(16);
    server.sql(DATABASE, &table("same"));
    let (earlier, files) = first(&server);
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let before = |facts: &PostgresFacts, by: Duration| {
        let mut facts = facts.clone();
        facts.horizon.at = facts.horizon.at.map(|at| at - by);
        for table in facts.tables.values_mut() {
            table.read_at = table.read_at.map(|at| at - by);
        }
        facts
    };
    let (next, next_files, again) = second(&server, &before(&earlier.facts, days(DAYS_MAX - 1)), &files);
    assert_eq!(again, titles(&["same"]));
    // The second capture is of now, its rows are six days old.
    let mut by_now = next.facts.clone();
    let (_, _, again) = second(&server, &by_now, &next_files);
    assert_eq!(again, titles(&["same"]));
    let table = by_now.tables.get_mut("public.same").unwrap();
    table.read_at = table.read_at.map(|at| at - days(1));
    let (_, _, again) = second(&server, &by_now, &next_files);
    assert_eq!(again, BTreeSet::new(), "they are seven days old");
    let (_, _, again) = second(&server, &before(&earlier.facts, days(DAYS_MAX)), &files);
    assert_eq!(again, BTreeSet::new());
    let mut tomorrow = earlier.facts.clone();
    tomorrow.horizon.at = tomorrow.horizon.at.map(|at| at + days(1));
    let (_, _, again) = second(&server, &tomorrow, &files);
    assert_eq!(again, BTreeSet::new(), "a clock that was put back says nothing");
}

/// Where the server may count twice, or the files are gone, everything is read.
#[test]
fn nothing_is_taken_over_from_what_may_not_be_so_any_more() {
    let mut server = Server::start(15);
    server.sql(DATABASE, &table("same"));
    let (mut earlier, files) = first(&server);
    // Whether it was so depends on the server's writer; both are tried.
    earlier.facts.horizon.on_disk = true;
    let changed = |change: &dyn Fn(&mut PostgresFacts)| {
        let mut facts = earlier.facts.clone();
        change(&mut facts);
        second(&server, &facts, &files).2
    };
    assert_eq!(changed(&|_| ()), titles(&["same"]), "it is, as it stands");
    assert_eq!(changed(&|facts| facts.horizon.on_disk = false), titles(&["same"]), "no process has crashed");
    assert_eq!(changed(&|facts| facts.horizon.unbroken_since = None), titles(&["same"]), "and what it saw is on disk");
    let unsure = |facts: &mut PostgresFacts| (facts.horizon.on_disk, facts.horizon.unbroken_since) = (false, None);
    assert_eq!(changed(&unsure), BTreeSet::new(), "its commits may be lost");
    assert_eq!(changed(&|facts| facts.horizon.database_oid += 1), BTreeSet::new());
    assert_eq!(changed(&|facts| facts.horizon.timeline = Some(7)), BTreeSet::new());
    assert_eq!(changed(&|facts| facts.horizon.xmin += 1_000_000), BTreeSet::new());
    assert_eq!(changed(&|facts| facts.server_version += 1), BTreeSet::new());
    assert_eq!(changed(&|facts| facts.tables.get_mut("public.same").unwrap().identity.clear()), BTreeSet::new());
    // One of its files is gone.
    let (_, _, again) = second(&server, &earlier.facts, &Memory::default());
    assert_eq!(again, BTreeSet::new());
    // One of its processes is killed: all of them begin anew, from what is on disk.
    let victim = server.sql(DATABASE, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
    assert!(std::process::Command::new("kill").args(["-9", victim.trim()]).status().unwrap().success());
    wait_until_it_answers_with_another(&server, victim.trim());
    let mut on_disk = earlier.facts.clone();
    let (_, _, again) = second(&server, &on_disk, &files);
    assert_eq!(again, titles(&["same"]), "that was there");
    on_disk.horizon.on_disk = false;
    let (_, _, again) = second(&server, &on_disk, &files);
    assert_eq!(again, BTreeSet::new(), "that may have been lost");
    server.crash_and_restart();
    let (_, _, again) = second(&server, &earlier.facts, &files);
    assert_eq!(again, BTreeSet::new(), "a server that was started again may be one from earlier");
}

fn wait_until_it_answers_with_another(server: &Server, walwriter: &str) {
    let ask = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
    for _ in 0..600 {
        let said = server.try_sql("postgres", DATABASE, ask);
        let pid = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        if said.status.success() && !pid.is_empty() && pid != walwriter {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the server does not come back");
}

/// Any writes at all, capture upon capture: each holds what is there.
#[test]
fn captures_upon_captures_hold_what_is_there() {
    const TABLES: u64 = 5;
    let seed = std::env::var("LIFEBOAT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(28);
    let random = SeededRandom::new(seed);
    let below = |most: u64| {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        u64::from_le_bytes(bytes) % most
    };
    let server = Server::start(17);
    (0..TABLES).for_each(|number| drop(server.sql(DATABASE, &table(&format!("t{number}")))));
    let (mut earlier, mut files) = first(&server);
    let mut taken = 0;
    for round in 0..12 {
        for _ in 0..below(4) {
            let (name, id) = (format!("t{}", below(TABLES)), below(1_500) + 1);
            let other = format!("t{}", below(TABLES));
            server.sql(DATABASE, &match below(9) {
                0 => format!("INSERT INTO {name} SELECT max(id) + 1, 'more', 0 FROM {name}"),
                1 => format!("UPDATE {name} SET extra = extra + 1 WHERE id = {id}"),
                2 => format!("DELETE FROM {name} WHERE id = {id}"),
                3 => format!("DELETE FROM {name} WHERE id = {id}; INSERT INTO {name} VALUES ({id}, 'again', {id})"),
                4 => format!("BEGIN; TRUNCATE {name}; ROLLBACK"),
                5 => format!("VACUUM FULL {name}"),
                6 => format!("BEGIN; SAVEPOINT s; UPDATE {name} SET body = 'x' WHERE id = {id}; RELEASE s; COMMIT"),
                7 if name != other => format!("BEGIN; ALTER TABLE {name} RENAME TO t; ALTER TABLE {other} RENAME TO {name}; ALTER TABLE t RENAME TO {other}; COMMIT"),
                _ => format!("VACUUM (FREEZE, ANALYZE) {name}"),
            });
        }
        let (next, next_files, again) = second(&server, &earlier.facts, &files);
        taken += again.len();
        assert!(taken > 0 || round < 11, "seed {seed}: nothing was ever taken over");
        (earlier, files) = (next, next_files);
    }
}
