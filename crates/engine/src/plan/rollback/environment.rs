//! Variables go back with application and database: once the data is what it was, and before the former version is started with them.
//!
//! ```text
//!   down | swap (no return) · variables: each file set in its place, each platform in one batch · restart
//! ```
//!
//! Values that got into wrong hands stay in the backup, and addresses of databases stay what they are.

use lifeboat_model::{
    Action, EnvAction, Failure, Operation, Release, Resource, ResourceKind, Step, StepClass, StepState, TargetAction,
    Undo,
};

use super::Known;
use crate::{
    Engine,
    facts::{Common, free_beside},
    plan::{
        steps::{by, step},
        variables::{self, Edit},
    },
};

/// What differs between the files of variables and the backup of a release.
pub(super) fn alone(engine: &Engine, common: &Common, release: &Release) -> Result<Vec<Edit>, Failure> {
    each(engine, release, &|resource, backup| variables::edit(engine, common, (resource, backup), &[], false))
}

/// The same, of what comes back with application and database.
pub(super) fn beside(engine: &Engine, common: &Common, release: &Release) -> Result<Vec<Edit>, Failure> {
    each(engine, release, &|resource, backup| variables::edit_beside(engine, common, (resource, backup)))
}

type Compare<'a> = dyn Fn(&Resource, &lifeboat_model::Backup) -> Result<Edit, Failure> + 'a;

fn each(engine: &Engine, release: &Release, compare: &Compare<'_>) -> Result<Vec<Edit>, Failure> {
    let backups = engine.backups()?;
    let Some(backup) = backups.iter().find(|one| Some(&one.id) == release.backup.as_ref()) else {
        return Ok(Vec::new());
    };
    let is_env = |resource: &&Resource| {
        matches!(resource.kind, ResourceKind::Env { .. }) && backup.resources.contains(&resource.name)
    };
    let files = engine.setup().resources.iter().filter(is_env);
    files.map(|resource| compare(resource, backup)).collect()
}

fn edits(known: &Known) -> impl Iterator<Item = &Edit> {
    known.beside.iter().flatten().filter(|edit| !edit.is_empty())
}

/// What is looked at before anything is changed: past the point of no return nobody could start the app without them. Not whether all of the
/// backup is whole: rows that are lost there are no reason to stay where nothing works.
pub(super) fn checks(engine: &Engine, known: &Known) -> Vec<Step> {
    let of = |edit: &Edit| [vec![edit.look(&known.common)], edit.check_platforms(engine)].concat();
    edits(known).flat_map(of).collect()
}

/// Files first, then the platforms that get their variables from them.
pub(super) fn steps(engine: &Engine, known: &Known) -> Vec<Step> {
    let mut steps: Vec<Step> = edits(known).map(|edit| edit.step(&known.common)).collect();
    steps.extend(edits(known).flat_map(|edit| {
        let left = edit.left_when_refused(&known.to.release.shown());
        edit.give(engine).into_iter().map(move |step| Step { hint: Some(left.clone()), ..step })
    }));
    steps
}

/// What changes, by fingerprints, and what stays; or why nothing does.
pub(super) fn notes(known: &Known) -> Vec<String> {
    match &known.beside {
        Ok(edits) => edits.iter().flat_map(Edit::notes).collect(),
        Err(failure) => vec![format!(
            "Variables stay as they are, since it cannot be told what they were: {failure}. Afterwards: lifeboat rollback {} --profile env-only.",
            known.to.release.id
        )],
    }
}

/// The way back from what an operation did to variables: files as they were, and what the platforms had. What somebody wrote into a file
/// since is kept beside it.
pub(in crate::plan) fn back(operation: &Operation, common: &Common) -> Vec<Step> {
    let done =
        operation.plan.steps().zip(&operation.steps).filter(|(_, state)| matches!(state, StepState::Done { .. }));
    let back = done.filter_map(|(one, _)| match (&one.action, &one.undo) {
        (Action::Env(EnvAction::Restore { file, .. } | EnvAction::PutBack { file, .. }), Undo::By(undone)) => {
            let mut undone = (**undone).clone();
            let mut title = format!("{} as it was before {}", file.display(), operation.id);
            if let Action::Env(EnvAction::PutBack { aside, .. }) = &mut undone {
                let present = free_beside(file, "UNDONE", common.now);
                title += &format!("; what it is now is kept as {}", present.display());
                *aside = Some(present);
            }
            Some(step(one.id.0.clone(), title, StepClass::Idempotent, undone, by(one.action.clone())))
        }
        // From the file, which is what it was by then.
        (Action::Target { action: TargetAction::GiveVariables { .. }, .. }, _) => {
            let title = format!("{}, as before {}", one.title, operation.id);
            Some(step(one.id.0.clone(), title, StepClass::Idempotent, one.action.clone(), by(one.action.clone())))
        }
        _other => None,
    });
    back.collect()
}
