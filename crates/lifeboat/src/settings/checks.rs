//! Commands that look at points of checklists, as settings say it.

use std::collections::BTreeMap;

use lifeboat_model::{
    Failure, FailureKind,
    checklist::{LISTS, list},
};

/// Decides what is in effect.
///
/// # Errors
/// There is no such list or point; a command has no words; what is measured already is to be looked at otherwise.
pub fn resolve(all: &BTreeMap<String, Vec<String>>) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    for (place, words) in all {
        let usage = |message: String, hint: String| {
            Err(Failure::new(FailureKind::Usage, format!("checks.{place} {message}")).hint(hint))
        };
        let Some((key, point)) = place.split_once('.') else {
            return usage("names no point".to_owned(), "\"smoke.create\" = [\"./smoke\"], for example".to_owned());
        };
        let Some(found) = list(key) else {
            let keys: Vec<&str> = LISTS.iter().map(|list| list.key).collect();
            return usage(format!("is of no list: {key}"), format!("there are: {}", keys.join(", ")));
        };
        if !found.items.iter().any(|item| item.key == point) {
            let keys: Vec<&str> = found.items.iter().map(|item| item.key).collect();
            return usage(format!("is no point of {key}"), format!("it has: {}", keys.join(", ")));
        }
        if words.is_empty() {
            return usage(
                "has no words".to_owned(),
                "the program and its arguments, each a string of its own".to_owned(),
            );
        }
    }
    Ok(all.clone())
}
