//! The words of commands about what happened: evidence, logs, leaked secrets, what a person attests.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{ConsentArgs, RunArgs};

/// `history`.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// At most so many
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    pub limit: usize,
}

/// `backups compromised`.
#[derive(Clone, Debug, Args)]
pub struct CompromisedArgs {
    /// The variable that held the secret: its name, never its value [default: lists what was said so far]
    #[arg(value_name = "SECRET", requires = "reason")]
    pub secret: Option<String>,
    /// Values in backups from then on [default: from the first backup on]
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Values in backups from before then: when the secret was changed [default: now]
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
    /// What happened, in a few words
    #[arg(long, value_name = "WHY")]
    pub reason: Option<String>,
    /// It was a mistake: what was said about this variable does not count any more
    #[arg(long, conflicts_with_all = ["since", "before"])]
    pub withdraw: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// What a person attests.
#[derive(Clone, Debug, Args)]
pub struct AttestArgs {
    /// What you have to say to it, in a few words
    #[arg(long, value_name = "TEXT", default_value = "reviewed")]
    pub note: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// `ready`.
#[derive(Clone, Debug, Args)]
pub struct ReadyArgs {
    /// What to do [default: shows how each point stands].
    #[command(subcommand)]
    pub command: Option<ReadyCommand>,
}

/// What can be done about a point.
#[derive(Clone, Debug, Subcommand)]
pub enum ReadyCommand {
    /// Puts on record that a point stands; that counts for 92 days
    Attest {
        /// Which point, by its name in the list
        point: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        word: AttestArgs,
    },
}

/// `evidence`.
#[derive(Clone, Debug, Args)]
pub struct EvidenceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EvidenceCommand,
}

/// What can be done with evidence.
#[derive(Clone, Debug, Subcommand)]
pub enum EvidenceCommand {
    /// Puts journal, manifests, settings and attached files into a folder with a list of digests; holds the backups
    Collect {
        /// Which operation: its id, or the beginning of it [default: the one that is not over, else the newest]
        operation: Option<String>,
        /// A file to put to it: a log, a screenshot; it is copied
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        attach: Vec<PathBuf>,
        /// The folder; it must not exist yet [default: a new one in the state folder]
        #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
        to: Option<PathBuf>,
    },
    /// Compares a folder of evidence with its list, and the list with what went on record
    Verify {
        /// The folder
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
}

/// `incident`.
#[derive(Clone, Debug, Args)]
pub struct IncidentArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: IncidentCommand,
}

/// What can be said about incidents.
#[derive(Clone, Debug, Subcommand)]
pub enum IncidentCommand {
    /// Lists incidents and what they hold
    List,
    /// Says that something is wrong: from now on nothing goes
    Open {
        /// What is wrong, in a few words
        title: String,
        /// From when on [default: now]
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// It is the provider's outage: what he promises, noted in the record, "99.9 %"
        #[arg(long, value_name = "WHAT")]
        provider_sla: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
    /// Says that it is over; what was made since it began stays until the review
    Close {
        #[command(flatten)]
        #[allow(missing_docs)]
        step: IncidentStepArgs,
        /// Features that were switched off during it stay off
        #[arg(long)]
        leave_off: bool,
    },
    /// Says that it was reviewed: the rules of retention apply again
    Review(IncidentStepArgs),
    /// Shows an incident and what is due after it and after rollbacks, overdue first
    Show {
        /// Its id, or the beginning of it [default: what is due of all, and the newest incident]
        incident: Option<String>,
    },
    /// Ticks something off that is due, with who and when
    Done {
        /// Which, by its name in `lifeboat incident show`
        item: String,
        /// What there is to say
        #[arg(long, value_name = "TEXT")]
        note: String,
        /// A root cause: code bug, migration error, configuration issue, environment problem, user error
        #[arg(long, value_name = "CATEGORY")]
        category: Option<String>,
        /// After which operation it is due: its id, or the beginning of it [default: the only one]
        #[arg(long, value_name = "OPERATION")]
        of: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
}

/// Which incident, and what there is to say.
#[derive(Clone, Debug, Args)]
pub struct IncidentStepArgs {
    /// Its id, or the beginning of it [default: the only one that it can be]
    pub incident: Option<String>,
    /// How it ended, or what the review found
    #[arg(long, value_name = "TEXT")]
    pub note: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// `provider`.
#[derive(Clone, Debug, Args)]
pub struct ProviderArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ProviderCommand,
}

/// What can be said about restores that a provider carries out.
#[derive(Clone, Debug, Subcommand)]
pub enum ProviderCommand {
    /// Says what can be done when there is no good backup: four ways, each looked up
    Routes {
        /// Which database: its name in lifeboat.toml, or postgres:ADDRESS
        resource: String,
    },
    /// Writes the request for a restore to a point in time, and keeps it open until its end is on record
    Ask {
        /// Which database: its name in lifeboat.toml, or postgres:ADDRESS
        resource: String,
        /// Back to when: 14:05, "2026-11-20 14:05", "2h ago", or RFC 3339
        #[arg(long, value_name = "TIME")]
        to: String,
        /// What happened, in a few words
        #[arg(long, value_name = "WHY")]
        reason: String,
        /// What the provider calls the project or instance [default: what a Supabase address tells]
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// A file for the request's text, which must not exist yet
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        #[command(flatten)]
        #[allow(missing_docs)]
        run: RunArgs,
    },
    /// Records the provider's number for a request
    Ticket {
        /// The number
        ticket: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        args: ProviderRequestArgs,
    },
    /// Records how a request ended
    #[command(group = clap::ArgGroup::new("end").required(true).args(["restored", "not_restored"]))]
    Outcome {
        /// The database was brought back
        #[arg(long)]
        restored: bool,
        /// It was refused, or given up
        #[arg(long)]
        not_restored: bool,
        /// How it ended: up to when the data is complete, where it is now
        #[arg(long, value_name = "TEXT")]
        note: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        args: ProviderRequestArgs,
    },
    /// Shows a request's text again
    Show {
        /// Its id, or the beginning of it [default: the only one that is open]
        request: Option<String>,
    },
    /// Lists what was asked, and how it ended
    List,
}

/// Which request.
#[derive(Clone, Debug, Args)]
pub struct ProviderRequestArgs {
    /// Its id, or the beginning of it [default: the only one that is open]
    #[arg(long, value_name = "REQUEST")]
    pub request: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunArgs,
}

/// `env`.
#[derive(Clone, Debug, Args)]
pub struct EnvArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EnvCommand,
}

/// What can be asked of env files.
#[derive(Clone, Debug, Subcommand)]
pub enum EnvCommand {
    /// Which variables came, went or changed since a backup, by name and fingerprint
    Diff {
        /// Which env file: its name in lifeboat.toml, or env:PATH [default: the only one]
        resource: Option<String>,
        /// The backup: its id or the beginning of it [default: the newest good one]
        #[arg(long, value_name = "BACKUP", conflicts_with = "before")]
        from: Option<String>,
        /// The newest good backup from before then
        #[arg(long, value_name = "TIME")]
        before: Option<String>,
    },
    /// Gives variables the values that a backup holds, each in its place; the former file is kept
    Restore {
        /// Which variables [default: all that differ]
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        /// Which env file: its name in lifeboat.toml [default: the only one]
        #[arg(long = "of", value_name = "RESOURCE")]
        resource: Option<String>,
        /// The backup: its id or the beginning of it [default: the newest good one]
        #[arg(long, value_name = "BACKUP", conflicts_with = "before")]
        from: Option<String>,
        /// The newest good backup from before then
        #[arg(long, value_name = "TIME")]
        before: Option<String>,
        /// Leaves variables that came since
        #[arg(long)]
        keep_new: bool,
        /// Why
        #[arg(long, value_name = "WHY", default_value = "")]
        reason: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        consent: ConsentArgs,
    },
    /// Which variables changed from backup to backup, the newest first
    History {
        /// Which env file: its name in lifeboat.toml, or env:PATH [default: the only one]
        resource: Option<String>,
    },
}

/// `logs`.
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LogsCommand,
}

/// What can be asked of logs.
#[derive(Clone, Debug, Subcommand)]
pub enum LogsCommand {
    /// Counts errors in log files, by kind
    Scan {
        /// The files
        #[arg(required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        #[allow(missing_docs)]
        span: SpanArgs,
    },
    /// Reads the log that the app keeps in a table of its own: what was done to what in a span of time
    Audit {
        /// Which database [default: the only one]
        resource: Option<String>,
        /// The table
        #[arg(long, value_name = "TABLE", default_value = "audit_log")]
        table: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        span: SpanArgs,
    },
}

/// A span of time.
#[derive(Clone, Debug, Args)]
pub struct SpanArgs {
    /// From then on: 14:05, "2026-11-20 14:05", "2h ago", or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until before then [default: now]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// `messages`.
#[derive(Clone, Debug, Args)]
pub struct MessagesArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: MessagesCommand,
}

/// What can be done with messages.
#[derive(Clone, Debug, Subcommand)]
pub enum MessagesCommand {
    /// Lists them, oldest first
    List,
    /// Delivers again what was not delivered yet
    Retry,
    /// Reminds of what is due in open incidents, as the daemon does by itself
    Remind,
    /// Sends a message to try a channel, or all of them
    Test {
        /// Which one [default: all]
        channel: Option<String>,
    },
}

/// `checklist`.
#[derive(Clone, Debug, Args)]
pub struct ChecklistArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ChecklistCommand,
}

/// What can be done with checklists.
#[derive(Clone, Debug, Subcommand)]
pub enum ChecklistCommand {
    /// Lists them with their points, and who ticks each
    List,
    /// Shows how each point of one stands
    Show {
        /// Which list
        list: String,
        /// Of which rollback, rehearsal or incident [default: the newest that it can be]
        #[arg(long, value_name = "OPERATION")]
        operation: Option<String>,
        /// As Markdown, for the incident
        #[arg(long)]
        markdown: bool,
    },
    /// Puts on record that a point stands, by your word
    Attest {
        /// Which list
        list: String,
        /// Which point of it
        point: String,
        /// Of which rollback, rehearsal or incident [default: the newest that it can be]
        #[arg(long, value_name = "OPERATION")]
        operation: Option<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        word: AttestArgs,
    },
}
