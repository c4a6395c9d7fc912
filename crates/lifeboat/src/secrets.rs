//! Passwords of vaults: where they come from, and reading them. They are read when a vault is opened, not before, and are
//! never on a command line.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use lifeboat_io::{Io, files};
use lifeboat_model::{Failure, FailureKind};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroize};

use crate::outside;

pub mod variables;

/// The variable that holds the password when nothing else is said.
pub const PASSWORD_VARIABLE: &str = "LIFEBOAT_VAULT_PASSWORD";
/// What stands for a secret wherever one would be shown.
pub const HIDDEN: &str = "•••";

/// How long a command that prints a password may take: a person may have to touch a key or type something elsewhere.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// More than any password; a file that is longer was named by mistake.
const PASSWORD_BYTES_MAX: usize = 64 << 10;

/// Variables that programs which know passwords need, beyond the few that every program gets.
const PASSED_TO_COMMANDS: &[&str] = &[
    "SSH_AUTH_SOCK",
    "GNUPGHOME",
    "GPG_TTY",
    "GPG_AGENT_INFO",
    "DBUS_SESSION_BUS_ADDRESS",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "PASSWORD_STORE_DIR",
    "OP_SERVICE_ACCOUNT_TOKEN",
    "OP_CONNECT_HOST",
    "OP_CONNECT_TOKEN",
    "BW_SESSION",
    "VAULT_ADDR",
    "VAULT_TOKEN",
    "VAULT_NAMESPACE",
    "DOPPLER_TOKEN",
    "INFISICAL_TOKEN",
    "SOPS_AGE_KEY_FILE",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONFIG_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_CONFIG_DIR",
    "CREDENTIALS_DIRECTORY",
];

/// Where a password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// An environment variable.
    Variable(String),
    /// The same, and where it is not set, a file of variables such as `.env`.
    VariableIn {
        /// Its name.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// A file that holds nothing else.
    File(PathBuf),
    /// A command that prints it.
    Command(Vec<String>),
    /// Nobody has said.
    Nowhere,
}

/// For a sentence: `the variable X`. Arguments of a command are left out.
impl fmt::Display for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordSource::Variable(name) => write!(f, "the variable {name}"),
            PasswordSource::VariableIn { name, file } => {
                write!(f, "the variable {name}, or {name} in {}", file.display())
            }
            PasswordSource::File(path) => write!(f, "the file {}", path.display()),
            PasswordSource::Command(words) => write!(f, "the command {}", words.first().map_or("", String::as_str)),
            PasswordSource::Nowhere => f.write_str("nowhere"),
        }
    }
}

/// A password that came with an address. It is shown to nobody.
#[derive(Clone, Debug)]
pub struct Said(pub SecretString);

impl PartialEq for Said {
    fn eq(&self, other: &Said) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Said {}

/// How to get into a database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerPassword {
    /// It came with the address.
    Said(Said),
    /// It is somewhere.
    From(PasswordSource),
}

/// Which password belongs to which vault, and to which database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwords {
    by_location: BTreeMap<String, PasswordSource>,
    by_server: BTreeMap<String, ServerPassword>,
    by_channel: BTreeMap<String, PasswordSource>,
    others: PasswordSource,
}

impl Passwords {
    /// One source for all vaults.
    pub fn new(others: PasswordSource) -> Passwords {
        Passwords { by_location: BTreeMap::new(), by_server: BTreeMap::new(), by_channel: BTreeMap::new(), others }
    }

    /// Says where the password of one vault comes from.
    pub fn insert(&mut self, location: &str, source: PasswordSource) {
        self.by_location.insert(location.to_owned(), source);
    }

    /// Says where the password of a database server comes from; `server` is an address without a database.
    pub fn insert_server(&mut self, server: String, password: ServerPassword) {
        self.by_server.insert(server, password);
    }

    /// Says where the address of a channel's webhook is.
    pub fn insert_channel(&mut self, channel: &str, source: PasswordSource) {
        self.by_channel.insert(channel.to_owned(), source);
    }

    /// Where the address of a channel's webhook is.
    pub fn channel(&self, channel: &str) -> &PasswordSource {
        self.by_channel.get(channel).unwrap_or(&PasswordSource::Nowhere)
    }

    /// The password of a database server, when somebody has said anything about it.
    pub fn server(&self, server: &str) -> Option<&ServerPassword> {
        self.by_server.get(server)
    }

    /// Where the password of a vault comes from.
    pub fn source(&self, location: &str) -> &PasswordSource {
        self.by_location.get(location).unwrap_or(&self.others)
    }
}

/// Reads the password of the vault, or of the database server, at `location`. A newline at its end is not part of it.
///
/// # Errors
/// Nobody has said where it is; the variable is not set; the file cannot be read; the command failed; it is empty, or is
/// something that cannot be meant (several lines, space at an end, which restic would take away).
pub fn read(source: &PasswordSource, location: &str, io: &Io) -> Result<SecretString, Failure> {
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    let bytes = match source {
        PasswordSource::Nowhere => {
            let message = format!(
                "there is no password for the vault {location}: set {PASSWORD_VARIABLE}, or write password = {{ file = \"…\" }} or \
                 password = {{ cmd = [\"…\"] }} under [vault] in lifeboat.toml"
            );
            return Err(refused(message));
        }
        PasswordSource::Variable(name) => {
            let value = io.env.var(name).ok_or_else(|| {
                let message = format!("the password of the vault {location} should be in {name}, which is not set");
                let hint =
                    "or say password = { file = \"…\" } or password = { cmd = [\"…\"] } under [vault] in lifeboat.toml";
                refused(message).hint(format!("set {name}, {hint}"))
            })?;
            value.into_encoded_bytes()
        }
        PasswordSource::VariableIn { name, file } => match io.env.var(name) {
            Some(value) => value.into_encoded_bytes(),
            None => {
                let mut text = String::from_utf8_lossy(&file_of(file, location)?).into_owned();
                let value = variables::value_of(&text, name);
                text.zeroize();
                let value = value.ok_or_else(|| {
                    let message = format!("there is no {name} in {}, nor is the variable set", file.display());
                    refused(message).hint(format!("set {name}, or write it into {}", file.display()))
                })?;
                value.into_bytes()
            }
        },
        PasswordSource::File(path) => file_of(path, location)?,
        PasswordSource::Command(words) => {
            let doing = format!("{source} was to print the password of the vault {location} and did not");
            let variables = PASSED_TO_COMMANDS.iter().filter_map(|name| Some((*name, io.env.var(name)?))).collect();
            outside::output_of(words, variables, COMMAND_LIMIT, io).map_err(|failure| failure.while_doing(doing))?
        }
    };
    fit(bytes).map_err(|why| refused(format!("the password of the vault {location}, from {source}, {why}")))
}

fn file_of(path: &Path, location: &str) -> Result<Vec<u8>, Failure> {
    if files::size(path).unwrap_or(0) > PASSWORD_BYTES_MAX as u64 {
        let message = format!("{} is too long to be a password", path.display());
        return Err(Failure::new(FailureKind::Refused, message));
    }
    let doing = format!("cannot read the password of the vault {location}");
    files::read(path).map_err(|error| Failure::from_error(FailureKind::Refused, &error).while_doing(doing))
}

/// Takes the newline away and refuses what cannot be a password.
fn fit(mut bytes: Vec<u8>) -> Result<SecretString, &'static str> {
    while bytes.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        bytes.pop();
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            error.into_bytes().zeroize();
            return Err("is not text in UTF-8");
        }
    };
    let secret = SecretString::from(text);
    let text = secrecy::ExposeSecret::expose_secret(&secret);
    match () {
        () if text.is_empty() => Err("is empty"),
        () if text.contains(['\n', '\r']) => Err("has more than one line"),
        () if text.contains('\0') => Err("has a zero byte in it"),
        // `restic` takes it away when it reads a password from a file: the way out without Lifeboat would be shut.
        () if text.trim() != text => Err("begins or ends with a space"),
        () => Ok(secret),
    }
}

/// What a person should know about a source before anything is read: others can read the password's file.
pub fn warning(source: &PasswordSource) -> Option<String> {
    match source {
        PasswordSource::File(path) | PasswordSource::VariableIn { file: path, .. } => exposed(path),
        PasswordSource::Variable(_) | PasswordSource::Command(_) | PasswordSource::Nowhere => None,
    }
}

fn exposed(path: &Path) -> Option<String> {
    let mode = files::mode(path).ok()?;
    let who = match (mode & 0o004 != 0, mode & 0o040 != 0) {
        (true, _) => "every user of this host",
        (false, true) => "its group",
        (false, false) => return None,
    };
    Some(format!("{who} can read the password in {0}: chmod 600 {0}", path.display()))
}
