//! One table out of a backup, laid beside the live one in a schema of its own: looked at with SQL, compared, and the rows
//! that the live table lacks handed over. The live table is only read.

use std::io;

use lifeboat_model::{postgres::PgTableFacts, salvage::SideDiff};

use super::{
    PgError, Selection, Session, Sources,
    bring_back::types,
    catalog::{self, Table},
    sql::{literal, quoted},
};

/// What schemas of this kind begin with. Backups leave them out.
pub(super) const SIDE_PREFIX: &str = "lifeboat_restored_";

/// A table of a backup, and where it is laid.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The schema beside.
    pub schema: &'a str,
    /// The table, as the manifest calls it.
    pub title: &'a str,
    /// What the backup holds of it.
    pub facts: &'a PgTableFacts,
    /// Only rows for which this is true; all when there is none.
    pub condition: Option<&'a str>,
}

impl Side<'_> {
    /// How the table beside is called in SQL.
    pub fn beside(&self) -> String {
        format!("{}.{}", quoted(self.schema), name_of(self.title))
    }

    fn filter(&self) -> String {
        // On a line of its own, so that a comment at its end hides nothing.
        self.condition.map_or_else(|| "true".to_owned(), |condition| format!("(({condition}\n)) IS TRUE"))
    }
}

/// A table's own name out of `schema.name`, quoted as there.
fn name_of(title: &str) -> &str {
    let mut quoted = false;
    let dot = title.char_indices().find(|(_, letter)| {
        quoted ^= *letter == '"';
        *letter == '.' && !quoted
    });
    dot.map_or(title, |(at, _)| &title[at + 1..])
}

fn live_table(session: &mut Session, title: &str) -> Result<Option<Table>, PgError> {
    Ok(catalog::tables(session, &Selection::default())?.into_iter().find(|table| table.title() == title))
}

/// Lays the table beside; one that was laid there before goes first. Says how many rows are in it.
///
/// # Errors
/// As [`Session::run`]; [`PgError::Ours`] when the backup cannot be read. Nothing was changed then.
pub fn lay_beside(session: &mut Session, side: &Side<'_>, sources: &dyn Sources) -> Result<u64, PgError> {
    session.transaction("BEGIN", |session| {
        let (schema, beside) = (quoted(side.schema), side.beside());
        let types = match live_table(session, side.title)? {
            Some(table) => types(session, &table)?,
            None => Default::default(),
        };
        // A type without its limit: what was longer then must not become shorter.
        let column = |name: &String| {
            let kind = types.get(name).map_or("text", |(base, _full)| base.as_str());
            format!("{name} {kind}")
        };
        let columns: Vec<String> = side.facts.columns.iter().map(column).collect();
        session.run(&format!(
            "DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema};
             COMMENT ON SCHEMA {schema} IS 'rows out of a backup; Lifeboat made it, and it may be dropped';
             CREATE TABLE {beside} ({})",
            columns.join(", ")
        ))?;
        for part in &side.facts.parts {
            let failed = |source| PgError::Ours { doing: format!("read {} out of the backup", part.path), source };
            let mut source = sources.open(&part.path).map_err(failed)?;
            let target = catalog::copy_target(&beside, &side.facts.columns);
            session.copy_in(&format!("COPY {target} FROM STDIN"), &mut source, &|_| ())?;
        }
        if side.condition.is_some() {
            session.run(&format!("DELETE FROM {beside} WHERE NOT ({})", side.filter()))?;
        }
        if !side.facts.key.is_empty() {
            session.run(&format!("ALTER TABLE {beside} ADD PRIMARY KEY ({})", side.facts.key.join(", ")))?;
        }
        session.run(&format!("ANALYZE {beside}"))?;
        Ok(session.one(&format!("SELECT count(*) FROM {beside}"))?.count(0))
    })
}

/// Takes the schema away again; nothing happens when there is none.
///
/// # Errors
/// As [`Session::run`].
pub fn drop_beside(session: &mut Session, schema: &str) -> Result<(), PgError> {
    session.run(&format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(schema)))
}

/// How the two are compared.
struct Comparison {
    live: String,
    /// Columns that both have.
    common: Vec<String>,
    key: Vec<String>,
}

impl Comparison {
    fn of(session: &mut Session, side: &Side<'_>) -> Result<Option<Comparison>, PgError> {
        let Some(table) = live_table(session, side.title)? else { return Ok(None) };
        let has = |column: &&String| table.columns.contains(column);
        let common: Vec<String> = side.facts.columns.iter().filter(has).cloned().collect();
        let keyed = side.facts.key.iter().all(|column| common.contains(column));
        let key = if keyed { side.facts.key.clone() } else { Vec::new() };
        Ok(Some(Comparison { live: side.title.to_owned(), common, key }))
    }

    fn on(&self) -> String {
        let both = |column: &String| format!("t.{column} = s.{column}");
        self.key.iter().map(both).collect::<Vec<_>>().join(" AND ")
    }

    fn is_same(&self) -> String {
        let same = |column: &String| format!("t.{column}::text IS NOT DISTINCT FROM s.{column}::text");
        let all: Vec<String> = self.common.iter().map(same).collect();
        if all.is_empty() { "true".into() } else { all.join(" AND ") }
    }

    fn texts(&self) -> String {
        self.common.iter().map(|column| format!("{column}::text")).collect::<Vec<_>>().join(", ")
    }
}

/// Compares the table beside with the live one.
///
/// # Errors
/// As [`Session::run`].
pub fn compare_beside(session: &mut Session, side: &Side<'_>) -> Result<SideDiff, PgError> {
    let beside = side.beside();
    let Some(how) = Comparison::of(session, side)? else {
        let missing = session.one(&format!("SELECT count(*) FROM {beside}"))?.count(0);
        return Ok(SideDiff { missing, is_gone: true, ..SideDiff::default() });
    };
    let left_out = side.facts.columns.iter().filter(|column| !how.common.contains(column)).cloned().collect();
    let (live, filter) = (&how.live, side.filter());
    let sql = match how.key.is_empty() {
        false => format!(
            "SELECT count(*) FILTER (WHERE t.lifeboat IS NULL), count(*) FILTER (WHERE {both} AND NOT ({same})),
                    count(*) FILTER (WHERE s.lifeboat IS NULL), count(*) FILTER (WHERE {both} AND {same})
               FROM (SELECT *, true AS lifeboat FROM {beside}) s
               FULL JOIN (SELECT *, {filter} AS lifeboat_meant, true AS lifeboat FROM ONLY {live}) t ON {on}
              WHERE s.lifeboat OR t.lifeboat_meant",
            both = "s.lifeboat AND t.lifeboat",
            same = how.is_same(),
            on = how.on()
        ),
        true => {
            let texts = how.texts();
            format!(
                "SELECT (SELECT count(*) FROM (SELECT {texts} FROM {beside} EXCEPT ALL SELECT {texts} FROM ONLY {live}) x), 0,
                        (SELECT count(*) FROM (SELECT {texts} FROM ONLY {live} WHERE {filter} EXCEPT ALL SELECT {texts} FROM {beside}) x),
                        (SELECT count(*) FROM (SELECT {texts} FROM {beside} INTERSECT ALL SELECT {texts} FROM ONLY {live}) x)"
            )
        }
    };
    let row = session.one(&sql)?;
    let (missing, changed, only_live, same) = (row.count(0), row.count(1), row.count(2), row.count(3));
    Ok(SideDiff { missing, changed, only_live, same, is_gone: false, left_out })
}

/// Hands over the rows that the live table lacks, each with the number of its copy in front, then the columns that both
/// have, in COPY's text format.
///
/// # Errors
/// As [`Session::run`]; [`PgError::Ours`] with the taker's error.
pub fn missing_beside(
    session: &mut Session,
    side: &Side<'_>,
    take: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<(), PgError> {
    let Some(how) = Comparison::of(session, side)? else { return Ok(()) };
    let (beside, live) = (side.beside(), &how.live);
    let columns: Vec<String> = how.common.iter().map(|column| format!("s.{column}")).collect();
    let columns = columns.join(", ");
    let query = match how.key.is_empty() {
        false => format!(
            "SELECT 1, {columns} FROM {beside} s WHERE NOT EXISTS (SELECT 1 FROM ONLY {live} t WHERE {})",
            how.on()
        ),
        true => {
            let texts: Vec<String> = how.common.iter().map(|column| format!("s.{column}::text")).collect();
            format!(
                "SELECT s.lifeboat, {columns} FROM (SELECT s.*, row_number() OVER (PARTITION BY {}) AS lifeboat FROM {beside} s) s
                  WHERE s.lifeboat > (SELECT count(*) FROM ONLY {live} t WHERE {})",
                texts.join(", "),
                how.is_same()
            )
        }
    };
    session.copy_out(&format!("COPY ({query}) TO STDOUT"), |bytes| {
        let row = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let cut = row.iter().position(|byte| *byte == b'\t').unwrap_or(row.len());
        let copy = std::str::from_utf8(&row[..cut]).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        take(copy, row.get(cut + 1..).unwrap_or_default())
    })
}

/// Hands over rows that both have with other values, in COPY's text format: first those of the backup (`true`), then the live
/// ones, with the columns that both have.
///
/// # Errors
/// As [`missing_beside`].
pub fn changed_beside(
    session: &mut Session,
    side: &Side<'_>,
    take: &mut dyn FnMut(bool, &[u8]) -> io::Result<()>,
) -> Result<(), PgError> {
    let Some(how) = Comparison::of(session, side)?.filter(|how| !how.key.is_empty()) else { return Ok(()) };
    let (beside, live, on, same) = (side.beside(), &how.live, how.on(), how.is_same());
    // Of one instant: a row that changes between the two would have a version too many.
    session.transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", |session| {
        for (alias, is_wanted) in [("s", true), ("t", false)] {
            let columns: Vec<String> = how.common.iter().map(|column| format!("{alias}.{column}")).collect();
            let query =
                format!("SELECT {} FROM {beside} s JOIN ONLY {live} t ON {on} WHERE NOT ({same})", columns.join(", "));
            session.copy_out(&format!("COPY ({query}) TO STDOUT"), |bytes| {
                take(is_wanted, bytes.strip_suffix(b"\n").unwrap_or(bytes))
            })?;
        }
        Ok(())
    })
}

/// Columns that a table of a backup and the live one both have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommonColumns {
    /// All of them, in the backup's order, quoted where SQL needs it.
    pub all: Vec<String>,
    /// Those that tell rows apart; none when nothing does.
    pub key: Vec<String>,
}

/// The columns that a table of a backup and the live one both have; nothing when there is no such
/// live table.
///
/// # Errors
/// As [`Session::run`].
pub fn common_columns(session: &mut Session, side: &Side<'_>) -> Result<Option<CommonColumns>, PgError> {
    Ok(Comparison::of(session, side)?.map(|how| CommonColumns { all: how.common, key: how.key }))
}

/// Whether there is a schema of that name.
///
/// # Errors
/// As [`Session::run`].
pub fn schema_exists(session: &mut Session, schema: &str) -> Result<bool, PgError> {
    let sql = format!("SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = {}", literal(schema));
    Ok(session.value(&sql)? != "0")
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_name_is_what_comes_after_the_schema() {
        assert_eq!(
            ["public.orders", "\"a.b\".\"c.d\"", "x.\"a\"\"b\""].map(name_of),
            ["orders", "\"c.d\"", "\"a\"\"b\""]
        );
    }
}
