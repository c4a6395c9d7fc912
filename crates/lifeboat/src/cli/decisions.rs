//! The words of commands about whether a release is rolled back.

use clap::{Args, ValueEnum};
use lifeboat_model::{
    decision::{Severity, Verdict},
    time::{Duration, parse_duration},
};

use super::RunArgs;

/// `decide`.
#[derive(Clone, Debug, Args)]
pub struct DecideArgs {
    /// What is known: error_rate=61/1200,window=5m, system_unavailable=6m, critical_bugs=4,after=40m, data_loss=no
    #[arg(long = "fact", value_name = "KEY=VALUE")]
    pub facts: Vec<String>,
    /// Says no to everything that neither a measurement nor `--fact` tells
    #[arg(long)]
    pub rest_is_fine: bool,
    /// When it was noticed [default: the open incident's beginning, else that of the last assessment or decision, else now]
    #[arg(long, value_name = "TIME")]
    pub detected: Option<String>,
    /// How long a quick fix would take; more than 15 minutes is none
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub quick_fix: Option<Duration>,
    /// As what you decide: 'deployment lead', 'technical lead', 'product manager'
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Decides against the rules
    #[arg(long = "override", value_name = "VERDICT", requires = "reason", value_enum)]
    pub instead: Option<VerdictArg>,
    /// Why you decide against the rules
    #[arg(long, value_name = "WHY", requires = "instead")]
    pub reason: Option<String>,
    /// Carries the rollback out when the rules call it critical and the settings allow it (`decide.execute`)
    #[arg(long, conflicts_with = "instead")]
    pub execute: bool,
    /// Decides again what this operation decided, by the facts and rules of then, and tells whether it comes out the same
    #[arg(long, value_name = "OPERATION", conflicts_with_all = ["facts", "rest_is_fine", "detected", "quick_fix", "instead", "role", "execute"])]
    pub replay: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// What a person decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerdictArg {
    /// Roll back
    RollBack,
    /// Do not roll back
    Stay,
}

impl From<VerdictArg> for Verdict {
    fn from(verdict: VerdictArg) -> Verdict {
        match verdict {
            VerdictArg::RollBack => Verdict::RollBack,
            VerdictArg::Stay => Verdict::Stay,
        }
    }
}

/// `assess`.
#[derive(Clone, Debug, Args)]
pub struct AssessArgs {
    /// How bad it is [default: what the rules say to what is measured]
    #[arg(long, value_enum)]
    pub severity: Option<SeverityArg>,
    /// Users that feel it, in percent
    #[arg(long, value_name = "PERCENT")]
    pub users: Option<String>,
    /// Systems that suffer: Auth,Tickets,Tasks,Warehouse,Email
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub systems: Option<Vec<String>>,
    /// Whether data is in danger
    #[arg(long, value_name = "YES|NO", value_enum)]
    pub data_at_risk: Option<YesNo>,
    /// Whether there is a quick fix: `no`, or how long it takes
    #[arg(long, value_name = "NO|TIME")]
    pub quick_fix: Option<String>,
    /// When it was noticed [default: the open incident's beginning, else now]
    #[arg(long, value_name = "TIME")]
    pub detected: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SeverityArg {
    /// A rollback at once
    Critical,
    /// A rollback within 30 minutes, unless it is mended sooner
    Major,
    /// No rollback
    Minor,
}

impl From<SeverityArg> for Severity {
    fn from(severity: SeverityArg) -> Severity {
        match severity {
            SeverityArg::Critical => Severity::Critical,
            SeverityArg::Major => Severity::Major,
            SeverityArg::Minor => Severity::Minor,
        }
    }
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum YesNo {
    /// It is so
    Yes,
    /// It is not so
    No,
}
