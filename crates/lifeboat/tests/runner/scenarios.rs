//! Scenarios of the documents from end to end, with the apps that are shipped as examples, on a real server.

use std::os::unix::fs::PermissionsExt;

use lifeboat_model::ExitCode;

use crate::center::{Center, ask};

const CONFIRM: [&str; 3] = ["--yes", "--confirm", "service-center/production"];
const LEDGER: &str = "SELECT string_agg(version, ' ' ORDER BY version) FROM supabase_migrations.schema_migrations";

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
