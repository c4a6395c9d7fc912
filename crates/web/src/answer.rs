//! Answers: JSON in `data`, and problems as RFC 9457 describes them.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use lifeboat_model::{Failure, FailureKind};
use serde::Serialize;
use serde_json::json;

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        let failure = Failure::new(FailureKind::NeedsPerson, problem.title);
        let failure = problem.causes.into_iter().fold(failure, Failure::because);
        problem.hint.into_iter().fold(failure, |failure, hint| failure.hint(hint))
    }
}

/// A good answer.
pub struct Data<T>(pub T);

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        Json(json!({ "data": self.0 })).into_response()
    }
}

/// What went wrong, for programs and people.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    title: String,
    causes: Vec<String>,
    hint: Option<String>,
    kind: String,
    retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem in one sentence.
    pub fn new(status: u16, title: impl Into<String>) -> Problem {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Problem {
            status,
            title: title.into(),
            causes: Vec::new(),
            hint: None,
            kind: "http".to_owned(),
            retry_after_s: None,
        }
    }

    /// That somebody asks too often, and may ask again after so many seconds.
    pub fn too_often(after_s: u64) -> Problem {
        Problem::new(429, "you ask too often").retry_after(after_s).hint(format!("ask again in {after_s} s"))
    }

    /// When to ask again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Problem {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Whether the words of the request are wrong.
    pub fn is_usage(&self) -> bool {
        self.kind == "usage"
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Problem {
        self.status = StatusCode::from_u16(status).unwrap_or(self.status);
        self
    }

    /// What lies beneath it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Problem {
        self.causes.push(cause.into());
        self
    }

    /// What to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        let status = match failure.kind {
            FailureKind::Usage => 400,
            FailureKind::Refused | FailureKind::Stale | FailureKind::NeedsPerson => 409,
            FailureKind::Busy | FailureKind::Interrupted => 503,
            FailureKind::Outside => 502,
            FailureKind::Unknown | FailureKind::Damaged | FailureKind::Bug => 500,
        };
        let kind = failure.class_word().to_owned();
        Problem { causes: failure.causes, hint: failure.hint, kind, ..Problem::new(status, failure.message) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("https://lifeboat.invalid/problems/{}", self.kind), "title": self.title,
            "status": self.status.as_u16(), "detail": self.causes.join("; "), "hint": self.hint,
        });
        let mut response = (self.status, Json(body)).into_response();
        let kind = header::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
        }
        response
    }
}

/// Does blocking work on a thread for it.
///
/// # Errors
/// Those of the work.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Problem::from),
        Err(_) => Err(Problem::new(500, "the work broke off")),
    }
}
