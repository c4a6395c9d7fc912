//! `/metrics`, in the text format of Prometheus (version 0.0.4).

use std::{fmt::Write as _, sync::Arc};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use lifeboat_model::{Failure, time::since};

use crate::{
    Daemon,
    answer::{Problem, blocking},
};

pub async fn metrics(State(daemon): State<Arc<Daemon>>) -> Result<Response, Problem> {
    let text = blocking(move || collect(&daemon)).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{name}=\"{value}\"")
            })
            .collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }
}

fn collect(daemon: &Daemon) -> Result<String, Failure> {
    let now = daemon.engine.io().clock.now();
    let mut links = Vec::new();
    for worker in &daemon.workers {
        let name = worker.link().to_string();
        links.push((crate::mirrors::status_of(daemon, Some(&name))?, worker.done(), name));
    }
    let mut text = Text(String::new());
    text.family("lifeboat_build_info", "gauge", "The version that runs.");
    text.sample("lifeboat_build_info", &[("version", daemon.version)], 1.0);
    type Reading<'a> = Box<dyn Fn(usize) -> Option<f64> + 'a>;
    let families: Vec<(&str, &str, &str, Reading<'_>)> = vec![
        (
            "lifeboat_sync_enabled",
            "gauge",
            "Whether changes are delivered.",
            Box::new(|at| Some(f64::from(u8::from(links[at].0.enabled)))),
        ),
        (
            "lifeboat_sync_pending_ops",
            "gauge",
            "Changes that wait.",
            Box::new(|at| Some(links[at].0.queue.queue_size as f64)),
        ),
        (
            "lifeboat_sync_oldest_pending_seconds",
            "gauge",
            "How long the oldest has waited, as far as it was seen.",
            Box::new(|at| links[at].0.queue.oldest_ms.map(|ms| ms as f64 / 1_000.0)),
        ),
        (
            "lifeboat_sync_dead_letters",
            "gauge",
            "Rows that are set aside.",
            Box::new(|at| Some(links[at].0.queue.total_failed as f64)),
        ),
        (
            "lifeboat_sync_dead_letters_total",
            "counter",
            "Rows that were ever set aside.",
            Box::new(|at| Some(links[at].0.queue.failed_ever as f64)),
        ),
        (
            "lifeboat_sync_rls_violations",
            "gauge",
            "Of those set aside, how many a policy refuses.",
            Box::new(|at| Some(links[at].0.queue.rls_violations as f64)),
        ),
        (
            "lifeboat_sync_last_success_age_seconds",
            "gauge",
            "How long ago the cloud had everything.",
            Box::new(|at| links[at].0.last_sync.map(|last| since(last, now).as_millis() as f64 / 1_000.0)),
        ),
        (
            "lifeboat_sync_cycles_total",
            "counter",
            "Cycles since the daemon began.",
            Box::new(|at| Some(links[at].1.cycles as f64)),
        ),
        (
            "lifeboat_sync_cycles_failed_total",
            "counter",
            "Cycles that failed.",
            Box::new(|at| Some(links[at].1.failed as f64)),
        ),
        (
            "lifeboat_sync_delivered_ops_total",
            "counter",
            "Changes that were delivered.",
            Box::new(|at| Some(links[at].1.changes as f64)),
        ),
        (
            "lifeboat_sync_unverified_tables",
            "gauge",
            "Tables that may differ from the cloud.",
            Box::new(|at| Some(links[at].0.unverified.len() as f64)),
        ),
    ];
    for (name, kind, help, read) in families {
        text.family(name, kind, help);
        for (at, (_, _, link)) in links.iter().enumerate() {
            if let Some(value) = read(at) {
                text.sample(name, &[("link", link)], value);
            }
        }
    }
    Ok(text.0)
}
