//! Where a database is and how to get in: connection strings as PostgreSQL's own programs understand them.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};

use super::PgError;
use crate::{env::Env, files};

/// How much the connection must be protected; the words are libpq's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted when the server can.
    #[default]
    Prefer,
    /// Encrypted, whoever it is; with a root certificate, as [`SslMode::VerifyCa`].
    Require,
    /// Encrypted, and signed by a root we trust.
    VerifyCa,
    /// The same, and for the host we called.
    VerifyFull,
}

impl SslMode {
    /// libpq's word.
    pub fn word(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

/// Where a database is and how to get in. What it shows of itself never has the password in it.
#[derive(Clone)]
pub struct Address {
    /// A host name or address; or, beginning with `/`, the folder of a socket.
    pub host: String,
    /// The port; also a part of the socket's name.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The password, where one was given or found.
    pub password: Option<SecretString>,
    /// How much the connection must be protected.
    pub ssl_mode: SslMode,
    /// The root certificates to trust; `system` for this computer's own.
    pub ssl_root: Option<PathBuf>,
    /// Our own certificate and its key, for servers that ask for one.
    pub ssl_client: Option<(PathBuf, PathBuf)>,
    /// Settings for the session, as `-c name=value`.
    pub options: Option<String>,
    /// How long to wait for an answer when connecting.
    pub connect_timeout: Duration,
}

/// Host, port, role and database; nothing secret.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.database)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({}@{self}, {})", self.user, self.ssl_mode.word())
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Address {
    /// Understands `postgres://role@host:port/database?sslmode=...`, `host=... dbname=...`, and `service=...`. What is
    /// not in it comes from the service file, then from the variables libpq knows (`PGHOST`, `PGPASSWORD`, ...), then
    /// from the password file; unknown words are refused, since they may be what protects the connection.
    ///
    /// # Errors
    /// [`PgError::Address`]; it never repeats the string.
    pub fn parse(text: &str, env: &dyn Env) -> Result<Address, PgError> {
        let text = text.trim();
        let text = text.strip_prefix("postgres:").filter(|rest| !rest.starts_with("//")).unwrap_or(text);
        let mut words = match text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
            Some(rest) => parse_url(rest)?,
            None if text.contains("://") => {
                return Err(bad("it begins neither with postgres:// nor with postgresql://"));
            }
            None if !text.contains('=') && !text.is_empty() => BTreeMap::from([("dbname".into(), text.to_owned())]),
            None => parse_words(text)?,
        };
        let variable = |name: &str| env.var(name).and_then(|value| value.into_string().ok()).filter(|v| !v.is_empty());
        if let Some(service) = words.remove("service").or_else(|| variable("PGSERVICE")) {
            for (word, value) in read_service(&service, &variable)? {
                words.entry(word).or_insert(value);
            }
        }
        for (word, name) in VARIABLES {
            if let (false, Some(value)) = (words.contains_key(word), variable(name)) {
                words.insert(word.into(), value);
            }
        }
        Address::from_words(words, env, &variable)
    }

    fn from_words(
        mut words: BTreeMap<String, String>,
        env: &dyn Env,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Address, PgError> {
        let mut take = |word: &str| words.remove(word).filter(|value| !value.is_empty());
        let user = take("user").unwrap_or_else(|| env.user());
        let host = take("host").or_else(|| take("hostaddr")).unwrap_or_else(default_host);
        if host.contains(',') {
            return Err(bad("it names several hosts; name the one to work with"));
        }
        let port = take("port").unwrap_or_else(|| "5432".into());
        let database = take("dbname").unwrap_or_else(|| user.clone());
        let seconds = take("connect_timeout").map_or(Ok(0), |text| text.parse::<u64>());
        let seconds = seconds.map_err(|_| bad("connect_timeout is not a number of seconds"))?;
        let ssl_root = take("sslrootcert").map(PathBuf::from);
        let ssl_mode = match take("sslmode") {
            // As libpq: the system's roots are meant to be checked.
            None if ssl_root.as_deref() == Some(Path::new("system")) => SslMode::VerifyFull,
            None => SslMode::Prefer,
            Some(word) => parse_ssl_mode(&word)?,
        };
        let mut address = Address {
            port: port.parse().map_err(|_| bad("the port is not a number"))?,
            password: take("password").map(SecretString::from),
            ssl_mode,
            ssl_root,
            ssl_client: take("sslcert").map(PathBuf::from).zip(take("sslkey").map(PathBuf::from)),
            options: take("options"),
            connect_timeout: if seconds == 0 { CONNECT_TIMEOUT } else { Duration::from_secs(seconds) },
            host,
            user,
            database,
        };
        let passfile = take("passfile");
        for word in IGNORED {
            words.remove(word);
        }
        if let Some(word) = words.keys().next() {
            return Err(bad(&format!("the word {word} in it is not known")));
        }
        if address.password.is_none() {
            let home = variable("HOME").map(|home| format!("{home}/.pgpass"));
            address.password = passfile.or(home).and_then(|file| find_password(Path::new(&file), &address));
        }
        Ok(address)
    }

    /// The same way in, to another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Address {
        Address { database: database.to_owned(), ..self.clone() }
    }

    /// The whole way in, as a connection string, but for the password.
    pub fn url(&self) -> String {
        let mut words: Vec<(&str, String)> = Vec::new();
        let host = match self.host.starts_with('/') {
            true => {
                words.push(("host", self.host.clone()));
                String::new()
            }
            false if self.host.contains(':') => format!("[{}]", self.host),
            false => escaped(&self.host),
        };
        if self.ssl_mode != SslMode::default() {
            words.push(("sslmode", self.ssl_mode.word().to_owned()));
        }
        words.extend(self.ssl_root.iter().map(|path| ("sslrootcert", path.display().to_string())));
        if let Some((certificate, key)) = &self.ssl_client {
            words.push(("sslcert", certificate.display().to_string()));
            words.push(("sslkey", key.display().to_string()));
        }
        words.extend(self.options.iter().map(|options| ("options", options.clone())));
        let words: Vec<String> = words.iter().map(|(word, value)| format!("{word}={}", escaped(value))).collect();
        let words = if words.is_empty() { String::new() } else { format!("?{}", words.join("&")) };
        format!("postgres://{}@{host}:{}/{}{words}", escaped(&self.user), self.port, escaped(&self.database))
    }

    /// Whether it is a socket on this computer.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// What PostgreSQL's programs take from their environment: no secret is in an argument.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = vec![
            ("PGHOST".into(), self.host.clone()),
            ("PGPORT".into(), self.port.to_string()),
            ("PGUSER".into(), self.user.clone()),
            ("PGDATABASE".into(), self.database.clone()),
            ("PGSSLMODE".into(), self.ssl_mode.word().into()),
            ("PGAPPNAME".into(), "lifeboat".into()),
            ("PGCONNECT_TIMEOUT".into(), self.connect_timeout.as_secs().max(2).to_string()),
        ];
        let mut add = |name: &str, value: Option<String>| all.extend(value.map(|value| (name.to_owned(), value)));
        add("PGPASSWORD", self.password.as_ref().map(|secret| secret.expose_secret().to_owned()));
        add("PGSSLROOTCERT", self.ssl_root.as_ref().map(|path| path.display().to_string()));
        add("PGSSLCERT", self.ssl_client.as_ref().map(|(path, _)| path.display().to_string()));
        add("PGSSLKEY", self.ssl_client.as_ref().map(|(_, path)| path.display().to_string()));
        add("PGOPTIONS", self.options.clone());
        all
    }
}

/// libpq's words and the variables they come from.
const VARIABLES: [(&str, &str); 12] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("dbname", "PGDATABASE"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("options", "PGOPTIONS"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
];

/// Words that change nothing for us: names, and what other drivers put into the same string.
const IGNORED: [&str; 12] = [
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "target_session_attrs",
    "gssencmode",
    "schema",
    "pgbouncer",
    "connection_limit",
];

fn bad(found: &str) -> PgError {
    PgError::Address { found: found.to_owned() }
}

fn default_host() -> String {
    let folder = "/var/run/postgresql";
    if files::is_folder(Path::new(folder)) { folder.into() } else { "localhost".into() }
}

fn parse_ssl_mode(word: &str) -> Result<SslMode, PgError> {
    match word {
        "disable" => Ok(SslMode::Disable),
        "allow" | "prefer" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        _ => Err(bad("sslmode is none of disable, prefer, require, verify-ca and verify-full")),
    }
}

/// `role:password@host:port/database?word=value&...`
fn parse_url(rest: &str) -> Result<BTreeMap<String, String>, PgError> {
    let mut words = BTreeMap::new();
    let mut put = |word: &str, raw: &str| -> Result<(), PgError> {
        if !raw.is_empty() {
            words.insert(word.to_owned(), unescape(raw)?);
        }
        Ok(())
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A password may hold a raw `/` or `@` where people forgot to escape it: the last `@` ends it.
    let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    put("user", user)?;
    put("password", password)?;
    let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
    put("dbname", database)?;
    let (host, port) = match place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':').unwrap_or("")),
        None => place.rsplit_once(':').unwrap_or((place, "")),
    };
    put("host", host)?;
    put("port", port)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (word, value) = pair.split_once('=').ok_or_else(|| bad("a part after the ? has no ="))?;
        put(if word == "ssl" { "sslmode" } else { word }, if word == "ssl" { ssl_word(value) } else { value })?;
    }
    Ok(words)
}

/// `ssl=true`, as JDBC and others write it.
fn ssl_word(value: &str) -> &str {
    if value == "true" { "require" } else { "disable" }
}

fn unescape(text: &str) -> Result<String, PgError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().unwrap_or(b'x'), rest.next().unwrap_or(b'x')];
        let digits = std::str::from_utf8(&digits).unwrap_or("x");
        bytes.push(
            u8::from_str_radix(digits, 16).map_err(|_| bad("a % in it is not followed by two digits; write %25"))?,
        );
    }
    String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))
}

/// `host=/tmp dbname='my db' password=it\'s`
fn parse_words(text: &str) -> Result<BTreeMap<String, String>, PgError> {
    let mut words = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = rest.split_once('=').ok_or_else(|| bad("a word in it has no ="))?;
        let mut value = String::new();
        let mut letters = after.trim_start().char_indices();
        let body = after.trim_start();
        let quoted = body.starts_with('\'');
        if quoted {
            letters.next();
        }
        let mut end = None;
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => value.extend(letters.next().map(|(_, next)| next)),
                '\'' if quoted => {
                    end = Some(at + 1);
                    break;
                }
                space if !quoted && space.is_whitespace() => {
                    end = Some(at);
                    break;
                }
                other => value.push(other),
            }
        }
        if quoted && end.is_none() {
            return Err(bad("a quote in it is not closed"));
        }
        words.insert(word.trim().to_owned(), value);
        rest = body[end.unwrap_or(body.len())..].trim_start();
    }
    Ok(words)
}

/// A part of `~/.pg_service.conf`.
fn read_service(service: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>, PgError> {
    let home = || variable("HOME").map(|home| format!("{home}/.pg_service.conf"));
    let path = variable("PGSERVICEFILE").or_else(home).unwrap_or_default();
    let text =
        files::read_text(Path::new(&path)).map_err(|error| bad(&format!("its service file is missing: {error}")))?;
    let heading = format!("[{service}]");
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != heading);
    if lines.next().is_none() {
        return Err(bad(&format!("{path} has no service {service}")));
    }
    let own = lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with('#'));
    Ok(own.filter_map(|line| line.split_once('=')).map(|(w, v)| (w.trim().to_owned(), v.trim().to_owned())).collect())
}

/// The password in `~/.pgpass`, which nobody else may be able to read.
fn find_password(file: &Path, address: &Address) -> Option<SecretString> {
    if files::mode(file).ok()? & 0o077 != 0 {
        return None;
    }
    let host = if address.is_socket() { "localhost" } else { &address.host };
    let wanted = [host, &address.port.to_string(), &address.database, &address.user].map(str::to_owned);
    files::read_text(file).ok()?.lines().find_map(|line| {
        let fields = split_passfile_line(line);
        let fits =
            fields.len() == 5 && fields.iter().zip(&wanted).all(|(given, wanted)| given == "*" || given == wanted);
        fits.then(|| SecretString::from(fields[4].clone()))
    })
}

fn split_passfile_line(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut().into_iter().for_each(|field| field.extend(letters.next())),
            other => fields.last_mut().into_iter().for_each(|field| field.push(other)),
        }
    }
    fields
}

/// As a connection string wants it: what is not plain is written as `%xx`.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => escaped.push(char::from(byte)),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MapEnv;

    fn check(text: &str, wanted: &str) {
        let address = Address::parse(text, &MapEnv::default()).unwrap();
        let password = address.password.as_ref().map_or("-", |secret| secret.expose_secret());
        let found = format!("{}@{address} {password} {}", address.user, address.ssl_mode.word());
        assert_eq!(found, wanted, "{text}");
        assert!(password == "-" || !format!("{address:?}").contains(password));
    }

    #[test]
    fn connection_strings() {
        check(
            "postgres://app:s3cret@db.example:6000/shop?sslmode=verify-full",
            "app@db.example:6000/shop s3cret verify-full",
        );
        check("postgresql://app@[::1]/shop", "app@::1:5432/shop - prefer");
        check("postgres://app:p%40ss%2Fw@h/shop", "app@h:5432/shop p@ss/w prefer");
        check("postgres://app:p@ss@h/shop", "app@h:5432/shop p@ss prefer");
        check("postgres:///shop?host=/tmp&user=me", "me@/tmp:5432/shop - prefer");
        check("postgres:postgres://a@h/x", "a@h:5432/x - prefer");
        check("host=/tmp dbname='my db' user=me password=it\\'s", "me@/tmp:5432/my db it's prefer");
        check("host=h user=me sslmode = require", "me@h:5432/me - require");
        for bad in
            ["mysql://x", "postgres://h/x?nonsense=1", "host='x", "host=h port=x", "host=a,b", "postgres://a:%zz@h/x"]
        {
            let error = Address::parse(bad, &MapEnv::default()).unwrap_err().to_string();
            assert!(!error.contains(bad), "{error}");
        }
    }
}
