//! What was measured of a release when it was sealed, and whether what is measured now is back there.
//!
//! A rollback is not over when the app answers: requests may fail as before, more slowly now than when all was well. Limits
//! of the decision do not tell; five times the usual rate of errors can be below them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Tri,
    decision::{Fact, Number, Rule, Value},
};

/// What was measured, by the keys of the decision's rules: numbers of enough samples over enough time, nothing else.
pub type Baseline = BTreeMap<String, Fact>;

/// More than so many times the number of before is not back.
const TIMES: i64 = 2;

/// Something that was measured then, beside what is measured now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The fact's key: `error_rate`.
    pub key: String,
    /// What it speaks of, for people.
    pub title: String,
    /// How it was.
    pub before: Fact,
    /// How it is.
    pub now: Fact,
    /// Whether it is back; unknown when it cannot be told now.
    pub back: Tri,
    /// Why not, in a sentence.
    pub why: String,
}

/// Leaves what is fit to be compared with later: who measured of a few requests, or could not measure, has no baseline.
pub fn fit(rules: &[Rule], mut measured: BTreeMap<String, Fact>) -> Baseline {
    measured.retain(|key, fact| {
        let rule = rules.iter().find(|rule| rule.key == *key);
        rule.is_some_and(|rule| number(fact).is_some() && rule.asks(fact).is_none())
    });
    measured
}

/// Sets what is measured now beside a baseline.
pub fn compare(rules: &[Rule], baseline: &Baseline, now: &BTreeMap<String, Fact>) -> Vec<Compared> {
    let known = baseline.iter().filter_map(|(key, before)| {
        let rule = rules.iter().find(|rule| rule.key == *key)?;
        let now = now.get(key).cloned().unwrap_or_else(|| Fact::unknown("nothing measures it any more"));
        let (back, why) = judge(rule, before, &now);
        Some(Compared { key: key.clone(), title: rule.title.clone(), before: before.clone(), now, back, why })
    });
    known.collect()
}

fn judge(rule: &Rule, before: &Fact, now: &Fact) -> (Tri, String) {
    if let Some(ask) = rule.asks(now) {
        return (Tri::Unknown, ask);
    }
    let (Some(before), Some(now)) = (number(before), number(now)) else {
        return (Tri::Unknown, format!("{}: it is no number", rule.key));
    };
    match now > before.times(TIMES) {
        true => (Tri::Fail, format!("{}: {now} is more than twice {before}", rule.key)),
        false => (Tri::Pass, String::new()),
    }
}

fn number(fact: &Fact) -> Option<Number> {
    match fact.value {
        Value::Number(number) => Some(number),
        Value::No | Value::Yes | Value::Unknown(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::default_rules;

    fn facts(told: &[(&str, &str)]) -> BTreeMap<String, Fact> {
        let rules = default_rules();
        let of = |key: &str| rules.iter().find(|rule| rule.key == key).unwrap();
        told.iter().map(|(key, text)| ((*key).to_owned(), Fact::parse(of(key), text).unwrap())).collect()
    }

    #[test]
    fn a_baseline_is_of_numbers_that_say_something() {
        let measured = facts(&[
            ("error_rate", "0.4,n=1200,window=5m"),
            ("response_time", "0.2,n=40,window=5m"),
            ("data_loss", "no"),
            ("system_unavailable", "unknown"),
        ]);
        let kept: Vec<String> = fit(&default_rules(), measured).into_keys().collect();
        assert_eq!(kept, ["error_rate"]);
    }

    /// VFY-27: three times as many errors as before are not the baseline; twice as many, and fewer, are.
    #[test]
    fn vfy_27_three_times_the_baseline_is_not_back() {
        let before = facts(&[("error_rate", "0.4,n=1200,window=5m")]);
        let back = |now: &str| compare(&default_rules(), &before, &facts(&[("error_rate", now)]))[0].back;
        assert_eq!(back("1.2,n=1200,window=5m"), Tri::Fail);
        assert_eq!(back("0.800001,n=1200,window=5m"), Tri::Fail);
        assert_eq!(back("0.8,n=1200,window=5m"), Tri::Pass);
        assert_eq!(back("0,n=1200,window=5m"), Tri::Pass);
        assert_eq!(back("1.2,n=12,window=5m"), Tri::Unknown, "of twelve requests nobody can tell");
        assert_eq!(back("unknown"), Tri::Unknown);
        assert_eq!(compare(&default_rules(), &before, &BTreeMap::new())[0].back, Tri::Unknown);
    }
}
