//! Running the commands that the settings name: stop a writer, start it again.

use lifeboat_io::exec::Invocation;
use lifeboat_model::{Duration, Failure, FailureKind};
use serde_json::{Value, json};

use super::Hands;
use crate::perform::Context;

pub fn run(hands: &Hands, argv: &[String], limit_ms: u64, context: &Context<'_>) -> Result<Value, Failure> {
    let Some((program, args)) = argv.split_first() else {
        return Err(Failure::new(FailureKind::Usage, "a configured command has no words"));
    };
    let shown = argv.join(" ");
    let invocation = Invocation::new(program, Duration::from_millis(limit_ms)).args(args);
    let exit = hands.io.exec.run(&invocation, None, context.stop);
    let exit = exit.map_err(|error| {
        Failure::from_error(FailureKind::Outside, &error).while_doing(format!("`{shown}` did not run"))
    })?;
    if !exit.ok() {
        let failure = Failure::new(FailureKind::Outside, format!("`{shown}` failed"))
            .because(hands.vaults.scrub(&exit.stderr_text()));
        return Err(failure.hint("run it by hand to see why, mend it, then run this again"));
    }
    // What it printed may hold anything, secrets too; that it went well is all the journal needs.
    Ok(json!({}))
}
