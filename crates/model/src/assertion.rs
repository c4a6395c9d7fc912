//! What a person asserts about data, in SQL, with what counts as right.

use serde::{Deserialize, Serialize};

use crate::check::Tri;

/// One statement about a database, and what it must find.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assertion {
    /// What it is about, in a few words.
    pub name: String,
    /// The question.
    pub sql: String,
    /// What it must find.
    pub expect: Expect,
    /// How bad it is when it does not.
    #[serde(default)]
    pub severity: Severity,
}

/// What a question must find.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// No row.
    Empty,
    /// One value, and this one.
    Exactly(String),
    /// One number, within these.
    Between {
        /// At least this.
        min: Option<f64>,
        /// At most this.
        max: Option<f64>,
    },
}

/// How bad a wrong answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing may go on with it.
    Critical,
    /// It is wrong.
    #[default]
    Major,
    /// It is told, and counts in the score alone.
    Minor,
}

impl Severity {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Major => "major",
            Severity::Minor => "minor",
        }
    }
}

impl Expect {
    /// Judges an answer: how many rows there were, and the first value of the first one.
    pub fn judge(&self, rows: usize, first: Option<&str>) -> (Tri, String) {
        let shown = first.unwrap_or("NULL");
        match (self, rows) {
            (Expect::Empty, 0) => (Tri::Pass, "no rows".to_owned()),
            (Expect::Empty, 1) => (Tri::Fail, format!("1 row, and there must be none; it begins with {shown}")),
            (Expect::Empty, rows) => {
                (Tri::Fail, format!("{rows} rows, and there must be none; the first begins with {shown}"))
            }
            (_, 0) => (Tri::Unknown, "the question has no answer".to_owned()),
            (Expect::Exactly(wanted), _) => {
                let numbers = (shown.trim().parse::<f64>(), wanted.trim().parse::<f64>());
                let same = first == Some(wanted) || matches!(numbers, (Ok(one), Ok(other)) if one == other);
                let told = if same { shown.to_owned() } else { format!("{shown}; it must be {wanted}") };
                (Tri::from_bool(same), told)
            }
            (Expect::Between { min, max }, _) => match shown.trim().parse::<f64>() {
                Err(_) => (Tri::Unknown, format!("{shown} is no number")),
                Ok(number) => {
                    let low = min.filter(|min| number < *min).map(|min| format!("at least {min}"));
                    let high = max.filter(|max| number > *max).map(|max| format!("at most {max}"));
                    match low.or(high) {
                        None => (Tri::Pass, shown.to_owned()),
                        Some(bound) => (Tri::Fail, format!("{shown}; it must be {bound}")),
                    }
                }
            },
        }
    }
}

/// How many of a hundred assertions hold, cut to whole numbers; nothing when there are none. What could not be asked does
/// not hold.
pub fn score(outcomes: &[Tri]) -> Option<u32> {
    let held = outcomes.iter().filter(|outcome| **outcome == Tri::Pass).count();
    (!outcomes.is_empty()).then(|| (held * 100 / outcomes.len()) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let between = |min, max| Expect::Between { min, max };
        for (expect, rows, first, outcome) in [
            (Expect::Empty, 0, None, Tri::Pass),
            (Expect::Empty, 3, Some("7"), Tri::Fail),
            (Expect::Exactly("42".into()), 1, Some("42.0"), Tri::Pass),
            (Expect::Exactly("ok".into()), 1, Some("OK"), Tri::Fail),
            (Expect::Exactly("ok".into()), 0, None, Tri::Unknown),
            (between(Some(85.0), None), 1, Some("85"), Tri::Pass),
            (between(Some(85.0), None), 1, Some("84.99"), Tri::Fail),
            (between(Some(1.0), Some(5.0)), 1, Some("6"), Tri::Fail),
            (between(Some(1.0), None), 1, None, Tri::Unknown),
            (between(Some(1.0), None), 1, Some("many"), Tri::Unknown),
        ] {
            assert_eq!(expect.judge(rows, first).0, outcome, "{expect:?} {rows} {first:?}");
        }
    }

    /// The rule of the documents: 84 % is too little, and a part of a percent is not rounded up.
    #[test]
    fn vfy_02_a_score_is_never_rounded_up() {
        let of = |held: usize, all: usize| {
            let outcomes: Vec<Tri> = (0..all).map(|at| Tri::from_bool(at < held)).collect();
            score(&outcomes)
        };
        assert_eq!((of(84, 100), of(85, 100), of(849, 1000), of(0, 0)), (Some(84), Some(85), Some(84), None));
        assert_eq!(score(&[Tri::Pass, Tri::Unknown]), Some(50));
    }
}
