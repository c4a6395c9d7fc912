//! Who is to be called when, in an emergency: the tiers of the document, with the time that each has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::{Duration, Timestamp, since};

/// A tier: who tries, and how long before the next one is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tier {
    /// Its number.
    pub tier: u8,
    /// Who it is.
    pub name: &'static str,
    /// Its key in the settings, under which somebody may be named.
    pub key: Option<&'static str>,
    /// How long it has, in minutes.
    pub minutes: u64,
    /// What is done, each as something to type or to do.
    pub steps: &'static [&'static str],
}

/// The tiers. The last one is no fourth in line: it is for what cannot wait, from the first minute on.
pub const TIERS: [Tier; 4] = [
    Tier {
        tier: 1,
        name: "self-service",
        key: None,
        minutes: 15,
        steps: &["lifeboat advise", "lifeboat sync status", "lifeboat logs scan", "lifeboat level 1"],
    },
    Tier {
        tier: 2,
        name: "internal team",
        key: Some("team"),
        minutes: 60,
        steps: &["lifeboat sync queue list", "lifeboat history", "https://status.supabase.com"],
    },
    Tier { tier: 3, name: "vendor support", key: Some("vendor"), minutes: 240, steps: &["lifeboat evidence collect"] },
    Tier {
        tier: 4,
        name: "emergency",
        key: Some("on_call"),
        minutes: 30,
        steps: &["lifeboat level 1", "lifeboat level 3 --stable", "lifeboat level 5"],
    },
];

/// Who is named for the tiers, by their keys in the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contacts {
    /// The internal team.
    pub team: Option<String>,
    /// The vendor.
    pub vendor: Option<String>,
    /// Whoever is on call.
    pub on_call: Option<String>,
    /// Who decides when it is not over after half an hour.
    #[serde(default)]
    pub executive: Option<String>,
    /// Who has which role, by its key.
    #[serde(default)]
    pub roles: BTreeMap<String, OnDuty>,
}

/// Who has a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDuty {
    /// Who is called first.
    pub primary: Option<String>,
    /// Who is called when nobody answers.
    pub backup: Option<String>,
    /// Where they are called.
    pub phone: Option<String>,
}

impl OnDuty {
    fn said(&self) -> [(&'static str, Option<&str>); 3] {
        [("primary", self.primary.as_deref()), ("backup", self.backup.as_deref()), ("phone", self.phone.as_deref())]
    }
}

/// A role in a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Role {
    /// Its key in the settings.
    pub key: &'static str,
    /// What it is called.
    pub title: &'static str,
}

/// The roles of a rollback's team.
pub const ROLES: [Role; 4] = [
    Role { key: "deployment_lead", title: "deployment lead" },
    Role { key: "database_administrator", title: "database administrator" },
    Role { key: "application_administrator", title: "application administrator" },
    Role { key: "communications_lead", title: "communications lead" },
];

/// After so many minutes without an answer of theirs the backups are called.
pub const BACKUP_MIN: u64 = 5;
/// After so many minutes without an answer everybody is.
pub const EVERYBODY_MIN: u64 = 10;
/// After so many minutes an incident that is not over goes to the executive, whoever has answered.
pub const EXECUTIVE_MIN: u64 = 30;

/// That somebody has answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// For which role; nothing: for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What they said.
    pub note: String,
}

/// The roles that somebody has, and for which nobody has answered.
pub fn unanswered<'a>(contacts: &'a Contacts, answered: &[Answered]) -> Vec<(&'static Role, &'a OnDuty)> {
    let has = |role: &Role| answered.iter().any(|one| one.role.as_deref().is_none_or(|key| key == role.key));
    ROLES.iter().filter(|role| !has(role)).filter_map(|role| Some((role, contacts.roles.get(role.key)?))).collect()
}

/// Whether a text is what a document leaves for the reader to fill in: `[NAME]`, `<phone>`, `TODO`.
pub fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    let bracketed = [('[', ']'), ('<', '>'), ('{', '}')].iter().any(|(open, close)| {
        let inner = text.split_once(*open).and_then(|(_, rest)| rest.split_once(*close)).map(|(inner, _)| inner);
        // An address behind a name stands in angles, too.
        inner.is_some_and(|inner| !inner.contains('@'))
    });
    let unsaid = ["todo", "tbd", "fixme", "name", "phone", "n/a", "?", "-"];
    text.is_empty()
        || bracketed
        || unsaid.contains(&text.to_lowercase().as_str())
        || text.to_lowercase().starts_with("xxx")
}

/// What is missing or not filled in, by its key; nothing when everybody can be called. Roles are asked for once one of them is named.
pub fn missing(contacts: &Contacts) -> Vec<String> {
    let single = [
        ("team", &contacts.team),
        ("vendor", &contacts.vendor),
        ("on_call", &contacts.on_call),
        ("executive", &contacts.executive),
    ];
    let unfilled = single.into_iter().filter(|(_, who)| who.as_deref().is_some_and(is_placeholder));
    let mut missing: Vec<String> = unfilled.map(|(key, _)| key.to_owned()).collect();
    if contacts.roles.is_empty() {
        return missing;
    }
    for role in &ROLES {
        let said = contacts.roles.get(role.key).cloned().unwrap_or_default();
        let bad = said.said().into_iter().filter(|(_, who)| who.is_none_or(is_placeholder));
        missing.extend(bad.map(|(what, _)| format!("roles.{}.{what}", role.key)));
    }
    if contacts.executive.is_none() {
        missing.push("executive".to_owned());
    }
    missing
}

impl Contacts {
    /// Who is named for a tier.
    pub fn of(&self, tier: &Tier) -> Option<&str> {
        match tier.key? {
            "team" => self.team.as_deref(),
            "vendor" => self.vendor.as_deref(),
            _on_call => self.on_call.as_deref(),
        }
    }
}

/// What a tier's time is like in an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// It is their turn.
    Now,
    /// Their time is over.
    Over,
    /// They are called when those before them have had their time.
    Later,
    /// For what cannot wait.
    AtOnce,
}

/// Whose turn it is in an incident that began then: the first tier whose time is not over; the last in line stays.
pub fn turns(began: Timestamp, now: Timestamp) -> [Turn; 4] {
    let passed = since(began, now);
    let is_over = |tier: &Tier| passed >= Duration::from_secs(tier.minutes * 60);
    let line = &TIERS[..3];
    let at = line.iter().position(|tier| !is_over(tier)).unwrap_or(line.len() - 1);
    let mut turns = [Turn::AtOnce; 4];
    for (place, turn) in turns.iter_mut().take(line.len()).enumerate() {
        *turn = match place.cmp(&at) {
            std::cmp::Ordering::Less => Turn::Over,
            std::cmp::Ordering::Equal => Turn::Now,
            std::cmp::Ordering::Greater => Turn::Later,
        };
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn esc_03_what_is_not_filled_in_is_nobody() {
        let duty = |phone: &str| OnDuty {
            primary: Some("Ada".to_owned()),
            backup: Some("Bob <bob@shop.example>".to_owned()),
            phone: Some(phone.to_owned()),
        };
        let all = |phone: &str| Contacts {
            executive: Some("Eve".to_owned()),
            roles: ROLES.iter().map(|role| (role.key.to_owned(), duty(phone))).collect(),
            ..Contacts::default()
        };
        assert_eq!(missing(&all("+49 30 1234567")), [""; 0]);
        assert_eq!(missing(&all("[PHONE]")).len(), 4);
        assert_eq!(missing(&all("TBD"))[0], "roles.deployment_lead.phone");
        let mut one = all("1");
        one.roles.remove("communications_lead");
        one.executive = Some("<name>".to_owned());
        assert_eq!(
            missing(&one),
            [
                "executive",
                "roles.communications_lead.primary",
                "roles.communications_lead.backup",
                "roles.communications_lead.phone"
            ]
        );
        assert_eq!(missing(&Contacts::default()), [""; 0]);
    }

    #[test]
    fn esc_01_the_tiers_have_the_document_s_times() {
        assert_eq!(TIERS.map(|tier| tier.minutes), [15, 60, 240, 30]);
        let at = |text: &str| format!("2026-01-01T{text}Z").parse::<Timestamp>().unwrap();
        use Turn::{AtOnce, Later, Now, Over};
        for (now, wanted) in [
            ("12:00:00", [Now, Later, Later, AtOnce]),
            ("12:14:59", [Now, Later, Later, AtOnce]),
            ("12:15:00", [Over, Now, Later, AtOnce]),
            ("13:00:00", [Over, Over, Now, AtOnce]),
            ("23:00:00", [Over, Over, Now, AtOnce]),
            // A clock that went back.
            ("11:00:00", [Now, Later, Later, AtOnce]),
        ] {
            assert_eq!(turns(at("12:00:00"), at(now)), wanted, "{now}");
        }
    }
}
