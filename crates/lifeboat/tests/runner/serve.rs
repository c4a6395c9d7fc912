//! `serve` and `token`: the daemon as the document's `curl` commands use it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
};

use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::{home::Home, sync::Shop};

/// A running daemon; ended when dropped.
pub struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    pub fn start(shop: &Shop, words: &[&str]) -> Serving {
        Serving::of(&shop.home, words)
    }

    pub fn of(home: &Home, words: &[&str]) -> Serving {
        let words = [&["serve", "--listen", "127.0.0.1:0"], words].concat();
        let mut child = home.command(&words).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        told.read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap_or_else(|| panic!("{line}")).split(' ').next().unwrap();
        Serving { child, address: address.trim_end_matches(',').to_owned() }
    }

    /// Asks, with these header lines; gives the status and the body.
    pub fn ask(&self, method: &str, path: &str, headers: &[&str]) -> (u16, Value) {
        let (status, body) = self.text(method, path, headers);
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    pub fn text(&self, method: &str, path: &str, headers: &[&str]) -> (u16, String) {
        answered(self.asking(method, path, headers))
    }

    /// A request that is on its way.
    fn asking(&self, method: &str, path: &str, headers: &[&str]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let own = headers.iter().any(|line| line.starts_with("Host:"));
        let host = if own { String::new() } else { format!("Host: {}\r\n", self.address) };
        let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let request = format!("{method} {path} HTTP/1.1\r\n{host}{more}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// How many cycles there were.
    fn cycles(&self) -> u64 {
        let (_, metrics) = self.text("GET", "/metrics", &[]);
        let line = metrics.lines().find(|line| line.starts_with("lifeboat_sync_cycles_total{")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn status(&self) -> Value {
        let (status, told) = self.ask("GET", "/api/sync/status", &[]);
        assert_eq!(status, 200, "{told}");
        told["data"].clone()
    }

    /// Waits until a question about the status is answered with yes.
    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let began = std::time::Instant::now();
        while !is(&self.status()) {
            assert!(began.elapsed().as_secs() < 60, "never {what}: {}", self.status());
            std::thread::yield_now();
        }
    }

    /// Ends it as a supervisor would; gives whether it ended well.
    pub fn end(mut self) -> bool {
        std::process::Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap().success()
    }
}

/// The status and the body of an answer, when it is there.
fn answered(mut stream: TcpStream) -> (u16, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sync_02_06_and_32_the_document_s_commands_work_as_they_are_written() {
    let shop = Shop::attached();
    let daemon = Serving::start(&shop, &[]);
    daemon.until("synced", |status| !status["lastSync"].is_null());
    assert_eq!(daemon.status()["mode"], "hybrid");

    // SYNC-03, 05: off at once, nothing lost.
    let (status, told) = daemon.ask("POST", "/api/sync/disable", &[]);
    assert_eq!((status, &told["data"]["enabled"]), (200, &Value::Bool(false)), "{told}");
    shop.home.sell(25);
    daemon.until("held", |status| status["queue"]["queueSize"] == 25);
    let (status, told) = daemon.ask("POST", "/api/sync/trigger", &[]);
    assert_eq!(status, 409, "{told}");
    assert!(told["title"].as_str().unwrap().contains("switched off"), "{told}");
    let (_, queue) = daemon.ask("GET", "/api/sync/queue", &[]);
    assert_eq!(queue["data"]["entries"].as_array().unwrap().len(), 25);
    assert_eq!(queue["data"]["entries"][0]["table"], "orders");
    assert_eq!(queue["data"]["entries"][0]["op"], "insert");
    assert!(queue["data"]["entries"][0]["payload"]["what"].is_string(), "{queue}");

    // SYNC-06: killed, it comes back as it was switched.
    drop(daemon);
    let daemon = Serving::start(&shop, &[]);
    assert_eq!(daemon.status()["enabled"], false);
    let (status, _) = daemon.ask("POST", "/api/sync/enable", &[]);
    assert_eq!(status, 200);
    let (status, told) = daemon.ask("POST", "/api/sync/trigger", &[]);
    assert_eq!((status, &told["data"]["drained"]), (200, &Value::Bool(true)), "{told}");
    assert_eq!((shop.orders(), daemon.status()["queue"]["queueSize"].as_u64()), ("65".to_owned(), Some(0)));

    for path in ["sync/disable", "sync/enable", "sync/trigger", "sync/queue/clear"] {
        assert_eq!(daemon.ask("GET", &format!("/api/{path}"), &[]).0, 405, "{path}");
    }
    for path in ["sync/status", "sync/queue", "health"] {
        assert_eq!(daemon.ask("POST", &format!("/api/{path}"), &[]).0, 405, "{path}");
    }
    assert_eq!(daemon.ask("GET", "/api/nothing", &[]).0, 404);
    let (status, health) = daemon.ask("GET", "/api/health", &[]);
    assert_eq!((status, &health["data"]["status"]), (200, &"ok".into()), "{health}");
    let (_, metrics) = daemon.text("GET", "/metrics", &[]);
    assert!(metrics.contains("lifeboat_sync_pending_ops{link=\"cloud\"} 0"), "{metrics}");
    // SYNC-32: who did it, when, and how it was before and after, is in a journal for each.
    let journals = std::fs::read_dir(shop.home.journals()).unwrap();
    let journals = journals.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let by_api: Vec<String> = journals.filter(|journal| journal.contains("\"by\":\"api@127.0.0.1, request ")).collect();
    assert_eq!(by_api.len(), 2, "one to switch it off, one to switch it on");
    for journal in by_api {
        let on = journal.contains("\"enabled\":true");
        assert!(
            journal.contains(&format!("\"on\":{on},")) && journal.contains(&format!("\"on\":{},", !on)),
            "{journal}"
        );
        assert!(journal.contains("\"since\":\"20"), "{journal}");
    }
    assert!(daemon.end(), "ended when it was asked to");
}

#[test]
fn sync_13_and_27_clearing_needs_an_admin_and_nobody_comes_from_elsewhere() {
    let shop = Shop::attached();
    shop.run(&["disable"]).ends(ExitCode::Ok);
    shop.home.sell(4);
    let admin = shop.home.run(&["token", "add", "ops", "--role", "admin", "--json"]).ends(ExitCode::Ok).json();
    let viewer = shop.home.run(&["token", "add", "wall", "--json"]).ends(ExitCode::Ok).json();
    let bearer = |token: &Value| format!("Authorization: Bearer {}", token["token"].as_str().unwrap());
    let daemon = Serving::start(&shop, &[]);
    let clear = |headers: &[&str]| daemon.ask("POST", "/api/sync/queue/clear", headers);
    assert_eq!(clear(&[]).0, 401);
    assert_eq!(clear(&["Authorization: Bearer wrong"]).0, 403);
    assert_eq!(clear(&[&bearer(&viewer)]).0, 403);
    assert_eq!(daemon.status()["queue"]["queueSize"], 4, "untouched");
    let (status, told) = clear(&[&bearer(&admin)]);
    assert_eq!((status, &told["data"]["dropped"]["orders"]["insert"]), (200, &4.into()), "{told}");
    assert!(std::path::Path::new(told["data"]["saved"].as_str().unwrap()).exists());
    assert_eq!(daemon.status()["queue"]["queueSize"], 0);

    // SYNC-27: a page in somebody's browser, or a name that points here, can do nothing.
    let disable = |headers: &[&str]| daemon.ask("POST", "/api/sync/disable", headers).0;
    assert_eq!(disable(&["Origin: https://evil.example"]), 403);
    assert_eq!(disable(&["Host: evil.example"]), 403);
    assert_eq!(disable(&["Origin: http://localhost:3000"]), 200);
    shop.home.run(&["token", "revoke", "ops"]).ends(ExitCode::Ok);
    assert_eq!(clear(&[&bearer(&admin)]).0, 403, "worthless at once");
    drop(daemon);
    let daemon = Serving::start(&shop, &["--require-token"]);
    assert_eq!(daemon.ask("POST", "/api/sync/disable", &[]).0, 401);
    assert_eq!(daemon.ask("GET", "/api/sync/status", &[]).0, 200);
    shop.home.run(&["token", "revoke", "wall"]).ends(ExitCode::Ok);
    shop.home.run(&["serve", "--listen", "0.0.0.0:1"]).ends(ExitCode::Refused).says(&["there is no token yet"]);
}

#[test]
fn the_monitor_says_what_is_wrong_also_when_nothing_answers() {
    let shop = Shop::attached();
    let daemon = Serving::start(&shop, &[]);
    daemon.until("synced", |status| !status["lastSync"].is_null());
    let monitor = |address: &str| shop.home.run(&["monitor", "sync", "--daemon", address]);
    let address = daemon.address.clone();
    let well = monitor(&address).ends(ExitCode::Ok);
    assert_eq!(well.out, "", "silent when all is well");
    drop(daemon);
    monitor(&address).ends(ExitCode::ActionAdvised).says(&["ALERT: No daemon answers on"]);
    shop.home.sell(101);
    monitor(&address).ends(ExitCode::ActionAdvised).says(&["ALERT: Sync queue size is 101 (threshold: 100)"]);
}

/// SYNC-09: numbers are numbers and truths are truths in each state; `lastSync` is UTC or null.
#[test]
fn sync_09_the_status_has_the_documents_types_in_every_state() {
    let shop = Shop::attached();
    shop.run(&["disable"]).ends(ExitCode::Ok);
    let daemon = Serving::start(&shop, &[]);
    let typed = |state: &str| {
        let status = daemon.status();
        let (queue, last) = (&status["queue"], &status["lastSync"]);
        assert!(status["enabled"].is_boolean() && status["mode"].is_string(), "{state}: {status}");
        assert!(queue["queueSize"].is_u64() && queue["totalFailed"].is_u64(), "{state}: {status}");
        match last.as_str() {
            Some(at) => {
                let read: lifeboat_model::Timestamp =
                    at.parse().unwrap_or_else(|_| panic!("{state}: {at} is no instant"));
                assert!(at.ends_with('Z') && read > lifeboat_model::Timestamp::UNIX_EPOCH, "{state}: {at}");
            }
            None => assert!(last.is_null(), "{state}: {status}"),
        }
        status
    };
    assert_eq!(typed("never delivered")["lastSync"], Value::Null);
    shop.home.sell(3);
    assert_eq!(typed("held")["queue"]["queueSize"], 3);
    daemon.ask("POST", "/api/sync/enable", &[]);
    daemon.until("synced", |status| !status["lastSync"].is_null() && status["queue"]["queueSize"] == 0);
    typed("delivered");
    // The cloud refuses a row: a number that is not null.
    shop.server.sql("cloud", "ALTER TABLE mirror.orders ADD CHECK (what <> 'thing 0') NOT VALID");
    shop.home.sell(1);
    daemon.until("refused", |status| status["queue"]["totalFailed"] == 1);
    assert!(typed("refused")["queue"]["totalFailed"].is_u64());
}

#[test]
fn emrg_01_04_05_10_and_17_levels_of_the_mirror_are_plans_with_budgets() {
    let shop = Shop::attached();
    let level = |words: &[&str]| shop.home.run(&[&["level"], words].concat());
    level(&["1", "--reason", "odd errors"]).ends(ExitCode::Ok);
    shop.home.sell(30);
    level(&["2", "--yes"]).ends(ExitCode::Refused).says(&["no reason"]);
    level(&["2", "--yes", "--reason", "corrupted"]).ends(ExitCode::Ok);
    // EMRG-04: nobody asked for a copy, and there is one, with all that was dropped.
    let mut found = Vec::new();
    crate::home::collect(&shop.home.app(), &mut found);
    let of_queue = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().starts_with("queue-backup-");
    let saved: Vec<_> = found.iter().filter(|(path, _)| of_queue(path)).collect();
    assert_eq!(saved.len(), 1, "{:?}", found.iter().map(|one| &one.0).collect::<Vec<_>>());
    let document: Value = serde_json::from_slice(&saved[0].1).unwrap();
    assert_eq!(document["entries"].as_array().unwrap().len(), 30);
    shop.server
        .sql("cloud", "DELETE FROM mirror.orders WHERE id = 1; INSERT INTO mirror.orders VALUES (999, 'stray', '')");
    let plan = level(&["4", "--dry-run", "--json"]).ends(ExitCode::Ok).json();
    let steps: Vec<&str> =
        plan["phases"][0]["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap()).collect();
    assert_eq!(steps, ["disable", "clear", "check-local", "resync", "compare", "enable"], "{plan}");
    assert_eq!(plan["phases"][0]["budget_ms"], 1_800_000);
    level(&["4", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(shop.orders(), "70");
    shop.run(&["status"]).ends(ExitCode::Ok).says(&["delivers changes"]);
    // EMRG-17: not equal in the end, it stays off. A trigger in the cloud spoils every row.
    shop.server.sql(
        "cloud",
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.what := ''spoilt''; RETURN NEW; END';
         CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON mirror.orders FOR EACH ROW EXECUTE FUNCTION spoil();
         DELETE FROM mirror.orders WHERE id = 2",
    );
    level(&["4", "--yes"]).ends(ExitCode::FailedUndone).says(&["does not hold what the file holds"]);
    assert_eq!(shop.run(&["status", "--json"]).ends(ExitCode::Ok).json()["enabled"], false);
    // Levels 3 and 5 say what they need.
    level(&["3"]).ends(ExitCode::Usage).says(&["what runs the code", "targets.app"]);
    level(&["5"]).ends(ExitCode::Refused).says(&["level 5 needs a backup"]);
    level(&["4", "--hard"]).ends(ExitCode::Usage);
}

/// SYNC-16: whoever asks while a cycle is under way is answered by that one. A gate in the cloud keeps it open meanwhile, and nothing
/// but a request begins one.
#[test]
fn sync_16_two_who_ask_at_once_are_one_cycle() {
    let shop = Shop::attached();
    shop.home.write(".env", "SYNC_INTERVAL_MS=3600000\n");
    let daemon = Serving::start(&shop, &[]);
    daemon.until("synced", |status| !status["lastSync"].is_null());
    shop.server.sql(
        "cloud",
        "CREATE TABLE public.gate (open boolean);
         CREATE FUNCTION wait_for_gate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             'BEGIN WHILE NOT EXISTS (SELECT FROM public.gate) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NULL; END';
         CREATE TRIGGER wait BEFORE INSERT ON mirror.orders FOR EACH STATEMENT EXECUTE FUNCTION wait_for_gate()",
    );
    shop.home.sell(3);
    let (before, ask) = (daemon.cycles(), || daemon.asking("POST", "/api/sync/trigger", &[]));
    let (began, waits) =
        (std::time::Instant::now(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    let one = ask();
    while shop.server.sql("cloud", waits) == "0" {
        assert!(began.elapsed().as_secs() < 60, "no cycle came to the gate");
    }
    let two = ask();
    // It has been heard when others that came later were answered.
    for _ in 0..20 {
        daemon.status();
    }
    shop.server.sql("cloud", "INSERT INTO public.gate VALUES (true)");
    let [one, two] = [one, two].map(answered);
    assert!(one.0 == 200 && one.1.contains("\"changes\":3"), "{one:?}");
    assert_eq!(one, two, "the same cycle");
    assert_eq!(daemon.cycles(), before + 1);
    // Switched off it begins none, and says why.
    assert_eq!(daemon.ask("POST", "/api/sync/disable", &[]).0, 200);
    shop.home.sell(1);
    let (status, problem) = daemon.ask("POST", "/api/sync/trigger", &[]);
    assert!(status == 409 && problem["title"].is_string(), "{status} {problem}");
    assert_eq!(daemon.status()["queue"]["queueSize"], 1);
}

/// EMRG-13: a re-sync is watched by its status; when a batch of it fails, the command does, and names the table.
#[test]
fn emrg_13_a_re_sync_is_watched_by_its_status_and_a_failed_batch_fails_it() {
    let shop = Shop::attached();
    let settings = std::fs::read_to_string(shop.home.path("lifeboat.toml")).unwrap();
    shop.home.write("lifeboat.toml", format!("{settings}resync_rows = 10\n"));
    let daemon = Serving::start(&shop, &[]);
    assert_eq!(daemon.ask("POST", "/api/sync/disable", &[]).0, 200);
    assert_eq!(daemon.status()["resync"], Value::Null);
    // The third batch waits for a gate, so that somebody can look, and is refused.
    shop.server.sql(
        "cloud",
        "TRUNCATE mirror.orders;
         CREATE TABLE public.gate (open boolean);
         CREATE FUNCTION third() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF (SELECT count(*) FROM mirror.orders) >= 20 THEN
                 WHILE NOT EXISTS (SELECT FROM public.gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
                 RAISE EXCEPTION ''not the third''; END IF; RETURN NULL; END';
         CREATE TRIGGER third BEFORE INSERT ON mirror.orders FOR EACH STATEMENT EXECUTE FUNCTION third()",
    );
    let log = shop.home.path("resync.log");
    let said = || std::fs::read_to_string(&log).unwrap();
    let mut command = shop.home.command(&["sync", "resync", "--yes"]);
    let mut resync = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    daemon.until("under way", |status| {
        assert!(!said().contains("error:"), "{}", said());
        let (told, done) = (&status["resync"], status["resync"]["done"].as_u64());
        told["table"] == "orders" && told["total"] == 40 && matches!(done, Some(10 | 20))
    });
    shop.server.sql("cloud", "INSERT INTO public.gate VALUES (true)");
    assert_eq!(resync.wait().unwrap().code(), Some(ExitCode::FailedUndone as i32), "{}", said());
    for wanted in ["20/40 orders", "orders cannot be re-synced", "not the third"] {
        assert!(said().contains(wanted), "{wanted}: {}", said());
    }
    assert_eq!(shop.orders(), "20");
}

/// SYNC-07: what the app's own variables say wins over whoever asks, who is told so.
#[test]
fn sync_07_nobody_switches_on_what_the_environment_keeps_off() {
    let shop = Shop::attached();
    shop.home.write(".env", "SYNC_ENABLED=false\n");
    let daemon = Serving::start(&shop, &[]);
    assert_eq!(daemon.status()["enabled"], false);
    let (status, problem) = daemon.ask("POST", "/api/sync/enable", &[]);
    assert_eq!(status, 409, "{problem}");
    assert!(problem.to_string().contains("SYNC_ENABLED=false"), "{problem}");
    assert_eq!(daemon.status()["enabled"], false);
}

/// SYNC-24: the key of the cloud is in no answer, no log, no argument and no file but the one that it came from.
#[test]
fn sync_24_the_key_of_the_cloud_is_never_shown() {
    const KEY: &str = "service-role-canary-7391";
    let mut shop = Shop::attached();
    let settings = std::fs::read_to_string(shop.home.path("lifeboat.toml")).unwrap();
    let url = shop.server.url("cloud");
    let from_file = settings
        .replace(&format!("url = \"{url}\""), "url_from = { env = \"SUPABASE_DB_URL\", env_file = \"./.env\" }");
    assert_ne!(from_file, settings);
    shop.home.write("lifeboat.toml", from_file);
    shop.home.write(".env", format!("SUPABASE_DB_URL={url} password={KEY}\n"));
    let log = std::fs::File::create(shop.home.path("daemon.log")).unwrap();
    let mut command = shop.home.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut child = command.stderr(log.try_clone().unwrap()).stdout(log).spawn().unwrap();
    let logged = || std::fs::read_to_string(shop.home.path("daemon.log")).unwrap();
    let address = loop {
        assert_eq!(child.try_wait().unwrap(), None, "{}", logged());
        let told = logged();
        if let Some(rest) = told.split("http://").nth(1).filter(|_| told.ends_with('\n')) {
            break rest.split([' ', '\n', ',']).next().unwrap().to_owned();
        }
    };
    let arguments = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
    let daemon = Serving { child, address };
    daemon.until("synced", |status| !status["lastSync"].is_null());
    shop.home.sell(2);
    daemon.until("delivered", |status| status["queue"]["queueSize"] == 0);
    shop.server.crash();
    shop.home.sell(1);
    daemon.until("told", |status| !status["lastError"].is_null());
    let mut said = vec![String::from_utf8_lossy(&arguments).into_owned()];
    for path in ["/api/sync/status", "/api/sync/queue", "/api/health", "/metrics"] {
        said.push(daemon.text("GET", path, &[]).1);
    }
    for words in [&["sync", "status"][..], &["sync", "check"], &["config", "show"], &["doctor"], &["history"]] {
        let ran = shop.home.run(words);
        said.push(ran.out + &ran.err);
    }
    drop(daemon);
    let found = said.iter().find(|text| text.contains(KEY));
    assert_eq!(found, None);
    let mut files = Vec::new();
    crate::home::collect(&shop.home.app(), &mut files);
    let holds = |body: &[u8]| body.windows(KEY.len()).any(|some| some == KEY.as_bytes());
    let with_it: Vec<_> =
        files.iter().filter(|(_, body)| holds(body)).map(|(path, _)| path.file_name().unwrap()).collect();
    assert_eq!(with_it, [".env"]);
}

#[test]
fn sync_20_a_cloud_that_is_away_is_told_and_comes_back_by_itself() {
    let mut shop = Shop::attached();
    let daemon = Serving::start(&shop, &[]);
    daemon.until("synced", |status| !status["lastSync"].is_null());
    shop.server.crash();
    shop.home.sell(3);
    daemon.until("told", |status| !status["lastError"].is_null());
    let (status, health) = daemon.ask("GET", "/api/health", &[]);
    assert_eq!(status, 503, "{health}");
    assert_eq!(daemon.status()["queue"]["queueSize"], 3);
    shop.server.restart();
    daemon.until("delivered", |status| status["queue"]["queueSize"] == 0 && status["lastError"].is_null());
    assert_eq!(shop.orders(), "43");
}
