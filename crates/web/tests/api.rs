//! The API as programs use it: operations, who may what, limits, and the document about all of it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

mod support;

use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use lifeboat_model::schedule::{Cron, Job, Task};
use lifeboat_store::Role;
use lifeboat_testkit::{World, trouble::meddled};
use serde_json::{Value, json};

use support::{House, schema};

const OPERATIONS: &str = "/api/operations";

#[test]
fn an_operation_is_asked_for_watched_and_on_record() {
    let house = House::new(World::shop());
    let answer = house.post(OPERATIONS, &[], r#"{"ask":"backup","resources":["db"],"label":"by hand"}"#).is(202);
    let request = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    let id = answer.data()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.headers["location"], format!("/api/operations/{id}"));
    let told = house.watch(&id);
    let lines: Vec<Value> = told
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"))
        .map(|rest| serde_json::from_str(&format!("{{{rest}")).unwrap())
        .collect();
    assert_eq!((&lines[0]["event"]["event"], &lines[0]["seq"]), (&"opened".into(), &0.into()));
    assert_eq!(lines.last().unwrap()["event"]["event"], "closed");
    let after = house.ask("GET", &format!("/api/operations/{id}/events"), &[("last-event-id", "1")], "").is(200).text;
    assert!(!after.contains("\"seq\":1,") && after.contains("\"seq\":2,"), "only what is new");

    let shown = house.get(&format!("/api/operations/{}", &id[..6])).is(200).data();
    assert_eq!((&shown["state"], &shown["kind"], &shown["closed"]), (&"done".into(), &"backup".into(), &true.into()));
    assert_eq!(shown["by"], format!("api@127.0.0.1, request {request}"), "the journal says by which request");
    assert!(shown["steps"].as_array().unwrap().iter().all(|step| step["is"] == "done"), "{shown}");
    assert!(
        house
            .log
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(&request) && line.contains("POST /api/operations 202"))
    );

    house.world.clock.advance(Duration::from_secs(1));
    house.does(&[], r#"{"ask":"prove"}"#);
    let listed = house.get(OPERATIONS).is(200).data();
    let kinds: Vec<&str> =
        listed["operations"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["prove", "backup"]);
    assert_eq!(house.get("/api/operations?kind=backup&limit=1").data()["operations"].as_array().unwrap().len(), 1);
    assert_eq!(house.get("/api/operations?state=open").data()["operations"], json!([]));
    house.get("/api/operations?state=odd").is(400);
    let told = house.get("/api/operations?limit=many").is(400).json();
    assert!(told["detail"].as_str().unwrap().contains("invalid digit"), "{told}");
    house.get("/api/operations/o-zzzzzzzzzz").is(404);
    house.get("/api/operations/o-zzzzzzzzzz/events").is(404);
    house.post(&format!("/api/operations/{id}/abort"), &[], "").is(409);
}

#[test]
fn what_cannot_be_understood_does_nothing() {
    let house = House::new(World::shop());
    for body in ["", "{}", "[]", r#"{"ask":"sing"}"#, r#"{"ask":"backup","dryrun":true}"#, r#"{"ask":"restore"}"#] {
        let told = house.post(OPERATIONS, &[], body).is(400).json();
        assert!(told["hint"].as_str().unwrap().contains("openapi.json"), "{told}");
    }
    let told = house.post(OPERATIONS, &[], r#"{"ask":"backup","resources":["nothing"]}"#).is(400).json();
    assert!(told["hint"].as_str().unwrap().contains("it has: db"), "{told}");
    house.post(OPERATIONS, &[], &format!(r#"{{"ask":"backup","label":"{}"}}"#, "x".repeat(70_000))).is(413);
    let looked = house.post(OPERATIONS, &[], r#"{"ask":"backup","dry_run":true}"#).is(200).data();
    assert!(looked["found"].as_array().unwrap().iter().any(|step| step["found"] == "checked"), "{looked}");
    assert_eq!(house.get(OPERATIONS).data()["operations"], json!([]), "nothing was done");
    assert_eq!(house.ask("DELETE", OPERATIONS, &[], "").is(405).json()["status"], 405);
    house.get("/api/nothing").is(404);
}

#[test]
fn what_replaces_live_data_needs_a_token_and_consent() {
    let house = House::new(World::shop());
    let (viewer, operator, admin) =
        (house.token("wall", Role::Viewer), house.token("ops", Role::Operator), house.token("boss", Role::Admin));
    let with = |token: &str, body: &str| house.post(OPERATIONS, &[("authorization", token)], body);
    with(&viewer, r#"{"ask":"backup"}"#).is(403);
    house.does(&[("authorization", &operator)], r#"{"ask":"backup"}"#);
    let restore = r#"{"ask":"restore","resource":"db"}"#;
    house.post(OPERATIONS, &[], restore).is(401);
    let told = with(&operator, restore).is(409).json();
    assert!(told["hint"].as_str().unwrap().contains("\"yes\": true"), "{told}");
    let done = house.does(&[("authorization", &operator)], r#"{"ask":"restore","resource":"db","yes":true}"#);
    assert_eq!((&done["state"], &done["past_point_of_no_return"]), (&"done".into(), &true.into()), "{done}");

    // Rows would leave: an admin, who says what is meant.
    house.world.sell(3);
    let sold = house.world.look();
    with(&operator, r#"{"ask":"restore","resource":"db","yes":true}"#).is(403);
    let told = with(&admin, r#"{"ask":"restore","resource":"db","yes":true}"#).is(409).json();
    assert!(told["hint"].as_str().unwrap().contains("\"confirm\": \"shop/production\""), "{told}");
    with(&admin, r#"{"ask":"restore","resource":"db","confirm":"shop/staging"}"#).is(409);
    assert_eq!(house.world.look(), sold, "nothing was touched");
    let body = r#"{"ask":"restore","resource":"db","confirm":"shop/production"}"#;
    assert_eq!(house.does(&[("authorization", &admin)], body)["state"], "done");
    assert_ne!(house.world.look(), sold);
    let undone = house.does(&[("authorization", &admin)], r#"{"ask":"undo","confirm":"shop/production"}"#);
    assert_eq!(undone["state"], "done", "{undone}");
    assert_eq!(house.world.look().live["db"], sold.live["db"], "taken back");

    // Writing to any place of this host is not for everybody either.
    let beside = json!({ "ask": "restore", "resource": "db", "into": house.world.path("beside.db") }).to_string();
    with(&operator, &beside).is(403);
    assert_eq!(house.does(&[("authorization", &admin)], &beside)["state"], "done");
    with(&admin, r#"{"ask":"restore","resource":"db","into":"beside.db"}"#).is(400);
}

#[test]
fn the_same_key_is_one_operation() {
    let house = House::new(World::shop());
    let send = |key: &str, body: &str| house.post(OPERATIONS, &[("idempotency-key", key)], body);
    let first = send("k-1", r#"{"ask":"backup"}"#).is(202).data()["id"].clone();
    house.watch(first.as_str().unwrap());
    assert_eq!(send("k-1", r#"{"ask":"backup"}"#).is(202).data()["id"], first, "also when it is over");
    assert!(send("k-1", r#"{"ask":"prove"}"#).is(409).json()["title"].as_str().unwrap().contains("another body"));
    let second = send("k-2", r#"{"ask":"backup"}"#).is(202).data()["id"].clone();
    assert_ne!(second, first);
    house.watch(second.as_str().unwrap());
    let token = house.token("other", Role::Operator);
    let other = [("idempotency-key", "k-1"), ("authorization", token.as_str())];
    let others = house.post(OPERATIONS, &other, r#"{"ask":"prove"}"#).is(202).data()["id"].clone();
    house.watch(others.as_str().unwrap());
    send("", r#"{"ask":"backup"}"#).is(400);
    // A daemon that was started anew knows it, also when the one before ended before it could say what the plan became.
    let engine = house.world.engine();
    let house = House::with(house.world, engine);
    let send = |key: &str, body: &str| house.post(OPERATIONS, &[("idempotency-key", key)], body);
    assert_eq!(send("k-1", r#"{"ask":"backup"}"#).is(202).data()["id"], first);
    send("k-1", r#"{"ask":"prove"}"#).is(409);
    let list = house.world.state().keys();
    let kept = std::fs::read_to_string(&list).unwrap();
    assert!(!kept.contains("backup"), "{kept}");
    std::fs::write(&list, kept.replace(&format!("\"operation\":{second}"), "\"operation\":null")).unwrap();
    assert_eq!(send("k-2", r#"{"ask":"backup"}"#).is(202).data()["id"], second);
    // A plan that became no operation is none.
    let plan = |kept: &str| kept.split("\"plan\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let nothing = kept.replacen(&plan(&kept), "p-0000000000", 1).replace(&first.to_string(), "null");
    std::fs::write(&list, nothing).unwrap();
    let third = send("k-1", r#"{"ask":"backup"}"#).is(202).data()["id"].clone();
    assert_ne!(third, first);
    house.watch(third.as_str().unwrap());
    std::fs::write(&list, "[").unwrap();
    assert!(send("k-1", r#"{"ask":"backup"}"#).status >= 500, "what cannot be read is not empty");
}

/// A door that actions wait at.
#[derive(Default)]
struct Door(Mutex<bool>, Condvar);

impl Door {
    fn opens(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn waits(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
}

#[test]
fn one_that_runs_is_stopped_and_put_back() {
    let (world, door) = (World::shop(), Arc::new(Door::default()));
    let waits = door.clone();
    let around =
        move |turn: usize, _: &lifeboat_model::Action, act: &dyn Fn() -> Result<Value, lifeboat_model::Failure>| {
            if turn == 2 {
                waits.waits();
            }
            act()
        };
    let engine = meddled(&world, Box::new(around));
    let house = House::with(world, engine);
    let id = house.post(OPERATIONS, &[], r#"{"ask":"backup"}"#).is(202).data()["id"].as_str().unwrap().to_owned();
    let place = format!("/api/operations/{id}");
    let running = house.get(&place).data();
    assert_eq!((&running["state"], &running["worked_on_here"]), (&"running".into(), &true.into()));
    assert_eq!(house.get("/api/health").json()["data"]["operations"], 1);
    let busy = house.post(OPERATIONS, &[], r#"{"ask":"prove"}"#);
    assert!([409, 503].contains(&busy.status), "{}", busy.text);
    house.post(&format!("{place}/abort"), &[], "").is(202);
    door.opens();
    let told = house.watch(&id);
    assert!(told.contains("it is over"), "{told}");
    assert_eq!(house.get(&place).data()["state"], "put-back");
    assert_eq!(house.world.backups().len(), 0);
}

#[test]
fn whoever_asks_too_often_is_told_when_to_come_back() {
    let house = House::new(World::shop());
    let guess = || house.ask_from("10.0.0.9:1", "GET", "/api/health", &[("authorization", "Bearer wrong")], "");
    for _ in 0..10 {
        guess().is(403);
    }
    assert_eq!(guess().is(429).headers["retry-after"], "5");
    house.get("/api/sync/status").is(400);
    house.world.clock.advance(Duration::from_secs(5));
    guess().is(403);
    let refused = (0..60).map(|_| house.post(OPERATIONS, &[], "{}").status).filter(|status| *status == 429).count();
    assert_eq!(refused, 10, "fifty changes at once, and no more");
    assert_eq!(house.get(OPERATIONS).status, 200, "looking goes on");
}

#[test]
fn the_document_describes_every_route_and_no_other() {
    let document = schema::document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        described.extend(methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    let real: BTreeSet<(String, String)> =
        lifeboat_web::route_names().into_iter().map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(described, real);
    let names: BTreeSet<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|methods| methods.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), real.len(), "each has a name of its own");
    let house = House::new(World::shop());
    assert_eq!(house.get("/api/openapi.json").is(200).json(), document);
    let text = document.to_string();
    let referred = text.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap());
    let referred: BTreeSet<&str> = referred.collect();
    let defined: BTreeSet<&str> =
        document["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(referred, defined, "every schema is used, and every one that is used is there");
}

#[test]
fn health_and_metrics_tell_of_the_schedule_and_of_what_is_protected() {
    let mut world = World::shop();
    let backup = Task::Backup { resources: vec![] };
    world.setup.schedule.jobs =
        vec![Job { name: "backup".into(), task: backup, at: Cron::parse("0 2 * * *").unwrap() }];
    let house = House::new(world);
    let health = house.get("/api/health").is(503).data();
    let part = |health: &Value, name: &str| {
        health["parts"].as_array().unwrap().iter().find(|part| part["name"] == name).unwrap().clone()
    };
    assert_eq!(part(&health, "scheduler")["state"], "fail", "it was not begun here: {health}");
    assert_eq!(part(&health, "schedule.backup")["state"], "unknown");
    house.does(&[], r#"{"ask":"backup"}"#);
    house.does(&[], r#"{"ask":"prove"}"#);
    let backups = house.get("/api/backups").is(200).data();
    assert_eq!(backups["backups"][0]["resources"], json!(["db", "uploads", "env"]), "{backups}");
    let status = house.get("/api/status").is(200).data();
    assert_eq!((&status["scope"], &status["resources"][0]["good"]), (&"shop/production".into(), &"pass".into()));
    house.world.clock.advance(Duration::from_secs(3_600));
    let metrics = house.get("/metrics").is(200).text;
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!((3_600.0..3_660.0).contains(&value("lifeboat_backup_age_seconds{resource=\"db\"}")));
    assert!((3_600.0..3_660.0).contains(&value("lifeboat_proof_age_seconds{resource=\"db\"}")));
    assert_eq!(value("lifeboat_resource_protected{resource=\"db\"}"), 1.0);
    assert_eq!(value("lifeboat_operation_last_done{kind=\"backup\"}"), 1.0);
    assert_eq!(value("lifeboat_schedule_late_seconds{job=\"backup\"}"), 0.0);
    assert_eq!(value("lifeboat_worker_up{worker=\"scheduler\"}"), 0.0);
}
