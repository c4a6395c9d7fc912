//! Programs are started, limited, broken off and outlived as the door promises. Real programs throughout.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests watch the outside from outside")]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lifeboat_io::{
    Exec, ExecError, Invocation, Stop, SystemExec,
    lease::{self, Claim, LockError},
};
use lifeboat_model::Tri;

const MINUTE: Duration = Duration::from_secs(60);

fn shell(script: &str) -> Invocation {
    Invocation::new("sh", MINUTE).args(["-c", script])
}

fn run(what: &Invocation) -> lifeboat_io::Exit {
    SystemExec.run(what, None, &Stop::default()).unwrap()
}

/// Waits until something is so; a minute without it fails the test.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < MINUTE, "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_running(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn number_in(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok()
}

#[test]
fn code_and_both_outputs_come_back() {
    let exit = run(&shell("echo out; echo err >&2; exit 3"));
    assert_eq!((exit.code, exit.ok()), (3, false));
    assert_eq!((exit.stdout_text().as_str(), exit.stderr_text().as_str()), ("out", "err"));
    assert!(!exit.stdout_cut);
    assert_eq!(run(&shell("kill -TERM $$")).code, 128 + 15, "as a shell says it");
}

#[test]
fn a_program_gets_a_short_environment_and_what_it_is_given() {
    let exit = run(&Invocation::new("env", MINUTE).env("PGPASSWORD", "s3cret"));
    let text = exit.stdout_text();
    let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| !["HOME", "TZ", "TMPDIR", "USER"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["LANG", "PATH", "PGPASSWORD"], "cargo's own variables are not passed on");
    assert!(text.contains("LANG=C.UTF-8"), "{text}");
}

#[test]
fn secrets_are_not_shown() {
    let what = Invocation::new("psql", MINUTE).args(["-c", "select 'a'"]).env("PGPASSWORD", "s3cret");
    assert_eq!(what.to_string(), r"psql -c 'select '\''a'\'''");
    let shown = format!("{what:?}");
    assert!(shown.contains("PGPASSWORD") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn standard_input_is_given_whole_or_closed() {
    let body = vec![b'x'; 1 << 20]; // more than a pipe holds, to a program that answers before it has read all
    let exit = SystemExec.run(&Invocation::new("cat", MINUTE), Some(&body), &Stop::default()).unwrap();
    assert!(exit.stdout_tail == body);
    assert_eq!(run(&shell("cat; echo end")).stdout_text(), "end");
    let unread = SystemExec.run(&shell("exit 0"), Some(&body), &Stop::default()).unwrap();
    assert!(unread.ok(), "a program need not read its input");
}

#[test]
fn only_the_end_of_long_output_is_kept() {
    let exit = run(&shell("yes 0123456 | head -c 9000000; printf END; head -c 200000 /dev/zero >&2; printf end >&2"));
    assert_eq!(exit.stdout_tail.len(), lifeboat_io::exec::STDOUT_TAIL_BYTES_MAX);
    assert!(exit.stdout_cut && exit.stdout_tail.ends_with(b"END"));
    assert_eq!(exit.stderr_tail.len(), lifeboat_io::exec::STDERR_TAIL_BYTES_MAX);
    assert!(exit.stderr_tail.ends_with(b"end"));
}

#[test]
fn the_folder_is_the_one_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let exit = run(&Invocation::new("pwd", MINUTE).folder(folder.path()));
    assert_eq!(PathBuf::from(exit.stdout_text()), folder.path().canonicalize().unwrap());
}

#[test]
fn a_program_that_is_not_there_is_told_apart() {
    let error = SystemExec.run(&Invocation::new("no-such-program", MINUTE), None, &Stop::default()).unwrap_err();
    assert!(error.is_missing_program(), "{error:?}");
    assert_eq!(error.to_string(), "cannot start no-such-program");
}

#[test]
fn the_limit_ends_the_whole_group_even_one_that_will_not_listen() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; sleep 600 & echo $! > inner; echo talk >&2; while :; do sleep 1; done";
    let what = Invocation { limit: Duration::from_millis(300), ..shell(script).folder(folder.path()) };
    let began = Instant::now();
    match SystemExec.run(&what, None, &Stop::default()).unwrap_err() {
        ExecError::TimedOut { limit, stderr_tail, .. } => {
            assert_eq!((limit, stderr_tail.as_slice()), (what.limit, b"talk\n".as_slice()));
        }
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    let inner = number_in(&folder.path().join("inner")).unwrap();
    until("the inner program to end", || (!is_running(inner)).then_some(()));
}

#[test]
fn breaking_off_ends_the_program() {
    let stop = Stop::default();
    let asked = stop.clone();
    let helper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        asked.now();
    });
    let error = SystemExec.run(&shell("sleep 600"), None, &stop).unwrap_err();
    assert!(matches!(error, ExecError::Stopped { .. }), "{error:?}");
    helper.join().unwrap();
    let error = SystemExec.run(&shell("exit 0"), None, &stop).unwrap_err();
    assert!(matches!(error, ExecError::Stopped { .. }), "nothing is started any more: {error:?}");
}

#[test]
fn a_daemon_left_behind_with_our_pipes_holds_up_nobody() {
    let exit = run(&shell("sleep 600 & echo $!"));
    assert!(exit.ok() && exit.took < Duration::from_secs(30));
    let daemon: i32 = exit.stdout_text().parse().unwrap();
    assert!(is_running(daemon), "what a program leaves behind on purpose goes on");
    end(daemon);
}

#[test]
fn under_a_lock_that_is_not_held_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let what = shell("touch ran").folder(folder.path()).under_lock(&lock);
    let error = SystemExec.run(&what, None, &Stop::default()).unwrap_err();
    assert!(matches!(error, ExecError::LockNotHeld { .. }), "{error:?}");
    let held = lease::take(&lock, &claim("a test")).unwrap();
    assert!(run(&what).ok());
    drop(held);
    assert!(SystemExec.run(&what, None, &Stop::default()).is_err(), "freed again");
}

fn claim(why: &str) -> Claim {
    Claim {
        who: "ann".into(),
        host: "a1".into(),
        since: "2026-11-20T02:11:07Z".parse().unwrap(),
        operation: Some("o-31".into()),
        why: why.into(),
        makes_way: false,
    }
}

/// The variable that turns the test below into the process that will be killed.
const ROLE: &str = "LIFEBOAT_TEST_VICTIM";

/// Works under a lock. By itself a short piece of work; started by the test below, work that only a kill ends.
#[test]
fn works_under_a_lock() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, script) = match std::env::var_os(ROLE) {
        None => (temporary.path().to_owned(), "echo $$ > child"),
        Some(folder) => (PathBuf::from(folder), "sleep 600 & echo $! > grandchild; echo $$ > child; wait"),
    };
    let lock = lease::take(&folder.join("lock"), &claim("work")).unwrap();
    let exit = run(&shell(script).folder(&folder).under_lock(lock.path()));
    assert!(exit.ok() && number_in(&folder.join("child")).is_some());
}

#[test]
fn after_kill_9_no_child_is_left_and_the_lock_stays_busy_until_the_last_descendant_ends() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "works_under_a_lock"])
        .env(ROLE, folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let child = until("the child", || number_in(&at("child")));
    let grandchild = number_in(&at("grandchild")).unwrap();

    let LockError::Held(held) = lease::take(&at("lock"), &claim("second")).unwrap_err() else { panic!("not held") };
    assert_eq!(held.alive, Tri::Pass, "{held}");
    assert_eq!(held.note.as_ref().unwrap().process.id, victim.id());
    assert!(is_running(child) && is_running(grandchild));

    victim.kill().unwrap(); // SIGKILL
    victim.wait().unwrap();
    until("the child to die with its parent", || (!is_running(child)).then_some(()));
    assert!(is_running(grandchild), "the signal reaches the direct child only");
    let LockError::Held(held) = lease::take(&at("lock"), &claim("second")).unwrap_err() else { panic!("not held") };
    assert_eq!(held.alive, Tri::Fail, "{held}");
    let text = held.to_string();
    assert!(text.contains("ann on a1") && text.contains("o-31") && text.contains("has ended"), "{text}");

    end(grandchild);
    let lock = until("the lock", || lease::take(&at("lock"), &claim("second")).ok());
    assert_eq!(lock.epoch(), 2);
}

fn end(process: i32) {
    let process = rustix::process::Pid::from_raw(process).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
}
