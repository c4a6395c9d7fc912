//! The dashboard and the alert rules that come along: whatever they name is exported, and whatever must alarm has a rule.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

mod support;

use std::{collections::BTreeSet, path::Path};

use lifeboat_testkit::World;
use serde_json::Value;

use support::House;

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/monitoring").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every name of ours in a text.
fn names(text: &str) -> BTreeSet<String> {
    let part = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let words = text.split(|letter| !part(letter)).filter(|word| word.starts_with("lifeboat_"));
    words.map(str::to_owned).collect()
}

/// What is exported, histograms with all they are made of.
fn exported() -> BTreeSet<String> {
    let text = House::new(World::shop()).get("/metrics").is(200).text;
    let mut found = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let ends: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        found.extend(ends.iter().map(|end| format!("{name}{end}")));
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(found.contains(name), "{name} has no family");
    }
    found
}

#[test]
fn everything_that_the_shipped_files_name_is_exported() {
    let exported = exported();
    for file in ["grafana-dashboard.json", "prometheus-alerts.yml"] {
        let named = names(&shipped(file));
        assert!(named.len() > 10, "{file}: {named:?}");
        let missing: Vec<&String> = named.difference(&exported).collect();
        assert!(missing.is_empty(), "{file} names what nobody exports: {missing:?}");
    }
}

#[test]
fn mon_01_to_05_have_their_rules_with_the_limits_of_the_document() {
    let rules = shipped("prometheus-alerts.yml");
    for rule in [
        "expr: lifeboat_sync_pending_ops > 100\n",
        "expr: lifeboat_sync_pending_ops > 1000\n",
        "expr: lifeboat_sync_pending_ops > 10000\n",
        "expr: lifeboat_sync_dead_letters > 10\n",
        "expr: lifeboat_sync_last_success_age_seconds > 300 and lifeboat_sync_enabled == 1\n",
        "expr: absent(lifeboat_build_info)\n",
        "expr: lifeboat_sync_enabled == 0\n",
        "expr: lifeboat_schedule_late_seconds > 600\n",
        "expr: lifeboat_backup_age_seconds > 7 * 86400\n",
    ] {
        assert!(rules.contains(rule), "{rule}");
    }
    // Each rule says what it is, how bad, and what it means.
    let count = |what: &str| rules.matches(what).count();
    assert_eq!(count("- alert: "), count("severity: "));
    assert_eq!(count("- alert: "), count("summary: "));
}

#[test]
fn the_dashboard_is_one_and_its_panels_do_not_cover_each_other() {
    let board: Value = serde_json::from_str(&shipped("grafana-dashboard.json")).unwrap();
    let mut taken = BTreeSet::new();
    for panel in board["panels"].as_array().unwrap() {
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
        for x in place("x")..place("x") + place("w") {
            assert!(x < 24);
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} covers another", panel["title"]);
            }
        }
    }
}
