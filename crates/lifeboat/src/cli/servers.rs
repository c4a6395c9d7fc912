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
