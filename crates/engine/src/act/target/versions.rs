//! Versions of the code: branches, commits, checkouts. Everything is said by commit, so that it may be said twice; nothing
//! is forced, and no commit is ever lost.

use std::{path::Path, time::Duration};

use lifeboat_io::{files, git};
use lifeboat_model::{Failure, FailureKind, Target, TargetAction};
use serde_json::{Value, json};

use super::{GIT_LIMIT, GIT_REMOTE_LIMIT, Hands, called};
use crate::{act::path_failure, perform::Context};

pub(super) fn perform(
    hands: &Hands,
    target: &Target,
    action: &TargetAction,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let git = Git { hands, folder: &target.folder, context };
    match action {
        TargetAction::CheckClean => git.check_clean(),
        TargetAction::KeepBranch { branch, commit } => {
            if git.branch(branch)?.as_deref() != Some(commit) {
                git.run(&["branch", branch, commit])?;
            }
            Ok(json!({ "branch": branch, "commit": commit }))
        }
        TargetAction::DropBranch { branch, commit } => {
            if git.branch(branch)?.as_deref() == Some(commit) {
                git.run(&["branch", "--delete", "--force", branch])?;
            }
            Ok(json!({}))
        }
        TargetAction::RollBack { from, to, at, message } => {
            let date = format!("{} +0000", at.as_second());
            let tree = format!("{to}^{{tree}}");
            let by = context.operation.by.as_str();
            let mut call = git::call(git.folder, &["commit-tree", &tree, "-p", from, "-m", message], GIT_LIMIT);
            for who in ["AUTHOR", "COMMITTER"] {
                call = call.env(format!("GIT_{who}_NAME"), by).env(format!("GIT_{who}_EMAIL"), "lifeboat@localhost");
                call = call.env(format!("GIT_{who}_DATE"), &date);
            }
            // The same names and the same time: the same commit, however often.
            let commit = called(hands, &call, context)?;
            let head = git.head()?;
            if head != commit {
                git.must_be_at(&head, from)?;
                git.run(&["merge", "--ff-only", "--quiet", &commit])?;
            }
            Ok(json!({ "commit": commit }))
        }
        TargetAction::MoveBranch { to } => {
            if git.head()? != *to {
                git.run(&["reset", "--keep", "--quiet", to])?;
            }
            Ok(json!({ "commit": to }))
        }
        TargetAction::CheckOut { commit, branch } => {
            let of_branch = branch.as_ref().map(|branch| git.branch(branch)).transpose()?.flatten();
            match branch {
                Some(branch) if of_branch.as_deref() == Some(commit) => git.run(&["checkout", "--quiet", branch])?,
                Some(_) | None => git.run(&["checkout", "--quiet", "--detach", commit])?,
            };
            Ok(json!({ "commit": commit }))
        }
        TargetAction::Push { branch } => {
            let reference = format!("refs/heads/{branch}");
            let call = git::call(git.folder, &["push", "--quiet", &target.remote, &reference], GIT_REMOTE_LIMIT);
            called(hands, &call, context)?;
            Ok(json!({ "branch": branch, "remote": target.remote }))
        }
        TargetAction::FreshCopy { commit, into, remote, only_there } => {
            git.fresh_copy(commit, into, remote.as_deref(), *only_there)
        }
        TargetAction::TakeOver { commit, from } => git.take_over(commit, from),
        _other => Err(Failure::new(FailureKind::Bug, "this is about no version")),
    }
}

/// A folder under git.
struct Git<'a> {
    hands: &'a Hands,
    folder: &'a Path,
    context: &'a Context<'a>,
}

impl Git<'_> {
    fn run(&self, words: &[&str]) -> Result<String, Failure> {
        called(self.hands, &git::call(self.folder, words, GIT_LIMIT), self.context)
    }

    fn head(&self) -> Result<String, Failure> {
        self.run(&["rev-parse", "--verify", "--quiet", "HEAD"])
    }

    /// The commit of a branch; nothing when there is no such branch.
    fn branch(&self, name: &str) -> Result<Option<String>, Failure> {
        let all = self.run(&["for-each-ref", "--format=%(objectname)", &format!("refs/heads/{name}")])?;
        Ok(all.lines().next().map(str::to_owned))
    }

    fn must_be_at(&self, head: &str, wanted: &str) -> Result<(), Failure> {
        match head == wanted {
            true => Ok(()),
            false => {
                let message = format!("{} is at {head}, and not at {wanted} any more", self.folder.display());
                Err(Failure::new(FailureKind::Stale, message).hint("make a new plan and look at it again"))
            }
        }
    }

    fn check_clean(&self) -> Result<Value, Failure> {
        let changed = self.run(&["status", "--porcelain", "--untracked-files=no"])?;
        if changed.is_empty() {
            return Ok(json!({ "commit": self.head()? }));
        }
        let message = format!("files under git in {} were changed by hand", self.folder.display());
        let failure = changed.lines().take(10).fold(Failure::new(FailureKind::Refused, message), Failure::because);
        Err(failure.hint("keep them: git stash push, or commit them; then run this again"))
    }

    /// A checkout of its own; nothing of the live one is in it, and nothing of it is in the live one.
    fn fresh_copy(&self, commit: &str, into: &Path, remote: Option<&str>, only_there: bool) -> Result<Value, Failure> {
        if let Some(remote) = remote {
            let url = self.run(&["remote", "get-url", remote])?;
            match self.cloned(url.trim(), commit, into) {
                Ok(()) => return Ok(json!({ "commit": commit, "folder": into, "remote": remote })),
                Err(failure) if only_there => return Err(failure),
                Err(failure) => {
                    let note =
                        format!("{remote} gives no copy, so it comes from the live folder's repository: {failure}");
                    self.context.watch.note(&note);
                }
            }
        }
        self.cloned(&self.folder.display().to_string(), commit, into)?;
        Ok(json!({ "commit": commit, "folder": into }))
    }

    fn cloned(&self, from: &str, commit: &str, into: &Path) -> Result<(), Failure> {
        files::remove_any(into).map_err(|error| path_failure(&error))?;
        files::create_private_folder(files::parent(into)).map_err(|error| path_failure(&error))?;
        let to = into.display().to_string();
        let limit = Duration::from_secs(600);
        let words = ["clone", "--quiet", "--no-checkout", "--no-hardlinks", "--", from, &to];
        called(self.hands, &git::call(self.folder, &words, limit), self.context)?;
        called(self.hands, &git::call(into, &["checkout", "--quiet", "--detach", commit], limit), self.context)?;
        Ok(())
    }

    /// What is there already is not asked for.
    fn take_over(&self, commit: &str, from: &Path) -> Result<Value, Failure> {
        let object = format!("{commit}^{{commit}}");
        if self.run(&["cat-file", "-e", &object]).is_err() {
            let from = from.display().to_string();
            self.run(&["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &from, "HEAD"])?;
            self.run(&["cat-file", "-e", &object])?;
        }
        Ok(json!({ "commit": commit }))
    }
}
