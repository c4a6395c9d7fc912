//! The swap, against real programs that hold, crash and come back, and with a crash at every rename.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at real files and start real programs")]

mod helpers;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use helpers::{Shell, capture_now, crashed_with_wal, hash, inspect_now, names, sql, with};
use lifeboat_io::{
    Stop,
    holders::{Hold, LockError, WholeLock, holders, lock_holder},
    place::{
        PlaceError, PlaceState, Thing::Database, Thing::Plain, bring_back, put_in_place, put_in_place_state, set_aside,
        set_aside_state, take_away,
    },
};
use tempfile::{TempDir, tempdir};

/// A folder with `app.db`, and the names a swap uses.
struct Place {
    folder: TempDir,
    live: PathBuf,
    kept: PathBuf,
    aside: PathBuf,
    stop: Stop,
}

fn place() -> Place {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    Place { live: at("app.db"), kept: at("app.db.kept"), aside: at("app.db.new"), stop: Stop::default(), folder }
}

impl Place {
    fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

/// A small good database at rest.
fn good_copy(at: &Path) {
    let folder = tempdir().unwrap();
    let source = folder.path().join("source.db");
    sql(
        &source,
        "PRAGMA journal_mode=WAL; CREATE TABLE t(n INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES(1, 'good'), (2, 'good');",
    );
    capture_now(&source, at).unwrap();
}

#[test]
fn rst_08_an_old_wal_does_not_replay_over_what_is_put_in_place_and_the_old_database_stays_whole() {
    let place = place();
    crashed_with_wal(&place.live);
    good_copy(&place.aside);
    let wanted = (hash(&place.aside), inspect_now(&place.aside));
    set_aside(Database, &place.live, &place.kept, &place.stop).unwrap();
    assert_eq!(place.names(), ["app.db.kept", "app.db.kept-shm", "app.db.kept-wal", "app.db.new"]);
    put_in_place(Database, &place.aside, &place.live, Some(&place.kept), &place.stop).unwrap();
    assert_eq!((hash(&place.live), inspect_now(&place.live)), wanted);
    // The app comes back and sees exactly the copy; the old one still has what only its WAL held.
    assert_eq!(sql(&place.live, "SELECT v, count(*) FROM t GROUP BY v; PRAGMA integrity_check;"), ["good|2", "ok"]);
    assert_eq!(sql(&place.kept, "SELECT v, count(*) FROM t GROUP BY v; PRAGMA integrity_check;"), ["bad|600", "ok"]);
}

#[test]
fn rst_08_without_setting_the_wal_aside_the_bad_state_would_come_back() {
    // The control for the test above: what a swap of only the main file does.
    let place = place();
    crashed_with_wal(&place.live);
    fs::copy(&place.live, &place.aside).unwrap();
    fs::rename(&place.live, &place.kept).unwrap();
    let refused = put_in_place(Database, &place.aside, &place.live, None, &place.stop).unwrap_err();
    assert!(matches!(&refused, PlaceError::Stray { path } if path.ends_with("app.db-wal")), "{refused}");
    fs::rename(&place.aside, &place.live).unwrap();
    assert_eq!(sql(&place.live, "SELECT v, count(*) FROM t GROUP BY v; PRAGMA integrity_check;"), ["bad|600", "ok"]);
}

/// The names of a set-aside that crashed after so many renames.
fn after_renames(place: &Place, count: usize) {
    for suffix in ["-wal", "-shm", ""].into_iter().take(count) {
        fs::rename(with(&place.live, suffix), with(&place.kept, suffix)).unwrap();
    }
}

#[test]
fn rst_08_a_crash_at_any_rename_of_setting_aside_goes_on_or_goes_back() {
    for crash_after in 0..=3 {
        for back in [false, true] {
            let place = place();
            crashed_with_wal(&place.live);
            after_renames(&place, crash_after);
            let state = set_aside_state(Database, &place.live, &place.kept);
            let expected = [PlaceState::NotStarted, PlaceState::Partial, PlaceState::Partial, PlaceState::Done];
            assert_eq!(state, expected[crash_after]);
            let whole = if back {
                bring_back(Database, &place.live, &place.kept, &place.stop).unwrap();
                bring_back(Database, &place.live, &place.kept, &place.stop).unwrap();
                assert_eq!(set_aside_state(Database, &place.live, &place.kept), PlaceState::NotStarted);
                &place.live
            } else {
                set_aside(Database, &place.live, &place.kept, &place.stop).unwrap();
                set_aside(Database, &place.live, &place.kept, &place.stop).unwrap();
                assert_eq!(set_aside_state(Database, &place.live, &place.kept), PlaceState::Done);
                &place.kept
            };
            assert_eq!(place.names().len(), 3, "{crash_after} {back}: {:?}", place.names());
            assert_eq!(sql(whole, "SELECT count(*) FROM t;"), ["600"], "{crash_after} {back}");
        }
    }
}

#[test]
fn rst_08_a_crash_at_any_rename_of_bringing_back_goes_on() {
    for crash_after in 0..=3 {
        let place = place();
        crashed_with_wal(&place.live);
        set_aside(Database, &place.live, &place.kept, &place.stop).unwrap();
        for suffix in ["", "-shm", "-wal"].into_iter().take(crash_after) {
            fs::rename(with(&place.kept, suffix), with(&place.live, suffix)).unwrap();
        }
        bring_back(Database, &place.live, &place.kept, &place.stop).unwrap();
        assert_eq!(place.names(), ["app.db", "app.db-shm", "app.db-wal"]);
        assert_eq!(sql(&place.live, "SELECT count(*) FROM t;"), ["600"]);
    }
}

#[test]
fn a_hot_journal_goes_with_its_database_and_is_still_rolled_back() {
    let place = place();
    sql(
        &place.live,
        "CREATE TABLE t(n INTEGER PRIMARY KEY, v TEXT);
         WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 5000) INSERT INTO t SELECT n, 'whole' FROM c;",
    );
    let mut app = Shell::open(&place.live);
    app.run("PRAGMA cache_size=5; BEGIN; UPDATE t SET v = 'half done';");
    app.crash();
    set_aside(Database, &place.live, &place.kept, &place.stop).unwrap();
    assert_eq!(place.names(), ["app.db.kept", "app.db.kept-journal"]);
    bring_back(Database, &place.live, &place.kept, &place.stop).unwrap();
    assert_eq!(place.names(), ["app.db", "app.db-journal"]);
    set_aside(Database, &place.live, &place.kept, &place.stop).unwrap();
    assert_eq!(sql(&place.kept, "SELECT v, count(*) FROM t GROUP BY v;"), ["whole|5000"]);
}

#[test]
fn a_copy_that_is_not_at_rest_is_not_put_in_place() {
    let place = place();
    crashed_with_wal(&place.aside);
    let refused = put_in_place(Database, &place.aside, &place.live, None, &place.stop).unwrap_err();
    assert!(matches!(&refused, PlaceError::Stray { path } if path.ends_with("app.db.new-wal")), "{refused}");
    assert!(!place.live.exists());
}

#[test]
fn processes_that_may_not_be_looked_at_are_told_as_unseen_not_as_none() {
    let place = place();
    let mut app = Shell::open(&place.live);
    app.run("CREATE TABLE t(a); BEGIN IMMEDIATE;");
    let live = &place.live;
    let (euid, pid) = (rustix::process::geteuid(), app.pid());
    let seen = std::thread::scope(|scope| {
        let look = || {
            if euid.is_root() {
                let nobody = rustix::process::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap(); // of this thread only
            }
            holders(live).unwrap()
        };
        fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        scope.spawn(look).join().unwrap()
    });
    // Its descriptors are hidden from nobody, its lock is not; either way it is not overlooked.
    let told = seen.found.iter().map(|holder| holder.process.pid).chain(seen.unseen.iter().map(|process| process.pid));
    assert!(told.into_iter().any(|told| told == pid), "{seen:?}");
    app.run("COMMIT;");
}

#[test]
fn a_program_that_started_on_the_half_is_noticed_and_nothing_is_mixed() {
    let place = place();
    crashed_with_wal(&place.live);
    after_renames(&place, 1);
    // The app starts between the renames, and works with a database without its WAL.
    sql(&place.live, "PRAGMA journal_mode=DELETE; INSERT INTO t VALUES(1, 'new');");
    let before = place.names();
    for refused in [
        bring_back(Database, &place.live, &place.kept, &place.stop).unwrap_err(),
        set_aside(Database, &place.live, &place.kept, &place.stop).unwrap_err(),
    ] {
        assert!(matches!(refused, PlaceError::Parted { .. }), "{refused}");
    }
    assert_eq!(place.names(), before);
}

#[test]
fn a_holder_in_another_process_is_refused_by_name_whatever_it_does() {
    for (mode, work) in [("DELETE", "SELECT 1;"), ("WAL", "SELECT * FROM t;"), ("DELETE", "BEGIN IMMEDIATE;")] {
        let place = place();
        let mut app = Shell::open(&place.live);
        app.run(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t(a); {work}"));
        let before = place.names();
        let refused = set_aside(Database, &place.live, &place.kept, &place.stop).unwrap_err();
        let wanted = format!("is in use by sqlite3 (process {}); stop it first", app.pid());
        assert!(refused.to_string().ends_with(&wanted), "{mode} {work}: {refused}");
        assert_eq!(place.names(), before);
        let found = holders(&place.live).unwrap();
        assert!(found.found.iter().any(|holder| holder.how == Hold::Open(place.live.clone())), "{found:?}");
        app.close();
        assert!(holders(&place.live).unwrap().found.is_empty());
        set_aside(Database, &place.live, &place.kept, &place.stop).unwrap();
    }
}

#[test]
fn the_whole_lock_keeps_sqlite_out_in_both_modes_and_names_who_is_in() {
    for mode in ["WAL", "DELETE"] {
        let place = place();
        let mut app = Shell::open(&place.live);
        app.run(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t(a);"));
        app.run("BEGIN IMMEDIATE;");
        match WholeLock::take(&place.live).unwrap_err() {
            LockError::Held { process, .. } => assert_eq!((process.pid, process.name.as_str()), (app.pid(), "sqlite3")),
            other => panic!("{other}"),
        }
        assert_eq!(lock_holder(&place.live).unwrap().map(|process| process.pid), Some(app.pid()));
        app.run("COMMIT;");
        let idle = lock_holder(&place.live).unwrap().map(|process| process.pid);
        assert_eq!(idle, (mode == "WAL").then(|| app.pid()), "an idle connection shows itself in WAL mode only");
        app.close();
        assert_eq!(lock_holder(&place.live).unwrap(), None);
        let lock = WholeLock::take(&place.live).unwrap();
        assert!(matches!(WholeLock::take(&place.live).unwrap_err(), LockError::OwnUse { .. }));
        let out = std::process::Command::new("sqlite3").arg(&place.live).arg("SELECT * FROM t;").output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains("database is locked"), "{mode}: {said}");
        drop(lock);
        assert_eq!(sql(&place.live, "SELECT count(*) FROM t;"), ["0"]);
    }
}

#[test]
fn what_an_app_created_meanwhile_is_not_overwritten_but_moved_away_and_told() {
    let place = place();
    crashed_with_wal(&place.live);
    set_aside(Database, &place.live, &place.kept, &place.stop).unwrap();
    sql(&place.live, "CREATE TABLE appeared(a); INSERT INTO appeared VALUES(1);");
    good_copy(&place.aside);
    let occupied = put_in_place(Database, &place.aside, &place.live, None, &place.stop).unwrap_err();
    assert!(matches!(&occupied, PlaceError::Occupied { path } if *path == place.live), "{occupied}");
    let occupied = set_aside(Database, &place.live, &place.kept, &place.stop).unwrap_err();
    assert!(matches!(occupied, PlaceError::Occupied { .. }), "{occupied}");
    let moved = bring_back(Database, &place.live, &place.kept, &place.stop).unwrap();
    let third = with(&place.live, ".found-1");
    assert_eq!(moved.moved_away, [(place.live.clone(), third.clone())]);
    assert_eq!(sql(&place.live, "SELECT count(*) FROM t;"), ["600"]);
    assert_eq!(sql(&third, "SELECT count(*) FROM appeared;"), ["1"]);
}

#[test]
fn a_whole_swap_is_undone_and_each_of_its_steps_can_be_repeated() {
    let place = place();
    crashed_with_wal(&place.live);
    good_copy(&place.aside);
    fs::set_permissions(&place.live, fs::Permissions::from_mode(0o640)).unwrap();
    let _ = rustix::fs::chown(&place.live, None, Some(rustix::fs::Gid::from_raw(12_345))); // only root may
    let (mode, group) = (fs::metadata(&place.live).unwrap().mode(), fs::metadata(&place.live).unwrap().gid());
    assert_eq!(put_in_place_state(&place.aside, &place.live), PlaceState::Unknown);
    for _ in 0..2 {
        set_aside(Database, &place.live, &place.kept, &place.stop).unwrap();
    }
    assert_eq!(put_in_place_state(&place.aside, &place.live), PlaceState::NotStarted);
    for _ in 0..2 {
        put_in_place(Database, &place.aside, &place.live, Some(&place.kept), &place.stop).unwrap();
    }
    assert_eq!(put_in_place_state(&place.aside, &place.live), PlaceState::Done);
    assert_eq!(set_aside_state(Database, &place.live, &place.kept), PlaceState::Done);
    let dressed = fs::metadata(&place.live).unwrap();
    assert_eq!((dressed.mode(), dressed.gid()), (mode, group));
    // The app ran on it, and died with a WAL of its own: that goes with it.
    let mut app = Shell::open(&place.live);
    app.run("INSERT INTO t VALUES(3, 'since');");
    let held = take_away(Database, &place.live, &place.aside, &place.stop).unwrap_err();
    assert!(matches!(held, PlaceError::Held { .. }), "{held}");
    app.crash();
    for _ in 0..2 {
        take_away(Database, &place.live, &place.aside, &place.stop).unwrap();
    }
    for _ in 0..2 {
        bring_back(Database, &place.live, &place.kept, &place.stop).unwrap();
    }
    assert_eq!(sql(&place.live, "SELECT count(*) FROM t;"), ["600"]);
    assert_eq!(sql(&place.aside, "SELECT count(*) FROM t;"), ["3"]);
}

#[test]
fn plain_files_and_folders_move_too_open_or_not() {
    let place = place();
    fs::create_dir(&place.live).unwrap();
    fs::write(place.live.join("x"), "old").unwrap();
    let _open = fs::File::open(place.live.join("x")).unwrap();
    fs::create_dir(&place.aside).unwrap();
    fs::write(place.aside.join("x"), "new").unwrap();
    set_aside(Plain, &place.live, &place.kept, &place.stop).unwrap();
    put_in_place(Plain, &place.aside, &place.live, Some(&place.kept), &place.stop).unwrap();
    assert_eq!(fs::read(place.live.join("x")).unwrap(), b"new");
    take_away(Plain, &place.live, &place.aside, &place.stop).unwrap();
    bring_back(Plain, &place.live, &place.kept, &place.stop).unwrap();
    assert_eq!(fs::read(place.live.join("x")).unwrap(), b"old");
}

#[test]
fn what_cannot_be_moved_is_refused_before_anything_is() {
    let place = place();
    let at = |name: &str| place.folder.path().join(name);
    let go = |live: &Path, kept: &Path| set_aside(Database, live, kept, &place.stop).unwrap_err();
    assert!(matches!(go(&place.live, &place.kept), PlaceError::Missing { .. }));
    fs::write(&place.live, "x").unwrap();
    std::os::unix::fs::symlink("app.db", at("link")).unwrap();
    assert!(matches!(go(&at("link"), &at("kept")), PlaceError::Link { .. }));
    assert!(matches!(go(&place.live, Path::new("/tmp/elsewhere")), PlaceError::NotTogether { .. }));
    let stop = Stop::default();
    stop.now();
    assert!(matches!(set_aside(Database, &place.live, &place.kept, &stop), Err(PlaceError::Stopped(_))));
    assert_eq!(place.names(), ["app.db", "link"]);
}
