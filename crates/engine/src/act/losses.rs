//! What would be lost by a restore: as far as the manifest tells when it is planned, and row by row before the swap.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use lifeboat_io::{
    Stop,
    database::sqlite::{self, TableChange, TableLook},
    files,
};
use lifeboat_model::{
    AcceptLoss, Action, BackupId, Content, Failure, FailureKind, Loss, LossLine, PgAction, Plan, Resource,
    ResourceKind, ResourceManifest, ResourceName, SqliteFacts, TableFacts, loss::not_accepted,
};
use serde_json::{Value, json};

use super::errors::sqlite_failure;
use crate::{Engine, perform::Context};

/// What would be gone if a backup took the place of what is live, as far as its manifest tells: per table, rows then and
/// now, and those that say that they are younger.
///
/// # Errors
/// When the live database cannot be read.
pub fn preview(resource: &Resource, part: &ResourceManifest) -> Result<Option<Loss>, Failure> {
    let (ResourceKind::Sqlite { path }, Content::Sqlite(facts)) = (&resource.kind, &part.content) else {
        return Ok(None);
    };
    let what = lines_now(path, facts)?;
    Ok(Some(Loss { resource: resource.name.clone(), since: part.recovery_point, what, kept: String::new() }))
}

fn lines_now(path: &Path, facts: &SqliteFacts) -> Result<Vec<LossLine>, Failure> {
    let now = sqlite::look_at_tables(path, facts, &Stop::default()).map_err(|error| sqlite_failure(&error))?;
    let theirs = facts.tables.keys().filter(|table| !table.starts_with("sqlite_"));
    let tables: BTreeSet<&String> = theirs.chain(now.keys()).collect();
    let line = |table: &String| first_line(table, facts.tables.get(table), now.get(table));
    Ok(tables.into_iter().filter_map(line).collect())
}

/// What a first look tells of one table; nothing when it certainly holds what the backup holds.
fn first_line(table: &str, then: Option<&TableFacts>, now: Option<&TableLook>) -> Option<LossLine> {
    let line = LossLine { table: table.to_owned(), differs: true, ..LossLine::default() };
    let (then, now) = match (then, now) {
        (Some(then), Some(now)) => (then, now),
        (Some(then), None) => {
            return Some(LossLine { rows_backup: Some(then.rows), deleted: Some(then.rows), ..line });
        }
        (None, Some(now)) => {
            let (rows, digest_now) = (Some(now.rows), now.digest.clone());
            return Some(LossLine { rows_now: rows, created: rows, changed: Some(0), digest_now, ..line });
        }
        (None, None) => return None,
    };
    // What the rows say of themselves may be too little: more rows than there were have come in any case.
    let created = now.created.unwrap_or(0).max(now.rows.saturating_sub(then.rows));
    let deleted = (then.rows + created).saturating_sub(now.rows);
    let same = now.digest.as_ref().map(|digest| *digest == then.digest);
    let nothing_seen = created == 0 && deleted == 0 && now.changed.unwrap_or(0) == 0;
    if same == Some(true) || (same.is_none() && nothing_seen) {
        return None;
    }
    Some(LossLine {
        rows_backup: Some(then.rows),
        rows_now: Some(now.rows),
        created: Some(created),
        // A difference that no time explains: in how many rows is known only when the backup is at hand.
        changed: if nothing_seen { None } else { now.changed },
        deleted: Some(deleted),
        newest: now.newest.clone(),
        digest_now: now.digest.clone(),
        ..line
    })
}

/// How long the plan of an undo may compare row by row. It is to be there in seconds.
const COMPARE_KEPT: Duration = Duration::from_secs(3);

/// What leaves when a database that was set aside takes its place again: what was written since the other one was put
/// there. That one came out of a backup, of which `restored` knows the tables; without it, all that is in no row of what
/// was kept. `rows_backup` are those of what comes back.
/// With the lines comes why they are not all, when they are not.
///
/// # Errors
/// When one of the two cannot be read.
pub fn leaving(
    live: &Path,
    kept: &Path,
    restored: Option<&SqliteFacts>,
) -> Result<(Vec<LossLine>, Option<String>), Failure> {
    let failed = |error: sqlite::SqliteError| sqlite_failure(&error);
    let numbers_only = |why: String| Some(format!("only numbers of rows and their times were compared, since {why}"));
    let (written, uncounted) = match restored {
        Some(facts) => {
            let is_large = files::size(live).is_ok_and(|bytes| bytes > sqlite::DIGEST_BYTES_MAX);
            (lines_now(live, facts)?, if is_large { numbers_only("it is large".to_owned()) } else { None })
        }
        None => match sqlite::compare_kept(live, kept, COMPARE_KEPT).map_err(failed)? {
            Some(changes) => (changes.into_iter().map(|(table, change)| line_of(table, &change)).collect(), None),
            None => {
                let why = format!("comparing every row takes more than {} s", COMPARE_KEPT.as_secs());
                (Vec::new(), numbers_only(why))
            }
        },
    };
    let (now, then) = (sqlite::count_rows(live).map_err(failed)?, sqlite::count_rows(kept).map_err(failed)?);
    let tables: BTreeSet<&String> = now.keys().chain(then.keys()).filter(|name| !name.starts_with("sqlite_")).collect();
    let line = |table: &String| {
        let seen = written.iter().find(|line| line.table == *table).cloned();
        let (rows_backup, rows_now) = (then.get(table).copied(), now.get(table).copied());
        let untouched = LossLine { table: table.clone(), differs: true, ..LossLine::default() };
        let line = match (seen, restored) {
            (Some(seen), _) => LossLine { newest: BTreeMap::new(), ..seen },
            (None, Some(_)) => LossLine { created: Some(0), changed: Some(0), deleted: Some(0), ..untouched },
            (None, None) => untouched,
        };
        let line = LossLine { rows_backup, rows_now, ..line };
        let differs = rows_backup != rows_now || line.rows_lost() > 0 || line.is_uncounted();
        differs.then_some(line)
    };
    Ok((tables.into_iter().filter_map(line).collect(), uncounted))
}

/// What is compared, and what somebody has agreed to.
pub struct What<'a> {
    pub live: &'a Path,
    pub restored: &'a Path,
    pub shown: Option<&'a [LossLine]>,
    pub accepted: AcceptLoss,
}

/// Counts row by row what would be lost, and fails when nobody has agreed to that.
pub fn compare(what: &What<'_>, context: &Context<'_>) -> Result<Value, Failure> {
    if !files::exists(what.live) {
        return Ok(json!({ "lost": [] }));
    }
    let found = match sqlite::compare_live(what.live, what.restored, context.stop) {
        Ok(changes) => changes.into_iter().map(|(table, change)| line_of(table, &change)).collect::<Vec<_>>(),
        Err(sqlite::SqliteError::Stopped(stopped)) => {
            return Err(Failure::from_error(FailureKind::Interrupted, &stopped));
        }
        Err(error) if what.shown.is_none() || what.accepted == AcceptLoss::Any => {
            // That it cannot be counted was told when it was planned; both files are kept.
            let why = sqlite_failure(&error).to_string();
            context.watch.note(&format!("What is lost cannot be counted: {why}."));
            return Ok(json!({ "uncounted": why }));
        }
        Err(error) => {
            let failure = sqlite_failure(&error);
            let failure = Failure { kind: FailureKind::Unknown, ..failure };
            let failure = failure.while_doing("it cannot be told any more what would be lost");
            return Err(failure.hint("if that does not matter: --accept-loss any"));
        }
    };
    let shown = what.shown.unwrap_or(&found);
    let is_as_shown = |line: &LossLine| is_as_shown(what.live, line, context.stop);
    let refused = not_accepted(shown, &found, what.accepted, &is_as_shown);
    match grown(&refused, &found, &context.operation.plan) {
        None => Ok(json!({ "lost": found })),
        Some(failure) => Err(failure),
    }
}

fn line_of(table: String, change: &TableChange) -> LossLine {
    LossLine {
        table,
        rows_backup: change.rows_copy,
        rows_now: change.rows_live,
        differs: true,
        created: Some(change.created),
        changed: Some(change.changed),
        deleted: Some(change.deleted),
        ..LossLine::default()
    }
}

/// Whether a table holds to this moment what it held when its line was written.
fn is_as_shown(live: &Path, line: &LossLine, stop: &Stop) -> bool {
    let Some(then) = &line.digest_now else { return false };
    sqlite::table_digest(live, &line.table, stop).is_ok_and(|now| now == *then)
}

/// The refusal, with the figure and what to type; nothing when nothing was refused.
pub(super) fn grown(refused: &[&LossLine], found: &[LossLine], plan: &Plan) -> Option<Failure> {
    if refused.is_empty() {
        return None;
    }
    let all: u64 = found.iter().map(LossLine::rows_lost).sum();
    let message = format!("more would be lost than was agreed to: {all} rows in all; nothing was replaced");
    let failure = refused.iter().fold(Failure::new(FailureKind::Stale, message), |failure, line| {
        let (created, changed) = (line.created.unwrap_or(0), line.changed.unwrap_or(0));
        failure.because(format!("{}: {created} rows came and {changed} changed since the backup", line.table))
    });
    let again = fetched(plan).map_or_else(String::new, |(backup, resource)| {
        format!("lifeboat restore {resource} --from {backup} --accept-loss {all}")
    });
    Some(failure.hint(again))
}

/// What a plan brings back.
fn fetched(plan: &Plan) -> Option<(&BackupId, &ResourceName)> {
    plan.steps().find_map(|step| match &step.action {
        Action::Fetch { backup, resource, .. } | Action::Postgres(PgAction::Fill { backup, resource, .. }) => {
            Some((backup, resource))
        }
        Action::Postgres(PgAction::SwapSchemas { from, .. }) => Some((&from.backup, &from.resource)),
        _other => None,
    })
}

impl Engine {
    /// Looks again at what a plan would lose, before it is carried out.
    ///
    /// # Errors
    /// [`FailureKind::Stale`] with the tables in which that has become more than was shown or agreed to.
    pub fn check_losses(&self, plan: &Plan) -> Result<(), Failure> {
        if let Some(failure) = super::postgres::losses::check_again(self, plan)? {
            return Err(failure);
        }
        let compared = plan.steps().find_map(|step| match &step.action {
            Action::CompareLoss { live, shown: Some(shown), accepted, .. } => Some((live, shown, *accepted)),
            _other => None,
        });
        let (Some((live, shown, accepted)), Some((backup, resource))) = (compared, fetched(plan)) else {
            return Ok(());
        };
        let manifest = self.manifest(backup)?;
        let Some(Content::Sqlite(facts)) = manifest.resource(resource).map(|part| &part.content) else {
            return Ok(());
        };
        if accepted == AcceptLoss::Any || !files::exists(live) {
            return Ok(());
        }
        let found = lines_now(live, facts)?;
        let same = |before: &LossLine| {
            found.iter().any(|now| now.table == before.table && now.digest_now.is_some() && now == before)
        };
        grown(&not_accepted(shown, &found, accepted, &same), &found, plan).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_look_says_what_it_can_and_no_more() {
        let then = TableFacts { rows: 10, digest: "aa".into(), ..TableFacts::default() };
        let look = |rows: u64, digest: &str, created: Option<u64>, changed: Option<u64>| TableLook {
            rows,
            digest: (!digest.is_empty()).then(|| digest.to_owned()),
            created,
            changed,
            ..TableLook::default()
        };
        type Figures = Option<(Option<u64>, Option<u64>, Option<u64>)>;
        let cases: &[(TableLook, Figures)] = &[
            (look(10, "aa", None, None), None),
            (look(10, "bb", None, None), Some((Some(0), None, Some(0)))),
            (look(10, "bb", Some(0), Some(0)), Some((Some(0), None, Some(0)))),
            (look(10, "bb", Some(2), Some(1)), Some((Some(2), Some(1), Some(2)))),
            (look(13, "bb", None, None), Some((Some(3), None, Some(0)))),
            (look(13, "bb", Some(5), None), Some((Some(5), None, Some(2)))),
            (look(10, "", None, None), None),
            (look(7, "", None, None), Some((Some(0), None, Some(3)))),
        ];
        for (now, wanted) in cases {
            let line = first_line("t", Some(&then), Some(now));
            assert_eq!(line.map(|line| (line.created, line.changed, line.deleted)), *wanted, "{now:?}");
        }
    }
}
