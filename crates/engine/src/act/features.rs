//! Looking whether a feature is off, or on, as it should be.

use lifeboat_io::{HttpRequest, ask_over_http};
use lifeboat_model::{Failure, FailureKind, FeatureSeen, feature};
use serde_json::{Value, json};

use super::{Hands, target::until};
use crate::perform::Context;

pub(super) fn see(hands: &Hands, seen: &FeatureSeen, context: &Context<'_>) -> Result<Value, Failure> {
    let word = feature::word(seen.on);
    let Some(url) = &seen.probe else {
        return Ok(json!({ "feature": seen.feature, "on": seen.on, "seen": false }));
    };
    let look = || {
        let answer = ask_over_http(&HttpRequest { method: "GET", url, headers: &[], body: None })?;
        feature::answers_so(answer.status, seen.on)
    };
    until(hands, seen.limit_ms, context, &look).map_err(|why| {
        let message = format!("feature {} was switched {word}, and that is not to be seen", seen.feature);
        let failure = Failure::new(FailureKind::Refused, message).because(format!("{url}: {why}"));
        failure.hint(format!("correct how {} is switched, or its probe, in lifeboat.toml", seen.feature))
    })?;
    Ok(json!({ "feature": seen.feature, "on": seen.on, "seen": true }))
}
