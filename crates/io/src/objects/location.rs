//! Where a vault is, as people write it: a folder or a bucket.

use std::{ffi::OsString, fmt, path::PathBuf, sync::Arc};

use super::{
    ObjectError, ObjectStore,
    folder::Folder,
    retry::{Retry, RetryPolicy},
    s3::{self, S3, S3Settings},
};
use crate::{Io, Stop};

/// A place for objects, without the secrets that open it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// A folder of this computer.
    Folder(PathBuf),
    /// A bucket, or a folder in one.
    S3 {
        /// The server's URL; none for AWS, or what the environment says.
        endpoint: Option<String>,
        /// The bucket's name.
        bucket: String,
        /// The folder in it; empty for the bucket itself.
        prefix: String,
    },
}

/// As [`parse_location`] reads it.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A path that looks like something else says that it is a path.
            Location::Folder(path) if scheme(&path.to_string_lossy()).is_some() => write!(f, "file:{}", path.display()),
            Location::Folder(path) => path.display().fmt(f),
            Location::S3 { endpoint, bucket, prefix } => f.write_str(&s3::place(endpoint.as_deref(), bucket, prefix)),
        }
    }
}

impl std::str::FromStr for Location {
    type Err = BadLocation;

    fn from_str(text: &str) -> Result<Location, BadLocation> {
        parse_location(text)
    }
}

/// A place that cannot be meant so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no place for a vault: {why}")]
pub struct BadLocation {
    /// What was written; without the user and password of a URL.
    pub text: String,
    /// Why not, and what to write instead.
    pub why: String,
}

/// Reads `./vault`, `/abs`, `file:/x`, `s3://bucket/prefix` or `s3:http://host:port/bucket/prefix`.
///
/// # Errors
/// Nothing at all, an unknown kind of place, a name that a document left to be filled in (`your-bucket`), a bucket name
/// that no server accepts, secrets inside a URL.
pub fn parse_location(text: &str) -> Result<Location, BadLocation> {
    let text = text.trim();
    let parsed = match scheme(text) {
        None => folder(text),
        Some(("file", rest)) => folder(rest.strip_prefix("//").unwrap_or(rest)),
        Some(("s3", rest)) => bucket(rest),
        Some((other, _)) => Err(format!("\"{other}\" is not a kind of place; write a folder or s3://bucket/folder")),
    };
    parsed.map_err(|why| BadLocation { text: without_user(text), why })
}

/// The word before the first colon, when it can be the name of a kind of place: `./a:b` and `/a:b` have none.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let plain = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
    plain.then_some((scheme, rest))
}

fn folder(text: &str) -> Result<Location, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text == "~" || text.starts_with("~/") {
        return Err("only a shell understands ~; write the whole path".into());
    }
    if text.starts_with("/path/to/") || has_gap(text) {
        return Err("it is a placeholder; write the name of your own folder".into());
    }
    Ok(Location::Folder(PathBuf::from(text)))
}

/// Reads what follows `s3:`: `//bucket/prefix`, or a server's URL with both, or a server's name with both (as restic
/// writes it).
fn bucket(text: &str) -> Result<Location, String> {
    let (endpoint, path) = if let Some(path) = text.strip_prefix("//") {
        (None, path)
    } else {
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        if !["http", "https"].contains(&scheme) {
            return Err(format!("a server is reached by http or https, not by \"{scheme}\""));
        }
        let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
        if server.is_empty() {
            return Err("the server's name is missing; write s3:https://server/bucket/folder".into());
        }
        if server.contains('@') {
            return Err("a key does not belong here; put it into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into());
        }
        (Some(format!("{scheme}://{server}")), path)
    };
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    check_bucket(bucket)?;
    let prefix = prefix.trim_matches('/');
    if has_gap(prefix) {
        return Err("it has a placeholder; write the name of your own folder".into());
    }
    if prefix.split('/').any(|part| [".", ".."].contains(&part)) || prefix.contains("//") {
        return Err("a folder in a bucket has no empty, \".\" or \"..\" part".into());
    }
    Ok(Location::S3 { endpoint, bucket: bucket.into(), prefix: prefix.into() })
}

fn check_bucket(bucket: &str) -> Result<(), String> {
    const LEFT_TO_BE_FILLED_IN: [&str; 6] =
        ["bucket-name", "bucketname", "example-bucket", "changeme", "change-me", "replace-me"];
    let small = bucket.to_ascii_lowercase();
    if bucket.is_empty() {
        return Err("the bucket's name is missing; write s3://bucket/folder".into());
    }
    let yours = small.strip_prefix("your").is_some_and(|rest| rest.starts_with(['-', '_', '.']) || rest == "bucket");
    if yours || LEFT_TO_BE_FILLED_IN.contains(&small.as_str()) || has_gap(bucket) {
        return Err(format!("\"{bucket}\" is a placeholder; write the name of your own bucket"));
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let ends = [bucket.as_bytes()[0], bucket.as_bytes()[bucket.len() - 1]];
    let good =
        (3..=63).contains(&bucket.len()) && bucket.bytes().all(plain) && !ends.iter().any(|end| b".-".contains(end));
    if good {
        return Ok(());
    }
    Err(format!("\"{bucket}\" cannot be a bucket's name: those have 3 to 63 small letters, digits, dots and hyphens"))
}

/// Whether a template was not filled in: `<name>`, `${NAME}`, `{{name}}`.
fn has_gap(text: &str) -> bool {
    text.contains("${") || text.contains("{{") || (text.contains('<') && text.contains('>'))
}

/// A URL without what stands before its `@`.
fn without_user(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('/').unwrap_or((rest, "")).0.rsplit_once('@') {
            Some((user, _)) => format!("{scheme}://…{}", &rest[user.len()..]),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

/// Why a place cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A variable that the place needs is not set.
    #[error("cannot use {place}: {name} is not set")]
    MissingVariable {
        /// The place.
        place: String,
        /// The variable.
        name: &'static str,
    },
    /// A variable that the place needs is not text.
    #[error("cannot use {place}: {name} holds something that is not text")]
    BadVariable {
        /// The place.
        place: String,
        /// The variable.
        name: &'static str,
    },
    /// The client could not be made.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// Opens a place. A bucket's key comes from the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
/// `AWS_SESSION_TOKEN` (for temporary keys), `AWS_REGION`, and `AWS_ENDPOINT_URL` where the place names no server.
/// Nothing is read or written yet.
///
/// # Errors
/// A variable is missing, or the client cannot be made.
pub fn open_location(location: &Location, io: &Io) -> Result<Arc<dyn ObjectStore>, OpenError> {
    open_location_until(location, io, &Stop::default())
}

/// [`open_location`], with pauses between tries that end when somebody asks to break off.
///
/// # Errors
/// As [`open_location`].
pub fn open_location_until(location: &Location, io: &Io, stop: &Stop) -> Result<Arc<dyn ObjectStore>, OpenError> {
    match location {
        Location::Folder(path) => Ok(Arc::new(Folder::new(path))),
        Location::S3 { endpoint, bucket, prefix } => {
            let place = location.to_string();
            let settings = s3_settings(endpoint.clone(), bucket, prefix, &Variables { io, place })?;
            Ok(Arc::new(Retry::new(Arc::new(S3::new(&settings)?), io, stop, RetryPolicy::default())))
        }
    }
}

fn s3_settings(
    endpoint: Option<String>,
    bucket: &str,
    prefix: &str,
    variables: &Variables<'_>,
) -> Result<S3Settings, OpenError> {
    let access_key_id = variables.need("AWS_ACCESS_KEY_ID")?;
    let secret_access_key = variables.need("AWS_SECRET_ACCESS_KEY")?.into();
    let session_token = variables.get("AWS_SESSION_TOKEN")?.map(Into::into);
    let endpoint = match endpoint {
        Some(endpoint) => Some(endpoint),
        None => variables.get("AWS_ENDPOINT_URL")?,
    };
    let region = match variables.get("AWS_REGION")?.or(variables.get("AWS_DEFAULT_REGION")?) {
        Some(region) => region,
        // A server of one's own has no regions, and signs with this name.
        None if endpoint.is_some() => "us-east-1".into(),
        None => variables.need("AWS_REGION")?,
    };
    Ok(S3Settings {
        bucket: bucket.into(),
        prefix: prefix.into(),
        allow_http: endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")),
        path_style: endpoint.is_some(),
        endpoint,
        region,
        access_key_id,
        secret_access_key,
        session_token,
    })
}

struct Variables<'a> {
    io: &'a Io,
    place: String,
}

impl Variables<'_> {
    fn get(&self, name: &'static str) -> Result<Option<String>, OpenError> {
        // A variable that is set to nothing is what an unfilled template or an empty secret of a CI leaves.
        match self.io.env.var(name).filter(|value| !value.is_empty()).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(OpenError::BadVariable { place: self.place.clone(), name }),
        }
    }

    fn need(&self, name: &'static str) -> Result<String, OpenError> {
        self.get(name)?.ok_or_else(|| OpenError::MissingVariable { place: self.place.clone(), name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: &str) {
        let location = parse_location(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(location.to_string(), shown, "{text}");
        assert_eq!(parse_location(shown).as_ref(), Ok(&location), "what is shown can be read again");
    }

    fn check_refused(text: &str, why: &str) {
        let error = parse_location(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn places_are_read_and_shown() {
        check("./vault", "./vault");
        check("vault", "vault");
        check(" /var/backups/shop ", "/var/backups/shop");
        check("file:/x", "/x");
        check("file:///x/y", "/x/y");
        check("./odd:name", "./odd:name");
        check("file:odd:name", "file:odd:name");
        check("s3://backups", "s3://backups");
        check("s3://backups/", "s3://backups");
        check("s3://backups/shop/vault/", "s3://backups/shop/vault");
        check("s3:http://127.0.0.1:9000/backups/shop", "s3:http://127.0.0.1:9000/backups/shop");
        check("s3:https://s3.example.net/backups", "s3:https://s3.example.net/backups");
        check("s3:s3.amazonaws.com/backups/shop", "s3:https://s3.amazonaws.com/backups/shop");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_one_sentence() {
        check_refused("", "it is empty");
        check_refused("file:", "it is empty");
        check_refused("~/vault", "only a shell understands ~");
        check_refused("/path/to/vault", "placeholder");
        check_refused("gs://backups", "\"gs\" is not a kind of place");
        check_refused("s3:", "the server's name is missing");
        check_refused("s3://", "the bucket's name is missing");
        check_refused("s3:http://127.0.0.1:9000", "the bucket's name is missing");
        check_refused("s3:ftp://host/backups", "not by \"ftp\"");
        check_refused("s3://your-bucket/backups", "\"your-bucket\" is a placeholder");
        check_refused("s3://your-backup-bucket", "is a placeholder");
        check_refused("s3://YOUR_BUCKET", "is a placeholder");
        check_refused("s3://<bucket>/x", "is a placeholder");
        check_refused("s3://${BUCKET}/x", "is a placeholder");
        check_refused("s3://backups/<app>", "placeholder");
        check_refused("s3://ab", "cannot be a bucket's name");
        check_refused("s3://Backups", "cannot be a bucket's name");
        check_refused("s3://backups/../x", "no empty");
        check_refused("s3:http://me:s3cret@host/backups", "AWS_ACCESS_KEY_ID");
        check_refused("gs://me:s3cret@host/backups", "not a kind of place");
    }
}
