//! What goes by way of somebody else's platform: a branch that is built and deployed when somebody pushes to it, a workflow that
//! is run there.

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
    /// Have GitHub run a workflow that rolls back, and wait for its end.
    Workflow {
        /// From the folder of which target.
        target: Option<ResourceName>,
        /// The file below `.github/workflows`; `rollback-ENVIRONMENT.yml` when nobody says.
        file: Option<String>,
        /// The branch or tag that has it; the repository's own branch when nobody says.
        reference: Option<String>,
        /// How long it may take, in milliseconds.
        wait_ms: u64,
        /// Why; the workflow's input.
        why: String,
    },
    /// Bring everything that runs the app's code to where it runs once more, out of its repository and by its platforms.
    Redeploy {
        /// Which targets; all of them when none is named.
        targets: Vec<ResourceName>,
        /// Why.
        why: String,
    },
}

impl PlatformAsk {
    /// What its operations are called.
    pub fn kind(&self) -> &'static str {
        match self {
            PlatformAsk::TakeOut { .. } => "take-out",
            PlatformAsk::Workflow { .. } => "workflow",
            PlatformAsk::Redeploy { .. } => "redeploy",
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

/// What is done to a workflow of GitHub, by its own program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "does", rename_all = "kebab-case")]
pub enum WorkflowAction {
    /// Notes which runs there are; fails when the program cannot be used, or there is no such workflow.
    Look {
        /// The file.
        file: String,
    },
    /// Asks for a run.
    Dispatch {
        /// The file.
        file: String,
        /// The branch or tag that has it.
        reference: Option<String>,
        /// The input `reason`.
        reason: String,
        /// The step that noted which runs there were.
        before: StepId,
    },
    /// Waits for its end, and fails unless that is a success.
    Ends {
        /// The file.
        file: String,
        /// The input `reason`.
        reason: String,
        /// The step that noted which runs there were.
        before: StepId,
        /// The step that asked for it.
        asked_by: StepId,
        /// How long it may take, in milliseconds.
        limit_ms: u64,
    },
}

/// How a version comes once more to where it runs, whatever is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "does", rename_all = "kebab-case")]
pub enum RedeployAction {
    /// By its driver's own call, or its link.
    Again {
        /// The version.
        version: String,
    },
    /// Built for production by its platform, out of a fresh copy of the repository.
    Build {
        /// The copy.
        from: PathBuf,
    },
    /// One edge function, out of the worktree of a version; it has to be there and active afterwards.
    Function {
        /// The version.
        version: String,
        /// The function.
        function: String,
    },
}

/// A run of a workflow, as GitHub's program lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowRun {
    /// Its number, which grows.
    pub database_id: u64,
    /// `workflow_dispatch` when somebody asked for it.
    pub event: String,
    /// `completed` in the end.
    pub status: String,
    /// How it ended: `success`, `failure`, `cancelled`, ...; empty until then.
    pub conclusion: Option<String>,
    /// What it is called, which may hold what was asked for.
    pub display_title: String,
    /// Where people look at it.
    pub url: String,
}

impl WorkflowRun {
    /// How it ended, when it has.
    pub fn ended(&self) -> Option<&str> {
        (self.status == "completed").then(|| self.conclusion.as_deref().unwrap_or_default())
    }
}

/// The call that lists the runs of a workflow, newest first.
pub fn workflow_runs(file: &str) -> Vec<String> {
    let fields = "databaseId,event,status,conclusion,displayTitle,url";
    ["gh", "run", "list", "--workflow", file, "--limit", "50", "--json", fields].map(str::to_owned).to_vec()
}

/// The call that asks for a run.
pub fn workflow_dispatch(file: &str, reference: Option<&str>, reason: &str) -> Vec<String> {
    let mut argv = ["gh", "workflow", "run", file].map(str::to_owned).to_vec();
    argv.extend(reference.iter().flat_map(|reference| ["--ref".to_owned(), (*reference).to_owned()]));
    argv.extend(["-f".to_owned(), format!("reason={reason}")]);
    argv
}

/// The run that somebody asked for: one that was not there before. GitHub does not tell which it is, so of several it is the
/// one that is called by the reason, else the first.
pub fn asked_for<'a>(runs: &'a [WorkflowRun], before: &[u64], reason: &str) -> Option<&'a WorkflowRun> {
    let is_new = |run: &&WorkflowRun| run.event == "workflow_dispatch" && !before.contains(&run.database_id);
    let first = |runs: &mut dyn Iterator<Item = &'a WorkflowRun>| runs.min_by_key(|run| run.database_id);
    let named = first(&mut runs.iter().filter(is_new).filter(|run| run.display_title.contains(reason)));
    named.or_else(|| first(&mut runs.iter().filter(is_new)))
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
    use super::{WorkflowRun, asked_for, names_commit, workflow_dispatch};

    #[test]
    fn app_04_the_run_that_was_asked_for_was_not_there_before() {
        let run = |database_id, event: &str, title: &str| WorkflowRun {
            database_id,
            event: event.into(),
            status: "queued".into(),
            conclusion: Some(String::new()),
            display_title: title.into(),
            url: String::new(),
        };
        let runs = [
            run(9, "workflow_dispatch", "Rollback production: down"),
            run(8, "workflow_dispatch", "Rollback production: other"),
            run(7, "push", "Rollback production: down"),
            run(6, "workflow_dispatch", "Rollback production: down"),
        ];
        let found = |before: &[u64], reason: &str| asked_for(&runs, before, reason).map(|run| run.database_id);
        assert_eq!(found(&[6], "down"), Some(9), "another one may have been asked for at the same time");
        assert_eq!(found(&[6], "not in its title"), Some(8));
        assert_eq!(found(&[6, 8, 9], "down"), None);
    }

    #[test]
    fn app_04_the_reason_is_one_word_of_the_call() {
        let reason = "Emergency rollback - production down";
        let said = workflow_dispatch("rollback-production.yml", Some("main"), reason);
        let wanted = ["gh", "workflow", "run", "rollback-production.yml", "--ref", "main", "-f"];
        assert_eq!(said[..7], wanted);
        assert_eq!(said[7..], [format!("reason={reason}")]);
    }

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
