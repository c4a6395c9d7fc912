//! Files that look like backups and are in no vault: what scripts made before, or make beside us. Nothing is known of what
//! is in them until they are adopted.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use lifeboat_io::{database::sqlite, files};
use lifeboat_model::{Backup, Failure, Resource, ResourceKind, ResourceName, Timestamp, stamp_in};
use serde::Serialize;

use crate::{Engine, facts::path_with};

/// A file that looks like a backup and has no manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stray {
    /// Where it is.
    pub path: PathBuf,
    /// Up to when it may be complete.
    pub at: Timestamp,
    /// Whether its name says so; else it is when the file last changed.
    pub named: bool,
    /// Bytes.
    pub bytes: u64,
    /// What it is: `sqlite`, `sql` (a dump as text), or `other`.
    pub kind: &'static str,
    /// The database it can be adopted for, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopt_for: Option<ResourceName>,
}

/// Words in the names of files that scripts make, as documents have them.
const WORDS: &[&str] = &["backup", "pre-change", "emergency", "dump", "snapshot", "copy"];
/// How names end that are backups even without a time in them.
const ENDS: &[&str] = &[".backup", ".bak"];
/// Beside what a restore set aside; it is released by its operation.
const OURS: &str = ".REPLACED.";

impl Engine {
    /// Files without a manifest, newest first. What is in one of these backups already is left out.
    ///
    /// # Errors
    /// When a folder cannot be listed; one that is not there has nothing in it.
    pub fn strays(&self, backups: &[Backup]) -> Result<Vec<Stray>, Failure> {
        let is_database = |resource: &&Resource| matches!(resource.kind, ResourceKind::Sqlite { .. });
        let databases: Vec<&Resource> = self.setup.resources.iter().filter(is_database).collect();
        let mut folders: BTreeSet<PathBuf> = self.setup.backup_folders.iter().cloned().collect();
        for database in &databases {
            let folder = files::parent(database.kind.path());
            folders.extend([folder.to_owned(), folder.join("backups")]);
        }
        let mut found = Vec::new();
        for folder in folders {
            for path in files::list_folder(&folder).map_err(|error| crate::act::path_failure(&error))? {
                found.extend(self.stray(path, &databases, backups));
            }
        }
        found.sort_by(|left, right| (right.at, &left.path).cmp(&(left.at, &right.path)));
        Ok(found)
    }

    fn stray(&self, path: PathBuf, databases: &[&Resource], backups: &[Backup]) -> Option<Stray> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let stamp = stamp_in(&name);
        let of_database = |database: &&&Resource| name.starts_with(&stem(database.kind.path()));
        let wordy = WORDS.iter().any(|word| name.to_lowercase().contains(word));
        let looks = match stamp {
            Some(_) => wordy || databases.iter().any(|database| of_database(&database)),
            None => ENDS.iter().any(|end| name.ends_with(end)),
        };
        let live = databases.iter().any(|database| database.kind.path() == path);
        let sidecar = sqlite::SIDECARS.iter().any(|end| name.ends_with(end));
        if !looks || live || sidecar || name.contains(OURS) || files::is_folder(&path) || self.is_alias(&path) {
            return None;
        }
        let at = stamp.map(|stamp| stamp.at).or_else(|| files::modified(&path).ok())?;
        let label = format!("adopted: {name}");
        let known = backups.iter().any(|backup| {
            let ours = backup.label.as_ref().is_none_or(|label| !label.starts_with("adopted: "));
            let copied = stamp.is_some_and(|stamp| !stamp.day_only && same_second(stamp.at, backup.recovery_point));
            let copied = ours && copied;
            copied || backup.label.as_deref() == Some(label.as_str())
        });
        if known {
            return None;
        }
        let kind = kind_of(&path, &name);
        let candidates: Vec<&Resource> = databases.iter().filter(of_database).copied().collect();
        let adopt_for = match (kind, candidates.as_slice(), databases) {
            ("sqlite", [one], _) | ("sqlite", [], [one]) => Some(one.name.clone()),
            _nobody_can_tell => None,
        };
        Some(Stray { bytes: files::size(&path).unwrap_or(0), path, at, named: stamp.is_some(), kind, adopt_for })
    }

    /// Whether it is the file that each backup renews.
    fn is_alias(&self, path: &Path) -> bool {
        let aliases = self.setup.resources.iter().filter(|resource| self.setup.aliases.contains(&resource.name));
        aliases.into_iter().any(|resource| path_with(resource.kind.path(), ".backup") == path)
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn same_second(left: Timestamp, right: Timestamp) -> bool {
    left.as_second() == right.as_second()
}

fn kind_of(path: &Path, name: &str) -> &'static str {
    if sqlite::peek(path).is_ok() {
        return "sqlite";
    }
    let ends = [".sql", ".sql.gz", ".dump", ".pgdump"];
    if ends.iter().any(|end| name.ends_with(end)) { "sql" } else { "other" }
}
