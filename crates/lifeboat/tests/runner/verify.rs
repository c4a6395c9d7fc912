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

/// A shop with questions of its own.
fn asking(checks: &str) -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}[environments.local.resources.db.checks]\n{checks}\n"));
    home
}

#[test]
fn vfy_02_and_03_the_report_has_its_lines_and_ends_in_go() {
    let quality = "quality = { category = \"data-quality\", sql = \"select 85\" }";
    let told = asking(quality).run(&["verify", "--full"]).ends(ExitCode::Ok);
    let lines: Vec<&str> = told.out.lines().collect();
    let report = [
        "Referential integrity: PASS",
        "Required fields: PASS",
        "Unique constraints: PASS",
        "Data quality: PASS (85%+)",
        "GO",
    ];
    assert_eq!(lines[lines.len() - 5..], report, "{}", told.out);
    let home = asking(&quality.replace("85", "84"));
    let told = home.run(&["verify"]).ends(ExitCode::Damaged);
    let tail: Vec<&str> = told.out.lines().skip_while(|line| !line.starts_with("Data quality")).collect();
    assert_eq!(tail, ["Data quality: FAIL (85%+)", "NO-GO", "FAIL: quality of db: 84; it must be at least 85 %"]);
    assert_eq!(home.run(&["verify", "--quick", "--json"]).ends(ExitCode::Damaged).json()["go"], false);
    // Nothing was asked about quality: that is said, and is no pass.
    Home::shop()
        .run(&["verify", "--quick"])
        .ends(ExitCode::Ok)
        .says(&["Data quality: not looked at", "Required fields: not looked at"]);
}

#[test]
fn vfy_05_row_counts_are_compared_with_the_newest_backup() {
    let (home, backup) = Home::protected();
    home.sell(19);
    home.run(&["verify"]).ends(ExitCode::Ok).says(&["within 50 %", &backup]);
    home.sell(1);
    home.run(&["verify"]).ends(ExitCode::Damaged).says(&["orders has 60 rows", "had 40"]);
    home.run(&["verify", "--tolerance", "60"]).ends(ExitCode::Ok);
    home.db().execute("DELETE FROM orders", []).unwrap();
    home.run(&["verify", "--tolerance", "100"]).ends(ExitCode::Damaged).says(&["orders has 0 rows"]);
}

#[test]
fn vfy_06_nothing_restored_is_newer_than_its_backup_in_whatever_zone() {
    let (home, backup) = Home::protected();
    home.run(&["verify", "--against", &backup]).ends(ExitCode::Ok);
    home.db().execute("UPDATE orders SET created_at = datetime('now', '+2 seconds') WHERE id = 1", []).unwrap();
    home.db().execute("UPDATE orders SET created_at = datetime('now', '-1 hour') WHERE id = 2", []).unwrap();
    home.db().execute("INSERT INTO orders VALUES (100, 'later', '2099-01-01 00:00:00')", []).unwrap();
    home.run(&["verify", "--against", &backup])
        .ends(ExitCode::Ok)
        .says(&["dated in the future: orders.created_at 2099"]);
    home.db().execute("DELETE FROM orders WHERE id IN (1, 100)", []).unwrap();
    // Later than the backup, and not in the future as soon as the clock has gone on.
    let point =
        home.run(&["backups", "list", "--json"]).json()["backups"][0]["recovery_point"].as_str().unwrap().to_owned();
    let later = "UPDATE orders SET created_at = strftime('%Y-%m-%d %H:%M:%S', ?1, '+1 second') WHERE id = 3";
    home.db().execute(later, [&point[..19]]).unwrap();
    while home
        .db()
        .query_row("SELECT datetime('now') <= strftime('%Y-%m-%d %H:%M:%S', ?1, '+1 second')", [&point[..19]], |row| {
            row.get::<_, bool>(0)
        })
        .unwrap()
    {
        std::thread::yield_now(); // times in this table are whole seconds
    }
    for zone in ["UTC", "Pacific/Auckland", "America/Los_Angeles"] {
        let mut command = home.command(&["verify", "--against", &backup]);
        let ran = home.ran(&["verify"], command.env("TZ", zone).output().unwrap());
        ran.ends(ExitCode::Damaged).says(&["newer than", "orders.created_at"]);
    }
}

#[test]
fn vfy_07_rows_that_were_chosen_stay_as_they_were() {
    let home = asking("first = { sample = true, sql = \"select what from orders order by id limit 5\" }");
    let backup = home.backup();
    home.run(&["verify", "--against", &backup]).ends(ExitCode::Ok).says(&["sample first: the rows of the backup"]);
    home.run(&["prove"]).ends(ExitCode::Ok);
    home.db().execute("UPDATE orders SET what = 'other' WHERE id = 3", []).unwrap();
    home.run(&["verify", "--against", &backup])
        .ends(ExitCode::Damaged)
        .says(&["sample first: other rows than in the backup"]);
}

#[test]
fn vfy_04_the_script_behind_npm_run_prints_the_four_lines() {
    let home = Home::shop();
    home.run(&["shims", "install"]).ends(ExitCode::Ok);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_lifeboat")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut command = std::process::Command::new(home.path("scripts/db-validate-all.sh"));
    let like = home.command(&[]);
    let vars = like.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let ran = command.env_clear().envs(vars).env("PATH", path).output().unwrap();
    let ran = home.ran(&["scripts/db-validate-all.sh"], ran).ends(ExitCode::Ok);
    for line in ["Referential integrity: PASS", "Required fields: PASS", "Unique constraints: PASS", "Data quality:"] {
        assert!(ran.out.contains(line), "{}", ran.out);
    }
    assert_eq!(ran.out.lines().last(), Some("GO"));
}
