//! Who is called in an emergency, as settings say it.

use lifeboat_model::escalation::Contacts;
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
