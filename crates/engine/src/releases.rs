//! Which releases there are and how they do, and which migrations databases have: read from journals, folders and ledgers.

use std::path::Path;

use lifeboat_io::{
    Stop,
    database::postgres::{Applied, Session, applied_migrations},
    files, git,
};
use lifeboat_model::{
    Action, Failure, FailureKind, KnownRelease, Migration, Migrations, Operation, OperationState, PgAction,
    ReleaseRecord, ReleaseState, Resource, ResourceKind, ResourceName, SchemaState, StepId, StepState, Target,
    TargetAction, migration, release,
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
        for row in rows.iter().filter(|row| row.scope == scope && KINDS.contains(&row.kind.as_str())) {
            if row.kind == "deploy" {
                records.extend(deployed(&self.look().operation(&row.id)?));
                continue;
            }
            if !row.closed {
                continue;
            }
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

    /// The versions that the platform of a target has, newest first; of folders, those that lie there.
    ///
    /// # Errors
    /// Nobody has said how it is put in use, or its program does not answer.
    pub fn platform_versions(&self, target: &lifeboat_model::Target) -> Result<Vec<crate::Listed>, Failure> {
        crate::targets::listed(&self.io, target)
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
        self.script_files_in(&migrations.folder, name)
    }

    /// The scripts in a folder, by their names.
    pub(crate) fn script_files_in(&self, at: &Path, name: &ResourceName) -> Result<Vec<(String, String)>, Failure> {
        let failed = |error: lifeboat_io::PathError| Failure::from_error(FailureKind::Refused, &error);
        let mut texts = Vec::new();
        for (folder, inside) in [(at.to_owned(), ""), (at.join("down"), "down/")] {
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

    /// The same as a commit has them, whatever is checked out.
    pub(crate) fn scripts_at(
        &self,
        target: &Target,
        commit: &str,
        inside: &Path,
        name: &ResourceName,
    ) -> Result<Vec<(String, String)>, Failure> {
        let top = format!("{}/", inside.display());
        let tree = self.git(target, &["ls-tree", "-r", "-z", "--name-only", "--full-name", commit, "--", &top])?;
        let mut texts = Vec::new();
        for path in tree.split('\0').filter(|path| path.ends_with(".sql")) {
            let Some((_, file)) = path.rsplit_once(&top) else { continue };
            if !file.contains('/') || file.strip_prefix("down/").is_some_and(|file| !file.contains('/')) {
                let blob = format!("{commit}:{path}");
                texts.push((file.to_owned(), self.git_as_it_is(target, &["cat-file", "blob", &blob])?));
            }
        }
        if texts.is_empty() {
            let message = format!("{commit} has no migrations of {name} in {top}");
            return Err(Failure::new(FailureKind::Refused, message).hint("check migrations in lifeboat.toml"));
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

/// What a deploy means for releases, wherever it stands: the journal tells what became of its version.
pub(crate) fn deployed(operation: &Operation) -> Vec<ReleaseRecord> {
    let recorded = operation.plan.steps().find_map(|step| match &step.action {
        Action::Release(ReleaseRecord::Deploy { release, witnessed, checked_by }) => {
            Some((release, *witnessed, checked_by))
        }
        _other => None,
    });
    let Some((release, witnessed, checked_by)) = recorded else { return Vec::new() };
    let seal = |live: bool, good: bool| {
        let mut release = release.clone();
        for artifact in &mut release.artifacts {
            // What it tells is known once it has told it.
            let told = operation.output(&StepId(format!("answers.{}", artifact.target)));
            let told = told.and_then(|told| told.get("version")?.as_str().map(str::to_owned));
            artifact.served = told.or(artifact.served.take());
        }
        ReleaseRecord::Seal { release, live, good }
    };
    let mark = |state: ReleaseState, why: String| ReleaseRecord::Mark { release: release.id.clone(), state, why };
    match &operation.state {
        OperationState::Done => {
            let failed = operation.steps.iter().find_map(|state| match state {
                StepState::Failed { failure, .. } => Some(failure.to_string()),
                _other => None,
            });
            if let Some(why) = failed {
                return vec![seal(true, false), mark(ReleaseState::Bad, why)];
            }
            let is_known = |step: &StepId| {
                operation.output(step).is_some_and(|output| output.get("known").is_none_or(|known| known == true))
            };
            vec![seal(true, witnessed && checked_by.iter().all(is_known))]
        }
        OperationState::PutBack { why } => {
            let words = why.as_ref().map(ToString::to_string).unwrap_or_default();
            // Who changed their mind has said nothing about the version; nor has what failed before it ran.
            let steps = operation.plan.steps().zip(&operation.attempts);
            let ran = steps.into_iter().any(|(step, tries)| is_start(&step.action) && *tries > 0);
            let kind = why.as_ref().map(|why| why.kind);
            let (state, how) = match ran && kind != Some(FailureKind::Interrupted) {
                true if kind == Some(FailureKind::NeedsPerson) => (ReleaseState::Bad, "it was rolled back by a person"),
                true => (ReleaseState::Bad, "it was rolled back by itself"),
                false => (ReleaseState::Candidate, "it was not deployed"),
            };
            vec![seal(false, false), mark(state, format!("{how}: {words}"))]
        }
        // A rollback went on from where it stood; nothing but that version was the reason.
        OperationState::HandedOver { why } => {
            let steps = operation.plan.steps().zip(&operation.steps);
            let live = steps.into_iter().any(|(step, state)| {
                let switches = matches!(&step.action, Action::Target { action: TargetAction::Switch { .. }, .. });
                switches && matches!(state, StepState::Done { .. })
            });
            vec![seal(live, false), mark(ReleaseState::Bad, format!("its deploy was broken off: {why}"))]
        }
        OperationState::Running | OperationState::Paused { .. } | OperationState::TurningBack { .. } => {
            let why = format!("its deploy {} is not over", operation.id);
            vec![seal(false, false), mark(ReleaseState::Candidate, why)]
        }
    }
}

/// Whether an action belongs to what a version does once it is put in use.
fn is_start(action: &Action) -> bool {
    match action {
        Action::Postgres(PgAction::Migrate { .. }) => true,
        Action::Target { action, .. } => matches!(action, TargetAction::Switch { .. }),
        _other => false,
    }
}

/// Whether a ledger holds names of files.
pub fn is_by_file(applied: &Applied) -> bool {
    applied.ledger.column == "name"
}
