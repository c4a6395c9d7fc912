//! The little of the outside world that settings and secrets need before there is anything to wire: places of vaults as text,
//! who we are, and what a program prints. Like `wire`, it names concrete doors; it knows neither settings nor secrets.

use std::{
    ffi::OsString,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use lifeboat_io::{Invocation, Io, Location, Stop, database::postgres::Address, parse_location};
use lifeboat_model::{Failure, FailureKind};
use secrecy::SecretString;

/// A place for a vault, made whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As text that means the same from every folder.
    pub location: String,
    /// The folder, when it is one on this host.
    pub folder: Option<PathBuf>,
}

/// Reads a place for a vault; a relative folder begins at `base`.
///
/// # Errors
/// It is no place for a vault.
pub fn place(text: &str, base: &Path) -> Result<Place, Failure> {
    let location = parse_location(text).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    let location = match location {
        Location::Folder(path) => Location::Folder(plain_path(&base.join(path))),
        Location::S3 { .. } => location,
    };
    let folder = match &location {
        Location::Folder(path) => Some(path.clone()),
        Location::S3 { .. } => None,
    };
    Ok(Place { location: location.to_string(), folder })
}

/// A database on a server, as an address says it.
pub struct OnServer {
    /// The address without the password.
    pub url: String,
    /// The server alone: the same for all its databases.
    pub server: String,
    /// The database.
    pub database: String,
    /// The password that came with the address.
    pub password: Option<SecretString>,
}

/// Reads the address of a database; what it leaves out is what libpq would take.
///
/// # Errors
/// It cannot be understood. The text is never repeated: there may be a password in it.
pub fn on_server(text: &str, io: &Io) -> Result<OnServer, Failure> {
    let address = Address::parse(text, &*io.env).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    let (url, server) = (address.url(), server_of(&address));
    Ok(OnServer { url, server, database: address.database, password: address.password })
}

/// The server of an address: the same for all its databases.
pub fn server_of(address: &Address) -> String {
    address.with_database("").url()
}

/// Whether a text can be the place of a vault.
///
/// # Errors
/// Why not, and what to write instead.
pub fn check_location(text: &str) -> Result<(), String> {
    parse_location(text).map(|_| ()).map_err(|error| error.why)
}

/// Whether a text is where an app listens: `http://HOST:PORT`.
pub fn is_upstream(text: &str) -> bool {
    lifeboat_web::Gateway::new(text, std::time::Duration::ZERO).is_ok()
}

/// Whether this process belongs to root.
pub fn is_root() -> bool {
    lifeboat_io::process::owner().0 == 0
}

/// Runs a program and returns what it printed.
///
/// # Errors
/// It could not be started, took too long, or ended with a code other than 0; what it said on standard error comes with it, what it
/// printed does not.
pub fn output_of(
    words: &[String],
    variables: Vec<(&str, OsString)>,
    limit: Duration,
    io: &Io,
) -> Result<Vec<u8>, Failure> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::new(FailureKind::Usage, "there is no command"));
    };
    let what = variables
        .into_iter()
        .fold(Invocation::new(program, limit).args(arguments), |what, (name, value)| what.env(name, value));
    let exit = io
        .exec
        .run(&what, None, &Stop::default())
        .map_err(|error| Failure::from_error(FailureKind::Refused, &error))?;
    if exit.ok() {
        return Ok(exit.stdout_tail);
    }
    let failure = Failure::new(FailureKind::Refused, format!("{program} ended with code {}", exit.code));
    let said = exit.stderr_text();
    Err(if said.is_empty() { failure } else { failure.because(said.lines().last().unwrap_or_default().to_owned()) })
}

/// A path without `.` and `..`, by its words alone.
pub fn plain_path(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(part),
        }
    }
    out
}
