//! What the S3 driver makes of servers that are dead, silent, short, rude or strict.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use lifeboat_io::{
    Io, ObjectErrorKind, ObjectStore, Stop,
    objects::{
        retry::{Retry, RetryPolicy},
        s3::{S3, S3Settings},
    },
};

use crate::server::{Server, settings};

/// A server that gives each request the same bytes for an answer, and closes. Counts them.
fn answers(answer: &'static [u8]) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            if read_request(&socket).is_some() {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = (&socket).write_all(answer); // a client that goes away early is its own business
            }
        }
    });
    (address, count)
}

/// Reads a request without a body to its end.
fn read_request(mut socket: &TcpStream) -> Option<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = socket.read(&mut buffer).ok().filter(|count| *count > 0)?;
        seen.extend_from_slice(&buffer[..count]);
    }
    Some(())
}

fn retrying(settings: &S3Settings) -> Retry {
    Retry::new(Arc::new(S3::new(settings).unwrap()), &Io::system(), &Stop::default(), RetryPolicy::default())
}

fn check_answer(answer: &'static [u8], kind: ObjectErrorKind) {
    let (address, _) = answers(answer);
    let error = S3::new(&settings(address, "vault")).unwrap().get("config").unwrap_err();
    assert_eq!(error.kind, kind, "{}: {error:?}", String::from_utf8_lossy(answer));
}

#[test]
fn a_dead_server_is_reported_within_ten_seconds() {
    // A port that was free a moment ago: nobody listens.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let began = Instant::now();
    let error = retrying(&settings(address, "vault")).list("snapshots").unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Temporary, "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(error.to_string(), format!("cannot list snapshots in s3:http://{address}/backups/vault"));
}

#[test]
fn a_silent_server_is_reported_within_about_ten_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // accepts by the kernel, and never answers
    let began = Instant::now();
    let error = retrying(&settings(listener.local_addr().unwrap(), "vault")).list("snapshots").unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Temporary, "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn answers_become_kinds() {
    check_answer(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n", ObjectErrorKind::Temporary);
    check_answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", ObjectErrorKind::Denied);
    check_answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ObjectErrorKind::Missing);
    check_answer(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\n\r\n", ObjectErrorKind::Full);
    check_answer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", ObjectErrorKind::Other);
}

#[test]
fn a_body_that_breaks_off_is_an_error() {
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"x\"\r\n\
        Last-Modified: Fri, 20 Nov 2026 02:11:07 GMT\r\n\r\nonly this";
    check_answer(short, ObjectErrorKind::Temporary);
}

#[test]
fn a_listing_that_fails_on_its_second_page_is_an_error_and_not_a_shorter_list() {
    let server = Server::start();
    let store = server.open("vault");
    for number in 0..3 {
        store.put(&format!("index/{number}"), "x".into()).unwrap();
    }
    assert_eq!(store.list("index").unwrap().len(), 3);

    const PAGE: &str = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated>\
        <NextContinuationToken>more</NextContinuationToken><Contents><Key>vault/index/0</Key>\
        <LastModified>2026-11-20T02:11:07Z</LastModified><Size>1</Size></Contents></ListBucketResult>";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, socket) in listener.incoming().flatten().enumerate() {
            read_request(&socket);
            let (status, body) = if number == 0 { ("200 OK", PAGE) } else { ("503 Slow Down", "") };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = (&socket).write_all(format!("{head}{body}").as_bytes());
        }
    });
    let error = S3::new(&settings(address, "vault")).unwrap().list("index").unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Temporary, "{error:?}");
}

#[test]
fn a_busy_server_is_asked_again_and_a_strict_one_is_not() {
    let (busy, count) = answers(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(retrying(&settings(busy, "vault")).get("config").is_err());
    assert_eq!(count.load(Ordering::SeqCst), RetryPolicy::default().tries_max);
    let (strict, count) = answers(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(retrying(&settings(strict, "vault")).get("config").is_err());
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_wrong_key_is_denied_and_a_missing_bucket_is_missing() {
    let server = Server::start();
    let wrong = S3Settings { secret_access_key: "wrong".to_owned().into(), ..server.settings("vault") };
    let error = S3::new(&wrong).unwrap().list("").unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Denied, "{error:?}");
    let elsewhere = S3Settings { bucket: "elsewhere".into(), ..server.settings("vault") };
    let error = S3::new(&elsewhere).unwrap().list("").unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Missing, "{error:?}");
}

#[test]
fn an_unencrypted_line_must_be_allowed() {
    let server = Server::start();
    let strict = S3Settings { allow_http: false, ..server.settings("vault") };
    assert!(S3::new(&strict).unwrap().put("config", "x".into()).is_err());
}

#[test]
fn it_can_be_used_and_dropped_inside_another_runtime() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = server.open("vault");
        store.put("config", "x".into()).unwrap();
        assert_eq!(store.get("config").unwrap(), "x");
    });
}
