//! `decide` and `assess`: what is measured, what is said, what follows, and that it is on record.

use lifeboat_model::ExitCode;

use crate::home::Home;

/// A shop whose settings measure facts.
fn measured(decide: &str) -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}[environments.local.decide]\n{decide}"));
    home
}

#[test]
fn what_nobody_knows_is_never_taken_for_fine() {
    let home = Home::shop();
    home.run(&["decide"]).ends(ExitCode::Unknown).says(&[
        "UNDECIDED",
        "need      data_loss: nobody has said",
        "need      error_rate: nobody has said",
    ]);
    home.run(&["decide", "--rest-is-fine"]).ends(ExitCode::Ok).says(&["NO ROLLBACK", "No trigger"]);
    let history = home.run(&["history", "--json"]).json();
    let kinds: Vec<_> = history["operations"].as_array().unwrap().iter().map(|row| row["kind"].clone()).collect();
    assert_eq!(kinds, ["decide", "decide"]);
}

#[test]
fn a_decision_is_on_record_with_its_values_and_can_be_made_again() {
    let home = Home::shop();
    let facts = ["--fact", "error_rate=61/1200,window=5m", "--fact", "minor_ui=yes", "--rest-is-fine"];
    let words = [&["decide", "--json", "--role", "technical lead"], facts.as_slice()].concat();
    let told = home.run(&words).ends(ExitCode::ActionAdvised).json();
    assert_eq!((told["verdict"].as_str(), told["exit_code"].as_u64()), (Some("roll-back"), Some(10)));
    assert_eq!(told["decision"]["decided"]["severity"], "major");
    assert_eq!(told["decision"]["decided"]["matched"][0][0], "error_rate");
    assert_eq!(told["decision"]["basis"]["facts"]["error_rate"]["n"], 1200);
    assert!(told["next"][0].as_str().unwrap().contains("lifeboat rollback --env local"));
    let history = home.run(&["history", "--json"]).json();
    let operation = history["operations"][0]["id"].as_str().unwrap().to_owned();
    home.run(&["decide", "--replay", &operation])
        .ends(ExitCode::Ok)
        .says(&["5.083334, n=1200, window=5:00", "It comes out the same: roll back, by error_rate, minor_ui."]);
    home.run(&["journal", "export", &operation]).says(&["5.083334 %, more than 5 %", "technical lead"]);
    // Who read the journal can tell whether somebody has changed what was decided.
    let path = home.journals().join(format!("{operation}.ndjson"));
    let journal = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, journal.replace("5.083334", "4.083334")).unwrap();
    home.run(&["decide", "--replay", &operation]).ends(ExitCode::Damaged);
}

/// DEC-05, DEC-07: a fix has its time; who decides otherwise says why, and that is kept.
#[test]
fn dec_07_a_person_may_decide_otherwise_and_says_why() {
    let home = Home::shop();
    let broken = ["decide", "--fact", "core_workflow_broken=yes", "--rest-is-fine"];
    let fix = [&broken[..], &["--detected", "5m ago", "--quick-fix", "10m"]].concat();
    home.run(&fix).ends(ExitCode::ActionAdvised).says(&["TRY THE QUICK FIX (major)", "in 15 min"]);
    home.run(&["status"]).says(&["the quick fix has its time until", "lifeboat decide"]);
    // What was said of this matter still holds, the time of the fix too.
    home.run(&["decide"])
        .ends(ExitCode::ActionAdvised)
        .says(&["TRY THE QUICK FIX (major)", "a core workflow is broken"]);
    home.run(&["decide", "--fact", "core_workflow_broken=no"]).ends(ExitCode::Ok).says(&["NO ROLLBACK"]);
    let late = [&broken[..], &["--detected", "31m ago", "--quick-fix", "10m"]].concat();
    home.run(&late).ends(ExitCode::ActionAdvised).says(&["ROLL BACK (major)", "is over"]);

    home.run(&["decide", "--override", "stay"]).ends(ExitCode::Usage);
    let refused = home.run(&["decide", "--override", "stay", "--reason", " "]).ends(ExitCode::Usage);
    assert!(refused.err.contains("the reason is missing"), "{}", refused.err);
    home.run(&["decide", "--override", "stay", "--reason", "the provider is down", "--role", "product manager"])
        .ends(ExitCode::Ok)
        .says(&["NO ROLLBACK", "a person decided otherwise than the rules (roll back): the provider is down"]);
    let told = home.run(&["history", "--json"]).json();
    let operation = told["operations"][0]["id"].as_str().unwrap().to_owned();
    home.run(&["journal", "export", &operation]).says(&["the provider is down", "product manager"]);
}

/// DEC-08, DEC-10: rates are read where the settings say, with how many there were; what cannot be asked is not fine.
#[test]
fn dec_10_facts_are_measured_where_the_settings_say() {
    let home = measured(
        "[environments.local.decide.facts.error_rate]\naccess_log = \"./access.log\"\n\
         [environments.local.decide.facts.response_time]\naccess_log = \"./access.log\"\n\
         [environments.local.decide.facts.data_loss]\ncommand = [\"sh\", \"-c\", \"cat data-loss\"]\n",
    );
    home.run(&["decide", "--rest-is-fine"]).ends(ExitCode::Unknown).says(&["access.log", "cat data-loss"]);
    let log = |failing: usize| {
        let now = jiff::Timestamp::now();
        let line = |number: usize| {
            let at = now - jiff::SignedDuration::from_secs(400 - number as i64);
            let status = if number < 400 - failing { 200 } else { 502 };
            let time = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
            format!("::1 - - [{time}] \"GET / HTTP/1.1\" {status} 9 \"-\" \"-\" 0.020\n")
        };
        (0..400).map(line).collect::<String>()
    };
    home.write("access.log", log(0));
    home.write("data-loss", "no\n");
    home.run(&["decide", "--rest-is-fine"]).ends(ExitCode::Ok).says(&["NO ROLLBACK"]);
    home.write("access.log", log(30));
    home.run(&["decide", "--rest-is-fine"]).ends(ExitCode::ActionAdvised).says(&[
        "ROLL BACK (major)",
        "requests fail",
        "(n=",
        "access.log",
    ]);
    home.write("data-loss", "yes");
    home.run(&["decide", "--rest-is-fine"]).ends(ExitCode::ActionAdvised).says(&[
        "ROLL BACK (critical)",
        "until",
        ", now",
    ]);
    home.write("data-loss", "maybe");
    let told = home.run(&["decide", "--json", "--fact", "error_rate=no", "--detected", "1m ago", "--rest-is-fine"]);
    let told = told.ends(ExitCode::Unknown).json();
    assert!(told["decision"]["decided"]["missing"][0].as_str().unwrap().contains("printed \"maybe\""), "{told}");
}

/// DEC-10, VFY-27: what was measured when a release was sealed is its baseline; three times as many errors are not back there.
#[test]
fn vfy_27_errors_return_to_what_they_were_at_the_checkpoint() {
    let home = two_releases_of(
        "[environments.local.decide.facts.error_rate]\ncommand = [\"sh\", \"-c\", \"cat errors\"]\n\
         [environments.local.decide.facts.response_time]\ncommand = [\"sh\", \"-c\", \"cat times\"]\n",
        &|home| {
            home.write("errors", "4/1000,window=5m");
            home.write("times", "0.2,n=12,window=5m");
        },
    );
    // Of twelve answers nobody can tell how slow it is: no baseline is made from them.
    let sealed =
        home.run(&["releases", "show", "first"]).ends(ExitCode::Ok).says(&["Measured    error_rate 0.4, n=1000"]);
    assert!(!sealed.out.contains("response_time"), "{}", sealed.out);
    home.write("errors", "12/1000,window=5m");
    home.run(&["releases", "baseline"]).ends(ExitCode::ActionAdvised).says(&[
        "(first)",
        "error_rate",
        "0.4, n=1000",
        "1.2, n=1000",
        "NO: error_rate: 1.2 is more than twice 0.4",
    ]);
    home.write("errors", "8/1000,window=5m");
    let told = home.run(&["releases", "baseline", "first", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(told["compared"][0]["back"], "pass", "{told}");
    home.write("errors", "1/3,window=5m");
    home.run(&["releases", "baseline"]).ends(ExitCode::Unknown).says(&["unknown: error_rate", "it is of 3"]);
    home.run(&["rollback", "--dry-run"]).says(&["lifeboat releases baseline", "error_rate"]);

    let bare = two_releases(false);
    let refused = bare.run(&["releases", "baseline"]).ends(ExitCode::Refused);
    assert!(
        refused.err.contains("nothing was measured") && refused.err.contains("lifeboat checkpoint"),
        "{}",
        refused.err
    );
    let refused = bare.run(&["releases", "baseline", "first"]).ends(ExitCode::Refused);
    assert!(refused.err.contains("nothing was measured of"), "{}", refused.err);
}

/// VFY-27: a rollback is verified when what was measured of the release is back where it was; what is measured over minutes cannot
/// tell at once.
#[test]
fn vfy_27_a_rollback_is_verified_when_the_baseline_is_back() {
    let settings = "[environments.local.decide.rules.waiting]\ntitle = \"jobs wait\"\nseverity = \"minor\"\nabove = \"1000\"\n\
         [environments.local.decide.facts.waiting]\ncommand = [\"sh\", \"-c\", \"cat waiting\"]\n";
    let errors = "[environments.local.decide.facts.error_rate]\ncommand = [\"sh\", \"-c\", \"cat errors\"]\n";
    let rolled_back = |settings: &str| {
        let home = two_releases_of(settings, &|home| {
            home.write("waiting", "40");
            home.write("errors", "4/1000,window=5m");
        });
        let back = ["rollback", "first", "--profile", "app-only", "--reason", "errors", "--yes"];
        home.run(&back).ends(ExitCode::Ok);
        home
    };
    let verified = |home: &Home| {
        let shown = home.run(&["checklist", "show", "post-rollback", "--json"]).json();
        let items = shown["checklist"]["items"].as_array().unwrap().clone();
        let item = items.into_iter().find(|item| item["key"] == "verified").unwrap();
        item.to_string()
    };
    let home = rolled_back(settings);
    home.write("waiting", "81");
    let failed = verified(&home);
    assert!(failed.contains("\"fail\"") && failed.contains("waiting: 81 is more than twice 40"), "{failed}");
    home.write("waiting", "80");
    let passed = verified(&home);
    assert!(passed.contains("\"pass\"") && passed.contains("waiting is back where it was"), "{passed}");
    let home = rolled_back(&format!("{settings}{errors}"));
    let unknown = verified(&home);
    assert!(unknown.contains("\"unknown\"") && unknown.contains("look again in 4:"), "{unknown}");
}

/// DEC-06: the form has all its fields, filled in or not.
#[test]
fn dec_06_the_form_lists_what_is_not_filled_in() {
    let home = Home::shop();
    let told = home.run(&["assess", "--json"]).ends(ExitCode::ActionAdvised).json();
    let fields = told["impact"].as_object().unwrap();
    assert_eq!(fields.len(), 5, "{told}");
    assert_eq!(told["unset"].as_array().unwrap().len(), 5);
    let words = ["assess", "--severity", "major", "--users", "12", "--systems", "Auth,Tickets"];
    let all = [&words[..], &["--data-at-risk", "no", "--quick-fix", "10m", "--detected", "2m ago"]].concat();
    home.run(&all).ends(ExitCode::Ok).says(&["Severity        major", "12 %", "Auth, Tickets", "yes, 10:00"]);
    // The decision takes the fix from there.
    home.run(&["decide", "--fact", "core_workflow_broken=yes", "--rest-is-fine"])
        .ends(ExitCode::ActionAdvised)
        .says(&["TRY THE QUICK FIX (major)"]);
    home.run(&["assess", "--users", "120"]).ends(ExitCode::Usage);
    home.run(&["assess", "--quick-fix", "soon"]).ends(ExitCode::Usage);
}

#[test]
fn what_cannot_be_meant_is_told_in_one_sentence() {
    let home = Home::shop();
    for (words, says) in [
        (["--fact", "colour=red"], "no rule speaks of \"colour\""),
        (["--fact", "error_rate"], "--fact error_rate says nothing"),
        (["--fact", "error_rate=many"], "\"many\" is no number"),
        (["--fact", "data_loss=3"], "data_loss is a matter of yes or no"),
        (["--replay", "o-2222222222"], "is no decision of shop/local"),
        (["--detected", "tomorrow"], "is not a time"),
    ] {
        let refused = home.run(&["decide", words[0], words[1]]).ends(ExitCode::Usage);
        assert!(refused.err.contains(says), "{words:?}: {}", refused.err);
    }
    assert!(!home.journals().exists() || std::fs::read_dir(home.journals()).unwrap().next().is_none());
}

/// What was planned triggers nothing.
#[test]
fn planned_maintenance_is_no_trigger() {
    let home = Home::shop();
    home.run(&["maintenance", "on", "--reason", "moving the database", "--yes"]).ends(ExitCode::Ok);
    home.run(&["decide", "--fact", "system_unavailable=20m"])
        .ends(ExitCode::Ok)
        .says(&["NO ROLLBACK", "closed on purpose (moving the database)"]);
    home.run(&["maintenance", "off", "--yes"]).ends(ExitCode::Ok);
    home.run(&["decide", "--fact", "system_unavailable=20m"])
        .ends(ExitCode::ActionAdvised)
        .says(&["ROLL BACK (critical)"]);
}

/// DEC-11: a breach is a reason to go back at once, and to change the secrets: going back must not bring them back.
#[test]
fn dec_11_a_breach_starts_the_change_of_secrets() {
    let home = Home::shop();
    let said = home.run(&["decide", "--fact", "security_breach=yes", "--json"]).ends(ExitCode::ActionAdvised).json();
    assert_eq!(said["decision"]["decided"]["severity"], "critical");
    let next = said["next"].to_string();
    assert!(next.contains("lifeboat rollback") && next.contains("change the secrets"), "{next}");
    assert!(next.contains("lifeboat backups compromised NAME"), "{next}");
    let other = home.run(&["decide", "--fact", "security_breach=no", "--fact", "data_loss=yes", "--json"]).json();
    assert!(!other["next"].to_string().contains("compromised"), "{other}");
}

/// A folder of releases with the first sealed as good and the second in use.
fn two_releases(execute: bool) -> Home {
    two_releases_of(&format!("execute = {execute}\n"), &|_home| ())
}

fn two_releases_of(decide: &str, before: &dyn Fn(&Home)) -> Home {
    let home = measured(&format!(
        "{decide}[environments.local.targets.app]\ndriver = \"release-dir\"\nreleases = \"./releases\"\n\
         current = \"./current\"\nstop = [\"true\"]\nstart = [\"true\"]\n"
    ));
    for version in ["one", "two"] {
        std::fs::create_dir_all(home.path(&format!("releases/{version}"))).unwrap();
        home.write(&format!("releases/{version}/app"), version);
    }
    in_use(&home, "one");
    before(&home);
    home.run(&["checkpoint", "--label", "first"]).ends(ExitCode::Ok);
    home.run(&["releases", "mark", "first", "good"]).ends(ExitCode::Ok);
    in_use(&home, "two");
    home
}

fn in_use(home: &Home, version: &str) {
    let _ = std::fs::remove_file(home.path("current"));
    std::os::unix::fs::symlink(home.path(&format!("releases/{version}")), home.path("current")).unwrap();
}

fn uses(home: &Home) -> String {
    std::fs::read_to_string(home.path("current/app")).unwrap()
}

/// DEC-12: off by default; only what is critical, by the application alone, once for each release.
#[test]
fn dec_12_a_rollback_without_a_person_is_the_exception() {
    let critical = ["decide", "--execute", "--yes", "--fact", "data_loss=yes"];
    let home = two_releases(false);
    let refused = home.run(&critical).ends(ExitCode::Refused);
    assert!(
        refused.err.contains("decide.execute is not true") && refused.err.contains("lifeboat rollback"),
        "{}",
        refused.err
    );
    assert_eq!(uses(&home), "two");

    let home = two_releases(true);
    let major = ["decide", "--execute", "--yes", "--fact", "core_workflow_broken=yes", "--rest-is-fine"];
    let refused = home.run(&major).ends(ExitCode::Refused);
    assert!(refused.err.contains("only what the rules call critical"), "{}", refused.err);
    home.run(&["decide", "--execute", "--yes", "--fact", "core_workflow_broken=no"]).ends(ExitCode::Ok);
    assert_eq!(uses(&home), "two");

    home.run(&critical).ends(ExitCode::Ok).says(&["ROLL BACK (critical)"]);
    assert_eq!(uses(&home), "one");
    let history = home.run(&["history", "--json"]).json();
    assert_eq!(history["operations"][0]["kind"], "rollback");
    assert!(history["operations"][0].to_string().contains("decided by the rules: data_loss"), "{history}");

    in_use(&home, "two");
    let refused = home.run(&critical).ends(ExitCode::Refused);
    assert!(refused.err.contains("once for each release"), "{}", refused.err);
    assert_eq!(uses(&home), "two");
    // What was sealed since is another release.
    home.run(&["checkpoint", "--label", "second"]).ends(ExitCode::Ok);
    home.run(&critical).ends(ExitCode::Ok);
    assert_eq!(uses(&home), "one");
}

/// RST-21, DEC-12: a release that does not come back is followed by the good one before it, as long as the rules decided and the
/// application alone goes back; a person is told of it, and nothing more. When there is none, it is handed over.
#[test]
fn rst_21_what_the_rules_roll_back_goes_on_with_the_release_before() {
    let does_not_start = |releases: &[&str]| {
        let home = two_releases_of("execute = true\n", &|home| {
            for version in releases {
                std::fs::create_dir_all(home.path(&format!("releases/{version}"))).unwrap();
                home.write(&format!("releases/{version}/app"), version);
                in_use(home, version);
                home.run(&["checkpoint", "--label", version]).ends(ExitCode::Ok);
                home.run(&["releases", "mark", version, "good"]).ends(ExitCode::Ok);
            }
            in_use(home, "one");
        });
        let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
        let start = "start = [\"sh\", \"-c\", \"! grep -q one current/app\"]";
        home.write("lifeboat.toml", settings.replace("start = [\"true\"]", start));
        home
    };
    let critical = ["decide", "--execute", "--yes", "--fact", "data_loss=yes"];

    let home = does_not_start(&["zero"]);
    let asked = home.run(&["rollback", "--yes"]).ends(ExitCode::FailedUndone);
    asked.says(&[
        "(zero), by the application alone: nobody has agreed",
        "nobody has agreed",
        "Stands: app runs two",
        "Next: lifeboat rollback r-",
    ]);
    assert_eq!(uses(&home), "two");
    home.run(&critical).ends(ExitCode::Ok).says(&["Next way: the good release before it, r-", "(zero)"]);
    assert_eq!(uses(&home), "zero");
    let history = home.run(&["history", "--json"]).json();
    let ends: Vec<_> = history["operations"].as_array().unwrap().iter().take(2).map(|one| &one["outcome"]).collect();
    assert_eq!(ends, ["done", "put-back"], "{history}");
    in_use(&home, "two");
    home.run(&critical).ends(ExitCode::Refused).says(&["once for each release"]);

    let home = does_not_start(&[]);
    let over = home.run(&critical).ends(ExitCode::FailedUndone);
    over.says(&[
        "Not tried: there is no good release before r-",
        "Stands: app runs two",
        "Next: lifeboat rollback r-",
        "--manual",
    ]);
    assert_eq!(uses(&home), "two");
}
