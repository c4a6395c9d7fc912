//! What runs an app's code, and what is done to it in an emergency: another version of the code, another variable, a look
//! whether it works.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    backup::BackupChoice,
    id::StepId,
    platform::{BranchAction, RedeployAction, WorkflowAction},
    resource::ResourceName,
    time::Timestamp,
};

mod driver;
mod question;

pub use driver::{
    Batch, Brings, Driver, EnvBinding, FlyRelease, Instance, Looked, VariablesCall, VercelDeployment,
    docker_containers, docker_create, docker_fields, docker_inspect, docker_pull, docker_rename, docker_tag,
    fly_current, fly_previous, fly_releases, is_new, pm2_entries, supabase_deploy, systemd_has_failed, vercel_build,
    vercel_deployment, vercel_inspect, vercel_link, vercel_urls,
};
pub use question::{Asked, Question};

/// An app's code, in a folder under git or wherever its driver says, run by commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What the settings call it.
    pub name: ResourceName,
    /// The folder; commands run in it.
    pub folder: PathBuf,
    /// Its file of variables.
    pub env_file: Option<PathBuf>,
    /// The version that is known to be good: a tag, a branch, a commit.
    pub stable: Option<String>,
    /// The repository that others take the code from, by its name in the folder.
    pub remote: String,
    /// The branch there that is built and deployed when somebody pushes to it; the remote's own when nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Brings what the code needs: `npm install`.
    pub install: Option<Vec<String>>,
    /// Brings the database to the code's schema: `npm run db:migrate`.
    pub migrate: Option<Vec<String>>,
    /// Tries the code in a fresh checkout before it goes live; fails when it does not start.
    pub rehearse: Option<Vec<String>>,
    /// Stops it.
    pub stop: Vec<String>,
    /// Starts it.
    pub start: Vec<String>,
    /// Where it answers: `http://127.0.0.1:3002`.
    pub url: Option<String>,
    /// Paths that must answer with 2xx, and places of `tcp://HOST:PORT` that must accept connections.
    pub probes: Vec<String>,
    /// Questions to databases that must be answered as expected, wherever the probes are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<Question>,
    /// Its log, in which new lines are looked for errors.
    pub log: Option<PathBuf>,
    /// A record that is made and taken away again, to see that the app takes writes.
    pub trial: Option<Trial>,
    /// How a version of it is brought and put in use; nothing when nobody said, and only the emergency levels know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// How the running app tells which version and which instance it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tells: Option<Tells>,
    /// How long it may take to answer after a start, in milliseconds; a minute when nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_ms: Option<u64>,
    /// How long a program that is called for it may take before it is ended, in milliseconds; a quarter of an hour when nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_ms: Option<u64>,
    /// Builds the code where a version was brought, after `install`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Vec<String>>,
    /// Tries the running app after a deploy; fails when it does not do what it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoke: Option<Vec<String>>,
    /// Variables that its programs get from our own environment, by their names; never their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pass: Vec<String>,
    /// When it gets the values of its variables; as its driver has it when nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_binding: Option<EnvBinding>,
}

impl Target {
    /// The command that stops it: what somebody said, else what its driver knows; nothing where it is not stopped.
    pub fn stop_call(&self) -> Option<Vec<String>> {
        match self.stop.is_empty() {
            false => Some(self.stop.clone()),
            true => self.driver.as_ref()?.stop(),
        }
    }

    /// The command that starts it, likewise.
    pub fn start_call(&self) -> Option<Vec<String>> {
        match self.start.is_empty() {
            false => Some(self.start.clone()),
            true => self.driver.as_ref()?.start(),
        }
    }

    /// Whether there is something to ask whether it works: a path or a place, or a question to a database.
    pub fn has_probes(&self) -> bool {
        (self.url.is_some() && !self.probes.is_empty()) || !self.questions.is_empty()
    }

    /// The paths and places that are asked: none where nobody has said where it answers.
    pub fn asked_paths(&self) -> Vec<String> {
        self.probes.iter().filter(|_| self.url.is_some()).cloned().collect()
    }

    /// What is asked whether it works, for people.
    pub fn shown_probes(&self) -> String {
        self.asked_paths()
            .into_iter()
            .chain(self.questions.iter().map(ToString::to_string))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// When it gets the values of its variables.
    pub fn env_binding(&self) -> EnvBinding {
        let of_driver = || self.driver.as_ref().map_or(EnvBinding::Start, Driver::env_binding);
        self.env_binding.unwrap_or_else(of_driver)
    }

    /// Names of variables that its programs get from our own environment.
    pub fn passes(&self) -> Vec<&str> {
        let of_driver = self.driver.as_ref().map_or(&[][..], Driver::passes);
        of_driver.iter().copied().chain(self.pass.iter().map(String::as_str)).collect()
    }

    /// Whether what answers can be shown to be another instance than before: by the app, or by its platform.
    pub fn tells_instances(&self) -> bool {
        self.tells.is_some() || self.driver.as_ref().is_some_and(|driver| driver.instances().is_some())
    }
}

/// How the running app tells which version and which instance it is: an answer in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tells {
    /// The path that answers: `/api/health`.
    pub path: String,
    /// A command that prints the answer, in place of asking for the path: where it is only to be had over https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Where in the answer the version stands, as a JSON pointer: `/version`.
    pub version: String,
    /// Where something stands that differs from start to start: `/started_at`, `/pid`. Without it two instances of one
    /// version cannot be told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// A file in the folder of each version that holds the version it tells: `VERSION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A record that is made through the app and taken away again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Where somebody logs in; the answer has the token.
    pub login: String,
    /// The variable that holds the address to log in with.
    pub email_env: String,
    /// The variable that holds the password.
    pub password_env: String,
    /// Where the record is made.
    pub create: String,
    /// What it is, as JSON.
    pub body: String,
    /// The table it lands in, from which it is taken away again.
    pub table: String,
}

/// What an emergency level that concerns the application is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum LevelAsk {
    /// Level 1, by a variable: changes are held, where the mirror's own switch cannot be used.
    Hold {
        /// Why.
        why: String,
    },
    /// No level: the app is started again with more memory for Node, for as long as it runs.
    Memory {
        /// How much, in MiB.
        mib: u32,
        /// Why.
        why: String,
    },
    /// Level 3, by a variable: no connection to the cloud any more.
    LocalOnly {
        /// Why.
        why: String,
    },
    /// Level 3, by git: back to a commit.
    RollBack {
        /// Which one.
        to: String,
        /// Take the commits since out of the branch, instead of adding one that takes them back.
        hard: bool,
        /// Why.
        why: String,
    },
    /// Level 3, by branch: what is there is kept as a branch, and the stable version takes its place.
    Stable {
        /// Another version than the settings name.
        to: Option<String>,
        /// Why.
        why: String,
    },
    /// Level 5: database, application, functions, cloud.
    Recover {
        /// From which backup.
        from: BackupChoice,
        /// The version of the code; the stable one of the settings when nobody says.
        to: Option<String>,
        /// What is missing and is gone on without: `application`, `cloud`.
        without: Vec<String>,
        /// How long the mirror is watched in the end, in milliseconds.
        watch_ms: u64,
        /// Why.
        why: String,
    },
}

impl LevelAsk {
    /// The number of the level; nothing where it is none.
    pub fn level(&self) -> Option<u8> {
        match self {
            LevelAsk::Hold { .. } => Some(1),
            LevelAsk::Memory { .. } => None,
            LevelAsk::LocalOnly { .. } | LevelAsk::RollBack { .. } | LevelAsk::Stable { .. } => Some(3),
            LevelAsk::Recover { .. } => Some(5),
        }
    }
}

/// What is done to a target. Each is all-or-nothing and may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "target", rename_all = "kebab-case")]
pub enum TargetAction {
    /// Fails when files under git were changed by hand: they would be lost.
    CheckClean,
    /// Sets a variable in a file, once, and keeps the former file.
    SetVariable {
        /// The file.
        file: PathBuf,
        /// Where the former one is kept.
        kept: PathBuf,
        /// The variable.
        name: String,
        /// Its value.
        value: String,
    },
    /// Puts the former file back.
    PutFileBack {
        /// The file.
        file: PathBuf,
        /// Where the former one is kept.
        kept: PathBuf,
    },
    /// Runs a command in a folder.
    Run {
        /// Where.
        folder: PathBuf,
        /// Program and arguments.
        argv: Vec<String>,
        /// Variables that it gets besides those that are there.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
        /// Only when this step was begun: what is taken back needs it only then.
        after: Option<StepId>,
    },
    /// Gives a commit a branch of its own.
    KeepBranch {
        /// The branch.
        branch: String,
        /// The commit.
        commit: String,
    },
    /// Takes that branch away again, as long as it is at that commit.
    DropBranch {
        /// The branch.
        branch: String,
        /// The commit.
        commit: String,
    },
    /// Adds a commit with the content of an older one.
    RollBack {
        /// Where the branch is.
        from: String,
        /// Whose content it gets.
        to: String,
        /// When, so that it is the same commit each time.
        at: Timestamp,
        /// What it says.
        message: String,
    },
    /// Moves the branch that is checked out to a commit.
    MoveBranch {
        /// The commit.
        to: String,
    },
    /// Checks a commit out, by its branch where it has one.
    CheckOut {
        /// The commit.
        commit: String,
        /// The branch.
        branch: Option<String>,
    },
    /// Gives a branch to the remote repository. Never with force.
    Push {
        /// The branch.
        branch: String,
    },
    /// Fails when somebody else has the port on which it answers, after it was stopped.
    CheckPort {
        /// The port of this host.
        port: u16,
    },
    /// Fails unless every path answers with 2xx within so long, every place of `tcp://HOST:PORT` accepts connections, and every
    /// question of the target is answered as expected.
    Probe {
        /// The paths and places.
        paths: Vec<String>,
        /// How long they may take to do so, in milliseconds.
        limit_ms: u64,
    },
    /// Fails when new lines of the log tell of errors.
    ScanLog {
        /// The log.
        file: PathBuf,
        /// How long it was before.
        from: u64,
        /// Which file it was before, by device and inode: another one was begun since.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<(u64, u64)>,
    },
    /// Checks a commit out into a folder of its own.
    FreshCopy {
        /// The commit.
        commit: String,
        /// The folder. It is replaced when it exists: it is ours.
        into: PathBuf,
        /// From this remote, where it answers and has the commit; else from the live folder's own repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<String>,
        /// Nowhere but from there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        only_there: bool,
    },
    /// Brings what a fresh copy has checked out into the live folder's repository; nothing is checked out there by it.
    TakeOver {
        /// The commit.
        commit: String,
        /// The fresh copy.
        from: PathBuf,
    },
    /// Copies a file to where a fresh checkout looks for it.
    CopyIn {
        /// The file.
        from: PathBuf,
        /// The place in the fresh checkout.
        to: PathBuf,
    },
    /// Fails when another version is in use than the plan rests on.
    CheckRuns {
        /// The version.
        version: String,
    },
    /// Brings a version to where it can be put in use; nothing that runs notices.
    Stage {
        /// The version.
        version: String,
        /// Where it is to be had when it is not here any more: an image by its digest in a registry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<String>,
    },
    /// Keeps a version from being cleared away, as far as its platform lets anybody do so.
    Pin {
        /// The version.
        version: String,
    },
    /// Puts a version in use, from the next start on.
    Switch {
        /// The version.
        version: String,
        /// It is what was left, and comes back.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        back: bool,
    },
    /// Keeps the log and the state of what runs, before it is stopped or taken away.
    KeepEvidence,
    /// Stops it as its driver does; what does not run is stopped.
    Stop,
    /// Starts it as its driver does; there is never a second one.
    Start,
    /// Looks whether nobody answers any more after it was stopped. It is written down, and does not fail.
    Quiet,
    /// Notes which version and which instance answers before anything changes.
    NoteInstance,
    /// Fails unless an instance answers that was not there before, with this version, within so long.
    NewInstance {
        /// The version; nothing when it is not known what it tells.
        version: Option<String>,
        /// The step that noted which instance answered before.
        before: StepId,
        /// How long it may take, in milliseconds.
        limit_ms: u64,
        /// The version by its name on the platform; older journals have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        artifact: Option<String>,
        /// The step that looked whether nobody answered any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quiet: Option<StepId>,
        /// The step that put the version in use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        switched: Option<StepId>,
        /// A file that holds the version, where that is known only once it was brought.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
    },
    /// Looks again and again for so long, and fails as soon as it is bad: a path does not answer several times in a row, or the
    /// rules call what is measured a reason to go back.
    Watch {
        /// The paths.
        paths: Vec<String>,
        /// For how long, in milliseconds.
        for_ms: u64,
        /// How long between two looks, in milliseconds.
        every_ms: u64,
        /// So many times in a row a path may fail to answer.
        failures_max: u32,
        /// Whether what the rules speak of is measured as well; one target does that for all.
        measures: bool,
    },
    /// Something about the branch that a platform builds.
    Branch(BranchAction),
    /// A version comes once more to where it runs.
    Redeploy(RedeployAction),
    /// Something about a workflow of GitHub.
    Workflow(WorkflowAction),
    /// Fails when the platform does not let its variables be looked at.
    CheckVariables,
    /// Gives the platform variables as a file has them, in one batch and by standard input; those that are not in it go.
    GiveVariables {
        /// The file.
        file: PathBuf,
        /// The variables.
        names: Vec<String>,
    },
    /// Logs in, makes a record, and takes it away again.
    Try {
        /// The database that it lands in.
        file: PathBuf,
    },
}

/// The host and the port of a probe that asks for a connection and not for a path: `tcp://127.0.0.1:6379`.
pub fn tcp_place(probe: &str) -> Option<(&str, u16)> {
    let (host, port) = probe.strip_prefix("tcp://")?.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty() && !host.contains('/')).then_some((host, port))
}
