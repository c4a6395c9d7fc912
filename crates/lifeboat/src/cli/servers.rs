//! The words of commands about databases on servers.

use clap::{Args, Subcommand};

use super::ConsentArgs;

/// `fence`.
#[derive(Clone, Debug, Args)]
pub struct FenceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: FenceCommand,
}

/// What to do with a fence.
#[derive(Clone, Debug, Subcommand)]
pub enum FenceCommand {
    /// Refuses every write from now on, and shows that none is left
    On {
        /// Which database: its name in lifeboat.toml, or postgres:ADDRESS
        resource: String,
        /// Why; whoever is refused can read it in the database
        #[arg(long, value_name = "WHY")]
        reason: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Lets writes in again, whoever made the fence
    Off {
        /// Which database: its name in lifeboat.toml, or postgres:ADDRESS
        resource: String,
    },
    /// Says whether there is a fence, who made it and what it leaves open
    Status {
        /// Which database: its name in lifeboat.toml, or postgres:ADDRESS
        resource: String,
    },
}

/// One table, in place of all of a database.
#[derive(Clone, Debug, Default, Args)]
pub struct RowsAsk {
    /// PostgreSQL: only this table, into a schema beside; says how it differs from the live one, which stays as it is
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["into", "without_emergency_backup", "accept_loss", "urgent"])]
    pub table: Option<String>,
    /// Only rows for which this SQL is true, such as "customer = 7"
    #[arg(long = "where", value_name = "SQL", requires = "table")]
    pub condition: Option<String>,
    /// Inserts the rows that the live table lacks; over a row that is there only with --overwrite
    #[arg(long, requires = "table")]
    pub apply: bool,
    /// With --apply: gives rows that have other values those of the backup
    #[arg(long, requires = "apply")]
    pub overwrite: bool,
}

/// `salvage`.
#[derive(Clone, Debug, Args)]
pub struct SalvageArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SalvageCommand,
}

/// What to do with rows that left.
#[derive(Clone, Debug, Subcommand)]
pub enum SalvageCommand {
    /// Lists operations that keep rows, or the tables of one of them
    List {
        /// Which operation: its id, or the beginning of it
        operation: Option<String>,
    },
    /// Shows rows: those that came, both versions of those that changed, those that had gone
    Show {
        /// Which operation: its id, or the beginning of it
        operation: String,
        /// Only this table
        #[arg(long = "table", value_name = "TABLE")]
        tables: Vec<String>,
    },
    /// Says what the app's own audit log tells of a span of time, and which backup is from before it
    Scope {
        /// Which database: its name in lifeboat.toml, or postgres:ADDRESS
        resource: String,
        /// From when on: 14:05, "2026-11-20 14:05", "24h ago", or RFC 3339 [default: 24h ago]
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only rows for which this SQL is true, such as "table_name = 'orders' AND action = 'UPDATE'"
        #[arg(long = "where", value_name = "SQL")]
        condition: Option<String>,
        /// The table or view [default: audit_log and its like]
        #[arg(long, value_name = "TABLE")]
        table: Option<String>,
    },
    /// Copies the CSV files into a new folder
    Export {
        /// Which operation: its id, or the beginning of it
        operation: String,
        /// Only this table
        #[arg(long = "table", value_name = "TABLE")]
        tables: Vec<String>,
        /// The folder; it must not exist yet
        #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
        to: std::path::PathBuf,
    },
    /// Inserts rows that came since the backup and are not there; over a row that is only with --overwrite
    Apply {
        /// Which operation: its id, or the beginning of it
        operation: String,
        /// Only this table
        #[arg(long = "table", value_name = "TABLE")]
        tables: Vec<String>,
        /// Give rows that had changed the values they had, where what came back is still as in the backup
        #[arg(long)]
        overwrite: bool,
        /// Take rows away again that had gone, where what came back is still as in the backup
        #[arg(long)]
        deletes: bool,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: super::RunArgs,
    },
}
