//! The shop is really wrecked: killed with its write-ahead log, held open by a program, on a full disk, beside a damaged
//! vault. Real files, real programs.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::{BackupChoice, FailureKind, OperationState, Request, ResourceName};
use lifeboat_testkit::{
    World,
    world::{backup_of, restore_of},
};

use crate::hands::{bent, only_database, run};

/// The `sqlite3` shell in another process, with the database open. Killed when dropped.
struct App(Child);

impl App {
    fn open(database: &Path) -> App {
        let mut shell = Command::new("sqlite3");
        shell.arg("-batch").arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
        let shell = shell.spawn();
        App(shell.expect("the sqlite3 shell is installed"))
    }

    /// Runs statements and waits until they are done.
    fn run(&mut self, sql: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{sql}\nSELECT 'it is done';").unwrap();
        for line in BufReader::new(self.0.stdout.as_mut().unwrap()).lines() {
            if line.unwrap() == "it is done" {
                return;
            }
        }
        panic!("the shell ended while running {sql}");
    }

    fn kill(mut self) {
        self.0.kill().unwrap(); // SIGKILL
        self.0.wait().unwrap();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `sqlite3` prints.
fn ask(database: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3").arg(database).arg(sql).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn exactly(world: &World, number: usize) -> Request {
    let from = BackupChoice::Exactly(world.backups()[number].id.clone());
    let resource = ResourceName::new("db").unwrap();
    Request::Restore {
        resource,
        from,
        into: None,
        tablespaces: std::collections::BTreeMap::new(),
        without_emergency_backup: None,
        accept_loss: lifeboat_model::AcceptLoss::Shown,
        urgent: None,
        ack: None,
    }
}

const SALE: &str = "INSERT INTO orders (customer, cents, note, created_at)
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
    SELECT 1 + i % 10, i, 'bad ' || i, '2026-02-02' FROM n;";

#[test]
fn rst_08_a_write_ahead_log_that_a_crash_left_never_replays_over_the_restored_database() {
    let world = only_database();
    world.backup();
    let good = world.look().live;
    let mut app = App::open(&world.app("shop.db"));
    app.run("PRAGMA wal_autocheckpoint = 0;");
    app.run(SALE);
    app.kill();
    let wal = world.app("shop.db-wal");
    assert!(fs::metadata(&wal).unwrap().len() > 10_000, "the 600 rows are in the log only");
    let bad = world.look().live;
    assert_ne!(bad, good);

    let restored = world.restore("db");
    assert_eq!(world.look().live, good, "the backup's exact content");
    assert!(!wal.exists(), "the old log went aside with the old file");
    // The app comes back and works: nothing of the old log appears.
    assert_eq!(ask(&world.app("shop.db"), "SELECT count(*) FROM orders WHERE note LIKE 'bad %'"), "0");
    assert_eq!(ask(&world.app("shop.db"), "PRAGMA integrity_check"), "ok");
    assert_eq!(world.look().live, good);

    world.must(&Request::Undo { operation: restored.id });
    assert_eq!(world.look().live, bad, "the old file came back together with its log");
    assert_eq!(ask(&world.app("shop.db"), "SELECT count(*) FROM orders WHERE note LIKE 'bad %'"), "600");
}

#[test]
fn a_stray_log_where_the_database_was_deleted_is_not_replayed_either() {
    let world = only_database();
    world.backup();
    let good = world.look().live;
    let mut app = App::open(&world.app("shop.db"));
    app.run("PRAGMA wal_autocheckpoint = 0;");
    app.run(SALE);
    app.kill();
    fs::remove_file(world.app("shop.db")).unwrap();
    let end = world.run(&restore_of("db")).unwrap();
    let OperationState::PutBack { why: Some(why) } = &end.state else { panic!("{:?}", end.state) };
    assert_eq!(why.kind, FailureKind::Refused);
    assert!(why.to_string().contains("would be replayed into it"), "{why}");
    assert!(!world.app("shop.db").exists() && world.app("shop.db-wal").exists(), "nothing was touched");
    for end in ["-wal", "-shm"] {
        let _ = fs::rename(world.app(&format!("shop.db{end}")), world.app(&format!("away{end}")));
    }
    world.restore("db");
    assert_eq!(world.look().live, good);
}

#[test]
fn a_database_that_another_process_holds_is_not_restored_and_the_process_is_named() {
    let world = only_database();
    world.backup();
    world.sell(1);
    let mut app = App::open(&world.app("shop.db"));
    app.run("SELECT count(*) FROM orders;");
    let refused = world.engine().plan(&restore_of("db")).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    let named = format!("sqlite3 (process {})", app.0.id());
    assert!(refused.message.ends_with(&format!("shop.db is open in {named}")), "{refused}");
    app.kill();

    // Opened after the plan was made: the last look before the swap finds it.
    let engine = world.engine();
    let plan = engine.plan(&restore_of("db")).unwrap();
    let mut app = App::open(&world.app("shop.db"));
    app.run("SELECT count(*) FROM orders;");
    let before = world.look();
    let end = run(&engine, &plan).unwrap();
    let OperationState::PutBack { why: Some(why) } = &end.state else { panic!("{:?}", end.state) };
    assert_eq!(why.kind, FailureKind::Busy);
    assert!(why.to_string().contains(&format!("sqlite3 (process {})", app.0.id())), "{why}");
    assert_eq!(world.look(), before);
    drop(app);
    world.restore("db");
}

fn packs(world: &World) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(world.path("vault/data")).unwrap() {
        let folder = folder.unwrap().path();
        found.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    found
}

/// A world with two backups that share little, and the packs of each.
fn two_backups() -> (World, Vec<PathBuf>) {
    let world = only_database();
    world.backup();
    world.must(&Request::Prove { backup: BackupChoice::Latest, resources: vec![] });
    let first = packs(&world);
    ask(&world.app("shop.db"), "UPDATE orders SET note = hex(randomblob(4000));");
    world.must(&backup_of(&[]));
    let second: Vec<PathBuf> = packs(&world).into_iter().filter(|pack| !first.contains(pack)).collect();
    assert!(!second.is_empty());
    world.sell(1);
    (world, second)
}

#[test]
fn from_a_vault_with_a_damaged_pack_nothing_reaches_the_live_database_and_the_older_backup_still_does() {
    let (world, newer) = two_backups();
    let before = world.look();
    let pack = newer.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut body = fs::read(pack).unwrap();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    fs::write(pack, body).unwrap();
    let end = world.run(&restore_of("db")).unwrap();
    let OperationState::PutBack { why: Some(why) } = &end.state else { panic!("{:?}", end.state) };
    assert_eq!(why.kind, FailureKind::Damaged, "{why}");
    assert!(why.to_string().contains(pack.file_name().unwrap().to_str().unwrap()), "it names the pack: {why}");
    assert!(!end.past_pivot && end.attempts[end.plan.pivot().unwrap()] == 0, "the swap was never begun");
    assert_eq!(world.look(), before, "what is live was not touched");
    world.must(&exactly(&world, 0));
}

#[test]
fn a_pack_that_is_missing_is_found_before_anything_is_begun() {
    let (world, newer) = two_backups();
    let before = world.look();
    let largest = newer.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::remove_file(largest).unwrap();
    match world.run(&restore_of("db")) {
        Err(refused) => assert_eq!(refused.kind, FailureKind::Damaged, "{refused}"),
        Ok(end) => {
            let OperationState::PutBack { why: Some(why) } = &end.state else { panic!("{:?}", end.state) };
            assert_eq!(why.kind, FailureKind::Damaged, "{why}");
            let begun = end.attempts.iter().filter(|attempts| **attempts > 0).count();
            let preflight = end.plan.phases[0].steps.len();
            assert!(begun <= preflight, "{begun} steps were begun, and {preflight} only look");
        }
    }
    assert_eq!(world.look(), before);
    world.must(&exactly(&world, 0));
}

/// Set for the part of a test that runs in a process of its own.
const CHILD: &str = "LIFEBOAT_TEST_CHILD";

/// A limit on the size of files stands in for a full disk, since it needs no rights; but it is for a whole process. So the
/// test runs again in one of its own: there this is true; here it waits for that one's good end.
fn in_a_process_of_its_own(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let script = format!("trap '' XFSZ; exec \"$0\" --exact disasters::{test} --nocapture");
    let mut child = Command::new("sh");
    let child = child.arg("-c").arg(script).arg(std::env::current_exe().unwrap()).env(CHILD, "1").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Lets files of this process grow to so many bytes.
fn limit_files(bytes: &str) {
    let pid = std::process::id().to_string();
    let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
    assert!(set.expect("prlimit of util-linux is installed").success());
}

#[test]
fn a_disk_that_fills_up_while_the_backup_comes_back_leaves_the_live_database_alone() {
    if !in_a_process_of_its_own("a_disk_that_fills_up_while_the_backup_comes_back_leaves_the_live_database_alone") {
        return;
    }
    let world = only_database();
    ask(&world.app("shop.db"), "CREATE TABLE big (x); INSERT INTO big VALUES (randomblob(3000000));");
    world.backup();
    ask(&world.app("shop.db"), "DELETE FROM big; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);");
    assert!(fs::metadata(world.app("shop.db")).unwrap().len() < 500_000);
    let before = world.look();
    limit_files("1000000");
    let end = world.run(&restore_of("db")).unwrap();
    let OperationState::PutBack { why: Some(why) } = &end.state else { panic!("{:?}", end.state) };
    assert_eq!(why.kind, FailureKind::Outside, "{why}");
    let failed = end.attempts.iter().rposition(|attempts| *attempts > 0).unwrap();
    assert_eq!(end.plan.steps().nth(failed).unwrap().id.0, "fetch", "{why}");
    assert_eq!(world.look(), before);
    limit_files("unlimited");
    world.must(&exactly(&world, 0));
    assert_eq!(ask(&world.app("shop.db"), "SELECT length(x) FROM big"), "3000000");
}

#[test]
fn a_journal_that_cannot_be_written_leaves_the_operation_open_and_it_goes_on_later() {
    if !in_a_process_of_its_own("a_journal_that_cannot_be_written_leaves_the_operation_open_and_it_goes_on_later") {
        return;
    }
    for full_at in ["verify-stored", "check-fetched", "check-unused"] {
        let world = only_database();
        world.backup();
        let good = world.look().live;
        world.sell(2);
        let journals = world.state().operations();
        let engine = bent(&world, move |action, _context| {
            if serde_json::to_value(action).unwrap()["do"] == full_at {
                let sizes = fs::read_dir(&journals).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
                limit_files(&sizes.max().unwrap().to_string());
            }
            None
        });
        let plan = engine.plan(&restore_of("db")).unwrap();
        let error = run(&engine, &plan).unwrap_err();
        limit_files("unlimited");
        let id = error.left_open.clone().unwrap_or_else(|| panic!("{full_at}: {error}"));
        assert_eq!(error.failure.kind, FailureKind::Outside, "{full_at}: {error}");
        assert!(error.failure.hint.as_ref().unwrap().ends_with(&format!("lifeboat resume {id}")), "{error:?}");
        assert_ne!(world.look().live, good, "{full_at}: nothing was swapped without a line that says so");
        let done = world.engine().resume(&id, "tester", &Unwatched, &Stop::default()).unwrap();
        assert_eq!((done.state, world.look().live), (OperationState::Done, good), "{full_at}");
    }
}

#[test]
fn a_database_with_a_module_we_do_not_have_comes_back_all_the_same() {
    let world = only_database();
    ask(
        &world.app("shop.db"),
        "PRAGMA writable_schema = ON;
         INSERT INTO sqlite_schema VALUES ('table', 'vectors', 'vectors', 0,
             'CREATE VIRTUAL TABLE vectors USING vec0(embedding float[4])');
         PRAGMA writable_schema = RESET;",
    );
    world.backup();
    let restored = {
        ask(&world.app("shop.db"), "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = delete;");
        ask(&world.app("shop.db"), "DELETE FROM orders;");
        world.restore("db")
    };
    assert_eq!(restored.state, OperationState::Done);
    assert_eq!(ask(&world.app("shop.db"), "SELECT count(*) FROM orders"), "40");
    let sql = "SELECT sql FROM sqlite_schema WHERE name = 'vectors'";
    assert!(ask(&world.app("shop.db"), sql).contains("vec0"));
}

#[test]
fn a_fetched_copy_that_is_touched_before_it_is_compared_is_read_again_and_found_out() {
    let world = only_database();
    world.backup();
    world.sell(2);
    let before = world.look();
    let spoil = |flip: u8| {
        bent(&world, move |action, _context| {
            if let lifeboat_model::Action::CheckFetched { at, .. } = action {
                let mut body = fs::read(at).unwrap();
                let last = body.len() - 1;
                body[last] ^= flip;
                fs::write(at, body).unwrap();
            }
            None
        })
    };
    let changed = spoil(1);
    let failed = run(&changed, &changed.plan(&restore_of("db")).unwrap()).unwrap();
    assert!(matches!(failed.state, OperationState::PutBack { .. }), "{:?}", failed.state);
    assert_eq!(world.look(), before);
    // Touched, and still what it was: that is found out too.
    let same = spoil(0);
    let done = run(&same, &same.plan(&restore_of("db")).unwrap()).unwrap();
    assert_eq!(done.state, OperationState::Done);
}
