//! The daemon: an HTTP API on this host, the gateway to the app, the scheduler, and the workers that deliver for mirrors.
//!
//! Requests are short: what they ask for is done on threads for blocking work, and long work is not done in them at all.
//! Everything that changes something is a plan on the engine, with the caller in its journal.

mod answer;
mod asked;
mod events;
mod gateway;
mod guard;
mod health;
mod keeper;
mod limits;
mod listen;
mod metrics;
mod mirrors;
mod openapi;
mod operations;
mod page;
mod rolling;
mod running;
mod scheduler;
mod traffic;
mod worker;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::Uri,
    middleware,
    routing::{MethodRouter, get, post},
};
use lifeboat_engine::{Engine, look::Status};
use lifeboat_io::Stop;
use lifeboat_model::{Failure, FailureKind, ResourceName};
use lifeboat_store::{Keys, Tokens};

pub use gateway::Gateway;
pub use listen::serve;
pub use scheduler::Scheduler;
pub use worker::Worker;

use answer::Problem;
use limits::Limits;
use running::Running;

/// Where the daemon listens when nobody says otherwise; the port of the document that apps were written after.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:3002";

/// Bytes that a request to us may bring along. Nothing here needs more.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Where the daemon says what it does.
#[derive(Clone)]
pub struct Log(Arc<dyn Fn(&str) + Send + Sync>);

impl Log {
    /// Lines go to somebody.
    pub fn to(say: impl Fn(&str) + Send + Sync + 'static) -> Log {
        Log(Arc::new(say))
    }

    /// A line, without its end.
    pub fn say(&self, line: &str) {
        (self.0)(line);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

/// What every request may know.
pub struct Daemon {
    /// The engine of one environment.
    pub engine: Arc<Engine>,
    /// Who may do what.
    pub tokens: Tokens,
    /// Those that deliver, one for each link.
    pub workers: Vec<Arc<Worker>>,
    /// The one who looks at the clock.
    pub scheduler: Arc<Scheduler>,
    /// The way to the app, when it is behind us.
    pub gateway: Option<Gateway>,
    /// Whether callers on this host may switch and trigger without a token.
    pub trusts_loopback: bool,
    /// The version of the program.
    pub version: &'static str,
    /// Asks everything here to end.
    pub stop: Stop,
    /// Where it says what it does.
    pub log: Log,
    running: Arc<Running>,
    limits: Limits,
    watchers: AtomicUsize,
    /// Where everything stood, and when that was seen.
    seen: Mutex<Option<(Duration, Arc<Status>)>>,
}

/// How long it is believed where everything stands: a vault in a bucket is not asked at each scrape.
const SEEN_FOR: Duration = Duration::from_secs(60);

impl Daemon {
    /// A daemon that has not begun, without a gateway, for callers on this host.
    pub fn new(engine: Engine, tokens: Tokens, version: &'static str, stop: &Stop, log: Log) -> Daemon {
        let keys = Keys::at(&engine.state().keys());
        let workers = engine.setup().links.iter().map(|link| Arc::new(Worker::new(link.name.clone()))).collect();
        Daemon {
            engine: Arc::new(engine),
            tokens,
            workers,
            scheduler: Arc::default(),
            gateway: None,
            trusts_loopback: true,
            version,
            stop: stop.clone(),
            log,
            running: Arc::new(Running::new(stop, keys)),
            limits: Limits::default(),
            watchers: AtomicUsize::new(0),
            seen: Mutex::default(),
        }
    }

    /// Where everything stands, or stood less than a minute ago.
    pub(crate) fn status(&self) -> Result<Arc<Status>, Failure> {
        let now = self.engine.io().clock.elapsed();
        // Held while it is looked: of several who ask, one does.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, status)) = seen.as_ref().filter(|(at, _)| now.saturating_sub(*at) < SEEN_FOR) {
            return Ok(status.clone());
        }
        let status = Arc::new(self.engine.look().status()?);
        *seen = Some((now, status.clone()));
        Ok(status)
    }

    /// The worker of a link; of the only one when none is named.
    pub(crate) fn worker(&self, link: Option<&str>) -> Result<&Arc<Worker>, Failure> {
        let name = link.map(ResourceName::new).transpose();
        let name = name.map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
        let link = self.engine.link(name.as_ref())?;
        self.workers
            .iter()
            .find(|worker| worker.link() == &link.name)
            .ok_or_else(|| Failure::new(FailureKind::Bug, "a link without a worker"))
    }

    /// A name for a request, by which its answer and its log line are found again.
    pub(crate) fn request_id(&self) -> String {
        format!("{:016x}", self.engine.io().random.bits())
    }
}

/// A method, a path, and who answers.
type Route = (&'static str, &'static str, MethodRouter<Arc<Daemon>>);

/// All that is ours. What is not in this list does not exist, and what is in it is in the OpenAPI document.
fn routes() -> Vec<Route> {
    vec![
        ("get", "/api/backups", get(operations::backups)),
        ("get", "/api/health", get(health::health)),
        ("get", "/api/openapi.json", get(openapi::openapi)),
        ("get", "/api/operations", get(operations::list)),
        ("post", "/api/operations", post(operations::submit)),
        ("get", "/api/operations/{id}", get(operations::show)),
        ("get", "/api/operations/{id}/events", get(events::events)),
        ("get", "/api/operations/{id}/ways", get(operations::ways)),
        ("post", "/api/operations/{id}/abort", post(operations::abort)),
        ("post", "/api/operations/{id}/resume", post(operations::resume)),
        ("get", "/api/status", get(operations::status)),
        ("get", "/api/sync/status", get(mirrors::status)),
        ("post", "/api/sync/enable", post(mirrors::enable)),
        ("post", "/api/sync/disable", post(mirrors::disable)),
        ("post", "/api/sync/trigger", post(mirrors::trigger)),
        ("get", "/api/sync/queue", get(mirrors::queue)),
        ("post", "/api/sync/queue/clear", post(mirrors::clear)),
        ("get", "/metrics", get(metrics::metrics)),
    ]
}

/// Methods and paths of all that is ours.
pub fn route_names() -> Vec<(&'static str, &'static str)> {
    routes().into_iter().map(|(method, path, _)| (method, path)).collect()
}

/// The routes. What is not ours is the app's, when there is one behind us.
pub fn router(daemon: Arc<Daemon>) -> Router {
    let ours = routes().into_iter().fold(Router::new(), |router, (_, path, who)| router.route(path, who));
    ours.method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(daemon.clone(), guard::guard))
        .fallback(gateway::pass)
        .with_state(daemon)
}

async fn wrong_method(uri: Uri) -> Problem {
    Problem::new(405, format!("{} is not asked for in this way", uri.path()))
}
