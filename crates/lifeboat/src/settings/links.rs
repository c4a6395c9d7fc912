//! Links: SQLite files that are mirrored to PostgreSQL databases, as settings say them and as variables change them.

use std::path::{Path, PathBuf};

use lifeboat_io::{Io, files};
use lifeboat_model::{
    Failure, FailureKind, Resource, ResourceKind, ResourceName,
    sync::{BATCH_ROWS_MAX, Link, Said},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{KindSettings, Origin, PasswordSettings, ResourceSettings, Span, servers};
use crate::{
    outside,
    secrets::{ServerPassword, variables::value_of},
};

/// The schema of a mirror's tables, unless another is named.
pub const SCHEMA: &str = "mirror";
/// Rows of one transaction as long as little waits.
const BATCH_ROWS: u32 = 500;
/// How long the worker waits between two looks.
const INTERVAL_MS: u64 = 1_000;
/// The greatest part of a table that one delivery may delete.
const DELETE_SHARE_PERCENT: u32 = 20;

/// A SQLite file that is mirrored to a PostgreSQL database.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSettings {
    /// The SQLite resource that is mirrored.
    #[schemars(extend("x-kind" = "name"))]
    pub from: String,
    /// The database: where it is, without a password.
    pub url: Option<String>,
    /// Where the address is to be found, password and all, in place of `url`: `{ env = "SUPABASE_DB_URL" }`.
    pub url_from: Option<PasswordSettings>,
    /// Where its password is. Default: what libpq would find (`PGPASSWORD`, `~/.pgpass`).
    pub password: Option<PasswordSettings>,
    /// The schema of its tables there.
    pub schema: Option<String>,
    /// Only these tables. Default: all.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Whether tables and columns that are missing there are made. Default: yes in a schema of our own, `mirror`; no in any
    /// other.
    pub makes_tables: Option<bool>,
    /// How many rows go in one transaction as long as little waits. `SYNC_BATCH_SIZE` wins over it, and is
    /// then the most that ever go in one.
    #[schemars(range(min = 1))]
    pub batch_rows: Option<u32>,
    /// How many rows a re-sync writes in one transaction; the document's number is 50. `RESYNC_BATCH_SIZE` wins over it.
    /// Default: as many as are read at once, 2,000.
    #[schemars(range(min = 1))]
    pub resync_rows: Option<u32>,
    /// How long is waited between two looks for changes. `SYNC_INTERVAL_MS` wins over it.
    pub interval: Option<Span>,
    /// The greatest part of a table, in percent, that one delivery may delete without somebody's consent; 1,000 rows always
    /// may.
    #[schemars(range(min = 1))]
    pub delete_share: Option<u32>,
    /// The app's file of variables, in which `SYNC_ENABLED`, `ENABLE_SUPABASE`, `SYNC_BATCH_SIZE` and `SYNC_INTERVAL_MS` are
    /// looked for when they are not set.
    #[schemars(extend("x-kind" = "path"))]
    pub env_file: Option<PathBuf>,
}

/// A link as it is in effect.
pub struct Found {
    /// The link.
    pub link: Link,
    /// The server's password, where the settings say where it is.
    pub password: Option<(String, ServerPassword)>,
    /// Keys, values, and where they come from when that is not the file's line.
    pub shown: Vec<(String, String, Option<Origin>)>,
}

/// Decides what is in effect for a link.
///
/// # Errors
/// There is no such SQLite resource; the address cannot be understood; a variable has no number in it.
pub fn resolve(
    name: &str,
    what: &LinkSettings,
    resources: &[Resource],
    folder: &Path,
    io: &Io,
) -> Result<Found, Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let source = resources.iter().find(|resource| resource.name.as_str() == what.from);
    let Some(ResourceKind::Sqlite { path: file }) = source.map(|resource| &resource.kind) else {
        let known: Vec<&str> = resources
            .iter()
            .filter(|resource| matches!(resource.kind, ResourceKind::Sqlite { .. }))
            .map(|resource| resource.name.as_str())
            .collect();
        let failure = usage(format!("links.{name}.from names {:?}, which is no SQLite resource", what.from));
        return Err(failure.hint(format!("SQLite resources are: {}", known.join(", "))));
    };
    let said = ResourceSettings::of_server(what.url.clone(), what.url_from.clone(), what.password.clone());
    let server = servers::of_settings(name, &said, folder, io)?;
    let ResourceKind::Postgres { url: cloud, .. } = server.kind else {
        return Err(usage(format!("links.{name} names no PostgreSQL database")));
    };
    let variables = Variables::read(what.env_file.as_deref(), folder, io)?;
    let (batch_rows, batch_origin) =
        variables.number("SYNC_BATCH_SIZE", u64::from(what.batch_rows.unwrap_or(BATCH_ROWS)))?;
    let batch_rows = u32::try_from(batch_rows).unwrap_or(BATCH_ROWS_MAX).clamp(1, BATCH_ROWS_MAX);
    let batch_rows_max = if batch_origin.is_some() { batch_rows } else { BATCH_ROWS_MAX };
    let (resync_rows, resync_origin) = variables.number("RESYNC_BATCH_SIZE", what.resync_rows.map_or(0, u64::from))?;
    let resync_rows = u32::try_from(resync_rows).ok().filter(|rows| *rows > 0);
    let written =
        what.interval.as_ref().map_or(INTERVAL_MS, |span| span.length.as_millis().try_into().unwrap_or(INTERVAL_MS));
    let (interval_ms, interval_origin) = variables.number("SYNC_INTERVAL_MS", written)?;
    let schema = what.schema.clone().unwrap_or_else(|| SCHEMA.to_owned());
    let link = Link {
        name: ResourceName::new(name).map_err(|error| usage(error.to_string()))?,
        file: file.clone(),
        cloud,
        makes_tables: what.makes_tables.unwrap_or(schema == SCHEMA),
        schema,
        tables: what.tables.clone(),
        batch_rows,
        batch_rows_max,
        resync_rows,
        interval_ms: interval_ms.max(50),
        delete_share_percent: what.delete_share.unwrap_or(DELETE_SHARE_PERCENT),
        said: Said::of(|name| variables.get(name)),
        env_file: what.env_file.as_deref().map(|file| outside::plain_path(&folder.join(file))),
    };
    let shown = vec![
        ("from".to_owned(), what.from.clone(), None),
        ("url".to_owned(), link.cloud.clone(), None),
        ("schema".to_owned(), link.schema.clone(), None),
        ("batch_rows".to_owned(), link.batch_rows.to_string(), batch_origin),
        (
            "resync_rows".to_owned(),
            link.resync_rows.map_or_else(|| "as many as are read".to_owned(), |rows| rows.to_string()),
            resync_origin,
        ),
        ("interval".to_owned(), format!("{} ms", link.interval_ms), interval_origin),
    ];
    let password = server.password.map(|password| (server.server, password));
    Ok(Found { link, password, shown })
}

/// Variables of the environment, and below them those of the app's file.
struct Variables<'a> {
    io: &'a Io,
    file: String,
}

impl Variables<'_> {
    fn read<'a>(file: Option<&Path>, folder: &Path, io: &'a Io) -> Result<Variables<'a>, Failure> {
        let Some(file) = file else { return Ok(Variables { io, file: String::new() }) };
        let path = outside::plain_path(&folder.join(file));
        if !files::exists(&path) {
            return Ok(Variables { io, file: String::new() });
        }
        let file = files::read_text(&path).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
        Ok(Variables { io, file })
    }

    fn get(&self, name: &str) -> Option<String> {
        let set = self.io.env.var(name).and_then(|value| value.into_string().ok());
        set.or_else(|| value_of(&self.file, name))
    }

    fn number(&self, name: &str, otherwise: u64) -> Result<(u64, Option<Origin>), Failure> {
        match self.get(name) {
            None => Ok((otherwise, None)),
            Some(text) => match text.trim().parse::<u64>() {
                Ok(number) if number > 0 => Ok((number, Some(Origin::Variable(name.to_owned())))),
                _ => {
                    let failure = Failure::new(FailureKind::Usage, format!("{name} is no number above zero"));
                    Err(failure.hint(format!("{name}=500, for example")))
                }
            },
        }
    }
}

impl ResourceSettings {
    /// A database on a server of which nothing more is said.
    fn of_server(
        url: Option<String>,
        url_from: Option<PasswordSettings>,
        password: Option<PasswordSettings>,
    ) -> ResourceSettings {
        ResourceSettings {
            kind: KindSettings::Postgres,
            path: None,
            url,
            url_from,
            password,
            schemas: Vec::new(),
            swap: None,
            roles: Vec::new(),
            exclude: Vec::new(),
            stop: None,
            start: None,
            critical_tables: Vec::new(),
            may_be_empty: Vec::new(),
            checks: std::collections::BTreeMap::new(),
            owner_columns: Vec::new(),
            salvage_columns: std::collections::BTreeMap::new(),
            migrations: None,
            lock_timeout: None,
            statement_timeout: None,
            alias: false,
            dated_days: None,
            send_to: None,
            schedule: super::schedules::OwnScheduleSettings::default(),
        }
    }
}
