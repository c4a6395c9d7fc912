//! `/api/operations`: what was done and is being done, and asking for more. Long work never rides on a request: a POST
//! answers with the operation's name as soon as that is on disk.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use lifeboat_engine::{Engine, Rehearsed, Unwatched};
use lifeboat_io::Stop;
use lifeboat_model::{
    Failure, FailureKind, Operation, OperationId, OperationState, Plan, Request, StepState, VersionAsk,
};
use lifeboat_store::catalog::OperationRow;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Daemon,
    answer::{Data, Problem, blocking},
    asked::{What, may_touch},
    guard::Caller,
    rolling::RollBack,
    running::{Once, Work},
};

/// How many are listed when nobody says.
const LIST_DEFAULT: usize = 50;

/// And at most.
const LIST_MAX: usize = 1_000;

/// Bytes that a key may be long.
const KEY_BYTES_MAX: usize = 200;

/// What may stand behind the `?` of the list.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    limit: Option<usize>,
    /// `open`, or nothing for all.
    state: Option<String>,
    /// `backup`, `restore`, ...
    kind: Option<String>,
}

pub async fn list(State(daemon): State<Arc<Daemon>>, Query(which): Query<Which>) -> Result<Data<Value>, Problem> {
    if which.state.as_deref().is_some_and(|state| state != "open") {
        return Err(Problem::new(400, "state is open, or nothing for all"));
    }
    let listed = blocking(move || {
        let scope = daemon.engine.setup().scope.to_string();
        let rows = daemon.engine.look().operations(usize::MAX)?.into_iter();
        let meant = |row: &OperationRow| {
            let kind = which.kind.as_deref().is_none_or(|kind| kind == row.kind);
            row.scope == scope && kind && !(which.state.is_some() && row.closed)
        };
        let limit = which.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
        let rows = rows.filter(meant).take(limit).map(|row| {
            json!({ "id": row.id, "kind": row.kind, "state": row.state, "started_at": row.started_at, "closed": row.closed })
        });
        Ok(json!({ "operations": rows.collect::<Vec<_>>() }))
    });
    listed.await.map(Data)
}

pub async fn show(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Result<Data<Value>, Problem> {
    let id = named(&daemon, &id).await?;
    let shown = blocking(move || {
        let operation = daemon.engine.look().operation(&id)?;
        Ok(document(&operation, daemon.running.works_on(&id)))
    });
    shown.await.map(Data)
}

/// A rollback and the ways that follow when it fails and is put back, in their order; of anything else that alone.
pub async fn ways(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Result<Data<Value>, Problem> {
    let id = named(&daemon, &id).await?;
    let told = blocking(move || {
        let known = daemon.running.ways(&id);
        let is_over = known.as_ref().map_or_else(|| !daemon.running.works_on(&id), |known| known.over);
        let known = known.unwrap_or_default();
        let ids = if known.ways.is_empty() { vec![id] } else { known.ways };
        let mut ways = Vec::new();
        for id in ids {
            let operation = daemon.engine.look().operation(&id)?;
            let place = format!("/api/operations/{id}");
            let state = lifeboat_store::catalog::state_word(&operation.state);
            ways.push(json!({
                "id": id, "state": state, "closed": operation.is_closed(), "href": place, "events": format!("{place}/events"),
            }));
        }
        Ok(json!({ "ways": ways, "over": is_over, "not_tried": known.not_tried, "handover": known.handover }))
    });
    told.await.map(Data)
}

/// Where everything stands, as `lifeboat status --json` has it; looked at once a minute.
pub async fn status(State(daemon): State<Arc<Daemon>>) -> Result<Data<Value>, Problem> {
    let told = blocking(move || {
        let status = daemon.status()?;
        serde_json::to_value(&*status)
            .map_err(|error| Failure::new(FailureKind::Bug, "the status cannot be written").because(error.to_string()))
    });
    told.await.map(Data)
}

/// What can be restored, oldest first.
pub async fn backups(State(daemon): State<Arc<Daemon>>) -> Result<Data<Value>, Problem> {
    let told = blocking(move || {
        let scope = daemon.engine.setup().scope.clone();
        let backups = daemon.engine.backups()?.into_iter().filter(|backup| backup.scope == scope);
        Ok(json!({ "backups": backups.collect::<Vec<_>>() }))
    });
    told.await.map(Data)
}

/// Of this environment, by its whole name or the beginning of it. What is not there is a 404.
pub(crate) async fn named(daemon: &Arc<Daemon>, id: &str) -> Result<OperationId, Problem> {
    let (daemon, start) = (daemon.clone(), id.to_owned());
    let found = blocking(move || {
        let id = daemon.engine.look().find_operation(&start)?;
        let scope = daemon.engine.look().operation(&id)?.plan.scope;
        Ok((scope == daemon.engine.setup().scope).then_some(id))
    });
    match found.await {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(Problem::new(404, format!("there is no operation {id} in this environment"))),
        Err(problem) if problem.is_usage() => Err(problem.with_status(404)),
        Err(problem) => Err(problem),
    }
}

pub async fn submit(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let what = What::read(&body)?;
    if what.is_dry_run() {
        return blocking(move || rehearse(&daemon, &what)).await.map(|looked| Data(looked).into_response());
    }
    let once = once(&headers, &caller, &body)?;
    let (engine, running, log) = (daemon.engine.clone(), daemon.running.clone(), daemon.log.clone());
    let begun = tokio::task::spawn_blocking(move || {
        let mut refused = None;
        let begun = running.begin(&engine, &caller.name, once, &log, || {
            let request = what.request(&engine)?;
            if let Request::Version { about: VersionAsk::RollBack { .. } } = &request {
                return roll_back(&engine, what.clone(), request, &caller, &mut refused);
            }
            let plan = engine.plan(&request)?;
            if plan.steps().next().is_none() {
                return Err(Failure::new(FailureKind::Refused, "there is nothing to do").because(plan.notes.join(" ")));
            }
            engine.must_be_acknowledged(&plan)?;
            what.agree(&plan, &caller).map_err(|problem| {
                refused = Some(problem);
                Failure::new(FailureKind::NeedsPerson, "nobody has agreed to this")
            })?;
            Ok(Work::Run(Box::new(plan)))
        });
        match refused {
            Some(problem) => Err(problem),
            None => begun.map_err(Problem::from),
        }
    });
    let id = begun.await.unwrap_or_else(|_broke| Err(Problem::new(500, "the work broke off")))?;
    Ok(accepted(&id))
}

/// A rollback: what it means now is agreed to before anybody is asked to make way, and once more when it has been.
fn roll_back(
    engine: &Engine,
    what: What,
    request: Request,
    caller: &Caller,
    refused: &mut Option<Problem>,
) -> Result<Work, Failure> {
    let agreed = match engine.standing()?.deploy {
        Some(open) => what.agree_to_end(&open, &engine.setup().scope, caller),
        None => {
            let plan = engine.plan(&request)?;
            engine.must_be_acknowledged(&plan)?;
            what.agree(&plan, caller)
        }
    };
    agreed.map_err(|problem| {
        *refused = Some(problem);
        Failure::new(FailureKind::NeedsPerson, "nobody has agreed to this")
    })?;
    let caller = caller.clone();
    let agrees = move |plan: &Plan| what.agree(plan, &caller).map_err(Failure::from);
    Ok(Work::RollBack(Box::new(RollBack::new(engine, request, Box::new(agrees)))))
}

/// What may stand behind the `?` of an abort.
#[derive(Debug, Default, Deserialize)]
pub struct How {
    /// Break the running step off.
    #[serde(default)]
    now: bool,
}

pub async fn abort(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(how): Query<How>,
) -> Result<Response, Problem> {
    // Of a rollback that goes another way by now, that one.
    let id = named(&daemon, &id).await?;
    let id = touchable(&daemon, &caller, daemon.running.last_way(&id).unwrap_or(id).as_str()).await?;
    if !daemon.running.abort(&id, how.now) {
        take_up(&daemon, &caller, Work::Abort(id.clone())).await?;
    }
    Ok(accepted(&id))
}

pub async fn resume(
    State(daemon): State<Arc<Daemon>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = touchable(&daemon, &caller, &id).await?;
    take_up(&daemon, &caller, Work::Resume(id.clone())).await?;
    Ok(accepted(&id))
}

async fn touchable(daemon: &Arc<Daemon>, caller: &Caller, id: &str) -> Result<OperationId, Problem> {
    let id = named(daemon, id).await?;
    let (look, known) = (daemon.clone(), id.clone());
    let operation = blocking(move || look.engine.look().operation(&known)).await?;
    if operation.is_closed() {
        return Err(Problem::new(409, format!("{id} is over")));
    }
    may_touch(&operation.plan.request, caller)?;
    Ok(id)
}

async fn take_up(daemon: &Arc<Daemon>, caller: &Caller, work: Work) -> Result<OperationId, Problem> {
    let (daemon, by) = (daemon.clone(), caller.name.clone());
    blocking(move || daemon.running.begin(&daemon.engine, &by, None, &daemon.log, || Ok(work))).await
}

fn once(headers: &HeaderMap, caller: &Caller, body: &Bytes) -> Result<Option<Once>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX);
    let key = key.ok_or_else(|| Problem::new(400, "the Idempotency-Key is no text of up to 200 letters"))?;
    Ok(Some(Once { name: (caller.name_without_request.clone(), key.to_owned()), body: body.to_vec() }))
}

fn accepted(id: &OperationId) -> Response {
    let place = format!("/api/operations/{id}");
    let (events, ways) = (format!("{place}/events"), format!("{place}/ways"));
    let body = json!({ "id": id, "href": place, "events": events, "ways": ways });
    (StatusCode::ACCEPTED, [(header::LOCATION, place)], Data(body)).into_response()
}

/// A plan, and what could be seen of each step beforehand.
fn rehearse(daemon: &Daemon, what: &What) -> Result<Value, Failure> {
    let engine = &daemon.engine;
    let request = what.request(engine)?;
    let first = match &request {
        Request::Version { about: VersionAsk::RollBack { .. } } => engine.standing()?.deploy,
        _other => None,
    };
    let plan = engine.plan(&request)?;
    let looked = engine.rehearse(&plan, &Unwatched, &Stop::default())?;
    let found = plan.steps().zip(&looked).map(|(step, found)| match found {
        Rehearsed::Checked => json!({ "step": step.id, "found": "checked" }),
        Rehearsed::NotTried => json!({ "step": step.id, "found": "not-tried" }),
        Rehearsed::Fails(failure) => json!({ "step": step.id, "found": "would-fail", "failure": failure }),
    });
    let mut looked = json!({ "dry_run": true, "plan": plan, "found": found.collect::<Vec<_>>() });
    if let Some(deploy) = first {
        looked["taken_back_first"] = json!(deploy.operation);
    }
    Ok(looked)
}

/// An operation as it stands, for programs.
fn document(operation: &Operation, is_here: bool) -> Value {
    let steps = operation.plan.phases.iter().flat_map(|phase| phase.steps.iter().map(move |step| (phase, step)));
    let steps = steps.zip(&operation.steps).map(|((phase, step), state)| {
        let (is, took_ms, failure) = match state {
            StepState::Planned => ("planned", None, None),
            StepState::Running => ("running", None, None),
            StepState::Done { took_ms, .. } => ("done", Some(*took_ms), None),
            StepState::Failed { failure, .. } => ("failed", None, Some(failure)),
            StepState::Undoing => ("undoing", None, None),
            StepState::Undone => ("undone", None, None),
            StepState::Stuck { failure } => ("stuck", None, Some(failure)),
        };
        json!({
            "id": step.id, "phase": phase.name, "title": step.title, "is": is, "took_ms": took_ms, "failure": failure,
        })
    });
    let why = match &operation.state {
        OperationState::Done | OperationState::Running => None,
        OperationState::PutBack { why } => why.as_ref(),
        OperationState::Paused { why } | OperationState::TurningBack { why } => Some(why),
        OperationState::HandedOver { why } => Some(why),
    };
    json!({
        "id": operation.id,
        "kind": operation.plan.request.word(),
        "title": operation.plan.title,
        "scope": operation.plan.scope.to_string(),
        "by": operation.by,
        "host": operation.host,
        "state": lifeboat_store::catalog::state_word(&operation.state),
        "closed": operation.is_closed(),
        "worked_on_here": is_here,
        "why": why,
        "started_at": operation.started_at,
        "last_at": operation.last_at,
        "elapsed_ms": operation.elapsed_ms,
        "past_point_of_no_return": operation.past_pivot,
        "request": operation.plan.request,
        "losses": operation.plan.losses,
        "expected_ms": expected_ms(&operation.plan),
        "steps": steps.collect::<Vec<_>>(),
    })
}

/// How long a plan is expected to take in all.
pub(crate) fn expected_ms(plan: &Plan) -> Option<u64> {
    lifeboat_model::predict::add(plan.phases.iter().filter_map(|phase| phase.expected)).map(|sum| sum.p50_ms)
}
