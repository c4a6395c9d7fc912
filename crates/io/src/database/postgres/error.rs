//! What can go wrong with a PostgreSQL database, by what the caller does about it.

use std::{fmt, io};

use lifeboat_model::FailureClass;

use crate::{exec::ExecError, stop::Stopped};

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

/// The kinds of errors a person treats differently (RST-15 to RST-19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// A privilege is missing.
    Permission,
    /// Rows are already there.
    DuplicateKey,
    /// A table, column, function or type is missing.
    MissingRelation,
    /// The database is not there.
    MissingDatabase,
    /// A role is not there.
    MissingRole,
    /// An extension is missing or cannot be made.
    Extension,
    /// Client and server do not fit, or the statement is not known to this version.
    Version,
    /// The server's disk, or ours, is full.
    Disk,
    /// Nobody answers, or the connection broke.
    Connection,
    /// Others hold what we need.
    Lock,
    /// Rows break a rule: a foreign key, a check, a type.
    Content,
    /// The server says that stored bytes are not what they were.
    Damage,
    /// The statement cannot be parsed.
    Syntax,
    /// Asked to stop.
    Stopped,
    /// None of these.
    Other,
}

impl ErrorClass {
    /// The class as journals and people know it.
    pub fn failure_class(self) -> Option<FailureClass> {
        Some(match self {
            ErrorClass::Permission => FailureClass::Permission,
            ErrorClass::DuplicateKey => FailureClass::DuplicateKey,
            ErrorClass::MissingRelation => FailureClass::MissingRelation,
            ErrorClass::MissingDatabase => FailureClass::MissingDatabase,
            ErrorClass::MissingRole => FailureClass::MissingRole,
            ErrorClass::Extension => FailureClass::Extension,
            ErrorClass::Version => FailureClass::Version,
            ErrorClass::Disk => FailureClass::Disk,
            ErrorClass::Connection => FailureClass::Connection,
            ErrorClass::Lock => FailureClass::Lock,
            ErrorClass::Content => FailureClass::Content,
            ErrorClass::Damage => FailureClass::Damage,
            ErrorClass::Syntax => FailureClass::Syntax,
            ErrorClass::Stopped => FailureClass::Stopped,
            ErrorClass::Other => return None,
        })
    }

    /// What a person does next.
    pub fn next_step(self) -> &'static str {
        match self {
            ErrorClass::Permission => {
                "connect as the owner, or restore without owners and grants and apply the recorded grants afterwards"
            }
            ErrorClass::DuplicateKey => "restore into an empty database, or into a new one that is swapped in",
            ErrorClass::MissingRelation => {
                "restore schema and data together, or run the app's migrations first and then load the data alone"
            }
            ErrorClass::MissingDatabase => "check the database's name; a restore creates one that does not exist",
            ErrorClass::MissingRole => "create the role first: globals.sql of the backup has the statement",
            ErrorClass::Extension => {
                "install the extension's package on the database server, or ask the provider to enable it"
            }
            ErrorClass::Version => {
                "use the clients of the server's major version, or a server that is not older than the backup"
            }
            ErrorClass::Disk => "make room on the server's disk, then run it again",
            ErrorClass::Connection => {
                "check that the server runs and that host, port and password are right, then run it again"
            }
            ErrorClass::Lock => "end the sessions that hold the tables, or try again later",
            ErrorClass::Content => "the rows break a rule of the schema; look at the named table and constraint",
            ErrorClass::Damage => "the server's disk has lost data: bring back a good backup, lifeboat restore",
            ErrorClass::Syntax => "the file is damaged, or was written for another version",
            ErrorClass::Stopped => "run it again when you are ready",
            ErrorClass::Other => "read the server's sentence; its log may say more",
        }
    }
}

impl PgError {
    /// The class of the error.
    pub fn class(&self) -> ErrorClass {
        match self {
            PgError::NotLetIn { said, .. } | PgError::Refused { said, .. } => class_of(said),
            PgError::Unreachable { .. } | PgError::Lost { .. } | PgError::Tls { .. } => ErrorClass::Connection,
            PgError::NoClient { .. } => ErrorClass::Version,
            PgError::Ours { source, .. } if is_full(source) => ErrorClass::Disk,
            PgError::Changed { .. } => ErrorClass::Lock,
            PgError::Stopped(_) | PgError::Exec(ExecError::Stopped { .. }) => ErrorClass::Stopped,
            PgError::Address { .. }
            | PgError::Protocol { .. }
            | PgError::Ours { .. }
            | PgError::Program { .. }
            | PgError::Exec(_)
            | PgError::Pooler { .. }
            | PgError::LockTable { .. }
            | PgError::Preflight { .. }
            | PgError::Damaged { .. } => ErrorClass::Other,
        }
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
            other => other.class().next_step().to_owned(),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// By the server's code; where one code stands for several things, by the sentence.
fn class_of(said: &ServerSaid) -> ErrorClass {
    let about_extension = said.message.contains("extension");
    match said.code.as_str() {
        "58P01" | "0A000" | "22023" if about_extension => ErrorClass::Extension,
        "42704" if about_extension => ErrorClass::Extension,
        "42704" if said.message.starts_with("role ") => ErrorClass::MissingRole,
        "42704" if said.message.contains("configuration parameter") => ErrorClass::Version,
        "42501" if about_extension => ErrorClass::Extension,
        "22023" if said.message.starts_with("role ") => ErrorClass::MissingRole,
        "28000" if said.message.contains("does not exist") => ErrorClass::MissingRole,
        "42501" | "28P01" | "28000" => ErrorClass::Permission,
        "23505" | "42P04" | "42P06" | "42P07" | "42710" | "42723" => ErrorClass::DuplicateKey,
        "42P01" | "42703" | "42883" | "42704" | "3F000" => ErrorClass::MissingRelation,
        "3D000" => ErrorClass::MissingDatabase,
        "0A000" => ErrorClass::Version,
        "53100" => ErrorClass::Disk,
        "53200" => ErrorClass::Other,
        "55P03" | "40P01" | "55006" => ErrorClass::Lock,
        "42601" => ErrorClass::Syntax,
        "XX001" | "XX002" => ErrorClass::Damage,
        code => match code.get(..2).unwrap_or_default() {
            "08" | "57" | "53" => ErrorClass::Connection,
            "22" | "23" => ErrorClass::Content,
            _ => ErrorClass::Other,
        },
    }
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
        assert_eq!(class("42501", "permission denied for table orders"), ErrorClass::Permission);
        assert_eq!(class("23505", "duplicate key value violates unique constraint"), ErrorClass::DuplicateKey);
        assert_eq!(class("42P01", "relation \"x\" does not exist"), ErrorClass::MissingRelation);
        assert_eq!(class("3D000", "database \"x\" does not exist"), ErrorClass::MissingDatabase);
        assert_eq!(class("0A000", "extension \"postgis\" is not available"), ErrorClass::Extension);
        assert_eq!(class("42704", "role \"app\" does not exist"), ErrorClass::MissingRole);
        assert_eq!(class("42704", "unrecognized configuration parameter \"transaction_timeout\""), ErrorClass::Version);
        assert_eq!(class("53100", "could not extend file: No space left on device"), ErrorClass::Disk);
        assert_eq!(class("57P01", "terminating connection"), ErrorClass::Connection);
        assert_eq!(class("55P03", "canceling statement due to lock timeout"), ErrorClass::Lock);
        assert_eq!(class("42601", "syntax error at or near \"x\""), ErrorClass::Syntax);
        assert_eq!(class("23503", "violates foreign key constraint"), ErrorClass::Content);
    }

    #[test]
    fn the_missing_client_is_named() {
        let error = PgError::NoClient { server: 17, found: vec![15, 16], package: "postgresql-client-17".into() };
        let sentence =
            "the server is PostgreSQL 17, and the newest pg_dump here is of version 16; install postgresql-client-17";
        assert_eq!(error.to_string(), sentence);
    }
}
