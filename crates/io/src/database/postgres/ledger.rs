//! Migrations of a database: which were applied, and taking some back in one transaction with the tool's own notes.

use lifeboat_model::{Ledger, Migration};

use super::{
    PgError, Session,
    fence::take_fence,
    sql::{literal, literals, quoted},
};

/// Where tools note what they applied, and by which column: Supabase, the general ones (dbmate, Rails, Ecto, golang-migrate),
/// sqlx, Sequelize, Knex, Prisma. The first that is there counts.
const KNOWN: [(&str, &str, &str); 7] = [
    ("supabase_migrations", "schema_migrations", "version"),
    ("", "schema_migrations", "version"),
    ("", "_sqlx_migrations", "version"),
    ("", "SequelizeMeta", "name"),
    ("", "sequelizemeta", "name"),
    ("", "knex_migrations", "name"),
    ("", "_prisma_migrations", "migration_name"),
];

/// Schemas of platforms whose parts keep ledgers of their own.
const OTHERS: [&str; 6] = ["auth", "storage", "realtime", "_realtime", "_analytics", "supabase_functions"];

/// What a ledger says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where it stands.
    pub ledger: Ledger,
    /// What was applied, oldest first.
    pub versions: Vec<String>,
    /// What was begun and did not come to its end, as the tool notes it.
    pub failed: Vec<String>,
    /// Whether it holds the newest version alone (golang-migrate), and not each of them.
    pub head_only: bool,
}

/// Reads the ledger of a database; nothing when no known tool has one there.
///
/// # Errors
/// As [`Session::run`].
pub fn applied_migrations(session: &mut Session) -> Result<Option<Applied>, PgError> {
    let rows = session.ask(&format!(
        "SELECT n.nspname, c.relname, pg_catalog.string_agg(a.attname::pg_catalog.text, ',')
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ({})
            AND COALESCE(pg_catalog.obj_description(n.oid, 'pg_namespace'), '') NOT LIKE 'kept by lifeboat: %'
            AND c.relname IN ({}) GROUP BY 1, 2 ORDER BY n.nspname <> 'public', 1",
        literals(OTHERS),
        literals(KNOWN.iter().map(|(_, table, _)| *table)),
    ))?;
    let found = KNOWN.iter().find_map(|(schema, table, column)| {
        let is_it = |at: &&super::Row| {
            (schema.is_empty() || at.text(0) == *schema)
                && at.text(1) == *table
                && at.text(2).split(',').any(|name| name == *column)
        };
        rows.iter().find(is_it).map(|at| (at.text(0).to_owned(), *table, *column, at.text(2).to_owned()))
    });
    let Some((schema, table, column, columns)) = found else { return Ok(None) };
    let has = |name: &str| columns.split(',').any(|column| column == name);
    // What each tool notes of one that did not come to its end.
    let failed = match () {
        () if has("dirty") => "dirty",
        () if has("success") => "NOT success",
        () if has("finished_at") => "finished_at IS NULL AND rolled_back_at IS NULL",
        () => "false",
    };
    let gone = if has("rolled_back_at") { " WHERE rolled_back_at IS NULL" } else { "" };
    let ledger = Ledger { schema, table: table.to_owned(), column: column.to_owned() };
    let asked = format!(
        "SELECT {column}::pg_catalog.text, COALESCE({failed}, false) FROM {title}{gone} ORDER BY {column}",
        column = quoted(column),
        title = title(&ledger),
    );
    let mut applied = Applied { ledger, versions: Vec::new(), failed: Vec::new(), head_only: has("dirty") };
    for row in session.ask(&asked)? {
        let list = if row.is_true(1) { &mut applied.failed } else { &mut applied.versions };
        list.push(row.text(0).to_owned());
    }
    Ok(Some(applied))
}

fn title(ledger: &Ledger) -> String {
    format!("{}.{}", quoted(&ledger.schema), quoted(&ledger.table))
}

/// Takes migrations back, in this order, in one transaction: the script of each, and its row in the ledger with it. One whose
/// row is not there any more is passed over, so that it may be repeated. A fence goes in the same transaction: until it ends
/// nobody else can write, and afterwards the schema is the old one. Says which were taken back.
///
/// # Errors
/// [`PgError::Refused`] with the first statement that failed or waited too long for a lock; then nothing has changed.
pub fn revert_migrations(
    session: &mut Session,
    ledger: &Ledger,
    migrations: &[Migration],
    (lock_timeout_ms, statement_timeout_ms): (u64, u64),
) -> Result<Vec<String>, PgError> {
    let (title, column) = (title(ledger), quoted(&ledger.column));
    session.transaction("BEGIN READ WRITE", |session| {
        session.run(&format!(
            "SET LOCAL lock_timeout = {lock_timeout_ms}; SET LOCAL statement_timeout = {statement_timeout_ms}"
        ))?;
        take_fence(session)?;
        // Nobody applies anything meanwhile.
        session.run(&format!("LOCK TABLE {title} IN SHARE ROW EXCLUSIVE MODE"))?;
        let mut reverted = Vec::new();
        for migration in migrations {
            let is_it = format!("{column}::pg_catalog.text = {}", literal(&migration.version));
            if session.value(&format!("SELECT count(*) FROM {title} WHERE {is_it}"))? == "0" {
                continue;
            }
            let Some(down) = &migration.down else { continue };
            // As the app's own tool would run it, not with what is pinned for us; each anew.
            session
                .run("RESET search_path; RESET row_security; RESET timezone; RESET datestyle; RESET intervalstyle")?;
            session.run(&down.text)?;
            session.run(&format!("DELETE FROM {title} WHERE {is_it}"))?;
            reverted.push(migration.version.clone());
        }
        Ok(reverted)
    })
}
