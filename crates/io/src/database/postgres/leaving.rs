//! What leaves with DOWN scripts: found by trying them, and handed over before they stay.
//!
//! ```text
//!   try       savepoint, all scripts, look, back to the savepoint
//!   leaves    tables that are gone          all of their rows
//!             columns that are gone         values other than the column's default, with the key of their row
//!             rows of tables that stay      those that a script changed or deleted
//! ```
//!
//! What a script says is not what it does: `CASCADE`, a dropped type, an `UPDATE` in a function. So it is not read but tried,
//! under the same locks under which it is done afterwards.

use std::{collections::BTreeMap, io};

use lifeboat_model::RowKind;

use super::{
    ChangedTable, KeepRows, PgError, RowChanges, Selection, Session,
    catalog::{self, Table},
    salvage::Lines,
    sql::{literal, plain},
};

/// Keeps what leaves.
pub trait KeepLeaving: KeepRows {
    /// All of it was handed over; it has to be on disk when this comes back. Not called when nothing leaves.
    ///
    /// # Errors
    /// What lies beneath; it ends everything, and nothing has changed.
    fn whole(&mut self, left: &[ChangedTable]) -> io::Result<()>;
}

/// Where a savepoint of ours is.
const SAVEPOINT: &str = "lifeboat_try";

/// A table as it is before scripts run, or after.
struct Shape {
    table: Table,
    /// Which file its rows are in: another one when all of them were written anew.
    file: String,
    columns: BTreeMap<i32, Column>,
    /// Rows that this transaction has changed or deleted.
    written: u64,
}

struct Column {
    /// As a person would write it.
    name: String,
    /// What a row has that says nothing of it, where that is the same for each.
    default: Option<String>,
    /// Whether its values follow from others.
    is_generated: bool,
}

/// Runs scripts that may take rows along: what leaves with them is handed over first. The caller has a transaction open.
///
/// # Errors
/// As [`Session::run`], with what the scripts fail with; [`PgError::Ours`] when it cannot be kept.
pub(super) fn keep_leaving(
    session: &mut Session,
    keep: &mut dyn KeepLeaving,
    scripts: &dyn Fn(&mut Session) -> Result<(), PgError>,
) -> Result<(), PgError> {
    let before = shapes(session)?;
    let after = tried(session, scripts, shapes)?;
    let mut left = Vec::new();
    let mut changed = Vec::new();
    for (oid, was) in &before {
        let Some(is) = after.get(oid) else {
            left.extend(whole_table(session, was, keep)?);
            continue;
        };
        let gone: Vec<&Column> = was
            .columns
            .iter()
            .filter(|(number, column)| !is.columns.contains_key(number) && !column.is_generated)
            .map(|(_, column)| column)
            .collect();
        if !gone.is_empty() {
            left.extend(columns(session, was, &gone, keep)?);
        }
        if is.written > was.written || is.file != was.file {
            changed.push((was, is));
        }
    }
    if !changed.is_empty() {
        left.extend(changed_rows(session, &changed, keep, scripts)?);
    }
    match left.is_empty() {
        true => Ok(()),
        false => keep.whole(&left).map_err(not_kept),
    }
}

/// Runs scripts, looks, and goes back to where it was.
fn tried<T>(
    session: &mut Session,
    scripts: &dyn Fn(&mut Session) -> Result<(), PgError>,
    look: impl FnOnce(&mut Session) -> Result<T, PgError>,
) -> Result<T, PgError> {
    session.run(&format!("SAVEPOINT {SAVEPOINT}"))?;
    scripts(session)?;
    session.run("SET search_path = ''; SET row_security = off; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'")?;
    let found = look(session)?;
    session.run(&format!("ROLLBACK TO SAVEPOINT {SAVEPOINT}; RELEASE SAVEPOINT {SAVEPOINT}"))?;
    Ok(found)
}

fn shapes(session: &mut Session) -> Result<BTreeMap<u32, Shape>, PgError> {
    let tables = catalog::tables(session, &Selection::default())?;
    let mut shapes: BTreeMap<u32, Shape> = BTreeMap::new();
    for table in tables {
        let (file, columns) = (String::new(), BTreeMap::new());
        shapes.insert(table.oid, Shape { table, file, columns, written: 0 });
    }
    // A transaction that counts nothing cannot tell which rows were touched; then every table counts as written anew.
    let counts = session.value("SHOW track_counts")? == "on";
    let mark = if counts {
        "c.relfilenode::pg_catalog.text"
    } else {
        "pg_catalog.txid_current()::pg_catalog.text || random()"
    };
    for row in session.ask(&format!(
        "SELECT c.oid, {mark}, COALESCE(s.n_tup_upd + s.n_tup_del, 0)
           FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_stat_xact_all_tables s ON s.relid = c.oid
          WHERE c.relkind = 'r'"
    ))? {
        if let Some(shape) = shapes.get_mut(&row.count(0).try_into().unwrap_or_default()) {
            (shape.file, shape.written) = (row.text(1).to_owned(), row.count(2));
        }
    }
    for row in session.ask(
        "SELECT a.attrelid, a.attnum, a.attname, a.attgenerated <> '', pg_catalog.pg_get_expr(d.adbin, d.adrelid)
           FROM pg_catalog.pg_attribute a
           LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
           JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
          WHERE a.attnum > 0 AND NOT a.attisdropped",
    )? {
        let Some(shape) = shapes.get_mut(&row.count(0).try_into().unwrap_or_default()) else { continue };
        let default = constant(row.maybe(4));
        let column = Column { name: plain(row.text(2)), default, is_generated: row.is_true(3) };
        shape.columns.insert(row.count(1).try_into().unwrap_or_default(), column);
    }
    Ok(shapes)
}

/// A table that goes, with all that is in it.
fn whole_table(session: &mut Session, was: &Shape, keep: &mut dyn KeepRows) -> Result<Option<ChangedTable>, PgError> {
    let (table, title) = (&was.table, was.table.title());
    let rows = session.one(&format!("SELECT count(*) FROM ONLY {title}"))?.count(0);
    let changed = ChangedTable {
        title: title.clone(),
        rows_then: None,
        rows_now: Some(rows),
        changes: RowChanges { inserted: rows, ..RowChanges::default() },
        columns: table.columns.clone(),
        columns_then: Vec::new(),
        key: table.key.clone(),
        only_now: Vec::new(),
    };
    if rows == 0 {
        return Ok(None);
    }
    keep.begin(&changed).map_err(not_kept)?;
    let query = format!("SELECT {} FROM ONLY {title}", table.columns.join(", "));
    handed_over(session, &query, keep, RowKind::Inserted)?;
    keep.end().map_err(not_kept)?;
    Ok(Some(changed))
}

/// Columns that go: the key of each row that has something there, and what. Beside it stands what the column holds when it is
/// made anew, so that values can be written over that again.
fn columns(
    session: &mut Session,
    was: &Shape,
    gone: &[&Column],
    keep: &mut dyn KeepRows,
) -> Result<Option<ChangedTable>, PgError> {
    let (table, title) = (&was.table, was.table.title());
    let names: Vec<String> = gone.iter().map(|column| column.name.clone()).collect();
    // Without a key all of the row is what tells it apart.
    let key: Vec<String> = match table.key.iter().any(|name| names.contains(name)) || table.key.is_empty() {
        true => table.columns.iter().filter(|name| !names.contains(name)).cloned().collect(),
        false => table.key.clone(),
    };
    let differs: Vec<String> = gone.iter().map(|column| is_set(&column.name, column.default.as_deref())).collect();
    let rows = format!("FROM ONLY {title} WHERE {}", differs.join(" OR "));
    let count = session.one(&format!("SELECT count(*) {rows}"))?.count(0);
    if count == 0 {
        return Ok(None);
    }
    let columns: Vec<String> = key.iter().chain(&names).cloned().collect();
    let is_keyed = !table.key.is_empty();
    let changed = ChangedTable {
        title: title.clone(),
        rows_then: Some(count),
        rows_now: Some(count),
        changes: RowChanges { updated: count, ..RowChanges::default() },
        columns_then: if is_keyed { columns.clone() } else { Vec::new() },
        key: if is_keyed { key.clone() } else { Vec::new() },
        only_now: names.clone(),
        columns,
    };
    keep.begin(&changed).map_err(not_kept)?;
    let now = format!("SELECT {} {rows}", changed.columns.join(", "));
    handed_over(session, &now, keep, RowKind::Updated)?;
    if is_keyed {
        let anew = gone.iter().map(|column| column.default.clone().unwrap_or_else(|| "NULL".to_owned()));
        let then: Vec<String> = key.iter().cloned().chain(anew).collect();
        handed_over(session, &format!("SELECT {} {rows}", then.join(", ")), keep, RowKind::Before)?;
    }
    keep.end().map_err(not_kept)?;
    Ok(Some(changed))
}

/// Whether a row has something else in a column than it gets when the column is made anew. As text, since not every type can be
/// compared.
fn is_set(name: &str, default: Option<&str>) -> String {
    let anew = default.map_or_else(|| "NULL".to_owned(), |default| format!("({default})::pg_catalog.text"));
    format!("{name}::pg_catalog.text IS DISTINCT FROM {anew}")
}

/// A default that is the same for each row, at any time.
fn constant(default: Option<String>) -> Option<String> {
    default.filter(|text| {
        let begins = text.starts_with(|letter: char| letter == '\'' || letter == '-' || letter.is_ascii_digit());
        (begins || matches!(text.as_str(), "true" | "false")) && !text.contains('(')
    })
}

/// Rows of tables that stay, which are not there any more as they were once the scripts have run: changed or deleted. They are
/// looked for by trying a second time.
fn changed_rows(
    session: &mut Session,
    tables: &[(&Shape, &Shape)],
    keep: &mut dyn KeepRows,
    scripts: &dyn Fn(&mut Session) -> Result<(), PgError>,
) -> Result<Vec<ChangedTable>, PgError> {
    // A column that stays may have got another name.
    let both = |was: &Shape, is: &Shape| -> Vec<(String, String)> {
        let stays = was.columns.iter().filter(|(_, column)| !column.is_generated);
        stays.filter_map(|(number, column)| Some((column.name.clone(), is.columns.get(number)?.name.clone()))).collect()
    };
    let texts = |names: Vec<&String>| {
        let texts: Vec<String> = names.into_iter().map(|name| format!("{name}::pg_catalog.text")).collect();
        texts.join(", ")
    };
    let tables: Vec<_> = tables.iter().filter(|(was, is)| !both(was, is).is_empty()).collect();
    // Temporary tables of before go with the savepoint.
    session.run("SAVEPOINT lifeboat_copies")?;
    for (number, (was, is)) in tables.iter().enumerate() {
        let pairs = both(was, is);
        let names = texts(pairs.iter().map(|(was, _)| was).collect());
        session.run(&format!(
            "CREATE TEMPORARY TABLE lifeboat_was_{number} AS SELECT {names} FROM ONLY {}",
            was.table.title()
        ))?;
    }
    let found = tried(session, scripts, |session| {
        let mut found = Vec::new();
        for (number, (was, is)) in tables.iter().enumerate() {
            let pairs = both(was, is);
            let names = texts(pairs.iter().map(|(_, is)| is).collect());
            let differ = format!(
                "SELECT * FROM pg_temp.lifeboat_was_{number} EXCEPT ALL SELECT {names} FROM ONLY {}",
                is.table.title()
            );
            let count = session.one(&format!("SELECT count(*) FROM ({differ}) d"))?.count(0);
            if count == 0 {
                continue;
            }
            let columns: Vec<String> = pairs.iter().map(|(was, _)| was.clone()).collect();
            let changed = ChangedTable {
                // Beside what leaves with columns of the same table.
                title: format!("{} as it was before a script changed it", was.table.title()),
                rows_then: Some(count),
                rows_now: Some(count),
                changes: RowChanges { updated: count, ..RowChanges::default() },
                columns,
                columns_then: Vec::new(),
                key: was.table.key.clone(),
                only_now: Vec::new(),
            };
            keep.begin(&changed).map_err(not_kept)?;
            handed_over(session, &differ, keep, RowKind::Updated)?;
            keep.end().map_err(not_kept)?;
            found.push(changed);
        }
        Ok(found)
    })?;
    session.run("ROLLBACK TO SAVEPOINT lifeboat_copies; RELEASE SAVEPOINT lifeboat_copies")?;
    Ok(found)
}

/// Hands the rows of a question over.
fn handed_over(session: &mut Session, query: &str, keep: &mut dyn KeepRows, kind: RowKind) -> Result<(), PgError> {
    let mut lines = Lines::default();
    session.copy_out(&format!("COPY ({query}) TO STDOUT"), |bytes| {
        lines.take(bytes, &mut |row: &[u8]| keep.row(kind, 1, row))
    })
}

fn not_kept(source: io::Error) -> PgError {
    PgError::Ours { doing: "keep the rows that leave".into(), source }
}

/// How many values of columns would leave, as scripts name them: `table`, `column`. What is not there is left out.
///
/// # Errors
/// As [`Session::run`].
pub fn values_in(session: &mut Session, columns: &[(String, String)]) -> Result<Vec<(String, String, u64)>, PgError> {
    let mut found = Vec::new();
    for (table, column) in columns {
        let title = session.ask(&format!(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.quote_ident(a.attname),
                    pg_catalog.pg_get_expr(d.adbin, d.adrelid)
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
               LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
              WHERE c.oid = pg_catalog.to_regclass({}) AND c.relkind IN ('r', 'p')
                AND a.attname = (pg_catalog.parse_ident({}))[1]",
            literal(table),
            literal(column)
        ))?;
        let Some(row) = title.first() else { continue };
        let (title, name) = (row.text(0).to_owned(), row.text(1).to_owned());
        let is_set = is_set(&name, constant(row.maybe(2)).as_deref());
        let asked = format!("SELECT count(*) FROM {title} WHERE {is_set}");
        let count = session.one(&asked)?.count(0);
        found.push((title, name, count));
    }
    Ok(found)
}
