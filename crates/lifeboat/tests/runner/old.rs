//! Deploys and rollbacks that a former version has begun: whatever line their journals end at, this one brings them to their end, or puts
//! them back. The journals are kept as version 0.1.0 wrote them, of an app in `/srv/shop`; they are never changed.

use std::os::unix::fs::PermissionsExt;

use lifeboat_model::{ExitCode, Plan};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::home::Home;

/// `v1` is sealed and good, and sealed once more right before the deploy.
const BEFORE: [(&str, &str); 3] = [
    ("o-fqt41nz7am", include_str!("fixtures/0.1.0/o-fqt41nz7am.ndjson")),
    ("o-temf73zjdh", include_str!("fixtures/0.1.0/o-temf73zjdh.ndjson")),
    ("o-p50ezg2svt", include_str!("fixtures/0.1.0/o-p50ezg2svt.ndjson")),
];
/// A deploy of `v2`.
const DEPLOY: (&str, &str) = ("o-nqc5p0yy61", include_str!("fixtures/0.1.0/o-nqc5p0yy61.ndjson"));
/// A rollback to `v1`.
const ROLLBACK: (&str, &str) = ("o-cyyjy43e8d", include_str!("fixtures/0.1.0/o-cyyjy43e8d.ndjson"));

fn shop() -> Home {
    let home = Home::bare();
    home.write(
        "lifeboat.toml",
        "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\npassword = { env = \"LIFEBOAT_VAULT_PASSWORD\" }\n\
         [environments.local.resources.env]\nkind = \"env\"\npath = \"./.env\"\n\
         [environments.local.targets.web]\ndriver = \"command\"\nrunning = [\"cat\", \"IN_USE\"]\n\
         stage = [\"./deploy\", \"bring\", \"{version}\"]\nswitch = [\"./deploy\", \"use\", \"{version}\"]\n\
         stop = [\"./deploy\", \"stop\"]\nstart = [\"./deploy\", \"start\"]\nsmoke = [\"./deploy\", \"try\"]\n",
    );
    home.write(".env", "A=1\n");
    home.write("deploy", "#!/bin/sh\necho \"$*\" >> calls\ncase $1 in use) echo \"$2\" > IN_USE ;; esac\n");
    std::fs::set_permissions(home.path("deploy"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(home.journals()).unwrap();
    home
}

/// Puts the first lines of a journal into the state, as if the app had always been here. Without sums, which came later than journals.
fn put(home: &Home, (name, journal): (&str, &str), lines: usize) {
    let here = home.app().canonicalize().unwrap().display().to_string();
    let (mut text, mut head) = (String::new(), digest(""));
    for line in journal.lines().take(lines) {
        let mut entry: Value = serde_json::from_str(&line.replace("/srv/shop", &here)).unwrap();
        if let Some(plan) = entry["event"].get("plan") {
            let plan: Plan = serde_json::from_value(plan.clone()).unwrap();
            entry["event"]["digest"] = plan.digest().into();
        }
        entry["prev"] = head.into();
        entry.as_object_mut().unwrap().remove("sum");
        let line = entry.to_string();
        head = digest(&line);
        text += &format!("{line}\n");
    }
    std::fs::write(home.journals().join(format!("{name}.ndjson")), text).unwrap();
}

fn digest(line: &str) -> String {
    let bytes = Sha256::digest(line.as_bytes());
    format!("sha256:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Whether the version was put in use within the first lines.
fn is_switched(journal: &str, lines: usize) -> bool {
    journal.lines().take(lines).any(|line| line.contains("\"event\":\"step-finished\",\"step\":\"switch.web\""))
}

/// From each line on: done by `resume`, or as before by `abort`.
fn goes_on(before: &[(&str, &str)], what: (&str, &str), (from, to): (&str, &str)) {
    let whole = what.1.lines().count();
    let mut tried = 0;
    for lines in (1..whole).step_by(2).chain([whole - 1]) {
        for (word, ends_with) in [("resume", to), ("abort", from)] {
            let home = shop();
            before.iter().for_each(|journal| put(&home, *journal, usize::MAX));
            put(&home, what, lines);
            home.write("IN_USE", if is_switched(what.1, lines) { to } else { from });
            let told = home.run(&["status"]);
            assert!(
                told.out.contains(&format!("Not over     {}", what.0)) || told.out.contains("NOT OVER"),
                "{}",
                told.out
            );
            let last = lines + 1 >= whole && word == "abort";
            let ran = home.run(&[word, what.0]);
            // What has only its last line to come is put back as well, unless it is past its point of no return.
            // It was begun when these journals were written: a rollback that ends now took longer than it may.
            let is_done = [ExitCode::Ok, ExitCode::OverBudget].map(|code| Some(code as i32)).contains(&ran.code);
            assert!(is_done || (last && ran.code.is_some()), "{word} at {lines}: {}", ran.err);
            if is_done {
                let in_use = std::fs::read_to_string(home.path("IN_USE")).unwrap();
                assert_eq!(in_use.trim(), ends_with, "{word} from line {lines} of {}: {}", what.0, ran.err);
                home.run(&["journal", "verify"]).ends(ExitCode::Ok);
                tried += 1;
            }
        }
    }
    assert!(tried + 1 >= whole, "{tried} of {whole}");
}

#[test]
fn an_old_rollback_goes_on_from_wherever_it_was_left() {
    goes_on(&[&BEFORE[..], &[DEPLOY]].concat(), ROLLBACK, ("v2", "v1"));
}

#[test]
fn an_old_deploy_goes_on_from_wherever_it_was_left() {
    goes_on(&BEFORE, DEPLOY, ("v1", "v2"));
}
