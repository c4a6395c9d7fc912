//! The definitions of a database, cut into the statements they are made of.
//!
//! Cutting SQL text by looking at it can be fooled: a function's body may hold anything, even what looks like the next
//! heading. So nothing is guessed. `pg_dump` writes an archive, whose table of contents has each definition, word for
//! word, with its dependencies; `pg_restore` makes text of it, with owners; and each piece of that text is found by
//! skipping a definition that is already known.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::PgError;

/// Which part of a restore an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// Before the rows: schemas, types, tables, functions, views.
    PreData,
    /// The rows.
    Data,
    /// After the rows: indexes, constraints, triggers, policies.
    PostData,
}

/// One definition, as SQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaEntry {
    /// Its number in the archive.
    pub id: i64,
    /// Its kind in `pg_dump`'s words: `TABLE`, `INDEX`, `FK CONSTRAINT`, `ACL`, ...
    pub kind: String,
    /// Its name in `pg_dump`'s words; a table's constraint is `table constraint`.
    pub tag: String,
    /// The schema it is in; empty when in none.
    pub schema: String,
    /// Its owner; empty when it has none.
    pub owner: String,
    /// Its section.
    pub section: Section,
    /// The tablespace it is made in; empty for the default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tablespace: String,
    /// The access method of a table that has not the usual one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub access_method: String,
    /// The numbers of the entries it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<i64>,
    /// The statements that make it.
    pub sql: String,
    /// The statements that give it to its owner.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner_sql: String,
}

/// The table of contents of an archive that `pg_dump --format=custom` wrote.
///
/// # Errors
/// [`PgError::Damaged`] when it is no archive, or of a version we do not know.
pub fn read_contents(archive: &[u8]) -> Result<Vec<SchemaEntry>, PgError> {
    let mut reader = Reader { rest: archive, version: (0, 0, 0), int_bytes: 4, offset_bytes: 8 };
    reader.contents().ok_or_else(|| PgError::Damaged {
        what: "the archive of definitions".into(),
        found: match reader.version {
            (0, 0, 0) => "it does not begin as pg_dump's archives do".into(),
            (major, minor, _) => format!("its table of contents (version {major}.{minor}) ends too early"),
        },
    })
}

/// Reads what a file of a section says about each entry: `sql` and `owner_sql` are filled in. Entries of other
/// sections, and those without a statement, are left out.
///
/// # Errors
/// [`PgError::Damaged`] when the text is not the archive's.
pub fn cut_section(contents: &[SchemaEntry], section: Section, text: &str) -> Result<Vec<SchemaEntry>, PgError> {
    let mine = |entry: &&SchemaEntry| entry.section == section && is_printed(entry);
    let mut cut: Vec<SchemaEntry> = Vec::new();
    // Where the last definition ends: everything up to the next heading belongs to it.
    let mut at = 0;
    let mut printed: Vec<&SchemaEntry> = contents.iter().filter(mine).collect();
    printed.sort_by_key(|entry| pass_of(entry));
    for entry in printed {
        let heading = heading_of(entry);
        let found = text[at..].find(&heading).map(|from| at + from).ok_or_else(|| missing(entry))?;
        if let Some(last) = cut.last_mut() {
            last.owner_sql = without_settings(&text[at..found]);
        }
        let after =
            text[found + 1..].find("\n--\n\n").map(|from| found + 1 + from + 5).ok_or_else(|| missing(entry))?;
        // The heading's own second line is a comment too: skip to its end, which is `--` on a line.
        if !text[after..].starts_with(&entry.sql) {
            return Err(missing(entry));
        }
        at = after + entry.sql.len();
        cut.push(entry.clone());
    }
    if let Some(last) = cut.last_mut() {
        last.owner_sql = without_settings(&text[at..]);
    }
    Ok(cut)
}

/// Entries that say something about the archive, and those that only `--create` prints, have no text.
fn is_printed(entry: &SchemaEntry) -> bool {
    let kind = entry.kind.as_str();
    let of_database = matches!(kind, "ACL" | "COMMENT" | "SECURITY LABEL") && entry.tag.starts_with("DATABASE ");
    !matches!(kind, "ENCODING" | "STDSTRINGS" | "SEARCHPATH" | "DATABASE" | "DATABASE PROPERTIES") && !of_database
}

/// Grants come after all else, and after them what must see them: `pg_backup_archiver.c`, `_tocEntryRestorePass`.
fn pass_of(entry: &SchemaEntry) -> u8 {
    match entry.kind.as_str() {
        "ACL" | "ACL LANGUAGE" | "DEFAULT ACL" => 1,
        "EVENT TRIGGER" | "MATERIALIZED VIEW DATA" => 2,
        "COMMENT" | "SECURITY LABEL" if entry.tag.starts_with("EVENT TRIGGER ") => 2,
        _ => 0,
    }
}

fn missing(entry: &SchemaEntry) -> PgError {
    let found = format!("the text has no {} {} where the table of contents has it", entry.kind, entry.tag);
    PgError::Damaged { what: "the file of definitions".into(), found }
}

/// `pg_restore` writes this above each entry; schema and owner follow.
fn heading_of(entry: &SchemaEntry) -> String {
    format!("\n--\n-- Name: {}; Type: {}; Schema: ", entry.tag.replace(['\n', '\r'], " "), entry.kind)
}

/// What stands between two entries, without the settings of the next one and the lines that only `psql` understands.
fn without_settings(text: &str) -> String {
    let ours = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("--") && !line.starts_with('\\') && !line.starts_with("SET default_")
    };
    text.lines().filter(ours).collect::<Vec<_>>().join("\n")
}

/// Takes an entry out of a file of definitions, with its heading.
pub(super) fn without(text: &str, entry: &SchemaEntry) -> String {
    let heading = heading_of(entry);
    let Some(from) = text.find(&heading) else { return text.to_owned() };
    match text[from..].find(&entry.sql) {
        Some(sql) => format!("{}{}", &text[..from], &text[from + sql + entry.sql.len()..]),
        None => text.to_owned(),
    }
}

/// Takes out of a file of definitions what an older `psql` or server stumbles over: `\restrict` lines, which only the
/// newest `psql` knows, and settings that the server does not have. Both stand outside of the entries only: before the
/// first heading, and after the last statement.
pub fn portable(text: &str) -> String {
    let first = text.find("\n--\n-- Name: ").unwrap_or(text.len());
    let last = text.rfind("\n--\n-- PostgreSQL database dump complete\n").unwrap_or(text.len()).max(first);
    let (head, middle, tail) = (&text[..first], &text[first..last], &text[last..]);
    let keep = |line: &&str| {
        let restricted = line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
        !restricted && !line.starts_with("SET transaction_timeout")
    };
    let clean = |part: &str| part.split('\n').filter(keep).collect::<Vec<_>>().join("\n");
    format!("{}{middle}{}", clean(head), clean(tail))
}

/// Reads an archive from a file.
///
/// # Errors
/// As [`read_contents`]; [`PgError::Ours`] when the file cannot be read.
pub fn read_archive(path: &Path) -> Result<Vec<SchemaEntry>, PgError> {
    let bytes = fs::read(path).map_err(|source| PgError::Ours { doing: format!("read {}", path.display()), source })?;
    read_contents(&bytes)
}

/// The archive's own alphabet: `pg_backup_archiver.c`, `ReadHead` and `ReadToc`.
struct Reader<'a> {
    rest: &'a [u8],
    version: (u8, u8, u8),
    int_bytes: usize,
    offset_bytes: usize,
}

impl Reader<'_> {
    fn contents(&mut self) -> Option<Vec<SchemaEntry>> {
        self.rest = self.rest.strip_prefix(b"PGDMP")?;
        self.version = (self.byte()?, self.byte()?, self.byte()?);
        // 1.12 is what PostgreSQL 9.0 to 10 wrote; 1.16 is of 17 and 18.
        if self.version.0 != 1 || self.version.1 < 12 {
            return None;
        }
        self.int_bytes = self.byte()?.into();
        self.offset_bytes = self.byte()?.into();
        let _format = self.byte()?;
        if self.version.1 >= 15 {
            let _compression = self.byte()?;
        } else {
            let _compression = self.int()?;
        }
        for _date_part in 0..7 {
            self.int()?;
        }
        for _database_server_client in 0..3 {
            self.string()?;
        }
        let count = self.int()?;
        let mut current = Section::PreData;
        (0..count).map(|_| self.entry(&mut current)).collect()
    }

    fn entry(&mut self, current: &mut Section) -> Option<SchemaEntry> {
        let id = self.int()?;
        let _has_data = self.int()?;
        let (_catalog, _oid) = (self.string()?, self.string()?);
        let (tag, kind) = (self.text()?, self.text()?);
        match self.int()? {
            2 => *current = Section::PreData,
            3 => *current = Section::Data,
            4 => *current = Section::PostData,
            _ => {} // grants and comments belong to what stands before them
        }
        let section = *current;
        let sql = self.text()?;
        let (_drop, _copy) = (self.string()?, self.string()?);
        let (schema, tablespace) = (self.text()?, self.text()?);
        let access_method = if self.version.1 >= 14 { self.text()? } else { String::new() };
        if self.version.1 >= 16 {
            let _relation_kind = self.int()?;
        }
        let owner = self.text()?;
        let _with_oids = self.string()?;
        let mut needs = Vec::new();
        while let Some(other) = self.string()? {
            needs.push(other.parse().ok()?);
        }
        self.skip(1 + self.offset_bytes)?;
        let owner_sql = String::new();
        Some(SchemaEntry { id, kind, tag, schema, owner, section, tablespace, access_method, needs, sql, owner_sql })
    }

    fn skip(&mut self, bytes: usize) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.skip(1).map(|bytes| bytes[0])
    }

    fn int(&mut self) -> Option<i64> {
        let negative = self.byte()? != 0;
        let bytes = self.int_bytes;
        let value = self.skip(bytes)?.iter().rev().fold(0_i64, |value, byte| value << 8 | i64::from(*byte));
        Some(if negative { -value } else { value })
    }

    /// A string, or none where the archive has none.
    fn string(&mut self) -> Option<Option<String>> {
        match usize::try_from(self.int()?) {
            Err(_) => Some(None),
            Ok(length) => Some(Some(String::from_utf8_lossy(self.skip(length)?).into_owned())),
        }
    }

    fn text(&mut self) -> Option<String> {
        self.string().map(Option::unwrap_or_default)
    }
}
