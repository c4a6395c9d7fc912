//! What there is to know about a PostgreSQL database, so that two of them can be compared by content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{manifest::TableFacts, time::Timestamp};

/// What was captured of a PostgreSQL database. Tables and sequences are named `schema.name`, quoted where SQL needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PostgresFacts {
    /// The server's version as a number: 150018 for 15.18.
    pub server_version: u32,
    /// The version of the `pg_dump` that wrote the definitions.
    pub client_version: String,
    /// The database and what surrounds it.
    pub database: DatabaseFacts,
    /// The instant that was captured, in the server's own counting.
    pub horizon: Horizon,
    /// The schemas that were captured.
    pub schemas: Vec<String>,
    /// Statements that give schema `public`, which every new database has, its owner and grants. What they are by
    /// default differs between versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_schema: Vec<String>,
    /// Every table that holds rows of its own, by name.
    pub tables: BTreeMap<String, PgTableFacts>,
    /// Every sequence, by name.
    pub sequences: BTreeMap<String, SequenceFacts>,
    /// Large objects; nothing when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_objects: Option<LargeObjectFacts>,
    /// One digest over the definitions of each kind: `column`, `policy`, `trigger`, ...
    pub fingerprint: BTreeMap<String, KindFacts>,
    /// The same for each schema by itself, without what is in no schema.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_schema: BTreeMap<String, BTreeMap<String, KindFacts>>,
    /// How many rows each role could see, by role and table: a copy may not show it more. A table that is not named could not
    /// be read by it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, BTreeMap<String, u64>>,
    /// Tables in which migration tools keep what they have run, with the newest entry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub migrations: BTreeMap<String, String>,
    /// Roles that own something, are granted something or are named in a policy: they must be there before a restore.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Extensions with their versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extensions: BTreeMap<String, String>,
    /// Tablespaces other than the server's own that tables and indexes are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tablespaces: Vec<String>,
}

/// The database itself, as `CREATE DATABASE` and `ALTER DATABASE` know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// `UTF8`, for example.
    pub encoding: String,
    /// The order of text.
    pub collate: String,
    /// What letters are.
    pub ctype: String,
    /// `c` for the system's, `i` for ICU's, `b` for PostgreSQL's own.
    pub locale_provider: String,
    /// The locale of that provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The tablespace.
    pub tablespace: String,
    /// How many may be connected; -1 for no limit.
    pub connection_limit: i64,
    /// Statements that give back settings, grants and the comment, in order; `%DB%` stands for the quoted name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<String>,
    /// Bytes on the server's disk.
    pub bytes: u64,
}

/// An instant, in the server's own counting of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Horizon {
    /// `pg_current_snapshot()`: `xmin:xmax:running`.
    pub snapshot: String,
    /// Its xmin, with the epoch: rows changed since have a greater or equal one.
    pub xmin: u64,
    /// The cluster's own number; where it differs, the counting is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// The database's number: a database that was restored has another, and its rows a new counting.
    pub database_oid: u32,
    /// The timeline; another one after a failover or a recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// The place in the write-ahead log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<String>,
    /// Everything committed before this instant is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Since when the server runs, in microseconds since 1970. A server that was started again may have come back as it was at
    /// an earlier time - its disk was - and count once more what it had counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_since: Option<u64>,
    /// Since when its checkpointer runs, in the same unit, where this role may see it: one that was started again tells of a
    /// crash of another process, after which the server goes on as it is on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbroken_since: Option<u64>,
    /// Whether all that was committed by then was on the server's disk when the capture had ended: what was not may be lost
    /// with a crash, and its numbers are given out again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_disk: bool,
}

impl PostgresFacts {
    /// Bytes on the server's disk that were read: without tables whose rows were taken over from an earlier capture.
    pub fn bytes_read(&self) -> u64 {
        let read = self.tables.values().filter(|table| table.read_at.is_none());
        // As text, a byte of a large object is two digits.
        let objects = self.large_objects.as_ref().map_or(0, |objects| objects.part.bytes / 2);
        read.map(|table| table.disk_bytes).sum::<u64>() + objects
    }
}

/// What there is to know about one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgTableFacts {
    /// Rows and digest.
    #[serde(flatten)]
    pub rows: TableFacts,
    /// Its columns in order, quoted where SQL needs it, without generated ones: what COPY names. Empty for a table
    /// without such columns.
    pub columns: Vec<String>,
    /// Columns of its primary key, in order; empty when it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// The files that hold its rows, in COPY's text format, in order.
    pub parts: Vec<PartFacts>,
    /// Bytes on the server's disk, without indexes: how long it will take.
    pub disk_bytes: u64,
    /// Only these rows are the database's own; the others come with an extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// What tells this very table, with these very columns, from another one of the same name and looks; empty in captures that
    /// did not note it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// When its rows were read, where that was for an earlier capture and nobody has written to it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
}

/// One file with rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFacts {
    /// Its path below the resource's folder.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of it.
    pub bytes: u64,
}

/// Where a sequence stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceFacts {
    /// The last value.
    pub last_value: i64,
    /// Whether that value was given out.
    pub is_called: bool,
}

/// Large objects: one file in COPY's text format with object, offset and bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjectFacts {
    /// How many there are.
    pub objects: u64,
    /// Their pieces: rows and digest.
    #[serde(flatten)]
    pub rows: TableFacts,
    /// The file.
    pub part: PartFacts,
    /// Statements that make them, with owners, grants and comments.
    pub statements: Vec<String>,
}

/// All definitions of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindFacts {
    /// How many there are.
    pub count: u64,
    /// Digest over them in order, hex.
    pub digest: String,
}
