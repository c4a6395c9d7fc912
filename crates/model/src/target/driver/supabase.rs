//! Edge functions of Supabase: the former version is deployed over the bad one. Deleting it first would leave nothing that
//! answers, and nobody to tell which version it was.

use std::path::Path;

use super::{Instance, words};

/// Deploys a function out of a checkout. Whether it asks for a token of its callers stands in the `config.toml` there.
pub fn supabase_deploy(project: &str, function: &str, checkout: &Path) -> Vec<String> {
    let checkout = checkout.display().to_string();
    words(&["supabase", "functions", "deploy", function, "--project-ref", project, "--workdir", &checkout])
}

pub(super) fn list(project: &str) -> Vec<String> {
    words(&["supabase", "functions", "list", "--project-ref", project, "--output", "json"])
}

/// The functions that are meant; the platform counts how often each was deployed.
pub(super) fn instances(functions: &[String], said: &str) -> Result<Vec<Instance>, String> {
    let list: serde_json::Value = serde_json::from_str(said).map_err(|error| format!("it is no JSON: {error}"))?;
    let list = list.as_array().ok_or("it is no list")?;
    let one = |name: &String| {
        let Some(known) = list.iter().find(|one| one["slug"].as_str() == Some(name)) else {
            return Ok(Instance {
                id: format!("{name}@0"),
                is_up: false,
                state: "not there".to_owned(),
                version: None,
                process: None,
            });
        };
        let version = known["version"].as_u64().ok_or_else(|| format!("{name} has no version"))?;
        let state = known["status"].as_str().unwrap_or_default().to_owned();
        Ok(Instance { id: format!("{name}@{version}"), is_up: state == "ACTIVE", state, version: None, process: None })
    };
    functions.iter().map(one).collect()
}
