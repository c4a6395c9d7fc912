//! What the gateway adds: the same small answer asked for directly and through `lifeboat serve`, in turns on this host's
//! loopback, over connections that stay open. Called by `./bench`; never a test.
//!
//! `gateway_side_by_side PROGRAM FOLDER REQUESTS`
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement says what went wrong by ending"
)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Requests in a row before it is the other's turn.
const TURN: usize = 500;

/// Bytes of an answer.
const BODY: usize = 1024;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, program, folder, requests] = args.as_slice() else {
        panic!("gateway_side_by_side PROGRAM FOLDER REQUESTS");
    };
    let requests: usize = requests.parse().unwrap();
    let app = app();
    let (mut daemon, gateway) = daemon(Path::new(program), Path::new(folder), app);
    for clients in [1, 8] {
        let (mut bare, mut through) = (Vec::new(), Vec::new());
        for _ in 0..(requests / TURN / 2).max(1) {
            bare.extend(turn(app, clients));
            through.extend(turn(gateway, clients));
        }
        tell(clients, &mut bare, &mut through);
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

fn tell(clients: usize, bare: &mut [Duration], through: &mut [Duration]) {
    bare.sort_unstable();
    through.sort_unstable();
    let at = |all: &[Duration], per_thousand: usize| all[(all.len() - 1) * per_thousand / 1000].as_secs_f64() * 1e3;
    println!("{clients} at a time, {} requests each way", bare.len());
    for (name, per_thousand) in [("p50", 500), ("p95", 950), ("p99", 990), ("p99.9", 999)] {
        let (bare, through) = (at(bare, per_thousand), at(through, per_thousand));
        println!("  {name:<6} bare {bare:7.3} ms   through {through:7.3} ms   added {:7.3} ms", through - bare);
    }
}

/// A turn of so many clients, each over one connection.
fn turn(address: SocketAddr, clients: usize) -> Vec<Duration> {
    let threads: Vec<_> = (0..clients).map(|_| std::thread::spawn(move || client(address, TURN / clients))).collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

fn client(address: SocketAddr, requests: usize) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut took = Vec::with_capacity(requests);
    for _ in 0..requests + 10 {
        let began = Instant::now();
        stream.write_all(b"GET /orders?limit=5 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n").unwrap();
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        assert_eq!(length, BODY);
        took.push(began.elapsed());
    }
    took.split_off(10) // the first ones open connections
}

/// An app that answers the same to everybody.
fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let body = "x".repeat(BODY);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n{body}");
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line == "\r\n" => {
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Ok(_) => {}
        }
    }
}

/// The daemon in front of the app.
fn daemon(program: &Path, folder: &Path, app: SocketAddr) -> (Child, SocketAddr) {
    let home = folder.join("gateway");
    std::fs::create_dir_all(&home).unwrap();
    rusqlite::Connection::open(home.join("shop.db"))
        .unwrap()
        .execute_batch("CREATE TABLE IF NOT EXISTS a (b)")
        .unwrap();
    let settings = format!(
        "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n[state]\nfolder = \"./state\"\n\
         [gateway]\nupstream = \"http://{app}\"\n[environments.local.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\n"
    );
    std::fs::write(home.join("lifeboat.toml"), settings).unwrap();
    let mut command = Command::new(std::fs::canonicalize(program).unwrap());
    command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(&home).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = told.by_ref().map(Result::unwrap).find(|line| line.contains("http://")).unwrap();
    let address = line.split("http://").nth(1).unwrap().split([' ', ',']).next().unwrap().parse().unwrap();
    // What it says further must not fill its pipe.
    std::thread::spawn(move || told.for_each(drop));
    (child, address)
}
