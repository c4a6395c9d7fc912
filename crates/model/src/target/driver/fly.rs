//! Fly.io: a version is an image that a release had.

use super::Instance;

/// A release in the list of `fly releases --image --json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlyRelease {
    /// Its number.
    pub number: u64,
    /// Whether it went through.
    pub is_complete: bool,
    /// Its image.
    pub image: String,
}

/// Reads the list, newest first, in whatever order it came.
///
/// # Errors
/// It is not that list; in words.
pub fn fly_releases(json: &str) -> Result<Vec<FlyRelease>, String> {
    let list: serde_json::Value = serde_json::from_str(json).map_err(|error| format!("it is no JSON: {error}"))?;
    let list = list.as_array().ok_or("it is no list")?;
    let mut found = Vec::new();
    for one in list {
        let number = one["Version"].as_u64().ok_or("a release has no Version")?;
        let image = one["ImageRef"].as_str().unwrap_or_default().to_owned();
        let is_complete = one["Status"].as_str().is_some_and(|status| matches!(status, "complete" | "succeeded"));
        found.push(FlyRelease { number, is_complete, image });
    }
    found.sort_by_key(|one| std::cmp::Reverse(one.number));
    Ok(found)
}

/// The image that is in use: that of the newest release that went through. Releases of secrets and scale have the image of
/// the one before.
pub fn fly_current(releases: &[FlyRelease]) -> Option<&str> {
    releases.iter().find(|one| one.is_complete && !one.image.is_empty()).map(|one| one.image.as_str())
}

/// The release before: the newest that went through, with another image than the one in use, and that nobody holds for bad.
/// The second line of the list is not it: releases of secrets and scale repeat an image, and failed ones never ran.
pub fn fly_previous<'a>(releases: &'a [FlyRelease], is_bad: &dyn Fn(&str) -> bool) -> Option<&'a FlyRelease> {
    let current = fly_current(releases)?;
    releases.iter().find(|one| one.is_complete && !one.image.is_empty() && one.image != current && !is_bad(&one.image))
}

/// The machines of an app. One that the platform has put to sleep, since nobody asks it, is no instance.
pub(super) fn machines(json: &str) -> Result<Vec<Instance>, String> {
    let list: serde_json::Value = serde_json::from_str(json).map_err(|error| format!("it is no JSON: {error}"))?;
    let list = list.as_array().ok_or("it is no list")?;
    let mut found = Vec::new();
    for one in list {
        let text = |pointer: &str| one.pointer(pointer).and_then(|value| value.as_str()).map(str::to_owned);
        let id = text("/id").ok_or("a machine has no id")?;
        let state = text("/state").ok_or("a machine has no state")?;
        if matches!(state.as_str(), "stopped" | "suspended" | "destroyed" | "destroying") {
            continue;
        }
        let of = text("/instance_id").unwrap_or_default();
        let version = text("/config/image");
        found.push(Instance { id: format!("{id}@{of}"), is_up: state == "started", state, version, process: None });
    }
    Ok(found)
}
