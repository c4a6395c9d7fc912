//! PostgreSQL's own programs: which are installed, which one fits, how they are called.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Address, PgError, fence::FENCE_SCHEMA, side::SIDE_PREFIX, watch::WATCH_SCHEMA};
use crate::{
    env::Env,
    exec::{Exec, Invocation},
    files,
    stop::Stop,
};

/// How long `pg_dump --version` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// How long reading or writing a schema may take.
const SCHEMA_LIMIT: Duration = Duration::from_secs(3600);
/// How long writing a whole database may take.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(7 * 86_400);
/// How long `pg_dump` waits for a table that others are changing, in milliseconds.
const LOCK_WAIT_MS: u32 = 10_000;

/// Folders that packages put versions into; `*` stands for one name.
const FOLDERS: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// One version of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// The folder that `pg_dump` and `pg_restore` are in.
    pub folder: PathBuf,
    /// Their major version.
    pub major: u32,
    /// Their version: `16.14`.
    pub version: String,
}

/// What of a database is meant; schemas by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these; all when empty.
    pub only: Vec<String>,
    /// Not these.
    pub except: Vec<String>,
}

impl Selection {
    /// Everything on Supabase that is the app's: its own schemas, accounts, storage metadata and the migration ledger.
    /// The platform makes the others itself, and does not let us.
    pub fn supabase() -> Selection {
        Selection { only: Vec::new(), except: PLATFORM_SCHEMAS.map(str::to_owned).to_vec() }
    }

    /// Whether a schema is meant.
    pub fn takes(&self, schema: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == schema);
        (self.only.is_empty() || named(&self.only)) && !named(&self.except)
    }
}

/// Schemas that Supabase owns and rebuilds.
pub(super) const PLATFORM_SCHEMAS: [&str; 14] = [
    "_analytics",
    "_realtime",
    "cron",
    "extensions",
    "graphql",
    "graphql_public",
    "net",
    "pgbouncer",
    "pgsodium",
    "pgsodium_masks",
    "realtime",
    "supabase_functions",
    "tiger",
    "vault",
];

/// Finds all that are installed: in `PATH`, and where packages put their versions.
///
/// # Errors
/// Only [`PgError::Exec`], when broken off; a program that does not say its version is passed over.
pub fn find_clients(exec: &dyn Exec, env: &dyn Env, stop: &Stop) -> Result<Vec<Clients>, PgError> {
    // Versioned folders first: Debian's /usr/bin/pg_dump is a wrapper that chooses by itself.
    let mut folders: Vec<PathBuf> = FOLDERS.iter().flat_map(|pattern| matching(pattern)).collect();
    folders.extend(env.var("PATH").iter().flat_map(std::env::split_paths));
    find_clients_in(&folders, exec, stop)
}

/// Finds those in the given folders.
///
/// # Errors
/// As [`find_clients`].
pub fn find_clients_in(folders: &[PathBuf], exec: &dyn Exec, stop: &Stop) -> Result<Vec<Clients>, PgError> {
    let mut found: Vec<Clients> = Vec::new();
    for folder in folders.iter().filter(|folder| files::exists(&folder.join("pg_dump"))) {
        let what = Invocation::new(folder.join("pg_dump"), VERSION_LIMIT).arg("--version");
        stop.check()?;
        let Ok(exit) = exec.run(&what, None, stop) else { continue };
        let Some((major, version)) = parse_version(&exit.stdout_text()) else { continue };
        if !found.iter().any(|one| one.major == major) && files::exists(&folder.join("pg_restore")) {
            found.push(Clients { folder: folder.clone(), major, version });
        }
    }
    Ok(found)
}

/// The one for a server: of its own version, or the oldest newer one, since `pg_dump` refuses newer servers.
///
/// # Errors
/// [`PgError::NoClient`], with the package to install.
pub fn choose_clients(found: &[Clients], server_major: u32) -> Result<&Clients, PgError> {
    let fitting = found.iter().filter(|one| one.major >= server_major).min_by_key(|one| one.major);
    fitting.ok_or_else(|| PgError::NoClient {
        server: server_major,
        found: found.iter().map(|one| one.major).collect(),
        package: format!("postgresql-client-{server_major}"),
    })
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.split("(PostgreSQL) ").nth(1)?.split_whitespace().next()?;
    let major = version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()?;
    Some((major, version.to_owned()))
}

/// The folders that a pattern with one `*` names.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![pattern.into()] };
    let (folder, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let entries = files::list_folder(Path::new(folder)).unwrap_or_default();
    let fits = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let mut all: Vec<PathBuf> = entries.into_iter().filter(fits).map(|path| path.join(&after[1..])).collect();
    all.sort();
    all
}

/// Writes all definitions, as of a snapshot, into an archive without data.
pub fn dump_schema(
    clients: &Clients,
    address: &Address,
    snapshot: Option<&str>,
    selection: &Selection,
    into: &Path,
) -> Invocation {
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    Invocation::new(clients.folder.join("pg_dump"), SCHEMA_LIMIT)
        // Not --schema-only, which leaves out REFRESH MATERIALIZED VIEW.
        .args(["--format=custom", "--section=pre-data", "--section=post-data", "--no-password"])
        // Large objects are ours to copy, with their owners and grants.
        .arg("-B")
        .arg(format!("--lock-wait-timeout={LOCK_WAIT_MS}"))
        .args(snapshot.map(|id| format!("--snapshot={id}")))
        .arg(format!("--exclude-schema={FENCE_SCHEMA}"))
        .arg(format!("--exclude-schema={WATCH_SCHEMA}"))
        .arg(format!("--exclude-schema={SIDE_PREFIX}*"))
        .args(selection.only.iter().map(|name| format!("--schema={}", quoted(name))))
        .args(selection.except.iter().map(|name| format!("--exclude-schema={}", quoted(name))))
        .arg("--file")
        .arg(into)
        .with_variables(address)
}

/// Writes one section of an archive as SQL. No server takes part.
pub fn section_as_sql(clients: &Clients, archive: &Path, section: &str, into: &Path) -> Invocation {
    Invocation::new(clients.folder.join("pg_restore"), SCHEMA_LIMIT)
        .arg(format!("--section={section}"))
        .arg("--file")
        .arg(into)
        .arg(archive)
}

/// Writes all of an archive as SQL, rows included. No server takes part.
pub fn restore_as_sql(clients: &Clients, archive: &Path, into: &Path) -> Invocation {
    Invocation::new(clients.folder.join("pg_restore"), ARCHIVE_LIMIT).arg("--file").arg(into).arg(archive)
}

/// Writes a whole database, rows included, as an archive that `pg_restore` loads.
pub fn dump_archive(clients: &Clients, address: &Address, into: &Path) -> Invocation {
    Invocation::new(clients.folder.join("pg_dump"), ARCHIVE_LIMIT)
        .args(["--format=custom", "--no-password"])
        .arg(format!("--exclude-schema={FENCE_SCHEMA}"))
        .arg(format!("--exclude-schema={WATCH_SCHEMA}"))
        .arg("--file")
        .arg(into)
        .with_variables(address)
}

trait WithVariables {
    fn with_variables(self, address: &Address) -> Self;
}

impl WithVariables for Invocation {
    fn with_variables(self, address: &Address) -> Invocation {
        address.variables().into_iter().fold(self, |what, (name, value)| what.env(name, value))
    }
}

/// Runs a program that must succeed.
///
/// # Errors
/// [`PgError::Program`] with what it said; [`PgError::Exec`].
pub fn run_client(exec: &dyn Exec, what: &Invocation, stop: &Stop) -> Result<(), PgError> {
    let exit = exec.run(what, None, stop)?;
    if exit.ok() {
        return Ok(());
    }
    let name = what.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(PgError::Program { program: name, said: exit.stderr_text() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MapEnv;

    fn clients(majors: &[u32]) -> Vec<Clients> {
        let one = |&major: &u32| Clients { folder: format!("/pg{major}").into(), major, version: format!("{major}.1") };
        majors.iter().map(one).collect()
    }

    #[test]
    fn the_fitting_client_is_chosen() {
        let found = clients(&[16, 13, 18]);
        let chosen = |server| choose_clients(&found, server).map(|one| one.major).map_err(|error| error.to_string());
        assert_eq!(chosen(13), Ok(13));
        assert_eq!(chosen(14), Ok(16));
        assert_eq!(chosen(17), Ok(18));
        assert!(chosen(19).unwrap_err().contains("postgresql-client-19"));
        assert!(choose_clients(&[], 15).unwrap_err().to_string().contains("no pg_dump is installed here"));
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some((15, "15.18".into())));
        assert_eq!(parse_version("pg_dump (PostgreSQL) 19beta1"), Some((19, "19beta1".into())));
        assert_eq!(parse_version("something else"), None);
    }

    /// BKP-25: the password is in a variable of the program, never in an argument, and not in what is shown.
    #[test]
    fn bkp_25_no_password_in_arguments() {
        let address = Address::parse("postgres://app:s3cret@h:6000/shop", &MapEnv::default()).unwrap();
        let selection = Selection { only: vec!["my \"schema\"".into()], except: vec![] };
        let what =
            dump_schema(&clients(&[15])[0], &address, Some("00000003-1"), &selection, Path::new("/w/schema.dump"));
        assert_eq!(
            what.to_string(),
            "/pg15/pg_dump --format=custom --section=pre-data --section=post-data --no-password -B --lock-wait-timeout=10000 \
             --snapshot=00000003-1 --exclude-schema=lifeboat_fence --exclude-schema=lifeboat_watch '--exclude-schema=lifeboat_restored_*' '--schema=\"my \"\"schema\"\"\"' --file /w/schema.dump"
        );
        assert!(!format!("{what:?}").contains("s3cret"));
        assert!(what.env.contains(&("PGPASSWORD".into(), "s3cret".into())));
    }
}
