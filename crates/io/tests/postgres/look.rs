//! Looking at a database: is it good, is it the one that was captured, what was written since.

use std::{collections::BTreeMap, time::Instant};

use lifeboat_io::{
    Stop, SystemClock,
    database::postgres::{
        Baseline, CaptureOptions, Captured, ChangedTable, KeepRows, RestoreOptions, RowChanges, Selection, Session,
        Sources, check_database, compare_ahead, compare_facts, compare_rest, compare_rows, fingerprint, inspect,
        negative_control, same_lineage, still_holds, try_writes, unwatched, watch_off, watch_tables,
    },
};
use lifeboat_model::{Check, PostgresFacts, Tri};

use crate::{
    helpers::{address, capture_all, open, shop},
    restore::restore_into,
    servers::{MAJORS, Server},
};

fn look(server: &Server, database: &str) -> PostgresFacts {
    let address = address(&server.url(database));
    inspect(&address, &CaptureOptions::default(), &SystemClock::default(), &Stop::default(), &|_, _| ()).unwrap()
}

fn bad(checks: &[Check]) -> Vec<String> {
    checks
        .iter()
        .filter(|check| check.outcome != Tri::Pass)
        .map(|check| format!("{}: {}", check.name, check.detail))
        .collect()
}

fn copied(major: u32) -> (Server, Captured) {
    let server = shop(major);
    let (captured, memory) = capture_all(&server, "shop");
    restore_into(&server, "copy", &captured, &memory, &RestoreOptions::default()).unwrap();
    (server, captured)
}

#[test]
fn a_good_copy_passes_every_check() {
    for major in MAJORS {
        let (server, captured) = copied(major);
        assert_eq!(bad(&compare_facts(&captured.facts, &look(&server, "copy"), true)), Vec::<String>::new());
        let mut session = open(&server, "copy");
        assert_eq!(bad(&check_database(&mut session)), Vec::<String>::new(), "PostgreSQL {major}");
        assert_eq!(bad(&try_writes(&mut session, &captured.facts)), Vec::<String>::new());
        assert_eq!(negative_control(&mut session, &captured.facts).outcome, Tri::Pass);
        // Looking and trying have changed nothing.
        assert_eq!(bad(&compare_facts(&captured.facts, &look(&server, "copy"), true)), Vec::<String>::new());
    }
}

/// VFY-10 and its neighbours: each change is seen, by the check that is about it.
#[test]
fn vfy_10_each_change_is_seen() {
    let (server, captured) = copied(15);
    let mut kinds_seen = 0;
    for (change, undo, named) in [
        // The policies stay listed although they no longer hold.
        (
            "ALTER TABLE docs DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
            "definitions: rls",
        ),
        (
            "ALTER POLICY own_docs ON docs USING (true)",
            "ALTER POLICY own_docs ON docs USING (owner = uid())",
            "definitions: policy",
        ),
        (
            "ALTER TABLE orders DISABLE TRIGGER orders_touch",
            "ALTER TABLE orders ENABLE TRIGGER orders_touch",
            "definitions: trigger",
        ),
        ("GRANT DELETE ON orders TO shop_app", "REVOKE DELETE ON orders FROM shop_app", "definitions: acl"),
        (
            "ALTER TABLE private.audit OWNER TO postgres",
            "ALTER TABLE private.audit OWNER TO shop_owner",
            "definitions: owner",
        ),
        ("REFRESH MATERIALIZED VIEW sales WITH NO DATA", "REFRESH MATERIALIZED VIEW sales", "definitions: relation"),
        ("ALTER TABLE parent RENAME TO renamed", "ALTER TABLE renamed RENAME TO parent", "rows of public.parent"),
        (
            "INSERT INTO schema_migrations VALUES ('20260303')",
            "DELETE FROM schema_migrations WHERE version = '20260303'",
            "migrations",
        ),
        ("SELECT nextval('order_no')", "SELECT setval('order_no', 99999, false)", "sequences"),
        ("SELECT lo_put(70003, 0, 'S')", "SELECT lo_put(70003, 0, 's')", "large objects"),
        ("UPDATE cache SET v = 'c'", "UPDATE cache SET v = 'b'", "rows of public.cache"),
    ] {
        server.sql("copy", change);
        let seen = bad(&compare_facts(&captured.facts, &look(&server, "copy"), true));
        assert!(seen.iter().any(|check| check.starts_with(named)), "{change}: {seen:?}");
        server.sql("copy", undo);
        kinds_seen += 1;
    }
    assert_eq!(kinds_seen, 11);
    // What differs is named, a line each.
    server.sql("copy", "ALTER TABLE docs DISABLE ROW LEVEL SECURITY");
    let prints = |database: &str| fingerprint(&mut open(&server, database), &Selection::default()).unwrap();
    let differences = prints("shop").differences(&prints("copy"));
    assert_eq!(
        differences,
        ["- rls public.docs enabled=true forced=false", "+ rls public.docs enabled=false forced=false"]
    );
}

/// Content that breaks the database's own rules.
#[test]
fn orphans_and_sequences_behind_are_seen() {
    let server = shop(16);
    server.sql(
        "shop",
        "SET session_replication_role = replica; DELETE FROM orders WHERE id = 7; SELECT setval('docs_id_seq', 5)",
    );
    let seen = bad(&check_database(&mut open(&server, "shop")));
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].contains("1 rows of private.audit have no row in public.orders"), "{seen:?}");
    assert!(seen[1].contains("docs_id_seq is behind"), "{seen:?}");
    // What we may not look at is unknown, not good.
    server.sql("shop", "GRANT USAGE ON SCHEMA auth, private TO shop_app");
    let mut limited =
        lifeboat_io::database::postgres::Session::open(&address(&server.url_as("shop_app", "shop")), &Stop::default())
            .unwrap();
    let checks = check_database(&mut limited);
    assert!(checks.iter().any(|check| check.name == "foreign keys" && check.outcome == Tri::Unknown), "{checks:?}");
}

/// What was written since a backup: with the server's own counting of transactions, and row by row, the same.
#[test]
fn loss_is_counted_row_by_row_with_and_without_the_counting_of_transactions() {
    for major in MAJORS {
        let server = shop(major);
        let (captured, memory) = capture_all(&server, "shop");
        let mut session = open(&server, "shop");
        assert!(same_lineage(&mut session, &captured.facts.horizon).unwrap().is_ok());
        assert_eq!(changes(&mut session, &captured.facts, &memory, true), []);
        server.sql(
            "shop",
            "INSERT INTO schema_migrations VALUES ('a'), ('b'), ('c'); UPDATE docs SET title = 'changed' WHERE id IN (5, 6);
             DELETE FROM docs WHERE id = 9; INSERT INTO docs(title) VALUES ('new'); DROP TABLE cache",
        );
        let wanted = [
            ("public.cache".to_owned(), RowChanges { deleted: 1, ..RowChanges::default() }),
            ("public.docs".to_owned(), RowChanges { inserted: 1, updated: 2, deleted: 1 }),
            ("public.schema_migrations".to_owned(), RowChanges { inserted: 3, ..RowChanges::default() }),
        ];
        assert_eq!(changes(&mut session, &captured.facts, &memory, true), wanted, "PostgreSQL {major}");
        assert_eq!(changes(&mut session, &captured.facts, &memory, false), wanted);
        // VACUUM FREEZE changes nothing of that.
        server.sql("shop", "VACUUM FREEZE docs");
        assert_eq!(changes(&mut session, &captured.facts, &memory, true), wanted);
    }
}

/// What the second look adds to the first: a row that came or went, or was written over, between the two; and a table at
/// rest is not read again.
#[test]
fn a_second_look_reads_only_what_was_written_to_since_the_first() {
    for major in MAJORS {
        let server = shop(major);
        let (captured, memory) = capture_all(&server, "shop");
        server
            .sql("shop", "UPDATE docs SET title = 'changed' WHERE id = 5; INSERT INTO schema_migrations VALUES ('a')");
        let mut session = open(&server, "shop");
        let (selection, moved) = (Selection::default(), BTreeMap::new());
        let baseline = Baseline {
            facts: &captured.facts,
            sources: &memory,
            horizon: None,
            moved: &moved,
            selection: &selection,
            schemas: &[],
        };
        let mut first = Seen::default();
        let (_, ahead) = compare_ahead(&mut session, &baseline, &mut first, &mut || Ok(())).unwrap();
        assert_eq!(first.0, ["public.docs", "public.schema_migrations"]);
        let mut look = |sql: &str| {
            server.sql("shop", sql);
            let holds = still_holds(&mut session, &baseline, &ahead, None).unwrap();
            let mut seen = Seen::default();
            let all = compare_rest(&mut session, &baseline, &holds, None, &mut seen).unwrap();
            let docs = all.iter().find(|table| table.title == "public.docs").map(|table| table.changes);
            (seen.0.join(" "), docs.unwrap())
        };
        let (updated, at_rest) = (1, "SELECT 1");
        assert_eq!(look(at_rest), (String::new(), RowChanges { inserted: 0, updated, deleted: 0 }));
        let (read, docs) = look("INSERT INTO docs(title) VALUES ('new')");
        assert_eq!((read.as_str(), docs), ("public.docs", RowChanges { inserted: 1, updated, deleted: 0 }));
        let (read, docs) = look("DELETE FROM docs WHERE title = 'new'");
        assert_eq!((read.as_str(), docs.inserted), ("", 0), "as it was: not read again");
        let (read, docs) = look("DELETE FROM docs WHERE id = 9");
        assert_eq!((read.as_str(), docs), ("public.docs", RowChanges { inserted: 0, updated, deleted: 1 }));
        let (read, docs) = look("UPDATE docs SET title = 'twice' WHERE id = 6");
        assert_eq!((read.as_str(), docs), ("public.docs", RowChanges { inserted: 0, updated: 2, deleted: 1 }));
        let (read, _) = look(
            "BEGIN; CREATE TEMP TABLE k AS TABLE schema_migrations; TRUNCATE schema_migrations; INSERT INTO schema_migrations TABLE k; COMMIT",
        );
        assert_eq!(read, "public.docs public.schema_migrations", "the same rows, written again");
    }
}

/// Watched tables: only rows that were written to are read again, however they came to be; what no trigger sees is seen all the
/// same, and then a table is compared in full. Nothing is left, and a watch that nobody keeps logs nothing.
#[test]
fn a_second_look_at_watched_tables_reads_only_rows_that_were_written_to() {
    for major in MAJORS {
        let server = shop(major);
        let clock = lifeboat_io::SystemClock::default();
        server.sql("shop", "CREATE DOMAIN number AS int; CREATE TYPE piece AS ENUM ('p0', 'p1', 'p2', 'p9', 'moved')");
        // A key of types of the app's own, too.
        let (number, piece) = if major == 13 { ("int", "text") } else { ("number", "piece") };
        server.sql(
            "shop",
            &format!(
                "CREATE TABLE notes (id {number}, part {piece}, what text, PRIMARY KEY (part, id));
                 INSERT INTO notes SELECT n, ('p' || n % 3)::{piece}, 'note' FROM generate_series(1, 50) n"
            ),
        );
        let (captured, memory) = capture_all(&server, "shop");
        server.sql("shop", "UPDATE notes SET what = 'before' WHERE id = 5");
        let mut session = open(&server, "shop");
        let (selection, moved) = (Selection::default(), BTreeMap::new());
        let (facts, sources) = (&captured.facts, &memory);
        let baseline = Baseline { facts, sources, horizon: None, moved: &moved, selection: &selection, schemas: &[] };
        let open_tables = unwatched(&mut session, &baseline).unwrap();
        assert!(!open_tables.iter().any(|(title, _)| title == "public.notes"), "{open_tables:?}");
        let wait = std::time::Duration::from_secs(5);
        let (tables, watched) = watch_tables(&mut session, &baseline, wait, &clock, &Stop::default()).unwrap();
        assert_eq!(watched, tables - open_tables.len() as u64);
        let mut first = Seen::default();
        let (_, ahead) = compare_ahead(&mut session, &baseline, &mut first, &mut || Ok(())).unwrap();
        let mut look = |sql: &str| {
            server.sql("shop", sql);
            let holds = still_holds(&mut session, &baseline, &ahead, None).unwrap();
            let mut seen = Seen::default();
            let all = compare_rest(&mut session, &baseline, &holds, None, &mut seen).unwrap();
            let notes = all.iter().find(|table| table.title == "public.notes").map(|table| table.changes);
            (seen.0.join(" "), seen.1.join(" "), notes.unwrap_or_default())
        };
        let counted = |inserted, updated, deleted| RowChanges { inserted, updated, deleted };
        assert_eq!(look("SELECT 1"), (String::new(), String::new(), counted(0, 1, 0)));
        let (full, late, notes) = look(
            "INSERT INTO notes VALUES (99, 'p9', 'new'); DELETE FROM notes WHERE id = 7; UPDATE notes SET part = 'moved' WHERE id = 8",
        );
        assert_eq!(full, "", "no table is read in full");
        assert_eq!(late, "K moved,8 K p1,7 K p2,8 K p9,99 R moved,8 R p9,99", "PostgreSQL {major}");
        assert_eq!(
            notes,
            counted(2, 1, 2),
            "the row that had changed before is not among the first look's kept ones here"
        );
        // Replicas and superusers too; and one that came goes again.
        let (_, late, notes) = look(
            "SET session_replication_role = replica; DELETE FROM notes WHERE id = 99; UPDATE notes SET what = 'x' WHERE id = 9",
        );
        assert!(late.contains("K p0,9") && late.contains("K p9,99") && !late.contains("R p9,99"), "{late}");
        assert_eq!(notes, counted(1, 2, 2));
        // What no trigger tells.
        let (full, _, notes) = look(
            "BEGIN; CREATE TEMP TABLE k AS TABLE notes; TRUNCATE notes; INSERT INTO notes SELECT * FROM k WHERE id > 1; COMMIT",
        );
        assert_eq!((full.as_str(), notes), ("public.notes", counted(1, 2, 3)));
        // A watch is over as soon as nobody keeps it, and goes without a trace.
        server.sql("shop", "SELECT setval('lifeboat_watch.until', 0); UPDATE docs SET title = 'unseen' WHERE id = 3");
        let log = server.sql("shop", "SELECT 'lifeboat_watch.t_' || 'docs'::regclass::oid");
        let logged = server.sql("shop", &format!("SELECT count(*) FROM {}", log.trim()));
        assert_eq!(logged.trim(), "0");
        let (full, late, _) = look("SELECT 1");
        assert!(full.contains("public.docs") && late.is_empty(), "{full}; {late}");
        assert_eq!(watch_off(&mut session, &clock, &Stop::default()).unwrap(), None);
        let left = server.sql("shop", "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'lifeboat_watch') + (SELECT count(*) FROM pg_trigger WHERE tgname = 'zz_lifeboat_watch')");
        assert_eq!(left.trim(), "0");
    }
}

/// Keys of an extension's types are watched as well: as they are written out, found by their index, whatever else is the same to
/// them.
#[test]
fn a_second_look_at_keys_of_an_extension_reads_only_rows_that_were_written_to() {
    for major in [13, 15] {
        let server = shop(major);
        let clock = lifeboat_io::SystemClock::default();
        server.sql(
            "shop",
            "CREATE SCHEMA more; CREATE EXTENSION citext SCHEMA more; CREATE EXTENSION ltree SCHEMA more;
             CREATE TABLE words (word more.citext, path more.ltree, n int, PRIMARY KEY (word, path));
             INSERT INTO words SELECT 'Word' || n, ('top.n' || n)::more.ltree, n FROM generate_series(1, 3000) n; ANALYZE words",
        );
        let (captured, memory) = capture_all(&server, "shop");
        let mut session = open(&server, "shop");
        let (selection, moved) = (Selection::default(), BTreeMap::new());
        let (facts, sources) = (&captured.facts, &memory);
        let baseline = Baseline { facts, sources, horizon: None, moved: &moved, selection: &selection, schemas: &[] };
        let open_tables = unwatched(&mut session, &baseline).unwrap();
        assert!(!open_tables.iter().any(|(title, _)| title == "public.words"), "{open_tables:?}");
        let wait = std::time::Duration::from_secs(5);
        watch_tables(&mut session, &baseline, wait, &clock, &Stop::default()).unwrap();
        let (_, ahead) = compare_ahead(&mut session, &baseline, &mut Seen::default(), &mut || Ok(())).unwrap();
        // What is the same to citext, and another row to whoever reads it.
        server.sql(
            "shop",
            "INSERT INTO words VALUES ('Tab\\ O''Brien', 'new.one', 0); DELETE FROM words WHERE n = 7; UPDATE words SET n = -8 WHERE n = 8;
             UPDATE words SET word = 'WORD9' WHERE n = 9",
        );
        let holds = still_holds(&mut session, &baseline, &ahead, None).unwrap();
        // Servers before 15 tell it some time later.
        let read_whole = |session: &mut Session| {
            (major >= 15).then(|| {
                session.value("SELECT pg_stat_force_next_flush()").unwrap();
                server.sql("shop", "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'words'")
            })
        };
        let before = read_whole(&mut session);
        let mut seen = Seen::default();
        let all = compare_rest(&mut session, &baseline, &holds, None, &mut seen).unwrap();
        assert_eq!(seen.0.join(" "), "", "no table is read in full");
        assert_eq!(read_whole(&mut session), before, "found by the index");
        let late = seen.1.join(" ");
        for part in
            ["K Word7,top.n7", "K Word8,top.n8", "K Word9,top.n9", "K WORD9,top.n9", "R top.n8,Word8", "R top.n9,WORD9"]
        {
            assert!(late.contains(part), "{part}: {late}");
        }
        assert!(!late.contains(",Word9 R") && !late.contains("R top.n7") && late.contains("R new.one,Tab"), "{late}");
        let words = all.iter().find(|table| table.title == "public.words").unwrap().changes;
        assert_eq!(words, RowChanges { inserted: 2, updated: 1, deleted: 2 });
        watch_off(&mut session, &clock, &Stop::default()).unwrap();
    }
}

/// A table that was altered, or whose trigger was off for a moment, has another mark.
#[test]
fn what_no_trigger_sees_shows_in_the_mark_of_a_table() {
    let server = shop(15);
    let clock = lifeboat_io::SystemClock::default();
    let (captured, memory) = capture_all(&server, "shop");
    let (selection, moved) = (Selection::default(), BTreeMap::new());
    let (facts, sources) = (&captured.facts, &memory);
    let baseline = Baseline { facts, sources, horizon: None, moved: &moved, selection: &selection, schemas: &[] };
    for (what, undone) in [
        (
            "ALTER TABLE docs DISABLE TRIGGER zz_lifeboat_watch; UPDATE docs SET title = 'unseen' WHERE id = 4; ALTER TABLE docs ENABLE ALWAYS TRIGGER zz_lifeboat_watch",
            "UPDATE docs SET title = 'seen' WHERE id = 4",
        ),
        ("ALTER TABLE docs ALTER COLUMN tags TYPE varchar[] USING ARRAY['x']::varchar[]", "SELECT 1"),
        (
            "ALTER TABLE docs DROP COLUMN tags CASCADE; ALTER TABLE docs ADD COLUMN tags text[] DEFAULT '{all}'",
            "SELECT 1",
        ),
    ] {
        let mut session = open(&server, "shop");
        let wait = std::time::Duration::from_secs(5);
        watch_tables(&mut session, &baseline, wait, &clock, &Stop::default()).unwrap();
        let (_, ahead) = compare_ahead(&mut session, &baseline, &mut Seen::default(), &mut || Ok(())).unwrap();
        server.sql("shop", what);
        let holds = still_holds(&mut session, &baseline, &ahead, None).unwrap();
        let mut seen = Seen::default();
        compare_rest(&mut session, &baseline, &holds, None, &mut seen).unwrap();
        assert_eq!((seen.0.join(" ").as_str(), seen.1.len()), ("public.docs", 0), "{what}");
        server.sql("shop", undone);
    }
}

/// Tables whose rows were handed over, and what was of the last moment.
#[derive(Default)]
struct Seen(Vec<String>, Vec<String>);

impl KeepRows for Seen {
    fn begin(&mut self, table: &ChangedTable) -> std::io::Result<()> {
        self.0.push(table.title.clone());
        Ok(())
    }

    fn row(&mut self, _kind: lifeboat_model::RowKind, _copy: u64, _row: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn late_key(&mut self, key: &[u8]) -> std::io::Result<()> {
        self.1.push(format!("K {}", String::from_utf8_lossy(key).replace('\t', ",")));
        self.1.sort();
        Ok(())
    }

    fn late_row(&mut self, row: &[u8]) -> std::io::Result<()> {
        let text = String::from_utf8_lossy(row).into_owned();
        let fields: Vec<&str> = text.split('\t').collect();
        self.1.push(format!("R {},{}", fields[1], fields[0]));
        self.1.sort();
        Ok(())
    }
}

/// What was done to each table, with the server's own counting or without it.
fn changes(
    session: &mut Session,
    facts: &PostgresFacts,
    sources: &dyn Sources,
    counts: bool,
) -> Vec<(String, RowChanges)> {
    let (selection, moved) = (Selection::default(), BTreeMap::new());
    let horizon = counts.then_some(&facts.horizon);
    let baseline = Baseline { facts, sources, horizon, moved: &moved, selection: &selection, schemas: &[] };
    let all = compare_rows(session, &baseline, None).unwrap();
    all.into_iter().map(|table| (table.title, table.changes)).collect()
}

/// The horizon is of one lineage only.
#[test]
fn trap_the_horizon_is_refused_after_a_restore_or_elsewhere() {
    let (server, captured) = copied(15);
    let refusal = |server: &Server, database: &str, facts: &PostgresFacts| {
        same_lineage(&mut open(server, database), &facts.horizon).unwrap().unwrap_err().0
    };
    assert_eq!(refusal(&server, "copy", &captured.facts), "the database was restored since");
    let mut elsewhere = captured.facts.clone();
    elsewhere.horizon.system_identifier = Some("7".into());
    assert_eq!(refusal(&server, "shop", &elsewhere), "it is another cluster");
    let mut long_ago = captured.facts.clone();
    server.sql("shop", "SELECT pg_current_xact_id()");
    long_ago.horizon.xmin += 1 << 32;
    assert_eq!(refusal(&server, "shop", &long_ago), "too many transactions have passed since");
}

#[test]
fn the_fingerprint_takes_less_than_200_ms() {
    let server = shop(15);
    server.sql("shop", "DO $$ BEGIN FOR i IN 1..200 LOOP EXECUTE format('CREATE TABLE small_%s(id serial PRIMARY KEY, name text, ref int REFERENCES customers(id))', i); EXECUTE format('CREATE INDEX ON small_%s(name)', i); END LOOP; END $$");
    let mut session = open(&server, "shop");
    let once = |session: &mut lifeboat_io::database::postgres::Session| {
        let begun = Instant::now();
        let print = fingerprint(session, &Selection::default()).unwrap();
        assert!(print.lines["relation"].len() > 400);
        begun.elapsed().as_millis()
    };
    // The best of several: the machine may be busy with others.
    let best = (0..8).map(|_| once(&mut session)).min().unwrap();
    println!("{best} ms");
    assert!(best < 200, "{best} ms");
}
