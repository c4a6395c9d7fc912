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

/// `escalation`.
#[derive(Clone, Debug, Args)]
pub struct EscalationArgs {
    /// What to do [default: show who is called when]
    #[command(subcommand)]
    pub command: Option<EscalationCommand>,
}

/// What can be said about who is called.
#[derive(Clone, Debug, Subcommand)]
pub enum EscalationCommand {
    /// Answers in the incident that is open: nobody else is called for that role
    Ack {
        /// For which role: deployment-lead, database-administrator, ... [default: for all]
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// What there is to say
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
}
