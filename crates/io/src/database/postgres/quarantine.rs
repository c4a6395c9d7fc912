//! A copy that does nothing by itself: it fetches from nobody, calls nobody, runs nothing on time.
//!
//! A database that was restored elsewhere still holds all that makes it act: subscriptions that fetch rows, jobs of
//! `pg_cron`, servers of others with passwords, triggers that call the web. In a copy each of these would act a second
//! time, on the real world.

use super::{
    PgError, Session,
    sql::{literals, quoted},
};

/// Functions that reach out of the database when a trigger calls them: Supabase's webhooks, `pg_net`, `http`.
const REACH_OUT: &str = "(n.nspname IN ('supabase_functions', 'net') OR p.prosrc ~* '(net\\.http_|extensions\\.http|http_request|http_post|http_get|dblink|pg_notify_url)')";

/// Puts a copy into quarantine, and says what was switched off, a sentence each. What cannot be switched off is an error: a
/// copy that may act is no copy to leave about.
///
/// # Errors
/// [`PgError::Refused`] when something may not be switched off.
pub fn quarantine(session: &mut Session) -> Result<Vec<String>, PgError> {
    let mut notes = Vec::new();
    subscriptions(session, &mut notes)?;
    jobs(session, &mut notes)?;
    servers(session, &mut notes)?;
    webhooks(session, "true", &mut notes)?;
    Ok(notes)
}

/// The same for schemas that came into a database which is not their own, in the caller's transaction: what else acts in it is
/// that database's.
pub(super) fn quarantine_schemas(session: &mut Session, schemas: &[&str]) -> Result<Vec<String>, PgError> {
    let mut notes = Vec::new();
    let here = format!("s.nspname IN ({})", literals(schemas.iter().copied()));
    webhooks(session, &here, &mut notes)?;
    Ok(notes)
}

/// A subscription would fetch rows, and hold the slot of the real one.
fn subscriptions(session: &mut Session, notes: &mut Vec<String>) -> Result<(), PgError> {
    let rows = session.ask(
        "SELECT s.subname, s.subenabled FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
          WHERE d.datname = pg_catalog.current_database() ORDER BY 1",
    );
    let rows = match rows {
        // Only a superuser may read all of it; who may not, could not have made one either.
        Err(error) if error.code() == Some("42501") => return Ok(()),
        other => other?,
    };
    for row in &rows {
        let name = quoted(row.text(0));
        // One that is disabled and has no slot takes nothing of its publisher's along when the copy is dropped.
        session.run(&format!("ALTER SUBSCRIPTION {name} DISABLE"))?;
        session.run(&format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"))?;
        notes.push(format!("The subscription {name} is switched off, and has no slot."));
    }
    Ok(())
}

fn jobs(session: &mut Session, notes: &mut Vec<String>) -> Result<(), PgError> {
    let there = session.value("SELECT pg_catalog.to_regclass('cron.job') IS NOT NULL")?;
    if there != "t" {
        return Ok(());
    }
    let rows = session.ask("UPDATE cron.job SET active = false WHERE active RETURNING jobid")?;
    if !rows.is_empty() {
        notes.push(format!("{} jobs of cron are switched off.", rows.len()));
    }
    Ok(())
}

/// Without a mapping nobody gets into another server from here.
fn servers(session: &mut Session, notes: &mut Vec<String>) -> Result<(), PgError> {
    let rows = session.ask("SELECT srvname, CASE umuser WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(usename) END FROM pg_catalog.pg_user_mappings ORDER BY 1, 2")?;
    for row in &rows {
        session.run(&format!("DROP USER MAPPING IF EXISTS FOR {} SERVER {}", row.text(1), quoted(row.text(0))))?;
    }
    if !rows.is_empty() {
        notes.push(format!("{} mappings into other servers are taken away.", rows.len()));
    }
    Ok(())
}

/// Triggers that reach out, of tables for which `which` is true: `s` is the row of their schema in `pg_namespace`.
fn webhooks(session: &mut Session, which: &str, notes: &mut Vec<String>) -> Result<(), PgError> {
    let rows = session.ask(&format!(
        "SELECT g.tgrelid::pg_catalog.regclass, g.tgname FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
           JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
           JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
          WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgparentid = 0 AND {which} AND {REACH_OUT} ORDER BY 1, 2"
    ))?;
    for row in &rows {
        session.run(&format!("ALTER TABLE {} DISABLE TRIGGER {}", row.text(0), quoted(row.text(1))))?;
        notes.push(format!(
            "The trigger {} of {} reaches out of the database, and is switched off.",
            row.text(1),
            row.text(0)
        ));
    }
    Ok(())
}
