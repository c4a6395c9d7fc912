//! `/api/openapi.json`: what the daemon answers to, as a document for programs. It is written by hand, and a test holds it
//! against the routes and against real answers.

use axum::{http::header, response::IntoResponse};

/// The document.
pub const DOCUMENT: &str = include_str!("openapi.json");

pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}
