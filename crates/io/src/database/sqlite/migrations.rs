//! How far a schema was migrated, by what migration tools write into the database they migrate.

use std::path::Path;

use lifeboat_model::Migrated;
use rusqlite::Connection;

use super::{SqliteError, open::open_at_rest, open::quoted};
use crate::stop::Stop;

/// A tool: its name, its table, the newest migration's name, in which order, which rows are done. `-`: every row is.
struct Tool(&'static str, &'static str, &'static str, &'static str, &'static str);

/// Tools by the tables they keep. Two that use one table are told apart by their columns: the first that fits counts.
const TOOLS: &[Tool] = &[
    Tool("Prisma", "_prisma_migrations", "migration_name", "started_at", "finished_at IS NOT NULL"),
    Tool("Drizzle", "__drizzle_migrations", "hash", "created_at", "-"),
    Tool("Knex", "knex_migrations", "name", "id", "-"),
    Tool("Django", "django_migrations", "app || '.' || name", "id", "-"),
    Tool("golang-migrate", "schema_migrations", "version", "version", "dirty = 0"),
    Tool("Rails", "schema_migrations", "version", "version", "-"),
    Tool("Alembic", "alembic_version", "version_num", "version_num", "-"),
    Tool("goose", "goose_db_version", "version_id", "id", "is_applied"),
    Tool("Flyway", "flyway_schema_history", "version", "installed_rank", "success"),
    Tool("Diesel", "__diesel_schema_migrations", "version", "version", "-"),
    Tool("sqlx", "_sqlx_migrations", "version || ' ' || description", "version", "success"),
    Tool("refinery", "refinery_schema_history", "version || ' ' || name", "version", "-"),
    Tool("SeaORM", "seaql_migrations", "version", "version", "-"),
    Tool("Sequelize", "SequelizeMeta", "name", "name", "-"),
    Tool("Kysely", "kysely_migration", "name", "name", "-"),
    Tool("Entity Framework", "__EFMigrationsHistory", "MigrationId", "MigrationId", "-"),
    Tool("Liquibase", "DATABASECHANGELOG", "id", "orderexecuted", "-"),
    Tool("Atlas", "atlas_schema_revisions", "version", "version", "-"),
    Tool("MikroORM", "mikro_orm_migrations", "name", "id", "-"),
    Tool("Laravel", "migrations", "migration", "id", "-"),
    Tool("TypeORM", "migrations", "name", "timestamp", "-"),
    Tool("TypeORM", "typeorm_migrations", "name", "timestamp", "-"),
    Tool("pgmigrations", "pgmigrations", "name", "id", "-"),
    Tool("schema_version", "schema_version", "version", "version", "-"),
];

/// What migration tools have written into a copy at rest, in the order of the tools we know.
///
/// # Errors
/// When the copy cannot be opened. A table that is there and is another than its tool's is no error: it tells nothing.
pub fn migrations(file: &Path, stop: &Stop) -> Result<Vec<Migrated>, SqliteError> {
    Ok(of(&open_at_rest(file, stop)?))
}

/// The same through a connection.
pub(super) fn of(connection: &Connection) -> Vec<Migrated> {
    let mut found: Vec<Migrated> = Vec::new();
    for Tool(tool, table, newest, order, done) in TOOLS {
        if found.iter().any(|known| known.table.eq_ignore_ascii_case(table)) {
            continue; // it was another tool's
        }
        let done = if *done == "-" { "1" } else { done };
        found.extend(look(connection, tool, table, [newest, order, done]));
    }
    found
}

fn look(connection: &Connection, tool: &str, table: &str, [newest, order, done]: [&str; 3]) -> Option<Migrated> {
    let real = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    let table: String = connection.query_row(real, [table], |row| row.get(0)).ok()?;
    let from = quoted(&table);
    // A column that is not there fails the statement: the table belongs to somebody else.
    let count = format!("SELECT count(*), coalesce(sum(NOT ({done})), 0), max({order}) FROM {from}");
    let (rows, unfinished): (u64, u64) = connection
        .query_row(&count, [], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))
        .ok()?;
    let question = format!("SELECT CAST({newest} AS TEXT) FROM {from} WHERE {done} ORDER BY {order} DESC LIMIT 1");
    let newest = match connection.query_row(&question, [], |row| row.get(0)) {
        Ok(newest) => newest,
        Err(rusqlite::Error::QueryReturnedNoRows) => None,
        Err(_other_columns) => return None,
    };
    Some(Migrated { tool: tool.to_owned(), table, applied: rows - unfinished, newest, unfinished })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_told_by_their_tables_and_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "CREATE TABLE _prisma_migrations (id TEXT, migration_name TEXT, started_at TEXT, finished_at TEXT);
             INSERT INTO _prisma_migrations VALUES ('1', '2025_init', '1', '1'), ('2', '2026_half', '2', NULL);
             CREATE TABLE schema_migrations (version TEXT);
             INSERT INTO schema_migrations VALUES ('20250101'), ('20260101');
             CREATE TABLE django_migrations (id INTEGER, app TEXT, name TEXT);
             INSERT INTO django_migrations VALUES (1, 'shop', '0001_initial'), (2, 'shop', '0002_orders');
             CREATE TABLE migrations (id INTEGER, batch INTEGER, migration TEXT);
             CREATE TABLE knex_migrations (other TEXT); INSERT INTO knex_migrations VALUES ('not knex');",
        )
        .unwrap();
        drop(db);
        let found = migrations(&path, &Stop::default()).unwrap();
        let told: Vec<_> =
            found.iter().map(|one| (one.tool.as_str(), one.applied, one.newest.as_deref(), one.unfinished)).collect();
        let expected = [
            ("Prisma", 1, Some("2025_init"), 1),
            ("Django", 2, Some("shop.0002_orders"), 0),
            ("Rails", 2, Some("20260101"), 0),
            ("Laravel", 0, None, 0),
        ];
        assert_eq!(told, expected);
    }
}
