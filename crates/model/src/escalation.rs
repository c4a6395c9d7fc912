//! Who is to be called when, in an emergency: the tiers of the document, with the time that each has.

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
