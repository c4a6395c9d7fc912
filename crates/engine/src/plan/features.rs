//! Planning to switch a feature of the app off, or on again: by a command, or by a variable with what reads it started anew.
//!
//! ```text
//!   stop · switch · start · look (the app, then whether the feature is off, or on)
//! ```
//!
//! Each step takes itself back, so that what was begun and failed leaves the feature as it was.

use lifeboat_io::files;
use lifeboat_model::{
    Action, EnvAction, Failure, FailureKind, Feature, FeatureSeen, Lease, Operation, Phase, Plan, Request,
    ResourceName, Step, StepClass, Switch, Undo, feature,
    variables::{value_of, written_value},
};

use super::{
    level::{self, Acts},
    release::of,
    steps::{self, by, phase, step},
};
use crate::{Engine, act::path_failure, facts::Common, features::sentence};

/// How long it may take until the feature is seen to be off, or on, where nothing else is said, in milliseconds.
const SEEN_LIMIT_MS: u64 = 60_000;

/// Plans to switch a feature.
///
/// # Errors
/// There is no such feature; no reason to switch it off; its variable holds neither of its two values.
pub(super) fn plan(engine: &Engine, request: &Request) -> Result<Plan, Failure> {
    let Request::Feature { feature, on, why, .. } = request else { return Err(steps::wrong_planner()) };
    if !on && why.trim().is_empty() {
        let failure = Failure::new(FailureKind::Usage, "the reason is missing");
        return Err(failure.hint(format!("lifeboat feature off {feature} --reason 'WHAT IS WRONG WITH IT'")));
    }
    let common = engine.common()?;
    let because = if why.trim().is_empty() { String::new() } else { format!(": {}", why.trim()) };
    let title = format!("switch {feature} of {} {}{because}", common.scope, feature::word(*on));
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    plan.phases = vec![switch(engine, &common, feature, *on)?];
    plan.notes = notes(engine.feature(feature)?, *on);
    Ok(plan)
}

/// What an operation has switched, when it is one that only does that: it is switched back.
pub(super) fn switched(operation: &Operation) -> Option<(ResourceName, bool)> {
    if !matches!(operation.plan.request, Request::Feature { .. } | Request::Undo { .. }) {
        return None;
    }
    operation.plan.steps().find_map(|step| match &step.action {
        Action::Feature(seen) => Some((seen.feature.clone(), seen.on)),
        _other => None,
    })
}

/// Plans to take it back: the feature is switched the other way.
///
/// # Errors
/// The operation set nothing aside that could be released; the feature was switched again since.
pub(super) fn undo(
    engine: &Engine,
    operation: &Operation,
    (name, on): &(ResourceName, bool),
    request: &Request,
) -> Result<Plan, Failure> {
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    if !matches!(request, Request::Undo { .. }) {
        return Err(refused(format!("{} has set nothing aside", operation.id)).hint("lifeboat feature list"));
    }
    super::undo::must_be_done(operation)?;
    let known = engine.features()?;
    let by_it = known.iter().any(|state| &state.feature == name && state.operation.as_ref() == Some(&operation.id));
    if !by_it {
        let failure =
            refused(format!("{name} was switched again since {}, or is in the settings no more", operation.id));
        return Err(failure.hint("lifeboat feature list"));
    }
    let common = engine.common()?;
    let title = format!("switch {name} of {} {} again, as before {}", common.scope, feature::word(!on), operation.id);
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    plan.phases = vec![switch(engine, &common, name, !on)?];
    plan.notes = notes(engine.feature(name)?, !on);
    Ok(plan)
}

/// For the end of an incident: everything that was switched off during it is switched on again.
///
/// # Errors
/// As [`plan()`].
pub(super) fn switch_on(engine: &Engine, common: &Common, names: &[ResourceName]) -> Result<Vec<Phase>, Failure> {
    names.iter().map(|name| switch(engine, common, name, true)).collect()
}

/// What reminds whoever brings something back of what is off.
pub(super) fn remind(engine: &Engine, plan: &mut Plan) -> Result<(), Failure> {
    let ends = matches!(
        plan.request,
        Request::Level { .. } | Request::Version { about: lifeboat_model::VersionAsk::RollBack { .. } }
    );
    if ends && !engine.setup().features.is_empty() {
        let off = engine.features_off()?;
        plan.notes.extend(off.iter().map(|state| format!("When it is over: {}.", sentence(state))));
    }
    Ok(())
}

fn notes(feature: &Feature, on: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if feature.probe.is_none() {
        notes.push(format!(
            "Nobody has said how it is seen that {} is {}: write probe into [features.{}] of lifeboat.toml.",
            feature.name,
            feature::word(on),
            feature.name
        ));
    }
    let unread = matches!(feature.switch, Switch::Variable { .. }) && !feature.restart;
    notes.extend(
        unread.then(|| "An app that reads its variables only when it starts has to be started anew.".to_owned()),
    );
    notes
}

fn switch(engine: &Engine, common: &Common, name: &ResourceName, on: bool) -> Result<Phase, Failure> {
    let feature = engine.feature(name)?;
    let restarts = feature.target.as_ref().filter(|_| feature.restart);
    let mut steps = Vec::new();
    if let Some(target) = restarts {
        let acts = Acts { target };
        steps.push(of(acts.stop(), target));
        steps.extend(acts.port_is_free().map(|step| of(step, target)));
    }
    steps.push(turn(engine, feature, on)?);
    if let Some(target) = restarts {
        let acts = Acts { target };
        steps.push(of(acts.start(), target));
        steps.extend(acts.works(level::Log::default(), &target.probes).into_iter().map(|step| of(step, target)));
    }
    steps.push(see(feature, on));
    // Several may be switched in one plan, also by one target.
    let steps = steps.into_iter().map(|step| Step { id: format!("{}.{name}", step.id).as_str().into(), ..step });
    Ok(phase(common, &format!("switch-{name}"), vec![], steps.collect()))
}

fn turn(engine: &Engine, feature: &Feature, on: bool) -> Result<Step, Failure> {
    let word = feature::word(on);
    match &feature.switch {
        Switch::Command { off, on: on_words } => {
            let limit_ms = u64::try_from(engine.setup().command_limit.as_millis()).unwrap_or(u64::MAX);
            let (argv, back) = if on { (on_words, off) } else { (off, on_words) };
            let run = |argv: &[String]| Action::Command { argv: argv.to_vec(), limit_ms };
            let title = format!("switch it {word}: {}", argv.join(" "));
            Ok(step("switch", title, StepClass::Idempotent, run(argv), by(run(back))))
        }
        Switch::Variable { file, name, off, on: on_value } => {
            let text = files::read_text(file).map_err(|error| path_failure(&error))?;
            let there = value_of(&text, name);
            if there.as_ref().is_some_and(|there| there != off && there != on_value) {
                let message = format!("{name} in {} holds neither {off:?} nor {on_value:?}", file.display());
                let failure = Failure::new(FailureKind::Refused, message);
                return Err(failure.hint("correct the file, or the two values of the feature in lifeboat.toml"));
            }
            let value = if on { on_value } else { off };
            let set =
                |value: Option<String>| Action::Env(EnvAction::Set { file: file.clone(), name: name.clone(), value });
            let title = format!("switch it {word}: {name}={value} in {}", file.display());
            let before = written_value(&text, name).map(str::to_owned);
            Ok(step("switch", title, StepClass::Idempotent, set(Some(value.clone())), by(set(before))))
        }
    }
}

fn see(feature: &Feature, on: bool) -> Step {
    let word = feature::word(on);
    let limit_ms = feature.target.as_ref().and_then(|target| target.answer_ms).unwrap_or(SEEN_LIMIT_MS);
    let title = match &feature.probe {
        Some(url) if on => format!("{} is on: {url} answers, and not with 404 or 503", feature.name),
        Some(url) => format!("{} is off: {url} answers with 404 or 503", feature.name),
        None => format!("put on record that {} is {word}", feature.name),
    };
    let seen = FeatureSeen { feature: feature.name.clone(), on, probe: feature.probe.clone(), limit_ms };
    step("seen", title, StepClass::Idempotent, Action::Feature(seen), Undo::Nothing)
}
