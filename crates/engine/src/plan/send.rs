//! Planning how a plain file of a database gets elsewhere: out of the vault, compared with its manifest, and only then away.

use lifeboat_model::{
    Action, Backup, BackupChoice, Elsewhere, ExpectedFact, Fact, Failure, FailureKind, Lease, Plan, Request, Resource,
    ResourceKind, ResourceManifest, StepClass, Undo, choose_backup,
};

use super::steps::{self, by, guess, phase, read, step};
use crate::{Engine, act::summary, facts::Common};

/// What is known when a plain file is sent.
pub struct Known {
    /// Common knowledge.
    pub common: Common,
    /// The backup that it comes out of.
    pub backup: Backup,
    /// The database.
    pub resource: Resource,
    /// What the backup holds of it.
    pub part: ResourceManifest,
    /// Where it goes.
    pub to: Elsewhere,
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Send { resource } = request else { return Err(steps::wrong_planner()) };
    let resource = engine.setup().resource(resource)?.clone();
    if !matches!(resource.kind, ResourceKind::Sqlite { .. }) {
        return Err(Failure::new(FailureKind::Usage, format!("{} is no SQLite file, and is not sent", resource.name)));
    }
    let to = engine.setup().elsewhere.get(&resource.name).cloned().ok_or_else(|| {
        let message = format!("the settings do not say where plain files of {} go", resource.name);
        Failure::new(FailureKind::Usage, message).hint("write send_to = \"s3://BUCKET/NAME-YYYYMMDD.sqlite\" there")
    })?;
    let common = engine.common()?;
    if !common.vault_exists {
        return Err(steps::no_vault(&common));
    }
    let backups = engine.backups()?;
    let backup = choose_backup(&backups, &engine.setup().scope, &resource.name, &BackupChoice::Latest)
        .map_err(|error| Failure::from_error(FailureKind::Refused, &error))?
        .clone();
    let manifest = summary::manifest(&engine.vaults.open(&common.vault)?, &backup.id)?;
    let part = manifest.resources.into_iter().find(|part| part.name == resource.name).ok_or_else(|| {
        Failure::new(FailureKind::Damaged, format!("the manifest of {} does not know {}", backup.id, resource.name))
    })?;
    Ok(Known { common, backup, resource, part, to })
}

/// Plans a plain file elsewhere.
///
/// # Errors
/// None today; the signature is that of all planners.
pub fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let (common, backup, name) = (&known.common, &known.backup, &known.resource.name);
    let file = known.to.name_of(backup.recovery_point, 1);
    let title = format!("send {name} of {} to {} as {file}", backup.id, known.to.place);
    let mut plan = steps::new_plan(common, request, title, Lease::Sandbox);
    plan.facts = vec![ExpectedFact {
        fact: Fact::BackupIsThere { vault: common.vault.clone(), backup: backup.id.clone() },
        value: backup.snapshot.clone(),
        until: Some("fetch".into()),
    }];
    let at = common.sandbox.join(name.as_str());
    let remove = || Action::Remove { paths: vec![common.sandbox.clone()] };
    let (vault, id) = (common.vault.clone(), backup.id.clone());
    let fetch = Action::Fetch { vault: vault.clone(), backup: id.clone(), resource: name.clone(), into: at.clone() };
    let resource = known.resource.clone();
    let check =
        Action::CheckFetched { vault: vault.clone(), backup: id.clone(), resource, at: at.clone(), writes: false };
    let send = Action::Send { file: at, to: known.to.clone(), of: backup.recovery_point };
    let bytes = known.part.bytes;
    let room = super::backup::with_margin(bytes);
    plan.phases = vec![
        phase(common, "preflight", vec![], vec![steps::space("space.sandbox", common.sandbox.clone(), room)]),
        phase(
            common,
            "restore",
            vec![common.predict("fetch", &format!("{vault} {name}"), bytes, guess::FETCH)],
            vec![step("fetch", format!("bring {name} of {id} aside"), StepClass::Idempotent, fetch, by(remove()))],
        ),
        phase(
            common,
            "verify",
            vec![common.predict_check(name.as_str(), bytes, guess::CHECK)],
            vec![read("check", format!("compare {name} with the manifest"), check)],
        ),
        phase(
            common,
            "send",
            vec![common.predict("send", &known.to.place, bytes, guess::STORE / 4.0)],
            vec![
                step(
                    "send",
                    format!("send it as {file}, and read it back"),
                    StepClass::Idempotent,
                    send,
                    Undo::Nothing,
                ),
                step("clean", "clear up", StepClass::Idempotent, remove(), Undo::Nothing),
            ],
        ),
    ];
    Ok(plan)
}
