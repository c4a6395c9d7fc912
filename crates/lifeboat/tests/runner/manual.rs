//! The procedure for going back by hand: its sections are there, and its commands do what they say, without Lifeboat.

use lifeboat_model::ExitCode;

use crate::home::{Home, PASSWORD};

/// A shop with files and an env file, and a program that is told to stop and start.
fn home() -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    let more = "stop = [\"touch\", \"stopped\"]\nstart = [\"touch\", \"started\"]\n\
                [environments.local.resources.uploads]\nkind = \"files\"\npath = \"./up loads\"\n\
                [environments.local.resources.env]\nkind = \"env\"\npath = \"./.env\"\n\
                [environments.local.resources.db.checks]\nenough = { sql = \"select count(*) from orders where what <> ''\", min = 1 }\n";
    home.write("lifeboat.toml", settings + more);
    std::fs::create_dir(home.path("up loads")).unwrap();
    home.write("up loads/logo.svg", "<svg/>");
    home.write(".env", "KEY=old\n");
    home
}

#[test]
fn doc_01_the_commands_of_the_manual_bring_the_app_back_without_lifeboat() {
    let home = home();
    home.backup();
    std::fs::create_dir_all(home.path("docs/operations")).unwrap();
    home.write("docs/operations/incident-response-playbook.md", "# playbook\n");
    home.run(&["docs", "export"]).ends(ExitCode::Ok);
    let text = std::fs::read_to_string(home.path("docs/operations/manual-rollback-procedure.md")).unwrap();
    for section in [
        "## Prerequisites",
        "## Quick reference",
        "## Pre-rollback checklist",
        "### Step 1: Verify backup file",
        "### Step 7: Post-rollback verification",
        "## Verification steps",
        "## Troubleshooting",
        "## Recovery scenarios",
        "## Best practices",
        "## Post-rollback checklist",
    ] {
        assert!(text.contains(section), "{section} is not in\n{text}");
    }
    assert!(
        text.contains("incident-response-playbook") && !text.contains("WORKFLOW.md"),
        "links only to what is there"
    );
    assert!(!text.contains(PASSWORD));
    // The disaster.
    home.sell(7);
    home.write("up loads/logo.svg", "broken");
    home.write(".env", "KEY=broken\n");
    // The blocks, one after the other in one shell, as the document says. Lifeboat is not on the path.
    let blocks: Vec<&str> = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 10, "{text}");
    let script = format!("set -eu\n{}", blocks.concat());
    assert!(!script.contains("lifeboat "), "{script}");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).current_dir(home.app()).env_clear().env("RESTIC_PASSWORD", PASSWORD);
    shell.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", home.path(".."));
    let ran = shell.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}\n{}", said(&ran.stdout), said(&ran.stderr));
    assert_eq!(home.orders(), 40);
    assert_eq!(std::fs::read_to_string(home.path("up loads/logo.svg")).unwrap(), "<svg/>");
    assert_eq!(std::fs::read_to_string(home.path(".env")).unwrap(), "KEY=old\n");
    assert!(home.path("stopped").exists() && home.path("started").exists());
    let kept = rusqlite::Connection::open(home.path("manual-rollback/emergency/db.sqlite")).unwrap();
    assert_eq!(kept.query_row("SELECT count(*) FROM orders", [], |row| row.get::<_, u32>(0)).unwrap(), 47);
    // It is written anew; what somebody else wrote is not.
    home.run(&["docs", "export"]).ends(ExitCode::Ok);
    home.write("notes.md", "mine");
    home.run(&["docs", "export", "--to", "notes.md"]).ends(ExitCode::Refused);
}
