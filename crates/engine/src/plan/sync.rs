//! Planning what is changed about a mirror. Delivering itself is no plan: its journal is the watermark in the cloud.

use lifeboat_model::{
    Action, Failure, FailureKind, Lease, Plan, Request, ResourceName, Step, StepClass, Undo, advice,
    sync::{Link, SyncAction, SyncAsk, Tier},
};

use super::steps::{self, by, phase, step};
use crate::{
    Engine,
    sync::{Mirror, Standings},
};

/// Plans a change of a mirror.
///
/// # Errors
/// There is no such link; it is switched off for good; what is asked for makes no sense as things are.
pub(crate) fn plan(engine: &Engine, request: &Request, name: &ResourceName, about: &SyncAsk) -> Result<Plan, Failure> {
    let link = engine.link(Some(name))?.clone();
    let mut mirror = engine.mirror(Some(name))?;
    let common = engine.common()?;
    let status = mirror.status()?;
    let acts = Acts { link: &link };
    let was_on = mirror.switch()?.is_some_and(|switch| switch.enabled);
    if !status.attached && !matches!(about, SyncAsk::Attach | SyncAsk::Disable { .. } | SyncAsk::Repair { .. }) {
        let message = format!("{} has no triggers of a mirror", link.file.display());
        return Err(Failure::new(FailureKind::Refused, message).hint("lifeboat sync attach"));
    }
    let mut notes = Vec::new();
    let (title, steps) = match about {
        SyncAsk::Enable => {
            if let Some(setting) = mirror.said().refusal() {
                let failure = Failure::new(FailureKind::Refused, format!("{setting} keeps the mirror {name} off"));
                return Err(failure.hint("take it out of the environment or the app's .env, and start Lifeboat again"));
            }
            (format!("deliver changes of {name} again"), vec![acts.switch("enable", true, "", was_on)])
        }
        SyncAsk::Disable { why } => {
            let off = acts.switch("disable", false, why, was_on);
            let held = acts.read("held", "the mirror says that it holds them", SyncAction::CheckHeld);
            (format!("hold changes of {name}"), vec![off, held])
        }
        SyncAsk::Clear { why } => {
            let waiting = status.queue.queue_size;
            if Tier::of(waiting) < Tier::Advise && why.trim().is_empty() {
                let message = format!("{waiting} changes wait for {name}, which is no reason to clear them");
                return Err(Failure::new(FailureKind::Refused, message).hint("say why with --reason, or let them wait"));
            }
            let saved = mirror.queue_file();
            notes.push(format!("What waits is saved in {} first.", saved.display()));
            let deletes: u64 = status.queue.tables.values().map(|counts| counts.delete).sum();
            if deletes > 0 {
                notes.push(format!(
                    "{deletes} deletes are among it: only a re-sync will take those rows out of the cloud."
                ));
            }
            notes.push("The cloud will lack these changes: lifeboat sync resync brings them there.".to_owned());
            let undo = by(acts.action(SyncAction::Import { file: saved.clone() }));
            let title = format!("save {waiting} waiting changes and clear them");
            let clear = acts.step("clear", title.clone(), SyncAction::Clear { saved }, undo);
            (format!("{title}: {name}"), vec![clear])
        }
        SyncAsk::Import { file } => {
            let title = format!("put the queue saved in {} back", file.display());
            let action = SyncAction::Import { file: file.clone() };
            (title.clone(), vec![acts.step("import", title, action, Undo::Nothing)])
        }
        SyncAsk::Merge { file } => {
            let found = mirror.look_at_saved(file)?;
            notes.extend(found.iter().map(Standings::sentence));
            notes.push(
                "A row that the file has is never written over. What the app does at an insert happens.".to_owned(),
            );
            let new: u64 = found.iter().map(|table| table.new).sum();
            let title = format!("insert {new} rows into {} that only the cloud had", link.file.display());
            let merge = acts.step("merge", title.clone(), SyncAction::Merge { file: file.clone() }, Undo::Nothing);
            (title, if new > 0 { vec![merge] } else { Vec::new() })
        }
        SyncAsk::Attach => (
            format!("mirror {} to {}", link.file.display(), link.cloud),
            attach(&mut mirror, &acts, was_on, &mut notes)?,
        ),
        SyncAsk::Detach => {
            notes.push(format!(
                "What the cloud holds stays there; {} changes that wait are saved.",
                status.queue.queue_size
            ));
            let saved = mirror.queue_file();
            let off = acts.switch("disable", false, "detached", was_on);
            let clear = acts.step("clear", "save what waits".to_owned(), SyncAction::Clear { saved }, Undo::Nothing);
            let undo = by(acts.action(SyncAction::Attach));
            let detach = acts.step(
                "detach",
                format!("take the triggers out of {}", link.file.display()),
                SyncAction::Detach,
                undo,
            );
            (format!("mirror {} no more", link.file.display()), vec![off, clear, detach])
        }
        SyncAsk::Resync { tables, keep_orphans, emptied } => {
            notes
                .push("The file is only read. What is only in the cloud is kept in lifeboat.deleted there.".to_owned());
            (
                format!("copy {} to the cloud where it differs", link.file.display()),
                resync(&acts, tables, *keep_orphans, emptied),
            )
        }
        SyncAsk::Repair { tables } => {
            let doubled = mirror.doubled(&lifeboat_io::Stop::default())?;
            let meant = doubled.iter().filter(|(table, _)| tables.is_empty() || tables.contains(table));
            notes.extend(meant.clone().map(|(table, rows)| {
                format!(
                    "{table}: {rows} rows are there again; the newest of each stays, the others go to lifeboat.deleted."
                )
            }));
            let names: Vec<&str> = meant.map(|(table, _)| table.as_str()).collect();
            let mut steps = Vec::new();
            if !names.is_empty() {
                let title = format!("leave one of each row, and make the key unique: {}", names.join(", "));
                steps.push(acts.step("dedupe", title, SyncAction::Dedupe { tables: tables.clone() }, Undo::Nothing));
            }
            match status.attached {
                true => steps.extend(resync(&acts, tables, false, &[])),
                false => notes
                    .push("Nothing is copied, since the file is not mirrored yet: lifeboat sync attach.".to_owned()),
            }
            (format!("repair the mirror {name}"), steps)
        }
        SyncAsk::Widen { tables } => {
            let columns = mirror.too_narrow(tables, &lifeboat_io::Stop::default())?;
            notes.extend(columns.iter().map(|one| {
                let (table, column, rows) = (&one.table, &one.column, one.rows);
                format!("{table}.{column} becomes {}; it is {}, and {rows} rows do not fit.", one.to, one.from)
            }));
            let mut steps = Vec::new();
            if columns.is_empty() {
                notes.push("No column that was looked at is too narrow for what the file holds.".to_owned());
            } else {
                notes.push(
                    "Each table is locked while it is rewritten; lifeboat sync check compares it then.".to_owned(),
                );
                let names: Vec<String> = columns.iter().map(|one| format!("{}.{}", one.table, one.column)).collect();
                let title = format!("make {} wider, and try rows again", names.join(", "));
                steps.push(acts.step("widen", title, SyncAction::Widen { columns }, Undo::Nothing));
            }
            (format!("make columns of {name} wider"), steps)
        }
        SyncAsk::StartOver { why, emptied } => {
            if let Some(setting) = mirror.said().refusal() {
                let failure = Failure::new(FailureKind::Refused, format!("{setting} keeps the mirror {name} off"));
                return Err(failure.hint("take it out of the environment or the app's .env, and start Lifeboat again"));
            }
            let saved = mirror.queue_file();
            notes.push(format!("What waits is saved in {}; all of it comes with the copy.", saved.display()));
            notes.push("Changes are delivered again only when both sides are seen to hold the same.".to_owned());
            let undo = by(acts.action(SyncAction::Import { file: saved.clone() }));
            let title = format!("save {} waiting changes and clear them", status.queue.queue_size);
            // Not taken back: what is not seen to be equal is not delivered to again.
            let off = SyncAction::Switch { on: false, why: why.clone() };
            let off = acts.step("disable", "hold changes".to_owned(), off, Undo::Nothing);
            let mut steps = vec![off, acts.step("clear", title, SyncAction::Clear { saved }, undo)];
            steps.extend(resync(&acts, &[], false, emptied));
            steps.push(acts.switch("enable", true, why, was_on));
            (format!("copy {} to the cloud anew", link.file.display()), steps)
        }
        SyncAsk::ConfirmDeletes { tables } => {
            let held: u64 = status.held_deletes.values().sum();
            let title = format!("let {held} held deletes of {name} go on");
            let action = SyncAction::ConfirmDeletes { tables: tables.clone() };
            (title.clone(), vec![acts.step("confirm", title, action, Undo::Nothing)])
        }
        SyncAsk::Letters { choice, ids } => {
            let word = match choice {
                lifeboat_model::sync::LetterChoice::Retry => "try rows again that were set aside",
                lifeboat_model::sync::LetterChoice::Drop => "forget rows that were set aside",
            };
            let action = SyncAction::Letters { choice: *choice, ids: ids.clone() };
            (format!("{word}: {name}"), vec![acts.step("letters", word.to_owned(), action, Undo::Nothing)])
        }
    };
    let lease = match about {
        SyncAsk::Attach | SyncAsk::Detach | SyncAsk::Resync { .. } | SyncAsk::StartOver { .. } => Lease::Mirror,
        SyncAsk::Repair { .. } | SyncAsk::Widen { .. } | SyncAsk::Merge { .. } => Lease::Mirror,
        SyncAsk::Enable | SyncAsk::Disable { .. } | SyncAsk::Clear { .. } | SyncAsk::Import { .. } => Lease::Sync,
        SyncAsk::ConfirmDeletes { .. } | SyncAsk::Letters { .. } => Lease::Sync,
    };
    let mut plan = steps::new_plan(&common, request, title, lease);
    plan.phases = vec![phase(&common, "sync", vec![], steps)];
    plan.phases.iter_mut().for_each(|phase| phase.budget_ms = phase.budget_ms.or(budget_ms(about)));
    plan.notes = notes;
    Ok(plan)
}

/// How long the emergency levels of the document may take: level 1, 2 and 4.
fn budget_ms(about: &SyncAsk) -> Option<u64> {
    match about {
        SyncAsk::Disable { .. } => Some(advice::budget_ms(1)),
        SyncAsk::Clear { .. } => Some(advice::budget_ms(2)),
        SyncAsk::StartOver { .. } | SyncAsk::Resync { .. } | SyncAsk::Repair { .. } => Some(advice::budget_ms(4)),
        SyncAsk::Enable | SyncAsk::Import { .. } | SyncAsk::Attach | SyncAsk::Detach => None,
        SyncAsk::ConfirmDeletes { .. } | SyncAsk::Letters { .. } | SyncAsk::Widen { .. } => None,
        SyncAsk::Merge { .. } => None,
    }
}

pub(super) struct Acts<'a> {
    pub link: &'a Link,
}

impl Acts<'_> {
    pub fn action(&self, action: SyncAction) -> Action {
        Action::Sync { link: Box::new(self.link.clone()), action }
    }

    pub fn step(&self, id: &str, title: String, action: SyncAction, undo: Undo) -> Step {
        step(id, title, StepClass::Idempotent, self.action(action), undo)
    }

    pub fn read(&self, id: &str, title: &str, action: SyncAction) -> Step {
        steps::read(id, title, self.action(action))
    }

    pub fn switch(&self, id: &str, on: bool, why: &str, was_on: bool) -> Step {
        let title = match on {
            true => "deliver changes",
            false => "hold changes",
        };
        let undo = by(self.action(SyncAction::Switch { on: was_on, why: format!("put back: {why}") }));
        self.step(id, title.to_owned(), SyncAction::Switch { on, why: why.to_owned() }, undo)
    }
}

fn attach(mirror: &mut Mirror, acts: &Acts<'_>, was_on: bool, notes: &mut Vec<String>) -> Result<Vec<Step>, Failure> {
    let plan = mirror.plan_attach()?;
    if plan.tables.is_empty() {
        let failure = Failure::new(FailureKind::Refused, "there is no table that can be mirrored");
        return Err(plan
            .refused
            .iter()
            .fold(failure, |failure, (table, why)| failure.because(format!("{table}: {why}"))));
    }
    notes.extend(plan.refused.iter().map(|(table, why)| format!("{table} is not mirrored: {why}.")));
    notes.push(
        "Triggers note the keys of changed rows in the same transaction; `DELETE` without `WHERE` becomes slower."
            .to_owned(),
    );
    notes.extend(plan.statements.iter().map(|statement| format!("{statement};")));
    let undo = by(acts.action(SyncAction::Detach));
    let triggers = format!("put triggers on {} into the file", plan.tables.join(", "));
    let mut steps = vec![acts.step("attach", triggers, SyncAction::Attach, undo)];
    if mirror.said().refusal().is_some() {
        notes.push(
            "No connection is opened: the environment keeps the mirror off. Changes are noted from now on.".to_owned(),
        );
        return Ok(steps);
    }
    let prepare = SyncAction::PrepareCloud;
    steps.insert(0, acts.step("prepare", "make what is missing in the cloud".to_owned(), prepare, Undo::Nothing));
    steps.extend(resync(acts, &[], true, &[]));
    steps.push(acts.switch("enable", true, "attached", was_on));
    Ok(steps)
}

fn resync(acts: &Acts<'_>, tables: &[String], keep_orphans: bool, emptied: &[String]) -> Vec<Step> {
    let tables = tables.to_vec();
    let local = SyncAction::CheckLocal { emptied: emptied.to_vec() };
    let copy = SyncAction::Resync { tables: tables.clone(), keep_orphans };
    let mut steps = vec![
        acts.read("check-local", "the file is sound, and not suddenly empty", local),
        acts.step("resync", "copy rows that differ".to_owned(), copy, Undo::Nothing),
    ];
    if !keep_orphans {
        let compare = SyncAction::Compare { tables };
        steps.push(acts.read("compare", "both sides hold the same", compare));
    }
    steps
}
