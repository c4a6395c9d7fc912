//! The words of commands about the daemon.

use std::net::SocketAddr;

use clap::{Args, Subcommand};

use super::RunArgs;

/// `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = lifeboat_web::DEFAULT_LISTEN)]
    pub listen: SocketAddr,
    /// Callers on this host need a token too, for everything that changes something
    #[arg(long)]
    pub require_token: bool,
}

/// `maintenance`.
#[derive(Clone, Debug, Args)]
pub struct MaintenanceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: MaintenanceCommand,
}

/// What everybody who comes through the gateway is told.
#[derive(Clone, Debug, Subcommand)]
pub enum MaintenanceCommand {
    /// Closes the app: everybody gets a page that says so (503)
    On {
        /// Why; it stays in the journal
        #[arg(long, value_name = "WHY")]
        reason: String,
        /// How long it is expected to take; everybody is told
        #[arg(long, value_name = "DURATION", value_parser = lifeboat_model::time::parse_duration)]
        eta: Option<std::time::Duration>,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
    /// Opens it again
    Off {
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
    /// Says whether it is closed on purpose, since when and why
    Status,
}

/// `token`.
#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What to do with tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token and shows it, once
    Add {
        /// Whose it is
        name: String,
        /// What it allows: viewer, operator or admin
        #[arg(long, value_parser = ["viewer", "operator", "admin"], default_value = "viewer")]
        role: String,
    },
    /// Lists names and roles
    List,
    /// Makes a token worthless, at once
    Revoke {
        /// Whose
        name: String,
    },
}
