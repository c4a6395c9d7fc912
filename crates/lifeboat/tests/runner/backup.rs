//! `lifeboat backup`.

use lifeboat_model::ExitCode;
use rusqlite::Connection;

use crate::home::Home;

#[test]
fn a_backup_needs_no_settings() {
    let home = Home::bare();
    let ran = home.run(&["backup", "sqlite:./shop.db", "--vault", "./vault"]).ends(ExitCode::Ok);
    insta::assert_snapshot!(ran.masked(), @r#"
    Done: back up shop of shop/local (operation o-ID, N s).
    PHASE TOOK EXPECTED
    preflight N s
    capture N s N s (guess)
    store N s N s (guess)
    clean N s
    Backup b-ID: N KiB, N KiB added to the vault.
    Prove it: lifeboat prove b-ID --vault ./vault --for sqlite:./shop.db
    Take it back: lifeboat undo o-ID --vault ./vault --for sqlite:./shop.db
    "#);
    // The command that it names works as it stands.
    let next = ran.out.lines().find_map(|line| line.strip_prefix("Prove it: lifeboat ")).unwrap();
    let words: Vec<&str> = next.split_whitespace().collect();
    home.run(&words).ends(ExitCode::Ok).says(&["Proven: shop"]);
    let status = home.run(&["status", "--vault", "./vault", "--for", "sqlite:./shop.db"]).ends(ExitCode::Ok).out;
    let next = status.lines().find_map(|line| line.trim().strip_prefix("Next: lifeboat ")).unwrap();
    assert!(next.starts_with("restore shop --dry-run"), "{next}");
    home.run(&next.split_whitespace().collect::<Vec<_>>()).ends(ExitCode::Ok);
}

#[test]
fn a_backup_by_settings_is_listed_with_its_label_and_reason() {
    let home = Home::shop();
    home.run(&["backup", "db", "--label", "before the \"import\"\n🦀", "--reason", "pre-deploy"]).ends(ExitCode::Ok);
    let list = home.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(list["schema"], "lifeboat/backups@1");
    assert_eq!(list["backups"][0]["label"], "before the \"import\"\n🦀");
    assert_eq!(list["backups"][0]["reason"], "pre-deploy");
    assert_eq!(list["backups"][0]["resources"][0], "db");
}

/// BKP-21.
#[test]
fn two_backups_in_one_moment_are_two() {
    let home = Home::shop();
    assert_ne!(home.backup(), home.backup());
    let list = home.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(list["backups"].as_array().unwrap().len(), 2);
}

/// BKP-01: success is what `verify` confirms.
#[test]
fn a_reported_backup_is_one_that_verifies() {
    let (home, id) = Home::protected();
    home.run(&["backups", "verify", &id]).ends(ExitCode::Ok).says(&["is whole", "every blob matches its digest"]);
}

/// What the last backup saw of a database's pages saves time: with it, without it, and with a broken one, a backup holds
/// the same.
#[test]
fn what_the_last_backup_saw_of_pages_changes_nothing_but_the_time() {
    let home = Home::shop();
    home.db().pragma_update(None, "journal_mode", "wal").unwrap();
    let map = || {
        let maps = std::fs::read_dir(home.path("state/lifeboat/shop/pages")).unwrap();
        let maps: Vec<_> = maps.map(|map| map.unwrap().path()).collect();
        assert_eq!(maps.len(), 1, "one, and nothing unfinished: {maps:?}");
        maps[0].clone()
    };
    let mut seen = Vec::new();
    for round in 0..6 {
        let db = home.db();
        db.execute_batch("INSERT INTO pictures VALUES (randomblob(300000)); UPDATE orders SET what = 'n' WHERE id = 7")
            .unwrap();
        home.sell(round);
        match round {
            3 => std::fs::remove_file(map()).unwrap(),
            4 => std::fs::write(map(), b"no map").unwrap(),
            _ => {}
        }
        let backup = home.backup();
        seen.push(std::fs::read(map()).unwrap());
        let into = format!("./out-{round}.db");
        home.run(&["restore", "db", "--from", &backup, "--into", &into]).ends(ExitCode::Ok);
        let pictures = |path: &std::path::Path| -> Vec<Vec<u8>> {
            let db = Connection::open(path).unwrap();
            let mut statement = db.prepare("SELECT a FROM pictures ORDER BY rowid").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        assert!(pictures(&home.app().join(&into)) == pictures(&home.app().join("shop.db")), "round {round}");
        home.run(&["prove", &backup]).ends(ExitCode::Ok);
    }
    seen.dedup();
    assert_eq!(seen.len(), 6, "each backup notes what it saw");
    // The snapshot that it tells of is gone: it counts for nothing, and the next backup is whole.
    home.run(&["backup", "--vault", "./other"]).ends(ExitCode::Ok);
    let into = ["restore", "db", "--vault", "./other", "--into", "./other.db"];
    home.run(&into).ends(ExitCode::Ok);
}

/// Damage since the last backup is told in the same words, whether or not that backup's view of the pages is there.
#[test]
fn damage_is_told_alike_with_and_without_what_the_last_backup_saw() {
    let home = Home::shop();
    let db = home.db();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    drop(db);
    home.backup();
    let mut bytes = std::fs::read(home.path("shop.db")).unwrap();
    // The page with the orders: a walk finds it, among pages that are as they were.
    let at = bytes.windows(7).position(|seven| seven == b"thing 7").unwrap() / 4096 * 4096;
    bytes[at..at + 4096].fill(0);
    home.write("shop.db", &bytes);
    let told = |ran: crate::home::Ran| (ran.code, ran.masked_err());
    let with = told(home.run(&["backup"]));
    assert_ne!(with.0, Some(ExitCode::Ok as i32));
    assert!(with.1.contains("no page of a b-tree") && with.1.contains("the database is not sound"), "{}", with.1);
    std::fs::remove_dir_all(home.path("state/lifeboat/shop/pages")).unwrap();
    assert_eq!(with, told(home.run(&["backup"])));
}

#[test]
fn one_document_tells_how_it_went() {
    let home = Home::shop();
    let ran = home.run(&["backup", "--json"]).ends(ExitCode::Ok);
    let told = ran.json();
    assert_eq!(told["schema"], "lifeboat/operation@1");
    assert_eq!((&told["kind"], &told["outcome"], &told["exit_code"]), (&"backup".into(), &"done".into(), &0.into()));
    assert!(told["backups"][0]["bytes"].as_u64().unwrap() > 0);
    assert!(told["phases"].as_array().unwrap().iter().any(|phase| phase["name"] == "store"));
    assert_eq!(ran.err, "", "standard error stays silent");
}

#[test]
fn lines_are_the_journal_as_it_is_written() {
    let home = Home::shop();
    let ran = home.run(&["backup", "--json=lines"]).ends(ExitCode::Ok);
    let files: Vec<_> = std::fs::read_dir(home.journals()).unwrap().collect();
    let journal = std::fs::read_to_string(files[0].as_ref().unwrap().path()).unwrap();
    let entries = |text: &str| -> Vec<lifeboat_model::Entry> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(entries(&ran.out), entries(&journal));
    assert!(ran.out.lines().next().unwrap().contains("\"event\":\"opened\""));
    assert!(ran.out.lines().last().unwrap().contains("\"event\":\"closed\""));
}

#[test]
fn a_dry_run_touches_nothing() {
    let home = Home::shop();
    home.backup();
    let before = home.everything();
    let ran =
        home.run(&["backup", "--dry-run"]).ends(ExitCode::Ok).says(&["Nothing was changed.", "checked", "not tried"]);
    assert!(ran.err.is_empty(), "{}", ran.err);
    assert!(home.everything() == before, "a dry run changed a file");
    let told = home.run(&["backup", "--dry-run", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!((&told["schema"], &told["dry_run"]), (&"lifeboat/plan@1".into(), &true.into()));
}

#[test]
fn a_database_in_use_is_backed_up_with_its_wal() {
    let home = Home::shop();
    let db = home.db();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    crate::home::sell(&db, 5);
    let id = home.backup();
    let shown = home.run(&["backups", "show", &id, "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(shown["manifest"]["resources"][0]["tables"]["orders"]["rows"], 45);
    drop(db);
}

/// Names that break what does not quote: the table is listed, on one line, and comes back.
#[test]
fn names_with_quotes_line_feeds_and_emoji_survive() {
    let (home, id) = Home::protected();
    home.run(&["backups", "show", &id]).ends(ExitCode::Ok).says(&["quote\"d\\n🦀"]);
    let odd = home.path("it's \"odd\"\n🦀.db");
    std::fs::copy(home.path("shop.db"), &odd).unwrap();
    let named = format!("sqlite:{}", odd.display());
    home.run(&["backup", &named, "--vault", "./vault-2"]).ends(ExitCode::Ok);
    home.run(&["restore", &named, "--vault", "./vault-2", "--into", "./back.db"]).ends(ExitCode::Ok);
    let rows: u32 = Connection::open(home.path("back.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM \"quote\"\"d\n🦀\"", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1);
}

/// An empty table is a table: it is in the manifest with its zero rows.
#[test]
fn a_table_without_rows_is_kept() {
    let (home, id) = Home::protected();
    let shown = home.run(&["backups", "show", &id, "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(shown["manifest"]["resources"][0]["tables"]["empty"]["rows"], 0);
}
