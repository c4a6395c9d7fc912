//! Identifiers: short, typed, chosen when a plan is made, so that doing, repeating and undoing all know them.

use serde::{Deserialize, Serialize};

/// Digits of an id: Crockford's base 32 in lower case. No `i`, `l`, `o` or `u`, so an id survives being read aloud.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// How many digits follow the prefix: 10 digits hold 50 bits, enough for a million ids with a chance of one in two
/// thousand that any two agree, and short enough to type.
pub const ID_DIGITS: usize = 10;

macro_rules! id_type {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// What every id of this type begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id from random bits; only the lowest 50 are used.
            pub fn from_random(bits: u64) -> Self {
                let digits: String = (0..ID_DIGITS)
                    .map(|place| DIGITS[(bits >> (5 * place)) as usize & 31] as char)
                    .collect();
                Self(format!("{}{digits}", $prefix))
            }

            /// Takes an id as somebody typed or stored it.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                let digits = text.strip_prefix($prefix).unwrap_or_default();
                let known = digits.len() == ID_DIGITS && digits.bytes().all(|digit| DIGITS.contains(&digit));
                if known { Ok(Self(text.to_owned())) } else { Err(BadId { text: text.to_owned(), prefix: $prefix }) }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(&self.0) }
        }
    )*};
}

id_type! {
    /// Names one backup: a snapshot in the vault plus its manifest.
    BackupId = "b-",
    /// Names one plan.
    PlanId = "p-",
    /// Names one operation: the execution of a plan.
    OperationId = "o-",
    /// Names one proof: a recorded restore test.
    ProofId = "t-",
    /// Names one release: a sealed version of the app.
    ReleaseId = "r-",
}

/// Names a step inside its plan, for example `capture.db`. Unique within the plan, the same in every plan of that shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub String);

impl std::fmt::Display for StepId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for StepId {
    fn from(text: &str) -> Self {
        StepId(text.to_owned())
    }
}

/// An id that cannot be one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an id of the form {prefix}xxxxxxxxxx")]
pub struct BadId {
    /// What was given.
    pub text: String,
    /// What an id of this type begins with.
    pub prefix: &'static str,
}

/// The one of `all` that begins with `start`, or why there is none. The prefix (`b-`, `o-`) may be left out.
pub fn find_by_start<'a, T: AsRef<str>>(all: &'a [T], start: &str, prefix: &str) -> Result<&'a T, NotOne> {
    let wanted = if start.starts_with(prefix) { start.to_owned() } else { format!("{prefix}{start}") };
    let mut hits = all.iter().filter(|id| id.as_ref().starts_with(&wanted));
    match (hits.next(), hits.next()) {
        (Some(hit), None) => Ok(hit),
        (None, _) => Err(NotOne::Nothing { start: start.to_owned() }),
        (Some(first), Some(second)) => Err(NotOne::Several {
            start: start.to_owned(),
            first: first.as_ref().to_owned(),
            second: second.as_ref().to_owned(),
        }),
    }
}

/// Why a shortened id names nothing, or too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum NotOne {
    #[error("nothing is called \"{start}\"")]
    Nothing { start: String },
    #[error("\"{start}\" could be {first} or {second}")]
    Several { start: String, first: String, second: String },
}

macro_rules! as_ref_str {
    ($($name:ident),*) => {$( impl AsRef<str> for $name { fn as_ref(&self) -> &str { &self.0 } } )*};
}
as_ref_str!(BackupId, PlanId, OperationId, ProofId, ReleaseId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_made_from_bits_can_be_parsed_again() {
        for bits in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let id = OperationId::from_random(bits);
            assert_eq!(OperationId::parse(id.as_str()), Ok(id));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "o-", "o-short", "b-0000000000", "o-iiiiiiiiii", "o-00000000000"] {
            assert!(OperationId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_start_finds_the_only_one_and_says_when_it_is_not() {
        let all = [BackupId::parse("b-abc0000000").unwrap(), BackupId::parse("b-abd0000000").unwrap()];
        assert_eq!(find_by_start(&all, "b-abc", "b-").unwrap(), &all[0]);
        assert_eq!(find_by_start(&all, "abd", "b-").unwrap(), &all[1]);
        assert!(matches!(find_by_start(&all, "ab", "b-"), Err(NotOne::Several { .. })));
        assert!(matches!(find_by_start(&all, "zz", "b-"), Err(NotOne::Nothing { .. })));
    }
}
