//! Migrations of a database: which were applied, and taking some back in one transaction with the tool's own notes.

use std::collections::BTreeMap;

use lifeboat_model::{Ledger, Migration, Pending, Reversibility};

use super::{
    Fingerprint, PgError, Selection, Session,
    fence::take_fence,
    fingerprint::fingerprint,
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

/// What a rehearsal of migrations has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RehearsedMigrations {
    /// How far they can be taken back.
    pub class: Reversibility,
    /// Why it is not better than that, a line each.
    pub found: Vec<String>,
}

/// All definitions, and of each table its rows as a number and a digest.
type Look = (Fingerprint, BTreeMap<String, String>);

/// Applies migrations, takes them back, and applies them again, in one transaction that is rolled back: the database is a copy, and
/// stays as it is, so that this may be repeated. What goes wrong with a script is what was to be found out.
///
/// # Errors
/// [`PgError::Lost`], [`PgError::Stopped`]; the server's refusals of what we ask ourselves.
pub fn rehearse_migrations(
    session: &mut Session,
    pending: &[Pending],
    statement_timeout_ms: u64,
) -> Result<RehearsedMigrations, PgError> {
    session.run("BEGIN READ WRITE")?;
    let found = session
        .run(&format!("SET LOCAL statement_timeout = {statement_timeout_ms}"))
        .and_then(|()| rehearsed(session, pending));
    // It was never meant to stay; a session that is lost rolls back by itself.
    let _ = session.run("ROLLBACK");
    found
}

fn rehearsed(session: &mut Session, pending: &[Pending]) -> Result<RehearsedMigrations, PgError> {
    let one_way = |found: String| Ok(RehearsedMigrations { class: Reversibility::OneWay, found: vec![found] });
    let before = look(session)?;
    if let Some(why) = run_all(session, pending.iter().map(|one| (one.migration.name.as_str(), one.up.text.as_str())))?
    {
        return one_way(format!("cannot be applied: {why}"));
    }
    let applied = look(session)?;
    let mut downs = Vec::new();
    for one in pending.iter().rev() {
        match &one.migration.down {
            Some(down) => downs.push((one.migration.name.as_str(), down.text.as_str())),
            None => return one_way(format!("{} has no DOWN script", one.migration.name)),
        }
    }
    if let Some(why) = run_all(session, downs.into_iter())? {
        return one_way(format!("cannot be taken back: {why}"));
    }
    let after = look(session)?;
    let differs = before.0.differences(&after.0);
    if !differs.is_empty() {
        let found = differs.into_iter().map(|line| format!("taken back, and not as before: {line}")).collect();
        return Ok(RehearsedMigrations { class: Reversibility::OneWay, found });
    }
    if let Some(why) = run_all(session, pending.iter().map(|one| (one.migration.name.as_str(), one.up.text.as_str())))?
    {
        return one_way(format!("cannot be applied a second time: {why}"));
    }
    let again = look(session)?;
    let differs = applied.0.differences(&again.0);
    if !differs.is_empty() {
        let found =
            differs.into_iter().map(|line| format!("applied again, and not as the first time: {line}")).collect();
        return Ok(RehearsedMigrations { class: Reversibility::OneWay, found });
    }
    let rows = |look: &Look, table: &String| look.1.get(table).cloned().unwrap_or_default();
    let lost: Vec<String> = before
        .1
        .keys()
        .filter(|table| rows(&before, table) != rows(&after, table))
        .map(|table| format!("rows of {table} are not as before once it is taken back"))
        .collect();
    let class = if lost.is_empty() { Reversibility::DownLossless } else { Reversibility::Lossy };
    Ok(RehearsedMigrations { class, found: lost })
}

/// Runs scripts one after another as the app's own tool would; what the first said that was refused.
fn run_all<'a>(
    session: &mut Session,
    scripts: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Option<String>, PgError> {
    for (name, script) in scripts {
        session.run("RESET search_path; RESET row_security; RESET timezone; RESET datestyle; RESET intervalstyle")?;
        match session.run(script) {
            Ok(()) => {}
            Err(PgError::Refused { said, .. }) => return Ok(Some(format!("{name}: {said}"))),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn look(session: &mut Session) -> Result<Look, PgError> {
    session.run("SET search_path = ''; SET row_security = off; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'")?;
    let definitions = fingerprint(session, &Selection { only: Vec::new(), except: Vec::new() })?;
    let tables = session.ask(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
    )?;
    let mut rows = BTreeMap::new();
    for table in &tables {
        let table = table.text(0);
        let digest = format!(
            "SELECT count(*) || ' ' || COALESCE(sum(pg_catalog.hashtextextended(t::pg_catalog.text, 0)::pg_catalog.numeric), 0) FROM ONLY {table} t"
        );
        rows.insert(table.to_owned(), session.value(&digest)?);
    }
    Ok((definitions, rows))
}
