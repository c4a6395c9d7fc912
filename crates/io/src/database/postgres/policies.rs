//! Row-level security of a table: read, changed in one transaction, opened for a while, and tried as somebody else.
//!
//! Row-level security is never switched off here, not for a moment. What opens a table is a policy of its own whose condition
//! is the server's clock: it ends by itself, whatever becomes of us.

use lifeboat_model::policy::{Guarded, OPEN, Policy, Seen, not_an_expression};

use super::{
    PgError, Session,
    sql::{literal, quoted},
};

/// A table's row-level security, and its policies; nothing when there is no such table.
///
/// # Errors
/// As [`Session::run`].
pub fn guarded(session: &mut Session, table: &str) -> Result<Option<Guarded>, PgError> {
    let found = session.ask(&format!(
        "SELECT n.nspname, c.relname, c.relrowsecurity, c.relforcerowsecurity FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND c.oid = pg_catalog.to_regclass({})",
        literal(table)
    ))?;
    let Some(row) = found.first() else { return Ok(None) };
    let (schema, name) = (row.text(0).to_owned(), row.text(1).to_owned());
    let (is_on, is_forced) = (row.text(2) == "t", row.text(3) == "t");
    let rows = session.ask(&format!(
        "SELECT policyname, cmd, permissive = 'PERMISSIVE', '', qual IS NULL, qual, with_check IS NULL, with_check,
                pg_catalog.array_to_string(roles, pg_catalog.chr(1))
         FROM pg_catalog.pg_policies WHERE schemaname = {} AND tablename = {} ORDER BY policyname",
        literal(&schema),
        literal(&name)
    ))?;
    let said = |row: &super::Row, at: usize| (row.text(at) == "f").then(|| row.text(at + 1).to_owned());
    let policies = rows.iter().map(|row| Policy {
        name: row.text(0).to_owned(),
        command: row.text(1).to_owned(),
        is_permissive: row.text(2) == "t",
        roles: row.text(8).split('\u{1}').map(str::to_owned).collect(),
        using: said(row, 4),
        check: said(row, 6),
    });
    Ok(Some(Guarded { schema, table: name, is_on, is_forced, policies: policies.collect() }))
}

/// Puts a policy in the place of the one of that name, or takes that one away; row-level security is on afterwards. All of
/// it in one transaction: until it ends, and when it fails, the former policy holds. What is there must be `before`, else
/// somebody has changed it since; it may be what is wanted already.
///
/// # Errors
/// [`PgError::Preflight`] when it is another one by now, or no expression; [`PgError::Refused`].
pub fn replace_policy(
    session: &mut Session,
    table: &str,
    name: &str,
    wanted: Option<&Policy>,
    before: Option<&Policy>,
) -> Result<Guarded, PgError> {
    for text in wanted.iter().flat_map(|policy| [&policy.using, &policy.check]).flatten() {
        must_be_expression(text)?;
    }
    let there = must_be_there(session, table)?;
    if there.is_on && there.policies.iter().find(|policy| policy.name == name) == wanted {
        return Ok(there);
    }
    session.transaction("BEGIN", |session| {
        let place = locked(session, table)?;
        let is = policy_of(session, table, name)?;
        let drop = format!("DROP POLICY IF EXISTS {} ON {place}", quoted(name));
        session.run(&drop)?;
        let mut as_expected = is.as_ref() == before;
        if let (false, Some(before)) = (as_expected, before) {
            // The server writes expressions in its own way, and only it can tell whether two are the same.
            session.run(&create(&place, before))?;
            as_expected = is == policy_of(session, table, name)?;
            session.run(&drop)?;
        }
        if let Some(policy) = wanted {
            session.run(&create(&place, policy))?;
        }
        session.run(&format!("ALTER TABLE {place} ENABLE ROW LEVEL SECURITY"))?;
        // Repeated after a death, what is there is what is wanted.
        if !as_expected && is != policy_of(session, table, name)? {
            let found = format!("the policy {name} of {place} is another one by now");
            return Err(PgError::Preflight { found, hint: format!("lifeboat policy list {table}, and then again") });
        }
        must_be_there(session, table)
    })
}

/// Opens a table for a while: a policy lets these roles see and write every row until the server's clock says that it is over.
/// Policies that restrict hold on. Says until when, as the server writes it. Repeated, it is open no longer than at first.
///
/// # Errors
/// As [`Session::run`].
pub fn open_for(session: &mut Session, table: &str, roles: &[String], for_ms: u64) -> Result<String, PgError> {
    session.transaction("BEGIN", |session| {
        let place = locked(session, table)?;
        if let Some(open) = open_policies(session, table)?.first() {
            return Ok(open.trim_start_matches(OPEN).to_owned());
        }
        let until = session.value(&format!(
            "SELECT pg_catalog.to_char((pg_catalog.clock_timestamp() + {for_ms} * interval '1 millisecond') AT TIME ZONE 'UTC',
                                       'YYYY-MM-DD HH24:MI:SS.MS UTC')"
        ))?;
        let condition = format!("pg_catalog.clock_timestamp() < {}::timestamptz", literal(&until));
        let policy = Policy {
            name: format!("{OPEN}{until}"),
            command: "ALL".to_owned(),
            is_permissive: true,
            roles: roles.to_vec(),
            using: Some(condition.clone()),
            check: Some(condition),
        };
        session.run(&create(&place, &policy))?;
        Ok(until)
    })
}

/// Takes away what opens a table, over or not; row-level security is on afterwards. Says how many there were.
///
/// # Errors
/// As [`Session::run`].
pub fn close(session: &mut Session, table: &str) -> Result<u64, PgError> {
    if must_be_there(session, table)?.is_on && open_policies(session, table)?.is_empty() {
        return Ok(0);
    }
    session.transaction("BEGIN", |session| {
        let place = locked(session, table)?;
        let open = open_policies(session, table)?;
        for name in &open {
            session.run(&format!("DROP POLICY {} ON {place}", quoted(name)))?;
        }
        session.run(&format!("ALTER TABLE {place} ENABLE ROW LEVEL SECURITY"))?;
        Ok(open.len() as u64)
    })
}

/// What a role with these claims of a token sees of a table, held against what there is. Nothing is changed.
///
/// # Errors
/// [`PgError::Preflight`] when `own` is no expression, or rows are hidden from ourselves; [`PgError::Refused`].
pub fn seen_as(
    session: &mut Session,
    table: &str,
    role: &str,
    claims: &serde_json::Map<String, serde_json::Value>,
    own: &str,
    now: lifeboat_model::Timestamp,
) -> Result<Seen, PgError> {
    must_be_expression(own)?;
    session.transaction("BEGIN READ ONLY", |session| {
        let there = must_be_there(session, table)?;
        let place = format!("{}.{}", quoted(&there.schema), quoted(&there.table));
        let count = format!(
            "SELECT pg_catalog.count(*) FILTER (WHERE ({own}) IS TRUE), pg_catalog.count(*) FILTER (WHERE ({own}) IS NOT TRUE) FROM {place}"
        );
        let told = serde_json::Value::Object(claims.clone()).to_string();
        session.run(&format!("SELECT pg_catalog.set_config('request.jwt.claims', {}, true)", literal(&told)))?;
        for (name, value) in claims {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let name = literal(&format!("request.jwt.claim.{name}"));
            session.run(&format!("SELECT pg_catalog.set_config({name}, {}, true)", literal(&value)))?;
        }
        // Rows that are hidden from ourselves are an error here, and not nothing.
        session.run("SET LOCAL row_security = off")?;
        let all = session.one(&count)?;
        session.run("SET LOCAL row_security = on")?;
        session.run(&format!("SET LOCAL ROLE {}", quoted(role)))?;
        let seen = match session.one(&count) {
            Ok(seen) => (seen.count(0), seen.count(1)),
            // No right to the table at all: nothing is seen.
            Err(error) if error.code() == Some("42501") => (0, 0),
            Err(error) => return Err(error),
        };
        Ok(Seen { own: all.count(0), own_seen: seen.0, others: all.count(1), others_seen: seen.1, at: now })
    })
}

/// The table, which nobody changes meanwhile.
fn locked(session: &mut Session, table: &str) -> Result<String, PgError> {
    let there = must_be_there(session, table)?;
    let place = format!("{}.{}", quoted(&there.schema), quoted(&there.table));
    session
        .run(&format!("SET LOCAL lock_timeout = '{LOCK_WAIT_MS}ms'; LOCK TABLE {place} IN ACCESS EXCLUSIVE MODE"))?;
    Ok(place)
}

/// How long we wait for whoever holds the table.
const LOCK_WAIT_MS: u32 = 10_000;

fn must_be_there(session: &mut Session, table: &str) -> Result<Guarded, PgError> {
    guarded(session, table)?.ok_or_else(|| PgError::Preflight {
        found: format!("there is no table {table}"),
        hint: "write it as SCHEMA.TABLE, in double quotes where it has capital letters".to_owned(),
    })
}

fn must_be_expression(text: &str) -> Result<(), PgError> {
    match not_an_expression(text) {
        None => Ok(()),
        Some(why) => Err(PgError::Preflight {
            found: format!("{text:?} is not one SQL expression: {why}"),
            hint: "write only what is true for the rows that are meant, such as shop_id = 7".to_owned(),
        }),
    }
}

fn policy_of(session: &mut Session, table: &str, name: &str) -> Result<Option<Policy>, PgError> {
    Ok(must_be_there(session, table)?.policies.into_iter().find(|policy| policy.name == name))
}

fn open_policies(session: &mut Session, table: &str) -> Result<Vec<String>, PgError> {
    let policies = must_be_there(session, table)?.policies;
    Ok(policies.into_iter().map(|policy| policy.name).filter(|name| name.starts_with(OPEN)).collect())
}

/// The statement that makes a policy.
fn create(place: &str, policy: &Policy) -> String {
    let roles: Vec<String> =
        policy.roles.iter().map(|role| if role == "public" { "PUBLIC".to_owned() } else { quoted(role) }).collect();
    let kind = if policy.is_permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
    let using = policy.using.as_ref().map(|text| format!(" USING ({text})")).unwrap_or_default();
    let check = policy.check.as_ref().map(|text| format!(" WITH CHECK ({text})")).unwrap_or_default();
    let (name, command, roles) = (quoted(&policy.name), policy.command.as_str(), roles.join(", "));
    format!("CREATE POLICY {name} ON {place} AS {kind} FOR {command} TO {roles}{using}{check}")
}
