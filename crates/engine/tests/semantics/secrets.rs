//! No secret is written where somebody could read it.

use std::{fs, path::Path};

use lifeboat_model::{BackupChoice, Request, Writer};
use lifeboat_testkit::{
    World,
    world::{PASSWORD, restore_of},
};

/// The value of a variable in the shop's env file.
const CANARY: &str = "sk_live_canary";

fn leaks(folder: &Path, found: &mut Vec<String>, looked_at: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            leaks(&path, found, looked_at);
            continue;
        }
        *looked_at += 1;
        let body = fs::read(&path).unwrap();
        for secret in [CANARY, PASSWORD] {
            if body.windows(secret.len()).any(|part| part == secret.as_bytes()) {
                found.push(format!("{secret} in {}", path.display()));
            }
        }
    }
}

#[test]
fn canary_secrets_are_in_no_file_of_the_state_and_in_no_object_of_the_vault() {
    let mut world = World::shop();
    assert!(fs::read_to_string(world.app(".env")).unwrap().contains(CANARY));
    world.backup();
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    fs::write(world.app(".env"), "STRIPE_KEY=other\n").unwrap();
    let restored = world.restore("env");
    assert!(fs::read_to_string(world.app(".env")).unwrap().contains(CANARY));
    world.must(&Request::Undo { operation: restored.id });
    // A program that prints a secret while it fails.
    fs::write(world.path("password"), PASSWORD).unwrap();
    let says_it = format!("cat {} >&2; exit 1", world.path("password").display());
    let stop = vec!["sh".to_owned(), "-c".to_owned(), says_it];
    world.setup.resources[0].writer = Some(Writer { stop, start: vec!["true".into()] });
    let failed = world.run(&restore_of("db")).unwrap();
    assert!(
        format!("{:?}", failed.state).contains("•••"),
        "what it said is told without the secret: {:?}",
        failed.state
    );
    let (mut found, mut looked_at) = (Vec::new(), 0);
    leaks(&world.path("state"), &mut found, &mut looked_at);
    leaks(&world.path("vault"), &mut found, &mut looked_at);
    assert!(looked_at > 15, "{looked_at} files");
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn names_of_variables_are_told_and_values_never() {
    let world = World::shop();
    let operation = world.backup();
    let told = format!("{operation:?}");
    assert!(!told.contains(CANARY) && !told.contains(PASSWORD));
    let plan = serde_json::to_string(&operation.plan).unwrap();
    assert!(!plan.contains(CANARY));
}
