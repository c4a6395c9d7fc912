//! The words of commands about the daemon.

use std::net::SocketAddr;

use clap::{Args, Subcommand};

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
