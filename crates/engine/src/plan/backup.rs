//! Planning a backup: capture aside, store and look at the copies at once, read back.

use lifeboat_model::{
    Action, ExpectedFact, Fact, Failure, FailureKind, Lease, PgAction, Plan, Request, ResourceKind, ResourceName,
    StepClass, Undo,
};

use super::steps::{self, Taking};
use crate::{
    Engine,
    facts::{Common, Live},
};

/// What is known when a backup is planned.
pub struct Known {
    /// Common knowledge.
    pub common: Common,
    /// What is to be backed up.
    pub sources: Vec<Live>,
    /// Bytes the previous backup added to the vault.
    pub last_added: Option<u64>,
    /// The previous backup that held the same resources: its name and the bytes of its data.
    pub last_alike: Option<(lifeboat_model::BackupId, u64)>,
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Backup { resources, .. } = request else { return Err(steps::wrong_planner()) };
    let common = engine.common()?;
    // To open a vault takes a tenth of a second of arithmetic, and meanwhile the sources are looked at.
    let (sources, backups) = std::thread::scope(|scope| {
        let backups = scope.spawn(|| if common.vault_exists { engine.backups() } else { Ok(Vec::new()) });
        let sources = chosen(engine, resources);
        (sources, backups.join())
    });
    let broke_off = |_| Failure::new(FailureKind::Bug, "looking at the vault broke off");
    let (sources, backups) = (sources?, backups.map_err(broke_off)??);
    let sources: Vec<Live> = sources.into_iter().map(|live| engine.foreseen(live, &common)).collect();
    let last_added = backups.last().map(|backup| backup.bytes_added);
    let names: Vec<&ResourceName> = sources.iter().map(|live| &live.resource.name).collect();
    let alike = backups.iter().rev().find(|backup| backup.resources.iter().collect::<Vec<_>>() == names);
    let last_alike = alike.map(|backup| (backup.id.clone(), backup.bytes));
    Ok(Known { common, sources, last_added, last_alike })
}

/// The named resources, or all.
pub(crate) fn chosen(engine: &Engine, names: &[ResourceName]) -> Result<Vec<Live>, Failure> {
    let setup = engine.setup();
    if names.is_empty() {
        return setup.resources.iter().map(|resource| engine.live(resource)).collect();
    }
    names.iter().map(|name| engine.live(setup.resource(name)?)).collect()
}

/// Plans a backup.
///
/// # Errors
/// When there is nothing to back up, or a source is missing or cannot be read.
pub fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Backup { reason, label, .. } = request else { return Err(steps::wrong_planner()) };
    let common = &known.common;
    let names: Vec<&str> = known.sources.iter().map(|live| live.resource.name.as_str()).collect();
    if names.is_empty() {
        let failure = Failure::new(FailureKind::Usage, format!("{} has no resources to back up", common.scope));
        return Err(
            failure.hint("add one to lifeboat.toml, or name one: lifeboat backup sqlite:./shop.db --vault ./vault")
        );
    }
    known.sources.iter().try_for_each(must_be_there)?;
    let taking = Taking {
        common,
        prefix: "",
        backup: common.ids.backup.clone(),
        reason: *reason,
        label: label.clone(),
        sources: &known.sources,
        instead: None,
    };
    let title = format!("back up {} of {}", names.join(", "), common.scope);
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    plan.facts = known.sources.iter().map(settings_fact).collect();
    plan.phases = vec![
        steps::phase(common, "preflight", vec![], preflight_of(common, known.last_added, &taking)),
        steps::phase(common, "capture", taking.predict_capture(), taking.capture()),
        steps::phase(common, "store", taking.predict_store(), taking.store()),
        steps::phase(common, "clean", vec![], vec![taking.clean()]),
    ];
    plan.notes = known.last_alike.iter().filter_map(|last| shrunk(taking.bytes(), last)).collect();
    plan.notes.extend(known.sources.iter().filter_map(left_out));
    plan.phases.retain(|phase| !phase.steps.is_empty());
    Ok(plan)
}

/// Room for what is copied and stored, and a vault.
pub(crate) fn preflight_of(common: &Common, last_added: Option<u64>, taking: &Taking<'_>) -> Vec<lifeboat_model::Step> {
    let mut found = Vec::new();
    if taking.staged_bytes() > 0 {
        found.push(steps::space("space.staging", common.staging.clone(), with_margin(taking.staged_bytes())));
    }
    if let Some(folder) = &common.vault_folder {
        // The first backup may not compress at all; later ones add about what the last one added.
        let bytes = last_added.map_or(taking.bytes(), |added| (added * 4 + (64 << 20)).min(taking.bytes()));
        found.push(steps::space("space.vault", folder.clone(), with_margin(bytes)));
    }
    for live in taking.sources {
        if let ResourceKind::Postgres { url, .. } = &live.resource.kind {
            let name = &live.resource.name;
            let action = Action::Postgres(PgAction::CheckSource { url: url.clone() });
            found.push(steps::read(format!("check-source.{name}"), format!("{name} can be captured"), action));
        }
    }
    if !common.vault_exists {
        let action = Action::CreateVault { vault: common.vault.clone() };
        let title = format!("make a new vault in {}", common.vault);
        found.push(steps::step("create-vault", title, StepClass::Idempotent, action, Undo::Nothing));
    }
    found
}

/// Which schemas of a platform a backup leaves out.
fn left_out(live: &Live) -> Option<String> {
    let text = || {
        format!(
            "{} is on Supabase. Schemas that the platform makes itself are left out: {}. `schemas` in lifeboat.toml says otherwise.",
            live.resource.name,
            live.leave_out.join(", ")
        )
    };
    (!live.leave_out.is_empty()).then(text)
}

/// A source that is much smaller than it was is worth a look before the older backups go.
fn shrunk(bytes: u64, (last, before): &(lifeboat_model::BackupId, u64)) -> Option<String> {
    let show = lifeboat_model::time::show_bytes;
    let text = || {
        format!(
            "There are {} now, and {last} held {}: less than half. Is anything missing?",
            show(bytes),
            show(*before)
        )
    };
    (bytes < before / 2).then(text)
}

/// A twentieth more, and room for what is written beside data.
pub(crate) fn with_margin(bytes: u64) -> u64 {
    bytes + bytes / 20 + (1 << 20)
}

fn must_be_there(live: &Live) -> Result<(), Failure> {
    let (name, path) = (&live.resource.name, live.resource.kind.place());
    if !live.exists {
        let failure = Failure::new(FailureKind::Refused, format!("there is no {path} to back up as {name}"));
        return Err(failure.hint("check the path in lifeboat.toml, or on the command line"));
    }
    match &live.unreadable {
        Some(why) => {
            Err(Failure::new(FailureKind::Refused, format!("{name} cannot be backed up")).because(why.clone()))
        }
        None => Ok(()),
    }
}

pub(crate) fn settings_fact(live: &Live) -> ExpectedFact {
    let fact = Fact::Settings { resource: live.resource.name.clone() };
    ExpectedFact { fact, value: live.settings.clone(), until: None }
}
