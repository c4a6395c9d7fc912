//! The only file that names concrete doors: the real clock and files, vaults in folders and buckets, SQLite. Everything else
//! in the binary takes what it is handed from here.

pub mod shop;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lifeboat_engine::{
    Engine, Vaults,
    act::{postgres_failure, sqlite_failure, vault_failure},
};
use lifeboat_io::{
    Io, Location, ObjectErrorKind, ObjectStore, Stop,
    database::{
        postgres::{self, Address, PgError},
        sqlite,
    },
    files, holders,
    objects::location::OpenError,
    open_location, parse_location,
    signals::SignalGuard,
};
use lifeboat_model::{Failure, FailureKind};
use lifeboat_store::{
    StateFolder,
    vault::{Vault, VaultError},
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    outside::server_of,
    secrets::{self, HIDDEN, PasswordSource, Passwords, ServerPassword},
    settings::Resolved,
};

/// Secrets that may turn up in what programs and servers say, by the variable that holds them.
const SECRET_VARIABLES: &[&str] = &["LIFEBOAT_VAULT_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

pub use lifeboat_store::{Role, TokenError, Tokens};

/// Who may use the daemon of this engine.
pub fn tokens(engine: &Engine) -> Tokens {
    Tokens::at(&engine.state().tokens())
}

/// Whether a daemon answers there, whatever it says.
///
/// # Errors
/// Why not, in a few words.
pub fn daemon_answers(address: std::net::SocketAddr) -> Result<u16, String> {
    lifeboat_io::answers_over_http(address, "/api/health")
}

/// The real doors.
pub fn io() -> Io {
    Io::system()
}

/// Turns Ctrl-C and SIGTERM into a request to stop, as long as the guard lives. Nothing when the system refuses: then the
/// signals end the process, and the journal says where it was.
pub fn signals(stop: &Stop) -> Option<SignalGuard> {
    lifeboat_io::signals::install(stop).ok()
}

/// An engine for what was resolved. Vaults are opened, and passwords read, when they are first needed.
///
/// # Errors
/// When the state folder cannot be made.
pub fn engine(resolved: &Resolved, io: &Io) -> Result<Engine, Failure> {
    let state = StateFolder::open(&resolved.state).map_err(|error| {
        let failure = Failure::from_error(FailureKind::Refused, &error).while_doing("cannot use the state folder");
        failure.hint("--state FOLDER, LIFEBOAT_STATE, or folder under [state] in lifeboat.toml")
    })?;
    Ok(Engine::new(io.clone(), state, resolved.setup.clone(), vaults(resolved, io)))
}

/// The vaults of what was resolved.
pub fn vaults(resolved: &Resolved, io: &Io) -> Arc<dyn Vaults> {
    Arc::new(OpenVaults {
        io: io.clone(),
        passwords: resolved.passwords.clone(),
        open: Mutex::default(),
        known: Mutex::default(),
    })
}

/// What a server says of a database that is to be captured: version, size, the `pg_dump` that fits.
///
/// # Errors
/// Why it cannot be captured.
pub fn look_at_server(url: &str, resolved: &Resolved, io: &Io) -> Result<String, Failure> {
    let (vaults, stop) = (vaults(resolved, io), Stop::default());
    let failed = |error: PgError| postgres_failure(&error);
    let address = vaults.database(url)?;
    postgres::refuse_pooler(&address, &stop).map_err(failed)?;
    let mut session = postgres::Session::open(&address, &stop).map_err(failed)?;
    let target = postgres::look_at(&mut session).map_err(failed)?;
    let found = postgres::find_clients(&*io.exec, &*io.env, &stop).map_err(failed)?;
    let clients = postgres::choose_clients(&found, session.major()).map_err(failed)?;
    let bytes = lifeboat_model::time::show_bytes(target.database.bytes);
    Ok(format!("{address} is PostgreSQL {}, {bytes}; pg_dump {} fits", session.major(), clients.version))
}

/// Vaults that stay open once they are, and the secrets read for them.
struct OpenVaults {
    io: Io,
    passwords: Passwords,
    open: Mutex<BTreeMap<String, Arc<Vault>>>,
    known: Mutex<Vec<SecretString>>,
}

impl OpenVaults {
    fn store(&self, location: &str) -> Result<Arc<dyn ObjectStore>, Failure> {
        if location.is_empty() {
            let failure = Failure::new(FailureKind::Refused, "nobody has said where the vault is");
            return Err(failure.hint("--vault LOCATION, LIFEBOAT_VAULT, or location under [vault] in lifeboat.toml"));
        }
        let place = parse_location(location).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
        open_location(&place, &self.io).map_err(|error| open_failure(&error))
    }

    fn password(&self, location: &str) -> Result<SecretString, Failure> {
        let password = secrets::read(self.passwords.source(location), location, &self.io)?;
        lock(&self.known).push(password.clone());
        Ok(password)
    }

    /// The vault's own failure, with where its password came from where that matters.
    fn failure(&self, location: &str, error: &VaultError) -> Failure {
        let failure = vault_failure(error);
        match error.root() {
            VaultError::WrongPassword { .. } => {
                failure.because(format!("it came from {}", self.passwords.source(location)))
            }
            _ => failure,
        }
    }

    fn remember(&self, location: &str, vault: Vault) -> Arc<Vault> {
        let vault = Arc::new(vault);
        lock(&self.open).insert(location.to_owned(), vault.clone());
        vault
    }
}

impl Vaults for OpenVaults {
    fn open(&self, location: &str) -> Result<Arc<Vault>, Failure> {
        if let Some(vault) = lock(&self.open).get(location) {
            return Ok(vault.clone());
        }
        let store = self.store(location)?;
        if !has_config(&*store)? {
            let failure = self.failure(location, &VaultError::NoVault { place: store.place() });
            return Err(failure
                .hint("lifeboat backup makes one there; if there should be one, check where the settings say it is"));
        }
        let vault = Vault::open(store, &self.password(location)?, &self.io);
        vault.map(|vault| self.remember(location, vault)).map_err(|error| self.failure(location, &error))
    }

    fn exists(&self, location: &str) -> Result<bool, Failure> {
        has_config(&*self.store(location)?)
    }

    fn create(&self, location: &str) -> Result<Arc<Vault>, Failure> {
        if self.exists(location)? {
            return self.open(location);
        }
        match Vault::create(self.store(location)?, &self.password(location)?, &self.io) {
            Ok(vault) => Ok(self.remember(location, vault)),
            Err(error) if matches!(error.root(), VaultError::AlreadyThere { .. }) => self.open(location), // somebody was faster
            Err(error) => Err(self.failure(location, &error)),
        }
    }

    fn create_like(&self, location: &str, like: &Vault) -> Result<Arc<Vault>, Failure> {
        if self.exists(location)? {
            return self.open(location);
        }
        match like.create_like(self.store(location)?, &self.password(location)?, &self.io) {
            Ok(vault) => Ok(self.remember(location, vault)),
            Err(error) if matches!(error.root(), VaultError::AlreadyThere { .. }) => self.open(location), // somebody was faster
            Err(error) => Err(self.failure(location, &error)),
        }
    }

    fn database(&self, url: &str) -> Result<Address, Failure> {
        let mut address =
            Address::parse(url, &*self.io.env).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
        match self.passwords.server(&server_of(&address)) {
            Some(ServerPassword::Said(said)) => address.password = Some(said.0.clone()),
            Some(ServerPassword::From(source)) => {
                address.password = Some(secrets::read(source, &address.to_string(), &self.io)?);
            }
            None => {} // what libpq would find
        }
        lock(&self.known).extend(address.password.clone());
        Ok(address)
    }

    fn webhook(&self, channel: &str) -> Result<SecretString, Failure> {
        let source = self.passwords.channel(channel);
        let url = secrets::read(source, &format!("notify.{channel}"), &self.io).map_err(|_| {
            let message = format!("the address of the webhook of {channel} is not in {source}");
            Failure::new(FailureKind::Refused, message).hint(format!("lifeboat messages test {channel}"))
        })?;
        lock(&self.known).push(url.clone());
        Ok(url)
    }

    fn objects(&self, location: &str) -> Result<Arc<dyn ObjectStore>, Failure> {
        self.store(location)
    }

    fn folder(&self, location: &str) -> Option<PathBuf> {
        match parse_location(location) {
            Ok(Location::Folder(path)) => Some(path),
            Ok(Location::S3 { .. }) | Err(_) => None,
        }
    }

    fn password_place(&self, location: &str) -> String {
        match self.passwords.source(location) {
            // The whole command: it says which entry of which password manager, and stands in the settings file anyway.
            PasswordSource::Command(words) => format!("the command {}", words.join(" ")),
            PasswordSource::Nowhere => {
                format!("not said in the settings; {} when it is used", secrets::PASSWORD_VARIABLE)
            }
            source @ (PasswordSource::Variable(_) | PasswordSource::VariableIn { .. } | PasswordSource::File(_)) => {
                source.to_string()
            }
        }
    }

    fn scrub(&self, text: &str) -> String {
        let variables = SECRET_VARIABLES.iter().filter_map(|name| self.io.env.var(name)?.into_string().ok());
        let known: Vec<String> = lock(&self.known).iter().map(|secret| secret.expose_secret().to_owned()).collect();
        let mut secrets: Vec<String> = variables.chain(known).filter(|secret| !secret.is_empty()).collect();
        // The longer first: one may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        without_url_passwords(&secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN)))
    }
}

/// Whether a vault is there. One that has lost its config, but not its data, is damaged: making a new one over it would
/// throw its keys away.
fn has_config(store: &dyn ObjectStore) -> Result<bool, Failure> {
    let failure = |error: &lifeboat_io::ObjectError| {
        let kind = match error.kind {
            ObjectErrorKind::Denied => FailureKind::Refused,
            ObjectErrorKind::Damaged => FailureKind::Damaged,
            ObjectErrorKind::Missing | ObjectErrorKind::Temporary | ObjectErrorKind::Full | ObjectErrorKind::Other => {
                FailureKind::Outside
            }
        };
        Failure::from_error(kind, error).while_doing(format!("cannot look into the vault {}", store.place()))
    };
    match store.size("config") {
        Ok(_) => return Ok(true),
        Err(error) if error.kind == ObjectErrorKind::Missing => {}
        Err(error) => return Err(failure(&error)),
    }
    for folder in ["snapshots", "index", "data"] {
        let found = match store.list(folder) {
            Ok(found) => !found.is_empty(),
            Err(error) if error.kind == ObjectErrorKind::Missing => false,
            Err(error) => return Err(failure(&error)),
        };
        if found {
            let message = format!("the vault {} has data and has lost its file \"config\"", store.place());
            return Err(Failure::new(FailureKind::Damaged, message)
                .hint("bring that file back from a copy of the vault, or choose another place"));
        }
    }
    Ok(false)
}

fn open_failure(error: &OpenError) -> Failure {
    let failure = Failure::from_error(FailureKind::Refused, error);
    match error {
        OpenError::MissingVariable { name, .. } | OpenError::BadVariable { name, .. } => {
            failure.hint(format!("set {name}"))
        }
        OpenError::Object(_) => failure,
    }
}

/// Hides what stands between `://user:` and `@`.
fn without_url_passwords(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end =
            after.find(|letter: char| letter.is_whitespace() || "/?#\"'<>".contains(letter)).unwrap_or(after.len());
        let (host, tail) = after.split_at(end);
        match host.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
            Some((user, host)) => out.push_str(&format!("{user}:{HIDDEN}@{host}")),
            None => out.push_str(host),
        }
        rest = tail;
    }
    out + rest
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a SQLite database is, in a few words, without using it: its pages and its journal mode.
///
/// # Errors
/// It is missing, cannot be read, or is no database.
pub fn look_at_database(path: &Path) -> Result<String, Failure> {
    sqlite::peek(path).map_err(|error| sqlite_failure(&error))?;
    let header = sqlite::Header::read(path).map_err(|error| sqlite_failure(&error))?;
    let size = lifeboat_model::time::show_bytes(header.bytes);
    Ok(format!("a SQLite database of {size}, pages of {} bytes, {} journal", header.page_size, header.journal_mode()))
}

/// What a live database's own log says of a span of time; nothing when it has no such table.
///
/// # Errors
/// When it cannot be read.
pub fn audit_log(
    path: &Path,
    table: &str,
    since: lifeboat_model::Timestamp,
    until: lifeboat_model::Timestamp,
    limit: usize,
) -> Result<Option<sqlite::AuditLog>, Failure> {
    sqlite::audit_log(path, table, since, until, limit).map_err(|error| sqlite_failure(&error))
}

/// The name beside a database that ends so: `shop.db` and `-wal` make `shop.db-wal`.
pub fn beside(database: &Path, end: &str) -> PathBuf {
    sqlite::sidecar(database, end)
}

/// The version of the SQLite library inside this program.
pub fn sqlite_version() -> &'static str {
    sqlite::library_version()
}

/// Who has a database open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBy {
    /// Names and process ids; empty when nobody was seen.
    pub found: String,
    /// How many processes we may not look at.
    pub unseen: usize,
}

/// Finds out who has a database open.
///
/// # Errors
/// When it cannot be told.
pub fn open_by(path: &Path) -> Result<OpenBy, Failure> {
    let held = holders::holders(path).map_err(|error| Failure::new(FailureKind::Unknown, error.to_string()))?;
    Ok(OpenBy { found: held.to_string(), unseen: held.unseen.len() })
}

/// Opens a vault and says who has a lock on it.
///
/// # Errors
/// It cannot be opened, or its locks cannot be read.
pub fn vault_locks(vaults: &dyn Vaults, location: &str) -> Result<Vec<String>, Failure> {
    let holders = vaults.open(location)?.lock_holders().map_err(|error| vault_failure(&error))?;
    Ok(holders.iter().map(ToString::to_string).collect())
}

/// Makes the state folder if there is none, and tries to write into it.
///
/// # Errors
/// When that fails.
pub fn try_state(path: &Path) -> Result<(), Failure> {
    let failure = |error: &lifeboat_io::PathError| Failure::from_error(FailureKind::Refused, error);
    let state = StateFolder::open(path).map_err(|error| failure(&error))?;
    let probe = state.root().join(format!("doctor.{}", std::process::id()));
    files::write(&probe, b"can be written").map_err(|error| failure(&error))?;
    files::remove_file(&probe).map_err(|error| failure(&error))
}

/// The folder of all journals in a state folder.
pub fn journals(state: &Path) -> PathBuf {
    state.join("operations")
}
