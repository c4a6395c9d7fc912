//! What several tests need: a database with one of everything, streams in memory, calls with the usual arguments.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Mutex,
};

use lifeboat_io::{
    Stop, SystemClock, SystemExec,
    database::postgres::{
        Address, Capture, CaptureOptions, Captured, Clients, PgError, Session, Sink, Sinks, capture, find_clients_in,
    },
    testing::MapEnv,
};

use lifeboat_model::{PostgresFacts, postgres::PartFacts};

use crate::servers::{Server, client_programs};

pub const FIXTURE: &str = include_str!("fixture.sql");

/// A server with the database `shop`, which has one of everything.
pub fn shop(major: u32) -> Server {
    let server = Server::start(major);
    server.sql("postgres", FIXTURE);
    server
}

pub fn address(text: &str) -> Address {
    Address::parse(text, &MapEnv::default()).unwrap()
}

pub fn open(server: &Server, database: &str) -> Session {
    Session::open(&address(&server.url(database)), &Stop::default()).unwrap()
}

/// Streams that stay in memory.
#[derive(Default)]
pub struct Memory {
    pub files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Ends a stream with an error after so many bytes.
    pub bytes_max: Option<usize>,
    /// Called once, when the first bytes come.
    pub at_first_bytes: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// The files of an earlier capture.
    pub earlier: BTreeMap<String, Vec<u8>>,
}

struct MemorySink<'a> {
    memory: &'a Memory,
    path: String,
    bytes: Vec<u8>,
}

impl Sinks for Memory {
    fn begin(&self, path: &str) -> io::Result<Box<dyn Sink + '_>> {
        Ok(Box::new(MemorySink { memory: self, path: path.to_owned(), bytes: Vec::new() }))
    }

    fn again(&self, parts: &[PartFacts]) -> io::Result<bool> {
        let all: Option<Vec<_>> =
            parts.iter().map(|part| Some((part.path.clone(), self.earlier.get(&part.path)?.clone()))).collect();
        let is_all = all.is_some();
        for (path, bytes) in all.unwrap_or_default() {
            assert!(self.files.lock().unwrap().insert(path.clone(), bytes).is_none(), "{path} was written twice");
        }
        Ok(is_all)
    }
}

impl Write for MemorySink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.memory.bytes_max.is_some_and(|max| self.bytes.len() + bytes.len() > max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let hook = self.memory.at_first_bytes.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for MemorySink<'_> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        let MemorySink { memory, path, bytes } = *self;
        assert!(memory.files.lock().unwrap().insert(path.clone(), bytes).is_none(), "{path} was written twice");
        Ok(())
    }
}

/// The clients that a test of this server uses: its own version where there is one.
pub fn clients(server_major: u32) -> Clients {
    let major = match server_major {
        ..=15 => 15,
        16 => 16,
        _ => 18,
    };
    find_clients_in(&[client_programs(major)], &SystemExec, &Stop::default()).unwrap().remove(0)
}

pub fn try_capture(
    server: &Server,
    address: &Address,
    options: &CaptureOptions,
    memory: &Memory,
    stop: &Stop,
) -> Result<Captured, PgError> {
    capture_since(server, address, options, memory, None, stop)
}

/// The same, where an earlier capture is known.
pub fn capture_since(
    server: &Server,
    address: &Address,
    options: &CaptureOptions,
    memory: &Memory,
    earlier: Option<&PostgresFacts>,
    stop: &Stop,
) -> Result<Captured, PgError> {
    let folder = tempfile::tempdir().unwrap();
    let clients = clients(server.major);
    let clock = SystemClock::default();
    let what = Capture {
        address,
        clients: &clients,
        exec: &SystemExec,
        clock: &clock,
        folder: folder.path(),
        options,
        earlier,
    };
    capture(&what, memory, stop, &|_, _| ())
}

/// A capture of everything, into memory.
pub fn capture_all(server: &Server, database: &str) -> (Captured, Memory) {
    let memory = Memory::default();
    let address = address(&server.url(database));
    let captured = try_capture(server, &address, &CaptureOptions::default(), &memory, &Stop::default()).unwrap();
    (captured, memory)
}

/// Waits until a question has this answer.
pub fn wait_for(server: &Server, question: &str, answer: &str) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let mut session = open(server, "postgres");
    while session.value(question).unwrap() != answer {
        assert!(std::time::Instant::now() < until, "{question} never became {answer}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
