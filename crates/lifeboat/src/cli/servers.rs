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

/// `policy`.
#[derive(Clone, Debug, Args)]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
    /// Which database: a resource on a server, or a link, whose cloud is meant [default: the only one]
    #[arg(long, global = true, value_name = "NAME")]
    pub database: Option<String>,
}

/// What to do about row-level security.
#[derive(Clone, Debug, Subcommand)]
pub enum PolicyCommand {
    /// Lists the policies of a table, and whether row-level security is on
    List {
        /// Which table: SCHEMA.TABLE; of the schema public without one
        table: String,
    },
    /// Puts a policy in the place of the one of its name, in one transaction; or makes it
    Replace {
        /// Which table: SCHEMA.TABLE; of the schema public without one
        table: String,
        /// Its name
        name: String,
        /// For which rows it is true that they are seen [default: as it is]
        #[arg(long, value_name = "SQL")]
        using: Option<String>,
        /// For which rows it is true that they may be written [default: as it is]
        #[arg(long, value_name = "SQL")]
        check: Option<String>,
        /// For which command: all, select, insert, update, delete [default: as it is]
        #[arg(long, value_name = "COMMAND", value_parser = ["all", "select", "insert", "update", "delete"], hide_possible_values = true)]
        command: Option<String>,
        /// For which role; may be given again [default: as it is]
        #[arg(long = "to", value_name = "ROLE")]
        roles: Vec<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Lets roles see and write every row for a while, by a policy that ends by itself
    Open {
        /// Which table: SCHEMA.TABLE; of the schema public without one
        table: String,
        /// For how long, at most an hour
        #[arg(long = "time", value_name = "DURATION", default_value = "10m", value_parser = lifeboat_model::time::parse_duration)]
        how_long: lifeboat_model::Duration,
        /// For which role; may be given again
        #[arg(long = "to", value_name = "ROLE", required = true)]
        roles: Vec<String>,
        /// Why
        #[arg(long, value_name = "WHY")]
        reason: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Takes away what opens a table, and switches row-level security on
    Close {
        /// Which table: SCHEMA.TABLE; of the schema public without one
        table: String,
    },
    /// Looks as somebody else whether rows of others are seen; exit code 10 when they are
    Test {
        /// Which table: SCHEMA.TABLE; of the schema public without one
        table: String,
        /// Which role
        #[arg(long = "as", value_name = "ROLE", default_value = "anon")]
        role: String,
        /// What the token says, such as sub=UUID; may be given again
        #[arg(long = "claim", value_name = "NAME=VALUE")]
        claims: Vec<String>,
        /// For which rows it is true that they are theirs, such as "shop_id = 7"; false when nothing is
        #[arg(long, value_name = "SQL", default_value = "false")]
        own: String,
    },
}
