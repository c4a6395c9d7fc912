//! How tables look to somebody who mirrors them: columns, key, what else must be unique.

use rusqlite::Connection;

/// No table of a mirror has a key of more columns: the outbox has so many.
pub const KEY_COLUMNS_MAX: usize = 4;

/// A table that can be mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// Its name.
    pub name: String,
    /// Its columns that hold values, in order.
    pub columns: Vec<ColumnShape>,
    /// Which of `columns` are its key, in the key's order.
    pub key: Vec<usize>,
    /// The column of its key when that is the number by which SQLite keeps its rows: a new row gets the next one, and
    /// `VACUUM` leaves it alone.
    pub number: Option<String>,
    /// What else may be there only once.
    pub uniques: Vec<Unique>,
    /// Whether some column may have a collation of its own, so that its order is not that of bytes.
    pub is_collated: bool,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnShape {
    /// Its name.
    pub name: String,
    /// The type it was declared with; may be empty.
    pub declared: String,
    /// Whether its value is computed from the others.
    pub generated: bool,
}

/// Columns whose values may be there only once, with the collation that says what is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// Column and collation.
    pub columns: Vec<(String, String)>,
}

/// What the tables of a file are to a mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shapes {
    /// Those that can be mirrored, by name.
    pub tables: Vec<TableShape>,
    /// Those that cannot, and why.
    pub refused: Vec<(String, String)>,
}

impl TableShape {
    /// The names of its key's columns.
    pub fn key_names(&self) -> Vec<&str> {
        self.key.iter().map(|at| self.columns[*at].name.as_str()).collect()
    }
}

impl Shapes {
    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&TableShape> {
        self.tables.iter().find(|table| table.name == name)
    }
}

/// Looks at every table of the file; SQLite's own and ours are none of anybody's business.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Shapes> {
    let mut listed = connection.prepare(
        "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual')
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_lifeboat\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names = listed.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut shapes = Shapes::default();
    for found in names {
        let (name, kind) = found?;
        if kind == "virtual" {
            shapes.refused.push((name, "it is a virtual table, which has no triggers".to_owned()));
            continue;
        }
        match table(connection, &name)? {
            Ok(table) => shapes.tables.push(table),
            Err(why) => shapes.refused.push((name, why)),
        }
    }
    Ok(shapes)
}

fn table(connection: &Connection, name: &str) -> rusqlite::Result<Result<TableShape, String>> {
    let mut listed = connection.prepare(
        "SELECT name, type, hidden, pk, \"notnull\" FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid",
    )?;
    let mut rows = listed.query([name])?;
    let (mut columns, mut primary, mut not_null) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let (hidden, place): (i64, i64) = (row.get(2)?, row.get(3)?);
        if place > 0 {
            primary.push((place, columns.len()));
        }
        not_null.push(row.get::<_, bool>(4)?);
        columns.push(ColumnShape { name: row.get(0)?, declared: row.get(1)?, generated: hidden >= 2 });
    }
    primary.sort_unstable();
    let mut key: Vec<usize> = primary.into_iter().map(|(_, at)| at).collect();
    let (number, indexes) = (number_column(connection, name)?, unique_indexes(connection, name)?);
    let mut uniques = Vec::new();
    for (origin, index) in indexes {
        let at = |(column, _): &(String, String)| columns.iter().position(|known| known.name == *column);
        let Some(places) = index.iter().map(at).collect::<Option<Vec<usize>>>() else { continue };
        if key.is_empty() && places.iter().all(|at| not_null[*at]) {
            key = places;
        } else if origin != "pk" {
            uniques.push(Unique { columns: index });
        }
    }
    // SQLite uses no index for an order that is asked for by name, even if it is that of the column.
    let asked = "SELECT sql LIKE '%collate%' FROM main.sqlite_schema WHERE type = 'table' AND name = ?1";
    let is_collated = connection.query_row(asked, [name], |row| row.get(0))?;
    Ok(match key.len() {
        0 => Err("it has neither a primary key nor a unique index over columns that are NOT NULL".to_owned()),
        1..=KEY_COLUMNS_MAX => Ok(TableShape { name: name.to_owned(), columns, key, number, uniques, is_collated }),
        many => Err(format!("its key has {many} columns, and {KEY_COLUMNS_MAX} is the most")),
    })
}

/// The column that is the rowid itself: an `INTEGER PRIMARY KEY` for which no index stands, as one does where the table has
/// no rowid, or the key was declared `DESC`.
pub(super) fn number_column(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    let mut asked = connection.prepare_cached(
        "SELECT name, type FROM pragma_table_info(?1) WHERE pk > 0
         AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')",
    )?;
    let found = asked.query_map([table], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    found.truncate(2);
    Ok(match found.pop() {
        Some((name, declared)) if found.is_empty() && declared.eq_ignore_ascii_case("integer") => Some(name),
        _ => None,
    })
}

/// Unique indexes over whole tables and plain columns: origin, and columns with their collations. Partial ones and ones
/// over expressions are found by comparing, not by triggers.
type FoundIndex = (String, Vec<(String, String)>);

fn unique_indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<FoundIndex>> {
    let mut listed = connection
        .prepare("SELECT name, origin FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0 ORDER BY name")?;
    let found = listed.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut indexes = Vec::new();
    for index in found {
        let (name, origin) = index?;
        let mut columns =
            connection.prepare("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno")?;
        let columns = columns
            .query_map([&name], |row| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, String>(1)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let plain: Option<Vec<(String, String)>> =
            columns.into_iter().map(|(column, collation)| Some((column?, collation))).collect();
        indexes.extend(plain.map(|columns| (origin, columns)));
    }
    Ok(indexes)
}
