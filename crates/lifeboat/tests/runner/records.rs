//! What goes on record: leaked secrets, reviews, incidents, evidence; and what logs say.

use lifeboat_model::ExitCode;

use crate::home::Home;

/// A shop with an env file beside its database.
fn home() -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    let settings = settings.replacen("[vault]", "incident_log = \"./docs/incidents.md\"\n[vault]", 1);
    home.write("lifeboat.toml", settings + "[environments.local.resources.env]\nkind = \"env\"\npath = \"./.env\"\n");
    home.write(".env", "STRIPE_KEY=leaked-value\nDEBUG=1\n");
    home
}

#[test]
fn ret_10_an_env_file_with_a_leaked_secret_does_not_come_back() {
    let home = home();
    home.backup();
    home.run(&["backups", "compromised", "STRIPE_KEY", "--reason", "in a public log"])
        .ends(ExitCode::Ok)
        .says(&["1 backup holds compromised values"]);
    home.run(&["backups", "list"]).says(&["holds compromised STRIPE_KEY"]);
    home.write(".env", "STRIPE_KEY=new\n");
    let refused = home.run(&["restore", "env", "--yes"]).ends(ExitCode::Refused);
    assert!(refused.err.contains("holds compromised values of STRIPE_KEY"), "{}", refused.err);
    assert!(refused.err.contains("in a public log"), "{}", refused.err);
    assert!(!refused.err.contains("leaked-value"));
    home.run(&["restore", "env", "--into", "./.env.old"]).ends(ExitCode::Refused);
    // Other things out of the same backup come back.
    home.sell(2);
    home.run(&["restore", "db", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    // A backup from after the change is fine; an older one is so only when somebody says why.
    home.backup();
    home.run(&["restore", "env", "--yes"]).ends(ExitCode::Ok);
    let listed = home.run(&["backups", "list", "--json"]).json();
    let oldest = listed["backups"].as_array().unwrap().last().unwrap();
    assert_eq!(oldest["compromised"][0], "STRIPE_KEY");
    let oldest = oldest["id"].as_str().unwrap();
    home.run(&["restore", "env", "--from", oldest, "--yes", "--urgent"]).ends(ExitCode::Usage);
    home.run(&["restore", "env", "--from", oldest, "--yes", "--urgent", "--reason", "payments are down"])
        .ends(ExitCode::Ok);
    assert!(std::fs::read_to_string(home.path(".env")).unwrap().contains("leaked-value"));
    assert!(std::fs::read_to_string(home.path("docs/incidents.md")).unwrap().contains("payments are down"));
    // It was a mistake after all.
    home.run(&["backups", "compromised", "STRIPE_KEY", "--withdraw", "--reason", "it was a test key"])
        .ends(ExitCode::Ok);
    home.run(&["restore", "env", "--from", oldest, "--yes"]).ends(ExitCode::Ok);
}

#[test]
fn ret_07_after_a_restore_retention_stays_open_until_somebody_attests_it() {
    let home = home();
    home.backup();
    assert!(home.run(&["status", "--json"]).json().get("open_items").is_none());
    home.run(&["restore", "db", "--yes", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    home.run(&["status"]).says(&["retention was not reviewed since"]);
    home.run(&["retention", "attest", "--note", "looked at it"]).ends(ExitCode::Ok).says(&["stays:"]);
    assert!(home.run(&["status", "--json"]).json().get("open_items").is_none());
    let history = home.run(&["history", "--json"]).json();
    let operation = history["operations"][0]["id"].as_str().unwrap().to_owned();
    let journal = home.run(&["journal", "export", &operation]).ends(ExitCode::Ok);
    assert!(journal.out.contains("stays:") && journal.out.contains("looked at it"), "the report is attached");
    home.run(&["undo", "--yes", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    home.run(&["status"]).says(&["retention was not reviewed since"]);
}

#[test]
fn aud_03_every_restore_and_undo_is_told_to_the_incident_log() {
    let home = home();
    let backup = home.backup();
    home.run(&["restore", "db", "--yes", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    home.run(&["restore", "db", "--into", "./aside.db"]).ends(ExitCode::Ok);
    home.run(&["undo", "--yes", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    let log = std::fs::read_to_string(home.path("docs/incidents.md")).unwrap();
    assert_eq!(log.matches("\n## ").count(), 2, "{log}");
    assert!(log.contains(&format!("from backup: {backup}")) && log.starts_with("# Incident log"), "{log}");
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", settings.replace("incidents.md", "incidents.jsonl"));
    home.run(&["restore", "db", "--yes", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    let lines = std::fs::read_to_string(home.path("docs/incidents.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!((&line["ended"], &line["by"]), (&"done".into(), &"tester".into()));
}

#[test]
fn ret_06_an_incident_is_opened_closed_and_reviewed() {
    let home = home();
    home.backup();
    home.run(&["incident", "list"]).ends(ExitCode::Ok).says(&["There is no incident"]);
    home.run(&["incident", "close", "--note", "x"]).ends(ExitCode::Usage).says(&["no incident is open"]);
    home.run(&["incident", "open", "prices are wrong", "--since", "1h ago", "--dry-run"]).ends(ExitCode::Ok);
    home.run(&["incident", "list"]).says(&["There is no incident"]);
    home.run(&["incident", "open", "prices are wrong", "--since", "1h ago"]).ends(ExitCode::Ok);
    home.run(&["incident", "list"]).ends(ExitCode::Ok).says(&["prices are wrong", "open", "1 backup"]);
    // The only backup was taken while it was wrong already: it comes back only by name.
    home.run(&["restore", "db", "--confirm", "shop/local"]).ends(ExitCode::Refused);
    let listed = home.run(&["backups", "list", "--json"]).json();
    let backup = listed["backups"][0]["id"].as_str().unwrap().to_owned();
    home.run(&["restore", "db", "--from", &backup, "--confirm", "shop/local"]).ends(ExitCode::Ok);
    let history = home.run(&["history", "--json"]).json();
    let operation = history["operations"][0]["id"].as_str().unwrap().to_owned();
    home.run(&["incident", "close", "--note", "restored"]).ends(ExitCode::Ok);
    let refused = home.run(&["release", &operation, "--confirm", "shop/local"]).ends(ExitCode::Refused);
    assert!(refused.err.contains("is not reviewed: prices are wrong"), "{}", refused.err);
    home.run(&["incident", "review", "--note", "prices are checked now"]).ends(ExitCode::Ok);
    let listed = home.run(&["incident", "list", "--json"]).json();
    assert_eq!(
        (&listed["incidents"][0]["state"], &listed["incidents"][0]["holds_backups"]),
        (&"reviewed".into(), &0.into())
    );
    home.run(&["release", &operation, "--yes", "--confirm", "shop/local"]).ends(ExitCode::Ok);
}

#[test]
fn aud_02_evidence_is_complete_held_and_its_change_is_noticed() {
    let home = home();
    let backup = home.backup();
    home.run(&["restore", "db", "--yes", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    home.write("app.log", "2025-11-04T14:30:00Z ERROR it broke\n");
    let told =
        home.run(&["evidence", "collect", "--attach", "app.log", "--to", "proof", "--json"]).ends(ExitCode::Ok).json();
    let files: Vec<&str> =
        told["evidence"]["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    for wanted in ["journal.ndjson", "operation.json", "lifeboat.toml", "attached/01-app.log"] {
        assert!(files.contains(&wanted), "{wanted} is not in {files:?}");
    }
    assert!(files.contains(&format!("manifests/{backup}.json").as_str()), "{files:?}");
    home.run(&["evidence", "verify", "proof"]).ends(ExitCode::Ok).says(&["As collected"]);
    // The rules of retention do not touch the backups of it.
    let listed = home.run(&["backups", "list", "--json"]).json();
    assert!(listed["backups"].as_array().unwrap().iter().all(|one| one["held"].is_string()), "{listed}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(home.path("proof")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    // A file that is changed, and a list that is changed to fit.
    home.write("proof/attached/01-app.log", "2025-11-04T14:30:00Z INFO all is well\n");
    home.run(&["evidence", "verify", "proof"]).ends(ExitCode::Damaged).says(&["is not what was collected"]);
    let list = std::fs::read_to_string(home.path("proof/evidence.json")).unwrap();
    home.write("proof/evidence.json", list.replace("tester", "somebody"));
    home.run(&["evidence", "verify", "proof"]).ends(ExitCode::Damaged).says(&["no journal here has"]);
    home.run(&["evidence", "collect", "--to", "proof"]).ends(ExitCode::Refused);
}

#[test]
fn aud_07_errors_in_logs_are_counted_by_kind_within_a_span() {
    let home = home();
    home.write(
        "app.log",
        "starting\n2025-11-04T14:00:00Z ERROR before\n2025-11-04T14:30:00Z ERROR: UNIQUE constraint failed: a.b\n   at x.js:1 error\n\
         2025-11-04T14:31:00Z info fine\n2025-11-04T15:00:00Z ERROR after\n",
    );
    let span = ["--since", "2025-11-04T14:30:00Z", "--until", "2025-11-04T15:00:00Z", "--json"];
    let told = home.run(&[&["logs", "scan", "app.log"][..], &span].concat()).ends(ExitCode::Ok).json();
    let kinds = &told["found"]["kinds"];
    assert_eq!((&kinds["constraint"]["count"], &kinds["error"]["count"]), (&1.into(), &1.into()), "{told}");
    assert_eq!((&told["found"]["in_span"], &told["found"]["undated"]), (&3.into(), &1.into()));
    home.run(&["logs", "scan", "app.log"]).ends(ExitCode::Ok).says(&["constraint"]);
    home.run(&["logs", "scan", "missing.log"]).ends(ExitCode::Refused);
}

#[test]
fn aud_04_the_apps_own_log_is_read_and_its_absence_is_no_error() {
    let home = home();
    home.run(&["logs", "audit"]).ends(ExitCode::Ok).says(&["no table audit_log"]);
    home.db()
        .execute_batch(
            "CREATE TABLE audit_log (id INTEGER PRIMARY KEY, action TEXT, table_name TEXT, created_at TEXT);
             INSERT INTO audit_log VALUES (1, 'update', 'orders', '2025-11-04 14:29:59'),
                 (2, 'delete', 'orders', '2025-11-04 14:30:00'), (3, 'delete', 'orders', '2025-11-04T14:45:00Z'),
                 (4, 'update', 'orders', '2025-11-04 15:00:00');",
        )
        .unwrap();
    let span = ["--since", "2025-11-04T14:30:00Z", "--until", "2025-11-04T15:00:00Z", "--json"];
    let told = home.run(&[&["logs", "audit"][..], &span].concat()).ends(ExitCode::Ok).json();
    assert_eq!((&told["log"]["entries"], &told["log"]["counts"]["delete orders"]), (&2.into(), &2.into()), "{told}");
    home.run(&["logs", "audit", "db", "--since", "2025-11-04T00:00:00Z"]).ends(ExitCode::Ok).says(&["delete orders"]);
}
