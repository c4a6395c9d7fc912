//! A plan: everything that will happen, decided before anything happens, as plain data.
//!
//! It is printed, confirmed, written into the journal before its first step, and read back after a crash. New names and
//! ids are chosen in it, so that doing, repeating and undoing a step all know them. Planners make plans; actors carry
//! actions out; neither does the other's work.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    backup::BackupReason,
    export::ExportFormat,
    id::{BackupId, PlanId, ProofId, StepId},
    loss::{AcceptLoss, Loss, LossLine},
    manifest::Deploy,
    predict::Prediction,
    request::{BackupMark, Request},
    resource::{Resource, ResourceName, Scope},
    time::Timestamp,
};

mod postgres;

pub use postgres::{KeptFor, PgAction, SchemaNames, SchemaReturn, StoredPart};

/// The schema tag of a plan. Fields are only added within one number; old plans stay readable.
pub const PLAN_SCHEMA: &str = "lifeboat/plan@1";

/// Everything that will happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_SCHEMA`].
    pub schema: String,
    /// Its name.
    pub id: PlanId,
    /// What was asked for.
    pub request: Request,
    /// App and environment it works on.
    pub scope: Scope,
    /// Which lease it takes. Rehearsals have one of their own and can never hold production's.
    pub lease: Lease,
    /// One line for people.
    pub title: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// What it rests on. `apply` looks again and refuses when something differs.
    pub facts: Vec<ExpectedFact>,
    /// The parts, in order.
    pub phases: Vec<Phase>,
    /// What will be gone from where it is now, and where it is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<Loss>,
    /// What a person should know before agreeing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Plan {
    /// All steps in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.phases.iter().flat_map(|phase| &phase.steps)
    }

    /// What a person agrees to, and what the journal opens with: SHA-256 of the plan as JSON, hex.
    pub fn digest(&self) -> String {
        // A plan is made of strings, numbers and lists of them; turning it into JSON cannot fail.
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(Sha256::digest(json))
    }

    /// The step after which only forward is possible, when the plan has one.
    pub fn pivot(&self) -> Option<usize> {
        self.steps().position(|step| step.class == StepClass::Pivot)
    }

    /// What is wrong with the plan's shape, in words; empty when it may be run.
    pub fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for step in self.steps() {
            if !seen.insert(&step.id) {
                flaws.push(format!("two steps are called {}", step.id));
            }
        }
        if self.steps().filter(|step| step.class == StepClass::Pivot).count() > 1 {
            flaws.push("there are two points of no return".to_owned());
        }
        let pivot = self.pivot().unwrap_or(usize::MAX);
        for step in self.steps().take(pivot) {
            if let Undo::Impossible { because } = &step.undo {
                flaws.push(format!("{} comes before the point of no return and cannot be undone: {because}", step.id));
            }
        }
        flaws
    }
}

/// Which lease a plan takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lease {
    /// The environment's: one operation at a time.
    Environment,
    /// The environment's sandbox: rehearsals, which touch nothing of the environment.
    Sandbox,
    /// The mirror's switches and queue: nothing that takes long keeps anybody from switching it off.
    Sync,
    /// The mirror's copying, which takes long.
    Mirror,
    /// What everybody is told: whether the app is closed.
    Notice,
}

impl Lease {
    /// What the name of its file ends in.
    pub fn word(self) -> &'static str {
        match self {
            Lease::Environment => "",
            Lease::Sandbox => ".sandbox",
            Lease::Sync => ".sync",
            Lease::Mirror => ".mirror",
            Lease::Notice => ".notice",
        }
    }

    /// All of them.
    pub const ALL: [Lease; 5] = [Lease::Environment, Lease::Sandbox, Lease::Sync, Lease::Mirror, Lease::Notice];
}

/// A part of a plan with a budget of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name: `keep`, `restore`, `verify`, `swap`, ...
    pub name: String,
    /// How long it may take, in milliseconds; longer is reported, never killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<u64>,
    /// How long it will probably take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Prediction>,
    /// What it consists of.
    pub steps: Vec<Step>,
}

/// One thing to do, and how to take it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in the plan.
    pub id: StepId,
    /// One line for people.
    pub title: String,
    /// How it may be repeated after a crash.
    pub class: StepClass,
    /// What to do.
    pub action: Action,
    /// How to take it back.
    pub undo: Undo,
    /// What a failure means.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What a person can do when it fails, where the planner knows better than the actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How a step that was in flight when the process died may be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepClass {
    /// Changes nothing; run it again freely.
    Read,
    /// May be run again with the same names.
    Idempotent,
    /// Never run again unseen: look at the world first.
    ProbeFirst,
    /// As `ProbeFirst`, and after it only forward. At most one in a plan.
    Pivot,
}

/// How a step is taken back. Not an `Option`: the planner has to say which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// By this action, which may be repeated and does nothing when there is nothing to take back.
    By(Box<Action>),
    /// There is nothing to take back.
    Nothing,
    /// It cannot be taken back.
    Impossible {
        /// Why not.
        because: String,
    },
}

/// What the failure of a step means for its operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Before the point of no return everything is taken back; after it the operation waits for a person.
    #[default]
    Unwind,
    /// It is written down as a finding, and the operation goes on: a rehearsal wants to know.
    Note,
    /// As [`OnFailure::Unwind`]; but when somebody interrupts it, the operation waits where it is, to be resumed or aborted: who
    /// ends a terminal has not asked for a rollback.
    Hold,
    /// The operation waits where it is, to be resumed or aborted: what was done by then is good as it is.
    Wait,
}

/// What a plan rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedFact {
    /// What to look at.
    pub fact: Fact,
    /// What was found when the plan was made.
    pub value: String,
    /// From this step on it may differ, because the plan itself changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<StepId>,
}

/// Something that can be looked at again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "look-at", rename_all = "kebab-case")]
pub enum Fact {
    /// Which file or folder is there: its device and inode, or that there is none. Not its content: apps write.
    Identity {
        /// Where.
        path: PathBuf,
    },
    /// A file nobody should touch: identity, size and time of change.
    Untouched {
        /// Where.
        path: PathBuf,
    },
    /// Whether the vault has this backup, and under which snapshot.
    BackupIsThere {
        /// Which vault, by its location.
        vault: String,
        /// Which backup.
        backup: BackupId,
    },
    /// How the settings describe a resource: a digest.
    Settings {
        /// Which resource.
        resource: ResourceName,
    },
    /// Which backups there are: a digest over their names and marks.
    Backups {
        /// Which vault, by its location.
        vault: String,
    },
    /// Which database has a name on a server: the cluster's and the database's numbers, or that there is none.
    Database {
        /// The server, by the address of a database on it.
        url: String,
        /// The name.
        database: String,
    },
    /// Which schemas have these names in a database: their numbers, or that there is none.
    Schemas {
        /// The database.
        url: String,
        /// The names.
        schemas: Vec<String>,
    },
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fact::Identity { path } => write!(f, "which file is at {}", path.display()),
            Fact::Untouched { path } => write!(f, "{}", path.display()),
            Fact::BackupIsThere { backup, .. } => write!(f, "backup {backup}"),
            Fact::Settings { resource } => write!(f, "the settings of {resource}"),
            Fact::Backups { vault } => write!(f, "the list of backups in {vault}"),
            Fact::Database { database, .. } => write!(f, "which database is called {database}"),
            Fact::Schemas { schemas, .. } => write!(f, "which schemas are called {}", schemas.join(", ")),
        }
    }
}

/// A captured piece of a backup: what it is and where it lies until it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The resource.
    pub resource: Resource,
    /// Where its captured bytes are; nothing when they are read from where they live. With no step that captures them, they
    /// are read from where they live too, and this is where a copy goes if one turns out to be needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<PathBuf>,
    /// The step whose output tells what was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_by: Option<StepId>,
    /// The step that looked at it, in journals of 0.1; storing looks by itself now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspected_by: Option<StepId>,
    /// Store also what is not sound: it is what there is (an emergency backup of a damaged database).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_unsound: bool,
    /// PostgreSQL: schemas that are left out, as the plan decided. Plans of 0.2 left it to whoever acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave_out: Option<Vec<String>>,
    /// What it stands for, when it is a database that a dump of others was loaded into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Foreign>,
}

/// A dump that others made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// The file it came from.
    pub origin: String,
    /// Up to when it is complete.
    pub as_of: Timestamp,
    /// What its database is called where it is in use.
    pub database: String,
}

/// A piece of an export: what was fetched, and where it lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportPart {
    /// Where its manifest is.
    pub vault: String,
    /// The backup it came out of.
    pub backup: BackupId,
    /// The resource.
    pub resource: ResourceName,
    /// Where its fetched copy lies.
    pub fetched: PathBuf,
}

/// Everything an actor can be asked to do. A closed set with typed parameters; no free shell.
///
/// Each is all-or-nothing and may be repeated with the same parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Fails when a file system has less room than this.
    CheckSpace {
        /// A path on it; it need not exist yet.
        path: PathBuf,
        /// Bytes that must be free.
        bytes: u64,
    },
    /// Makes an empty vault where there is none yet.
    CreateVault {
        /// Where.
        vault: String,
    },
    /// Fails when the backup is not whole in the vault: manifest, trees, index, packs and their sizes.
    CheckBackup {
        /// Where.
        vault: String,
        /// Which.
        backup: BackupId,
    },
    /// Fails when another process holds the file open; names it.
    CheckUnused {
        /// The file.
        path: PathBuf,
    },
    /// Copies a live SQLite database, consistently, into a staging file.
    CaptureSqlite {
        /// The live database.
        source: PathBuf,
        /// The staging file.
        into: PathBuf,
        /// Up to when it is complete, when that is not now: a file that a script made some time ago.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        as_of: Option<Timestamp>,
    },
    /// Looks at a captured SQLite copy. No longer planned, since storing looks as well; journals of 0.1 hold it.
    InspectSqlite {
        /// The copy.
        file: PathBuf,
        /// Do not fail on a copy that is not sound.
        accept_unsound: bool,
    },
    /// Writes the captured parts and their manifest into the vault as one snapshot, and looks at the databases among them
    /// meanwhile: structure, rows, digests. Fails, and there is no snapshot, when one is not sound.
    StoreBackup {
        /// The new backup's name.
        backup: BackupId,
        /// Where.
        vault: String,
        /// Why.
        reason: BackupReason,
        /// What the person called it.
        label: Option<String>,
        /// What.
        parts: Vec<Part>,
        /// What is deployed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deploy: Option<Deploy>,
    },
    /// Takes a backup out of the vault's list; its bytes go with the next prune.
    DropBackup {
        /// Where.
        vault: String,
        /// Which.
        backup: BackupId,
    },
    /// Reads back that what was stored is whole.
    VerifyStored {
        /// Where.
        vault: String,
        /// Which.
        backup: BackupId,
    },
    /// Brings a resource out of a backup to a new place, hashing what comes.
    Fetch {
        /// Where from.
        vault: String,
        /// Which backup.
        backup: BackupId,
        /// Which resource in it.
        resource: ResourceName,
        /// The new place. It is replaced when it exists: it is ours.
        into: PathBuf,
    },
    /// Compares a fetched resource with the manifest of its backup.
    CheckFetched {
        /// Where the manifest is.
        vault: String,
        /// Which backup.
        backup: BackupId,
        /// The resource, as the settings describe it now.
        resource: Resource,
        /// The fetched copy.
        at: PathBuf,
        /// Whether the copy must also take a write in every table; for rehearsals.
        writes: bool,
    },
    /// Counts, row by row, what would be lost if the fetched copy took the live one's place. Fails when that is more than
    /// somebody has agreed to.
    CompareLoss {
        /// The live database.
        live: PathBuf,
        /// The fetched copy.
        restored: PathBuf,
        /// What was shown when the plan was made; nothing when it could not be counted, which was told.
        shown: Option<Vec<LossLine>>,
        /// What somebody has agreed to.
        accepted: AcceptLoss,
    },
    /// The negative control: damages a second copy on purpose; fails when the checks do not notice.
    CheckTheChecks {
        /// Where the manifest is.
        vault: String,
        /// Which backup.
        backup: BackupId,
        /// The resource.
        resource: Resource,
        /// The fetched copy; it is copied first.
        at: PathBuf,
        /// Chooses where the damage is done.
        seed: u64,
    },
    /// Writes down what a rehearsal found.
    RecordProof {
        /// The proof's name.
        proof: ProofId,
        /// The backup that was tried.
        backup: BackupId,
        /// The resource that was tried.
        resource: ResourceName,
        /// The step that brought the data back.
        fetched_by: StepId,
        /// The steps whose findings count.
        checked_by: Vec<StepId>,
    },
    /// Makes a folder that only its owner may look into.
    MakeFolder {
        /// Where. It is replaced when it exists: it is ours.
        path: PathBuf,
    },
    /// Writes what was fetched into the folder of an export, in its form, with the document that describes it.
    WriteExport {
        /// The folder; it is ours.
        at: PathBuf,
        /// In which form databases come out.
        format: ExportFormat,
        /// Which tables; all when empty.
        tables: Vec<String>,
        /// What.
        parts: Vec<ExportPart>,
    },
    /// Writes the files of a folder into another one, each encrypted for public keys of age.
    EncryptFolder {
        /// The folder in the clear; it is ours.
        from: PathBuf,
        /// The other one. It is replaced when it exists: it is ours.
        into: PathBuf,
        /// The public keys.
        recipients: Vec<String>,
    },
    /// Moves what is live aside, with `-wal`, `-shm` and `-journal`.
    SetAside {
        /// Whether it is a database, which moves with its sidecars and only while nobody has it open.
        database: bool,
        /// Where it lives.
        live: PathBuf,
        /// Where it is kept.
        kept: PathBuf,
    },
    /// Moves what was set aside back to where it lives.
    BringBack {
        /// Whether it is a database, which moves with its sidecars and only while nobody has it open.
        database: bool,
        /// Where it lives.
        live: PathBuf,
        /// Where it is kept.
        kept: PathBuf,
    },
    /// Gives a verified copy the live name.
    PutInPlace {
        /// Whether it is a database, which moves with its sidecars and only while nobody has it open.
        database: bool,
        /// The copy.
        aside: PathBuf,
        /// Where it will live.
        live: PathBuf,
        /// Whose mode and owner it takes on, when that exists.
        like: Option<PathBuf>,
    },
    /// Moves the live one back to where it came from.
    TakeAway {
        /// Whether it is a database, which moves with its sidecars and only while nobody has it open.
        database: bool,
        /// Where it came from.
        aside: PathBuf,
        /// Where it lives.
        live: PathBuf,
    },
    /// Runs a configured command: stop or start a writer.
    Command {
        /// Program and arguments, never a shell line.
        argv: Vec<String>,
        /// How long it may take, in milliseconds.
        limit_ms: u64,
    },
    /// Removes files of ours.
    Remove {
        /// Files or folders inside places that belong to Lifeboat.
        paths: Vec<PathBuf>,
    },
    /// Takes several backups out of the vault's list, keeping what is needed to bring them back.
    Forget {
        /// Where.
        vault: String,
        /// Which.
        backups: Vec<BackupId>,
    },
    /// Puts forgotten backups back on the list, as long as their bytes are there.
    Unforget {
        /// Where.
        vault: String,
        /// Which.
        backups: Vec<BackupId>,
    },
    /// Frees what no snapshot needs, in two phases with a grace period between them.
    Prune {
        /// Where.
        vault: String,
        /// How long unneeded bytes stay, in milliseconds.
        grace_ms: u64,
    },
    /// Writes down what a person says about a backup.
    Mark {
        /// Which backup.
        backup: BackupId,
        /// What is said; nothing takes the mark back.
        mark: BackupMark,
    },
    /// Copies a backup into another vault, sealed with that one's key, every pack read back there.
    CopyBackup {
        /// Where from.
        from: String,
        /// Where to.
        to: String,
        /// Which.
        backup: BackupId,
    },
    /// Renews the copies of journals in another vault.
    CopyJournals {
        /// Where from.
        from: String,
        /// Where to.
        to: String,
    },
    /// Sends a plain file elsewhere under the name of its day, and reads it back.
    Send {
        /// Which file.
        file: PathBuf,
        /// Where to.
        to: crate::elsewhere::Elsewhere,
        /// Up to when it is complete: the day in its name.
        of: Timestamp,
    },
    /// Puts on record what a person says. The journal is the record.
    Say {
        /// What is said, in sentences.
        lines: Vec<String>,
    },
    /// Something with a PostgreSQL database.
    Postgres(PgAction),
    /// Changes something about the mirror of a SQLite file.
    Sync {
        /// Which link, with all that is needed to reach both sides.
        link: Box<crate::sync::Link>,
        /// What.
        action: crate::sync::SyncAction,
    },
    /// Changes a file of variables, by their names.
    Env(crate::variables::EnvAction),
    /// Writes a message down for each channel and tries to deliver it. It never fails: what is not delivered is tried again.
    Notify {
        /// Where it goes.
        channels: Vec<crate::message::Channel>,
        /// What it says.
        notice: crate::message::Notice,
    },
    /// Sees that a feature is on or off as it should be, which goes on record.
    Feature(crate::feature::FeatureSeen),
    /// Puts on record what is due from now on.
    Due {
        /// What, and within which time.
        items: Vec<crate::due::Due>,
    },
    /// Puts on record which release was sealed, is live, good or bad.
    Release(crate::release::ReleaseRecord),
    /// Changes what runs the app's code, or looks whether it works.
    Target {
        /// Which one, with all that is needed to reach it.
        target: Box<crate::target::Target>,
        /// What.
        action: crate::target::TargetAction,
    },
}
