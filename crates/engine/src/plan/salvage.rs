//! Rows that leave with a swap on a server: held still, found, kept - around the rename of `databases.rs`.
//!
//! ```text
//!   look            a swap could happen
//!   look-ahead      rows that leave are found while everybody writes: most of the work; writers are watched from here on
//!   hold            every write is refused; reading goes on; it ends by itself when nothing is heard of us
//!   salvage         rows that were written to since are looked at again; what leaves is kept with the operation
//!   sequences       no number is given out twice
//!   ready           nothing has come in the way meanwhile
//!   take-the-name   ── the point of no return ──
//!   lift            what is kept has no fence any more
//!   settle          rows of the last moment are put to the others; nobody is watched any more
//! ```

use lifeboat_model::{
    AcceptLoss, Action, BackupId, BackupReason, Failure, Lease, LossLine, Operation, OperationId, PgAction, Plan,
    Request, Resource, ResourceName, SalvagedTable, Step, StepClass, Undo, postgres::Horizon,
};

use super::steps::{self, by, read, step};
use crate::{
    Engine,
    act::postgres::losses::{self, Against, Holdable},
};

/// What is known of rows that would leave.
pub(crate) struct Leaving {
    /// The vault of what they are compared with.
    pub vault: String,
    /// What they are compared with.
    pub backup: BackupId,
    /// What it is called in that backup, when that is another name.
    pub part: Option<ResourceName>,
    /// The resource as the settings describe it.
    pub resource: Resource,
    /// From when on rows are younger.
    pub since: Option<Horizon>,
    /// Table by table; nothing when they could not be counted.
    pub lines: Option<Vec<LossLine>>,
    /// Why they could not.
    pub uncounted: Option<String>,
    /// Whether writes can be held meanwhile.
    pub holdable: Holdable,
    /// Only tables in these schemas leave; all when there are none.
    pub schemas: Vec<String>,
    /// Tables that do not tell what is written to them, with their bytes: they are looked through while clients wait.
    pub unwatched: Vec<(String, u64)>,
}

impl Leaving {
    /// The action that finds and keeps them.
    pub fn action(&self, url: &str, successor: Option<&str>, accepted: AcceptLoss) -> PgAction {
        PgAction::Salvage {
            url: url.to_owned(),
            vault: self.vault.clone(),
            backup: self.backup.clone(),
            resource: Box::new(self.resource.clone()),
            part: self.part.clone(),
            successor: successor.map(str::to_owned),
            since: self.since.clone(),
            shown: self.lines.clone(),
            accepted,
            schemas: self.schemas.clone(),
            ahead: false,
        }
    }
}

/// Three names of databases on one server.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    pub url: &'a str,
    pub live: &'a str,
    pub aside: &'a str,
    pub kept: &'a str,
}

/// Looks at what would leave if `backup` took the place of what is at `url`.
pub(crate) fn leaving(
    engine: &Engine,
    (resource, url): (Resource, &str),
    (vault, backup, part): (&str, &BackupId, &ResourceName),
    since: Option<Horizon>,
    schemas: Vec<String>,
) -> Leaving {
    let part = (*part != resource.name).then(|| part.clone());
    let (which, from) = (part.as_ref(), since.as_ref());
    let against = Against { vault, backup, resource: &resource, part: which, since: from, schemas: &schemas };
    let counted = losses::count(engine, url, &against);
    let (lines, uncounted) = match counted {
        Ok(lines) => (Some(lines), None),
        Err(failure) => (None, Some(failure.to_string())),
    };
    let unwatched = losses::unwatched(engine, url, &against).unwrap_or_default();
    let holdable = losses::holdable(engine, url).unwrap_or_else(|failure| Holdable::No(failure.to_string()));
    let (vault, backup) = (vault.to_owned(), backup.clone());
    Leaving { vault, backup, part, resource, since, lines, uncounted, holdable, schemas, unwatched }
}

/// The steps before a swap. The last of them is the caller's, whose undo opens the live database again: it has to be taken
/// back before the fence is.
/// `is_ours`: what takes the name was made by this plan, and nothing else knows it.
pub(crate) fn before_swap(
    leaving: &Leaving,
    names: &Names<'_>,
    accepted: AcceptLoss,
    ready: Step,
    is_ours: bool,
) -> Vec<Step> {
    let Names { url, live, aside, .. } = *names;
    let look = Action::Postgres(PgAction::Ready {
        url: url.to_owned(),
        live: live.to_owned(),
        aside: aside.to_owned(),
        kept: names.kept.to_owned(),
    });
    let mut steps = vec![read("look", format!("a swap of {live} could happen"), look)];
    let undo = |watched: Option<&str>| {
        by(Action::Postgres(PgAction::ForgetSalvage { of: None, watched: watched.map(str::to_owned) }))
    };
    let salvage = leaving.action(url, Some(aside), accepted);
    let mut first = leaving.action(url, None, accepted);
    if let PgAction::Salvage { ahead, .. } = &mut first {
        *ahead = true;
    }
    let title = "find the rows that leave, while everybody writes; from here on each table tells what is written to it";
    steps.push(step("look-ahead", title, StepClass::Idempotent, Action::Postgres(first), undo(Some(url))));
    steps.extend(hold(leaving, names, is_ours));
    let title = "find those that came since; keep them all with this operation";
    steps.push(step("salvage", title, StepClass::Idempotent, Action::Postgres(salvage), undo(None)));
    if is_ours {
        steps.push(sequences(url, live, aside));
    }
    steps.push(ready);
    steps
}

/// How writes are held: by a fence for a moment, or by the one that a person has put up, which goes along.
fn hold(leaving: &Leaving, names: &Names<'_>, is_ours: bool) -> Option<Step> {
    let Names { url, live, aside, .. } = *names;
    match &leaving.holdable {
        Holdable::Yes => {
            let why = "a restore counts what leaves".to_owned();
            let fence = PgAction::Fence { url: url.to_owned(), on: true, why, brief: true, database: None };
            let action = Action::Postgres(fence);
            let undo = by(Action::Postgres(PgAction::Unfence { url: url.to_owned(), database: live.to_owned() }));
            let title = format!("hold every write to {live}; reading goes on");
            Some(step("hold", title, StepClass::Idempotent, action, undo))
        }
        Holdable::Held(note) if is_ours => {
            let (why, database) = (note.clone(), Some(aside.to_owned()));
            let action = PgAction::Fence { url: url.to_owned(), on: true, why, brief: false, database };
            let title = format!("the fence of {live} goes along to what takes its place");
            Some(step("hold", title, StepClass::Idempotent, Action::Postgres(action), Undo::Nothing))
        }
        Holdable::Held(_) | Holdable::No(_) => None,
    }
}

/// The steps after a swap: the fence is taken out of what is kept, unless a person had put it up; what was written in the last
/// moment is put into what is kept of rows.
pub(crate) fn after_swap(leaving: &Leaving, names: &Names<'_>) -> Vec<Step> {
    let lift = match &leaving.holdable {
        Holdable::Yes => {
            let (url, database) = (names.url.to_owned(), names.kept.to_owned());
            let title = format!("take the fence out of {}, which is kept", names.kept);
            let action = Action::Postgres(PgAction::Unfence { url, database });
            Some(step("lift", title, StepClass::Idempotent, action, Undo::Nothing))
        }
        Holdable::Held(_) | Holdable::No(_) => None,
    };
    lift.into_iter().chain([settle(names.url, names.kept)]).collect()
}

/// Ends what a first look began. `database`: where the tables are that were watched.
pub(crate) fn settle(url: &str, database: &str) -> Step {
    let action = PgAction::SettleSalvage { url: url.to_owned(), database: database.to_owned() };
    let title = "rows of the last moment are put to those that are kept; tables tell nothing any more";
    step("settle", title, StepClass::Idempotent, Action::Postgres(action), Undo::Nothing)
}

/// Raises the sequences of what is or will be live to where those of the former one stand.
pub(crate) fn sequences(url: &str, from: &str, to: &str) -> Step {
    let [url, from, to] = [url, from, to].map(str::to_owned);
    let title = format!("sequences of {to} stand no lower than those of {from}");
    let action = Action::Postgres(PgAction::Sequences { url, from, to });
    step("sequences", title, StepClass::Idempotent, action, Undo::Nothing)
}

/// What a person should know about it.
pub(crate) fn notes(leaving: &Leaving, live: &str) -> Vec<String> {
    let mut notes = Vec::new();
    match &leaving.holdable {
        Holdable::Yes => notes.push(format!(
            "Writes to {live} are refused while rows that were written in the last moment are looked at again, reading goes \
             on, until the swap, and for 30 s at the most when this program dies; transactions that hold a table for 10 s are ended."
        )),
        Holdable::Held(note) => notes.push(format!("{live} has a fence already, and keeps it ({note}).")),
        Holdable::No(why) => notes.push(format!(
            "Writes cannot be held before the swap ({why}): what is written in the last moment is in the kept database only."
        )),
    }
    notes.extend(unwatched(leaving));
    notes.extend(counted(leaving));
    notes
}

/// What a person should know of tables that are looked through while clients wait.
pub(crate) fn unwatched(leaving: &Leaving) -> Option<String> {
    /// Headers of rows are read so fast at least, in bytes a second.
    const LOOKED_THROUGH: u64 = 400 << 20;
    const NAMED_MAX: usize = 5;
    let bytes: u64 = leaving.unwatched.iter().map(|(_, bytes)| bytes).sum();
    let took_ms = bytes * 1000 / LOOKED_THROUGH;
    if took_ms < 50 {
        return None;
    }
    let names: Vec<&str> = leaving.unwatched.iter().take(NAMED_MAX).map(|(name, _)| name.as_str()).collect();
    let more = if leaving.unwatched.len() > names.len() { ", ..." } else { "" };
    Some(format!(
        "Clients wait about {}.{} s longer: tables without a primary key of plain types, or with other columns than in the backup, \
         are looked through at the end, and compared in full when somebody wrote to them ({}{more}).",
        took_ms / 1000,
        took_ms % 1000 / 100,
        names.join(", ")
    ))
}

/// What a person should know of the rows that leave.
pub(crate) fn counted(leaving: &Leaving) -> Vec<String> {
    let mut notes = Vec::new();
    let rows: (u64, u64) = leaving
        .lines
        .iter()
        .flatten()
        .fold((0, 0), |sum, line| (sum.0 + line.created.unwrap_or(0), sum.1 + line.changed.unwrap_or(0)));
    if rows.0 > 0 {
        notes.push(format!("Rows created since, which leave: {}.", rows.0));
    }
    if rows.1 > 0 {
        notes.push(format!("Changes that will be reverted: {}.", rows.1));
    }
    if rows != (0, 0) {
        notes.push("They are kept with this operation: lifeboat salvage list, lifeboat salvage apply.".to_owned());
    }
    notes
}

/// What an operation made live, as a backup holds it, and the moment from which on it was written to.
pub(crate) fn origin(engine: &Engine, operation: &Operation) -> Option<(String, BackupId, String, Option<Horizon>)> {
    let (vault, backup, name) = state_after(engine, operation)?;
    let horizon = operation.plan.steps().find_map(|step| match &step.action {
        Action::Postgres(PgAction::Salvage { .. }) => operation.output(&step.id)?.get("horizon").cloned(),
        _other => None,
    });
    Some((vault, backup, name, horizon.and_then(|horizon| serde_json::from_value(horizon).ok())))
}

/// The backup that holds what was live after an operation.
fn state_after(engine: &Engine, operation: &Operation) -> Option<(String, BackupId, String)> {
    let filled = operation.plan.steps().find_map(|step| match &step.action {
        Action::Postgres(PgAction::Fill { vault, backup, resource, .. }) => {
            Some((vault.clone(), backup.clone(), resource.to_string()))
        }
        Action::Postgres(PgAction::SwapSchemas { from, .. }) => {
            Some((from.vault.clone(), from.backup.clone(), from.resource.to_string()))
        }
        _other => None,
    });
    filled.or_else(|| match &operation.plan.request {
        Request::Undo { operation: undone } => state_before(engine, &engine.look().operation(undone).ok()?),
        _other => None,
    })
}

/// The backup that holds what was live before an operation.
fn state_before(engine: &Engine, operation: &Operation) -> Option<(String, BackupId, String)> {
    let emergency = operation.plan.steps().find_map(|step| match &step.action {
        Action::StoreBackup { vault, backup, reason: BackupReason::Emergency, parts, .. } => {
            Some((vault.clone(), backup.clone(), parts.first()?.resource.name.to_string()))
        }
        _other => None,
    });
    emergency.or_else(|| match &operation.plan.request {
        Request::Undo { operation: undone } => state_after(engine, &engine.look().operation(undone).ok()?),
        _other => None,
    })
}

/// Plans to bring rows back that left with an operation.
pub(crate) fn plan(engine: &Engine, request: &Request) -> Result<Plan, Failure> {
    let Request::BringBack { operation, tables, overwrite, deletes } = request else {
        return Err(steps::wrong_planner());
    };
    let common = engine.common()?;
    let (salvage, _folder) = engine.salvage(operation)?;
    let (resource, url) = engine.home_of(&salvage)?;
    let title = format!("bring rows back into {} of {} that left with {operation}", resource.name, common.scope);
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    let what = Brought {
        url,
        from: operation.clone(),
        resource: Box::new(resource),
        tables: tables.clone(),
        overwrite: *overwrite,
        deletes: *deletes,
    };
    plan.phases = vec![steps::phase(&common, "salvage", vec![], vec![what.bring_back()])];
    let meant = |table: &&SalvagedTable| {
        let named = tables.iter().any(|word| crate::act::is_meant_table(&table.table, word));
        named || crate::act::is_chosen_table(&table.table, tables)
    };
    let chosen: Vec<&SalvagedTable> = salvage.tables.iter().filter(meant).collect();
    let sum = |count: fn(&SalvagedTable) -> u64| chosen.iter().map(|table| count(table)).sum::<u64>();
    let (inserted, updated, deleted) =
        (sum(|table| table.inserted), sum(|table| table.updated), sum(|table| table.deleted));
    plan.notes = vec![
        format!("{inserted} rows were created since; those that are not there are inserted, in one transaction."),
        "A row whose key is taken, whose parent is missing or whose value does not fit is listed, never guessed."
            .to_owned(),
    ];
    let ledgers = salvage.tables.iter().filter(|table| tables.is_empty() && table.inserted > 0 && !meant(table));
    plan.notes.extend(ledgers.map(|table| {
        format!("{} says which migrations were applied, and stays as it is: lifeboat deploy brings them.", table.table)
    }));
    if *overwrite {
        plan.notes.push(format!(
            "{updated} rows had changed: where what came back is still what the backup has, they become as they were live; the \
             others are listed."
        ));
    }
    if *deletes {
        plan.notes.push(format!(
            "{deleted} rows had gone: they are taken away again, unless they were touched since or others refer to them."
        ));
    }
    let left = [(updated, "that had changed", *overwrite), (deleted, "that had gone", *deletes)];
    let left = left.iter().filter(|(rows, _, taken)| *rows > 0 && !taken);
    let left: Vec<String> = left.map(|(rows, which, _)| format!("{rows} rows {which}")).collect();
    if !left.is_empty() {
        let flags = "--overwrite and --deletes bring them too";
        plan.notes
            .push(format!("{} are left as they are ({flags}): lifeboat salvage show {operation}", left.join(" and ")));
    }
    Ok(plan)
}

/// Rows that are brought back or taken away again.
#[derive(Clone)]
pub(crate) struct Brought {
    pub url: String,
    pub from: OperationId,
    pub resource: Box<Resource>,
    pub tables: Vec<String>,
    pub overwrite: bool,
    pub deletes: bool,
}

impl Brought {
    fn actions(&self, by: Option<OperationId>) -> (Action, Action) {
        let Brought { url, from, resource, tables, overwrite, deletes } = self.clone();
        let forth = PgAction::BringBack { url, from, resource, tables, overwrite, deletes };
        let Brought { url, from, resource, tables, .. } = self.clone();
        (Action::Postgres(forth), Action::Postgres(PgAction::TakeAway { url, from, resource, tables, by }))
    }

    pub fn bring_back(&self) -> Step {
        let more = match (self.overwrite, self.deletes) {
            (true, true) => "; write over what had changed, take away what had gone",
            (true, false) => "; write over what had changed",
            (false, true) => "; take away what had gone",
            (false, false) => "",
        };
        let title = format!("insert rows that {} keeps, parents before children{more}", self.from);
        let (forth, back) = self.actions(None);
        step("bring-back", title, StepClass::Idempotent, forth, by(back))
    }

    pub fn take_away(&self, brought_by: &OperationId) -> Step {
        let title = match self.overwrite || self.deletes {
            true => format!("take back what {brought_by} brought in and nobody has changed since"),
            false => format!("take away the rows that {brought_by} inserted and nobody has changed since"),
        };
        let (forth, back) = self.actions(Some(brought_by.clone()));
        step("take-away", title, StepClass::Idempotent, back, by(forth))
    }
}

/// What an operation has brought back, or taken away again.
pub(crate) fn brought_back(operation: &Operation) -> Option<(Brought, bool)> {
    let of = |action: &Action| match action {
        Action::Postgres(PgAction::BringBack { url, from, resource, tables, overwrite, deletes }) => {
            let (url, from, resource, tables) = (url.clone(), from.clone(), resource.clone(), tables.clone());
            Some(Brought { url, from, resource, tables, overwrite: *overwrite, deletes: *deletes })
        }
        _other => None,
    };
    operation.plan.steps().find_map(|step| match (&step.action, &step.undo) {
        (Action::Postgres(PgAction::BringBack { .. }), _) => Some((of(&step.action)?, true)),
        // How it would be brought again is how it was brought.
        (Action::Postgres(PgAction::TakeAway { .. }), Undo::By(forth)) => Some((of(forth)?, false)),
        _other => None,
    })
}

/// Plans to take that back.
pub(crate) fn undo(engine: &Engine, operation: &Operation, request: &Request) -> Result<Plan, Failure> {
    let common = engine.common()?;
    super::undo::may_be_taken_back(operation, &common, request)?;
    let Some((what, is_back)) = brought_back(operation) else { return Err(steps::wrong_planner()) };
    let title = format!("undo {}: {}", operation.id, operation.plan.title);
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    let step = if is_back { what.take_away(&operation.id) } else { what.bring_back() };
    plan.phases = vec![steps::phase(&common, "salvage", vec![], vec![step])];
    if is_back {
        plan.notes.push("Rows that were changed since, or that others refer to, stay and are told.".to_owned());
    }
    Ok(plan)
}
