//! An app that answers over HTTP as a test says, until it is dropped.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// Method, path and body to status and body.
pub type Answers = dyn Fn(&str, &str, &str) -> (u16, String) + Send + Sync;

/// The app.
pub struct App {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl App {
    /// Listens on a port of its own.
    pub fn new(answers: impl Fn(&str, &str, &str) -> (u16, String) + Send + Sync + 'static) -> App {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, ended) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (record, ends) = (asked.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                answer(stream.unwrap(), &record, &answers);
            }
        });
        App { address, asked, ended, thread: Some(thread) }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked, as `GET /path`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // it looks up when somebody comes
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer(mut stream: TcpStream, record: &Mutex<Vec<String>>, answers: &Answers) {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    let whole = loop {
        let Ok(read @ 1..) = stream.read(&mut piece) else { return };
        request.extend(&piece[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break text;
        }
    };
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    record.lock().unwrap().push(format!("{method} {path}"));
    let (status, told) = answers(method, path, body);
    let length = told.len();
    let _ = write!(stream, "HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{told}"); // who went away
}
