//! The words of commands about vaults.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{ConsentArgs, RunArgs};

/// `vault`.
#[derive(Clone, Debug, Args)]
pub struct VaultArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: VaultCommand,
}

/// How a vault is looked after.
#[derive(Clone, Debug, Subcommand)]
pub enum VaultCommand {
    /// Looks whether the vault is whole
    Check {
        /// Reads all stored bytes too, or a part of them that changes from day to day (--read-data=1/7)
        #[arg(long, value_name = "N/T", num_args = 0..=1, require_equals = true, default_missing_value = "1/1")]
        read_data: Option<String>,
    },
    /// Frees the space that no backup needs, after a grace period
    Prune(ConsentArgs),
    /// Brings second vaults up to date, and sends plain files where the settings say
    Copy {
        /// Only into this one, by its name in the settings [default: all]
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
    /// Rebuilds what Lifeboat knows on this host from the vault alone
    Recover {
        /// Shows what would be rebuilt, changes nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Writes a folder that explains how to recover without Lifeboat
    Kit {
        /// The folder; it must not exist yet
        #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
}
