//! `doctor`: each thing it looks at, good and not; its exit code.

use lifeboat_io::testing::ScriptedExec;
use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::world::World;

const FILE: &str = "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n\
    [environments.production.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\n";

fn good() -> World {
    let mut world = World::with(FILE);
    world.database("shop.db");
    world.var("LIFEBOAT_VAULT_PASSWORD", "x");
    world
}

/// The finding of this name: outcome, detail, what is lost, what is next.
fn finding(world: &mut World, name: &str) -> [String; 4] {
    let (code, told) = world.json().doctor();
    let document: Value = serde_json::from_str(&told).unwrap();
    let all = document["groups"].as_array().unwrap().iter().flat_map(|group| group["findings"].as_array().unwrap());
    let found = all.clone().find(|finding| finding["name"] == name && finding["outcome"] != "pass");
    let found = found.or_else(|| all.clone().find(|finding| finding["name"] == name));
    let found = found.unwrap_or_else(|| panic!("no {name}: {told} {code:?}"));
    let worst =
        all.map(|finding| finding["outcome"].as_str().unwrap()).fold("pass", |worst, outcome| match (worst, outcome) {
            ("fail", _) | (_, "fail") => "fail",
            ("unknown", _) | (_, "unknown") => "unknown",
            (_, _) => "pass",
        });
    let expected = match worst {
        "pass" => ExitCode::Ok,
        "unknown" => ExitCode::Unknown,
        _ => ExitCode::Refused,
    };
    assert_eq!(code.unwrap(), expected);
    assert_eq!(document["good"], worst);
    ["outcome", "detail", "lost", "next"].map(|key| found[key].as_str().unwrap_or_default().to_owned())
}

#[test]
fn all_is_well_when_all_is_there() {
    let mut world = good();
    let (code, told) = world.doctor();
    assert_eq!(code.unwrap(), ExitCode::Ok, "{told}");
    assert!(told.starts_with("shop/production\n  ok       settings"), "{told}");
    assert!(told.contains(" 0 unknown, 0 failed.\n"), "{told}");
    assert!(finding(&mut world, "vault")[1].contains("there is none at"));
    assert_eq!(finding(&mut world, "vault")[3], "lifeboat backup; the first one makes the vault");
    assert!(finding(&mut world, "vault's disk")[2].contains("a broken disk takes both"));
    assert!(!world.path("vault").exists(), "doctor makes no vault");
}

#[test]
fn settings_that_are_wrong_are_a_finding() {
    let mut world = World::with("version = 1\n[app]\nname = \"[NAME]\"\n");
    let [outcome, detail, lost, next] = finding(&mut world, "settings");
    assert_eq!((outcome.as_str(), lost.as_str()), ("fail", "nothing can be protected"));
    assert!(detail.contains("lifeboat.toml:3: app.name still has the placeholder \"[NAME]\""), "{detail}");
    assert!(next.starts_with("lifeboat config check"), "{next}");
}

#[test]
fn a_resource_that_is_not_what_it_should_be() {
    let mut world = good();
    std::fs::remove_file(world.path("shop.db")).unwrap();
    let [outcome, detail, ..] = finding(&mut world, "db");
    assert_eq!(
        (outcome.as_str(), detail),
        ("fail", format!("there is nothing at {}", world.path("shop.db").display()))
    );
    for (body, word) in [(&b""[..], "empty"), (b"just some text, which is no database at all", "not a SQLite database")]
    {
        std::fs::write(world.path("shop.db"), body).unwrap();
        let [outcome, detail, lost, _] = finding(&mut world, "db");
        assert_eq!((outcome.as_str(), lost.as_str()), ("fail", "no backup of db can be made"), "{word}: {detail}");
    }
}

#[test]
fn a_program_that_has_the_database_open_is_named() {
    let mut world = good();
    let path = world.path("shop.db");
    let mut other = std::process::Command::new("sh")
        .args(["-c", "exec 3<\"$0\"; echo ready; read line", path.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(other.stdout.as_mut().unwrap()), &mut ready).unwrap();
    let [outcome, detail, lost, next] = finding(&mut world, "db in use");
    drop(other.stdin.take());
    other.wait().unwrap();
    assert_eq!((outcome.as_str(), detail), ("pass", format!("sh (process {}) has it open", other.id())));
    assert!(lost.contains("a restore over it is refused") && next.contains("stop and start of db"), "{lost} {next}");
}

#[test]
fn stop_and_start_must_be_programs_that_are_there() {
    let mut world = good();
    world.write("lifeboat.toml", &format!("{FILE}stop = [\"true\"]\nstart = [\"no-such-supervisor\", \"start\"]\n"));
    assert_eq!(finding(&mut world, "db stop")[0], "pass");
    let [outcome, detail, _, next] = finding(&mut world, "db start");
    assert_eq!(
        (outcome.as_str(), detail.as_str()),
        ("fail", "there is no program no-such-supervisor to start it with")
    );
    assert_eq!(next, "install no-such-supervisor, or change start of db");
}

#[test]
fn a_vault_that_cannot_be_opened() {
    let mut world = good();
    let resolved = world.resolve(&[]).unwrap();
    lifeboat::wire::vaults(&resolved, &world.io).create(&resolved.setup.vault).unwrap();
    assert!(finding(&mut world, "vault")[1].contains("opens, and nobody has a lock on it"));
    world.var("LIFEBOAT_VAULT_PASSWORD", "wrong");
    let [outcome, detail, lost, _] = finding(&mut world, "vault");
    assert_eq!((outcome.as_str(), lost.as_str()), ("fail", "no backup can be made, and none be restored"));
    assert!(detail.contains("it came from the variable LIFEBOAT_VAULT_PASSWORD"), "{detail}");

    let mut world = World::with(FILE);
    world.database("shop.db");
    assert!(finding(&mut world, "vault")[1].starts_with("there is no password for the vault"));
    let mut world = World::with(&FILE.replace("location = \"./vault\"", "location = \"s3://shop-backups/vault\""));
    world.database("shop.db");
    let [outcome, detail, _, next] = finding(&mut world, "vault");
    assert_eq!((outcome.as_str(), next.as_str()), ("fail", "set AWS_ACCESS_KEY_ID"), "{detail}");
}

#[test]
fn a_password_that_is_not_safe() {
    let mut world = World::with(&FILE.replace("[vault]\n", "[vault]\npassword = { file = \"./vault/pw\" }\n"));
    world.database("shop.db");
    world.write("vault/pw", "x");
    let (_, told) = world.doctor();
    assert!(told.contains("lies inside the vault it opens"), "{told}");
    assert!(told.contains("can read the password in"), "{told}");
    assert_eq!(finding(&mut world, "password")[0], "fail");
}

#[test]
fn a_state_folder_that_cannot_be_written() {
    let mut world = good();
    world.write("blocked", "a file where a folder should be");
    world.global.state = Some(world.path("blocked/state"));
    let [outcome, _, lost, next] = finding(&mut world, "state");
    assert_eq!((outcome.as_str(), lost.as_str()), ("fail", "nothing can be done: each operation is journaled first"));
    assert!(next.starts_with("--state FOLDER"), "{next}");
}

#[test]
fn a_database_inside_files_would_be_torn() {
    let mut world = good();
    let inside = "[environments.production.resources.all]\nkind = \"files\"\npath = \".\"\n";
    let file = FILE.replace("./vault", "/var/lib/shop-vault");
    world.write("lifeboat.toml", &format!("{file}{inside}"));
    let [outcome, _, lost, next] = finding(&mut world, "all");
    assert_eq!(
        (outcome.as_str(), lost.as_str(), next.as_str()),
        ("fail", "that second copy may be torn", "exclude = [\"shop.db*\"] for all")
    );
    world.write("lifeboat.toml", &format!("{file}{inside}exclude = [\"shop.db*\"]\n"));
    assert_eq!(finding(&mut world, "all")[0], "pass");
}

#[test]
fn a_clock_that_cannot_be_right() {
    let mut world = good();
    world.io.clock = lifeboat_io::testing::twin_io().clock; // it stands at the beginning of 2026; the files are younger
    let [outcome, detail, ..] = finding(&mut world, "clock");
    assert_eq!(outcome, "fail");
    assert!(detail.contains("lifeboat.toml was changed"), "{detail}");
}

#[test]
fn programs_are_told_with_their_versions_and_none_is_needed() {
    let mut world = good();
    world.exec(ScriptedExec::new().on(
        "restic",
        &["version"],
        ScriptedExec::done("restic 0.14.0 compiled with go1.19.8\n"),
    ));
    assert_eq!(
        finding(&mut world, "restic")[1],
        "restic 0.14.0 compiled with go1.19.8; only needed to read a vault without Lifeboat"
    );
    let [outcome, detail, ..] = finding(&mut world, "pg_dump");
    assert_eq!(
        (outcome.as_str(), detail.as_str()),
        ("pass", "not installed; only needed to back up PostgreSQL databases")
    );
}
