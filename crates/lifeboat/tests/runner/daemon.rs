//! `serve` beside mirrors: the schedule, operations over HTTP, and the app behind it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::{home::Home, serve::Serving, sync::Shop};

fn add(home: &Home, lines: &str) {
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}\n{lines}\n"));
}

/// Asks until a question about the answer is answered with yes.
fn until(daemon: &Serving, path: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let began = std::time::Instant::now();
    loop {
        let (_, told) = daemon.ask("GET", path, &[]);
        if is(&told["data"]) {
            return told["data"].clone();
        }
        assert!(began.elapsed().as_secs() < 60, "never {what}: {told}");
        std::thread::yield_now();
    }
}

#[test]
fn what_was_missed_while_no_daemon_ran_is_made_up_for() {
    let home = Home::shop();
    add(&home, "[schedule]\nbackup = \"@yearly\"\nprove = \"5 0 1 1 *\"");
    home.run(&["schedule", "list"]).ends(ExitCode::ActionAdvised).says(&["no daemon looks after it", "@yearly"]);
    home.run(&["status"]).ends(ExitCode::Ok).says(&["backup at \"@yearly\" (UTC)"]);
    // A daemon looked after it two years ago, and none since.
    let record =
        |name: &str, at: &str| format!("\"{name}\": {{ \"since\": \"2024-01-01T12:00:00Z\", \"at\": \"{at}\" }}");
    let records = format!("{{ \"jobs\": {{ {}, {} }} }}", record("backup", "@yearly"), record("prove", "5 0 1 1 *"));
    home.write("state/lifeboat/shop/schedule.shop.local.json", records);
    home.run(&["schedule", "list"]).ends(ExitCode::ActionAdvised).says(&["due since", "does the daemon run?"]);
    let daemon = Serving::of(&home, &[]);
    let over = |job: &Value| job["last"]["ended"].is_string();
    let health = until(&daemon, "/api/health", "over", |health| {
        health["schedule"].as_array().is_some_and(|jobs| jobs.iter().all(over))
    });
    assert_eq!(health["status"], "ok", "{health}");
    let job = &health["schedule"][0];
    assert!(job["last_late_s"].as_u64().unwrap() > 86_400, "late, and told: {health}");
    let (_, listed) = daemon.ask("GET", "/api/operations", &[]);
    let rows = listed["data"]["operations"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["kind"], &rows[1]["kind"]), (2, &"prove".into(), &"backup".into()), "{listed}");
    let (_, one) = daemon.ask("GET", &format!("/api/operations/{}", rows[1]["id"].as_str().unwrap()), &[]);
    assert_eq!(one["data"]["by"], "schedule");
    home.run(&["schedule", "list"]).ends(ExitCode::Ok).says(&["next", "late"]);
    assert!(daemon.end());
}

#[test]
fn who_made_which_token_is_on_record_and_the_token_is_not() {
    let home = Home::shop();
    let told = home.run(&["token", "add", "ops", "--role", "operator", "--json"]).ends(ExitCode::Ok).json();
    home.run(&["token", "revoke", "ops"]).ends(ExitCode::Ok);
    let audit = std::fs::read_to_string(home.path("state/lifeboat/shop/audit.ndjson")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> =
        lines.iter().map(|line| (line["what"].as_str().unwrap(), line["by"].as_str().unwrap())).collect();
    assert_eq!(seen, [("token-add", "tester"), ("token-revoke", "tester")]);
    assert_eq!((&lines[0]["name"], &lines[0]["role"]), (&"ops".into(), &"operator".into()));
    assert!(!audit.contains(told["token"].as_str().unwrap()));
}

/// An app that greets whoever asks, and can be stopped.
struct Greeter {
    listener: TcpListener,
}

impl Greeter {
    fn answer_once(&self) {
        let (mut stream, _) = self.listener.accept().unwrap();
        let mut asked = [0; 4096];
        let read = stream.read(&mut asked).unwrap();
        let path = String::from_utf8_lossy(&asked[..read]).split(' ').nth(1).unwrap().to_owned();
        let body = format!("you asked for {path}");
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
}

#[test]
fn sync_34_the_documents_addresses_of_both_kinds_work_on_one_port() {
    let shop = Shop::attached();
    let greeter = Greeter { listener: TcpListener::bind("127.0.0.1:0").unwrap() };
    let app = greeter.listener.local_addr().unwrap();
    add(&shop.home, &format!("[gateway]\nupstream = \"http://{app}\""));
    let daemon = Serving::of(&shop.home, &[]);
    let answers = std::thread::spawn(move || {
        greeter.answer_once();
        greeter // and the door is shut when it is dropped
    });
    let (status, text) = daemon.text("GET", "/api/repair-orders?limit=1", &[]);
    assert_eq!((status, text.as_str()), (200, "you asked for /api/repair-orders?limit=1"));
    let greeter = answers.join().unwrap();
    until(&daemon, "/api/sync/status", "synced", |status| !status["lastSync"].is_null());
    let (status, health) = daemon.ask("GET", "/api/health", &[]);
    assert_eq!(status, 200, "{health}");
    drop(greeter);
    assert!(TcpStream::connect(app).is_err());
    assert_eq!(daemon.ask("GET", "/api/sync/status", &[]).0, 200);
    let (status, health) = daemon.ask("GET", "/api/health", &[]);
    assert_eq!(status, 503, "it tells of the app, not of the gateway alone: {health}");
    let (status, told) = daemon.ask("GET", "/api/customers", &[]);
    assert_eq!((status, &told["title"]), (502, &"the app behind this does not answer".into()));
}

#[test]
fn an_app_that_is_no_address_is_told_with_its_line() {
    let home = Home::shop();
    add(&home, "[gateway]\nupstream = \"localhost:3000\"");
    home.run(&["serve"])
        .ends(ExitCode::Usage)
        .says(&["gateway.upstream is no address of an app", "http://127.0.0.1:3000"]);
}

#[test]
fn somebody_closes_the_app_and_opens_it_again() {
    let home = Home::shop();
    home.run(&["maintenance", "on", "--reason", "moving"]).ends(ExitCode::NeedsPerson).says(&["closes shop/local"]);
    home.run(&["maintenance", "status"]).ends(ExitCode::Ok).says(&["is open"]);
    home.run(&["maintenance", "on", "--reason", "moving", "--dry-run"]).ends(ExitCode::Ok);
    let on = ["maintenance", "on", "--reason", "moving", "--eta", "30m", "--yes"];
    home.run(&on).ends(ExitCode::Ok).says(&["no [gateway]"]);
    home.run(&["maintenance", "status"]).ends(ExitCode::Ok).says(&["closed on purpose", "moving", "30 minutes"]);
    home.run(&["maintenance", "off"]).ends(ExitCode::Ok);
    let told = home.run(&["maintenance", "status", "--json"]).ends(ExitCode::Ok).json();
    assert!(told["closed"].is_null(), "{told}");
}
