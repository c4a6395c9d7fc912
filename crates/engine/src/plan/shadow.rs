//! Planning a shadow: a copy of a backup, made and compared beforehand and kept beside the live database, so that going back
//! needs no more than a name. At most one of each database is kept.

use lifeboat_model::{
    Action, BackupChoice, BackupId, ExpectedFact, Fact, Failure, FailureKind, Lease, PgAction, Phase, Plan, Request,
    ResourceKind, ResourceName, StepClass, Undo, id::ID_DIGITS,
};

use super::{
    databases::{bring, derived},
    restore,
    steps::{self, by, phase, read, step},
};
use crate::{Engine, act::postgres as hands};

/// What the name of each shadow has behind that of its database.
const WORD: &str = "shadow_";

/// What a shadow of that backup is called.
fn name(live: &str, backup: &BackupId) -> String {
    derived(live, &format!("{WORD}{}", backup.as_str().replace('-', "")))
}

/// The shadow of that backup, where the server has one.
pub(super) fn ready(engine: &Engine, url: &str, live: &str, backup: &BackupId) -> Result<Option<String>, Failure> {
    let name = name(live, backup);
    Ok(hands::databases_named(&engine.vaults.database(url)?, &name)?.into_iter().find(|found| *found == name))
}

/// The phases that fill a database, with a shadow in the place of what would be fetched.
pub(super) fn instead(phases: &mut [Phase], name: &str) {
    for step in phases.iter_mut().flat_map(|phase| &mut phase.steps) {
        let Action::Postgres(PgAction::Fill { vault, backup, resource, url, database, shadow, .. }) = &mut step.action
        else {
            continue;
        };
        *shadow = Some(name.to_owned());
        step.title = format!("compare the shadow {name}, and call it {database}");
        step.undo = by(Action::Postgres(PgAction::GiveBack {
            vault: vault.clone(),
            backup: backup.clone(),
            resource: resource.clone(),
            url: url.clone(),
            database: database.clone(),
            shadow: name.to_owned(),
        }));
    }
}

/// Plans to make one and to drop those before it, or to drop them all.
///
/// # Errors
/// When the resource is no database on a server, there is no such backup, or the server does not answer.
pub(super) fn plan(
    engine: &Engine,
    request: &Request,
    (resource, of): (&ResourceName, Option<&BackupChoice>),
) -> Result<Plan, Failure> {
    let common = engine.common()?;
    let resource = engine.setup().resource(resource)?.clone();
    let ResourceKind::Postgres { url, .. } = &resource.kind else {
        let message = format!("{} is no database on a server: its backup is in its place in a moment", resource.name);
        return Err(Failure::new(FailureKind::Usage, message).hint("restore it when it is needed: lifeboat restore"));
    };
    let address = engine.vaults.database(url)?;
    let live = address.database.clone();
    // Of any backup: all such names are equally long, and begin alike. Somebody's own database may begin so, too.
    let some = name(&live, &BackupId::from_random(0));
    let head = &some[..some.len() - ID_DIGITS];
    let mut there = hands::databases_named(&address, head)?;
    there.retain(|found| BackupId::parse(&format!("{}{}", BackupId::PREFIX, &found[head.len()..])).is_ok());
    let drop = |database: &String| {
        let drop = Action::Postgres(PgAction::Drop { url: url.clone(), database: database.clone() });
        step(format!("drop.{database}"), format!("drop {database}"), StepClass::Idempotent, drop, Undo::Nothing)
    };
    let Some(choice) = of else {
        let title = format!("drop the shadow of {} of {}", resource.name, common.scope);
        let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
        if there.is_empty() {
            let message = format!("there is no shadow of {}", resource.name);
            return Err(Failure::new(FailureKind::Refused, message).hint("make one: lifeboat shadow make"));
        }
        plan.phases.push(phase(&common, "clean", vec![], there.iter().map(drop).collect()));
        return Ok(plan);
    };
    if !common.vault_exists {
        return Err(steps::no_vault(&common));
    }
    let backups = engine.backups_for(choice)?;
    let (backup, part) = restore::choose(engine, &backups, &resource, choice)?;
    let name = name(&live, &backup.id);
    if there.contains(&name) {
        let message = format!("the shadow {name} of {} is there already", backup.id);
        return Err(Failure::new(FailureKind::Refused, message)
            .hint(format!("to make it anew: lifeboat shadow drop {}", resource.name)));
    }
    let title = format!("keep {} of {} from {} ready as {name}", resource.name, common.scope, backup.id);
    let mut plan = steps::new_plan(&common, request, title, Lease::Sandbox);
    let stored = Action::CheckBackup { vault: common.vault.clone(), backup: backup.id.clone() };
    let whole = read("check-backup", format!("{} is whole in the vault", backup.id), stored);
    plan.phases.push(phase(&common, "preflight", vec![], vec![whole]));
    plan.phases.extend(bring(&common, &backup, &part, &resource, url, &name, false));
    // The one before it stays until the new one is compared.
    plan.phases.push(phase(&common, "clean", vec![], there.iter().map(drop).collect()));
    plan.facts = vec![ExpectedFact {
        fact: Fact::BackupIsThere { vault: common.vault.clone(), backup: backup.id.clone() },
        value: backup.snapshot.clone(),
        until: None,
    }];
    Ok(plan)
}
