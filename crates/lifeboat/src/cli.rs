//! The words of the command line, as types. Nothing here does anything; `commands` does.

pub mod daemon;
pub mod decisions;
pub mod exports;
mod help;
pub mod people;
pub mod records;
pub mod reference;
pub mod servers;
pub mod sync;
pub mod vaults;
pub mod versions;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use lifeboat_model::AcceptLoss;

use self::{
    daemon::{MaintenanceArgs, ServeArgs, TokenArgs},
    decisions::{AssessArgs, DecideArgs},
    exports::{AdoptArgs, CopyArgs, DocsArgs, ExportArgs, ScheduleArgs, ShimsArgs},
    people::{EscalationArgs, FeatureArgs},
    records::{
        AttestArgs, ChecklistArgs, CompromisedArgs, EnvArgs, EvidenceArgs, HistoryArgs, IncidentArgs, LogsArgs,
        MessagesArgs, ProviderArgs, ReadyArgs,
    },
    servers::{FenceArgs, PolicyArgs, SalvageArgs},
    sync::{AdviseArgs, AppArgs, LevelArgs, MonitorArgs, SyncArgs},
    vaults::VaultArgs,
    versions::{
        CheckpointArgs, DeployArgs, MigrateArgs, RedeployArgs, RehearseArgs, ReleasesArgs, RollbackArgs, ShadowArgs,
        SheetArgs,
    },
};

/// Backups that are proven by restoring them, and a way back when something went wrong.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "lifeboat",
    version,
    about = "Brings databases and files back, and proves beforehand that it can",
    after_help = help::TOP,
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands",
    max_term_width = 110
)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do; without it, a short guide.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What every command understands.
#[derive(Clone, Debug, Default, Args)]
pub struct GlobalArgs {
    /// The settings file [default: lifeboat.toml here or in a folder above; LIFEBOAT_CONFIG]
    #[arg(long, global = true, env = "LIFEBOAT_CONFIG", hide_env = true, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
    /// Which environment is meant, when the settings file has more than one
    #[arg(short = 'e', long = "env", global = true, value_name = "NAME", help_heading = "Everywhere")]
    pub environment: Option<String>,
    /// Another vault than usual: a copy by its name in the settings, a folder, or s3://bucket/prefix
    #[arg(long, global = true, value_name = "LOCATION", help_heading = "Everywhere")]
    pub vault: Option<String>,
    /// What a command is about when there is no settings file: sqlite:PATH, files:PATH or env:PATH
    #[arg(long = "for", global = true, value_name = "KIND:PATH", help_heading = "Everywhere")]
    pub about: Vec<String>,
    /// Where Lifeboat keeps its journals and its index [default: the user's state folder; LIFEBOAT_STATE]
    #[arg(long, global = true, env = "LIFEBOAT_STATE", hide_env = true, value_name = "FOLDER", value_hint = ValueHint::DirPath, help_heading = "Everywhere")]
    pub state: Option<PathBuf>,
    /// Answers as JSON: one document at the end, or journal lines as they happen (--json=lines)
    #[arg(long, global = true, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "document", hide_possible_values = true, help_heading = "Everywhere")]
    pub json: Option<JsonMode>,
    /// Says only what was asked for, and what went wrong
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
    /// Colour: auto, always or never; NO_COLOR is honoured
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Everywhere"
    )]
    pub color: ColorWhen,
    /// Agrees beforehand to what can be undone; never to losing rows
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub yes: bool,
}

/// How answers are written for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JsonMode {
    /// One document at the end.
    Document,
    /// One journal entry a line, as they happen.
    Lines,
}

/// When colour is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Everything one can ask for.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Shows where everything stands: backups, proofs, how long a restore will take
    #[command(after_help = help::STATUS, display_order = 1)]
    Status(StatusArgs),
    /// Brings a resource back; what is there now is kept and can be swapped back
    #[command(after_help = help::RESTORE, display_order = 2)]
    Restore(RestoreArgs),
    /// Takes back what an operation did; without a name, the newest that can be
    #[command(after_help = help::UNDO, display_order = 3)]
    Undo(UndoArgs),
    /// Goes on with an operation that was interrupted
    #[command(after_help = help::RESUME, display_order = 4)]
    Resume(UnfinishedArgs),
    /// Takes back what an interrupted operation has done so far
    #[command(after_help = help::ABORT, display_order = 5)]
    Abort(UnfinishedArgs),
    /// Follows an operation live, also one of another process; ends when it is over
    #[command(after_help = help::WATCH, display_order = 6)]
    Watch(OperationArg),
    /// Takes a backup: consistent, verified, listed
    #[command(after_help = help::BACKUP, display_order = 10)]
    Backup(BackupArgs),
    /// Lists backups, looks into them, and says something about them
    #[command(after_help = help::BACKUPS, display_order = 11)]
    Backups(BackupsArgs),
    /// Restores a backup into a sandbox, checks it, and records the proof
    #[command(after_help = help::PROVE, display_order = 12)]
    Prove(ProveArgs),
    /// Brings resources out of a backup into a new folder: database files, or tables as CSV
    #[command(after_help = help::EXPORT, display_order = 13)]
    Export(ExportArgs),
    /// Writes the scripts that an app's own documents name
    #[command(after_help = help::SHIMS, display_order = 43)]
    Shims(ShimsArgs),
    /// Says what is to run when
    #[command(after_help = help::SCHEDULE, display_order = 44)]
    Schedule(ScheduleArgs),
    /// Makes documents about the app
    #[command(after_help = help::DOCS, display_order = 45)]
    Docs(DocsArgs),
    /// Looks whether what is live is sound: integrity, tables, your own questions
    #[command(after_help = help::VERIFY, display_order = 13)]
    Verify(VerifyArgs),
    /// Makes a plan, shows it, and keeps it for `apply`; changes nothing
    #[command(after_help = help::PLAN, display_order = 20)]
    Plan(PlanArgs),
    /// Carries out a plan; refuses when what it rests on has changed
    #[command(after_help = help::APPLY, display_order = 21)]
    Apply(ApplyArgs),
    /// Deletes what a restore set aside
    #[command(after_help = help::RELEASE, display_order = 22)]
    Release(ReleaseArgs),
    /// Stops all writes to a PostgreSQL database, and lets them in again
    #[command(after_help = help::FENCE, display_order = 22)]
    Fence(FenceArgs),
    /// Row-level security of a table in PostgreSQL: listed, repaired, opened for a while
    #[command(after_help = help::POLICY, display_order = 22)]
    Policy(PolicyArgs),
    /// Closes the app for everybody who comes through the gateway, and opens it again
    #[command(after_help = help::MAINTENANCE, display_order = 22)]
    Maintenance(MaintenanceArgs),
    /// Switches features of the app off one by one, and on again
    #[command(after_help = help::FEATURE, display_order = 22)]
    Feature(FeatureArgs),
    /// Shows rows that left a PostgreSQL database with a restore, brings them back
    #[command(after_help = help::SALVAGE, display_order = 22)]
    Salvage(SalvageArgs),
    /// Mirrors a SQLite file to a PostgreSQL database: switches, queue, comparing
    #[command(after_help = help::SYNC, display_order = 25)]
    Sync(SyncArgs),
    /// Says what to do about a symptom, or about what it measures, and changes nothing
    #[command(after_help = help::ADVISE, display_order = 23)]
    Advise(AdviseArgs),
    /// Starts the app otherwise for a while: with more memory for Node
    #[command(after_help = help::APP, display_order = 24)]
    App(AppArgs),
    /// Shows who is to be called when in an emergency, and whose turn it is
    #[command(after_help = help::ESCALATION, display_order = 23)]
    Escalation(EscalationArgs),
    /// The emergency levels of a mirrored app, each within its budget
    #[command(after_help = help::LEVEL, display_order = 24)]
    Level(LevelArgs),
    /// Looks at the mirror as a monitoring script would; silent when all is well
    #[command(after_help = help::MONITOR, display_order = 28)]
    Monitor(MonitorArgs),
    /// Runs the daemon: delivers for mirrors, answers over HTTP
    #[command(after_help = help::SERVE, display_order = 26)]
    Serve(ServeArgs),
    /// Says who may use the daemon's HTTP API
    #[command(after_help = help::TOKEN, display_order = 27)]
    Token(TokenArgs),
    /// Says point by point whether the app is ready for production
    #[command(after_help = help::READY, display_order = 23)]
    Ready(ReadyArgs),
    /// Says which backups stay, why, and which may go
    #[command(after_help = help::RETENTION, display_order = 23)]
    Retention(RetentionArgs),
    /// Looks after the vault itself
    #[command(after_help = help::VAULT, display_order = 24)]
    Vault(VaultArgs),
    /// Seals what runs, with a proven backup of its data: something to go back to
    #[command(after_help = help::CHECKPOINT, display_order = 14)]
    Checkpoint(CheckpointArgs),
    /// Brings a version and puts it in use; goes back by itself when it does not do
    #[command(after_help = help::DEPLOY, display_order = 14)]
    Deploy(DeployArgs),
    /// Keeps a copy of a backup beside the live database, ready to take its place
    #[command(after_help = help::SHADOW, display_order = 13)]
    Shadow(ShadowArgs),
    /// Deploys everything that runs the code once more, edge functions last
    #[command(after_help = help::REDEPLOY, display_order = 14)]
    Redeploy(RedeployArgs),
    /// Goes back to a former release: application and database together, by the shortest way
    #[command(after_help = help::ROLLBACK, display_order = 15)]
    Rollback(RollbackArgs),
    /// Rehearses a rollback in staging: the same plan, timed, on record
    #[command(after_help = help::REHEARSE, display_order = 15)]
    Rehearse(RehearseArgs),
    /// Lists releases, shows one, says how well one does
    #[command(after_help = help::RELEASES, display_order = 16)]
    Releases(ReleasesArgs),
    /// Shows which migrations were applied, and takes some back by their DOWN scripts
    #[command(after_help = help::MIGRATE, display_order = 17)]
    Migrate(MigrateArgs),
    /// Prints a procedure as commands with real values, for the day without Lifeboat
    #[command(after_help = help::SHEET, display_order = 18)]
    Sheet(SheetArgs),
    /// Holds what was promised against what was measured: data loss, restores, rollbacks
    #[command(after_help = help::OBJECTIVES, display_order = 29)]
    Objectives,
    /// Lists what was done, newest first
    #[command(after_help = help::HISTORY, display_order = 30)]
    History(HistoryArgs),
    /// Collects evidence about an operation, and looks whether it was changed since
    #[command(after_help = help::EVIDENCE, display_order = 32)]
    Evidence(EvidenceArgs),
    /// Opens, closes and reviews incidents; until its review nothing of one is deleted
    #[command(after_help = help::INCIDENT, display_order = 34)]
    Incident(IncidentArgs),
    /// Decides by rules and measured facts whether the release is rolled back
    #[command(after_help = help::DECIDE, display_order = 34)]
    Decide(DecideArgs),
    /// Fills in how far something reaches: severity, users, systems, data, quick fix
    #[command(after_help = help::ASSESS, display_order = 34)]
    Assess(AssessArgs),
    /// Restores that a provider carries out: what to ask for, what became of it
    #[command(after_help = help::PROVIDER, display_order = 35)]
    Provider(ProviderArgs),
    /// Shows the checklists as they stand, and takes a person's word
    #[command(after_help = help::CHECKLIST, display_order = 34)]
    Checklist(ChecklistArgs),
    /// Shows what was told to whom, and delivers again what was not delivered
    #[command(after_help = help::MESSAGES, display_order = 35)]
    Messages(MessagesArgs),
    /// Compares an env file with its backups by names and fingerprints, never by values
    #[command(after_help = help::ENV, display_order = 33)]
    Env(EnvArgs),
    /// Looks through logs of the app: files, and the table it keeps itself
    #[command(after_help = help::LOGS, display_order = 33)]
    Logs(LogsArgs),
    /// Shows, verifies or exports the journals of operations
    #[command(after_help = help::JOURNAL, display_order = 31)]
    Journal(JournalArgs),
    /// Shows all of it on a small shop of its own: backup, proof, disaster, restore, undo
    #[command(after_help = help::DEMO, display_order = 39)]
    Demo(DemoArgs),
    /// What the demo's till does in a process of its own
    #[command(hide = true)]
    DemoTill(DemoTillArgs),
    /// Writes a settings file for what it finds here
    #[command(after_help = help::INIT, display_order = 40)]
    Init(InitArgs),
    /// Looks whether a restore could begin now: backup, tools, password, rehearsal
    #[command(after_help = help::PREFLIGHT, display_order = 13)]
    Preflight(PreflightArgs),
    /// Looks whether everything is there that a backup and a restore will need
    #[command(after_help = help::DOCTOR, display_order = 41)]
    Doctor(DoctorArgs),
    /// Checks and shows the settings
    #[command(after_help = help::CONFIG, display_order = 42)]
    Config(ConfigArgs),
    /// Prints completions for a shell
    #[command(after_help = help::COMPLETIONS, display_order = 50)]
    Completions(CompletionsArgs),
    /// Prints the manual page, or writes all pages into a folder
    #[command(after_help = help::MAN, display_order = 51)]
    Man(ManArgs),
}

/// What commands that change something understand.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Shows what would happen, looks at what can be looked at, changes nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What commands understand whose effect a person has to agree to.
#[derive(Clone, Debug, Default, Args)]
pub struct ConsentArgs {
    /// Shows what would happen, looks at what can be looked at, changes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Agrees, by the name of app and environment, to rows leaving the live data, or to deleting for good
    #[arg(long, value_name = "APP/ENV")]
    pub confirm: Option<String>,
}

/// `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Ends with exit code 10 unless all is known to be well
    #[arg(long)]
    pub exit_code: bool,
}

/// What a backup is made of.
#[derive(Clone, Debug, Args)]
pub struct BackupAsk {
    /// Which resources: names from the settings, or sqlite:PATH, files:PATH, env:PATH [default: all]
    #[arg(value_name = "RESOURCE")]
    pub resources: Vec<String>,
    /// What to call it
    #[arg(long)]
    pub label: Option<String>,
    /// Why it is made: manual, scheduled or pre-deploy
    #[arg(long, default_value = "manual", hide_possible_values = true)]
    pub reason: ReasonArg,
}

/// `backup`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub ask: BackupAsk,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub copy: CopyArgs,
    /// What is deployed: a tag, an image, a release; the git commit of the app's folder is put on record anyway
    #[arg(long = "ref", value_name = "REF")]
    pub deployed: Option<String>,
}

/// Why a backup is made, as somebody may say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReasonArg {
    /// Somebody asks.
    Manual,
    /// The clock asks.
    Scheduled,
    /// Before a deploy.
    PreDeploy,
}

/// `backups`.
#[derive(Clone, Debug, Args)]
pub struct BackupsArgs {
    /// What about them.
    #[command(subcommand)]
    pub command: BackupsCommand,
}

/// What can be asked or said about backups.
#[derive(Clone, Debug, Subcommand)]
pub enum BackupsCommand {
    /// Lists all backups, newest first
    List,
    /// Shows what is in a backup: tables and rows, files, proofs, why it is kept
    Show(BackupArg),
    /// Reads every byte of a backup and compares it with its manifest
    Verify(BackupArg),
    /// Compares two backups: tables whose rows or contents differ, files, names of variables
    Diff {
        /// The one to begin with, by its id or the beginning of it
        #[arg(value_name = "BACKUP")]
        left: String,
        /// The other one
        #[arg(value_name = "OTHER")]
        right: String,
    },
    /// Takes a file that a script made into the vault, as a backup of the resource named with --for
    Adopt(AdoptArgs),
    /// Nobody may delete it until it is released again with `unhold`
    Hold(MarkArgs),
    /// The rules of retention apply to it again
    Unhold(UnmarkArgs),
    /// It is never chosen by itself: the damage may be in it already
    Suspect(MarkArgs),
    /// It may be chosen again
    Trust(UnmarkArgs),
    /// Says that a secret got into wrong hands: its values in backups of that time do not come back into env files
    Compromised(CompromisedArgs),
}

/// One backup.
#[derive(Clone, Debug, Args)]
pub struct BackupArg {
    /// Its id, or the beginning of it
    pub backup: String,
}

/// A mark with its reason.
#[derive(Clone, Debug, Args)]
pub struct MarkArgs {
    /// Its id, or the beginning of it
    pub backup: String,
    /// The reason, in a few words
    #[arg(long, value_name = "REASON")]
    pub why: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// A mark that is taken off.
#[derive(Clone, Debug, Args)]
pub struct UnmarkArgs {
    /// Its id, or the beginning of it
    pub backup: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// What is proven.
#[derive(Clone, Debug, Args)]
pub struct ProveAsk {
    /// Which backup: its id, or the beginning of it [default: the newest good one]
    pub backup: Option<String>,
    /// Only these resources in it
    #[arg(long = "resource", value_name = "RESOURCE")]
    pub resources: Vec<String>,
}

/// `prove`.
#[derive(Clone, Debug, Args)]
pub struct ProveArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub ask: ProveAsk,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// What is restored, from where, to where.
#[derive(Clone, Debug, Args)]
pub struct RestoreAsk {
    /// Which resource: its name in the settings, or sqlite:PATH, files:PATH, env:PATH
    pub resource: String,
    /// From this backup, whatever it is: its id, or the beginning of it; or from the newest good one of another
    /// environment, by its name [default: the newest good one of its own]
    #[arg(long, value_name = "BACKUP", conflicts_with = "before")]
    pub from: Option<String>,
    /// From the newest good backup that is complete before this: 14:05, "2026-11-20 14:05", "2h ago", or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
    /// To this path instead of where it lives; the path must be free
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub into: Option<PathBuf>,
    /// Takes no backup of what is there now, for this reason; the files themselves are kept all the same
    #[arg(long, value_name = "REASON")]
    pub without_emergency_backup: Option<String>,
    /// Agrees to so many rows being lost, or to "any" [default: what the plan shows, and nothing written since]
    #[arg(long, value_name = "ROWS", value_parser = accept_loss)]
    pub accept_loss: Option<AcceptLoss>,
    /// Goes on where it would be refused: without the rehearsal that is demanded, or with a secret that has leaked; with the reason
    #[arg(long, requires = "reason")]
    pub urgent: bool,
    /// Why it is urgent; written into the journal
    #[arg(long, value_name = "REASON", requires = "urgent")]
    pub reason: Option<String>,
    /// Says that the last try from the same backup failed, by the class that was told, and that it was dealt with
    #[arg(long, value_name = "CLASS")]
    pub ack: Option<String>,
    /// PostgreSQL: what was in tablespace OLD goes into NEW; may be said several times
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    pub tablespace: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        Some(_) | None => Err("write OLD=NEW, such as fast=pg_default".to_owned()),
    }
}

fn accept_loss(text: &str) -> Result<AcceptLoss, String> {
    match (text, text.parse()) {
        ("any", _) => Ok(AcceptLoss::Any),
        (_, Ok(rows)) => Ok(AcceptLoss::Rows(rows)),
        (_, Err(_)) => Err("write a number of rows, or any".to_owned()),
    }
}

/// `restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub ask: RestoreAsk,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub rows: servers::RowsAsk,
    /// PostgreSQL: when it fails and is put back, goes no other way by itself
    #[arg(long)]
    pub one_way: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub consent: ConsentArgs,
}

/// `undo`.
#[derive(Clone, Debug, Args)]
pub struct UndoArgs {
    /// Which operation: its id, or the beginning of it [default: the newest that can be undone]
    pub operation: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub consent: ConsentArgs,
}

/// `resume`, `abort`.
#[derive(Clone, Debug, Args)]
pub struct UnfinishedArgs {
    /// Which operation: its id, or the beginning of it [default: the only one that is not over]
    pub operation: Option<String>,
    /// Shows how it stands and what would be done, changes nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// An operation, or the one that suggests itself.
#[derive(Clone, Debug, Args)]
pub struct OperationArg {
    /// Which operation: its id, or the beginning of it [default: the one that is not over, else the newest]
    pub operation: Option<String>,
}

/// `plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// What is planned.
    #[command(subcommand)]
    pub what: PlanCommand,
}

/// What can be planned.
#[derive(Clone, Debug, Subcommand)]
pub enum PlanCommand {
    /// Plans a backup
    Backup(BackupAsk),
    /// Plans a restore
    Restore(RestoreAsk),
    /// Plans a proof
    Prove(ProveAsk),
    /// Plans a rollback
    Rollback(versions::RollbackAsk),
    /// Plans which backups may go
    Retention,
    /// Plans freeing the space that no backup needs
    Prune,
    /// Plans taking an operation back
    Undo(OperationArg),
    /// Plans deleting what a restore set aside
    Release {
        /// Which operation: its id, or the beginning of it
        operation: String,
    },
}

/// `apply`.
#[derive(Clone, Debug, Args)]
pub struct ApplyArgs {
    /// The plan: its id, the beginning of it, or a file
    pub plan: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub consent: ConsentArgs,
}

/// `release`.
#[derive(Clone, Debug, Args)]
pub struct ReleaseArgs {
    /// Which operation: its id, or the beginning of it
    pub operation: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub consent: ConsentArgs,
}

/// `retention`.
#[derive(Clone, Debug, Args)]
pub struct RetentionArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RetentionCommand,
}

/// What retention can be asked.
#[derive(Clone, Debug, Subcommand)]
pub enum RetentionCommand {
    /// Says of every backup why it stays and until when, or why it may go; changes nothing
    Plan,
    /// Takes what may go off the list; its bytes stay until `vault prune`
    Apply(ConsentArgs),
    /// Puts on record that somebody has looked at what is kept until when; `status` asks for it after each restore
    Attest(AttestArgs),
}

/// `verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// Which resources [default: all]
    #[arg(value_name = "RESOURCE")]
    pub resources: Vec<String>,
    /// Structure, references, counts of rows and your questions; within two minutes
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// Every row too, and the newest good backup for comparison; within ten minutes [default]
    #[arg(long)]
    pub full: bool,
    /// The data was just restored from this backup: nothing in it may be newer, samples must be the same
    #[arg(long, value_name = "BACKUP")]
    pub against: Option<String>,
    /// By how much the number of rows of a table may differ from the backup
    #[arg(long, value_name = "PERCENT", default_value_t = 50)]
    pub tolerance: u32,
    /// Asks a PostgreSQL database what this file asserts: [[check]] with name, sql and expect
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub checks: Option<PathBuf>,
}

/// `preflight`.
#[derive(Clone, Debug, Args)]
pub struct PreflightArgs {
    /// What is to be done.
    #[command(subcommand)]
    pub what: PreflightCommand,
}

/// What can be looked at beforehand.
#[derive(Clone, Debug, Subcommand)]
pub enum PreflightCommand {
    /// What a restore needs
    #[command(alias = "rollback")]
    Restore {
        /// Which resources: names from the settings, or sqlite:PATH, files:PATH, env:PATH [default: all]
        #[arg(value_name = "RESOURCE")]
        resources: Vec<String>,
    },
}

/// `journal`.
#[derive(Clone, Debug, Args)]
pub struct JournalArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: JournalCommand,
}

/// What can be asked of journals.
#[derive(Clone, Debug, Subcommand)]
pub enum JournalCommand {
    /// Shows what happened in an operation, line by line
    Show(OperationArg),
    /// Recomputes the chain of digests; without a name, of every journal
    Verify(OperationArg),
    /// Prints the journal as it lies on disk: one JSON line an entry
    Export(OperationArg),
}

/// `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Where the shop is made; the folder must not exist yet [default: a new folder for temporary files]
    #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub folder: Option<PathBuf>,
}

/// `demo-till`.
#[derive(Clone, Debug, Args)]
pub struct DemoTillArgs {
    /// The shop's database
    pub database: PathBuf,
    /// The file that closes the shop
    pub until: PathBuf,
}

/// `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// What to protect: sqlite:PATH, files:PATH, env:PATH [default: what is found here]
    #[arg(value_name = "KIND:PATH")]
    pub resources: Vec<String>,
    /// The app's name [default: the folder's]
    #[arg(long)]
    pub app: Option<String>,
    /// Shows the file, writes nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {}

/// `config`.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What can be asked of the settings.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Checks the settings file, and lists every placeholder that is not filled in
    Check,
    /// Shows the settings in effect, and where each comes from
    Show,
    /// Prints the JSON Schema of the settings file, for editors
    Schema,
}

/// `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Where to write the pages, one a command [default: the main page to standard output]
    #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub folder: Option<PathBuf>,
}
