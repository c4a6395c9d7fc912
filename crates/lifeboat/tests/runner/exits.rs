//! How operations end that do not go well: put back, in between, interrupted, busy, late. The commands that stop and start
//! the app are where each of these can be brought about exactly.

use lifeboat_model::ExitCode;

use crate::home::{Home, PASSWORD};

/// A shop with a backup, seven more orders, and these commands around a restore.
fn with_writer(stop: &str, start: &str, more: &str) -> Home {
    let (home, _) = Home::protected();
    home.sell(7);
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    let words = |line: &str| format!("[\"sh\", \"-c\", {}]", serde_json::to_string(line).unwrap());
    let writer = format!("stop = {}\nstart = {}\n{more}", words(stop), words(start));
    home.write("lifeboat.toml", settings + &writer);
    home
}

const RESTORE: &[&str] = &["restore", "db", "--confirm", "shop/local"];

#[test]
fn an_operation_that_fails_is_put_back() {
    let home = with_writer("echo the app does not stop >&2; exit 3", "true", "");
    let before = std::fs::read(home.path("shop.db")).unwrap();
    let ran = home.run(RESTORE).ends(ExitCode::FailedUndone);
    ran.says(&["the app does not stop", "Everything was put back as it was (operation o-", "taken back"]);
    assert_eq!(std::fs::read(home.path("shop.db")).unwrap(), before);
    let told = home.run(&["history", "--limit", "1", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(told["operations"][0]["outcome"], "put-back");
}

#[test]
fn an_operation_that_stops_past_the_point_of_no_return_waits_and_is_resumed() {
    let home = with_writer("true", "test -e may-start", "");
    let ran = home.run(RESTORE).ends(ExitCode::InBetween);
    ran.says(&["past its point of no return", "lifeboat resume o-"]);
    assert_eq!(home.orders(), 40, "the restored data is live already");
    home.run(&["abort"]).ends(ExitCode::Refused).says(&["lifeboat resume o-"]);
    home.run(&["resume"]).ends(ExitCode::InBetween);
    home.write("may-start", "");
    home.run(&["resume"]).ends(ExitCode::Ok);
    home.run(&["undo", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(home.orders(), 47);
}

/// The stopping command presses Ctrl-C for us: its parent is the program.
#[test]
fn ctrl_c_stops_at_the_next_safe_point() {
    let home = with_writer("kill -INT $PPID", "true", "");
    let ran = home.run(RESTORE).ends(ExitCode::Interrupted);
    ran.says(&[
        "Stopping at the next safe point",
        "It stands at a safe point",
        "lifeboat resume o-",
        "lifeboat abort o-",
    ]);
    assert_eq!(home.orders(), 47, "nothing was swapped");
    home.run(&["resume"]).ends(ExitCode::Ok);
    assert_eq!(home.orders(), 40);
}

/// CFG-11: the second one is refused and names the first.
#[test]
fn two_operations_at_once_are_one_too_many() {
    let home = with_writer("sh ./second.sh", "true", "");
    // A configured command gets an environment of its own; the second program is given what the first one has.
    let (program, state) = (env!("CARGO_BIN_EXE_lifeboat"), home.path("state"));
    let script = format!(
        "export LIFEBOAT_VAULT_PASSWORD='{PASSWORD}' XDG_STATE_HOME='{}' USER=tester\n\
         '{program}' backup --json > second.json\necho $? > second.code\n",
        state.display()
    );
    home.write("second.sh", script);
    home.run(RESTORE).ends(ExitCode::Ok);
    let code = std::fs::read_to_string(home.path("second.code")).unwrap();
    let told = std::fs::read_to_string(home.path("second.json")).unwrap();
    assert_eq!(code.trim(), "5", "{told}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let cause = told["causes"][0].as_str().unwrap();
    assert!(
        cause.contains("tester") && cause.contains("restore db of shop/local") && cause.contains("is running"),
        "{cause}"
    );
}

#[test]
fn finished_and_late_is_said() {
    let home = with_writer("true", "true", "[budgets]\nkeep = \"1ms\"\n");
    let ran = home.run(RESTORE).ends(ExitCode::OverBudget).says(&["Over budget: phase keep took", "0:01"]);
    assert!(ran.out.starts_with("Done: "), "{}", ran.out);
    assert_eq!(home.orders(), 40);
}
