//! A captured database as text that needs no Lifeboat: one file for `psql`, or one CSV file a table. No server takes part;
//! rows are digested as they pass, and a table whose digest is not the manifest's is an error.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
};

use lifeboat_model::{PostgresFacts, TableFacts, postgres::PgTableFacts};

use super::{
    PgError, RowDigest, Sources,
    archive::{SchemaEntry, Section},
    catalog::copy_target,
    schedule::{is_grant, is_last},
    sql::literal,
    subset::{Catalog, Subset, load_order, title_of},
};
use crate::stop::Stop;

/// A captured database that is written out.
pub struct Plain<'a> {
    /// What was captured.
    pub facts: &'a PostgresFacts,
    /// Its definitions, one by one.
    pub entries: &'a [SchemaEntry],
    /// Its definitions before the rows, as SQL.
    pub pre_data: &'a str,
    /// Its definitions after the rows, as SQL.
    pub post_data: &'a str,
    /// Which of its tables; all, when none.
    pub subset: Option<&'a Subset>,
    /// What it is and where it comes from, one line; for people.
    pub title: &'a str,
}

/// What a look at the migrated database before rows go in needs to say, and what happens around them.
const HINT: &str = "rows go into a migrated, empty database; empty the table, or restore schema and data together";

impl Plain<'_> {
    fn takes(&self, title: &str) -> bool {
        self.subset.is_none_or(|subset| subset.tables.contains(title))
    }

    fn tables(&self) -> impl Iterator<Item = (&String, &PgTableFacts)> {
        self.facts.tables.iter().filter(|(title, _)| self.takes(title))
    }

    fn chosen_entries(&self) -> Vec<&SchemaEntry> {
        match self.subset {
            Some(subset) => subset.entries.iter().map(|at| &self.entries[*at]).collect(),
            None => self.entries.iter().collect(),
        }
    }

    fn bytes(&self) -> u64 {
        self.tables().flat_map(|(_, table)| &table.parts).map(|part| part.bytes).sum()
    }
}

/// Writes all of it as one file: definitions, rows, large objects, sequences, and what is built on rows.
/// `psql -v ON_ERROR_STOP=1 -1` loads it into an empty database.
///
/// # Errors
/// [`PgError::Damaged`] when rows are not those of the manifest; [`PgError::Ours`] when it cannot be read or written.
pub fn write_sql(
    what: &Plain<'_>,
    sources: &dyn Sources,
    into: &mut dyn Write,
    stop: &Stop,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<(), PgError> {
    let mut out = Out { into, sources, stop, progress, done: 0, total: what.bytes() };
    let (head, _, _) = parts_of(what.pre_data);
    out.line(&format!("-- {}", one_line(what.title)))?;
    out.line("-- Into an empty database: psql -v ON_ERROR_STOP=1 -1 -f THIS-FILE -d DATABASE")?;
    match what.subset {
        None => {
            let (_, body, _) = parts_of(what.pre_data);
            out.text(head)?;
            out.text(body)?;
        }
        Some(_) => {
            out.text(head)?;
            let before = |entry: &&&SchemaEntry| entry.section == Section::PreData && !is_grant(entry);
            what.chosen_entries().iter().filter(before).try_for_each(|entry| out.entry(entry))?;
        }
    }
    out.line(ROW_SETTINGS)?;
    what.tables().try_for_each(|(title, table)| out.rows(title, table))?;
    if what.subset.is_none() {
        out.large_objects(what.facts)?;
    }
    let sequences =
        what.facts.sequences.keys().filter(|title| what.subset.is_none_or(|one| one.sequences.contains(*title)));
    out.sequences(what.facts, sequences)?;
    match what.subset {
        None => {
            let (head, body, _) = parts_of(what.post_data);
            out.text(&settings_of(head))?;
            out.text(body)?;
        }
        Some(_) => {
            let entries = what.chosen_entries();
            let after =
                |entry: &&&SchemaEntry| entry.section == Section::PostData && !is_grant(entry) && !is_last(entry);
            entries.iter().filter(after).try_for_each(|entry| out.entry(entry))?;
            entries.iter().filter(|entry| is_grant(entry)).try_for_each(|entry| out.entry(entry))?;
            entries.iter().filter(|entry| is_last(entry)).try_for_each(|entry| out.entry(entry))?;
        }
    }
    out.line(COMPLETE)
}

/// Writes rows, large objects and sequences alone: for a database that the app's migrations have made and nobody has
/// written to. What migration tools keep there about themselves stays out.
///
/// # Errors
/// As [`write_sql`].
pub fn write_data_sql(
    what: &Plain<'_>,
    sources: &dyn Sources,
    into: &mut dyn Write,
    stop: &Stop,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<(), PgError> {
    let catalog = Catalog::new(what.entries);
    let (ledgers, own_sequences) = ledgers(&catalog, what.facts);
    let tables: BTreeSet<String> =
        what.tables().map(|(title, _)| title.clone()).filter(|title| !ledgers.contains(title)).collect();
    let (order, circular) = load_order(&catalog, &tables);
    let mut out = Out { into, sources, stop, progress, done: 0, total: what.bytes() };
    out.line(&format!("-- {}", one_line(what.title)))?;
    out.line("-- Rows alone. Into a database that the app's migrations have made, and that is empty otherwise:")?;
    out.line("-- psql -v ON_ERROR_STOP=1 -1 -f THIS-FILE -d DATABASE")?;
    if !ledgers.is_empty() {
        let left_out: Vec<&str> = ledgers.iter().map(String::as_str).collect();
        out.line(&format!("-- Left to the migrations: {}", one_line(&left_out.join(", "))))?;
    }
    out.line("-- PostgreSQL database dump\n")?;
    out.line(ROW_SETTINGS)?;
    out.line(&quiet(&order, &circular))?;
    order.iter().try_for_each(|title| out.rows(title, &what.facts.tables[title]))?;
    if what.subset.is_none() {
        out.large_objects(what.facts)?;
    }
    let meant = |title: &&String| {
        !own_sequences.contains(*title) && what.subset.is_none_or(|one| one.sequences.contains(*title))
    };
    out.sequences(what.facts, what.facts.sequences.keys().filter(meant))?;
    out.line(LOUD)?;
    let views = what.chosen_entries().into_iter().filter(|entry| entry.kind == "MATERIALIZED VIEW DATA").map(title_of);
    for view in views {
        let (name, refresh) = (literal(&view), literal(&format!("REFRESH MATERIALIZED VIEW {view}")));
        out.line(&format!(
            "DO $lifeboat$ BEGIN IF pg_catalog.to_regclass({name}) IS NOT NULL THEN EXECUTE {refresh}; END IF; END $lifeboat$;"
        ))?;
    }
    out.line(COMPLETE)
}

/// Tables in which migration tools keep what they have run, and the sequences that number them. A tool's second table,
/// such as Knex' lock, begins with the name of the first.
fn ledgers(catalog: &Catalog<'_>, facts: &PostgresFacts) -> (BTreeSet<String>, BTreeSet<String>) {
    let is_one =
        |title: &&String| facts.migrations.keys().any(|ledger| *title == ledger || **title == format!("{ledger}_lock"));
    let tables: BTreeSet<String> = facts.tables.keys().filter(is_one).cloned().collect();
    let numbers =
        catalog.entries.iter().filter(|entry| matches!(entry.kind.as_str(), "SEQUENCE OWNED BY" | "SEQUENCE"));
    let of_ledger = numbers.filter(|entry| {
        catalog
            .tables_needed(entry)
            .iter()
            .filter_map(|id| catalog.get(*id))
            .any(|table| tables.contains(&title_of(table)))
    });
    let sequences = of_ledger.map(title_of).collect();
    (tables, sequences)
}

const ROW_SETTINGS: &str = "\
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET row_security = off;
SET xmloption = content;
SET client_min_messages = warning;
SELECT pg_catalog.set_config('search_path', '', false);
";
const COMPLETE: &str = "\n--\n-- PostgreSQL database dump complete\n--\n";

/// Statements in front of rows that go where tables are already: nothing is in them, the app's triggers are off, and
/// foreign keys in a circle wait for the end.
fn quiet(tables: &[String], circular: &BTreeSet<String>) -> String {
    let list = |names: &mut dyn Iterator<Item = &String>| {
        let names: Vec<String> = names.map(|name| literal(name)).collect();
        format!("ARRAY[{}]::pg_catalog.text[]", names.join(", "))
    };
    let (all, circle) = (list(&mut tables.iter()), list(&mut circular.iter()));
    let hint = literal(HINT);
    format!(
        "DO $lifeboat$ DECLARE one text; has_rows bool; BEGIN
  FOREACH one IN ARRAY {all} LOOP
    EXECUTE 'SELECT EXISTS (SELECT 1 FROM ONLY ' || one || ')' INTO has_rows;
    IF has_rows THEN RAISE EXCEPTION 'there are rows in % already', one USING HINT = {hint}; END IF;
  END LOOP;
END $lifeboat$;
-- Triggers of the app stay off meanwhile, and are as they were afterwards.
CREATE TEMP TABLE lifeboat_triggers AS SELECT tgrelid::pg_catalog.regclass::text AS relation, tgname AS name, tgenabled AS state
  FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'
   AND tgrelid IN (SELECT pg_catalog.unnest({all})::pg_catalog.regclass);
-- Foreign keys that go round in a circle wait for the end of the transaction.
CREATE TEMP TABLE lifeboat_keys AS SELECT conrelid::pg_catalog.regclass::text AS relation, conname AS name,
       CASE WHEN NOT condeferrable THEN 'NOT DEFERRABLE' WHEN condeferred THEN 'DEFERRABLE INITIALLY DEFERRED'
            ELSE 'DEFERRABLE INITIALLY IMMEDIATE' END AS state
  FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conparentid = 0
   AND conrelid IN (SELECT pg_catalog.unnest({circle})::pg_catalog.regclass);
DO $lifeboat$ DECLARE one record; BEGIN
  FOR one IN SELECT * FROM lifeboat_triggers LOOP
    EXECUTE pg_catalog.format('ALTER TABLE %s DISABLE TRIGGER %I', one.relation, one.name);
  END LOOP;
  FOR one IN SELECT * FROM lifeboat_keys LOOP
    EXECUTE pg_catalog.format('ALTER TABLE %s ALTER CONSTRAINT %I DEFERRABLE INITIALLY DEFERRED', one.relation, one.name);
  END LOOP;
END $lifeboat$;
"
    )
}

const LOUD: &str = "
SET CONSTRAINTS ALL IMMEDIATE;
DO $lifeboat$ DECLARE one record; BEGIN
  FOR one IN SELECT * FROM lifeboat_keys LOOP
    EXECUTE pg_catalog.format('ALTER TABLE %s ALTER CONSTRAINT %I %s', one.relation, one.name, one.state);
  END LOOP;
  FOR one IN SELECT * FROM lifeboat_triggers LOOP
    EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE %s TRIGGER %I', one.relation,
                              CASE one.state WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' ELSE '' END, one.name);
  END LOOP;
END $lifeboat$;
DROP TABLE lifeboat_triggers, lifeboat_keys;
";

/// Where sequences stand, as a file of its own for `psql`.
pub fn sequences_sql(facts: &PostgresFacts) -> String {
    let line = |(title, at): (&String, &lifeboat_model::postgres::SequenceFacts)| {
        format!("SELECT pg_catalog.setval({}, {}, {});\n", literal(title), at.last_value, at.is_called)
    };
    facts.sequences.iter().map(line).collect()
}

/// Writes a table as CSV with a header, as PostgreSQL writes it and reads it: NULL is nothing, an empty text is `""`.
///
/// # Errors
/// As [`write_sql`].
pub fn write_csv(
    title: &str,
    table: &PgTableFacts,
    sources: &dyn Sources,
    into: &mut dyn Write,
    stop: &Stop,
    progress: &dyn Fn(u64),
) -> Result<TableFacts, PgError> {
    let failed = |source| PgError::Ours { doing: format!("write {title}"), source };
    let mut csv = Vec::new();
    for (at, column) in table.columns.iter().enumerate() {
        csv.extend_from_slice(if at > 0 { b"," } else { b"" });
        field(unquoted(column).as_bytes(), &mut csv);
    }
    csv.extend_from_slice(b"\r\n");
    into.write_all(&csv).map_err(failed)?;
    let (mut open, mut done) = (Vec::new(), 0);
    pass(title, table, sources, stop, &mut |bytes| {
        csv.clear();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if open.is_empty() {
                csv_row(&rest[..end], &mut csv);
            } else {
                open.extend_from_slice(&rest[..end]);
                csv_row(&open, &mut csv);
                open.clear();
            }
            rest = &rest[end + 1..];
        }
        open.extend_from_slice(rest);
        done += bytes.len() as u64;
        progress(done);
        into.write_all(&csv)
    })
}

/// A row in COPY's text format as CSV.
fn csv_row(row: &[u8], csv: &mut Vec<u8>) {
    let mut plain = Vec::new();
    for (at, text) in row.split(|byte| *byte == b'\t').enumerate() {
        if at > 0 {
            csv.push(b',');
        }
        if text != b"\\N" {
            plain.clear();
            unescaped(text, &mut plain);
            field(&plain, csv);
        }
    }
    csv.extend_from_slice(b"\r\n");
}

/// COPY writes these seven with a backslash and nothing else.
fn unescaped(text: &[u8], plain: &mut Vec<u8>) {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match (byte, if *byte == b'\\' { bytes.next() } else { None }) {
            (_, Some(b'b')) => plain.push(8),
            (_, Some(b'f')) => plain.push(12),
            (_, Some(b'n')) => plain.push(b'\n'),
            (_, Some(b'r')) => plain.push(b'\r'),
            (_, Some(b't')) => plain.push(b'\t'),
            (_, Some(b'v')) => plain.push(11),
            (_, Some(other)) => plain.push(*other),
            (byte, None) => plain.push(*byte),
        }
    }
}

fn field(plain: &[u8], csv: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\r' | b'\n');
    let edge = plain.first() == Some(&b' ') || plain.last() == Some(&b' ');
    if !plain.is_empty() && plain != b"\\." && !edge && !plain.iter().any(special) {
        return csv.extend_from_slice(plain);
    }
    csv.push(b'"');
    for byte in plain {
        csv.extend_from_slice(if *byte == b'"' { b"\"\"" } else { std::slice::from_ref(byte) });
    }
    csv.push(b'"');
}

/// A column's own name: the manifest has it in quotes where SQL needs them.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

/// Hands over all rows of a table, and compares them with the manifest.
fn pass(
    title: &str,
    table: &PgTableFacts,
    sources: &dyn Sources,
    stop: &Stop,
    each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<TableFacts, PgError> {
    let parts = table.parts.iter().map(|part| part.path.as_str());
    pass_parts(parts, sources, stop, each).and_then(|found| same(title, found, &table.rows))
}

fn same(title: &str, found: TableFacts, wanted: &TableFacts) -> Result<TableFacts, PgError> {
    if found.rows == wanted.rows && found.digest == wanted.digest {
        return Ok(found);
    }
    let (rows, expected) = (found.rows, wanted.rows);
    let found = match rows == expected {
        true => format!("its {rows} rows are not those that were captured"),
        false => format!("it holds {rows} rows, and {expected} were captured"),
    };
    Err(PgError::Damaged { what: format!("the backup of {title}"), found })
}

fn pass_parts<'a>(
    paths: impl Iterator<Item = &'a str>,
    sources: &dyn Sources,
    stop: &Stop,
    each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<TableFacts, PgError> {
    let mut digest = RowDigest::default();
    let mut piece = vec![0; 256 << 10];
    for path in paths {
        let failed = |source| PgError::Ours { doing: format!("read {path}"), source };
        let mut source = sources.open(path).map_err(failed)?;
        loop {
            stop.check()?;
            let read = match source.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            digest.take(&piece[..read]);
            each(&piece[..read]).map_err(|source| PgError::Ours { doing: format!("write {path}"), source })?;
        }
        if !digest.is_whole() {
            return Err(PgError::Damaged { what: path.to_owned(), found: "its last row has no end".into() });
        }
    }
    Ok(digest.facts())
}

/// Where it is written to.
struct Out<'a> {
    into: &'a mut dyn Write,
    sources: &'a dyn Sources,
    stop: &'a Stop,
    progress: &'a dyn Fn(u64, Option<u64>),
    done: u64,
    total: u64,
}

impl Out<'_> {
    fn text(&mut self, text: &str) -> Result<(), PgError> {
        self.into.write_all(text.as_bytes()).map_err(|source| PgError::Ours { doing: "write the file".into(), source })
    }

    fn line(&mut self, text: &str) -> Result<(), PgError> {
        self.text(text)?;
        self.text("\n")
    }

    /// A definition with its heading, as `pg_dump` writes it.
    fn entry(&mut self, entry: &SchemaEntry) -> Result<(), PgError> {
        // Every new database has that schema.
        if entry.kind == "SCHEMA" && entry.tag == "public" {
            return Ok(());
        }
        let owner = if entry.owner.is_empty() { "-" } else { &entry.owner };
        let (tag, schema) = (one_line(&entry.tag), if entry.schema.is_empty() { "-" } else { &entry.schema });
        let heading = format!(
            "\n--\n-- Name: {tag}; Type: {}; Schema: {}; Owner: {}\n--\n",
            entry.kind,
            one_line(schema),
            one_line(owner)
        );
        self.line(&heading)?;
        if entry.kind == "TABLE" || entry.kind == "INDEX" || entry.kind == "CONSTRAINT" {
            self.line(&format!("SET default_tablespace = {};", literal(&entry.tablespace)))?;
        }
        if !entry.access_method.is_empty() {
            self.line(&format!("SET default_table_access_method = {};", literal(&entry.access_method)))?;
        }
        self.line(&entry.sql)?;
        self.line(&entry.owner_sql)
    }

    fn rows(&mut self, title: &str, table: &PgTableFacts) -> Result<(), PgError> {
        self.line(&format!("\n--\n-- Data for {}: {} rows\n--\n", one_line(title), table.rows.rows))?;
        self.line(&format!("COPY {} FROM stdin;", copy_target(title, &table.columns)))?;
        let Out { into, sources, stop, progress, done, total } = self;
        pass(title, table, *sources, stop, &mut |bytes| {
            *done += bytes.len() as u64;
            progress(*done, Some(*total));
            into.write_all(bytes)
        })?;
        self.line("\\.\n")
    }

    fn large_objects(&mut self, facts: &PostgresFacts) -> Result<(), PgError> {
        let Some(objects) = &facts.large_objects else { return Ok(()) };
        let (made, dressed): (Vec<&String>, Vec<&String>) =
            objects.statements.iter().partition(|line| line.starts_with("SELECT "));
        self.line(&format!("\n--\n-- {} large objects\n--\n", objects.objects))?;
        made.iter().try_for_each(|line| self.line(&format!("{line};")))?;
        self.line("CREATE TEMP TABLE lifeboat_objects (object oid, place bigint, bytes bytea);")?;
        self.line("COPY lifeboat_objects (object, place, bytes) FROM stdin;")?;
        let into = &mut *self.into;
        let path = std::iter::once(objects.part.path.as_str());
        let found = pass_parts(path, self.sources, self.stop, &mut |bytes| into.write_all(bytes))?;
        same("the large objects", found, &objects.rows)?;
        self.line("\\.\n")?;
        self.line("SELECT pg_catalog.count(pg_catalog.lo_put(object, place, bytes)) FROM lifeboat_objects;")?;
        self.line("DROP TABLE lifeboat_objects;")?;
        dressed.iter().try_for_each(|line| self.line(&format!("{line};")))
    }

    fn sequences<'s>(
        &mut self,
        facts: &PostgresFacts,
        titles: impl Iterator<Item = &'s String>,
    ) -> Result<(), PgError> {
        self.line("\n--\n-- Where sequences stand\n--\n")?;
        for title in titles {
            let at = &facts.sequences[title];
            self.line(&format!("SELECT pg_catalog.setval({}, {}, {});", literal(title), at.last_value, at.is_called))?;
        }
        Ok(())
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A file of a section: what stands before its first definition, the definitions, and the words at its end.
fn parts_of(text: &str) -> (&str, &str, &str) {
    let first = text.find("\n--\n-- Name: ").unwrap_or(text.len());
    let last = text.rfind("\n--\n-- PostgreSQL database dump complete\n").unwrap_or(text.len()).max(first);
    let first = first.min(last);
    (&text[..first], &text[first..last], &text[last..])
}

/// The settings of a section's beginning, without the words that a file begins with.
fn settings_of(head: &str) -> String {
    head.lines().filter(|line| !line.starts_with("--") && !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_07_null_empty_text_quotes_and_line_feeds_are_kept_apart() {
        for (row, csv) in [
            ("1\t\\N\t", "1,,\"\""),
            ("a,b\tit\"s", "\"a,b\",\"it\"\"s\""),
            ("one\\ntwo\\r\tx\\\\y", "\"one\ntwo\r\",x\\y"),
            ("\\\\x00ff\t\\\\.\t\\\\N", "\\x00ff,\"\\.\",\\N"),
            (" a\tb ", "\" a\",\"b \""),
            ("\\N", ""),
            ("\\b\\f\\v\\t", "\u{8}\u{c}\u{b}\t"),
        ] {
            let mut out = Vec::new();
            csv_row(row.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{csv}\r\n"));
        }
        assert_eq!([unquoted("id"), unquoted("\"x \"\"y\"\"\"")], ["id", "x \"y\""]);
    }
}
