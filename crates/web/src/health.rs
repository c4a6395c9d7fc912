//! `/api/health`: what this daemon depends on, each for itself. Not known to be well is not well.

use std::sync::Arc;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use lifeboat_engine::closed::Closed;
use lifeboat_model::{
    Tri,
    advice::LAST_SYNC_MAX_S,
    schedule::JobStatus,
    sync::{BreakerState, Reach},
    time::since,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::scheduler::Scheduler;
use crate::{
    Daemon, Gateway,
    answer::{Data, Problem, blocking},
    traffic::Lately,
};

/// What one dependency is like.
#[derive(Debug, Serialize)]
struct Part {
    name: String,
    state: Tri,
    detail: String,
}

impl Part {
    fn new(name: &str, (state, detail): (Tri, String)) -> Part {
        Part { name: name.to_owned(), state, detail }
    }
}

/// The answer.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    parts: Vec<Part>,
    /// When it closed, and until when, while the app is closed on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<Value>,
    /// How the app behind the gateway did lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<Lately>,
    /// What happens by itself.
    schedule: Vec<JobStatus>,
    /// Operations that this daemon works on now.
    operations: usize,
}

pub async fn health(State(daemon): State<Arc<Daemon>>) -> Result<Response, Problem> {
    let health = blocking(move || Ok(look(&daemon))).await?;
    let status = if health.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Data(health)).into_response())
}

fn look(daemon: &Daemon) -> Health {
    let now = daemon.engine.io().clock.now();
    let mut parts = vec![match daemon.engine.catalog() {
        Ok(_) => Part::new("state", (Tri::Pass, String::new())),
        Err(failure) => Part::new("state", (Tri::Fail, failure.message)),
    }];
    let closed = daemon.gateway.as_ref().and_then(Gateway::closed);
    if let Some(gateway) = &daemon.gateway {
        parts.push(Part::new("app", app(gateway, closed.as_ref())));
    }
    let schedule = match daemon.engine.jobs() {
        Ok(jobs) => jobs,
        Err(failure) => {
            parts.push(Part::new("schedule", (Tri::Unknown, failure.to_string())));
            Vec::new()
        }
    };
    if Scheduler::has_work(&daemon.engine) {
        parts.push(Part::new("scheduler", daemon.scheduler.health()));
    }
    for job in &schedule {
        parts.push(Part::new(&format!("schedule.{}", job.name), (job.good, job.why.join("; "))));
    }
    for worker in &daemon.workers {
        let name = worker.link().to_string();
        let (file, cloud) = match crate::mirrors::status_of(daemon, Some(&name)) {
            Err(failure) => ((Tri::Fail, failure.message), (Tri::Unknown, "the file cannot be read".to_owned())),
            Ok(status) => {
                let cloud = match (status.enabled, &status.last_error, status.last_sync) {
                    // Held on purpose: nobody waits for the cloud.
                    (false, ..) => (Tri::Pass, format!("held: {}", status.reason)),
                    (true, Some(error), _) => (Tri::Fail, error.clone()),
                    // Also when the worker itself has stopped.
                    (true, None, Some(at)) if since(at, now).as_secs() > LAST_SYNC_MAX_S => {
                        (Tri::Fail, format!("nothing was delivered since {at}"))
                    }
                    (true, None, Some(at)) => (Tri::Pass, format!("had everything at {at}")),
                    (true, None, None) => (Tri::Unknown, "nothing has been delivered yet".to_owned()),
                };
                if status.enabled {
                    parts.extend(worker.reach(&daemon.engine).map(|reach| over_http(&name, reach)));
                }
                ((Tri::Pass, String::new()), cloud)
            }
        };
        parts.push(Part::new(&format!("{name}.file"), file));
        parts.push(Part::new(&format!("{name}.cloud"), cloud));
        let worker = match worker.breaker() {
            BreakerState::Open => (Tri::Fail, "the cloud is left alone for a while after several failures".to_owned()),
            _tries => worker.health(),
        };
        parts.push(Part::new(&format!("{name}.worker"), worker));
    }
    let worst = Tri::worst(parts.iter().map(|part| part.state));
    let status = match worst {
        Tri::Pass => "ok",
        Tri::Unknown => "unknown",
        Tri::Fail => "failing",
    };
    let elapsed = daemon.engine.io().clock.elapsed();
    Health {
        status,
        version: daemon.version,
        parts,
        closed: closed.map(|closed| json!({ "since": closed.since, "why": closed.why, "open_in_s": closed.open_in_s })),
        traffic: daemon.gateway.as_ref().map(|gateway| gateway.traffic.lately(elapsed)),
        schedule,
        operations: daemon.running.count(),
    }
}

/// The HTTP side of the cloud. Without a key it says that nobody may ask, and is there.
fn over_http(name: &str, reach: Reach) -> Part {
    let (state, detail) = match reach {
        Reach::Reachable => (Tri::Pass, "reachable".to_owned()),
        Reach::Unauthorised => (Tri::Pass, "reachable, and unauthorised: it wants a key".to_owned()),
        Reach::Down { why } => (Tri::Fail, format!("down: {why}")),
    };
    Part::new(&format!("{name}.http"), (state, detail))
}

/// The app behind the gateway. Closed on purpose it may be away.
fn app(gateway: &Gateway, closed: Option<&Closed>) -> (Tri, String) {
    match (gateway.answers(), closed) {
        (Ok(()), None) => (Tri::Pass, String::new()),
        (_, Some(closed)) => (Tri::Pass, format!("closed on purpose since {}", closed.since)),
        (Err(why), None) => (Tri::Fail, format!("{} does not answer: {why}", gateway.upstream())),
    }
}
