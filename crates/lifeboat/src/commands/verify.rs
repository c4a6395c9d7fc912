//! `lifeboat verify`: is what is live sound? Looks through a copy; changes nothing.

use std::fmt::Write;

use lifeboat_engine::verify::Verified;
use lifeboat_io::Stop;
use lifeboat_model::{ExitCode, Failure, FailureKind, Tri};
use serde_json::json;

use super::App;
use crate::{
    cli::VerifyArgs,
    error::Done,
    ui::words::{took, tri},
    wire,
};

pub fn run(app: &App, args: &VerifyArgs) -> Done {
    let session = app.open(&args.resources)?;
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let found = session.engine.verify(&session.named, &stop)?;
    let outcome = Tri::worst(found.iter().map(|one| one.outcome));
    let code = match outcome {
        Tri::Pass => ExitCode::Ok,
        Tri::Unknown => ExitCode::Unknown,
        Tri::Fail => ExitCode::Damaged,
    };
    if app.ui.json.is_some() {
        let resources = serde_json::to_value(&found).map_err(|error| {
            Failure::new(FailureKind::Bug, "the answer cannot be written").because(error.to_string())
        })?;
        app.ui.document(
            "lifeboat/verified@1",
            json!({ "outcome": outcome, "resources": resources, "exit_code": code as u8 }),
        )?;
    } else {
        app.ui.out(&tell(&found))?;
    }
    Ok(code)
}

fn tell(found: &[Verified]) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    for one in found {
        let _ = writeln!(text, "{}: {} ({})", one.resource, tri(one.outcome), took(one.took_ms));
        for check in &one.checks {
            let _ = writeln!(text, "  {:<8} {}: {}", tri(check.outcome), check.name, check.detail);
        }
    }
    text
}
