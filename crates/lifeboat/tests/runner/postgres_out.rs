//! `lifeboat export` of PostgreSQL databases: what comes out is loaded by PostgreSQL's own programs alone.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::{MAJORS, Server, client_programs};

use crate::{
    home::Home,
    postgres::{run, shop},
};

/// Everything in the shop's tables, sequences and large objects, in a few words.
pub fn content(server: &Server, database: &str) -> String {
    let of =
        |table: &str| format!("(SELECT count(*) || md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t)");
    let numbers = "(SELECT last_value || ' ' || is_called FROM orders_id_seq)";
    server.sql(database, &format!("SELECT concat_ws(' ', {}, {}, {numbers})", of("customers"), of("orders")))
}

pub fn around(server: &Server, database: &str) -> String {
    server.sql(
        database,
        "SELECT concat_ws(' ', (SELECT count(*) FROM best), convert_from(lo_get(4711), 'UTF8'), (SELECT count(*) FROM pg_policies),
                (SELECT relrowsecurity FROM pg_class WHERE relname = 'orders'), (SELECT count(*) FROM pg_constraint WHERE contype IN ('f', 'c')),
                obj_description('orders'::regclass), has_table_privilege('keeper', 'orders', 'SELECT'))",
    )
}

fn program(server: &Server, name: &str, words: &[&str], database: &str, input: &Path) -> Output {
    let mut command = Command::new(client_programs(if server.major > 15 { 16 } else { 15 }).join(name));
    command.env("PGHOST", server.socket_folder()).env("PGPORT", server.port.to_string()).env("PGUSER", "postgres");
    command.env("PGDATABASE", database).args(words).arg(input).output().unwrap()
}

fn loads(server: &Server, name: &str, words: &[&str], database: &str, input: &Path) -> String {
    let output = program(server, name, words, database, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const PSQL: [&str; 6] = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-1", "-f"];

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A backup of a shop, and the words that lead to it.
fn backed_up(major: u32) -> (Home, Server, String) {
    let (home, server) = (Home::bare(), shop(major));
    let name = format!("postgres:{}", server.url("shop"));
    run(&home, &["backup", &name, "--vault", "./vault"]).ends(ExitCode::Ok);
    (home, server, name)
}

/// EXP-02: no server takes part in the export; `psql` alone brings it back, compressed or not.
#[test]
fn exp_02_a_backup_becomes_one_file_of_sql() {
    let (home, mut server, name) = backed_up(15);
    let (was, about) = (content(&server, "shop"), around(&server, "shop"));
    server.crash();
    let export = |to: &str| run(&home, &["export", &name, "--vault", "./vault", "--format", "sql", "--to", to]);
    export("./database-20261126.sql").ends(ExitCode::Ok).says(&["personal data"]);
    export("./packed.sql.gz").ends(ExitCode::Ok);
    export("./folder").ends(ExitCode::Ok);
    server.restart();
    let file = home.path("database-20261126.sql");
    assert_eq!(mode(&file), 0o600);
    assert!(
        !home.path(".").read_dir().unwrap().any(|one| one
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains(".lifeboat-"))
    );
    let unpacked = Command::new("gzip").arg("-dc").arg(home.path("packed.sql.gz")).output().unwrap();
    assert_eq!(unpacked.stdout, std::fs::read(&file).unwrap());
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.path("folder/export.json")).unwrap()).unwrap();
    assert_eq!(told["resources"][0]["files"][0]["path"], "shop/shop.sql");
    assert_eq!(told["resources"][0]["files"][0]["tables"]["public.orders"], 5000);
    server.sql("postgres", "CREATE DATABASE copy");
    loads(&server, "psql", &PSQL, "copy", &file);
    assert_eq!((content(&server, "copy"), around(&server, "copy")), (was, about));
    // What is there already is never written over; and one file holds one database.
    export("./database-20261126.sql").ends(ExitCode::Refused).says(&["exists already"]);
}

#[test]
fn a_backup_becomes_an_archive_that_pg_restore_lists_and_loads() {
    for major in MAJORS {
        let (home, server, name) = backed_up(major);
        let was = (content(&server, "shop"), around(&server, "shop"));
        server.sql("shop", "UPDATE orders SET cents = 1; DROP VIEW turnover CASCADE"); // the archive is of the backup
        run(&home, &["export", &name, "--vault", "./vault", "--format", "custom", "--to", "./shop.dump"])
            .ends(ExitCode::Ok);
        let file = home.path("shop.dump");
        let list = loads(&server, "pg_restore", &["-l"], "postgres", &file);
        assert!(list.contains("TABLE DATA public orders") && list.contains("MATERIALIZED VIEW DATA"), "{list}");
        server.sql("postgres", "CREATE DATABASE copy");
        loads(&server, "pg_restore", &["-1", "-d", "copy"], "copy", &file);
        assert_eq!((content(&server, "copy"), around(&server, "copy")), was, "{major}");
        let left = server.sql(
            "postgres",
            "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE NOT datistemplate",
        );
        assert_eq!((left.as_str(), mode(&file)), ("copy postgres shop", 0o600));
    }
}

/// EXP-07, SLV-02: one CSV a table with its header, for its owner alone.
#[test]
fn exp_07_tables_come_out_as_csv() {
    let (home, server, name) = backed_up(16);
    let export =
        |words: &[&str]| run(&home, &[&["export", &name, "--vault", "./vault", "--format", "csv"], words].concat());
    export(&["--to", "./csv"]).ends(ExitCode::Ok).says(&["1 large objects belong to no table"]);
    let folder = home.path("csv/shop");
    let modes = (mode(&home.path("csv")), mode(&folder), mode(&folder.join("public.orders.csv")));
    assert_eq!(modes, (0o700, 0o700, 0o600));
    let orders = std::fs::read_to_string(folder.join("public.orders.csv")).unwrap();
    assert!(orders.starts_with("id,customer,cents,made\r\n1,2,1,2026-01-01 00:00:00+00\r\n"), "{}", &orders[..80]);
    server.sql("postgres", "CREATE DATABASE copy");
    loads(&server, "psql", &PSQL, "copy", &folder.join("schema.sql"));
    for table in ["customers", "orders"] {
        let from = folder.join(format!("public.{table}.csv"));
        server.sql("copy", &format!("\\copy {table} FROM '{}' WITH (FORMAT csv, HEADER)", from.display()));
    }
    for file in ["sequences.sql", "schema-after.sql"] {
        loads(&server, "psql", &PSQL, "copy", &folder.join(file));
    }
    assert_eq!(content(&server, "copy"), content(&server, "shop"));
    export(&["--to", "./one", "--table", "orders"]).ends(ExitCode::Ok);
    let files: Vec<String> = std::fs::read_dir(home.path("one/shop"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, ["public.orders.csv"]);
    export(&["--to", "./two", "--table", "order"]).ends(ExitCode::Usage).says(&["order", "public.orders"]);
}

/// EXP-03, BKP-19.
#[test]
fn exp_03_a_part_says_what_it_lacks_and_loads_alone() {
    let (home, server, name) = backed_up(15);
    let export =
        |words: &[&str]| run(&home, &[&["export", &name, "--vault", "./vault", "--format", "sql"], words].concat());
    let lacks = "foreign key orders orders_customer_fkey refers to public.customers, which is not asked for";
    export(&["--table", "orders", "--to", "./part.sql", "--dry-run"]).ends(ExitCode::Ok).says(&[lacks]);
    export(&["--table", "orders", "--to", "./part.sql"]).ends(ExitCode::Ok).says(&[lacks]);
    server.sql("postgres", "CREATE DATABASE part");
    loads(&server, "psql", &PSQL, "part", &home.path("part.sql"));
    assert_eq!(server.sql("part", "SELECT count(*) || ' ' || sum(cents) FROM orders"), "5000 12502500");
    assert_eq!(server.sql("part", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "1");
    let words = ["export", &name, "--vault", "./vault", "--format", "custom", "--table", "orders", "--to", "./p"];
    run(&home, &words).ends(ExitCode::Usage).says(&["--format sql, or csv"]);
}

/// RST-19: "relation does not exist" is answered by migrations first, then the rows of the backup.
#[test]
fn rst_19_rows_of_a_backup_go_into_a_migrated_database() {
    let (home, server, name) = backed_up(15);
    let was = content(&server, "shop");
    let to = ["--format", "sql", "--data-only", "--to", "./rows.sql"];
    run(&home, &[&["export", &name, "--vault", "./vault"][..], &to].concat()).ends(ExitCode::Ok).says(&["migrations"]);
    server.sql("postgres", "CREATE DATABASE migrated");
    let file = home.path("rows.sql");
    let early = program(&server, "psql", &PSQL, "migrated", &file);
    let told = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(!early.status.success() && told.contains("does not exist"), "{told}");
    let schema = loads(&server, "pg_dump", &["-s"], "shop", Path::new("shop"));
    server.sql("migrated", &schema);
    loads(&server, "psql", &PSQL, "migrated", &file);
    assert_eq!(content(&server, "migrated"), was);
    assert_eq!(server.sql("migrated", "SELECT count(*) FROM best"), "3");
    assert_eq!(server.sql("migrated", "INSERT INTO orders (customer, cents) VALUES (1, 1) RETURNING id"), "5001");
}
