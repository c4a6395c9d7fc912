//! Which releases there are and how they do, and which migrations databases have: read from journals, folders and ledgers.

use lifeboat_io::{
    Stop,
    database::postgres::{Applied, Session, applied_migrations},
    files, git,
};
use lifeboat_model::{
    Action, Failure, FailureKind, KnownRelease, Migration, Migrations, OperationState, Resource, ResourceKind,
    ResourceName, SchemaState, StepState, migration, release,
};

use crate::{Engine, act::postgres_failure};

/// The kinds of operations whose journals tell of releases.
const KINDS: [&str; 5] = ["checkpoint", "release-mark", "rollback", "deploy", "undo"];

impl Engine {
    /// The releases of this scope as they stand, oldest first.
    ///
    /// # Errors
    /// When a journal cannot be read.
    pub fn releases(&self) -> Result<Vec<KnownRelease>, Failure> {
        let scope = self.setup().scope.to_string();
        let mut rows = self.look().operations(usize::MAX)?;
        rows.reverse();
        let mut records = Vec::new();
        for row in rows.iter().filter(|row| row.closed && row.scope == scope && KINDS.contains(&row.kind.as_str())) {
            let operation = self.look().operation(&row.id)?;
            if operation.state != OperationState::Done {
                continue;
            }
            let done = operation.plan.steps().zip(&operation.steps);
            records.extend(done.filter_map(|(step, state)| match (&step.action, state) {
                (Action::Release(record), StepState::Done { .. }) => Some(record.clone()),
                _other => None,
            }));
        }
        Ok(release::releases(records))
    }

    /// What people call what is checked out where a target is: its tag, else its branch.
    pub fn checked_out(&self) -> Option<String> {
        let head = self.setup().targets.iter().find_map(|target| git::head(&target.folder))?;
        head.tags.first().cloned().or(head.branch)
    }

    /// What somebody said of a database's migrations.
    ///
    /// # Errors
    /// It has none, or is no PostgreSQL database.
    pub(crate) fn migrations_of(&self, name: &ResourceName) -> Result<(&Resource, &str, &Migrations), Failure> {
        let resource = self.setup().resource(name)?;
        let usage = |message: String| Failure::new(FailureKind::Usage, message);
        let ResourceKind::Postgres { url, .. } = &resource.kind else {
            return Err(usage(format!("{name} is on no server; migrations are looked at in PostgreSQL databases")));
        };
        match self.setup().migrations.get(name) {
            Some(migrations) => Ok((resource, url, migrations)),
            None => Err(usage(format!("nobody has said where the migrations of {name} are")).hint(format!(
                "write migrations = \"./supabase/migrations\" into [environments.{}.resources.{name}] of lifeboat.toml",
                self.setup().scope.environment
            ))),
        }
    }

    /// What the ledger of a database says.
    ///
    /// # Errors
    /// It cannot be asked, or has no ledger that is known.
    pub fn applied(&self, name: &ResourceName) -> Result<Applied, Failure> {
        let (_, url, _) = self.migrations_of(name)?;
        let asked = Session::open(&self.vaults.database(url)?, &Stop::default())
            .and_then(|mut session| applied_migrations(&mut session));
        asked.map_err(|error| postgres_failure(&error))?.ok_or_else(|| {
            let message = format!("{name} has no table in which a known tool notes its migrations");
            Failure::new(FailureKind::Refused, message).hint(
                "known: supabase_migrations.schema_migrations, schema_migrations, _sqlx_migrations, SequelizeMeta, \
                 knex_migrations, _prisma_migrations",
            )
        })
    }

    /// The migrations in the folder of a database, paired with their DOWN scripts.
    ///
    /// # Errors
    /// The folder or a script cannot be read.
    pub fn scripts(&self, name: &ResourceName, whole_names: bool) -> Result<Vec<Migration>, Failure> {
        Ok(migration::pair(&self.script_files(name)?, whole_names))
    }

    /// The scripts in that folder, by their names.
    pub(crate) fn script_files(&self, name: &ResourceName) -> Result<Vec<(String, String)>, Failure> {
        let (_, _, migrations) = self.migrations_of(name)?;
        let failed = |error: lifeboat_io::PathError| Failure::from_error(FailureKind::Refused, &error);
        let mut texts = Vec::new();
        for (folder, inside) in [(migrations.folder.clone(), ""), (migrations.folder.join("down"), "down/")] {
            if !files::is_folder(&folder) {
                if inside.is_empty() {
                    let message = format!("the folder of the migrations of {name}, {}, is not there", folder.display());
                    return Err(Failure::new(FailureKind::Refused, message).hint("check migrations in lifeboat.toml"));
                }
                continue;
            }
            for path in files::list_folder(&folder).map_err(failed)? {
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if file.ends_with(".sql") && !files::is_folder(&path) {
                    texts.push((format!("{inside}{file}"), files::read_text(&path).map_err(failed)?));
                }
            }
        }
        texts.sort();
        Ok(texts)
    }

    /// The schema of a database as its ledger tells it, with the scripts of its folder.
    pub(crate) fn schema_state(&self, name: &ResourceName) -> Result<SchemaState, Failure> {
        let applied = self.applied(name)?;
        let whole_names = is_by_file(&applied);
        let mut migrations = self.scripts(name, whole_names)?;
        migrations.retain(|one| applied.versions.contains(&one.version));
        Ok(SchemaState { ledger: applied.ledger, applied: applied.versions, migrations })
    }
}

/// Whether a ledger holds names of files.
pub fn is_by_file(applied: &Applied) -> bool {
    applied.ledger.column == "name"
}
