//! A workflow of GitHub, by its own program: asked for once, and looked at until it is over.

use std::time::Duration;

use lifeboat_model::{
    Failure, FailureKind, Found, StepId, Target, WorkflowAction,
    platform::{WorkflowRun, asked_for, workflow_dispatch, workflow_runs},
    time::show_duration,
};
use serde_json::{Value, json};

use super::{Hands, called_for};
use crate::{perform::Context, targets};

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How long between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long GitHub may take to list a run that it was asked for.
const LISTED_LIMIT: Duration = Duration::from_secs(60);
/// Variables that its program gets from our own environment, when they are set.
const PASSED: [&str; 5] = ["GH_TOKEN", "GITHUB_TOKEN", "GH_HOST", "GH_REPO", "GH_CONFIG_DIR"];

pub(super) fn perform(
    hands: &Hands,
    target: &Target,
    action: &WorkflowAction,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let workflow = Workflow::of(hands, target, context);
    match action {
        WorkflowAction::Look { file } => workflow.look(file),
        WorkflowAction::Dispatch { file, reference, reason, before } => {
            let argv = workflow_dispatch(file, reference.as_deref(), reason);
            let wanted = Wanted { file, reason, before: workflow.noted(before)? };
            let asked = workflow.say(&argv);
            if let Err(failure) = asked {
                // The answer may have been lost, and not the question.
                return match workflow.found(&wanted) {
                    Ok(Some(run)) => Ok(shown(&run)),
                    _none => Err(failure),
                };
            }
            let run = workflow.listed(&wanted)?;
            Ok(run.as_ref().map_or(json!({}), shown))
        }
        WorkflowAction::Ends { file, reason, before, asked_by, limit_ms } => {
            let wanted = Wanted { file, reason, before: workflow.noted(before)? };
            let run = context.operation.output(asked_by).and_then(|output| output["run"].as_u64());
            workflow.ends(&wanted, run, Duration::from_millis(*limit_ms))
        }
    }
}

/// Whether a run was asked for before the process died. Asking again would roll back twice.
pub(super) fn probe(
    hands: &Hands,
    target: &Target,
    action: &WorkflowAction,
    context: &Context<'_>,
) -> Result<(Found, Value), Failure> {
    let WorkflowAction::Dispatch { file, reason, before, .. } = action else {
        return Ok((Found::NotStarted, Value::Null));
    };
    let workflow = Workflow::of(hands, target, context);
    let wanted = Wanted { file, reason, before: workflow.noted(before)? };
    Ok(match workflow.listed(&wanted)? {
        Some(run) => (Found::Done, shown(&run)),
        None => (Found::NotStarted, Value::Null),
    })
}

struct Workflow<'a> {
    hands: &'a Hands,
    /// Its programs get GitHub's variables as well.
    target: Target,
    context: &'a Context<'a>,
}

/// Which run is meant.
struct Wanted<'a> {
    file: &'a str,
    reason: &'a str,
    before: Vec<u64>,
}

fn shown(run: &WorkflowRun) -> Value {
    json!({ "run": run.database_id, "url": run.url })
}

impl<'a> Workflow<'a> {
    fn of(hands: &'a Hands, target: &Target, context: &'a Context<'a>) -> Workflow<'a> {
        let mut target = target.clone();
        target.pass.extend(PASSED.map(str::to_owned));
        Workflow { hands, target, context }
    }

    fn say(&self, argv: &[String]) -> Result<String, Failure> {
        let call = targets::call(&self.hands.io, &self.target, argv, CALL_LIMIT)?;
        called_for(self.hands, &self.target, &call, self.context)
    }

    fn runs(&self, file: &str) -> Result<Vec<WorkflowRun>, Failure> {
        let argv = workflow_runs(file);
        let said = self.say(&argv)?;
        serde_json::from_str(&said).map_err(|error| {
            let message = format!("what `{}` printed cannot be read", argv.join(" "));
            let failure = Failure::new(FailureKind::Outside, message).because(error.to_string());
            failure.hint("run it by hand to see what it says")
        })
    }

    fn look(&self, file: &str) -> Result<Value, Failure> {
        let runs = self.runs(file).map_err(|failure| {
            failure.hint(format!(
                "gh auth status tells whether it may be used; lifeboat shims workflow writes {file}, to be committed to the repository's own branch"
            ))
        })?;
        Ok(json!({ "runs": runs.iter().map(|run| run.database_id).collect::<Vec<_>>() }))
    }

    fn noted(&self, step: &StepId) -> Result<Vec<u64>, Failure> {
        #[derive(serde::Deserialize)]
        struct Noted {
            runs: Vec<u64>,
        }
        Ok(self.context.output::<Noted>(step)?.runs)
    }

    fn found(&self, wanted: &Wanted<'_>) -> Result<Option<WorkflowRun>, Failure> {
        Ok(asked_for(&self.runs(wanted.file)?, &wanted.before, wanted.reason).cloned())
    }

    /// GitHub lists a run some seconds after it was asked for.
    fn listed(&self, wanted: &Wanted<'_>) -> Result<Option<WorkflowRun>, Failure> {
        let (clock, began) = (&self.hands.io.clock, self.hands.io.clock.elapsed());
        loop {
            if let Some(run) = self.found(wanted)? {
                return Ok(Some(run));
            }
            if clock.elapsed().saturating_sub(began) >= LISTED_LIMIT {
                return Ok(None);
            }
            if clock.sleep(LOOK_EVERY, self.context.stop).is_err() {
                return Ok(None);
            }
        }
    }

    fn ends(&self, wanted: &Wanted<'_>, run: Option<u64>, limit: Duration) -> Result<Value, Failure> {
        let (clock, began) = (&self.hands.io.clock, self.hands.io.clock.elapsed());
        loop {
            let runs = self.runs(wanted.file);
            let found = runs.as_ref().ok().and_then(|runs| match run {
                Some(id) => runs.iter().find(|run| run.database_id == id),
                None => asked_for(runs, &wanted.before, wanted.reason),
            });
            if let Some((run, ended)) = found.and_then(|run| Some((run, run.ended()?))) {
                return match ended {
                    "success" => Ok(json!({ "run": run.database_id, "url": run.url, "conclusion": ended })),
                    other => Err(ended_badly(wanted.file, run, other)),
                };
            }
            let why = match (&runs, found) {
                (Err(failure), _) => failure.to_string(),
                (Ok(_), Some(run)) => format!("it is {}: {}", run.status, run.url),
                (Ok(_), None) => "GitHub does not list it".to_owned(),
            };
            let elapsed = clock.elapsed().saturating_sub(began);
            let late = || self.late(wanted.file, &why, limit);
            match (&runs, found) {
                // Nobody could ever wait for it: it was taken away, or never came to be.
                (Ok(_), None) if elapsed >= limit => return Err(self.lost(wanted.file, limit)),
                _any if elapsed >= limit => return Err(late()),
                _any => {}
            }
            self.context.watch.progress(elapsed.as_millis() as u64, Some(limit.as_millis() as u64));
            let pause = LOOK_EVERY.min(limit - elapsed);
            clock.sleep(pause, self.context.stop).map_err(|_stopped| late().while_doing("the wait was broken off"))?;
        }
    }

    fn lost(&self, file: &str, limit: Duration) -> Failure {
        let message = format!("GitHub lists no run of {file} that was asked for, after {}", show_duration(limit));
        Failure::new(FailureKind::Outside, message).hint(format!("look by hand: gh run list --workflow {file}"))
    }

    fn late(&self, file: &str, why: &str, limit: Duration) -> Failure {
        let message = format!("the run of {file} is not over after {}", show_duration(limit));
        let hint = format!("lifeboat resume {} goes on waiting", self.context.operation.id);
        Failure::new(FailureKind::Interrupted, message).because(why).hint(hint)
    }
}

fn ended_badly(file: &str, run: &WorkflowRun, how: &str) -> Failure {
    let message = format!("the run of {file} ended as {how}");
    let failure = Failure::new(FailureKind::Outside, message).because(format!("look at {}", run.url));
    failure.hint(format!("gh run view {} --log-failed", run.database_id))
}
