//! What a person sees who sits in front of a terminal, and a program does not.

use std::process::Command;

use lifeboat_model::ExitCode;

use crate::{home::Home, preempted};

/// Types a command at a terminal, and gives what is on it afterwards.
fn at_a_terminal(home: &Home, words: &[&str]) -> String {
    let typed = home.command(words);
    let spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let mut terminal = Command::new("python3");
    terminal.args(["-c", spawn]).arg(typed.get_program()).args(typed.get_args()).current_dir(home.app());
    terminal.env_clear().envs(typed.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
    let output = terminal.stdin(std::process::Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// PHS-19, PHS-02: while it runs, the phase and all of it against their budgets, and when it will be over.
#[test]
fn phs_19_a_rollback_at_a_terminal_counts_along() {
    let home = preempted::home();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", settings.replace("start = [\"true\"]", "start = [\"sleep\", \"1\"]"));
    home.run(&["deploy", "two", "--label", "two", "--watch", "0s", "--yes"]).ends(ExitCode::Ok);
    let said = at_a_terminal(&home, &["rollback", "first", "--yes"]);
    let counts = said.split(['\r', '\n']).find(|line| line.contains("restart 0:0")).unwrap_or_else(|| panic!("{said}"));
    assert!(counts.contains(" of 3:00 | all 0:0") && counts.contains(" of 5:00 | "), "{counts:?}");
    assert!(counts.contains("nobody knows how much longer"), "nothing was measured: {counts:?}");
    home.run(&["deploy", "two", "--label", "again", "--although-bad", "a test", "--watch", "0s", "--yes"])
        .ends(ExitCode::Ok);
    let quiet = home.run(&["rollback", "first", "--yes"]).ends(ExitCode::Ok);
    assert!(!quiet.err.contains("| all"), "a file gets a line for each step, and nothing that moves: {}", quiet.err);
}
