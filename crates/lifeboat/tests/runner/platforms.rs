//! Rollbacks on platforms and by commands, against small programs that behave like theirs.

use std::os::unix::fs::PermissionsExt;

use lifeboat_model::ExitCode;

use crate::home::{Home, Ran};

/// `fly` as it is documented: the newest release comes first, a release of secrets repeats its image, and a failed one is listed
/// all the same. A deploy makes a release and another instance. Every call is noted.
const FLY: &str = r#"#!/bin/sh
echo "fly $*" >> "$HOME/calls"
case $1 in
    releases) printf '['; sep=; for line in $(tac "$HOME/fly"); do
            printf '%s{"Version": %s, "Status": "%s", "ImageRef": "%s"}' "$sep" $(echo "$line" | tr , ' '); sep=,; done; printf ']' ;;
    machines) line=$(grep ,complete, "$HOME/fly" | tail -1); number=${line%%,*}
            printf '[{"id": "m1", "state": "started", "instance_id": "%s", "config": {"image": "%s"}}]' "$number-$(wc -l < "$HOME/fly")" "${line##*,}" ;;
    deploy) test -e "$HOME/fly-is-down" && { echo "Error: token sk_secret refused" >&2; exit 1; }
            echo "99,complete,$5" >> "$HOME/fly" ;;
esac
"#;

fn program(home: &Home, name: &str, text: &str) {
    let folder = home.path("programs");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
    std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn run(home: &Home, words: &[&str]) -> Ran {
    let path = format!("{}:{}", home.path("programs").display(), std::env::var("PATH").unwrap());
    home.ran(words, home.command(words).env("PATH", path).env("HOME", home.app()).output().unwrap())
}

fn with_target(lines: &str) -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}[environments.local.targets.web]\n{lines}\n"));
    home
}

/// APP-02 (D-19): the image before is another one, of a release that went through; twice does not bring the bad one back.
#[test]
fn app_02_fly_goes_back_to_the_image_before_and_never_to_the_one_it_left() {
    let home = with_target("driver = \"fly\"\napp = \"shop-production\"");
    program(&home, "fly", FLY);
    home.write("fly", "6,complete,img:oldest\n7,complete,img:old\n8,complete,img:good\n9,complete,img:bad\n10,complete,img:bad\n11,failed,img:never\n");
    run(&home, &["rollback", "--dry-run"]).ends(ExitCode::Ok).says(&["v8", "img:good in the place of img:bad"]);
    // The platform refuses: as before, and what it printed is not told without being scrubbed of what is known.
    home.write("fly-is-down", "");
    run(&home, &["rollback", "--yes"])
        .ends(ExitCode::FailedUndone)
        .says(&["fly deploy --app shop-production --image img:good"]);
    std::fs::remove_file(home.path("fly-is-down")).unwrap();
    run(&home, &["rollback", "--yes"]).ends(ExitCode::Ok);
    let calls = std::fs::read_to_string(home.path("calls")).unwrap();
    assert_eq!(
        calls.lines().filter(|line| *line == "fly deploy --app shop-production --image img:good --yes").count(),
        2,
        "{calls}"
    );
    // Again: what was left is held, so it goes further back.
    run(&home, &["rollback", "--dry-run"]).ends(ExitCode::Ok).says(&["img:old in the place of img:good"]);
    // Its list cannot be read: one sentence, and nothing is begun.
    program(&home, "fly", "#!/bin/sh\necho 'Error: not logged in'\n");
    let refused = run(&home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone);
    refused.says(&["the list of releases of shop-production cannot be read", "fly releases --app"]);
}

/// APP-02, PHS-17: a new image is deployed by the platform's own command; one that does not do goes back to the one before, and is held.
#[test]
fn app_02_fly_deploys_an_image_and_goes_back_by_itself() {
    let home = with_target("driver = \"fly\"\napp = \"shop-production\"\nsmoke = [\"test\", \"!\", \"-e\", \"sick\"]");
    program(&home, "fly", FLY);
    home.write("fly", "6,complete,img:old\n");
    run(&home, &["deploy", "--yes"]).ends(ExitCode::Usage).says(&["nobody has said which version of web"]);
    let words = |image: &'static str| ["deploy", image, "--watch", "1s", "--unproven", "--yes"];
    run(&home, &words("img:new")).ends(ExitCode::Ok);
    run(&home, &["releases", "list"]).ends(ExitCode::Ok).says(&["live, good", "img:new"]);
    home.write("sick", "");
    run(&home, &words("img:sick")).ends(ExitCode::FailedUndone).says(&["-e sick` failed"]);
    let calls = std::fs::read_to_string(home.path("calls")).unwrap();
    let deploys: Vec<&str> =
        calls.lines().filter_map(|line| line.strip_prefix("fly deploy --app shop-production --image ")).collect();
    assert_eq!(deploys, ["img:new --yes", "img:sick --yes", "img:new --yes"]);
    run(&home, &words("img:sick")).ends(ExitCode::Refused).says(&["is held for bad"]);
    // Left as it is when somebody says so; then a person decides.
    let held = run(&home, &[&words("img:sicker")[..], &["--hold"]].concat()).ends(ExitCode::InBetween);
    held.says(&["Held: deploy img:sicker", "Not good", "lifeboat rollback --dry-run"]);
    run(&home, &["status"]).ends(ExitCode::Ok).says(&["BAD, held", "Next: lifeboat rollback --dry-run"]);
    std::fs::remove_file(home.path("sick")).unwrap();
    run(&home, &["rollback", "--yes"]).ends(ExitCode::Ok).says(&["img:new"]);
}

/// By commands: brought before anything stops, and a command that does not do what it says is not believed.
#[test]
fn a_rollback_by_commands_believes_only_what_it_sees() {
    let home = with_target(
        "driver = \"command\"\nrunning = [\"cat\", \"IN_USE\"]\nstage = [\"./deploy\", \"bring\", \"{version}\"]\n\
         switch = [\"./deploy\", \"use\", \"{version}\"]\nstop = [\"./deploy\", \"stop\"]\nstart = [\"./deploy\", \"start\"]",
    );
    let deploy = "#!/bin/sh\necho \"$*\" >> calls\ntest -e broken || case $1 in use) echo \"$2\" > IN_USE ;; esac\n";
    home.write("deploy", deploy);
    std::fs::set_permissions(home.path("deploy"), std::fs::Permissions::from_mode(0o755)).unwrap();
    home.write("IN_USE", "v1\n");
    run(&home, &["checkpoint", "--label", "first", "--unproven"]).ends(ExitCode::Ok);
    run(&home, &["releases", "mark", "first", "good"]).ends(ExitCode::Ok);
    home.write("IN_USE", "v2\n");
    home.write("broken", "");
    let failed = run(&home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone);
    failed.says(&["web was told to use v1 and uses v2"]);
    std::fs::remove_file(home.path("broken")).unwrap();
    home.write("calls", "");
    run(&home, &["rollback", "--yes", "--json"]).ends(ExitCode::Ok).says(&["\"profile\":\"app-only\""]);
    assert_eq!(std::fs::read_to_string(home.path("calls")).unwrap(), "bring v1\nstop\nuse v1\nstart\n");
    assert_eq!(std::fs::read_to_string(home.path("IN_USE")).unwrap(), "v1\n");
    // A word that is none, and a release that is none.
    run(&home, &["releases", "mark", "first", "bad"])
        .ends(ExitCode::Usage)
        .says(&["the reason is missing", "--reason WHY"]);
    run(&home, &["rollback", "r-zz"]).ends(ExitCode::Usage).says(&["lifeboat releases list"]);
    run(&home, &["migrate", "status"]).ends(ExitCode::Usage).says(&["migrations ="]);
    // What a rollback has left is held, sealed or not.
    let held = run(&home, &["deploy", "v2", "--unproven", "--yes"]).ends(ExitCode::Refused);
    held.says(&["a rollback has left v2 of web"]);
    run(&home, &["undo", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(std::fs::read_to_string(home.path("IN_USE")).unwrap(), "v2\n");
    home.write("calls", "");
    run(&home, &["deploy", "v3", "--unproven", "--watch", "1s", "--yes"]).ends(ExitCode::Ok).says(&["deploy v3"]);
    assert_eq!(std::fs::read_to_string(home.path("calls")).unwrap(), "bring v3\nstop\nuse v3\nstart\n");
}

/// Is this process there, and not only waiting to be collected?
fn lives(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// A program of the platform that never ends, and does not want to: it is ended at its limit with all that it has started, the rollback is
/// told as what it is, and nothing of it goes on afterwards.
#[test]
fn app_02_a_fly_that_hangs_is_ended_with_its_children() {
    let home = with_target("driver = \"fly\"\napp = \"shop-production\"\ncommand_within = \"2s\"");
    let hangs = "#!/bin/sh\ntest \"$1\" = \"$(cat \"$HOME/hangs\")\" && { trap '' TERM; sleep 600 & echo $! >> \"$HOME/pids\"; \
                 echo $$ >> \"$HOME/pids\"; wait; sleep 600; }\n";
    program(&home, "fly", &FLY.replacen("#!/bin/sh\n", hangs, 1));
    home.write("fly", "7,complete,img:good\n8,complete,img:bad\n");
    let ended = |word: &str, says: &[&str]| {
        home.write("hangs", word);
        home.write("pids", "");
        let ran = run(&home, &["rollback", "--yes"]).says(says);
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        let pids = std::fs::read_to_string(home.path("pids")).unwrap();
        assert!(pids.lines().count() >= 2, "it did not hang: {pids}");
        assert_eq!(pids.lines().filter(|process| lives(process)).collect::<Vec<_>>(), [""; 0], "{word}");
        home.write("hangs", "nothing");
    };
    ended(
        "deploy",
        &[
            "`fly deploy --app shop-production --image img:good --yes` did not come to an end",
            "took longer than its limit of 2s",
            "command_within in its target's table",
            "Everything was put back",
        ],
    );
    // What is only looked at hangs too: nothing was begun.
    ended("releases", &["`fly releases --app shop-production --image --json`", "took longer than its limit of 2s"]);
    assert!(std::fs::read_to_string(home.path("fly")).unwrap().ends_with("8,complete,img:bad\n"));
    run(&home, &["rollback", "--yes"]).ends(ExitCode::Ok);
    assert!(std::fs::read_to_string(home.path("fly")).unwrap().ends_with("99,complete,img:good\n"));
}
