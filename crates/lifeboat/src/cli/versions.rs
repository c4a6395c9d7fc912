//! The words of commands about releases and migrations: seal, go back, list, judge.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use lifeboat_model::{
    Profile, ReleaseState,
    time::{Duration, parse_duration},
};

use super::records::AttestArgs;
use super::{ConsentArgs, RunArgs};

/// `checkpoint`.
#[derive(Clone, Debug, Args)]
pub struct CheckpointArgs {
    /// What to call the release: a tag, "before phase 2" [default: the tag or branch that is checked out]
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Goes on without proving the backup
    #[arg(long)]
    pub unproven: bool,
    /// Keeps a copy of each PostgreSQL database beside it, ready to take its place at a rollback
    #[arg(long)]
    pub shadow: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// `shadow`.
#[derive(Clone, Debug, Args)]
pub struct ShadowArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ShadowCommand,
}

/// `shadow ...`.
#[derive(Clone, Debug, Subcommand)]
pub enum ShadowCommand {
    /// Fills one from a backup and compares it; the one before it goes
    Make {
        /// Which database
        #[arg(value_name = "RESOURCE")]
        resource: String,
        /// Of which backup: its id, or the beginning of it [default: the newest good one]
        #[arg(long, value_name = "BACKUP")]
        from: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
    /// Drops it
    Drop {
        /// Which database
        #[arg(value_name = "RESOURCE")]
        resource: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
}

/// `deploy`.
#[derive(Clone, Debug, Args)]
pub struct DeployArgs {
    /// Which version: a tag, branch or commit, a folder, an image [default: the commit that is checked out]
    #[arg(value_name = "REF")]
    pub version: Option<String>,
    /// What to call the release [default: REF, else the tag or branch that is checked out]
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// For how long it is watched before it counts as good
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    pub watch: Duration,
    /// Keeps a copy of each PostgreSQL database beside it, ready to take its place at a rollback
    #[arg(long)]
    pub shadow: bool,
    /// The version that the running app has to tell
    #[arg(long, value_name = "VERSION")]
    pub tells: Option<String>,
    /// Takes migrations that cannot be taken back without loss: lossy or one-way
    #[arg(long, value_name = "HOW", hide_possible_values = true)]
    pub accept: Option<AcceptArg>,
    /// Leaves it as it is when it does not do: a person decides
    #[arg(long)]
    pub hold: bool,
    /// Deploys a version that is held for bad, for this reason
    #[arg(long, value_name = "WHY")]
    pub although_bad: Option<String>,
    /// Goes on without proving the backup that is made before
    #[arg(long)]
    pub unproven: bool,
    /// Why
    #[arg(long, value_name = "WHY", default_value = "")]
    pub reason: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub consent: ConsentArgs,
}

/// `redeploy`.
#[derive(Clone, Debug, Args)]
pub struct RedeployArgs {
    /// Which targets [default: all of them]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Why
    #[arg(long, value_name = "WHY", default_value = "")]
    pub reason: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub consent: ConsentArgs,
}

/// What somebody agrees to of migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcceptArg {
    /// Rows are not as before once they are taken back.
    Lossy,
    /// They cannot be taken back.
    OneWay,
}

/// `rollback`.
#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// Which release: its id, the beginning of it, or its label [default: the last known good one]
    pub release: Option<String>,
    /// How: app-only, app-and-down or full [default: the shortest way that works]
    #[arg(long, value_name = "WAY", hide_possible_values = true)]
    pub profile: Option<ProfileArg>,
    /// With the data of this backup, which is of the release's schema, instead of the release's own
    #[arg(long, value_name = "BACKUP", conflicts_with_all = ["revert", "workflow"])]
    pub backup: Option<String>,
    /// Takes exactly this commit back on the branch that is deployed, pushes, and waits for its build
    #[arg(long, value_name = "COMMIT", conflicts_with_all = ["release", "profile", "manual"])]
    pub revert: Option<String>,
    /// Has GitHub run this workflow with the reason, and waits for its end [default: rollback-ENVIRONMENT.yml]
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["release", "profile", "manual", "revert"])]
    pub workflow: Option<Option<String>>,
    /// With --revert, --workflow: of which target, when the environment has more than one
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// With --revert, --workflow: on this branch [default: the target's `branch`, else the remote's own]
    #[arg(long, value_name = "BRANCH")]
    pub branch: Option<String>,
    /// With --revert, --workflow: how long it may take until the build is served, or the run is over
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_duration)]
    pub within: Duration,
    /// Why
    #[arg(long, value_name = "WHY", default_value = "")]
    pub reason: String,
    /// How long whoever works here may take to its next safe point; after that its step is broken off
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Step by step: seven steps, each confirmed, done by Lifeboat or by you
    #[arg(long)]
    pub manual: bool,
    /// With --manual: begins, or goes on, with this step
    #[arg(long, value_name = "STEP", requires = "manual", value_parser = clap::value_parser!(u8).range(1..=7))]
    pub from: Option<u8>,
    /// With --manual: stops after this step
    #[arg(long, value_name = "STEP", requires = "manual", value_parser = clap::value_parser!(u8).range(1..=7))]
    pub to: Option<u8>,
    /// With --manual: goes on although points of the pre-rollback list do not stand, for this reason
    #[arg(long, value_name = "WHY", requires = "manual")]
    pub although_open: Option<String>,
    /// With --manual: you have done these steps by hand; it is looked at, and put on record
    #[arg(long, requires = "manual")]
    pub by_hand: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub consent: ConsentArgs,
}

/// `plan rollback`.
#[derive(Clone, Debug, Args)]
pub struct RollbackAsk {
    /// Which release: its id, the beginning of it, or its label [default: the last known good one]
    pub release: Option<String>,
    /// How: app-only, app-and-down or full [default: the shortest way that works]
    #[arg(long, value_name = "WAY", hide_possible_values = true)]
    pub profile: Option<ProfileArg>,
    /// With the data of this backup, which is of the release's schema, instead of the release's own
    #[arg(long, value_name = "BACKUP")]
    pub backup: Option<String>,
    /// Why
    #[arg(long, value_name = "WHY", default_value = "")]
    pub reason: String,
}

/// `rehearse`.
#[derive(Clone, Debug, Args)]
pub struct RehearseArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RehearseCommand,
}

/// What can be rehearsed, and what came of it.
#[derive(Clone, Debug, Subcommand)]
pub enum RehearseCommand {
    /// Rolls back as it would be done for real, where nothing is lost by it, and takes the time
    Rollback {
        /// Which release: its id, the beginning of it, or its label [default: the last known good one]
        release: Option<String>,
        /// How: app-only, app-and-down or full [default: the shortest way that works]
        #[arg(long, value_name = "WAY", hide_possible_values = true)]
        profile: Option<ProfileArg>,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Tries one of the four quarterly tests of a hybrid app, and puts everything back
    Sync {
        /// switch, queue, rollback or restore
        #[arg(hide_possible_values = true)]
        test: DrillArg,
        /// switch, queue: which link, when the environment has more than one
        #[arg(long, value_name = "NAME")]
        link: Option<String>,
        /// rollback: which target, when the environment has more than one
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// restore: which database [default: the one that is mirrored]
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Lists them, newest first, with each phase's time, and when the next one is due
    List,
    /// Puts on record what only a person can say of one
    Attest {
        /// Which rehearsal, by its operation
        operation: String,
        /// roles or documents
        point: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        word: AttestArgs,
    },
}

/// One of the quarterly tests, as somebody may say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DrillArg {
    /// Hold changes and deliver them again.
    Switch,
    /// Clear the queue and put it back.
    Queue,
    /// The version before this one, and this one again.
    Rollback,
    /// A backup, beside the database.
    Restore,
}

/// How a rollback goes back, as somebody may say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProfileArg {
    /// Variables alone.
    EnvOnly,
    /// The application alone.
    AppOnly,
    /// The application, and the database by its DOWN scripts.
    AppAndDown,
    /// The application, and the database from its backup.
    Full,
}

impl From<ProfileArg> for Profile {
    fn from(said: ProfileArg) -> Self {
        match said {
            ProfileArg::EnvOnly => Profile::EnvOnly,
            ProfileArg::AppOnly => Profile::AppOnly,
            ProfileArg::AppAndDown => Profile::AppAndDown,
            ProfileArg::Full => Profile::Full,
        }
    }
}

/// `sheet`.
#[derive(Clone, Debug, Args)]
pub struct SheetArgs {
    /// Of what.
    #[command(subcommand)]
    pub command: SheetCommand,
}

/// Procedures that can be printed.
#[derive(Clone, Debug, Subcommand)]
pub enum SheetCommand {
    /// The way back to a former release, step by step, as the plan has it at this moment
    Rollback {
        /// Which release: its id, the beginning of it, or its label [default: the last known good one]
        release: Option<String>,
        /// How: app-only, app-and-down or full [default: the shortest way that works]
        #[arg(long, value_name = "WAY", hide_possible_values = true)]
        profile: Option<ProfileArg>,
        /// As a page to print that needs nothing else
        #[arg(long)]
        html: bool,
        /// Writes it into a file; a name that ends in .html makes it a page
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        to: Option<PathBuf>,
    },
}

/// `releases`.
#[derive(Clone, Debug, Args)]
pub struct ReleasesArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ReleasesCommand,
}

/// What can be done with releases.
#[derive(Clone, Debug, Subcommand)]
pub enum ReleasesCommand {
    /// Lists them, newest first
    List,
    /// Lists the versions that the platform of a target has by itself
    Platform {
        /// Which target [default: the only one]
        target: Option<String>,
    },
    /// Shows what one holds: versions, migrations, variables, backup
    Show {
        /// Its id, the beginning of it, or its label
        release: String,
    },
    /// Compares error rate and response time with what they were when it was sealed
    Baseline {
        /// Its id, the beginning of it, or its label [default: what runs, or the newest good one]
        release: Option<String>,
    },
    /// Says how well one does
    Mark {
        /// Its id, the beginning of it, or its label
        release: String,
        /// good, bad or retired
        #[arg(value_name = "STATE", hide_possible_values = true)]
        verdict: StateArg,
        /// Why
        #[arg(long, value_name = "WHY", default_value = "")]
        reason: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
}

/// What can be said of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// Somebody stands for it.
    Good,
    /// It is held.
    Bad,
    /// Nobody goes back to it.
    Retired,
}

impl From<StateArg> for ReleaseState {
    fn from(said: StateArg) -> Self {
        match said {
            StateArg::Good => ReleaseState::Good,
            StateArg::Bad => ReleaseState::Bad,
            StateArg::Retired => ReleaseState::Retired,
        }
    }
}

/// `migrate`.
#[derive(Clone, Debug, Args)]
pub struct MigrateArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: MigrateCommand,
}

/// What can be done with migrations.
#[derive(Clone, Debug, Subcommand)]
pub enum MigrateCommand {
    /// Shows what was applied, what waits, what failed, and what has no DOWN script
    Status {
        /// Which database [default: the only one with migrations]
        resource: Option<String>,
    },
    /// Tries what is about to be applied on a copy of a backup: up, down, up; tells how far it can be taken back
    Rehearse {
        /// Which database [default: the only one with migrations]
        resource: Option<String>,
        /// On a copy of this backup [default: the newest good one]
        #[arg(long, value_name = "BACKUP")]
        from: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
    /// Takes migrations back by their DOWN scripts, newest first
    Revert {
        /// Which database [default: the only one with migrations]
        resource: Option<String>,
        /// This version stays, and all before it
        #[arg(long, value_name = "VERSION", conflicts_with_all = ["steps", "release"], required_unless_present_any = ["steps", "release"])]
        to: Option<String>,
        /// So many go
        #[arg(long, value_name = "NUMBER", conflicts_with = "release")]
        steps: Option<u32>,
        /// What this release had stays
        #[arg(long, value_name = "RELEASE")]
        release: Option<String>,
        /// Why
        #[arg(long, value_name = "WHY", default_value = "")]
        reason: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
}
