//! A deploy that is not over makes way for whoever rolls back, in whichever words: step by step, by a plan that was kept, or by the rules.

use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use lifeboat_model::ExitCode;

use crate::home::Home;

/// Version one is sealed and good, version two lies beside it; a watch of a deploy looks at nothing and lasts for long.
pub(crate) fn home() -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write(
        "lifeboat.toml",
        format!(
            "{settings}[environments.local.decide]\nexecute = true\n[environments.local.targets.app]\ndriver = \"release-dir\"\n\
             releases = \"./releases\"\ncurrent = \"./current\"\nstop = [\"true\"]\nstart = [\"true\"]\nsmoke = [\"true\"]\n"
        ),
    );
    for version in ["one", "two", "three"] {
        std::fs::create_dir_all(home.path(&format!("releases/{version}"))).unwrap();
        home.write(&format!("releases/{version}/app"), version);
    }
    std::os::unix::fs::symlink(home.path("releases/one"), home.path("current")).unwrap();
    home.run(&["checkpoint", "--label", "first"]).ends(ExitCode::Ok);
    home.run(&["releases", "mark", "first", "good"]).ends(ExitCode::Ok);
    home
}

fn uses(home: &Home) -> String {
    std::fs::read_to_string(home.path("current/app")).unwrap()
}

/// A deploy that is being watched; where it is to be killed, it is dead.
fn deploying(home: &Home, version: &str, killed: bool) -> Child {
    let words = ["deploy", version, "--label", version, "--watch", "5m", "--yes"];
    let mut deploy = home.command(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while !home.run(&["status"]).out.contains("at: watch app") {
        assert!(since.elapsed() < Duration::from_secs(120), "it is not watched: {}", home.run(&["status"]).out);
        std::thread::yield_now();
    }
    if killed {
        deploy.kill().unwrap();
        deploy.wait().unwrap();
    }
    assert_eq!(uses(home), version);
    deploy
}

/// A deploy that ran was told who waits; one that was killed says nothing any more.
fn made_way(deploy: Child, killed: bool) {
    let ended = deploy.wait_with_output().unwrap();
    if !killed {
        assert_eq!(ended.status.code(), Some(i32::from(ExitCode::Interrupted as u8)));
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(told.contains("waits since"), "{told}");
    }
}

fn is_held(home: &Home, version: &str) {
    home.run(&["status"]).ends(ExitCode::Ok).says(&["is live", &format!("Held         {version} (r-")]);
    home.run(&["deploy", version, "--yes"]).ends(ExitCode::Refused).says(&["is held for bad"]);
}

/// PHS-15: step by step as well; without a release's name the deploy's end was the rollback, and a look changes nothing.
#[test]
fn phs_15_a_deploy_makes_way_for_a_manual_rollback() {
    for killed in [false, true] {
        let home = home();
        let deploy = deploying(&home, "two", killed);
        home.run(&["rollback", "--manual", "--dry-run", "first"]).says(&["is not over, and is taken back first"]);
        home.run(&["rollback", "--manual"]).ends(ExitCode::NeedsPerson).says(&["is taken back first"]);
        assert_eq!(uses(&home), "two", "nobody has agreed to anything");
        home.run(&["rollback", "--manual", "--reason", "slow", "--yes"]).ends(ExitCode::Ok).says(&["put back"]);
        made_way(deploy, killed);
        assert_eq!(uses(&home), "one");
        is_held(&home, "two");
    }
}

/// A manual rollback to an older release goes on after the deploy was taken back, and stops where it was told to.
#[test]
fn phs_15_a_manual_rollback_goes_on_where_the_deploy_began() {
    let home = home();
    home.run(&["deploy", "two", "--label", "two", "--watch", "0s", "--yes"]).ends(ExitCode::Ok);
    let deploy = deploying(&home, "three", false);
    let stopped = home.run(&["rollback", "--manual", "first", "--to", "1", "--yes"]).ends(ExitCode::Interrupted);
    stopped.says(&["--manual --from 2"]);
    made_way(deploy, false);
    assert_eq!(uses(&home), "two");
    home.run(&["rollback", "--manual", "--from", "2", "--although-open", "a test", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(uses(&home), "one");
}

/// A plan that was looked at before: where the deploy began is where it leads to, and that is all; else it is carried out from there.
#[test]
fn a_deploy_makes_way_for_a_plan_that_rolls_back() {
    for killed in [false, true] {
        let home = home();
        let deploy = deploying(&home, "two", killed);
        let plan = home.run(&["plan", "rollback", "first", "--reason", "slow", "--json"]).ends(ExitCode::Ok).json();
        let plan = plan["id"].as_str().unwrap();
        home.run(&["apply", plan]).ends(ExitCode::NeedsPerson).says(&["is taken back first"]);
        home.run(&["apply", plan, "--dry-run"]).says(&["is not over, and is taken back first"]);
        assert_eq!(uses(&home), "two", "nobody has agreed to anything");
        home.run(&["apply", plan, "--yes"]).ends(ExitCode::Ok).says(&["put back"]);
        made_way(deploy, killed);
        assert_eq!(uses(&home), "one");
        is_held(&home, "two");
    }
    // The plan was made before anybody deployed: it holds again once that deploy is taken back.
    let home = home();
    home.run(&["deploy", "two", "--label", "two", "--watch", "0s", "--yes"]).ends(ExitCode::Ok);
    let plan = home.run(&["plan", "rollback", "first", "--json"]).ends(ExitCode::Ok).json();
    let deploy = deploying(&home, "three", false);
    home.run(&["apply", plan["id"].as_str().unwrap(), "--yes"]).ends(ExitCode::Ok);
    made_way(deploy, false);
    assert_eq!(uses(&home), "one");
    let history = home.run(&["history", "--json"]).json();
    let ends: Vec<_> = history["operations"].as_array().unwrap().iter().take(2).map(|one| &one["outcome"]).collect();
    assert_eq!(ends, ["done", "put-back"], "{history}");
}

/// DEC-12: the rules may end a deploy as it would end itself, where they may at all.
#[test]
fn dec_12_a_deploy_makes_way_for_the_rules() {
    for killed in [false, true] {
        let home = home();
        let deploy = deploying(&home, "two", killed);
        let major = ["decide", "--execute", "--yes", "--fact", "core_workflow_broken=yes", "--rest-is-fine"];
        home.run(&major).ends(ExitCode::Refused).says(&["only what the rules call critical"]);
        let critical = ["decide", "--execute", "--fact", "data_loss=yes", "--fact", "core_workflow_broken=no"];
        home.run(&[&critical[..], &["--dry-run"]].concat()).says(&["is not over, and is taken back first"]);
        assert_eq!(uses(&home), "two", "nothing has asked it to make way");
        home.run(&[&critical[..], &["--yes"]].concat()).ends(ExitCode::Ok).says(&["put back"]);
        made_way(deploy, killed);
        assert_eq!(uses(&home), "one");
        is_held(&home, "two");
        let status = home.run(&["status"]).out;
        assert!(!status.contains("a rollback was decided"), "it is done: {status}");
    }
}
