//! The statements of one delivery.

use super::{
    super::sql::{literal, quoted},
    CloudTable, Watermark,
};
use lifeboat_model::sync::CloudType;

/// A row on its way: a text for each column, as the server reads it, or nothing for NULL.
pub type Change = Vec<Option<String>>;

/// What one table gets.
#[derive(Clone, Debug)]
pub struct TableDelivery<'a> {
    /// The table.
    pub table: &'a CloudTable,
    /// Which of its columns are written, by their place.
    pub columns: Vec<usize>,
    /// Which of its columns are the key, by their place.
    pub key: Vec<usize>,
    /// Rows to be written, in the order of `columns`.
    pub upserts: Vec<Change>,
    /// Keys of rows to be deleted, in the order of `key`.
    pub deletes: Vec<Change>,
}

/// What is delivered in one transaction.
#[derive(Clone, Debug)]
pub struct Delivery<'a> {
    /// Whose changes they are.
    pub source: &'a str,
    /// Where the watermark is.
    pub held: &'a Watermark,
    /// Where it will be.
    pub upto: i64,
    /// Whether the cloud is then in a state in which the file once was.
    pub consistent: bool,
    /// What the tables get: those that are referred to first.
    pub tables: Vec<TableDelivery<'a>>,
}

/// Rows of one table that go over as COPY, beside the statements.
#[derive(Clone, Debug)]
pub struct Stream<'a> {
    /// The table.
    pub table: &'a CloudTable,
    /// Which of its columns are written, by their place.
    pub columns: Vec<usize>,
    /// Which of its columns are the key, by their place.
    pub key: Vec<usize>,
    /// Whether they are written in COPY's binary format.
    pub binary: bool,
    /// Rows that the cloud does not have: straight into the table. Nothing when there are none.
    pub fresh: Option<&'a [u8]>,
    /// Rows that it may have: into a table beside, and from there into this one. Nothing when there are none.
    pub changed: Option<&'a [u8]>,
    /// Keys of rows to be deleted, in the order of `key`.
    pub deletes: Vec<Change>,
}

/// What is delivered in one transaction, with rows as COPY.
#[derive(Clone, Debug)]
pub struct StreamDelivery<'a> {
    /// Whose changes they are.
    pub source: &'a str,
    /// Where the watermark is.
    pub held: &'a Watermark,
    /// Where it will be.
    pub upto: i64,
    /// Whether the cloud is then in a state in which the file once was.
    pub consistent: bool,
    /// What the tables get: those that are referred to first.
    pub tables: Vec<Stream<'a>>,
}

/// A delivery as one message of several statements, and what each COPY among them gets, in their order. The server runs it
/// as one transaction; what follows one that failed is not looked at.
pub fn stream_sql<'a>(delivery: &StreamDelivery<'a>) -> (String, Vec<&'a [u8]>) {
    let mut sql = move_watermark(delivery.source, delivery.held, delivery.upto, delivery.consistent);
    let mut data = Vec::new();
    for (at, stream) in delivery.tables.iter().enumerate() {
        let columns: Vec<&super::CloudColumn> = stream.columns.iter().map(|at| &stream.table.columns[*at]).collect();
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let (name, names) = (stream.table.sql_name(), names.join(", "));
        let form = if stream.binary { "binary" } else { "text" };
        if let Some(rows) = stream.fresh {
            sql.push_str(&format!(";\nCOPY {name} ({names}) FROM STDIN (FORMAT {form})"));
            data.push(rows);
        }
        if let Some(rows) = stream.changed {
            let beside = format!("lifeboat_batch_{at}");
            // In a transaction of its own it goes by itself, whatever happens to us.
            sql.push_str(&format!(
                ";\nCREATE TEMP TABLE {beside} ON COMMIT DROP AS SELECT {names} FROM {name} WITH NO DATA;
                 COPY pg_temp.{beside} FROM STDIN (FORMAT {form});
                 INSERT INTO {name} AS t ({names}) SELECT * FROM pg_temp.{beside}"
            ));
            data.push(rows);
            on_conflict(&mut sql, stream.table, &columns, &stream.key);
        }
    }
    for stream in delivery.tables.iter().rev().filter(|stream| !stream.deletes.is_empty()) {
        sql.push_str(";\n");
        delete(&mut sql, stream.table, &stream.key, &stream.deletes, delivery.source);
    }
    (sql, data)
}

/// Moves the watermark, or divides by zero.
pub(super) fn move_watermark(source: &str, held: &Watermark, upto: i64, consistent: bool) -> String {
    format!(
        "WITH moved AS (UPDATE lifeboat.watermark SET seq = {upto}, consistent = {consistent}, updated_at = now()
         WHERE source = {} AND database = {} AND epoch = {} AND owner = {} AND seq = {} RETURNING 1)
         SELECT 1 / count(*) FROM moved",
        literal(source),
        literal(&held.database),
        held.epoch,
        literal(&held.owner),
        held.seq
    )
}

/// A delivery as one message: the server runs it as one transaction.
pub fn delivery_sql(delivery: &Delivery<'_>) -> String {
    let mut sql = move_watermark(delivery.source, delivery.held, delivery.upto, delivery.consistent);
    for table in delivery.tables.iter().filter(|table| !table.upserts.is_empty()) {
        sql.push_str(";\n");
        upsert(&mut sql, table);
    }
    for table in delivery.tables.iter().rev().filter(|table| !table.deletes.is_empty()) {
        sql.push_str(";\n");
        delete(&mut sql, table.table, &table.key, &table.deletes, delivery.source);
    }
    sql
}

/// What one table gets, without the watermark: for trying.
pub fn table_delivery_sql(table: &TableDelivery<'_>, source: &str) -> String {
    let mut sql = String::new();
    if !table.upserts.is_empty() {
        upsert(&mut sql, table);
    }
    if !table.deletes.is_empty() {
        sql.push_str(";\n");
        delete(&mut sql, table.table, &table.key, &table.deletes, source);
    }
    sql
}

/// Which of some keys a table lacks: their places, counted from 1.
pub fn lacking_sql(table: &CloudTable, key: &[usize], keys: &[Change]) -> String {
    let columns: Vec<&super::CloudColumn> = key.iter().map(|at| &table.columns[*at]).collect();
    let places: Vec<String> = (0..key.len()).map(|at| format!("k{at}")).collect();
    let mut sql = "SELECT w.place FROM unnest(".to_owned();
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            sql.push_str(", ");
        }
        array(&mut sql, keys.iter().map(|row| row[at].as_deref()), &column.type_name);
    }
    let same: Vec<String> =
        columns.iter().zip(&places).map(|(column, place)| format!("t.{} = w.{place}", quoted(&column.name))).collect();
    let (name, same, places) = (table.sql_name(), same.join(" AND "), places.join(", "));
    sql + &format!(") WITH ORDINALITY w({places}, place) WHERE NOT EXISTS (SELECT FROM {name} t WHERE {same})")
}

/// How many rows of a table are there again, by a key that nothing enforces.
pub fn doubled_sql(table: &CloudTable, key: &[String]) -> String {
    let key = listed(key);
    let name = table.sql_name();
    format!(
        "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM {name} GROUP BY {key} HAVING count(*) > 1) again"
    )
}

/// Leaves one row of each key - the newest by `updated_at` or `created_at`, of equal ones the one that was written last -
/// keeps the others, and makes the key unique.
pub fn single_sql(table: &CloudTable, key: &[String], source: &str) -> String {
    let times = ["updated_at", "created_at"].into_iter().filter(|name| table.column(name).is_some());
    let mut order: Vec<String> = times.map(|name| format!("{} DESC NULLS LAST", quoted(name))).collect();
    order.push("ctid DESC".to_owned());
    let (name, key, order) = (table.sql_name(), listed(key), order.join(", "));
    format!(
        "LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE;
         WITH ranked AS (SELECT ctid AS place, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS place_in_line FROM {name}),
         gone AS (DELETE FROM {name} t USING ranked WHERE t.ctid = ranked.place AND ranked.place_in_line > 1 RETURNING t.*)
         INSERT INTO lifeboat.deleted (source, \"table\", \"row\") SELECT {}, {}, to_jsonb(gone) FROM gone;
         ALTER TABLE {name} ADD UNIQUE ({key})",
        literal(source),
        literal(&table.name)
    )
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

fn upsert(sql: &mut String, delivery: &TableDelivery<'_>) {
    let columns: Vec<&super::CloudColumn> = delivery.columns.iter().map(|at| &delivery.table.columns[*at]).collect();
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    sql.push_str(&format!(
        "INSERT INTO {} AS t ({}) SELECT * FROM unnest(",
        delivery.table.sql_name(),
        names.join(", ")
    ));
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            sql.push_str(", ");
        }
        array(sql, delivery.upserts.iter().map(|row| row[at].as_deref()), &column.type_name);
    }
    sql.push(')');
    on_conflict(sql, delivery.table, &columns, &delivery.key);
}

/// What happens to a row that is there already.
fn on_conflict(sql: &mut String, table: &CloudTable, columns: &[&super::CloudColumn], key: &[usize]) {
    let key: Vec<String> = key.iter().map(|at| quoted(&table.columns[*at].name)).collect();
    let rest: Vec<&&super::CloudColumn> =
        columns.iter().filter(|column| !key.contains(&quoted(&column.name))).collect();
    sql.push_str(&format!(" ON CONFLICT ({}) DO ", key.join(", ")));
    if rest.is_empty() {
        sql.push_str("NOTHING");
        return;
    }
    let set: Vec<String> = rest.iter().map(|column| format!("{0} = EXCLUDED.{0}", quoted(&column.name))).collect();
    let side = |side: &str| {
        let fields: Vec<String> = rest.iter().map(|column| comparable(side, column)).collect();
        fields.join(", ")
    };
    // A row that is as it should be is not written again: no WAL, no bloat.
    sql.push_str(&format!(
        "UPDATE SET {} WHERE ROW({}) IS DISTINCT FROM ROW({})",
        set.join(", "),
        side("t"),
        side("EXCLUDED")
    ));
}

/// A column as something with an equality: `json` and its like have none.
fn comparable(side: &str, column: &super::CloudColumn) -> String {
    let name = format!("{side}.{}", quoted(&column.name));
    match column.kind {
        CloudType::Json | CloudType::Other => format!("{name}::text"),
        _ => name,
    }
}

fn delete(sql: &mut String, table: &CloudTable, key: &[usize], deletes: &[Change], source: &str) {
    let key: Vec<&super::CloudColumn> = key.iter().map(|at| &table.columns[*at]).collect();
    let places: Vec<String> = (0..key.len()).map(|at| format!("k{at}")).collect();
    sql.push_str(&format!("WITH gone({}) AS (SELECT * FROM unnest(", places.join(", ")));
    for (at, column) in key.iter().enumerate() {
        if at > 0 {
            sql.push_str(", ");
        }
        array(sql, deletes.iter().map(|row| row[at].as_deref()), &column.type_name);
    }
    let same: Vec<String> =
        key.iter().zip(&places).map(|(column, place)| format!("t.{} = gone.{place}", quoted(&column.name))).collect();
    sql.push_str(&format!(
        ")), deleted AS (DELETE FROM {0} AS t USING gone WHERE {1} RETURNING t.*)
         INSERT INTO lifeboat.deleted (source, \"table\", \"row\") SELECT {2}, {3}, to_jsonb(deleted) FROM deleted",
        table.sql_name(),
        same.join(" AND "),
        literal(source),
        literal(&table.name)
    ));
}

/// An array of values, each as the server reads it from text, in one literal. Within the literal a backslash is doubled
/// for the array and stands for itself in SQL, since `standard_conforming_strings` is on.
fn array<'a>(sql: &mut String, values: impl Iterator<Item = Option<&'a str>>, type_name: &str) {
    sql.push_str("'{");
    for (at, value) in values.enumerate() {
        if at > 0 {
            sql.push(',');
        }
        match value {
            None => sql.push_str("NULL"),
            Some(text) if is_plain(text) => sql.push_str(text),
            Some(text) => {
                sql.push('"');
                for letter in text.chars() {
                    match letter {
                        '"' | '\\' => {
                            sql.push('\\');
                            sql.push(letter);
                        }
                        '\'' => sql.push_str("''"),
                        other => sql.push(other),
                    }
                }
                sql.push('"');
            }
        }
    }
    sql.push_str("}'::");
    sql.push_str(type_name);
    sql.push_str("[]");
}

/// Numbers need no quotes; `NULL` and the empty text do.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-' || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_keeps_every_letter() {
        let mut sql = String::new();
        let values = [Some("a\"b\\c'd,{}"), None, Some(""), Some("NULL"), Some("-1.5"), Some("\\x00ff")];
        array(&mut sql, values.into_iter(), "text");
        assert_eq!(sql, r#"'{"a\"b\\c''d,{}",NULL,"","NULL",-1.5,"\\x00ff"}'::text[]"#);
    }
}
