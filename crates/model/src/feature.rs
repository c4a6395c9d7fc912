//! Features of the app that can be switched off one by one while something is wrong with them, and switched on again when it is over.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{id::OperationId, resource::ResourceName, target::Target, time::Timestamp};

/// A feature that can be switched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// What the settings call it.
    pub name: ResourceName,
    /// By what.
    pub switch: Switch,
    /// What runs it, when somebody said.
    pub target: Option<Target>,
    /// Whether that is started anew after it was switched: an app reads its variables when it starts.
    pub restart: bool,
    /// What answers with 404 or 503 exactly while it is off: a whole address.
    pub probe: Option<String>,
}

/// By what a feature is switched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Switch {
    /// A command each, which may be repeated.
    Command {
        /// Switches it off.
        off: Vec<String>,
        /// Switches it on.
        on: Vec<String>,
    },
    /// A variable in a file of variables.
    Variable {
        /// The file.
        file: PathBuf,
        /// The variable.
        name: String,
        /// What it holds while the feature is off.
        off: String,
        /// What it holds while it is on.
        on: String,
    },
}

/// That a feature is on or off, as it was seen: what goes on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureSeen {
    /// Which.
    pub feature: ResourceName,
    /// Whether it is on.
    pub on: bool,
    /// What has to answer so; nothing when nobody has said how it can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// How long it may take to do so, in milliseconds.
    pub limit_ms: u64,
}

/// How a feature stands, by what is on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeatureState {
    /// Which.
    pub feature: ResourceName,
    /// Whether it is on; what was never switched is.
    pub on: bool,
    /// Since when, when it was ever switched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The incident during which it was switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<OperationId>,
    /// The operation that switched it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
}

/// `on` or `off`.
pub fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Whether an answer is that of a feature that is on, or off; why not, in a few words.
///
/// # Errors
/// It is not.
pub fn answers_so(status: u16, on: bool) -> Result<(), String> {
    let is_off = matches!(status, 404 | 503);
    match (on, is_off) {
        (false, true) => Ok(()),
        (false, false) => Err(format!("it answers with {status}, and not with 404 or 503 as one that is off")),
        (true, true) => Err(format!("it answers with {status}, as one that is off")),
        (true, false) if status >= 500 => Err(format!("it answers with {status}")),
        (true, false) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnc_07_what_is_off_answers_with_404_or_503_and_only_then() {
        let is = |status, on| answers_so(status, on).is_ok();
        assert_eq!([200, 401, 404, 500, 503].map(|status| is(status, false)), [false, false, true, false, true]);
        assert_eq!([200, 401, 404, 500, 503].map(|status| is(status, true)), [true, true, false, false, false]);
    }
}
