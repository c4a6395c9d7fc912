//! `/metrics`, in the text format of Prometheus (version 0.0.4).

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use lifeboat_model::{Failure, OperationState, Tri, schedule::JobStatus, time::since};

use crate::scheduler::Scheduler;
use crate::{
    Daemon,
    answer::{Problem, blocking},
    traffic::BOUNDS_MS,
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
    workers(daemon, &mut text);
    protection(daemon, &mut text)?;
    schedule(daemon, &mut text)?;
    operations(daemon, &mut text)?;
    gateway(daemon, &mut text);
    Ok(text.0)
}

fn workers(daemon: &Daemon, text: &mut Text) {
    text.family("lifeboat_worker_up", "gauge", "Whether somebody who works by themselves does.");
    let up = |health: Tri| f64::from(u8::from(health == Tri::Pass));
    for worker in &daemon.workers {
        text.sample("lifeboat_worker_up", &[("worker", worker.link().as_str())], up(worker.health().0));
    }
    if Scheduler::has_work(&daemon.engine) {
        text.sample("lifeboat_worker_up", &[("worker", "scheduler")], up(daemon.scheduler.health().0));
    }
    text.family("lifeboat_worker_restarts_total", "counter", "How often one broke off and was begun again.");
    for worker in &daemon.workers {
        let labels = [("worker", worker.link().as_str())];
        text.sample("lifeboat_worker_restarts_total", &labels, worker.breaks() as f64);
    }
    text.sample("lifeboat_worker_restarts_total", &[("worker", "scheduler")], daemon.scheduler.breaks() as f64);
}

/// How old backups and proofs are. The vault is asked, once a minute; one that cannot be read is told, and there are no ages
/// then.
fn protection(daemon: &Daemon, text: &mut Text) -> Result<(), Failure> {
    let status = daemon.status()?;
    let now = daemon.engine.io().clock.now();
    text.family("lifeboat_vault_readable", "gauge", "Whether the vault can be read.");
    text.sample("lifeboat_vault_readable", &[], f64::from(u8::from(status.vault_trouble.is_none())));
    text.family("lifeboat_resource_protected", "gauge", "1: protected; 0: not; 0.5: not known.");
    for resource in &status.resources {
        let known = match resource.good {
            Tri::Pass => 1.0,
            Tri::Unknown => 0.5,
            Tri::Fail => 0.0,
        };
        text.sample("lifeboat_resource_protected", &[("resource", &resource.name)], known);
    }
    text.family("lifeboat_backup_age_seconds", "gauge", "The age of the newest good backup.");
    for resource in &status.resources {
        if let Some(backup) = &resource.newest {
            let age = since(backup.recovery_point, now).as_secs();
            text.sample("lifeboat_backup_age_seconds", &[("resource", &resource.name)], age as f64);
        }
    }
    text.family("lifeboat_proof_age_seconds", "gauge", "The age of the newest proof that passed.");
    for resource in &status.resources {
        if let Some(proof) = resource.proof.as_ref().filter(|proof| proof.outcome == Tri::Pass) {
            let age = since(proof.at, now).as_secs();
            text.sample("lifeboat_proof_age_seconds", &[("resource", &resource.name)], age as f64);
        }
    }
    text.family("lifeboat_rpo_seconds", "gauge", "How old the newest backup may be.");
    if let Some(rpo) = daemon.engine.setup().rpo {
        text.sample("lifeboat_rpo_seconds", &[], rpo.as_secs_f64());
    }
    text.family("lifeboat_operations_unfinished", "gauge", "Operations that are not over.");
    text.sample("lifeboat_operations_unfinished", &[], status.unfinished.len() as f64);
    Ok(())
}

fn schedule(daemon: &Daemon, text: &mut Text) -> Result<(), Failure> {
    let now = daemon.engine.io().clock.now();
    let jobs = daemon.engine.jobs()?;
    type Reading<'a> = &'a dyn Fn(&JobStatus) -> Option<f64>;
    let families: [(&str, &str, Reading<'_>); 4] = [
        ("lifeboat_schedule_good", "Whether a job does what it should.", &|job| {
            Some(f64::from(u8::from(job.good == Tri::Pass)))
        }),
        ("lifeboat_schedule_late_seconds", "For how long a run has been due.", &|job| Some(job.late_s as f64)),
        ("lifeboat_schedule_last_run_age_seconds", "How long ago the last run began.", &|job| {
            job.last.as_ref().map(|run| since(run.began, now).as_secs_f64())
        }),
        ("lifeboat_schedule_last_run_seconds", "How long the last run took.", &|job| {
            job.last.as_ref().and_then(|run| Some(since(run.began, run.ended?).as_secs_f64()))
        }),
    ];
    for (name, help, read) in families {
        text.family(name, "gauge", help);
        for job in &jobs {
            if let Some(value) = read(job) {
                text.sample(name, &[("job", &job.name)], value);
            }
        }
    }
    let (runs, failed) = daemon.scheduler.runs();
    text.family("lifeboat_schedule_runs_total", "counter", "Runs since the daemon began.");
    text.sample("lifeboat_schedule_runs_total", &[], runs as f64);
    text.family("lifeboat_schedule_runs_failed_total", "counter", "Runs that failed.");
    text.sample("lifeboat_schedule_runs_failed_total", &[], failed as f64);
    Ok(())
}

/// Operations that are looked at for durations, newest first.
const OPERATIONS_LOOKED_AT: usize = 200;

/// How long operations took, and how the newest of each kind ended.
fn operations(daemon: &Daemon, text: &mut Text) -> Result<(), Failure> {
    let scope = daemon.engine.setup().scope.to_string();
    let mut newest: BTreeMap<String, (f64, bool)> = BTreeMap::new();
    for row in daemon.engine.look().operations(OPERATIONS_LOOKED_AT)?.into_iter().filter(|row| row.scope == scope) {
        if !row.closed || newest.contains_key(&row.kind) {
            continue;
        }
        // A journal that cannot be read says nothing; `status` reports it.
        let Ok(operation) = daemon.engine.look().operation(&row.id) else { continue };
        let took = operation.elapsed().as_secs_f64();
        newest.insert(row.kind, (took, operation.state == OperationState::Done));
    }
    text.family("lifeboat_operation_last_seconds", "gauge", "How long the newest operation of a kind took.");
    for (kind, (took, _)) in &newest {
        text.sample("lifeboat_operation_last_seconds", &[("kind", kind)], *took);
    }
    text.family("lifeboat_operation_last_done", "gauge", "Whether it came to its end; 0: it was put back.");
    for (kind, (_, done)) in &newest {
        text.sample("lifeboat_operation_last_done", &[("kind", kind)], f64::from(u8::from(*done)));
    }
    text.family("lifeboat_operations_running", "gauge", "Operations that this daemon works on for the API.");
    text.sample("lifeboat_operations_running", &[], daemon.running.count() as f64);
    Ok(())
}

fn gateway(daemon: &Daemon, text: &mut Text) {
    text.family("lifeboat_gateway_closed", "gauge", "Whether the app is closed on purpose.");
    text.family(
        "lifeboat_gateway_errors_total",
        "counter",
        "Requests that the app answered with a 5xx, or not at all.",
    );
    text.family("lifeboat_gateway_request_seconds", "histogram", "How long the app took to begin its answer.");
    let Some(gateway) = &daemon.gateway else { return };
    text.sample("lifeboat_gateway_closed", &[], f64::from(u8::from(gateway.closed().is_some())));
    let counts = gateway.traffic.ever();
    text.sample("lifeboat_gateway_errors_total", &[], counts.errors as f64);
    let mut so_far = 0;
    for (bound, count) in BOUNDS_MS.iter().zip(&counts.buckets) {
        so_far += count;
        let bound = (bound / 1_000.0).to_string();
        text.sample("lifeboat_gateway_request_seconds_bucket", &[("le", &bound)], so_far as f64);
    }
    text.sample("lifeboat_gateway_request_seconds_bucket", &[("le", "+Inf")], counts.n as f64);
    text.sample("lifeboat_gateway_request_seconds_sum", &[], counts.sum_ms / 1_000.0);
    text.sample("lifeboat_gateway_request_seconds_count", &[], counts.n as f64);
}
