//! What goes by way of somebody else's platform: a branch that is built and deployed when somebody pushes to it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{id::StepId, resource::ResourceName, time::Timestamp};

/// What somebody asks of a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "platform", rename_all = "kebab-case")]
pub enum PlatformAsk {
    /// Take exactly one commit back on the branch that is deployed.
    TakeOut {
        /// Of which target.
        target: Option<ResourceName>,
        /// The commit, in the words of git.
        commit: String,
        /// The branch; that of the settings, else the remote's own, when nobody says.
        branch: Option<String>,
        /// How long its build may take to be served, in milliseconds.
        wait_ms: u64,
        /// Why.
        why: String,
    },
}

impl PlatformAsk {
    /// What its operations are called.
    pub fn kind(&self) -> &'static str {
        match self {
            PlatformAsk::TakeOut { .. } => "take-out",
        }
    }
}

/// What is done to the branch that a platform builds. Nothing is ever forced, and the folder's own checkout is never touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "does", rename_all = "kebab-case")]
pub enum BranchAction {
    /// Fails when the remote's branch is elsewhere than the plan rests on.
    CheckTip {
        /// The branch.
        branch: String,
        /// The commit.
        tip: String,
    },
    /// Makes a commit that takes another one back, on top of the branch, in a worktree aside. Nobody else sees it.
    Revert {
        /// The commit that is taken back.
        commit: String,
        /// Of a merge: the parent whose side stays.
        mainline: Option<u32>,
        /// On top of which.
        tip: String,
        /// When, so that it is the same commit each time.
        at: Timestamp,
        /// What it says.
        message: String,
        /// The folder of the worktree. It is ours, and gone afterwards.
        into: PathBuf,
    },
    /// Takes such a worktree away, when there is one.
    Clear {
        /// The folder.
        folder: PathBuf,
    },
    /// Gives the made commit to the remote's branch.
    Push {
        /// The branch.
        branch: String,
        /// The step that made the commit.
        made_by: StepId,
    },
    /// Takes what was pushed back by another commit on top of the branch, when the remote has it.
    PushBack {
        /// The branch.
        branch: String,
        /// The step that made the commit.
        made_by: StepId,
        /// When.
        at: Timestamp,
        /// The folder of the worktree.
        into: PathBuf,
    },
    /// Fails unless the build of the made commit is what answers, within so long.
    Serves {
        /// The branch.
        branch: String,
        /// The step that made the commit.
        made_by: StepId,
        /// The step that noted what answered before.
        before: StepId,
        /// How long it may take, in milliseconds.
        limit_ms: u64,
    },
}

/// So many letters of a commit's name tell which one it is.
const COMMIT_LETTERS_MIN: usize = 7;

/// Whether what an app tells of its build names that commit: its whole name or the beginning of it, alone or as a part of the
/// version: `1.4.2+3f2a9c1`.
pub fn names_commit(told: &str, commit: &str) -> bool {
    let mut parts = told.split(|letter: char| !letter.is_ascii_alphanumeric());
    parts.any(|part| part.len() >= COMMIT_LETTERS_MIN && commit.starts_with(&part.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::names_commit;

    #[test]
    fn app_10_a_build_names_its_commit() {
        let commit = "3f2a9c1de0a1b2c3d4e5f60718293a4b5c6d7e8f";
        for told in [commit, "3f2a9c1", "1.4.2+3f2a9c1", "build-3F2A9C1DE0", "main@3f2a9c1 (dirty)"] {
            assert!(names_commit(told, commit), "{told}");
        }
        for told in ["", "3f2a9c", "1.4.2", "e0a1b2c3d4", "3f2a9c1de0a1b2c3d4e5f60718293a4b5c6d7e8f0", "3f2a9c2"] {
            assert!(!names_commit(told, commit), "{told}");
        }
    }
}
