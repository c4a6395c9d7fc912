//! What a backup holds, written beside the data as `manifest.json`, so that a copy can be compared with what was captured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    backup::BackupReason,
    id::{BackupId, OperationId},
    postgres::PostgresFacts,
    resource::{ResourceName, Scope},
    time::Timestamp,
};

/// The schema tag of a manifest. Fields are only added within one number.
pub const MANIFEST_SCHEMA: &str = "lifeboat/manifest@1";

/// What was captured, when, by whom, with which tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`].
    pub schema: String,
    /// The backup this describes.
    pub backup: BackupId,
    /// The operation that made it.
    pub operation: OperationId,
    /// App and environment.
    pub scope: Scope,
    /// Why it was made.
    pub reason: BackupReason,
    /// What the person called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When capturing began.
    pub started_at: Timestamp,
    /// When capturing ended.
    pub captured_at: Timestamp,
    /// The instant up to which every resource in it is complete: the earliest of theirs.
    pub recovery_point: Timestamp,
    /// Who asked for it: a login name.
    pub operator: String,
    /// The host it was made on.
    pub host: String,
    /// Programs and libraries that took part, with their versions: `lifeboat`, `sqlite`.
    pub tools: BTreeMap<String, String>,
    /// What was deployed then, as far as it can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
    /// How far the schema of each database was migrated, by what migration tools write into it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub migrations: BTreeMap<ResourceName, Vec<Migrated>>,
    /// Digests of the rows that questions of the settings chose as samples, by resource and name of the question.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub samples: BTreeMap<ResourceName, BTreeMap<String, String>>,
    /// What it holds, in the order of capture.
    pub resources: Vec<ResourceManifest>,
}

/// What was deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// What somebody said: a tag, an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// The git commit of the app's folder, hex. What was changed since is not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The git branch that is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Git tags of that commit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl std::fmt::Display for Deploy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let commit = self.commit.as_ref().map(|commit| format!("commit {}", &commit[..commit.len().min(12)]));
        let branch = self.branch.as_ref().map(|branch| format!("branch {branch}"));
        let tags = self.tags.iter().map(|tag| format!("tag {tag}"));
        let all: Vec<String> = self.said.clone().into_iter().chain(tags).chain(commit).chain(branch).collect();
        f.write_str(&all.join(", "))
    }
}

/// What a migration tool has written into a database about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    /// Which tool, by the name people know it by.
    pub tool: String,
    /// Its table.
    pub table: String,
    /// Migrations it has applied.
    pub applied: u64,
    /// The newest one, by its name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// Migrations that were begun and are not done, by what the tool says.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unfinished: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Manifest {
    /// The part about one resource.
    pub fn resource(&self, name: &ResourceName) -> Option<&ResourceManifest> {
        self.resources.iter().find(|resource| &resource.name == name)
    }
}

impl ResourceManifest {
    /// What had to be read for it: of a database on a server, bytes on that server's disk of tables that were not taken over
    /// from an earlier backup.
    pub fn bytes_read(&self) -> u64 {
        match &self.content {
            Content::Postgres(facts) => facts.bytes_read(),
            Content::Sqlite(_) | Content::Files(_) | Content::Env(_) => self.bytes,
        }
    }
}

/// What was captured of one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceManifest {
    /// The resource's name in the settings.
    pub name: ResourceName,
    /// Where it was on its host.
    pub origin: String,
    /// The instant up to which this part is complete.
    pub recovery_point: Timestamp,
    /// Where it is inside the snapshot: a file, or a folder; parts joined by `/`, without one in front.
    pub path: String,
    /// All bytes of it.
    pub bytes: u64,
    /// What is in it.
    #[serde(flatten)]
    pub content: Content,
}

/// What is in a captured resource, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Content {
    /// A SQLite database.
    Sqlite(SqliteFacts),
    /// Files and folders.
    Files(FilesFacts),
    /// A file of environment variables.
    Env(EnvFacts),
    /// A PostgreSQL database.
    Postgres(Box<PostgresFacts>),
}

/// What there is to know about a SQLite database, so that two of them can be compared by content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SqliteFacts {
    /// SHA-256 of the captured file, hex, in older manifests; empty in newer ones, where the vault's own names of its
    /// blobs are the seal.
    #[serde(default)]
    pub sha256: String,
    /// XXH3-128 of the captured file, hex: tells a restored file from another one while it is written, at a tenth of the
    /// price. Empty in manifests of 0.1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub quick_digest: String,
    /// Bytes a page.
    pub page_size: u32,
    /// Pages in the file.
    pub pages: u64,
    /// `wal`, `delete`, ... as the header of the captured file says (a copy of a WAL database says `wal` too).
    pub journal_mode: String,
    /// `UTF-8`, `UTF-16le` or `UTF-16be`.
    pub encoding: String,
    /// `PRAGMA user_version`: many apps keep their migration number here.
    pub user_version: i32,
    /// `PRAGMA application_id`.
    pub application_id: i32,
    /// SHA-256 over the schema's statements in a fixed order, hex.
    pub schema_fingerprint: String,
    /// Number of indexes, views and triggers, by these words.
    pub objects: BTreeMap<String, u64>,
    /// Every table that holds rows of its own, by name.
    pub tables: BTreeMap<String, TableFacts>,
    /// Tables whose content could not be digested, with the reason (a virtual table of a module we do not have).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unread: BTreeMap<String, String>,
}

/// What there is to know about one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Number of rows.
    pub rows: u64,
    /// Digest over all rows that does not depend on their order, hex.
    pub digest: String,
    /// The greatest value of columns such as `created_at` and `updated_at`, as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub newest: BTreeMap<String, String>,
}

/// What there is to know about captured files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesFacts {
    /// Regular files.
    pub files: u64,
    /// Folders, the top one not counted.
    pub folders: u64,
    /// Symbolic links; kept as links.
    pub links: u64,
    /// SHA-256 over paths, kinds, sizes and contents in the order of paths, hex.
    pub digest: String,
}

/// What may be told about an environment file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFacts {
    /// Names of the variables, sorted. Never their values.
    pub names: Vec<String>,
    /// SHA-256 of the file, keyed by the vault, hex: equal files have equal digests in one vault, and guessing values is of no use without its key.
    pub digest: String,
}
