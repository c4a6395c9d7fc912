//! Variables of a platform: given in one batch, by standard input. No value is an argument, and none is told.

use std::{path::Path, time::Duration};

use lifeboat_io::files;
use lifeboat_model::{Driver, Failure, FailureKind, Target, target::Batch, variables::value_of};
use serde_json::{Value, json};

use super::{Hands, called_for, command_limit, fed};
use crate::{act::path_failure, perform::Context, targets};

/// A value that is shorter is not taken out of what a program printed: the text would be unreadable.
const SECRET_LETTERS_MIN: usize = 4;
/// So often a platform is asked to take them.
const ATTEMPTS_MAX: u32 = 4;
/// The first pause before it is asked again; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);
/// How long it is tried where the phase has no budget.
const BUDGET: Duration = Duration::from_secs(60);

/// What a platform refuses is found out before anything is changed.
pub(super) fn check(hands: &Hands, target: &Target, context: &Context<'_>) -> Result<Value, Failure> {
    let Some(argv) = targets::driver(target)?.variables() else { return Ok(json!({})) };
    called_for(hands, target, &targets::call(&hands.io, target, &argv, command_limit(target))?, context)?;
    Ok(json!({}))
}

pub(super) fn give(
    hands: &Hands,
    target: &Target,
    file: &Path,
    names: &[String],
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let driver = targets::driver(target)?;
    // One that is gone would take everything away.
    let text = files::read_text(file).map_err(|error| path_failure(&error))?;
    let (mut set, mut remove) = (Vec::new(), Vec::new());
    for name in names {
        match value_of(&text, name) {
            Some(value) => set.push((name.clone(), value)),
            None => remove.push(name.clone()),
        }
    }
    let deployment = match driver {
        Driver::Vercel { .. } => Some(targets::running(&hands.io, target, context.stop)?),
        _has_none => None,
    };
    let batch = Batch { set: &set, remove: &remove, deployment: deployment.as_deref() };
    let calls = driver.give_variables(&batch).map_err(|why| {
        Failure::new(FailureKind::Refused, why)
            .hint("set that one by hand, and name the others: lifeboat env restore KEY")
    })?;
    for call in &calls {
        let invocation = targets::call(&hands.io, target, &call.argv, command_limit(target))?;
        let said =
            patiently(hands, context, &|| fed(hands, &invocation, call.stdin.as_deref().map(str::as_bytes), context));
        said.map_err(|failure| without_values(hands, target, &set, failure))?;
    }
    let given: Vec<&String> = set.iter().map(|(name, _)| name).collect();
    Ok(json!({ "set": given, "removed": remove, "calls": calls.len() }))
}

/// Asks again, with longer and longer pauses, as long as the budget of the phase lasts: a platform that does not take them at this moment
/// is no reason to leave an app standing still.
fn patiently(
    hands: &Hands,
    context: &Context<'_>,
    call: &dyn Fn() -> Result<String, Failure>,
) -> Result<String, Failure> {
    let (began, budget) = (hands.io.clock.elapsed(), budget(context));
    let mut pause = PAUSE;
    for attempt in 1.. {
        let failure = match call() {
            Err(failure) if failure.kind == FailureKind::Outside => failure,
            said => return said,
        };
        let is_late = hands.io.clock.elapsed().saturating_sub(began) + pause > budget;
        if attempt == ATTEMPTS_MAX || is_late {
            return Err(failure);
        }
        context.watch.note(&format!("{}; it is tried again in {} s.", failure.message, pause.as_secs()));
        if hands.io.clock.sleep(pause, context.stop).is_err() {
            return Err(failure);
        }
        pause *= 2;
    }
    Err(Failure::new(FailureKind::Bug, "variables were given without end"))
}

/// How long the phase of this step may take.
fn budget(context: &Context<'_>) -> Duration {
    let phases = &context.operation.plan.phases;
    let own = phases.iter().find(|phase| phase.steps.iter().any(|step| &step.id == context.step));
    own.and_then(|phase| phase.budget_ms).map_or(BUDGET, Duration::from_millis)
}

/// What a program says of a line that it cannot read is that line.
fn without_values(hands: &Hands, target: &Target, set: &[(String, String)], mut failure: Failure) -> Failure {
    for cause in &mut failure.causes {
        let mut text = targets::hide(&hands.io, target, cause);
        for (name, value) in set {
            // Also line by line: of a value of several lines it shows one.
            for part in std::iter::once(value.as_str()).chain(value.lines()) {
                if part.len() >= SECRET_LETTERS_MIN {
                    text = text.replace(part, &format!("<{name}>"));
                }
            }
        }
        *cause = text;
    }
    failure
}
