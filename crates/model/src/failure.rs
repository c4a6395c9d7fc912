//! An error a person will read: kept in the journal, shown on the terminal, in the console and in JSON.

use serde::{Deserialize, Serialize};

/// What went wrong, in one sentence; what lay beneath it; what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What callers and exit codes branch on; never the text.
    pub kind: FailureKind,
    /// One sentence: what we were trying to do, to what, and why it did not work. Ends without a period.
    pub message: String,
    /// The causes beneath, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do next; something one can type, where there is such a thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// A finer class, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
}

/// The kinds of failure, by what the person has to do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The words of the command or the settings file are wrong.
    Usage,
    /// Something that must be there is not: a file, a good backup, disk space, a password.
    Refused,
    /// The facts a plan rests on have changed since it was made.
    Stale,
    /// Somebody else is working on the same thing.
    Busy,
    /// It could not be determined whether things are good.
    Unknown,
    /// A question was not answered, or a confirmation is missing.
    NeedsPerson,
    /// The outside world did not do what was asked: a full disk, a lost network, a program that failed.
    Outside,
    /// Stored bytes are not what they were: a flipped bit, a missing pack, a broken chain.
    Damaged,
    /// A person or a supervisor asked us to stop.
    Interrupted,
    /// Lifeboat did something it should never do.
    Bug,
}

/// What a database refused, finer than a kind: the same try once more needs this word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
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
    /// Client and server do not fit.
    Version,
    /// A disk is full.
    Disk,
    /// Nobody answers, or the connection broke.
    Connection,
    /// Others hold what is needed.
    Lock,
    /// Rows break a rule.
    Content,
    /// Stored bytes are not what they were.
    Damage,
    /// A statement cannot be understood.
    Syntax,
    /// Somebody asked to stop.
    Stopped,
}

impl FailureClass {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            FailureClass::Permission => "permission",
            FailureClass::DuplicateKey => "duplicate-key",
            FailureClass::MissingRelation => "missing-relation",
            FailureClass::MissingDatabase => "missing-database",
            FailureClass::MissingRole => "missing-role",
            FailureClass::Extension => "extension",
            FailureClass::Version => "version",
            FailureClass::Disk => "disk",
            FailureClass::Connection => "connection",
            FailureClass::Lock => "lock",
            FailureClass::Content => "content",
            FailureClass::Damage => "damage",
            FailureClass::Syntax => "syntax",
            FailureClass::Stopped => "stopped",
        }
    }
}

impl Failure {
    /// A failure without causes or hint.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), causes: Vec::new(), hint: None, class: None }
    }

    /// Makes a failure out of an error and all that lies beneath it.
    pub fn from_error(kind: FailureKind, error: &(dyn std::error::Error + 'static)) -> Failure {
        let mut causes: Vec<String> = Vec::new();
        let message = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // Transparent wrappers repeat their inner sentence; say it once.
            if causes.last().unwrap_or(&message) != &text {
                causes.push(text);
            }
            next = cause.source();
        }
        Failure { kind, message, causes, hint: None, class: None }
    }

    /// Says which class it is of.
    #[must_use]
    pub fn of_class(mut self, class: FailureClass) -> Failure {
        self.class = Some(class);
        self
    }

    /// Its class in a word; its kind's where there is no finer one.
    pub fn class_word(&self) -> &'static str {
        let kind = || match self.kind {
            FailureKind::Usage => "usage",
            FailureKind::Refused => "refused",
            FailureKind::Stale => "stale",
            FailureKind::Busy => "busy",
            FailureKind::Unknown => "unknown",
            FailureKind::NeedsPerson => "needs-person",
            FailureKind::Outside => "outside",
            FailureKind::Damaged => "damaged",
            FailureKind::Interrupted => "interrupted",
            FailureKind::Bug => "bug",
        };
        self.class.map_or_else(kind, FailureClass::word)
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what lay beneath.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Failure {
        self.causes.push(cause.into());
        self
    }

    /// Puts what we were trying to do on top; the former sentence becomes the first cause.
    #[must_use]
    pub fn while_doing(mut self, message: impl Into<String>) -> Failure {
        let inner = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, inner);
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Failure {}

/// What the process ends with. One meaning each; documented in `docs/exit-codes.md`, which a test compares with this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done and verified, or nothing to do.
    Ok = 0,
    /// The operation failed and everything was put back.
    FailedUndone = 1,
    /// Wrong arguments or settings.
    Usage = 2,
    /// A precondition is missing.
    Refused = 3,
    /// The plan's facts have changed.
    Stale = 4,
    /// Somebody else holds the lease or the lock.
    Busy = 5,
    /// It could not be determined.
    Unknown = 6,
    /// A confirmation was not given.
    NeedsPerson = 7,
    /// Stopped in between: past the point of no return, or the undo failed too.
    InBetween = 8,
    /// Finished and verified, but later than the budget.
    OverBudget = 9,
    /// `status --exit-code` advises an action; or a backup is good and a copy of it failed.
    ActionAdvised = 10,
    /// Stored data is damaged.
    Damaged = 11,
    /// Ctrl-C or SIGTERM; stopped at a safe point, can be resumed.
    Interrupted = 130,
}

impl ExitCode {
    /// Every code with its name and meaning, in order: the table of the documentation.
    pub const TABLE: &'static [(ExitCode, &'static str, &'static str)] = &[
        (ExitCode::Ok, "ok", "done and verified, or nothing to do"),
        (ExitCode::FailedUndone, "failed, undone", "the operation failed and everything was put back as it was"),
        (ExitCode::Usage, "usage", "wrong arguments or settings; nothing was touched"),
        (
            ExitCode::Refused,
            "refused",
            "something that must be there is not: a file, a backup, space, a password; nothing was touched",
        ),
        (ExitCode::Stale, "stale", "the facts the plan rests on have changed; they are printed; nothing was touched"),
        (ExitCode::Busy, "busy", "somebody else is working on the same thing; it says who, and whether they are alive"),
        (ExitCode::Unknown, "unknown", "it could not be determined whether things are good; never counted as good"),
        (ExitCode::NeedsPerson, "needs a person", "a confirmation is missing; nothing was touched"),
        (
            ExitCode::InBetween,
            "in between",
            "stopped past the point of no return, or undoing failed too; `lifeboat resume` knows what is next",
        ),
        (ExitCode::OverBudget, "over budget", "finished and verified, but later than its budget"),
        (
            ExitCode::ActionAdvised,
            "action advised",
            "`status --exit-code`: something needs attention; `backup`: it is good, and a copy of it failed",
        ),
        (ExitCode::Damaged, "damaged", "stored data is not what it was; it says which"),
        (
            ExitCode::Interrupted,
            "interrupted",
            "stopped at a safe point by Ctrl-C or SIGTERM; `lifeboat resume` continues",
        ),
    ];
}

impl From<FailureKind> for ExitCode {
    fn from(kind: FailureKind) -> ExitCode {
        match kind {
            FailureKind::Usage => ExitCode::Usage,
            FailureKind::Refused => ExitCode::Refused,
            FailureKind::Stale => ExitCode::Stale,
            FailureKind::Busy => ExitCode::Busy,
            FailureKind::Unknown => ExitCode::Unknown,
            FailureKind::NeedsPerson => ExitCode::NeedsPerson,
            FailureKind::Outside | FailureKind::Bug => ExitCode::FailedUndone,
            FailureKind::Damaged => ExitCode::Damaged,
            FailureKind::Interrupted => ExitCode::Interrupted,
        }
    }
}
