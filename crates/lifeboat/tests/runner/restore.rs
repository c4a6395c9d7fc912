//! `lifeboat restore`.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use lifeboat_model::ExitCode;

use crate::home::Home;

#[test]
fn rows_that_leave_need_the_name_typed() {
    let (home, _) = Home::protected();
    home.sell(7);
    let before = std::fs::read(home.path("shop.db")).unwrap();
    let ran = home.run(&["restore", "db"]).ends(ExitCode::NeedsPerson);
    insta::assert_snapshot!(ran.masked_err(), @r#"
    Plan p-ID: restore db of shop/local from b-ID

    # PHASE STEP BUDGET EXPECTED
    1 preflight N MiB free on ~/app -
    N MiB free on ./state/lifeboat/shop/staging/p-ID
    N MiB free on ./vault
    b-ID is whole in the vault
    2 keep copy ./shop.db while it is in use - N s (1 run)
    store as b-ID: check, chunk, compress, encrypt
    read back that b-ID is whole
    3 restore bring it to ./.shop.db.lifeboat-p-ID - N s (guess)
    4 verify compare it with the manifest: integrity, rows, digests - N s (guess)
    5 swap nobody has it open -
    count the rows that are lost
    keep what is there as ./shop.db.REPLACED.#-#
    -- point of no return: before this line everything is put back when something fails --
    give it the name ./shop.db
    6 clean remove working copies -
    expected in all: N s (guess); nineteen of twenty within N s

    What changes in db (written after #-#-# #:#:# UTC):
    orders: 47 rows now, 40 in what comes back: 7 leave; 7 created, changed rows are counted before the swap, last created_at #-#-# #:#:#
    All of it is kept in emergency backup b-ID and ~/app/shop.db.REPLACED.#-#.

    b-ID is complete up to #-#-# #:#:# UTC and has not been proven yet; it is verified before the swap.
    To take it back afterwards: lifeboat undo.
    error: this replaces db of shop/local, and 7 rows leave it, and nobody has agreed to that; nothing was changed.
    hint: lifeboat restore db --confirm shop/local
    "#);
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::NeedsPerson);
    home.run(&["restore", "db", "--confirm", "shop/production"]).ends(ExitCode::NeedsPerson).says(&["shop/local"]);
    assert_eq!(std::fs::read(home.path("shop.db")).unwrap(), before);

    let ran = home.run(&["restore", "db", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    insta::assert_snapshot!(ran.masked(), @r#"
    Done: restore db of shop/local from b-ID (operation o-ID, N s).
    PHASE TOOK EXPECTED
    preflight N s
    keep N s N s (1 run)
    restore N s N s (guess)
    verify N s N s (guess)
    swap N s
    clean N s
    What was there is in emergency backup b-ID: N KiB, N KiB added to the vault.
    Against what was there: 7 rows created since left, 0 changed back, 0 came back.
    The former file is kept as ~/app/shop.db.REPLACED.#-#
    Take it back: lifeboat undo o-ID
    Delete what is kept, once you are sure: lifeboat release o-ID
    "#);
    assert_eq!(home.orders(), 40);
}

#[test]
fn without_rows_to_lose_yes_is_enough_and_nothing_less() {
    let (home, _) = Home::protected();
    home.run(&["restore", "db"]).ends(ExitCode::NeedsPerson).says(&["hint: lifeboat restore db --yes"]);
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(home.orders(), 40);
}

/// RST-29: the numbers are those of the live database.
#[test]
fn the_losses_are_counted_in_the_live_database() {
    let (home, _) = Home::protected();
    home.sell(7);
    home.db().execute_batch("CREATE TABLE fresh (a); INSERT INTO fresh VALUES (1);").unwrap();
    let told = home.run(&["restore", "db", "--dry-run", "--json"]).ends(ExitCode::Ok).json();
    let lines = told["losses"][0]["what"].as_array().unwrap();
    let line = |table: &str| lines.iter().find(|line| line["table"] == table).unwrap();
    assert_eq!((&line("orders")["rows_now"], &line("orders")["rows_backup"]), (&47.into(), &40.into()));
    assert_eq!((&line("fresh")["rows_now"], &line("fresh")["rows_backup"]), (&1.into(), &serde_json::Value::Null));
}

/// CFG-10.
#[test]
fn a_dry_run_leaves_every_byte_where_it_is() {
    let (home, _) = Home::protected();
    home.sell(7);
    let before = home.everything();
    let ran = home.run(&["restore", "db", "--dry-run"]).ends(ExitCode::Ok);
    ran.says(&["point of no return", "47 rows now, 40 in what comes back: 7 leave", "Nothing was changed."]);
    assert!(home.everything() == before, "a dry run changed a file");
}

#[test]
fn a_copy_can_be_put_beside() {
    let (home, _) = Home::protected();
    home.sell(7);
    home.run(&["restore", "db", "--into", "./back.db"]).ends(ExitCode::Ok);
    let count = |name: &str| -> u32 {
        let db = rusqlite::Connection::open(home.path(name)).unwrap();
        db.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("shop.db"), count("back.db")), (47, 40));
    home.run(&["restore", "db", "--into", "./back.db"]).ends(ExitCode::Refused).says(&["exists already"]);
}

/// RST-09, RST-10: by the time a backup is complete up to, never by the time of a file.
#[test]
fn the_newest_backup_before_a_time_is_taken() {
    let (home, first) = Home::protected();
    let list = home.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    let between = list["backups"][0]["taken_at"].as_str().unwrap().to_owned();
    home.sell(7);
    let second = home.backup();
    assert_ne!(first, second);
    let chosen = |before: &str| {
        let told = home.run(&["restore", "db", "--before", before, "--dry-run", "--json"]).ends(ExitCode::Ok).json();
        told["title"].as_str().unwrap().to_owned()
    };
    assert!(chosen(&between).contains(&first));
    assert!(chosen("0s ago").contains(&second));
    home.run(&["restore", "db", "--before", "2h ago"])
        .ends(ExitCode::Refused)
        .says(&["from before", "the oldest is from"]);
    home.run(&["restore", "db", "--before", "2999-01-01"]).ends(ExitCode::Usage).says(&["in the future"]);
    home.run(&["restore", "db", "--before", "noon"]).ends(ExitCode::Usage).says(&["is not a time", "2h ago"]);
}

#[test]
fn a_database_that_is_open_elsewhere_is_not_swapped_and_the_program_is_named() {
    let (home, _) = Home::protected();
    // A real program of another make holds it: the shell of SQLite.
    let mut holder = Command::new("sqlite3");
    let mut holder = holder
        .arg(home.path("shop.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sqlite3 is installed by ./test");
    let mut says = BufReader::new(holder.stdout.take().unwrap());
    let mut asks = holder.stdin.take().unwrap();
    writeln!(asks, "BEGIN IMMEDIATE; SELECT 'ready';").unwrap();
    let mut line = String::new();
    says.read_line(&mut line).unwrap();
    let ran = home.run(&["restore", "db", "--yes"]).ends(ExitCode::Refused);
    let id = holder.id().to_string();
    drop(asks);
    holder.wait().unwrap();
    ran.says(&["is open in", "sqlite3", &id, "--into"]);
    assert_eq!(home.orders(), 40);
}

#[test]
fn a_wreck_is_kept_and_replaced() {
    let (home, _) = Home::protected();
    home.write("shop.db", b"scribbled over ".repeat(1000));
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::Ok).says(&["CORRUPTED"]);
    assert_eq!(home.orders(), 40);
}

/// EMRG-20: it opens, and a quick look finds it damaged; it is backed up as far as it goes, and kept under that name.
/// What can be read in it is chance - SQLite takes what lies behind the page for rows, or refuses - hence the typed name.
#[test]
fn a_damaged_database_that_still_opens_is_kept_as_corrupted() {
    let (home, _) = Home::protected();
    let page: i64 =
        home.db().query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'orders'", [], |row| row.get(0)).unwrap();
    let mut bytes = std::fs::read(home.path("shop.db")).unwrap();
    let start = usize::try_from((page - 1) * 4096).unwrap();
    bytes[start + 8..start + 200].fill(0xff);
    home.write("shop.db", bytes);
    let ran = home.run(&["restore", "db", "--accept-loss", "any", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    ran.says(&["shop.db.CORRUPTED.", "What is there is damaged", "counted in it may be wrong"]);
    assert_eq!(home.orders(), 40);
}

#[test]
fn what_is_gone_comes_back() {
    let (home, _) = Home::protected();
    std::fs::remove_file(home.path("shop.db")).unwrap();
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(home.orders(), 40);
}

/// Several environments: never a default to any of them.
#[test]
fn with_several_environments_one_must_be_named() {
    let (home, _) = Home::protected();
    let mut settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    settings += "[environments.production.resources.db]\nkind = \"sqlite\"\npath = \"./live.db\"\n";
    home.write("lifeboat.toml", settings);
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::Usage).says(&["--env", "local", "production"]);
    home.run(&["restore", "db", "--yes", "--env", "local"]).ends(ExitCode::Ok);
}

/// RST-11: a damaged backup is not quietly replaced by another; the one before it is proposed, with its age.
#[test]
fn a_damaged_backup_is_refused_and_the_one_before_it_proposed() {
    let (home, first) = Home::protected();
    // New pictures: the second backup has bytes of its own.
    home.db().execute_batch("UPDATE pictures SET a = randomblob(200000)").unwrap();
    let second = home.backup();
    crate::backups::damage(&home);
    let before = std::fs::read(home.path("shop.db")).unwrap();
    let ran = home.run(&["restore", "db", "--yes"]).ends(ExitCode::FailedUndone);
    ran.says(&[&second, "damaged", &format!("lifeboat restore db --from {first}"), "Everything was put back"]);
    assert_eq!(std::fs::read(home.path("shop.db")).unwrap(), before);
    // The pictures have other values since: that is a loss, which --yes never agrees to.
    home.run(&["restore", "db", "--yes", "--from", &first])
        .ends(ExitCode::NeedsPerson)
        .says(&["changed values in 1 table"]);
    home.run(&["restore", "db", "--confirm", "shop/local", "--from", &first]).ends(ExitCode::Ok);
}
