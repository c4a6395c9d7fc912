//! What leaves when a PostgreSQL database is replaced: counted row by row when that is planned, counted again while
//! writes are held, and kept with the operation.

use lifeboat_io::{
    Stop,
    database::postgres::{self, Baseline, ChangedTable, KeepRows, PgError, Selection, Session},
    files,
};
use lifeboat_model::{
    AcceptLoss, Action, BackupId, Failure, FailureKind, LossLine, PgAction, Plan, PostgresFacts, Resource, Salvage,
    loss::not_accepted, postgres::Horizon, salvage::SALVAGE_SCHEMA,
};
use serde_json::{Value, json};

use super::{
    super::{
        Hands,
        errors::{path_failure, postgres_failure},
        losses::grown,
        summary,
    },
    Stored, beside,
    keeping::Keeping,
    streams::OutOfVault,
};
use crate::{Engine, perform::Context, setup::Vaults};

/// What a database is compared with.
pub(crate) struct Against<'a> {
    pub vault: &'a str,
    pub backup: &'a BackupId,
    pub resource: &'a Resource,
    /// What it is called in the backup, when that is another name.
    pub part: Option<&'a lifeboat_model::ResourceName>,
    /// From when on rows are younger than it; the backup's own moment when there is none.
    pub since: Option<&'a Horizon>,
}

impl Against<'_> {
    fn part_name(&self) -> &lifeboat_model::ResourceName {
        self.part.unwrap_or(&self.resource.name)
    }
}

/// Compares what lives at an address with a backup.
fn compare(
    vaults: &dyn Vaults,
    url: &str,
    against: &Against<'_>,
    facts: (&PostgresFacts, String),
    keep: Option<&mut dyn KeepRows>,
    stop: &Stop,
) -> Result<Vec<ChangedTable>, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let (facts, folder) = facts;
    let vault = vaults.open(against.vault)?;
    let snapshot = summary::snapshot_of(&vault, against.backup)?;
    let sources = OutOfVault { vault, snapshot, folder, stop: stop.clone() };
    let mut session = Session::open(&vaults.database(url)?, stop).map_err(failed)?;
    let horizon = against.since.unwrap_or(&facts.horizon);
    let known = postgres::same_lineage(&mut session, horizon).map_err(failed)?.is_ok();
    // What a platform keeps for itself is no loss of ours, and not ours to read.
    let selection = match postgres::look_at(&mut session).map_err(failed)?.is_supabase {
        true => Selection::supabase(),
        false => Selection::default(),
    };
    let horizon = known.then_some(horizon);
    let moved = &against.resource.salvage_columns;
    let baseline = Baseline { facts, sources: &sources, horizon, moved, selection: &selection };
    postgres::compare_rows(&mut session, &baseline, keep).map_err(failed)
}

/// Counts, row by row, what would leave; nothing is kept.
///
/// # Errors
/// When the database or the backup cannot be read.
pub(crate) fn count(engine: &Engine, url: &str, against: &Against<'_>) -> Result<Vec<LossLine>, Failure> {
    let manifest = engine.manifest(against.backup)?;
    let part = super::part(&manifest, against.backup, against.part_name())?;
    let lifeboat_model::Content::Postgres(facts) = &part.content else {
        return Err(Failure::new(FailureKind::Bug, format!("{} is not a PostgreSQL database", part.name)));
    };
    let facts = (&**facts, part.path.clone());
    let changed = compare(&*engine.vaults, url, against, facts, None, &Stop::default())?;
    Ok(changed.iter().map(line_of).collect())
}

fn line_of(table: &ChangedTable) -> LossLine {
    LossLine {
        table: table.title.clone(),
        rows_backup: table.rows_then,
        rows_now: table.rows_now,
        differs: true,
        created: Some(table.changes.inserted),
        changed: Some(table.changes.updated),
        deleted: Some(table.changes.deleted),
        columns_leaving: if table.rows_then.is_some() { table.only_now.clone() } else { Vec::new() },
        ..LossLine::default()
    }
}

/// Finds the rows that leave, keeps them, and fails when nobody has agreed to that.
pub(super) fn salvage(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<Value, Failure> {
    let PgAction::Salvage { url, vault, backup, resource, part, successor, since, shown, accepted } = action else {
        return Err(Failure::new(FailureKind::Bug, "rows are to be kept by another action"));
    };
    let against = Against { vault, backup, resource, part: part.as_ref(), since: since.as_ref() };
    let folder = hands.state.salvage(&context.operation.id);
    let found = keep(hands, url, &against, &folder, context);
    let (salvage, changed) = match found {
        Ok(found) => found,
        Err(failure) => {
            files::remove_any(&folder).map_err(|error| path_failure(&error))?;
            if failure.kind != FailureKind::Interrupted && (shown.is_none() || *accepted == AcceptLoss::Any) {
                context.watch.note(&format!("What leaves could not be found row by row: {failure}."));
                return Ok(json!({ "uncounted": failure.to_string() }));
            }
            let failure = failure.while_doing("it cannot be told any more what would be lost");
            return Err(failure.hint("if that does not matter: --accept-loss any"));
        }
    };
    let lines: Vec<LossLine> = changed.iter().map(line_of).collect();
    let known = shown.as_deref().unwrap_or(&lines);
    let refused = not_accepted(known, &lines, *accepted, &|_line| false);
    if let Some(failure) = grown(&refused, &lines, &context.operation.plan) {
        files::remove_any(&folder).map_err(|error| path_failure(&error))?;
        return Err(failure);
    }
    let (inserted, updated, deleted) = salvage.counts();
    if inserted + updated + deleted == 0 {
        files::remove_any(&folder).map_err(|error| path_failure(&error))?;
    } else {
        let id = &context.operation.id;
        context.watch.note(&format!(
            "Rows that leave are kept: {inserted} inserted, {updated} updated, {deleted} deleted; lifeboat salvage list {id}"
        ));
    }
    let horizon = successor.as_ref().map(|name| horizon_for(hands, url, name, context)).transpose()?;
    Ok(json!({ "lost": lines, "inserted": inserted, "updated": updated, "deleted": deleted, "horizon": horizon }))
}

fn keep(
    hands: &Hands,
    url: &str,
    against: &Against<'_>,
    folder: &std::path::Path,
    context: &Context<'_>,
) -> Result<(Salvage, Vec<ChangedTable>), Failure> {
    let stored = Stored { vault: against.vault, backup: against.backup, resource: against.part_name() };
    let (part, facts) = stored.manifest(hands)?;
    let mut keeping = Keeping::begin(folder, &against.resource.owner_columns)?;
    let facts = (&facts, part.path.clone());
    let changed = compare(&*hands.vaults, url, against, facts, Some(&mut keeping), context.stop)?;
    let salvage = Salvage {
        schema: SALVAGE_SCHEMA.to_owned(),
        operation: context.operation.id.clone(),
        resource: against.resource.name.clone(),
        backup: against.backup.clone(),
        since: against.since.and_then(|since| since.at).unwrap_or(part.recovery_point),
        at: hands.io.clock.now(),
        tables: Vec::new(),
        affected: None,
    };
    Ok((keeping.finish(salvage, &changed)?, changed))
}

/// The present moment in the counting of the database that is about to be live: what is written to it from then on can
/// be told from what it began with.
fn horizon_for(hands: &Hands, url: &str, name: &str, context: &Context<'_>) -> Result<Horizon, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let mut session = beside(&hands.vaults.database(url)?, name, context.stop)?;
    let horizon = postgres::horizon_now(&mut session).map_err(failed)?;
    let about = postgres::database_about(&mut session, name).map_err(failed)?;
    let database_oid = about.and_then(|(oid, _bytes)| u32::try_from(oid).ok()).unwrap_or_default();
    Ok(Horizon { database_oid, at: Some(hands.io.clock.now()), ..horizon })
}

pub(super) fn forget(
    hands: &Hands,
    of: Option<&lifeboat_model::OperationId>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let folder = hands.state.salvage(of.unwrap_or(&context.operation.id));
    files::remove_any(&folder).map_err(|error| path_failure(&error))?;
    Ok(json!({ "removed": folder.display().to_string() }))
}

/// Works inside of a database that may be closed, and leaves it as it was.
fn inside<T>(
    hands: &Hands,
    url: &str,
    database: &str,
    stop: &Stop,
    work: impl FnOnce(&mut Session) -> Result<T, PgError>,
) -> Result<T, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let address = hands.vaults.database(url)?;
    let mut outside = beside(&address, database, stop)?;
    let is_closed = !postgres::is_open(&mut outside, database).map_err(failed)?;
    if is_closed {
        postgres::open_database(&mut outside, database).map_err(failed)?;
    }
    let worked = Session::open(&address.with_database(database), stop).and_then(|mut session| work(&mut session));
    if is_closed {
        postgres::close_database(&mut outside, database).map_err(failed)?;
    }
    worked.map_err(failed)
}

pub(super) fn unfence(hands: &Hands, url: &str, database: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let mut outside = beside(&hands.vaults.database(url)?, database, context.stop)?;
    if postgres::database_exists(&mut outside, database).map_err(|error| postgres_failure(&error))? {
        inside(hands, url, database, context.stop, postgres::fence_off)?;
    }
    Ok(json!({ "on": false }))
}

pub(super) fn sequences(
    hands: &Hands,
    url: &str,
    (from, to): (&str, &str),
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let address = hands.vaults.database(url)?.with_database(to);
    let raised = inside(hands, url, from, context.stop, |from| {
        let mut to = Session::open(&address, context.stop)?;
        postgres::raise_sequences(from, &mut to)
    })?;
    Ok(json!({ "raised": raised }))
}

/// Counts again what a plan would lose before it is carried out; a failure when that has become more.
pub(in crate::act) fn check_again(engine: &Engine, plan: &Plan) -> Result<Option<Failure>, Failure> {
    let salvage = plan.steps().find_map(|step| match &step.action {
        Action::Postgres(PgAction::Salvage {
            url,
            vault,
            backup,
            resource,
            part,
            since,
            shown: Some(shown),
            accepted,
            ..
        }) => {
            let (part, since) = (part.as_ref(), since.as_ref());
            Some((url, Against { vault, backup, resource, part, since }, shown, *accepted))
        }
        _other => None,
    });
    let Some((url, against, shown, accepted)) = salvage else { return Ok(None) };
    if accepted == AcceptLoss::Any {
        return Ok(None);
    }
    let lines = count(engine, url, &against)?;
    let refused = not_accepted(shown, &lines, accepted, &|_line| false);
    Ok(grown(&refused, &lines, plan))
}

/// Whether writes to a database can be held.
pub(crate) enum Holdable {
    /// They can.
    Yes,
    /// There is a fence already, which says this of itself.
    Held(String),
    /// They cannot, for this reason.
    No(String),
}

/// Looks whether writes to a database can be held for a while.
///
/// # Errors
/// When it cannot be asked.
pub(crate) fn holdable(engine: &Engine, url: &str) -> Result<Holdable, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let mut session = Session::open(&engine.vaults.database(url)?, &Stop::default()).map_err(failed)?;
    let status = postgres::fence_status(&mut session).map_err(failed)?;
    if status.is_on {
        return Ok(Holdable::Held(status.note));
    }
    Ok(match postgres::fence_refused(&mut session).map_err(failed)? {
        None => Holdable::Yes,
        Some(why) => Holdable::No(why),
    })
}
