//! `lifeboat journal`.

use lifeboat_model::ExitCode;

use crate::home::Home;

fn journal(home: &Home) -> std::path::PathBuf {
    std::fs::read_dir(home.journals()).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn a_journal_is_shown_verified_and_exported() {
    let (home, _) = Home::protected();
    home.run(&["journal", "show"]).ends(ExitCode::Ok).says(&["opened by tester", "store begins", "closed: done"]);
    home.run(&["journal", "verify"]).ends(ExitCode::Ok).says(&["good", "1 journal looked at"]);
    let exported = home.run(&["journal", "export"]).ends(ExitCode::Ok).out;
    assert_eq!(exported, std::fs::read_to_string(journal(&home)).unwrap());
    let told = home.run(&["journal", "show", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(told["entries"].as_array().unwrap().len(), exported.lines().count());
}

/// AUD-01: edit one line, and it shows.
#[test]
fn an_edited_line_is_found() {
    let (home, _) = Home::protected();
    let path = journal(&home);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"by\":\"tester\"", "\"by\":\"nobody\"", 1)).unwrap();
    let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
    home.run(&["journal", "verify"]).ends(ExitCode::Damaged).says(&[&id, "DAMAGED"]);
    home.run(&["journal", "verify", &id]).ends(ExitCode::Damaged);
    home.run(&["journal", "export", &id]).ends(ExitCode::Damaged);
    home.run(&["status"]).ends(ExitCode::Ok).says(&["Damaged", "Next: lifeboat journal verify"]);
}
