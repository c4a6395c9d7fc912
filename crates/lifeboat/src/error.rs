//! How a command ends when it does not end well: one sentence, its causes, what to do next, and the exit code.

use std::{ffi::OsString, io::Write};

use lifeboat_engine::RunError;
use lifeboat_model::{ExitCode, Failure, FailureKind, OperationId};
use serde_json::json;

use crate::{
    app::App,
    cli::JsonMode,
    ui::{with_schema, words::sentence},
};

/// The schema tag of a failure as JSON.
pub const FAILURE_SCHEMA: &str = "lifeboat/failure@1";

/// Why a command ended early.
#[derive(Debug)]
pub struct Ended {
    /// What went wrong.
    pub failure: Failure,
    /// What the process ends with.
    pub code: ExitCode,
    /// The operation that is left open, when there is one.
    pub operation: Option<OperationId>,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended { code: ExitCode::from(failure.kind), failure, operation: None }
    }
}

impl From<RunError> for Ended {
    fn from(error: RunError) -> Ended {
        let code = match (&error.left_open, error.failure.kind) {
            // The operation was begun and could not even be written to its end.
            (Some(_), FailureKind::Outside | FailureKind::Bug) => ExitCode::InBetween,
            (Some(_) | None, kind) => ExitCode::from(kind),
        };
        Ended { failure: error.failure, code, operation: error.left_open }
    }
}

/// What every command gives back.
pub type Done = Result<ExitCode, Ended>;

/// Tells a person, or a program, why a command ended early.
pub fn tell(app: &App, ended: &Ended) -> ExitCode {
    match app.ui.json {
        Some(JsonMode::Document | JsonMode::Lines) => print_json(&ended.failure, ended.code, ended.operation.as_ref()),
        None => tell_person(app, &ended.failure),
    }
    ended.code
}

/// Writes a failure to standard error: the sentence, the causes, the hint.
pub fn tell_person(app: &App, failure: &Failure) {
    let paint = app.ui.paint_err;
    let mut text = format!("{} {}\n", paint.bad("error:"), sentence(&failure.message));
    for cause in &failure.causes {
        text += &format!("  because: {}\n", sentence(cause));
    }
    if let Some(hint) = &failure.hint {
        text += &format!("  {} {}\n", paint.strong("hint:"), app.with_again(hint));
    }
    app.ui.err(&text);
}

/// Writes a failure to standard output as one line of JSON.
pub fn print_json(failure: &Failure, code: ExitCode, operation: Option<&OperationId>) {
    let document = json!({
        "kind": failure.kind,
        "message": failure.message,
        "causes": failure.causes,
        "hint": failure.hint,
        "operation": operation,
        "exit_code": code as u8,
    });
    // Nobody is left to be told when even this cannot be written.
    let _ = writeln!(std::io::stdout(), "{}", with_schema(FAILURE_SCHEMA, document));
}

/// Words that clap did not understand, or its help.
pub fn tell_usage(refused: &clap::Error, args: &[OsString]) -> ExitCode {
    use clap::error::ErrorKind as K;
    if matches!(refused.kind(), K::DisplayHelp | K::DisplayVersion) {
        let _ = refused.print();
        return ExitCode::Ok;
    }
    if asks_for_json(args) {
        let text = refused.to_string();
        let first = text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        let failure = Failure::new(FailureKind::Usage, message).hint("lifeboat --help");
        print_json(&failure, ExitCode::Usage, None);
    } else {
        let _ = refused.print();
    }
    ExitCode::Usage
}

/// Whether the words ask for JSON, as far as that can be told when they could not all be understood.
pub fn asks_for_json(args: &[OsString]) -> bool {
    let before_end = args.iter().take_while(|arg| *arg != "--");
    before_end.map(|arg| arg.to_string_lossy()).any(|arg| arg == "--json" || arg.starts_with("--json="))
}

/// The command as it was typed, fit to be typed again.
pub fn typed(args: &[OsString]) -> String {
    let words = args.iter().skip(1).map(|arg| crate::ui::words::quoted(&arg.to_string_lossy()));
    std::iter::once("lifeboat".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// A defect is told in one sentence. In debug builds the usual message with its trace stays.
pub fn install_panic_hook() {
    if cfg!(debug_assertions) {
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload();
        let what = what.downcast_ref::<&str>().copied().or_else(|| what.downcast_ref::<String>().map(String::as_str));
        let place = panic.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        let what = what.unwrap_or("no reason was given").lines().next().unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "error: a defect in Lifeboat: {what}{place}; please report it.");
    }));
}
