//! What is protected, and where it belongs.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// An app in one of its environments, for example `shop/production`. Operations exclude each other per scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// The app's name.
    pub app: String,
    /// The environment's name.
    pub environment: String,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.app, self.environment)
    }
}

macro_rules! name_type {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes a name of letters, digits, `-`, `_` and `.`, at most 64 long, that does not begin with `.` or `-`.
            pub fn new(text: impl Into<String>) -> Result<Self, BadName> {
                let text = text.into();
                let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                let fine = !text.is_empty() && text.len() <= 64 && text.bytes().all(letters) && !text.starts_with(['.', '-']);
                if fine { Ok(Self(text)) } else { Err(BadName { text }) }
            }
            /// The name as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(&self.0) }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> { Self::new(text) }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String { name.0 }
        }
    )*};
}

name_type! {
    /// Names a resource inside its environment. It becomes a folder name in the vault, hence the narrow alphabet.
    ResourceName,
    /// Names a vault in the settings.
    VaultName,
}

/// A name that cannot be used for a folder, a tag and a table column alike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be a name: use 1 to 64 letters, digits, '-', '_' or '.', not beginning with '.' or '-'")]
pub struct BadName {
    /// What was given.
    pub text: String,
}

/// Something that holds state and can be backed up and brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Its name in the settings, `db` for example.
    pub name: ResourceName,
    /// What it is and where.
    pub kind: ResourceKind,
    /// How to stop and start what writes to it, where that is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<Writer>,
    /// Tables that must be there and must not be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub critical_tables: Vec<String>,
    /// Tables that may be empty. `*`: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_be_empty: Vec<String>,
    /// SQL questions about a restored copy, with the answer they must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, SqlCheck>,
    /// Columns that tell whose a row is, by their names in any table: `user_id`, `created_by`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owner_columns: Vec<String>,
    /// Where a value of a column that is not there any more belongs: `schema.table.column` to another column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub salvage_columns: BTreeMap<String, String>,
}

impl Resource {
    /// A resource that nobody has said more about.
    pub fn plain(name: ResourceName, kind: ResourceKind) -> Resource {
        Resource {
            name,
            kind,
            writer: None,
            critical_tables: Vec::new(),
            may_be_empty: Vec::new(),
            checks: BTreeMap::new(),
            owner_columns: Vec::new(),
            salvage_columns: BTreeMap::new(),
        }
    }
}

/// The kinds of resources. Closed: every place that handles one has to think of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ResourceKind {
    /// One SQLite database file, with its `-wal` or `-journal` while it is in use.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
    /// A file, or a folder with all that is in it.
    Files {
        /// The file or folder.
        path: PathBuf,
        /// Paths below it that are left out; `*` stands for anything within one name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<String>,
    },
    /// A file of environment variables. Names are journaled, values never.
    Env {
        /// The file, usually `.env`.
        path: PathBuf,
    },
    /// A PostgreSQL database.
    Postgres {
        /// Where it is, without a password: `postgres://role@host:port/database`.
        url: String,
        /// Only these schemas; all when empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        schemas: Vec<String>,
    },
}

impl ResourceKind {
    /// The kind's word in settings and in the vault: `sqlite`, `files`, `env`, `postgres`.
    pub fn word(&self) -> &'static str {
        match self {
            ResourceKind::Sqlite { .. } => "sqlite",
            ResourceKind::Files { .. } => "files",
            ResourceKind::Env { .. } => "env",
            ResourceKind::Postgres { .. } => "postgres",
        }
    }

    /// Where it lives on this host, when that is a file or a folder.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            ResourceKind::Sqlite { path } | ResourceKind::Files { path, .. } | ResourceKind::Env { path } => Some(path),
            ResourceKind::Postgres { .. } => None,
        }
    }

    /// Where it lives, for people: a path, or an address without a password.
    pub fn place(&self) -> String {
        match self {
            ResourceKind::Sqlite { path } | ResourceKind::Files { path, .. } | ResourceKind::Env { path } => {
                path.display().to_string()
            }
            ResourceKind::Postgres { url, .. } => url.clone(),
        }
    }
}

/// How a restored database takes the place of the one that is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwapStrategy {
    /// A new database takes the name of the live one. Sessions are ended.
    Rename,
    /// New schemas take the names of the present ones inside the live database, in one transaction.
    Schema,
}

/// The program that writes to a resource: how to stop it before a swap and start it again afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// The command that stops it, as a list of words, never a shell line.
    pub stop: Vec<String>,
    /// The command that starts it.
    pub start: Vec<String>,
}

/// What a question is about, as a validation report sums it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Every reference has its row.
    ReferentialIntegrity,
    /// Nothing is missing that has to be there.
    RequiredFields,
    /// Nothing is there twice that may be there once.
    UniqueConstraints,
    /// So much of the data is as it should be.
    DataQuality,
}

impl Category {
    /// All, in the order of a report.
    pub const ALL: [Category; 4] =
        [Category::ReferentialIntegrity, Category::RequiredFields, Category::UniqueConstraints, Category::DataQuality];

    /// How reports call it.
    pub fn title(self) -> &'static str {
        match self {
            Category::ReferentialIntegrity => "Referential integrity",
            Category::RequiredFields => "Required fields",
            Category::UniqueConstraints => "Unique constraints",
            Category::DataQuality => "Data quality",
        }
    }
}

/// A question in SQL about a restored copy. One row, one column; `min`, `equals` and `percent` say what is good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlCheck {
    /// The question.
    pub sql: String,
    /// The answer, as a number, is at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// The answer, as text, is exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    /// The answer, a number from 0 to 100, is at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// Under which line of a validation report it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// Its rows, all of them in their order, are the same as when the backup was taken; each backup keeps their digest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sample: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_narrow() {
        for good in ["db", "shop-db_2", "a.b"] {
            assert!(ResourceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-x", "ü", "a b", &"x".repeat(65)] {
            assert!(ResourceName::new(bad).is_err(), "{bad}");
        }
    }
}
