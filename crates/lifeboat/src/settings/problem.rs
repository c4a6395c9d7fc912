//! What is wrong with a settings file: where, in one sentence, and what to write instead. Never a value from the file:
//! it might be a secret in the wrong place.

use std::path::Path;

use lifeboat_model::{Failure, FailureKind};
use serde::Serialize;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line it stands in, from 1.
    pub line: usize,
    /// One sentence without a period.
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

impl Problem {
    /// A problem without a remedy.
    pub fn new(line: usize, message: impl Into<String>) -> Problem {
        Problem { line, message: message.into(), instead: None }
    }

    /// Says what to write instead.
    #[must_use]
    pub fn instead(mut self, instead: impl Into<String>) -> Problem {
        self.instead = Some(instead.into());
        self
    }

    /// With the file's name and the line in front, as editors understand it.
    pub fn at(&self, file: &Path) -> String {
        let instead = self.instead.as_ref().map(|instead| format!("; {instead}")).unwrap_or_default();
        format!("{}:{}: {}{instead}", file.display(), self.line, self.message)
    }
}

/// All problems of a file as one failure.
pub fn failure(path: &Path, problems: &[Problem]) -> Failure {
    let message = match problems.len() {
        1 => format!("the settings in {} have a problem", path.display()),
        many => format!("the settings in {} have {many} problems", path.display()),
    };
    let failure = Failure::new(FailureKind::Usage, message);
    let failure = problems.iter().fold(failure, |failure, problem| failure.because(problem.at(path)));
    failure.hint("lifeboat config check, when you have changed it")
}
