//! A backup that knows what an earlier one saw of a database's pages finds the same in it as one that knows nothing.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at real files and start real programs")]

mod helpers;

use std::{
    fs,
    path::{Path, PathBuf},
};

use lifeboat_io::{
    Stop, SystemClock, SystemRandom,
    database::sqlite::{ChangedReader, Looked, MapOf, NewMap, PageMap, Pages, Scanned, Seen, quick_digest},
};
use lifeboat_model::manifest::SqliteFacts;
use rusqlite::Connection;
use tempfile::{TempDir, tempdir};

fn sql(file: &Path, statements: &str) {
    helpers::sql(file, &format!("{statements};"));
}

fn of(number: usize) -> MapOf {
    MapOf { vault: "v".to_owned(), snapshot: number.to_string(), inside: "sqlite/shop/shop.db".to_owned() }
}

/// A database that is backed up again and again, by what the backup before saw.
struct World {
    folder: TempDir,
    backups: usize,
    /// What a vault would hold.
    stored: Vec<u8>,
}

/// What a backup found.
struct Backup {
    facts: SqliteFacts,
    /// Bytes of changed pages; nothing when all was read for the first time.
    changed: Option<u64>,
}

impl World {
    fn new(pragmas: &str) -> World {
        let world = World { folder: tempdir().unwrap(), backups: 0, stored: Vec::new() };
        sql(&world.db(), &format!("{pragmas} PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn db(&self) -> PathBuf {
        self.path("app.db")
    }

    fn map(&self) -> PathBuf {
        self.path("app.map")
    }

    fn pages(&self) -> Pages {
        Pages::live(&self.db(), &SystemClock::default(), &Stop::default()).unwrap().unwrap()
    }

    /// Backs up by the map, and compares with what is found without it.
    fn back_up(&mut self) -> Backup {
        let pages = self.pages();
        let earlier = PageMap::open(&self.map(), &of(self.backups));
        let mut new = NewMap::create(&self.map(), pages.page_size(), earlier.as_ref(), &SystemRandom);
        let scanned = earlier.as_ref().and_then(|map| pages.scan(map, &mut new, &Stop::default(), &|_| ()).unwrap());
        self.stored = match &scanned {
            Some(scanned) => patched(&pages, scanned, &self.stored),
            None => {
                let whole = whole(&pages);
                new.add(&whole);
                whole
            }
        };
        assert!(self.stored == whole(&pages), "the patched file is the database");
        let out = self.path("out.db");
        fs::write(&out, &self.stored).unwrap();
        if let Some(scanned) = &scanned {
            assert_eq!(scanned.digest(), quick_digest(&out, &Stop::default(), &|_| ()).unwrap());
        }
        let known = earlier.as_ref().zip(scanned.as_ref());
        let (facts, seen) = sound(pages.look(known, &Stop::default(), &|_| ()).unwrap());
        let (alone, _) = sound(pages.look(None, &Stop::default(), &|_| ()).unwrap());
        assert_eq!(facts, alone);
        self.backups += 1;
        new.finish(of(self.backups), &facts, seen);
        Backup { facts, changed: scanned.map(|scanned| scanned.changed_bytes()) }
    }
}

fn sound(looked: Looked) -> (SqliteFacts, Seen) {
    match looked {
        Looked::Sound(facts, seen) => (*facts, seen),
        Looked::AskSqlite(why) => panic!("{why}"),
    }
}

fn whole(pages: &Pages) -> Vec<u8> {
    use std::io::Read;
    let (mut reader, mut bytes, mut piece) = (pages.reader(), Vec::new(), vec![0; 1 << 20]);
    loop {
        match reader.read(&mut piece).unwrap() {
            0 => return bytes,
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

/// The earlier bytes with the changed ones over them.
fn patched(pages: &Pages, scanned: &Scanned, earlier: &[u8]) -> Vec<u8> {
    let mut bytes = earlier.to_vec();
    bytes.resize(pages.bytes() as usize, 0);
    let (mut reader, mut at) = (ChangedReader::new(pages, scanned), 0);
    while at < pages.bytes() {
        let (same, end) = scanned.run(at);
        if !same {
            reader.read(at, &mut bytes[at as usize..end as usize]).unwrap();
        }
        at = end;
    }
    assert!(reader.all_as_scanned());
    bytes
}

/// Numbers that look random and are the same every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

/// A step of an app's life: rows come, change and go; tables and columns too.
fn step(chance: &mut Chance) -> String {
    let (key, count, bytes) =
        (chance.below(9000) as i64 - 4500, chance.below(90), chance.below(3) * chance.below(4000));
    match chance.below(12) {
        0..=2 => format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT OR REPLACE INTO t SELECT {key} + i * 3, zeroblob({bytes} * (i % 2)), i, '2026-' || i FROM n"
        ),
        3 => format!("DELETE FROM t WHERE id BETWEEN {key} AND {key} + {count} * 5"),
        4 => format!("UPDATE t SET a = 'text ' || id, b = b / 2 WHERE id BETWEEN {key} AND {key} + {count}"),
        5 => format!("INSERT OR IGNORE INTO u SELECT 'u' || id || a, b FROM t WHERE id > {key} LIMIT {count}"),
        6 => format!("DELETE FROM u WHERE rowid % 3 = {}", count % 3),
        7 => format!("INSERT OR REPLACE INTO w SELECT 'w' || (id % 700), b, a FROM t WHERE id > {key} LIMIT {count}"),
        8 => "PRAGMA wal_checkpoint(TRUNCATE)".to_owned(),
        9 if count < 6 => {
            format!("ALTER TABLE u ADD COLUMN c{key}{count} DEFAULT {key}; UPDATE u SET b = 1 WHERE rowid = 3")
        }
        10 if count < 4 => "VACUUM".to_owned(),
        11 if count < 4 => "DROP INDEX IF EXISTS t_a; CREATE INDEX t_a ON t(a)".to_owned(),
        _ => format!("UPDATE t SET created_at = '2027' WHERE id = {key}"),
    }
}

#[test]
fn a_backup_by_a_map_finds_what_one_without_it_finds() {
    for (seed, pragmas) in [
        (1, "PRAGMA page_size = 512;"),
        (2, "PRAGMA page_size = 1024; PRAGMA auto_vacuum = FULL;"),
        (3, "PRAGMA page_size = 4096;"),
        (4, "PRAGMA page_size = 512; PRAGMA encoding = 'UTF-16le';"),
    ] {
        let mut world = World::new(pragmas);
        sql(
            &world.db(),
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b REAL, created_at TEXT); CREATE INDEX t_a ON t(a); CREATE TABLE u(a TEXT UNIQUE, b);
             CREATE TABLE w(k TEXT PRIMARY KEY, n, v) WITHOUT ROWID;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO t SELECT i * 2 - 4000, printf('%.*c', i % 200, 'a'), i, '2026' FROM n;",
        );
        // Stays open, as an app does: what it wrote is in the WAL for the most part.
        let app = Connection::open(world.db()).unwrap();
        let mut chance = Chance(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let mut by_map = 0;
        for _round in 0..25 {
            for _ in 0..chance.below(6) {
                app.execute_batch(&step(&mut chance)).unwrap();
            }
            by_map += usize::from(world.back_up().changed.is_some());
        }
        assert_eq!(by_map, 24, "seed {seed}");
    }
}

const SHOP: &str = "CREATE TABLE orders(id INTEGER PRIMARY KEY, note TEXT, created_at TEXT);
    CREATE TABLE files(id INTEGER PRIMARY KEY, body BLOB); CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
    INSERT INTO orders SELECT i, 'order ' || i, '2026-01-01' FROM n;
    INSERT INTO files SELECT id, randomblob(20000) FROM orders LIMIT 50; INSERT INTO w SELECT note, id FROM orders;";

#[test]
fn what_changed_is_a_few_pages() {
    let mut world = World::new("");
    sql(&world.db(), SHOP);
    let first = world.back_up();
    assert!(first.changed.is_none());
    assert_eq!(world.back_up().changed, Some(0), "nothing");
    sql(&world.db(), "UPDATE orders SET note = 'paid', created_at = '2026-02-02' WHERE id = 7000");
    let second = world.back_up();
    assert!((4096..=4 * 4096).contains(&second.changed.unwrap()), "{:?}", second.changed);
    assert_eq!(second.facts.tables["orders"].newest["created_at"], "2026-02-02");
    assert_ne!(second.facts.tables["orders"].digest, first.facts.tables["orders"].digest);
    assert_eq!(second.facts.tables["files"], first.facts.tables["files"]);
    // A column more: each row is another, and hardly a page.
    sql(&world.db(), "ALTER TABLE orders ADD COLUMN paid INT DEFAULT 1");
    let third = world.back_up();
    assert!(third.changed.unwrap() <= 3 * 4096, "{:?}", third.changed);
    assert_ne!(third.facts.tables["orders"].digest, second.facts.tables["orders"].digest);
}

/// Whatever is broken in the file, the walk by a map does not find it sound when the walk without one does not.
#[test]
fn a_map_hides_no_damage() {
    let world = World::new("PRAGMA page_size = 512;");
    sql(&world.db(), &SHOP.replace("20000)", "800)").replace("LIMIT 50", "LIMIT 5"));
    sql(&world.db(), "PRAGMA journal_mode = DELETE");
    let at_rest = |file: &Path| Pages::at_rest(file, jiff::Timestamp::UNIX_EPOCH, &Stop::default());
    let map_at = world.map();
    let pages = at_rest(&world.db()).unwrap();
    let mut new = NewMap::create(&map_at, pages.page_size(), None, &SystemRandom);
    new.add(&whole(&pages));
    let (facts, seen) = sound(pages.look(None, &Stop::default(), &|_| ()).unwrap());
    new.finish(of(1), &facts, seen);
    drop(pages);
    let (bytes, broken) = (fs::read(world.db()).unwrap(), world.path("broken.db"));
    let mut chance = Chance(99);
    let (mut odd, mut same) = (0, 0);
    for _ in 0..600 {
        let mut bytes = bytes.clone();
        let at = chance.below(bytes.len() as u64) as usize;
        match chance.below(3) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => bytes[at / 512 * 512..(at / 512 + 1) * 512].fill(0),
            _ => {
                // A page that is another's: sound in itself, in the wrong place.
                let from = chance.below(bytes.len() as u64 / 512) as usize * 512;
                bytes.copy_within(from..from + 512, at / 512 * 512);
            }
        }
        fs::write(&broken, &bytes).unwrap();
        let Ok(pages) = at_rest(&broken) else { continue };
        let Some(map) = PageMap::open(&map_at, &of(1)) else { panic!("the map is whole") };
        let scratch = world.path("scratch.map");
        let mut new = NewMap::create(&scratch, pages.page_size(), Some(&map), &SystemRandom);
        let Ok(Some(scanned)) = pages.scan(&map, &mut new, &Stop::default(), &|_| ()) else { continue };
        let by_map = pages.look(Some((&map, &scanned)), &Stop::default(), &|_| ()).unwrap();
        let alone = pages.look(None, &Stop::default(), &|_| ()).unwrap();
        match (by_map, alone) {
            (Looked::Sound(one, _), Looked::Sound(two, _)) => {
                assert_eq!(one, two);
                same += 1;
            }
            (Looked::AskSqlite(_), Looked::AskSqlite(_)) => odd += 1,
            (Looked::Sound(..), Looked::AskSqlite(why)) => panic!("not found by the map: {why}"),
            (Looked::AskSqlite(why), Looked::Sound(..)) => panic!("found by the map alone: {why}"),
        }
    }
    assert!(odd > 200 && same > 50, "{odd} {same}");
}

#[test]
fn a_map_that_cannot_be_relied_upon_counts_as_none() {
    let mut world = World::new("");
    sql(&world.db(), "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    world.back_up();
    assert!(PageMap::open(&world.map(), &of(1)).is_some());
    assert!(PageMap::open(&world.map(), &of(2)).is_none(), "of another snapshot");
    assert!(PageMap::open(&world.map(), &MapOf { vault: "other".to_owned(), ..of(1) }).is_none());
    assert!(PageMap::open(&world.map(), &MapOf { inside: "other".to_owned(), ..of(1) }).is_none());
    assert!(PageMap::open(&world.path("none.map"), &of(1)).is_none());
    let bytes = fs::read(world.map()).unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        fs::write(world.map(), &flipped).unwrap();
        assert!(PageMap::open(&world.map(), &of(1)).is_none(), "byte {at}");
        fs::write(world.map(), &bytes[..at]).unwrap();
        assert!(PageMap::open(&world.map(), &of(1)).is_none(), "cut at {at}");
    }
    // Another page size: everything is read anew.
    fs::write(world.map(), &bytes).unwrap();
    sql(&world.db(), "PRAGMA journal_mode = DELETE; PRAGMA page_size = 1024; VACUUM; PRAGMA journal_mode = WAL;");
    assert!(world.back_up().changed.is_none());
    assert_eq!(world.back_up().changed, Some(0));
    // A map that cannot be written is none, and no failure.
    fs::remove_file(world.map()).unwrap();
    fs::create_dir(world.path("app.map.new")).unwrap();
    assert!(world.back_up().changed.is_none());
    assert!(world.back_up().changed.is_none());
}
