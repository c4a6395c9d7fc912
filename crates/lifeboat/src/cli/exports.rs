//! The words of commands that carry data and knowledge out to people, scripts and other programs.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use lifeboat_model::ExportFormat;

use super::RunArgs;

/// `export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Which resources: names from the settings, or sqlite:PATH, files:PATH, env:PATH
    #[arg(value_name = "RESOURCE", required_unless_present = "all", conflicts_with = "all")]
    pub resources: Vec<String>,
    /// Every resource
    #[arg(long)]
    pub all: bool,
    /// Out of this backup, whatever it is: its id, or the beginning of it [default: the newest good one]
    #[arg(long, value_name = "BACKUP", conflicts_with = "before")]
    pub from: Option<String>,
    /// Out of the newest good backup that is complete before this: 14:05, "2026-11-20 14:05", "2h ago", or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
    /// The folder; it must not exist yet. With --format sql or custom also one file: NAME.sql, NAME.sql.gz, NAME.dump
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub to: PathBuf,
    /// How databases come out: sqlite (as they are in the vault), csv (one file a table); PostgreSQL also as sql (one file
    /// for psql) or custom (an archive for pg_restore)
    #[arg(long, value_name = "FORMAT", default_value = "sqlite", hide_possible_values = true)]
    pub format: FormatArg,
    /// Only these tables; with --format csv or sql
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Rows alone, for a database that the app's migrations have made; with --format sql
    #[arg(long)]
    pub data_only: bool,
    /// Compresses SQL [default: when the file is called NAME.sql.gz]
    #[arg(long)]
    pub gzip: bool,
    /// The archive is made on this server in place of the database's own, with --format custom: postgres:ADDRESS of any
    /// database of it
    #[arg(long, value_name = "SERVER")]
    pub server: Option<String>,
    /// Encrypts every file for this public key of age (age1...); once for each who is to read it
    #[arg(long, value_name = "PUBLIC-KEY")]
    pub encrypt: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// How databases come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// The database file.
    Sqlite,
    /// One file a table.
    Csv,
    /// One file of SQL.
    Sql,
    /// An archive of PostgreSQL's own.
    Custom,
}

impl From<FormatArg> for ExportFormat {
    fn from(format: FormatArg) -> ExportFormat {
        match format {
            FormatArg::Sqlite => ExportFormat::Sqlite,
            FormatArg::Csv => ExportFormat::Csv,
            FormatArg::Sql => ExportFormat::Sql,
            FormatArg::Custom => ExportFormat::Custom,
        }
    }
}

/// `backups adopt`. The resource is said with `--resource` or `--for`.
#[derive(Clone, Debug, Args)]
pub struct AdoptArgs {
    /// The file: a SQLite database that some script copied; or a dump of a PostgreSQL database: .sql, .sql.gz, or pg_dump's
    /// custom, tar or directory format. It is left alone
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Which resource it is a backup of; the same as --for
    #[arg(long, value_name = "RESOURCE")]
    pub resource: Option<String>,
    /// Up to when it is complete [default: the time in its name, read as UTC; else when it last changed]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// What to call it [default: adopted: NAME]
    #[arg(long)]
    pub label: Option<String>,
    /// A dump is loaded on this server in place of the resource's own: postgres:ADDRESS of any database of it
    #[arg(long, value_name = "SERVER")]
    pub server: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// What `backup` does besides, for people and scripts that look for a file.
#[derive(Clone, Debug, Default, Args)]
pub struct CopyArgs {
    /// Brings the database out of the new backup into a file too, verified; YYYYMMDD and HHMMSS stand for its time (UTC)
    #[arg(long, value_name = "PATTERN", value_hint = ValueHint::FilePath)]
    pub copy_to: Option<PathBuf>,
    /// Renews the file NAME.backup beside the database, so that it is the newest verified copy
    #[arg(long, requires = "copy_to")]
    pub alias: bool,
}

/// `shims`.
#[derive(Clone, Debug, Args)]
pub struct ShimsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ShimsCommand,
}

/// What can be done with shims.
#[derive(Clone, Debug, Subcommand)]
pub enum ShimsCommand {
    /// Writes scripts/backup-now.sh; a file that is there already stays as it is
    Install {
        /// Where the app's scripts folder is, or will be
        #[arg(long, value_name = "FOLDER", default_value = ".", value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// Which database the script copies [default: the only one]
        #[arg(value_name = "RESOURCE")]
        resource: Option<String>,
    },
    /// Writes .github/workflows/rollback-ENVIRONMENT.yml; a file that is there already stays as it is
    Workflow {
        /// The folder of the repository
        #[arg(long, value_name = "FOLDER", default_value = ".", value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

/// `schedule`.
#[derive(Clone, Debug, Args)]
pub struct ScheduleArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ScheduleCommand,
}

/// What can be asked of the schedule.
#[derive(Clone, Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Lists what the daemon does by itself: when next, when last, and whether it is late
    List,
    /// Prints what another scheduler has to run where no daemon does it
    Show {
        /// For whom: crontab or systemd
        #[arg(long, value_name = "FORMAT", default_value = "crontab", hide_possible_values = true)]
        format: SchedulerArg,
    },
}

/// Another scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchedulerArg {
    /// Lines of a crontab.
    Crontab,
    /// Timers and services.
    Systemd,
}

/// `docs`.
#[derive(Clone, Debug, Args)]
pub struct DocsArgs {
    /// Which one.
    #[command(subcommand)]
    pub command: DocsCommand,
}

/// Documents about an app, made from its settings and its records.
#[derive(Clone, Debug, Subcommand)]
pub enum DocsCommand {
    /// Prints a card for the wall, as Markdown: what has happened, what to type, how long it takes, what it risks
    Card,
    /// Writes the procedure for going back by hand: real names, and commands that need no Lifeboat
    Export {
        /// The file [default: docs/operations/manual-rollback-procedure.md beside the settings]
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        to: Option<PathBuf>,
    },
}
