//! Planning an adoption: a file that some script made becomes a backup of a resource. It is copied, looked at as every
//! copy is, stored and read back; the file itself is left alone.

use std::path::{Path, PathBuf};

use lifeboat_io::files;
use lifeboat_model::{
    BackupReason, ExpectedFact, Fact, Failure, FailureKind, Lease, Plan, Request, ResourceKind, Timestamp, stamp_in,
};

use super::{
    backup::{preflight_of, settings_fact},
    steps::{self, Instead, Taking},
};
use crate::{
    Engine,
    facts::{Common, Live},
};

/// What is known when an adoption is planned.
pub struct Known {
    /// Common knowledge.
    pub common: Common,
    /// The resource, its size that of the file.
    pub source: Live,
    /// The file, links followed.
    pub file: PathBuf,
    /// Up to when it is complete.
    pub as_of: Timestamp,
    /// How that is known.
    pub because: String,
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Adopt { resource, file, at, .. } = request else { return Err(steps::wrong_planner()) };
    let common = engine.common()?;
    let resource = engine.setup().resource(resource)?;
    match &resource.kind {
        ResourceKind::Sqlite { .. } => {}
        ResourceKind::Files { .. } | ResourceKind::Env { .. } | ResourceKind::Postgres { .. } => {
            let message = format!("{} is no database; only databases have dumps and copies to adopt", resource.name);
            return Err(Failure::new(FailureKind::Usage, message));
        }
    }
    let bad = |error| Failure::from_error(FailureKind::Refused, &error);
    if !files::exists(file) {
        let failure = Failure::new(FailureKind::Refused, format!("there is no {}", file.display()));
        return Err(failure.hint("check the path"));
    }
    lifeboat_io::database::sqlite::peek(file).map_err(|error| {
        crate::act::sqlite_failure(&error).while_doing(format!("{} cannot be adopted", file.display()))
    })?;
    let (as_of, because) = complete_up_to(file, *at)?;
    let bytes = files::size(file).map_err(bad)?;
    let source = Live { bytes, exists: true, unreadable: None, ..engine.live(resource)? };
    Ok(Known { common, source, file: files::resolved(file), as_of, because })
}

/// What somebody says, else what the name says, else when the file last changed.
pub(super) fn complete_up_to(file: &Path, said: Option<Timestamp>) -> Result<(Timestamp, String), Failure> {
    if let Some(at) = said {
        return Ok((at, "as you say".to_owned()));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if let Some(stamp) = stamp_in(&name) {
        let how =
            if stamp.day_only { "the first instant of the day in its name, UTC" } else { "its name says so, UTC" };
        return Ok((stamp.at, how.to_owned()));
    }
    let modified = files::modified(file).map_err(|error| Failure::from_error(FailureKind::Refused, &error))?;
    Ok((modified, "the file last changed then".to_owned()))
}

/// Plans an adoption.
///
/// # Errors
/// When the file would be complete up to a time that is yet to come.
pub fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Adopt { label, .. } = request else { return Err(steps::wrong_planner()) };
    let common = &known.common;
    let (name, file) = (&known.source.resource.name, known.file.display());
    if known.as_of > common.now {
        let message =
            format!("{file} cannot be complete up to {} ({}): that is yet to come", known.as_of, known.because);
        return Err(Failure::new(FailureKind::Refused, message).hint("say the time: --at TIME"));
    }
    let shown = known.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let label = label.clone().unwrap_or_else(|| format!("adopted: {shown}"));
    let taking = Taking {
        common,
        prefix: "",
        backup: common.ids.backup.clone(),
        reason: BackupReason::Adopted,
        label: Some(label),
        sources: std::slice::from_ref(&known.source),
        instead: Some(Instead { file: &known.file, as_of: known.as_of }),
    };
    let title = format!("adopt {file} as a backup of {name} of {}", common.scope);
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    plan.facts = vec![settings_fact(&known.source), untouched(&known.file)];
    plan.phases = vec![
        steps::phase(common, "preflight", vec![], preflight_of(common, None, &taking)),
        steps::phase(common, "capture", taking.predict_capture(), taking.capture()),
        steps::phase(common, "store", taking.predict_store(), taking.store()),
        steps::phase(common, "clean", vec![], vec![taking.clean()]),
    ];
    plan.notes = vec![
        format!("It counts as complete up to {} ({}).", known.as_of, known.because),
        format!("{file} is left alone. The rules of retention apply to the adopted backup by that time."),
    ];
    Ok(plan)
}

/// What was looked at when the time was read is what is taken.
fn untouched(file: &Path) -> ExpectedFact {
    let fact = Fact::Untouched { path: file.to_owned() };
    ExpectedFact { fact, value: files::untouched(file), until: Some("store".into()) }
}
