//! `lifeboat status`.

use lifeboat_model::ExitCode;

use crate::home::Home;

#[test]
fn without_a_backup_something_needs_attention() {
    let home = Home::shop();
    home.run(&["status"]).ends(ExitCode::Ok).says(&[
        "NOT PROTECTED",
        "there is no good backup",
        "Next: lifeboat backup",
    ]);
    home.run(&["status", "--exit-code"]).ends(ExitCode::ActionAdvised);
}

#[test]
fn a_backup_without_a_proof_is_not_known_to_be_good() {
    let (home, _) = Home::protected();
    home.run(&["status", "--exit-code"]).ends(ExitCode::ActionAdvised).says(&["not proven", "Next: lifeboat prove"]);
}

#[test]
fn with_a_proof_all_is_well() {
    let (home, id) = Home::protected();
    home.run(&["prove"]).ends(ExitCode::Ok);
    let ran = home.run(&["status", "--exit-code"]).ends(ExitCode::Ok);
    insta::assert_snapshot!(ran.masked(), @r#"
    shop/local #-#-# #:#:# UTC

    All is well.

    db sqlite ~/app/shop.db protected
    Backup b-ID, N s old, complete up to #-#-# #:#:# UTC, N KiB
    Proof good of b-ID, N s ago, up to "usable"
    Restore N s (1 run); nineteen of twenty within N s

    Vault ~/app/vault

    Next: lifeboat restore db --dry-run
    "#);
    let told = home.run(&["status", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!((&told["schema"], &told["good"]), (&"lifeboat/status@1".into(), &"pass".into()));
    assert_eq!(told["resources"][0]["newest"]["id"], id.as_str());
    assert!(told["resources"][0]["restore"]["samples"].as_u64().unwrap() >= 1);
}

#[test]
fn colour_is_only_beside_words_and_only_when_it_is_wanted() {
    let home = Home::shop();
    let plain = home.run(&["status"]).out;
    assert!(!plain.contains('\u{1b}'));
    let coloured = home.run(&["status", "--color", "always"]).out;
    assert!(coloured.contains('\u{1b}') && coloured.contains("NOT PROTECTED"));
}
