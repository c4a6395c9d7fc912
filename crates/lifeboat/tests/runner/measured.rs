//! Facts from where they are: a metrics server, an access log, a database, a port. Each decides by itself, when somebody asks and while a
//! deploy is watched.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
};

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::Server;

use crate::home::{Home, Ran};

/// A server that answers the query API of Prometheus: to each query a number as text, to any other an empty vector.
struct Metrics {
    url: String,
    answers: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Metrics {
    fn start() -> Metrics {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        let known = answers.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut head = BufReader::new(client.try_clone().unwrap()).lines();
                let first = head.next().unwrap().unwrap();
                for line in head {
                    if line.unwrap().is_empty() {
                        break;
                    }
                }
                let (status, body) = answer(&first, &known.lock().unwrap());
                let length = body.len();
                write!(client, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                    .unwrap();
            }
        });
        Metrics { url, answers }
    }

    fn says(&self, query: &str, value: &str) {
        self.answers.lock().unwrap().insert(query.to_owned(), value.to_owned());
    }
}

fn answer(first: &str, known: &BTreeMap<String, String>) -> (&'static str, String) {
    let Some(query) = first.strip_prefix("GET /api/v1/query?query=").and_then(|rest| rest.split(' ').next()) else {
        return ("404 Not Found", "404 page not found\n".to_owned());
    };
    let result = match known.get(&decoded(query)).map(String::as_str) {
        Some("error") => {
            let why = r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error"}"#;
            return ("400 Bad Request", why.to_owned());
        }
        Some(value) => format!(r#"[{{"metric":{{}},"value":[1795824000.1,"{value}"]}}]"#),
        None => "[]".to_owned(),
    };
    ("200 OK", format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#))
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
        out += &part[2..];
    }
    out
}

const RATE: &str = "100 * sum(rate(http_requests_total{code=~\"5..\"}[5m])) / sum(rate(http_requests_total[5m]))";
const MANY: &str = "sum(increase(http_requests_total[5m]))";

fn with(home: &Home, lines: &str) {
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}{lines}"));
}

fn prometheus(url: &str) -> String {
    format!(
        "[environments.local.decide.facts.error_rate]\nprometheus = \"{url}\"\nquery = '{RATE}'\nsamples = \"{MANY}\"\n"
    )
}

fn decide(home: &Home) -> Ran {
    home.run(&["decide", "--rest-is-fine", "--detected", "1m ago"])
}

/// DEC-03, DEC-08, DEC-10: a rate from a metrics server decides by the limit, with how many there were; no series, too few of them, an
/// error and a server that is away are unknown, and never fine.
#[test]
fn dec_10_a_metrics_server_decides() {
    let (home, metrics) = (Home::shop(), Metrics::start());
    with(&home, &prometheus(&metrics.url));
    decide(&home).ends(ExitCode::Unknown).says(&["UNDECIDED", "has no such series"]);
    for (rate, many, code, says) in [
        ("5", "1200", ExitCode::Ok, "NO ROLLBACK"),
        ("5.01", "1200.4", ExitCode::ActionAdvised, "5.01 %, more than 5 %"),
        ("50", "2", ExitCode::Unknown, "UNDECIDED"),
        ("NaN", "0", ExitCode::Unknown, "UNDECIDED"),
        ("error", "1200", ExitCode::Unknown, "the answer is 400: 1:5: parse error"),
        ("0.2", "1200", ExitCode::Ok, "NO ROLLBACK"),
    ] {
        metrics.says(RATE, rate);
        metrics.says(MANY, many);
        decide(&home).ends(code).says(&[says]);
    }
    let told = home.run(&["decide", "--json"]).json();
    assert_eq!(told["decision"]["basis"]["facts"]["error_rate"]["n"], 1200);
    let away = Home::shop();
    with(&away, &prometheus("http://127.0.0.1:9"));
    decide(&away).ends(ExitCode::Unknown).says(&["UNDECIDED", "error_rate", "127.0.0.1:9"]);
}

/// DEC-10: a question to the database decides, as a share and as a matter of yes or no; a database that cannot be asked, an answer that is
/// none, and one that nobody waits for are unknown. The password is used, and shown nowhere.
#[test]
fn dec_10_a_database_decides() {
    let server = Server::start(15);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE requests (status int NOT NULL); INSERT INTO requests SELECT 200 FROM generate_series(1, 950)",
    );
    let home = Home::shop();
    let ask = "select count(*) filter (where status >= 500) || '/' || count(*) || ',window=5m' from requests";
    let secret = "canary-of-the-question";
    let url = server.url("shop").replacen("postgres@", &format!("postgres:{secret}@"), 1);
    home.write("url", &url);
    with(
        &home,
        &format!(
            "[environments.local.resources.server]\nkind = \"postgres\"\nurl_from = {{ cmd = [\"cat\", \"url\"] }}\n\
             [environments.local.decide.facts.error_rate]\nsql = \"{ask}\"\n\
             [environments.local.decide.facts.data_loss]\nsql = \"select not exists (select from requests)\"\nresource = \"server\"\n"
        ),
    );
    let decide = || {
        let ran = decide(&home);
        assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{}", ran.err);
        ran
    };
    decide().ends(ExitCode::Ok).says(&["NO ROLLBACK"]);
    server.sql("shop", "INSERT INTO requests SELECT 502 FROM generate_series(1, 51)");
    decide().ends(ExitCode::ActionAdvised).says(&["ROLL BACK (major)", "5.094906 %, more than 5 %", "n=1001"]);
    server.sql("shop", "DELETE FROM requests");
    decide().ends(ExitCode::ActionAdvised).says(&["ROLL BACK (critical)", "data"]);
    server.sql("shop", "DROP TABLE requests");
    decide().ends(ExitCode::Unknown).says(&["UNDECIDED", "requests"]);
    server.sql("shop", "CREATE VIEW requests AS SELECT 200 AS status FROM pg_sleep(600)");
    decide().ends(ExitCode::Unknown).says(&["UNDECIDED", "statement timeout"]);
    drop(server);
    decide().ends(ExitCode::Unknown).says(&["UNDECIDED", "cannot be asked"]);
    for (path, body) in home.everything().into_iter().filter(|(path, _)| !path.ends_with("app/url")) {
        assert!(!String::from_utf8_lossy(&body).contains(secret), "{} holds it", path.display());
    }
}

/// DEC-10: a port that nobody answers decides; one that somebody answers does not.
#[test]
fn dec_10_a_port_decides() {
    let (home, listener) = (Home::shop(), TcpListener::bind("127.0.0.1:0").unwrap());
    let place = listener.local_addr().unwrap();
    with(&home, &format!("[environments.local.decide.facts.core_workflow_broken]\ntcp = \"{place}\"\n"));
    decide(&home).ends(ExitCode::Ok).says(&["NO ROLLBACK"]);
    drop(listener);
    decide(&home).ends(ExitCode::ActionAdvised).says(&["ROLL BACK (major)", &place.to_string(), "refused"]);
    let _listener = TcpListener::bind(place).unwrap();
    decide(&home).ends(ExitCode::Ok).says(&["NO ROLLBACK"]);
}

/// A log of so many requests of the last minutes, some of which failed.
fn access_log(failing: usize) -> String {
    let now = jiff::Timestamp::now();
    let line = |number: usize| {
        let at = now - jiff::SignedDuration::from_secs(400 - number as i64);
        let status = if number < 400 - failing { 200 } else { 502 };
        let time = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
        format!("::1 - - [{time}] \"GET / HTTP/1.1\" {status} 9 \"-\" \"-\" 0.020\n")
    };
    (0..400).map(line).collect()
}

/// MIG-11, DEC-10: each of them, by itself, takes a deploy back that is watched; and where it is well, the version stays.
#[test]
fn dec_10_what_is_measured_takes_a_deploy_back() {
    let server = Server::start(15);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE requests (status int NOT NULL); INSERT INTO requests SELECT 200 FROM generate_series(1, 1000)",
    );
    let metrics = Metrics::start();
    metrics.says(MANY, "1200");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap();
    let share = "select count(*) filter (where status >= 500) || '/' || count(*) || ',window=5m' from requests";
    let sources = [
        ("error_rate", format!("prometheus = \"{}\"\nquery = '{RATE}'\nsamples = \"{MANY}\"", metrics.url)),
        ("error_rate", "access_log = \"./access.log\"".to_owned()),
        ("error_rate", format!("sql = \"{share}\"")),
        ("core_workflow_broken", format!("tcp = \"{port}\"")),
    ];
    let mut listener = Some(listener);
    for (number, (key, source)) in sources.iter().enumerate() {
        let home = Home::shop();
        with(
            &home,
            &format!(
                "[environments.local.resources.server]\nkind = \"postgres\"\nurl = \"{}\"\n\
                 [environments.local.targets.web]\ndriver = \"command\"\nrunning = [\"cat\", \"IN_USE\"]\n\
                 switch = [\"./use\", \"{{version}}\"]\nstop = [\"true\"]\nstart = [\"true\"]\n\
                 [environments.local.decide.facts.{key}]\n{source}\n",
                server.url("shop")
            ),
        );
        home.write("use", "#!/bin/sh\necho \"$1\" > IN_USE\n");
        std::fs::set_permissions(home.path("use"), std::fs::Permissions::from_mode(0o755)).unwrap();
        home.write("IN_USE", "v1\n");
        let deploy = |version: &str| home.run(&["deploy", version, "--unproven", "--watch", "1s", "--yes"]);
        let in_use = || std::fs::read_to_string(home.path("IN_USE")).unwrap();
        let is = |bad: bool, listener: &mut Option<TcpListener>| {
            metrics.says(RATE, if bad { "7.5" } else { "0.1" });
            home.write("access.log", access_log(if bad { 60 } else { 0 }));
            server.sql("shop", &format!("UPDATE requests SET status = {}", if bad { 500 } else { 200 }));
            *listener = (!bad).then(|| listener.take().unwrap_or_else(|| TcpListener::bind(port).unwrap()));
        };
        is(false, &mut listener);
        deploy("v2").ends(ExitCode::Ok);
        assert_eq!(in_use(), "v2\n", "{source}");
        is(true, &mut listener);
        let back = deploy("v3").ends(ExitCode::FailedUndone).says(&["does not do well"]);
        assert_eq!(in_use(), "v2\n", "{source}");
        back.says(&[["7.5 %", "requests fail: ", "100 %", "a core workflow is broken: yes"][number]]);
        home.run(&["releases", "list"]).ends(ExitCode::Ok).says(&["v3", "bad"]);
    }
}
