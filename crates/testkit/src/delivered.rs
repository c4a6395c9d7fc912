//! An app whose releases lie in folders beside each other, with a link to the one in use. What was started stands in a file,
//! so that a test can see which version runs.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

use lifeboat_model::{
    DeployAsk, Driver, Migrations, Profile, Request, ResourceName, Reversibility, Target, VersionAsk,
};

use crate::World;

/// The command that runs it. It notes each of its calls.
const CONTROL: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$1" >> calls
case $1 in
    start) test -e current/broken && exit 1; cat current/version > running ;;
    stop) echo stopped > running ;;
    smoke) test ! -e current/sick ;;
    rate) cat rate ;;
esac
"#;

/// The world with releases `one` and `two`, of which `one` is in use and runs.
#[must_use]
pub fn with_releases(mut world: World) -> World {
    for version in ["one", "two"] {
        let folder = world.app("releases").join(version);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("version"), version).unwrap();
    }
    std::fs::create_dir_all(world.app("migrations")).unwrap();
    std::fs::write(world.app("control"), CONTROL).unwrap();
    std::fs::set_permissions(world.app("control"), PermissionsExt::from_mode(0o755)).unwrap();
    world.setup.targets = vec![target(&world)];
    run_release(&world, "one");
    world
}

fn target(world: &World) -> Target {
    let words = |word: &str| vec!["./control".to_owned(), word.to_owned()];
    Target {
        name: ResourceName::new("web").unwrap(),
        folder: world.app(""),
        env_file: None,
        stable: None,
        remote: "origin".into(),
        branch: None,
        install: None,
        migrate: None,
        rehearse: None,
        stop: words("stop"),
        start: words("start"),
        url: None,
        probes: vec![],
        questions: vec![],
        log: None,
        trial: None,
        driver: Some(Driver::ReleaseDir { releases: world.app("releases"), current: world.app("current") }),
        tells: None,
        build: None,
        smoke: Some(words("smoke")),
        pass: vec![],
        env_binding: None,
        answer_ms: None,
        command_ms: None,
    }
}

/// Puts a release in use, as somebody would by hand.
pub fn run_release(world: &World, version: &str) {
    let current = world.app("current");
    let _ = std::fs::remove_file(&current);
    std::os::unix::fs::symlink(world.app("releases").join(version), current).unwrap();
    assert!(Command::new(world.app("control")).arg("start").status().unwrap().success());
}

/// Tells the world that its database has migrations in `app/migrations`, and writes them: name and script.
#[must_use]
pub fn with_migrations(mut world: World, files: &[(&str, &str)]) -> World {
    let folder = world.app("migrations");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let migrations = Migrations { folder, lock_timeout_ms: 3_000, statement_timeout_ms: 60_000 };
    world.setup.migrations.insert(ResourceName::new("db").unwrap(), migrations);
    world
}

/// Applies a migration as a tool would: the script, and its row.
pub fn apply(world: &World, name: &str) {
    let script = std::fs::read_to_string(world.app("migrations").join(name)).unwrap();
    let version = name.split('_').next().unwrap();
    world.psql(
        "shop",
        &format!(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version text PRIMARY KEY); BEGIN; {script};
             INSERT INTO schema_migrations VALUES ('{version}'); COMMIT;"
        ),
    );
}

/// A request to seal what runs, with the newest backup there is.
pub fn seal(world: &World, label: &str) -> Request {
    let backup = world.backups().last().map(|backup| backup.id.clone());
    Request::Version { about: VersionAsk::Seal { label: Some(label.into()), backup } }
}

/// A request to say that a release is good.
pub fn good(label: &str) -> Request {
    let state = lifeboat_model::ReleaseState::Good;
    Request::Version { about: VersionAsk::Mark { release: label.into(), state, why: String::new() } }
}

/// A request to deploy a version, with the newest backup there is.
pub fn deploy(world: &World, version: &str) -> Request {
    let backup = world.backups().last().map(|backup| backup.id.clone());
    Request::Version { about: VersionAsk::Deploy(Box::new(DeployAsk { backup, ..ask_for(version) })) }
}

/// What somebody asks for who deploys a version and says nothing else.
pub fn ask_for(version: &str) -> DeployAsk {
    DeployAsk {
        version: Some(version.into()),
        label: Some(format!("v-{version}")),
        backup: None,
        at_least: Reversibility::DownLossless,
        hold: false,
        although_bad: None,
        watch_ms: 10_000,
        tells: None,
        why: String::new(),
    }
}

/// A request for a rollback.
pub fn back(to: Option<&str>, profile: Option<Profile>) -> Request {
    let to = to.map(str::to_owned);
    Request::Version { about: VersionAsk::RollBack { to, profile, why: "a test".into(), backup: None } }
}

/// What runs, and what is in use.
pub(crate) fn look(world: &World) -> String {
    let running = std::fs::read_to_string(world.app("running")).unwrap_or_default();
    let current = std::fs::read_link(world.app("current")).unwrap();
    format!("runs {}; in use {}", running.trim(), current.file_name().unwrap().to_string_lossy())
}

/// The same target in another world's folder.
pub(crate) fn moved(target: &Target, from: &Path, to: &Path) -> Target {
    let path = |path: &Path| path.strip_prefix(from).map_or_else(|_| path.to_owned(), |inside| to.join(inside));
    let driver = target.driver.as_ref().map(|driver| driver.moved(&path));
    Target { folder: path(&target.folder), driver, ..target.clone() }
}
