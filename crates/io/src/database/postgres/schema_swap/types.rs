//! Types of a person's: what is the same before and after is moved, since clients' prepared statements know it by its
//! number.

use std::collections::BTreeSet;

use super::{
    super::{
        PgError, Session,
        archive::SchemaEntry,
        sql::{literal, quoted},
    },
    SchemaSwap,
};

/// Kinds of types that may be moved, in `pg_dump`'s words.
pub(super) fn is_type(entry: &SchemaEntry) -> bool {
    matches!(entry.kind.as_str(), "TYPE" | "DOMAIN")
}

/// Types that the backup has in these schemas, `schema.name` without quotes.
pub(super) fn names_in(what: &SchemaSwap<'_>) -> BTreeSet<String> {
    let mine = what.entries.iter().filter(|entry| what.takes(entry) && is_type(entry));
    mine.map(|entry| format!("{}.{}", entry.schema, entry.tag)).collect()
}

/// Everything that makes up an enum, a domain, a composite type or a range, in words; nothing for others, and when there
/// is none of that name.
fn definition(session: &mut Session, schema: &str, name: &str) -> Result<Option<String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT t.typtype::text || ' ' || t.typowner::regrole || ' ' || CASE t.typtype
            WHEN 'e' THEN (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)
            WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) || ' ' || t.typnotnull || coalesce(t.typdefault, '') || t.typcollation::regcollation
                || coalesce((SELECT string_agg(k.conname || pg_get_constraintdef(k.oid), ',' ORDER BY k.conname) FROM pg_constraint k WHERE k.contypid = t.oid), '')
            WHEN 'c' THEN coalesce((SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || a.attcollation::regcollation, ',' ORDER BY a.attnum)
                FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '')
            WHEN 'r' THEN (SELECT r.rngsubtype::regtype || ' ' || r.rngcollation::regcollation || r.rngcanonical || r.rngsubdiff || r.rngsubopc FROM pg_range r WHERE r.rngtypid = t.oid) END
           FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
          WHERE n.nspname = {} AND t.typname = {} AND (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c'))",
        literal(schema),
        literal(name)
    ))?;
    Ok(rows.first().and_then(|row| row.maybe(0)))
}

/// Makes a type, or moves the one that is kept when it is the same; says which.
pub(super) fn make_or_move(session: &mut Session, entry: &SchemaEntry, kept: Option<&str>) -> Result<bool, PgError> {
    session.run(&format!("{}; {}", entry.sql, entry.owner_sql))?;
    let Some(kept) = kept else { return Ok(false) };
    let new = definition(session, &entry.schema, &entry.tag)?;
    let old = definition(session, kept, &entry.tag)?;
    // Where it leans on something that stays behind, the words differ too: the old schema's name is in them.
    if new.is_none() || new != old {
        return Ok(false);
    }
    session.run(&format!("DROP TYPE {}.{}", quoted(&entry.schema), quoted(&entry.tag)))?;
    move_one(session, kept, &entry.tag, &entry.schema)?;
    Ok(true)
}

/// Moves a type to another schema.
pub(super) fn move_one(session: &mut Session, from: &str, name: &str, to: &str) -> Result<(), PgError> {
    session.run(&format!("ALTER TYPE {}.{} SET SCHEMA {}", quoted(from), quoted(name), quoted(to)))
}
