//! A version comes once more to where it runs, whatever is there.

use std::path::Path;

use lifeboat_model::{Driver, Failure, FailureKind, Instance, RedeployAction, Target, target};
use serde_json::{Value, json};

use super::{
    Hands,
    delivery::{checked_out, lead_to, run},
    probes,
};
use crate::{perform::Context, targets};

/// How long a function that was deployed may take to be active.
const ACTIVE_LIMIT_MS: u64 = 60_000;

pub(super) fn perform(
    hands: &Hands,
    target: &Target,
    action: &RedeployAction,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    match action {
        RedeployAction::Again { version } => again(hands, target, version, context),
        RedeployAction::Build { from } => build(hands, target, from, context),
        RedeployAction::Function { version, function } => one_function(hands, target, version, function, context),
    }
}

fn again(hands: &Hands, target: &Target, version: &str, context: &Context<'_>) -> Result<Value, Failure> {
    match targets::driver(target)?.switch(version, false) {
        Some(argv) => run(hands, target, &target.folder, &argv, context).map(drop)?,
        // A link, or a container that is started anew.
        None => lead_to(target, version)?,
    }
    Ok(json!({ "version": version }))
}

/// Its platform is told which project the copy belongs to, unless the environment says so.
fn build(hands: &Hands, target: &Target, from: &Path, context: &Context<'_>) -> Result<Value, Failure> {
    let Driver::Vercel { project, scope, .. } = targets::driver(target)? else {
        return Err(Failure::new(FailureKind::Bug, "nobody builds this one"));
    };
    let is_said = |name: &str| hands.io.env.var(name).is_some();
    if !(is_said("VERCEL_ORG_ID") && is_said("VERCEL_PROJECT_ID")) {
        run(hands, target, from, &target::vercel_link(project, scope.as_deref()), context)?;
    }
    let said = run(hands, target, from, &target::vercel_build(scope.as_deref()), context)?;
    let url = said.lines().map(str::trim).rfind(|line| line.starts_with("https://")).map(str::to_owned);
    Ok(json!({ "url": url }))
}

/// Over what is there; one that has not changed is left alone by the platform, and is active all the same.
fn one_function(
    hands: &Hands,
    target: &Target,
    version: &str,
    function: &str,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let Driver::SupabaseFunctions { project, .. } = targets::driver(target)? else {
        return Err(Failure::new(FailureKind::Bug, "it has no functions"));
    };
    let now = || -> Result<Option<Instance>, Failure> {
        let all = targets::instances(&hands.io, target, context.stop)?;
        Ok(all.into_iter().find(|one| one.id.starts_with(&format!("{function}@"))))
    };
    let (at, before) = (checked_out(target, version)?, now()?);
    let said = run(hands, target, &at, &target::supabase_deploy(project, function, &at), context)?;
    let is_unchanged = said.contains("No change found");
    lead_to(target, version)?;
    let look = || match now().map_err(|failure| failure.to_string())? {
        Some(one) if !one.is_up => Err(format!("{function} is {}", one.state)),
        Some(one) if !is_unchanged && before.as_ref().is_some_and(|before| before.id == one.id) => {
            Err(format!("{function} is the one from before"))
        }
        Some(_) => Ok(()),
        None => Err(format!("{function} is not there")),
    };
    probes::until(hands, ACTIVE_LIMIT_MS, context, &look).map_err(|why| {
        let failure =
            Failure::new(FailureKind::Outside, format!("the function {function} was deployed and is not active"));
        failure.because(why).hint(format!("supabase functions list --project-ref {project}"))
    })?;
    Ok(json!({ "function": function, "unchanged": is_unchanged }))
}
