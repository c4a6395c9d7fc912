//! What differs between two backups, told from their manifests alone.

use std::collections::BTreeSet;

use lifeboat_model::{Content, EnvFacts, ExitCode, FilesFacts, Manifest, PostgresFacts, SqliteFacts};
use serde::Serialize;
use serde_json::json;

use super::{App, Session};
use crate::{error::Done, ui::words};

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which resource.
    pub resource: String,
    /// What of it: a table, the schema, the files.
    pub what: String,
    /// How it differs, in a few words.
    pub how: String,
    /// Rows or files in the first one, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// Rows or files in the other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right: Option<u64>,
}

pub fn run(app: &App, session: &Session, left: &str, right: &str) -> Done {
    let (left, right) = (session.engine.find_backup(left)?, session.engine.find_backup(right)?);
    let differences = compare(&session.engine.manifest(&left.id)?, &session.engine.manifest(&right.id)?);
    if app.ui.json.is_some() {
        let fields = json!({ "left": left.id, "right": right.id, "differences": differences });
        app.ui.document("lifeboat/backup-diff@1", fields)?;
        return Ok(ExitCode::Ok);
    }
    let mut text = format!(
        "{} ({}) and {} ({})\n",
        left.id,
        words::short_instant(left.recovery_point),
        right.id,
        words::short_instant(right.recovery_point)
    );
    if differences.is_empty() {
        text += "  hold the same: every table, file and variable has the same digest.\n";
    }
    for difference in &differences {
        text += &format!(
            "  {} {}: {}\n",
            difference.resource,
            words::one_line(&difference.what),
            words::one_line(&difference.how)
        );
    }
    app.ui.out(&text)?;
    Ok(ExitCode::Ok)
}

/// What differs between what two backups hold.
pub fn compare(left: &Manifest, right: &Manifest) -> Vec<Difference> {
    let names: BTreeSet<_> = left.resources.iter().chain(&right.resources).map(|part| &part.name).collect();
    let mut all = Vec::new();
    for name in names {
        let mut add = |what: &str, how: String, counts: Option<(u64, u64)>| {
            all.push(Difference {
                resource: name.to_string(),
                what: what.to_owned(),
                how,
                left: counts.map(|(left, _)| left),
                right: counts.map(|(_, right)| right),
            });
        };
        match (left.resource(name), right.resource(name)) {
            (Some(_), None) => add("resource", "only in the first".to_owned(), None),
            (None, _) => add("resource", "only in the second".to_owned(), None),
            (Some(left), Some(right)) => match (&left.content, &right.content) {
                (Content::Sqlite(left), Content::Sqlite(right)) => sqlite(left, right, &mut add),
                (Content::Files(left), Content::Files(right)) => files(left, right, &mut add),
                (Content::Env(left), Content::Env(right)) => env(left, right, &mut add),
                (Content::Postgres(left), Content::Postgres(right)) => postgres(left, right, &mut add),
                (Content::Sqlite(_) | Content::Files(_) | Content::Env(_) | Content::Postgres(_), _) => {
                    add("kind", "of another kind".to_owned(), None);
                }
            },
        }
    }
    all
}

type Add<'a> = &'a mut dyn FnMut(&str, String, Option<(u64, u64)>);

fn postgres(left: &PostgresFacts, right: &PostgresFacts, add: Add<'_>) {
    for kind in left.fingerprint.keys().chain(right.fingerprint.keys()).collect::<BTreeSet<_>>() {
        if left.fingerprint.get(kind) != right.fingerprint.get(kind) {
            add(kind, "definitions differ".to_owned(), None);
        }
    }
    for table in left.tables.keys().chain(right.tables.keys()).collect::<BTreeSet<_>>() {
        match (left.tables.get(table), right.tables.get(table)) {
            (Some(one), Some(other)) if one.rows == other.rows => {}
            (Some(one), Some(other)) => add(table, "rows differ".to_owned(), Some((one.rows.rows, other.rows.rows))),
            (Some(one), None) => add(table, "only in the first".to_owned(), Some((one.rows.rows, 0))),
            (None, Some(other)) => add(table, "only in the second".to_owned(), Some((0, other.rows.rows))),
            (None, None) => {}
        }
    }
}

fn sqlite(left: &SqliteFacts, right: &SqliteFacts, add: Add<'_>) {
    if left.schema_fingerprint != right.schema_fingerprint {
        add("schema", "differs".to_owned(), None);
    }
    if left.user_version != right.user_version {
        add("user_version", format!("{} and {}", left.user_version, right.user_version), None);
    }
    let tables: BTreeSet<&String> = left.tables.keys().chain(right.tables.keys()).collect();
    for table in tables {
        let what = format!("table {table}");
        match (left.tables.get(table), right.tables.get(table)) {
            (Some(one), Some(other)) if one.rows != other.rows => {
                let change = i128::from(other.rows) - i128::from(one.rows);
                add(&what, format!("{} and {} rows ({change:+})", one.rows, other.rows), Some((one.rows, other.rows)));
            }
            (Some(one), Some(other)) if one.digest != other.digest => {
                let rows = words::count(one.rows, "row", "rows");
                add(&what, format!("{rows} in both, with other contents"), Some((one.rows, other.rows)));
            }
            (Some(_), Some(_)) | (None, None) => {}
            (Some(one), None) => {
                add(&what, format!("only in the first, {}", words::count(one.rows, "row", "rows")), None)
            }
            (None, Some(other)) => {
                add(&what, format!("only in the second, {}", words::count(other.rows, "row", "rows")), None)
            }
        }
    }
    let unread: BTreeSet<&String> = left.unread.keys().chain(right.unread.keys()).collect();
    for table in unread {
        add(&format!("table {table}"), "not known: it could not be read in one of them".to_owned(), None);
    }
}

fn files(left: &FilesFacts, right: &FilesFacts, add: Add<'_>) {
    if left.digest != right.digest {
        add(
            "files",
            format!("{} and {} files, with other contents", left.files, right.files),
            Some((left.files, right.files)),
        );
    }
}

/// Names only; values are nobody's business here.
fn env(left: &EnvFacts, right: &EnvFacts, add: Add<'_>) {
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (left.names.iter().collect(), right.names.iter().collect());
    one.difference(&other).for_each(|name| add(&format!("variable {name}"), "only in the first".to_owned(), None));
    other.difference(&one).for_each(|name| add(&format!("variable {name}"), "only in the second".to_owned(), None));
    if left.digest != right.digest && one == other {
        add("variables", "the same names, with other values or another order".to_owned(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_model::TableFacts;

    #[test]
    fn tables_differ_by_rows_then_by_digest() {
        let facts = |tables: &[(&str, u64, &str)]| {
            let table = |&(name, rows, digest): &(&str, u64, &str)| {
                (name.to_owned(), TableFacts { rows, digest: digest.to_owned(), newest: Default::default() })
            };
            SqliteFacts { tables: tables.iter().map(table).collect(), ..SqliteFacts::default() }
        };
        let left = facts(&[("same", 1, "a"), ("grown", 1, "a"), ("changed", 2, "a"), ("gone", 3, "a")]);
        let right = facts(&[("same", 1, "a"), ("grown", 4, "b"), ("changed", 2, "b"), ("new\n", 0, "")]);
        let mut found = Vec::new();
        sqlite(&left, &right, &mut |what, how, _| found.push(format!("{what}: {how}")));
        let expected = [
            "table changed: 2 rows in both, with other contents",
            "table gone: only in the first, 3 rows",
            "table grown: 1 and 4 rows (+3)",
            "table new\n: only in the second, 0 rows",
        ];
        assert_eq!(found, expected);
    }
}
