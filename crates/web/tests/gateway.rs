//! The daemon on a real port: in front of an app, and ending whoever hangs on.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::Request;
use lifeboat_testkit::World;
use lifeboat_web::{Daemon, Gateway};

use support::daemon;

/// A daemon that listens, ended when dropped.
struct Served {
    daemon: Arc<Daemon>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn over(world: &World, upstream: Option<SocketAddr>) -> Served {
        let (mut daemon, _log) = daemon(world, world.engine());
        daemon.gateway = upstream.map(|app| Gateway::new(&format!("http://{app}"), Duration::from_secs(20)).unwrap());
        let daemon = Arc::new(daemon);
        let (tell, told) = mpsc::channel();
        let served = daemon.clone();
        let thread = std::thread::spawn(move || {
            lifeboat_web::serve(served, "127.0.0.1:0".parse().unwrap(), |address| tell.send(address).unwrap()).unwrap();
        });
        Served { daemon, address: told.recv().unwrap(), thread: Some(thread) }
    }

    /// Connects and sends this; answers are read from what is given back.
    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// A whole answer.
    fn ask(&self, head: &str) -> String {
        let mut answer = String::new();
        let request = format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        self.send(&request).read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends it; gives how long that took.
    fn end(mut self) -> Duration {
        let began = Instant::now();
        self.daemon.stop.at_safe_point();
        self.thread.take().unwrap().join().unwrap();
        began.elapsed()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.daemon.stop.at_safe_point();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// An app of one answer: it gets the connection once the head of a request was read, and that head.
fn app(answers: impl Fn(TcpStream, String) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = Arc::new(answers);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = answers.clone();
            std::thread::spawn(move || {
                let mut stream = stream;
                if let Some(head) = head(&mut stream) {
                    answers(stream, head);
                }
            });
        }
    });
    address
}

/// Reads up to the empty line and not beyond it: what follows belongs to somebody else. Nothing when nobody says anything.
fn head(stream: &mut TcpStream) -> Option<String> {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return None;
        }
        read.push(byte[0]);
    }
    Some(String::from_utf8(read).unwrap())
}

/// What an answer of ours holds.
fn data(answer: &str) -> serde_json::Value {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str::<serde_json::Value>(body).unwrap()["data"].clone()
}

fn read_until(stream: &mut TcpStream, what: &str) -> String {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(what.as_bytes()) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "ended before {what:?}: {}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

#[test]
fn sync_34_app_and_api_share_a_port() {
    let app = app(|mut stream, head| {
        let body = format!("the app saw: {head}");
        write!(stream, "HTTP/1.1 200 OK\r\nX-App: yes\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let world = World::shop();
    let served = Served::over(&world, Some(app));
    let answer = served.ask("GET /api/customers?limit=5 HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.to_lowercase().contains("x-app: yes"), "{answer}");
    assert!(
        answer.contains("GET /api/customers?limit=5 HTTP/1.1") && answer.contains("x-forwarded-for: 127.0.0.1"),
        "{answer}"
    );
    assert!(answer.contains("host: localhost"), "the app sees the name it is called by: {answer}");
    let health = served.ask("GET /api/health HTTP/1.1");
    let traffic = &data(&health)["traffic"];
    assert_eq!((&traffic["n"], &traffic["errors"]), (&1.into(), &0.into()), "{health}");
    // A page of another site may use the app, and not us.
    assert!(served.ask("GET /shop HTTP/1.1\r\nOrigin: https://evil.example").starts_with("HTTP/1.1 200"));
    assert!(served.ask("GET /api/operations HTTP/1.1\r\nOrigin: https://evil.example").starts_with("HTTP/1.1 403"));
    assert!(served.ask("DELETE /api/health HTTP/1.1").starts_with("HTTP/1.1 405"), "ours stays ours");
}

#[test]
fn bodies_stream_both_ways() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let app = app(move |mut stream, head| {
        assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
        let sent = read_until(&mut stream, "first\r\n");
        write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ngot 1\r\n").unwrap();
        wait.lock().unwrap().recv().unwrap();
        let rest = read_until(&mut stream, "0\r\n\r\n");
        assert!(sent.contains("first") && rest.contains("second"));
        write!(stream, "5\r\ngot 2\r\n0\r\n\r\n").unwrap();
    });
    let world = World::shop();
    let served = Served::over(&world, Some(app));
    let mut stream =
        served.send("POST /upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    read_until(&mut stream, "got 1"); // while half of what is sent is still to come
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").unwrap();
    go_on.send(()).unwrap();
    read_until(&mut stream, "got 2");
}

#[test]
fn upgrades_go_through() {
    let app = app(|mut stream, head| {
        let head = head.to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        stream.write_all(answer.as_bytes()).unwrap();
        let said = read_until(&mut stream, ".");
        write!(stream, "you said {said}").unwrap();
    });
    let world = World::shop();
    let served = Served::over(&world, Some(app));
    let mut stream =
        served.send("GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let head = read_until(&mut stream, "\r\n\r\n").to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    read_until(&mut stream, "hello");
    stream.write_all(b"good day.").unwrap();
    read_until(&mut stream, "you said good day.");
}

#[test]
fn an_app_that_is_away_is_told_in_one_sentence() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::shop();
    let served = Served::over(&world, Some(gone));
    let answer = served.ask("GET / HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains("the app behind this does not answer") && answer.contains("retry-after"), "{answer}");
    let page = served.ask("GET / HTTP/1.1\r\nAccept: text/html,*/*");
    assert!(page.starts_with("HTTP/1.1 502") && page.contains("<h1>shop is temporarily unavailable</h1>"), "{page}");
    let health = served.ask("GET /api/health HTTP/1.1");
    assert!(health.starts_with("HTTP/1.1 503") && health.contains("does not answer"), "{health}");
    let traffic = &data(&health)["traffic"];
    assert_eq!(
        (&traffic["n"], &traffic["errors"], &traffic["error_rate"]),
        (&2.into(), &2.into(), &1.0.into()),
        "{health}"
    );
    assert!(served.ask("GET /api/operations HTTP/1.1").starts_with("HTTP/1.1 200"), "what is ours goes on");
}

#[test]
fn while_a_fence_stands_everybody_is_told_when_to_come_back() {
    let app = app(|mut stream, _head| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap());
    let world = World::on_server(15);
    let served = Served::over(&world, Some(app));
    let resource = world.setup.resources[0].name.clone();
    let fence = |on: bool| {
        world.must(&Request::Fence { resource: resource.clone(), on, why: "odd orders".to_owned() });
        served.daemon.gateway.as_ref().unwrap().look(&served.daemon.engine);
    };
    assert!(served.ask("GET / HTTP/1.1").starts_with("HTTP/1.1 200"));
    fence(true);
    let page = served.ask("GET / HTTP/1.1\r\nAccept: text/html");
    assert!(page.starts_with("HTTP/1.1 503") && page.contains("retry-after: 30"), "{page}");
    assert!(page.contains("<h1>shop is temporarily unavailable</h1>"), "{page}");
    assert!(!page.contains("odd orders"), "why is not for everybody: {page}");
    assert!(page.contains("cache-control: no-store"), "MPG-02: {page}");
    assert!(!page.contains("src=") && !page.contains("href="), "nothing is loaded: {page}");
    let json = served.ask("POST /api/orders HTTP/1.1\r\nContent-Length: 0");
    assert!(json.starts_with("HTTP/1.1 503") && json.contains("application/problem+json"), "{json}");
    let health = served.ask("GET /api/health HTTP/1.1");
    assert!(health.contains("odd orders") && health.contains("closed on purpose"), "{health}");
    assert!(served.ask("GET /metrics HTTP/1.1").contains("lifeboat_gateway_closed{} 1"));
    fence(false);
    assert!(served.ask("GET / HTTP/1.1").starts_with("HTTP/1.1 200"));
}

#[test]
fn mpg_03_and_05_somebody_closes_the_app_and_says_until_when() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::shop();
    let served = Served::over(&world, Some(gone));
    let says = |on: bool, until: Option<&str>| {
        let until = until.map(|at| at.parse().unwrap());
        world.must(&Request::Maintenance { on, why: "moving house".to_owned(), until });
        served.daemon.gateway.as_ref().unwrap().look(&served.daemon.engine);
    };
    says(true, Some("2026-01-01T02:00:00Z"));
    let page = served.ask("GET / HTTP/1.1\r\nAccept: text/html");
    assert!(page.starts_with("HTTP/1.1 503") && page.contains("ETA: 2 hours"), "with the app down, too: {page}");
    assert!(page.contains("retry-after: 300") && !page.contains("moving house"), "{page}");
    let json = served.ask("GET /api/orders HTTP/1.1");
    assert!(json.contains("shop is closed for maintenance; it is expected back in 2 hours"), "{json}");
    world.clock.advance(Duration::from_secs(3 * 3_600));
    served.daemon.gateway.as_ref().unwrap().look(&served.daemon.engine);
    let page = served.ask("GET / HTTP/1.1\r\nAccept: text/html");
    assert!(page.starts_with("HTTP/1.1 503") && !page.contains("ETA"), "what is past is not still to come: {page}");
    let health = served.ask("GET /api/health HTTP/1.1");
    assert!(
        health.starts_with("HTTP/1.1 200") && health.contains("moving house"),
        "closed on purpose is well: {health}"
    );
    says(false, None);
    assert!(served.ask("GET / HTTP/1.1").starts_with("HTTP/1.1 502"));
}

#[test]
fn nobody_who_hangs_on_holds_up_the_end() {
    // An app whose answer never ends, and that sends as fast as it is read.
    let app = app(|mut stream, _head| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while stream.write_all(chunk.as_bytes()).is_ok() {}
    });
    let world = World::shop();
    let backup = world.backup();
    let served = Served::over(&world, Some(app));
    let silent = served.send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n"); // and nobody reads
    let half = served.send("GET /api/health HTTP/1.1\r\nHo"); // and nothing more comes
    let mut idle = served.send("GET /api/operations HTTP/1.1\r\nHost: localhost\r\n\r\n");
    read_until(&mut idle, "\r\n\r\n");
    let watch = format!("GET /api/operations/{}/events HTTP/1.1\r\nHost: localhost\r\n\r\n", backup.id);
    let watching = served.send(&watch);
    let took = served.end();
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop((silent, half, idle, watching));
}

#[test]
fn a_daemon_that_ends_leaves_its_operation_where_it_goes_on() {
    let world = World::shop();
    let (begun, seen) = mpsc::channel::<()>();
    let (go_on, wait) = mpsc::channel::<()>();
    let (begun, wait) = (std::sync::Mutex::new(begun), std::sync::Mutex::new(wait));
    let around = move |turn: usize,
                       _: &lifeboat_model::Action,
                       act: &dyn Fn() -> Result<serde_json::Value, lifeboat_model::Failure>| {
        if turn == 2 {
            begun.lock().unwrap().send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
        act()
    };
    let engine = lifeboat_testkit::trouble::meddled(&world, Box::new(around));
    let (daemon, _log) = daemon(&world, engine);
    let daemon = Arc::new(daemon);
    let (tell, told) = mpsc::channel();
    let served = daemon.clone();
    let thread = std::thread::spawn(move || {
        lifeboat_web::serve(served, "127.0.0.1:0".parse().unwrap(), |address| tell.send(address).unwrap()).unwrap();
    });
    let served = Served { daemon, address: told.recv().unwrap(), thread: Some(thread) };
    let body = r#"{"ask":"backup"}"#;
    let head = format!("POST /api/operations HTTP/1.1\r\nContent-Length: {}", body.len());
    let mut stream = served.send(&format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n{body}"));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    seen.recv().unwrap();
    served.daemon.stop.at_safe_point();
    go_on.send(()).unwrap();
    served.end();
    let engine = world.engine();
    let id = engine.unfinished_one(None).unwrap();
    let done = engine.resume(&id, "tester", &Unwatched, &Stop::default()).unwrap();
    assert_eq!(done.state, lifeboat_model::OperationState::Done);
}
