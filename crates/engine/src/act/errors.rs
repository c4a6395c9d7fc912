//! What errors of the floors below mean for a person.

use lifeboat_io::{
    ObjectErrorKind, PathError,
    database::{postgres::PgError, sqlite::SqliteError},
};
use lifeboat_model::{Failure, FailureClass, FailureKind};
use lifeboat_store::vault::VaultError;

/// A vault's error as a failure: kind, sentence, hint.
pub fn vault_failure(error: &VaultError) -> Failure {
    use FailureKind as K;
    let root = error.root();
    let (kind, hint) = match root {
        VaultError::NoVault { .. } => (K::Refused, Some("check the location; the first backup makes a vault there")),
        VaultError::AlreadyThere { .. } | VaultError::TooNew { .. } | VaultError::BadPath { .. } => (K::Refused, None),
        VaultError::WrongPassword { .. } => {
            (K::Refused, Some("check LIFEBOAT_VAULT_PASSWORD, or `password` under [vault] in lifeboat.toml"))
        }
        VaultError::Locked { .. } => {
            (K::Busy, Some("wait until it is done; a dead holder's lock is taken over after 30 minutes"))
        }
        VaultError::LockLost { .. } => (K::Outside, Some("run it again")),
        VaultError::Damaged { .. } | VaultError::Missing { .. } => {
            (K::Damaged, Some("lifeboat vault check --read-data says what is affected; older backups may be whole"))
        }
        VaultError::Object { source, .. } => object_kind(source.kind),
        VaultError::Stopped(_) => (K::Interrupted, None),
        VaultError::StreamUnfinished { .. } | VaultError::Output(_) | VaultError::Start { .. } => (K::Outside, None),
        VaultError::Failed(_) => (K::Outside, None),
    };
    let failure = Failure::from_error(kind, root);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn object_kind(kind: ObjectErrorKind) -> (FailureKind, Option<&'static str>) {
    match kind {
        ObjectErrorKind::Full => (FailureKind::Outside, Some("make room where the vault lies, then run it again")),
        ObjectErrorKind::Denied => (FailureKind::Refused, Some("check the permissions, or the access key")),
        ObjectErrorKind::Missing => (FailureKind::Damaged, Some("lifeboat vault check says what is affected")),
        ObjectErrorKind::Temporary => {
            (FailureKind::Outside, Some("the place does not answer; run it again when it does"))
        }
        ObjectErrorKind::Damaged => {
            (FailureKind::Damaged, Some("lifeboat vault check --read-data says what is affected"))
        }
        ObjectErrorKind::Other => (FailureKind::Outside, None),
    }
}

/// A PostgreSQL server's error as a failure, with the next step.
pub fn postgres_failure(error: &PgError) -> Failure {
    use FailureClass as C;
    use FailureKind as K;
    // What is read out of the vault while a server is filled fails by the vault: damage there is no fault of the server's.
    if let PgError::Ours { source, .. } = error
        && let Some(of_vault) = source.get_ref().and_then(|inner| inner.downcast_ref::<VaultError>())
    {
        let of_vault = vault_failure(of_vault);
        let failure = Failure::from_error(of_vault.kind, error);
        return of_vault.hint.into_iter().fold(failure, |failure, hint| failure.hint(hint));
    }
    let kind = match (error, error.class()) {
        (PgError::Damaged { .. }, _) => K::Damaged,
        (PgError::Address { .. }, _) => K::Usage,
        (_, Some(C::Stopped)) => K::Interrupted,
        (_, Some(C::Lock)) => K::Busy,
        (_, Some(C::Connection | C::Disk)) => K::Outside,
        (PgError::NotLetIn { .. } | PgError::Refused { .. } | PgError::NoClient { .. }, _) => K::Refused,
        (PgError::Pooler { .. } | PgError::LockTable { .. } | PgError::Preflight { .. }, _) => K::Refused,
        (_, _) => K::Outside,
    };
    let failure = Failure::from_error(kind, error).hint(error.next_step());
    match error.class() {
        None => failure,
        Some(class) => failure.of_class(class),
    }
}

/// A database's error as a failure.
pub fn sqlite_failure(error: &SqliteError) -> Failure {
    use FailureKind as K;
    let (kind, hint) = match error {
        SqliteError::Missing { .. } => (K::Refused, Some("check the path")),
        SqliteError::Empty { .. } => {
            (K::Refused, Some("a database of zero bytes holds nothing; restore a backup over it"))
        }
        SqliteError::NotADatabase { .. } => (K::Refused, Some("check that the path names the database file")),
        SqliteError::Encrypted { .. } => (
            K::Refused,
            Some("protect it as `kind = \"files\"` while the app is stopped; its content cannot be checked"),
        ),
        SqliteError::Damaged { .. } | SqliteError::NotAtRest { .. } => {
            (K::Damaged, Some("bring back a good one: lifeboat restore"))
        }
        SqliteError::Busy { .. } => (K::Busy, Some("run it again when that is done")),
        SqliteError::Denied { .. } => (K::Refused, Some("run it as a user who may read the file and its folder")),
        SqliteError::Full { .. } => (K::Outside, Some("make room on that disk, then run it again")),
        SqliteError::Stopped(_) => (K::Interrupted, None),
        SqliteError::Other { .. } => (K::Outside, None),
    };
    let failure = Failure::from_error(kind, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A file's error as a failure.
pub fn path_failure(error: &PathError) -> Failure {
    let full = matches!(error.source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let failure = Failure::from_error(FailureKind::Outside, error);
    if full { failure.hint("make room on that disk, then run it again") } else { failure }
}
