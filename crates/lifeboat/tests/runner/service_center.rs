//! The example with a database on a server: its second phase is deployed, turns out to be bad, and is taken back - application and
//! database together, while a client makes tickets all the time.

use std::{process::Stdio, sync::atomic::Ordering, time::Duration};

use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::center::{Center, ask};

#[test]
fn phase_two_is_deployed_and_taken_back_while_tickets_are_made() {
    let center = Center::open();
    let sealed = center.run(&["checkpoint", "--label", "phase-1", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(sealed["kind"], "checkpoint");
    center.run(&["releases", "list"]).ends(ExitCode::Ok).says(&["phase-1", "live, good"]);
    center.run(&["releases", "show", "phase-1"]).ends(ExitCode::Ok).says(&[
        "tells 1.0",
        "20251001000000",
        "PORT, SUPABASE_DB_URL",
    ]);
    let none = center.run(&["rollback", "--dry-run"]).ends(ExitCode::Refused);
    none.says(&["known to be good"]);

    center.use_version("main");
    assert_eq!(center.health()["version"], "2.0");
    let (over, client) = center.client();
    let status = center.run(&["migrate", "status", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(status["ledger"], "supabase_migrations.schema_migrations");
    assert_eq!(status["newest"].as_array().unwrap().len(), 4);
    assert_eq!((&status["pending"], &status["without_down"]), (&serde_json::json!([]), &serde_json::json!([])));
    // The checkout was changed by hand; it stays as it is.
    center.home.write("VERSION", "by hand");
    let shown = center.run(&["rollback", "--dry-run", "--profile", "app-only"]);
    shown.ends(ExitCode::Ok).says(&["Way app-only: this one"]);
    let shown = center.run(&["rollback", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&[
        "Way app-only: does not work",
        "Way app-and-down: this one",
        "Way full: would work",
        "public.service_ticket_tasks",
    ]);
    let asked = center.run(&["rollback"]).ends(ExitCode::NeedsPerson);
    asked.says(&["--confirm service-center/production"]);
    let before = center.health();
    let confirm = ["--confirm", "service-center/production", "--json"];
    let done =
        center.run(&[&["rollback", "--reason", "phase 2 is bad"], &confirm[..]].concat()).ends(ExitCode::Ok).json();
    assert_eq!(done["outcome"], "done");
    assert_eq!(
        (&done["rollback"]["profile"], &done["rollback"]["whole"]),
        (&"app-and-down".into(), &"within-target".into())
    );
    std::thread::sleep(Duration::from_millis(300));
    over.store(true, Ordering::SeqCst);
    let made = client.join().unwrap();

    let now = center.health();
    assert_eq!(now["version"], "1.0");
    assert_ne!(now["started_at"], before["started_at"]);
    assert_eq!(
        center.sql("SELECT to_regclass('task_templates') IS NULL AND to_regclass('service_ticket_tasks') IS NULL"),
        "t"
    );
    assert_eq!(
        center.sql("SELECT string_agg(version, ' ') FROM supabase_migrations.schema_migrations"),
        "20251001000000"
    );
    assert!(center.sql("SELECT count(*) FROM dashboard_counts").parse::<u32>().is_ok());
    assert_eq!(center.sql("SELECT relrowsecurity FROM pg_class WHERE relname = 'service_tickets'"), "t");
    // Every ticket that the client was told of is there, from before and after.
    let ids: Vec<String> = made.iter().map(ToString::to_string).collect();
    let found = center.sql(&format!("SELECT count(*) FROM service_tickets WHERE id = ANY ('{{{}}}')", ids.join(",")));
    assert_eq!(found, made.len().to_string());
    assert!(made.len() > 5, "{made:?}");
    let log = std::fs::read_to_string(center.home.path("run/app.log")).unwrap();
    assert!(!log.contains("does not fit"), "old code has met the new schema: {log}");
    assert_eq!(std::fs::read_to_string(center.home.path("VERSION")).unwrap(), "by hand");
    center.run(&["releases", "list", "--json"]).ends(ExitCode::Ok).says(&["\"is_live\":true"]);
    let kept = center.shell("cat $(find state -path '*evidence*' -name app.log)");
    assert!(kept.contains("started 2.0") && log.contains(kept.trim()), "the log until the stop is kept: {kept}");
    // The database's address has no password here; that of the vault is nowhere.
    assert!(!log.contains(crate::home::PASSWORD));
}

fn ids(made: &[i64]) -> String {
    made.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// PHS-17: a version is rehearsed, migrated, started, tried and watched while a client makes tickets; it is good, and no ticket is lost.
#[test]
fn phs_17_a_deploy_while_tickets_are_made_ends_good() {
    let center = Center::open();
    let (over, client) = center.client();
    let shown = center.run(&["deploy", "main", "--dry-run"]);
    shown.ends(ExitCode::Refused).says(&["there is no vault", "lifeboat backup"]);
    let needs = center.run(&["deploy", "nowhere", "--yes"]).ends(ExitCode::Usage);
    needs.says(&["knows no version nowhere"]);
    let words = ["deploy", "main", "--label", "2.0", "--watch", "3s", "--yes", "--json"];
    let done = center.run(&words).ends(ExitCode::Ok).json();
    assert_eq!((&done["kind"], &done["outcome"]), (&"deploy".into(), &"done".into()));
    std::thread::sleep(Duration::from_millis(300));
    over.store(true, Ordering::SeqCst);
    let made = client.join().unwrap();
    assert_eq!(center.health()["version"], "2.0");
    let found = center.sql(&format!("SELECT count(*) FROM service_tickets WHERE id = ANY ('{{{}}}')", ids(&made)));
    assert_eq!(found, made.len().to_string());
    assert!(made.len() > 5, "{made:?}");
    assert_eq!(center.sql("SELECT count(*) FROM service_tickets WHERE title = 'smoke test'"), "0");
    assert_eq!(
        center.sql("SELECT count(*) || ' ' || count(statements) FROM supabase_migrations.schema_migrations"),
        "4 3",
        "the ledger is written as its own tool would"
    );
    let log = std::fs::read_to_string(center.home.path("run/app.log")).unwrap();
    assert!(!log.contains("does not fit"), "code has met a schema that it does not know: {log}");
    center.run(&["releases", "show", "2.0"]).ends(ExitCode::Ok).says(&["live, good", "tells 2.0"]);
    center.run(&["status"]).ends(ExitCode::Ok).says(&["Release      2.0 (r-", "Go back      before 2.0 (r-"]);
    center.run(&["deploy", "main", "--yes"]).ends(ExitCode::Ok).says(&["there is nothing to do"]);
    let older = center.run(&["deploy", "phase-1", "--dry-run"]).ends(ExitCode::Refused);
    older.says(&["this version does not know: 20251020000001", "lifeboat rollback"]);
    center.run(&["rollback", "--dry-run"]).ends(ExitCode::Ok).says(&["before 2.0", "Way app-and-down: this one"]);
}

/// PHS-17, MIG-11: a version that answers at first and breaks while it is watched goes back by itself, and what it wrote is kept.
#[test]
fn phs_17_a_version_that_breaks_while_it_is_watched_goes_back_by_itself() {
    let center = Center::open();
    let breaks = r#"            if self.path == "/dashboard" and int(ask("SELECT count(*) FROM service_ticket_tasks")) > 5: return self.answer(500, {})"#;
    let app = std::fs::read_to_string(center.home.path("app.py")).unwrap();
    let before = "            if self.path in (\"/login\", \"/dashboard\"):";
    assert!(app.contains(before));
    center.home.write("app.py", app.replacen(before, &format!("{breaks}\n{before}"), 1));
    center.shell("git add . && git commit --quiet -m 'it breaks'");
    let (over, client) = center.client();
    let words = ["deploy", "--label", "2.0", "--watch", "60s", "--yes"];
    let failed = center.run(&words).ends(ExitCode::FailedUndone);
    failed.says(&["/dashboard answers with 500", "put back"]);
    std::thread::sleep(Duration::from_millis(300));
    over.store(true, Ordering::SeqCst);
    let made = client.join().unwrap();
    assert_eq!(center.health()["version"], "1.0");
    assert_eq!(
        center.sql("SELECT string_agg(version, ' ') FROM supabase_migrations.schema_migrations"),
        "20251001000000"
    );
    assert_eq!(center.sql("SELECT to_regclass('service_ticket_tasks') IS NULL"), "t");
    let found = center.sql(&format!("SELECT count(*) FROM service_tickets WHERE id = ANY ('{{{}}}')", ids(&made)));
    assert_eq!(found, made.len().to_string(), "tickets from before, meanwhile and since");
    let log = std::fs::read_to_string(center.home.path("run/app.log")).unwrap();
    assert!(!log.contains("does not fit"), "old code has met the new schema: {log}");
    let history = center.run(&["history", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(
        (&history["operations"][0]["kind"], &history["operations"][0]["outcome"]),
        (&"deploy".into(), &"put-back".into())
    );
    let operation = history["operations"][0]["id"].as_str().unwrap();
    center.run(&["salvage", "list", operation]).ends(ExitCode::Ok).says(&["public.service_ticket_tasks"]);
    center.run(&["releases", "list"]).ends(ExitCode::Ok).says(&["2.0", "bad"]);
    center.run(&["status"]).ends(ExitCode::Ok).says(&[
        "is live, good",
        "Held         2.0 (r-",
        "it was rolled back by itself",
    ]);
    center.run(&["deploy", "--yes"]).ends(ExitCode::Refused).says(&["is held for bad", "/dashboard answers with 500"]);
}

/// PHS-18: killed while it is watched, the version goes on running; who looks is told where the deploy stands and which backup belongs to it, and
/// taking it back brings application and database back.
#[test]
fn phs_18_a_deploy_that_is_killed_is_named_and_taken_back() {
    let center = Center::open();
    let (over, client) = center.client();
    let words = ["deploy", "main", "--label", "2.0", "--watch", "5m", "--yes"];
    let mut deploy = center.command(&mut center.home.command(&words));
    let mut deploy = deploy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waits = std::time::Instant::now();
    while !center.run(&["status"]).out.contains("at: watch web") {
        assert!(waits.elapsed() < Duration::from_secs(120), "it is not watched");
        std::thread::sleep(Duration::from_millis(200));
    }
    deploy.kill().unwrap();
    deploy.wait().unwrap();
    assert_eq!(center.health()["version"], "2.0");
    let backup = center.run(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    let backup = backup["backups"][0]["id"].as_str().unwrap();
    let named = center.run(&["status"]).ends(ExitCode::Ok);
    named.says(&[
        "NOT OVER: of 2.0 (r-",
        &format!("backup of right before: {backup}"),
        "take it back: lifeboat abort o-",
    ]);
    center.run(&["deploy", "main", "--yes"]).ends(ExitCode::Busy).says(&["is not over", "lifeboat resume o-"]);
    center.run(&["abort"]).ends(ExitCode::Ok).says(&["put back"]);
    std::thread::sleep(Duration::from_millis(300));
    over.store(true, Ordering::SeqCst);
    let made = client.join().unwrap();
    assert_eq!(center.health()["version"], "1.0");
    assert_eq!(
        center.sql("SELECT string_agg(version, ' ') FROM supabase_migrations.schema_migrations"),
        "20251001000000"
    );
    let found = center.sql(&format!("SELECT count(*) FROM service_tickets WHERE id = ANY ('{{{}}}')", ids(&made)));
    assert_eq!(found, made.len().to_string());
    center.run(&["status"]).ends(ExitCode::Ok).says(&["is live, good"]);
}

/// MIG-08: a migration that fails only where it counts is taken back whole, and is a critical decision on record with the way; what was applied by
/// another tool and failed has its way named as well.
#[test]
fn mig_08_a_migration_that_fails_is_a_decision_with_its_way() {
    let center = Center::open();
    // The copy that it is rehearsed on has another name.
    center.home.write(
        "supabase/migrations/20251021000000_here.sql",
        "DO $$ BEGIN IF current_database() = 'center' THEN RAISE EXCEPTION 'only here'; END IF; END $$;\n",
    );
    center.home.write("supabase/migrations/20251021000000_here_DOWN.sql", "SELECT 1;\n");
    center.shell("git add . && git commit --quiet -m 'it fails'");
    let failed = center.run(&["deploy", "main", "--label", "2.1", "--yes"]).ends(ExitCode::FailedUndone);
    failed.says(&["only here"]);
    assert_eq!(center.health()["version"], "1.0");
    let replay = |id: &str| center.run(&["decide", "--replay", id, "--json"]);
    let decision = || -> Value {
        let history = center.run(&["history", "--json"]).ends(ExitCode::Ok).json();
        let all = history["operations"].as_array().unwrap();
        let id = all.iter().find(|one| one["kind"] == "decide").unwrap()["id"].as_str().unwrap().to_owned();
        let journal = center.run(&["journal", "export", &id]).ends(ExitCode::Ok).out;
        let first: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
        replay(&id);
        first["event"]["plan"]["request"]["about"].clone()
    };
    let text = decision().to_string();
    assert!(text.contains("\"way\":\"down\"") && text.contains("\"taken\":true"), "{text}");
    assert!(text.contains("only here") && text.contains("migration_failure"), "{text}");
    // It is over: nothing is left to be decided.
    center.run(&["decide", "--rest-is-fine", "--dry-run"]).ends(ExitCode::Ok);
    // A tool of its own has applied one and failed at the next.
    center.sql("CREATE TABLE task_templates (id bigserial PRIMARY KEY, name text NOT NULL)");
    center.sql(
        "INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ('20251020000001', 'task_templates')",
    );
    let said = center.run(&["decide", "--fact", "migration_failure=yes"]).ends(ExitCode::ActionAdvised);
    said.says(&["ROLL BACK", "way back"]);
    assert!(decision().to_string().contains("\"taken\":false"));
}

/// MIG-08: whoever brings the deploy to an end, the failure is on record: here it was killed while it migrated, and goes on.
#[test]
fn mig_08_a_migration_that_fails_when_its_deploy_goes_on_is_a_decision() {
    let center = Center::open();
    center.home.write(
        "supabase/migrations/20251021000000_here.sql",
        "DO $$ BEGIN IF current_database() = 'center' THEN
             IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'goes_on') THEN PERFORM pg_sleep(120); END IF;
             RAISE EXCEPTION 'only here';
         END IF; END $$;\n",
    );
    center.home.write("supabase/migrations/20251021000000_here_DOWN.sql", "SELECT 1;\n");
    center.shell("git add . && git commit --quiet -m 'it fails'");
    let words = ["deploy", "main", "--label", "2.1", "--yes"];
    let mut deploy = center.command(&mut center.home.command(&words));
    let mut deploy = deploy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let asleep = "FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = 'center'";
    let waits = std::time::Instant::now();
    while center.sql(&format!("SELECT count(*) {asleep}")) == "0" {
        assert!(waits.elapsed() < Duration::from_secs(120), "it does not migrate");
        std::thread::yield_now();
    }
    deploy.kill().unwrap();
    deploy.wait().unwrap();
    center.server.sql("postgres", &format!("SELECT pg_terminate_backend(pid) {asleep}; CREATE ROLE goes_on"));
    center.run(&["resume"]).ends(ExitCode::FailedUndone).says(&["only here", "put back"]);
    assert_eq!(center.health()["version"], "1.0");
    let history = center.run(&["history", "--json"]).ends(ExitCode::Ok).json();
    let (last, before) = (&history["operations"][0], &history["operations"][1]);
    assert_eq!((&last["kind"], &before["kind"]), (&"decide".into(), &"deploy".into()), "{history}");
    let journal = center.run(&["journal", "export", last["id"].as_str().unwrap()]).ends(ExitCode::Ok).out;
    assert!(journal.contains("migration_failure") && journal.contains("only here"), "{journal}");
    assert!(journal.contains("\"way\":\"down\"") && journal.contains("\"taken\":true"), "{journal}");
}

/// A deploy that runs when somebody rolls back: it stops at its safe point, is taken back, and the version is held. Rows that came in the
/// meantime stay.
#[test]
fn a_deploy_that_runs_makes_way_for_a_rollback() {
    let center = Center::open();
    let (over, client) = center.client();
    let words = ["deploy", "main", "--label", "2.0", "--watch", "5m", "--yes"];
    let mut deploy = center.command(&mut center.home.command(&words));
    let deploy = deploy.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let waits = std::time::Instant::now();
    while !center.run(&["status"]).out.contains("at: watch web") {
        assert!(waits.elapsed() < Duration::from_secs(120), "it is not watched");
        std::thread::sleep(Duration::from_millis(200));
    }
    center.run(&["rollback"]).ends(ExitCode::NeedsPerson).says(&["is taken back first", "lifeboat rollback --yes"]);
    center.run(&["rollback", "--dry-run", "1.0"]).says(&["is not over, and is taken back first"]);
    assert_eq!(center.health()["version"], "2.0", "nobody has agreed to anything");
    let back = center.run(&["rollback", "--reason", "it is slow", "--yes"]).ends(ExitCode::Ok);
    back.says(&["asked to stop at its next safe point, for at most 1:00", "put back"]);
    let ended = deploy.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(i32::from(ExitCode::Interrupted as u8)));
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(told.contains("waits since") && told.contains("roll service-center/production back: it is slow"), "{told}");
    assert_eq!(center.health()["version"], "1.0");
    over.store(true, Ordering::SeqCst);
    let made = client.join().unwrap();
    let found = center.sql(&format!("SELECT count(*) FROM service_tickets WHERE id = ANY ('{{{}}}')", ids(&made)));
    assert_eq!(found, made.len().to_string());
    assert_eq!(
        center.sql("SELECT string_agg(version, ' ') FROM supabase_migrations.schema_migrations"),
        "20251001000000"
    );
    center.run(&["status"]).ends(ExitCode::Ok).says(&["is live, good", "Held         2.0 (r-", "by a person"]);
    center.run(&["deploy", "main", "--yes"]).ends(ExitCode::Refused).says(&["is held for bad"]);
}

/// APP-07, APP-08, APP-12: what does not build, tells another version, or was not started anew leaves what ran running.
#[test]
fn app_12_a_version_that_does_not_come_up_leaves_what_ran() {
    let center = Center::open();
    // What is sealed tells 0.9, and a fresh checkout of it tells 1.0.
    center.shell("echo 0.9 > current/VERSION");
    center.run(&["checkpoint", "--unproven", "--label", "phase-1"]).ends(ExitCode::Ok);
    center.shell(
        "git checkout -q phase-1 && git commit -q --allow-empty -m other && git tag other && git checkout -q main",
    );
    center.use_version("other");
    let confirm = ["--yes", "--confirm", "service-center/production"];
    let rollback =
        |center: &Center| center.run(&[&["rollback", "phase-1", "--profile", "app-only"], &confirm[..]].concat());
    let commit = center.shell("git rev-parse other");
    let in_use = || center.shell("basename $(readlink current)");
    assert_eq!(in_use(), commit);
    let failed = rollback(&center).ends(ExitCode::FailedUndone);
    failed.says(&["answers with version 1.0, and 0.9 is wanted"]);
    assert_eq!(in_use(), commit);
    assert_eq!(center.health()["version"], "1.0");
    // A start that starts nothing: the former instance answers.
    let settings = std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
    let nothing = settings
        .replace("[\"python3\", \"app.py\", \"stop\"]", "[\"true\"]")
        .replace("[\"python3\", \"current/app.py\", \"start\"]", "[\"true\"]");
    center.home.write("lifeboat.toml", nothing);
    center.shell("echo 0.9 > current/VERSION");
    let failed = rollback(&center).ends(ExitCode::FailedUndone);
    failed.says(&["was not started anew"]);
    assert_eq!(in_use(), commit);
    // One that does not build is taken away again, and nothing else has happened.
    center.home.write("lifeboat.toml", settings.replace("driver = \"git\"", "driver = \"git\"\nbuild = [\"false\"]"));
    center.shell("rm -rf releases/$(git rev-parse phase-1)* && git worktree prune");
    let failed = rollback(&center).ends(ExitCode::FailedUndone);
    failed.says(&["`false` failed"]);
    assert!(!center.home.path("releases").join(center.shell("git rev-parse phase-1")).exists());
    assert_eq!((in_use(), center.health()["started_at"].is_string()), (commit, true));
}

/// DRL-04, DRL-08: the same rollback in staging is a rehearsal: timed, on record, and what it leaves is not bad.
#[test]
fn drl_04_the_rollback_is_rehearsed_in_staging() {
    let center = Center::open();
    let refused = center.run(&["rehearse", "rollback", "--dry-run"]).ends(ExitCode::Refused);
    refused.says(&["service-center/production is what real users are in", "--env staging"]);
    let settings = std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
    center.home.write("lifeboat.toml", settings.replace("environments.production", "environments.staging"));
    center.run(&["checkpoint", "--label", "phase-1", "--unproven"]).ends(ExitCode::Ok);
    center.use_version("main");
    center.run(&["checkpoint", "--label", "phase-2", "--unproven"]).ends(ExitCode::Ok);
    center
        .run(&["rehearse", "list"])
        .ends(ExitCode::ActionAdvised)
        .says(&["No rehearsal has passed yet: one is due now."]);

    let shown = center.run(&["rehearse", "rollback", "phase-1", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["[DRILL]", "Way app-and-down: this one"]);
    let asked = center.run(&["rehearse", "rollback", "phase-1"]).ends(ExitCode::NeedsPerson);
    asked.says(&["--confirm service-center/staging"]);
    let words = ["rehearse", "rollback", "phase-1", "--confirm", "service-center/staging", "--json"];
    let done = center.run(&words).ends(ExitCode::Ok).json();
    assert_eq!(center.health()["version"], "1.0");
    let rehearsal = &done["rehearsal"];
    assert_eq!((&rehearsal["outcome"], &rehearsal["limit_ms"]), (&"pass".into(), &900_000.into()));
    let phases = rehearsal["phases"].as_array().unwrap();
    let budget = |name: &str| phases.iter().find(|phase| phase["phase"] == name).unwrap()["budget_ms"].as_u64();
    assert_eq!(
        (budget("fence"), budget("emergency-backup"), budget("restart")),
        (Some(30_000), Some(120_000), Some(180_000))
    );
    // OBJ-01: what is rehearsed counts, by the documents' 15 minutes, and as what it is.
    let promised = center.run(&["objectives", "--json"]).json();
    let down =
        promised["objectives"].as_array().unwrap().iter().find(|row| row["key"] == "rollback.app-and-down").unwrap();
    assert_eq!((&down["target_ms"], &down["max_ms"]), (&900_000.into(), &1_260_000.into()));
    assert_eq!((&down["runs"][0]["operation"], &down["runs"][0]["rehearsed"]), (&done["id"], &true.into()));
    assert_eq!((&down["outcome"], &down["runs"][0]["took_ms"]), (&"pass".into(), &rehearsal["took_ms"]));
    let releases = center.run(&["releases", "list"]).ends(ExitCode::Ok);
    assert!(!releases.out.contains("bad"), "{}", releases.out);

    let operation = done["id"].as_str().unwrap();
    center.run(&["rehearse", "attest", operation, "roles", "--note", "Ada, Ben"]).ends(ExitCode::Ok);
    let measured = center.run(&["rehearse", "attest", operation, "time"]).ends(ExitCode::Usage);
    measured.says(&["time is measured"]);
    let list = center.run(&["rehearse", "list"]).ends(ExitCode::Ok);
    list.says(&[operation, "app-and-down", "Ada, Ben", "attest it", "The rehearsal passed.", "the next is due in 9"]);
    center.run(&["ready"]).says(&["rollback", operation]);
    // DRL-07: the schedule has the practice of each quarter.
    center.run(&["schedule", "list"]).says(&["rehearsed every quarter, in staging", "the next is due in 9"]);
}

/// A probe may be a place that has to accept connections: what the app cannot work without, and does not speak HTTP.
#[test]
fn a_place_that_accepts_no_connection_is_a_probe_that_fails() {
    let center = Center::open();
    let beside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("tcp://127.0.0.1:{}", beside.local_addr().unwrap().port());
    let settings = std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
    let probed = |place: &str| {
        center.home.write("lifeboat.toml", settings.replace("probes = [", &format!("probes = [\"{place}\", ")));
    };
    probed(&place);
    center.run(&["checkpoint", "--unproven", "--label", "with"]).ends(ExitCode::Ok);
    center.run(&["releases", "list"]).says(&["with", "good"]);
    drop(beside);
    let failed = center.run(&["checkpoint", "--unproven", "--label", "without"]).ends(ExitCode::FailedUndone);
    failed.says(&[&format!("{place} accepts no connection")]);
    probed("redis:6379");
    let refused = center.run(&["releases", "list"]).ends(ExitCode::Usage);
    refused.says(&["\"redis:6379\", which is neither a path nor a place", "tcp://127.0.0.1:6379"]);
}

/// CFG-02: a probe may be a question to a database. It only reads, has a time limit, and its first value has to be true or as said.
#[test]
fn cfg_02_a_question_to_a_database_is_a_probe() {
    let center = Center::open();
    center.sql(
        "CREATE TABLE asked(at timestamptz); CREATE FUNCTION ask() RETURNS boolean LANGUAGE sql AS 'INSERT INTO asked SELECT now() RETURNING true'",
    );
    center.shell("python3 -c \"import sqlite3; sqlite3.connect('notes.db').executescript('create table note(id integer); insert into note values (7);')\"");
    let settings = std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
    let notes = "[environments.production.resources.notes]\nkind = \"sqlite\"\npath = \"./notes.db\"\n";
    let asks = |questions: &[(&str, &str)]| {
        let mut text = format!("{settings}\n{notes}");
        for (at, (resource, question)) in questions.iter().enumerate() {
            text += &format!(
                "[environments.production.targets.web.sql_probes.q{at}]\nresource = \"{resource}\"\n{question}\n"
            );
        }
        center.home.write("lifeboat.toml", text);
    };
    let old_schema = "sql = \"select max(version) < '20251020' from supabase_migrations.schema_migrations\"";
    asks(&[("db", old_schema), ("notes", "sql = \"select id from note -- the first\"\nequals = \"7\"")]);
    center.run(&["doctor"]).says(&["q0 in db is answered as it has to be", "q1 in notes is answered as it has to be"]);
    center.run(&["checkpoint", "--unproven", "--label", "asked"]).ends(ExitCode::Ok);
    center.run(&["releases", "list"]).says(&["asked", "good"]);

    // The version answers well, and the database does not: it is taken back by itself.
    let gone = center.run(&["deploy", "main", "--watch", "1s", "--yes"]).ends(ExitCode::FailedUndone);
    gone.says(&["web does not work", "q0 in db: it answers f; it must be true"]);
    assert_eq!(center.health()["version"], "1.0");

    let never = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
    for (resource, question, says) in [
        ("db", "sql = \"select count(*) from asked\"\nequals = \"3\"", "it answers 0; it must be 3"),
        ("db", "sql = \"select 1 from asked\"", "it has no answer"),
        ("db", "sql = \"select pg_sleep(600) is null\"\nwithin = \"300ms\"", "statement timeout"),
        ("db", "sql = \"select ask()\"", "read-only transaction"),
        ("db", "sql = \"insert into asked select now() returning true\"", "cannot be asked"),
        ("db", "sql = \"select true from nowhere\"", "nowhere"),
        ("notes", "sql = \"select id = 8 from note\"", "it answers 0; it must be true"),
        ("notes", &format!("sql = \"{never}\"\nwithin = \"300ms\""), "no answer within"),
        ("notes", "sql = \"delete from note returning 1\"", "cannot be asked"),
    ] {
        asks(&[(resource, question)]);
        let told = center.run(&["doctor"]);
        assert_ne!(told.code, Some(0), "{question}");
        told.says(&["failed", &format!("q0 in {resource}: "), says]);
    }
    assert_eq!(center.sql("SELECT count(*) FROM asked"), "0");
    center.shell("python3 -c \"import sqlite3; assert sqlite3.connect('notes.db').execute('select id from note').fetchall() == [(7,)]\"");
    for (resource, question, says) in [
        ("db", "sql = \"select true; delete from asked\"", "has to be one question"),
        ("env", "sql = \"select true\"", "asks env, which is no database"),
    ] {
        asks(&[(resource, question)]);
        center.run(&["releases", "list"]).ends(ExitCode::Usage).says(&["targets.web.sql_probes.q0", says]);
        center.run(&["config", "check"]).ends(ExitCode::Usage).says(&["targets.web.sql_probes.q0", says]);
    }
}

/// PHS-01: application, database and environment go back as one, and forth again; addresses of databases and values in wrong hands stay.
#[test]
fn phs_01_variables_go_back_with_application_and_database() {
    let center = Center::open();
    let env = || std::fs::read_to_string(center.home.path(".env")).unwrap();
    center.home.write(".env", format!("# of phase 1\n{}API_KEY=first\nTHEME=plain\n", env()));
    let before = env();
    center.run(&["checkpoint", "--unproven", "--label", "phase-1"]).ends(ExitCode::Ok);
    center.use_version("main");
    let url = before.lines().find(|line| line.starts_with("SUPABASE_DB_URL=")).unwrap();
    let later = before
        .replace(url, &format!("{url} application_name=two"))
        .replace("API_KEY=first", "API_KEY=k3y-of-two")
        .replace("THEME=plain", "THEME=bright\nTASKS=on");
    center.home.write(".env", &later);
    center.run(&["backups", "compromised", "API_KEY", "--reason", "it was in a log"]).ends(ExitCode::Ok);
    let words = ["rollback", "phase-1", "--profile", "full", "--reason", "phase 2 failed"];
    let with = |more: &[&str]| center.run(&[&words[..], more].concat());
    let shown = with(&["--dry-run"]).ends(ExitCode::Ok).says(&[
        "set THEME; take TASKS out",
        "SUPABASE_DB_URL stays as it is",
        "API_KEY stays as it is",
    ]);
    assert!(!shown.out.contains("bright") && !shown.out.contains("k3y-of-two"), "{}", shown.out);
    let done = with(&["--confirm", "service-center/production", "--yes", "--json"]).ends(ExitCode::Ok).json();
    let order: Vec<&str> = done["phases"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    let at = |name: &str| order.iter().position(|one| *one == name).unwrap();
    assert!(at("swap") < at("variables") && at("variables") < at("restart"), "{order:?}");
    assert_eq!(env(), later.replace("THEME=bright\nTASKS=on", "THEME=plain"));
    assert_eq!(center.health()["version"], "1.0");

    center.home.write(".env", format!("{}SINCE=1\n", env()));
    center.run(&["undo", "--confirm", "service-center/production", "--yes"]).ends(ExitCode::Ok);
    assert_eq!((env(), center.health()["version"].as_str()), (later, Some("2.0")));
    let aside = center.shell("cat .env.UNDONE*");
    assert!(aside.contains("SINCE=1"), "what was written since is kept: {aside}");
}

/// What lies ready is what a full rollback takes: compared while the app still answers, and then nothing is fetched.
#[test]
fn a_full_rollback_takes_the_shadow_of_the_checkpoint() {
    let center = Center::open();
    center.run(&["checkpoint", "--unproven", "--shadow", "--label", "phase-1"]).ends(ExitCode::Ok);
    let shadow = center.sql("SELECT datname FROM pg_database WHERE datname LIKE 'center_shadow_%'");
    center.use_version("main");
    let words = ["rollback", "phase-1", "--profile", "full", "--reason", "phase 2 failed"];
    let with = |more: &[&str]| center.run(&[&words[..], more].concat());
    with(&["--dry-run"]).ends(ExitCode::Ok).says(&[&format!("{shadow} lies ready")]);
    // What can be known while everybody writes is found before anybody is refused.
    let shown = with(&["--dry-run", "--json"]).ends(ExitCode::Ok).json();
    let phases = shown["phases"].as_array().unwrap();
    let steps: Vec<&str> =
        phases.iter().flat_map(|one| one["steps"].as_array().unwrap()).filter_map(|one| one["id"].as_str()).collect();
    let place = |id: &str| steps.iter().position(|one| *one == id).unwrap_or_else(|| panic!("{id}: {steps:?}"));
    assert!(place("look-ahead") < place("fence.db") && place("fence.db") < place("salvage"), "{steps:?}");
    let done = with(&["--confirm", "service-center/production", "--yes", "--json"]).ends(ExitCode::Ok).json();
    let order: Vec<&str> = done["phases"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    let at = |name: &str| order.iter().position(|one| *one == name).unwrap();
    assert!(at("verify") < at("fence") && at("fence") < at("emergency-backup"), "{order:?}");
    assert_eq!(center.health()["version"], "1.0");
    assert_eq!(center.sql("SELECT to_regclass('task_templates') IS NULL"), "t");
    assert_eq!(center.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'center_shadow_%'"), "0");
    center.run(&["shadow", "drop", "db"]).ends(ExitCode::Refused).says(&["there is no shadow of db"]);
}

/// What is typed in order, out of a sheet.
fn typed(sheet: &str) -> String {
    let blocks = sheet.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

/// DOC-01: the sheet of a rollback is the plan, and what it says works without Lifeboat: psql, restic and curl alone.
#[test]
fn doc_01_the_sheet_leads_back_without_lifeboat() {
    for (profile, tickets) in [("app-and-down", "kept"), ("full", "gone")] {
        let center = Center::open();
        center.run(&["checkpoint", "--unproven", "--label", "phase-1"]).ends(ExitCode::Ok);
        center.use_version("main");
        center.sql("INSERT INTO service_tickets (title) VALUES ('later')");
        let page =
            center.run(&["sheet", "rollback", "--profile", profile, "--to", "run/sheet.html"]).ends(ExitCode::Ok);
        page.says(&["Wrote run/sheet.html"]);
        let page = std::fs::read_to_string(center.home.path("run/sheet.html")).unwrap();
        assert!(page.starts_with("<!doctype html>") && !page.contains("src=") && !page.contains("href="), "{page}");
        let sheet = center.run(&["sheet", "rollback", "--profile", profile]).ends(ExitCode::Ok).out;
        for part in
            ["POINT OF NO RETURN", "worktree add", "default_transaction_read_only", "pg_dump", "To take it back"]
        {
            assert!(sheet.contains(part) && page.contains(part), "{part} is not in {sheet}");
        }
        assert!(!sheet.contains("Not every step can be typed"), "{sheet}");
        let script = typed(&sheet);
        assert!(!script.contains("lifeboat "), "{script}");
        center.home.write("typed.sh", format!("set -euo pipefail\n{script}"));
        center.shell("RESTIC_PASSWORD=\"$LIFEBOAT_VAULT_PASSWORD\" bash typed.sh > run/typed.log 2>&1 || { cat run/typed.log; exit 1; }");
        assert_eq!(center.health()["version"], "1.0", "{profile}");
        let ledger = center.sql("SELECT string_agg(version, ' ') FROM supabase_migrations.schema_migrations");
        assert_eq!(ledger, "20251001000000", "{profile}");
        assert_eq!(center.sql("SELECT to_regclass('task_templates') IS NULL"), "t", "{profile}");
        let later = center.sql("SELECT count(*) FROM service_tickets WHERE title = 'later'");
        assert_eq!(later, if tickets == "kept" { "1" } else { "0" }, "{profile}");
        center.sql("INSERT INTO service_tickets (title) VALUES ('writes are let in')");
        assert!(center.home.path("rollback-by-hand/emergency-db.dump").exists());
    }
}

/// DOC-01: the operator's manual of an app with releases has every section, real values, links only to what is there; its commands lead back
/// without Lifeboat, one after the other in one shell, those of the verification too.
#[test]
fn doc_01_the_manual_of_an_app_with_releases_leads_back_without_lifeboat() {
    let center = Center::open();
    center.run(&["checkpoint", "--unproven", "--label", "phase-1"]).ends(ExitCode::Ok);
    // Where nothing newer runs yet, it leads back to the checkpoint.
    center.run(&["docs", "export", "--to", "run/before.md"]).ends(ExitCode::Ok);
    assert!(std::fs::read_to_string(center.home.path("run/before.md")).unwrap().contains("goes back to | r-"));
    center.use_version("main");
    center.sql("INSERT INTO service_tickets (title) VALUES ('later')");
    std::fs::create_dir_all(center.home.path("docs/supabase")).unwrap();
    center.home.write("docs/supabase/WORKFLOW.md", "# flow\n");
    center.run(&["docs", "export"]).ends(ExitCode::Ok);
    let text = std::fs::read_to_string(center.home.path("docs/operations/manual-rollback-procedure.md")).unwrap();
    let mut last = 0;
    for section in [
        "## Prerequisites",
        "## Quick reference",
        "## Pre-rollback checklist",
        "## Rollback procedure",
        "### Step 1: Verify backup and access",
        "### Step 2: Stop the application",
        "### Step 3: Create an emergency backup",
        "### Step 4: Bring back and verify, beside",
        "### Step 5: Execute: put it in use",
        "THE POINT OF NO RETURN",
        "### Step 6: Resume the application",
        "### Step 7: Verify afterwards",
        "## Verification steps",
        "## Troubleshooting",
        "## Recovery scenarios",
        "## Best practices",
        "## Post-rollback checklist",
        "## Related documentation",
    ] {
        let at =
            text[last..].find(section).unwrap_or_else(|| panic!("{section} is missing, or not in its place:\n{text}"));
        last += at;
    }
    assert_eq!(
        text.split("## Pre-rollback checklist").nth(1).unwrap().split("\n## ").next().unwrap().matches("- [ ]").count(),
        8
    );
    assert!(text.contains("WORKFLOW.md") && !text.contains("PRODUCTION-WARNING"), "links only to what is there");
    for value in ["phase-1", "migrations up to `20251001000000`", "/api/health", "`b-"] {
        assert!(text.contains(value), "{value} is not in {text}");
    }
    let script = typed(&text);
    assert!(!script.contains("lifeboat "), "{script}");
    center.home.write("typed.sh", format!("set -euo pipefail\n{script}"));
    center.shell("RESTIC_PASSWORD=\"$LIFEBOAT_VAULT_PASSWORD\" bash typed.sh > run/typed.log 2>&1 || { cat run/typed.log; exit 1; }");
    assert_eq!(center.health()["version"], "1.0");
    let ledger = center.sql("SELECT string_agg(version, ' ') FROM supabase_migrations.schema_migrations");
    assert_eq!(
        (ledger.as_str(), center.sql("SELECT to_regclass('task_templates') IS NULL").as_str()),
        ("20251001000000", "t")
    );
    assert_eq!(center.sql("SELECT count(*) FROM service_tickets WHERE title = 'later'"), "0");
    center.sql("INSERT INTO service_tickets (title) VALUES ('writes are let in')");
}

/// CHK-01, 04, 05: each point by what is seen, else by the word of a person who is named; what nobody knows has not passed, and
/// what was seen not to stand no word makes stand.
#[test]
fn chk_01_the_checklists_of_a_rollback() {
    let center = Center::open();
    center.run(&["checklist", "show", "smoke"]).ends(ExitCode::Refused).says(&["nothing was rolled back"]);
    let lists = center.run(&["checklist", "list", "--json"]).ends(ExitCode::Ok).json();
    let counts: Vec<usize> =
        lists["lists"].as_array().unwrap().iter().map(|list| list["items"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [8, 6, 4, 8, 8, 10, 4, 5, 5, 4, 6, 6, 6, 6, 7, 3, 3]);
    let settings = std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
    let settings = settings.replace("[vault]", "incident_log = \"./incidents.md\"\n[vault]");
    center.home.write("lifeboat.toml", format!("{settings}\n[notify.status]\nfile = \"./run/messages.jsonl\"\n"));
    center.run(&["checkpoint", "--label", "phase-1"]).ends(ExitCode::Ok);
    center.use_version("main");
    center
        .run(&[
            "rollback",
            "--profile",
            "full",
            "--reason",
            "phase 2 is bad",
            "--yes",
            "--confirm",
            "service-center/production",
        ])
        .ends(ExitCode::Ok);
    let stands = |list: &str, code: ExitCode| -> Vec<(String, String)> {
        let shown = center.run(&["checklist", "show", list, "--json"]).ends(code).json();
        let items = shown["checklist"]["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| (item["key"].as_str().unwrap().to_owned(), item["outcome"].as_str().unwrap().to_owned()))
            .collect()
    };
    let not_passed = |all: &[(String, String)]| -> Vec<String> {
        all.iter().filter(|(_, outcome)| outcome != "pass").map(|(key, _)| key.clone()).collect()
    };
    assert_eq!(not_passed(&stands("pre-rollback", ExitCode::Ok)), [""; 0]);
    assert_eq!(not_passed(&stands("database", ExitCode::Ok)), [""; 0]);
    assert_eq!(not_passed(&stands("environment", ExitCode::Unknown)), ["variables", "keys", "flags"]);
    assert_eq!(not_passed(&stands("smoke", ExitCode::Unknown)), ["create", "view", "no-new"]);
    assert_eq!(not_passed(&stands("post-rollback", ExitCode::Unknown)), ["smoke", "review", "retention"]);
    assert_eq!(not_passed(&stands("integrity", ExitCode::Ok)), [""; 0]);
    assert_eq!(not_passed(&stands("verification", ExitCode::Ok)), [""; 0]);
    assert_eq!(not_passed(&stands("app", ExitCode::Ok)), [""; 0]);
    // One channel, the status page; the others nobody has told.
    assert_eq!(not_passed(&stands("notification", ExitCode::Unknown)), ["chat", "mail", "on-call"]);
    assert_eq!(not_passed(&stands("communication", ExitCode::Unknown)), ["team", "stakeholders", "post-mortem"]);
    for point in ["create", "view", "no-new"] {
        center.run(&["checklist", "attest", "smoke", point, "--note", "seen in the browser"]).ends(ExitCode::Ok);
    }
    let text = center.run(&["checklist", "show", "smoke", "--markdown"]).ends(ExitCode::Ok);
    text.says(&[
        "## Smoke tests checklist of o-",
        "- [x] a record can be made: yes (seen in the browser",
        "attested by tester",
    ]);
    center.run(&["checklist", "attest", "smoke", "nothing"]).ends(ExitCode::Usage).says(&["it has: accessible"]);
    center.run(&["checklist", "show", "nothing"]).ends(ExitCode::Usage).says(&["pre-rollback"]);
    // The newer schema comes back by itself: the machine sees it, and nobody's word helps.
    center.sql("INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ('20251020000000', 'again')");
    let seen = stands("database", ExitCode::ActionAdvised);
    assert_eq!(not_passed(&seen), ["new-gone"]);
    let refused = center.run(&["checklist", "attest", "database", "new-gone"]).ends(ExitCode::Refused);
    refused.says(&["nobody's word makes it stand", "20251020000000"]);
}

/// PHS-15, CHK-03: seven steps; some of them now and others later, by Lifeboat or by hand, each on record with its time. Nothing is put in
/// use before the pre-rollback list stands, and nobody begins in the middle.
#[test]
fn phs_15_a_rollback_step_by_step() {
    let center = Center::open();
    center.run(&["checkpoint", "--label", "phase-1"]).ends(ExitCode::Ok);
    center.use_version("main");
    let confirm = ["--yes", "--confirm", "service-center/production"];
    let manual = |words: &[&str]| center.run(&[&["rollback", "--manual"], words, &confirm[..]].concat());
    manual(&["--from", "4", "--to", "5"])
        .ends(ExitCode::Refused)
        .says(&["steps 1 to 3 have to be done first", "lifeboat rollback --manual --to 3"]);
    manual(&["--from", "5", "--to", "4"]).ends(ExitCode::Usage).says(&["--to 4 comes before --from 5"]);
    let shown = center.run(&["rollback", "--manual", "--profile", "full", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["Step 1: verify backup and access", "Step 5: execute", "pg_dump --format=custom", "ALTER DATABASE"]);
    // The app is still up after the first step, and the newer version answers.
    manual(&["--profile", "full", "--to", "1"]).ends(ExitCode::Interrupted).says(&["--manual --from 2"]);
    assert_eq!(center.health()["version"], "2.0");
    manual(&["--from", "4"]).ends(ExitCode::Refused).says(&["step 2 of o-", "has not been done yet"]);
    manual(&["--from", "2", "--to", "4"]).ends(ExitCode::Interrupted).says(&["--manual --from 5"]);
    assert!(ask(center.port, "GET", "/api/health", "").is_none(), "it is stopped");
    // Nobody was told, so the list is not done: nothing is put in use.
    let blocked = manual(&["--from", "5", "--to", "5"]).ends(ExitCode::Interrupted);
    blocked.says(&[
        "the pre-rollback checklist is not done",
        "stakeholders were told",
        "checklist attest pre-rollback notified",
    ]);
    assert_eq!(center.sql("SELECT to_regclass('task_templates') IS NULL"), "f");
    center.run(&["checklist", "attest", "pre-rollback", "notified", "--note", "by phone"]).ends(ExitCode::Ok);
    // CHK-04: a point whose command is missing is not known, and the gate is closed; somebody may say on record why it goes on.
    let settings = std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
    center
        .home
        .write("lifeboat.toml", format!("{settings}\n[checks]\n\"pre-rollback.space\" = [\"./no-such-probe\"]\n"));
    let blocked = manual(&["--from", "5", "--to", "5"]).ends(ExitCode::Interrupted);
    blocked.says(&["there is room on the disk", "no-such-probe cannot be run", "--although-open WHY"]);
    assert_eq!(center.sql("SELECT to_regclass('task_templates') IS NULL"), "f");
    manual(&["--from", "5", "--to", "5", "--although-open", "df says 40 GB"])
        .ends(ExitCode::InBetween)
        .says(&["it goes on all the same: df says 40 GB", "--manual --from 6"]);
    let shown = center.run(&["checklist", "show", "pre-rollback", "--markdown"]).ends(ExitCode::Unknown);
    shown.says(&["It went on all the same: tester: df says 40 GB"]);
    assert_eq!(center.sql("SELECT to_regclass('task_templates') IS NULL"), "t");
    // A person starts it; what answers is looked at all the same.
    center.shell("python3 current/app.py start");
    manual(&["--from", "6", "--to", "6", "--by-hand"]).ends(ExitCode::InBetween).says(&["--manual --from 7"]);
    let done = manual(&["--from", "7", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!((&done["outcome"], &center.health()["version"]), (&"done".into(), &"1.0".into()));
    let journal = center.run(&["journal", "export", done["id"].as_str().unwrap()]).ends(ExitCode::Ok).out;
    assert!(journal.contains("\"by_hand\":\"by tester\"") && journal.contains("\"event\":\"adopted\""), "{journal}");
    assert_eq!(journal.matches("\"event\":\"resumed\"").count(), 6, "one operation from beginning to end");
}
