//! The daemon: an HTTP API on this host, and the workers that deliver for mirrors.
//!
//! Requests are short: what they ask for is done on threads for blocking work, and long work is not done in them at all.
//! Everything that changes something is a plan on the engine, with the caller in its journal.

mod answer;
mod guard;
mod health;
mod metrics;
mod mirrors;
mod worker;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::Uri,
    middleware,
    routing::{get, post},
};
use lifeboat_engine::Engine;
use lifeboat_io::Stop;
use lifeboat_model::{Failure, FailureKind, ResourceName};
use lifeboat_store::Tokens;

pub use worker::Worker;

use answer::Problem;

/// Where the daemon listens when nobody says otherwise; the port of the document that apps were written after.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:3002";

/// Bytes that a request may bring along. Nothing here needs more.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How often the daemon looks whether it should end.
const LOOK_UP: Duration = Duration::from_millis(100);

/// What every request may know.
pub struct Daemon {
    /// The engine of one environment.
    pub engine: Arc<Engine>,
    /// Who may do what.
    pub tokens: Tokens,
    /// Those that deliver, one for each link.
    pub workers: Vec<Arc<Worker>>,
    /// Whether callers on this host may switch and trigger without a token.
    pub trusts_loopback: bool,
    /// The version of the program.
    pub version: &'static str,
}

impl Daemon {
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
}

/// The routes.
pub fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/api/health", get(health::health))
        .route("/api/sync/status", get(mirrors::status))
        .route("/api/sync/enable", post(mirrors::enable))
        .route("/api/sync/disable", post(mirrors::disable))
        .route("/api/sync/trigger", post(mirrors::trigger))
        .route("/api/sync/queue", get(mirrors::queue))
        .route("/api/sync/queue/clear", post(mirrors::clear))
        .route("/metrics", get(metrics::metrics))
        .fallback(nothing_there)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(daemon.clone(), guard::guard))
        .with_state(daemon)
}

async fn nothing_there(uri: Uri) -> Problem {
    Problem::new(404, format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(uri: Uri) -> Problem {
    Problem::new(405, format!("{} is not asked for in this way", uri.path()))
}

/// Listens until somebody wants it to end; requests that are under way are answered first, and workers end between two
/// batches.
///
/// # Errors
/// When the address cannot be listened on. `ready` is told the address once it is.
pub fn serve(
    daemon: Arc<Daemon>,
    listen: SocketAddr,
    stop: &Stop,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), Failure> {
    let refused = |error: std::io::Error| {
        let failure =
            Failure::new(FailureKind::Refused, format!("cannot listen on {listen}")).because(error.to_string());
        failure.hint("end what listens there, or say --listen 127.0.0.1:PORT")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::from_error(FailureKind::Outside, &error))?;
    let workers: Vec<Arc<Worker>> = daemon.workers.clone();
    let threads: Vec<_> =
        workers.iter().map(|worker| worker.clone().start(daemon.engine.clone(), stop.clone())).collect();
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await.map_err(refused)?;
        ready(listener.local_addr().map_err(refused)?);
        let service = router(daemon).into_make_service_with_connect_info::<SocketAddr>();
        let ended = stop.clone();
        let until = async move {
            while !ended.wanted() {
                tokio::time::sleep(LOOK_UP).await;
            }
        };
        let served = axum::serve(listener, service).with_graceful_shutdown(until).await;
        served.map_err(|error| Failure::from_error(FailureKind::Outside, &error))
    });
    stop.at_safe_point();
    workers.iter().for_each(|worker| worker.wake());
    for thread in threads {
        let _ = thread.join(); // a worker that broke has told so; the daemon ends all the same
    }
    served
}
