//! The words of commands about mirrors.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use lifeboat_model::time::parse_duration;

use super::ConsentArgs;

/// `sync`.
#[derive(Clone, Debug, Args)]
pub struct SyncArgs {
    /// Which link, when the environment has more than one
    #[arg(long, global = true, value_name = "NAME")]
    pub link: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: SyncCommand,
}

/// What to do with a mirror.
#[derive(Clone, Debug, Subcommand)]
pub enum SyncCommand {
    /// Shows what waits, what failed, when the cloud last had everything
    Status,
    /// Delivers changes again
    Enable,
    /// Holds changes from now on; none is lost
    Disable {
        /// Why
        #[arg(long, value_name = "WHY", default_value = "")]
        reason: String,
    },
    /// Delivers what waits, once
    Trigger,
    /// Delivers what waits, again and again, until it is ended
    Run,
    /// Lists, saves, clears and puts back what waits
    Queue {
        /// What to do with it
        #[command(subcommand)]
        command: QueueCommand,
    },
    /// Puts triggers into the file, makes the tables there, and copies everything
    Attach {
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Saves what waits and takes the triggers out of the file
    Detach {
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Compares both sides, row by row, and changes nothing
    Check {
        /// Only these tables
        tables: Vec<String>,
    },
    /// Makes the cloud equal to the file, writing only what differs
    Resync {
        /// Only these tables
        tables: Vec<String>,
        /// Rows that are only in the cloud stay there
        #[arg(long)]
        keep_orphans: bool,
        /// This table is meant to be empty, although the cloud has rows of it
        #[arg(long, value_name = "TABLE")]
        emptied: Vec<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Removes rows that the cloud has twice, makes that impossible, and makes the cloud equal
    Repair {
        /// Only these tables
        tables: Vec<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Makes columns of the cloud wider that cannot hold what the file has
    Widen {
        /// Which tables [default: those with rows that were set aside for it]
        tables: Vec<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Inserts rows into the file that only the cloud had, from where level 5 saved them
    Merge {
        /// The file of saved rows; level 5 says where it is
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Lets deletes go on that were held because they looked like an accident
    Confirm {
        /// Only of these tables
        tables: Vec<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
}

/// What to do with a queue.
#[derive(Clone, Debug, Subcommand)]
pub enum QueueCommand {
    /// Lists what waits, oldest first, and rows that are set aside
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Writes what waits into a file; it goes on waiting
    Save {
        /// The file; it must not exist yet
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Saves what waits and takes it out of the queue: it never reaches the cloud
    Clear {
        /// Why; needed while no more than 1,000 changes wait
        #[arg(long, value_name = "WHY", default_value = "")]
        reason: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Puts a saved queue back; rows are delivered as they are then
    Import {
        /// The file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Tries rows again that were set aside
    Retry {
        /// Only these, by their numbers
        ids: Vec<i64>,
    },
    /// Forgets rows that were set aside; the cloud goes on without them
    Drop {
        /// Only these, by their numbers
        ids: Vec<i64>,
    },
}

/// `advise`.
#[derive(Clone, Debug, Args)]
pub struct AdviseArgs {
    /// What is wrong, in words: sync errors, queue growing, bad deployment, supabase down, data corruption, complete failure
    #[arg(conflicts_with = "list")]
    pub symptom: Vec<String>,
    /// Lists every symptom with what is done about it
    #[arg(long)]
    pub list: bool,
    /// Which link, when the environment has more than one
    #[arg(long, value_name = "NAME")]
    pub link: Option<String>,
}

/// `app`.
#[derive(Clone, Debug, Args)]
pub struct AppArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AppCommand,
}

/// What can be done with what runs the app's code.
#[derive(Clone, Debug, Subcommand)]
pub enum AppCommand {
    /// Stops it and starts it with more memory for Node, until it is taken back
    Start {
        /// How much, in MiB: NODE_OPTIONS=--max-old-space-size=MIB
        #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
        node_memory: u32,
        /// Why
        #[arg(long, value_name = "WHY", default_value = "")]
        reason: String,
        /// Which target, when the environment has more than one
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
}

/// `level`.
#[derive(Clone, Debug, Args)]
pub struct LevelArgs {
    /// 1 holds changes; 2 clears the queue; 3 rolls the application back; 4 copies everything anew; 5 recovers all
    #[arg(value_parser = clap::value_parser!(u8).range(1..=5))]
    pub level: u8,
    /// Why
    #[arg(long, value_name = "WHY", default_value = "")]
    pub reason: String,
    /// Which link, when the environment has more than one
    #[arg(long, value_name = "NAME")]
    pub link: Option<String>,
    /// Levels 3 and 5: which target, when the environment has more than one
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Level 1: set SYNC_ENABLED=false and start the app again; done by itself when the mirror's switch cannot be used
    #[arg(long)]
    pub by_variable: bool,
    /// Level 3: set ENABLE_SUPABASE=false and start the app again; what is done when nothing else is said
    #[arg(long, conflicts_with_all = ["to", "stable"])]
    pub local_only: bool,
    /// Level 3: back to this commit; level 5: run this version
    #[arg(long, value_name = "VERSION", conflicts_with = "stable")]
    pub to: Option<String>,
    /// Level 3 with --to: take commits out of the branch instead of adding one; they stay in a branch of their own
    #[arg(long, requires = "to")]
    pub hard: bool,
    /// Level 3: run the stable version, or this one; what is there now stays in a branch of its own
    #[arg(long, value_name = "VERSION", num_args = 0..=1)]
    pub stable: Option<Option<String>>,
    /// Level 5: from this backup; the newest proven one when nothing is said
    #[arg(long, value_name = "BACKUP")]
    pub from: Option<String>,
    /// Level 5: go on although this is missing: application, cloud
    #[arg(long, value_name = "WHAT")]
    pub without: Vec<String>,
    /// Level 5: how long the mirror is watched in the end
    #[arg(long, value_name = "TIME", default_value = "15m")]
    pub watch: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub consent: ConsentArgs,
}

/// `monitor`.
#[derive(Clone, Debug, Args)]
pub struct MonitorArgs {
    /// What is looked at.
    #[command(subcommand)]
    pub what: MonitorCommand,
}

/// What can be looked at.
#[derive(Clone, Debug, Subcommand)]
pub enum MonitorCommand {
    /// The queue, rows that failed, the last delivery, and whether the daemon answers
    Sync {
        /// Which link, when the environment has more than one
        #[arg(long, value_name = "NAME")]
        link: Option<String>,
        /// Where the daemon listens
        #[arg(long, value_name = "ADDRESS:PORT", default_value = lifeboat_web::DEFAULT_LISTEN)]
        daemon: std::net::SocketAddr,
        /// After which time a mirror that was switched off on purpose is an alert again
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
        remind_after: std::time::Duration,
    },
}
