//! Planners: pure functions from what is known to what will happen. One file per kind of request; they do not call each
//! other, except that plans which overwrite begin with the backup planner's steps.

pub mod adopt;
mod adopt_dump;
pub mod backup;
mod branch;
pub mod copy;
mod databases;
mod deploy;
mod drill;
pub mod export;
mod features;
pub mod incident;
pub mod keep;
mod level;
mod policies;
pub mod prove;
mod provider;
mod reach;
pub mod record;
mod recover;
mod redeploy;
mod release;
pub mod restore;
mod revert;
mod rollback;
mod salvage;
mod schemas;
pub mod send;
mod shadow;
pub mod steps;
mod sync;
mod tables;
pub mod undo;
mod variables;
mod workflow;
mod write_out;

use lifeboat_model::{
    Action, Failure, FailureKind, LevelAsk, Phase, Plan, PlatformAsk, Request, StepClass, Undo, VersionAsk,
};

use crate::Engine;

/// Gathers what the planner of this request may know, and asks it.
pub(crate) fn make(engine: &Engine, request: &Request) -> Result<Plan, Failure> {
    let mut plan = planned(engine, request)?;
    guarded(engine, &mut plan)?;
    features::remind(engine, &mut plan)?;
    afterwards(engine, &mut plan)?;
    Ok(plan)
}

/// A restore into a server by an exchange of schemas, where a database in the place of the live one failed.
pub(crate) fn by_schemas(engine: &Engine, request: &Request) -> Result<Plan, Failure> {
    let known = databases::gather(engine, request, Some(lifeboat_model::SwapStrategy::Schema))?;
    if let Some(less) = known.less_by_schemas() {
        return Err(Failure::new(FailureKind::Refused, format!("it would bring back less: {less}")));
    }
    let mut plan = databases::plan(&known, request)?;
    guarded(engine, &mut plan)?;
    Ok(plan)
}

/// A name for a database that a backup comes into beside the live one.
pub(crate) fn fresh_name(engine: &Engine, live: &str) -> Result<String, Failure> {
    let common = engine.common()?;
    Ok(databases::stamped(live, "fresh", common.now, &common.ids.plan))
}

/// What is due afterwards goes on record with what it is due after.
fn afterwards(engine: &Engine, plan: &mut Plan) -> Result<(), Failure> {
    let is_rehearsal = lifeboat_model::release::is_rehearsal(plan);
    if plan.steps().next().is_none() || is_rehearsal {
        return Ok(());
    }
    let items = engine.due_after(&plan.request)?;
    let Some(first) = items.iter().map(|item| item.within_s).min() else { return Ok(()) };
    let first = lifeboat_model::time::show_duration(lifeboat_model::Duration::from_secs(first));
    let title = format!("put on record what is due afterwards, the first of it within {first}");
    let due = steps::step("due", title, StepClass::Idempotent, Action::Due { items }, Undo::Nothing);
    match plan.phases.last_mut().filter(|phase| ["report", "record"].contains(&phase.name.as_str())) {
        Some(last) => last.steps.push(due),
        None => {
            plan.phases.push(Phase { name: "report".to_owned(), budget_ms: None, expected: None, steps: vec![due] })
        }
    }
    Ok(())
}

fn guarded(engine: &Engine, plan: &mut Plan) -> Result<(), Failure> {
    crate::leaks::guard(engine, plan)?;
    crate::incidents::guard(engine, plan)
}

fn planned(engine: &Engine, request: &Request) -> Result<Plan, Failure> {
    match request {
        Request::Backup { .. } => backup::plan(&backup::gather(engine, request)?, request),
        Request::Restore { .. } if databases::is_meant(engine, request) => {
            databases::plan(&databases::gather(engine, request, None)?, request)
        }
        Request::Restore { .. } => restore::plan(&restore::gather(engine, request)?, request),
        Request::Shadow { resource, of } => shadow::plan(engine, request, (resource, of.as_ref())),
        Request::Prove { .. } => prove::plan(&prove::gather(engine, request)?, request),
        Request::Export { .. } => export::plan(&export::gather(engine, request)?, request),
        Request::Adopt { .. } if adopt_dump::is_meant(engine, request) => {
            adopt_dump::plan(&adopt_dump::gather(engine, request)?, request)
        }
        Request::Adopt { .. } => adopt::plan(&adopt::gather(engine, request)?, request),
        Request::Undo { operation } | Request::Release { operation } => {
            let known = engine.look().operation(operation)?;
            if deploy::took_back(&known) {
                return deploy::undo(engine, &known, request);
            }
            if rollback::took_database(&known) {
                return rollback::undo(engine, &known, request);
            }
            if let Some(pushed) = branch::pushed(&known) {
                return branch::undo(engine, &known, &pushed, request);
            }
            if let Some(switched) = features::switched(&known) {
                return features::undo(engine, &known, &switched, request);
            }
            if level::is_meant(&known) {
                return level::undo(engine, &known, request);
            }
            if tables::laid_beside(&known).is_some() {
                return tables::undo(engine, &known, request);
            }
            if tables::made(&known).is_some() {
                return tables::undo_made(engine, &known, request);
            }
            if salvage::brought_back(&known).is_some() {
                return salvage::undo(engine, &known, request);
            }
            match (databases::renamed(&known), schemas::swapped(&known)) {
                (Some(_), _) => undo::renamed(&databases::gather_renamed(engine, known)?, request),
                (None, Some(_)) => undo::exchanged(
                    &schemas::gather_swapped(engine, known, matches!(request, Request::Undo { .. }))?,
                    request,
                ),
                (None, None) => undo::plan(&undo::gather(engine, request)?, request),
            }
        }
        Request::Copy { .. } => copy::plan(&copy::gather(engine, request)?, request),
        Request::Send { .. } => send::plan(&send::gather(engine, request)?, request),
        Request::Fence { .. } => databases::fence(engine, request),
        Request::BringBack { .. } => salvage::plan(engine, request),
        Request::RestoreTable { .. } => tables::plan(engine, request),
        Request::Compromise { .. } | Request::Attest { .. } | Request::Maintenance { .. } | Request::Decide { .. } => {
            record::plan(&record::gather(engine)?, request)
        }
        Request::Sync { link, about } => sync::plan(engine, request, link, about),
        Request::Level { about: LevelAsk::Recover { .. }, .. } => {
            recover::plan(&recover::gather(engine, request)?, request)
        }
        Request::Version { about } => match about {
            VersionAsk::Seal { .. } => release::seal(&release::gather(engine, request)?, request),
            VersionAsk::Mark { .. } => release::mark(&engine.common()?, &engine.releases()?, request),
            VersionAsk::Deploy(ask) => deploy::plan(&deploy::gather(engine, ask)?, request, ask),
            VersionAsk::Env(ask) => variables::plan(engine, request, ask),
            VersionAsk::Platform(ask) => match &**ask {
                PlatformAsk::TakeOut { .. } => branch::plan(engine, request, ask),
                PlatformAsk::Redeploy { .. } => redeploy::plan(engine, request, ask),
                PlatformAsk::Workflow { .. } => workflow::plan(engine, request, ask),
            },
            VersionAsk::RollBack { .. } => rollback::plan(engine, &rollback::gather(engine, request)?, request),
            VersionAsk::Rehearse { .. } => revert::rehearse(engine, request),
            VersionAsk::Revert { .. } => revert::plan(&revert::gather(engine, request)?, request),
        },
        Request::Policy { database, table, about } => policies::plan(engine, request, (database, table), about),
        Request::Drill { about } => drill::plan(engine, request, about),
        Request::Level { .. } => level::plan(&level::gather(engine, request)?, request),
        Request::Feature { .. } => features::plan(engine, request),
        Request::Provider { about } => provider::plan(engine, request, about),
        Request::Incident { about } => incident::plan(&incident::gather(engine, about)?, request, about),
        Request::Retention | Request::Prune | Request::Mark { .. } => keep::plan(&keep::gather(engine)?, request),
    }
}
