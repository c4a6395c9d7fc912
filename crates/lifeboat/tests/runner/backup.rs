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
