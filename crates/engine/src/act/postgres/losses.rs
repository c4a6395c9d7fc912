//! What leaves when a PostgreSQL database is replaced: counted row by row when that is planned, counted again while
//! writes are held, and kept with the operation.

use std::{cell::RefCell, time::Duration};

use lifeboat_io::{
    Stop,
    database::postgres::{self, Address, Baseline, ChangedTable, Look, PgError, Selection, Session},
    files,
};
use lifeboat_model::{
    AcceptLoss, Action, BackupId, Failure, FailureKind, LossLine, OperationId, OperationState, PgAction, Plan,
    PostgresFacts, Resource, ResourceManifest, Salvage, SchemaNames, loss::not_accepted, postgres::Horizon,
    salvage::SALVAGE_SCHEMA,
};
use serde_json::{Value, json};

use super::{
    super::{
        Hands,
        errors::{path_failure, postgres_failure},
        losses::grown,
        summary,
    },
    Stored, beside, holding,
    keeping::{Keeping, Kinds},
    settling,
    streams::OutOfVault,
};
use crate::{Engine, perform::Context, setup::Vaults};

/// What a database is compared with.
#[derive(Clone, Copy)]
pub(crate) struct Against<'a> {
    pub vault: &'a str,
    pub backup: &'a BackupId,
    pub resource: &'a Resource,
    /// What it is called in the backup, when that is another name.
    pub part: Option<&'a lifeboat_model::ResourceName>,
    /// From when on rows are younger than it; the backup's own moment when there is none.
    pub since: Option<&'a Horizon>,
    /// Only tables in these schemas; all when there are none.
    pub schemas: &'a [String],
}

impl Against<'_> {
    fn part_name(&self) -> &lifeboat_model::ResourceName {
        self.part.unwrap_or(&self.resource.name)
    }
}

/// What rows are compared with, at hand: nothing of it need be fetched while somebody waits.
struct Basis<'a> {
    against: Against<'a>,
    facts: PostgresFacts,
    recovery_point: lifeboat_model::Timestamp,
    sources: OutOfVault,
    selection: Selection,
    /// Rows younger than this came since, where they can be asked.
    horizon: Option<Horizon>,
}

impl<'a> Basis<'a> {
    fn new(
        vaults: &dyn Vaults,
        session: &mut Session,
        against: Against<'a>,
        part: &ResourceManifest,
        stop: &Stop,
    ) -> Result<Basis<'a>, Failure> {
        let failed = |error: PgError| postgres_failure(&error);
        let lifeboat_model::Content::Postgres(facts) = &part.content else {
            return Err(Failure::new(FailureKind::Bug, format!("{} is not a PostgreSQL database", part.name)));
        };
        let vault = vaults.open(against.vault)?;
        let snapshot = summary::snapshot_of(&vault, against.backup)?;
        let sources = OutOfVault::new(vault, snapshot, part.path.clone(), stop.clone());
        let horizon = against.since.unwrap_or(&facts.horizon);
        let known = postgres::same_lineage(session, horizon).map_err(failed)?.is_ok();
        // What a platform keeps for itself is no loss of ours, and not ours to read.
        let selection = match postgres::look_at(session).map_err(failed)?.is_supabase {
            true => Selection::supabase(),
            false => Selection::default(),
        };
        let horizon = known.then(|| horizon.clone());
        let recovery_point = part.recovery_point;
        Ok(Basis { against, facts: (**facts).clone(), recovery_point, sources, selection, horizon })
    }

    fn stored(hands: &Hands, session: &mut Session, against: Against<'a>, stop: &Stop) -> Result<Basis<'a>, Failure> {
        let stored = Stored { vault: against.vault, backup: against.backup, resource: against.part_name() };
        let (part, _) = stored.manifest(hands)?;
        Basis::new(&*hands.vaults, session, against, &part, stop)
    }

    fn baseline(&self) -> Baseline<'_> {
        Baseline {
            facts: &self.facts,
            sources: &self.sources,
            horizon: self.horizon.as_ref(),
            moved: &self.against.resource.salvage_columns,
            selection: &self.selection,
            schemas: self.against.schemas,
        }
    }
}

/// Counts, row by row, what would leave; nothing is kept.
///
/// # Errors
/// When the database or the backup cannot be read.
pub(crate) fn count(engine: &Engine, url: &str, against: &Against<'_>) -> Result<Vec<LossLine>, Failure> {
    let manifest = engine.manifest(against.backup)?;
    let part = super::part(&manifest, against.backup, against.part_name())?;
    let (vaults, stop) = (&*engine.vaults, Stop::default());
    let failed = |error: PgError| postgres_failure(&error);
    let mut session = Session::open(&vaults.database(url)?, &stop).map_err(failed)?;
    let basis = Basis::new(vaults, &mut session, *against, part, &stop)?;
    let changed = postgres::compare_rows(&mut session, &basis.baseline(), None).map_err(failed)?;
    Ok(changed.iter().map(line_of).collect())
}

/// Tables that cannot tell what is written to them, with their bytes, the largest first.
///
/// # Errors
/// When the database or the backup cannot be read.
pub(crate) fn unwatched(engine: &Engine, url: &str, against: &Against<'_>) -> Result<Vec<(String, u64)>, Failure> {
    let manifest = engine.manifest(against.backup)?;
    let part = super::part(&manifest, against.backup, against.part_name())?;
    let (vaults, stop) = (&*engine.vaults, Stop::default());
    let failed = |error: PgError| postgres_failure(&error);
    let mut session = Session::open(&vaults.database(url)?, &stop).map_err(failed)?;
    let basis = Basis::new(vaults, &mut session, *against, part, &stop)?;
    postgres::unwatched(&mut session, &basis.baseline()).map_err(failed)
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

/// Rows that are to be found and kept.
#[derive(Clone, Copy)]
struct Ask<'a> {
    url: &'a str,
    against: Against<'a>,
    successor: Option<&'a str>,
    shown: Option<&'a [LossLine]>,
    accepted: AcceptLoss,
    ahead: bool,
}

impl<'a> Ask<'a> {
    fn of(action: &'a PgAction) -> Result<Ask<'a>, Failure> {
        let PgAction::Salvage { url, vault, backup, resource, part, successor, since, shown, accepted, schemas, ahead } =
            action
        else {
            return Err(Failure::new(FailureKind::Bug, "rows are to be kept by another action"));
        };
        let (part, since) = (part.as_ref(), since.as_ref());
        let against = Against { vault, backup, resource, part, since, schemas };
        let (successor, shown) = (successor.as_deref(), shown.as_deref());
        Ok(Ask { url, against, successor, shown, accepted: *accepted, ahead: *ahead })
    }

    /// Whether it may go on when what leaves cannot be told.
    fn may_be_uncounted(&self) -> bool {
        self.shown.is_none() || self.accepted == AcceptLoss::Any
    }
}

/// Finds the rows that leave, keeps them, and fails when nobody has agreed to that.
pub(super) fn salvage(hands: &Hands, action: &PgAction, context: &Context<'_>) -> Result<Value, Failure> {
    let ask = Ask::of(action)?;
    let address = hands.vaults.database(ask.url)?;
    let failed = |error: PgError| postgres_failure(&error);
    if ask.ahead {
        let opened = Session::open(&address, context.stop).map_err(failed);
        let found = opened.and_then(|mut session| {
            let basis = Basis::stored(hands, &mut session, ask.against, context.stop)?;
            look_ahead(hands, &ask, &basis, &mut session, context).map(|(changed, _kinds)| changed)
        });
        return weigh(hands, &ask, found, context);
    }
    holding::while_held(hands, &address, context, || {
        let opened = Session::open(&address, context.stop).map_err(failed);
        let found = opened.and_then(|mut session| {
            let basis = Basis::stored(hands, &mut session, ask.against, context.stop)?;
            keep(hands, &ask, &basis, &mut session, (None, None), context)
        });
        weigh(hands, &ask, found, context)
    })
}

/// What was found, when it may leave; else nothing of it stays.
fn weigh(
    hands: &Hands,
    ask: &Ask<'_>,
    found: Result<Vec<ChangedTable>, Failure>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let folder = hands.state.salvage(&context.operation.id);
    let forget = || files::remove_any(&folder).map_err(|error| path_failure(&error));
    let changed = match found {
        Ok(changed) => changed,
        Err(failure) => {
            forget()?;
            if failure.kind != FailureKind::Interrupted && ask.may_be_uncounted() {
                context.watch.note(&format!("What leaves could not be found row by row: {failure}."));
                return Ok(json!({ "uncounted": failure.to_string() }));
            }
            let failure = failure.while_doing("it cannot be told any more what would be lost");
            return Err(failure.hint("if that does not matter: --accept-loss any"));
        }
    };
    let lines: Vec<LossLine> = changed.iter().map(line_of).collect();
    let known = ask.shown.unwrap_or(&lines);
    let refused = not_accepted(known, &lines, ask.accepted, &|_line| false);
    if let Some(failure) = grown(&refused, &lines, &context.operation.plan) {
        forget()?;
        return Err(failure);
    }
    let add = |sum: (u64, u64, u64), table: &ChangedTable| {
        let changes = table.changes;
        (sum.0 + changes.inserted, sum.1 + changes.updated, sum.2 + changes.deleted)
    };
    let (inserted, updated, deleted) = changed.iter().fold((0, 0, 0), add);
    let mut counts = json!({ "lost": lines, "inserted": inserted, "updated": updated, "deleted": deleted });
    if ask.ahead {
        return Ok(counts);
    }
    if inserted + updated + deleted == 0 {
        forget()?;
    } else if !settling::is_late(&folder) {
        let id = &context.operation.id;
        context.watch.note(&format!(
            "Rows that leave are kept: {inserted} inserted, {updated} updated, {deleted} deleted; lifeboat salvage list {id}"
        ));
    }
    if let Some(name) = ask.successor {
        counts["horizon"] = json!(horizon_for(hands, ask.url, name, context)?);
    }
    Ok(counts)
}

/// How long to wait for tables that somebody holds, before they are not watched.
const WATCH_WAIT: Duration = Duration::from_secs(20);

/// Looks while everybody writes, and has everybody's writes told from then on.
fn look_ahead(
    hands: &Hands,
    ask: &Ask<'_>,
    basis: &Basis<'_>,
    session: &mut Session,
    context: &Context<'_>,
) -> Result<(Vec<ChangedTable>, Kinds), Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let (against, clock) = (&ask.against, &*hands.io.clock);
    let folder = hands.state.salvage(&context.operation.id);
    let mut keeping = Keeping::begin(&folder, &against.resource.owner_columns)?;
    let baseline = basis.baseline();
    let mut watching = session.another().map_err(failed)?;
    match postgres::watch_tables(&mut watching, &baseline, WATCH_WAIT, clock, context.stop) {
        Ok(_watched) => {}
        // Then the second look takes longer; nothing is less sure for that.
        Err(error @ PgError::Refused { .. }) => {
            context.watch.note(&format!(
                "Writes are not told by the tables themselves ({error}): each is looked through again."
            ));
        }
        Err(error) => return Err(failed(error)),
    }
    let mut each = || postgres::keep_watching(&mut watching).map(drop);
    let looked = postgres::compare_ahead(session, &baseline, &mut keeping, &mut each);
    let (changed, ahead) = looked.map_err(failed)?;
    keeping.pause(&ahead)?;
    Ok((changed, keeping.kinds()))
}

/// Ends the watch over a database, when there is one.
pub(super) fn unwatch(hands: &Hands, address: &Address, context: &Context<'_>) -> Result<(), Failure> {
    // Taking something back is not broken off.
    let stop = Stop::default();
    let ended = Session::open(address, &stop)
        .and_then(|mut session| postgres::watch_off(&mut session, &*hands.io.clock, &stop));
    ended.map_err(|error| postgres_failure(&error))?.iter().for_each(|note| context.watch.note(note));
    Ok(())
}

/// What was found in the last moment is put into what is kept; nobody is watched any more.
pub(super) fn settle(hands: &Hands, url: &str, database: &str, context: &Context<'_>) -> Result<Value, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let folder = hands.state.salvage(&context.operation.id);
    let stop = Stop::default();
    let left =
        inside(hands, url, database, context.stop, |session| postgres::watch_off(session, &*hands.io.clock, &stop))?;
    left.iter().for_each(|note| context.watch.note(note));
    if !settling::is_late(&folder) {
        settling::forget_first_look(&folder)?;
        return Ok(Value::Null);
    }
    let action = context.operation.plan.steps().filter_map(|step| leaving_of(&step.action)).last();
    let ask = Ask::of(action.ok_or_else(|| Failure::new(FailureKind::Bug, "no step has kept rows"))?)?;
    let address = hands.vaults.database(url)?;
    let mut session = Session::open(&address, context.stop).map_err(failed)?;
    let basis = Basis::stored(hands, &mut session, ask.against, context.stop)?;
    let owners = &ask.against.resource.owner_columns;
    let salvage = settling::settle(&folder, owners, &basis.facts, &basis.sources)?;
    let (inserted, updated, deleted) = salvage.counts();
    if inserted + updated + deleted == 0 {
        files::remove_any(&folder).map_err(|error| path_failure(&error))?;
    } else {
        context.watch.note(&settling::told(&salvage));
    }
    Ok(json!({ "inserted": inserted, "updated": updated, "deleted": deleted }))
}

/// Looks while nobody writes, only at what was written to since the first look, when there was one. `names`: as schemas
/// are called at this moment in the session's own transaction; with what the first look has found in this process.
fn keep(
    hands: &Hands,
    ask: &Ask<'_>,
    basis: &Basis<'_>,
    session: &mut Session,
    (names, kinds): (Option<&[SchemaNames]>, Option<&Kinds>),
    context: &Context<'_>,
) -> Result<Vec<ChangedTable>, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let against = &ask.against;
    let folder = hands.state.salvage(&context.operation.id);
    let (mut keeping, ahead) = Keeping::go_on(&folder, &against.resource.owner_columns, kinds)?;
    let (ahead, baseline) = (ahead.unwrap_or_default(), basis.baseline());
    let holds = postgres::still_holds(session, &baseline, &ahead, names).map_err(failed)?;
    keeping.pause(&holds)?;
    let changed = postgres::compare_rest(session, &baseline, &holds, names, &mut keeping).map_err(failed)?;
    let salvage = Salvage {
        schema: SALVAGE_SCHEMA.to_owned(),
        operation: context.operation.id.clone(),
        resource: against.resource.name.clone(),
        backup: against.backup.clone(),
        since: against.since.and_then(|since| since.at).unwrap_or(basis.recovery_point),
        at: hands.io.clock.now(),
        tables: Vec::new(),
        affected: None,
    };
    keeping.end(salvage, &changed)?;
    Ok(changed)
}

/// Looks at what leaves in the course of a swap of schemas.
pub(super) struct Looking<'a> {
    hands: &'a Hands,
    ask: Ask<'a>,
    context: &'a Context<'a>,
    /// What was found last.
    found: RefCell<Value>,
    /// Why it broke off.
    failure: RefCell<Option<Failure>>,
    /// What is compared, and what the first look has found.
    first: RefCell<Option<(Basis<'a>, Kinds)>>,
}

impl<'a> Looking<'a> {
    pub fn new(hands: &'a Hands, action: &'a PgAction, context: &'a Context<'a>) -> Result<Looking<'a>, Failure> {
        let (found, failure) = (RefCell::new(Value::Null), RefCell::new(None));
        Ok(Looking { hands, ask: Ask::of(action)?, context, found, failure, first: RefCell::new(None) })
    }

    pub fn look(&self, session: &mut Session, when: Look<'_>) -> Result<(), PgError> {
        let looked = match when {
            Look::Free => self.ahead(),
            Look::Held(names) => {
                // An error would end all of the transaction, and it may be one that does not matter.
                session.run("SAVEPOINT lifeboat_look")?;
                let kept = self.held(session, names);
                let end = if kept.is_ok() { "RELEASE" } else { "ROLLBACK TO" };
                session.run(&format!("{end} SAVEPOINT lifeboat_look"))?;
                weigh(self.hands, &self.ask, kept, self.context)
            }
        };
        match looked {
            Ok(found) => {
                self.found.replace(found);
                Ok(())
            }
            Err(failure) => {
                let source = std::io::Error::other(failure.to_string());
                self.failure.replace(Some(failure));
                Err(PgError::Ours { doing: "look at what leaves".into(), source })
            }
        }
    }

    fn ahead(&self) -> Result<Value, Failure> {
        let failed = |error: PgError| postgres_failure(&error);
        let opened = Session::open(&self.hands.vaults.database(self.ask.url)?, self.context.stop);
        let found = opened
            .and_then(|mut session| session.run("SET lock_timeout = '10s'").map(|()| session))
            .map_err(failed)
            .and_then(|mut session| {
                let basis = Basis::stored(self.hands, &mut session, self.ask.against, self.context.stop)?;
                let (changed, kinds) = look_ahead(self.hands, &self.ask, &basis, &mut session, self.context)?;
                self.first.replace(Some((basis, kinds)));
                Ok(changed)
            });
        let first = Ask { ahead: true, ..self.ask };
        weigh(self.hands, &first, found, self.context)
    }

    fn held(&self, session: &mut Session, names: &[SchemaNames]) -> Result<Vec<ChangedTable>, Failure> {
        let first = self.first.borrow();
        if let Some((basis, kinds)) = &*first {
            return keep(self.hands, &self.ask, basis, session, (Some(names), Some(kinds)), self.context);
        }
        let basis = Basis::stored(self.hands, session, self.ask.against, self.context.stop)?;
        keep(self.hands, &self.ask, &basis, session, (Some(names), None), self.context)
    }

    /// Why it broke off, when that was here.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.take()
    }

    /// What was found while the tables were held.
    pub fn found(self) -> Value {
        self.found.into_inner()
    }
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
    watched: Option<&str>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    if let Some(url) = watched {
        unwatch(hands, &hands.vaults.database(url)?, context)?;
    }
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

/// Whether a fence is of an operation that was closed where it stood. Its note begins with whose it is.
fn was_left(engine: &Engine, note: &str) -> bool {
    let id = note.split(' ').next().and_then(|word| OperationId::parse(word).ok());
    let operation = id.and_then(|id| engine.look().operation(&id).ok());
    operation.is_some_and(|operation| matches!(operation.state, OperationState::HandedOver { .. }))
}

/// How an action finds what leaves, when it does.
pub(crate) fn leaving_of(action: &Action) -> Option<&PgAction> {
    let Action::Postgres(action) = action else { return None };
    match action {
        PgAction::Salvage { .. } => Some(action),
        PgAction::SwapSchemas { leaving, .. } | PgAction::ExchangeSchemas { leaving, .. } => leaving.as_deref(),
        _other => None,
    }
}

/// Counts again what a plan would lose before it is carried out; a failure when that has become more.
pub(in crate::act) fn check_again(engine: &Engine, plan: &Plan) -> Result<Option<Failure>, Failure> {
    let Some(action) = plan.steps().find_map(|step| leaving_of(&step.action)) else { return Ok(None) };
    let ask = Ask::of(action)?;
    let Some(shown) = ask.shown.filter(|_| ask.accepted != AcceptLoss::Any) else { return Ok(None) };
    let lines = count(engine, ask.url, &ask.against)?;
    let refused = not_accepted(shown, &lines, ask.accepted, &|_line| false);
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
    // What a dead operation of ours holds for a moment is no person's; nor is what a deploy left that was handed over.
    if status.is_on && status.ends_in_ms.is_none() && !was_left(engine, &status.note) {
        return Ok(Holdable::Held(status.note));
    }
    Ok(match postgres::fence_refused(&mut session).map_err(failed)? {
        None => Holdable::Yes,
        Some(why) => Holdable::No(why),
    })
}
