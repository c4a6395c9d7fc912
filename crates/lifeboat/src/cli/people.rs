//! The words of commands about people: what they are told, what they switch, who is called.

use clap::{Args, Subcommand};

use super::RunArgs;

/// `feature`.
#[derive(Clone, Debug, Args)]
pub struct FeatureArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: FeatureCommand,
}

/// What can be done with features of the app.
#[derive(Clone, Debug, Subcommand)]
pub enum FeatureCommand {
    /// Lists them: which are off, since when, by whom and why
    List,
    /// Switches one off; the closing of the incident that is open switches it on again
    Off {
        /// Which, by its name in [features]
        name: String,
        /// Why; it stays in the journal
        #[arg(long, value_name = "WHY")]
        reason: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
    /// Switches it on again
    On {
        /// Which, by its name in [features]
        name: String,
        /// Why; it stays in the journal
        #[arg(long, value_name = "WHY")]
        reason: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
}
