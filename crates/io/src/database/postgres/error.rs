//! What can go wrong with a PostgreSQL database, by what the caller does about it.

use std::{fmt, io};

use lifeboat_model::FailureClass;

use crate::{exec::ExecError, stop::Stopped};

/// `disk_full`, as the server writes it.
pub(super) const DISK_FULL: &str = "53100";

/// Something about a PostgreSQL database that did not work. No password is in any of its words.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// The connection string cannot be understood.
    #[error("the connection string cannot be used: {found}")]
    Address {
        /// What is wrong with it; never the string itself.
        found: String,
    },
    /// Nobody answered there.
    #[error("cannot reach {to}")]
    Unreachable {
        /// Host, port and database.
        to: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The encrypted connection was refused, by them or by us.
    #[error("cannot encrypt the connection to {to}: {found}")]
    Tls {
        /// Host, port and database.
        to: String,
        /// Why.
        found: String,
    },
    /// The server answered, and did not let us in.
    #[error("{to} did not let us in: {said}")]
    NotLetIn {
        /// Host, port and database.
        to: String,
        /// What it said.
        said: Box<ServerSaid>,
    },
    /// The server refused a statement.
    #[error("cannot {doing}: {said}")]
    Refused {
        /// What was attempted.
        doing: String,
        /// What the server said.
        said: Box<ServerSaid>,
    },
    /// The connection ended in the middle.
    #[error("the connection to {to} was lost while trying to {doing}")]
    Lost {
        /// Host, port and database.
        to: String,
        /// What was attempted.
        doing: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The other end does not talk as a PostgreSQL server does.
    #[error("{to} does not answer as a PostgreSQL server does: {found}")]
    Protocol {
        /// Host, port and database.
        to: String,
        /// What it did.
        found: String,
    },
    /// What we read from, or write to, on our side.
    #[error("cannot {doing}")]
    Ours {
        /// What was attempted.
        doing: String,
        /// What lay beneath.
        #[source]
        source: io::Error,
    },
    /// There is no `pg_dump` for this server.
    #[error("the server is PostgreSQL {server}, and {}; install {package}", found_clients(found))]
    NoClient {
        /// The server's major version.
        server: u32,
        /// The major versions of the clients that were found.
        found: Vec<u32>,
        /// The Debian package that brings the client.
        package: String,
    },
    /// A client program failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Its name.
        program: String,
        /// The end of what it said.
        said: String,
    },
    /// A client program could not be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Between us and the server is a pooler that gives each transaction to another session.
    #[error(
        "{to} is a pooler in transaction mode: snapshots and settings do not hold there; connect to the server itself or to a pooler in session mode (Supabase: port 5432 instead of 6543)"
    )]
    Pooler {
        /// Host, port and database.
        to: String,
    },
    /// The server cannot hold that many locks.
    #[error(
        "this needs {needed} locks at once, and the server has room for {room}; raise max_locks_per_transaction to {suggested}"
    )]
    LockTable {
        /// Locks that one transaction of ours takes.
        needed: u64,
        /// What its lock table holds.
        room: u64,
        /// A setting that is enough.
        suggested: u64,
    },
    /// Tables were dropped, truncated or rewritten while they were read, each time again.
    #[error("{} changed while being read, {attempts} times in a row", tables.join(", "))]
    Changed {
        /// The tables.
        tables: Vec<String>,
        /// How often it was tried.
        attempts: u32,
    },
    /// Something has to be as it is not, before this can begin.
    #[error("{found}")]
    Preflight {
        /// What is in the way, one sentence.
        found: String,
        /// What to do.
        hint: String,
    },
    /// A file of a backup is not what we write.
    #[error("{what} is damaged: {found}")]
    Damaged {
        /// Which part.
        what: String,
        /// What is wrong with it.
        found: String,
    },
    /// Broken off on request.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What a server says when it refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSaid {
    /// Its five-letter code, `42501` for example.
    pub code: String,
    /// The sentence.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// The server's own advice.
    pub hint: Option<String>,
    /// Where in a function or a COPY it happened.
    pub context: Option<String>,
    /// The table it is about, with its schema.
    pub table: Option<String>,
    /// The constraint it is about.
    pub constraint: Option<String>,
}

impl fmt::Display for ServerSaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        self.detail.iter().chain(&self.context).try_for_each(|more| write!(f, "; {}", more.replace('\n', " ")))
    }
}

/// What a person does next about an error of a class (RST-15 to RST-19).
fn next_step_of(class: Option<FailureClass>) -> &'static str {
    match class {
        Some(FailureClass::Permission) => {
            "connect as the owner, or restore without owners and grants and apply the recorded grants afterwards"
        }
        Some(FailureClass::DuplicateKey) => "restore into an empty database, or into a new one that is swapped in",
        Some(FailureClass::MissingRelation) => {
            "restore schema and data together, or run the app's migrations first and then load the data alone"
        }
        Some(FailureClass::MissingDatabase) => "check the database's name; a restore creates one that does not exist",
        Some(FailureClass::MissingRole) => "create the role first: globals.sql of the backup has the statement",
        Some(FailureClass::Extension) => {
            "install the extension's package on the database server, or ask the provider to enable it"
        }
        Some(FailureClass::Version) => {
            "use the clients of the server's major version, or a server that is not older than the backup"
        }
        Some(FailureClass::Disk) => "make room on the server's disk, then run it again",
        Some(FailureClass::Connection) => {
            "check that the server runs and that host, port and password are right, then run it again"
        }
        Some(FailureClass::Lock) => "end the sessions that hold the tables, or try again later",
        Some(FailureClass::Content) => "the rows break a rule of the schema; look at the named table and constraint",
        Some(FailureClass::Damage) => "the server's disk has lost data: bring back a good backup, lifeboat restore",
        Some(FailureClass::Syntax) => "the file is damaged, or was written for another version",
        Some(FailureClass::Stopped) => "run it again when you are ready",
        None => "read the server's sentence; its log may say more",
    }
}

impl PgError {
    /// The class of the error; nothing where it is of none.
    pub fn class(&self) -> Option<FailureClass> {
        Some(match self {
            PgError::NotLetIn { said, .. } | PgError::Refused { said, .. } => return class_of(said),
            PgError::Unreachable { .. } | PgError::Lost { .. } | PgError::Tls { .. } => FailureClass::Connection,
            PgError::NoClient { .. } => FailureClass::Version,
            PgError::Ours { source, .. } if is_full(source) => FailureClass::Disk,
            PgError::Changed { .. } => FailureClass::Lock,
            PgError::Stopped(_) | PgError::Exec(ExecError::Stopped { .. }) => FailureClass::Stopped,
            PgError::Address { .. }
            | PgError::Protocol { .. }
            | PgError::Ours { .. }
            | PgError::Program { .. }
            | PgError::Exec(_)
            | PgError::Pooler { .. }
            | PgError::LockTable { .. }
            | PgError::Preflight { .. }
            | PgError::Damaged { .. } => return None,
        })
    }

    /// The server's code, when it was the server that refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            PgError::NotLetIn { said, .. } | PgError::Refused { said, .. } => Some(&said.code),
            _ => None,
        }
    }

    /// What to do next.
    pub fn next_step(&self) -> String {
        match self {
            PgError::Preflight { hint, .. } => hint.clone(),
            PgError::NoClient { package, .. } => format!("install {package}"),
            other => next_step_of(other.class()).to_owned(),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// By the server's code; where one code stands for several things, by the sentence.
fn class_of(said: &ServerSaid) -> Option<FailureClass> {
    let about_extension = said.message.contains("extension");
    Some(match said.code.as_str() {
        "58P01" | "0A000" | "22023" if about_extension => FailureClass::Extension,
        "42704" if about_extension => FailureClass::Extension,
        "42704" if said.message.starts_with("role ") => FailureClass::MissingRole,
        "42704" if said.message.contains("configuration parameter") => FailureClass::Version,
        "42501" if about_extension => FailureClass::Extension,
        "22023" if said.message.starts_with("role ") => FailureClass::MissingRole,
        "28000" if said.message.contains("does not exist") => FailureClass::MissingRole,
        "42501" | "28P01" | "28000" => FailureClass::Permission,
        "23505" | "42P04" | "42P06" | "42P07" | "42710" | "42723" => FailureClass::DuplicateKey,
        "42P01" | "42703" | "42883" | "42704" | "3F000" => FailureClass::MissingRelation,
        "3D000" => FailureClass::MissingDatabase,
        "0A000" => FailureClass::Version,
        DISK_FULL => FailureClass::Disk,
        "53200" => return None,
        "55P03" | "40P01" | "55006" => FailureClass::Lock,
        "42601" => FailureClass::Syntax,
        "XX001" | "XX002" => FailureClass::Damage,
        code => match code.get(..2).unwrap_or_default() {
            "08" | "57" | "53" => FailureClass::Connection,
            "22" | "23" => FailureClass::Content,
            _ => return None,
        },
    })
}

fn found_clients(found: &[u32]) -> String {
    match found {
        [] => "no pg_dump is installed here".into(),
        [one] => format!("the only pg_dump here is of version {one}"),
        many => format!("the newest pg_dump here is of version {}", many.iter().max().copied().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classified() {
        let class = |code: &str, message: &str| {
            class_of(&ServerSaid { code: code.into(), message: message.into(), ..ServerSaid::default() })
        };
        assert_eq!(class("42501", "permission denied for table orders"), Some(FailureClass::Permission));
        assert_eq!(class("23505", "duplicate key value violates unique constraint"), Some(FailureClass::DuplicateKey));
        assert_eq!(class("42P01", "relation \"x\" does not exist"), Some(FailureClass::MissingRelation));
        assert_eq!(class("3D000", "database \"x\" does not exist"), Some(FailureClass::MissingDatabase));
        assert_eq!(class("0A000", "extension \"postgis\" is not available"), Some(FailureClass::Extension));
        assert_eq!(class("42704", "role \"app\" does not exist"), Some(FailureClass::MissingRole));
        assert_eq!(
            class("42704", "unrecognized configuration parameter \"transaction_timeout\""),
            Some(FailureClass::Version)
        );
        assert_eq!(class("53100", "could not extend file: No space left on device"), Some(FailureClass::Disk));
        assert_eq!(class("57P01", "terminating connection"), Some(FailureClass::Connection));
        assert_eq!(class("55P03", "canceling statement due to lock timeout"), Some(FailureClass::Lock));
        assert_eq!(class("42601", "syntax error at or near \"x\""), Some(FailureClass::Syntax));
        assert_eq!(class("23503", "violates foreign key constraint"), Some(FailureClass::Content));
    }

    #[test]
    fn the_missing_client_is_named() {
        let error = PgError::NoClient { server: 17, found: vec![15, 16], package: "postgresql-client-17".into() };
        let sentence =
            "the server is PostgreSQL 17, and the newest pg_dump here is of version 16; install postgresql-client-17";
        assert_eq!(error.to_string(), sentence);
    }
}
