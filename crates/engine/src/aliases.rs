//! The file `NAME.backup` beside a database: always its newest verified copy, for people and scripts who look for one there.

use std::path::{Path, PathBuf};

use lifeboat_io::{Stop, database::sqlite, files};
use lifeboat_model::{AcceptLoss, BackupChoice, Failure, FailureKind, Request, Resource};

use crate::{Engine, Watch};

/// The name beside the database that documents tell people to restore from.
pub fn alias_of(database: &Path) -> PathBuf {
    sqlite::sidecar(database, ".backup")
}

/// Refuses while a `-wal` lies beside it, which belongs to another database and would be replayed over the copy.
///
/// # Errors
/// When there is one.
pub fn no_stray(alias: &Path) -> Result<(), Failure> {
    let beside = ["-wal", "-journal"].map(|end| sqlite::sidecar(alias, end));
    match beside.iter().find(|path| files::exists(path)) {
        None => Ok(()),
        Some(stray) => {
            let failure =
                Failure::new(FailureKind::Refused, format!("{} is there: somebody uses that copy", stray.display()));
            Err(failure.hint(format!("close what has {} open, then remove {}", alias.display(), stray.display())))
        }
    }
}

/// Puts a verified copy in the alias's place.
///
/// # Errors
/// When somebody uses the alias, or it cannot be written.
pub fn renew(copy: &Path, alias: &Path) -> Result<(), Failure> {
    no_stray(alias)?;
    files::copy_over(copy, alias).map_err(|error| {
        let failure = Failure::from_error(FailureKind::Outside, &error);
        failure.while_doing(format!("{} was made, and {} could not be renewed", copy.display(), alias.display()))
    })
}

/// The path, or with a number when it is taken: nothing is ever written over.
pub fn free(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let end = path.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    let numbered = (2..).map(|number| path.with_file_name(format!("{stem}-{number}{end}")));
    let taken =
        |path: &PathBuf| ["", "-wal", "-shm", "-journal"].iter().any(|end| files::exists(&sqlite::sidecar(path, end)));
    std::iter::once(path.to_owned()).chain(numbered).find(|path| !taken(path)).unwrap_or_else(|| path.to_owned())
}

impl Engine {
    /// Renews the file beside a database out of its newest good backup, and says where it is.
    ///
    /// # Errors
    /// When it has no file, somebody uses the copy, or the restore beside it failed.
    pub fn renew_alias(
        &self,
        database: &Resource,
        by: &str,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<PathBuf, Failure> {
        let path = database
            .kind
            .path()
            .ok_or_else(|| Failure::new(FailureKind::Usage, format!("{} is no file", database.name)))?;
        let alias = alias_of(path);
        no_stray(&alias)?;
        let copy = free(&sqlite::sidecar(&alias, ".new"));
        let request = Request::Restore {
            resource: database.name.clone(),
            from: BackupChoice::Latest,
            into: Some(copy.clone()),
            tablespaces: std::collections::BTreeMap::new(),
            without_emergency_backup: None,
            accept_loss: AcceptLoss::Shown,
            urgent: None,
            ack: None,
        };
        self.bring_about(&request, by, watch, stop)?;
        renew(&copy, &alias)?;
        files::remove_file(&copy).map_err(|error| Failure::from_error(FailureKind::Outside, &error))?;
        Ok(alias)
    }
}
