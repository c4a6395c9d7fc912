//! What is due after a rollback, through the program: told by `status` and `incident show`, ticked off, and not due twice.

use lifeboat_model::ExitCode;

use crate::home::Home;

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
