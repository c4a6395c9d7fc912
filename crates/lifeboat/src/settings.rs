//! The settings file: what it may say, where it is, and reading it.
//!
//! Three stages, each in its own file, so that a person sees every problem at once and with its line:
//! [`document`] knows which line a value stands in, [`shape`] compares keys and types with the types below (by their
//! JSON Schema, so there is one source of truth), [`sense`] asks whether what is said can be meant. [`resolve`](mod@resolve) then
//! decides between flag, environment variable, file and default.

mod by_path;
pub mod channels;
mod checks;
pub mod copies;
pub mod document;
pub mod drivers;
pub mod escalation;
pub mod features;
pub mod links;
pub mod matrix;
pub mod names;
pub mod problem;
pub mod resolve;
pub mod schedules;
mod sense;
pub mod servers;
mod shape;
pub mod targets;
pub mod whole;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lifeboat_io::{Io, files};
use lifeboat_model::{Duration, Failure, FailureKind, time::parse_duration};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde::{Deserialize, Serialize};

use crate::cli::GlobalArgs;
use document::Document;
use problem::Problem;

pub use crate::outside::plain_path;
pub use resolve::{Origin, Resolved, Shown, resolve};

/// What the file is called.
pub const FILE_NAME: &str = "lifeboat.toml";

/// A settings file: one app with all its environments.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The version of this format. Always 1.
    #[schemars(extend("x-kind" = "version"))]
    pub version: u32,
    /// Which app this is about.
    pub app: AppSettings,
    /// Where backups are kept.
    #[serde(default)]
    pub vault: VaultSettings,
    /// Which backups stay, and how long. What is not said keeps its default.
    #[serde(default)]
    pub keep: KeepSettings,
    /// What you promise: how old a backup and its proof may be before `lifeboat status` complains.
    #[serde(default)]
    pub objectives: ObjectiveSettings,
    /// How long each phase may take. Longer is reported, never killed.
    #[serde(default)]
    pub budgets: BudgetSettings,
    /// Limits on what may take how long.
    #[serde(default)]
    pub limits: LimitSettings,
    /// When `lifeboat serve` does what by itself.
    #[serde(default)]
    pub schedule: schedules::ScheduleSettings,
    /// The app that `lifeboat serve` stands in front of.
    #[serde(default)]
    pub gateway: schedules::GatewaySettings,
    /// Who is called in an emergency, for `lifeboat escalation`.
    #[serde(default)]
    pub escalation: escalation::EscalationSettings,
    /// Where messages go, by name: that a rollback has begun, is over, has failed.
    #[serde(default)]
    #[schemars(extend("x-names" = "a channel"))]
    pub notify: BTreeMap<String, channels::ChannelSettings>,
    /// Commands that look at points of checklists, by `LIST.POINT`: 0 it stands, 126 and 127 it is not known, else it does not stand.
    #[serde(default)]
    #[schemars(extend("x-names" = "a point"))]
    pub checks: BTreeMap<String, Vec<String>>,
    /// Within which time things are due after a rollback or an incident, by their names; `never` where one is not due at all.
    #[serde(default)]
    #[schemars(extend("x-names" = "something that is due"))]
    pub due: BTreeMap<String, String>,
    /// Features of the app that can be switched off while something is wrong with them, by name.
    #[serde(default)]
    #[schemars(extend("x-names" = "a feature"))]
    pub features: BTreeMap<String, features::FeatureSettings>,
    /// Where Lifeboat keeps its journals and its index on this host.
    #[serde(default)]
    pub state: StateSettings,
    /// The app's environments by name: `production`, `staging`, `local`. Commands that change something ask which one is
    /// meant as soon as there are two.
    #[schemars(extend("x-names" = "an environment"))]
    pub environments: BTreeMap<String, EnvironmentSettings>,
}

/// Which app this is about.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    /// The app's name: 1 to 64 letters, digits, `-`, `_` or `.`. Backups carry it, and those of another app are refused.
    #[schemars(extend("x-kind" = "name"))]
    pub name: String,
    /// The time zone in which times are shown, for example `Europe/Berlin`. Journals are always in UTC.
    #[schemars(extend("x-kind" = "timezone"))]
    pub timezone: Option<String>,
    /// Folders in which files lie that scripts made as backups. Beside each database, and in `backups` there, is looked
    /// anyway.
    #[serde(default)]
    pub backup_folders: Vec<PathBuf>,
    /// A file that tells of every restore and undo: one line of JSON each when its name ends in `.jsonl`, else Markdown.
    #[schemars(extend("x-kind" = "path"))]
    pub incident_log: Option<PathBuf>,
}

/// Where backups are kept.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultSettings {
    /// A folder, `s3://bucket/folder`, or `s3:https://server/bucket/folder`. Relative folders begin at this file's folder.
    #[schemars(extend("x-kind" = "location"))]
    pub location: Option<String>,
    /// Where the password comes from, never the password itself: one of `env`, `file`, `cmd`.
    pub password: Option<PasswordSettings>,
    /// How long data that no backup needs any more stays in the vault before `prune` deletes it.
    pub prune_grace: Option<Span>,
    /// Second vaults by name, elsewhere: `lifeboat vault copy` copies backups there.
    #[serde(default)]
    #[schemars(extend("x-names" = "a copy"))]
    pub copies: BTreeMap<String, CopySettings>,
}

/// A second vault that holds copies of backups.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopySettings {
    /// Where it is, written as the vault's own location.
    #[schemars(extend("x-kind" = "location"))]
    pub location: String,
    /// Where its password comes from; the vault's own password when nothing is said.
    pub password: Option<PasswordSettings>,
    /// Which backups stay in it; what is not said is as in the vault itself.
    #[serde(default)]
    pub keep: KeepSettings,
    /// Whether it is brought up to date after each backup.
    #[serde(default)]
    pub after_backup: bool,
}

/// Where a password comes from: exactly one of `env`, `file` and `cmd`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-kind" = "password"))]
pub struct PasswordSettings {
    /// The environment variable that holds it.
    #[schemars(extend("x-kind" = "variable"))]
    pub env: Option<String>,
    /// With `env`: the file of variables, such as `.env`, in which it stands when it is not set.
    #[schemars(extend("x-kind" = "path"))]
    pub env_file: Option<PathBuf>,
    /// The file that holds it and nothing else. Only its owner should be able to read it.
    #[schemars(extend("x-kind" = "path"))]
    pub file: Option<PathBuf>,
    /// The command that prints it, as a list of words: `["op", "read", "op://vault/item/password"]`.
    #[schemars(extend("x-kind" = "command"))]
    pub cmd: Option<Vec<String>>,
}

/// Which backups stay. See `lifeboat retention plan` for what it means for each backup.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepSettings {
    /// Everything younger than this.
    pub within: Option<Span>,
    /// The newest so many.
    pub last: Option<u32>,
    /// The newest of each of so many hours.
    pub hourly: Option<u32>,
    /// The newest of each of so many days (UTC).
    pub daily: Option<u32>,
    /// The newest of each of so many weeks.
    pub weekly: Option<u32>,
    /// The newest of each of so many months.
    pub monthly: Option<u32>,
    /// The newest of each of so many years.
    pub yearly: Option<u32>,
    /// A floor that nothing lowers: the newest so many proven ones. At least 1.
    pub proven: Option<u32>,
    /// How long emergency and suspect backups stay.
    pub emergency: Option<Span>,
}

/// What you promise.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveSettings {
    /// The recovery point objective: the oldest the newest backup may be.
    pub rpo: Option<Span>,
    /// The recovery time objective: how long a restore may take. `lifeboat objectives` holds it against what was measured.
    pub rto: Option<Span>,
    /// How long after the beginning of an incident something has to be done about it; by itself, and no part of `rto`.
    pub response: Option<Span>,
    /// The oldest the newest proof may be.
    pub proof_max_age: Option<Span>,
}

/// How long each phase may take.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetSettings {
    /// Looking whether everything is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight: Option<Span>,
    /// Keeping what is there now, before it is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Span>,
    /// Copying a database while it is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Span>,
    /// Checking that copy and storing it in the vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Span>,
    /// Fetching a backup from the vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<Span>,
    /// Checking what was fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Span>,
    /// Putting it in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<Span>,
    /// Clearing up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<Span>,
}

/// Limits on what may take how long.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// How long a configured stop or start command may take before it is ended.
    pub command: Option<Span>,
}

/// Where Lifeboat keeps its own things.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateSettings {
    /// The folder. Set it when several users of this host work with this file; else each has one of their own.
    #[schemars(extend("x-kind" = "path"))]
    pub folder: Option<PathBuf>,
}

/// One environment: its resources, and where it differs from what is said for all.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentSettings {
    /// Whether only a backup that has passed a proof may replace what is live here. True for `production`, else false.
    pub rehearse_first: Option<bool>,
    /// Another vault than for the rest, key by key.
    #[serde(default)]
    pub vault: VaultSettings,
    /// Other retention than for the rest, key by key.
    #[serde(default)]
    pub keep: KeepSettings,
    /// Other objectives than for the rest, key by key.
    #[serde(default)]
    pub objectives: ObjectiveSettings,
    /// Other budgets than for the rest, key by key.
    #[serde(default)]
    pub budgets: BudgetSettings,
    /// Other times than for the rest, key by key; `never` where a general one does not hold.
    #[serde(default)]
    pub schedule: schedules::ScheduleSettings,
    /// Another app to stand in front of than for the rest, key by key.
    #[serde(default)]
    pub gateway: schedules::GatewaySettings,
    /// What is protected, by name.
    #[serde(default)]
    #[schemars(extend("x-names" = "a resource"))]
    pub resources: BTreeMap<String, ResourceSettings>,
    /// SQLite files that are mirrored to PostgreSQL databases, by name.
    #[serde(default)]
    #[schemars(extend("x-names" = "a link"))]
    pub links: BTreeMap<String, links::LinkSettings>,
    /// What runs the app's code, by name.
    #[serde(default)]
    #[schemars(extend("x-names" = "a target"))]
    pub targets: BTreeMap<String, targets::TargetSettings>,
    /// Whether a release is rolled back: limits other than the matrix', and where facts are measured.
    #[serde(default)]
    pub decide: matrix::DecideSettings,
}

/// Something that holds state.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceSettings {
    /// What it is.
    #[schemars(extend("x-kind" = "resource-kind"))]
    pub kind: KindSettings,
    /// SQLite, files, env: where it is. Relative paths begin at this file's folder.
    #[schemars(extend("x-kind" = "path"))]
    pub path: Option<PathBuf>,
    /// PostgreSQL: where it is, without a password: `postgres://role@host:5432/database`.
    pub url: Option<String>,
    /// PostgreSQL: where the address is to be found, password and all, in place of `url`: `{ env = "DATABASE_URL" }`.
    pub url_from: Option<PasswordSettings>,
    /// PostgreSQL: where the password is. Default: what libpq would find (`PGPASSWORD`, `~/.pgpass`).
    pub password: Option<PasswordSettings>,
    /// PostgreSQL: only these schemas. Default: all; on Supabase those of the app, and `auth` and `storage`.
    #[serde(default)]
    pub schemas: Vec<String>,
    /// PostgreSQL: how a restored database takes the place of the live one: `rename` or `schema`. Default: what the role may
    /// do decides.
    #[schemars(extend("x-kind" = "choice"))]
    pub swap: Option<SwapSettings>,
    /// PostgreSQL: roles that a backup asks how many rows each can see, and a proof asks again. Default: those that policies
    /// and grants name.
    #[serde(default)]
    pub roles: Vec<String>,
    /// PostgreSQL: the folder of its migrations, each with the DOWN script that takes it back beside it.
    #[schemars(extend("x-kind" = "path"))]
    pub migrations: Option<PathBuf>,
    /// PostgreSQL: how long a DOWN script waits for a lock before all of them are given up. Default: 3 seconds.
    pub lock_timeout: Option<Span>,
    /// PostgreSQL: how long one statement of a DOWN script may run. Default: 2 minutes.
    pub statement_timeout: Option<Span>,
    /// Files: paths below it that are left out; `*` stands for anything within one name.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The command that stops what writes to it, as a list of words. Only together with `start`.
    #[schemars(extend("x-kind" = "command"))]
    pub stop: Option<Vec<String>>,
    /// The command that starts it again.
    #[schemars(extend("x-kind" = "command"))]
    pub start: Option<Vec<String>>,
    /// SQLite: tables that must be there and must not be empty.
    #[serde(default)]
    pub critical_tables: Vec<String>,
    /// SQLite: tables that may be empty; `"*"` means any.
    #[serde(default)]
    pub may_be_empty: Vec<String>,
    /// SQLite: questions about a restored copy, by name, with the answer they must have.
    #[serde(default)]
    pub checks: BTreeMap<String, CheckSettings>,
    /// PostgreSQL: columns that tell whose a row is, by their names in any table: `["user_id", "created_by"]`. After a
    /// rollback a list says whose rows left.
    #[serde(default)]
    pub owner_columns: Vec<String>,
    /// PostgreSQL: where a value of a column that is not there any more belongs when rows are brought back:
    /// `"public.tickets.title" = "subject"`.
    #[serde(default)]
    pub salvage_columns: BTreeMap<String, String>,
    /// SQLite: whether each backup renews the file `NAME.backup` beside the database, the newest verified copy.
    #[serde(default)]
    pub alias: bool,
    /// SQLite: each backup also makes the plain file `NAME.backup.YYYYMMDD` beside the database; after so many days retention
    /// deletes it.
    pub dated_days: Option<u32>,
    /// SQLite: where a plain file a day goes, at the time of `copy`: `s3://bucket/folder/NAME-YYYYMMDD.sqlite`.
    pub send_to: Option<String>,
    /// Times of its own, instead of the general ones; `never` for none.
    #[serde(default)]
    pub schedule: schedules::OwnScheduleSettings,
}

/// How a restored database takes the place of the one that is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SwapSettings {
    /// A new database takes the name of the live one. Sessions are ended.
    Rename,
    /// New schemas take the names of the present ones inside the live database, in one transaction.
    Schema,
}

impl From<SwapSettings> for lifeboat_model::SwapStrategy {
    fn from(said: SwapSettings) -> Self {
        match said {
            SwapSettings::Rename => Self::Rename,
            SwapSettings::Schema => Self::Schema,
        }
    }
}

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KindSettings {
    /// One SQLite database file, with its `-wal` or `-journal` while it is in use.
    Sqlite,
    /// A file, or a folder with all that is in it.
    Files,
    /// A file of environment variables. Names are journaled, values never.
    Env,
    /// A PostgreSQL database.
    Postgres,
}

impl KindSettings {
    /// Whether it has tables.
    pub fn is_database(self) -> bool {
        match self {
            KindSettings::Sqlite | KindSettings::Postgres => true,
            KindSettings::Files | KindSettings::Env => false,
        }
    }
}

/// A question in SQL: one row, one column.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckSettings {
    /// The question.
    #[schemars(extend("x-kind" = "sql"))]
    pub sql: String,
    /// The answer, as a number, is at least this.
    pub min: Option<i64>,
    /// The answer, as text, is exactly this.
    pub equals: Option<String>,
    /// The answer, a number from 0 to 100, is at least this. For `data-quality` 85 when nothing is said.
    pub percent: Option<u32>,
    /// Under which line of `lifeboat verify` it counts: `referential-integrity`, `required-fields`, `unique-constraints`
    /// or `data-quality`.
    #[schemars(extend("x-kind" = "choice"))]
    pub category: Option<CategorySettings>,
    /// Its rows, all of them in their order, stay as they were when the backup was taken.
    #[serde(default)]
    pub sample: bool,
}

/// A line of a validation report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CategorySettings {
    /// Every reference has its row.
    ReferentialIntegrity,
    /// Nothing is missing that has to be there.
    RequiredFields,
    /// Nothing is there twice that may be there once.
    UniqueConstraints,
    /// So much of the data is as it should be.
    DataQuality,
}

impl From<CategorySettings> for lifeboat_model::Category {
    fn from(said: CategorySettings) -> Self {
        match said {
            CategorySettings::ReferentialIntegrity => Self::ReferentialIntegrity,
            CategorySettings::RequiredFields => Self::RequiredFields,
            CategorySettings::UniqueConstraints => Self::UniqueConstraints,
            CategorySettings::DataQuality => Self::DataQuality,
        }
    }
}

impl CheckSettings {
    /// What it asks for in percent: of data quality 85 when nothing is said.
    pub fn threshold(&self) -> Option<u32> {
        let silent = self.min.is_none() && self.equals.is_none() && !self.sample;
        let quality = silent && self.category == Some(CategorySettings::DataQuality);
        self.percent.or(quality.then_some(85))
    }
}

/// A length of time as settings write it: `"90s"`, `"15m"`, `"6h"`, `"7d"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    /// How long.
    pub length: Duration,
    /// As it was written.
    pub text: String,
}

impl TryFrom<String> for Span {
    type Error = lifeboat_model::time::BadDuration;
    fn try_from(text: String) -> Result<Span, Self::Error> {
        Ok(Span { length: parse_duration(&text)?, text })
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.text
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "duration", "examples": ["90s", "15m", "6h", "7d"] })
    }
}

/// The JSON Schema of the file, for editors. Everything is in its place; there are no references to follow.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Settings>()
}

/// A settings file with its lines.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file, with its whole path.
    pub path: PathBuf,
    /// Which value stands where.
    pub document: Document,
    /// What it says.
    pub settings: Settings,
}

/// Where the settings file is: `--config`, else `LIFEBOAT_CONFIG`, else `lifeboat.toml` here or in a folder above; nothing
/// when there is none.
///
/// # Errors
/// A file that was named is not there, or the current folder cannot be told.
pub fn find(global: &GlobalArgs, io: &Io) -> Result<Option<PathBuf>, Failure> {
    let variable = io.env.var("LIFEBOAT_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = global.config.clone().or(variable) {
        let path = absolute(&named)?;
        if !files::exists(&path) {
            let message = format!("there is no settings file {}", path.display());
            return Err(Failure::new(FailureKind::Usage, message).hint("check --config and LIFEBOAT_CONFIG"));
        }
        return Ok(Some(path));
    }
    let here = absolute(Path::new(FILE_NAME))?;
    let found = files::parent(&here).ancestors().map(|folder| folder.join(FILE_NAME)).find(|path| files::exists(path));
    Ok(found)
}

/// Reads and checks a settings file.
///
/// # Errors
/// It cannot be read; or every problem in it at once, each with its line and what to write instead.
pub fn load(path: &Path) -> Result<Settings, Failure> {
    read(path).map(|loaded| loaded.settings)
}

/// [`load`] that keeps the lines.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path) -> Result<Loaded, Failure> {
    let path = absolute(path)?;
    let unreadable = |error: &lifeboat_io::PathError| {
        Failure::from_error(FailureKind::Usage, error)
            .while_doing(format!("cannot read the settings {}", path.display()))
    };
    let bytes = files::read(&path).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        let problem = Problem::new(line, "this is not text in UTF-8").instead("save the file as UTF-8");
        problem::failure(&path, &[problem])
    })?;
    match check(&text, files::parent(&path)) {
        Ok((document, settings)) => Ok(Loaded { path, document, settings }),
        Err(problems) => Err(problem::failure(&path, &problems)),
    }
}

/// Checks the text of a settings file that lies (or will lie) in `folder`.
///
/// # Errors
/// Every problem in it, in the order of its lines.
pub fn check(text: &str, folder: &Path) -> Result<(Document, Settings), Vec<Problem>> {
    let document = Document::parse(text)?;
    let mut problems = sense::suspicious_texts(&document);
    problems.extend(shape::problems(&document));
    if problems.is_empty() {
        match toml::from_str::<Settings>(text) {
            Ok(settings) => {
                problems = sense::problems(&document, &settings, folder);
                if problems.is_empty() {
                    return Ok((document, settings));
                }
            }
            // Never its text: it may quote a value. The shape has let something through that serde does not.
            Err(error) => problems.push(Problem::new(
                error.span().map_or(1, |span| document.line_at(span.start)),
                "this cannot be read, though its keys are right",
            )),
        }
    }
    problems.sort_by_key(|problem| problem.line);
    Err(problems)
}

/// The whole path, from the root on.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    files::absolute(path).map_err(|error| Failure::from_error(FailureKind::Usage, &error))
}
