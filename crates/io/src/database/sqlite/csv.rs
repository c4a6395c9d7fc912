//! A table as comma-separated values, after RFC 4180: a header, CRLF at line ends, quotes doubled inside quotes.
//!
//! The form of a field tells its storage class, so that nothing is lost for a reader who looks at the quotes:
//!
//! ```text
//!   NULL      nothing at all          ,,
//!   text      always in quotes        ,"it's ""odd""",     the empty text is ""
//!   integer   digits                  ,-42,
//!   real      with a dot or exponent  ,0.1,   ,9e999, and ,-9e999, are the infinities
//!   blob      \x and two hex digits a byte    ,\x00ff,
//! ```
//!
//! PostgreSQL's `COPY ... CSV` reads NULL, empty text and blobs (`bytea`) the same way. Readers that do not look at quotes
//! see NULL and the empty text alike. In a table of one column a NULL is an empty line, which some readers pass over; the
//! number of rows is known to the caller.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use rusqlite::types::ValueRef;

use super::{
    SqliteError,
    inspect::{stored_columns, tables},
    open::{open_at_rest, quoted},
};
use crate::{files, stop::Stop};

/// Rows between two looks at `Stop`.
const ROWS_BETWEEN_STOPS: u64 = 4096;

/// Writes a table of a copy at rest into the new file `into`, mode 0600; gives the number of rows. Columns that are
/// computed when read are not stored and left out.
///
/// # Errors
/// [`SqliteError`]; nothing of the file stays then.
pub fn write_csv(
    file: &Path,
    table: &str,
    into: &Path,
    stop: &Stop,
    progress: &dyn Fn(u64),
) -> Result<u64, SqliteError> {
    let written = files::write_stream(into, 0o600, |to| table_to(file, table, into, to, stop, progress));
    written.map_err(|error| SqliteError::from_io(into, "write", error.source))?
}

fn table_to(
    file: &Path,
    table: &str,
    into: &Path,
    to: &mut dyn Write,
    stop: &Stop,
    progress: &dyn Fn(u64),
) -> Result<u64, SqliteError> {
    let failed = |error| SqliteError::from_sqlite(file, "read", error);
    let unwritten = |error| SqliteError::from_io(into, "write", error);
    let connection = open_at_rest(file, stop)?;
    let columns = stored_columns(&connection, table).map_err(failed)?;
    let mut out = BufWriter::with_capacity(1 << 18, to);
    let header: Vec<Vec<u8>> = columns.iter().map(|name| text(name.as_bytes())).collect();
    line(&mut out, &header).map_err(unwritten)?;
    let list: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let select = format!("SELECT {} FROM {}", list.join(", "), quoted(table));
    let mut statement = connection.prepare(&select).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next().map_err(failed)? {
        let fields = (0..columns.len()).map(|index| row.get_ref(index).map(field)).collect::<Result<Vec<_>, _>>();
        let fields = fields.map_err(failed)?;
        line(&mut out, &fields).map_err(unwritten)?;
        count += 1;
        bytes += fields.iter().map(|field| field.len() as u64 + 1).sum::<u64>();
        if count % ROWS_BETWEEN_STOPS == 0 {
            stop.check()?;
            progress(bytes);
        }
    }
    out.flush().map_err(unwritten)?;
    Ok(count)
}

fn line(out: &mut dyn Write, fields: &[Vec<u8>]) -> std::io::Result<()> {
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(field)?;
    }
    out.write_all(b"\r\n")
}

fn field(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Null => Vec::new(),
        ValueRef::Integer(number) => number.to_string().into_bytes(),
        ValueRef::Real(number) if number.is_infinite() => {
            if number > 0.0 {
                b"9e999".to_vec()
            } else {
                b"-9e999".to_vec()
            }
        }
        ValueRef::Real(number) => format!("{number:?}").into_bytes(),
        ValueRef::Text(bytes) => text(bytes),
        ValueRef::Blob(bytes) => format!("\\x{}", hex::encode(bytes)).into_bytes(),
    }
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::with_capacity(bytes.len() + 2);
    field.push(b'"');
    for &byte in bytes {
        if byte == b'"' {
            field.push(b'"');
        }
        field.push(byte);
    }
    field.push(b'"');
    field
}

/// The names of a copy's tables that hold rows of their own, without SQLite's bookkeeping.
///
/// # Errors
/// [`SqliteError`].
pub fn table_names(file: &Path, stop: &Stop) -> Result<Vec<String>, SqliteError> {
    let connection = open_at_rest(file, stop)?;
    let names = tables(&connection).map_err(|error| SqliteError::from_sqlite(file, "read", error))?;
    Ok(names.into_iter().filter(|name| !name.starts_with("sqlite_")).collect())
}

/// The statements that make a schema anew, in two parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaSql {
    /// The numbers that apps keep in the file's header, and the tables.
    pub before_rows: String,
    /// What comes after the rows, so that no trigger fires for them: indexes, views, triggers.
    pub after_rows: String,
}

/// The schema of a copy at rest as SQL. Shadow tables are left out, since their virtual table makes them.
///
/// # Errors
/// [`SqliteError`].
pub fn schema_sql(file: &Path, stop: &Stop) -> Result<SchemaSql, SqliteError> {
    let failed = |error| SqliteError::from_sqlite(file, "read", error);
    let connection = open_at_rest(file, stop)?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    let (version, application) = (number("user_version")?, number("application_id")?);
    let mut schema = SchemaSql {
        before_rows: format!("PRAGMA user_version = {version};\nPRAGMA application_id = {application};\n"),
        after_rows: String::new(),
    };
    let mut statement = connection
        .prepare(
            "SELECT s.type, s.sql FROM sqlite_schema AS s
             LEFT JOIN pragma_table_list AS l ON l.schema = 'main' AND l.name = s.name
             WHERE s.sql IS NOT NULL AND s.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND coalesce(l.type, '') <> 'shadow'
             ORDER BY instr('table  index  view   trigger', s.type), s.rowid",
        )
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let (kind, sql): (String, String) = row.get(0).and_then(|kind| Ok((kind, row.get(1)?))).map_err(failed)?;
        // On a line of its own, in case the statement ends with a comment.
        let text = format!("{sql}\n;\n");
        if kind == "table" { schema.before_rows += &text } else { schema.after_rows += &text }
    }
    Ok(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_field_tells_its_class() {
        for (value, expected) in [
            (ValueRef::Null, ""),
            (ValueRef::Text(b""), "\"\""),
            (ValueRef::Text(b"NULL"), "\"NULL\""),
            (ValueRef::Text(b"a \"b\",\r\nc"), "\"a \"\"b\"\",\r\nc\""),
            (ValueRef::Integer(i64::MIN), "-9223372036854775808"),
            (ValueRef::Real(1.0), "1.0"),
            (ValueRef::Real(0.1), "0.1"),
            (ValueRef::Real(1e300), "1e300"),
            (ValueRef::Real(f64::NEG_INFINITY), "-9e999"),
            (ValueRef::Blob(&[0, 255]), "\\x00ff"),
            (ValueRef::Blob(&[]), "\\x"),
        ] {
            assert_eq!(String::from_utf8(field(value)).unwrap(), expected, "{value:?}");
        }
    }
}
