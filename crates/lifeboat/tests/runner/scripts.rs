//! What other programs run: `backup --copy-to`, `shims install`, `schedule show`.

use std::process::{Command, Stdio};

use lifeboat_model::ExitCode;

use crate::home::{Home, Ran};

/// Runs a shell command in the app's folder, with the program on its path.
fn shell(home: &Home, line: &str) -> Ran {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_lifeboat"));
    let path = std::env::join_paths(
        std::iter::once(program.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(home.app()).stdin(Stdio::null()).env_clear();
    let as_always = home.command(&[]);
    command.envs(as_always.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", path.unwrap());
    home.ran(&[line], command.output().unwrap())
}

fn created(ran: &Ran) -> String {
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 1, "{ran:?}");
    lines[0].strip_prefix("Backup created: ").unwrap().to_owned()
}

fn is_stamped(path: &str) -> bool {
    let Some(stamp) = path.strip_prefix("backups/database-pre-change-").and_then(|rest| rest.strip_suffix(".sqlite"))
    else {
        return false;
    };
    stamp.len() >= 15
        && stamp[..15].bytes().enumerate().all(|(at, byte)| if at == 8 { byte == b'-' } else { byte.is_ascii_digit() })
}

/// BKP-11, BKP-21, BKP-22, CMP-01, C-08.
#[test]
fn the_documented_script_makes_a_verified_file_each_time() {
    let home = Home::shop();
    home.run(&["shims", "install"])
        .ends(ExitCode::Ok)
        .says(&["Wrote ./scripts/backup-now.sh and ./scripts/db-validate-all.sh."]);
    let mut paths = Vec::new();
    for orders in [40, 43, 46] {
        // Several within one second: none takes the place of another.
        let ran = shell(&home, "./scripts/backup-now.sh").ends(ExitCode::Ok);
        let path = created(&ran);
        assert!(is_stamped(&path), "{path}");
        for file in [home.path(&path), home.path("shop.db.backup")] {
            let db = rusqlite::Connection::open(file).unwrap();
            assert_eq!(db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(), "ok");
            assert_eq!(db.query_row("SELECT count(*) FROM orders", [], |row| row.get::<_, u32>(0)).unwrap(), orders);
        }
        paths.push(path);
        home.sell(3);
    }
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 3);
    // From another folder too, and as one document for a program.
    let ran = shell(&home, "cd / && \"$OLDPWD\"/scripts/backup-now.sh --json").ends(ExitCode::Ok);
    assert_eq!(ran.json()["schema"], "lifeboat/backup-copy@1");
    // The file can be taken back into the vault, and says the time that its backup has.
    home.run(&["backups", "adopt", &paths[0], "--for", "db"]).ends(ExitCode::Ok);
}

#[test]
fn a_script_that_is_there_stays_as_it_is() {
    let home = Home::shop();
    std::fs::create_dir(home.path("scripts")).unwrap();
    home.write("scripts/backup-now.sh", "#!/bin/sh\necho mine\n");
    let before = home.everything();
    home.run(&["shims", "install"]).ends(ExitCode::Refused).says(&["stays as it is", "rm ./scripts/backup-now.sh"]);
    assert!(home.everything() == before);
}

/// BKP-11: a folder that cannot be written ends in an error, and nothing says that a backup was created.
#[test]
fn a_copy_that_cannot_be_written_is_not_reported() {
    let home = Home::shop();
    let copy = ["backup", "db", "--copy-to", "backups/x-YYYYMMDD.sqlite", "--alias"];
    // A file where the folder should be: nobody can write there, root neither.
    home.write("backups", "in the way");
    let ran = home.run(&copy).ends(ExitCode::Refused);
    assert!(!ran.out.contains("created"), "{ran:?}");
    std::fs::remove_file(home.path("backups")).unwrap();
    // Somebody has the former copy open: its -wal would be replayed over the new one.
    home.write("shop.db.backup-wal", "x");
    let ran = home.run(&copy).ends(ExitCode::Refused).says(&["shop.db.backup-wal"]);
    assert!(!ran.out.contains("created") && !home.path("shop.db.backup").exists(), "{ran:?}");
    std::fs::remove_file(home.path("shop.db.backup-wal")).unwrap();
    home.run(&["backup", "db", "--alias"]).ends(ExitCode::Usage);
    home.run(&[&copy[..], &["--dry-run"]].concat()).ends(ExitCode::Ok);
    assert!(std::fs::read_dir(home.path("backups")).is_ok_and(|mut folder| folder.next().is_none()));
}

/// CMP-03: the lines work as cron runs them, in a folder whose name has a percent sign too.
#[test]
fn lines_for_cron_work_as_cron_runs_them() {
    let home = Home::shop();
    let odd = home.path("100% mine");
    std::fs::create_dir(&odd).unwrap();
    for name in ["lifeboat.toml", "shop.db"] {
        std::fs::rename(home.path(name), odd.join(name)).unwrap();
    }
    let config = odd.join("lifeboat.toml").display().to_string();
    let ran = home.run(&["schedule", "show", "--config", &config]).ends(ExitCode::Ok).says(&["lifeboat serve"]);
    let lines: Vec<&str> = ran.out.lines().filter(|line| !line.starts_with('#')).collect();
    let times: Vec<&str> = lines.iter().map(|line| line.get(..10).unwrap()).collect();
    assert_eq!(times, ["0 2 * * * ", "0 3 * * * ", "0 4 * * * "]);
    for line in lines {
        let command = &line[10..];
        // cron ends the command at the first bare percent sign, and takes the backslash off the others.
        assert_eq!(command.matches('%').count(), command.matches("\\%").count(), "{command}");
        let ran = shell(&home, &command.replace("\\%", "%")).ends(ExitCode::Ok);
        assert_eq!(ran.err, "", "cron would send a mail: {command}");
    }
    let list = home.run(&["backups", "list", "--json", "--config", &config]).ends(ExitCode::Ok).json();
    assert_eq!(list["backups"][0]["reason"], "scheduled");
    assert!(list["backups"][0]["proven_at"].is_string(), "{list}");
    home.run(&["schedule", "show", "--format", "systemd", "--config", &config]).ends(ExitCode::Ok).says(&[
        "OnCalendar=*-*-* 02:00:00",
        "lifeboat-shop-local-prove.timer",
        "100%% mine",
    ]);
}

#[test]
fn a_schedule_needs_settings() {
    let home = Home::bare();
    let ran = home.run(&["schedule", "show", "--for", "sqlite:./shop.db", "--vault", "./vault"]);
    ran.ends(ExitCode::Refused).says(&["lifeboat init"]);
}
