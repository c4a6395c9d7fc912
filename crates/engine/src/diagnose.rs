//! Why rows are missing in a live database: what it was restored from, and which backup has them.

use std::collections::BTreeMap;

use lifeboat_model::{
    Action, Backup, BackupId, BackupReason, Check, Content, Manifest, OperationState, PgAction, Request, Resource, Tri,
};

use crate::{Engine, plan::steps::instant, verify::TOLERANCE};

/// Compares numbers of rows with a backup; when some are missing, says what is live was restored from, and which backup is a
/// better candidate.
pub(crate) fn counts(
    engine: &Engine,
    resource: &Resource,
    manifest: &Manifest,
    now: &BTreeMap<String, u64>,
    tolerance: Option<u32>,
) -> Option<Check> {
    let Content::Postgres(before) = &manifest.resource(&resource.name)?.content else { return None };
    let tolerance = u64::from(tolerance.unwrap_or(TOLERANCE));
    let critical = |title: &String| {
        let names = &resource.critical_tables;
        names.is_empty() || names.iter().any(|name| title == name || *title == format!("public.{name}"))
    };
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    for (title, table) in before.tables.iter().filter(|(title, table)| table.rows.rows > 0 && critical(title)) {
        let (then, rows) = (table.rows.rows, now.get(title).copied().unwrap_or(0));
        // A handful of rows doubles easily: a difference of less than ten says nothing.
        let far = rows.abs_diff(then) * 100 >= then * tolerance && rows.abs_diff(then) >= 10;
        if rows == 0 || far {
            wrong.push(format!("{title} has {rows} rows, and {} had {then}", manifest.backup));
            missing.extend((rows < then).then(|| title.clone()));
        }
    }
    if wrong.is_empty() {
        return Some(Check::new("record counts", Tri::Pass, format!("within {tolerance} % of {}", manifest.backup)));
    }
    let why = if missing.is_empty() { None } else { diagnosis(engine, resource, &missing, now) };
    let told: Vec<String> = wrong.into_iter().chain(why).collect();
    Some(Check::new("record counts", Tri::Fail, told.join("; ")))
}

/// What is live was restored from a backup that lacks these rows: which one, and a better candidate.
fn diagnosis(engine: &Engine, resource: &Resource, missing: &[String], now: &BTreeMap<String, u64>) -> Option<String> {
    let backups = engine.backups().ok()?;
    let source = restored_from(engine, resource).and_then(|id| backups.iter().find(|backup| backup.id == id));
    let candidate = candidate(engine, resource, &backups, missing, now);
    let mut told = Vec::new();
    told.extend(source.map(|source| {
        format!("what is live was restored from {}, complete up to {}", source.id, instant(source.recovery_point))
    }));
    told.extend(candidate.filter(|better| source.is_none_or(|source| source.id != better.id)).map(|better| {
        let (id, at) = (&better.id, instant(better.recovery_point));
        format!("a better candidate is {id}, complete up to {at}: lifeboat restore {} --from {id}", resource.name)
    }));
    (!told.is_empty()).then(|| told.join("; "))
}

/// The backup of the newest restore in place that is done.
fn restored_from(engine: &Engine, resource: &Resource) -> Option<BackupId> {
    const LOOK_BACK: usize = 200;
    let scope = engine.setup().scope.to_string();
    let rows = engine.look().operations(LOOK_BACK).ok()?;
    rows.into_iter().filter(|row| row.scope == scope).find_map(|row| {
        let operation = engine.look().operation(&row.id).ok()?;
        let meant = matches!(&operation.plan.request, Request::Restore { resource: name, into: None, .. } if *name == resource.name);
        if !meant || operation.state != OperationState::Done {
            return None;
        }
        operation.plan.steps().find_map(|step| match &step.action {
            Action::Postgres(PgAction::Fill { backup, .. }) => Some(backup.clone()),
            _other => None,
        })
    })
}

/// The newest good backup that has more rows in every table where some are missing.
fn candidate<'a>(
    engine: &Engine,
    resource: &Resource,
    backups: &'a [Backup],
    missing: &[String],
    now: &BTreeMap<String, u64>,
) -> Option<&'a Backup> {
    let good = |backup: &&Backup| {
        backup.reason != BackupReason::Emergency
            && backup.suspect.is_none()
            && backup.resources.contains(&resource.name)
    };
    backups.iter().rev().filter(good).find(|backup| {
        let Ok(manifest) = engine.manifest(&backup.id) else { return false };
        let Some(Content::Postgres(facts)) = manifest.resource(&resource.name).map(|part| &part.content) else {
            return false;
        };
        let has = |title: &String| facts.tables.get(title).map_or(0, |table| table.rows.rows);
        missing.iter().all(|title| has(title) > now.get(title).copied().unwrap_or(0))
    })
}
