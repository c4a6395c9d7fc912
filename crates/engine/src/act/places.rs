//! Moving files so that a crash at any point leaves the old or the new one, and names that tell which.

use std::path::{Path, PathBuf};

use lifeboat_io::{
    files,
    holders::{self, Holders, LockError, Process},
    place::{self, Moved, PlaceError, PlaceState, Thing},
};
use lifeboat_model::{Failure, FailureKind, Found};
use serde_json::{Value, json};

use super::{Hands, errors::path_failure};
use crate::perform::Context;

pub fn check_unused(path: &Path, context: &Context<'_>) -> Result<Value, Failure> {
    let held = holders::holders(path).map_err(|error| {
        let failure = Failure::new(FailureKind::Unknown, format!("it cannot be told who has {} open", path.display()));
        failure.because(error.to_string())
    })?;
    let note = judge(path, &held, &|| holders::lock_holder(path), is_urgent(context))?;
    note.iter().for_each(|note| context.watch.note(note));
    Ok(json!({}))
}

/// What those who were seen, and those who may not be looked at, mean for a swap: a note, or a refusal.
fn judge(
    path: &Path,
    held: &Holders,
    lock_holder: &dyn Fn() -> Result<Option<Process>, LockError>,
    urgent: bool,
) -> Result<Option<String>, Failure> {
    if !held.found.is_empty() {
        let message = format!("{} is open in {held}", path.display());
        return Err(Failure::new(FailureKind::Busy, message).hint("stop it, then run this again"));
    }
    if held.unseen.is_empty() {
        return Ok(None);
    }
    // Refusing whenever somebody may not be looked at would forbid every restore to a user who is not root. A lock is not to
    // be argued with, not even when it is urgent: the swap would stop at it too, for the sake of both databases.
    match lock_holder() {
        Ok(Some(process)) => Err(used_unseen(path, Some(&process))),
        Ok(None) => Ok(Some(unseen(path, held.unseen.len()))),
        Err(error) if urgent => Ok(Some(format!("{} It cannot be told: {error}.", unseen(path, held.unseen.len())))),
        Err(error) => Err(used_unseen(path, None).because(error.to_string())),
    }
}

fn unseen(path: &Path, count: usize) -> String {
    format!(
        "{count} processes of other users could not be looked at, and none has a lock on {0}; make sure that none of them has \
         {0} open, or run it as root.",
        path.display()
    )
}

fn used_unseen(path: &Path, process: Option<&Process>) -> Failure {
    let path = path.display();
    let message = match process {
        Some(process) => format!("{process}, which this user may not look at, has a lock on {path}"),
        None => format!("it cannot be told whether a process of another user has {path} open"),
    };
    let kind = if process.is_some() { FailureKind::Busy } else { FailureKind::Unknown };
    Failure::new(kind, message).hint("stop it, or set `stop` and `start` in lifeboat.toml, then run this again")
}

/// Whether somebody said that there is no time, and why.
fn is_urgent(context: &Context<'_>) -> bool {
    matches!(&context.operation.plan.request, lifeboat_model::Request::Restore { urgent: Some(_), .. })
}

fn thing(database: bool) -> Thing {
    if database { Thing::Database } else { Thing::Plain }
}

pub fn set_aside(database: bool, live: &Path, kept: &Path, context: &Context<'_>) -> Result<Value, Failure> {
    told(place::set_aside(thing(database), live, kept, context.stop), context)?;
    Ok(json!({ "kept": kept }))
}

pub fn bring_back(database: bool, live: &Path, kept: &Path, context: &Context<'_>) -> Result<Value, Failure> {
    let moved = told(place::bring_back(thing(database), live, kept, context.stop), context)?;
    Ok(json!({ "live": live, "moved_away": moved.moved_away }))
}

pub fn put_in_place(
    database: bool,
    aside: &Path,
    live: &Path,
    like: Option<&Path>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    told(place::put_in_place(thing(database), aside, live, like, context.stop), context)?;
    Ok(json!({ "live": live }))
}

pub fn take_away(database: bool, aside: &Path, live: &Path, context: &Context<'_>) -> Result<Value, Failure> {
    told(place::take_away(thing(database), live, aside, context.stop), context)?;
    Ok(json!({ "kept": aside }))
}

/// Tells what a move did beyond what was asked for.
fn told(moved: Result<Moved, PlaceError>, context: &Context<'_>) -> Result<Moved, Failure> {
    let moved = moved.map_err(|error| place_failure(&error))?;
    for (found, away) in &moved.moved_away {
        let text =
            format!("Something had been created at {} meanwhile; it is now {}.", found.display(), away.display());
        context.watch.note(&text);
    }
    if let Some(note) = &moved.note {
        context.watch.note(note);
    }
    Ok(moved)
}

fn place_failure(error: &PlaceError) -> Failure {
    let (kind, hint) = match error {
        PlaceError::Held { .. } | PlaceError::NotLocked { .. } => {
            (FailureKind::Busy, Some("stop the program, or set `stop` and `start` in lifeboat.toml, then run it again"))
        }
        PlaceError::Missing { .. } | PlaceError::Link { .. } | PlaceError::NotTogether { .. } => {
            (FailureKind::Refused, None)
        }
        PlaceError::Occupied { .. } => {
            (FailureKind::Refused, Some("move it away if it is not needed, then resume or abort"))
        }
        PlaceError::Stray { .. } => {
            (FailureKind::Refused, Some("move it away together with the database it belongs to"))
        }
        PlaceError::Parted { .. } => (FailureKind::NeedsPerson, Some("look at both before deciding which one to keep")),
        PlaceError::Stopped(_) => (FailureKind::Interrupted, None),
        PlaceError::Io { .. } => (FailureKind::Outside, None),
    };
    let failure = Failure::from_error(kind, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn found(state: PlaceState) -> (Found, Value) {
    let found = match state {
        PlaceState::NotStarted => Found::NotStarted,
        PlaceState::Done => Found::Done,
        PlaceState::Partial => Found::Partial,
        PlaceState::Unknown => Found::Unknown,
    };
    (found, json!({ "adopted": true }))
}

pub fn probe_set_aside(database: bool, live: &Path, kept: &Path) -> (Found, Value) {
    found(place::set_aside_state(thing(database), live, kept))
}

/// The opposite of setting aside: done when nothing is kept any more and something is live.
pub fn probe_bring_back(database: bool, live: &Path, kept: &Path) -> (Found, Value) {
    found(match place::set_aside_state(thing(database), live, kept) {
        PlaceState::NotStarted => PlaceState::Done,
        PlaceState::Done => PlaceState::NotStarted,
        PlaceState::Partial => PlaceState::Partial,
        PlaceState::Unknown => PlaceState::Unknown,
    })
}

pub fn probe_put_in_place(aside: &Path, live: &Path) -> (Found, Value) {
    // Its name is of this plan alone: as long as it is there, the rename has not happened, whatever is at `live` by now.
    if files::exists(aside) {
        return found(PlaceState::NotStarted);
    }
    found(place::put_in_place_state(aside, live))
}

/// Removes files of ours, and no others: working copies in the state folder, and names that only we give.
pub fn remove(hands: &Hands, paths: &[PathBuf]) -> Result<Value, Failure> {
    for path in paths {
        if !hands.state.may_remove(path) && !has_our_name(path) {
            let message = format!("{} is not a file of Lifeboat's; it is not removed", path.display());
            return Err(Failure::new(FailureKind::Bug, message));
        }
        files::remove_any(path).map_err(|error| path_failure(&error))?;
        // The plan's own folder goes with the last thing in it.
        let folder = files::parent(path);
        if hands.state.may_remove(folder) {
            files::remove_folder_if_empty(folder).map_err(|error| path_failure(&error))?;
        }
    }
    Ok(json!({}))
}

fn has_our_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = ["REPLACED", "CORRUPTED", "UNDONE"].iter().any(|word| name.contains(&format!(".{word}.")));
    kept || crate::aliases::day_of(&name).is_some() || (name.starts_with('.') && name.contains(".lifeboat-p-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_io::holders::{Hold, Holder};

    #[test]
    fn who_may_not_be_looked_at_is_told_and_a_lock_of_theirs_refused() {
        let path = Path::new("/srv/shop.db");
        let process = || Process { pid: 7, name: "till".to_owned() };
        let seen = Holder { process: process(), how: Hold::Open(path.to_owned()) };
        let held = |found: &[Holder], unseen: &[Process]| Holders { found: found.to_vec(), unseen: unseen.to_vec() };
        let nobody = || Ok(None);
        let somebody = || Ok(Some(process()));
        let denied = || Err(LockError::OwnUse { path: path.to_owned() });
        type Ask<'a> = &'a dyn Fn() -> Result<Option<Process>, LockError>;
        let cases: &[(Holders, Ask<'_>, bool, Result<bool, FailureKind>)] = &[
            (held(&[], &[]), &somebody, false, Ok(false)),
            (held(&[seen], &[]), &nobody, true, Err(FailureKind::Busy)),
            (held(&[], &[process()]), &nobody, false, Ok(true)),
            (held(&[], &[process()]), &somebody, false, Err(FailureKind::Busy)),
            (held(&[], &[process()]), &somebody, true, Err(FailureKind::Busy)),
            (held(&[], &[process()]), &denied, false, Err(FailureKind::Unknown)),
            (held(&[], &[process()]), &denied, true, Ok(true)),
        ];
        for (holders, ask, urgent, wanted) in cases {
            let judged = judge(path, holders, *ask, *urgent);
            let judged = judged.map(|note| note.is_some()).map_err(|failure| failure.kind);
            assert_eq!(judged, *wanted, "{holders:?}, urgent: {urgent}");
        }
    }
}
