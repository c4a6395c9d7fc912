//! Planning to adopt a dump that others made of a PostgreSQL database: it is loaded into a database of its own, looked at,
//! captured as every backup is, and the database is dropped. The file is left alone, and so is what is live.

use std::path::PathBuf;

use lifeboat_io::{database::postgres::dump_form, files};
use lifeboat_model::{
    Action, BackupChoice, BackupId, BackupReason, ExpectedFact, Fact, Failure, FailureKind, Foreign, Lease, Part,
    PgAction, Plan, Request, Resource, ResourceKind, StepClass, Timestamp, Undo, choose_backup,
};

use super::{
    adopt::complete_up_to,
    databases::aside_name,
    steps::{self, by, guess, phase, read, step},
};
use crate::{Engine, act::postgres_failure, facts::Common};

/// What is known when a dump is to be adopted.
pub(crate) struct Known {
    common: Common,
    resource: Resource,
    file: PathBuf,
    bytes: u64,
    as_of: Timestamp,
    because: String,
    /// The server that is live, by the database that every server has.
    server: String,
    /// The scratch database's address.
    scratch: String,
    database: String,
    live: String,
    /// Where it is loaded, for people.
    place: String,
    /// The newest good backup, to compare with.
    beside: Option<BackupId>,
}

pub(crate) fn is_meant(engine: &Engine, request: &Request) -> bool {
    let Request::Adopt { resource, .. } = request else { return false };
    let known = engine.setup().resources.iter().find(|one| &one.name == resource);
    known.is_some_and(|one| matches!(one.kind, ResourceKind::Postgres { .. }))
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Adopt { resource, file, at, server, .. } = request else { return Err(steps::wrong_planner()) };
    let common = engine.common()?;
    let resource = engine.setup().resource(resource)?.clone();
    let ResourceKind::Postgres { url, .. } = &resource.kind else { return Err(steps::wrong_planner()) };
    if !files::exists(file) {
        let failure = Failure::new(FailureKind::Refused, format!("there is no {}", file.display()));
        return Err(failure.hint("check the path"));
    }
    dump_form(file).map_err(|error| postgres_failure(&error))?;
    let (as_of, because) = complete_up_to(file, *at)?;
    let bad = |error| Failure::from_error(FailureKind::Refused, &error);
    let bytes = files::size_of_tree(file).map_err(bad)?;
    let live = engine.vaults.database(url)?.database;
    let address = engine.vaults.database(server.as_ref().unwrap_or(url))?;
    let database = aside_name(&live, &common);
    let backups = engine.backups()?;
    let newest = choose_backup(&backups, &common.scope, &resource.name, &BackupChoice::Latest);
    let beside = newest.ok().map(|backup| backup.id.clone());
    Ok(Known {
        server: address.with_database("postgres").url(),
        scratch: address.with_database(&database).url(),
        place: address.with_database("postgres").to_string(),
        file: files::resolved(file),
        common,
        resource,
        bytes,
        as_of,
        because,
        database,
        live,
        beside,
    })
}

/// Plans an adoption.
///
/// # Errors
/// When the dump would be complete up to a time that is yet to come.
pub(crate) fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Adopt { label, .. } = request else { return Err(steps::wrong_planner()) };
    let common = &known.common;
    let (name, file) = (&known.resource.name, known.file.display());
    if known.as_of > common.now {
        let message =
            format!("{file} cannot be complete up to {} ({}): that is yet to come", known.as_of, known.because);
        return Err(Failure::new(FailureKind::Refused, message).hint("say the time: --at TIME"));
    }
    let shown = known.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let label = label.clone().unwrap_or_else(|| format!("adopted: {shown}"));
    let title = format!("adopt {file} as a backup of {name} of {}", common.scope);
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    plan.facts = vec![untouched(known)];
    plan.phases = vec![
        phase(common, "preflight", vec![], preflight(known)),
        load(known),
        phase(common, "store", vec![], store(known, label)),
        phase(common, "clean", vec![], vec![drop_scratch(known)]),
    ];
    plan.notes = vec![
        format!("It counts as complete up to {} ({}).", known.as_of, known.because),
        format!("It is loaded into the database {} at {}, which is dropped afterwards.", known.database, known.place),
        "A dump is a program that the server runs: adopt only what you trust.".to_owned(),
        format!("{file} is left alone. The rules of retention apply to the adopted backup by that time."),
    ];
    Ok(plan)
}

fn preflight(known: &Known) -> Vec<lifeboat_model::Step> {
    let common = &known.common;
    let mut found = Vec::new();
    if let Some(folder) = &common.vault_folder {
        found.push(steps::space("space.vault", folder.clone(), super::backup::with_margin(known.bytes)));
    }
    let action = Action::Postgres(PgAction::CheckSource { url: known.server.clone() });
    found.push(read("check-source", "the server answers, and a fitting pg_dump is here", action));
    if !common.vault_exists {
        let action = Action::CreateVault { vault: common.vault.clone() };
        let title = format!("make a new vault in {}", common.vault);
        found.push(step("create-vault", title, StepClass::Idempotent, action, Undo::Nothing));
    }
    found
}

fn drop_action(known: &Known) -> Action {
    Action::Postgres(PgAction::Drop { url: known.server.clone(), database: known.database.clone() })
}

fn load(known: &Known) -> lifeboat_model::Phase {
    let action = Action::Postgres(PgAction::LoadDump {
        file: known.file.clone(),
        url: known.server.clone(),
        database: known.database.clone(),
        like: known.live.clone(),
        resource: Box::new(known.resource.clone()),
        vault: known.common.vault.clone(),
        beside: known.beside.clone(),
    });
    let title = format!("load it into database {}; the first error ends it", known.database);
    let step = step("load", title, StepClass::Idempotent, action, by(drop_action(known)));
    let expected = known.common.predict("load", known.resource.name.as_str(), known.bytes, guess::FETCH / 10.0);
    phase(&known.common, "restore", vec![expected], vec![step])
}

fn store(known: &Known, label: String) -> Vec<lifeboat_model::Step> {
    let common = &known.common;
    let (vault, backup) = (common.vault.clone(), common.ids.backup.clone());
    let ResourceKind::Postgres { schemas, .. } = &known.resource.kind else { return Vec::new() };
    let kind = ResourceKind::Postgres { url: known.scratch.clone(), schemas: schemas.clone() };
    let part = Part {
        leave_out: Some(Vec::new()),
        resource: Resource { kind, ..known.resource.clone() },
        staged: None,
        captured_by: None,
        inspected_by: None,
        accept_unsound: false,
        foreign: Some(Foreign {
            origin: known.file.display().to_string(),
            as_of: known.as_of,
            database: known.live.clone(),
        }),
    };
    let undo = by(Action::DropBackup { vault: vault.clone(), backup: backup.clone() });
    let action = Action::StoreBackup {
        backup: backup.clone(),
        vault: vault.clone(),
        reason: BackupReason::Adopted,
        label: Some(label),
        parts: vec![part],
        deploy: None,
    };
    let title = format!("capture what was loaded, and store it as {backup}");
    let check = format!("read back that {backup} is whole");
    vec![
        step("store", title, StepClass::ProbeFirst, action, undo),
        read("verify-stored", check, Action::VerifyStored { vault, backup }),
    ]
}

fn drop_scratch(known: &Known) -> lifeboat_model::Step {
    let title = format!("drop database {}", known.database);
    step("clean", title, StepClass::Idempotent, drop_action(known), Undo::Nothing)
}

/// What was looked at when the time was read is what is taken.
fn untouched(known: &Known) -> ExpectedFact {
    let fact = Fact::Untouched { path: known.file.clone() };
    ExpectedFact { fact, value: files::untouched(&known.file), until: Some("store".into()) }
}
