//! A small shop to try things on: a database, and a till that writes to it until it is told to stop. For the
//! demonstration and for tests; nothing else uses it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::SqliteError;

/// Makes the shop: products, customers, orders with lines; WAL mode, foreign keys, an index, a trigger, a view.
///
/// # Errors
/// [`SqliteError`] when it cannot be written.
pub fn make_shop(path: &Path, customers: u32) -> Result<(), SqliteError> {
    let failed = |error| SqliteError::from_sqlite(path, "make", error);
    let db = Connection::open(path).map_err(failed)?;
    db.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
    db.execute_batch(SCHEMA).map_err(failed)?;
    db.execute(
        "INSERT INTO customers (name, email, created_at)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         SELECT 'Customer ' || i, 'customer' || i || '@example.com', '2026-01-01T00:00:00Z' FROM n",
        [customers],
    )
    .map_err(failed)?;
    Ok(())
}

const SCHEMA: &str = "
    PRAGMA user_version = 12;
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL);
    CREATE TABLE products (sku TEXT PRIMARY KEY, title TEXT NOT NULL, cents INTEGER NOT NULL CHECK (cents > 0)) WITHOUT ROWID;
    CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, customer INTEGER NOT NULL REFERENCES customers,
                         total_cents INTEGER NOT NULL, created_at TEXT NOT NULL);
    CREATE TABLE order_lines (order_id INTEGER NOT NULL REFERENCES orders, sku TEXT NOT NULL REFERENCES products,
                              pieces INTEGER NOT NULL, cents INTEGER NOT NULL, PRIMARY KEY (order_id, sku));
    CREATE INDEX orders_by_customer ON orders (customer, created_at);
    CREATE VIEW turnover AS SELECT customer, sum(total_cents) AS cents FROM orders GROUP BY customer;
    CREATE TRIGGER orders_stay BEFORE DELETE ON customers WHEN EXISTS (SELECT 1 FROM orders WHERE customer = old.id)
        BEGIN SELECT raise(ABORT, 'the customer has orders'); END;
    INSERT INTO products VALUES ('boat', 'Lifeboat', 129900), ('ring', 'Ring buoy', 4900), ('vest', 'Life vest', 7900),
                                ('flare', 'Flare', 1900), ('whistle', 'Whistle', 300);
";

/// Sells, one transaction an order, until there is a file at `until`. Gives the number of the last order that is
/// certainly committed.
///
/// # Errors
/// [`SqliteError`] when a sale fails.
pub fn sell_until(path: &Path, until: &Path, pause: Duration) -> Result<u64, SqliteError> {
    let failed = |error| SqliteError::from_sqlite(path, "sell in", error);
    let mut db = Connection::open(path).map_err(failed)?;
    db.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
    db.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    let mut last = 0;
    // A till whose shop has gone away ends by itself.
    let begun = Instant::now();
    while !until.exists() && begun.elapsed() < Duration::from_secs(600) {
        last = sell_one(&mut db).map_err(failed)?;
        std::thread::sleep(pause);
    }
    Ok(last)
}

fn sell_one(db: &mut Connection) -> rusqlite::Result<u64> {
    let sale = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    sale.execute(
        "INSERT INTO orders (customer, total_cents, created_at)
         VALUES ((SELECT id FROM customers ORDER BY random() LIMIT 1), 0, strftime('%Y-%m-%dT%H:%M:%fZ'))",
        [],
    )?;
    let order = sale.last_insert_rowid();
    sale.execute(
        "INSERT INTO order_lines SELECT ?1, sku, 1 + abs(random()) % 3, cents FROM products ORDER BY random() LIMIT 2",
        [order],
    )?;
    sale.execute(
        "UPDATE orders SET total_cents = (SELECT sum(pieces * cents) FROM order_lines WHERE order_id = ?1) WHERE id = ?1",
        [order],
    )?;
    sale.commit()?;
    Ok(order as u64)
}

/// A bad migration: half of the orders lose their lines, the other half are gone, one table is dropped.
///
/// # Errors
/// [`SqliteError`] when even that fails.
pub fn wreck(path: &Path) -> Result<(), SqliteError> {
    let failed = |error| SqliteError::from_sqlite(path, "wreck", error);
    let db = Connection::open(path).map_err(failed)?;
    db.execute_batch(
        "PRAGMA foreign_keys = off;
         DELETE FROM order_lines WHERE order_id % 2 = 0; DELETE FROM orders WHERE id % 2 = 1;
         UPDATE orders SET total_cents = 0; DROP TABLE products; PRAGMA user_version = 13;",
    )
    .map_err(failed)
}
