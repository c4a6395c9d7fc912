//! Watching a version that has just been put in use: whether its paths go on answering, and what the rules say to what is
//! measured.

use std::time::Duration;

use lifeboat_io::{HttpRequest, ask_over_http};
use lifeboat_model::{
    Failure, FailureKind, Target,
    decision::{Basis, Decided, Verdict},
    time::show_duration,
};
use serde_json::{Value, json};

use super::{Hands, probes};
use crate::{decide, perform::Context};

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
    let (mut looks, mut failures) = (0_u64, 0);
    let mut decided: Option<Decided> = None;
    loop {
        looks += 1;
        match look(target, what.paths) {
            Ok(()) => failures = 0,
            Err(_once) if failures + 1 < what.failures_max => failures += 1,
            Err(why) => {
                let many = format!("{why}, {} times in a row", what.failures_max);
                return Err(probes::not_working(target, many));
            }
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
        if elapsed >= what.how_long {
            break;
        }
        // Somebody who asks for a safe point is not kept waiting until the end.
        if context.stop.wanted() {
            return Err(not_to_the_end(target));
        }
        context.watch.progress(elapsed.as_millis() as u64, Some(what.how_long.as_millis() as u64));
        let pause = what.every.min(what.how_long.saturating_sub(elapsed)).max(Duration::from_millis(1));
        clock.sleep(pause, context.stop).map_err(|_stopped| not_to_the_end(target))?;
    }
    let missing = decided.filter(|decided| decided.verdict != Verdict::Stay).map(|decided| decided.missing);
    let missing = missing.unwrap_or_default();
    missing.iter().for_each(|missing| context.watch.note(&format!("Not known: {missing}.")));
    let watched = show_duration(what.how_long);
    Ok(json!({ "looks": looks, "watched": watched, "known": missing.is_empty(), "missing": missing }))
}

fn not_to_the_end(target: &Target) -> Failure {
    Failure::new(FailureKind::Interrupted, format!("{} was not watched to the end", target.name))
}

/// One look at each path.
fn look(target: &Target, paths: &[String]) -> Result<(), String> {
    let Some(url) = &target.url else { return Ok(()) };
    let url = url.trim_end_matches('/');
    paths.iter().try_for_each(|path| {
        let at = format!("{url}{path}");
        let answer = ask_over_http(&HttpRequest { method: "GET", url: &at, headers: &[], body: None })?;
        match (200..300).contains(&answer.status) {
            true => Ok(()),
            false => Err(format!("{path} answers with {}", answer.status)),
        }
    })
}
