//! RST-13, RST-14: what replaces production was rehearsed first, or somebody says why not.

use lifeboat_model::ExitCode;

use crate::home::Home;

/// A shop whose environment is called so, with one more line of settings for it, and a backup.
fn shop(environment: &str, line: &str) -> (Home, String) {
    let home = Home::bare();
    home.write(
        "lifeboat.toml",
        format!(
            "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n[environments.{environment}]\n{line}\n\
             [environments.{environment}.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\nmay_be_empty = [\"*\"]\n"
        ),
    );
    let backup = home.backup();
    (home, backup)
}

#[test]
fn production_takes_only_a_backup_that_was_proven_itself() {
    let (home, first) = shop("production", "");
    let ran = home.run(&["restore", "db", "--yes"]).ends(ExitCode::Refused);
    ran.says(&[&first, "has not been rehearsed", &format!("lifeboat prove {first}"), "--urgent --reason"]);
    home.run(&["plan", "restore", "db"]).ends(ExitCode::Refused);
    home.run(&["restore", "db", "--into", "./beside.db"]).ends(ExitCode::Ok);
    home.run(&["prove", &first]).ends(ExitCode::Ok);
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::Ok);
    let second = home.backup();
    let other = ["restore", "db", "--yes", "--from", &second];
    home.run(&other).ends(ExitCode::Refused).says(&[&second, "has not been rehearsed"]);
}

#[test]
fn urgency_needs_a_reason_and_is_written_down() {
    let (home, _) = shop("production", "");
    home.run(&["restore", "db", "--yes", "--urgent"]).ends(ExitCode::Usage).says(&["--reason"]);
    home.run(&["restore", "db", "--yes", "--reason", "x"]).ends(ExitCode::Usage).says(&["--urgent"]);
    let ran = home.run(&["restore", "db", "--yes", "--urgent", "--reason", "the shop is down", "--json"]);
    let told = ran.ends(ExitCode::Ok).json();
    assert_eq!(told["request"]["urgent"], "the shop is down");
    home.run(&["journal", "export", told["id"].as_str().unwrap()])
        .ends(ExitCode::Ok)
        .says(&["\"urgent\":\"the shop is down\""]);
}

#[test]
fn the_settings_decide_and_without_settings_nothing_is_demanded() {
    let (home, _) = shop("production", "rehearse_first = false");
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::Ok);
    let (home, _) = shop("staging", "rehearse_first = true");
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::Refused).says(&["lifeboat prove"]);
    home.run(&["config", "show"]).ends(ExitCode::Ok).says(&["rehearse_first"]);
    let (home, _) = shop("staging", "");
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::Ok);
    let (home, _) = (Home::bare(), ());
    let words = ["sqlite:./shop.db", "--vault", "./vault", "--env", "production"];
    home.run(&[&["backup"], &words[..]].concat()).ends(ExitCode::Ok);
    home.run(&[&["restore", "--yes"], &words[..]].concat()).ends(ExitCode::Ok);
    home.write(
        "lifeboat.toml",
        "version = 1\n[app]\nname = \"a\"\n[environments.production]\nrehearse_first = \"yes\"\n",
    );
    home.run(&["config", "check"]).ends(ExitCode::Usage).says(&["must be true or false"]);
}

/// CFG-14: backup, tools, credentials, rehearsal, each with its outcome; and the exit code of the worst.
#[test]
fn preflight_says_of_each_thing_whether_it_is_there() {
    let (home, backup) = shop("production", "");
    let ran = home.run(&["preflight", "restore"]).ends(ExitCode::Refused);
    ran.says(&["ok       credentials", "ok       db backup", &backup, "ok       db tools", "ok       db restore"]);
    let told = home.run(&["preflight", "rollback", "db", "--json"]).ends(ExitCode::Refused).json();
    let findings = told["groups"][0]["findings"].as_array().unwrap();
    let of = |name: &str| findings.iter().find(|finding| finding["name"] == name).unwrap();
    assert_eq!(of("db rehearsed")["outcome"], "fail");
    assert_eq!(of("db rehearsed")["next"], format!("lifeboat prove {backup}"));
    home.run(&["prove"]).ends(ExitCode::Ok);
    let before = home.everything();
    home.run(&["preflight", "restore", "db"]).ends(ExitCode::Ok).says(&["0 unknown, 0 failed"]);
    assert!(home.everything() == before, "looking changed a file");
    let mut wrong = home.command(&["preflight", "restore"]);
    let output = wrong.env("LIFEBOAT_VAULT_PASSWORD", "another one").output().unwrap();
    let ran = home.ran(&["preflight", "restore"], output).ends(ExitCode::Refused);
    ran.says(&["failed   credentials", "unknown  db backup"]);
    let (home, _) = shop("staging", "");
    home.run(&["preflight", "restore"]).ends(ExitCode::Unknown).says(&["unknown  db rehearsed"]);
    let home = Home::shop();
    home.run(&["preflight", "restore"]).ends(ExitCode::Refused).says(&["failed   db backup", "lifeboat backup db"]);
}

/// DRL-02: a test is on record with its due date, from the program itself; nothing is tried where real users are.
#[test]
fn drl_02_a_quarterly_test_is_on_record() {
    let (home, backup) = shop("staging", "");
    let none = home.run(&["rehearse", "list", "--json"]).ends(ExitCode::ActionAdvised).json();
    assert_eq!(none["drills_due"].as_array().unwrap().len(), 0, "an app without a mirror owes none");
    let ran = home.run(&["rehearse", "sync", "restore", "--yes"]).ends(ExitCode::Ok);
    ran.says(&["[DRILL]", &backup, "shop-test.db"]);
    assert!(!home.path("shop-test.db").exists());
    let told = home.run(&["rehearse", "list", "--json"]).ends(ExitCode::ActionAdvised).json();
    assert_eq!((&told["drills"][0]["test"], &told["drills"][0]["outcome"]), (&"restore".into(), &"pass".into()));
    let due: Vec<bool> =
        told["drills_due"].as_array().unwrap().iter().map(|one| one["is_due"].as_bool().unwrap()).collect();
    assert_eq!(due, [true, true, true, false]);
    home.run(&["rehearse", "list"]).ends(ExitCode::ActionAdvised).says(&["sync restore", "Quarterly test switch"]);
    home.run(&["rehearse", "sync", "switch"]).ends(ExitCode::Usage).says(&["mirrors nothing"]);
    let (home, _) = shop("production", "");
    home.run(&["rehearse", "sync", "restore", "--yes"]).ends(ExitCode::Refused).says(&["real users", "--env staging"]);
}
