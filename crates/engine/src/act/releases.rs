//! What goes on record about releases. The journal is the record: nothing else is written.

use lifeboat_model::{Failure, FailureKind, ReleaseRecord};
use serde_json::Value;

pub fn record(record: &ReleaseRecord) -> Result<Value, Failure> {
    serde_json::to_value(record).map_err(|error| {
        Failure::new(FailureKind::Bug, "a record about a release cannot be written").because(error.to_string())
    })
}
