//! Moving files so that a crash at any point leaves the old or the new one, and names that tell which.

use std::path::{Path, PathBuf};

use lifeboat_io::{files, holders, place};
use lifeboat_model::{Failure, FailureKind, Found};
use serde_json::{Value, json};

use super::{Hands, errors::path_failure};
use crate::perform::Context;

pub fn check_unused(path: &Path) -> Result<Value, Failure> {
    let held = holders::holders(path).map_err(|error| {
        let failure = Failure::new(FailureKind::Unknown, format!("it cannot be told who has {} open", path.display()));
        failure.because(error.to_string())
    })?;
    let names = held.names();
    if !names.is_empty() {
        let message = format!("{} is open in {}", path.display(), names.join(", "));
        return Err(Failure::new(FailureKind::Busy, message).hint("stop it, then run this again"));
    }
    Ok(json!({}))
}

pub fn set_aside(live: &Path, kept: &Path, context: &Context<'_>) -> Result<Value, Failure> {
    place::set_aside(live, kept, context.stop).map_err(|error| place_failure(&error))?;
    Ok(json!({ "kept": kept }))
}

pub fn bring_back(live: &Path, kept: &Path, context: &Context<'_>) -> Result<Value, Failure> {
    let back = place::bring_back(live, kept, context.stop).map_err(|error| place_failure(&error))?;
    if let Some(other) = &back.moved_aside {
        context.watch.note(&format!("Something had been created at {} meanwhile; it is now {}.", live.display(), other.display()));
    }
    Ok(json!({ "moved_aside": back.moved_aside }))
}

pub fn put_in_place(aside: &Path, live: &Path, like: Option<&Path>) -> Result<Value, Failure> {
    place::put_in_place(aside, live, like).map_err(|error| place_failure(&error))?;
    Ok(json!({ "live": live }))
}

pub fn take_away(aside: &Path, live: &Path) -> Result<Value, Failure> {
    place::take_away(aside, live).map_err(|error| place_failure(&error))?;
    Ok(json!({}))
}

fn place_failure(error: &place::PlaceError) -> Failure {
    let kind = match error {
        place::PlaceError::Held { .. } => FailureKind::Busy,
        place::PlaceError::Stopped(_) => FailureKind::Interrupted,
        _other => FailureKind::Outside,
    };
    Failure::from_error(kind, error)
}

fn found(state: Result<place::PlaceState, place::PlaceError>) -> Result<(Found, Value), Failure> {
    let state = state.map_err(|error| place_failure(&error))?;
    let found = match state {
        place::PlaceState::NotStarted => Found::NotStarted,
        place::PlaceState::Done => Found::Done,
        place::PlaceState::Partial => Found::Partial,
        place::PlaceState::Unknown => Found::Unknown,
    };
    Ok((found, json!({ "adopted": true })))
}

pub fn probe_set_aside(live: &Path, kept: &Path) -> Result<(Found, Value), Failure> {
    found(place::set_aside_state(live, kept))
}

pub fn probe_bring_back(live: &Path, kept: &Path) -> Result<(Found, Value), Failure> {
    found(place::bring_back_state(live, kept))
}

pub fn probe_put_in_place(aside: &Path, live: &Path) -> Result<(Found, Value), Failure> {
    found(place::put_in_place_state(aside, live))
}

pub fn probe_take_away(aside: &Path, live: &Path) -> Result<(Found, Value), Failure> {
    found(place::take_away_state(aside, live))
}

/// Removes files of ours, and no others: working copies in the state folder, and names that only we give.
pub fn remove(hands: &Hands, paths: &[PathBuf]) -> Result<Value, Failure> {
    for path in paths {
        if !hands.state.may_remove(path) && !has_our_name(path) {
            let message = format!("{} is not a file of Lifeboat's; it is not removed", path.display());
            return Err(Failure::new(FailureKind::Bug, message));
        }
        files::remove_any(path).map_err(|error| path_failure(&error))?;
    }
    Ok(json!({}))
}

fn has_our_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = ["REPLACED", "CORRUPTED", "UNDONE"].iter().any(|word| name.contains(&format!(".{word}.")));
    kept || (name.starts_with('.') && name.contains(".lifeboat-p-"))
}
