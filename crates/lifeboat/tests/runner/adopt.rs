//! `lifeboat backups adopt`.

use lifeboat_model::ExitCode;

use crate::home::Home;

/// BKP-29, BKP-13, C-23.
#[test]
fn a_file_that_a_script_made_becomes_a_backup() {
    let home = Home::shop();
    for (name, at) in [
        ("database.sqlite.backup.20251104", "2025-11-04T00:00:00Z"),
        ("database-pre-change-20251104-143000.sqlite", "2025-11-04T14:30:00Z"),
        ("emergency_20251105_143000.db", "2025-11-05T14:30:00Z"),
    ] {
        std::fs::copy(home.path("shop.db"), home.path(name)).unwrap();
        let before = std::fs::read(home.path(name)).unwrap();
        home.run(&["backups", "adopt", name, "--for", "db"]).ends(ExitCode::Ok).says(&["is left alone"]);
        assert_eq!(std::fs::read(home.path(name)).unwrap(), before);
        let list = home.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
        let all = list["backups"].as_array().unwrap();
        let adopted = all.iter().find(|one| one["label"] == format!("adopted: {name}")).unwrap();
        assert_eq!((adopted["recovery_point"].as_str(), adopted["reason"].as_str()), (Some(at), Some("adopted")));
    }
    // It is a backup like every other: chosen by its time, proven, restored under the database's own name.
    home.sell(5);
    home.run(&["prove"]).ends(ExitCode::Ok);
    home.run(&["restore", "db", "--before", "2025-11-05", "--yes", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    assert_eq!(home.orders(), 40);
}

#[test]
fn the_time_is_what_is_said_else_what_the_file_says() {
    let home = Home::shop();
    std::fs::copy(home.path("shop.db"), home.path("old.db")).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    std::fs::File::options().write(true).open(home.path("old.db")).unwrap().set_modified(time).unwrap();
    home.run(&["backups", "adopt", "old.db", "--for", "db", "--label", "mine"])
        .ends(ExitCode::Ok)
        .says(&["last changed"]);
    home.run(&["backups", "adopt", "old.db", "--for", "db", "--at", "2024-05-01 10:00"]).ends(ExitCode::Ok);
    let list = home.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    let points: Vec<_> = list["backups"].as_array().unwrap().iter().map(|one| one["recovery_point"].clone()).collect();
    assert_eq!(points, ["2024-05-01T10:00:00Z", "2023-11-14T22:13:20Z"]);
    home.run(&["undo", "--dry-run"]).ends(ExitCode::Refused); // an adopted backup goes by its name only, as every backup
}

#[test]
fn what_cannot_be_adopted_is_refused_and_nothing_is_in_the_vault() {
    let home = Home::shop();
    std::fs::copy(home.path("shop.db"), home.path("damaged-20251104.db")).unwrap();
    lifeboat_io::database::sqlite::damage_copy(&home.path("damaged-20251104.db"), 0).unwrap();
    home.write(
        "no-20251104.db",
        "this is no database, although it is long enough to be asked whether it is one, isn't it?",
    );
    home.write("empty-20251104.db", "");
    std::fs::copy(home.path("shop.db"), home.path("later-21000101.db")).unwrap();
    let adopt = |name: &str| home.run(&["backups", "adopt", name, "--for", "db"]);
    adopt("damaged-20251104.db").ends(ExitCode::FailedUndone).says(&["not sound"]);
    adopt("no-20251104.db").ends(ExitCode::Refused).says(&["cannot be adopted"]);
    adopt("empty-20251104.db").ends(ExitCode::Refused);
    adopt("missing-20251104.db").ends(ExitCode::Refused).says(&["there is no"]);
    adopt("later-21000101.db").ends(ExitCode::Refused).says(&["yet to come", "--at"]);
    home.run(&["backups", "adopt", "later-21000101.db"]).ends(ExitCode::Usage).says(&["--for"]);
    home.run(&["backups", "adopt", "later-21000101.db", "--for", "nothing"]).ends(ExitCode::Usage);
    let list = home.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(list["backups"].as_array().unwrap().len(), 0);
}
