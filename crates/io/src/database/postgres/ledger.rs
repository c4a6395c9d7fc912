//! Migrations of a database: which were applied, and taking some back in one transaction with the tool's own notes.

use std::collections::BTreeMap;

use lifeboat_model::{Ledger, Migration, Pending, Reversibility};
use sha2::Digest;

use super::{
    Fingerprint, PgError, Selection, Session,
    fence::take_fence,
    fingerprint::fingerprint,
    leaving::{KeepLeaving, keep_leaving},
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

/// Whether a table, `schema.name`, is one in which a tool notes which migrations it has applied.
pub fn is_ledger(table: &str) -> bool {
    let name = table.split_once('.').map_or(table, |(_, name)| name);
    KNOWN.iter().any(|(_, known, _)| *known == name.trim_matches('"'))
}

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

/// How long a statement may wait for a lock, and how long it may run, in milliseconds.
pub type Limits = (u64, u64);

/// A transaction about migrations: a fence goes in it - until it ends nobody else can write, and afterwards the schema is the
/// other one - and nobody else applies anything meanwhile.
fn begun(
    session: &mut Session,
    ledger: &Ledger,
    (lock_timeout_ms, statement_timeout_ms): Limits,
) -> Result<(), PgError> {
    session.run(&format!(
        "SET LOCAL lock_timeout = {lock_timeout_ms}; SET LOCAL statement_timeout = {statement_timeout_ms}"
    ))?;
    take_fence(session)?;
    session.run(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", title(ledger)))
}

/// A script as the app's own tool would run it, not with what is pinned for us; each anew.
fn as_its_tool(session: &mut Session, script: &str) -> Result<(), PgError> {
    session.run("RESET search_path; RESET row_security; RESET timezone; RESET datestyle; RESET intervalstyle")?;
    session.run(script)
}

fn is_in(session: &mut Session, ledger: &Ledger, version: &str) -> Result<bool, PgError> {
    let is_it = format!("{}::pg_catalog.text = {}", quoted(&ledger.column), literal(version));
    Ok(session.value(&format!("SELECT count(*) FROM {} WHERE {is_it}", title(ledger)))? != "0")
}

/// Takes migrations back, in this order, in one transaction: the script of each, and its row in the ledger with it. One whose
/// row is not there any more is passed over, so that it may be repeated. A fence goes in the same transaction. What leaves is
/// handed over before. Says which were taken back.
///
/// # Errors
/// [`PgError::Refused`] with the first statement that failed or waited too long for a lock; [`PgError::Ours`] when what leaves
/// cannot be kept. Then nothing has changed.
pub fn revert_migrations(
    session: &mut Session,
    ledger: &Ledger,
    migrations: &[Migration],
    limits: Limits,
    keep: Option<&mut dyn KeepLeaving>,
) -> Result<Vec<String>, PgError> {
    session.transaction("BEGIN READ WRITE", |session| {
        begun(session, ledger, limits)?;
        let mut meant = Vec::new();
        for migration in migrations {
            if let (true, Some(down)) = (is_in(session, ledger, &migration.version)?, &migration.down) {
                meant.push((&migration.version, &down.text));
            }
        }
        let scripts = |session: &mut Session| meant.iter().try_for_each(|(_, down)| as_its_tool(session, down));
        if let Some(keep) = keep.filter(|_| !meant.is_empty()) {
            keep_leaving(session, keep, &scripts)?;
        }
        scripts(session)?;
        let (title, column) = (title(ledger), quoted(&ledger.column));
        for (version, _) in &meant {
            session.run(&format!("DELETE FROM {title} WHERE {column}::pg_catalog.text = {}", literal(version)))?;
        }
        Ok(meant.into_iter().map(|(version, _)| version.clone()).collect())
    })
}

/// Whether we can note in it what we applied; the reason why not.
pub fn ledger_takes_rows(applied: &Applied) -> Result<(), String> {
    match applied.ledger.table.as_str() {
        _ if applied.head_only => Err(format!("{} holds the newest version alone", applied.ledger)),
        "_prisma_migrations" => Err("only Prisma itself notes what it has applied".to_owned()),
        _known => Ok(()),
    }
}

/// The row that the tool itself would write.
fn noted(session: &mut Session, ledger: &Ledger, one: &Pending) -> Result<(), PgError> {
    let columns = session.ask(&format!(
        "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = {}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped",
        literal(&title(ledger))
    ))?;
    let has = |name: &str| columns.iter().any(|row| row.text(0) == name);
    let name = one.migration.name.split_once(['_', '-']).map_or(one.migration.name.as_str(), |(_, name)| name);
    let mut values = vec![(ledger.column.as_str(), literal(&one.migration.version))];
    match ledger.table.as_str() {
        "_sqlx_migrations" => {
            let checksum = hex::encode(sha2::Sha384::digest(&one.up.text));
            values.extend([
                ("description", literal(&name.replace('_', " "))),
                ("success", "true".to_owned()),
                ("checksum", format!("'\\x{checksum}'")),
                ("execution_time", "0".to_owned()),
            ]);
        }
        "knex_migrations" => values.extend([
            ("batch", format!("(SELECT COALESCE(max(batch), 0) + 1 FROM {})", title(ledger))),
            ("migration_time", "now()".to_owned()),
        ]),
        _others => {
            values.extend(has("name").then(|| ("name", literal(name))).filter(|_| ledger.column != "name"));
            values
                .extend(has("statements").then(|| ("statements", format!("ARRAY[{}]::text[]", literal(&one.up.text)))));
        }
    }
    let names: Vec<String> = values.iter().map(|(name, _)| quoted(name)).collect();
    let values: Vec<String> = values.into_iter().map(|(_, value)| value).collect();
    session.run(&format!("INSERT INTO {} ({}) VALUES ({})", title(ledger), names.join(", "), values.join(", ")))
}

/// Applies migrations, in this order, in one transaction: the script of each, and its row in the ledger with it. One whose row is
/// there already is passed over, so that it may be repeated. A fence goes in the same transaction. Says which were applied.
///
/// # Errors
/// [`PgError::Refused`] with the first statement that failed or waited too long for a lock; then nothing has changed.
pub fn apply_migrations(
    session: &mut Session,
    ledger: &Ledger,
    pending: &[Pending],
    limits: Limits,
) -> Result<Vec<String>, PgError> {
    session.transaction("BEGIN READ WRITE", |session| {
        begun(session, ledger, limits)?;
        let mut applied = Vec::new();
        for one in pending {
            if is_in(session, ledger, &one.migration.version)? {
                continue;
            }
            as_its_tool(session, &one.up.text)?;
            noted(session, ledger, one)?;
            applied.push(one.migration.version.clone());
        }
        Ok(applied)
    })
}

/// What a rehearsal of migrations has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RehearsedMigrations {
    /// How far they can be taken back.
    pub class: Reversibility,
    /// Why it is not better than that, a line each.
    pub found: Vec<String>,
    /// Whether they can be applied at all.
    pub applies: bool,
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
    let class = Reversibility::OneWay;
    let one_way = |found: String| Ok(RehearsedMigrations { class, found: vec![found], applies: true });
    let before = look(session)?;
    if let Some(why) = run_all(session, pending.iter().map(|one| (one.migration.name.as_str(), one.up.text.as_str())))?
    {
        let found = vec![format!("cannot be applied: {why}")];
        return Ok(RehearsedMigrations { class, found, applies: false });
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
        return Ok(RehearsedMigrations { class, found, applies: true });
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
        return Ok(RehearsedMigrations { class, found, applies: true });
    }
    let rows = |look: &Look, table: &String| look.1.get(table).cloned().unwrap_or_default();
    let lost: Vec<String> = before
        .1
        .keys()
        .filter(|table| rows(&before, table) != rows(&after, table))
        .map(|table| format!("rows of {table} are not as before once it is taken back"))
        .collect();
    let class = if lost.is_empty() { Reversibility::DownLossless } else { Reversibility::Lossy };
    Ok(RehearsedMigrations { class, found: lost, applies: true })
}

/// Runs scripts one after another as the app's own tool would; what the first said that was refused.
fn run_all<'a>(
    session: &mut Session,
    scripts: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Option<String>, PgError> {
    for (name, script) in scripts {
        match as_its_tool(session, script) {
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
