//! Scenarios of the documents from end to end, with the apps that are shipped as examples, on a real server. docs/scenarios.md says of
//! every scenario which test shows it.

use std::os::unix::fs::PermissionsExt;

use lifeboat_model::ExitCode;

use crate::{
    atomic_crm,
    center::{Center, ask},
    home::Home,
};

const CONFIRM: [&str; 3] = ["--yes", "--confirm", "service-center/production"];
const LEDGER: &str = "SELECT string_agg(version, ' ' ORDER BY version) FROM supabase_migrations.schema_migrations";
const TICKETS: &str =
    "SELECT count(*) || ' ' || md5(string_agg(id || title || status, ',' ORDER BY id)) FROM service_tickets";

/// Phase 1 is sealed and runs.
fn phase_one() -> Center {
    let center = Center::open();
    center.run(&["checkpoint", "--unproven", "--label", "phase-1"]).ends(ExitCode::Ok);
    center
}

fn rolled_back(center: &Center, words: &[&str]) -> serde_json::Value {
    let all = [&["rollback", "--json"], words, &CONFIRM[..]].concat();
    center.run(&all).ends(ExitCode::Ok).json()
}

/// 2-D, DEC-01 to DEC-04: each of the fifteen rules by itself: what it says, in which time, and that it is on record.
#[test]
fn scenario_002_d_each_of_the_fifteen_rules_decides() {
    let home = Home::shop();
    let (at_once, in_time, later) = (("roll-back", "critical", 10), ("roll-back", "major", 10), ("stay", "minor", 0));
    let rules = [
        ("database_corruption=yes", at_once),
        ("system_unavailable=6m", at_once),
        ("data_loss=yes", at_once),
        ("security_breach=yes", at_once),
        ("migration_failure=yes", at_once),
        ("error_rate=61/1200,window=5m", in_time),
        ("response_time=3.1s,n=900,window=5m", in_time),
        ("core_workflow_broken=yes", in_time),
        ("critical_bugs=4,after=40m", in_time),
        ("rls_policy_failure=yes", in_time),
        ("single_noncritical_bug=yes", later),
        ("minor_ui=yes", later),
        ("email_delay=yes", later),
        ("perf_affects_users=9", later),
        ("noncritical_feature=yes", later),
    ];
    for (number, (fact, (verdict, severity, code))) in rules.iter().enumerate() {
        // Each is a matter of its own, noticed at another time.
        let noticed = format!("{}s ago", 20 - number);
        let told = home.run(&["decide", "--fact", fact, "--rest-is-fine", "--detected", &noticed, "--json"]);
        assert_eq!(told.code, Some(*code), "{fact}: {} {}", told.out, told.err);
        let told = told.json();
        let decided = &told["decision"]["decided"];
        assert_eq!((&told["verdict"], &decided["severity"]), (&(*verdict).into(), &(*severity).into()), "{fact}");
        assert_eq!(decided["matched"].as_array().unwrap().len(), 1, "{fact}: {decided}");
        let deadline = decided["deadline"].as_str().map(|text| text.parse::<jiff::Timestamp>().unwrap());
        let noticed: jiff::Timestamp = told["decision"]["basis"]["detected"].as_str().unwrap().parse().unwrap();
        let within = deadline.map(|deadline| deadline.duration_since(noticed).as_secs());
        let wanted = match *severity {
            "critical" => (0..=20).contains(&within.unwrap()),
            "major" => within == Some(1_800),
            _minor => within.is_none(),
        };
        assert!(wanted, "{fact}: {within:?} s");
        let history = home.run(&["history", "--json"]).json();
        let newest = history["operations"][0]["id"].as_str().unwrap();
        home.run(&["decide", "--replay", newest]).ends(ExitCode::Ok).says(&["It comes out the same"]);
    }
}

/// 2-A1, MIG-08, MIG-10: another tool has applied one of three migrations. Without a word for the release it goes back to what the running
/// application knows, by the DOWN script; nothing is restored, and what is of phase 1 is as it was.
#[test]
fn scenario_002_a1_a_partial_migration_goes_back_by_its_down_scripts() {
    let center = phase_one();
    let script = center.home.path("supabase/migrations/20251020000001_task_templates.sql");
    center.sql(&std::fs::read_to_string(script).unwrap());
    center.sql(
        "INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ('20251020000001', 'task_templates')",
    );
    let before = center.sql(TICKETS);
    let said = center.run(&["decide", "--fact", "migration_failure=yes"]).ends(ExitCode::ActionAdvised);
    said.says(&["ROLL BACK (critical)", "lifeboat rollback --env production --dry-run"]);
    let shown = center.run(&["rollback", "--env", "production", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["(phase-1)", "take back 20251020000001 in db", "Way app-and-down: this one", "task_templates"]);
    let done = rolled_back(&center, &[]);
    assert_eq!(done["rollback"]["profile"], "app-and-down");
    assert_eq!((center.sql(LEDGER).as_str(), center.sql(TICKETS)), ("20251001000000", before));
    assert_eq!(center.sql("SELECT to_regclass('task_templates') IS NULL"), "t");
    assert_eq!(center.health()["version"], "1.0");
    let history = center.run(&["history", "--json"]).ends(ExitCode::Ok).json();
    assert!(history["operations"].as_array().unwrap().iter().all(|one| one["kind"] != "restore"), "{history}");
    // Application and database agree: now there is nothing.
    center.run(&["rollback", "--dry-run"]).ends(ExitCode::Refused).says(&["no release but what runs"]);
}

/// 2-A2, APP-11: somebody took the application back by itself. That the database is of the newer phase is seen without anybody saying so,
/// and is what goes back; an older release is not gone to.
#[test]
fn scenario_002_a2_an_application_that_went_back_alone_is_followed_by_its_database() {
    let center = phase_one();
    // There is an older good one too.
    center.shell("git commit -q --allow-empty -m older && git reset -q --hard HEAD");
    center.use_version("main");
    center.sql("INSERT INTO service_tickets (title) VALUES ('made in phase 2')");
    center
        .shell("python3 app.py stop; ln -sfn releases/$(git rev-parse phase-1) current; python3 current/app.py start");
    let log = std::fs::read_to_string(center.home.path("run/app.log")).unwrap();
    assert!(log.contains("does not fit the database"), "{log}");
    let shown = center.run(&["rollback", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["(phase-1)", "take back 20251020000003", "Way app-only: does not work, since what"]);
    let done = rolled_back(&center, &["--reason", "the application went back alone"]);
    assert_eq!((&done["rollback"]["profile"], &done["outcome"]), (&"app-and-down".into(), &"done".into()));
    assert_eq!((center.health()["version"].clone(), center.sql(LEDGER)), ("1.0".into(), "20251001000000".into()));
    assert_eq!(center.sql("SELECT count(*) FROM service_tickets WHERE title = 'made in phase 2'"), "1");
    let (status, body) = ask(center.port, "POST", "/api/tickets", "{\"title\": \"both are of phase 1\"}").unwrap();
    assert_eq!(status, 201, "{body}");
}

/// 2-A3, PHS-07: the shortest way fails and is put back, and says which is next; that one does it. Both are on record, the backup is what
/// it was; and whom to call, and what else there is, is told.
#[test]
fn scenario_002_a3_a_rollback_that_fails_names_the_next_way() {
    let center = phase_one();
    let backup = center.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    let backup = backup["backups"][0]["id"].as_str().unwrap().to_owned();
    let shown = || center.run(&["backups", "show", &backup, "--json"]).ends(ExitCode::Ok).json()["manifest"].clone();
    let before = shown();
    assert!(before.is_object(), "{before}");
    center.use_version("main");
    // What somebody made by hand stands in the way of a DOWN script.
    center.sql("CREATE VIEW reports AS SELECT name FROM task_templates");
    let failed = center.run(&[&["rollback"], &CONFIRM[..]].concat()).ends(ExitCode::FailedUndone);
    failed.says(&[
        "view reports depends on table task_templates",
        "lifeboat rollback phase-1 --profile full",
        "put back",
    ]);
    assert_eq!(
        (center.health()["version"].clone(), center.sql("SELECT count(*) FROM reports")),
        ("2.0".into(), "3".into())
    );
    let done = rolled_back(&center, &["phase-1", "--profile", "full", "--reason", "the DOWN scripts do not run"]);
    assert_eq!((&done["rollback"]["profile"], &center.health()["version"]), (&"full".into(), &"1.0".into()));
    let history = center.run(&["history", "--json"]).ends(ExitCode::Ok).json();
    let rollbacks = history["operations"].as_array().unwrap().iter().filter(|one| one["kind"] == "rollback");
    let how: Vec<&str> = rollbacks.map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(how, ["done", "put-back"]);
    assert_eq!(shown(), before, "the backup is what it was");
    center.run(&["vault", "check"]).ends(ExitCode::Ok);
    center.run(&["provider", "routes", "db"]).ends(ExitCode::Ok).says(&["A restore by the provider", "center_before_"]);
    center.run(&["escalation"]).ends(ExitCode::Ok).says(&["vendor"]);
}

/// 2-A4, SLV-01 to SLV-03: what was made and changed since is shown before, kept, written out for its owner alone, and brought back into the
/// older schema as far as it fits. The ledger of migrations is none of it: it would claim a schema that is not there.
#[test]
fn scenario_002_a4_what_was_made_since_comes_back_into_the_older_schema() {
    let center = phase_one();
    center.use_version("main");
    let (status, body) = ask(center.port, "POST", "/api/tickets", "{\"title\": \"made in phase 2\"}").unwrap();
    assert_eq!(status, 201, "{body}");
    center.sql("UPDATE service_tickets SET title = 'another title' WHERE id = 1");
    let shown = center.run(&["rollback", "--profile", "full", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["public.service_tickets", "1 created", "public.service_ticket_tasks"]);
    let done = rolled_back(&center, &["--profile", "full", "--reason", "phase 2 failed"]);
    let operation = done["id"].as_str().unwrap();
    assert_eq!(
        center.sql("SELECT count(*) FROM service_tickets WHERE title LIKE 'made%' OR title LIKE 'another%'"),
        "0"
    );
    center.run(&["salvage", "list", operation]).ends(ExitCode::Ok).says(&["public.service_tickets", "the table"]);
    center.run(&["salvage", "export", operation, "--to", "kept"]).ends(ExitCode::Ok);
    let tasks = center.home.path("kept/public.service_ticket_tasks.csv");
    let text = std::fs::read_to_string(&tasks).unwrap();
    assert!(text.lines().next().unwrap().contains("ticket,template") && text.lines().count() == 2, "{text}");
    assert_eq!(tasks.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let tried = center.run(&["salvage", "apply", operation, "--dry-run"]).ends(ExitCode::Ok);
    tried.says(&[
        "public.service_ticket_tasks: not representable",
        "public.service_tickets: there is no column priority",
    ]);
    let applied = center.run(&["salvage", "apply", operation, "--yes"]).ends(ExitCode::Ok);
    applied.says(&["supabase_migrations.schema_migrations says which migrations were applied, and stays as it is"]);
    assert_eq!(center.sql("SELECT count(*) FROM service_tickets WHERE title = 'made in phase 2'"), "1");
    assert_eq!(
        center.sql("SELECT count(*) FROM service_tickets WHERE title = 'another title'"),
        "0",
        "only when asked"
    );
    assert_eq!(center.sql(LEDGER), "20251001000000", "the ledger says what is there");
    // The app starts with it, and everything goes on.
    center.shell("python3 app.py stop; : > run/app.log; python3 current/app.py start");
    assert_eq!(center.health()["version"], "1.0");
    let log = std::fs::read_to_string(center.home.path("run/app.log")).unwrap();
    assert!(!log.contains("does not fit"), "{log}");
    center.run(&["rollback", "--dry-run"]).ends(ExitCode::Refused).says(&["no release but what runs"]);
    center.run(&[&["undo"], &CONFIRM[..]].concat()).ends(ExitCode::Ok);
    assert_eq!(center.sql("SELECT count(*) FROM service_tickets WHERE title = 'made in phase 2'"), "0");
}

/// 3-Q: the quick way: what is there is kept first, writes are refused meanwhile, the newest backup comes back, its rows and its ledger are
/// counted, and the app goes on - without a step in between.
#[test]
fn scenario_003_q_an_emergency_restore_of_the_crm() {
    let crm = atomic_crm::crm();
    atomic_crm::run(&crm, &["backup", "db"]).ends(ExitCode::Ok);
    let count = "SELECT count(*) || ' ' || (SELECT count(*) FROM organizations) || ' ' || (SELECT string_agg(version, ' ') FROM schema_migrations) FROM contacts";
    let before = crm.sql(count);
    crm.sql(
        "DELETE FROM contacts WHERE id % 2 = 0; INSERT INTO contacts (name, email) VALUES ('Late', 'late@example.org')",
    );
    let refused =
        atomic_crm::run(&crm, &["restore", "db", "--confirm", "atomic-crm/production"]).ends(ExitCode::Refused);
    refused.says(&["has not been rehearsed", "--urgent"]);
    let words =
        ["restore", "db", "--urgent", "--reason", "contacts are gone", "--confirm", "atomic-crm/production", "--json"];
    let done = atomic_crm::run(&crm, &words).ends(ExitCode::Ok).json();
    let order: Vec<&str> = done["phases"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(!order.is_empty(), "{done}");
    assert_eq!(crm.sql(count), before);
    let backups = atomic_crm::run(&crm, &["backups", "list"]).ends(ExitCode::Ok);
    backups.says(&["emergency"]);
    let (status, body) =
        ask(crm.port, "POST", "/contacts", "{\"name\": \"Next\", \"email\": \"next@example.org\"}").unwrap();
    assert_eq!(status, 201, "writes are let in: {body}");
    assert_eq!(atomic_crm::health(&crm)["status"], "ok");
    // Who came since is kept, and comes back when somebody wants it.
    let operation = done["id"].as_str().unwrap();
    let apply = ["salvage", "apply", operation, "--table", "contacts", "--yes"];
    atomic_crm::run(&crm, &apply).ends(ExitCode::Ok);
    assert_eq!(crm.sql("SELECT count(*) FROM contacts WHERE email = 'late@example.org'"), "1");
}
