//! Files that look like backups and are in no vault: what scripts made before, or make beside us. Nothing is known of what
//! is in them until they are adopted.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use lifeboat_io::{
    database::{
        postgres::{DumpForm, dump_form},
        sqlite,
    },
    files,
};
use lifeboat_model::{Backup, Failure, Resource, ResourceKind, ResourceName, Timestamp, stamp_in};
use serde::Serialize;

use crate::{Engine, aliases::day_of, facts::path_with};

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
    /// What it is: `sqlite`, `sql` (a dump of PostgreSQL as text), `archive` (one of `pg_dump`'s own forms), or `other`.
    pub kind: &'static str,
    /// The database it can be adopted for, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopt_for: Option<ResourceName>,
}

/// Words in the names of files that scripts make, as documents have them.
const WORDS: &[&str] = &["backup", "pre-change", "emergency", "dump", "snapshot", "copy"];
/// How names end that are backups even without a time in them.
const ENDS: &[&str] = &[".backup", ".bak"];
/// Folders beside the settings in which scripts of apps on servers leave their dumps.
const DUMP_FOLDERS: &[&str] = &["", "backup", "backups", "backups/database", "backups/migrations", "dumps"];
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
        for path in databases.iter().filter_map(|database| database.kind.path()) {
            let folder = files::parent(path);
            folders.extend([folder.to_owned(), folder.join("backups")]);
        }
        let servers: Vec<&Resource> =
            self.setup.resources.iter().filter(|one| matches!(one.kind, ResourceKind::Postgres { .. })).collect();
        if let Some(file) = self.setup.settings_file.as_ref().filter(|_| !servers.is_empty()) {
            let named = DUMP_FOLDERS.iter().map(|name| files::parent(file).join(name));
            folders.extend(named.filter(|folder| files::is_folder(folder)));
        }
        let mut found = Vec::new();
        for folder in folders {
            for path in files::list_folder(&folder).map_err(|error| crate::act::path_failure(&error))? {
                found.extend(self.stray(path, &databases, &servers, backups));
            }
        }
        found.sort_by(|left, right| (right.at, &left.path).cmp(&(left.at, &right.path)));
        Ok(found)
    }

    fn stray(
        &self,
        path: PathBuf,
        databases: &[&Resource],
        servers: &[&Resource],
        backups: &[Backup],
    ) -> Option<Stray> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let stamp = stamp_in(&name);
        let of_database =
            |database: &&&Resource| database.kind.path().is_some_and(|path| name.starts_with(&stem(path)));
        let wordy = WORDS.iter().any(|word| name.to_lowercase().contains(word));
        let looks = match stamp {
            Some(_) => wordy || databases.iter().any(|database| of_database(&database)) || for_server(&name, servers),
            None if is_dump_by_name(&name) => wordy || for_server(&name, servers),
            None => ENDS.iter().any(|end| name.ends_with(end)),
        };
        let live = databases.iter().any(|database| database.kind.path() == Some(&path));
        let sidecar = sqlite::SIDECARS.iter().any(|end| name.ends_with(end));
        let is_folder = files::is_folder(&path) && !matches!(dump_form(&path), Ok(DumpForm::Archive));
        if !looks || live || sidecar || name.contains(OURS) || is_folder || self.is_ours(&path, backups) {
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
            ("sql" | "archive", _, _) => server_of(&name, servers),
            _nobody_can_tell => None,
        };
        Some(Stray {
            bytes: files::size_of_tree(&path).unwrap_or(0),
            path,
            at,
            named: stamp.is_some(),
            kind,
            adopt_for,
        })
    }

    /// Whether it is the file that each backup renews, or the plain copy that one of these backups made on its day.
    fn is_ours(&self, path: &Path, backups: &[Backup]) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let day = day_of(&name);
        self.setup.resources.iter().any(|resource| {
            let Some(live) = resource.kind.path() else { return false };
            let is_alias = || self.setup.aliases.contains(&resource.name) && path_with(live, ".backup") == path;
            let of_day = |backup: &Backup| {
                let made = backup.recovery_point.strftime("%Y%m%d").to_string();
                backup.resources.contains(&resource.name) && day == Some(made.as_str())
            };
            let is_dated = || {
                let beside = path_with(live, ".backup.").display().to_string();
                self.setup.dated.contains_key(&resource.name) && path.display().to_string().starts_with(&beside)
            };
            is_alias() || (is_dated() && backups.iter().any(of_day))
        })
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
    match dump_form(path) {
        Ok(DumpForm::Archive) => "archive",
        Ok(DumpForm::Sql | DumpForm::SqlGz) if is_dump_by_name(name) => "sql",
        Ok(DumpForm::Sql | DumpForm::SqlGz) | Err(_) => "other",
    }
}

fn is_dump_by_name(name: &str) -> bool {
    [".sql", ".sql.gz", ".dump", ".pgdump"].iter().any(|end| name.ends_with(end))
}

/// The names by which a dump may call a database: the resource's, and the database's own.
fn names_of(server: &Resource) -> Vec<String> {
    let ResourceKind::Postgres { url, .. } = &server.kind else { return Vec::new() };
    let path = url.split_once("://").and_then(|(_, rest)| rest.split('?').next()?.split('/').nth(1));
    let database =
        path.or_else(|| url.split_whitespace().find_map(|word| word.strip_prefix("dbname="))).unwrap_or_default();
    let mut names = vec![server.name.to_string(), database.trim_matches('\'').to_owned()];
    names.retain(|name| name.len() > 1 && !name.contains(['=', ' ']));
    names
}

fn for_server(name: &str, servers: &[&Resource]) -> bool {
    servers.iter().flat_map(|server| names_of(server)).any(|known| name.starts_with(&known))
}

/// The database on a server that a dump can be adopted for: the one it is called after, or the only one.
fn server_of(name: &str, servers: &[&Resource]) -> Option<ResourceName> {
    let called: Vec<&&Resource> =
        servers.iter().filter(|server| names_of(server).iter().any(|known| name.starts_with(known.as_str()))).collect();
    match (called.as_slice(), servers) {
        ([one], _) => Some(one.name.clone()),
        ([], [one]) => Some(one.name.clone()),
        _nobody_can_tell => None,
    }
}
