//! Watching a version that has just been put in use: whether its paths go on answering, and what the rules say to what is
//! measured.

use std::{collections::VecDeque, time::Duration};

use lifeboat_model::{
    Failure, FailureKind, Target,
    decision::{Basis, Decided, Verdict},
    time::show_duration,
};
use serde_json::{Value, json};

use super::{Hands, probes};
use crate::{decide, perform::Context, questions, targets};

/// What is watched, and how.
pub(super) struct What<'a> {
    pub paths: &'a [String],
    pub how_long: Duration,
    pub every: Duration,
    pub failures_max: u32,
    pub measures: bool,
}

/// Watches until the time is over. Unknown is not good: what the rules speak of and nobody could measure is told, and the
/// release does not count as good.
pub(super) fn watch(hands: &Hands, target: &Target, what: &What<'_>, context: &Context<'_>) -> Result<Value, Failure> {
    let (clock, matrix) = (&*hands.io.clock, &hands.setup.matrix);
    let (began, detected) = (clock.elapsed(), clock.now());
    // What is measured looks back that far, and the time before was another version's, or one in which nothing was served.
    let settled = matrix.window.min(what.how_long);
    let (mut looks, mut held) = (0_u64, Held::new(what.failures_max));
    let mut decided: Option<Decided> = None;
    loop {
        looks += 1;
        let looked = look(hands, target, what.paths, context);
        if let Some(how_often) = held.noted(looked.is_ok()) {
            let why = looked.err().unwrap_or_default();
            return Err(probes::not_working(target, format!("{why}, {how_often}")));
        }
        let elapsed = clock.elapsed().saturating_sub(began);
        if what.measures && !matrix.sources.is_empty() && elapsed >= settled {
            let mut rules = matrix.rules.clone();
            rules.retain(|rule| matrix.sources.contains_key(&rule.key));
            let (facts, at) = (decide::measured(&hands.io, matrix, context.stop), clock.now());
            let basis = Basis { rules, facts, detected, at, quick_fix: None, fix_begun: None, planned: None };
            let found = basis.decide();
            if found.verdict == Verdict::RollBack {
                let failure = Failure::new(FailureKind::Refused, format!("{} does not do well", target.name));
                return Err(found.matched.into_iter().map(|(_, says)| says).fold(failure, Failure::because));
            }
            decided = Some(found);
        }
        // Who has just failed is looked at again, beyond the end: it comes to stand within a few looks, or to fall.
        if elapsed >= what.how_long && held.is_steady() {
            break;
        }
        // Somebody who asks for a safe point is not kept waiting until the end.
        if context.stop.wanted() {
            return Err(not_to_the_end(target));
        }
        context.watch.progress(elapsed.as_millis() as u64, Some(what.how_long.as_millis() as u64));
        let pause = what.every.min(left(what, elapsed)).max(Duration::from_millis(1));
        clock.sleep(pause, context.stop).map_err(|_stopped| not_to_the_end(target))?;
    }
    let missing = decided.filter(|decided| decided.verdict != Verdict::Stay).map(|decided| decided.missing);
    let missing = missing.unwrap_or_default();
    missing.iter().for_each(|missing| context.watch.note(&format!("Not known: {missing}.")));
    let watched = show_duration(what.how_long);
    Ok(json!({ "looks": looks, "watched": watched, "known": missing.is_empty(), "missing": missing }))
}

/// What is left until the end; beyond it the usual pause.
fn left(what: &What<'_>, elapsed: Duration) -> Duration {
    match what.how_long.saturating_sub(elapsed) {
        Duration::ZERO => what.every,
        left => left,
    }
}

/// So many looks that are well, one after the other, are needed at the end.
const STEADY: u32 = 2;
/// Looks that are well between failures do not make up for them: of so many times as many looks as may fail, that many failed.
const LOOKS_PER_FAILURE: usize = 4;

/// How the last looks came out.
struct Held {
    failures_max: u32,
    last: VecDeque<bool>,
}

impl Held {
    /// What is watched was well when it was tried, before.
    fn new(failures_max: u32) -> Held {
        Held { failures_max: failures_max.max(1), last: VecDeque::from([true]) }
    }

    /// Notes a look; when it is one failure too many, how often it failed.
    fn noted(&mut self, is_well: bool) -> Option<String> {
        self.last.push_back(is_well);
        let max = self.failures_max as usize;
        while self.last.len() > max * LOOKS_PER_FAILURE {
            self.last.pop_front();
        }
        let in_a_row = self.last.iter().rev().take_while(|well| !**well).count();
        let in_all = self.last.iter().filter(|well| !**well).count();
        match (is_well, in_a_row >= max, in_all >= max) {
            (true, _, _) | (_, false, false) => None,
            (false, true, _) => Some(format!("{max} times in a row")),
            (false, false, true) => Some(format!("{max} times in {} looks", self.last.len())),
        }
    }

    fn is_steady(&self) -> bool {
        self.last.iter().rev().take_while(|well| **well).count() >= STEADY as usize
    }
}

fn not_to_the_end(target: &Target) -> Failure {
    Failure::new(FailureKind::Interrupted, format!("{} was not watched to the end", target.name))
}

/// One look at each path, and each question put once.
fn look(hands: &Hands, target: &Target, paths: &[String], context: &Context<'_>) -> Result<(), String> {
    if let Some(url) = &target.url {
        paths.iter().try_for_each(|path| targets::probe(url, path))?;
    }
    target.questions.iter().try_for_each(|question| questions::ask(&*hands.vaults, question, context.stop))
}
