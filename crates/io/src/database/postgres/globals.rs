//! What belongs to the whole cluster and a database cannot do without: roles, their memberships and settings.

use super::{PgError, Session, sql::literal};

/// Statements that make the roles of a cluster: attributes, memberships and settings; never a password, nor a hash of
/// one. A role that is there already is left as it is. Reads views that everybody may read.
///
/// # Errors
/// As [`Session::run`].
pub fn globals_sql(session: &mut Session) -> Result<String, PgError> {
    let mut sql =
        "-- Roles, their memberships and settings. Passwords are not kept: set them again where a role logs in.\n"
            .to_owned();
    let roles = session.ask(
        "SELECT pg_catalog.quote_ident(rolname), rolname,
                pg_catalog.concat_ws(' ', CASE WHEN rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END,
                  CASE WHEN rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END,
                  CASE WHEN rolcreaterole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END,
                  CASE WHEN rolcreatedb THEN 'CREATEDB' ELSE 'NOCREATEDB' END,
                  CASE WHEN rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
                  CASE WHEN rolreplication THEN 'REPLICATION' ELSE 'NOREPLICATION' END,
                  CASE WHEN rolbypassrls THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END,
                  CASE WHEN rolconnlimit >= 0 THEN 'CONNECTION LIMIT ' || rolconnlimit END,
                  'VALID UNTIL ' || pg_catalog.quote_literal(rolvaliduntil))
           FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname",
    )?;
    for role in &roles {
        let make = format!("CREATE ROLE {} WITH {}", role.text(0), role.text(2));
        sql += &format!(
            "DO $lifeboat$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = {}) THEN {make}; END IF; END $lifeboat$;\n",
            literal(role.text(1))
        );
    }
    let members = session.ask(
        "SELECT pg_catalog.format('GRANT %I TO %I%s;', r.rolname, m.rolname, CASE WHEN a.admin_option THEN ' WITH ADMIN OPTION' ELSE '' END)
           FROM pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
           JOIN pg_catalog.pg_roles m ON m.oid = a.member
          WHERE m.rolname !~ '^pg_' ORDER BY r.rolname, m.rolname",
    )?;
    let settings = session.ask(
        "SELECT pg_catalog.format('ALTER ROLE %I SET %I TO %s;', r.rolname, pg_catalog.split_part(c, '=', 1),
                CASE WHEN pg_catalog.split_part(c, '=', 1) IN ('search_path', 'datestyle', 'temp_tablespaces')
                     THEN COALESCE(NULLIF(pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1), ''), '''''')
                     ELSE pg_catalog.quote_literal(pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)) END)
           FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = s.setrole,
                pg_catalog.unnest(s.setconfig) c
          WHERE s.setdatabase = 0 AND r.rolname !~ '^pg_' ORDER BY 1",
    )?;
    for row in members.iter().chain(&settings) {
        sql += row.text(0);
        sql.push('\n');
    }
    Ok(sql)
}

/// Which of these roles are not there.
///
/// # Errors
/// As [`Session::run`].
pub fn missing_roles(session: &mut Session, wanted: &[String]) -> Result<Vec<String>, PgError> {
    let there = session.ask("SELECT rolname FROM pg_catalog.pg_roles")?;
    Ok(wanted.iter().filter(|role| !there.iter().any(|row| row.text(0) == *role)).cloned().collect())
}
