//! The cloud's half of a mirror: tables that hold what a SQLite file holds, and a watermark that says up to where.
//!
//! A batch is one message of several statements, which the server runs as one transaction: one round trip, and it works
//! through poolers of any kind. Its first statement moves the watermark, and fails when somebody else has moved it: so
//! a batch that was applied although its answer was lost is never applied again, and of two workers on two copies of a
//! file one loses. The watermark in the cloud is the truth; what the file remembers of it is a copy.
//!
//! Tables that we make have a primary key and nothing else that could refuse a row. Rows that were deleted are kept in
//! `lifeboat.deleted`.

mod compare;
mod statements;
mod sums;
mod written;

use lifeboat_model::sync::{CloudType, Trouble, Widening, trouble_of};

use super::{
    PgError, Session,
    sql::{literal, quoted},
};

pub use compare::{CloudRow, RangeSum, key_range, range_images, range_rows, range_sum};
pub use statements::{
    Change, Delivery, Stream, StreamDelivery, TableDelivery, delivery_sql, doubled_sql, lacking_sql, single_sql,
    stream_sql, table_delivery_sql,
};
pub use sums::{RowSummer, Sums, sums_of};
pub use written::{RowWriter, WrittenRows};

/// A column of the cloud's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudColumn {
    /// Its name.
    pub name: String,
    /// What it can hold, as far as a mirror has to know.
    pub kind: CloudType,
    /// Its type, as the server writes it.
    pub type_name: String,
    /// Whether that says how long a value may be, or how many digits it has.
    pub limited: bool,
    /// Whether the server computes it.
    pub generated: bool,
    /// Whether a row without it is refused.
    pub needed: bool,
}

/// A table of the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<CloudColumn>,
    /// Sets of columns over which rows are unique: the primary key first.
    pub uniques: Vec<Vec<String>>,
    /// Tables of the same schema that it refers to, other than itself.
    pub parents: Vec<String>,
    /// Its foreign keys within the schema.
    pub references: Vec<Reference>,
    /// About how many rows it has.
    pub rows: u64,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The table that is referred to.
    pub table: String,
    /// The columns that refer.
    pub columns: Vec<String>,
    /// What each of them refers to.
    pub parent_columns: Vec<String>,
}

impl CloudTable {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&CloudColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether rows are unique over exactly these columns.
    pub fn is_unique_over(&self, key: &[&str]) -> bool {
        self.uniques
            .iter()
            .any(|unique| unique.len() == key.len() && key.iter().all(|name| unique.iter().any(|one| one == name)))
    }

    /// Its name as SQL.
    pub fn sql_name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// Up to where the cloud has what a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Which database, by the name it was given when mirroring began.
    pub database: String,
    /// Which generation of it: another one after the file was replaced.
    pub epoch: i64,
    /// The number of the last change that is there.
    pub seq: i64,
    /// Which worker delivers.
    pub owner: String,
    /// What the file said last about which of its copies it is.
    pub token: String,
    /// Whether what is there is a state in which the file once was.
    pub consistent: bool,
}

/// What an error of a delivery is about.
pub fn trouble(error: &PgError) -> Trouble {
    match error {
        PgError::Refused { said, .. } => trouble_of(&said.code),
        _ => Trouble::Down,
    }
}

/// Makes what a mirror needs besides its tables, where it is missing.
///
/// # Errors
/// As [`Session::run`].
pub fn prepare_mirror(session: &mut Session, schema: &str) -> Result<(), PgError> {
    let there = session.value(&format!(
        "SELECT (to_regclass('lifeboat.watermark') IS NOT NULL AND to_regclass('lifeboat.deleted') IS NOT NULL
         AND EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {}))::text",
        literal(schema)
    ))?;
    if there == "true" {
        return Ok(());
    }
    session.run(&format!(
        "CREATE SCHEMA IF NOT EXISTS lifeboat;
         CREATE SCHEMA IF NOT EXISTS {};
         CREATE TABLE IF NOT EXISTS lifeboat.watermark (
             source text PRIMARY KEY, database text NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL, owner text NOT NULL,
             token text NOT NULL, consistent boolean NOT NULL, updated_at timestamptz NOT NULL DEFAULT now());
         CREATE TABLE IF NOT EXISTS lifeboat.deleted (
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text NOT NULL, \"table\" text NOT NULL,
             at timestamptz NOT NULL DEFAULT now(), \"row\" jsonb NOT NULL);
         ALTER TABLE lifeboat.watermark ENABLE ROW LEVEL SECURITY;
         ALTER TABLE lifeboat.deleted ENABLE ROW LEVEL SECURITY",
        quoted(schema)
    ))
}

/// The tables of a schema.
///
/// # Errors
/// As [`Session::ask`].
pub fn cloud_tables(session: &mut Session, schema: &str) -> Result<Vec<CloudTable>, PgError> {
    let here = literal(schema);
    let columns = session.ask(&format!(
        "SELECT c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (a.attgenerated <> '')::text,
             (a.attnotnull AND NOT a.atthasdef AND a.attidentity = '')::text, greatest(c.reltuples, 0)::bigint,
             (a.attidentity = 'a')::text
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
         WHERE n.nspname = {here} AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY c.relname, a.attnum"
    ))?;
    let mut tables: Vec<CloudTable> = Vec::new();
    for row in columns {
        if tables.last().is_none_or(|table| table.name != row.text(0)) {
            tables.push(CloudTable {
                schema: schema.to_owned(),
                name: row.text(0).to_owned(),
                columns: Vec::new(),
                uniques: Vec::new(),
                parents: Vec::new(),
                references: Vec::new(),
                rows: row.count(5),
            });
        }
        let Some(table) = tables.last_mut() else { continue };
        table.columns.push(CloudColumn {
            name: row.text(1).to_owned(),
            kind: CloudType::of(row.text(2)),
            type_name: row.text(2).to_owned(),
            limited: row.text(2).contains('('),
            generated: row.text(3) == "true",
            needed: row.text(4) == "true",
        });
    }
    let uniques = session.ask(&format!(
        "SELECT c.relname, i.indexrelid, a.attname
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY k(num, place)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num
         WHERE n.nspname = {here} AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
             AND k.place <= i.indnkeyatts
         ORDER BY c.relname, NOT i.indisprimary, i.indexrelid, k.place"
    ))?;
    let mut index = String::new();
    for row in uniques {
        let Some(table) = tables.iter_mut().find(|table| table.name == row.text(0)) else { continue };
        if index != row.text(1) {
            index = row.text(1).to_owned();
            table.uniques.push(Vec::new());
        }
        table.uniques.extend_last(row.text(2));
    }
    let references = session.ask(&format!(
        "SELECT c.relname, p.relname, k.oid, a.attname, pa.attname
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
         JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY u(own, other, place)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.own
         JOIN pg_catalog.pg_attribute pa ON pa.attrelid = p.oid AND pa.attnum = u.other
         WHERE n.nspname = {here} AND k.contype = 'f' AND p.relnamespace = c.relnamespace
         ORDER BY c.relname, p.relname, k.oid, u.place"
    ))?;
    let mut constraint = String::new();
    for row in references {
        let Some(table) = tables.iter_mut().find(|table| table.name == row.text(0)) else { continue };
        let other = row.text(1).to_owned();
        if other != table.name && table.parents.last() != Some(&other) {
            table.parents.push(other.clone());
        }
        if constraint != row.text(2) {
            constraint = row.text(2).to_owned();
            table.references.push(Reference { table: other, columns: Vec::new(), parent_columns: Vec::new() });
        }
        if let Some(reference) = table.references.last_mut() {
            reference.columns.push(row.text(3).to_owned());
            reference.parent_columns.push(row.text(4).to_owned());
        }
    }
    Ok(tables)
}

trait ExtendLast {
    fn extend_last(&mut self, name: &str);
}

impl ExtendLast for Vec<Vec<String>> {
    fn extend_last(&mut self, name: &str) {
        if let Some(last) = self.last_mut() {
            last.push(name.to_owned());
        }
    }
}

/// The statements that make a table of a mirror: a primary key, and nothing else that could refuse a row. No policy lets
/// anybody but its owner see it.
pub fn mirror_table_sql(schema: &str, name: &str, columns: &[(&str, &str)], key: &[&str]) -> String {
    let table = format!("{}.{}", quoted(schema), quoted(name));
    let columns: Vec<String> = columns.iter().map(|(name, kind)| format!("{} {kind}", quoted(name))).collect();
    let key: Vec<String> = key.iter().map(|name| quoted(name)).collect();
    format!(
        "CREATE TABLE {table} ({}, PRIMARY KEY ({})); ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        columns.join(", "),
        key.join(", ")
    )
}

/// The statement that makes a column wider. A boolean becomes the number that SQLite has in its place.
pub fn widen_sql(schema: &str, wide: &Widening) -> String {
    let (table, column) = (format!("{}.{}", quoted(schema), quoted(&wide.table)), quoted(&wide.column));
    let number = if CloudType::of(&wide.from) == CloudType::Boolean { "::int" } else { "" };
    format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE {0} USING {column}{number}::{0}", wide.to)
}

/// The order in which tables are written so that what is referred to is there first; deletes go the other way. Tables
/// that refer to each other in a circle keep the order of their names.
pub fn parents_first(tables: &[CloudTable]) -> Vec<String> {
    let mut left: Vec<&CloudTable> = tables.iter().collect();
    let mut order: Vec<String> = Vec::new();
    while !left.is_empty() {
        let waits = |table: &&CloudTable| {
            table
                .parents
                .iter()
                .any(|parent| left.iter().any(|other| other.name == *parent && other.name != table.name))
        };
        let next = left.iter().position(|table| !waits(table)).unwrap_or(0);
        order.push(left.remove(next).name.clone());
    }
    order
}

/// Up to where the cloud has what this source holds; nothing when it has never delivered.
///
/// # Errors
/// As [`Session::ask`].
pub fn watermark(session: &mut Session, source: &str) -> Result<Option<Watermark>, PgError> {
    let asked = format!(
        "SELECT database, epoch, seq, owner, token, consistent FROM lifeboat.watermark WHERE source = {}",
        literal(source)
    );
    let row = session.ask(&asked)?.into_iter().next();
    Ok(row.map(|row| Watermark {
        database: row.text(0).to_owned(),
        epoch: row.number(1),
        seq: row.number(2),
        owner: row.text(3).to_owned(),
        token: row.text(4).to_owned(),
        consistent: row.is_true(5),
    }))
}

/// Sets a watermark, if it still is what it was before; whoever else delivers loses.
///
/// # Errors
/// As [`Session::ask`].
pub fn set_watermark(
    session: &mut Session,
    source: &str,
    before: Option<&Watermark>,
    after: &Watermark,
) -> Result<bool, PgError> {
    let Watermark { database, epoch, seq, owner, token, consistent } = after;
    let values = format!("{}, {epoch}, {seq}, {}, {}, {consistent}", literal(database), literal(owner), literal(token));
    let sql = match before {
        None => format!(
            "INSERT INTO lifeboat.watermark (source, database, epoch, seq, owner, token, consistent)
             VALUES ({}, {values}) ON CONFLICT DO NOTHING RETURNING 1",
            literal(source)
        ),
        Some(before) => format!(
            "UPDATE lifeboat.watermark SET (database, epoch, seq, owner, token, consistent, updated_at) = ROW({values}, now())
             WHERE source = {} AND database = {} AND epoch = {} AND seq = {} AND owner = {} RETURNING 1",
            literal(source),
            literal(&before.database),
            before.epoch,
            before.seq,
            literal(&before.owner)
        ),
    };
    Ok(!session.ask(&sql)?.is_empty())
}

/// Shows that the cloud takes writes, and that our place there is ours; moves it past what was cleared.
///
/// # Errors
/// As [`Session::ask`]; [`Trouble::Position`] when it is not ours any more.
pub fn touch_watermark(session: &mut Session, source: &str, held: &Watermark, seq: i64) -> Result<(), PgError> {
    session.run(&statements::move_watermark(source, held, seq, held.consistent))
}
