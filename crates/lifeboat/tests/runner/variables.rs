//! `env`: names and fingerprints of variables, never their values.

use lifeboat_model::ExitCode;

use crate::home::Home;

/// ENV-02, ENV-17: what differs is told by name and fingerprint; equal values have equal ones, and no value is shown.
#[test]
fn env_17_what_changed_since_a_backup_is_told_by_name() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", settings + "[environments.local.resources.env]\nkind = \"env\"\npath = \"./.env\"\n");
    home.write(
        ".env",
        "# kept\nSETUP_TOKEN=first-secret\nSUPABASE_URL=https://a\nSAME=s3cret-that-stays\nGONE=g0ne-secret\n",
    );
    home.run(&["env", "history"]).ends(ExitCode::Ok);
    let first = home.backup();
    home.run(&["env", "diff"]).ends(ExitCode::Ok).says(&["4 as then, 0 not"]);

    home.write(".env", "SETUP_TOKEN=second-secret\n# another order\nSAME='s3cret-that-stays'\nSUPABASE_URL=https://a\nNEW=n3w-secret\n");
    let told = home.run(&["env", "diff"]).ends(ExitCode::ActionAdvised);
    let told = told.says(&["2 as then, 3 not", "~ SETUP_TOKEN", "+ NEW", "- GONE"]);
    home.backup();
    let history = home.run(&["env", "history", "env"]).ends(ExitCode::Ok).says(&["~ SETUP_TOKEN", "4 variables"]);
    for secret in ["first-secret", "second-secret", "s3cret", "g0ne", "n3w-", "https://a"] {
        assert!(![&told.out, &told.err, &history.out].iter().any(|text| text.contains(secret)), "{secret} was shown");
    }

    // Back to the first value: its fingerprint is the former one.
    home.write(".env", "SETUP_TOKEN=first-secret\nSUPABASE_URL=https://a\nSAME=s3cret-that-stays\nGONE=g0ne-secret\n");
    home.run(&["env", "diff", "--from", &first]).ends(ExitCode::Ok).says(&["4 as then, 0 not"]);
    let both = home.run(&["env", "diff", "--json"]).ends(ExitCode::ActionAdvised).json();
    let token = &both["diff"]["changed"].as_array().unwrap().iter().find(|one| one["name"] == "SETUP_TOKEN").unwrap();
    let history = home.run(&["env", "history", "--json"]).json();
    let then =
        &history["backups"][0]["changed"].as_array().unwrap().iter().find(|one| one["name"] == "SETUP_TOKEN").unwrap();
    assert_eq!((&token["now"], &token["then"]), (&then["then"], &then["now"]));

    home.run(&["env", "diff", "db"]).ends(ExitCode::Usage);
    home.run(&["env", "diff", "--from", "b-2222222222"]).ends(ExitCode::Refused);
}

/// ENV-02, ENV-05: a value comes back by its name; the plan and what is said afterwards name it and show a fingerprint.
#[test]
fn env_05_a_value_comes_back_by_its_name() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", settings + "[environments.local.resources.env]\nkind = \"env\"\npath = \"./.env\"\n");
    home.write(".env", "# kept\nTOKEN=first-secret\nFLAG=off\n");
    home.backup();
    home.write(".env", "# kept\nTOKEN=second-secret\nFLAG=on\nNEW=n3w-secret\n");
    let shown = home.run(&["env", "restore", "--dry-run"]).ends(ExitCode::Ok);
    let shown = shown.says(&["set FLAG, TOKEN; take NEW out", "TOKEN: "]);
    home.run(&["env", "restore", "TOKEN"]).ends(ExitCode::NeedsPerson);
    let done =
        home.run(&["env", "restore", "TOKEN", "--yes"]).ends(ExitCode::Ok).says(&["Take it back: lifeboat undo"]);
    let file = || std::fs::read_to_string(home.path(".env")).unwrap();
    assert_eq!(file(), "# kept\nTOKEN=first-secret\nFLAG=on\nNEW=n3w-secret\n");
    home.run(&["env", "restore", "TOKEN", "--yes"]).ends(ExitCode::Ok).says(&["nothing to do"]);
    home.run(&["undo", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(file(), "# kept\nTOKEN=second-secret\nFLAG=on\nNEW=n3w-secret\n");
    for secret in ["first-secret", "second-secret", "n3w-"] {
        let texts = [&shown.out, &shown.err, &done.out, &done.err];
        assert!(!texts.iter().any(|text| text.contains(secret)), "{secret} was shown");
    }
    home.run(&["env", "restore", "NOBODY", "--yes"]).ends(ExitCode::Refused).says(&["has no NOBODY"]);
}

#[test]
fn without_an_env_file_the_settings_that_are_missing_are_told() {
    let refused = Home::shop().run(&["env", "diff"]).ends(ExitCode::Usage);
    assert!(
        refused.err.contains("shop/local has no env file") && refused.err.contains("kind = \"env\""),
        "{}",
        refused.err
    );
}
