//! The ways out: what is written loads with `psql` alone, and is what was captured.

use std::{cell::RefCell, collections::BTreeMap, path::Path};

use lifeboat_io::{
    Stop, SystemClock,
    database::postgres::{
        CaptureOptions, Captured, PgError, Plain, Subset, create_database, dress_database, inspect, subset, write_csv,
        write_data_sql, write_sql,
    },
};

use crate::{
    helpers::{address, capture_all, open, shop},
    restore::check_same,
    servers::{MAJORS, Server},
};

fn plain<'a>(captured: &'a Captured, subset: Option<&'a Subset>) -> Plain<'a> {
    Plain {
        facts: &captured.facts,
        entries: &captured.entries,
        pre_data: &captured.pre_data,
        post_data: &captured.post_data,
        subset,
        title: "the shop\nof a test",
    }
}

/// What a writer writes, in a file that a server's user may read.
fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), PgError>) -> tempfile::NamedTempFile {
    let mut text = Vec::new();
    write(&mut text).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &text).unwrap();
    file
}

/// As the file itself says: in one transaction, ending at the first error.
fn load(server: &Server, database: &str, file: &Path) -> Result<(), String> {
    let mut psql = server.psql("postgres", database);
    let output = psql.args(["-v", "ON_ERROR_STOP=1", "-1", "-q", "-f"]).arg(file).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// EXP-02.
#[test]
fn exp_02_one_file_of_sql_brings_everything_back_with_psql_alone() {
    for major in MAJORS {
        let server = shop(major);
        let (captured, memory) = capture_all(&server, "shop");
        let told = RefCell::new(0);
        let file = written(|into| {
            let progress = |done: u64, total: Option<u64>| *told.borrow_mut() = done.max(total.unwrap_or(0));
            write_sql(&plain(&captured, None), &memory, into, &Stop::default(), &progress)
        });
        let bytes: u64 = captured.facts.tables.values().flat_map(|table| &table.parts).map(|part| part.bytes).sum();
        assert_eq!(told.into_inner(), bytes);
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains("\\restrict"), "older psql does not know it");
        assert_eq!(text.matches("-- PostgreSQL database dump complete").count(), 1);
        create_database(&mut open(&server, "postgres"), "copy", &captured.facts.database).unwrap();
        load(&server, "copy", file.path()).unwrap_or_else(|error| panic!("{major}: {error}"));
        dress_database(&mut open(&server, "postgres"), "copy", &captured.facts.database).unwrap();
        check_same(&server, "shop", "copy", &captured);
    }
}

/// EXP-03, BKP-19: exactly the tables that were asked for; what they lack is said, and not in the way.
#[test]
fn exp_03_some_tables_load_alone() {
    let server = shop(15);
    let (captured, memory) = capture_all(&server, "shop");
    let part = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        subset(&captured.entries, &captured.facts, &names).unwrap()
    };
    let odd = "\"Odd schema.x\".\"Table with \"\"quotes\"\" and.dot\"";
    let wanted = part(&["orders", "docs", "events", odd, "child"]);
    let left_out = wanted.left_out.join("\n");
    assert!(left_out.contains("foreign key orders orders_customer_id_fkey refers to public.customers"), "{left_out}");
    assert_eq!(wanted.left_out.len(), 1, "{left_out}");
    let file = written(|into| write_sql(&plain(&captured, Some(&wanted)), &memory, into, &Stop::default(), &|_, _| ()));
    server.sql("postgres", "CREATE DATABASE part");
    load(&server, "part", file.path()).unwrap();
    let tables = "SELECT string_agg(oid::regclass::text, ' ' ORDER BY relname) FROM pg_class
                   WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')";
    let expected = format!("{odd} child docs events events_1 events_2 events_rest orders parent");
    assert_eq!(server.sql("part", tables), expected);
    let is = inspected(&server, "part");
    for title in &wanted.tables {
        assert_eq!(is.tables[title].rows, captured.facts.tables[title].rows, "{title}");
    }
    assert_eq!(is.tables["public.parent"].rows.rows, 0, "what a table is made of comes without rows");
    assert_eq!(is.sequences["public.orders_id_seq"], captured.facts.sequences["public.orders_id_seq"]);
    assert_eq!(server.sql("part", "SELECT count(*) FROM pg_policies WHERE tablename = 'docs'"), "1");
    assert_eq!(server.sql("part", "SELECT relrowsecurity FROM pg_class WHERE relname = 'docs'"), "t");
    // With what they refer to, nothing is left out.
    assert_eq!(part(&["orders", "customers", "auth.users"]).left_out, Vec::<String>::new());
}

fn inspected(server: &Server, database: &str) -> lifeboat_model::PostgresFacts {
    let address = address(&server.url(database));
    let clock = SystemClock::default();
    inspect(&address, &CaptureOptions::default(), &clock, &Stop::default(), &|_, _| ()).unwrap()
}

/// RST-19: the rows of the backup go into what the migrations have made, whatever refers to what; triggers stay quiet, the
/// ledger of the migrations is theirs, sequences are set.
#[test]
fn rst_19_rows_alone_go_into_a_migrated_database() {
    for major in MAJORS {
        let server = shop(major);
        server.sql("shop", "DROP TABLE later"); // its rows break its own rule
        let (captured, memory) = capture_all(&server, "shop");
        let file = written(|into| write_data_sql(&plain(&captured, None), &memory, into, &Stop::default(), &|_, _| ()));
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(
            !text.contains("CREATE TABLE ") && text.contains("-- Left to the migrations: public.schema_migrations")
        );
        // The migrations' work: definitions, and what they wrote down.
        let nothing = Captured { facts: without_rows(&captured), ..captured.clone() };
        let schema = written(|into| write_sql(&plain(&nothing, None), &memory, into, &Stop::default(), &|_, _| ()));
        server.sql("postgres", "CREATE DATABASE migrated");
        load(&server, "migrated", schema.path()).unwrap();
        server.sql("migrated", "INSERT INTO schema_migrations VALUES ('20260101')");

        load(&server, "migrated", file.path()).unwrap_or_else(|error| panic!("{major}: {error}"));
        let is = inspected(&server, "migrated");
        for (title, table) in captured.facts.tables.iter().filter(|(title, _)| *title != "public.schema_migrations") {
            assert_eq!(is.tables[title].rows, table.rows, "{major}: {title}");
        }
        assert_eq!(is.sequences, captured.facts.sequences);
        assert_eq!(is.fingerprint["trigger"], captured.facts.fingerprint["trigger"], "triggers are as they were");
        assert_eq!(is.fingerprint["constraint"], captured.facts.fingerprint["constraint"], "and keys");
        assert_eq!(server.sql("migrated", "SELECT count(*) FROM schema_migrations"), "1");
        assert_eq!(server.sql("migrated", "SELECT sum(n) FROM sales"), "2000");
        // RST-18: a second time there are rows, and nothing is loaded.
        let refused = load(&server, "migrated", file.path()).unwrap_err();
        assert!(
            refused.contains("there are rows in") && refused.contains("restore schema and data together"),
            "{refused}"
        );
    }
}

fn without_rows(captured: &Captured) -> lifeboat_model::PostgresFacts {
    let mut facts = captured.facts.clone();
    facts.tables.clear();
    facts.large_objects = None;
    let unset = |at: &mut lifeboat_model::postgres::SequenceFacts| (at.last_value, at.is_called) = (1, false);
    facts.sequences.values_mut().for_each(unset);
    facts.sequences.remove("public.order_no"); // begins at 1000
    facts
}

/// EXP-07: what PostgreSQL reads back is what was there, NULL and the empty text apart.
#[test]
fn exp_07_a_table_as_csv_is_read_back_by_copy() {
    let server = shop(16);
    let (captured, memory) = capture_all(&server, "shop");
    server.sql("postgres", "CREATE DATABASE back TEMPLATE shop");
    let folder = tempfile::tempdir().unwrap();
    let mut truncates = String::new();
    let mut copies = BTreeMap::new();
    for (at, (title, table)) in captured.facts.tables.iter().filter(|(_, table)| !table.columns.is_empty()).enumerate()
    {
        let file = folder.path().join(format!("{at}.csv"));
        let mut text = Vec::new();
        let facts = write_csv(title, table, &memory, &mut text, &Stop::default(), &|_| ()).unwrap();
        assert_eq!(facts, table.rows);
        std::fs::write(&file, text).unwrap();
        truncates += &format!("DELETE FROM ONLY {title};");
        let columns = table.columns.join(", ");
        copies
            .insert(title, format!("\\copy {title} ({columns}) FROM '{}' WITH (FORMAT csv, HEADER)\n", file.display()));
    }
    let copies: String = copies.into_values().collect();
    server.sql(
        "back",
        &format!(
            "ALTER TABLE later DROP CONSTRAINT positive; SET session_replication_role = replica; {truncates}\n{copies}"
        ),
    );
    let is = inspected(&server, "back");
    for (title, table) in &captured.facts.tables {
        assert_eq!(is.tables[title].rows, table.rows, "{title}");
    }
}

/// A file of the backup that is not what was captured ends it.
#[test]
fn a_row_too_few_is_no_export() {
    let server = shop(15);
    let (captured, memory) = capture_all(&server, "shop");
    let shorten = |path: &str| {
        let mut files = memory.files.lock().unwrap();
        let body = files.get_mut(path).unwrap();
        let end = body[..body.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        body.truncate(end);
    };
    shorten("data/public.orders.copy");
    let ended = write_sql(&plain(&captured, None), &memory, &mut Vec::new(), &Stop::default(), &|_, _| ());
    let said = ended.unwrap_err().to_string();
    assert!(said.contains("public.orders") && said.contains("1999 rows, and 2000 were captured"), "{said}");
}
