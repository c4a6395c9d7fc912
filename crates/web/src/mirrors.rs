//! `/api/sync/...`, as the document describes it.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Query, State},
};
use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::{
    Failure, FailureKind, Operation, OperationState, Request, StepId,
    sync::{CycleReport, SyncAsk, SyncStatus},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Daemon,
    answer::{Data, Problem, blocking},
    guard::Caller,
};

/// What may stand behind the `?`.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    /// Which link, when there are several.
    link: Option<String>,
    /// Why.
    reason: Option<String>,
}

pub async fn status(
    State(daemon): State<Arc<Daemon>>,
    Query(which): Query<Which>,
) -> Result<Data<SyncStatus>, Problem> {
    blocking(move || status_of(&daemon, which.link.as_deref())).await.map(Data)
}

/// The status of a link, with what its worker knows.
pub(crate) fn status_of(daemon: &Daemon, link: Option<&str>) -> Result<SyncStatus, Failure> {
    let worker = daemon.worker(link)?;
    let mut status = daemon.engine.mirror(Some(worker.link()))?.status()?;
    status.breaker = worker.breaker();
    Ok(status)
}

pub async fn queue(State(daemon): State<Arc<Daemon>>, Query(which): Query<Which>) -> Result<Data<Value>, Problem> {
    let told = blocking(move || {
        let worker = daemon.worker(which.link.as_deref())?;
        let (entries, letters) = daemon.engine.mirror(Some(worker.link()))?.queue(u32::MAX)?;
        Ok(
            json!({ "schema": lifeboat_model::sync::QUEUE_SCHEMA, "link": worker.link(), "entries": entries, "deadLetters": letters }),
        )
    });
    told.await.map(Data)
}

pub async fn enable(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Query(which): Query<Which>,
) -> Result<Data<SyncStatus>, Problem> {
    let done = blocking(move || {
        operate(&daemon, &which, &caller, SyncAsk::Enable)?;
        daemon.worker(which.link.as_deref())?.wake();
        status_of(&daemon, which.link.as_deref())
    });
    done.await.map(Data)
}

pub async fn disable(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Query(which): Query<Which>,
) -> Result<Data<SyncStatus>, Problem> {
    let done = blocking(move || {
        let why = which.reason.clone().unwrap_or_default();
        operate(&daemon, &which, &caller, SyncAsk::Disable { why })?;
        status_of(&daemon, which.link.as_deref())
    });
    done.await.map(Data)
}

pub async fn trigger(
    State(daemon): State<Arc<Daemon>>,
    Query(which): Query<Which>,
) -> Result<Data<CycleReport>, Problem> {
    blocking(move || daemon.worker(which.link.as_deref())?.trigger()).await.map(Data)
}

pub async fn clear(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Query(which): Query<Which>,
) -> Result<Data<Value>, Problem> {
    caller.must_be_admin()?;
    let done = blocking(move || {
        // Whoever has the token and says nothing more has a reason of their own.
        let why = which.reason.clone().unwrap_or_else(|| format!("asked for by {}", caller.name));
        let operation = operate(&daemon, &which, &caller, SyncAsk::Clear { why })?;
        let mut told = operation.output(&StepId("clear".to_owned())).cloned().unwrap_or_default();
        told["operation"] = Value::from(operation.id.to_string());
        Ok(told)
    });
    done.await.map(Data)
}

/// Carries out a plan for a caller, whose name goes into its journal.
fn operate(daemon: &Daemon, which: &Which, caller: &Caller, about: SyncAsk) -> Result<Operation, Failure> {
    let link = daemon.worker(which.link.as_deref())?.link().clone();
    let plan = daemon.engine.plan(&Request::Sync { link, about })?;
    let ran = daemon.engine.run(&plan, &caller.name, &Unwatched, &Stop::default());
    let operation = ran.map_err(|error| error.failure)?;
    match &operation.state {
        OperationState::Done => Ok(operation),
        OperationState::PutBack { why: Some(why) }
        | OperationState::TurningBack { why }
        | OperationState::HandedOver { why }
        | OperationState::Paused { why } => Err(why.clone()),
        OperationState::PutBack { why: None } | OperationState::Running => {
            Err(Failure::new(FailureKind::Unknown, format!("{} is not over", operation.id)))
        }
    }
}
