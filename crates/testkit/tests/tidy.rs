//! Applies the rules of the house to the whole tree. What each rule refuses is proven beside it, in `src/tidy/`.

use lifeboat_testkit::tidy::{self, SourceFile, documents, manifests, sources};

/// Loads the tree and fails with every complaint of the rule.
#[track_caller]
fn check(rule: fn(&[SourceFile]) -> Vec<String>) {
    let tree = tidy::load(&tidy::workspace_root()).unwrap_or_else(|complaint| panic!("{complaint}"));
    assert!(tree.iter().any(|file| file.path == "crates/testkit/tests/tidy.rs"), "this is not the tree");
    let complaints = rule(&tree);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn crates_know_only_lower_floors() {
    check(manifests::arrows);
}

#[test]
fn heavy_dependencies_are_at_home() {
    check(manifests::heavy_dependencies);
}

#[test]
fn versions_and_lints_are_chosen_at_the_root() {
    check(manifests::shared_choices);
}

#[test]
fn every_shared_dependency_is_used() {
    check(manifests::unused_dependencies);
}

#[test]
fn only_the_wiring_names_concrete_doors() {
    check(sources::concrete_doors);
}

#[test]
fn files_are_short() {
    check(sources::file_sizes);
}

#[test]
fn no_file_is_forgotten() {
    check(sources::forgotten_files);
}

#[test]
fn nothing_is_left_for_later() {
    check(sources::unfinished);
}

#[test]
fn crates_begin_with_what_they_are_for() {
    check(sources::first_lines);
}

#[test]
fn no_file_names_one_machine() {
    check(documents::machine_paths);
}

#[test]
fn exit_codes_are_documented() {
    check(documents::exit_codes);
}

#[test]
fn the_code_map_mentions_every_crate() {
    check(documents::code_map);
}

#[test]
fn every_scenario_names_its_test() {
    check(documents::scenarios);
}

#[test]
fn every_invariant_names_its_test() {
    check(documents::invariants);
}
