//! The whole life of a vault in a bucket, with the real restic on the same bucket.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

#[path = "../../io/tests/objects/server.rs"]
#[allow(dead_code, reason = "a part of it is enough here")]
mod server;
mod support;

use std::{process::Command, sync::Arc, time::Duration};

use lifeboat_io::{
    Io, ObjectStore, Stop,
    objects::retry::{Retry, RetryPolicy},
    open_location, parse_location,
    testing::{Fault, Faults, FaultyObjects, MapEnv},
};
use lifeboat_store::vault::{PruneOptions, Vault};
use server::{BUCKET, KEY_ID, SECRET, Server};
use support::{memory::*, *};

fn bucket(server: &Server) -> (Io, Arc<dyn ObjectStore>, String) {
    let env = MapEnv::new([("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET)]);
    let io = Io { env: Arc::new(env), ..Io::system() };
    let place = format!("s3:http://{}/{BUCKET}/shop/vault", server.address);
    let store = open_location(&parse_location(&place).unwrap(), &io).unwrap();
    (io, store, place)
}

fn restic(place: &str, arguments: &[&str]) -> String {
    let output = Command::new("restic")
        .args(["--no-cache", "--repo", place])
        .args(arguments)
        .envs([("RESTIC_PASSWORD", PASSWORD), ("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET)])
        .output()
        .expect("restic is installed");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "restic {arguments:?}: {said}");
    said
}

#[test]
fn a_vault_lives_in_a_bucket() {
    let server = Server::start();
    let (io, store, place) = bucket(&server);
    // restic's check and this server's listings do not get along, not even for a repository that restic made itself: it
    // looks at the files that the server keeps the objects in.
    let folder = server.file("shop/vault").display().to_string();
    let vault = Vault::create(store.clone(), &password(), &io).unwrap();
    let mut contents = Contents::new();
    let [x, y, z] = [1, 2, 3].map(|seed| rows(seed, 600_000));
    let first = back_up(&vault, &[("x", &x), ("y", &y)], &mut contents);
    back_up(&vault, &[("x", &x), ("z", &z)], &mut contents);
    assert!(restic(&folder, &["check", "--read-data"]).contains("no errors were found"));

    let vault = open(store.clone(), &io).unwrap();
    vault.forget(&[first.id]).unwrap();
    let at_once = PruneOptions { grace: Duration::ZERO, ..PruneOptions::default() };
    assert!(vault.prune(&at_once).unwrap().repacked.count > 0);
    assert!(vault.prune(&at_once).unwrap().deleted.count > 0);
    let report = assert_clean(&vault, "pruned");
    assert_eq!((report.marked_packs.count, report.foreign.len()), (0, 0));
    assert_eq!(assert_restores(&vault, &contents, "pruned").len(), 1);
    assert!(restic(&folder, &["check", "--read-data"]).contains("no errors were found"));
    assert!(restic(&place, &["dump", "latest", "/z"]).as_bytes() == z);
    assert!(vault.lock_holders().unwrap().is_empty() && store.list("locks").unwrap().is_empty());
}

#[test]
fn a_line_that_breaks_now_and_then_is_not_noticed() {
    let (io, clock) = doors();
    let server = Server::start();
    // Often enough that each kind of fault happens whatever the names of the objects are.
    let faults = Faults { fail_before: 150, answer_lost: 250, short_list: 150, ..Faults::default() };
    let bad_line = Arc::new(FaultyObjects::new(Arc::new(server.open("vault")), clock, 3, faults));
    let policy = RetryPolicy { tries_max: 20, total_limit: Duration::from_secs(600), ..RetryPolicy::default() };
    let store: Arc<dyn ObjectStore> = Arc::new(Retry::new(bad_line.clone(), &io, &Stop::default(), policy));
    let vault = Vault::create(store, &password(), &io).unwrap();
    let mut contents = Contents::new();
    for seed in 0..6 {
        back_up(&vault, &[("x", &rows(seed, 200_000))], &mut contents);
    }
    assert_clean(&vault, "over a bad line");
    assert_eq!(assert_restores(&vault, &contents, "over a bad line").len(), 6);
    let fired = bad_line.fired();
    for fault in [Fault::FailBefore, Fault::AnswerLost] {
        assert!(fired.contains_key(&fault), "{fault:?} never happened: {fired:?}");
    }
}
