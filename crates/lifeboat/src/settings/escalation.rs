//! Who is called in an emergency, and what is due when it is over, as settings say it.

use std::collections::BTreeMap;

use lifeboat_model::{
    Failure, FailureKind,
    due::{ITEMS, Times},
    escalation::Contacts,
    time::parse_duration,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Who is called in an emergency.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscalationSettings {
    /// The internal team, called after 15 minutes.
    pub team: Option<String>,
    /// The vendor, called after an hour.
    pub vendor: Option<String>,
    /// Whoever is on call, for what cannot wait.
    pub on_call: Option<String>,
}

/// Decides what is in effect.
pub fn resolve(said: &EscalationSettings) -> Contacts {
    Contacts { team: said.team.clone(), vendor: said.vendor.clone(), on_call: said.on_call.clone() }
}

/// For people: who is named, by the key.
pub fn shown(said: &EscalationSettings) -> Vec<(String, String)> {
    let named = [("team", &said.team), ("vendor", &said.vendor), ("on_call", &said.on_call)];
    named.into_iter().filter_map(|(key, who)| Some((key.to_owned(), who.clone()?))).collect()
}

/// Within which time what is due, where that is not as usual.
///
/// # Errors
/// Nothing that is due has that name; no length of time.
pub fn due_times(said: &BTreeMap<String, String>) -> Result<Times, Failure> {
    let mut times = Times::new();
    for (name, text) in said {
        let key = name.replace('_', "-");
        let usage = |message: String, hint: String| Failure::new(FailureKind::Usage, message).hint(hint);
        if !ITEMS.iter().any(|item| item.key == key) {
            let names: Vec<String> = ITEMS.iter().map(|item| item.key.replace('-', "_")).collect();
            return Err(usage(
                format!("due.{name} is nothing that is due"),
                format!("there are: {}", names.join(", ")),
            ));
        }
        let within = match text.as_str() {
            "never" => None,
            text => Some(parse_duration(text).map_err(|error| {
                usage(format!("due.{name}: {error}"), "\"48h\", for example, or \"never\"".to_owned())
            })?),
        };
        times.insert(key, within);
    }
    Ok(times)
}
