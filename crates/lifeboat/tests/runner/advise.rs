//! `advise`, and whether the cloud's HTTP side answers, through the program and the daemon.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use lifeboat_model::ExitCode;
use lifeboat_testkit::app::App;

use crate::{home::Home, serve::Serving, sync::Shop};

/// EMRG-02, DEC-13: by what is measured, by words, and the whole table.
#[test]
fn emrg_02_and_dec_13_the_level_is_advised_by_what_is_measured() {
    let shop = Shop::attached();
    let advise = |words: &[&str]| shop.home.run(&[&["advise"], words].concat());
    shop.run(&["trigger"]).ends(ExitCode::Ok);
    advise(&[]).ends(ExitCode::Ok).says(&["Nothing that was looked at", "whether the app works"]);
    shop.run(&["disable", "--reason", "a test"]).ends(ExitCode::Ok);
    shop.home.sell(1_000);
    advise(&[]).ends(ExitCode::ActionAdvised).says(&["1000 changes wait", "Have an eye on it", "lifeboat sync status"]);
    let hold = advise(&["queue", "growing"]).ends(ExitCode::ActionAdvised);
    hold.says(&["level 2", "no reason to clear", "Safer: hold it (lifeboat level 1)"]);
    shop.home.sell(1);
    let told = advise(&["--json"]).ends(ExitCode::ActionAdvised).json();
    let first = &told["advice"][0];
    assert_eq!(
        (&first["level"], &first["budget_s"], &first["risk"]),
        (&2.into(), &120.into(), &"low".into()),
        "{told}"
    );
    assert_eq!(first["urgency"], "advise");
    // DEC-13: whoever asks for a decision is told the level, by the same limits.
    let decided = shop.home.run(&["decide", "--rest-is-fine", "--json"]).ends(ExitCode::ActionAdvised).json();
    assert_eq!((&decided["verdict"], &decided["advice"][0]["level"]), (&"stay".into(), &2.into()), "{decided}");
    shop.home.run(&["decide", "--dry-run"]).says(&["mirror    level 2: 1001 changes wait"]);
    advise(&["queue growing"]).ends(ExitCode::ActionAdvised).says(&["1001 changes wait", "Takes < 2:00; risk: low"]);
    advise(&["--list"]).ends(ExitCode::Ok).says(&["complete failure", "lifeboat level 5", "< 2:00:00", "automatic"]);
    advise(&["coffee"]).ends(ExitCode::Usage).says(&["coffee", "queue growing"]);
    // MON-04, MON-05: what is held on purpose is no failure, and its queue is watched all the same.
    let monitor = || shop.home.run(&["monitor", "sync", "--daemon", "127.0.0.1:1"]).ends(ExitCode::ActionAdvised);
    monitor().says(&["Paused since", "a test", "Sync queue size is 1001", "lifeboat level 2", "No daemon answers"]);
    // The file is gone: everything is. MON-03: no data is an alert.
    std::fs::rename(shop.home.path("shop.db"), shop.home.path("elsewhere.db")).unwrap();
    advise(&[]).ends(ExitCode::ActionAdvised).says(&["level 5", "lifeboat level 5 --dry-run"]);
    monitor().says(&["ALERT: No data about the mirror cloud"]);
}

/// EMRG-02: words need no settings.
#[test]
fn emrg_02_words_are_enough_where_nothing_is_set_up() {
    let home = Home::bare();
    home.run(&["advise", "data", "corruption"]).ends(ExitCode::ActionAdvised).says(&["level 4", "lifeboat sync check"]);
    home.run(&["advise"]).ends(ExitCode::Usage);
}

/// SYNC-28, MON-01: there, there and closed without a key, away - three states, in the daemon's health and for a monitor.
#[test]
fn sync_28_the_cloud_s_http_side_is_in_the_health() {
    let shop = Shop::attached();
    let status = Arc::new(AtomicU16::new(200));
    let answers = status.clone();
    let cloud = App::new(move |_, path, _| match path {
        "/rest/v1/" => (answers.load(Ordering::SeqCst), "{}".to_owned()),
        _ => (404, String::new()),
    });
    shop.home.write(".env", format!("SUPABASE_URL={}\n", cloud.url()));
    let part = || {
        let daemon = Serving::of(&shop.home, &[]);
        let (code, health) = daemon.ask("GET", "/api/health", &[]);
        let parts = health["data"]["parts"].as_array().unwrap().clone();
        let part = parts.into_iter().find(|part| part["name"] == "cloud.http");
        (code, part.map(|part| format!("{} {}", part["state"].as_str().unwrap(), part["detail"].as_str().unwrap())))
    };
    assert_eq!(part().1.unwrap(), "pass reachable");
    status.store(401, Ordering::SeqCst);
    assert_eq!(part().1.unwrap(), "pass reachable, and unauthorised: it wants a key");
    drop(cloud);
    let (code, down) = part();
    assert!(code == 503 && down.as_ref().unwrap().starts_with("fail down: "), "{code} {down:?}");
    let monitor = shop.home.run(&["monitor", "sync"]).ends(ExitCode::ActionAdvised);
    monitor.says(&["ALERT: The cloud does not answer over HTTP"]);
    // What is held on purpose opens no connection.
    shop.run(&["disable"]).ends(ExitCode::Ok);
    assert_eq!(part().1, None);
}

/// ESC-01: four tiers, who they are, and whose turn it is in the incident that is open.
#[test]
fn esc_01_the_tiers_say_whose_turn_it_is() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}\n[escalation]\nvendor = \"support@supabase.com\"\n"));
    let told = home.run(&["escalation"]).ends(ExitCode::Ok);
    told.says(&[
        "self-service",
        "15:00",
        "1:00:00",
        "4:00:00",
        "30:00",
        "support@supabase.com",
        "escalation.team is not set",
    ]);
    home.run(&["incident", "open", "sync is down", "--since", "2h ago"]).ends(ExitCode::Ok);
    let told = home.run(&["escalation", "--json"]).ends(ExitCode::Ok).json();
    let turns: Vec<&str> =
        told["tiers"].as_array().unwrap().iter().map(|tier| tier["turn"].as_str().unwrap()).collect();
    assert_eq!(turns, ["over", "over", "now", "at-once"], "{told}");
    home.run(&["escalation"]).ends(ExitCode::Ok).says(&["when it cannot wait", "sync is down"]);
}

/// CHK-02: a fresh installation has ten reasons not to go; each is taken away by what was measured, done or attested.
#[test]
fn chk_02_nothing_is_ready_by_itself() {
    let home = Home::shop();
    let fresh = home.run(&["ready", "--json"]).ends(ExitCode::ActionAdvised).json();
    let points = fresh["points"].as_array().unwrap();
    assert!(points.len() == 10 && points.iter().all(|point| point["outcome"] == "fail"), "{fresh}");
    home.run(&["ready"]).ends(ExitCode::ActionAdvised).says(&["NO GO: 0 of 10", "[schedule]", "attest training"]);
    // What is measured is nobody's word.
    home.run(&["ready", "attest", "backups"]).ends(ExitCode::Usage).says(&["measured"]);
    home.run(&["ready", "attest", "luck"]).ends(ExitCode::Usage).says(&["luck"]);
    for point in ["alerts", "procedures", "training", "rollback", "resync", "billing", "review"] {
        home.run(&["ready", "attest", point, "--note", "seen by Ada"]).ends(ExitCode::Ok);
    }
    home.run(&["ready"]).ends(ExitCode::ActionAdvised).says(&["NO GO: 7 of 10"]);
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    let more =
        "[schedule]\nbackup = \"0 2 * * *\"\n[escalation]\nteam = \"dev\"\nvendor = \"support\"\non_call = \"Ada\"\n";
    home.write("lifeboat.toml", format!("{settings}\n{more}"));
    home.run(&["ready"]).ends(ExitCode::ActionAdvised).says(&["NO GO: 9 of 10", "has no backup"]);
    home.run(&["backup"]).ends(ExitCode::Ok);
    home.run(&["ready"]).ends(ExitCode::Ok).says(&["GO: all 10 stand", "on call: Ada"]);
    // What was done here counts by itself.
    home.run(&["prove"]).ends(ExitCode::Ok);
    home.run(&["ready"]).ends(ExitCode::Ok).says(&["procedures", "ago, in shop/"]);
}

/// CHK-02, CHK-04: a proof that has found a backup to be bad is no recovery that was tested.
#[test]
fn chk_02_a_proof_that_failed_shows_nothing() {
    let home = Home::shop();
    home.backup();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", settings + "critical_tables = [\"customers\"]\n");
    home.run(&["prove"]).ends(ExitCode::Damaged);
    let points = home.run(&["ready", "--json"]).ends(ExitCode::ActionAdvised).json();
    let points = points["points"].as_array().unwrap();
    let procedures = points.iter().find(|point| point["key"] == "procedures").unwrap();
    assert_eq!(procedures["outcome"], "fail", "{procedures}");
}

/// EMRG-25: on an empty machine - no state, no list of backups, no database - level 5 starts from what lies off the host.
#[test]
fn emrg_25_level_5_starts_from_a_vault_alone() {
    let (lost, id) = Home::protected();
    let orders = lost.orders();
    let here = Home::shop();
    for name in ["shop.db", "shop.db-wal", "shop.db-shm"] {
        let _ = std::fs::remove_file(here.path(name)); // the last two may not be there
    }
    assert!(!here.path("state").exists(), "it knows nothing");
    std::fs::rename(lost.path("vault"), here.path("vault")).unwrap();
    drop(lost);
    here.run(&["level", "5"]).ends(ExitCode::Usage).says(&["--without application"]);
    let level = ["level", "5", "--without", "application", "--watch", "0s", "--confirm", "shop/local"];
    here.run(&[&level[..], &["--dry-run"]].concat()).ends(ExitCode::Ok).says(&[&id]);
    here.run(&level).ends(ExitCode::Ok);
    assert_eq!(here.orders(), orders);
    here.run(&["history"]).ends(ExitCode::Ok).says(&["recover shop/local"]);
}
