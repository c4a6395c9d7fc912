//! A question that is put to a database to see whether what runs does well: a probe in SQL.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Tri, assertion::Expect, resource::ResourceName};

/// One question about a database, and what its first value has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What the settings call it.
    pub name: String,
    /// The resource that is asked.
    pub resource: ResourceName,
    /// Where that is.
    pub place: Asked,
    /// What is asked.
    pub sql: String,
    /// What the first value has to be; true when nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    /// How long the answer may take, in milliseconds.
    pub limit_ms: u64,
}

/// Where a database is that a question is put to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// A database on a server, by its address without a password.
    Postgres(String),
    /// A file.
    Sqlite(PathBuf),
}

impl fmt::Display for Question {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} in {}", self.name, self.resource)
    }
}

impl Question {
    /// The question as it is put: no more than one, one that only reads, and no more than its first row.
    pub fn asked(&self) -> String {
        let sql = self.sql.trim().trim_end_matches(';').trim_end();
        format!("SELECT * FROM (\n{sql}\n) AS asked LIMIT 1")
    }

    /// Judges an answer: how many rows there were, and the first value of the first one.
    ///
    /// # Errors
    /// It is not what it has to be; what it is instead, in a few words.
    pub fn judge(&self, rows: usize, first: Option<&str>) -> Result<(), String> {
        let Some(wanted) = &self.equals else {
            return match (rows, first) {
                (0, _) => Err("it has no answer".to_owned()),
                (_, Some("t" | "true" | "1")) => Ok(()), // as PostgreSQL and SQLite write truth
                (_, other) => Err(format!("it answers {}; it must be true", other.unwrap_or("NULL"))),
            };
        };
        match Expect::Exactly(wanted.clone()).judge(rows, first) {
            (Tri::Pass, _) => Ok(()),
            (Tri::Fail | Tri::Unknown, _) if rows == 0 => Err("it has no answer".to_owned()),
            (Tri::Fail | Tri::Unknown, told) => Err(format!("it answers {told}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_true_or_as_expected_and_nothing_is_not() {
        let question = |equals: Option<&str>| Question {
            name: "orders".to_owned(),
            resource: ResourceName::new("db").unwrap(),
            place: Asked::Sqlite("app.db".into()),
            sql: "select 1 ;".to_owned(),
            equals: equals.map(str::to_owned),
            limit_ms: 1_000,
        };
        assert_eq!(question(None).asked(), "SELECT * FROM (\nselect 1\n) AS asked LIMIT 1");
        for (equals, rows, first, wanted) in [
            (None, 1, Some("t"), Ok(())),
            (None, 1, Some("1"), Ok(())),
            (None, 1, Some("f"), Err("it answers f; it must be true")),
            (None, 1, Some("2"), Err("it answers 2; it must be true")),
            (None, 1, None, Err("it answers NULL; it must be true")),
            (None, 0, None, Err("it has no answer")),
            (Some("3"), 1, Some("3"), Ok(())),
            (Some("3"), 1, Some("4"), Err("it answers 4; it must be 3")),
            (Some("3"), 0, None, Err("it has no answer")),
        ] {
            assert_eq!(question(equals).judge(rows, first), wanted.map_err(str::to_owned), "{equals:?} {first:?}");
        }
    }
}
