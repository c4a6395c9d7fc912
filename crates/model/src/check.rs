//! Checks and their three outcomes. A check that could not be made never passes.

use serde::{Deserialize, Serialize};

/// Pass, fail, or not known. There is no fourth, and unknown is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tri {
    /// It was looked at and is good.
    Pass,
    /// It could not be looked at.
    Unknown,
    /// It was looked at and is not good.
    Fail,
}

impl Tri {
    /// Pass when `good`, else fail.
    pub fn from_bool(good: bool) -> Tri {
        if good { Tri::Pass } else { Tri::Fail }
    }

    /// The worst of all; of nothing at all, unknown.
    pub fn worst(all: impl IntoIterator<Item = Tri>) -> Tri {
        all.into_iter().max().unwrap_or(Tri::Unknown)
    }
}

/// One thing that was looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at, for example `integrity` or `rows of orders`.
    pub name: String,
    /// What it says.
    pub outcome: Tri,
    /// What was found, in a few words: `1 204 rows, as in the manifest`.
    pub detail: String,
}

impl Check {
    /// A check that was made.
    pub fn new(name: impl Into<String>, outcome: Tri, detail: impl Into<String>) -> Check {
        Check { name: name.into(), outcome, detail: detail.into() }
    }
}
