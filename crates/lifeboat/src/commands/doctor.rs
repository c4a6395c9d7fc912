//! `lifeboat doctor`: is everything there that a backup and a restore will need? Looks, and changes nothing but a probe in
//! the state folder.

mod host;
mod links;
mod places;

pub use host::writer;

use std::io::Write;

use lifeboat_io::Io;
use lifeboat_model::{ExitCode, Failure, FailureKind, Tri};
use serde::Serialize;
use serde_json::json;

use super::config::{everything, write};
use crate::{cli::GlobalArgs, settings::Resolved};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `settings`, `db`, `vault`.
    pub name: String,
    /// What it says.
    pub outcome: Tri,
    /// What was found, in one sentence without a period.
    pub detail: String,
    /// What cannot be done because of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    pub(crate) fn new(name: impl Into<String>, outcome: Tri, detail: impl Into<String>) -> Finding {
        Finding { name: name.into(), outcome, detail: detail.into(), lost: None, next: None }
    }

    pub(crate) fn lost(mut self, lost: impl Into<String>) -> Finding {
        self.lost = Some(lost.into());
        self
    }

    pub(crate) fn next(mut self, next: impl Into<String>) -> Finding {
        self.next = Some(next.into());
        self
    }

    /// A failure as a finding: unknown stays unknown, everything else has failed.
    pub(crate) fn failure(name: impl Into<String>, failure: &Failure) -> Finding {
        let outcome = if failure.kind == FailureKind::Unknown { Tri::Unknown } else { Tri::Fail };
        Finding { next: failure.hint.clone(), ..Finding::new(name, outcome, failure.to_string()) }
    }
}

/// Findings about one environment, or about the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// App and environment, or `this host`.
    pub about: String,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Looks at everything and tells it. The code is 0 only when all is good, 6 when something could not be looked at, 3 when
/// something is not good.
///
/// # Errors
/// When the answer cannot be written. What is wrong with the settings is a finding like the others.
pub fn run(global: &GlobalArgs, io: &Io, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let groups = examine(global, io);
    let good = Tri::worst(groups.iter().flat_map(|group| &group.findings).map(|finding| finding.outcome));
    if global.json.is_some() {
        let document = json!({ "schema": "lifeboat/doctor@1", "good": good, "groups": groups });
        write(out, &format!("{document}\n"))?;
    } else {
        write(out, &told(&groups))?;
    }
    Ok(match good {
        Tri::Pass => ExitCode::Ok,
        Tri::Unknown => ExitCode::Unknown,
        Tri::Fail => ExitCode::Refused,
    })
}

/// Looks at everything.
pub fn examine(global: &GlobalArgs, io: &Io) -> Vec<Group> {
    let mut groups = Vec::new();
    match everything(global, io) {
        Ok(environments) => groups.extend(
            environments
                .iter()
                .map(|resolved| Group { about: resolved.setup.scope.to_string(), findings: environment(resolved, io) }),
        ),
        Err(failure) => {
            let finding = Finding::failure("settings", &failure).lost("nothing can be protected");
            groups.push(Group { about: "settings".to_owned(), findings: vec![finding] });
        }
    }
    groups.push(Group { about: "this host".to_owned(), findings: host::findings(io) });
    groups
}

fn environment(resolved: &Resolved, io: &Io) -> Vec<Finding> {
    let said = match &resolved.file {
        Some(file) => format!("{} is right", file.display()),
        None => "there is no settings file; the command's words are enough".to_owned(),
    };
    let mut findings = vec![Finding::new("settings", Tri::Pass, said)];
    findings.extend(resolved.setup.resources.iter().flat_map(|resource| places::resource(resource, resolved, io)));
    findings.extend(resolved.setup.resources.iter().flat_map(|resource| host::writer(resource, io)));
    findings.extend(places::vault(resolved, io));
    findings.extend(places::elsewhere(resolved, io));
    let state = places::state(resolved, io);
    let usable = state.iter().all(|finding| finding.outcome == Tri::Pass);
    findings.extend(state);
    if usable {
        findings.push(places::operations(resolved, io));
        findings.extend(places::leases(resolved, io));
        findings.extend(resolved.setup.links.iter().flat_map(|link| links::link(&link.name, resolved, io)));
    }
    if usable {
        findings.extend(places::questions(resolved, io));
    }
    findings.extend(places::space(resolved));
    findings.push(host::clock(resolved, io));
    findings
}

/// Findings as a table for people, with a sum at the end.
pub fn told(groups: &[Group]) -> String {
    let mut text = String::new();
    let width =
        groups.iter().flat_map(|group| &group.findings).map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    let mut counts = [0_usize; 3];
    for group in groups {
        text += &format!("{}\n", group.about);
        for Finding { name, outcome, detail, lost, next } in &group.findings {
            let word = match outcome {
                Tri::Pass => "ok",
                Tri::Unknown => "unknown",
                Tri::Fail => "failed",
            };
            counts[*outcome as usize] += 1;
            text += &format!("  {word:7}  {name:width$}  {detail}.\n");
            let indent = " ".repeat(width + 13);
            for (label, more) in [("means", lost), ("next", next)] {
                text += &more.as_ref().map(|more| format!("{indent}{label}: {more}\n")).unwrap_or_default();
            }
        }
    }
    let [ok, unknown, failed] = counts;
    text + &format!("{ok} ok, {unknown} unknown, {failed} failed.\n")
}
