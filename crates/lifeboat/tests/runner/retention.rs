//! `lifeboat retention`.

use lifeboat_model::ExitCode;

use crate::home::Home;

#[test]
fn each_backup_says_why_it_stays() {
    let (home, id) = Home::protected();
    home.run(&["retention", "plan"]).ends(ExitCode::Ok).says(&[&format!("{id} of "), "stays: "]);
    home.run(&["retention", "apply"]).ends(ExitCode::Ok).says(&["There is nothing to do."]);
}

/// RET-08: a dry run lists and deletes nothing; the real run is recorded, and can be taken back.
#[test]
fn what_may_go_goes_only_when_somebody_agrees() {
    let (home, first) = Home::protected();
    let mut settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    settings += "[keep]\nwithin = \"0s\"\nlast = 1\ndaily = 0\nweekly = 0\nmonthly = 0\nproven = 1\n";
    home.write("lifeboat.toml", settings);
    let second = home.backup();
    home.run(&["prove"]).ends(ExitCode::Ok);
    let count = || home.run(&["backups", "list", "--json"]).json()["backups"].as_array().unwrap().len();
    let dry = home.run(&["retention", "apply", "--dry-run"]).ends(ExitCode::Ok);
    dry.says(&[&format!("{first} of "), "goes: ", &format!("{second} of "), "Nothing was changed."]);
    home.run(&["retention", "apply"]).ends(ExitCode::NeedsPerson).says(&["hint: lifeboat retention apply --yes"]);
    assert_eq!(count(), 2);
    home.run(&["retention", "apply", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(count(), 1);
    home.run(&["undo", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(count(), 2);
}
