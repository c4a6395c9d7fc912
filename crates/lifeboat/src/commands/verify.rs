//! `lifeboat verify`: is what is live sound? Looks through a copy; changes nothing.

use std::fmt::Write;

use lifeboat_engine::{
    assertions::Asserted,
    verify::{CategoryLine, Closely, Look, Verified},
};
use lifeboat_io::Stop;
use lifeboat_model::{Category, ExitCode, Failure, FailureKind, ResourceKind, Tri, assertion::Severity};
use serde_json::json;

use super::{App, Session, assertions};
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
    let closely = if args.quick { Closely::Quick } else { Closely::Full };
    let against = args.against.as_deref().map(|start| session.engine.find_backup(start)).transpose()?;
    let assertions = args.checks.as_deref().map(assertions::read).transpose()?.unwrap_or_default();
    if !assertions.all.is_empty() {
        must_be_on_servers(&session)?;
    }
    let look = Look { assertions, closely, against: against.map(|backup| backup.id), tolerance: Some(args.tolerance) };
    let found = session.engine.verify(&session.named, &look, &stop)?;
    let outcome = Tri::worst(found.iter().map(|one| one.outcome));
    let took_ms: u64 = found.iter().map(|one| one.took_ms).sum();
    let late = took_ms > closely.budget().as_millis() as u64;
    let code = match outcome {
        Tri::Pass if late => ExitCode::OverBudget,
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
            json!({
                "outcome": outcome, "go": outcome == Tri::Pass, "resources": resources, "took_ms": took_ms,
                "over_budget": late, "exit_code": code as u8
            }),
        )?;
    } else {
        app.ui.out(&tell(&found))?;
        if late {
            let budget = took(closely.budget().as_millis() as u64);
            app.ui.out(&format!("It took {}, and its budget is {budget}.\n", took(took_ms)))?;
        }
        app.ui.out(&verdict(&found))?;
    }
    Ok(code)
}

/// Questions of a file are asked at a server; a SQLite database has those of its settings.
fn must_be_on_servers(session: &Session) -> Result<(), Failure> {
    let setup = session.engine.setup();
    let meant = setup.resources.iter().filter(|one| session.named.is_empty() || session.named.contains(&one.name));
    match meant.into_iter().find(|one| !matches!(one.kind, ResourceKind::Postgres { .. })) {
        None => Ok(()),
        Some(other) => {
            let message = format!("{} is on no server; --checks asks PostgreSQL databases", other.name);
            Err(Failure::new(FailureKind::Usage, message)
                .hint("name the database; other questions: `checks` in lifeboat.toml"))
        }
    }
}

fn tell(found: &[Verified]) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    for one in found {
        let _ = writeln!(text, "{}: {} ({})", one.resource, tri(one.outcome), took(one.took_ms));
        for check in &one.checks {
            let _ = writeln!(text, "  {:<8} {}: {}", tri(check.outcome), check.name, check.detail);
        }
        for Asserted { check, severity } in &one.assertions {
            let (outcome, word) = (tri(check.outcome), severity.word());
            let _ = writeln!(text, "  {outcome:<8} {} ({word}): {}", check.name, check.detail);
        }
    }
    text
}

/// The lines of a validation report, then `GO`, or everything that is in its way.
fn verdict(found: &[Verified]) -> String {
    let mut text = String::from("\n");
    for category in Category::ALL {
        let lines: Vec<&CategoryLine> =
            found.iter().flat_map(|one| &one.categories).filter(|line| line.category == category).collect();
        if lines.is_empty() {
            let _ = writeln!(text, "{}: not looked at", category.title());
            continue;
        }
        let percent = lines.iter().filter_map(|line| line.percent).min();
        let percent = percent.map(|percent| format!(" ({percent}%+)")).unwrap_or_default();
        let word = passed(Tri::worst(lines.iter().map(|line| line.outcome)));
        let _ = writeln!(text, "{}: {word}{percent}", category.title());
    }
    let wrong: Vec<String> = found
        .iter()
        .flat_map(|one| {
            let minor = |one: &&Asserted| one.severity == Severity::Minor && one.check.outcome == Tri::Fail;
            let asserted = one.assertions.iter().filter(move |one| !minor(one)).map(|asserted| &asserted.check);
            one.checks.iter().chain(asserted).map(move |check| (one, check))
        })
        .filter(|(_, check)| check.outcome != Tri::Pass)
        .map(|(one, check)| format!("{}: {} of {}: {}", passed(check.outcome), check.name, one.resource, check.detail))
        .collect();
    match wrong.is_empty() {
        true => text + "GO\n",
        false => text + "NO-GO\n" + &wrong.join("\n") + "\n",
    }
}

fn passed(outcome: Tri) -> &'static str {
    match outcome {
        Tri::Pass => "PASS",
        Tri::Unknown => "UNKNOWN",
        Tri::Fail => "FAIL",
    }
}
