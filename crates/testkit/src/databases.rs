//! What a person would see on a world's PostgreSQL server: every database, its tables by content.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_io::{
    Stop,
    database::postgres::{Address, Session, dependents, kept_schemas},
};

use crate::postgres::{Server, ServerOptions};

/// What addresses of a world's server have as their host; where that is differs from copy to copy of a world, so that
/// journals of one can be used in another.
pub const HOST: &str = "/the-server";

const SHOP: &str = "
    CREATE TABLE customers (id bigserial PRIMARY KEY, email text UNIQUE NOT NULL);
    CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers, cents int CHECK (cents > 0));
    CREATE INDEX orders_by_customer ON orders (customer);
    CREATE VIEW turnover AS SELECT customer, sum(cents) AS cents FROM orders GROUP BY customer;
    CREATE TABLE log (what text);
    GRANT SELECT ON orders TO keeper;
    INSERT INTO customers (email) SELECT 'c' || n || '@example.org' FROM generate_series(1, 20) AS n;
    INSERT INTO orders (customer, cents) SELECT 1 + n % 20, n FROM generate_series(1, 300) AS n;";

/// The address of a database on a world's server.
pub fn url(role: &str, database: &str) -> String {
    format!("host={HOST} port=5432 user={role} dbname={database}")
}

/// A server with a database `shop`, which has a setting and a grant of its own.
pub(crate) fn shop_server(major: u32) -> Server {
    // Autovacuum could write at any time, also while a server is copied.
    let server = Server::with(major, ServerOptions::default().set("autovacuum", "off"));
    server.sql("postgres", "CREATE ROLE keeper LOGIN; CREATE DATABASE shop;");
    server.sql("postgres", "ALTER DATABASE shop SET work_mem = '5MB'; GRANT CREATE ON DATABASE shop TO keeper;");
    server.sql("shop", SHOP);
    server
}

/// What is on a server.
pub(crate) struct Databases {
    /// The content of the database that everybody uses, and whether they can connect; `nothing` when there is none.
    pub live: String,
    /// What operations kept, by names without what differs from run to run.
    pub kept: BTreeMap<String, String>,
    /// Working copies that should be gone.
    pub debris: BTreeSet<String>,
}

/// Looks at every database of a server that is not its own.
pub(crate) fn look(address: &Address) -> Databases {
    let mut session = Session::open(&address.with_database("postgres"), &Stop::default()).unwrap();
    let all = session
        .ask(
            "SELECT datname, datallowconn, pg_get_userbyid(datdba), (SELECT COALESCE(string_agg(a::text, ',' ORDER BY a::text), '') FROM unnest(datacl) a), datconnlimit,
                    COALESCE((SELECT setconfig::text FROM pg_db_role_setting WHERE setdatabase = d.oid), '')
               FROM pg_database d WHERE NOT datistemplate ORDER BY datname",
        )
        .unwrap();
    let mut seen = Databases { live: "nothing".to_owned(), kept: BTreeMap::new(), debris: BTreeSet::new() };
    for row in &all {
        let (name, is_open) = (row.text(0), row.is_true(1));
        if name == "postgres" && name != address.database {
            continue;
        }
        let dress = [2, 3, 4, 5].map(|column| row.text(column)).join(" ");
        let content = content(&mut session, &address.with_database(name), name, is_open);
        let told = format!("{} {dress} {content}", if is_open { "open" } else { "closed" });
        if name == address.database {
            seen.live = told;
            look_at_kept(&mut seen, address);
        } else if name.contains("_lifeboat_") {
            seen.debris.insert(format!("database {name}"));
        } else {
            let without_time = name.split("_2").next().unwrap(); // a year begins there
            // A kept database is told by its rows: grants of a closed one matter to nobody.
            seen.kept.insert(without_time.to_owned(), content);
        }
    }
    seen
}

/// What operations kept inside of the live database, and whether anything still leans on it.
fn look_at_kept(seen: &mut Databases, address: &Address) {
    let mut session = Session::open(address, &Stop::default()).unwrap();
    let kept = kept_schemas(&mut session).unwrap();
    for name in &kept {
        let without_time = name.split("_2").next().unwrap();
        seen.kept.insert(
            format!("schema {without_time}"),
            rows(&mut session, &format!("n.nspname = '{name}'")).join("; ").replace(name, without_time),
        );
    }
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    let watch = "SELECT nspname FROM pg_namespace WHERE nspname = 'lifeboat_watch'";
    seen.debris.extend(session.ask(watch).unwrap().iter().map(|row| format!("schema {}", row.text(0))));
    seen.debris.extend(dependents(&mut session, &kept).unwrap().iter().map(ToString::to_string));
}

/// Each table of some schemas with its rows and digest.
fn rows(session: &mut Session, condition: &str) -> Vec<String> {
    let tables = format!(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND {condition} ORDER BY 1"
    );
    let mut told = Vec::new();
    for table in session.ask(&tables).unwrap().iter().map(|row| row.text(0).to_owned()) {
        let digest =
            format!("SELECT count(*), md5(COALESCE(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t");
        let row = session.one(&digest).unwrap();
        told.push(format!("{table} {} {}", row.text(0), row.text(1)));
    }
    told
}

/// Every table with rows and digest, and every sequence. A closed database is opened for that long.
fn content(beside: &mut Session, address: &Address, name: &str, is_open: bool) -> String {
    let open = |beside: &mut Session, open: bool| {
        beside.run(&format!("ALTER DATABASE \"{name}\" WITH ALLOW_CONNECTIONS {open}")).unwrap();
    };
    if !is_open {
        open(beside, true);
    }
    let mut session = Session::open(address, &Stop::default()).unwrap();
    let kept = "COALESCE(obj_description(n.oid, 'pg_namespace') LIKE 'kept by lifeboat: %', false)";
    let mut told = rows(&mut session, &format!("NOT {kept}"));
    let others = format!(
        "SELECT COALESCE(string_agg(w, '; ' ORDER BY w), '') FROM (
                      SELECT format('%s at %s', sequencename, last_value) AS w FROM pg_sequences s
                        JOIN pg_namespace n ON n.nspname = s.schemaname WHERE NOT {kept}
                      UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
                      UNION ALL SELECT viewname || definition FROM pg_views WHERE schemaname = 'public') all_of_them"
    );
    told.push(session.value(&others).unwrap());
    drop(session);
    if !is_open {
        open(beside, false);
    }
    told.join("; ")
}
