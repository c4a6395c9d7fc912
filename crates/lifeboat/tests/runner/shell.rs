//! The guide, help, completions, manual pages, and the demo.

use lifeboat_model::ExitCode;

use crate::home::Home;

#[test]
fn alone_it_shows_the_commands_of_a_bad_night() {
    let ran = Home::bare().run(&[]).ends(ExitCode::Ok);
    for command in ["status", "restore NAME --dry-run", "undo", "resume", "watch"] {
        assert!(ran.out.contains(&format!("lifeboat {command}")), "{command}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let home = Home::bare();
    let top = home.run(&["--help"]).ends(ExitCode::Ok).out;
    let commands = top.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        home.run(&[name, "--help"]).ends(ExitCode::Ok).says(&["Usage:", "Examples:", &format!("  lifeboat {name}")]);
    }
}

#[test]
fn completions_and_manual_pages_come_from_the_code() {
    let home = Home::bare();
    for shell in ["bash", "zsh", "fish"] {
        home.run(&["completions", shell]).ends(ExitCode::Ok).says(&["without-emergency-backup"]);
    }
    home.run(&["completions", "cmd"]).ends(ExitCode::Usage);
    home.run(&["man"]).ends(ExitCode::Ok).says(&[".TH lifeboat 1"]);
    home.run(&["man", "./man"]).ends(ExitCode::Ok);
    assert!(home.path("man/lifeboat-restore.1").exists() && home.path("man/lifeboat-backups-verify.1").exists());
}

#[test]
fn the_demo_loses_nothing() {
    let home = Home::bare();
    home.run(&["demo", "./demo"]).ends(ExitCode::Ok).says(&["Lost: nothing."]);
}
