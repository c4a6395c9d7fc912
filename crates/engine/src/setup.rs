//! What an engine works on, resolved from settings or from the words of one command.

use std::{collections::BTreeMap, sync::Arc};

use lifeboat_io::{ObjectStore, database::postgres::Address};
use lifeboat_model::{Duration, Failure, FailureKind, Keep, Resource, ResourceName, Scope, SwapStrategy, VaultName};
use lifeboat_store::vault::Vault;
use secrecy::SecretString;

/// A second vault that holds copies of backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What the settings call it.
    pub name: VaultName,
    /// Where it is, without secrets.
    pub location: String,
    /// What is kept in it for how long.
    pub keep: Keep,
    /// Whether it is brought up to date after each backup.
    pub after_backup: bool,
}

/// An app that the daemon stands in front of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `http://HOST:PORT`.
    pub url: String,
    /// Within which time it has to begin to answer.
    pub patience: Duration,
}

/// One environment of one app.
#[derive(Clone, Debug)]
pub struct Setup {
    /// App and environment.
    pub scope: Scope,
    /// What is protected.
    pub resources: Vec<Resource>,
    /// Where backups are kept: the vault's location, without secrets.
    pub vault: String,
    /// What is kept for how long.
    pub keep: Keep,
    /// How long each phase may take, in milliseconds, by the phase's name.
    pub budgets_ms: BTreeMap<String, u64>,
    /// How long bytes that no backup needs stay in the vault before they are deleted.
    pub prune_grace: Duration,
    /// The oldest a backup may be: the recovery point objective.
    pub rpo: Option<Duration>,
    /// How long a restore may take, from its beginning until the data is live.
    pub rto: Option<Duration>,
    /// How long after the beginning of an incident something has to be done about it.
    pub response: Option<Duration>,
    /// The oldest a proof may be.
    pub proof_max_age: Option<Duration>,
    /// The settings file, which every backup carries along.
    pub settings_file: Option<std::path::PathBuf>,
    /// How long a configured stop or start command may take.
    pub command_limit: Duration,
    /// Whether a backup must have been proven before it may replace what is live.
    pub rehearse_first: bool,
    /// Second vaults.
    pub copies: Vec<Copy>,
    /// Databases beside which a file `NAME.backup` is renewed after each backup.
    pub aliases: Vec<ResourceName>,
    /// Databases beside which each backup makes a file `NAME.backup.YYYYMMDD`, and after how many days those go.
    pub dated: BTreeMap<ResourceName, u32>,
    /// Databases of which a plain file a day goes elsewhere, and where to.
    pub elsewhere: BTreeMap<ResourceName, lifeboat_model::Elsewhere>,
    /// Folders in which files from before may lie that look like backups.
    pub backup_folders: Vec<std::path::PathBuf>,
    /// What was deployed when a backup is taken, as somebody says it: a tag, an image. Else it is looked up.
    pub deploy_said: Option<String>,
    /// PostgreSQL databases that somebody has said of how they are swapped.
    pub swaps: BTreeMap<ResourceName, SwapStrategy>,
    /// Roles of PostgreSQL databases that are asked what they can see; those that policies and grants name when none is said.
    pub roles: BTreeMap<ResourceName, Vec<String>>,
    /// The file that tells of every restore and undo, one line or paragraph each.
    pub incident_log: Option<std::path::PathBuf>,
    /// SQLite files that are mirrored to PostgreSQL databases.
    pub links: Vec<lifeboat_model::sync::Link>,
    /// What the daemon does by itself.
    pub schedule: lifeboat_model::schedule::Schedule,
    /// The app that the daemon stands in front of.
    pub upstream: Option<Upstream>,
    /// What runs the app's code.
    pub targets: Vec<lifeboat_model::Target>,
    /// By what it is decided whether a release is rolled back.
    pub matrix: lifeboat_model::decision::Matrix,
    /// Who is called in an emergency.
    pub contacts: lifeboat_model::escalation::Contacts,
    /// Within which time things are due after a rollback or an incident, where that is not as usual.
    pub due_times: lifeboat_model::due::Times,
    /// Features of the app that can be switched off.
    pub features: Vec<lifeboat_model::Feature>,
    /// Where messages go.
    pub channels: Vec<lifeboat_model::message::Channel>,
    /// Commands that look at a point of a checklist, by `LIST.POINT`.
    pub checks: BTreeMap<String, Vec<String>>,
    /// Where the migrations of databases lie, of those that somebody has said it of.
    pub migrations: BTreeMap<ResourceName, lifeboat_model::Migrations>,
}

impl Setup {
    /// A setup with nothing in it and the defaults.
    pub fn new(scope: Scope, vault: impl Into<String>) -> Setup {
        Setup {
            scope,
            resources: Vec::new(),
            vault: vault.into(),
            keep: Keep::default(),
            budgets_ms: BTreeMap::new(),
            prune_grace: Duration::from_secs(86_400),
            rpo: None,
            response: None,
            rto: None,
            proof_max_age: None,
            settings_file: None,
            command_limit: Duration::from_secs(60),
            rehearse_first: false,
            copies: Vec::new(),
            aliases: Vec::new(),
            dated: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            backup_folders: Vec::new(),
            deploy_said: None,
            swaps: BTreeMap::new(),
            roles: BTreeMap::new(),
            incident_log: None,
            links: Vec::new(),
            schedule: lifeboat_model::schedule::Schedule::default(),
            upstream: None,
            targets: Vec::new(),
            matrix: lifeboat_model::decision::Matrix::default(),
            contacts: lifeboat_model::escalation::Contacts::default(),
            due_times: lifeboat_model::due::Times::new(),
            features: Vec::new(),
            channels: Vec::new(),
            checks: BTreeMap::new(),
            migrations: BTreeMap::new(),
        }
    }

    /// The second vault of this name.
    ///
    /// # Errors
    /// When there is none; the names there are come with it.
    pub fn copy(&self, name: &VaultName) -> Result<&Copy, Failure> {
        self.copies.iter().find(|copy| &copy.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.copies.iter().map(|copy| copy.name.as_str()).collect();
            let failure = Failure::new(FailureKind::Usage, format!("{} has no copy called {name}", self.scope));
            match known.as_slice() {
                [] => failure.hint("write [vault.copies.offsite] with location and password into lifeboat.toml"),
                known => failure.hint(format!("it has: {}", known.join(", "))),
            }
        })
    }

    /// The resource of this name.
    ///
    /// # Errors
    /// When there is none; the names there are come with it.
    pub fn resource(&self, name: &ResourceName) -> Result<&Resource, Failure> {
        self.resources.iter().find(|resource| &resource.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.resources.iter().map(|resource| resource.name.as_str()).collect();
            let message = format!("{} has no resource called {name}", self.scope);
            Failure::new(FailureKind::Usage, message).hint(format!("it has: {}", known.join(", ")))
        })
    }
}

/// Opens vaults by their location, and finds the way into databases; it knows where passwords come from.
pub trait Vaults: Send + Sync {
    /// The vault there.
    ///
    /// # Errors
    /// No vault, no password, a wrong one, no connection.
    fn open(&self, location: &str) -> Result<Arc<Vault>, Failure>;

    /// Whether there is a vault. An unreachable place is an error, not "no".
    ///
    /// # Errors
    /// When it cannot be told.
    fn exists(&self, location: &str) -> Result<bool, Failure>;

    /// Makes an empty vault; one that is there already is opened.
    ///
    /// # Errors
    /// No password, no connection, no room.
    fn create(&self, location: &str) -> Result<Arc<Vault>, Failure>;

    /// Makes an empty vault that will hold copies out of `like`; one that is there already is opened.
    ///
    /// # Errors
    /// As [`Vaults::create`].
    fn create_like(&self, location: &str, like: &Vault) -> Result<Arc<Vault>, Failure>;

    /// The way into a database, password included, from its address without one.
    ///
    /// # Errors
    /// The address cannot be understood, or its password is not where it should be.
    fn database(&self, url: &str) -> Result<Address, Failure>;

    /// A place for plain objects, which is no vault.
    ///
    /// # Errors
    /// It cannot be understood, or what opens it is not there.
    fn objects(&self, location: &str) -> Result<Arc<dyn ObjectStore>, Failure>;

    /// The folder it lies in, when it is one on this host.
    fn folder(&self, location: &str) -> Option<std::path::PathBuf>;

    /// Where the vault's password is kept, for people; never the password.
    fn password_place(&self, location: &str) -> String;

    /// The address of a channel's webhook, which is a secret.
    ///
    /// # Errors
    /// It is not where it should be.
    fn webhook(&self, channel: &str) -> Result<SecretString, Failure>;

    /// Takes every secret that is known out of a text that came from outside.
    fn scrub(&self, text: &str) -> String;
}
