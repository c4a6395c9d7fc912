//! The app's code: a folder under git with a remote, and the commands that stop and start it. What it was started with
//! stands in a file, so that a test can see which version runs with which variables.

use std::{path::Path, process::Command};

use lifeboat_model::{ResourceName, Target};

use crate::World;

/// Of every version: the command that runs it.
const RUN: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
case $1 in
    start) echo "$(cat version) $(grep ENABLE_SUPABASE ../.env)" > ../running; grep -h . trouble >> ../server.log 2>/dev/null ;;
    stop) echo stopped > ../running ;;
    install) cat version > ../installed ;;
    fresh) test -f ../application/run && grep -q . version && ! grep -qs . trouble || exit 1 ;;
esac
exit 0
"#;

/// The world with code: versions `one` (the tag `v1`), `two`, and the merge `three`, which is checked out and runs. What is
/// made as [`trouble`] says so in its log.
#[must_use]
pub fn with_code(mut world: World) -> World {
    let code = world.app("code");
    std::fs::create_dir_all(&code).unwrap();
    git(&code, &["init", "--quiet", "--initial-branch=main", "."]);
    std::fs::write(code.join("run"), RUN).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(code.join("run"), mode).unwrap();
    commit(&code, "one");
    git(&code, &["tag", "v1"]);
    commit(&code, "two");
    git(&code, &["checkout", "--quiet", "-b", "side", "v1"]);
    std::fs::write(code.join("aside"), "x").unwrap();
    git(&code, &["add", "--all"]);
    git(&code, &["commit", "--quiet", "--message", "aside"]);
    git(&code, &["checkout", "--quiet", "main"]);
    git(&code, &["merge", "--quiet", "--no-ff", "--no-commit", "side"]);
    commit(&code, "three");
    let remote = world.path("remote.git");
    git(&code, &["init", "--quiet", "--bare", "--initial-branch=main", &remote.display().to_string()]);
    git(&code, &["remote", "add", "origin", "../../remote.git"]);
    git(&code, &["push", "--quiet", "origin", "main", "v1"]);
    world.setup.targets = vec![target(&world)];
    let started = Command::new(code.join("run")).arg("start").status().unwrap();
    assert!(started.success());
    std::fs::copy(code.join("version"), world.app("installed")).unwrap();
    world
}

/// The target of a world with code.
pub(crate) fn target(world: &World) -> Target {
    let words = |word: &str| vec!["./run".to_owned(), word.to_owned()];
    Target {
        name: ResourceName::new("app").unwrap(),
        folder: world.app("code"),
        env_file: Some(world.app(".env")),
        stable: Some("v1".into()),
        remote: "origin".into(),
        branch: None,
        install: Some(words("install")),
        migrate: None,
        rehearse: None,
        stop: words("stop"),
        start: words("start"),
        url: None,
        probes: vec![],
        questions: vec![],
        log: Some(world.app("server.log")),
        trial: None,
        driver: None,
        tells: None,
        build: None,
        smoke: None,
        pass: vec![],
        env_binding: None,
        answer_ms: None,
        command_ms: None,
    }
}

/// Commits a version of this name.
pub fn commit(code: &Path, version: &str) {
    std::fs::write(code.join("version"), version).unwrap();
    git(code, &["add", "--all"]);
    git(code, &["commit", "--quiet", "--message", version]);
}

/// Runs git, and gives what it printed.
pub fn git(folder: &Path, words: &[&str]) -> String {
    let mut call = Command::new("git");
    call.args(words).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        call.env(format!("GIT_{who}_NAME"), "shop").env(format!("GIT_{who}_EMAIL"), "shop@localhost");
        call.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
    }
    let output = call.output().unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What runs, what is checked out, and which branches there are and at the remote; commits by what is in them, since their
/// names tell the time.
pub(crate) fn look(world: &World) -> String {
    let code = world.app("code");
    let read = |name: &str| std::fs::read_to_string(world.app(name)).unwrap_or_default().trim().to_owned();
    let tree = |name: &str| git(&code, &["rev-parse", &format!("{name}^{{tree}}")]);
    let branches = |folder: &Path| {
        let all = git(folder, &["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads"]);
        let names: Vec<String> = all
            .lines()
            .map(|name| format!("{} {}", plain(name), git(folder, &["rev-parse", &format!("{name}^{{tree}}")])))
            .collect();
        names.join(", ")
    };
    format!(
        "runs {}; installed {}; version {}; HEAD {} on {}; branches {}; remote {}; dirty: {}",
        read("running"),
        read("installed"),
        read("code/version"),
        tree("HEAD"),
        git(&code, &["branch", "--show-current"]),
        branches(&code),
        branches(&world.path("remote.git")),
        git(&code, &["status", "--porcelain"]),
    )
}

/// A branch without the name of the plan that made it.
fn plain(name: &str) -> &str {
    name.split("-p-").next().unwrap_or(name)
}
