//! Variables that a platform gets: in one batch, by standard input, against small programs that behave like the documented ones.

use std::os::unix::fs::PermissionsExt;

use lifeboat_model::ExitCode;

use crate::{
    center::Center,
    home::{Home, Ran},
};

/// What every process on this host can be seen to be called with, at the moment at which the program runs.
const SEEN: &str =
    "for one in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $one; echo; done >> \"$HOME/seen\" 2>/dev/null\n";

/// `fly secrets` as documented: `import` reads lines and makes one release, `--stage` makes none, `unset` without it makes one; each
/// release makes another instance. A line that it cannot read is shown.
const FLY: &str = r#"
cd "$HOME"
released() { echo "$(( $(tail -1 fly | cut -d, -f1) + 1 )),complete,img:one" >> fly; echo release >> released-now; }
case "$1 $2" in
    "releases --app") printf '['; sep=; for line in $(tac fly); do
            printf '%s{"Version": %s, "Status": "%s", "ImageRef": "%s"}' "$sep" $(echo "$line" | tr , ' '); sep=,; done; printf ']' ;;
    "machines list") printf '[{"id": "m1", "state": "started", "instance_id": "%s", "config": {"image": "img:one"}}]' "$(wc -l < fly)" ;;
    "secrets list") [ -e refused ] && { echo "Error: unauthorized" >&2; exit 1; }; echo "NAME DIGEST CREATED AT" ;;
    "secrets import") lines=$(cat); left=$(cat busy 2>/dev/null || echo 0); [ "$left" -gt 0 ] && {
            echo $((left - 1)) > busy; echo "Error: $lines cannot be taken now" >&2; exit 1; }; [ -e unread ] && { echo "Error: $lines is invalid" >&2; exit 1; }
        echo "$lines" | while IFS= read -r line; do echo "$line" > "secret-${line%%=*}"; done; released ;;
    "secrets unset") shift 4; stage=; for one; do case $one in --stage) stage=1 ;; *) rm -f "secret-$one" ;; esac; done; [ -n "$stage" ] || released ;;
    "secrets set") echo "a value is an argument" > wrong; exit 1 ;;
esac
"#;

const VERCEL: &str = r#"
cd "$HOME"
case "$1 $2" in
    "inspect "*) printf '    id\t\t%s\n    target\tproduction\n    status\t● Ready\n' "$(cat production)" >&2 ;;
    "env ls") ;;
    "env add") [ "$4 $5" = "production --force" ] || exit 1; cat > "secret-$3" ;;
    "env rm") [ "$5" = --yes ] || exit 1; rm "secret-$3" ;;
    "redeploy dpl_"*) echo "${2}x" > production; echo release >> released-now; echo "https://shop-x.vercel.app" ;;
esac
"#;

const SUPABASE: &str = r#"
cd "$HOME"
case "$1 $2" in
    "functions list") printf '[{"slug":"hello","version":3,"status":"ACTIVE"}]' ;;
    "secrets list") ;;
    "secrets set") [ "$3 $4" = "--env-file /dev/stdin" ] || exit 1; cat "$4" | while IFS= read -r line; do echo "$line" > "secret-${line%%=*}"; done; echo release >> released-now ;;
    "secrets unset") shift 5; rm -f $(printf 'secret-%s ' "$@") ;;
esac
"#;

const VALUES: [&str; 5] = ["canary-first", "canary second # of it", "canary-new", "canary-now", "canary-third"];

fn open(target: &str, program: &str, text: &str) -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write(
        "lifeboat.toml",
        format!(
            "{settings}[environments.local.resources.env]\nkind = \"env\"\npath = \"./.env\"\n\
             [environments.local.targets.web]\nenv_file = \"./.env\"\nanswer_within = \"3s\"\n{target}\n"
        ),
    );
    std::fs::create_dir(home.path("programs")).unwrap();
    let noted = format!("#!/bin/bash\necho \"{program} $*\" >> \"$HOME/calls\"\n{SEEN}{text}");
    home.write(&format!("programs/{program}"), noted);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(home.path(&format!("programs/{program}")), mode).unwrap();
    home.write(".env", "# kept\nFIRST=canary-first\nSECOND='canary second # of it'\nTHIRD=canary-third\nSAME=1\n");
    home
}

/// What is there now: two other values, one is gone, one came.
fn change(home: &Home) {
    home.write(".env", "# kept\nFIRST=canary-now\nSECOND=canary-now\nSAME=1\nNEW=canary-new\n");
}

fn run(home: &Home, words: &[&str]) -> Ran {
    let path = format!("{}:{}", home.path("programs").display(), std::env::var("PATH").unwrap());
    let ran = home.ran(words, home.command(words).env("PATH", path).env("HOME", home.app()).output().unwrap());
    for value in VALUES {
        assert!(!ran.out.contains(value) && !ran.err.contains(value), "lifeboat {} shows {value}", ran.typed);
    }
    ran
}

fn read(home: &Home, name: &str) -> String {
    std::fs::read_to_string(home.path(name)).unwrap_or_default()
}

/// How many releases there were since this was asked last.
fn releases(home: &Home) -> usize {
    let count = read(home, "released-now").lines().count();
    std::fs::remove_file(home.path("released-now")).unwrap_or_default();
    count
}

/// No value was an argument of any process, and none is in a file of Lifeboat's own.
fn no_value(home: &Home, program: &str) {
    let seen = read(home, "seen");
    assert!(seen.contains("programs/") && seen.contains(program), "the processes were looked at: {seen}");
    let mut kept = Vec::new();
    crate::home::collect(&home.path("state"), &mut kept);
    for value in VALUES {
        assert!(!seen.contains(value), "{value} was an argument");
        assert!(!read(home, "calls").contains(value), "{value} was an argument of {program}");
        for (path, body) in &kept {
            assert!(!String::from_utf8_lossy(body).contains(value), "{} holds {value}", path.display());
        }
    }
    assert!(!home.path("wrong").exists(), "{}", read(home, "wrong"));
}

/// ENV-07 (D-22): four variables are one release of fly, by standard input; taken back it is one more.
#[test]
fn env_07_a_batch_is_one_release_of_fly() {
    let home = open("driver = \"fly\"\napp = \"shop-production\"", "fly", FLY);
    home.write("fly", "1,complete,img:one\n");
    run(&home, &["checkpoint", "--unproven", "--label", "first"]).ends(ExitCode::Ok);
    run(&home, &["releases", "mark", "first", "good"]).ends(ExitCode::Ok);
    change(&home);
    home.write("secret-NEW", "NEW=canary-new\n");
    let shown = run(&home, &["env", "restore", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["in one batch, by standard input", "once for all of them"]);
    assert_eq!(releases(&home), 0);
    // It may not: that is found out before the file is touched.
    home.write("refused", "");
    let before = read(&home, ".env");
    run(&home, &["env", "restore", "--yes"]).ends(ExitCode::FailedUndone).says(&["unauthorized"]);
    assert_eq!((read(&home, ".env"), releases(&home)), (before.clone(), 0));
    std::fs::remove_file(home.path("refused")).unwrap();
    run(&home, &["env", "restore", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(releases(&home), 1);
    assert_eq!(read(&home, "secret-FIRST"), "FIRST=canary-first\n");
    assert_eq!(read(&home, "secret-SECOND"), "SECOND=\"canary second # of it\"\n");
    assert_eq!((read(&home, "secret-THIRD"), home.path("secret-NEW").exists()), ("THIRD=canary-third\n".into(), false));
    assert!(!home.path("secret-SAME").exists(), "what has not changed is not given");
    run(&home, &["undo", "--yes"]).ends(ExitCode::Ok);
    assert_eq!((read(&home, ".env"), releases(&home)), (before.clone(), 1));
    assert_eq!((read(&home, "secret-NEW"), home.path("secret-THIRD").exists()), ("NEW=canary-new\n".into(), false));
    // A rollback of variables alone, too: the instance that answers afterwards is another one.
    let back = ["rollback", "first", "--profile", "env-only", "--yes"];
    run(&home, &back).ends(ExitCode::Ok);
    assert_eq!((read(&home, "secret-FIRST"), releases(&home)), ("FIRST=canary-first\n".into(), 1));
    run(&home, &["undo", "--yes"]).ends(ExitCode::Ok);
    assert_eq!((read(&home, "secret-FIRST"), releases(&home)), ("FIRST=canary-now\n".into(), 1));
    // What it cannot read it shows, and nobody else does; taking back meets the same trouble, and goes on when that is over.
    home.write("unread", "");
    let failed = run(&home, &["env", "restore", "--yes"]).ends(ExitCode::InBetween);
    failed.says(&["FIRST=<FIRST>", "is invalid"]);
    std::fs::remove_file(home.path("unread")).unwrap();
    run(&home, &["abort", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(read(&home, ".env"), before);
    no_value(&home, "fly secrets import");
}

/// Vercel takes each by itself, without the end of a line, and builds them in once.
#[test]
fn env_07_vercel_builds_a_batch_in_once() {
    let home = open("driver = \"vercel\"\nproject = \"shop\"\ndomain = \"shop.example\"", "vercel", VERCEL);
    home.write("production", "dpl_1\n");
    run(&home, &["checkpoint", "--unproven", "--label", "first"]).ends(ExitCode::Ok);
    run(&home, &["releases", "mark", "first", "good"]).ends(ExitCode::Ok);
    change(&home);
    home.write("secret-NEW", "canary-new");
    run(&home, &["env", "restore", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(releases(&home), 1);
    assert_eq!(
        (read(&home, "secret-SECOND"), read(&home, "production")),
        ("canary second # of it".into(), "dpl_1x\n".into())
    );
    assert!(!home.path("secret-NEW").exists());
    change(&home);
    home.write("secret-NEW", "canary-new");
    run(&home, &["rollback", "first", "--profile", "env-only", "--yes"]).ends(ExitCode::Ok);
    assert_eq!((releases(&home), read(&home, "production")), (1, "dpl_1xx\n".into()));
    no_value(&home, "vercel env add");
}

/// Functions of Supabase read theirs at each call; those that begin with its own name it has by itself.
#[test]
fn env_07_supabase_gets_a_batch_in_one_call() {
    let home = open(
        "driver = \"supabase-functions\"\nproject = \"abcdefgh\"\nfunctions = [\"hello\"]\nreleases = \"./releases\"\ncurrent = \"./current\"",
        "supabase",
        SUPABASE,
    );
    std::fs::create_dir_all(home.path("releases/abc")).unwrap();
    std::os::unix::fs::symlink("releases/abc", home.path("current")).unwrap();
    let own = "SUPABASE_URL=https://canary-url\n";
    home.write(".env", read(&home, ".env") + own);
    run(&home, &["checkpoint", "--unproven", "--label", "first"]).ends(ExitCode::Ok);
    run(&home, &["releases", "mark", "first", "good"]).ends(ExitCode::Ok);
    change(&home);
    home.write("secret-NEW", "NEW='canary-new'\n");
    run(&home, &["rollback", "first", "--profile", "env-only", "--yes"]).ends(ExitCode::Ok);
    assert_eq!((releases(&home), read(&home, "secret-SECOND")), (1, "SECOND='canary second # of it'\n".into()));
    assert!(!home.path("secret-NEW").exists() && !home.path("secret-SUPABASE_URL").exists());
    assert!(read(&home, ".env").contains(own));
    no_value(&home, "supabase secrets set");
}

/// A center with a second target that gets its variables from the same file, on a platform that does not take them so many times.
fn with_a_platform(busy: u32) -> Center {
    let center = Center::open();
    let (home, settings) = (&center.home, std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap());
    let target =
        "[environments.production.targets.cloud]\ndriver = \"fly\"\napp = \"shop-production\"\nenv_file = \"./.env\"\n";
    home.write("lifeboat.toml", format!("{settings}\n{target}answer_within = \"3s\"\n"));
    std::fs::create_dir(home.path("programs")).unwrap();
    home.write("programs/fly", format!("#!/bin/bash\necho \"fly $*\" >> \"$HOME/calls\"\n{FLY}"));
    std::fs::set_permissions(home.path("programs/fly"), std::fs::Permissions::from_mode(0o755)).unwrap();
    home.write("fly", "1,complete,img:one\n");
    home.write(".env", read(home, ".env") + "THEME=canary-first\n");
    in_center(&center, &["checkpoint", "--unproven", "--label", "phase-1"]).ends(ExitCode::Ok);
    in_center(&center, &["releases", "mark", "phase-1", "good"]).ends(ExitCode::Ok);
    home.write(".env", read(home, ".env").replace("canary-first", "canary-now"));
    center.use_version("main");
    home.write("busy", busy.to_string());
    center
}

fn in_center(center: &Center, words: &[&str]) -> Ran {
    let mut command = center.command(&mut center.home.command(words));
    let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_str().unwrap().to_owned();
    command.env("PATH", format!("{}:{path}", center.home.path("programs").display())).env("HOME", center.home.app());
    let ran = center.home.ran(words, command.output().unwrap());
    for value in VALUES {
        assert!(!ran.out.contains(value) && !ran.err.contains(value), "lifeboat {} shows {value}", ran.typed);
    }
    ran
}

const DOWN: [&str; 5] = ["rollback", "--profile", "app-and-down", "--confirm", "service-center/production"];

/// PHS-01: past the point of no return a platform that does not take its variables at this moment is asked again.
#[test]
fn phs_01_a_platform_that_is_busy_gets_its_variables_a_little_later() {
    let center = with_a_platform(2);
    in_center(&center, &[&DOWN[..], &["--yes"]].concat()).ends(ExitCode::Ok);
    assert_eq!(read(&center.home, "secret-THEME"), "THEME=canary-first\n");
    assert_eq!((read(&center.home, "busy").trim(), center.health()["version"].as_str()), ("0", Some("1.0")));
}

/// PHS-01: one that never takes them leaves the rollback waiting, with what stands, both ways to go on, and the former variables kept.
#[test]
fn phs_01_a_platform_that_refuses_its_variables_leaves_a_choice() {
    for by_hand in [false, true] {
        let center = with_a_platform(1_000);
        let waits = in_center(&center, &[&DOWN[..], &["--yes"]].concat()).ends(ExitCode::InBetween);
        waits.says(&["has the former variables", "what was stopped stands still", "lifeboat resume", "--by-hand"]);
        assert_eq!(read(&center.home, "busy").trim(), "996", "four times, and no more");
        let kept = std::fs::read_dir(center.home.app()).unwrap().map(|entry| entry.unwrap().path());
        let kept = kept.filter(|path| path.to_string_lossy().contains(".env.REPLACED"));
        let kept: Vec<_> = kept.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert!(kept.len() == 1 && kept[0].contains("THEME=canary-now"), "{}", kept.len());
        match by_hand {
            false => std::fs::remove_file(center.home.path("busy")).unwrap(),
            true => {
                // Somebody starts it anew, with the variables that it has.
                center.home.write("fly", "1,complete,img:one\n2,complete,img:one\n");
                let by_hand = ["rollback", "--manual", "--from", "5", "--to", "5", "--by-hand", "--yes"];
                in_center(&center, &by_hand).says(&["steps up to 5 of 7 are done"]);
            }
        }
        in_center(&center, &["resume", "--yes"]).ends(ExitCode::Ok);
        assert_eq!(center.health()["version"], "1.0");
        assert_eq!(center.home.path("secret-THEME").exists(), !by_hand);
    }
}
