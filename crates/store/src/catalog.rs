//! The catalog: an index over the journals, in one SQLite file. It answers "what happened lately", "which backup is
//! proven" and "how long did that take" without reading every journal.
//!
//! Nothing in it is the truth: it is filled from journals, and filled again when it is lost or older than they are.

use std::{collections::BTreeSet, path::Path};

use lifeboat_model::{
    BackupId, BackupMark, Incident, IncidentStep, Operation, OperationId, OperationState, PgAction, Proof, Request,
    Sample, Scope, StepState, Timestamp, plan::Action,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    journal::{JournalError, JournalFile},
    state::StateFolder,
};

/// What the catalog could not do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CatalogError {
    #[error("cannot use the index {path}")]
    Sqlite { path: String, source: rusqlite::Error },
    #[error("cannot use the state folder")]
    Path(#[from] lifeboat_io::PathError),
    #[error("the index holds something that cannot be read")]
    Json(#[from] serde_json::Error),
}

impl CatalogError {
    /// Whether the file itself is no good, so that it is made anew. A busy or full disk is another matter.
    fn is_damage(&self) -> bool {
        match self {
            CatalogError::Sqlite { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
            ),
            CatalogError::Path(_) | CatalogError::Json(_) => false,
        }
    }
}

/// The layout's number; another one makes the catalog fill itself anew.
const LAYOUT: i64 = 5;

/// How often a new index is tried again while others make it too.
const TRIES_MAX: u32 = 100;

const SCHEMA: &str = "
    CREATE TABLE operations (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, scope TEXT NOT NULL, started_at TEXT NOT NULL, last_at TEXT NOT NULL,
        state TEXT NOT NULL, closed INTEGER NOT NULL, lines INTEGER NOT NULL, bytes INTEGER NOT NULL,
        lease TEXT NOT NULL, epoch INTEGER NOT NULL);
    CREATE TABLE proofs (
        id TEXT PRIMARY KEY, backup TEXT NOT NULL, resource TEXT NOT NULL, at TEXT NOT NULL, level TEXT,
        outcome TEXT NOT NULL, body TEXT NOT NULL, op TEXT NOT NULL);
    CREATE INDEX proofs_by_backup ON proofs (backup);
    CREATE TABLE timings (
        kind TEXT NOT NULL, subject TEXT NOT NULL, bytes INTEGER NOT NULL, ms INTEGER NOT NULL, at TEXT NOT NULL,
        op TEXT NOT NULL, step TEXT NOT NULL, PRIMARY KEY (op, step));
    CREATE INDEX timings_by_kind ON timings (kind, subject, at);
    CREATE TABLE marks (
        backup TEXT NOT NULL, mark TEXT NOT NULL, on_it INTEGER NOT NULL, why TEXT NOT NULL, at TEXT NOT NULL,
        op TEXT NOT NULL, PRIMARY KEY (backup, mark, op));
    CREATE TABLE incidents (op TEXT PRIMARY KEY, scope TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL);
    CREATE TABLE added (backup TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
    CREATE TABLE damaged_journals (id TEXT PRIMARY KEY, path TEXT NOT NULL, bytes INTEGER NOT NULL, what TEXT NOT NULL);
";

/// The operations, each with the instant from which it counts. A clock may have been put back: nothing under a lease was begun before
/// what an earlier grant of it began.
const IN_ORDER: &str = "
    SELECT *, max(started_at) OVER (PARTITION BY scope, lease ORDER BY epoch, started_at ROWS UNBOUNDED PRECEDING) AS began
    FROM operations";

/// A line of the list of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationRow {
    /// Which.
    pub id: OperationId,
    /// `backup`, `restore`, ...
    pub kind: String,
    /// App and environment, `shop/production`.
    pub scope: String,
    /// When it was begun.
    pub started_at: Timestamp,
    /// `running`, `paused`, `done`, `put-back`, `turning-back`.
    pub state: String,
    /// Whether it is over.
    pub closed: bool,
}

/// Former durations, by kind and subject as [`timing_key`] names them.
pub type Timings = std::collections::BTreeMap<(String, String), Vec<Sample>>;

/// What has been said about a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Why nobody may delete it.
    pub held: Option<String>,
    /// Why it must not be chosen by itself.
    pub suspect: Option<String>,
}

/// The open index.
#[derive(Debug)]
pub struct Catalog {
    db: Connection,
    path: String,
}

impl Catalog {
    /// Opens the index and brings it up to date with the journals. One that cannot be read is made anew.
    ///
    /// # Errors
    /// When neither works, or the journals cannot be listed.
    pub fn open(state: &StateFolder) -> Result<Catalog, CatalogError> {
        let path = state.catalog();
        match Catalog::connect(&path).and_then(|catalog| catalog.catch_up(state).map(|()| catalog)) {
            Err(error) if error.is_damage() => {
                // Nothing is lost: everything in it comes from the journals.
                for end in ["", "-wal", "-shm", "-journal"] {
                    lifeboat_io::files::remove_file(&path.with_file_name(format!("lifeboat.db{end}")))?;
                }
                let catalog = Catalog::connect(&path)?;
                catalog.catch_up(state)?;
                Ok(catalog)
            }
            opened => opened,
        }
    }

    fn connect(path: &Path) -> Result<Catalog, CatalogError> {
        let name = path.display().to_string();
        let sqlite = |source| CatalogError::Sqlite { path: name.clone(), source };
        let mut db = Connection::open(path).map_err(sqlite)?;
        db.busy_timeout(std::time::Duration::from_secs(10)).map_err(sqlite)?;
        keep_a_wal(&mut db).map_err(sqlite)?;
        if layout(&db).map_err(sqlite)? != LAYOUT {
            make_anew(&mut db).map_err(sqlite)?;
        }
        Ok(Catalog { db, path: name })
    }

    fn sqlite(&self, source: rusqlite::Error) -> CatalogError {
        CatalogError::Sqlite { path: self.path.clone(), source }
    }

    /// Takes in every journal whose length is not what it was when it was last looked at, and drops what is not there.
    fn catch_up(&self, state: &StateFolder) -> Result<(), CatalogError> {
        let mut names = BTreeSet::new();
        for path in lifeboat_io::files::list_folder(&state.operations())? {
            if path.extension().is_some_and(|end| end == "ndjson") {
                self.take_file(&path)?;
                names.insert(name_of(&path));
            }
        }
        for gone in self.known_names()?.difference(&names) {
            self.drop_operation(gone)?;
            self.drop_damage(gone)?;
        }
        Ok(())
    }

    fn known_names(&self) -> Result<BTreeSet<String>, CatalogError> {
        let question = "SELECT id FROM operations UNION SELECT id FROM damaged_journals";
        let mut question = self.db.prepare_cached(question).map_err(|error| self.sqlite(error))?;
        let names = question.query_map([], |row| row.get(0)).and_then(Iterator::collect);
        names.map_err(|error| self.sqlite(error))
    }

    fn take_file(&self, path: &Path) -> Result<(), CatalogError> {
        let bytes = lifeboat_io::files::size(path)?;
        let id = name_of(path);
        let known: Option<(i64, bool)> = self
            .db
            .query_row("SELECT bytes, closed FROM operations WHERE id = ?1", [&id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
            .map_err(|error| self.sqlite(error))?;
        // One that is over is not read again. The few that are not decide what may be done next; they must be sound.
        if known == Some((bytes as i64, true)) {
            return Ok(());
        }
        match JournalFile::read(path).and_then(|journal| journal.operation(path)) {
            Ok(operation) => {
                self.take(&operation, bytes)?;
                self.drop_damage(&id)
            }
            // Its process died before the first line was whole: nothing was begun.
            Err(JournalError::Empty { .. }) if known.is_none() => Ok(()),
            Err(error) => self.note_damage(path, bytes, &error),
        }
    }

    /// A damaged journal vouches for nothing: what was known from it goes, as if the index were made anew.
    fn note_damage(&self, path: &Path, bytes: u64, error: &JournalError) -> Result<(), CatalogError> {
        let id = name_of(path);
        self.drop_operation(&id)?;
        let what = lifeboat_model::Failure::from_error(lifeboat_model::FailureKind::Damaged, error).to_string();
        let row = params![id, path.display().to_string(), bytes as i64, what];
        self.change("INSERT OR REPLACE INTO damaged_journals VALUES (?1, ?2, ?3, ?4)", row)
    }

    fn drop_operation(&self, id: &str) -> Result<(), CatalogError> {
        for table in ["timings", "proofs", "marks", "incidents"] {
            self.change(&format!("DELETE FROM {table} WHERE op = ?1"), params![id])?;
        }
        self.change("DELETE FROM operations WHERE id = ?1", params![id])
    }

    fn drop_damage(&self, id: &str) -> Result<(), CatalogError> {
        self.change("DELETE FROM damaged_journals WHERE id = ?1", params![id])
    }

    fn change(&self, statement: &str, params: impl rusqlite::Params) -> Result<(), CatalogError> {
        self.db.execute(statement, params).map(|_rows| ()).map_err(|error| self.sqlite(error))
    }

    /// Takes in an operation as it stands. `bytes`: the journal's length, so that it is not read again.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn take(&self, operation: &Operation, bytes: u64) -> Result<(), CatalogError> {
        let transaction = self.db.unchecked_transaction().map_err(|error| self.sqlite(error))?;
        self.drop_operation(operation.id.as_str())?;
        let row = params![
            operation.id.as_str(),
            operation.plan.request.word(),
            operation.plan.scope.to_string(),
            sortable(operation.started_at),
            sortable(operation.last_at),
            state_word(&operation.state),
            operation.is_closed(),
            operation.lines as i64,
            bytes as i64,
            operation.plan.lease.word(),
            operation.began_epoch as i64,
        ];
        transaction
            .execute("INSERT OR REPLACE INTO operations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)", row)
            .map_err(|error| self.sqlite(error))?;
        if let (Request::Incident { about }, OperationState::Done) = (&operation.plan.request, &operation.state) {
            let (scope, at) = (operation.plan.scope.to_string(), sortable(operation.started_at));
            let row = params![operation.id.as_str(), scope, at, serde_json::to_string(about)?];
            self.change("INSERT OR REPLACE INTO incidents VALUES (?1, ?2, ?3, ?4)", row)?;
        }
        for (step, state) in operation.plan.steps().zip(&operation.steps) {
            if let StepState::Done { took_ms, output } = state {
                self.take_step(operation, step, *took_ms, output)?;
            }
        }
        transaction.commit().map_err(|error| self.sqlite(error))
    }

    fn take_step(
        &self,
        operation: &Operation,
        step: &lifeboat_model::Step,
        took_ms: u64,
        output: &serde_json::Value,
    ) -> Result<(), CatalogError> {
        let at = sortable(operation.last_at);
        match &step.action {
            Action::RecordProof { .. } => self.take_proof(operation, &serde_json::from_value(output.clone())?)?,
            Action::StoreBackup { backup, .. } => self.take_added(backup, output)?,
            // Only from an operation that is done: one that is put back has marked nothing.
            Action::Mark { backup, mark } if operation.state == OperationState::Done => {
                self.take_mark(operation, backup, mark, &at)?;
            }
            _other => {}
        }
        let said = |name: &str| output.get(name).and_then(serde_json::Value::as_u64);
        // A backup takes as long as what is read for it; journals from before say only how large it is, and read all of it.
        let bytes = match &step.action {
            Action::StoreBackup { .. } => said("bytes_read").or_else(|| said("bytes")),
            _other => said("bytes"),
        };
        if let (Some((kind, subject)), Some(bytes)) = (timing_key(&step.action), bytes) {
            let row = params![kind, subject, bytes as i64, took_ms as i64, at, operation.id.as_str(), step.id.0];
            self.change("INSERT OR REPLACE INTO timings VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", row)?;
        }
        Ok(())
    }

    fn take_proof(&self, operation: &Operation, proof: &Proof) -> Result<(), CatalogError> {
        let outcome = serde_json::to_string(&proof.outcome)?;
        let row = params![
            proof.id.as_str(),
            proof.backup.as_str(),
            proof.resource.as_str(),
            sortable(proof.at),
            proof.level.map(|level| level.word()),
            outcome.trim_matches('"'),
            serde_json::to_string(proof)?,
            operation.id.as_str(),
        ];
        self.change("INSERT OR REPLACE INTO proofs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", row)
    }

    /// All that was said is kept, so that the newest counts in whatever order the journals are read, and what was said
    /// before counts again when the newest journal is gone.
    fn take_added(&self, backup: &BackupId, output: &serde_json::Value) -> Result<(), CatalogError> {
        let Some(bytes) = output.get("bytes_added").and_then(serde_json::Value::as_i64) else { return Ok(()) };
        self.db
            .execute("INSERT OR REPLACE INTO added VALUES (?1, ?2)", params![backup.as_str(), bytes])
            .map(|_rows| ())
            .map_err(|error| self.sqlite(error))
    }

    /// Bytes that a backup added to its vault, when its journal is known here.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn added(&self, backup: &BackupId) -> Result<Option<u64>, CatalogError> {
        let found: Option<i64> = self
            .db
            .query_row("SELECT bytes FROM added WHERE backup = ?1", [backup.as_str()], |row| row.get(0))
            .optional()
            .map_err(|error| self.sqlite(error))?;
        Ok(found.map(|bytes| bytes as u64))
    }

    fn take_mark(
        &self,
        operation: &Operation,
        backup: &BackupId,
        mark: &BackupMark,
        at: &str,
    ) -> Result<(), CatalogError> {
        let (kind, why) = match mark {
            BackupMark::Hold { why } => ("held", why.as_str()),
            BackupMark::Unhold => ("held", ""),
            BackupMark::Suspect { why } => ("suspect", why.as_str()),
            BackupMark::Trust => ("suspect", ""),
        };
        let on = matches!(mark, BackupMark::Hold { .. } | BackupMark::Suspect { .. });
        let row = params![backup.as_str(), kind, on, why, at, operation.id.as_str()];
        self.change("INSERT OR REPLACE INTO marks VALUES (?1, ?2, ?3, ?4, ?5, ?6)", row)
    }

    /// What has been said about a backup.
    ///
    /// # Errors
    /// When the index cannot be read; the same for all questions below.
    pub fn marks(&self, backup: &BackupId) -> Result<Marks, CatalogError> {
        let question = format!(
            "SELECT on_it, why FROM marks JOIN ({IN_ORDER}) ON id = op WHERE backup = ?1 AND mark = ?2
             ORDER BY began DESC, epoch DESC, at DESC, op DESC LIMIT 1"
        );
        let why = |kind: &str| -> Result<Option<String>, CatalogError> {
            let newest: Option<(bool, String)> = self
                .db
                .query_row(&question, [backup.as_str(), kind], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
                .map_err(|error| self.sqlite(error))?;
            Ok(newest.filter(|(on, _)| *on).map(|(_, why)| why))
        };
        Ok(Marks { held: why("held")?, suspect: why("suspect")? })
    }

    /// The incidents of a scope as they stand, oldest first.
    pub fn incidents(&self, scope: &Scope) -> Result<Vec<Incident>, CatalogError> {
        let mut question = self
            .db
            .prepare("SELECT at, op, body FROM incidents WHERE scope = ?1 ORDER BY at, op")
            .map_err(|error| self.sqlite(error))?;
        let rows = question
            .query_map([scope.to_string()], |row| {
                let at = row.get::<_, String>(0)?.parse().map_err(|error| unreadable(0, error))?;
                let id = OperationId::parse(&row.get::<_, String>(1)?).map_err(|error| unreadable(1, error))?;
                let step = serde_json::from_str(&row.get::<_, String>(2)?).map_err(|error| unreadable(2, error))?;
                Ok((at, id, step))
            })
            .and_then(Iterator::collect::<rusqlite::Result<Vec<(Timestamp, OperationId, IncidentStep)>>>)
            .map_err(|error| self.sqlite(error))?;
        Ok(lifeboat_model::incident::incidents(rows))
    }

    /// The proofs of a backup, newest first; of all backups when none is named.
    pub fn proofs(&self, backup: Option<&BackupId>) -> Result<Vec<Proof>, CatalogError> {
        let mut question = self
            .db
            .prepare("SELECT body FROM proofs WHERE ?1 IS NULL OR backup = ?1 ORDER BY at DESC, id DESC")
            .map_err(|error| self.sqlite(error))?;
        let bodies = question
            .query_map([backup.map(BackupId::as_str)], |row| row.get::<_, String>(0))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<String>>>)
            .map_err(|error| self.sqlite(error))?;
        bodies.iter().map(|body| serde_json::from_str(body).map_err(CatalogError::from)).collect()
    }

    /// Operations, newest first.
    pub fn operations(&self, limit: usize) -> Result<Vec<OperationRow>, CatalogError> {
        self.operations_where("1", limit)
    }

    /// Operations that are not over, oldest first.
    pub fn unfinished(&self) -> Result<Vec<OperationRow>, CatalogError> {
        let mut open = self.operations_where("closed = 0", usize::MAX)?;
        open.reverse();
        Ok(open)
    }

    fn operations_where(&self, condition: &str, limit: usize) -> Result<Vec<OperationRow>, CatalogError> {
        let question = format!(
            "SELECT id, kind, scope, started_at, state, closed FROM ({IN_ORDER})
             WHERE {condition} ORDER BY began DESC, epoch DESC, started_at DESC, id DESC LIMIT ?1"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut question = self.db.prepare(&question).map_err(|error| self.sqlite(error))?;
        let rows = question
            .query_map([limit], |row| {
                let (id, started): (String, String) = (row.get(0)?, row.get(3)?);
                Ok(OperationRow {
                    id: OperationId::parse(&id).map_err(|error| unreadable(0, error))?,
                    kind: row.get(1)?,
                    scope: row.get(2)?,
                    started_at: started.parse().map_err(|error| unreadable(3, error))?,
                    state: row.get(4)?,
                    closed: row.get(5)?,
                })
            })
            .and_then(Iterator::collect);
        rows.map_err(|error| self.sqlite(error))
    }

    /// Former durations of all actions whose duration depends on data, by kind and subject, newest first, at most 20 each.
    pub fn timings(&self) -> Result<Timings, CatalogError> {
        let mut question = self
            .db
            .prepare("SELECT kind, subject, bytes, ms FROM timings ORDER BY at DESC, op DESC")
            .map_err(|error| self.sqlite(error))?;
        let mut timings = Timings::default();
        let rows = question
            .query_map([], |row| {
                let sample = Sample { bytes: row.get::<_, i64>(2)? as u64, ms: row.get::<_, i64>(3)? as u64 };
                Ok(((row.get(0)?, row.get(1)?), sample))
            })
            .and_then(Iterator::collect::<rusqlite::Result<Vec<((String, String), Sample)>>>)
            .map_err(|error| self.sqlite(error))?;
        for (key, sample) in rows {
            let samples = timings.entry(key).or_default();
            if samples.len() < 20 {
                samples.push(sample);
            }
        }
        Ok(timings)
    }

    /// Journals that could not be read, with the reason.
    pub fn damaged_journals(&self) -> Result<Vec<(String, String)>, CatalogError> {
        let mut question = self
            .db
            .prepare("SELECT path, what FROM damaged_journals ORDER BY path")
            .map_err(|error| self.sqlite(error))?;
        let rows = question.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect);
        rows.map_err(|error| self.sqlite(error))
    }
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

fn name_of(journal: &Path) -> String {
    journal.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// An instant as text that sorts as instants do: always nine digits behind the point.
fn sortable(at: Timestamp) -> String {
    format!("{at:.9}")
}

fn layout(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Has changes noted beside the file first. When that begins, SQLite does not wait for others that have the file, as it does
/// everywhere else; a transaction that changes nothing waits for them.
fn keep_a_wal(db: &mut Connection) -> rusqlite::Result<()> {
    let mut tries = 0;
    loop {
        match db.pragma_update(None, "journal_mode", "wal") {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) && tries < TRIES_MAX => {
                tries += 1;
                db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?.rollback()?;
            }
            done => return done,
        }
    }
}

/// Makes the tables; of several processes that want to, the first does it.
fn make_anew(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)?;
    if layout(&transaction)? != LAYOUT {
        let drops = drop_all(&transaction)?;
        transaction.execute_batch(&format!("{drops} {SCHEMA} PRAGMA user_version = {LAYOUT};"))?;
    }
    transaction.commit()
}

fn drop_all(db: &Connection) -> rusqlite::Result<String> {
    let mut names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(names.iter().map(|name| format!("DROP TABLE \"{}\";", name.replace('"', "\"\""))).collect())
}

/// The state's word in lists.
pub fn state_word(state: &OperationState) -> &'static str {
    match state {
        OperationState::Running => "running",
        OperationState::TurningBack { .. } => "turning-back",
        OperationState::Paused { .. } => "paused",
        OperationState::Done => "done",
        OperationState::PutBack { .. } => "put-back",
        OperationState::HandedOver { .. } => "handed-over",
    }
}

/// Under which key the duration of an action is remembered; nothing for actions whose duration does not depend on data.
pub fn timing_key(action: &Action) -> Option<(&'static str, String)> {
    match action {
        Action::CaptureSqlite { source, .. } => Some(("capture", source.display().to_string())),
        Action::StoreBackup { vault, .. } => Some(("store", vault.clone())),
        Action::VerifyStored { vault, .. } => Some(("verify-stored", vault.clone())),
        Action::Fetch { vault, resource, .. } => Some(("fetch", format!("{vault} {resource}"))),
        Action::CheckFetched { resource, writes, .. } => {
            Some((if *writes { "check-with-writes" } else { "check" }, resource.name.to_string()))
        }
        Action::CopyBackup { to, .. } => Some(("copy", to.clone())),
        Action::Postgres(PgAction::Fill { vault, resource, .. }) => Some(("fetch", format!("{vault} {resource}"))),
        Action::Postgres(PgAction::Check { resource, writes, .. }) => {
            Some((if *writes { "check-with-writes" } else { "check" }, resource.name.to_string()))
        }
        _not_by_size => None,
    }
}
