//! Incidents: from when on something was wrong, until it was over, until somebody looked at it again in peace. While one
//! is not reviewed, nothing goes that was made since it began; while it is not over, nothing goes at all.

use serde::{Deserialize, Serialize};

use crate::{backup::Backup, id::OperationId, time::Timestamp};

/// What is said about an incident. Its name is that of the operation that opened it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum IncidentStep {
    /// It has begun.
    Open {
        /// What is wrong, in a few words.
        title: String,
        /// From when on.
        since: Timestamp,
        /// What the provider promises, where it is the provider's outage: `99.9 %`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_sla: Option<String>,
    },
    /// It is over.
    Close {
        /// Which.
        incident: OperationId,
        /// How it ended.
        note: String,
        /// What it switched off stays off.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        leave_off: bool,
    },
    /// It was looked at again, and nothing of it has to be kept any more.
    Review {
        /// Which.
        incident: OperationId,
        /// What came out.
        note: String,
    },
}

/// Something that was said, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When.
    pub at: Timestamp,
    /// What.
    pub note: String,
}

/// An incident as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The operation that opened it.
    pub id: OperationId,
    /// What is wrong.
    pub title: String,
    /// From when on.
    pub since: Timestamp,
    /// What the provider promises, where it is the provider's outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_sla: Option<String>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Said>,
    /// When it was reviewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewed: Option<Said>,
}

impl Incident {
    /// `open`, `closed` or `reviewed`.
    pub fn state(&self) -> &'static str {
        match (&self.closed, &self.reviewed) {
            (_, Some(_)) => "reviewed",
            (Some(_), None) => "closed",
            (None, None) => "open",
        }
    }

    /// Why something that was made at that time must be kept, when it must.
    pub fn holds(&self, made_at: Timestamp) -> Option<String> {
        match self.state() {
            "reviewed" => None,
            "open" => Some(format!("incident {} is open: {}", self.id, self.title)),
            _closed if made_at >= self.since => Some(format!("incident {} is not reviewed: {}", self.id, self.title)),
            _closed => None,
        }
    }

    /// Why data of that instant must not be chosen by itself: it may hold the damage.
    fn suspects(&self, recovery_point: Timestamp) -> Option<String> {
        let over = self.closed.as_ref().is_some_and(|closed| recovery_point >= closed.at);
        (recovery_point >= self.since && !over).then(|| format!("taken during incident {}: {}", self.id, self.title))
    }

    /// Says of a backup what follows from this incident, where a person has not said it already.
    pub fn judge(&self, backup: &mut Backup) {
        // Whatever is newer than the beginning counts, by either of its times.
        let made_at = backup.taken_at.max(backup.recovery_point);
        backup.held = backup.held.take().or_else(|| self.holds(made_at));
        backup.suspect = backup.suspect.take().or_else(|| self.suspects(backup.recovery_point));
    }
}

/// Puts together what was said, oldest first: when, by which operation.
pub fn incidents(said: impl IntoIterator<Item = (Timestamp, OperationId, IncidentStep)>) -> Vec<Incident> {
    let mut known: Vec<Incident> = Vec::new();
    for (at, operation, step) in said {
        let (id, note, is_review) = match step {
            IncidentStep::Open { title, since, provider_sla } => {
                known.push(Incident { id: operation, title, since, provider_sla, closed: None, reviewed: None });
                continue;
            }
            IncidentStep::Close { incident, note, .. } => (incident, note, false),
            IncidentStep::Review { incident, note } => (incident, note, true),
        };
        let Some(found) = known.iter_mut().find(|one| one.id == id) else { continue };
        let place = if is_review { &mut found.reviewed } else { &mut found.closed };
        place.get_or_insert(Said { at, note });
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn what_an_incident_holds_and_suspects_follows_its_state() {
        let (id, other) = (OperationId::from_random(1), OperationId::from_random(2));
        let open =
            (at(50), id.clone(), IncidentStep::Open { title: "bad import".into(), since: at(40), provider_sla: None });
        let close = IncidentStep::Close { incident: id.clone(), note: "restored".into(), leave_off: false };
        let review = IncidentStep::Review { incident: id.clone(), note: "validated".into() };
        let stages = [
            (vec![open.clone()], "open", [true, true], [false, true, true]),
            (vec![open.clone(), (at(60), other.clone(), close.clone())], "closed", [false, true], [false, true, false]),
            (
                vec![open, (at(60), other.clone(), close), (at(70), other, review)],
                "reviewed",
                [false, false],
                [false, true, false],
            ),
        ];
        for (said, state, holds, suspects) in stages {
            let [incident] = &incidents(said)[..] else { panic!("one incident") };
            assert_eq!(incident.state(), state);
            assert_eq!([at(39), at(45)].map(|made| incident.holds(made).is_some()), holds, "{state}");
            assert_eq!([at(39), at(45), at(60)].map(|point| incident.suspects(point).is_some()), suspects, "{state}");
        }
    }
}
