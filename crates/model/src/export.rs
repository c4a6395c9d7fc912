//! Exports: a resource of a backup, brought out into a folder for people and other programs.

use serde::{Deserialize, Serialize};

use crate::{
    id::{BackupId, PlanId},
    resource::{ResourceName, Scope},
    time::Timestamp,
};

/// The schema tag of `export.json`. Fields are only added within one number.
pub const EXPORT_SCHEMA: &str = "lifeboat/export@1";

/// The name of the document that lies beside what was exported.
pub const EXPORT_FILE: &str = "export.json";

/// In which form databases come out. Files and env files always come as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// The database file under its own name.
    #[default]
    Sqlite,
    /// One file a table, and the schema as SQL.
    Csv,
    /// PostgreSQL: one file of SQL that `psql` loads.
    Sql,
    /// PostgreSQL: an archive that `pg_restore` loads.
    Custom,
}

impl ExportFormat {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            ExportFormat::Sqlite => "sqlite",
            ExportFormat::Csv => "csv",
            ExportFormat::Sql => "sql",
            ExportFormat::Custom => "custom",
        }
    }

    /// Whether a place named so is the one file that a database becomes, and not a folder.
    pub fn is_file_name(self, name: &str) -> bool {
        let ends: &[&str] = match self {
            ExportFormat::Sqlite | ExportFormat::Csv => &[],
            ExportFormat::Sql => &[".sql", ".sql.gz"],
            ExportFormat::Custom => &[".dump", ".pgdump", ".custom", ".backup"],
        };
        ends.iter().any(|end| name.len() > end.len() && name.ends_with(end))
    }
}

/// `export.json`: what lies in the folder, and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// [`EXPORT_SCHEMA`].
    pub schema: String,
    /// App and environment.
    pub scope: Scope,
    /// The plan that made it; the journal of its operation tells who ran it.
    pub plan: PlanId,
    /// When it was planned.
    pub made_at: Timestamp,
    /// Who asked for it: a login name.
    pub operator: String,
    /// In which form databases came out.
    pub format: ExportFormat,
    /// What whoever opens the folder has to know.
    pub warning: String,
    /// Each resource, in the order of its name's first mention.
    pub resources: Vec<ExportedResource>,
}

/// One exported resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportedResource {
    /// Its name.
    pub name: ResourceName,
    /// Its kind's word.
    pub kind: String,
    /// The backup it came out of.
    pub backup: BackupId,
    /// The instant up to which it is complete.
    pub recovery_point: Timestamp,
    /// Where it was on its host.
    pub origin: String,
    /// Its files, below the export's folder.
    pub files: Vec<ExportedFile>,
}

/// One exported file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedFile {
    /// Below the export's folder; parts joined by `/`.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of it, hex.
    pub sha256: String,
    /// The table it holds, when it holds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Rows, without the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Rows of each table, when it is a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<std::collections::BTreeMap<String, u64>>,
}

/// The name of the file that a PostgreSQL database becomes.
pub fn database_file(database: &str, format: ExportFormat, gzip: bool) -> String {
    let name = table_file(database);
    let name = name.trim_end_matches(".csv");
    match (format, gzip) {
        (ExportFormat::Custom, _) => format!("{name}.dump"),
        (_, true) => format!("{name}.sql.gz"),
        (_, false) => format!("{name}.sql"),
    }
}

/// The name of a table's file: letters, digits, `-`, `_` and `.` stay, every other byte is written as `%XX`. A name that
/// grows too long is cut, and ends with a digest of the whole.
pub fn table_file(table: &str) -> String {
    const LETTERS_MAX: usize = 150;
    let plain = |at: usize, byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || (byte == b'.' && at > 0);
    let letter = |(at, byte): (usize, u8)| match plain(at, byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    let mut name: String = table.bytes().enumerate().map(letter).collect();
    if name.len() > LETTERS_MAX {
        use sha2::{Digest, Sha256};
        name = format!("{}~{}", &name[..LETTERS_MAX], &hex::encode(Sha256::digest(table))[..16]);
    }
    format!("{name}.csv")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_file_name_of_its_own() {
        for (table, file) in [
            ("orders", "orders.csv"),
            ("a.b", "a.b.csv"),
            ("..", "%2E..csv"),
            ("a/b", "a%2Fb.csv"),
            ("quote\"d\n", "quote%22d%0A.csv"),
            ("a%2Fb", "a%252Fb.csv"),
            ("ü", "%C3%BC.csv"),
            ("", ".csv"),
        ] {
            assert_eq!(table_file(table), file);
        }
        let (long, longer) = (table_file(&"ü".repeat(300)), table_file(&"ü".repeat(301)));
        assert!(long.len() < 200 && long != longer, "{long} {longer}");
    }
}
