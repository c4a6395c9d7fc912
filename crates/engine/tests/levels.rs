//! The emergency levels that concern the application: every plan proven, and what each of them is for.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::{
    BackupChoice, FailureKind, LevelAsk, Operation, OperationState, Request, StepId, StepState, sync::SyncAsk,
};
use lifeboat_testkit::{
    World,
    code::{commit, git, with_code},
    prove::{Case, prove_plan, prove_steps},
    world::sql,
};

fn level(about: LevelAsk) -> Request {
    Request::Level { target: None, link: None, about }
}

fn local_only() -> Request {
    level(LevelAsk::LocalOnly { why: "a test".into() })
}

fn back_to(to: &str) -> Request {
    level(LevelAsk::RollBack { to: to.into(), hard: false, why: String::new() })
}

fn stable() -> Request {
    level(LevelAsk::Stable { to: None, why: String::new() })
}

fn recover(without: &[&str]) -> Request {
    let without = without.iter().map(|word| (*word).to_owned()).collect();
    level(LevelAsk::Recover { from: BackupChoice::Latest, to: None, without, watch_ms: 20_000, why: String::new() })
}

/// What cannot be pushed is told, and nothing else happens: the remote differs then.
fn is_not_push(step: &str) -> bool {
    step != "push"
}

fn file(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.app(name)).unwrap().trim().to_owned()
}

/// EMRG-06: one line however often, and the exact former file comes back.
#[test]
fn emrg_06_a_variable_is_set_once_and_the_former_file_comes_back() {
    let world = with_code(World::shop());
    let before = "# no end of the last line\nENABLE_SUPABASE=true\nDEBUG=1";
    std::fs::write(world.app(".env"), before).unwrap();
    assert!(std::process::Command::new(world.app("code/run")).arg("start").status().unwrap().success());
    let tried = prove_plan(&Case { world: &world, request: local_only(), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let done = world.must(&local_only());
    assert_eq!(file(&world, "running"), "three ENABLE_SUPABASE=false");
    world.must(&local_only());
    assert_eq!(file(&world, ".env"), "# no end of the last line\nENABLE_SUPABASE=false\nDEBUG=1");
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(std::fs::read_to_string(world.app(".env")).unwrap(), before);
    assert_eq!(file(&world, "running"), "three ENABLE_SUPABASE=true");
}

/// EMRG-07: by a commit that is added, a merge as the newest one included; it is pushed when all is well.
#[test]
fn emrg_07_back_to_a_commit_by_another_commit() {
    let world = with_code(World::shop());
    let code = world.app("code");
    let tried = prove_steps(&Case { world: &world, request: back_to("main~1"), undo: false }, is_not_push);
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let head = git(&code, &["rev-parse", "HEAD"]);
    world.must(&back_to("v1"));
    assert_eq!(file(&world, "running"), "one", "what ran before is in running: {}", file(&world, "running"));
    assert_eq!(file(&world, "installed"), "one");
    assert_eq!(git(&code, &["rev-parse", "HEAD^"]), head, "nothing was taken out");
    let remote = git(&world.path("remote.git"), &["rev-parse", "main"]);
    assert_eq!(git(&code, &["rev-parse", "HEAD"]), remote);
    // Back to where it is, to another line, to nothing, over changes by hand: refused, and nothing is touched.
    for (to, wanted) in [("HEAD", "already"), ("nothing", "no version nothing")] {
        let refused = world.run(&back_to(to)).unwrap_err();
        assert!(refused.to_string().contains(wanted), "{refused}");
    }
    std::fs::write(code.join("version"), "by hand").unwrap();
    let refused = world.run(&back_to("HEAD~1")).unwrap();
    assert!(matches!(refused.state, OperationState::PutBack { .. }), "{:?}", refused.state);
    assert_eq!(file(&world, "code/version"), "by hand");
}

/// EMRG-07: a hard reset is asked for, and what leaves the branch stays in one of its own. It can be undone.
#[test]
fn emrg_07_a_hard_reset_keeps_what_leaves() {
    let world = with_code(World::shop());
    let code = world.app("code");
    let request = level(LevelAsk::RollBack { to: "v1".into(), hard: true, why: String::new() });
    prove_plan(&Case { world: &world, request: request.clone(), undo: false });
    let head = git(&code, &["rev-parse", "HEAD"]);
    let done = world.must(&request);
    let branches = git(&code, &["for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads/backup-*"]);
    assert!(branches.ends_with(&head), "{branches}");
    world.must(&Request::Undo { operation: done.id });
    assert_eq!((git(&code, &["rev-parse", "HEAD"]), file(&world, "running")), (head, "three".into()));
}

/// EMRG-08: twice on one day gives two branches, and what runs is the stable version.
#[test]
fn emrg_08_the_stable_version_runs_and_what_was_there_is_kept_and_pushed() {
    let world = with_code(World::shop());
    prove_steps(&Case { world: &world, request: stable(), undo: false }, is_not_push);
    world.must(&stable());
    assert_eq!(file(&world, "running"), "one");
    git(&world.app("code"), &["checkout", "--quiet", "main"]);
    world.must(&stable());
    let remote =
        git(&world.path("remote.git"), &["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/backup-*"]);
    assert_eq!(remote.lines().count(), 2, "{remote}");
}

/// EMRG-09: an app that tells of errors after it was rolled back is put back, and no push has happened.
#[test]
fn emrg_09_what_does_not_work_afterwards_is_put_back() {
    let world = with_code(World::shop());
    let code = world.app("code");
    std::fs::write(code.join("trouble"), "ERROR: cannot open the database\n").unwrap();
    commit(&code, "bad");
    std::fs::remove_file(code.join("trouble")).unwrap();
    commit(&code, "good");
    std::fs::copy(code.join("version"), world.app("installed")).unwrap();
    std::fs::write(world.app("server.log"), "an ERROR of yesterday\n").unwrap();
    let before = world.look();
    let failed = world.run(&back_to("HEAD~1")).unwrap();
    let OperationState::PutBack { why: Some(why) } = &failed.state else { panic!("{:?}", failed.state) };
    assert!(why.to_string().contains("1 new lines"), "{why}");
    let (mut before, mut after) = (before.live, world.look().live);
    // It was stopped and started again, with the version that runs now.
    for look in [&mut before, &mut after] {
        *look.get_mut("code").unwrap() = look["code"].replace("runs three", "runs good");
    }
    assert_eq!(after, before);
}

fn output<'a>(operation: &'a Operation, step: &str) -> &'a serde_json::Value {
    operation.output(&StepId(step.into())).unwrap()
}

/// EMRG-20, 21: database and application, tried beside the live ones; whatever goes wrong, they are wholly old or new.
#[test]
fn emrg_20_21_a_database_and_a_version_come_back_together() {
    let world = with_code(World::shop());
    world.backup();
    world.sell(9);
    // What it shares with a restore is proven there.
    let own = ["fresh", "stop", "version", "install", "set-aside", "put-in-place", "start"];
    let tried = prove_steps(&Case { world: &world, request: recover(&[]), undo: false }, |step| own.contains(&step));
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let before = world.look();
    let done = world.must(&recover(&[]));
    assert_eq!((file(&world, "running"), file(&world, "installed")), ("one".into(), "one".into()));
    assert_ne!(world.look().live["db"], before.live["db"]);
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(world.look().live["db"], before.live["db"]);
}

/// EMRG-19: what is missing is named, and gone on without only when somebody says so.
#[test]
fn emrg_19_what_is_missing_is_named() {
    let mut world = with_code(World::shop());
    let refused = world.run(&recover(&[])).unwrap_err();
    assert!(refused.to_string().contains("backup"), "{refused}");
    world.backup();
    world.setup.targets[0].stable = None;
    let refused = world.run(&recover(&[])).unwrap_err();
    assert!(refused.to_string().contains("known to be good"), "{refused}");
    assert!(refused.hint.unwrap().contains("--without application"));
    world.must(&recover(&["application"]));
    let refused = world.run(&recover(&["luck"])).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Usage);
}

/// A mirrored shop: a backup, then rows that only the cloud has by now, since the file went back.
fn lost_shop() -> World {
    let world = with_code(World::shop().with_mirror(15));
    let link = world.setup.links[0].name.clone();
    world.must(&Request::Sync { link, about: SyncAsk::Attach });
    world.backup();
    sql(
        &world.app("shop.db"),
        "INSERT INTO customers VALUES (91, 'after the backup', ''); UPDATE customers SET name = 'new name' WHERE id = 2;",
    );
    world.engine().mirror(None).unwrap().drain(&Stop::default()).unwrap();
    assert_eq!(world.psql("shop", "SELECT count(*) FROM mirror.customers WHERE id = 91").trim(), "1");
    world
}

/// EMRG-23: the mirror is off before the app starts, rows that only the cloud has are saved before anything there changes,
/// and it is switched on only when both sides are seen to be equal.
#[test]
fn emrg_23_what_only_the_cloud_has_is_saved_before_it_is_made_equal() {
    let world = lost_shop();
    let order: Vec<String> =
        world.engine().plan(&recover(&[])).unwrap().steps().map(|step| step.id.to_string()).collect();
    let at = |id: &str| order.iter().position(|one| one == id).unwrap_or_else(|| panic!("{id}: {order:?}"));
    assert!(at("sync-off") < at("stop") && at("put-in-place") < at("start") && at("start") < at("salvage"));
    assert!(at("salvage") < at("resync") && at("compare") < at("sync-on"), "{order:?}");
    let done = world.must(&recover(&[]));
    let saved = output(&done, "salvage");
    assert_eq!((saved["only_there"].as_u64(), saved["different"].as_u64()), (Some(1), Some(1)), "{saved}");
    let lines = std::fs::read_to_string(saved["saved"].as_str().unwrap()).unwrap();
    assert!(lines.contains("after the backup") && lines.contains("new name"), "{lines}");
    assert_eq!(world.psql("shop", "SELECT count(*) FROM mirror.customers").trim(), "10");
    let mut mirror = world.engine().mirror(None).unwrap();
    assert!(mirror.status().unwrap().enabled);
    assert!(mirror.compare(&[], &Unwatched, &Stop::default()).unwrap().is_equal());
    assert!(done.steps.iter().all(|state| matches!(state, StepState::Done { .. })), "{:?}", done.steps);
    let phases = &done.plan.phases;
    assert_eq!(phases.iter().filter_map(|phase| phase.budget_ms).sum::<u64>(), 7_200_000);
}

/// The same, where each step about the cloud fails, is killed, and is done twice.
#[test]
fn emrg_23_the_cloud_is_made_equal_whatever_happens() {
    let world = lost_shop();
    let about_cloud = ["sync-off", "attach", "salvage", "resync", "compare", "sync-on", "watch"];
    let tried = prove_steps(&Case { world: &world, request: recover(&["application"]), undo: false }, |step| {
        about_cloud.contains(&step)
    });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
}
