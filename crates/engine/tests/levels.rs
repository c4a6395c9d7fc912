//! The emergency levels that concern the application: every plan proven, and what each of them is for.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::{
    BackupChoice, Failure, FailureKind, LevelAsk, Operation, OperationState, Request, StepId, StepState, Trial,
    sync::SyncAsk,
};
use lifeboat_testkit::{
    World,
    app::App,
    code::{commit, git, with_code},
    prove::{Case, prove_plan, prove_steps},
    world::{sql, sql_and_killed},
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

/// EMRG-03: where the mirror's own switch cannot be used, the variable holds changes, and that is looked at.
#[test]
fn emrg_03_changes_are_held_by_a_variable_and_that_is_seen() {
    let mut world = with_code(World::shop().with_mirror(15));
    let link = world.setup.links[0].name.clone();
    world.must(&Request::Sync { link: link.clone(), about: SyncAsk::Attach });
    let held = world.must(&Request::Sync { link: link.clone(), about: SyncAsk::Disable { why: String::new() } });
    assert_eq!(output(&held, "held")["enabled"], false, "level 1 ends with a look");
    world.must(&Request::Sync { link, about: SyncAsk::Enable });
    let hold = level(LevelAsk::Hold { why: "a test".into() });
    let before = std::fs::read_to_string(world.app(".env")).unwrap();
    world.setup.links[0].env_file = Some(world.app(".env"));
    let tried = prove_plan(&Case { world: &world, request: hold.clone(), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let done = world.must(&hold);
    assert_eq!(output(&done, "held")["because"], "SYNC_ENABLED=false");
    assert_eq!(std::fs::read_to_string(world.app(".env")).unwrap(), format!("{before}SYNC_ENABLED=false\n"));
    assert!(!world.engine().mirror(None).unwrap().status().unwrap().enabled);
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(std::fs::read_to_string(world.app(".env")).unwrap(), before);
    assert!(world.engine().mirror(None).unwrap().status().unwrap().enabled);
    // A file of variables that nobody can read may say that nothing is to be delivered.
    std::fs::write(world.app(".env"), b"\xff").unwrap();
    let status = world.engine().mirror(None).unwrap().status().unwrap();
    assert!(!status.enabled && status.reason.contains("cannot be read"), "{status:?}");
}

/// SYNC-31: the app's start gets the variable once, status reminds of it, and undo starts the app as before.
#[test]
fn sync_31_more_memory_for_node_is_remembered_until_it_is_taken_back() {
    let mut world = with_code(World::shop());
    let memory = level(LevelAsk::Memory { mib: 4096, why: "queue too large".into() });
    let tried = prove_plan(&Case { world: &world, request: memory.clone(), undo: false });
    assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    let tells = "echo started with \"$NODE_OPTIONS\" > ../running";
    world.setup.targets[0].start = vec!["sh".into(), "-c".into(), tells.into()];
    let open = || world.engine().look().status().unwrap().open_items;
    assert_eq!(open(), Vec::<String>::new());
    let done = world.must(&memory);
    assert_eq!(file(&world, "running"), "started with --max-old-space-size=4096");
    assert!(
        open()[0].contains("4096 MiB") && open()[0].contains(&format!("lifeboat undo {}", done.id)),
        "{:?}",
        open()
    );
    world.must(&Request::Undo { operation: done.id });
    assert_eq!((file(&world, "running"), open()), ("started with".into(), vec![]));
    // So does whatever else starts it.
    world.must(&memory);
    world.must(&back_to("v1"));
    assert_eq!((file(&world, "running"), open()), ("started with".into(), vec![]));
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

/// Why an operation put everything back.
#[track_caller]
fn put_back(operation: &Operation) -> &Failure {
    let OperationState::PutBack { why: Some(why) } = &operation.state else { panic!("{:?}", operation.state) };
    why
}

/// Why an operation waits for a person, past the swap.
#[track_caller]
fn waits(operation: &Operation) -> &Failure {
    let OperationState::Paused { why } = &operation.state else { panic!("{:?}", operation.state) };
    why
}

/// EMRG-09: a path that does not answer well, and a log that nobody can read, are no pass. The log is read to its end.
#[test]
fn emrg_09_what_cannot_be_seen_to_work_does_not_pass() {
    let mut world = with_code(World::shop());
    let app = App::new(|_, path, _| (if path.starts_with("/api/repair-orders") { 500 } else { 200 }, String::new()));
    world.setup.targets[0].url = Some(app.url());
    world.setup.targets[0].probes = vec!["/api/health".into(), "/api/repair-orders?limit=1".into()];
    let failed = world.run(&back_to("main~1")).unwrap();
    assert!(put_back(&failed).to_string().contains("/api/repair-orders?limit=1 answers with 500"), "{failed:?}");
    assert!(app.asked().contains(&"GET /api/health".to_owned()));

    world.setup.targets[0].probes.clear();
    for (log, wanted) in [("no.log", "is no file"), ("code", "is no file")] {
        world.setup.targets[0].log = Some(world.app(log));
        let plan = world.engine().plan(&back_to("main~1")).unwrap();
        assert!(plan.notes.iter().any(|note| note.contains("is not there")), "told beforehand: {:?}", plan.notes);
        let failed = world.run(&back_to("main~1")).unwrap();
        let why = put_back(&failed);
        assert!(why.to_string().contains("nobody can tell") && why.to_string().contains(wanted), "{why}");
        assert!(why.hint.as_ref().unwrap().contains("correct log of app"), "{why:?}");
    }

    // The first of more than two mebibytes of new lines; what stood there before is another story.
    let code = world.app("code");
    let lines = format!("FATAL: first\n{}", "a line that is well\n".repeat(120_000));
    std::fs::write(code.join("trouble"), lines).unwrap();
    commit(&code, "chatty");
    std::fs::remove_file(code.join("trouble")).unwrap();
    commit(&code, "good");
    world.setup.targets[0].log = Some(world.app("server.log"));
    let failed = world.run(&back_to("HEAD~1")).unwrap();
    assert!(put_back(&failed).to_string().contains("1 new lines"), "{failed:?}");
    world.must(&back_to("v1"));
}

/// A shop with a backup, whose app answers as said; and what the backup holds.
fn tried_shop(answers: impl Fn(&str, &str, &str) -> (u16, String) + Send + Sync + 'static) -> (World, App, String) {
    let mut world = with_code(World::shop());
    world.backup();
    let backed_up = world.look().live["db"].clone();
    world.sell(2);
    let app = App::new(answers);
    is_tried(&mut world, &app);
    (world, app, backed_up)
}

/// The settings say how the app is tried.
fn is_tried(world: &mut World, app: &App) {
    let target = &mut world.setup.targets[0];
    target.url = Some(app.url());
    target.trial = Some(Trial {
        login: "/api/auth/login".into(),
        email_env: "TRIAL_EMAIL".into(),
        password_env: "TRIAL_PASSWORD".into(),
        create: "/api/customers".into(),
        body: "{\"name\":\"a try\"}".into(),
        table: "customers".into(),
    });
    let env = world.app(".env");
    let before = std::fs::read_to_string(&env).unwrap();
    std::fs::write(env, format!("{before}TRIAL_EMAIL=a@b.example\nTRIAL_PASSWORD=secret\n")).unwrap();
}

/// EMRG-22: nobody can log in, so level 5 is not over, and no record was made. Once somebody can, it goes on.
#[test]
fn emrg_22_a_login_that_fails_is_a_level_that_fails() {
    let mended = Arc::new(AtomicBool::new(false));
    let well = mended.clone();
    let live = Arc::new(Mutex::new(PathBuf::new()));
    let file = live.clone();
    let (world, app, backed_up) = tried_shop(move |method, path, _| match (method, path) {
        ("POST", "/api/auth/login") if !well.load(Ordering::SeqCst) => (401, String::new()),
        ("POST", "/api/auth/login") => (200, "{\"token\":\"t\"}".to_owned()),
        ("POST", "/api/customers") => {
            sql(&file.lock().unwrap(), "INSERT INTO customers VALUES (77, 'a try', '')");
            (201, "{\"id\":\"77\"}".to_owned())
        }
        _ => {
            sql(&file.lock().unwrap(), "DELETE FROM customers WHERE id = 77");
            (200, String::new())
        }
    });
    *live.lock().unwrap() = world.app("shop.db");
    let failed = world.run(&recover(&[])).unwrap();
    let why = waits(&failed).to_string();
    assert!(why.contains("POST") && why.contains("/api/auth/login answers with 401"), "{why}");
    assert_eq!(app.asked(), ["POST /api/auth/login"]);
    assert_eq!(world.look().live["db"], backed_up);
    mended.store(true, Ordering::SeqCst);
    let done = world.engine().resume(&failed.id, "test", &Unwatched, &Stop::default()).unwrap();
    assert_eq!(done.state, OperationState::Done);
    assert_eq!(app.asked().len(), 4);
    assert_eq!(world.look().live["db"], backed_up, "the record went again");
}

/// EMRG-22: the app makes a record and does not take it away again: that is said, and what takes it out does.
#[test]
fn emrg_22_a_record_that_stays_is_named_with_what_takes_it_out() {
    for refuses in [true, false] {
        let live = Arc::new(Mutex::new(PathBuf::new()));
        let file = live.clone();
        let (world, app, backed_up) = tried_shop(move |method, path, body| match (method, path) {
            ("POST", "/api/auth/login") => (200, "{\"token\":\"t\"}".to_owned()),
            ("POST", "/api/customers") if body.contains("a try") => {
                sql(&file.lock().unwrap(), "INSERT INTO customers VALUES (77, 'a try', '')");
                (201, "{\"data\":{\"id\":77}}".to_owned())
            }
            ("DELETE", "/api/customers/77") => (if refuses { 405 } else { 200 }, String::new()),
            _ => (404, String::new()),
        });
        *live.lock().unwrap() = world.app("shop.db");
        let failed = world.run(&recover(&[])).unwrap();
        let why = waits(&failed);
        let said = if refuses { "77 that was made to try app is not taken out" } else { "77 of the try is still in" };
        assert!(why.to_string().contains(said), "{why}");
        assert_eq!(app.asked().len(), 3);
        let (_, command) = why.hint.as_ref().unwrap().split_once(": ").unwrap();
        assert!(command.starts_with("sqlite3 "), "{command}");
        assert_ne!(world.look().live["db"], backed_up);
        assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success());
        assert_eq!(world.look().live["db"], backed_up);
    }
}

/// EMRG-22: what the login needs and cannot be read is not told as not set.
#[test]
fn emrg_22_variables_that_cannot_be_read_are_told_as_such() {
    for (env, wanted) in [(&b"\xff\xfe is no text"[..], "cannot be read"), (b"", "TRIAL_EMAIL is not set")] {
        let (world, _app, _) = tried_shop(|_, _, _| (200, String::new()));
        std::fs::write(world.app(".env"), env).unwrap();
        let failed = world.run(&recover(&[])).unwrap();
        let why = waits(&failed).to_string();
        assert!(why.contains("TRIAL_EMAIL") && why.contains(wanted), "{why}");
    }
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

/// EMRG-22: the record with which the app is tried never reaches the cloud, not for a moment, and does not wait for it either.
#[test]
fn emrg_22_the_record_of_the_try_never_reaches_the_cloud() {
    let mut world = lost_shop();
    let live = world.app("shop.db");
    let app = App::new(move |method, path, _| match (method, path) {
        ("POST", "/api/auth/login") => (200, "{\"token\":\"t\"}".to_owned()),
        ("POST", "/api/customers") => {
            sql(&live, "INSERT INTO customers VALUES (77, 'a try', '')");
            (201, "{\"id\":\"77\"}".to_owned())
        }
        _ => {
            sql(&live, "DELETE FROM customers WHERE id = 77");
            (200, String::new())
        }
    });
    is_tried(&mut world, &app);
    world.psql(
        "shop",
        "CREATE TABLE public.came (id bigint);
         CREATE FUNCTION came() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.came VALUES (NEW.id); RETURN NEW; END';
         CREATE TRIGGER came BEFORE INSERT OR UPDATE ON mirror.customers FOR EACH ROW EXECUTE FUNCTION came()",
    );
    world.must(&recover(&[]));
    assert!(app.asked().iter().any(|asked| asked == "POST /api/customers"), "{:?}", app.asked());
    let mut mirror = world.engine().mirror(None).unwrap();
    assert!(mirror.status().unwrap().enabled);
    mirror.drain(&Stop::default()).unwrap();
    assert_eq!(mirror.status().unwrap().queue.queue_size, 0);
    sql(&world.app("shop.db"), "INSERT INTO customers VALUES (78, 'a customer', '')");
    mirror.drain(&Stop::default()).unwrap();
    let came = world.psql(
        "shop",
        "SELECT count(*) FILTER (WHERE id = 77) || ' ' || count(*) FILTER (WHERE id = 78) FROM public.came",
    );
    assert_eq!(came.trim(), "0 1", "and whoever comes afterwards does");
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

/// SLV-06, C-06, X-04: what only the cloud had is listed, a look says what of it the file lacks, and that comes into the file and
/// so to the cloud again; what the file has stays as it is.
#[test]
fn slv_06_rows_that_were_newer_in_the_cloud_are_listed_and_come_into_the_file() {
    let world = lost_shop();
    world.psql("shop", "ALTER TABLE mirror.customers ADD COLUMN of_the_cloud text DEFAULT 'x'");
    let done = world.must(&recover(&["application"]));
    let saved = output(&done, "salvage");
    assert_eq!(saved["tables"], serde_json::json!({ "customers": { "only_there": 1, "different": 1 } }), "{saved}");
    assert_eq!(world.psql("shop", "SELECT count(*) FROM mirror.customers WHERE id = 91").trim(), "0");
    let file = std::path::PathBuf::from(saved["saved"].as_str().unwrap());
    assert!(done.plan.notes.iter().any(|note| note.contains("lifeboat sync merge") && note.contains("--dry-run")));
    let merge = Request::Sync { link: world.setup.links[0].name.clone(), about: SyncAsk::Merge { file: file.clone() } };
    let read = |question: &str| -> String {
        let asked = std::process::Command::new("sqlite3").arg(world.app("shop.db")).arg(question).output().unwrap();
        assert!(asked.status.success(), "{asked:?}");
        String::from_utf8(asked.stdout).unwrap().trim().to_owned()
    };
    let content = "SELECT group_concat(id || '=' || name, ' ') FROM (SELECT * FROM customers ORDER BY id)";
    let was = read(content);
    let plan = world.engine().plan(&merge).unwrap();
    let told = "customers: 1 rows that the file lacks, 1 with other values there, which stay, 0 that it has, 0 that it cannot hold: \
                other values id=2; new id=91; without of_the_cloud, which the file does not have";
    let other = "customers: 1 rows that the file lacks, 1 with other values there, which stay, 0 that it has, 0 that it cannot hold: \
                 new id=91; other values id=2; without of_the_cloud, which the file does not have";
    assert!(plan.notes.iter().any(|note| note == told || note == other), "{:?}", plan.notes);
    assert_eq!(read(content), was, "a look changes nothing");
    // One row that cannot be: none comes.
    let text = std::fs::read_to_string(&file).unwrap();
    let bad = world.path("bad.ndjson");
    std::fs::write(
        &bad,
        format!(
            "{text}{{\"table\":\"orders\",\"row\":{{\"id\":777,\"customer\":88888,\"cents\":1,\"created_at\":\"\"}}}}\n"
        ),
    )
    .unwrap();
    let all = Request::Sync { link: world.setup.links[0].name.clone(), about: SyncAsk::Merge { file: bad } };
    let refused = world.run(&all);
    assert!(!matches!(&refused, Ok(done) if done.state == lifeboat_model::OperationState::Done), "{refused:?}");
    assert_eq!(read(content), was);
    // Rows of a table that the file lacks stay outside, and the record says so.
    let more = world.path("more.ndjson");
    std::fs::write(&more, format!("{text}{{\"table\":\"gone\",\"row\":{{\"id\":1}}}}\n")).unwrap();
    let all = Request::Sync { link: world.setup.links[0].name.clone(), about: SyncAsk::Merge { file: more } };
    let merged = world.must(&all);
    assert!(format!("{:?}", merged.steps).contains("the file has no such table"), "{:?}", merged.steps);
    assert_eq!(read(content), format!("{was} 91=after the backup"));
    let mut mirror = world.engine().mirror(None).unwrap();
    mirror.drain(&Stop::default()).unwrap();
    assert_eq!(world.psql("shop", "SELECT name FROM mirror.customers WHERE id IN (91)").trim(), "after the backup");
    // Once more there is nothing to do.
    let again = world.engine().plan(&merge).unwrap();
    assert_eq!(again.steps().count(), 0, "{:?}", again.notes);
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

/// EMRG-24: who has the app's port after it was stopped is a stranger: it is named, left alone, and nothing is changed.
#[test]
fn emrg_24_a_stranger_on_the_port_is_named_and_survives() {
    let mut world = with_code(World::shop());
    let listens = "import socket, sys\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True); sys.stdin.read()";
    let mut stranger = std::process::Command::new("python3")
        .args(["-c", listens])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stranger.stdout.take().unwrap()), &mut port).unwrap();
    world.setup.targets[0].url = Some(format!("http://localhost:{}/", port.trim()));
    let failed = world.run(&back_to("v1")).unwrap();
    let why = put_back(&failed);
    assert!(why.to_string().contains(&format!("python3 (process {}) has it", stranger.id())), "{why}");
    assert_eq!(why.kind, FailureKind::Busy);
    assert!(file(&world, "running").starts_with("three"), "it was started again");
    assert!(stranger.try_wait().unwrap().is_none(), "it lives");
    drop(stranger.stdin.take());
    stranger.wait().unwrap();
    world.must(&back_to("v1"));
}

/// EMRG-20: a damaged database goes aside with all that belongs to it, under one stamp.
#[test]
fn emrg_20_what_is_damaged_goes_aside_with_its_wal_under_one_stamp() {
    let world = with_code(World::shop());
    world.backup();
    let wanted = world.look().live["db"].clone();
    let live = world.app("shop.db");
    // The app was killed: what it wrote last is in the WAL, and the file itself is damaged.
    sql_and_killed(&live, "INSERT INTO settings VALUES ('after', 1)");
    let mut bytes = std::fs::read(&live).unwrap();
    bytes[..16].copy_from_slice(b"no database here");
    std::fs::write(&live, bytes).unwrap();
    let done = world.must(&recover(&[]));
    assert_eq!(world.look().live["db"], wanted);
    let names =
        std::fs::read_dir(world.app("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside: BTreeSet<String> = names.filter(|name| name.starts_with("shop.db.CORRUPTED.")).collect();
    let Some(first) = aside.first() else { panic!("{:?}", done.plan) };
    assert_eq!(aside, ["", "-shm", "-wal"].iter().map(|end| format!("{first}{end}")).collect());
}

/// EMRG-21: what does not start beside the live one never replaces it, and the live one is not even stopped.
#[test]
fn emrg_21_a_version_that_does_not_start_changes_nothing() {
    let mut world = with_code(World::shop());
    let code = world.app("code");
    std::fs::write(code.join("trouble"), "does not start\n").unwrap();
    commit(&code, "bad");
    git(&code, &["push", "--quiet", "origin", "main"]);
    world.setup.targets[0].rehearse = Some(vec!["./run".into(), "fresh".into()]);
    world.backup();
    world.sell(3);
    let before = world.look();
    let bad = level(LevelAsk::Recover {
        from: BackupChoice::Latest,
        to: Some("main".into()),
        without: vec![],
        watch_ms: 0,
        why: String::new(),
    });
    let failed = world.run(&bad).unwrap();
    assert!(put_back(&failed).to_string().contains("./run fresh"), "{failed:?}");
    let stopped = failed.plan.steps().zip(&failed.steps).find(|(step, _)| step.id.0 == "stop").unwrap().1;
    assert!(matches!(stopped, StepState::Planned), "{stopped:?}");
    assert_eq!(world.look().live, before.live);
    // The newest of the remote is bad as well; what runs is the one that is known to be good.
    world.must(&recover(&[]));
    assert_eq!(file(&world, "running"), "one");
}

/// EMRG-21, D-57: a host that has never seen the good version takes it from the remote, whose newest is bad, into a folder of its
/// own; the live folder is as it was until the version was tried there.
#[test]
fn emrg_21_the_good_version_comes_from_the_remote_whose_newest_is_bad() {
    let mut world = with_code(World::shop());
    let (code, other) = (world.app("code"), world.path("another clone"));
    let remote = world.path("remote.git");
    git(&world.path(""), &["clone", "--quiet", &remote.display().to_string(), &other.display().to_string()]);
    commit(&other, "four");
    git(&other, &["tag", "--annotate", "--message", "it is good", "good"]);
    let good = git(&other, &["rev-parse", "HEAD"]);
    std::fs::write(other.join("trouble"), "does not start\n").unwrap();
    commit(&other, "bad");
    git(&other, &["push", "--quiet", "origin", "main", "good"]);
    let before = git(&code, &["rev-parse", "HEAD"]);
    let seen = world.app("seen");
    let (live, there) = (code.display(), seen.display());
    let looks = format!(
        "(git -C '{live}' rev-parse HEAD; git -C '{live}' cat-file -e {good} && echo known) > '{there}' 2>&1; ./run fresh"
    );
    let target = &mut world.setup.targets[0];
    (target.stable, target.rehearse) = (Some("good".into()), Some(vec!["sh".into(), "-c".into(), looks]));
    world.backup();
    world.sell(3);

    let done = world.must(&recover(&[]));
    assert_eq!(file(&world, "running"), "four");
    assert_eq!(git(&code, &["rev-parse", "HEAD"]), good);
    assert_eq!(output(&done, "fresh")["remote"], "origin");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(
        seen.starts_with(&before) && !seen.contains("known\n"),
        "the live folder was touched before it was tried: {seen}"
    );

    // Its commit is known here now, and a remote that is away is no reason to wait: the copy comes from the live repository.
    std::fs::rename(&remote, world.path("away.git")).unwrap();
    world.setup.targets[0].stable = Some(good);
    let done = world.must(&recover(&[]));
    assert_eq!(
        (&output(&done, "fresh")["remote"], file(&world, "running").as_str()),
        (&serde_json::Value::Null, "four")
    );
    world.setup.targets[0].stable = Some("better".into());
    let refused = world.run(&recover(&[])).unwrap_err();
    assert!(refused.to_string().contains("knows no version better"), "{refused}");
    assert!(refused.to_string().contains("origin could not be asked"), "{refused}");
}
