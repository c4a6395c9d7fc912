//! Files without a manifest, the file beside the database, and what a backup says about what was deployed.

use lifeboat_model::ExitCode;

use crate::home::Home;

#[test]
fn bkp_29_files_without_a_manifest_are_listed_and_can_be_adopted() {
    let (home, _backup) = Home::protected();
    home.db().execute("VACUUM INTO ?1", [home.path("shop-pre-change-20251104-143000.db").to_str().unwrap()]).unwrap();
    std::fs::create_dir(home.path("backups")).unwrap();
    home.write("backups/cloud_backup_20251104_143000.sql", "CREATE TABLE a (b);\n");
    home.write("notes-20251104.txt", "no backup");
    home.write("shop.db.REPLACED.20251104-143000", "set aside");
    let listed = home.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    let found: Vec<_> = listed["unmanifested"].as_array().unwrap().iter().collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|one| one["at"] == "2025-11-04T14:30:00Z" && one["named"] == true), "{found:?}");
    let told = home.run(&["backups", "list"]).ends(ExitCode::Ok);
    let adopt = "lifeboat backups adopt ";
    let line = told.out.lines().find(|line| line.contains(adopt)).unwrap();
    let words = line[line.find(adopt).unwrap() + 9..].trim().to_owned();
    let words: Vec<&str> = words.split(' ').collect();
    home.run(&words).ends(ExitCode::Ok);
    let listed = home.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 2);
    let left = &listed["unmanifested"];
    assert_eq!(
        (left.as_array().unwrap().len(), &left[0]["kind"]),
        (1, &"sql".into()),
        "what was adopted has a manifest now"
    );
    let adopted = listed["backups"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    home.run(&["backups", "verify", &adopted]).ends(ExitCode::Ok);
}

#[test]
fn what_copy_to_made_is_no_stranger() {
    let (home, _backup) = Home::protected();
    home.run(&["backup", "--copy-to", "shop-pre-change-YYYYMMDD-HHMMSS.db"]).ends(ExitCode::Ok);
    let listed = home.run(&["backups", "list", "--json"]).json();
    assert_eq!(listed["unmanifested"].as_array().unwrap().len(), 0, "{listed}");
}

#[test]
fn bkp_22_a_setting_keeps_the_file_beside_the_database_fresh() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}alias = true\n"));
    for orders in [40, 43] {
        home.run(&["backup"]).ends(ExitCode::Ok);
        let copy = rusqlite::Connection::open(home.path("shop.db.backup")).unwrap();
        let count: u32 = copy.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
        let sound: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!((count, sound.as_str()), (orders, "ok"));
        drop(copy);
        home.sell(3);
    }
    let listed = home.run(&["backups", "list", "--json"]).json();
    assert_eq!(listed["unmanifested"].as_array().unwrap().len(), 0, "it is ours");
    assert!(!home.path("shop.db.backup.new").exists());
}

/// BKP-07: whoever backs up by hand gets the copy of the day as the schedule makes it; what other days left is told as before.
#[test]
fn bkp_07_a_backup_by_hand_makes_the_copy_of_the_day_which_is_no_stranger() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}dated_days = 7\n"));
    home.db().execute("VACUUM INTO ?1", [home.path("shop.db.backup.20251104").to_str().unwrap()]).unwrap();
    home.run(&["backup", "--dry-run"]).ends(ExitCode::Ok);
    let dated = || {
        let names = std::fs::read_dir(home.app()).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("shop.db.backup.20")).collect();
        names.sort();
        names
    };
    assert_eq!(dated(), ["shop.db.backup.20251104"], "nothing is made of a plan");
    let told = home.run(&["backup"]).ends(ExitCode::Ok);
    assert!(told.err.contains("is the copy of the day"), "{}", told.err);
    home.sell(2);
    home.run(&["backup"]).ends(ExitCode::Ok);
    let names = dated();
    assert_eq!(names.len(), 3, "{names:?}");
    let listed = home.run(&["backups", "list", "--json"]).json();
    let strangers = listed["unmanifested"].as_array().unwrap();
    assert_eq!(strangers.len(), 1, "{strangers:#?}");
    assert!(strangers[0]["path"].as_str().unwrap().ends_with("/shop.db.backup.20251104"), "{strangers:#?}");
}

#[test]
fn bkp_04_a_backup_says_what_was_deployed_and_how_far_the_schema_was_migrated() {
    let home = Home::shop();
    home.db()
        .execute_batch(
            "CREATE TABLE knex_migrations (id INTEGER, name TEXT, batch INTEGER, migration_time TEXT);
             INSERT INTO knex_migrations VALUES (1, '001_init.js', 1, ''), (2, '002_orders.js', 1, '');",
        )
        .unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    std::fs::create_dir_all(home.path(".git/refs/heads")).unwrap();
    home.write(".git/HEAD", "ref: refs/heads/main\n");
    home.write(".git/refs/heads/main", commit);
    let told = home.run(&["backup", "--ref", "shop:1.4.2", "--json"]).ends(ExitCode::Ok).json();
    let backup = told["backups"][0]["id"].as_str().unwrap();
    let shown = home.run(&["backups", "show", backup, "--json"]).ends(ExitCode::Ok).json();
    let deploy = &shown["manifest"]["deploy"];
    assert_eq!((&deploy["said"], &deploy["commit"]), (&"shop:1.4.2".into(), &commit.into()));
    let migrated = &shown["manifest"]["migrations"]["db"][0];
    assert_eq!((&migrated["tool"], &migrated["newest"]), (&"Knex".into(), &"002_orders.js".into()));
    home.run(&["backups", "show", backup])
        .says(&["shop:1.4.2, commit 0123456789ab", "Knex, 2 applied, up to 002_orders.js"]);
}
