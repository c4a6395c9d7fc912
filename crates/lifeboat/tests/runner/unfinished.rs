//! `lifeboat resume` and `lifeboat abort`, after the program was killed in the middle.

use lifeboat_model::ExitCode;

use crate::home::Home;

/// A restore whose process died after this many lines of its journal.
fn killed_after(line: &str) -> Home {
    let (home, _) = Home::protected();
    home.sell(7);
    let args = ["restore", "db", "--confirm", "shop/local"];
    let mut command = home.command(&args);
    let output = command.env("LIFEBOAT_FAILPOINT", format!("journal:{line}")).output().unwrap();
    assert_eq!(output.status.code(), None, "it was to be killed: {}", String::from_utf8_lossy(&output.stderr));
    home
}

#[test]
fn an_interrupted_restore_is_named_continued_and_done() {
    let home = killed_after("12");
    home.run(&["status"]).ends(ExitCode::Ok).says(&["Not over", "Next: lifeboat resume"]);
    home.run(&["restore", "db", "--confirm", "shop/local"]).ends(ExitCode::Busy).says(&["lifeboat resume o-"]);
    home.run(&["resume", "--dry-run"]).ends(ExitCode::Ok).says(&["It would go on with", "Nothing was changed."]);
    home.run(&["resume"]).ends(ExitCode::Ok).says(&["Done: restore db"]);
    assert_eq!(home.orders(), 40);
    home.run(&["resume"]).ends(ExitCode::Refused).says(&["nothing in shop/local is waiting"]);
}

#[test]
fn an_interrupted_restore_is_put_back() {
    let home = killed_after("12");
    home.run(&["abort", "--dry-run"]).ends(ExitCode::Ok).says(&["would be taken back"]);
    home.run(&["abort"]).ends(ExitCode::Ok).says(&["Everything was put back"]);
    assert_eq!(home.orders(), 47);
}

#[test]
fn a_damaged_lease_is_reported_and_the_next_operation_makes_it_anew() {
    let (home, _) = Home::protected();
    home.write("state/lifeboat/shop/leases/shop.local", [b'?'; 8192]);
    home.run(&["doctor"]).ends(ExitCode::Refused).says(&["leases/shop.local is damaged", "a number from the journals"]);
    home.run(&["backup"]).ends(ExitCode::Ok).says(&["could not be read; it goes on from the journals, with epoch 2"]);
    let told = home.run(&["doctor"]);
    assert!(!told.out.contains("is damaged"), "{}", told.out);
}
