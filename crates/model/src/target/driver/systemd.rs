//! systemd: every start of a unit has an invocation id of its own. Starting one that runs does nothing, and says so by success.

use super::{Instance, words};

/// A call about units, of the system's manager or of this user's.
pub(super) fn call(user: bool, rest: &[&str]) -> Vec<String> {
    let mut argv = words(&["systemctl"]);
    argv.extend(user.then(|| "--user".to_owned()));
    argv.extend(words(rest));
    argv
}

/// What is asked about a unit.
pub(super) fn show(user: bool, unit: &str) -> Vec<String> {
    call(user, &["show", "--property=LoadState,ActiveState,SubState,InvocationID,MainPID", unit])
}

/// Its newest lines in the journal.
pub(super) fn journal(user: bool, unit: &str) -> Vec<String> {
    let which = if user { "--user-unit" } else { "--unit" };
    words(&["journalctl", which, unit, "--no-pager", "--output", "short-iso", "--lines", super::LINES])
}

fn field<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::trim)
}

/// Whether it gave up on the unit: it is not started again before that is taken back.
pub fn systemd_has_failed(said: &str) -> bool {
    field(said, "ActiveState") == Some("failed")
}

pub(super) fn instances(said: &str) -> Result<Vec<Instance>, String> {
    let state = field(said, "ActiveState").ok_or("it printed no ActiveState")?;
    if field(said, "LoadState").is_some_and(|load| load != "loaded") {
        return Err(format!("there is no such unit ({})", field(said, "LoadState").unwrap_or_default()));
    }
    if matches!(state, "inactive" | "failed" | "deactivating") {
        return Ok(Vec::new());
    }
    let id = field(said, "InvocationID").filter(|id| !id.is_empty()).ok_or("it printed no InvocationID")?.to_owned();
    let process = field(said, "MainPID").and_then(|id| id.parse().ok()).filter(|id| *id > 0);
    let sub = field(said, "SubState").unwrap_or_default();
    let (is_up, state) = (state == "active", format!("{state} ({sub})"));
    Ok(vec![Instance { id, is_up, state, version: None, process }])
}
