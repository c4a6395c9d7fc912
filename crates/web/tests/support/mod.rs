//! A daemon over a throwaway world, asked without a socket; every answer is held against the OpenAPI document.
#![allow(dead_code, reason = "not every test binary asks in every way")]

pub mod schema;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use lifeboat_engine::Engine;
use lifeboat_io::{Stop, SystemRandom};
use lifeboat_store::{Role, Tokens};
use lifeboat_testkit::World;
use lifeboat_web::{Daemon, Log};
use serde_json::Value;
use tower_service::Service;

/// Where callers come from when a test does not say.
pub const HERE: &str = "127.0.0.1:4000";

pub struct House {
    pub world: World,
    pub daemon: Arc<Daemon>,
    pub log: Arc<Mutex<Vec<String>>>,
    pub runtime: tokio::runtime::Runtime,
    router: Router,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub headers: axum::http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn data(&self) -> Value {
        self.json()["data"].clone()
    }

    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

pub fn daemon(world: &World, engine: Engine) -> (Daemon, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let lines = log.clone();
    let log_to = Log::to(move |line| lines.lock().unwrap().push(line.to_owned()));
    let tokens = Tokens::at(&world.state().tokens());
    (Daemon::new(engine, tokens, "0.0.0", &Stop::default(), log_to), log)
}

impl House {
    pub fn new(world: World) -> House {
        let engine = world.engine();
        House::with(world, engine)
    }

    pub fn with(world: World, engine: Engine) -> House {
        let (daemon, log) = daemon(&world, engine);
        let daemon = Arc::new(daemon);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        House { router: lifeboat_web::router(daemon.clone()), world, daemon, log, runtime }
    }

    /// The header of a new token.
    pub fn token(&self, name: &str, role: Role) -> String {
        let tokens = Tokens::at(&self.world.state().tokens());
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        format!("Bearer {}", tokens.add(name, role, &SystemRandom, at).unwrap())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask("POST", path, headers, body)
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask_from(HERE, method, path, headers, body)
    }

    pub fn ask_from(&self, peer: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer.parse().unwrap()));
        let mut router = self.router.clone();
        let answer = self.runtime.block_on(async move {
            let response = router.call(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
            Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                text: String::from_utf8(bytes.to_vec()).unwrap(),
            }
        });
        schema::fits(method, path, &answer);
        answer
    }

    /// Asks for an operation and waits for its end; gives its document.
    #[track_caller]
    pub fn does(&self, headers: &[(&str, &str)], body: &str) -> Value {
        // Of two operations, one is the newer.
        self.world.clock.advance(std::time::Duration::from_secs(1));
        let id = self.post("/api/operations", headers, body).is(202).data()["id"].as_str().unwrap().to_owned();
        self.watch(&id);
        self.get(&format!("/api/operations/{id}")).is(200).data()
    }

    /// Watches an operation to its end.
    #[track_caller]
    pub fn watch(&self, id: &str) -> String {
        let told = self.get(&format!("/api/operations/{id}/events")).is(200).text;
        assert!(told.contains("event: end"), "{told}");
        told
    }
}
