//! Comparing a table of the cloud with the file, range by range, without fetching its rows: both sides sum up each row in the
//! same way and add up the sums. How a row is summed up: `sums`; where a server's hash functions are not ours, by its text:
//!
//! ```text
//!   field   NULL: 02    else: its length in decimal, a colon, its text
//!   text    numbers with their bits or without zeros at the end, times in UTC, everything else as it is
//!   sum     the first 60 bits of MD5 over the fields; of a range: how many rows, and the sum of their sums
//! ```
//!
//! MD5 is what every PostgreSQL has; accidents are what is looked for.

use lifeboat_model::sync::CloudType;
use md5::{Digest, Md5};

use super::{
    super::{
        PgError, Session,
        sql::{literal, quoted},
    },
    Change, CloudColumn, CloudTable,
    sums::{Sums, sum_sql},
};

/// What a range of rows adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeSum {
    /// How many rows.
    pub rows: u64,
    /// The sum of their sums.
    pub sum: i128,
}

impl RangeSum {
    /// Adds a row.
    pub fn add(&mut self, sum: i64) {
        self.rows += 1;
        self.sum += i128::from(sum);
    }
}

/// A field as both sides write it down.
pub(super) fn field(column: &CloudColumn) -> String {
    let text = text_of(column);
    // As many bytes as we see, whatever the server's encoding.
    format!("coalesce(octet_length(convert_to({text}, 'UTF8'))::text || ':' || {text}, E'\\x02')")
}

fn text_of(column: &CloudColumn) -> String {
    let name = format!("t.{}", quoted(&column.name));
    match column.kind {
        CloudType::Boolean => format!("{name}::int::text"),
        CloudType::Double => format!("encode(float8send({name}), 'hex')"),
        CloudType::Real => format!("encode(float4send({name}), 'hex')"),
        CloudType::Numeric => format!("trim_scale({name})::text"),
        _ => format!("{name}::text"),
    }
}

/// The sum of a row whose canonical fields are these.
pub(super) fn row_sum(fields: &[Option<String>]) -> i64 {
    let mut written = Vec::new();
    for field in fields {
        match field {
            None => written.push(2),
            Some(text) => {
                written.extend(text.len().to_string().into_bytes());
                written.push(b':');
                written.extend(text.as_bytes());
            }
        }
    }
    let digest = Md5::digest(&written);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(first) >> 4) as i64
}

/// Rows with keys from one key on, and up to and with another.
pub fn key_range(table: &CloudTable, key: &[usize], after: Option<&Change>, upto: Option<&Change>) -> String {
    let names: Vec<String> = key.iter().map(|at| format!("t.{}", collated(&table.columns[*at]))).collect();
    let side = |bound: &Change| {
        let values: Vec<String> = bound
            .iter()
            .zip(key)
            .map(|(value, at)| match value {
                Some(value) => format!("{}::{}", literal(value), table.columns[*at].type_name),
                None => "NULL".to_owned(),
            })
            .collect();
        values.join(", ")
    };
    let mut conditions = vec!["true".to_owned()];
    conditions.extend(after.map(|bound| format!("({}) > ({})", names.join(", "), side(bound))));
    conditions.extend(upto.map(|bound| format!("({}) <= ({})", names.join(", "), side(bound))));
    conditions.join(" AND ")
}

/// A column in the order of its bytes, which is SQLite's.
fn collated(column: &CloudColumn) -> String {
    match column.kind {
        CloudType::Text => format!("{} COLLATE \"C\"", quoted(&column.name)),
        _ => quoted(&column.name),
    }
}

/// A row of the cloud: its key and its sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudRow {
    /// Its key, as texts that are compared.
    pub key: Change,
    /// What it adds to the sum of a range.
    pub sum: i64,
}

/// What a range of a table, a condition of [`key_range`], adds up to.
///
/// # Errors
/// As [`Session::ask`].
pub fn range_sum(
    session: &mut Session,
    sums: Sums,
    table: &CloudTable,
    columns: &[usize],
    range: &str,
) -> Result<RangeSum, PgError> {
    let sum = sum_sql(sums, table, columns);
    let asked = format!("SELECT count(*), coalesce(sum({sum}), 0) FROM {} t WHERE {range}", table.sql_name());
    let row = session.one(&asked)?;
    // A sum that cannot be read is no sum of rows: what differs is looked at row by row.
    Ok(RangeSum { rows: row.count(0), sum: row.text(1).parse().unwrap_or(-1) })
}

/// The rows of a range with their sums.
///
/// # Errors
/// As [`Session::ask`].
pub fn range_rows(
    session: &mut Session,
    sums: Sums,
    table: &CloudTable,
    (key, columns): (&[usize], &[usize]),
    range: &str,
) -> Result<Vec<CloudRow>, PgError> {
    let names: Vec<String> = key.iter().map(|at| text_of(&table.columns[*at])).collect();
    let sum = sum_sql(sums, table, columns);
    let rows = session.ask(&format!("SELECT {sum}, {} FROM {} t WHERE {range}", names.join(", "), table.sql_name()))?;
    Ok(rows
        .into_iter()
        .map(|row| CloudRow { sum: row.number(0), key: (0..key.len()).map(|at| row.maybe(at + 1)).collect() })
        .collect())
}

/// The rows of a range as JSON objects, with their keys.
///
/// # Errors
/// As [`Session::ask`].
pub fn range_images(
    session: &mut Session,
    table: &CloudTable,
    key: &[usize],
    range: &str,
) -> Result<Vec<(Change, String)>, PgError> {
    let names: Vec<String> = key.iter().map(|at| text_of(&table.columns[*at])).collect();
    let asked = format!("SELECT row_to_json(t)::text, {} FROM {} t WHERE {range}", names.join(", "), table.sql_name());
    let rows = session.ask(&asked)?;
    let key_of = |row: &super::super::Row| (0..key.len()).map(|at| row.maybe(at + 1)).collect();
    Ok(rows.into_iter().map(|row| (key_of(&row), row.text(0).to_owned())).collect())
}
