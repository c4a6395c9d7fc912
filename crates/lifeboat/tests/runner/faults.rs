//! What becomes of a backup and of a restore when the network goes away in the middle, or the server's disk is full.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
};

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::{Server, ServerOptions};

use crate::home::Home;

/// 20 MB of rows: no cut falls into anything but them.
const MANY: &str = "CREATE TABLE readings (id bigserial PRIMARY KEY, what text);
    INSERT INTO readings (what) SELECT repeat(md5(n::text), 6) FROM generate_series(1, 100000) AS n;";
const CONTENT: &str = "SELECT count(*) || ' ' || sum(hashtextextended(what, id)) FROM readings";

/// A way to the server that ends, once, in the middle of things.
struct Network {
    port: u16,
    /// Bytes that still pass before every connection is cut; less than nothing: none will be.
    left: Arc<AtomicI64>,
}

impl Network {
    fn to(server: &Server) -> Network {
        let (listener, target) = (TcpListener::bind("127.0.0.1:0").unwrap(), server.port);
        let (port, left) = (listener.local_addr().unwrap().port(), Arc::new(AtomicI64::new(i64::MIN)));
        let counted = left.clone();
        // Ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", target)).unwrap());
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let counted = (counted.clone(), counted.clone());
                thread::spawn(move || carry(client, server, &counted.0));
                thread::spawn(move || carry(back.0, back.1, &counted.1));
            }
        });
        Network { port, left }
    }

    fn cut_after(&self, bytes: i64) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    fn was_cut(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, left: &AtomicI64) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut piece) {
        let (passed, bytes_passed) = (left.load(Ordering::SeqCst), i64::try_from(bytes).unwrap());
        if passed >= 0 && left.fetch_sub(bytes_passed, Ordering::SeqCst) <= bytes_passed {
            left.store(i64::MIN, Ordering::SeqCst);
            break;
        }
        if to.write_all(&piece[..bytes]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)); // the other side may be gone already
}

fn asides(server: &Server) -> String {
    server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE '%lifeboat%'")
}

#[test]
fn a_network_that_is_cut_in_the_middle_of_rows_leaves_all_as_it_was() {
    let server = Server::with(15, ServerOptions { tcp: true, ..ServerOptions::default() });
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", MANY);
    let (home, network) = (Home::bare(), Network::to(&server));
    let name = format!("postgres:postgres://postgres@127.0.0.1:{}/shop", network.port);
    let run = |words: &[&str]| home.run(&[words, &["--vault", "./vault"]].concat());

    network.cut_after(5_000_000);
    let cut = run(&["backup", &name]).ends(ExitCode::FailedUndone);
    assert!(network.was_cut());
    cut.says(&["127.0.0.1", "connection"]);
    run(&["backups", "list", "--for", &name]).ends(ExitCode::Ok).says(&["no backup"]);

    run(&["backup", &name]).ends(ExitCode::Ok);
    let new = server.sql("shop", CONTENT);
    let mut put_back = 0;
    // Somewhere in counting what is lost, in the emergency backup, in filling and comparing, in keeping what leaves.
    for megabytes in [5, 30, 50, 70, 90] {
        server.sql("shop", "UPDATE readings SET what = 'lost' WHERE id < 10");
        let old = server.sql("shop", CONTENT);
        network.cut_after(megabytes * 1_000_000);
        let restore = ["restore", "shop", "--for", &name, "--accept-loss", "any", "--confirm", "shop/local"];
        // Whoever tries the same again says that the reason is known.
        let known: &[&str] = if put_back > 0 { &["--ack", "connection"] } else { &[] };
        let ran = run(&[&restore[..], known].concat());
        let what = format!("{megabytes} MB, {:?}: {}", ran.code, ran.err);
        match ran.code {
            // Not cut at all, or where nothing but a figure was lost.
            Some(0) => assert_eq!(server.sql("shop", CONTENT), new, "{what}"),
            Some(1) => {
                put_back += 1;
                assert!(network.was_cut() && ran.err.contains("Everything was put back"), "{what}");
                assert_eq!(server.sql("shop", CONTENT), old, "{what}");
            }
            _ => panic!("{what}"),
        }
        // Open to everybody, without a fence, and with nothing half-done beside it.
        server.sql("shop", "UPDATE readings SET what = what WHERE id = 1");
        assert_eq!(asides(&server), "0", "{what}");
        network.cut_after(i64::MIN);
    }
    assert!(put_back >= 2, "{put_back} restores were cut in the middle");
}

#[test]
fn a_full_disk_at_the_server_ends_a_restore_and_what_lives_there_goes_on() {
    // With a small cache the server has to write pages to make room for others, and fails there too.
    let options = ServerOptions { small_disk_mib: Some(48), ..ServerOptions::default() };
    let server = Server::with(15, options.set("shared_buffers", "8MB"));
    let place = server.small_disk();
    server.sql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", place.display()));
    server.sql("postgres", "CREATE DATABASE shop TABLESPACE small");
    server.sql("shop", MANY);
    let (home, name) = (Home::bare(), format!("postgres:{}", server.url("shop")));
    let run = |words: &[&str]| home.run(&[words, &["--vault", "./vault"]].concat());
    run(&["backup", &name]).ends(ExitCode::Ok);
    server.sql("shop", "UPDATE readings SET what = 'lost' WHERE id < 10");
    let now = server.sql("shop", CONTENT);
    let full = run(&["restore", "shop", "--for", &name, "--confirm", "shop/local"]).ends(ExitCode::FailedUndone);
    full.says(&["No space left on device", "Everything was put back"]);
    assert_eq!(server.sql("shop", CONTENT), now);
    assert_eq!(asides(&server), "0");
    server.sql("shop", "INSERT INTO readings (what) VALUES ('there is room again')");
}
