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

/// What was predicted stands beside what it took, and how good former predictions were; a guess is called one.
#[test]
fn obj_06_a_proof_tests_the_predictions_made_before_it() {
    let (home, _id) = Home::protected();
    let prove = || home.run(&["prove", "--json"]).ends(ExitCode::Ok).json()["proofs"][0].clone();
    let proofs: Vec<serde_json::Value> = (0..4).map(|_| prove()).collect();
    let runs: Vec<_> = proofs.iter().map(|proof| proof["restore_expected"]["samples"].as_u64().unwrap()).collect();
    assert_eq!(runs, [0, 1, 2, 3]);
    assert_eq!(
        proofs[1]["restore_expected"]["back_test"],
        serde_json::Value::Null,
        "nothing was predicted from runs yet"
    );
    // The third was told how well the second was predicted: as the lower one of what had been measured by then, the first.
    let (first, second) = (proofs[0]["restore_ms"].as_u64().unwrap(), proofs[1]["restore_ms"].as_u64().unwrap());
    let off = first.abs_diff(second) * 100 / first.max(1);
    let told = &proofs[2]["restore_expected"]["back_test"];
    assert_eq!((told["runs"].as_u64(), told["off_percent"].as_u64()), (Some(1), Some(off)));
    assert_eq!(told["close"].as_u64(), Some(u64::from(off <= 25)));
    home.run(&["prove"]).ends(ExitCode::Ok).says(&[
        "restore was predicted to take",
        "(4 runs, half within",
        "of 3 predictions before,",
        "came within a quarter",
    ]);
    // A restore also keeps what is there, and no backup but one has shown yet how long that takes.
    home.run(&["status"]).ends(ExitCode::Ok).says(&["(1 run)"]);
    (0..3).for_each(|_| drop(home.backup()));
    home.run(&["status"]).says(&["(4 runs, half within"]);
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
