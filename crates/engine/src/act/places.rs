//! Moving files so that a crash at any point leaves the old or the new one, and names that tell which.

use std::path::{Path, PathBuf};

use lifeboat_io::{
    files, holders,
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
    if !held.found.is_empty() {
        let message = format!("{} is open in {held}", path.display());
        return Err(Failure::new(FailureKind::Busy, message).hint("stop it, then run this again"));
    }
    if !held.unseen.is_empty() {
        // Refusing would forbid every restore to a user who is not root; the lock of the swap still keeps SQLite out.
        let text = format!(
            "{} processes of other users could not be looked at; make sure that none of them has {} open, or run it as root.",
            held.unseen.len(),
            path.display()
        );
        context.watch.note(&text);
    }
    Ok(json!({}))
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
    kept || (name.starts_with('.') && name.contains(".lifeboat-p-"))
}
