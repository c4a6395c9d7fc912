//! A network between a program and a server, that a test can break: connections that are cut, answers that never arrive
//! although what was asked for has happened, lines on which nothing moves any more, nobody who answers at all.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::postgres::Server;

/// How often a line looks whether it was broken.
const LOOK: Duration = Duration::from_millis(20);

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Network {
    /// Everything arrives.
    Whole,
    /// What is asked arrives, what is answered does not.
    NoAnswers,
    /// Nothing moves, and nobody is told.
    Still,
    /// Connections are closed as soon as they are made.
    Refuses,
}

struct State {
    network: AtomicU8,
    /// Lines of an earlier number are cut.
    cut: AtomicU64,
    ended: AtomicBool,
    lines: AtomicU64,
}

/// The network before one server.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A whole network before a server.
    pub fn before(server: &Server) -> Proxy {
        let sockets = std::fs::read_dir(server.socket_folder()).unwrap().map(|entry| entry.unwrap().path());
        let is_socket = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(".s.PGSQL.") && !name.ends_with(".lock")
        };
        let socket = sockets.into_iter().find(is_socket).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (network, cut, ended) = (AtomicU8::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let state = Arc::new(State { network, cut, ended, lines: AtomicU64::new(0) });
        let seen = state.clone();
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming() {
                if seen.ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                if seen.network.load(Ordering::SeqCst) == Network::Refuses as u8 {
                    continue;
                }
                // A server that is down refuses here, too: the client's line just ends.
                if let Ok(server) = UnixStream::connect(&socket) {
                    join(client, server, &seen);
                }
            }
        });
        Proxy { port, state, accepting: Some(accepting) }
    }

    /// The way to a database through it.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!("host=127.0.0.1 port={} user={role} dbname={database} sslmode=disable", self.port)
    }

    /// Makes the network do this from now on.
    pub fn is(&self, network: Network) {
        self.state.network.store(network as u8, Ordering::SeqCst);
    }

    /// Cuts every line there is.
    pub fn cut(&self) {
        self.state.cut.fetch_add(1, Ordering::SeqCst);
    }

    /// How many lines there have been.
    pub fn lines(&self) -> u64 {
        self.state.lines.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // it looks up
        self.accepting.take().map(JoinHandle::join);
    }
}

fn join(client: TcpStream, server: UnixStream, state: &Arc<State>) {
    let number = state.cut.load(Ordering::SeqCst);
    state.lines.fetch_add(1, Ordering::SeqCst);
    let (to_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    client.set_read_timeout(Some(LOOK)).unwrap();
    server.set_read_timeout(Some(LOOK)).unwrap();
    let forth = state.clone();
    std::thread::spawn(move || pump(client, to_server, &forth, number, false));
    let back = state.clone();
    std::thread::spawn(move || pump(server, to_client, &back, number, true));
}

/// A side of a line.
trait Side: Read + Write {
    fn end(&self);
}

impl Side for TcpStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Side for UnixStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

fn pump(mut from: impl Side, mut to: impl Side, state: &State, number: u64, is_answer: bool) {
    let mut piece = vec![0; 64 << 10];
    while state.cut.load(Ordering::SeqCst) == number {
        let network = state.network.load(Ordering::SeqCst);
        if network == Network::Still as u8 {
            std::thread::sleep(LOOK);
            continue;
        }
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(_) if is_answer && network == Network::NoAnswers as u8 => {}
            Ok(read) if to.write_all(&piece[..read]).is_err() => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    from.end();
    to.end();
}
