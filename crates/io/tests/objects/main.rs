//! Every driver passes one suite; what is particular to one is tested beside it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests watch the outside from outside")]

mod faults;
mod network;
mod server;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use lifeboat_io::{
    Io, ObjectErrorKind, ObjectStore, Stop,
    objects::{
        ObjectError, ObjectInfo,
        folder::Folder,
        parts::{self, InParts},
        retry::{Retry, RetryPolicy},
    },
    open_location, parse_location,
    testing::{MapEnv, MemoryObjects, conform_objects, conform_put_new_race, twin_io},
};
use server::{BUCKET, KEY_ID, SECRET, Server};

/// A name of its own for each store of a suite.
fn numbered(begin: &str) -> impl Fn() -> String {
    let next = AtomicU32::new(0);
    let begin = begin.to_owned();
    move || format!("{begin}{}", next.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn folder_conforms() {
    let root = tempfile::tempdir().unwrap();
    let name = numbered("store");
    conform_objects(&|| Arc::new(Folder::new(root.path().join(name()))));
    conform_put_new_race(&Folder::new(root.path().join(name())));
}

#[test]
fn memory_conforms() {
    conform_objects(&|| Arc::new(MemoryObjects::new()));
    conform_put_new_race(&MemoryObjects::new());
}

#[test]
fn retry_conforms() {
    let io = twin_io();
    conform_objects(&|| {
        Arc::new(Retry::new(Arc::new(MemoryObjects::new()), &io, &Stop::default(), RetryPolicy::default()))
    });
}

#[test]
fn s3_conforms() {
    let server = Server::start();
    let name = numbered("shop/vault");
    conform_objects(&|| Arc::new(server.open(&name())));
}

/// Large enough for three parts. Nothing is to be seen of it before, and nothing but it afterwards.
#[test]
fn bkp_07_a_file_of_many_parts_arrives_as_it_is() {
    let (home, server, io) = (tempfile::tempdir().unwrap(), Server::start(), twin_io());
    let file = home.path().join("shop.sqlite");
    let folder = || Arc::new(Folder::new(home.path().join("folder")));
    let tried = |store| Retry::new(store, &io, &Stop::default(), RetryPolicy::default());
    let stores: [Arc<dyn ObjectStore>; 4] = [
        folder(),
        Arc::new(MemoryObjects::new()),
        Arc::new(tried(Arc::new(Folder::new(home.path().join("tried"))))),
        Arc::new(server.open("plain")),
    ];
    let body = |begin: u8, bytes: u32| (0..bytes).map(|n| (n >> 8) as u8 ^ n as u8 ^ begin).collect::<Vec<u8>>();
    for store in stores {
        for (begin, bytes) in [(2, (17 << 20) + 3), (3, 5), (4, 0)] {
            let body = body(begin, bytes);
            std::fs::write(&file, &body).unwrap();
            let sent = parts::put_file(&*store, "shop.sqlite", &file, &Stop::default(), &|_, _| ()).unwrap();
            assert_eq!(sent.bytes, u64::from(bytes), "{store:?}");
            assert!(store.get("shop.sqlite").unwrap() == body, "{store:?}, {bytes}");
            assert_eq!(parts::look_through(&*store, "shop.sqlite", &Stop::default(), &|_, _| ()).unwrap(), sent);
            assert_eq!(parts::digest_of_file(&file, &Stop::default()).unwrap(), sent);
            assert_eq!(store.list("").unwrap().len(), 1, "{store:?}");
        }
        // Broken off in the middle, the former one stays, and nothing lies about.
        std::fs::write(&file, body(9, 17 << 20)).unwrap();
        let stop = Stop::default();
        if store.in_parts().is_some() {
            let broken = parts::put_file(&*store, "shop.sqlite", &file, &stop, &|_, _| stop.now());
            assert!(matches!(broken, Err(parts::SendError::Stopped(_))), "{store:?}: {broken:?}");
            assert_eq!((store.size("shop.sqlite").unwrap(), store.half_written().unwrap()), (0, vec![]), "{store:?}");
        }
    }
}

/// A folder whose answer to the last part is lost on its way the first time.
#[derive(Debug)]
struct LosesAnAnswer {
    folder: Folder,
    lost: AtomicBool,
}

impl ObjectStore for LosesAnAnswer {
    fn place(&self) -> String {
        self.folder.place()
    }
    fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.folder.put(key, body)
    }
    fn put_new(&self, key: &str, body: Bytes) -> Result<bool, ObjectError> {
        self.folder.put_new(key, body)
    }
    fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        self.folder.get(key)
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.folder.get_range(key, range)
    }
    fn size(&self, key: &str) -> Result<u64, ObjectError> {
        self.folder.size(key)
    }
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        self.folder.list(prefix)
    }
    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.folder.delete(key)
    }
    fn in_parts(&self) -> Option<&dyn InParts> {
        Some(self)
    }
}

impl InParts for LosesAnAnswer {
    fn begin(&self, key: &str) -> Result<String, ObjectError> {
        self.folder.begin(key)
    }
    fn part(&self, key: &str, upload: &str, number: usize, body: Bytes) -> Result<String, ObjectError> {
        self.folder.part(key, upload, number, body)
    }
    fn finish(&self, key: &str, upload: &str, parts: &[String]) -> Result<(), ObjectError> {
        self.folder.finish(key, upload, parts)?;
        if self.lost.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let (kind, key, doing) = (ObjectErrorKind::Temporary, key.to_owned(), "write");
        Err(ObjectError { kind, place: self.place(), key, doing, source: "the connection was reset".into() })
    }
    fn give_up(&self, key: &str, upload: &str) -> Result<(), ObjectError> {
        self.folder.give_up(key, upload)
    }
}

/// The last part arrived, and its answer did not: the second try finds no upload, and the object, which is no failure.
#[test]
fn bkp_07_an_answer_that_is_lost_after_the_last_part_is_no_failure() {
    let (home, io) = (tempfile::tempdir().unwrap(), twin_io());
    let file = home.path().join("shop.sqlite");
    std::fs::write(&file, vec![7; (8 << 20) + 1]).unwrap();
    let store = LosesAnAnswer { folder: Folder::new(home.path().join("folder")), lost: AtomicBool::new(false) };
    let store = Retry::new(Arc::new(store), &io, &Stop::default(), RetryPolicy::default());
    let sent = parts::put_file(&store, "shop.sqlite", &file, &Stop::default(), &|_, _| ()).unwrap();
    assert_eq!(parts::look_through(&store, "shop.sqlite", &Stop::default(), &|_, _| ()).unwrap(), sent);
    // An upload that is not there, and has not become the object either, is one.
    let error = store.in_parts().unwrap().finish("other.sqlite", "no upload", &[]).unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Missing, "{error}");
}

/// As the program opens it: by its written place and the environment, with tries, at the root of the bucket.
#[test]
fn s3_opened_by_its_place_conforms() {
    let servers = std::sync::Mutex::new(Vec::new());
    conform_objects(&|| {
        let server = Server::start();
        let env = MapEnv::new([("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET)]);
        let io = Io { env: Arc::new(env), ..Io::system() };
        let location = parse_location(&format!("s3:http://{}/{BUCKET}", server.address)).unwrap();
        servers.lock().unwrap().push(server);
        open_location(&location, &io).unwrap()
    });
}

#[test]
fn what_is_missing_from_the_environment_is_named() {
    let set = [("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "eu-central-1")];
    let open = |text: &str, count: usize| {
        let io = Io { env: Arc::new(MapEnv::new(set[..count].to_vec())), ..twin_io() };
        open_location(&parse_location(text).unwrap(), &io)
    };
    for (count, (name, _)) in set.iter().enumerate() {
        let error = open("s3://backups/shop", count).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot use s3://backups/shop: {name} is not set"));
    }
    assert_eq!(open("s3://backups/shop", 3).unwrap().place(), "s3://backups/shop");
    assert!(open("s3:https://s3.example.net/backups", 2).is_ok(), "a server of one's own needs no region");
    assert_eq!(open("./vault", 0).unwrap().place(), "./vault");
}

#[test]
fn empty_variables_count_as_not_set() {
    let env = MapEnv::new([("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", "")]);
    let io = Io { env: Arc::new(env), ..twin_io() };
    let error = open_location(&parse_location("s3://backups").unwrap(), &io).unwrap_err();
    assert!(error.to_string().contains("AWS_SECRET_ACCESS_KEY is not set"), "{error}");
}

#[test]
fn the_endpoint_may_come_from_the_environment() {
    let server = Server::start();
    let endpoint = format!("http://{}", server.address);
    let set = [("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_ENDPOINT_URL", &endpoint)];
    let io = Io { env: Arc::new(MapEnv::new(set)), ..Io::system() };
    let store = open_location(&parse_location(&format!("s3://{BUCKET}/x")).unwrap(), &io).unwrap();
    store.put("config", "body".into()).unwrap();
    assert_eq!(std::fs::read(server.file("x/config")).unwrap(), b"body");
    assert_eq!(store.place(), format!("s3:{endpoint}/{BUCKET}/x"));
}

#[test]
fn a_folder_that_has_gone_is_an_error_and_not_an_empty_vault() {
    let root = tempfile::tempdir().unwrap();
    let store = Folder::new(root.path().join("unmounted"));
    assert_eq!(store.list("").unwrap_err().kind, ObjectErrorKind::Missing);
    assert_eq!(store.list("snapshots").unwrap_err().kind, ObjectErrorKind::Missing);
}

#[test]
fn what_a_folder_has_half_written_is_not_listed_and_not_left_behind() {
    let root = tempfile::tempdir().unwrap();
    let store = Folder::new(root.path());
    store.put("data/whole", "x".into()).unwrap();
    std::fs::create_dir(root.path().join("data/taken")).unwrap();
    assert!(store.put("data/taken", "x".into()).is_err(), "a folder is in its way");
    std::fs::write(root.path().join("data/.x.1.1.lifeboat-partial"), "ha").unwrap();
    let keys: Vec<String> = store.list("").unwrap().into_iter().map(|info| info.key).collect();
    assert_eq!(keys, ["data/whole"]);
    let files = std::fs::read_dir(root.path().join("data")).unwrap().count();
    assert_eq!(files, 3, "the whole one, the folder, and the one that we put there ourselves");
}
