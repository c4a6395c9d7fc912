//! `lifeboat prove`.

use lifeboat_model::ExitCode;

use crate::{backups::damage, home::Home};

#[test]
fn a_good_backup_is_proven_up_to_usable() {
    let (home, id) = Home::protected();
    let before = std::fs::read(home.path("shop.db")).unwrap();
    home.run(&["prove"]).ends(ExitCode::Ok).says(&["Proven: db", "up to \"usable\""]);
    assert_eq!(std::fs::read(home.path("shop.db")).unwrap(), before);
    let told = home.run(&["prove", &id, "--json"]).ends(ExitCode::Ok).json();
    let checks = told["proofs"][0]["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check[1]["name"] == "a damaged copy fails" && check[1]["outcome"] == "pass"));
    home.run(&["backups", "list"]).ends(ExitCode::Ok).says(&["proven"]);
}

#[test]
fn a_damaged_backup_does_not_pass() {
    let (home, id) = Home::protected();
    damage(&home);
    home.run(&["prove"]).ends(ExitCode::Damaged).says(&["Not good: db", &id]);
    home.run(&["status", "--exit-code"]).ends(ExitCode::ActionAdvised).says(&["did not pass"]);
}

#[test]
fn without_a_backup_there_is_nothing_to_prove() {
    Home::shop().run(&["prove"]).ends(ExitCode::Refused).says(&["lifeboat backup"]);
}
