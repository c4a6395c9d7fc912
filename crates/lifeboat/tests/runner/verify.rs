//! `lifeboat verify`.

use lifeboat_model::ExitCode;

use crate::home::Home;

#[test]
fn a_sound_database_is_good_and_stays_as_it_is() {
    let home = Home::shop();
    let before = std::fs::read(home.path("shop.db")).unwrap();
    home.run(&["verify"]).ends(ExitCode::Ok).says(&["good", "integrity", "foreign keys"]);
    assert_eq!(std::fs::read(home.path("shop.db")).unwrap(), before);
    let told = home.run(&["verify", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!((told["schema"].as_str(), told["outcome"].as_str()), (Some("lifeboat/verified@1"), Some("pass")));
}

#[test]
fn vfy_16_an_orphan_is_found_although_the_file_is_sound() {
    let home = Home::shop();
    let db = rusqlite::Connection::open(home.path("shop.db")).unwrap();
    db.execute_batch(
        "PRAGMA foreign_keys = off;
         CREATE TABLE parents (id INTEGER PRIMARY KEY); CREATE TABLE children (parent INTEGER REFERENCES parents);
         INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1), (7);",
    )
    .unwrap();
    drop(db);
    home.run(&["verify"]).ends(ExitCode::Damaged).says(&["foreign keys", "children"]);
}

#[test]
fn a_file_that_is_no_database_is_not_good() {
    let home = Home::shop();
    std::fs::write(home.path("shop.db"), "<html>not found</html>").unwrap();
    home.run(&["verify"]).ends(ExitCode::Damaged).says(&["not a SQLite database"]);
}
