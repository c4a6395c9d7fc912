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

#[test]
fn what_a_backup_does_not_ask_a_proof_does() {
    let home = Home::shop();
    // Read in place while it is stored: SQLite itself has not looked at it yet.
    home.db()
        .execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA foreign_keys = OFF;
             CREATE TABLE parents (id INTEGER PRIMARY KEY); INSERT INTO parents VALUES (1);
             CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents);
             INSERT INTO children VALUES (7, 99)",
        )
        .unwrap();
    home.backup();
    let proof = home.run(&["prove"]);
    assert_ne!(proof.code, Some(0), "{}", proof.out);
    proof.says(&["row 7 of children refers to a missing row of parents"]);
    let verified = home.run(&["verify", "db"]);
    assert_ne!(verified.code, Some(0), "{}", verified.out);
    verified.says(&["row 7 of children refers to a missing row of parents"]);
}
