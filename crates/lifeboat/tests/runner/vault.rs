//! `lifeboat vault`.

use lifeboat_model::ExitCode;

use crate::{backups::damage, home::Home};

#[test]
fn a_whole_vault_says_so_and_a_damaged_one_says_what() {
    let (home, id) = Home::protected();
    home.run(&["vault", "check"]).ends(ExitCode::Ok).says(&["Whole:", "was not read"]);
    home.run(&["vault", "check", "--read-data"]).ends(ExitCode::Ok).says(&["every byte was read"]);
    home.run(&["vault", "check", "--read-data=2/3"]).ends(ExitCode::Ok).says(&["part 2 of 3"]);
    home.run(&["vault", "check", "--read-data=4/3"]).ends(ExitCode::Usage).says(&["1/7"]);
    damage(&home);
    home.run(&["vault", "check", "--read-data"]).ends(ExitCode::Damaged).says(&["Damaged:", &id]);
    let told = home.run(&["vault", "check", "--read-data", "--json"]).ends(ExitCode::Damaged).json();
    assert_eq!((&told["schema"], &told["exit_code"]), (&"lifeboat/vault-check@1".into(), &11.into()));
}

#[test]
fn pruning_is_for_good_and_needs_the_name() {
    let (home, id) = Home::protected();
    home.run(&["vault", "prune", "--dry-run"]).ends(ExitCode::Ok).says(&["Nothing was changed."]);
    home.run(&["vault", "prune", "--yes"]).ends(ExitCode::NeedsPerson).says(&["for good", "--confirm shop/local"]);
    home.run(&["vault", "prune", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    home.run(&["backups", "verify", &id]).ends(ExitCode::Ok);
}

/// AUD-05: the history outlives the state folder.
#[test]
fn what_is_known_here_is_rebuilt_from_the_vault() {
    let (home, _) = Home::protected();
    std::fs::remove_dir_all(home.journals().parent().unwrap()).unwrap();
    home.run(&["vault", "recover", "--dry-run"]).ends(ExitCode::Ok).says(&["holds 1 backup"]);
    home.run(&["vault", "recover"]).ends(ExitCode::Ok).says(&["1 backup", "1 journal brought back"]);
    home.run(&["history"]).ends(ExitCode::Ok).says(&["back up db of shop/local"]);
}

#[test]
fn the_kit_explains_itself_and_holds_no_secret() {
    let (home, _) = Home::protected();
    home.run(&["vault", "kit", "./kit"]).ends(ExitCode::Ok).says(&["recovery.html"]);
    let page = std::fs::read_to_string(home.path("kit/RECOVERY.md")).unwrap();
    assert!(page.contains("restic") && !page.contains(crate::home::PASSWORD));
    home.run(&["vault", "kit", "./kit"]).ends(ExitCode::Refused).says(&["exists already"]);
}

/// A kill leaves them; nobody else's file is ever touched.
#[test]
fn what_a_killed_writer_left_is_told_and_swept_when_it_is_old() {
    let (home, _) = Home::protected();
    let partial = "vault/data/ab/.abcd.4711.3.lifeboat-partial";
    let others =
        ["vault/data/.lifeboat-partial", "vault/.mine.lifeboat-partial", "vault/notes.4711.3.lifeboat-partial"];
    std::fs::create_dir_all(home.path("vault/data/ab")).unwrap();
    for name in others.iter().chain([&partial]) {
        home.write(name, "half");
    }
    let told = home.run(&["vault", "check", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(told["half_written"], serde_json::json!(["data/ab/.abcd.4711.3.lifeboat-partial"]));
    home.run(&["vault", "check"]).ends(ExitCode::Ok).says(&["Half-written, and harmless: data/ab/.abcd"]);
    let prune = ["vault", "prune", "--confirm", "shop/local"];
    home.run(&prune).ends(ExitCode::Ok);
    assert!(home.path(partial).exists(), "its writer may live");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 86_400);
    for name in others.iter().chain([&partial]) {
        std::fs::File::options().write(true).open(home.path(name)).unwrap().set_modified(old).unwrap();
    }
    home.run(&prune).ends(ExitCode::Ok).says(&["1 files, 4 B, were left half-written"]);
    assert!(!home.path(partial).exists());
    assert!(others.iter().all(|name| home.path(name).exists()), "somebody else's");
    home.run(&["vault", "check"]).ends(ExitCode::Ok);
}
