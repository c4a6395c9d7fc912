//! Whether a copy holds what the manifest says: structure, rows, digests, and no suspicious emptiness.

use std::collections::BTreeSet;

use crate::{
    check::{Check, Tri},
    manifest::SqliteFacts,
    resource::Resource,
};

/// What the settings say about tables. Names are compared as SQLite does, without regard to ASCII case.
#[derive(Clone, Copy, Debug, Default)]
pub struct TablePolicy<'a> {
    /// Tables that must be there and have rows.
    pub critical_tables: &'a [String],
    /// Tables that may be empty; `*`: any. A critical table may not be empty whatever this says.
    pub may_be_empty: &'a [String],
}

impl<'a> TablePolicy<'a> {
    /// What a resource's settings say.
    pub fn of(resource: &'a Resource) -> TablePolicy<'a> {
        TablePolicy { critical_tables: &resource.critical_tables, may_be_empty: &resource.may_be_empty }
    }

    fn lets_be_empty(&self, table: &str) -> bool {
        self.may_be_empty.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(table))
    }
}

/// Compares a copy with what was captured. Every difference names its table and the numbers. A table that could not be
/// read on either side is unknown, never equal.
pub fn compare_sqlite(expected: &SqliteFacts, found: &SqliteFacts, policy: TablePolicy) -> Vec<Check> {
    let mut checks = vec![structure(expected, found)];
    checks.extend(settings(expected, found));
    checks.extend(rows(expected, found));
    checks.extend(policy.critical_tables.iter().map(|table| critical(table, found)));
    checks.push(emptiness(found, policy));
    checks
}

/// What the settings say about tables, without anything to compare with: critical tables are there and have rows, and
/// not everything is empty.
pub fn check_policy(found: &SqliteFacts, policy: TablePolicy) -> Vec<Check> {
    let mut checks: Vec<Check> = policy.critical_tables.iter().map(|table| critical(table, found)).collect();
    checks.push(emptiness(found, policy));
    checks
}

fn structure(expected: &SqliteFacts, found: &SqliteFacts) -> Check {
    let mut differences: Vec<String> = Vec::new();
    let names =
        |facts: &SqliteFacts| -> BTreeSet<String> { facts.tables.keys().chain(facts.unread.keys()).cloned().collect() };
    let (before, now) = (names(expected), names(found));
    differences.extend(before.difference(&now).map(|table| format!("table {table} is missing")));
    differences.extend(now.difference(&before).map(|table| format!("table {table} was not there")));
    let kinds: BTreeSet<&String> = expected.objects.keys().chain(found.objects.keys()).collect();
    for kind in kinds {
        let count = |facts: &SqliteFacts| facts.objects.get(kind).copied().unwrap_or(0);
        if count(expected) != count(found) {
            differences.push(format!("{} of kind {kind} instead of {}", count(found), count(expected)));
        }
    }
    let same = expected.schema_fingerprint == found.schema_fingerprint;
    if !same && differences.is_empty() {
        differences.push("the statements of the schema differ".to_owned());
    }
    if same && differences.is_empty() {
        let objects: u64 = found.objects.values().sum();
        return Check::new(
            "structure",
            Tri::Pass,
            format!("{} tables and {objects} other objects, as captured", now.len()),
        );
    }
    Check::new("structure", Tri::Fail, few(&differences))
}

/// Numbers apps keep in the file's header, and how it writes text.
fn settings(expected: &SqliteFacts, found: &SqliteFacts) -> Vec<Check> {
    let pairs = [
        ("user_version", expected.user_version.to_string(), found.user_version.to_string()),
        ("application_id", expected.application_id.to_string(), found.application_id.to_string()),
        ("encoding", expected.encoding.clone(), found.encoding.clone()),
    ];
    let check = |(name, before, now): (&str, String, String)| match before == now {
        true => Check::new(name, Tri::Pass, now),
        false => Check::new(name, Tri::Fail, format!("{now} instead of {before}")),
    };
    pairs.into_iter().map(check).collect()
}

fn rows(expected: &SqliteFacts, found: &SqliteFacts) -> Vec<Check> {
    let unread: BTreeSet<&String> = expected.unread.keys().chain(found.unread.keys()).collect();
    let mut checks: Vec<Check> = Vec::new();
    for (table, before) in expected.tables.iter().filter(|(table, _)| !unread.contains(table)) {
        let name = format!("rows of {table}");
        checks.push(match found.tables.get(table) {
            None => Check::new(name, Tri::Fail, format!("the table is missing; it had {} rows", before.rows)),
            Some(now) if now.rows != before.rows => {
                Check::new(name, Tri::Fail, format!("{} rows instead of {}", now.rows, before.rows))
            }
            Some(now) if now.digest != before.digest => {
                Check::new(name, Tri::Fail, format!("{} rows as captured, but their content differs", now.rows))
            }
            Some(now) => Check::new(name, Tri::Pass, format!("{} rows, as captured", now.rows)),
        });
    }
    // The same file, byte for byte, holds the same rows, whether we can read them (a module we do not have) or not.
    let same = |of: fn(&SqliteFacts) -> &String| !of(expected).is_empty() && of(expected) == of(found);
    let same_file = same(|facts| &facts.sha256) || same(|facts| &facts.quick_digest);
    for table in unread {
        if same_file {
            let detail = "not readable here, but the file is the captured one, byte for byte";
            checks.push(Check::new(format!("rows of {table}"), Tri::Pass, detail));
            continue;
        }
        let reason = found.unread.get(table).or(expected.unread.get(table)).cloned().unwrap_or_default();
        checks.push(Check::new(format!("rows of {table}"), Tri::Unknown, format!("it could not be read: {reason}")));
    }
    checks
}

fn critical(table: &str, found: &SqliteFacts) -> Check {
    let name = format!("critical table {table}");
    let same = |other: &str| other.eq_ignore_ascii_case(table);
    if let Some((_, reason)) = found.unread.iter().find(|(other, _)| same(other)) {
        return Check::new(name, Tri::Unknown, format!("it could not be read: {reason}"));
    }
    match found.tables.iter().find(|(other, _)| same(other)) {
        None => Check::new(name, Tri::Fail, "it is missing"),
        Some((_, facts)) if facts.rows == 0 => Check::new(name, Tri::Fail, "it has no rows"),
        Some((_, facts)) => Check::new(name, Tri::Pass, format!("{} rows", facts.rows)),
    }
}

/// A database that opens cleanly and holds nothing is what a lost one looks like.
fn emptiness(found: &SqliteFacts, policy: TablePolicy) -> Check {
    let own = || found.tables.iter().filter(|(table, _)| !table.starts_with("sqlite_"));
    let filled = own().filter(|(_, facts)| facts.rows > 0).count();
    let all = own().count() + found.unread.len();
    let outcome = match () {
        () if filled > 0 => Tri::Pass,
        () if policy.lets_be_empty("*") => Tri::Pass,
        () if all > 0 && own().all(|(table, _)| policy.lets_be_empty(table)) && found.unread.is_empty() => Tri::Pass,
        () if !found.unread.is_empty() => Tri::Unknown,
        () => Tri::Fail,
    };
    let detail = match all {
        0 => "there is no table at all".to_owned(),
        _ => format!("{filled} of {all} tables have rows"),
    };
    Check::new("not empty", outcome, detail)
}

fn few(lines: &[String]) -> String {
    const SHOWN_MAX: usize = 8;
    let shown = lines.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("; ");
    match lines.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::TableFacts;

    fn facts(tables: &[(&str, u64, &str)]) -> SqliteFacts {
        let table = |&(name, rows, digest): &(&str, u64, &str)| {
            (name.to_owned(), TableFacts { rows, digest: digest.to_owned(), ..TableFacts::default() })
        };
        SqliteFacts { tables: tables.iter().map(table).collect(), ..SqliteFacts::default() }
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    /// The checks that do not pass, as `outcome name: detail`.
    fn complaints(expected: &SqliteFacts, found: &SqliteFacts, critical: &[&str], empty: &[&str]) -> Vec<String> {
        let (critical, empty) = (words(critical), words(empty));
        let policy = TablePolicy { critical_tables: &critical, may_be_empty: &empty };
        let bad = compare_sqlite(expected, found, policy).into_iter().filter(|check| check.outcome != Tri::Pass);
        bad.map(|check| format!("{:?} {}: {}", check.outcome, check.name, check.detail)).collect()
    }

    #[test]
    fn equal_facts_pass_and_differences_name_the_table_and_the_numbers() {
        let captured = facts(&[("orders", 600, "aa"), ("people", 3, "bb")]);
        assert_eq!(complaints(&captured, &captured, &["Orders"], &[]), Vec::<String>::new());
        let cases: &[(SqliteFacts, &[&str])] = &[
            (facts(&[("orders", 100, "cc"), ("people", 3, "bb")]), &["Fail rows of orders: 100 rows instead of 600"]),
            (
                facts(&[("orders", 600, "aa"), ("people", 3, "b0")]),
                &["Fail rows of people: 3 rows as captured, but their content differs"],
            ),
            (
                facts(&[("people", 3, "bb")]),
                &[
                    "Fail structure: table orders is missing",
                    "Fail rows of orders: the table is missing; it had 600 rows",
                    "Fail critical table Orders: it is missing",
                ],
            ),
            (
                SqliteFacts { user_version: 7, schema_fingerprint: "x".to_owned(), ..captured.clone() },
                &["Fail structure: the statements of the schema differ", "Fail user_version: 7 instead of 0"],
            ),
        ];
        for (found, wanted) in cases {
            assert_eq!(complaints(&captured, found, &["Orders"], &[]), *wanted);
        }
    }

    #[test]
    fn an_empty_database_fails_unless_it_may_be_empty() {
        let (none, empty) = (facts(&[]), facts(&[("a", 0, "00"), ("b", 0, "00"), ("sqlite_sequence", 1, "11")]));
        assert_eq!(complaints(&none, &none, &[], &[]), ["Fail not empty: there is no table at all"]);
        assert_eq!(complaints(&empty, &empty, &[], &["a"]), ["Fail not empty: 0 of 2 tables have rows"]);
        assert!(complaints(&empty, &empty, &[], &["A", "b"]).is_empty());
        assert!(complaints(&none, &none, &[], &["*"]).is_empty());
        assert_eq!(complaints(&empty, &empty, &["a"], &["*"]), ["Fail critical table a: it has no rows"]);
    }

    #[test]
    fn what_could_not_be_read_is_unknown_on_either_side() {
        let whole = facts(&[("a", 1, "aa"), ("v", 1, "bb")]);
        let mut partly = facts(&[("a", 1, "aa")]);
        partly.unread.insert("v".to_owned(), "no such module: vec0".to_owned());
        let unknown = ["Unknown rows of v: it could not be read: no such module: vec0"];
        assert_eq!(complaints(&whole, &partly, &[], &[]), unknown);
        assert_eq!(complaints(&partly, &whole, &[], &[]), unknown);
        let named = |sha256: &str| SqliteFacts { sha256: sha256.to_owned(), ..partly.clone() };
        assert_eq!(complaints(&named("aa"), &named("bb"), &[], &[]), unknown);
        assert!(complaints(&named("aa"), &named("aa"), &[], &[]).is_empty(), "the very same file holds the same rows");
    }
}
