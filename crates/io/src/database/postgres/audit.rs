//! What an app's own audit log tells of a span of time: all of it, counted by table and action, and the newest rows. For whoever
//! wants to know what is lost without a backup, or when it went wrong.

use lifeboat_model::Timestamp;
use serde::Serialize;

use super::{
    PgError, Session,
    catalog::schema_condition,
    checks::SEARCH_PATH,
    clients::Selection,
    sql::{literal, literals, plain},
};

/// What such tables are called, where nobody says it.
const TABLES: [&str; 6] = ["audit_log", "audit_logs", "audit_trail", "audit_events", "activity_log", "logged_actions"];
/// What their columns are called: when, what, and what was done to it.
const WHEN: [&str; 9] = [
    "created_at",
    "occurred_at",
    "changed_at",
    "logged_at",
    "performed_at",
    "action_tstamp_tx",
    "at",
    "timestamp",
    "ts",
];
const WHAT: [&str; 8] =
    ["table_name", "entity_type", "resource_type", "object_type", "target_table", "entity", "resource", "relation"];
const DONE: [&str; 6] = ["action", "operation", "event_type", "event", "op", "tag"];

/// What is asked of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditAsk<'a> {
    /// The table; found by its name when nobody says it.
    pub table: Option<&'a str>,
    /// From when on; from the first row on when nobody says it.
    pub since: Option<Timestamp>,
    /// Only rows for which this SQL is true.
    pub condition: Option<&'a str>,
    /// So many of the newest are shown.
    pub newest_max: u32,
}

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditScope {
    /// The table.
    pub table: String,
    /// All rows of that time.
    pub rows: u64,
    /// The first of them.
    pub first: Option<Timestamp>,
    /// The last.
    pub last: Option<Timestamp>,
    /// The same by table and action, the most first.
    pub groups: Vec<AuditGroup>,
    /// The newest rows, as JSON.
    pub newest: Vec<serde_json::Value>,
}

/// Rows of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditGroup {
    /// Which table of the app; nothing when the log does not say it.
    pub what: String,
    /// What was done; nothing when the log does not say it.
    pub action: String,
    /// How often.
    pub rows: u64,
    /// The first of them.
    pub first: Option<Timestamp>,
    /// The last.
    pub last: Option<Timestamp>,
}

/// Asks an app's audit log; nothing when there is none.
///
/// # Errors
/// [`PgError::Preflight`] when it has no column that says when; [`PgError::Refused`], of the condition too.
pub fn audit_scope(session: &mut Session, ask: &AuditAsk<'_>) -> Result<Option<AuditScope>, PgError> {
    let Some((table, oid)) = find(session, ask.table)? else { return Ok(None) };
    let columns = session.ask(&format!(
        "SELECT a.attname, t.typname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
          WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped"
    ))?;
    let named = |names: &[&str], when: bool| -> Option<String> {
        let fits = |row: &&super::Row| !when || matches!(row.text(1), "timestamptz" | "timestamp");
        let is_it = |name: &&&str| columns.iter().filter(fits).any(|row| row.text(0) == **name);
        names.iter().find(is_it).map(|name| plain(name))
    };
    let Some(when) = named(&WHEN, true) else {
        return Err(PgError::Preflight {
            found: format!("{table} has no column that says when: {} are known", WHEN.join(", ")),
            hint: "make a view with such a column, and name it: --table VIEW".into(),
        });
    };
    let text = |column: Option<String>| column.map_or("''".to_owned(), |name| format!("COALESCE(l.{name}::text, '')"));
    let (what, done) = (text(named(&WHAT, false)), text(named(&DONE, false)));
    // What has no zone is meant as UTC, as the session is.
    let at = format!("l.{when}::pg_catalog.timestamptz");
    let since = ask
        .since
        .map_or("true".to_owned(), |since| format!("{at} >= {}::pg_catalog.timestamptz", literal(&since.to_string())));
    let condition = ask.condition.map_or(String::new(), |condition| format!(" AND ({condition}\n)"));
    let rows = format!("FROM {table} l WHERE {since}{condition}");
    let instant = |which: &str| {
        format!("pg_catalog.to_char({which}({at}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    };
    let (first, last) = (instant("min"), instant("max"));
    let path = session.value(SEARCH_PATH)?;
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let asked = session
        .run(&format!("SET LOCAL search_path TO {path}; SET LOCAL statement_timeout = '10min'"))
        .and_then(|()| {
            let groups = session.ask(&format!(
                "SELECT {what}, {done}, count(*), {first}, {last} {rows} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
            ))?;
            let newest = session.ask(&format!(
                "SELECT pg_catalog.row_to_json(n) FROM (SELECT l.* {rows} ORDER BY l.{when} DESC LIMIT {}) n",
                ask.newest_max
            ))?;
            Ok((groups, newest))
        });
    session.run("ROLLBACK")?;
    let (groups, newest) = asked?;
    let groups: Vec<AuditGroup> = groups
        .iter()
        .map(|row| AuditGroup {
            what: row.text(0).to_owned(),
            action: row.text(1).to_owned(),
            rows: row.count(2),
            first: row.text(3).parse().ok(),
            last: row.text(4).parse().ok(),
        })
        .collect();
    Ok(Some(AuditScope {
        table,
        rows: groups.iter().map(|group| group.rows).sum(),
        first: groups.iter().filter_map(|group| group.first).min(),
        last: groups.iter().filter_map(|group| group.last).max(),
        newest: newest.iter().filter_map(|row| serde_json::from_str(row.text(0)).ok()).collect(),
        groups,
    }))
}

/// The table or view, by its name in SQL, and its number.
fn find(session: &mut Session, said: Option<&str>) -> Result<Option<(String, String)>, PgError> {
    let which = match said {
        Some(said) => match said.split_once('.') {
            Some((schema, name)) => format!("n.nspname = {} AND c.relname = {}", literal(schema), literal(name)),
            None => format!("c.relname = {}", literal(said)),
        },
        None => format!("c.relname IN ({})", literals(TABLES)),
    };
    let rows = session.ask(&format!(
        "SELECT n.nspname, c.relname, c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND {which} AND {}
          ORDER BY n.nspname <> 'public', c.relname LIMIT 1",
        schema_condition(&Selection::default())
    ))?;
    let found = |row: &super::Row| (format!("{}.{}", plain(row.text(0)), plain(row.text(1))), row.text(2).to_owned());
    Ok(rows.first().map(found))
}
