//! Secrets are in no output of any command, and in no argument of any process.

use std::process::Stdio;

use lifeboat_model::ExitCode;

use crate::home::Home;

const CANARY: &str = "canary-7f3a-secret";

#[test]
fn no_secret_is_in_any_output_or_argument() {
    let home = Home::bare();
    home.write("pw", format!("{CANARY}\n"));
    home.write(".env", format!("TOKEN={CANARY}\n"));
    home.write(
        "lifeboat.toml",
        "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\npassword = { cmd = [\"cat\", \"pw\"] }\n\
         [environments.local.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\nmay_be_empty = [\"empty\"]\n\
         [environments.local.resources.env]\nkind = \"env\"\npath = \"./.env\"\n",
    );
    let mut said = String::new();
    for args in [
        &["backup", "--json=lines"][..],
        &["prove"],
        &["restore", "env", "--yes"],
        &["undo", "--yes"],
        &["status"],
        &["backups", "list", "--json"],
        &["history"],
        &["journal", "verify"],
        &["config", "show"],
        &["doctor"],
        &["vault", "check"],
        &["vault", "kit", "kit"],
    ] {
        let mut command = home.command(args);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // While it runs: the arguments of every process there is.
        for entry in std::fs::read_dir("/proc").unwrap() {
            let words = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&words).contains(CANARY), "{args:?}: an argument holds the secret");
        }
        let output = child.wait_with_output().unwrap();
        said += &String::from_utf8_lossy(&output.stdout);
        said += &String::from_utf8_lossy(&output.stderr);
    }
    assert!(said.contains("shop/local"), "{said}");
    assert!(!said.contains(CANARY), "{said}");
    for file in std::fs::read_dir(home.path("kit")).unwrap() {
        assert!(!std::fs::read_to_string(file.unwrap().path()).unwrap().contains(CANARY));
    }
    home.run(&["backups", "list"]).ends(ExitCode::Ok);
}
