//! A rollback that GitHub runs, against a small program that behaves like its documented one; and the workflow that it runs.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::{
    drivers::pm2_programs,
    home::{Home, Ran},
};

/// A value that may be in no file, no output and no list of processes.
const TOKEN: &str = "ghp_canary_of_the_platform";
const REASON: &str = "Emergency rollback - production down";

/// `gh` as it is documented: a run is listed some time after it was asked for, with its newest first; `conclusion` is empty until
/// it is over. A required input that is missing is refused, and so is a workflow that is not there. Each list goes one step on.
const GH: &str = r#"#!/bin/bash
cd "$HOME"; [ "$GH_TOKEN" = ghp_canary_of_the_platform ] || { echo "gh: To use GitHub CLI, set the GH_TOKEN environment variable." >&2; exit 4; }
printf '%s|' gh "$@" >> calls; echo >> calls
case "$1 $2" in
    "run list") [ "$4" = rollback-production.yml ] || { echo "could not find any workflows named $4" >&2; exit 1; }
        [ "$7" = --json ] && [ "$8" = databaseId,event,status,conclusion,displayTitle,url ] || { echo "unknown flag" >&2; exit 1; }
        step=$(cat step 2>/dev/null || echo 0); [ -e asked ] && echo $((step + 1)) > step
        status=queued; conclusion=; [ "$step" -ge 3 ] && status=in_progress; [ "$step" -ge 4 ] && { status=completed; conclusion=$(cat ends); }
        [ -e hangs ] && { status=in_progress; conclusion=; }
        printf '['; [ -e asked ] && [ "$step" -ge 2 ] && printf '{"databaseId":102,"event":"workflow_dispatch","status":"%s","conclusion":"%s","displayTitle":"Rollback production: %s","url":"https://example.com/runs/102"},' "$status" "$conclusion" "$(cat asked)"
        printf '{"databaseId":100,"event":"workflow_dispatch","status":"completed","conclusion":"success","displayTitle":"Rollback production: last year","url":"https://example.com/runs/100"}]' ;;
    "workflow run") for last; do :; done
        [ "${last#reason=}" != "$last" ] && [ -n "${last#reason=}" ] || { echo "could not create workflow dispatch event: HTTP 422: Required input 'reason' not provided" >&2; exit 1; }
        [ -e refused ] && { echo "could not create workflow dispatch event: HTTP 403: the token $GH_TOKEN has no right" >&2; exit 1; }
        echo "${last#reason=}" > asked; echo "$last" >> dispatches ;;
    *) echo "unknown command" >&2; exit 1 ;;
esac
"#;

fn open() -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    let settings = settings.replace("environments.local", "environments.production");
    let target = "[environments.production.targets.web]\ndriver = \"fly\"\napp = \"shop-production\"\n";
    home.write("lifeboat.toml", format!("{settings}{target}"));
    std::fs::create_dir(home.path("programs")).unwrap();
    home.write("programs/gh", GH);
    std::fs::set_permissions(home.path("programs/gh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    home.write("ends", "success");
    home
}

fn run(home: &Home, words: &[&str]) -> Ran {
    let path = format!("{}:{}", home.path("programs").display(), std::env::var("PATH").unwrap());
    let mut command = home.command(words);
    command.env("PATH", path).env("HOME", home.app()).env("GH_TOKEN", TOKEN);
    let ran = home.ran(words, command.output().unwrap());
    assert!(!ran.out.contains(TOKEN) && !ran.err.contains(TOKEN), "lifeboat {} shows the token", ran.typed);
    ran
}

fn read(home: &Home, name: &str) -> String {
    std::fs::read_to_string(home.path(name)).unwrap_or_default()
}

fn no_token(home: &Home) {
    for (path, body) in home.everything() {
        let is_own = path.starts_with(home.path("programs"));
        assert!(is_own || !String::from_utf8_lossy(&body).contains(TOKEN), "{} holds the token", path.display());
    }
}

/// APP-04: one dispatch with the reason, looked at until it is over, and how that was.
#[test]
fn app_04_github_runs_the_rollback_with_its_reason() {
    let home = open();
    // Without a reason nobody is even asked.
    for words in [&["rollback", "--workflow", "--yes"][..], &["rollback", "--workflow", "--reason", "  ", "--yes"]] {
        run(&home, words).ends(ExitCode::Usage).says(&["the reason is missing", REASON]);
    }
    assert_eq!(read(&home, "calls"), "");
    run(&home, &["rollback", "--workflow", "--reason", REASON, "--dry-run"]).ends(ExitCode::Ok).says(&[REASON]);
    assert_eq!(read(&home, "dispatches"), "", "looking asks for nothing");
    let done = run(&home, &["rollback", "--workflow", "--reason", REASON, "--yes"]).ends(ExitCode::Ok);
    done.says(&["the run is over, as a success"]);
    assert_eq!(read(&home, "dispatches"), format!("reason={REASON}\n"));
    let calls = read(&home, "calls");
    assert!(calls.contains(&format!("gh|workflow|run|rollback-production.yml|-f|reason={REASON}|\n")), "{calls}");
    // How it ended stands in the journal, with where to look.
    let journals: String =
        std::fs::read_dir(home.journals()).unwrap().map(|one| journal_of(&one.unwrap().path())).collect();
    assert!(journals.contains("\"conclusion\":\"success\"") && journals.contains("https://example.com/runs/102"));
    // What GitHub runs is not taken back from here.
    let undo = run(&home, &["undo", "--yes"]);
    assert_ne!(undo.code, Some(0), "{undo:?}");
    no_token(&home);
}

fn journal_of(path: &std::path::Path) -> String {
    match path.is_dir() {
        true => std::fs::read_dir(path).unwrap().map(|one| journal_of(&one.unwrap().path())).collect(),
        false => String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned(),
    }
}

/// A run that fails is no success; one that hangs is waited for again; one that is refused was not asked for.
#[test]
fn app_04_how_the_run_ended_is_reported() {
    let home = open();
    let words = ["rollback", "--workflow", "--reason", REASON, "--yes"];
    home.write("refused", "");
    let refused = run(&home, &words).ends(ExitCode::FailedUndone);
    refused.says(&["HTTP 403: the token <GH_TOKEN> has no right"]);
    std::fs::remove_file(home.path("refused")).unwrap();
    home.write("ends", "failure");
    let failed = run(&home, &words).ends(ExitCode::InBetween);
    failed.says(&[
        "the run of rollback-production.yml ended as failure",
        "https://example.com/runs/102",
        "A person decides",
    ]);
    assert_eq!(read(&home, "dispatches").lines().count(), 1);
    // The same again, which hangs: it waits, and goes on waiting without asking again.
    for name in ["asked", "step", "dispatches"] {
        std::fs::remove_file(home.path(name)).unwrap();
    }
    home.write("hangs", "");
    home.write("ends", "success");
    let waits = run(&home, &[&words[..], &["--within", "3s"]].concat()).ends(ExitCode::InBetween);
    waits.says(&["is not over after 3.0 s", "it is in_progress", "lifeboat resume o-"]);
    std::fs::remove_file(home.path("hangs")).unwrap();
    run(&home, &["resume", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(read(&home, "dispatches").lines().count(), 1);
    // A workflow that is not there, and a name that is none.
    let missing = run(&home, &["rollback", "--workflow", "other.yml", "--reason", "x", "--yes"]);
    missing
        .ends(ExitCode::FailedUndone)
        .says(&["could not find any workflows named other.yml", "lifeboat shims workflow"]);
    run(&home, &["rollback", "--workflow", "../x.yml", "--reason", "x", "--yes"]).ends(ExitCode::Usage);
    run(&home, &["rollback", "--branch", "main", "--yes"]).ends(ExitCode::Usage).says(&["--revert and --workflow"]);
    assert_eq!(read(&home, "dispatches").lines().count(), 1);
    no_token(&home);
}

/// Killed while it asks: the next one looks before it asks again, so nothing is rolled back twice.
#[test]
fn app_04_a_killed_dispatch_is_not_repeated() {
    let home = open();
    // GitHub has got it, and nobody comes back to say so.
    home.write(
        "programs/gh",
        GH.replace("echo \"$last\" >> dispatches", "echo \"$last\" >> dispatches; kill -9 $PPID; sleep 60"),
    );
    let killed = run(&home, &["rollback", "--workflow", "--reason", REASON, "--yes"]);
    assert_eq!((killed.code, read(&home, "dispatches").lines().count()), (None, 1), "{killed:?}");
    home.write("programs/gh", GH);
    run(&home, &["resume", "--yes"]).ends(ExitCode::Ok).says(&["had finished before the interruption"]);
    assert_eq!(read(&home, "dispatches").lines().count(), 1);
}

/// The file as a reader of YAML has it, which comes with pm2.
fn parsed(path: &std::path::Path) -> Value {
    let output = Command::new(pm2_programs().join("js-yaml")).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// CMP-02: it is YAML, wants a reason, and runs nothing without one; what stands in the reason is no command.
#[test]
fn cmp_02_the_workflow_wants_a_reason() {
    let home = open();
    let said = run(&home, &["shims", "workflow"]).ends(ExitCode::Ok);
    said.says(&["Wrote ./.github/workflows/rollback-production.yml."]);
    let workflow = parsed(&home.path(".github/workflows/rollback-production.yml"));
    let inputs = &workflow["on"]["workflow_dispatch"]["inputs"];
    assert_eq!(inputs.as_object().unwrap().keys().collect::<Vec<_>>(), ["reason"]);
    assert_eq!(
        (inputs["reason"]["required"].as_bool(), inputs["reason"]["type"].as_str()),
        (Some(true), Some("string"))
    );
    assert_eq!(workflow["on"].as_object().unwrap().len(), 1, "nothing else starts it");
    assert!(workflow["run-name"].as_str().unwrap().contains("${{ inputs.reason }}"));
    let job = &workflow["jobs"]["rollback"];
    assert_eq!(job["env"]["REASON"], "${{ inputs.reason }}");
    let folder = home.app().canonicalize().unwrap();
    assert_eq!(job["steps"][1]["working-directory"].as_str().unwrap(), folder.display().to_string());
    // Its steps, as a runner would run them.
    home.write("programs/lifeboat", "#!/bin/sh\nprintf '%s|' \"$@\" >> rolled-back\n");
    std::fs::set_permissions(home.path("programs/lifeboat"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let steps: Vec<&str> = job["steps"].as_array().unwrap().iter().map(|step| step["run"].as_str().unwrap()).collect();
    assert!(steps.iter().all(|step| !step.contains("${{")), "what somebody wrote is no part of a command: {steps:?}");
    let runs = |reason: &str| {
        let path = format!("{}:{}", home.path("programs").display(), std::env::var("PATH").unwrap());
        steps.iter().all(|step| {
            let mut shell = Command::new("bash");
            shell.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", step]).current_dir(home.app());
            shell.env("REASON", reason).env("PATH", &path).stdin(Stdio::null()).stderr(Stdio::null());
            shell.status().unwrap().success()
        })
    };
    for reason in ["", " \t\n "] {
        assert!(!runs(reason) && !home.path("rolled-back").exists(), "{reason:?}");
    }
    assert!(runs("down; touch \"$HOME\" `touch broken` $(touch broken)"));
    let wanted = "rollback|--env|production|--reason|down; touch \"$HOME\" `touch broken` $(touch broken)|--yes|";
    assert_eq!(read(&home, "rolled-back"), wanted);
    assert!(!home.path("broken").exists());
    // One that is there already stays as it is.
    home.write(".github/workflows/rollback-production.yml", "mine");
    run(&home, &["shims", "workflow"]).ends(ExitCode::Refused).says(&["stays as it is"]);
    assert_eq!(read(&home, ".github/workflows/rollback-production.yml"), "mine");
}
