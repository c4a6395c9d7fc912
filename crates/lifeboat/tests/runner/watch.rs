//! `lifeboat watch`.

use lifeboat_model::ExitCode;

use crate::home::Home;

#[test]
fn a_finished_operation_is_told_from_its_journal() {
    let (home, _) = Home::protected();
    let ran = home.run(&["watch"]).ends(ExitCode::Ok).says(&["Operation o-", "capture", "done,", "Done: back up db"]);
    assert!(ran.err.contains("store as b-"), "the steps are talk, not data: {}", ran.err);
}

#[test]
fn a_running_operation_is_followed_to_its_end() {
    let (home, _) = Home::protected();
    home.sell(2000);
    let backup = home.command(&["backup", "--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let journals = || std::fs::read_dir(home.journals()).map_or(0, Iterator::count);
    while journals() < 2 {
        std::thread::yield_now();
    }
    let ran = home.run(&["watch", "--json=lines"]).ends(ExitCode::Ok);
    let backup = home.ran(&["backup"], backup.wait_with_output().unwrap()).ends(ExitCode::Ok).json();
    assert!(ran.out.lines().last().unwrap().contains("\"event\":\"closed\""), "{}", ran.out);
    assert!(ran.out.contains(backup["id"].as_str().unwrap()));
}
