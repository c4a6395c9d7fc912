//! People around an incident, through the program: what is due after a rollback, and who is called until somebody answers.

use lifeboat_model::ExitCode;

use crate::{home::Home, serve::Serving};

/// An app that is put in use by commands: `v1` sealed and good, `v2` running, and what is to be stable at once.
fn home() -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write(
        "lifeboat.toml",
        format!(
            "{settings}[environments.local.targets.web]\ndriver = \"command\"\nrunning = [\"cat\", \"IN_USE\"]\nswitch = [\"sh\", \"deploy\", \"{{version}}\"]\n\
             stop = [\"true\"]\nstart = [\"true\"]\n[due]\nstability = \"1ms\"\npost_mortem = \"48h\"\nredeploy = \"never\"\n"
        ),
    );
    home.write("deploy", "echo \"$1\" > IN_USE\n");
    home.write("IN_USE", "v1\n");
    home.run(&["checkpoint", "--label", "first", "--unproven"]).ends(ExitCode::Ok);
    home.run(&["releases", "mark", "first", "good"]).ends(ExitCode::Ok);
    home.write("IN_USE", "v2\n");
    home
}

#[test]
fn pir_04_a_rollback_says_what_is_due_and_who_did_it() {
    let home = home();
    home.run(&["incident", "show"]).ends(ExitCode::Ok).says(&["Nothing is due"]);
    home.run(&["incident", "open", "orders are lost"]).ends(ExitCode::Ok);
    home.run(&["rollback", "--dry-run"]).ends(ExitCode::Ok).says(&["what is due"]);
    home.run(&["rollback", "--yes", "--reason", "orders are lost"]).ends(ExitCode::Ok);
    let shown = home.run(&["incident", "show"]).ends(ExitCode::ActionAdvised).says(&[
        "orders are lost",
        "OVERDUE",
        "post-mortem",
    ]);
    assert!(shown.out.find("stability") < shown.out.find("document"), "overdue ones first: {}", shown.out);
    assert!(!shown.out.contains("next deploy is planned"), "{}", shown.out);
    let status = home.run(&["status"]).says(&["OVERDUE since", "lifeboat incident done stability", "due in "]);
    assert!(status.out.contains("lifeboat evidence collect"), "{}", status.out);

    home.run(&["incident", "done", "root-cause", "--note", "x", "--category", "bad luck"]).ends(ExitCode::Usage);
    home.run(&["incident", "done", "root-cause", "--note", "a lock", "--category", "migration error"])
        .ends(ExitCode::Ok);
    home.run(&["incident", "done", "stability", "--note", "looked for an hour"]).ends(ExitCode::Ok);
    home.run(&["evidence", "collect"]).ends(ExitCode::Ok);
    home.run(&["incident", "close", "--note", "rolled back"]).ends(ExitCode::Ok);
    let shown = home.run(&["incident", "show", "--json"]).ends(ExitCode::Ok).json();
    let due = shown["due"].as_array().unwrap();
    let of = |key: &str| -> Vec<&serde_json::Value> { due.iter().filter(|one| one["key"] == key).collect() };
    let incident = &shown["incident"]["id"];
    assert!(due.iter().all(|one| one["incident"] == *incident), "{due:?}");
    let keys: std::collections::BTreeSet<&str> = due.iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), due.len(), "nothing is due twice: {due:?}");
    for (key, note) in [("root-cause", "Migration error: a lock"), ("stability", "looked for an hour")] {
        let done = &of(key)[0]["done"];
        assert_eq!((&done["note"], &done["by"]), (&note.into(), &"tester".into()));
    }
    assert!(of("evidence")[0]["done"]["note"].as_str().unwrap().starts_with("evidence about "), "{due:?}");
    let reviewed = home.run(&["incident", "review", "--note", "it was a lock"]).ends(ExitCode::Ok);
    assert!(reviewed.err.contains("Still due in") && !reviewed.err.contains("post-mortem"), "{}", reviewed.err);
}

/// Roles of a team, as settings say them.
fn roles(phone: &str) -> String {
    let roles = ["deployment_lead", "database_administrator", "application_administrator", "communications_lead"];
    let one =
        |key: &str| format!("[escalation.roles.{key}]\nprimary = \"Ada\"\nbackup = \"Bob\"\nphone = \"{phone}\"\n");
    let named =
        "[escalation]\nteam = \"dev\"\nvendor = \"support@supabase.com\"\non_call = \"Ada\"\nexecutive = \"Eve\"\n";
    roles.iter().fold(named.to_owned(), |text, key| text + &one(key))
}

/// ESC-03: whom a document leaves open nobody can call, and that is red beforehand; it keeps nothing else from being done.
#[test]
fn esc_03_a_placeholder_is_nobody_to_call() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}{}", roles("[PHONE]")));
    let contacts = |home: &Home| {
        let ready = home.run(&["ready", "--json"]).json();
        let points = ready["points"].as_array().unwrap().clone();
        points.into_iter().find(|point| point["key"] == "contacts").unwrap()
    };
    let red = contacts(&home);
    assert_eq!(red["outcome"], "fail", "{red}");
    assert!(red["detail"].as_str().unwrap().contains("roles.communications_lead.phone"), "{red}");
    home.backup();
    home.write("lifeboat.toml", format!("{settings}{}", roles("+49 30 1234567")));
    assert_eq!(contacts(&home)["outcome"], "pass");
    home.write("lifeboat.toml", format!("{settings}{}", roles("1").replace("deployment_lead", "captain")));
    home.run(&["escalation"]).ends(ExitCode::Usage).says(&["captain is no role"]);
}

/// 2-E: after five minutes the backup is called, after ten everybody, after thirty the executive; whoever answers is waited for no more.
#[test]
fn esc_03_people_are_called_until_somebody_answers() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    let channel = "[notify.team]\nfile = \"./messages.jsonl\"\nfor = [\"escalation\"]\n";
    home.write("lifeboat.toml", format!("{settings}{}{channel}", roles("+49 30 1234567")));
    home.run(&["escalation", "ack"]).ends(ExitCode::Refused).says(&["no incident is open"]);
    home.run(&["incident", "open", "orders are lost", "--since", "6m ago"]).ends(ExitCode::Ok);
    home.run(&["messages", "remind"]).ends(ExitCode::Ok).says(&["call the backups"]);
    let lines = std::fs::read_to_string(home.path("messages.jsonl")).unwrap();
    assert!(lines.contains("database administrator: Ada has not answered, call Bob, +49 30 1234567"), "{lines}");
    home.run(&["escalation", "ack", "--note", "on it"]).ends(ExitCode::Ok);
    home.run(&["escalation"]).ends(ExitCode::Ok).says(&["communications lead", "Bob", "tester at"]);
    let answered = home.run(&["escalation", "--json"]).json()["answered"].clone();
    assert_eq!((&answered[0]["by"], &answered[0]["note"]), (&"tester".into(), &"on it".into()));
    home.run(&["incident", "close", "--note", "over"]).ends(ExitCode::Ok);
    // Another one, in which somebody has answered and which is not over.
    home.run(&["incident", "open", "again", "--since", "40m ago"]).ends(ExitCode::Ok);
    home.run(&["escalation", "ack"]).ends(ExitCode::Ok);
    let reminded = home.run(&["messages", "remind"]).ends(ExitCode::Ok).says(&["call the executive"]);
    assert!(!reminded.out.contains("backups"), "{}", reminded.out);
}

/// ESC-07: a daemon that begins in the middle of it tells what it should have told by then.
#[test]
fn esc_07_a_daemon_that_begins_late_calls_all_the_same() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    let channel = "[notify.team]\nfile = \"./messages.jsonl\"\nfor = [\"escalation\"]\n";
    home.write("lifeboat.toml", format!("{settings}{}{channel}", roles("+49 30 1234567")));
    drop(Serving::of(&home, &[]));
    home.run(&["incident", "open", "orders are lost", "--since", "6m ago"]).ends(ExitCode::Ok);
    for _ in 0..2 {
        let serving = Serving::of(&home, &[]);
        let told = || std::fs::read_to_string(home.path("messages.jsonl")).unwrap_or_default();
        // Each answer takes its time; so many are more than it needs.
        for _ in 0..3_000 {
            if told().contains("call the backups") {
                break;
            }
            serving.ask("GET", "/api/health", &[]);
        }
        assert_eq!(told().lines().count(), 1, "each once, whoever tells it");
    }
}
