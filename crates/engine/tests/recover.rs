//! Losing the host loses no history, and losing Lifeboat loses no data.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::{fs, process::Command};

use lifeboat_model::{BackupChoice, BackupMark, Request};
use lifeboat_testkit::{
    World,
    world::{PASSWORD, backup_of, restore_of},
};

fn busy_world() -> World {
    let world = World::shop();
    world.backup();
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    world.sell(3);
    world.must(&restore_of("db"));
    let backup = world.backups()[0].id.clone();
    world.must(&Request::Mark { backup, mark: BackupMark::Hold { why: "the auditors want it".into() } });
    world
}

#[test]
fn a_lost_host_gets_its_history_back_from_the_vault_alone() {
    let mut world = busy_world();
    let file = world.path("lifeboat.toml");
    fs::write(&file, "version = 1 # the settings").unwrap();
    world.setup.settings_file = Some(file);
    world.must(&backup_of(&["db"]));
    let engine = world.engine();
    let history = engine.look().operations(100).unwrap();
    let proofs = engine.catalog().unwrap().proofs(None).unwrap();
    let backups = world.backups();
    assert!(history.len() >= 5 && !proofs.is_empty());
    drop(engine);

    fs::remove_dir_all(world.path("state")).unwrap();
    let engine = world.engine();
    assert!(engine.look().operations(100).unwrap().is_empty());
    let recovered = engine.recover().unwrap();
    assert_eq!(recovered.journals.len(), history.len());
    assert_eq!(recovered.unusable, vec![]);
    assert_eq!(recovered.settings.as_deref(), Some("version = 1 # the settings"));
    assert_eq!(engine.look().operations(100).unwrap(), history);
    assert_eq!(engine.catalog().unwrap().proofs(None).unwrap(), proofs);
    assert_eq!(world.backups(), backups, "marks and proofs of backups come back too");

    let again = engine.recover().unwrap();
    assert_eq!((again.journals.len(), again.known), (0, history.len()), "what is here is left alone");
}

#[test]
fn an_undo_still_works_after_the_state_was_lost() {
    let world = busy_world();
    let before = world.look().live;
    world.sell(2);
    let sold = world.look().live;
    let restored = world.must(&restore_of("db"));
    assert_eq!(world.look().live["db"], before["db"], "the newest good backup is still the first one");
    fs::remove_dir_all(world.path("state")).unwrap();
    world.engine().recover().unwrap();
    world.must(&Request::Undo { operation: restored.id });
    assert_eq!(world.look().live, sold);
}

#[test]
fn the_kit_restores_everything_with_restic_and_sqlite3_alone() {
    let mut world = World::shop();
    world.setup.vault = world.path("vault").display().to_string();
    world.sell(7);
    let meant = world.look().live;
    world.backup();
    let kit = world.engine().kit().unwrap();
    let page = kit.iter().find(|(name, _)| *name == "recovery.html").unwrap();
    assert!(page.1.contains("<h1>Recovery kit of shop/production</h1>") && page.1.contains("<table>"), "{}", page.1);
    for (name, text) in &kit {
        assert!(!text.contains(PASSWORD), "{name} holds the password");
        fs::write(world.path(name), text).unwrap();
    }
    for gone in ["shop.db", ".env"] {
        fs::write(world.app(gone), "ruined").unwrap();
    }
    fs::remove_dir_all(world.app("uploads")).unwrap();

    let script = Command::new("sh")
        .arg(world.path("restore.sh"))
        .current_dir(world.path(""))
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&script.stdout).into_owned() + &String::from_utf8_lossy(&script.stderr);
    assert!(script.status.success(), "{said}");
    assert!(said.contains("\nok\n"), "integrity_check says ok: {said}");
    assert_eq!(world.look().live, meant, "{said}");
    assert_eq!(fs::read_to_string(world.app("shop.db.broken")).unwrap(), "ruined", "what was there is kept");
}
