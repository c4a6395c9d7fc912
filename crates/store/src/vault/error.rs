//! What the vault could not do: with what, and why.

use std::sync::Arc;

use lifeboat_io::{ObjectError, ObjectErrorKind, Stopped};

use super::lock::LockHolder;

/// What the vault could not do. Callers branch on the variant, never on text.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is nothing here that could be a vault.
    #[error("there is no vault in {place}")]
    NoVault {
        /// Where we looked.
        place: String,
    },
    /// A vault cannot be made where one is.
    #[error("there is a vault in {place} already")]
    AlreadyThere {
        /// Where it is.
        place: String,
    },
    /// None of the vault's key files opens with this password.
    #[error("the password does not open the vault in {place}")]
    WrongPassword {
        /// Where the vault is.
        place: String,
        /// Key files that could not be tried because they are damaged; one of them may be the password's.
        damaged_keys: usize,
    },
    /// The vault was made by a newer program.
    #[error("the vault in {place} has format version {version}, and this program knows 1 and 2")]
    TooNew {
        /// Where the vault is.
        place: String,
        /// What its config says.
        version: u64,
    },
    /// Somebody else holds a lock that excludes ours.
    #[error("the vault in {place} is {holder}")]
    Locked {
        /// Where the vault is.
        place: String,
        /// Who holds the lock.
        holder: Box<LockHolder>,
    },
    /// Our lock is gone or too old: others may have taken the vault for theirs.
    #[error("the lock on the vault in {place} was lost")]
    LockLost {
        /// Where the vault is.
        place: String,
    },
    /// An object, or a part of it, is not what it must be.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// Which object or blob.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// Something that must be in the vault is not.
    #[error("{object} is missing from the vault")]
    Missing {
        /// Which object, blob or path.
        object: String,
    },
    /// The place the vault lies in failed.
    #[error("cannot {doing}")]
    Object {
        /// What for.
        doing: String,
        /// What the place said.
        source: ObjectError,
    },
    /// A producer went away without saying that its stream is complete.
    #[error("{path} was not written to its end, so there is no complete backup")]
    StreamUnfinished {
        /// The stream's path in the backup.
        path: String,
    },
    /// A path that a backup cannot hold.
    #[error("{path:?} cannot be in a backup: {why}")]
    BadPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Bytes read from the vault could not be handed on.
    #[error("cannot write what was read from the vault")]
    Output(#[source] std::io::Error),
    /// The computer has no threads or no compressor left.
    #[error("cannot start {what}")]
    Start {
        /// A part of the machinery.
        what: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Somebody asked to break off.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The backup failed in another thread; this is how.
    #[error(transparent)]
    Failed(Arc<VaultError>),
}

impl VaultError {
    /// The error itself, when this one only passes on what happened in another thread.
    pub fn root(&self) -> &VaultError {
        match self {
            VaultError::Failed(cause) => cause.root(),
            other => other,
        }
    }

    /// What the place said, when it was the place that failed.
    pub fn object_kind(&self) -> Option<ObjectErrorKind> {
        match self.root() {
            VaultError::Object { source, .. } => Some(source.kind),
            _ => None,
        }
    }

    pub(crate) fn damaged(object: impl Into<String>, what: impl Into<String>) -> VaultError {
        VaultError::Damaged { object: object.into(), what: what.into() }
    }

    /// For `map_err`: says what the object was wanted for.
    pub(crate) fn object(doing: impl Into<String>) -> impl FnOnce(ObjectError) -> VaultError {
        let doing = doing.into();
        move |source| VaultError::Object { doing, source }
    }
}
