//! PostgreSQL, from the first backup to the undo of a restore.

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::{MAJORS, Server, client_programs};

use crate::home::{Home, Ran};

const SHOP: &str = "
    CREATE ROLE keeper; CREATE DATABASE shop;";
const TABLES: &str = "
    CREATE TABLE customers (id bigserial PRIMARY KEY, email text UNIQUE NOT NULL);
    CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers, cents int CHECK (cents > 0),
                         made timestamptz NOT NULL DEFAULT '2026-01-01');
    CREATE INDEX orders_by_customer ON orders (customer);
    CREATE VIEW turnover AS SELECT customer, sum(cents) AS cents FROM orders GROUP BY customer;
    CREATE MATERIALIZED VIEW best AS SELECT * FROM turnover ORDER BY cents DESC LIMIT 3;
    ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_them ON orders USING (true);
    GRANT SELECT ON orders TO keeper;
    INSERT INTO customers (email) SELECT 'c' || n || '@example.org' FROM generate_series(1, 100) AS n;
    INSERT INTO orders (customer, cents) SELECT 1 + n % 100, n FROM generate_series(1, 5000) AS n;
    SELECT lo_from_bytea(4711, 'a picture');
    REFRESH MATERIALIZED VIEW best; COMMENT ON TABLE orders IS 'what was ''sold''';";

/// A server with a shop on it.
pub fn shop(major: u32) -> Server {
    let server = Server::start(major);
    server.sql("postgres", SHOP);
    server.sql("shop", TABLES);
    server
}

/// Runs the program where a `pg_dump` for servers up to 16 is found.
pub fn run(home: &Home, words: &[&str]) -> Ran {
    let path = format!("{}:{}", client_programs(16).display(), std::env::var("PATH").unwrap_or_default());
    home.ran(words, home.command(words).env("PATH", path).output().unwrap())
}

fn orders(server: &Server) -> String {
    server.sql("shop", "SELECT count(*) || ' ' || max(id) || ' ' || sum(cents) FROM orders")
}

fn databases(server: &Server) -> Vec<String> {
    let names = server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'shop%' ORDER BY 1");
    names.lines().map(str::to_owned).collect()
}

#[test]
fn a_database_is_backed_up_proven_restored_undone_and_released_without_settings() {
    for major in MAJORS {
        let (home, server) = (Home::bare(), shop(major));
        let name = format!("postgres:{}", server.url("shop"));
        let with = |words: &[&str]| {
            let place = ["--vault", "./vault", "--for", &name];
            run(&home, &[words, &place[..]].concat())
        };
        let told = run(&home, &["backup", &name, "--vault", "./vault", "--json"]).ends(ExitCode::Ok).json();
        let backup = told["backups"][0]["id"].as_str().unwrap().to_owned();
        let then = orders(&server);
        with(&["backups", "show", &backup]).ends(ExitCode::Ok).says(&["public.orders", "5000"]);

        // Proven in a database of its own, which is gone afterwards.
        with(&["prove", &backup]).ends(ExitCode::Ok).says(&["Proven: shop", "usable"]);
        assert_eq!(databases(&server), ["shop"]);

        // A bad migration, and a sale after the backup.
        server.sql("shop", "INSERT INTO orders (customer, cents) VALUES (1, 77); UPDATE orders SET cents = 1; DROP VIEW turnover CASCADE");
        let now = orders(&server);
        let shown = with(&["restore", "shop", "--dry-run"]).ends(ExitCode::Ok);
        shown.says(&["public.orders", "5001", "5000", "Strategy rename"]);
        with(&["restore", "shop", "--confirm", "shop/local"]).ends(ExitCode::Ok);
        assert_eq!(orders(&server), then, "{major}");
        assert_eq!(server.sql("shop", "SELECT count(*) FROM best"), "3");
        assert_eq!(server.sql("shop", "SELECT convert_from(lo_get(4711), 'UTF8')"), "a picture");
        assert_eq!(server.sql("shop", "SELECT relrowsecurity FROM pg_class WHERE relname = 'orders'"), "t");
        assert_eq!(databases(&server).len(), 2, "what was there is kept");

        with(&["undo", "--confirm", "shop/local"]).ends(ExitCode::Ok);
        assert_eq!(orders(&server), now);
        with(&["undo", "--confirm", "shop/local"]).ends(ExitCode::Ok);
        assert_eq!(orders(&server), then, "an undo can be undone");
        // The copy is another database to the server: which rows were changed in it is not known, and that is said.
        let blind = with(&["restore", "shop", "--dry-run"]).ends(ExitCode::Ok);
        blind.says(&["could not be counted exactly", "only numbers of rows were compared"]);
        let agreed = ["restore", "shop", "--accept-loss", "5", "--confirm", "shop/local"];
        with(&agreed).ends(ExitCode::NeedsPerson).says(&["--accept-loss any"]);

        // A database that is not there is made.
        server.sql("postgres", "DROP DATABASE shop WITH (FORCE)");
        with(&["restore", "shop", "--from", &backup, "--confirm", "shop/local"]).ends(ExitCode::Ok);
        assert_eq!(orders(&server), then);
        with(&["verify"]).ends(ExitCode::Ok).says(&["constraints valid: all", "GO"]);
    }
}

/// The way out: what a backup says about itself is done by hand, with `restic` and `psql`.
#[test]
fn what_a_backup_says_about_itself_brings_the_database_back_without_us() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    run(&home, &["backup", &name, "--vault", "./vault"]).ends(ExitCode::Ok);
    let restored = home.path("restored");
    let shell = |script: &str| {
        let mut command = std::process::Command::new("bash");
        command.args(["-euc", script]).current_dir(home.app()).env("RESTIC_PASSWORD", crate::home::PASSWORD);
        command.env("PGHOST", server.socket_folder()).env("PGPORT", server.port.to_string()).env("PGUSER", "postgres");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}\n{said}");
    };
    shell("restic -q -r vault restore latest --tag reason=manual --target ./restored");
    let readme = std::fs::read_to_string(restored.join("README-RESTORE.md")).unwrap();
    let about = readme.split("(PostgreSQL 15").nth(1).unwrap_or_else(|| panic!("{readme}"));
    let script = about.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    shell(script);
    let count = "SELECT count(*) || ' ' || max(id) || ' ' || sum(cents) FROM orders";
    assert_eq!(server.sql("restored", count), orders(&server));
    assert_eq!(server.sql("restored", "SELECT nextval('orders_id_seq')"), "5001");
    assert_eq!(server.sql("restored", "SELECT count(*) FROM best"), "3");
    assert_eq!(server.sql("restored", "SELECT convert_from(lo_get(4711), 'UTF8')"), "a picture");
}

/// A password in an address is nowhere afterwards: not in journals, not in the vault's plain parts, not on the screen.
#[test]
fn cfg_a_password_in_an_address_is_used_and_never_written_down() {
    let (home, server) = (Home::bare(), shop(15));
    home.write(
        "lifeboat.toml",
        "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n\
         [environments.local.resources.db]\nkind = \"postgres\"\nurl_from = { env = \"DATABASE_URL\" }\n\
         critical_tables = [\"orders\"]\nschemas = [\"public\"]\nchecks.sold = { sql = \"select count(*) from orders\", min = 5000 }\n",
    );
    let secret = "s3cret-that-nobody-sees";
    let url = format!(
        "postgres://postgres:{secret}@:5432/shop?host={}",
        server.socket_folder().display().to_string().replace('/', "%2F")
    );
    let run = |words: &[&str]| home.ran(words, home.command(words).env("DATABASE_URL", &url).output().unwrap());
    for words in [
        &["config", "check"][..],
        &["doctor"],
        &["backup"],
        &["prove"],
        &["status"],
        &["config", "show"],
        &["verify"],
        &["restore", "db", "--confirm", "shop/local"],
        &["undo", "--confirm", "shop/local"],
        &["history"],
    ] {
        let ran = run(words).ends(ExitCode::Ok);
        assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{words:?}");
    }
    for (path, bytes) in home.everything() {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{} holds it", path.display());
    }
    let wrong = home.run(&["backup"]).ends(ExitCode::Refused);
    wrong.says(&["the address of db", "DATABASE_URL"]);
    let nowhere = home.command(&["backup"]).env("DATABASE_URL", "postgres://a:b@127.0.0.1:1/shop").output().unwrap();
    home.ran(&["backup"], nowhere).ends(ExitCode::Refused).says(&["127.0.0.1:1"]);
}

/// FNC-03: what documents recommend is overridden by any role; the fence is not, and it outlives everybody.
#[test]
fn fnc_03_a_fence_refuses_every_role_is_seen_from_anywhere_and_can_be_lifted() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    server.sql("shop", "CREATE ROLE app LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app");
    let sell = |role: &str, before: &str| {
        let sql = format!("{before} INSERT INTO orders (customer, cents) VALUES (1, 5)");
        server.try_sql(role, "shop", &sql).status.success()
    };
    server.sql("shop", "ALTER DATABASE shop SET default_transaction_read_only = on");
    assert!(sell("app", "SET default_transaction_read_only = off;"), "the documented way holds nobody back");
    server.sql(
        "shop",
        "SET default_transaction_read_only = off; ALTER DATABASE shop RESET default_transaction_read_only",
    );
    run(&home, &["fence", "status", &name]).ends(ExitCode::Ok).says(&["has no fence"]);
    let reason = "the release of this morning goes back";
    run(&home, &["fence", "on", &name, "--reason", reason, "--vault", "./vault", "--yes"]).ends(ExitCode::Ok);
    for role in ["app", "postgres"] {
        for before in ["", "SET default_transaction_read_only = off;", "BEGIN READ WRITE;"] {
            assert!(!sell(role, before), "{role} {before}");
        }
    }
    assert!(!sell("postgres", "SET default_transaction_read_only = off; SET session_replication_role = replica;"));
    // What can be read about it opens nothing.
    let note = server
        .sql("shop", "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'lifeboat_fence'");
    let operation = note.split_whitespace().next().unwrap();
    assert!(operation.starts_with("o-"), "{note}");
    assert!(!sell("app", &format!("SET lifeboat.pass = '{operation}'; SET default_transaction_read_only = off;")));
    assert_eq!(server.sql("shop", "SELECT count(*) FROM orders"), "5001", "reading goes on");
    run(&home, &["fence", "status", &name]).ends(ExitCode::Ok).says(&["refuses every write", reason]);
    run(&home, &["fence", "off", &name, "--vault", "./vault"]).ends(ExitCode::Ok);
    assert!(sell("app", ""));
    run(&home, &["fence", "status", "sqlite:./shop.db"]).ends(ExitCode::Usage).says(&["is on no server"]);
}
