//! `/api/health`: what this daemon depends on, each for itself. Not known to be well is not well.

use std::sync::Arc;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use lifeboat_model::{Tri, sync::BreakerState, time::since};
use serde::Serialize;

use crate::{
    Daemon,
    answer::{Data, Problem, blocking},
};

/// What one dependency is like.
#[derive(Debug, Serialize)]
struct Part {
    name: String,
    state: Tri,
    detail: String,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    parts: Vec<Part>,
}

pub async fn health(State(daemon): State<Arc<Daemon>>) -> Result<Response, Problem> {
    let health = blocking(move || Ok(look(&daemon))).await?;
    let status = if health.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Data(health)).into_response())
}

/// A delivery that is older than this, in seconds, is late: one is made every few seconds, also when nothing waits.
const LATE_S: u64 = 300;

fn look(daemon: &Daemon) -> Health {
    let now = daemon.engine.io().clock.now();
    let mut parts = vec![match daemon.engine.catalog() {
        Ok(_) => Part { name: "state".to_owned(), state: Tri::Pass, detail: String::new() },
        Err(failure) => Part { name: "state".to_owned(), state: Tri::Fail, detail: failure.message },
    }];
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
                    (true, None, Some(at)) if since(at, now).as_secs() > LATE_S => {
                        (Tri::Fail, format!("nothing was delivered since {at}"))
                    }
                    (true, None, Some(at)) => (Tri::Pass, format!("had everything at {at}")),
                    (true, None, None) => (Tri::Unknown, "nothing has been delivered yet".to_owned()),
                };
                ((Tri::Pass, String::new()), cloud)
            }
        };
        parts.push(Part { name: format!("{name}.file"), state: file.0, detail: file.1 });
        parts.push(Part { name: format!("{name}.cloud"), state: cloud.0, detail: cloud.1 });
        if worker.breaker() == BreakerState::Open {
            parts.push(Part {
                name: format!("{name}.worker"),
                state: Tri::Fail,
                detail: "the cloud is left alone for a while after several failures".to_owned(),
            });
        }
    }
    let worst = Tri::worst(parts.iter().map(|part| part.state));
    let status = match worst {
        Tri::Pass => "ok",
        Tri::Unknown => "unknown",
        Tri::Fail => "failing",
    };
    Health { status, version: daemon.version, parts }
}
