//! What is kept: a schema under another name, whose comment says what it is and how it goes back.

use serde::{Deserialize, Serialize};

use super::{
    super::{
        PgError, Selection, Session, fingerprint,
        sql::{literal, quoted},
    },
    SCHEMA_LOCK_WAIT_MS, depends, refused,
};

/// How the comment of a kept schema begins; backups leave such schemas out.
pub(in super::super) const KEPT_COMMENT: &str = "kept by lifeboat: ";

/// What a kept schema knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The name it had.
    pub live: String,
    /// The comment it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Types that were moved out of it, and move with the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Statements that put its tables into publications again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publications: Vec<String>,
}

impl Kept {
    /// Writes it into the schema's comment.
    pub fn write(&self, session: &mut Session, schema: &str) -> Result<(), PgError> {
        let json = serde_json::to_string(self)
            .map_err(|error| PgError::Damaged { what: "the note of what is kept".into(), found: error.to_string() })?;
        let comment = literal(&format!("{KEPT_COMMENT}{json}"));
        session.run(&format!("COMMENT ON SCHEMA {} IS {comment}", quoted(schema)))
    }

    /// Reads it from the schema's comment.
    pub fn read(session: &mut Session, schema: &str) -> Result<Kept, PgError> {
        let comment = comment_of(session, schema)?.unwrap_or_default();
        let kept = comment.strip_prefix(KEPT_COMMENT).and_then(|json| serde_json::from_str(json).ok());
        match kept {
            Some(kept) => Ok(kept),
            None => refused(
                format!("the schema {schema} does not say that it was kept by a restore"),
                "look at it with \\dn+ in psql; its comment may have been changed by hand",
            ),
        }
    }
}

/// The comment of a schema.
pub(super) fn comment_of(session: &mut Session, schema: &str) -> Result<Option<String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT pg_catalog.obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace WHERE nspname = {}",
        literal(schema)
    ))?;
    Ok(rows.first().and_then(|row| row.maybe(0)))
}

/// The schemas that restores have kept in this database.
///
/// # Errors
/// As [`Session::run`].
pub fn kept_schemas(session: &mut Session) -> Result<Vec<String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT nspname FROM pg_catalog.pg_namespace
          WHERE pg_catalog.starts_with(pg_catalog.obj_description(oid, 'pg_namespace'), {}) ORDER BY 1",
        literal(KEPT_COMMENT)
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Drops schemas that were kept. Never while anything outside of them depends on something in them: `CASCADE` would take
/// that along, a column of another schema's table too. What remains is compared before and after, before it counts.
///
/// # Errors
/// [`PgError::Preflight`] when a schema was not kept by us, or something depends on it.
pub fn drop_kept_schemas(session: &mut Session, schemas: &[String]) -> Result<(), PgError> {
    session.transaction("BEGIN", |session| {
        session.run(&format!("SET LOCAL lock_timeout = {SCHEMA_LOCK_WAIT_MS}"))?;
        let there: Vec<String> = kept_schemas(session)?.into_iter().filter(|name| schemas.contains(name)).collect();
        for schema in schemas.iter().filter(|name| !there.contains(name)) {
            // One that is gone is gone; one that is there and not ours is refused.
            if session
                .value(&format!("SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = {}", literal(schema)))?
                != "0"
            {
                Kept::read(session, schema)?;
            }
        }
        let names: Vec<&str> = there.iter().map(String::as_str).collect();
        let outside = depends::dependents(session, &names)?;
        if !outside.is_empty() {
            let some: Vec<String> = outside.iter().take(5).map(ToString::to_string).collect();
            let found = format!(
                "{} things outside depend on what is kept, and dropping it would take them along: {}",
                outside.len(),
                some.join("; ")
            );
            return refused(found, "change them so that they do not, then release again");
        }
        let before = fingerprint::fingerprint(session, &Selection::default())?;
        for name in names {
            session.run(&format!("DROP SCHEMA {} CASCADE", quoted(name)))?;
        }
        let gone = before.differences(&fingerprint::fingerprint(session, &Selection::default())?);
        match gone.first() {
            None => Ok(()),
            Some(first) => refused(
                format!("dropping what is kept would change what is not: {first}"),
                "change that so that it does not depend on the kept schema, then release again",
            ),
        }
    })
}
