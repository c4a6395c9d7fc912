//! Asking a live database what a person asserts about it. Nothing is written.

use lifeboat_io::{
    Stop,
    database::postgres::{self, Address, Session},
};
use lifeboat_model::{
    Check, Tri,
    assertion::{Assertion, Severity, score},
};
use serde::Serialize;

/// What a person asserts, with the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asserted {
    /// How bad it is when it does not hold.
    pub severity: Severity,
    /// The answer.
    #[serde(flatten)]
    pub check: Check,
}

/// Assertions, and how many of a hundred must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assertions {
    /// What is asserted.
    pub all: Vec<Assertion>,
    /// How many of a hundred must hold, when that is said.
    pub score_min: Option<u32>,
}

/// Asks all of them, each by itself: one that cannot be asked is unknown, and takes nothing from the others.
pub(crate) fn ask(address: &Address, assertions: &Assertions, stop: &Stop) -> (Vec<Asserted>, Option<Check>) {
    let mut session = Session::open(address, stop);
    let mut answer = |one: &Assertion| match &mut session {
        Err(error) => (Tri::Unknown, error.to_string()),
        Ok(session) => match postgres::ask_rows(session, &one.sql) {
            Ok((rows, first)) => one.expect.judge(rows, first.as_deref()),
            Err(error) => (Tri::Unknown, error.to_string()),
        },
    };
    let answered = assertions.all.iter().map(|one| {
        let (outcome, detail) = answer(one);
        Asserted { severity: one.severity, check: Check::new(one.name.clone(), outcome, detail) }
    });
    let answered: Vec<Asserted> = answered.collect();
    let outcomes: Vec<Tri> = answered.iter().map(|one| one.check.outcome).collect();
    let scored = assertions.score_min.zip(score(&outcomes)).map(|(min, found)| {
        let told = if found >= min { format!("{found} %") } else { format!("{found} %; it must be at least {min} %") };
        Check::new("score", Tri::from_bool(found >= min), told)
    });
    (answered, scored)
}

/// What counts of them: all but what is minor and does not hold.
pub(crate) fn outcomes(answered: &[Asserted]) -> impl Iterator<Item = Tri> {
    let counts = |one: &&Asserted| one.severity != Severity::Minor || one.check.outcome != Tri::Fail;
    answered.iter().filter(counts).map(|one| one.check.outcome)
}
