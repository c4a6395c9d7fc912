//! Objects in an S3 bucket, through the `object_store` crate. Blocking outside; a private runtime inside.
//!
//! This driver tries once; [`super::retry`] repeats. So an answer that was lost is seen there and resolved, and a limit
//! on the whole exists at one place. Each call has a limit: for the connection, for the first byte of the answer, for
//! each further piece of it.

mod observe;

use std::{
    future::Future,
    ops::Range,
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use object_store::{
    BackoffConfig, ClientOptions, Error as DriverError, GetOptions, GetRange, ObjectStoreExt, PutMode, PutOptions,
    RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut},
    multipart::{MultipartStore, PartId},
    path::Path as ObjectPath,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Runtime;

use super::{ObjectError, ObjectErrorKind, ObjectInfo, ObjectStore, parts::InParts};
use observe::{LastStatus, Observed};

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long a server may take to begin its answer, and between two pieces of it. A body to send adds to it.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a server may take to make one object of its parts.
const FINISH_LIMIT: Duration = Duration::from_secs(120);
/// The slowest line we count on: it gives a body to send its share of the limit.
const BYTES_PER_SECOND_MIN: u64 = 256 << 10;

/// More than any server keeps in one object.
const BYTES_MAX: u64 = 1 << 50;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Where a bucket is and how to get in.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// The folder in it; empty for the bucket itself.
    pub prefix: String,
    /// The server's URL; none for AWS itself.
    pub endpoint: Option<String>,
    /// The region, `us-east-1` where the server has none.
    pub region: String,
    /// The public half of the key.
    pub access_key_id: String,
    /// The secret half of the key. Not shown by `Debug`.
    pub secret_access_key: SecretString,
    /// The third part of a temporary key.
    pub session_token: Option<SecretString>,
    /// Whether an `http://` endpoint is fine.
    pub allow_http: bool,
    /// Whether the bucket's name goes into the path (most servers) and not into the host name (AWS).
    pub path_style: bool,
}

/// A bucket, or a folder in one.
pub struct S3 {
    place: String,
    prefix: String,
    store: Arc<AmazonS3>,
    // None only while dropping.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("S3").field(&self.place).finish()
    }
}

impl S3 {
    /// Makes the client. Asks the server nothing yet.
    ///
    /// # Errors
    /// Settings that cannot be right, or no threads.
    pub fn new(settings: &S3Settings) -> Result<S3, ObjectError> {
        let prefix = settings.prefix.trim_matches('/').to_owned();
        let place = place(settings.endpoint.as_deref(), &settings.bucket, &prefix);
        let failed = |source: Cause| ObjectError {
            kind: ObjectErrorKind::Other,
            place: place.clone(),
            key: String::new(),
            doing: "open",
            source,
        };
        let store = Arc::new(client(settings).map_err(|error| failed(error.into()))?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3")
            .enable_all()
            .build()
            .map_err(|error| failed(error.into()))?;
        Ok(S3 { place, prefix, store, runtime: Some(runtime) })
    }

    fn path(&self, key: &str) -> Result<ObjectPath, Failed> {
        let whole = if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) };
        ObjectPath::parse(whole).map_err(|error| Failed { kind: ObjectErrorKind::Other, cause: error.into() })
    }

    /// Runs a piece of work on the runtime and waits for it. Not `block_on`: that panics inside another runtime.
    fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        key: &str,
        work: impl Future<Output = Result<T, Failed>> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let (sender, receiver) = mpsc::channel();
        if let Some(runtime) = &self.runtime {
            runtime.spawn(LastStatus::watch(async move {
                let _ = sender.send(work.await); // the waiting side is below and does not go away
            }));
        }
        let ended = || Failed { kind: ObjectErrorKind::Other, cause: "the work on the request has ended early".into() };
        receiver.recv().unwrap_or_else(|_| Err(ended())).map_err(|failed| self.error(doing, key, failed))
    }

    fn error(&self, doing: &'static str, key: &str, failed: Failed) -> ObjectError {
        let Failed { kind, cause } = failed;
        ObjectError { kind, place: self.place.clone(), key: key.to_owned(), doing, source: cause }
    }

    /// What work on an object needs.
    fn of(&self, key: &str) -> Result<(ObjectPath, Arc<AmazonS3>), ObjectError> {
        let path = self.path(key).map_err(|failed| self.error("write", key, failed))?;
        Ok((path, Arc::clone(&self.store)))
    }

    fn put_as(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), ObjectError> {
        let path = self.path(key).map_err(|failed| self.error("write", key, failed))?;
        let store = Arc::clone(&self.store);
        let limit = ANSWER_LIMIT + Duration::from_secs(body.len() as u64 / BYTES_PER_SECOND_MIN);
        self.run("write", key, async move {
            let options = PutOptions { mode, ..PutOptions::default() };
            within(limit, object_store::ObjectStore::put_opts(&*store, &path, body.into(), options)).await?;
            Ok(())
        })
    }

    fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, ObjectError> {
        let path = self.path(key).map_err(|failed| self.error("read", key, failed))?;
        let store = Arc::clone(&self.store);
        self.run("read", key, async move {
            let options = GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
            let answer = within(ANSWER_LIMIT, object_store::ObjectStore::get_opts(&*store, &path, options)).await?;
            // What was asked for must be what is promised, and what is promised must be what comes.
            let wanted = range.unwrap_or(0..answer.meta.size);
            if answer.range != wanted {
                return Err(Failed::damaged("the object ends before the wanted part"));
            }
            let length = (wanted.end - wanted.start) as usize;
            let mut body = BytesMut::with_capacity(length);
            let mut pieces = answer.into_stream();
            while let Some(piece) = within_next(ANSWER_LIMIT, pieces.next()).await? {
                body.extend_from_slice(&piece);
                if body.len() > length {
                    break;
                }
            }
            if body.len() == length { Ok(body.freeze()) } else { Err(Failed::damaged("the answer has another length")) }
        })
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // a plain drop panics inside another runtime
        }
    }
}

impl ObjectStore for S3 {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.put_as(key, body, PutMode::Overwrite)
    }

    fn put_new(&self, key: &str, body: Bytes) -> Result<bool, ObjectError> {
        match self.put_as(key, body, PutMode::Create) {
            Ok(()) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn in_parts(&self) -> Option<&dyn InParts> {
        Some(self)
    }

    fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        self.read(key, None)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        if range.start >= range.end || range.end > BYTES_MAX {
            // The protocol has no empty range, and servers differ about impossible ones; what it means must be told all
            // the same.
            let size = self.size(key)?;
            let inside = range.start == range.end && range.end <= size;
            let damaged = || Failed::damaged("the object ends before the wanted part");
            return if inside { Ok(Bytes::new()) } else { Err(self.error("read", key, damaged())) };
        }
        self.read(key, Some(range))
    }

    fn size(&self, key: &str) -> Result<u64, ObjectError> {
        let path = self.path(key).map_err(|failed| self.error("read", key, failed))?;
        let store = Arc::clone(&self.store);
        self.run("read", key, async move { Ok(within(ANSWER_LIMIT, store.head(&path)).await?.size) })
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let folder = self.path(prefix).map_err(|failed| self.error("list", prefix, failed))?;
        let store = Arc::clone(&self.store);
        let ours = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        self.run("list", prefix, async move {
            let mut found = Vec::new();
            let mut entries = object_store::ObjectStore::list(&*store, Some(&folder));
            while let Some(entry) = within_next(ANSWER_LIMIT, entries.next()).await? {
                let whole = entry.location.as_ref();
                let Some(key) = whole.strip_prefix(&ours) else {
                    return Err(Failed::damaged("the server listed an object outside of the wanted folder"));
                };
                found.push(ObjectInfo { key: key.to_owned(), size: entry.size });
            }
            Ok(found)
        })
    }

    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let path = self.path(key).map_err(|failed| self.error("delete", key, failed))?;
        let store = Arc::clone(&self.store);
        let deleted = self.run("delete", key, async move { within(ANSWER_LIMIT, store.delete(&path)).await });
        match deleted {
            Err(error) if error.kind == ObjectErrorKind::Missing => Ok(()),
            other => other,
        }
    }
}

/// The protocol's own uploads in parts.
impl InParts for S3 {
    fn begin(&self, key: &str) -> Result<String, ObjectError> {
        let (path, store) = self.of(key)?;
        self.run("write", key, async move { within(ANSWER_LIMIT, store.create_multipart(&path)).await })
    }

    fn part(&self, key: &str, upload: &str, number: usize, body: Bytes) -> Result<String, ObjectError> {
        let ((path, store), upload) = (self.of(key)?, upload.to_owned());
        let limit = ANSWER_LIMIT + Duration::from_secs(body.len() as u64 / BYTES_PER_SECOND_MIN);
        self.run("write", key, async move {
            Ok(within(limit, store.put_part(&path, &upload, number, body.into())).await?.content_id)
        })
    }

    fn finish(&self, key: &str, upload: &str, parts: &[String]) -> Result<(), ObjectError> {
        let ((path, store), upload) = (self.of(key)?, upload.to_owned());
        let parts: Vec<PartId> = parts.iter().map(|name| PartId { content_id: name.clone() }).collect();
        self.run("write", key, async move {
            within(FINISH_LIMIT, store.complete_multipart(&path, &upload, parts)).await?;
            Ok(())
        })
    }

    fn give_up(&self, key: &str, upload: &str) -> Result<(), ObjectError> {
        let ((path, store), upload) = (self.of(key)?, upload.to_owned());
        self.run("delete", key, async move { within(ANSWER_LIMIT, store.abort_multipart(&path, &upload)).await })
    }
}

/// A bucket's place for people.
pub(super) fn place(endpoint: Option<&str>, bucket: &str, prefix: &str) -> String {
    let begin = match endpoint {
        None => "s3:/".to_owned(),
        Some(endpoint) => format!("s3:{}", endpoint.trim_end_matches('/')),
    };
    let end = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    format!("{begin}/{bucket}{end}")
}

fn client(settings: &S3Settings) -> Result<AmazonS3, DriverError> {
    // Somebody above may have chosen a provider already; then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let once = RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::ZERO };
    let options = ClientOptions::new()
        .with_allow_http(settings.allow_http)
        .with_connect_timeout(CONNECT_LIMIT)
        .with_timeout_disabled(); // its limit would count a long body; ours are in `within`
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_access_key_id(&settings.access_key_id)
        .with_secret_access_key(settings.secret_access_key.expose_secret())
        .with_client_options(options)
        .with_http_connector(Observed)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_virtual_hosted_style_request(!settings.path_style)
        .with_allow_http(settings.allow_http)
        .with_retry(once);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    if let Some(token) = &settings.session_token {
        builder = builder.with_token(token.expose_secret());
    }
    builder.build()
}

/// What went wrong, before it is known with which object.
#[derive(Debug)]
struct Failed {
    kind: ObjectErrorKind,
    cause: Cause,
}

impl Failed {
    fn damaged(why: &'static str) -> Failed {
        Failed { kind: ObjectErrorKind::Damaged, cause: why.into() }
    }

    fn too_late(limit: Duration) -> Failed {
        let why = format!("no answer within {} s", limit.as_secs());
        Failed { kind: ObjectErrorKind::Temporary, cause: why.into() }
    }
}

impl From<DriverError> for Failed {
    fn from(error: DriverError) -> Failed {
        let kind = match &error {
            DriverError::NotFound { .. } => ObjectErrorKind::Missing,
            DriverError::PermissionDenied { .. } | DriverError::Unauthenticated { .. } => ObjectErrorKind::Denied,
            _ if is_certificate(&error) => ObjectErrorKind::Other,
            // The driver's enum may grow; the rest is told by the status.
            _ => LastStatus::get().map_or(ObjectErrorKind::Temporary, kind_of_status),
        };
        Failed { kind, cause: error.into() }
    }
}

/// What a status means. Without one there was no answer, which is the network's fault and may pass.
fn kind_of_status(status: u16) -> ObjectErrorKind {
    match status {
        // The answer began well and broke off.
        200..=299 => ObjectErrorKind::Temporary,
        404 => ObjectErrorKind::Missing,
        401 | 403 => ObjectErrorKind::Denied,
        416 => ObjectErrorKind::Damaged,
        507 => ObjectErrorKind::Full,
        408 | 409 | 429 | 500 | 502 | 503 | 504 => ObjectErrorKind::Temporary,
        _ => ObjectErrorKind::Other,
    }
}

/// Whether the server could not prove who it is: that does not pass by trying again.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    // An I/O error keeps what it wraps out of the chain of causes.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || wrapped.is_some_and(|inner| is_certificate(inner))
        || error.source().is_some_and(is_certificate)
}

/// Whether a conditional put found the name taken. (409 is a conflict with one that is under way: trying again tells.)
fn is_taken(error: &ObjectError) -> bool {
    let driver = error.source.downcast_ref::<DriverError>();
    matches!(driver, Some(DriverError::AlreadyExists { source, .. })
        if matches!(source.downcast_ref(), Some(DriverError::Precondition { .. } | DriverError::NotModified { .. })))
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, DriverError>>) -> Result<T, Failed> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Failed::too_late(limit)),
    }
}

async fn within_next<T>(
    limit: Duration,
    next: impl Future<Output = Option<Result<T, DriverError>>>,
) -> Result<Option<T>, Failed> {
    match tokio::time::timeout(limit, next).await {
        Ok(next) => Ok(next.transpose()?),
        Err(_) => Err(Failed::too_late(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_shows_where_and_no_secret() {
        let settings = S3Settings {
            bucket: "backups".into(),
            prefix: "/shop/vault/".into(),
            endpoint: Some("http://127.0.0.1:9/".into()),
            region: "us-east-1".into(),
            access_key_id: "AKIA".into(),
            secret_access_key: "s3cret".to_owned().into(),
            session_token: None,
            allow_http: true,
            path_style: true,
        };
        let store = S3::new(&settings).unwrap();
        assert_eq!(store.place(), "s3:http://127.0.0.1:9/backups/shop/vault");
        assert!(!format!("{settings:?}{store:?}").contains("s3cret"));
        assert_eq!(place(None, "backups", "shop"), "s3://backups/shop");
    }

    #[test]
    fn a_server_that_cannot_prove_who_it_is_is_not_asked_again() {
        let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        for (cause, kind) in [
            (Cause::from(std::io::Error::other(std::io::Error::other(refused))), ObjectErrorKind::Other),
            (Cause::from(std::io::Error::other("the line is cut")), ObjectErrorKind::Temporary),
        ] {
            assert_eq!(Failed::from(DriverError::Generic { store: "S3", source: cause }).kind, kind);
        }
    }

    #[test]
    fn a_status_tells_what_to_do() {
        use ObjectErrorKind::*;
        for (status, kind) in
            [(503, Temporary), (429, Temporary), (403, Denied), (507, Full), (416, Damaged), (400, Other)]
        {
            assert_eq!(kind_of_status(status), kind, "{status}");
        }
    }
}
