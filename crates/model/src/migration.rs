//! Migrations: the scripts that lead a database from one schema to the next and back, and which of them were applied.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where the migrations of a database lie, and how long one may wait or run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrations {
    /// The folder of scripts.
    pub folder: std::path::PathBuf,
    /// How long a statement waits for a lock before it gives up and everything is taken back, in milliseconds.
    pub lock_timeout_ms: u64,
    /// How long a statement may run, in milliseconds.
    pub statement_timeout_ms: u64,
}

/// Where a tool notes what it has applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Its schema.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// The column with the version.
    pub column: String,
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// A script, by its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// SHA-256 of the text, hex.
    pub digest: String,
    /// The text.
    pub text: String,
}

impl Script {
    /// A script of this text.
    pub fn new(text: impl Into<String>) -> Script {
        let text = text.into();
        Script { digest: hex::encode(Sha256::digest(&text)), text }
    }
}

/// One migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// What the ledger calls it.
    pub version: String,
    /// What people call it: the name of its file.
    pub name: String,
    /// SHA-256 of the script that applies it, hex. Its text comes with the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<String>,
    /// The script that takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Script>,
}

/// How far a set of migrations can be taken back, as a rehearsal has measured it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reversibility {
    /// Up and down again, every definition and every row is as before.
    DownLossless,
    /// The definitions are as before, and rows are not.
    Lossy,
    /// A script is missing, fails, or leads elsewhere than to where it came from.
    OneWay,
}

impl Reversibility {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Reversibility::DownLossless => "down-lossless",
            Reversibility::Lossy => "lossy",
            Reversibility::OneWay => "one-way",
        }
    }
}

/// A migration that is about to be applied, with its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The migration.
    pub migration: Migration,
    /// What applies it.
    pub up: Script,
}

/// A database's schema as its ledger tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaState {
    /// Where that stands.
    pub ledger: Ledger,
    /// What was applied, oldest first.
    pub applied: Vec<String>,
    /// The scripts that were there.
    pub migrations: Vec<Migration>,
}

/// Puts the files of a folder together: what applies a migration and what takes it back, in the order of their versions.
/// `is_sequelize`: the ledger holds whole file names.
///
/// These names are understood, where VERSION is what comes before the first `_` or `-`:
/// `VERSION_what.sql` with `VERSION_what_DOWN.sql` or `VERSION_what.down.sql`; `VERSION_what.up.sql`; and one file with
/// `-- migrate:up` and `-- migrate:down`. Files in a folder `down` below are DOWN scripts as well (`down/VERSION_what.sql`).
pub fn pair(files: &[(String, String)], whole_names: bool) -> Vec<Migration> {
    let mut found: Vec<Migration> = Vec::new();
    for (path, text) in files {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(stem) = file.strip_suffix(".sql") else { continue };
        let lower = stem.to_ascii_lowercase();
        let cut = |end: &str| lower.ends_with(end).then(|| &stem[..stem.len() - end.len()]);
        let down_name = cut("_down").or_else(|| cut(".down")).or_else(|| (folder == "down").then_some(stem));
        let name = down_name.or_else(|| cut("_up")).or_else(|| cut(".up")).unwrap_or(stem);
        let version = match whole_names {
            true => format!("{name}.sql"),
            false => name.split(['_', '-', '.']).next().unwrap_or(name).to_owned(),
        };
        let at = found.iter().position(|one| one.version == version).unwrap_or_else(|| {
            found.push(Migration { version, name: name.to_owned(), up: None, down: None });
            found.len() - 1
        });
        let one = &mut found[at];
        if down_name.is_some() {
            one.down = Some(Script::new(text.clone()));
            continue;
        }
        let (up, down) = match text.split_once("-- migrate:down") {
            Some((up, down)) => (up, Some(down).filter(|down| !down.trim().is_empty())),
            None => (text.as_str(), None),
        };
        one.up = Some(Script::new(up).digest);
        if let (Some(down), None) = (down, &one.down) {
            one.down = Some(Script::new(down));
        }
    }
    found.sort_by(|left, right| left.version.cmp(&right.version));
    found
}

/// The migrations of these files that are in none of the lists, with their texts, oldest first.
pub fn pending(files: &[(String, String)], whole_names: bool, applied: &[String]) -> Vec<Pending> {
    let missing = pair(files, whole_names).into_iter().filter(|one| !applied.contains(&one.version));
    let with_text = missing.filter_map(|migration| {
        let digest = migration.up.as_ref()?;
        let ups = files.iter().map(|(_, text)| Script::new(text.split("-- migrate:down").next().unwrap_or_default()));
        let up = ups.into_iter().find(|script| script.digest == *digest)?;
        Some(Pending { migration, up })
    });
    with_text.collect()
}

/// What was applied beyond what is wanted, newest first; in what order it was applied is what counts.
pub fn beyond(applied: &[String], wanted: &[String]) -> Vec<String> {
    applied.iter().rev().filter(|version| !wanted.contains(version)).cloned().collect()
}

/// Why a script cannot be run inside a transaction of ours, when it cannot: it ends or begins one itself, or says something
/// that works in none.
pub fn outside_transaction(text: &str) -> Option<String> {
    statements(text).into_iter().find_map(|statement| {
        let mut words = statement.split_whitespace().map(str::to_ascii_lowercase);
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let first = first.trim_end_matches(';');
        let alone = matches!(first, "begin" | "commit" | "rollback" | "vacuum" | "end" | "abort")
            || (first == "start" && second.starts_with("transaction"));
        let concurrently = matches!(first, "create" | "drop" | "reindex" | "refresh")
            && statement.to_ascii_lowercase().split_whitespace().any(|word| word == "concurrently");
        let database = matches!(first, "create" | "drop" | "alter")
            && matches!(second.as_str(), "database" | "tablespace")
            || (first == "alter" && second == "system");
        (alone || concurrently || database).then(|| {
            let shown: String = statement.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
            format!("`{shown}` does not run inside of a transaction")
        })
    })
}

/// The tables that a DOWN script drops, as it writes them: what is in them leaves.
pub fn drops(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in statements(text) {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let lower: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
        let (Some("drop"), Some("table")) = (lower.first().map(String::as_str), lower.get(1).map(String::as_str))
        else {
            continue;
        };
        let skip = if lower.get(2).map(String::as_str) == Some("if") { 4 } else { 2 };
        let rest = words.get(skip..).unwrap_or_default().join(" ");
        let ends = [" cascade", " restrict"];
        let lower = rest.to_ascii_lowercase();
        let end = ends.iter().filter_map(|end| lower.rfind(end)).min().unwrap_or(rest.len());
        found.extend(rest[..end].split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
    }
    found
}

/// The columns that a DOWN script drops, as it writes them: the table, and the column. What is in them leaves.
pub fn drops_columns(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for statement in statements(text) {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let lower: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
        let is = |at: usize, word: &str| lower.get(at).is_some_and(|found| found == word);
        if !is(0, "alter") || !is(1, "table") {
            continue;
        }
        let mut at = if is(2, "if") { 4 } else { 2 };
        at += usize::from(is(at, "only"));
        let Some(table) = words.get(at) else { continue };
        // Each part of it stands behind a comma; one inside of brackets begins no part.
        for part in words[at + 1..].join(" ").split(',') {
            let words: Vec<&str> = part.split_whitespace().collect();
            let is = |at: usize, word: &str| words.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word));
            let other = ["constraint", "default", "not", "identity", "expression"];
            if !is(0, "drop") || other.iter().any(|word| is(1, word)) {
                continue;
            }
            let at = 1 + usize::from(is(1, "column"));
            let at = if is(at, "if") { at + 2 } else { at };
            found.extend(words.get(at).map(|column| ((*table).to_owned(), (*column).to_owned())));
        }
    }
    found
}

/// The statements of a script: cut at semicolons that stand in no quotes, comments or dollar quotes. Comments go.
fn statements(text: &str) -> Vec<String> {
    let (mut found, mut now, mut rest) = (Vec::new(), String::new(), text);
    let mut take = |now: &mut String| {
        if !now.trim().is_empty() {
            found.push(now.trim().to_owned());
        }
        now.clear();
    };
    while let Some(letter) = rest.chars().next() {
        if rest.starts_with("--") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
            now.push(' ');
            continue;
        }
        let quoted = match letter {
            '\'' | '"' => rest[1..].find(letter).map_or(rest.len(), |end| end + 2),
            '$' => dollar_quoted(rest),
            _ => 0,
        };
        if quoted > 0 {
            now += &rest[..quoted];
            rest = &rest[quoted..];
            continue;
        }
        match letter {
            ';' => take(&mut now),
            other => now.push(other),
        }
        rest = &rest[letter.len_utf8()..];
    }
    take(&mut now);
    found
}

/// How long a text in dollar quotes is that begins here; 0 when none does.
fn dollar_quoted(text: &str) -> usize {
    let Some(end) = text[1..].find('$') else { return 0 };
    let tag = &text[..end + 2];
    if !tag[1..tag.len() - 1].chars().all(|letter| letter.is_alphanumeric() || letter == '_') {
        return 0;
    }
    text[tag.len()..].find(tag).map_or(text.len(), |at| at + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(files: &[(&str, &str)]) -> Vec<(String, bool, Option<String>)> {
        let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let pairs = pair(&files, false).into_iter();
        pairs.map(|one| (one.version, one.up.is_some(), one.down.map(|down| down.text.trim().to_owned()))).collect()
    }

    #[test]
    fn scripts_are_paired_by_the_names_that_tools_give_them() {
        let wanted = vec![("1".to_owned(), true, Some("drop".to_owned())), ("2".to_owned(), true, None)];
        for files in [
            [("2_b.sql", "u"), ("1_a.sql", "up"), ("1_a_DOWN.sql", "drop")],
            [("1_a.up.sql", "up"), ("1_a.down.sql", "drop"), ("2_b.up.sql", "u")],
            [("1_a.sql", "up"), ("down/1_a.sql", "drop"), ("2_b.sql", "u")],
            [("1_a.sql", "-- migrate:up\nup\n-- migrate:down\ndrop\n"), ("2_b.sql", "x"), ("README.md", "")],
        ] {
            assert_eq!(paired(&files), wanted, "{files:?}");
        }
    }

    #[test]
    fn what_was_applied_beyond_comes_newest_first() {
        let all = ["1", "3", "2", "4"].map(str::to_owned);
        assert_eq!(beyond(&all, &all[..1]), ["4", "2", "3"]);
        assert!(beyond(&all, &all).is_empty());
    }

    #[test]
    fn a_script_that_ends_our_transaction_is_told() {
        for text in
            ["BEGIN; DROP TABLE a; COMMIT", "/* x */ vacuum a", "drop index concurrently a", "CREATE DATABASE x"]
        {
            assert!(outside_transaction(text).is_some(), "{text}");
        }
        let inside = "-- commit\nDO $x$ BEGIN PERFORM 1; END $x$; SELECT 'a;commit'; DROP TABLE \"commit\"; CREATE FUNCTION f() \
                      RETURNS int LANGUAGE sql AS $$ SELECT 1; $$;";
        assert_eq!(outside_transaction(inside), None);
    }

    #[test]
    fn tables_that_a_script_drops_are_found() {
        let text = "-- DROP TABLE no;\nDROP TABLE IF EXISTS a, public.\"b c\" CASCADE; drop table d; DROP VIEW v; SELECT 'DROP TABLE e'";
        assert_eq!(drops(text), ["a", "public.\"b c\"", "d"]);
    }

    #[test]
    fn columns_that_a_script_drops_are_found() {
        let text = "ALTER TABLE IF EXISTS ONLY public.a DROP COLUMN IF EXISTS b CASCADE, DROP c, ADD COLUMN d numeric(4, 2), ALTER e DROP DEFAULT;
                    alter table f drop constraint g; ALTER TABLE h RENAME TO i; -- ALTER TABLE no DROP COLUMN no
                    DROP TABLE j";
        let found: Vec<String> =
            drops_columns(text).into_iter().map(|(table, column)| format!("{table}.{column}")).collect();
        assert_eq!(found, ["public.a.b", "public.a.c"]);
    }
}
