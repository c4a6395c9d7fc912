//! What goes by way of a platform, proven at every step: one commit taken back on the branch that is built, the push included, and
//! everything deployed once more.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_model::{PlatformAsk, Request, Tells, VersionAsk};
use lifeboat_testkit::{
    World,
    code::{git, with_code},
    delivered::{run_release, with_releases},
    prove::{Case, prove_plan},
};

/// APP-10: failed, killed and repeated at every step it ends as it was or as it was meant; what was pushed is taken back by
/// another commit.
#[test]
fn app_10_a_commit_is_wholly_taken_back_or_not_at_all() {
    let mut world = with_code(World::shop());
    let code = world.app("code");
    std::fs::write(code.join("harm"), "x").unwrap();
    git(&code, &["add", "harm"]);
    git(&code, &["commit", "--quiet", "--message", "harm"]);
    std::fs::write(code.join("later"), "x").unwrap();
    git(&code, &["add", "later"]);
    git(&code, &["commit", "--quiet", "--message", "later"]);
    git(&code, &["push", "--quiet", "origin", "main"]);
    let built = "printf '{\"build\":\"%s\"}' \"$(git --git-dir ../../remote.git rev-parse main)\"";
    world.setup.targets[0].tells = Some(Tells {
        path: "/version.json".into(),
        command: Some(vec!["sh".into(), "-c".into(), built.into()]),
        version: "/build".into(),
        instance: None,
        file: None,
    });
    let ask = PlatformAsk::TakeOut {
        target: None,
        commit: "main~1".into(),
        branch: None,
        wait_ms: 60_000,
        why: String::new(),
    };
    let request = Request::Version { about: VersionAsk::Platform(Box::new(ask)) };
    let tried = prove_plan(&Case { world: &world, request: request.clone(), undo: true });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let done = world.must(&request);
    let files = || git(&world.path("remote.git"), &["ls-tree", "--name-only", "main"]);
    assert!(!files().contains("harm") && files().contains("later"), "{}", files());
    // Taken back, and that again.
    let undone = world.must(&Request::Undo { operation: done.id });
    assert!(files().contains("harm"), "{}", files());
    git(&code, &["fetch", "--quiet", "origin"]);
    world.must(&Request::Undo { operation: undone.id });
    assert!(!files().contains("harm"), "{}", files());
}

/// APP-14: a redeploy that fails, is killed or repeated at any step is gone on with, or left with what ran running again.
#[test]
fn app_14_a_redeploy_is_gone_on_with_from_every_step() {
    let world = with_releases(World::shop());
    run_release(&world, "one");
    let ask = PlatformAsk::Redeploy { targets: Vec::new(), why: "a test".into() };
    let request = Request::Version { about: VersionAsk::Platform(Box::new(ask)) };
    let tried = prove_plan(&Case { world: &world, request, undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}
