//! `lifeboat backups`.

use std::path::PathBuf;

use lifeboat_model::ExitCode;

use crate::home::{Home, collect};

#[test]
fn the_list_tells_time_age_size_kind_and_state() {
    let (home, _) = Home::protected();
    insta::assert_snapshot!(home.run(&["backups", "list"]).ends(ExitCode::Ok).masked(), @r#"
    BACKUP COMPLETE UP TO (UTC) LOCAL AGE SIZE ADDED HOLDS KIND STATE
    b-ID #-#-# #:#:# #:# UTC N s N KiB N KiB db manual not proven
    "#);
}

#[test]
fn an_empty_list_says_what_to_type() {
    let home = Home::shop();
    let ran = home.run(&["backups", "list"]).ends(ExitCode::Ok).says(&["lifeboat backup"]);
    assert_eq!(ran.out, "");
}

#[test]
fn one_backup_is_shown_by_the_beginning_of_its_id() {
    let (home, id) = Home::protected();
    home.run(&["backups", "show", &id[..6]]).ends(ExitCode::Ok).says(&[&id, "orders", "40", "retention", "stays"]);
}

#[test]
fn two_backups_differ_by_table() {
    let (home, first) = Home::protected();
    home.sell(3);
    home.db().execute_batch("UPDATE \"quote\"\"d\n🦀\" SET a = 2; CREATE TABLE fresh (a);").unwrap();
    let second = home.backup();
    let ran = home.run(&["backups", "diff", &first, &second]).ends(ExitCode::Ok);
    insta::assert_snapshot!(ran.masked(), @r#"
    b-ID (#-#-# #:#:#) and b-ID (#-#-# #:#:#)
    db schema: differs
    db table fresh: only in the second, 0 rows
    db table orders: 40 and 43 rows (+3)
    db table quote"d\n🦀: 1 row in both, with other contents
    "#);
    let told = home.run(&["backups", "diff", &first, &first, "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(told["differences"].as_array().unwrap().len(), 0);
}

#[test]
fn marks_are_shown_and_taken_off() {
    let (home, id) = Home::protected();
    home.run(&["backups", "hold", &id, "--why", "incident 12"]).ends(ExitCode::Ok);
    home.run(&["backups", "suspect", &id, "--why", "after the bad deploy"]).ends(ExitCode::Ok);
    home.run(&["backups", "list"]).ends(ExitCode::Ok).says(&["held: incident 12", "suspect: after the bad deploy"]);
    // RST-09: a suspect one is taken only when it is named.
    home.run(&["restore", "db", "--dry-run"]).ends(ExitCode::Refused).says(&["suspect", &id]);
    home.run(&["restore", "db", "--from", &id, "--dry-run"]).ends(ExitCode::Ok);
    home.run(&["backups", "unhold", &id]).ends(ExitCode::Ok);
    home.run(&["backups", "trust", &id]).ends(ExitCode::Ok);
    let list = home.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    assert!(list["backups"][0].get("held").is_none() && list["backups"][0].get("suspect").is_none(), "{list}");
    home.run(&["backups", "hold", &id]).ends(ExitCode::Usage).says(&["--why"]);
}

/// Flips one byte of the pack that holds the database: the largest, for its pictures cannot be compressed. In its
/// middle, since the small blobs of manifest and trees may come first.
pub fn damage(home: &Home) -> PathBuf {
    let mut packs = Vec::new();
    collect(&home.path("vault/data"), &mut packs);
    let (path, mut body) = packs.into_iter().max_by_key(|(_, body)| body.len()).unwrap();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a file of this test")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&path, permissions).unwrap();
    std::fs::write(&path, body).unwrap();
    path
}

#[test]
fn a_flipped_byte_is_found_by_reading_all() {
    let (home, id) = Home::protected();
    damage(&home);
    home.run(&["backups", "verify", &id]).ends(ExitCode::Damaged).says(&[&id, "is not whole", "hint:"]);
    let told = home.run(&["backups", "verify", &id, "--json"]).ends(ExitCode::Damaged).json();
    assert_eq!((&told["kind"], &told["exit_code"]), (&"damaged".into(), &11.into()));
}
