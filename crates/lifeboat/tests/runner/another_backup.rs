//! RST-21: a full rollback whose backup turns out to be damaged goes on with the proven one before it, or is handed over with what to type.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::center::Center;

fn packs(center: &Center) -> Vec<PathBuf> {
    let folders = fs::read_dir(center.home.path("backups/vault/data")).unwrap().map(|folder| folder.unwrap().path());
    folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
}

/// A proven backup, and a checkpoint whose pack gets damaged after a full rollback to it was planned and looked at. `between` is written between
/// the two. Gives the plan.
fn planned_and_damaged(center: &Center, between: &str) -> String {
    let pack = two_backups(center, between);
    let plan = center.run(&["plan", "rollback", "phase-1", "--profile", "full", "--json"]).ends(ExitCode::Ok).json();
    damage(&pack);
    plan["id"].as_str().unwrap().to_owned()
}

fn damage(pack: &Path) {
    let mut body = fs::read(pack).unwrap();
    let at = body.len() / 20;
    body[at] ^= 1;
    fs::write(pack, body).unwrap();
}

/// A proven backup, and a checkpoint; gives the pack that only the checkpoint has.
fn two_backups(center: &Center, between: &str) -> PathBuf {
    center.sql("CREATE TABLE bulk (id int PRIMARY KEY, what text)");
    center.run(&["backup"]).ends(ExitCode::Ok);
    center.run(&["prove"]).ends(ExitCode::Ok);
    let known = packs(center);
    let bulk = "SELECT m, (SELECT string_agg(md5((m * n)::text), '') FROM generate_series(1, 60) n) FROM generate_series(1, 50) m";
    center.sql(&format!("INSERT INTO bulk {bulk}"));
    center.sql(between);
    center.run(&["checkpoint", "--unproven", "--label", "phase-1"]).ends(ExitCode::Ok);
    center.run(&["releases", "mark", "phase-1", "good"]).ends(ExitCode::Ok);
    let new = packs(center).into_iter().filter(|pack| !known.contains(pack));
    let pack = new.max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    center.sql("DELETE FROM bulk WHERE id <= 50");
    center.use_version("main");
    pack
}

#[test]
fn rst_21_a_full_rollback_goes_on_with_the_backup_before_it() {
    let center = Center::open();
    let plan = planned_and_damaged(&center, "SELECT 1");
    let words = ["apply", &plan, "--confirm", "service-center/production", "--yes", "--json"];
    let done = center.run(&words).ends(ExitCode::Ok).json();
    assert_eq!(done["tried"].as_array().unwrap().len(), 1, "{done}");
    assert!(done["tried"][0]["why"].to_string().contains("is damaged"), "{}", done["tried"]);
    assert_eq!(center.health()["version"], "1.0");
    assert_eq!(center.sql("SELECT count(*) FROM bulk"), "0");
    assert_eq!(center.sql("SELECT to_regclass('task_templates') IS NULL"), "t");
}

#[test]
fn rst_21_what_would_lose_more_is_handed_over_with_what_to_type() {
    let center = Center::open();
    let plan = planned_and_damaged(&center, "INSERT INTO bulk VALUES (51, 'stays')");
    let words = ["apply", &plan, "--confirm", "service-center/production", "--yes"];
    let failed = center.run(&words).ends(ExitCode::FailedUndone);
    let failed = failed.says(&[
        "lose more than was agreed to",
        "Stands: web runs",
        "Stands: db has its migrations up to",
        "Next: lifeboat rollback",
    ]);
    assert_eq!(center.health()["version"], "2.0", "everything was put back");
    // The first of what is to be typed, with what somebody agrees to.
    let next = failed.err.lines().find_map(|line| line.strip_prefix("Next: lifeboat ")).unwrap().to_owned();
    assert!(next.contains("--backup"), "{next}");
    let mut words: Vec<&str> = next.split(' ').collect();
    words.extend(["--confirm", "service-center/production", "--yes", "--json"]);
    let done: Value = center.run(&words).ends(ExitCode::Ok).json();
    assert!(done["tried"].is_null(), "{done}");
    assert_eq!(center.health()["version"], "1.0");
    assert_eq!(center.sql("SELECT count(*) FROM bulk"), "0");
}

/// ESC-08: when no way is left, whoever can be called is named with the very command that collects what they will ask for.
#[test]
fn esc_08_when_no_way_is_left_the_vendor_is_offered_with_the_evidence() {
    let center = Center::open();
    let settings = fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
    let vendor = "\n[escalation]\nvendor = \"support@supabase.com\"\n";
    center.home.write("lifeboat.toml", format!("{settings}{vendor}"));
    let plan = planned_and_damaged(&center, "INSERT INTO bulk VALUES (51, 'stays')");
    let words = ["apply", &plan, "--confirm", "service-center/production", "--yes", "--json"];
    let failed = center.run(&words).ends(ExitCode::FailedUndone).json();
    let vendors = failed["handover"]["vendors"].as_array().unwrap();
    assert_eq!((vendors.len(), &vendors[0]["contact"]), (1, &"support@supabase.com".into()), "{failed}");
    let evidence = vendors[0]["evidence"].as_str().unwrap();
    assert_eq!(evidence, format!("lifeboat evidence collect {}", failed["id"].as_str().unwrap()));
    let typed: Vec<&str> = evidence.split(' ').skip(1).collect();
    center.run(&typed).ends(ExitCode::Ok).says(&["On record with digest"]);
    // One by DOWN scripts that fails says so as well, in words.
    center.sql("CREATE VIEW reports AS SELECT name FROM task_templates");
    let words =
        ["rollback", "--profile", "app-and-down", "--reason", "x", "--yes", "--confirm", "service-center/production"];
    let failed = center.run(&words).ends(ExitCode::FailedUndone);
    failed
        .says(&["When nothing of it helps: call the vendor (support@supabase.com), with lifeboat evidence collect o-"]);
}

/// The seven steps, one by one: nothing begins that nobody was asked about, and what would be next is there to be typed.
#[test]
fn rst_21_a_rollback_by_steps_names_the_next_way_where_it_fails() {
    let center = Center::open();
    let pack = two_backups(&center, "SELECT 1");
    let sure = ["--manual", "--yes", "--confirm", "service-center/production", "--although-open", "tried in a test"];
    let begun = center.run(&[&["rollback", "phase-1", "--profile", "full", "--to", "3"], &sure[..]].concat());
    begun.says(&["steps up to 3 of 7 are done"]);
    damage(&pack);
    let failed = center.run(&[&["rollback", "--from", "4"], &sure[..]].concat()).ends(ExitCode::FailedUndone);
    let failed =
        failed.says(&["is damaged", "Next way: the newest proven backup before it", "Next: lifeboat rollback r-"]);
    assert_eq!(center.health()["version"], "2.0", "everything was put back");
    let next = failed.err.lines().find_map(|line| line.strip_prefix("Next: lifeboat ")).unwrap().to_owned();
    assert!(next.contains("--backup") && next.ends_with("--manual"), "{next}");
    let mut words: Vec<&str> = next.split(' ').collect();
    words.extend(&sure[1..]);
    center.run(&words).ends(ExitCode::Ok);
    assert_eq!(
        (center.health()["version"].clone(), center.sql("SELECT count(*) FROM bulk")),
        ("1.0".into(), "0".into())
    );
}
