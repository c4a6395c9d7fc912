//! What is to be said about the host: its clock, its programs.

use std::path::{Path, PathBuf};

use lifeboat_io::{Io, files};
use lifeboat_model::{Duration, Resource, Timestamp, Tri, time::show_age};

use super::Finding;
use crate::{outside, settings::Resolved, wire};

/// No clock that is right shows a time before this.
const NOT_BEFORE: &str = "2025-01-01T00:00:00Z";
/// How far a file may be from the future; clocks are set a little now and then.
const AHEAD_MAX: Duration = Duration::from_secs(300);
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// A program, what it is good for, and what it prints its version with.
const TOOLS: &[(&str, &str, &str)] = &[
    ("restic", "version", "only needed to read a vault without Lifeboat"),
    ("sqlite3", "--version", "only needed to look into a restored database without Lifeboat"),
    ("pg_dump", "--version", "only needed to back up PostgreSQL databases"),
    ("psql", "--version", "only needed to read a backup of PostgreSQL without Lifeboat"),
];

/// Versions of programs, ours first.
pub fn findings(io: &Io) -> Vec<Finding> {
    let ours = format!("{} with SQLite {}", env!("CARGO_PKG_VERSION"), wire::sqlite_version());
    let mut findings = vec![Finding::new("lifeboat", Tri::Pass, ours)];
    for (tool, argument, good_for) in TOOLS {
        let words = [(*tool).to_owned(), (*argument).to_owned()];
        findings.push(match outside::output_of(&words, Vec::new(), VERSION_LIMIT, io) {
            Ok(printed) => {
                let text = String::from_utf8_lossy(&printed);
                let line: String = text.lines().next().unwrap_or_default().chars().take(60).collect();
                Finding::new(*tool, Tri::Pass, format!("{}; {good_for}", line.trim()))
            }
            Err(_) => Finding::new(*tool, Tri::Pass, format!("not installed; {good_for}")),
        });
    }
    findings
}

/// Whether the clock can be right: not before this program was written, not before its own newest journal, not before the
/// settings were saved.
pub fn clock(resolved: &Resolved, io: &Io) -> Finding {
    let now = io.clock.now();
    let newest = newest_file(resolved);
    let too_early = NOT_BEFORE.parse::<Timestamp>().is_ok_and(|earliest| now < earliest);
    let ahead = newest.as_ref().map(|(_, at)| lifeboat_model::time::since(now, *at)).unwrap_or_default();
    let problem = if too_early {
        Some(format!("it is {now:.0}, says the clock, which cannot be"))
    } else if ahead > AHEAD_MAX {
        let file = newest.map(|(path, _)| path.display().to_string()).unwrap_or_default();
        Some(format!("{file} was changed {} after now, says the clock", show_age(ahead)))
    } else {
        None
    };
    match problem {
        None => Finding::new("clock", Tri::Pass, format!("{now:.0}")),
        Some(problem) => Finding::new("clock", Tri::Fail, problem)
            .lost("recovery points and retention go by the clock, and S3 refuses requests of a wrong time")
            .next("set the clock, for example by turning on time synchronisation: timedatectl set-ntp true"),
    }
}

fn newest_file(resolved: &Resolved) -> Option<(PathBuf, Timestamp)> {
    let journals = files::list_folder(&wire::journals(&resolved.state)).unwrap_or_default();
    let all = journals.into_iter().chain(resolved.file.clone());
    all.filter_map(|path| files::modified(&path).ok().map(|at| (path, at))).max_by_key(|(_, at)| *at)
}

/// Whether the commands that stop and start a resource's writer are there.
pub fn writer(resource: &Resource, io: &Io) -> Vec<Finding> {
    let Some(writer) = &resource.writer else { return Vec::new() };
    let mut findings = Vec::new();
    for (what, words) in [("stop", &writer.stop), ("start", &writer.start)] {
        let name = format!("{} {what}", resource.name);
        let program = words.first().map_or("", String::as_str);
        findings.push(match find_program(program, io) {
            Some(found) => Finding::new(name, Tri::Pass, format!("{} is there", found.display())),
            None => Finding::new(name, Tri::Fail, format!("there is no program {program} to {what} it with"))
                .lost(format!("a restore of {} would stop before it touches anything", resource.name))
                .next(format!("install {program}, or change {what} of {}", resource.name)),
        });
    }
    findings
}

fn find_program(program: &str, io: &Io) -> Option<PathBuf> {
    let runs = |path: &Path| path.is_file() && files::mode(path).is_ok_and(|mode| mode & 0o111 != 0);
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| runs(path));
    }
    let path = io.env.var("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| runs(path))
}
