//! `lifeboat objectives`.

use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::home::Home;

/// A shop with promises in its settings.
fn promised(objectives: &str) -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}[objectives]\n{objectives}\n"));
    home
}

fn row(told: &Value, key: &str) -> Value {
    let rows = told["objectives"].as_array().unwrap();
    rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no {key} in {told}")).clone()
}

#[test]
fn obj_01_what_was_promised_stands_beside_what_was_measured() {
    let home = promised("rpo = \"1h\"\nrto = \"30m\"");
    home.run(&["objectives"]).ends(ExitCode::ActionAdvised).says(&["there is no good backup: lifeboat backup"]);
    home.backup();
    let never = home.run(&["objectives", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(never["schema"], "lifeboat/objectives@1");
    assert_eq!(
        (&row(&never, "rpo.db")["outcome"], &row(&never, "restore.db")["outcome"]),
        (&"pass".into(), &"unknown".into())
    );
    // An app without releases and without a mirror promised nothing about them.
    assert_eq!(never["objectives"].as_array().unwrap().len(), 2);

    let proof = home.run(&["prove", "--json"]).ends(ExitCode::Ok).json()["proofs"][0].clone();
    let restored = home.run(&["restore", "db", "--yes", "--json"]).ends(ExitCode::Ok).json();
    home.run(&["restore", "db", "--into", "./elsewhere.db", "--yes"]).ends(ExitCode::Ok);
    let measured = home.run(&["objectives", "--json"]).ends(ExitCode::Ok).json();
    let restore = row(&measured, "restore.db");
    // The newest first: the restore, before it the proof, in which nothing live was touched. A copy elsewhere is no restore.
    let runs = restore["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{restore}");
    assert_eq!((&runs[0]["operation"], &runs[0]["rehearsed"]), (&restored["id"], &false.into()));
    assert_eq!(runs[0]["took_ms"], restored["elapsed_ms"]);
    assert_eq!((&runs[1]["operation"], &runs[1]["rehearsed"]), (&proof["operation"], &true.into()));
    let took: Vec<u64> = runs.iter().map(|run| run["took_ms"].as_u64().unwrap()).collect();
    assert_eq!(restore["worst_ms"].as_u64(), took.iter().copied().max());
    assert_eq!(restore["median_ms"].as_u64(), took.iter().copied().min());
    assert_eq!((&restore["outcome"], &restore["target_ms"]), (&"pass".into(), &1_800_000.into()));
    home.run(&["objectives"]).ends(ExitCode::Ok).says(&[
        "restore of db",
        "30:00",
        "the newest run kept it",
        "expected now",
    ]);
}

#[test]
fn obj_01_a_restore_that_took_longer_than_promised_is_told() {
    let home = promised("rto = \"1ms\"");
    home.backup();
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::Ok);
    let told = home.run(&["objectives", "--json"]).ends(ExitCode::ActionAdvised).json();
    assert_eq!(row(&told, "restore.db")["outcome"], "fail");
    assert_eq!(row(&told, "rpo.db")["outcome"], "unknown", "nobody promised anything about its age");
    home.run(&["objectives"]).ends(ExitCode::ActionAdvised).says(&["the newest run was", "over it"]);
}

/// OBJ-02: from the incident's beginning, and from when somebody began to do something about it.
#[test]
fn obj_02_both_clocks_are_told() {
    let home = promised("rto = \"30m\"");
    let backup = home.backup();
    home.run(&["restore", "db", "--yes"]).ends(ExitCode::Ok);
    home.run(&["incident", "open", "orders are gone", "--since", "20m ago"]).ends(ExitCode::Ok);
    home.run(&["restore", "db", "--from", &backup, "--yes"]).ends(ExitCode::Ok);
    // Every backup is younger than the incident: none is good to go back to by itself.
    let told = home.run(&["objectives", "--json"]).ends(ExitCode::ActionAdvised).json();
    let runs = row(&told, "restore.db")["runs"].clone();
    let from_incident = runs[0]["from_incident_ms"].as_u64().unwrap();
    assert!((1_190_000..1_320_000).contains(&from_incident), "{runs}");
    assert!(runs[0]["took_ms"].as_u64().unwrap() < 60_000);
    // What was done before somebody wrote the incident down, and after it began, counts as well.
    assert!(runs[1]["from_incident_ms"].as_u64().unwrap() < from_incident, "{runs}");
    home.run(&["objectives"]).says(&["from the beginning of the incident"]);
}

/// OBJ-05: how soon somebody did something is another promise than how soon the data was back.
#[test]
fn obj_05_the_response_has_a_clock_of_its_own() {
    let promised = || promised("rto = \"30m\"\nresponse = \"15m\"");
    let home = promised();
    let backup = home.backup();
    let told = |home: &Home| row(&home.run(&["objectives", "--json"]).json(), "response");
    let never = told(&home);
    assert_eq!((&never["outcome"], &never["target_ms"]), (&"unknown".into(), &900_000.into()));
    home.run(&["incident", "open", "prices are wrong", "--since", "5m ago"]).ends(ExitCode::Ok);
    assert_eq!(told(&home)["outcome"], "unknown", "writing it down does nothing about it yet");
    home.run(&["maintenance", "on", "--reason", "prices are wrong", "--yes"]).ends(ExitCode::Ok);
    let soon = told(&home);
    assert_eq!((&soon["outcome"], soon["runs"].as_array().unwrap().len()), (&"pass".into(), 1), "{soon}");
    home.run(&["restore", "db", "--from", &backup, "--yes"]).ends(ExitCode::Ok);
    assert_eq!(told(&home)["runs"], soon["runs"], "the first counts");
    home.run(&["objectives"]).says(&["the first that is done about it"]);

    let home = promised();
    home.run(&["incident", "open", "orders are gone", "--since", "20m ago"]).ends(ExitCode::Ok);
    home.run(&["maintenance", "on", "--reason", "orders are gone", "--yes"]).ends(ExitCode::Ok);
    let late = told(&home);
    assert_eq!(late["outcome"], "fail", "{late}");
    assert!((1_200_000..1_320_000).contains(&late["worst_ms"].as_u64().unwrap()), "{late}");
    assert_eq!(row(&home.run(&["objectives", "--json"]).json(), "restore.db")["outcome"], "unknown", "another promise");
}

/// OBJ-09: what the provider promises stands in the record of his outage.
#[test]
fn obj_09_the_providers_promise_is_in_the_record_of_his_outage() {
    let home = Home::shop();
    let words = ["incident", "open", "Supabase is down", "--provider-sla", "99.9 %", "--json"];
    let opened = home.run(&words).ends(ExitCode::Ok).json();
    let listed = home.run(&["incident", "list", "--json"]).ends(ExitCode::Ok).json();
    let incident = &listed["incidents"][0]["incident"];
    assert_eq!((&incident["id"], &incident["provider_sla"]), (&opened["id"], &"99.9 %".into()), "{listed}");
    home.run(&["incident", "list"]).says(&["the provider promises 99.9 %"]);
    home.run(&["incident", "open", "ours", "--json"]).ends(ExitCode::Ok);
    let ours = home.run(&["incident", "list", "--json"]).json()["incidents"][1]["incident"].clone();
    assert!(ours["provider_sla"].is_null(), "{ours}");
}

/// OBJ-03: how much would be lost now.
#[test]
fn obj_03_a_backup_that_is_too_old_is_told() {
    let home = promised("rpo = \"1h\"");
    home.backup();
    let age = |rpo: &str| {
        let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
        let (rest, _) = settings.rsplit_once("rpo = ").unwrap();
        home.write("lifeboat.toml", format!("{rest}rpo = \"{rpo}\"\n"));
        let ran = home.run(&["objectives", "--json"]);
        (ran.code, row(&ran.json(), "rpo.db"))
    };
    let now_ms = |row: &Value| row["now_ms"].as_u64().unwrap();
    let (code, young) = age("1h");
    assert_eq!((code, &young["outcome"]), (Some(0), &"pass".into()));
    // Between the two looks it has become older, and stays older than a millisecond.
    let (code, old) = age("1ms");
    assert_eq!((code, &old["outcome"]), (Some(10), &"fail".into()));
    assert!(now_ms(&old) > now_ms(&young));
}

/// A vault that cannot be read says nothing about what is in it.
#[test]
fn obj_03_a_vault_that_cannot_be_read_is_not_an_empty_one() {
    let home = promised("rpo = \"1h\"");
    home.backup();
    let mut command = home.command(&["objectives"]);
    let ran = command.env("LIFEBOAT_VAULT_PASSWORD", "wrong").output().unwrap();
    let ran = home.ran(&["objectives"], ran).ends(ExitCode::ActionAdvised);
    assert!(!ran.out.contains("no good backup"), "{}", ran.out);
    ran.says(&["the vault cannot be read"]);
}
