//! Where migration tools keep what they have run, and the newest entry there.

use std::collections::BTreeMap;

use super::{
    PgError, Session,
    sql::{literals, plain},
};

/// Names that tools give to their ledger, and the column whose greatest value is the newest entry, by what is there
/// first. Supabase, Prisma, Flyway, Alembic, sqlx, Knex, Drizzle, Django, EF, goose, Liquibase, Sequelize, TypeORM,
/// Rails, SeaORM, Diesel, Atlas, node-pg-migrate, Kysely, MikroORM and others.
const LEDGERS: [&str; 24] = [
    "schema_migrations",
    "_prisma_migrations",
    "flyway_schema_history",
    "alembic_version",
    "_sqlx_migrations",
    "knex_migrations",
    "django_migrations",
    "__drizzle_migrations",
    "__EFMigrationsHistory",
    "goose_db_version",
    "databasechangelog",
    "sequelizemeta",
    "SequelizeMeta",
    "migrations",
    "typeorm_migrations",
    "seaql_migrations",
    "__diesel_schema_migrations",
    "atlas_schema_revisions",
    "pgmigrations",
    "kysely_migration",
    "mikro_orm_migrations",
    "schema_version",
    "refinery_schema_history",
    "migration_versions",
];

/// Columns by which entries are ordered, the best first.
const COLUMNS: [&str; 14] = [
    "installed_rank",
    "version",
    "version_id",
    "version_num",
    "MigrationId",
    "orderexecuted",
    "finished_at",
    "run_on",
    "created_at",
    "timestamp",
    "executed_at",
    "migration_time",
    "id",
    "name",
];

/// The newest entry of each ledger, as the row's text.
pub(super) fn heads(session: &mut Session) -> Result<BTreeMap<String, String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT n.nspname, c.relname, pg_catalog.array_to_json(pg_catalog.array_agg(a.attname::pg_catalog.text))
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
            AND (c.relname IN ({}) OR (n.nspname, c.relname) = ('storage', 'migrations'))
            AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
          GROUP BY 1, 2",
        literals(LEDGERS)
    ))?;
    let mut heads = BTreeMap::new();
    for row in rows {
        let columns: Vec<String> = serde_json::from_str(row.text(2)).unwrap_or_default();
        let Some(column) = COLUMNS.iter().find(|column| columns.iter().any(|name| name == *column)) else { continue };
        let title = format!("{}.{}", plain(row.text(0)), plain(row.text(1)));
        let column = plain(column);
        let newest =
            session.ask(&format!("SELECT t.{column} FROM {title} t ORDER BY t.{column} DESC NULLS LAST LIMIT 1"))?;
        heads.insert(title, newest.first().map(|row| row.text(0).to_owned()).unwrap_or_default());
    }
    Ok(heads)
}
