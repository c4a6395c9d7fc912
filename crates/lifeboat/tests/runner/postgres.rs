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
    REFRESH MATERIALIZED VIEW best; COMMENT ON TABLE orders IS 'what was ''sold''';";

/// A server with a shop on it.
fn shop(major: u32) -> Server {
    let server = Server::start(major);
    server.sql("postgres", SHOP);
    server.sql("shop", TABLES);
    server
}

/// Runs the program where a `pg_dump` for servers up to 16 is found.
fn run(home: &Home, words: &[&str]) -> Ran {
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
        assert_eq!(server.sql("shop", "SELECT relrowsecurity FROM pg_class WHERE relname = 'orders'"), "t");
        assert_eq!(databases(&server).len(), 2, "what was there is kept");

        with(&["undo", "--confirm", "shop/local"]).ends(ExitCode::Ok);
        assert_eq!(orders(&server), now);
        with(&["undo", "--confirm", "shop/local"]).ends(ExitCode::Ok);
        assert_eq!(orders(&server), then, "an undo can be undone");

        // A database that is not there is made.
        server.sql("postgres", "DROP DATABASE shop WITH (FORCE)");
        with(&["restore", "shop", "--from", &backup, "--confirm", "shop/local"]).ends(ExitCode::Ok);
        assert_eq!(orders(&server), then);
        with(&["verify"]).ends(ExitCode::Ok).says(&["constraints valid: all", "GO"]);
    }
}
