//! Second vaults from the command line: `vault copy`, `--vault NAME`, after each backup.

use lifeboat_model::ExitCode;

use crate::home::Home;

/// A shop whose settings name a second vault with a password of its own.
fn home(after_backup: bool, location: &str) -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    let copy = format!(
        "[vault.copies.offsite]\nlocation = \"{location}\"\npassword = {{ file = \"./copy.key\" }}\n\
         after_backup = {after_backup}\nkeep = {{ last = 5 }}\n[environments"
    );
    home.write("lifeboat.toml", settings.replacen("[environments", &copy, 1));
    home.write("copy.key", "the password of the copy\n");
    home
}

#[test]
fn backups_are_copied_listed_and_restored_from_the_copy() {
    let home = home(false, "../elsewhere");
    let backup = home.backup();
    assert_eq!(home.run(&["status", "--json"]).json()["copies"][0]["lacks"], 1);
    let told = home.run(&["vault", "copy"]).ends(ExitCode::Ok);
    assert!(told.out.contains("copy 1 backups of shop/local to offsite"), "{}", told.out);
    home.run(&["vault", "copy", "--to", "offsite"]).ends(ExitCode::Ok).says(&["There is nothing to do"]);
    home.run(&["status"]).says(&["offsite"]).says(&["up to date"]);
    home.sell(3);
    std::fs::remove_dir_all(home.path("vault")).unwrap();
    let listed = home.run(&["backups", "list", "--vault", "offsite", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(listed["backups"][0]["id"], *backup);
    home.run(&["restore", "db", "--vault", "offsite", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    assert_eq!(home.orders(), 40);
    // Its rules are its own; the vault's password opens nothing there.
    let shown = home.run(&["config", "show"]).ends(ExitCode::Ok);
    assert!(shown.out.contains("vault.copies.offsite.location"), "{}", shown.out);
    home.write("copy.key", "something else\n");
    home.run(&["backups", "list", "--vault", "offsite"]).ends(ExitCode::Refused);
}

#[test]
fn a_copy_after_each_backup_and_its_failure_does_not_spoil_the_backup() {
    let good = home(true, "../elsewhere");
    good.run(&["backup"]).ends(ExitCode::Ok);
    assert_eq!(good.run(&["status", "--json"]).json()["copies"][0]["lacks"], 0);
    let bad = home(true, "./copy.key/is-no-folder");
    let told = bad.run(&["backup"]).ends(ExitCode::ActionAdvised);
    assert!(told.err.contains("the copy offsite could not be brought up to date"), "{}", told.err);
    let listed = bad.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "the backup is there");
    bad.run(&["status", "--exit-code"]).ends(ExitCode::ActionAdvised);
}

#[test]
fn doctor_flags_a_copy_on_the_disk_of_the_data() {
    let home = home(false, "../elsewhere");
    let told = home.run(&["doctor"]);
    assert!(told.out.contains("it is on the same file system as what it keeps"), "{}", told.out);
    home.run(&["vault", "copy", "--to", "nowhere"]).ends(ExitCode::Usage);
}

/// BKP-07: a plain file that everybody can read, by `vault copy` too, where no second vault is named.
#[test]
fn bkp_07_a_plain_file_goes_elsewhere_with_vault_copy() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}send_to = \"../bucket/plain/shop-YYYYMMDD.sqlite\"\n"));
    home.run(&["vault", "copy"]).ends(ExitCode::Refused);
    home.backup();
    home.sell(2);
    let bucket = home.app().with_file_name("bucket").join("plain");
    home.run(&["vault", "copy", "--dry-run"]).ends(ExitCode::Ok).says(&["send db of", "shop-20"]);
    assert!(!bucket.exists(), "nothing is sent of a plan");
    home.run(&["vault", "copy"]).ends(ExitCode::Ok);
    home.run(&["vault", "copy"]).ends(ExitCode::Ok);
    let files: Vec<_> = std::fs::read_dir(&bucket).unwrap().map(|one| one.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let copy = rusqlite::Connection::open(&files[0]).unwrap();
    let count: u32 = copy.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 40, "of the backup, not of what was written since");
    home.run(&["config", "show"]).ends(ExitCode::Ok).says(&["resources.db.send_to"]);
    home.run(&["doctor"]).says(&["plain files go to", "/bucket/plain/shop-YYYYMMDD.sqlite"]);
    home.write("lifeboat.toml", format!("{settings}send_to = \"./copy.key/nowhere/shop-YYYYMMDD.sqlite\"\n"));
    home.write("copy.key", "no folder");
    home.run(&["doctor"]).says(&["no plain file of db goes elsewhere", "set send_to of db right"]);
    let told = home.run(&["vault", "copy"]);
    assert_ne!(told.code, Some(0), "{}", told.err);
    assert!(
        told.err.contains("the plain file could not be sent elsewhere") || told.err.contains("was not sent"),
        "{}",
        told.err
    );
}
