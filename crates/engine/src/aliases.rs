//! The file `NAME.backup` beside a database: always its newest verified copy, for people and scripts who look for one there;
//! and `NAME.backup.YYYYMMDD`, a plain copy of each day, until they are too old.

use std::path::{Path, PathBuf};

use lifeboat_io::{Stop, database::sqlite, files};
use lifeboat_model::{AcceptLoss, BackupChoice, Failure, FailureKind, Request, Resource, Timestamp, choose_backup};

use crate::{Engine, Watch};

/// The name beside the database that documents tell people to restore from.
pub fn alias_of(database: &Path) -> PathBuf {
    sqlite::sidecar(database, ".backup")
}

/// The plain copy beside a database of a day in UTC: `NAME.backup.20261127`, or with `-2`, `-3`, ... when that is taken.
pub fn dated_of(database: &Path, at: Timestamp) -> PathBuf {
    let name = |number: u32| {
        let again = if number > 1 { format!("-{number}") } else { String::new() };
        sqlite::sidecar(database, &format!(".backup.{}{again}", at.strftime("%Y%m%d")))
    };
    let taken =
        |path: &PathBuf| ["", "-wal", "-shm", "-journal"].iter().any(|end| files::exists(&sqlite::sidecar(path, end)));
    (1..).map(name).find(|path| !taken(path)).unwrap_or_else(|| name(1))
}

/// The day in the name of a plain copy, as `YYYYMMDD`, when it is the name of one.
pub fn day_of(name: &str) -> Option<&str> {
    let (_, day) = name.rsplit_once(".backup.")?;
    let (day, again) = day.split_once('-').unwrap_or((day, "2"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (day.len() == 8 && is_number(day) && is_number(again)).then_some(day)
}

/// The plain copies beside a database that are older than so many days. The newest stays, however old it is.
///
/// # Errors
/// When the folder cannot be listed.
pub fn too_old(database: &Path, days: u32, now: Timestamp) -> Result<Vec<PathBuf>, Failure> {
    let listed = files::list_folder(files::parent(database));
    let listed = listed.map_err(|error| Failure::from_error(FailureKind::Outside, &error))?;
    let own = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found: Vec<(String, PathBuf)> = listed
        .into_iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let day = day_of(&name).filter(|_| name.starts_with(&format!("{own}.backup.")))?.to_owned();
            Some((day, path))
        })
        .collect();
    found.sort();
    found.pop();
    let back = jiff::SignedDuration::from_hours(24 * i64::from(days));
    let oldest = now.checked_sub(back).unwrap_or(Timestamp::MIN).strftime("%Y%m%d").to_string();
    Ok(found.into_iter().filter(|(day, _)| *day < oldest).map(|(_, path)| path).collect())
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

/// The file of a database.
fn path_of(database: &Resource) -> Result<&Path, Failure> {
    let path = database.kind.path();
    path.ok_or_else(|| Failure::new(FailureKind::Usage, format!("{} is no file", database.name)))
}

/// A restore of a database into a file beside it.
fn beside(database: &Resource, from: BackupChoice, copy: &Path) -> Request {
    Request::Restore {
        resource: database.name.clone(),
        from,
        into: Some(copy.to_owned()),
        tablespaces: std::collections::BTreeMap::new(),
        without_emergency_backup: None,
        accept_loss: AcceptLoss::Shown,
        urgent: None,
        ack: None,
    }
}

impl Engine {
    /// Makes a plain copy of the day beside a database, out of its newest good backup, and says where it is.
    ///
    /// # Errors
    /// When it has no file, or the restore beside it failed.
    pub fn dated_copy(
        &self,
        database: &Resource,
        by: &str,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<PathBuf, Failure> {
        let path = path_of(database)?;
        let backups = self.backups()?;
        let newest = choose_backup(&backups, &self.setup.scope, &database.name, &BackupChoice::Latest)
            .map_err(|error| Failure::from_error(FailureKind::Refused, &error))?;
        let copy = dated_of(path, newest.recovery_point);
        self.bring_about(&beside(database, BackupChoice::Exactly(newest.id.clone()), &copy), by, watch, stop)?;
        Ok(copy)
    }

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
        let alias = alias_of(path_of(database)?);
        no_stray(&alias)?;
        let copy = free(&sqlite::sidecar(&alias, ".new"));
        self.bring_about(&beside(database, BackupChoice::Latest, &copy), by, watch, stop)?;
        renew(&copy, &alias)?;
        files::remove_file(&copy).map_err(|error| Failure::from_error(FailureKind::Outside, &error))?;
        Ok(alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_only_out_of_a_name_that_has_one() {
        for (name, day) in [
            ("database.sqlite.backup.20261127", Some("20261127")),
            ("database.sqlite.backup.20261127-2", Some("20261127")),
            ("database.sqlite.backup.20261127-wal", None),
            ("database.sqlite.backup.2026112", None),
            ("database.sqlite.backup", None),
            ("database.sqlite.backup.20261127.gz", None),
        ] {
            assert_eq!(day_of(name), day, "{name}");
        }
    }
}
