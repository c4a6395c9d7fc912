//! pm2: it keeps entries by name, and starts a second one of the same name for another script without a word. An entry keeps
//! the variables of its first start.

use std::path::Path;

use serde_json::Value;

use super::{Instance, words};

/// `pm2 start`: a script by its path through the link, or one app of an ecosystem file.
pub(super) fn start(process: &str, script: &Path, current: &Path) -> Vec<String> {
    let file = current.join(script).display().to_string();
    let is_ecosystem = [".config.js", ".config.cjs", ".config.mjs", ".json", ".yml", ".yaml"];
    if is_ecosystem.iter().any(|end| file.ends_with(end)) {
        return words(&["pm2", "start", &file, "--only", process]);
    }
    words(&["pm2", "start", &file, "--name", process, "--cwd", &current.display().to_string()])
}

/// The list in what `pm2 jlist` printed: before it may stand that a daemon was started.
fn list(said: &str) -> Result<Vec<Value>, String> {
    let lists = said.lines().rev().filter_map(|line| serde_json::from_str::<Vec<Value>>(line.trim()).ok());
    lists.into_iter().next().ok_or_else(|| "it printed no list of processes".to_owned())
}

/// How many entries have that name.
///
/// # Errors
/// It is no such list; in words.
pub fn pm2_entries(process: &str, said: &str) -> Result<usize, String> {
    Ok(list(said)?.iter().filter(|one| one["name"].as_str() == Some(process)).count())
}

/// The entries of that name. Their variables are in the list as well, and are not looked at.
pub(super) fn instances(process: &str, said: &str) -> Result<Vec<Instance>, String> {
    let list = list(said)?;
    let own = list.iter().filter(|one| one["name"].as_str() == Some(process));
    own.map(|one| {
        let state = one["pm2_env"]["status"].as_str().ok_or("an entry has no status")?.to_owned();
        let process = one["pid"].as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| *id > 0);
        let since = one["pm2_env"]["pm_uptime"].as_u64().unwrap_or_default();
        let id = format!("{}@{since}", process.unwrap_or_default());
        Ok(Instance { id, is_up: state == "online" && process.is_some(), state, version: None, process })
    })
    .collect()
}
