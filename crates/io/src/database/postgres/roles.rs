//! What each role can see. A policy that is listed and does not hold, a grant too many: a copy shows them only to who asks as
//! that role.

use std::collections::BTreeMap;

use lifeboat_model::{Check, PostgresFacts, Tri};

use super::{
    PgError, Session,
    sql::{literal, literals, quoted},
};

/// Rows by role and table. A table that is not named could not be read.
pub type Seen = BTreeMap<String, BTreeMap<String, u64>>;

/// How many counts there are at most, each of one table under one role's policies.
const QUESTIONS_MAX: usize = 2000;

/// Roles that policies and grants on tables name, and that we may become. Not those that own a table or stand above
/// policies: they see all anyhow.
///
/// # Errors
/// As [`Session::run`].
pub fn named_roles(session: &mut Session) -> Result<Vec<String>, PgError> {
    let rows = session.ask(
        "SELECT r.rolname FROM pg_catalog.pg_roles r
          WHERE NOT r.rolsuper AND NOT r.rolbypassrls AND r.rolname !~ '^pg_' AND r.rolname <> current_user
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.relowner = r.oid)
            AND (EXISTS (SELECT 1 FROM pg_catalog.pg_policy p WHERE r.oid = ANY (p.polroles))
              OR EXISTS (SELECT 1 FROM pg_catalog.pg_class c, LATERAL pg_catalog.aclexplode(c.relacl) a
                          WHERE a.grantee = r.oid AND a.privilege_type = 'SELECT'))
          ORDER BY 1",
    )?;
    rows.iter()
        .map(|row| Ok((row.text(0).to_owned(), may_become(session, row.text(0))?)))
        .filter_map(|one| match one {
            Ok((role, true)) => Some(Ok(role)),
            Ok((_, false)) => None,
            Err(error) => Some(Err(error)),
        })
        .collect()
}

fn may_become(session: &mut Session, role: &str) -> Result<bool, PgError> {
    // From 16 on a member may be kept from it.
    let word = if session.major() >= 16 { "SET" } else { "MEMBER" };
    Ok(session.value(&format!("SELECT pg_catalog.pg_has_role({}, '{word}')", literal(role)))? == "t")
}

/// How many rows of each table each role can see; `tables` says how many there are. Only where policies hold is it counted.
/// A role that we may not become is left out, and a table that it may not read. In a transaction of the caller's; nothing
/// of it stays.
///
/// # Errors
/// As [`Session::run`].
pub fn seen_by(session: &mut Session, roles: &[String], tables: &BTreeMap<String, u64>) -> Result<Seen, PgError> {
    let mut seen = Seen::new();
    let known = session.ask(&format!(
        "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ({})",
        literals(roles.iter().map(String::as_str))
    ))?;
    let mut questions = 0;
    for role in known.iter().map(|row| row.text(0).to_owned()) {
        if !may_become(session, &role)? {
            continue;
        }
        let readable = session.ask(&format!(
            "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), c.relrowsecurity FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                AND pg_catalog.has_schema_privilege({0}, n.oid, 'USAGE') AND pg_catalog.has_table_privilege({0}, c.oid, 'SELECT')",
            literal(&role)
        ))?;
        let mut rows = BTreeMap::new();
        for row in &readable {
            let Some((table, all)) = tables.get_key_value(row.text(0)) else { continue };
            let count = match row.is_true(1) {
                false => Some(*all),
                true if questions >= QUESTIONS_MAX => continue,
                true => {
                    questions += 1;
                    count_as(session, &role, table)?
                }
            };
            rows.extend(count.map(|count| (table.clone(), count)));
        }
        seen.insert(role, rows);
    }
    Ok(seen)
}

/// Counts as a role; nothing when its policies cannot be asked without more to go by.
fn count_as(session: &mut Session, role: &str, table: &str) -> Result<Option<u64>, PgError> {
    session.run("SAVEPOINT lifeboat_role")?;
    let counted = session
        .run(&format!("SET LOCAL ROLE {}; SET LOCAL row_security = on", quoted(role)))
        .and_then(|()| session.value(&format!("SELECT count(*) FROM ONLY {table}")));
    session.run("ROLLBACK TO SAVEPOINT lifeboat_role; RELEASE SAVEPOINT lifeboat_role")?;
    match counted {
        Ok(count) => Ok(count.parse().ok()),
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks in a copy what each role sees, and compares it with what was captured: more fails, less is told. `found` is what
/// is in the copy.
pub fn compare_seen(
    session: &mut Session,
    captured: &PostgresFacts,
    found: &PostgresFacts,
    with_grants: bool,
) -> Vec<Check> {
    let unknown = |detail: String| vec![Check::new("what roles see", Tri::Unknown, detail)];
    if captured.seen.is_empty() {
        return Vec::new();
    }
    let roles: Vec<String> = captured.seen.keys().cloned().collect();
    match session.transaction("BEGIN READ ONLY", |session| seen_by(session, &roles, &rows_of(found))) {
        Ok(found) => {
            captured.seen.iter().map(|(role, was)| compare_role(role, was, found.get(role), with_grants)).collect()
        }
        Err(error) => unknown(error.to_string()),
    }
}

/// Rows of every table.
pub(super) fn rows_of(facts: &PostgresFacts) -> BTreeMap<String, u64> {
    facts.tables.iter().map(|(title, table)| (title.clone(), table.rows.rows)).collect()
}

fn compare_role(
    role: &str,
    was: &BTreeMap<String, u64>,
    is: Option<&BTreeMap<String, u64>>,
    with_grants: bool,
) -> Check {
    let name = format!("what {role} sees");
    let Some(is) = is else {
        return Check::new(name, Tri::Unknown, "the role could not be asked");
    };
    let more = is.iter().filter(|(table, rows)| **rows > was.get(*table).copied().unwrap_or(0));
    let more: Vec<String> = more
        .map(|(table, rows)| {
            format!("{rows} rows of {table}, and {} when it was captured", was.get(table).copied().unwrap_or(0))
        })
        .collect();
    let less = was.iter().filter(|(table, rows)| is.get(*table).copied().unwrap_or(0) < **rows).count();
    match (more.is_empty(), less) {
        (false, _) => Check::new(name, Tri::Fail, format!("it sees more than it should: {}", more.join("; "))),
        (true, 0) => Check::new(name, Tri::Pass, format!("{} tables, as captured", was.len())),
        (true, less) if !with_grants => {
            let detail = format!("the copy could not be given all grants, and it sees less of {less} tables");
            Check::new(name, Tri::Unknown, detail)
        }
        (true, less) => Check::new(name, Tri::Pass, format!("no more than was captured; less of {less} tables")),
    }
}
