//! The branch that a platform builds: one commit taken back in a worktree aside, given to the remote without force, and waited
//! for until it is what answers.

use std::{path::Path, time::Duration};

use lifeboat_io::{files, git};
use lifeboat_model::{
    BranchAction, Failure, FailureKind, StepId, Target, Timestamp, platform::names_commit, time::show_duration,
};
use serde_json::{Value, json};

use super::{GIT_LIMIT, GIT_REMOTE_LIMIT, Hands, called, called_for};
use crate::{act::path_failure, perform::Context, targets};

/// How long between two looks at what is served. A platform builds for minutes, and counts who asks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) fn perform(
    hands: &Hands,
    target: &Target,
    action: &BranchAction,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let branch = Branch { hands, target, context };
    match action {
        BranchAction::CheckTip { branch: name, tip } => branch.check_tip(name, tip),
        BranchAction::Revert { commit, mainline, tip, at, message, into } => {
            let what = Wanted { commit, mainline: *mainline, tip, at: *at, message };
            let made = branch.revert(&what, into)?.ok_or_else(|| {
                let message = format!("{commit} was taken back already: nothing of it is left");
                Failure::new(FailureKind::Refused, message).hint("look for another commit: git log --oneline")
            })?;
            Ok(json!(made))
        }
        BranchAction::Clear { folder } => branch.clear(folder).map(|()| json!({})),
        BranchAction::Push { branch: name, made_by } => branch.push(name, &branch.made(made_by)?.commit),
        BranchAction::PushBack { branch: name, made_by, at, into } => match context.operation.output(made_by) {
            Some(_) => branch.push_back(name, &branch.made(made_by)?.commit, *at, into),
            // It was never made.
            None => Ok(json!({})),
        },
        BranchAction::Serves { branch: name, made_by, before, limit_ms } => {
            branch.serves(name, &branch.made(made_by)?, before, Duration::from_millis(*limit_ms))
        }
    }
}

struct Branch<'a> {
    hands: &'a Hands,
    target: &'a Target,
    context: &'a Context<'a>,
}

/// The commit that is to be made.
struct Wanted<'a> {
    commit: &'a str,
    mainline: Option<u32>,
    tip: &'a str,
    at: Timestamp,
    message: &'a str,
}

/// The commit that was made.
#[derive(serde::Serialize, serde::Deserialize)]
struct Made {
    commit: String,
    /// The version that its build tells, where a file says so.
    tells: Option<String>,
}

impl Branch<'_> {
    fn git(&self, folder: &Path, words: &[&str], limit: Duration) -> Result<String, Failure> {
        let call = targets::with_passed(&self.hands.io, self.target, git::call(folder, words, limit));
        called_for(self.hands, self.target, &call, self.context)
    }

    fn here(&self, words: &[&str]) -> Result<String, Failure> {
        self.git(&self.target.folder, words, GIT_LIMIT)
    }

    /// Asks the remote, or tells it something.
    fn there(&self, words: &[&str]) -> Result<String, Failure> {
        self.git(&self.target.folder, words, GIT_REMOTE_LIMIT)
    }

    fn made(&self, step: &StepId) -> Result<Made, Failure> {
        self.context.output(step)
    }

    /// Where the remote's branch is.
    fn tip(&self, name: &str) -> Result<String, Failure> {
        let remote = &self.target.remote;
        let listed = self.there(&["ls-remote", "--quiet", "--", remote, &format!("refs/heads/{name}")])?;
        let tip = listed.split_whitespace().next().map(str::to_owned);
        tip.ok_or_else(|| {
            let failure = Failure::new(FailureKind::Refused, format!("{remote} has no branch {name} any more"));
            failure.hint(format!("git ls-remote --heads {remote} shows what it has"))
        })
    }

    fn check_tip(&self, name: &str, wanted: &str) -> Result<Value, Failure> {
        let tip = self.tip(name)?;
        match tip == wanted {
            true => Ok(json!({ "commit": tip })),
            false => {
                let message = format!("{name} of {} is at {tip}, and not at {wanted} any more", self.target.remote);
                Err(Failure::new(FailureKind::Stale, message).hint("make a new plan and look at it again"))
            }
        }
    }

    fn clear(&self, folder: &Path) -> Result<(), Failure> {
        files::remove_any(folder).map_err(|error| path_failure(&error))?;
        self.here(&["worktree", "prune"]).map(drop)
    }

    /// In a worktree that is gone afterwards, whatever came of it; nothing when there is nothing to take back.
    fn revert(&self, what: &Wanted<'_>, into: &Path) -> Result<Option<Made>, Failure> {
        self.clear(into)?;
        files::create_private_folder(files::parent(into)).map_err(|error| path_failure(&error))?;
        let made = self.reverted(what, into);
        let cleared = self
            .clear(into)
            .and_then(|()| files::remove_folder_if_empty(files::parent(into)).map_err(|error| path_failure(&error)));
        let made = made?;
        cleared?;
        Ok(made)
    }

    fn reverted(&self, what: &Wanted<'_>, into: &Path) -> Result<Option<Made>, Failure> {
        let at = into.display().to_string();
        self.here(&["worktree", "add", "--quiet", "--force", "--detach", &at, what.tip])?;
        let inside = |words: &[&str]| self.git(into, words, GIT_LIMIT);
        let mainline = what.mainline.map(|parent| parent.to_string());
        let mut words = vec!["revert", "--no-commit"];
        words.extend(mainline.iter().flat_map(|parent| ["--mainline", parent.as_str()]));
        words.push(what.commit);
        inside(&words).map_err(|failure| self.conflict(what, into, failure))?;
        let tree = inside(&["write-tree"])?;
        if tree == inside(&["rev-parse", &format!("{}^{{tree}}", what.tip)])? {
            return Ok(None);
        }
        let date = format!("{} +0000", what.at.as_second());
        let by = self.context.operation.by.as_str();
        let mut call = git::call(into, &["commit-tree", &tree, "-p", what.tip, "-m", what.message], GIT_LIMIT);
        for who in ["AUTHOR", "COMMITTER"] {
            call = call.env(format!("GIT_{who}_NAME"), by).env(format!("GIT_{who}_EMAIL"), "lifeboat@localhost");
            call = call.env(format!("GIT_{who}_DATE"), &date);
        }
        // The same names and the same time: the same commit, however often.
        let commit = called(self.hands, &call, self.context)?;
        let file = self.target.tells.as_ref().and_then(|tells| tells.file.as_ref()).map(|file| into.join(file));
        let tells = match file.filter(|file| files::is_file(file)) {
            Some(file) => {
                let text = files::read_text(&file).map_err(|error| path_failure(&error))?;
                text.lines().next().map(|line| line.trim().to_owned())
            }
            None => None,
        };
        Ok(Some(Made { commit, tells }))
    }

    fn conflict(&self, what: &Wanted<'_>, into: &Path, failure: Failure) -> Failure {
        let unmerged = self.git(into, &["diff", "--name-only", "--diff-filter=U"], GIT_LIMIT).unwrap_or_default();
        let files: Vec<&str> = unmerged.lines().take(10).collect();
        if files.is_empty() {
            return failure;
        }
        let message = format!(
            "{} cannot be taken back by itself: commits since changed the same lines of {}",
            what.commit,
            files.join(", ")
        );
        Failure::new(FailureKind::Refused, message)
            .hint("take those commits back first, or lifeboat rollback, which goes back to another version")
    }

    fn push(&self, name: &str, commit: &str) -> Result<Value, Failure> {
        let remote = &self.target.remote;
        let words = ["push", "--quiet", remote, &format!("{commit}:refs/heads/{name}")];
        self.there(&words).map_err(|failure| {
            let refused = Failure::new(
                FailureKind::Outside,
                format!("{remote} did not take the commit for {name}, which stays as it is"),
            );
            let refused = failure.causes.into_iter().fold(refused, Failure::because);
            refused.hint("push needs the right to do so, and a branch that nobody has moved since: make a new plan")
        })?;
        Ok(json!({ "commit": commit, "branch": name, "remote": remote }))
    }

    /// Nothing to do where the remote never got it, or where somebody has taken it back since.
    fn push_back(&self, name: &str, commit: &str, at: Timestamp, into: &Path) -> Result<Value, Failure> {
        let tip = self.tip(name)?;
        if self.here(&["cat-file", "-e", &format!("{tip}^{{commit}}")]).is_err() {
            let (remote, reference) = (&self.target.remote, format!("refs/heads/{name}"));
            self.there(&["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", remote, &reference])?;
        }
        let base = self.here(&["merge-base", commit, &tip])?;
        if base != commit {
            return Ok(json!({}));
        }
        let subject = self.here(&["log", "--max-count=1", "--format=%s", commit])?;
        let message = format!("Revert \"{subject}\"\n\nThis reverts commit {commit}.");
        let what = Wanted { commit, mainline: None, tip: &tip, at, message: &message };
        match self.revert(&what, into)? {
            Some(again) => self.push(name, &again.commit),
            // It was pushed back before the process died.
            None => Ok(json!({})),
        }
    }

    /// Waits for the build. One that does not come keeps the operation waiting; nothing is taken back for it.
    fn serves(&self, name: &str, made: &Made, before: &StepId, limit: Duration) -> Result<Value, Failure> {
        let Some(tells) = &self.target.tells else {
            return Err(Failure::new(FailureKind::Bug, "nobody said how it tells its build"));
        };
        let (clock, began) = (&self.hands.io.clock, self.hands.io.clock.elapsed());
        let noted = self.context.operation.output(before).cloned().unwrap_or(Value::Null);
        let former = (noted["version"].as_str(), noted["instance"].as_str());
        loop {
            let why = match targets::told(&self.hands.io, self.target, tells) {
                Ok((version, instance)) if is_it(made, (&version, instance.as_deref()), former) => {
                    return Ok(json!({ "serves": version, "commit": made.commit }));
                }
                Ok((version, _)) => format!("{} still answers with {version}", self.target.name),
                Err(why) => why,
            };
            let elapsed = clock.elapsed().saturating_sub(began);
            let (waited, all) = (elapsed.as_millis() as u64, limit.as_millis() as u64);
            let late = || self.late(name, made, &why, limit);
            if elapsed >= limit {
                return Err(late());
            }
            if self.context.stop.wanted() {
                return Err(late().while_doing("the wait was broken off on request"));
            }
            self.context.watch.progress(waited, Some(all));
            let pause = LOOK_EVERY.min(limit - elapsed);
            clock.sleep(pause, self.context.stop).map_err(|_stopped| late().while_doing("the wait was broken off"))?;
        }
    }

    fn late(&self, name: &str, made: &Made, why: &str, limit: Duration) -> Failure {
        let (limit, commit) = (show_duration(limit), made.commit.get(..10).unwrap_or(&made.commit));
        let message = format!("{commit} is pushed to {name}, and its build is not served after {limit}");
        let id = &self.context.operation.id;
        Failure::new(FailureKind::Interrupted, message).because(why).hint(format!(
            "look what the build says; lifeboat resume {id} waits again, lifeboat abort {id} takes the push back by another commit"
        ))
    }
}

/// Whether what answers is that build: it names the commit, or tells what the commit's own file says and is not what answered
/// before.
fn is_it(made: &Made, now: (&str, Option<&str>), former: (Option<&str>, Option<&str>)) -> bool {
    let is_other = former.0 != Some(now.0) || (now.1.is_some() && former.1 != now.1);
    names_commit(now.0, &made.commit) || (made.tells.as_deref() == Some(now.0) && is_other)
}

#[cfg(test)]
mod tests {
    use super::{Made, is_it};

    #[test]
    fn app_10_a_version_that_was_there_before_is_no_new_build() {
        let made = Made { commit: "3f2a9c1de0a1b2c3d4e5f60718293a4b5c6d7e8f".into(), tells: Some("1.4".into()) };
        let former = (Some("1.5"), Some("a"));
        for (now, wanted) in [
            (("3f2a9c1", None), true),
            (("1.4", Some("b")), true),
            (("1.5", Some("b")), false),
            (("1.5", Some("a")), false),
        ] {
            assert_eq!(is_it(&made, now, former), wanted, "{now:?}");
        }
        // The file is the same before and after: only another instance tells them apart.
        assert!(!is_it(&made, ("1.4", None), (Some("1.4"), None)));
        assert!(!is_it(&made, ("1.4", Some("a")), (Some("1.4"), Some("a"))));
        assert!(is_it(&made, ("1.4", Some("b")), (Some("1.4"), Some("a"))));
    }
}
