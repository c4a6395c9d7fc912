//! `lifeboat undo` and `lifeboat release`.

use lifeboat_model::ExitCode;

use crate::home::Home;

fn restored() -> (Home, String) {
    let (home, _) = Home::protected();
    home.sell(7);
    let told = home.run(&["restore", "db", "--confirm", "shop/local", "--json"]).ends(ExitCode::Ok).json();
    let operation = told["id"].as_str().unwrap().to_owned();
    (home, operation)
}

/// RST-28.
#[test]
fn an_undo_brings_the_former_database_back_and_can_be_undone() {
    let (home, operation) = restored();
    home.run(&["undo"]).ends(ExitCode::NeedsPerson).says(&[&operation, "hint: lifeboat undo --yes"]);
    home.run(&["undo", "--dry-run"]).ends(ExitCode::Ok).says(&["Nothing was changed."]);
    assert_eq!(home.orders(), 40);
    home.run(&["undo", "--yes"]).ends(ExitCode::Ok).says(&["Take it back: lifeboat undo o-"]);
    assert_eq!(home.orders(), 47);
    // This time seven orders leave the live database again.
    home.run(&["undo", "--yes"]).ends(ExitCode::NeedsPerson).says(&["7 leave", "--confirm shop/local"]);
    home.run(&["undo", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    assert_eq!(home.orders(), 40);
}

#[test]
fn what_was_kept_is_deleted_only_by_name() {
    let (home, operation) = restored();
    let kept = || {
        let names = std::fs::read_dir(home.app()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains("REPLACED")).count()
    };
    home.run(&["release", &operation, "--yes"]).ends(ExitCode::NeedsPerson).says(&["for good", "--confirm shop/local"]);
    assert_eq!(kept(), 1);
    home.run(&["release", &operation, "--confirm", "shop/local"]).ends(ExitCode::Ok);
    assert_eq!(kept(), 0);
    home.run(&["undo", &operation, "--yes"]).ends(ExitCode::Refused);
    assert_eq!(home.orders(), 40);
}

#[test]
fn with_nothing_to_undo_it_says_so() {
    let (home, _) = Home::protected();
    home.run(&["undo"]).ends(ExitCode::Refused).says(&["nothing in shop/local can be undone", "lifeboat history"]);
}
