//! Bad input: one clear sentence, the code from the table, nothing lost.

use lifeboat_model::ExitCode;

use crate::home::{Home, Ran};

/// One sentence after `error:` that ends as a sentence does, and no trace of a panic.
#[track_caller]
fn one_sentence(ran: &Ran) -> String {
    let first = ran.err.lines().find_map(|line| line.strip_prefix("error: "));
    let sentence =
        first.unwrap_or_else(|| panic!("lifeboat {}: no error on stderr:\n{}", ran.typed, ran.err)).to_owned();
    assert!(!ran.err.contains("panicked") && !ran.err.contains("a defect"), "{}", ran.err);
    assert_eq!(sentence, lifeboat::ui::words::sentence(&sentence), "it ends as a sentence does");
    sentence
}

#[test]
fn a_source_that_cannot_be_backed_up_is_refused_before_anything_is_made() {
    let page = || {
        let home = Home::bare();
        std::fs::read(home.path("shop.db")).unwrap()
    };
    let truncated = page()[..page().len() - 4096].to_vec();
    let encrypted: Vec<u8> = (0..8192_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cases: [(&str, Option<Vec<u8>>, ExitCode); 5] = [
        ("missing", None, ExitCode::Refused),
        ("zero bytes", Some(vec![]), ExitCode::Refused),
        (
            "not a database",
            Some(b"this is a letter to my aunt, and no database at all\n".repeat(100)),
            ExitCode::Refused,
        ),
        ("encrypted", Some(encrypted), ExitCode::Refused),
        ("truncated", Some(truncated), ExitCode::Refused),
    ];
    for (what, body, code) in cases {
        let home = Home::shop();
        match &body {
            Some(body) => home.write("shop.db", body),
            None => std::fs::remove_file(home.path("shop.db")).unwrap(),
        }
        let ran = home.run(&["backup"]).ends(code);
        let sentence = one_sentence(&ran);
        assert!(sentence.contains("db"), "{what}: {sentence}");
        assert!(!home.path("vault").exists(), "{what}: a vault was made");
        if let Some(body) = body {
            assert_eq!(std::fs::read(home.path("shop.db")).unwrap(), body, "{what}: the file was touched");
        }
        let told = home.run(&["backup", "--json"]).ends(code).json();
        assert_eq!(told["schema"], "lifeboat/failure@1", "{what}");
        assert_eq!(told["exit_code"], code as i32, "{what}");
    }
}

#[test]
fn a_wrong_or_missing_password_is_refused() {
    let (home, _) = Home::protected();
    let mut wrong = home.command(&["backups", "list"]);
    let ran = home.ran(&["backups", "list"], wrong.env("LIFEBOAT_VAULT_PASSWORD", "wrong").output().unwrap());
    one_sentence(&ran.ends(ExitCode::Refused).says(&["password", "LIFEBOAT_VAULT_PASSWORD"]));
    let mut none = home.command(&["backup"]);
    let ran = home.ran(&["backup"], none.env_remove("LIFEBOAT_VAULT_PASSWORD").output().unwrap());
    one_sentence(&ran.ends(ExitCode::Refused).says(&["password", "LIFEBOAT_VAULT_PASSWORD"]));
}

/// CFG-08: a backup of app A is refused for app B.
#[test]
fn the_vault_of_another_app_has_nothing_for_this_one() {
    let (home, id) = Home::protected();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", settings.replace("name = \"shop\"", "name = \"blog\""));
    one_sentence(
        &home.run(&["restore", "db"]).ends(ExitCode::Refused).says(&["there is no backup of db in blog/local"]),
    );
    one_sentence(&home.run(&["restore", "db", "--from", &id]).ends(ExitCode::Refused));
    assert_eq!(home.orders(), 40);
}

#[test]
fn an_unknown_resource_is_a_usage_error_that_names_the_known_ones() {
    let home = Home::shop();
    one_sentence(&home.run(&["backup", "dv"]).ends(ExitCode::Usage).says(&["dv", "it has: db"]));
    one_sentence(&home.run(&["restore", "dv"]).ends(ExitCode::Usage).says(&["dv"]));
    one_sentence(&home.run(&["backup", "a\nb"]).ends(ExitCode::Usage));
}

#[test]
fn without_settings_and_without_names_it_says_what_to_type() {
    let home = Home::bare();
    one_sentence(&home.run(&["backup"]).ends(ExitCode::Usage).says(&["lifeboat init"]));
    one_sentence(&home.run(&["status", "--vault", "./vault"]).ends(ExitCode::Usage).says(&["--for sqlite:./shop.db"]));
}

#[test]
fn words_that_are_not_understood_are_usage_errors() {
    let home = Home::shop();
    for args in [&["bakcup"][..], &["restore"], &["backup", "--force"], &["backup", "--json=xml"], &["journal"]] {
        home.run(args).ends(ExitCode::Usage);
    }
    let told = home.run(&["backup", "--force", "--json"]).ends(ExitCode::Usage).json();
    assert_eq!(told["schema"], "lifeboat/failure@1");
}

#[test]
fn nothing_is_to_be_found_under_names_that_are_not_there() {
    let (home, id) = Home::protected();
    for args in [
        &["backups", "show", "b-0000000000"][..],
        &["backups", "show", "zzz"],
        &["backups", "diff", &id, "zzz"],
        &["prove", "zzz"],
        &["restore", "db", "--from", "zzz"],
        &["journal", "show", "o-0000000000"],
        &["undo", "o-0000000000"],
        &["apply", "p-0000000000"],
        &["apply", "./no-such-plan.json"],
    ] {
        one_sentence(&home.run(args).ends(ExitCode::Refused));
    }
}

/// CFG-01: what every other command refuses, the check refuses as well, at its line; what lies outside of the file is told, and is no mistake
/// in it.
#[test]
fn cfg_01_the_check_refuses_what_the_commands_refuse() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    let target = "[environments.local.targets.app]\ndriver = \"release-dir\"\nreleases = \"./releases\"\ncurrent = \"./current\"\n\
                  stop = [\"true\"]\nstart = [\"true\"]\n";
    let server = "[environments.local.resources.server]\nkind = \"postgres\"\nurl_from = { env = \"NOT_SET\" }\n";
    let line =
        |text: &str, of: &str| text.lines().enumerate().filter(|(_, line)| line.starts_with(of)).last().unwrap().0 + 1;
    for (wrong, at, says) in [
        ("probes = [\"redis:6379\"]\n", "probes", "neither a path nor a place"),
        ("url = \"https://localhost\"\n", "url =", "is asked on this host over http://"),
        ("pass = [\"KEY=1\"]\n", "pass", "with more than a name"),
        (
            "[environments.local.decide.facts.data_loss]\nsql = \"select true\"\n",
            "[environments.local.decide",
            "has none",
        ),
    ] {
        let text = format!("{settings}{target}{wrong}");
        home.write("lifeboat.toml", &text);
        home.run(&["releases", "list"]).ends(ExitCode::Usage).says(&[says]);
        let checked = home.run(&["config", "check"]).ends(ExitCode::Usage);
        checked.says(&[says, &format!("lifeboat.toml:{}: ", line(&text, at))]);
        let told = home.run(&["config", "check", "--json"]).ends(ExitCode::Usage);
        let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
        assert_eq!((&told["good"], told["problems"].as_array().unwrap().len()), (&false.into(), 1), "{told}");
    }
    home.write("lifeboat.toml", format!("{settings}{server}{target}"));
    home.run(&["config", "check"]).ends(ExitCode::Ok).says(&["is right", "Not looked at here: local: ", "NOT_SET"]);
    home.write("lifeboat.toml", format!("{settings}{server}{target}probes = [\"redis:6379\"]\n"));
    home.run(&["config", "check"]).ends(ExitCode::Usage).says(&["neither a path nor a place"]);
}
