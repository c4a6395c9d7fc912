//! What a planner may know: gathered here, by looking only, so that planners stay pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lifeboat_io::{database::postgres::Outlook, files, holders};
use lifeboat_model::{
    Backup, BackupId, Deploy, Failure, FailureKind, PlanId, Prediction, ProofId, Resource, ResourceKind, ResourceName,
    Scope, Timestamp, Tri, predict::predict,
};
use lifeboat_store::catalog::{Catalog, CatalogError, Timings};
use sha2::{Digest, Sha256};

use crate::{Engine, act::summary};

/// Names that a plan may give away, drawn beforehand.
#[derive(Clone, Debug)]
pub struct Ids {
    /// The plan's own.
    pub plan: PlanId,
    /// For a backup it takes.
    pub backup: BackupId,
    /// For proofs it records.
    pub proofs: Vec<ProofId>,
    /// For choices of chance.
    pub seed: u64,
}

/// What every planner knows.
#[derive(Clone, Debug)]
pub struct Common {
    /// Names to give away.
    pub ids: Ids,
    /// App and environment.
    pub scope: Scope,
    /// Now.
    pub now: Timestamp,
    /// Where captured copies go.
    pub staging: PathBuf,
    /// Where restored copies are looked at.
    pub sandbox: PathBuf,
    /// The vault's location.
    pub vault: String,
    /// Whether there is a vault yet.
    pub vault_exists: bool,
    /// The vault's folder, when it is one.
    pub vault_folder: Option<PathBuf>,
    /// Budgets of phases, in milliseconds.
    pub budgets_ms: BTreeMap<String, u64>,
    /// Former durations.
    pub timings: Timings,
    /// The limit of configured commands, in milliseconds.
    pub command_limit_ms: u64,
    /// What is deployed, as far as it can be told.
    pub deploy: Option<Deploy>,
}

impl Common {
    /// How long an action on so many bytes will take, from former runs or a typical rate.
    pub fn predict(&self, kind: &str, subject: &str, bytes: u64, guess_mib_s: f64) -> Prediction {
        let key = (kind.to_owned(), subject.to_owned());
        predict(self.timings.get(&key).map_or(&[], Vec::as_slice), bytes, guess_mib_s)
    }

    /// How long comparing a copy with its manifest will take. A rehearsal's check is the restore's and a little more; until
    /// there was a restore, it stands for it.
    pub fn predict_check(&self, resource: &str, bytes: u64, guess_mib_s: f64) -> Prediction {
        let own = self.predict("check", resource, bytes, guess_mib_s);
        if own.samples > 0 { own } else { self.predict("check-with-writes", resource, bytes, guess_mib_s) }
    }

    /// Bytes that were moved when this was last measured; nothing when it was not.
    pub fn last_bytes(&self, kind: &str, subject: &str) -> Option<u64> {
        let samples = self.timings.get(&(kind.to_owned(), subject.to_owned()))?;
        samples.first().map(|sample| sample.bytes)
    }
}

/// What is known about where a resource lives.
#[derive(Clone, Debug)]
pub struct Live {
    /// The resource.
    pub resource: Resource,
    /// Where it lies when links are followed: what is swapped is the file, never the link to it.
    pub place: PathBuf,
    /// Bytes there are now; 0 when there is nothing.
    pub bytes: u64,
    /// Whether there is anything.
    pub exists: bool,
    /// Which file it is, for [`lifeboat_model::Fact::Identity`].
    pub identity: String,
    /// Digest of its settings, for [`lifeboat_model::Fact::Settings`].
    pub settings: String,
    /// Why it cannot be read, when it cannot.
    pub unreadable: Option<String>,
    /// Who has it open, by name and process id.
    pub held_by: Vec<String>,
    /// PostgreSQL: schemas that a backup leaves out, since the platform makes them itself.
    pub leave_out: Vec<String>,
    /// SQLite: writers and readers do not wait for each other (WAL mode).
    pub wal: bool,
    /// PostgreSQL: what a backup would read and take over now, where that was asked and can be known.
    pub outlook: Option<Outlook>,
}

impl Live {
    /// Bytes that a backup reads: not those that it takes over from the newest one.
    pub fn read_bytes(&self) -> u64 {
        self.outlook.map_or(self.bytes, |outlook| outlook.read_bytes)
    }

    /// Bytes that it takes over.
    pub fn again_bytes(&self) -> u64 {
        self.outlook.map_or(0, |outlook| outlook.again_bytes)
    }
}

impl Engine {
    pub(crate) fn common(&self) -> Result<Common, Failure> {
        let random = || self.io.random.bits();
        let plan = PlanId::from_random(random());
        let catalog = self.catalog()?;
        Ok(Common {
            scope: self.setup.scope.clone(),
            now: self.io.clock.now(),
            staging: self.state.staging(&plan),
            sandbox: self.state.sandbox(&plan),
            vault: self.setup.vault.clone(),
            vault_exists: self.vaults.exists(&self.setup.vault)?,
            vault_folder: self.vaults.folder(&self.setup.vault),
            budgets_ms: self.setup.budgets_ms.clone(),
            timings: catalog.timings().map_err(|error| self.failure(&error))?,
            command_limit_ms: self.setup.command_limit.as_millis() as u64,
            deploy: self.deployed(),
            ids: Ids {
                plan,
                backup: BackupId::from_random(random()),
                proofs: self.setup.resources.iter().map(|_| ProofId::from_random(random())).collect(),
                seed: random(),
            },
        })
    }

    /// What is deployed: what somebody said, and what is checked out where the app is.
    fn deployed(&self) -> Option<Deploy> {
        let beside = self.setup.settings_file.as_deref();
        let beside = beside.or_else(|| self.setup.resources.iter().find_map(|resource| resource.kind.path()))?;
        let head = lifeboat_io::git::head(files::parent(beside));
        let said = self.setup.deploy_said.clone();
        let deploy = match head {
            Some(head) => Deploy { said, commit: Some(head.commit), branch: head.branch, tags: head.tags },
            None => Deploy { said, ..Deploy::default() },
        };
        (deploy != Deploy::default()).then_some(deploy)
    }

    /// What is where the resource lives.
    pub(crate) fn live(&self, resource: &Resource) -> Result<Live, Failure> {
        let Some(path) = resource.kind.path() else { return self.live_database(resource) };
        let exists = files::exists(path);
        let bytes = if exists { bytes_of(resource)? } else { 0 };
        let unreadable = if exists { unreadable(resource) } else { None };
        let held_by = match (&resource.kind, exists) {
            (ResourceKind::Sqlite { path }, true) => {
                holders::holders(path).map(|held| held_by(path, &held)).unwrap_or_default()
            }
            (_, _) => Vec::new(),
        };
        let place = files::resolved(path);
        let (identity, settings) = (identity(&place), settings_digest(resource));
        let wal = match &resource.kind {
            ResourceKind::Sqlite { path } => {
                lifeboat_io::database::sqlite::Header::read(path).is_ok_and(|header| header.wal)
            }
            ResourceKind::Files { .. } | ResourceKind::Env { .. } | ResourceKind::Postgres { .. } => false,
        };
        let (resource, leave_out) = (resource.clone(), Vec::new());
        let outlook = None;
        Ok(Live { resource, place, bytes, exists, identity, settings, unreadable, held_by, leave_out, wal, outlook })
    }

    /// The same, where a backup of it is planned: with what that would read.
    pub(crate) fn foreseen(&self, live: Live, common: &Common) -> Live {
        Live { outlook: crate::act::postgres::outlook(self, &live, common.vault_exists), ..live }
    }

    /// A database on a server. One that does not answer counts as there, and as unreadable.
    fn live_database(&self, resource: &Resource) -> Result<Live, Failure> {
        let ResourceKind::Postgres { url, schemas } = &resource.kind else {
            return Err(Failure::new(FailureKind::Bug, format!("{} is not a database", resource.name)));
        };
        let address = self.vaults.database(url)?;
        let looked = crate::act::postgres::look(&address);
        let (exists, bytes, identity, unreadable) = match looked {
            Ok(Some((identity, bytes))) => (true, bytes, identity, None),
            Ok(None) => (false, 0, crate::act::postgres::NOTHING.to_owned(), None),
            Err(failure) => (true, 0, "cannot be looked at".to_owned(), Some(failure.to_string())),
        };
        let settings = settings_digest(resource);
        let leave_out = match exists && unreadable.is_none() && schemas.is_empty() {
            true => crate::act::postgres::schemas::platform_schemas(&address),
            false => Vec::new(),
        };
        let (resource, place, held_by, wal) = (resource.clone(), PathBuf::new(), Vec::new(), false);
        let outlook = None;
        Ok(Live { resource, place, bytes, exists, identity, settings, unreadable, held_by, leave_out, wal, outlook })
    }

    /// What the fence of a database is at this moment; from the database alone.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn fence_status(&self, url: &str) -> Result<lifeboat_io::database::postgres::FenceStatus, Failure> {
        use lifeboat_io::database::postgres::{Session, fence_status};
        let mut session = Session::open(&self.vaults.database(url)?, &lifeboat_io::Stop::default())
            .map_err(|error| crate::act::postgres_failure(&error))?;
        fence_status(&mut session).map_err(|error| crate::act::postgres_failure(&error))
    }

    /// Which database has a name on a server.
    pub(crate) fn database_identity(&self, url: &str, name: &str) -> Result<String, Failure> {
        let looked = crate::act::postgres::look(&self.vaults.database(url)?.with_database(name))?;
        Ok(looked.map_or_else(|| crate::act::postgres::NOTHING.to_owned(), |(identity, _bytes)| identity))
    }

    /// All backups of this scope in the vault, oldest first, with what is known about them here.
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub fn backups(&self) -> Result<Vec<Backup>, Failure> {
        if !self.vaults.exists(&self.setup.vault)? {
            return Ok(Vec::new());
        }
        self.backups_in(&self.setup.vault)
    }

    /// The same of another vault.
    pub(crate) fn backups_in(&self, location: &str) -> Result<Vec<Backup>, Failure> {
        self.listed(location, &|backup| backup.scope == self.setup.scope)
    }

    /// The backups among which a choice is made: those of this scope, unless somebody asked for another one's.
    pub(crate) fn backups_for(&self, choice: &lifeboat_model::BackupChoice) -> Result<Vec<Backup>, Failure> {
        match choice {
            lifeboat_model::BackupChoice::Elsewhere { scope, .. } => {
                self.listed(&self.setup.vault, &|backup| backup.scope == *scope)
            }
            _ours => self.backups(),
        }
    }

    /// All backups in the vault, of whatever app and environment, oldest first.
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub fn backups_of_all(&self) -> Result<Vec<Backup>, Failure> {
        match self.vaults.exists(&self.setup.vault)? {
            true => self.listed(&self.setup.vault, &|_| true),
            false => Ok(Vec::new()),
        }
    }

    fn listed(&self, location: &str, meant: &dyn Fn(&Backup) -> bool) -> Result<Vec<Backup>, Failure> {
        let vault = self.vaults.open(location)?;
        let mut backups = summary::backups(&vault)?;
        backups.retain(meant);
        let catalog = self.catalog()?;
        backups.iter_mut().try_for_each(|backup| decorate(backup, &catalog))?;
        backups.sort_by(|left, right| (left.recovery_point, &left.id).cmp(&(right.recovery_point, &right.id)));
        Ok(backups)
    }
}

/// Adds to a backup what is known about it here: marks and proofs.
pub(crate) fn decorate(backup: &mut Backup, catalog: &Catalog) -> Result<(), Failure> {
    let broken = |error: CatalogError| Failure::from_error(FailureKind::Outside, &error);
    let marks = catalog.marks(&backup.id).map_err(broken)?;
    (backup.held, backup.suspect) = (marks.held, marks.suspect);
    let incidents = catalog.incidents(&backup.scope).map_err(broken)?;
    incidents.iter().for_each(|incident| incident.judge(backup));
    if let Some(bytes) = catalog.added(&backup.id).map_err(broken)? {
        backup.bytes_added = bytes; // what the snapshot itself says was written before its last packs
    }
    let proofs = catalog.proofs(Some(&backup.id)).map_err(broken)?;
    // A backup counts as proven when every resource in it is: its newest proof passed. The oldest of these dates it. A try
    // that found nothing out - no password, no room - takes nothing away from what another one showed.
    let told = |proof: &&lifeboat_model::Proof| proof.outcome != lifeboat_model::Tri::Unknown;
    let newest =
        backup.resources.iter().map(|resource| proofs.iter().filter(told).find(|proof| &proof.resource == resource));
    let passed: Option<Vec<Timestamp>> = newest
        .map(|proof| proof.filter(|proof| proof.outcome == lifeboat_model::Tri::Pass).map(|proof| proof.at))
        .collect();
    backup.proven_at = passed.and_then(|times| times.into_iter().min());
    Ok(())
}

impl Engine {
    /// Whether a resource in a backup has passed a rehearsal: its newest proof that found anything out.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn is_rehearsed(&self, backup: &BackupId, resource: &ResourceName) -> Result<bool, Failure> {
        let proofs = self.proofs(backup)?;
        let mut mine = proofs.iter().filter(|proof| &proof.resource == resource);
        Ok(mine.find(|proof| proof.outcome != Tri::Unknown).is_some_and(|proof| proof.outcome == Tri::Pass))
    }
}

/// A free name beside a live file for what is kept of it: `shop.db.REPLACED.20260501-031107`, with a number when two
/// plans are made within a second.
pub(crate) fn free_beside(live: &Path, word: &str, now: Timestamp) -> PathBuf {
    let first = path_with(live, &format!(".{word}.{}", now.strftime("%Y%m%d-%H%M%S")));
    let taken =
        |path: &PathBuf| ["", "-wal", "-shm", "-journal"].iter().any(|end| files::exists(&path_with(path, end)));
    let names = std::iter::once(first.clone()).chain((2..).map(|number| path_with(&first, &format!("-{number}"))));
    names.into_iter().find(|name| !taken(name)).unwrap_or(first)
}

fn held_by(path: &Path, holders: &holders::Holders) -> Vec<String> {
    let mut names: Vec<String> = holders.found.iter().map(|holder| holder.process.to_string()).collect();
    names.dedup();
    // Among those whom we may not look at, a lock gives away who uses it.
    if names.is_empty()
        && !holders.unseen.is_empty()
        && let Ok(Some(process)) = holders::lock_holder(path)
    {
        names.push(process.to_string());
    }
    names
}

/// Which file or folder is at a path, as text that changes when another takes its place.
pub fn identity(path: &Path) -> String {
    match files::identity(path) {
        Ok(Some((device, inode))) => format!("device {device} inode {inode}"),
        Ok(None) => "nothing there".to_owned(),
        Err(error) => format!("cannot be looked at: {}", error.source),
    }
}

/// A digest of how the settings describe a resource.
pub fn settings_digest(resource: &Resource) -> String {
    let json = serde_json::to_vec(resource).unwrap_or_default();
    hex::encode(&Sha256::digest(json)[..8])
}

fn bytes_of(resource: &Resource) -> Result<u64, Failure> {
    let bytes = match &resource.kind {
        ResourceKind::Sqlite { path } => {
            let wal = path_with(path, "-wal");
            files::size(path).map(|bytes| bytes + files::size(&wal).unwrap_or(0))
        }
        ResourceKind::Env { path } => files::size(path),
        ResourceKind::Files { path, .. } => files::size_of_tree(path),
        ResourceKind::Postgres { .. } => Ok(0), // the server tells, in `live_database`
    };
    bytes.map_err(|error| Failure::from_error(FailureKind::Refused, &error))
}

/// The path with something put behind its name.
pub fn path_with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

fn unreadable(resource: &Resource) -> Option<String> {
    match &resource.kind {
        ResourceKind::Sqlite { path } => lifeboat_io::database::sqlite::peek(path).err().map(|error| error.to_string()),
        ResourceKind::Files { path, .. } | ResourceKind::Env { path } => {
            files::can_read(path).err().map(|error| error.to_string())
        }
        ResourceKind::Postgres { .. } => None, // as above
    }
}
