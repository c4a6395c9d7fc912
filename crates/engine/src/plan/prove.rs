//! Planning a proof: restore into a sandbox, look at it, let it take writes, see that the checks notice damage, record.

use lifeboat_model::{
    Action, Backup, ExpectedFact, Fact, Failure, FailureKind, Lease, Manifest, OnFailure, Plan, Request, Resource,
    ResourceKind, ResourceManifest, Step, StepClass, StepId, Undo, choose_backup,
};

use super::steps::{self, by, guess, phase, read, step};
use crate::{Engine, act::summary, facts::Common};

/// What is known when a proof is planned.
pub struct Known {
    /// Common knowledge.
    pub common: Common,
    /// The backup to be tried.
    pub backup: Backup,
    /// The resources in it, with the settings that apply to them.
    pub parts: Vec<(Resource, ResourceManifest)>,
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Prove { backup: choice, resources } = request else { return Err(steps::wrong_planner()) };
    let mut common = engine.common()?;
    if !common.vault_exists {
        return Err(steps::no_vault(&common));
    }
    let backups = engine.backups()?;
    let backup = newest_of_all(&backups, engine, choice)?;
    let vault = engine.vaults.open(&common.vault)?;
    let manifest: Manifest = summary::manifest(&vault, &backup.id)?;
    let wanted = |part: &&ResourceManifest| resources.is_empty() || resources.contains(&part.name);
    let parts: Vec<_> =
        manifest.resources.iter().filter(wanted).map(|part| (configured(engine, part), part.clone())).collect();
    if parts.is_empty() {
        return Err(Failure::new(FailureKind::Usage, format!("{} holds none of the named resources", backup.id)));
    }
    while common.ids.proofs.len() < parts.len() {
        common.ids.proofs.push(lifeboat_model::ProofId::from_random(engine.io.random.bits()));
    }
    Ok(Known { common, backup, parts })
}

fn newest_of_all(
    backups: &[Backup],
    engine: &Engine,
    choice: &lifeboat_model::BackupChoice,
) -> Result<Backup, Failure> {
    let setup = engine.setup();
    let first =
        setup.resources.iter().map(|resource| &resource.name).chain(backups.iter().flat_map(|one| &one.resources));
    let mut failure = Failure::new(FailureKind::Refused, format!("there is no backup of {} yet", setup.scope))
        .hint("take one: lifeboat backup");
    for name in first {
        match choose_backup(backups, &setup.scope, name, choice) {
            Ok(backup) => return Ok(backup.clone()),
            Err(error) if backups.is_empty() => drop(error),
            Err(error) => {
                failure = Failure::from_error(FailureKind::Refused, &error).hint("see: lifeboat backups list")
            }
        }
    }
    Err(failure)
}

/// The resource as the settings describe it; one that they do not know any more is proven all the same.
pub(crate) fn configured(engine: &Engine, part: &ResourceManifest) -> Resource {
    let known = engine.setup().resources.iter().find(|resource| resource.name == part.name);
    known.cloned().unwrap_or_else(|| {
        let url = part.origin.clone();
        let path = std::path::PathBuf::from(&part.origin);
        let kind = match &part.content {
            lifeboat_model::Content::Sqlite(_) => ResourceKind::Sqlite { path },
            lifeboat_model::Content::Files(_) => ResourceKind::Files { path, exclude: vec![] },
            lifeboat_model::Content::Env(_) => ResourceKind::Env { path },
            lifeboat_model::Content::Postgres(facts) => ResourceKind::Postgres { url, schemas: facts.schemas.clone() },
        };
        Resource::plain(part.name.clone(), kind)
    })
}

/// Plans a proof.
///
/// # Errors
/// None today; the signature is that of all planners.
pub fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let common = &known.common;
    let title = format!("prove {} of {}", known.backup.id, common.scope);
    let mut plan = steps::new_plan(common, request, title, Lease::Sandbox);
    let bytes = known.parts.iter().map(|(_, part)| part.bytes).max().unwrap_or(0);
    // Two copies lie there at once: the restored one and the one that is damaged on purpose.
    let room = super::backup::with_margin(bytes * 2);
    let check = Action::CheckBackup { vault: common.vault.clone(), backup: known.backup.id.clone() };
    let preflight = vec![
        steps::space("space.sandbox", common.sandbox.clone(), room),
        noted(read("stored", format!("{} is whole in the vault", known.backup.id), check)),
    ];
    plan.phases.push(phase(common, "preflight", vec![], preflight));
    for (index, (resource, part)) in known.parts.iter().enumerate() {
        plan.phases.extend(try_one(known, index, resource, part));
    }
    plan.facts = vec![ExpectedFact {
        fact: Fact::BackupIsThere { vault: common.vault.clone(), backup: known.backup.id.clone() },
        value: known.backup.snapshot.clone(),
        until: None,
    }];
    Ok(plan)
}

/// A database on a server is tried on that server, in a database of its own.
fn try_database(
    known: &Known,
    index: usize,
    (resource, part): (&Resource, &ResourceManifest),
    (url, facts): (&str, &lifeboat_model::PostgresFacts),
) -> Vec<lifeboat_model::Phase> {
    let (common, name) = (&known.common, &resource.name);
    let (mut phases, database) =
        super::databases::try_one(common, &known.backup, resource, part, url, &facts.database.name);
    for phase in &mut phases {
        phase.steps.iter_mut().for_each(|step| step.on_failure = OnFailure::Note);
    }
    let id = |verb: &str| StepId(format!("{verb}.{name}"));
    let record = Action::RecordProof {
        proof: common.ids.proofs[index].clone(),
        backup: known.backup.id.clone(),
        resource: name.clone(),
        fetched_by: id("fetch"),
        checked_by: vec!["stored".into(), id("check"), id("control")],
    };
    let drop = Action::Postgres(lifeboat_model::PgAction::Drop { url: url.to_owned(), database: database.clone() });
    let steps = vec![
        step(id("record").0, format!("record the proof of {name}"), StepClass::Idempotent, record, Undo::Nothing),
        step(id("clean").0, format!("drop {database}"), StepClass::Idempotent, drop, Undo::Nothing),
    ];
    phases.push(phase(common, "record", vec![], steps));
    phases
}

fn try_one(known: &Known, index: usize, resource: &Resource, part: &ResourceManifest) -> Vec<lifeboat_model::Phase> {
    let common = &known.common;
    if let (ResourceKind::Postgres { url, .. }, lifeboat_model::Content::Postgres(facts)) =
        (&resource.kind, &part.content)
    {
        return try_database(known, index, (resource, part), (url, facts));
    }
    let (vault, backup, name) = (&common.vault, &known.backup.id, &resource.name);
    let folder = common.sandbox.join(name.as_str());
    let at = folder.join("restored");
    let id = |verb: &str| format!("{verb}.{name}");
    let remove = by(Action::Remove { paths: vec![folder.clone()] });
    let fetch =
        Action::Fetch { vault: vault.clone(), backup: backup.clone(), resource: name.clone(), into: at.clone() };
    let check = Action::CheckFetched {
        vault: vault.clone(),
        backup: backup.clone(),
        resource: resource.clone(),
        at: at.clone(),
        writes: true,
    };
    let mut checks =
        vec![noted(read(id("check"), format!("compare {name} with the manifest, write to every table"), check))];
    if matches!(resource.kind, ResourceKind::Sqlite { .. }) {
        let control = Action::CheckTheChecks {
            vault: vault.clone(),
            backup: backup.clone(),
            resource: resource.clone(),
            at,
            seed: common.ids.seed,
        };
        checks.push(noted(read(id("control"), "damage a copy on purpose: the checks must notice", control)));
    }
    let mut checked_by: Vec<StepId> = vec!["stored".into()];
    checked_by.extend(checks.iter().map(|step| step.id.clone()));
    let record = Action::RecordProof {
        proof: common.ids.proofs[index].clone(),
        backup: backup.clone(),
        resource: name.clone(),
        fetched_by: StepId(id("fetch")),
        checked_by,
    };
    // The last one takes the sandbox itself away.
    let last = index + 1 == known.parts.len();
    let clean = Action::Remove { paths: vec![if last { common.sandbox.clone() } else { folder }] };
    let expected = common.predict("fetch", &format!("{vault} {name}"), part.bytes, guess::FETCH);
    let expected_check = common.predict("check-with-writes", name.as_str(), part.bytes, guess::CHECK);
    vec![
        phase(
            common,
            "restore",
            vec![expected],
            vec![noted(step(
                id("fetch"),
                format!("bring {name} into the sandbox"),
                StepClass::Idempotent,
                fetch,
                remove,
            ))],
        ),
        phase(common, "verify", vec![expected_check], checks),
        phase(
            common,
            "record",
            vec![],
            vec![
                step(id("record"), format!("record the proof of {name}"), StepClass::Idempotent, record, Undo::Nothing),
                step(id("clean"), "clear the sandbox", StepClass::Idempotent, clean, Undo::Nothing),
            ],
        ),
    ]
}

fn noted(step: Step) -> Step {
    Step { on_failure: OnFailure::Note, ..step }
}
