//! What runs on a platform, one by one: an instance that was started anew differs from the one before.

use serde::{Deserialize, Serialize};

/// What a program printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// On its standard output.
    pub out: String,
    /// On its standard error.
    pub err: String,
}

/// Something that runs, or should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What differs from start to start.
    pub id: String,
    /// Whether it is up.
    pub is_up: bool,
    /// What the platform calls its state.
    pub state: String,
    /// The version that it runs, where the platform knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its process on this host, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
}

/// Whether what runs now was started since, and is what is wanted; nothing wanted is any version.
///
/// # Errors
/// Why not, in words.
pub fn is_new(before: &[Instance], now: &[Instance], wanted: &str) -> Result<(), String> {
    if now.is_empty() {
        return Err("there is no instance".to_owned());
    }
    if let Some(down) = now.iter().find(|one| !one.is_up) {
        return Err(format!("an instance is {} ({})", down.state, down.id));
    }
    if let Some(old) = now.iter().find(|one| before.iter().any(|former| former.is_up && former.id == one.id)) {
        return Err(format!("an instance is the one from before ({}): it was not started anew", old.id));
    }
    let other = now
        .iter()
        .find_map(|one| one.version.as_deref().filter(|version| !wanted.is_empty() && !is_same(version, wanted)));
    match other {
        Some(version) => Err(format!("an instance runs {version}, and {wanted} is wanted")),
        None => Ok(()),
    }
}

/// Some platforms add the digest to the name of an image.
fn is_same(one: &str, other: &str) -> bool {
    let name = |text: &str| text.split('@').next().unwrap_or(text).to_owned();
    one == other || (one.contains('@') != other.contains('@') && name(one) == name(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, is_up: bool, version: Option<&str>) -> Instance {
        let version = version.map(str::to_owned);
        Instance { id: id.into(), is_up, state: "starting".into(), version, process: None }
    }

    /// APP-12: a restart that did nothing, one that crashed, and one of another version are none.
    #[test]
    fn app_12_what_counts_as_new() {
        let before = [instance("a", true, Some("v2"))];
        let new = |now: &[Instance]| is_new(&before, now, "v1").err().unwrap_or_default();
        assert_eq!(new(&[instance("b", true, Some("v1"))]), "");
        assert_eq!(new(&[instance("b", true, None)]), "");
        assert_eq!(new(&[instance("b", true, Some("v1@sha256:1"))]), "");
        for (now, why) in [
            (vec![], "no instance"),
            (vec![instance("a", true, Some("v1"))], "started anew"),
            (vec![instance("b", true, Some("v2"))], "runs v2, and v1 is wanted"),
            (vec![instance("b", false, Some("v1"))], "starting"),
            (vec![instance("b", true, Some("v1")), instance("a", true, Some("v2"))], "from before"),
        ] {
            assert!(new(&now).contains(why), "{now:?}: {}", new(&now));
        }
        assert!(is_same("v1@sha256:1", "v1") && !is_same("v1@sha256:1", "v1@sha256:2"));
    }
}
