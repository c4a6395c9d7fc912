//! Evidence about an operation: its journal, the manifests of its backups, the settings, and what people attach, in a folder
//! with a list of digests. The digest of that list goes on record in the journal, so that the folder cannot be changed
//! afterwards without its being noticed.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use lifeboat_io::files;
use lifeboat_model::{Action, BackupId, Failure, FailureKind, Operation, OperationId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Engine,
    act::{path_failure, summary},
};

/// The schema tag of the list.
pub const EVIDENCE_SCHEMA: &str = "lifeboat/evidence@1";
/// The list's name in the folder.
pub const LIST: &str = "evidence.json";

/// The list of what is in a folder of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// [`EVIDENCE_SCHEMA`].
    pub schema: String,
    /// The operation it is about.
    pub operation: OperationId,
    /// App and environment.
    pub scope: String,
    /// When it was collected.
    pub collected_at: Timestamp,
    /// By whom.
    pub by: String,
    /// On which host.
    pub host: String,
    /// Backups that the operation read or made; they are held in the vault.
    pub backups: Vec<BackupId>,
    /// Every file, by its path in the folder.
    pub files: Vec<EvidenceFile>,
}

/// A file of the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceFile {
    /// Its path in the folder.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of its content, hex.
    pub sha256: String,
    /// Where it came from, when it was attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Evidence that has been collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// The folder.
    pub folder: PathBuf,
    /// SHA-256 of the list, hex: what goes on record.
    pub digest: String,
    /// The list.
    pub evidence: Evidence,
}

impl Engine {
    /// Where evidence about an operation goes when nobody says: in the state folder, where nothing is let go by itself.
    pub fn evidence_folder(&self, operation: &OperationId) -> PathBuf {
        let at = self.io.clock.now().strftime("%Y%m%d-%H%M%S");
        self.state.root().join("evidence").join(format!("{operation}-{at}"))
    }

    /// Collects evidence into a new folder. Attached files are copied; they stay where they are too.
    ///
    /// # Errors
    /// A folder that exists; a file that cannot be read. What was written until then is taken away again.
    pub fn collect_evidence(&self, id: &OperationId, attach: &[PathBuf], folder: &Path) -> Result<Collected, Failure> {
        let operation = self.look().operation(id)?;
        if files::exists(folder) {
            let failure = Failure::new(FailureKind::Refused, format!("{} exists already", folder.display()));
            return Err(failure.hint("name a folder that does not exist yet"));
        }
        files::create_private_folder(folder).map_err(|error| path_failure(&error))?;
        let collected = self.fill_evidence(&operation, attach, folder);
        if collected.is_err() {
            files::remove_any(folder).map_err(|error| path_failure(&error))?;
        }
        collected
    }

    fn fill_evidence(&self, operation: &Operation, attach: &[PathBuf], folder: &Path) -> Result<Collected, Failure> {
        let mut filling = Filling { folder, files: Vec::new() };
        filling.copy("journal.ndjson", &self.state.journal(&operation.id), false)?;
        filling.write("operation.json", &json(operation)?)?;
        if let Some(settings) = &self.setup.settings_file {
            filling.copy("lifeboat.toml", settings, false)?;
        }
        let mut backups = involved(operation);
        let known = self.backups()?;
        backups.retain(|id| known.iter().any(|backup| &backup.id == id));
        for backup in &backups {
            let manifest = summary::manifest(&self.vaults.open(&self.setup.vault)?, backup)?;
            filling.write(&format!("manifests/{backup}.json"), &json(&manifest)?)?;
        }
        for (number, path) in attach.iter().enumerate() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            filling.copy(&format!("attached/{:02}-{name}", number + 1), path, true)?;
        }
        let evidence = Evidence {
            schema: EVIDENCE_SCHEMA.to_owned(),
            operation: operation.id.clone(),
            scope: operation.plan.scope.to_string(),
            collected_at: self.io.clock.now(),
            by: self.io.env.user(),
            host: self.io.env.host(),
            backups,
            files: filling.files,
        };
        let list = json(&evidence)?;
        files::write_with_mode(&folder.join(LIST), &list, 0o600).map_err(|error| path_failure(&error))?;
        Ok(Collected { folder: folder.to_owned(), digest: hex::encode(Sha256::digest(&list)), evidence })
    }

    /// Compares a folder of evidence with its list, and the list with what went on record. What is wrong is the answer;
    /// nothing wrong is an empty one.
    ///
    /// # Errors
    /// When there is no list that can be read.
    pub fn verify_evidence(&self, folder: &Path) -> Result<(Evidence, Vec<String>), Failure> {
        let list = files::read(&folder.join(LIST)).map_err(|error| {
            Failure::from_error(FailureKind::Refused, &error)
                .while_doing(format!("{} is no evidence", folder.display()))
        })?;
        let evidence: Evidence = serde_json::from_slice(&list).map_err(|error| {
            Failure::new(FailureKind::Damaged, "the list of the evidence cannot be read").because(error.to_string())
        })?;
        let mut wrong = Vec::new();
        for file in &evidence.files {
            match digest_of(&folder.join(&file.path)) {
                Ok((bytes, sha256)) if (bytes, &sha256) == (file.bytes, &file.sha256) => {}
                Ok(_) => wrong.push(format!("{} is not what was collected", file.path)),
                Err(failure) => wrong.push(format!("{} cannot be read: {failure}", file.path)),
            }
        }
        let digest = hex::encode(Sha256::digest(&list));
        let known = crate::plan::record::recorded(self, "evidence", &digest)?;
        if !known {
            wrong.push(format!("no journal here has {digest} on record: {LIST} was changed, or collected elsewhere"));
        }
        Ok((evidence, wrong))
    }
}

/// Backups that an operation read or made.
fn involved(operation: &Operation) -> Vec<BackupId> {
    let mut found: Vec<BackupId> = Vec::new();
    for step in operation.plan.steps() {
        match &step.action {
            Action::StoreBackup { backup, .. } | Action::Fetch { backup, .. } if !found.contains(backup) => {
                found.push(backup.clone());
            }
            _other => {}
        }
    }
    found
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec_pretty(value)
        .map_err(|error| Failure::new(FailureKind::Bug, "evidence cannot be written").because(error.to_string()))
}

/// A folder that is being filled.
struct Filling<'a> {
    folder: &'a Path,
    files: Vec<EvidenceFile>,
}

impl Filling<'_> {
    fn write(&mut self, name: &str, body: &[u8]) -> Result<(), Failure> {
        let path = self.place(name)?;
        files::write_with_mode(&path, body, 0o600).map_err(|error| path_failure(&error))?;
        self.note(name, &path, None)
    }

    fn copy(&mut self, name: &str, from: &Path, attached: bool) -> Result<(), Failure> {
        let path = self.place(name)?;
        files::copy(from, &path)
            .map_err(|error| path_failure(&error).while_doing("it cannot be put to the evidence"))?;
        files::set_mode(&path, 0o600).map_err(|error| path_failure(&error))?;
        self.note(name, &path, attached.then(|| from.display().to_string()))
    }

    fn place(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        files::create_private_folder(files::parent(&path)).map_err(|error| path_failure(&error))?;
        Ok(path)
    }

    fn note(&mut self, name: &str, path: &Path, from: Option<String>) -> Result<(), Failure> {
        let (bytes, sha256) = digest_of(path)?;
        self.files.push(EvidenceFile { path: name.to_owned(), bytes, sha256, from });
        Ok(())
    }
}

fn digest_of(path: &Path) -> Result<(u64, String), Failure> {
    let mut file = files::open(path).map_err(|error| path_failure(&error))?;
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut piece).map_err(|error| {
            Failure::new(FailureKind::Outside, format!("{} cannot be read", path.display())).because(error.to_string())
        })?;
        if read == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&piece[..read]);
        bytes += read as u64;
    }
}
