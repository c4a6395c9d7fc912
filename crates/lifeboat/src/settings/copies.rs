//! Second vaults: where they are, whose password they take, what is kept in them.

use std::{collections::BTreeMap, path::Path};

use lifeboat_engine::Copy;
use lifeboat_model::{Failure, FailureKind, Keep, VaultName};

use super::{CopySettings, EnvironmentSettings, Settings, resolve::source_of};
use crate::{outside, secrets::PasswordSource};

/// A second vault, and where its password comes from.
#[derive(Clone, Debug)]
pub struct Second {
    /// The vault.
    pub copy: Copy,
    /// Its own password; nothing when it is the first vault's.
    pub password: Option<PasswordSource>,
    /// Whether the environment says it itself.
    pub own: bool,
}

/// The second vaults of an environment: its own, and those said for all that it does not say otherwise.
///
/// # Errors
/// A name or a location that cannot be one; two that lie at one place.
pub fn of(
    settings: Option<&Settings>,
    own: Option<&EnvironmentSettings>,
    folder: &Path,
    keep: &Keep,
) -> Result<Vec<Second>, Failure> {
    let mut said: BTreeMap<&String, (&CopySettings, bool)> = BTreeMap::new();
    said.extend(settings.iter().flat_map(|all| &all.vault.copies).map(|(name, copy)| (name, (copy, false))));
    said.extend(own.iter().flat_map(|own| &own.vault.copies).map(|(name, copy)| (name, (copy, true))));
    let mut copies: Vec<Second> = Vec::new();
    for (name, (what, own)) in said {
        let usage = |message: String| Failure::new(FailureKind::Usage, message);
        let name = VaultName::new(name.as_str()).map_err(|error| usage(error.to_string()))?;
        let location = outside::place(&what.location, folder)?.location;
        if let Some(other) = copies.iter().find(|other| other.copy.location == location) {
            let message = format!("the copies {} and {name} are at the same place", other.copy.name);
            return Err(usage(message).hint("give each its own location"));
        }
        let password = what.password.as_ref().map(|password| source_of(password, folder)).transpose()?;
        let keep = super::resolve::merged_over(&what.keep, keep);
        let copy = Copy { name, location, keep, after_backup: what.after_backup };
        copies.push(Second { copy, password, own });
    }
    Ok(copies)
}
