//! Variables of a platform: given in one batch, by standard input. No value is an argument, and none is told.

use std::path::Path;

use lifeboat_io::files;
use lifeboat_model::{Driver, Failure, FailureKind, Target, target::Batch, variables::value_of};
use serde_json::{Value, json};

use super::{Hands, called_for, command_limit, fed};
use crate::{act::path_failure, perform::Context, targets};

/// A value that is shorter is not taken out of what a program printed: the text would be unreadable.
const SECRET_LETTERS_MIN: usize = 4;

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
        let said = fed(hands, &invocation, call.stdin.as_deref().map(str::as_bytes), context);
        said.map_err(|failure| without_values(hands, target, &set, failure))?;
    }
    let given: Vec<&String> = set.iter().map(|(name, _)| name).collect();
    Ok(json!({ "set": given, "removed": remove, "calls": calls.len() }))
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
