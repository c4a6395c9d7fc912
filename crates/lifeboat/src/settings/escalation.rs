//! Who is called in an emergency, and what is due when it is over, as settings say it.

use std::collections::BTreeMap;

use lifeboat_model::{
    Failure, FailureKind,
    due::{ITEMS, Times},
    escalation::{Contacts, OnDuty, ROLES},
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
    /// Who is called when an incident is not over after 30 minutes.
    pub executive: Option<String>,
    /// Who has which role: `deployment_lead`, `database_administrator`, `application_administrator`, `communications_lead`.
    #[serde(default)]
    #[schemars(extend("x-names" = "a role"))]
    pub roles: BTreeMap<String, RoleSettings>,
}

/// Who has a role.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleSettings {
    /// Who is called first.
    pub primary: Option<String>,
    /// Who is called after 5 minutes without an answer.
    pub backup: Option<String>,
    /// Where they are called.
    pub phone: Option<String>,
}

/// Decides what is in effect.
///
/// # Errors
/// There is no such role.
pub fn resolve(said: &EscalationSettings) -> Result<Contacts, Failure> {
    if let Some(unknown) = said.roles.keys().find(|key| !ROLES.iter().any(|role| role.key == key.as_str())) {
        let keys: Vec<&str> = ROLES.iter().map(|role| role.key).collect();
        let failure = Failure::new(FailureKind::Usage, format!("escalation.roles.{unknown} is no role"));
        return Err(failure.hint(format!("there are: {}", keys.join(", "))));
    }
    let duty = |role: &RoleSettings| OnDuty {
        primary: role.primary.clone(),
        backup: role.backup.clone(),
        phone: role.phone.clone(),
    };
    Ok(Contacts {
        team: said.team.clone(),
        vendor: said.vendor.clone(),
        on_call: said.on_call.clone(),
        executive: said.executive.clone(),
        roles: said.roles.iter().map(|(key, role)| (key.clone(), duty(role))).collect(),
    })
}

/// For people: who is named, by the key.
pub fn shown(said: &EscalationSettings) -> Vec<(String, String)> {
    let named =
        [("team", &said.team), ("vendor", &said.vendor), ("on_call", &said.on_call), ("executive", &said.executive)];
    let single = named.into_iter().filter_map(|(key, who)| Some((key.to_owned(), who.clone()?)));
    let roles = said.roles.iter().flat_map(|(key, role)| {
        let named = [("primary", &role.primary), ("backup", &role.backup), ("phone", &role.phone)];
        named.into_iter().filter_map(move |(what, who)| Some((format!("roles.{key}.{what}"), who.clone()?)))
    });
    single.chain(roles).collect()
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
